//! Requests from their start to their one end: a response, or a failure with a reason.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::json;
use tapline_oapi::data::{
    Context, NetworkIdle, NetworkLoadingFailed, NetworkRequest, NetworkResponse, ProxyError,
};
use tapline_oapi::{Category, KnownType};

use crate::key::Key;
use crate::outbox::{Outbox, Purpose};
use crate::protocol::{
    Headers, LoadingFailed, LoadingFinished, RequestWillBeSent, ResponseBody, ResponseReceived,
    Text,
};
use crate::proxy;
use crate::redact::{REDACTED, cut};
use crate::targets::{Target, Targets};
use crate::timers::Wait;

/// The network is idle after this time without a request in flight (from the taxonomy).
const IDLE_AFTER: Duration = Duration::from_millis(500);

/// A request is given up after this time without an event about it.
const REQUEST_AGE: Duration = Duration::from_secs(600);

/// The most open requests. Beyond it the oldest is given up.
const MAX_OPEN: usize = 10_000;

/// The largest response whose body is fetched, in bytes on the network. To cut a body, the browser
/// has to send all of it.
const MAX_FETCHED: u32 = 4 * 1024 * 1024;

/// The longest method, status text and media type that are kept, in bytes.
const MAX_WORDS: usize = 1024;

/// The longest header value that is kept, in bytes.
const MAX_HEADER: usize = 8 * 1024;

/// The most bytes of headers that are kept of a request. From there on headers are emitted without
/// their values. An open request is held with its headers.
const MAX_HEADERS: usize = 64 * 1024;

/// Why a request was given up without an end from the browser. Emitted as an `error_text`; the
/// browser's own begin with `net::`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Closed {
    /// The connection to the browser broke, or the browser ended.
    BrowserGone,
    /// The tab, frame or worker was closed.
    TargetGone,
    /// The page's process crashed.
    TargetCrashed,
    /// No event about it for ten minutes.
    TooOld,
    /// Too many requests were open.
    TooMany,
    /// It ended, but the browser reported no response.
    NoResponse,
}

impl Closed {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BrowserGone => "tapline::BROWSER_GONE",
            Self::TargetGone => "tapline::TARGET_GONE",
            Self::TargetCrashed => "tapline::TARGET_CRASHED",
            Self::TooOld => "tapline::TOO_OLD",
            Self::TooMany => "tapline::TOO_MANY_REQUESTS",
            Self::NoResponse => "tapline::NO_RESPONSE_SEEN",
        }
    }
}

/// The arguments of `Network.enable`. The browser keeps bodies until we fetch them, which we do at
/// once.
pub(crate) fn enable(out: &Outbox) -> serde_json::Value {
    json!({
        "maxPostDataSize": out.options.text_limit,
        "maxResourceBufferSize": MAX_FETCHED,
        "maxTotalBufferSize": 8 * MAX_FETCHED,
    })
}

/// A request that has not ended. Its texts are without secrets.
#[derive(Debug)]
struct Request {
    key: Key,
    id: Box<str>,
    /// When the last event about it came.
    since: Duration,
    /// Whether its start was emitted. If it began before we attached, there is only its end.
    has_start: bool,
    /// Whether it is of the target's present navigation, so that the network is not idle.
    counts: bool,
    /// Empty if the start was not seen.
    method: String,
    url: String,
    frame: Option<String>,
    loader: Option<String>,
    resource_type: Option<String>,
    response: Option<Box<Received>>,
}

#[derive(Debug)]
struct Received {
    status: u32,
    status_text: String,
    headers: BTreeMap<String, String>,
    mime_type: String,
}

/// All requests that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last: u64,
    // A request gets a new number with every event about it, so the first has been silent longest.
    open: BTreeMap<u64, Request>,
    by_id: HashMap<Key, HashMap<Box<str>, u64>>,
}

impl Requests {
    fn insert(&mut self, request: Request) {
        self.last += 1;
        let ids = self.by_id.entry(request.key).or_default();
        ids.insert(request.id.clone(), self.last);
        self.open.insert(self.last, request);
    }

    fn take(&mut self, key: Key, id: &str) -> Option<Request> {
        let ids = self.by_id.get_mut(&key)?;
        let number = ids.remove(id)?;
        if ids.is_empty() {
            self.by_id.remove(&key);
        }
        self.open.remove(&number)
    }

