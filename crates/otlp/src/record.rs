//! An event as a log record, and a gap as one: the mapping that docs/otlp.md describes.

use std::borrow::Cow;

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use tapline_oapi::{Category, Event, EventType, KnownType};

use crate::encode::{put_bytes, put_fixed64, put_message, put_text, put_varint};
use crate::value::{Members, put_boolean, put_entry, put_integer, put_json, put_string};

/// The longest text of an attribute, in bytes. A longer one is cut and ends in `…`; the body has all of it.
pub(crate) const MAX_ATTRIBUTE_BYTES: usize = 4096;

/// The most attributes of a record that come from `source.metadata`. More are dropped, and counted in
/// `dropped_attributes_count`.
pub(crate) const MAX_METADATA: usize = 64;

/// The longest name of such an attribute, in bytes. One with a longer name is dropped and counted.
const MAX_KEY_BYTES: usize = 256;

/// An upper bound of a record without its body, in bytes: at most 16 attributes that are not of `source.metadata`,
/// and the numbers and lengths.
pub(crate) const MAX_BYTES_WITHOUT_BODY: usize =
    (MAX_METADATA + 20) * (MAX_ATTRIBUTE_BYTES + MAX_KEY_BYTES + 64);

/// What publishing and reading added to an event.
#[derive(Clone, Copy)]
pub(crate) struct Stamps<'a> {
    pub(crate) seq: u64,
    /// In microseconds since the Unix epoch.
    pub(crate) ts: u64,
    /// The id of the telemetry session.
    pub(crate) session: Option<&'a str>,
    /// When the sink read it, in nanoseconds since the Unix epoch.
    pub(crate) observed: u64,
}

/// What all records of one run of the program have in common.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// The epoch of the stream, as text.
    pub(crate) epoch: String,
}

impl Mapping {
    /// Writes the record of an event. Where it would have more than `most` bytes, its body is the JSON text, and
    /// where that is too much as well, there is no body but the mark that it was cut.
    pub(crate) fn event(&self, out: &mut Vec<u8>, event: &Event, stamps: Stamps<'_>, most: usize) {
        let start = out.len();
        for body in [Body::Structured, Body::Text, Body::None] {
            out.truncate(start);
            self.event_with(out, event, stamps, body);
            if out.len() - start <= most {
                return;
            }
        }
    }

    fn event_with(&self, out: &mut Vec<u8>, event: &Event, stamps: Stamps<'_>, body: Body) {
        let data = event.data.as_deref().map(|data| data.get());
        put_fixed64(out, field::TIME, stamps.ts.saturating_mul(1000));
        let fields = match (data, body) {
            (None, _) => Members::default(),
            (Some(data), Body::Structured) => {
                put_message(out, field::BODY, |out| put_json(out, data))
            }
            (Some(data), Body::Text) => {
                put_message(out, field::BODY, |out| put_string(out, data));
                Members::of(data)
            }
            (Some(data), Body::None) => Members::of(data),
        };
        let mut attributes = Attributes::new(out, field::ATTRIBUTES);
        attributes.integer("tapline.seq", i64::try_from(stamps.seq).unwrap_or(i64::MAX));
        attributes.text("tapline.epoch", &self.epoch);
        // Some back-ends drop the event's name.
        attributes.text("tapline.type", event.event_type.as_str());
        attributes.text("tapline.category", event.category.as_str());
        attributes.text("tapline.source.kind", event.source.kind.as_str());
        attributes.some_text("tapline.source.event", event.source.event.as_deref());
        if event.truncated || body == Body::None {
            attributes.is_true("tapline.truncated");
        }
        if body == Body::Text {
            attributes.is_true("tapline.body_as_text");
        }
        attributes.some_text("session.id", stamps.session);
        let (trace_id, span_id) = attributes.metadata(event);
        attributes.promoted(event, &fields);
        let dropped = attributes.dropped;
        let severity = severity(event, &fields);
        finish(out, severity, event.event_type.as_str(), stamps.observed);
        if 0 < dropped {
            put_varint(out, field::DROPPED_ATTRIBUTES, dropped.into());
        }
        for (field, id) in [(field::TRACE_ID, trace_id), (field::SPAN_ID, span_id)] {
            if !id.is_empty() {
                put_bytes(out, field, &id);
            }
        }
    }

