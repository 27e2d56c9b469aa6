//! Where events go: [`Sink`], and what runs one.
//!
//! A sink exports the stream to somewhere else: a file, a collector, a broker. It is switched on and off at
//! run time. Each time it is on is a *window* of seqs, and the sink gets exactly the events of its windows,
//! in order, from a [`SinkReader`] of its own.
//!
//! ```text
//!   on()          off(deadline)        on()             shutdown(deadline)
//! ----|==== window ====|------------------|==== window ====|-----
//! ```
//!
//! # The ledger closes
//!
//! The reader counts what it hands out, and the [`Progress`] handle counts what the sink says became of it, in
//! the order of reading and never more than was read. So [`SinkLedger`] closes at every moment, whatever the
//! sink does: read = exported + excluded + rejected + failed + pending. What was evicted before is not part of it: it is
//! lost, or was recovered from elsewhere, once its gap is settled. So read + recovered + lost is what was published in
//! the windows.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use event_listener::Event as Notification;
use futures_timer::Delay;
use tapline_events::{EventStream, Filter, Item, Lost};
use tapline_oapi::{Cursor, Epoch, SinkInfo, SinkSpans};
use tapline_telemetry::{Envelope, Reader, SessionState};

use crate::deadline::before;
use crate::history::ReadLimit;
use crate::source::BoxFuture;

/// The pause before a sink that has failed is run again. Each is twice the one before, up to
/// [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Exports events to somewhere else.
///
/// [`sink::conformance`](crate::conformance::check_sink) checks an implementation.
pub trait Sink: Send + Sync + 'static {
    /// A short name for the log and for people, such as `archive`.
    fn name(&self) -> &str;

    /// Which events it exports. All, by default.
    fn filter(&self) -> Filter {
        Filter::all()
    }

    /// The last event that it has exported in an earlier run of the program, if it stores that. Asked once,
    /// before the first window: where the cursor is of this epoch, that window begins after it.
    ///
    /// # Errors
    ///
    /// Where it cannot be read. The window then begins where it was switched on, and the error is shown.
    fn resume(&self) -> BoxFuture<'_, Result<Option<Cursor>, SinkError>> {
        Box::pin(async { Ok(None) })
    }

    /// Exports what `reader` gives until it ends, and settles each item with [`SinkReader::progress`].
    ///
    /// The reader ends once the sink is switched off and everything up to that moment was read. What is pending
    /// then should be exported until the deadline of `stop`; after that the future is dropped.
    ///
    /// # Errors
    ///
    /// What a later attempt may cure: the sink is run again after a pause, with a reader that begins after the
    /// last item that was settled. So what cannot be exported ever should be settled as
    /// [`Rejected`](Settled::Rejected) or [`Failed`](Settled::Failed) instead.
    fn run(&self, reader: SinkReader, stop: StopSignal) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// Why a sink could not export.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(Box<dyn Error + Send + Sync>);

impl SinkError {
    /// With the reason: an error, or a text.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

/// What a sink reads.
#[derive(Debug, Clone)]
pub enum SinkItem {
    /// The next event.
    Event(Envelope),
    /// Events of the window were evicted before the sink read them. They are exported, too: a reader of the
    /// exported data has to see the gap.
    Gap(Lost),
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It has arrived.
    Exported,
    /// The sink's own rules leave it out.
    Excluded,
    /// The other end does not take it, and never will.
    Rejected,
    /// The sink stopped trying to export it.
    Failed,
}

/// What became of the events that a sink has read:
/// `read == exported + excluded + rejected + failed + pending`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SinkLedger {
    /// Handed to the sink. An event that is read again after a failure counts once.
    pub read: u64,
    /// Arrived at the other end.
    pub exported: u64,
    /// Left out by the sink's own rules.
    pub excluded: u64,
    /// Refused by the other end.
    pub rejected: u64,
    /// Given up.
    pub failed: u64,
    /// Not settled yet.
    pub pending: u64,
    /// Evicted before the sink read them, recovered from elsewhere, such as an archive, and arrived. Not part of `read`.
    pub recovered: u64,
    /// Evicted before the sink read them, and not recovered; not part of `read`. Counted once the gap is settled. At most,
    /// where it is not known exactly.
    pub lost: u64,
}

