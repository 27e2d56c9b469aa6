//! What a browser said, in a file: [`record`] writes it, and a [`Recording`] is what the machine makes
//! of it, at any later time.
//!
//! A line holds one message, when it passed, and which way it went:
//! `{"t":1795349358709694,"dir":"in","msg":{"method":…}}`. Each connection begins with the command 1.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{self, BufRead, Write};
use std::pin::pin;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{CategorySet, Event};
use tokio::sync::watch;

use crate::core::{Core, Options};
use crate::drive::{Direction, Hear, PING, SourceOptions, drive};
use crate::outbox::{Command, Output};

/// A command that the recording does not answer in that time is not waited for, in microseconds.
const ANSWER_AGE: u64 = 1_000_000;

/// A line with its message as it went over the wire.
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

/// How much was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Lines: messages both ways.
    pub messages: u64,
    /// What they take in the file.
    pub bytes: u64,
}

/// Connects to a browser, switches everything on that can be captured, and writes down what is said
/// until `stop`; then leaves the browser as it was. A browser that is lost is looked for again.
///
/// Nothing is taken out: what is written holds cookies, headers and whatever else pages know.
///
/// # Errors
///
/// Where `out` does not take a line. The browser is left as it was then, too.
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

impl<W: Write + Send, P: FnMut(Recorded) + Send> Hear for Recorder<W, P> {
    /// They can be made again.
    fn event(&mut self, _: Event) {}

    fn passed(&mut self, t: u64, dir: Direction, message: &str) {
        // What is no JSON is no message, and what goes wrong once is not tried again.
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

/// The events of a recording, as the machine tells them: an iterator, in the order of the messages.
///
/// The machine asks its own questions, and they are answered as the recording answers them; what was
/// never asked then is as if the page had gone.
#[derive(Debug)]
pub struct Recording<R> {
    lines: io::Lines<R>,
    line: u64,
    core: Core,
    connected: bool,
    /// The time of the last message.
    t: u64,
    events: VecDeque<Event>,
    /// Commands of the machine that the recording has not come to yet: when, and what.
    asked: VecDeque<(u64, Question, u64)>,
    /// The machine's ids by those of the recording.
    ids: HashMap<u64, u64>,
    ended: bool,
}

/// What makes two commands the same: session, method and arguments.
type Question = (Option<String>, String, Value);

/// A line of a recording that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub struct RecordingError {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong: an I/O error, or no JSON such as `{"t":1795349358709694,"dir":"in","msg":{}}`.
    #[source]
    pub source: io::Error,
}

impl<R: BufRead> Recording<R> {
    /// What this machine makes of the recording in `read`.
    pub fn new(read: R, options: Options) -> Self {
        Self {
            lines: read.lines(),
            line: 0,
            core: Core::new(options),
            connected: false,
            t: 0,
            events: VecDeque::new(),
            asked: VecDeque::new(),
            ids: HashMap::new(),
            ended: false,
        }
    }

    fn take(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let line: Line<'_> = serde_json::from_str(line)?;
        self.t = line.t;
        self.give_up_old_questions();
        match line.dir {
            Direction::Out => self.said(line.msg)?,
            Direction::In => self.heard(line.msg)?,
        }
        Ok(())
    }

    /// What the recorder said then.
    fn said(&mut self, message: &RawValue) -> Result<(), serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Said {
            id: u64,
            method: String,
            #[serde(default)]
            params: Value,
            session_id: Option<String>,
        }
        let said: Said = serde_json::from_str(message.get())?;
        if said.id == 1 {
            self.connect();
        }
        if said.id == PING {
            return Ok(());
        }
        let question = (said.session_id, said.method, said.params);
        let same = self
            .asked
            .iter()
            .position(|(_, asked, _)| *asked == question);
        if let Some((.., id)) = same.and_then(|at| self.asked.remove(at)) {
            self.ids.insert(said.id, id);
        }
        Ok(())
    }

    /// What the browser said then.
    fn heard(&mut self, message: &RawValue) -> Result<(), serde_json::Error> {
        #[derive(Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a> {
            id: u64,
            #[serde(borrow, skip_serializing_if = "Option::is_none")]
            result: Option<&'a RawValue>,
            #[serde(borrow, skip_serializing_if = "Option::is_none")]
            error: Option<&'a RawValue>,
        }
        if !self.connected {
            self.connect();
        }
        if let Ok(mut answer) = serde_json::from_str::<Answer<'_>>(message.get()) {
            if let Some(id) = self.ids.remove(&answer.id) {
                answer.id = id;
                let text = serde_json::to_string(&answer)?;
                self.core.message(self.t, &text);
            }
        } else {
            self.core.message(self.t, message.get());
        }
        self.drain();
        Ok(())
    }

    fn connect(&mut self) {
        if self.connected {
            self.core
                .disconnected(self.t, DisconnectReason::ConnectionLost);
        }
        self.connected = true;
        self.asked.clear();
        self.ids.clear();
        self.core.connected(self.t);
        self.drain();
    }

    /// Answers what the recording does not.
    fn give_up_old_questions(&mut self) {
        let old = |(at, ..): &(u64, Question, u64)| at + ANSWER_AGE <= self.t;
        while self.asked.front().is_some_and(old) {
            if let Some((_, _, id)) = self.asked.pop_front() {
                let gone = format!(r#"{{"id":{id},"error":{{"code":-32001}}}}"#);
                self.core.message(self.t, &gone);
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Event(event) => self.events.push_back(event),
                Output::Command(command) => {
                    let id = command.id;
                    self.asked.push_back((self.t, question(command), id));
                }
            }
        }
    }
}

fn question(command: Command) -> Question {
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
                    // What was open then has no end but this.
                    self.ended = true;
                    self.core
                        .disconnected(self.t, DisconnectReason::ConnectionLost);
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
    fn questions_are_answered_as_they_were_then() {
        // The ids are those of a recorder that asked something else before.
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
    fn a_recording_of_others_gives_the_same_events_each_time() {
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
    fn a_line_that_is_none_is_named() {
        let events = events("\n{\"t\":1}\n");
        let error = events[0].as_ref().unwrap_err();
        assert_eq!((events.len(), error.line), (1, 2));
    }
}
