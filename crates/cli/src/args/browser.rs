//! Which browser to look at, and what is taken out of what it says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use tapline_cdp::{Endpoint, Options, Redaction, SourceOptions};
use tapline_relay::{CommandUrls, RelayOptions};

use crate::failure::Failure;
use crate::reload::RedactionFile;
use crate::units;

/// A browser as the source of events, where one is named.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A browser as a source of events (docs/cdp.md)")]
pub(crate) struct Browser {
    /// Publish what happens in the browser at this DevTools address, such as http://127.0.0.1:9222; the
    /// browser may start later
    #[arg(long, value_name = "URL")]
    #[arg(env = "TAPLINE_CDP", hide_env_values = true)]
    cdp: Option<Endpoint>,

    /// Forward DevTools clients such as Playwright from this address to that browser, and publish what
    /// they do; on an address other than loopback they need the token (docs/relay.md)
    #[arg(long, value_name = "ADDR:PORT", requires = "cdp", value_parser = units::address)]
    #[arg(env = "TAPLINE_CDP_RELAY", hide_env_values = true)]
    cdp_relay: Option<SocketAddr>,

    /// How much of a URL the relay publishes with a command: its scheme and host, or all of it, redacted
    #[arg(
        long,
        value_name = "host|full",
        requires = "cdp_relay",
        default_value = "host"
    )]
    #[arg(
        hide_possible_values = true,
        env = "TAPLINE_CDP_RELAY_URLS",
        hide_env_values = true
    )]
    cdp_relay_urls: Urls,

    /// Emit each message of a page's WebSockets as an event: text up to 64 KiB, redacted, and of binary
    /// messages their length. Without it, only their numbers and bytes are reported when a WebSocket closes
    #[arg(long, value_parser = BoolishValueParser::new(), requires = "cdp")]
    #[arg(env = "TAPLINE_CDP_WEBSOCKET_MESSAGES", hide_env_values = true)]
    cdp_websocket_messages: bool,

    #[command(flatten)]
    retries: Retries,

    #[command(flatten)]
    redaction: Redact,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Retries {
    /// Give up after this many failed attempts in a row to connect to the browser; by default never
    #[arg(long, value_name = "ATTEMPTS")]
    #[arg(env = "TAPLINE_CDP_RETRIES", hide_env_values = true)]
    pub(crate) cdp_retries: Option<u32>,
}

/// What is removed from everything that is published.
#[derive(Debug, clap::Args)]
pub(crate) struct Redact {
    /// Redact nothing: publish cookies, authorization headers and passwords in URLs as they are
    #[arg(long, value_parser = BoolishValueParser::new())]
    #[arg(conflicts_with_all = ["redact_header", "redact_query", "redact_field", "redact_file"])]
    #[arg(env = "TAPLINE_NO_REDACTION", hide_env_values = true)]
    no_redaction: bool,

    /// Redact the values of this header, too; may be repeated, or joined by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_REDACT_HEADER", hide_env_values = true)]
    redact_header: Vec<String>,

    /// Redact the values of this query parameter, in URLs and forms; may be repeated, or joined by
    /// commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_REDACT_QUERY", hide_env_values = true)]
    redact_query: Vec<String>,

    /// Redact the values of this field of JSON objects, at any depth; may be repeated, or joined by
    /// commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    #[arg(env = "TAPLINE_REDACT_FIELD", hide_env_values = true)]
    redact_field: Vec<String>,

    /// Redact also the names in this file: a line is `header NAME`, `query NAME` or `field NAME`. It is read
    /// again at SIGHUP and when it has changed
    #[arg(long, value_name = "FILE")]
    #[arg(env = "TAPLINE_REDACT_FILE", hide_env_values = true)]
    redact_file: Option<PathBuf>,
}

/// How much of a URL is published with a command.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Urls {
    Host,
    Full,
}

impl From<Urls> for CommandUrls {
    fn from(urls: Urls) -> Self {
        match urls {
            Urls::Host => Self::Host,
            Urls::Full => Self::Full,
        }
    }
}

/// A browser as a source of events.
pub(crate) struct Source {
    pub(crate) options: SourceOptions,
    /// Where clients of the browser connect, if they do.
    pub(crate) relay: Option<(SocketAddr, RelayOptions)>,
    pub(crate) redaction: Option<RedactionFile>,
}

impl Browser {
    /// The source; `None` where no browser is named.
    ///
    /// # Errors
    ///
    /// [`Failure`] where the file with redaction rules cannot be used.
    pub(crate) fn source(self) -> Result<Option<Source>, Failure> {
        let Some(endpoint) = self.cdp else {
            return Ok(None);
        };
        let (mut core, redaction) = self.redaction.options()?;
        core.websocket_messages = self.cdp_websocket_messages;
        let relay = self.cdp_relay.map(|address| {
            let rules = core.redaction.clone();
            let options = RelayOptions {
                command_urls: self.cdp_relay_urls.into(),
                redact_url: Arc::new(move |url| rules.current().redact(url).into_owned()),
                ..RelayOptions::new(endpoint.authority())
            };
            (address, options)
        });
        let options = SourceOptions {
            core,
            retries: self.retries.cdp_retries,
            ..SourceOptions::new(endpoint)
        };
        Ok(Some(Source {
            options,
            relay,
            redaction,
        }))
    }
}

impl Redact {
    /// The options with these rules, and the file that can change them.
    ///
    /// # Errors
    ///
    /// [`Failure`] where the file cannot be used.
    pub(crate) fn options(self) -> Result<(Options, Option<RedactionFile>), Failure> {
        let rules = if self.no_redaction {
            Redaction::off()
        } else {
            Redaction::default()
                .with_headers(self.redact_header)
                .with_query_parameters(self.redact_query)
                .with_json_fields(self.redact_field)
        };
        let (redaction, file) = match self.redact_file {
            None => (rules.into(), None),
            Some(path) => {
                let file = RedactionFile::load(path, rules)?;
                (file.shared(), Some(file))
            }
        };
        let options = Options {
            redaction,
            ..Options::default()
        };
        Ok((options, file))
    }
}
