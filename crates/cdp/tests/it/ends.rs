//! How requests end: what the server said, and what became of the body.

use proptest::prelude::*;
use serde_json::{Value, json};
use tapline_cdp::Options;
use tapline_oapi::Event;

use crate::browser::{Browser, data_of};

fn tab() -> Browser {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.navigated("S", "T", "L", "http://h/");
    browser.events();
    browser.commands();
    browser
}

/// The end of the request "r": its type and its data. There is exactly one.
#[track_caller]
fn end(browser: &mut Browser) -> (String, Value) {
    let ends = ends(&browser.events());
    assert_eq!(ends.len(), 1, "{ends:?}");
    ends.into_iter().next().unwrap()
}

fn ends(events: &[Event]) -> Vec<(String, Value)> {
    let is_end = |name: &str| {
        [
            "network_response",
            "network_loading_failed",
            "network_websocket_closed",
        ]
        .contains(&name)
    };
    let ends = events.iter().filter(|it| is_end(it.event_type.as_str()));
    ends.map(|it| (it.event_type.to_string(), data_of(it)))
        .collect()
}

impl Browser {
    /// The answer to a request, with this status.
    fn answered(&mut self, session: &str, id: &str, status: u16) {
        self.reports(
            Some(session),
            "Network.responseReceived",
            json!({"requestId": id, "loaderId": "L", "type": "Fetch", "response": {
                "url": format!("http://h/{id}"), "status": status, "statusText": "", "mimeType": "image/png",
                "headers": {"Content-Type": "image/png"}}}),
        );
    }

    /// The browser says that the body was dropped.
    fn aborted(&mut self, session: &str, id: &str) {
        self.failed_with(
            session,
            id,
            json!({"errorText": "net::ERR_ABORTED", "canceled": true}),
        );
    }

    fn failed_with(&mut self, session: &str, id: &str, mut how: Value) {
        how["requestId"] = json!(id);
        how["timestamp"] = json!(2.0);
        how["type"] = json!("Fetch");
        self.reports(Some(session), "Network.loadingFailed", how);
    }
}

#[test]
fn an_answer_without_a_body_is_an_answer() {
    for status in [200, 201, 204, 304, 400, 401, 404, 503] {
        let mut browser = tab();
        browser.request("S", "r", "L");
        browser.answered("S", "r", status);
        browser.aborted("S", "r");
        let (name, data) = end(&mut browser);
        assert_eq!(
            (name.as_str(), &data["status"]),
            ("network_response", &json!(status))
        );
        assert_eq!(data.get("canceled"), None, "there was nothing to cancel");
        assert_eq!(browser.core.held().requests, 0);
    }
}

#[test]
fn an_answer_whose_body_is_not_wanted_is_an_answer() {
    let mut browser = tab();
    browser.request("S", "r", "L");
    browser.answered("S", "r", 206);
    browser.data_received("S", "r", 1000);
    browser.aborted("S", "r");
    let (name, data) = end(&mut browser);
    assert_eq!(
        (name.as_str(), &data["status"]),
        ("network_response", &json!(206))
    );
    assert_eq!(
        (&data["canceled"], &data["encoded_bytes"]),
        (&json!(true), &json!(1000))
    );
}

#[test]
fn a_body_that_breaks_off_is_a_failure_with_the_status() {
    let mut browser = tab();
    browser.request("S", "r", "L");
    browser.answered("S", "r", 200);
    browser.data_received("S", "r", 4);
    let broken = "net::ERR_CONTENT_LENGTH_MISMATCH";
    browser.failed_with("S", "r", json!({"errorText": broken, "canceled": false}));
    let (name, data) = end(&mut browser);
    assert_eq!(name, "network_loading_failed");
    assert_eq!(
        (&data["error_text"], &data["status"]),
        (&json!(broken), &json!(200))
    );
    assert_eq!(data["headers"]["Content-Type"], "image/png");
    assert_eq!(data["mime_type"], "image/png");
}

