//! Why NATS cannot be used.

use std::io;
use std::path::PathBuf;

use crate::connect::MIN_VERSION;
use crate::message::MessageError;

/// A boxed error of the client.
pub type ClientError = Box<dyn std::error::Error + Send + Sync>;

/// Why NATS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A URL cannot be used.
    #[error("NATS: the URL `{url}` cannot be used: {reason}")]
    Url {
        /// The URL, without what may be secret.
        url: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// An option is out of its range.
    #[error("NATS: {0}")]
    OutOfRange(&'static str),
    /// The file with the credentials cannot be read.
    #[error("the NATS credentials file {} cannot be read", path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file with the credentials has none that can be used.
    #[error("the NATS credentials file {} cannot be used: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// The server does not accept the credentials, or TLS to it cannot be used.
    #[error("the NATS server {url} cannot be used: {hint}")]
    Refused {
        /// The servers.
        url: String,
        /// The likely reason, and what to do.
        hint: String,
        /// What the client says.
        source: ClientError,
    },
    /// No server answers. A later attempt may succeed.
    #[error("no NATS server answers at {url}")]
    Unreachable {
        /// The servers.
        url: String,
        /// What the client says.
        source: ClientError,
    },
    /// The server is too old.
    #[error(
        "the NATS server {url} has version {found}, and at least {}.{} is needed, for atomic batches and batched direct \
         gets; update the server",
        MIN_VERSION.0,
        MIN_VERSION.1
    )]
    Version {
        /// The servers.
        url: String,
        /// The version of the one that has answered.
        found: String,
    },
    /// The server does not answer a request to JetStream, or has an error. A later attempt may succeed.
    #[error("the NATS server {url} does not {operation}; {hint}")]
    JetStream {
        /// The servers.
        url: String,
        /// What it was to do.
        operation: String,
        /// What may be the reason.
        hint: String,
        /// What the client says.
        source: ClientError,
    },
    /// There are no streams.
    #[error(
        "the NATS server {url} has no streams of Tapline: an instance with `--nats` creates them when it starts"
    )]
    NoStreams {
        /// The servers.
        url: String,
    },
    /// A stream is not what was asked for.
    #[error(
        "the NATS stream {stream} has {field} {found}, and {asked} was asked for; streams are never changed here: ask \
         for {found}, or change the stream by hand"
    )]
    Stream {
        /// The stream.
        stream: String,
        /// The setting.
        field: &'static str,
        /// What the stream has.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// A stream has the name of one of ours, and was made by another program or another version.
    #[error("the NATS stream {stream} cannot be used: {reason}")]
    NotOurs {
        /// The stream.
        stream: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A stored message cannot be read.
    #[error("message {sequence} of the NATS stream {stream} cannot be read")]
    Message {
        /// The stream.
        stream: String,
        /// Its place in the stream.
        sequence: u64,
        /// Why.
        source: MessageError,
    },
}

impl NatsError {
    /// Whether the same attempt may succeed later, without a change by hand.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::JetStream { .. } | Self::NoStreams { .. }
        )
    }
}

/// An error with its sources, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some errors of the client repeat their source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
