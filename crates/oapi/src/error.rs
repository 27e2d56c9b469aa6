//! Errors on the wire: a stable [`ErrorCode`] for programs, a message for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an error, as a stable name. Programs match on the code; the message may change.
///
/// The server maps codes to HTTP statuses; this crate does not know HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(
    feature = "openapi",
    schema(description = "The kind of an error, as a stable name. The message may change.")
)]
pub enum ErrorCode {
    /// The bytes received are not a valid HTTP request.
    BadRequest,
    /// The body is not JSON.
    InvalidJson,
    /// A required field is missing.
    MissingField,
    /// A field is not known; most likely its name is misspelled.
    UnknownField,
    /// A field has an invalid value.
    InvalidField,
    /// The event claims a source that is reserved.
    ReservedSource,
    /// A query parameter or a cursor is invalid.
    InvalidQuery,
    /// The token is missing or wrong.
    Unauthorized,
    /// The `Host` or `Origin` of the request is not allowed.
    Forbidden,
    /// The media type of the body is not accepted here.
    UnsupportedMediaType,
    /// The body is larger than the server accepts.
    BodyTooLarge,
    /// The event is too large even without its `data`.
    EventTooLarge,
    /// The head of the request, with its target, is larger than the server accepts.
    HeaderTooLarge,
    /// There is no telemetry configuration.
    NotConfigured,
    /// This path does not exist.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The request does not fit the present state of what it names.
    Conflict,
    /// The request did not arrive in time, or the reader that it addresses did not answer in time.
    Timeout,
    /// A source of events could not start; the state is as before.
    SourceFailed,
    /// The client sends too many requests, or has too many streams open.
    TooManyRequests,
    /// The server cannot handle this now, because it is full or stopping. Try again later.
    Unavailable,
    /// The instance that the request is for did not answer the gateway in time. Whether it did what was asked is not
    /// known; the same request id can be used again.
    NoAnswer,
    /// The server failed. Its log has the cause, under the request id.
    Internal,
}

impl ErrorCode {
    /// All codes, in the order above.
    pub const ALL: [Self; 23] = [
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
        Self::Conflict,
        Self::Timeout,
        Self::SourceFailed,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::NoAnswer,
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
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::SourceFailed => "source_failed",
            Self::TooManyRequests => "too_many_requests",
            Self::Unavailable => "unavailable",
            Self::NoAnswer => "no_answer",
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
    /// The kind of error, for programs.
    pub code: ErrorCode,
    /// The error, for people. Names the field and the fix.
    pub message: String,
    /// The id of the request, as in the server's log. Absent if there is none.
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
