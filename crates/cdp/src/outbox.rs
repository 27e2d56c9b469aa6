//! What the core sends: events for the session, and commands for the browser.
//!
//! All outputs pass through the [`Outbox`]. It drops events that are not captured, removes secrets
//! from texts and cuts them, and gives up on commands that are not answered.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tapline_oapi::data::{InteractionClick, MonitorInitFailed, NetworkResponse};
use tapline_oapi::{Category, CategorySet, Event, KnownType, Source, SourceKind};

use crate::key::Key;
use crate::options::Options;
use crate::protocol::{Beginning, Frame, PageText};
use crate::redact::{MARGIN, Redaction, cut};
use crate::time::Time;
use crate::timers::Timers;

/// How long the browser may take to answer a command. A page that hangs does not answer at all.
const ANSWER_AGE: Duration = Duration::from_secs(15);

/// Bodies that may be pending. A response beyond that is emitted without its body.
const MAX_BODIES: usize = 256;

/// Screenshots that may be pending. Each has some hundred KB, and costs the browser a frame.
const MAX_SCREENSHOTS: usize = 4;

/// The longest URL that is kept, in bytes: the longest that servers commonly accept.
pub(crate) const MAX_URL: usize = 8 * 1024;

/// The longest `data:` URL that is kept, in bytes: the rest of it is content.
const MAX_DATA_URL: usize = 256;

/// An output of the core. See [`Core::poll`](crate::Core::poll).
#[derive(Debug, Clone)]
pub enum Output {
    /// Publish this event.
    Event(Event),
    /// Send this command to the browser.
    Command(Command),
}

/// A command to the browser.
#[derive(Debug, Clone, Serialize)]
pub struct Command {
    /// Its number within the connection, counted from 1.
    pub id: u64,
    /// The method, such as `Network.enable`.
    pub method: &'static str,
    /// The arguments, a JSON object.
    pub params: Box<RawValue>,
    /// The CDP session of the target; none for the browser itself.
    #[serde(rename = "sessionId", skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<str>>,
}

impl Command {
    /// The command as the JSON text that goes to the browser.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts, a number and JSON always serialize")
    }
}

/// A command that was sent and is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The target that it is for; none for the browser itself.
    pub(crate) key: Option<Key>,
    pub(crate) method: &'static str,
    pub(crate) purpose: Purpose,
    since: Duration,
}

/// What the answer to a command is needed for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// To know whether it succeeded: if not, something stays unseen.
    Setup,
    /// To know when all targets that were there are listed.
    Targets,
    /// To learn the document that is already there. `new`: the target was paused for us, so no
    /// event has described that document.
    Frames { new: bool },
    /// To read the page's timeline in a world of its own.
    World,
    /// To learn what was requested for the document of this loader before we were attached.
    Timeline { loader: String },
    /// To learn the identifier by which the script can be removed.
    Script,
    /// To learn which element the frame of this click is.
    FrameOwner(Box<Click>),
    /// To learn where in its target that element is.
    FrameBox(Box<Click>),
    /// To get this screenshot.
    Screenshot(Shot),
    /// To learn the size of the viewport for a smaller screenshot.
    Metrics(Shot),
    /// To get the body of this response.
    Body(EndedResponse),
    /// To get the body that this request posts.
    PostData { id: Box<str> },
}

/// A response that has ended, and is emitted when its body is there.
#[derive(Debug)]
pub(crate) struct EndedResponse {
    pub(crate) response: Box<NetworkResponse>,
    /// The wall time of its end.
    pub(crate) ts: u64,
    /// The browser's event that reported the end.
    pub(crate) cause: Option<&'static str>,
    /// How many bytes of the body the browser has received.
    pub(crate) bytes: u64,
}

/// Which document a screenshot is of, and at what size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shot {
    pub(crate) nav_seq: u64,
    /// Width and height are divided by this.
    pub(crate) shrunk: u8,
}

