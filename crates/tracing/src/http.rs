//! Publishes to a server: [`over_http`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tapline_client::Client;
use tokio::sync::watch;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;

use crate::counts::{Counters, Counts, Handle};
use crate::layer::{Parts, TracingLayer, layer};
use crate::options::Options;
use crate::output::{Gate, Muted};
use crate::queue::Queue;
use crate::sender::Sender;

/// For how long dropping a [`Guard`] waits.
const DROP_WITHIN: Duration = Duration::from_secs(2);

/// How much later than its deadline a shutdown may return, if the thread that sends gets no processor time.
const SLACK: Duration = Duration::from_millis(250);

/// Where events are sent, and how.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// The server, such as `http://127.0.0.1:10001`. `https://` needs the feature `tls`.
    pub url: String,
    /// The server's token. None by default.
    pub token: Option<String>,
    /// The certificates (PEM) to trust for `https://`, in place of the system's. Not used without the feature `tls`.
    pub ca_file: Option<PathBuf>,
    /// The most events that are queued; at least 1, by default 8,192. More are lost.
    pub queue_events: usize,
    /// The most bytes that are queued, by default 16 MiB. More are lost. An event counts as its data and 256 bytes.
    pub queue_bytes: usize,
    /// How long the first event of a batch waits for others, by default 100 ms. So late is an event at most, while the server accepts them.
    pub linger: Duration,
    /// The most events of a request; at least 1, by default 1,000.
    pub batch_events: usize,
    /// The most bytes of a request, by default 1 MiB; one event is sent in any case. A server accepts 8 MiB unless it is configured otherwise.
    pub batch_bytes: usize,
}

impl HttpOptions {
    /// The defaults, for the server at this address.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            ca_file: None,
            queue_events: 8192,
            queue_bytes: 16 * 1024 * 1024,
            linger: Duration::from_millis(100),
            batch_events: 1000,
            batch_bytes: 1024 * 1024,
        }
    }

    fn client(&self) -> Result<Client, tapline_client::Error> {
        let client = match &self.ca_file {
            #[cfg(feature = "tls")]
            Some(file) => Client::with_ca_file(&self.url, file)?,
            _ => Client::new(&self.url)?,
        };
        match &self.token {
            Some(token) => client.with_token(token),
            None => Ok(client),
        }
    }
}

/// Never shows the token, which is a secret.
impl std::fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("url", &self.url)
            .field("has_token", &self.token.is_some())
            .field("queue_events", &self.queue_events)
            .field("queue_bytes", &self.queue_bytes)
            .finish_non_exhaustive()
    }
}

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address, the token or the certificates cannot be used.
    #[error("cannot publish to `{url}`")]
    Client {
        /// The address.
        url: String,
        /// Why not, and the fix.
        source: tapline_client::Error,
    },
    /// The system starts no thread, or gives it nothing to wait with.
    #[error("cannot start the thread that sends events")]
    Thread(#[source] io::Error),
}

/// A layer that sends events to a server, and the guard that ends it.
///
/// Connects to nothing yet. A thread of its own, `tapline-tracing`, sends the events in batches; the program needs no async runtime. While the
/// server cannot be reached, or answers with an error that says that nothing was published, a batch is sent again, after 0.1 s at first and 5 s at most, and the queue
/// fills. A request without an answer is not repeated: its events count as [`unconfirmed`](Counts::unconfirmed).
///
/// As long as no session captures the category, log statements make no events, and the thread asks the server once a second: what is
/// logged in the first second of a session may be missing. It is in no count.
///
/// # Errors
///
/// [`HttpError`]; never because the server does not answer.
pub fn over_http<S>(
    options: Options,
    http: HttpOptions,
) -> Result<(TracingLayer<S>, Guard), HttpError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let client = http.client().map_err(|source| HttpError::Client {
        url: http.url.clone(),
        source,
    })?;
    let counters = Arc::new(Counters::default());
    let queue = Arc::new(Queue::new(
        http.queue_events,
        http.queue_bytes,
        counters.clone(),
    ));
    // Open until the server has answered: what is logged before that is queued.
    let gate = Arc::new(Gate::new(true));
    let style = Arc::new(options.style());
    let (stop, stopped) = watch::channel(None);
    let (ended, has_ended) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HttpError::Thread)?;
    let sender = Sender::new(
        client,
        queue.clone(),
        gate.clone(),
        counters.clone(),
        style.clone(),
        stopped,
        http,
    );
    thread::Builder::new()
        .name("tapline-tracing".to_owned())
        .spawn(move || {
            // What the client logs here would be sent, and logged, and sent.
            let _muted = Muted::new();
            runtime.block_on(sender.run());
            // The other end may be gone: it waits for a bounded time.
            let _ = ended.send(());
            // Looking up a name may take longer than anything waits for.
            runtime.shutdown_background();
        })
        .map_err(HttpError::Thread)?;
    let guard = Guard {
        handle: Handle(counters.clone()),
        queue: queue.clone(),
        stop,
        has_ended,
        has_stopped: false,
    };
    let parts = Parts {
        output: queue,
        gate,
        counters,
        style,
    };
    Ok((layer(options, parts), guard))
}

/// Ends the sending. Keep it until the program ends: dropping it sends what is queued, for at most two seconds.
#[must_use = "dropping the guard ends the sending"]
pub struct Guard {
    handle: Handle,
    queue: Arc<Queue>,
    stop: watch::Sender<Option<Instant>>,
    has_ended: Receiver<()>,
    has_stopped: bool,
}

impl Guard {
    /// What became of each event, now and later.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends what is queued, for at most `within`, and ends the thread. What is logged from now on is lost, and counted so; what is queued at the
    /// deadline as well; a request that has no answer then is unconfirmed. Returns the counts, in which nothing is pending unless a thread is
    /// about to queue an event at this very moment.
    ///
    /// Blocks the calling thread, for a quarter of a second longer than `within` at most. In async code, call it where blocking is allowed (`spawn_blocking` of
    /// tokio): if the server runs on the thread that waits, it cannot answer.
    pub fn shutdown(mut self, within: Duration) -> Counts {
        self.stop(within)
    }

    fn stop(&mut self, within: Duration) -> Counts {
        self.has_stopped = true;
        self.queue.close();
        let deadline = Instant::now() + within;
        self.stop.send_replace(Some(deadline));
        // An error is a thread that has ended without a message.
        let _ = self.has_ended.recv_timeout(within.saturating_add(SLACK));
        // What was queued while the queue was being closed.
        self.queue.lose_all();
        self.handle.counts()
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Guard").field(&self.handle).finish()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.has_stopped {
            self.stop(DROP_WITHIN);
        }
    }
}
