//! Who reads, and what it asks for: listed, and changed while it reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tapline_api::Backend as _;
use tapline_oapi::{Event, KnownType};

use crate::http::{Answer, Connection, get, in_time, request};
use crate::server::{Server, Setup, running};
use crate::sse::Stream;

async fn readers(server: &Server) -> Vec<Value> {
    let list = server.call(&get("/telemetry/readers")).await.json();
    assert_eq!(list["head"], server.api.retained().head);
    list["readers"].as_array().unwrap().clone()
}

/// Waits until the first reader has come to this seq.
async fn until_position(server: &Server, position: u64) {
    in_time(async {
        while server.readers().await[0].position != position {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn patch(server: &Server, id: &str, body: &str) -> Answer {
    let request = request("PATCH", &format!("/telemetry/readers/{id}"));
    server.call(&request.json(body)).await
}

fn id_of(stream: &Stream) -> String {
    stream.head.header("x-reader-id").unwrap().to_owned()
}

#[tokio::test]
async fn each_is_listed_with_what_it_asks_for_and_where_it_is() {
    let server = running().await;
    assert_eq!(readers(&server).await, [] as [Value; 0]);
    server.fill_to(4);
    server.publish(KnownType::PageLoad);
    let mut pages = Stream::open(server.addr, "category=page&notices=true").await;
    assert_eq!(pages.seqs(1).await, [5]);
    let _live = Stream::open(server.addr, "replay=live&type=console_*&overtaken=head").await;
    until_position(&server, 5).await;

    let list = readers(&server).await;
    let [first, second] = &list[..] else {
        panic!("{list:?}");
    };
    assert_eq!(first["id"], id_of(&pages));
    for (name, value) in [
        ("kind", json!("stream")),
        ("category", json!(["page"])),
        ("type", Value::Null),
        ("notices", json!(true)),
        ("overtaken", json!("oldest")),
        ("position", json!(5)),
        ("behind_events", json!(0)),
        ("behind_bytes", json!(0)),
        ("delivered", json!(1)),
        ("filtered", json!(4)),
        ("lost", json!(0)),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    let peer = first["peer"].as_str().unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    for (name, value) in [
        ("category", Value::Null),
        ("type", json!(["console_*"])),
        ("notices", json!(false)),
        ("overtaken", json!("head")),
        ("delivered", json!(0)),
    ] {
        assert_eq!(second[name], value, "{name}");
    }
    drop(pages);
    in_time(async {
        while server.readers().await.len() == 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_read_is_behind_and_loses() {
    let server = Setup::default().events(16).running().await;
    let narrow = Connection::open_narrow(server.addr).await;
    let _stream = Stream::over(narrow, &get("/telemetry/stream")).await;
    publish_large(&server, 300);
    let reader = readers(&server).await.remove(0);
    let number = |name: &str| reader[name].as_u64().unwrap();
    assert_eq!(number("behind_events"), 300 - number("position"));
    assert!(16 <= number("behind_events"), "{reader}");
    assert!(16 * 200_000 <= number("behind_bytes"), "{reader}");
    let passed = number("delivered") + number("filtered") + number("lost");
    assert_eq!(passed, number("position"));
}

fn publish_large(server: &Server, head: u64) {
    let data = to_raw_value(&"x".repeat(200_000)).unwrap();
    while server.api.retained().head < head {
        let known = match server.api.retained().head % 2 {
            0 => KnownType::PageLoad,
            _ => KnownType::ConsoleLog,
        };
        let event = Event::known(known, Some(data.clone()));
        server.api.publisher().publish(event).unwrap();
    }
}

#[tokio::test]
async fn a_reader_in_a_group_gets_another_filter_and_the_others_do_not() {
    let server = running().await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(Stream::open(server.addr, "notices=true").await);
    }
    server
        .until_metric("tapline_fanout_readers{mode=\"grouped\"}", 4)
        .await;
    let id = id_of(&streams[0]);
    server.fill_to(3);
    until_position(&server, 3).await;
    let answer = patch(&server, &id, r#"{"category":["page"],"type":["page_l*"]}"#).await;
    assert_eq!(answer.status(), 200);
    let answered = answer.json();
    // Changing a filter is a call of the platform: it becomes an event, unless that is filtered.
    let after = answered["after"].as_u64().unwrap();
    assert!(after <= server.api.retained().head);
    let expected = json!({"id": id, "category": ["page"], "type": ["page_l*"], "after": after});
    assert_eq!(answered, expected);
    let head = server.publish(KnownType::PageLoad).seq();
    server.publish(KnownType::PageDomContentLoaded);
    server.fill_to(10);

    let mut changed = streams.remove(0);
    assert_eq!(changed.seqs(3).await, [1, 2, 3]);
    let notice = changed.notice("filter").await;
    let expected = json!({"category": ["page"], "type": ["page_l*"], "after": after});
    assert_eq!(notice, expected);
    assert_eq!(changed.seqs(1).await, [head]);
    for stream in &mut streams {
        assert_eq!(stream.seqs(10).await, (1..=10).collect::<Vec<_>>());
    }
    // What is left out stays, and an empty list is no filter.
    let answer = patch(&server, &id, r#"{"type":[]}"#).await;
    let answered = answer.json();
    assert_eq!(
        (&answered["category"], &answered["type"]),
        (&json!(["page"]), &Value::Null)
    );
    // A stream without notices gets it as a comment.
    let mut plain = Stream::open(server.addr, "replay=live").await;
    let answer = patch(&server, &id_of(&plain), r#"{"category":["page"]}"#).await;
    let comment = format!(
        "filter: another one holds after seq {}",
        answer.json()["after"]
    );
    let mut frame = plain.expect().await;
    while frame.is_event() {
        frame = plain.expect().await;
    }
    assert_eq!(frame.comment(), comment);
}

/// A change counts from where the reader is, not from where the head is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_behind_or_blocked_changes_where_it_is() {
    let server = Setup::default().running().await;
    let narrow = Connection::open_narrow(server.addr).await;
    let target = "/telemetry/stream?notices=true&category=page,console";
    let mut stream = Stream::over(narrow, &get(target)).await;
    publish_large(&server, 200);
    let answer = patch(&server, &id_of(&stream), r#"{"category":["console"]}"#).await;
    assert_eq!(answer.status(), 200);
    let after = answer.json()["after"].as_u64().unwrap();
    assert!(after < 200, "it had not got there: {after}");
    // What it has passed it gets as it was asked for then.
    let mut seqs = Vec::new();
    let mut held = false;
    while seqs.last() != Some(&200) {
        let frame = stream.expect().await;
        if frame.is_event() {
            let seq = frame.seq();
            assert_eq!(after < seq, held);
            seqs.push(seq);
        } else if frame.name() == "filter" {
            assert_eq!(frame.json()["after"], after);
            held = true;
        }
    }
    // Odd ones are pages.
    let expected: Vec<_> = (1..=200)
        .filter(|seq| *seq <= after || seq % 2 == 0)
        .collect();
    assert_eq!(seqs, expected);
}

/// While others publish as fast as they can, each event is chosen by the filter that holds for its seq.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_on_either_side_obey_the_right_filter() {
    const CHANGES: usize = 40;
    let categories = ["page", "console", "network", "interaction"];
    let known = [
        KnownType::PageLoad,
        KnownType::ConsoleLog,
        KnownType::NetworkIdle,
        KnownType::InteractionClick,
    ];
    let server = Setup::default().events(1 << 16).idle().await;
    let browser: serde_json::Map<_, _> = categories
        .iter()
        .map(|category| ((*category).to_owned(), json!({"enabled": true})))
        .collect();
    let body = json!({ "browser": browser }).to_string();
    server.call(&request("PUT", "/telemetry").json(body)).await;
    let mut stream = Stream::open(server.addr, "notices=true&category=page").await;
    // Others in the same group, which come and go with the filters of the first.
    let beside = Stream::open(server.addr, "notices=true&category=page").await;
    let id = id_of(&stream);

    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..2)
        .map(|_| {
            let (publisher, stop) = (server.api.publisher(), stop.clone());
            tokio::spawn(async move {
                let mut published = Vec::new();
                let mut pace = tokio::time::interval(Duration::from_micros(500));
                while !stop.load(Ordering::Relaxed) {
                    for known in known {
                        let envelope = publisher.publish(Event::known(known, None)).unwrap();
                        published.push((envelope.seq(), envelope.event().category.as_str()));
                    }
                    pace.tick().await;
                }
                published
            })
        })
        .collect();
    let reading = tokio::spawn(async move {
        let (mut seqs, mut filters) = (Vec::new(), Vec::new());
        loop {
            let frame = stream.expect().await;
            if frame.is_event() {
                if frame.json()["event"]["type"] == "the_end" {
                    return (seqs, filters);
                }
                seqs.push(frame.seq());
            } else if frame.name() == "filter" {
                let notice = frame.json();
                filters.push((
                    notice["after"].as_u64().unwrap(),
                    notice["category"].clone(),
                ));
            } else {
                assert_ne!(frame.name(), "gap");
            }
        }
    });
    let mut changes = vec![(0, json!(["page"]))];
    for n in 0..CHANGES {
        let wanted = json!([categories[n % 4]]);
        let answer = patch(&server, &id, &json!({"category": wanted}).to_string()).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        changes.push((answer.json()["after"].as_u64().unwrap(), wanted));
    }
    stop.store(true, Ordering::Relaxed);
    let mut published = Vec::new();
    for publisher in publishers {
        published.extend(publisher.await.unwrap());
    }
    let last = json!({"type": "the_end", "category": categories[(CHANGES - 1) % 4]});
    let post = request("POST", "/telemetry/events");
    server.call(&post.json(last.to_string())).await;
    let (seqs, filters) = in_time(reading).await.unwrap();
    assert_eq!(filters, changes[1..]);
    published.sort_unstable();
    let expected: Vec<_> = published
        .into_iter()
        .filter(|(seq, category)| {
            let (_, wanted) = changes.iter().rfind(|(after, _)| after < seq).unwrap();
            wanted[0] == *category
        })
        .map(|(seq, _)| seq)
        .collect();
    assert_eq!(seqs, expected);
    drop(beside);
}

#[tokio::test]
async fn what_cannot_be_changed_is_said() {
    let server = running().await;
    let stream = Stream::open(server.addr, "").await;
    let id = id_of(&stream);
    for (id, body, status) in [
        ("r999", "{}", 404),
        ("x", "{}", 404),
        ("0", "{}", 404),
        (&*id, r#"{"category":["pages"]}"#, 400),
        (&*id, r#"{"type":[""]}"#, 400),
        (&*id, r#"{"notices":true}"#, 400),
        (&*id, "", 400),
    ] {
        let answer = patch(&server, id, body).await;
        assert_eq!(answer.status(), status, "{id} {body}");
    }
    // One that waits for an event has a filter of its own, and does not stay to see it changed.
    drop(stream);
    in_time(async { while patch(&server, &id, "{}").await.status() != 404 {} }).await;
}
