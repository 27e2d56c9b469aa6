//! The ring's inside: where a record goes, how it gets there, and how records are found.
//!
//! `docs/ring.md` has the design, the invariants, the orderings and the rejected alternatives. It explains
//! the names in brackets below.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crossbeam_utils::CachePadded;

use crate::bounds::Bounds;
use crate::classes::{CLASSES, ClassCounts, ClassLog};
use crate::foreign;
use crate::order::{CHANGE_SLOT, LOOK_AT_SLOT};
use crate::reclaim::{Domain, Guard};
use crate::record::{Record, RecordRef, Sum};
use crate::slot::{Generation, Transition, View, Word};
use crate::sync::{AtomicPtr, AtomicU64};
use crate::wait::Waiters;

/// What a ring and its notifier share.
pub(crate) struct Core<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    slots: Box<[AtomicPtr<Record<T, S>>]>,
    /// The seq before the first one that this ring assigns.
    start: u64,
    /// A seq that is stored, and nearly always the newest ([I2]): where to look from.
    tail: CachePadded<AtomicU64>,
    weight: CachePadded<WeightBound>,
    log: ClassLog,
    pub(crate) waiters: CachePadded<Waiters>,
    pub(crate) domain: Domain<T, S>,
}

/// The bound by weight, and how far eviction has come.
struct WeightBound {
    most: u64,
    /// Up to this total weight nothing has to be evicted. Only grows: it was right when it was worked out,
    /// and stays right because the oldest only moves forward.
    free_up_to: AtomicU64,
    /// Every record below this seq is evicted. Only grows; may lag behind by as many records as there
    /// are producers in `trim` ([I6]).
    evicted_below: AtomicU64,
}

/// Where the next record goes, with the state in force. An exchange that still finds `word` in the slot
/// proves that nothing has changed since.
pub(crate) struct Claim<'g, T, S> {
    pub(crate) head: u64,
    pub(crate) word: Word<T, S>,
    /// Of the record `head`, if there is one.
    pub(crate) sum: Sum,
    pub(crate) state: &'g S,
}

impl<T, S> Claim<'_, T, S> {
    #[inline]
    pub(crate) fn seq(&self) -> u64 {
        self.head + 1
    }
}

/// What is in the slot of a seq.
pub(crate) enum Found<'g, T, S> {
    Record(RecordRef<'g, T, S>),
    Evicted,
    NotYet,
}

