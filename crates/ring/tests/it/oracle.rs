//! Random operations, each compared with a model so simple that it needs no proof.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use tapline_ring::{
    Bounds, CLASSES, ClassCounts, Lost, MAX_START, Measure, ReadItem, Reader, Rejected, Ring,
};

/// One step. `usize` picks a reader.
#[derive(Debug, Clone)]
enum Op {
    Append(u32),
    /// Of which those that are divisible by 5 are refused.
    Batch(Vec<u32>),
    Refuse(u32),
    Transition(u64),
    RefuseTransition,
    NewReader {
        after: u64,
    },
    Read {
        reader: usize,
        limit: usize,
    },
    TryNext {
        reader: usize,
    },
    Skip {
        reader: usize,
        by: u64,
    },
    Drop {
        reader: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any::<u32>().prop_map(Op::Append),
        3 => prop::collection::vec(any::<u32>(), 0..8).prop_map(Op::Batch),
        1 => prop::collection::vec(any::<u32>(), 60..140).prop_map(Op::Batch),
        1 => any::<u32>().prop_map(Op::Refuse),
        2 => (0..1000_u64).prop_map(Op::Transition),
        1 => Just(Op::RefuseTransition),
        2 => (0..60_u64).prop_map(|after| Op::NewReader { after }),
        4 => (any::<usize>(), 0..20_usize).prop_map(|(reader, limit)| Op::Read { reader, limit }),
        4 => any::<usize>().prop_map(|reader| Op::TryNext { reader }),
        1 => (any::<usize>(), 0..6_u64).prop_map(|(reader, by)| Op::Skip { reader, by }),
        1 => any::<usize>().prop_map(|reader| Op::Drop { reader }),
    ]
}

/// The same behaviour, with a list and no concurrency.
struct Oracle {
    capacity: usize,
    weight: u64,
    start: u64,
    head: u64,
    state: u64,
    retained: VecDeque<(u64, u32, u64)>,
    /// Of each record that was appended.
    classes: Vec<u8>,
    has_log: bool,
}

/// What a reader has found, in the ring or in the oracle.
#[derive(Debug, PartialEq)]
enum Seen {
    Lost(u64, u64),
    Record(u64, u32, u64),
}

impl Oracle {
    fn append(&mut self, value: u32) -> u64 {
        self.head += 1;
        self.state += 1;
        self.retained.push_back((self.head, value, self.state));
        self.classes.push(classify(&value));
        if self.retained.len() > self.capacity {
            self.retained.pop_front();
        }
        while self.retained.len() > 1 && self.retained_weight() > self.weight {
            self.retained.pop_front();
        }
        self.head
    }

    /// The first seq retained after that one, the head, and the weight from the one to the other.
    fn unread(&self, after: u64) -> Option<(u64, u64, u64)> {
        let unread = || self.retained.iter().filter(|(seq, ..)| *seq > after);
        let (first, ..) = unread().next()?;
        let weight = unread().map(|(_, value, _)| weigh(value)).sum();
        Some((*first, self.head, weight))
    }

    fn retained_weight(&self) -> u64 {
        self.retained.iter().map(|(_, value, _)| weigh(value)).sum()
    }

    fn classes(&self, first: u64, last: u64) -> Option<ClassCounts> {
        if first <= self.start || self.head < last || !self.has_log && first != self.start + 1 {
            return None;
        }
        let mut counts = [0; CLASSES];
        for seq in first..=last {
            counts[usize::from(self.classes[(seq - self.start - 1) as usize])] += 1;
        }
        Some(counts)
    }

    fn oldest(&self) -> u64 {
        self.retained.front().map_or(0, |record| record.0)
    }

    /// The first seq that can be read now or later.
    fn first(&self) -> u64 {
        self.oldest().max(self.start + 1)
    }

    fn read(&self, position: &mut u64, limit: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        if limit > 0 && *position + 1 < self.oldest() {
            seen.push(Seen::Lost(*position + 1, self.oldest() - 1));
            *position = self.oldest() - 1;
        }
        let from = *position;
        for (seq, value, state) in self
            .retained
            .iter()
            .filter(|record| record.0 > from)
            .take(limit)
        {
            seen.push(Seen::Record(*seq, *value, *state));
            *position = *seq;
        }
        seen
    }
}

fn classify(value: &u32) -> u8 {
    (value % CLASSES as u32) as u8
}

fn measure(value: &u32) -> Measure {
    Measure {
        weight: weigh(value) as u32,
        class: classify(value),
    }
}

fn weigh(value: &u32) -> u64 {
    u64::from(value % 100)
}

