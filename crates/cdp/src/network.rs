//! Requests from their start to their one end.
//!
//! An answer is an answer: `responseReceived` is what the server said, and `loadingFailed` only what
//! became of the body. So a request that was answered ends with a `network_response`, unless its body
//! broke off; then the failure carries the status.
//!
//! A request belongs to the browser, not to a target: it may begin in a frame's session and end in its
//! parent's, or begin in a page and end in its worker. So requests are found by their id alone, which is
//! unique within a browser, and each keeps the context in which it began.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde_json::json;
use tapline_oapi::body::{MAX_CAPTURED, is_text};
use tapline_oapi::data::{
    Context, NetworkIdle, NetworkLoadingFailed, NetworkRequest, NetworkResponse,
    NetworkResponseEnd, ProxyError,
};
use tapline_oapi::{Category, KnownType};

use crate::body::{self, BodyText};
use crate::key::Key;
use crate::outbox::{EndedResponse, Outbox, Purpose};
use crate::phases::{self, Clocks};
use crate::protocol::{
    DataReceived, Headers, LoadingFailed, LoadingFinished, PostData, RequestExtraInfo,
    RequestWillBeSent, ResourceTiming, ResponseBody, ResponseExtraInfo, ResponseReceived, Text,
};
use crate::proxy;
use crate::redact::{REDACTED, cut};
use crate::targets::{Target, Targets};
use crate::timers::Wait;

/// The network is idle after this time without a request in flight (from the taxonomy).
const IDLE_AFTER: Duration = Duration::from_millis(500);

/// A request without an answer is given up after this time without an event about it.
const REQUEST_AGE: Duration = Duration::from_secs(600);

/// A response that lasts this long is emitted before its end.
const OPEN_AFTER: Duration = Duration::from_secs(3);

/// The browser's names for the end of an answer without a body, or with one that it does not want.
const WITHOUT_BODY: [&str; 4] = [
    "net::ERR_ABORTED",
    "net::ERR_HTTP_RESPONSE_CODE_FAILURE",
    "net::ERR_INVALID_AUTH_CREDENTIALS",
    "",
];

/// How long the browser may take to report the end of a request whose document is gone.
const GRACE: Duration = Duration::from_secs(1);

/// How long the bodies of a page that is being loaded wait for its load event.
const BODIES_AFTER: Duration = Duration::from_secs(1);

/// How many bodies of a page may wait. Beyond it they are fetched while it is being loaded.
const MAX_WAITING_BODIES: usize = 64;

/// How long another target may take to report a document whose target is gone. A process starts meanwhile.
const MOVED_WITHIN: Duration = Duration::from_secs(5);

/// How long the start of a request waits for the body that the page posts.
const POST_DATA_WITHIN: Duration = Duration::from_millis(500);

/// The most open requests. Beyond it the oldest is given up.
const MAX_OPEN: usize = 10_000;

/// The most requests that were given up and are remembered, so that their true end can be reported.
const MAX_GIVEN_UP: usize = 1000;

/// The most lengths of posted bodies that are remembered until their request is reported.
const MAX_LENGTHS: usize = 64;

/// The largest posted body that is fetched, in bytes, for the same reason.
const MAX_FETCHED_POST: u64 = 1024 * 1024;

/// The longest method, status text and media type that are kept, in bytes.
pub(crate) const MAX_WORDS: usize = 1024;

/// The longest header value that is kept, in bytes.
const MAX_HEADER: usize = 8 * 1024;

/// The most bytes of headers that are kept of a request. From there on headers are emitted without
/// their values. An open request is held with its headers.
const MAX_HEADERS: usize = 64 * 1024;

/// Why a request was given up without an end from the browser. Emitted as an `error_text`; the
/// browser's own begin with `net::`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The connection to the browser broke, or the browser ended.
    BrowserGone,
    /// The tab, frame or worker was closed.
    TargetGone,
    /// The page's process crashed.
    TargetCrashed,
    /// The page went to another document.
    Navigated,
    /// The frame was removed from its page.
    FrameGone,
    /// No answer, and no event about it for ten minutes.
    TooOld,
    /// Too many requests were open.
    TooMany,
    /// It ended, but the browser reported no response.
    NoResponse,
    /// The browser has sent it once more.
    SentAgain,
}

impl Closed {
    /// The browser gave no reason for a failure.
    pub(crate) const NO_REASON: &str = "tapline::NO_REASON_GIVEN";

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BrowserGone => "tapline::BROWSER_GONE",
            Self::TargetGone => "tapline::TARGET_GONE",
            Self::TargetCrashed => "tapline::TARGET_CRASHED",
            Self::Navigated => "tapline::NAVIGATED_AWAY",
            Self::FrameGone => "tapline::FRAME_GONE",
            Self::TooOld => "tapline::TOO_OLD",
            Self::TooMany => "tapline::TOO_MANY_REQUESTS",
            Self::NoResponse => "tapline::NO_RESPONSE_SEEN",
            Self::SentAgain => "tapline::SENT_AGAIN",
        }
    }
}

/// The arguments of `Network.enable`. The browser keeps bodies until we fetch them, which we do soon.
pub(crate) fn enable(out: &Outbox) -> serde_json::Value {
    json!({
        "maxPostDataSize": out.options.text_limit,
        "maxResourceBufferSize": MAX_CAPTURED,
        "maxTotalBufferSize": 8 * MAX_CAPTURED,
    })
}

