//! The ring as its users see it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::bounds::{Bounds, CapacityError, MAX_START};
use crate::classes::{ClassCounts, ClassLog};
use crate::core::{Core, Found};
use crate::notifier;
use crate::reclaim::Guard;
use crate::record::{Kept, Measure};
use crate::sync::Thread;

/// A bounded, overwriting ring of records, in one order that all readers see.
///
/// `T` is what is appended. `S` is the *running state*: a value that every append carries one step
/// further, and of which every record keeps a copy as of its seq. Totals belong there, and whatever
/// decides what may be appended; [`Ring::transition`] changes it between two records.
///
/// Everything takes `&self`; share the ring in an [`Arc`]. Each ring has a thread of its own, the
/// *notifier thread*. It wakes sleeping readers, frees what was evicted when producers have become idle,
/// and sleeps otherwise. It ends with the ring.
///
/// # Panics in foreign code
///
/// Wakers, closures and the values themselves are code of the ring's users, and may panic.
///
/// | what panics | what happens |
/// |---|---|
/// | a waker's `wake` or `drop`, in the notifier thread or where a reader stops waiting | the panic ends there, after the panic hook has run; all other readers are woken |
/// | the `Drop` of an evicted value or state, in the notifier thread or in any append | the same; reclamation continues, and the append returns as usual |
/// | `decide`, or the `Clone` of a state, in an append or a transition | the caller gets the panic; nothing was appended or changed |
/// | the `Clone` of a state, after an append, while evicting for the bound by weight | the panic ends there; the next append evicts |
/// | a `visit` or `look` closure | the caller gets the panic; what the closure was shown counts as read |
/// | a waker's `clone`, when a reader begins to wait | the caller gets the panic; the reader is not registered, and can be polled again |
/// | the `Drop` of a value that a [`Kept`] held last | the thread that drops it gets the panic, as with an `Arc` |
///
/// So [`Ring::append`] never panics once it has appended.
pub struct Ring<T, S = ()>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    pub(crate) core: Arc<Core<T, S>>,
    pub(crate) notifier: Thread,
}

/// A value that was not appended.
#[derive(Debug)]
pub struct Rejected<T, R> {
    /// The value, given back.
    pub value: T,
    /// The reason that the decision gave.
    pub reason: R,
}

/// What can still be read: `oldest <= seq && seq <= head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    /// The oldest seq that is retained. 0 before the first record of this ring.
    pub oldest: u64,
    /// The newest seq. Before the first record of this ring, the seq that it started after: 0 unless it
    /// was made by [`Ring::starting_after`].
    pub head: u64,
    /// The weight of all retained records together. While producers append, as of about that moment.
    pub weight: u64,
}

/// What is retained after some seq: see [`Ring::unread`].
#[derive(Debug)]
pub struct Unread<T, S> {
    /// The first record of it.
    pub first: Kept<T, S>,
    /// The seq of the last record of it: the newest seq.
    pub head: u64,
    /// The weight of all of it. While producers append, some of it may be evicted by now.
    pub weight: u64,
}

