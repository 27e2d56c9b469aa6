//! Checks for implementations of [`Sink`] and [`History`], to be called from their tests.
//!
//! Each check returns the property that does not hold, so that it can itself be tested with an implementation
//! that is broken on purpose.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tapline_events::{Epoch, EventStream, Filter, Lost, Retention, TypePattern};
use tapline_oapi::{Event, KnownType};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

use crate::history::{History, HistoryBatch, HistoryQuery, Order, ReadLimit, SharedEnvelope};
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

/// Checks a history that retains the newest of the events `1..=head` of the epoch, whose JSON `envelopes` are,
/// from the first seq that is retained.
///
/// # Errors
///
/// The first [`Violation`] of these: the bounds are right; every read looks at the seqs of its query from the end
/// that its order says, without holes, and gives those that were asked for, with the JSON as it was published; what
/// is missing is exact; a limit holds, and there is progress whatever it is.
pub fn check_history(
    history: &dyn History,
    epoch: Epoch,
    envelopes: &[String],
) -> Result<(), Violation> {
    let bounds =
        block_on(history.bounds()).map_err(|error| violation("can be read", error.to_string()))?;
    let bounds = bounds.into_iter().find(|it| it.epoch == epoch);
    let (oldest, head) = bounds.map_or((0, 0), |it| (it.oldest, it.head));
    let expected_oldest = match envelopes.len() as u64 {
        0 => 0,
        count => (head + 1).saturating_sub(count),
    };
    if oldest != expected_oldest {
        let detail = format!("oldest is {oldest}, not {expected_oldest}");
        return Err(violation("the bounds are right", detail));
    }
    let retained = Retained {
        oldest,
        head,
        envelopes,
    };
    let largest = envelopes.iter().map(String::len).max().unwrap_or(0);
    let limits = [
        (512, 256 * 1024),
        (0, 0),
        (3, usize::MAX),
        (usize::MAX, 2 * largest),
    ];
    let ranges = [
        1..=u64::MAX,
        oldest..=head,
        oldest + 1..=head.saturating_sub(1),
        head..=head,
    ];
    let types = Filter::types(vec![TypePattern::new("page_*")]);
    for (events, bytes) in limits {
        for seqs in ranges.clone() {
            for order in [Order::Asc, Order::Desc] {
                for filter in [Filter::all(), types.clone()] {
                    let query = HistoryQuery {
                        epoch,
                        seqs: seqs.clone(),
                        order,
                        filter,
                        since: None,
                        until: None,
                        limit: ReadLimit { events, bytes },
                    };
                    retained.check_count(history, &query)?;
                    retained.check(history, query)?;
                }
            }
        }
    }
    for seqs in [head + 1..=u64::MAX, u64::MAX..=u64::MAX] {
        let query = HistoryQuery {
            epoch,
            seqs,
            order: Order::Asc,
            filter: Filter::all(),
            since: None,
            until: None,
            limit: ReadLimit::default(),
        };
        let batch = read(history, &query)?;
        if batch.looked_at.is_some() || !batch.missing.is_empty() || !batch.envelopes.is_empty() {
            let detail = format!("for {query:?} there is {batch:?}");
            return Err(violation("reads what was asked for", detail));
        }
    }
    Ok(())
}

fn read(history: &dyn History, query: &HistoryQuery) -> Result<HistoryBatch, Violation> {
    block_on(history.read(query)).map_err(|error| violation("can be read", error.to_string()))
}

/// What a history has.
struct Retained<'a> {
    oldest: u64,
    head: u64,
    envelopes: &'a [String],
}

