//! Blocks of one instance that are not in the order of their runs and seqs: two programs with one name, a run that stores
//! its last events when the next one has begun, blocks that are stored twice. No client gets an event twice, and what it
//! does not get is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use tapline_api::{Backend, Cursor, Fleet, Order, PageQuery, Subscription};
use tapline_nats::{Instance, NatsFleet};
use tokio::time::timeout;

use crate::forge::{Block, Forge, block, epoch};
use crate::gateway::{Account, Client, Got, SMALL, after, fleet, many};
use crate::rig::PATIENCE;
use crate::server::Server;

/// The run of a forged event, and its seq.
fn of_run(json: &str) -> (u64, u64) {
    #[derive(Deserialize)]
    struct Envelope {
        seq: u64,
        event: Event,
    }
    #[derive(Deserialize)]
    struct Event {
        data: u64,
    }
    let Envelope { seq, event } = serde_json::from_str(json).unwrap();
    (event.data, seq)
}

/// What a client has received: of which run which seq, in this order, and how many are lost.
#[derive(Debug, Default)]
struct Received {
    events: Vec<(u64, u64)>,
    lost: u64,
    connections: usize,
}

impl Received {
    /// Follows an instance as a client does that resumes with its last cursor, until it has this event.
    async fn follow(fleet: &NatsFleet, name: &str, cursor: &str, until: (u64, u64)) -> Self {
        let (mut received, mut cursor) = (Self::default(), cursor.to_owned());
        let following = async {
            while !received.events.contains(&until) {
                let mut client = Client::open(fleet, name, &after(&cursor)).await;
                received.connections += 1;
                received.lost += client.hello.lost.unwrap_or(0);
                let instance = client.instance.clone();
                while !received.events.contains(&until) {
                    let got = tokio::select! {
                        got = client.next(1) => got,
                        () = fleet.ended(&instance) => break,
                    };
                    for got in got {
                        match got {
                            Got::Event(_, json) => received.events.push(of_run(&json)),
                            Got::Lost(lost) => received.lost += lost.count(),
                            Got::Epoch(_) => {}
                        }
                    }
                    let ledger = client.subscription.ledger();
                    cursor = format!("{}-{}", ledger.position(), client.subscription.epoch());
                }
            }
        };
        let done = timeout(PATIENCE, following).await;
        assert!(done.is_ok(), "{received:?}");
        received
    }

    #[track_caller]
    fn expect(&self, expected: &[(u64, RangeInclusive<u64>)]) {
        let expected = expected.iter().cloned();
        let expected = expected.flat_map(|(run, seqs)| seqs.map(move |seq| (run, seq)));
        assert_eq!(self.events, expected.collect::<Vec<_>>(), "{self:?}");
        assert_eq!(self.lost, 0, "{self:?}");
    }
}

/// All pages of a run, in that order: the seqs, and how many are lost.
async fn pages(instance: &Instance, run: u64, order: Order) -> (Vec<u64>, u64) {
    let cursor = |seq| Cursor {
        seq,
        epoch: Some(epoch(run)),
    };
    let mut query = PageQuery {
        after: Some(cursor(0)),
        offset: (order == Order::Desc).then(|| cursor(u64::MAX)),
        order,
        limit: 7,
        ..PageQuery::default()
    };
    let (mut seqs, mut lost) = (Vec::new(), 0);
    loop {
        let page = instance.page(&query).await.unwrap();
        if page.epoch != epoch(run) {
            return (seqs, lost);
        }
        for envelope in &page.envelopes {
            assert_eq!(of_run(&envelope.json().to_string()), (run, envelope.seq()));
            seqs.push(envelope.seq());
        }
        lost += page.lost;
        assert!(seqs.len() < 10_000, "the pages do not end");
        match page.next_offset {
            Some(next) => query.offset = Some(next),
            None => return (seqs, lost),
        }
    }
}

