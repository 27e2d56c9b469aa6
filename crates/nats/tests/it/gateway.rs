//! Instances read through a gateway: what a client gets is what was published, and an account of what was not stored.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::{
    ApiError, ApiService, Backend, Delivery, Epoch, Fleet, FleetEvent, FleetQuery, FleetReader,
    InstanceQuery, Lost, Opened, PageQuery, PutAnswer, Replay, Retention, SessionSubscription,
    StreamQuery, Subscription,
};
use tapline_events::EventStream;
use tapline_nats::{GATEWAY_RETENTION, Instance, NatsFleet, NatsOptions, Partitions, Presence};
use tapline_oapi::{
    Category, ConfigRequest, Event, HelloReason, InstanceInfo, InstanceList, KnownType,
};
use tapline_telemetry::TelemetrySession;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::rig::{PATIENCE, Rig, event, noise, options, stream};
use crate::server::Server;

/// A gateway that keeps only few events itself.
pub(crate) const SMALL: Retention = Retention {
    events: 16,
    ..GATEWAY_RETENTION
};

pub(crate) async fn fleet(server: &Server) -> NatsFleet {
    NatsFleet::open(&server.options(), GATEWAY_RETENTION)
        .await
        .unwrap()
}

/// What a stream delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Event(u64, String),
    Lost(Lost),
    Epoch(Epoch),
}

/// A client of one instance.
pub(crate) struct Client {
    pub(crate) instance: Arc<Instance>,
    pub(crate) subscription: SessionSubscription,
    pub(crate) hello: tapline_oapi::Hello,
}

impl Client {
    pub(crate) async fn open(fleet: &NatsFleet, name: &str, query: &StreamQuery) -> Self {
        let instance = fleet.open(name).await.unwrap();
        let Opened {
            subscription,
            hello,
        } = instance.subscribe(query).await.unwrap();
        Self {
            instance,
            subscription,
            hello,
        }
    }

    pub(crate) async fn all(fleet: &NatsFleet, name: &str) -> Self {
        Self::open(fleet, name, &after("0")).await
    }

    /// The next things that it gets, at least so many.
    pub(crate) async fn next(&mut self, count: usize) -> Vec<Got> {
        let mut got = Vec::new();
        let read = async {
            while got.len() < count {
                self.subscription.read(256, |delivery| {
                    got.push(match delivery {
                        Delivery::Envelope { seq, json } => Got::Event(seq, json.to_string()),
                        Delivery::Lost(lost) => Got::Lost(lost),
                        Delivery::Epoch(notice) => Got::Epoch(notice.epoch),
                        Delivery::Session(_) => return ControlFlow::Continue(()),
                    });
                    ControlFlow::Continue(())
                });
                if got.len() < count {
                    std::future::poll_fn(|cx| self.subscription.poll_news(cx)).await;
                }
            }
        };
        let done = timeout(PATIENCE, read).await;
        assert!(done.is_ok(), "only {} of {count}: {got:?}", got.len());
        let ledger = self.subscription.ledger();
        let sum = ledger.delivered + ledger.filtered + ledger.lost;
        assert_eq!(sum, ledger.position() - ledger.start, "{ledger:?}");
        got
    }

    pub(crate) async fn events(&mut self, count: usize) -> Vec<(u64, String)> {
        let got = self.next(count).await.into_iter();
        got.map(|it| match it {
            Got::Event(seq, json) => (seq, json),
            other => panic!("{other:?}"),
        })
        .collect()
    }

    pub(crate) async fn ended(&self, fleet: &NatsFleet) {
        let ended = timeout(PATIENCE, fleet.ended(&self.instance));
        ended.await.expect("the instance ends");
    }
}

pub(crate) fn after(cursor: &str) -> StreamQuery {
    StreamQuery {
        after: Some(cursor.to_owned()),
        ..StreamQuery::default()
    }
}

/// The JSON of these events, as the instance has it.
fn published(rig: &Rig, seqs: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    let stream = rig.session.stream();
    seqs.into_iter()
        .map(|seq| (seq, stream.envelope(seq).unwrap().json().to_string()))
        .collect()
}

