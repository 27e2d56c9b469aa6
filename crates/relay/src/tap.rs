//! Reads a connection's frames beside the copy, and publishes: commands, and how many were missed.
//!
//! Of the browser's messages, only answers and `Target.attachedToTarget` are read: they say which session
//! belongs to which target, and what followed from a command.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tapline_api::{Answered, Cause, Effect, Envelope, Publisher, Trace};
use tapline_oapi::{Category, Event, KnownType, Source, SourceKind};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::command::{self, Command};
use crate::frames::{Frames, KEPT, Listener, Sender};
use crate::{CommandUrls, RedactUrl};

/// How much may wait to be published, in bytes, for each connection. One read of the shortest possible
/// commands, 64 KiB of 30 bytes each, takes a fifth of it.
const MAX_WAITING: usize = 1024 * 1024;

/// The cost of a waiting message besides its text, in bytes.
const OVERHEAD: usize = 64;

/// How much of an answer is kept, in bytes: those to the commands that have effects are shorter.
const KEPT_ANSWER: usize = 4 * 1024;

/// How much of the browser's messages is kept while no commands are captured: enough for the ids at the
/// beginning of `Target.attachedToTarget`.
const KEPT_IDS: usize = 512;

/// How many sessions a connection may have whose target is known. Further ones have none.
const MAX_SESSIONS: usize = 4096;

/// How many commands may wait for an answer that says what followed. Beyond it, the oldest is given up.
const MAX_AWAITED: usize = 64;

const ATTACHED: &[u8] = br#"{"method":"Target.attachedToTarget","#;
const DETACHED: &[u8] = br#"{"method":"Target.detachedFromTarget","#;
const ANSWER: &[u8] = br#"{"id":"#;

/// Publishes the events of one connection.
#[derive(Clone)]
pub(crate) struct EventPublisher {
    pub(crate) publisher: Publisher,
    /// The connection's number, which the metadata of all its events carries.
    pub(crate) connection: u64,
    /// The connection's id, which their data carries.
    pub(crate) connection_id: String,
    /// The trace that the client's request belongs to.
    pub(crate) trace: Option<Trace>,
}

impl EventPublisher {
    /// Publishes an event of a known type; its data is serialized only where the category is captured.
    pub(crate) fn publish_known(&self, known: KnownType, data: impl Serialize) {
        if self.captures(known.category()) {
            self.publish(Event::known(known, Some(raw(&data))), None);
        }
    }

    /// Publishes that the frames of the client cannot be read.
    pub(crate) fn publish_unreadable(&self) {
        self.publish_missed(&Missed::Unreadable);
    }

    /// Publishes that the task which publishes this connection's commands has failed.
    pub(crate) fn publish_failed(&self) {
        self.publish_missed(&Missed::Failed);
    }

    fn captures(&self, category: Category) -> bool {
        self.publisher.captures(category)
    }

    fn publish(&self, event: Event, name: Option<&str>) -> Option<Envelope> {
        let mut event = event.with_source(Source {
            kind: SourceKind::Cdp,
            event: name.map(str::to_owned),
            metadata: BTreeMap::from([(
                "relay_connection".to_owned(),
                self.connection.to_string(),
            )]),
        });
        if let Some(trace) = &self.trace {
            trace.mark(&mut event.source);
        }
        // An event that is not captured any more is counted by the session.
        self.publisher.publish(event).ok()
    }

    /// Publishes a gap, so that missing commands are not taken for commands that were never sent.
    fn publish_missed(&self, missed: &Missed) {
        let event = Event::custom("cdp_commands_missed", Category::Monitor, Some(raw(missed)));
        self.publish(event.expect("the type is not empty"), None);
    }
}

fn raw(data: &impl Serialize) -> Box<serde_json::value::RawValue> {
    to_raw_value(data).expect("texts and numbers always serialize")
}

/// `data` of `cdp_commands_missed`.
#[derive(Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
enum Missed {
    /// So many were not published, because the backlog was full.
    FellBehind { count: u64 },
    /// None is published from here on, because the frames cannot be read.
    Unreadable,
    /// Some of those before, and none from here on, are published: the relay has a fault, which is in its log.
    Failed,
}

/// A message that waits to be read.
enum Waiting {
    Command {
        /// When it passed, in microseconds since the Unix epoch.
        ts: u64,
        message: Vec<u8>,
    },
    /// Of the browser.
    FromBrowser(Vec<u8>),
}

impl Waiting {
    fn cost(&self) -> usize {
        let (Self::Command { message, .. } | Self::FromBrowser(message)) = self;
        message.len() + OVERHEAD
    }
}

