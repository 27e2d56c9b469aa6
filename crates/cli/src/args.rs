//! The flags and arguments of the command line. Every flag has an environment variable of its own;
//! the flag wins.

mod server;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{
    BoolishValueParser, NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser,
};
use clap::{ColorChoice, Parser, Subcommand, ValueEnum};
use tapline_cdp::Endpoint;
use tapline_client::Cursor;
use tapline_nats::InstanceName;
use tapline_oapi::{Category, SourceKind};

use crate::player::Pace;
use crate::template::Template;
use crate::units::{self, InvalidNumber};
pub(crate) use server::{Access, Archive, Dumps, Gateway, Limits, Server, Streams};

pub(crate) mod archive;
pub(crate) mod browser;
pub(crate) mod look;
pub(crate) mod mcp;
mod nats;
mod otlp;
pub(crate) mod session;

pub(crate) use browser::{Browser, Redact, Retries};
pub(crate) use nats::{Nats, NatsConnection};
pub(crate) use otlp::Otlp;

/// A live stream of the events of a browser or agent sandbox: serve it, publish into it, follow it.
#[derive(Debug, Parser)]
#[command(name = "tapline", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tapline demo                              a server with a demo browser, or with a recording of one
  tapline why                               what went wrong
  tapline requests --failed                 which requests failed
  tapline tail                              prints events as they happen
  tapline doctor                            checks the server and the way to it, and says what to do
  tapline export --out session.har          the requests of the retained events, for other tools
  tapline serve --start                     a server that captures events from the beginning
  tapline serve --start --cdp http://127.0.0.1:9222      and publishes what happens in that browser
  tapline publish --type checkout_done --category page --data '{\"total\":12.5}'

Every flag has an environment variable, shown beside it; the flag wins.
Exit codes: 0 done, 1 failed, 2 wrong usage; `why`, `diff`, `run`, `wait` and `doctor` have others.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server: one stream of events, over HTTP and Server-Sent Events
    Serve(Serve),
    /// Serve many servers that store their events in NATS, from anywhere: the same routes for each, by its name
    #[command(after_help = GATEWAY_EXAMPLES)]
    Gateway(Gateway),
    /// Run a server with a demo browser, or with a recording where no browser is installed
    Demo(Demo),
    /// Show a server's session, what is captured, its readers and its sinks
    Status(session::Status),
    /// Start a session: events are captured from now on
    Start(session::Start),
    /// Stop the session: nothing is captured any more, and what was captured stays
    Stop(session::Stop),
    /// Show what went wrong: failed requests, errors and crashes, with causes and consequences
    Why(look::Why),
    /// List the requests, with status, size and time
    Requests(look::Requests),
    /// Compare the requests and errors of two files of events, or of two ranges of time
    Diff(look::Diff),
    /// Run a command, and show what went wrong meanwhile if it fails
    Run(Run),
    /// Show the rates of events, requests in flight, readers and sinks, redrawn each second
    Top(look::Top),
    /// Check the server and the way to it, and say what to do
    Doctor(look::Doctor),
    /// Follow the events of a server, and report how many were lost
    Tail(Tail),
    /// Wait for an event, for scripts
    Wait(session::Wait),
    /// Answer the questions of agents about a server or a file, over the Model Context Protocol
    Mcp(mcp::Mcp),
    /// Publish one event, or many from a file
    Publish(Publish),
    /// Make a HAR, a trace, NDJSON or a page of events, from a server or from a file
    Export(Export),
    /// Show a file of events in the live page
    View(View),
    /// Record a browser's DevTools messages to a file, secrets included
    Record(Record),
    /// Run a server that publishes a recording, or print the recording's events
    Replay(Recording),
    /// Read the events that a server has archived, check them, export them, delete them
    Archive(archive::Archive),
    /// Print a script that completes commands and flags in a shell
    Completions(Completions),
    /// Print the manual page, or write all pages into a directory
    Man(Man),
}

