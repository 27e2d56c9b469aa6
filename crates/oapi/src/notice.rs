//! What a stream tells a reader about itself, to those who ask with `notices=true`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::category::{Category, CategorySet};
use crate::config::State;
use crate::cursor::Epoch;

/// A notice: an event of the stream's own, with a name and no seq.
///
/// ```
/// use tapline_oapi::{Bye, ByeReason, Notice};
///
/// let bye = Notice::Bye(Bye { reason: ByeReason::Shutdown, last_seq: 7 });
/// assert_eq!(bye.name(), "bye");
/// assert_eq!(serde_json::to_string(&bye)?, r#"{"reason":"shutdown","last_seq":7}"#);
/// assert_eq!(Notice::parse("bye", r#"{"reason":"shutdown","last_seq":7}"#)?, Some(bye));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Notice {
    /// Where reading begins, and why there. The first thing a reader gets.
    Hello(Hello),
    /// Events were evicted before the reader got to them.
    Gap(Gap),
    /// A session started, was reconfigured, or ended.
    Session(SessionNotice),
    /// The reader's filter was changed.
    Filter(FilterNotice),
    /// The stream is alive; how far behind the reader is.
    Beat(Beat),
    /// The stream ends.
    Bye(Bye),
}

impl Notice {
    /// The name on the wire: the `event:` of its frame.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Gap(_) => "gap",
            Self::Session(_) => "session",
            Self::Filter(_) => "filter",
            Self::Beat(_) => "beat",
            Self::Bye(_) => "bye",
        }
    }

    /// Reads the `data:` of the frame called `name`. `None` for a name that is not known, which a
    /// newer server may send and a reader should pass over.
    ///
    /// # Errors
    ///
    /// Where `json` is not what a notice of this name holds.
    pub fn parse(name: &str, json: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match name {
            "hello" => Self::Hello(serde_json::from_str(json)?),
            "gap" => Self::Gap(serde_json::from_str(json)?),
            "session" => Self::Session(serde_json::from_str(json)?),
            "filter" => Self::Filter(serde_json::from_str(json)?),
            "beat" => Self::Beat(serde_json::from_str(json)?),
            "bye" => Self::Bye(serde_json::from_str(json)?),
            _ => return Ok(None),
        }))
    }
}

/// Where reading begins, and why there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hello {
    /// The cursor that the reader came with, as it was sent; absent where it came with none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub asked: Option<String>,
    /// Reading goes on after this seq: the first event is `used + 1` or later.
    pub used: u64,
    /// The oldest seq still retained, 0 before the first event.
    pub oldest: u64,
    /// The newest seq published, 0 before the first event.
    pub head: u64,
    /// This incarnation of the stream.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
    /// How many events that the reader asks for were evicted since its cursor. Absent where that
    /// cannot be known: a filter cannot be applied to events that are gone, and a cursor that is not
    /// of this stream does not say what it has missed. At most `used` minus the cursor's seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lost: Option<u64>,
    /// Why reading begins there.
    pub reason: HelloReason,
    /// The id of this reader, by which its filter can be changed while it reads:
    /// `PATCH /telemetry/readers/{id}`. Only older servers leave it out; it is empty then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub reader: String,
}

/// Why reading begins where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HelloReason {
    /// The reader came with no cursor.
    Fresh,
    /// The reader goes on right after its cursor; nothing is lost.
    Resumed,
    /// What came right after the cursor is evicted; reading begins at the oldest retained.
    Evicted,
    /// The cursor is ahead of the head: no such event was published yet.
    Ahead,
    /// The cursor is from another incarnation of the stream.
    OtherEpoch,
    /// The cursor cannot be understood.
    Invalid,
}

/// Events were evicted before the reader got to them. Told once for each gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gap {
    /// All events evicted before they were read, whatever the filter: `to - from + 1`.
    pub count: u64,
    /// How many of them the reader asked for, which is what it lost. Absent where that cannot be
    /// known: a filter by type cannot be applied to events that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub matching: Option<u64>,
    /// The first seq evicted unread.
    pub from: u64,
    /// The last seq evicted unread.
    pub to: u64,
    /// The evicted events of the categories that the reader asked for, by category; a category
    /// with none is left out.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub by_category: BTreeMap<Category, u64>,
}

/// A session started, was reconfigured, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionNotice {
    /// The state that holds now.
    #[serde(flatten)]
    pub state: State,
    /// The state holds for events after this seq.
    pub after: u64,
}

/// The reader's filter was changed, by `PATCH /telemetry/readers/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FilterNotice {
    /// The categories that the reader asks for now; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Vec<Category>>))]
    pub category: Option<CategorySet>,
    /// The types that the reader asks for now, `*` for any characters; absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#type: Vec<String>,
    /// Events after this seq are chosen by that.
    pub after: u64,
}

/// The stream is alive. Sent at a steady pace, on a busy stream too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Beat {
    /// The newest seq published.
    pub head: u64,
    /// The seq up to which the reader was served: everything up to it was delivered, filtered or
    /// lost.
    pub position: u64,
    /// How many events the reader is behind: `head - position`.
    pub lag: u64,
    /// What the reader lost so far on this connection.
    pub lost: u64,
}

/// The stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bye {
    /// Why.
    pub reason: ByeReason,
    /// The seq to resume after: everything up to it was delivered, filtered or lost.
    pub last_seq: u64,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ByeReason {
    /// The server stops.
    Shutdown,
    /// The server cannot go on with this stream; a new one may do.
    Failed,
    /// The ticket that opened the stream has run out.
    Expired,
    /// The reader was overtaken, and has asked for the stream to end then.
    Overtaken,
    /// All that the ticket allows was delivered.
    Complete,
    /// The reader took no bytes for too long.
    Stalled,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}
