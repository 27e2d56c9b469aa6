//! A place for one value that one thread leaves and another takes: [`HandOff`].
#![allow(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::foreign;
use crate::sync::{AtomicBool, UnsafeCell};

/// Holds one value or none. Its owner puts a value in; the owner and one other thread take it out. No operation waits:
/// one that finds the other thread in the middle of its own does nothing, and answers so.
pub(crate) struct HandOff<T> {
    /// Whether one of the two threads is at the value.
    in_use: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: values go in on one thread and come out on another, once each.
unsafe impl<T: Send> Send for HandOff<T> {}
// SAFETY: as above; the value is touched only by the thread that has set `in_use`.
unsafe impl<T: Send> Sync for HandOff<T> {}

impl<T> HandOff<T> {
    /// Replaces the value by what `replace` makes of it. `None` where the other thread is at it. `replace` calls no
    /// foreign code.
    fn update<R>(&self, replace: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        // Acquire [W5]: the value as the other thread left it; pairs with the store below.
        if self.in_use.swap(true, Acquire) {
            return None;
        }
        // SAFETY: the exchange found it free, so no other thread is at the value until the store.
        let result = self.value.with_mut(|value| replace(unsafe { &mut *value }));
        // Release [W5]: the value as it is now; pairs with the exchange above.
        self.in_use.store(false, Release);
        Some(result)
    }

    /// Puts the value in, and answers with the one that is not needed any more, if there is one: what was there, or the
    /// new one, if what is there `is_as_good`. The value comes back as an error where the other thread is taking what
    /// was there.
    pub(crate) fn put(
        &self,
        value: T,
        is_as_good: impl FnOnce(&T, &T) -> bool,
    ) -> Result<Option<T>, T> {
        let mut new = Some(value);
        let put = self.update(|there| match (&*there, &new) {
            (Some(old), Some(value)) if is_as_good(old, value) => new.take(),
            _ => std::mem::replace(there, new.take()),
        });
        match (put, new) {
            (None, Some(value)) => Err(value),
            (replaced, _) => Ok(replaced.flatten()),
        }
    }

    /// `None` also where the other thread is putting one in, or taking it.
    pub(crate) fn take(&self) -> Option<T> {
        self.update(Option::take).flatten()
    }
}

impl<T> Default for HandOff<T> {
    fn default() -> Self {
        Self {
            in_use: AtomicBool::new(false),
            value: UnsafeCell::new(None),
        }
    }
}

impl<T> Drop for HandOff<T> {
    fn drop(&mut self) {
        foreign::drop_caught(self.take());
    }
}
