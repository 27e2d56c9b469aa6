//! Publishes the spans and log records of a Rust program, which it makes with `tracing`, as events of a Tapline session.
//!
//! **What it is.** A layer for `tracing-subscriber`. Each log record (an event of `tracing`) becomes a `log_record`, each closed
//! span a `span_end`. `in_process` publishes into a session of the same process; `over_http` sends to a server, from a bounded queue
//! and a thread of its own.
//!
//! **What it is not.** It starts no session: if none captures the layer's category, nothing is published, and a log statement costs
//! little more than without the layer. It prints nothing, and it is no exporter of traces: a span is published once, when it ends.
//!
//! **Start at** `over_http` or `in_process`, then [`Options`].
//!
//! **Layer.** 4: above the facade and beside the client, of which it uses the one that a feature enables.
//!
//! **Features.** `http` (default): publishes to a server. `tls`: `https` addresses of servers. `in-process`: publishes into a session of the
//! same process. A program that uses one of them does not compile the other.
//!
#![cfg_attr(
    feature = "http",
    doc = r#"
```no_run
use std::time::Duration;
use tapline_tracing::{HttpOptions, Options, over_http};
use tracing_subscriber::prelude::*;

# fn main() -> Result<(), Box<dyn std::error::Error>> {
let options = Options { service_name: Some("shop".to_owned()), ..Options::default() };
let (layer, guard) = over_http(options, HttpOptions::new("http://127.0.0.1:10001"))?;
tracing_subscriber::registry().with(layer).init();

tracing::info!(items = 3, "added to the cart");

// Sends what is queued, for at most two seconds. Every record is accounted for.
let counts = guard.shutdown(Duration::from_secs(2));
println!("{} published, {} lost", counts.published, counts.lost);
# Ok(())
# }
```
"#
)]
//! # What is published
//!
//! A [`log_record`](LOG_RECORD) has in its `data`: `level` (`error`, `warn`, `info`, `debug`, `trace`), `target`, `service_name` if it is set, `message`,
//! `fields` (an object: numbers and booleans stay what they are, everything else is a string), and `spans`: the spans that it is in, outermost
//! first, each with `name`, `id` and `fields`. A [`span_end`](SPAN_END) has `level`, `target`, `service_name`, `name`, `duration_ms` (from the opening to the
//! end), `busy_ms` (the part in which the span was entered; the rest it was idle), `parent_span_id` if it has a parent, and `fields`. Durations are
//! milliseconds with fractions. `source.metadata` of both has `trace_id` and `span_id`, 32 and 16 hexadecimal digits: those of the innermost span,
//! or of the span itself. A span without a parent begins a trace.
//!
//! # Secrets
//!
//! The value of a field whose name suggests a secret (`password`, `api_key`, `token`, `session` …) is replaced by `*redacted*`, and so are
//! user information and such parameters of URLs, and such fields of JSON, in all texts. [`Options::redaction`] has the rules. What has no name is not
//! recognised: a password in a sentence, or in the output of a `Debug` implementation.
//!
//! # Limits
//!
//! [`Limits`] bounds each text, the number of fields and the whole event. A text that was cut ends with `…`; fields beyond the limit are counted in
//! `fields_omitted`; either way `truncated` is true for the event.
//!
//! # Ordering
//!
//! Records of one thread are published in the order in which the thread made them. In the process the seq is assigned within the log
//! statement. Over HTTP records of several threads are sent in the order in which they entered the queue; `ts` is when the record was made.
//!
//! # Loss
//!
//! A log statement never waits: not for a reader, for the network or for another thread. In the process there is no queue and nothing is
//! lost. Over HTTP a record is lost if the queue is full. Each is counted: [`Counts`] always closes, and losses are themselves published
//! as a [`producer_lost`](PRODUCER_LOST) event, which is always captured, as soon as the server accepts events again.
//!
//! # Reentrancy
//!
//! What the layer itself causes is not published: records of the thread that sends, records that are made while one is published, and records whose
//! target is `tapline` or begins with `tapline_`. Tapline's server in the same process uses libraries with targets of their own (`hyper`): publish
//! those at [`Options::level`] `INFO` (the default) at most, or each published event causes the next.

#![cfg_attr(
    not(any(feature = "http", feature = "in-process")),
    allow(dead_code, reason = "without a way to publish there is no layer")
)]

// In reading order: a module uses only those below it.
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "in-process")]
mod in_process;
#[cfg(feature = "http")]
mod sender;
#[cfg(feature = "http")]
mod queue;
mod layer;
mod filter;
mod span;
mod record;
mod fields;
mod output;
mod counts;
mod options;

pub use counts::{Counts, Handle};
pub use filter::CaptureFilter;
#[cfg(feature = "http")]
pub use http::{Guard, HttpError, HttpOptions, over_http};
#[cfg(feature = "in-process")]
pub use in_process::{TracingSource, in_process};
pub use layer::{PublishLayer, TracingLayer};
pub use options::{Limits, Options};
#[cfg(feature = "http")]
pub use record::PRODUCER_LOST;
pub use record::{LOG_RECORD, SPAN_END, SPAN_START};
pub use tapline_insight::Sanitizer;
pub use tapline_oapi::Category;

/// Its examples are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// As in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tracing.md")]
struct Page;
