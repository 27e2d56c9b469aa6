//! HAR 1.2 from requests and navigations: [`HarWriter`] for a stream, [`write()`] for what is at hand.
//!
//! The format is that of <http://www.softwareishard.com/blog/har-12-spec/>, with the fields that Chrome adds
//! (`_resourceType`, `_initiator`, `_transferSize`, `_error`, `_webSocketMessages` …), and `_tapline` for what only we know:
//! seqs, ids, and what is missing. What is not known is -1, and never an invented value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tapline_oapi::data::NetworkTiming;
use tapline_oapi::joins::{Navigation, Outcome, Redirect, Request, Unknown, WebSocket};

use crate::insight::Tally;
use crate::sanitize::Sanitizer;

/// How many pages a file can have. They are kept until its end, since their milestones come late. Requests of
/// later pages have no `pageref`.
const MAX_PAGES: usize = 10_000;

/// Writes requests as HAR, each when it is given.
///
/// Entries have the order in which they are given. Nothing is kept but the pages, a few hundred bytes each.
#[derive(Debug)]
pub struct HarWriter<W> {
    out: W,
    sanitizer: Sanitizer,
    entries: u64,
    /// Requests without an address: a HAR cannot hold them.
    without_url: u64,
    pages: BTreeMap<(u64, u64), Option<Navigation>>,
    /// An entry is written at once: the serialiser writes in small pieces.
    buffer: Vec<u8>,
}

impl<W: io::Write> HarWriter<W> {
    /// Writes the beginning of the file.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn new(mut out: W, sanitizer: Sanitizer) -> io::Result<Self> {
        let version = env!("CARGO_PKG_VERSION");
        write!(
            out,
            r#"{{"log":{{"version":"1.2","creator":{{"name":"Tapline","version":"{version}"}},"entries":["#
        )?;
        Ok(Self {
            out,
            sanitizer,
            entries: 0,
            without_url: 0,
            pages: BTreeMap::new(),
            buffer: Vec::new(),
        })
    }

    /// Writes a request: an entry for each hop.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn request(&mut self, request: &Request) -> io::Result<()> {
        if request.url.is_empty() {
            self.without_url += 1;
            return Ok(());
        }
        let page = request.navigation.map(|seq| (request.at.run, seq));
        let page = page.filter(|page| {
            let has_space = self.pages.len() < MAX_PAGES || self.pages.contains_key(page);
            if has_space {
                self.pages.entry(*page).or_default();
            }
            has_space
        });
        for (index, hop) in request.redirects.iter().enumerate() {
            // Without its own event, it is not known when it began.
            if let (Some(seq), Some(ts)) = (hop.seq, hop.ts) {
                let entry =
                    redirect_entry(request, hop, (seq, ts), page, index == 0, &self.sanitizer);
                self.entry(&entry)?;
            }
        }
        let entry = last_entry(request, page, &self.sanitizer);
        self.entry(&entry)
    }

    /// Takes a navigation. Those of pages become `pages`, written at the end.
    pub fn navigation(&mut self, navigation: &Navigation) {
        let id = (navigation.at.run, navigation.at.seq);
        let has_space = self.pages.len() < MAX_PAGES || self.pages.contains_key(&id);
        if navigation.is_page() && has_space {
            self.pages.insert(id, Some(navigation.clone()));
        }
    }

    /// Writes the pages and the end of the file, and returns the writer.
    ///
    /// # Errors
    ///
    /// That of the writer.
    pub fn finish(mut self, tally: &Tally) -> io::Result<W> {
        write!(self.out, "\n],\"pages\":[")?;
        let mut is_first = true;
        for (id, navigation) in &self.pages {
            let Some(navigation) = navigation else {
                continue;
            };
            let comma = if std::mem::take(&mut is_first) {
                ""
            } else {
                ","
            };
            writeln!(self.out, "{comma}")?;
            serde_json::to_writer(&mut self.out, &page(*id, navigation, &self.sanitizer))?;
        }
        let about = About {
            sanitized: self.sanitizer.is_on(),
            requests_without_url: self.without_url,
            tally,
        };
        let mut comment = String::new();
        if self.sanitizer.is_on() {
            comment.push_str("Sanitized: values whose names suggest a secret are *redacted*.");
        }
        if 0 < tally.lost {
            comment.push_str(&format!(" Up to {} events are missing.", tally.lost));
        }
        write!(self.out, "\n],\"comment\":")?;
        serde_json::to_writer(&mut self.out, comment.trim_start())?;
        write!(self.out, ",\"_tapline\":")?;
        serde_json::to_writer(&mut self.out, &about)?;
        writeln!(self.out, "}}}}")?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The writer.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.buffer.clear();
        self.buffer
            .extend_from_slice(if self.entries == 0 { b"\n" } else { b",\n" });
        self.entries += 1;
        serde_json::to_writer(&mut self.buffer, entry)?;
        self.out.write_all(&self.buffer)
    }
}

