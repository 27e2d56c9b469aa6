//! The instances that a gateway serves: `GET /instances`.

use serde::{Deserialize, Serialize};

use crate::cursor::Epoch;

/// A part of the instances that a gateway knows, and totals of all that match the query.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceList {
    /// The instances of this part, in the order that was asked for.
    pub instances: Vec<InstanceInfo>,
    /// How many instances match, in all parts.
    pub total: u64,
    /// How many of these run.
    pub alive: u64,
    /// How many events the instances that match have published and the broker has not stored, as of their last reports.
    pub not_stored: u64,
}

/// An instance of a fleet: a Tapline that sends its events to the broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceInfo {
    /// Its name: the `{id}` of `/instances/{id}/telemetry`.
    #[cfg_attr(feature = "openapi", schema(example = "sandbox-17"))]
    pub name: String,
    /// Whether it has said within the last seconds that it runs. One that does not run can still be read.
    pub alive: bool,
    /// When it has last said so, in microseconds since the Unix epoch, by its own clock.
    pub seen: u64,
    /// How many milliseconds ago that was, by the clock of the gateway.
    pub silent_ms: u64,
    /// The epoch: the random id of this run of its stream.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
    /// The newest seq that it has published, 0 before the first event.
    pub head: u64,
    /// The newest seq that the broker has stored. The rest is on its way, or is lost with the instance.
    pub stored: u64,
    /// How many events it publishes a second, as of the last seconds.
    pub events_per_second: f64,
    /// The newest event. Absent before the first one, and if the instance has a version that does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub last_event: Option<LastEvent>,
    /// The problems of this run. Absent if the instance has a version that does not report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub problems: Option<InstanceProblems>,
    /// The id of the running session. Absent if none is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_id: Option<String>,
    /// The version of its program.
    #[cfg_attr(feature = "openapi", schema(example = "0.1.0"))]
    pub version: String,
}

/// The newest event of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LastEvent {
    /// Its sequence number.
    pub seq: u64,
    /// When it happened, in microseconds since the Unix epoch.
    pub ts: u64,
    /// Its type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(example = "network_response"))]
    pub event_type: String,
    /// Its category. An instance of a later version can have categories that this document does not name.
    #[cfg_attr(feature = "openapi", schema(example = "network"))]
    pub category: String,
}

/// The problems of an instance since its start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceProblems {
    /// How many there are, without those that were withdrawn. There are at least so many if events were `not_read`.
    pub count: u64,
    /// How many events at most were evicted from memory before they were searched for problems: the count takes a tenth of a
    /// processor core at most.
    #[serde(default)]
    pub not_read: u64,
    /// The newest problem. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub newest: Option<NewestProblem>,
}

/// The newest problem of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewestProblem {
    /// When it happened, in microseconds since the Unix epoch.
    pub ts: u64,
    /// Its kind, as in the list of problems. An instance of a later version can have kinds that this document does not name.
    #[cfg_attr(feature = "openapi", schema(example = "http_error"))]
    pub kind: String,
    /// What happened, in one line: as in the list of problems, up to 200 characters.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "GET http://shop.example/app.js answered 404 after 12 ms")
    )]
    pub text: String,
}
