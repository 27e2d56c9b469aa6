//! One backend as it is served: [`App`], and what answers on a listener: [`Site`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use http::Request;
use hyper::body::Incoming;
use tapline_api::Backend;
use tapline_oapi::ByeReason;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::joins::Views;
use crate::readers::Readers;
use crate::routes::{self, Answer, Client};
use crate::stream::Fanout;

/// What answers the requests on a listener.
pub(crate) trait Site: Send + Sync + 'static {
    /// What the streams read.
    type Backend: Backend;

    fn host(&self) -> &Arc<Host>;

    /// Answers a request, whatever it is.
    fn answer(
        self: &Arc<Self>,
        client: Client<'_>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Answer<Self::Backend>> + Send;
}

/// A backend, and what is kept for its clients.
pub(crate) struct App<B: Backend> {
    pub(crate) host: Arc<Host>,
    pub(crate) backend: Arc<B>,
    /// Its name, where it is an instance of a fleet.
    pub(crate) instance: Option<String>,
    pub(crate) fanout: Fanout<B::Subscription>,
    /// Events that were joined for calls that may come again.
    pub(crate) joins: Views,
    /// The readers that are connected.
    pub(crate) readers: Readers,
    /// Cancelled when its streams are to end: with the server, or before it.
    pub(crate) stopping: CancellationToken,
    /// Set before `stopping` is cancelled, where that is before the server stops.
    is_over: AtomicBool,
}

impl<B: Backend> App<B> {
    pub(crate) fn new(host: Arc<Host>, backend: Arc<B>, instance: Option<String>) -> Self {
        Self {
            stopping: host.stopping.child_token(),
            is_over: AtomicBool::new(false),
            host,
            backend,
            instance,
            fanout: Fanout::default(),
            joins: Views::default(),
            readers: Readers::default(),
        }
    }

    /// Ends its streams behind its last event.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Relaxed);
        self.stopping.cancel();
    }

    /// Why its streams end, when they are to.
    pub(crate) fn end_reason(&self) -> ByeReason {
        match self.host.is_stopping() {
            true => ByeReason::Shutdown,
            false => ByeReason::Restarted,
        }
    }

    /// Whether its streams are to end. Costs no lock.
    pub(crate) fn is_stopping(&self) -> bool {
        self.host.is_stopping() || self.is_over.load(Relaxed)
    }
}

/// One backend answers everything.
impl<B: Backend> Site for App<B> {
    type Backend = B;

    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    async fn answer(self: &Arc<Self>, client: Client<'_>, request: Request<Incoming>) -> Answer<B> {
        let find = async || Ok(self.clone());
        routes::answer(&self.host, self.instance.as_deref(), client, request, find).await
    }
}
