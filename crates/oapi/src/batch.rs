//! The answer to a batch of events.

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;

/// The counts of an `application/x-ndjson` body.
///
/// Every line that is not blank is counted once, in `published`, `filtered` or `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResult {
    /// Events that were published.
    pub published: u64,
    /// Valid events of a category that is not captured.
    pub filtered: u64,
    /// Lines that are not a valid event, and events that are too large.
    pub refused: u64,
    /// The seq of the first published event, absent if there is none. Other clients may publish at the
    /// same time: not all seqs from first to last need be of this batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub first_seq: Option<u64>,
    /// The seq of the last published event, absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub last_seq: Option<u64>,
    /// The errors of the first 100 refused lines.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required, max_items = 100))]
    pub errors: Vec<LineError>,
}

impl BatchResult {
    /// The most lines whose errors are listed; `refused` counts all of them.
    pub const MAX_ERRORS: usize = 100;
}

/// The error of a refused line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LineError {
    /// The number of the line in the body, from 1; blank lines are counted.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub line: u64,
    /// The error, for programs.
    pub code: ErrorCode,
    /// The error, for people.
    pub message: String,
}