impl Command {
    /// The names of types, and patterns of them, that it was given.
    pub(crate) fn types(&self) -> &[String] {
        match self {
            Self::Tail(args) => &args.types,
            Self::Wait(args) => &args.types,
            Self::Export(args) => &args.types,
            Self::Archive(args) => args.command.types(),
            Self::Publish(args) => args.event_type.as_slice(),
            _ => &[],
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Show what happened also if the command succeeds
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_RUN_ALWAYS", hide_env_values = true)]
    pub(crate) always: bool,

    /// Write the events to this directory instead of the current one
    #[arg(long, value_name = "DIR", conflicts_with = "no_dump")]
    #[arg(env = "TAPLINE_RUN_DUMP_DIR", hide_env_values = true)]
    pub(crate) dump_dir: Option<PathBuf>,

    /// Write no file of the events
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_RUN_NO_DUMP", hide_env_values = true)]
    pub(crate) no_dump: bool,

    /// Show times in UTC instead of local time
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_UTC", hide_env_values = true)]
    pub(crate) utc: bool,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub(crate) command: Vec<String>,
}

const RUN_EXAMPLES: &str = "\
Starts a session if none is running, and stops that one afterwards. If the command fails, it prints to standard error \
what `tapline why` says about the time meanwhile, and writes the events to a file. The exit code is that of the command, \
or 128 and the number of the signal that ended it; 127 if the command does not exist, and 126 if it cannot be executed.

Examples:
  tapline run -- npx playwright test
  tapline run --dump-dir artifacts -- ./agent --task checkout";

#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    #[arg(env = "TAPLINE_COMPLETIONS_SHELL", hide_env_values = true)]
    pub(crate) shell: clap_complete::Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tapline completions bash > /etc/bash_completion.d/tapline
  tapline completions zsh > \"${fpath[1]}/_tapline\"
  tapline completions fish > ~/.config/fish/completions/tapline.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct Man {
    /// Write a page for the program and for each command into this directory
    #[arg(long, value_name = "DIR")]
    #[arg(env = "TAPLINE_MAN_DIR", hide_env_values = true)]
    pub(crate) dir: Option<PathBuf>,
}

const MAN_EXAMPLES: &str = "\
Examples:
  tapline man | man -l -
  tapline man --dir /usr/local/share/man/man1";

#[derive(Debug, clap::Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct Serve {
    /// Start capturing all categories immediately, instead of waiting for PUT /telemetry
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_START", hide_env_values = true)]
    pub(crate) start: bool,

    #[command(flatten)]
    pub(crate) browser: Browser,

    /// Report processes that the kernel kills because memory runs out, read from /dev/kmsg, or from a
    /// file or FIFO with the kernel's log
    #[arg(long, value_name = "PATH", help_heading = "Kernel log")]
    #[arg(env = "TAPLINE_KERNEL_LOG", hide_env_values = true)]
    pub(crate) kernel_log: Option<PathBuf>,

    // Last, since its headings hold for all that follows.
    #[command(flatten)]
    pub(crate) server: Server,
}

const GATEWAY_EXAMPLES: &str = "\
Prints `listening on http://ADDR:PORT` (https with TLS) on standard output when it is ready. It keeps nothing: there can be \
any number of gateways, and a client resumes at any of them.

Examples:
  tapline serve --start --nats nats://127.0.0.1:4222 --instance shop-1     a server whose events are stored in NATS
  tapline gateway --nats nats://127.0.0.1:4222 --listen :10002             a gateway to all that do so
  curl http://127.0.0.1:10002/instances                                    which there are
  tapline tail --url http://127.0.0.1:10002/instances/shop-1               follows one of them";

const SERVE_EXAMPLES: &str = "\
Prints `listening on http://ADDR:PORT` (https with TLS) on standard output when it is ready. SIGTERM \
or Ctrl-C stops it gracefully, a second one immediately. Sizes are written as 64KiB or 8MB, times as \
250ms, 15s, 2m, 1h or 7d.

Examples:
  tapline serve --start
  tapline serve --listen 127.0.0.1:0 --capacity 1Mi --capacity-bytes 1GiB
  tapline serve --listen 0.0.0.0:10001 --token-file token --tls-cert cert.pem --tls-key key.pem
  tapline serve --allow-origin http://localhost:3000      a page on another port may follow
  tapline serve --start --cdp http://127.0.0.1:9222 --redact-field password --redact-query token";

#[derive(Debug, clap::Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// Replay the recording even if a browser is installed: 1 is the original speed, 10 ten times that
    #[arg(long, value_name = "FACTOR", value_parser = speed, conflicts_with = "browser")]
    #[arg(env = "TAPLINE_DEMO_SPEED", hide_env_values = true)]
    pub(crate) speed: Option<f64>,

