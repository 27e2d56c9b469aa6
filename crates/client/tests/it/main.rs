//! The client against a scripted server: raw sockets that answer exactly what a test says.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod calls;
mod scripted;
mod follow;
