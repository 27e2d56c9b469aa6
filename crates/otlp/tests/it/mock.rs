//! An endpoint that answers by a script: as a collector, or wrongly in some way.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use tapline_api::conformance::Arrived;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::trace::{Span, TracesRequest};

/// What is done with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// 200 with an empty response of OTLP.
    Accept,
    /// This status, these headers, and this body.
    Answer(u16, String, Vec<u8>),
    /// These bytes, whatever they are; then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, then the same byte for ever.
    Endless(Vec<u8>),
    /// These bytes, then nothing, with the connection open.
    Stall(Vec<u8>),
    /// The connection is closed before the body is read.
    CloseEarly,
    /// The connection is closed after a whole answer of 200 that promises to stay.
    AcceptAndClose,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, String::new(), Vec::new())
    }

    pub(crate) fn partial(rejected: i64, message: &str) -> Self {
        let response = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: message.to_owned(),
            }),
        };
        let headers = "content-type: application/x-protobuf\r\n".to_owned();
        Self::Answer(200, headers, response.encode_to_vec())
    }

    fn is_success(&self) -> bool {
        let is_ok = |bytes: &[u8]| {
            let has_whole_head = bytes.windows(4).any(|four| four == b"\r\n\r\n");
            bytes.starts_with(b"HTTP/1.1 2") && has_whole_head
        };
        match self {
            Self::Accept | Self::AcceptAndClose => true,
            Self::Answer(status, ..) => (200..300).contains(status),
            Self::Raw(bytes) | Self::Endless(bytes) | Self::Stall(bytes) => is_ok(bytes),
            Self::CloseEarly => false,
        }
    }
}

/// A request that arrived whole.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    /// The number of the connection.
    pub(crate) connection: usize,
    /// The request line and the headers, as they were sent.
    pub(crate) head: String,
    pub(crate) bytes: usize,
    pub(crate) request: ExportLogsServiceRequest,
    /// Whether it was answered with a success.
    pub(crate) is_accepted: bool,
}

