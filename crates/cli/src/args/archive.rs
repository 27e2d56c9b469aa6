//! The flags of `tapline archive`.

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use tapline_api::Epoch;
use tapline_client::Cursor;
use tapline_oapi::Category;

use super::{ExportFormat, category};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Archive {
    #[command(subcommand)]
    pub(crate) command: ArchiveCommand,
}

const EXAMPLES: &str = "\
An archive is what `tapline serve --archive DIR` writes: newline-delimited JSON, compressed with zstd. \
It can be read while it is written. `check --repair`, `compact` and `rm` need that no server writes to it.

Examples:
  tapline archive ls --archive telemetry
  tapline archive cat --archive telemetry --since 1h --type 'network_*' | jq .event.data.url
  tapline archive grep --archive telemetry 'connection reset' --category console,network
  tapline archive export --archive telemetry --since 2026-11-23T08:00:00Z --out events.ndjson
  tapline archive export --archive telemetry --since 1h --category network,page --out hour.har
  tapline archive check --archive telemetry && echo intact
As Parquet, with DuckDB:
  duckdb -c \"copy (from read_json('telemetry/*.ndjson.zst', format='newline_delimited')) to 'events.parquet'\"";

#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// List the segments: their time, events and size
    Ls(Ls),
    /// Print events, one JSON envelope a line
    Cat(Cat),
    /// Print events whose JSON contains a text
    Grep(Grep),
    /// Write events to a file
    Export(Export),
    /// Read every byte and report what is wrong; exits with 0 if the archive is intact
    Check(Check),
    /// Merge small segments and compress them better; the events stay the same
    Compact(Place),
    /// Delete segments
    Rm(Rm),
}

impl ArchiveCommand {
    pub(super) fn types(&self) -> &[String] {
        match self {
            Self::Cat(args) => &args.select.types,
            Self::Grep(args) => &args.select.types,
            Self::Export(args) => &args.select.types,
            _ => &[],
        }
    }
}

/// Which archive.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The directory of the archive
    #[arg(long, value_name = "DIR")]
    #[arg(env = "TAPLINE_ARCHIVE", hide_env_values = true)]
    pub(crate) archive: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Print one JSON object a line
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_JSON", hide_env_values = true)]
    pub(crate) json: bool,
}

/// Which events.
#[derive(Debug, clap::Args)]
pub(crate) struct Select {
    /// Only events at this time or later: RFC 3339, or a duration ago such as 5m, 2h or 7d
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_ARCHIVE_SINCE", hide_env_values = true)]
    pub(crate) since: Option<String>,

    /// Only events up to this time
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_ARCHIVE_UNTIL", hide_env_values = true)]
    pub(crate) until: Option<String>,

    /// Only events of the telemetry session with this id
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_SESSION", hide_env_values = true)]
    pub(crate) session: Option<String>,

    /// Only events of this category; may be repeated, or joined by commas
    #[arg(long, value_delimiter = ',', value_parser = category())]
    #[arg(env = "TAPLINE_ARCHIVE_CATEGORY", hide_env_values = true)]
    pub(crate) category: Vec<Category>,

    /// Only events of this type, where `*` matches any text; may be repeated, or joined by commas
    #[arg(long = "type", value_name = "PATTERN", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_TYPE", hide_env_values = true)]
    pub(crate) types: Vec<String>,

    /// Only events of this run of the server, 16 hexadecimal digits; `ls` shows them
    #[arg(long, value_name = "EPOCH")]
    #[arg(env = "TAPLINE_ARCHIVE_EPOCH", hide_env_values = true)]
    pub(crate) epoch: Option<Epoch>,

    /// Only events after this cursor, SEQ-EPOCH, and those of later runs; SEQ alone is of the newest run
    #[arg(long, value_name = "CURSOR", conflicts_with = "epoch")]
    #[arg(env = "TAPLINE_ARCHIVE_AFTER", hide_env_values = true)]
    pub(crate) after: Option<Cursor>,

    /// Only the first so many
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(env = "TAPLINE_ARCHIVE_LIMIT", hide_env_values = true)]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) select: Select,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Grep {
    /// The text, as it stands in the JSON
    #[arg(value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_TEXT", hide_env_values = true)]
    pub(crate) text: String,

    /// Ignore the case of ASCII letters
    #[arg(long, short, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_IGNORE_CASE", hide_env_values = true)]
    pub(crate) ignore_case: bool,

    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) select: Select,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_ARCHIVE_OUT", hide_env_values = true)]
    pub(crate) out: PathBuf,

    /// What to make; by default what the name of --out says, or else NDJSON, which has everything
    #[arg(long, value_name = "FORMAT")]
    #[arg(env = "TAPLINE_ARCHIVE_FORMAT", hide_env_values = true)]
    pub(crate) format: Option<ExportFormat>,

    /// Keep cookies, tokens and the like in a HAR or a trace; NDJSON always has them
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_WITH_SECRETS", hide_env_values = true)]
    pub(crate) with_secrets: bool,

    #[command(flatten)]
    pub(crate) select: Select,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Put in order what can be, and report what was done
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_REPAIR", hide_env_values = true)]
    pub(crate) repair: bool,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").args(["before", "epoch", "all"]).required(true)))]
pub(crate) struct Rm {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Delete the segments whose events are all before this time: RFC 3339, or a duration ago
    #[arg(long, value_name = "TIME")]
    #[arg(env = "TAPLINE_ARCHIVE_BEFORE", hide_env_values = true)]
    pub(crate) before: Option<String>,

    /// Delete the segments of this run of the server
    #[arg(long, value_name = "EPOCH")]
    #[arg(env = "TAPLINE_ARCHIVE_RM_EPOCH", hide_env_values = true)]
    pub(crate) epoch: Option<Epoch>,

    /// Delete all segments
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_ALL", hide_env_values = true)]
    pub(crate) all: bool,

    /// Only print what would be deleted
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_ARCHIVE_DRY_RUN", hide_env_values = true)]
    pub(crate) dry_run: bool,
}
