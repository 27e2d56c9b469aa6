//! Runs the core: connects it to a browser as often as needed, passes messages and the time to it,
//! and passes its events and commands on.
//!
//! One task reads, runs the core and publishes. None of these waits for another task, so a page that
//! logs as fast as it can is followed as fast as one processor allows. Nothing accumulates here:
//! messages that are not read stay in the browser. It keeps up to 256 MiB for a client, and drops
//! without notice what is beyond.
//!
//! # Clocks
//!
//! Deadlines, the browser's silence and the pauses between attempts are on the monotonic clock
//! ([`Instant`], `CLOCK_MONOTONIC` on Linux); only the `ts` of events comes from the wall clock. A wall
//! clock that is set, by hand or by NTP, changes no deadline. `CLOCK_MONOTONIC` does not count the time
//! in which the system is suspended, and hypervisors usually stop it while a virtual machine is paused
//! or between its snapshot and its resumption. So deadlines continue with the time that was left.
//! If a hypervisor lets the clock continue, the browser appears to have been silent for that time:
//! what became due is done at once, and the source asks the browser whether it is there before it
//! counts as lost.

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

use crate::core::Core;
use crate::endpoint::{Endpoint, OpenError, Opened};
use crate::options::Options;
use crate::outbox::{Command, Output};
use crate::protocol::{self, Head};
use crate::time::{Time, micros};

/// The pause before the second attempt to connect, and after a loss. Each is twice the one before, up to
/// [`LAST_PAUSE`], and is shortened by a random part of up to a half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LAST_PAUSE: Duration = Duration::from_secs(5);

/// After a connection that lasted this long, the pauses begin with the first one again.
const GOOD: Duration = Duration::from_secs(5);

/// How long the browser may take to disable everything when the source stops.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// The most commands that the browser may leave unread: about ten for each of 2,000 targets, three times.
/// A browser that leaves more unread does not read at all.
const MAX_COMMANDS: usize = 64 * 1024;

/// The id of the command that checks whether the browser answers. The core counts from 1.
pub(crate) const PING: u64 = 2_000_000_000;

/// How a source is configured.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The address of the browser.
    pub endpoint: Endpoint,
    /// How the core is configured. The session decides what is captured.
    pub core: Options,
    /// How many attempts to connect may fail in a row before the source gives up; none: any number.
    /// It tries again with the next session.
    pub retries: Option<u32>,
    /// How long the browser may be silent until the source asks whether it is there, and how long it
    /// may then take to answer. Ten seconds by default: a browser that starts a large page on a small
    /// machine is silent for a second or two.
    pub silence: Duration,
}

impl SourceOptions {
    /// The default options for this browser.
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

/// Receives what the driver has to report.
pub(crate) trait EventHandler: Send {
    /// Publish this event.
    fn event(&mut self, event: Event);

    /// A message came from the browser or goes to it, at this wall time.
    fn message(&mut self, _wall: u64, _direction: Direction, _message: &str) {}

    /// The message that came last could not be read.
    fn unreadable(&mut self) {}
}

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// From the browser.
    In,
    /// To the browser.
    Out,
}

/// Follows the browser until `wanted` is none or has no sender any more.
pub(crate) async fn drive(
    options: &SourceOptions,
    handler: &mut impl EventHandler,
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
        clock: Clock(Instant::now()),
        handler,
        wanted,
    };
    driver.run().await;
}

struct Driver<'a, H> {
    options: &'a SourceOptions,
    core: Core,
    clock: Clock,
    handler: &'a mut H,
    wanted: watch::Receiver<Option<CategorySet>>,
}

