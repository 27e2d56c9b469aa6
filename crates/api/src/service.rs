//! The service, and the operations on its state.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_lock::Mutex;
use tapline_oapi::{
    BrowserConfig, CategorySet, CdpControlConfig, ConfigRequest, Epoch, ExportConfig, State,
    StateConfig, StorageConfig,
};
use tapline_telemetry::{Envelope, SessionState, TelemetryConfig, TelemetrySession};

use crate::causes::Causes;
use crate::deadline::before;
use crate::error::ApiError;
use crate::history::History;
use crate::page::Walks;
use crate::publisher::Publisher;
use crate::sink::{Sink, SinkHandle, SinkStatus};
use crate::source::{Source, SourceCounts};
use crate::sources::{AllPrepared, Sources};

/// How long sources may take to stop when a session ends.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How long a sink that is switched off may take to export what was published until then.
const SWITCH_OFF_WITHIN: Duration = Duration::from_secs(30);

/// A telemetry session, the sources that run with it, and the operations of the contract.
///
/// Everything takes `&self`; share it in an [`Arc`]. The operations that change the session,
/// [`put`](Self::put), [`patch`](Self::patch), [`delete`](Self::delete) and [`shutdown`](Self::shutdown),
/// wait for each other and for the sources. Everything about events is lock-free.
///
/// # Cancel safety
///
/// A future of these operations may be dropped at any time. Then the session is either on with all its
/// sources running, or off. Sources that were asked to stop and have not finished are waited for by the
/// next operation, before they are prepared again.
pub struct ApiService {
    session: Arc<TelemetrySession>,
    all_sources: Vec<Box<dyn Source>>,
    /// Held while the session and the sources change together.
    sources: Mutex<Sources>,
    causes: Arc<Causes>,
    /// Of the running session.
    outputs: StdMutex<Outputs>,
    /// Walks through pages. Held for a look only.
    walks: StdMutex<Walks>,
    /// Where what the stream has evicted is read.
    archive: Option<Arc<dyn History>>,
    sinks: Vec<(SinkSwitch, SinkHandle)>,
    is_shutting_down: AtomicBool,
}

