//! A collector that others wrote, between the program and an endpoint of ours: it decodes what the program exports, and
//! forwards what it decoded.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use tapline_insight::{Input, Insight, Options};

use crate::http::ask;
use crate::peer::{installed, or_skip};
use crate::program::{DEADLINE, Running, Server};

/// The recording of the demo: 313 events.
const EVENTS: &str = include_str!("../../data/browser-events.ndjson");

/// A trace that an event follows from.
const TRACED: &str = r#"{"type":"step_failed","category":"control","source":{"kind":"extension","metadata":{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"}},"data":{"large":9007199254740993,"huge":18446744073709551616,"half":0.5,"none":null,"list":[1,"two",[]]}}"#;

#[test]
fn a_collector_decodes_every_event_once() {
    let Some(rotel) = or_skip(rotel(), "PyPI rotel", "TAPLINE_REQUIRE_PEERS") else {
        return;
    };
    let endpoint = Endpoint::start();
    let collector = Collector::start(rotel, &endpoint.url);
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--otlp-endpoint",
        &collector.url,
        "--otlp-resource",
        "service.name=shop",
        "--otlp-compress",
        "--otlp-spans",
    ]);
    let address = server.url.strip_prefix("http://").unwrap();
    for line in EVENTS.lines().chain([TRACED]) {
        assert_eq!(ask(address, "POST", "/telemetry/events", line).status, 200);
    }
    let published = page(address);
    server.stop();

    check_spans(&endpoint, &published);
    let records = endpoint.wait_for(published.len());
    let mut by_seq = HashMap::new();
    for record in &records {
        let Some(Value::IntValue(seq)) = attribute(record, "tapline.seq") else {
            panic!("without a seq: {record:?}")
        };
        assert!(by_seq.insert(seq, record).is_none(), "{seq} came twice");
    }
    for envelope in &published {
        let (seq, event) = (envelope["seq"].as_i64().unwrap(), &envelope["event"]);
        let record = by_seq[&seq];
        check(record, event);
    }
    let traced = records.iter().find(|it| !it.trace_id.is_empty()).unwrap();
    assert_eq!((traced.trace_id.len(), traced.span_id.len()), (16, 8));
    assert_eq!(traced.severity_text, "WARN");
    let resource = endpoint.state.0.lock().unwrap().resource.clone();
    assert_eq!(resource["service.name"], "shop");
    assert!(!resource["service.instance.id"].is_empty());
}

/// Each request and each page of the recording is a span, and what is in a navigation is its child.
fn check_spans(endpoint: &Endpoint, published: &[serde_json::Value]) {
    let mut insight = Insight::new(Options::default());
    for envelope in published {
        let envelope = serde_json::from_value(envelope.clone()).unwrap();
        insight.feed(Input::Event(&envelope), &mut |_| {});
    }
    let pages = insight.navigations().filter(|it| it.is_page()).count();
    let requests = insight.requests().len();
    assert!(0 < pages && 0 < requests);
    let state = endpoint.wait_until(|state| requests + pages <= state.spans.len());
    let spans = state.spans.clone();
    drop(state);
    assert_eq!(spans.len(), requests + pages);
    let of_requests = spans.iter().filter(|it| it.kind == CLIENT);
    assert_eq!(of_requests.count(), requests);
    let mut ids = HashMap::new();
    for span in &spans {
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert!(
            ids.insert(&span.span_id, span).is_none(),
            "{span:?} came twice"
        );
    }
    let children = spans.iter().filter(|it| !it.parent_span_id.is_empty());
    let mut count = 0;
    for child in children {
        let parent = ids[&child.parent_span_id];
        assert_eq!(
            (&*parent.name, &parent.trace_id),
            ("navigation", &child.trace_id)
        );
        count += 1;
    }
    assert!(0 < count);
}

/// The kind of the span of a request.
const CLIENT: i32 = 3;

/// What is looked at of a request with spans. The numbers of the fields are those of the specification.
#[derive(Clone, PartialEq, Message)]
struct Traces {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
}

/// The record has what the event has.
fn check(record: &LogRecord, event: &serde_json::Value) {
    let name = event["type"].as_str().unwrap();
    let ts = event["ts"].as_u64().unwrap();
    assert_eq!(record.time_unix_nano, ts * 1000, "{name}");
    let text = |key: &str| match attribute(record, key) {
        Some(Value::StringValue(text)) => Some(text),
        _ => None,
    };
    assert_eq!(text("tapline.type").as_deref(), Some(name));
    assert_eq!(
        text("tapline.category").as_deref(),
        event["category"].as_str()
    );
    let session = &event["source"]["metadata"]["telemetry_session_id"];
    assert_eq!(text("session.id").as_deref(), session.as_str());
    if event["category"] == "network" {
        assert_eq!(
            text("http.request.method").as_deref(),
            event["data"]["method"].as_str()
        );
    }
    let body = record.body.as_ref().and_then(|body| body.value.as_ref());
    let (body, data) = (
        body.map_or(serde_json::Value::Null, json),
        numbers(&event["data"]),
    );
    assert!(is_same(&body, &data), "{name}: {body} is not {data}");
}

/// Equal, but for the last digit of fractions: serde_json does not read them exactly.
fn is_same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Object(a), Object(b)) => {
            let has = |(key, value)| b.get(key).is_some_and(|other| is_same(value, other));
            a.len() == b.len() && a.iter().all(has)
        }
        (Number(a), Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-15 * a.abs()
        }
        (a, b) => a == b,
    }
}