/// A request that has not ended. Its texts are without secrets.
#[derive(Debug)]
struct Request {
    /// The target that it counts for.
    key: Key,
    id: Box<str>,
    /// When the last event about it came.
    last: Duration,
    /// When it is looked at next; `None` if it waits for nothing but its end.
    due: Option<Duration>,
    /// Whether its start was emitted. If it began before we attached, there may be only its end.
    has_start: bool,
    /// Whether it is of the target's present navigation, so that the network is not idle.
    counts: bool,
    /// Why and when it will be given up, unless the browser reports its end by then.
    leaving: Option<(Closed, Duration)>,
    /// Why it was given up.
    given_up: Option<Closed>,
    origin: Origin,
    clocks: Clocks,
    is_in_memory: bool,
    /// The status on the wire. The browser reports it also of an answer that it withholds from the page.
    wire_status: Option<u32>,
    response: Option<Box<Received>>,
    /// Bytes of the body so far, decoded.
    data_bytes: u64,
    /// Bytes on the network so far, those of the headers excluded.
    encoded_bytes: u64,
    /// The start, if it is not emitted yet because it waits for the posted body.
    held: Option<Box<HeldStart>>,
}

/// What a request is, and where it began.
#[derive(Debug, Clone, Default)]
struct Origin {
    /// The `url` is that of the request.
    context: Context,
    /// Empty if the start was not seen.
    method: String,
    resource_type: Option<String>,
}

#[derive(Debug, Clone)]
struct Received {
    status: u32,
    status_text: String,
    headers: BTreeMap<String, String>,
    mime_type: String,
    protocol: Option<String>,
    remote_ip: Option<String>,
    from_cache: Option<&'static str>,
    header_bytes: u64,
    timing: Option<ResourceTiming>,
    /// When it came.
    since: Duration,
    /// Whether it was emitted before its end.
    is_emitted: bool,
}

/// A start that waits for the body that the page posts.
#[derive(Debug)]
struct HeldStart {
    data: NetworkRequest,
    /// The wall time of the start.
    ts: u64,
    /// Until when it waits.
    until: Duration,
    /// Whether the body was requested from the browser.
    is_requested: bool,
    /// The end of the request, if it came before the body, and the target that reported it.
    end: Option<(Key, End)>,
}

/// How a request ended.
#[derive(Debug)]
struct End {
    at: Ending,
    /// Bytes on the network, headers included, if the browser says so.
    encoded_bytes: Option<u64>,
    failure: Option<Failure>,
}

/// When a request ended, and by what.
#[derive(Debug, Clone, Copy)]
struct Ending {
    /// The browser's event; `None` if we ended it.
    cause: Option<&'static str>,
    /// The browser's clock, in seconds.
    timestamp: f64,
    /// The wall clock.
    ts: u64,
}

impl Ending {
    fn reported(cause: &'static str, timestamp: f64, out: &Outbox) -> Self {
        Self {
            cause: Some(cause),
            timestamp,
            ts: out.now.wall,
        }
    }

    fn ours(request: &Request, out: &Outbox) -> Self {
        Self {
            cause: None,
            timestamp: request.clocks.at(out.now.monotonic),
            ts: out.now.wall,
        }
    }
}

#[derive(Debug)]
struct Failure {
    error_text: String,
    canceled: bool,
    blocked_reason: Option<String>,
    cors_error: Option<String>,
}

/// All requests that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last: u64,
    /// In the order in which they began.
    open: BTreeMap<u64, Request>,
    by_id: FxHashMap<Box<str>, u64>,
    by_target: BTreeSet<(Key, u64)>,
    due: BTreeSet<(Duration, u64)>,
    /// Requests that we gave up, the oldest first.
    given_up: VecDeque<Request>,
    /// Lengths of posted bodies that were reported before their requests.
    lengths: VecDeque<(Box<str>, u64)>,
}

impl Requests {
    fn insert(&mut self, mut request: Request) {
        self.last += 1;
        let number = self.last;
        request.due = next_look(&request);
        if let Some(due) = request.due {
            self.due.insert((due, number));
        }
        self.by_id.insert(request.id.clone(), number);
        self.by_target.insert((request.key, number));
        self.open.insert(number, request);
    }

