//! The orderings that decide between a store and a later load of another location, or that only
//! read-modify-write operations carry.
//!
//! Loom models neither exactly: it treats a `SeqCst` access as `AcqRel`, and its read-modify-write
//! operations always find the newest value. So these orderings are constants: the code uses them, and
//! `litmus.rs` checks the same constants against the C++20 memory model, and that no weaker ordering
//! would do. `docs/ring.md` explains the names in brackets.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Release, SeqCst};

/// Every exchange that changes a slot. [P1], [E1], [W1].
pub(crate) const CHANGE_SLOT: Ordering = SeqCst;
/// Every load of a slot. [P1], [E1], [W2].
pub(crate) const LOOK_AT_SLOT: Ordering = SeqCst;

/// A thread enters: it writes where it is pinned. [E1], [E3], [E5].
pub(crate) const PIN: Ordering = SeqCst;
/// A thread that has entered looks whether its retire list is closed. [E3].
pub(crate) const LOOK_AT_CLOSED: Ordering = SeqCst;
/// The fence before a look at where all threads are pinned. [E1], [E4].
pub(crate) const SCAN_FENCE: Ordering = SeqCst;
/// The fence between closing a retire list and the look whether its owner is inside. [E3], [E5].
pub(crate) const SWEEP_FENCE: Ordering = SeqCst;
/// A thread adds its entry to a list of threads. [E4], [T2].
pub(crate) const ADD_THREAD: Ordering = SeqCst;

/// A reader announces that it is about to sleep. [W2], [W6].
pub(crate) const ARM: Ordering = SeqCst;
/// A producer looks whether there is something to ask the notifier for. [W1], [E5].
pub(crate) const LOOK_AT_FLAGS: Ordering = SeqCst;
/// The notifier clears the flags before it takes the waiter stack. [W6].
pub(crate) const CLEAR_ARMED: Ordering = Acquire;

/// A reader pushes its wait node. [K1].
pub(crate) const PUSH_NODE: Ordering = Release;
/// The notifier takes all wait nodes: also of readers that have not announced yet that they are about to sleep. [K1].
pub(crate) const TAKE_NODES: Ordering = Acquire;

/// A reader marks its wait node as queued, after it has stored its waker and before it writes the link. [W5], [K2].
pub(crate) const QUEUE: Ordering = AcqRel;
/// The notifier marks a wait node as not queued, after it has read the link and before it takes the waker. [W5], [K2].
pub(crate) const DEQUEUE: Ordering = AcqRel;
