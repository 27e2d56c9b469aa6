//! A record and the two ways to hold one: borrowed under a guard, or kept.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::process;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::classes::CLASSES;
use crate::foreign;
use crate::sync::{AtomicU32, fence};

/// One entry of the ring. Immutable from the moment that it has its seq.
///
/// 24 bytes on top of the state and the value. The order in memory: first what a reader on another core looks at, last
/// what its producer still writes to, on another cache line where the record is large enough to have several.
#[repr(C)]
pub struct Record<T, S> {
    pub(crate) seq: u64,
    pub(crate) sum: Sum,
    pub(crate) state: S,
    pub(crate) value: T,
    pub(crate) weight: u32,
    /// How many [`Kept`]s there are, the ring's own included ([C1]).
    pub(crate) refs: AtomicU32,
}

/// What a ring has to know of a record beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Measure {
    /// What it weighs, in the unit of [`Bounds::weight`](crate::Bounds::weight). Choose a unit in which the heaviest value
    /// fits.
    pub weight: u32,
    /// From 0 to 15, or the class modulo 16: see [`Ring::classes`](crate::Ring::classes).
    pub class: u8,
}

/// Weighs nothing, and is of the class 0.
impl From<()> for Measure {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// A weight, of the class 0.
impl From<u32> for Measure {
    fn from(weight: u32) -> Self {
        Self { weight, class: 0 }
    }
}

/// The weight of all records up to one, and the class of that one, in a word: 60 bits and 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Before the first record.
    pub(crate) const NONE: Self = Self(0);

    /// The most that it can count: an exbibyte where the unit is a byte. What comes on top of that is not counted.
    pub(crate) const MOST: u64 = u64::MAX / CLASSES as u64;

    /// That of the record that follows.
    #[inline]
    pub(crate) fn followed_by(self, measure: Measure) -> Self {
        let weight = self.weight() + u64::from(measure.weight);
        let class = u64::from(measure.class) % CLASSES as u64;
        Self(weight.min(Self::MOST) * CLASSES as u64 + class)
    }

    #[inline]
    pub(crate) fn weight(self) -> u64 {
        self.0 / CLASSES as u64
    }

    #[inline]
    pub(crate) fn class(self) -> u8 {
        (self.0 % CLASSES as u64) as u8
    }
}

impl<T, S> Record<T, S> {
    /// For so many references: the ring's, and the appending caller's if that wants one. While no other thread has it,
    /// it can be taken back by `Box::from_raw`.
    #[inline]
    pub(crate) fn shared(mut record: Box<Self>, refs: u32) -> NonNull<Self> {
        record.refs = AtomicU32::new(refs);
        NonNull::from(Box::leak(record))
    }

    /// Drops the ring's reference, and answers with the record where that was the last one.
    ///
    /// # Safety
    ///
    /// Once for each record, after it has left the ring and no guard is left that could reach it
    /// ([R1]): from here on only a [`Kept`] can make another.
    #[inline]
    pub(crate) unsafe fn let_go(record: NonNull<Self>) -> Option<Box<Self>> {
        // SAFETY: it has the ring's reference.
        let refs = unsafe { &record.as_ref().refs };
        // Acquire [C1]: all that was done with it comes before; pairs with the drops of `Kept`s.
        // With no `Kept` left, no thread can change the count: no exchange is needed.
        if refs.load(Acquire) != 1 {
            // Release [C1]: as for a `Kept`.
            if refs.fetch_sub(1, Release) != 1 {
                return None;
            }
            // Acquire [C1]: as for a `Kept`.
            fence(Acquire);
        }
        // SAFETY: it came from a box in `shared`, and this was the last reference.
        Some(unsafe { Box::from_raw(record.as_ptr()) })
    }

    /// The number it was given: 1, 2, 3 … with no hole.
    #[inline]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What it weighs, in the unit of the ring's bound.
    #[inline]
    pub fn weight(&self) -> u64 {
        u64::from(self.weight)
    }