    /// Writes the record of a gap: the events from `first` to `last` were evicted before the sink read them.
    pub(crate) fn gap(&self, out: &mut Vec<u8>, first: u64, last: u64, observed: u64) {
        let clamped = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        let count = last - first + 1;
        let body = format!(
            "{count} events were not exported: seq {first} to {last} left memory before they were read"
        );
        put_fixed64(out, field::TIME, observed);
        put_message(out, field::BODY, |out| put_string(out, &body));
        let mut attributes = Attributes::new(out, field::ATTRIBUTES);
        attributes.text("tapline.epoch", &self.epoch);
        attributes.text("tapline.type", GAP);
        attributes.integer("tapline.gap.first", clamped(first));
        attributes.integer("tapline.gap.last", clamped(last));
        attributes.integer("tapline.gap.count", clamped(count));
        finish(out, SeverityNumber::Warn, GAP, observed);
    }
}

/// What all records have.
fn finish(out: &mut Vec<u8>, severity: SeverityNumber, name: &str, observed: u64) {
    let number = i32::from(severity).unsigned_abs();
    put_varint(out, field::SEVERITY, number.into());
    put_text(out, field::SEVERITY_TEXT, severity_text(severity));
    put_fixed64(out, field::OBSERVED_TIME, observed);
    put_text(out, field::EVENT_NAME, &cut(name));
}

/// What the body of a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// The data.
    Structured,
    /// The data as JSON text.
    Text,
    None,
}

/// The name of the record that reports a gap.
pub(crate) const GAP: &str = "tapline.gap";

/// The numbers of the fields of a `LogRecord`.
mod field {
    pub(super) const TIME: u32 = 1;
    pub(super) const SEVERITY: u32 = 2;
    pub(super) const SEVERITY_TEXT: u32 = 3;
    pub(super) const BODY: u32 = 5;
    pub(super) const ATTRIBUTES: u32 = 6;
    pub(super) const DROPPED_ATTRIBUTES: u32 = 7;
    pub(super) const TRACE_ID: u32 = 9;
    pub(super) const SPAN_ID: u32 = 10;
    pub(super) const OBSERVED_TIME: u32 = 11;
    pub(super) const EVENT_NAME: u32 = 12;
}

/// The status of a response that is an error.
fn error_status(fields: &Members<'_>) -> Option<i64> {
    fields.integer("status").filter(|status| 400 <= *status)
}

/// Writes attributes.
pub(crate) struct Attributes<'o> {
    out: &'o mut Vec<u8>,
    /// The number of their field in the message.
    field: u32,
    dropped: u32,
}

