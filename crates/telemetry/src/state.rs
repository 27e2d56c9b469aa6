//! The state in force at a moment: no session, or one with its configuration.

use std::sync::Arc;
use std::time::SystemTime;

use tapline_events::Stamp;
use tapline_oapi::CategorySet;

/// Under which key of `source.metadata` an event carries the id of its session.
pub(crate) const SESSION_ID_KEY: &str = "telemetry_session_id";

/// Which categories a session captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TelemetryConfig {
    /// Empty = all user-facing categories. `system` and `monitor` are captured in any case.
    pub categories: CategorySet,
}

impl TelemetryConfig {
    /// The categories that this captures.
    pub fn captured(self) -> CategorySet {
        let asked = if self.categories.is_empty() {
            CategorySet::USER_FACING
        } else {
            self.categories
        };
        asked.union(CategorySet::ALWAYS)
    }
}

/// A running session as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Never empty.
    pub id: Arc<str>,
    /// The configuration that was set last.
    pub config: TelemetryConfig,
    /// When that was.
    pub applied_at: SystemTime,
    /// Its events have seqs above this one.
    pub start_seq: u64,
}

/// The state that the stream carries: the running session, if there is one, and since when that is so.
/// A clone is one reference count, and `clone_from` is none where both are the same already.
#[derive(Debug, Default)]
pub struct SessionState(Option<Arc<Phase>>);

impl Clone for SessionState {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }

    #[inline]
    fn clone_from(&mut self, source: &Self) {
        if !self.is_same(source) {
            self.0.clone_from(&source.0);
        }
    }
}

/// What holds between two transitions. Before the first one there is none.
#[derive(Debug)]
struct Phase {
    session: Option<Session>,
    since: u64,
}

impl SessionState {
    pub(crate) fn running(session: Session, since: u64) -> Self {
        Self(Some(Arc::new(Phase {
            session: Some(session),
            since,
        })))
    }

    pub(crate) fn stopped(since: u64) -> Self {
        Self(Some(Arc::new(Phase {
            session: None,
            since,
        })))
    }

    /// A state that another program was in, for one that repeats its stream: this session runs, or none, for the seqs
    /// above `since`.
    pub fn repeated(session: Option<Session>, since: u64) -> Self {
        Self(Some(Arc::new(Phase { session, since })))
    }

    /// The running session.
    pub fn session(&self) -> Option<&Session> {
        self.0.as_ref()?.session.as_ref()
    }

    /// It is in force for the seqs above this one.
    pub fn since(&self) -> u64 {
        self.0.as_ref().map_or(0, |phase| phase.since)
    }

    /// What is captured; nothing while there is no session.
    pub fn captured(&self) -> CategorySet {
        self.session()
            .map_or(CategorySet::EMPTY, |session| session.config.captured())
    }

    /// Whether both are the same state, and not only equal ones: a cheap way to see that something has
    /// changed.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr) == other.0.as_ref().map(Arc::as_ptr)
    }
}

impl Stamp for SessionState {
    fn metadata(&self) -> Option<(&str, &str)> {
        self.session().map(|session| (SESSION_ID_KEY, &*session.id))
    }
}
