//! Numbers of another kind or size than the protocol says.

use std::time::Duration;

use serde_json::{Value, json};
use tapline_cdp::Options;

use crate::browser::Browser;
use crate::recording;

const STRANGE: [&str; 9] = [
    "-1",
    "0.5",
    "7.0",
    "-7.25e2",
    "65536",
    "4294967296",
    "99999999999999999999",
    "1e300",
    "1e999",
];

/// The message with every number replaced, except for the ids of commands.
fn with_every_number(message: &str, number: &str) -> String {
    const MARK: &str = "\u{1}NUMBER\u{1}";
    fn replace(value: &mut Value) {
        match value {
            Value::Number(_) => *value = MARK.into(),
            Value::Array(all) => all.iter_mut().for_each(replace),
            Value::Object(all) => all.values_mut().for_each(replace),
            _ => {}
        }
    }
    let mut message: Value = serde_json::from_str(message).unwrap();
    let id = message["id"].take();
    replace(&mut message);
    if id.is_null() {
        message.as_object_mut().unwrap().remove("id");
    } else {
        message["id"] = id;
    }
    let mark = serde_json::to_string(MARK).unwrap();
    message.to_string().replace(&mark, number)
}

/// A message for each structure with a number, beyond those of the recording.
fn messages() -> Vec<(&'static str, Value)> {
    let stack = json!({"callFrames": [{"functionName": "f", "scriptId": "1", "url": "http://h/", "lineNumber": 1, "columnNumber": 2}]});
    let timing = json!({
        "requestTime": 1.0, "dnsStart": 1.0, "dnsEnd": 1.0, "connectStart": 1.0, "connectEnd": 1.0,
        "sslStart": 1.0, "sslEnd": 1.0, "sendStart": 1.0, "sendEnd": 1.0,
        "receiveHeadersStart": 1.0, "receiveHeadersEnd": 1.0,
    });
    let response = json!({
        "url": "http://h/r", "status": 200, "headers": {}, "mimeType": "text/plain",
        "encodedDataLength": 10, "timing": timing,
    });
    let request = json!({"url": "http://h/r", "method": "GET", "headers": {}});
    let lcp = json!({"renderTime": 1.0, "loadTime": 1.0, "size": 10, "nodeId": 3});
    vec![
        (
            "Runtime.executionContextCreated",
            json!({"context": {"id": 1, "origin": "", "name": "", "uniqueId": "u", "auxData": {"frameId": "T"}}}),
        ),
        (
            "Runtime.consoleAPICalled",
            json!({"type": "log", "args": [{"type": "number", "value": 1}], "timestamp": 1.0, "stackTrace": stack, "executionContextId": 1}),
        ),
        (
            "Runtime.exceptionThrown",
            json!({"timestamp": 1.0, "exceptionDetails": {"exceptionId": 1, "text": "Uncaught", "lineNumber": 1, "columnNumber": 1, "executionContextId": 1}}),
        ),
        (
            "Runtime.exceptionRevoked",
            json!({"reason": "handled", "exceptionId": 1}),
        ),
        (
            "Log.entryAdded",
            json!({"entry": {"source": "network", "level": "error", "text": "t", "timestamp": 1.0, "lineNumber": 1}}),
        ),
        (
            "Runtime.bindingCalled",
            json!({"name": "another", "payload": "{}", "executionContextId": 1}),
        ),
        (
            "Network.requestWillBeSent",
            json!({"requestId": "r", "timestamp": 1.0, "wallTime": 1.0, "request": request, "type": "Fetch"}),
        ),
        (
            "Network.requestWillBeSent",
            json!({"requestId": "r", "timestamp": 1.0, "request": request, "redirectResponse": {"url": "http://h/", "status": 302}}),
        ),
        (
            "Network.responseReceivedExtraInfo",
            json!({"requestId": "r", "statusCode": 200, "headers": {}}),
        ),
        (
            "Network.responseReceived",
            json!({"requestId": "r", "timestamp": 1.0, "response": response, "type": "Fetch"}),
        ),
        (
            "Network.dataReceived",
            json!({"requestId": "r", "timestamp": 1.0, "dataLength": 1, "encodedDataLength": 1}),
        ),
        (
            "Network.loadingFinished",
            json!({"requestId": "r", "timestamp": 1.0, "encodedDataLength": 1}),
        ),
        (
            "Network.requestWillBeSent",
            json!({"requestId": "q", "timestamp": 1.0, "request": request}),
        ),
        (
            "Network.loadingFailed",
            json!({"requestId": "q", "timestamp": 1.0, "errorText": "net::ERR_FAILED"}),
        ),
        (
            "Network.webSocketCreated",
            json!({"requestId": "w", "url": "ws://h/"}),
        ),
        (
            "Network.webSocketWillSendHandshakeRequest",
            json!({"requestId": "w", "timestamp": 1.0, "wallTime": 1.0, "request": {"headers": {}}}),
        ),
        (
            "Network.webSocketHandshakeResponseReceived",
            json!({"requestId": "w", "timestamp": 1.0, "response": {"status": 101, "statusText": "", "headers": {}}}),
        ),
        (
            "Network.webSocketFrameSent",
            json!({"requestId": "w", "timestamp": 1.0, "response": {"opcode": 1, "mask": true, "payloadData": "x"}}),
        ),
        (
            "Network.webSocketFrameReceived",
            json!({"requestId": "w", "timestamp": 1.0, "response": {"opcode": 1, "mask": false, "payloadData": "x"}}),
        ),
        (
            "Network.webSocketClosed",
            json!({"requestId": "w", "timestamp": 1.0}),
        ),
        ("Page.domContentEventFired", json!({"timestamp": 1.0})),
        ("Page.loadEventFired", json!({"timestamp": 1.0})),
        (
            "PerformanceTimeline.timelineEventAdded",
            json!({"event": {"frameId": "T", "type": "largest-contentful-paint", "time": 1.0, "duration": 1.0, "lcpDetails": lcp}}),
        ),
        (
            "PerformanceTimeline.timelineEventAdded",
            json!({"event": {"frameId": "T", "type": "layout-shift", "time": 1.0, "layoutShiftDetails": {"value": 0.5, "hadRecentInput": false}}}),
        ),
        (
            "Runtime.executionContextDestroyed",
            json!({"executionContextId": 1}),
        ),
    ]
}

