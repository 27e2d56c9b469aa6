//! What became of what was published: [`Counts`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What became of each log record and span event that a layer made.
///
/// It always closes: `offered` = `published` + `filtered` + `refused` + `lost` + `unconfirmed` + `pending`. What a filter
/// excluded before an event was made, such as a record of a category that is not captured, is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Events that the layer made.
    pub offered: u64,
    /// Events that have a seq.
    pub published: u64,
    /// Events that were not captured: no session, or its category is disabled.
    pub filtered: u64,
    /// Events that were refused as invalid or too large.
    pub refused: u64,
    /// Events that were never published: the queue was full, or the time to shut down was over. Always 0 in the process.
    pub lost: u64,
    /// Events of a request whose answer did not arrive: they may have been published, or not. They are not sent again, so that no event
    /// is published twice. Always 0 in the process.
    pub unconfirmed: u64,
    /// Events that are queued or being sent.
    pub pending: u64,
}

/// Reads a layer's counts. Cheap to clone, and valid as long as the program runs.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Counters>);

impl Handle {
    /// What became of each event until now. Never waits.
    pub fn counts(&self) -> Counts {
        self.0.read()
    }

    /// Why events could not be sent, newest first try: `None` if the last request succeeded. Always `None` in the process.
    pub fn last_error(&self) -> Option<String> {
        self.0.last_error().clone()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.counts()).finish()
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) offered: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) filtered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) unconfirmed: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        let [published, filtered, refused, lost, unconfirmed] = [
            &self.published,
            &self.filtered,
            &self.refused,
            &self.lost,
            &self.unconfirmed,
        ]
        .map(|count| count.load(Relaxed));
        let settled = published + filtered + refused + lost + unconfirmed;
        // Read last, so that nothing is settled that was not offered; on a machine that reorders the loads, `max` keeps the sum.
        let offered = self.offered.load(Relaxed).max(settled);
        Counts {
            offered,
            published,
            filtered,
            refused,
            lost,
            unconfirmed,
            pending: offered - settled,
        }
    }

    #[cfg(feature = "http")]
    pub(crate) fn set_last_error(&self, error: Option<String>) {
        *self.last_error() = error;
    }

    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
