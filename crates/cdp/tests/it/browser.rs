//! A browser that sends what a test makes it send, and answers commands.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tapline_cdp::{Command, Core, Options, Output, Time};
use tapline_oapi::Event;

/// The wall clock at the start of every test, in microseconds since the Unix epoch.
pub(crate) const START: u64 = 1_795_349_358_000_000;

/// The monotonic clock at the start of every test. It has nothing to do with the wall clock.
const ORIGIN: Duration = Duration::from_secs(7);

pub(crate) const MS: u64 = 1000;

/// A core, and the browser that it follows.
pub(crate) struct Browser {
    pub(crate) core: Core,
    /// Both clocks: the monotonic one advances with `at`, and the wall clock with it and `steps_clock`.
    pub(crate) now: Time,
    /// By how many microseconds the wall clock was set forward, or back.
    pub(crate) step: i64,
    /// Answers by method; for others it is an empty result.
    answers: Vec<(&'static str, Value)>,
    /// Methods that are not answered at all.
    silent: Vec<&'static str>,
    events: Vec<Event>,
    commands: Vec<Command>,
}

impl Browser {
    /// A browser that is connected, has no target yet, and answers at once.
    pub(crate) fn new(options: Options) -> Self {
        let mut browser = Self::absent(options);
        let blank = json!({"frame": {"id": "F", "loaderId": "L0", "url": "about:blank"}});
        browser.answers = vec![
            ("Page.getFrameTree", json!({"result": {"frameTree": blank}})),
            (
                "Page.addScriptToEvaluateOnNewDocument",
                json!({"result": {"identifier": "1"}}),
            ),
            (
                "Network.getResponseBody",
                json!({"result": {"body": "a body", "base64Encoded": false}}),
            ),
            (
                "Page.captureScreenshot",
                json!({"result": {"data": "cGljdHVyZQ=="}}),
            ),
        ];
        browser.core.connected(browser.now);
        browser.settle();
        browser
    }

    /// A core whose browser is not connected.
    pub(crate) fn absent(options: Options) -> Self {
        Self {
            core: Core::new(options),
            now: Time {
                monotonic: ORIGIN,
                wall: START,
            },
            step: 0,
            answers: Vec::new(),
            silent: Vec::new(),
            events: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Answers this method in that way from now on: `{"result": …}` or `{"error": …}`.
    pub(crate) fn answers(&mut self, method: &'static str, answer: Value) {
        self.answers.retain(|(it, _)| *it != method);
        self.answers.push((method, answer));
    }

    pub(crate) fn never_answers(&mut self, method: &'static str) {
        self.silent.push(method);
    }

    /// Moves to that many milliseconds after the start.
    pub(crate) fn at(&mut self, ms: u64) -> &mut Self {
        self.moves_to(ORIGIN + Duration::from_millis(ms))
    }

    /// Moves to this monotonic time.
    pub(crate) fn moves_to(&mut self, monotonic: Duration) -> &mut Self {
        let passed = monotonic.saturating_sub(ORIGIN).as_micros();
        let wall = START + u64::try_from(passed).unwrap();
        self.now = Time {
            monotonic,
            wall: wall.checked_add_signed(self.step).unwrap(),
        };
        self
    }

    /// Moves that much further.
    pub(crate) fn passes(&mut self, time: Duration) -> &mut Self {
        self.moves_to(self.now.monotonic + time)
    }

    /// The wall clock is set forward by that many seconds, or back.
    pub(crate) fn steps_clock(&mut self, seconds: i64) -> &mut Self {
        self.step += seconds * 1_000_000;
        self.passes(Duration::ZERO)
    }

    /// Sends this text.
    pub(crate) fn sends(&mut self, message: &str) {
        self.core.message(self.now, message);
        self.settle();
    }

    /// Sends an event, through a session or of the browser itself.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "each call makes its parameters on the spot"
    )]
    pub(crate) fn reports(&mut self, session: Option<&str>, method: &str, params: Value) {
        let mut message = json!({"method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        // Serialized with its keys in another order than a browser's; that is good JSON, too.
        self.sends(&message.to_string());
    }

    /// Time passes, and nothing happens.
    pub(crate) fn waits(&mut self) {
        self.core.timer(self.now);
        self.settle();
    }

    /// Time passes until that many milliseconds after the start. What is due is done when it is due.
    pub(crate) fn waits_until(&mut self, ms: u64) {
        let end = ORIGIN + Duration::from_millis(ms);
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.moves_to(due).waits();
        }
        self.moves_to(end).waits();
    }

    /// Takes the core's outputs, and answers its commands.
    pub(crate) fn settle(&mut self) {
        let mut asked = VecDeque::new();
        loop {
            while let Some(output) = self.core.poll() {
                match output {
                    Output::Event(event) => self.events.push(event),
                    Output::Command(command) => asked.push_back(command),
                }
            }
            let Some(command) = asked.pop_front() else {
                return;
            };
            if !self.silent.contains(&command.method) {
                let known = self.answers.iter().find(|(it, _)| *it == command.method);
                let mut answer = known.map_or(json!({"result": {}}), |(_, answer)| answer.clone());
                answer["id"] = json!(command.id);
                self.core.message(self.now, &answer.to_string());
            }
            self.commands.push(command);
        }
    }

    /// Takes the events so far.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes the events so far, each as its type and the milliseconds since the start.
    pub(crate) fn emitted(&mut self) -> Vec<(String, u64)> {
        let emitted = |event: &Event| (event.event_type.to_string(), (event.ts - START) / MS);
        self.events().iter().map(emitted).collect()
    }

    /// Takes all events, and returns the `data` of those of this type.
    pub(crate) fn data(&mut self, name: &str) -> Vec<Value> {
        let events = self.events();
        let named = events
            .iter()
            .filter(|event| event.event_type.as_str() == name);
        named.map(data_of).collect()
    }

    /// Takes the commands so far.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Takes the commands so far, by their methods.
    pub(crate) fn methods(&mut self) -> Vec<&'static str> {
        self.commands()
            .iter()
            .map(|command| command.method)
            .collect()
    }