/// Shared by the taps and the publishing task of one connection.
#[derive(Default)]
struct Backlog {
    /// What waits, in bytes.
    waiting: AtomicUsize,
    /// Missed commands that were not published as a gap yet.
    missed: AtomicU64,
}

impl Backlog {
    /// Whether this fits, and counts it then.
    fn takes(&self, cost: usize, limit: usize) -> bool {
        // Relaxed: the message itself is handed over by the channel.
        let fits = self.waiting.fetch_add(cost, Relaxed) + cost <= limit;
        if !fits {
            self.waiting.fetch_sub(cost, Relaxed);
        }
        fits
    }
}

/// Hands the client's messages to the publishing task.
pub(crate) struct Commands {
    publisher: EventPublisher,
    backlog: Arc<Backlog>,
    queue: UnboundedSender<Waiting>,
}

impl Listener for Commands {
    fn wants(&mut self) -> Option<usize> {
        self.publisher.captures(Category::Control).then_some(KEPT)
    }

    fn message(&mut self, message: Vec<u8>) {
        // After a miss, commands are taken again when half of the backlog is free. So there is one gap, and
        // not one after each command.
        let limit = match self.backlog.missed.load(Relaxed) {
            0 => MAX_WAITING,
            _ => MAX_WAITING / 2,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ts = now.map_or(0, |now| now.as_micros().try_into().unwrap_or(0));
        let command = Waiting::Command { ts, message };
        if !self.backlog.takes(command.cost(), limit) {
            self.backlog.missed.fetch_add(1, Relaxed);
            return;
        }
        // An error means that the publishing task has failed, which is reported when the connection ends.
        let _ = self.queue.send(command);
    }
}

/// Hands those of the browser's messages to the publishing task that say something about commands.
pub(crate) struct Answers {
    publisher: EventPublisher,
    backlog: Arc<Backlog>,
    queue: UnboundedSender<Waiting>,
    /// Whether commands were captured when the message began.
    captured: bool,
}

impl Listener for Answers {
    fn wants(&mut self) -> Option<usize> {
        self.captured = self.publisher.captures(Category::Control);
        Some(if self.captured { KEPT_ANSWER } else { KEPT_IDS })
    }

    fn message(&mut self, message: Vec<u8>) {
        let is_answer = self.captured && message.len() < KEPT_ANSWER && message.starts_with(ANSWER);
        if is_answer || message.starts_with(ATTACHED) || message.starts_with(DETACHED) {
            let message = Waiting::FromBrowser(message);
            // Without it, a target or a cause is not known: no event is missing.
            if self.backlog.takes(message.cost(), MAX_WAITING / 2) {
                let _ = self.queue.send(message);
            }
        }
    }
}

/// Reads one direction of a connection. It costs the copy the parsing of frame headers, and for a captured
/// command a copy of its beginning.
pub(crate) struct Tap<L> {
    frames: Frames,
    listener: L,
    readable: bool,
    close_sent_at: Option<Instant>,
}

impl<L: Listener> Tap<L> {
    fn new(sender: Sender, listener: L) -> Self {
        Self {
            frames: Frames::of(sender),
            listener,
            readable: true,
            close_sent_at: None,
        }
    }

    /// Reads bytes that were copied. Returns an error once, where they cannot be read; further bytes are
    /// ignored.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !self.readable {
            return Ok(());
        }
        let read = self.frames.read(bytes, &mut self.listener);
        if self.close_sent_at.is_none() && self.frames.is_closing() {
            self.close_sent_at = Some(Instant::now());
        }
        read.map_err(|error| {
            self.readable = false;
            error.to_string()
        })
    }

    /// When this side sent its close frame.
    pub(crate) fn close_sent_at(&self) -> Option<Instant> {
        self.close_sent_at
    }

    /// How many messages were read.
    pub(crate) fn messages(&self) -> u64 {
        self.frames.messages()
    }

    /// Whether all bytes could be read so far.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }
}

/// Reads both directions of a connection. What they say waits until [`PublishCommands::run`] reads it.
///
/// `target` is the target of a connection to a page.
pub(crate) fn of_connection(
    publisher: &EventPublisher,
    target: Option<String>,
    redact_url: &RedactUrl,
    urls: CommandUrls,
) -> (Tap<Commands>, Tap<Answers>, PublishCommands) {
    let (queue, waiting) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let answers = Answers {
        publisher: publisher.clone(),
        backlog: backlog.clone(),
        queue: queue.clone(),
        captured: false,
    };
    let commands = Commands {
        publisher: publisher.clone(),
        backlog: backlog.clone(),
        queue,
    };
    let publishing = PublishCommands {
        publisher: publisher.clone(),
        redact_url: redact_url.clone(),
        urls,
        backlog,
        waiting,
        counts: Counts::default(),
        target,
        sessions: HashMap::new(),
        awaited: VecDeque::new(),
    };
    (
        Tap::new(Sender::Client, commands),
        Tap::new(Sender::Server, answers),
        publishing,
    )
}

