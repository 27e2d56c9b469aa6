//! The flags that `tapline serve`, `tapline demo` and `tapline gateway` share: the address, access control and limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use tapline_archive::ArchiveOptions;

use super::{Nats, NatsConnection, Otlp, capacity, capacity_bytes, not_none};
use crate::units;

/// The flags of everything that listens.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Listen {
    /// The address to listen on, or `:PORT` or `localhost:PORT` for 127.0.0.1; port 0 takes a free port. An address
    /// other than loopback needs a token
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10001", value_parser = units::address)]
    #[arg(env = "TAPLINE_LISTEN", hide_env_values = true)]
    pub(crate) listen: SocketAddr,

    /// What to log to standard error: off, error, warn, info, debug, trace, or a tracing filter
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    #[arg(env = "TAPLINE_LOG", hide_env_values = true)]
    pub(crate) log: String,

    /// The most time from a SIGTERM or Ctrl-C to the end of the program: for the browser to be detached, for
    /// streams to receive what is left, and for it to be exported
    #[arg(long, value_name = "TIME", default_value = "9s", value_parser = units::time)]
    #[arg(env = "TAPLINE_SHUTDOWN_TIMEOUT", hide_env_values = true)]
    pub(crate) shutdown_timeout: Duration,
}

/// The flags of every server of one stream, whatever its source of events is.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    #[command(flatten)]
    pub(crate) listen: Listen,

    /// Retain at most this many events, rounded up to a power of two; the oldest are dropped first
    #[arg(long, value_name = "EVENTS", default_value = "65536", value_parser = capacity)]
    #[arg(env = "TAPLINE_CAPACITY", hide_env_values = true)]
    pub(crate) capacity: usize,

    /// Use roughly this much memory for retained events; the oldest are dropped first
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = capacity_bytes)]
    #[arg(env = "TAPLINE_CAPACITY_BYTES", hide_env_values = true)]
    pub(crate) capacity_bytes: usize,

    /// Know the category of this many of the newest events, retained or not, at a byte each: so a loss is exact by category
    /// also for a reader that was away for long. Rounded up to a power of two, at most 4Gi; 0 switches it off
    #[arg(long, value_name = "EVENTS", default_value = "16Mi", value_parser = units::count)]
    #[arg(env = "TAPLINE_CATEGORY_LOG", hide_env_values = true)]
    pub(crate) category_log: usize,

    #[command(flatten)]
    pub(crate) archive: Archive,

    #[command(flatten)]
    pub(crate) dumps: Dumps,

    #[command(flatten)]
    pub(crate) access: Access,

    #[command(flatten)]
    pub(crate) streams: Streams,

    #[command(flatten)]
    pub(crate) limits: Limits,

    #[command(flatten)]
    pub(crate) otlp: Otlp,

    #[command(flatten)]
    pub(crate) nats: Nats,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Archive (docs/archive.md)")]
pub(crate) struct Archive {
    /// Store all events in this directory, compressed, and read there what is not in memory any more. It
    /// also has what earlier runs stored. Without it nothing touches the disk
    #[arg(long, value_name = "DIR")]
    #[arg(env = "TAPLINE_ARCHIVE", hide_env_values = true)]
    pub(crate) archive: Option<PathBuf>,

    /// Use at most this much of the disk; the oldest events are deleted first
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = archive_bytes)]
    #[arg(env = "TAPLINE_ARCHIVE_BYTES", hide_env_values = true)]
    pub(crate) archive_bytes: u64,

    /// Delete events that were stored longer ago than this; by default, age does not matter
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    #[arg(env = "TAPLINE_ARCHIVE_AGE", hide_env_values = true)]
    pub(crate) archive_age: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Dumps (docs/archive.md)")]
pub(crate) struct Dumps {
    /// When an event of this type happens, write what happened around it to a file; `*` matches any text;
    /// may be repeated, or joined by commas
    #[arg(
        long,
        value_name = "PATTERN",
        value_delimiter = ',',
        requires = "dump_dir"
    )]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_DUMP_ON", hide_env_values = true)]
    pub(crate) dump_on: Vec<String>,

    /// Write these files to this directory, at most 20, and one a minute; the oldest is deleted first. `tapline archive`
    /// reads them
    #[arg(long, value_name = "DIR", requires = "dump_on")]
    #[arg(env = "TAPLINE_DUMP_DIR", hide_env_values = true)]
    pub(crate) dump_dir: Option<PathBuf>,

    /// How much of the time before the event a file has
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = units::time)]
    #[arg(env = "TAPLINE_DUMP_BEFORE", hide_env_values = true)]
    pub(crate) dump_before: Duration,

    /// How much of the time after the event a file has
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::time)]
    #[arg(env = "TAPLINE_DUMP_AFTER", hide_env_values = true)]
    pub(crate) dump_after: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Access control and TLS (docs/security.md)")]
pub(crate) struct Access {
    /// Require the token in this file from every client: `Authorization: Bearer …`. Or put the token
    /// itself into TAPLINE_TOKEN; it has no flag, because other processes can see command lines
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Allow requests from pages of this origin, such as `https://app.example`; `*` allows all and needs
    /// a token; may be repeated, or joined by commas
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_ALLOW_ORIGIN", hide_env_values = true)]
    pub(crate) allow_origin: Vec<String>,

    /// Without a token, accept this host name too, besides localhost and loopback addresses; may be
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

    /// Use TLS, with the certificate chain in this file, in PEM
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
    /// Compress streams for clients that ask for it: fewer bytes, but more CPU time per stream
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_COMPRESS", hide_env_values = true)]
    pub(crate) compress: bool,

