//! Every interleaving of small scenarios. `cargo xtask loom` runs them.
//!
//! The name of a model ends with the orderings of `docs/ring.md` that it needs.
#![cfg(loom)]
#![allow(clippy::unwrap_used)] // in a test a panic is an answer

mod model;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;

use loom::thread;
use model::{Cell, Counting, block_on};
use tapline_ring::{Kept, PerThread, ReadItem, Reader, Ring, let_time_pass};

fn counting(capacity: usize) -> Arc<Counting> {
    model::counting(capacity)
}

/// As [`counting`], where a value weighs as much as it says.
fn weighed(records: usize, weight: u64) -> Arc<Counting> {
    model::weighed(records, weight)
}

/// The value is its producer's number.
fn append(ring: &Counting, n: u64) -> u64 {
    model::append(ring, Cell::new(n))
}

/// The values of what there is.
fn drain(reader: &mut Reader<Cell, Cell>) -> Vec<u64> {
    let mut values = Vec::new();
    model::read(reader, usize::MAX, |_, value| values.push(value.get()));
    values
}

/// For what has so many schedules that two preemptions already make half a minute of them.
fn large_model(scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(model.preemption_bound.map_or(2, |bound| bound.min(2)));
    model.check(scenario);
}

#[test]
fn two_producers_append_one_each_p1_p2() {
    for (capacity, start) in [(1, 0), (2, 0), (4, 0), (1, 41), (2, 40), (4, 41)] {
        loom::model(move || {
            let ring = model::counting_after(start, capacity);
            let other = {
                let ring = ring.clone();
                thread::spawn(move || append(&ring, 20))
            };
            let mine = append(&ring, 10);
            let theirs = other.join().unwrap();
            assert_eq!((mine.min(theirs), mine.max(theirs)), (start + 1, start + 2));
            assert_eq!(ring.head(), start + 2);
            let mut reader = ring.reader(0);
            assert_eq!(drain(&mut reader).len(), capacity.min(2));
        });
    }
}

#[test]
fn two_producers_go_around_a_small_ring_p1_p2() {
    loom::model(|| {
        let ring = counting(1);
        let other = {
            let ring = ring.clone();
            thread::spawn(move || (append(&ring, 20), append(&ring, 21)))
        };
        append(&ring, 10);
        let (first, second) = other.join().unwrap();
        assert!(first < second, "a producer's own order is kept");
        assert_eq!(ring.head(), 3);
        let mut reader = ring.reader(0);
        assert_eq!(drain(&mut reader).len(), 1);
    });
}

/// The log has two chunks of eight records each here. A producer begins a third one, in the place of the first.
#[test]
fn two_producers_go_around_the_log_l1_l2() {
    large_model(|| {
        let ring = model::classified(1);
        (1..=15).for_each(|seq| assert_eq!(model::append_classified(&ring), seq));
        let other = {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    model::append_classified(&ring);
                }
            })
        };
        model::append_classified(&ring);
        let head = ring.head();
        model::count_classes(&ring, 7, head);
        assert!(model::count_classes(&ring, 8, head), "the newest eight");
        assert!(model::count_classes(&ring, 1, head), "the whole is known");
        other.join().unwrap();
        assert!(model::count_classes(&ring, 8, 18));
        assert!(!model::count_classes(&ring, 7, 18), "7 is gone");
    });
}

#[test]
fn a_reader_beside_a_producer_p1() {
    for (capacity, start) in [(1, 0), (2, 0), (2, 41)] {
        loom::model(move || {
            let ring = model::counting_after(start, capacity);
            let mut reader = ring.reader(0);
            let producer = {
                let ring = ring.clone();
                thread::spawn(move || {
                    (1..=3).for_each(|n| assert_eq!(append(&ring, n), start + n));
                })
            };
            let early = drain(&mut reader);
            producer.join().unwrap();
            let late = drain(&mut reader);
            assert_eq!(reader.position(), start + 3);
            assert!(early.iter().chain(&late).is_sorted());
        });
    }
}