/// How many commands of a connection have no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Messages that were not read, because the backlog was full.
    pub(crate) missed: u64,
    /// Commands whose method is excluded.
    pub(crate) excluded: u64,
}

/// Publishes a connection's commands, on a task beside the copy.
pub(crate) struct PublishCommands {
    publisher: EventPublisher,
    redact_url: RedactUrl,
    urls: CommandUrls,
    backlog: Arc<Backlog>,
    waiting: UnboundedReceiver<Waiting>,
    counts: Counts,
    /// The target of commands without a session, where it is known.
    target: Option<String>,
    /// The targets of the client's sessions.
    sessions: HashMap<String, String>,
    awaited: VecDeque<Awaited>,
}

/// A published command whose answer says what follows.
struct Awaited {
    session: Option<String>,
    id: i64,
    seq: u64,
}

/// An answer of the browser.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: i64,
    session_id: Option<String>,
    #[serde(default)]
    result: AnswerResult,
}

/// Its result.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnswerResult {
    loader_id: Option<String>,
    target_id: Option<String>,
}

impl PublishCommands {
    /// Runs until both taps are dropped and all commands are published.
    pub(crate) async fn run(mut self) -> Counts {
        while let Some(waiting) = self.waiting.recv().await {
            let cost = waiting.cost();
            match waiting {
                Waiting::Command { ts, message } => self.publish(ts, &message),
                Waiting::FromBrowser(message) => self.read(&message),
            }
            if self.backlog.waiting.fetch_sub(cost, Relaxed) - cost <= MAX_WAITING / 2 {
                self.publish_missed();
            }
        }
        self.publish_missed();
        self.counts
    }

    fn publish(&mut self, ts: u64, message: &[u8]) {
        let Some(command) = command::read(message, &self.redact_url, self.urls) else {
            return;
        };
        let Command {
            drives,
            mut data,
            effect,
        } = command;
        if self.publisher.publisher.excludes(&data.method) {
            self.counts.excluded += 1;
            return;
        }
        let target = match &data.session_id {
            Some(session) => self.sessions.get(session),
            None => self.target.as_ref(),
        };
        let target = target.cloned();
        data.connection_id = Some(self.publisher.connection_id.clone());
        let effect = effect.and_then(|effect| effect.within(target.as_deref()));
        // That of an argument is the one that the command is about.
        data.target_id = data.target_id.or(target);
        let event = match drives {
            true => Event::known(KnownType::CdpCommand, Some(raw(&data))),
            false => Event::custom("cdp_command_other", Category::Control, Some(raw(&data)))
                .expect("the type is not empty"),
        };
        let published = self
            .publisher
            .publish(event.with_ts(ts), Some(&data.method));
        if let (Some(envelope), Some(effect)) = (published, effect) {
            let cause = Cause {
                seq: envelope.seq(),
                trace: self.publisher.trace.clone(),
            };
            self.expect(cause, effect, data.command_id, data.session_id);
        }
    }

    fn expect(&mut self, cause: Cause, effect: Effect, id: Option<i64>, session: Option<String>) {
        // The answer to a reload names no document.
        let is_awaited = matches!(
            effect,
            Effect::Navigation { url: Some(_), .. } | Effect::Tab { .. }
        );
        if let Some(id) = id.filter(|_| is_awaited) {
            if self.awaited.len() == MAX_AWAITED {
                self.awaited.pop_front();
            }
            let seq = cause.seq;
            self.awaited.push_back(Awaited { session, id, seq });
        }
        self.publisher.publisher.causes().expect(cause, effect);
    }

    /// Reads a message of the browser.
    fn read(&mut self, message: &[u8]) {
        if message.starts_with(ATTACHED) {
            if let (Some(session), Some(target)) =
                (id_of(message, "sessionId"), id_of(message, "targetId"))
                && self.sessions.len() < MAX_SESSIONS
            {
                self.sessions.insert(session, target);
            }
        } else if message.starts_with(DETACHED) {
            if let Some(session) = id_of(message, "sessionId") {
                self.sessions.remove(&session);
            }
        } else if !self.awaited.is_empty()
            && let Ok(answer) = serde_json::from_slice::<Answer>(message)
        {
            self.answered(answer);
        }
    }

