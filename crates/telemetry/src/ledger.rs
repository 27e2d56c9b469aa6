//! What became of everything that was offered: [`SessionLedger`].

use tapline_events::Counts;

/// What became of everything that producers offered to a session's stream, by category.
///
/// `offered = published + filtered + refused`, and every publish is in exactly one of the three. What
/// becomes of published events on the way to a reader is in that
/// [reader's ledger](tapline_events::ReaderLedger).
///
/// # While producers publish
///
/// Each number is exact, and none shrinks from one look to the next. A publish that has returned is in the
/// ledger that any thread sees that knows of it; one that has not begun is not. One in between may be in it
/// or not yet. So with `n` producers publishing, a sum over the ledger is short by `n` at most, and it closes
/// when they are idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SessionLedger {
    /// Got a seq. Counted by the stream itself, as of one moment and since the stream began.
    pub published: Counts,
    /// Not captured.
    pub filtered: Filtered,
    /// Of those published: `data` was cut, because the envelope would have been over the size limit.
    /// Does not count events that their producer marked as truncated.
    pub truncated: Counts,
    /// Too large even without `data`.
    pub refused: Counts,
}

/// What was not captured, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Filtered {
    /// No session was running.
    pub inactive: Counts,
    /// The session did not capture the category.
    pub category_disabled: Counts,
}

impl SessionLedger {
    /// Everything that was offered, published or not.
    pub fn offered(&self) -> Counts {
        self.published + self.filtered.total() + self.refused
    }
}

impl Filtered {
    /// For any reason.
    pub fn total(&self) -> Counts {
        self.inactive + self.category_disabled
    }
}
