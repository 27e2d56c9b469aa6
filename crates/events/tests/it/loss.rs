//! The losses that a reader reports, compared with a log of everything that was published.

use std::ops::ControlFlow;

use proptest::prelude::*;
use serde_json::value::RawValue;
use tapline_events::{
    Behind, EventStream, Filter, Item, LagPolicy, Lost, Reader, ReaderLedger, Retention,
    TypePattern,
};
use tapline_oapi::{Category, CategorySet, Event};

use crate::{append, event, stream};

#[derive(Debug, Clone)]
enum Op {
    Append(Published),
    /// Another reader joins, after so many hundredths of the seqs so far.
    Join(Filter, u64, LagPolicy),
    /// Another one that asks for the same as the reader with that number, modulo how many there are,
    /// where that one is.
    JoinBeside(usize),
    /// By that reader: so many, or up to the first.
    Read(usize, usize, bool),
    /// By that reader, for all that stand beside it and ask for the same.
    ReadForAll(usize, usize),
    TryNext(usize),
    Refilter(usize, Filter),
}

/// All that the log has to remember of an event.
#[derive(Debug, Clone, Copy)]
struct Published {
    category: Category,
    odd: bool,
    /// Of its data.
    bytes: usize,
}

impl Published {
    fn without_data(self) -> Event {
        event(if self.odd { "odd_x" } else { "even_x" }, self.category)
    }

    fn event(self) -> Event {
        let mut event = self.without_data();
        let data = format!("\"{}\"", "x".repeat(self.bytes));
        event.data = Some(RawValue::from_string(data).unwrap());
        event
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        40 => published().prop_map(Op::Append),
        1 => join(),
        1 => any::<usize>().prop_map(Op::JoinBeside),
        8 => (any::<usize>(), 0..12_usize, any::<bool>())
            .prop_map(|(reader, limit, first)| Op::Read(reader, limit, first)),
        4 => (any::<usize>(), 0..12_usize).prop_map(|(reader, limit)| Op::ReadForAll(reader, limit)),
        4 => any::<usize>().prop_map(Op::TryNext),
        1 => (any::<usize>(), filter()).prop_map(|(reader, filter)| Op::Refilter(reader, filter)),
    ]
}

fn join() -> impl Strategy<Value = Op> {
    let lag_policy = prop_oneof![Just(LagPolicy::Oldest), Just(LagPolicy::Head)];
    (filter(), 0..=100_u64, lag_policy)
        .prop_map(|(filter, after, lag_policy)| Op::Join(filter, after, lag_policy))
}

fn published() -> impl Strategy<Value = Published> {
    // The last of these pushes out a dozen of the first.
    let bytes = prop_oneof![6 => Just(0_usize), 3 => 0..400_usize, 1 => Just(5000)];
    (0..Category::COUNT, any::<bool>(), bytes).prop_map(|(at, odd, bytes)| Published {
        category: Category::ALL[at],
        odd,
        bytes,
    })
}

/// One, or what two have in common.
fn filter() -> impl Strategy<Value = Filter> {
    (one_filter(), prop::option::of(one_filter())).prop_map(|(asked, allowed)| match allowed {
        None => asked,
        Some(allowed) => asked.narrowed(&allowed),
    })
}

fn one_filter() -> impl Strategy<Value = Filter> {
    let categories = prop_oneof![
        2 => any::<u16>().prop_map(|bits| Some(CategorySet::from_bits(bits))),
        1 => Just(None),
    ];
    let types = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![TypePattern::new("odd_*")]),
        1 => Just(vec![TypePattern::new("*_x"), TypePattern::new("y")]),
    ];
    (categories, types).prop_map(|(categories, types)| Filter::new(categories, types))
}

/// By count, by bytes, or by both: some small events and no large one, or hardly any.
fn retention() -> impl Strategy<Value = Retention> {
    let events = prop_oneof![Just(1_usize), Just(4), Just(16), Just(64)];
    let bytes = prop_oneof![Just(u64::MAX), Just(12_000), Just(3000)];
    (events, bytes).prop_map(|(events, bytes)| Retention {
        events,
        bytes,
        ..Retention::default()
    })
}

/// A reader, and how far it has been checked against the log.
struct Checked {
    reader: Reader,
    follower: Follower,
}

/// What a reader should say of itself.
struct Follower {
    filter: Filter,
    lag_policy: LagPolicy,
    checked: u64,
    ledger: ReaderLedger,
}

