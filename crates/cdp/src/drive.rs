//! Drives the machine: connects it to a browser, again and again, tells it the time and what the browser
//! says, and hands on what it says itself.
//!
//! One task reads, has the machine work, and publishes; none of these waits for anybody, so that a page
//! that logs as fast as it can is kept up with as long as one processor can. Where it cannot, nothing
//! piles up here: what is not read stays with the browser, which keeps up to 256 MiB for us and drops what
//! is beyond, without a word.

use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{CategorySet, Event};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::core::{Core, Options};
use crate::endpoint::{Endpoint, OpenError, Opened};
use crate::outbox::{Command, Output};
use crate::protocol::{self, Head};

/// The pause before the second attempt to find the browser, and after a loss. Each is twice the one
/// before, up to [`LAST_PAUSE`], and of each a random part of up to a half is left out.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that held for that long was a good one: the pauses after it begin anew.
const GOOD: Duration = Duration::from_secs(5);

/// How long the browser may take to let everything go when the source stops.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Commands that wait for the browser to read them. Some ten for each of 2,000 targets, thrice over:
/// one that leaves more than that unread does not read at all.
const MAX_COMMANDS: usize = 64 * 1024;

/// The id of the question whether anybody is there. The machine counts from 1.
pub(crate) const PING: u64 = 2_000_000_000;

/// How a source is set up.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Where the browser is.
    pub endpoint: Endpoint,
    /// How the machine is set up. What is captured is the session's business.
    pub core: Options,
    /// How many attempts in a row to find the browser may fail before it is given up; none: any
    /// number. Given up, it is looked for again when another session begins.
    pub retries: Option<u32>,
    /// For how long the browser may say nothing until it is asked whether it is there, and for how long
    /// again until it is taken for dead. Ten seconds by default: a browser that starts a large
    /// page on a small machine says nothing for a second or two.
    pub silence: Duration,
}

impl SourceOptions {
    /// The default for this browser.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            core: Options::default(),
            retries: None,
            silence: Duration::from_secs(10),
        }
    }
}

/// Whom the driver tells.
pub(crate) trait Hear: Send {
    /// An event is to be published.
    fn event(&mut self, event: Event);

    /// A message came from the browser, or goes to it.
    fn passed(&mut self, _t: u64, _direction: Direction, _message: &str) {}
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// From the browser.
    In,
    /// To the browser.
    Out,
}

/// Tells of the browser until `wanted` is none, or has no sender any more.
pub(crate) async fn drive(
    options: &SourceOptions,
    hear: &mut impl Hear,
    wanted: watch::Receiver<Option<CategorySet>>,
) {
    let captured = (*wanted.borrow()).unwrap_or_default();
    let core = Core::new(Options {
        captured,
        ..options.core.clone()
    });
    let mut driver = Driver {
        options,
        core,
        hear,
        wanted,
    };
    driver.run().await;
}

struct Driver<'a, H> {
    options: &'a SourceOptions,
    core: Core,
    hear: &'a mut H,
    wanted: watch::Receiver<Option<CategorySet>>,
}

/// Why a connection is over.
enum Over {
    /// It broke, for this reason.
    Lost(&'static str),
    /// The source was told to stop, and has let the browser go.
    Stopped,
}

type Reading = SplitStream<WebSocketStream<TcpStream>>;
type Writing = SplitSink<WebSocketStream<TcpStream>, Message>;

impl<H: Hear> Driver<'_, H> {
    async fn run(&mut self) {
        let endpoint = &self.options.endpoint;
        let mut pauses = Pauses::default();
        let (mut attempts, mut was_up, mut told) = (0, false, None);
        loop {
            let opened = tokio::select! {
                opened = endpoint.open() => opened,
                () = stopped(&mut self.wanted) => return,
            };
            match opened {
                Ok(opened) => {
                    tracing::info!("connected to the browser at {endpoint}");
                    (attempts, was_up, told) = (0, true, None);
                    let since = Instant::now();
                    let browser = opened.browser.clone();
                    let Over::Lost(why) = self.talk(opened).await else {
                        return;
                    };
                    let lost_at = now();
                    let reason = if endpoint.lost(&browser).await {
                        DisconnectReason::ChromeRestarted
                    } else {
                        DisconnectReason::ConnectionLost
                    };
                    tracing::warn!("lost the browser at {endpoint}: {why}");
                    self.core.disconnected(lost_at, reason);
                    self.hand_on_events();
                    if GOOD <= since.elapsed() {
                        pauses = Pauses::default();
                    }
                }
                Err(error) => {
                    attempts += 1;
                    // Told when something new goes wrong, not with each attempt.
                    if attempts == 1 || error.step() != told {
                        tell_in_log(endpoint, &error);
                    }
                    if let Some(step) = error.step()
                        && told != Some(step)
                    {
                        self.core.init_failed(now(), step);
                        told = Some(step);
                    }
                    if self.options.retries.is_some_and(|most| most < attempts) {
                        tracing::error!("given up: no browser at {endpoint}");
                        if was_up {
                            self.core.reconnect_failed(now());
                        } else if told.is_none() {
                            self.core.init_failed(now(), "connect");
                        }
                        self.hand_on_events();
                        return;
                    }
                    self.hand_on_events();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.next()) => {}
                () = stopped(&mut self.wanted) => return,
            }
        }
    }

