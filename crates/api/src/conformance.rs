//! Checks for implementations of [`Sink`] and [`History`], to be called from their tests.
//!
//! Each check returns the property that does not hold, so that it can itself be tested with an implementation
//! that is broken on purpose.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tapline_events::{EventStream, Lost, Retention};
use tapline_oapi::{Event, KnownType};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

use crate::history::{History, HistoryBatch, ReadLimit};
use crate::sink::{Sink, SinkHandle, SinkLedger};
use crate::source::BoxFuture;

/// How long a sink may take for a few hundred events on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A sink, and a view of what has arrived at its other end.
pub trait SinkTarget {
    /// The sink under test.
    type Sink: Sink;

    /// A new sink with the same other end, as after a restart of the program.
    fn sink(&self) -> Self::Sink;

    /// Makes the next attempts to deliver fail in a way that a retry cures.
    fn fail_next(&self, attempts: usize);

    /// Everything that has arrived, in the order of arrival.
    fn arrived(&self) -> Vec<Arrived>;
}

/// What has arrived at the other end of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// The event with this seq.
    Event(u64),
    /// The report that these events were lost.
    Gap {
        /// The first seq that was lost.
        first: u64,
        /// The last seq that was lost.
        last: u64,
    },
}

impl From<&Lost> for Arrived {
    fn from(lost: &Lost) -> Self {
        Self::Gap {
            first: lost.first,
            last: lost.last,
        }
    }
}

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {detail}")]
pub struct Violation {
    /// Which property, in a few words.
    pub property: &'static str,
    /// What was expected and what was found.
    pub detail: String,
}