impl<'o> Attributes<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>, field: u32) -> Self {
        Self {
            out,
            field,
            dropped: 0,
        }
    }

    fn push(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        put_message(self.out, self.field, |out| {
            put_entry(out, key, value);
        });
    }

    pub(crate) fn integer(&mut self, key: &str, number: i64) {
        self.push(key, |out| put_integer(out, number));
    }

    pub(crate) fn count(&mut self, key: &str, count: Option<u64>) {
        if let Some(count) = count {
            self.integer(key, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn is_true(&mut self, key: &str) {
        self.push(key, |out| put_boolean(out, true));
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.push(key, |out| put_string(out, &cut(text)));
    }

    pub(crate) fn some_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text(key, text);
        }
    }

    /// Those of `source.metadata`; and the ids of the trace and the span, which have fields of their own.
    fn metadata(&mut self, event: &Event) -> (Vec<u8>, Vec<u8>) {
        let (mut trace_id, mut span_id) = (None, None);
        let mut count = 0;
        for (key, value) in &event.source.metadata {
            match &**key {
                // Readers get the id of the session in its place.
                "telemetry_session_id" => {}
                "trace_id" if trace_id_of(value).is_some() => trace_id = trace_id_of(value),
                "span_id" if span_id_of(value).is_some() => span_id = span_id_of(value),
                _ if count == MAX_METADATA || MAX_KEY_BYTES < key.len() => self.dropped += 1,
                key => {
                    count += 1;
                    self.text(&format!("tapline.metadata.{key}"), value);
                }
            }
        }
        // A span without its trace is nothing.
        match (trace_id, span_id) {
            (Some(trace), span) => (trace, span.unwrap_or_default()),
            (None, span) => {
                if let (Some(_), Some(text)) = (span, event.source.metadata.get("span_id")) {
                    self.text("tapline.metadata.span_id", text);
                }
                (Vec::new(), Vec::new())
            }
        }
    }

    /// Those that OpenTelemetry's conventions have names for, and a few more that people search by: many back-ends
    /// search attributes only.
    fn promoted(&mut self, event: &Event, fields: &Members<'_>) {
        self.some_text("url.full", fields.text("url").as_deref());
        self.some_text("tapline.request_id", fields.text("request_id").as_deref());
        match event.category {
            Category::Network => self.network(event, fields),
            Category::Console => {
                self.some_text("tapline.console.level", fields.text("level").as_deref());
                if event.event_type == EventType::Known(KnownType::ConsoleError) {
                    self.exception(fields);
                }
            }
            Category::Control | Category::Platform => {
                self.some_text(
                    "tapline.operation_id",
                    fields.text("operation_id").as_deref(),
                );
                let is_command = event.event_type == EventType::Known(KnownType::CdpCommand);
                if is_command {
                    self.some_text("tapline.cdp.method", fields.text("method").as_deref());
                } else if let Some(status) = fields.integer("status") {
                    self.integer("http.response.status_code", status);
                }
                self.error_type(fields.text("code").as_deref(), fields);
            }
            _ => {}
        }
    }

    fn network(&mut self, event: &Event, fields: &Members<'_>) {
        if let Some(method) = &fields.text("method") {
            self.method(method);
        }
        if let Some(status) = fields.integer("status") {
            self.integer("http.response.status_code", status);
        }
        self.protocol(fields.text("protocol").as_deref());
        self.some_text("network.peer.address", fields.text("remote_ip").as_deref());
        self.some_text(
            "tapline.resource_type",
            fields.text("resource_type").as_deref(),
        );
        let is_failure = event.event_type == EventType::Known(KnownType::NetworkLoadingFailed)
            || event.event_type == EventType::Known(KnownType::NetworkResponseEnd);
        let reason = fields.text("error_text").filter(|_| is_failure);
        let reason = reason.or_else(|| fields.text("code"));
        self.error_type(reason.as_deref(), fields);
    }

    pub(crate) fn method(&mut self, method: &str) {
        match is_standard(method) {
            true => self.text("http.request.method", method),
            false => {
                self.text("http.request.method", "_OTHER");
                self.text("http.request.method_original", method);
            }
        }
    }

    pub(crate) fn protocol(&mut self, spoken: Option<&str>) {
        if let Some((name, version)) = spoken.and_then(protocol) {
            self.text("network.protocol.name", name);
            self.text("network.protocol.version", version);
        }
    }

    /// The reason where there is one, and otherwise the status of an answer that is an error.
    fn error_type(&mut self, reason: Option<&str>, fields: &Members<'_>) {
        match (reason, error_status(fields)) {
            (Some(reason), _) if !reason.is_empty() => self.text("error.type", reason),
            (_, Some(status)) => self.text("error.type", &status.to_string()),
            _ => {}
        }
    }

    /// An error of the console that was thrown: one that was written has a level.
    fn exception(&mut self, fields: &Members<'_>) {
        if fields.has("level") {
            return;
        }
        let Some(text) = fields.text("text").filter(|text| !text.is_empty()) else {
            return;
        };
        let (name, message) = exception_of(&text);
        self.some_text("exception.type", name);
        self.text("exception.message", message);
        if let Some(trace) = fields.object("stack_trace") {
            self.some_text("exception.stacktrace", Some(&stack_trace(&text, &trace)));
        }
    }
}

/// Cut to [`MAX_ATTRIBUTE_BYTES`], at the end of a character.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_ATTRIBUTE_BYTES {
        return text.into();
    }
    let shown = tapline_insight::cut(text, MAX_ATTRIBUTE_BYTES - '…'.len_utf8());
    format!("{shown}…").into()
}

pub(crate) fn trace_id_of(text: &str) -> Option<Vec<u8>> {
    id(text, 16)
}

pub(crate) fn span_id_of(text: &str) -> Option<Vec<u8>> {
    id(text, 8)
}

/// An id of so many bytes in hexadecimal digits. One of only zeros is none.
fn id(text: &str, bytes: usize) -> Option<Vec<u8>> {
    if text.len() != 2 * bytes || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let id: Option<Vec<u8>> = (0..bytes)
        .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok())
        .collect();
    id.filter(|id| id.iter().any(|byte| *byte != 0))
}

/// The methods that the conventions accept as they are.
fn is_standard(method: &str) -> bool {
    const METHODS: &[&str] = &[
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
    ];
    METHODS.contains(&method)
}

/// The name and version of what the browser calls `h2` or `http/1.1`.
fn protocol(text: &str) -> Option<(&'static str, &str)> {
    match text {
        "h2" => Some(("http", "2")),
        "h3" => Some(("http", "3")),
        _ => Some(("http", text.strip_prefix("http/")?)),
    }
}

