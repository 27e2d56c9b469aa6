//! Readers as tasks: those that sleep and follow on a thread of their own, and those that only sleep.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::yield_now;

use super::clock;
use crate::BATCH;
use crate::rival::Reader;

/// Far more than any rival needs to wake, or to read a full ring for, a thousand readers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Spins until it is so.
///
/// # Panics
///
/// Where it is not so in time, and would perhaps never be: a reader that was not woken.
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// Readers on a thread of their own, as tasks of one runtime.
pub(super) struct Followers {
    all: Vec<Arc<Progress>>,
    paused: Arc<AtomicBool>,
    gate: watch::Sender<bool>,
    /// Dropping it ends the runtime.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How far a follower has got. Relaxed all over: what is waited for is the number itself.
#[derive(Default)]
struct Progress {
    /// Events that it was given.
    delivered: AtomicU64,
    /// Those, and what was reported to it as lost.
    passed: AtomicU64,
    /// Only gives the others their turn when it stops next.
    yields: AtomicBool,
    /// Sleeps, or waits at the gate.
    rests: AtomicBool,
}

impl Followers {
    /// They are asleep when this returns.
    pub(super) fn new<R: Reader>(readers: Vec<R>, arrivals: Option<&Arc<Arrivals>>) -> Self {
        let paused = Arc::new(AtomicBool::new(false));
        let (gate, at_gate) = watch::channel(false);
        let follower = |reader| {
            let progress = Arc::new(Progress::default());
            let follower = Follower {
                reader,
                progress: progress.clone(),
                paused: paused.clone(),
                gate: at_gate.clone(),
                arrivals: arrivals.cloned(),
            };
            let task = SignalsWhenAtRest {
                follow: Box::pin(follower.follow()),
                progress: progress.clone(),
            };
            (progress, task)
        };
        let (all, tasks): (Vec<_>, Vec<_>) = readers.into_iter().map(follower).unzip();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime without I/O needs nothing of the system");
            for task in tasks {
                runtime.spawn(task);
            }
            // The answer is an error: nothing is ever sent.
            let _ = runtime.block_on(stopped);
        });
        let followers = Self {
            all,
            paused,
            gate,
            stop: Some(stop),
            thread: Some(thread),
        };
        followers.wait_at_rest(0);
        followers
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Events that they were given so far, all of them together.
    pub(super) fn delivered(&self) -> u64 {
        self.all
            .iter()
            .map(|progress| progress.delivered.load(Relaxed))
            .sum()
    }

    /// Sends those that have something to read to the gate, so that they leave the machine to others, and waits
    /// until all have come to rest.
    pub(super) fn pause(&self) {
        self.gate.send_replace(true);
        self.paused.store(true, Relaxed);
        self.wait_at_rest(0);
    }

    /// They resume where they were.
    pub(super) fn resume(&self) {
        self.paused.store(false, Relaxed);
        self.gate.send_replace(false);
    }

    /// Waits until all have passed `published` events, sleep, and their thread is parked.
    pub(super) fn settle(&self, published: u64) {
        /// How long the runtime has, after its last task fell asleep, to park its thread.
        const PARKS_IN: Duration = Duration::from_micros(20);
        self.wait_at_rest(published);
        clock::spin(PARKS_IN);
    }

    fn wait_at_rest(&self, published: u64) {
        for progress in &self.all {
            wait_until("a reader has read on and sleeps", || {
                published <= progress.passed.load(Relaxed) && progress.rests.load(Relaxed)
            });
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("a follower has panicked");
        }
    }
}

struct Follower<R> {
    reader: R,
    progress: Arc<Progress>,
    paused: Arc<AtomicBool>,
    gate: watch::Receiver<bool>,
    arrivals: Option<Arc<Arrivals>>,
}

