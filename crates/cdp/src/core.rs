//! The face of the machine: what goes in, what comes out, and which part deals with it.

use serde::Deserialize;
use serde::de::IgnoredAny;
use tapline_oapi::data::{
    DisconnectReason, MonitorDisconnected, MonitorReconnectFailed, MonitorReconnected,
    ReconnectFailure,
};
use tapline_oapi::{Category, CategorySet, KnownType};

use crate::network::{self, Closed, Requests};
use crate::outbox::{Awaited, Outbox, Output, What};
use crate::protocol::{
    self, Answer, AttachedToTarget, BindingCalled, CommandError, ConsoleApiCalled,
    DetachedFromTarget, ExceptionThrown, ExecutionContextCreated, ExecutionContextDestroyed, Fired,
    FrameNavigated, Frames, Head, LayoutMetrics, LoadingFailed, LoadingFinished, Message,
    NavigatedWithinDocument, RequestWillBeSent, ResponseBody, ResponseReceived, Screenshot,
    ScriptAdded, TimelineEventAdded,
};
use crate::redact::SharedRedaction;
use crate::targets::{AUTO_ATTACH, SEEN, Target, Targets, auto_attach};
use crate::timers::Wait;
use crate::{console, interaction, page, screenshot};

/// How the machine is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is captured, to begin with.
    pub captured: CategorySet,
    /// Which secrets are removed from events. The rules can be replaced at any time.
    pub redaction: SharedRedaction,
    /// Where text is cut, in bytes: a body, what was posted, all arguments of a console call
    /// together. Never within a character.
    pub text_limit: usize,
}

impl Default for Options {
    /// Everything captured, the default redaction, texts cut at 64 KiB.
    fn default() -> Self {
        Self {
            captured: CategorySet::ALL,
            redaction: SharedRedaction::default(),
            // Twice that (a console line's text is its first argument once more) and all the rest
            // stay far below the 1,000,000 bytes that an envelope may have.
            text_limit: 64 * 1024,
        }
    }
}

/// How much the machine holds. Each is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Pages, frames and workers.
    pub targets: usize,
    /// Requests without an end.
    pub requests: usize,
    /// Commands whose answers are waited for; those for a body hold its response.
    pub commands: usize,
    /// Deadlines.
    pub timers: usize,
}

/// The machine: from what the browser says, and when, to events and commands.
///
/// Every call takes the time, in microseconds since the Unix epoch. Time that goes back is taken as
/// standing still. After every call, take what there is to say with [`poll`](Self::poll), and call
/// [`timer`](Self::timer) at [`next_deadline`](Self::next_deadline) at the latest. A late call
/// changes nothing but when it is told: what was due comes first, with the time at which it was due.
///
/// ```
/// use tapline_cdp::{Core, Options, Output};
///
/// let mut core = Core::new(Options::default());
/// core.connected(1_795_349_358_708_459);
/// let Some(Output::Command(command)) = core.poll() else { panic!() };
/// assert_eq!(
///     command.to_text(),
///     concat!(
///         r#"{"id":1,"method":"Target.setAutoAttach","#,
///         r#""params":{"autoAttach":true,"flatten":true,"waitForDebuggerOnStart":true}}"#,
///     ),
/// );
/// // Send it; then hand over what the browser says.
/// core.message(1_795_349_358_709_694, r#"{"id":1,"result":{}}"#);
/// ```
#[derive(Debug)]
pub struct Core {
    link: Link,
    /// Whether the browser was told to attach us to all it has.
    attaching: bool,
    targets: Targets,
    requests: Requests,
    out: Outbox,
    since: Since,
    unreadable: u64,
}

/// From when on things are told that the browser keeps, and repeats to whoever switches a domain on:
/// what is older was told, or was not to be. In milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    /// Lines of the console, and exceptions.
    console: f64,
    /// Layout shifts and paints.
    page: f64,
}

/// Whether there is a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Not yet.
    New,
    Up,
    /// Lost at that time.
    Down(u64),
    /// Lost at that time, and not looked for any more.
    GivenUp(u64),
}

