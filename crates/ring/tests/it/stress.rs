//! Real threads, as hard as they go, everything checked afterwards.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tapline_ring::{ReadItem, Ring};

/// A producer's number, its own count, and whether the record is whole.
#[derive(Debug)]
struct Payload {
    producer: u64,
    n: u64,
    sum: u64,
    live: Arc<AtomicUsize>,
}

impl Payload {
    fn new(producer: u64, n: u64, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self {
            producer,
            n,
            sum: producer ^ n,
            live: live.clone(),
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        assert_eq!(self.sum, self.producer ^ self.n, "dropped once, and whole");
        self.sum = !self.sum;
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn every_reader_sees_one_order_and_knows_what_it_missed() {
    const PRODUCERS: u64 = 3;
    const EACH: u64 = 60_000;
    let live = Arc::new(AtomicUsize::new(0));
    for capacity in [1, 2, 64, 4096] {
        let ring = Arc::new(Ring::new(capacity, 0_u64).unwrap());
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (ring, live) = (&ring, &live);
                scope.spawn(move || {
                    let mut last = 0;
                    for n in 1..=EACH {
                        let payload = Payload::new(producer, n, live);
                        let seq = ring
                            .append(payload, |_, count, seq| {
                                *count += 1;
                                assert_eq!(*count, seq, "decided by the state before it");
                                Ok::<(), ()>(())
                            })
                            .unwrap()
                            .seq();
                        assert!(last < seq, "a producer's own order is kept");
                        last = seq;
                    }
                });
            }
            for batch in [1, 7, 256] {
                let mut reader = ring.reader(0);
                scope.spawn(move || {
                    let (mut delivered, mut lost) = (0, 0);
                    let mut latest = [0; PRODUCERS as usize];
                    let start = reader.position();
                    let begun = Instant::now();
                    while reader.position() < PRODUCERS * EACH {
                        let patience = Duration::from_secs(120);
                        assert!(begun.elapsed() < patience, "a producer makes no progress");
                        let before = reader.position();
                        let shown = reader.read(batch, |item| {
                            match item {
                                ReadItem::Lost(gone) => lost += gone.count(),
                                ReadItem::Record(record) => {
                                    let payload = record.value();
                                    assert_eq!(payload.sum, payload.producer ^ payload.n);
                                    assert_eq!(*record.state(), record.seq());
                                    let latest = &mut latest[payload.producer as usize];
                                    assert!(*latest < payload.n, "seq order is publish order");
                                    *latest = payload.n;
                                    delivered += 1;
                                }
                            }
                            ControlFlow::Continue(())
                        });
                        assert_eq!(delivered + lost, reader.position() - start);
                        if shown == 0 && reader.position() == before {
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        assert_eq!(ring.head(), PRODUCERS * EACH);
    }
    wait_until("every payload is dropped", || {
        live.load(Ordering::Relaxed) == 0
    });
}

#[test]
fn every_record_is_on_the_right_side_of_every_transition() {
    let ring = Arc::new(Ring::new(1 << 20, 0_u64).unwrap());
    let stop = AtomicBool::new(false);
    let transitions = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && ring.head() < (1 << 20) - 8 {
                    // The value becomes the state that was in force.
                    let stamp = |value: &mut u64, state: &mut u64, _| {
                        *value = *state;
                        Ok::<(), ()>(())
                    };
                    ring.append(0, stamp).unwrap();
                }
            });
        }
        let mut transitions = vec![0];
        for number in 1..=2000_u64 {
            transitions.push(ring.transition(|_, _| Ok::<_, ()>(number)).unwrap());
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        transitions
    });
    let retained = ring.retained();
    for seq in retained.oldest.max(1)..=retained.head {
        let in_force = transitions.partition_point(|at| *at < seq) as u64 - 1;
        assert_eq!(*ring.get(seq).unwrap().value(), in_force, "seq {seq}");
    }
}

/// Memory is freed with later appends, so this makes some.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let ring = Ring::new(1, ()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "this never happened: {what}");
        ring.append((), |(), (), _| Ok::<(), ()>(())).unwrap();
    }
}