impl<R: Reader> Follower<R> {
    /// Reads batch by batch, and gives the others their turn in between, as a server does.
    async fn follow(mut self) {
        loop {
            let passed = self.reader.next().await;
            if let Some(arrivals) = &self.arrivals {
                arrivals.arrived();
            }
            let progress = &self.progress;
            progress.delivered.fetch_add(passed.delivered, Relaxed);
            progress.passed.fetch_add(passed.all(), Relaxed);
            if self.paused.load(Relaxed) {
                let open = self.gate.wait_for(|paused| !paused).await;
                if open.is_err() {
                    return;
                }
            } else if passed.delivered >= BATCH as u64 {
                progress.yields.store(true, Relaxed);
                yield_now().await;
                progress.yields.store(false, Relaxed);
            }
        }
    }
}

struct SignalsWhenAtRest<F> {
    follow: Pin<Box<F>>,
    progress: Arc<Progress>,
}

impl<F: Future<Output = ()>> Future for SignalsWhenAtRest<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.progress.rests.store(false, Relaxed);
        let polled = self.follow.as_mut().poll(cx);
        let rests = !self.progress.yields.load(Relaxed);
        self.progress.rests.store(rests, Relaxed);
        polled
    }
}

/// From right before one publish until the readers that it woke have the event.
pub(super) struct Arrivals {
    zero: Instant,
    published: AtomicU64,
    expected: usize,
    arrived: AtomicUsize,
    first: AtomicU64,
    last: AtomicU64,
}

/// No reader is there yet.
const NOT_YET: u64 = u64::MAX;

impl Arrivals {
    pub(super) fn of(expected: usize) -> Arc<Self> {
        Arc::new(Self {
            zero: Instant::now(),
            published: AtomicU64::new(0),
            expected,
            arrived: AtomicUsize::new(0),
            first: AtomicU64::new(NOT_YET),
            last: AtomicU64::new(NOT_YET),
        })
    }

    /// Right before the publish, while all readers sleep.
    pub(super) fn begin(&self) {
        self.arrived.store(0, Relaxed);
        self.first.store(NOT_YET, Relaxed);
        self.last.store(NOT_YET, Relaxed);
        self.published.store(self.now(), Release);
    }

    /// The first and the last of the readers look at the clock.
    fn arrived(&self) {
        let nth = self.arrived.fetch_add(1, Relaxed) + 1;
        if nth != 1 && nth != self.expected {
            return;
        }
        let took = self.now() - self.published.load(Acquire);
        if nth == 1 {
            self.first.store(took, Release);
        }
        if nth == self.expected {
            self.last.store(took, Release);
        }
    }

    /// How long the first took, and how long the last.
    pub(super) fn wait(&self) -> (Duration, Duration) {
        wait_until("the last reader has the event", || {
            self.last.load(Acquire) != NOT_YET && self.first.load(Acquire) != NOT_YET
        });
        (
            Duration::from_nanos(self.first.load(Acquire)),
            Duration::from_nanos(self.last.load(Acquire)),
        )
    }

    fn now(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }
}

/// Readers that are asked, by hand and on the caller's thread, until they sleep; calling them only counts.
pub(super) struct Sleepers {
    all: Vec<Sleeper>,
    calls: Arc<AtomicU64>,
}

struct Sleeper {
    follow: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

/// One for each sleeper, as each task has one of its own.
struct Counts(Arc<AtomicU64>);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Sleepers {
    pub(super) fn new<R: Reader>(readers: Vec<R>) -> Self {
        let calls = Arc::new(AtomicU64::new(0));
        let sleeper = |mut reader: R| {
            let follow = async move {
                loop {
                    reader.next().await;
                }
            };
            Sleeper {
                follow: Box::pin(follow),
                waker: Waker::from(Arc::new(Counts(calls.clone()))),
            }
        };
        let all = readers.into_iter().map(sleeper).collect();
        Self { all, calls }
    }

    /// Each reads what there is, and sleeps.
    pub(super) fn fall_asleep(&mut self) {
        for Sleeper { follow, waker } in &mut self.all {
            let polled = follow.as_mut().poll(&mut Context::from_waker(waker));
            assert!(polled.is_pending(), "a reader has no end");
        }
    }

    /// How often one of them has been called.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }
}
