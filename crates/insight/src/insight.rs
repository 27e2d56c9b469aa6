//! From events to requests, navigations and problems: [`Insight`].

use tapline_oapi::data::{Context, EventData};
use tapline_oapi::joins::{At, Navigation, Place, Problem, Request};
use tapline_oapi::{Category, CategorySet, Envelope, Epoch, Event, EventType, KnownType};

use crate::input::{Input, Lost};
use crate::navigation::{Milestone, Navigations, Relation};
use crate::problem::{Occurred, Problems, matters};
use crate::requests::{Bounds, Requests};
use crate::words::{Summary, summary_of};

/// How much is kept, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many requests are kept. Above it the oldest one that has ended leaves, or else the oldest one.
    pub requests: usize,
    /// How many bytes the kept requests may need, by the length of their events. The newest one is kept, however
    /// large it is; an event has at most 1,000,000 bytes.
    pub request_bytes: usize,
    /// How many messages of one WebSocket are kept: the first ones.
    pub messages: usize,
    /// How many navigations are kept. Above it the oldest one leaves.
    pub navigations: usize,
    /// How many problems are kept. Above it the oldest one leaves.
    pub problems: usize,
    /// Whether bodies, posted data and the text of messages are kept. Of an answer that is an error, the first 512 bytes are in any case.
    pub contents: bool,
}

/// 10,000 requests in 64 MiB with 1,000 messages for a WebSocket, 1,000 navigations and 1,000 problems; no contents.
impl Default for Options {
    fn default() -> Self {
        Self {
            requests: 10_000,
            request_bytes: 64 * 1024 * 1024,
            messages: 1_000,
            navigations: 1_000,
            problems: 1_000,
            contents: false,
        }
    }
}

/// Something that leaves, because the limits are reached or nothing follows. It does not change any more.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A request.
    Request(Box<Request>),
    /// A navigation.
    Navigation(Box<Navigation>),
    /// A problem.
    Problem(Box<Problem>),
}

/// What was read, and what was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Tally {
    /// Events that were read.
    pub events: u64,
    /// Events at most that are missing.
    pub lost: u64,
    /// Events of a known type whose data could not be read, or was left out because it was too large. What they
    /// said is missing; where that may be the end of a request, they also count as lost for it.
    pub unreadable: u64,
    /// Events that were ignored, because their seq is not after the one before.
    pub repeated: u64,
    /// Ends of requests that had ended before.
    pub repeated_ends: u64,
    /// Restarts of the server.
    pub restarts: u64,
}

/// Joins events to requests, navigations and problems, one event at a time.
///
/// The result depends on the sequence of inputs alone: not on the time, and not on how the inputs were divided into
/// batches. Memory is bounded by [`Options`]: what is over the limits is handed to the caller, and only then forgotten.
///
/// ```
/// use tapline_insight::{Input, Insight, Options, Outcome};
/// use tapline_oapi::Envelope;
///
/// let mut insight = Insight::new(Options::default());
/// for line in [
///     r#"{"seq":1,"event":{"ts":1000,"type":"network_request","category":"network","data":{"request_id":"7.1","url":"http://h/a.js","method":"GET","document_url":"http://h/","headers":{},"initiator_type":"parser"}}}"#,
///     r#"{"seq":2,"event":{"ts":13000,"type":"network_response","category":"network","data":{"request_id":"7.1","url":"http://h/a.js","method":"GET","status":404,"headers":{},"duration_ms":12}}}"#,
/// ] {
///     let envelope: Envelope = serde_json::from_str(line)?;
///     insight.feed(Input::Event(&envelope), &mut |_| {});
/// }
/// let request = insight.requests().next().unwrap();
/// assert_eq!(request.outcome, Outcome::Answered);
/// assert_eq!(request.sentence(), "GET http://h/a.js answered 404 after 12 ms");
/// assert_eq!(insight.problems().next().unwrap().request, Some(1));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct Insight {
    requests: Requests,
    navigations: Navigations,
    problems: Problems,
    epoch: Option<Epoch>,
    /// The id of the session of the last event that has one.
    session: Option<String>,
    /// How many restarts were read.
    run: u64,
    position: u64,
    tally: Tally,
}