    /// Removes the request from the target or one of its parents: a page requests the script of its
    /// worker, and the worker reports the end.
    fn take_from(&mut self, targets: &Targets, key: Key, id: &str) -> Option<Request> {
        let mut of = Some(key);
        while let Some(key) = of {
            if let Some(request) = self.take(key, id) {
                return Some(request);
            }
            of = targets.parent(key);
        }
        None
    }

    fn take_oldest(&mut self) -> Option<Request> {
        let (_, oldest) = self.open.first_key_value()?;
        let (key, id) = (oldest.key, oldest.id.clone());
        self.take(key, &id)
    }

    fn take_all(&mut self, key: Key) -> Vec<Request> {
        let mut numbers: Vec<u64> = self
            .by_id
            .remove(&key)
            .into_iter()
            .flat_map(HashMap::into_values)
            .collect();
        numbers.sort_unstable();
        let take = |number| self.open.remove(&number);
        numbers.into_iter().filter_map(take).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// When the oldest is given up.
    pub(crate) fn next_expiry(&self) -> Option<Duration> {
        let (_, oldest) = self.open.first_key_value()?;
        Some(oldest.since.saturating_add(REQUEST_AGE))
    }

    /// Gives up the oldest.
    pub(crate) fn expire(&mut self, targets: &mut Targets, out: &mut Outbox) {
        self.close_oldest(Closed::TooOld, targets, out);
    }

    fn close_oldest(&mut self, why: Closed, targets: &mut Targets, out: &mut Outbox) {
        if let Some(request) = self.take_oldest()
            && let Some(target) = targets.at(request.key)
        {
            close(request, why, target, out);
        }
    }

    /// Gives up all requests of the target.
    pub(crate) fn close_all(&mut self, target: &mut Target, why: Closed, out: &mut Outbox) {
        for request in self.take_all(target.key) {
            close(request, why, target, out);
        }
    }

    /// Forgets all requests without an event: they are not captured any more.
    pub(crate) fn forget(&mut self, targets: &mut Targets, out: &mut Outbox) {
        self.open.clear();
        self.by_id.clear();
        out.forget(|pending| matches!(pending.purpose, Purpose::Body { .. }));
        for target in targets.all() {
            target.in_flight = 0;
            out.timers.cancel(target.key, Wait::Idle);
        }
    }

    /// The target has another document. Requests of the one before do not keep its network busy any
    /// longer, whether or not they ever end.
    pub(crate) fn navigated(&mut self, target: &mut Target, out: &mut Outbox) {
        target.in_flight = 0;
        for number in self
            .by_id
            .get(&target.key)
            .into_iter()
            .flat_map(HashMap::values)
        {
            if let Some(request) = self.open.get_mut(number) {
                request.counts = request.loader == target.loader;
                target.in_flight += usize::from(request.counts);
            }
        }
        watch_idle(target, out);
    }

    pub(crate) fn will_be_sent(
        &mut self,
        key: Key,
        sent: &RequestWillBeSent<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let before = self.take(key, &sent.request_id);
        if before.is_none() && self.open.len() == MAX_OPEN {
            self.close_oldest(Closed::TooMany, targets, out);
        }
        let Some(target) = targets.at(key) else {
            return;
        };

        let request = &sent.request;
        let url = out.url(&request.url);
        let frame = owned(sent.frame_id.as_ref());
        let loader = owned(Some(&sent.loader_id));
        let resource_type = owned(sent.resource_type.as_ref());
        let redirected = sent.redirect_response.as_ref();
        let data = NetworkRequest {
            context: of_document(target, &url, frame.clone(), loader.clone()),
            request_id: sent.request_id.to_string(),
            method: out.text_within(&request.method, MAX_WORDS),
            document_url: out.url(&sent.document_url),
            headers: headers(&request.headers, out),
            initiator_type: sent.initiator.kind.to_string(),
            resource_type: resource_type.clone(),
            post_data: request.post_data.as_ref().map(|body| out.text(body)),
            post_data_bytes: None,
            post_data_omitted: None,
            is_redirect: redirected.map(|_| true),
            redirect_url: redirected.map(|from| out.url(&from.url)),
        };
        let cause = Some("Network.requestWillBeSent");
        out.emit(KnownType::NetworkRequest, cause, &data);

        // A redirect is the same request: it was counted, or it is not of this navigation.
        let counts = before.as_ref().is_none_or(|before| before.counts);
        if before.is_none() {
            target.in_flight += 1;
            watch_idle(target, out);
        }
        self.insert(Request {
            key,
            id: (*sent.request_id).into(),
            since: out.now.monotonic,
            has_start: true,
            counts,
            method: data.method,
            url,
            frame,
            loader,
            resource_type,
            response: None,
        });
    }

    pub(crate) fn response(
        &mut self,
        key: Key,
        received: &ResponseReceived<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let response = &received.response;
        let before = self.take_from(targets, key, &received.request_id);
        let mut request = before.unwrap_or_else(|| Request {
            key,
            id: (*received.request_id).into(),
            since: out.now.monotonic,
            has_start: false,
            counts: false,
            method: String::new(),
            url: String::new(),
            frame: owned(received.frame_id.as_ref()),
            loader: owned(Some(&received.loader_id)),
            resource_type: None,
            response: None,
        });
        request.since = out.now.monotonic;
        request.url = out.url(&response.url);
        let resource_type = owned(received.resource_type.as_ref());
        request.resource_type = resource_type.or(request.resource_type);
        request.response = Some(Box::new(Received {
            status: response.status,
            status_text: out.text_within(&response.status_text, MAX_WORDS),
            headers: headers(&response.headers, out),
            mime_type: out.text_within(&response.mime_type, MAX_WORDS),
        }));
        if self.open.len() == MAX_OPEN {
            self.close_oldest(Closed::TooMany, targets, out);
        }
        self.insert(request);
    }

    pub(crate) fn finished(
        &mut self,
        key: Key,
        finished: &LoadingFinished<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let Some(mut request) = self.take_from(targets, key, &finished.request_id) else {
            return;
        };
        let Some(target) = targets.at(request.key) else {
            return;
        };
        let Some(received) = request.response.take() else {
            close(request, Closed::NoResponse, target, out);
            return;
        };
        ended(&request, target, out);

        let has_body = request.method != "HEAD" && !matches!(received.status, 204 | 205 | 304);
        let wants_body = has_body
            && is_text(&received.mime_type)
            && finished.encoded_data_length <= f64::from(MAX_FETCHED)
            && out.may_request_body();
        let id = request.id;
        let context = of_document(target, &request.url, request.frame, request.loader);
        if let Some(error) = proxy::error(received.status, &received.headers) {
            let data = ProxyError {
                context: context.clone(),
                code: error.code,
                request_id: id.to_string(),
                status: received.status,
                method: non_empty(request.method.clone()),
                raw_code: Some(error.raw_code),
                resource_type: request.resource_type.clone(),
            };
            let cause = Some("Network.loadingFinished");
            out.emit(KnownType::ProxyError, cause, &data);
        }
        let response = NetworkResponse {
            context,
            request_id: id.to_string(),
            method: request.method,
            status: received.status,
            headers: received.headers,
            status_text: non_empty(received.status_text),
            mime_type: non_empty(received.mime_type),
            resource_type: request.resource_type,
            body: None,
            body_bytes: None,
            protocol: None,
            remote_ip: None,
            from_cache: None,
            encoded_bytes: None,
            duration_ms: None,
            timing: None,
            open: None,
        };
        let ts = out.now.wall;
        if !wants_body {
            emit_response(ts, &response, out);
            return;
        }
        // The session that reported the end has the body.
        let session = targets.at(key).map(|target| target.session.clone());
        let response = Box::new(response);
        out.call(
            Some(key),
            session.as_deref(),
            "Network.getResponseBody",
            &json!({"requestId": &*id}),
            Purpose::Body { response, ts },
        );
    }

    pub(crate) fn failed(
        &mut self,
        key: Key,
        failed: &LoadingFailed<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let Some(mut request) = self.take_from(targets, key, &failed.request_id) else {
            return;
        };
        let Some(target) = targets.at(request.key) else {
            return;
        };
        if let Some(resource_type) = owned(failed.resource_type.as_ref()) {
            request.resource_type = Some(resource_type);
        }
        let error_text = out.text(&failed.error_text);
        let cause = Some("Network.loadingFailed");
        fail(request, error_text, failed.canceled, cause, target, out);
    }
}

/// The wait for an idle network is over.
pub(crate) fn idle(target: &Target, out: &mut Outbox) {
    let context = target.document();
    out.emit(KnownType::NetworkIdle, None, &NetworkIdle { context });
}

/// Emits a response that ended at `ts`, with its body if there is one.
pub(crate) fn emit_with_body(
    mut response: NetworkResponse,
    ts: u64,
    body: Option<&ResponseBody<'_>>,
    out: &mut Outbox,
) {
    // If the browser had to encode it, it is not text, whatever its media type says.
    if let Some(body) = body.filter(|body| !body.base64_encoded) {
        response.body = Some(out.text(&body.body));
    }
    emit_response(ts, &response, out);
}

fn emit_response(ts: u64, response: &NetworkResponse, out: &mut Outbox) {
    let cause = Some("Network.loadingFinished");
    out.emit_at(ts, KnownType::NetworkResponse, cause, response);
}

fn close(request: Request, why: Closed, target: &mut Target, out: &mut Outbox) {
    fail(request, why.as_str().to_owned(), false, None, target, out);
}

fn fail(
    request: Request,
    error_text: String,
    canceled: bool,
    cause: Option<&'static str>,
    target: &mut Target,
    out: &mut Outbox,
) {
    ended(&request, target, out);
    // Without a start there is nothing that a reader waits for.
    if !request.has_start && cause.is_none() {
        return;
    }
    let data = NetworkLoadingFailed {
        context: of_document(target, &request.url, request.frame, request.loader),
        request_id: request.id.into(),
        error_text,
        canceled,
        resource_type: request.resource_type,
        status: None,
        headers: None,
        mime_type: None,
        blocked_reason: None,
        cors_error: None,
        duration_ms: None,
    };
    out.emit(KnownType::NetworkLoadingFailed, cause, &data);
}

fn ended(request: &Request, target: &mut Target, out: &mut Outbox) {
    if request.counts {
        target.in_flight -= 1;
        watch_idle(target, out);
    }
}

/// Starts or stops the wait for an idle network after the number in flight has changed.
fn watch_idle(target: &Target, out: &mut Outbox) {
    if target.in_flight > 0 {
        out.timers.cancel(target.key, Wait::Idle);
    } else if target.has_frames() && out.captures(Category::Network) {
        let at = out.now.monotonic.saturating_add(IDLE_AFTER);
        out.timers.set(target.key, Wait::Idle, at);
    }
}

fn of_document(
    target: &Target,
    url: &str,
    frame: Option<String>,
    loader: Option<String>,
) -> Context {
    Context {
        session_id: Some(target.session.to_string()),
        target_id: Some(target.id.to_string()),
        target_type: Some(target.kind),
        nav_seq: Some(target.nav_seq),
        frame_id: frame,
        loader_id: loader,
        url: Some(url.to_owned()),
        ..Context::default()
    }
}

fn headers(headers: &Headers<'_>, out: &Outbox) -> BTreeMap<String, String> {
    let mut left = MAX_HEADERS;
    let kept = headers.0.iter().map(|(name, value)| {
        let name = cut(name, MAX_WORDS);
        let limit = MAX_HEADER.min(left);
        let value = if out.rules.is_secret_header(name) {
            cut(REDACTED, limit).to_owned()
        } else {
            out.text_within(value, limit)
        };
        left = left.saturating_sub(name.len() + value.len());
        (name.to_owned(), value)
    });
    kept.collect()
}

fn owned(text: Option<&Text<'_>>) -> Option<String> {
    text.map(|text| text.to_string()).and_then(non_empty)
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Whether a body of this media type is text. No other body is fetched.
fn is_text(mime_type: &str) -> bool {
    let essence = mime_type
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/json"
                | "application/ld+json"
                | "application/xml"
                | "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/graphql"
                | "application/x-ndjson"
                | "application/yaml"
                | "application/x-www-form-urlencoded"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_recognised_by_its_media_type() {
        for text in [
            "text/html",
            "text/css; charset=utf-8",
            "application/json",
            "application/problem+json",
            "image/svg+xml",
            "Application/JavaScript",
        ] {
            assert!(is_text(text), "{text}");
        }
        for other in [
            "",
            "image/png",
            "application/octet-stream",
            "font/woff2",
            "video/mp4",
            "application/pdf",
            "application/wasm",
        ] {
            assert!(!is_text(other), "{other}");
        }
    }
}
