//! The server stops.

use std::time::Duration;

use serde_json::json;
use tapline_oapi::KnownType;
use tokio::net::TcpStream;

use crate::http::{Connection, get, in_time};
use crate::server::{Server, Setup, running};
use crate::sse::Stream;

#[tokio::test]
async fn streams_get_everything_and_then_bye() {
    let mut server = running().await;
    let addr = server.addr;
    let mut plain = Stream::open(addr, "").await;
    let mut with_notices = Stream::open(addr, "notices=true").await;
    let mut behind = Stream::open(addr, "").await;
    server.fill_to(500);
    assert_eq!(plain.seqs(500).await.len(), 500);
    server.publish(KnownType::PageLoad);
    server.begin_stop();

    let frames = plain.rest().await;
    assert_eq!(frames[0].seq(), 501);
    assert_eq!(
        frames[1].comment(),
        "bye: the server is stopping, the last seq was 501"
    );
    assert_eq!(frames.len(), 2);

    let frames = with_notices.rest().await;
    let seqs: Vec<_> = frames
        .iter()
        .filter(|frame| frame.is_event())
        .map(|frame| frame.seq())
        .collect();
    assert_eq!(seqs, (1..=501).collect::<Vec<_>>());
    let bye = frames.last().unwrap();
    assert_eq!(
        (bye.name(), bye.json()),
        ("bye", json!({"reason": "shutdown", "last_seq": 501}))
    );

    let frames = behind.rest().await;
    assert_eq!(frames.iter().filter(|frame| frame.is_event()).count(), 501);

    server.stopped().await;
    assert_eq!(
        TcpStream::connect(addr).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn without_clients_it_returns_at_once() {
    let mut server = running().await;
    // An idle connection that is kept for later delays nothing.
    let mut kept = Connection::open(server.addr).await;
    assert_eq!(kept.call(&get("/healthz")).await.status(), 200);
    server.begin_stop();
    server.stopped().await;
    assert_eq!(kept.rest().await, b"");
}

/// A stream ends at the head of the moment at which the stop began, or it might never end.
#[tokio::test]
async fn events_published_while_it_stops_are_not_waited_for() {
    let mut server = Setup::default().running().await;
    server.fill_to(3);
    let mut stream = Stream::open(server.addr, "").await;
    assert_eq!(stream.seqs(3).await, [1, 2, 3]);
    server.begin_stop();
    let api = server.api.clone();
    let publisher = tokio::spawn(async move {
        loop {
            let event = tapline_oapi::Event::known(KnownType::PageLoad, None);
            api.publisher().publish(event).unwrap();
            tokio::task::yield_now().await;
        }
    });
    let frames = stream.rest().await;
    assert!(frames.last().unwrap().comment().starts_with("bye"));
    server.stopped().await;
    publisher.abort();
}

/// Far more than a socket holds is still to be sent when the stop begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_behind_is_brought_up_to_the_head_first() {
    // 20 MB through a narrow socket, beside other tests.
    let setup = Setup {
        drain: Duration::from_secs(60),
        ..Setup::default()
    };
    let mut server = setup.running().await;
    let connection = Connection::open_narrow(server.addr).await;
    let mut stream = Stream::over(connection, &get("/telemetry/stream")).await;
    publish_large(&server, 200);
    server.begin_stop();
    assert_eq!(stream.seqs(200).await, (1..=200).collect::<Vec<_>>());
    assert!(
        stream
            .expect()
            .await
            .comment()
            .ends_with("the last seq was 200")
    );
    assert_eq!(stream.next().await, None);
    server.stopped().await;
}

/// Events of 100 KB.
fn publish_large(server: &Server, count: usize) {
    let data = serde_json::value::to_raw_value(&"x".repeat(100_000)).unwrap();
    for _ in 0..count {
        let event = tapline_oapi::Event::known(KnownType::PageLoad, Some(data.clone()));
        server.api.publisher().publish(event).unwrap();
    }
}

/// Who does not read may not keep the server from stopping.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_stuck_is_left_after_the_deadline() {
    let setup = Setup {
        drain: Duration::from_millis(100),
        ..Setup::default()
    };
    let mut server = setup.running().await;
    let connection = Connection::open_narrow(server.addr).await;
    let _stuck = Stream::over(connection, &get("/telemetry/stream")).await;
    publish_large(&server, 300);
    server.begin_stop();
    in_time(server.stopped()).await;
}
