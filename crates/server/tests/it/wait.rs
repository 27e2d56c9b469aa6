//! `GET /telemetry/wait`: the first event after a place that matches.

use std::time::Instant;

use tapline_oapi::KnownType;

use crate::http::{Connection, get, in_time, tcp};
use crate::server::{Server, Setup, running};

/// Waits until a client waits for an event.
async fn until_a_client_waits(server: &Server) {
    in_time(async {
        while server.readers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_published_before_is_found() {
    let server = running().await;
    server.fill_to(3);
    server.publish(KnownType::PageLoad);
    server.fill_to(6);
    for (query, seq) in [
        ("", 1),
        ("after=0", 1),
        ("after=2", 3),
        ("type=page_load", 4),
        ("category=page&after=1", 4),
        ("type=console_*&after=4", 5),
    ] {
        let answer = server.call(&get(&format!("/telemetry/wait?{query}"))).await;
        assert_eq!(answer.status(), 200, "{query}");
        assert_eq!(answer.json()["seq"], seq, "{query}");
        // The next call continues from there.
        let head = answer.header("x-head").unwrap();
        assert_eq!(head, seq.to_string(), "{query}");
        assert_eq!(answer.header("x-epoch"), Some(&*server.epoch()));
        assert_eq!(answer.header("x-lost"), Some("0"));
    }
}

#[tokio::test]
async fn what_comes_later_is_waited_for() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    connection
        .write(&get("/telemetry/wait?type=page_load").bytes())
        .await;
    until_a_client_waits(&server).await;
    let reader = &server.readers().await[0];
    assert_eq!(serde_json::to_value(reader).unwrap()["kind"], "wait");
    server.fill_to(5);
    server.publish(KnownType::PageLoad);
    let answer = connection.answer("GET").await;
    assert_eq!((answer.status(), &answer.json()["seq"]), (200, &6.into()));
    assert_eq!(server.readers().await.len(), 0);
}

#[tokio::test]
async fn nothing_within_the_time_is_an_answer_too() {
    let server = running().await;
    server.fill_to(5);
    for millis in [0, 30] {
        let start = Instant::now();
        let target = format!("/telemetry/wait?category=page&timeout_ms={millis}");
        let answer = server.call(&get(&target)).await;
        assert_eq!((answer.status(), answer.body.len()), (204, 0));
        assert_eq!(answer.header("x-head"), Some("5"), "all was looked at");
        assert!(start.elapsed().as_millis() >= millis);
    }
    let answer = server.call(&get("/telemetry/wait?timeout_ms=300001")).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("timeout_ms"), "{}", answer.text());
}

/// However the call and the event cross, each is found once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_falls_between_two_calls() {
    const EVENTS: u64 = 300;
    let server = running().await;
    let api = server.api.clone();
    let publisher = tokio::spawn(async move {
        for _ in 0..EVENTS {
            for known in [KnownType::ConsoleLog, KnownType::PageLoad] {
                let event = tapline_oapi::Event::known(known, None);
                api.publisher().publish(event).unwrap();
            }
            tokio::task::yield_now().await;
        }
    });
    let mut connection = Connection::open(server.addr).await;
    let mut after = "0".to_owned();
    for n in 1..=EVENTS {
        let target = format!("/telemetry/wait?type=page_load&after={after}");
        let answer = connection.call(&get(&target)).await;
        assert_eq!(
            (answer.status(), &answer.json()["seq"]),
            (200, &(2 * n).into())
        );
        assert_eq!(answer.header("x-lost"), Some("0"));
        after = answer.header("x-head").unwrap().to_owned();
    }
    publisher.await.unwrap();
}

#[tokio::test]
async fn evicted_events_are_reported_as_lost() {
    let server = Setup::default().events(8).running().await;
    server.fill_to(20);
    let answer = server.call(&get("/telemetry/wait?after=2")).await;
    assert_eq!(answer.json()["seq"], 13);
    assert_eq!(answer.header("x-lost"), Some("10"));
    // It is counted, and where the client has to wait, the list of readers has it meanwhile.
    assert_eq!(server.metric("tapline_lost_events_total").await, 10);
    let mut connection = Connection::open(server.addr).await;
    let target = "/telemetry/wait?after=2&type=page_load,console_error";
    connection.write(&get(target).bytes()).await;
    until_a_client_waits(&server).await;
    let reader = &server.readers().await[0];
    // Of the ten that are gone some may have been of these types.
    assert_eq!((reader.position, reader.lost), (20, 10));
    server.publish(KnownType::PageLoad);
    assert_eq!(connection.answer("GET").await.header("x-lost"), Some("10"));
    assert_eq!(server.metric("tapline_lost_events_total").await, 20);
}

/// After a restart of the server its client would act upon an event of long ago.
#[tokio::test]
async fn a_cursor_that_is_no_position_is_never_answered_with_an_event() {
    let server = running().await;
    server.fill_to(2);
    let epoch = server.epoch();
    let ours = format!("3-{epoch}");
    for (after, status) in [
        ("99", 409),
        ("1-ffffffffffffffff", 409),
        (&ours, 409),
        ("abc", 400),
        ("1-", 400),
        ("", 400),
    ] {
        let target = format!("/telemetry/wait?timeout_ms=0&after={after}");
        let answer = server.call(&get(&target)).await;
        assert_eq!(answer.status(), status, "{after}: {answer:?}");
        let body = answer.json();
        if status == 409 {
            assert_eq!(body["code"], "conflict");
            assert_eq!(answer.header("x-head"), Some("2"));
            assert_eq!(answer.header("x-epoch"), Some(&*epoch));
        } else {
            assert_eq!(body["code"], "invalid_query");
        }
        let message = body["message"].as_str().unwrap();
        assert!(message.contains("`after`"), "{message}");
    }
    for (after, status) in [
        ("0", 200),
        ("1", 200),
        (&*format!("1-{epoch}"), 200),
        ("2", 204),
        (&*format!("2-{epoch}"), 204),
    ] {
        let target = format!("/telemetry/wait?timeout_ms=0&after={after}");
        assert_eq!(server.call(&get(&target)).await.status(), status, "{after}");
    }
    assert_eq!(server.readers().await.len(), 0);
}

#[tokio::test]
async fn a_wait_ends_when_its_client_resets_and_when_the_server_stops() {
    let mut server = running().await;
    let socket = tcp(server.addr).await;
    socket.set_zero_linger().unwrap();
    let mut gone = Connection::over(socket);
    gone.write(&get("/telemetry/wait").bytes()).await;
    until_a_client_waits(&server).await;
    drop(gone);
    in_time(async {
        while !server.readers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let mut connection = Connection::open(server.addr).await;
    connection.write(&get("/telemetry/wait").bytes()).await;
    until_a_client_waits(&server).await;
    server.begin_stop();
    let answer = connection.answer("GET").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    server.stopped().await;
}
