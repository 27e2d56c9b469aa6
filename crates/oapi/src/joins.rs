//! What events are joined to: requests, navigations and problems. `tapline-insight` makes them.
//!
//! Times are microseconds since the Unix epoch. An item is identified by its `seq`, and by its `run` where several runs of
//! the server were read.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::category::CategorySet;
use crate::data::{Context, NetworkTiming, TargetType};

/// A request, joined with its redirects, its answer and its end.
///
/// A request that was redirected is one request: `url`, `headers` and the like are those of the last hop, and
/// `redirects` has the hops before it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = BrowserRequest))]
pub struct Request {
    /// Where its first event is. This also identifies the request.
    #[serde(flatten)]
    pub at: At,
    /// Whether its beginning was read. If not, the method, the headers and the posted data may be missing, and
    /// `ts` is computed from the end.
    pub start_seen: bool,
    /// The browser's id of the request.
    pub request_id: String,
    /// When it began, redirects included: microseconds since the Unix epoch.
    pub ts: u64,
    /// The seq of the event of the last hop: that of the request itself, if it was not redirected.
    pub hop_seq: u64,
    /// When the last hop began, as `ts`.
    pub hop_ts: u64,
    /// The HTTP method; empty if it is not known.
    pub method: String,
    /// The address; empty if it is not known.
    pub url: String,
    /// The document that sent the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub document_url: String,
    /// The headers of the request. Several of one name are joined by line breaks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The kind of resource: `Document`, `Script`, `Fetch` …
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub resource_type: Option<String>,
    /// What caused the request: `parser`, `script`, `other` …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub initiator_type: String,
    /// The file that caused it: the document whose markup names it, or the script that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub initiator_url: Option<String>,
    /// The line in that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub initiator_line: Option<u64>,
    /// The posted body, as far as it was captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub post_data: Option<String>,
    /// The length of the posted body in bytes, if `post_data` is not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub post_data_bytes: Option<u64>,
    /// Whether there is a posted body that was not captured.
    #[serde(skip_serializing_if = "is_false")]
    pub post_data_omitted: bool,
    /// The hops before the last one, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<Redirect>,
    /// Where in the browser it began.
    #[serde(flatten)]
    pub place: Place,
    /// The seq of the navigation that it belongs to: that of the page, also for a request of a frame in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub navigation: Option<u64>,
    /// The seq of the command that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub caused_by: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why the outcome is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub unknown: Option<Unknown>,
    /// What the server answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub response: Option<Response>,
    /// Why it failed, or why its body broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub failure: Option<Failure>,
    /// The code of the proxy that answered instead of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub proxy_error: Option<String>,
    /// Where its end is, if it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub end: Option<End>,
    /// From the beginning to the end in milliseconds, by the browser's clock; for one that is open, so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub duration_ms: Option<f64>,
    /// The phases of the last hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, f64>, nullable = false))]
    pub timing: Option<NetworkTiming>,
    /// Bytes that came over the network, headers included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub encoded_bytes: Option<u64>,
    /// The messages, if it opened a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub websocket: Option<WebSocket>,
    /// How many events at most are missing that were published while it was open: hops, messages or its end may
    /// have been among them.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The seq of the last event that changed it.
    pub updated: u64,
}

