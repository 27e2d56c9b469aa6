//! The ring: append, turn, and finding what is retained.
//!
//! Design, invariants, orderings and rejected alternatives: `docs/ring.md`. The tags in brackets
//! below are explained there.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

use crossbeam_utils::{Backoff, CachePadded};

use crate::reader::Reader;
use crate::reclaim::{Domain, Guard};
use crate::record::{Kept, Record, RecordRef};
use crate::slot::{Lap, Turn, View, Word};
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize};
use crate::wait::Waiters;

/// A bounded, overwriting ring of records, in one order that all readers see.
///
/// `T` is what is appended. `S` is the *running state*: a value that every append carries one step
/// further and that every record keeps a copy of, as of its seq. Totals belong there, and whatever
/// decides what may be appended; [`Ring::turn`] changes it between two records.
///
/// Everything takes `&self`; share the ring in an [`Arc`].
pub struct Ring<T, S = ()> {
    slots: Box<[AtomicPtr<Record<T, S>>]>,
    /// The newest seq known to be in its slot. May be one behind for a moment ([I2]).
    tail: CachePadded<AtomicU64>,
    weight: CachePadded<WeightBound<T>>,
    pub(crate) waiters: CachePadded<Waiters>,
    pub(crate) domain: Domain,
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

/// What one record may weigh, as a part of the bound, before its append sees to it that what was
/// evicted is freed: some dozens that wait to be freed are then a few percent of the bound.
const HEAVY: u64 = 1024;

/// The bound by weight, and how far it is kept.
struct WeightBound<T> {
    most: u64,
    weigh: fn(&T) -> u64,
    /// Up to this total weight nothing has to be evicted for it. Only grows: true when it was worked
    /// out, and more than true since, because the oldest has moved on.
    free_up_to: AtomicU64,
    /// What is below it is evicted for its weight. Only grows; may lag behind by as many records as
    /// there are producers under way ([I6]).
    floor: AtomicU64,
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
}

/// What an append has decided about its value.
#[derive(Debug)]
pub struct Refused<T, R> {
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
    /// [`CapacityError`] for 0, and where the slots (8 bytes each) cannot be allocated.
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
    /// [`CapacityError`] for 0 records, and where the slots (8 bytes each) cannot be allocated.
    pub fn bounded(bounds: Bounds<T>, initial: S) -> Result<Self, CapacityError> {
        let capacity = bounds.records;
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        let too_large = CapacityError::TooLarge(capacity);
        let size = capacity.checked_next_power_of_two().ok_or(too_large)?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|_| too_large)?;
        // The slot of seq n is n modulo the capacity, so slot 0 is the last of the first lap.
        slots.extend((0..size as u64).map(|slot| {
            let awaits = if slot == 0 { size as u64 } else { slot };
            AtomicPtr::new(Word::<T, S>::empty(awaits, Lap::of(awaits, size)).into_raw())
        }));
        // The initial state is a turn before the first record: no special case for an empty ring.
        let first = Box::new(Turn {
            awaits: 1,
            total_weight: 0,
            state: initial,
            evictee: None,
        });
        slots[1 % size] = AtomicPtr::new(Word::turn(first, Lap::of(1, size)).into_raw());
        Ok(Self {
            slots: slots.into_boxed_slice(),
            tail: CachePadded::new(AtomicU64::new(0)),
            weight: CachePadded::new(WeightBound {
                most: bounds.weight,
                weigh: bounds.weigh,
                free_up_to: AtomicU64::new(bounds.weight),
                floor: AtomicU64::new(1),
            }),
            waiters: CachePadded::new(Waiters::default()),
            domain: Domain::default(),
        })
    }

    /// The bounds in force.
    pub fn bounds(&self) -> Bounds<T> {
        let WeightBound { most, weigh, .. } = *self.weight;
        Bounds {
            records: self.slots.len(),
            weight: most,
            weigh,
        }
    }

