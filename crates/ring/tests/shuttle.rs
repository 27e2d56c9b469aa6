//! Random schedules of scenarios that are too large to try every one. `cargo xtask shuttle` runs them.
//!
//! Each test draws its sizes, then its schedule: half of the runs change threads at any step with the
//! same likelihood, the other half seldom, and then for long. All atomics are sequentially consistent
//! here; orderings are `loom.rs`'s matter.
//!
//! A test that fails prints its schedule, which holds the sizes, too. To run that one again:
//!
//! ```text
//! TAPLINE_SCHEDULE=91010... cargo xtask shuttle -- name_of_the_test
//! ```
//!
//! `SHUTTLE_RANDOM_SEED` repeats all schedules of a run instead, and `TAPLINE_SCHEDULES` says how many
//! there are.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)] // in a test a panic is an answer

mod model;

use std::collections::HashSet;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use model::{Cell, Counting, Tally, Weighs, append, append_all, block_on, counting, read, weighed};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};
use tapline_ring::{ReadItem, Reader, Ring};

/// How many appends each producer makes.
const EACH: u64 = 8;

/// Runs it under many schedules, or under the one that was asked for.
fn explore(scenario: fn()) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(200_000);
    config.silence_warnings = true;
    if let Ok(schedule) = env::var("TAPLINE_SCHEDULE") {
        let scheduler = ReplayScheduler::new_from_encoded(&schedule);
        Runner::new(scheduler, config).run(scenario);
        return;
    }
    let schedules = env::var("TAPLINE_SCHEDULES").map_or(2000, |count| count.parse().unwrap());
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(scenario);
    Runner::new(PctScheduler::new(3, schedules / 2), config).run(scenario);
}

/// One of them, by the schedule.
fn any_of<T: Copy>(choices: &[T]) -> T {
    choices[thread_rng().gen_range(0..choices.len())]
}

/// The payloads that have been made and not dropped. No step of the schedule.
#[derive(Debug, Clone, Default)]
struct Ledger(Arc<Mutex<HashSet<u64>>>);

impl Ledger {
    fn is_live(&self, id: u64) -> bool {
        self.0.lock().unwrap().contains(&id)
    }

    fn live(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
}

#[derive(Debug)]
struct Payload {
    id: Cell,
    weight: u64,
    ledger: Ledger,
}

impl Payload {
    /// The `n`th of that producer, from 1.
    fn new(producer: u64, n: u64, ledger: &Ledger) -> Self {
        let id = producer * 1000 + n;
        assert!(ledger.0.lock().unwrap().insert(id));
        Self {
            id: Cell::new(id),
            weight: 1 + n % 3,
            ledger: ledger.clone(),
        }
    }
}

impl Weighs for Payload {
    fn weight(&self) -> u32 {
        self.weight as u32
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let id = self.id.get();
        let was_live = self.ledger.0.lock().unwrap().remove(&id);
        // Where another assertion has failed already, that one is to be reported.
        assert!(was_live || thread::panicking(), "{id} is dropped twice");
    }
}

type Watched = Counting<Payload>;

/// A reader that checks what it reads: whole, alive, and each producer's in its order.
struct Watcher {
    reader: Reader<Payload, Cell>,
    ledger: Ledger,
    latest: Vec<u64>,
    start: u64,
    tally: Tally,
}

impl Watcher {
    fn new(reader: Reader<Payload, Cell>, ledger: &Ledger) -> Self {
        Self {
            start: reader.position(),
            reader,
            ledger: ledger.clone(),
            latest: vec![0; 100],
            tally: Tally::default(),
        }
    }

    fn read(&mut self, limit: usize) -> Tally {
        let (ledger, latest) = (&self.ledger, &mut self.latest);
        let tally = read(&mut self.reader, limit, |seq, payload| {
            let id = payload.id.get();
            assert!(ledger.is_live(id), "{id} at seq {seq} was dropped before");
            let latest = &mut latest[(id / 1000) as usize];
            assert!(*latest < id % 1000, "seq order is publish order");
            *latest = id % 1000;
            assert_eq!(payload.id.get(), id, "the same as a moment ago");
        });
        self.tally.delivered += tally.delivered;
        self.tally.lost += tally.lost;
        let passed = self.reader.position() - self.start;
        assert_eq!(self.tally.delivered + self.tally.lost, passed);
        tally
    }

