//! What a server serves: [`Backend`] and [`Subscription`].
//!
//! A server knows requests, sockets and connections. Where events are stored, what a session is and how
//! a reader waits is the backend's part. [`ApiService`] is the backend in the process; a gateway over a
//! message broker is another one.
//!
//! # Dispatch
//!
//! The server is generic over both traits, so each call is a direct call. [`Subscription::read`] is
//! called for every batch of events of every group of streams: it takes a visitor, and it neither
//! allocates nor makes an indirect call for an event.

use std::future::Future;
use std::ops::ControlFlow;
use std::task::{Context, Poll};

use tapline_events::{Behind, Epoch, Filter, Lost, ReaderLedger, Retained, Retention};
use tapline_oapi::data::PlatformApiCall;
use tapline_oapi::{
    BatchResult, Category, ConfigRequest, EnvelopeJson, EpochNotice, Event, Hello, KnownType,
    OnLag, PublishRequest, SessionNotice, SinkInfo, Source, SourceKind, State,
};
use tapline_telemetry::SessionLedger;

use crate::causes::Trace;
use crate::error::ApiError;
use crate::history::SharedEnvelope;
use crate::page::{Page, PageQuery};
use crate::publish::Published;
use crate::service::{ApiService, PutAnswer};
use crate::sink::SinkStatus;
use crate::source::SourceCounts;
use crate::subscribe::{SessionSubscription, StreamQuery};

/// Everything that a server needs to answer its routes.
///
/// # Cancel safety
///
/// A server spawns [`put`](Self::put), [`patch`](Self::patch) and [`delete`](Self::delete) as tasks of
/// their own, so that a client that leaves does not cancel them half-way. Every other future may be
/// dropped at any time; dropping one changes nothing that was already published.
pub trait Backend: Send + Sync + 'static {
    /// A published event with its JSON.
    type Envelope: EncodedEnvelope;
    /// An open position in the stream.
    type Subscription: Subscription;

    /// The id of this run of the stream.
    fn epoch(&self) -> Epoch;

    /// The oldest seq retained, the newest published, and the memory between them.
    fn retained(&self) -> Retained;

    /// How far a reader at `position` is behind the head.
    fn behind(&self, position: u64) -> Behind;

    /// The state as of one moment.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    fn state(&self) -> impl Future<Output = Result<State, ApiError>> + Send;

    /// Starts a session, replaces the configuration of the running one, or ends it.
    ///
    /// `request_id` is the id of the call: a backend that passes it on answers a repeated call as it answered the first.
    /// So it is with [`patch`](Self::patch) and [`delete`](Self::delete).
    ///
    /// # Errors
    ///
    /// [`ApiError::Source`] where a source cannot start. The state before stands.
    fn put(
        &self,
        request: &ConfigRequest,
        request_id: &str,
    ) -> impl Future<Output = Result<PutAnswer, ApiError>> + Send;

    /// Changes what the running session captures.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    fn patch(
        &self,
        request: &ConfigRequest,
        request_id: &str,
    ) -> impl Future<Output = Result<State, ApiError>> + Send;

    /// Ends the running session. Returns the state after it.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    fn delete(&self, request_id: &str) -> impl Future<Output = Result<State, ApiError>> + Send;

    /// Publishes one event, if it is captured.
    ///
    /// # Errors
    ///
    /// [`ApiError::Event`], [`ApiError::ReservedSource`], [`ApiError::EventTooLarge`].
    fn publish(
        &self,
        request: PublishRequest,
    ) -> impl Future<Output = Result<Published<Self::Envelope>, ApiError>> + Send;

    /// Publishes NDJSON, one event a line, and adds to `result` what became of each line.
    ///
    /// `first_line` is the number of the first line, from 1. `trace` is the trace that the events follow
    /// from. Returns how many lines there were. A server passes a long body in parts of some 64 KiB, so that
    /// one call does not hold its thread for long.
    fn publish_lines(
        &self,
        lines: &[u8],
        first_line: u64,
        trace: Option<&Trace>,
        result: &mut BatchResult,
    ) -> impl Future<Output = u64> + Send;

    /// A page of retained events.
    ///
    /// # Errors
    ///
    /// Where the history cannot be read.
    fn page(
        &self,
        query: &PageQuery,
    ) -> impl Future<Output = Result<Page<Self::Envelope>, ApiError>> + Send;

    /// Opens a position in the stream where `query` says. A `wait` reads from one, too.
    ///
    /// # Errors
    ///
    /// Where no position can be opened. A cursor that cannot be used is no error: the [`Hello`] reports it.
    fn subscribe(
        &self,
        query: &StreamQuery,
    ) -> impl Future<Output = Result<Opened<Self::Subscription>, ApiError>> + Send;

    /// Whether events of this category are captured now.
    fn captures(&self, category: Category) -> bool;

    /// Publishes that a call of this API was answered, where `platform` is captured. `trace` is the trace that
    /// the call belongs to. Does not wait.
    fn publish_call(&self, call: &PlatformApiCall, trace: Option<&Trace>);

    /// The numbers that `/metrics` shows.
    fn metrics(&self) -> BackendMetrics;

    /// Where events go besides the streams, and how far each of these sinks is.
    fn sinks(&self) -> Vec<SinkInfo> {
        Vec::new()
    }

    /// Whether requests should be sent here: what `/readyz` answers.
    ///
    /// # Errors
    ///
    /// [`NotReady`] with the reason, for operators.
    fn readiness(&self) -> Result<(), NotReady> {
        Ok(())
    }
}