#[test]
fn what_is_taken_out_stays_whole_p1() {
    loom::model(|| {
        let ring = counting(1);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || (1..=2).for_each(|n| assert_eq!(append(&ring, n), n)))
        };
        let kept = ring.get(1);
        producer.join().unwrap();
        drop(ring);
        if let Some(kept) = kept {
            assert_eq!((kept.seq(), kept.value().get()), (1, 1));
        }
    });
}

/// A record takes over the memory of one that was evicted, once no reader looks at that.
#[test]
fn memory_is_not_used_again_under_a_reader_e1_e2() {
    loom::model(|| {
        let ring = counting(1);
        let mut reader = ring.reader(0);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || (1..=4).for_each(|n| assert_eq!(append(&ring, n), n)))
        };
        drain(&mut reader);
        drain(&mut reader);
        producer.join().unwrap();
        drain(&mut reader);
        assert_eq!(reader.position(), 4);
    });
}

/// The same, between two producers: each looks at the state that the other's record left.
#[test]
fn memory_is_not_used_again_under_a_producer_e1_e2() {
    large_model(|| {
        let ring = counting(1);
        let other = {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    append(&ring, 20);
                }
            })
        };
        for _ in 0..2 {
            append(&ring, 10);
        }
        other.join().unwrap();
        assert_eq!(ring.head(), 4);
    });
}

/// A batch enters again between two of its records: what it saw before may be used again from then on, and what it sees
/// afterwards may not.
#[test]
fn a_batch_beside_a_producer_e1_e2_p1_p2() {
    large_model(|| {
        let ring = counting(1);
        let other = {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    append(&ring, 20);
                }
            })
        };
        assert!(model::append_all(&ring, [10, 11].map(Cell::new)) >= 2);
        other.join().unwrap();
        assert_eq!(ring.head(), 5);
    });
}

/// Its owner never leaves between two records, and may have found its retire list closed.
#[test]
fn the_notifier_sweeps_beside_a_batch_e3_e4() {
    large_model(|| {
        let_time_pass();
        let ring = counting(1);
        append(&ring, 1);
        append(&ring, 2);
        assert_eq!(model::append_all(&ring, [3, 4, 5].map(Cell::new)), 5);
        let mut reader = ring.reader(4);
        assert_eq!(drain(&mut reader), [5]);
    });
}

/// A reader that sleeps is called for the first of a batch or for a later one.
#[test]
fn a_batch_wakes_w1_w2() {
    loom::model(|| {
        let ring = counting(4);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || model::append_all(&ring, [1, 2].map(Cell::new)))
        };
        let mut reader = ring.reader(0);
        assert_eq!((next(&mut reader), next(&mut reader)), (1, 2));
        producer.join().unwrap();
    });
}

/// A thread that has ended leaves its retire list to the next, and the notifier sweeps both.
#[test]
fn a_thread_takes_over_from_one_that_has_ended_e3_e4_t2_t3() {
    loom::model(|| {
        let_time_pass();
        let ring = counting(1);
        for n in [1, 3] {
            let ring = ring.clone();
            let producer = thread::spawn(move || {
                append(&ring, n);
                append(&ring, n + 1)
            });
            assert_eq!(producer.join().unwrap(), n + 1);
        }
    });
}

/// The notifier sweeps a retire list while its owner enters and leaves.
#[test]
fn the_notifier_sweeps_beside_a_producer_e3_e4() {
    large_model(|| {
        let_time_pass();
        let ring = counting(1);
        let mut reader = ring.reader(0);
        (1..=3).for_each(|n| assert_eq!(append(&ring, n), n));
        drain(&mut reader);
        assert_eq!(reader.position(), 3);
    });
}

