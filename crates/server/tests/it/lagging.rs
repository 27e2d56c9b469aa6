//! A reader that does not take its bytes: it falls behind in the ring, and gets a report of what it missed.

use std::collections::BTreeMap;

use serde_json::value::to_raw_value;
use tapline_api::Backend as _;
use tapline_oapi::{Event, Gap, KnownType};

use crate::http::{Connection, get};
use crate::server::{Server, Setup};
use crate::sse::{Frame, Stream};

/// More than any socket of ours holds: with 8 retained, nearly all of them are gone unread.
const EVENTS: u64 = 300;

/// Every third is of the category `page`, the others are `console`.
fn publish_too_much(server: &Server) {
    let data = to_raw_value(&"x".repeat(200_000)).unwrap();
    while server.api.retained().head < EVENTS {
        let known = match server.api.retained().head % 3 {
            0 => KnownType::PageLoad,
            _ => KnownType::ConsoleLog,
        };
        let event = Event::known(known, Some(data.clone()));
        server.api.publisher().publish(event).unwrap();
    }
}

/// A stream that was asked for, and then not read while all of that was published. The first event
/// is on it: it was there in time.
async fn overtaken(query: &str) -> (Server, Stream) {
    let server = Setup::default().events(8).running().await;
    let connection = Connection::open_narrow(server.addr).await;
    let target = format!("/telemetry/stream?{query}");
    let stream = Stream::over(connection, &get(&target)).await;
    publish_too_much(&server);
    (server, stream)
}

fn is_page(seq: u64) -> bool {
    seq % 3 == 1
}

/// What became of each seq up to the head: delivered, or lost.
#[derive(Default)]
struct Account {
    delivered: Vec<u64>,
    gaps: Vec<Gap>,
}

impl Account {
    fn position(&self) -> u64 {
        let event = self.delivered.last().copied().unwrap_or(0);
        let gap = self.gaps.last().map_or(0, |gap| gap.to);
        event.max(gap)
    }

    fn enter(&mut self, frame: &Frame) {
        if let Some(gap) = read_gap(frame) {
            assert_eq!(gap.count, gap.to - gap.from + 1);
            assert!(self.position() < gap.from, "{gap:?} comes late");
            self.gaps.push(gap);
        } else if frame.is_event() {
            let seq = frame.seq();
            assert!(self.position() < seq, "{seq} comes late");
            self.delivered.push(seq);
        }
    }
}

/// A gap, from a notice or from a comment.
fn read_gap(frame: &Frame) -> Option<Gap> {
    if frame.name() == "gap" {
        frame.assert_resumes_behind();
        return Some(serde_json::from_value(frame.json()).unwrap());
    }
    let text = frame.comments.first()?.strip_prefix("gap: ")?;
    let (lost, rest) = text.split_once(" lost, seq ").unwrap();
    let (seqs, categories) = rest.split_once(": ").unwrap();
    let (from, to) = seqs.split_once(" to ").unwrap();
    let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
    let by_category: BTreeMap<_, _> = categories
        .split(", ")
        .map(|part| part.split_once(' ').unwrap())
        .map(|(category, n)| (category.parse().unwrap(), n.parse().unwrap()))
        .collect();
    Some(Gap {
        count: to - from + 1,
        matching: lost.parse().ok(),
        from,
        to,
        by_category,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_and_lost_cover_every_seq_exactly_once() {
    for query in ["", "notices=true"] {
        let (_server, mut stream) = overtaken(query).await;
        let mut account = Account::default();
        while account.position() < EVENTS {
            account.enter(&stream.expect().await);
        }
        let Account { delivered, gaps } = account;
        assert!(!gaps.is_empty(), "it was overtaken");
        let mut covered = delivered.clone();
        for gap in &gaps {
            covered.extend(gap.from..=gap.to);
            assert_eq!(gap.matching, Some(gap.count));
            assert_eq!(gap.by_category.values().sum::<u64>(), gap.count);
            let pages = (gap.from..=gap.to).filter(|seq| is_page(*seq)).count() as u64;
            assert_eq!(
                gap.by_category.get(&tapline_oapi::Category::Page),
                (pages > 0).then_some(&pages)
            );
        }
        covered.sort_unstable();
        assert_eq!(covered, (1..=EVENTS).collect::<Vec<_>>());
        // What is retained is there: the last ones are never lost.
        assert!(delivered.ends_with(&(EVENTS - 7..=EVENTS).collect::<Vec<_>>()));
    }
}

/// Of what was evicted, only what was asked for is lost, and that is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_filtered_is_never_lost() {
    for query in ["category=page", "category=page&notices=true"] {
        let (_server, mut stream) = overtaken(query).await;
        let last_page = (1..=EVENTS).rev().find(|seq| is_page(*seq)).unwrap();
        let mut account = Account::default();
        while account.position() < last_page {
            account.enter(&stream.expect().await);
        }
        let lost: u64 = account.gaps.iter().map(|gap| gap.matching.unwrap()).sum();
        assert!(0 < lost);
        assert!(account.delivered.iter().all(|seq| is_page(*seq)));
        let pages = (1..=EVENTS).filter(|seq| is_page(*seq)).count() as u64;
        assert_eq!(account.delivered.len() as u64 + lost, pages);
        for gap in &account.gaps {
            let by_category: Vec<_> = gap.by_category.iter().collect();
            assert_eq!(
                by_category,
                [(&tapline_oapi::Category::Page, &gap.matching.unwrap())]
            );
        }
    }
}

/// With a filter by type, the comment says no more than is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_type_is_asked_for_the_loss_is_a_bound() {
    let (_server, mut stream) = overtaken("type=page_*").await;
    let gap = loop {
        let frame = stream.expect().await;
        if !frame.comments.is_empty() {
            break frame;
        }
    };
    assert!(gap.comment().starts_with("gap: at most "), "{gap:?}");

    let (_server, mut stream) = overtaken("type=page_*&notices=true").await;
    let gap = stream.notice("gap").await;
    assert_eq!(gap.get("matching"), None);
    assert_eq!(
        gap["by_category"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|n| n.as_u64())
            .sum::<u64>(),
        gap["count"].as_u64().unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_delays_no_other() {
    let (server, slow) = overtaken("").await;
    // Other readers continue as if it were not there.
    let mut other = Stream::open(server.addr, "replay=live").await;
    server.publish(KnownType::NetworkIdle);
    assert_eq!(other.seqs(1).await, [EVENTS + 1]);
    drop(slow);
    server.publish(KnownType::NetworkIdle);
    assert_eq!(other.seqs(1).await, [EVENTS + 2]);
}
