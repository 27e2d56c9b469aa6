//! `GET /telemetry/stream`: where it begins, and which events are on it.

use tapline_oapi::{ConfigRequest, KnownType};

use crate::server::{Server, Setup, running};
use crate::sse::Stream;

#[tokio::test]
async fn headers_keep_proxies_from_holding_it_back() {
    let server = running().await;
    let stream = Stream::open(server.addr, "").await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("x-sse-content-type", "application/json"),
        ("x-accel-buffering", "no"),
        ("content-length", ""),
    ] {
        assert_eq!(stream.head.header(name).unwrap_or_default(), value);
    }
    let caching = stream.head.header("cache-control").unwrap();
    assert!(
        caching.contains("no-store") && caching.contains("no-transform"),
        "{caching}"
    );
}

#[tokio::test]
async fn an_event_is_a_frame_of_id_and_data() {
    let server = running().await;
    let mut stream = Stream::open(server.addr, "").await;
    for n in 1..=3 {
        let envelope = server.publish(KnownType::PageLoad);
        let frame = stream.expect().await;
        assert_eq!(frame.id, Some(n.to_string()));
        assert_eq!(frame.data, Some(envelope.json().to_string()));
        assert_eq!(
            (frame.event, frame.retry, frame.comments),
            (None, None, vec![])
        );
    }
}

/// All that comes now; then one more event, to see that nothing else would have.
async fn check(server: &Server, query: &str, expected: impl IntoIterator<Item = u64>) {
    let mut stream = Stream::open(server.addr, query).await;
    let next = server.publish(KnownType::SystemOomKill).seq();
    let expected: Vec<_> = expected.into_iter().chain([next]).collect();
    let got: Vec<_> = stream.seqs(expected.len()).await;
    assert_eq!(got, expected, "{query}");
}

#[tokio::test]
async fn it_begins_at_the_session_unless_the_query_says_otherwise() {
    let server = running().await;
    server.fill_to(3);
    check(&server, "", 1..=3).await; // publishes 4
    check(&server, "replay=all", 1..=4).await;
    check(&server, "replay=live", []).await;
    check(&server, "after=4", 5..=6).await;
    check(&server, &format!("after=4-{}", server.epoch()), 5..=7).await;
    check(&server, "after=6&replay=live", 7..=8).await;

    server.api.delete().await.unwrap();
    let mut stream = Stream::open(server.addr, "").await;
    server.api.put(&ConfigRequest::default()).await.unwrap();
    check(&server, "", []).await; // publishes 10
    assert_eq!(
        stream.seqs(1).await,
        [10],
        "who came between sessions sees the next one"
    );
    check(&server, "", [10]).await;
    check(&server, "replay=all", 1..=11).await;
}

#[tokio::test]
async fn last_event_id_resumes_and_wins() {
    let server = running().await;
    server.fill_to(6);
    for (query, last, first) in [
        ("", "4".to_owned(), 5),
        ("", format!("4-{}", server.epoch()), 5),
        ("after=1", "5".to_owned(), 6),
        ("replay=live", "0".to_owned(), 1),
        // An empty one is none, as browsers send it.
        ("after=2", String::new(), 3),
    ] {
        let mut stream = Stream::resume(server.addr, query, &last).await;
        let expected: Vec<_> = (first..=6).collect();
        assert_eq!(
            stream.seqs(expected.len()).await,
            expected,
            "{query} {last}"
        );
    }
}

/// Never silence, never a wait for a seq that may not come: it starts at the oldest, and says so.
#[tokio::test]
async fn a_bad_cursor_starts_at_the_oldest_and_says_so() {
    let server = Setup::default().events(8).running().await;
    server.fill_to(20);
    for (last, comment) in [
        (
            &b"5"[..],
            "gap: 7 lost before this stream began, seq 6 to 12",
        ),
        (
            b"21",
            "the cursor is ahead of the newest event: reading continues at the oldest event retained, seq 13",
        ),
        (
            b"18446744073709551615",
            "the cursor is ahead of the newest event: reading continues at the oldest event retained, seq 13",
        ),
        (
            b"15-0123456789abcdef",
            "the cursor is from before a restart: reading continues at the oldest event retained, seq 13",
        ),
        (
            b"garbage",
            "the cursor cannot be read: reading continues at the oldest event retained, seq 13",
        ),
        (
            b"-1",
            "the cursor cannot be read: reading continues at the oldest event retained, seq 13",
        ),
        (
            b"\xff\xfe",
            "the cursor cannot be read: reading continues at the oldest event retained, seq 13",
        ),
    ] {
        let mut stream = Stream::resume(server.addr, "", last).await;
        assert_eq!(stream.comment().await, comment);
        assert_eq!(
            stream.seqs(8).await,
            (13..=20).collect::<Vec<_>>(),
            "{comment}"
        );
    }
    // Of a category it is known how many they were; of a type not any more.
    for (filter, lost) in [("category=console", "7"), ("type=console_*", "at most 7")] {
        let mut stream = Stream::open(server.addr, &format!("after=5&{filter}")).await;
        let gap = format!("gap: {lost} lost before this stream began, seq 6 to 12");
        assert_eq!(stream.comment().await, gap);
    }
    let mut stream = Stream::open(server.addr, "after=garbage").await;
    assert!(
        stream
            .expect()
            .await
            .comment()
            .starts_with("the cursor cannot be read")
    );
    assert_eq!(stream.seqs(1).await, [13]);
}