    /// Appends `value`, if `decide` lets it, and returns the record.
    ///
    /// `decide` gets the value, to stamp it, the running state that the record would follow, and
    /// the seq it would get; it answers with the running state after it, or refuses. What it was
    /// told is still so when the record takes its place, or it is asked again: it runs once for
    /// each attempt, and only the last answer counts.
    ///
    /// # Ordering
    ///
    /// Lock-free: a producer that stops anywhere in here, also inside `decide`, holds up nobody.
    /// The append is in effect when its record stands in its slot, before this returns. What the
    /// caller wrote before is visible to whoever sees the record.
    ///
    /// # Errors
    ///
    /// [`Refused`] gives the value back with the reason of `decide`; nothing was appended.
    ///
    /// # Panics
    ///
    /// Where `decide` does; nothing was appended then, and the ring is whole.
    pub fn append<R>(
        &self,
        mut value: T,
        mut decide: impl FnMut(&mut T, &S, u64) -> Result<S, R>,
    ) -> Result<Kept<T, S>, Refused<T, R>> {
        let guard = self.domain.pin();
        let mut place = self.place(&guard);
        let mut record = match decide(&mut value, place.state, place.seq()) {
            Ok(state) => {
                let weight = (self.weight.weigh)(&value);
                Box::new(Record {
                    refs: AtomicUsize::new(0),
                    seq: place.seq(),
                    weight,
                    total_weight: place.total_weight + weight,
                    state,
                    value,
                })
            }
            Err(reason) => return Err(Refused { value, reason }),
        };
        let backoff = Backoff::new();
        loop {
            record = match self.put(&place, record, &guard) {
                Ok(kept) => return Ok(kept),
                Err(record) => record,
            };
            backoff.spin();
            place = self.place(&guard);
            match decide(&mut record.value, place.state, place.seq()) {
                Ok(state) => {
                    record.state = state;
                    record.seq = place.seq();
                    record.weight = (self.weight.weigh)(&record.value);
                    record.total_weight = place.total_weight + record.weight;
                }
                Err(reason) => {
                    return Err(Refused {
                        value: record.value,
                        reason,
                    });
                }
            }
        }
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
    pub fn turn<R>(&self, mut decide: impl FnMut(&S, u64) -> Result<S, R>) -> Result<u64, R> {
        let guard = self.domain.pin();
        loop {
            let place = self.place(&guard);
            let state = decide(place.state, place.head)?;
            // SAFETY: `place.word` was loaded under this guard.
            let evictee = unsafe { place.word.view(&guard) }
                .record()
                .map(RecordRef::keep);
            let turn = Turn {
                awaits: place.seq(),
                total_weight: place.total_weight,
                state,
                evictee,
            };
            let turn = Word::turn(Box::new(turn), self.lap(place.seq()));
            // SeqCst [W1] and Release [P1], as in `put`: to producers a turn is what a record is.
            let swap = self.slot(place.seq()).compare_exchange(
                place.word.into_raw(),
                turn.into_raw(),
                SeqCst,
                Relaxed,
            );
            match swap {
                Ok(_) => {
                    self.retire(place.word, &guard);
                    self.waiters.wake_all(&guard);
                    return Ok(place.head);
                }
                // SAFETY: the exchange failed, so the turn was not stored.
                Err(_) => drop(unsafe { turn.into_turn() }),
            }
        }
    }

    /// Looks at the running state and the head that it belongs to, as of one moment. Lock-free.
    pub fn state<R>(&self, look: impl FnOnce(&S, u64) -> R) -> R {
        let guard = self.domain.pin();
        let place = self.place(&guard);
        look(place.state, place.head)
    }

    /// The record with that seq, if it is retained.
    pub fn get(&self, seq: u64) -> Option<Kept<T, S>> {
        match self.find(seq, &self.domain.pin()) {
            Found::Record(record) => Some(record.keep()),
            Found::Evicted | Found::NotYet => None,
        }
    }

    /// The newest seq; 0 before the first record.
    pub fn head(&self) -> u64 {
        self.place(&self.domain.pin()).head
    }

    /// What can be read at this moment.
    pub fn retained(&self) -> Retained {
        let guard = self.domain.pin();
        let oldest = self.oldest(&guard);
        let place = self.place(&guard);
        let before = match self.find(oldest, &guard) {
            Found::Record(record) => record.total_weight - record.weight,
            Found::Evicted | Found::NotYet => place.total_weight,
        };
        Retained {
            oldest,
            head: place.head,
            weight: place.total_weight - before,
        }
    }

    /// A reader whose first record is `after + 1`, or the oldest retained where that is gone (which
    /// is then not counted as lost: it was before its time).
    ///
    /// An `after` beyond the head makes it wait for the records that follow `after`.
    pub fn reader(self: &Arc<Self>, after: u64) -> Reader<T, S> {
        let oldest = self.oldest(&self.domain.pin()).max(1);
        Reader::new(self.clone(), after.saturating_add(1).max(oldest))
    }

    /// The record with that seq, or what stands in its slot instead.
    #[inline]
    pub(crate) fn find<'g>(&self, seq: u64, guard: &'g Guard<'_>) -> Found<'g, T, S> {
        // SeqCst [W2]: the check before a sleep; pairs with the exchange in `put`.
        // Acquire [P1]: the record's content; pairs with the exchange in `put`.
        let word = Word::from_raw(self.slot(seq).load(SeqCst));
        // SAFETY: loaded from a slot under `guard`.
        let view = unsafe { word.view(guard) };
        match (view.record(), view.awaits()) {
            (Some(record), _) if record.seq() == seq => Found::Record(record),
            (Some(record), _) if record.seq() > seq => Found::Evicted,
            (None, Some(awaits)) if awaits > seq => Found::Evicted,
            _ => Found::NotYet,
        }
    }

    /// The oldest seq that is retained now; 0 before the first record.
    pub(crate) fn oldest(&self, guard: &Guard<'_>) -> u64 {
        loop {
            let oldest = self.oldest_for(self.place(guard).head);
            match self.find(oldest, guard) {
                // Whoever evicted it has not raised the floor yet, or it has been lapped since.
                Found::Evicted if oldest > 0 => self.raise_floor(oldest + 1),
                _ => return oldest,
            }
        }
    }

    /// What both bounds leave as the oldest when `head` is the newest; 0 before the first record.
    fn oldest_for(&self, head: u64) -> u64 {
        let within_count = (head + 1).saturating_sub(self.slots.len() as u64);
        // Relaxed [I6]: true whenever it was stored.
        let within_weight = self.weight.floor.load(Relaxed);
        within_count.max(within_weight).min(head)
    }

    fn raise_floor(&self, floor: u64) {
        // Relaxed [I6], as above.
        self.weight.floor.fetch_max(floor, Relaxed);
    }

    #[inline]
    fn slot(&self, seq: u64) -> &AtomicPtr<Record<T, S>> {
        // The length is a power of two and not 0, so this masks and stays within bounds.
        &self.slots[seq as usize & (self.slots.len() - 1)]
    }

    /// Where the next record goes, as of one moment within the call ([I3]).
    #[inline]
    fn place<'g>(&self, guard: &'g Guard<'_>) -> Place<'g, T, S> {
        loop {
            // Acquire [P2]: whoever sees the tail sees the slots up to it; pairs with the advances.
            let head = self.tail.load(Acquire);
            // Acquire [P1]: a record's or turn's content; pairs with the exchange in `put`, `turn`.
            let word = Word::from_raw(self.slot(head + 1).load(Acquire));
            // Relaxed [P3]: if the word is of a later lap, acquiring it made that lap's tail visible.
            if self.tail.load(Relaxed) != head {
                continue;
            }
            if word.lap() == self.lap(head + 1) {
                // Somebody stored that record and has not advanced the tail yet: do it for them.
                self.advance(head);
                continue;
            }
            // SAFETY: loaded from a slot under `guard`.
            if let View::Turn(turn) = unsafe { word.view(guard) } {
                return Place {
                    head,
                    word,
                    total_weight: turn.total_weight,
                    state: &turn.state,
                };
            }
            // Acquire [P1], as above.
            let newest = Word::from_raw(self.slot(head).load(Acquire));
            // SAFETY: loaded from a slot under `guard`.
            match unsafe { newest.view(guard) }.record() {
                Some(record) if record.seq() == head => {
                    return Place {
                        head,
                        word,
                        total_weight: record.total_weight,
                        state: &record.get().state,
                    };
                }
                // Overwritten since: the tail has moved on by a whole lap.
                _ => {}
            }
        }
    }

    /// Puts the record in its place, unless that has changed since.
    #[inline]
    fn put(
        &self,
        place: &Place<'_, T, S>,
        record: Box<Record<T, S>>,
        guard: &Guard<'_>,
    ) -> Result<Kept<T, S>, Box<Record<T, S>>> {
        let (rings, kept) = Kept::pair(record);
        let word = Word::record(rings, self.lap(place.seq()));
        // Release [P1]: publishes the record; pairs with every load of a slot.
        // SeqCst [W1]: before the look at the sleepers; pairs with the check before a sleep.
        let swap = self.slot(place.seq()).compare_exchange(
            place.word.into_raw(),
            word.into_raw(),
            SeqCst,
            Relaxed,
        );
        if swap.is_err() {
            // SAFETY: the exchange failed, so the word was not stored, and nobody has seen it.
            return Err(unsafe { Kept::unpair(word.into_record(), kept) });
        }
        self.advance(place.head);
        self.retire(place.word, guard);
        // Relaxed: it only grows, and was true when it was stored.
        if kept.total_weight > self.weight.free_up_to.load(Relaxed) {
            self.trim(&kept, guard);
        }
        self.waiters.wake_all(guard);
        if kept.weight > self.weight.most / HEAVY {
            guard.flush();
        }
        Ok(kept)
    }

    /// Evicts the oldest until what is retained up to `newest` is within the bound by weight.
    ///
    /// Every producer does that for its own record, and each eviction is one exchange, so one that
    /// stops in here leaves its excess to the next.
    #[cold]
    fn trim(&self, newest: &Record<T, S>, guard: &Guard<'_>) {
        loop {
            let oldest = self.oldest_for(newest.seq);
            if oldest == newest.seq {
                return;
            }
            let awaits = oldest + self.slots.len() as u64;
            // Acquire [P1], as in `place`.
            let word = Word::from_raw(self.slot(oldest).load(Acquire));
            // SAFETY: loaded from a slot under `guard`.
            let view = unsafe { word.view(guard) };
            let record = match view.record() {
                Some(record) if record.seq() == oldest => record,
                // Lapped since: whoever did that looks to the weight of what is newer.
                Some(_) => return,
                None => {
                    self.raise_floor(oldest + 1);
                    continue;
                }
            };
            let before = record.total_weight - record.weight;
            let free_up_to = before.saturating_add(self.weight.most);
            self.weight.free_up_to.fetch_max(free_up_to, Relaxed);
            if newest.total_weight <= free_up_to {
                return;
            }
            let without = match view {
                View::Turn(turn) => {
                    let turn = Turn {
                        awaits: turn.awaits,
                        total_weight: turn.total_weight,
                        state: turn.state.clone(),
                        evictee: None,
                    };
                    Word::turn(Box::new(turn), self.lap(awaits))
                }
                _ => Word::empty(awaits, self.lap(awaits)),
            };
            // Release [P1]: publishes the turn, if it is one. [I4]: the word is a new one.
            let swap = self.slot(oldest).compare_exchange(
                word.into_raw(),
                without.into_raw(),
                AcqRel,
                Relaxed,
            );
            match swap {
                Ok(_) => {
                    self.retire(word, guard);
                    self.raise_floor(oldest + 1);
                }
                // SAFETY: the exchange failed, so the word was not stored.
                Err(_) => unsafe { without.free() },
            }
        }
    }

    /// Moves the tail from `head` to `head + 1`, which stands in its slot ([I2]).
    #[inline]
    fn advance(&self, head: u64) {
        // Release [P2]: the slot of `head + 1` before the number; pairs with the load in `place`.
        // A failure means that somebody else has done it.
        let _ = self.tail.compare_exchange(head, head + 1, AcqRel, Relaxed);
    }

    #[inline]
    fn lap(&self, seq: u64) -> Lap {
        Lap::of(seq, self.slots.len())
    }

    fn retire(&self, word: Word<T, S>, guard: &Guard<'_>) {
        /// A word on its way to be freed, on whichever thread that happens.
        struct Free<T, S>(Word<T, S>);
        // SAFETY: the word is the ring's one reference, and `T` and `S` are `Send + Sync`.
        unsafe impl<T: Send + Sync, S: Send + Sync> Send for Free<T, S> {}

        word.prefetch();
        let free = Free(word);
        // SAFETY: [R1] an exchange took the word out of its slot, so no new guard finds it, and it
        // is retired by the one who took it. `T` and `S` are `Send + Sync + 'static`.
        unsafe {
            guard.retire(move || {
                let free = free;
                // SAFETY: nobody who saw it is left.
                free.0.free();
            });
        }
    }
}

/// The answer of [`Ring::find`].
pub(crate) enum Found<'g, T, S> {
    Record(RecordRef<'g, T, S>),
    Evicted,
    NotYet,
}

/// The place of the next record: it still is, if its slot still holds `word`.
struct Place<'g, T, S> {
    head: u64,
    word: Word<T, S>,
    total_weight: u64,
    state: &'g S,
}

impl<T, S> Place<'_, T, S> {
    fn seq(&self) -> u64 {
        self.head + 1
    }
}

impl<T, S> Drop for Ring<T, S> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            #[cfg(not(loom))]
            let raw = *slot.get_mut();
            #[cfg(loom)]
            let raw = slot.with_mut(|raw| *raw);
            // SAFETY: nobody else has the ring, so nobody looks; each slot owns its word.
            unsafe { Word::from_raw(raw).free() };
        }
    }
}

impl<T, S> fmt::Debug for Ring<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.slots.len())
            .finish_non_exhaustive()
    }
}