    fn number(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    fn remove(&mut self, number: u64) -> Option<Request> {
        let request = self.open.remove(&number)?;
        self.by_id.remove(&request.id);
        self.by_target.remove(&(request.key, number));
        if let Some(due) = request.due {
            self.due.remove(&(due, number));
        }
        Some(request)
    }

    fn take(&mut self, id: &str) -> Option<Request> {
        self.remove(self.number(id)?)
    }

    /// Changes a request in place, and looks at it again when that follows from the change.
    fn update(&mut self, number: u64, change: impl FnOnce(&mut Request)) {
        let Some(request) = self.open.get_mut(&number) else {
            return;
        };
        change(request);
        let due = next_look(request);
        if due != request.due {
            if let Some(before) = request.due {
                self.due.remove(&(before, number));
            }
            if let Some(due) = due {
                self.due.insert((due, number));
            }
            request.due = due;
        }
    }

    /// The numbers of the target's requests, in the order in which they began.
    fn of_target(&self, key: Key) -> Vec<u64> {
        let range = self.by_target.range((key, 0)..=(key, u64::MAX));
        range.map(|(_, number)| *number).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// When the next one is looked at.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Looks at the request that is due: its start has waited long enough, it is given up, or its response
    /// lasts.
    pub(crate) fn look(&mut self, targets: &mut Targets, out: &mut Outbox) {
        let Some((due, number)) = self.due.pop_first() else {
            return;
        };
        let now = out.now.monotonic;
        debug_assert!(due <= now, "looked at too early");
        let mut given_up = None;
        if let Some(request) = self.open.get_mut(&number) {
            request.due = None;
            if request.held.is_some() {
                self.emit_held(number, targets, out);
            } else if let Some((why, _)) = request.leaving {
                given_up = Some(why);
            } else if request.response.is_some() {
                emit_open(request, targets, out);
            } else if request.last.saturating_add(REQUEST_AGE) <= now {
                given_up = Some(Closed::TooOld);
            }
        }
        match given_up {
            Some(why) => self.give_up(number, why, targets, out),
            None => self.update(number, |_| ()),
        }
    }

    /// Emits the start that has waited for its posted body, and the end, if it came meanwhile.
    fn emit_held(&mut self, number: u64, targets: &mut Targets, out: &mut Outbox) {
        if !self.open.get(&number).is_some_and(Request::has_ended) {
            self.update(number, |request| emit_start(request, out));
        } else if let Some(mut request) = self.remove(number) {
            let end = request.held.as_mut().and_then(|held| held.end.take());
            emit_start(&mut request, out);
            if let Some((key, end)) = end {
                self.emit_end_of(key, request, end, targets, out);
            }
        }
    }

    /// Gives up a request. Its true end is reported if the browser reports it later.
    fn give_up(&mut self, number: u64, why: Closed, targets: &mut Targets, out: &mut Outbox) {
        if self.open.get(&number).is_some_and(Request::has_ended) {
            self.emit_held(number, targets, out);
            return;
        }
        let Some(mut request) = self.remove(number) else {
            return;
        };
        request.leaving = None;
        stop_counting(&mut request, targets, out);
        let is_answered = close(&mut request, why, out);
        if is_answered || matches!(why, Closed::BrowserGone | Closed::TargetCrashed) {
            return;
        }
        request.given_up = Some(why);
        if self.given_up.len() == MAX_GIVEN_UP {
            self.given_up.pop_front();
        }
        self.given_up.push_back(request);
    }

    /// Takes a request that was given up, because there is news of it after all.
    fn take_given_up(&mut self, id: &str) -> Option<Request> {
        let at = self.given_up.iter().position(|it| *it.id == *id)?;
        self.given_up.remove(at)
    }

    fn limit_open(&mut self, targets: &mut Targets, out: &mut Outbox) {
        if self.open.len() < MAX_OPEN {
            return;
        }
        if let Some(oldest) = self.open.first_key_value().map(|(number, _)| *number) {
            self.give_up(oldest, Closed::TooMany, targets, out);
        }
    }

    /// Gives up all requests of the target at once.
    pub(crate) fn close_all(
        &mut self,
        key: Key,
        why: Closed,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        for number in self.of_target(key) {
            self.give_up(number, why, targets, out);
        }
    }

    /// The target is gone. A document that was being loaded may have moved to another target, which reports
    /// its end; all other requests are given up.
    pub(crate) fn target_gone(&mut self, key: Key, targets: &mut Targets, out: &mut Outbox) {
        let at = out.now.monotonic.saturating_add(MOVED_WITHIN);
        for number in self.of_target(key) {
            let is_document = self.open.get(&number).is_some_and(is_document);
            if is_document {
                self.leave(number, Closed::TargetGone, at);
            } else {
                self.give_up(number, Closed::TargetGone, targets, out);
            }
        }
    }

    /// The browser is gone, and with it everything that was open.
    pub(crate) fn browser_gone(&mut self, targets: &mut Targets, out: &mut Outbox) {
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.give_up(number, Closed::BrowserGone, targets, out);
        }
        self.given_up.clear();
        self.lengths.clear();
    }

    /// Forgets all requests without an event: they are not captured any more.
    pub(crate) fn forget(&mut self, targets: &mut Targets, out: &mut Outbox) {
        let last = self.last;
        *self = Self {
            last,
            ..Self::default()
        };
        out.forget(|pending| {
            matches!(pending.purpose, Purpose::Body(_) | Purpose::PostData { .. })
        });
        for target in targets.all() {
            target.in_flight = 0;
            target.bodies.clear();
            out.timers.cancel(target.key, Wait::Bodies);
            out.timers.cancel(target.key, Wait::Idle);
        }
    }

    /// The request will be given up at that time, unless the browser reports its end by then.
    fn leave(&mut self, number: u64, why: Closed, at: Duration) {
        self.update(number, |request| {
            request.leaving.get_or_insert((why, at));
        });
    }

    /// The target's main frame has another document. Requests of the one before do not keep its network
    /// busy any longer, and are given up unless the browser reports their end soon. If the document is one
    /// that comes back, its requests come back with it.
    pub(crate) fn navigated(&mut self, target: &mut Target, out: &mut Outbox) {
        let at = out.now.monotonic.saturating_add(GRACE);
        target.in_flight = 0;
        for number in self.of_target(target.key) {
            let Some(request) = self.open.get_mut(&number) else {
                continue;
            };
            let is_of_document = request.origin.context.loader_id == target.loader;
            request.counts = is_of_document && !is_lasting(request);
            target.in_flight += usize::from(request.counts);
            // Another document that is being loaded into the main frame is not of the one before.
            let is_next = is_document(request)
                && request.origin.context.frame_id.as_deref() == Some(&*target.id);
            if !is_of_document && !is_next && target.has_frames() {
                self.leave(number, Closed::Navigated, at);
            }
        }
        watch_idle(target, out);
    }

    /// The document of this loader was restored as it was left, and its requests with it.
    pub(crate) fn restored(&mut self, target: &mut Target, loader: &str, out: &Outbox) {
        let is_its =
            |request: &Request| request.origin.context.loader_id.as_deref() == Some(loader);
        let (back, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.given_up)
            .into_iter()
            .partition(is_its);
        self.given_up = rest;
        for mut request in back {
            if request.given_up == Some(Closed::Navigated) && self.open.len() < MAX_OPEN {
                request.key = target.key;
                request.last = out.now.monotonic;
                self.insert(request);
            }
        }
        for number in self.of_target(target.key) {
            let now = out.now.monotonic;
            self.update(number, |request| {
                if is_its(request) {
                    request.leaving = None;
                    request.last = now;
                }
            });
        }
    }

    /// A frame was removed. What the browser does not end by itself is given up.
    pub(crate) fn frame_gone(&mut self, key: Key, frame: &str, now: Duration) {
        let at = now.saturating_add(GRACE);
        for number in self.of_target(key) {
            let is_its = (self.open.get(&number))
                .is_some_and(|request| request.origin.context.frame_id.as_deref() == Some(frame));
            if is_its {
                self.leave(number, Closed::FrameGone, at);
            }
        }
    }

    /// A worker runs, so its script was loaded, whether or not the browser reports the end of that
    /// request to a target that we see.
    pub(crate) fn worker_runs(&mut self, url: &str, targets: &mut Targets, out: &mut Outbox) {
        let at = out.now.monotonic.saturating_add(GRACE);
        let its: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, request)| {
                request.origin.resource_type.as_deref() == Some("Script")
                    && request.origin.context.url.as_deref() == Some(url)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in its {
            if let Some(request) = self.open.get_mut(&number) {
                stop_counting(request, targets, out);
                if request.response.is_none() {
                    self.leave(number, Closed::NoResponse, at);
                }
            }
        }
    }

    pub(crate) fn will_be_sent(
        &mut self,
        key: Key,
        sent: &RequestWillBeSent<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let is_of_error_page = |target: &mut Target| {
            target.is_error_page(&sent.loader_id) && *sent.loader_id != *sent.request_id
        };
        if targets.at(key).is_none_or(is_of_error_page) {
            return;
        }
        // One that has ended, and waits only for its posted body, is another one.
        if let Some(number) = self.number(&sent.request_id)
            && self.open.get(&number).is_some_and(Request::has_ended)
        {
            self.emit_held(number, targets, out);
        }
        let redirected = sent.redirect_response.as_ref();
        let mut before = None;
        if let Some(number) = self.number(&sent.request_id) {
            // Two targets report the request of a frame that changes its process.
            let is_repeat = redirected.is_none()
                && (self.open.get(&number)).is_some_and(|before| before.key != key);
            if is_repeat {
                return;
            }
            before = self.remove(number);
        } else if let Some(given_up) = self.take_given_up(&sent.request_id) {
            before = Some(given_up);
        }
        if before.is_none() {
            self.limit_open(targets, out);
        }
        if let Some(before) = &mut before {
            emit_start(before, out);
            // Another target reports the redirect. The request was counted for the first one.
            if before.key != key {
                stop_counting(before, targets, out);
            }
            // It was answered, and is sent again, such as with a password.
            if before.response.is_some() {
                close(before, Closed::SentAgain, out);
            }
        }
        let Some(target) = targets.at(key) else {
            return;
        };
        let request = &sent.request;
        let resource_type = owned(sent.resource_type.as_ref());
        let nav_seq =
            (before.as_ref()).map_or(Some(target.nav_seq), |it| it.origin.context.nav_seq);
        let context = Context {
            frame_id: owned(sent.frame_id.as_ref()),
            loader_id: owned(Some(&sent.loader_id)),
            url: Some(out.url(&request.url)),
            nav_seq,
            ..target.context_without_url()
        };
        target.saw_request(context.url.as_deref());
        // The request of a document has the id of its loader.
        if *sent.request_id == *sent.loader_id {
            target.saw_document(&sent.loader_id);
        }
        let initiator = sent.initiator.place();
        let limit = out.options.text_limit;
        let post_data = request.post_data.as_ref().map(|body| out.text(body));
        let has_more = request.post_data.is_none() && request.has_post_data;
        let data = NetworkRequest {
            context: context.clone(),
            request_id: sent.request_id.to_string(),
            method: out.text_within(&request.method, MAX_WORDS),
            document_url: out.url(&sent.document_url),
            headers: headers(&request.headers, out),
            initiator_type: sent.initiator.kind.to_string(),
            resource_type: resource_type.clone(),
            post_data,
            post_data_bytes: (request.post_data)
                .map(|body| body.decoded_len())
                .filter(|bytes| limit < *bytes)
                .map(|bytes| bytes as u64),
            post_data_omitted: has_more.then_some(true),
            is_redirect: redirected.map(|_| true),
            redirect_url: redirected.map(|from| out.url(&from.url)),
            redirect_status: redirected.and_then(|from| from.status),
            initiator_url: initiator.map(|(url, _)| out.url(url)),
            initiator_line: initiator.and_then(|(_, line)| line),
        };

        // A redirect is the same request: it was counted, or it is not of this navigation.
        let counts = before.as_ref().is_none_or(|before| before.counts);
        if before.is_none() {
            target.in_flight += 1;
            watch_idle(target, out);
        }
        let mut request = Request {
            key,
            id: (*sent.request_id).into(),
            last: out.now.monotonic,
            due: None,
            has_start: true,
            counts,
            leaving: None,
            given_up: None,
            origin: Origin {
                context,
                method: data.method.clone(),
                resource_type,
            },
            clocks: match before {
                Some(before) => before.clocks.redirected(sent.timestamp, out.now.monotonic),
                None => Clocks::begun(sent.timestamp, out.now.monotonic),
            },
            is_in_memory: false,
            wire_status: None,
            response: None,
            data_bytes: 0,
            encoded_bytes: 0,
            held: Some(Box::new(HeldStart {
                data,
                ts: out.now.wall,
                until: out.now.monotonic.saturating_add(POST_DATA_WITHIN),
                is_requested: false,
                end: None,
            })),
        };
        if has_more {
            let length = self.lengths.iter().position(|(id, _)| **id == *request.id);
            if let Some((_, length)) = length.and_then(|at| self.lengths.remove(at)) {
                fetch_post_data(&mut request, length, targets, out);
            }
        } else {
            emit_start(&mut request, out);
        }
        self.insert(request);
    }

    /// What the network stack sent. Only the length of a posted body is of interest, if the browser
    /// did not report the body itself.
    pub(crate) fn sent_extra_info(
        &mut self,
        sent: &RequestExtraInfo<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let Some(length) = sent.headers.content_length else {
            return;
        };
        let Some(number) = self.number(&sent.request_id) else {
            // It may come before the request itself.
            if self.lengths.len() == MAX_LENGTHS {
                self.lengths.pop_front();
            }
            self.lengths.push_back(((*sent.request_id).into(), length));
            return;
        };
        self.update(number, |request| {
            fetch_post_data(request, length, targets, out);
        });
    }

    /// The browser has answered with the posted body, or has none.
    pub(crate) fn posted(
        &mut self,
        id: &str,
        body: Option<&PostData<'_>>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let Some(number) = self.number(id) else {
            return;
        };
        let request = self.open.get_mut(&number);
        let held = request.and_then(|request| request.held.as_mut());
        if let (Some(held), Some(body)) = (held, body) {
            let data = &mut held.data;
            data.post_data = Some(out.text(&body.post_data));
            data.post_data_omitted = None;
            // The length on the wire: that of the text may be less, where the body is not text.
            let is_cut = data.post_data_bytes.is_some_and(|bytes| {
                bytes > out.options.text_limit as u64
                    || bytes != body.post_data.decoded_len() as u64
            });
            if !is_cut {
                data.post_data_bytes = None;
            }
        }
        self.emit_held(number, targets, out);
    }

