//! A producer that stops for ever between any two of its steps blocks no other thread.
//!
//! Each test lets one thread do something and stops it before its first access to shared memory,
//! then before its second, and so on to the last. While it is stopped, others append, read, change
//! the state, sleep and are woken. Afterwards it continues, and its operation either happened or not.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::classes::{CHUNK, CLASSES};
use crate::sync::stepped::each_step;
use crate::{Bounds, Measure, ReadItem, Reader, Ring};

/// The state counts the records, so that a record which is decided by a wrong state shows.
type Counting = Ring<u64, u64>;

/// How long anything may take that must not be blocked. Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The class of a record is its seq modulo this: the memory of a chunk comes back after 10 records.
const CLASS: u64 = 7;

/// What is below it in a value is the weight; above it is the seq.
const SEQ: u64 = 1000;

fn bounds(records: usize) -> Bounds {
    Bounds {
        log: 4 * CHUNK as usize,
        ..Bounds::of(records)
    }
}

fn empty(records: usize) -> Arc<Counting> {
    Arc::new(Ring::bounded(bounds(records), 0).expect("a capacity"))
}

/// With so many records appended.
fn filled(ring: Arc<Counting>, appends: u64, value: u64) -> Arc<Counting> {
    for _ in 0..appends {
        append(&ring, value);
    }
    ring
}

fn append(ring: &Counting, value: u64) -> u64 {
    let appended = ring.append(value, count);
    appended.expect("nothing is refused").seq()
}

fn count(value: &mut u64, count: &mut u64, seq: u64) -> Result<Measure, ()> {
    let weight = *value % SEQ;
    *value = weight + seq * SEQ;
    *count += 1;
    assert_eq!(*count, seq);
    Ok(Measure {
        weight: weight as u32,
        class: (seq % CLASS) as u8,
    })
}

/// The log has the classes of the newest records, and nothing that is wrong.
fn the_log_is_right(ring: &Counting) {
    let (head, records) = (ring.head(), ring.bounds().log as u64);
    for first in 1..=head {
        for last in [first, head] {
            let counted = ring.classes(first..=last);
            let mut expected = [0; CLASSES];
            (first..=last).for_each(|seq| expected[(seq % CLASS) as usize] += 1);
            let is_there = head < first + records - CHUNK;
            assert!(counted.is_some() || !is_there, "{first} of {head}");
            assert!(counted.is_none_or(|it| it == expected), "{first} to {last}");
        }
    }
    assert_eq!(ring.classes(0..=0), None);
    assert_eq!(ring.classes(1..=head + 1), None);
}

/// A thread that is stopped before its step number `at`.
struct Abandoned {
    resume: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Abandoned {
    /// `None` where `work` has fewer steps than that.
    fn at(at: usize, work: impl FnOnce() + Send + 'static) -> Option<Self> {
        let (stopped, has_stopped) = mpsc::sync_channel(1);
        let (resume, may_resume): (_, Receiver<()>) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let mut step = 0;
            each_step(move || {
                if step == at {
                    stopped.send(true).expect("the test waits for it");
                    may_resume
                        .recv()
                        .expect("the test lets it continue in the end");
                }
                step += 1;
            });
            work();
        });
        // The sender is dropped with the thread's variables, if it was not used before.
        match has_stopped.recv() {
            Ok(_) => Some(Self { resume, thread }),
            Err(_) => {
                thread.join().expect("it has done its work");
                None
            }
        }
    }

    fn resume(self) {
        self.resume.send(()).expect("it waits for it");
        self.thread.join().expect("it continues as usual");
    }
}

/// Whatever another thread was stopped in: all of this works.
fn all_other_threads_continue(ring: &Arc<Counting>, reader: &mut Reader<u64, u64>) {
    let rounds = 3 * ring.bounds().records as u64;
    for n in 0..rounds {
        let before = ring.head();
        let seq = append(ring, n);
        assert_eq!(seq, before + 1, "the next seq, at once");
        drain(reader);
        assert_eq!(reader.position(), seq, "readable at once");
        the_log_is_right(ring);
        if n == rounds / 2 {
            ring.transition(|count, _| Ok::<_, ()>(*count))
                .expect("nothing is refused");
        }
    }
    let sleeper = {
        let mut reader = ring.reader(ring.head());
        let (asleep, is_asleep) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            asleep.send(()).expect("the test waits for it");
            reader.next(Some(Instant::now() + PATIENCE)).is_some()
        });
        is_asleep.recv().expect("it goes to sleep");
        thread
    };
    append(ring, rounds);
    assert!(
        sleeper.join().expect("it does not panic"),
        "a sleeper is woken"
    );
    drain(reader);
    assert_eq!(reader.position(), ring.head());
}

