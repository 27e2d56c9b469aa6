//! Following the stream: [`Reader`].

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
#[cfg(not(loom))]
use std::time::{Duration, Instant};

use futures_core::Stream;
use tapline_ring::{self as ring, Ring};

use crate::counts::Counts;
use crate::envelope::{Entry, Envelope, EnvelopeRef};
use crate::filter::Filter;
use crate::stamp::Stamp;

/// An independent position in the stream. Reading takes nothing from other readers.
///
/// # Ordering
///
/// Envelopes come in the order of their seqs, each at most once. What is missing in between was
/// filtered, or was reported as [`Lost`] before.
///
/// # Lagging
///
/// A reader that has lagged gets one [`Item::Lost`] and continues at the oldest retained, or at the head
/// ([`LagPolicy`]).
///
/// # Cancel safety
///
/// Waiting consumes nothing: a wait that times out, or a future that is dropped, has not moved the reader.
///
/// # Panics
///
/// A closure that panics passes its panic on. What it was shown counts as delivered or lost, and the ledger
/// still closes.
pub struct Reader<M = ()>
where
    M: Stamp,
{
    ring: ring::Reader<Entry, M>,
    /// The same ring, which has the categories of what is lost.
    stream: Arc<Ring<Entry, M>>,
    filter: Filter,
    lag_policy: LagPolicy,
    ledger: ReaderLedger,
}

/// Where a reader continues that has lagged: events that it may have asked for were evicted before it got
/// there. A reader that is to end then can do so itself when it gets [`Item::Lost`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LagPolicy {
    /// At the oldest retained: no more is lost than has to be.
    #[default]
    Oldest,
    /// After the head: what is retained up to there is skipped as well, so that a reader that wants the
    /// present does not read what will be evicted before it gets there. One [`Lost`] counts both, as
    /// exactly as evicted events alone.
    Head,
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<E> {
    /// The next event that it asked for.
    Envelope(E),
    /// Events that it asked for are gone. Comes before whatever follows them.
    Lost(Lost),
}

/// Events that were evicted before the reader got there, or skipped ([`LagPolicy::Head`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first seq that is gone.
    pub first: u64,
    /// The last seq that is gone.
    pub last: u64,
    /// How many of them the reader had asked for. `None` where that is not known: its filter names types,
    /// or some are older than the [category log](crate::Retention::category_log).
    pub matching: Option<u64>,
    /// How many there were of each category that the reader asked for; for a filter that names
    /// types, whatever their type. `None` where some are older than the category log.
    pub by_category: Option<Counts>,
}

impl Lost {
    /// How many are gone, asked for or not.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// How many of them the reader had asked for, or the most that it can be.
    pub fn at_most(&self) -> u64 {
        let by_category = self.by_category.map(|counts| counts.sum());
        self.matching.or(by_category).unwrap_or(self.count())
    }
}

/// What became of the seqs between where a reader began and where it is. For every reader at every moment,
/// `delivered + filtered + lost == Reader::position() - start`: the reader's position is the ring's, and not
/// computed from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReaderLedger {
    /// The reader's first event was to be the one after this seq.
    pub start: u64,
    /// Handed to the reader.
    pub delivered: u64,
    /// Not asked for.
    pub filtered: u64,
    /// Asked for, and evicted or skipped. Where [`Lost::matching`] is not known, every event of a category
    /// that was asked for is counted here, so it is the most that it can be.
    pub lost: u64,
}

