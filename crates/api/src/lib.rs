//! Every operation of Tapline as a plain function with a typed answer, whatever the transport.
//!
//! **What it is.** The rules of the contract that are about requests rather than about events: what
//! a configuration request means for the session, what may be published, what a page is, where a
//! stream begins. A [`Source`] of events plugs in here and runs with the session.
//!
//! **What it is not.** It knows no HTTP: no status, no header, no socket, and no runtime.
//!
//! **Start at** [`ApiService`].
//!
//! **Layer.** Floor 3: above `tapline-telemetry`.
//!
//! ```
//! use tapline_api::{ApiService, NoSource, PutAnswer};
//! use tapline_events::{EventStream, Retention};
//! use tapline_oapi::{ConfigRequest, from_json};
//! use tapline_telemetry::TelemetrySession;
//!
//! let session = TelemetrySession::new(EventStream::new(Retention::default())?);
//! let api = ApiService::new(session, NoSource);
//! assert!(matches!(api.put(&ConfigRequest::default())?, PutAnswer::Started(_)));
//!
//! let request = from_json(br#"{"type":"page_load","data":{"ms":12}}"#)?;
//! let envelope = api.publish(request)?.expect("a page event is captured by default");
//! assert_eq!(envelope.seq(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod service;
mod publish;
mod page;
mod subscribe;
mod readers;
mod query;
mod source;
mod error;

pub use error::ApiError;
pub use page::{MAX_LIMIT, Order, Page, PageQuery};
pub use query::QueryError;
pub use readers::{Enrolled, FilterChange, LiveLedger, Patching, Place, ReaderSpec};
pub use service::{ApiService, PutAnswer};
pub use source::{NoSource, Source, SourceError};
pub use subscribe::{Replay, StreamQuery, Subscription, WaitQuery};
