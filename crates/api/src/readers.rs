//! Who reads: a list of the readers, and how a change of a filter reaches one of them.
//!
//! A reader belongs to the task that reads, and nobody else touches it. It puts down here where it is,
//! and looks here for changes: so a list costs readers nothing, and a change is made by the reader
//! itself, at a position that it knows.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tapline_events::{Filter, ReaderLedger, TypePattern};
use tapline_oapi::{
    CategorySet, FilterNotice, OnLag, ReaderInfo, ReaderKind, ReaderList, ReaderPatch,
    ReaderPatched,
};

use crate::error::ApiError;
use crate::service::ApiService;

/// How many changes may wait for one reader.
const MAX_CHANGES: usize = 4;

/// What is to be known of a reader that begins.
#[derive(Debug, Clone)]
pub struct ReaderSpec {
    /// How it reads.
    pub kind: ReaderKind,
    /// The address that it reads from.
    pub peer: String,
    /// What it has asked for.
    pub asked: Filter,
    /// What it may ask for: no change of its filter goes beyond. [`Filter::all`] where it may read
    /// everything.
    pub scope: Filter,
    /// Whether its stream tells it about itself.
    pub notices: bool,
    /// What it does when it is overtaken.
    pub overtaken: OnLag,
}

/// A reader in the list, for the task that reads. Leaves the list when it is dropped.
#[derive(Debug)]
pub struct Enrolled {
    number: u64,
    seat: Arc<Seat>,
    readers: Readers,
}

/// Where a reader is.
#[derive(Debug, Clone)]
pub enum Place {
    /// Where its own ledger says, until it says otherwise.
    Own(ReaderLedger),
    /// Wherever another reader is that reads for it, at every moment.
    Carried {
        /// Its own ledger when it joined that one.
        own: ReaderLedger,
        /// That one's ledger then: of the same position.
        since: ReaderLedger,
        /// That one's ledger now.
        leader: LiveLedger,
    },
}

/// The ledger of a reader that reads for others, kept up to date by it, for whoever wants to look.
/// A handle: clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub struct LiveLedger(Arc<Mutex<ReaderLedger>>);

/// A change of a reader's filter, on its way to it. Dropped before it was [`applied`](Self::applied)
/// it has not happened, and who asked for it is told that the reader is gone.
#[derive(Debug)]
pub struct FilterChange {
    filter: Filter,
    asked: Filter,
    seat: Arc<Seat>,
    id: String,
    reply: Reply,
}

/// The answer to a change of a reader's filter, once the reader has made it.
///
/// Ends with [`ApiError::NoSuchReader`] where the reader goes away before. It has no time-out: a reader
/// whose socket is blocked looks for changes when it gets on.
///
/// # Cancel safety
///
/// Dropped before the reader has come to it, the change is not made.
#[derive(Debug)]
#[must_use = "the change is given up when this is dropped"]
pub struct Patching(Arc<Answer>);

impl ApiService {
    /// Puts a reader that begins into the list, at its ledger's start.
    pub fn enroll(&self, spec: ReaderSpec, start: ReaderLedger) -> Enrolled {
        let seat = Arc::new(Seat {
            kind: spec.kind,
            peer: spec.peer,
            opened_at: Timestamp::now(),
            notices: spec.notices,
            overtaken: spec.overtaken,
            scope: spec.scope,
            asked: Mutex::new(spec.asked),
            place: Mutex::new(Place::Own(start)),
            inbox: Mutex::default(),
        });
        let readers = self.enrolled().clone();
        let mut register = lock(&readers.0);
        register.last += 1;
        let number = register.last;
        register.seats.insert(number, seat.clone());
        drop(register);
        Enrolled {
            number,
            seat,
            readers,
        }
    }

    /// Everybody who reads, the one that has been there longest first. Each is told as of one moment, and
    /// the head as of the last of these.
    pub fn readers(&self) -> ReaderList {
        let seats: Vec<_> = {
            let register = lock(&self.enrolled().0);
            let seats = register.seats.iter();
            seats
                .map(|(number, seat)| (*number, seat.clone()))
                .collect()
        };
        let readers = seats
            .iter()
            .map(|(number, seat)| self.describe_reader(*number, seat))
            .collect();
        ReaderList {
            readers,
            head: self.session().seq(),
        }
    }