    /// Up to `end`, asking again and again.
    fn poll_up_to(&mut self, end: u64, batch: usize) {
        while self.reader.position() < end {
            if self.read(batch) == Tally::default() {
                thread::yield_now();
            }
        }
    }

    /// Up to `end`, sleeping where there is nothing.
    fn sleep_up_to(&mut self, end: u64, batch: usize) {
        while self.reader.position() < end {
            let reader = &mut self.reader;
            block_on(|cx| reader.poll_until(cx, |reader| reader.is_ready().then_some(())));
            self.read(batch);
        }
        assert_eq!(self.reader.position(), end);
    }
}

/// So many producers, which append [`EACH`], numbered from `first`.
fn producers(ring: &Arc<Watched>, ledger: &Ledger, first: u64, count: u64) -> Vec<JoinHandle<()>> {
    let producer = |producer| {
        let (ring, ledger) = (ring.clone(), ledger.clone());
        // All at once, in two batches, or one by one.
        let at_once = any_of(&[1, 1, EACH / 2, EACH]);
        thread::spawn(move || {
            let mut last = 0;
            for n in (1..=EACH).step_by(at_once as usize) {
                let payload = |n| Payload::new(producer, n, &ledger);
                let seq = match at_once {
                    1 => append(&ring, payload(n)),
                    _ => append_all(&ring, (n..n + at_once).map(payload)),
                };
                assert!(last < seq, "a producer's own order is kept");
                last = seq;
            }
        })
    };
    (first..first + count).map(producer).collect()
}

/// So many readers from the beginning on, of all kinds, that follow up to `end`.
fn watchers(ring: &Arc<Watched>, ledger: &Ledger, count: usize, end: u64) -> Vec<JoinHandle<()>> {
    let watcher = |number| {
        let mut watcher = Watcher::new(ring.reader(0), ledger);
        let batch = [usize::MAX, 1, 3][number % 3];
        let sleeps = any_of(&[true, false]);
        thread::spawn(move || {
            if sleeps {
                watcher.sleep_up_to(end, batch);
            } else {
                watcher.poll_up_to(end, batch);
            }
        })
    };
    (0..count).map(watcher).collect()
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

/// When all is done, what is not retained is freed; and in the end, everything.
fn settle(ring: Arc<Watched>, ledger: &Ledger, head: u64) {
    let retained = ring.retained();
    assert_eq!(retained.head, head);
    let mut watcher = Watcher::new(ring.reader(0), ledger);
    watcher.read(usize::MAX);
    let left = watcher.tally.delivered;
    assert_eq!((left, watcher.tally.lost), (head + 1 - retained.oldest, 0));
    drop(watcher);
    until("only what is retained is left", || ledger.live() == left);
    assert_eq!(Arc::strong_count(&ring), 1);
    drop(ring);
    until("nothing is left", || ledger.live() == 0);
}

fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        thread::yield_now();
    }
    panic!("this never happened: {what}");
}

#[test]
fn every_reader_sees_one_order_and_knows_what_it_missed() {
    explore(|| {
        let ledger = Ledger::default();
        let ring = counting(any_of(&[1, 2, 8]));
        let count = any_of(&[3, 4, 5]);
        let head = count * EACH;
        let watchers = watchers(&ring, &ledger, any_of(&[2, 3, 4]), head);
        join(producers(&ring, &ledger, 0, count));
        join(watchers);
        settle(ring, &ledger, head);
    });
}

/// Large enough for all, so that the notifier only has to wake readers.
#[test]
fn no_waiter_misses_its_wakeup() {
    explore(|| {
        let ledger = Ledger::default();
        let count = any_of(&[3, 4]);
        let head = count * EACH;
        let ring = counting(head as usize);
        let sleepers: Vec<_> = [1, 3, usize::MAX]
            .into_iter()
            .map(|batch| {
                let mut watcher = Watcher::new(ring.reader(0), &ledger);
                thread::spawn(move || {
                    watcher.sleep_up_to(head, batch);
                    assert_eq!(watcher.tally.lost, 0);
                })
            })
            .collect();
        join(producers(&ring, &ledger, 0, count));
        join(sleepers);
        settle(ring, &ledger, head);
    });
}