/// Writes requests and the navigations that they belong to as HAR.
///
/// ```
/// use tapline_insight::{Insight, Options, Sanitizer, har};
///
/// let insight = Insight::new(Options { contents: true, ..Options::default() });
/// // … feed events …
/// let mut file = Vec::new();
/// har::write(insight.requests(), insight.navigations(), &insight.tally(), &mut file, Sanitizer::default())?;
/// # assert!(serde_json::from_slice::<serde_json::Value>(&file).is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// That of `out`.
pub fn write<'a, W: io::Write>(
    requests: impl IntoIterator<Item = &'a Request>,
    navigations: impl IntoIterator<Item = &'a Navigation>,
    tally: &Tally,
    out: &mut W,
    sanitizer: Sanitizer,
) -> io::Result<()> {
    let mut writer = HarWriter::new(out, sanitizer)?;
    for navigation in navigations {
        writer.navigation(navigation);
    }
    for request in requests {
        writer.request(request)?;
    }
    writer.finish(tally)?;
    Ok(())
}

/// What the file says about itself.
#[derive(Serialize)]
struct About<'a> {
    sanitized: bool,
    #[serde(skip_serializing_if = "is_zero")]
    requests_without_url: u64,
    #[serde(flatten)]
    tally: &'a Tally,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    started_date_time: Time,
    id: PageId,
    title: Cow<'a, str>,
    page_timings: PageTimings,
    #[serde(rename = "_tapline")]
    about: OfPage<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageTimings {
    on_content_load: f64,
    on_load: f64,
    #[serde(
        rename = "_largestContentfulPaint",
        skip_serializing_if = "Option::is_none"
    )]
    largest_contentful_paint: Option<f64>,
    #[serde(rename = "_cumulativeLayoutShift")]
    cumulative_layout_shift: f64,
    #[serde(rename = "_settled", skip_serializing_if = "Option::is_none")]
    settled: Option<f64>,
}

#[derive(Serialize)]
struct OfPage<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caused_by: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    crashed: bool,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pageref: Option<PageId>,
    started_date_time: Time,
    time: f64,
    request: HarRequest<'a>,
    response: HarResponse<'a>,
    cache: Empty,
    timings: Timings,
    #[serde(rename = "serverIPAddress", skip_serializing_if = "Option::is_none")]
    server_ip_address: Option<&'a str>,
    #[serde(rename = "_initiator", skip_serializing_if = "Option::is_none")]
    initiator: Option<Initiator<'a>>,
    #[serde(rename = "_resourceType", skip_serializing_if = "Option::is_none")]
    resource_type: Option<String>,
    #[serde(rename = "_fromCache", skip_serializing_if = "Option::is_none")]
    from_cache: Option<&'a str>,
    #[serde(rename = "_webSocketMessages", skip_serializing_if = "Option::is_none")]
    web_socket_messages: Option<Vec<SocketMessage<'a>>>,
    #[serde(rename = "_tapline")]
    about: OfEntry<'a>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HarRequest<'a> {
    method: &'a str,
    url: Cow<'a, str>,
    http_version: &'a str,
    cookies: Vec<NameValue<'a>>,
    headers: Vec<NameValue<'a>>,
    query_string: Vec<NameValue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_data: Option<PostData<'a>>,
    headers_size: i64,
    body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HarResponse<'a> {
    status: u32,
    status_text: &'a str,
    http_version: &'a str,
    cookies: Vec<NameValue<'a>>,
    headers: Vec<NameValue<'a>>,
    content: Content<'a>,
    #[serde(rename = "redirectURL")]
    redirect_url: Cow<'a, str>,
    headers_size: i64,
    body_size: i64,
    #[serde(rename = "_transferSize", skip_serializing_if = "Option::is_none")]
    transfer_size: Option<u64>,
    #[serde(rename = "_error", skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(rename = "_fetchedViaServiceWorker", skip_serializing_if = "is_false")]
    fetched_via_service_worker: bool,
}