#[tokio::test]
async fn a_client_gets_byte_for_byte_what_was_published() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    for n in 0..300 {
        let data = format!("{{ \"n\" : {n},\n \"text\": \"caf\u{e9} \\u00e9\", \"n\": 1e400 }}");
        rig.publish(event("step", Category::Control, &data));
    }
    rig.settled(300).await;
    let fleet = fleet(&server).await;
    let mut client = Client::all(&fleet, "shop").await;
    assert_eq!(client.events(300).await, published(&rig, 1..=300));
    // And what follows, without a client of its own in the broker.
    for n in 0..200 {
        rig.publish(event("step", Category::Page, &format!("{n}")));
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut late = Client::open(&fleet, "shop", &after("250")).await;
    assert_eq!(client.events(200).await, published(&rig, 301..=500));
    assert_eq!(late.events(250).await, published(&rig, 251..=500));
    assert_eq!(client.instance.epoch(), rig.epoch());
    assert!(Arc::ptr_eq(&client.instance, &late.instance));
    let jetstream = server.jetstream().await;
    let mut stream = jetstream.get_stream("tapline-0").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 1);
}

#[tokio::test]
async fn what_the_gateway_does_not_keep_is_read_from_the_broker() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    let other = Rig::new(options(server.options(), "other"));
    for n in 0..400 {
        rig.publish(noise(3000, n));
        other.publish_some(3);
        if n % 20 == 0 {
            rig.settled(n).await;
        }
    }
    rig.settled(400).await;
    other.settled(1200).await;
    let small = NatsFleet::open(&server.options(), SMALL).await.unwrap();
    let mut client = Client::all(&small, "shop").await;
    assert_eq!(client.hello.lost, Some(0));
    assert_eq!(client.events(400).await, published(&rig, 1..=400));
    let mut middle = Client::open(&small, "shop", &after("170")).await;
    assert_eq!(middle.events(230).await, published(&rig, 171..=400));
    rig.publish_some(50);
    assert_eq!(client.events(50).await, published(&rig, 401..=450));
    assert_eq!(middle.events(50).await, published(&rig, 401..=450));

    let page = |query: &str| {
        let pairs: Vec<_> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .collect();
        PageQuery::from_pairs(pairs).unwrap()
    };
    for (query, expected) in [
        ("after=10&limit=30", (11..=40).collect::<Vec<_>>()),
        ("order=desc&limit=5", (446..=450).rev().collect()),
        ("order=desc&limit=400&after=0", (51..=450).rev().collect()),
        ("after=100&limit=3&category=page", Vec::new()),
        ("after=100&limit=2&type=noi*", vec![101, 102]),
    ] {
        let page = client.instance.page(&page(query)).await.unwrap();
        let seqs: Vec<_> = page.envelopes.iter().map(|it| it.seq()).collect();
        assert_eq!(seqs, expected, "{query}");
        assert_eq!(page.lost, 0, "{query}");
    }
}

#[tokio::test]
async fn an_instance_that_was_started_anew_is_another_epoch_in_the_same_stream() {
    let Some(server) = Server::start() else {
        return;
    };
    let first = Rig::new(options(server.options(), "shop"));
    first.publish_some(40);
    first.settled(40).await;
    let fleet = fleet(&server).await;
    let mut client = Client::all(&fleet, "shop").await;
    assert_eq!(client.events(40).await.len(), 40);
    first.publish_some(5);
    first.stop().await;
    assert_eq!(client.events(5).await, published(&first, 41..=45));

    let mut epochs = vec![first.epoch()];
    for n in 0..3 {
        let rig = Rig::new(options(server.options(), "shop"));
        rig.publish_some(10 + n);
        rig.stop().await;
        epochs.push(rig.epoch());
    }
    client.ended(&fleet).await;
    // As a client resumes that has received the first 43.
    let cursor = format!("43-{}", epochs[0]);
    let mut client = Client::open(&fleet, "shop", &after(&cursor)).await;
    assert_eq!(client.hello.reason, HelloReason::Resumed);
    assert_eq!(client.hello.epoch, epochs[0]);
    let got = client.next(2 + 3 + 10 + 11 + 12).await;
    let mut expected = published(&first, 44..=45);
    let seqs: Vec<_> = got
        .iter()
        .map(|it| match it {
            Got::Event(seq, json) if !expected.is_empty() => {
                let (expected_seq, expected_json) = expected.remove(0);
                assert_eq!((*seq, json), (expected_seq, &expected_json));
                format!("{seq}")
            }
            Got::Event(seq, _) => format!("{seq}"),
            Got::Epoch(epoch) => format!("{epoch}"),
            Got::Lost(lost) => panic!("{lost:?}"),
        })
        .collect();
    let wanted = [44, 45].iter().map(u64::to_string);
    let mut wanted: Vec<_> = wanted.collect();
    for (n, epoch) in epochs.iter().enumerate().skip(1) {
        wanted.push(epoch.to_string());
        wanted.extend((1..=9 + n).map(|seq| seq.to_string()));
    }
    assert_eq!(seqs, wanted);
}