/// One hands over to the next, so that each has to sleep for each record.
#[test]
fn a_hand_over_between_sleepers_goes_round() {
    const ROUNDS: u64 = 4;
    explore(|| {
        let count = any_of(&[2, 3]);
        let rings: Vec<_> = (0..count).map(|_| counting(any_of(&[1, 4]))).collect();
        let hands = (0..count).map(|at| {
            let mut reader: Reader<Cell, Cell> = rings[at].reader(0);
            let next = rings[(at + 1) % count].clone();
            thread::spawn(move || {
                for round in 1..=ROUNDS {
                    let ReadItem::Record(record) = block_on(|cx| reader.poll_next(cx)) else {
                        panic!("no producer is so far ahead");
                    };
                    assert_eq!((record.seq(), record.value().get()), (round, round));
                    append(&next, Cell::new(round + u64::from(at + 1 == count)));
                }
            })
        });
        let hands = hands.collect();
        append(&rings[0], Cell::new(1));
        join(hands);
        assert_eq!(rings[0].head(), ROUNDS + 1);
    });
}

#[test]
fn a_bound_by_weight_evicts_beside_producers_a_controller_and_readers() {
    const WEIGHT: u64 = 6;
    explore(|| {
        let ledger = Ledger::default();
        let ring = weighed(any_of(&[2, 8]), WEIGHT);
        // Few of them in some runs: the more are inside, the less is freed.
        let (count, others) = any_of(&[(1, 0), (2, 1), (3, 2)]);
        let head = count * EACH;
        let controller = {
            let ring = ring.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    ring.transition(|count, _| Ok::<_, ()>(count.clone()))
                        .unwrap();
                }
            })
        };
        // Looks at the oldest, which is about to go, and for long, where the others look at the newest.
        let newcomers = {
            let (ring, ledger) = (ring.clone(), ledger.clone());
            thread::spawn(move || {
                for _ in 0..12 {
                    read(&mut ring.reader(0), 1, |seq, payload: &Payload| {
                        let id = payload.id.get();
                        for _ in 0..8 {
                            thread::yield_now();
                            assert!(ledger.is_live(id), "{id} at seq {seq} was dropped before");
                        }
                    });
                }
            })
        };
        let watchers = watchers(&ring, &ledger, others, head);
        join(producers(&ring, &ledger, 0, count));
        join(watchers);
        newcomers.join().unwrap();
        controller.join().unwrap();
        let retained = ring.retained();
        let weights = (retained.oldest..=head).map(|seq| ring.get(seq).unwrap().value().weight);
        assert_eq!(retained.weight, weights.sum::<u64>());
        assert!(retained.weight <= WEIGHT, "{retained:?}");
        settle(ring, &ledger, head);
    });
}

/// Values are stamped with the state in force: after the transition at head `h`, the seqs up to `h` carry
/// the state before, and all others the state after.
#[test]
fn every_record_is_on_the_right_side_of_every_turn() {
    explore(|| {
        let ring = Arc::new(Ring::new(any_of(&[1, 2, 8]), Cell::new(0)).unwrap());
        let producers = [(); 3].map(|()| {
            let ring = ring.clone();
            let stamp = |value: &mut Cell, state: &mut Cell, _| {
                value.set(state.get());
                Ok::<(), ()>(())
            };
            thread::spawn(move || {
                let stamped = (0..EACH).map(|_| {
                    let stamped = ring.append(Cell::new(0), stamp).unwrap();
                    (stamped.seq(), stamped.value().get())
                });
                stamped.collect::<Vec<_>>()
            })
        });
        let controllers = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                let transition = |_| {
                    let mut to = 0;
                    let next = |state: &Cell, _| {
                        to = state.get() + 1;
                        Ok::<_, ()>(Cell::new(to))
                    };
                    let at = ring.transition(next).unwrap();
                    (to, at)
                };
                (0..4).map(transition).collect::<Vec<_>>()
            })
        });
        let stamped: Vec<_> = producers.map(|thread| thread.join().unwrap()).concat();
        let mut transitions: Vec<_> = controllers.map(|thread| thread.join().unwrap()).concat();
        transitions.sort_unstable();
        assert!(
            transitions.iter().map(|(to, _)| *to).eq(1..=8),
            "none is undone"
        );
        assert!(transitions.is_sorted_by_key(|(_, at)| *at));
        for (seq, stamp) in stamped {
            let in_force = transitions.partition_point(|(_, at)| *at < seq) as u64;
            assert_eq!(stamp, in_force, "seq {seq}, transitions {transitions:?}");
        }
    });
}