/// All that was ever published, and the oldest of it that is retained.
#[derive(Default)]
struct Log {
    events: Vec<Published>,
    /// What they weigh, up to each.
    bytes: Vec<u64>,
    oldest: u64,
}

impl Log {
    fn of(&self, seq: u64) -> Published {
        self.events[seq as usize - 1]
    }

    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn behind(&self, position: u64) -> Behind {
        if position == self.head() {
            return Behind::default();
        }
        let up_to = |seq: u64| match seq {
            0 => 0,
            seq => self.bytes[seq as usize - 1],
        };
        Behind {
            events: self.head() - position,
            bytes: up_to(self.head()) - up_to(position.max(self.oldest - 1)),
            oldest_unread_ts: Some(1),
        }
    }
}

impl Checked {
    fn new(stream: &EventStream, filter: Filter, after: u64, lag_policy: LagPolicy) -> Self {
        let reader = stream.reader(after).filtered(filter.clone());
        let reader = reader.on_lag(lag_policy);
        assert_eq!(reader.filter(), &filter);
        let start = reader.position();
        let ledger = ReaderLedger {
            start,
            ..ReaderLedger::default()
        };
        Self {
            reader,
            follower: Follower {
                filter,
                lag_policy,
                checked: start,
                ledger,
            },
        }
    }