#[derive(Serialize)]
struct NameValue<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostData<'a> {
    mime_type: &'a str,
    text: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    size: i64,
    mime_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'static str>,
}

/// Milliseconds; -1 where a phase is not known or did not take place.
#[derive(Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    send: f64,
    wait: f64,
    receive: f64,
    ssl: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initiator<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Cow<'a, str>>,
    /// From 0, as Chrome counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_number: Option<u64>,
}

#[derive(Serialize)]
struct SocketMessage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Seconds since the Unix epoch.
    time: f64,
    opcode: u8,
    data: Cow<'a, str>,
    #[serde(rename = "_bytes", skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct OfEntry<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_seq: Option<u64>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nav_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caused_by: Option<u64>,
    /// From the beginning of the first hop to the end by the browser's clock; `time` is the sum of the phases of this hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<Unknown>,
    #[serde(skip_serializing_if = "is_false")]
    start_missing: bool,
    #[serde(skip_serializing_if = "is_false")]
    canceled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cors_error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_error: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
    #[serde(skip_serializing_if = "is_zero")]
    messages_dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u32>,
}

/// A time in microseconds since the Unix epoch, written as RFC 3339.
struct Time(u64);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        let time = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX);
        serializer.collect_str(&time)
    }
}

/// The id of a page: that of the navigation's event.
#[derive(Clone, Copy)]
struct PageId((u64, u64));

impl Serialize for PageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            (0, seq) => serializer.collect_str(&format_args!("page_{seq}")),
            (run, seq) => serializer.collect_str(&format_args!("page_{run}_{seq}")),
        }
    }
}

fn page<'a>(id: (u64, u64), navigation: &'a Navigation, sanitizer: &Sanitizer) -> Page<'a> {
    let since_start = |ts: u64| milliseconds(navigation.start_ts, ts);
    Page {
        started_date_time: Time(navigation.start_ts),
        id: PageId(id),
        title: sanitizer.url(&navigation.url),
        page_timings: PageTimings {
            on_content_load: navigation.dom_content_loaded.map_or(-1.0, since_start),
            on_load: navigation.load.map_or(-1.0, since_start),
            largest_contentful_paint: navigation.lcp.as_ref().map(|lcp| since_start(lcp.ts)),
            cumulative_layout_shift: navigation.cls,
            settled: navigation.settled.map(since_start),
        },
        about: OfPage {
            seq: navigation.at.seq,
            target_id: navigation.place.target_id.as_deref(),
            session_id: navigation.place.session_id.as_deref(),
            caused_by: navigation.caused_by,
            crashed: navigation.crashed.is_some(),
            lost: navigation.lost,
        },
    }
}