/// The browser refuses the answer, and shows a page of its own under the same request.
#[test]
fn what_a_page_about_a_failure_needs_is_not_reported() {
    let mut browser = tab();
    browser.request("S", "D", "D");
    browser.answered("S", "D", 401);
    let refused = json!({"errorText": "net::ERR_INVALID_AUTH_CREDENTIALS", "canceled": false});
    browser.failed_with("S", "D", refused);
    browser.reports(
        Some("S"),
        "Page.frameNavigated",
        json!({"type": "Navigation", "frame": {"id": "T", "loaderId": "D", "url": "chrome-error://chromewebdata/",
            "unreachableUrl": "http://h/private"}}),
    );
    browser.data_received("S", "D", 13);
    browser.finished("S", "D");
    browser.request("S", "picture", "D");
    let response =
        json!({"url": "http://h/picture", "status": 200, "headers": {}, "mimeType": "image/png"});
    browser.reports(
        Some("S"),
        "Network.responseReceived",
        json!({"requestId": "picture", "loaderId": "D", "response": response}),
    );
    browser.finished("S", "picture");
    let events = browser.events();
    let navigation = events
        .iter()
        .find(|it| it.event_type.as_str() == "page_navigation");
    assert_eq!(data_of(navigation.unwrap())["url"], "http://h/private");
    let ends = ends(&events);
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0].1["status"], 401);
    assert!(!format!("{events:?}").contains("picture"));
}

#[test]
fn a_failure_says_why() {
    let why = |how: Value| {
        let mut browser = tab();
        browser.request("S", "r", "L");
        browser.failed_with("S", "r", how);
        let (name, data) = end(&mut browser);
        assert_eq!(name, "network_loading_failed");
        data
    };
    let csp = why(json!({"errorText": "", "blockedReason": "csp"}));
    assert_eq!(
        (&csp["error_text"], &csp["blocked_reason"]),
        (&json!("blocked:csp"), &json!("csp"))
    );
    let cors = why(json!({"errorText": "net::ERR_FAILED",
        "corsErrorStatus": {"corsError": "MissingAllowOriginHeader", "failedParameter": ""}}));
    assert_eq!(cors["error_text"], "net::ERR_FAILED");
    assert_eq!(cors["cors_error"], "MissingAllowOriginHeader");
    assert_eq!(why(json!({}))["error_text"], "tapline::NO_REASON_GIVEN");

    // The server's answer was withheld from the page.
    let mut browser = tab();
    browser.request("S", "r", "L");
    browser.reports(
        Some("S"),
        "Network.responseReceivedExtraInfo",
        json!({"requestId": "r", "statusCode": 200, "headers": {}}),
    );
    browser.failed("S", "r");
    assert_eq!(end(&mut browser).1["status"], 200);
}

#[test]
fn a_response_that_lasts_is_emitted_while_it_lasts() {
    let mut browser = tab();
    browser.request("S", "r", "L");
    browser.at(10).answered("S", "r", 200);
    for ms in (500..3000).step_by(500) {
        browser.waits_until(ms);
        browser.data_received("S", "r", 10);
    }
    assert!(browser.data("network_response").is_empty());
    browser.waits_until(3010);
    let open = browser.data("network_response").remove(0);
    assert_eq!(
        (&open["status"], &open["open"]),
        (&json!(200), &json!(true))
    );
    // It keeps neither the network busy nor is it ever too old.
    browser.waits_until(3600);
    assert_eq!(browser.emitted(), [("network_idle".to_owned(), 3510)]);
    browser.waits_until(3_600_000);
    assert!(browser.events().is_empty());
    browser.finished("S", "r");
    let ended = browser.events();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].event_type.as_str(), "network_response_end");
    let data = data_of(&ended[0]);
    assert_eq!(
        (&data["request_id"], &data["encoded_bytes"]),
        (&json!("r"), &json!(100))
    );
    assert_eq!((data.get("url"), data.get("error_text")), (None, None));
    assert_eq!(browser.core.held().requests, 0);
}

#[test]
fn the_end_of_a_response_that_lasts_says_if_it_broke_off() {
    let ended = |close: &dyn Fn(&mut Browser)| {
        let mut browser = tab();
        browser.request("S", "r", "L");
        browser.answered("S", "r", 200);
        browser.waits_until(4000);
        browser.events();
        close(&mut browser);
        browser.data("network_response_end").remove(0)["error_text"].clone()
    };
    assert_eq!(ended(&|browser| browser.aborted("S", "r")), Value::Null);
    assert_eq!(
        ended(&|browser| browser.failed("S", "r")),
        "net::ERR_FAILED"
    );
    assert_eq!(
        ended(&|browser| browser.detached("S")),
        "tapline::TARGET_GONE"
    );
}