impl Request {
    /// Whether the request has ended, and its end was read.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.outcome, Outcome::Answered | Outcome::Failed)
    }

    /// The HTTP status, if there was an answer with one.
    #[must_use]
    pub fn status(&self) -> Option<u32> {
        let response = self.response.as_ref()?;
        (response.status != 0).then_some(response.status)
    }

    /// When it ended, in microseconds since the Unix epoch: by the browser's clock where the duration is
    /// known, and otherwise the time of the event. `None` if the end was not read.
    #[must_use]
    pub fn end_ts(&self) -> Option<u64> {
        let end = self.end.as_ref()?;
        Some(match self.duration_ms {
            Some(ms) if self.start_seen => self.ts.saturating_add(micros(ms)),
            _ => end.ts.max(self.hop_ts),
        })
    }

    /// Whether the browser or the page gave it up without a fault: it was cancelled, or what it belonged to
    /// was left or closed.
    #[must_use]
    pub fn was_given_up(&self) -> bool {
        self.failure.as_ref().is_some_and(Failure::is_given_up)
    }

    /// Whether it is a problem: it failed and was not given up, or was answered with a status of 400 or more.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        let has_failed = self.failure.is_some() && !self.was_given_up();
        has_failed || self.status().is_some_and(|status| 400 <= status)
    }

    /// The request in one sentence: `GET http://h/a.js answered 404 Not Found after 12 ms`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = match (self.method.is_empty(), self.url.is_empty()) {
            (_, true) => format!("request {}", self.request_id),
            (true, false) => self.url.clone(),
            (false, false) => format!("{} {}", self.method, self.url),
        };
        match (self.outcome, &self.failure) {
            (Outcome::Pending, _) => text.push_str(" has no answer yet"),
            (_, Some(failure)) => {
                match self.status() {
                    Some(status) => text.push_str(&format!(
                        " answered {status}, and failed: {}",
                        failure.error_text
                    )),
                    None => text.push_str(&format!(" failed: {}", failure.error_text)),
                }
                if let Some(reason) = failure
                    .cors_error
                    .as_ref()
                    .or(failure.blocked_reason.as_ref())
                {
                    text.push_str(&format!(" ({reason})"));
                }
            }
            (Outcome::Unknown, None) => text.push_str(match self.unknown {
                Some(Unknown::Restart) => ": its end is unknown, because the server was restarted",
                Some(Unknown::NotCaptured) => {
                    ": its end is unknown, because the network was no longer captured"
                }
                Some(Unknown::SentAgain) => ": its end is unknown; it was sent again",
                Some(Unknown::EventsLost) | None => {
                    ": its end is unknown, because events are missing"
                }
            }),
            (_, None) => {
                let response = self.response.as_ref();
                let status_text = response
                    .and_then(|it| it.status_text.as_deref())
                    .unwrap_or("");
                match self.status() {
                    Some(status) => text.push_str(&format!(" answered {status} {status_text}")),
                    None => text.push_str(" was answered"),
                }
                text.truncate(text.trim_end().len());
            }
        }
        if let Some(code) = &self.proxy_error {
            text.push_str(&format!(" (error of a proxy: {code})"));
        }
        if let Some(ms) = self.duration_ms {
            text.push_str(&format!(" after {ms:.0} ms"));
        }
        text
    }
}

/// A request as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestItem {
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// The request in one sentence.
    pub sentence: String,
}

impl From<Request> for RequestItem {
    fn from(request: Request) -> Self {
        Self {
            sentence: request.sentence(),
            request,
        }
    }
}

impl RequestItem {
    /// Without headers, posted data, bodies and messages: as it is in a list.
    pub fn leave_out_contents(&mut self) {
        let request = &mut self.request;
        request.headers.clear();
        request.post_data = None;
        for hop in &mut request.redirects {
            hop.headers.clear();
            hop.post_data = None;
        }
        if let Some(response) = &mut request.response {
            response.headers.clear();
            response.body = None;
            response.body_omitted = None;
        }
        if let Some(socket) = &mut request.websocket {
            socket.messages_dropped += socket.messages.len() as u64;
            socket.messages.clear();
        }
    }
}

/// A request with what is known about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestDetail {
    /// The request, with its headers.
    #[serde(flatten)]
    pub request: RequestItem,
    /// The problems that are about it, oldest first: each with what was before and after it.
    pub problems: Vec<Problem>,
}

/// Where something is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct At {
    /// Counts the epochs that were read, from 0: seqs of different runs cannot be compared.
    #[serde(skip_serializing_if = "is_zero")]
    pub run: u64,
    /// The seq of the event.
    pub seq: u64,
}

/// Where in the browser something happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
    /// The collector's DevTools session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub session_id: Option<String>,
    /// The tab, frame or worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub target_id: Option<String>,
    /// The kind of target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, nullable = false))]
    pub target_type: Option<TargetType>,
    /// The frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub frame_id: Option<String>,
    /// The document within the frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub loader_id: Option<String>,
    /// Counts the top-level navigations of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub nav_seq: Option<u64>,
}