    fn answered(&mut self, answer: Answer) {
        let is_its = |it: &Awaited| it.id == answer.id && it.session == answer.session_id;
        let Some(at) = self.awaited.iter().position(is_its) else {
            return;
        };
        let Some(awaited) = self.awaited.remove(at) else {
            return;
        };
        let result = match (answer.result.loader_id, answer.result.target_id) {
            (Some(loader), _) => Answered::Loader(loader),
            (None, Some(target)) => Answered::Target(target),
            (None, None) => Answered::Nothing,
        };
        self.publisher
            .publisher
            .causes()
            .answered(awaited.seq, result);
    }

    fn publish_missed(&mut self) {
        if self.backlog.missed.load(Relaxed) > 0 {
            let count = self.backlog.missed.swap(0, Relaxed);
            self.counts.missed += count;
            self.publisher.publish_missed(&Missed::FellBehind { count });
        }
    }
}

/// An id at the beginning of a message, which may be cut.
fn id_of(message: &[u8], name: &str) -> Option<String> {
    let key = format!("\"{name}\":\"");
    let text = match str::from_utf8(message) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&message[..error.valid_up_to()]).ok()?,
    };
    let (_, rest) = text.split_once(&key)?;
    let (id, _) = rest.split_once('"')?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use tapline_api::ApiService;
    use tapline_events::{EventStream, Item, Retention};
    use tapline_telemetry::{TelemetryConfig, TelemetrySession};

    use super::*;
    use crate::RelayOptions;

    /// A running session, and a publisher into it.
    fn session() -> (Arc<TelemetrySession>, EventPublisher) {
        let stream = EventStream::new(Retention::default()).unwrap();
        let session = Arc::new(TelemetrySession::new(stream));
        let api = ApiService::new(session.clone());
        session.start("s", TelemetryConfig::default()).unwrap();
        let publisher = EventPublisher {
            publisher: api.publisher(),
            connection: 7,
            connection_id: "c7".to_owned(),
            trace: None,
        };
        (session, publisher)
    }

    /// A command of at least that many bytes, in one frame with a mask of zeros.
    fn command(length: usize) -> Vec<u8> {
        let text = format!(
            r#"{{"id":1,"method":"A.b","params":"{}"}}"#,
            "x".repeat(length)
        );
        let length = u16::try_from(text.len()).unwrap();
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.bytes());
        frame
    }

    /// All of it is read before anything is published: what fits into the backlog is published, the rest is counted.
    #[tokio::test]
    async fn what_does_not_fit_into_the_backlog_is_counted_and_reported_once() {
        let (session, publisher) = session();
        let redact = RelayOptions::new("h").redact_url;
        let (mut tap, _, publishing) = of_connection(&publisher, None, &redact, CommandUrls::Host);
        let frame = command(10_000);
        for _ in 0..200 {
            tap.read(&frame).unwrap();
        }
        assert_eq!(tap.messages(), 200);
        drop(tap);
        let missed = publishing.run().await.missed;
        let published = u64::try_from(MAX_WAITING / (frame.len() - 8 + OVERHEAD)).unwrap();
        assert_eq!(missed, 200 - published);

        let mut reader = session.new_reader(0);
        let mut types = Vec::new();
        while let Some(Item::Envelope(envelope)) = reader.try_next() {
            types.push(envelope.event().event_type.as_str().to_owned());
            if types.last().unwrap() == "cdp_commands_missed" {
                let data = envelope.event().data.as_ref().unwrap();
                let expected = format!(r#"{{"reason":"fell_behind","count":{missed}}}"#);
                assert_eq!(data.get(), expected);
            }
        }
        let missed = types.iter().filter(|it| *it == "cdp_commands_missed");
        assert_eq!(missed.count(), 1);
        assert_eq!(types.len() as u64, published + 1);
    }

    #[test]
    fn messages_are_not_kept_where_control_is_not_captured() {
        let (session, publisher) = session();
        session.stop();
        let redact = RelayOptions::new("h").redact_url;
        let (mut tap, _, publishing) = of_connection(&publisher, None, &redact, CommandUrls::Host);
        tap.read(&command(100)).unwrap();
        assert_eq!(tap.messages(), 1);
        assert!(publishing.waiting.is_empty());
    }

    #[test]
    fn unreadable_frames_are_reported_once() {
        let (_session, publisher) = session();
        let redact = RelayOptions::new("h").redact_url;
        let (_, mut tap, _) = of_connection(&publisher, None, &redact, CommandUrls::Host);
        assert!(tap.read(b"\xff\xff").is_err());
        assert!(tap.read(b"\xff\xff").is_ok());
        assert!(!tap.is_readable());
    }
}
