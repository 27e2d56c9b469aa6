//! What one slot of the ring can hold, packed in a word.
//!
//! | bits 0 and 1 | content | bits 3 and up |
//! |---|---|---|
//! | `00` | a record | a reference to it, by its address |
//! | `01` | a transition record | `Box<Transition>`, by its address |
//! | `10` | nothing yet | the seq that the slot awaits |
//!
//! Bit 2 is the *generation bit* of the record that the slot holds or held last: 0 and 1 alternate each
//! time that the seqs go once around the ring. So the word alone says whether the slot is filled for a
//! seq. To look at the record would cost a cache miss for each append, since it is the oldest there is.
//!
//! A word does not return to a slot while a thread that saw it there is still pinned ([I4]): a record and
//! a transition because their addresses are not free for reuse before that, and an empty slot because
//! its number only grows. So a compare-exchange that succeeds means that nothing has happened in between.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use crate::foreign;
use crate::record::{Record, RecordRef, Sum};

const KIND: usize = 0b011;
const TRANSITION: usize = 0b001;
const EMPTY: usize = 0b010;
const GENERATION: usize = 0b100;
const TAG: usize = KIND | GENERATION;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the ring keeps a 61-bit seq in a pointer-sized word");

/// What a slot holds. Compared and exchanged as a whole.
pub(crate) struct Word<T, S>(*mut Record<T, S>);

/// A transition record: a change of the running state between two records. It is in the slot of the next
/// record, together with the record that is to be evicted there, unless that is evicted already.
pub(crate) struct Transition<T, S> {
    /// The seq of the next record.
    pub(crate) awaits: u64,
    /// Of the record before that, if there is one.
    pub(crate) sum: Sum,
    pub(crate) state: S,
    /// The slot's as before, and not this transition's: another transition can take it over.
    pub(crate) evictee: Option<NonNull<Record<T, S>>>,
}