impl From<&Context> for Place {
    fn from(context: &Context) -> Self {
        Self {
            session_id: context.session_id.clone(),
            target_id: context.target_id.clone(),
            target_type: context.target_type,
            frame_id: context.frame_id.clone(),
            loader_id: context.loader_id.clone(),
            nav_seq: context.nav_seq,
        }
    }
}

/// A hop of a request that was answered with a redirect.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RequestRedirect))]
pub struct Redirect {
    /// The seq of its event. `None` if that was not read, and the hop is only known from the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub seq: Option<u64>,
    /// When it began, in microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub ts: Option<u64>,
    /// The HTTP method; empty if it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The address.
    pub url: String,
    /// The headers of the request; those of the answer are not reported.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The posted body, as far as it was captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub post_data: Option<String>,
    /// The length of the posted body in bytes, if `post_data` is not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub post_data_bytes: Option<u64>,
    /// Whether there is a posted body that was not captured.
    #[serde(skip_serializing_if = "is_false")]
    pub post_data_omitted: bool,
    /// The HTTP status of the redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub status: Option<u32>,
    /// Where it redirected to.
    pub to: String,
    /// When the next hop began, in microseconds since the Unix epoch.
    pub end_ts: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RequestOutcome))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No answer yet, and nothing is missing.
    #[default]
    Pending,
    /// Answered, and the answer lasts: a stream, or an open WebSocket.
    Open,
    /// Answered, with whatever status, and ended.
    Answered,
    /// Not answered, or the body of the answer broke off.
    Failed,
    /// Not known. See `unknown`.
    Unknown,
}

/// Why the end of a request is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = UnknownReason))]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Events are missing, and its end may have been among them.
    EventsLost,
    /// The server was restarted while it was open.
    Restart,
    /// The session ended, or stopped capturing the network, while it was open.
    NotCaptured,
    /// A request with its id began while it was open.
    SentAgain,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = BrowserResponse))]
pub struct Response {
    /// The HTTP status; 0 if the answer has none.
    pub status: u32,
    /// The text after the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub status_text: Option<String>,
    /// The headers. Several of one name are joined by line breaks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub mime_type: Option<String>,
    /// The protocol: `http/1.1`, `h2` …
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub protocol: Option<String>,
    /// The address of the server, or of the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub remote_ip: Option<String>,
    /// The cache that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub from_cache: Option<String>,
    /// The body, as far as it was captured and is kept: of an answer that is an error the first 512 bytes at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub body: Option<String>,
    /// The length of the whole body in bytes, if it is known and `body` is not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub body_bytes: Option<u64>,
    /// Why there is no `body`, if there may have been one and it was not captured. Lists have neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub body_omitted: Option<BodyOmitted>,
    /// Whether the page or the browser stopped reading the body before its end.
    #[serde(skip_serializing_if = "is_false")]
    pub canceled: bool,
}

/// Why the body of an answer was not captured, as far as the events say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BodyOmitted {
    /// It is no text, by its media type. Only text is captured.
    NotText,
    /// More than 4 MiB came over the network, the most that is captured from a browser.
    TooLarge,
    /// The answer was reported before its end, because it lasted.
    Open,
    /// The body broke off.
    BrokenOff,
    /// The page or the browser did not read it, or not to its end.
    NotRead,
    /// The page had loaded it before the browser was followed.
    Earlier,
    /// The events do not say why; the browser may not have had it any more.
    Unknown,
}

impl BodyOmitted {
    /// In words, as `not captured (it is no text)`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotText => "not captured (it is no text)",
            Self::TooLarge => "not captured (it is longer than 4 MiB)",
            Self::Open => "not captured (it was reported before its end)",
            Self::BrokenOff => "not captured (it broke off)",
            Self::NotRead => "not captured (the page did not read it to its end)",
            Self::Earlier => "not captured (it was loaded before the browser was followed)",
            Self::Unknown => "not captured",
        }
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RequestFailure))]
pub struct Failure {
    /// The browser's name for it, such as `net::ERR_ABORTED`, or the collector's (`tapline::…`).
    pub error_text: String,
    /// Whether it was cancelled.
    #[serde(skip_serializing_if = "is_false")]
    pub canceled: bool,
    /// Why the browser refused it: `csp`, `mixed-content` …
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub blocked_reason: Option<String>,
    /// The CORS rule that the answer broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub cors_error: Option<String>,
}

