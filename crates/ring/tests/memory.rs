//! What is evicted is freed soon: what waits for it is a small part of the bound by weight, also when
//! all threads are idle.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use tapline_ring::{Bounds, Ring};

#[test]
fn memory_stays_within_the_bound_by_weight() {
    const BOUND: u64 = 1 << 20;
    struct Heavy(u64, Arc<AtomicUsize>);
    impl Drop for Heavy {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0 as usize, Ordering::Relaxed);
        }
    }

    let live = Arc::new(AtomicUsize::new(0));
    let bounds = Bounds {
        weight: BOUND,
        ..Bounds::of(65_536)
    };
    let ring = Arc::new(Ring::bounded(bounds, ()).unwrap());
    let mut most = 0;
    for n in 0..20_000_u64 {
        let weight = [100, 2_000, 50_000, 300_000][n as usize % 4];
        live.fetch_add(weight as usize, Ordering::Relaxed);
        let heavy = Heavy(weight, live.clone());
        ring.append(heavy, |_, (), _| Ok::<_, ()>(weight as u32))
            .ok()
            .unwrap();
        most = most.max(live.load(Ordering::Relaxed) as u64);
        assert!(ring.retained().weight <= BOUND);
    }
    assert!(
        most < 3 * BOUND,
        "{most} bytes were alive at once, {BOUND} were allowed"
    );
    // No thread uses the ring any more: evicted events are freed all the same.
    let retained = ring.retained().weight as usize;
    until("only what is retained is alive", || {
        live.load(Ordering::Relaxed) == retained
    });
}

#[test]
fn what_was_evicted_is_freed_when_all_threads_are_idle() {
    let live = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(64, ()).unwrap());
    let publish = |n: usize| {
        for _ in 0..n {
            ring.append(Counted::new(&live), |_, (), _| Ok::<(), ()>(()))
                .ok()
                .unwrap();
        }
    };
    // Threads that have published and live on, and ones that have ended.
    let (quiet, all_quiet) = (Barrier::new(5), Barrier::new(5));
    thread::scope(|scope| {
        for n in [1, 20, 31, 500] {
            let (publish, quiet, all_quiet) = (&publish, &quiet, &all_quiet);
            scope.spawn(move || {
                publish(n);
                quiet.wait();
                all_quiet.wait();
            });
        }
        quiet.wait();
        publish(100);
        until("only 64 are alive", || live.load(Ordering::Relaxed) == 64);
        all_quiet.wait();
    });
    // A record that is kept stays alive until it is dropped.
    let kept: Vec<_> = (ring.retained().oldest..=ring.head())
        .map(|seq| ring.get(seq).unwrap())
        .collect();
    publish(64);
    until("the kept ones are alive, too", || {
        live.load(Ordering::Relaxed) == 128
    });
    drop(kept);
    until("they are gone", || live.load(Ordering::Relaxed) == 64);
    drop(ring);
    until("all are gone", || live.load(Ordering::Relaxed) == 0);
}

/// Evicted for their weight alone: the slots that they were in stay empty until the seqs have gone around the ring.
#[test]
fn what_was_evicted_for_its_weight_is_freed_when_all_threads_are_idle() {
    let live = Arc::new(AtomicUsize::new(0));
    let bounds = Bounds {
        weight: 100,
        ..Bounds::of(1024)
    };
    let ring = Ring::bounded(bounds, ()).unwrap();
    // Twice: the notifier knows of what the very first append retires.
    for appends in [120, 5] {
        for _ in 0..appends {
            ring.append(Counted::new(&live), |_, (), _| Ok::<_, ()>(1_u32))
                .ok()
                .unwrap();
        }
        assert_eq!(ring.retained().weight, 100);
        until("only 100 are alive", || live.load(Ordering::Relaxed) == 100);
    }
}

/// A thread that publishes only while it reads, as one that derives events from others does.
#[test]
fn what_is_published_within_a_visit_does_not_accumulate() {
    let live = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(64, ()).unwrap());
    let publish = || {
        ring.append(Counted::new(&live), |_, (), _| Ok::<(), ()>(()))
            .ok()
            .unwrap()
    };
    publish();
    let mut reader = ring.reader(0);
    let mut most = 0;
    for _ in 0..20_000 {
        reader.read(1, |_| {
            publish();
            ControlFlow::Continue(())
        });
        most = most.max(live.load(Ordering::Relaxed));
    }
    assert!(most < 64 + 128, "{most} were alive at once");
}

/// What a thread costs that stops inside: what is evicted meanwhile, and not a record more.
/// Once it continues, all of that is freed.
#[test]
fn a_thread_that_stops_inside_keeps_what_is_evicted_meanwhile() {
    const RETAINED: usize = 64;
    const MEANWHILE: usize = 10_000;
    let live = Arc::new(AtomicUsize::new(0));
    let ring = Arc::new(Ring::new(RETAINED, ()).unwrap());
    let publish = |n: usize| {
        for _ in 0..n {
            ring.append(Counted::new(&live), |_, (), _| Ok::<(), ()>(()))
                .ok()
                .unwrap();
        }
    };
    publish(2 * RETAINED);
    let (inside, continues) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        let mut reader = ring.reader(0);
        let (inside, continues) = (&inside, &continues);
        scope.spawn(move || {
            reader.read(1, |_| {
                inside.wait();
                continues.wait();
                ControlFlow::Break(())
            })
        });
        inside.wait();
        publish(MEANWHILE);
        let alive = live.load(Ordering::Relaxed);
        assert!(
            (MEANWHILE..=MEANWHILE + 2 * RETAINED).contains(&alive),
            "{alive} are alive"
        );
        continues.wait();
        until("all but the retained are freed", || {
            live.load(Ordering::Relaxed) == RETAINED
        });
    });
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(live.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "this never happened: {what}");
        thread::yield_now();
    }
}