    /// Hands a change of its filter to a reader. What is asked for stays within the reader's scope, and
    /// a later change builds upon an earlier one.
    ///
    /// # Errors
    ///
    /// [`ApiError::NoSuchReader`], and [`ApiError::ReaderBusy`] where it has not come to several changes
    /// before this one.
    pub fn patch_reader(&self, id: &str, patch: ReaderPatch) -> Result<Patching, ApiError> {
        let seat = {
            let register = lock(&self.enrolled().0);
            let number = number_of(id).ok_or(ApiError::NoSuchReader)?;
            let seat = register.seats.get(&number);
            seat.cloned().ok_or(ApiError::NoSuchReader)?
        };
        seat.post(patch)
    }

    fn describe_reader(&self, number: u64, seat: &Seat) -> ReaderInfo {
        let ledger = lock(&seat.place).ledger();
        let behind = self.session().stream().behind(ledger.position());
        let filter = lock(&seat.asked).narrowed(&seat.scope);
        ReaderInfo {
            id: id_of(number),
            kind: seat.kind,
            peer: seat.peer.clone(),
            opened_at: seat.opened_at,
            category: filter.categories,
            r#type: names(&filter),
            notices: seat.notices,
            overtaken: seat.overtaken,
            position: ledger.position(),
            behind_events: behind.events,
            behind_bytes: behind.bytes,
            behind_seconds: behind.oldest_unread_ts.map_or(0.0, seconds_since),
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            lost: ledger.lost,
        }
    }
}

impl Enrolled {
    /// Its name, such as `r17`. No other reader has it, not even later.
    pub fn id(&self) -> String {
        id_of(self.number)
    }

    /// Says where it is: after every batch, or when it joins or leaves one that reads for it. Costs a
    /// lock that nobody holds for longer than a copy.
    pub fn place(&self, place: Place) {
        *lock(&self.seat.place) = place;
    }

    /// The next change of its filter; where there is none, wakes `cx` when there is.
    ///
    /// The reader makes it with [`Reader::refilter`](tapline_events::Reader::refilter), and then says so
    /// with [`FilterChange::applied`] before it looks for the next one.
    ///
    /// # Cancel safety
    ///
    /// A change that was returned and is dropped is given up; nothing else is.
    pub fn poll_change(&self, cx: &mut Context<'_>) -> Poll<FilterChange> {
        let mut inbox = lock(&self.seat.inbox);
        while let Some((patch, reply)) = inbox.changes.pop_front() {
            // Whoever has given up is not surprised by it later.
            if reply.is_awaited() {
                let asked = patched(&lock(&self.seat.asked), &patch);
                return Poll::Ready(FilterChange {
                    filter: asked.narrowed(&self.seat.scope),
                    asked,
                    seat: self.seat.clone(),
                    id: self.id(),
                    reply,
                });
            }
        }
        match &mut inbox.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        lock(&self.readers.0).seats.remove(&self.number);
        let mut inbox = lock(&self.seat.inbox);
        inbox.closed = true;
        let changes = std::mem::take(&mut inbox.changes);
        drop(inbox);
        // Tells whoever waits.
        drop(changes);
    }
}

