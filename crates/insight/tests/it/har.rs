//! HAR files, read by the crate `har`, and what Chrome DevTools' importer demands of each field.

use serde_json::{Value, json};
use tapline_insight::{Format, Input, Lost, REDACTED, Sanitizer};
use tapline_oapi::Envelope;

use crate::anything::exported;
use crate::stream::{data, event, recording, request, response};

fn har(events: &[Envelope], sanitizer: Sanitizer) -> Value {
    let inputs: Vec<_> = events.iter().map(Input::Event).collect();
    let text = exported(&inputs, Format::Har, sanitizer);
    check_form(&text);
    serde_json::from_str(&text).unwrap()
}

/// What `front_end/models/har/HARFormat.ts` throws at or cannot show, and what the specification demands beyond.
pub(crate) fn check_form(text: &str) {
    har::from_str(text).unwrap();
    let file: Value = serde_json::from_str(text).unwrap();
    let log = &file["log"];
    assert_eq!(log["version"], "1.2");
    assert!(log["creator"]["name"].is_string() && log["creator"]["version"].is_string());
    let mut pages = Vec::new();
    for page in log["pages"].as_array().unwrap() {
        check_time(&page["startedDateTime"]);
        assert!(page["title"].is_string());
        for name in ["onContentLoad", "onLoad"] {
            assert!(page["pageTimings"][name].is_number(), "{page}");
        }
        pages.push(page["id"].as_str().unwrap());
    }
    let unique: std::collections::BTreeSet<_> = pages.iter().collect();
    assert_eq!(unique.len(), pages.len(), "ids of pages are unique");
    for entry in log["entries"].as_array().unwrap() {
        check_time(&entry["startedDateTime"]);
        if let Some(page) = entry.get("pageref") {
            assert!(pages.contains(&page.as_str().unwrap()), "{page} is no page");
        }
        assert!(0.0 <= entry["time"].as_f64().unwrap(), "{entry}");
        let (request, response) = (&entry["request"], &entry["response"]);
        for (object, name) in [
            (request, "method"),
            (request, "url"),
            (request, "httpVersion"),
            (response, "statusText"),
            (response, "httpVersion"),
            (response, "redirectURL"),
            (&response["content"], "mimeType"),
        ] {
            assert!(object[name].is_string(), "{name} of {entry}");
        }
        for (object, name) in [
            (request, "headersSize"),
            (request, "bodySize"),
            (response, "status"),
            (response, "headersSize"),
            (response, "bodySize"),
            (&response["content"], "size"),
        ] {
            assert!(object[name].is_i64(), "{name} of {entry}");
        }
        for list in [
            &request["cookies"],
            &request["headers"],
            &request["queryString"],
            &response["cookies"],
            &response["headers"],
        ] {
            for pair in list.as_array().unwrap() {
                assert!(
                    pair["name"].is_string() && pair["value"].is_string(),
                    "{pair}"
                );
            }
        }
        assert!(entry["cache"].is_object());
        let phases = [
            "blocked", "dns", "connect", "send", "wait", "receive", "ssl",
        ];
        let phases = phases.map(|name| entry["timings"][name].as_f64().unwrap());
        assert!(phases.iter().all(|ms| *ms == -1.0 || 0.0 <= *ms), "{entry}");
        // TLS is a part of connect.
        let sum: f64 = phases[..6].iter().filter(|ms| 0.0 <= **ms).sum();
        if 0.0 < sum {
            assert!(
                (sum - entry["time"].as_f64().unwrap()).abs() < 0.002,
                "{entry}"
            );
        }
        for message in entry["_webSocketMessages"].as_array().into_iter().flatten() {
            assert!(matches!(message["type"].as_str(), Some("send" | "receive")));
            assert!(message["time"].is_number() && message["opcode"].is_number());
            assert!(message["data"].is_string());
        }
    }
}

#[track_caller]
fn check_time(time: &Value) {
    let text = time.as_str().unwrap();
    assert!(text.ends_with('Z') && text.contains('T'), "{text}");
    text.parse::<jiff::Timestamp>().unwrap();
}

fn first(har: &Value) -> &Value {
    &har["log"]["entries"][0]
}

