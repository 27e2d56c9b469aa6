//! A record and the two ways to hold one: borrowed under a guard, and kept.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{AtomicUsize, fence};

/// One entry of the ring. Immutable from the moment that it has its seq.
pub struct Record<T, S> {
    /// How many [`Kept`]s there are, the ring's own included ([C1]).
    pub(crate) refs: AtomicUsize,
    pub(crate) seq: u64,
    pub(crate) weight: u64,
    /// The weight of all records up to this one.
    pub(crate) total_weight: u64,
    pub(crate) state: S,
    pub(crate) value: T,
}

impl<T, S> Record<T, S> {
    /// The number it was given: 1, 2, 3 … with no hole.
    #[inline]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What it weighs, in the unit of the ring's bound.
    #[inline]
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The running state as it was right after this record.
    #[inline]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// What was appended.
    #[inline]
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug, S> fmt::Debug for Record<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("seq", &self.seq)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

/// A record borrowed from the ring for the length of one visit: costs no reference count.
pub struct RecordRef<'g, T, S> {
    // An address rather than a reference, since a record that is kept may outlive `'g`.
    record: NonNull<Record<T, S>>,
    _borrow: PhantomData<&'g Record<T, S>>,
}

impl<T, S> Clone for RecordRef<'_, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, S> Copy for RecordRef<'_, T, S> {}

impl<'g, T, S> RecordRef<'g, T, S> {
    /// # Safety
    ///
    /// `record` came from [`Kept::into_raw`], and at least one reference to it outlives `'g`.
    #[inline]
    pub(crate) unsafe fn new(record: NonNull<Record<T, S>>) -> Self {
        Self {
            record,
            _borrow: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn get(self) -> &'g Record<T, S> {
        // SAFETY: [R1], `new`'s promise: alive for `'g`.
        unsafe { self.record.as_ref() }
    }

    /// Takes the record out for keeps: one reference count.
    #[inline]
    pub fn keep(self) -> Kept<T, S> {
        // Relaxed: there is a reference, so it cannot be freed meanwhile; nothing is read for it.
        // The count cannot overflow: each reference takes 8 bytes of an address space of 2^64.
        self.get().refs.fetch_add(1, Relaxed);
        Kept(self.record)
    }
}

impl<T, S> Deref for RecordRef<'_, T, S> {
    type Target = Record<T, S>;

    #[inline]
    fn deref(&self) -> &Record<T, S> {
        self.get()
    }
}

/// A record taken out of the ring: stays whole for as long as it is held, evicted or not.
///
/// As an `Arc`, without weak references, and made with two references at once: the ring's, and that
/// of whoever appends. One atomic operation less for each append.
pub struct Kept<T, S>(NonNull<Record<T, S>>);

// SAFETY: as for `Arc`: references go to other threads, and the last one drops, wherever it is.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for Kept<T, S> {}
// SAFETY: as above; a `&Kept` can be cloned into a `Kept`.
unsafe impl<T: Send + Sync, S: Send + Sync> Sync for Kept<T, S> {}

impl<T, S> Kept<T, S> {
    /// Two references to one record.
    #[inline]
    pub(crate) fn pair(mut record: Box<Record<T, S>>) -> (Self, Self) {
        record.refs = AtomicUsize::new(2);
        let record = NonNull::from(Box::leak(record));
        (Self(record), Self(record))
    }

    /// Takes back what [`Kept::pair`] was made of.
    ///
    /// # Safety
    ///
    /// They are a pair, and nobody else has seen the record.
    pub(crate) unsafe fn unpair(one: Self, other: Self) -> Box<Record<T, S>> {
        let record = one.into_raw();
        debug_assert_eq!(record, other.into_raw());
        // SAFETY: it came from a box, and these were its only two references.
        unsafe { Box::from_raw(record.as_ptr()) }
    }

    /// The reference as an address: [`Kept::from_raw`] gives it back.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<Record<T, S>> {
        let record = self.0;
        std::mem::forget(self);
        record
    }

    /// # Safety
    ///
    /// `record` came from [`Kept::into_raw`], once for each call.
    #[inline]
    pub(crate) unsafe fn from_raw(record: NonNull<Record<T, S>>) -> Self {
        Self(record)
    }

    #[inline]
    pub(crate) fn as_ref(&self) -> RecordRef<'_, T, S> {
        // SAFETY: this is a reference, and it is borrowed.
        unsafe { RecordRef::new(self.0) }
    }
}

impl<T, S> Clone for Kept<T, S> {
    fn clone(&self) -> Self {
        self.as_ref().keep()
    }
}

impl<T, S> Drop for Kept<T, S> {
    #[inline]
    fn drop(&mut self) {
        // Release [C1]: what was done with the record comes before its end; pairs with the fence.
        if self.refs.fetch_sub(1, Release) == 1 {
            // Acquire [C1]: and the end after all of that; pairs with every other drop.
            fence(Acquire);
            // SAFETY: it came from a box in `pair`, and this was the last reference.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T, S> Deref for Kept<T, S> {
    type Target = Record<T, S>;

    #[inline]
    fn deref(&self) -> &Record<T, S> {
        // SAFETY: this is a reference.
        unsafe { self.0.as_ref() }
    }
}

impl<T: fmt::Debug, S> fmt::Debug for Kept<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
