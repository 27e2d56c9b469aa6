//! The stream itself: [`EventStream`].

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tapline_oapi::encode::{LargestField, MAX_ENVELOPE_BYTES, encoded_len_at_most};
use tapline_oapi::{Epoch, Event};
use tapline_ring::{self as ring, Bounds, CapacityError, Measure, Retained, Ring};

use crate::counts::Counts;
use crate::envelope::{Entry, Envelope, EnvelopeRef, json_len};
use crate::reader::Reader;
use crate::stamp::Stamp;

/// A bounded stream of numbered events. A handle: clones are the same stream.
///
/// Appending never blocks and never waits for a reader. Every method takes `&self`.
pub struct EventStream<M = ()>
where
    M: Stamp,
{
    ring: Arc<Ring<Entry, M>>,
    epoch: Epoch,
}

/// How much is retained; the oldest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most so many events, rounded up to a power of two. At least 1.
    pub events: usize,
    /// At most so many bytes of memory, by an estimate for each event: the event itself, its
    /// bookkeeping and its JSON, whether that has been made or not. The newest event is retained
    /// whatever its size.
    pub bytes: u64,
    /// Of so many of the newest events the category is known for longer than they are retained, so that a loss is exact
    /// by category also for a reader that was away for long. A byte each, on top of `bytes`, in memory that is allocated as
    /// they come; rounded up to a power of two, and to 8,192 at least. While the newest 4,096 begin anew, as many fewer
    /// are known. With 0, a loss is not known by category unless it begins with the first event.
    pub category_log: usize,
}

/// 65,536 events and 64 MiB, whichever is reached first, and the categories of the last 16,777,216 events.
impl Default for Retention {
    fn default() -> Self {
        Self {
            events: 65_536,
            bytes: 64 * 1024 * 1024,
            category_log: 16 * 1024 * 1024,
        }
    }
}

/// How far behind a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Behind {
    /// Seqs up to the head that it has not reached, evicted or not, asked for or not.
    pub events: u64,
    /// The memory of those of them that are retained, in bytes, as [`Retention::bytes`].
    pub bytes: u64,
    /// The `ts` of the first of those that are retained, in microseconds since the Unix epoch: what has
    /// passed since then is how far behind the reader is in time. `None` where there is none.
    pub oldest_unread_ts: Option<u64>,
}

/// Why an event was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError<R> {
    /// `admit` refused it, for that reason.
    #[error("the event was not admitted")]
    NotAdmitted(R),
    /// Its envelope is over the limit even without `data`, most of all because of that field.
    #[error(
        "field `{0}`: too large; the envelope is over {MAX_ENVELOPE_BYTES} bytes even with its data left out"
    )]
    TooLarge(LargestField),
}

/// What can be published: an event, a shared event, or a reference to a shared event.
///
/// The last, `&Arc<Event>`, takes a reference count only where the event is kept.
pub trait IntoEvent {
    /// The event, for a look before it is decided whether it is kept.
    fn event(&self) -> &Event;

    /// The event, to be kept.
    fn into_event(self) -> Arc<Event>;
}

impl IntoEvent for Event {
    fn event(&self) -> &Event {
        self
    }

    fn into_event(self) -> Arc<Event> {
        Arc::new(self)
    }
}

impl IntoEvent for Arc<Event> {
    fn event(&self) -> &Event {
        self
    }

    fn into_event(self) -> Arc<Event> {
        self
    }
}

impl IntoEvent for &Arc<Event> {
    fn event(&self) -> &Event {
        self
    }

    fn into_event(self) -> Arc<Event> {
        self.clone()
    }
}

impl<M: Stamp> EventStream<M> {
    /// An empty stream with the default stamp and a new random epoch. Its first seq is 1.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where nothing or too much is to be retained.
    ///
    /// # Panics
    ///
    /// Where the system has no randomness for the epoch.
    pub fn new(retention: Retention) -> Result<Self, CapacityError> {
        Self::resume(retention, random_epoch(), 1)
    }

