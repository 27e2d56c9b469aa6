//! What publishing costs when another thread is at it: a second producer, or readers that sleep
//! and follow. Needs two cores, and says the least on a machine that has other things to do.
//!
//! Ring and channels are full before it begins, and the rivals keep one receiver that never reads,
//! as in `publish`; in what they do less is told there.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hint::{self, black_box};
use std::iter;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_broadcast::RecvError as Overflow;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tapline_benches::{BATCH, MEASURED, RETAINED, TS, WARM_UP, full_ring, full_session, small};
use tapline_oapi::Event;
use tapline_telemetry::{Reader, TelemetrySession};
use tokio::runtime;
use tokio::sync::broadcast::{self, error::RecvError as Lagged};
use tokio::sync::oneshot;
use tokio::task::{consume_budget, yield_now};

const READERS: [usize; 4] = [0, 1, 8, 64];

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED).sample_size(50);
    targets = producers, to_sleepers, to_followers
}
criterion_main!(benches);

/// The wall time of all producers over the events of all: with two, a producer's own call takes
/// twice as long.
fn producers(c: &mut Criterion) {
    let mut group = c.benchmark_group("producers");
    group.throughput(Throughput::Elements(1));
    for n in [1, 2] {
        let session = full_session();
        group.bench_function(BenchmarkId::new("tapline", n), |b| {
            b.iter_custom(|iters| side_by_side(n, iters, |event| session.publish(event)));
        });
        drop(session);

        let ring = full_ring();
        group.bench_function(BenchmarkId::new("ring", n), |b| {
            b.iter_custom(|iters| {
                side_by_side(n, iters, |event| {
                    ring.append(event.clone(), |_, (), _| Ok::<(), Infallible>(()))
                })
            });
        });
        drop(ring);

        let (sender, _idle) = full_tokio();
        group.bench_function(BenchmarkId::new("tokio", n), |b| {
            b.iter_custom(|iters| side_by_side(n, iters, |event| sender.send(event.clone())));
        });
        drop(sender);

        let (sender, _idle) = full_async_broadcast();
        group.bench_function(BenchmarkId::new("async-broadcast", n), |b| {
            b.iter_custom(|iters| {
                side_by_side(n, iters, |event| sender.try_broadcast(event.clone()))
            });
        });
    }
    group.finish();
}

/// One publish that finds all readers asleep and their thread parked. **Measured:** that one call,
/// with two looks at the clock. **Not measured:** the readers reading and falling asleep again.
fn to_sleepers(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish-to-sleepers");
    let event = Arc::new(small().with_ts(TS));

    // The harness's own cost, in all the others, too.
    group.bench_function("clock", |b| {
        b.iter_custom(|iters| {
            let alone = Followers::new(iter::empty());
            let nothing = |_| {
                alone.settle();
                timed(|| {
                    black_box(&event);
                })
            };
            (0..iters).map(nothing).sum()
        });
    });

    each_rival(&event, |name, n, publish, followers| {
        group.bench_function(BenchmarkId::new(name, n), |b| {
            b.iter_custom(|iters| {
                let one = |_| {
                    followers.settle();
                    let took = timed(&mut *publish);
                    followers.published(1);
                    took
                };
                (0..iters).map(one).sum()
            });
        });
    });
    group.finish();
}

/// Publishing without a pause while the readers follow as well as they can: those of all but the
/// fastest are overtaken, which must not cost the producer. **Measured:** the publishing. **Not
/// measured:** the readers reading on after it.
fn to_followers(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish-to-followers");
    group.throughput(Throughput::Elements(1));
    let event = Arc::new(small().with_ts(TS));
    each_rival(&event, |name, n, publish, followers| {
        group.bench_function(BenchmarkId::new(name, n), |b| {
            b.iter_custom(|iters| {
                followers.settle();
                let took = timed(|| (0..iters).for_each(|_| publish()));
                followers.published(iters);
                took
            });
        });
    });
    group.finish();
}

/// Calls `bench` with a name, a number of readers, what publishes `event`, and those readers.
fn each_rival(
    event: &Arc<Event>,
    mut bench: impl FnMut(&str, usize, &mut dyn FnMut(), &mut Followers),
) {
    for n in READERS {
        let session = full_session();
        let followers = (0..n).map(|_| follow_session(&session));
        let publish = &mut || {
            let _ = black_box(session.publish(black_box(event)));
        };
        bench("tapline", n, publish, &mut Followers::new(followers));

        let (sender, _idle) = full_tokio();
        let followers = (0..n).map(|_| follow_tokio(sender.subscribe()));
        let publish = &mut || {
            let _ = black_box(sender.send(black_box(event).clone()));
        };
        bench("tokio", n, publish, &mut Followers::new(followers));

        let (sender, _idle) = full_async_broadcast();
        let followers = (0..n).map(|_| follow_async_broadcast(sender.new_receiver()));
        let publish = &mut || {
            let _ = black_box(sender.try_broadcast(black_box(event).clone()));
        };
        bench(
            "async-broadcast",
            n,
            publish,
            &mut Followers::new(followers),
        );
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// `n` producers publish `iters` events each, all at the same time; the time of one.
fn side_by_side<R>(n: usize, iters: u64, publish: impl Fn(&Arc<Event>) -> R + Sync) -> Duration {
    /// Events of its own, so that producers do not meet at one event's reference count.
    const OWN: usize = 1024;
    let waiting = AtomicU64::new(n as u64);
    let produce = || {
        let event = small().with_ts(TS);
        let own: Vec<_> = (0..OWN).map(|_| Arc::new(event.clone())).collect();
        waiting.fetch_sub(1, SeqCst);
        while waiting.load(SeqCst) > 0 {
            hint::spin_loop();
        }
        let begin = Instant::now();
        for (event, _) in own.iter().cycle().zip(0..iters) {
            let _ = black_box(publish(black_box(event)));
        }
        (begin, Instant::now())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..n).map(|_| scope.spawn(produce)).collect();
        let (mut begin, mut end) = produce();
        for other in others {
            let other = other.join().expect("a producer does not panic");
            begin = begin.min(other.0);
            end = end.max(other.1);
        }
        (end - begin) / n as u32
    })
}