    /// Use this browser instead of the first of chromium, chromium-browser and google-chrome
    #[arg(long, value_name = "PATH")]
    #[arg(env = "TAPLINE_BROWSER", hide_env_values = true)]
    pub(crate) browser: Option<PathBuf>,

    // Last, since its headings hold for all that follows.
    #[command(flatten)]
    pub(crate) server: Server,
}

const DEMO_EXAMPLES: &str = "\
The browser runs without a window and with a temporary profile. It visits a small shop on loopback \
in which something happens every second.

The recording: 42 seconds of a small shop in Chromium, with errors, a redirect, a worker, a popup \
and a crash, then a large web application; 313 events.

Examples:
  tapline demo
  tapline demo --speed 20 --listen 127.0.0.1:0";

#[derive(Debug, clap::Args)]
#[command(after_help = RECORD_EXAMPLES)]
pub(crate) struct Record {
    /// The browser's DevTools address, such as http://127.0.0.1:9222; the browser may start later
    #[arg(long, value_name = "URL")]
    #[arg(env = "TAPLINE_CDP", hide_env_values = true)]
    pub(crate) cdp: Endpoint,

    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_RECORD_OUT", hide_env_values = true)]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) retries: Retries,

    /// What to log to standard error: off, error, warn, info, debug, trace, or a tracing filter
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    #[arg(env = "TAPLINE_LOG", hide_env_values = true)]
    pub(crate) log: String,
}

const RECORD_EXAMPLES: &str = "\
A recording HOLDS SECRETS: cookies, headers, bodies, everything that pages and servers exchange. \
Only its owner can read the file. Redaction happens when it is replayed.

One message a line, with its time in microseconds and its direction: {\"t\":…,\"dir\":\"in\",\"msg\":{…}}. \
Ctrl-C or SIGTERM ends it gracefully.

Example:
  tapline record --cdp http://127.0.0.1:9222 --out session.ndjson";

#[derive(Debug, clap::Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct Recording {
    /// What `tapline record` wrote
    #[arg(value_name = "FILE")]
    #[arg(env = "TAPLINE_REPLAY_FILE", hide_env_values = true)]
    pub(crate) file: PathBuf,

    /// How fast: 1 is the original speed, 10 ten times that; max publishes everything immediately, with
    /// the recorded times
    #[arg(long, value_name = "FACTOR|max", default_value = "1", value_parser = pace)]
    #[arg(env = "TAPLINE_REPLAY_SPEED", hide_env_values = true)]
    pub(crate) speed: Pace,

    /// Print the events, one a line, instead of serving them
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_REPLAY_PRINT", hide_env_values = true)]
    pub(crate) print: bool,

    #[command(flatten)]
    pub(crate) redaction: Redact,

    #[command(flatten)]
    pub(crate) server: Server,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  tapline replay session.ndjson --speed 10
  tapline replay session.ndjson --speed max --redact-field password
  tapline replay session.ndjson --speed max --print | tapline publish --file -      to a running server";

/// Which server to talk to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Remote {
    /// The server's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10001")]
    #[arg(env = "TAPLINE_URL", hide_env_values = true)]
    url: String,

    /// The server is a gateway, and this is the instance that is meant: short for URL/instances/NAME
    #[arg(long, value_name = "NAME")]
    #[arg(env = "TAPLINE_REMOTE_INSTANCE", hide_env_values = true)]
    instance: Option<InstanceName>,

    /// The server's token is in this file; or put the token itself into TAPLINE_TOKEN
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Trust a server behind https:// if one of the certificates in this file (PEM) signed its own; by default the
    /// system decides
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_CA_FILE", hide_env_values = true)]
    pub(crate) ca_file: Option<PathBuf>,
}

