//! What a HAR holds, turned back into requests, navigations and problems: [`HarFile`].
//!
//! The requests and the pages of the file are joined as the events were that they are of: so their problems, and what was before
//! and after them, are found by the same rules. What only the file knows, such as headers, bodies and phases, is added
//! behind. Everything else that was published is not in a HAR, and is not invented.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tapline_oapi::data::{
    Context, NetworkLoadingFailed, NetworkRequest, NetworkResponse, NetworkTiming, PageCrashed,
    PageDomContentLoaded, PageLoad, PageNavigation, PageNavigationSettled,
};
use tapline_oapi::joins::{End, Lcp, Outcome, Request, Response, Unknown, WebSocket};
use tapline_oapi::{Envelope, Event, KnownType};

use crate::input::Input;
use crate::insight::{Finding, Insight, Options};
use crate::request::micros;

/// What a HAR file holds.
///
/// A file of ours has the same items as the events that it was made of, as far as requests and pages go: with their seqs, their
/// outcomes and what was missing. Files of other programs are read as well; their entries are numbered by time.
#[derive(Debug, Clone, PartialEq)]
pub struct HarFile {
    /// What the file says about itself.
    pub about: HarAbout,
    /// Requests, navigations and problems.
    pub findings: Vec<Finding>,
}

/// What a HAR file says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct HarAbout {
    /// The program that made it.
    pub creator: String,
    /// Whether Tapline made it.
    pub is_ours: bool,
    /// Whether secrets were removed from it.
    pub sanitized: bool,
    /// How many events at most were missing when it was made. 0 where the file does not say so.
    pub lost: u64,
    /// How often the server was restarted within it.
    pub restarts: u64,
    /// How many requests had no address, and are not in it.
    pub requests_without_url: u64,
}

impl HarFile {
    /// Whether a file that begins so is a HAR, and no line of an event.
    ///
    /// ```
    /// use tapline_insight::HarFile;
    ///
    /// assert!(HarFile::begins(br#"{"log": {"version": "1.2","#));
    /// assert!(!HarFile::begins(br#"{"seq":1,"event":{}}"#));
    /// ```
    #[must_use]
    pub fn begins(start: &[u8]) -> bool {
        let start = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
        let rest = start.trim_ascii_start().strip_prefix(b"{");
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"log\""))
    }

    /// Reads a HAR.
    ///
    /// # Errors
    ///
    /// If it is no HAR, or one whose entries have no readable times.
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let Har { log } = serde_json::from_slice(text)?;
        let about = HarAbout {
            is_ours: log.about.is_some() && log.creator.name == "Tapline",
            creator: log.creator.name.into_owned(),
            ..log.about.unwrap_or_default().into()
        };
        let pages: Vec<_> = log.pages.iter().map(Page::of).collect();
        let entries = Entries::new(&log.entries, &pages);
        Ok(Self {
            findings: joined(&pages, &entries, about.restarts),
            about,
        })
    }

    /// Keeps what was there in a part of the time: microseconds since the Unix epoch.
    pub fn retain(&mut self, since: Option<u64>, until: Option<u64>) {
        self.findings.retain(|finding| {
            let (began, ended) = match finding {
                Finding::Request(it) => (it.ts, it.end_ts().unwrap_or(u64::MAX)),
                Finding::Navigation(it) => (it.start_ts, it.replaced.unwrap_or(u64::MAX)),
                Finding::Problem(it) => (it.ts, it.ts),
            };
            since.is_none_or(|since| since <= ended) && until.is_none_or(|until| began <= until)
        });
    }

    /// How many requests it has.
    #[must_use]
    pub fn requests(&self) -> usize {
        let requests = self.findings.iter();
        requests
            .filter(|it| matches!(it, Finding::Request(_)))
            .count()
    }
}

/// Some programs begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

// ---- the file ----

#[derive(Deserialize)]
struct Har<'a> {
    #[serde(borrow)]
    log: Log<'a>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Log<'a> {
    #[serde(default)]
    creator: Creator<'a>,
    #[serde(default)]
    pages: Vec<HarPage<'a>>,
    entries: Vec<HarEntry<'a>>,
    #[serde(default, rename = "_tapline")]
    about: Option<OfFile>,
}