#[tokio::test]
async fn a_run_that_stores_its_last_events_when_the_next_one_has_begun_is_read_whole() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    let blocks = [
        block(1, 0, 1..=10),
        block(1, 10, 11..=20),
        block(2, 0, 1..=5),
        block(1, 20, 21..=30),
        block(2, 5, 6..=40),
        block(1, 30, 31..=33),
        block(2, 40, 41..=45),
    ];
    for end in [4, blocks.len()] {
        let name = format!("shop-{end}");
        let last = if end == 4 { (30, 5) } else { (33, 45) };
        forge.store_all(&name, &blocks[..end]).await;
        let small = NatsFleet::open(&server.options(), SMALL).await.unwrap();
        let begin = format!("0-{}", epoch(1));
        let received = Received::follow(&small, &name, &begin, (2, last.1)).await;
        received.expect(&[(1, 1..=last.0), (2, 1..=last.1)]);
        assert_eq!(received.connections, 1);
        let instance = small.open(&name).await.unwrap();
        assert_eq!(instance.epoch(), epoch(2));
        for (run, last) in [(1, last.0), (2, last.1)] {
            let up: Vec<_> = (1..=last).collect();
            assert_eq!(pages(&instance, run, Order::Asc).await, (up.clone(), 0));
            let down: Vec<_> = up.into_iter().rev().collect();
            assert_eq!(pages(&instance, run, Order::Desc).await, (down, 0));
        }
    }
}

#[tokio::test]
async fn two_programs_with_one_name_give_no_client_an_event_twice() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    forge.store("shop", &block(1, 0, 1..=3)).await;
    let fleet = fleet(&server).await;
    let query = many(&[("replay", "all"), ("instances", "shop")]);
    let mut all = fleet.read(&query).await.unwrap();
    let begin = format!("0-{}", epoch(1));
    let storing = async {
        for n in 1..=40 {
            forge
                .store("shop", &block(2, 3 * n - 3, 3 * n - 2..=3 * n))
                .await;
            forge
                .store("shop", &block(1, 3 * n, 3 * n + 1..=3 * n + 3))
                .await;
        }
    };
    let following = Received::follow(&fleet, "shop", &begin, (2, 120));
    let (received, ()) = tokio::join!(following, storing);
    let once: BTreeSet<_> = received.events.iter().collect();
    assert_eq!(once.len(), received.events.len(), "{received:?}");
    let of_second = received.events.iter().filter(|it| it.0 == 2);
    assert_eq!(of_second.count(), 120, "{received:?}");
    assert!(received.connections <= 3, "{received:?}");
    // The events of the first are read by their epoch, and all come in the stream of many instances.
    let instance = fleet.open("shop").await.unwrap();
    let (seqs, lost) = pages(&instance, 1, Order::Asc).await;
    assert_eq!((seqs, lost), ((1..=123).collect(), 0));
    let mut account = Account::default();
    account.read(&mut *all, 243).await;
    let mut seqs = account.events["shop"].clone();
    seqs.sort_unstable();
    let mut expected: Vec<u64> = (1..=120).chain(1..=123).collect();
    expected.sort_unstable();
    assert_eq!((seqs, account.lost), (expected, BTreeMap::new()));
}

/// Counts the requests for stored messages.
struct Asked(async_nats::Client, async_nats::Subscriber);

impl Asked {
    const END: &str = "$JS.API.END";

    async fn new(server: &Server) -> Self {
        let client = server.client().await;
        let requests = client.subscribe("$JS.API.>").await.unwrap();
        client.flush().await.unwrap();
        Self(client, requests)
    }

    /// Since the count before.
    async fn count(&mut self) -> usize {
        self.0.publish(Self::END, "".into()).await.unwrap();
        let mut asked = 0;
        loop {
            let request = self.1.next().await.unwrap();
            match &*request.subject {
                Self::END => return asked,
                it if it.contains(".DIRECT.GET.") || it.contains(".MSG.GET.") => asked += 1,
                _ => {}
            }
        }
    }
}

/// A sandbox that was restarted often is opened in the time that one takes that was never restarted.
#[tokio::test]
async fn opening_an_instance_does_not_look_at_all_of_its_runs() {
    const RUNS: u64 = 100;
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    for run in 1..=RUNS {
        let blocks = [block(run, 0, 1..=2), block(run, 2, 3..=4)];
        forge.store_all("shop", &blocks).await;
    }
    let fleet = fleet(&server).await;
    let mut asked = Asked::new(&server).await;
    let instance = fleet.open("shop").await.unwrap();
    assert_eq!(Backend::epoch(&*instance), epoch(RUNS));
    assert_eq!(instance.retained().head, 4);
    let opening = asked.count().await;
    assert!((1..=60).contains(&opening), "{opening} requests");

    // That it was started anew costs none: all of a fleet may be at once.
    let ended = fleet.ended(&instance);
    forge.store("shop", &block(RUNS + 1, 0, 1..=1)).await;
    timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(asked.count().await, 0);
    let instance = fleet.open("shop").await.unwrap();
    assert_eq!(Backend::epoch(&*instance), epoch(RUNS + 1));

    // Its history has all of them.
    assert_eq!(pages(&instance, 1, Order::Asc).await, (vec![1, 2, 3, 4], 0));
}

