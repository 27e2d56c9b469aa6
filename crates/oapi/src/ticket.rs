//! Tickets, with which somebody who has no token reads: `POST /telemetry/tickets`.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use crate::category::CategorySet;
use crate::json;

/// The body of `POST /telemetry/tickets`: what the ticket allows. Strict: an unknown field is an error.
///
/// The default allows to read everything for 300 seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "What the ticket allows to read. Whatever is absent or null is not restricted."
    )
)]
pub struct TicketRequest {
    /// Only events of these categories; empty = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<crate::Category>>))]
    pub category: Option<CategorySet>,
    /// Only events of these types, `*` for any characters; empty = all. At most 100, none of them empty.
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
    /// Only events up to this seq, this one included: a stream then ends by itself.
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
    /// For how many seconds from now it can be used; a stream that it has opened ends then, too.
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
    /// How long a ticket lasts that asks for no time of its own, in seconds.
    pub const DEFAULT_EXPIRES_IN: u32 = 300;

    /// The longest that a ticket lasts, in seconds.
    pub const MAX_EXPIRES_IN: u32 = 3600;

    /// For how many seconds it is to last: what was asked for, or the default.
    #[must_use]
    pub fn lifetime(&self) -> u32 {
        self.expires_in.unwrap_or(Self::DEFAULT_EXPIRES_IN)
    }
}

/// A ticket: a secret that opens a stream, as its parameter `ticket`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ticket {
    /// What to send.
    pub ticket: String,
    /// Until when it can be used, RFC 3339.
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

/// Reads `expires_in`, within its bounds.
fn optional_lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    const MAX: u32 = TicketRequest::MAX_EXPIRES_IN;
    let seconds = Option::<u32>::deserialize(deserializer)?;
    if seconds.is_some_and(|seconds| seconds == 0 || MAX < seconds) {
        return Err(D::Error::custom(format_args!(
            "a ticket lasts from 1 to {MAX} seconds"
        )));
    }
    Ok(seconds)
}