#[test]
fn data_is_a_sign_of_life_and_a_request_that_was_given_up_can_be_corrected() {
    let mut browser = tab();
    browser.request("S", "r", "L");
    browser.waits_until(599_000);
    browser.data_received("S", "r", 1);
    browser.waits_until(1_198_000);
    assert!(ends(&browser.events()).is_empty());
    browser.waits_until(1_199_000);
    assert_eq!(end(&mut browser).1["error_text"], "tapline::TOO_OLD");
    // It was not over.
    browser.answered("S", "r", 200);
    browser.finished("S", "r");
    let (name, data) = end(&mut browser);
    assert_eq!(
        (name.as_str(), &data["status"]),
        ("network_response", &json!(200))
    );
}

#[test]
fn a_document_that_moves_to_another_target_ends_there() {
    let mut browser = tab();
    browser.attached(Some("S"), "S2", "F2", "iframe", true);
    browser.events();
    let request = json!({"requestId": "D", "loaderId": "D", "documentURL": "http://h/done", "frameId": "F2",
        "request": {"url": "http://h/done", "method": "GET", "headers": {}}, "type": "Document"});
    browser.reports(Some("S2"), "Network.requestWillBeSent", request.clone());
    browser.reports(Some("S"), "Network.requestWillBeSent", request);
    browser.detached("S2");
    browser.at(500).answered("S", "D", 200);
    browser.finished("S", "D");
    browser.waits_until(60_000);
    let events = browser.events();
    let starts = events
        .iter()
        .filter(|it| it.event_type.as_str() == "network_request");
    assert_eq!(starts.count(), 1);
    let ends = ends(&events);
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(
        (&ends[0].1["status"], &ends[0].1["target_id"]),
        (&json!(200), &json!("F2"))
    );
}

/// Each target counts only what began in it.
#[test]
fn a_request_that_another_target_redirects_is_counted_once() {
    let mut browser = tab();
    browser.attached(Some("S"), "S2", "F2", "iframe", true);
    browser.request("S2", "D", "D");
    browser.redirected("S", "D", "D", "http://h/old");
    browser.answered("S", "D", 200);
    browser.finished("S", "D");
    assert_eq!(end(&mut browser).1["status"], 200);
    // The frame has nothing in flight any more, and the page counts its own requests as before.
    browser.request("S", "r", "L");
    browser.at(1000).finished("S", "r");
    browser.waits_until(5000);
    let idle = |(name, _): &(String, u64)| name == "network_idle";
    let idle: Vec<_> = browser.emitted().into_iter().filter(idle).collect();
    let at = |ms| ("network_idle".to_owned(), ms);
    assert_eq!(idle, [at(500), at(1500)]);
}

#[test]
fn a_page_that_is_left_ends_its_requests_and_brings_them_back() {
    let mut browser = tab();
    browser.request("S", "r", "L");
    browser.request("S", "soon", "L");
    browser.at(100).navigated("S", "T", "L2", "http://h/2");
    browser.at(200).aborted("S", "soon");
    assert_eq!(end(&mut browser).1["error_text"], "net::ERR_ABORTED");
    browser.waits_until(1100);
    let left = end(&mut browser).1;
    assert_eq!(left["error_text"], "tapline::NAVIGATED_AWAY");
    assert_eq!(left["nav_seq"], 1, "that in which it began");
    browser.at(2000).reports(
        Some("S"),
        "Page.frameNavigated",
        json!({"type": "BackForwardCacheRestore", "frame": {"id": "T", "loaderId": "L", "url": "http://h/"}}),
    );
    assert_eq!(browser.core.held().requests, 1);
    browser.answered("S", "r", 200);
    browser.finished("S", "r");
    assert_eq!(end(&mut browser).1["status"], 200);
}

