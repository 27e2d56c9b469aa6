//! The ring as its users see it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Core, Found};
use crate::notifier;
use crate::reader::Reader;
use crate::record::{Kept, Record, Spare};
use crate::sync::Thread;

/// A bounded, overwriting ring of records, in one order that all readers see.
///
/// `T` is what is appended. `S` is the *running state*: a value that every append carries one step
/// further and that every record keeps a copy of, as of its seq. Totals belong there, and whatever
/// decides what may be appended; [`Ring::transition`] changes it between two records.
///
/// Everything takes `&self`; share the ring in an [`Arc`]. Each ring has a thread of its own, the
/// *notifier*, which sleeps but for calling readers that sleep and freeing what was evicted when
/// producers have gone quiet. It ends with the ring.
pub struct Ring<T, S = ()>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    pub(crate) core: Arc<Core<T, S>>,
    pub(crate) notifier: Thread,
}

/// How much a ring retains; the oldest goes first.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<T> {
    /// At most so many records, rounded up to a power of two. At least 1.
    pub records: usize,
    /// At most so much weight, in the unit of `weigh`. The newest record is retained whatever it
    /// weighs.
    pub weight: u64,
    /// What a value weighs, once it has been decided about.
    pub weigh: fn(&T) -> u64,
}

/// Why a ring of that capacity cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// A ring retains at least one record.
    #[error("the capacity is 0: a ring retains at least 1 record")]
    Zero,
    /// More slots than can be addressed or than memory can be had for.
    #[error("the capacity of {0} records is more than there is memory for")]
    TooLarge(usize),
    /// The system has no thread to give for the ring's notifier.
    #[error("no thread can be had for the ring's notifier: {0}")]
    NoThread(io::ErrorKind),
}

/// What an append has decided about its value.
#[derive(Debug)]
pub struct Rejected<T, R> {
    /// The value, given back.
    pub value: T,
    /// What the decision said.
    pub reason: R,
}

/// What can still be read: `oldest <= seq && seq <= head`. All 0 before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retained {
    /// The oldest seq still there.
    pub oldest: u64,
    /// The newest seq.
    pub head: u64,
    /// What the records weigh together. With producers under way, as of about that moment.
    pub weight: u64,
}

/// What is retained after some seq: see [`Ring::unread`].
#[derive(Debug)]
pub struct Unread<T, S> {
    /// The first of it.
    pub first: Kept<T, S>,
    /// The last of it: the newest seq.
    pub head: u64,
    /// What it weighs together. With producers under way, some of it may be gone by now.
    pub weight: u64,
}

