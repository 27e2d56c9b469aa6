//! From telemetry events to what people ask: which request failed and why, what a page load consisted of, and what
//! happened around an error. And two files for other tools: HAR and a trace for Perfetto.
//!
//! **What it is.** [`Insight`] joins events, one at a time, to a [`Request`] (with its redirects, answer, end, phases and
//! messages), a [`Navigation`] (with its milestones), and a [`Problem`] (with what was before and after it, and what is missing).
//! [`ExportWriter`] writes a stream of events as one of three formats; [`FileContent`] reads files of events, and HAR.
//!
//! **What it is not.** It opens no file and no socket, and has no clock: the result depends on the inputs alone. It
//! guesses no cause: what caused something is known if the event says so.
//!
//! **Start at** [`Insight::feed`], or at [`ExportWriter`] for a file.
//!
//! **Layer.** 1: above `tapline-oapi`, and it uses no other crate of Tapline.
//!
//! # What is missing is said
//!
//! Events can be lost, or not captured. A request whose end may be among them is [`Outcome::Unknown`] with the reason
//! ([`Request::unknown`]), not pending for ever and not failed. Events whose data cannot be read count like lost ones.
//! [`Tally`] counts what was missing, and what was ignored. Give losses as [`Input::Lost`]; a gap between two seqs alone is no loss, since the
//! events may have been filtered.
//!
//! # Limits
//!
//! Memory is bounded, whatever the events hold: see [`Options`]. What is over the limit is handed to the caller.
//!
//! # Example
//!
//! ```
//! use tapline_insight::{Input, Insight, Lost, Options, Outcome, Unknown};
//! use tapline_oapi::Envelope;
//!
//! let mut insight = Insight::new(Options::default());
//! let sent: Envelope = serde_json::from_str(
//!     r#"{"seq":1,"event":{"ts":1000,"type":"network_request","category":"network","data":{"request_id":"7.1","url":"http://h/","method":"GET","document_url":"http://h/","headers":{},"initiator_type":"other"}}}"#,
//! )?;
//! insight.feed(Input::Event(&sent), &mut |_| {});
//! insight.feed(Input::Lost(Lost::unknown(2, 9)), &mut |_| {});
//! let request = insight.requests().next().unwrap();
//! assert_eq!((request.outcome, request.unknown), (Outcome::Unknown, Some(Unknown::EventsLost)));
//! # Ok::<(), serde_json::Error>(())
//! ```

// In reading order.
mod input;
mod lines;
mod request;
mod navigation;
mod words;

mod requests;
mod problem;
mod insight;

mod sanitize;
pub mod har;
mod har_file;
mod file;
mod trace;
mod bundle;
mod export;

pub use bundle::BundleWriter;
pub use export::{ExportWriter, Format, UnknownFormat};
pub use file::{EventFile, FileContent, FileError, Unread};
pub use har::HarWriter;
pub use har_file::{HarAbout, HarFile};
pub use input::{Input, Lost, inputs_of_notice};
pub use insight::{Finding, Insight, Options, Tally};
pub use lines::{Line, LineReader};
pub use sanitize::{REDACTED, Sanitizer};
pub use tapline_oapi::joins::{
    At, BodyOmitted, End, Failure, Lcp, Message, Moment, Navigation, Outcome, Place, Problem,
    ProblemKind, Redirect, Request, Response, Unknown, WebSocket,
};
pub use trace::TraceWriter;
pub use words::{LOG_RECORD, Summary, cut, one_line, summary};