impl ReaderLedger {
    /// That of a reader whose first event is to be the one after the seq `start`.
    pub fn starting_at(start: u64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// The ledger behind a loss that follows it: so many of the events were asked for.
    ///
    /// # Panics
    ///
    /// Where the loss does not begin at the position, or has fewer events than that.
    #[must_use]
    pub fn behind(self, lost: &Lost, matching: u64) -> Self {
        assert_eq!(self.position() + 1, lost.first, "the loss follows");
        Self {
            lost: self.lost + matching,
            filtered: self.filtered + (lost.count() - matching),
            ..self
        }
    }

    /// Where the reader is by this ledger: `start + delivered + filtered + lost`.
    pub fn position(&self) -> u64 {
        self.start + self.delivered + self.filtered + self.lost
    }

    /// This ledger, and what another one gained from `since` to `now`: the ledger of a reader for
    /// which that other one has read.
    ///
    /// It closes where both readers stood at the same position and asked for the same when the other
    /// ledger was `since`, which [`Reader::follow`] is for. `now` is a later state of `since`.
    #[must_use]
    pub fn advanced_by(self, since: Self, now: Self) -> Self {
        Self {
            start: self.start,
            delivered: self.delivered + (now.delivered - since.delivered),
            filtered: self.filtered + (now.filtered - since.filtered),
            lost: self.lost + (now.lost - since.lost),
        }
    }
}

impl<M: Stamp> Reader<M> {
    pub(crate) fn new(ring: &Arc<Ring<Entry, M>>, after: u64) -> Self {
        let reader = ring.reader(after);
        let ledger = ReaderLedger::starting_at(reader.position());
        Self {
            ring: reader,
            stream: ring.clone(),
            filter: Filter::all(),
            lag_policy: LagPolicy::default(),
            ledger,
        }
    }

    /// The same reader, for what `filter` asks for only, as [`refilter`](Self::refilter).
    #[must_use]
    pub fn filtered(mut self, filter: Filter) -> Self {
        self.refilter(filter);
        self
    }

    /// The same reader, with that policy for when it has lagged.
    #[must_use]
    pub fn on_lag(mut self, policy: LagPolicy) -> Self {
        self.lag_policy = policy;
        self
    }

    /// The same reader, which continues the account of another one: it begins where that ledger ends.
    ///
    /// # Panics
    ///
    /// Where the ledger is of another position, or the reader has read already.
    #[must_use]
    pub fn continued(mut self, ledger: ReaderLedger) -> Self {
        assert_eq!(
            ledger.position(),
            self.position(),
            "the ledger is of its position"
        );
        assert_eq!(self.ledger.start, self.position(), "it has not read yet");
        self.ledger = ledger;
        self
    }

    /// Where it continues when it has lagged.
    pub fn lag_policy(&self) -> LagPolicy {
        self.lag_policy
    }

    /// Counts the events after the seq `after` that were evicted before the reader was opened. The ledger then
    /// starts at `after`, and says how many of these events the reader may have asked for. Returns the loss, if
    /// there may be one.
    ///
    /// For a reader that has its filter and has not read yet. Does nothing where `after` is not before its
    /// position.
    pub fn count_from(&mut self, after: u64) -> Option<Lost> {
        let (first, last) = (after.saturating_add(1), self.position());
        if last < first || self.ledger.position() != self.ledger.start {
            return None;
        }
        self.ledger.start = after;
        let gone = ring::Lost { first, last };
        let ring = &self.stream;
        if let Some(all) = counts(ring, gone) {
            return account(&self.filter, &mut self.ledger, gone, Some(all));
        }
        // What the stream was resumed after is of categories that it does not know; what follows may be known.
        let before = ring.start().saturating_sub(after);
        let since = (after + before < last).then_some(ring::Lost {
            first: first + before,
            last,
        });
        let since = since.map(|since| possible(&self.filter, since, counts(ring, since)));
        let possible = before + since.unwrap_or(0);
        self.ledger.lost += possible;
        self.ledger.filtered += gone.count() - possible;
        (possible > 0).then_some(Lost {
            first,
            last,
            matching: (self.filter == Filter::all()).then_some(possible),
            by_category: None,
        })
    }

    /// Replaces its ledger by one that knows more of the same seqs, such as how many of the lost events were
    /// asked for.
    ///
    /// # Panics
    ///
    /// Where that ledger is of another start or another position.
    pub fn amend(&mut self, ledger: ReaderLedger) {
        assert_eq!(
            (ledger.start, ledger.position()),
            (self.ledger.start, self.position()),
            "the ledger is of the same seqs"
        );
        self.ledger = ledger;
    }