impl<T, S> Core<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    /// `slots` has the capacity that the bounds name, a power of two. The first record gets the seq after
    /// `start`, which is at most [`MAX_START`](crate::bounds::MAX_START).
    pub(crate) fn new(
        mut slots: Vec<AtomicPtr<Record<T, S>>>,
        log: ClassLog,
        bounds: Bounds,
        initial: S,
        start: u64,
    ) -> Self {
        let size = bounds.records;
        // The slot of seq n is n modulo the capacity. Each awaits the first seq after `start` that is its.
        let first = start + 1;
        slots.extend((0..size as u64).map(|slot| {
            let awaits = first + (slot.wrapping_sub(first) & (size as u64 - 1));
            AtomicPtr::new(Word::<T, S>::empty(awaits, Generation::of(awaits, size)).into_raw())
        }));
        // The initial state is a transition before the first record: no special case for an empty ring.
        let transition = Box::new(Transition {
            awaits: first,
            sum: Sum::NONE,
            state: initial,
            evictee: None,
        });
        slots[first as usize & (size - 1)] =
            AtomicPtr::new(Word::transition(transition, Generation::of(first, size)).into_raw());
        Self {
            slots: slots.into_boxed_slice(),
            start,
            tail: CachePadded::new(AtomicU64::new(start)),
            weight: CachePadded::new(WeightBound {
                most: bounds.weight,
                free_up_to: AtomicU64::new(bounds.weight),
                evicted_below: AtomicU64::new(start + 1),
            }),
            log,
            waiters: CachePadded::new(Waiters::default()),
            domain: Domain::default(),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            records: self.slots.len(),
            weight: self.weight.most,
            log: self.log.records(),
        }
    }

    /// The memory of the log of classes, in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// How many of these records were of each class, if all of them are in the log.
    pub(crate) fn classes(&self, first: u64, last: u64) -> Option<ClassCounts> {
        if first <= self.start {
            return None;
        }
        let tail = self.tail();
        let guard = self.pin_at(tail);
        // A loss: the records at the head are left to the producers.
        if last < tail {
            return self.log.count(first..=last, &guard);
        }
        let claim = self.claim_from(tail, &guard);
        if claim.head < last {
            return None;
        }
        // An empty range is known, too.
        if last < claim.head || last < first {
            return self.log.count(first..=last, &guard);
        }
        let mut counts = self.log.count(first..=last - 1, &guard)?;
        counts[usize::from(claim.sum.class()) % CLASSES] += 1;
        Some(counts)
    }

    /// The seq before the first one that this ring assigns.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Enters, to look at what is in the slots.
    #[inline]
    pub(crate) fn pin(&self) -> Guard<'_, T, S> {
        self.domain.pin(self.tail())
    }

    /// As [`pin`](Self::pin), for a caller that knows a seq that is stored (or 0), with few or none stored
    /// since: does not look at the tail, which every append writes to.
    #[inline]
    pub(crate) fn pin_at(&self, stored: u64) -> Guard<'_, T, S> {
        self.domain.pin(stored)
    }

    /// A seq that is stored, nearly always the newest.
    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        // Acquire [P2], [E1]: the slots up to it; pairs with its stores.
        self.tail.load(Acquire)
    }

    /// Where the next record goes, as of one moment within the call ([I3]).
    #[inline]
    pub(crate) fn claim<'g>(&self, guard: &'g Guard<'_, T, S>) -> Claim<'g, T, S> {
        self.claim_from(self.tail(), guard)
    }

    /// As [`claim`](Self::claim), looking from a seq that is stored, as new as is known: like the tail, it may be behind
    /// ([I2]).
    #[inline(always)]
    pub(crate) fn claim_from<'g>(
        &self,
        mut head: u64,
        guard: &'g Guard<'_, T, S>,
    ) -> Claim<'g, T, S> {
        loop {
            // SeqCst [E1] and Acquire [P1]: a record's or transition's content; pairs with the exchanges.
            let word = Word::from_raw(self.slot(head + 1).load(LOOK_AT_SLOT));
            if word.generation() == self.generation(head + 1) {
                // A producer has stored that record and not moved the tail yet. Or the tail is behind by
                // more than the whole ring: that is noticed below.
                head += 1;
                continue;
            }
            // SAFETY: loaded from a slot under `guard`.
            match unsafe { guard.view(word) } {
                View::Transition(transition) if transition.awaits == head + 1 => {
                    return Claim {
                        head,
                        word,
                        sum: transition.sum,
                        state: &transition.state,
                    };
                }
                View::Transition(transition) => head = transition.awaits - 1,
                View::Empty { .. } | View::Record(_) => {
                    // SeqCst [E1] and Acquire [P1], as above.
                    let newest = Word::from_raw(self.slot(head).load(LOOK_AT_SLOT));
                    // SAFETY: loaded from a slot under `guard`.
                    let newest = unsafe { guard.view(newest) };
                    match newest.record() {
                        Some(record) if record.seq() == head => {
                            return Claim {
                                head,
                                word,
                                sum: record.sum,
                                state: &record.get().state,
                            };
                        }
                        // The tail was behind by more than the whole ring. The last record that was
                        // stored here is nearer.
                        _ => head = newest.awaits(self.size()) - self.size(),
                    }
                }
            }
        }
    }

    /// The head and the word after it: changes with every append and transition.
    pub(crate) fn head_word(&self) -> (u64, usize) {
        let guard = self.pin();
        let claim = self.claim(&guard);
        (claim.head, claim.word.into_raw().addr())
    }

    /// Stores the record with so many references, the ring's own included, unless something has changed since the
    /// claim. Nothing in here panics once the record is stored.
    #[inline(always)]
    pub(crate) fn put<'g>(
        &self,
        claim: &Claim<'_, T, S>,
        record: Box<Record<T, S>>,
        refs: u32,
        guard: &'g Guard<'_, T, S>,
    ) -> Result<RecordRef<'g, T, S>, Box<Record<T, S>>> {
        let seq = claim.seq();
        self.log.note(claim.head, claim.sum.class(), guard);
        let record = Record::shared(record, refs);
        // Release [P1]: publishes the record; pairs with every load of a slot.
        // SeqCst [W1]: before the look at the flags; pairs with the look before a sleep.
        let swap = self.slot(seq).compare_exchange(
            claim.word.into_raw(),
            Word::record(record, self.generation(seq)).into_raw(),
            CHANGE_SLOT,
            Relaxed,
        );
        if swap.is_err() {
            // SAFETY: the exchange failed, so no thread has seen it.
            return Err(unsafe { Box::from_raw(record.as_ptr()) });
        }
        self.move_tail(seq);
        // SAFETY: [E1] it is evicted after the guard was made, if at all.
        let stored: RecordRef<'g, T, S> = unsafe { RecordRef::new(record) };
        // SAFETY: [R1] the exchange took the word out; `seq` is in the tail only after it.
        unsafe { self.retire_whole(claim.word, seq, guard) };
        // Relaxed: it only grows, and was true when it was stored.
        if stored.sum.weight() > self.weight.free_up_to.load(Relaxed) {
            self.trim(&stored, guard);
        }
        Ok(stored)
    }

    /// Puts another state in force from there on, unless something has changed since the claim.
    pub(crate) fn transition(
        &self,
        claim: &Claim<'_, T, S>,
        state: S,
        guard: &Guard<'_, T, S>,
    ) -> bool {
        // SAFETY: `claim.word` was loaded under this guard.
        let evictee = unsafe { guard.view(claim.word) }.record();
        let transition = Transition {
            awaits: claim.seq(),
            sum: claim.sum,
            state,
            evictee: evictee.map(RecordRef::address),
        };
        let transition = Word::transition(Box::new(transition), self.generation(claim.seq()));
        // SeqCst [W1] and Release [P1], as in `put`: producers treat both alike.
        let swap = self.slot(claim.seq()).compare_exchange(
            claim.word.into_raw(),
            transition.into_raw(),
            CHANGE_SLOT,
            Relaxed,
        );
        match swap {
            Ok(_) if claim.word.is_transition() => {
                // SAFETY: [R1] as in `put`; the record that it held is the new transition's now.
                unsafe { guard.retire(claim.word, claim.seq()) };
            }
            Ok(_) => {}
            // SAFETY: the exchange failed, so the transition was not stored.
            Err(_) => foreign::drop_caught(unsafe { transition.into_transition() }),
        }
        swap.is_ok()
    }

    /// The record with that seq, or what is in its slot instead.
    #[inline]
    pub(crate) fn find<'g>(&self, seq: u64, guard: &'g Guard<'_, T, S>) -> Found<'g, T, S> {
        // SeqCst [W2]: the look before a sleep; pairs with the exchange in `put`. [E1]: after we
        // entered. Acquire [P1]: the record's content; pairs with the exchange in `put`.
        let word = Word::from_raw(self.slot(seq).load(LOOK_AT_SLOT));
        // SAFETY: loaded from a slot under `guard`.
        let view = unsafe { guard.view(word) };
        match view.record() {
            Some(record) if record.seq() == seq => Found::Record(record),
            Some(record) if record.seq() > seq => Found::Evicted,
            Some(_) => Found::NotYet,
            None if view.awaits(self.size()) > seq => Found::Evicted,
            None => Found::NotYet,
        }
    }

    /// Fetches into the cache what is in the slot of `seq`, whatever it is.
    #[inline]
    pub(crate) fn prefetch(&self, seq: u64) {
        Word::<T, S>::from_raw(self.slot(seq).load(Relaxed)).prefetch();
    }

    /// The oldest seq that is retained now, for a reader that has found the record `evicted` evicted.
    ///
    /// Records are evicted in order, and what is before this one is evicted: for the record of the tail, which is
    /// stored, or for the weight. Where the tail is behind, this one may be evicted, too. The slots at the head are
    /// left to the producers: a reader that hardly follows comes here again and again.
    pub(crate) fn oldest_after(&self, evicted: u64, guard: &Guard<'_, T, S>) -> u64 {
        let oldest = self.oldest_for(self.tail());
        match self.find(oldest, guard) {
            Found::Record(_) if evicted < oldest => oldest,
            _ => self.oldest(guard),
        }
    }

    /// The oldest seq that is retained now; 0 before the first record.
    pub(crate) fn oldest(&self, guard: &Guard<'_, T, S>) -> u64 {
        loop {
            let head = self.claim(guard).head;
            if head == self.start {
                return 0;
            }
            let oldest = self.oldest_for(head);
            match self.find(oldest, guard) {
                // The producer that evicted it has not written that down yet, or it was overwritten since.
                Found::Evicted => self.raise_evicted(oldest + 1),
                _ => return oldest,
            }
        }
    }

    /// What both bounds leave as the oldest when `head` is the newest.
    fn oldest_for(&self, head: u64) -> u64 {
        let within_count = (head + 1).saturating_sub(self.size());
        // Relaxed [I6]: true whenever it was stored.
        let within_weight = self.weight.evicted_below.load(Relaxed);
        within_count.max(within_weight).min(head)
    }

    fn raise_evicted(&self, below: u64) {
        // Relaxed [I6], as above.
        self.weight.evicted_below.fetch_max(below, Relaxed);
    }

    /// Evicts the oldest until what is retained up to `newest` is within the bound by weight.
    ///
    /// Every producer does that for its own record, and each eviction is one exchange. A producer that
    /// stops in here leaves its excess to the next append.
    #[cold]
    fn trim(&self, newest: &Record<T, S>, guard: &Guard<'_, T, S>) {
        loop {
            let oldest = self.oldest_for(newest.seq);
            if oldest == newest.seq {
                return;
            }
            let awaits = oldest + self.size();
            // SeqCst [E1] and Acquire [P1], as in `claim`.
            let word = Word::from_raw(self.slot(oldest).load(LOOK_AT_SLOT));
            // SAFETY: loaded from a slot under `guard`.
            let view = unsafe { guard.view(word) };
            let record = match view.record() {
                Some(record) if record.seq() == oldest => record,
                // Overwritten since: that producer evicts for the weight of what is newer.
                Some(_) => return,
                None => {
                    self.raise_evicted(oldest + 1);
                    continue;
                }
            };
            let free_up_to = record.weight_before().saturating_add(self.weight.most);
            self.weight.free_up_to.fetch_max(free_up_to, Relaxed);
            if newest.sum.weight() <= free_up_to {
                return;
            }
            let without = match view {
                View::Transition(transition) => {
                    // The record is appended already: a `clone` that panics leaves its excess to the next.
                    let Some(state) = foreign::call(|| transition.state.clone()) else {
                        return;
                    };
                    let transition = Transition {
                        awaits: transition.awaits,
                        sum: transition.sum,
                        state,
                        evictee: None,
                    };
                    Word::transition(Box::new(transition), self.generation(awaits))
                }
                _ => Word::empty(awaits, self.generation(awaits)),
            };
            // Release [P1]: publishes the transition, if it is one. [I4]: the word is a new one.
            let swap = self.slot(oldest).compare_exchange(
                word.into_raw(),
                without.into_raw(),
                CHANGE_SLOT,
                Relaxed,
            );
            match swap {
                Ok(_) => {
                    // The next that is stored from here on.
                    let stamp = self.claim(guard).seq();
                    // SAFETY: [R1] the exchange took the word out, and `stamp` is stored after it.
                    unsafe { self.retire_whole(word, stamp, guard) };
                    self.raise_evicted(oldest + 1);
                }
                Err(_) if without.is_empty() => {}
                // SAFETY: the exchange failed, so the transition was not stored.
                Err(_) => foreign::drop_caught(unsafe { without.into_transition() }),
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Guard::retire`], for the word and for the record that a transition holds.
    #[inline(always)]
    unsafe fn retire_whole(&self, word: Word<T, S>, stamp: u64, guard: &Guard<'_, T, S>) {
        if word.is_transition() {
            // SAFETY: it was in a slot until now, and the guard is older than that.
            let view = unsafe { guard.view(word) };
            if let Some(record) = view.record() {
                // Its generation does not matter any more.
                let record = Word::record(record.address(), Generation::of(0, self.slots.len()));
                // SAFETY: the caller's promise.
                unsafe { guard.retire(record, stamp) };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { guard.retire(word, stamp) };
    }

    /// Whether the record is so heavy that what was evicted for it is freed at once. Some dozen lighter
    /// records that wait to be freed are a few percent of the bound.
    #[inline]
    pub(crate) fn is_heavy(&self, record: &Record<T, S>) -> bool {
        const PART: u64 = 1024;
        record.weight() > self.weight.most / PART
    }

    #[inline]
    fn move_tail(&self, seq: u64) {
        // A plain store: the tail may go back where a producer stopped right before it. It is a hint, and
        // a thread that follows it notices ([I2]).
        // Release [P2], [E1]: the slot of `seq` before the number; pairs with the loads of the tail.
        self.tail.store(seq, Release);
    }

    #[inline]
    fn size(&self) -> u64 {
        self.slots.len() as u64
    }

    #[inline]
    fn slot(&self, seq: u64) -> &AtomicPtr<Record<T, S>> {
        let slot = seq as usize & (self.slots.len() - 1);
        // SAFETY: the number of slots is a power of two and not 0: a number that is masked like that is less.
        unsafe { self.slots.get_unchecked(slot) }
    }

    #[inline]
    fn generation(&self, seq: u64) -> Generation {
        Generation::of(seq, self.slots.len())
    }
}

impl<T, S> Drop for Core<T, S>
where
    T: Send + Sync + 'static,
    S: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        for slot in &mut self.slots {
            #[cfg(not(loom))]
            let raw = *slot.get_mut();
            #[cfg(loom)]
            let raw = slot.with_mut(|raw| *raw);
            // SAFETY: no other thread has the ring, so none looks; each slot owns its word.
            unsafe { Word::from_raw(raw).free() };
        }
    }
}
