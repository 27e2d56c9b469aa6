//! The archive with real files.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod support;

mod block;
mod conformance;
mod recovery;
mod faults;
mod killed;
mod maintain;
mod recorder;
