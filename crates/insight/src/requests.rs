//! The requests that are kept, and how events are joined with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tapline_oapi::Envelope;
use tapline_oapi::data::{
    Context, NetworkLoadingFailed, NetworkRequest, NetworkResponse, NetworkResponseEnd,
    NetworkTiming, NetworkWebsocketClosed, NetworkWebsocketMessage, ProxyError,
};

use tapline_oapi::joins::{
    At, End, Failure, Message, Outcome, Place, Redirect, Request, Response, Unknown,
};

use crate::request::{body_omitted, caused_by, may_be_corrected, micros, why_without_body};
use crate::words::cut;

/// What a request costs besides the text of its events.
const REQUEST_BYTES: usize = 1024;

/// How many bytes of an answer that is an error are kept in any case: they say why.
const ERROR_BODY: usize = 512;

/// How many hops before the last one are kept. Browsers give up after 20.
const MAX_REDIRECTS: usize = 32;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
    pub(crate) contents: bool,
}

/// A request that is kept.
#[derive(Debug)]
struct Entry {
    request: Request,
    /// What it costs, in bytes, at most.
    cost: usize,
    /// How often something was lost before its end.
    losses_before_end: u64,
}

/// All requests that are kept, by the order in which they were read.
#[derive(Debug)]
pub(crate) struct Requests {
    bounds: Bounds,
    run: u64,
    entries: BTreeMap<u64, Entry>,
    /// The numbers of the requests with an id of the browser, oldest first. Two targets may use the same id.
    by_id: HashMap<Box<str>, Vec<u64>>,
    /// Those whose end was not read.
    open: BTreeSet<u64>,
    /// Those whose end was read.
    ended: BTreeSet<u64>,
    next: u64,
    bytes: usize,
    /// How often something was lost.
    losses: u64,
    /// Ends of requests that had ended before.
    pub(crate) repeated: u64,
}

impl Requests {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            run: 0,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            open: BTreeSet::new(),
            ended: BTreeSet::new(),
            next: 0,
            bytes: 0,
            losses: 0,
            repeated: 0,
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Request> + ExactSizeIterator {
        self.entries.values().map(|entry| &entry.request)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Request> {
        self.entries.get(&number).map(|entry| &entry.request)
    }

    /// The request belongs to this page, as the event `seq` says.
    pub(crate) fn set_navigation(&mut self, number: u64, navigation: Option<u64>, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&number)
            && navigation.is_some()
            && navigation != entry.request.navigation
        {
            entry.request.navigation = navigation;
            entry.request.updated = seq;
        }
    }

    /// The request of the document that a frame went to: its id is that of the document's loader.
    pub(crate) fn of_document(&self, loader_id: &str) -> Option<u64> {
        self.by_id.get(loader_id)?.last().copied()
    }

    /// A request was sent, for the first time or after a redirect. Returns its number.
    pub(crate) fn sent(&mut self, envelope: &Envelope, data: NetworkRequest) -> u64 {
        let url = data.redirect_url.as_deref();
        let found = self.find(&data.request_id, &data.context, url);
        let is_redirect = data.is_redirect == Some(true);
        let number = match found.map(|number| (number, self.entries.get(&number))) {
            Some((number, Some(entry))) => {
                let before = &entry.request;
                let continues =
                    !before.has_ended() || before.failure.as_ref().is_some_and(may_be_corrected);
                if is_redirect && continues {
                    self.redirected(number, envelope, data);
                    return number;
                }
                let is_late = !is_redirect
                    && !before.start_seen
                    && before.redirects.is_empty()
                    && envelope.event.ts <= before.end.map_or(u64::MAX, |end| end.ts);
                if is_late {
                    self.began_late(number, envelope, data);
                    return number;
                }
                if !before.has_ended() {
                    self.change(number, envelope, |request, _| {
                        request.outcome = Outcome::Unknown;
                        request.unknown = Some(Unknown::SentAgain);
                    });
                    self.open.remove(&number);
                    self.ended.insert(number);
                }
                self.add(envelope, &data.request_id, &data.context)
            }
            _ => self.add(envelope, &data.request_id, &data.context),
        };
        self.change(number, envelope, |request, contents| {
            // The hop that redirected here is known by its address alone.
            if is_redirect {
                request
                    .redirects
                    .extend(data.redirect_url.clone().map(|from| Redirect {
                        url: from,
                        status: data.redirect_status,
                        to: data.context.url.clone().unwrap_or_default(),
                        end_ts: envelope.event.ts,
                        ..Redirect::default()
                    }));
            }
            request.start_seen = !is_redirect;
            begin(request, envelope, data, contents);
        });
        number
    }

