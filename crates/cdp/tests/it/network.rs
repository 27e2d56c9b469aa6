//! Requests and their ends.

use serde_json::{Value, json};
use tapline_cdp::{Options, Output};
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{Category, CategorySet};

use crate::browser::{Browser, data_of};

fn tab(options: Options) -> Browser {
    let mut browser = Browser::new(options);
    browser.tab("S", "T");
    browser.events();
    browser.commands();
    browser
}

#[test]
fn a_request_and_its_response_have_all_their_fields() {
    let mut browser = tab(Options::default());
    browser.reports(
        Some("S"),
        "Network.requestWillBeSent",
        json!({
            "requestId": "r", "loaderId": "L", "documentURL": "http://h/", "frameId": "F", "type": "Fetch",
            "request": {"url": "http://h/api", "method": "POST", "headers": {"A": "b"}, "postData": "x=1"},
            "initiator": {"type": "script"},
        }),
    );
    browser.at(5).response("S", "r", "application/json");
    browser.at(9).finished("S", "r");
    let emitted = browser.events();
    let context = json!({
        "session_id": "S", "target_id": "T", "target_type": "page", "nav_seq": 0,
        "frame_id": "F", "loader_id": "L",
    });
    let with = |mut own: Value| {
        own.as_object_mut()
            .unwrap()
            .extend(context.as_object().unwrap().clone());
        own
    };
    assert_eq!(
        data_of(&emitted[0]),
        with(json!({
            "url": "http://h/api", "request_id": "r", "method": "POST", "document_url": "http://h/",
            "headers": {"A": "b"}, "initiator_type": "script", "resource_type": "Fetch", "post_data": "x=1",
        }))
    );
    assert_eq!(
        data_of(&emitted[1]),
        with(json!({
            "url": "http://h/r", "request_id": "r", "method": "POST", "status": 200, "status_text": "OK",
            "headers": {"Content-Type": "application/json"}, "mime_type": "application/json",
            "resource_type": "Fetch", "body": "a body", "encoded_bytes": 100,
        }))
    );
    assert_eq!(emitted.len(), 2);
    assert_eq!(emitted[1].ts - emitted[0].ts, 9000);
    assert_eq!(
        emitted[1].source.event.as_deref(),
        Some("Network.loadingFinished")
    );
}

#[test]
fn a_redirect_says_from_where_and_has_one_end() {
    let mut browser = tab(Options::default());
    browser.request("S", "r", "L");
    browser.redirected("S", "r", "L", "http://h/old");
    browser.response("S", "r", "image/png");
    browser.finished("S", "r");
    browser.finished("S", "r");
    let emitted = browser.events();
    let names: Vec<_> = emitted
        .iter()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(
        names,
        ["network_request", "network_request", "network_response"]
    );
    let redirect = data_of(&emitted[1]);
    assert_eq!(redirect["is_redirect"], true);
    assert_eq!(redirect["redirect_url"], "http://h/old");
    assert_eq!(data_of(&emitted[0]).get("is_redirect"), None);
}

#[test]
fn a_failure_has_the_error_text_of_the_browser() {
    let mut browser = tab(Options::default());
    browser.request("S", "r", "L");
    browser.failed("S", "r");
    browser.failed("S", "r");
    let emitted = browser.data("network_loading_failed");
    assert_eq!(emitted.len(), 1);
    assert_eq!(emitted[0]["error_text"], "net::ERR_FAILED");
    assert_eq!(emitted[0]["canceled"], false);
    assert_eq!(emitted[0]["url"], "http://h/r");
}

/// Whether the body of such a response is requested.
fn asks_for_body(mime_type: &str, change: impl FnOnce(&mut Value, &mut Value)) -> bool {
    let mut browser = tab(Options::default());
    browser.request("S", "r", "L");
    let mut response =
        json!({"url": "http://h/", "status": 200, "headers": {}, "mimeType": mime_type});
    let mut finished = json!({"requestId": "r", "encodedDataLength": 100});
    change(&mut response, &mut finished);
    browser.reports(
        Some("S"),
        "Network.responseReceived",
        json!({"requestId": "r", "response": response}),
    );
    browser.reports(Some("S"), "Network.loadingFinished", finished);
    assert_eq!(browser.data("network_response").len(), 1);
    browser.methods().contains(&"Network.getResponseBody")
}

#[test]
fn only_bodies_of_text_are_fetched() {
    assert!(asks_for_body("text/html", |_, _| {}));
    assert!(asks_for_body("application/vnd.api+json", |_, _| {}));
    assert!(!asks_for_body("image/png", |_, _| {}));
    assert!(!asks_for_body("application/octet-stream", |_, _| {}));
    assert!(!asks_for_body("", |_, _| {}));
    assert!(!asks_for_body(
        "text/html",
        |response, _| response["status"] = json!(304)
    ));
    assert!(!asks_for_body(
        "text/plain",
        |_, finished| finished["encodedDataLength"] = json!(5_000_000)
    ));
}