    /// A stream that continues `epoch`: its first event gets the seq `next_seq`. For a caller that has
    /// stored the events before it, and the epoch.
    ///
    /// Nothing before `next_seq` is in memory. So before the first event the head is `next_seq - 1` and the
    /// oldest is 0. A [reader](Self::reader) from an earlier seq begins after `next_seq - 1`; the events in
    /// between are its [`position`](Reader::position)` - after`, of categories that the stream does not
    /// know. [`totals`](Self::totals) count from here.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] where nothing or too much is to be retained, and
    /// [`CapacityError::FirstSeq`] where `next_seq` is 0 or above 2^60 + 1.
    pub fn resume(
        retention: Retention,
        epoch: Epoch,
        next_seq: u64,
    ) -> Result<Self, CapacityError> {
        let start = next_seq.checked_sub(1).ok_or(CapacityError::FirstSeq(0))?;
        let bounds = Bounds {
            records: retention.events,
            weight: retention.bytes,
            log: retention.category_log,
        };
        Ok(Self {
            ring: Arc::new(Ring::starting_after(start, bounds, M::default())?),
            epoch,
        })
    }

    /// Appends the event, if `admit` allows it under the stamp in force, and answers with its envelope.
    ///
    /// An event without a `ts` gets the time of this call. Where the envelope would be over
    /// [`MAX_ENVELOPE_BYTES`], `data` becomes `null` and `truncated` true.
    ///
    /// `admit` may run several times; its last answer held when the event got its seq.
    ///
    /// # Ordering
    ///
    /// Lock-free. Seq order is the order of appending; the order of `ts` need not be the same.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the event has no seq then.
    pub fn append<R>(
        &self,
        event: impl IntoEvent,
        admit: impl FnMut(&M) -> Result<(), R>,
    ) -> Result<Envelope<M>, AppendError<R>> {
        self.ring
            .append_with(|| entry(event), decide(admit))
            .map(Envelope::new)
            .map_err(|refused| refused.reason)
    }

    /// To append several events that are at hand: see [`Batch`].
    pub fn batch(&self) -> Batch<'_, M> {
        Batch(self.ring.batch())
    }

    /// Puts another stamp in force between two events, and returns the head at that moment: events up to
    /// it were admitted under the stamp before, all later ones under the new one.
    ///
    /// `change` gets the stamp in force and the head. It may run several times.
    ///
    /// # Errors
    ///
    /// The reason that `change` refuses with; nothing has changed then.
    pub fn transition<R>(&self, change: impl FnMut(&M, u64) -> Result<M, R>) -> Result<u64, R> {
        self.ring.transition(change)
    }

    /// Looks at the stamp in force and the head, as of one moment.
    pub fn state<R>(&self, look: impl FnOnce(&M, u64) -> R) -> R {
        self.ring.state(look)
    }

    /// How many events of each category have got a seq since the stream was opened, retained or not. As of
    /// one moment, so their sum is the head at that moment, less what the stream was
    /// [resumed](Self::resume) after.
    pub fn totals(&self) -> Counts {
        loop {
            let (start, head) = (self.ring.start(), self.ring.head());
            // Unknown only where the log has gone around between the two looks.
            if let Some(classes) = self.ring.classes(start + 1..=head) {
                return Counts::of_classes(classes);
            }
        }
    }

    /// A reader whose first event is `after + 1`, or the oldest retained where that is gone. What was gone
    /// before the reader began is [`Reader::position`]` - after` events. They are in its ledger only after
    /// [`Reader::count_from`].
    pub fn reader(&self, after: u64) -> Reader<M> {
        Reader::new(&self.ring, after)
    }

    /// The envelope with that seq, if it is retained.
    pub fn envelope(&self, seq: u64) -> Option<Envelope<M>> {
        self.ring.get(seq).map(Envelope::new)
    }

    /// What can be read now; its `weight` is in bytes, as [`Retention::bytes`].
    pub fn retained(&self) -> Retained {
        self.ring.retained()
    }

    /// How far behind a reader at that position is: exact, as of one moment, at the same cost however far.
    /// Nothing is behind a position at the head or beyond.
    ///
    /// While producers append, what is evicted during this call may still be in [`bytes`](Behind::bytes).
    pub fn behind(&self, position: u64) -> Behind {
        let Some(unread) = self.ring.unread(position) else {
            // Nothing was appended yet, or nothing after `position`.
            return Behind {
                events: self.ring.start().saturating_sub(position),
                ..Behind::default()
            };
        };
        Behind {
            events: unread.head - position,
            bytes: unread.weight,
            oldest_unread_ts: Some(unread.first.value().ts),
        }
    }

    /// The newest seq. Before the first event 0, or the seq before `next_seq` of a
    /// [resumed](Self::resume) stream.
    pub fn head(&self) -> u64 {
        self.ring.head()
    }

    /// The bound in force.
    pub fn retention(&self) -> Retention {
        let bounds = self.ring.bounds();
        Retention {
            events: bounds.records,
            bytes: bounds.weight,
            category_log: bounds.log,
        }
    }

    /// The memory that the [category log](Retention::category_log) takes now, in bytes.
    pub fn category_log_bytes(&self) -> u64 {
        self.ring.log_bytes()
    }

    /// The epoch: it names the run of the stream in which its seqs are valid.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Appends one event after the other to a stream, for less than [`EventStream::append`] takes for each: what is done for