impl Retained<'_> {
    /// Reads the query to its end, and checks each batch.
    fn check(&self, history: &dyn History, mut query: HistoryQuery) -> Result<(), Violation> {
        let mut left = *query.seqs.start().max(&1)..=self.head.min(*query.seqs.end());
        while !left.is_empty() {
            let batch = read(history, &query)?;
            let Some(looked_at) = batch.looked_at.clone() else {
                let detail = format!("nothing for {query:?}");
                return Err(violation("makes progress", detail));
            };
            let is_at_its_end = match query.order {
                Order::Asc => looked_at.start() == left.start() && looked_at.end() <= left.end(),
                Order::Desc => looked_at.end() == left.end() && left.start() <= looked_at.start(),
            };
            if looked_at.is_empty() || !is_at_its_end {
                let detail = format!("{looked_at:?} of {left:?} for {query:?}");
                return Err(violation("makes progress", detail));
            }
            self.check_batch(&batch, &looked_at, &query)?;
            left = match query.order {
                Order::Asc => looked_at.end() + 1..=*left.end(),
                Order::Desc => *left.start()..=looked_at.start() - 1,
            };
            query.seqs = left.clone();
        }
        Ok(())
    }

    /// Counts what the query asks for, to its end.
    fn check_count(&self, history: &dyn History, query: &HistoryQuery) -> Result<(), Violation> {
        let mut left = *query.seqs.start().max(&1)..=self.head.min(*query.seqs.end());
        let (oldest, newest) = (self.oldest.max(*left.start()), *left.end());
        let expected = (oldest..=newest).filter(|seq| self.matches(*seq, &query.filter));
        let expected = (
            expected.count() as u64,
            oldest.saturating_sub(*left.start()),
        );
        let mut found = (0, 0);
        while !left.is_empty() {
            let count = block_on(history.count(query.epoch, left.clone(), &query.filter))
                .map_err(|error| violation("can be read", error.to_string()))?;
            let Some(looked_at) = count.looked_at.filter(|it| it.start() == left.start()) else {
                let detail = format!("{left:?} are not counted");
                return Err(violation("makes progress", detail));
            };
            found = (found.0 + count.matching, found.1 + count.missing);
            left = looked_at.end() + 1..=*left.end();
        }
        if found != expected {
            let detail = format!("{found:?} match and are missing, not {expected:?}, of {query:?}");
            return Err(violation("counts exactly", detail));
        }
        Ok(())
    }

    /// Whether the event is there and is asked for.
    fn matches(&self, seq: u64, filter: &Filter) -> bool {
        let at = seq.checked_sub(self.oldest);
        let json = at.and_then(|at| self.envelopes.get(usize::try_from(at).ok()?));
        json.is_some_and(|json| filter.types.is_empty() || json.contains(r#""type":"page_"#))
    }

    fn check_batch(
        &self,
        batch: &HistoryBatch,
        looked_at: &RangeInclusive<u64>,
        query: &HistoryQuery,
    ) -> Result<(), Violation> {
        let last_missing = match self.oldest {
            0 => *looked_at.end(),
            oldest => (oldest - 1).min(*looked_at.end()),
        };
        let missing = *looked_at.start()..=last_missing;
        let missing: Vec<_> = [missing].into_iter().filter(|it| !it.is_empty()).collect();
        if batch.missing != missing {
            let detail = format!("{looked_at:?}: {:?}, not {missing:?}", batch.missing);
            return Err(violation("what is missing is exact", detail));
        }
        let mut expected: Vec<&String> = looked_at
            .clone()
            .filter(|seq| self.matches(*seq, &query.filter))
            .map(|seq| &self.envelopes[(seq - self.oldest) as usize])
            .collect();
        if query.order == Order::Desc {
            expected.reverse();
        }
        let json = |it: &SharedEnvelope| it.json().to_string();
        let found: Vec<String> = batch.envelopes.iter().map(json).collect();
        if !found.iter().eq(expected.iter().copied()) {
            let detail = format!("{found:?}, not {expected:?}, for {query:?}");
            return Err(violation("reads in order, as it was published", detail));
        }
        let bytes: usize = found.iter().map(|json| json.len()).sum();
        let limit = query.limit;
        let is_over = limit.events.max(1) < found.len() || limit.bytes < bytes;
        if is_over && found.len() > 1 {
            let detail = format!("{} events, {bytes} bytes: {limit:?}", found.len());
            return Err(violation("keeps to the limit", detail));
        }
        Ok(())
    }
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
            ..Retention::default()
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

fn events(seqs: RangeInclusive<u64>) -> Vec<Arrived> {
    seqs.map(Arrived::Event).collect()
}

fn violation(property: &'static str, detail: impl Into<String>) -> Violation {
    Violation {
        property,
        detail: detail.into(),
    }
}