    /// What is to be told while there is nobody to send commands to.
    fn hand_on_events(&mut self) {
        self.hand_on(&mut Vec::new());
    }

    /// Publishes the machine's events, and adds its commands to `commands`.
    fn hand_on(&mut self, commands: &mut Vec<Command>) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Event(event) => self.hear.event(event),
                Output::Command(command) => commands.push(command),
            }
        }
    }

    /// Follows the browser until it is lost, or the source is to stop.
    async fn talk(&mut self, opened: Opened) -> Over {
        let (write, mut read) = opened.socket.split();
        let (sender, queue) = mpsc::channel(MAX_COMMANDS);
        let mut writing = pin!(write_all(write, queue));
        let silence = self.options.silence;
        // Set to when something may be due; checked then, so that a message sets nothing anew.
        let mut alarm = pin!(tokio::time::sleep(silence));
        let (mut heard, mut pinged) = (Instant::now(), None);
        let mut commands = Vec::new();

        // Whatever was wanted while there was no browser.
        let captured = *self.wanted.borrow_and_update();
        self.core.reconfigure(now(), captured.unwrap_or_default());
        self.core.connected(now());
        loop {
            self.hand_on(&mut commands);
            for command in commands.drain(..) {
                if !self.say(&sender, &command) {
                    return Over::Lost("it does not read what it is told");
                }
            }
            self.set(alarm.as_mut());
            tokio::select! {
                message = read.next() => match text_of(message) {
                    Ok(text) => {
                        heard = Instant::now();
                        if let Some(text) = text {
                            let t = now();
                            self.hear.passed(t, Direction::In, &text);
                            self.core.message(t, &text);
                        }
                    }
                    Err(why) => return Over::Lost(why),
                },
                () = &mut writing => return Over::Lost("it takes no more commands"),
                () = alarm.as_mut() => {
                    self.core.timer(now());
                    let at = Instant::now();
                    let mut next = heard + silence;
                    if next <= at {
                        match pinged.filter(|since| heard <= *since) {
                            Some(since) if since + silence <= at => {
                                return Over::Lost("it does not answer");
                            }
                            Some(since) => next = since + silence,
                            None => {
                                commands.push(ping());
                                pinged = Some(at);
                                next = at + silence;
                            }
                        }
                    }
                    alarm.as_mut().reset(next);
                }
                changed = self.wanted.changed() => {
                    let captured = *self.wanted.borrow_and_update();
                    match captured.filter(|_| changed.is_ok()) {
                        Some(captured) => self.core.reconfigure(now(), captured),
                        None => {
                            let letting_go = self.let_go(&mut read, sender, writing);
                            // Whatever it has not done by then happens when the socket is closed.
                            let _ = tokio::time::timeout(LET_GO_WITHIN, letting_go).await;
                            return Over::Stopped;
                        }
                    }
                }
            }
        }
    }

    /// Has the machine's next deadline ring, too.
    fn set(&self, alarm: Pin<&mut Sleep>) {
        if let Some(deadline) = self.core.next_deadline() {
            let at = Instant::now() + Duration::from_micros(deadline.saturating_sub(now()));
            if at < alarm.deadline() {
                alarm.reset(at);
            }
        }
    }

    /// Leaves the browser as it was, and closes the connection.
    ///
    /// What is said to targets is answered before the browser is told to let go of them: with them
    /// goes whatever they have not done yet.
    async fn let_go(
        &mut self,
        read: &mut Reading,
        sender: mpsc::Sender<Message>,
        mut writing: Pin<&mut impl Future<Output = ()>>,
    ) {
        self.core.reconfigure(now(), CategorySet::EMPTY);
        let (mut commands, mut held_back) = (Vec::new(), Vec::new());
        let mut unanswered = HashSet::new();
        loop {
            self.hand_on(&mut commands);
            for command in commands.drain(..) {
                if command.session.is_none() {
                    held_back.push(command);
                } else {
                    unanswered.insert(command.id);
                    self.say(&sender, &command);
                }
            }
            if unanswered.is_empty() {
                if held_back.is_empty() {
                    break;
                }
                for command in held_back.drain(..) {
                    unanswered.insert(command.id);
                    self.say(&sender, &command);
                }
            }
            tokio::select! {
                message = read.next() => match text_of(message) {
                    Ok(Some(text)) => {
                        if let Some(Head::Answer(id)) = protocol::head(&text) {
                            unanswered.remove(&id);
                        }
                        let t = now();
                        self.hear.passed(t, Direction::In, &text);
                        // New targets wait for the word to go on.
                        self.core.message(t, &text);
                    }
                    Ok(None) => {}
                    Err(_) => return,
                },
                () = &mut writing => return,
            }
        }
        // Closes the socket in good order.
        drop(sender);
        writing.await;
    }

    /// Whether there was room for it.
    fn say(&mut self, sender: &mpsc::Sender<Message>, command: &Command) -> bool {
        let text = command.to_text();
        self.hear.passed(now(), Direction::Out, &text);
        sender.try_send(Message::text(text)).is_ok()
    }
}

