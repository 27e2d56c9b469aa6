//! A place for one value that one thread leaves and another takes: [`HandOff`].
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::foreign;
use crate::sync::{AtomicPtr, UnsafeCell};

/// Holds one value or none. Its owner puts a value in where there is none; the owner and one other
/// thread take it out. Each operation is one exchange, and no thread waits.
///
/// The value is in an [`UnsafeCell`] so that models see which thread reads it.
pub(crate) struct HandOff<T>(AtomicPtr<UnsafeCell<Option<T>>>);

// SAFETY: values go in on one thread and come out on another, once each.
unsafe impl<T: Send> Send for HandOff<T> {}
// SAFETY: as above; a value in here is borrowed by no thread.
unsafe impl<T: Send> Sync for HandOff<T> {}

impl<T> HandOff<T> {
    /// Puts the value in; its owner has taken out what was there.
    pub(crate) fn put(&self, value: T) {
        let cell = Box::into_raw(Box::new(UnsafeCell::new(Some(value))));
        // Release [W5]: the value; pairs with the exchange in `take`.
        let before = self.0.swap(cell, Release);
        debug_assert!(before.is_null(), "only the owner puts values in");
    }

    pub(crate) fn take(&self) -> Option<T> {
        // Acquire [W5]: the value; pairs with the exchange in `put`.
        let taken = self.0.swap(ptr::null_mut(), Acquire);
        // SAFETY: the exchange took it out.
        unsafe { Self::open(taken) }
    }

    /// # Safety
    ///
    /// `cell` is null or came from the box in `put`, and belongs to the caller.
    unsafe fn open(cell: *mut UnsafeCell<Option<T>>) -> Option<T> {
        if cell.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        let cell = unsafe { Box::from_raw(cell) };
        // SAFETY: the box is ours alone.
        cell.with_mut(|value| unsafe { (*value).take() })
    }
}

impl<T> Default for HandOff<T> {
    fn default() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }
}

impl<T> Drop for HandOff<T> {
    fn drop(&mut self) {
        foreign::drop_caught(self.take());
    }
}
