//! The notices that a stream sends about itself to a client that asks for them.

use std::time::Duration;

use serde_json::{Value, json};
use tapline_api::Backend as _;
use tapline_oapi::{ConfigRequest, KnownType, Notice, State, from_json};

use crate::http::request;
use crate::server::{Server, Setup, running};
use crate::sse::Stream;

#[tokio::test]
async fn ids_carry_the_epoch_and_either_form_resumes() {
    let server = running().await;
    server.fill_to(3);
    let mut stream = Stream::open(server.addr, "notices=true").await;
    let id = stream.event().await.id.unwrap();
    assert_eq!(id, format!("1-{}", server.epoch()));
    for query in ["", "notices=true"] {
        for id in ["1", &id] {
            assert_eq!(
                Stream::resume(server.addr, query, id).await.seqs(2).await,
                [2, 3]
            );
        }
    }
}

#[tokio::test]
async fn a_plain_stream_has_no_notices() {
    for query in ["", "notices=false"] {
        let mut server = running().await;
        server.fill_to(2);
        let mut stream = Stream::open(server.addr, query).await;
        assert_eq!(stream.seqs(2).await, [1, 2]);
        server.api.delete().await.unwrap();
        server.api.put(&ConfigRequest::default()).await.unwrap();
        server.fill_to(3);
        server.begin_stop();
        for frame in stream.rest().await {
            assert_eq!((frame.name(), frame.retry), ("", None));
            assert_eq!(frame.id.is_some(), frame.data.is_some(), "{frame:?}");
        }
    }
}

/// The hello, all of it.
async fn check(server: &Server, query: &str, last: Option<&str>, expected: Value) {
    let query = format!("notices=true&{query}");
    let mut stream = match last {
        None => Stream::open(server.addr, &query).await,
        Some(last) => Stream::resume(server.addr, &query, last).await,
    };
    let frame = stream.expect().await;
    assert_eq!(frame.name(), "hello", "{query} {last:?}");
    frame.assert_resumes_behind();
    let mut notice = frame.json();
    let reader = notice.as_object_mut().unwrap().remove("reader").unwrap();
    assert_eq!(stream.head.header("x-reader-id"), reader.as_str());
    assert_eq!(notice, expected, "{query} {last:?}");
    assert!(matches!(
        Notice::parse("hello", frame.data.as_deref().unwrap()).unwrap(),
        Some(Notice::Hello(_))
    ));
    // It begins there.
    let (used, head) = (
        expected["used"].as_u64().unwrap(),
        expected["head"].as_u64().unwrap(),
    );
    let seqs: Vec<_> = (used + 1..=head).collect();
    assert_eq!(stream.seqs(seqs.len()).await, seqs, "{query} {last:?}");
}

#[tokio::test]
async fn hello_says_where_it_begins_and_why() {
    let server = Setup::default().events(8).running().await;
    let epoch = server.epoch();
    let hello = |used: u64, lost: Option<u64>, reason: &str, asked: Option<&str>| {
        let (oldest, head) = if server.api.retained().head == 0 {
            (0, 0)
        } else {
            (13, 20)
        };
        let mut hello = json!({
            "used": used, "oldest": oldest, "head": head, "epoch": epoch, "reason": reason,
        });
        // Absent where it cannot be known.
        if let Some(lost) = lost {
            hello["lost"] = json!(lost);
        }
        if let Some(asked) = asked {
            hello["asked"] = json!(asked);
        }
        hello
    };
    check(&server, "", None, hello(0, Some(0), "fresh", None)).await;
    server.fill_to(20);
    check(
        &server,
        "replay=all",
        None,
        hello(12, Some(0), "fresh", None),
    )
    .await;
    check(
        &server,
        "replay=live",
        None,
        hello(20, Some(0), "fresh", None),
    )
    .await;

    let ours = format!("15-{epoch}");
    let ahead = format!("21-{epoch}");
    for (asked, used, lost, reason) in [
        ("15", 15, Some(0), "resumed"),
        (&*ours, 15, Some(0), "resumed"),
        ("20", 20, Some(0), "resumed"),
        ("0", 12, Some(0), "resumed"),
        ("5", 12, Some(7), "evicted"),
        ("21", 12, None, "ahead"),
        (&*ahead, 12, None, "ahead"),
        ("18446744073709551615", 12, None, "ahead"),
        ("15-0123456789abcdef", 12, None, "other_epoch"),
        ("tomorrow", 12, None, "invalid"),
    ] {
        let expected = hello(used, lost, reason, Some(asked));
        check(&server, &format!("after={asked}"), None, expected.clone()).await;
        check(&server, "replay=live", Some(asked), expected).await;
    }
}