/// A click whose place in the tab is not known yet.
#[derive(Debug)]
pub(crate) struct Click {
    /// With the coordinates in its own frame.
    pub(crate) data: InteractionClick,
    /// When it was reported, as wall time.
    pub(crate) ts: u64,
    /// The frame in whose viewport it is at `at`. That frame contains the frame of the click, or is it.
    pub(crate) frame: Box<str>,
    pub(crate) at: [f64; 2],
}

#[derive(Debug)]
pub(crate) struct Outbox {
    /// The present moment. Its monotonic part never goes back.
    pub(crate) now: Time,
    pub(crate) captured: CategorySet,
    pub(crate) options: Options,
    /// The redaction rules for the present message.
    pub(crate) rules: Arc<Redaction>,
    pub(crate) timers: Timers,
    queue: VecDeque<Output>,
    last_id: u64,
    // Ids grow with time, so the first is the oldest.
    pending: BTreeMap<u64, Pending>,
    bodies: usize,
    screenshots: usize,
    /// Steps whose failure was reported for this connection.
    failed: Vec<&'static str>,
}

impl Outbox {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            now: Time::default(),
            captured: options.captured,
            rules: options.redaction.current(),
            options,
            timers: Timers::default(),
            queue: VecDeque::new(),
            last_id: 0,
            pending: BTreeMap::new(),
            bodies: 0,
            screenshots: 0,
            failed: Vec::new(),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    pub(crate) fn captures(&self, category: Category) -> bool {
        !category.is_user_facing() || self.captured.contains(category)
    }

    // Events.

    /// Emits an event of the present moment, if it is captured. `cause` is the browser's event that
    /// it comes from, if there is one.
    pub(crate) fn emit(
        &mut self,
        known: KnownType,
        cause: Option<&'static str>,
        data: &impl Serialize,
    ) {
        self.emit_at(self.now.wall, known, cause, data);
    }

    pub(crate) fn emit_at(
        &mut self,
        ts: u64,
        known: KnownType,
        cause: Option<&'static str>,
        data: &impl Serialize,
    ) {
        if !self.captures(known.category()) {
            return;
        }
        let data = to_raw_value(data).expect("texts and numbers always serialize");
        let source = Source {
            event: cause.map(str::to_owned),
            ..Source::of(SourceKind::Cdp)
        };
        let event = Event::known(known, Some(data))
            .with_ts(ts)
            .with_source(source);
        self.queue.push_back(Output::Event(event));
    }

    /// Reports that a setup step failed. Each step is reported once for a connection, because in two
    /// hundred tabs it fails in the same way.
    pub(crate) fn emit_failed_step(&mut self, step: &'static str) {
        if !self.failed.contains(&step) {
            self.failed.push(step);
            self.emit_init_failed(step);
        }
    }

    pub(crate) fn emit_init_failed(&mut self, step: &str) {
        let step = self.plain_text(step, self.options.text_limit);
        let data = MonitorInitFailed {
            step,
            ..Default::default()
        };
        self.emit(KnownType::MonitorInitFailed, None, &data);
    }

    // Commands.

    /// Sends a command whose answer is ignored.
    pub(crate) fn send(
        &mut self,
        session: Option<&str>,
        method: &'static str,
        params: &impl Serialize,
    ) {
        self.last_id += 1;
        self.queue.push_back(Output::Command(Command {
            id: self.last_id,
            method,
            params: to_raw_value(params).expect("texts and numbers always serialize"),
            session: session.map(Into::into),
        }));
    }

    /// Sends a command whose answer is needed.
    pub(crate) fn call(
        &mut self,
        key: Option<Key>,
        session: Option<&str>,
        method: &'static str,
        params: &impl Serialize,
        purpose: Purpose,
    ) {
        self.send(session, method, params);
        match purpose {
            Purpose::Body(_) | Purpose::PostData { .. } => self.bodies += 1,
            Purpose::Screenshot(_) => self.screenshots += 1,
            _ => {}
        }
        let pending = Pending {
            key,
            method,
            purpose,
            since: self.now.monotonic,
        };
        self.pending.insert(self.last_id, pending);
    }