#[tokio::test]
async fn what_was_never_stored_is_an_exact_loss() {
    let Some(mut server) = Server::start() else {
        return;
    };
    // A ring that holds 64 events, and a broker that is away while 500 are published.
    let rig = Rig::with(options(server.options(), "shop"), stream(64), None);
    rig.publish_some(50);
    rig.settled(50).await;
    let fleet = fleet(&server).await;
    let mut client = Client::all(&fleet, "shop").await;
    assert_eq!(client.events(50).await.len(), 50);
    server.kill();
    rig.publish_some(500);
    server.restart();
    rig.settled(550).await;
    let head = 550;
    rig.publish_some(1);
    rig.settled(head + 1).await;
    client.ended(&fleet).await;
    let ledger = client.subscription.ledger();
    let cursor = format!("{}-{}", ledger.position(), rig.epoch());
    let mut client = Client::open(&fleet, "shop", &after(&cursor)).await;
    let mut position = ledger.position();
    let mut lost = 0;
    while position < head + 1 {
        for got in client.next(1).await {
            match got {
                Got::Event(seq, _) => {
                    assert_eq!(seq, position + 1);
                    position = seq;
                }
                Got::Lost(gap) => {
                    assert_eq!(gap.first, position + 1);
                    assert_eq!(gap.matching, Some(gap.count()));
                    lost += gap.count();
                    position = gap.last;
                }
                Got::Epoch(epoch) => panic!("{epoch}"),
            }
        }
    }
    assert_eq!(lost, rig.status().ledger.lost);
    assert!(0 < lost);
}

#[tokio::test]
async fn a_gateway_outlives_the_broker() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(10);
    rig.settled(10).await;
    let fleet = fleet(&server).await;
    let mut client = Client::all(&fleet, "shop").await;
    assert_eq!(client.events(10).await.len(), 10);
    for round in 0..2_u64 {
        server.kill();
        let down = Instant::now();
        while fleet.readiness().is_ok() {
            assert!(down.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rig.publish_some(100);
        server.restart();
        let before = 10 + 100 * round;
        assert_eq!(
            client.events(100).await,
            published(&rig, before + 1..=before + 100)
        );
        let same = fleet.open("shop").await.unwrap();
        assert!(Arc::ptr_eq(&same, &client.instance));
    }
    assert!(fleet.readiness().is_ok());
}

#[tokio::test]
async fn a_client_that_comes_from_a_faster_gateway_gets_what_follows() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(100);
    rig.settled(100).await;
    let fast = fleet(&server).await;
    let proxy = Proxy::new(server.port).await;
    let slow = NatsFleet::open(&proxy.options(), GATEWAY_RETENTION).await;
    let slow = slow.unwrap();
    let mut client = Client::all(&fast, "shop").await;
    let mut other = Client::all(&slow, "shop").await;
    assert_eq!(client.events(100).await, other.events(100).await);
    for (round, form) in [(0, true), (1, false)] {
        proxy.cut();
        rig.publish_some(50);
        let head = 150 + 50 * round;
        rig.settled(head).await;
        assert_eq!(client.events(50).await.len(), 50);
        let cursor = match form {
            true => format!("{head}-{}", rig.epoch()),
            false => head.to_string(),
        };
        // Without the broker it says so, rather than that there is no such event.
        let refused = other.instance.subscribe(&after(&cursor)).await.err();
        assert_eq!(refused.unwrap().code().as_str(), "unavailable");
        proxy.mend();
        let resumed = loop {
            match other.instance.subscribe(&after(&cursor)).await {
                Ok(opened) => break opened.hello,
                Err(error) => assert_eq!(error.code().as_str(), "unavailable"),
            }
        };
        assert_eq!(
            (resumed.reason, resumed.used),
            (HelloReason::Resumed, head),
            "{resumed:?}"
        );
    }
    // One that nothing has, after a while.
    let hello = Client::open(&slow, "shop", &after("900")).await.hello;
    assert_eq!(hello.reason, HelloReason::Ahead);
}

#[tokio::test]
async fn a_client_that_comes_from_a_gateway_with_a_later_run_is_not_given_the_one_before() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(10);
    rig.settled(10).await;
    let slow = NatsFleet::open(&proxy.options(), GATEWAY_RETENTION).await;
    let slow = slow.unwrap();
    let before = Client::all(&slow, "shop").await.instance;
    let first = rig.epoch();
    rig.stop().await;
    let rig = Rig::new(options(server.options(), "shop"));
    proxy.cut();
    rig.publish_some(10);
    rig.settled(10).await;
    let cursor = format!("10-{}", rig.epoch());
    let refused = before.subscribe(&after(&cursor)).await.err().unwrap();
    assert_eq!(refused.code().as_str(), "unavailable");
    proxy.mend();
    let hello = loop {
        let instance = slow.open("shop").await.unwrap();
        match instance.subscribe(&after(&cursor)).await {
            Ok(opened) => break opened.hello,
            Err(error) => assert_eq!(error.code().as_str(), "unavailable"),
        }
    };
    assert_eq!((hello.reason, hello.used), (HelloReason::Resumed, 10));
    // The run before and an unknown one are answered as by a server.
    let instance = slow.open("shop").await.unwrap();
    let hello = async |cursor: &str| instance.subscribe(&after(cursor)).await.unwrap().hello;
    let earlier = hello(&format!("10-{first}")).await;
    assert_eq!(earlier.reason, HelloReason::Resumed, "{earlier:?}");
    let unknown = hello("10-00000000c0ffee00").await;
    assert_ne!(unknown.reason, HelloReason::Resumed, "{unknown:?}");
}

