//! `GET /telemetry/events`: a page and what its headers say. Which events are on it is tested with
//! `tapline-api`.

use serde_json::Value;
use tapline_oapi::KnownType;

use crate::http::{Answer, get};
use crate::server::{Server, Setup, running};

fn seqs(answer: &Answer) -> Vec<u64> {
    let Value::Array(envelopes) = answer.json() else {
        panic!("an array: {answer:?}");
    };
    envelopes
        .iter()
        .map(|envelope| envelope["seq"].as_u64().unwrap())
        .collect()
}

/// The seqs, and has-more, next-offset, head, oldest and lost.
async fn check(server: &Server, query: &str, expected: &[u64], headers: [Option<&str>; 5]) {
    let answer = server
        .call(&get(&format!("/telemetry/events?{query}")))
        .await;
    assert_eq!(answer.status(), 200, "{query}");
    assert_eq!(seqs(&answer), expected, "{query}");
    let names = [
        "x-has-more",
        "x-next-offset",
        "x-head",
        "x-oldest",
        "x-lost",
    ];
    assert_eq!(names.map(|name| answer.header(name)), headers, "{query}");
    assert_eq!(answer.header("x-epoch"), Some(&*server.epoch()));
}

#[tokio::test]
async fn an_empty_page_is_an_empty_array() {
    let server = Setup::default().idle().await;
    let headers = [Some("false"), None, Some("0"), Some("0"), Some("0")];
    check(&server, "", &[], headers).await;
    assert_eq!(server.call(&get("/telemetry/events")).await.text(), "[]");
}

#[tokio::test]
async fn headers_say_how_to_get_the_next_page() {
    let server = Setup::default().events(8).running().await;
    server.fill_to(11);
    server.publish(KnownType::PageLoad);
    let headers = |more, next, lost| [Some(more), next, Some("12"), Some("5"), Some(lost)];
    check(&server, "limit=2", &[5, 6], headers("true", Some("6"), "0")).await;
    check(
        &server,
        "limit=2&offset=6",
        &[7, 8],
        headers("true", Some("8"), "0"),
    )
    .await;
    check(
        &server,
        "limit=4&offset=8",
        &[9, 10, 11, 12],
        headers("false", None, "0"),
    )
    .await;
    check(
        &server,
        "after=2",
        &[5, 6, 7, 8, 9, 10, 11, 12],
        headers("false", None, "2"),
    )
    .await;
    check(
        &server,
        "order=desc&limit=1",
        &[12],
        headers("true", Some("12"), "0"),
    )
    .await;
    check(&server, "category=page", &[12], headers("false", None, "0")).await;
    check(
        &server,
        "type=page_%2A%2Cx&since=5m",
        &[12],
        // Four are gone that may have been of that time and of those types.
        headers("false", None, "4"),
    )
    .await;
    check(
        &server,
        "until=2026-01-01T00%3A00%3A00%2B01%3A00",
        &[],
        headers("false", None, "0"),
    )
    .await;
}

#[tokio::test]
async fn envelopes_are_those_that_were_published() {
    let server = running().await;
    let expected: Vec<_> = [
        KnownType::PageLoad,
        KnownType::ConsoleLog,
        KnownType::NetworkIdle,
    ]
    .map(|known| server.publish(known).json().to_string())
    .into();
    let answer = server.call(&get("/telemetry/events")).await;
    assert_eq!(answer.text(), format!("[{}]", expected.join(",")));
}
