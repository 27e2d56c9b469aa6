//! The session and its operations: [`TelemetrySession`].

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tapline_events::{AppendError, EventStream, IntoEvent};
use tapline_oapi::{Category, CategorySet, Event, LargestField};

use crate::ledger::SessionLedger;
use crate::state::{Session, SessionState, TelemetryConfig};
use crate::sync::{AtomicU16, Mutex, MutexGuard};
use crate::tally::{Reason, Tallies};

/// An envelope of a session's stream.
pub type Envelope = tapline_events::Envelope<SessionState>;

/// An [`Envelope`] that is only looked at.
pub type EnvelopeRef<'a> = tapline_events::EnvelopeRef<'a, SessionState>;

/// A reader of a session's stream.
pub type Reader = tapline_events::Reader<SessionState>;

/// A stream with a telemetry session in front of it.
///
/// Publishing and looking take no lock. Starting, changing and stopping exclude each other; no producer and
/// no reader waits for them.
///
/// # Ordering
///
/// A change is in force between two seqs: an event carries session S's id if and only if its seq
/// is above S's `start_seq` and not above the head at the next transition. Once
/// [`stop`](Self::stop) has returned, no further event of that session gets a seq; once
/// [`update_config`](Self::update_config) has returned, none of a category that it switched off.
pub struct TelemetrySession {
    stream: EventStream<SessionState>,
    /// What may be captured right now: what the state in force captures, and during a transition
    /// everything. Refuses most of what is not captured, for the price of a load. About the rest the stream
    /// decides, atomically with the seq. See [`transition`](Self::transition).
    open: AtomicU16,
    /// Held while the session is changed, and at no other time.
    control: Mutex<()>,
    tallies: Tallies,
}

/// Why an event was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No session is running.
    #[error("no telemetry session is running")]
    Inactive,
    /// The session does not capture this category.
    #[error("the category `{0}` is not captured")]
    CategoryDisabled(Category),
    /// The envelope is over the limit even without `data`, most of all because of that field.
    #[error("field `{0}`: too large; the event is over the limit even with its data left out")]
    TooLarge(LargestField),
}

/// A session needs an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session's id is empty")]
pub struct EmptyId;

/// There is no session to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no telemetry session is running")]
pub struct Inactive;

impl TelemetrySession {
    /// No session is running yet: everything published is refused until [`start`](Self::start).
    pub fn new(stream: EventStream<SessionState>) -> Self {
        let captured = stream.state(|state, _| state.captured());
        Self {
            stream,
            open: AtomicU16::new(captured.bits()),
            control: Mutex::new(()),
            tallies: Tallies::default(),
        }
    }

    /// Begins a session, which replaces a running one, and returns its `start_seq`: the head at
    /// that moment.
    ///
    /// # Errors
    ///
    /// [`EmptyId`]; nothing has changed then.
    pub fn start(&self, id: &str, config: TelemetryConfig) -> Result<u64, EmptyId> {
        if id.is_empty() {
            return Err(EmptyId);
        }
        let id = Arc::<str>::from(id);
        let applied_at = SystemTime::now();
        let next = |_: &SessionState, start_seq| {
            let id = id.clone();
            Ok(SessionState::running(
                Session {
                    id,
                    config,
                    applied_at,
                    start_seq,
                },
                start_seq,
            ))
        };
        Ok(self
            .transition(next)
            .unwrap_or_else(|never: Infallible| match never {}))
    }

    /// Replaces the configuration of the running session, and returns the head at that moment.
    ///
    /// # Errors
    ///
    /// [`Inactive`] where no session is running; nothing has changed then.
    pub fn update_config(&self, config: TelemetryConfig) -> Result<u64, Inactive> {
        let applied_at = SystemTime::now();
        self.transition(|state, head| {
            let session = state.session().ok_or(Inactive)?.clone();
            Ok(SessionState::running(
                Session {
                    config,
                    applied_at,
                    ..session
                },
                head,
            ))
        })
    }

    /// Ends the session, if one is running, and returns the head at that moment. What is retained
    /// stays, and readers continue.
    pub fn stop(&self) -> u64 {
        self.transition(|_, head| Ok(SessionState::stopped(head)))
            .unwrap_or_else(|never: Infallible| match never {})
    }

    /// Publishes the event, if it is captured, and answers with its envelope.
    ///
    /// Stamps `source.metadata.telemetry_session_id`, over a value of the producer's own; the
    /// producer's event is not changed. Sets a `ts` where there is none. Takes an
    /// [`Event`](tapline_oapi::Event), an `Arc` of one, or `&Arc` for producers that want to keep it.
    ///
    /// # Ordering
    ///
    /// Lock-free: never blocks, and never waits for a reader, another producer, or a change of the session.
    /// Refusing allocates nothing; only during a transition is an event that was not shared allocated
    /// first.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says why the event has no seq. Callers may ignore the answer.
    #[inline]
    pub fn publish(&self, event: impl IntoEvent) -> Result<Envelope, PublishError> {
        self.may_admit(None, event.event().category)?;
        self.append(None, event)
    }

