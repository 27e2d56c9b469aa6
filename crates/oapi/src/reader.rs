//! The open readers and their filters: `GET /telemetry/readers` and `PATCH /telemetry/readers/{id}`.

use serde::{Deserialize, Serialize};

use crate::category::CategorySet;
use crate::cursor::Epoch;
use crate::json;

/// All open readers: live streams, and calls that wait for an event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReaderList {
    /// The newest seq published, 0 before the first event.
    pub head: u64,
    /// The readers, the oldest first.
    pub readers: Vec<ReaderInfo>,
}

/// A reader: its filter, its position, and its account of the events up to there.
///
/// `delivered + filtered + lost` is the distance from where it began to its position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReaderInfo {
    /// The reader's id. It is never used for another reader.
    #[cfg_attr(feature = "openapi", schema(example = "r17"))]
    pub id: String,
    /// How the reader reads.
    pub kind: ReaderKind,
    /// The client's address.
    #[cfg_attr(feature = "openapi", schema(example = "127.0.0.1:51724"))]
    pub peer: String,
    /// When it was opened, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub opened_at: jiff::Timestamp,
    /// The categories that it asks for. If absent, all. If empty, none: its filter and its ticket have no
    /// category in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// The types that it asks for; `*` matches any characters. If absent, all. Types that its ticket does
    /// not allow are listed too, although no event of them is delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#type: Vec<String>,
    /// Whether the stream sends notices.
    pub notices: bool,
    /// What the stream does when the reader lagged.
    pub overtaken: OnLag,
    /// The reader's position: every event up to this seq was delivered, filtered or lost.
    pub position: u64,
    /// The epoch of its position, where it reads an earlier run of the server in the archive. Absent for the
    /// present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<String>))]
    pub epoch: Option<Epoch>,
    /// How many events it is behind: `head - position`; of an earlier epoch, all events of the present one.
    /// Evicted events, and events that it does not ask for, are included.
    pub behind_events: u64,
    /// How many bytes of those events are still retained.
    pub behind_bytes: u64,
    /// The age in seconds of the first of those events that is still retained, by its `ts`; 0 if there is
    /// none.
    pub behind_seconds: f64,
    /// Events that were delivered.
    pub delivered: u64,
    /// Events that it did not ask for.
    pub filtered: u64,
    /// Events that it asked for and that were evicted or skipped before it received them, those included that
    /// were gone when it resumed. With a filter by type, an upper bound.
    pub lost: u64,
}

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReaderKind {
    /// Follows the events live.
    Stream,
    /// Waits for one event.
    Wait,
}

/// What a stream does when its reader lagged: events that it asked for were evicted before they
/// were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
// The wire keeps its first name.
#[cfg_attr(feature = "openapi", schema(as = WhenOvertaken))]
#[serde(rename_all = "snake_case")]
pub enum OnLag {
    /// It continues at the oldest event retained in memory.
    #[default]
    Oldest,
    /// It continues from the archive, and loses only what is not there either. The default of a server with an
    /// archive; without one it is the same as `oldest`.
    Archive,
    /// It continues after the newest event, and also skips the events that are still retained.
    Head,
    /// It ends.
    Close,
}

/// The body of `PATCH /telemetry/readers/{id}`. Strict: an unknown field is an error.
///
/// A field that is present replaces that half of the filter; an empty list is no filter. A field that is
/// absent or null changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "The new filter of the reader. A field that is present replaces that half of the filter, and an \
                   empty list is no filter; a field that is absent or null changes nothing."
    )
)]
pub struct ReaderPatch {
    /// Only events of these categories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// Only events of these types; `*` matches any characters. At most 100, none of them empty.
    #[serde(
        default,
        deserialize_with = "json::optional_types",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<TypePattern>>, max_items = 100))]
    pub r#type: Option<Vec<String>>,
}

/// An event type; `*` matches any characters, and is in it 16 times at most.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 256, example = "network_*")]
#[expect(dead_code, reason = "only the document uses it")]
pub(crate) struct TypePattern(String);

/// The filter of a reader after a change, and where it begins to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReaderPatched {
    /// The id of the reader.
    pub id: String,
    /// The categories that it asks for. If absent, all. If empty, none, as for a reader in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// The types that it asks for. If absent, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#type: Vec<String>,
    /// The filter applies to events after this seq.
    pub after: u64,
}
