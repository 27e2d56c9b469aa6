//! Answering on a listener, within bounds, and ending well.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_access::Access;
use tapline_api::{Backend, Fleet};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout_at};

use crate::app::{App, Site};
use crate::connection;
use crate::fleet::Gateway;
use crate::host::{ConnectionPermit, Host, RefusalPermit};

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
    let app = App::new(Host::new(options), backend, None);
    run(listener, Arc::new(app), shutdown).await
}

/// As [`serve`], for many backends: `/instances/{id}/telemetry/…` is what one has under `/telemetry/…`, and
/// `GET /instances` lists them.
///
/// # Errors
///
/// As [`serve`].
///
/// # Cancel safety
///
/// As [`serve`].
pub async fn serve_fleet<F: Fleet>(
    listener: TcpListener,
    fleet: Arc<F>,
    options: Options,
    shutdown: impl Future<Output = Shutdown> + Send + 'static,
) -> io::Result<()> {
    let gateway = Gateway::new(Host::new(options), fleet);
    run(listener, gateway, shutdown).await
}

/// As [`serve`], whatever answers.
async fn run<S: Site>(
    listener: TcpListener,
    site: Arc<S>,
    shutdown: impl Future<Output = Shutdown> + Send + 'static,
) -> io::Result<()> {
    let Shutdown {
        deadline,
        producers,
    } = tokio::select! {
        shutdown = shutdown => shutdown,
        never = accept(&listener, &site) => match never {},
    };
    drop(listener);
    tracing::info!("stopping");
    if timeout_at(deadline.into(), producers).await.is_err() {
        tracing::warn!("some producers did not stop before the deadline");
    }
    site.host().stop(deadline).await;
    Ok(())
}

async fn accept<S: Site>(listener: &TcpListener, site: &Arc<S>) -> Infallible {
    /// Where the process has no file descriptors left, accepting fails until a connection ends. Without a
    /// pause this loop would spin until then.
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok((socket, address)) => take(site, socket, address),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection, if the limits allow it.
fn take<S: Site>(site: &Arc<S>, mut socket: TcpStream, address: SocketAddr) {
    let host = site.host();
    let (why, failure) = match ConnectionPermit::acquire(host, address.ip()) {
        Ok(permit) => {
            host.spawn(connection::run(site.clone(), socket, address, permit));
            return;
        }
        Err(refused) => refused,
    };
    host.metrics.connections.refused(why);
    tracing::debug!(%address, ?why, "connection refused");
    // Under TLS no answer can be sent before the handshake, which is what would cost too much.
    if !host.options.access.has_tls()
        && let Some(turn) = RefusalPermit::acquire(host)
    {
        host.spawn(async move {
            connection::answer_and_close(&mut socket, failure).await;
            drop(turn);
        });
    }
}