#[derive(Deserialize, Default)]
struct Creator<'a> {
    #[serde(default)]
    name: Cow<'a, str>,
}

/// What only a file of ours says about itself.
#[derive(Deserialize, Default)]
#[serde(default)]
struct OfFile {
    sanitized: bool,
    requests_without_url: u64,
    lost: u64,
    restarts: u64,
}

impl From<OfFile> for HarAbout {
    fn from(file: OfFile) -> Self {
        Self {
            sanitized: file.sanitized,
            lost: file.lost,
            restarts: file.restarts,
            requests_without_url: file.requests_without_url,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HarPage<'a> {
    started_date_time: Timestamp,
    id: Cow<'a, str>,
    #[serde(default)]
    title: Cow<'a, str>,
    #[serde(default)]
    page_timings: PageTimings,
    #[serde(default, rename = "_tapline")]
    about: Option<OfPage>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageTimings {
    on_content_load: Option<f64>,
    on_load: Option<f64>,
    #[serde(rename = "_largestContentfulPaint")]
    largest_contentful_paint: Option<f64>,
    #[serde(rename = "_cumulativeLayoutShift")]
    cumulative_layout_shift: Option<f64>,
    #[serde(rename = "_settled")]
    settled: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfPage {
    seq: u64,
    target_id: Option<String>,
    session_id: Option<String>,
    caused_by: Option<u64>,
    crashed: bool,
    lost: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HarEntry<'a> {
    #[serde(default)]
    pageref: Option<Cow<'a, str>>,
    started_date_time: Timestamp,
    /// Milliseconds.
    #[serde(default)]
    time: Option<f64>,
    #[serde(default)]
    request: HarRequest,
    #[serde(default)]
    response: HarResponse,
    #[serde(default)]
    timings: Timings,
    #[serde(default, rename = "serverIPAddress")]
    server_ip_address: Option<String>,
    #[serde(default, rename = "_initiator")]
    initiator: Option<Initiator>,
    #[serde(default, rename = "_resourceType")]
    resource_type: Option<String>,
    #[serde(default, rename = "_fromCache")]
    from_cache: Option<String>,
    /// How many there are is what is used.
    #[serde(default, rename = "_webSocketMessages")]
    web_socket_messages: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default, rename = "_tapline")]
    about: Option<OfEntry>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HarRequest {
    method: String,
    url: String,
    headers: Vec<NameValue>,
    post_data: Option<PostData>,
    body_size: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct HarResponse {
    status: Option<i64>,
    status_text: String,
    http_version: String,
    headers: Vec<NameValue>,
    content: Content,
    #[serde(rename = "_transferSize")]
    transfer_size: Option<f64>,
    #[serde(rename = "_error")]
    error: Option<String>,
    #[serde(rename = "_fetchedViaServiceWorker")]
    fetched_via_service_worker: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NameValue {
    name: String,
    value: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PostData {
    text: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    size: Option<f64>,
    mime_type: String,
    text: Option<String>,
    encoding: Option<String>,
    comment: Option<String>,
}

/// Milliseconds; -1 where a phase is not known or did not take place.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Timings {
    blocked: Option<f64>,
    dns: Option<f64>,
    connect: Option<f64>,
    send: Option<f64>,
    wait: Option<f64>,
    receive: Option<f64>,
    ssl: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Initiator {
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    line_number: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OfEntry {
    seq: u64,
    end_seq: Option<u64>,
    duration_ms: Option<f64>,
    request_id: String,
    target_id: Option<String>,
    session_id: Option<String>,
    frame_id: Option<String>,
    nav_seq: Option<u64>,
    caused_by: Option<u64>,
    /// A hop that was answered with a redirect has none.
    outcome: Option<String>,
    unknown: Option<String>,
    start_missing: bool,
    canceled: bool,
    blocked_reason: Option<String>,
    cors_error: Option<String>,
    proxy_error: Option<String>,
    lost: u64,
    messages_dropped: u64,
    close_code: Option<u32>,
}

// ---- what it is of ----

/// A page with what is computed of it.
struct Page<'a> {
    har: &'a HarPage<'a>,
    started: u64,
}

impl<'a> Page<'a> {
    fn of(har: &'a HarPage<'a>) -> Self {
        Self {
            started: ts(har.started_date_time),
            har,
        }
    }

    /// When a milestone was reached, in microseconds since the Unix epoch.
    fn after(&self, ms: Option<f64>) -> Option<u64> {
        let ms = ms.filter(|ms| 0.0 <= *ms)?;
        Some(self.started.saturating_add(micros(ms)))
    }

    fn about(&self) -> Option<&'a OfPage> {
        self.har.about.as_ref()
    }
}

/// An entry: a request, or one hop of it.
struct Entry<'a> {
    har: &'a HarEntry<'a>,
    started: u64,
    /// What the browser called it; in files of others, its number.
    request_id: Cow<'a, str>,
    /// Which redirect it follows: its address and its status.
    redirected_from: Option<(&'a str, Option<u32>)>,
    /// Whether another hop follows.
    is_hop: bool,
    /// From the beginning of the first hop to the end of this one, in milliseconds.
    duration_ms: f64,
    context: Context,
}

impl Entry<'_> {
    fn about(&self) -> Option<&OfEntry> {
        self.har.about.as_ref()
    }

    /// What became of it.
    fn outcome(&self) -> Outcome {
        match self.about().and_then(|it| it.outcome.as_deref()) {
            Some("pending") => Outcome::Pending,
            Some("open") => Outcome::Open,
            Some("answered") => Outcome::Answered,
            Some("failed") => Outcome::Failed,
            Some(_) => Outcome::Unknown,
            None if self.error().is_some() => Outcome::Failed,
            None if self.status() == 0 => Outcome::Unknown,
            None => Outcome::Answered,
        }
    }

    fn status(&self) -> u32 {
        let status = self.har.response.status.unwrap_or(0);
        u32::try_from(status).unwrap_or(0)
    }

    fn error(&self) -> Option<&str> {
        let error = self.har.response.error.as_deref();
        error.filter(|error| !error.is_empty())
    }

    /// When it ended, in microseconds since the Unix epoch.
    fn ended(&self) -> u64 {
        let ms = self.har.time.unwrap_or(0.0);
        self.started.saturating_add(micros(ms))
    }
}

struct Entries<'a> {
    all: Vec<Entry<'a>>,
    /// The loader of the document of each page, by the page's id.
    loaders: HashMap<&'a str, String>,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [HarEntry<'a>], pages: &[Page<'a>]) -> Self {
        let ids: HashSet<&str> = pages.iter().map(|page| &*page.har.id).collect();
        let mut all: Vec<Entry<'a>> = Vec::with_capacity(entries.len());
        let mut loaders = HashMap::new();
        // The last hop so far of a request that continues, by its ids: the index of its entry, and when it began.
        let mut hops: HashMap<(&str, Option<&str>), (usize, u64)> = HashMap::new();
        for (index, har) in entries.iter().enumerate() {
            let about = har.about.as_ref();
            let request_id: Cow<'a, str> = match about {
                Some(about) if !about.request_id.is_empty() => (&*about.request_id).into(),
                _ => format!("entry {}", index + 1).into(),
            };
            let page = har.pageref.as_deref().filter(|page| ids.contains(page));
            let is_document = har.resource_type.as_deref() == Some("document");
            if let Some(page) = page {
                // Without a document among its requests, a page has an id of its own.
                let loader = loaders
                    .entry(page)
                    .or_insert_with(|| format!("page {page}"));
                if is_document && loader.starts_with("page ") {
                    *loader = request_id.clone().into_owned();
                }
            }
            let started = ts(har.started_date_time);
            let key = about.map(|about| (&*about.request_id, about.target_id.as_deref()));
            let before = key.and_then(|key| hops.remove(&key));
            let redirected_from = before.map(|(hop, _)| {
                let har = entries.get(hop);
                let status = har.and_then(|har| har.response.status);
                let url = har.map_or("", |har| &*har.request.url);
                (url, status.and_then(|it| u32::try_from(it).ok()))
            });
            let began = before.map_or(started, |(_, began)| began);
            let is_hop = about.is_some_and(|about| about.outcome.is_none());
            if let (true, Some(key)) = (is_hop, key) {
                hops.insert(key, (index, began));
            }
            let ms = har.time.unwrap_or(0.0);
            all.push(Entry {
                har,
                started,
                request_id,
                redirected_from,
                is_hop,
                duration_ms: started.saturating_sub(began) as f64 / 1000.0 + ms,
                context: Context {
                    url: Some(har.request.url.clone()),
                    target_id: about.and_then(|it| it.target_id.clone()),
                    session_id: about.and_then(|it| it.session_id.clone()),
                    frame_id: about.and_then(|it| it.frame_id.clone()),
                    nav_seq: about.and_then(|it| it.nav_seq),
                    ..Context::default()
                },
            });
        }
        for entry in &mut all {
            let page = entry.har.pageref.as_deref();
            let loader = page.and_then(|page| loaders.get(page));
            entry.context.loader_id = loader.cloned();
        }
        Self { all, loaders }
    }
}

/// An event that the file implies.
struct Implied<'a> {
    ts: u64,
    /// Of those at one time: pages come first, then what begins, then milestones, then what ends.
    rank: u8,
    /// Its seq, if the file has it.
    seq: Option<u64>,
    /// What it identifies, for what the file knows beyond events.
    of: Option<Of<'a>>,
    event: Event,
}