#[test]
fn phases_and_sizes_come_from_the_browser() {
    let mut browser = tab();
    browser.reports(
        Some("S"),
        "Network.requestWillBeSent",
        json!({"requestId": "r", "loaderId": "L", "documentURL": "http://h/", "timestamp": 100.0, "type": "Image",
            "request": {"url": "http://h/r", "method": "GET", "headers": {}}}),
    );
    browser.reports(
        Some("S"),
        "Network.responseReceived",
        json!({"requestId": "r", "loaderId": "L", "timestamp": 100.05, "response": {
            "url": "http://h/r", "status": 200, "headers": {}, "mimeType": "image/png", "protocol": "h2",
            "remoteIPAddress": "[::1]", "encodedDataLength": 150, "fromDiskCache": false,
            "timing": {"requestTime": 100.002, "dnsStart": 1.0, "dnsEnd": 3.0, "connectStart": 3.0, "connectEnd": 13.0,
                "sslStart": 5.0, "sslEnd": 13.0, "sendStart": 13.5, "sendEnd": 14.0,
                "receiveHeadersStart": 40.0, "receiveHeadersEnd": 40.5}}}),
    );
    browser.reports(
        Some("S"),
        "Network.loadingFinished",
        json!({"requestId": "r", "timestamp": 100.052, "encodedDataLength": 1150}),
    );
    let data = end(&mut browser).1;
    assert_eq!(
        data["timing"],
        json!({"blocked": 3.0, "dns": 2.0, "connect": 10.0, "tls": 8.0, "send": 0.5, "wait": 26.0, "receive": 10.0})
    );
    assert_eq!(
        (&data["duration_ms"], &data["encoded_bytes"]),
        (&json!(52.0), &json!(1150))
    );
    assert_eq!(
        (&data["protocol"], &data["remote_ip"]),
        (&json!("h2"), &json!("::1"))
    );
    assert_eq!(data.get("from_cache"), None);
}

#[test]
fn a_response_from_a_cache_says_from_which() {
    let from = |field: &str, memory: bool| {
        let mut browser = tab();
        browser.request("S", "r", "L");
        if memory {
            browser.reports(
                Some("S"),
                "Network.requestServedFromCache",
                json!({"requestId": "r"}),
            );
        }
        let mut response =
            json!({"url": "http://h/r", "status": 200, "headers": {}, "mimeType": "image/png"});
        response[field] = json!(true);
        browser.reports(
            Some("S"),
            "Network.responseReceived",
            json!({"requestId": "r", "response": response}),
        );
        browser.finished("S", "r");
        end(&mut browser).1["from_cache"].clone()
    };
    assert_eq!(from("", true), "memory");
    assert_eq!(from("fromDiskCache", false), "disk");
    assert_eq!(from("fromPrefetchCache", false), "prefetch");
    assert_eq!(from("fromServiceWorker", false), "service_worker");
    assert_eq!(from("", false), Value::Null);
}

/// A request whose body the browser does not report, and what is emitted of it.
fn posted(length: Option<u64>, answer: Option<Value>) -> (Browser, Vec<Value>) {
    let mut browser = tab();
    match answer {
        Some(answer) => browser.answers("Network.getRequestPostData", answer),
        None => browser.never_answers("Network.getRequestPostData"),
    }
    browser.reports(
        Some("S"),
        "Network.requestWillBeSent",
        json!({"requestId": "r", "loaderId": "L", "documentURL": "http://h/", "type": "Fetch",
            "request": {"url": "http://h/r", "method": "POST", "headers": {}, "hasPostData": true}}),
    );
    if let Some(length) = length {
        browser.reports(
            Some("S"),
            "Network.requestWillBeSentExtraInfo",
            json!({"requestId": "r", "headers": {"Content-Length": length.to_string()}}),
        );
    }
    let emitted = browser.data("network_request");
    (browser, emitted)
}

