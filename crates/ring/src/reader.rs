//! A position in the ring, and what is read from there.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
#[cfg(not(any(loom, shuttle)))]
use std::time::Instant;

use crate::core::Found;
use crate::record::{Kept, RecordRef};
use crate::ring::Ring;
use crate::wait::Waiter;

/// An independent reader. It shares nothing that it writes with producers or other readers.
///
/// # Lagging
///
/// A reader whose next record was evicted before it got there has lagged. It gets one
/// [`ReadItem::Lost`] with the first and the last seq that it missed, and continues at the oldest record
/// that is retained.
///
/// # Panics
///
/// A closure that panics passes its panic on. What it was shown counts as read, and the reader can be used
/// further.
pub struct Reader<T, S = ()>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    ring: Arc<Ring<T, S>>,
    next: u64,
    /// The newest record that it has found; 0 before the first.
    seen: u64,
    /// Whether it found nothing more when it looked last.
    caught_up: bool,
    waiter: Waiter,
}

/// What a reader finds: a record, or that records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadItem<R> {
    /// The next record.
    Record(R),
    /// These records were evicted before the reader got there: [`Ring::classes`] says of which classes they were.
    Lost(Lost),
}

/// The seqs that a reader missed: `first <= seq && seq <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lost {
    /// The first that is gone.
    pub first: u64,
    /// The last that is gone.
    pub last: u64,
}

impl Lost {
    /// How many.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl<T, S> Ring<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// A reader whose first record is `after + 1`, or the oldest retained where that is gone. What was
    /// gone before the reader began is not counted as lost by the reader: it is
    /// [`Reader::position`]` - after`.
    ///
    /// An `after` beyond the head makes it wait for the records that follow `after`.
    pub fn reader(self: &Arc<Self>, after: u64) -> Reader<T, S> {
        let first = self.first(&self.core.pin());
        Reader::new(self.clone(), after.saturating_add(1).max(first))
    }
}