#[derive(Clone, Copy)]
enum Of<'a> {
    Page(&'a Page<'a>),
    /// The last hop of a request.
    Entry(&'a Entry<'a>),
}

/// Joins what is in the file.
fn joined(pages: &[Page<'_>], entries: &Entries<'_>, restarts: u64) -> Vec<Finding> {
    let mut implied = Vec::new();
    for page in pages {
        events_of_page(page, entries, &mut implied);
    }
    for entry in &entries.all {
        events_of_entry(entry, &mut implied);
    }
    let (mut details, mut findings) = (HashMap::new(), Vec::new());
    let mut insight = Insight::new(Options {
        contents: true,
        ..Options::default()
    });
    for (seq, Implied { event, of, .. }) in numbered(implied, restarts) {
        details.extend(of.map(|of| (seq, of)));
        insight.feed(Input::Event(&Envelope { seq, event }), &mut |finding| {
            findings.push(completed(finding, &details));
        });
    }
    insight.finish(&mut |finding| findings.push(completed(finding, &details)));
    findings
}

/// In the order of their seqs. If the file does not have these, or if several runs of the server have their own, all are
/// numbered by time.
fn numbered(mut implied: Vec<Implied<'_>>, restarts: u64) -> Vec<(u64, Implied<'_>)> {
    implied.sort_by_key(|it| (it.ts, it.rank));
    if let (0, Some(seqs)) = (restarts, seqs_of(&implied)) {
        let mut numbered: Vec<_> = seqs.into_iter().zip(implied).collect();
        numbered.sort_by_key(|(seq, _)| *seq);
        return numbered;
    }
    (1..).zip(implied).collect()
}

/// The seqs of the file, and for milestones, which have none, free ones behind what was before them.
fn seqs_of(implied: &[Implied<'_>]) -> Option<Vec<u64>> {
    let mut used = HashSet::new();
    let known = implied.iter().filter(|it| it.rank != MILESTONE);
    for event in known {
        let seq = event.seq.filter(|seq| 0 < *seq)?;
        if !used.insert(seq) {
            return None;
        }
    }
    let mut last = 0;
    let mut seqs = Vec::with_capacity(implied.len());
    for event in implied {
        let seq = match event.seq {
            Some(seq) => seq,
            None => (last + 1..).find(|seq| used.insert(*seq))?,
        };
        last = last.max(seq);
        seqs.push(seq);
    }
    Some(seqs)
}

const PAGE: u8 = 0;
const BEGIN: u8 = 1;
const MILESTONE: u8 = 2;
const END: u8 = 3;

fn event(known: KnownType, data: &impl Serialize) -> Event {
    // Structs of strings and numbers can always be written.
    Event::known(known, to_raw_value(data).ok())
}

fn events_of_page<'a>(
    page: &'a Page<'a>,
    entries: &'a Entries<'a>,
    implied: &mut Vec<Implied<'a>>,
) {
    let about = page.about();
    let target_id = about.and_then(|it| it.target_id.clone());
    let loader_id = match entries.loaders.get(&*page.har.id) {
        Some(loader) => loader.clone(),
        None => format!("page {}", page.har.id),
    };
    let mut of_page = entries
        .all
        .iter()
        .filter(|it| it.har.pageref.as_ref() == Some(&page.har.id));
    let document = of_page.find(|it| it.request_id == loader_id.as_str());
    let frame_id = document.and_then(|it| it.context.frame_id.clone());
    let navigation = PageNavigation {
        url: page.har.title.clone().into_owned(),
        frame_id: frame_id
            .clone()
            .or_else(|| target_id.clone())
            .unwrap_or_default(),
        loader_id: loader_id.clone(),
        target_id: target_id.clone(),
        session_id: about.and_then(|it| it.session_id.clone()),
        ..PageNavigation::default()
    };
    implied.push(Implied {
        ts: page.started,
        rank: PAGE,
        seq: about.map(|it| it.seq),
        of: Some(Of::Page(page)),
        event: event(KnownType::PageNavigation, &navigation).with_ts(page.started),
    });
    let context = Context {
        url: Some(navigation.url),
        target_id,
        frame_id,
        loader_id: Some(loader_id),
        ..Context::default()
    };
    let timings = &page.har.page_timings;
    let mut milestone = |at: Option<u64>, event: Event| {
        implied.extend(at.map(|ts| Implied {
            ts,
            rank: MILESTONE,
            seq: None,
            of: None,
            event: event.with_ts(ts),
        }));
    };
    let parsed = PageDomContentLoaded {
        context: context.clone(),
        ..PageDomContentLoaded::default()
    };
    milestone(
        page.after(timings.on_content_load),
        event(KnownType::PageDomContentLoaded, &parsed),
    );
    let loaded = PageLoad {
        context: context.clone(),
        ..PageLoad::default()
    };
    milestone(
        page.after(timings.on_load),
        event(KnownType::PageLoad, &loaded),
    );
    let settled = PageNavigationSettled {
        context: context.clone(),
    };
    milestone(
        page.after(timings.settled),
        event(KnownType::PageNavigationSettled, &settled),
    );
    if about.is_some_and(|it| it.crashed) {
        // The file does not say when: not before the last that is known of the page.
        let of_page = entries
            .all
            .iter()
            .filter(|it| it.har.pageref.as_ref() == Some(&page.har.id));
        let reached =
            [timings.on_content_load, timings.on_load, timings.settled].map(|ms| page.after(ms));
        let last = of_page
            .map(Entry::ended)
            .chain(reached.into_iter().flatten())
            .max();
        let crashed = event(KnownType::PageCrashed, &PageCrashed { context });
        milestone(last.or(Some(page.started)), crashed);
    }
}

fn events_of_entry<'a>(entry: &'a Entry<'a>, implied: &mut Vec<Implied<'a>>) {
    let (har, about) = (entry.har, entry.about());
    let resource_type = har.resource_type.as_deref().map(resource_type);
    // One of which only the end was read has its seq.
    let begins = about.is_none_or(|it| !it.start_missing || it.end_seq != Some(it.seq));
    let of = (!entry.is_hop).then_some(Of::Entry(entry));
    if begins {
        let initiator = har.initiator.as_ref();
        let (post_data, post_data_bytes, post_data_omitted) = posted(&har.request);
        let sent = NetworkRequest {
            context: entry.context.clone(),
            request_id: entry.request_id.clone().into_owned(),
            method: har.request.method.clone(),
            initiator_type: initiator.map_or_else(String::new, |it| it.kind.clone()),
            initiator_url: initiator.and_then(|it| it.url.clone()),
            // Chrome counts from 0.
            initiator_line: initiator
                .and_then(|it| bytes(it.line_number))
                .map(|line| line + 1),
            headers: headers(&har.request.headers),
            post_data,
            post_data_bytes,
            post_data_omitted,
            resource_type: resource_type.clone(),
            is_redirect: entry.redirected_from.map(|_| true),
            redirect_url: entry.redirected_from.map(|(url, _)| url.to_owned()),
            redirect_status: entry.redirected_from.and_then(|(_, status)| status),
            ..NetworkRequest::default()
        };
        implied.push(Implied {
            ts: entry.started,
            rank: BEGIN,
            seq: about.map(|it| it.seq),
            of,
            event: event(KnownType::NetworkRequest, &sent).with_ts(entry.started),
        });
    }
    let outcome = entry.outcome();
    if entry.is_hop || matches!(outcome, Outcome::Pending | Outcome::Unknown) {
        return;
    }
    // In files of ours it is there or not known; in others it is how long the entry took.
    let duration_ms = about.map_or(Some(entry.duration_ms), |it| it.duration_ms);
    let ended = if outcome == Outcome::Failed {
        let failed = NetworkLoadingFailed {
            context: entry.context.clone(),
            request_id: entry.request_id.clone().into_owned(),
            error_text: entry.error().unwrap_or("failed").to_owned(),
            canceled: about.is_some_and(|it| it.canceled),
            status: Some(entry.status()).filter(|status| *status != 0),
            blocked_reason: about.and_then(|it| it.blocked_reason.clone()),
            cors_error: about.and_then(|it| it.cors_error.clone()),
            resource_type,
            duration_ms,
            ..NetworkLoadingFailed::default()
        };
        event(KnownType::NetworkLoadingFailed, &failed)
    } else {
        let text = &har.response.status_text;
        let answered = NetworkResponse {
            context: entry.context.clone(),
            request_id: entry.request_id.clone().into_owned(),
            method: har.request.method.clone(),
            status: entry.status(),
            status_text: (!text.is_empty()).then(|| text.clone()),
            open: (outcome == Outcome::Open).then_some(true),
            resource_type,
            duration_ms,
            ..NetworkResponse::default()
        };
        event(KnownType::NetworkResponse, &answered)
    };
    // Of one that lasts, the event of its answer is not known.
    let seq = about.and_then(|it| it.end_seq);
    implied.push(Implied {
        ts: entry.ended(),
        rank: if outcome == Outcome::Open {
            MILESTONE
        } else {
            END
        },
        seq,
        of: of.filter(|_| !begins),
        event: ended.with_ts(entry.ended()),
    });
}

