//! What the machine has to say: events for the session, commands for the browser. Everything goes
//! out through here, so that what is not captured is not told, no text leaves with a secret, and
//! every awaited answer has an age.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tapline_oapi::data::{MonitorInitFailed, NetworkResponse};
use tapline_oapi::{Category, CategorySet, Event, KnownType, Source, SourceKind};

use crate::core::Options;
use crate::redact::{Redaction, cut};
use crate::screenshot::Shot;
use crate::targets::Key;
use crate::timers::Timers;

/// Microseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000;

/// How long the browser may take to answer. A page that hangs does not answer at all.
const ANSWER_AGE: u64 = 15 * SECOND;

/// Bodies asked for and not here yet; a response beyond that is told without its body.
const MAX_BODIES: usize = 256;

/// Pictures asked for and not here yet. Each is some hundred KB, and costs the browser a frame.
const MAX_SCREENSHOTS: usize = 4;

/// Addresses are cut here, in bytes. The longest that servers commonly take.
pub(crate) const MAX_URL: usize = 8 * 1024;

/// `data:` addresses are cut here, in bytes: what follows is the content itself.
const MAX_DATA_URL: usize = 256;

/// What the machine has to say. See [`Core::poll`](crate::Core::poll).
#[derive(Debug, Clone)]
pub enum Output {
    /// To be published.
    Event(Event),
    /// To be sent to the browser.
    Command(Command),
}

/// A command to the browser.
#[derive(Debug, Clone, Serialize)]
pub struct Command {
    /// Its number: 1, 2, 3 … since the connection was made.
    pub id: u64,
    /// What to do, such as `Network.enable`.
    pub method: &'static str,
    /// Its arguments: a JSON object.
    pub params: Box<RawValue>,
    /// The session it is for; none for the browser itself.
    #[serde(rename = "sessionId", skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<str>>,
}

impl Command {
    /// The message as the browser reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts, a number and JSON always serialize")
    }
}

/// A command whose answer matters.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(crate) key: Option<Key>,
    pub(crate) method: &'static str,
    pub(crate) what: What,
    since: u64,
}

/// What the answer is wanted for.
#[derive(Debug)]
pub(crate) enum What {
    /// Whether it went well: without it something stays unseen.
    Setup,
    /// Which document is there already. `new`: the target waited for us, so that nobody has seen it
    /// before.
    Frames { new: bool },
    /// The script's name, to remove it by.
    Script,
    /// The picture of the page.
    Screenshot(Shot),
    /// How large the page is, for a picture of it.
    Metrics(Shot),
    /// The body of this response, which ended at `ts`.
    Body {
        response: Box<NetworkResponse>,
        ts: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Outbox {
    /// Unix microseconds; never goes back.
    pub(crate) now: u64,
    pub(crate) captured: CategorySet,
    pub(crate) options: Options,
    /// The redaction rules for the present message.
    pub(crate) rules: Arc<Redaction>,
    pub(crate) timers: Timers,
    queue: VecDeque<Output>,
    last_id: u64,
    // Ids grow with time, so the first is the oldest.
    awaited: BTreeMap<u64, Awaited>,
    bodies: usize,
    screenshots: usize,
    /// Steps that were told to have failed since the browser came.
    failed: Vec<&'static str>,
}

impl Outbox {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            now: 0,
            captured: options.captured,
            rules: options.redaction.current(),
            options,
            timers: Timers::default(),
            queue: VecDeque::new(),
            last_id: 0,
            awaited: BTreeMap::new(),
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

    /// Tells it, if it is captured: now, because of the browser's event `cause`, if there is one.
    pub(crate) fn tell(
        &mut self,
        known: KnownType,
        cause: Option<&'static str>,
        data: &impl Serialize,
    ) {
        self.tell_at(self.now, known, cause, data);
    }

    pub(crate) fn tell_at(
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

    /// Sends a command whose answer does not matter.
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

    /// Sends a command whose answer matters.
    pub(crate) fn ask(
        &mut self,
        key: Option<Key>,
        session: Option<&str>,
        method: &'static str,
        params: &impl Serialize,
        what: What,
    ) {
        self.send(session, method, params);
        match what {
            What::Body { .. } => self.bodies += 1,
            What::Screenshot(_) => self.screenshots += 1,
            What::Setup | What::Frames { .. } | What::Script | What::Metrics(_) => {}
        }
        let awaited = Awaited {
            key,
            method,
            what,
            since: self.now,
        };
        self.awaited.insert(self.last_id, awaited);
    }

    pub(crate) fn may_ask_for_a_body(&self) -> bool {
        self.bodies < MAX_BODIES
    }

    pub(crate) fn may_ask_for_a_screenshot(&self) -> bool {
        self.screenshots < MAX_SCREENSHOTS
    }

    /// Whom the answer of this id is for.
    pub(crate) fn answered(&mut self, id: u64) -> Option<Awaited> {
        let awaited = self.awaited.remove(&id)?;
        match awaited.what {
            What::Body { .. } => self.bodies -= 1,
            What::Screenshot(_) => self.screenshots -= 1,
            What::Setup | What::Frames { .. } | What::Script | What::Metrics(_) => {}
        }
        Some(awaited)
    }

    /// When the oldest command is not waited for any longer.
    pub(crate) fn next_unanswered(&self) -> Option<u64> {
        let (_, oldest) = self.awaited.first_key_value()?;
        Some(oldest.since + ANSWER_AGE)
    }

    /// Waits for the oldest command no longer.
    pub(crate) fn pop_unanswered(&mut self) -> Option<Awaited> {
        let id = *self.awaited.first_key_value()?.0;
        self.answered(id)
    }

    /// Waits no longer for what this is true of.
    pub(crate) fn forget(&mut self, which: impl Fn(&Awaited) -> bool) -> Vec<Awaited> {
        let ids: Vec<u64> = self
            .awaited
            .iter()
            .filter(|(_, awaited)| which(awaited))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().filter_map(|id| self.answered(id)).collect()
    }

    /// A step of setting up failed. Each is told once for a connection: two hundred tabs fail alike.
    pub(crate) fn tell_failed(&mut self, step: &'static str) {
        if !self.failed.contains(&step) {
            self.failed.push(step);
            self.tell_init_failed(step);
        }
    }

    pub(crate) fn tell_init_failed(&mut self, step: &str) {
        let step = self.text(step);
        self.tell(
            KnownType::MonitorInitFailed,
            None,
            &MonitorInitFailed { step },
        );
    }

    /// Begins anew with another connection: nothing that was asked is answered any more, and what
    /// was not sent yet has nowhere to go.
    pub(crate) fn reconnected(&mut self) {
        self.queue
            .retain(|output| matches!(output, Output::Event(_)));
        self.last_id = 0;
        self.failed.clear();
        debug_assert!(self.awaited.is_empty(), "forgotten when the last one broke");
    }

    /// A text that may leave: without secrets, and not too long.
    pub(crate) fn text(&self, text: &str) -> String {
        self.text_within(text, self.options.text_limit)
    }

    pub(crate) fn text_within(&self, text: &str, limit: usize) -> String {
        self.rules.within(text, limit)
    }

    /// An address that may leave.
    pub(crate) fn url(&self, url: &str) -> String {
        if url.starts_with("data:") {
            // Megabytes at times, none of which is looked at.
            let head = cut(url, 2 * MAX_DATA_URL);
            return self.text_within(head, MAX_DATA_URL);
        }
        self.text_within(url, MAX_URL)
    }

    pub(crate) fn awaiting(&self) -> usize {
        self.awaited.len()
    }
}