/// What became of the spans that a sink has made of the events that it read. They are not part of [`SinkLedger`]:
/// `made == exported + rejected + failed + pending`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanLedger {
    /// Made so far.
    pub made: u64,
    /// Arrived at the other end.
    pub exported: u64,
    /// Refused by the other end.
    pub rejected: u64,
    /// Given up.
    pub failed: u64,
    /// Not settled yet.
    pub pending: u64,
}

/// A sink as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub is_on: bool,
    /// The seq up to which everything of its windows is settled.
    pub position: u64,
    /// How many seqs the head is ahead of the position; 0 while it is off.
    pub lag: u64,
    /// What became of what it has read.
    pub ledger: SinkLedger,
    /// What became of the spans that it has made. `None` if it made none.
    pub spans: Option<SpanLedger>,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
}

impl From<SinkStatus> for SinkInfo {
    fn from(status: SinkStatus) -> Self {
        let ledger = status.ledger;
        Self {
            name: status.name,
            on: status.is_on,
            position: status.position,
            lag: status.lag,
            read: ledger.read,
            exported: ledger.exported,
            excluded: ledger.excluded,
            rejected: ledger.rejected,
            failed: ledger.failed,
            pending: ledger.pending,
            recovered: ledger.recovered,
            lost: ledger.lost,
            spans: status.spans.map(|it| SinkSpans {
                made: it.made,
                exported: it.exported,
                rejected: it.rejected,
                failed: it.failed,
                pending: it.pending,
            }),
            last_error: status.last_error,
        }
    }
}

/// Settles what a sink has read. A cheap clone, for any thread.
#[derive(Debug, Clone)]
pub struct Progress {
    shared: Arc<Shared>,
    run: u64,
}

/// More was settled than is pending, or by a run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{settled} items were settled, but only {pending} are pending")]
pub struct NotPending {
    /// How many were to be settled. None of them is.
    pub settled: usize,
    /// How many could be.
    pub pending: usize,
}

impl Progress {
    /// Settles the next items in the order of reading. A gap counts as an item; what is said of it does not
    /// matter.
    ///
    /// # Errors
    ///
    /// [`NotPending`] where so many are not pending. Nothing is settled then.
    pub fn settle(&self, settled: Settled, items: usize) -> Result<(), NotPending> {
        let mut state = self.shared.lock();
        let pending = match state.run == self.run {
            true => state.pending.len(),
            false => 0,
        };
        if items > pending {
            return Err(NotPending {
                settled: items,
                pending,
            });
        }
        for _ in 0..items {
            state.settle_next(settled);
        }
        Ok(())
    }

    /// Counts events of the gap that is the next item to be settled: the sink has them from elsewhere, and they have
    /// arrived. They are not lost. Where the next item is no gap, nothing changes; more than the gap has are not counted.
    pub fn recover(&self, events: u64) {
        let Some(mut state) = self.of_run() else {
            return;
        };
        if let Some(Pending {
            lost: Some(lost), ..
        }) = state.pending.front()
        {
            state.pending_recovered = (state.pending_recovered + events).min(*lost);
        }
    }

    /// Counts spans that were made of what was read. They are pending until they are settled, and have failed where
    /// they are not when the call of [`Sink::run`] ends: from then on this value counts nothing more.
    pub fn make_spans(&self, spans: u64) {
        let Some(mut state) = self.of_run() else {
            return;
        };
        state.spans.made += spans;
        state.spans.pending += spans;
    }

    /// Says what became of spans that are pending. [`Settled::Excluded`] counts as failed: a span that is left out is
    /// not made.
    pub fn settle_spans(&self, settled: Settled, spans: u64) {
        let Some(mut state) = self.of_run() else {
            return;
        };
        let spans = spans.min(state.spans.pending);
        state.spans.pending -= spans;
        match settled {
            Settled::Exported => state.spans.exported += spans,
            Settled::Rejected => state.spans.rejected += spans,
            Settled::Failed | Settled::Excluded => state.spans.failed += spans,
        }
    }

    /// Shows an error to people, such as one that a retry inside of the sink will cure.
    pub fn report(&self, error: impl fmt::Display) {
        self.shared.lock().last_error = Some(error.to_string());
    }

    /// What it counts in, unless its run has ended.
    fn of_run(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.shared.lock()).filter(|state| state.run == self.run)
    }
}

/// Says that a sink is to come to its end, and by when.
#[derive(Debug, Clone)]
pub struct StopSignal(Arc<Shared>);

