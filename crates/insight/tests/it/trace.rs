//! Traces, checked against the documented JSON format, as Perfetto reads it.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tapline_insight::{Format, Input, Lost, Sanitizer};
use tapline_oapi::Envelope;

use crate::anything::exported;
use crate::stream::{data, event, recording, request, response, with_metadata};

fn trace(events: &[Envelope]) -> Vec<Value> {
    let inputs: Vec<_> = events.iter().map(Input::Event).collect();
    let text = exported(&inputs, Format::Trace, Sanitizer::default());
    check_form(&text)
}

/// Checks the rules of the format, and returns the events.
pub(crate) fn check_form(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    let events = file["traceEvents"].as_array().unwrap().clone();
    // The stack of open slices of each asynchronous track, and its last time.
    let mut open: HashMap<(String, String), (Vec<String>, u64)> = HashMap::new();
    let mut closed = HashSet::new();
    let mut processes = HashSet::new();
    let mut flows: HashMap<String, Vec<&Value>> = HashMap::new();
    let mut slices = HashSet::new();
    for event in &events {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let (pid, tid) = (
            event["pid"].as_u64().unwrap(),
            event["tid"].as_u64().unwrap(),
        );
        let ts = event["ts"].as_u64().unwrap();
        assert!(!text("name").is_empty() || text("ph") == "b", "{event}");
        match &*text("ph") {
            "M" => {
                assert!(event["args"]["name"].is_string(), "{event}");
                if text("name") == "process_name" {
                    assert!(processes.insert(pid), "named twice: {event}");
                }
            }
            "b" => {
                let key = (text("cat"), text("id"));
                assert!(!closed.contains(&key), "used again: {event}");
                let (stack, last) = open.entry(key).or_default();
                assert!(*last <= ts, "times of a track ascend: {event}");
                stack.push(text("name"));
                *last = ts;
            }
            "n" => {
                let (stack, last) = open.get_mut(&(text("cat"), text("id"))).unwrap();
                assert!(!stack.is_empty() && *last <= ts, "{event}");
                *last = ts;
            }
            "e" => {
                let key = (text("cat"), text("id"));
                let (stack, last) = open.get_mut(&key).unwrap();
                assert_eq!(
                    stack.pop().unwrap(),
                    text("name"),
                    "ends are in the order of beginnings"
                );
                assert!(*last <= ts, "{event}");
                *last = ts;
                if stack.is_empty() {
                    closed.insert(key);
                }
            }
            "X" => {
                // Slices of a thread must nest: with a length of 1 they cannot overlap in part.
                assert_eq!(event["dur"], 1);
                slices.insert((pid, tid, ts));
            }
            "i" => assert!(matches!(event["s"].as_str(), Some("t" | "g")), "{event}"),
            "s" | "f" => flows.entry(text("id")).or_default().push(event),
            other => panic!("unexpected phase {other}"),
        }
        if text("ph") != "M" {
            assert!(processes.contains(&pid), "no name: {event}");
        }
    }
    assert!(
        open.values().all(|(stack, _)| stack.is_empty()),
        "every b has its e"
    );
    for (id, pair) in flows {
        let [start, finish] = pair[..] else {
            panic!("flow {id} has {} parts", pair.len())
        };
        assert_eq!(
            (&start["ph"], &finish["ph"], &finish["bp"]),
            (&json!("s"), &json!("f"), &json!("e"))
        );
        assert_eq!(
            (&start["cat"], &start["name"]),
            (&finish["cat"], &finish["name"])
        );
        assert!(start["ts"].as_u64() <= finish["ts"].as_u64());
        for end in [start, finish] {
            let place = ["pid", "tid", "ts"].map(|name| end[name].as_u64().unwrap());
            assert!(
                slices.contains(&place.into()),
                "a flow needs a slice: {end}"
            );
        }
    }
    events
}

fn named<'a>(events: &'a [Value], ph: &str, part: &str) -> Vec<&'a Value> {
    let fits = |it: &&Value| it["ph"] == ph && it["name"].as_str().unwrap().contains(part);
    events.iter().filter(fits).collect()
}