    /// The first event of a request was read after its end.
    fn began_late(&mut self, number: u64, envelope: &Envelope, data: NetworkRequest) {
        self.change(number, envelope, |request, contents| {
            request.start_seen = true;
            begin(request, envelope, data, contents);
        });
    }

    fn redirected(&mut self, number: u64, envelope: &Envelope, data: NetworkRequest) {
        self.reopen(number);
        self.change(number, envelope, |request, contents| {
            let from = data
                .redirect_url
                .clone()
                .unwrap_or_else(|| request.url.clone());
            let to = data.context.url.clone().unwrap_or_default();
            let is_from_last = from == request.url;
            let mut hops = Vec::new();
            hops.push(Redirect {
                seq: Some(request.hop_seq),
                ts: Some(request.hop_ts),
                method: std::mem::take(&mut request.method),
                url: std::mem::take(&mut request.url),
                headers: std::mem::take(&mut request.headers),
                post_data: request.post_data.take(),
                post_data_bytes: request.post_data_bytes.take(),
                post_data_omitted: request.post_data_omitted,
                status: if is_from_last {
                    data.redirect_status
                } else {
                    None
                },
                to: if is_from_last {
                    to.clone()
                } else {
                    from.clone()
                },
                end_ts: envelope.event.ts,
            });
            if !is_from_last {
                // The event of a hop between them was not read.
                hops.push(Redirect {
                    url: from,
                    status: data.redirect_status,
                    to,
                    end_ts: envelope.event.ts,
                    ..Redirect::default()
                });
            }
            request.redirects.extend(hops);
            request.redirects.truncate(MAX_REDIRECTS);
            request.response = None;
            request.failure = None;
            let began = request.ts;
            begin(request, envelope, data, contents);
            request.ts = began;
        });
    }

    /// A request was answered. Returns its number, or `None` for a repeat.
    pub(crate) fn answered(&mut self, envelope: &Envelope, data: NetworkResponse) -> Option<u64> {
        let number = self.for_end(envelope, &data.request_id, &data.context)?;
        let lasts = data.open == Some(true)
            || (data.status == 101 && data.resource_type.as_deref() == Some("WebSocket"));
        let body_omitted = why_without_body(envelope, &data);
        self.reopen(number);
        self.change(number, envelope, |request, contents| {
            fill(&mut request.method, Some(data.method));
            fill(&mut request.url, data.context.url.clone());
            request.resource_type = data.resource_type.or(request.resource_type.take());
            request.failure = None;
            request.unknown = None;
            let most = match (contents, data.status) {
                (true, _) => usize::MAX,
                (false, 400..) => ERROR_BODY,
                (false, _) => 0,
            };
            let (body, body_bytes) = beginning(data.body, data.body_bytes, most);
            request.response = Some(Response {
                status: data.status,
                status_text: data.status_text,
                headers: data.headers,
                mime_type: data.mime_type,
                protocol: data.protocol,
                remote_ip: data.remote_ip,
                from_cache: data.from_cache,
                body,
                body_bytes,
                body_omitted,
                canceled: data.canceled == Some(true),
            });
            request.timing = data.timing;
            request.encoded_bytes = data.encoded_bytes;
            request.duration_ms = data.duration_ms.and_then(elapsed);
            if lasts {
                request.outcome = Outcome::Open;
                request.end = None;
                estimate_start(request, envelope);
            } else {
                end(request, envelope, Outcome::Answered);
            }
        });
        self.settle(number);
        Some(number)
    }

    /// An answer that lasted has ended. Returns its number, or `None` for a repeat.
    pub(crate) fn response_ended(
        &mut self,
        envelope: &Envelope,
        data: NetworkResponseEnd,
    ) -> Option<u64> {
        let number = self.for_end(envelope, &data.request_id, &data.context)?;
        self.change(number, envelope, |request, _| {
            if let (
                Some(NetworkTiming {
                    receive: Some(receive),
                    ..
                }),
                Some(so_far),
            ) = (&mut request.timing, request.duration_ms)
            {
                *receive += (data.duration_ms - so_far).max(0.0);
            }
            request.duration_ms = elapsed(data.duration_ms);
            request.encoded_bytes = data.encoded_bytes.or(request.encoded_bytes);
            request.unknown = None;
            request.failure = data.error_text.map(|error_text| Failure {
                error_text,
                ..Failure::default()
            });
            let outcome = match request.failure {
                Some(_) => Outcome::Failed,
                None => Outcome::Answered,
            };
            end(request, envelope, outcome);
        });
        self.settle(number);
        Some(number)
    }

