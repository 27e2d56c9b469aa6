//! Answering on a listener, within bounds, and ending well.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tapline_access::Access;
use tapline_api::ApiService;
use tapline_oapi::ErrorCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Failure;
use crate::connection;
use crate::metrics::{Closed, Metrics, Refused};
use crate::stream::Fanout;

/// How the server works.
#[derive(Clone)]
pub struct Options {
    /// What peers may take of it.
    pub limits: Limits,
    /// After how long a silence a stream says that it is alive, and at which pace it beats where it
    /// was asked to tell about itself. Default: 15 s.
    pub beat: Duration,
    /// How long streams may take to come to their end when the server stops. Default: 5 s.
    pub drain: Duration,
    /// Over how long a time streams that are sent away come back: each is given a moment of its own in it.
    /// `None`, the default: a second for each thousand of them, and 4 s at least.
    pub reconnect_window: Option<Duration>,
    /// Whether streams are compressed for those who ask for it. Default: no
    /// (`docs/streaming.md` tells what it costs).
    pub compress: bool,
    /// Who may call. Default: every client on loopback, without a token and without TLS.
    pub access: Arc<Access>,
}

/// What peers may take of the server. What goes beyond is answered: 413, 431, 408, 429 or 503.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body of a request, in bytes. Default: 8 MiB.
    pub body_bytes: usize,
    /// How long a body may pause. Default: 30 s.
    pub body_time: Duration,
    /// The largest head of a request, in bytes. Default: 32 KiB.
    pub header_bytes: usize,
    /// How long the head of a request may take, and a TLS handshake. Default: 10 s.
    pub header_time: Duration,
    /// How long a connection may be kept without a request. Default: 75 s.
    pub idle: Duration,
    /// How long a peer may take no bytes at all of what is sent to it. Default: 2 min.
    pub stall: Duration,
    /// How many connections there are at once. Default: 16,384.
    pub connections: usize,
    /// How many of them come from one address. Default: 16,384: behind a proxy, and on loopback, all do.
    pub connections_per_address: usize,
    /// How many streams there are at once. Default: 16,000, so that there is always a connection left to
    /// publish and to look.
    pub streams: usize,
    /// How many bytes are made ready at once for a stream: what one that does not read costs. An event that is
    /// larger goes alone. Default: 64 KiB.
    pub stream_bytes: usize,
    /// How many requests a connection carries. Default: 1,000,000.
    pub requests: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            beat: Duration::from_secs(15),
            drain: Duration::from_secs(5),
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

/// What every connection works with.
pub(crate) struct App {
    pub(crate) api: Arc<ApiService>,
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    pub(crate) fanout: Fanout,
    /// How many streams there are.
    pub(crate) streams: AtomicUsize,
    /// How many of them were there when the server began to stop.
    pub(crate) sent_away: AtomicUsize,
    places: Mutex<Places>,
    /// How many are being told that there is no room.
    refusing: AtomicUsize,
    /// Cancelled when the server is to stop.
    pub(crate) stopping: CancellationToken,
    /// Set before `stopping` is cancelled: a look at it costs no lock.
    pub(crate) is_stopping: AtomicBool,
    tasks: TaskTracker,
    /// To end those tasks that do not do so by themselves. Those that are over are taken out now and then.
    handles: Mutex<Handles>,
}

/// The connections that there are.
#[derive(Default)]
struct Places {
    all: usize,
    /// An address that has none is not here.
    of_address: HashMap<IpAddr, usize>,
}

