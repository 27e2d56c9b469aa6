//! [`ArchiveOptions`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, Faults};
use crate::error::ArchiveError;

/// Where an archive is written to, and how much of it is retained.
#[derive(Clone)]
pub struct ArchiveOptions {
    /// The directory. It is made where it is missing, and one process at a time writes to it.
    pub dir: PathBuf,
    /// The segments have at most so many bytes together, and the oldest is deleted first. At least 1 MiB; 1 GiB
    /// by default. It can be exceeded by one block.
    pub max_bytes: u64,
    /// A segment whose newest block is older than this is deleted. By default, age does not matter.
    ///
    /// What counts is when it was written, not the `ts` of its events. A clock that is set forward while the
    /// archive is open deletes nothing.
    pub max_age: Option<Duration>,
    /// A segment is complete at this size, in bytes: 64 MiB by default, and at most an eighth of `max_bytes`.
    pub segment_bytes: u64,
    /// For tests: makes operations on files fail.
    #[doc(hidden)]
    pub faults: Option<Arc<dyn Faults>>,
}

impl ArchiveOptions {
    /// With the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 1024 * 1024 * 1024,
            max_age: None,
            segment_bytes: 64 * 1024 * 1024,
            faults: None,
        }
    }

    /// At least so many bytes can be retained.
    pub const LEAST_BYTES: u64 = 1024 * 1024;

    /// With every value in its range.
    pub(crate) fn checked(mut self) -> Result<Self, ArchiveError> {
        if self.max_bytes < Self::LEAST_BYTES {
            return Err(ArchiveError::TooSmall {
                field: "max_bytes",
                value: self.max_bytes,
                least: Self::LEAST_BYTES,
            });
        }
        self.segment_bytes = self.segment_bytes.clamp(1, self.max_bytes / 8);
        Ok(self)
    }

    pub(crate) fn disk(&self) -> Disk {
        Disk::new(self.dir.clone(), self.faults.clone())
    }

    /// A segment is complete at this age, so that age alone can delete it in time.
    pub(crate) fn segment_age(&self) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        self.max_age.map_or(DAY, |max| DAY.min(max / 8))
    }
}

impl fmt::Debug for ArchiveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveOptions")
            .field("dir", &self.dir)
            .field("max_bytes", &self.max_bytes)
            .field("max_age", &self.max_age)
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}
