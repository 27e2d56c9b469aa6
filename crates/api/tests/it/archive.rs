//! An archive behind the stream: streams, waits and pages read there what is evicted, and what earlier runs left.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tapline_api::conformance::check_history;
use tapline_api::{
    ApiError, ApiService, Backend as _, BoxFuture, Cursor, Delivery, Epoch, Filter, History,
    HistoryBatch, HistoryBounds, HistoryError, HistoryQuery, Missing, Order, Page, ReaderLedger,
    SessionSubscription, SharedEnvelope, Subscription as _,
};
use tapline_oapi::{ConfigRequest, EventType, HelloReason, OnLag};
use tapline_telemetry::Envelope;

use crate::{block_on, code_and_message, publish, query, ready, session};

/// The events of each epoch, by seq; the oldest epoch first.
type Epochs = Vec<(Epoch, BTreeMap<u64, SharedEnvelope>)>;

/// An archive in memory, to which a test adds events. The number says how many reads fail.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Epochs>>, Arc<AtomicU32>);

impl Shelf {
    fn add(&self, epoch: Epoch, envelope: &Envelope) {
        let mut epochs = self.0.lock().unwrap();
        if epochs.last().is_none_or(|(last, _)| *last != epoch) {
            epochs.push((epoch, BTreeMap::new()));
        }
        let (_, events) = epochs.last_mut().unwrap();
        events.insert(envelope.seq(), envelope.clone().into());
    }

    fn delete(&self, epoch: Epoch, seqs: RangeInclusive<u64>) {
        let mut epochs = self.0.lock().unwrap();
        let (_, events) = epochs.iter_mut().find(|(it, _)| *it == epoch).unwrap();
        events.retain(|seq, _| !seqs.contains(seq));
    }

    /// So many reads fail.
    fn fail(&self, reads: u32) {
        self.1.store(reads, Relaxed);
    }

    fn read_now(&self, query: &HistoryQuery) -> HistoryBatch {
        let epochs = self.0.lock().unwrap();
        let mut batch = HistoryBatch::default();
        let Some((_, events)) = epochs.iter().find(|(it, _)| *it == query.epoch) else {
            return batch;
        };
        let head = *events.keys().last().unwrap();
        let seqs = *query.seqs.start().max(&1)..=head.min(*query.seqs.end());
        if seqs.is_empty() {
            return batch;
        }
        let mut all: Vec<u64> = seqs.clone().collect();
        if query.order == Order::Desc {
            all.reverse();
        }
        let (mut bytes, mut reached) = (0, all[0]);
        for seq in all {
            match events.get(&seq) {
                None => batch.add_missing(seq..=seq),
                Some(envelope) => {
                    let event_type = EventType::new(envelope.event_type()).unwrap();
                    if query.filter.matches_type(envelope.category(), &event_type)
                        && query.is_in_time(envelope.ts())
                    {
                        bytes += envelope.json().len();
                        if !batch.envelopes.is_empty() && query.limit.bytes < bytes {
                            break;
                        }
                        batch.envelopes.push(envelope.clone());
                    }
                }
            }
            reached = seq;
            if batch.envelopes.len() >= query.limit.events.max(1) {
                break;
            }
        }
        batch.looked_at = Some(match query.order {
            Order::Asc => *seqs.start()..=reached,
            Order::Desc => reached..=*seqs.end(),
        });
        batch
    }
}

impl History for Shelf {
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<HistoryBounds>, HistoryError>> {
        let epochs = self.0.lock().unwrap();
        let bounds = epochs.iter().map(|(epoch, events)| HistoryBounds {
            epoch: *epoch,
            oldest: *events.keys().next().unwrap(),
            head: *events.keys().last().unwrap(),
        });
        let bounds = bounds.collect();
        Box::pin(async move { Ok(bounds) })
    }

    fn read<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<HistoryBatch, HistoryError>> {
        let failing = self
            .1
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let answer = match failing {
            Ok(_) => Err(HistoryError::new("it is broken")),
            Err(_) => Ok(self.read_now(query)),
        };
        Box::pin(async move { answer })
    }
}

