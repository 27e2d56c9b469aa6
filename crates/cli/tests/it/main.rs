//! The built program, run as a user would.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod program;

mod access;
mod demo;
mod help;
mod publish;
mod serve;
mod tail;