impl<T, S> Ring<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// A ring that retains `capacity` records of any weight, rounded up to a power of two (see
    /// [`Ring::bounds`]), and begins with the running state `initial`.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] for 0, and where there is no memory for the slots (8 bytes each) or no thread for
    /// the notifier.
    pub fn new(capacity: usize, initial: S) -> Result<Self, CapacityError> {
        Self::bounded(Bounds::of(capacity), initial)
    }

    /// A ring that retains what is within both bounds, and begins with the running state `initial`.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] for 0 records, and where there is no memory for the slots (8 bytes each) or no
    /// thread for the notifier.
    pub fn bounded(bounds: Bounds, initial: S) -> Result<Self, CapacityError> {
        Self::starting_after(0, bounds, initial)
    }

    /// As [`Ring::bounded`], with seqs that follow on: the first record gets the seq `start + 1`.
    ///
    /// The ring retains nothing of what came up to `start`. Before the first append its head is `start` and
    /// its oldest is 0, and [`Ring::reader`] begins after `start`.
    ///
    /// # Errors
    ///
    /// As for [`Ring::bounded`], and [`CapacityError::FirstSeq`] where `start` is above [`MAX_START`].
    pub fn starting_after(start: u64, bounds: Bounds, initial: S) -> Result<Self, CapacityError> {
        Self::with_backstop(start, bounds, initial, notifier::BACKSTOP)
    }

    /// With another time after which the notifier looks by itself whether a reader is to be woken.
    pub(crate) fn with_backstop(
        start: u64,
        mut bounds: Bounds,
        initial: S,
        backstop: Duration,
    ) -> Result<Self, CapacityError> {
        let capacity = bounds.records;
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        if start > MAX_START {
            return Err(CapacityError::FirstSeq(start.saturating_add(1)));
        }
        let too_large = CapacityError::TooLarge(capacity);
        bounds.records = capacity.checked_next_power_of_two().ok_or(too_large)?;
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(bounds.records)
            .map_err(|_| too_large)?;
        let log = ClassLog::new(bounds.log, start).ok_or(CapacityError::LogTooLarge(bounds.log))?;
        let core = Arc::new(Core::new(slots, log, bounds, initial, start));
        let notifier = notifier::start(core.clone(), backstop)
            .map_err(|error| CapacityError::NoThread(error.kind()))?;
        Ok(Self { core, notifier })
    }

    /// The bounds in force.
    pub fn bounds(&self) -> Bounds {
        self.core.bounds()
    }

    /// The seq that this ring started after: 0, or what [`Ring::starting_after`] was given. Records up to
    /// here were never in this ring.
    pub fn start(&self) -> u64 {
        self.core.start()
    }

    /// Appends `value`, if `decide` allows it, and returns the record.
    ///
    /// `decide` gets the value, which it may change, a copy of the running state that the record would
    /// follow, which it carries one step further, and the seq that the record would get. It answers with what the
    /// record weighs and its class (`()` for neither), or refuses.
    /// It runs once for each attempt, and only the last answer counts: either all that it was given is
    /// still true when the record is stored, or it is asked again. The value is then as the attempt before
    /// left it; the state is a fresh copy.
    ///
    /// # Ordering
    ///
    /// Lock-free: a producer that stops at any instruction in here, also inside `decide`, holds up no
    /// other thread. The append takes effect when the record is stored in its slot, before this returns.
    /// What the caller wrote before is visible to every thread that sees the record.
    ///
    /// # Memory
    ///
    /// A record takes over the memory of one that was evicted before, with its state
    /// (`Clone::clone_from`): in a steady flow nothing is allocated. The evicted value is dropped here.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the value back with the reason of `decide`; nothing was appended.
    ///
    /// # Panics
    ///
    /// Where `decide` or the state's `Clone` panics. Nothing was appended then, and the
    /// ring is intact. It never panics after it has appended: see
    /// [Panics in foreign code](Ring#panics-in-foreign-code).
    #[inline]
    pub fn append<R, D: Into<Measure>>(
        &self,
        value: T,
        decide: impl FnMut(&mut T, &mut S, u64) -> Result<D, R>,
    ) -> Result<Kept<T, S>, Rejected<T, R>> {
        self.append_with(|| value, decide)
    }

    /// As [`append`](Self::append), with a value that `make` returns, called once. It is made where it is stored: moving a
    /// value of some words there costs more than it seems, since what was just written in parts is read as a whole.
    ///
    /// # Errors and panics
    ///
    /// As [`append`](Self::append); also where `make` panics.
    #[inline]
    pub fn append_with<R, D: Into<Measure>>(
        &self,
        make: impl FnOnce() -> T,
        decide: impl FnMut(&mut T, &mut S, u64) -> Result<D, R>,
    ) -> Result<Kept<T, S>, Rejected<T, R>> {
        self.batch().append_kept(make, decide)
    }

    /// Changes the running state between two records, and returns the head at that moment.
    ///
    /// `decide` gets the running state and the head, and answers with the new state, or refuses.
    /// It runs once for each attempt, as in [`Ring::append`].
    ///
    /// # Ordering
    ///
    /// Atomic with every append: a record up to the returned head was decided by the state before,
    /// every later one by the state that this leaves. An append whose decision was taken before and
    /// that has no seq yet is decided anew. Lock-free, and no producer waits for it. Sleeping
    /// readers are woken, so that they can look.
    ///
    /// # Errors
    ///
    /// The reason that `decide` refuses with; nothing has changed then.
    ///
    /// # Panics
    ///
    /// Where `decide` panics; nothing has changed then.
    pub fn transition<R>(&self, mut decide: impl FnMut(&S, u64) -> Result<S, R>) -> Result<u64, R> {
        let core = &*self.core;
        let guard = core.pin();
        loop {
            let claim = core.claim(&guard);
            let state = decide(claim.state, claim.head)?;
            if core.transition(&claim, state, &guard) {
                core.waiters.notify(guard.has_retired(), &self.notifier);
                return Ok(claim.head);
            }
            core.waiters.lost_exchange();
        }
    }

    /// Looks at the running state and the head that it belongs to, as of one moment. Lock-free.
    pub fn state<R>(&self, look: impl FnOnce(&S, u64) -> R) -> R {
        let guard = self.core.pin();
        let claim = self.core.claim(&guard);
        look(claim.state, claim.head)
    }

    /// The record with that seq, if it is retained.
    pub fn get(&self, seq: u64) -> Option<Kept<T, S>> {
        match self.core.find(seq, &self.core.pin()) {
            Found::Record(record) => Some(record.keep()),
            Found::Evicted | Found::NotYet => None,
        }
    }

    /// How many of these records were of each [class](Measure::class), evicted or not. Takes a few microseconds,
    /// however many they are. `None` where one of them is older than the log, was never in this ring, or is not there
    /// yet.
    pub fn classes(&self, seqs: RangeInclusive<u64>) -> Option<ClassCounts> {
        let (first, last) = seqs.into_inner();
        self.core.classes(first, last)
    }

    /// The memory that the [log of classes](Bounds::log) takes now, in bytes.
    pub fn log_bytes(&self) -> u64 {
        self.core.log_bytes()
    }

    /// The newest seq; before the first record, the seq that the ring started after (0 as a rule).
    pub fn head(&self) -> u64 {
        self.core.claim(&self.core.pin()).head
    }

    /// What can be read at this moment.
    pub fn retained(&self) -> Retained {
        let guard = self.core.pin();
        loop {
            let oldest = self.core.oldest(&guard);
            let claim = self.core.claim(&guard);
            let before = match self.core.find(oldest, &guard) {
                Found::Record(record) => record.weight_before(),
                Found::Evicted | Found::NotYet => claim.sum.weight(),
            };
            // Otherwise the first record was appended between the two looks.
            if oldest > 0 || claim.head == self.core.start() {
                return Retained {
                    oldest,
                    head: claim.head,
                    weight: claim.sum.weight() - before,
                };
            }
        }
    }

    /// What is retained of the records after that seq; `None` where there is nothing, or nothing yet.
    /// Costs the same however much it is.
    pub fn unread(&self, after: u64) -> Option<Unread<T, S>> {
        let guard = self.core.pin();
        loop {
            let next = after.saturating_add(1).max(self.first(&guard));
            match self.core.find(next, &guard) {
                Found::Record(first) => {
                    let claim = self.core.claim(&guard);
                    return Some(Unread {
                        head: claim.head,
                        weight: claim.sum.weight() - first.weight_before(),
                        first: first.keep(),
                    });
                }
                Found::NotYet => return None,
                // Overwritten since it was the oldest: then another one is.
                Found::Evicted => {}
            }
        }
    }

    /// The first seq that can be read now or later.
    pub(crate) fn first(&self, guard: &Guard<'_, T, S>) -> u64 {
        self.core.oldest(guard).max(self.core.start() + 1)
    }
}

impl<T, S> Drop for Ring<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.core.waiters.close(&self.notifier);
    }
}

impl<T, S> fmt::Debug for Ring<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.core.bounds().records)
            .finish_non_exhaustive()
    }
}