/// A value as JSON. An integer of more than 64 bits is a string.
fn json(value: &Value) -> serde_json::Value {
    let inner = |value: &Option<Value>| value.as_ref().map_or(serde_json::Value::Null, json);
    match value {
        Value::StringValue(text) => text.as_str().into(),
        Value::BoolValue(value) => (*value).into(),
        Value::IntValue(number) => (*number).into(),
        Value::DoubleValue(number) => (*number).into(),
        Value::ArrayValue(array) => array.values.iter().map(|it| inner(&it.value)).collect(),
        Value::KvlistValue(list) => {
            let members = list.values.iter();
            let members =
                members.map(|it| (it.key.clone(), inner(&it.value.clone().unwrap().value)));
            serde_json::Value::Object(members.collect())
        }
        other => panic!("{other:?}"),
    }
}

/// The same JSON, with the one number that needs more than 64 bits as a string. serde_json has it as a float.
fn numbers(data: &serde_json::Value) -> serde_json::Value {
    let mut data = data.clone();
    if let Some(huge) = data.get_mut("huge") {
        *huge = "18446744073709551616".into();
    }
    data
}

/// All envelopes that the server has.
fn page(address: &str) -> Vec<serde_json::Value> {
    let page = ask(address, "GET", "/telemetry/events?limit=1000&after=0", "");
    let page: Vec<serde_json::Value> = serde_json::from_str(&page.body).unwrap();
    assert!(EVENTS.lines().count() < page.len());
    page
}

fn attribute(record: &LogRecord, key: &str) -> Option<Value> {
    record
        .attributes
        .iter()
        .find(|it| it.key == key)?
        .value
        .clone()?
        .value
}

/// The program in the wheel: its folder has the version of Python in its name.
fn rotel() -> Option<PathBuf> {
    let versions = fs::read_dir(installed("python/lib")?).ok()?;
    let programs = versions
        .flatten()
        .map(|it| it.path().join("site-packages/rotel/rotel-agent"));
    programs.into_iter().find(|program| program.is_file())
}

/// A running rotel.
struct Collector {
    url: String,
    _running: Running,
}

impl Collector {
    fn start(rotel: PathBuf, endpoint: &str) -> Self {
        let (http, grpc) = (free_port(), free_port());
        let mut command = Command::new(rotel);
        command
            .args([
                "start",
                "--exporter",
                "otlp",
                "--otlp-exporter-protocol",
                "http",
            ])
            .args(["--otlp-exporter-endpoint", endpoint])
            .args(["--otlp-http-endpoint", &http, "--otlp-grpc-endpoint", &grpc])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let running = Running::start(command);
        let started = Instant::now();
        while TcpStream::connect(&http).is_err() {
            assert!(started.elapsed() < DEADLINE, "rotel does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            url: format!("http://{http}"),
            _running: running,
        }
    }
}

/// It takes no port 0.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[derive(Default)]
struct State {
    records: Vec<LogRecord>,
    spans: Vec<Span>,
    resource: HashMap<String, String>,
}

/// Accepts OTLP over HTTP, and keeps what it decodes.
struct Endpoint {
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let accepting = state.clone();
        // The thread ends with the test's process: a blocked `accept` cannot be interrupted.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = accepting.clone();
                std::thread::spawn(move || serve(&socket, &state));
            }
        });
        Self { url, state }
    }

    /// All records, once there are so many.
    fn wait_for(&self, count: usize) -> Vec<LogRecord> {
        let state = self.wait_until(|state| count <= state.records.len());
        assert_eq!(state.records.len(), count);
        state.records.clone()
    }

    fn wait_until(&self, is_there: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let (state, changed) = &*self.state;
        let (state, timeout) = changed
            .wait_timeout_while(state.lock().unwrap(), DEADLINE, |state| !is_there(state))
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "{} records and {} spans",
            state.records.len(),
            state.spans.len()
        );
        state
    }
}

fn serve(socket: &TcpStream, state: &(Mutex<State>, Condvar)) -> io::Result<()> {
    let mut reader = BufReader::new(socket);
    loop {
        let (mut length, mut has_spans) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            has_spans |= line.starts_with("post /v1/traces ");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut plain = Vec::new();
        // rotel compresses.
        GzDecoder::new(&*body).read_to_end(&mut plain)?;
        let mut decoded = state.0.lock().unwrap();
        let (mut traces, mut request) = <(Traces, ExportLogsServiceRequest)>::default();
        match has_spans {
            true => traces = Traces::decode(&*plain).unwrap(),
            false => request = ExportLogsServiceRequest::decode(&*plain).unwrap(),
        }
        let scopes = traces.resource_spans.into_iter();
        let scopes = scopes.flat_map(|it| it.scope_spans);
        decoded.spans.extend(scopes.flat_map(|it| it.spans));
        for logs in request.resource_logs {
            for attribute in logs.resource.unwrap_or_default().attributes {
                if let Some(Value::StringValue(text)) = attribute.value.and_then(|it| it.value) {
                    decoded.resource.insert(attribute.key, text);
                }
            }
            let scopes = logs.scope_logs.into_iter();
            decoded.records.extend(scopes.flat_map(|it| it.log_records));
        }
        drop(decoded);
        state.1.notify_all();
        let mut socket = socket;
        socket.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
}
