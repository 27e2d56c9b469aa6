//! What was published before: [`History`].

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use tapline_events::{Epoch, EventStream, Filter};
use tapline_oapi::{Category, EnvelopeJson};
use tapline_telemetry::{Envelope, SessionState};

use crate::source::BoxFuture;

/// Retained events that can be read by their seqs: the stream in memory, an archive, a broker.
///
/// [`conformance::check_history`](crate::conformance::check_history) checks an implementation.
///
/// # Cancel safety
///
/// Reading changes nothing, so its futures may be dropped at any time.
pub trait History: Send + Sync + 'static {
    /// What can be read now, as of one moment: one for each epoch that has events, the oldest epoch first.
    /// Without any event it may be empty.
    ///
    /// # Errors
    ///
    /// Where it cannot be read. A later attempt may succeed.
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<HistoryBounds>, HistoryError>>;

    /// Reads the events of the query in its order. What should be there and is not is in
    /// [`HistoryBatch::missing`].
    ///
    /// One read takes a bounded time, so it may end early, and may have no event in it. It has looked at one
    /// seq at least, if one of [`HistoryQuery::seqs`] is at the head or before it.
    ///
    /// # Errors
    ///
    /// Where the events cannot be read. A later attempt may succeed.
    fn read<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<HistoryBatch, HistoryError>>;

    /// Counts the events of an epoch with these seqs that match a filter, the oldest first.
    ///
    /// One call takes a bounded time, as [`read`](Self::read) does, which it uses unless a history can count
    /// without reading its events.
    ///
    /// # Errors
    ///
    /// As `read`.
    fn count<'a>(
        &'a self,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        filter: &'a Filter,
    ) -> BoxFuture<'a, Result<HistoryCount, HistoryError>> {
        Box::pin(async move {
            let query = HistoryQuery {
                epoch,
                seqs,
                order: Order::Asc,
                filter: filter.clone(),
                since: None,
                until: None,
                limit: ReadLimit::default(),
            };
            let batch = self.read(&query).await?;
            let missing = batch.missing.iter();
            Ok(HistoryCount {
                matching: batch.envelopes.len() as u64,
                missing: missing.map(|gone| gone.end() - gone.start() + 1).sum(),
                looked_at: batch.looked_at,
            })
        })
    }
}

/// What can be read of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Which run of the stream the seqs belong to.
    pub epoch: Epoch,
    /// The oldest seq that can be read; 0 where there is none.
    pub oldest: u64,
    /// The newest seq that can be read; 0 before the first event.
    pub head: u64,
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of which run of the stream.
    pub epoch: Epoch,
    /// Only these seqs.
    pub seqs: RangeInclusive<u64>,
    /// From the first of these on, or from the last one down.
    pub order: Order,
    /// Only such events.
    pub filter: Filter,
    /// Only events at this time or later, in microseconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only events up to this time, in microseconds since the Unix epoch.
    pub until: Option<u64>,
    /// How many of them at once.
    pub limit: ReadLimit,
}

impl HistoryQuery {
    /// Whether an event of this time is asked for.
    pub fn is_in_time(&self, ts: u64) -> bool {
        self.since.is_none_or(|since| since <= ts) && self.until.is_none_or(|until| ts <= until)
    }
}

/// The order of seqs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// How much to read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most so many events; 0 counts as 1.
    pub events: usize,
    /// No further event after so many bytes of JSON.
    pub bytes: usize,
}

/// 512 events or 256 KiB.
impl Default for ReadLimit {
    fn default() -> Self {
        Self {
            events: 512,
            bytes: 256 * 1024,
        }
    }
}

/// What one read has found.
#[derive(Debug, Clone, Default)]
pub struct HistoryBatch {
    /// The events that were asked for, in the order asked for.
    pub envelopes: Vec<SharedEnvelope>,
    /// Seqs that were looked at and cannot be read: evicted, deleted, damaged or never stored. Ranges that
    /// neither overlap nor touch, in the order asked for. They have no time and no type, so they are
    /// here whatever the query asks for besides seqs.
    pub missing: Vec<RangeInclusive<u64>>,
    /// The seqs that were looked at: the first ones of the query, or the last ones in descending order. `None`
    /// where all of its seqs are above the head, or there are none.
    pub looked_at: Option<RangeInclusive<u64>>,
}

/// How many events there are in a range of seqs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryCount {
    /// That match the filter.
    pub matching: u64,
    /// That cannot be read, as [`HistoryBatch::missing`]. Whether they match is not known.
    pub missing: u64,
    /// The seqs that were counted, as [`HistoryBatch::looked_at`].
    pub looked_at: Option<RangeInclusive<u64>>,
}

/// The epoch that follows that one in a history; `present` follows the last.
pub(crate) fn epoch_after(epochs: &[HistoryBounds], epoch: Epoch, present: Epoch) -> Epoch {
    let mut later = epochs.iter().skip_while(|it| it.epoch != epoch).skip(1);
    later.next().map_or(present, |it| it.epoch)
}

impl HistoryBatch {
    /// Adds missing seqs behind those that it has, in either order.
    pub fn add_missing(&mut self, gone: RangeInclusive<u64>) {
        if let Some(last) = self.missing.last_mut() {
            if last.end() + 1 == *gone.start() {
                *last = *last.start()..=*gone.end();
                return;
            }
            if gone.end() + 1 == *last.start() {
                *last = *gone.start()..=*last.end();
                return;
            }
        }
        self.missing.push(gone);
    }
}

