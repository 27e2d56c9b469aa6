//! The readers that are connected: a list of them, and how a change of a filter reaches one.
//!
//! A reader belongs to the task that reads, and no other task touches it. The task stores here where the
//! reader is, and looks here for changes. So a list costs readers nothing, and a change is made by the
//! reader's own task, at a position that it knows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tapline_api::{Backend, Epoch, Filter, ReaderLedger, TypePattern};
use tapline_oapi::{
    CategorySet, FilterNotice, OnLag, ReaderInfo, ReaderKind, ReaderList, ReaderPatch,
    ReaderPatched,
};
use tokio::sync::oneshot;

/// How many changes may wait for one reader.
const MAX_CHANGES: usize = 4;

/// All connected readers, by number. A handle: clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    /// The number that was given last.
    last: u64,
    entries: BTreeMap<u64, Arc<ReaderEntry>>,
}

/// What the list shows of a reader that begins.
#[derive(Debug, Clone)]
pub(crate) struct ReaderSpec {
    pub(crate) kind: ReaderKind,
    /// The address that it reads from.
    pub(crate) peer: String,
    /// What it asked for.
    pub(crate) asked: Filter,
    /// What it may ask for: no change of its filter goes beyond. [`Filter::all`] where it may read
    /// everything.
    pub(crate) scope: Filter,
    pub(crate) notices: bool,
    pub(crate) overtaken: OnLag,
}

/// A reader in the list, held by the task that reads. Dropping it takes the reader off the list.
#[derive(Debug)]
pub(crate) struct RegisteredReader {
    number: u64,
    entry: Arc<ReaderEntry>,
    readers: Readers,
}

/// Where the list looks up a reader's ledger.
#[derive(Debug, Clone)]
pub(crate) enum ReaderAccount {
    /// Its own ledger, until its task stores another one.
    Own(ReaderLedger),
    /// Its own, in an earlier epoch than the stream's.
    Earlier {
        /// Of its position in that epoch.
        ledger: ReaderLedger,
        epoch: Epoch,
    },
    /// A group reads for it.
    InGroup {
        /// Its own ledger when it joined.
        own: ReaderLedger,
        /// The group's ledger at that moment: of the same position.
        since: ReaderLedger,
        /// The group's ledger now.
        group: SharedLedger,
    },
}

/// The ledger of a group, updated by its task. A handle: clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLedger(Arc<Mutex<ReaderLedger>>);

/// A change of a reader's filter, on its way to the reader. It is made once it was
/// [`applied`](Self::applied). Dropped before that, it is not made, and its caller gets
/// [`PatchError::NoSuchReader`].
#[derive(Debug)]
pub(crate) struct FilterChange {
    filter: Filter,
    asked: Filter,
    entry: Arc<ReaderEntry>,
    id: String,
    reply: oneshot::Sender<ReaderPatched>,
}

/// Why a reader's filter was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchError {
    /// No reader has that id, or it has left.
    NoSuchReader,
    /// It is a `wait`, which ends with its first event.
    IsWait,
    /// It has not yet made several changes from before.
    Busy,
}

impl Readers {
    /// Adds a reader to the list, at its ledger's start.
    pub(crate) fn register(&self, spec: ReaderSpec, start: ReaderLedger) -> RegisteredReader {
        let entry = Arc::new(ReaderEntry {
            kind: spec.kind,
            peer: spec.peer,
            opened_at: Timestamp::now(),
            notices: spec.notices,
            overtaken: spec.overtaken,
            scope: spec.scope,
            asked: Mutex::new(spec.asked),
            account: Mutex::new(ReaderAccount::Own(start)),
            changes: Mutex::default(),
        });
        let mut registry = lock(&self.0);
        registry.last += 1;
        let number = registry.last;
        registry.entries.insert(number, entry.clone());
        drop(registry);
        RegisteredReader {
            number,
            entry,
            readers: self.clone(),
        }
    }

    /// All readers, in the order in which they came. Each is described as of one moment, and the head as
    /// of a later one.
    pub(crate) fn list(&self, backend: &impl Backend) -> ReaderList {
        let entries: Vec<_> = {
            let registry = lock(&self.0);
            let entries = registry.entries.iter();
            entries
                .map(|(number, entry)| (*number, entry.clone()))
                .collect()
        };
        let readers = entries
            .iter()
            .map(|(number, entry)| entry.describe(*number, backend))
            .collect();
        ReaderList {
            readers,
            head: backend.retained().head,
        }
    }

    /// Passes a change of its filter to a reader. The reader's scope bounds what is asked for, and a later
    /// change builds upon an earlier one.
    ///
    /// The receiver gets the answer once the reader has made the change, and an error where the reader
    /// leaves before. It has no time limit of its own: a reader whose socket is blocked looks for changes
    /// later. Dropping the receiver withdraws a change that was not made yet.
    ///
    /// # Errors
    ///
    /// [`PatchError`]
    pub(crate) fn patch(
        &self,
        id: &str,
        patch: ReaderPatch,
    ) -> Result<oneshot::Receiver<ReaderPatched>, PatchError> {
        let entry = {
            let registry = lock(&self.0);
            let number = number_of(id).ok_or(PatchError::NoSuchReader)?;
            let entry = registry.entries.get(&number);
            entry.cloned().ok_or(PatchError::NoSuchReader)?
        };
        if entry.kind == ReaderKind::Wait {
            return Err(PatchError::IsWait);
        }
        entry.post(patch)
    }
}

