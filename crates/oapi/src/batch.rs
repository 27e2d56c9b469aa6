//! The answer to many events published at once.

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;

/// What became of the lines of an `application/x-ndjson` body.
///
/// Every line that is not blank is counted once: `published + filtered + refused`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResult {
    /// Events that were published.
    pub published: u64,
    /// Events that are good, but of a category that is not captured.
    pub filtered: u64,
    /// Lines that are no event, or one that is too large.
    pub refused: u64,
    /// The seq of the first event published, absent where none was. Others may have published in
    /// between: the batch need not have all seqs from first to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub first_seq: Option<u64>,
    /// The seq of the last event published, absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub last_seq: Option<u64>,
    /// Why lines were refused: the first 100 of them.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required, max_items = 100))]
    pub errors: Vec<LineError>,
}

impl BatchResult {
    /// The most errors that are told one by one; `refused` counts them all.
    pub const MAX_ERRORS: usize = 100;
}

/// Why a line was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LineError {
    /// Which line of the body, from 1; blank lines have a number too.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub line: u64,
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for people.
    pub message: String,
}