#[test]
fn a_body_is_cut_on_a_character() {
    let mut browser = tab(Options {
        text_limit: 10,
        ..Options::default()
    });
    browser.answers(
        "Network.getResponseBody",
        json!({"result": {"body": "123456789éé", "base64Encoded": false}}),
    );
    browser.request("S", "r", "L");
    browser.response("S", "r", "text/plain");
    browser.finished("S", "r");
    assert_eq!(browser.data("network_response")[0]["body"], "123456789");
}

#[test]
fn a_response_is_emitted_without_a_body_that_does_not_come() {
    let refused =
        json!({"error": {"code": -32000, "message": "No resource with given identifier found"}});
    let encoded = json!({"result": {"body": "AAEC", "base64Encoded": true}});
    for answer in [refused, encoded, json!({"result": 5})] {
        let mut browser = tab(Options::default());
        browser.answers("Network.getResponseBody", answer);
        browser.request("S", "r", "L");
        browser.response("S", "r", "text/plain");
        browser.finished("S", "r");
        let emitted = browser.events();
        assert_eq!(emitted.len(), 2);
        assert_eq!(data_of(&emitted[1]).get("body"), None);
        assert_eq!(browser.core.held().commands, 0);
    }
}

#[test]
fn the_wait_for_a_body_ends() {
    let waits = |end: &dyn Fn(&mut Browser)| {
        let mut browser = tab(Options::default());
        browser.never_answers("Network.getResponseBody");
        browser.request("S", "r", "L");
        browser.response("S", "r", "text/plain");
        browser.at(10).finished("S", "r");
        assert!(browser.data("network_response").is_empty());
        end(&mut browser);
        let emitted = browser.events();
        let response = emitted
            .iter()
            .find(|event| event.event_type.as_str() == "network_response");
        let response = response.expect("emitted without its body");
        assert_eq!(
            response.ts,
            crate::browser::START + 10_000,
            "it ended when it ended"
        );
        assert_eq!(data_of(response).get("body"), None);
        assert_eq!(browser.core.held().commands, 0);
    };
    waits(&|browser| browser.at(15_010).waits());
    waits(&|browser| browser.at(20).detached("S"));
    waits(&|browser| {
        browser
            .at(20)
            .reports(Some("S"), "Inspector.targetCrashed", json!({}));
    });
    waits(&|browser| {
        browser
            .core
            .disconnected(browser.now, DisconnectReason::ChromeRestarted);
        browser.settle();
    });
}

#[test]
fn a_page_requests_the_script_of_its_worker_and_the_worker_ends_it() {
    let mut browser = tab(Options::default());
    browser.request("S", "w", "L");
    browser.attached(Some("S"), "S2", "w", "worker", true);
    browser.response("S2", "w", "text/javascript");
    browser.finished("S2", "w");
    let asked = browser.commands();
    let asked = asked
        .iter()
        .find(|command| command.method == "Network.getResponseBody")
        .unwrap();
    assert_eq!(asked.session.as_deref(), Some("S2"), "there the body is");
    let emitted = browser.data("network_response");
    assert_eq!(
        (&emitted[0]["target_id"], &emitted[0]["body"]),
        (&json!("T"), &json!("a body"))
    );
    assert_eq!(browser.core.held().requests, 0);
}

#[test]
fn a_response_whose_request_was_not_seen_is_emitted_and_so_is_its_failure() {
    let mut browser = tab(Options::default());
    browser.response("S", "r", "image/png");
    browser.finished("S", "r");
    let emitted = browser.data("network_response");
    assert_eq!(
        (&emitted[0]["method"], &emitted[0]["status"]),
        (&json!(""), &json!(200))
    );
    browser.response("S", "r", "image/png");
    browser.data_received("S", "r", 10);
    browser.failed("S", "r");
    assert_eq!(browser.data("network_loading_failed").len(), 1);
    // An end alone gives no event.
    browser.finished("S", "x");
    browser.failed("S", "x");
    assert!(browser.events().is_empty());
}

/// The reasons with which the core itself ends a request.
fn closed(close: impl FnOnce(&mut Browser)) -> Vec<Value> {
    let mut browser = tab(Options::default());
    browser.request("S", "r", "L");
    browser.events();
    close(&mut browser);
    browser.settle();
    let emitted = browser.data("network_loading_failed");
    let why = |data: Value| data["error_text"].clone();
    emitted.into_iter().map(why).collect()
}

#[test]
fn every_request_ends() {
    assert_eq!(closed(|b| b.at(599_999).waits()), Vec::<Value>::new());
    assert_eq!(closed(|b| b.at(600_000).waits()), ["tapline::TOO_OLD"]);
    assert_eq!(closed(|b| b.detached("S")), ["tapline::TARGET_GONE"]);
    assert_eq!(
        closed(|b| b.finished("S", "r")),
        ["tapline::NO_RESPONSE_SEEN"]
    );
    assert_eq!(
        closed(|b| b.reports(Some("S"), "Inspector.targetCrashed", json!({}))),
        ["tapline::TARGET_CRASHED"]
    );
    assert_eq!(
        closed(|b| b.core.disconnected(b.now, DisconnectReason::ConnectionLost)),
        ["tapline::BROWSER_GONE"]
    );
    // An event about it, and its time begins again.
    assert_eq!(
        closed(|b| {
            b.at(599_000).response("S", "r", "video/mp4");
            b.at(1_198_999).waits();
        }),
        Vec::<Value>::new()
    );
}

