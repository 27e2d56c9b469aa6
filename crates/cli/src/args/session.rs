//! The flags of `tapline status`, `start`, `stop` and `wait`.

use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use tapline_client::Cursor;
use tapline_oapi::Category;

use super::{Remote, category};
use crate::units;

#[derive(Debug, clap::Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Print one JSON object: the state, the readers and the sinks as the API has them
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_STATUS_JSON", hide_env_values = true)]
    pub(crate) json: bool,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  tapline status
  tapline status --json | jq .state.session_id";

#[derive(Debug, clap::Args)]
#[command(after_help = START_EXAMPLES)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Capture only this category; may be repeated, or joined by commas. By default all; system and monitor are
    /// always captured
    #[arg(long, value_delimiter = ',', value_parser = category())]
    #[arg(env = "TAPLINE_START_CATEGORY", hide_env_values = true)]
    pub(crate) category: Vec<Category>,
}

const START_EXAMPLES: &str = "\
If a session is running already, it continues with these categories. Its events are kept when it stops.

Examples:
  tapline start
  tapline start --category console,network";

#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, clap::Args)]
#[command(after_help = WAIT_EXAMPLES)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) remote: Remote,

    /// Wait for an event of this category; may be repeated, or joined by commas
    #[arg(long, value_delimiter = ',', value_parser = category())]
    #[arg(env = "TAPLINE_WAIT_CATEGORY", hide_env_values = true)]
    pub(crate) category: Vec<Category>,

    /// Wait for an event of this type, where `*` matches any text; may be repeated, or joined by commas
    #[arg(long = "type", value_name = "PATTERN", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_WAIT_TYPE", hide_env_values = true)]
    pub(crate) types: Vec<String>,

    /// Only events after this seq or cursor; by default the events of the current session count, also those
    /// from before this command
    #[arg(long, value_name = "CURSOR")]
    #[arg(env = "TAPLINE_WAIT_AFTER", hide_env_values = true)]
    pub(crate) after: Option<Cursor>,

    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::time)]
    #[arg(env = "TAPLINE_WAIT_TIMEOUT", hide_env_values = true)]
    pub(crate) timeout: Duration,
}

const WAIT_EXAMPLES: &str = "\
Prints the envelope of the first event that matches, as JSON. Exit codes: 0 there is one, 3 none came in the time, \
1 failed, 2 wrong usage.

Examples:
  tapline wait --type page_load --timeout 10s
  tapline wait --type 'checkout_*' --after \"$seq\" && echo bought";