    /// A request failed. Returns its number, or `None` for a repeat.
    pub(crate) fn failed(
        &mut self,
        envelope: &Envelope,
        data: NetworkLoadingFailed,
    ) -> Option<u64> {
        // Some collectors report an answer, and then that its body broke off.
        let before = self.find(&data.request_id, &data.context, data.context.url.as_deref());
        let breaks_off = before
            .and_then(|number| self.get(number))
            .is_some_and(|request| {
                request.outcome == Outcome::Answered && request.failure.is_none() && !data.canceled
            });
        let number = match before {
            Some(number) if breaks_off => number,
            _ => self.for_end(envelope, &data.request_id, &data.context)?,
        };
        self.change(number, envelope, |request, _| {
            fill(&mut request.url, data.context.url.clone());
            request.resource_type = data.resource_type.or(request.resource_type.take());
            request.unknown = None;
            if let (Some(status), None) = (data.status, &request.response) {
                request.response = Some(Response {
                    status,
                    headers: data.headers.unwrap_or_default(),
                    mime_type: data.mime_type,
                    ..Response::default()
                });
            }
            request.failure = Some(Failure {
                error_text: data.error_text,
                canceled: data.canceled,
                blocked_reason: data.blocked_reason,
                cors_error: data.cors_error,
            });
            request.duration_ms = data.duration_ms.and_then(elapsed).or(request.duration_ms);
            end(request, envelope, Outcome::Failed);
        });
        self.settle(number);
        Some(number)
    }

    /// A WebSocket was closed. Returns its number, or `None` for a repeat.
    pub(crate) fn socket_closed(
        &mut self,
        envelope: &Envelope,
        data: NetworkWebsocketClosed,
    ) -> Option<u64> {
        let number = self.for_end(envelope, &data.request_id, &data.context)?;
        self.change(number, envelope, |request, _| {
            fill(&mut request.url, data.context.url.clone());
            request
                .resource_type
                .get_or_insert_with(|| "WebSocket".to_owned());
            request.unknown = None;
            let socket = request.websocket.get_or_insert_default();
            socket.sent = Some(data.messages_sent);
            socket.received = Some(data.messages_received);
            socket.code = data.code;
            socket.reason = data.reason;
            request.failure = data.error_text.map(|error_text| Failure {
                error_text,
                ..Failure::default()
            });
            request.duration_ms = elapsed(data.duration_ms);
            let outcome = match request.failure {
                Some(_) => Outcome::Failed,
                None => Outcome::Answered,
            };
            end(request, envelope, outcome);
        });
        self.settle(number);
        Some(number)
    }

    /// A message of a WebSocket. One whose opening was not read begins a request.
    pub(crate) fn message(&mut self, envelope: &Envelope, data: NetworkWebsocketMessage) -> u64 {
        let url = data.context.url.as_deref();
        let found = self.find(&data.request_id, &data.context, url);
        let number = match found {
            Some(number) => number,
            None => self.add(envelope, &data.request_id, &data.context),
        };
        let most = self.bounds.messages;
        self.change(number, envelope, |request, contents| {
            fill(&mut request.url, data.context.url.clone());
            request
                .resource_type
                .get_or_insert_with(|| "WebSocket".to_owned());
            // It was open when it carried this message, whatever was lost before.
            if matches!(request.outcome, Outcome::Unknown | Outcome::Pending) {
                request.outcome = Outcome::Open;
                request.unknown = None;
            }
            let socket = request.websocket.get_or_insert_default();
            if socket.messages.len() < most {
                socket.messages.push(Message {
                    seq: envelope.seq,
                    ts: envelope.event.ts,
                    sent: data.direction == "sent",
                    bytes: data.bytes,
                    text: data.text.filter(|_| contents),
                });
            } else {
                socket.messages_dropped += 1;
            }
        });
        number
    }

    /// A proxy answered a request with an error of its own. Returns the request, if it is kept.
    pub(crate) fn proxy_failed(&mut self, envelope: &Envelope, data: &ProxyError) -> Option<u64> {
        let number = self.find(&data.request_id, &data.context, data.context.url.as_deref())?;
        let code = data.code.clone();
        self.change(number, envelope, |request, _| {
            request.proxy_error = Some(code);
        });
        Some(number)
    }