impl StopSignal {
    /// The moment at which the sink is abandoned. `None` while it is to run.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.lock().stop().map(|(_, deadline)| deadline)
    }

    /// Waits until the sink is to stop, and gives the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn stopped(&self) -> Instant {
        self.0
            .until(|state| state.stop().map(|(_, deadline)| deadline))
            .await
    }
}

/// Reads the events of one window, and counts them.
#[derive(Debug)]
pub struct SinkReader {
    /// What was evicted before the reader was opened. To be reported first.
    evicted: Option<Lost>,
    reader: Reader,
    epoch: Epoch,
    shared: Arc<Shared>,
    run: u64,
}

impl SinkReader {
    /// The next items in the order of their seqs: at least one, and as many as there are within the limit.
    /// `None` once the sink was switched off and everything up to that moment was read.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was read.
    pub async fn read(&mut self, limit: ReadLimit) -> Option<Vec<SinkItem>> {
        loop {
            let stop = self.shared.changed.listen();
            let last = self.shared.lock().stop().map_or(u64::MAX, |(last, _)| last);
            if last <= self.reader.position() && self.evicted.is_none() {
                return None;
            }
            let items = self.read_now(limit, last);
            if !items.is_empty() {
                return Some(items);
            }
            let mut stop = pin!(stop);
            poll_fn(|cx| match self.reader.poll_until(cx, |_, _| false) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => stop.as_mut().poll(cx),
            })
            .await;
        }
    }

    /// The epoch of all the seqs that it reads.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Settles what was read.
    pub fn progress(&self) -> Progress {
        Progress {
            shared: self.shared.clone(),
            run: self.run,
        }
    }

    /// What there is now, up to the seq `last`.
    fn read_now(&mut self, limit: ReadLimit, last: u64) -> Vec<SinkItem> {
        if let Some(evicted) = self.evicted.take() {
            let items = vec![SinkItem::Gap(evicted)];
            let lost = evicted.matching.unwrap_or(evicted.count());
            self.shared.lock().has_read(&items, lost, evicted.last);
            return items;
        }
        let mut items = Vec::new();
        let mut bytes = 0;
        let ledger_before = self.reader.ledger();
        self.reader.read(limit.events.max(1), |item| {
            match item {
                Item::Envelope(envelope) if envelope.seq() <= last => {
                    bytes += envelope.json().len();
                    items.push(SinkItem::Event(envelope.keep()));
                }
                Item::Lost(lost) if lost.first <= last => items.push(SinkItem::Gap(lost)),
                // Published after the window.
                _ => return ControlFlow::Break(()),
            }
            match bytes < limit.bytes {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        let lost = self.reader.ledger().lost - ledger_before.lost;
        self.shared
            .lock()
            .has_read(&items, lost, self.reader.position().min(last));
        items
    }
}

/// Switches a sink on and off. A handle: clones are the same.
#[derive(Clone)]
pub struct SinkHandle {
    name: Arc<str>,
    stream: EventStream<SessionState>,
    shared: Arc<Shared>,
}

impl SinkHandle {
    /// A sink over this stream, switched off, and the task that runs it. The task has to be spawned on the
    /// runtime that the sink needs; it ends after [`shutdown`](Self::shutdown).
    pub fn new(
        stream: EventStream<SessionState>,
        sink: impl Sink,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let handle = Self {
            name: sink.name().into(),
            stream,
            shared: Arc::default(),
        };
        let task = handle.clone();
        (handle, async move { task.drive(&sink).await })
    }

    /// Switches it on: a window begins with the next event that is published. Where it is on, nothing changes.
    pub fn on(&self) {
        let mut state = self.shared.lock();
        if !state.is_on() && !state.is_shut_down {
            state.windows.push_back(Window {
                after: self.stream.head(),
                stop: None,
            });
        }
        drop(state);
        self.shared.changed.notify(usize::MAX);
    }

    /// Switches it off: what was published up to now is still exported, until the deadline. Waits for that.
    ///
    /// # Cancel safety
    ///
    /// It is switched off by the call. Dropping the future only ends the wait.
    pub fn off(&self, deadline: Instant) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.shared.lock();
        let head = self.stream.head();
        if let Some(Window {
            stop: stop @ None, ..
        }) = state.windows.back_mut()
        {
            *stop = Some((head, deadline));
        }
        drop(state);
        self.shared.changed.notify(usize::MAX);
        let shared = self.shared.clone();
        async move {
            shared
                .until(|state| state.windows.is_empty().then_some(()))
                .await;
        }
    }

    /// Switches it [off](Self::off) for good, and waits at most until the deadline, whether its task runs or
    /// not.
    pub async fn shutdown(&self, deadline: Instant) {
        self.shared.lock().is_shut_down = true;
        if before(deadline, self.off(deadline)).await.is_none() {
            tracing::warn!(
                sink = &*self.name,
                "the sink did not end in time and is abandoned"
            );
        }
    }

    /// How it does.
    pub fn status(&self) -> SinkStatus {
        let state = self.shared.lock();
        let is_on = state.is_on();
        SinkStatus {
            name: self.name.to_string(),
            is_on,
            position: state.position,
            lag: match state.windows.is_empty() {
                true => 0,
                false => self.stream.head().saturating_sub(state.position),
            },
            ledger: state.ledger(),
            spans: (0 < state.spans.made).then_some(state.spans),
            last_error: state.last_error.clone(),
        }
    }

    async fn drive(&self, sink: &dyn Sink) {
        let mut resume_after = self.resume_after(sink).await;
        loop {
            let next = self.shared.until(|state| match state.windows.front() {
                Some(window) => Some(Some(window.after)),
                None => state.is_shut_down.then_some(None),
            });
            let Some(after) = next.await else {
                return;
            };
            self.shared.lock().position = resume_after.take().unwrap_or(after);
            self.run_window(sink).await;
            self.shared.lock().windows.pop_front();
            self.shared.changed.notify(usize::MAX);
        }
    }

    /// The seq of the sink's stored cursor, where it is one of this stream.
    async fn resume_after(&self, sink: &dyn Sink) -> Option<u64> {
        match sink.resume().await {
            Ok(cursor) => {
                let cursor = cursor?;
                let is_ours = cursor
                    .epoch
                    .is_none_or(|epoch| epoch == self.stream.epoch());
                let after = Some(cursor.seq).filter(|seq| is_ours && *seq <= self.stream.head());
                if after.is_none() {
                    tracing::debug!(sink = &*self.name, %cursor, "the stored cursor is of another run");
                }
                after
            }
            Err(error) => {
                self.report(&error);
                None
            }
        }
    }

    /// Runs the sink, again where it fails, until the window that is first in line is over.
    async fn run_window(&self, sink: &dyn Sink) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (run, after) = self.shared.lock().begin_run();
            let reader = self.stream.reader(after).filtered(sink.filter());
            let reader = SinkReader {
                evicted: evicted(&reader, after),
                reader,
                epoch: self.stream.epoch(),
                shared: self.shared.clone(),
                run,
            };
            let ended = self
                .until_deadline(sink.run(reader, StopSignal(self.shared.clone())))
                .await;
            let (settled, is_stopping) = self.shared.lock().progress();
            let reason = match ended {
                Some(Ok(())) if is_stopping => break,
                Some(Ok(())) => SinkError::new("it ended by itself"),
                Some(Err(error)) => error,
                None => SinkError::new("it did not end in time and was abandoned"),
            };
            self.report(&reason);
            // With the deadline there is no further attempt.
            if self.until_deadline(Delay::new(pause)).await.is_none() {
                break;
            }
            pause = match settled > after {
                true => FIRST_PAUSE,
                false => LAST_PAUSE.min(2 * pause),
            };
        }
        self.shared.lock().end_window();
    }

    /// What the future gives; `None` where the deadline of a stop comes first.
    async fn until_deadline<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let deadline = async {
            let stop = StopSignal(self.shared.clone()).stopped().await;
            Delay::new(stop.saturating_duration_since(Instant::now())).await;
        };
        let (mut future, mut deadline) = (pin!(future), pin!(deadline));
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => deadline.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    fn report(&self, error: &SinkError) {
        tracing::warn!(sink = &*self.name, %error, "the sink failed");
        self.shared.lock().last_error = Some(error.to_string());
    }
}