/// Why a connection ended.
enum Ended {
    /// It broke, for this reason.
    Lost(&'static str),
    /// The source was stopped, and the browser is as it was before.
    Stopped,
}

type Reading = SplitStream<WebSocketStream<TcpStream>>;
type Writing = SplitSink<WebSocketStream<TcpStream>, Message>;

impl<H: EventHandler> Driver<'_, H> {
    async fn run(&mut self) {
        let endpoint = &self.options.endpoint;
        let mut pauses = Pauses::default();
        let (mut attempts, mut was_up, mut reported) = (0, false, None);
        loop {
            let opened = tokio::select! {
                opened = endpoint.open() => opened,
                () = stopped(&mut self.wanted) => return,
            };
            match opened {
                Ok(opened) => {
                    tracing::info!("connected to the browser at {endpoint}");
                    (attempts, was_up, reported) = (0, true, None);
                    let since = Instant::now();
                    let browser = opened.browser.clone();
                    let Ended::Lost(why) = self.follow(opened).await else {
                        return;
                    };
                    let lost_at = self.clock.now();
                    let reason = if endpoint.lost(&browser).await {
                        DisconnectReason::ChromeRestarted
                    } else {
                        DisconnectReason::ConnectionLost
                    };
                    tracing::warn!("lost the browser at {endpoint}: {why}");
                    self.core.disconnected(lost_at, reason);
                    self.publish_events();
                    if GOOD <= since.elapsed() {
                        pauses = Pauses::default();
                    }
                }
                Err(error) => {
                    attempts += 1;
                    // Logged when the failure changes, not at each attempt.
                    if attempts == 1 || error.step() != reported {
                        log_failure(endpoint, &error);
                    }
                    if let Some(step) = error.step()
                        && reported != Some(step)
                    {
                        self.core.init_failed(self.clock.now(), step);
                        reported = Some(step);
                    }
                    if self.options.retries.is_some_and(|most| most < attempts) {
                        tracing::error!("gave up connecting: no browser at {endpoint}");
                        if was_up {
                            self.core.reconnect_failed(self.clock.now());
                        } else if reported.is_none() {
                            self.core.init_failed(self.clock.now(), "connect");
                        }
                        self.publish_events();
                        return;
                    }
                    self.publish_events();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pauses.next()) => {}
                () = stopped(&mut self.wanted) => return,
            }
        }
    }

    /// Publishes the core's events while there is no connection for commands.
    fn publish_events(&mut self) {
        self.take_outputs(&mut Vec::new());
    }

