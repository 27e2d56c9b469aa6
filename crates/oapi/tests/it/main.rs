//! The one integration binary of this crate.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod cursor;
mod names;
mod event;
mod data;
mod config;
mod notice;
mod reader;
mod json;
mod body;
mod encode;
mod openapi;

/// One browser session's events, one publish request a line. Recorded with Chromium; a small shop
/// with errors, a redirect, a worker, a popup and a crash, then a large web application.
const CORPUS: &str = include_str!("../../../cli/data/browser-events.ndjson");
