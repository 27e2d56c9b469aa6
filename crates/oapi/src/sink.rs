//! Where events go besides the streams: `GET /telemetry/sinks`.

use serde::{Deserialize, Serialize};

use crate::cursor::Epoch;

/// All sinks of a server: its archive, and its exporters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkList {
    /// The newest seq published, 0 before the first event.
    pub head: u64,
    /// The epoch: the random id of this run of the stream.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
    /// The sinks, in the order in which the server began them.
    pub sinks: Vec<SinkInfo>,
}

/// A sink: whether it is on, how far it is, and what became of what it has read.
///
/// `read == exported + excluded + rejected + failed + pending`, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkInfo {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(example = "archive"))]
    pub name: String,
    /// Whether it is on. One that was switched off still exports what was published until then.
    pub on: bool,
    /// Every event up to this seq is settled: none of them is `pending`.
    pub position: u64,
    /// How many events it is behind: `head - position`. 0 while it is off.
    pub lag: u64,
    /// Events that it has read.
    pub read: u64,
    /// Of these, those that arrived at the other end: on the disk, or at the collector.
    pub exported: u64,
    /// Of these, those that its own rules leave out.
    pub excluded: u64,
    /// Of these, those that the other end refused.
    pub rejected: u64,
    /// Of these, those that it gave up.
    pub failed: u64,
    /// Of these, those that are on their way.
    pub pending: u64,
    /// Events that were evicted before it could read them, and that it has recovered from the archive; they are not in
    /// `read`.
    #[serde(default)]
    pub recovered: u64,
    /// Events that were evicted before it could read them, and that it has not recovered; they are not in `read`. At
    /// most, if that is not known exactly.
    pub lost: u64,
    /// What became of the spans that it has made of events. Absent if it made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub spans: Option<SinkSpans>,
    /// What went wrong last. Absent if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub last_error: Option<String>,
}

/// What became of the spans that a sink has made of the events that it has read. The events have an account of their own.
///
/// `made == exported + rejected + failed + pending`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SinkSpans {
    /// Spans that it has made.
    pub made: u64,
    /// Of these, those that arrived at the collector.
    pub exported: u64,
    /// Of these, those that the collector refused.
    pub rejected: u64,
    /// Of these, those that it gave up.
    pub failed: u64,
    /// Of these, those that are on their way.
    pub pending: u64,
}