/// A loss: its seqs, and how many of them had been asked for, if that is known.
type Loss = (RangeInclusive<u64>, Option<u64>);

/// Reads a subscription up to the head of the stream: the seqs of its events, and its losses.
fn drain(api: &ApiService, subscription: &mut SessionSubscription) -> (Vec<u64>, Vec<Loss>) {
    let (mut events, mut losses) = (Vec::new(), Vec::new());
    while subscription.position() < api.retained().head {
        let looked_at = subscription.read(7, |delivery| {
            match delivery {
                Delivery::Envelope { seq, .. } => events.push(seq),
                Delivery::Lost(lost) => losses.push((lost.first..=lost.last, lost.matching)),
                other => panic!("{other:?}"),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(
            subscription.ledger().position(),
            subscription.position(),
            "the ledger closes"
        );
        if looked_at == 0 {
            block_on(poll_fn(|cx| subscription.poll_news(cx)));
        }
    }
    (events, losses)
}

fn open(api: &ApiService, asked: &str) -> SessionSubscription {
    block_on(api.subscribe(&query::stream(asked).unwrap())).subscription
}

fn pages(seqs: RangeInclusive<u64>) -> u64 {
    seqs.filter(|seq| seq % 3 == 0).count() as u64
}

#[test]
fn a_loss_under_a_filter_by_type_is_counted_in_the_archive() {
    for (overtaken, lost) in [("oldest", 11..=84), ("close", 11..=84), ("head", 11..=100)] {
        let shelf = Shelf::default();
        let api = run(&shelf);
        fill(&api, &shelf, 10);
        let asked = format!("after=0&type=page_*&overtaken={overtaken}");
        let mut subscription = open(&api, &asked);
        let (events, losses) = drain(&api, &mut subscription);
        assert_eq!((events, losses), (vec![3, 6, 9], vec![]), "{overtaken}");

        fill(&api, &shelf, 100);
        let (events, losses) = drain(&api, &mut subscription);
        assert_eq!(
            losses,
            [(lost.clone(), Some(pages(lost.clone())))],
            "{overtaken}"
        );
        let left: Vec<u64> = (lost.end() + 1..=100).filter(|seq| seq % 3 == 0).collect();
        assert_eq!(events, left, "{overtaken}");
        let ledger = subscription.ledger();
        assert_eq!(ledger.lost, pages(lost), "{overtaken}");
        assert_eq!(ledger.delivered, 3 + left.len() as u64, "{overtaken}");

        // The hello counts there, too.
        let asked = format!("after=10&type=page_*&overtaken={overtaken}");
        let opened = block_on(api.subscribe(&query::stream(&asked).unwrap()));
        assert_eq!(opened.hello.lost, Some(pages(11..=84)));
        let ledger = opened.subscription.ledger();
        assert_eq!((ledger.start, ledger.lost), (10, pages(11..=84)));
        assert_eq!(ledger.position(), 84);
    }
}

#[test]
fn a_loss_of_which_nothing_was_asked_for_is_none() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 10);
    let asked = "after=0&type=page_tab_opened&overtaken=close";
    let mut subscription = open(&api, asked);
    drain(&api, &mut subscription);
    fill(&api, &shelf, 100);
    let (events, losses) = drain(&api, &mut subscription);
    assert_eq!((events, losses), (vec![], vec![]));
    let ledger = subscription.ledger();
    assert_eq!((ledger.filtered, ledger.lost), (100, 0));
}

#[test]
fn a_loss_that_the_archive_has_not_whole_stays_a_bound() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 10);
    let asked = "after=0&type=page_*&overtaken=oldest";
    let mut subscription = open(&api, asked);
    drain(&api, &mut subscription);
    fill(&api, &shelf, 100);
    shelf.delete(api.epoch(), 50..=51);
    let (events, losses) = drain(&api, &mut subscription);
    assert_eq!(losses, [(11..=84, None)]);
    assert_eq!(events.len() as u64, pages(85..=100));
    // A type that matches may be of any category.
    assert_eq!(subscription.ledger().lost, 74);

    // An archive that never has the events, and one that fails.
    for _ in 101..=140 {
        publish(&api, r#"{"type":"page_load"}"#).unwrap();
    }
    let (_, losses) = drain(&api, &mut subscription);
    assert_eq!(losses, [(101..=124, None)]);
    shelf.fail(u32::MAX);
    fill(&api, &shelf, 200);
    let (_, losses) = drain(&api, &mut subscription);
    assert_eq!(losses, [(141..=184, None)]);
    assert_eq!(subscription.ledger().lost, 74 + 24 + 44);
}

