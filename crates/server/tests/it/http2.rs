//! HTTP/2, with a client of its own: prior knowledge over a plain connection, and ALPN over TLS.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Method, Request, Version};
use tapline_api::Backend as _;
use tapline_oapi::KnownType;

use crate::http::{in_time, tcp};
use crate::server::{Server, Setup, running};

const EVENT: &str = r#"{"type":"x","category":"page"}"#;

/// A connection; its own task ends with it.
struct Client(SendRequest<Bytes>);

impl Client {
    async fn open(server: &Server) -> Self {
        // A stream that is not read takes of it what its own window has.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let (client, connection) = in_time(builder.handshake(tcp(server.addr).await))
            .await
            .unwrap();
        tokio::spawn(async move {
            // How it ends is seen by what is sent over it.
            let _ = connection.await;
        });
        Self(client)
    }

    async fn send(&mut self, method: Method, target: &str, body: &str) -> ResponseFuture {
        poll_fn(|cx| self.0.poll_ready(cx)).await.unwrap();
        let request = Request::builder()
            .version(Version::HTTP_2)
            .method(method)
            .uri(format!("http://localhost{target}"))
            .body(())
            .unwrap();
        let (answer, mut send) = self.0.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            send.send_data(Bytes::copy_from_slice(body.as_bytes()), true)
                .unwrap();
        }
        answer
    }

    /// The status and the body.
    async fn call(&mut self, method: Method, target: &str, body: &str) -> (u16, String) {
        let answer = self.send(method, target, body).await;
        let answer = in_time(answer).await.unwrap();
        assert!(answer.headers().contains_key("x-request-id"));
        let status = answer.status().as_u16();
        let mut text = String::new();
        let mut body = answer.into_body();
        while read(&mut body, &mut text).await {}
        (status, text)
    }

    /// An open stream.
    async fn stream(&mut self, query: &str) -> RecvStream {
        let target = format!("/telemetry/stream?{query}");
        let answer = self.send(Method::GET, &target, "").await;
        let answer = in_time(answer).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(!answer.headers().contains_key("transfer-encoding"));
        answer.into_body()
    }
}

/// Appends what has come; false at the end.
async fn read(body: &mut RecvStream, text: &mut String) -> bool {
    let Some(piece) = in_time(body.data()).await else {
        return false;
    };
    let piece = piece.unwrap();
    text.push_str(std::str::from_utf8(&piece).unwrap());
    body.flow_control().release_capacity(piece.len()).unwrap();
    true
}

async fn read_until(body: &mut RecvStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        assert!(read(body, &mut text).await, "it ended: {text}");
    }
    text
}

#[tokio::test]
async fn requests_are_answered_as_over_http_1_1() {
    let server = running().await;
    let mut client = Client::open(&server).await;
    let (status, envelope) = client.call(Method::POST, "/telemetry/events", EVENT).await;
    assert_eq!(status, 200);
    assert!(envelope.starts_with(r#"{"seq":1,"#), "{envelope}");
    let (status, page) = client.call(Method::GET, "/telemetry/events", "").await;
    assert_eq!((status, page), (200, format!("[{envelope}]")));
    let (status, _) = client.call(Method::DELETE, "/healthz", "").await;
    assert_eq!(status, 405);
    let (status, error) = client.call(Method::GET, "/nothing", "").await;
    assert_eq!(status, 404);
    assert!(error.contains("not_found"), "{error}");
}

/// More than the six that a browser opens over HTTP/1.1, and requests beside them.
#[tokio::test]
async fn many_streams_share_a_connection() {
    let mut server = running().await;
    let mut client = Client::open(&server).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(client.stream("replay=live").await);
    }
    assert_eq!(server.metric("tapline_connections_open").await, 2);
    for n in 1..=3 {
        let (status, _) = client.call(Method::POST, "/telemetry/events", EVENT).await;
        assert_eq!(status, 200);
        for stream in &mut streams {
            let text = read_until(stream, "\n\n").await;
            assert!(
                text.starts_with(&format!("id: {n}\ndata: {{\"seq\":{n},")),
                "{text}"
            );
        }
    }
    // A stream that its client resets leaves, and the others stay.
    drop(streams.split_off(10));
    server.until_metric("tapline_streams_open", 10).await;
    server.begin_stop();
    for stream in &mut streams {
        let text = read_until(
            stream,
            ": bye: the server is stopping, the last seq was 3\n",
        )
        .await;
        let mut rest = text;
        while read(stream, &mut rest).await {}
    }
    server.stopped().await;
}

/// It lags in the ring, as a stream over HTTP/1.1 does, and other streams of its connection are not held up.
#[tokio::test]
async fn a_stream_that_is_not_read_lags_and_the_others_continue() {
    const EVENTS: u64 = 2000;
    let server = Setup::default().events(16).running().await;
    let mut client = Client::open(&server).await;
    let mut unread = client.stream("replay=live").await;
    let mut read_one = client.stream("replay=live").await;
    let data = format!(
        r#"{{"type":"x","category":"page","data":"{}"}}"#,
        "z".repeat(1000)
    );
    for n in 1..=EVENTS {
        let (status, _) = client.call(Method::POST, "/telemetry/events", &data).await;
        assert_eq!(status, 200);
        read_until(&mut read_one, &format!("{{\"seq\":{n},")).await;
    }
    let text = read_until(&mut unread, &format!("{{\"seq\":{EVENTS},")).await;
    assert!(text.contains("\n: gap: "), "no gap was reported");
}

#[tokio::test]
async fn a_wait_whose_request_is_reset_ends() {
    let server = running().await;
    let mut client = Client::open(&server).await;
    let wait = client.send(Method::GET, "/telemetry/wait", "").await;
    in_time(async {
        while server.readers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(wait);
    in_time(async {
        while !server.readers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_host_is_checked_and_bodies_are_bounded() {
    let server = Setup::default()
        .limits(|limits| {
            limits.body_bytes = 1000;
            limits.body_total_time = Duration::from_millis(200);
        })
        .running()
        .await;
    let mut client = Client::open(&server).await;
    let request = Request::get("http://evil.example/healthz")
        .body(())
        .unwrap();
    let (answer, _) = client.0.send_request(request, true).unwrap();
    assert_eq!(in_time(answer).await.unwrap().status(), 403);

    let (status, _) = client
        .call(Method::POST, "/telemetry/events", &"x".repeat(1001))
        .await;
    assert_eq!(status, 413);
    // A body that does not come to its end.
    let request = Request::post("http://localhost/telemetry/events")
        .body(())
        .unwrap();
    let (answer, _body) = client.0.send_request(request, false).unwrap();
    assert_eq!(in_time(answer).await.unwrap().status(), 408);
    assert_eq!(server.api.retained().head, 0);
    server.publish(KnownType::PageLoad);
    let (status, _) = client.call(Method::GET, "/healthz", "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let setup = Setup::default().limits(|limits| limits.idle = Duration::from_millis(100));
    let server = setup.running().await;
    let mut client = Client::open(&server).await;
    assert_eq!(client.call(Method::GET, "/healthz", "").await.0, 200);
    let closed = r#"tapline_connections_closed_total{reason="idle"}"#;
    in_time(async {
        while server.metric(closed).await < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
