//! The core itself: its inputs and outputs, and which module handles each message.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tapline_oapi::data::{
    DisconnectReason, MonitorDisconnected, MonitorReconnectFailed, MonitorReconnected,
    ReconnectFailure,
};
use tapline_oapi::{Category, CategorySet, KnownType};

use crate::attach::{self, DISCOVER};
use crate::json::Malformed;
use crate::key::Key;
use crate::network::{self, Closed, Requests};
use crate::options::Options;
use crate::outbox::{Outbox, Output, Pending, Purpose};
use crate::protocol::{
    self, Answer, AttachedToTarget, BindingCalled, CommandError, ConsoleApiCalled, DataReceived,
    DetachedFromTarget, ExceptionRevoked, ExceptionThrown, ExecutionContextCreated,
    ExecutionContextDestroyed, Fired, FrameChanged, FrameNavigated, FrameOwner, Frames, Head,
    LayoutMetrics, LoadingFailed, LoadingFinished, LogEntryAdded, Message, NavigatedWithinDocument,
    NodeBox, PostData, RequestExtraInfo, RequestWillBeSent, ResponseBody, ResponseExtraInfo,
    ResponseReceived, Screenshot, ScriptAdded, ServedFromCache, TargetCreated, TimelineEventAdded,
    WebSocketCreated, WebSocketEnded, WebSocketFrame, WebSocketHandshake,
};
use crate::repeats::{Moment, Past, wall_of};
use crate::targets::{FROM_BROWSER, Milestone, Target, Targets};
use crate::time::{Time, micros};
use crate::timers::Wait;
use crate::websocket::{Direction, Sockets};
use crate::{console, interaction, page, recover, screenshot};

/// How much the core holds. Each number is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Pages, frames and workers.
    pub targets: usize,
    /// Requests and WebSockets that have not ended.
    pub requests: usize,
    /// Commands that are not answered. One for a body holds its response.
    pub commands: usize,
    /// Deadlines.
    pub timers: usize,
}

/// Turns the messages of a browser into events and commands. It has no socket and no clock.
///
/// # Inputs
///
/// Every input takes the [`Time`] at which it happened. Its `monotonic` part must not go back from one
/// call to the next; if it does, it is taken as standing still. Its `wall` part may be anything.
///
/// - The connection: [`connected`](Self::connected), [`disconnected`](Self::disconnected),
///   [`reconnect_failed`](Self::reconnect_failed), [`init_failed`](Self::init_failed).
/// - The browser: [`message`](Self::message), for each message in its order.
/// - The session: [`reconfigure`](Self::reconfigure).
/// - The clock: [`timer`](Self::timer), at [`next_deadline`](Self::next_deadline) at the latest.
///
/// # Outputs
///
/// After every input, call in this order:
///
/// 1. [`poll`](Self::poll) until it returns `None`. Outputs come in the order in which they were
///    caused. Publish the events and send the commands in this order.
/// 2. [`next_deadline`](Self::next_deadline). Any input can change it.
///
/// An input that comes late changes nothing but when the events are emitted: what was due before it
/// comes first, with the `ts` at which it was due.
///
/// ```
/// use std::time::Duration;
/// use tapline_cdp::{Core, Options, Output, Time};
///
/// let at = |ms| Time {
///     monotonic: Duration::from_millis(ms),
///     wall: 1_795_349_358_708_459 + ms * 1000,
/// };
/// let mut core = Core::new(Options::default());
/// core.connected(at(0));
/// let Some(Output::Command(command)) = core.poll() else { panic!() };
/// assert_eq!(
///     command.to_text(),
///     r#"{"id":1,"method":"Target.setDiscoverTargets","params":{"discover":true}}"#,
/// );
/// // Send it; then hand over what the browser sends.
/// core.message(at(1), r#"{"id":1,"result":{}}"#);
/// assert!(core.poll().is_none() && core.next_deadline().is_none());
/// ```
#[derive(Debug)]
pub struct Core {
    link: Link,
    /// Whether the browser attaches us to all its targets.
    attaching: bool,
    targets: Targets,
    requests: Requests,
    sockets: Sockets,
    out: Outbox,
    since: Since,
    past: Past,
    unreadable: u64,
}

