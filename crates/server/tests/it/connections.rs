//! HTTP itself: what stands on one connection.

use tapline_api::Backend as _;
use tapline_oapi::KnownType;

use crate::http::{Connection, get, request};
use crate::server::running;
use crate::sse::Stream;

#[tokio::test]
async fn health_is_reported() {
    let server = running().await;
    let answer = server.call(&get("/healthz")).await;
    assert_eq!(
        (answer.status(), answer.json()),
        (200, serde_json::json!({"status": "ok"}))
    );
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    for target in [
        "/healthz",
        "/telemetry",
        "/telemetry/events",
        "/openapi.json",
    ] {
        let whole = connection.call(&get(target)).await;
        let head = connection.call(&request("HEAD", target)).await;
        assert_eq!(head.status(), 200, "{target}");
        for name in ["content-type", "content-length", "x-epoch"] {
            assert_eq!(head.header(name), whole.header(name), "{target} {name}");
        }
    }
    // Of the stream, too: its end is not waited for.
    let head = connection.call(&request("HEAD", "/telemetry/stream")).await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let head = connection.call(&request("HEAD", "/nothing")).await;
    assert_eq!(head.status(), 404);
    assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    let post = request("POST", "/telemetry/events");
    let requests = [
        get("/healthz"),
        post.clone().json(r#"{"type":"page_load"}"#),
        post.clone().json("[]"),
        post.json(r#"{"type":"page_load"}"#),
        get("/telemetry/events"),
        get("/nothing"),
    ];
    let bytes: Vec<u8> = requests
        .iter()
        .flat_map(|request| request.bytes())
        .collect();
    connection.write(&bytes).await;
    let mut answers = Vec::new();
    for _ in &requests {
        answers.push(connection.answer("GET").await);
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status()).collect();
    assert_eq!(statuses, [200, 200, 400, 200, 200, 404]);
    assert_eq!(
        (&answers[1].json()["seq"], &answers[3].json()["seq"]),
        (&1.into(), &2.into())
    );
    assert_eq!(answers[4].json().as_array().unwrap().len(), 2);
}

/// One byte at a time, as a bad network may deliver it.
#[tokio::test]
async fn a_request_may_come_in_pieces() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    let request = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
    for byte in request.bytes() {
        connection.write(&[byte]).await;
    }
    assert_eq!(connection.answer("POST").await.status(), 200);
    let mut connection = Connection::open(server.addr).await;
    connection
        .write(b"POST /telemetry/events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for chunk in [
        &b"8\r\n{\"type\":\r\n"[..],
        b"c\r\n\"page_load\"}\r\n",
        b"0\r\n\r\n",
    ] {
        connection.write(chunk).await;
    }
    assert_eq!(connection.answer("POST").await.status(), 200);
    assert_eq!(server.api.retained().head, 2);
}

/// Proxies of the older kind speak it: no chunks, and the end of the connection is the end.
#[tokio::test]
async fn http_1_0_gets_its_stream_without_chunks() {
    let mut server = running().await;
    server.publish(KnownType::PageLoad);
    let mut connection = Connection::open(server.addr).await;
    connection
        .write(b"GET /telemetry/stream HTTP/1.0\r\nhost: localhost\r\n\r\n")
        .await;
    let head = connection.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    server.begin_stop();
    let body = String::from_utf8(connection.rest().await).unwrap();
    assert!(body.starts_with("id: 1\ndata: {\"seq\":1,"), "{body}");
    assert!(
        body.ends_with("\n\n: bye: the server is stopping, the last seq was 1\n"),
        "{body}"
    );
}

/// What is no HTTP is nothing that could disturb others.
#[tokio::test]
async fn nonsense_is_cut_off() {
    let server = running().await;
    let mut stream = Stream::open(server.addr, "").await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /telemetry/events HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /telemetry/events HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut connection = Connection::open(server.addr).await;
        connection.write(bytes).await;
        connection.end().await;
        let rest = String::from_utf8_lossy(&connection.rest().await).into_owned();
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
            "{rest}"
        );
        assert_eq!(server.call(&get("/healthz")).await.status(), 200);
    }
    assert_eq!(server.publish(KnownType::PageLoad).seq(), 1);
    assert_eq!(stream.seqs(1).await, [1]);
}
