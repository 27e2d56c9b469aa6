//! The relay over real sockets: with both ends played by the tests, and between a real browser and
//! Playwright.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod ends;

mod bytes;
mod commands;
mod requests;
mod real;
mod causes;
