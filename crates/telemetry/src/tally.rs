//! The counters behind the [`SessionLedger`](crate::SessionLedger): [`Tallies`].
//!
//! What was published is not counted here: the stream does that, in its records. Filtering must cost next
//! to nothing for any number of producers, so that a program can leave its producers in place and pay only
//! for what it captures. So each thread has a tally of its own, on cache lines of its own, and a look at the
//! ledger adds them up.

use std::array;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tapline_events::Counts;
use tapline_oapi::Category;
use tapline_ring::PerThread;

use crate::ledger::Filtered;

/// One session's counters.
#[derive(Default)]
pub(crate) struct Tallies {
    filtered: PerThread<Tally>,
    /// Published with `data` cut; rare, so all threads share it.
    pub(crate) truncated: PerCategory,
    /// Too large even so; as rare.
    pub(crate) refused: PerCategory,
}

/// What one thread filtered, by [`Reason`].
#[derive(Default)]
struct Tally([PerCategory; 2]);

/// Why an event was filtered.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    Inactive,
    CategoryDisabled,
}

impl Tallies {
    /// Counts a filtered event: an addition to memory that is this thread's alone.
    #[inline]
    pub(crate) fn filtered(&self, reason: Reason, category: Category) {
        self.filtered.mine().of(reason).bump_alone(category);
    }

    /// What all threads have filtered.
    pub(crate) fn sum(&self) -> Filtered {
        let counts = |reason| {
            let each = self.filtered.iter();
            each.map(|tally| tally.of(reason).counts()).sum()
        };
        Filtered {
            inactive: counts(Reason::Inactive),
            category_disabled: counts(Reason::CategoryDisabled),
        }
    }
}

impl Tally {
    #[inline]
    fn of(&self, reason: Reason) -> &PerCategory {
        &self.0[reason as usize]
    }
}

/// A counter for each category.
///
/// Relaxed throughout: a counter says nothing about other memory. A thread that knows that something was
/// counted has learned it in another way, and that orders the counter, too.
///
/// A power of two long, so that finding one of several takes no multiplication.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct PerCategory([AtomicU64; Category::COUNT]);

impl PerCategory {
    /// Counts one more, also where other threads do at the same time.
    pub(crate) fn bump(&self, category: Category) {
        self.0[category.index()].fetch_add(1, Relaxed);
    }

    /// Counts one more where no other thread ever does: without a locked instruction, since no other write
    /// can come between the load and the store.
    #[inline]
    fn bump_alone(&self, category: Category) {
        let count = &self.0[category.index()];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        array::from_fn(|category| self.0[category].load(Relaxed)).into()
    }
}
