//! Streams of events for tests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tapline_insight::{Finding, Input, Insight, Navigation, Options, Problem, Request};
use tapline_oapi::{Envelope, Event};

/// The events of a recording, numbered from 1.
pub(crate) fn recording(name: &str) -> Vec<Envelope> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cdp/tests/golden")
        .join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Event>(line).unwrap());
    events
        .zip(1..)
        .map(|(event, seq)| Envelope { seq, event })
        .collect()
}

/// An event of a type, with its data. The time is `ms` after an arbitrary moment.
pub(crate) fn event(seq: u64, ms: u64, event_type: &str, data: Value) -> Envelope {
    let ts = 1_795_000_000_000_000 + ms * 1000;
    let envelope = json!({"seq": seq, "event": {
        "ts": ts, "type": event_type, "category": "page", "source": {"kind": "cdp"}, "data": data,
    }});
    let mut envelope: Envelope = serde_json::from_value(envelope).unwrap();
    if let Some(category) = envelope.event.event_type.category() {
        envelope.event.category = category;
    }
    envelope
}

/// The same event, with a value in the metadata of its source.
pub(crate) fn with_metadata(mut envelope: Envelope, key: &str, value: &str) -> Envelope {
    envelope
        .event
        .source
        .metadata
        .insert(key.to_owned(), value.to_owned());
    envelope
}

/// The data of an event of target `target`, with what `more` has.
pub(crate) fn data(target: &str, more: Value) -> Value {
    let mut data = json!({
        "session_id": format!("session of {target}"), "target_id": target, "target_type": "page",
        "nav_seq": 0, "frame_id": target, "loader_id": "loader",
    });
    let (Value::Object(all), Value::Object(more)) = (&mut data, more) else {
        panic!("not objects")
    };
    all.extend(more);
    data
}

pub(crate) fn request(seq: u64, ms: u64, id: &str, url: &str) -> Envelope {
    let more = json!({"request_id": id, "url": url, "method": "GET", "document_url": "http://h/",
        "headers": {"Accept": "*/*"}, "initiator_type": "script", "resource_type": "Fetch"});
    event(seq, ms, "network_request", data("tab", more))
}

pub(crate) fn response(seq: u64, ms: u64, id: &str, url: &str, status: u32) -> Envelope {
    let more = json!({"request_id": id, "url": url, "method": "GET", "status": status,
        "headers": {"content-type": "text/plain"}, "mime_type": "text/plain", "duration_ms": 5.5});
    event(seq, ms, "network_response", data("tab", more))
}

/// Everything that leaves in the end, as it was read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) requests: Vec<Request>,
    pub(crate) navigations: Vec<Navigation>,
    pub(crate) problems: Vec<Problem>,
}

impl Found {
    pub(crate) fn take(&mut self, finding: Finding) {
        match finding {
            Finding::Request(it) => self.requests.push(*it),
            Finding::Navigation(it) => self.navigations.push(*it),
            Finding::Problem(it) => self.problems.push(*it),
        }
    }
}

/// What these events become.
pub(crate) fn found(events: &[Envelope]) -> Found {
    found_of(&events.iter().map(Input::Event).collect::<Vec<_>>())
}

pub(crate) fn found_of(inputs: &[Input<'_>]) -> Found {
    let options = Options {
        contents: true,
        ..Options::default()
    };
    let mut insight = Insight::new(options);
    let mut found = Found::default();
    for input in inputs {
        insight.feed(*input, &mut |finding| found.take(finding));
    }
    insight.finish(&mut |finding| found.take(finding));
    found
}

/// Compares with a golden file, or writes it where `TAPLINE_WRITE_GOLDEN=1`.
#[track_caller]
pub(crate) fn compare_with_golden(name: &str, text: &str) {
    let path = golden(name);
    if std::env::var("TAPLINE_WRITE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (line, (text, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(text, expected, "{name}, line {}", line + 1);
    }
    assert_eq!(
        text.lines().count(),
        expected.lines().count(),
        "lines of {name}"
    );
}

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}
