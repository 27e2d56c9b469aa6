//! How an error looks on the wire: a stable [`ErrorCode`] for programs, a message for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, as a name that stays. Programs match on this; the message beside it may change.
///
/// Which status goes with which code is the server's business: this crate knows no HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "What went wrong, as a name that stays. The message beside it may change."
    )
)]
pub enum ErrorCode {
    /// What came is not a request as HTTP has them.
    BadRequest,
    /// The body is not JSON.
    InvalidJson,
    /// A field that must be there is not.
    MissingField,
    /// A field that nobody knows; most likely a typing error.
    UnknownField,
    /// A field has a value that it cannot have.
    InvalidField,
    /// A caller claims a source that is reserved.
    ReservedSource,
    /// A query parameter or a cursor cannot be understood.
    InvalidQuery,
    /// The token is missing or wrong.
    Unauthorized,
    /// The request comes from where none is taken: its `Host` or `Origin` is not allowed.
    Forbidden,
    /// The body is of a media type that is not taken here.
    UnsupportedMediaType,
    /// The body is larger than the server takes.
    BodyTooLarge,
    /// The event is too large even without its `data`.
    EventTooLarge,
    /// The head of the request, its target included, is larger than the server takes.
    HeaderTooLarge,
    /// There is no telemetry configuration.
    NotConfigured,
    /// There is nothing at this path.
    NotFound,
    /// The path is there, but not with this method.
    MethodNotAllowed,
    /// The request did not arrive within the time that it has, or its reader did not answer.
    Timeout,
    /// The source of events could not be started; the state is as before.
    SourceFailed,
    /// The caller asks too often, or has too many streams open.
    TooManyRequests,
    /// The server cannot take this now (it is full, or it is stopping); later it may.
    Unavailable,
    /// The server is at fault.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order above.
    pub const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::InvalidJson,
        Self::MissingField,
        Self::UnknownField,
        Self::InvalidField,
        Self::ReservedSource,
        Self::InvalidQuery,
        Self::Unauthorized,
        Self::Forbidden,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::EventTooLarge,
        Self::HeaderTooLarge,
        Self::NotConfigured,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::SourceFailed,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::InvalidJson => "invalid_json",
            Self::MissingField => "missing_field",
            Self::UnknownField => "unknown_field",
            Self::InvalidField => "invalid_field",
            Self::ReservedSource => "reserved_source",
            Self::InvalidQuery => "invalid_query",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::EventTooLarge => "event_too_large",
            Self::HeaderTooLarge => "header_too_large",
            Self::NotConfigured => "not_configured",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::SourceFailed => "source_failed",
            Self::TooManyRequests => "too_many_requests",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The body of every error answer: `{"code": "…", "message": "…", "request_id": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{message} ({code}{})", OfRequest(self.request_id.as_deref()))]
pub struct ErrorBody {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong, for people; names the field where one is at fault.
    pub message: String,
    /// The id of the request, by which the server's log names it. Absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub request_id: Option<String>,
}

/// The end of the message: `, request ID`, or nothing.
struct OfRequest<'a>(Option<&'a str>);

impl fmt::Display for OfRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, ", request {id}"),
            None => Ok(()),
        }
    }
}

impl ErrorBody {
    /// An error with this code and this message, without a request id.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            request_id: None,
        }
    }

    /// The same error, as the answer to the request with this id.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }
}
