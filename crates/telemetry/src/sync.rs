//! The one door through which the session's atomics and its lock come, so that the model checker sees
//! them. What only counts stays with the standard library: it decides nothing.

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU16};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU16};
