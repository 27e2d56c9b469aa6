//! The server under test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tapline_access::{AccessConfig, Token, TokenSource};
use tapline_api::{ApiService, Backend as _, Source};
use tapline_events::{EventStream, Retention};
use tapline_oapi::{ConfigRequest, Event, KnownType, ReaderInfo, ReaderList};
use tapline_server::{Limits, Options, Shutdown, serve};
use tapline_telemetry::{Envelope, TelemetrySession};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::{Answer, Connection, Request, get, in_time};

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) api: Arc<ApiService>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

/// The token of a server that has one.
pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

/// [`TOKEN`] as a server gets it.
pub(crate) fn token() -> TokenSource {
    TokenSource::Fixed(Token::from_variable("TOKEN", TOKEN).unwrap())
}

/// How the server is to be.
pub(crate) struct Setup {
    pub(crate) events: usize,
    pub(crate) options: Options,
    /// How long the server may take to end.
    pub(crate) drain: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            events: 1024,
            options: Options::default(),
            drain: Duration::from_secs(5),
        }
    }
}

impl Setup {
    pub(crate) fn events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    pub(crate) fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    pub(crate) fn limits(self, change: impl FnOnce(&mut Limits)) -> Self {
        self.options(|options| change(&mut options.limits))
    }

    /// It asks for [`TOKEN`].
    pub(crate) fn guarded(self) -> Self {
        self.access(AccessConfig {
            token: Some(token()),
            ..AccessConfig::default()
        })
    }

    /// It has these rules of who may call.
    pub(crate) fn access(self, config: AccessConfig) -> Self {
        let access = config.load().unwrap();
        self.options(|options| options.access = access.into())
    }

    /// Nothing is configured yet.
    pub(crate) async fn idle(self) -> Server {
        self.start(|api| api).await
    }

    /// A session with the default configuration is on.
    pub(crate) async fn running(self) -> Server {
        let server = self.idle().await;
        server.api.put(&ConfigRequest::default()).await.unwrap();
        server
    }

    pub(crate) async fn with(self, source: impl Source) -> Server {
        self.start(|api| api.with_source(source)).await
    }

    async fn start(self, add: impl FnOnce(ApiService) -> ApiService) -> Server {
        let Self {
            events,
            options,
            drain,
        } = self;
        let stream = EventStream::new(Retention {
            events,
            bytes: u64::MAX,
            ..Retention::default()
        })
        .unwrap();
        let api = Arc::new(add(ApiService::new(TelemetrySession::new(stream))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // An error is a server that was dropped: its test is over.
            let _ = stopped.await;
            Shutdown::by(Instant::now() + drain)
        };
        let task = tokio::spawn(serve(listener, api.clone(), options, shutdown));
        Server {
            addr,
            api,
            stop: Some(stop),
            task,
        }
    }
}

/// As [`Setup::running`], with nothing special about it.
pub(crate) async fn running() -> Server {
    Setup::default().running().await
}

pub(crate) struct Flood(Arc<AtomicBool>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Server {
    pub(crate) async fn call(&self, request: &Request) -> Answer {
        Connection::open(self.addr).await.call(request).await
    }

    pub(crate) fn publish(&self, known: KnownType) -> Envelope {
        self.api
            .publisher()
            .publish(Event::known(known, None))
            .unwrap()
    }

    /// Publishes console lines until the head is there.
    pub(crate) fn fill_to(&self, head: u64) {
        while self.api.retained().head < head {
            self.publish(KnownType::ConsoleLog);
        }
    }

    /// The readers that are connected.
    pub(crate) async fn readers(&self) -> Vec<ReaderInfo> {
        let answer = self.call(&get("/telemetry/readers").token(TOKEN)).await;
        let list: ReaderList = serde_json::from_slice(&answer.body).unwrap();
        list.readers
    }

    /// The value that `/metrics` has under this name, labels included.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let answer = self.call(&get("/metrics").token(TOKEN)).await;
        let line = answer
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no {series} in {}", answer.text()));
        value.parse().unwrap()
    }

    /// Waits until `/metrics` shows this: an end is counted a moment later.
    pub(crate) async fn until_metric(&self, series: &str, expected: u64) {
        in_time(async { while self.metric(series).await != expected {} }).await;
    }

    /// Publishes faster than a client can read, until the returned value is dropped.
    pub(crate) fn flood(&self) -> Flood {
        let flows = Arc::new(AtomicBool::new(true));
        let (api, still) = (self.api.clone(), flows.clone());
        std::thread::spawn(move || {
            while still.load(Relaxed) {
                let event = Event::known(KnownType::PageLoad, None);
                api.publisher().publish(event).unwrap();
            }
        });
        Flood(flows)
    }

    pub(crate) fn epoch(&self) -> String {
        self.api.epoch().to_string()
    }

    /// Asks it to stop, and does not wait.
    pub(crate) fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until `serve` has returned.
    pub(crate) async fn stopped(self) {
        in_time(self.task).await.unwrap().unwrap();
    }
}
