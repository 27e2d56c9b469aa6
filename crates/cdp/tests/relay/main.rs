//! The relay over real sockets: between ends of our own, and between a browser and a client of
//! others.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod ends;

mod bytes;
mod commands;
mod requests;
mod real;