/// The text of what was read; none where it is of no interest. Why there is no more, otherwise.
fn text_of(
    read: Option<Result<Message, tungstenite::Error>>,
) -> Result<Option<tungstenite::Utf8Bytes>, &'static str> {
    match read {
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Close(_))) | None => Err("it closed the connection"),
        Some(Ok(_)) => Ok(None),
        Some(Err(tungstenite::Error::Capacity(_))) => Err("a message is too large"),
        Some(Err(_)) => Err("the connection broke"),
    }
}

/// Writes until there is nobody to write to, or for: then the socket is closed.
async fn write_all(mut write: Writing, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if write.feed(message).await.is_err() {
            return;
        }
        while let Ok(message) = queue.try_recv() {
            if write.feed(message).await.is_err() {
                return;
            }
        }
        if write.flush().await.is_err() {
            return;
        }
    }
    // It is closed in any case.
    let _ = write.close().await;
}

/// Asks for something that costs the browser nothing. A WebSocket's own ping may be answered by
/// whatever is in between.
fn ping() -> Command {
    Command {
        id: PING,
        method: "Browser.getVersion",
        params: serde_json::value::to_raw_value(&serde_json::json!({}))
            .expect("an empty object always serializes"),
        session: None,
    }
}

/// Resolves when the source is to stop.
async fn stopped(wanted: &mut watch::Receiver<Option<CategorySet>>) {
    // Without a sender there is nobody who wants anything.
    let _ = wanted.wait_for(Option::is_none).await;
}

fn tell_in_log(endpoint: &Endpoint, error: &OpenError) {
    let source = std::error::Error::source(error);
    let cause = source.map(|it| format!(": {it}")).unwrap_or_default();
    tracing::info!("waiting for a browser at {endpoint}: {error}{cause}");
}

/// How long to wait between attempts.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (2 * pause).min(LAST_PAUSE);
        // Without randomness many would come back at the same moment; nothing worse.
        let random = getrandom::u32().unwrap_or(0);
        pause - (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Microseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_are_not_all_the_same() {
        let mut pauses = Pauses::default();
        let mut most = FIRST_PAUSE;
        for _ in 0..20 {
            let pause = pauses.next();
            assert!(most / 2 <= pause && pause <= most, "{pause:?}");
            most = (2 * most).min(LAST_PAUSE);
        }
        let mut at_the_bound: Vec<_> = (0..10).map(|_| pauses.next()).collect();
        at_the_bound.dedup();
        assert_ne!(at_the_bound.len(), 1);
    }
}
