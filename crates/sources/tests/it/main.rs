//! The kernel's log, as it was recorded and as it is followed.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod follow;
mod oom;
