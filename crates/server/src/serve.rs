//! Answering on a listener, and ending well.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tapline_api::ApiService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::routes;

/// The bounds within which the server works.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest body of a request, in bytes. Default: 8 MiB.
    pub body_bytes: usize,
    /// After how long a silence a stream says that it is alive, and at which pace it beats where it
    /// was asked to tell about itself. Default: 15 s.
    pub beat: Duration,
    /// How long streams may take to come to their end when the server stops. Default: 5 s.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024 * 1024,
            beat: Duration::from_secs(15),
            drain: Duration::from_secs(5),
        }
    }
}

/// What every route works with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) api: Arc<ApiService>,
    pub(crate) options: Options,
    /// Cancelled when the server is to stop.
    pub(crate) stopping: CancellationToken,
}

/// Answers on `listener` until `shutdown` completes; then takes no new connection, brings every
/// stream up to the head of that moment and tells it goodbye, and returns when all are done, or
/// after [`Options::drain`].
///
/// # Errors
///
/// Where the listener fails for good.
///
/// # Cancel safety
///
/// Dropping the future closes the listener; streams that are open go on until their peers leave.
pub async fn serve(
    listener: TcpListener,
    api: Arc<ApiService>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopping = CancellationToken::new();
    let drain = options.drain;
    let app = routes::router(App {
        api,
        options,
        stopping: stopping.clone(),
    });
    // A frame is written whole: waiting for more to send along would only delay it.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let stop = stopping.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.await;
        tracing::info!("stopping");
        stop.cancel();
    });
    let deadline = async {
        stopping.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = server => ended,
        () = deadline => {
            tracing::warn!(after = ?drain, "some connections did not end in time");
            Ok(())
        }
    }
}
