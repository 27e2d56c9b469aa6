//! Exports events to an OpenTelemetry collector, as OTLP logs over HTTP, and accounts for each.
//!
//! **What it is.** [`OtlpSink`] is a [`Sink`](tapline_api::Sink): it reads the stream, maps each event to a log
//! record, and posts batches of them to an endpoint. What the endpoint accepts, rejects or never answers is counted
//! per event.
//!
//! With [`OtlpOptions::spans`] it also joins the events to spans: a navigation, and its requests.
//!
//! **What it is not.** It is no OpenTelemetry SDK, and exports nothing but the stream: no traces and no metrics of
//! the program. It speaks HTTP with protobuf, and no gRPC.
//!
//! **Start at** [`OtlpOptions::new`], then [`OtlpSink::new`].
//!
//! **Layer.** 4: it uses `tapline-access` for TLS, and the layers below.
//!
//! ```
//! use std::time::Duration;
//! use tapline_otlp::{OtlpOptions, OtlpSink};
//!
//! let mut options = OtlpOptions::new("http://127.0.0.1:4318")?;
//! assert_eq!(options.url(), "http://127.0.0.1:4318/v1/logs");
//! options.linger = Duration::from_millis(200);
//! options.resource.push(("deployment.environment.name".to_owned(), "staging".to_owned()));
//! let sink = OtlpSink::new(options)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod options;
mod sink;
mod endpoint;
mod headers;
mod batch;
mod span_sender;
mod spans;
mod span;
mod record;
mod value;
mod encode;
mod send;
mod answer;
mod pause;

pub use endpoint::EndpointError;
pub use headers::HeadersError;
pub use options::{MAX_REQUEST_BYTES, MIN_REQUEST_BYTES, OtlpError, OtlpOptions};
pub use sink::OtlpSink;

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