    // Usual events of a browser.

    /// A tab `target` is reported, with this session.
    pub(crate) fn tab(&mut self, session: &str, target: &str) {
        self.attached(None, session, target, "page", false);
    }

    pub(crate) fn attached(
        &mut self,
        through: Option<&str>,
        session: &str,
        target: &str,
        kind: &str,
        waiting: bool,
    ) {
        self.reports(
            through,
            "Target.attachedToTarget",
            json!({
                "sessionId": session,
                "targetInfo": {"targetId": target, "type": kind, "title": "", "url": "about:blank"},
                "waitingForDebugger": waiting,
            }),
        );
    }

    pub(crate) fn detached(&mut self, session: &str) {
        self.reports(
            None,
            "Target.detachedFromTarget",
            json!({"sessionId": session}),
        );
    }

    /// The main frame of the target goes to another document.
    pub(crate) fn navigated(&mut self, session: &str, target: &str, loader: &str, url: &str) {
        self.reports(
            Some(session),
            "Page.frameNavigated",
            json!({"frame": {"id": target, "loaderId": loader, "url": url}}),
        );
    }

    pub(crate) fn parsed(&mut self, session: &str) {
        self.reports(
            Some(session),
            "Page.domContentEventFired",
            json!({"timestamp": 1.5}),
        );
    }

    pub(crate) fn loaded(&mut self, session: &str) {
        self.reports(
            Some(session),
            "Page.loadEventFired",
            json!({"timestamp": 1.75}),
        );
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "exact for some 280 years from 1970"
    )]
    pub(crate) fn shifted(&mut self, session: &str) {
        let details = json!({"value": 0.25, "hadRecentInput": false});
        let time = self.now.wall as f64 / 1e6;
        let event = json!({"frameId": "f", "type": "layout-shift", "time": time, "duration": 0.0, "layoutShiftDetails": details});
        self.reports(
            Some(session),
            "PerformanceTimeline.timelineEventAdded",
            json!({"event": event}),
        );
    }

    pub(crate) fn request(&mut self, session: &str, id: &str, loader: &str) {
        let request = json!({"url": format!("http://h/{id}"), "method": "GET", "headers": {}});
        self.reports(
            Some(session),
            "Network.requestWillBeSent",
            json!({"requestId": id, "loaderId": loader, "documentURL": "http://h/", "request": request, "initiator": {"type": "parser"}, "type": "Fetch"}),
        );
    }

    pub(crate) fn redirected(&mut self, session: &str, id: &str, loader: &str, from: &str) {
        let request = json!({"url": format!("http://h/{id}"), "method": "GET", "headers": {}});
        self.reports(
            Some(session),
            "Network.requestWillBeSent",
            json!({"requestId": id, "loaderId": loader, "documentURL": "http://h/", "request": request, "initiator": {"type": "parser"}, "type": "Fetch", "redirectResponse": {"url": from, "status": 302}}),
        );
    }

    pub(crate) fn response(&mut self, session: &str, id: &str, mime_type: &str) {
        let response = json!({"url": format!("http://h/{id}"), "status": 200, "statusText": "OK", "headers": {"Content-Type": mime_type}, "mimeType": mime_type});
        self.reports(
            Some(session),
            "Network.responseReceived",
            json!({"requestId": id, "loaderId": "", "type": "Fetch", "response": response}),
        );
    }

    pub(crate) fn data_received(&mut self, session: &str, id: &str, bytes: u64) {
        self.reports(
            Some(session),
            "Network.dataReceived",
            json!({"requestId": id, "timestamp": 1.0, "dataLength": bytes, "encodedDataLength": bytes}),
        );
    }

    pub(crate) fn finished(&mut self, session: &str, id: &str) {
        self.reports(
            Some(session),
            "Network.loadingFinished",
            json!({"requestId": id, "timestamp": 1.0, "encodedDataLength": 100}),
        );
    }

    pub(crate) fn failed(&mut self, session: &str, id: &str) {
        self.reports(
            Some(session),
            "Network.loadingFailed",
            json!({"requestId": id, "timestamp": 1.0, "type": "Fetch", "errorText": "net::ERR_FAILED", "canceled": false}),
        );
    }

    pub(crate) fn logs(&mut self, session: &str, text: &str) {
        self.reports(
            Some(session),
            "Runtime.consoleAPICalled",
            json!({"type": "log", "args": [{"type": "string", "value": text}], "timestamp": 1e15}),
        );
    }
}

pub(crate) fn data_of(event: &Event) -> Value {
    serde_json::from_str(event.data.as_deref().unwrap().get()).unwrap()
}