impl fmt::Debug for SinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SinkHandle").field(&self.status()).finish()
    }
}

/// What a reader that was to begin after that seq cannot have any more.
fn evicted(reader: &Reader, after: u64) -> Option<Lost> {
    let lost = Lost {
        first: after + 1,
        last: reader.position(),
        // Under a filter, how many of them matched is not known.
        matching: (*reader.filter() == Filter::all())
            .then(|| reader.position().saturating_sub(after)),
        by_category: None,
    };
    (after < reader.position()).then_some(lost)
}

/// What the handle, the reader, the progress and the task share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when `windows` or `is_shut_down` has changed.
    changed: Notification,
}

#[derive(Debug, Default)]
struct State {
    /// The first one is exported now; the last one may be open.
    windows: VecDeque<Window>,
    is_shut_down: bool,
    /// The number of the current call of [`Sink::run`]: handles of earlier ones settle nothing.
    run: u64,
    /// Everything up to it is settled.
    position: u64,
    /// Everything up to it was read.
    read_to: u64,
    /// In the order of reading.
    pending: VecDeque<Pending>,
    /// Of these, how many are events. The others are gaps.
    pending_events: u64,
    /// How many events of the gap that is the first item are recovered.
    pending_recovered: u64,
    /// But for `read` and `pending`, which follow from the others.
    settled: SinkLedger,
    spans: SpanLedger,
    last_error: Option<String>,
}