impl fmt::Debug for dyn History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HistoryError(Box<dyn std::error::Error + Send + Sync>);

impl HistoryError {
    /// With the reason: an error, or a text.
    pub fn new(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

/// An event with its seq, from whatever history it comes. A cheap clone: the JSON is shared, not copied.
#[derive(Clone)]
pub struct SharedEnvelope(Stored);

#[derive(Clone)]
enum Stored {
    InMemory(Envelope),
    InBlock {
        seq: u64,
        ts: u64,
        category: Category,
        event_type: Arc<str>,
        block: Arc<String>,
        json: Range<usize>,
    },
}

impl SharedEnvelope {
    /// An envelope whose JSON is a part of a block of text, such as a block of an archive.
    ///
    /// `None` where the range is not in the block, or cuts a character.
    pub fn in_block(
        seq: u64,
        ts: u64,
        category: Category,
        event_type: impl Into<Arc<str>>,
        block: Arc<String>,
        json: Range<usize>,
    ) -> Option<Self> {
        block.get(json.clone())?;
        Some(Self(Stored::InBlock {
            seq,
            ts,
            category,
            event_type: event_type.into(),
            block,
            json,
        }))
    }

    /// 1, 2, 3 … over the life of the stream.
    pub fn seq(&self) -> u64 {
        match &self.0 {
            Stored::InMemory(envelope) => envelope.seq(),
            Stored::InBlock { seq, .. } => *seq,
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn ts(&self) -> u64 {
        match &self.0 {
            Stored::InMemory(envelope) => envelope.ts(),
            Stored::InBlock { ts, .. } => *ts,
        }
    }

    /// The event's category.
    pub fn category(&self) -> Category {
        match &self.0 {
            Stored::InMemory(envelope) => envelope.event().category,
            Stored::InBlock { category, .. } => *category,
        }
    }

    /// The event's type.
    pub fn event_type(&self) -> &str {
        match &self.0 {
            Stored::InMemory(envelope) => envelope.event().event_type.as_str(),
            Stored::InBlock { event_type, .. } => event_type,
        }
    }

    /// `{"seq":N,"event":{…}}`.
    pub fn json(&self) -> EnvelopeJson<'_> {
        match &self.0 {
            Stored::InMemory(envelope) => envelope.json(),
            Stored::InBlock { block, json, .. } => block[json.clone()].into(),
        }
    }
}

impl From<Envelope> for SharedEnvelope {
    fn from(envelope: Envelope) -> Self {
        Self(Stored::InMemory(envelope))
    }
}

impl fmt::Debug for SharedEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedEnvelope").field(&self.json()).finish()
    }
}

/// The events that the stream retains in memory.
#[derive(Debug, Clone)]
pub struct MemoryHistory(EventStream<SessionState>);

impl MemoryHistory {
    /// The history of this stream.
    pub fn new(stream: EventStream<SessionState>) -> Self {
        Self(stream)
    }

    /// How many events one read looks at.
    const MAX_SCAN: u64 = 16_384;

    fn read_now(&self, query: &HistoryQuery) -> HistoryBatch {
        let mut batch = HistoryBatch::default();
        let head = self.0.head();
        let (first, last) = (*query.seqs.start().max(&1), head.min(*query.seqs.end()));
        if query.epoch != self.0.epoch() || last < first {
            return batch;
        }
        let mut bytes = 0;
        let mut left = Self::MAX_SCAN;
        // What is left to look at.
        let (mut low, mut high) = (first, last);
        while low <= high && 0 < left {
            let seq = match query.order {
                Order::Asc => low,
                Order::Desc => high,
            };
            let Some(envelope) = self.0.envelope(seq) else {
                let oldest = self.0.retained().oldest;
                let gone = match query.order {
                    Order::Asc => seq..=high.min(oldest.max(seq + 1) - 1),
                    Order::Desc => low..=seq,
                };
                match query.order {
                    Order::Asc => low = gone.end() + 1,
                    Order::Desc => high = low - 1,
                }
                batch.add_missing(gone);
                continue;
            };
            if query.is_in_time(envelope.ts()) && query.filter.matches(envelope.event()) {
                bytes += envelope.json().len();
                let is_first = batch.envelopes.is_empty();
                if !is_first && query.limit.bytes < bytes {
                    break;
                }
                batch.envelopes.push(envelope.into());
            }
            match query.order {
                Order::Asc => low += 1,
                Order::Desc => high -= 1,
            }
            left -= 1;
            if batch.envelopes.len() == query.limit.events.max(1) {
                break;
            }
        }
        batch.looked_at = Some(match query.order {
            Order::Asc => first..=low - 1,
            Order::Desc => high + 1..=last,
        });
        batch
    }
}

impl History for MemoryHistory {
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<HistoryBounds>, HistoryError>> {
        Box::pin(async {
            let retained = self.0.retained();
            Ok(vec![HistoryBounds {
                epoch: self.0.epoch(),
                oldest: retained.oldest,
                head: retained.head,
            }])
        })
    }

    fn read<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<HistoryBatch, HistoryError>> {
        Box::pin(async move { Ok(self.read_now(query)) })
    }
}