    /// The request was answered from the browser's memory.
    pub(crate) fn served_from_memory(&mut self, id: &str) {
        if let Some(number) = self.number(id) {
            self.update(number, |request| request.is_in_memory = true);
        }
    }

    /// The status on the wire, which is reported also if the page does not get to see the answer.
    pub(crate) fn received_extra_info(&mut self, received: &ResponseExtraInfo<'_>) {
        if let Some(number) = self.number(&received.request_id) {
            self.update(number, |request| {
                request.wire_status = Some(received.status_code).filter(|status| 0 < *status);
            });
        }
    }

    pub(crate) fn response(
        &mut self,
        key: Key,
        received: &ResponseReceived<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let response = &received.response;
        // A response of several parts is reported once for each. It lasts, and was emitted.
        if let Some(number) = self.number(&received.request_id)
            && self.open.get(&number).is_some_and(is_lasting)
        {
            return;
        }
        let mut request = match self.take(&received.request_id) {
            Some(mut request) => {
                self.follow(&mut request, key, targets, out);
                request
            }
            None => match self.take_given_up(&received.request_id) {
                Some(request) => request,
                None => match self.found(key, received, targets, out) {
                    Some(request) => request,
                    None => return,
                },
            },
        };
        request.last = out.now.monotonic;
        request.leaving = None;
        request.origin.context.url = Some(out.url(&response.url));
        if let Some(resource_type) = owned(received.resource_type.as_ref()) {
            request.origin.resource_type = Some(resource_type);
        }
        let is_data = response.url.starts_with("data:");
        let from_cache = if response.from_service_worker {
            Some("service_worker")
        } else if response.from_prefetch_cache {
            Some("prefetch")
        } else if response.from_disk_cache {
            Some("disk")
        } else {
            (request.is_in_memory && !is_data).then_some("memory")
        };
        let remote_ip = response.remote_ip_address.as_deref().unwrap_or_default();
        request.response = Some(Box::new(Received {
            status: response.status,
            status_text: out.text_within(&response.status_text, MAX_WORDS),
            headers: headers(&response.headers, out),
            mime_type: out.text_within(&response.mime_type, MAX_WORDS),
            protocol: owned(response.protocol.as_ref()),
            remote_ip: non_empty(remote_ip.trim_matches(['[', ']']).to_owned()),
            from_cache,
            header_bytes: whole(response.encoded_data_length),
            timing: response.timing,
            since: out.now.monotonic,
            is_emitted: false,
        }));
        self.limit_open(targets, out);
        self.insert(request);
    }