#[tokio::test]
async fn a_stream_that_was_deleted_begins_anew() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(30);
    rig.settled(30).await;
    let fleet = fleet(&server).await;
    let mut client = Client::all(&fleet, "shop").await;
    assert_eq!(client.events(30).await.len(), 30);
    server
        .jetstream()
        .await
        .delete_stream("tapline-0")
        .await
        .unwrap();
    rig.publish_some(30);
    rig.settled(60).await;
    client.ended(&fleet).await;
    let cursor = format!("30-{}", rig.epoch());
    let mut client = Client::open(&fleet, "shop", &after(&cursor)).await;
    let got = client.events(30).await;
    assert_eq!(got, published(&rig, 31..=60));
    // What was deleted is a loss for those who ask for it.
    let mut all = Client::open(&fleet, "shop", &after(&format!("0-{}", rig.epoch()))).await;
    assert_eq!(all.hello.reason, HelloReason::Evicted);
    assert_eq!(all.hello.lost, Some(30));
    assert_eq!(all.events(30).await, got);
}

#[tokio::test]
async fn a_filter_holds_in_the_broker_as_in_memory() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    for n in 0..600_u64 {
        let category = match n % 3 {
            0 => Category::Page,
            _ => Category::Console,
        };
        rig.publish(event("step", category, &n.to_string()));
    }
    rig.settled(600).await;
    let small = NatsFleet::open(&server.options(), SMALL).await.unwrap();
    let query = StreamQuery::from_pairs([("category", "page"), ("after", "0")]).unwrap();
    let mut client = Client::open(&small, "shop", &query).await;
    let seqs: Vec<_> = client.events(200).await.iter().map(|it| it.0).collect();
    assert_eq!(seqs, (0..200).map(|n| 3 * n + 1).collect::<Vec<_>>());
    let live = StreamQuery {
        replay: Some(Replay::Live),
        ..StreamQuery::default()
    };
    let mut live = Client::open(&small, "shop", &live).await;
    rig.publish(event("step", Category::Page, "1"));
    assert_eq!(live.events(1).await, published(&rig, [601]));
}

/// What a stream of many instances has delivered, by instance: seqs, and what was lost.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) events: BTreeMap<String, Vec<u64>>,
    pub(crate) lost: BTreeMap<String, u64>,
    pub(crate) cursors: Vec<String>,
}

impl Account {
    /// Reads until it has so many events and lost ones.
    pub(crate) async fn read(&mut self, reader: &mut dyn FleetReader, count: u64) {
        assert!(self.has_read(reader, count).await, "{self:?} of {count}");
    }

    /// As [`read`](Self::read). `false` if the reader ends before.
    pub(crate) async fn has_read(&mut self, reader: &mut dyn FleetReader, count: u64) -> bool {
        let sum = |it: &Self| {
            let events = it.events.values().map(|it| it.len() as u64).sum::<u64>();
            events + it.lost.values().sum::<u64>()
        };
        while sum(self) < count {
            let items = timeout(PATIENCE, reader.next()).await;
            let items = items.unwrap_or_else(|_| panic!("{} of {count}", sum(self)));
            let Some(items) = items else {
                return false;
            };
            for item in items {
                let name = item.instance.to_string();
                match item.what {
                    FleetEvent::Event(envelope) => {
                        self.events.entry(name).or_default().push(envelope.seq());
                        self.cursors.push(item.cursor);
                    }
                    FleetEvent::Lost(lost) => *self.lost.entry(name).or_default() += lost.count(),
                    FleetEvent::Epoch { .. } => {}
                }
            }
        }
        true
    }
}

pub(crate) fn many(pairs: &[(&str, &str)]) -> FleetQuery {
    FleetQuery::from_pairs(pairs.iter().copied()).unwrap()
}

