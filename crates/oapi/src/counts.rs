//! How many events there are, over time: `GET /telemetry/counts`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::category::Category;

/// The events of a range, counted. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventCounts {
    /// Where the range begins: as asked for, or the time of its oldest event.
    pub since: u64,
    /// Where the range ends: as asked for, or the time of its newest event.
    pub until: u64,
    /// How long a bucket is.
    pub bucket_us: u64,
    /// The events that match, the oldest bucket first. None where the range has no event.
    pub buckets: Vec<CountBucket>,
    /// How many events the range has, whatever the filter.
    pub events: u64,
    /// How many of them match the filter: their category, their type and their text.
    pub matching: u64,
    /// All events of the range by category, whatever the filter.
    pub by_category: BTreeMap<Category, u64>,
    /// All events of the range by type, whatever the filter.
    pub by_type: BTreeMap<String, u64>,
    /// How many events have a type that is not in `by_type`, because there are more types than it can have or the name
    /// is too long.
    pub other_types: u64,
    /// How many events at most should be in the range and are gone.
    pub lost: u64,
    /// Where they are missing: the first 1,000 places, oldest first.
    pub gaps: Vec<CountGap>,
    /// Whether the whole range was counted. If not, its end is missing from all of these numbers: ask for a shorter range.
    pub complete: bool,
}

/// The events of a part of the time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CountBucket {
    /// Where it begins.
    pub ts: u64,
    /// How many events match, by category; a category without any is left out.
    pub by_category: BTreeMap<Category, u64>,
    /// How many events at most are missing here.
    #[serde(default)]
    pub lost: u64,
}

/// A place where events are missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CountGap {
    /// The first seq that is missing.
    pub from: u64,
    /// The last seq that is missing.
    pub to: u64,
    /// How many events at most are missing.
    pub lost: u64,
    /// The time of the last event before it. Absent at the beginning of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub since: Option<u64>,
    /// The time of the first event after it. Absent at the end of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub until: Option<u64>,
}
