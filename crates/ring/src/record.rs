//! A record and the two ways to hold one: borrowed under a guard, and kept.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// One entry of the ring. Immutable from the moment that it has its seq.
pub struct Record<T, S> {
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
    // An address rather than a reference, since `keep` has to reach the count in front of it.
    record: *const Record<T, S>,
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
    /// `record` came from [`Arc::into_raw`], and at least one reference to it outlives `'g`.
    #[inline]
    pub(crate) unsafe fn new(record: *const Record<T, S>) -> Self {
        Self {
            record,
            _borrow: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn of(record: &'g Arc<Record<T, S>>) -> Self {
        // SAFETY: the address of an `Arc` that is borrowed for `'g`.
        unsafe { Self::new(Arc::as_ptr(record)) }
    }

    #[inline]
    pub(crate) fn get(self) -> &'g Record<T, S> {
        // SAFETY: [R1], `new`'s promise: alive for `'g`.
        unsafe { &*self.record }
    }

    /// Takes the record out for keeps: one reference count.
    #[inline]
    pub fn keep(self) -> Kept<T, S> {
        // SAFETY: [R1], `new`'s promise: it is an `Arc`'s address and the count is not zero.
        unsafe {
            Arc::increment_strong_count(self.record);
            Kept(Arc::from_raw(self.record))
        }
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
pub struct Kept<T, S>(pub(crate) Arc<Record<T, S>>);

impl<T, S> Clone for Kept<T, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, S> Deref for Kept<T, S> {
    type Target = Record<T, S>;

    #[inline]
    fn deref(&self) -> &Record<T, S> {
        &self.0
    }
}

impl<T: fmt::Debug, S> fmt::Debug for Kept<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
