//! The first requests of a new tab, which began before we were attached to it.
//!
//! We let no tab wait for us (see [`created`](crate::attach::created)), so a fast document may have come
//! and asked for its first resources before the browser reports anything to us. The page itself remembers
//! them: its performance timeline has the address, status, size and times of each. So where the browser
//! has not reported the request of a document that is there, that timeline is read, once, in a world of
//! its own that the page cannot change.

use serde::Deserialize;
use serde_json::json;
use tapline_oapi::KnownType;
use tapline_oapi::data::{Context, NetworkRequest, NetworkResponse, NetworkTiming};

use crate::network::{is_always_get, owned, whole};
use crate::outbox::{Outbox, Purpose};
use crate::phases::milliseconds;
use crate::protocol::{FirstN, PageText, Text};
use crate::targets::Target;

/// The most entries that are read: what the browser keeps of a page.
const MAX_ENTRIES: usize = 250;

/// The browser's name of the world in which the timeline is read.
const WORLD: &str = "tapline-timeline";

/// Waits until the page is loaded, 10 s at most, and returns its timeline.
const SCRIPT: &str = r"(async () => {
  if (document.readyState !== 'complete')
    await Promise.race([
      new Promise((done) => addEventListener('load', done, { once: true })),
      new Promise((done) => setTimeout(done, 10000)),
    ]);
  await new Promise((done) => setTimeout(done));
  const entries = performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'));
  return {
    origin: performance.timeOrigin,
    entries: entries.map((it) => ({
      kind: it.entryType, url: it.name, initiator: it.initiatorType, status: it.responseStatus,
      protocol: it.nextHopProtocol, mime: it.contentType || '', bytes: it.transferSize,
      start: it.startTime, dns: it.domainLookupStart, dnsEnd: it.domainLookupEnd, connect: it.connectStart,
      tls: it.secureConnectionStart, connectEnd: it.connectEnd, request: it.requestStart,
      response: it.responseStart, end: it.responseEnd,
    })),
  };
})()";

/// The answer to `Page.createIsolatedWorld`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct World {
    execution_context_id: i64,
}

/// The answer to `Runtime.evaluate`.
#[derive(Deserialize)]
pub(crate) struct Evaluated<'a> {
    #[serde(borrow)]
    result: Value<'a>,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    value: Timeline<'a>,
}

/// Times are milliseconds; those of entries are after `origin`, and 0 for what did not take place.
#[derive(Deserialize)]
struct Timeline<'a> {
    /// Since the Unix epoch.
    origin: f64,
    #[serde(borrow)]
    entries: FirstN<Entry<'a>, MAX_ENTRIES>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    url: PageText<'a>,
    initiator: Text<'a>,
    /// 0 if the page may not know it.
    status: u32,
    protocol: Text<'a>,
    mime: Text<'a>,
    bytes: f64,
    start: f64,
    dns: f64,
    dns_end: f64,
    connect: f64,
    tls: f64,
    connect_end: f64,
    request: f64,
    response: f64,
    end: f64,
}

/// The document of this loader is there, and the browser has not reported its request.
pub(crate) fn begin(target: &Target, out: &mut Outbox) {
    let params = json!({"frameId": &*target.id, "worldName": WORLD});
    let purpose = Purpose::World;
    let method = "Page.createIsolatedWorld";
    let session = Some(&*target.session);
    out.call(Some(target.key), session, method, &params, purpose);
}

/// The world in which the timeline is read is there.
pub(crate) fn read(target: &Target, world: &World, out: &mut Outbox) {
    let Some(loader) = target.loader.clone() else {
        return;
    };
    let params = json!({
        "expression": SCRIPT, "contextId": world.execution_context_id,
        "returnByValue": true, "awaitPromise": true,
    });
    let session = Some(&*target.session);
    let purpose = Purpose::Timeline { loader };
    out.call(
        Some(target.key),
        session,
        "Runtime.evaluate",
        &params,
        purpose,
    );
}