#[tokio::test]
async fn a_block_that_is_stored_twice_is_delivered_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let forge = Forge::new(&server).await;
    // As decision 39 has it: an acknowledgement is lost, and another program stores something before the next attempt.
    // And blocks that overlap in part, and one that comes again much later.
    let blocks = [
        block(1, 0, 1..=10),
        block(2, 0, 1..=4),
        block(1, 0, 1..=10),
        block(2, 4, 5..=8),
        block(2, 4, 5..=8),
        block(2, 6, 7..=20),
        block(2, 8, 9..=12),
        block(2, 20, 21..=30),
    ];
    let fleet = fleet(&server).await;
    let live = many(&[("instances", "shop")]);
    let mut live = fleet.read(&live).await.unwrap();
    forge.store("shop", &blocks[0]).await;
    let begin = format!("0-{}", epoch(1));
    let following = Received::follow(&fleet, "shop", &begin, (2, 30));
    let storing = forge.store_all("shop", &blocks[1..]);
    let (received, ()) = tokio::join!(following, storing);
    received.expect(&[(1, 1..=10), (2, 1..=30)]);
    let small = NatsFleet::open(&server.options(), SMALL).await.unwrap();
    let received = Received::follow(&small, "shop", &begin, (2, 30)).await;
    received.expect(&[(1, 1..=10), (2, 1..=30)]);
    let replay = many(&[("replay", "all"), ("instances", "shop")]);
    let mut replay = fleet.read(&replay).await.unwrap();
    for reader in [&mut live, &mut replay] {
        let mut account = Account::default();
        account.read(&mut **reader, 40).await;
        let expected: Vec<_> = (1..=10).chain(1..=30).collect();
        assert_eq!(account.events["shop"], expected);
        assert!(account.lost.is_empty(), "{account:?}");
    }
}

/// What a program does next to a stream, in a layout.
#[derive(Debug, Clone)]
enum Step {
    /// Another run begins.
    Run,
    /// The run, or the one before it, stores a block of so many events. So many before it were never stored, and it has so
    /// many of the block before once more.
    Block {
        is_late: bool,
        events: u64,
        hole: u64,
        again: u64,
    },
    /// The block that was stored last is stored once more.
    Again,
    /// Another instance stores something.
    Other,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hole = prop_oneof![4 => Just(0), 1 => 1..4_u64];
    let again = prop_oneof![6 => Just(0), 1 => 1..3_u64];
    let block = (prop::bool::weighted(0.2), 1..12_u64, hole, again);
    let step = prop_oneof![
        2 => Just(Step::Run),
        8 => block.prop_map(|(is_late, events, hole, again)| Step::Block { is_late, events, hole, again }),
        1 => Just(Step::Again),
        2 => Just(Step::Other),
    ];
    prop::collection::vec(step, 1..24)
}

/// What is stored of an instance.
#[derive(Debug, Default)]
struct Layout {
    /// `None` is a block of another instance.
    blocks: Vec<Option<Block>>,
    runs: u64,
    last: BTreeMap<u64, u64>,
    late: BTreeMap<u64, u64>,
}

impl Layout {
    fn of(steps: &[Step]) -> Self {
        let mut layout = Self {
            runs: 1,
            ..Self::default()
        };
        layout.add(1, 3, 0, 0);
        for step in steps {
            match *step {
                Step::Run => {
                    layout.runs += 1;
                    layout.add(layout.runs, 2, 0, 0);
                }
                Step::Block {
                    is_late: true,
                    events,
                    ..
                } if 1 < layout.runs => {
                    let run = layout.runs - 1;
                    let late = layout.late.entry(run).or_default();
                    *late += 1;
                    if *late <= 3 {
                        layout.add(run, events, 0, 0);
                    }
                }
                Step::Block {
                    events,
                    hole,
                    again,
                    ..
                } => layout.add(layout.runs, events, hole, again),
                Step::Again => {
                    let last = layout.blocks.iter().rev().flatten().next();
                    let last = last.cloned();
                    layout.blocks.push(last);
                }
                Step::Other => layout.blocks.push(None),
            }
        }
        layout.add(layout.runs, 1, 0, 0);
        layout
    }

