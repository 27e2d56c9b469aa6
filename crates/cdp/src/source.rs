//! The core with a socket and a clock, as a source of events: [`CdpSource`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tapline_api::{BoxFuture, Prepared, Publisher, Running, Source, SourceCounts, SourceError};
use tapline_oapi::{CategorySet, Event};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::drive::{EventHandler, SourceOptions, drive};

/// Publishes what happens in a browser while a telemetry session runs. Its name is `browser`.
///
/// The browser need not run yet: the source waits for it, and reconnects when the connection is lost. The
/// work is done by a task on the given runtime.
///
/// Stopping it detaches from the browser and removes what the source has added to its pages. That takes two
/// seconds at most, since a page that hangs does not answer.
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
/// let api = ApiService::new(session).with_source(source);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CdpSource {
    options: SourceOptions,
    runtime: Handle,
    /// How many messages of the browser could not be read, in all sessions.
    unreadable: Arc<AtomicU64>,
}

impl CdpSource {
    /// A source that connects when a session begins, with tasks on this runtime.
    #[must_use]
    pub fn new(options: SourceOptions, runtime: Handle) -> Self {
        Self {
            options,
            runtime,
            unreadable: Arc::default(),
        }
    }
}

impl Source for CdpSource {
    fn name(&self) -> &str {
        "browser"
    }

    /// Never fails: an event in the stream says later whether there is a browser.
    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Prepared>) })
    }

    /// Messages of the browser that could not be read are counted over all sessions, and by all clones.
    fn counts(&self) -> SourceCounts {
        SourceCounts {
            unreadable: self.unreadable.load(Relaxed),
        }
    }
}

impl Prepared for CdpSource {
    fn run(self: Box<Self>, publisher: Publisher) -> Box<dyn Running> {
        let (wanted, captured) = watch::channel(Some(publisher.captured()));
        let Self {
            options,
            runtime,
            unreadable,
        } = *self;
        let mut publishes = Publishes {
            publisher,
            unreadable,
        };
        let task = runtime.spawn(async move {
            drive(&options, &mut publishes, captured).await;
        });
        Box::new(Connected {
            wanted,
            task: AbortOnDrop(task),
        })
    }
}

/// A source that runs. If it is dropped, the driver ends, because its sender is gone.
struct Connected {
    /// What is captured; `None` once the source is to stop.
    wanted: watch::Sender<Option<CategorySet>>,
    task: AbortOnDrop,
}

impl Running for Connected {
    fn reconfigure(&mut self, captured: CategorySet) {
        self.wanted.send_replace(Some(captured));
    }

    fn stop(self: Box<Self>, _: Instant) -> BoxFuture<'static, ()> {
        self.wanted.send_replace(None);
        Box::pin(async move {
            let mut task = self.task;
            // It also ends with a panic, which the runtime reports, or with the runtime.
            let _ = (&mut task.0).await;
        })
    }
}

/// Ends the driver when it is dropped, which happens at the deadline of a stop.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Publishes {
    publisher: Publisher,
    unreadable: Arc<AtomicU64>,
}

impl EventHandler for Publishes {
    fn event(&mut self, mut event: Event) {
        // The one place where an event is traced to the command of another client.
        self.publisher.causes().mark(&mut event);
        // Why it was refused is in the session's ledger.
        let _ = self.publisher.publish(event);
    }

    fn unreadable(&mut self) {
        self.unreadable.fetch_add(1, Relaxed);
    }
}
