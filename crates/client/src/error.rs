//! Errors, split by cause: the caller, the network, or the server.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use tapline_oapi::ErrorBody;

/// Why a call or a stream failed. `Display` describes this level only; `source()` returns the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is not the address of a server.
    #[error("`{url}` is not the address of a server: {reason}")]
    InvalidUrl {
        /// The URL that was given.
        url: String,
        /// What is wrong with it, and the fix.
        reason: &'static str,
    },
    /// The token contains characters that an HTTP header cannot carry. The message does not show the
    /// token.
    #[error(
        "the token contains characters that an HTTP header cannot carry; check for line breaks and control characters"
    )]
    InvalidToken,
    /// The certificates that are trusted cannot be read: those of a file, or those of the system.
    #[error("cannot use the certificates of {of}")]
    Certificates {
        /// The file, or `the system`.
        of: String,
        /// Why not.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No connection: no server listens there, the host name is unknown, or the network is down.
    #[error("cannot reach {url}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The server sent nothing for too long.
    #[error("{url} sent nothing for {} s", after.as_secs_f32())]
    TimedOut {
        /// The server's address.
        url: String,
        /// For how long.
        after: Duration,
    },
    /// The connection was established and then broke. The request may or may not have taken effect.
    #[error("the connection to {url} broke")]
    Disconnected {
        /// The server's address.
        url: String,
        /// The cause; `None` if the server closed the connection.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The server refused the request.
    #[error("the server refused with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's reason and the fix; `None` if the body is not an error of Tapline.
        #[source]
        body: Option<ErrorBody>,
    },
    /// The answer is not one of a Tapline server.
    #[error("{url} does not answer like a Tapline server; check the address and its path")]
    Protocol {
        /// The server's address.
        url: String,
        /// What is wrong with the answer.
        source: ProtocolError,
    },
}

impl Error {
    /// The HTTP status, if the server refused the request.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether a retry may succeed: the server is unreachable, slow, or failed. A stream that was connected
    /// once reconnects after such an error.
    ///
    /// A 4xx answer is final, except 408 and 429, which mean "try again later".
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Disconnected { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || matches!(*status, 408 | 429),
            Self::InvalidUrl { .. }
            | Self::InvalidToken
            | Self::Certificates { .. }
            | Self::Protocol { .. } => false,
        }
    }
}

/// How an answer differs from those of a Tapline server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The answer is not HTTP.
    #[error("the answer is not HTTP")]
    NotHttp(#[source] Box<dyn StdError + Send + Sync>),
    /// A status that this call never has.
    #[error("status {0} is not an answer to this call")]
    Status(u16),
    /// A stream with another media type.
    #[error("the stream is `{0}`, not `text/event-stream`")]
    MediaType(String),
    /// A header is missing or has an invalid value.
    #[error("the header `{0}` is missing or invalid")]
    Header(&'static str),
    /// The body is not the JSON that this call returns.
    #[error("the body is not the JSON that this call returns")]
    Body(#[source] serde_json::Error),
    /// The body is larger than that of any call. Holds the limit in bytes.
    #[error("the body has more than {0} bytes")]
    BodyTooLarge(usize),
    /// A frame of the stream is larger than any envelope can be. Holds the limit in bytes.
    #[error("a frame of the stream has more than {0} bytes")]
    FrameTooLarge(usize),
    /// A frame of the stream is not UTF-8.
    #[error("a frame of the stream is not UTF-8")]
    NotUtf8,
    /// An event has no seq, neither in its id nor in its envelope.
    #[error("an event of the stream has no seq")]
    NoSeq,
    /// The data of a notice is not valid for its name.
    #[error("the data of the notice `{name}` is not valid")]
    Notice {
        /// The name of the notice.
        name: String,
        /// Why its data is not valid.
        source: serde_json::Error,
    },
}