    /// A request that began before we attached.
    fn found(
        &self,
        key: Key,
        received: &ResponseReceived<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) -> Option<Request> {
        let target = targets.at(key)?;
        if target.is_error_page(&received.loader_id) {
            return None;
        }
        let context = Context {
            frame_id: owned(received.frame_id.as_ref()),
            loader_id: owned(Some(&received.loader_id)),
            url: Some(out.url(&received.response.url)),
            ..target.context_without_url()
        };
        let resource_type = owned(received.resource_type.as_ref());
        let mut request = Request::unseen(key, &received.request_id, context, out);
        request.origin.resource_type = resource_type;
        target.saw_request(request.origin.context.url.as_deref());
        if target.is_new {
            start_unseen(&mut request, target, "Network.responseReceived", out);
        }
        Some(request)
    }

    /// The request's events come from this target now, which counts it from here on.
    fn follow(&self, request: &mut Request, key: Key, targets: &mut Targets, out: &mut Outbox) {
        if request.key == key || targets.at(request.key).is_some() {
            return;
        }
        if let Some(target) = targets.at(key) {
            request.key = key;
            request.counts = request.origin.context.loader_id == target.loader;
            target.in_flight += usize::from(request.counts);
            watch_idle(target, out);
        }
    }

    pub(crate) fn data(&mut self, received: &DataReceived<'_>, now: Duration) {
        let number = self.number(&received.request_id);
        if let Some(request) = number.and_then(|number| self.open.get_mut(&number)) {
            // Nothing is due earlier for that, so nothing has to be moved.
            request.last = now;
            request.data_bytes += received.data_length;
            request.encoded_bytes += received.encoded_data_length;
        }
    }

    pub(crate) fn finished(
        &mut self,
        key: Key,
        finished: &LoadingFinished<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let end = End {
            at: Ending::reported("Network.loadingFinished", finished.timestamp, out),
            encoded_bytes: Some(whole(finished.encoded_data_length)),
            failure: None,
        };
        self.ended(key, &finished.request_id, end, targets, out);
    }