#[tokio::test]
async fn many_instances_come_in_one_stream_that_resumes_at_any_event() {
    let Some(server) = Server::start() else {
        return;
    };
    let of = |name: &str| {
        let mut options = options(server.options(), name);
        options.streams.partitions = Partitions::new(4);
        options.streams.max_bytes = Some(16 * 1024 * 1024);
        Rig::new(options)
    };
    let names = ["shop-1", "shop-2", "shop-3", "other"];
    let rigs = names.map(of);
    for rig in &rigs {
        rig.publish_some(20);
        rig.settled(20).await;
    }
    let fleet = fleet(&server).await;
    let shops = many(&[("instances", "shop-*"), ("replay", "all")]);
    let mut reader = fleet.read(&shops).await.unwrap();
    let mut account = Account::default();
    account.read(&mut *reader, 60).await;
    for rig in &rigs {
        rig.publish_some(30);
        rig.settled(50).await;
    }
    let late = of("shop-4");
    late.publish_some(10);
    late.settled(10).await;
    account.read(&mut *reader, 160).await;
    let all: Vec<u64> = (1..=50).collect();
    for name in ["shop-1", "shop-2", "shop-3"] {
        assert_eq!(account.events[name], all, "{name}");
    }
    assert_eq!(account.events["shop-4"], all[..10]);
    assert_eq!(account.events.len(), 4);
    assert!(account.lost.is_empty(), "{:?}", account.lost);
    // Another gateway continues behind any of the events, with none twice and none missing.
    let other = self::fleet(&server).await;
    for n in [0, 1, 19, 20, 59, 60, 100, 158] {
        let query = FleetQuery {
            after: Some(account.cursors[n].clone()),
            ..shops.clone()
        };
        let mut resumed = other.read(&query).await.unwrap();
        assert!(!resumed.is_evicted());
        let mut rest = Account::default();
        rest.read(&mut *resumed, 159 - n as u64).await;
        let total = |it: &Account| it.events.values().map(Vec::len).sum::<usize>();
        assert_eq!(total(&rest), 159 - n);
        for (name, seqs) in &rest.events {
            let end = &account.events[name][account.events[name].len() - seqs.len()..];
            assert_eq!(seqs, end, "{name} after {n}");
        }
        // What the first gateway and this one have from here on is the same.
        assert!(rest.lost.is_empty(), "{:?}", rest.lost);
    }
    let refused = other.read(&many(&[("after", "12")])).await.err().unwrap();
    assert_eq!(refused.code().as_str(), "invalid_query");
}

#[tokio::test]
async fn each_instance_of_a_stream_has_its_own_losses() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let small = Rig::with(options(server.options(), "small"), stream(64), None);
    let large = Rig::new(options(server.options(), "large"));
    for rig in [&small, &large] {
        rig.publish_some(10);
        rig.settled(10).await;
    }
    let fleet = fleet(&server).await;
    let mut reader = fleet.read(&many(&[("replay", "all")])).await.unwrap();
    let mut account = Account::default();
    account.read(&mut *reader, 20).await;
    server.kill();
    for rig in [&small, &large] {
        rig.publish_some(500);
    }
    server.restart();
    for rig in [&small, &large] {
        rig.settled(510).await;
    }
    account.read(&mut *reader, 1020).await;
    let lost = small.status().ledger.lost;
    assert!(0 < lost);
    assert_eq!(account.lost, BTreeMap::from([("small".to_owned(), lost)]));
    assert_eq!(account.events["large"], (1..=510).collect::<Vec<_>>());
    assert_eq!(account.events["small"].len() as u64, 510 - lost);
    // Under a filter, how many were asked for is not known.
    let pages = many(&[("replay", "all"), ("category", "page")]);
    let mut reader = fleet.read(&pages).await.unwrap();
    let mut account = Account::default();
    account.read(&mut *reader, lost).await;
    assert!(account.events.is_empty());
}

/// An instance with everything that it has beside its sink.
struct Whole {
    api: Arc<ApiService>,
    leave: oneshot::Sender<()>,
    left: tokio::task::JoinHandle<()>,
}

