use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use tapline_cdp::{Options, Recording};
use tapline_oapi::Event;
use tapline_oapi::data::DisconnectReason;

use crate::browser::{MS, data_of};
use crate::recording;

/// What is emitted of a real session is what others build on: a change is a visible one.
///
/// Compared with the recording by hand when it was written: each request has one end, redirects
/// included; four navigations, with `nav_seq` counting the top-level ones; a layout settles a second
/// after the load or the last shift.
#[test]
fn the_events_of_a_recorded_session_match_the_golden_file() {
    let mut browser = recording::replayed(Options::default());
    browser.now.monotonic += Duration::from_secs(5);
    browser.now.wall += 5000 * MS;
    browser.waits();
    browser
        .core
        .disconnected(browser.now, DisconnectReason::ConnectionLost);
    browser.settle();
    assert_eq!(browser.core.unreadable(), 0);

    check(&browser.events(), "events.ndjson");
}

/// The same of a session with the Chromium of 26 November 2026, with its answers: the tour of
/// `examples/tour.rs`. Every request that began has one end, and its status is the server's.
#[test]
fn the_events_of_a_recorded_tour_match_the_golden_file() {
    let tour = &include_bytes!("../../data/tour.ndjson")[..];
    let events: Vec<Event> = Recording::new(tour, Options::default())
        .collect::<Result<_, _>>()
        .unwrap();
    let mut open = BTreeSet::new();
    for event in &events {
        let data = data_of(event);
        let id = data["request_id"].as_str().map(str::to_owned);
        match event.event_type.as_str() {
            "network_request" => _ = open.insert(id.unwrap()),
            "network_response" | "network_loading_failed" if data["open"] != true => {
                assert!(open.remove(&id.unwrap()), "another end: {data}");
            }
            "network_response_end" => assert!(open.remove(&id.unwrap()), "another end: {data}"),
            _ => {}
        }
    }
    assert_eq!(open, BTreeSet::new(), "without an end");
    check(&events, "tour.ndjson");
}

/// Compares events with the golden file of this name.
fn check(events: &[Event], name: &str) {
    let mut emitted = String::new();
    for event in events {
        let _ = writeln!(emitted, "{}", serde_json::to_string(event).unwrap());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("TAPLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &emitted).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    // Line by line, because a difference between the whole texts is unreadable.
    for (n, (emitted, golden)) in emitted.lines().zip(golden.lines()).enumerate() {
        assert_eq!(emitted, golden, "line {}", n + 1);
    }
    assert_eq!(
        emitted.lines().count(),
        golden.lines().count(),
        "renew {} with TAPLINE_WRITE_GOLDEN=1",
        path.display()
    );
}
