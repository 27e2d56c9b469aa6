//! Tickets, which allow reading without the token: `POST /telemetry/tickets`.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use crate::category::CategorySet;
use crate::event_type::check_pattern;
use crate::json;

/// The body of `POST /telemetry/tickets`: what the ticket allows. Strict: an unknown field is an error.
///
/// The default allows reading everything for 300 seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "What the ticket allows to read. A field that is absent or null restricts nothing."
    )
)]
pub struct TicketRequest {
    /// Only events of these categories. If empty, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// Only events of these types; `*` matches any characters. If empty, all. At most 100, none of them
    /// empty.
    #[serde(
        default,
        deserialize_with = "json::optional_types",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::reader::TypePattern>>, max_items = 100))]
    pub r#type: Option<Vec<String>>,
    /// Only events after this seq.
    #[serde(
        default,
        deserialize_with = "json::optional_seq",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)
    )]
    pub after: Option<u64>,
    /// Only events up to and including this seq: the stream then ends.
    #[serde(
        default,
        deserialize_with = "json::optional_seq",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)
    )]
    pub until: Option<u64>,
    /// For how many seconds the ticket is valid. A stream that it opened ends at that time, too.
    #[serde(
        default,
        deserialize_with = "optional_lifetime",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 1, maximum = 3600, default = 300)
    )]
    pub expires_in: Option<u32>,
}

impl TicketRequest {
    /// How long a ticket is valid by default, in seconds.
    pub const DEFAULT_EXPIRES_IN: u32 = 300;

    /// The longest that a ticket can be valid, in seconds.
    pub const MAX_EXPIRES_IN: u32 = 3600;

    /// For how many seconds the ticket is valid: the requested time, or the default.
    #[must_use]
    pub fn lifetime(&self) -> u32 {
        self.expires_in.unwrap_or(Self::DEFAULT_EXPIRES_IN)
    }
}

/// What a ticket for instances of a fleet allows to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "What the ticket allows to read. A field that is absent or null restricts nothing, but `instances` is required."
    )
)]
pub struct FleetTicketRequest {
    /// Only these instances; `*` matches any characters. At least one and at most 100.
    #[serde(deserialize_with = "instance_names")]
    #[cfg_attr(
        feature = "openapi",
        schema(min_items = 1, max_items = 100, example = json!(["shop-*", "till-1"]))
    )]
    pub instances: Vec<String>,
    /// Only events of these categories. If empty, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// Only events of these types; `*` matches any characters. If empty, all. At most 100, none of them
    /// empty.
    #[serde(
        default,
        deserialize_with = "json::optional_types",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::reader::TypePattern>>, max_items = 100))]
    pub r#type: Option<Vec<String>>,
    /// For how many seconds the ticket is valid. A stream that it opened ends at that time, too.
    #[serde(
        default,
        deserialize_with = "optional_lifetime",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 1, maximum = 3600, default = 300)
    )]
    pub expires_in: Option<u32>,
}

impl FleetTicketRequest {
    /// The same for one instance.
    #[must_use]
    pub fn of_each(&self) -> TicketRequest {
        TicketRequest {
            category: self.category,
            r#type: self.r#type.clone(),
            expires_in: self.expires_in,
            ..TicketRequest::default()
        }
    }
}

/// A ticket: a secret that opens streams, sent as the parameter `ticket`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ticket {
    /// The ticket.
    pub ticket: String,
    /// When the ticket expires, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: jiff::Timestamp,
}

/// Without the secret.
impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Reads `instances`: names, in which `*` stands for any characters.
fn instance_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    const MOST: usize = 100;
    let names = Vec::<String>::deserialize(deserializer)?;
    if !(1..=MOST).contains(&names.len()) {
        return Err(D::Error::custom(format_args!(
            "1 to {MOST} names are needed; `*` is for all instances"
        )));
    }
    for name in &names {
        check_instance_name(name).map_err(D::Error::custom)?;
    }
    Ok(names)
}

/// Checks the name of an instance, in which `*` stands for any characters.
///
/// # Errors
///
/// A text for people, if it is empty, longer than a pattern may be, has too many `*`, or a comma, which joins names.
pub fn check_instance_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name is empty; `*` is for all instances".to_owned());
    }
    if name.contains(',') {
        return Err(format!("`{name}` has a comma, which no name has"));
    }
    check_pattern(name).map_err(|error| format!("`{name}`: {error}"))
}

/// Reads `expires_in`, within its bounds.
fn optional_lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    const MAX: u32 = TicketRequest::MAX_EXPIRES_IN;
    let seconds = Option::<u32>::deserialize(deserializer)?;
    if seconds.is_some_and(|seconds| seconds == 0 || MAX < seconds) {
        return Err(D::Error::custom(format_args!(
            "a ticket must be valid for 1 to {MAX} seconds"
        )));
    }
    Ok(seconds)
}
