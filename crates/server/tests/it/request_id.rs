//! `X-Request-Id`: on every answer, and the client's own where it has one. That an answer has one at all,
//! and that an error has the same in its body, is checked by the client of these tests for every answer.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::http::{Connection, Request, get, request};
use crate::server::{Setup, running};
use crate::sse::Stream;

/// Requests of all kinds, with the status of their answers.
fn requests() -> Vec<(Request, u16)> {
    let post = |body: &str| request("POST", "/telemetry/events").json(body);
    vec![
        (get("/healthz"), 200),
        (request("HEAD", "/healthz"), 200),
        (get("/"), 200),
        (get("/openapi.json"), 200),
        (get("/metrics"), 200),
        (get("/telemetry"), 200),
        (get("/telemetry/readers"), 200),
        (get("/telemetry/events"), 200),
        (get("/telemetry/wait?timeout_ms=0"), 204),
        (post(r#"{"type":"page_load"}"#), 200),
        (post("{"), 400),
        (get("/telemetry/stream?replay=x"), 400),
        (get("/healthz").header("host", "other.example"), 403),
        (get("/nothing"), 404),
        (request("DELETE", "/healthz"), 405),
        (request("PATCH", "/telemetry/readers/r999").json("{}"), 404),
        (
            request("POST", "/telemetry/events")
                .header("content-type", "text/csv")
                .body("x"),
            415,
        ),
        (request("PUT", "/telemetry").json("{}"), 200),
        (request("DELETE", "/telemetry"), 200),
        (request("DELETE", "/telemetry"), 404),
        (post(r#"{"type":"page_load"}"#), 204),
    ]
}

#[tokio::test]
async fn a_clients_own_id_is_kept_on_every_answer() {
    let server = running().await;
    for (n, (request, status)) in requests().into_iter().enumerate() {
        let id = format!("mine-{n}");
        let answer = server.call(&request.header("x-request-id", &id)).await;
        assert_eq!(answer.status(), status, "{n}: {answer:?}");
        assert_eq!(answer.header("x-request-id"), Some(&*id));
    }
    let request = get("/telemetry/stream").header("x-request-id", "mine");
    let stream = Stream::over(Connection::open(server.addr).await, &request).await;
    assert_eq!(stream.head.header("x-request-id"), Some("mine"));
}

#[tokio::test]
async fn without_one_each_request_gets_another_id() {
    let server = running().await;
    let mut ids = BTreeSet::new();
    for (request, _) in requests() {
        // One that is too long is not kept.
        for request in [
            request.clone(),
            request.header("x-request-id", "x".repeat(129)),
        ] {
            let answer = server.call(&request).await;
            let id = answer.header("x-request-id").unwrap();
            assert_eq!(id.len(), 32);
            assert!(ids.insert(id.to_owned()), "{id} was given twice");
        }
    }
    let longest = "x".repeat(128);
    let answer = server
        .call(&get("/healthz").header("x-request-id", &longest))
        .await;
    assert_eq!(answer.header("x-request-id"), Some(&*longest));
}

/// What hyper cannot read is answered by the server itself.
#[tokio::test]
async fn a_request_that_cannot_be_read_gets_an_id_too() {
    let setup = Setup::default().limits(|limits| {
        limits.header_time = Duration::from_millis(50);
        limits.header_bytes = 8192;
    });
    let server = setup.running().await;
    let huge = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    for (bytes, status) in [("nonsense\r\n\r\n", 400), ("GET / HT", 408), (&*huge, 431)] {
        let mut connection = Connection::open(server.addr).await;
        connection.write(bytes.as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.status, status);
        assert_eq!(head.header("x-request-id").map(str::len), Some(32));
    }
}
