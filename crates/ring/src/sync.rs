//! The one door through which atomics come, so that loom sees all of them.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};

/// Stands between a `SeqCst` write and the `SeqCst` read that must not run before it.
///
/// The four accesses around the two calls (see [W1] and [W2] in `docs/ring.md`) are all `SeqCst`,
/// which is enough by the language's memory model: this costs nothing. Loom treats `SeqCst`
/// accesses as `AcqRel` and would report a lost wake-up that cannot happen, so its models get the
/// fence that says the same to it.
#[inline(always)]
pub(crate) fn store_load_barrier() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}
