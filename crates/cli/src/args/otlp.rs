//! The flags of the export to OpenTelemetry.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use tapline_oapi::{Category, CategorySet};
use tapline_otlp::{OtlpOptions, OtlpSink};

use super::{category, metadata};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Export to OpenTelemetry (docs/otlp.md)")]
pub(crate) struct Otlp {
    /// Export events as OTLP logs to this collector, over HTTP with protobuf; /v1/logs is appended
    #[arg(long, value_name = "URL")]
    #[arg(env = "TAPLINE_OTLP_ENDPOINT", hide_env_values = true)]
    pub(crate) otlp_endpoint: Option<String>,

    /// Send the headers in this file, one `name: value` a line; it is read again before each request
    #[arg(long, value_name = "FILE", requires = "otlp_endpoint")]
    #[arg(env = "TAPLINE_OTLP_HEADERS_FILE", hide_env_values = true)]
    pub(crate) otlp_headers_file: Option<PathBuf>,

    /// Trust the certificates in this file (PEM) for https, instead of those that the system trusts
    #[arg(long, value_name = "FILE", requires = "otlp_endpoint")]
    #[arg(env = "TAPLINE_OTLP_CA_FILE", hide_env_values = true)]
    pub(crate) otlp_ca_file: Option<PathBuf>,

    /// An attribute of the exported resource, such as service.name=shop; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "otlp_endpoint", value_parser = metadata)]
    #[arg(
        env = "TAPLINE_OTLP_RESOURCE",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) otlp_resource: Vec<(String, String)>,

    /// Compress what is exported with gzip
    #[arg(long, requires = "otlp_endpoint", value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_OTLP_COMPRESS", hide_env_values = true)]
    pub(crate) otlp_compress: bool,

    /// Export spans, too: each navigation with its requests; to /v1/traces
    #[arg(long, requires = "otlp_endpoint", value_parser = BoolishValueParser::new())]
    #[arg(env = "TAPLINE_OTLP_SPANS", hide_env_values = true)]
    pub(crate) otlp_spans: bool,

    /// Export only these categories; may be repeated, or joined by commas. By default all but screenshot
    /// and monitor
    #[arg(long, value_name = "CATEGORY", requires = "otlp_endpoint")]
    #[arg(value_delimiter = ',', value_parser = category())]
    #[arg(env = "TAPLINE_OTLP_CATEGORIES", hide_env_values = true)]
    pub(crate) otlp_categories: Vec<Category>,
}

impl Otlp {
    /// The sink, if there is an endpoint. Reads its files.
    pub(crate) fn sink(self) -> Result<Option<OtlpSink>, Failure> {
        let Some(endpoint) = self.otlp_endpoint else {
            return Ok(None);
        };
        let mut options = OtlpOptions::new(&endpoint)
            .map_err(|error| Failure::Usage(format!("--otlp-endpoint: {error}")))?;
        options.headers_file = self.otlp_headers_file;
        options.ca_file = self.otlp_ca_file;
        options.resource = self.otlp_resource;
        options.compress = self.otlp_compress;
        options.spans = self.otlp_spans;
        if !self.otlp_categories.is_empty() {
            options.categories = CategorySet::of(&self.otlp_categories);
        }
        Ok(Some(OtlpSink::new(options)?))
    }
}
