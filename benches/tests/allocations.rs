//! How often a publish allocates, on average over many: a ring that is full evicts and frees as well. And an envelope's JSON.
//!
//! Apart from everything else, because the allocator that counts takes the place of the one that the benches measure with.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

use std::sync::Arc;

use serde_json::value::RawValue;
use tapline_events::{EventStream, Retention};
use tapline_oapi::{Category, CategorySet, Event, PublishRequest, from_json};
use tapline_telemetry::{PublishError, TelemetryConfig, TelemetrySession};

const RETAINED: usize = 1024;

/// Published while it is counted.
const EVENTS: u64 = 10_000;

fn small() -> Event {
    let request: PublishRequest = from_json(
        br#"{"type":"console_log","category":"console","source":{"kind":"cdp"},"data":{"level":"log","text":"hello"}}"#,
    )
    .unwrap();
    request.try_into().unwrap()
}

/// A running session that captures `categories`, and has published more than it retains.
fn session(categories: CategorySet) -> TelemetrySession {
    let retention = Retention {
        events: RETAINED,
        ..Retention::default()
    };
    let session = TelemetrySession::new(EventStream::new(retention).unwrap());
    session
        .start(
            "0197f3a2c4d57e8b9a6c1d2e3f405162",
            TelemetryConfig { categories },
        )
        .unwrap();
    let event = Arc::new(small());
    for _ in 0..2 * RETAINED {
        let _ = session.publish(&event);
    }
    session
}

fn allocations_of(mut publish: impl FnMut()) -> f64 {
    let all = allocation_counter::measure(|| (0..EVENTS).for_each(|_| publish()));
    all.count_total as f64 / EVENTS as f64
}

#[test]
fn a_kept_publish_allocates_at_most_twice() {
    let session = session(CategorySet::EMPTY);
    let event = Arc::new(small());
    let shared = allocations_of(|| drop(session.publish(&event).unwrap()));

    // Made before: counted is what the session does with it, and that puts it into an `Arc`.
    let events: Vec<_> = (0..EVENTS).map(|_| small()).collect();
    let mut events = events.into_iter();
    let owned = allocations_of(|| drop(session.publish(events.next().unwrap()).unwrap()));
    println!("allocations of a kept publish: {shared} of a shared event, {owned} of an owned one");
    assert!(shared <= 2.0, "{shared}");
    assert!(owned <= 2.0, "{owned}");
}

#[test]
fn a_filtered_publish_does_not_allocate() {
    let session = session(CategorySet::of(&[Category::Network]));
    let event = Arc::new(small());
    let refused = PublishError::CategoryDisabled(Category::Console);
    let filtered = allocations_of(|| assert_eq!(session.publish(&event).unwrap_err(), refused));
    assert_eq!(filtered, 0.0);
}

/// The first reader that asks allocates what is before the data, once. No other reader allocates, and the data is not copied.
#[test]
fn an_envelopes_json_is_allocated_once() {
    const DATA: usize = 10_000;
    let session = session(CategorySet::EMPTY);
    let data = format!("\"{}\"", "x".repeat(DATA - 2));
    let mut event = small();
    event.data = Some(RawValue::from_string(data).unwrap());
    let event = Arc::new(event);
    let published: Vec<_> = (0..RETAINED)
        .map(|_| session.publish(&event).unwrap())
        .collect();
    // The buffer of this thread is there from here on.
    let (first, rest) = published.split_first().unwrap();
    assert!(DATA < first.json().len());
    let ask = || {
        allocation_counter::measure(|| {
            for envelope in rest {
                assert!(DATA < envelope.json().len());
            }
        })
    };
    let (asked, again) = (ask(), ask());
    let bytes = asked.bytes_total / rest.len() as u64;
    println!("bytes allocated for the JSON of an envelope with {DATA} bytes of data: {bytes}");
    assert_eq!(asked.count_total, rest.len() as u64);
    assert!(bytes < 500, "{bytes}");
    assert_eq!(again.count_total, 0);
}