// ---- what events do not say ----

fn completed(mut finding: Finding, details: &HashMap<u64, Of<'_>>) -> Finding {
    match &mut finding {
        Finding::Request(request) => {
            if let Some(Of::Entry(entry)) = details.get(&request.hop_seq) {
                complete(request, entry);
            }
        }
        Finding::Navigation(navigation) => {
            if let Some(Of::Page(page)) = details.get(&navigation.at.seq) {
                let timings = &page.har.page_timings;
                navigation.lcp = page.after(timings.largest_contentful_paint).map(|ts| Lcp {
                    ts,
                    ..Lcp::default()
                });
                navigation.cls = timings.cumulative_layout_shift.unwrap_or(0.0);
                navigation.caused_by = page.about().and_then(|it| it.caused_by);
                navigation.lost = page.about().map_or(0, |it| it.lost);
            }
        }
        Finding::Problem(_) => {}
    }
    finding
}

fn complete(request: &mut Request, entry: &Entry<'_>) {
    let (har, about) = (entry.har, entry.about());
    request.outcome = entry.outcome();
    request.unknown = about
        .and_then(|it| it.unknown.as_deref())
        .map(|why| match why {
            "restart" => Unknown::Restart,
            "not_captured" => Unknown::NotCaptured,
            "sent_again" => Unknown::SentAgain,
            _ => Unknown::EventsLost,
        });
    let is_answered =
        entry.status() != 0 || matches!(request.outcome, Outcome::Answered | Outcome::Open);
    if request.has_ended() && request.end.is_none() {
        // A WebSocket, whose answer was not its end.
        request.end = Some(End {
            seq: about.and_then(|it| it.end_seq).unwrap_or(request.updated),
            ts: entry.ended(),
        });
    }
    request.response = is_answered.then(|| response(entry));
    request.timing = timing(&har.timings);
    request.encoded_bytes = bytes(har.response.transfer_size);
    if let Some(messages) = &har.web_socket_messages {
        request.websocket = Some(WebSocket {
            messages_dropped: messages.len() as u64 + about.map_or(0, |it| it.messages_dropped),
            code: about.and_then(|it| it.close_code),
            ..WebSocket::default()
        });
    }
    if let Some(about) = about {
        request.start_seen = !about.start_missing;
        request.caused_by = about.caused_by;
        request.proxy_error.clone_from(&about.proxy_error);
        request.lost = about.lost;
    }
}