impl Insight {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            requests: Requests::new(Bounds {
                requests: options.requests,
                bytes: options.request_bytes,
                messages: options.messages,
                contents: options.contents,
            }),
            navigations: Navigations::new(options.navigations),
            problems: Problems::new(options.problems),
            epoch: None,
            session: None,
            run: 0,
            position: 0,
            tally: Tally::default(),
        }
    }

    /// Takes the next piece of the stream, and hands what leaves to `leaving`.
    pub fn feed(&mut self, input: Input<'_>, leaving: &mut dyn FnMut(Finding)) {
        match input {
            Input::Event(envelope) => self.event(envelope),
            Input::Lost(lost) => self.lost(lost),
            Input::Epoch(epoch) => {
                if self.epoch.is_some_and(|before| before != epoch) {
                    self.restarted();
                }
                self.epoch = Some(epoch);
            }
            Input::Restarted => self.restarted(),
            Input::Captured(captured) => {
                if !captured.contains(Category::Network) {
                    self.requests.not_captured(self.position);
                }
                self.problems.captured(captured);
            }
        }
        while let Some(request) = self.requests.over_limit() {
            leaving(Finding::Request(request.into()));
        }
        while let Some(navigation) = self.navigations.over_limit() {
            leaving(Finding::Navigation(navigation.into()));
        }
        while let Some(problem) = self.problems.over_limit() {
            leaving(Finding::Problem(problem.into()));
        }
    }

    /// Hands everything that is kept to `leaving`: navigations, requests, problems, each oldest first.
    pub fn finish(mut self, leaving: &mut dyn FnMut(Finding)) -> Tally {
        self.problems.settle_all();
        while let Some(navigation) = self.navigations.pop() {
            leaving(Finding::Navigation(navigation.into()));
        }
        while let Some(request) = self.requests.pop() {
            leaving(Finding::Request(request.into()));
        }
        while let Some(problem) = self.problems.pop() {
            leaving(Finding::Problem(problem.into()));
        }
        self.tally()
    }

    /// The requests that are kept, by the order in which their first events were read.
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &Request> + ExactSizeIterator {
        self.requests.iter()
    }

    /// The navigations that are kept, of pages and of frames, oldest first.
    pub fn navigations(&self) -> impl DoubleEndedIterator<Item = &Navigation> + ExactSizeIterator {
        self.navigations.iter()
    }

    /// The problems that are kept, oldest first, those that were taken back included.
    pub fn problems(&self) -> impl DoubleEndedIterator<Item = &Problem> + ExactSizeIterator {
        self.problems.iter()
    }

    /// What was read so far, and what was not.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            repeated_ends: self.requests.repeated,
            ..self.tally
        }
    }

    /// The epoch of the last event, if it is known.
    #[must_use]
    pub const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The seq up to which everything was read or is known to be missing.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Up to where everything was read: for [`has_changed`](Self::has_changed).
    #[must_use]
    pub const fn at(&self) -> At {
        At {
            run: self.run,
            seq: self.position,
        }
    }

    /// Whether an item that is kept, with its `at` and its `updated`, may have changed after everything up to `since` had been
    /// read. A caller that has all items as of [`at`](Self::at), and takes those that have changed since, has all items again.
    ///
    /// A change of what is captured that is fed between two events is not noticed.
    #[must_use]
    pub const fn has_changed(&self, item: At, updated: u64, since: At) -> bool {
        // The restart that ended a run may have changed whatever was in it.
        since.run < item.run
            || (since.run == item.run && (since.run < self.run || since.seq < updated))
    }

    fn lost(&mut self, lost: Lost) {
        self.position = self.position.max(lost.to);
        self.tally.lost = self.tally.lost.saturating_add(lost.at_most());
        self.missing(lost.at_most(), lost.categories, lost.to);
        self.problems.lost(lost);
    }

    /// Something of these categories is missing, up to the seq `to`.
    fn missing(&mut self, count: u64, categories: CategorySet, to: u64) {
        if categories.contains(Category::Network) {
            self.requests.lost(count, to);
        }
        if categories.contains(Category::Page) {
            self.navigations.lost(count, to);
        }
    }

    fn restarted(&mut self) {
        self.requests.restarted(self.position);
        self.navigations.restarted();
        self.problems.restarted();
        self.epoch = None;
        self.session = None;
        self.run += 1;
        self.position = 0;
        self.tally.restarts += 1;
    }

    fn event(&mut self, envelope: &Envelope) {
        if envelope.seq <= self.position {
            self.tally.repeated += 1;
            return;
        }
        self.position = envelope.seq;
        self.tally.events += 1;
        self.session(envelope);
        self.problems.passed(envelope);

        let event = &envelope.event;
        // A picture is long, and nothing in it is needed.
        if event.event_type == EventType::Known(KnownType::MonitorScreenshot) {
            let summary = Summary {
                text: "a picture".to_owned(),
                is_error: false,
            };
            let target_id = target_of_picture(event);
            self.problems
                .happened(envelope, target_id.as_deref(), &summary);
            return;
        }
        let Ok(Some(data)) = event.typed_data() else {
            if matches!(event.event_type, EventType::Known(_)) {
                self.tally.unreadable += 1;
                self.missing(1, CategorySet::of(&[event.category]), envelope.seq);
            }
            let summary = summary_of(event, None);
            if summary.is_error {
                self.problems.log_error(envelope, &summary);
            }
            self.problems.happened(envelope, None, &summary);
            return;
        };
        let summary = matters(&data).then(|| summary_of(event, Some(&data)));
        let place = place_of(&data);
        let target_id = place.target_id.clone();
        if let Some(data) = self.network(envelope, data, &place) {
            let navigation = self.page(envelope, &data);
            let request = match &data {
                EventData::ProxyError(it) => {
                    let number = self.requests.proxy_failed(envelope, it);
                    number
                        .and_then(|number| self.requests.get(number))
                        .map(|it| it.at.seq)
                }
                _ => None,
            };
            let occurred = Occurred {
                envelope,
                place,
                navigation,
            };
            if let Some(summary) = &summary {
                self.problems.event(occurred, &data, request, summary);
            }
        }
        if let Some(summary) = &summary {
            self.problems
                .happened(envelope, target_id.as_deref(), summary);
        }
    }

    /// Another session than before: what was open in it is not followed any more.
    fn session(&mut self, envelope: &Envelope) {
        let Some(id) = envelope.event.source.metadata.get("telemetry_session_id") else {
            return;
        };
        if self.session.as_ref() == Some(id) {
            return;
        }
        if self.session.replace(id.clone()).is_some() {
            self.requests.not_captured(envelope.seq);
        }
    }

    /// The events of requests. Returns the data if it is of another event.
    fn network(
        &mut self,
        envelope: &Envelope,
        data: EventData,
        place: &Place,
    ) -> Option<EventData> {
        let requests = &mut self.requests;
        let number = match data {
            EventData::NetworkRequest(it) => {
                let number = requests.sent(envelope, it);
                self.link(number, place, envelope.seq);
                return None;
            }
            EventData::NetworkWebsocketMessage(it) => {
                let number = requests.message(envelope, it);
                self.link(number, place, envelope.seq);
                return None;
            }
            EventData::NetworkResponse(it) => requests.answered(envelope, it),
            EventData::NetworkResponseEnd(it) => requests.response_ended(envelope, it),
            EventData::NetworkLoadingFailed(it) => requests.failed(envelope, it),
            EventData::NetworkWebsocketClosed(it) => requests.socket_closed(envelope, it),
            data => return Some(data),
        };
        let number = number?;
        self.link(number, place, envelope.seq);
        if let Some(request) = self.requests.get(number) {
            let occurred = Occurred {
                envelope,
                place: place.clone(),
                navigation: request.navigation,
            };
            self.problems.request(occurred, request);
        }
        None
    }

    /// Finds the page that a request belongs to, if that is not known yet. A document that a tab goes to belongs
    /// to the page that it will become, which is known only when the tab is there.
    fn link(&mut self, number: u64, place: &Place, event: u64) {
        let Some(request) = self
            .requests
            .get(number)
            .filter(|it| it.navigation.is_none())
        else {
            return;
        };
        let is_document = place.loader_id.as_ref() == Some(&request.request_id);
        let relation = match is_document {
            true => Relation::Document,
            false => Relation::Request,
        };
        let Some(page) = self.navigations.page_of(place, relation, event) else {
            return;
        };
        let is_coming = is_document
            && self.navigations.is_top_frame(place)
            && !self
                .navigations
                .has_loader(page, place.loader_id.as_deref());
        if is_coming {
            return;
        }
        if is_document
            && self
                .navigations
                .has_loader(page, place.loader_id.as_deref())
        {
            // What was missed of a tab's first document is reported after its navigation.
            let (seq, ts) = (request.at.seq, request.ts);
            self.navigations.document(page, seq, ts, event);
        }
        let seq = self.navigations.seq(page);
        self.requests.set_navigation(number, seq, event);
    }

    /// The events of pages. Returns the seq of the page that the event belongs to.
    fn page(&mut self, envelope: &Envelope, data: &EventData) -> Option<u64> {
        if let EventData::PageNavigation(it) = data {
            let (number, is_new) = self.navigations.navigated(envelope, it.clone());
            if is_new
                && let Some(document) = self.requests.of_document(&it.loader_id)
                && let Some(request) = self.requests.get(document)
            {
                let (request, ts, event) = (request.at.seq, request.ts, envelope.seq);
                let page = self.navigations.document(number, request, ts, event);
                self.requests.set_navigation(document, page, event);
            }
            return self.navigations.seq(number);
        }
        let context = context_of(data)?;
        let relation = match data {
            EventData::ProxyError(_) => Relation::Request,
            _ => Relation::Present,
        };
        let place = Place::from(context);
        let number = self.navigations.page_of(&place, relation, envelope.seq)?;
        let navigations = &mut self.navigations;
        match data {
            EventData::PageDomContentLoaded(_) => {
                navigations.reached(number, envelope, Milestone::DomContentLoaded);
            }
            EventData::PageLoad(_) => navigations.reached(number, envelope, Milestone::Load),
            EventData::NetworkIdle(_) => {
                navigations.reached(number, envelope, Milestone::NetworkIdle);
            }
            EventData::PageLayoutSettled(_) => {
                navigations.reached(number, envelope, Milestone::LayoutSettled);
            }
            EventData::PageNavigationSettled(_) => {
                navigations.reached(number, envelope, Milestone::Settled);
            }
            EventData::PageCrashed(_) => navigations.reached(number, envelope, Milestone::Crashed),
            EventData::PageLcp(it) => navigations.painted(number, envelope, it.clone()),
            EventData::PageLayoutShift(it) => navigations.shifted(number, envelope, it),
            _ => {}
        }
        self.navigations.seq(number)
    }
}

