//! A browser's messages in a file: [`record`] writes them, and a [`Recording`] turns them into
//! events at any later time.
//!
//! A line has one message, the wall time at which it passed, and its direction:
//! `{"t":1795349358709694,"dir":"in","msg":{"method":…}}`. Each connection begins with the command 1.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{self, BufRead, Write};
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{CategorySet, Event};
use tokio::sync::watch;

use crate::core::Core;
use crate::drive::{Direction, EventHandler, PING, SourceOptions, drive};
use crate::options::Options;
use crate::outbox::{Command, Output};
use crate::time::Time;

/// A command that the recording does not contain within this time is answered as if its target had been
/// closed.
const ANSWER_AGE: Duration = Duration::from_secs(1);

/// The most commands of a recording that the core may have left out.
const MAX_NOT_SENT: usize = 1024;

/// The most answers that are kept until the core sends their commands. A body has 4 MiB at most.
const MAX_EARLY: usize = 64;

/// A line, with its message as it was sent.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    t: u64,
    #[serde(default = "inwards")]
    dir: Direction,
    #[serde(borrow)]
    msg: &'a RawValue,
}

fn inwards() -> Direction {
    Direction::In
}

/// The size of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Lines: messages both ways.
    pub messages: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// Connects to a browser, enables everything that can be captured, and writes all messages to `out`
/// until `stop` resolves. Then it leaves the browser as it was. It reconnects after a loss.
///
/// Nothing is redacted: the recording contains cookies, headers and whatever else pages know.
///
/// # Errors
///
/// If `out` fails. The browser is left as it was then, too.
pub async fn record(
    options: &SourceOptions,
    out: impl Write + Send,
    stop: impl Future<Output = ()>,
    progress: impl FnMut(Recorded) + Send,
) -> io::Result<Recorded> {
    let (wanted, want) = watch::channel(Some(CategorySet::ALL));
    let mut recorder = Recorder {
        out,
        progress,
        recorded: Recorded::default(),
        failed: None,
        wanted: wanted.clone(),
    };
    {
        let mut driving = pin!(drive(options, &mut recorder, want));
        tokio::select! {
            () = &mut driving => {}
            () = stop => {
                wanted.send_replace(None);
                driving.await;
            }
        }
    }
    match recorder.failed {
        Some(error) => Err(error),
        None => recorder.out.flush().map(|()| recorder.recorded),
    }
}

struct Recorder<W, P> {
    out: W,
    progress: P,
    recorded: Recorded,
    failed: Option<io::Error>,
    wanted: watch::Sender<Option<CategorySet>>,
}

impl<W: Write + Send, P: FnMut(Recorded) + Send> EventHandler for Recorder<W, P> {
    /// Events are not recorded: a replay makes them again.
    fn event(&mut self, _: Event) {}

    fn message(&mut self, t: u64, dir: Direction, message: &str) {
        // Only JSON is a message, and after a failure nothing more is written.
        if self.failed.is_some() {
            return;
        }
        let Ok(msg) = serde_json::from_str(message) else {
            return;
        };
        let mut line = serde_json::to_vec(&Line { t, dir, msg })
            .expect("a number, a word and JSON always serialize");
        line.push(b'\n');
        if let Err(error) = self.out.write_all(&line) {
            self.failed = Some(error);
            self.wanted.send_replace(None);
            return;
        }
        self.recorded.messages += 1;
        self.recorded.bytes += line.len() as u64;
        (self.progress)(self.recorded);
    }
}

/// The events of a recording: an iterator, in the order of the messages.
///
/// The core sends commands of its own. They are answered as the recording answers the same commands. A
/// command that was not recorded is answered as if its target had been closed.
///
/// A recording has wall times only. The monotonic clock of the replay advances with them, and stands
/// still where they go back.
#[derive(Debug)]
pub struct Recording<R> {
    lines: io::Lines<R>,
    line: u64,
    core: Core,
    connected: bool,
    /// The time of the last message.
    now: Time,
    events: VecDeque<Event>,
    /// Commands of the core that the recording has not reached yet.
    sent: VecDeque<Sent>,
    /// The core's ids by those of the recording.
    ids: HashMap<u64, u64>,
    /// Commands of the recording that the core has not sent, or not yet, by their ids.
    not_sent: HashMap<u64, Call>,
    /// Answers to them: a core of another version may send a command later than the recorder did.
    early: VecDeque<(Call, String)>,
    ended: bool,
}