/// The posted body as far as it is there, its length where that is not all of it, and whether it is left out.
fn posted(request: &HarRequest) -> (Option<String>, Option<u64>, Option<bool>) {
    let Some(posted) = &request.post_data else {
        return (None, None, None);
    };
    let is_whole = posted.comment.is_none();
    let text = posted
        .text
        .clone()
        .filter(|text| is_whole || !text.is_empty());
    let length = bytes(request.body_size).filter(|_| !is_whole);
    let is_omitted = !is_whole && text.is_none();
    (text, length, is_omitted.then_some(true))
}

fn response(entry: &Entry<'_>) -> Response {
    let (answer, about) = (&entry.har.response, entry.about());
    let some = |text: &str, none: &str| (!text.is_empty() && text != none).then(|| text.to_owned());
    let content = &answer.content;
    let body = content.text.clone().filter(|_| content.encoding.is_none());
    let is_whole = content.comment.is_none() && body.is_some();
    let worker =
        (answer.fetched_via_service_worker == Some(true)).then(|| "service_worker".to_owned());
    Response {
        status: entry.status(),
        status_text: some(&answer.status_text, ""),
        headers: headers(&answer.headers),
        mime_type: some(&content.mime_type, "x-unknown"),
        protocol: some(&answer.http_version, "unknown"),
        remote_ip: entry.har.server_ip_address.clone(),
        from_cache: entry.har.from_cache.clone().or(worker),
        body_bytes: bytes(content.size).filter(|_| !is_whole),
        body,
        body_omitted: None,
        canceled: about.is_some_and(|it| it.canceled) && entry.outcome() != Outcome::Failed,
    }
}

