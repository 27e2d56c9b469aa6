//! The source with a real Chromium, and real pages on loopback: what the session's reader sees is held
//! against what the pages did.
//!
//! Without a Chromium the tests say so and pass, unless `TAPLINE_REQUIRE_BROWSER` is 1.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod browser;
mod control;
mod proxy;
mod scene;
mod site;

mod floods;
mod losses;
mod pages;
mod quiet;
mod second_client;