#[test]
fn a_reader_that_loses_more_while_it_counts_still_comes_to_events() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 10);
    let mut subscription = open(&api, "after=0&type=page_*&overtaken=oldest");
    drain(&api, &mut subscription);
    fill(&api, &shelf, 100);
    // It finds the loss, and before that is counted it loses more.
    subscription.read(7, |delivery| panic!("{delivery:?}"));
    fill(&api, &shelf, 200);
    let (events, losses) = drain(&api, &mut subscription);
    assert_eq!(losses, [(11..=84, Some(pages(11..=84))), (85..=184, None)]);
    assert_eq!(events.len() as u64, pages(185..=200));
    // Behind an event the next one is exact again.
    fill(&api, &shelf, 300);
    let (_, losses) = drain(&api, &mut subscription);
    assert_eq!(losses, [(201..=284, Some(pages(201..=284)))]);
}

#[test]
fn a_filter_that_changes_while_a_loss_is_counted_holds_for_it() {
    for (filter, expected) in [
        ("type=page_*", pages(11..=84)),
        ("", 74),
        ("type=console_*", 74 - pages(11..=84)),
    ] {
        let shelf = Shelf::default();
        let api = run(&shelf);
        fill(&api, &shelf, 10);
        let mut subscription = open(&api, "after=10&type=page_load&overtaken=oldest");
        fill(&api, &shelf, 100);
        subscription.read(7, |delivery| panic!("{delivery:?}"));
        assert_eq!(subscription.position(), 10);
        subscription.refilter(query::stream(filter).unwrap().filter);
        let (_, losses) = drain(&api, &mut subscription);
        assert_eq!(losses, [(11..=84, Some(expected))], "{filter}");
        assert_eq!(subscription.ledger().lost, expected);
    }
}

#[test]
fn a_subscription_that_follows_one_that_counts_counts_for_itself() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 10);
    let mut leader = open(&api, "after=10&type=page_*&overtaken=oldest");
    let mut follower = open(&api, "after=0&type=page_*&overtaken=oldest");
    drain(&api, &mut follower);
    assert!(follower.is_beside(&leader));
    let since = leader.ledger();
    fill(&api, &shelf, 100);
    leader.read(7, |delivery| panic!("{delivery:?}"));
    assert!(!leader.is_live(), "it reads alone while it counts");
    assert!(leader.beside().is_none());
    follower.follow(&leader, since);
    for subscription in [&mut leader, &mut follower] {
        let (events, losses) = drain(&api, subscription);
        assert_eq!(losses, [(11..=84, Some(pages(11..=84)))]);
        assert_eq!(events.len() as u64, pages(85..=100));
        assert!(subscription.is_live());
    }
    assert_eq!((follower.ledger().start, follower.position()), (0, 100));
}

/// A run of the program, with 16 events in memory.
fn run(shelf: &Shelf) -> ApiService {
    let api = ApiService::new(session(16)).with_archive(shelf.clone());
    ready(api.put(&ConfigRequest::default())).unwrap();
    api
}

/// Publishes events up to that seq, every third a page event, and archives them.
fn fill(api: &ApiService, shelf: &Shelf, head: u64) {
    while api.retained().head < head {
        let event = match (api.retained().head + 1) % 3 {
            0 => r#"{"type":"page_load"}"#,
            _ => r#"{"type":"console_log"}"#,
        };
        shelf.add(api.epoch(), &publish(api, event).unwrap());
    }
}

/// What a subscription gives, up to the head of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Event(u64),
    Lost(RangeInclusive<u64>),
    Epoch(Epoch, u64, bool),
}

