//! The service, and the operations on its state.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tapline_oapi::{BrowserConfig, CategorySet, ConfigRequest, State, StateConfig};
use tapline_telemetry::{SessionState, TelemetryConfig, TelemetrySession};

use crate::error::ApiError;
use crate::readers::Readers;
use crate::source::Source;

/// A telemetry session, the source that runs with it, and the operations of the contract.
///
/// Everything takes `&self`; share it in an [`Arc`]. [`put`](Self::put) and [`patch`](Self::patch)
/// take turns and may call the source; everything about events is lock-free.
pub struct ApiService {
    session: Arc<TelemetrySession>,
    /// Held while the session and the source change together.
    source: Mutex<Box<dyn Source>>,
    readers: Readers,
}

/// What a configuration request has done.
#[derive(Debug, Clone, PartialEq)]
pub enum PutAnswer {
    /// A session has begun.
    Started(State),
    /// The running session has another configuration.
    Replaced(State),
    /// The session, if there was one, has ended.
    Cleared(State),
}

impl ApiService {
    /// The operations on that session. The session should not be running yet, and nobody else should
    /// start or stop it, or the source would not know.
    pub fn new(session: TelemetrySession, source: impl Source) -> Self {
        Self {
            session: Arc::new(session),
            source: Mutex::new(Box::new(source)),
            readers: Readers::default(),
        }
    }

    pub(crate) fn enrolled(&self) -> &Readers {
        &self.readers
    }

    /// The session, for producers in the process.
    pub fn session(&self) -> &Arc<TelemetrySession> {
        &self.session
    }

    /// The state as of one moment.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    pub fn state(&self) -> Result<State, ApiError> {
        let (state, head) = self.session.snapshot();
        match state.session() {
            Some(_) => Ok(self.describe(&state, head)),
            None => Err(ApiError::NotConfigured),
        }
    }

    /// Begins a session, replaces the configuration of the running one, or ends it.
    ///
    /// Without `browser` all user-facing categories are captured; with it exactly those that it
    /// enables; where it enables none, the session ends.
    ///
    /// # Errors
    ///
    /// [`ApiError::Source`] where a session was to begin and the source cannot run.
    pub fn put(&self, request: &ConfigRequest) -> Result<PutAnswer, ApiError> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let config = match &request.browser {
            None => TelemetryConfig::default(),
            Some(browser) => match browser.enabled() {
                CategorySet::EMPTY => return Ok(PutAnswer::Cleared(self.clear(&**source))),
                categories => TelemetryConfig { categories },
            },
        };
        if self.session.active() {
            return Ok(PutAnswer::Replaced(self.replace(&**source, config)));
        }
        source.prepare()?;
        let started = self.session.start(&new_session_id(), config);
        started.expect("a new id is not empty");
        source.run(&self.session);
        Ok(PutAnswer::Started(self.describe_now()))
    }

    /// Changes what the running session captures: only categories with an explicit `enabled`. Where
    /// nothing is left, the session ends. Where nothing is named, nothing changes.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    pub fn patch(&self, request: &ConfigRequest) -> Result<State, ApiError> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.session.config().ok_or(ApiError::NotConfigured)?;
        let browser = request.browser.clone().unwrap_or_default();
        if browser.explicit().next().is_none() {
            return Ok(self.describe_now());
        }
        // As it was asked for: without `system` and `monitor`, unless they were named.
        let current = match config.categories {
            CategorySet::EMPTY => CategorySet::USER_FACING,
            named => named,
        };
        let categories = browser
            .explicit()
            .fold(current, |set, (category, enabled)| {
                if enabled {
                    set.with(category)
                } else {
                    set.without(category)
                }
            });
        Ok(if categories.is_empty() {
            self.clear(&**source)
        } else {
            self.replace(&**source, TelemetryConfig { categories })
        })
    }

    /// Ends the session, if one is running.
    pub fn stop(&self) {
        self.clear(&**self.source.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The state on the wire.
    pub fn describe(&self, state: &SessionState, head: u64) -> State {
        let session = state.session();
        let captured = state.captured().intersection(CategorySet::USER_FACING);
        State {
            config: StateConfig {
                browser: BrowserConfig::of(captured),
            },
            seq: head,
            // A clock beyond the year 9999 is the only thing that cannot be told.
            applied_at: session.and_then(|session| session.applied_at.try_into().ok()),
            session_id: session.map(|session| session.id.to_string()),
            session_start_seq: session.map(|session| session.start_seq),
            epoch: self.session.stream().epoch(),
        }
    }

    fn describe_now(&self) -> State {
        let (state, head) = self.session.snapshot();
        self.describe(&state, head)
    }

    fn replace(&self, source: &dyn Source, config: TelemetryConfig) -> State {
        // Nobody else ends the session, so it is still running.
        if self.session.update_config(config).is_ok() {
            source.reconfigure(config.captured());
        }
        self.describe_now()
    }

    fn clear(&self, source: &dyn Source) -> State {
        if self.session.active() {
            self.session.stop();
            source.stop();
        }
        self.describe_now()
    }
}

/// 128 random bits.
fn new_session_id() -> String {
    let random = || getrandom::u64().expect("the system's source of randomness answers");
    format!("{:016x}{:016x}", random(), random())
}

impl fmt::Debug for ApiService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiService")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
