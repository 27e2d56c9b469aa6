//! Events of a bounded size.

use std::fmt;

use serde_json::Value;
use tapline_tracing::{Limits, Options, in_process};
use tracing::subscriber::with_default;
use tracing::{info, info_span};
use tracing_subscriber::prelude::*;

use crate::rig::Service;

fn events_of(limits: Limits, work: impl FnOnce()) -> Vec<Value> {
    let (layer, source) = in_process(Options {
        limits,
        ..Options::default()
    });
    let mut service = Service::new(Some(source));
    service.start();
    with_default(tracing_subscriber::registry().with(layer), work);
    service.rest()
}

#[test]
fn a_long_text_is_cut_at_a_character_and_marked() {
    let limits = Limits {
        text_bytes: 16,
        ..Limits::default()
    };
    let events = events_of(limits, || {
        info!(a = "ä".repeat(9), b = "x".repeat(16), c = ?"y".repeat(99), "{}", "z".repeat(17));
    });
    let data = &events[0]["data"];
    assert_eq!(events[0]["truncated"], true);
    assert_eq!(data["fields"]["a"], "ääääää…");
    assert_eq!(data["fields"]["b"], "x".repeat(16));
    assert_eq!(data["fields"]["c"], format!("\"{}…", "y".repeat(12)));
    assert_eq!(data["message"], format!("{}…", "z".repeat(13)));
}

#[test]
fn fields_beyond_the_limit_are_counted() {
    let limits = Limits {
        fields: 2,
        ..Limits::default()
    };
    let events = events_of(limits, || {
        info!(a = 1, b = "2", c = 3, d = ?4, "message");
        drop(info_span!("span", a = 1, b = 2, c = 3));
    });
    let [record, span] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        record["data"]["fields"],
        serde_json::json!({"a": 1, "b": "2"})
    );
    assert_eq!(record["data"]["fields_omitted"], 2);
    assert_eq!(record["data"]["message"], "message");
    assert_eq!(span["data"]["fields_omitted"], 1);
    assert_eq!(
        (&record["truncated"], &span["truncated"]),
        (&true.into(), &true.into())
    );
}

#[test]
fn an_event_that_is_too_large_keeps_its_message() {
    let limits = Limits {
        event_bytes: 1024,
        text_bytes: 1024,
        ..Limits::default()
    };
    // Six bytes each as JSON.
    let control = "\u{1}".repeat(900);
    let events = events_of(limits, || {
        let _outer = info_span!("outer", text = control).entered();
        let _inner = info_span!("inner", text = control).entered();
        info!(text = control, "why");
    });
    let record = &events[0];
    assert_eq!(record["data"]["message"], "why");
    assert_eq!(record["data"]["fields_omitted"], 1);
    assert_eq!(record["data"]["spans_omitted"], 2);
    assert_eq!(record["truncated"], true);
    for event in &events {
        assert!(event["data"].to_string().len() <= 1024, "{event}");
    }
}

/// Endless to format.
struct Endless;

impl fmt::Debug for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        loop {
            f.write_str("again and ")?;
        }
    }
}

#[test]
fn formatting_ends_at_the_limit() {
    let events = events_of(Limits::default(), || info!(value = ?Endless, "{Endless:?}"));
    let message = events[0]["data"]["message"].as_str().unwrap();
    assert!(message.starts_with("again and again") && message.ends_with('…'));
    assert!(message.len() <= Limits::default().text_bytes);
}

#[test]
fn a_field_that_is_recorded_again_and_again_takes_no_more_memory() {
    let limits = Limits {
        event_bytes: 4096,
        ..Limits::default()
    };
    let events = events_of(limits, || {
        let span = info_span!("loop", state = "new");
        for round in 0..1000 {
            span.record("state", format!("round {round} {}", "x".repeat(1000)));
        }
        span.record("state", "done");
    });
    assert_eq!(events[0]["data"]["fields"]["state"], "done");
}

#[test]
fn a_secret_at_the_cut_is_not_shown_in_half() {
    let limits = Limits {
        text_bytes: 32,
        ..Limits::default()
    };
    let events = events_of(limits, || {
        info!("at http://h/?password=hunter2hunter2hunter2");
    });
    assert!(!events[0].to_string().contains("hunter"), "{}", events[0]);
}