#[test]
fn an_end_that_comes_before_the_posted_body_waits_for_it() {
    let ended = || {
        let (mut browser, emitted) = posted(Some(10), None);
        assert!(emitted.is_empty());
        browser.at(20).response("S", "r", "image/png");
        browser.finished("S", "r");
        assert!(browser.events().is_empty(), "the start comes first");
        browser
    };
    let types = |browser: &mut Browser| {
        let events = browser.events();
        let end = data_of(&events[1]);
        assert_eq!(end["status"], 200);
        let types = events.iter().map(|it| it.event_type.to_string()).collect();
        let times: Vec<u64> = (events.iter())
            .map(|it| (it.ts - crate::browser::START) / crate::browser::MS)
            .collect();
        assert_eq!(times, [0, 20], "they happened when they happened");
        let body = data_of(&events[0]).get("post_data").cloned();
        (types, body)
    };
    let both: Vec<String> = ["network_request", "network_response"]
        .map(str::to_owned)
        .into();

    let mut browser = ended();
    let asked = browser.commands();
    let fetch = asked
        .iter()
        .find(|it| it.method == "Network.getRequestPostData");
    let id = fetch.unwrap().id;
    browser
        .at(100)
        .sends(&json!({"id": id, "result": {"postData": "note=hello"}}).to_string());
    assert_eq!(
        types(&mut browser),
        (both.clone(), Some(json!("note=hello")))
    );
    assert_eq!(browser.core.held().requests, 0);

    // What is known of the wire comes last.
    let (mut browser, _) = posted(None, Some(json!({"result": {"postData": "note=hello"}})));
    browser.at(20).response("S", "r", "image/png");
    browser.finished("S", "r");
    assert!(browser.events().is_empty(), "the start comes first");
    browser.at(100).reports(
        Some("S"),
        "Network.requestWillBeSentExtraInfo",
        json!({"requestId": "r", "headers": {"Content-Length": "10"}}),
    );
    assert_eq!(
        types(&mut browser),
        (both.clone(), Some(json!("note=hello")))
    );

    // The browser never gives it out, or its target closes meanwhile: the end is the one that was reported.
    let mut browser = ended();
    browser.waits_until(500);
    assert_eq!(types(&mut browser), (both.clone(), None));
    let mut browser = ended();
    browser.at(100).detached("S");
    assert_eq!(types(&mut browser), (both, None));
}

#[test]
fn a_posted_body_is_fetched_or_its_omission_is_marked() {
    let form = "note=hello";
    let (_, emitted) = posted(Some(10), Some(json!({"result": {"postData": form}})));
    assert_eq!(emitted[0]["post_data"], form);
    assert_eq!(
        (
            emitted[0].get("post_data_omitted"),
            emitted[0].get("post_data_bytes")
        ),
        (None, None)
    );

    let long = "y".repeat(70_000);
    let (_, emitted) = posted(Some(70_000), Some(json!({"result": {"postData": long}})));
    assert_eq!(emitted[0]["post_data"].as_str().unwrap().len(), 65_536);
    assert_eq!(emitted[0]["post_data_bytes"], 70_000);

    // A body that is too long to be fetched, one that the browser does not have, and one of unknown length.
    let (browser, emitted) = posted(Some(256 << 20), None);
    assert_eq!(
        (
            &emitted[0]["post_data_omitted"],
            &emitted[0]["post_data_bytes"]
        ),
        (&json!(true), &json!(256 << 20))
    );
    assert_eq!(browser.core.held().commands, 0);
    let (_, emitted) = posted(
        Some(10),
        Some(json!({"error": {"code": -32000, "message": "no"}})),
    );
    assert_eq!(
        (
            &emitted[0]["post_data_omitted"],
            &emitted[0]["post_data_bytes"]
        ),
        (&json!(true), &json!(10))
    );
    let (mut browser, emitted) = posted(None, None);
    assert!(emitted.is_empty());
    browser.waits_until(500);
    let emitted = browser.events();
    assert_eq!(data_of(&emitted[0])["post_data_omitted"], true);
    assert_eq!(
        emitted[0].ts,
        crate::browser::START,
        "it began when it began"
    );
}