    /// Events are missing up to the seq `to`: the end of each open request may be among them.
    pub(crate) fn lost(&mut self, count: u64, to: u64) {
        self.losses += 1;
        self.all_unknown(Unknown::EventsLost, count, to);
    }

    /// The network is not captured any more, from the seq `from` on.
    pub(crate) fn not_captured(&mut self, from: u64) {
        self.losses += 1;
        self.all_unknown(Unknown::NotCaptured, 0, from);
    }

    /// The server was restarted after the seq `last`: what follows belongs to none of the requests so far.
    pub(crate) fn restarted(&mut self, last: u64) {
        self.all_unknown(Unknown::Restart, 0, last);
        self.run += 1;
        self.by_id.clear();
        self.ended.append(&mut self.open);
    }

    fn all_unknown(&mut self, why: Unknown, lost: u64, seq: u64) {
        for number in &self.open {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.request.lost = entry.request.lost.saturating_add(lost);
                entry.request.outcome = Outcome::Unknown;
                entry.request.unknown = Some(why);
                entry.request.updated = seq;
            }
        }
    }

    /// Removes the request that is least needed, while more is kept than allowed.
    pub(crate) fn over_limit(&mut self) -> Option<Request> {
        let is_over = self.bounds.requests < self.entries.len() || self.bounds.bytes < self.bytes;
        // The last one stays, however large it is.
        if !is_over || self.entries.len() <= 1 {
            return None;
        }
        let oldest = self.ended.first().or(self.open.first()).copied()?;
        self.remove(oldest)
    }

    /// Removes the oldest request, whatever became of it.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let oldest = *self.entries.first_key_value()?.0;
        self.remove(oldest)
    }

    fn remove(&mut self, number: u64) -> Option<Request> {
        let entry = self.entries.remove(&number)?;
        self.open.remove(&number);
        self.ended.remove(&number);
        self.bytes -= entry.cost;
        let id = entry.request.request_id.as_str();
        if let Some(numbers) = self.by_id.get_mut(id) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_id.remove(id);
            }
        }
        Some(entry.request)
    }

    /// The request that an end belongs to; a new one if its beginning was not read; `None` if it is the
    /// repeated end of one that has ended.
    fn for_end(&mut self, envelope: &Envelope, id: &str, context: &Context) -> Option<u64> {
        let Some(number) = self.find(id, context, context.url.as_deref()) else {
            return Some(self.add(envelope, id, context));
        };
        let entry = self.entries.get(&number)?;
        let request = &entry.request;
        let takes = !request.has_ended() || request.failure.as_ref().is_some_and(may_be_corrected);
        if takes {
            return Some(number);
        }
        if entry.losses_before_end < self.losses {
            // Another request with this id may have begun in what was lost.
            return Some(self.add(envelope, id, context));
        }
        self.repeated += 1;
        None
    }

    /// The newest request with this id that fits: of the same target, or else with the same address.
    fn find(&self, id: &str, context: &Context, url: Option<&str>) -> Option<u64> {
        let numbers = self.by_id.get(id)?;
        let newest = |fits: &dyn Fn(&Request) -> bool| {
            let mut ended = None;
            for number in numbers.iter().rev() {
                let Some(request) = self.get(*number).filter(|request| fits(request)) else {
                    continue;
                };
                if !request.has_ended() && request.unknown != Some(Unknown::SentAgain) {
                    return Some(*number);
                }
                ended = ended.or(Some(*number));
            }
            ended
        };
        newest(&|request| is_same_target(&request.place, context)).or_else(|| {
            // A frame's request may begin in one process and end in another.
            newest(&|request| !request.has_ended() && Some(&*request.url) == url)
        })
    }

    fn add(&mut self, envelope: &Envelope, id: &str, context: &Context) -> u64 {
        let number = self.next;
        self.next += 1;
        let request = Request {
            at: At {
                run: self.run,
                seq: envelope.seq,
            },
            request_id: id.to_owned(),
            ts: envelope.event.ts,
            hop_seq: envelope.seq,
            hop_ts: envelope.event.ts,
            place: Place::from(context),
            updated: envelope.seq,
            ..Request::default()
        };
        let entry = Entry {
            request,
            cost: REQUEST_BYTES,
            losses_before_end: 0,
        };
        self.bytes += entry.cost;
        self.entries.insert(number, entry);
        self.open.insert(number);
        self.by_id.entry(id.into()).or_default().push(number);
        number
    }

    /// Changes a request for an event. The function is also given whether contents are kept.
    fn change(
        &mut self,
        number: u64,
        envelope: &Envelope,
        change: impl FnOnce(&mut Request, bool),
    ) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        change(&mut entry.request, self.bounds.contents);
        let omitted = body_omitted(&entry.request);
        if let Some(response) = &mut entry.request.response {
            // Of one that was captured and is not kept, the length is known.
            response.body_omitted = omitted.filter(|_| response.body_bytes.is_none());
        }
        entry.request.updated = envelope.seq;
        entry.request.caused_by = entry.request.caused_by.or_else(|| caused_by(envelope));
        let text = envelope
            .event
            .data
            .as_ref()
            .map_or(0, |data| data.get().len());
        // Without contents, what is left of a long event are headers.
        let cost = if self.bounds.contents {
            text
        } else {
            text.min(REQUEST_BYTES)
        };
        entry.cost += cost;
        self.bytes += cost;
    }

    fn reopen(&mut self, number: u64) {
        if self.ended.remove(&number) {
            self.open.insert(number);
        }
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.request.end = None;
        }
    }

    /// Records that the request has ended, if it has.
    fn settle(&mut self, number: u64) {
        let losses = self.losses;
        if let Some(entry) = self.entries.get_mut(&number)
            && entry.request.has_ended()
        {
            entry.losses_before_end = losses;
            self.open.remove(&number);
            self.ended.insert(number);
        }
    }
}