fn drain(reader: &mut Reader<u64, u64>) {
    let mut position = reader.position();
    reader.read(usize::MAX, |item| {
        match item {
            ReadItem::Lost(lost) => {
                assert_eq!(lost.first, position + 1);
                position = lost.last;
            }
            ReadItem::Record(record) => {
                assert_eq!(
                    (record.seq(), *record.state()),
                    (position + 1, position + 1)
                );
                position = record.seq();
            }
        }
        ControlFlow::Continue(())
    });
}

/// Abandons `work` before each of its steps, one after the other; returns how many there were.
fn abandon_everywhere(
    ring: impl Fn() -> Arc<Counting>,
    work: impl Fn(&Arc<Counting>) + Clone + Send + 'static,
) -> usize {
    for at in 0.. {
        let ring = ring();
        let mut reader = ring.reader(0);
        drain(&mut reader);
        let (of_thread, work) = (ring.clone(), work.clone());
        let Some(abandoned) = Abandoned::at(at, move || work(&of_thread)) else {
            return at;
        };
        all_other_threads_continue(&ring, &mut reader);
        abandoned.resume();
        the_log_is_right(&ring);
        all_other_threads_continue(&ring, &mut reader);
    }
    unreachable!("work has an end")
}

#[test]
fn a_producer_abandoned_between_any_two_steps_of_an_append() {
    for records in [1, 2, 8] {
        for appends in [0, 3, 20] {
            let ring = move || filled(empty(records), appends, 1);
            let steps = abandon_everywhere(ring, |ring| {
                append(ring, 99);
            });
            assert!(
                steps >= 8,
                "{steps} steps: the atomics are not those of the test"
            );
        }
    }
}

/// Of a batch that calls readers, and enters again, after two.
#[test]
fn a_producer_abandoned_between_any_two_steps_of_a_batch() {
    for records in [1, 2, 8] {
        for appends in [0, 3] {
            let ring = move || filled(empty(records), appends, 1);
            let steps = abandon_everywhere(ring, |ring| {
                let mut batch = ring.batch();
                for _ in 0..5 {
                    batch.append(99, count).expect("nothing is refused");
                }
            });
            assert!(steps >= 30, "{steps} steps");
        }
    }
}

/// The batch may be abandoned at any moment after the first of its records: the next append has the sleepers woken.
#[test]
fn a_producer_abandoned_in_a_batch_before_it_wakes() {
    abandon_before_sleepers(
        1000 * PATIENCE,
        |ring| {
            let mut batch = ring.batch();
            for _ in 0..3 {
                batch.append(1, count).expect("nothing is refused");
            }
        },
        |ring, sleepers, at| {
            append(ring, 2);
            all_woken(sleepers, at);
        },
    );
}

#[test]
fn a_producer_abandoned_while_it_evicts_for_weight() {
    let ring = || {
        let bounds = Bounds {
            weight: 10,
            ..bounds(8)
        };
        filled(Arc::new(Ring::bounded(bounds, 0).expect("bounds")), 5, 2)
    };
    // Has to evict four.
    let steps = abandon_everywhere(ring, |ring| {
        append(ring, 9);
    });
    assert!(steps >= 20, "{steps} steps: nothing was evicted");
}

/// A reader slept before the append. The producer may stop before, while or after it asks the notifier to
/// wake it: the next append has it woken, without the notifier looking by itself.
#[test]
fn a_producer_abandoned_while_it_wakes() {
    let never = 1000 * PATIENCE;
    let steps = abandon_before_sleepers(never, append_one, |ring, sleepers, at| {
        append(ring, 2);
        all_woken(sleepers, at);
    });
    assert!(steps > 10, "{steps} steps: no sleeper was woken");
}

/// The same, and no thread appends after it: if there is something to read, the notifier finds out.
#[test]
fn a_producer_abandoned_while_it_wakes_and_none_appends_after_it() {
    let soon = Duration::from_millis(5);
    abandon_before_sleepers(soon, append_one, |ring, sleepers, at| {
        if ring.head() > 0 {
            all_woken(sleepers, at);
        }
    });
}

