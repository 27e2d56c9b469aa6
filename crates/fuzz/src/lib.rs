//! Fuzz targets: one function for each kind of input, which panics if Tapline breaks a rule.
//!
//! **What it is.** Each function takes arbitrary bytes, interprets them as its module says, and compares Tapline's result
//! with that of a simpler reference: `serde_json`, a list of all events, or a matcher that tries all possibilities. The
//! binary of the same name in `targets/` passes it the inputs of the engine.
//!
//! **What it is not.** It uses only the public API of the crates.
//!
//! **Layer.** Above all layers. It is not published, and it is a separate workspace.
//!
//! How to run it, and how to add to it: `docs/testing.md`.

// From the HTTP interface inwards.
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
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tapline_api::ApiService;
use tapline_events::{EventStream, Retention};
use tapline_oapi::ErrorBody;
use tapline_telemetry::TelemetrySession;

/// A session with this retention, for an [`ApiService`] and for reading what it publishes. It is not running.
fn session(events: usize, bytes: u64) -> Arc<TelemetrySession> {
    let stream = EventStream::new(Retention {
        events,
        bytes,
        ..Retention::default()
    })
    .expect("a small bound is a bound");
    Arc::new(TelemetrySession::new(stream))
}

/// A service with this retention. No session is running.
fn service(events: usize, bytes: u64) -> ApiService {
    ApiService::new(session(events, bytes))
}

/// What an operation gives that has no source to wait for.
fn ready<T>(operation: impl Future<Output = T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(operation).poll(&mut cx) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("without sources every operation is ready at once"),
    }
}

/// Whether `bytes` are valid JSON by its grammar: a number may exceed every type, and a lone surrogate is allowed.
fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(without_mark(bytes))
        .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// A body without the byte-order mark that may stand before its JSON: serde takes the mark for an error.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// An error answer does not grow with the request, and can be parsed.
fn check_answer(answer: &ErrorBody) {
    let length = answer.message.chars().count();
    assert!(0 < length && length <= 801, "{length} characters: {answer}");
    let json = serde_json::to_vec(answer).expect("our own types serialize");
    let read: ErrorBody = serde_json::from_slice(&json).expect("and can be read again");
    assert_eq!(read, *answer);
}