fn follow(api: &ApiService, asked: &str) -> (HelloReason, u64, Vec<Got>, ReaderLedger) {
    let opened = block_on(api.subscribe(&query::stream(asked).unwrap()));
    let mut subscription = opened.subscription;
    let mut got = Vec::new();
    while subscription.epoch() != api.epoch() || subscription.position() < api.retained().head {
        let looked_at = subscription.read(7, |delivery| {
            got.push(match delivery {
                Delivery::Envelope { seq, json } => {
                    assert!(
                        json.whole().starts_with(&format!(r#"{{"seq":{seq},"#)),
                        "{json}"
                    );
                    Got::Event(seq)
                }
                Delivery::Lost(lost) => Got::Lost(lost.first..=lost.last),
                Delivery::Epoch(notice) => {
                    Got::Epoch(notice.epoch, notice.last_seq, notice.complete)
                }
                Delivery::Session(_) => return ControlFlow::Continue(()),
            });
            ControlFlow::Continue(())
        });
        let ledger = subscription.ledger();
        assert_eq!(ledger.position(), subscription.position());
        if looked_at == 0 {
            block_on(poll_fn(|cx| subscription.poll_news(cx)));
        }
    }
    let ledger = subscription.ledger();
    (opened.hello.reason, opened.hello.used, got, ledger)
}

fn events(seqs: RangeInclusive<u64>) -> Vec<Got> {
    seqs.map(Got::Event).collect()
}

#[test]
fn the_archive_of_these_tests_conforms() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 40);
    shelf.delete(api.epoch(), 1..=9);
    let json: Vec<String> = (10..=40)
        .map(|seq| {
            let epochs = shelf.0.lock().unwrap();
            epochs[0].1[&seq].json().to_string()
        })
        .collect();
    check_history(&shelf, api.epoch(), &json).unwrap();
}

#[test]
fn a_cursor_that_is_evicted_is_read_from_the_archive_and_joins_the_stream() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 100);
    for after in [0, 1, 50, 83, 84, 85, 99, 100] {
        for asked in [
            format!("after={after}"),
            format!("after={after}-{}", api.epoch()),
        ] {
            let (reason, used, got, ledger) = follow(&api, &asked);
            assert_eq!((reason, used), (HelloReason::Resumed, after), "{asked}");
            assert_eq!(got, events(after + 1..=100), "{asked}");
            let all = ReaderLedger {
                start: after,
                delivered: 100 - after,
                ..ReaderLedger::default()
            };
            assert_eq!(ledger, all, "{asked}");
        }
    }
    // The session began at 0, and all that is retained is in the archive.
    for asked in ["", "replay=all"] {
        let (reason, used, got, _) = follow(&api, asked);
        assert_eq!((reason, used), (HelloReason::Fresh, 0), "{asked}");
        assert_eq!(got, events(1..=100), "{asked}");
    }
    let (_, _, got, ledger) = follow(&api, "after=10&type=page_*");
    let pages = (11..=100).filter(|seq| seq % 3 == 0).map(Got::Event);
    assert_eq!(got, pages.collect::<Vec<_>>());
    assert_eq!(
        (ledger.delivered, ledger.filtered, ledger.lost),
        (30, 60, 0)
    );
}

#[test]
fn who_does_not_want_the_archive_is_read_from_memory() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 100);
    for overtaken in ["oldest", "close"] {
        let (reason, used, got, ledger) = follow(&api, &format!("after=5&overtaken={overtaken}"));
        assert_eq!((reason, used), (HelloReason::Evicted, 84));
        assert_eq!(got, events(85..=100));
        assert_eq!((ledger.start, ledger.lost), (5, 79));
    }
    let opened = block_on(api.subscribe(&query::stream("").unwrap()));
    assert_eq!(opened.subscription.overtaken(), OnLag::Archive);
    let without = ApiService::new(session(16));
    let opened = block_on(without.subscribe(&query::stream("").unwrap()));
    assert_eq!(opened.subscription.overtaken(), OnLag::Oldest);
}

