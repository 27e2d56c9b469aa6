//! The one integration binary of this crate: real sessions, and a real server on a real socket.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod rig;

mod in_process;
mod data;
mod limits;
mod over_http;
mod access;
mod faults;
mod example;
