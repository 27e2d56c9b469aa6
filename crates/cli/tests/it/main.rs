//! The built program, run as a user would.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

#[allow(dead_code, reason = "the soak uses the rest")]
mod program;
#[allow(dead_code, reason = "the soak uses the rest")]
mod wire;

mod access;
mod archive_command;
mod archive;
mod cdp;
mod demo;
mod doctor;
mod export;
mod view;
mod faults;
mod help;
mod look;
mod mcp;
mod publish;
mod serve;
mod session;
mod sources;
mod stop;
mod tail;
mod top;