impl Core {
    /// A machine that waits for its browser.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            link: Link::New,
            attaching: false,
            targets: Targets::default(),
            requests: Requests::default(),
            out: Outbox::new(options),
            since: Since::default(),
            unreadable: 0,
        }
    }

    /// The browser is there: for the first time, or again. Whatever it has is listed anew.
    pub fn connected(&mut self, now: u64) {
        if self.link == Link::Up {
            self.disconnected(now, DisconnectReason::ConnectionLost);
        }
        self.advance(now);
        self.out.reconnected();
        if let Link::Down(since) | Link::GivenUp(since) = self.link {
            let told = MonitorReconnected {
                reconnect_duration_ms: (self.out.now - since) / 1000,
            };
            self.out.tell(KnownType::MonitorReconnected, None, &told);
        }
        self.link = Link::Up;
        self.attach();
    }

    /// The browser is gone. Requests that were open are closed with a reason, and all that was
    /// known of it is forgotten. Told once for a loss.
    pub fn disconnected(&mut self, now: u64, reason: DisconnectReason) {
        self.advance(now);
        if self.link != Link::Up {
            return;
        }
        self.link = Link::Down(self.out.now);
        self.attaching = false;
        for target in self.targets.all() {
            abandon(
                target,
                Closed::BrowserGone,
                &mut self.requests,
                &mut self.out,
            );
        }
        self.targets.clear();
        self.out.forget(|_| true);
        // What was captured was told, up to now.
        let captured = self.out.captured;
        self.restart(|category| captured.contains(category));
        let told = MonitorDisconnected { reason };
        self.out.tell(KnownType::MonitorDisconnected, None, &told);
    }

    /// The browser was tried to be reached as often as it may. Told once for a loss; should it come
    /// back after all, that is told, too.
    pub fn reconnect_failed(&mut self, now: u64) {
        self.advance(now);
        if let Link::Down(since) = self.link {
            self.link = Link::GivenUp(since);
            let reason = ReconnectFailure::ReconnectExhausted;
            let told = MonitorReconnectFailed { reason };
            self.out
                .tell(KnownType::MonitorReconnectFailed, None, &told);
        }
    }

    /// A step of setting up failed that is not the machine's own, such as finding the browser.
    pub fn init_failed(&mut self, now: u64, step: &str) {
        self.advance(now);
        self.out.tell_init_failed(step);
    }

    /// Something else is captured from now on. What that needs is switched on in the browser, what
    /// it does not need is switched off; with nothing to be seen, the browser is left as it was.
    pub fn reconfigure(&mut self, now: u64, captured: CategorySet) {
        self.advance(now);
        let before = std::mem::replace(&mut self.out.captured, captured);
        // What was not captured is not told, up to now.
        self.restart(|category| !before.contains(category) && captured.contains(category));
        if !self.out.captures(Category::Network) {
            self.requests.forget(&mut self.targets, &mut self.out);
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
            target.configure(&mut self.out);
        }
        self.attach();
    }

    /// The browser says something.
    ///
    /// Whatever it is, the machine goes on: what it does not know is passed over, and so is what it
    /// cannot read, which [`unreadable`](Self::unreadable) counts.
    pub fn message(&mut self, now: u64, message: &str) {
        self.advance(now);
        if self.link != Link::Up {
            return;
        }
        let read = match protocol::head(message) {
            Some(Head::Event(method)) => self.event(&method, message),
            Some(Head::Answer(id)) => match self.out.answered(id) {
                Some(awaited) => self.answered(awaited, Some(message)),
                None => Ok(()),
            },
            None => Err(Unreadable),
        };
        if read.is_err() {
            self.unreadable += 1;
        }
    }

    /// The time goes by.
    pub fn timer(&mut self, now: u64) {
        self.advance(now);
    }

    /// When [`timer`](Self::timer) has something to do; none while there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        [
            self.out.timers.next(),
            self.out.next_unanswered(),
            self.requests.next_expiry(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes the next thing that there is to say, oldest first.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.poll()
    }

    /// How much is held at present.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            targets: self.targets.len(),
            requests: self.requests.len(),
            commands: self.out.awaiting(),
            timers: self.out.timers.len(),
        }
    }

    /// How many messages could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Of these categories, what is older than now is not told any more.
    fn restart(&mut self, of: impl Fn(Category) -> bool) {
        let now = milliseconds(self.out.now);
        if of(Category::Console) {
            self.since.console = now;
        }
        if of(Category::Page) {
            self.since.page = now;
        }
    }

    /// Does what was due until `now`, each at its time, and goes on to `now`.
    fn advance(&mut self, now: u64) {
        let out = &mut self.out;
        out.options.redaction.refresh(&mut out.rules);
        while let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            self.out.now = self.out.now.max(due);
            if self.out.timers.next() == Some(due) {
                self.due();
            } else if self.out.next_unanswered() == Some(due) {
                let awaited = self.out.pop_unanswered();
                // There is no message to be unreadable.
                awaited.map(|awaited| self.answered(awaited, None));
            } else {
                self.requests.expire(&mut self.targets, &mut self.out);
            }
        }
        self.out.now = self.out.now.max(now);
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
            Wait::Layout => page::still(target, &mut self.out),
            Wait::Screenshot => screenshot::take(target, &mut self.out),
        }
    }

    /// Has the browser attach us to all that it has and will have, or to nothing.
    fn attach(&mut self) {
        let wanted = !self.out.captured.intersection(SEEN).is_empty();
        if wanted == self.attaching {
            return;
        }
        self.attaching = wanted;
        let params = auto_attach(wanted);
        if wanted {
            self.out.ask(None, None, AUTO_ATTACH, &params, What::Setup);
        } else {
            self.out.send(None, AUTO_ATTACH, &params);
        }
    }

    /// The browser tells something. What is not captured is not even read.
    fn event(&mut self, method: &str, message: &str) -> Result<(), Unreadable> {
        let Self {
            targets,
            requests,
            out,
            ..
        } = self;
        let since = self.since;
        match method {
            "Network.requestWillBeSent" if out.captures(Category::Network) => {
                if let Some((target, sent)) = read::<RequestWillBeSent<'_>>(targets, message)? {
                    requests.will_be_sent(target.key, &sent, targets, out);
                }
            }
            "Network.responseReceived" if out.captures(Category::Network) => {
                if let Some((target, received)) = read::<ResponseReceived<'_>>(targets, message)? {
                    requests.response(target.key, &received, targets, out);
                }
            }
            "Network.loadingFinished" if out.captures(Category::Network) => {
                if let Some((target, finished)) = read::<LoadingFinished<'_>>(targets, message)? {
                    requests.finished(target.key, &finished, targets, out);
                }
            }
            "Network.loadingFailed" if out.captures(Category::Network) => {
                if let Some((target, failed)) = read::<LoadingFailed<'_>>(targets, message)? {
                    requests.failed(target.key, &failed, targets, out);
                }
            }

            "Runtime.consoleAPICalled" if out.captures(Category::Console) => {
                if let Some((target, call)) = read::<ConsoleApiCalled<'_>>(targets, message)?
                    && since.console <= call.timestamp
                {
                    console::called(target, &call, out);
                }
            }
            "Runtime.exceptionThrown" if out.captures(Category::Console) => {
                if let Some((target, thrown)) = read::<ExceptionThrown<'_>>(targets, message)?
                    && since.console <= thrown.timestamp
                {
                    console::threw(target, &thrown.exception_details, out);
                }
            }
            // Not captured, but on: the runtime is there for the interactions.
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown"
                if out.captures(Category::Interaction) =>
            {
                if let Some((target, IgnoredAny)) = read(targets, message)? {
                    console::passed_over(target, out);
                }
            }

            "Runtime.bindingCalled" if out.captures(Category::Interaction) => {
                if let Some((target, call)) = read::<BindingCalled<'_>>(targets, message)? {
                    interaction::told(target, &call, out).map_err(|_| Unreadable)?;
                }
            }
            // Also while no interactions are captured: the browser makes our world anew with each
            // document, tells of it once, and the script may run in it later.
            "Runtime.executionContextCreated" => {
                if let Some((target, created)) =
                    read::<ExecutionContextCreated<'_>>(targets, message)?
                {
                    interaction::world_created(target, &created.context, out);
                }
            }
            "Runtime.executionContextDestroyed" => {
                if let Some((target, gone)) = read::<ExecutionContextDestroyed>(targets, message)? {
                    interaction::world_destroyed(target, gone.execution_context_id);
                }
            }
            "Runtime.executionContextsCleared" => {
                if let Some((target, IgnoredAny)) = read(targets, message)? {
                    interaction::worlds_cleared(&mut target.interactions);
                }
            }

            "Page.frameNavigated" => {
                if let Some((target, to)) = read::<FrameNavigated<'_>>(targets, message)? {
                    page::navigated(target, &to.frame, "Page.frameNavigated", requests, out);
                }
            }
            "Page.navigatedWithinDocument" => {
                if let Some((target, to)) = read::<NavigatedWithinDocument<'_>>(targets, message)? {
                    page::navigated_within(target, &to, out);
                }
            }
            "Page.domContentEventFired" => {
                if let Some((target, fired)) = read::<Fired>(targets, message)? {
                    page::parsed(target, &fired, out);
                }
            }
            "Page.loadEventFired" => {
                if let Some((target, fired)) = read::<Fired>(targets, message)? {
                    page::loaded(target, &fired, out);
                    screenshot::take(target, out);
                }
            }
            "PerformanceTimeline.timelineEventAdded" if out.captures(Category::Page) => {
                if let Some((target, added)) = read::<TimelineEventAdded<'_>>(targets, message)?
                    && since.page <= added.event.time.0 * 1000.0
                {
                    page::timeline(target, &added.event, out);
                }
            }

            "Target.attachedToTarget" => {
                let message: Message<'_, AttachedToTarget<'_>> = protocol::read(message)?;
                targets.attached(message.session_id.as_deref(), &message.params, out);
            }
            "Target.detachedFromTarget" => {
                let message: Message<'_, DetachedFromTarget<'_>> = protocol::read(message)?;
                for mut target in targets.detached(&message.params.session_id) {
                    abandon(&mut target, Closed::TargetGone, requests, out);
                }
            }
            // The tab is still there, and may be loaded again.
            "Inspector.targetCrashed" => {
                if let Some((target, IgnoredAny)) = read(targets, message)? {
                    page::crashed(target, out);
                    abandon(target, Closed::TargetCrashed, requests, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What was asked is answered, or will not be: then there is no message.
    fn answered(&mut self, awaited: Awaited, message: Option<&str>) -> Result<(), Unreadable> {
        let Awaited {
            key, method, what, ..
        } = awaited;
        let out = &mut self.out;
        let target = key.and_then(|key| self.targets.at(key));
        let is_unreadable = |failure: &Failure| *failure == Failure::Unreadable;
        let failure = match what {
            What::Setup => result::<IgnoredAny>(message).err(),
            What::Frames { new } => {
                let frames = result::<Frames<'_>>(message);
                if let (Some(target), Ok(frames)) = (target, &frames) {
                    let frame = &frames.frame_tree.frame;
                    page::found(target, frame, new, &mut self.requests, out);
                }
                frames.err()
            }
            What::Script => {
                let added = result::<ScriptAdded<'_>>(message);
                if let Some(target) = target {
                    let identifier = added.as_ref().ok().map(|added| &*added.identifier);
                    interaction::added(target, identifier, out);
                }
                added.err()
            }
            // Without a picture or a body there is none: nothing else depends on them.
            What::Screenshot(shot) => {
                let picture = result::<Screenshot<'_>>(message);
                if let (Some(target), Ok(picture)) = (target, &picture) {
                    screenshot::taken(target, shot, picture, out);
                }
                picture.err().filter(is_unreadable)
            }
            What::Metrics(shot) => {
                let metrics = result::<LayoutMetrics>(message);
                if let (Some(target), Ok(metrics)) = (target, &metrics) {
                    screenshot::measured(target, shot, metrics, out);
                }
                metrics.err().filter(is_unreadable)
            }
            What::Body { response, ts } => {
                let body = result::<ResponseBody<'_>>(message);
                network::tell_with_body(*response, ts, body.as_ref().ok(), out);
                body.err().filter(is_unreadable)
            }
        };
        match failure {
            None | Some(Failure::Gone) => Ok(()),
            Some(Failure::Refused) => {
                out.tell_failed(method);
                Ok(())
            }
            Some(Failure::Unreadable) => Err(Unreadable),
        }
    }
}

/// Lets go of what there is of a target that does not go on as it was: closes its requests, and
/// tells the responses whose bodies do not come any more.
fn abandon(target: &mut Target, why: Closed, requests: &mut Requests, out: &mut Outbox) {
    for awaited in out.forget(|awaited| awaited.key == Some(target.key)) {
        match awaited.what {
            What::Body { response, ts } => network::tell_with_body(*response, ts, None, out),
            What::Script => interaction::added(target, None, out),
            What::Setup | What::Frames { .. } | What::Screenshot(_) | What::Metrics(_) => {}
        }
    }
    requests.close_all(target, why, out);
    out.timers.cancel_all(target.key);
    interaction::worlds_cleared(&mut target.interactions);
}

/// A message that is not what its method promises.
#[derive(Debug)]
struct Unreadable;

impl From<serde_json::Error> for Unreadable {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

/// Reads an event, and finds its target. None where that is not known (any more).
fn read<'t, 'm, P: Deserialize<'m>>(
    targets: &'t mut Targets,
    message: &'m str,
) -> Result<Option<(&'t mut Target, P)>, Unreadable> {
    let message: Message<'m, P> = protocol::read(message)?;
    let target = targets.of(message.session_id.as_deref());
    Ok(target.map(|target| (target, message.params)))
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The target went away meanwhile: nothing went wrong.
    Gone,
    /// The browser would not do it, or did not answer.
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

#[allow(
    clippy::cast_precision_loss,
    reason = "exact for some 280 years from 1970"
)]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
