//! What a sink is configured with.

use std::path::PathBuf;
use std::time::Duration;

use tapline_access::TlsError;
use tapline_oapi::{Category, CategorySet};

use crate::endpoint::{Endpoint, EndpointError};
use crate::headers::HeadersError;
use crate::record::MAX_BYTES_WITHOUT_BODY;

/// The largest request that collectors accept by default: the limit of gRPC servers, which many forward to.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The smallest limit of a request's size: a record without its body fits in any case.
pub const MIN_REQUEST_BYTES: usize = 512 * 1024;

const _: () = assert!(MAX_BYTES_WITHOUT_BODY + MAX_RESOURCE_BYTES < MIN_REQUEST_BYTES);

/// The most bytes of all names and values of [`OtlpOptions::resource`].
const MAX_RESOURCE_BYTES: usize = 32 * 1024;

/// Where the logs are sent to, and how. [`new`](Self::new) gives the defaults; the fields may be changed.
///
/// Its `Debug` output contains no secret: headers are in a file, and the endpoint is shown without its query.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OtlpOptions {
    pub(crate) endpoint: Endpoint,
    /// A file with headers to send, one `name: value` a line. It is read before every request, so that a token
    /// can be replaced while the program runs. None by default.
    pub headers_file: Option<PathBuf>,
    /// A file with the certificates to trust for `https`, in PEM. By default those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, from connecting until the end of the answer. 10 s by default.
    pub timeout: Duration,
    /// Whether requests are compressed with gzip. Not by default.
    pub compress: bool,
    /// The categories that are exported; events of the others count as excluded. By default all but `screenshot`
    /// and `monitor`.
    pub categories: CategorySet,
    /// Whether spans are exported, too: navigations and their requests. Not by default.
    pub spans: bool,
    /// Attributes of the resource, by name. They come after `service.name` (`tapline`), `service.version` and
    /// `service.instance.id` (the epoch), and replace those of the same name. At most 32 KiB in all.
    pub resource: Vec<(String, String)>,
    /// The most records of a request, at least 1. 2,048 by default.
    pub max_records: usize,
    /// The most bytes of a request before compression, from 512 KiB to 4 MiB. 2 MiB by default.
    pub max_bytes: usize,
    /// How long an event may wait for others to share a request with. 1 s by default.
    pub linger: Duration,
    /// The bound of the first pause after a failed attempt. Each bound is twice the one before, and the pause
    /// is a random part of it. 500 ms by default.
    pub first_pause: Duration,
    /// The largest of these bounds. 30 s by default.
    pub last_pause: Duration,
}

impl OtlpOptions {
    /// Sends to this URL, `http` or `https`.
    ///
    /// It is a base, as OpenTelemetry's variable `OTEL_EXPORTER_OTLP_ENDPOINT`: `/v1/logs` is appended, unless its
    /// path already ends so.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] where that is no such URL, or contains a user or a password.
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        Ok(Self {
            endpoint: Endpoint::parse(endpoint)?,
            headers_file: None,
            ca_file: None,
            timeout: Duration::from_secs(10),
            compress: false,
            categories: Self::DEFAULT_CATEGORIES,
            spans: false,
            resource: Vec::new(),
            max_records: 2048,
            max_bytes: 2 * 1024 * 1024,
            linger: Duration::from_secs(1),
            first_pause: Duration::from_millis(500),
            last_pause: Duration::from_secs(30),
        })
    }

    /// Pictures are large, and `monitor` is about the collector itself.
    pub const DEFAULT_CATEGORIES: CategorySet = CategorySet::ALL
        .without(Category::Screenshot)
        .without(Category::Monitor);

    /// The URL that requests are sent to, with its path and without its query.
    pub fn url(&self) -> String {
        self.endpoint.to_string()
    }

    /// The URL that spans are sent to, with its path and without its query.
    pub fn traces_url(&self) -> String {
        self.endpoint.traces_url()
    }

    pub(crate) fn check(&self) -> Result<(), OtlpError> {
        let resource = self
            .resource
            .iter()
            .map(|(key, value)| key.len() + value.len());
        let limits = [
            (
                (1..=1_000_000).contains(&self.max_records),
                "the most records of a request have to be from 1 to 1,000,000",
            ),
            (
                (MIN_REQUEST_BYTES..=MAX_REQUEST_BYTES).contains(&self.max_bytes),
                "the most bytes of a request have to be from 512 KiB to 4 MiB",
            ),
            (!self.timeout.is_zero(), "the time-out has to be above 0"),
            (
                !self.first_pause.is_zero() && self.first_pause <= self.last_pause,
                "the first pause has to be above 0, and not above the last one",
            ),
            (
                resource.sum::<usize>() <= MAX_RESOURCE_BYTES,
                "the attributes of the resource may have at most 32 KiB",
            ),
            (
                self.resource.iter().all(|(key, _)| !key.is_empty()),
                "an attribute of the resource has no name",
            ),
        ];
        match limits.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(OtlpError::OutOfRange(reason)),
            None => Ok(()),
        }
    }
}

/// Why a sink cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// An option is out of its range.
    #[error("OTLP: {0}")]
    OutOfRange(&'static str),
    /// The headers file cannot be used.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// The certificates to trust cannot be used.
    #[error("TLS to the OTLP endpoint cannot be used")]
    Tls(#[source] TlsError),
}