/// The last hop, or the only one.
fn last_entry<'a>(
    request: &'a Request,
    page: Option<(u64, u64)>,
    sanitizer: &Sanitizer,
) -> Entry<'a> {
    let response = request.response.as_ref();
    let timings = timings(request.timing.as_ref());
    let protocol = response
        .and_then(|it| it.protocol.as_deref())
        .unwrap_or("unknown");
    let socket = request.websocket.as_ref();
    let is_socket = request.resource_type.as_deref() == Some("WebSocket");
    let failure = request.failure.as_ref();
    let error = failure.map(|failure| failure.error_text.as_str());
    let from_cache = response.and_then(|it| it.from_cache.as_deref());
    Entry {
        pageref: page.map(PageId),
        started_date_time: Time(request.hop_ts),
        time: time(request, &timings),
        request: HarRequest {
            method: &request.method,
            url: sanitizer.url(&request.url),
            http_version: protocol,
            cookies: request_cookies(&request.headers, sanitizer),
            headers: headers(&request.headers, sanitizer),
            query_string: query(&request.url, sanitizer),
            post_data: post_data(
                request.post_data.as_deref(),
                request.post_data_bytes.is_some() || request.post_data_omitted,
                &request.headers,
                sanitizer,
            ),
            headers_size: -1,
            body_size: posted_bytes(
                request.post_data.as_deref(),
                request.post_data_bytes,
                request.post_data_omitted,
            ),
        },
        response: HarResponse {
            status: request.status().unwrap_or(0),
            status_text: response
                .and_then(|it| it.status_text.as_deref())
                .unwrap_or(""),
            http_version: protocol,
            cookies: response.map_or_else(Vec::new, |it| response_cookies(&it.headers, sanitizer)),
            headers: response.map_or_else(Vec::new, |it| headers(&it.headers, sanitizer)),
            content: content(request, sanitizer),
            redirect_url: Cow::Borrowed(""),
            headers_size: -1,
            body_size: if from_cache.is_some() { 0 } else { -1 },
            transfer_size: request.encoded_bytes,
            error,
            fetched_via_service_worker: from_cache == Some("service_worker"),
        },
        cache: Empty {},
        timings,
        server_ip_address: response
            .and_then(|it| it.remote_ip.as_deref())
            .filter(|it| !it.is_empty()),
        initiator: initiator(request, sanitizer),
        resource_type: resource_type(request),
        from_cache: from_cache.filter(|it| matches!(*it, "memory" | "disk")),
        web_socket_messages: (is_socket || socket.is_some())
            .then(|| socket.map_or_else(Vec::new, |socket| socket_messages(socket, sanitizer))),
        about: OfEntry {
            seq: request.hop_seq,
            end_seq: request.end.map(|end| end.seq),
            duration_ms: request.duration_ms,
            outcome: Some(request.outcome),
            unknown: request.unknown,
            start_missing: !request.start_seen,
            canceled: response.is_some_and(|it| it.canceled)
                || failure.is_some_and(|it| it.canceled),
            blocked_reason: failure.and_then(|it| it.blocked_reason.as_deref()),
            cors_error: failure.and_then(|it| it.cors_error.as_deref()),
            proxy_error: request.proxy_error.as_deref(),
            lost: request.lost,
            messages_dropped: socket.map_or(0, |it| it.messages_dropped),
            close_code: socket.and_then(|it| it.code),
            ..of_entry(request)
        },
    }
}

/// A hop that was answered with a redirect.
fn redirect_entry<'a>(
    request: &'a Request,
    hop: &'a Redirect,
    (seq, ts): (u64, u64),
    page: Option<(u64, u64)>,
    is_first: bool,
    sanitizer: &Sanitizer,
) -> Entry<'a> {
    Entry {
        pageref: page.map(PageId),
        started_date_time: Time(ts),
        time: milliseconds(ts, hop.end_ts),
        request: HarRequest {
            method: &hop.method,
            url: sanitizer.url(&hop.url),
            http_version: "unknown",
            cookies: request_cookies(&hop.headers, sanitizer),
            headers: headers(&hop.headers, sanitizer),
            query_string: query(&hop.url, sanitizer),
            post_data: post_data(
                hop.post_data.as_deref(),
                hop.post_data_bytes.is_some() || hop.post_data_omitted,
                &hop.headers,
                sanitizer,
            ),
            headers_size: -1,
            body_size: posted_bytes(
                hop.post_data.as_deref(),
                hop.post_data_bytes,
                hop.post_data_omitted,
            ),
        },
        response: HarResponse {
            status: hop.status.unwrap_or(0),
            status_text: "",
            http_version: "unknown",
            cookies: Vec::new(),
            headers: Vec::new(),
            content: Content {
                size: -1,
                mime_type: "x-unknown",
                text: None,
                comment: None,
            },
            redirect_url: sanitizer.url(&hop.to),
            headers_size: -1,
            body_size: -1,
            transfer_size: None,
            error: None,
            fetched_via_service_worker: false,
        },
        cache: Empty {},
        timings: timings(None),
        server_ip_address: None,
        initiator: initiator(request, sanitizer),
        resource_type: resource_type(request),
        from_cache: None,
        web_socket_messages: None,
        about: OfEntry {
            seq,
            start_missing: is_first && !request.start_seen,
            ..of_entry(request)
        },
    }
}

