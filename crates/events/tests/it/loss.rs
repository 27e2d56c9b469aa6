//! What a reader is told it missed, against a log that remembers everything.

use std::ops::ControlFlow;

use proptest::prelude::*;
use tapline_events::{Filter, Item, Ledger, Lost, Reader, TypePattern};
use tapline_oapi::{Category, CategorySet};

use crate::{append, event, stream};

#[derive(Debug, Clone)]
enum Op {
    /// Of the category with that index, with one of two types.
    Append(usize, bool),
    Read(usize),
    TryNext,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..Category::COUNT, any::<bool>()).prop_map(|(at, odd)| Op::Append(at, odd)),
        2 => (0..12_usize).prop_map(Op::Read),
        1 => Just(Op::TryNext),
    ]
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

/// Everything that was published, and how far a reader has been checked against it.
struct Log {
    events: Vec<(Category, bool)>,
    filter: Filter,
    checked: u64,
    ledger: Ledger,
}

impl Log {
    fn wants(&self, seq: u64) -> bool {
        let (category, odd) = self.events[seq as usize - 1];
        self.filter
            .matches(&event(if odd { "odd_x" } else { "even_x" }, category))
    }

    fn in_categories(&self, seq: u64) -> bool {
        self.filter
            .categories
            .is_none_or(|asked| asked.contains(self.events[seq as usize - 1].0))
    }

    /// Up to `seq`, which was delivered, everything else was not asked for.
    fn delivered(&mut self, seq: u64) {
        for passed in self.checked + 1..seq {
            assert!(
                !self.wants(passed),
                "{passed} was asked for and not delivered"
            );
            self.ledger.filtered += 1;
        }
        assert!(self.wants(seq));
        self.ledger.delivered += 1;
        self.checked = seq;
    }

    fn lost(&mut self, lost: &Lost) {
        for passed in self.checked + 1..lost.first {
            assert!(
                !self.wants(passed),
                "{passed} was asked for and not delivered"
            );
            self.ledger.filtered += 1;
        }
        let counts = lost
            .by_category
            .expect("known for a reader that did not wait for the future");
        for category in Category::ALL {
            let expected = (lost.first..=lost.last)
                .filter(|seq| self.events[*seq as usize - 1].0 == category)
                .filter(|seq| self.in_categories(*seq))
                .count() as u64;
            assert_eq!(counts[category], expected, "{category}");
        }
        let wanted = (lost.first..=lost.last)
            .filter(|seq| self.wants(*seq))
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

    /// What lies behind the last thing told was passed over in silence, so it was not asked for.
    fn close(&mut self, reader: &Reader) {
        for passed in self.checked + 1..=reader.position() {
            let known = self.filter.types.is_empty();
            assert!(
                !known || !self.wants(passed),
                "{passed} was passed over in silence"
            );
            self.ledger.filtered += 1;
        }
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
    fn losses_are_exact_under_every_filter(
        capacity in prop_oneof![Just(1_usize), Just(4), Just(16)],
        filter in filter(),
        ahead in 0..20_usize,
        after in 0..20_u64,
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let stream = stream::<()>(capacity);
        let mut log =
            Log { events: Vec::new(), filter: filter.clone(), checked: 0, ledger: Ledger::default() };
        let publish = |log: &mut Log, category: Category, odd: bool| {
            append(&stream, event(if odd { "odd_x" } else { "even_x" }, category));
            log.events.push((category, odd));
        };
        for n in 0..ahead {
            publish(&mut log, Category::ALL[n % Category::COUNT], n % 2 == 1);
        }
        // Somewhere in what is retained or has been, never in the future.
        let mut reader = stream.reader(after.min(ahead as u64)).filtered(filter);
        log.checked = reader.position();
        log.ledger.start = reader.position();
        for op in ops {
            match op {
                Op::Append(at, odd) => publish(&mut log, Category::ALL[at], odd),
                Op::Read(limit) => {
                    reader.read(limit, |item| {
                        match item {
                            Item::Envelope(envelope) => log.delivered(envelope.seq()),
                            Item::Lost(lost) => log.lost(&lost),
                        }
                        ControlFlow::Continue(())
                    });
                    log.close(&reader);
                }
                Op::TryNext => {
                    match reader.try_next() {
                        Some(Item::Envelope(envelope)) => log.delivered(envelope.seq()),
                        Some(Item::Lost(lost)) => log.lost(&lost),
                        None => {}
                    }
                    log.close(&reader);
                }
            }
        }
    }
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
