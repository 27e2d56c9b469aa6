//! The one integration binary of this crate.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod config;
mod source;
mod publish;
mod lines;
mod page;
mod query;
mod subscribe;
mod wait;
mod readers;

use tapline_api::{ApiError, ApiService, NoSource, PutAnswer};
use tapline_events::{EventStream, Retention};
use tapline_oapi::{ConfigRequest, ErrorBody, from_json};
use tapline_telemetry::{Envelope, TelemetrySession};

/// A stream that retains so many events, rounded up to a power of two, and a session over it that is
/// not running.
fn session(events: usize) -> TelemetrySession {
    TelemetrySession::new(
        EventStream::new(Retention {
            events,
            bytes: u64::MAX,
        })
        .unwrap(),
    )
}

/// Nothing configured yet.
fn idle() -> ApiService {
    ApiService::new(session(64), NoSource)
}

/// A session with the default configuration is running, and retains so many events.
fn running(events: usize) -> ApiService {
    let api = ApiService::new(session(events), NoSource);
    assert!(matches!(
        api.put(&ConfigRequest::default()).unwrap(),
        PutAnswer::Started(_)
    ));
    api
}

fn request(json: &str) -> ConfigRequest {
    from_json(json.as_bytes()).unwrap()
}

/// Publishes what must be good.
fn publish(api: &ApiService, json: &str) -> Option<Envelope> {
    api.publish(from_json(json.as_bytes()).unwrap()).unwrap()
}

/// Publishes console lines until the head is there.
fn fill_to(api: &ApiService, head: u64) {
    while api.session().seq() < head {
        publish(api, r#"{"type":"console_log"}"#).unwrap();
    }
}

/// The code and the message, as they go over the wire.
fn told(error: &ApiError) -> (&'static str, String) {
    let ErrorBody { code, message, .. } = ErrorBody::from(error);
    (code.as_str(), message)
}