/// Checks a sink. `target` makes a new other end, on which nothing has arrived; `spawn` runs a task on the
/// runtime that the sink needs, such as [`spawn_thread`].
///
/// # Errors
///
/// The first [`Violation`] of these: it delivers in order; it retries; it counts what it exports; it reports gaps
/// inside the data that it exports; everything of a window has arrived when switching it off is over, and nothing
/// from outside a window arrives; it repeats nothing after it was off and on; it loses nothing in a clean stop;
/// a sink with a cursor resumes after it.
pub fn check_sink<T: SinkTarget>(
    target: impl Fn() -> T,
    spawn: impl Fn(BoxFuture<'static, ()>),
) -> Result<(), Violation> {
    let begin = |events| Bench::new(target(), &spawn, events);

    let bench = begin(1024);
    bench.handle.on();
    bench.publish(300);
    bench.stop();
    bench.expect("delivers in order", &events(1..=300))?;
    bench.expect_ledger("counts what it exports", 300, 0)?;

    let bench = begin(1024);
    bench.handle.on();
    bench.target.fail_next(3);
    bench.publish(100);
    bench.stop();
    bench.expect("retries", &events(1..=100))?;
    bench.expect_ledger("counts what it exports, with retries", 100, 0)?;

    // The sink does not run yet when the events of its window are evicted.
    let mut bench = Bench::idle(target(), 8);
    bench.handle.on();
    bench.publish(100);
    bench.run(&spawn);
    bench.stop();
    let gap = Arrived::Gap { first: 1, last: 92 };
    let expected = std::iter::once(gap)
        .chain(events(93..=100))
        .collect::<Vec<_>>();
    bench.expect("reports gaps inside the data", &expected)?;
    bench.expect_ledger("counts what it exports, with a gap", 8, 92)?;

    let bench = begin(1024);
    bench.publish(10);
    bench.handle.on();
    bench.publish(10);
    bench.off();
    bench.expect(
        "everything of a window has arrived when it is off",
        &events(11..=20),
    )?;
    bench.publish(10);
    bench.handle.on();
    bench.publish(10);
    bench.stop();
    let expected = events(11..=20)
        .into_iter()
        .chain(events(31..=40))
        .collect::<Vec<_>>();
    bench.expect(
        "nothing arrives from outside a window, and nothing twice",
        &expected,
    )?;
    bench.expect_ledger("counts what it exports, with two windows", 20, 0)?;

    let mut bench = begin(1024);
    bench.handle.on();
    for round in 1..=7 {
        bench.publish(round);
    }
    bench.stop();
    bench.expect("loses nothing in a clean stop", &events(1..=28))?;

    let has_cursor = block_on(bench.target.sink().resume()).is_ok_and(|it| it.is_some());
    if has_cursor {
        bench.publish(12);
        bench.restart();
        bench.handle.on();
        bench.run(&spawn);
        bench.stop();
        bench.expect("resumes after its cursor", &events(1..=40))?;
    }
    Ok(())
}

/// Checks a history that retains the newest of the events `1..=head`, whose JSON `envelopes` are, from the
/// first seq that is retained.
///
/// # Errors
///
/// The first [`Violation`] of these: the bounds are right; every read begins after the cursor, in order and
/// without holes, with the JSON as it was published; what is missing is exact; a limit holds, and there is progress
/// whatever it is.
pub fn check_history(history: &dyn History, envelopes: &[String]) -> Result<(), Violation> {
    let bounds =
        block_on(history.bounds()).map_err(|error| violation("can be read", error.to_string()))?;
    let head = bounds.head;
    let oldest = match envelopes.len() as u64 {
        0 => 0,
        count => head + 1 - count,
    };
    if bounds.oldest != oldest {
        let detail = format!("oldest is {}, not {oldest}", bounds.oldest);
        return Err(violation("the bounds are right", detail));
    }
    let read = |after, limit| {
        block_on(history.read(after, limit))
            .map_err(|error| violation("can be read", error.to_string()))
    };
    let largest = envelopes.iter().map(String::len).max().unwrap_or(0);
    for limit in [
        ReadLimit::default(),
        ReadLimit {
            events: 0,
            bytes: 0,
        },
        ReadLimit {
            events: 3,
            bytes: usize::MAX,
        },
        ReadLimit {
            events: usize::MAX,
            bytes: 2 * largest,
        },
    ] {
        for start in [0, oldest.saturating_sub(1), oldest, head.saturating_sub(1)] {
            let mut after = start;
            while after < head {
                let batch = read(after, limit)?;
                check_batch(&batch, after, oldest, envelopes, limit)?;
                after += batch.missing.map_or(0, |it| it.end() - it.start() + 1);
                after += batch.envelopes.len() as u64;
            }
        }
    }
    for after in [head, head + 1, u64::MAX] {
        let batch = read(after, ReadLimit::default())?;
        if batch.missing.is_some() || !batch.envelopes.is_empty() {
            let detail = format!("after {after} there is {batch:?}");
            return Err(violation("begins after the cursor", detail));
        }
    }
    Ok(())
}

fn check_batch(
    batch: &HistoryBatch,
    after: u64,
    oldest: u64,
    envelopes: &[String],
    limit: ReadLimit,
) -> Result<(), Violation> {
    let missing = (after + 1 < oldest).then(|| after + 1..=oldest - 1);
    if batch.missing != missing {
        let detail = format!("after {after}: {:?}, not {missing:?}", batch.missing);
        return Err(violation("what is missing is exact", detail));
    }
    let first = oldest.max(after + 1);
    if batch.envelopes.is_empty() {
        let detail = format!("nothing after {after} with {limit:?}");
        return Err(violation("makes progress", detail));
    }
    for (n, envelope) in batch.envelopes.iter().enumerate() {
        let seq = first + n as u64;
        let expected = &envelopes[(seq - oldest) as usize];
        if envelope.seq() != seq || envelope.json() != expected.as_bytes() {
            let detail = format!("after {after}: {envelope:?}, not {expected}");
            return Err(violation("reads in order, as it was published", detail));
        }
    }
    let bytes: usize = batch.envelopes.iter().map(|it| it.json().len()).sum();
    let is_over = limit.events.max(1) < batch.envelopes.len() || limit.bytes < bytes;
    if is_over && batch.envelopes.len() > 1 {
        let detail = format!("{} events, {bytes} bytes: {limit:?}", batch.envelopes.len());
        return Err(violation("keeps to the limit", detail));
    }
    Ok(())
}

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs a task on a thread of its own: for sinks that need no runtime.
pub fn spawn_thread(task: BoxFuture<'static, ()>) {
    thread::spawn(|| block_on(task));
}

/// A stream with a session, and a sink on it.
struct Bench<T> {
    session: TelemetrySession,
    target: T,
    handle: SinkHandle,
    task: Option<BoxFuture<'static, ()>>,
}

impl<T: SinkTarget> Bench<T> {
    fn new(target: T, spawn: impl Fn(BoxFuture<'static, ()>), events: usize) -> Self {
        let mut bench = Self::idle(target, events);
        bench.run(spawn);
        bench
    }

    /// The sink's task does not run yet.
    fn idle(target: T, events: usize) -> Self {
        let retention = Retention {
            events,
            bytes: u64::MAX,
        };
        let stream = EventStream::new(retention).expect("the retention is in range");
        let session = TelemetrySession::new(stream);
        let started = session.start("conformance", TelemetryConfig::default());
        started.expect("the id is not empty");
        let (handle, task) = SinkHandle::new(session.stream().clone(), target.sink());
        Self {
            session,
            target,
            handle,
            task: Some(Box::pin(task)),
        }
    }

    fn run(&mut self, spawn: impl Fn(BoxFuture<'static, ()>)) {
        if let Some(task) = self.task.take() {
            spawn(task);
        }
    }

    fn restart(&mut self) {
        let (handle, task) = SinkHandle::new(self.session.stream().clone(), self.target.sink());
        self.handle = handle;
        self.task = Some(Box::pin(task));
    }

    fn publish(&self, events: u64) {
        for _ in 0..events {
            let published = self
                .session
                .publish(Event::known(KnownType::PageLoad, None));
            published.expect("everything is captured");
        }
    }

    fn off(&self) {
        block_on(self.handle.off(Instant::now() + PATIENCE));
    }

    fn stop(&self) {
        block_on(self.handle.shutdown(Instant::now() + PATIENCE));
    }

    fn expect(&self, property: &'static str, expected: &[Arrived]) -> Result<(), Violation> {
        let arrived = self.target.arrived();
        if arrived == expected {
            return Ok(());
        }
        let at = arrived.iter().zip(expected).take_while(|(a, b)| a == b);
        let at = at.count();
        let detail = format!(
            "item {at} of {} is {:?}, not {:?} of {}; the last error is {:?}",
            arrived.len(),
            arrived.get(at),
            expected.get(at),
            expected.len(),
            self.handle.status().last_error,
        );
        Err(violation(property, detail))
    }

    fn expect_ledger(
        &self,
        property: &'static str,
        exported: u64,
        lost: u64,
    ) -> Result<(), Violation> {
        let expected = SinkLedger {
            read: exported,
            exported,
            lost,
            ..SinkLedger::default()
        };
        let ledger = self.handle.status().ledger;
        match ledger == expected {
            true => Ok(()),
            false => Err(violation(property, format!("{ledger:?}, not {expected:?}"))),
        }
    }
}

fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<Arrived> {
    seqs.map(Arrived::Event).collect()
}

fn violation(property: &'static str, detail: impl Into<String>) -> Violation {
    Violation {
        property,
        detail: detail.into(),
    }
}
