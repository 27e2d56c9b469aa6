//! What is heard beside the copy, and told: commands, how many messages, and what was missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::to_raw_value;
use tapline_oapi::{Category, Event, KnownType, Source, SourceKind};
use tapline_telemetry::TelemetrySession;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::command;
use super::frames::{Frames, Listener, Sender};
use crate::redact::Redaction;

/// How much may wait to be told, in bytes, for each connection. One read of the smallest possible
/// commands, 64 KiB of 30 bytes each, takes a fifth of it.
const MAX_WAITING: usize = 1024 * 1024;

/// What a waiting message costs beside its text.
const OVERHEAD: usize = 64;

/// Publishes what one connection does.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) session: Arc<TelemetrySession>,
    /// The connection's number, by which its events belong together.
    pub(super) connection: u64,
}

impl Teller {
    /// Publishes an event of a known type; its data is made only where that is captured.
    pub(super) fn tell(&self, known: KnownType, data: Option<impl Serialize>) {
        if self.captures(known.category()) {
            let data = data.map(|data| raw(&data));
            self.publish(Event::known(known, data), None);
        }
    }

    fn captures(&self, category: Category) -> bool {
        let config = self.session.config();
        config.is_some_and(|config| config.captured().contains(category))
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
        // What is not captured any more is counted by the session.
        let _ = self.session.publish(event.with_source(source));
    }

    /// Nobody may take what is missing for what did not happen.
    fn tell_missed(&self, missed: &Missed) {
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
    /// So many were not told, because telling those before took too long.
    FellBehind { count: u64 },
    /// None will be told from here on, because the frames could not be read.
    Unreadable,
}

/// A command on its way to be told.
struct Heard {
    /// When it passed, in microseconds since the Unix epoch.
    ts: u64,
    message: Vec<u8>,
}

/// What the copy and the telling of one connection share.
#[derive(Default)]
struct Backlog {
    /// In bytes.
    waiting: AtomicUsize,
    /// Not told yet that they were missed.
    missed: AtomicU64,
}

/// What is kept of the client's messages goes to the one who tells it.
pub(super) struct Commands {
    teller: Teller,
    backlog: Arc<Backlog>,
    told: UnboundedSender<Heard>,
}

impl Listener for Commands {
    fn wants(&mut self) -> bool {
        self.teller.captures(Category::Control)
    }

    fn message(&mut self, message: Vec<u8>) {
        let cost = message.len() + OVERHEAD;
        // Once something was missed, it goes on when half of the room is free: so that it is one gap
        // that is told, and not one behind each command.
        let room = match self.backlog.missed.load(Relaxed) {
            0 => MAX_WAITING,
            _ => MAX_WAITING / 2,
        };
        // Relaxed: what is counted is not what is handed over.
        if self.backlog.waiting.fetch_add(cost, Relaxed) + cost > room {
            self.backlog.waiting.fetch_sub(cost, Relaxed);
            self.backlog.missed.fetch_add(1, Relaxed);
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ts = now.map_or(0, |now| now.as_micros().try_into().unwrap_or(0));
        // It is there for as long as the connection is.
        let _ = self.told.send(Heard { ts, message });
    }
}

/// Hears one direction of a connection. Costs the copy no more than following its frames does, and
/// of a command that is captured a copy of its beginning.
pub(super) struct Tap<L> {
    frames: Frames,
    listener: L,
    readable: bool,
    goodbye: Option<Instant>,
}

impl<L: Listener> Tap<L> {
    fn new(sender: Sender, listener: L) -> Self {
        Self {
            frames: Frames::of(sender),
            listener,
            readable: true,
            goodbye: None,
        }
    }

    /// Hears what has passed. Says why, once, where it cannot be read; from there on it hears nothing.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        if !self.readable {
            return Ok(());
        }
        let read = self.frames.read(bytes, &mut self.listener);
        if self.goodbye.is_none() && self.frames.is_closing() {
            self.goodbye = Some(Instant::now());
        }
        read.map_err(|error| {
            self.readable = false;
            error.to_string()
        })
    }

    /// When this side said that it ends the WebSocket.
    pub(super) fn goodbye(&self) -> Option<Instant> {
        self.goodbye
    }

