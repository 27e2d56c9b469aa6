//! What was published before: [`History`].

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use tapline_events::{Epoch, EventStream};
use tapline_oapi::Category;
use tapline_telemetry::{Envelope, SessionState};

use crate::source::BoxFuture;

/// Retained events that can be read by their seqs: the stream in memory, an archive, a broker.
///
/// [`conformance::check_history`](crate::conformance::check_history) checks an implementation.
pub trait History: Send + Sync + 'static {
    /// What can be read now, as of one moment.
    fn bounds(&self) -> BoxFuture<'_, Result<HistoryBounds, HistoryError>>;

    /// Reads the events after the seq `after`, in order and without holes. What was evicted before it could be
    /// read is in [`HistoryBatch::missing`].
    ///
    /// There is at least one event in it where there is one after `after`, whatever the limit.
    ///
    /// # Errors
    ///
    /// Where the events cannot be read. A later attempt may succeed.
    ///
    /// # Cancel safety
    ///
    /// Reading changes nothing, so the future may be dropped at any time.
    fn read(
        &self,
        after: u64,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<HistoryBatch, HistoryError>>;
}

/// What can be read of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Which stream the seqs belong to.
    pub epoch: Epoch,
    /// The oldest seq that can be read; 0 where there is none.
    pub oldest: u64,
    /// The newest seq that can be read; 0 before the first event.
    pub head: u64,
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

/// A run of events.
#[derive(Debug, Clone, Default)]
pub struct HistoryBatch {
    /// Seqs right after the cursor that are not retained any more.
    pub missing: Option<RangeInclusive<u64>>,
    /// The events after those, each seq one above the one before.
    pub envelopes: Vec<SharedEnvelope>,
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
        block: Arc<[u8]>,
        json: Range<usize>,
    },
}

impl SharedEnvelope {
    /// An envelope whose JSON is a part of a block of bytes, such as a block of an archive.
    ///
    /// `None` where the range is not in the block, or is not UTF-8.
    pub fn in_block(
        seq: u64,
        ts: u64,
        category: Category,
        event_type: impl Into<Arc<str>>,
        block: Arc<[u8]>,
        json: Range<usize>,
    ) -> Option<Self> {
        std::str::from_utf8(block.get(json.clone())?).ok()?;
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
    pub fn json(&self) -> &[u8] {
        match &self.0 {
            Stored::InMemory(envelope) => envelope.json().as_bytes(),
            Stored::InBlock { block, json, .. } => &block[json.clone()],
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
        let json = String::from_utf8_lossy(self.json());
        f.debug_tuple("SharedEnvelope").field(&json).finish()
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

    fn read_now(&self, after: u64, limit: ReadLimit) -> HistoryBatch {
        let mut batch = HistoryBatch::default();
        let head = self.0.head();
        let mut bytes = 0;
        let mut seq = after.saturating_add(1);
        while seq <= head && batch.envelopes.len() < limit.events.max(1) && bytes <= limit.bytes {
            match self.0.envelope(seq) {
                Some(envelope) => {
                    bytes += envelope.json().len();
                    let is_first = batch.envelopes.is_empty();
                    if !is_first && limit.bytes < bytes {
                        break;
                    }
                    batch.envelopes.push(envelope.into());
                    seq += 1;
                }
                // A batch has no holes: the next one begins with what is missing.
                None if !batch.envelopes.is_empty() => break,
                None => {
                    let oldest = self.0.retained().oldest.max(seq + 1);
                    batch.missing = Some(after + 1..=oldest - 1);
                    seq = oldest;
                }
            }
        }
        batch
    }
}

impl History for MemoryHistory {
    fn bounds(&self) -> BoxFuture<'_, Result<HistoryBounds, HistoryError>> {
        Box::pin(async {
            let retained = self.0.retained();
            Ok(HistoryBounds {
                epoch: self.0.epoch(),
                oldest: retained.oldest,
                head: retained.head,
            })
        })
    }

    fn read(
        &self,
        after: u64,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<HistoryBatch, HistoryError>> {
        Box::pin(async move { Ok(self.read_now(after, limit)) })
    }
}