impl FilterChange {
    /// What the reader is to ask for from now on, its scope included.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The reader has made the change: the seqs above `after`, its position, are chosen by it. Answers
    /// whoever asked for it, and gives what the stream should tell.
    pub fn applied(self, after: u64) -> FilterNotice {
        let (category, r#type) = (self.filter.categories, names(&self.filter));
        *lock(&self.seat.asked) = self.asked;
        self.reply.give(ReaderPatched {
            id: self.id,
            category,
            r#type: r#type.clone(),
            after,
        });
        FilterNotice {
            category,
            r#type,
            after,
        }
    }
}

impl Future for Patching {
    type Output = Result<ReaderPatched, ApiError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut outcome = lock(&self.0.0);
        match &mut *outcome {
            Outcome::Given(patched) => Poll::Ready(Ok(patched.clone())),
            Outcome::Gone => Poll::Ready(Err(ApiError::NoSuchReader)),
            Outcome::Awaited(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Place {
    fn ledger(&self) -> ReaderLedger {
        match self {
            Self::Own(ledger) => *ledger,
            Self::Carried { own, since, leader } => own.advanced_by(*since, leader.load()),
        }
    }
}

impl LiveLedger {
    /// With what it is now.
    pub fn new(ledger: ReaderLedger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Says what it is now.
    pub fn store(&self, ledger: ReaderLedger) {
        *lock(&self.0) = ledger;
    }

    /// What it is now.
    pub fn load(&self) -> ReaderLedger {
        *lock(&self.0)
    }
}

/// All readers there are, by number. A handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    /// The number that was given last.
    last: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
}

/// What a reader's task and everybody else share of it.
#[derive(Debug)]
struct Seat {
    kind: ReaderKind,
    peer: String,
    opened_at: Timestamp,
    notices: bool,
    overtaken: OnLag,
    scope: Filter,
    /// Changed by the reader's task alone.
    asked: Mutex<Filter>,
    place: Mutex<Place>,
    inbox: Mutex<Inbox>,
}

/// Changes that the reader has not come to.
#[derive(Debug, Default)]
struct Inbox {
    changes: VecDeque<(ReaderPatch, Reply)>,
    waker: Option<Waker>,
    /// The reader is gone.
    closed: bool,
}

impl Seat {
    fn post(&self, patch: ReaderPatch) -> Result<Patching, ApiError> {
        let mut inbox = lock(&self.inbox);
        if inbox.closed {
            return Err(ApiError::NoSuchReader);
        }
        // Those whose callers have given up take no room.
        inbox.changes.retain(|(_, reply)| reply.is_awaited());
        if inbox.changes.len() == MAX_CHANGES {
            return Err(ApiError::ReaderBusy);
        }
        let answer = Arc::new(Answer(Mutex::new(Outcome::Awaited(None))));
        let reply = Reply(Arc::downgrade(&answer));
        inbox.changes.push_back((patch, reply));
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(Patching(answer))
    }
}

/// What who asked for a change waits for.
#[derive(Debug)]
struct Answer(Mutex<Outcome>);

#[derive(Debug)]
enum Outcome {
    Awaited(Option<Waker>),
    Given(ReaderPatched),
    Gone,
}

/// The reader's end of an [`Answer`]: dropped without one, it says that the reader is gone.
#[derive(Debug)]
struct Reply(Weak<Answer>);

impl Reply {
    fn is_awaited(&self) -> bool {
        self.0.strong_count() > 0
    }

    fn give(self, patched: ReaderPatched) {
        self.settle(Outcome::Given(patched));
    }

    /// The first outcome holds.
    fn settle(&self, outcome: Outcome) {
        let Some(answer) = self.0.upgrade() else {
            return;
        };
        let mut settled = lock(&answer.0);
        let Outcome::Awaited(waker) = &mut *settled else {
            return;
        };
        let waker = waker.take();
        *settled = outcome;
        drop(settled);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.settle(Outcome::Gone);
    }
}

/// `asked` with the halves that `patch` names replaced.
fn patched(asked: &Filter, patch: &ReaderPatch) -> Filter {
    let categories = match patch.category {
        None => asked.categories,
        Some(CategorySet::EMPTY) => None,
        some => some,
    };
    let types = match &patch.r#type {
        None => asked.types.clone(),
        Some(types) => types.iter().map(|name| TypePattern::new(name)).collect(),
    };
    Filter::new(categories, types)
}

/// The types on the wire.
fn names(filter: &Filter) -> Vec<String> {
    filter.types.iter().map(ToString::to_string).collect()
}

fn id_of(number: u64) -> String {
    format!("r{number}")
}

/// The number in an id; only in the one form in which it is told.
fn number_of(id: &str) -> Option<u64> {
    let number = id.strip_prefix('r')?.parse().ok()?;
    (id_of(number) == id).then_some(number)
}

/// From `ts`, in microseconds since the Unix epoch, until now; 0 where that is still to come.
fn seconds_since(ts: u64) -> f64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    now.saturating_sub(ts) as f64 / 1e6
}

/// Nothing in here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