/// What all hops have in common.
fn of_entry(request: &Request) -> OfEntry<'_> {
    let place = &request.place;
    OfEntry {
        seq: request.at.seq,
        end_seq: None,
        duration_ms: None,
        request_id: &request.request_id,
        target_id: place.target_id.as_deref(),
        session_id: place.session_id.as_deref(),
        frame_id: place.frame_id.as_deref(),
        nav_seq: place.nav_seq,
        caused_by: request.caused_by,
        outcome: None,
        unknown: None,
        start_missing: false,
        canceled: false,
        blocked_reason: None,
        cors_error: None,
        proxy_error: None,
        lost: 0,
        messages_dropped: 0,
        close_code: None,
    }
}

fn initiator<'a>(request: &'a Request, sanitizer: &Sanitizer) -> Option<Initiator<'a>> {
    let kind = request.initiator_type.as_str();
    (!kind.is_empty()).then(|| Initiator {
        kind,
        url: request
            .initiator_url
            .as_deref()
            .map(|url| sanitizer.url(url)),
        line_number: request.initiator_line.and_then(|line| line.checked_sub(1)),
    })
}

/// In lower case, as Chrome has it.
fn resource_type(request: &Request) -> Option<String> {
    request
        .resource_type
        .as_ref()
        .map(|kind| kind.to_ascii_lowercase())
}

/// The phases; HAR counts TLS within `connect`, as we do.
fn timings(timing: Option<&NetworkTiming>) -> Timings {
    let phase = |ms: Option<f64>| ms.filter(|ms| ms.is_finite() && 0.0 <= *ms).unwrap_or(-1.0);
    let of = |phase_of: fn(&NetworkTiming) -> Option<f64>| phase(timing.and_then(phase_of));
    Timings {
        blocked: of(|it| it.blocked),
        dns: of(|it| it.dns),
        connect: of(|it| it.connect),
        send: of(|it| it.send),
        wait: of(|it| it.wait),
        receive: of(|it| it.receive),
        ssl: of(|it| it.tls),
    }
}

/// How long the last hop took, in milliseconds: the sum of its phases, as HAR defines it; without phases from
/// its beginning to its end. 0 if it has no end.
fn time(request: &Request, timings: &Timings) -> f64 {
    let phases = [
        timings.blocked,
        timings.dns,
        timings.connect,
        timings.send,
        timings.wait,
        timings.receive,
    ];
    if request.timing.is_some() && phases.iter().any(|ms| 0.0 <= *ms) {
        let sum: f64 = phases.into_iter().filter(|ms| 0.0 <= *ms).sum();
        // Without the noise of the additions.
        return if sum.is_finite() {
            (sum * 1000.0).round() / 1000.0
        } else {
            0.0
        };
    }
    match request.end_ts() {
        Some(end) if request.start_seen || request.duration_ms.is_some() => {
            let from_ms = request.duration_ms.filter(|_| request.redirects.is_empty());
            from_ms.unwrap_or_else(|| milliseconds(request.hop_ts, end))
        }
        _ => 0.0,
    }
}

/// From one time in microseconds to a later one, in milliseconds. 0 if it is earlier.
fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}

/// The headers. Several of one name are joined by line breaks in events.
fn headers<'a>(headers: &'a BTreeMap<String, String>, sanitizer: &Sanitizer) -> Vec<NameValue<'a>> {
    let each = headers
        .iter()
        .flat_map(|(name, values)| values.split('\n').map(move |value| (name, value)));
    each.map(|(name, value)| NameValue {
        name: Cow::Borrowed(name),
        value: sanitizer.header(name, value),
    })
    .collect()
}

fn header<'a>(headers: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let mut found = headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.as_str())
}

/// The cookies of a request. None if they are secrets.
fn request_cookies<'a>(
    headers: &'a BTreeMap<String, String>,
    sanitizer: &Sanitizer,
) -> Vec<NameValue<'a>> {
    let cookies = header(headers, "cookie").filter(|_| !sanitizer.is_secret_header("cookie"));
    let pairs = cookies
        .into_iter()
        .flat_map(|cookies| cookies.split(['\n', ';']));
    pairs.filter_map(|pair| cookie(pair.trim())).collect()
}