fn whole(nats: NatsOptions, name: &str) -> Whole {
    let stream = EventStream::new(Retention::default()).unwrap();
    let api = Arc::new(ApiService::new(TelemetrySession::new(stream)));
    let presence = Presence::new(nats, name.parse().unwrap(), api.clone());
    let (leave, leaves) = oneshot::channel();
    let left = tokio::spawn(presence.run(async {
        let _ = leaves.await;
    }));
    Whole { api, leave, left }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a query asks for: its parameters as in an address.
fn list(fleet: &NatsFleet, query: &str) -> (InstanceList, Option<String>) {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let part = fleet.instances(&InstanceQuery::from_pairs(pairs).unwrap());
    (part.list, part.next_offset.map(|it| it.to_string()))
}

fn listed(fleet: &NatsFleet, query: &str) -> Vec<InstanceInfo> {
    list(fleet, query).0.instances
}

fn names(fleet: &NatsFleet, query: &str) -> Vec<String> {
    let all = listed(fleet, query).into_iter();
    all.map(|it| it.name).collect()
}

/// Sends a report as it is.
async fn report(server: &Server, name: &str, json: String) {
    let client = server.client().await;
    let subject = format!("tapline.alive.{name}");
    client.publish(subject, json.into()).await.unwrap();
    client.flush().await.unwrap();
}

/// Gateways that find streams.
async fn with_streams(server: &Server) -> NatsFleet {
    let rig = Rig::new(options(server.options(), "stored"));
    rig.publish_some(1);
    rig.settled(1).await;
    fleet(server).await
}

#[tokio::test]
async fn an_instance_reports_its_newest_event_and_its_problems() {
    let Some(server) = Server::start() else {
        return;
    };
    let fleet = with_streams(&server).await;
    let one = whole(server.options(), "one");
    until("one", || names(&fleet, "") == ["one"]).await;
    let info = || listed(&fleet, "").remove(0);
    let fresh = info();
    assert_eq!(fresh.last_event, None);
    assert_eq!(fresh.problems, Some(Default::default()));

    one.api.put(&ConfigRequest::default()).await.unwrap();
    let publish = |event| one.api.publisher().publish(event).unwrap();
    let data = r#"{"level":"error","text":"no such item"}"#.to_owned();
    let data = serde_json::value::RawValue::from_string(data).unwrap();
    publish(Event::known(KnownType::ConsoleError, Some(data)));
    let last = publish(event("basket_opened", Category::Page, "{}"));
    // A session that does not capture a category publishes nothing of it.
    let without = r#"{"browser":{"page":{"enabled":false}}}"#;
    let without = serde_json::from_str(without).unwrap();
    one.api.patch(&without).await.unwrap();
    let filtered = event("basket_closed", Category::Page, "{}");
    assert!(one.api.publisher().publish(filtered).is_err());

    until("a problem", || info().problems.unwrap().count == 1).await;
    let problems = info().problems.unwrap();
    assert_eq!(problems.not_read, 0);
    let newest = problems.newest.unwrap();
    assert_eq!(
        (&*newest.kind, &*newest.text),
        ("console_error", "no such item")
    );
    until("the event", || info().last_event.is_some()).await;
    let reported = info().last_event.unwrap();
    assert_eq!((reported.seq, reported.ts), (last.seq(), last.ts()));
    assert_eq!(reported.event_type, "basket_opened");
    assert_eq!(reported.category, "page");
    assert_eq!(info().head, last.seq());
}

#[tokio::test]
async fn reports_of_older_and_of_newer_versions_are_understood() {
    const OLD: &str = r#"{"version":1,"program":"0.1.0","at":7,"epoch":"00000000000000aa","head":9,"stored":4,"session":{"after":0}"#;
    let Some(server) = Server::start() else {
        return;
    };
    let fleet = with_streams(&server).await;
    report(&server, "old", format!("{OLD}}}")).await;
    let newer = r#","last_event":{"seq":9,"ts":5,"type":"a","category":"holograms","later":1},
        "problems":{"count":3,"newest":{"ts":4,"kind":"burnt","text":"t","later":[]},"later":{}},"later":"x"}"#;
    report(&server, "newer", format!("{OLD}{newer}")).await;
    let large = format!("{OLD},\"later\":\"{}\"}}", "x".repeat(10_000));
    report(&server, "large", large).await;
    report(&server, "wrong", "{}".to_owned()).await;
    report(&server, "z", format!("{OLD}}}")).await;
    until("the last one", || {
        names(&fleet, "").contains(&"z".to_owned())
    })
    .await;
    assert_eq!(names(&fleet, ""), ["newer", "old", "z"]);
    let [newer, old] = [0, 1].map(|n| listed(&fleet, "").remove(n));
    assert_eq!(
        (old.head, old.stored, old.last_event, old.problems),
        (9, 4, None, None)
    );
    assert_eq!(newer.last_event.unwrap().category, "holograms");
    let problems = newer.problems.unwrap();
    assert_eq!((problems.count, problems.not_read), (3, 0));
    assert_eq!(problems.newest.unwrap().kind, "burnt");
}

