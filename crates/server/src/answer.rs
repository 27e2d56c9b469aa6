//! Answers: JSON, with a status for each error code.

use std::error::Error;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use tapline_access::{AccessError, Forbidden, IssueError};
use tapline_api::{ApiError, QueryError};
use tapline_oapi::{ErrorBody, ErrorCode};

use crate::calls::{REQUEST_ID, RequestId};
use crate::export::ExportBody;
use crate::readers::PatchError;

/// An answer that hyper writes: every answer but that of a stream.
pub(crate) type Whole = Response<Body>;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Full<Bytes>),
    /// Written while it is read.
    Export(ExportBody),
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(whole) => match Pin::new(whole).poll_frame(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(frame) => {
                    Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
                }
            },
            Self::Export(export) => export.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Export(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Export(_) => SizeHint::default(),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An error that is to be answered.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) body: ErrorBody,
    /// Further headers, such as `retry-after`.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The chain of causes, for the log. It is not sent: it may name what only operators should see.
    cause: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorBody::new(code, message).into()
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// For a request that may succeed a little later.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        self.with(header::RETRY_AFTER, seconds.into())
    }

    /// With its causes, which are logged.
    pub(crate) fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The answer to the request with this id. Logs the causes of the error, where there are any.
    pub(crate) fn into_response(self, id: &RequestId) -> Whole {
        self.encode(id)
            .map(|body| Body::Whole(Full::new(body.into())))
    }

    fn encode(mut self, id: &RequestId) -> Response<Vec<u8>> {
        if let Some(cause) = &self.cause {
            let code = self.body.code;
            tracing::error!(request_id = id.as_str(), %code, cause, "a request failed");
            let hint = format!("; the log has the cause under request id {}", id.as_str());
            self.body.message.push_str(&hint);
        }
        self.body = self.body.with_request_id(id.as_str());
        let body = serde_json::to_vec(&self.body).expect("our own types serialize");
        let mut answer = Response::new(body);
        *answer.status_mut() = status(self.body.code);
        answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
        answer.headers_mut().extend(self.headers);
        answer
    }

    /// The whole answer as it is sent, the last one of its connection. Where no request could be read,
    /// the id is a new one.
    pub(crate) fn into_bytes(self, id: RequestId) -> Vec<u8> {
        let mut answer = self.encode(&id);
        let length = answer.body().len().into();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length);
        headers.insert(REQUEST_ID, id.into_header());
        let mut bytes = encode_head(&answer, false);
        bytes.extend_from_slice(answer.body());
        bytes
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self {
            body,
            headers: Vec::new(),
            cause: None,
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let mut failure = Self::from(ErrorBody::from(&error));
        if let ApiError::StaleCursor { head, epoch, .. } = &error {
            let epoch = HeaderValue::try_from(epoch.to_string()).expect("hexadecimal digits");
            failure = failure
                .with(HeaderName::from_static("x-head"), (*head).into())
                .with(HeaderName::from_static("x-epoch"), epoch);
        }
        match error.source() {
            None => failure,
            Some(_) => failure.caused_by(chain(&error)),
        }
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
        let code = match error {
            AccessError::OtherInstance => ErrorCode::Forbidden,
            _ => ErrorCode::Unauthorized,
        };
        Self::new(code, error.to_string()).with(header::WWW_AUTHENTICATE, challenge)
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

/// The error and all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
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
        ErrorCode::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Whole {
    let body = serde_json::to_vec(value).expect("our own types serialize");
    text(status, body)
}

/// JSON that is already encoded.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Whole {
    let mut answer = Response::new(Body::Whole(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Whole {
    let mut answer = Response::default();
    *answer.status_mut() = status;
    answer
}

/// The head of an answer as it is sent, for answers that hyper does not write. The body is sent in chunks, or
/// ends with the connection.
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
