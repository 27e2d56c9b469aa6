//! One event: what is taken, what is refused, and what becomes of it.

use tapline_api::Backend as _;
use tapline_oapi::{Category, from_json};

use crate::{code_and_message, idle, publish, request, running};

/// The event as it went out, without its `ts` and its session.
#[track_caller]
fn check(json: &str, expected: &str) {
    let api = running(64);
    let envelope = publish(&api, json).unwrap();
    let stamp = format!(
        r#""telemetry_session_id":"{}""#,
        api.state().unwrap().session_id.unwrap()
    );
    let got = envelope
        .json()
        .whole()
        .replace(&format!(r#""ts":{},"#, envelope.ts()), "")
        .replace(&stamp, "ID");
    assert_eq!(got, format!(r#"{{"seq":1,"event":{expected}}}"#));
}

#[test]
fn what_is_published_goes_out() {
    check(
        r#"{"type":"page_load","data":{"b":1.0,"a":[ ]}}"#,
        r#"{"type":"page_load","category":"page","source":{"kind":"local_process","metadata":{ID}},"data":{"b":1.0,"a":[ ]}}"#,
    );
    // A known type's own category wins.
    check(
        r#"{"type":"page_load","category":"console"}"#,
        r#"{"type":"page_load","category":"page","source":{"kind":"local_process","metadata":{ID}}}"#,
    );
    check(
        r#"{"type":"checkout_done","category":"captcha","truncated":true,"data":null}"#,
        r#"{"type":"checkout_done","category":"captcha","source":{"kind":"local_process","metadata":{ID}},"data":null,"truncated":true}"#,
    );
    // The session's id wins over a producer's own.
    check(
        r#"{"type":"x","category":"page","source":{"kind":"extension","event":"e","metadata":{"a":"1","telemetry_session_id":"mine","z":"2"}}}"#,
        r#"{"type":"x","category":"page","source":{"kind":"extension","event":"e","metadata":{"a":"1",ID,"z":"2"}}}"#,
    );
}

#[test]
fn a_ts_is_kept_and_made_where_there_is_none() {
    let api = running(64);
    let ts = |json: &str| publish(&api, json).unwrap().ts();
    assert_eq!(ts(r#"{"type":"page_load","ts":1}"#), 1);
    assert_eq!(
        ts(r#"{"type":"page_load","ts":9223372036854775807}"#),
        i64::MAX as u64
    );
    let made = ts(r#"{"type":"page_load","ts":0}"#);
    assert!(made <= ts(r#"{"type":"page_load"}"#));
    assert!(1_700_000_000_000_000 < made, "{made}");
}

#[test]
fn what_is_refused_says_why_and_takes_no_seq() {
    #[track_caller]
    fn check(json: &str, code: &str, message: &str) {
        for api in [running(64), idle()] {
            let error = api
                .publish(from_json(json.as_bytes()).unwrap())
                .unwrap_err();
            let (got, text) = code_and_message(&error);
            assert_eq!(got, code, "{json}");
            assert!(text.contains(message), "{text}");
            assert_eq!(api.retained().head, 0, "{json}");
        }
    }
    check(
        r#"{"type":"page_load","source":{"kind":"kernel_api"}}"#,
        "reserved_source",
        "`source.kind`",
    );
    check(
        r#"{"type":"","category":"page"}"#,
        "invalid_field",
        "`type`",
    );
    check(r#"{"type":"mine"}"#, "missing_field", "`category`");
    // A name that only looks like a known one.
    check(r#"{"type":"Page_load"}"#, "missing_field", "`category`");
}

/// A name of a hundred kilobytes once came back in the message.
#[test]
fn a_message_does_not_grow_with_the_request() {
    let api = running(64);
    let name = "n".repeat(100_000);
    let json = format!(r#"{{"type":"{name}"}}"#);
    let error = api
        .publish(from_json(json.as_bytes()).unwrap())
        .unwrap_err();
    let (code, message) = code_and_message(&error);
    assert_eq!(code, "missing_field");
    assert!(message.len() < 1000, "{} bytes", message.len());
}

#[test]
fn what_is_not_captured_is_filtered() {
    let api = idle();
    assert!(publish(&api, r#"{"type":"page_load"}"#).is_none());
    assert!(publish(&api, r#"{"type":"system_oom_kill"}"#).is_none());
    crate::ready(api.put(&request(r#"{"browser":{"page":{"enabled":true}}}"#))).unwrap();
    assert!(publish(&api, r#"{"type":"mine","category":"console"}"#).is_none());
    // Filtered by the category that it has, not by the one that it claims.
    assert!(publish(&api, r#"{"type":"console_log","category":"page"}"#).is_none());
    assert_eq!(api.retained().head, 0);
    let envelope = publish(&api, r#"{"type":"page_load","category":"console"}"#).unwrap();
    assert_eq!(
        (envelope.seq(), envelope.event().category),
        (1, Category::Page)
    );
}

#[test]
fn data_over_the_limit_is_dropped_and_metadata_over_it_is_refused() {
    let api = running(64);
    let large = "x".repeat(1_000_000);
    let envelope = publish(&api, &format!(r#"{{"type":"page_load","data":"{large}"}}"#)).unwrap();
    assert!(
        envelope
            .json()
            .whole()
            .ends_with(r#""data":null,"truncated":true}}"#)
    );

    let json = format!(
        r#"{{"type":"page_load","source":{{"kind":"cdp","metadata":{{"k":"{large}"}}}},"data":1}}"#
    );
    let error = api
        .publish(from_json(json.as_bytes()).unwrap())
        .unwrap_err();
    let (code, message) = code_and_message(&error);
    assert_eq!(code, "event_too_large");
    assert!(message.contains("`source.metadata`"), "{message}");
    assert_eq!(api.retained().head, 1);
}
