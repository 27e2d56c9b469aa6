//! How a command fails: one line on standard error, and an exit code.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tapline_access::{AllowListError, InstanceTokensError, LoadError, TokenError};
use tapline_api::ApiError;
use tapline_archive::ArchiveError;
use tapline_cdp::RecordingError;
use tapline_client::{CursorError, Error as ClientError};
use tapline_nats::NatsError;
use tapline_otlp::OtlpError;
use tapline_relay::RelayError;

/// Why a command failed. `Display` describes its own level only; [`report`](Self::report) prints the
/// whole chain, once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Flags that are well-formed, but make no sense. The only one with exit code 2.
    #[error("{0}")]
    Usage(String),
    #[error("cannot listen on {address} (--listen)")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Access(LoadError),
    #[error(transparent)]
    Relay(RelayError),
    #[error("{flag} cannot be used")]
    Directory {
        flag: &'static str,
        source: ArchiveError,
    },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("cannot start a session")]
    Session(#[source] ApiError),
    #[error("the server failed")]
    Serve(#[source] io::Error),
    /// Standard output accepts nothing more.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("cannot read {what}")]
    Read { what: String, source: io::Error },
    /// A line of a file that cannot be understood. Lines count from 1.
    #[error("{}, line {line}: expected {expected}", path.display())]
    Line {
        path: PathBuf,
        line: u64,
        expected: &'static str,
    },
    /// Neither a file nor a range of time, where `diff` takes either.
    #[error(
        "there is no file {0}; a range of time is written with two dots, such as 5m.. or 5m..1m"
    )]
    NoSide(String),
    /// A HAR where events are needed.
    #[error("{} is a HAR, which has requests and pages, and no events; open it with `tapline view {}`", .0.display(), .0.display())]
    Har(PathBuf),
    /// What `tapline record` writes, where events are needed.
    #[error("{} is a recording of DevTools messages, and not a file of events; make one of it with `tapline replay {} --speed max --print > events.ndjson`", .0.display(), .0.display())]
    Messages(PathBuf),
    /// A file that is not what `tapline record` writes, or is cut.
    #[error("cannot read the recording {what}")]
    Recording {
        what: String,
        source: RecordingError,
    },
    #[error("cannot write {what}")]
    Write { what: String, source: io::Error },
    #[error("cannot start {}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot store the cursor in {}", path.display())]
    StoreCursor { path: PathBuf, source: io::Error },
    #[error("{} holds no cursor", path.display())]
    StoredCursor { path: PathBuf, source: CursorError },
    #[error(transparent)]
    Server(#[from] ClientError),
    #[error("lines {from} to {to} were not taken")]
    Batch {
        from: u64,
        to: u64,
        source: ClientError,
    },
    #[error("{0} of the lines were refused")]
    Refused(u64),
    #[error("the archive is not intact: {0} of the findings are not repaired")]
    Defects(usize),
    /// The Model Context Protocol, with an agent.
    #[error("the agent's messages cannot be read")]
    Protocol(#[source] Box<dyn StdError + Send + Sync>),
    #[error("the agent closed standard input before it sent `initialize`")]
    NoAgent,
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

/// A malformed entry of a flag is wrong usage, and a flag that needs another one.
impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::AllowList(AllowListError::Entry(entry)) => Self::Usage(entry.to_string()),
            LoadError::InstanceTokens(error @ InstanceTokensError::NoToken) => {
                Self::Usage(error.to_string())
            }
            error => Self::Access(error),
        }
    }
}

impl Failure {
    /// Prints what went wrong, unless standard output is a pipe whose reader is gone. Returns the exit
    /// code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            // `tapline tail | head -1` has succeeded.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Usage(_) => {
                say(&format!(
                    "{}\n\nFor more information, try '--help'.",
                    chain(self)
                ));
                ExitCode::from(2)
            }
            _ => {
                say(&self.in_words());
                ExitCode::FAILURE
            }
        }
    }

    /// What went wrong, why, and what to do about it.
    pub(crate) fn in_words(&self) -> String {
        match self.fix() {
            Some(fix) => format!("{}; {fix}", chain(self)),
            None => chain(self),
        }
    }

    /// What to do about it, where the flags of this program are the fix.
    fn fix(&self) -> Option<String> {
        match self {
            Self::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                let free = SocketAddr::new(address.ip(), 0);
                Some(format!(
                    "pass another port, or --listen {free} for a free one"
                ))
            }
            Self::Server(ClientError::Unreachable { source, .. })
            | Self::Batch {
                source: ClientError::Unreachable { source, .. },
                ..
            } => Some(match source.kind() {
                // rustls has no other name for bytes that are not its own.
                io::ErrorKind::InvalidData if source.to_string().contains("InvalidContentType") => {
                    "what answers there does not speak TLS: write http:// in --url".to_owned()
                }
                // A handshake that failed.
                io::ErrorKind::InvalidData => {
                    "if the certificate is its own or your company's, pass the one that signed it with --ca-file"
                        .to_owned()
                }
                io::ErrorKind::ConnectionRefused => {
                    "start a server with `tapline serve`, or pass the address of a running one \
                     with --url"
                        .to_owned()
                }
                _ => "check the address that --url names".to_owned(),
            }),
            Self::Server(ClientError::Certificates { of, .. }) => Some(match of.as_str() {
                "the system" => {
                    "pass the certificate that signed the server's with --ca-file".to_owned()
                }
                _ => "--ca-file names a file with certificates in PEM".to_owned(),
            }),
            Self::Recording { .. } => Some(
                "`tapline record` writes recordings; `tapline view` shows a file of events"
                    .to_owned(),
            ),
            // Our own server gives a reason for it.
            Self::Server(ClientError::Refused {
                status: 404 | 405 | 501,
                body: None,
            }) => Some(
                "it does not answer like a Tapline server: check the address that --url names, and its path"
                    .to_owned(),
            ),
            Self::Server(error)
            | Self::Batch { source: error, .. } if error.status() == Some(401) => Some(
                "pass the file with the server's token with --token-file, or put the token into \
                 TAPLINE_TOKEN"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Prints one line on standard error, after the program's name. A closed standard error is ignored.
pub(crate) fn say(text: &str) {
    use io::Write as _;
    let _ = writeln!(io::stderr(), "tapline: {text}");
}

/// The error and what led to it: `cannot reach http://…: Connection refused`.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