    /// Answers with what it came across.
    fn read(&mut self, log: &Log, limit: usize, first: bool) -> Vec<Item<u64>> {
        let Self { reader, follower } = self;
        let mut items = Vec::new();
        reader.read(limit, |item| {
            let item = seq_of(item, |envelope| envelope.seq());
            items.push(item);
            follower.got(log, item);
            match first {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        follower.close(log, reader);
        items
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.reader.position() == other.reader.position()
            && self.reader.filter() == other.reader.filter()
            && self.follower.lag_policy == other.follower.lag_policy
    }

    /// Is given what `leader` has read since its ledger was `since`.
    fn follow(&mut self, log: &Log, leader: &Reader, since: ReaderLedger, items: &[Item<u64>]) {
        let advanced = self.reader.ledger().advanced_by(since, leader.ledger());
        self.reader.follow(leader, since);
        assert_eq!(self.reader.ledger(), advanced);
        for item in items {
            self.follower.got(log, *item);
        }
        self.follower.close(log, &self.reader);
    }

    fn refilter(&mut self, filter: Filter) {
        self.reader.refilter(filter.clone());
        self.follower.filter = filter;
    }

    fn try_next(&mut self, log: &Log) {
        if let Some(item) = self.reader.try_next() {
            self.follower
                .got(log, seq_of(item, |envelope| envelope.seq()));
        }
        self.follower.close(log, &self.reader);
    }
}

fn seq_of<E>(item: Item<E>, seq: impl Fn(E) -> u64) -> Item<u64> {
    match item {
        Item::Envelope(envelope) => Item::Envelope(seq(envelope)),
        Item::Lost(lost) => Item::Lost(lost),
    }
}

impl Follower {
    fn wants(&self, log: &Log, seq: u64) -> bool {
        self.filter.matches(&log.of(seq).without_data())
    }

    fn in_categories(&self, log: &Log, seq: u64) -> bool {
        let category = log.of(seq).category;
        self.filter
            .categories
            .is_none_or(|asked| asked.contains(category))
    }

    fn got(&mut self, log: &Log, item: Item<u64>) {
        match item {
            Item::Envelope(seq) => {
                self.skipped(log, seq);
                assert!(self.wants(log, seq));
                self.ledger.delivered += 1;
                self.checked = seq;
            }
            Item::Lost(lost) => self.lost(log, &lost),
        }
    }

    /// What lies before `next` and was not reported was not asked for.
    fn skipped(&mut self, log: &Log, next: u64) {
        for passed in self.checked + 1..next {
            assert!(
                !self.wants(log, passed),
                "{passed} was skipped without a report"
            );
            self.ledger.filtered += 1;
        }
    }

    fn lost(&mut self, log: &Log, lost: &Lost) {
        self.skipped(log, lost.first);
        assert_eq!(
            lost.first,
            self.checked + 1,
            "reported right after what was read"
        );
        let continues_after = match self.lag_policy {
            LagPolicy::Oldest => log.oldest - 1,
            LagPolicy::Head => log.head(),
        };
        assert_eq!(lost.last, continues_after);
        assert!(
            (lost.first..log.oldest).any(|seq| self.in_categories(log, seq)),
            "nothing is skipped unless something was evicted that may have been asked for"
        );
        let counts = lost
            .by_category
            .expect("known for a reader that did not wait for the future");
        for category in Category::ALL {
            let expected = (lost.first..=lost.last)
                .filter(|seq| log.of(*seq).category == category)
                .filter(|seq| self.in_categories(log, *seq))
                .count() as u64;
            assert_eq!(counts[category], expected, "{category}");
        }
        let wanted = (lost.first..=lost.last)
            .filter(|seq| self.wants(log, *seq))
            .count() as u64;
        if self.filter.type_lists().next().is_none() {
            assert_eq!(lost.matching, Some(wanted), "exact where categories decide");
            assert!(wanted > 0, "what was filtered is never reported as lost");
        } else {
            assert_eq!(lost.matching, None, "not known where types decide");
            assert!(wanted <= counts.sum());
        }
        self.ledger.lost += counts.sum();
        self.ledger.filtered += lost.count() - counts.sum();
        self.checked = lost.last;
    }

    fn close(&mut self, log: &Log, reader: &Reader) {
        self.skipped(log, reader.position() + 1);
        self.checked = reader.position();
        assert_eq!(reader.ledger(), self.ledger);
        let ReaderLedger {
            start,
            delivered,
            filtered,
            lost,
        } = reader.ledger();
        assert_eq!(delivered + filtered + lost, reader.position() - start);
        assert_eq!(self.ledger.position(), reader.position());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn losses_are_exact_under_every_filter_and_bound(
        retention in retention(),
        ahead in prop::collection::vec(published(), 0..20),
        first in join(),
        ops in prop::collection::vec(op(), 0..400),
    ) {
        let stream = EventStream::<()>::new(retention).unwrap();
        // Retains all, and so knows what all of it weighs.
        let everything = EventStream::<()>::new(Retention { events: 512, bytes: u64::MAX, ..Retention::default() }).unwrap();
        let mut log = Log::default();
        let mut readers: Vec<Checked> = Vec::new();
        let ahead = ahead.into_iter().map(Op::Append);
        for op in ahead.chain([first]).chain(ops) {
            let nth = |reader: usize| reader % readers.len();
            match op {
                Op::Append(published) => {
                    append(&stream, published.event());
                    append(&everything, published.event());
                    log.events.push(published);
                    log.bytes.push(everything.retained().weight);
                    log.oldest = stream.retained().oldest;
                    let of_category = |at: &&Published| at.category == published.category;
                    let n = log.events.iter().filter(of_category).count() as u64;
                    prop_assert_eq!(stream.totals()[published.category], n);
                    for reader in &readers {
                        let position = reader.reader.position();
                        prop_assert_eq!(stream.behind(position), log.behind(position));
                    }
                }
                // Somewhere in what is retained or has been, never in the future.
                Op::Join(filter, percent, lag_policy) => {
                    let after = stream.head() * percent / 100;
                    readers.push(Checked::new(&stream, filter, after, lag_policy));
                }
                Op::JoinBeside(reader) => {
                    let Checked { reader, follower } = &readers[nth(reader)];
                    let filter = follower.filter.clone();
                    readers.push(Checked::new(&stream, filter, reader.position(), follower.lag_policy));
                }
                Op::ReadForAll(reader, limit) => {
                    let mut leader = readers.swap_remove(nth(reader));
                    let (mut beside, others): (Vec<_>, Vec<_>) =
                        readers.into_iter().partition(|reader| reader.is_beside(&leader));
                    let since = leader.reader.ledger();
                    let items = leader.read(&log, limit, false);
                    for reader in &mut beside {
                        reader.follow(&log, &leader.reader, since, &items);
                    }
                    readers = others;
                    readers.append(&mut beside);
                    readers.push(leader);
                }
                Op::Refilter(reader, filter) => {
                    let at = nth(reader);
                    readers[at].refilter(filter);
                }
                Op::Read(reader, limit, first) => {
                    let at = nth(reader);
                    readers[at].read(&log, limit, first);
                }
                Op::TryNext(reader) => {
                    let at = nth(reader);
                    readers[at].try_next(&log);
                }
            }
        }
        // At rest, each reads to the end.
        for reader in &mut readers {
            reader.read(&log, usize::MAX, false);
            prop_assert_eq!(reader.reader.position(), stream.head());
            prop_assert_eq!(stream.behind(stream.head()), Behind::default());
        }
        prop_assert_eq!(stream.totals().sum(), stream.head());
    }
}

/// One large event pushes out all small ones, with most of the ring unused.
#[test]
fn what_is_evicted_for_its_bytes_is_reported_as_exactly() {
    let stream = EventStream::<()>::new(Retention {
        events: 1024,
        bytes: 60_000,
        ..Retention::default()
    })
    .unwrap();
    let of = |category, bytes| Published {
        category,
        odd: false,
        bytes,
    };
    let asked = Filter::categories(CategorySet::of(&[Category::Page]));
    let mut reader = stream.reader(0).filtered(asked);
    for n in 0..30 {
        let category = [Category::Page, Category::Console, Category::System][n % 3];
        append(&stream, of(category, 0).event());
    }
    assert_eq!(stream.retained().oldest, 1);
    append(&stream, of(Category::Network, 60_000).event());
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("all of them are gone")
    };
    assert_eq!((lost.first, lost.last, lost.matching), (1, 30, Some(10)));
    assert!(reader.try_next().is_none());
    let expected = ReaderLedger {
        start: 0,
        delivered: 0,
        filtered: 21,
        lost: 10,
    };
    assert_eq!(reader.ledger(), expected);
}

#[test]
fn a_filter_by_known_types_blames_only_their_categories() {
    let stream = stream::<()>(2);
    let filter = Filter::types(vec![TypePattern::new("console_log")]);
    let mut reader = stream.reader(0).filtered(filter);
    append(&stream, event("console_log", Category::Console));
    for _ in 0..4 {
        append(&stream, event("checkout_done", Category::Page));
    }
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("one may be lost")
    };
    assert_eq!(
        lost.by_category.unwrap().iter().collect::<Vec<_>>(),
        [(Category::Console, 1)]
    );
    assert_eq!((lost.count(), lost.matching), (3, None));
}

#[test]
fn a_reader_that_waited_for_the_future_says_what_it_lost() {
    let stream = stream::<()>(2);
    let mut reader = stream.reader(3);
    for _ in 0..8 {
        append(&stream, event("x", Category::Page));
    }
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("4 to 6 are gone")
    };
    assert_eq!((lost.first, lost.last, lost.matching), (4, 6, Some(3)));
    assert_eq!(
        reader.ledger(),
        ReaderLedger {
            start: 3,
            lost: 3,
            ..ReaderLedger::default()
        }
    );
}

/// Of what was evicted nothing was asked for, so the reader has not lagged: what is retained is read.
#[test]
fn only_a_loss_makes_a_reader_go_to_the_head() {
    let asked = Filter::categories(CategorySet::of(&[Category::Page]));
    let stream = stream::<()>(2);
    let mut reader = stream.reader(0).filtered(asked).on_lag(LagPolicy::Head);
    let append_all = |categories: &[Category]| {
        for category in categories {
            append(&stream, event("x", *category));
        }
    };
    append_all(&[
        Category::Console,
        Category::Console,
        Category::Page,
        Category::Console,
    ]);
    let Some(Item::Envelope(third)) = reader.try_next() else {
        panic!("it is there")
    };
    assert_eq!(third.seq(), 3);
    append_all(&[Category::Page, Category::Console, Category::Page]);
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("5 is gone")
    };
    assert_eq!((lost.first, lost.last, lost.matching), (4, 7, Some(2)));
    assert!(reader.try_next().is_none(), "7 was skipped");
    let expected = ReaderLedger {
        start: 0,
        delivered: 1,
        filtered: 4,
        lost: 2,
    };
    assert_eq!(reader.ledger(), expected);
}

#[test]
fn a_filter_that_is_changed_judges_what_is_gone_already() {
    let stream = stream::<()>(2);
    let mut reader = stream
        .reader(0)
        .filtered(Filter::categories(CategorySet::EMPTY));
    for _ in 0..5 {
        append(&stream, event("x", Category::Page));
    }
    reader.refilter(Filter::all());
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("1 to 3 are gone")
    };
    assert_eq!((lost.first, lost.last, lost.matching), (1, 3, Some(3)));
}

#[test]
#[should_panic(expected = "both stood at the same position")]
fn a_reader_at_another_position_cannot_be_followed() {
    let stream = stream::<()>(8);
    for _ in 0..2 {
        append(&stream, event("x", Category::Page));
    }
    let leader = stream.reader(1);
    stream.reader(0).follow(&leader, leader.ledger());
}