/// all of them together, and when sleeping readers are called, says [`tapline_ring::Batch`].
///
/// While it lives, what is evicted is not freed: drop it before anything that waits. It belongs to the thread that made it.
pub struct Batch<'s, M: Stamp = ()>(ring::Batch<'s, Entry, M>);

impl<M: Stamp> Batch<'_, M> {
    /// Appends the event as [`EventStream::append`] does, and shows its envelope.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the event has no seq then. The batch can be used further.
    pub fn append<R>(
        &mut self,
        event: impl IntoEvent,
        admit: impl FnMut(&M) -> Result<(), R>,
    ) -> Result<EnvelopeRef<'_, M>, AppendError<R>> {
        self.0
            .append_with(|| entry(event), decide(admit))
            .map(EnvelopeRef::new)
            .map_err(|refused| refused.reason)
    }
}

impl<M: Stamp> fmt::Debug for Batch<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batch").field(&self.0).finish()
    }
}

fn entry(event: impl IntoEvent) -> Entry {
    let event = event.into_event();
    let ts = if event.ts == 0 { now() } else { event.ts };
    Entry::new(event, ts)
}

/// The decision about an event, for each attempt to append it.
fn decide<M: Stamp, R>(
    mut admit: impl FnMut(&M) -> Result<(), R>,
) -> impl FnMut(&mut Entry, &mut M, u64) -> Result<Measure, AppendError<R>> {
    // The event as it came, once an attempt had to cut it.
    let mut whole: Option<Arc<Event>> = None;
    move |entry, stamp, seq| {
        admit(stamp).map_err(AppendError::NotAdmitted)?;
        let metadata = stamp.metadata();
        if let Some(whole) = &whole {
            // It was cut for a stamp that may not be in force any more.
            entry.event = whole.clone();
        }
        // A cheap bound decides nearly always; only close to the limit is it worked out.
        if encoded_len_at_most(&entry.event, metadata) > MAX_ENVELOPE_BYTES {
            whole = Some(entry.event.clone());
            fit(entry, seq, metadata)?;
        }
        Ok(Measure {
            weight: u32::try_from(entry.weight::<M>()).unwrap_or(u32::MAX),
            class: entry.event.category.index() as u8,
        })
    }
}

/// Cuts the data where the envelope is over the limit with it.
fn fit<R>(entry: &mut Entry, seq: u64, stamp: Option<(&str, &str)>) -> Result<(), AppendError<R>> {
    let fits = |entry: &Entry| json_len(seq, entry.ts, &entry.event, stamp) <= MAX_ENVELOPE_BYTES;
    if !fits(entry) {
        entry.event = Arc::new(entry.event.cut());
        if !fits(entry) {
            return Err(AppendError::TooLarge(LargestField::of(&entry.event)));
        }
    }
    Ok(())
}

/// Microseconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// A new epoch, drawn from the system's randomness.
///
/// # Panics
///
/// If the system has no randomness to give: two runs of the stream could not be distinguished then.
fn random_epoch() -> Epoch {
    Epoch::from_bits(getrandom::u64().expect("the system's source of randomness answers"))
}

impl<M: Stamp> Clone for EventStream<M> {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            epoch: self.epoch,
        }
    }
}

impl<M: Stamp> fmt::Debug for EventStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("epoch", &self.epoch)
            .field("retained", &self.retained())
            .finish_non_exhaustive()
    }
}