    /// Publishes as [`publish`](Self::publish) does, but only into one session: the one whose
    /// [`Session::id`] this is. Sessions are compared by the allocation of their id, not by its text, so
    /// that two sessions with the same id stay apart.
    ///
    /// # Ordering
    ///
    /// Whether that session is running is decided together with the seq: once the session has ended, no
    /// event that is published here gets a seq.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish), and [`PublishError::Inactive`] where another session is running.
    pub fn publish_in(
        &self,
        id: &Arc<str>,
        event: impl IntoEvent,
    ) -> Result<Envelope, PublishError> {
        self.may_admit(Some(id), event.event().category)?;
        self.append(Some(id), event)
    }

    /// To publish several events that are at hand: see [`Batch`].
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            session: self,
            only: None,
            stream: self.stream.batch(),
        }
    }

    /// As [`batch`](Self::batch), into one session only, as [`publish_in`](Self::publish_in).
    pub fn batch_in<'s>(&'s self, id: &'s Arc<str>) -> Batch<'s> {
        Batch {
            only: Some(id),
            ..self.batch()
        }
    }

    /// A reader whose first event is `after_seq + 1`, or the oldest retained where that is gone; 0 =
    /// from the oldest retained.
    pub fn new_reader(&self, after_seq: u64) -> Reader {
        self.stream.reader(after_seq)
    }

    /// The id of the running session.
    pub fn id(&self) -> Option<String> {
        self.look(|session| session.id.to_string())
    }

    /// Whether a session is running.
    pub fn active(&self) -> bool {
        self.look(|_| ()).is_some()
    }

    /// The configuration of the running session.
    pub fn config(&self) -> Option<TelemetryConfig> {
        self.look(|session| session.config)
    }

    /// When the configuration of the running session was applied.
    pub fn applied_at(&self) -> Option<SystemTime> {
        self.look(|session| session.applied_at)
    }

    /// The newest seq, of whatever session; 0 before the first event.
    pub fn seq(&self) -> u64 {
        self.stream.head()
    }

    /// The seq at which the running session began: its events have higher ones.
    pub fn session_start_seq(&self) -> Option<u64> {
        self.look(|session| session.start_seq)
    }

    /// All of the above as of one moment: the state in force, and the head.
    pub fn snapshot(&self) -> (SessionState, u64) {
        self.stream.state(|state, head| (state.clone(), head))
    }

    /// What became of everything that was offered so far. Takes some microseconds, and none of a
    /// producer's time.
    pub fn ledger(&self) -> SessionLedger {
        SessionLedger {
            published: self.stream.totals(),
            filtered: self.tallies.sum(),
            truncated: self.tallies.truncated.counts(),
            refused: self.tallies.refused.counts(),
        }
    }

    /// The stream that it publishes to.
    pub fn stream(&self) -> &EventStream<SessionState> {
        &self.stream
    }

    /// Refuses, for the price of a load, most of what is not captured. What passes is decided again, with its seq.
    #[inline]
    fn may_admit(&self, only: Option<&Arc<str>>, category: Category) -> Result<(), PublishError> {
        // Acquire: the transition that stored it, for what this thread does next; pairs with the
        // last store in `transition`. No model notices if the two are relaxed: the ring's own accesses order them, too.
        let open = CategorySet::from_bits(self.open.load(Acquire));
        admit(open, category).map_err(|reason| {
            // What was read belongs to the session in force, which may be another one.
            let in_force = |only| {
                self.stream
                    .state(|state, _| admit_in(state, Some(only), category))
            };
            let reason = match only.map(in_force) {
                Some(Err(Reason::Inactive)) => Reason::Inactive,
                _ => reason,
            };
            self.filtered(reason, category)
        })
    }

    /// Separate from [`publish`](Self::publish), so that refusing is small enough to be inlined.
    #[inline(never)]
    fn append(
        &self,
        only: Option<&Arc<str>>,
        event: impl IntoEvent,
    ) -> Result<Envelope, PublishError> {
        let offered = Offered::of(event.event());
        let admit = |state: &_| admit_in(state, only, offered.category);
        let appended = self.stream.append(event, admit);
        self.counted(offered, appended, Envelope::event)
    }

    #[inline]
    fn counted<E>(
        &self,
        offered: Offered,
        appended: Result<E, AppendError<Reason>>,
        event: impl FnOnce(&E) -> &Event,
    ) -> Result<E, PublishError> {
        match appended {
            Ok(envelope) => {
                let kept = event(&envelope);
                // Cutting made it shorter; its producer may have set `truncated` itself.
                if kept.truncated && bytes_of_data(kept) < offered.bytes_of_data {
                    self.tallies.truncated.bump(offered.category);
                }
                Ok(envelope)
            }
            Err(AppendError::NotAdmitted(reason)) => Err(self.filtered(reason, offered.category)),
            Err(AppendError::TooLarge(field)) => {
                self.tallies.refused.bump(offered.category);
                Err(PublishError::TooLarge(field))
            }
        }
    }

    #[inline]
    fn filtered(&self, reason: Reason, category: Category) -> PublishError {
        self.tallies.filtered(reason, category);
        match reason {
            Reason::Inactive => PublishError::Inactive,
            Reason::CategoryDisabled => PublishError::CategoryDisabled(category),
        }
    }

    fn look<R>(&self, look: impl FnOnce(&Session) -> R) -> Option<R> {
        self.stream.state(|state, _| state.session().map(look))
    }

    /// Puts the next state in force.
    ///
    /// `open` admits everything from before the state changes until afterwards. So a producer that it
    /// refuses was refused by the state in force, for the reason that this state gives. About all others
    /// the stream decides, whose change is one exchange.
    ///
    /// The call that changes the state last must also be the last to store `open`. So the calls exclude
    /// each other: two at the same time could leave `open` to the one whose state was replaced.
    fn transition<E>(
        &self,
        next: impl FnMut(&SessionState, u64) -> Result<SessionState, E>,
    ) -> Result<u64, E> {
        let _control = self.control();
        // Relaxed: a thread that sees the transition sees this, because the transition's exchange releases it.
        self.open.store(CategorySet::ALL.bits(), Relaxed);
        let head = self.stream.transition(next);
        let captured = self.stream.state(|state, _| state.captured());
        // Release: a producer that it refuses sees the transition; pairs with the load in `publish`.
        self.open.store(captured.bits(), Release);
        head
    }

    fn control(&self) -> MutexGuard<'_, ()> {
        // A panic can have left `open` wide: right until the next transition, and only slower.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes one event after the other, for less than [`TelemetrySession::publish`] takes for each.
