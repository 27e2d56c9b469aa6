//! Blocks of one instance that are not in the order of their runs and seqs: two programs with one name, a run that stores
//! its last events when the next one has begun, blocks that are stored twice. No client gets an event twice, and what it
//! does not get is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Deserialize;
use tapline_api::{Backend, Cursor, Fleet, Order, PageQuery, Subscription};
use tapline_nats::{Instance, NatsFleet};
use tokio::time::timeout;

use crate::forge::{Forge, block, epoch};
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
