//! Secrets in every text that a browser may send, searched for in all events.

use serde_json::{Value, json};
use tapline_cdp::{Options, Redaction};

use crate::browser::Browser;
use crate::recording;

/// It is in no other text of the tests.
const SECRET: &str = "xyzzy7f3a";

fn url(path: &str) -> String {
    format!("http://joe:{SECRET}@h/{path}")
}

/// All events of a browser, with a secret in each text that may contain one.
fn planted() -> Vec<(Option<&'static str>, &'static str, Value)> {
    let headers = json!({
        "Authorization": format!("Bearer {SECRET}"),
        "Cookie": format!("sid={SECRET}"),
        "set-cookie": format!("sid={SECRET}; HttpOnly"),
        "Proxy-Authorization": format!("Basic {SECRET}"),
        "X-API-Key": SECRET,
        "X-Mine": SECRET,
        "Referer": url("from"),
        "Location": url("to"),
        "Link": format!("<{}>; rel=preload", url("font")),
    });
    let json_text = json!({"password": SECRET, "nested": {"card": [SECRET]}, "text": format!("{{\"password\":\"{SECRET}\"}}")}).to_string();
    let frame = json!({"functionName": "f", "scriptId": "1", "url": url("a.js"), "lineNumber": 0, "columnNumber": 0});
    let trace =
        json!({"callFrames": [frame], "parent": {"description": url("t"), "callFrames": [frame]}});
    let string = |text: String| json!({"type": "string", "value": text});
    let request = |id: &str, more: Value| {
        let mut request = json!({
            "requestId": id, "loaderId": "L", "frameId": "F", "type": "Fetch",
            "documentURL": url("doc"),
            "request": {"url": url(&format!("?token={SECRET}#token={SECRET}")), "method": "POST", "headers": headers, "postData": json_text},
            "initiator": {"type": "script", "url": url("i"), "stack": trace},
        });
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        request
    };
    let response = json!({
        "url": url(&format!("?token={SECRET}")), "status": 200, "statusText": format!("see {}", url("status")),
        "headers": headers, "mimeType": "application/json", "requestHeaders": headers, "headersText": SECRET,
    });
    let s = Some("S");
    let binding = |payload: Value| json!({"name": "__tapline", "payload": payload.to_string(), "executionContextId": 2});
    vec![
        (
            None,
            "Target.attachedToTarget",
            json!({"sessionId": "S", "targetInfo": {"targetId": "T", "type": "page", "title": url("title"), "url": url("tab"), "openerId": "O"}, "waitingForDebugger": false}),
        ),
        (
            s,
            "Page.frameNavigated",
            json!({"frame": {"id": "T", "loaderId": "L", "url": url("nav"), "urlFragment": format!("#token={SECRET}")}}),
        ),
        (
            s,
            "Page.frameNavigated",
            json!({"frame": {"id": "F", "parentId": "T", "loaderId": "L", "url": url("frame")}}),
        ),
        (
            s,
            "Page.navigatedWithinDocument",
            json!({"frameId": "T", "url": url("spa")}),
        ),
        (s, "Network.requestWillBeSent", request("a", json!({}))),
        (
            s,
            "Network.requestWillBeSentExtraInfo",
            json!({"requestId": "a", "headers": headers, "associatedCookies": [{"cookie": {"value": SECRET}}]}),
        ),
        (
            s,
            "Network.requestWillBeSent",
            request("a", json!({"redirectResponse": response})),
        ),
        (
            s,
            "Network.responseReceivedExtraInfo",
            json!({"requestId": "a", "headers": headers, "headersText": SECRET}),
        ),
        (
            s,
            "Network.responseReceived",
            json!({"requestId": "a", "loaderId": "L", "type": "Fetch", "response": response}),
        ),
        (
            s,
            "Network.loadingFinished",
            json!({"requestId": "a", "encodedDataLength": 10}),
        ),
        (s, "Network.requestWillBeSent", request("b", json!({}))),
        (
            s,
            "Network.loadingFailed",
            json!({"requestId": "b", "type": "Fetch", "errorText": format!("no way to {}", url("e")), "canceled": false}),
        ),
        // It stays open until the core ends it.
        (s, "Network.requestWillBeSent", request("c", json!({}))),
        (
            s,
            "Network.webSocketWillSendHandshakeRequest",
            json!({"requestId": "w", "request": {"headers": headers}}),
        ),
        (
            s,
            "Runtime.consoleAPICalled",
            json!({"type": "log", "timestamp": 1e15, "stackTrace": trace, "args": [
                string(format!("went to {}, then {}", url("x"), url("y"))),
                string(json_text.clone()),
                string(format!("/cb?token={SECRET}&x=1")),
                string(format!("/login?next=http%3A%2F%2Fjoe%3A{SECRET}%40h%2F")),
                {"type": "object", "description": format!("Error at {}", url("z")), "preview": {"properties": [{"name": "password", "value": SECRET}]}},
            ]}),
        ),
        (
            s,
            "Runtime.consoleAPICalled",
            json!({"type": "error", "timestamp": 1e15, "args": [string(url("err"))]}),
        ),
        (
            s,
            "Runtime.exceptionThrown",
            json!({"timestamp": 1e15, "exceptionDetails": {
                "text": "Uncaught", "lineNumber": 0, "columnNumber": 0, "url": url("throws.js"), "stackTrace": trace,
                "exception": {"type": "object", "description": format!("TypeError: {}\n    at {}", url("q"), url("at"))},
            }}),
        ),
        (
            s,
            "PerformanceTimeline.timelineEventAdded",
            json!({"event": {"frameId": "T", "time": 1e12, "type": "largest-contentful-paint", "lcpDetails": {"renderTime": 1, "loadTime": 1, "size": 1, "url": url("img"), "elementId": url("id")}}}),
        ),
        (
            s,
            "Runtime.bindingCalled",
            binding(
                json!({"kind": "click", "selector": format!("a[href='{}']", url("s")), "tag": "a", "text": url("text")}),
            ),
        ),
        (
            s,
            "Runtime.bindingCalled",
            binding(json!({"kind": "key", "key": "Enter", "selector": url("k"), "tag": "a"})),
        ),
        (
            s,
            "Runtime.bindingCalled",
            binding(json!({"kind": "scroll", "selector": url("scroll")})),
        ),
        (s, "Page.domContentEventFired", json!({"timestamp": 1})),
        (s, "Page.loadEventFired", json!({"timestamp": 1})),
        (s, "Inspector.targetCrashed", json!({})),
    ]
}

