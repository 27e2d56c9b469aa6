//! Requests that cannot be met, the bounds, and decisions that panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tapline_ring::{Bounds, CapacityError, Measure, ReadItem, Retained, Ring};

#[test]
fn impossible_capacities_are_errors_before_anything_is_allocated() {
    assert_eq!(Ring::<u8>::new(0, ()).unwrap_err(), CapacityError::Zero);
    for capacity in [usize::MAX, usize::MAX / 2 + 2, isize::MAX as usize / 8 + 1] {
        assert_eq!(
            Ring::<u8>::new(capacity, ()).unwrap_err(),
            CapacityError::TooLarge(capacity)
        );
    }
}

#[test]
fn the_effective_capacity_is_the_next_power_of_two() {
    for (asked, effective) in [(1, 1), (2, 2), (3, 4), (1000, 1024)] {
        assert_eq!(
            Ring::<u8>::new(asked, ()).unwrap().bounds().records,
            effective
        );
    }
}

#[test]
fn an_empty_ring_retains_nothing() {
    let ring = Arc::new(Ring::<u8>::new(8, ()).unwrap());
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 0,
            head: 0,
            weight: 0
        }
    );
    assert!(ring.get(0).is_none());
    assert!(ring.get(u64::MAX).is_none());
    assert!(ring.reader(0).try_next().is_none());
}

#[test]
fn a_reader_may_wait_for_a_seq_that_is_far_off() {
    let ring = Arc::new(Ring::new(2, ()).unwrap());
    let mut third = ring.reader(2);
    let mut last = ring.reader(u64::MAX - 1);
    for n in 1..=3_u64 {
        assert!(third.try_next().is_none());
        ring.append(n, |_, (), _| Ok::<(), ()>(())).unwrap();
    }
    assert!(matches!(third.try_next(), Some(ReadItem::Record(record)) if record.seq() == 3));
    assert!(last.try_next().is_none());
}

#[test]
fn a_panic_in_a_decision_leaves_the_ring_whole() {
    let ring = Arc::new(Ring::new(2, 0_u64).unwrap());
    let append = |n: u64| {
        let count = |_: &mut u64, count: &mut u64, _| {
            *count += 1;
            Ok::<(), ()>(())
        };
        ring.append(n, count).unwrap().seq()
    };
    append(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        ring.append(2, |_, _, _| -> Result<(), ()> {
            panic!("in the closure of a caller")
        })
    }));
    assert!(panicked.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        ring.transition(|_, _| -> Result<u64, ()> { panic!("in the closure of a caller") })
    }));
    assert!(panicked.is_err());
    assert_eq!((append(3), append(4)), (2, 3));
    assert_eq!(ring.state(|count, head| (*count, head)), (3, 3));
}

fn append(ring: &Ring<u64>, weight: u64) -> u64 {
    ring.append(weight, |_, (), _| Ok::<_, ()>(weight as u32))
        .unwrap()
        .seq()
}

#[test]
fn what_is_heavier_than_the_whole_bound_is_retained_alone() {
    let bounds = Bounds {
        weight: 100,
        ..Bounds::of(8)
    };
    let ring = Arc::new(Ring::bounded(bounds, ()).unwrap());
    for _ in 0..3 {
        append(&ring, 40);
    }
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 2,
            head: 3,
            weight: 80
        }
    );
    append(&ring, 101);
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 4,
            head: 4,
            weight: 101
        }
    );
    append(&ring, 10);
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 5,
            head: 5,
            weight: 10
        }
    );
    append(&ring, 90);
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 5,
            head: 6,
            weight: 100
        }
    );
}

#[test]
fn a_transition_in_the_slot_of_a_record_to_evict_does_not_keep_it() {
    let bounds = Bounds {
        weight: 100,
        ..Bounds::of(2)
    };
    let ring = Arc::new(Ring::bounded(bounds, ()).unwrap());
    let transition = || ring.transition(|(), _| Ok::<_, ()>(())).unwrap();
    append(&ring, 10);
    append(&ring, 10);
    transition();
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 1,
            head: 2,
            weight: 20
        }
    );
    append(&ring, 95);
    assert_eq!(
        ring.retained(),
        Retained {
            oldest: 3,
            head: 3,
            weight: 95
        }
    );
    let mut reader = ring.reader(0);
    assert_eq!(reader.position(), 2);
    assert!(matches!(reader.try_next(), Some(ReadItem::Record(record)) if record.seq() == 3));
}

#[test]
fn a_reader_far_behind_an_emptied_slot_gets_its_loss() {
    // Whatever is in its slot, and however often the ring has gone around since the reader was there.
    for appends in 1..12 {
        for has_transition in [false, true] {
            let bounds = Bounds {
                weight: 1,
                ..Bounds::of(4)
            };
            let ring = Arc::new(Ring::bounded(bounds, ()).unwrap());
            let mut reader = ring.reader(0);
            for _ in 0..appends {
                append(&ring, 1);
            }
            if has_transition {
                ring.transition(|(), _| Ok::<_, ()>(())).unwrap();
            }
            if appends > 1 {
                let Some(ReadItem::Lost(lost)) = reader.try_next() else {
                    panic!("{appends}")
                };
                assert_eq!((lost.first, lost.last), (1, appends - 1));
            }
            let Some(ReadItem::Record(record)) = reader.try_next() else {
                panic!("{appends}")
            };
            assert_eq!(record.seq(), appends);
            assert!(reader.try_next().is_none());
        }
    }
}

/// The log is longer than the ring, and goes around as well.
#[test]
fn classes_are_known_as_far_back_as_the_log_goes() {
    let (chunk, log, start) = (4096_u64, 8192, 1000);
    let bounds = Bounds {
        log: 5000,
        ..Bounds::of(8)
    };
    let ring = Ring::starting_after(start, bounds, ()).unwrap();
    assert_eq!(ring.bounds().log as u64, log);
    assert_eq!(ring.classes(start..=start), None);
    for head in start + 1..start + 30_000 {
        let measure = Measure {
            class: (head % 7) as u8,
            ..Measure::default()
        };
        ring.append(head, |_, (), _| Ok::<_, ()>(measure)).unwrap();
        // At each edge, and now and then.
        if ![0, 1, chunk - 1].contains(&(head % chunk)) && head % 997 > 0 {
            continue;
        }
        let of_class = |class, last: u64| (last + 7 - class) / 7;
        for behind in [0, 1, 8, 9, 4095, 4096, 4097, 8191, 8192, 8193, 20_000] {
            let Some(first) = head.checked_sub(behind).filter(|first| start < *first) else {
                continue;
            };
            let counts = ring.classes(first..=head);
            let is_there = behind <= log - chunk;
            assert!(counts.is_some() || !is_there, "{first} to {head}");
            assert!(counts.is_none() || behind <= log, "{first} to {head}");
            for (class, count) in (0..).zip(counts.into_iter().flatten()) {
                let expected = match class < 7 {
                    true => of_class(class, head) - of_class(class, first - 1),
                    false => 0,
                };
                assert_eq!(count, expected, "class {class} of {first} to {head}");
            }
        }
    }
}

#[test]
fn a_log_that_no_memory_can_hold_is_refused() {
    let bounds = Bounds {
        log: usize::MAX,
        ..Bounds::of(8)
    };
    let refused = Ring::<u64>::bounded(bounds, ()).unwrap_err();
    assert_eq!(refused, CapacityError::LogTooLarge(usize::MAX));
}
