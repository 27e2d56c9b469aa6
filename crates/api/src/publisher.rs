//! What producers get: [`Publisher`].

use std::fmt;
use std::sync::Arc;

use tapline_events::IntoEvent;
use tapline_oapi::{Category, CategorySet};
use tapline_telemetry::{Batch, Envelope, PublishError, SessionState, TelemetrySession};

use crate::causes::Causes;

/// Publishes events, and says which categories are captured. It cannot start, change or stop a session.
///
/// A cheap clone: three reference counts. There are two kinds:
///
/// - [`ApiService::publisher`](crate::ApiService::publisher) publishes into whatever session is running.
/// - A [source](crate::Source) gets one that is bound to the session that it was started for. Once that
///   session has ended, everything is refused as [`PublishError::Inactive`], also where another session
///   has begun since. So a late event never becomes part of the next session.
#[derive(Clone)]
pub struct Publisher {
    session: Arc<TelemetrySession>,
    /// The id of the one session to publish into. Sessions are compared by this allocation.
    bound_to: Option<Arc<str>>,
    causes: Arc<Causes>,
}

impl Publisher {
    /// Publishes into whatever session is running.
    pub(crate) fn new(session: Arc<TelemetrySession>, causes: Arc<Causes>) -> Self {
        Self {
            session,
            bound_to: None,
            causes,
        }
    }

    /// Publishes into the session that is running now, and into no other one. `None` where none is.
    pub(crate) fn bound(session: Arc<TelemetrySession>, causes: Arc<Causes>) -> Option<Self> {
        let (state, _) = session.snapshot();
        let id = state.session()?.id.clone();
        Some(Self {
            session,
            bound_to: Some(id),
            causes,
        })
    }

    /// Commands from which events may follow. All publishers of one service share them.
    pub fn causes(&self) -> &Causes {
        &self.causes
    }

    /// Publishes the event, if it is captured, and answers with its envelope.
    ///
    /// # Ordering
    ///
    /// Lock-free: never blocks, and never waits for a reader, for another producer or for a change of the
    /// session. Whether the session is running is decided together with the seq.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says why the event has no seq. Producers may ignore it: the session's ledger counts
    /// it.
    pub fn publish(&self, event: impl IntoEvent) -> Result<Envelope, PublishError> {
        match &self.bound_to {
            None => self.session.publish(event),
            Some(id) => self.session.publish_in(id, event),
        }
    }

    /// To publish several events that are at hand, for less than [`publish`](Self::publish) takes for each: see [`Batch`].
    pub fn batch(&self) -> Batch<'_> {
        match &self.bound_to {
            None => self.session.batch(),
            Some(id) => self.session.batch_in(id),
        }
    }

    /// Whether the configuration excludes this DevTools method from `cdp_command` events. Excluded commands get
    /// no event, and are counted by what would have published them.
    pub fn excludes(&self, method: &str) -> bool {
        self.causes.excludes(method)
    }

    /// Whether events of this category are captured now: a producer can save itself the work of making one
    /// that is not. It may change at any moment, and publishing decides again.
    pub fn captures(&self, category: Category) -> bool {
        self.captured().contains(category)
    }

    /// The categories that are captured now. Empty without a session, or once the session that this
    /// publisher is bound to has ended.
    pub fn captured(&self) -> CategorySet {
        let stream = self.session.stream();
        stream.state(|state, _| match self.may_publish_in(state) {
            true => state.captured(),
            false => CategorySet::EMPTY,
        })
    }

    fn may_publish_in(&self, state: &SessionState) -> bool {
        let Some(bound_to) = &self.bound_to else {
            return true;
        };
        let running = state.session();
        running.is_some_and(|session| Arc::ptr_eq(&session.id, bound_to))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("session", &self.session)
            .field("bound_to", &self.bound_to)
            .finish()
    }
}
