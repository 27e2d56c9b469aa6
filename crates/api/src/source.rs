//! Where events come from: [`Source`].

use std::error::Error;
use std::sync::Arc;

use tapline_oapi::CategorySet;
use tapline_telemetry::TelemetrySession;

/// A producer that runs while a telemetry session does, and only then.
///
/// The calls come one at a time: `prepare`, then `run`, then any number of `reconfigure`, then
/// `stop`; after that `prepare` again. None of them may block for long: what takes time goes to a
/// thread or a task of the source's own.
pub trait Source: Send + Sync + 'static {
    /// Gets ready to run, before the session begins.
    ///
    /// # Errors
    ///
    /// Where it cannot run. The session then does not begin, and the state before stands; `stop` is
    /// not called.
    fn prepare(&self) -> Result<(), SourceError>;

    /// The session is on: publish into it from now on.
    fn run(&self, session: &Arc<TelemetrySession>);

    /// The configuration was replaced. What is not captured is refused anyhow: a source may save
    /// itself the trouble of making it.
    fn reconfigure(&self, captured: CategorySet);

    /// The session has ended: publish no more, and let go of what is held.
    fn stop(&self);
}

/// Why a source cannot run.
#[derive(Debug, thiserror::Error)]
#[error("the source could not start")]
pub struct SourceError(#[source] Box<dyn Error + Send + Sync>);

impl SourceError {
    /// With the reason: an error, or a text.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

/// No source: all events come from callers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSource;

impl Source for NoSource {
    fn prepare(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn run(&self, _: &Arc<TelemetrySession>) {}

    fn reconfigure(&self, _: CategorySet) {}

    fn stop(&self) {}
}