impl<T, S> Ring<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// A ring that retains `capacity` records, rounded up to a power of two ([`Ring::bounds`]
    /// tells), whatever they weigh, and begins with the running state `initial`.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] for 0, and where the slots (8 bytes each) or the notifier's thread cannot be
    /// had.
    pub fn new(capacity: usize, initial: S) -> Result<Self, CapacityError> {
        let unweighed = Bounds {
            records: capacity,
            weight: u64::MAX,
            weigh: |_| 0,
        };
        Self::bounded(unweighed, initial)
    }

    /// A ring that retains what is within both bounds, and begins with the running state `initial`.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] for 0 records, and where the slots (8 bytes each) or the notifier's thread
    /// cannot be had.
    pub fn bounded(bounds: Bounds<T>, initial: S) -> Result<Self, CapacityError> {
        Self::with_backstop(bounds, initial, notifier::BACKSTOP)
    }

    /// With another time after which the notifier looks by itself whether somebody is to be called.
    pub(crate) fn with_backstop(
        mut bounds: Bounds<T>,
        initial: S,
        backstop: Duration,
    ) -> Result<Self, CapacityError> {
        let capacity = bounds.records;
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        let too_large = CapacityError::TooLarge(capacity);
        bounds.records = capacity.checked_next_power_of_two().ok_or(too_large)?;
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(bounds.records)
            .map_err(|_| too_large)?;
        let core = Arc::new(Core::new(slots, bounds, initial));
        let notifier = notifier::start(core.clone(), backstop)
            .map_err(|error| CapacityError::NoThread(error.kind()))?;
        Ok(Self { core, notifier })
    }

    /// The bounds in force.
    pub fn bounds(&self) -> Bounds<T> {
        self.core.bounds()
    }

    /// Appends `value`, if `decide` lets it, and returns the record.
    ///
    /// `decide` gets the value, to stamp it, a copy of the running state that the record would
    /// follow, to carry it one step further, and the seq that the record would get; or it refuses.
    /// What it was told is still so when the record takes its place, or it is asked again: it runs
    /// once for each attempt, and only the last answer counts. The value is as the attempt before
    /// left it; the state is a fresh copy.
    ///
    /// # Ordering
    ///
    /// Lock-free: a producer that stops anywhere in here, also inside `decide`, holds up nobody.
    /// The append is in effect when its record stands in its slot, before this returns. What the
    /// caller wrote before is visible to whoever sees the record.
    ///
    /// # Memory
    ///
    /// A record takes over the memory of one that was evicted before, with its state
    /// (`Clone::clone_from`): in a steady flow nothing is allocated. The value of that one is
    /// dropped here.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the value back with the reason of `decide`; nothing was appended.
    ///
    /// # Panics
    ///
    /// Where `decide` does; nothing was appended then, and the ring is whole. Likewise where the
    /// state's copying or an evicted value's end does.
    #[inline]
    pub fn append<R>(
        &self,
        value: T,
        mut decide: impl FnMut(&mut T, &mut S, u64) -> Result<(), R>,
    ) -> Result<Kept<T, S>, Rejected<T, R>> {
        let core = &*self.core;
        let guard = core.pin();
        let spare = guard.spare();
        let mut claim = core.claim(&guard);
        let mut record = Record::new(spare, value, claim.state);
        let kept = loop {
            if let Err(reason) = decide(&mut record.value, &mut record.state, claim.seq()) {
                let (value, spare) = Spare::of(record);
                guard.put_back(spare);
                return Err(Rejected { value, reason });
            }
            record.seq = claim.seq();
            record.weight = core.weigh(&record.value);
            record.total_weight = claim.total_weight.saturating_add(record.weight);
            record = match core.put(&claim, record, &guard) {
                Ok(kept) => break kept,
                Err(record) => record,
            };
            core.waiters.lost_race();
            claim = core.claim(&guard);
            record.state.clone_from(claim.state);
        };
        core.waiters.notify(guard.has_retired(), &self.notifier);
        let heavy = core.is_heavy(&kept);
        guard.leave(heavy);
        Ok(kept)
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
    /// What `decide` refuses with; nothing has changed then.
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
            core.waiters.lost_race();
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

    /// The newest seq; 0 before the first record.
    pub fn head(&self) -> u64 {
        self.core.claim(&self.core.pin()).head
    }

    /// What can be read at this moment.
    pub fn retained(&self) -> Retained {
        let guard = self.core.pin();
        let oldest = self.core.oldest(&guard);
        let claim = self.core.claim(&guard);
        let before = match self.core.find(oldest, &guard) {
            Found::Record(record) => record.total_weight - record.weight,
            Found::Evicted | Found::NotYet => claim.total_weight,
        };
        Retained {
            oldest,
            head: claim.head,
            weight: claim.total_weight - before,
        }
    }

    /// What is retained of the records after that seq; `None` where there is nothing, or nothing yet.
    /// Costs the same however much it is.
    pub fn unread(&self, after: u64) -> Option<Unread<T, S>> {
        let guard = self.core.pin();
        loop {
            let next = after.saturating_add(1).max(self.core.oldest(&guard));
            match self.core.find(next, &guard) {
                Found::Record(first) => {
                    let claim = self.core.claim(&guard);
                    return Some(Unread {
                        head: claim.head,
                        weight: claim.total_weight - (first.total_weight - first.weight),
                        first: first.keep(),
                    });
                }
                Found::NotYet => return None,
                // Overwritten since it was the oldest: then another one is.
                Found::Evicted => {}
            }
        }
    }

    /// A reader whose first record is `after + 1`, or the oldest retained where that is gone (which
    /// is then not counted as lost: it was before its time).
    ///
    /// An `after` beyond the head makes it wait for the records that follow `after`.
    pub fn reader(self: &Arc<Self>, after: u64) -> Reader<T, S> {
        let oldest = self.core.oldest(&self.core.pin()).max(1);
        Reader::new(self.clone(), after.saturating_add(1).max(oldest))
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