#[derive(Debug)]
struct Window {
    after: u64,
    /// The last seq of the window, and the deadline for it. `None` while it is open.
    stop: Option<(u64, Instant)>,
}

/// An item that is not settled.
#[derive(Debug)]
struct Pending {
    /// Its last seq.
    seq: u64,
    /// How many events were lost with it, for a gap.
    lost: Option<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.listen();
            if let Some(found) = look(&self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl State {
    fn is_on(&self) -> bool {
        matches!(self.windows.back(), Some(Window { stop: None, .. }))
    }

    /// The last seq of the current window and its deadline, once it is closed.
    fn stop(&self) -> Option<(u64, Instant)> {
        self.windows.front()?.stop
    }

    fn ledger(&self) -> SinkLedger {
        let (settled, pending) = (self.settled, self.pending_events);
        SinkLedger {
            read: settled.exported + settled.excluded + settled.rejected + settled.failed + pending,
            pending,
            recovered: settled.recovered + self.pending_recovered,
            ..settled
        }
    }

    fn begin_run(&mut self) -> (u64, u64) {
        self.fail_spans();
        // What was not settled is read again.
        self.pending.clear();
        (self.pending_events, self.pending_recovered) = (0, 0);
        self.read_to = self.position;
        self.run += 1;
        (self.run, self.position)
    }

    fn has_read(&mut self, items: &[SinkItem], lost: u64, read_to: u64) {
        for item in items {
            self.pending.push_back(match item {
                SinkItem::Event(envelope) => {
                    self.pending_events += 1;
                    Pending {
                        seq: envelope.seq(),
                        lost: None,
                    }
                }
                SinkItem::Gap(gap) => {
                    Pending {
                        seq: gap.last,
                        // A reader comes to at most one gap at a time.
                        lost: Some(lost),
                    }
                }
            });
        }
        self.read_to = read_to;
        if self.pending.is_empty() {
            self.position = read_to;
        }
    }

    fn settle_next(&mut self, settled: Settled) {
        let Some(item) = self.pending.pop_front() else {
            return;
        };
        if item.lost.is_none() {
            self.pending_events -= 1;
        }
        match (item.lost, settled) {
            (Some(lost), _) => {
                let recovered = std::mem::take(&mut self.pending_recovered);
                self.settled.recovered += recovered;
                self.settled.lost += lost - recovered;
            }
            (None, Settled::Exported) => self.settled.exported += 1,
            (None, Settled::Excluded) => self.settled.excluded += 1,
            (None, Settled::Rejected) => self.settled.rejected += 1,
            (None, Settled::Failed) => self.settled.failed += 1,
        }
        self.position = match self.pending.is_empty() {
            true => self.read_to,
            false => item.seq,
        };
    }

    /// The position, and whether the window is closed.
    fn progress(&self) -> (u64, bool) {
        (self.position, self.stop().is_some())
    }

    /// What is pending at the end of a window has failed: no later window has it.
    fn end_window(&mut self) {
        while !self.pending.is_empty() {
            self.settle_next(Settled::Failed);
        }
        self.fail_spans();
        self.run += 1;
    }

    /// No later run has the spans of this one.
    fn fail_spans(&mut self) {
        self.spans.failed += std::mem::take(&mut self.spans.pending);
    }
}