impl Remote {
    /// The address of the server, or of the instance behind it.
    pub(crate) fn url(&self) -> Cow<'_, str> {
        match &self.instance {
            Some(name) => format!("{}/instances/{name}", self.url.trim_end_matches('/')).into(),
            None => (&*self.url).into(),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = PUBLISH_EXAMPLES)]
#[command(group(clap::ArgGroup::new("what").args(["event_type", "file"]).required(true)))]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// The type of the one event to publish, such as console_log or one of your own
    #[arg(long = "type", value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_PUBLISH_TYPE", hide_env_values = true)]
    pub(crate) event_type: Option<String>,

    /// Its category; optional for a known type, whose own category always wins
    #[arg(long, conflicts_with = "file", value_parser = category())]
    #[arg(env = "TAPLINE_PUBLISH_CATEGORY", hide_env_values = true)]
    pub(crate) category: Option<Category>,

    /// Its data: any JSON, such as '{"total":12.5}'; it is carried byte for byte
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    #[arg(env = "TAPLINE_PUBLISH_DATA", hide_env_values = true)]
    pub(crate) data: Option<String>,

    /// When it happened, in microseconds since the Unix epoch; by default the time of publishing
    #[arg(long, value_name = "MICROS", conflicts_with = "file")]
    #[arg(env = "TAPLINE_PUBLISH_TS", hide_env_values = true)]
    pub(crate) ts: Option<u64>,

    /// What kind of producer it comes from
    #[arg(long, value_name = "KIND", default_value = "local_process")]
    #[arg(env = "TAPLINE_PUBLISH_SOURCE_KIND", hide_env_values = true)]
    pub(crate) source_kind: Kind,

    /// The producer's own name for what happened
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    #[arg(env = "TAPLINE_PUBLISH_SOURCE_EVENT", hide_env_values = true)]
    pub(crate) source_event: Option<String>,

    /// A key and a value that help to trace the event back; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "file")]
    #[arg(value_parser = metadata, env = "TAPLINE_PUBLISH_META", hide_env_values = true)]
    pub(crate) meta: Vec<(String, String)>,

    /// Publish every line of this file, each a JSON object; `-` is standard input
    #[arg(long, value_name = "PATH")]
    #[arg(env = "TAPLINE_PUBLISH_FILE", hide_env_values = true)]
    pub(crate) file: Option<PathBuf>,

    /// Send at most this many lines in one request
    #[arg(long, value_name = "LINES", default_value = "500", value_parser = batch_lines)]
    #[arg(env = "TAPLINE_PUBLISH_BATCH_LINES", hide_env_values = true)]
    pub(crate) batch_lines: usize,

    /// Send at most this many bytes in one request, up to 8MiB; a longer line is sent alone
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = batch_bytes)]
    #[arg(env = "TAPLINE_PUBLISH_BATCH_BYTES", hide_env_values = true)]
    pub(crate) batch_bytes: usize,
}

const PUBLISH_EXAMPLES: &str = "\
Prints the envelope that readers get, or with --file the totals. Refused lines are reported by their \
number on standard error, and the exit code is then 1; all other lines are published. An event of a \
category that is not captured, or while no session is running, is filtered, which is not an error.

Examples:
  tapline publish --type console_log --data '{\"level\":\"log\",\"text\":\"hi\"}'
  tapline publish --type checkout_done --category page --meta order=17 --meta shop=eu
  tapline publish --file events.ndjson
  jq -c '{type: \"step\", category: \"control\", data: .}' steps.json | tapline publish --file -";

