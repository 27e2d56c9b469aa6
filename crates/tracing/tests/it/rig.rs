//! Sessions and servers to publish into.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_api::ApiService;
use tapline_events::{EventStream, Item, Retention};
use tapline_oapi::{BrowserConfig, Category, CategorySet, ConfigRequest};
use tapline_server::{Options, Shutdown, serve};
use tapline_telemetry::{Reader, TelemetrySession};
use tapline_tracing::{Counts, Handle, TracingSource};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// For what should happen within a moment.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A session of this process.
pub(crate) struct Service {
    pub(crate) api: Arc<ApiService>,
    reader: Reader,
    runtime: Runtime,
}

/// A request that captures these categories.
pub(crate) fn capturing(categories: &[Category]) -> ConfigRequest {
    ConfigRequest {
        browser: Some(BrowserConfig::of(CategorySet::of(categories))),
        ..ConfigRequest::default()
    }
}

impl Service {
    /// Nothing is captured yet.
    pub(crate) fn new(source: Option<TracingSource>) -> Self {
        let retention = Retention {
            events: 65_536,
            bytes: u64::MAX,
            ..Retention::default()
        };
        let session = Arc::new(TelemetrySession::new(EventStream::new(retention).unwrap()));
        let reader = session.new_reader(0);
        let mut api = ApiService::new(session);
        if let Some(source) = source {
            api = api.with_source(source);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            api: Arc::new(api),
            reader,
            runtime,
        }
    }

    pub(crate) fn start(&self) {
        self.configure(&ConfigRequest::default());
    }

    pub(crate) fn configure(&self, request: &ConfigRequest) {
        self.runtime.block_on(self.api.put(request)).unwrap();
    }

    pub(crate) fn stop(&self) {
        self.runtime.block_on(self.api.delete()).unwrap();
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        match self.reader.next(Some(DEADLINE)) {
            Some(Item::Envelope(envelope)) => parse(&envelope.json().whole()),
            other => panic!("an event should come, and not {:?}", other.is_some()),
        }
    }

    /// What has been published and was not read yet.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(item) = self.reader.try_next() {
            match item {
                Item::Envelope(envelope) => events.push(parse(&envelope.json().whole())),
                _ => panic!("the session retains everything"),
            }
        }
        events
    }

    /// Listens at `address`, until the server is dropped.
    #[track_caller]
    pub(crate) fn serve_at(&self, address: &str, options: Options) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let api = self.api.clone();
        let task = self.runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let shutdown = async {
                let _ = stopped.await;
                Shutdown::by(Instant::now() + Duration::from_secs(5))
            };
            serve(listener, api, options, shutdown).await.unwrap();
        });
        Server {
            address,
            stop: Some(stop),
            task,
            runtime: self.runtime.handle().clone(),
        }
    }

    pub(crate) fn serve(&self) -> Server {
        self.serve_at("127.0.0.1:0", Options::default())
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
    runtime: tokio::runtime::Handle,
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until nothing listens any more.
    pub(crate) fn stop(mut self) {
        drop(self.stop.take());
        self.runtime.block_on(&mut self.task).unwrap();
    }
}

fn parse(json: &str) -> Value {
    serde_json::from_str::<Value>(json).unwrap()["event"].take()
}

/// Waits until the counts are as they should be.
#[track_caller]
pub(crate) fn wait_for(handle: &Handle, condition: impl Fn(&Counts) -> bool) -> Counts {
    let began = Instant::now();
    loop {
        let counts = handle.counts();
        if condition(&counts) {
            return counts;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{counts:?} {:?}",
            handle.last_error()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The account closes.
#[track_caller]
pub(crate) fn closes(counts: &Counts, offered: u64) {
    let sum = counts.published
        + counts.filtered
        + counts.refused
        + counts.lost
        + counts.unconfirmed
        + counts.pending;
    assert_eq!((counts.offered, sum), (offered, offered), "{counts:?}");
}