type Tokio = broadcast::Sender<Arc<Event>>;

fn full_tokio() -> (Tokio, broadcast::Receiver<Arc<Event>>) {
    let (sender, idle) = broadcast::channel(RETAINED);
    let event = Arc::new(small().with_ts(TS));
    for _ in 0..RETAINED {
        assert!(sender.send(event.clone()).is_ok());
    }
    (sender, idle)
}

type AsyncBroadcast = async_broadcast::Sender<Arc<Event>>;

fn full_async_broadcast() -> (AsyncBroadcast, async_broadcast::Receiver<Arc<Event>>) {
    let (mut sender, idle) = async_broadcast::broadcast(RETAINED);
    sender.set_overflow(true);
    let event = Arc::new(small().with_ts(TS));
    for _ in 0..RETAINED {
        assert!(sender.try_broadcast(event.clone()).is_ok());
    }
    (sender, idle)
}

/// How far a follower has got.
#[derive(Debug, Default)]
struct Progress {
    /// Events that it has read or been told it lost.
    passed: AtomicU64,
    /// The same as of when it last fell asleep.
    asleep: AtomicU64,
}

impl Progress {
    /// Relaxed: what is waited for is the number itself.
    fn pass(&self, events: u64) {
        self.passed.fetch_add(events, Relaxed);
    }
}

/// A task that follows, and what it tells of itself.
type Follower = (Arc<Progress>, Pin<Box<dyn Future<Output = ()> + Send>>);

fn follower<F>(follow: impl FnOnce(Arc<Progress>) -> F) -> Follower
where
    F: Future<Output = ()> + Send + 'static,
{
    let progress = Arc::new(Progress::default());
    let task = TellsWhenAsleep {
        follow: Box::pin(follow(progress.clone())),
        progress: progress.clone(),
    };
    (progress, Box::pin(task))
}

/// Reads in batches, and gives the others their turn in between, as a server does.
fn follow_session(session: &TelemetrySession) -> Follower {
    let mut reader = session.new_reader(session.seq());
    follower(async move |progress: Arc<Progress>| {
        loop {
            poll_fn(|cx| reader.poll_until(cx, |_, _| false)).await;
            while read_batch(&mut reader, &progress) == BATCH {
                yield_now().await;
            }
        }
    })
}

fn read_batch(reader: &mut Reader, progress: &Progress) -> usize {
    let before = reader.position();
    let read = reader.read(BATCH, |item| {
        black_box(item);
        ControlFlow::Continue(())
    });
    progress.pass(reader.position() - before);
    read
}

fn follow_tokio(mut receiver: broadcast::Receiver<Arc<Event>>) -> Follower {
    follower(async move |progress: Arc<Progress>| {
        loop {
            match receiver.recv().await {
                Ok(event) => {
                    black_box(event);
                    progress.pass(1);
                }
                Err(Lagged::Lagged(n)) => progress.pass(n),
                Err(Lagged::Closed) => return,
            }
        }
    })
}

fn follow_async_broadcast(mut receiver: async_broadcast::Receiver<Arc<Event>>) -> Follower {
    follower(async move |progress: Arc<Progress>| {
        loop {
            // The others' turn; tokio's own channel sees to that by itself.
            consume_budget().await;
            match receiver.recv_direct().await {
                Ok(event) => {
                    black_box(event);
                    progress.pass(1);
                }
                Err(Overflow::Overflowed(n)) => progress.pass(n),
                Err(Overflow::Closed) => return,
            }
        }
    })
}

struct TellsWhenAsleep<F> {
    follow: Pin<Box<F>>,
    progress: Arc<Progress>,
}

impl<F: Future<Output = ()>> Future for TellsWhenAsleep<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.follow.as_mut().poll(cx);
        // Or only gives others their turn: then it has not passed everything, but for a rare last
        // batch that is a full one.
        let passed = self.progress.passed.load(Relaxed);
        self.progress.asleep.store(passed, Relaxed);
        polled
    }
}

/// Readers on a thread of their own, as tasks of one runtime.
struct Followers {
    all: Vec<Arc<Progress>>,
    published: u64,
    /// Dropping it ends the runtime.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Followers {
    fn new(followers: impl Iterator<Item = Follower>) -> Self {
        let (all, tasks): (Vec<_>, Vec<_>) = followers.unzip();
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
        Self {
            all,
            published: 0,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn published(&mut self, events: u64) {
        self.published += events;
    }

    /// Waits until all have passed what was published and fallen asleep.
    ///
    /// # Panics
    ///
    /// Where one does not: it was not woken, and would have kept the bench waiting for ever.
    fn settle(&self) {
        /// How long the runtime has, after its last task fell asleep, to park its thread.
        const PARKS_IN: Duration = Duration::from_micros(20);
        /// Far more than reading a full ring takes 64 readers.
        const PATIENCE: Duration = Duration::from_secs(20);
        let begin = Instant::now();
        for follower in &self.all {
            while follower.asleep.load(Relaxed) < self.published {
                assert!(
                    begin.elapsed() < PATIENCE,
                    "a reader sleeps on: {follower:?}"
                );
                thread::yield_now();
            }
        }
        let begin = Instant::now();
        while begin.elapsed() < PARKS_IN {
            hint::spin_loop();
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("following does not panic");
        }
    }
}
