//! Publish requests and events.

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tapline_oapi::{
    Category, Envelope, ErrorCode, Event, EventType, InvalidEvent, KnownType, PublishRequest,
    Source, SourceKind, from_json,
};

use crate::CORPUS;

fn request(json: &str) -> PublishRequest {
    from_json(json.as_bytes()).unwrap()
}

/// The event of a request, as JSON.
#[track_caller]
fn check(json: &str, expected: &str) {
    let event = Event::try_from(request(json)).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), expected);
}

#[test]
fn absent_fields_get_their_defaults() {
    check(
        r#"{"type":"page_load"}"#,
        r#"{"ts":0,"type":"page_load","category":"page","source":{"kind":"local_process"}}"#,
    );
}

#[test]
fn given_fields_are_kept_in_the_order_of_the_wire() {
    check(
        r#"{"truncated":true,"data":[1],"source":{"metadata":{"b":"2","a":"1"},"event":"e","kind":"cdp"},"category":"page","type":"x","ts":5}"#,
        r#"{"ts":5,"type":"x","category":"page","source":{"kind":"cdp","event":"e","metadata":{"a":"1","b":"2"}},"data":[1],"truncated":true}"#,
    );
}

#[test]
fn null_counts_as_absent_except_for_data() {
    check(
        r#"{"ts":null,"type":"page_load","category":null,"source":null,"data":null,"truncated":null}"#,
        r#"{"ts":0,"type":"page_load","category":"page","source":{"kind":"local_process"},"data":null}"#,
    );
    check(
        r#"{"type":"page_load","source":{"kind":"cdp","event":null,"metadata":null}}"#,
        r#"{"ts":0,"type":"page_load","category":"page","source":{"kind":"cdp"}}"#,
    );
}

#[test]
fn empty_fields_are_omitted() {
    check(
        r#"{"type":"page_load","source":{"kind":"cdp","event":"","metadata":{}},"truncated":false}"#,
        r#"{"ts":0,"type":"page_load","category":"page","source":{"kind":"cdp"}}"#,
    );
}

#[test]
fn data_stays_byte_for_byte() {
    for data in [
        "1.0",
        "1e400",
        "100000000000000000000000000000001",
        r#"{ "b" : 1 ,"a": [ ] }"#,
        r#"{"a":1,"a":2}"#,
        r#""\u0041\/\ud83d\ude00""#,
        "{\n\t\"a\": true\r\n}",
        "false",
    ] {
        let event = Event::try_from(request(&format!(
            r#"{{"type":"page_load","data":  {data} }}"#
        )))
        .unwrap();
        assert_eq!(event.data.as_deref().map(RawValue::get), Some(data));
        let read: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(read, event);
    }
}

#[test]
fn the_category_of_a_known_type_replaces_the_callers() {
    let event =
        Event::try_from(request(r#"{"type":"network_idle","category":"captcha"}"#)).unwrap();
    assert_eq!(event.category, Category::Network);
    let event = Event::custom("network_idle", Category::Captcha, None).unwrap();
    assert_eq!(event, Event::known(KnownType::NetworkIdle, None));
}

#[test]
fn an_event_needs_a_type_and_a_category() {
    let empty = Event::try_from(request(r#"{"type":"","category":"page"}"#)).unwrap_err();
    assert_eq!(empty, InvalidEvent::EmptyType);
    assert_eq!(
        (empty.field(), empty.code()),
        ("type", ErrorCode::InvalidField)
    );
    assert_eq!(
        Event::custom("", Category::Page, None),
        Err(InvalidEvent::EmptyType)
    );

    let bare = Event::try_from(request(r#"{"type":"mine"}"#)).unwrap_err();
    assert_eq!(
        (bare.field(), bare.code()),
        ("category", ErrorCode::MissingField)
    );

    for error in [empty, bare] {
        assert!(
            error
                .to_string()
                .starts_with(&format!("field `{}`: ", error.field())),
            "{error}"
        );
    }
}

#[test]
fn the_reserved_source_is_detected_but_not_refused_here() {
    let reserved = request(r#"{"type":"api_call","source":{"kind":"kernel_api"}}"#);
    assert!(reserved.uses_reserved_source());
    assert_eq!(
        Event::try_from(reserved).unwrap().source,
        Source::of(SourceKind::KernelApi)
    );
    assert!(!request(r#"{"type":"api_call","source":{"kind":"cdp"}}"#).uses_reserved_source());
    assert!(!request(r#"{"type":"api_call"}"#).uses_reserved_source());
}

#[test]
fn a_reader_ignores_fields_that_a_newer_server_adds() {
    let envelope: Envelope = serde_json::from_str(
        r#"{"seq":3,"event":{"ts":1,"type":"x","category":"page","source":{"kind":"cdp","new":1},"new":{}},"new":[]}"#,
    )
    .unwrap();
    assert_eq!(envelope.seq, 3);
    assert_eq!(envelope.event.source.kind, SourceKind::Cdp);
}

#[test]
fn an_event_that_was_cut_is_marked_as_truncated() {
    let event = Event::known(
        KnownType::MonitorScreenshot,
        Some(to_raw_value(&json!({"png": "AAAA"})).unwrap()),
    );
    let cut = event.cut();
    assert_eq!(
        serde_json::to_string(&cut).unwrap(),
        r#"{"ts":0,"type":"monitor_screenshot","category":"screenshot","source":{"kind":"local_process"},"data":null,"truncated":true}"#,
    );
    // There are no fields any more, which is not an error for the reader.
    assert_eq!(cut.typed_data().unwrap(), None);
}

#[test]
fn a_recorded_session_is_published_unchanged() {
    for line in CORPUS.lines() {
        let event = Event::try_from(request(line)).unwrap();
        assert!(matches!(event.event_type, EventType::Known(_)), "{line}");
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}
