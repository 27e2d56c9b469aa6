//! What becomes of recorded sessions, and of streams that are cut, out of order, or wrong.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "data is written as `json!({…})` in each call"
)]

mod stream;

mod anything;
mod har;
mod har_file;
mod joins;
mod pages;
mod problems;
mod recordings;
mod trace;