/// The phases that took place. Their names are those of events.
fn timing(timings: &Timings) -> Option<NetworkTiming> {
    let phase = |ms: Option<f64>| ms.filter(|ms| 0.0 <= *ms);
    let timing = NetworkTiming {
        blocked: phase(timings.blocked),
        dns: phase(timings.dns),
        connect: phase(timings.connect),
        tls: phase(timings.ssl),
        send: phase(timings.send),
        wait: phase(timings.wait),
        receive: phase(timings.receive),
    };
    (timing != NetworkTiming::default()).then_some(timing)
}

/// Several of one name are joined by line breaks, as in events.
fn headers(pairs: &[NameValue]) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for NameValue { name, value } in pairs {
        let all = headers.entry(name.clone()).or_default();
        if !all.is_empty() {
            all.push('\n');
        }
        all.push_str(value);
    }
    headers
}

/// A whole number; `None` where it is not known, which a HAR writes as -1.
fn bytes(number: Option<f64>) -> Option<u64> {
    number.filter(|it| 0.0 <= *it).map(|it| it as u64)
}

/// As the browser writes it; in a HAR it is in lower case.
fn resource_type(kind: &str) -> String {
    const OTHERS: [&str; 8] = [
        "XHR",
        "WebSocket",
        "EventSource",
        "TextTrack",
        "SignedExchange",
        "CSPViolationReport",
        "FedCM",
        "WebTransport",
    ];
    if let Some(known) = OTHERS.into_iter().find(|it| it.eq_ignore_ascii_case(kind)) {
        return known.to_owned();
    }
    let mut letters = kind.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Microseconds since the Unix epoch.
fn ts(time: Timestamp) -> u64 {
    u64::try_from(time.as_microsecond()).unwrap_or(0)
}