impl<T, S> Reader<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(ring: Arc<Ring<T, S>>, next: u64) -> Self {
        Self {
            ring,
            next,
            seen: 0,
            caught_up: false,
            waiter: Waiter::default(),
        }
    }

    /// The last seq that this reader has read or lost: the next one follows it.
    pub fn position(&self) -> u64 {
        self.next - 1
    }

    /// The ring that it reads.
    pub fn ring(&self) -> &Arc<Ring<T, S>> {
        &self.ring
    }

    /// Continues after `position`, forward only: what lies between is neither read nor lost.
    pub fn skip_to(&mut self, position: u64) {
        let next = self.next.max(position.saturating_add(1));
        // What it has seen is no place to look from any more.
        self.caught_up &= next == self.next;
        self.next = next;
    }

    /// Shows `visit` what there is, in order, until it has seen `limit` records or breaks; returns how
    /// many records it has seen. Does not wait; costs no reference count per record.
    ///
    /// All visits run under one guard, which keeps alive what is evicted meanwhile: let `limit` be
    /// hundreds rather than millions, and `visit` quick.
    pub fn read(
        &mut self,
        limit: usize,
        mut visit: impl FnMut(ReadItem<RecordRef<'_, T, S>>) -> ControlFlow<()>,
    ) -> usize {
        /// How many records ahead are fetched into the cache while one is visited: a visit takes some 5 ns, and memory
        /// that is not in a cache some 150.
        const AHEAD: u64 = 32;
        let core = &*self.ring.core;
        // A reader at the head leaves the tail to the producers, and does not fetch ahead what they are
        // about to write.
        let (stored, fetch_up_to) = if self.caught_up {
            (self.seen, 0)
        } else {
            let tail = core.tail();
            (tail, tail)
        };
        let guard = core.pin_at(stored);
        self.caught_up = false;
        let mut shown = 0;
        while shown < limit {
            let ahead = self.next.saturating_add(AHEAD);
            if ahead <= fetch_up_to {
                core.prefetch(ahead);
            }
            let item = match core.find(self.next, &guard) {
                Found::NotYet => {
                    self.caught_up = true;
                    break;
                }
                Found::Evicted => {
                    let oldest = core.oldest_after(self.next, &guard);
                    let lost = Lost {
                        first: self.next,
                        last: oldest - 1,
                    };
                    self.next = oldest;
                    self.seen = oldest;
                    ReadItem::Lost(lost)
                }
                Found::Record(record) => {
                    self.seen = self.next;
                    self.next += 1;
                    shown += 1;
                    ReadItem::Record(record)
                }
            };
            // Called at one place only: so it is inlined.
            if visit(item).is_break() {
                break;
            }
        }
        shown
    }

    /// The next record or loss, if there is one now. Does not wait.
    pub fn try_next(&mut self) -> Option<ReadItem<Kept<T, S>>> {
        let mut next = None;
        self.read(1, |item| {
            next = Some(match item {
                ReadItem::Record(record) => ReadItem::Record(record.keep()),
                ReadItem::Lost(lost) => ReadItem::Lost(lost),
            });
            ControlFlow::Break(())
        });
        next
    }

    /// Looks at the next record, if it is there, without reading it.
    pub fn peek<R>(&self, look: impl FnOnce(RecordRef<'_, T, S>) -> R) -> Option<R> {
        match self.ring.core.find(self.next, &self.ring.core.pin()) {
            Found::Record(record) => Some(look(record)),
            Found::Evicted | Found::NotYet => None,
        }
    }

    /// Whether there is something to read, or a loss to report.
    pub fn is_ready(&self) -> bool {
        let guard = self.ring.core.pin_at(self.stored());
        !matches!(self.ring.core.find(self.next, &guard), Found::NotYet)
    }

    /// As [`is_ready`](Self::is_ready), or what `look` says of the state in force and of the head, as [`Ring::state`] shows
    /// them. Costs less than both.
    pub fn is_ready_or(&self, look: impl FnOnce(&S, u64) -> bool) -> bool {
        let core = &*self.ring.core;
        let stored = self.stored();
        let guard = core.pin_at(stored);
        if !matches!(core.find(self.next, &guard), Found::NotYet) {
            return true;
        }
        let claim = core.claim_from(stored, &guard);
        look(claim.state, claim.head)
    }

    /// A seq that is stored: a reader at the head has seen the newest, and leaves the tail, which every append writes to, to
    /// the producers.
    fn stored(&self) -> u64 {
        if self.caught_up && 0 < self.seen {
            self.seen
        } else {
            self.ring.core.tail()
        }
    }

    /// Waits for the next record or loss, until `deadline` if there is one; `None` when it passes.
    /// Blocks the thread: in async code use [`Reader::poll_next`].
    ///
    /// # Cancel safety
    ///
    /// What is not returned is not read: after `None` nothing was skipped.
    #[cfg(not(any(loom, shuttle)))]
    pub fn next(&mut self, deadline: Option<Instant>) -> Option<ReadItem<Kept<T, S>>> {
        loop {
            if let Some(item) = self.try_next() {
                return Some(item);
            }
            self.wait_until(deadline, |reader| reader.is_ready().then_some(()))?;
        }
    }

    /// The next record or loss; where there is none yet, wakes `cx` when there may be.
    ///
    /// # Cancel safety
    ///
    /// What is not returned is not read.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ReadItem<Kept<T, S>>> {
        loop {
            if let Some(item) = self.try_next() {
                return Poll::Ready(item);
            }
            if self
                .poll_until(cx, |reader| reader.is_ready().then_some(()))
                .is_pending()
            {
                return Poll::Pending;
            }
        }
    }

    /// Waits until `look` finds what it looks for: called now and after every append and transition, until
    /// `deadline` if there is one.
    #[cfg(not(any(loom, shuttle)))]
    pub fn wait_until<R>(
        &mut self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&Self) -> Option<R>,
    ) -> Option<R> {
        let mut waiter = std::mem::take(&mut self.waiter);
        let (waiters, notifier) = (&self.ring.core.waiters, &self.ring.notifier);
        let found = waiter.wait(waiters, notifier, deadline, || look(self));
        self.waiter = waiter;
        found
    }

    /// As [`Reader::wait_until`], waking `cx` instead of blocking.
    pub fn poll_until<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&Self) -> Option<R>,
    ) -> Poll<R> {
        let mut waiter = std::mem::take(&mut self.waiter);
        let (waiters, notifier) = (&self.ring.core.waiters, &self.ring.notifier);
        let found = waiter.poll(waiters, notifier, cx, || look(self));
        self.waiter = waiter;
        found
    }
}

impl<T, S> Drop for Reader<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.waiter.leave(&self.ring.core.waiters);
    }
}

impl<T, S> fmt::Debug for Reader<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
