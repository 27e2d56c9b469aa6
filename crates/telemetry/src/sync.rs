//! The session's atomics and its lock come from this module, so that the model checker sees them. What only
//! counts stays with the standard library: nothing is decided by it.

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU16};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU16};
