//! The machine with a socket and a clock around it, as a source of events: [`CdpSource`].

use std::sync::{Arc, Mutex, PoisonError};

use tapline_api::{Source, SourceError};
use tapline_oapi::{CategorySet, Event};
use tapline_telemetry::TelemetrySession;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::drive::{EventHandler, SourceOptions, drive};

/// Tells of a browser, while a telemetry session is on. A handle: clones are the same source.
///
/// The browser need not be there: the source waits for it, and looks for it again when it is lost.
/// What it does is done by a task on the runtime that it was made with; no call here waits.
///
/// ```no_run
/// use tapline_api::ApiService;
/// use tapline_cdp::{CdpSource, SourceOptions};
/// # use tapline_events::{EventStream, Retention};
/// # use tapline_telemetry::TelemetrySession;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let session = TelemetrySession::new(EventStream::new(Retention::default())?);
/// let options = SourceOptions::new("http://127.0.0.1:9222".parse()?);
/// let source = CdpSource::new(options, tokio::runtime::Handle::current());
/// let api = ApiService::new(session, source.clone());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CdpSource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: SourceOptions,
    runtime: Handle,
    /// The last one, also when it was told to end.
    run: Mutex<Option<Run>>,
}

/// From `run` to `stop`.
#[derive(Debug)]
struct Run {
    /// What is captured; none when it is to end.
    wanted: watch::Sender<Option<CategorySet>>,
    task: JoinHandle<()>,
}

impl CdpSource {
    /// A source that connects when a session begins, with tasks on this runtime.
    #[must_use]
    pub fn new(options: SourceOptions, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            options,
            runtime,
            run: Mutex::new(None),
        }))
    }

    /// Waits until the browser was let go of, after [`stop`](Source::stop): two seconds at most, as
    /// a page that hangs does not answer. At once where nothing runs.
    ///
    /// # Cancel safety
    ///
    /// Dropped too early, it cannot be waited for again; the browser is let go of all the same.
    pub async fn ended(&self) {
        let run = self.lock().take();
        if let Some(run) = run {
            run.wanted.send_replace(None);
            // It ends with the runtime, too.
            let _ = run.task.await;
        }
    }

    fn want(&self, captured: Option<CategorySet>) {
        if let Some(run) = &*self.lock() {
            run.wanted.send_replace(captured);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Run>> {
        self.0.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for CdpSource {
    /// Never fails: whether there is a browser is found out later, and told in the stream.
    fn prepare(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn run(&self, session: &Arc<TelemetrySession>) {
        let captured = session
            .config()
            .map_or(CategorySet::EMPTY, |it| it.captured());
        let (sender, wanted) = watch::channel(Some(captured));
        let mut publisher = Publisher {
            session: session.clone(),
            wanted: wanted.clone(),
        };
        let mut run = self.lock();
        let before = run.take();
        let options = self.0.options.clone();
        let task = self.0.runtime.spawn(async move {
            // Both would share the script in the pages: the one before takes it away first.
            if let Some(before) = before {
                before.wanted.send_replace(None);
                let _ = before.task.await;
            }
            drive(&options, &mut publisher, wanted).await;
        });
        *run = Some(Run {
            wanted: sender,
            task,
        });
    }

    fn reconfigure(&self, captured: CategorySet) {
        self.want(Some(captured));
    }

    fn stop(&self) {
        self.want(None);
    }
}

struct Publisher {
    session: Arc<TelemetrySession>,
    wanted: watch::Receiver<Option<CategorySet>>,
}

impl EventHandler for Publisher {
    fn event(&mut self, event: Event) {
        // Looked at for as long as it takes, which is a microsecond: when `stop` has returned, nothing
        // more is published, not even into the session after.
        let wanted = self.wanted.borrow();
        if wanted.is_some() {
            // Why it was refused is in the session's ledger.
            let _ = self.session.publish(event);
        }
    }
}