/// The cookies that a response sets, without their attributes. None if they are secrets.
fn response_cookies<'a>(
    headers: &'a BTreeMap<String, String>,
    sanitizer: &Sanitizer,
) -> Vec<NameValue<'a>> {
    let cookies =
        header(headers, "set-cookie").filter(|_| !sanitizer.is_secret_header("set-cookie"));
    let each = cookies.into_iter().flat_map(|cookies| cookies.split('\n'));
    each.filter_map(|line| cookie(line.split(';').next()?.trim()))
        .collect()
}

fn cookie(pair: &str) -> Option<NameValue<'_>> {
    let (name, value) = pair.split_once('=')?;
    Some(NameValue {
        name: Cow::Borrowed(name),
        value: Cow::Borrowed(value),
    })
}

/// The parameters of the query, decoded.
fn query<'a>(url: &'a str, sanitizer: &Sanitizer) -> Vec<NameValue<'a>> {
    let without_fragment = url.split('#').next().unwrap_or(url);
    let Some((_, query)) = without_fragment.split_once('?') else {
        return Vec::new();
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name);
            let value = match sanitizer.is_secret_name(&name) && !value.is_empty() {
                true => Cow::Borrowed(crate::sanitize::REDACTED),
                false => match decoded(value) {
                    Cow::Borrowed(value) => sanitizer.url(value),
                    Cow::Owned(value) => Cow::Owned(sanitizer.url(&value).into_owned()),
                },
            };
            NameValue { name, value }
        })
        .collect()
}

/// With `%XX` and `+` decoded. What is not valid is kept as it is.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let hex = others
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = others;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = others;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(text),
    }
}

fn post_data<'a>(
    text: Option<&'a str>,
    is_partial: bool,
    headers: &'a BTreeMap<String, String>,
    sanitizer: &Sanitizer,
) -> Option<PostData<'a>> {
    if text.is_none() && !is_partial {
        return None;
    }
    Some(PostData {
        mime_type: header(headers, "content-type").unwrap_or(""),
        text: text.map_or(Cow::Borrowed(""), |text| sanitizer.body(text)),
        comment: match (text, is_partial) {
            (None, _) => Some("the body was not captured"),
            (Some(_), true) => Some("only the beginning of the body was captured"),
            (Some(_), false) => None,
        },
    })
}

/// The length of a posted body; -1 if it is not known.
fn posted_bytes(text: Option<&str>, bytes: Option<u64>, omitted: bool) -> i64 {
    match (bytes, text) {
        (Some(bytes), _) => i64::try_from(bytes).unwrap_or(i64::MAX),
        (None, Some(text)) => i64::try_from(text.len()).unwrap_or(i64::MAX),
        (None, None) if omitted => -1,
        (None, None) => 0,
    }
}

fn content<'a>(request: &'a Request, sanitizer: &Sanitizer) -> Content<'a> {
    let Some(response) = &request.response else {
        return Content {
            size: 0,
            mime_type: "x-unknown",
            text: None,
            comment: None,
        };
    };
    let length = response.body_bytes.or_else(|| {
        let body = response.body.as_ref().map(|body| body.len() as u64);
        // Without a body of its own, the header says how long it is, unless it was compressed.
        body.or_else(|| match header(&response.headers, "content-encoding") {
            Some(_) => None,
            None => header(&response.headers, "content-length")?
                .trim()
                .parse()
                .ok(),
        })
    });
    Content {
        size: length.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        mime_type: response.mime_type.as_deref().unwrap_or("x-unknown"),
        text: response.body.as_deref().map(|body| sanitizer.body(body)),
        comment: match (&response.body, response.body_bytes) {
            (Some(_), Some(_)) => Some("only the beginning of the body was captured"),
            _ => None,
        },
    }
}

fn socket_messages<'a>(socket: &'a WebSocket, sanitizer: &Sanitizer) -> Vec<SocketMessage<'a>> {
    let messages = socket.messages.iter();
    messages
        .map(|message| SocketMessage {
            kind: if message.sent { "send" } else { "receive" },
            time: message.ts as f64 / 1e6,
            opcode: if message.text.is_some() { 1 } else { 2 },
            data: message
                .text
                .as_deref()
                .map_or(Cow::Borrowed(""), |text| sanitizer.body(text)),
            bytes: message.text.is_none().then_some(message.bytes),
        })
        .collect()
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
