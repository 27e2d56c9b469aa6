//! Notices: messages of a stream about itself, sent to readers that ask with `notices=true`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::category::{Category, CategorySet};
use crate::config::State;
use crate::cursor::Epoch;

/// A message of the stream about itself. It has a name, and no seq.
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
    /// Where reading begins, and why. Always the first notice.
    Hello(Hello),
    /// Events were evicted before the reader received them.
    Gap(Gap),
    /// A session started, was reconfigured, or ended.
    Session(SessionNotice),
    /// The reader's filter was changed.
    Filter(FilterNotice),
    /// What follows is of another run of the server.
    Epoch(EpochNotice),
    /// The stream is alive. Says how far behind the reader is.
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
            Self::Epoch(_) => "epoch",
            Self::Beat(_) => "beat",
            Self::Bye(_) => "bye",
        }
    }

    /// Reads the `data:` of the frame with this name. `None` for an unknown name: a newer server may send
    /// one, and a reader should ignore it.
    ///
    /// # Errors
    ///
    /// If `json` is not a notice of this name.
    pub fn parse(name: &str, json: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match name {
            "hello" => Self::Hello(serde_json::from_str(json)?),
            "gap" => Self::Gap(serde_json::from_str(json)?),
            "session" => Self::Session(serde_json::from_str(json)?),
            "filter" => Self::Filter(serde_json::from_str(json)?),
            "epoch" => Self::Epoch(serde_json::from_str(json)?),
            "beat" => Self::Beat(serde_json::from_str(json)?),
            "bye" => Self::Bye(serde_json::from_str(json)?),
            _ => return Ok(None),
        }))
    }
}

/// Where reading begins, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hello {
    /// The cursor that the reader sent, unchanged. Absent if it sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub asked: Option<String>,
    /// Reading begins after this seq: the first event is `used + 1` or later.
    pub used: u64,
    /// The oldest seq still retained, 0 before the first event.
    pub oldest: u64,
    /// The newest seq published, 0 before the first event.
    pub head: u64,
    /// The epoch in which reading begins: the random id of a run of the stream. An earlier one where the cursor is of
    /// an earlier run and an archive has it; `oldest` and `head` are those of the archive then.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
    /// How many events that the reader asks for were evicted since its cursor. Absent if that cannot be
    /// known: a filter cannot be applied to evicted events, and a cursor of another epoch does not say
    /// what was missed. At most `used` minus the cursor's seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lost: Option<u64>,
    /// Why reading begins at this position.
    pub reason: HelloReason,
    /// The id of this reader. `PATCH /telemetry/readers/{id}` changes its filter while it reads. Empty with
    /// older servers, which omit it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub reader: String,
}

/// Why reading begins at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HelloReason {
    /// The reader sent no cursor.
    Fresh,
    /// The reader continues directly after its cursor; nothing is lost.
    Resumed,
    /// The events directly after the cursor were evicted; reading begins at the oldest retained event.
    Evicted,
    /// The cursor is ahead of the head: that seq was never published. Reading begins at the oldest
    /// retained event.
    Ahead,
    /// The cursor is of another epoch: the server was restarted. Reading begins at the oldest retained
    /// event.
    OtherEpoch,
    /// The cursor is not valid. Reading begins at the oldest retained event.
    Invalid,
}

/// Events were evicted before the reader received them. Sent once for each gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gap {
    /// How many events were evicted unread, with the filter not applied: `to - from + 1`.
    pub count: u64,
    /// How many of them the reader asked for: its loss. Absent if that cannot be known, because a filter by
    /// type cannot be applied to evicted events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub matching: Option<u64>,
    /// The first seq evicted unread.
    pub from: u64,
    /// The last seq evicted unread.
    pub to: u64,
    /// The evicted events of the categories that the reader asked for, by category. Categories without any
    /// are omitted.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub by_category: BTreeMap<Category, u64>,
}

/// A session started, was reconfigured, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionNotice {
    /// The new state.
    #[serde(flatten)]
    pub state: State,
    /// The state applies to events after this seq.
    pub after: u64,
}

/// The reader's filter was changed, by `PATCH /telemetry/readers/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FilterNotice {
    /// The categories that the reader asks for now. If absent, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<Vec<Category>>))]
    pub category: Option<CategorySet>,
    /// The types that the reader asks for now; `*` matches any characters. If absent, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r#type: Vec<String>,
    /// The filter applies to events after this seq.
    pub after: u64,
}

/// What follows is of another run of the server: seqs begin again at 1. Sent where a reader resumes in an archive, in
/// a run before the present one, and comes to the end of that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EpochNotice {
    /// The epoch that ended.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub from: Epoch,
    /// The last seq of it that the reader was at: every event up to it was delivered, filtered or lost.
    pub last_seq: u64,
    /// Whether the archive was read to its end. If not, the rest of that epoch could not be read, and how much that
    /// is is not known.
    pub complete: bool,
    /// The epoch of what follows.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
}

/// The stream is alive. Sent every 15 seconds, also on a busy stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Beat {
    /// The newest seq published.
    pub head: u64,
    /// The reader's position: every event up to this seq was delivered, filtered or lost.
    pub position: u64,
    /// How many events the reader is behind: `head - position`.
    pub lag: u64,
    /// How many events the reader lost so far on this connection, those included that `hello` reports. With a
    /// filter, an upper bound.
    pub lost: u64,
}

/// The stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bye {
    /// Why the stream ends.
    pub reason: ByeReason,
    /// The seq to resume after: every event up to it was delivered, filtered or lost.
    pub last_seq: u64,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ByeReason {
    /// The server is stopping.
    Shutdown,
    /// The server failed on this stream. A new stream may work.
    Failed,
    /// The ticket that opened the stream has expired.
    Expired,
    /// The reader lagged, and has asked with `overtaken=close` for the stream to end then.
    Overtaken,
    /// All events that the ticket allows were delivered.
    Complete,
    /// At a gateway: the instance was started anew, or events of it are missing. A client that resumes is sent what
    /// follows, and a notice of what is missing.
    Restarted,
    /// The reader accepted no bytes for too long.
    Stalled,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}