#[test]
fn both_recordings_are_well_formed() {
    for name in ["tour.ndjson", "events.ndjson"] {
        let events = trace(&recording(name));
        assert!(!named(&events, "b", "GET http").is_empty());
        assert!(!named(&events, "b", "page http").is_empty());
        assert!(!named(&events, "i", "screenshot").is_empty());
        assert!(!named(&events, "b", "wait").is_empty());
    }
}

#[test]
fn a_request_is_a_slice_with_its_phases_in_it() {
    let answered = json!({"request_id": "1", "url": "http://h/a?token=x", "method": "GET", "status": 200,
        "headers": {}, "duration_ms": 20.0,
        "timing": {"blocked": 1.0, "connect": 5.0, "tls": 3.0, "send": 0.0, "wait": 10.0, "receive": 4.0}});
    let events = trace(&[
        request(1, 0, "1", "http://h/a?token=x"),
        event(2, 20, "network_response", data("tab", answered)),
    ]);
    let slices: Vec<_> = events
        .iter()
        .filter(|it| it["cat"] == "request")
        .map(|it| {
            let ms = (it["ts"].as_u64().unwrap() - 1_795_000_000_000_000) / 1000;
            (it["ph"].as_str().unwrap(), it["name"].as_str().unwrap(), ms)
        })
        .collect();
    assert_eq!(
        slices,
        [
            ("b", "GET http://h/a", 0),
            ("b", "blocked", 0),
            ("e", "blocked", 1),
            ("b", "connect", 1),
            ("b", "tls", 3),
            ("e", "tls", 6),
            ("e", "connect", 6),
            ("b", "wait", 6),
            ("e", "wait", 16),
            ("b", "receive", 16),
            ("e", "receive", 20),
            ("e", "GET http://h/a", 20),
        ]
    );
    let args = &named(&events, "b", "GET")[0]["args"];
    assert_eq!(
        (&args["url"], &args["status"]),
        (&json!("http://h/a?token=*redacted*"), &json!(200))
    );
}

#[test]
fn targets_are_lanes() {
    let of = |seq, target: &str| {
        event(
            seq,
            seq,
            "console_log",
            data(
                target,
                json!({"level": "log", "text": "x", "url": "http://h/"}),
            ),
        )
    };
    let events = trace(&[of(1, "one"), of(2, "two"), of(3, "one")]);
    let pids: Vec<_> = named(&events, "i", "x")
        .iter()
        .map(|it| it["pid"].as_u64().unwrap())
        .collect();
    assert_eq!((pids[0], pids.len()), (pids[2], 3));
    assert_ne!(pids[0], pids[1]);
    let names: Vec<_> = named(&events, "M", "process_name")
        .iter()
        .map(|it| it["args"]["name"].clone())
        .collect();
    assert_eq!(
        names,
        ["Tapline", "page one http://h/", "page two http://h/"]
    );
}

#[test]
fn an_arrow_leads_from_a_command_to_what_it_caused() {
    let caused = |envelope| with_metadata(envelope, "caused_by", "1");
    let events = trace(&[
        event(
            1,
            0,
            "cdp_command",
            json!({"method": "Page.navigate", "target_id": "tab"}),
        ),
        caused(request(2, 1, "1", "http://h/")),
        response(3, 6, "1", "http://h/", 200),
        // Before its command, by another clock, or caused by a command that was not read: no arrow.
        with_metadata(request(4, 7, "2", "http://h/2"), "caused_by", "77"),
    ]);
    assert_eq!(
        (named(&events, "s", "").len(), named(&events, "f", "").len()),
        (1, 1)
    );
    assert_eq!(named(&events, "X", "Page.navigate").len(), 1);
}

#[test]
fn what_is_missing_is_drawn_and_an_end_that_was_not_seen_is_named() {
    let (sent, later) = (
        request(1, 0, "1", "http://h/"),
        request(9, 30, "2", "http://h/2"),
    );
    let text = exported(
        &[
            Input::Event(&sent),
            Input::Lost(Lost::unknown(2, 8)),
            Input::Event(&later),
        ],
        Format::Trace,
        Sanitizer::default(),
    );
    let events = check_form(&text);
    assert_eq!(
        named(&events, "i", "up to 7 events are missing")[0]["s"],
        "g"
    );
    let ended = named(&events, "e", "GET http://h/ (end not seen)");
    // It lasted at least until the last event that was read.
    assert_eq!(ended[0]["ts"], 1_795_000_000_030_000_u64);
}