/// The first `most` bytes of a body, and the length of the whole one where that is not all of it.
fn beginning(
    body: Option<String>,
    bytes: Option<u64>,
    most: usize,
) -> (Option<String>, Option<u64>) {
    match body {
        Some(body) if most == 0 => (None, bytes.or(Some(body.len() as u64))),
        Some(mut body) if most < body.len() => {
            let bytes = bytes.or(Some(body.len() as u64));
            body.truncate(cut(&body, most).len());
            body.shrink_to_fit();
            (Some(body), bytes)
        }
        body => (body, bytes),
    }
}

/// Takes what the event of a hop says.
fn begin(request: &mut Request, envelope: &Envelope, data: NetworkRequest, contents: bool) {
    request.ts = envelope.event.ts;
    request.hop_ts = envelope.event.ts;
    request.hop_seq = envelope.seq;
    request.method = data.method;
    request.url = data.context.url.clone().unwrap_or_default();
    request.document_url = data.document_url;
    request.headers = data.headers;
    // A redirect was caused by what caused the first hop.
    if data.is_redirect != Some(true) {
        request.initiator_url = data.initiator_url;
        request.initiator_line = data.initiator_line;
    }
    request.initiator_type = data.initiator_type;
    request.resource_type = data.resource_type.or(request.resource_type.take());
    request.post_data_omitted =
        data.post_data_omitted == Some(true) || (data.post_data.is_some() && !contents);
    request.post_data_bytes = (data.post_data_bytes).or_else(|| {
        data.post_data
            .as_ref()
            .map(|body| body.len() as u64)
            .filter(|_| !contents)
    });
    request.post_data = data.post_data.filter(|_| contents);
    if request.redirects.is_empty() {
        request.place = Place::from(&data.context);
    }
}

fn end(request: &mut Request, envelope: &Envelope, outcome: Outcome) {
    request.outcome = outcome;
    request.end = Some(End {
        seq: envelope.seq,
        ts: envelope.event.ts,
    });
    estimate_start(request, envelope);
}

/// When a request began whose beginning was not read.
fn estimate_start(request: &mut Request, envelope: &Envelope) {
    if !request.start_seen
        && request.redirects.is_empty()
        && let Some(ms) = request.duration_ms
    {
        request.ts = envelope.event.ts.saturating_sub(micros(ms));
        request.hop_ts = request.ts;
    }
}

fn fill(field: &mut String, value: Option<String>) {
    if let (true, Some(value)) = (field.is_empty(), value) {
        *field = value;
    }
}

/// Whether both are of one target, as far as that is known.
fn is_same_target(place: &Place, context: &Context) -> bool {
    match (&place.target_id, &context.target_id) {
        (Some(one), Some(other)) => one == other,
        _ => match (&place.session_id, &context.session_id) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        },
    }
}

/// A duration; `None` if it is none, such as one below zero: the producer chose it.
fn elapsed(ms: f64) -> Option<f64> {
    (0.0 <= ms && ms.is_finite()).then_some(ms)
}