/// A published event, encoded.
pub trait EncodedEnvelope: Send + Sync {
    /// Its sequence number.
    fn seq(&self) -> u64;

    /// When it happened, in microseconds since the Unix epoch.
    fn ts(&self) -> u64;

    /// Its category.
    fn category(&self) -> Category;

    /// Its type.
    fn event_type(&self) -> &str;

    /// `{"seq": N, "event": {…}}`
    fn json(&self) -> EnvelopeJson<'_>;
}

/// An open position in the stream. It belongs to one task; reading takes nothing from other readers.
///
/// At every moment `delivered + filtered + lost == position - start` in its [`ledger`](Self::ledger).
///
/// # Cancel safety
///
/// Nothing here waits but the caller of [`poll_news`](Self::poll_news); waiting moves no position.
pub trait Subscription: Send + Sized + 'static {
    /// What became of the seqs up to the position.
    fn ledger(&self) -> ReaderLedger;

    /// The last seq that was delivered, filtered or lost.
    fn position(&self) -> u64 {
        self.ledger().position()
    }

    /// The epoch that the position belongs to. One that reads an archive may be in an earlier epoch than the
    /// stream; the ledger begins anew where the epoch changes.
    fn epoch(&self) -> Epoch;

    /// Whether it reads the stream itself. One that reads an archive reads alone: nothing is
    /// [beside](Self::beside) it.
    fn is_live(&self) -> bool;

    /// The newest seq of that epoch that is known.
    fn head(&self) -> u64;

    /// The events that it delivers.
    fn filter(&self) -> &Filter;

    /// Delivers other events from the position on.
    fn refilter(&mut self, filter: Filter);

    /// What it does when it lags: as asked for, or the default of this backend. Where that is
    /// [`Close`](OnLag::Close), its caller ends the stream at the first [`Delivery::Lost`].
    fn overtaken(&self) -> OnLag;

    /// Passes what there is now to `visit`, in order, until `visit` breaks or `limit` events have been
    /// looked at, filtered ones included. Returns how many were looked at. Does not wait.
    ///
    /// It also ends behind a [`Delivery::Epoch`], so everything else in it is of one epoch.
    ///
    /// The position moves over what was passed. `limit` is a few hundred at most: what is evicted during
    /// the call may stay in memory until it returns.
    fn read(&mut self, limit: usize, visit: impl FnMut(Delivery<'_>) -> ControlFlow<()>) -> usize;

    /// Ready when there may be something to read; otherwise wakes `cx` when there may be.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// A second subscription at the same position that delivers the same. `None` where that position is
    /// no longer retained.
    fn beside(&self) -> Option<Self>;

    /// Whether this one and `other`, whose filters are the same, deliver the same from here on.
    fn is_beside(&self, other: &Self) -> bool;

    /// Moves to where `leader` is without reading. What the leader's ledger gained over `since` is added
    /// to this one's. One reader can read for many this way.
    ///
    /// # Panics
    ///
    /// Where `since` is of another position than this subscription's.
    fn follow(&mut self, leader: &Self, since: ReaderLedger);
}

/// What a subscription delivers.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// The next event that matches the filter.
    Envelope {
        /// Its sequence number.
        seq: u64,
        /// `{"seq": N, "event": {…}}`
        json: EnvelopeJson<'a>,
    },
    /// Events that may have matched are no longer available. Comes before what follows them.
    Lost(Lost),
    /// Another state of the session holds from here on. Delivered only where the query asked for
    /// notices. What the visitor returns for it is ignored: the event behind it follows in any case.
    Session(Box<SessionNotice>),
    /// What follows is of another epoch. Its seqs begin anew.
    Epoch(Box<EpochNotice>),
}

