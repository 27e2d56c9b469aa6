//! A lock-free, bounded, overwriting ring: many producers, many readers, one order.
//!
//! **What it is.** An append never waits, neither for a reader nor for another producer, wherever
//! that producer has stopped. Every record gets the next number, its *seq*. A reader has a position of its
//! own; when it has lagged it learns exactly which seqs it missed. A *running state* is carried from record
//! to record and can be changed between two of them, atomically with appending.
//!
//! **What it is not.** It knows no event, no session, no serialisation and no runtime. It is not a
//! queue: reading takes nothing away, and what is not read in time is overwritten.
//!
//! **Start at** [`Ring`], then [`Reader`].
//!
//! **Layer.** 0: it depends on no other crate of the workspace, and has all of its unsafe code. The design
//! and the proofs are in `docs/ring.md`.
//!
//! ```
//! use std::sync::Arc;
//! use tapline_ring::{ReadItem, Lost, Ring};
//!
//! // The running state counts what was appended; the decision refuses empty strings.
//! let ring = Arc::new(Ring::new(4, 0_u64)?);
//! let mut reader = ring.reader(0);
//! for word in ["a", "b", "", "c", "d", "e", "f"] {
//!     let _ = ring.append(word, |word, count, _seq| {
//!         *count += 1;
//!         if word.is_empty() { Err("empty") } else { Ok(()) }
//!     });
//! }
//!
//! // Six were appended and four are retained: the reader learns of the two that are gone.
//! assert!(matches!(reader.try_next(), Some(ReadItem::Lost(Lost { first: 1, last: 2 }))));
//! let Some(ReadItem::Record(record)) = reader.try_next() else { panic!("a record follows") };
//! assert_eq!((record.seq(), *record.value(), *record.state()), (3, "c", 3));
//! # Ok::<(), tapline_ring::CapacityError>(())
//! ```

mod ring;
mod batch;
mod bounds;
mod reader;
mod record;
mod core;
mod slot;
mod classes;
mod reclaim;
mod wait;
mod notifier;
mod per_thread;
mod hand_off;
mod stack;
mod foreign;
mod order;
mod sync;

#[cfg(all(test, not(any(loom, shuttle))))]
mod abandoned;
#[cfg(all(test, not(any(loom, shuttle))))]
mod litmus;

pub use batch::Batch;
pub use bounds::{Bounds, CapacityError, MAX_LOG, MAX_START};
pub use classes::{CLASSES, ClassCounts};
pub use per_thread::PerThread;
pub use reader::{Lost, ReadItem, Reader};
pub use record::{Kept, Measure, Record, RecordRef};
pub use ring::{Rejected, Retained, Ring, Unread};
#[cfg(loom)]
pub use sync::let_time_pass;

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
