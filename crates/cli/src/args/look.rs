//! The flags of `tapline why`, `requests`, `diff`, `doctor` and `top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::BoolishValueParser;

use super::Remote;
use crate::inputs::Wanted;
use crate::units;
use crate::why;

/// Which part of the events of a file or of a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Range {
    /// A file of events instead of a server: NDJSON, plain or compressed with zstd, such as a dump, or what
    /// `tapline tail --json` printed; or the directory of an archive
    #[arg(value_name = "FILE")]
    #[arg(env = "TAPLINE_FILE", hide_env_values = true)]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Only events from this time on: RFC 3339, or a time ago, such as 5m, 2h or 7d
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_SINCE", hide_env_values = true)]
    pub(crate) since: Option<String>,

    /// Only events up to this time, in the same forms
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_UNTIL", hide_env_values = true)]
    pub(crate) until: Option<String>,
}

impl Range {
    /// All categories and types of it.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            since: self.since.as_deref(),
            until: self.until.as_deref(),
            ..Wanted::default()
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = WHY_EXAMPLES)]
pub(crate) struct Why {
    #[command(flatten)]
    pub(crate) range: Range,

    /// Show at most so many problems, the newest ones; 0 shows all
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = why::DEFAULT_LIMIT)]
    #[arg(env = "TAPLINE_WHY_LIMIT", hide_env_values = true)]
    pub(crate) limit: usize,

    /// Print the problems as JSON, one a line; `about` is the request that a problem is about, with its answer
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_WHY_JSON", hide_env_values = true)]
    pub(crate) json: bool,

    /// Show times in UTC instead of local time
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_UTC", hide_env_values = true)]
    pub(crate) utc: bool,
}

const WHY_EXAMPLES: &str = "\
Failed and blocked requests, errors and crashes, each with the request that it is about, who asked for it, and what \
happened next in the same tab; and what is missing, so that an empty list means that nothing went wrong. \
Exit codes: 0 no problem, 1 some, 2 it could not be looked at.

Examples:
  tapline why
  tapline why --since 5m
  tapline why dumps/page_crashed.ndjson.zst
  tapline why --json | jq -r '.text, .about.response.body // empty'";

#[derive(Debug, clap::Args)]
#[command(after_help = REQUESTS_EXAMPLES)]
pub(crate) struct Requests {
    #[command(flatten)]
    pub(crate) range: Range,

    /// Show at most so many requests, the last ones in the order; 0 shows all
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "50")]
    #[arg(env = "TAPLINE_REQUESTS_LIMIT", hide_env_values = true)]
    pub(crate) limit: usize,

    /// Sort by this, the smallest first
    #[arg(long, value_name = "BY", default_value = "start")]
    #[arg(env = "TAPLINE_REQUESTS_SORT", hide_env_values = true)]
    pub(crate) sort: Sort,

    /// Only requests that failed, were blocked, or were answered with a status of 400 or more
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_REQUESTS_FAILED", hide_env_values = true)]
    pub(crate) failed: bool,

    /// Only requests whose address contains this text
    #[arg(long, value_name = "TEXT")]
    #[arg(env = "TAPLINE_REQUESTS_GREP", hide_env_values = true)]
    pub(crate) grep: Option<String>,

    /// Print the requests as JSON, one a line, with headers and timing
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_REQUESTS_JSON", hide_env_values = true)]
    pub(crate) json: bool,

    /// Show times in UTC instead of local time
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_UTC", hide_env_values = true)]
    pub(crate) utc: bool,
}

/// By what requests are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// When they began
    Start,
    /// How long they took
    Duration,
    /// How many bytes came over the network
    Size,
    /// The status of the answer; failed ones last
    Status,
}

const REQUESTS_EXAMPLES: &str = "\
Examples:
  tapline requests
  tapline requests --failed --since 10m
  tapline requests --sort duration -n 10       the ten slowest
  tapline requests events.ndjson --json | jq -r 'select(.duration_ms > 500) | .url'";

#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct Diff {
    /// A file of events, the directory of an archive, or a range of the server's events: SINCE..UNTIL, either of
    /// which may be left out, such as 5m.. or 20m..10m
    #[arg(value_name = "BEFORE")]
    #[arg(env = "TAPLINE_DIFF_BEFORE", hide_env_values = true)]
    pub(crate) before: String,

    /// What to compare with it, in the same forms
    #[arg(value_name = "AFTER")]
    #[arg(env = "TAPLINE_DIFF_AFTER", hide_env_values = true)]
    pub(crate) after: String,

    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Print the differences as JSON, one a line
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_DIFF_JSON", hide_env_values = true)]
    pub(crate) json: bool,
}

const DIFF_EXAMPLES: &str = "\
Compares requests by method and address without the query: their statuses, those that only one side has, and those \
that take half as long again and 50 ms longer; and errors by their text. The same difference again is counted. \
Exit codes: 0 no difference, 1 some, 2 it could not be compared.

Examples:
  tapline diff good.ndjson bad.ndjson
  tapline diff 20m..10m 10m..                  the last ten minutes with those before";

#[derive(Debug, clap::Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Also check the free space on the disk of this archive, where the server runs on this machine
    #[arg(long, value_name = "DIR")]
    #[arg(env = "TAPLINE_ARCHIVE", hide_env_values = true)]
    pub(crate) archive: Option<PathBuf>,

    /// Print one JSON object: `checks`, each with `name`, `result` (ok, note, mend, unknown) and `text`
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_DOCTOR_JSON", hide_env_values = true)]
    pub(crate) json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
Checks whether the server is there and accepts calls, whether something between holds the stream back, whether the \
clocks agree, the session, the browser, the sinks, the readers and their losses, and whether there is a browser for \
the demo. Each line begins with ok, note, mend or unknown, and says what to do. It opens a stream for a moment, and \
changes nothing. Exit codes: 0 all is well, 1 something should be mended, 2 the server could not be asked.

Examples:
  tapline doctor
  tapline doctor --url https://tapline.example --token-file token
  tapline doctor --json | jq -r '.checks[] | select(.result == \"mend\") | .text'";

#[derive(Debug, clap::Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Ask for new numbers after this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    #[arg(env = "TAPLINE_TOP_INTERVAL", hide_env_values = true)]
    pub(crate) interval: Duration,

    /// Print one frame as text and exit; needs no terminal. It is as wide as COLUMNS says, or 100 characters
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_TOP_ONCE", hide_env_values = true)]
    pub(crate) once: bool,
}

/// More often would be load for the server, and nothing to see for people.
fn interval(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(time) if Duration::from_millis(200) <= time => Ok(time),
        Ok(_) => Err("expected at least 200ms".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

const TOP_EXAMPLES: &str = "\
Events each second by category, requests in flight, sinks, and readers with what they have lost, redrawn each second. \
Keys: q ends it, p pauses, s sorts the readers by something else, ? explains. The terminal is restored at the end.

Examples:
  tapline top
  tapline top --once";
