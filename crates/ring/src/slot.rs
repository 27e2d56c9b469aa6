//! What one slot of the ring can hold, packed in a word.
//!
//! | low bits | content | the rest of the word |
//! |---|---|---|
//! | `00` | a record | `Arc<Record>`, by its address |
//! | `01` | a turn | `Box<Turn>`, by its address |
//! | `10` | nothing yet | the seq that the slot awaits |
//!
//! A word never comes back to a slot while somebody who saw it there is still pinned ([I4]): a
//! record and a turn by their addresses, which are not free for reuse before that, and an empty
//! slot by its number, which only grows. So a compare-exchange that succeeds means that nothing has
//! happened in between.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::Arc;

use crate::reclaim::Guard;
use crate::record::{Record, RecordRef};

const TAG: usize = 0b11;
const TURN: usize = 0b01;
const EMPTY: usize = 0b10;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the ring keeps a 62-bit sequence number in a pointer-sized word");

/// What a slot holds. Compared and exchanged as a whole.
pub(crate) struct Word<T, S>(*mut Record<T, S>);

/// A change of the running state between two records. It stands in the slot of the next record,
/// with the record that is to be evicted there.
pub(crate) struct Turn<T, S> {
    pub(crate) awaits: u64,
    pub(crate) state: S,
    pub(crate) evictee: Option<Arc<Record<T, S>>>,
}

/// A [`Word`] seen under a guard.
pub(crate) enum View<'g, T, S> {
    Empty { awaits: u64 },
    Record(RecordRef<'g, T, S>),
    Turn(&'g Turn<T, S>),
}

impl<T, S> Clone for Word<T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, S> Copy for Word<T, S> {}

impl<T, S> Word<T, S> {
    pub(crate) fn empty(awaits: u64) -> Self {
        Self(ptr::without_provenance_mut((awaits as usize) << 2 | EMPTY))
    }

    /// Moves the reference into the word: [`Word::free`] or [`Word::into_record`] gives it back.
    pub(crate) fn record(record: Arc<Record<T, S>>) -> Self {
        Self(Arc::into_raw(record).cast_mut())
    }

    pub(crate) fn turn(turn: Box<Turn<T, S>>) -> Self {
        Self(Box::into_raw(turn).map_addr(|a| a | TURN).cast())
    }

    pub(crate) fn from_raw(raw: *mut Record<T, S>) -> Self {
        Self(raw)
    }

    pub(crate) fn into_raw(self) -> *mut Record<T, S> {
        self.0
    }

    /// # Safety
    ///
    /// The word was loaded from a slot under `guard` (or is owned), so that by [R1] what it points
    /// to lives as long as the guard.
    #[inline]
    pub(crate) unsafe fn view<'g>(self, _guard: &'g Guard<'_>) -> View<'g, T, S> {
        match self.0.addr() & TAG {
            EMPTY => View::Empty { awaits: (self.0.addr() >> 2) as u64 },
            // SAFETY: [I4], tag 01 is a `Box<Turn>`; alive by the caller's promise.
            TURN => View::Turn(unsafe { &*self.0.map_addr(|a| a & !TAG).cast::<Turn<T, S>>() }),
            // SAFETY: [I4], tag 00 is an `Arc<Record>`; alive by the caller's promise.
            _ => View::Record(unsafe { RecordRef::new(self.0) }),
        }
    }

    /// Gives up what the word owns.
    ///
    /// # Safety
    ///
    /// Once per word, by its owner, with nobody left who could look at it.
    pub(crate) unsafe fn free(self) {
        match self.0.addr() & TAG {
            EMPTY => {}
            // SAFETY: [I4], tag 01 is a `Box<Turn>`, and ours to drop.
            TURN => drop(unsafe { Box::from_raw(self.0.map_addr(|a| a & !TAG).cast::<Turn<T, S>>()) }),
            // SAFETY: as above, tag 00 is an `Arc<Record>`.
            _ => drop(unsafe { Arc::from_raw(self.0) }),
        }
    }

    /// Takes back a record that never was in a slot.
    ///
    /// # Safety
    ///
    /// The word came from [`Word::record`] and was not stored anywhere.
    pub(crate) unsafe fn into_record(self) -> Arc<Record<T, S>> {
        debug_assert_eq!(self.0.addr() & TAG, 0);
        // SAFETY: the caller's promise.
        unsafe { Arc::from_raw(self.0) }
    }

    /// Takes back a turn that never was in a slot.
    ///
    /// # Safety
    ///
    /// The word came from [`Word::turn`] and was not stored anywhere.
    pub(crate) unsafe fn into_turn(self) -> Box<Turn<T, S>> {
        debug_assert_eq!(self.0.addr() & TAG, TURN);
        // SAFETY: the caller's promise.
        unsafe { Box::from_raw(self.0.map_addr(|a| a & !TAG).cast()) }
    }
}

impl<'g, T, S> View<'g, T, S> {
    /// The seq of the record that this slot takes next, `capacity` being the distance to the one
    /// it holds.
    #[inline]
    pub(crate) fn awaits(&self, capacity: u64) -> u64 {
        match self {
            View::Empty { awaits } => *awaits,
            View::Record(record) => record.seq() + capacity,
            View::Turn(turn) => turn.awaits,
        }
    }

    /// The record that readers find here.
    #[inline]
    pub(crate) fn record(&self) -> Option<RecordRef<'g, T, S>> {
        match self {
            View::Empty { .. } => None,
            View::Record(record) => Some(*record),
            View::Turn(turn) => turn.evictee.as_ref().map(RecordRef::of),
        }
    }
}