    fn add(&mut self, run: u64, events: u64, hole: u64, again: u64) {
        let before = self.blocks.iter().rev().flatten().find(|it| it.run == run);
        let again = again.min(before.map_or(0, |it| 1 + it.seqs.end() - it.seqs.start()));
        let last = self.last.entry(run).or_default();
        let first = (*last + 1 + hole) - again;
        let seqs = first..=first + events + again - 1;
        let block = block(run, (*last).min(first - 1), seqs);
        *last = (*last).max(*block.seqs.end());
        self.blocks.push(Some(block));
    }
}

/// A clock that is another one in each run, and that is set back within some.
fn time(run: u64, seq: u64) -> u64 {
    match run % 3 {
        0 => 10_000 - 7 * seq,
        1 => 5_000 + 10 * seq,
        _ => 5_000 + 10 * (seq % 13),
    }
}

async fn check(
    server: &Server,
    forge: &Forge,
    name: &str,
    layout: &Layout,
    deleted: usize,
    since: u64,
) {
    let mut places = Vec::new();
    for block in &layout.blocks {
        places.push(match block {
            Some(block) => {
                forge
                    .store_at(name, block, |seq| time(block.run, seq))
                    .await
            }
            None => forge.store("other", &block_of_other()).await,
        });
    }
    // The last block stays, so that the instance is known.
    let deleted = deleted.min(layout.blocks.len() - 1);
    forge
        .stream()
        .await
        .purge()
        .sequence(places[deleted])
        .await
        .unwrap();
    let mut model = BTreeMap::<u64, BTreeSet<u64>>::new();
    // A run whose first block is deleted began before all that is left. The last one is served from memory.
    let mut order = Vec::new();
    for (n, block) in layout.blocks.iter().enumerate().skip(deleted) {
        let Some(block) = block else {
            continue;
        };
        if !model.contains_key(&block.run) {
            let is_last = block.run == layout.runs;
            order.push((is_last, block.previous == 0, n, block.run));
        }
        let seqs = model.entry(block.run).or_default();
        seqs.extend(block.seqs.clone());
    }
    order.sort_unstable();
    let order: Vec<_> = order.into_iter().map(|it| it.3).collect();
    let lost = |run: u64| model[&run].last().unwrap() - model[&run].len() as u64;
    let small = NatsFleet::open(&server.options(), SMALL).await.unwrap();
    let instance = small.open(name).await.unwrap();
    for (run, seqs) in &model {
        let up: Vec<_> = seqs.iter().copied().collect();
        assert_eq!(
            pages(&instance, *run, Order::Asc).await,
            (up.clone(), lost(*run)),
            "{run}"
        );
        let down: Vec<_> = up.into_iter().rev().collect();
        assert_eq!(
            pages(&instance, *run, Order::Desc).await,
            (down, lost(*run)),
            "{run}"
        );
    }
    // A client that follows from the beginning.
    let last = (layout.runs, *model[&layout.runs].last().unwrap());
    let begin = format!("0-{}", epoch(order[0]));
    let received = Received::follow(&small, name, &begin, last).await;
    let all = || {
        let runs = order.iter();
        runs.flat_map(|run| model[run].iter().map(|seq| (*run, *seq)))
    };
    assert_eq!(received.events, all().collect::<Vec<_>>());
    assert_eq!(
        received.lost,
        model.keys().map(|run| lost(*run)).sum::<u64>()
    );
    // And by time: whatever the clocks of the runs were, no event is hidden.
    let mut query = PageQuery {
        since: Some(since),
        limit: 9,
        ..PageQuery::default()
    };
    let mut found = Vec::new();
    loop {
        let page = instance.page(&query).await.unwrap();
        found.extend(
            page.envelopes
                .iter()
                .map(|it| of_run(&it.json().to_string())),
        );
        match page.next_offset {
            Some(next) => query.offset = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = all()
        .filter(|(run, seq)| since <= time(*run, *seq))
        .collect();
    assert_eq!(found, expected, "since {since}");
}

fn block_of_other() -> Block {
    block(9, 0, 1..=1)
}

#[test]
fn whatever_is_stored_is_read_once_and_the_rest_is_lost() {
    let Some(server) = Server::start() else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let forge = runtime.block_on(Forge::new(&server));
    let case = AtomicUsize::new(0);
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let layouts = (steps(), 0..6_usize, 4_800..10_000_u64);
    let checked = TestRunner::new(config).run(&layouts, |(steps, deleted, since)| {
        let name = format!("shop-{}", case.fetch_add(1, Ordering::Relaxed));
        let layout = Layout::of(&steps);
        runtime.block_on(check(&server, &forge, &name, &layout, deleted, since));
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
