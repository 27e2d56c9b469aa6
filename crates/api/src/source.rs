//! Where events come from: [`Source`], and its life cycle in types.
//!
//! ```text
//! Source --prepare()--> Prepared --run(publisher)--> Running --stop(deadline)--> done
//!                          |                         |    ^
//!                        drop: undone             reconfigure(captured)
//! ```

use std::error::Error;
use std::pin::Pin;
use std::time::Instant;

use tapline_oapi::CategorySet;

use crate::publisher::Publisher;

/// A future on the heap, which any executor can run.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A producer that runs while a telemetry session does, and only then.
///
/// An [`ApiService`](crate::ApiService) takes any number of sources. Where a session is to begin, all of
/// them are prepared; then the session begins, and all of them run. Where one cannot be prepared, those
/// that were are dropped, and no session begins.
///
/// ```
/// use std::time::Instant;
/// use tapline_api::{BoxFuture, Prepared, Publisher, Running, Source, SourceError};
/// use tapline_oapi::{CategorySet, Event, KnownType};
///
/// /// Publishes one event when a session begins.
/// struct Hello;
///
/// impl Source for Hello {
///     fn name(&self) -> &str {
///         "hello"
///     }
///
///     fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
///         Box::pin(async { Ok(Box::new(Hello) as Box<dyn Prepared>) })
///     }
/// }
///
/// impl Prepared for Hello {
///     fn run(self: Box<Self>, publisher: Publisher) -> Box<dyn Running> {
///         let _ = publisher.publish(Event::known(KnownType::ConsoleLog, None));
///         self
///     }
/// }
///
/// impl Running for Hello {
///     fn reconfigure(&mut self, _: CategorySet) {}
///
///     fn stop(self: Box<Self>, _: Instant) -> BoxFuture<'static, ()> {
///         Box::pin(async {})
///     }
/// }
/// ```
pub trait Source: Send + Sync + 'static {
    /// A short name for errors and the log, such as `browser`. Sources of one service should have
    /// different ones.
    fn name(&self) -> &str;

    /// Gets ready to run, before the session begins. At most five seconds: after that the future is
    /// dropped, and the session does not begin.
    ///
    /// # Errors
    ///
    /// Where the source cannot run. The session then does not begin.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has to undo what it has done so far.
    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>>;

    /// What it has counted since it was made, over all its runs; nothing by default.
    ///
    /// Called at any time, also while the source is prepared or stopped, and must not block: usually it
    /// reads an atomic.
    fn counts(&self) -> SourceCounts {
        SourceCounts::default()
    }
}

/// What a [`Source`] counts. No count ever becomes less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCounts {
    /// Messages from where its events come from that it could not read, so that events may be missing.
    pub unreadable: u64,
}

/// A source that is ready. Dropping it has to undo the preparation.
pub trait Prepared: Send {
    /// Runs: the session has begun. Must not block: work belongs on a thread or a task of the source.
    ///
    /// The publisher is bound to this session. What a source publishes after the session has ended is
    /// refused, so a source needs no guard of its own.
    fn run(self: Box<Self>, publisher: Publisher) -> Box<dyn Running>;
}

/// A source that runs. Dropping it has to stop it, too, without a wait.
pub trait Running: Send {
    /// The configuration was replaced: these categories are captured from now on. Other events are refused,
    /// so a source need not make them. Must not block.
    fn reconfigure(&mut self, captured: CategorySet);

    /// Stops: the session has ended. The call itself starts the stop and must not block. The future ends
    /// once the source holds nothing any more.
    ///
    /// At the deadline the future is dropped and a log line names the source. So a source needs no timer
    /// of its own; what it would still do has to end when the future is dropped, or do no harm.
    fn stop(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, ()>;
}

/// Why a source cannot run. The service adds the source's name: [`ApiError::Source`](crate::ApiError::Source).
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(Box<dyn Error + Send + Sync>);

impl SourceError {
    /// With the reason: an error, or a text.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}
