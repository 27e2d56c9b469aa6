//! The limits for a peer, and the answers beyond them. `/metrics` counts each.

use std::time::{Duration, Instant};

use serde_json::value::to_raw_value;
use tapline_api::Backend as _;
use tapline_oapi::{Event, KnownType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::http::{Answer, Connection, get, in_time, request, tcp};
use crate::server::{Server, Setup, running};
use crate::sse::Stream;

const SOON: Duration = Duration::from_millis(100);

fn check(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.json()["code"], code);
}

fn closed(reason: &str) -> String {
    format!("tapline_connections_closed_total{{reason=\"{reason}\"}}")
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_however_it_comes() {
    let setup = Setup::default().limits(|limits| limits.body_bytes = 1000);
    let server = setup.running().await;
    let post = request("POST", "/telemetry/events");
    let event = |length: usize| {
        let rest = length - r#"{"type":"page_load","data":""}"#.len();
        format!(r#"{{"type":"page_load","data":"{}"}}"#, "x".repeat(rest))
    };
    let answer = server.call(&post.clone().json(event(1000))).await;
    assert_eq!(answer.status(), 200);
    let answer = server.call(&post.json(event(1001))).await;
    check(&answer, 413, "body_too_large");
    assert!(answer.text().contains("1000 bytes"), "{}", answer.text());

    for (length, expected) in [(1000, 200), (1001, 413)] {
        let mut connection = Connection::open(server.addr).await;
        connection
            .write(b"POST /telemetry/events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for piece in event(length).as_bytes().chunks(300) {
            let chunk = format!(
                "{:x}\r\n{}\r\n",
                piece.len(),
                String::from_utf8_lossy(piece)
            );
            connection.write(chunk.as_bytes()).await;
        }
        connection.write(b"0\r\n\r\n").await;
        assert_eq!(connection.answer("POST").await.status(), expected);
    }
    // A length that is not even begun to be sent.
    let mut connection = Connection::open(server.addr).await;
    connection
        .write(b"POST /telemetry/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n")
        .await;
    check(&connection.answer("POST").await, 413, "body_too_large");
    assert_eq!(server.api.retained().head, 2);
    let counted =
        "tapline_http_requests_total{method=\"POST\",route=\"/telemetry/events\",status=\"413\"}";
    assert_eq!(server.metric(counted).await, 3);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered() {
    let setup = Setup::default().limits(|limits| limits.header_bytes = 10_000);
    let server = setup.running().await;
    let with = |bytes: usize| get("/healthz").header("x-long", "x".repeat(bytes));
    assert_eq!(server.call(&with(9_000)).await.status(), 200);
    let answer = server.call(&with(10_000)).await;
    check(&answer, 431, "header_too_large");
    assert_eq!(answer.header("connection"), Some("close"));
    // One that never ends, too.
    let mut connection = Connection::open(server.addr).await;
    connection
        .write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: ")
        .await;
    connection.write(&[b'x'; 20_000]).await;
    check(&connection.answer("GET").await, 431, "header_too_large");
    server.until_metric(&closed("header_size"), 2).await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_answered() {
    let setup = Setup::default().limits(|limits| limits.header_time = SOON);
    let server = setup.running().await;
    for begun in ["", "GET", "GET /healthz HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut connection = Connection::open(server.addr).await;
        connection.write(begun.as_bytes()).await;
        let answer = connection.answer("GET").await;
        check(&answer, 408, "timeout");
        assert_eq!(connection.rest().await, b"");
    }
    // A byte now and then is no head, and a request before it does not help.
    let mut connection = Connection::open(server.addr).await;
    assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
    connection.write(b"GET /healthz HTTP/1.1\r\n").await;
    check(&connection.answer("GET").await, 408, "timeout");
    server.until_metric(&closed("header_timeout"), 4).await;
}

#[tokio::test]
async fn a_body_that_stalls_is_answered() {
    let setup = Setup::default().limits(|limits| limits.body_time = SOON);
    let server = setup.running().await;
    let begun = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
    let bytes = begun.bytes();
    let mut connection = Connection::open(server.addr).await;
    connection.write(&bytes[..bytes.len() - 1]).await;
    check(&connection.answer("POST").await, 408, "timeout");
    assert_eq!(connection.rest().await, b"");
    server.until_metric(&closed("body_timeout"), 1).await;
    assert_eq!(server.api.retained().head, 0);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_answered_when_its_time_is_over() {
    const TOTAL: Duration = Duration::from_millis(600);
    let setup = Setup::default().limits(|limits| limits.body_total_time = TOTAL);
    let server = setup.running().await;
    let bytes = request("POST", "/telemetry/events")
        .json(r#"{"type":"page_load"}"#)
        .bytes();
    let head = bytes.len() - 20;
    let (mut read, mut write) = tokio::io::split(tcp(server.addr).await);
    in_time(write.write_all(&bytes[..head])).await.unwrap();
    let began = Instant::now();
    let trickle = async {
        let mut pace = tokio::time::interval(TOTAL / 10);
        for byte in &bytes[head..bytes.len() - 1] {
            pace.tick().await;
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = String::new();
    tokio::select! {
        () = trickle => {}
        read = in_time(read.read_to_string(&mut answer)) => { read.unwrap(); }
    }
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("was not complete within 600ms"), "{answer}");
    assert!(began.elapsed() < 3 * TOTAL);
    server.until_metric(&closed("body_timeout"), 1).await;
    assert_eq!(server.api.retained().head, 0);
}

/// A body that keeps moving is not stalled, however long it takes in all.
#[tokio::test]
async fn a_slow_body_that_keeps_moving_is_accepted() {
    let pause = Duration::from_millis(250);
    let setup = Setup::default().limits(|limits| limits.body_time = 2 * pause);
    let server = setup.running().await;
    let bytes = request("POST", "/telemetry/events")
        .json(r#"{"type":"page_load"}"#)
        .bytes();
    let (head, tail) = bytes.split_at(bytes.len() - 4);
    let mut connection = Connection::open(server.addr).await;
    connection.write(head).await;
    let mut pace = tokio::time::interval(pause);
    pace.tick().await;
    for byte in tail {
        pace.tick().await;
        connection.write(&[*byte]).await;
    }
    assert_eq!(connection.answer("POST").await.status(), 200);
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_is_free_again() {
    let setup = Setup::default().limits(|limits| limits.connections = 2);
    let server = setup.running().await;
    let mut one = Connection::open(server.addr).await;
    let mut two = Connection::open(server.addr).await;
    for connection in [&mut one, &mut two] {
        assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
    }
    let answer = server.call(&get("/healthz")).await;
    check(&answer, 503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    let scrape = one.call(&get("/metrics")).await;
    let line = "tapline_refused_total{reason=\"connections\"} 1\n";
    assert!(scrape.text().contains(line));
    drop(two);
    in_time_until_open(&server).await;
}

async fn in_time_until_open(server: &Server) {
    in_time(async { while server.call(&get("/healthz")).await.status() != 200 {} }).await;
}

#[tokio::test]
async fn one_address_may_have_so_many() {
    let setup = Setup::default().limits(|limits| limits.connections_per_address = 1);
    let server = setup.running().await;
    let mut one = Connection::open(server.addr).await;
    assert_eq!(one.call(&get("/healthz")).await.status(), 200);
    let answer = server.call(&get("/healthz")).await;
    check(&answer, 429, "too_many_requests");
    assert!(answer.header("retry-after").is_some());
    let scrape = one.call(&get("/metrics")).await;
    let line = "tapline_refused_total{reason=\"address\"} 1\n";
    assert!(scrape.text().contains(line));
    drop(one);
    in_time_until_open(&server).await;
}

#[tokio::test]
async fn streams_are_bounded_and_others_are_still_answered() {
    let setup = Setup::default().limits(|limits| limits.streams = 2);
    let server = setup.running().await;
    let one = Stream::open(server.addr, "").await;
    let _two = Stream::open(server.addr, "").await;
    let mut connection = Connection::open(server.addr).await;
    let answer = connection.call(&get("/telemetry/stream")).await;
    check(&answer, 503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    // The connection is as good as before.
    assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
    assert_eq!(server.metric("tapline_streams_open").await, 2);
    assert_eq!(
        server
            .metric("tapline_refused_total{reason=\"streams\"}")
            .await,
        1
    );
    drop(one);
    server.until_metric("tapline_streams_open", 1).await;
    let mut three = Stream::open(server.addr, "").await;
    server.publish(KnownType::PageLoad);
    assert_eq!(three.seqs(1).await, [1]);
    server
        .until_metric("tapline_streams_ended_total{reason=\"client\"}", 1)
        .await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let setup = Setup::default().limits(|limits| limits.idle = SOON);
    let server = setup.running().await;
    let mut connection = Connection::open(server.addr).await;
    assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
    assert_eq!(connection.rest().await, b"");
    server.until_metric(&closed("idle"), 1).await;
    // A stream is not idle, however quiet.
    let mut stream = Stream::open(server.addr, "").await;
    let mut other = Connection::open(server.addr).await;
    assert_eq!(other.call(&get("/healthz")).await.status(), 200);
    assert_eq!(other.rest().await, b"");
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.seqs(1).await, [1]);
}

#[tokio::test]
async fn a_connection_carries_so_many_requests() {
    let setup = Setup::default().limits(|limits| limits.requests = 3);
    let server = setup.running().await;
    let mut connection = Connection::open(server.addr).await;
    for n in 1..=3 {
        let answer = connection.call(&get("/healthz")).await;
        assert_eq!(answer.status(), 200);
        let last = (n == 3).then_some("close");
        assert_eq!(answer.header("connection"), last, "{n}");
    }
    assert_eq!(connection.rest().await, b"");
    server.until_metric(&closed("requests"), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_takes_nothing_is_closed() {
    let setup = Setup::default().limits(|limits| limits.stall = SOON);
    let server = setup.running().await;
    let narrow = Connection::open_narrow(server.addr).await;
    let _stalled = Stream::over(narrow, &get("/telemetry/stream")).await;
    let mut other = Stream::open(server.addr, "replay=live").await;
    let data = to_raw_value(&"x".repeat(200_000)).unwrap();
    for _ in 0..100 {
        let event = Event::known(KnownType::ConsoleLog, Some(data.clone()));
        let seq = server.api.publisher().publish(event).unwrap().seq();
        assert_eq!(other.seqs(1).await, [seq]);
    }
    server
        .until_metric("tapline_streams_ended_total{reason=\"stalled\"}", 1)
        .await;
    server.until_metric(&closed("stalled"), 1).await;
    assert_eq!(server.metric("tapline_streams_open").await, 1);
    assert_eq!(server.readers().await.len(), 1);
}

#[tokio::test]
async fn what_is_not_http_is_answered_and_counted() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    connection.write(b"NOT HTTP AT ALL\r\n\r\n").await;
    check(&connection.answer("GET").await, 400, "bad_request");
    server.until_metric(&closed("parse"), 1).await;
}