#[tokio::test]
async fn filters_hold_and_ids_stay_the_real_seqs() {
    let server = running().await;
    for known in [
        KnownType::PageLoad,
        KnownType::PageLcp,
        KnownType::ConsoleLog,
        KnownType::NetworkIdle,
        KnownType::NetworkRequest,
    ] {
        server.publish(known);
    }
    // One that is always asked for comes last: nothing else came before it.
    for (query, last, expected) in [
        ("category=page", KnownType::PageLoad, &[1, 2][..]),
        ("category=page,console", KnownType::PageLoad, &[1, 2, 3]),
        ("category=page%2Cconsole", KnownType::PageLoad, &[1, 2, 3]),
        (
            "category=page&category=console",
            KnownType::PageLoad,
            &[1, 2, 3],
        ),
        ("category=system", KnownType::SystemOomKill, &[]),
        ("type=page_load", KnownType::PageLoad, &[1]),
        ("type=page_*,network_idle", KnownType::PageLcp, &[1, 2, 4]),
        (
            "type=page_%2A&type=network_idle",
            KnownType::PageLcp,
            &[1, 2, 4],
        ),
        ("type=*_l*", KnownType::ConsoleLog, &[1, 2, 3]),
        (
            "category=network&type=*_idle,page_load",
            KnownType::NetworkIdle,
            &[4],
        ),
    ] {
        let mut stream = Stream::open(server.addr, &format!("after=0&{query}")).await;
        assert_eq!(stream.seqs(expected.len()).await, expected, "{query}");
        let mut live = Stream::open(server.addr, &format!("replay=live&{query}")).await;
        server.publish(KnownType::CdpConnect);
        let last = server.publish(last).seq();
        assert_eq!(live.expect().await.seq(), last, "{query}");
    }
}

/// Polyfills of `EventSource` resume with the query, since a header would need a preflight.
#[tokio::test]
async fn a_polyfill_resumes_with_its_query() {
    let server = running().await;
    server.fill_to(5);
    for query in [
        "lastEventId=3",
        "replay=live&lastEventId=3",
        "after=1&lastEventId=3",
        "lastEventId=2&lastEventId=3",
    ] {
        let mut stream = Stream::open(server.addr, query).await;
        assert_eq!(stream.seqs(2).await, [4, 5], "{query}");
    }
    // The header is the browser's own.
    let mut stream = Stream::resume(server.addr, "lastEventId=1", "4").await;
    assert_eq!(stream.seqs(1).await, [5]);
}

/// A client without notices has the epoch from the answer, and ids that have none.
#[tokio::test]
async fn a_plain_client_can_see_that_the_server_was_restarted() {
    let server = running().await;
    server.fill_to(5);
    for (last, is_bare) in [(None, false), (Some("3"), true), (Some("0"), false)] {
        let mut stream = match last {
            None => Stream::open(server.addr, "replay=all").await,
            Some(last) => Stream::resume(server.addr, "", last).await,
        };
        assert_eq!(stream.head.header("x-epoch"), Some(&*server.epoch()));
        let first = stream.expect().await;
        if is_bare {
            let comment = format!("epoch {}: the cursor has no epoch, ", server.epoch());
            assert!(first.comment().starts_with(&comment), "{first:?}");
        } else {
            assert_eq!(first.seq(), 1);
        }
    }
    let mut resumed = Stream::resume(server.addr, "", format!("4-{}", server.epoch())).await;
    assert_eq!(resumed.expect().await.seq(), 5);
    let answer = server
        .call(&crate::http::request("HEAD", "/telemetry/stream"))
        .await;
    assert_eq!(answer.header("x-epoch"), Some(&*server.epoch()));
}

/// What a client is informed of when it resumes is in the metrics and in the list of readers.
#[tokio::test]
async fn a_loss_before_the_stream_began_is_counted() {
    let server = Setup::default().events(16).running().await;
    for seq in 1..=100 {
        server.publish(if seq % 2 == 0 {
            KnownType::PageLoad
        } else {
            KnownType::ConsoleLog
        });
    }
    let mut counted = 0;
    for (query, lost) in [
        ("notices=true", 79),
        ("", 79),
        ("notices=true&category=page", 40),
        // At most: which of them had that type is gone with them.
        ("notices=true&type=page_*", 79),
        ("category=network", 0),
    ] {
        let mut stream = Stream::resume(server.addr, query, "5").await;
        if lost > 0 || !query.contains("network") {
            stream.event().await;
        }
        counted += lost;
        server
            .until_metric("tapline_lost_events_total", counted)
            .await;
        let reader = server.readers().await.pop().unwrap();
        assert_eq!(reader.lost, lost, "{query}");
        let account = reader.delivered + reader.filtered + reader.lost;
        assert_eq!(account, reader.position - 5, "{query}");
    }
    assert_eq!(server.metric("tapline_gaps_total").await, 4);
    // A page counts, too.
    let answer = server
        .call(&crate::http::get("/telemetry/events?after=80"))
        .await;
    assert_eq!(answer.header("x-lost"), Some("4"));
    assert_eq!(
        server.metric("tapline_lost_events_total").await,
        counted + 4
    );
}

/// With `replay=live` a connection may break before its first event. The id of the `hello` is where a client
/// resumes that has nothing else.
#[tokio::test]
async fn a_live_stream_that_breaks_before_its_first_event_loses_nothing() {
    let server = running().await;
    server.fill_to(3);
    let mut stream = Stream::open(server.addr, "replay=live&notices=true").await;
    let hello = stream.expect().await;
    hello.assert_resumes_behind();
    drop(stream);
    server.fill_to(5);
    let query = "replay=live&notices=true";
    let mut stream = Stream::resume(server.addr, query, hello.id.unwrap()).await;
    assert_eq!(stream.seqs(2).await, [4, 5]);
}
