//! The source with a real Chromium and real pages on loopback: what a reader of the session sees is compared
//! with what the pages did.
//!
//! Without a Chromium the tests pass and say that they were skipped, unless `TAPLINE_REQUIRE_BROWSER` is 1.
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
mod frames;
mod losses;
mod pages;
mod quiet;
mod requests;
mod second_client;
mod tabs;
mod unreadable;