fn read(reader: &mut Reader<u32, u64>, limit: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let shown = reader.read(limit, |item| {
        seen.push(match item {
            ReadItem::Lost(Lost { first, last }) => Seen::Lost(first, last),
            ReadItem::Record(record) => {
                Seen::Record(record.seq(), *record.value(), *record.state())
            }
        });
        ControlFlow::Continue(())
    });
    assert_eq!(
        shown,
        seen.iter()
            .filter(|seen| matches!(seen, Seen::Record(..)))
            .count()
    );
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_ring_does_what_the_oracle_does(
        capacity in 1..40_usize,
        weight in prop_oneof![2 => 0..1500_u64, 1 => Just(u64::MAX)],
        log in 0..2_usize,
        start in prop_oneof![2 => Just(0_u64), 2 => 0..100_u64, 1 => 0..=MAX_START],
        ops in prop::collection::vec(op(), 0..200),
    ) {
        let bounds = Bounds { weight, log, ..Bounds::of(capacity) };
        let ring = Arc::new(Ring::starting_after(start, bounds, 0_u64).unwrap());
        let records = ring.bounds().records;
        prop_assert_eq!((records, ring.bounds().weight), (capacity.next_power_of_two(), weight));
        let mut oracle =
            Oracle { capacity: records, weight, start, head: start, state: 0, retained: VecDeque::new(), classes: Vec::new(), has_log: log > 0 };
        let mut readers: Vec<(Reader<u32, u64>, u64)> = Vec::new();

        for op in ops {
            match op {
                Op::Append(value) => {
                    let appended = ring.append(value, |value, state, _| { *state += 1; Ok::<_, ()>(measure(value)) }).unwrap();
                    prop_assert_eq!(appended.seq(), oracle.append(value));
                }
                Op::Batch(values) => {
                    let mut batch = ring.batch();
                    for value in values {
                        let appended = batch.append(value, |value, state, _| {
                            *state += 1;
                            if *value % 5 == 0 { Err(()) } else { Ok(measure(value)) }
                        });
                        match appended {
                            Ok(record) => {
                                prop_assert_eq!((record.seq(), *record.value()), (oracle.append(value), value));
                                prop_assert_eq!(*record.state(), oracle.state);
                            }
                            Err(refused) => prop_assert_eq!((refused.value, value % 5), (value, 0)),
                        }
                        // It can be read before the batch ends.
                        prop_assert_eq!(ring.head(), oracle.head);
                    }
                }
                Op::Refuse(value) => {
                    let refused = ring.append(value, |_, state, seq| Err::<(), _>((*state, seq)));
                    let Err(Rejected { value: back, reason }) = refused else { panic!("appended") };
                    prop_assert_eq!(back, value);
                    prop_assert_eq!(reason, (oracle.state, oracle.head + 1));
                }
                Op::Transition(to) => {
                    let before = ring.transition(|state, _| { assert_eq!(*state, oracle.state); Ok::<_, ()>(to) });
                    prop_assert_eq!(before, Ok(oracle.head));
                    oracle.state = to;
                }
                Op::RefuseTransition => {
                    prop_assert_eq!(ring.transition(|_, head| Err::<u64, _>(head)), Err(oracle.head));
                }
                Op::NewReader { after } => {
                    let after = start.saturating_sub(20) + after;
                    let reader = ring.reader(after);
                    let position = after.max(oracle.first() - 1);
                    prop_assert_eq!(reader.position(), position);
                    readers.push((reader, position));
                }
                Op::Read { reader, limit } if !readers.is_empty() => {
                    let at = reader % readers.len();
                    let (reader, position) = &mut readers[at];
                    prop_assert_eq!(read(reader, limit), oracle.read(position, limit));
                    prop_assert_eq!(reader.position(), *position);
                }
                Op::TryNext { reader } if !readers.is_empty() => {
                    let at = reader % readers.len();
                    let (reader, position) = &mut readers[at];
                    let ready = reader.is_ready();
                    let seen = reader.try_next().map(|item| match item {
                        ReadItem::Lost(lost) => Seen::Lost(lost.first, lost.last),
                        ReadItem::Record(record) => Seen::Record(record.seq(), *record.value(), *record.state()),
                    });
                    // The oracle reads a loss together with what follows it.
                    let mut probe = *position;
                    let expected = oracle.read(&mut probe, 1).into_iter().next();
                    *position = match expected {
                        Some(Seen::Lost(_, last)) => last,
                        Some(Seen::Record(seq, ..)) => seq,
                        None => *position,
                    };
                    prop_assert_eq!(ready, expected.is_some());
                    prop_assert_eq!(seen, expected);
                }
                Op::Skip { reader, by } if !readers.is_empty() => {
                    let at = reader % readers.len();
                    let (reader, position) = &mut readers[at];
                    *position += by;
                    reader.skip_to(*position);
                }
                Op::Drop { reader } if !readers.is_empty() => {
                    readers.swap_remove(reader % readers.len());
                }
                Op::Read { .. } | Op::TryNext { .. } | Op::Skip { .. } | Op::Drop { .. } => {}
            }
            prop_assert_eq!(ring.head(), oracle.head);
            let retained = ring.retained();
            prop_assert_eq!((retained.oldest, retained.head), (oracle.oldest(), oracle.head));
            prop_assert_eq!(retained.weight, oracle.retained_weight());
            prop_assert_eq!(ring.state(|state, head| (*state, head)), (oracle.state, oracle.head));
            for (seq, value, state) in &oracle.retained {
                let kept = ring.get(*seq).expect("what the oracle retains, the ring does");
                prop_assert_eq!((*kept.value(), *kept.state()), (*value, *state));
            }
            prop_assert!(ring.get(oracle.head + 1).is_none());
            for first in [0, start, start + 1, oracle.oldest(), oracle.oldest().midpoint(oracle.head), oracle.head] {
                for last in [first, oracle.oldest(), oracle.head, oracle.head + 1] {
                    prop_assert_eq!(ring.classes(first..=last), oracle.classes(first, last));
                }
            }
            for after in [0, start, oracle.oldest(), oracle.oldest().midpoint(oracle.head), oracle.head, u64::MAX] {
                let unread = ring.unread(after).map(|it| (it.first.seq(), it.head, it.weight));
                prop_assert_eq!(unread, oracle.unread(after));
            }
            prop_assert!(oracle.oldest() < 2 || ring.get(oracle.oldest() - 1).is_none());
        }
    }
}