impl Failure {
    /// Reasons of the collector that are no fault of the request: what it belonged to was left, closed or lost.
    const GIVEN_UP: [&str; 6] = [
        "tapline::NAVIGATED_AWAY",
        "tapline::TARGET_GONE",
        "tapline::FRAME_GONE",
        "tapline::TARGET_CRASHED",
        "tapline::BROWSER_GONE",
        "tapline::SENT_AGAIN",
    ];

    /// Whether the page refused it itself, or the browser did by a rule.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.blocked_reason.is_some() || self.cors_error.is_some()
    }

    fn is_given_up(&self) -> bool {
        !self.is_blocked() && (self.canceled || Self::GIVEN_UP.contains(&self.error_text.as_str()))
    }
}

/// The event that ended something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RequestEnd))]
pub struct End {
    /// Its seq.
    pub seq: u64,
    /// Its time, in microseconds since the Unix epoch.
    pub ts: u64,
}

/// A WebSocket: its messages, where they were captured, and its totals.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebSocket {
    /// The messages, oldest first, as many as are kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// How many later messages were read, and not kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub messages_dropped: u64,
    /// How many messages the page sent; known at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub sent: Option<u64>,
    /// How many messages the page received; known at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub received: Option<u64>,
    /// The code of the close frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub code: Option<u32>,
    /// The reason in the close frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub reason: Option<String>,
}

/// A message of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = WebSocketMessage))]
pub struct Message {
    /// The seq of its event.
    pub seq: u64,
    /// When, in microseconds since the Unix epoch.
    pub ts: u64,
    /// Whether the page sent it; otherwise it received it.
    pub sent: bool,
    /// Its length in bytes.
    pub bytes: u64,
    /// The message, as far as it was captured; `None` if it is binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub text: Option<String>,
}

/// A frame went to another document.
///
/// Milestones are times in microseconds since the Unix epoch; one that is `None` was not reached, or its event
/// is among the `lost`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Navigation {
    /// Where its event is. This also identifies the navigation.
    #[serde(flatten)]
    pub at: At,
    /// When the browser reported it, in microseconds since the Unix epoch.
    pub ts: u64,
    /// When it began: with the request of its document, if that was read, and otherwise `ts`.
    pub start_ts: u64,
    /// The address.
    pub url: String,
    /// The parent frame; `None` for a page, whose frame is that of a tab.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub parent_frame_id: Option<String>,
    /// Where in the browser it happened; the loader is that of the new document.
    #[serde(flatten)]
    pub place: Place,
    /// The seq of the request of its document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub request: Option<u64>,
    /// The seq of the command that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub caused_by: Option<u64>,
    /// The document was parsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub dom_content_loaded: Option<u64>,
    /// The document and its resources were loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub load: Option<u64>,
    /// The largest contentful paint so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub lcp: Option<Lcp>,
    /// The cumulative layout shift: the largest sum of the shifts without user input in a window of at most 5 s
    /// that ends after 1 s without a shift (web-vitals' CLS, of the page's own frame).
    pub cls: f64,
    /// How many layout shifts there were, those of its frames and those after user input included.
    pub layout_shifts: u64,
    /// No request was in flight for 500 ms, for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub network_idle: Option<u64>,
    /// No layout shift for one second after load.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub layout_settled: Option<u64>,
    /// Parsed and settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub settled: Option<u64>,
    /// The page's process crashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub crashed: Option<u64>,
    /// The next page replaced this one in its tab.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub replaced: Option<u64>,
    /// How many events at most are missing that were published while it was the page of its tab.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The seq of the last event that changed it.
    pub updated: u64,
}

impl Navigation {
    /// Whether a tab went to another page; otherwise it was a frame of a page.
    #[must_use]
    pub const fn is_page(&self) -> bool {
        self.parent_frame_id.is_none()
    }
}

/// The largest contentful paint.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lcp {
    /// When, in microseconds since the Unix epoch.
    pub ts: u64,
    /// Its area in square pixels.
    pub size: f64,
    /// The element's `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub element_id: Option<String>,
    /// The picture's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub url: Option<String>,
}