/// The target that a picture shows, without a copy of the picture.
pub(crate) fn target_of_picture(event: &Event) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Target {
        #[serde(default)]
        target_id: Option<String>,
    }
    let data = event.data.as_deref()?;
    serde_json::from_str::<Target>(data.get()).ok()?.target_id
}

/// Where in the browser an event happened.
pub(crate) fn place_of(data: &EventData) -> Place {
    match data {
        EventData::PageNavigation(it) => Place {
            session_id: it.session_id.clone(),
            target_id: it.target_id.clone(),
            target_type: it.target_type,
            frame_id: Some(it.frame_id.clone()),
            loader_id: Some(it.loader_id.clone()),
            nav_seq: it.nav_seq,
        },
        EventData::PageTabOpened(it) => Place {
            target_id: Some(it.target_id.clone()),
            target_type: Some(it.target_type),
            ..Place::default()
        },
        EventData::CdpCommand(it) => Place {
            session_id: it.session_id.clone(),
            target_id: it.target_id.clone(),
            ..Place::default()
        },
        data => context_of(data).map(Place::from).unwrap_or_default(),
    }
}

/// The context of an event of the browser.
pub(crate) fn context_of(data: &EventData) -> Option<&Context> {
    Some(match data {
        EventData::ConsoleLog(it) => &it.context,
        EventData::ConsoleError(it) => &it.context,
        EventData::NetworkRequest(it) => &it.context,
        EventData::NetworkResponse(it) => &it.context,
        EventData::NetworkResponseEnd(it) => &it.context,
        EventData::NetworkWebsocketMessage(it) => &it.context,
        EventData::NetworkWebsocketClosed(it) => &it.context,
        EventData::NetworkLoadingFailed(it) => &it.context,
        EventData::NetworkIdle(it) => &it.context,
        EventData::ProxyError(it) => &it.context,
        EventData::PageDomContentLoaded(it) => &it.context,
        EventData::PageLoad(it) => &it.context,
        EventData::PageLayoutShift(it) => &it.context,
        EventData::PageLcp(it) => &it.context,
        EventData::PageLayoutSettled(it) => &it.context,
        EventData::PageNavigationSettled(it) => &it.context,
        EventData::PageCrashed(it) => &it.context,
        EventData::InteractionClick(it) => &it.context,
        EventData::InteractionKey(it) => &it.context,
        EventData::InteractionScrollSettled(it) => &it.context,
        EventData::MonitorScreenshot(it) => &it.context,
        _ => return None,
    })
}
