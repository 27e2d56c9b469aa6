//! The program's server in this process, with a pace that a test has the time for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::ApiService;
use tapline_events::{EventStream, Retention};
use tapline_oapi::{ConfigRequest, Event, KnownType};
use tapline_server::{Options, Shutdown};
use tapline_telemetry::TelemetrySession;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// As many as a stream has in five minutes of silence.
const COMMENTS: usize = 20;

/// A server whose silence is broken every ten milliseconds.
pub(crate) struct QuickServer {
    pub(crate) address: String,
    api: Arc<ApiService>,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl QuickServer {
    /// With a session that captures pages, not the calls of the interface itself, and that many events
    /// retained at most.
    pub(crate) fn start(events: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let retention = Retention {
            events,
            ..Retention::default()
        };
        let stream = EventStream::new(retention).unwrap();
        let api = Arc::new(ApiService::new(TelemetrySession::new(stream)));
        let options = Options {
            beat: Duration::from_millis(10),
            ..Options::default()
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
            Shutdown::by(Instant::now() + Duration::from_secs(5))
        };
        let serve = tapline_server::serve(listener, api.clone(), options, stopped);
        let server = runtime.spawn(serve);
        let config: ConfigRequest =
            tapline_oapi::from_json(br#"{"browser":{"page":{"enabled":true}}}"#).unwrap();
        runtime.block_on(api.put(&config)).unwrap();
        Self {
            address,
            api,
            runtime,
            stop,
            server,
        }
    }

    pub(crate) fn publish(&self, count: usize) {
        for _ in 0..count {
            let event = Event::known(KnownType::PageLoad, None);
            self.api.publisher().publish(event).unwrap();
        }
    }

    /// Ends it as a signal does.
    pub(crate) fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.server).unwrap().unwrap();
    }
}

/// Whether the silence after the last event on this stream was broken often enough.
pub(crate) fn is_long_silence(answer: &str) -> bool {
    let since = answer.rfind("\nid: ").map_or(answer, |at| &answer[at..]);
    COMMENTS <= since.matches("\n: ").count()
}
