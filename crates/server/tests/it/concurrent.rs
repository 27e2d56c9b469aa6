//! Many at once.

use tapline_api::Backend as _;
use tapline_oapi::KnownType;

use crate::http::{Connection, request};
use crate::server::Setup;
use crate::sse::Stream;

const READERS: usize = 20;
const EACH: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_every_seq_once_and_in_order() {
    let server = Setup::default().running().await;
    let total = 2 * EACH;
    let mut readers = Vec::new();
    for n in 0..READERS {
        // Half of them are there before the first event; the others come along.
        let addr = server.addr;
        let query = if n % 2 == 0 { "" } else { "notices=true" };
        let early = if n < READERS / 2 {
            Some(Stream::open(addr, query).await)
        } else {
            None
        };
        readers.push(tokio::spawn(async move {
            let mut stream = match early {
                Some(stream) => stream,
                None => Stream::open(addr, query).await,
            };
            let mut next_of = [0, 0];
            for seq in 1..=total {
                let frame = stream.event().await;
                assert_eq!(frame.seq(), seq);
                let data = &frame.json()["event"]["data"];
                let publisher = data["publisher"].as_u64().unwrap() as usize;
                assert_eq!(
                    data["n"], next_of[publisher],
                    "a publisher's events keep their order"
                );
                next_of[publisher] += 1;
            }
            assert_eq!(next_of, [EACH, EACH]);
        }));
    }
    let mut publishers = Vec::new();
    for publisher in 0..2 {
        let addr = server.addr;
        publishers.push(tokio::spawn(async move {
            let mut connection = Connection::open(addr).await;
            let event = |n: u64| {
                format!(r#"{{"type":"page_load","data":{{"publisher":{publisher},"n":{n}}}}}"#)
            };
            // One sends them one by one, the other in batches.
            let batch = if publisher == 0 { 1 } else { 40 };
            for start in (0..EACH).step_by(batch) {
                let lines: Vec<_> = (start..start + batch as u64).map(event).collect();
                let post = request("POST", "/telemetry/events");
                let request = match &lines[..] {
                    [one] => post.json(one),
                    many => post.lines(many.join("\n")),
                };
                assert_eq!(connection.call(&request).await.status(), 200);
            }
        }));
    }
    for task in publishers.into_iter().chain(readers) {
        task.await.unwrap();
    }
    assert_eq!(server.api.retained().head, total);
}

/// Configurations change while others publish and read: whatever the order, no task is stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_come_and_go_under_load() {
    let server = Setup::default().events(4096).idle().await;
    let mut stream = Stream::open(server.addr, "notices=true&replay=all").await;
    let addr = server.addr;
    let control = tokio::spawn(async move {
        let mut connection = Connection::open(addr).await;
        for _ in 0..50 {
            for (body, status) in [("{}", 201), (r#"{"browser":{}}"#, 200)] {
                let put = request("PUT", "/telemetry").json(body);
                assert_eq!(connection.call(&put).await.status(), status);
            }
        }
    });
    let mut connection = Connection::open(addr).await;
    let post = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
    while !control.is_finished() {
        let status = connection.call(&post).await.status();
        assert!(status == 200 || status == 204, "{status}");
    }
    control.await.unwrap();
    server.call(&request("PUT", "/telemetry")).await;
    let last = server.publish(KnownType::PageLoad).seq();

    // An event carries the id of the session that the notice before it named.
    let (mut session, mut seq) = (serde_json::Value::Null, 0);
    while seq < last {
        let frame = stream.expect().await;
        if frame.name() == "session" {
            let notice = frame.json();
            assert!(notice["after"].as_u64().unwrap() <= seq);
            session = notice["session_id"].clone();
        } else if frame.is_event() {
            seq += 1;
            assert_eq!(frame.seq(), seq);
            let metadata = &frame.json()["event"]["source"]["metadata"];
            assert_eq!(metadata["telemetry_session_id"], session, "seq {seq}");
        }
    }
}
