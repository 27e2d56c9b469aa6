//! A ring whose first seq is not 1.

use std::sync::Arc;

use tapline_ring::{Bounds, CapacityError, MAX_START, ReadItem, Retained, Ring};

fn bounds(records: usize, weight: u64) -> Bounds {
    Bounds {
        weight,
        ..Bounds::of(records)
    }
}

fn ring(start: u64, records: usize, weight: u64) -> Arc<Ring<u64, u64>> {
    Arc::new(Ring::starting_after(start, bounds(records, weight), 0).unwrap())
}

fn append(ring: &Ring<u64, u64>, weight: u64) -> u64 {
    let count = |_: &mut u64, count: &mut u64, _| {
        *count += 1;
        Ok::<_, ()>(weight as u32)
    };
    ring.append(weight, count).unwrap().seq()
}

#[test]
fn a_ring_follows_on_at_any_seq() {
    for start in [
        0,
        1,
        2,
        3,
        7,
        8,
        1000,
        u64::from(u32::MAX),
        MAX_START - 5,
        MAX_START,
    ] {
        for records in [1, 2, 8] {
            let ring = ring(start, records, u64::MAX);
            assert_eq!((ring.start(), ring.head()), (start, start));
            let empty = Retained {
                oldest: 0,
                head: start,
                weight: 0,
            };
            assert_eq!(ring.retained(), empty);
            for position in [0, start / 2, start, start + 1] {
                assert!(ring.unread(position).is_none());
                assert!(ring.get(position).is_none());
            }
            let mut from_nothing = ring.reader(0);
            let mut from_start = ring.reader(start);
            let mut from_later = ring.reader(start + 2);
            assert_eq!(
                from_nothing.position(),
                start,
                "what was before is not in the ring"
            );
            assert!(from_nothing.try_next().is_none());
            for n in 1..=20_u64 {
                assert_eq!(append(&ring, n), start + n);
                let oldest = start + (n + 1).saturating_sub(records as u64).max(1);
                let retained = ring.retained();
                assert_eq!((retained.oldest, retained.head), (oldest, start + n));
                assert_eq!(ring.get(start + n).map(|record| *record.state()), Some(n));
                if n == 1 {
                    let Some(ReadItem::Record(record)) = from_start.try_next() else {
                        panic!("the first record")
                    };
                    assert_eq!(record.seq(), start + 1);
                }
            }
            let first = from_nothing.try_next();
            match first {
                Some(ReadItem::Lost(lost)) => {
                    assert_eq!(lost.first, start + 1);
                    let next = from_nothing.peek(|record| record.seq());
                    assert_eq!(Some(lost.last + 1), next);
                }
                other => panic!("20 records do not fit: {other:?}"),
            }
            assert!(
                matches!(from_later.try_next(), Some(ReadItem::Lost(lost)) if lost.first == start + 3)
            );
        }
    }
}

#[test]
fn a_ring_that_follows_on_evicts_by_weight() {
    let ring = ring(41, 8, 100);
    for _ in 0..3 {
        append(&ring, 40);
    }
    let retained = ring.retained();
    assert_eq!(
        (retained.oldest, retained.head, retained.weight),
        (43, 44, 80)
    );
    assert_eq!(append(&ring, 101), 45);
    assert_eq!(ring.retained().oldest, 45);
}

#[test]
fn a_transition_before_the_first_record_is_at_the_start() {
    let ring = ring(41, 4, u64::MAX);
    assert_eq!(ring.transition(|_, head| Ok::<_, ()>(head)), Ok(41));
    assert_eq!(append(&ring, 1), 42);
    assert_eq!(ring.state(|count, head| (*count, head)), (42, 42));
}

#[test]
fn a_start_beyond_the_numbers_of_a_ring_is_an_error() {
    for start in [MAX_START + 1, (1 << 61) - 1, 1 << 61, u64::MAX] {
        let refused = Ring::<u64>::starting_after(start, bounds(8, 1), ()).unwrap_err();
        assert_eq!(refused, CapacityError::FirstSeq(start.saturating_add(1)));
        assert!(refused.to_string().contains(&(MAX_START + 1).to_string()));
    }
}
