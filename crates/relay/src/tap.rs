//! Reads a connection's frames beside the copy, and publishes: commands, and how many were missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::to_raw_value;
use tapline_api::Publisher;
use tapline_oapi::{Category, Event, KnownType, Source, SourceKind};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::RedactUrl;
use crate::command;
use crate::frames::{Frames, Listener, Sender};

/// How much may wait to be published, in bytes, for each connection. One read of the shortest possible
/// commands, 64 KiB of 30 bytes each, takes a fifth of it.
const MAX_WAITING: usize = 1024 * 1024;

/// The cost of a waiting message besides its text, in bytes.
const OVERHEAD: usize = 64;

/// Publishes the events of one connection.
#[derive(Clone)]
pub(crate) struct EventPublisher {
    pub(crate) publisher: Publisher,
    /// The connection's number, which all of its events carry.
    pub(crate) connection: u64,
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

    fn publish(&self, event: Event, name: Option<&str>) {
        let source = Source {
            kind: SourceKind::Cdp,
            event: name.map(str::to_owned),
            metadata: BTreeMap::from([(
                "relay_connection".to_owned(),
                self.connection.to_string(),
            )]),
        };
        // An event that is not captured any more is counted by the session.
        let _ = self.publisher.publish(event.with_source(source));
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

/// A command that waits to be published.
struct Waiting {
    /// When it passed, in microseconds since the Unix epoch.
    ts: u64,
    message: Vec<u8>,
}

/// Shared by the tap and the publishing task of one connection.
#[derive(Default)]
struct Backlog {
    /// What waits, in bytes.
    waiting: AtomicUsize,
    /// Missed commands that were not published as a gap yet.
    missed: AtomicU64,
}

/// Hands the client's messages to the publishing task.
pub(crate) struct Commands {
    publisher: EventPublisher,
    backlog: Arc<Backlog>,
    queue: UnboundedSender<Waiting>,
}

impl Listener for Commands {
    fn wants(&mut self) -> bool {
        self.publisher.captures(Category::Control)
    }

    fn message(&mut self, message: Vec<u8>) {
        let cost = message.len() + OVERHEAD;
        // After a miss, commands are taken again when half of the backlog is free. So there is one gap, and
        // not one after each command.
        let limit = match self.backlog.missed.load(Relaxed) {
            0 => MAX_WAITING,
            _ => MAX_WAITING / 2,
        };
        // Relaxed: the message itself is handed over by the channel.
        if self.backlog.waiting.fetch_add(cost, Relaxed) + cost > limit {
            self.backlog.waiting.fetch_sub(cost, Relaxed);
            self.backlog.missed.fetch_add(1, Relaxed);
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ts = now.map_or(0, |now| now.as_micros().try_into().unwrap_or(0));
        // An error means that the publishing task has failed, which is reported when the connection ends.
        let _ = self.queue.send(Waiting { ts, message });
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

/// Reads the browser's messages, which are only counted.
pub(crate) fn of_browser() -> Tap<()> {
    Tap::new(Sender::Server, ())
}

/// Reads the client's messages. Its commands wait until [`PublishCommands::run`] publishes them.
pub(crate) fn of_client(
    publisher: &EventPublisher,
    redact_url: &RedactUrl,
) -> (Tap<Commands>, PublishCommands) {
    let (queue, waiting) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let commands = Commands {
        publisher: publisher.clone(),
        backlog: backlog.clone(),
        queue,
    };
    let publishing = PublishCommands {
        publisher: publisher.clone(),
        redact_url: redact_url.clone(),
        backlog,
        waiting,
        missed: 0,
    };
    (Tap::new(Sender::Client, commands), publishing)
}

/// Publishes a connection's commands, on a task beside the copy.
pub(crate) struct PublishCommands {
    publisher: EventPublisher,
    redact_url: RedactUrl,
    backlog: Arc<Backlog>,
    waiting: UnboundedReceiver<Waiting>,
    missed: u64,
}

impl PublishCommands {
    /// Runs until its [`Tap`] is dropped and all commands are published. Returns how many were missed.
    pub(crate) async fn run(mut self) -> u64 {
        while let Some(Waiting { ts, message }) = self.waiting.recv().await {
            let cost = message.len() + OVERHEAD;
            if let Some(command) = command::read(&message, &self.redact_url) {
                let data = raw(&command);
                let event = Event::known(KnownType::CdpCommand, Some(data)).with_ts(ts);
                self.publisher.publish(event, Some(&command.method));
            }
            if self.backlog.waiting.fetch_sub(cost, Relaxed) - cost <= MAX_WAITING / 2 {
                self.publish_missed();
            }
        }
        self.publish_missed();
        self.missed
    }

    fn publish_missed(&mut self) {
        if self.backlog.missed.load(Relaxed) > 0 {
            let count = self.backlog.missed.swap(0, Relaxed);
            self.missed += count;
            self.publisher.publish_missed(&Missed::FellBehind { count });
        }
    }
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
        let (mut tap, publishing) = of_client(&publisher, &RelayOptions::new("h").redact_url);
        let frame = command(10_000);
        for _ in 0..200 {
            tap.read(&frame).unwrap();
        }
        assert_eq!(tap.messages(), 200);
        drop(tap);
        let missed = publishing.run().await;
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
        let (mut tap, publishing) = of_client(&publisher, &RelayOptions::new("h").redact_url);
        tap.read(&command(100)).unwrap();
        assert_eq!(tap.messages(), 1);
        assert!(publishing.waiting.is_empty());
    }

    #[test]
    fn unreadable_frames_are_reported_once() {
        let mut tap = of_browser();
        assert!(tap.read(b"\xff\xff").is_err());
        assert!(tap.read(b"\xff\xff").is_ok());
        assert!(!tap.is_readable());
    }
}