    pub(crate) fn failed(
        &mut self,
        key: Key,
        failed: &LoadingFailed<'_>,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        let cors_error = (failed.cors_error_status.as_ref())
            .map(|status| cut(&status.cors_error, MAX_WORDS).to_owned());
        let end = End {
            at: Ending::reported("Network.loadingFailed", failed.timestamp, out),
            encoded_bytes: None,
            failure: Some(Failure {
                error_text: out.text(&failed.error_text),
                canceled: failed.canceled,
                blocked_reason: (failed.blocked_reason.as_ref())
                    .map(|it| cut(it, MAX_WORDS).to_owned()),
                cors_error,
            }),
        };
        if let Some(number) = self.number(&failed.request_id)
            && let Some(resource_type) = owned(failed.resource_type.as_ref())
        {
            self.update(number, |request| {
                request.origin.resource_type = Some(resource_type);
            });
        }
        self.ended(key, &failed.request_id, end, targets, out);
    }

    /// The browser has reported the end.
    fn ended(&mut self, key: Key, id: &str, end: End, targets: &mut Targets, out: &mut Outbox) {
        // The start comes first, and waits for the body that is being fetched, or for its length: the browser's
        // events about the wire come by a way of their own.
        if let Some(number) = self.number(id)
            && let Some(request) = self.open.get_mut(&number)
            && let Some(held) = &mut request.held
        {
            held.end.get_or_insert((key, end));
            stop_counting(request, targets, out);
            return;
        }
        let request = match self.take(id) {
            Some(request) => Some(request),
            // That it was cancelled says no more than that it was given up.
            None if end.failure.as_ref().is_none_or(|it| !it.canceled) => self.take_given_up(id),
            None => None,
        };
        let Some(mut request) = request else {
            return;
        };
        stop_counting(&mut request, targets, out);
        self.emit_end_of(key, request, end, targets, out);
    }

    fn emit_end_of(
        &self,
        key: Key,
        mut request: Request,
        end: End,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        match (request.response.take(), end.failure) {
            (None, None) => {
                close(&mut request, Closed::NoResponse, out);
            }
            (None, Some(failure)) => {
                emit_failure(&request, None, failure, end.at, out);
            }
            (Some(received), failure) if received.is_emitted => {
                let failure = failure.filter(|failure| !failure.canceled);
                let error_text = failure.map(|failure| failure.error_text);
                let encoded = end.encoded_bytes;
                emit_end(&request, &received, encoded, error_text, end.at, out);
            }
            // A body that is cancelled is one that the page or the browser did not want to read further. If
            // there was none, nothing could break off; but its bytes may have come together with the end, and
            // then only the reason says so.
            (Some(received), Some(failure))
                if !failure.canceled
                    && (0 < request.data_bytes
                        || !WITHOUT_BODY.contains(&&*failure.error_text)) =>
            {
                let received = Some(&*received);
                emit_failure(&request, received, failure, end.at, out);
            }
            (Some(received), failure) => {
                let end = End { failure, ..end };
                self.emit_response(key, request, *received, &end, targets, out);
            }
        }
    }

    fn emit_response(
        &self,
        key: Key,
        mut request: Request,
        received: Received,
        end: &End,
        targets: &mut Targets,
        out: &mut Outbox,
    ) {
        if let Some(error) = proxy::error(received.status, &received.headers) {
            let data = ProxyError {
                context: request.origin.context.clone(),
                code: error.code,
                request_id: request.id.to_string(),
                status: received.status,
                method: non_empty(request.origin.method.clone()),
                raw_code: Some(error.raw_code),
                resource_type: request.origin.resource_type.clone(),
            };
            out.emit_at(end.at.ts, KnownType::ProxyError, end.at.cause, &data);
        }
        let has_body = request.origin.method != "HEAD"
            && !matches!(received.status, 204 | 205 | 304)
            && (end.failure.is_none() || 0 < request.data_bytes);
        let data_bytes = request.data_bytes;
        let origin = std::mem::take(&mut request.origin);
        let mut response = response_of(&request, origin, received, end.at.timestamp);
        if let Some(encoded) = end.encoded_bytes.filter(|bytes| 0 < *bytes) {
            response.encoded_bytes = Some(encoded);
        }
        response.canceled = (end.failure.as_ref())
            .filter(|failure| failure.canceled && 0 < data_bytes)
            .map(|_| true);
        let wants_body = has_body
            && response.mime_type.as_deref().is_some_and(is_text)
            && data_bytes.max(response.encoded_bytes.unwrap_or(0)) <= u64::from(MAX_CAPTURED);
        let ended = EndedResponse {
            response: Box::new(response),
            ts: end.at.ts,
            cause: end.at.cause,
            bytes: data_bytes,
        };
        // The session that reported the end has the body.
        match targets.at(key).filter(|_| wants_body) {
            None => emit_with_body(ended, None, out),
            Some(target) if !target.is_loading() => fetch_body(target, ended, out),
            // To fetch a body costs the page's own thread, which is busy with loading it.
            Some(target) => {
                target.bodies.push(ended);
                if target.bodies.len() == 1 {
                    let at = out.now.monotonic.saturating_add(BODIES_AFTER);
                    out.timers.set(key, Wait::Bodies, at);
                } else if target.bodies.len() == MAX_WAITING_BODIES {
                    fetch_bodies(target, out);
                }
            }
        }
    }
}

impl Request {
    /// Whether its end was reported, and waits for the start to be emitted.
    fn has_ended(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.end.is_some())
    }

    /// A request whose start was not seen.
    fn unseen(key: Key, id: &str, context: Context, out: &Outbox) -> Self {
        Self {
            key,
            id: id.into(),
            last: out.now.monotonic,
            due: None,
            has_start: false,
            counts: false,
            leaving: None,
            given_up: None,
            origin: Origin {
                context,
                ..Origin::default()
            },
            clocks: Clocks::default(),
            is_in_memory: false,
            wire_status: None,
            response: None,
            data_bytes: 0,
            encoded_bytes: 0,
            held: None,
        }
    }
}