#[tokio::test]
async fn a_session_notice_reports_each_change_and_its_seq() {
    let server = Setup::default().idle().await;
    let put = async |json: &str| {
        let request: ConfigRequest = from_json(json.as_bytes()).unwrap();
        server.api.put(&request).await.unwrap();
    };
    let mut stream = Stream::open(server.addr, "notices=true").await;
    stream.notice("hello").await;
    let none = stream.notice("session").await;
    assert_eq!((&none["after"], none.get("session_id")), (&json!(0), None));

    put("{}").await;
    let started = stream.expect().await;
    assert_eq!((started.name(), &started.id), ("session", &None));
    let mut notice = started.json();
    assert_eq!(
        notice.as_object_mut().unwrap().remove("after"),
        Some(json!(0))
    );
    let state: State = serde_json::from_value(notice).unwrap();
    assert_eq!(state, server.api.state().unwrap());

    server.fill_to(2);
    put(r#"{"browser":{"console":{"enabled":true}}}"#).await;
    assert_eq!(stream.seqs(2).await, [1, 2]);
    let changed = stream.expect().await.json();
    assert_eq!(changed["after"], 2);
    assert_eq!(changed["session_id"], json!(state.session_id));
    assert_eq!(
        changed["config"]["browser"]["page"],
        json!({"enabled": false})
    );

    server.fill_to(3);
    assert_eq!(stream.expect().await.seq(), 3);
    server.api.delete().await.unwrap();
    let ended = stream.expect().await.json();
    assert_eq!(
        (&ended["after"], ended.get("session_id")),
        (&json!(3), None)
    );

    put("{}").await;
    let again = stream.expect().await.json();
    assert_eq!(
        (&again["after"], &again["session_start_seq"]),
        (&json!(3), &json!(3))
    );
    assert_ne!(again["session_id"], json!(state.session_id));
}

/// A reader of history gets a notice of each session right before its first event.
#[tokio::test]
async fn a_session_notice_stands_before_the_events_it_holds_for() {
    let server = Setup::default().idle().await;
    for n in 1..=3 {
        server.api.put(&ConfigRequest::default()).await.unwrap();
        server.fill_to(2 * n);
        server.api.delete().await.unwrap();
    }
    let mut stream = Stream::open(server.addr, "notices=true&replay=all").await;
    stream.notice("hello").await;
    let mut sessions = Vec::new();
    for n in 0..3 {
        let notice = stream.expect().await;
        assert_eq!(notice.name(), "session");
        let notice = notice.json();
        assert_eq!(notice["after"], 2 * n);
        for seq in 2 * n + 1..=2 * n + 2 {
            let event = stream.expect().await;
            assert_eq!(event.seq(), seq);
            assert_eq!(
                event.json()["event"]["source"]["metadata"]["telemetry_session_id"],
                notice["session_id"]
            );
        }
        sessions.push(notice["session_id"].as_str().unwrap().to_owned());
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
    let last = stream.expect().await;
    assert_eq!(
        (last.name(), last.json().get("session_id")),
        ("session", None)
    );
    assert_eq!(last.json()["after"], 6);
}

fn beating() -> Setup {
    Setup::default().options(|options| options.beat = Duration::from_millis(20))
}

#[tokio::test]
async fn silence_is_broken_by_a_comment() {
    let server = beating().running().await;
    let mut stream = Stream::open(server.addr, "").await;
    for _ in 0..3 {
        assert_eq!(stream.expect().await.comment(), "keep-alive");
    }
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.event().await.seq(), 1);
    // A filter that lets nothing through is silence as well.
    let mut stream = Stream::open(server.addr, "category=captcha").await;
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.expect().await.comment(), "keep-alive");
}