/// Emits what the browser has not reported. The events have the times at which it happened.
pub(crate) fn emit(target: &mut Target, loader: &str, evaluated: &Evaluated<'_>, out: &mut Outbox) {
    let timeline = &evaluated.result.value;
    let seen = std::mem::take(&mut target.seen_urls);
    let mut document_url = target.url.clone();
    for (n, entry) in timeline.entries.items.iter().enumerate() {
        let is_document = &*entry.kind == "navigation";
        let url = out.url(&entry.url);
        if is_document {
            document_url.clone_from(&url);
        }
        // A status of 0 says only that the page may not know it.
        if entry.status == 0 || entry.end <= 0.0 || seen.contains(&url) {
            continue;
        }
        let request_id = if is_document {
            loader.to_owned()
        } else {
            format!("{loader}.{n}")
        };
        let resource_type = kind_of(entry, is_document);
        let is_get = is_always_get(resource_type, target.opener.is_some());
        let method = if is_get { "GET" } else { "" }.to_owned();
        let context = Context {
            frame_id: Some(target.id.to_string()),
            loader_id: Some(loader.to_owned()),
            url: Some(url),
            ..target.context_without_url()
        };
        let cause = Some("Runtime.evaluate");
        // Microseconds since the Unix epoch.
        let at = |ms: f64| whole(((timeline.origin + ms) * 1000.0).round());
        let request = NetworkRequest {
            context: context.clone(),
            request_id: request_id.clone(),
            method: method.clone(),
            document_url: document_url.clone(),
            initiator_type: "other".to_owned(),
            resource_type: Some(resource_type.to_owned()),
            ..NetworkRequest::default()
        };
        out.emit_at(at(entry.start), KnownType::NetworkRequest, cause, &request);
        let mime = entry.mime.split(';').next().unwrap_or_default().trim();
        let response = NetworkResponse {
            context,
            request_id,
            method,
            status: entry.status,
            mime_type: Some(mime.to_owned()).filter(|mime| !mime.is_empty()),
            resource_type: Some(resource_type.to_owned()),
            protocol: owned(Some(&entry.protocol)),
            encoded_bytes: Some(whole(entry.bytes)).filter(|bytes| 0 < *bytes),
            duration_ms: Some(milliseconds(entry.end - entry.start)),
            timing: Some(timing_of(entry)),
            ..NetworkResponse::default()
        };
        out.emit_at(at(entry.end), KnownType::NetworkResponse, cause, &response);
    }
}

/// The browser's name for the kind of resource.
fn kind_of(entry: &Entry<'_>, is_document: bool) -> &'static str {
    match &*entry.initiator {
        _ if is_document => "Document",
        _ if entry.mime.starts_with("text/css") => "Stylesheet",
        _ if entry.mime.starts_with("font/") => "Font",
        _ if entry.mime.starts_with("image/") => "Image",
        "script" => "Script",
        "img" | "image" => "Image",
        "fetch" => "Fetch",
        "xmlhttprequest" => "XHR",
        "iframe" | "frame" => "Document",
        "beacon" => "Ping",
        "video" | "audio" => "Media",
        _ => "Other",
    }
}

fn timing_of(entry: &Entry<'_>) -> NetworkTiming {
    let between = |from: f64, to: f64| (0.0 < from && from < to).then(|| milliseconds(to - from));
    let first = [entry.dns, entry.connect, entry.request]
        .into_iter()
        .find(|at| 0.0 < *at);
    NetworkTiming {
        blocked: first.map(|first| milliseconds((first - entry.start).max(0.0))),
        dns: between(entry.dns, entry.dns_end),
        connect: between(entry.connect, entry.connect_end),
        tls: between(entry.tls, entry.connect_end),
        send: None,
        wait: between(entry.request, entry.response),
        receive: between(entry.response, entry.end),
    }
}