#[tokio::test]
async fn instances_are_listed_in_parts_by_name_and_by_their_figures() {
    let Some(server) = Server::start() else {
        return;
    };
    let fleet = with_streams(&server).await;
    // The lag grows with the name, and problems and times fall.
    for n in 0..25 {
        let json = format!(
            r#"{{"version":1,"program":"0.1.0","at":7,"epoch":"00000000000000aa","head":100,"stored":{},
                "session":{{"after":0}},"problems":{{"count":{}}},"leaving":{},
                "last_event":{{"seq":100,"ts":{},"type":"a","category":"page"}}}}"#,
            100 - n,
            100 - n,
            n < 5,
            1000 - n,
        );
        report(&server, &format!("shop-{n:02}"), json).await;
    }
    until("all of them", || list(&fleet, "limit=1").0.total == 25).await;
    let first = |query: &str| names(&fleet, &format!("{query}&limit=2"));
    assert_eq!(first("order=name"), ["shop-00", "shop-01"]);
    assert_eq!(first("order=lag"), ["shop-24", "shop-23"]);
    assert_eq!(first("order=problems"), ["shop-00", "shop-01"]);
    assert_eq!(first("order=last"), ["shop-00", "shop-01"]);
    assert_eq!(first("order=lag&alive=false"), ["shop-04", "shop-03"]);
    assert_eq!(names(&fleet, "name=*-07,shop-1*").len(), 11);
    let (totals, next) = list(&fleet, "name=shop-0*&limit=3");
    assert_eq!((totals.total, totals.alive, totals.not_stored), (10, 5, 45));
    assert_eq!(next.as_deref(), Some("0-shop-02"));
    // The parts are the whole list, also if other instances come and go meanwhile.
    let whole = names(&fleet, "order=lag");
    let mut parts = first("order=lag");
    let mut offset = list(&fleet, "order=lag&limit=2").1;
    report(&server, "zzz", r#"{"version":1,"program":"0.1.0","at":7,"epoch":"00000000000000aa","head":500,"stored":0,"session":{"after":0}}"#.to_owned()).await;
    until("another one", || list(&fleet, "limit=1").0.total == 26).await;
    while let Some(at) = offset {
        let (part, next) = list(&fleet, &format!("order=lag&limit=2&offset={at}"));
        parts.extend(part.instances.into_iter().map(|it| it.name));
        offset = next;
    }
    assert_eq!(parts, whole);
}

#[tokio::test]
async fn instances_are_listed_while_they_say_that_they_run() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "stored"));
    rig.publish_some(1);
    rig.settled(1).await;
    let one = whole(server.options(), "one");
    let fleet = fleet(&server).await;
    // One that was there before the gateway, and one that comes later.
    let names = || names(&fleet, "alive=true");
    until("one", || names() == ["one"]).await;
    let two = whole(server.options(), "two");
    until("two", || names() == ["one", "two"]).await;
    let _ = two.leave.send(());
    two.left.await.unwrap();
    until("two leaves", || names() == ["one"]).await;
    assert_eq!(list(&fleet, "").0.total, 2);
    // One that has stored nothing yet can be read from.
    let instance = fleet.open("one").await.unwrap();
    assert_eq!(instance.epoch(), one.api.epoch());
    for unknown in ["three", "a.b", "", "*", ">"] {
        let refused = fleet.open(unknown).await.err().unwrap();
        assert!(
            matches!(refused, ApiError::UnknownInstance(_)),
            "{unknown}: {refused}"
        );
    }
    // And one that says nothing but has stored something.
    assert!(fleet.open("stored").await.is_ok());
}

#[tokio::test]
async fn the_session_of_an_instance_is_changed_through_the_gateway() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "silent"));
    rig.publish_some(1);
    rig.settled(1).await;
    let one = whole(server.options(), "one");
    let fleet = fleet(&server).await;
    until("one", || !listed(&fleet, "").is_empty()).await;
    let instance = fleet.open("one").await.unwrap();
    let none = instance.state().await.unwrap_err();
    assert_eq!(none.code().as_str(), "not_configured");
    let config = ConfigRequest::default();
    let PutAnswer::Started(started) = instance.put(&config, "id-1").await.unwrap() else {
        panic!("a session was there");
    };
    assert_eq!(instance.state().await.unwrap(), one.api.state().unwrap());
    // Asked again, it is the same session; asked with another id, it is replaced.
    let PutAnswer::Started(again) = instance.put(&config, "id-1").await.unwrap() else {
        panic!("it was carried out twice");
    };
    assert_eq!(again, started);
    let replaced = instance.put(&config, "id-2").await.unwrap();
    assert!(matches!(replaced, PutAnswer::Replaced(_)));
    let ended = instance.delete("id-3").await.unwrap();
    assert_eq!(ended.session_id, None);
    assert_eq!(instance.delete("id-3").await.unwrap(), ended);
    let none = instance.delete("id-4").await.unwrap_err();
    assert_eq!(none.code().as_str(), "not_configured");
    assert!(one.api.state().is_err());

    let silent = fleet.open("silent").await.unwrap();
    let begin = Instant::now();
    let refused = silent.put(&config, "id-5").await.err().unwrap();
    assert!(matches!(refused, ApiError::NoAnswer(_)), "{refused}");
    assert!(begin.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_gateway_without_streams_says_what_creates_them() {
    let Some(server) = Server::start() else {
        return;
    };
    let refused = NatsFleet::open(&server.options(), GATEWAY_RETENTION).await;
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("creates them when it starts"), "{error}");
}

