//! Calls of code that is not the ring's: wakers, and the `Drop` of values and states.
//!
//! A panic in it ends at that one call: the notifier thread survives it, the other readers are woken,
//! the other values are dropped, and an append that has taken effect returns.
#![allow(unsafe_code)]

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::sync::MODEL;

/// Calls it; `None` where it panicked. The panic hook has run then.
#[inline]
pub(crate) fn call<R>(work: impl FnOnce() -> R) -> Option<R> {
    if MODEL {
        // A model checker reports what it finds by a panic, which must get through.
        return Some(work());
    }
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Some(result),
        Err(payload) => {
            drop_payload(payload);
            None
        }
    }
}

/// How often what a panic carries may panic itself when it is dropped, before it is leaked.
const MAX_PANICS: usize = 8;

/// Drops what a panic carries. Its `Drop` is foreign, too, and could panic again, with something that has
/// to be dropped.
fn drop_payload(mut payload: Box<dyn Any + Send>) {
    for _ in 0..MAX_PANICS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    mem::forget(payload);
}

/// As [`drop_caught`], for a value that stays where it is.
///
/// # Safety
///
/// As for [`ptr::drop_in_place`].
#[inline]
pub(crate) unsafe fn drop_in_place<T>(value: *mut T) {
    if mem::needs_drop::<T>() {
        // SAFETY: the caller's promise.
        call(|| unsafe { ptr::drop_in_place(value) });
    }
}

/// Drops it. Where its `Drop` panics, what it had not dropped yet is leaked or dropped as in any
/// unwinding.
#[inline]
pub(crate) fn drop_caught<T>(value: T) {
    if mem::needs_drop::<T>() {
        call(|| drop(value));
    }
}