/// When a request has to be looked at, if nothing happens to it.
fn next_look(request: &Request) -> Option<Duration> {
    if let Some(held) = &request.held {
        return Some(held.until);
    }
    if let Some((_, at)) = request.leaving {
        return Some(at);
    }
    match &request.response {
        Some(response) if response.is_emitted => None,
        Some(response) => Some(response.since.saturating_add(OPEN_AFTER)),
        None => Some(request.last.saturating_add(REQUEST_AGE)),
    }
}

/// Whether its response was emitted, and lasts.
fn is_lasting(request: &Request) -> bool {
    (request.response.as_ref()).is_some_and(|response| response.is_emitted)
}

/// Whether it loads a document, which may be moved from one target to another.
fn is_document(request: &Request) -> bool {
    request.origin.resource_type.as_deref() == Some("Document")
        || request.origin.context.loader_id.as_deref() == Some(&*request.id)
}

/// The wait for an idle network is over.
pub(crate) fn idle(target: &Target, out: &mut Outbox) {
    let context = target.document();
    out.emit(KnownType::NetworkIdle, None, &NetworkIdle { context });
}

/// Fetches the body of a response, or emits it without one if too many are pending.
fn fetch_body(target: &Target, ended: EndedResponse, out: &mut Outbox) {
    if !out.may_request_body() {
        emit_with_body(ended, None, out);
        return;
    }
    let params = BTreeMap::from([("requestId", ended.response.request_id.clone())]);
    out.call(
        Some(target.key),
        Some(&*target.session),
        "Network.getResponseBody",
        &params,
        Purpose::Body(ended),
    );
}

/// Fetches the bodies that have waited until now.
pub(crate) fn fetch_bodies(target: &mut Target, out: &mut Outbox) {
    out.timers.cancel(target.key, Wait::Bodies);
    for ended in std::mem::take(&mut target.bodies) {
        fetch_body(target, ended, out);
    }
}

/// Emits the responses whose bodies have waited, without them: the page is gone.
pub(crate) fn emit_without_bodies(target: &mut Target, out: &mut Outbox) {
    for ended in std::mem::take(&mut target.bodies) {
        emit_with_body(ended, None, out);
    }
}

/// Emits a response with its body, if there is one.
pub(crate) fn emit_with_body(
    ended: EndedResponse,
    body: Option<&ResponseBody<'_>>,
    out: &mut Outbox,
) {
    let EndedResponse {
        mut response,
        ts,
        cause,
        bytes,
    } = ended;
    let limit = out.options.text_limit;
    let is_content_type = |name: &&String| name.eq_ignore_ascii_case("content-type");
    let name = response.headers.keys().find(is_content_type);
    let content_type = name.and_then(|name| response.headers.get(name));
    let is_event_source = response.resource_type.as_deref() == Some("EventSource");
    let text = body.and_then(|body| {
        body::text_of(
            body,
            content_type.map(String::as_str),
            is_event_source,
            bytes,
            limit,
        )
    });
    if let Some(BodyText { text, bytes }) = text {
        let is_cut = text.is_cut || limit < text.text.len();
        response.body = Some(out.redacted(&text, limit));
        response.body_bytes = is_cut.then_some(bytes);
    }
    out.emit_at(ts, KnownType::NetworkResponse, cause, &*response);
}

/// Emits the start, unless that was done.
fn emit_start(request: &mut Request, out: &mut Outbox) {
    if let Some(held) = request.held.take() {
        let cause = Some("Network.requestWillBeSent");
        out.emit_at(held.ts, KnownType::NetworkRequest, cause, &held.data);
    }
}

/// Emits the start of a request that began before we attached to its new tab: what is known of it.
fn start_unseen(request: &mut Request, target: &mut Target, cause: &'static str, out: &mut Outbox) {
    let kind = request.origin.resource_type.as_deref();
    if kind.is_some_and(|kind| is_always_get(kind, target.opener.is_some())) {
        "GET".clone_into(&mut request.origin.method);
    }
    let document_url = if is_document(request) {
        request.origin.context.url.clone()
    } else {
        // Of another frame's document no more is known than that it is not this one.
        let is_of_target = request.origin.context.frame_id.as_deref() == Some(&*target.id);
        is_of_target.then(|| target.url.clone())
    };
    let data = NetworkRequest {
        context: request.origin.context.clone(),
        request_id: request.id.to_string(),
        method: request.origin.method.clone(),
        document_url: document_url.unwrap_or_default(),
        initiator_type: "other".to_owned(),
        resource_type: request.origin.resource_type.clone(),
        ..NetworkRequest::default()
    };
    out.emit(KnownType::NetworkRequest, Some(cause), &data);
    request.has_start = true;
    request.counts = true;
    target.in_flight += 1;
    watch_idle(target, out);
}

/// Whether a request of this kind has the method GET, if it is one of the first of a tab that a page has
/// opened, or a command. A page may open one with a form, a command cannot.
pub(crate) fn is_always_get(kind: &str, is_opened_by_page: bool) -> bool {
    match kind {
        "Document" => !is_opened_by_page,
        kind => matches!(
            kind,
            "Stylesheet" | "Script" | "Image" | "Font" | "Media" | "Manifest"
        ),
    }
}

/// Fetches the posted body of a request whose start waits for it, if it is not too long.
fn fetch_post_data(request: &mut Request, length: u64, targets: &mut Targets, out: &mut Outbox) {
    let Some(held) = request.held.as_mut().filter(|held| !held.is_requested) else {
        return;
    };
    held.data.post_data_bytes = Some(length);
    let session = targets.at(request.key).map(|target| &*target.session);
    match session {
        Some(session) if length <= MAX_FETCHED_POST && out.may_request_body() => {
            held.is_requested = true;
            out.call(
                Some(request.key),
                Some(session),
                "Network.getRequestPostData",
                &json!({"requestId": &*request.id}),
                Purpose::PostData {
                    id: request.id.clone(),
                },
            );
        }
        _ => emit_start(request, out),
    }
}