///
/// # Ordering
///
/// Each event is decided and gets its seq by itself, as with [`TelemetrySession::publish`], and can be read from then on: a
/// session that starts or stops meanwhile is in force from the next event on, and events of other producers may come in
/// between. Readers that sleep are called after every 64 events, and when the batch is dropped.
///
/// # Memory
///
/// While it lives, what is evicted is not freed: drop it before anything that waits. It belongs to the thread that made it,
/// and holds up no other one.
#[derive(Debug)]
pub struct Batch<'s> {
    session: &'s TelemetrySession,
    /// The one session to publish into.
    only: Option<&'s Arc<str>>,
    stream: tapline_events::Batch<'s, SessionState>,
}

impl Batch<'_> {
    /// Publishes the event as [`TelemetrySession::publish`] does, and shows its envelope.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says why the event has no seq. The batch can be used further.
    pub fn publish(&mut self, event: impl IntoEvent) -> Result<EnvelopeRef<'_>, PublishError> {
        let (session, only) = (self.session, self.only);
        session.may_admit(only, event.event().category)?;
        let offered = Offered::of(event.event());
        let admit = |state: &_| admit_in(state, only, offered.category);
        let appended = self.stream.append(event, admit);
        session.counted(offered, appended, EnvelopeRef::event)
    }
}

/// What is remembered of an event that was offered.
#[derive(Clone, Copy)]
struct Offered {
    category: Category,
    bytes_of_data: usize,
}

impl Offered {
    #[inline]
    fn of(event: &Event) -> Self {
        Self {
            category: event.category,
            bytes_of_data: bytes_of_data(event),
        }
    }
}

/// Decides under a state; `only` is the id of the one session to publish into, if there is one.
#[inline]
fn admit_in(
    state: &SessionState,
    only: Option<&Arc<str>>,
    category: Category,
) -> Result<(), Reason> {
    if let Some(only) = only {
        let session = state.session();
        if !session.is_some_and(|session| Arc::ptr_eq(&session.id, only)) {
            return Err(Reason::Inactive);
        }
    }
    admit(state.captured(), category)
}

#[inline]
fn admit(captured: CategorySet, category: Category) -> Result<(), Reason> {
    if captured.contains(category) {
        Ok(())
    } else if captured.is_empty() {
        Err(Reason::Inactive)
    } else {
        Err(Reason::CategoryDisabled)
    }
}

fn bytes_of_data(event: &Event) -> usize {
    event.data.as_ref().map_or(0, |data| data.get().len())
}

impl fmt::Debug for TelemetrySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, head) = self.snapshot();
        f.debug_struct("TelemetrySession")
            .field("session", &state.session())
            .field("head", &head)
            .finish_non_exhaustive()
    }
}
