//! What can go wrong with an operation, by whose fault it is.

use tapline_oapi::{
    Epoch, ErrorBody, ErrorCode, InvalidEvent, JsonError, LargestField, MAX_ENVELOPE_BYTES,
};

use crate::history::HistoryError;
use crate::query::QueryError;
use crate::source::SourceError;

/// Why an operation was not carried out. Nothing has changed and nothing was published then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The caller's body cannot be read.
    #[error(transparent)]
    Body(#[from] JsonError),
    /// The caller's event is no event.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    /// The caller claims to be the control API.
    #[error("field `source.kind`: `kernel_api` is reserved, a publisher cannot claim it")]
    ReservedSource,
    /// The caller's event is over the limit even without `data`, most of all because of that field.
    #[error(
        "field `{0}`: too large; the event is over {MAX_ENVELOPE_BYTES} bytes even with its `data` left out"
    )]
    EventTooLarge(LargestField),
    /// The caller's query cannot be understood.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The caller's cursor is no position in this stream, most likely because the server was restarted.
    #[error(
        "query parameter `after`: the cursor `{asked}` is ahead of this stream or of another epoch; its head is \
         {head} and its epoch {epoch}, so read from `after={head}-{epoch}` on, or from the beginning with `after=0`"
    )]
    StaleCursor {
        /// The cursor, as it was sent.
        asked: String,
        /// The newest seq.
        head: u64,
        /// The id of this run of the stream.
        epoch: Epoch,
    },
    /// The archive cannot be read.
    #[error("the archive cannot be read: the server's log has the cause")]
    History(#[from] HistoryError),
    /// There is no session to show or to change.
    #[error("telemetry is not configured: `PUT /telemetry` starts a session")]
    NotConfigured,
    /// A source of events could not start.
    #[error("the source `{name}` could not start")]
    Source {
        /// The name of the source.
        name: String,
        /// Why it could not.
        #[source]
        reason: SourceError,
    },
    /// The gateway knows no instance of that name.
    #[error("no instance `{0}` is known: `GET /instances` lists those that are")]
    UnknownInstance(String),
    /// The instance did not answer the gateway.
    #[error(
        "the instance `{0}` did not answer in time; whether it did what was asked is not known, and the same \
         `X-Request-Id` can be used again"
    )]
    NoAnswer(String),
    /// A gateway publishes nothing.
    #[error("a gateway only reads: publish at the instance `{0}` itself")]
    OnlyAtInstance(String),
    /// The instance answered with this error.
    #[error("{}", .0.message)]
    OfInstance(ErrorBody),
    /// The cursor is of a run of this instance that a gateway has not come to.
    #[error("the cursor is of a run of `{0}` that this gateway has not come to yet: ask again")]
    LaterRun(String),
    /// The broker cannot be reached.
    #[error("the broker cannot be reached: the server's log has the cause")]
    Broker(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process is about to end: no session starts any more.
    #[error("the server is shutting down: try again once it has restarted")]
    ShuttingDown,
}

impl ApiError {
    /// The stable code for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Body(error) => error.code,
            Self::Event(error) => error.code(),
            Self::ReservedSource => ErrorCode::ReservedSource,
            Self::EventTooLarge(_) => ErrorCode::EventTooLarge,
            Self::Query(_) => ErrorCode::InvalidQuery,
            Self::StaleCursor { .. } => ErrorCode::Conflict,
            Self::History(_) => ErrorCode::Internal,
            Self::NotConfigured => ErrorCode::NotConfigured,
            Self::ShuttingDown => ErrorCode::Unavailable,
            Self::Source { .. } => ErrorCode::SourceFailed,
            Self::UnknownInstance(_) => ErrorCode::NotFound,
            Self::NoAnswer(_) => ErrorCode::NoAnswer,
            Self::OnlyAtInstance(_) => ErrorCode::MethodNotAllowed,
            Self::OfInstance(body) => body.code,
            Self::LaterRun(_) | Self::Broker(_) => ErrorCode::Unavailable,
        }
    }
}

/// The code, and the error's own message without its causes. Cut where the caller's own text in it makes it
/// too long, so that an answer does not grow with the request.
impl From<&ApiError> for ErrorBody {
    fn from(error: &ApiError) -> Self {
        const MAX_CHARS: usize = 800;
        let mut message = error.to_string();
        if let Some((end, _)) = message.char_indices().nth(MAX_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self::new(error.code(), message)
    }
}