/// Publishes a message as it is to where the blocks of an instance are.
async fn forge(server: &Server, headers: async_nats::HeaderMap, payload: &'static [u8]) {
    let jetstream = server.jetstream().await;
    let sent = jetstream.publish_with_headers("tapline.blocks.0.shop", headers, payload.into());
    sent.await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_block_that_cannot_be_read_is_a_loss() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(10);
    rig.stop().await;
    let fleet = fleet(&server).await;
    let mut client = Client::all(&fleet, "shop").await;
    assert_eq!(client.events(10).await.len(), 10);
    // What a damaged disk may give: the headers of a block of 11 to 15, and nothing behind them.
    let mut headers = server
        .stored(&"shop".parse().unwrap(), 1)
        .await
        .pop()
        .unwrap()
        .1;
    headers.insert("Tapline-First", "11");
    headers.insert("Tapline-Last", "15");
    headers.insert("Nats-Msg-Id", "another");
    headers.insert("Nats-Expected-Last-Subject-Sequence", "1");
    forge(&server, headers, b"not a block").await;
    client.ended(&fleet).await;
    let cursor = format!("8-{}", rig.epoch());
    let mut client = Client::open(&fleet, "shop", &after(&cursor)).await;
    let got = client.next(3).await;
    assert!(matches!(got[0], Got::Event(9, _)), "{got:?}");
    assert!(matches!(got[1], Got::Event(10, _)), "{got:?}");
    let Got::Lost(lost) = got[2] else {
        panic!("{got:?}");
    };
    assert_eq!((lost.first, lost.last, lost.matching), (11, 15, Some(5)));
}

#[tokio::test]
async fn a_block_of_a_later_version_is_refused_and_it_is_said_why() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(3);
    rig.stop().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Tapline-Version", "2");
    forge(&server, headers, b"what comes later").await;
    let fleet = fleet(&server).await;
    let refused = fleet.open("shop").await.err().unwrap();
    let mut reason = refused.to_string();
    let mut source = std::error::Error::source(&refused);
    while let Some(error) = source {
        reason += &format!(": {error}");
        source = error.source();
    }
    assert!(reason.contains("version 2"), "{reason}");
    assert!(reason.contains("update"), "{reason}");
    assert_eq!(refused.code().as_str(), "unavailable");
}

#[tokio::test]
async fn a_cluster_of_three_serves_without_one() {
    let Some(mut servers) = Server::start_cluster(3) else {
        return;
    };
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let nats = NatsOptions::new(&urls.join(",")).unwrap();
    let mut with_replicas = options(nats.clone(), "shop");
    with_replicas.streams.replicas = Some(3);
    with_replicas.nats.request_timeout = Duration::from_secs(2);
    let rig = Rig::new(with_replicas);
    rig.publish_some(100);
    rig.settled(100).await;
    let fleet = NatsFleet::open(&nats, GATEWAY_RETENTION).await.unwrap();
    let mut position = 0;
    let mut client = Client::all(&fleet, "shop").await;
    let mut opened = 0;
    for round in 0..3 {
        // The first round takes away the leader of the stream, or a follower, as it comes.
        if round == 1 {
            servers[1].is_replicated().await;
            servers[1].kill();
        }
        if round == 2 {
            servers[1].restart();
        }
        rig.publish_some(100);
        let end = 100 * (round + 2);
        while position < end {
            let instance = client.instance.clone();
            tokio::select! {
                got = timeout(PATIENCE, client.next(1)) => for got in got.unwrap() {
                    match got {
                        Got::Event(seq, _) => {
                            assert_eq!(seq, position + 1);
                            position = seq;
                        }
                        other => panic!("{other:?}"),
                    }
                },
                () = fleet.ended(&instance) => {
                    opened += 1;
                    let cursor = format!("{position}-{}", rig.epoch());
                    client = Client::open(&fleet, "shop", &after(&cursor)).await;
                }
            }
        }
    }
    assert!(opened <= 3, "the instance was opened anew {opened} times");
    assert_eq!(rig.stop().await.ledger, crate::rig::ledger(400, 0));
}