impl RegisteredReader {
    /// Its name, such as `r17`. No other reader gets the same one, not even later.
    pub(crate) fn id(&self) -> String {
        id_of(self.number)
    }

    /// Stores where the reader is: after every batch, and when it joins or leaves a group. Costs a lock
    /// that no other thread holds for longer than a copy.
    pub(crate) fn store(&self, account: ReaderAccount) {
        *lock(&self.entry.account) = account;
    }

    /// The next change of the filter; where there is none, wakes `cx` when there is.
    ///
    /// The reader makes it, and reports that with [`FilterChange::applied`] before it looks for the next
    /// one.
    pub(crate) fn poll_change(&self, cx: &mut Context<'_>) -> Poll<FilterChange> {
        let mut pending = lock(&self.entry.changes);
        while let Some((patch, reply)) = pending.changes.pop_front() {
            // A change whose caller has left is not made.
            if !reply.is_closed() {
                let asked = patched(&lock(&self.entry.asked), &patch);
                return Poll::Ready(FilterChange {
                    filter: asked.narrowed(&self.entry.scope),
                    asked,
                    entry: self.entry.clone(),
                    id: self.id(),
                    reply,
                });
            }
        }
        match &mut pending.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for RegisteredReader {
    fn drop(&mut self) {
        lock(&self.readers.0).entries.remove(&self.number);
        let mut pending = lock(&self.entry.changes);
        pending.closed = true;
        let changes = std::mem::take(&mut pending.changes);
        drop(pending);
        // Their callers are woken.
        drop(changes);
    }
}

impl FilterChange {
    /// What the reader delivers from now on, its scope included.
    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The reader has made the change: it holds for the seqs above `after`, its position. Answers the
    /// caller, and returns the notice for the stream.
    pub(crate) fn applied(self, after: u64) -> FilterNotice {
        let (category, r#type) = (self.filter.categories, names(&self.filter));
        *lock(&self.entry.asked) = self.asked;
        // The caller may have left meanwhile.
        let _ = self.reply.send(ReaderPatched {
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

impl ReaderAccount {
    fn ledger(&self) -> ReaderLedger {
        match self {
            Self::Own(ledger) | Self::Earlier { ledger, .. } => *ledger,
            Self::InGroup { own, since, group } => own.advanced_by(*since, group.load()),
        }
    }

    fn earlier_epoch(&self) -> Option<Epoch> {
        match self {
            Self::Earlier { epoch, .. } => Some(*epoch),
            Self::Own(_) | Self::InGroup { .. } => None,
        }
    }
}

impl SharedLedger {
    pub(crate) fn new(ledger: ReaderLedger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    pub(crate) fn store(&self, ledger: ReaderLedger) {
        *lock(&self.0) = ledger;
    }

    pub(crate) fn load(&self) -> ReaderLedger {
        *lock(&self.0)
    }
}

/// What a reader's task shares with all others.
#[derive(Debug)]
struct ReaderEntry {
    kind: ReaderKind,
    peer: String,
    opened_at: Timestamp,
    notices: bool,
    overtaken: OnLag,
    scope: Filter,
    /// Changed by the reader's task alone.
    asked: Mutex<Filter>,
    account: Mutex<ReaderAccount>,
    changes: Mutex<PendingChanges>,
}

/// Changes that the reader has not made yet.
#[derive(Debug, Default)]
struct PendingChanges {
    changes: VecDeque<(ReaderPatch, oneshot::Sender<ReaderPatched>)>,
    waker: Option<Waker>,
    /// The reader has left.
    closed: bool,
}

impl ReaderEntry {
    fn post(&self, patch: ReaderPatch) -> Result<oneshot::Receiver<ReaderPatched>, PatchError> {
        let mut pending = lock(&self.changes);
        if pending.closed {
            return Err(PatchError::NoSuchReader);
        }
        // Changes whose callers have left do not count.
        pending.changes.retain(|(_, reply)| !reply.is_closed());
        if pending.changes.len() == MAX_CHANGES {
            return Err(PatchError::Busy);
        }
        let (reply, answer) = oneshot::channel();
        pending.changes.push_back((patch, reply));
        let waker = pending.waker.take();
        drop(pending);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(answer)
    }

    fn describe(&self, number: u64, backend: &impl Backend) -> ReaderInfo {
        let account = lock(&self.account).clone();
        let (ledger, epoch) = (account.ledger(), account.earlier_epoch());
        let behind = backend.behind(match epoch {
            None => ledger.position(),
            Some(_) => 0,
        });
        let filter = lock(&self.asked).narrowed(&self.scope);
        ReaderInfo {
            id: id_of(number),
            kind: self.kind,
            peer: self.peer.clone(),
            opened_at: self.opened_at,
            category: filter.categories,
            r#type: names(&filter),
            notices: self.notices,
            overtaken: self.overtaken,
            position: ledger.position(),
            epoch,
            behind_events: behind.events,
            behind_bytes: behind.bytes,
            behind_seconds: behind.oldest_unread_ts.map_or(0.0, seconds_since),
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            lost: ledger.lost,
        }
    }
}

/// `asked` with the parts replaced that `patch` names.
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

/// The number in an id, where it is written exactly as [`id_of`] writes it.
fn number_of(id: &str) -> Option<u64> {
    let number = id.strip_prefix('r')?.parse().ok()?;
    (id_of(number) == id).then_some(number)
}

/// From `ts`, in microseconds since the Unix epoch, until now; 0 where `ts` is in the future.
fn seconds_since(ts: u64) -> f64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    now.saturating_sub(ts) as f64 / 1e6
}

/// A panic leaves nothing in here half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
