//! The names of segments.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tapline_events::Epoch;

/// `MICROSECONDS-EPOCH-SEQ`, each with a fixed number of digits, so that the names sort by time.
///
/// The time is when the segment was created, in microseconds since the Unix epoch. It is above that of every
/// segment before, also where the clock was set back, so the order of the names is the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentName {
    pub(crate) created: u64,
    pub(crate) epoch: Epoch,
    /// The first seq in it.
    pub(crate) first: u64,
}

/// The end of a segment's file name.
pub(crate) const SEGMENT: &str = ".ndjson.zst";

/// The end of the file name of its index.
pub(crate) const INDEX: &str = ".idx";

impl SegmentName {
    /// From the name of a file. `None` where it is not a segment's.
    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(SEGMENT)?;
        let mut parts = stem.split('-');
        let name = Self {
            created: digits(parts.next()?)?,
            epoch: parts.next()?.parse().ok()?,
            first: digits(parts.next()?)?,
        };
        // What it would not be called by us is not ours.
        (name.to_string() == stem).then_some(name)
    }

    pub(crate) fn file(self) -> String {
        format!("{self}{SEGMENT}")
    }

    pub(crate) fn index_file(self) -> String {
        format!("{self}{INDEX}")
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            created,
            epoch,
            first,
        } = self;
        write!(f, "{created:017}-{epoch}-{first:020}")
    }
}

fn digits(text: &str) -> Option<u64> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}

/// The wall clock, in microseconds since the Unix epoch.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX))
}