    /// Publishes the core's events, and adds its commands to `commands`.
    fn take_outputs(&mut self, commands: &mut Vec<Command>) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Event(event) => self.handler.event(event),
                Output::Command(command) => commands.push(command),
            }
        }
    }

    /// Follows the browser until the connection is lost or the source is stopped.
    async fn follow(&mut self, opened: Opened) -> Ended {
        let (write, mut read) = opened.socket.split();
        let (sender, queue) = mpsc::channel(MAX_COMMANDS);
        let mut writing = pin!(write_all(write, queue));
        let silence = self.options.silence;
        // Set to the time when something may be due, and checked then: a message resets nothing.
        let mut alarm = pin!(tokio::time::sleep(silence));
        let (mut last_message, mut pinged) = (Instant::now(), None);
        let mut commands = Vec::new();

        // The categories may have changed while there was no browser.
        let captured = *self.wanted.borrow_and_update();
        let now = self.clock.now();
        self.core.reconfigure(now, captured.unwrap_or_default());
        self.core.connected(now);
        loop {
            self.take_outputs(&mut commands);
            for command in commands.drain(..) {
                if !self.send(&sender, &command) {
                    return Ended::Lost("it does not read its commands");
                }
            }
            self.set(alarm.as_mut());
            tokio::select! {
                message = read.next() => match text_of(message) {
                    Ok(text) => {
                        last_message = Instant::now();
                        if let Some(text) = text {
                            self.receive(&text);
                        }
                    }
                    Err(why) => return Ended::Lost(why),
                },
                () = &mut writing => return Ended::Lost("it takes no more commands"),
                () = alarm.as_mut() => {
                    self.core.timer(self.clock.now());
                    let at = Instant::now();
                    let mut next = last_message + silence;
                    if next <= at {
                        match pinged.filter(|since| last_message <= *since) {
                            Some(since) if since + silence <= at => {
                                return Ended::Lost("it does not answer");
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
                        Some(captured) => self.core.reconfigure(self.clock.now(), captured),
                        None => {
                            let release = self.release(&mut read, sender, writing);
                            // What it has not done by then happens when the socket is closed.
                            let _ = tokio::time::timeout(RELEASE_WITHIN, release).await;
                            return Ended::Stopped;
                        }
                    }
                }
            }
        }
    }

    /// Moves the alarm to the core's next deadline if that is earlier.
    fn set(&self, alarm: Pin<&mut Sleep>) {
        if let Some(deadline) = self.core.next_deadline() {
            let at = self.clock.instant(deadline);
            if at < alarm.deadline() {
                alarm.reset(at);
            }
        }
    }

    /// Leaves the browser as it was before, and closes the connection.
    ///
    /// All commands to targets are answered before the browser detaches from them, because detaching
    /// drops the commands that are not executed yet.
    async fn release(
        &mut self,
        read: &mut Reading,
        sender: mpsc::Sender<Message>,
        mut writing: Pin<&mut impl Future<Output = ()>>,
    ) {
        let now = self.clock.now();
        self.core.reconfigure(now, CategorySet::EMPTY);
        let (mut commands, mut held_back) = (Vec::new(), Vec::new());
        let mut unanswered = HashSet::new();
        loop {
            self.take_outputs(&mut commands);
            for command in commands.drain(..) {
                if command.session.is_none() {
                    held_back.push(command);
                } else {
                    unanswered.insert(command.id);
                    self.send(&sender, &command);
                }
            }
            if unanswered.is_empty() {
                if held_back.is_empty() {
                    break;
                }
                for command in held_back.drain(..) {
                    unanswered.insert(command.id);
                    self.send(&sender, &command);
                }
            }
            tokio::select! {
                message = read.next() => match text_of(message) {
                    Ok(Some(text)) => {
                        if let Some(Head::Answer(id)) = protocol::head(&text) {
                            unanswered.remove(&id);
                        }
                        // New targets are paused until the core resumes them.
                        self.receive(&text);
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

    /// Passes a message of the browser to the core.
    fn receive(&mut self, text: &str) {
        let now = self.clock.now();
        self.handler.message(now.wall, Direction::In, text);
        let unreadable = self.core.unreadable();
        self.core.message(now, text);
        if unreadable < self.core.unreadable() {
            self.handler.unreadable();
        }
    }

    /// Queues a command. False if the queue is full or closed.
    fn send(&mut self, sender: &mpsc::Sender<Message>, command: &Command) -> bool {
        let text = command.to_text();
        let now = self.clock.now();
        self.handler.message(now.wall, Direction::Out, &text);
        sender.try_send(Message::text(text)).is_ok()
    }
}

/// The text of what was read; none if it has no text. An error says why the connection ended.
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

/// Writes the queued messages until the socket breaks or the queue is closed; then closes the socket.
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
    // The socket is closed in any case.
    let _ = write.close().await;
}

/// A command that costs the browser nothing. A proxy in between might answer a WebSocket ping.
fn ping() -> Command {
    Command {
        id: PING,
        method: "Browser.getVersion",
        params: serde_json::value::to_raw_value(&serde_json::json!({}))
            .expect("an empty object always serializes"),
        session: None,
    }
}

/// Resolves when the source is stopped.
async fn stopped(wanted: &mut watch::Receiver<Option<CategorySet>>) {
    // Without a sender, nothing is wanted any more.
    let _ = wanted.wait_for(Option::is_none).await;
}

fn log_failure(endpoint: &Endpoint, error: &OpenError) {
    let source = std::error::Error::source(error);
    let cause = source.map(|it| format!(": {it}")).unwrap_or_default();
    tracing::info!("waiting for a browser at {endpoint}: {error}{cause}");
}

/// The pauses between attempts.
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
        // Without randomness many sources would reconnect at the same moment; nothing worse.
        let random = getrandom::u32().unwrap_or(0);
        pause - (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// The clocks of a driver. The monotonic one counts from when the driver began.
#[derive(Clone, Copy)]
struct Clock(Instant);

/// How far apart the two clocks may be read. The core takes 1 ms for a step of the wall clock.
const READ_WITHIN: Duration = Duration::from_micros(200);

impl Clock {
    /// Both clocks at one moment: again, if this thread was interrupted between them.
    fn now(self) -> Time {
        let mut before = self.0.elapsed();
        let mut attempts = 8;
        loop {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH);
            let monotonic = self.0.elapsed();
            attempts -= 1;
            if monotonic - before <= READ_WITHIN || attempts == 0 {
                let wall = micros(wall.unwrap_or_default());
                return Time { monotonic, wall };
            }
            before = monotonic;
        }
    }

    /// The instant of a monotonic time of the core.
    fn instant(self, monotonic: Duration) -> Instant {
        self.0 + monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_are_read_at_one_moment() {
        let clock = Clock(Instant::now());
        let first = clock.now();
        for _ in 0..100_000 {
            let now = clock.now();
            let shown = now.wall_at(first.monotonic);
            assert!(shown.abs_diff(first.wall) < 1000, "{first:?}, {now:?}");
        }
    }

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_random() {
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