/// Of two threads that run at the same time, the second may get the value of the first, if that has ended.
#[test]
fn a_value_goes_to_the_next_thread_t2_t3() {
    #[derive(Default)]
    struct Count(loom::cell::Cell<u64>);
    #[allow(unsafe_code)]
    // SAFETY: a thread uses its own alone; loom reports it where that is not so.
    unsafe impl Send for Count {}
    #[allow(unsafe_code)]
    // SAFETY: as above.
    unsafe impl Sync for Count {}

    loom::model(|| {
        let counts = Arc::new(PerThread::<Count>::default());
        let threads = [(); 2].map(|()| {
            let counts = counts.clone();
            thread::spawn(move || {
                let mine = &counts.mine().0;
                mine.set(mine.get() + 1);
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        let all: u64 = counts.iter().map(|count| count.0.get()).sum();
        assert_eq!(all, 2);
    });
}

/// Writes to its cell when it is dropped: no use of it may come after that.
struct Tidy(Cell);

impl Drop for Tidy {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

fn append_tidy(ring: &Ring<Tidy>) -> Kept<Tidy, ()> {
    let appended = ring.append(Tidy(Cell::new(7)), |_, (), _| Ok::<(), ()>(()));
    appended.ok().unwrap()
}

/// A record is dropped after everything that was done with it, whichever thread drops it last.
#[test]
fn the_last_reference_frees_c1() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(1, ()).unwrap());
        let kept = append_tidy(&ring);
        let other = {
            let kept = kept.clone();
            thread::spawn(move || assert_eq!(kept.value().0.get(), 7))
        };
        drop(ring);
        assert_eq!(kept.value().0.get(), 7);
        drop(kept);
        other.join().unwrap();
    });
}

/// Also after what was done by a thread that only visited it in the ring.
#[test]
fn the_last_reference_frees_what_was_visited_c1_e2() {
    large_model(|| {
        let ring = Arc::new(Ring::new(1, ()).unwrap());
        let kept = append_tidy(&ring);
        let mut reader = ring.reader(0);
        let visitor = thread::spawn(move || {
            reader.read(1, |item| {
                if let ReadItem::Record(record) = item {
                    assert_eq!(record.value().0.get(), 7);
                }
                ControlFlow::Break(())
            });
        });
        let other = thread::spawn(move || drop(kept));
        for _ in 0..2 {
            append_tidy(&ring);
        }
        visitor.join().unwrap();
        other.join().unwrap();
    });
}

/// Two producers evict for the weight of what they have appended, and a reader looks on.
#[test]
fn eviction_by_weight_beside_a_producer_and_a_reader_p1() {
    large_model(|| {
        let ring = weighed(4, 2);
        let other = {
            let ring = ring.clone();
            thread::spawn(move || {
                append(&ring, 1);
                append(&ring, 1);
            })
        };
        append(&ring, 2);
        let mut reader = ring.reader(0);
        drain(&mut reader);
        other.join().unwrap();
        drain(&mut reader);
        assert_eq!(reader.position(), 3);
        let retained = ring.retained();
        assert!(retained.weight <= 2 && retained.head == 3, "{retained:?}");
    });
}

/// The slot of the record to be evicted is the next one to be filled, and a transition record is in it.
#[test]
fn eviction_by_weight_beside_a_transition_p1() {
    loom::model(|| {
        let ring = weighed(2, 3);
        append(&ring, 1);
        append(&ring, 1);
        let controller = {
            let ring = ring.clone();
            thread::spawn(move || {
                ring.transition(|state, _| Ok::<_, ()>(state.clone()))
                    .unwrap();
            })
        };
        append(&ring, 3);
        controller.join().unwrap();
        assert_eq!(
            append(&ring, 1),
            4,
            "the count of the state is right, with the transition before or after"
        );
        let retained = ring.retained();
        assert_eq!((retained.oldest, retained.head), (4, 4));
    });
}

/// Values are stamped with the state in force. After the transition at head `h`, the seqs up to `h` carry
/// the state before, and all others the state after.
#[test]
fn a_transition_is_between_two_records_p1() {
    for capacity in [1, 4] {
        large_model(move || {
            let ring = Arc::new(Ring::new(capacity, Cell::new(100)).unwrap());
            let stamp = |ring: &Ring<Cell, Cell>| {
                let stamped = ring.append(Cell::new(0), |value, state, _| {
                    value.set(state.get());
                    Ok::<(), ()>(())
                });
                let stamped = stamped.unwrap();
                (stamped.seq(), stamped.value().get())
            };
            let producer = {
                let ring = ring.clone();
                thread::spawn(move || [stamp(&ring), stamp(&ring)])
            };
            let at = ring.transition(|_, _| Ok::<_, ()>(Cell::new(200))).unwrap();
            // It holds from the moment that it has returned.
            let mine = stamp(&ring);
            let theirs = producer.join().unwrap();
            for (seq, stamp) in theirs.into_iter().chain([mine]) {
                assert_eq!(
                    stamp,
                    if seq <= at { 100 } else { 200 },
                    "seq {seq}, transition at {at}"
                );
            }
        });
    }
}

#[test]
fn two_transitions_do_not_undo_each_other_p1() {
    loom::model(|| {
        let ring = counting(2);
        let add = |ring: &Counting| {
            ring.transition(|state, _| Ok::<_, ()>(Cell::new(state.get() + 1)))
                .unwrap();
        };
        let other = {
            let ring = ring.clone();
            thread::spawn(move || add(&ring))
        };
        add(&ring);
        other.join().unwrap();
        assert_eq!(ring.state(|state, head| (state.get(), head)), (2, 0));
    });
}

fn next(reader: &mut Reader<Cell, Cell>) -> u64 {
    match block_on(|cx| reader.poll_next(cx)) {
        ReadItem::Record(record) => record.value().get(),
        ReadItem::Lost(..) => panic!("nothing is lost here"),
    }
}

/// Loom reports a sleeper that is never woken as a deadlock.
#[test]
fn no_wake_up_is_lost_w1_w2_w5_w6() {
    loom::model(|| {
        let ring = counting(4);
        let mut reader = ring.reader(0);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || append(&ring, 7))
        };
        assert_eq!(next(&mut reader), 7);
        producer.join().unwrap();
    });
}