/// Something went wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Where its event is. This also identifies the problem. For missing events it is the first of them.
    #[serde(flatten)]
    pub at: At,
    /// When, in microseconds since the Unix epoch. For missing events it is the time of the last event that was
    /// read before them.
    pub ts: u64,
    /// What kind of problem.
    pub kind: ProblemKind,
    /// The problem in a sentence, on one line. It holds what pages and servers chose.
    pub text: String,
    /// Where in the browser it happened.
    #[serde(flatten)]
    pub place: Place,
    /// The seq of the request that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub request: Option<u64>,
    /// The seq of the page on which it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub navigation: Option<u64>,
    /// The seq of the command that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub caused_by: Option<u64>,
    /// What happened in the 2 s before it in the same target, oldest first: the last 8 events that matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Moment>,
    /// What happened in the 2 s after it in the same target, oldest first: the first 8 events that matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Moment>,
    /// Whether nothing will be added to `after`.
    pub is_settled: bool,
    /// How many events at most are missing in these 4 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The categories that were not captured when it happened, if that is known: nothing of them is among the
    /// moments.
    #[serde(skip_serializing_if = "none_of")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::Category>))]
    pub not_captured: CategorySet,
    /// The seq of the event that took it back: the rejection was handled later, or the request was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub withdrawn: Option<u64>,
    /// The seq of the last event that changed it.
    pub updated: u64,
}

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// A request had no answer, or the body of its answer broke off.
    RequestFailed,
    /// The browser refused a request by a rule: content security policy, CORS, mixed content …
    RequestBlocked,
    /// A request was answered with a status of 400 or more.
    HttpError,
    /// A proxy answered with an error of its own.
    ProxyError,
    /// A line of the console at the level error.
    ConsoleError,
    /// An exception or a rejection that no code handled.
    Exception,
    /// The process of a page crashed.
    PageCrashed,
    /// The collector lost the browser.
    BrowserLost,
    /// The collector could not observe something.
    CollectorFailed,
    /// A service of the machine crashed.
    ServiceCrashed,
    /// The kernel killed a process because memory ran out.
    OutOfMemory,
    /// A call of an API failed: its status is 400 or more.
    ApiError,
    /// A captcha was not solved.
    CaptchaFailed,
    /// A program logged an error: a `log_record` whose `level` is `error` or `fatal`.
    LogError,
    /// Events are missing.
    EventsLost,
    /// The server was restarted.
    Restart,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::RequestFailed,
        Self::RequestBlocked,
        Self::HttpError,
        Self::ProxyError,
        Self::ConsoleError,
        Self::Exception,
        Self::PageCrashed,
        Self::BrowserLost,
        Self::CollectorFailed,
        Self::ServiceCrashed,
        Self::OutOfMemory,
        Self::ApiError,
        Self::CaptchaFailed,
        Self::LogError,
        Self::EventsLost,
        Self::Restart,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestFailed => "request_failed",
            Self::RequestBlocked => "request_blocked",
            Self::HttpError => "http_error",
            Self::ProxyError => "proxy_error",
            Self::ConsoleError => "console_error",
            Self::Exception => "exception",
            Self::PageCrashed => "page_crashed",
            Self::BrowserLost => "browser_lost",
            Self::CollectorFailed => "collector_failed",
            Self::ServiceCrashed => "service_crashed",
            Self::OutOfMemory => "out_of_memory",
            Self::ApiError => "api_error",
            Self::CaptchaFailed => "captcha_failed",
            Self::LogError => "log_error",
            Self::EventsLost => "events_lost",
            Self::Restart => "restart",
        }
    }
}

/// An event near a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Moment {
    /// The seq of the event.
    pub seq: u64,
    /// Its time, in microseconds since the Unix epoch.
    pub ts: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The event in a few words, on one line.
    pub text: String,
}

/// Milliseconds as whole microseconds. Nothing negative.
fn micros(ms: f64) -> u64 {
    // A float that does not fit saturates.
    (ms * 1000.0).round().max(0.0) as u64
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn none_of(categories: &CategorySet) -> bool {
    categories.is_empty()
}
