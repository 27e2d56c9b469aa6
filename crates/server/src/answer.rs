//! What goes back: JSON, with a status for each error code.

use std::io::Write as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use tapline_access::{AccessError, Forbidden, IssueError};
use tapline_api::{ApiError, QueryError};
use tapline_oapi::{ErrorBody, ErrorCode};

use crate::readers::PatchError;

/// An answer: all of ours are whole, but for a stream's, whose body is not HTTP's business.
pub(crate) type Whole = Response<Full<Bytes>>;

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) body: ErrorBody,
    /// What goes with it, such as `retry-after`.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorBody::new(code, message).into()
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// For what may well be possible a little later.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        self.with(header::RETRY_AFTER, seconds.into())
    }

    pub(crate) fn into_response(self) -> Whole {
        let mut answer = json(status(self.body.code), &self.body);
        answer.headers_mut().extend(self.headers);
        answer
    }

    /// The whole answer as it goes over the wire, the last one of its connection.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let body = serde_json::to_vec(&self.body).expect("our own types serialize");
        let mut answer = self.into_response();
        answer
            .headers_mut()
            .insert(header::CONTENT_LENGTH, body.len().into());
        let mut bytes = encode_head(&answer, false);
        bytes.extend_from_slice(&body);
        bytes
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self {
            body,
            headers: Vec::new(),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        ErrorBody::from(&error).into()
    }
}

impl From<Forbidden> for Failure {
    fn from(error: Forbidden) -> Self {
        Self::new(ErrorCode::Forbidden, error.to_string())
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let challenge = error.challenge();
        Self::new(ErrorCode::Unauthorized, error.to_string())
            .with(header::WWW_AUTHENTICATE, challenge)
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        Self::new(ErrorCode::InvalidField, error.to_string())
    }
}

impl From<PatchError> for Failure {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::NoSuchReader => Self::new(
                ErrorCode::NotFound,
                "there is no reader with this id; `GET /telemetry/readers` lists the open readers",
            ),
            PatchError::IsWait => Self::new(
                ErrorCode::Conflict,
                "this reader is a `wait`, whose filter cannot be changed; send another `GET /telemetry/wait`",
            ),
            PatchError::Busy => Self::new(
                ErrorCode::Unavailable,
                "this reader has not yet made several earlier changes; try again later",
            )
            .retry_after(5),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        ApiError::from(error).into()
    }
}

/// The status of each code.
pub(crate) fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::InvalidJson
        | ErrorCode::MissingField
        | ErrorCode::UnknownField
        | ErrorCode::InvalidField
        | ErrorCode::ReservedSource
        | ErrorCode::InvalidQuery => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotConfigured | ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::Timeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::BodyTooLarge | ErrorCode::EventTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorCode::SourceFailed | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Whole {
    let body = serde_json::to_vec(value).expect("our own types serialize");
    text(status, body)
}

/// JSON that is text already.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Whole {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Whole {
    let mut answer = Response::default();
    *answer.status_mut() = status;
    answer
}

/// The head of an answer as it goes over the wire, for those that hyper does not write. The body comes
/// in chunks, or it ends with the connection.
pub(crate) fn encode_head(answer: &Response<impl Sized>, chunked: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    let status = answer.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_str());
    for (name, value) in answer.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(if chunked {
        b"transfer-encoding: chunked\r\n\r\n"
    } else {
        b"connection: close\r\n\r\n"
    });
    head
}