fn append_one(ring: &Arc<Counting>) {
    append(ring, 1);
}

#[derive(Default)]
struct Called(AtomicBool);

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn all_woken(sleepers: &[Arc<Called>], at: usize) {
    for called in sleepers {
        let begun = Instant::now();
        while !called.0.load(Ordering::SeqCst) {
            assert!(begun.elapsed() < PATIENCE, "one is not woken, step {at}");
            thread::yield_now();
        }
    }
}

/// Abandons `work` before each of its steps, one after the other, with three asleep; returns how many steps
/// there were.
fn abandon_before_sleepers(
    backstop: Duration,
    work: impl Fn(&Arc<Counting>) + Clone + Send + 'static,
    meanwhile: impl Fn(&Arc<Counting>, &[Arc<Called>], usize),
) -> usize {
    for at in 0.. {
        let ring = Arc::new(Ring::with_backstop(0, bounds(8), 0, backstop).expect("bounds"));
        let (_readers, sleepers): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (mut reader, called) = (ring.reader(0), Arc::new(Called::default()));
                let waker = Waker::from(called.clone());
                let polled = reader.poll_next(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                (reader, called)
            })
            .unzip();
        let (of_thread, work) = (ring.clone(), work.clone());
        let Some(abandoned) = Abandoned::at(at, move || work(&of_thread)) else {
            return at;
        };
        meanwhile(&ring, &sleepers, at);
        abandoned.resume();
    }
    unreachable!("work has an end")
}

#[test]
fn a_controller_abandoned_in_a_transition() {
    for records in [1, 2, 8] {
        let ring = move || filled(empty(records), 1, 1);
        abandon_everywhere(ring, |ring| {
            ring.transition(|count, _| Ok::<_, ()>(*count))
                .expect("nothing is refused");
        });
    }
}

#[test]
fn a_reader_abandoned_anywhere() {
    let ring = || filled(empty(4), 9, 1);
    abandon_everywhere(ring, |ring| {
        let mut reader = ring.reader(0);
        drain(&mut reader);
        drop(reader.next(Some(Instant::now())));
    });
}

/// Counts the panics of its `Clone`, which come while a flag is set.
struct Fragile {
    panics: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        if self.panics.load(Ordering::SeqCst) {
            self.count.fetch_add(1, Ordering::SeqCst);
            panic!("in the clone of a state");
        }
        Self {
            panics: self.panics.clone(),
            count: self.count.clone(),
        }
    }
}

/// Eviction for weight may have to copy a state after the append has taken effect.
#[test]
fn an_append_either_panics_or_appends_wherever_a_clone_begins_to_panic() {
    let mut panics_after_the_append = 0;
    for at in 0.. {
        let state = Fragile {
            panics: Arc::default(),
            count: Arc::default(),
        };
        let bounds = Bounds {
            weight: 10,
            ..Bounds::of(4)
        };
        let ring = Arc::new(Ring::bounded(bounds, state.clone()).expect("bounds"));
        let append = |ring: &Ring<u64, Fragile>, value| {
            let appended = ring.append(value, |_, _, _| Ok::<_, ()>(value as u32));
            appended.map_or(0, |record| record.seq())
        };
        for _ in 0..5 {
            append(&ring, 2);
        }
        let (of_thread, (done, is_done)) = (ring.clone(), mpsc::sync_channel(1));
        let Some(abandoned) = Abandoned::at(at, move || {
            let appended = catch_unwind(AssertUnwindSafe(|| append(&of_thread, 9)));
            done.send(appended.is_ok()).expect("the test waits for it");
        }) else {
            break;
        };
        // A transition record comes into the slot of the oldest.
        let put = |_: &Fragile, _| Ok::<_, ()>(state.clone());
        let head = ring.transition(put).expect("nothing is refused");
        state.panics.store(true, Ordering::SeqCst);
        abandoned.resume();
        state.panics.store(false, Ordering::SeqCst);
        let has_returned = is_done.recv().expect("it is done");
        assert_eq!(has_returned, ring.head() == 6, "step {at}, head {head}");
        if has_returned {
            panics_after_the_append += state.count.load(Ordering::SeqCst);
        }
        assert_eq!(append(&ring, 1), ring.head());
        assert!(ring.retained().weight <= 10);
    }
    assert!(
        panics_after_the_append > 0,
        "no state was copied after an append"
    );
}
