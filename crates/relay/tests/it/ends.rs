//! A relay between a client and a browser that the test plays.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_access::AccessConfig;
use tapline_api::ApiService;
use tapline_cdp::Redaction;
use tapline_events::{EventStream, Item, Retention};
use tapline_oapi::CategorySet;
use tapline_relay::{Counters, RedactUrl, Relay, RelayCounts, RelayOptions};
use tapline_telemetry::{Envelope, Reader, TelemetryConfig, TelemetrySession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// For what happens at once on an idle machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Who may connect.
pub(crate) fn allow(options: &mut RelayOptions, config: AccessConfig) {
    options.access = config.load().unwrap().into();
}

/// Redacts URLs as `tapline serve` does, with these query parameters.
pub(crate) fn redacting(parameters: &[&str]) -> RedactUrl {
    let redaction = Redaction::default().with_query_parameters(parameters.iter().copied());
    Arc::new(move |url| redaction.redact(url).into_owned())
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("this should happen at once")
}

pub(crate) struct Ends {
    pub(crate) address: SocketAddr,
    counters: Counters,
    pub(crate) session: Arc<TelemetrySession>,
    pub(crate) api: ApiService,
    /// Where the relay looks for a browser.
    pub(crate) browser: TcpListener,
    stop: Option<oneshot::Sender<Instant>>,
    running: JoinHandle<()>,
}

impl Ends {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut RelayOptions)) -> Self {
        Self::over(|api| api, change).await
    }

    /// With sources in the service whose session the relay publishes into.
    pub(crate) async fn over(
        sources: impl FnOnce(ApiService) -> ApiService,
        change: impl FnOnce(&mut RelayOptions),
    ) -> Self {
        let browser = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = RelayOptions::new(browser.local_addr().unwrap().to_string());
        change(&mut options);
        let stream = EventStream::new(Retention::default()).unwrap();
        let session = Arc::new(TelemetrySession::new(stream));
        let api = sources(ApiService::new(session.clone()));
        let relay = Relay::bind("127.0.0.1:0".parse().unwrap(), options, api.publisher());
        let relay = relay.await.unwrap();
        let (address, counters) = (relay.local_addr(), relay.counters());
        let (stop, stopped) = oneshot::channel();
        // An error means that the test has ended.
        let shutdown = async { stopped.await.unwrap_or_else(|_| Instant::now()) };
        let running = tokio::spawn(relay.run(shutdown));
        Self {
            address,
            counters,
            session,
            api,
            browser,
            stop: Some(stop),
            running,
        }
    }

    /// Captures these, and returns a reader of them.
    pub(crate) fn capture(&self, categories: CategorySet) -> Events {
        let config = TelemetryConfig { categories };
        self.session.start("test", config).unwrap();
        self.reader()
    }

    /// A reader of the events from now on.
    pub(crate) fn reader(&self) -> Events {
        Events(Some(self.session.new_reader(self.session.seq())))
    }

    /// A client's connection on which nothing was sent yet.
    pub(crate) async fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).await.unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    /// Sends a request, and returns the whole answer.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(client.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// The browser's end of the next connection, and the head that was received on it.
    pub(crate) async fn taken(&self) -> (TcpStream, String) {
        let (mut socket, _) = soon(self.browser.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let head = head(&mut socket).await;
        (socket, head)
    }

    /// A client and the browser, connected.
    pub(crate) async fn connected(&self) -> (TcpStream, TcpStream) {
        let mut client = self.client().await;
        client.write_all(UPGRADE.as_bytes()).await.unwrap();
        let (mut browser, _) = self.taken().await;
        browser.write_all(UPGRADED.as_bytes()).await.unwrap();
        assert_eq!(head(&mut client).await, UPGRADED);
        (client, browser)
    }

    pub(crate) fn counts(&self) -> RelayCounts {
        self.counters.read()
    }

    /// Begins to stop the relay, which has until then.
    pub(crate) fn begin_to_stop(&mut self, deadline: Instant) {
        self.stop.take().unwrap().send(deadline).unwrap();
    }

    /// Waits until the relay has stopped.
    pub(crate) async fn stopped(self) {
        soon(self.running).await.unwrap();
    }

    /// Stops the relay, without hurry.
    pub(crate) async fn stop(mut self) {
        self.begin_to_stop(Instant::now() + DEADLINE);
        self.stopped().await;
    }
}

pub(crate) const UPGRADE: &str = "GET /devtools/browser/1 HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) const UPGRADED: &str = "HTTP/1.1 101 WebSocket Protocol Handshake\r\nUpgrade: WebSocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Reads a head, byte by byte so as to leave what follows.
pub(crate) async fn head(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(soon(socket.read_u8()).await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// Answers every request with `page`.
pub(crate) async fn serve_page(site: TcpListener, page: &'static str) {
    loop {
        let (mut socket, _) = site.accept().await.unwrap();
        tokio::spawn(async move {
            head(&mut socket).await;
            let length = page.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{page}"
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
    }
}

/// The published events.
pub(crate) struct Events(Option<Reader>);

impl Events {
    pub(crate) async fn next(&mut self) -> Value {
        let mut reader = self.0.take().unwrap();
        let (reader, item) = tokio::task::spawn_blocking(move || {
            let item = reader.next(Some(DEADLINE));
            (reader, item)
        })
        .await
        .unwrap();
        self.0 = Some(reader);
        event(&item.expect("an event should be published"))
    }

    /// The events that were not read yet.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        let reader = self.0.as_mut().unwrap();
        std::iter::from_fn(|| reader.try_next())
            .map(|item| event(&item))
            .collect()
    }

    /// All events up to and including one of this type.
    pub(crate) async fn up_to(&mut self, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let event = self.next().await;
            let last = event["type"] == name;
            all.push(event);
            if last {
                return all;
            }
        }
    }
}

fn event(item: &Item<Envelope>) -> Value {
    match item {
        Item::Envelope(envelope) => {
            let envelope: Value = serde_json::from_str(&envelope.json().whole()).unwrap();
            envelope["event"].clone()
        }
        Item::Lost(lost) => panic!("{lost:?}"),
    }
}

/// A frame of a client's, masked, or of the browser's.
pub(crate) fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(masked | u8::try_from(length).unwrap()),
        Ok(length) => {
            frame.push(masked | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    match mask {
        None => frame.extend(payload),
        Some(mask) => {
            frame.extend(mask);
            let keys = mask.iter().cycle();
            frame.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

pub(crate) fn command(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes(), Some([7, 77, 177, 250]))
}
