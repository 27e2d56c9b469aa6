//! Sources of telemetry events other than the browser. So far there is one: [`KernelLog`] reports the
//! processes that the kernel killed because memory ran out.
//!
//! **What it is.** Also a pattern for a source: [`OomReports`] turns lines into events and does no I/O;
//! [`KernelLog`] reads the log with a thread of its own while a session runs.
//!
//! **What it is not.** A watchdog: it kills nothing and restarts nothing.
//!
//! **Start at** [`KernelLog::new`].
//!
//! **Layer.** 4: above `tapline-api`, whose [`Source`](tapline_api::Source) it implements.
//!
//! ```
//! use tapline_api::ApiService;
//! use tapline_events::{EventStream, Retention};
//! use tapline_sources::KernelLog;
//! use tapline_telemetry::TelemetrySession;
//!
//! let session = TelemetrySession::new(EventStream::new(Retention::default())?);
//! let api = ApiService::new(session).with_source(KernelLog::new("/dev/kmsg"));
//! # Ok::<(), tapline_events::CapacityError>(())
//! ```

mod kernel_log;
mod oom;

pub use kernel_log::KernelLog;
pub use oom::OomReports;