/// The answer to a command.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    id: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
}

/// A command of the core.
#[derive(Debug)]
struct Sent {
    /// On the monotonic clock.
    at: Duration,
    id: u64,
    call: Call,
}

/// The session, method and arguments by which two commands are the same.
type Call = (Option<String>, String, Value);

/// A line of a recording that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub struct RecordingError {
    /// Counted from 1.
    pub line: u64,
    /// The cause: an I/O error, or a line that is not JSON such as
    /// `{"t":1795349358709694,"dir":"in","msg":{}}`.
    #[source]
    pub source: io::Error,
}

impl<R: BufRead> Recording<R> {
    /// The events of the recording in `read`, with these options.
    pub fn new(read: R, options: Options) -> Self {
        Self {
            lines: read.lines(),
            line: 0,
            core: Core::new(options),
            connected: false,
            now: Time::default(),
            events: VecDeque::new(),
            sent: VecDeque::new(),
            ids: HashMap::new(),
            not_sent: HashMap::new(),
            early: VecDeque::new(),
            ended: false,
        }
    }

    fn take(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let line: Line<'_> = serde_json::from_str(line)?;
        // The first line sets the origin, which may be any.
        let passed = line.t.saturating_sub(self.now.wall);
        let passed = Duration::from_micros(passed);
        self.now.monotonic = self.now.monotonic.saturating_add(passed);
        self.now.wall = line.t;
        self.give_up_old_commands();
        match line.dir {
            Direction::Out => self.sent_then(line.msg)?,
            Direction::In => self.received_then(line.msg)?,
        }
        Ok(())
    }

    /// A command that the recorder sent.
    fn sent_then(&mut self, message: &RawValue) -> Result<(), serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Recorded {
            id: u64,
            method: String,
            #[serde(default)]
            params: Value,
            session_id: Option<String>,
        }
        let recorded: Recorded = serde_json::from_str(message.get())?;
        if recorded.id == 1 {
            self.connect();
        }
        if recorded.id == PING {
            return Ok(());
        }
        let call = (recorded.session_id, recorded.method, recorded.params);
        let same = self.sent.iter().position(|sent| sent.call == call);
        if let Some(sent) = same.and_then(|at| self.sent.remove(at)) {
            self.ids.insert(recorded.id, sent.id);
        } else if self.not_sent.len() < MAX_NOT_SENT {
            self.not_sent.insert(recorded.id, call);
        }
        Ok(())
    }

    /// A message that the browser sent.
    fn received_then(&mut self, message: &RawValue) -> Result<(), serde_json::Error> {
        if !self.connected {
            self.connect();
        }
        if let Ok(mut answer) = serde_json::from_str::<Answer<'_>>(message.get()) {
            if let Some(id) = self.ids.remove(&answer.id) {
                answer.id = id;
                let text = serde_json::to_string(&answer)?;
                self.core.message(self.now, &text);
            } else if let Some(call) = self.not_sent.remove(&answer.id) {
                if self.early.len() == MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((call, message.get().to_owned()));
            }
        } else {
            self.core.message(self.now, message.get());
        }
        self.drain();
        Ok(())
    }

    fn connect(&mut self) {
        if self.connected {
            self.core
                .disconnected(self.now, DisconnectReason::ConnectionLost);
        }
        self.connected = true;
        self.sent.clear();
        self.ids.clear();
        self.not_sent.clear();
        self.early.clear();
        self.core.connected(self.now);
        self.drain();
    }

    /// Answers commands that the recording does not answer.
    fn give_up_old_commands(&mut self) {
        while let Some(oldest) = self.sent.front()
            && oldest.at.saturating_add(ANSWER_AGE) <= self.now.monotonic
        {
            let closed = format!(r#"{{"id":{},"error":{{"code":-32001}}}}"#, oldest.id);
            self.sent.pop_front();
            self.core.message(self.now, &closed);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Event(event) => self.events.push_back(event),
                Output::Command(command) => {
                    let (at, id, call) = (self.now.monotonic, command.id, call_of(command));
                    match self.take_early(id, &call) {
                        // Further outputs are taken in this loop.
                        Some(answer) => self.core.message(self.now, &answer),
                        None => self.sent.push_back(Sent { at, id, call }),
                    }
                }
            }
        }
    }

    /// The recorded answer to this command, if the recorder sent it earlier than the core does.
    fn take_early(&mut self, id: u64, call: &Call) -> Option<String> {
        let same = self.early.iter().position(|(early, _)| early == call)?;
        let (_, answer) = self.early.remove(same)?;
        let mut answer: Answer<'_> = serde_json::from_str(&answer).ok()?;
        answer.id = id;
        serde_json::to_string(&answer).ok()
    }
}