fn emitted(redaction: Redaction) -> Vec<String> {
    let mut browser = Browser::new(Options {
        redaction: redaction.into(),
        ..Options::default()
    });
    let body = json!({"password": SECRET, "link": url("in-body")}).to_string();
    browser.answers(
        "Network.getResponseBody",
        json!({"result": {"body": body, "base64Encoded": false}}),
    );
    for (session, method, params) in planted() {
        browser.reports(session, method, params);
    }
    browser.at(60_000).waits();
    assert_eq!(browser.core.unreadable(), 0);
    let events = browser.events();
    events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap())
        .collect()
}

#[test]
fn a_planted_secret_is_found_in_no_event() {
    let redaction = Redaction::default()
        .with_headers(["x-mine"])
        .with_query_parameters(["token"])
        .with_json_fields(["password", "card"]);
    for event in emitted(redaction) {
        assert!(!event.contains(SECRET), "{event}");
    }
}

#[test]
fn by_default_headers_and_userinfo_are_removed() {
    for event in emitted(Redaction::default()) {
        assert!(!event.contains(&format!("joe:{SECRET}")), "{event}");
        for header in ["Bearer ", "Basic ", "sid="] {
            assert!(!event.contains(&format!("{header}{SECRET}")), "{event}");
        }
    }
}

/// Otherwise the test above would see nothing.
#[test]
fn without_redaction_texts_are_unchanged() {
    let emitted = emitted(Redaction::off());
    let all = emitted.concat();
    for secret in ["Bearer ", "Basic ", "sid=", "joe:"] {
        assert!(all.contains(&format!("{secret}{SECRET}")), "{secret}");
    }
    let kinds_with: Vec<_> = emitted
        .iter()
        .filter(|event| event.contains(SECRET))
        .map(|event| {
            serde_json::from_str::<Value>(event).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for kind in [
        "console_log",
        "console_error",
        "network_request",
        "network_response",
        "network_loading_failed",
        "page_navigation",
        "page_tab_opened",
        "page_lcp",
        "page_load",
        "page_crashed",
        "interaction_click",
        "interaction_key",
        "interaction_scroll_settled",
    ] {
        assert!(kinds_with.iter().any(|it| it == kind), "{kind}");
    }
}

#[test]
fn a_secret_at_the_limit_is_not_shown_in_half() {
    for text_limit in 0..120 {
        let mut browser = Browser::new(Options {
            text_limit,
            ..Options::default()
        });
        browser.tab("S", "T");
        browser.logs("S", &format!("some words before {} and after", url("x")));
        let emitted = browser.data("console_log").remove(0).to_string();
        assert!(
            !emitted.contains("joe") && !emitted.contains(&SECRET[..3]),
            "{emitted}"
        );
    }
}

/// The recording contains cookies and a token.
#[test]
fn secrets_of_the_recording_are_not_emitted() {
    let redaction = Redaction::default()
        .with_json_fields(["card"])
        .with_query_parameters(["token"]);
    let mut browser = recording::replayed(Options {
        redaction: redaction.into(),
        ..Options::default()
    });
    let recorded: String = recording::messages()
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    let emitted: String = browser
        .events()
        .iter()
        .map(|event| serde_json::to_string(event).unwrap())
        .collect();
    for secret in [
        "s3cr3t-token",
        "4111111111111111",
        "token=rec",
        "cafc45f614fe913f22d7b930d37da1b2e08f49ca",
    ] {
        assert!(recorded.contains(secret), "{secret}");
        assert!(!emitted.contains(secret), "{secret}");
    }
}