#[tokio::test]
async fn a_beat_reports_where_the_reader_is() {
    let server = beating().events(8).running().await;
    server.fill_to(20);
    let mut stream = Stream::open(server.addr, "notices=true&category=page").await;
    let quiet = json!({"head": 20, "position": 20, "lag": 0, "lost": 0});
    assert_eq!(stream.notice("beat").await, quiet);
    assert_eq!(stream.notice("beat").await, quiet);
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.event().await.seq(), 21);
    assert_eq!(
        stream.notice("beat").await,
        json!({"head": 21, "position": 21, "lag": 0, "lost": 0})
    );
}

/// While all that is published is filtered, the resume point moves on with the beats: a client that reconnects
/// does not ask for what was evicted long ago.
#[tokio::test]
async fn the_resume_point_of_a_quiet_filtered_stream_moves_on() {
    let server = beating().events(8).running().await;
    let query = "notices=true&category=captcha&after=0";
    let mut stream = Stream::open(server.addr, query).await;
    stream.notice("hello").await;
    server.fill_to(50);
    let id = loop {
        let frame = stream.expect().await;
        if frame.name() == "beat" && frame.json()["position"] == 50 {
            break frame.id.unwrap();
        }
    };
    assert_eq!(id, format!("50-{}", server.epoch()));
    let mut stream = Stream::resume(server.addr, query, &id).await;
    let hello = stream.notice("hello").await;
    assert_eq!(
        (&hello["reason"], &hello["lost"]),
        (&json!("resumed"), &json!(0))
    );
}

/// Beats come at their pace, however much else there is.
#[tokio::test]
async fn a_busy_stream_beats_too() {
    let server = beating().running().await;
    let mut stream = Stream::open(server.addr, "notices=true").await;
    let mut beats = 0;
    while beats < 3 {
        server.publish(KnownType::PageLoad);
        beats += usize::from(stream.expect().await.name() == "beat");
    }
}

#[tokio::test]
async fn bye_says_where_and_when_to_resume() {
    let mut server = running().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(Stream::open(server.addr, "notices=true&category=page").await);
    }
    server.publish(KnownType::PageLoad);
    server.publish(KnownType::ConsoleLog);
    server.begin_stop();
    let mut delays = Vec::new();
    for stream in &mut streams {
        let frames = stream.rest().await;
        assert!(frames.iter().any(|frame| frame.is_event()));
        let bye = frames.last().unwrap();
        assert_eq!(bye.name(), "bye");
        bye.assert_resumes_behind();
        assert_eq!(bye.json(), json!({"reason": "shutdown", "last_seq": 2}));
        let delay = bye.retry.unwrap();
        assert!((1000..5000).contains(&delay), "{delay}");
        delays.push(delay);
    }
    delays.sort_unstable();
    delays.dedup();
    assert!(
        1 < delays.len(),
        "each client has a delay of its own: {delays:?}"
    );
    server.stopped().await;
}

/// The notice is sent over HTTP, too, whichever way the configuration was changed.
#[tokio::test]
async fn a_put_is_seen_on_the_stream() {
    let server = Setup::default().idle().await;
    let mut stream = Stream::open(server.addr, "notices=true").await;
    stream.notice("session").await;
    let state = server.call(&request("PUT", "/telemetry")).await.json();
    let mut notice = stream.notice("session").await;
    assert_eq!(
        notice.as_object_mut().unwrap().remove("after"),
        Some(json!(0))
    );
    assert_eq!(notice, state);
}