#[test]
fn a_reader_sleeps_twice_w1_w2_w5_w6() {
    loom::model(|| {
        let ring = counting(4);
        let mut reader = ring.reader(0);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || {
                append(&ring, 7);
                append(&ring, 8);
            })
        };
        assert_eq!(next(&mut reader), 7);
        assert_eq!(next(&mut reader), 8);
        producer.join().unwrap();
    });
}

#[test]
fn two_sleepers_are_both_woken_w1_w2_w5_w6() {
    large_model(|| {
        let ring = counting(4);
        let sleepers = [(); 2].map(|()| {
            let mut reader = ring.reader(0);
            thread::spawn(move || next(&mut reader))
        });
        append(&ring, 7);
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), 7);
        }
    });
}

/// A transition wakes, too: a reader may be waiting for the state to change.
#[test]
fn a_transition_wakes_w1_w2() {
    loom::model(|| {
        let ring = counting(4);
        let mut reader = ring.reader(0);
        let controller = {
            let ring = ring.clone();
            thread::spawn(move || ring.transition(|_, _| Ok::<_, ()>(Cell::new(9))).unwrap())
        };
        block_on(|cx| {
            reader.poll_until(cx, |reader| {
                reader
                    .ring()
                    .state(|state, _| (state.get() == 9).then_some(()))
            })
        });
        controller.join().unwrap();
    });
}

/// A reader that is dropped while it sleeps gives its wait node back, and the next one may use it.
#[test]
fn a_wait_node_is_given_back_and_used_again_w5_w6() {
    loom::model(|| {
        let ring = counting(4);
        let mut first = ring.reader(0);
        let producer = {
            let ring = ring.clone();
            thread::spawn(move || append(&ring, 7))
        };
        // One poll, then it is dropped, woken or not.
        block_on(|cx| {
            let _ = first.poll_next(cx);
            Poll::Ready(())
        });
        drop(first);
        assert_eq!(next(&mut ring.reader(0)), 7);
        producer.join().unwrap();
    });
}