fn call_of(command: Command) -> Call {
    let params = serde_json::from_str(command.params.get()).unwrap_or_default();
    let session = command.session.map(String::from);
    (session, command.method.to_owned(), params)
}

impl<R: BufRead> Iterator for Recording<R> {
    type Item = Result<Event, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            self.line += 1;
            let line = match self.lines.next() {
                Some(Ok(line)) if line.trim().is_empty() => continue,
                Some(line) => line,
                None => {
                    // Requests that are still open have no other end.
                    self.ended = true;
                    self.core
                        .disconnected(self.now, DisconnectReason::ConnectionLost);
                    self.drain();
                    continue;
                }
            };
            let taken = line.and_then(|line| self.take(&line).map_err(io::Error::from));
            if let Err(source) = taken {
                self.ended = true;
                let line = self.line;
                return Some(Err(RecordingError { line, source }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(recording: &str) -> Vec<Result<Event, RecordingError>> {
        Recording::new(recording.as_bytes(), Options::default()).collect()
    }

    #[test]
    fn commands_are_answered_as_they_were_recorded() {
        // The ids are those of a recorder that sent another command first.
        let recording = r#"
            {"t":1000000,"dir":"out","msg":{"id":1,"method":"Other.enable","params":{}}}
            {"t":1000001,"dir":"in","msg":{"method":"Target.attachedToTarget","params":{"sessionId":"S","waitingForDebugger":false,"targetInfo":{"targetId":"T","type":"page","title":"","url":"http://h/"}}}}
            {"t":1000002,"dir":"in","msg":{"method":"Network.requestWillBeSent","params":{"requestId":"R","loaderId":"L","documentURL":"http://h/","request":{"url":"http://h/a","method":"GET","headers":{}},"timestamp":1,"wallTime":1,"initiator":{"type":"script"},"type":"Fetch"},"sessionId":"S"}}
            {"t":1000003,"dir":"in","msg":{"method":"Network.responseReceived","params":{"requestId":"R","loaderId":"L","timestamp":1,"type":"Fetch","response":{"url":"http://h/a","status":200,"statusText":"OK","headers":{},"mimeType":"text/plain"}},"sessionId":"S"}}
            {"t":1000004,"dir":"in","msg":{"method":"Network.loadingFinished","params":{"requestId":"R","timestamp":1,"encodedDataLength":1},"sessionId":"S"}}
            {"t":1000005,"dir":"out","msg":{"id":70,"method":"Network.getResponseBody","params":{"requestId":"R"},"sessionId":"S"}}
            {"t":1000006,"dir":"in","msg":{"id":70,"result":{"body":"then","base64Encoded":false},"sessionId":"S"}}
        "#;
        let events = events(recording);
        let types: Vec<_> = events
            .iter()
            .map(|event| event.as_ref().unwrap().event_type.as_str())
            .collect();
        assert_eq!(
            types,
            [
                "page_tab_opened",
                "network_request",
                "network_response",
                "monitor_disconnected"
            ]
        );
        let response = events[2].as_ref().unwrap().data.as_ref().unwrap();
        assert!(response.get().contains(r#""body":"then""#), "{response}");
    }

    #[test]
    fn a_foreign_recording_gives_the_same_events_each_time() {
        let recording = include_str!("../data/session.ndjson");
        let first: Vec<_> = events(recording)
            .into_iter()
            .map(|event| serde_json::to_string(&event.unwrap()).unwrap())
            .collect();
        assert!(300 < first.len(), "{}", first.len());
        assert!(
            first
                .iter()
                .all(|event| !event.contains("monitor_init_failed"))
        );
        let again = events(recording)
            .into_iter()
            .map(|event| serde_json::to_string(&event.unwrap()).unwrap());
        assert!(again.eq(first));
    }

    #[test]
    fn the_error_has_the_number_of_the_line() {
        let events = events("\n{\"t\":1}\n");
        let error = events[0].as_ref().unwrap_err();
        assert_eq!((events.len(), error.line), (1, 2));
    }
}
