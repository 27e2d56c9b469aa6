//! Answering on a listener, within bounds, and ending well.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tapline_access::Access;
use tapline_api::Backend;
use tapline_oapi::ErrorCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Failure;
use crate::connection;
use crate::export::MAX_EXPORTS;
use crate::joins::Views;
use crate::metrics::{CloseReason, Metrics, RefusalReason};
use crate::pace::Turns;
use crate::readers::Readers;
use crate::stream::Fanout;

/// How the server works.
#[derive(Clone)]
pub struct Options {
    /// What clients may use of it.
    pub limits: Limits,
    /// After how long a silence a stream sends a comment as a sign that it is alive; with notices, how often
    /// it sends a beat. Default: 15 s.
    pub beat: Duration,
    /// Within how long a time clients reconnect after their streams have ended: each is given a moment of its
    /// own in it. `None`, the default: a second for each thousand streams, and 4 s at least.
    pub reconnect_window: Option<Duration>,
    /// Whether streams are compressed for clients that ask for it. Default: no
    /// (`docs/streaming.md` has the costs).
    pub compress: bool,
    /// Who may call. Default: every client on loopback, without a token and without TLS.
    pub access: Arc<Access>,
}

/// What clients may use of the server. What goes beyond is answered: 413, 431, 408, 429 or 503.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body of a request, in bytes. Default: 8 MiB.
    pub body_bytes: usize,
    /// How long a body may pause. Default: 30 s.
    pub body_time: Duration,
    /// How long a body may take from its first byte to its last. Default: 60 s.
    pub body_total_time: Duration,
    /// The largest head of a request, in bytes. Default: 32 KiB.
    pub header_bytes: usize,
    /// How long the head of a request may take, and a TLS handshake. Default: 10 s.
    pub header_time: Duration,
    /// How long a connection may be kept without a request. Default: 75 s.
    pub idle: Duration,
    /// How long a client may take no bytes at all of what is sent to it. Default: 2 min.
    pub stall: Duration,
    /// How many connections there are at once. Default: 16,384.
    pub connections: usize,
    /// How many of them come from one address. Default: 16,384: behind a proxy, and on loopback, all do.
    pub connections_per_address: usize,
    /// How many streams there are at once. Default: 16,000, so that there are always connections left for
    /// other requests.
    pub streams: usize,
    /// How many bytes are encoded at once for a stream: the cost of a stream whose client does not read. A
    /// larger event is sent alone. Default: 64 KiB.
    pub stream_bytes: usize,
    /// How many requests a connection carries. Default: 1,000,000.
    pub requests: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            beat: Duration::from_secs(15),
            reconnect_window: None,
            compress: false,
            access: Arc::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024 * 1024,
            body_time: Duration::from_secs(30),
            body_total_time: Duration::from_secs(60),
            header_bytes: 32 * 1024,
            header_time: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(120),
            connections: 16_384,
            connections_per_address: 16_384,
            streams: 16_000,
            stream_bytes: 64 * 1024,
            requests: 1_000_000,
        }
    }
}

/// How a server ends: by when, and after what.
pub struct Shutdown {
    deadline: Instant,
    producers: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Shutdown {
    /// Everything has ended at the deadline.
    pub fn by(deadline: Instant) -> Self {
        Self {
            deadline,
            producers: Box::pin(async {}),
        }
    }

    /// Streams end only once this is done, so that they carry the last events of the producers that it stops.
    /// It should be done well before the deadline.
    #[must_use]
    pub fn after(self, producers: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            producers: Box::pin(producers),
            ..self
        }
    }
}

/// What every connection works with.
pub(crate) struct App<B: Backend> {
    pub(crate) backend: Arc<B>,
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    pub(crate) fanout: Fanout<B::Subscription>,
    /// Who may match events with a costly filter.
    pub(crate) turns: Turns,
    /// So many exports may begin.
    pub(crate) exports: Arc<Semaphore>,
    /// Events that were joined for calls that may come again.
    pub(crate) joins: Views,
    /// The readers that are connected.
    pub(crate) readers: Readers,
    /// How many streams there are.
    pub(crate) streams: AtomicUsize,
    /// How many of them there were when the server began to stop.
    pub(crate) streams_at_stop: AtomicUsize,
    connections: Mutex<ConnectionCounts>,
    /// How many connections are being refused with an answer.
    refusing: AtomicUsize,
    /// Cancelled when the server is to stop.
    pub(crate) stopping: CancellationToken,
    /// Set before `stopping` is cancelled: a look at it costs no lock.
    pub(crate) is_stopping: AtomicBool,
    tasks: TaskTracker,
    /// To abort the tasks that have not ended in time.
    handles: Mutex<Handles>,
}

/// How many connections there are.
#[derive(Default)]
struct ConnectionCounts {
    all: usize,
    /// Without the addresses that have none.
    of_address: HashMap<IpAddr, usize>,
}