#[derive(Debug, clap::Args)]
#[command(after_help = TAIL_EXAMPLES)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Print the envelopes as JSON, one per line
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_TAIL_JSON", hide_env_values = true)]
    pub(crate) json: bool,

    /// Show only events of this category; may be repeated, or joined by commas
    #[arg(long, value_delimiter = ',', value_parser = category())]
    #[arg(env = "TAPLINE_TAIL_CATEGORY", hide_env_values = true)]
    pub(crate) category: Vec<Category>,

    /// Show only events of this type, where `*` matches any text; may be repeated, or joined by commas
    #[arg(long = "type", value_name = "PATTERN", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_TAIL_TYPE", hide_env_values = true)]
    pub(crate) types: Vec<String>,

    /// Show only events with this text in their type, category, or any text or number of their data and source; upper
    /// and lower case of ASCII letters are the same
    #[arg(long, value_name = "TEXT", value_parser = search_text)]
    #[arg(env = "TAPLINE_TAIL_GREP", hide_env_values = true)]
    pub(crate) grep: Option<String>,

    /// Show only what went wrong: errors, failed requests, statuses of 400 or more, crashes
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_TAIL_PROBLEMS", hide_env_values = true)]
    pub(crate) problems: bool,

    /// Start with the last so many events that match, up to 10,000; with 0, with the next one
    #[arg(short = 'n', long, value_name = "EVENTS", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u64).range(..=10_000))]
    #[arg(conflicts_with_all = ["since", "after", "replay"])]
    #[arg(env = "TAPLINE_TAIL_LAST", hide_env_values = true)]
    pub(crate) last: u64,

    /// Start with the events from this time on: RFC 3339, or a time ago, such as 5m, 2h or 7d
    #[arg(long, value_name = "TIME", conflicts_with_all = ["after", "replay"])]
    #[arg(env = "TAPLINE_TAIL_SINCE", hide_env_values = true)]
    pub(crate) since: Option<String>,

    /// Start after this seq or cursor
    #[arg(long, value_name = "CURSOR", conflicts_with = "replay")]
    #[arg(env = "TAPLINE_TAIL_AFTER", hide_env_values = true)]
    pub(crate) after: Option<Cursor>,

    /// Start with the oldest retained event, or with the next event
    #[arg(long, value_name = "WHAT")]
    #[arg(env = "TAPLINE_TAIL_REPLAY", hide_env_values = true)]
    pub(crate) replay: Option<Replay>,

    /// Store the position in this file, and resume from it if the file exists
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_TAIL_RESUME", hide_env_values = true)]
    pub(crate) resume: Option<PathBuf>,

    /// Exit after this many events
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(env = "TAPLINE_TAIL_LIMIT", hide_env_values = true)]
    pub(crate) limit: Option<u64>,

    /// Give up after this many failed attempts in a row to reconnect; by default never
    #[arg(long, value_name = "ATTEMPTS")]
    #[arg(env = "TAPLINE_TAIL_RETRIES", hide_env_values = true)]
    pub(crate) retries: Option<u32>,

    /// Print each event like this: {time}, {seq}, {category}, {type}, {text} (the summary), {ts}, and fields such as
    /// {data.url} or {source.kind}; {{ and }} are braces, \t is a tab
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    #[arg(env = "TAPLINE_TAIL_FORMAT", hide_env_values = true)]
    pub(crate) format: Option<Template>,

    /// Show times in UTC instead of local time
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_UTC", hide_env_values = true)]
    pub(crate) utc: bool,

    /// Show the time since the event before, such as +0.012, instead of the time of day
    #[arg(long, value_parser = BoolishValueParser::new(), conflicts_with = "utc")]
    #[arg(env = "TAPLINE_TAIL_RELATIVE", hide_env_values = true)]
    pub(crate) relative: bool,

    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    #[arg(env = "TAPLINE_COLOR", hide_env_values = true)]
    pub(crate) color: ColorChoice,
}

const TAIL_EXAMPLES: &str = "\
Shows the last 20 events and what follows. Events go to standard output, everything else to standard error: losses, \
reconnections, and without --json changes of the session. It reconnects whenever the connection \
breaks, and receives everything that the server still retains. Ctrl-C ends it.