/// What of a configuration switches a sink on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SinkSwitch {
    /// Nothing: it is on as long as the service.
    Always,
    /// `storage.enabled`.
    Storage,
    /// `export.otlp.enabled`.
    Otlp,
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
    /// The operations on that session, which is not running yet. The service alone starts and stops it from
    /// now on. A caller that keeps a clone of the [`Arc`] may read the session.
    pub fn new(session: impl Into<Arc<TelemetrySession>>) -> Self {
        Self {
            session: session.into(),
            all_sources: Vec::new(),
            sources: Mutex::default(),
            causes: Arc::default(),
            outputs: StdMutex::default(),
            walks: StdMutex::default(),
            archive: None,
            sinks: Vec::new(),
            is_shutting_down: AtomicBool::new(false),
        }
    }

    /// With one more source, which runs while a session does.
    #[must_use]
    pub fn with_source(mut self, source: impl Source) -> Self {
        self.all_sources.push(Box::new(source));
        self
    }

    /// With an archive: streams, pages and waits read there what the stream has evicted, and what earlier runs
    /// have left. It is filled by a [sink](Self::with_sink) of this service, or by another process.
    #[must_use]
    pub fn with_archive(mut self, archive: impl History) -> Self {
        self.archive = Some(Arc::new(archive));
        self
    }

    /// With one more sink, which is on unless a configuration switches it off. Its task has to be spawned by the
    /// caller, on the runtime that it needs.
    pub fn with_sink(
        mut self,
        switch: SinkSwitch,
        sink: impl Sink,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (handle, task) = SinkHandle::new(self.session.stream().clone(), sink);
        handle.on();
        self.sinks.push((switch, handle));
        (self, task)
    }

    pub(crate) fn archive(&self) -> Option<&Arc<dyn History>> {
        self.archive.as_ref()
    }

    /// How each sink does, in the order in which they were added.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(|(_, sink)| sink.status()).collect()
    }

    /// Exports what was published up to now and ends all sinks, at most until the deadline. To be called when
    /// nothing is published any more. What is not exported by then counts as failed.
    ///
    /// # Cancel safety
    ///
    /// All of them are asked to end by the first poll. Dropping the future only ends the wait.
    pub async fn shutdown_sinks(&self, deadline: Instant) {
        let mut ending: Vec<_> = self
            .sinks
            .iter()
            .map(|(_, sink)| Box::pin(sink.shutdown(deadline)))
            .collect();
        poll_fn(|cx| {
            ending.retain_mut(|sink| sink.as_mut().poll(cx).is_pending());
            match ending.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    fn change_outputs(&self, request: &ConfigRequest) {
        let mut outputs = self.outputs();
        outputs.change(request);
        self.switch_sinks(&outputs);
    }

    /// Switches the sinks as the configuration says. Waits for none of them.
    fn switch_sinks(&self, outputs: &Outputs) {
        for (switch, sink) in &self.sinks {
            match outputs.is_on(*switch) {
                true => sink.on(),
                // Dropping the future only ends the wait.
                false => drop(sink.off(Instant::now() + SWITCH_OFF_WITHIN)),
            }
        }
    }

    /// The session in force and the head, as of one moment.
    pub fn snapshot(&self) -> (SessionState, u64) {
        self.session.snapshot()
    }

    /// The newest event. `None` before the first one of this run.
    pub fn newest(&self) -> Option<Envelope> {
        let stream = self.session.stream();
        stream.envelope(stream.head())
    }

    pub(crate) fn session(&self) -> &Arc<TelemetrySession> {
        &self.session
    }

    pub(crate) fn walks(&self) -> MutexGuard<'_, Walks> {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each source has counted, by its name, in the order in which they were added.
    pub(crate) fn source_counts(&self) -> Vec<(String, SourceCounts)> {
        let all = self.all_sources.iter();
        all.map(|source| (source.name().to_owned(), source.counts()))
            .collect()
    }

    /// For producers in the process: publishes into whatever session is running.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.session.clone(), self.causes.clone())
    }

    /// The state as of one moment.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    pub fn state(&self) -> Result<State, ApiError> {
        let (state, head) = self.session.snapshot();
        match state.session() {
            Some(_) => Ok(self.complete(describe(&state, head, self.session.stream().epoch()))),
            None => Err(ApiError::NotConfigured),
        }
    }

    /// Begins a session, replaces the configuration of the running one, or ends it.
    ///
    /// Without `browser` all user-facing categories are captured; with it exactly those that it
    /// enables; where it enables none, the session ends, and this waits until its sources have stopped.
    ///
    /// # Errors
    ///
    /// [`ApiError::Source`] where a session was to begin and a source cannot run,
    /// [`ApiError::ShuttingDown`] after [`shutdown`](Self::shutdown). The state before stands.
    ///
    /// # Cancel safety
    ///
    /// See [`ApiService`].
    pub async fn put(&self, request: &ConfigRequest) -> Result<PutAnswer, ApiError> {
        let mut sources = self.sources.lock().await;
        let config = match &request.browser {
            None => TelemetryConfig::default(),
            Some(browser) => match browser.enabled() {
                CategorySet::EMPTY => {
                    return Ok(PutAnswer::Cleared(self.clear(&mut sources).await));
                }
                categories => TelemetryConfig { categories },
            },
        };
        let excluded = request
            .browser
            .as_ref()
            .and_then(BrowserConfig::excluded_methods);
        let excluded = excluded.unwrap_or_default();
        let outputs = Outputs {
            storage: request.storage,
            export: request.export.clone(),
        };
        if self.session.active() {
            self.causes.exclude(excluded);
            self.switch_sinks(&outputs);
            *self.outputs() = outputs;
            return Ok(PutAnswer::Replaced(self.replace(&mut sources, config)));
        }
        sources.finish_stopping(None).await;
        let prepared = sources.prepare(&self.all_sources).await?;
        // No `await` from here on: dropping the future cannot leave a session without its sources.
        if self.is_shutting_down.load(SeqCst) {
            return Err(ApiError::ShuttingDown);
        }
        self.causes.exclude(excluded);
        self.switch_sinks(&outputs);
        *self.outputs() = outputs;
        self.start(&mut sources, config, prepared);
        Ok(PutAnswer::Started(self.describe_now()))
    }

    /// Changes what the running session captures: only categories with an explicit `enabled`. Where
    /// nothing is left, the session ends, and this waits until its sources have stopped. Where nothing is
    /// named, nothing changes.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    ///
    /// # Cancel safety
    ///
    /// See [`ApiService`].
    pub async fn patch(&self, request: &ConfigRequest) -> Result<State, ApiError> {
        let mut sources = self.sources.lock().await;
        let config = self.session.config().ok_or(ApiError::NotConfigured)?;
        let browser = request.browser.clone().unwrap_or_default();
        if let Some(excluded) = browser.excluded_methods() {
            self.causes.exclude(excluded);
        }
        self.change_outputs(request);
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
            self.clear(&mut sources).await
        } else {
            self.replace(&mut sources, TelemetryConfig { categories })
        })
    }

    /// Ends the session, waits until its sources have stopped, and answers with the state after that. The
    /// operation behind `DELETE /telemetry`.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotConfigured`] where no session is running.
    ///
    /// # Cancel safety
    ///
    /// See [`ApiService`].
    pub async fn delete(&self) -> Result<State, ApiError> {
        let mut sources = self.sources.lock().await;
        if !self.session.active() {
            return Err(ApiError::NotConfigured);
        }
        Ok(self.clear(&mut sources).await)
    }

    /// Ends the session for good and waits until its sources have stopped, at most until the deadline. No
    /// session starts after this.
    ///
    /// A source that has not stopped by then is abandoned, and a log line names it. The session is off in any
    /// case, also where another operation is stuck in a source.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no session starts any more, but the session that is running may be on still.
    pub async fn shutdown(&self, deadline: Instant) {
        self.is_shutting_down.store(true, SeqCst);
        let Some(mut sources) = before(deadline, self.sources.lock()).await else {
            tracing::warn!(
                "a change of the session had not finished at the deadline and is abandoned"
            );
            self.session.stop();
            return;
        };
        self.session.stop();
        sources.begin_stop(deadline);
        sources.finish_stopping(Some(deadline)).await;
    }

    fn describe_now(&self) -> State {
        let (state, head) = self.session.snapshot();
        self.complete(describe(&state, head, self.session.stream().epoch()))
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with what only the service knows: the methods of which no events are published, and what the
    /// configuration says about storage and export.
    fn complete(&self, mut state: State) -> State {
        if state.session_id.is_some() {
            let Outputs { storage, export } = self.outputs().clone();
            (state.config.storage, state.config.export) = (storage, export);
        }
        let excluded = self.causes.excluded();
        if state.session_id.is_some() && !excluded.is_empty() {
            let control = state.config.browser.control.get_or_insert_default();
            control.cdp = Some(CdpControlConfig {
                excluded_methods: Some(excluded.iter().cloned().collect()),
            });
        }
        state
    }

    fn start(&self, sources: &mut Sources, config: TelemetryConfig, prepared: AllPrepared) {
        let started = self.session.start(&new_session_id(), config);
        started.expect("a new id is not empty");
        let publisher = Publisher::bound(self.session.clone(), self.causes.clone());
        let publisher = publisher.expect("the session has begun");
        let mut starting = Starting {
            session: &self.session,
            sources,
            all_run: false,
        };
        starting.sources.run(prepared, &publisher);
        starting.all_run = true;
    }

    fn replace(&self, sources: &mut Sources, config: TelemetryConfig) -> State {
        // Only `shutdown` may have ended the session in the meantime.
        if self.session.update_config(config).is_ok() {
            sources.reconfigure(config.captured());
        }
        self.describe_now()
    }

    async fn clear(&self, sources: &mut Sources) -> State {
        if self.session.active() {
            self.session.stop();
            sources.begin_stop(Instant::now() + STOP_WITHIN);
        }
        let state = self.describe_now();
        sources.finish_stopping(None).await;
        state
    }
}