    /// The weight of all records before this one.
    #[inline]
    pub(crate) fn weight_before(&self) -> u64 {
        self.sum.weight().saturating_sub(self.weight())
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

/// The memory of a record that is gone, with the state that it had. The next record takes over both, so
/// that neither is allocated anew, and what a state shares with the next one stays shared
/// (`Clone::clone_from`).
pub(crate) struct Spare<T, S>(NonNull<Record<T, S>>);

// SAFETY: a box with a state in it, and memory for a value.
unsafe impl<T: Send, S: Send> Send for Spare<T, S> {}

impl<T, S: Clone> Record<T, S> {
    /// A record with the value that `make` returns and a copy of that state; the other fields are not set yet.
    #[inline]
    pub(crate) fn new(
        spare: Option<Spare<T, S>>,
        make: impl FnOnce() -> T,
        state: &S,
    ) -> Box<Self> {
        let Some(spare) = spare else {
            return Box::new(Self {
                refs: AtomicU32::new(0),
                seq: 0,
                weight: 0,
                sum: Sum::NONE,
                state: state.clone(),
                value: make(),
            });
        };
        let record = spare.0.as_ptr();
        // SAFETY: [S1] the state is whole, and no other thread has the box. If this or `make` panics, the spare
        // is dropped with what `clone_from` left.
        unsafe { &mut (*record).state }.clone_from(state);
        // SAFETY: [S1] the value is gone: nothing is overwritten that would have to be dropped.
        unsafe { (&raw mut (*record).value).write(make()) };
        std::mem::forget(spare);
        // SAFETY: [S1] it came from a box, and is whole again.
        unsafe { Box::from_raw(record) }
    }
}

impl<T, S> Spare<T, S> {
    /// Drops the value.
    #[inline]
    pub(crate) fn without_value(record: Box<Record<T, S>>) -> Self {
        let record = Box::into_raw(record);
        // SAFETY: [S1] dropped once, and the spare takes it for gone, also where its `Drop` has panicked.
        unsafe { foreign::drop_in_place(&raw mut (*record).value) };
        // SAFETY: `into_raw` is never null.
        Self(unsafe { NonNull::new_unchecked(record) })
    }

    /// Moves the value out.
    #[inline]
    pub(crate) fn of(record: Box<Record<T, S>>) -> (T, Self) {
        let record = Box::into_raw(record);
        // SAFETY: [S1] read once, and the spare takes it for gone.
        let value = unsafe { (&raw const (*record).value).read() };
        // SAFETY: `into_raw` is never null.
        (value, Self(unsafe { NonNull::new_unchecked(record) }))
    }
}

impl<T, S> Drop for Spare<T, S> {
    fn drop(&mut self) {
        let record = self.0.as_ptr();
        // SAFETY: [S1] the state is whole, and the value is gone.
        unsafe { (&raw mut (*record).state).drop_in_place() };
        // SAFETY: it came from a box of that size and alignment; nothing in it is dropped again.
        drop(unsafe { Box::from_raw(record.cast::<MaybeUninit<Record<T, S>>>()) });
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
    /// `record` came from [`Record::shared`], and at least one reference to it outlives `'g`.
    #[inline]
    pub(crate) unsafe fn new(record: NonNull<Record<T, S>>) -> Self {
        Self {
            record,
            _borrow: PhantomData,
        }
    }

    pub(crate) fn address(self) -> NonNull<Record<T, S>> {
        self.record
    }

    #[inline]
    pub(crate) fn get(self) -> &'g Record<T, S> {
        // SAFETY: [R1], `new`'s promise: alive for `'g`.
        unsafe { self.record.as_ref() }
    }

    /// Keeps the record beyond the visit: one reference count.
    #[inline]
    pub fn keep(self) -> Kept<T, S> {
        /// Far from the end of the count, and more than fit into 16 GiB.
        const MOST: u32 = u32::MAX / 2;
        // Relaxed: there is a reference, so it cannot be freed meanwhile; nothing is read for it.
        if self.get().refs.fetch_add(1, Relaxed) > MOST {
            // As for an `Arc`: references that were forgotten, again and again, must not bring the count to 0.
            process::abort();
        }
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

/// A record taken out of the ring: valid for as long as it is held, evicted or not.
///
/// Like an `Arc` without weak references, made with two references at once: the ring's, and the appending
/// caller's. That saves one atomic operation for each append.
pub struct Kept<T, S>(NonNull<Record<T, S>>);

// SAFETY: as for `Arc`: references go to other threads, and the last one drops, wherever it is.
unsafe impl<T: Send + Sync, S: Send + Sync> Send for Kept<T, S> {}
// SAFETY: as above; a `&Kept` can be cloned into a `Kept`.
unsafe impl<T: Send + Sync, S: Send + Sync> Sync for Kept<T, S> {}

impl<T, S> Kept<T, S> {
    /// # Safety
    ///
    /// `record` came from [`Record::shared`], or a count was added for this.
    #[inline]
    pub(crate) unsafe fn new(record: NonNull<Record<T, S>>) -> Self {
        Self(record)
    }
}

impl<T, S> Clone for Kept<T, S> {
    fn clone(&self) -> Self {
        // SAFETY: this is a reference, and it is borrowed.
        unsafe { RecordRef::new(self.0) }.keep()
    }
}

impl<T, S> Drop for Kept<T, S> {
    #[inline]
    fn drop(&mut self) {
        // Release [C1]: what was done with the record comes before its end; pairs with the fence.
        if self.refs.fetch_sub(1, Release) == 1 {
            // SAFETY: this was the last reference.
            unsafe { self.free() };
        }
    }
}

impl<T, S> Kept<T, S> {
    /// Separate from `drop`, so that `drop` is small enough to be inlined where there is mostly nothing to
    /// drop: a refused publish whose answer is dropped takes a fifth less time.
    ///
    /// # Safety
    ///
    /// It was the last reference, and is not used any more.
    #[cold]
    #[inline(never)]
    unsafe fn free(&mut self) {
        // Acquire [C1]: and the end after all of that; pairs with every other drop.
        fence(Acquire);
        // SAFETY: it came from a box in `shared`, and the caller's promise.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
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

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_sum_counts_up_to_its_most_and_has_the_last_class() {
        let heaviest = |class| Measure {
            weight: u32::MAX,
            class,
        };
        let sum = Sum::NONE.followed_by(heaviest(15)).followed_by(heaviest(3));
        assert_eq!((sum.weight(), sum.class()), (2 * u64::from(u32::MAX), 3));
        assert_eq!(sum.followed_by(heaviest(16 + 5)).class(), 5);
        let nearly = Sum((Sum::MOST - 1) * CLASSES as u64);
        let full = nearly.followed_by(heaviest(7));
        assert_eq!((full.weight(), full.class()), (Sum::MOST, 7));
        let beyond = full.followed_by(heaviest(0));
        assert_eq!((beyond.weight(), beyond.class()), (Sum::MOST, 0));
    }

    #[test]
    fn what_a_record_needs_beside_its_value_and_state_is_24_bytes() {
        assert_eq!(size_of::<Record<u64, ()>>(), 32);
        assert_eq!(size_of::<Record<[u64; 4], u64>>(), 64);
    }
}
