//! What a reader is told it missed, against a log that remembers everything.

use std::ops::ControlFlow;

use proptest::prelude::*;
use serde_json::value::RawValue;
use tapline_events::{EventStream, Filter, Item, Ledger, Lost, Reader, Retention, TypePattern};
use tapline_oapi::{Category, CategorySet, Event};

use crate::{append, event, stream};

#[derive(Debug, Clone)]
enum Op {
    Append(Published),
    /// Another reader joins, after so many hundredths of the seqs so far.
    Join(Filter, u64),
    /// By the reader with that number, modulo how many there are: so many, or up to the first.
    Read(usize, usize, bool),
    TryNext(usize),
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
        1 => (filter(), 0..=100_u64).prop_map(|(filter, after)| Op::Join(filter, after)),
        8 => (any::<usize>(), 0..12_usize, any::<bool>())
            .prop_map(|(reader, limit, first)| Op::Read(reader, limit, first)),
        4 => any::<usize>().prop_map(Op::TryNext),
    ]
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

fn filter() -> impl Strategy<Value = Filter> {
    let categories = prop_oneof![
        2 => any::<u16>().prop_map(|bits| Some(CategorySet::from_bits(bits))),
        1 => Just(None),
    ];
    let types = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![TypePattern::new("odd_*")]),
    ];
    (categories, types).prop_map(|(categories, types)| Filter { categories, types })
}

/// By count, by bytes, or by both: some small events and no large one, or hardly any.
fn retention() -> impl Strategy<Value = Retention> {
    let events = prop_oneof![Just(1_usize), Just(4), Just(16), Just(64)];
    let bytes = prop_oneof![Just(u64::MAX), Just(12_000), Just(3000)];
    (events, bytes).prop_map(|(events, bytes)| Retention { events, bytes })
}

/// A reader, and how far it has been checked against the log.
struct Checked {
    reader: Reader,
    follower: Follower,
}

/// What a reader should say of itself.
struct Follower {
    filter: Filter,
    checked: u64,
    ledger: Ledger,
}

impl Checked {
    fn new(stream: &EventStream, filter: Filter, after: u64) -> Self {
        let reader = stream.reader(after).filtered(filter.clone());
        let start = reader.position();
        let ledger = Ledger {
            start,
            ..Ledger::default()
        };
        Self {
            reader,
            follower: Follower {
                filter,
                checked: start,
                ledger,
            },
        }
    }

    fn read(&mut self, log: &[Published], limit: usize, first: bool) {
        let Self { reader, follower } = self;
        reader.read(limit, |item| {
            follower.got(log, seq_of(item, |envelope| envelope.seq()));
            match first {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        follower.close(log, reader);
    }

    fn try_next(&mut self, log: &[Published]) {
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
    fn wants(&self, log: &[Published], seq: u64) -> bool {
        self.filter.matches(&log[seq as usize - 1].without_data())
    }

    fn in_categories(&self, log: &[Published], seq: u64) -> bool {
        let category = log[seq as usize - 1].category;
        self.filter
            .categories
            .is_none_or(|asked| asked.contains(category))
    }

    fn got(&mut self, log: &[Published], item: Item<u64>) {
        match item {
            Item::Envelope(seq) => {
                self.passed_over(log, seq);
                assert!(self.wants(log, seq));
                self.ledger.delivered += 1;
                self.checked = seq;
            }
            Item::Lost(lost) => self.lost(log, &lost),
        }
    }

    /// What lies before `next` and was told by nothing was not asked for.
    fn passed_over(&mut self, log: &[Published], next: u64) {
        for passed in self.checked + 1..next {
            assert!(
                !self.wants(log, passed),
                "{passed} was passed over in silence"
            );
            self.ledger.filtered += 1;
        }
    }

    fn lost(&mut self, log: &[Published], lost: &Lost) {
        self.passed_over(log, lost.first);
        let counts = lost
            .by_category
            .expect("known for a reader that did not wait for the future");
        for category in Category::ALL {
            let expected = (lost.first..=lost.last)
                .filter(|seq| log[*seq as usize - 1].category == category)
                .filter(|seq| self.in_categories(log, *seq))
                .count() as u64;
            assert_eq!(counts[category], expected, "{category}");
        }
        let wanted = (lost.first..=lost.last)
            .filter(|seq| self.wants(log, *seq))
            .count() as u64;
        if self.filter.types.is_empty() {
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

    fn close(&mut self, log: &[Published], reader: &Reader) {
        self.passed_over(log, reader.position() + 1);
        self.checked = reader.position();
        assert_eq!(reader.ledger(), self.ledger);
        let Ledger {
            start,
            delivered,
            filtered,
            lost,
        } = reader.ledger();
        assert_eq!(delivered + filtered + lost, reader.position() - start);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn losses_are_exact_under_every_filter_and_bound(
        retention in retention(),
        ahead in prop::collection::vec(published(), 0..20),
        first in (filter(), 0..=100_u64),
        ops in prop::collection::vec(op(), 0..400),
    ) {
        let stream = EventStream::<()>::new(retention).unwrap();
        let mut log = Vec::new();
        let mut readers = Vec::new();
        let ahead = ahead.into_iter().map(Op::Append);
        for op in ahead.chain([Op::Join(first.0, first.1)]).chain(ops) {
            let nth = |reader: usize| reader % readers.len();
            match op {
                Op::Append(published) => {
                    append(&stream, published.event());
                    log.push(published);
                    let of_category = |at: &&Published| at.category == published.category;
                    let n = log.iter().filter(of_category).count() as u64;
                    prop_assert_eq!(stream.totals()[published.category], n);
                }
                // Somewhere in what is retained or has been, never in the future.
                Op::Join(filter, percent) => {
                    readers.push(Checked::new(&stream, filter, stream.head() * percent / 100));
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
        }
        prop_assert_eq!(stream.totals().sum(), stream.head());
    }
}

/// One large event pushes out all small ones, far from a lap.
#[test]
fn what_is_evicted_for_its_bytes_is_told_as_exactly() {
    let stream = EventStream::<()>::new(Retention {
        events: 1024,
        bytes: 60_000,
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
    append(&stream, of(Category::Network, 40_000).event());
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("all of them are gone")
    };
    assert_eq!((lost.first, lost.last, lost.matching), (1, 30, Some(10)));
    assert!(reader.try_next().is_none());
    let expected = Ledger {
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
    let filter = Filter {
        categories: None,
        types: vec![TypePattern::new("console_log")],
    };
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
fn a_reader_that_waits_for_the_future_says_what_it_cannot_know() {
    let stream = stream::<()>(2);
    let mut reader = stream.reader(3);
    for _ in 0..8 {
        append(&stream, event("x", Category::Page));
    }
    let Some(Item::Lost(lost)) = reader.try_next() else {
        panic!("4 to 6 are gone")
    };
    assert_eq!(
        (lost.first, lost.last, lost.matching, lost.by_category),
        (4, 6, None, None)
    );
    assert_eq!(
        reader.ledger(),
        Ledger {
            start: 3,
            lost: 3,
            ..Ledger::default()
        }
    );
}
