//! Which spans there are: a navigation is the root of a trace, and its requests are its children.
//!
//! The events that the sink reads are joined by `tapline-insight`. A span cannot be changed once it is exported, so it
//! waits until its request has ended, or its page has settled, and then for one second more: what is still
//! reported of it comes soon. What never ends is exported when the sink stops, or when too much is kept.
//!
//! Spans are made of events that have an account of their own. So they are counted apart: made = exported + rejected +
//! failed + pending.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tapline_api::{Progress, Settled};
use tapline_insight::{Finding, Input, Insight, Lost, Options};
use tapline_oapi::joins::Navigation;
use tapline_oapi::{Category, Envelope, Epoch, Event, EventType, KnownType};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::encode::put_message;
use crate::record::{Stamps, span_id_of, trace_id_of};
use crate::span::{Link, SpanWriter};

/// So long a span waits for more after its end.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// What is kept of requests and pages that have not ended, and of those that are waiting.
const KEPT: Options = Options {
    requests: 4096,
    request_bytes: 16 * 1024 * 1024,
    messages: 0,
    navigations: 256,
    problems: 0,
    contents: false,
};

/// So many spans, and bytes of them, wait for the endpoint. The oldest fail where there are more.
const MAX_WAITING: usize = 16_384;
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

/// Of so many events that began something it is kept which trace they follow from.
const MAX_LINKS: usize = 8192;

/// Of so many sessions the id is kept.
const MAX_SESSIONS: usize = 64;

/// Makes spans of events.
pub(crate) struct Spans {
    insight: Insight,
    writer: SpanWriter,
    /// By the seq of its first event, what is known of a request or page that has ended.
    ended: BTreeMap<u64, Ended>,
    /// When `ended` was looked at, and the position then.
    looked: (Instant, u64),
    /// The trace that an event follows from, by its seq.
    links: BTreeMap<u64, Link>,
    /// From which seq on which session was the one.
    sessions: VecDeque<(u64, String)>,
    /// The greatest `ts` so far, in microseconds since the Unix epoch.
    last_ts: u64,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It was seen to have ended when the position was this.
    At(u64),
    /// Its span is made.
    Written,
}

impl Spans {
    /// And what they wait in until they are sent.
    pub(crate) fn new(epoch: Epoch, progress: Progress) -> (Self, Arc<Waiting>) {
        let waiting = Arc::new(Waiting::new(progress));
        let spans = Self {
            insight: Insight::new(KEPT),
            writer: SpanWriter::new(epoch),
            ended: BTreeMap::new(),
            looked: (Instant::now(), 0),
            links: BTreeMap::new(),
            sessions: VecDeque::new(),
            last_ts: 0,
            waiting: waiting.clone(),
        };
        (spans, waiting)
    }

    /// Takes an event that is exported.
    pub(crate) fn event(&mut self, stamps: Stamps<'_>, event: &Event) {
        if !matches!(event.category, Category::Network | Category::Page) {
            return;
        }
        let Stamps {
            seq, ts, session, ..
        } = stamps;
        self.last_ts = self.last_ts.max(ts);
        if let Some(session) = session
            && self.sessions.back().is_none_or(|(_, it)| it != session)
        {
            self.sessions.push_back((seq, session.to_owned()));
            if MAX_SESSIONS < self.sessions.len() {
                self.sessions.pop_front();
            }
        }
        let begins = matches!(
            event.event_type,
            EventType::Known(KnownType::NetworkRequest | KnownType::PageNavigation)
        );
        if begins && let Some(link) = link_of(event) {
            self.links.insert(seq, link);
            if MAX_LINKS < self.links.len() {
                self.links.pop_first();
            }
        }
        let event = Event {
            ts,
            ..event.clone()
        };
        self.feed(Input::Event(&Envelope { seq, event }));
    }

    /// These events are missing.
    pub(crate) fn lost(&mut self, first: u64, last: u64) {
        self.feed(Input::Lost(Lost::unknown(first, last)));
    }

    fn feed(&mut self, input: Input<'_>) {
        let mut leaving = Vec::new();
        self.insight.feed(input, &mut |it| leaving.push(it));
        for finding in leaving {
            self.leave(&finding);
        }
    }

    /// When [`make`](Self::make) may have something to do without a further event; `None` where nothing waits.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let has_open = 0 < self.insight.requests().len() || 0 < self.insight.navigations().len();
        has_open.then_some(self.looked.0 + SETTLE)
    }

    /// Makes the spans that are due.
    pub(crate) fn make(&mut self) {
        let now = Instant::now();
        if now < self.looked.0 + SETTLE {
            return;
        }
        let due = self.looked.1;
        self.looked = (now, self.insight.position());
        let (insight, writer, waiting) = (&self.insight, &self.writer, &self.waiting);
        let (links, sessions, last_ts) = (&self.links, &self.sessions, self.last_ts);
        let ended = &mut self.ended;
        let position = insight.position();
        let mut is_due = |seq: u64, has_ended: bool| match ended.get(&seq) {
            Some(Ended::Written) => false,
            // What was taken back waits again.
            _ if !has_ended => {
                ended.remove(&seq);
                false
            }
            Some(Ended::At(at)) if *at <= due => {
                ended.insert(seq, Ended::Written);
                true
            }
            Some(Ended::At(_)) => false,
            None => {
                ended.insert(seq, Ended::At(position));
                false
            }
        };
        for page in insight.navigations().filter(|it| it.is_page()) {
            if is_due(page.at.seq, has_settled(page)) {
                let notes = notes(links, sessions, last_ts, page.at.seq);
                waiting.push(|out| writer.navigation(out, page, notes));
            }
        }
        for request in insight.requests() {
            if is_due(request.at.seq, request.has_ended()) {
                let notes = notes(links, sessions, last_ts, request.at.seq);
                waiting.push(|out| writer.request(out, request, notes));
            }
        }
    }

    /// Makes the spans of everything that is kept: nothing follows.
    pub(crate) fn make_all(&mut self) {
        let insight = std::mem::replace(&mut self.insight, Insight::new(KEPT));
        let mut leaving = Vec::new();
        insight.finish(&mut |it| leaving.push(it));
        for finding in leaving {
            self.leave(&finding);
        }
    }

    fn leave(&mut self, finding: &Finding) {
        let seq = match finding {
            Finding::Request(request) => request.at.seq,
            Finding::Navigation(page) if page.is_page() => page.at.seq,
            Finding::Navigation(_) | Finding::Problem(_) => return,
        };
        if self.ended.remove(&seq) != Some(Ended::Written) {
            let notes = notes(&self.links, &self.sessions, self.last_ts, seq);
            let writer = &self.writer;
            self.waiting.push(|out| match finding {
                Finding::Request(request) => writer.request(out, request, notes),
                Finding::Navigation(page) => writer.navigation(out, page, notes),
                Finding::Problem(_) => {}
            });
        }
        self.links.remove(&seq);
    }
}

