//! What the benches measure with: the workloads, rings and sessions in a steady state, and the harness that runs
//! Tapline beside its rivals.
//!
//! **What it is not.** It measures nothing by itself: `benches/` does.
//!
//! **Start at** [`small`] and [`corpus`]; then [`full_session`] for Tapline alone, and [`harness`] for the rivals.
//!
//! **Layer.** None: it may use every crate, and ships nothing.

mod endpoint;
pub mod harness;
pub mod recorded;
mod rival;
mod rivals;

use std::convert::Infallible;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tapline_events::{EventStream, Retention};
use tapline_oapi::{Event, PublishRequest, from_json};
use tapline_ring::Ring;
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

pub use endpoint::endpoint;

/// For everything that is measured, rivals included: the allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long each bench runs before it is measured.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// How long each bench is measured: with [`WARM_UP`], all of them together stay below 4 minutes.
pub const MEASURED: Duration = Duration::from_secs(2);

/// How many events a ring and a rival's channel hold: [`Retention::default`].
pub const RETAINED: usize = 65_536;

/// How many events a reader takes under one guard, and a burst has.
pub const BATCH: usize = 256;

/// The id that sessions stamp: as long as those that the API makes up.
pub const SESSION_ID: &str = "0197f3a2c4d57e8b9a6c1d2e3f405162";

/// A `ts` for events that bring one along.
pub const TS: u64 = 1_795_349_358_733_796;

const SMALL: &str = r#"{"type":"console_log","category":"console","source":{"kind":"cdp"},"data":{"level":"log","text":"hello"}}"#;

/// The events of a real browser session, one publish request a line.
const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/cli/data/browser-events.ndjson"
);

/// One line on a console, 105 bytes as it is published, without a `ts`.
pub fn small() -> Event {
    event(SMALL)
}

/// The 313 events that a real browser session gave; median 929 bytes, largest 40 KB, each with its
/// `ts`.
///
/// # Panics
///
/// Where the recording cannot be read: without it there is nothing to measure.
pub fn corpus() -> Vec<Arc<Event>> {
    fs::read_to_string(CORPUS)
        .unwrap_or_else(|error| panic!("{CORPUS}: {error}"))
        .lines()
        .map(|line| Arc::new(event(line)))
        .collect()
}

fn event(request: &str) -> Event {
    let request: PublishRequest =
        from_json(request.as_bytes()).expect("the workloads are well-formed requests");
    request.try_into().expect("the workloads are valid events")
}

/// A stream that retains `events`, with no session running and nothing published.
pub fn idle_session(events: usize) -> TelemetrySession {
    // Without a bound by bytes, so that every workload and rival retains the same events.
    let retention = Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    };
    let stream = EventStream::new(retention).expect("there is memory for so few slots");
    TelemetrySession::new(stream)
}

/// A running session that captures `config`, with nothing published.
pub fn session(events: usize, config: TelemetryConfig) -> TelemetrySession {
    let session = idle_session(events);
    session
        .start(SESSION_ID, config)
        .expect("the id is not empty");
    session
}

/// A running session that captures everything and has [`RETAINED`] events: from here on each
/// publish also evicts one and frees it, as it will for most of a program's life.
pub fn full_session() -> TelemetrySession {
    let session = session(RETAINED, TelemetryConfig::default());
    let event = Arc::new(small().with_ts(TS));
    for _ in 0..RETAINED {
        session.publish(&event).expect("a console line is captured");
    }
    session
}

/// The bare ring, as full: the same order, eviction and waking, and no stamp, totals or filter.
pub fn full_ring() -> Ring<Arc<Event>> {
    let ring = Ring::new(RETAINED, ()).expect("there is memory for so few slots");
    let event = Arc::new(small().with_ts(TS));
    for _ in 0..RETAINED {
        append(&ring, event.clone());
    }
    ring
}

/// Appends to the bare ring; the answer is looked at and dropped.
#[inline]
pub fn append(ring: &Ring<Arc<Event>>, event: Arc<Event>) {
    black_box(
        ring.append(event, |_, (), _| Ok::<(), Infallible>(()))
            .is_ok(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_what_they_are_said_to_be() {
        assert_eq!(SMALL.len(), 105);
        assert_eq!(small().ts, 0);
        let corpus = corpus();
        assert_eq!(corpus.len(), 313);
        assert!(corpus.iter().all(|event| event.ts > 0));
    }

    #[test]
    fn full_session_evicts_with_the_next_publish() {
        let session = full_session();
        assert_eq!(session.stream().retained().oldest, 1);
        session.publish(small()).unwrap();
        assert_eq!(session.stream().retained().oldest, 2);
    }
}

/// The example of the README is compiled and run with the other doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
