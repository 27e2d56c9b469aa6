//! What can go wrong between a client and its server, split by who is at fault.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use tapline_oapi::ErrorBody;

/// Why a call or a stream failed. `Display` tells this level alone; `source()` tells the rest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none that a server could have. The caller's fault.
    #[error("`{url}` is not the address of a server: {reason}")]
    InvalidUrl {
        /// The address as it was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token holds characters that no header can carry. The caller's fault; the message does
    /// not show it.
    #[error("the token holds characters that cannot be sent")]
    InvalidToken,
    /// No connection: nothing listens there, or the name is not known, or the network is down.
    #[error("cannot reach {url}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server said nothing for too long.
    #[error("{url} said nothing for {} s", after.as_secs_f32())]
    TimedOut {
        /// The server's address.
        url: String,
        /// For how long.
        after: Duration,
    },
    /// The connection was there, and broke. What was sent may or may not have been acted upon.
    #[error("the connection to {url} broke")]
    Disconnected {
        /// The server's address.
        url: String,
        /// What broke it; `None` where the server just ended it.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The server understood, and said no.
    #[error("the server refused with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says about it; `None` where that cannot be read.
        #[source]
        body: Option<ErrorBody>,
    },
    /// What came back is nothing that a Tapline server sends.
    #[error("{url} does not answer as a Tapline server does")]
    Protocol {
        /// The server's address.
        url: String,
        /// What it did instead.
        source: ProtocolError,
    },
}

impl Error {
    /// The HTTP status, where the server refused.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same thing, tried again, may well work: the server is away, slow, or at fault
    /// itself. A stream that was connected once goes on trying after such an error.
    ///
    /// A 4xx answer is final, but for the two that are made for trying later (408 and 429).
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Disconnected { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || matches!(*status, 408 | 429),
            Self::InvalidUrl { .. } | Self::InvalidToken | Self::Protocol { .. } => false,
        }
    }
}

/// What a peer did that no Tapline server does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An answer with a status that the call does not have.
    #[error("status {0} is no answer to this call")]
    Status(u16),
    /// A stream of another media type.
    #[error("the stream is `{0}`, not `text/event-stream`")]
    MediaType(String),
    /// An answer without a header that it should have, or with something else in it.
    #[error("the header `{0}` is missing, or not what this call answers with")]
    Header(&'static str),
    /// A body that is not the JSON that the call answers with.
    #[error("the body is not what this call answers with")]
    Body(#[source] serde_json::Error),
    /// An answer larger than any of the calls has.
    #[error("the body has more than {0} bytes")]
    BodyTooLarge(usize),
    /// A frame of the stream larger than any envelope can be.
    #[error("a frame of the stream has more than {0} bytes")]
    FrameTooLarge(usize),
    /// A frame that is not UTF-8.
    #[error("a frame of the stream is not UTF-8")]
    NotUtf8,
    /// An event without a seq, neither in its id nor in its envelope.
    #[error("an event of the stream has no seq")]
    NoSeq,
    /// A notice that does not hold what its name promises.
    #[error("the notice `{name}` is not what it should be")]
    Notice {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}