#[test]
fn a_cursor_of_an_earlier_run_resumes_there_and_continues_in_each_later_one() {
    let shelf = Shelf::default();
    let first = run(&shelf);
    fill(&first, &shelf, 40);
    let second = run(&shelf);
    fill(&second, &shelf, 30);
    let third = run(&shelf);
    fill(&third, &shelf, 50);
    let of = |seq: u64, api: &ApiService| format!("after={seq}-{}", api.epoch());

    let (reason, used, got, ledger) = follow(&third, &of(35, &first));
    assert_eq!((reason, used), (HelloReason::Resumed, 35));
    let mut expected = events(36..=40);
    expected.push(Got::Epoch(second.epoch(), 40, true));
    expected.extend(events(1..=30));
    expected.push(Got::Epoch(third.epoch(), 30, true));
    expected.extend(events(1..=50));
    assert_eq!(got, expected);
    assert_eq!(
        (ledger.start, ledger.delivered),
        (0, 50),
        "of the present epoch"
    );

    // At the end of its run, and beyond what the archive has of it.
    for seq in [30, 31, 1000, u64::MAX] {
        let (_, _, got, _) = follow(&third, &of(seq, &second));
        assert_eq!(got[0], Got::Epoch(third.epoch(), seq, true));
        assert_eq!(got[1..], events(1..=50));
    }
    // A run that the archive does not have.
    let (reason, used, got, _) = follow(&third, "after=3-0000000000000007");
    assert_eq!((reason, used), (HelloReason::OtherEpoch, 34));
    assert_eq!(got, events(35..=50));
}

#[test]
fn a_reader_that_falls_out_of_the_stream_continues_in_the_archive() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 10);
    let asked = query::stream("after=0").unwrap();
    let mut subscription = block_on(api.subscribe(&asked)).subscription;
    let mut next = 1;
    for head in [40, 200, 201, 260] {
        // Some of what is there, and then it is overtaken.
        for _ in 0..3 {
            subscription.read(1, |delivery| {
                let Delivery::Envelope { seq, .. } = delivery else {
                    panic!("{delivery:?}");
                };
                assert_eq!(seq, next);
                next += 1;
                ControlFlow::Continue(())
            });
        }
        fill(&api, &shelf, head);
        while subscription.position() < head - 5 {
            let looked_at = subscription.read(4, |delivery| {
                let Delivery::Envelope { seq, .. } = delivery else {
                    panic!("{delivery:?}");
                };
                assert_eq!(seq, next);
                next += 1;
                ControlFlow::Continue(())
            });
            if looked_at == 0 {
                block_on(poll_fn(|cx| subscription.poll_news(cx)));
            }
        }
    }
    let ledger = subscription.ledger();
    assert_eq!((ledger.start, ledger.lost, ledger.filtered), (0, 0, 0));
    assert_eq!(ledger.delivered, subscription.position());
}

#[test]
fn what_the_archive_does_not_have_either_is_lost_exactly_once() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 100);
    shelf.delete(api.epoch(), 1..=20);
    shelf.delete(api.epoch(), 40..=49);
    let (_, used, got, ledger) = follow(&api, "after=10");
    let mut expected = vec![Got::Lost(11..=20)];
    expected.extend(events(21..=39));
    expected.push(Got::Lost(40..=49));
    expected.extend(events(50..=100));
    assert_eq!((used, got), (10, expected));
    assert_eq!((ledger.start, ledger.delivered, ledger.lost), (10, 70, 20));
}

#[test]
fn an_archive_that_is_late_is_waited_for() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 60);
    let late: Vec<_> = (61..=80)
        .map(|_| publish(&api, r#"{"type":"console_log"}"#).unwrap())
        .collect();
    let (epoch, writer) = (api.epoch(), shelf);
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        for envelope in late {
            writer.add(epoch, &envelope);
        }
    });
    let (_, _, got, _) = follow(&api, "after=50");
    assert_eq!(got, events(51..=80));
    writer.join().unwrap();

    // One that never comes to it: the stream has lost them.
    for _ in 81..=120 {
        publish(&api, r#"{"type":"console_log"}"#).unwrap();
    }
    let (_, _, got, ledger) = follow(&api, "after=50");
    let mut expected = events(51..=80);
    expected.push(Got::Lost(81..=104));
    expected.extend(events(105..=120));
    assert_eq!(got, expected);
    assert_eq!(ledger.lost, 24);
}

