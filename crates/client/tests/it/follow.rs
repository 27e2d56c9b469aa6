use std::fmt::Write as _;
use std::time::Duration;

use tapline_client::{
    Client, Cursor, Error, Follower, LossCause, ProtocolError, Reconnect, Start, StreamItem,
    StreamOptions,
};
use tapline_oapi::{Category, CategorySet, HelloReason};

use crate::scripted::{Answer, Scripted};

/// Short pauses; other tests check their length.
fn options() -> StreamOptions {
    StreamOptions {
        reconnect: Reconnect {
            first: Duration::from_millis(2),
            most: Duration::from_millis(10),
            attempts: None,
        },
        ..StreamOptions::default()
    }
}

fn hello(reason: &str, used: u64, lost: u64, epoch: &str) -> String {
    format!(
        "event: hello\ndata: {{\"used\":{used},\"oldest\":1,\"head\":99,\"epoch\":\"{epoch}\",\"lost\":{lost},\"reason\":\"{reason}\"}}\n\n"
    )
}

fn envelope(seq: u64) -> String {
    format!(
        r#"{{"seq":{seq},"event":{{"ts":1,"type":"page_load","category":"page","source":{{"kind":"cdp"}}}}}}"#
    )
}

fn events(seqs: impl IntoIterator<Item = u64>, epoch: &str) -> String {
    seqs.into_iter().fold(String::new(), |mut text, seq| {
        let _ = write!(text, "id: {seq}-{epoch}\ndata: {}\n\n", envelope(seq));
        text
    })
}

/// One word for each item, to compare a whole stream with.
fn word(item: &StreamItem) -> String {
    match item {
        StreamItem::Event(event) => event.seq().to_string(),
        StreamItem::Lost(loss) => loss.to_string(),
        StreamItem::Hello(hello) => format!("hello {:?} after {}", hello.reason, hello.used),
        StreamItem::Session(_) => "session".to_owned(),
        StreamItem::Beat(_) => "beat".to_owned(),
        StreamItem::Filter(filter) => format!("filter after {}", filter.after),
        StreamItem::Bye(_) => "bye".to_owned(),
        StreamItem::Reconnecting(_) => "reconnecting".to_owned(),
        _ => "?".to_owned(),
    }
}

async fn next(stream: &mut Follower) -> StreamItem {
    tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("an item should arrive")
        .expect("the stream should continue")
        .expect("the stream should not fail")
}

/// Reads as many items as `expected` has, and compares.
#[track_caller]
fn check(stream: &mut Follower, expected: &[&str]) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let mut words = Vec::new();
        for _ in expected {
            words.push(word(&next(stream).await));
        }
        assert_eq!(words, expected, "at {caller}");
    }
}

async fn failure(stream: &mut Follower) -> Error {
    loop {
        let item = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
        match item.expect("an error should arrive") {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                assert!(stream.next().await.is_none(), "an error is the end");
                return error;
            }
            None => panic!("the stream ended without an error"),
        }
    }
}

