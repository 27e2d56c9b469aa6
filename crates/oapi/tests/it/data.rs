//! Typed `data`, tested with a recorded browser session and with the fields of the taxonomy.

use serde_json::Value;
use tapline_oapi::data::{CaptchaStatus, DisconnectReason, EventData, TargetType};
use tapline_oapi::{Category, Event, EventType, KnownType};

use crate::CORPUS;

fn typed(known: KnownType, data: &str) -> Result<Option<EventData>, serde_json::Error> {
    let data = serde_json::value::RawValue::from_string(data.to_owned()).unwrap();
    Event::known(known, Some(data)).typed_data()
}

/// Whether `after` contains everything that `before` contains. Numbers are compared by value, because a
/// 0 that is read into a float is written as 0.0.
fn contains_all(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().all(|(key, value)| {
            after
                .get(key)
                .is_some_and(|other| contains_all(value, other))
        }),
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len()
                && before
                    .iter()
                    .zip(after)
                    .all(|(value, other)| contains_all(value, other))
        }
        (Value::Number(before), Value::Number(after)) => before.as_f64() == after.as_f64(),
        _ => before == after,
    }
}

#[test]
fn no_field_of_a_recorded_session_is_lost() {
    let mut events = 0;
    for line in CORPUS.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        let data = event
            .typed_data()
            .unwrap_or_else(|error| panic!("{error}: {line}"))
            .unwrap();
        assert_eq!(EventType::Known(data.known_type()), event.event_type);

        let before: Value = serde_json::from_str(event.data.as_deref().unwrap().get()).unwrap();
        let after = serde_json::to_value(&data).unwrap();
        assert!(contains_all(&before, &after), "{before}\n{after}");
        assert!(contains_all(&after, &before), "made up: {after}\n{before}");
        events += 1;
    }
    assert_eq!(events, 313);
}

/// One event of each known type, with every field of the taxonomy. The published SDKs read the same file
/// (`crates/cli/tests/peers/types.rs`).
const KNOWN_TYPES: &str = include_str!("known-types.ndjson");

/// Read and written again, it comes out the same, and no field is left over.
#[test]
fn every_known_type_has_its_fields() {
    let mut known_types = Vec::new();
    for line in KNOWN_TYPES.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        let EventType::Known(known) = event.event_type else {
            panic!("{line}")
        };
        assert_eq!(event.category, known.category());
        known_types.push(known);

        let data = event.typed_data();
        let data = data
            .unwrap_or_else(|error| panic!("{known}: {error}"))
            .unwrap();
        assert_eq!(data.known_type(), known);
        let rest = format!("{data:?}");
        assert!(!rest.contains("rest: {\""), "{rest}");
        let before: Value = serde_json::from_str(event.data.unwrap().get()).unwrap();
        assert_eq!(serde_json::to_value(&data).unwrap(), before, "{known}");
    }
    known_types.sort_unstable_by_key(|known| known.as_str());
    let mut all = KnownType::ALL.to_vec();
    all.sort_unstable_by_key(|known| known.as_str());
    assert_eq!(known_types, all);
}

#[track_caller]
fn comes_back(known: KnownType, json: &str) -> EventData {
    let data = EventData::parse(known, json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let before: Value = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_value(&data).unwrap(), before);
    data
}

