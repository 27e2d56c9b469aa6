//! What became of everything that was offered: [`SessionLedger`].

use tapline_events::Counts;

/// What became of everything that producers offered to a session's stream, by category.
///
/// `offered = published + filtered + refused`, and every publish is in exactly one of the three. What
/// becomes of the published on the way to a reader is in that
/// [reader's ledger](tapline_events::ReaderLedger).
///
/// # While producers are under way
///
/// Each number is exact, and none ever shrinks from one look to the next. A publish that has
/// returned is in the ledger of whoever knows that it has, and one that has not begun is not. One
/// that is under way may be in it or not yet. So with `n` producers under way, a sum over the ledger is short by `n` at
/// the most, and at rest it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SessionLedger {
    /// Got a seq. Counted by the stream itself, as of one moment and since the stream began.
    pub published: Counts,
    /// Nobody asked for.
    pub filtered: Filtered,
    /// Of those published: `data` was cut, because the envelope would have been over the size limit.
    /// Not what its producer had marked as truncated.
    pub truncated: Counts,
    /// Too large even without `data`.
    pub refused: Counts,
}

/// What nobody asked for, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Filtered {
    /// No session was running.
    pub inactive: Counts,
    /// The session did not capture the category.
    pub category_disabled: Counts,
}

impl SessionLedger {
    /// Everything that was published or offered in vain.
    pub fn offered(&self) -> Counts {
        self.published + self.filtered.total() + self.refused
    }
}

impl Filtered {
    /// For whatever reason.
    pub fn total(&self) -> Counts {
        self.inactive + self.category_disabled
    }
}
