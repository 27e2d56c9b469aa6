//! Every operation of Tapline as a plain function with a typed answer, whatever the transport.
//!
//! **What it is.** The rules of the contract that are about requests rather than about events: what
//! a configuration request means for the session, what may be published, what a page is, where a
//! stream begins. A [`Source`] produces events while a session runs; a [`Publisher`] is what producers
//! get.
//!
//! **What it is not.** It knows no HTTP: no status, no header, no socket. It needs no async runtime.
//!
//! **Start at** [`ApiService`].
//!
//! **Layer.** 3: above `tapline-telemetry`.
//!
//! ```
//! # let example = async {
//! use tapline_api::{ApiService, PutAnswer};
//! use tapline_events::{EventStream, Retention};
//! use tapline_oapi::{ConfigRequest, from_json};
//! use tapline_telemetry::TelemetrySession;
//!
//! let session = TelemetrySession::new(EventStream::new(Retention::default())?);
//! let api = ApiService::new(session);
//! assert!(matches!(api.put(&ConfigRequest::default()).await?, PutAnswer::Started(_)));
//!
//! let request = from_json(br#"{"type":"page_load","data":{"ms":12}}"#)?;
//! let envelope = api.publish(request)?.envelope().expect("a page event is captured by default");
//! assert_eq!(envelope.seq(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # };
//! # let mut example = std::pin::pin!(example);
//! # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
//! # assert!(matches!(example.as_mut().poll(&mut cx), std::task::Poll::Ready(Ok(()))));
//! ```

mod service;
mod sources;
mod source;
mod causes;
mod publisher;
mod sink;
mod history;
pub mod conformance;
mod publish;
mod page;
mod past;
mod recount;
mod subscribe;
mod backend;
mod fleet;
mod query;
mod search;
mod text;
mod error;
mod deadline;
mod backoff;

pub use backend::{
    Backend, BackendMetrics, Delivery, EncodedEnvelope, NotReady, Opened, Subscription,
};
pub use backoff::Backoff;
pub use causes::{Answered, Cause, Causes, Effect, Trace};
pub use error::ApiError;
pub use fleet::{
    Fleet, FleetEvent, FleetItem, FleetQuery, FleetReader, InstanceOffset, InstanceOrder,
    InstancePart, InstanceQuery, InstanceSummary,
};
pub use history::{
    History, HistoryBatch, HistoryBounds, HistoryCount, HistoryError, HistoryQuery, MemoryHistory,
    Order, ReadLimit, SharedEnvelope,
};
pub use page::{MAX_LIMIT, Missing, Page, PageQuery};
pub use publish::{NotCaptured, Published};
pub use publisher::Publisher;
pub use query::{QueryError, add_values, moment as parse_moment};
pub use search::{Search, StatusPattern};
pub use service::{ApiService, PutAnswer, SinkSwitch};
pub use sink::{
    NotPending, Progress, Settled, Sink, SinkError, SinkHandle, SinkItem, SinkLedger, SinkReader,
    SinkStatus, SpanLedger, StopSignal,
};
pub use source::{BoxFuture, Prepared, Running, Source, SourceCounts, SourceError};
pub use subscribe::{Replay, SessionSubscription, StreamQuery, WaitQuery};
pub use text::Text;

/// The types of the crates below that the facade's signatures name.
pub use tapline_events::{
    Behind, Counts, Cursor, Epoch, Filter, LagPolicy, Lost, ReaderLedger, Retained, Retention,
    TypePattern,
};
pub use tapline_telemetry::{Batch, Envelope, Filtered, PublishError, SessionLedger};