#[test]
fn what_no_field_holds_is_kept_and_written_back() {
    use KnownType::*;
    for (known, json) in [
        (
            ConsoleLog,
            r#"{"new":[1,{"a":null}],"text":"x","level":"log"}"#,
        ),
        (
            ConsoleLog,
            r#"{"text":null,"args":["a",1,null],"nav_seq":null}"#,
        ),
        (ConsoleLog, "{}"),
        (
            NetworkResponse,
            r#"{"headers":{"a":1,"b":["x","y"],"c":null,"d":"z"},"status":200}"#,
        ),
        (
            NetworkResponse,
            r#"{"status":-1,"nav_seq":2.5,"encoded_bytes":1e300}"#,
        ),
        (
            NetworkResponse,
            r#"{"timing":{"dns":1,"proxy":2},"target_type":"webview"}"#,
        ),
        (PageLcp, r#"{"lcp_details":{"size":1}}"#),
        (PageLcp, r#"{"lcp_details":{}}"#),
        (PageLcp, r#"{"lcp_details":null,"time":1}"#),
        (InteractionClick, r#"{"x":1.5,"y":2.0}"#),
        (MonitorDisconnected, r#"{"reason":"out_of_luck"}"#),
        (
            ApiCall,
            r#"{"request_id":"r","operation_id":"o","status":200,"duration_ms":0.25,"code":null}"#,
        ),
        (
            CdpCommand,
            r#"{"method":"A.b","session_id":null,"command_id":1.5,"x":{"y":1}}"#,
        ),
        (
            CaptchaChallengeResult,
            r#"{"status":"given_up","duration_ms":1,"captcha_type":"x"}"#,
        ),
        (
            SystemOomKill,
            r#"{"process_name":"a","pid":1,"rss_kb":2,"top_tasks":[{"name":"a","pid":1,"rss_kb":2,"uid":0}]}"#,
        ),
        (ServiceCrashed, r#"{"service_name":"s","phase":"stopped"}"#),
    ] {
        comes_back(known, json);
    }
    // What version 0.1 wrote.
    let data = comes_back(
        SystemOomKill,
        r#"{"process_name":"a","pid":1,"rss_kb":2,"top_tasks":[{"process_name":"a","pid":1,"rss_kb":2}]}"#,
    );
    let EventData::SystemOomKill(kill) = data else {
        panic!("{data:?}")
    };
    assert_eq!(kill.top_tasks.unwrap()[0].name, "a");
}

/// Each value within a document, by its path, is replaced by `other`, or removed.
fn changed(json: &Value, other: Option<&Value>) -> Vec<Value> {
    let mut all = Vec::new();
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                let mut with = |value: Option<Value>| {
                    let mut fields = fields.clone();
                    match value {
                        Some(value) => drop(fields.insert(key.clone(), value)),
                        None => drop(fields.remove(key)),
                    }
                    all.push(fields.into());
                };
                with(other.cloned());
                for value in changed(value, other) {
                    with(Some(value));
                }
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                for value in changed(value, other).into_iter().chain(other.cloned()) {
                    let mut values = values.clone();
                    values[at] = value;
                    all.push(values.into());
                }
            }
        }
        _ => {}
    }
    all
}

#[test]
fn whatever_can_be_read_is_written_back() {
    let others = serde_json::json!([
        null, true, 0, -1, 1.5, 2.0, 1e300, "", "x", [], ["x", 1], [{"new": 1}], {},
        {"new": 1, "size": null}, {"x": [1]}
    ]);
    let others: Vec<_> = others.as_array().unwrap().iter().map(Some).collect();
    let (mut read, mut unreadable) = (0, 0);
    for line in KNOWN_TYPES.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        let EventType::Known(known) = event.event_type else {
            panic!("{line}")
        };
        let data: Value = serde_json::from_str(event.data.unwrap().get()).unwrap();
        for other in others.iter().copied().chain([None]) {
            for json in changed(&data, other) {
                match EventData::parse(known, &json.to_string()) {
                    Ok(data) => {
                        let after = serde_json::to_value(&data).unwrap();
                        assert_eq!(after, json, "{known}");
                        read += 1;
                    }
                    Err(_) => unreadable += 1,
                }
            }
        }
    }
    assert!(1500 < read && 1500 < unreadable, "{read}, {unreadable}");
}

#[test]
fn of_a_key_that_is_there_twice_the_last_value_counts() {
    for (json, last) in [
        (r#"{"text":"a","text":"b"}"#, r#"{"text":"b"}"#),
        (
            r#"{"text":null,"text":"b","new":1,"new":2}"#,
            r#"{"text":"b","new":2}"#,
        ),
        (r#"{"text":"a","text":null}"#, r#"{"text":null}"#),
        (r#"{"nav_seq":1.5,"nav_seq":2}"#, r#"{"nav_seq":2}"#),
        (r#"{"nav_seq":2,"nav_seq":1.5}"#, r#"{"nav_seq":1.5}"#),
    ] {
        let data = EventData::parse(KnownType::ConsoleLog, json).unwrap();
        assert_eq!(data, EventData::parse(KnownType::ConsoleLog, last).unwrap());
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(serde_json::to_value(&data).unwrap(), last);
    }
}

#[test]
fn a_field_that_was_changed_is_written_with_the_rest() {
    let json = r#"{"text":"secret","target_type":"webview","new":1}"#;
    let mut data = comes_back(KnownType::ConsoleLog, json);
    let EventData::ConsoleLog(line) = &mut data else {
        panic!("{data:?}")
    };
    line.text = "x".to_owned();
    let after = serde_json::to_value(&data).unwrap();
    assert_eq!(
        after,
        serde_json::json!({"text":"x","target_type":"webview","new":1})
    );
}

#[test]
fn an_unknown_kind_is_read_with_its_name() {
    let data = comes_back(
        KnownType::MonitorDisconnected,
        r#"{"reason":"out_of_luck"}"#,
    );
    let EventData::MonitorDisconnected(disconnected) = data else {
        panic!("{data:?}")
    };
    assert_eq!(
        disconnected.reason,
        DisconnectReason::Other("out_of_luck".to_owned())
    );
    assert_eq!(disconnected.reason.as_str(), "out_of_luck");
}

#[test]
fn a_field_that_every_producer_sends_is_required() {
    for (known, json, expected) in [
        (
            KnownType::ApiCall,
            r#"{"operation_id":"o"}"#,
            "field `request_id`: missing",
        ),
        (
            KnownType::CdpCommand,
            r#"{"method":null}"#,
            "field `method`: missing",
        ),
        (
            KnownType::CaptchaSolveResult,
            "{}",
            "field `captcha_type`: missing",
        ),
        (
            KnownType::ConsoleLog,
            r#"{"text":1}"#,
            "field `text`: invalid type",
        ),
        (
            KnownType::NetworkResponse,
            r#"{"status":"200"}"#,
            "field `status`: invalid type",
        ),
        (
            KnownType::NetworkResponse,
            r#"{"headers":[]}"#,
            "field `headers`: invalid type",
        ),
        (
            KnownType::PageLcp,
            r#"{"lcp_details":{"size":"x"}}"#,
            "field `size`: invalid type",
        ),
        (KnownType::ConsoleLog, "[]", "invalid type"),
    ] {
        let error = EventData::parse(known, json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn fields_can_be_matched_on() {
    let data = typed(
        KnownType::CaptchaSolveResult,
        r#"{"captcha_type":"c","status":"timeout","duration_ms":5,"new":true}"#,
    );
    let Ok(Some(EventData::CaptchaSolveResult(result))) = data else {
        panic!("{data:?}")
    };
    assert_eq!(
        (result.status, result.task_id),
        (CaptchaStatus::Timeout, None)
    );
}

#[test]
fn the_context_may_be_absent() {
    let data = typed(KnownType::ConsoleLog, r#"{"level":"log","text":"hello"}"#);
    let Ok(Some(EventData::ConsoleLog(line))) = data else {
        panic!("{data:?}")
    };
    assert_eq!(line.context, tapline_oapi::data::Context::default());
}

#[test]
fn an_unknown_kind_of_target_is_read_as_other() {
    let data = typed(
        KnownType::NetworkIdle,
        r#"{"target_type":"auction_worklet"}"#,
    );
    let Ok(Some(EventData::NetworkIdle(idle))) = data else {
        panic!("{data:?}")
    };
    assert_eq!(idle.context.target_type, Some(TargetType::Other));
}

#[test]
fn absent_data_is_valid_for_a_type_without_required_fields() {
    let connect = Event::known(KnownType::CdpConnect, None).typed_data();
    assert!(matches!(connect, Ok(Some(EventData::CdpConnect(_)))));
    let call = Event::known(KnownType::ApiCall, None).typed_data();
    assert_eq!(call.unwrap(), None, "it has required fields");
    assert!(typed(KnownType::ConsoleLog, r#"{"text":1}"#).is_err());

    let custom = Event::custom("mine", Category::Page, None)
        .unwrap()
        .typed_data();
    assert_eq!(custom.unwrap(), None);
}
