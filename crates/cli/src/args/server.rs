//! What `tapline serve` and `tapline demo` have in common: where to listen, who may, and how much.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};

use super::{capacity, capacity_bytes, not_none};
use crate::units;

/// What a server is made of, whatever feeds it.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    /// The address to listen on; port 0 takes a free one. Others than loopback need a token
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10001")]
    #[arg(env = "TAPLINE_LISTEN", hide_env_values = true)]
    pub(crate) listen: SocketAddr,

    /// How many events are retained, rounded up to a power of two; the oldest goes first
    #[arg(long, value_name = "EVENTS", default_value = "65536", value_parser = capacity)]
    #[arg(env = "TAPLINE_CAPACITY", hide_env_values = true)]
    pub(crate) capacity: usize,

    /// How much memory the retained events may take, roughly; the oldest goes first
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = capacity_bytes)]
    #[arg(env = "TAPLINE_CAPACITY_BYTES", hide_env_values = true)]
    pub(crate) capacity_bytes: usize,

    /// What to log to standard error: off, error, warn, info, debug, trace, or a tracing filter
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    #[arg(env = "TAPLINE_LOG", hide_env_values = true)]
    pub(crate) log: String,

    /// The most time from a SIGTERM or Ctrl-C to the end of the program: for the browser to be detached, and
    /// for streams to receive what is left
    #[arg(long, value_name = "TIME", default_value = "9s", value_parser = units::time)]
    #[arg(env = "TAPLINE_SHUTDOWN_TIMEOUT", hide_env_values = true)]
    pub(crate) shutdown_timeout: Duration,

    #[command(flatten)]
    pub(crate) access: Access,

    #[command(flatten)]
    pub(crate) streams: Streams,

    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Who may, and how it is kept secret (docs/security.md)")]
pub(crate) struct Access {
    /// Who calls must show the token in this file: `Authorization: Bearer …`. Or put the token itself
    /// into TAPLINE_TOKEN; there is no flag for it, since everybody here can see those
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Pages of this origin may call, too, such as `https://app.example`; `*` is any and needs a token;
    /// may be repeated, or joined by commas
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_ALLOW_ORIGIN", hide_env_values = true)]
    pub(crate) allow_origin: Vec<String>,

    /// Without a token, answer also to this name, beside localhost and loopback addresses; may be
    /// repeated, or joined by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_HOST", hide_env_values = true)]
    pub(crate) host: Vec<String>,

    /// Allow also the origins and names in this file: a line is `origin https://app.example` or `host
    /// tapline.internal`. It is read again at SIGHUP and when it has changed, as are the files of the
    /// token, the certificate and the key
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_ALLOW_FILE", hide_env_values = true)]
    pub(crate) allow_file: Option<PathBuf>,

    /// Speak TLS, with the certificate in this file and those that lead to it, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    #[arg(env = "TAPLINE_TLS_CERT", hide_env_values = true)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM, not encrypted
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    #[arg(env = "TAPLINE_TLS_KEY", hide_env_values = true)]
    pub(crate) tls_key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Streams")]
pub(crate) struct Streams {
    /// Compress streams for those who ask for it: less to send, and more work for each of them
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_COMPRESS", hide_env_values = true)]
    pub(crate) compress: bool,

    /// Over how long a time those who are sent away come back; left out, as long as so many take
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    #[arg(env = "TAPLINE_RECONNECT_WINDOW", hide_env_values = true)]
    pub(crate) reconnect_window: Option<Duration>,

    /// How many bytes are made ready at once for a stream: what one that does not read costs
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = size)]
    #[arg(env = "TAPLINE_STREAM_BUFFER", hide_env_values = true)]
    pub(crate) stream_buffer: usize,

    /// How long a client may take nothing of what is sent to it, before its connection is closed
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = patience)]
    #[arg(env = "TAPLINE_STALL_TIMEOUT", hide_env_values = true)]
    pub(crate) stall_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How much a client may take")]
pub(crate) struct Limits {
    /// How many connections there may be; fewer where the system allows fewer open files
    #[arg(long, value_name = "COUNT", default_value = "16384", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_CONNECTIONS", hide_env_values = true)]
    pub(crate) max_connections: usize,

    /// How many of them may come from one address; behind a proxy all do
    #[arg(long, value_name = "COUNT", default_value = "16384", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_CONNECTIONS_PER_ADDRESS", hide_env_values = true)]
    pub(crate) max_connections_per_address: usize,

    /// How many of them may be streams; the others are left to publish and to look
    #[arg(long, value_name = "COUNT", default_value = "16000", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_STREAMS", hide_env_values = true)]
    pub(crate) max_streams: usize,

    /// How many requests a connection carries before it is closed
    #[arg(long, value_name = "COUNT", default_value = "1M", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_REQUESTS_PER_CONNECTION", hide_env_values = true)]
    pub(crate) max_requests_per_connection: usize,

    /// The largest body of a request
    #[arg(long, value_name = "BYTES", default_value = "8MiB", value_parser = size)]
    #[arg(env = "TAPLINE_MAX_BODY", hide_env_values = true)]
    pub(crate) max_body: usize,

    /// The largest head of a request, its first line included
    #[arg(long, value_name = "BYTES", default_value = "32KiB", value_parser = size)]
    #[arg(env = "TAPLINE_MAX_HEADERS", hide_env_values = true)]
    pub(crate) max_headers: usize,

    /// How long the head of a request may take, and a TLS handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = patience)]
    #[arg(env = "TAPLINE_HEADER_TIMEOUT", hide_env_values = true)]
    pub(crate) header_timeout: Duration,

    /// How long the body of a request may pause
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = patience)]
    #[arg(env = "TAPLINE_BODY_TIMEOUT", hide_env_values = true)]
    pub(crate) body_timeout: Duration,

    /// How long a connection may be kept without a request
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = patience)]
    #[arg(env = "TAPLINE_IDLE_TIMEOUT", hide_env_values = true)]
    pub(crate) idle_timeout: Duration,
}

fn number(text: &str) -> Result<usize, String> {
    not_none(units::count(text), "none at all would be no server")
}

fn size(text: &str) -> Result<usize, String> {
    not_none(units::bytes(text), "at least one byte has to be allowed")
}

fn patience(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(Duration::ZERO) => Err("nobody is that fast".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