    /// Spread the reconnections of refused or disconnected streams over this time; by default it depends
    /// on how many they are
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    #[arg(env = "TAPLINE_RECONNECT_WINDOW", hide_env_values = true)]
    pub(crate) reconnect_window: Option<Duration>,

    /// Buffer at most this many bytes per stream, which is what a client that does not read costs
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = size)]
    #[arg(env = "TAPLINE_STREAM_BUFFER", hide_env_values = true)]
    pub(crate) stream_buffer: usize,

    /// Close a connection whose client has read nothing for this long
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = patience)]
    #[arg(env = "TAPLINE_STALL_TIMEOUT", hide_env_values = true)]
    pub(crate) stall_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Accept at most this many connections; fewer if the system allows fewer open files
    #[arg(long, value_name = "COUNT", default_value = "16384", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_CONNECTIONS", hide_env_values = true)]
    pub(crate) max_connections: usize,

    /// Accept at most this many connections from one address; behind a proxy all come from one
    #[arg(long, value_name = "COUNT", default_value = "16384", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_CONNECTIONS_PER_ADDRESS", hide_env_values = true)]
    pub(crate) max_connections_per_address: usize,

    /// Serve at most this many streams; the other connections are left for other requests
    #[arg(long, value_name = "COUNT", default_value = "16000", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_STREAMS", hide_env_values = true)]
    pub(crate) max_streams: usize,

    /// Close a connection after this many requests
    #[arg(long, value_name = "COUNT", default_value = "1M", value_parser = number)]
    #[arg(env = "TAPLINE_MAX_REQUESTS_PER_CONNECTION", hide_env_values = true)]
    pub(crate) max_requests_per_connection: usize,

    /// Refuse a request with a larger body
    #[arg(long, value_name = "BYTES", default_value = "8MiB", value_parser = size)]
    #[arg(env = "TAPLINE_MAX_BODY", hide_env_values = true)]
    pub(crate) max_body: usize,

    /// Refuse a request with a larger head, which is its first line and headers
    #[arg(long, value_name = "BYTES", default_value = "32KiB", value_parser = size)]
    #[arg(env = "TAPLINE_MAX_HEADERS", hide_env_values = true)]
    pub(crate) max_headers: usize,

    /// Allow this much time for the head of a request, and for a TLS handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = patience)]
    #[arg(env = "TAPLINE_HEADER_TIMEOUT", hide_env_values = true)]
    pub(crate) header_timeout: Duration,

    /// Close a connection whose request body has paused for this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = patience)]
    #[arg(env = "TAPLINE_BODY_TIMEOUT", hide_env_values = true)]
    pub(crate) body_timeout: Duration,

    /// Close a connection whose request body is not complete within this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = patience)]
    #[arg(env = "TAPLINE_BODY_TOTAL_TIMEOUT", hide_env_values = true)]
    pub(crate) body_total_timeout: Duration,

    /// Close a connection that has been idle for this long
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = patience)]
    #[arg(env = "TAPLINE_IDLE_TIMEOUT", hide_env_values = true)]
    pub(crate) idle_timeout: Duration,
}

/// What a gateway listens on, and where the instances are that it serves.
#[derive(Debug, clap::Args)]
pub(crate) struct Gateway {
    /// Serve the instances that store their events in these NATS servers: nats://HOST:PORT or tls://HOST:PORT, those of
    /// a cluster joined by commas. Needs nats-server 2.12 or later with JetStream
    #[arg(long, value_name = "URL")]
    #[arg(env = "TAPLINE_NATS", hide_env_values = true)]
    pub(crate) nats: String,

    #[command(flatten)]
    pub(crate) connection: NatsConnection,

    /// Keep at most this many events in memory of each instance that is read from; older ones are read from NATS
    #[arg(long, value_name = "EVENTS", default_value = "8192", value_parser = capacity)]
    #[arg(env = "TAPLINE_CAPACITY", hide_env_values = true)]
    pub(crate) capacity: usize,

    /// Use roughly this much memory for the events of each instance that is read from
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = capacity_bytes)]
    #[arg(env = "TAPLINE_CAPACITY_BYTES", hide_env_values = true)]
    pub(crate) capacity_bytes: usize,

    #[command(flatten)]
    pub(crate) listen: Listen,

    #[command(flatten)]
    pub(crate) access: Access,

    /// Accept also the tokens in this file, each for some instances: a line is `shop-*,till-1 TOKEN`. Needs the token that
    /// opens everything, and is read again as its file is
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Access control and TLS (docs/security.md)"
    )]
    #[arg(env = "TAPLINE_INSTANCE_TOKENS", hide_env_values = true)]
    pub(crate) instance_tokens: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) streams: Streams,

    #[command(flatten)]
    pub(crate) limits: Limits,
}

fn number(text: &str) -> Result<usize, String> {
    not_none(units::count(text), "it must be at least 1")
}

fn size(text: &str) -> Result<usize, String> {
    not_none(units::bytes(text), "it must be at least one byte")
}

fn archive_bytes(text: &str) -> Result<u64, String> {
    let least = ArchiveOptions::LEAST_BYTES;
    match units::bytes(text) {
        Ok(bytes) if (bytes as u64) < least => {
            Err(format!("an archive needs at least {least} bytes"))
        }
        Ok(bytes) => Ok(bytes as u64),
        Err(error) => Err(error.to_string()),
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(Duration::ZERO) => {
            Err("the time must be longer than zero, such as 250ms or 15s".to_owned())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