    pub(crate) fn may_request_body(&self) -> bool {
        self.bodies < MAX_BODIES
    }

    pub(crate) fn may_request_screenshot(&self) -> bool {
        self.screenshots < MAX_SCREENSHOTS
    }

    /// Removes the pending command with this id.
    pub(crate) fn take_pending(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        match pending.purpose {
            Purpose::Body(_) | Purpose::PostData { .. } => self.bodies -= 1,
            Purpose::Screenshot(_) => self.screenshots -= 1,
            _ => {}
        }
        Some(pending)
    }

    /// When the oldest pending command is given up.
    pub(crate) fn next_unanswered(&self) -> Option<Duration> {
        let (_, oldest) = self.pending.first_key_value()?;
        Some(oldest.since.saturating_add(ANSWER_AGE))
    }

    /// Gives up the oldest pending command.
    pub(crate) fn take_unanswered(&mut self) -> Option<Pending> {
        let id = *self.pending.first_key_value()?.0;
        self.take_pending(id)
    }

    /// Gives up all pending commands that match.
    pub(crate) fn forget(&mut self, which: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let ids: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| which(pending))
            .map(|(id, _)| *id)
            .collect();
        let take = |id| self.take_pending(id);
        ids.into_iter().filter_map(take).collect()
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Begins a new connection: ids begin at 1, and commands that were not sent yet are dropped.
    pub(crate) fn reconnected(&mut self) {
        self.queue
            .retain(|output| matches!(output, Output::Event(_)));
        self.last_id = 0;
        self.failed.clear();
        debug_assert!(
            self.pending.is_empty(),
            "forgotten when the last connection broke"
        );
    }

    // Texts.

    /// A text for an event: without secrets, and no longer than the configured limit.
    pub(crate) fn text(&self, text: &PageText<'_>) -> String {
        self.text_within(text, self.options.text_limit)
    }

    /// The same with another limit, in bytes.
    pub(crate) fn text_within(&self, text: &PageText<'_>, limit: usize) -> String {
        self.redacted(&text.beginning(limit.saturating_add(MARGIN)), limit)
    }

    /// The same of a text that is known to be short.
    pub(crate) fn plain_text(&self, text: &str, limit: usize) -> String {
        self.rules.within(text, limit)
    }

    /// The same of a text of which [`MARGIN`] more bytes than `limit` have been read already.
    pub(crate) fn redacted(&self, text: &Beginning<'_>, limit: usize) -> String {
        match self.rules.beginning(&text.text, text.is_cut) {
            Cow::Borrowed(text) => cut(text, limit).to_owned(),
            Cow::Owned(mut text) => {
                text.truncate(cut(&text, limit).len());
                text
            }
        }
    }

    /// A URL for an event.
    pub(crate) fn url(&self, url: &PageText<'_>) -> String {
        self.url_with_fragment(url, None)
    }

    /// The URL of a frame for an event. If the browser shows its own page about a failure, it is the address
    /// that failed.
    pub(crate) fn frame_url(&self, frame: &Frame<'_>) -> String {
        match &frame.unreachable_url {
            Some(unreachable) => self.url(unreachable),
            None => self.url_with_fragment(&frame.url, frame.url_fragment.as_ref()),
        }
    }

    /// A URL for an event, of which the browser reports the fragment apart.
    pub(crate) fn url_with_fragment(
        &self,
        url: &PageText<'_>,
        fragment: Option<&PageText<'_>>,
    ) -> String {
        let limit = if url.starts_with("data:") {
            MAX_DATA_URL
        } else {
            MAX_URL
        };
        let mut whole = url.beginning(limit + MARGIN);
        if let Some(fragment) = fragment.filter(|_| !whole.is_cut) {
            let more = fragment.beginning(limit + MARGIN - whole.text.len());
            whole.text.to_mut().push_str(&more.text);
            whole.is_cut = more.is_cut;
        }
        self.redacted(&whole, limit)
    }
}
