//! The same under TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::value::to_raw_value;
use tapline_access::{AccessConfig, TlsFiles};
use tapline_oapi::{Event, KnownType};
use tokio_rustls::TlsConnector;

use crate::http::{Connection, get, in_time, request, tcp};
use crate::server::{Server, Setup};
use crate::sse::Stream;

/// A server with a certificate, and how to reach it.
struct Secure {
    server: Server,
    connector: TlsConnector,
    directory: PathBuf,
}

impl Secure {
    async fn start(name: &str, setup: Setup) -> Self {
        let directory = std::env::temp_dir().join(format!("tapline-{}-{name}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = TlsFiles {
            cert: directory.join("cert.pem"),
            key: directory.join("key.pem"),
        };
        std::fs::write(&files.cert, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let setup = setup.access(AccessConfig {
            tls: Some(files),
            ..AccessConfig::default()
        });
        Self {
            server: setup.running().await,
            connector: Arc::new(config).into(),
            directory,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    async fn open(&self) -> Connection {
        let name = ServerName::try_from("localhost").unwrap();
        let socket = self.connector.connect(name, tcp(self.addr()).await);
        Connection::over(in_time(socket).await.unwrap())
    }

    /// A connection that is reset when it is dropped.
    async fn open_to_reset(&self) -> Connection {
        let name = ServerName::try_from("localhost").unwrap();
        let socket = tcp(self.addr()).await;
        socket.set_zero_linger().unwrap();
        Connection::over(in_time(self.connector.connect(name, socket)).await.unwrap())
    }

    async fn stream(&self, query: &str) -> Stream {
        let request = get(&format!("/telemetry/stream?{query}"));
        Stream::over(self.open().await, &request).await
    }

    /// Waits until so many readers are listed.
    async fn until_readers(&self, count: usize) {
        let mut connection = self.open().await;
        let list = get("/telemetry/readers");
        in_time(async {
            while connection.call(&list).await.json()["readers"]
                .as_array()
                .unwrap()
                .len()
                != count
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until `/metrics` has this value.
    async fn until_metric(&self, line: &str) {
        let mut connection = self.open().await;
        let scrape = get("/metrics");
        in_time(async { while !connection.call(&scrape).await.text().contains(line) {} }).await;
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
async fn requests_in_a_row() {
    let secure = Secure::start("requests", Setup::default()).await;
    let mut connection = secure.open().await;
    for n in 1..=3 {
        let post = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
        assert_eq!(connection.call(&post).await.json()["seq"], n);
        assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
    }
    // More than goes into one record.
    let line = format!(
        "{{\"type\":\"console_log\",\"data\":\"{}\"}}\n",
        "x".repeat(1000)
    );
    let lines = request("POST", "/telemetry/events").lines(line.repeat(500));
    assert_eq!(connection.call(&lines).await.json()["published"], 500);
    let page = connection.call(&get("/telemetry/events?limit=400")).await;
    assert_eq!(page.json().as_array().unwrap().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_follow_and_end_well() {
    let mut secure = Secure::start("streams", Setup::default()).await;
    secure.server.fill_to(50);
    let mut streams = Vec::new();
    for query in ["", "notices=true", "replay=live", "category=console"] {
        streams.push(secure.stream(query).await);
    }
    for seq in 51..=100 {
        secure.server.fill_to(seq);
        tokio::task::yield_now().await;
    }
    let all: Vec<_> = (1..=100).collect();
    for (stream, expected) in streams
        .iter_mut()
        .zip([&all, &all, &all[50..].to_vec(), &all])
    {
        assert_eq!(stream.seqs(expected.len()).await, *expected);
    }
    secure.server.begin_stop();
    for (stream, name) in streams.iter_mut().zip(["", "bye", "", ""]) {
        let frames = stream.rest().await;
        let last = frames.last().unwrap();
        assert_eq!(last.name(), name);
        assert!(
            name == "bye" || last.comment().starts_with("bye: "),
            "{last:?}"
        );
    }
}

#[tokio::test]
async fn who_speaks_no_tls_gets_nothing() {
    let setup = Setup::default().limits(|limits| limits.header_time = Duration::from_millis(100));
    let secure = Secure::start("plain", setup).await;
    let mut plain = Connection::open(secure.addr()).await;
    plain.write(&get("/healthz").bytes()).await;
    let rest = plain.rest().await;
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    // Nor who says nothing at all.
    let mut silent = Connection::open(secure.addr()).await;
    assert_eq!(silent.rest().await, b"");
    secure
        .until_metric("tapline_connections_closed_total{reason=\"tls\"} 2\n")
        .await;
}

/// What TLS has taken is not sent yet: who takes nothing of it stalls all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_takes_nothing_is_closed() {
    let setup = Setup::default().limits(|limits| limits.stall = Duration::from_millis(200));
    let secure = Secure::start("stall", setup).await;
    let mut stalled = secure.stream("").await;
    // It fits in what the client's system takes, whether the client reads or not.
    secure.server.publish(KnownType::PageLoad);
    let data = to_raw_value(&"x".repeat(200_000)).unwrap();
    for _ in 0..200 {
        let event = Event::known(KnownType::ConsoleLog, Some(data.clone()));
        secure.server.api.publisher().publish(event).unwrap();
    }
    secure
        .until_metric("tapline_streams_ended_total{reason=\"stalled\"} 1\n")
        .await;
    // What was on its way is there.
    assert_eq!(stalled.seqs(1).await, [1]);
}

/// A client that resets its connection during a `wait` is noticed; one that only writes no more is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resets_during_a_wait_is_noticed_and_one_that_half_closes_is_answered() {
    let secure = Secure::start("wait", Setup::default()).await;
    let wait = get("/telemetry/wait?timeout_ms=300000&type=page_load");
    let mut closing = secure.open().await;
    let mut vanishing = secure.open_to_reset().await;
    for connection in [&mut closing, &mut vanishing] {
        connection.write(&wait.bytes()).await;
    }
    secure.until_readers(2).await;
    closing.end().await;
    drop(vanishing);
    secure.until_readers(1).await;
    secure.server.publish(KnownType::PageLoad);
    assert_eq!(closing.answer("GET").await.status(), 200);
    secure.until_readers(0).await;
}
