//! The number of a target: [`Key`]. Deadlines, commands and requests are kept by it.

/// A target's number. It is never used for another target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u64);
