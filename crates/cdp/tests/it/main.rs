//! The core as its driver sees it: messages and times in, events and commands out.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod browser;
mod recording;

mod golden;
mod attaching;
mod timing;
mod clock;
mod network;
mod numbers;
mod console;
mod ends;
mod frames;
mod interaction;
mod screenshot;
mod secrets;
mod link;
mod bounds;
mod properties;
