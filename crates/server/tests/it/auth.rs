//! The token: what needs it, and what is said without it.

use tapline_api::Backend as _;
use tapline_oapi::KnownType;

use crate::http::{Connection, Request, get, request};
use crate::server::{Setup, TOKEN};
use crate::sse::Stream;

/// A request for each route that needs the token.
fn guarded() -> Vec<Request> {
    vec![
        get("/telemetry"),
        request("PUT", "/telemetry"),
        request("PATCH", "/telemetry").json("{}"),
        request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#),
        get("/telemetry/events"),
        get("/telemetry/stream"),
        get("/telemetry/wait?timeout_ms=0"),
        get("/telemetry/readers"),
        request("PATCH", "/telemetry/readers/r1").json("{}"),
        request("POST", "/telemetry/tickets"),
        get("/metrics"),
        request("HEAD", "/telemetry"),
        request("HEAD", "/telemetry/events"),
        request("HEAD", "/telemetry/stream"),
        request("HEAD", "/metrics"),
    ]
}

#[tokio::test]
async fn without_the_token_nothing_is_done_and_nothing_disclosed() {
    let server = Setup::default().guarded().idle().await;
    let mut connection = Connection::open(server.addr).await;
    for request in guarded() {
        let answer = connection.call(&request).await;
        assert_eq!(answer.status(), 401, "{request:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        if !answer.body.is_empty() {
            let error = answer.json();
            assert_eq!(error["code"], "unauthorized", "{request:?}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("`authorization: Bearer …`"), "{message}");
        }
    }
    assert!(server.api.state().is_err());
    assert_eq!(server.api.metrics().ledger.offered().sum(), 0);
}

#[tokio::test]
async fn with_the_token_everything_is_as_without_one() {
    let server = Setup::default().guarded().running().await;
    for request in guarded() {
        let request = request.token(TOKEN);
        let mut connection = Connection::open(server.addr).await;
        connection.write(&request.bytes()).await;
        let status = connection.head().await.status;
        // There is no reader `r1` any more, or not yet.
        let expected = [200, 201, 204, 404];
        assert!(expected.contains(&status), "{status}: {request:?}");
    }
    let mut stream = Stream::ask(server.addr, &get("/telemetry/stream").token(TOKEN)).await;
    let seq = server.publish(KnownType::PageLoad).seq();
    assert_eq!(stream.seqs(seq as usize).await.last(), Some(&seq));
}

#[tokio::test]
async fn probes_the_page_and_what_is_not_there_are_open() {
    let server = Setup::default().guarded().running().await;
    for (method, target, expected) in [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/page/main.js", 200),
        ("GET", "/page/page.css", 200),
        ("GET", "/nothing", 404),
        ("TRACE", "/telemetry", 405),
        ("OPTIONS", "/telemetry", 405),
        ("POST", "/healthz", 405),
    ] {
        let answer = server.call(&request(method, target)).await;
        assert_eq!(answer.status(), expected, "{method} {target}");
        assert_eq!(answer.header("www-authenticate"), None);
        assert_eq!(answer.header("allow").is_some(), expected == 405);
    }
}

#[tokio::test]
async fn only_the_token_itself_will_do() {
    let server = Setup::default().guarded().running().await;
    for value in [
        "Bearer ",
        "Bearer x",
        "Bearer correct-horse-battery-stapl",
        "Bearer correct-horse-battery-staplee",
        "Bearer CORRECT-HORSE-BATTERY-STAPLE",
        "Basic correct-horse-battery-staple",
        "correct-horse-battery-staple",
        "",
    ] {
        let request = get("/telemetry").header("authorization", value);
        let answer = server.call(&request).await;
        assert_eq!(answer.status(), 401, "{value:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(challenge, r#"Bearer error="invalid_token""#, "{value:?}");
        assert!(!answer.text().contains("horse"), "{}", answer.text());
    }
    let twice = get("/telemetry").token(TOKEN).token(TOKEN);
    assert_eq!(server.call(&twice).await.status(), 401);
    let other_case = get("/telemetry").header("authorization", format!("bearer  {TOKEN} "));
    assert_eq!(server.call(&other_case).await.status(), 200);
    // Not in the query, which ends up in logs.
    let query = get(&format!("/telemetry/events?token={TOKEN}"));
    assert_eq!(server.call(&query).await.status(), 401);
}

#[tokio::test]
async fn without_a_token_set_the_header_means_nothing() {
    let server = Setup::default().running().await;
    for value in ["Bearer x", "Basic eDp5"] {
        let request = get("/telemetry").header("authorization", value);
        assert_eq!(server.call(&request).await.status(), 200);
    }
}