#[test]
fn an_archive_that_fails_is_asked_again_and_then_given_up() {
    let shelf = Shelf::default();
    let earlier = run(&shelf);
    fill(&earlier, &shelf, 40);
    let api = run(&shelf);
    fill(&api, &shelf, 60);
    shelf.fail(3);
    let (_, _, got, _) = follow(&api, "after=20");
    assert_eq!(got, events(21..=60));

    shelf.fail(u32::MAX);
    let (_, _, got, ledger) = follow(&api, "after=20");
    let mut expected = vec![Got::Lost(21..=44)];
    expected.extend(events(45..=60));
    assert_eq!(got, expected);
    assert_eq!(ledger.lost, 24);
    let (_, _, got, _) = follow(&api, &format!("after=20-{}", earlier.epoch()));
    assert_eq!(got[0], Got::Epoch(api.epoch(), 20, false), "{got:?}");

    let asked = query::page("after=20").unwrap();
    let (code, _) = code_and_message(&block_on(api.page(&asked)).unwrap_err());
    assert_eq!(code, "internal");
}

fn page(api: &ApiService, asked: &str) -> Page {
    block_on(api.page(&query::page(asked).unwrap())).unwrap()
}

/// All pages of a query: the seqs with their epochs, and what was lost.
fn walk(api: &ApiService, asked: &str) -> (Vec<(Epoch, u64)>, u64) {
    let (mut got, mut lost, mut offset) = (Vec::new(), 0, String::new());
    for _ in 0..1000 {
        let page = page(api, &format!("{asked}{offset}"));
        got.extend(page.envelopes.iter().map(|it| (page.epoch, it.seq())));
        lost += page.lost;
        match page.next_offset {
            Some(next) => offset = format!("&offset={next}"),
            None => return (got, lost),
        }
    }
    panic!("the pages do not end");
}

#[test]
fn pages_read_the_archive_in_both_orders() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 100);
    let epoch = api.epoch();
    let all = |seqs: RangeInclusive<u64>| seqs.map(|seq| (epoch, seq)).collect::<Vec<_>>();
    for limit in [1, 7, 100, 1000] {
        let (got, lost) = walk(&api, &format!("limit={limit}"));
        assert_eq!((got, lost), (all(1..=100), 0));
        let (got, lost) = walk(&api, &format!("limit={limit}&after=30"));
        assert_eq!((got, lost), (all(31..=100), 0));
        let (mut got, lost) = walk(&api, &format!("limit={limit}&order=desc"));
        got.reverse();
        assert_eq!((got, lost), (all(1..=100), 0));
        let (mut got, lost) = walk(&api, &format!("limit={limit}&order=desc&after=30"));
        got.reverse();
        assert_eq!((got, lost), (all(31..=100), 0));
        let (got, lost) = walk(&api, &format!("limit={limit}&type=page_*"));
        let pages = (1..=100).filter(|seq| seq % 3 == 0);
        assert_eq!((got, lost), (pages.map(|seq| (epoch, seq)).collect(), 0));
    }
    // One page of both.
    let both = page(&api, "limit=50&after=60");
    assert_eq!(both.envelopes.len(), 40);
    assert_eq!((both.next_offset, both.lost, both.epoch), (None, 0, epoch));

    shelf.delete(epoch, 1..=20);
    shelf.delete(epoch, 40..=49);
    let whole = page(&api, "limit=100&after=10");
    let missing = |seqs: RangeInclusive<u64>| Missing {
        at_most: seqs.end() - seqs.start() + 1,
        seqs,
    };
    assert_eq!(whole.missing, [missing(11..=20), missing(40..=49)]);
    for limit in [7, 100] {
        let (got, lost) = walk(&api, &format!("limit={limit}&after=10"));
        assert_eq!((got.len(), lost), (70, 20), "limit {limit}");
        let (got, lost) = walk(&api, &format!("limit={limit}&after=10&order=desc"));
        assert_eq!((got.len(), lost), (70, 20), "limit {limit}");
        // Whatever there is: what is missing within is lost, and what is gone before is not asked for.
        let (got, lost) = walk(&api, &format!("limit={limit}"));
        assert_eq!((got.len(), lost), (70, 10), "limit {limit}");
        let (got, lost) = walk(&api, &format!("limit={limit}&order=desc"));
        assert_eq!((got.len(), lost), (70, 10), "limit {limit}");
    }
}