/// From when on the browser's stored entries are emitted: what is older was not captured, or, of what has
/// no writer that is remembered (see [`repeats`](crate::repeats)), was emitted already.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    /// Console lines, exceptions and log entries.
    console: Option<Moment>,
    /// Layout shifts and paints.
    page: Option<Moment>,
    /// When the browser was connected. What it has stored from before that is emitted with the time at which it
    /// happened.
    connected: Option<Moment>,
}

impl Since {
    /// The `ts` of an entry with this timestamp, in milliseconds since the Unix epoch: the time at which it was
    /// received, or that timestamp if it is from before the connection.
    fn ts_of(&self, timestamp: f64, now: Time) -> u64 {
        if is_since(timestamp, self.connected, now) {
            now.wall
        } else {
            wall_of(timestamp)
        }
    }
}

/// Whether an entry with this timestamp, in milliseconds since the Unix epoch, is not older than `since`.
fn is_since(timestamp: f64, since: Option<Moment>, now: Time) -> bool {
    since.is_none_or(|since| since.timestamp(now) <= timestamp)
}

/// The connection to the browser. Times are monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// There was none yet.
    New,
    Up,
    /// Lost at that time.
    Down(Duration),
    /// Lost at that time, and given up.
    GivenUp(Duration),
}

impl Core {
    /// A core whose browser is not connected yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            link: Link::New,
            attaching: false,
            targets: Targets::default(),
            requests: Requests::default(),
            sockets: Sockets::default(),
            out: Outbox::new(options),
            since: Since::default(),
            past: Past::default(),
            unreadable: 0,
        }
    }

    /// The browser is connected, for the first time or again. It lists all its targets anew.
    ///
    /// Call it before the first message of the connection. If the connection before it is still up,
    /// that one counts as lost.
    pub fn connected(&mut self, now: Time) {
        if self.link == Link::Up {
            self.disconnected(now, DisconnectReason::ConnectionLost);
        }
        self.advance(now);
        self.out.reconnected();
        if let Link::Down(since) | Link::GivenUp(since) = self.link {
            let duration = self.out.now.monotonic.saturating_sub(since);
            let data = MonitorReconnected {
                reconnect_duration_ms: micros(duration) / 1000,
                ..Default::default()
            };
            self.out.emit(KnownType::MonitorReconnected, None, &data);
        }
        self.link = Link::Up;
        self.since.connected = Some(Moment::now(self.out.now));
        self.attach();
    }

    /// The connection is lost. Open requests end with a reason, and all state of the browser is
    /// forgotten. Without a connection it does nothing, so that a loss is reported once.
    pub fn disconnected(&mut self, now: Time, reason: DisconnectReason) {
        self.advance(now);
        if self.link != Link::Up {
            return;
        }
        self.link = Link::Down(self.out.now.monotonic);
        self.attaching = false;
        for key in self.targets.keys() {
            self.abandon(key, Closed::BrowserGone);
        }
        self.requests.browser_gone(&mut self.targets, &mut self.out);
        self.targets.clear();
        self.out.forget(|_| true);
        // Layout shifts and paints up to now were emitted. The writers of the others are remembered.
        let captures_pages = self.out.captures(Category::Page);
        self.restart(|category| category == Category::Page && captures_pages);
        let data = MonitorDisconnected {
            reason,
            ..Default::default()
        };
        self.out.emit(KnownType::MonitorDisconnected, None, &data);
    }

    /// The browser was not found again within the allowed attempts. Reported once for a loss. If the
    /// browser comes back later, that is reported too.
    pub fn reconnect_failed(&mut self, now: Time) {
        self.advance(now);
        if let Link::Down(since) = self.link {
            self.link = Link::GivenUp(since);
            let reason = ReconnectFailure::ReconnectExhausted;
            let data = MonitorReconnectFailed {
                reason,
                ..Default::default()
            };
            self.out
                .emit(KnownType::MonitorReconnectFailed, None, &data);
        }
    }

    /// A setup step outside the core failed, such as finding the browser.
    pub fn init_failed(&mut self, now: Time, step: &str) {
        self.advance(now);
        self.out.emit_init_failed(step);
    }

    /// Changes the captured categories. What they need is enabled in the browser, and what they do
    /// not need is disabled. If none of them comes from the browser, the browser is left as it was.
    pub fn reconfigure(&mut self, now: Time, captured: CategorySet) {
        self.advance(now);
        let before = std::mem::replace(&mut self.out.captured, captured);
        // What was not captured is not emitted, up to now.
        self.restart(|category| !before.contains(category) && captured.contains(category));
        if !self.out.captures(Category::Network) {
            self.requests.forget(&mut self.targets, &mut self.out);
            self.sockets.clear();
        }
        if self.link != Link::Up {
            return;
        }
        for target in self.targets.all() {
            for (wait, category) in [
                (Wait::Layout, Category::Page),
                (Wait::Screenshot, Category::Screenshot),
            ] {
                if !self.out.captures(category) {
                    self.out.timers.cancel(target.key, wait);
                }
            }
            attach::configure(target, &mut self.past, &mut self.out);
        }
        self.attach();
    }

    /// A message of the browser.
    ///
    /// No message stops the core. It ignores methods that it does not know, and counts messages
    /// that it cannot read ([`unreadable`](Self::unreadable)). Besides the message itself it needs
    /// less than 1 MiB of memory for one, however large it is.
    pub fn message(&mut self, now: Time, message: &str) {
        self.advance(now);
        if self.link != Link::Up {
            return;
        }
        let read = match protocol::head(message) {
            Some(Head::Event(method)) => self.event(&method, message),
            Some(Head::Answer(id)) => match self.out.take_pending(id) {
                Some(pending) => self.answered(pending, Some(message)),
                None => Ok(()),
            },
            None => Err(Unreadable),
        };
        if read.is_err() {
            self.unreadable += 1;
        }
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Time) {
        self.advance(now);
    }

    /// The monotonic time at which [`timer`](Self::timer) has something to do; `None` while there
    /// is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        [
            self.out.timers.next(),
            self.out.next_unanswered(),
            self.requests.next_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes the next output, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.poll()
    }

    /// How much is held at present.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            targets: self.targets.len(),
            requests: self.requests.len() + self.sockets.len(),
            commands: self.out.pending(),
            timers: self.out.timers.len(),
        }
    }

    /// How many messages could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Entries of these categories that are older than now are not emitted any more.
    fn restart(&mut self, of: impl Fn(Category) -> bool) {
        let now = Some(Moment::now(self.out.now));
        if of(Category::Console) {
            self.since.console = now;
        }
        if of(Category::Page) {
            self.since.page = now;
        }
    }

    /// Does what was due until `now`, each at its time.
    fn advance(&mut self, now: Time) {
        let out = &mut self.out;
        out.options.redaction.refresh(&mut out.rules);
        let reached = self.out.now.monotonic;
        let now = Time {
            monotonic: now.monotonic.max(reached),
            ..now
        };
        while let Some(due) = self.next_deadline().filter(|due| *due <= now.monotonic) {
            let monotonic = due.max(reached);
            let wall = now.wall_at(monotonic);
            self.out.now = Time { monotonic, wall };
            if self.out.timers.next() == Some(due) {
                self.due();
            } else if self.out.next_unanswered() == Some(due) {
                if let Some(pending) = self.out.take_unanswered() {
                    // Without a message, nothing is unreadable.
                    let _ = self.answered(pending, None);
                }
            } else {
                self.requests.look(&mut self.targets, &mut self.out);
            }
        }
        self.out.now = now;
    }

    fn due(&mut self) {
        let Some((key, wait)) = self.out.timers.pop() else {
            return;
        };
        let Some(target) = self.targets.at(key) else {
            return;
        };
        match wait {
            Wait::Idle => network::idle(target, &mut self.out),
            Wait::Layout => page::layout_settled(target, &mut self.out),
            Wait::Screenshot => screenshot::take(target, &mut self.out),
            Wait::Bodies => network::fetch_bodies(target, &mut self.out),
            Wait::Resume => attach::left_paused(target, &mut self.out),
        }
    }

    /// Makes the browser report all its present and future targets, which we attach to, or leaves all.
    fn attach(&mut self) {
        let wanted = !self.out.captured.intersection(FROM_BROWSER).is_empty();
        if wanted == self.attaching {
            return;
        }
        self.attaching = wanted;
        let params = json!({"discover": wanted});
        if wanted {
            let purpose = Purpose::Targets;
            self.out.call(None, None, DISCOVER, &params, purpose);
        } else {
            self.out.send(None, DISCOVER, &params);
            attach::detach(&mut self.targets, &mut self.out);
            self.targets.is_listed = false;
            self.targets.found_there.clear();
        }
    }

    /// An event of the browser. If it is not captured, it is not even read.
    fn event(&mut self, method: &str, message: &str) -> Result<(), Unreadable> {
        if method.starts_with("Network.") {
            return if self.out.captures(Category::Network) {
                self.network_event(method, message)
            } else {
                Ok(())
            };
        }
        let Self {
            targets,
            requests,
            past,
            out,
            ..
        } = self;
        let (since, now) = (self.since, out.now);
        match method {
            "Runtime.consoleAPICalled" if out.captures(Category::Console) => {
                if let Some((target, call)) = read::<ConsoleApiCalled<'_>>(targets, message)? {
                    let written = target.frames.written(call.execution_context_id);
                    if is_since(call.timestamp, since.console, now)
                        && written.is_new(call.timestamp, now)
                    {
                        console::called(target, &call, since.ts_of(call.timestamp, now), out);
                    } else {
                        console::ignored(target, out);
                    }
                }
            }
            "Runtime.exceptionThrown" if out.captures(Category::Console) => {
                if let Some((target, thrown)) = read::<ExceptionThrown<'_>>(targets, message)? {
                    let details = &thrown.exception_details;
                    let written = target.frames.written(details.execution_context_id);
                    if is_since(thrown.timestamp, since.console, now)
                        && written.is_new(thrown.timestamp, now)
                    {
                        console::threw(target, details, since.ts_of(thrown.timestamp, now), out);
                    } else {
                        console::ignored(target, out);
                    }
                }
            }
            "Runtime.exceptionRevoked" if out.captures(Category::Console) => {
                if let Some((target, revoked)) = read::<ExceptionRevoked<'_>>(targets, message)? {
                    console::revoked(target, &revoked, out);
                }
            }
            "Log.entryAdded" if out.captures(Category::Console) => {
                if let Some((target, added)) = read::<LogEntryAdded<'_>>(targets, message)?
                    // What a worker logs, which its own runtime reports.
                    && &*added.entry.source != "worker"
                    && is_since(added.entry.timestamp, since.console, now)
                    && target.frames.logged().is_new(added.entry.timestamp, now)
                {
                    let ts = since.ts_of(added.entry.timestamp, now);
                    console::logged(target, &added.entry, ts, out);
                }
            }
            // Not captured, but sent: the runtime is enabled for the interactions.
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown"
                if out.captures(Category::Interaction) =>
            {
                if let Some((target, IgnoredAny)) = read(targets, message)? {
                    console::ignored(target, out);
                }
            }

            "Runtime.bindingCalled" if out.captures(Category::Interaction) => {
                if let Some((target, call)) = read::<BindingCalled<'_>>(targets, message)? {
                    let key = target.key;
                    let click = interaction::reported(target, &call, out);
                    if let Some(click) = click.map_err(|_| Unreadable)? {
                        interaction::locate(targets, key, click, out);
                    }
                }
            }
            // Also while no interactions are captured: the browser creates our world with each new
            // document and reports it once, and the script may run in it later.
            "Runtime.executionContextCreated" => {
                if let Some((target, created)) =
                    read::<ExecutionContextCreated<'_>>(targets, message)?
                {
                    let context = &created.context;
                    let is_ours = interaction::is_ours(context);
                    let main = &*target.id;
                    target.is_restoring |= target.frames.created(context, is_ours, main, past);
                    if is_ours {
                        interaction::world_created(target, context, out);
                    }
                }
            }
            "Runtime.executionContextDestroyed" => {
                if let Some((target, gone)) = read::<ExecutionContextDestroyed>(targets, message)? {
                    target.frames.destroyed(gone.execution_context_id, past);
                }
            }
            "Runtime.executionContextsCleared" => {
                if let Some((target, IgnoredAny)) = read(targets, message)? {
                    target.frames.cleared(past);
                }
            }

            "Page.frameNavigated" => {
                if let Some((target, to)) = read::<FrameNavigated<'_>>(targets, message)? {
                    let (is_main, is_restored) = (target.has_main(&to.frame), to.is_restored());
                    let frames = &mut target.frames;
                    frames.navigated(&to.frame, is_main, is_restored, past, out);
                    let cause = "Page.frameNavigated";
                    page::navigated(target, &to.frame, is_restored, cause, requests, out);
                }
            }
            "Page.documentOpened" => {
                if let Some((target, opened)) = read::<FrameNavigated<'_>>(targets, message)? {
                    target.frames.opened(&opened.frame, out);
                    page::opened(target, &opened.frame, out);
                }
            }
            "Page.frameAttached" => {
                if let Some((target, changed)) = read::<FrameChanged<'_>>(targets, message)? {
                    target.frames.attached(&changed.frame_id);
                }
            }
            "Page.frameDetached" => {
                if let Some((target, changed)) = read::<FrameChanged<'_>>(targets, message)? {
                    target.frames.detached(&changed.frame_id);
                    if changed.reason.is_none_or(|reason| *reason != *"swap") {
                        requests.frame_gone(target.key, &changed.frame_id, now.monotonic);
                    }
                }
            }
            "Page.navigatedWithinDocument" => {
                if let Some((target, to)) = read::<NavigatedWithinDocument<'_>>(targets, message)? {
                    target.frames.moved(&to.frame_id, &to.url, out);
                    page::navigated_within(target, &to, out);
                }
            }
            "Page.domContentEventFired" => {
                if let Some((target, fired)) = read::<Fired>(targets, message)? {
                    page::reached(target, Milestone::Parsed(fired.timestamp.0), out);
                }
            }
            "Page.loadEventFired" => {
                if let Some((target, fired)) = read::<Fired>(targets, message)? {
                    page::reached(target, Milestone::Loaded(fired.timestamp.0), out);
                }
            }
            "PerformanceTimeline.timelineEventAdded" if out.captures(Category::Page) => {
                if let Some((target, added)) = read::<TimelineEventAdded<'_>>(targets, message)?
                    && is_since(added.event.time.0 * 1000.0, since.page, now)
                    && page::is_new_entry(&added.event, past, now)
                {
                    let ts = since.ts_of(added.event.time.0 * 1000.0, now);
                    page::timeline(target, &added.event, ts, out);
                }
            }

            "Target.targetCreated" if self.attaching => {
                let created: TargetCreated<'_> = params(message)?;
                attach::created(targets, &created.target_info, out);
            }
            "Target.attachedToTarget" => {
                let message: Message<'_, AttachedToTarget<'_>> = protocol::read(message)?;
                let session = message.session_id.as_deref();
                attach::attached(targets, session, &message.params, past, out);
                let info = &message.params.target_info;
                if info.kind.ends_with("worker") {
                    requests.worker_runs(&out.url(&info.url), targets, out);
                }
            }
            "Target.detachedFromTarget" => {
                let detached: DetachedFromTarget<'_> = params(message)?;
                for mut target in targets.remove(&detached.session_id) {
                    target.frames.gone(&target.id, &mut self.past);
                    network::emit_without_bodies(&mut target, &mut self.out);
                    self.abandon(target.key, Closed::TargetGone);
                }
            }
            // The tab is still there, and may be loaded again.
            "Inspector.targetCrashed" => {
                if let Some((target, IgnoredAny)) = read(targets, message)? {
                    page::crashed(target, out);
                    let key = target.key;
                    self.abandon(key, Closed::TargetCrashed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An event about a request or a WebSocket.
    fn network_event(&mut self, method: &str, message: &str) -> Result<(), Unreadable> {
        let Self {
            targets,
            requests,
            sockets,
            out,
            ..
        } = self;
        match method {
            "Network.requestWillBeSent" => {
                if let Some((target, sent)) = read::<RequestWillBeSent<'_>>(targets, message)? {
                    requests.will_be_sent(target.key, &sent, targets, out);
                }
            }
            "Network.responseReceived" => {
                if let Some((target, received)) = read::<ResponseReceived<'_>>(targets, message)? {
                    requests.response(target.key, &received, targets, out);
                }
            }
            "Network.loadingFinished" => {
                if let Some((target, finished)) = read::<LoadingFinished<'_>>(targets, message)? {
                    requests.finished(target.key, &finished, targets, out);
                }
            }
            "Network.loadingFailed" => {
                if let Some((target, failed)) = read::<LoadingFailed<'_>>(targets, message)? {
                    requests.failed(target.key, &failed, targets, out);
                }
            }

            "Network.dataReceived" => {
                requests.data(&params::<DataReceived<'_>>(message)?, out.now.monotonic);
            }
            "Network.requestServedFromCache" => {
                requests.served_from_memory(&params::<ServedFromCache<'_>>(message)?.request_id);
            }
            // Only the length of a posted body is of interest.
            "Network.requestWillBeSentExtraInfo" if protocol::has_content_length(message) => {
                requests.sent_extra_info(&params::<RequestExtraInfo<'_>>(message)?, targets, out);
            }
            "Network.responseReceivedExtraInfo" => {
                requests.received_extra_info(&params::<ResponseExtraInfo<'_>>(message)?);
            }

            "Network.webSocketCreated" => {
                if let Some((target, created)) = read::<WebSocketCreated<'_>>(targets, message)? {
                    sockets.created(target, &created, out);
                }
            }
            "Network.webSocketWillSendHandshakeRequest" => {
                sockets.requested(&params::<WebSocketHandshake<'_>>(message)?, out);
            }
            "Network.webSocketHandshakeResponseReceived" => {
                sockets.answered(&params::<WebSocketHandshake<'_>>(message)?, out);
            }
            "Network.webSocketFrameSent" => {
                sockets.message(
                    Direction::Sent,
                    &params::<WebSocketFrame<'_>>(message)?,
                    out,
                );
            }
            "Network.webSocketFrameReceived" => {
                sockets.message(
                    Direction::Received,
                    &params::<WebSocketFrame<'_>>(message)?,
                    out,
                );
            }
            "Network.webSocketFrameError" => {
                sockets.failed(&params::<WebSocketEnded<'_>>(message)?, out);
            }
            "Network.webSocketClosed" => {
                sockets.closed(&params::<WebSocketEnded<'_>>(message)?, out);
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends what a target waits for when it is closed or has crashed: its requests, and the responses
    /// whose bodies will not come.
    fn abandon(&mut self, key: Key, why: Closed) {
        let Self {
            targets,
            requests,
            sockets,
            past,
            out,
            ..
        } = self;
        for pending in out.forget(|pending| pending.key == Some(key)) {
            match pending.purpose {
                Purpose::Body(ended) => network::emit_with_body(ended, None, out),
                Purpose::PostData { id } => requests.posted(&id, None, targets, out),
                Purpose::Script => {
                    if let Some(target) = targets.at(key) {
                        interaction::added(target, None, out);
                    }
                }
                Purpose::FrameOwner(click) | Purpose::FrameBox(click) => {
                    interaction::emit_in_frame(*click, out);
                }
                Purpose::Setup
                | Purpose::Targets
                | Purpose::World
                | Purpose::Timeline { .. }
                | Purpose::Frames { .. }
                | Purpose::Screenshot(_)
                | Purpose::Metrics(_) => {}
            }
        }
        if why == Closed::TargetGone {
            requests.target_gone(key, targets, out);
        } else {
            requests.close_all(key, why, targets, out);
        }
        sockets.close_all(key, why, out);
        out.timers.cancel_all(key);
        if let Some(target) = targets.at(key) {
            network::emit_without_bodies(target, out);
            target.frames.gone(&target.id, past);
        }
    }

    /// A command is answered by this message, or is given up without one.
    fn answered(&mut self, pending: Pending, message: Option<&str>) -> Result<(), Unreadable> {
        let Pending {
            key,
            method,
            purpose,
            ..
        } = pending;
        let out = &mut self.out;
        let target = key.and_then(|key| self.targets.at(key));
        let is_unreadable = |failure: &Failure| *failure == Failure::Unreadable;
        let failure = match purpose {
            Purpose::Setup => result::<IgnoredAny>(message).err(),
            Purpose::Targets => {
                self.targets.is_listed = true;
                result::<IgnoredAny>(message).err()
            }
            Purpose::Frames { new } => {
                let frames = result::<Frames<'_>>(message);
                if let (Some(target), Ok(frames)) = (target, &frames) {
                    let frame = &frames.frame_tree.frame;
                    target.frames.found(&frames.frame_tree, &mut self.past, out);
                    page::found(target, frame, new, &mut self.requests, out);
                }
                if let Some(target) = key.and_then(|key| self.targets.at(key)) {
                    page::release(target, out);
                }
                frames.err()
            }
            // What cannot be recovered stays unseen, as it was.
            Purpose::World => {
                let world = result::<recover::World>(message);
                if let (Some(target), Ok(world)) = (target, &world) {
                    recover::read(target, world, out);
                }
                None
            }
            Purpose::Timeline { loader } => {
                let timeline = result::<recover::Evaluated<'_>>(message);
                if let (Some(target), Ok(timeline)) = (target, &timeline) {
                    recover::emit(target, &loader, timeline, out);
                }
                None
            }
            Purpose::Script => {
                let added = result::<ScriptAdded<'_>>(message);
                if let Some(target) = target {
                    let identifier = added.as_ref().ok().map(|added| &*added.identifier);
                    interaction::added(target, identifier, out);
                }
                added.err()
            }
            // The click is emitted either way.
            Purpose::FrameOwner(click) => {
                let owner = result::<FrameOwner>(message);
                interaction::found_owner(target, click, owner.as_ref().ok(), out);
                owner.err().filter(is_unreadable)
            }
            Purpose::FrameBox(click) => {
                let found = result::<NodeBox>(message);
                let found_box = found.as_ref().ok().map(|found| &found.model);
                interaction::found_box(&self.targets, key, click, found_box, out);
                found.err().filter(is_unreadable)
            }
            // Nothing else depends on a screenshot or a body, so a failure is not reported.
            Purpose::Screenshot(shot) => {
                let picture = result::<Screenshot<'_>>(message);
                if let (Some(target), Ok(picture)) = (target, &picture) {
                    screenshot::taken(target, shot, picture, out);
                }
                picture.err().filter(is_unreadable)
            }
            Purpose::Metrics(shot) => {
                let metrics = result::<LayoutMetrics>(message);
                if let (Some(target), Ok(metrics)) = (target, &metrics) {
                    screenshot::measured(target, shot, metrics, out);
                }
                metrics.err().filter(is_unreadable)
            }
            Purpose::Body(ended) => {
                let body = result::<ResponseBody<'_>>(message);
                network::emit_with_body(ended, body.as_ref().ok(), out);
                body.err().filter(is_unreadable)
            }
            Purpose::PostData { id } => {
                let body = result::<PostData<'_>>(message);
                self.requests
                    .posted(&id, body.as_ref().ok(), &mut self.targets, out);
                body.err().filter(is_unreadable)
            }
        };
        match failure {
            None | Some(Failure::Gone) => Ok(()),
            Some(Failure::Refused) => {
                out.emit_failed_step(method);
                Ok(())
            }
            Some(Failure::Unreadable) => Err(Unreadable),
        }
    }
}

/// A message that does not have the shape of its method.
#[derive(Debug)]
struct Unreadable;

impl From<Malformed> for Unreadable {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// Reads an event and finds its target. `None` if the target is not known, or not any more.
fn read<'t, 'm, P: Deserialize<'m>>(
    targets: &'t mut Targets,
    message: &'m str,
) -> Result<Option<(&'t mut Target, P)>, Unreadable> {
    let message: Message<'m, P> = protocol::read(message)?;
    let target = targets.of(message.session_id.as_deref());
    Ok(target.map(|target| (target, message.params)))
}

/// Reads an event whose target does not matter.
fn params<'m, P: Deserialize<'m>>(message: &'m str) -> Result<P, Unreadable> {
    let message: Message<'m, P> = protocol::read(message)?;
    Ok(message.params)
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The target was closed meanwhile, which is not a failure.
    Gone,
    /// The browser refused it, or did not answer.
    Refused,
    Unreadable,
}

/// Reads an answer.
fn result<'m, R: Deserialize<'m>>(message: Option<&'m str>) -> Result<R, Failure> {
    let message = message.ok_or(Failure::Refused)?;
    let answer: Answer<R> = protocol::read(message).map_err(|_| Failure::Unreadable)?;
    match answer {
        Answer {
            error: Some(error), ..
        } if error.code == CommandError::NO_SESSION => Err(Failure::Gone),
        Answer { error: Some(_), .. } => Err(Failure::Refused),
        Answer {
            result,
            error: None,
        } => result.ok_or(Failure::Unreadable),
    }
}
