//! The server's own calls as `platform_api_call` events.

use serde_json::json;
use tapline_api::Backend as _;

use crate::http::{Request, get, request};
use crate::server::{Server, Setup, TOKEN, running};
use crate::sse::Stream;

/// The event that this call left, which has to be the next one.
async fn check_event_of(server: &Server, stream: &mut Stream, request: Request, operation: &str) {
    let answer = server.call(&request.header("x-request-id", "r-7")).await;
    assert_eq!(answer.header("x-request-id"), Some("r-7"));
    let event = &stream.event().await.json()["event"];
    assert_eq!(event["type"], "platform_api_call");
    assert_eq!(event["category"], "platform");
    assert_eq!(event["source"]["kind"], "kernel_api");
    let data = &event["data"];
    assert_eq!(data["request_id"], "r-7");
    assert_eq!(data["operation_id"], operation);
    assert_eq!(data["status"], answer.status(), "{operation}");
    // Milliseconds, with a fraction.
    let duration = data["duration_ms"].as_f64().unwrap();
    assert!((0.0..60_000.0).contains(&duration), "{duration}");
}

#[tokio::test]
async fn calls_that_change_something_are_events() {
    let server = running().await;
    let mut stream = Stream::open(server.addr, "category=platform").await;
    let id = stream.head.header("x-reader-id").unwrap().to_owned();
    let check = async |stream: &mut Stream, method, target: &str, body, operation| {
        let request = request(method, target).json(body);
        check_event_of(&server, stream, request, operation).await;
    };
    let reader = format!("/telemetry/readers/{id}");
    check(&mut stream, "PUT", "/telemetry", "{}", "put_telemetry").await;
    check(&mut stream, "PATCH", "/telemetry", "{}", "patch_telemetry").await;
    check(&mut stream, "PATCH", &reader, "{}", "patch_reader").await;
    check(
        &mut stream,
        "POST",
        "/telemetry/tickets",
        "{}",
        "create_ticket",
    )
    .await;
    // Those that failed, too.
    check(&mut stream, "PUT", "/telemetry", "[", "put_telemetry").await;
    check(
        &mut stream,
        "PATCH",
        "/telemetry/readers/r0",
        "{}",
        "patch_reader",
    )
    .await;
}

#[tokio::test]
async fn calls_that_read_and_publish_are_not() {
    let server = running().await;
    for target in [
        "/telemetry",
        "/telemetry/events",
        "/telemetry/readers",
        "/telemetry/wait?timeout_ms=0",
        "/metrics",
        "/healthz",
        "/nothing",
    ] {
        let answer = server.call(&get(target)).await;
        assert_eq!(answer.header("x-request-id").unwrap().len(), 32, "{target}");
    }
    let post = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
    assert_eq!(server.call(&post).await.json()["seq"], 1);
    assert_eq!(server.api.retained().head, 1);
}

#[tokio::test]
async fn a_session_has_no_event_of_its_own_beginning_or_end() {
    let server = running().await;
    server.api.delete().await.unwrap();
    let put = request("PUT", "/telemetry");
    let answer = server.call(&put).await;
    assert_eq!(answer.status(), 201);
    // Without an id of the client, the server makes one.
    assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
    let clear = put.json(json!({"browser": {}}).to_string());
    assert_eq!(server.call(&clear).await.status(), 200);
    // Where the category is not captured it is not offered either.
    let pages = json!({"browser": {"page": {"enabled": true}}}).to_string();
    let put = request("PUT", "/telemetry");
    server.call(&put.clone().json(&pages)).await;
    assert_eq!(server.call(&put.json(&pages)).await.status(), 200);
    assert_eq!(server.api.retained().head, 0);
    assert_eq!(server.api.metrics().ledger.offered().sum(), 0);
}

/// Otherwise every client could put events into the stream, and evict those of others.
#[tokio::test]
async fn a_call_that_is_refused_leaves_no_event() {
    let server = Setup::default().guarded().running().await;
    for (method, target) in [
        ("PUT", "/telemetry"),
        ("PATCH", "/telemetry"),
        ("DELETE", "/telemetry"),
        ("PATCH", "/telemetry/readers/r1"),
        ("POST", "/telemetry/tickets"),
    ] {
        let request = request(method, target).json("{}");
        assert_eq!(server.call(&request).await.status(), 401);
        let foreign = request
            .token(TOKEN)
            .header("origin", "https://other.example");
        assert_eq!(server.call(&foreign).await.status(), 403);
    }
    assert_eq!(server.api.retained().head, 0);
}

/// A trace is kept in what follows from the request: an event, each line of a batch, and the event of a call.
#[tokio::test]
async fn the_trace_of_a_request_is_kept() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    let server = running().await;
    let mut stream = Stream::open(server.addr, "").await;
    let line = r#"{"type":"step","category":"control","source":{"kind":"extension","metadata":{"a":"b","trace_id":"mine"}}}"#;
    let lines = format!("{line}\n{{\"type\":\"step\",\"category\":\"control\"}}\n");
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    for (traceparent, is_kept) in [(&*traceparent, true), ("00-0-0-01", false)] {
        for (request, kinds) in [
            (
                request("POST", "/telemetry/events").json(line),
                &["extension"][..],
            ),
            (
                request("POST", "/telemetry/events")
                    .header("content-type", "application/x-ndjson")
                    .body(&lines),
                &["extension", "local_process"],
            ),
            (request("PUT", "/telemetry").json("{}"), &["kernel_api"]),
        ] {
            let answer = server
                .call(&request.header("traceparent", traceparent))
                .await;
            assert_eq!(answer.status(), 200);
            for kind in kinds {
                let envelope = stream.event().await.json();
                let source = &envelope["event"]["source"];
                assert_eq!(source["kind"], *kind);
                let mine = (*kind == "extension").then_some("mine");
                let of = |name: &str| source["metadata"][name].as_str();
                if is_kept {
                    assert_eq!((of("trace_id"), of("span_id")), (Some(TRACE), Some(SPAN)));
                } else {
                    assert_eq!((of("trace_id"), of("span_id")), (mine, None));
                }
            }
        }
    }
}