Examples:
  tapline tail --category console,network
  tapline tail --problems --since 10m
  tapline tail -n 100 --grep checkout
  tapline tail --type network_response --format '{time} {data.status} {data.url}'
  tapline tail --replay all --type 'page_*' --json | jq .event.data.url
  tapline tail --resume ~/.tapline-cursor      resumes where it stopped, also after a restart
  tapline tail --replay live --limit 1         waits for the next event";

#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(crate) struct Export {
    /// A file of events instead of a server: NDJSON, plain or compressed with zstd, such as a dump, or
    /// what `tapline tail --json` printed; or the directory of an archive
    #[arg(value_name = "FILE")]
    #[arg(env = "TAPLINE_EXPORT_FILE", hide_env_values = true)]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) remote: Remote,

    /// What to make; by default what the name of --out says, or else a HAR
    #[arg(long, value_name = "FORMAT")]
    #[arg(env = "TAPLINE_EXPORT_FORMAT", hide_env_values = true)]
    pub(crate) format: Option<ExportFormat>,

    /// Write to this file, which must not exist yet, instead of to standard output
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_EXPORT_OUT", hide_env_values = true)]
    pub(crate) out: Option<PathBuf>,

    /// Export only events from this time on: RFC 3339, or a time ago, such as 5m, 2h or 7d
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_EXPORT_SINCE", hide_env_values = true)]
    pub(crate) since: Option<String>,

    /// Export only events up to this time, in the same forms
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_EXPORT_UNTIL", hide_env_values = true)]
    pub(crate) until: Option<String>,

    /// Export only events of this category; may be repeated, or joined by commas
    #[arg(long, value_delimiter = ',', value_parser = category())]
    #[arg(env = "TAPLINE_EXPORT_CATEGORY", hide_env_values = true)]
    pub(crate) category: Vec<Category>,

    /// Export only events of this type, where `*` matches any text; may be repeated, or joined by commas
    #[arg(long = "type", value_name = "PATTERN", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_EXPORT_TYPE", hide_env_values = true)]
    pub(crate) types: Vec<String>,

    /// Keep cookies, tokens and the like: everything that is in the events
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_EXPORT_WITH_SECRETS", hide_env_values = true)]
    pub(crate) with_secrets: bool,

    /// Also remove the values of headers, query parameters and fields with this name; may be repeated, or
    /// joined by commas
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "with_secrets"
    )]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_EXPORT_REDACT", hide_env_values = true)]
    pub(crate) redact: Vec<String>,
}

const EXPORT_EXAMPLES: &str = "\
har      each request with headers, timings and bodies, for Chrome DevTools (Network panel, import) \
and other viewers
html     one page that shows everything in a browser, without a server
trace    requests, navigations, console and causes on one time axis, for https://ui.perfetto.dev
ndjson   one envelope a line, as it is

HAR, HTML and trace are sanitised: values whose names suggest a secret become *redacted*. A secret in free text \
is not recognised: look at a file before you publish it. NDJSON is not sanitised. What is missing is \
counted on standard error, and in the file.

Examples:
  tapline export --out session.har                         what the server retains
  tapline export --since 5m --out session.trace.json
  tapline export segment.ndjson.zst --out session.har      a file
  tapline export --since 5m --out session.html
  tapline export --category network --format ndjson | jq .event.data.url";

#[derive(Debug, clap::Args)]
#[command(after_help = VIEW_EXAMPLES)]
pub(crate) struct View {
    /// A file of events: NDJSON, plain or compressed with zstd, such as a dump, or what `tapline tail --json`
    /// printed; the directory of an archive; or a HAR, of Tapline or of another program
    #[arg(value_name = "FILE")]
    #[arg(env = "TAPLINE_VIEW_FILE", hide_env_values = true)]
    pub(crate) file: PathBuf,

    /// Show only events from this time on: RFC 3339, or a time ago, such as 5m, 2h or 7d
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_VIEW_SINCE", hide_env_values = true)]
    pub(crate) since: Option<String>,