    /// How many messages were heard.
    pub(super) fn messages(&self) -> u64 {
        self.frames.messages()
    }

    /// Whether all could be read so far.
    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }
}

/// Hears the browser, whose messages are only counted.
pub(super) fn of_browser() -> Tap<()> {
    Tap::new(Sender::Server, ())
}

/// Hears the client. What it hears waits in the second until that is run: [`Telling::run`].
pub(super) fn of_client(teller: &Teller, redaction: &Redaction) -> (Tap<Commands>, Telling) {
    let (told, heard) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let commands = Commands {
        teller: teller.clone(),
        backlog: backlog.clone(),
        told,
    };
    let telling = Telling {
        teller: teller.clone(),
        redaction: redaction.clone(),
        backlog,
        heard,
        missed: 0,
    };
    (Tap::new(Sender::Client, commands), telling)
}

/// Tells what was heard, beside the copy.
pub(super) struct Telling {
    teller: Teller,
    redaction: Redaction,
    backlog: Arc<Backlog>,
    heard: UnboundedReceiver<Heard>,
    missed: u64,
}

impl Telling {
    /// Until its [`Tap`] is gone and all is told. Answers with how many were missed.
    pub(super) async fn run(mut self) -> u64 {
        while let Some(Heard { ts, message }) = self.heard.recv().await {
            let cost = message.len() + OVERHEAD;
            if let Some(command) = command::told(&message, &self.redaction) {
                let data = raw(&command);
                let event = Event::known(KnownType::CdpCommand, Some(data)).with_ts(ts);
                self.teller.publish(event, Some(&command.method));
            }
            if self.backlog.waiting.fetch_sub(cost, Relaxed) - cost <= MAX_WAITING / 2 {
                self.tell_missed();
            }
        }
        self.tell_missed();
        self.missed
    }

    fn tell_missed(&mut self) {
        if self.backlog.missed.load(Relaxed) > 0 {
            let count = self.backlog.missed.swap(0, Relaxed);
            self.missed += count;
            self.teller.tell_missed(&Missed::FellBehind { count });
        }
    }
}

impl Teller {
    /// The frames of the client could not be read.
    pub(super) fn tell_unreadable(&self) {
        self.tell_missed(&Missed::Unreadable);
    }
}

#[cfg(test)]
mod tests {
    use tapline_events::{EventStream, Item, Retention};
    use tapline_telemetry::TelemetryConfig;

    use super::*;

    fn teller() -> Teller {
        let stream = EventStream::new(Retention::default()).unwrap();
        let session = Arc::new(TelemetrySession::new(stream));
        session.start("s", TelemetryConfig::default()).unwrap();
        Teller {
            session,
            connection: 7,
        }
    }

    /// A command of at least that many bytes, in one frame whose mask is nothing.
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

    /// Nobody tells while all of it is heard: what finds room is told later, and the rest is counted.
    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_told_once() {
        let teller = teller();
        let (mut tap, telling) = of_client(&teller, &Redaction::default());
        let frame = command(10_000);
        for _ in 0..200 {
            tap.hear(&frame).unwrap();
        }
        assert_eq!(tap.messages(), 200);
        drop(tap);
        let missed = telling.run().await;
        let told = u64::try_from(MAX_WAITING / (frame.len() - 8 + OVERHEAD)).unwrap();
        assert_eq!(missed, 200 - told);

        let mut reader = teller.session.new_reader(0);
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
        assert_eq!(types.len() as u64, told + 1);
    }

    #[test]
    fn what_is_not_captured_is_not_kept() {
        let teller = teller();
        teller.session.stop();
        let (mut tap, telling) = of_client(&teller, &Redaction::default());
        tap.hear(&command(100)).unwrap();
        assert_eq!(tap.messages(), 1);
        assert!(telling.heard.is_empty());
    }

    #[test]
    fn that_it_cannot_be_read_is_said_once() {
        let mut tap = of_browser();
        assert!(tap.hear(b"\xff\xff").is_err());
        assert!(tap.hear(b"\xff\xff").is_ok());
        assert!(!tap.is_readable());
    }
}