    /// What it asks for.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Asks for something else from its position on: `filter` decides about every seq above it, also about
    /// one that was published before, or that is evicted already without the reader having found out. What
    /// is in the ledger stays as it is.
    pub fn refilter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// Shows `visit` what there is now, in order, until it breaks or `limit` events have been looked
    /// at, filtered ones included; returns how many were looked at. Does not wait.
    ///
    /// While it runs, what is evicted cannot be freed: let `limit` be hundreds, and `visit` quick.
    pub fn read(
        &mut self,
        limit: usize,
        mut visit: impl FnMut(Item<EnvelopeRef<'_, M>>) -> ControlFlow<()>,
    ) -> usize {
        let mut looked_at = 0;
        loop {
            let mut skip_from = None;
            let Self {
                ring,
                filter,
                stream,
                lag_policy,
                ledger,
            } = self;
            looked_at += ring.read(limit - looked_at, |item| match item {
                ring::ReadItem::Record(record) => {
                    let envelope = EnvelopeRef::new(record);
                    if !filter.matches(envelope.event()) {
                        ledger.filtered += 1;
                        return ControlFlow::Continue(());
                    }
                    ledger.delivered += 1;
                    visit(Item::Envelope(envelope))
                }
                ring::ReadItem::Lost(gone) => {
                    let all = counts(stream, gone);
                    if *lag_policy == LagPolicy::Head && possible(filter, gone, all) > 0 {
                        skip_from = Some(gone.first);
                        return ControlFlow::Break(());
                    }
                    match account(filter, ledger, gone, all) {
                        Some(lost) => visit(Item::Lost(lost)),
                        None => ControlFlow::Continue(()),
                    }
                }
            });
            let Some(first) = skip_from else {
                self.assert_closed();
                return looked_at;
            };
            if let Some(lost) = self.skip_to_head(first)
                && visit(Item::Lost(lost)).is_break()
            {
                self.assert_closed();
                return looked_at;
            }
        }
    }

    /// The next envelope or loss, if there is one now. Does not wait: where all that was there when it
    /// was called is filtered, it returns, however much is published meanwhile.
    pub fn try_next(&mut self) -> Option<Item<Envelope<M>>> {
        /// How many filtered events are skipped under one guard.
        const STRIDE: usize = 256;
        let mut until = None;
        loop {
            let mut next = None;
            let looked_at = self.read(STRIDE, |item| {
                next = Some(match item {
                    Item::Envelope(envelope) => Item::Envelope(envelope.keep()),
                    Item::Lost(lost) => Item::Lost(lost),
                });
                ControlFlow::Break(())
            });
            if next.is_some() || looked_at < STRIDE {
                return next;
            }
            if *until.get_or_insert_with(|| self.stream.head()) <= self.position() {
                return None;
            }
        }
    }

    /// The next envelope or loss; waits for it up to `timeout`, or without end. Blocks the thread:
    /// in async code the reader is a [`Stream`].
    #[cfg(not(loom))]
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<Item<Envelope<M>>> {
        // A time-out beyond the range of the clock is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(item) = self.try_next() {
                return Some(item);
            }
            self.ring
                .wait_until(deadline, |reader| reader.is_ready().then_some(()))?;
            // All new events may be filtered, again and again: that does not extend the wait.
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return self.try_next();
            }
        }
    }

    /// As [`Reader::try_next`]; where there is nothing yet, wakes `cx` when there may be.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Item<Envelope<M>>> {
        for _ in 0..2 {
            if let Some(item) = self.try_next() {
                return Poll::Ready(item);
            }
            if self.poll_until(cx, |_, _| false).is_pending() {
                return Poll::Pending;
            }
        }
        // All that came was filtered, and more has come: other tasks run before it.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when there is something to look at, or when `look` says so of the stamp in force and the
    /// head. `look` is called now, and again after appends and transitions.
    pub fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&M, u64) -> bool,
    ) -> Poll<()> {
        self.ring.poll_until(cx, |reader| {
            let ready = reader.is_ready_or(&mut look);
            ready.then_some(())
        })
    }

    /// Moves to where `leader` is, without reading: of many readers at one position that ask for the same,
    /// one can read, and the others are given what it found.
    ///
    /// `since` is the leader's ledger of the moment when both stood at this reader's position. What the
    /// leader's ledger has gained since is added to this reader's, so this one closes as if the reader
    /// had read by itself: what was delivered to the leader counts as delivered here, and what the
    /// leader lost as lost. From here on each can read alone again. The position only moves forward.
    ///
    /// Nothing is looked at: it costs some additions. Both ask for the same as long as the leader reads
    /// for this reader; a filter that is changed on one side only would falsify the ledger unseen.
    ///
    /// # Panics
    ///
    /// Where `since` is of another position than this reader's, or the readers are of two streams.
    pub fn follow(&mut self, leader: &Self, since: ReaderLedger) {
        assert!(
            Arc::ptr_eq(self.ring.ring(), leader.ring.ring()),
            "both read the same stream"
        );
        assert_eq!(
            since.position(),
            self.position(),
            "both stood at the same position"
        );
        self.ledger = self.ledger.advanced_by(since, leader.ledger);
        self.ring.skip_to(leader.position());
        self.assert_closed();
    }

    /// The last seq that was delivered, filtered or lost.
    pub fn position(&self) -> u64 {
        self.ring.position()
    }

    /// What became of the seqs so far.
    pub fn ledger(&self) -> ReaderLedger {
        self.ledger
    }

    /// The ring's position and the ledger's are kept apart, so that one checks the other.
    #[inline]
    fn assert_closed(&self) {
        debug_assert_eq!(
            self.ring.position(),
            self.ledger.position(),
            "the ledger closes: {:?}",
            self.ledger
        );
    }

    /// Skips everything from `first` to the head, evicted or not.
    fn skip_to_head(&mut self, first: u64) -> Option<Lost> {
        let last = self.stream.head();
        self.ring.skip_to(last);
        let gone = ring::Lost { first, last };
        let all = counts(&self.stream, gone);
        account(&self.filter, &mut self.ledger, gone, all)
    }
}

