//! How much a ring retains, where its numbers begin, and why a ring cannot be made.

use std::io;

#[cfg(doc)]
use crate::Measure;

/// How much a ring retains; the oldest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At most so many records, rounded up to a power of two. At least 1.
    pub records: usize,
    /// At most so much [weight](Measure::weight), in a unit of the user's choice. The newest record is retained
    /// whatever it weighs. Weights are added up to 2^60: what comes on top of that is not counted.
    pub weight: u64,
    /// Of so many records the [class](Measure::class) is kept, evicted or not: a byte each, in memory that is allocated as they come.
    /// Rounded up to a power of two, and to 8192 at least. While the newest 4096 of them begin anew, as many fewer are
    /// there. With 0 only counts of all records are known. See [`Ring::classes`](crate::Ring::classes).
    pub log: usize,
}

impl Bounds {
    /// At most so many records, of any weight, and no log of their classes.
    pub const fn of(records: usize) -> Self {
        Self {
            records,
            weight: u64::MAX,
            log: 0,
        }
    }
}

/// The largest number of seqs that a ring can follow on: see [`Ring::starting_after`](crate::Ring::starting_after).
///
/// A seq is below 2^61, so a ring that starts here has another 2^60 seqs before it: at a hundred million
/// appends a second, 365 years.
pub const MAX_START: u64 = 1 << 60;

/// The largest [log of classes](Bounds::log), in records: its bytes are 4 GiB.
pub const MAX_LOG: u64 = 1 << 32;

/// Why a ring cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// A ring retains at least one record.
    #[error("the capacity is 0: a ring retains at least 1 record")]
    Zero,
    /// More slots than there are addresses or memory for.
    #[error("the capacity of {0} records is more than there is memory for")]
    TooLarge(usize),
    /// The log of classes is for more than [`MAX_LOG`] records, or for more than there is memory for.
    #[error("the log of {0} records is more than {MAX_LOG}, or than there is memory for")]
    LogTooLarge(usize),
    /// The first seq would be 0 or beyond what a ring can number.
    #[error("the first seq cannot be {0}: it is from 1 to {max}", max = MAX_START + 1)]
    FirstSeq(u64),
    /// The system refuses another thread.
    #[error("the system has no thread for the ring's notifier: {0}")]
    NoThread(io::ErrorKind),
}