/// Threads end, and others take over what they had; readers leave in their sleep.
#[test]
fn producers_and_readers_come_and_go() {
    const GENERATIONS: u64 = 3;
    const LINES: u64 = 3;
    const PART: u64 = 3;
    explore(|| {
        let ledger = Ledger::default();
        let ring: Arc<Watched> = counting(any_of(&[1, 2, 8]));
        let head = LINES * GENERATIONS * PART;
        let line = |line| {
            let (ring, ledger) = (ring.clone(), ledger.clone());
            thread::spawn(move || {
                for generation in 0..GENERATIONS {
                    let (ring, ledger) = (ring.clone(), ledger.clone());
                    let producer = thread::spawn(move || {
                        for n in 1..=PART {
                            append(&ring, Payload::new(line * 10 + generation, n, &ledger));
                        }
                    });
                    producer.join().unwrap();
                }
            })
        };
        let lines = (0..LINES).map(line).collect();
        let guests = [(); 2].map(|()| {
            let (ring, ledger) = (ring.clone(), ledger.clone());
            thread::spawn(move || {
                for _ in 0..GENERATIONS {
                    let (ring, ledger) = (ring.clone(), ledger.clone());
                    let guest = thread::spawn(move || {
                        let mut watcher = Watcher::new(ring.reader(ring.head()), &ledger);
                        // One poll, woken or not, then what there is, and a record taken along.
                        block_on(|cx| {
                            let _ = watcher
                                .reader
                                .poll_until(cx, |reader| reader.is_ready().then_some(()));
                            Poll::Ready(())
                        });
                        watcher.read(2);
                        let kept = ring.get(watcher.reader.position());
                        drop(watcher);
                        if let Some(kept) = kept {
                            assert!(ledger.is_live(kept.value().id.get()));
                        }
                    });
                    guest.join().unwrap();
                }
            })
        });
        let watchers = watchers(&ring, &ledger, 1, head);
        join(lines);
        join(guests.into());
        join(watchers);
        settle(ring, &ledger, head);
    });
}

/// A thread that stops for good in the middle of an operation holds up no other thread.
#[test]
fn all_threads_continue_beside_a_thread_that_is_abandoned() {
    explore(|| {
        let ledger = Ledger::default();
        let ring: Arc<Watched> = counting(any_of(&[1, 2, 8]));
        let released = Arc::new(AtomicBool::new(false));
        let abandoned = [90, 91].map(|number| {
            let (ring, ledger, released) = (ring.clone(), ledger.clone(), released.clone());
            let stop = move || {
                while !released.load(Ordering::SeqCst) {
                    thread::park();
                }
            };
            let work = any_of(&[0, 1, 2]);
            thread::spawn(move || match work {
                0 => {
                    let payload = Payload::new(number, 1, &ledger);
                    let refused = ring.append(payload, |_, _, _| {
                        stop();
                        Err::<(), ()>(())
                    });
                    drop(refused.unwrap_err());
                }
                1 => {
                    let transition = |count: &Cell, _| {
                        stop();
                        Ok::<_, ()>(count.clone())
                    };
                    ring.transition(transition).unwrap();
                }
                _ => {
                    let mut reader = ring.reader(0);
                    block_on(|cx| reader.poll_until(cx, |reader| reader.is_ready().then_some(())));
                    read(&mut reader, 1, |_, payload: &Payload| {
                        let id = payload.id.get();
                        stop();
                        assert!(ledger.is_live(id), "kept for the reader that looks at it");
                        assert_eq!(payload.id.get(), id, "the same as a moment ago");
                    });
                }
            })
        });
        let head = 3 * EACH;
        let watchers = watchers(&ring, &ledger, 2, head);
        join(producers(&ring, &ledger, 0, 3));
        join(watchers);
        assert_eq!(ring.head(), head);
        released.store(true, Ordering::SeqCst);
        for thread in &abandoned {
            thread.thread().unpark();
        }
        join(abandoned.into());
        settle(ring, &ledger, head);
    });
}