/// Answers on `listener` until `shutdown` completes; then takes no new connection, brings every
/// stream up to the head of that moment and tells it goodbye, and returns when all are done, or
/// after [`Options::drain`].
///
/// # Errors
///
/// None at present: a listener that cannot take a connection is tried again.
///
/// # Cancel safety
///
/// Dropping the future closes the listener; connections that are open go on until their peers leave.
pub async fn serve(
    listener: TcpListener,
    api: Arc<ApiService>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let drain = options.drain;
    let app = Arc::new(App {
        metrics: Metrics::new(),
        fanout: Fanout::default(),
        streams: AtomicUsize::new(0),
        sent_away: AtomicUsize::new(0),
        places: Mutex::default(),
        refusing: AtomicUsize::new(0),
        stopping: CancellationToken::new(),
        is_stopping: AtomicBool::new(false),
        tasks: TaskTracker::new(),
        handles: Mutex::default(),
        api,
        options,
    });
    tokio::select! {
        () = shutdown => {}
        () = accept(&listener, &app) => {}
    }
    drop(listener);
    tracing::info!("stopping");
    app.is_stopping.store(true, Relaxed);
    app.sent_away.store(app.streams.load(Relaxed), Relaxed);
    app.stopping.cancel();
    app.tasks.close();
    tokio::select! {
        () = app.tasks.wait() => {}
        () = sleep(drain) => {
            tracing::warn!(after = ?drain, left = app.tasks.len(), "some connections did not end in time");
            app.abort_all();
        }
    }
    Ok(())
}

async fn accept(listener: &TcpListener, app: &Arc<App>) {
    /// Where the system has no more descriptors, the next connection ends one. Without a pause this would
    /// spin until then.
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((socket, address)) => app.take(socket, address),
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// The tasks that there are, and some that were.
struct Handles {
    all: Vec<AbortHandle>,
    /// At this number of them, those that are over are taken out: so that each costs a look or two.
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

impl App {
    /// Serves a connection, if there is room for it.
    fn take(self: &Arc<Self>, mut socket: TcpStream, address: SocketAddr) {
        /// How many are told that there is no room at once: it should not cost what was to be saved.
        const TOLD_AT_ONCE: usize = 64;
        let (why, failure) = match Place::take(self, address.ip()) {
            Ok(place) => {
                self.spawn(connection::run(self.clone(), socket, address, place));
                return;
            }
            Err(refused) => refused,
        };
        self.metrics.connections.refused(why);
        tracing::debug!(%address, ?why, "connection refused");
        // Under TLS nothing can be said before the handshake, which is what there is no room for.
        if !self.options.access.has_tls() && self.refusing.fetch_add(1, Relaxed) < TOLD_AT_ONCE {
            let app = self.clone();
            self.spawn(async move {
                connection::turn_away(&mut socket, failure).await;
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

/// A connection's place among those that there may be.
pub(crate) struct Place {
    app: Arc<App>,
    address: IpAddr,
    /// Why it is given up, when it is.
    pub(crate) why: Closed,
}

impl Place {
    fn take(app: &Arc<App>, address: IpAddr) -> Result<Self, (Refused, Failure)> {
        /// When it may be worth another try, in seconds.
        const RETRY_AFTER: u32 = 2;
        let Limits {
            connections,
            connections_per_address,
            ..
        } = app.options.limits;
        let mut places = app.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.all >= connections {
            let failure = Failure::new(
                ErrorCode::Unavailable,
                format!("all {connections} connections of this server are taken"),
            );
            return Err((Refused::Connections, failure.retry_after(RETRY_AFTER)));
        }
        let here = places.of_address.get(&address).copied().unwrap_or(0);
        if here >= connections_per_address {
            let failure = Failure::new(
                ErrorCode::TooManyRequests,
                format!("all {connections_per_address} connections for one address are taken"),
            );
            return Err((Refused::Address, failure.retry_after(RETRY_AFTER)));
        }
        places.all += 1;
        places.of_address.insert(address, here + 1);
        app.metrics.connections.accepted();
        Ok(Self {
            app: app.clone(),
            address,
            why: Closed::Done,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.metrics.connections.closed(self.why);
        let places = &self.app.places;
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        places.all -= 1;
        if let Some(here) = places.of_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                places.of_address.remove(&self.address);
            }
        }
    }
}