#[test]
fn pages_reach_back_to_earlier_runs_by_time_and_by_cursor() {
    let shelf = Shelf::default();
    let first = run(&shelf);
    fill(&first, &shelf, 40);
    let second = run(&shelf);
    fill(&second, &shelf, 30);
    let api = run(&shelf);
    fill(&api, &shelf, 50);
    let of = |api: &ApiService, seqs: RangeInclusive<u64>| {
        let epoch = api.epoch();
        seqs.map(move |seq| (epoch, seq))
    };
    let all: Vec<_> = of(&first, 1..=40)
        .chain(of(&second, 1..=30))
        .chain(of(&api, 1..=50))
        .collect();
    for limit in [1, 7, 40, 1000] {
        let (got, lost) = walk(&api, &format!("limit={limit}&since=1h"));
        assert_eq!((got, lost), (all.clone(), 0), "limit {limit}");
        let (mut got, lost) = walk(&api, &format!("limit={limit}&since=1h&order=desc"));
        got.reverse();
        assert_eq!((got, lost), (all.clone(), 0), "limit {limit}");
        let after = format!("limit={limit}&after=35-{}", first.epoch());
        let (got, lost) = walk(&api, &after);
        assert_eq!((got, lost), (all[35..].to_vec(), 0), "limit {limit}");
        let (mut got, lost) = walk(&api, &format!("{after}&order=desc"));
        got.reverse();
        assert_eq!((got, lost), (all[35..].to_vec(), 0), "limit {limit}");
        // Without either, a page is of the present run.
        let (got, _) = walk(&api, &format!("limit={limit}&order=desc"));
        assert_eq!(got.len(), 50);
    }
    // Beyond what the archive has of that run, there is nothing of it.
    for seq in [1000, u64::MAX] {
        for order in ["", "&order=desc"] {
            let (got, lost) = walk(&api, &format!("after={seq}-{}{order}", first.epoch()));
            assert_eq!((got.len(), lost), (80, 0), "{seq}{order}");
        }
    }
    let unknown = query::page("after=3-0000000000000007").unwrap();
    let refused = block_on(api.page(&unknown)).unwrap_err();
    assert!(matches!(refused, ApiError::StaleCursor { .. }), "{refused}");
    let next = page(&api, &format!("limit=5&after=35-{}", first.epoch())).next_offset;
    let begin = Cursor {
        seq: 40,
        epoch: Some(first.epoch()),
    };
    assert_eq!(next, Some(begin));
}

#[test]
fn a_filter_that_changes_in_the_archive_holds_from_the_position_on() {
    let shelf = Shelf::default();
    let api = run(&shelf);
    fill(&api, &shelf, 100);
    let asked = query::stream("after=0").unwrap();
    let mut subscription = block_on(api.subscribe(&asked)).subscription;
    let mut got = Vec::new();
    while subscription.position() < 100 {
        if subscription.position() == 10 && subscription.filter() == &Filter::all() {
            let filter = query::stream("type=page_*").unwrap().filter;
            subscription.refilter(filter);
        }
        let looked_at = subscription.read(1, |delivery| {
            if let Delivery::Envelope { seq, .. } = delivery {
                got.push(seq);
            }
            ControlFlow::Continue(())
        });
        if looked_at == 0 {
            block_on(poll_fn(|cx| subscription.poll_news(cx)));
        }
    }
    let expected: Vec<_> = (1..=10)
        .chain((11..=100).filter(|seq| seq % 3 == 0))
        .collect();
    assert_eq!(got, expected);
}