impl Received {
    pub(crate) fn records(&self) -> Vec<LogRecord> {
        let logs = self.request.resource_logs.iter();
        let logs = logs.flat_map(|resource| &resource.scope_logs);
        logs.flat_map(|scope| scope.log_records.clone()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Requests with spans: their script, and what arrived in those that were accepted.
#[derive(Default)]
struct Traces {
    script: VecDeque<Reply>,
    fallback: Option<Reply>,
    requests: usize,
    accepted: Vec<Span>,
}

#[derive(Default)]
struct State {
    traces: Traces,
    script: VecDeque<Reply>,
    /// What is replied after the script.
    fallback: Option<Reply>,
    received: Vec<Received>,
    connections: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Listens until it is dropped.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Mock {
    pub(crate) fn new() -> Self {
        Self::listening("127.0.0.1:0".parse().unwrap(), None)
    }

    pub(crate) fn with_tls(tls: tapline_access::TlsAcceptor) -> Self {
        Self::listening("127.0.0.1:0".parse().unwrap(), Some(tls))
    }

    pub(crate) fn listening(address: SocketAddr, tls: Option<tapline_access::TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        // Without waiting: the tests are on a runtime of their own.
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).unwrap()
        };
        let shared = Arc::<Shared>::default();
        let accepting = shared.clone();
        runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (shared, tls) = (accepting.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(shared, socket).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(shared, socket).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests get these replies; after them, all are accepted.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.state.lock().unwrap().script.extend(replies);
    }

    /// What is replied where the script has ended.
    pub(crate) fn always(&self, reply: Reply) {
        self.shared.state.lock().unwrap().fallback = Some(reply);
    }

    /// The next requests with spans get these replies; after them, all are accepted.
    pub(crate) fn script_of_traces(&self, replies: impl IntoIterator<Item = Reply>) {
        let mut state = self.shared.state.lock().unwrap();
        state.traces.script.extend(replies);
    }

    /// What is replied to requests with spans where the script has ended.
    pub(crate) fn always_to_traces(&self, reply: Reply) {
        self.shared.state.lock().unwrap().traces.fallback = Some(reply);
    }

    /// How many requests with spans arrived.
    pub(crate) fn requests_with_spans(&self) -> usize {
        self.shared.state.lock().unwrap().traces.requests
    }

    /// The spans of the requests that were accepted, in the order of arrival.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.shared.state.lock().unwrap().traces.accepted.clone()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.state.lock().unwrap().received.clone()
    }

    /// Waits until so many requests have arrived.
    pub(crate) fn wait_for(&self, requests: usize) -> Vec<Received> {
        let state = self.shared.state.lock().unwrap();
        let few = |state: &mut State| state.received.len() < requests;
        let wait = self
            .shared
            .changed
            .wait_timeout_while(state, Duration::from_secs(20), few);
        let (state, timeout) = wait.unwrap();
        assert!(
            !timeout.timed_out(),
            "{} of {requests} requests",
            state.received.len()
        );
        state.received.clone()
    }

    /// The records of the requests that were accepted, in the order of arrival.
    pub(crate) fn accepted(&self) -> Vec<LogRecord> {
        let received = self.received().into_iter().filter(|it| it.is_accepted);
        received.flat_map(|it| it.records()).collect()
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        let seq = |record: &LogRecord, key: &str| match attribute(record, key) {
            Some(Value::IntValue(seq)) => u64::try_from(seq).unwrap(),
            other => panic!("{key} is {other:?}"),
        };
        let arrived = self
            .accepted()
            .into_iter()
            .map(|record| match &*record.event_name {
                "tapline.gap" => Arrived::Gap {
                    first: seq(&record, "tapline.gap.first"),
                    last: seq(&record, "tapline.gap.last"),
                },
                _ => Arrived::Event(seq(&record, "tapline.seq")),
            });
        arrived.collect()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // Also where it is dropped on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The value of an attribute.
pub(crate) fn attribute(record: &LogRecord, key: &str) -> Option<Value> {
    let attribute = record.attributes.iter().find(|it| it.key == key)?;
    attribute.value.clone()?.value
}

async fn serve(shared: Arc<Shared>, mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let connection = {
        let mut state = shared.state.lock().unwrap();
        state.connections += 1;
        state.connections
    };
    // Where the client closes the connection, all is said.
    while let Some(reply) = answer(&shared, connection, &mut socket).await {
        let written = match reply {
            Reply::Accept => write(&mut socket, &response(200, "", &[])).await,
            Reply::Answer(status, headers, body) => {
                write(&mut socket, &response(status, &headers, &body)).await
            }
            Reply::AcceptAndClose => {
                let _ = write(&mut socket, &response(200, "", &[])).await;
                return;
            }
            Reply::Raw(bytes) => {
                let _ = write(&mut socket, &bytes).await;
                return;
            }
            Reply::Endless(bytes) => {
                let mut chunk = bytes;
                while write(&mut socket, &chunk).await.is_some() {
                    chunk = vec![b'a'; 16 * 1024];
                }
                return;
            }
            Reply::Stall(bytes) => {
                let _ = write(&mut socket, &bytes).await;
                // Until the client closes the connection.
                let _ = socket.read(&mut [0; 1]).await;
                return;
            }
            Reply::CloseEarly => return,
        };
        if written.is_none() {
            return;
        }
    }
}

async fn write(socket: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).await.ok()?;
    socket.flush().await.ok()
}

fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = body.len();
    write!(
        bytes,
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
    .unwrap();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads a request, and decides what is replied.
async fn answer(
    shared: &Shared,
    connection: usize,
    socket: &mut (impl AsyncRead + Unpin),
) -> Option<Reply> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk).await.ok()? {
            0 => return None,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let has_spans = head.starts_with("POST /v1/traces ");
    let reply = {
        let mut state = shared.state.lock().unwrap();
        let (next, fallback) = match has_spans {
            true => {
                let traces = &mut state.traces;
                traces.requests += 1;
                (traces.script.pop_front(), traces.fallback.clone())
            }
            false => (state.script.pop_front(), state.fallback.clone()),
        };
        next.or(fallback).unwrap_or(Reply::Accept)
    };
    if matches!(reply, Reply::CloseEarly) {
        return Some(reply);
    }
    let mut received = Received {
        at: Instant::now(),
        connection,
        head,
        bytes: 0,
        request: ExportLogsServiceRequest::default(),
        is_accepted: reply.is_success(),
    };
    let length: usize = received.header("content-length").unwrap().parse().unwrap();
    let mut body = bytes[end..].to_vec();
    let read = body.len();
    body.resize(length, 0);
    socket.read_exact(&mut body[read..]).await.ok()?;
    received.bytes = body.len();
    if received.header("content-encoding") == Some("gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
        body = plain;
    }
    let mut state = shared.state.lock().unwrap();
    if has_spans {
        let request = TracesRequest::decode(&*body).unwrap();
        if received.is_accepted {
            state.traces.accepted.extend(request.spans());
        }
    } else {
        received.request = ExportLogsServiceRequest::decode(&*body).unwrap();
        state.received.push(received);
    }
    shared.changed.notify_all();
    Some(reply)
}