/// How many events there are of each type that must not depend on a number.
fn counted(browser: &mut Browser) -> Vec<(&'static str, usize)> {
    const TYPES: [&str; 5] = [
        "network_request",
        "network_response",
        "network_loading_failed",
        "page_dom_content_loaded",
        "page_load",
    ];
    let events = browser.events();
    let count = |name| {
        let of_type = |event: &&tapline_oapi::Event| event.event_type.as_str() == name;
        (name, events.iter().filter(of_type).count())
    };
    TYPES.map(count).to_vec()
}

#[test]
fn a_strange_number_costs_no_message() {
    let run = |number| {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        for (method, params) in messages() {
            let message = json!({"method": method, "params": params, "sessionId": "S"});
            browser.sends(&with_every_number(&message.to_string(), number));
            assert_eq!(browser.core.unreadable(), 0, "{method} with {number}");
        }
        browser.passes(Duration::from_secs(20)).waits();
        counted(&mut browser)
    };
    let usual = run("1");
    assert!(usual.iter().all(|(_, count)| 0 < *count), "{usual:?}");
    for number in STRANGE {
        assert_eq!(run(number), usual, "{number}");
    }
}

#[test]
fn a_recorded_session_is_read_with_strange_numbers() {
    let run = |number| {
        let mut browser = Browser::new(Options::default());
        for (t, message) in recording::messages() {
            browser.moves_to(Duration::from_secs(10) + Duration::from_micros(t % 100_000_000));
            browser.sends(&with_every_number(&message, number));
            assert_eq!(browser.core.unreadable(), 0, "{number} in {message}");
        }
        counted(&mut browser)
    };
    let usual = run("1");
    for number in STRANGE {
        assert_eq!(run(number), usual, "{number}");
    }
}

#[test]
fn strange_numbers_in_answers_cost_no_answer() {
    let quad = json!([0, 0, 10, 0, 10, 10, 0, 10]);
    let model = json!({"model": {"content": quad, "border": quad, "width": 10, "height": 10}});
    for number in STRANGE {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        browser.commands();
        for (method, answer) in [
            (
                "Network.getResponseBody",
                json!({"error": {"code": -32000, "message": ""}}),
            ),
            ("DOM.getBoxModel", json!({"result": model})),
        ] {
            let answer = with_every_number(&answer.to_string(), number);
            // What cannot be written as a value of Rust is not tested here.
            if let Ok(answer) = serde_json::from_str(&answer) {
                browser.answers(method, answer);
            }
        }
        browser.request("S", "r", "L");
        browser.response("S", "r", "text/plain");
        browser.finished("S", "r");
        assert_eq!(browser.core.unreadable(), 0, "{number}");
        assert_eq!(browser.data("network_response").len(), 1, "{number}");
    }
}
