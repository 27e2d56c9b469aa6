//! What holds of Tapline whatever bytes it gets: a function for each way in, which panics where it does not hold.
//!
//! **What it is.** Each function takes any bytes, reads them as its module says, and holds what Tapline makes of them
//! against a second, simpler opinion of what is right: that of `serde_json`, of a list that remembers everything, of a
//! matcher that tries all ways. A binary of the same name in `targets/` hands it what the engine thinks of.
//!
//! **What it is not.** It looks into nothing: what it calls, a program that uses the crates could call too.
//!
//! **Layer.** None: it stands above all floors, ships nothing, and is a workspace of its own.
//!
//! How to run it, and how to add to it: `docs/testing.md`.

// From the door inwards.
mod publish;
mod limit;
mod batch;
mod config;
mod query;
mod pattern;
mod resume;
mod wire;
mod client;

pub use batch::batch;
pub use client::client;
pub use config::config;
pub use limit::limit;
pub use pattern::pattern;
pub use publish::publish;
pub use query::query;
pub use resume::resume;
pub use wire::wire;

use serde::de::IgnoredAny;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tapline_api::ApiService;
use tapline_events::{EventStream, Retention};
use tapline_oapi::ErrorBody;
use tapline_telemetry::TelemetrySession;

/// A service that retains so much. No session is running.
fn service(events: usize, bytes: u64) -> ApiService {
    let stream = EventStream::new(Retention { events, bytes }).expect("a small bound is a bound");
    ApiService::new(TelemetrySession::new(stream))
}

/// What an operation gives that has no source to wait for.
fn ready<T>(operation: impl Future<Output = T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(operation).poll(&mut cx) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("without sources every operation is ready at once"),
    }
}

/// Whether that is JSON and nothing else, by its grammar: a number may be beyond every type, and half of a surrogate pair
/// may stand alone.
fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// An answer that refuses does not grow with the request, and can be read.
fn check_answer(answer: &ErrorBody) {
    let length = answer.message.chars().count();
    assert!(0 < length && length <= 801, "{length} characters: {answer}");
    let json = serde_json::to_vec(answer).expect("our own types serialize");
    let read: ErrorBody = serde_json::from_slice(&json).expect("and are read again");
    assert_eq!(read, *answer);
}