/// Emits a response that lasts. From here on it does not keep the network busy.
fn emit_open(request: &mut Request, targets: &mut Targets, out: &mut Outbox) {
    stop_counting(request, targets, out);
    let Some(received) = &mut request.response else {
        return;
    };
    received.is_emitted = true;
    let whole = (**received).clone();
    // From here on only its sizes are needed.
    received.headers = BTreeMap::new();
    received.timing = None;
    let now = request.clocks.at(out.now.monotonic);
    let data = NetworkResponse {
        open: Some(true),
        ..response_of(request, request.origin.clone(), whole, now)
    };
    let cause = Some("Network.responseReceived");
    out.emit(KnownType::NetworkResponse, cause, &data);
}

/// Emits the end of a response that was emitted while it lasted. It has no address of its own: it
/// belongs to that response.
fn emit_end(
    request: &Request,
    received: &Received,
    encoded_bytes: Option<u64>,
    error_text: Option<String>,
    at: Ending,
    out: &mut Outbox,
) {
    let encoded = encoded_bytes.unwrap_or(received.header_bytes + request.encoded_bytes);
    let data = NetworkResponseEnd {
        context: Context {
            url: None,
            ..request.origin.context.clone()
        },
        request_id: request.id.to_string(),
        duration_ms: request.clocks.duration(at.timestamp).unwrap_or_default(),
        encoded_bytes: Some(encoded).filter(|bytes| 0 < *bytes),
        error_text,
    };
    out.emit_at(at.ts, KnownType::NetworkResponseEnd, at.cause, &data);
}

/// The data of a response: what was received, and what is known of its request.
fn response_of(
    request: &Request,
    origin: Origin,
    received: Received,
    timestamp: f64,
) -> NetworkResponse {
    let encoded = received.header_bytes + request.encoded_bytes;
    let timing = received.timing.as_ref();
    NetworkResponse {
        request_id: request.id.to_string(),
        context: origin.context,
        method: origin.method,
        resource_type: origin.resource_type,
        status: received.status,
        headers: received.headers,
        status_text: non_empty(received.status_text),
        mime_type: non_empty(received.mime_type),
        protocol: received.protocol,
        remote_ip: received.remote_ip,
        from_cache: received.from_cache.map(str::to_owned),
        encoded_bytes: Some(encoded).filter(|bytes| 0 < *bytes),
        duration_ms: request.clocks.duration(timestamp),
        timing: timing.map(|timing| phases::of(timing, &request.clocks, timestamp)),
        ..NetworkResponse::default()
    }
}

/// Ends a request for a reason of ours. Returns whether it was answered, so that this end is true whatever
/// comes.
fn close(request: &mut Request, why: Closed, out: &mut Outbox) -> bool {
    emit_start(request, out);
    // Without a start there is nothing that a reader waits for.
    if !request.has_start && request.response.is_none() {
        return true;
    }
    let at = Ending::ours(request, out);
    let error_text = why.as_str().to_owned();
    match request.response.take() {
        Some(received) if received.is_emitted => {
            emit_end(request, &received, None, Some(error_text), at, out);
            true
        }
        // It was answered, and of its body nothing had come that could have broken off.
        Some(received) if request.data_bytes == 0 => {
            let origin = std::mem::take(&mut request.origin);
            let data = response_of(request, origin, *received, at.timestamp);
            out.emit(KnownType::NetworkResponse, None, &data);
            true
        }
        received => {
            let failure = Failure {
                error_text,
                canceled: false,
                blocked_reason: None,
                cors_error: None,
            };
            emit_failure(request, received.as_deref(), failure, at, out);
            request.response = received;
            false
        }
    }
}

fn emit_failure(
    request: &Request,
    received: Option<&Received>,
    failure: Failure,
    at: Ending,
    out: &mut Outbox,
) {
    let error_text = match (&failure.blocked_reason, &failure.cors_error) {
        _ if !failure.error_text.is_empty() => failure.error_text,
        // As the browser's own tools show it.
        (Some(reason), _) => format!("blocked:{reason}"),
        (None, Some(error)) => format!("cors:{error}"),
        (None, None) => Closed::NO_REASON.to_owned(),
    };
    let data = NetworkLoadingFailed {
        context: request.origin.context.clone(),
        request_id: request.id.to_string(),
        error_text,
        canceled: failure.canceled,
        resource_type: request.origin.resource_type.clone(),
        status: received.map(|it| it.status).or(request.wire_status),
        headers: received.map(|it| it.headers.clone()),
        mime_type: received.and_then(|it| non_empty(it.mime_type.clone())),
        blocked_reason: failure.blocked_reason,
        cors_error: failure.cors_error,
        duration_ms: request.clocks.duration(at.timestamp),
    };
    out.emit_at(at.ts, KnownType::NetworkLoadingFailed, at.cause, &data);
}

/// The request does not keep the network of its target busy any longer.
fn stop_counting(request: &mut Request, targets: &mut Targets, out: &mut Outbox) {
    if std::mem::take(&mut request.counts)
        && let Some(target) = targets.at(request.key)
    {
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

pub(crate) fn headers(headers: &Headers<'_>, out: &Outbox) -> BTreeMap<String, String> {
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

pub(crate) fn owned(text: Option<&Text<'_>>) -> Option<String> {
    text.map(|text| cut(text, MAX_WORDS).to_owned())
        .and_then(non_empty)
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A whole number, such as one of bytes, that the browser reports as a float.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and a negative number counts nothing"
)]
pub(crate) fn whole(bytes: f64) -> u64 {
    bytes as u64
}