/// A subscription, and what its reader should be sent first.
#[derive(Debug)]
pub struct Opened<S> {
    /// Stands where the stream begins. Its ledger starts at the cursor: what was evicted between both is in
    /// it as lost, or as filtered.
    pub subscription: S,
    /// Where that is, and why there. Its [`reader`](Hello::reader) is empty: who lists the readers
    /// fills it in.
    pub hello: Hello,
}

/// What a backend counts.
#[derive(Debug, Clone)]
pub struct BackendMetrics {
    /// What became of everything that producers offered.
    pub ledger: SessionLedger,
    /// What is retained now.
    pub retained: Retained,
    /// How much is retained at most.
    pub retention: Retention,
    /// The memory of the category log, in bytes.
    pub category_log_bytes: u64,
    /// The head when the running session began. `None` where none is running.
    pub session_start_seq: Option<u64>,
    /// What the sources of events in the process have counted, by their names. The same names in the same
    /// order for the life of the process.
    pub sources: Vec<(String, SourceCounts)>,
}

/// Why no requests should be sent here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

impl EncodedEnvelope for SharedEnvelope {
    fn seq(&self) -> u64 {
        Self::seq(self)
    }

    fn ts(&self) -> u64 {
        Self::ts(self)
    }

    fn category(&self) -> Category {
        Self::category(self)
    }

    fn event_type(&self) -> &str {
        Self::event_type(self)
    }

    fn json(&self) -> EnvelopeJson<'_> {
        Self::json(self)
    }
}

/// The backend in the process.
impl Backend for ApiService {
    type Envelope = SharedEnvelope;
    type Subscription = SessionSubscription;

    fn epoch(&self) -> Epoch {
        self.session().stream().epoch()
    }

    fn retained(&self) -> Retained {
        self.session().stream().retained()
    }

    fn behind(&self, position: u64) -> Behind {
        self.session().stream().behind(position)
    }

    async fn state(&self) -> Result<State, ApiError> {
        Self::state(self)
    }

    async fn put(&self, request: &ConfigRequest, _: &str) -> Result<PutAnswer, ApiError> {
        Self::put(self, request).await
    }

    async fn patch(&self, request: &ConfigRequest, _: &str) -> Result<State, ApiError> {
        Self::patch(self, request).await
    }

    async fn delete(&self, _: &str) -> Result<State, ApiError> {
        Self::delete(self).await
    }

    async fn publish(
        &self,
        request: PublishRequest,
    ) -> Result<Published<SharedEnvelope>, ApiError> {
        Ok(match Self::publish(self, request)? {
            Published::Captured(envelope) => Published::Captured(envelope.into()),
            Published::NotCaptured(reason) => Published::NotCaptured(reason),
        })
    }

    async fn publish_lines(
        &self,
        lines: &[u8],
        first_line: u64,
        trace: Option<&Trace>,
        result: &mut BatchResult,
    ) -> u64 {
        Self::publish_lines(self, lines, first_line, trace, result)
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, ApiError> {
        Self::page(self, query).await
    }

    async fn subscribe(
        &self,
        query: &StreamQuery,
    ) -> Result<Opened<SessionSubscription>, ApiError> {
        Ok(Self::subscribe(self, query).await)
    }

    fn captures(&self, category: Category) -> bool {
        let stream = self.session().stream();
        stream.state(|state, _| state.captured().contains(category))
    }

    fn publish_call(&self, call: &PlatformApiCall, trace: Option<&Trace>) {
        let data = serde_json::value::to_raw_value(call).expect("strings and numbers");
        let mut event = Event::known(KnownType::PlatformApiCall, Some(data))
            .with_source(Source::of(SourceKind::KernelApi));
        if let Some(trace) = trace {
            trace.mark(&mut event.source);
        }
        // Where the session ended meanwhile it is filtered, and counted as such.
        let _ = self.session().publish(event);
    }

    fn sinks(&self) -> Vec<SinkInfo> {
        Self::sinks(self)
            .into_iter()
            .map(SinkStatus::into)
            .collect()
    }

    fn metrics(&self) -> BackendMetrics {
        let session = self.session();
        BackendMetrics {
            ledger: session.ledger(),
            retained: session.stream().retained(),
            retention: session.stream().retention(),
            category_log_bytes: session.stream().category_log_bytes(),
            session_start_seq: session.session_start_seq(),
            sources: self.source_counts(),
        }
    }
}