#[test]
fn a_web_socket_is_followed_from_its_request_to_its_end() {
    let mut browser = tab();
    let report = |browser: &mut Browser, name: &str, mut params: Value| {
        params["requestId"] = json!("w");
        browser.reports(Some("S"), &format!("Network.webSocket{name}"), params);
    };
    let created = json!({"url": "ws://u:p@h/x", "initiator": {"type": "script"}});
    report(&mut browser, "Created", created.clone());
    report(
        &mut browser,
        "WillSendHandshakeRequest",
        json!({"timestamp": 10.0, "request": {"headers": {"Cookie": "a"}}}),
    );
    report(
        &mut browser,
        "HandshakeResponseReceived",
        json!({"timestamp": 10.5, "response": {"status": 101, "statusText": "Switching Protocols", "headers": {}}}),
    );
    report(
        &mut browser,
        "FrameSent",
        json!({"response": {"opcode": 1, "mask": true, "payloadData": "h\u{e9}"}}),
    );
    report(
        &mut browser,
        "FrameReceived",
        json!({"response": {"opcode": 2, "mask": false, "payloadData": "AAECAw=="}}),
    );
    // It is open for as long as it likes, and does not keep the network busy.
    browser.waits_until(3_600_000);
    report(&mut browser, "Closed", json!({"timestamp": 12.0}));
    let events: Vec<_> = browser.events();
    let of = |name: &str| {
        events
            .iter()
            .filter(|it| it.event_type.as_str() == name)
            .map(data_of)
            .next()
            .unwrap()
    };
    let request = of("network_request");
    assert_eq!(
        (&request["url"], &request["resource_type"]),
        (&json!("ws://*redacted*@h/x"), &json!("WebSocket"))
    );
    assert_eq!(request["headers"]["Cookie"], "*redacted*");
    assert_eq!(
        (
            &of("network_response")["status"],
            &of("network_response")["duration_ms"]
        ),
        (&json!(101), &json!(500.0))
    );
    let closed = of("network_websocket_closed");
    assert_eq!(
        (&closed["messages_sent"], &closed["bytes_sent"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(
        (&closed["messages_received"], &closed["bytes_received"]),
        (&json!(1), &json!(4))
    );
    assert_eq!(
        (&closed["duration_ms"], closed.get("error_text")),
        (&json!(2000.0), None)
    );
    assert!(!format!("{events:?}").contains("AAEC"), "messages stay out");

    report(&mut browser, "Created", created.clone());
    report(
        &mut browser,
        "WillSendHandshakeRequest",
        json!({"timestamp": 10.0, "request": {"headers": {}}}),
    );
    let refused = "Error during WebSocket handshake: Unexpected response code: 404";
    report(
        &mut browser,
        "FrameError",
        json!({"timestamp": 11.0, "errorMessage": refused}),
    );
    report(&mut browser, "Closed", json!({"timestamp": 11.0}));
    let (name, data) = end(&mut browser);
    assert_eq!(name, "network_loading_failed");
    assert_eq!(
        (&data["error_text"], &data["status"]),
        (&json!(refused), &json!(404))
    );

    // One that never got as far as a handshake.
    report(&mut browser, "Created", created);
    browser.detached("S");
    let events = browser.events();
    assert!(
        events
            .iter()
            .any(|it| it.event_type.as_str() == "network_request")
    );
    assert_eq!(ends(&events)[0].1["error_text"], "tapline::TARGET_GONE");
}

#[test]
fn messages_of_a_web_socket_are_emitted_where_that_is_configured() {
    let mut browser = Browser::new(Options {
        websocket_messages: true,
        text_limit: 10,
        redaction: tapline_cdp::Redaction::default()
            .with_query_parameters(["token"])
            .into(),
        ..Options::default()
    });
    browser.tab("S", "T");
    let report = |browser: &mut Browser, name: &str, mut params: Value| {
        params["requestId"] = json!("w");
        browser.reports(Some("S"), &format!("Network.webSocket{name}"), params);
    };
    report(
        &mut browser,
        "Created",
        json!({"url": "ws://h/x", "initiator": {"type": "script"}}),
    );
    let frame = |opcode: u8, data: &str| json!({"response": {"opcode": opcode, "mask": true, "payloadData": data}});
    report(
        &mut browser,
        "FrameSent",
        frame(1, "a message that is long"),
    );
    report(&mut browser, "FrameReceived", frame(1, "token=s3cret"));
    report(&mut browser, "FrameReceived", frame(2, "AAECAw=="));
    let messages = browser.data("network_websocket_message");
    let of = |n: usize| {
        (
            messages[n]["direction"].clone(),
            messages[n]["bytes"].clone(),
            messages[n]["text"].clone(),
        )
    };
    assert_eq!(of(0), (json!("sent"), json!(22), json!("a message ")));
    assert_eq!(of(1), (json!("received"), json!(12), json!("token=*red")));
    assert_eq!(of(2), (json!("received"), json!(4), Value::Null));
    assert_eq!(messages[0]["url"], "ws://h/x");
}

/// What may happen to a request.
#[derive(Debug, Clone, Copy)]
enum Step {
    Sent(u8),
    Redirected(u8),
    Answered(u8, u16),
    Data(u8),
    Finished(u8),
    Aborted(u8),
    Failed(u8),
    Detached,
    Crashed,
    Navigated,
    Restored,
    Waits(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..5_u8;
    prop_oneof![
        4 => id.clone().prop_map(Step::Sent),
        1 => id.clone().prop_map(Step::Redirected),
        4 => (id.clone(), 200..600_u16).prop_map(|(id, status)| Step::Answered(id, status)),
        3 => id.clone().prop_map(Step::Data),
        3 => id.clone().prop_map(Step::Finished),
        2 => id.clone().prop_map(Step::Aborted),
        2 => id.prop_map(Step::Failed),
        1 => Just(Step::Detached),
        1 => Just(Step::Crashed),
        1 => Just(Step::Navigated),
        1 => Just(Step::Restored),
        2 => (1..8000_u64).prop_map(Step::Waits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each request that began has one end, and the status of the server's answer if there was one. Only what
    /// we gave up ourselves may be corrected, and by nothing but an end of the browser's.
    #[test]
    fn every_request_has_one_end_with_the_status_of_its_answer(steps in prop::collection::vec(step(), 1..60)) {
        let mut browser = tab();
        // What the browser said: by request, whether it is running, and the status of its answer.
        let mut running = [false; 5];
        let mut began = [0_usize; 5];
        let mut statuses: [Vec<u16>; 5] = Default::default();
        let (mut tabs, mut restored) = (1, 0);
        let mut ms = 0;
        let (mut session, mut target) = ("S".to_owned(), "T".to_owned());
        let name = |id: u8, began: &[usize; 5]| format!("r{id}.{}", began[usize::from(id)]);
        for step in steps {
            match step {
                Step::Sent(id) if !running[usize::from(id)] => {
                    began[usize::from(id)] += 1;
                    running[usize::from(id)] = true;
                    browser.request(&session, &name(id, &began), "L");
                }
                Step::Redirected(id) if running[usize::from(id)] && statuses[usize::from(id)].len() < began[usize::from(id)] => {
                    browser.redirected(&session, &name(id, &began), "L", "http://h/old");
                }
                Step::Answered(id, status) if running[usize::from(id)] && statuses[usize::from(id)].len() < began[usize::from(id)] => {
                    statuses[usize::from(id)].resize(began[usize::from(id)] - 1, 0);
                    statuses[usize::from(id)].push(status);
                    browser.answered(&session, &name(id, &began), status);
                }
                Step::Data(id) if running[usize::from(id)] => browser.data_received(&session, &name(id, &began), 10),
                Step::Finished(id) | Step::Aborted(id) | Step::Failed(id) if running[usize::from(id)] => {
                    running[usize::from(id)] = false;
                    let name = name(id, &began);
                    match step {
                        Step::Finished(_) => browser.finished(&session, &name),
                        Step::Aborted(_) => browser.aborted(&session, &name),
                        _ => browser.failed(&session, &name),
                    }
                }
                Step::Detached => {
                    browser.detached(&session);
                    running = [false; 5];
                    tabs += 1;
                    (session, target) = (format!("S{tabs}"), format!("T{tabs}"));
                    browser.tab(&session, &target);
                }
                Step::Crashed => {
                    browser.reports(Some(&session), "Inspector.targetCrashed", json!({}));
                    running = [false; 5];
                }
                Step::Navigated => browser.navigated(&session, &target, "L2", "http://h/2"),
                Step::Restored => {
                    restored += 1;
                    browser.reports(Some(&session), "Page.frameNavigated", json!({
                    "type": "BackForwardCacheRestore", "frame": {"id": target, "loaderId": "L", "url": "http://h/"}}));
                }
                Step::Waits(more) => {
                    ms += more;
                    browser.waits_until(ms);
                }
                _ => {}
            }
        }
        browser.waits_until(ms + 1_000_000);
        browser.core.disconnected(browser.now, tapline_oapi::data::DisconnectReason::ConnectionLost);
        browser.settle();
        let events = browser.events();
        for (id, began) in began.iter().enumerate() {
            for n in 1..=*began {
                let name = format!("r{id}.{n}");
                let its: Vec<_> = ends(&events).into_iter().filter(|(_, data)| data["request_id"] == name).collect();
                let (last, given_up) = its.split_last().expect("it has an end");
                for (_, data) in given_up {
                    let why = data["error_text"].as_str().unwrap_or_default();
                    prop_assert!(why.starts_with("tapline::"), "{:?}", its);
                }
                prop_assert!(given_up.len() <= 1 + restored, "{:?}", its);
                if let Some(status) = statuses[id].get(n - 1).filter(|status| **status > 0) {
                    prop_assert_eq!(&last.1["status"], &json!(*status), "{:?}", its);
                }
            }
        }
    }
}