#[test]
fn both_recordings_are_valid_har() {
    for name in ["tour.ndjson", "events.ndjson"] {
        for sanitizer in [Sanitizer::default(), Sanitizer::off()] {
            let har = har(&recording(name), sanitizer);
            assert!(!har["log"]["entries"].as_array().unwrap().is_empty());
            assert!(!har["log"]["pages"].as_array().unwrap().is_empty());
        }
    }
}

#[test]
fn nothing_is_a_valid_har_too() {
    let har = har(&[], Sanitizer::default());
    assert_eq!(har["log"]["entries"], json!([]));
}

#[test]
fn secrets_stay_out_unless_they_are_asked_for() {
    let sent = json!({"request_id": "1", "url": "http://ann:pw@h/login?next=%2Fx&access_token=tok1",
        "method": "POST", "document_url": "http://h/",
        "headers": {"Cookie": "sid=cook1", "Authorization": "Bearer auth1", "Content-Type": "application/json",
            "X-Api-Key": "key1", "Referer": "http://h/?token=tok2"},
        "initiator_type": "script", "post_data": r#"{"user":"ann","password":"pw1"}"#});
    let answered = json!({"request_id": "1", "url": "http://ann:pw@h/login?next=%2Fx&access_token=tok1",
        "method": "POST", "status": 200, "mime_type": "application/json",
        "headers": {"set-cookie": "a=cook2; Path=/\nb=cook3", "x-csrf-token": "csrf1"},
        "body": r#"{"id":7,"refresh_token":"tok3"}"#});
    let events = [
        event(1, 0, "network_request", data("tab", sent)),
        event(2, 5, "network_response", data("tab", answered)),
    ];
    let secrets = [
        "pw@", "tok1", "cook1", "auth1", "key1", "tok2", "pw1", "cook2", "cook3", "csrf1", "tok3",
    ];
    let clean = har(&events, Sanitizer::default());
    let text = clean.to_string();
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    // What is no secret is still there, and so is the fact that there was one.
    let request = &first(&clean)["request"];
    assert_eq!(
        request["postData"]["text"],
        r#"{"user":"ann","password":"*redacted*"}"#
    );
    assert_eq!(
        request["queryString"][0],
        json!({"name": "next", "value": "/x"})
    );
    assert_eq!(
        request["queryString"][1],
        json!({"name": "access_token", "value": REDACTED})
    );
    assert!(
        text.contains(r#"{"name":"Cookie","value":"*redacted*"}"#),
        "{text}"
    );
    assert_eq!(request["cookies"], json!([]));
    assert_eq!(clean["log"]["_tapline"]["sanitized"], true);

    let whole = har(&events, Sanitizer::off());
    let text = whole.to_string();
    for secret in secrets {
        assert!(text.contains(secret), "{secret} not in {text}");
    }
    assert_eq!(
        first(&whole)["request"]["cookies"],
        json!([{"name": "sid", "value": "cook1"}])
    );
    let cookies = json!([{"name": "a", "value": "cook2"}, {"name": "b", "value": "cook3"}]);
    assert_eq!(first(&whole)["response"]["cookies"], cookies);
}

#[test]
fn phases_are_in_timings_and_time_is_their_sum() {
    let answered = json!({"request_id": "1", "url": "http://h/", "method": "GET", "status": 200,
        "headers": {}, "duration_ms": 100.0, "encoded_bytes": 999, "protocol": "h2", "remote_ip": "10.0.0.1",
        "timing": {"blocked": 1.5, "dns": 2.0, "connect": 10.0, "tls": 7.0, "send": 0.5, "wait": 20.0, "receive": 3.0}});
    let har = har(
        &[
            request(1, 0, "1", "http://h/"),
            event(2, 100, "network_response", data("tab", answered)),
        ],
        Sanitizer::default(),
    );
    let entry = first(&har);
    assert_eq!(entry["time"], 37.0);
    assert_eq!(
        (&entry["timings"]["connect"], &entry["timings"]["ssl"]),
        (&json!(10.0), &json!(7.0))
    );
    assert_eq!(
        (
            &entry["serverIPAddress"],
            &entry["response"]["_transferSize"]
        ),
        (&json!("10.0.0.1"), &json!(999))
    );
    assert_eq!(
        (&entry["_resourceType"], &entry["request"]["httpVersion"]),
        (&json!("fetch"), &json!("h2"))
    );
    assert_eq!(entry["startedDateTime"], "2026-11-18T11:06:40Z");
}

#[test]
fn without_phases_they_are_unknown_and_time_is_the_duration() {
    let har = har(
        &[
            request(1, 0, "1", "http://h/"),
            response(2, 9, "1", "http://h/", 200),
        ],
        Sanitizer::default(),
    );
    assert_eq!(first(&har)["time"], 5.5);
    assert_eq!(first(&har)["timings"]["wait"], -1.0);
}

#[test]
fn a_failure_has_its_error_and_status_0() {
    let failed = json!({"request_id": "1", "url": "http://h/", "error_text": "net::ERR_FAILED",
        "cors_error": "MissingAllowOriginHeader", "canceled": false});
    let har = har(
        &[
            request(1, 0, "1", "http://h/"),
            event(2, 9, "network_loading_failed", data("tab", failed)),
        ],
        Sanitizer::default(),
    );
    let entry = first(&har);
    assert_eq!(
        (&entry["response"]["status"], &entry["response"]["_error"]),
        (&json!(0), &json!("net::ERR_FAILED"))
    );
    assert_eq!(entry["_tapline"]["cors_error"], "MissingAllowOriginHeader");
    assert_eq!(entry["time"], 9.0);
}

#[test]
fn a_request_whose_end_was_lost_says_so() {
    let sent = request(1, 0, "1", "http://h/");
    let text = exported(
        &[
            Input::Event(&sent),
            Input::Lost(Lost {
                count: Some(4),
                ..Lost::unknown(2, 5)
            }),
        ],
        Format::Har,
        Sanitizer::default(),
    );
    check_form(&text);
    let har: Value = serde_json::from_str(&text).unwrap();
    let about = &first(&har)["_tapline"];
    assert_eq!(
        (&about["outcome"], &about["unknown"], &about["lost"]),
        (&json!("unknown"), &json!("events_lost"), &json!(4))
    );
    assert!(
        har["log"]["comment"]
            .as_str()
            .unwrap()
            .contains("Up to 4 events are missing")
    );
    assert_eq!(har["log"]["_tapline"]["lost"], 4);
}

#[test]
fn each_hop_is_an_entry_and_an_unknown_address_is_counted() {
    let hop = json!({"request_id": "1", "url": "http://h/2", "method": "GET", "headers": {},
        "is_redirect": true, "redirect_url": "http://h/1", "redirect_status": 301});
    let ended = json!({"request_id": "9", "duration_ms": 3.0});
    let har = har(
        &[
            request(1, 0, "1", "http://h/1"),
            event(2, 7, "network_request", data("tab", hop)),
            response(3, 12, "1", "http://h/2", 200),
            event(4, 20, "network_response_end", data("tab", ended)),
        ],
        Sanitizer::default(),
    );
    let entries = har["log"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (
            &entries[0]["response"]["status"],
            &entries[0]["response"]["redirectURL"]
        ),
        (&json!(301), &json!("http://h/2"))
    );
    assert_eq!(
        (&entries[0]["time"], &entries[1]["request"]["url"]),
        (&json!(7.0), &json!("http://h/2"))
    );
    assert_eq!(har["log"]["_tapline"]["requests_without_url"], 1);
}

#[test]
fn messages_of_a_socket_are_in_its_entry() {
    let socket = |more: Value| {
        let mut all = json!({"request_id": "1", "url": "ws://h/", "resource_type": "WebSocket", "method": "GET"});
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        data("tab", all)
    };
    let har = har(
        &[
            event(1, 0, "network_request", socket(json!({}))),
            event(2, 1, "network_response", socket(json!({"status": 101}))),
            event(
                3,
                2,
                "network_websocket_message",
                socket(json!({"direction": "sent", "bytes": 9, "text": r#"{"token":"t"}"#})),
            ),
            event(
                4,
                3,
                "network_websocket_message",
                socket(json!({"direction": "received", "bytes": 5})),
            ),
        ],
        Sanitizer::default(),
    );
    let entry = first(&har);
    let sent = json!({"type": "send", "time": 1_795_000_000.002, "opcode": 1, "data": r#"{"token":"*redacted*"}"#});
    let received =
        json!({"type": "receive", "time": 1_795_000_000.003, "opcode": 2, "data": "", "_bytes": 5});
    assert_eq!(entry["_webSocketMessages"], json!([sent, received]));
    assert_eq!(
        (&entry["_resourceType"], &entry["_tapline"]["outcome"]),
        (&json!("websocket"), &json!("open"))
    );
}