/// Answers on `listener` until `shutdown` completes. Then it accepts no further connection, waits for the
/// producers to stop ([`Shutdown::after`]), brings every stream up to the head of that moment, ends it with a
/// `bye`, and returns when all have ended, or at the deadline.
///
/// # Errors
///
/// None at present: a listener that cannot accept a connection is tried again.
///
/// # Cancel safety
///
/// Dropping the future closes the listener. Open connections continue until their clients leave.
pub async fn serve<B: Backend>(
    listener: TcpListener,
    backend: Arc<B>,
    options: Options,
    shutdown: impl Future<Output = Shutdown> + Send + 'static,
) -> io::Result<()> {
    let app = Arc::new(App {
        metrics: Metrics::new(),
        fanout: Fanout::default(),
        turns: Turns::default(),
        exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
        joins: Views::default(),
        readers: Readers::default(),
        streams: AtomicUsize::new(0),
        streams_at_stop: AtomicUsize::new(0),
        connections: Mutex::default(),
        refusing: AtomicUsize::new(0),
        stopping: CancellationToken::new(),
        is_stopping: AtomicBool::new(false),
        tasks: TaskTracker::new(),
        handles: Mutex::default(),
        backend,
        options,
    });
    let Shutdown {
        deadline,
        producers,
    } = tokio::select! {
        shutdown = shutdown => shutdown,
        never = accept(&listener, &app) => match never {},
    };
    drop(listener);
    tracing::info!("stopping");
    if timeout_at(deadline.into(), producers).await.is_err() {
        tracing::warn!("some producers did not stop before the deadline");
    }
    app.is_stopping.store(true, Relaxed);
    app.streams_at_stop
        .store(app.streams.load(Relaxed), Relaxed);
    app.stopping.cancel();
    app.tasks.close();
    if timeout_at(deadline.into(), app.tasks.wait()).await.is_err() {
        tracing::warn!(
            left = app.tasks.len(),
            "some connections did not end before the deadline"
        );
        app.abort_all();
    }
    Ok(())
}

async fn accept<B: Backend>(listener: &TcpListener, app: &Arc<App<B>>) -> Infallible {
    /// Where the process has no file descriptors left, accepting fails until a connection ends. Without a
    /// pause this loop would spin until then.
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((socket, address)) => app.take(socket, address),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// The handles of all tasks that run, and of some that have ended.
struct Handles {
    all: Vec<AbortHandle>,
    /// At this number of handles, those of ended tasks are removed: each costs a check or two.
    sweep_at: usize,
}

const SWEEP_AT: usize = 64;

impl Default for Handles {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            sweep_at: SWEEP_AT,
        }
    }
}

impl<B: Backend> App<B> {
    /// Serves a connection, if its limits allow it.
    fn take(self: &Arc<Self>, mut socket: TcpStream, address: SocketAddr) {
        /// How many connections are refused with an answer at a time: refusing should cost less than serving.
        const REFUSED_AT_ONCE: usize = 64;
        let (why, failure) = match ConnectionPermit::acquire(self, address.ip()) {
            Ok(permit) => {
                self.spawn(connection::run(self.clone(), socket, address, permit));
                return;
            }
            Err(refused) => refused,
        };
        self.metrics.connections.refused(why);
        tracing::debug!(%address, ?why, "connection refused");
        // Under TLS no answer can be sent before the handshake, which is what would cost too much.
        if !self.options.access.has_tls() && self.refusing.fetch_add(1, Relaxed) < REFUSED_AT_ONCE {
            let app = self.clone();
            self.spawn(async move {
                connection::answer_and_close(&mut socket, failure).await;
                app.refusing.fetch_sub(1, Relaxed);
            });
        } else if !self.options.access.has_tls() {
            self.refusing.fetch_sub(1, Relaxed);
        }
    }

    /// Runs a task that ends when the server does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task).abort_handle();
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.all.push(handle);
        if handles.sweep_at <= handles.all.len() {
            handles.all.retain(|handle| !handle.is_finished());
            handles.sweep_at = 2 * handles.all.len().max(SWEEP_AT);
        }
    }

    fn abort_all(&self) {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in &handles.all {
            handle.abort();
        }
    }
}

/// One of the connections that there may be at once. Given back when it is dropped.
pub(crate) struct ConnectionPermit<B: Backend> {
    app: Arc<App<B>>,
    address: IpAddr,
    /// Why the connection is closed.
    pub(crate) reason: CloseReason,
}

impl<B: Backend> ConnectionPermit<B> {
    fn acquire(app: &Arc<App<B>>, address: IpAddr) -> Result<Self, (RefusalReason, Failure)> {
        /// When a client may try again, in seconds.
        const RETRY_AFTER: u32 = 2;
        let Limits {
            connections,
            connections_per_address,
            ..
        } = app.options.limits;
        let mut counts = app
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if counts.all >= connections {
            let failure = Failure::new(
                ErrorCode::Unavailable,
                format!("this server has {connections} connections open, its limit"),
            );
            return Err((RefusalReason::Connections, failure.retry_after(RETRY_AFTER)));
        }
        let here = counts.of_address.get(&address).copied().unwrap_or(0);
        if here >= connections_per_address {
            let failure = Failure::new(
                ErrorCode::TooManyRequests,
                format!(
                    "this server has {connections_per_address} connections open from your address, its limit"
                ),
            );
            return Err((RefusalReason::Address, failure.retry_after(RETRY_AFTER)));
        }
        counts.all += 1;
        counts.of_address.insert(address, here + 1);
        app.metrics.connections.accepted();
        Ok(Self {
            app: app.clone(),
            address,
            reason: CloseReason::Done,
        })
    }
}

impl<B: Backend> Drop for ConnectionPermit<B> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(address = %self.address, "the task of a connection panicked; it is closed");
            self.reason = CloseReason::Failed;
        }
        self.app.metrics.connections.closed(self.reason);
        let counts = &self.app.connections;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(here) = counts.of_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.of_address.remove(&self.address);
            }
        }
    }
}