/// How many of the gone events were of each category, where that is known.
fn counts<M: Stamp>(ring: &Ring<Entry, M>, gone: ring::Lost) -> Option<Counts> {
    let classes = ring.classes(gone.first..=gone.last);
    classes.map(Counts::of_classes)
}

/// How many of the gone events may have been asked for, at most; `all` is how many there were of each
/// category, where that is known.
fn possible(filter: &Filter, gone: ring::Lost, all: Option<Counts>) -> u64 {
    all.map_or(gone.count(), |all| {
        all.within(filter.possible_categories()).sum()
    })
}

/// Enters into the ledger what is gone; a loss only where something asked for may be among it.
fn account(
    filter: &Filter,
    ledger: &mut ReaderLedger,
    gone: ring::Lost,
    all: Option<Counts>,
) -> Option<Lost> {
    let possible = possible(filter, gone, all);
    let by_category = all.map(|all| all.within(filter.possible_categories()));
    ledger.lost += possible;
    ledger.filtered += gone.count() - possible;
    let matching = by_category.map(|counts| counts.sum());
    (possible > 0).then_some(Lost {
        first: gone.first,
        last: gone.last,
        matching: matching.filter(|_| filter.is_by_category()),
        by_category,
    })
}

/// Never ends.
impl<M: Stamp> Stream for Reader<M> {
    type Item = Item<Envelope<M>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Reader::poll_next(self.get_mut(), cx).map(Some)
    }
}

impl<M: Stamp> fmt::Debug for Reader<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("position", &self.position())
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