#[tokio::test]
async fn resumes_after_a_connection_that_broke_within_a_frame() {
    let cut = hello("fresh", 0, 0, "00000000000000e1")
        + &events([1, 2], "00000000000000e1")
        + "id: 3-00000000000000e1\ndata: {\"seq\":3,\"ev";
    let rest = hello("resumed", 2, 0, "00000000000000e1") + &events([3, 4], "00000000000000e1");
    let mut server = Scripted::new([Answer::stream(&cut), Answer::stream(&rest).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(StreamOptions {
        start: Start::Oldest,
        ..options()
    });

    check(
        &mut stream,
        &["hello Fresh after 0", "1", "2", "reconnecting"],
    )
    .await;
    check(&mut stream, &["hello Resumed after 2", "3", "4"]).await;
    assert_eq!(stream.cursor().unwrap().to_string(), "4-00000000000000e1");

    let first = server.request().await;
    assert!(
        first.starts_with("get /telemetry/stream?notices=true&replay=all "),
        "{first}"
    );
    assert!(!first.contains("last-event-id"), "{first}");
    let second = server.request().await;
    assert!(
        second.starts_with("get /telemetry/stream?notices=true http"),
        "{second}"
    );
    assert!(
        second.contains("last-event-id: 2-00000000000000e1\r\n"),
        "{second}"
    );
}

#[tokio::test]
async fn chunks_may_be_cut_anywhere() {
    let frames = format!(
        ": hi\n\n{}{}event: beat\ndata: {{\"head\":9,\"position\":3,\"lag\":6,\"lost\":0}}\n\n",
        hello("fresh", 0, 0, "00000000000000e1"),
        events([1, 2, 3], "00000000000000e1"),
    );
    for size in [1, 2, 3, 7, 64, 1000] {
        let server = Scripted::new([Answer::stream_in_chunks(&frames, size).and_hold()]).await;
        let mut stream = Client::new(&server.url).unwrap().follow(options());
        check(&mut stream, &["hello Fresh after 0", "1", "2", "3", "beat"]).await;
    }
}

#[tokio::test]
async fn an_envelope_is_unchanged() {
    let json = "{\"seq\" : 1,\"event\":{\"ts\":1,\"type\":\"x\",\"category\":\"page\",\"data\":{\"n\":1.50e+3,\"a\":\"ü\\u00fc\"},\"new\":1}}";
    let frames = format!(
        "id: 1-00000000000000e1\ndata: {json}\n\nid: 2-00000000000000e1\ndata: {{\"seq\":2,\ndata: \"x\":  1}}\n\n"
    );
    let server = Scripted::new([Answer::stream(&frames).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());

    let StreamItem::Event(event) = next(&mut stream).await else {
        panic!()
    };
    assert_eq!(event.json(), json);
    assert_eq!(
        event.envelope().unwrap().event.data.unwrap().get(),
        r#"{"n":1.50e+3,"a":"ü\u00fc"}"#
    );
    let StreamItem::Event(event) = next(&mut stream).await else {
        panic!()
    };
    assert_eq!(event.into_json(), "{\"seq\":2,\n\"x\":  1}");
}

#[tokio::test]
async fn the_servers_retry_is_the_first_pause() {
    let frames = "retry: 60\n\n".to_owned() + &events([1], "00000000000000e1");
    let server = Scripted::new([Answer::stream(&frames), Answer::stream("").and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(&mut stream, &["1"]).await;
    let StreamItem::Reconnecting(reconnecting) = next(&mut stream).await else {
        panic!()
    };
    assert!(
        Duration::from_millis(30) <= reconnecting.after
            && reconnecting.after <= Duration::from_millis(60)
    );
    assert_eq!(reconnecting.attempt, 1);
    assert!(
        matches!(reconnecting.cause, Error::Disconnected { .. }),
        "{:?}",
        reconnecting.cause
    );
}

#[tokio::test]
async fn a_bye_sets_the_exact_pause() {
    let frames = events([1], "00000000000000e1")
        + "event: bye\nretry: 37\ndata: {\"reason\":\"shutdown\",\"last_seq\":5}\n\n";
    let mut server = Scripted::new([Answer::stream(&frames), Answer::stream("").and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(&mut stream, &["1", "bye"]).await;
    let StreamItem::Reconnecting(reconnecting) = next(&mut stream).await else {
        panic!()
    };
    assert_eq!(reconnecting.after, Duration::from_millis(37));

    // The position of the bye is used to resume.
    assert_eq!(stream.cursor().unwrap().to_string(), "5-00000000000000e1");
    let waiting = tokio::spawn(async move { stream.next().await.is_none() });
    server.request().await;
    let second = server.request().await;
    assert!(
        second.contains("last-event-id: 5-00000000000000e1\r\n"),
        "{second}"
    );
    waiting.abort();
}

#[tokio::test]
async fn a_gap_is_reported_once_also_across_a_reconnection() {
    let gap = "event: gap\ndata: {\"count\":12,\"matching\":9,\"from\":5,\"to\":16,\"by_category\":{\"page\":9}}\n\n";
    let none = "event: gap\ndata: {\"count\":3,\"matching\":0,\"from\":17,\"to\":19}\n\n";
    let first =
        hello("fresh", 0, 0, "00000000000000e1") + &events([4], "00000000000000e1") + gap + none;
    let second = hello("resumed", 19, 0, "00000000000000e1") + &events([20], "00000000000000e1");
    let mut server =
        Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(StreamOptions {
        categories: CategorySet::of(&[Category::Page]),
        ..options()
    });
    check(
        &mut stream,
        &["hello Fresh after 0", "4", "lost 9 events (5..=16): page 9"],
    )
    .await;
    check(
        &mut stream,
        &["reconnecting", "hello Resumed after 19", "20"],
    )
    .await;
    server.request().await;
    let second = server.request().await;
    assert!(
        second.contains("last-event-id: 19-00000000000000e1\r\n"),
        "{second}"
    );
}

#[tokio::test]
async fn events_that_were_evicted_while_disconnected_are_reported() {
    let first = hello("fresh", 0, 0, "00000000000000e1") + &events([1, 2], "00000000000000e1");
    let second = hello("evicted", 10, 8, "00000000000000e1") + &events([11], "00000000000000e1");
    let server = Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(
        &mut stream,
        &["hello Fresh after 0", "1", "2", "reconnecting"],
    )
    .await;
    check(&mut stream, &["hello Evicted after 10"]).await;
    // The loss was not returned yet: a cursor stored now must not hide it.
    assert_eq!(stream.cursor().unwrap().to_string(), "2-00000000000000e1");
    check(&mut stream, &["lost 8 events (3..=10)", "11"]).await;
}

#[tokio::test]
async fn events_that_were_evicted_before_the_first_event_are_reported() {
    // A cursor of 0 also means "all retained events": a server may report no loss then.
    let first = hello("fresh", 0, 0, "00000000000000e1");
    let second = hello("resumed", 10, 0, "00000000000000e1") + &events([11], "00000000000000e1");
    let server = Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(&mut stream, &["hello Fresh after 0", "reconnecting"]).await;
    check(
        &mut stream,
        &["hello Resumed after 10", "lost 10 events (1..=10)", "11"],
    )
    .await;
}

#[tokio::test]
async fn another_epoch_starts_again_and_is_reported_as_a_loss() {
    let first = hello("fresh", 0, 0, "00000000000000e1") + &events([1, 2, 3], "00000000000000e1");
    let second =
        hello("other_epoch", 0, 0, "00000000000000e2") + &events([1, 2], "00000000000000e2");
    let server = Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(
        &mut stream,
        &["hello Fresh after 0", "1", "2", "3", "reconnecting"],
    )
    .await;
    let lost = "lost an unknown number of events: the server was restarted";
    check(&mut stream, &["hello OtherEpoch after 0", lost, "1", "2"]).await;
    assert_eq!(stream.cursor().unwrap().to_string(), "2-00000000000000e2");
}

#[tokio::test]
async fn an_unusable_cursor_is_reported() {
    for (reason, cause) in [("ahead", LossCause::Ahead), ("invalid", LossCause::Invalid)] {
        let frames = hello(reason, 0, 0, "00000000000000e1") + &events([1], "00000000000000e1");
        let mut server = Scripted::new([Answer::stream(&frames).and_hold()]).await;
        let start = Start::After(Cursor::from(77));
        let mut stream = Client::new(&server.url)
            .unwrap()
            .follow(StreamOptions { start, ..options() });
        let StreamItem::Hello(hello) = next(&mut stream).await else {
            panic!()
        };
        assert!(matches!(
            hello.reason,
            HelloReason::Ahead | HelloReason::Invalid
        ));
        let StreamItem::Lost(loss) = next(&mut stream).await else {
            panic!()
        };
        assert_eq!((loss.cause, loss.lost, loss.seqs), (cause, None, None));
        check(&mut stream, &["1"]).await;
        assert!(server.request().await.contains("&after=77 "));
    }
}

#[tokio::test]
async fn an_event_is_not_delivered_twice() {
    let first = hello("fresh", 0, 0, "00000000000000e1") + &events([1, 2], "00000000000000e1");
    // This server is wrong: it starts again.
    let second =
        hello("resumed", 2, 0, "00000000000000e1") + &events([1, 2, 3, 3], "00000000000000e1");
    let server = Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(
        &mut stream,
        &["hello Fresh after 0", "1", "2", "reconnecting"],
    )
    .await;
    check(&mut stream, &["hello Resumed after 2", "3"]).await;
}

#[tokio::test]
async fn a_hole_in_the_seqs_is_a_loss_only_without_a_filter() {
    let frames = hello("fresh", 0, 0, "00000000000000e1") + &events([1, 5, 6], "00000000000000e1");
    let open = async |options| {
        let server = Scripted::new([Answer::stream(&frames).and_hold()]).await;
        let stream = Client::new(&server.url).unwrap().follow(options);
        (server, stream)
    };
    let (_server, mut all) = open(options()).await;
    let lost = "lost 3 events (2..=4): the server skipped them without a report";
    check(&mut all, &["hello Fresh after 0", "1", lost, "5", "6"]).await;

    let (_server, mut some) = open(StreamOptions {
        types: vec!["page_*".to_owned()],
        ..options()
    })
    .await;
    check(&mut some, &["hello Fresh after 0", "1", "5", "6"]).await;
}

#[tokio::test]
async fn a_plain_server_without_notices_and_epochs_is_supported() {
    let first = format!(
        "data: {}\n\nid: 2\ndata: {}\n\nid: 7\n\n",
        envelope(1),
        envelope(2)
    );
    let second = format!("id: 8\ndata: {}\n\n", envelope(8));
    let mut server =
        Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(&mut stream, &["1", "2", "reconnecting", "8"]).await;
    server.request().await;
    let second = server.request().await;
    assert!(second.contains("last-event-id: 7\r\n"), "{second}");
}

#[tokio::test]
async fn an_unknown_notice_is_ignored() {
    let frames =
        "event: weather\ndata: {\"sunny\":true}\n\n".to_owned() + &events([1], "00000000000000e1");
    let server = Scripted::new([Answer::stream(&frames).and_hold()]).await;
    check(
        &mut Client::new(&server.url).unwrap().follow(options()),
        &["1"],
    )
    .await;
}

#[tokio::test]
async fn the_first_connection_has_to_succeed() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = failure(&mut Client::new(&url).unwrap().follow(options())).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");

    let server = Scripted::new([Answer::json("503 Service Unavailable", "")]).await;
    let error = failure(&mut Client::new(&server.url).unwrap().follow(options())).await;
    assert_eq!(error.status(), Some(503));
}

#[tokio::test]
async fn a_4xx_ends_the_stream_also_after_a_success() {
    let refusal = r#"{"code":"invalid_query","message":"`type`: empty"}"#;
    let server = Scripted::new([Answer::json("400 Bad Request", refusal)]).await;
    let error = failure(&mut Client::new(&server.url).unwrap().follow(options())).await;
    assert_eq!(error.status(), Some(400));

    let answers = [
        Answer::stream(&events([1], "00000000000000e1")),
        Answer::json("404 Not Found", ""),
    ];
    let server = Scripted::new(answers).await;
    let error = failure(&mut Client::new(&server.url).unwrap().follow(options())).await;
    assert_eq!(error.status(), Some(404));
}

#[tokio::test]
async fn a_5xx_after_a_success_is_retried() {
    let answers = [
        Answer::stream(&events([1], "00000000000000e1")),
        Answer::json("503 Service Unavailable", ""),
        Answer::json("429 Too Many Requests", ""),
        Answer::stream(&events([2], "00000000000000e1")).and_hold(),
    ];
    let server = Scripted::new(answers).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(&mut stream, &["1", "reconnecting"]).await;
    for (attempt, status) in [(2, 503), (3, 429)] {
        let StreamItem::Reconnecting(reconnecting) = next(&mut stream).await else {
            panic!()
        };
        assert_eq!(
            (reconnecting.attempt, reconnecting.cause.status()),
            (attempt, Some(status))
        );
    }
    check(&mut stream, &["2"]).await;
}

#[tokio::test]
async fn gives_up_after_the_configured_attempts() {
    let mut options = options();
    options.reconnect.attempts = Some(2);
    let failing = || Answer::json("500 Internal Server Error", "");
    let answers = [
        Answer::stream(&events([1], "00000000000000e1")),
        failing(),
        failing(),
    ];
    let server = Scripted::new(answers).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options);
    check(&mut stream, &["1", "reconnecting", "reconnecting"]).await;
    assert_eq!(failure(&mut stream).await.status(), Some(500));
}

#[tokio::test]
async fn a_hello_alone_does_not_count_as_success() {
    let greeting = || Answer::stream(&hello("fresh", 0, 0, "00000000000000e1"));
    let server = Scripted::new([greeting(), greeting(), greeting()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    for attempt in 1..=3 {
        check(&mut stream, &["hello Fresh after 0"]).await;
        let StreamItem::Reconnecting(reconnecting) = next(&mut stream).await else {
            panic!()
        };
        assert_eq!(reconnecting.attempt, attempt);
    }
}

#[tokio::test]
async fn a_204_ends_the_stream() {
    let server = Scripted::new([Answer::raw("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_silent_connection_counts_as_dead() {
    let first = Answer::stream(&events([1], "00000000000000e1")).and_hold();
    let server = Scripted::new([
        first,
        Answer::stream(&events([2], "00000000000000e1")).and_hold(),
    ])
    .await;
    let mut stream = Client::new(&server.url).unwrap().follow(StreamOptions {
        silence: Duration::from_millis(300),
        ..options()
    });
    check(&mut stream, &["1"]).await;
    let StreamItem::Reconnecting(reconnecting) = next(&mut stream).await else {
        panic!()
    };
    assert!(
        matches!(reconnecting.cause, Error::TimedOut { .. }),
        "{:?}",
        reconnecting.cause
    );
    check(&mut stream, &["2"]).await;
}

#[tokio::test]
async fn another_media_type_is_a_protocol_error() {
    let check = async |answer, matches: fn(&ProtocolError) -> bool| {
        let server = Scripted::new([answer]).await;
        let error = failure(&mut Client::new(&server.url).unwrap().follow(options())).await;
        let Error::Protocol { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(matches(source), "{error:?}");
    };
    check(Answer::json("200 OK", "{}"), |it| {
        matches!(it, ProtocolError::MediaType(_))
    })
    .await;
    check(Answer::stream("data: x\n\n"), |it| {
        matches!(it, ProtocolError::NoSeq)
    })
    .await;
    check(Answer::stream("event: hello\ndata: x\n\n"), |it| {
        matches!(it, ProtocolError::Notice { .. })
    })
    .await;
    check(Answer::stream(&"x".repeat(3_000_000)), |it| {
        matches!(it, ProtocolError::FrameTooLarge(_))
    })
    .await;
}

#[tokio::test]
async fn dropping_next_before_it_ends_loses_nothing() {
    let first = hello("fresh", 0, 0, "00000000000000e1")
        + &events(1..=20, "00000000000000e1")
        + "id: 21-00000000000000e1\nda";
    let second = hello("resumed", 20, 0, "00000000000000e1") + &events(21..=40, "00000000000000e1");
    let answers = [
        Answer::stream_in_chunks(&first, 5),
        Answer::stream_in_chunks(&second, 5).and_hold(),
    ];
    let server = Scripted::new(answers).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    let mut seqs = Vec::new();
    let all = async {
        while seqs.len() < 40 {
            // Polls once, and drops the future if it is not ready.
            tokio::select! {
                biased;
                item = stream.next() => {
                    if let StreamItem::Event(event) = item.unwrap().unwrap() {
                        seqs.push(event.seq());
                    }
                }
                () = tokio::task::yield_now() => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .unwrap();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bye_with_a_final_reason_ends_the_stream() {
    for (reason, is_final) in [
        ("shutdown", false),
        ("failed", false),
        ("stalled", false),
        ("of a newer server", false),
        ("expired", true),
        ("overtaken", true),
        ("complete", true),
    ] {
        let bye =
            format!("event: bye\nretry: 1\ndata: {{\"reason\":\"{reason}\",\"last_seq\":5}}\n\n");
        let frames = events([1], "00000000000000e1") + &bye;
        let server = Scripted::new([
            Answer::stream(&frames).and_hold(),
            Answer::stream("").and_hold(),
        ])
        .await;
        let ended = Scripted::new([Answer::stream(&frames), Answer::stream("").and_hold()]).await;
        // Whether the server closes the connection or not.
        for url in [&server.url, &ended.url] {
            let mut stream = Client::new(url).unwrap().follow(options());
            check(&mut stream, &["1", "bye"]).await;
            assert_eq!(stream.cursor().unwrap().to_string(), "5-00000000000000e1");
            if is_final {
                assert!(stream.next().await.is_none(), "{reason}");
            } else if url == &ended.url {
                check(&mut stream, &["reconnecting"]).await;
            }
        }
    }
}

/// Without a filter a hole is a loss, unless the server said that the connection has a filter now.
#[tokio::test]
async fn events_that_a_changed_filter_skips_are_no_loss() {
    let filter =
        |asked: &str, after: u64| format!("event: filter\ndata: {{{asked}\"after\":{after}}}\n\n");
    let frames = hello("fresh", 0, 0, "00000000000000e1")
        + &events([1, 2], "00000000000000e1")
        + &filter("\"type\":[\"page_*\"],", 4)
        + &events([9], "00000000000000e1")
        + &filter("", 12)
        + &events([13, 15], "00000000000000e1");
    let again = hello("resumed", 15, 0, "00000000000000e1") + &events([16], "00000000000000e1");
    let mut server =
        Scripted::new([Answer::stream(&frames), Answer::stream(&again).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    let lost = "lost 1 event (14..=14): the server skipped them without a report";
    check(
        &mut stream,
        &[
            "hello Fresh after 0",
            "1",
            "2",
            "filter after 4",
            "9",
            "filter after 12",
        ],
    )
    .await;
    assert_eq!(stream.cursor().unwrap().to_string(), "12-00000000000000e1");
    check(&mut stream, &["13", lost, "15", "reconnecting"]).await;
    check(&mut stream, &["hello Resumed after 15", "16"]).await;
    server.request().await;
    let second = server.request().await;
    assert!(
        second.contains("last-event-id: 15-00000000000000e1\r\n"),
        "{second}"
    );
}

#[tokio::test]
async fn the_next_connection_asks_for_the_filter_of_the_options() {
    let first = hello("fresh", 0, 0, "00000000000000e1")
        + "event: filter\ndata: {\"category\":[],\"after\":3}\n\n";
    let second = hello("resumed", 3, 0, "00000000000000e1") + &events([5], "00000000000000e1");
    let server = Scripted::new([Answer::stream(&first), Answer::stream(&second).and_hold()]).await;
    let mut stream = Client::new(&server.url).unwrap().follow(options());
    check(
        &mut stream,
        &["hello Fresh after 0", "filter after 3", "reconnecting"],
    )
    .await;
    let lost = "lost 1 event (4..=4): the server skipped them without a report";
    check(&mut stream, &["hello Resumed after 3", lost, "5"]).await;
}