/// The type and the message of an exception's text, such as `Uncaught (in promise) TypeError: x is not a function`
/// and the lines of its stack.
fn exception_of(text: &str) -> (Option<&str>, &str) {
    let line = text.lines().next().unwrap_or(text);
    let line = line.strip_prefix("Uncaught ").unwrap_or(line);
    let line = line.strip_prefix("(in promise) ").unwrap_or(line);
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
    };
    match line.split_once(": ") {
        Some((name, message)) if is_name(name) => (Some(name), message),
        _ => (None, line),
    }
}

/// As a browser's `error.stack`. The protocol counts lines and columns from 0, people from 1.
fn stack_trace(text: &str, trace: &Members<'_>) -> String {
    let mut lines = text.lines().next().unwrap_or_default().to_owned();
    for frame in trace.array("callFrames").unwrap_or_default() {
        if !frame.starts_with('{') {
            continue;
        }
        let frame = Members::of(frame);
        let function = frame.text("functionName").filter(|name| !name.is_empty());
        let url = frame.text("url").unwrap_or_default();
        let place = |name| frame.integer(name).unwrap_or(-1) + 1;
        let (line, column) = (place("lineNumber"), place("columnNumber"));
        lines.push_str(&match function {
            Some(function) => format!("\n    at {function} ({url}:{line}:{column})"),
            None => format!("\n    at {url}:{line}:{column}"),
        });
        if MAX_ATTRIBUTE_BYTES < lines.len() {
            break;
        }
    }
    lines
}

/// How grave an event is, by its type, and where it says so by its level, status or result.
fn severity(event: &Event, fields: &Members<'_>) -> SeverityNumber {
    use SeverityNumber::{Error, Info, Warn};
    let warn_if = |is_bad: bool| if is_bad { Warn } else { Info };
    let EventType::Known(known) = event.event_type else {
        return fields
            .text("level")
            .as_deref()
            .and_then(level_severity)
            .unwrap_or_else(|| custom_severity(event.event_type.as_str()));
    };
    match known {
        KnownType::ConsoleError => Error,
        // `console.trace` is a line of the usual level, with a stack.
        KnownType::ConsoleLog => match fields.text("level").as_deref() {
            Some("trace") | None => Info,
            Some(level) => level_severity(level).unwrap_or(Info),
        },
        KnownType::PageCrashed | KnownType::ServiceCrashed | KnownType::SystemOomKill => Error,
        KnownType::NetworkLoadingFailed => warn_if(!fields.is_true("canceled")),
        KnownType::NetworkResponseEnd | KnownType::NetworkWebsocketClosed => {
            warn_if(fields.text("error_text").is_some())
        }
        KnownType::NetworkResponse | KnownType::ApiCall | KnownType::PlatformApiCall => {
            warn_if(error_status(fields).is_some())
        }
        KnownType::ProxyError
        | KnownType::MonitorDisconnected
        | KnownType::MonitorReconnectFailed
        | KnownType::MonitorInitFailed => Warn,
        KnownType::CaptchaChallengeResult | KnownType::CaptchaSolveResult => {
            let result = fields.text("status");
            warn_if(result.is_some_and(|it| !matches!(&*it, "success" | "solved")))
        }
        _ => Info,
    }
}

/// Of the levels that browsers and loggers use.
fn level_severity(level: &str) -> Option<SeverityNumber> {
    match level {
        "trace" => Some(SeverityNumber::Trace),
        "debug" | "verbose" => Some(SeverityNumber::Debug),
        "log" | "info" => Some(SeverityNumber::Info),
        "warning" | "warn" => Some(SeverityNumber::Warn),
        // A failed assertion is an error in every browser's console.
        "error" | "assert" => Some(SeverityNumber::Error),
        "fatal" => Some(SeverityNumber::Fatal),
        _ => None,
    }
}

/// Of a type that Tapline does not know: by the end of its name.
fn custom_severity(name: &str) -> SeverityNumber {
    match name.rsplit('_').next() {
        Some("error" | "crashed") => SeverityNumber::Error,
        Some("failed" | "warning") => SeverityNumber::Warn,
        _ => SeverityNumber::Info,
    }
}

fn severity_text(severity: SeverityNumber) -> &'static str {
    match severity {
        SeverityNumber::Trace => "TRACE",
        SeverityNumber::Debug => "DEBUG",
        SeverityNumber::Warn => "WARN",
        SeverityNumber::Error => "ERROR",
        SeverityNumber::Fatal => "FATAL",
        _ => "INFO",
    }
}