    /// Show only events up to this time, in the same forms
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_VIEW_UNTIL", hide_env_values = true)]
    pub(crate) until: Option<String>,

    /// The loopback address and port of the page; port 0: any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    #[arg(env = "TAPLINE_VIEW_LISTEN", hide_env_values = true)]
    pub(crate) listen: SocketAddr,
}

const VIEW_EXAMPLES: &str = "\
Prints `listening on http://ADDR:PORT` on standard output when the file is read. Nothing is published \
and nothing is changed. A file that is larger than a browser takes needs --since and --until.

Examples:
  tapline view 0000000000000001.ndjson.zst     a segment of an archive
  tapline view shop.har                        the requests and pages of a HAR
  tapline view dump.ndjson --since 2026-11-23T08:00:00Z --until 2026-11-23T08:05:00Z";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    Har,
    Html,
    Ndjson,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Replay {
    All,
    Live,
}

/// The kinds of source that a caller may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    Cdp,
    Extension,
    LocalProcess,
}

impl From<Kind> for SourceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Cdp => Self::Cdp,
            Kind::Extension => Self::Extension,
            Kind::LocalProcess => Self::LocalProcess,
        }
    }
}

/// The largest body that a server takes.
pub(crate) const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// One of the categories, all of which the help shows.
fn category() -> impl TypedValueParser<Value = Category> {
    PossibleValuesParser::new(Category::ALL.map(Category::as_str))
        .try_map(|name| name.parse::<Category>())
}

fn search_text(text: &str) -> Result<String, &'static str> {
    match text.chars().count() {
        1..=200 => Ok(text.to_owned()),
        _ => Err("expected 1 to 200 characters"),
    }
}

fn capacity(text: &str) -> Result<usize, String> {
    not_none(units::count(text), "at least one event has to be retained")
}

fn capacity_bytes(text: &str) -> Result<usize, String> {
    not_none(units::bytes(text), "at least one byte has to be allowed")
}

fn batch_lines(text: &str) -> Result<usize, String> {
    not_none(
        units::count(text),
        "at least one line has to be sent at once",
    )
}

fn not_none(number: Result<usize, InvalidNumber>, wrong: &str) -> Result<usize, String> {
    match number {
        Ok(0) => Err(wrong.to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn batch_bytes(text: &str) -> Result<usize, String> {
    match units::bytes(text) {
        Ok(bytes) if (1..=MAX_BODY_BYTES).contains(&bytes) => Ok(bytes),
        Ok(_) => Err("expected 1 byte to 8MiB, the most that a server takes".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        // A factor beyond this would be no replay any more, and one below would never get on.
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("expected a factor from 0.01 to 1000".to_owned()),
    }
}

fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    let factor = speed(text).map(Pace::Times);
    factor.map_err(|wrong| format!("{wrong}, or max"))
}

fn metadata(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense_to_clap() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_linger_of_nats_has_a_range() {
        let parsed = |time: &str| {
            let flags = ["serve", "--nats", "nats://127.0.0.1", "--nats-linger", time];
            let args = Args::command().try_get_matches_from([&["tapline"][..], &flags].concat());
            args.map(|_| ()).map_err(|error| error.to_string())
        };
        for time in ["0ms", "20ms", "60s"] {
            assert_eq!(parsed(time), Ok(()));
        }
        for (time, expected) in [
            ("61s", "it must be from 0ms to 60s"),
            ("20", "expected a time such as"),
        ] {
            let error = parsed(time).unwrap_err();
            assert!(error.contains("'--nats-linger <TIME>'"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_flag_has_a_variable() {
        for command in Args::command().get_subcommands() {
            // A command to run, after `--`, is several words: no variable holds them.
            let flags = command.get_arguments().filter(|it| !it.is_last_set());
            for flag in flags.filter(|it| it.get_id() != "help") {
                let variable = flag
                    .get_env()
                    .and_then(|it| it.to_str())
                    .unwrap_or_default();
                let named = variable.starts_with("TAPLINE_");
                assert!(named, "{} --{}", command.get_name(), flag.get_id());
            }
        }
    }
}
