//! The instances that a gateway serves: `GET /instances`.

use serde::{Deserialize, Serialize};

use crate::cursor::Epoch;

/// The instances of a fleet that a gateway knows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstanceList {
    /// In the order of their names.
    pub instances: Vec<InstanceInfo>,
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
    /// The epoch: the random id of this run of its stream.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub epoch: Epoch,
    /// The newest seq that it has published, 0 before the first event.
    pub head: u64,
    /// The newest seq that the broker has stored. The rest is on its way, or is lost with the instance.
    pub stored: u64,
    /// How many events it publishes a second, as of the last seconds.
    pub events_per_second: f64,
    /// The id of the running session. Absent if none is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_id: Option<String>,
    /// The version of its program.
    #[cfg_attr(feature = "openapi", schema(example = "0.1.0"))]
    pub version: String,
}
