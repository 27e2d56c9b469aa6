//! The counters behind the [`Ledger`](crate::Ledger): [`Tallies`].
//!
//! What was published is not counted here: the stream does that, in its records. What is filtered must
//! cost next to nothing, however many producers there are, so that a program can leave its
//! producers in place and pay for what it captures. So each thread has a tally of its own, on
//! cache lines of its own, at its [seat](crate::seat): nobody else writes there, and a look at the
//! ledger adds them up.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crossbeam_utils::CachePadded;
use tapline_events::Counts;
use tapline_oapi::Category;

use crate::ledger::Filtered;
use crate::seat::{ROW, SEATS, seat, take_seat};

/// One session's counters.
pub(crate) struct Tallies {
    /// At the seats of the first row, nearly always enough: 16 KiB.
    first: Box<Row>,
    /// At all other seats, each row made when one of it is taken.
    more: [LateRow; SEATS / ROW - 1],
    /// Of the threads that have no seat.
    shared: Tally,
    /// Published with `data` cut; rare, so all threads share it.
    pub(crate) truncated: PerCategory,
    /// Too large even so; as rare.
    pub(crate) refused: PerCategory,
}

type Row = [Tally; ROW];

/// What was filtered, by [`Reason`]. The padding keeps tallies apart, and each a power of two long, so
/// that finding one takes no multiplication.
#[derive(Default)]
struct Tally([CachePadded<PerCategory>; 2]);

/// Why an event was filtered.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    Inactive,
    CategoryDisabled,
}

impl Tallies {
    pub(crate) fn new() -> Self {
        Self {
            first: new_row(),
            more: array::from_fn(|_| LateRow::default()),
            shared: Tally::default(),
            truncated: PerCategory::default(),
            refused: PerCategory::default(),
        }
    }

    /// Counts a filtered event: an addition to memory that is this thread's alone.
    #[inline]
    pub(crate) fn filtered(&self, reason: Reason, category: Category) {
        match self.first.get(seat()) {
            Some(tally) => tally.of(reason).bump_alone(category),
            None => self.filtered_elsewhere(reason, category),
        }
    }

    /// As [`filtered`](Self::filtered), for a thread beyond the first row, or that had no seat so far.
    #[cold]
    #[inline(never)]
    fn filtered_elsewhere(&self, reason: Reason, category: Category) {
        let seat = take_seat();
        let row = match seat / ROW {
            0 => Some(&*self.first),
            number => self.more.get(number - 1).and_then(LateRow::get),
        };
        match row {
            Some(row) => row[seat % ROW].of(reason).bump_alone(category),
            None => self.shared.of(reason).bump(category),
        }
    }

    /// What all threads have filtered.
    pub(crate) fn sum(&self) -> Filtered {
        let late_rows = self.more.iter().filter_map(|late| late.made.get());
        let rows = late_rows.chain([&self.first]);
        let tallies = rows.flat_map(|row| row.iter());
        let counts = |reason| {
            let each = tallies.clone().chain([&self.shared]);
            each.map(|tally| tally.of(reason).counts()).sum()
        };
        Filtered {
            inactive: counts(Reason::Inactive),
            category_disabled: counts(Reason::CategoryDisabled),
        }
    }
}

/// On the heap from the beginning: it is large for a stack.
fn new_row() -> Box<Row> {
    let row: Box<[Tally]> = (0..ROW).map(|_| Tally::default()).collect();
    row.try_into()
        .unwrap_or_else(|_| unreachable!("a row has ROW seats"))
}

impl Tally {
    #[inline]
    fn of(&self, reason: Reason) -> &PerCategory {
        &self.0[reason as usize]
    }
}

/// A row of tallies that may never be needed.
#[derive(Default)]
struct LateRow {
    begun: AtomicBool,
    made: OnceLock<Box<Row>>,
}

impl LateRow {
    /// The row; for the first who asks it is made. `None` while that is still going on: nobody waits.
    fn get(&self) -> Option<&Row> {
        // Relaxed: it only tells one from the others, and the lock carries what it has made.
        if self.made.get().is_none() && !self.begun.swap(true, Relaxed) {
            // Nobody else ever sets it, so there is nobody to wait for in here.
            let _ = self.made.set(new_row());
        }
        self.made.get().map(|row| &**row)
    }
}

/// A counter for each category.
///
/// Relaxed throughout: a counter tells about nothing but itself. Whoever knows that something
/// was counted has learned it in some other way, and that orders the counter, too.
#[derive(Default)]
pub(crate) struct PerCategory([AtomicU64; Category::COUNT]);

impl PerCategory {
    /// Counts one more, whoever else does at this moment.
    pub(crate) fn bump(&self, category: Category) {
        self.0[category.index()].fetch_add(1, Relaxed);
    }

    /// Counts one more where no other thread ever does: without a locked instruction, since nothing
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