/// A [`Word`] seen under a guard.
pub(crate) enum View<'g, T, S> {
    Empty { awaits: u64 },
    Record(RecordRef<'g, T, S>),
    Transition(&'g Transition<T, S>),
}

impl<T, S> Clone for Word<T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, S> Copy for Word<T, S> {}

/// How often the seqs had gone around the ring at some seq, modulo 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(bool);

impl Generation {
    /// `size` is the number of slots, a power of two.
    #[inline]
    pub(crate) fn of(seq: u64, size: usize) -> Self {
        Self(seq & size as u64 != 0)
    }

    pub(crate) fn before(self) -> Self {
        Self(!self.0)
    }

    #[inline]
    fn bit(self) -> usize {
        if self.0 { GENERATION } else { 0 }
    }
}

impl<T, S> Word<T, S> {
    // A record holds a `u64`, so three bits of its address, and of a transition's box, are zero.
    const ALIGNED: () =
        assert!(align_of::<Record<T, S>>() >= 8 && align_of::<Transition<T, S>>() >= 8);

    pub(crate) fn empty(awaits: u64, generation: Generation) -> Self {
        Self(ptr::without_provenance_mut(
            (awaits as usize) << 3 | generation.before().bit() | EMPTY,
        ))
    }

    #[inline]
    pub(crate) fn record(record: NonNull<Record<T, S>>, generation: Generation) -> Self {
        const { Self::ALIGNED };
        Self(record.as_ptr().map_addr(|a| a | generation.bit()))
    }

    /// A transition record that awaits a record of `generation`.
    pub(crate) fn transition(transition: Box<Transition<T, S>>, generation: Generation) -> Self {
        const { Self::ALIGNED };
        Self(
            Box::into_raw(transition)
                .map_addr(|a| a | generation.before().bit() | TRANSITION)
                .cast(),
        )
    }

    #[inline]
    pub(crate) fn generation(self) -> Generation {
        Generation(self.0.addr() & GENERATION != 0)
    }

    #[inline]
    fn address<U>(self) -> *mut U {
        self.0.map_addr(|a| a & !TAG).cast()
    }

    /// Fetches what it points to into the cache.
    #[inline]
    pub(crate) fn prefetch(self) {
        #[cfg(target_arch = "x86_64")]
        for line in 0..size_of::<Record<T, S>>().div_ceil(64).min(4) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            let at = self.address::<i8>().wrapping_add(line * 64);
            // SAFETY: a prefetch is a hint: it reads nothing and cannot fault, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at) };
        }
    }

    pub(crate) fn from_raw(raw: *mut Record<T, S>) -> Self {
        Self(raw)
    }

    pub(crate) fn into_raw(self) -> *mut Record<T, S> {
        self.0
    }

    /// # Safety
    ///
    /// What the word points to lives for `'g`.
    #[inline]
    pub(crate) unsafe fn view<'g>(self) -> View<'g, T, S> {
        match self.0.addr() & KIND {
            EMPTY => View::Empty {
                awaits: (self.0.addr() >> 3) as u64,
            },
            // SAFETY: [I4], kind 01 is a `Box<Transition>`; alive by the caller's promise.
            TRANSITION => View::Transition(unsafe { &*self.address::<Transition<T, S>>() }),
            // SAFETY: [I4], kind 00 is a record's address; alive by the caller's promise.
            _ => View::Record(unsafe { RecordRef::new(NonNull::new_unchecked(self.address())) }),
        }
    }

    /// Frees all that a slot holds.
    ///
    /// # Safety
    ///
    /// As for [`Word::let_go`], for the last word of a slot.
    pub(crate) unsafe fn free(self) {
        if self.is_transition() {
            // SAFETY: as for `into_transition`.
            let transition = unsafe { self.into_transition() };
            // SAFETY: [I4], it is a record's address; the caller's promise.
            let evictee = transition.evictee.map(|it| unsafe { Record::let_go(it) });
            foreign::drop_caught(evictee);
            foreign::drop_caught(transition);
        } else {
            // SAFETY: the caller's promise.
            foreign::drop_caught(unsafe { self.let_go() });
        }
    }

    #[inline]
    pub(crate) fn is_transition(self) -> bool {
        self.0.addr() & KIND == TRANSITION
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0.addr() & KIND == EMPTY
    }

    /// Gives up what the word stands for, but not the record that a transition holds: the slot's reference
    /// to a record, and answers with the record where that was the last one; or a transition record.
    ///
    /// # Safety
    ///
    /// Once per word, by its owner, with no guard left that could reach it ([R1]).
    pub(crate) unsafe fn let_go(self) -> Option<Box<Record<T, S>>> {
        match self.0.addr() & KIND {
            EMPTY => None,
            TRANSITION => {
                // SAFETY: as for `into_transition`.
                foreign::drop_caught(unsafe { self.into_transition() });
                None
            }
            // SAFETY: [I4], it is a record's address; the caller's promise.
            _ => unsafe { Record::let_go(NonNull::new_unchecked(self.address())) },
        }
    }

    /// Takes back a transition.
    ///
    /// # Safety
    ///
    /// The word came from [`Word::transition`] and is owned: it was not stored in a slot, or was taken
    /// out of it and no thread is left that could look.
    pub(crate) unsafe fn into_transition(self) -> Box<Transition<T, S>> {
        debug_assert_eq!(self.0.addr() & KIND, TRANSITION);
        // SAFETY: [I4], it is a `Box`'s address; the caller's promise.
        unsafe { Box::from_raw(self.address()) }
    }
}

impl<'g, T, S> View<'g, T, S> {
    /// The seq of the record that comes here next, in a ring of `size` slots.
    #[inline]
    pub(crate) fn awaits(&self, size: u64) -> u64 {
        match self {
            View::Empty { awaits } => *awaits,
            View::Record(record) => record.seq() + size,
            View::Transition(transition) => transition.awaits,
        }
    }

    /// The record that readers find here.
    #[inline]
    pub(crate) fn record(&self) -> Option<RecordRef<'g, T, S>> {
        match self {
            View::Empty { .. } => None,
            View::Record(record) => Some(*record),
            // SAFETY: [R1] it left its slot no earlier than this transition, which is alive for `'g`.
            View::Transition(transition) => transition
                .evictee
                .map(|evictee| unsafe { RecordRef::new(evictee) }),
        }
    }
}
