//! The session's promises, one by one and under fire.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod chaos;
mod ledger;
mod operations;
mod transitions;

use tapline_events::{EventStream, Retention};
use tapline_telemetry::TelemetrySession;

fn session(events: usize) -> TelemetrySession {
    TelemetrySession::new(
        EventStream::new(Retention {
            events,
            bytes: u64::MAX,
            ..Retention::default()
        })
        .unwrap(),
    )
}