/// What a configuration says about where events go besides the stream.
#[derive(Debug, Clone, Default)]
struct Outputs {
    storage: Option<StorageConfig>,
    export: Option<ExportConfig>,
}

impl Outputs {
    /// Whether that sink is to be on: unless it was switched off.
    fn is_on(&self, switch: SinkSwitch) -> bool {
        let enabled = match switch {
            SinkSwitch::Always => None,
            SinkSwitch::Storage => self.storage.and_then(|storage| storage.enabled),
            SinkSwitch::Otlp => {
                let otlp = self.export.as_ref().and_then(|export| export.otlp.as_ref());
                otlp.and_then(|otlp| otlp.enabled)
            }
        };
        enabled.unwrap_or(true)
    }

    /// Takes what the request names, field by field.
    fn change(&mut self, request: &ConfigRequest) {
        if let Some(storage) = request.storage {
            let kept = self.storage.get_or_insert_default();
            kept.enabled = storage.enabled.or(kept.enabled);
        }
        if let Some(export) = &request.export {
            let kept = self.export.get_or_insert_default();
            if let Some(otlp) = &export.otlp {
                let kept = kept.otlp.get_or_insert_default();
                kept.enabled = otlp.enabled.or(kept.enabled);
                if otlp.destination.is_some() {
                    kept.destination.clone_from(&otlp.destination);
                }
            }
        }
    }
}

/// Ends the session where a source panics before all of them run.
struct Starting<'a> {
    session: &'a TelemetrySession,
    sources: &'a mut Sources,
    all_run: bool,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if !self.all_run {
            self.session.stop();
            self.sources.begin_stop(Instant::now() + STOP_WITHIN);
        }
    }
}

/// The state on the wire.
pub(crate) fn describe(state: &SessionState, head: u64, epoch: Epoch) -> State {
    let session = state.session();
    let captured = state.captured().intersection(CategorySet::USER_FACING);
    State {
        config: StateConfig {
            browser: BrowserConfig::of(captured),
            ..StateConfig::default()
        },
        seq: head,
        // Absent where the clock stands beyond the year 9999.
        applied_at: session.and_then(|session| session.applied_at.try_into().ok()),
        session_id: session.map(|session| session.id.to_string()),
        session_start_seq: session.map(|session| session.start_seq),
        epoch,
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