#[test]
fn beyond_the_limit_the_oldest_open_request_is_given_up() {
    let mut browser = tab(Options::default());
    for n in 0..10_002 {
        browser.request("S", &format!("r{n}"), "L");
    }
    assert_eq!(browser.core.held().requests, 10_000);
    let emitted = browser.data("network_loading_failed");
    let closed: Vec<_> = emitted
        .iter()
        .map(|data| (&data["request_id"], &data["error_text"]))
        .collect();
    let why = json!("tapline::TOO_MANY_REQUESTS");
    assert_eq!(closed, [(&json!("r0"), &why), (&json!("r1"), &why)]);
}

#[test]
fn a_request_that_is_not_captured_any_more_has_no_end_event() {
    let mut browser = tab(Options::default());
    browser.never_answers("Network.getResponseBody");
    browser.request("S", "a", "L");
    browser.request("S", "b", "L");
    browser.response("S", "b", "text/plain");
    browser.finished("S", "b");
    browser.events();
    browser
        .core
        .reconfigure(browser.now, CategorySet::ALL.without(Category::Network));
    browser.settle();
    let held = browser.core.held();
    assert_eq!((held.requests, held.commands, held.timers), (0, 0, 0));
    browser.core.reconfigure(browser.now, CategorySet::ALL);
    browser.finished("S", "a");
    browser.at(60_000).waits();
    assert!(browser.events().is_empty());
}

#[test]
fn a_proxy_error_page_is_emitted_beside_its_response() {
    let mut browser = tab(Options::default());
    browser.request("S", "r", "L");
    let headers = json!({"Proxy-Status": "egress; error=dns_timeout"});
    let response =
        json!({"url": "http://h/", "status": 502, "headers": headers, "mimeType": "image/png"});
    browser.reports(
        Some("S"),
        "Network.responseReceived",
        json!({"requestId": "r", "type": "Document", "response": response}),
    );
    browser.finished("S", "r");
    let emitted = browser.events();
    let names: Vec<_> = emitted
        .iter()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(
        names,
        ["network_request", "proxy_error", "network_response"]
    );
    let error = data_of(&emitted[1]);
    for (field, value) in [
        ("code", json!("dns_timeout")),
        ("raw_code", json!("dns_timeout")),
        ("status", json!(502)),
        ("method", json!("GET")),
        ("resource_type", json!("Document")),
    ] {
        assert_eq!(error[field], value);
    }
}

#[test]
fn headers_beyond_the_limit_have_no_values() {
    let mut browser = tab(Options::default());
    let headers: serde_json::Map<_, _> = (0..100)
        .map(|n| (format!("x-{n:03}"), json!("v".repeat(5000))))
        .collect();
    let request = json!({"url": "http://h/", "method": "GET", "headers": headers});
    browser.reports(
        Some("S"),
        "Network.requestWillBeSent",
        json!({"requestId": "r", "request": request}),
    );
    let emitted = browser.data("network_request").remove(0);
    assert_eq!(emitted["headers"].as_object().unwrap().len(), 100);
    assert_eq!(emitted["headers"]["x-000"].as_str().unwrap().len(), 5000);
    assert_eq!(emitted["headers"]["x-099"], "");
}

#[test]
fn a_data_url_is_emitted_without_its_data() {
    let mut browser = tab(Options::default());
    let url = format!("data:image/png;base64,{}", "A".repeat(100_000));
    let request = json!({"url": url, "method": "GET", "headers": {}});
    let sent = json!({"method": "Network.requestWillBeSent", "sessionId": "S", "params": {"requestId": "r", "request": request}});
    browser.core.message(browser.now, &sent.to_string());
    let Some(Output::Event(event)) = browser.core.poll() else {
        panic!()
    };
    assert_eq!(data_of(&event)["url"].as_str().unwrap().len(), 256);
}

#[test]
fn a_strange_status_does_not_cost_the_response() {
    for (status, expected) in [
        (json!(599), 599),
        (json!(65_536), 65_536),
        (json!(u64::from(u32::MAX) + 1), 0),
        (json!(-1), 0),
        (json!(200.5), 0),
        (json!(1e300), 0),
    ] {
        let mut browser = tab(Options::default());
        browser.request("S", "r", "L");
        let response =
            json!({"url": "http://h/", "status": status, "headers": {}, "mimeType": "image/png"});
        browser.reports(
            Some("S"),
            "Network.responseReceived",
            json!({"requestId": "r", "response": response}),
        );
        browser.finished("S", "r");
        assert_eq!(browser.data("network_response")[0]["status"], expected);
        assert_eq!(browser.core.unreadable(), 0);
    }
}