/// What the joined request or page does not have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes<'a> {
    pub(crate) link: Option<Link>,
    pub(crate) session: Option<&'a str>,
    /// The time up to which events were read, in microseconds since the Unix epoch.
    pub(crate) last_ts: u64,
}

fn notes<'a>(
    links: &BTreeMap<u64, Link>,
    sessions: &'a VecDeque<(u64, String)>,
    last_ts: u64,
    seq: u64,
) -> Notes<'a> {
    let session = sessions.iter().rev().find(|(from, _)| *from <= seq);
    Notes {
        link: links.get(&seq).copied(),
        session: session.map(|(_, id)| &**id),
        last_ts,
    }
}

/// The span that an event follows from, as its producer said.
fn link_of(event: &Event) -> Option<Link> {
    let metadata = &event.source.metadata;
    let trace = trace_id_of(metadata.get("trace_id")?)?;
    let span = span_id_of(metadata.get("span_id")?)?;
    Some(Link {
        trace: trace.try_into().ok()?,
        span: span.try_into().ok()?,
    })
}

fn has_settled(page: &Navigation) -> bool {
    page.settled.is_some() || page.crashed.is_some() || page.replaced.is_some()
}

/// Spans that are made and not settled, between what makes them and what sends them.
pub(crate) struct Waiting {
    state: Mutex<State>,
    /// Notified where there is more, or nothing follows.
    changed: Notify,
}

struct State {
    /// Oldest first. Each is the field `spans` of a request.
    spans: VecDeque<Vec<u8>>,
    /// The number of the first one, counted from the first one ever.
    first: u64,
    bytes: usize,
    is_closed: bool,
    progress: Progress,
}

/// The first ones that wait.
pub(crate) struct First {
    /// The number of the first of them.
    pub(crate) number: u64,
    pub(crate) count: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Waiting {
    fn new(progress: Progress) -> Self {
        Self {
            state: Mutex::new(State {
                spans: VecDeque::new(),
                first: 0,
                bytes: 0,
                is_closed: false,
                progress,
            }),
            changed: Notify::new(),
        }
    }

    fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        /// The number of the field `spans`, in `ScopeSpans`.
        const SPANS: u32 = 2;
        let mut span = Vec::new();
        put_message(&mut span, SPANS, write);
        let mut state = self.lock();
        state.bytes += span.len();
        state.spans.push_back(span);
        state.progress.make_spans(1);
        while MAX_WAITING < state.spans.len() || MAX_WAITING_BYTES < state.bytes {
            state.settle_first(1, Settled::Failed);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing follows.
    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for spans, and gives the first ones that are within both limits: one at least. `None` once nothing
    /// follows and nothing waits.
    pub(crate) async fn first(&self, max_spans: usize, max_bytes: usize) -> Option<First> {
        loop {
            {
                let state = self.lock();
                if let Some(first) = state.first(max_spans, max_bytes) {
                    return Some(first);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// So many from that number on are settled, but for those that have failed meanwhile because there were too many.
    pub(crate) fn settle(&self, number: u64, count: usize, settled: Settled) {
        let mut state = self.lock();
        let end = number + count as u64;
        let left = usize::try_from(end.saturating_sub(state.first)).unwrap_or(usize::MAX);
        state.settle_first(left.min(count), settled);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn first(&self, max_spans: usize, max_bytes: usize) -> Option<First> {
        let mut bytes = self.spans.front()?.clone();
        let mut count = 1;
        for span in self.spans.iter().take(max_spans).skip(1) {
            if max_bytes < bytes.len() + span.len() {
                break;
            }
            bytes.extend_from_slice(span);
            count += 1;
        }
        Some(First {
            number: self.first,
            count,
            bytes,
        })
    }

    fn settle_first(&mut self, count: usize, settled: Settled) {
        let count = count.min(self.spans.len());
        for span in self.spans.drain(..count) {
            self.bytes -= span.len();
        }
        self.first += count as u64;
        self.progress.settle_spans(settled, count as u64);
    }
}

/// What waits when the run ends has failed.
impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.lock();
        let left = state.spans.len();
        state.settle_first(left, Settled::Failed);
    }
}

/// The sender comes to its end.
impl Drop for Spans {
    fn drop(&mut self) {
        self.waiting.close();
    }
}
