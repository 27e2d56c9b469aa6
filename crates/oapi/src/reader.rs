//! Who reads, and what it asks for: `GET /telemetry/readers` and `PATCH /telemetry/readers/{id}`.

use serde::{Deserialize, Serialize};

use crate::category::CategorySet;
use crate::json;

/// Everybody who reads at this moment: live streams, and calls that wait for an event.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReaderList {
    /// The newest seq published, 0 before the first event.
    pub head: u64,
    /// The readers, the one that has been there longest first.
    pub readers: Vec<ReaderInfo>,
}

/// A reader: who it is, what it asks for, where it is, and what became of the events until there.
///
/// `delivered + filtered + lost` is how far it has come since it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReaderInfo {
    /// Its name for as long as it is there; never given to another one.
    #[cfg_attr(feature = "openapi", schema(example = "r17"))]
    pub id: String,
    /// How it reads.
    pub kind: ReaderKind,
    /// The address that it reads from.
    #[cfg_attr(feature = "openapi", schema(example = "127.0.0.1:51724"))]
    pub peer: String,
    /// When it began, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub opened_at: jiff::Timestamp,
    /// The categories that it asks for. Absent: all. Empty: none, where what it asked for and what
    /// its ticket allows have none in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// The types that it asks for, `*` for any characters. Absent: all. Where its ticket allows some
    /// types only, those of its own that the ticket does not allow are still told here, though no
    /// event of them is delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#type: Vec<String>,
    /// Whether the stream tells it about itself.
    pub notices: bool,
    /// What it does when it is overtaken.
    pub overtaken: OnLag,
    /// The seq up to which everything was delivered, filtered or lost.
    pub position: u64,
    /// How many events it is behind: `head - position`, evicted ones and ones that it does not ask for
    /// included.
    pub behind_events: u64,
    /// How much memory those of them take that are still retained.
    pub behind_bytes: u64,
    /// The age of the first of those that are still retained, by its `ts`; 0 where there is none.
    pub behind_seconds: f64,
    /// Events that it was given.
    pub delivered: u64,
    /// Events that it did not ask for.
    pub filtered: u64,
    /// Events that it asked for and that were evicted, or given up, before it got there. Where it asks
    /// for types, the most that it can be.
    pub lost: u64,
}

/// How somebody reads.
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
    /// It goes on at the oldest event retained.
    #[default]
    Oldest,
    /// It goes on after the newest: what is still retained is given up, too.
    Head,
    /// It ends.
    Close,
}

/// The body of `PATCH /telemetry/readers/{id}`. Strict: an unknown field is an error.
///
/// What is given replaces that half of the filter; an empty list is no filter. What is absent or null
/// stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "What the reader asks for from now on. What is given replaces that half of its filter, and an \
                   empty list is no filter; what is absent or null stays as it is."
    )
)]
pub struct ReaderPatch {
    /// Only events of these categories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// Only events of these types, `*` for any characters. At most 100, none of them empty.
    #[serde(
        default,
        deserialize_with = "json::optional_types",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<TypePattern>>, max_items = 100))]
    pub r#type: Option<Vec<String>>,
}

/// An event type, with `*` for any characters. Only the document has it as a type of its own.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema)]
#[schema(min_length = 1, example = "network_*")]
#[expect(dead_code, reason = "only the document uses it")]
pub(crate) struct TypePattern(String);

/// What a reader asks for after a change, and from where on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReaderPatched {
    /// Which reader.
    pub id: String,
    /// The categories that it asks for. Absent: all. Empty: none, as for a reader in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// The types that it asks for. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#type: Vec<String>,
    /// The events after this seq are chosen by that.
    pub after: u64,
}
