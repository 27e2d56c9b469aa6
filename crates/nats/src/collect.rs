//! From the reader to batches: [`Collector`]. It reads an archive for what the ring has lost.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tapline_api::{
    Filter, History, HistoryBatch, HistoryQuery, Order, Progress, ReadLimit, Settled, SinkItem,
    SinkReader,
};
use tapline_events::Epoch;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout_at};

use crate::batch::{Batch, Content, Encoded, Entry};
use crate::error::with_sources;

/// What is read without a break.
const MAX_EVENTS: usize = 1024;

/// How often the ring is looked at while a batch is small: reading each event as it comes costs a wake-up each.
const SLICE: Duration = Duration::from_millis(2);

/// How long an archive may lack what the ring has lost, or fail: it stores an event some milliseconds after it was published.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(1);

const ARCHIVE_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Collector {
    reader: SinkReader,
    epoch: Epoch,
    progress: Progress,
    archive: Option<Arc<dyn History>>,
    linger: Duration,
    /// Read, and not in a batch yet.
    items: VecDeque<SinkItem>,
    fill: Option<Fill>,
    open: Batch,
}

/// A part of the stream that is read from the archive.
struct Fill {
    seqs: RangeInclusive<u64>,
    /// Since when the archive has given nothing.
    waits_since: Option<Instant>,
}

impl Collector {
    pub(crate) fn new(
        reader: SinkReader,
        archive: Option<Arc<dyn History>>,
        linger: Duration,
    ) -> Self {
        Self {
            epoch: reader.epoch(),
            progress: reader.progress(),
            reader,
            archive,
            linger,
            items: VecDeque::new(),
            fill: None,
            open: Batch::default(),
        }
    }

    /// The next batch: what comes within the linger time, or until a message can be given to `next`, but no more than
    /// fits. `None` once the reader has ended.
    pub(crate) async fn next(&mut self, next: &Sender<Encoded>) -> Option<Batch> {
        while self.open.is_empty() {
            if !self.more().await {
                return None;
            }
        }
        let until = Instant::now() + self.linger;
        let mut has_ended = false;
        while !self.is_complete() && !has_ended {
            match timeout_at(until, self.more_after_a_slice()).await {
                Ok(more) => has_ended = !more,
                Err(_) => break,
            }
        }
        while !self.is_complete() && !has_ended {
            tokio::select! {
                biased;
                _ = next.reserve() => break,
                more = self.more_after_a_slice() => has_ended = !more,
            }
        }
        Some(self.open.take())
    }

    /// The batch is full, or what was read does not fit into it.
    fn is_complete(&self) -> bool {
        self.open.is_full() || (self.fill.is_none() && !self.items.is_empty())
    }

    /// As [`more`](Self::more), after a pause in which more may come.
    async fn more_after_a_slice(&mut self) -> bool {
        if self.fill.is_none() {
            sleep(SLICE).await;
        }
        self.more().await
    }

    /// Adds to the open batch, or to what is to be added next. Says whether there may be more.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was read.
    async fn more(&mut self) -> bool {
        if let (Some(_), Some(archive)) = (&self.fill, self.archive.clone()) {
            self.read_archive(&*archive).await;
        } else if self.items.is_empty() {
            let limit = ReadLimit {
                events: MAX_EVENTS,
                bytes: self.open.bytes_left().max(1),
            };
            match self.reader.read(limit).await {
                Some(items) => self.items.extend(items),
                None => return false,
            }
        }
        self.add_items();
        true
    }

    fn add_items(&mut self) {
        while self.fill.is_none() && !self.open.is_full() {
            let Some(item) = self.items.front() else {
                return;
            };
            let first = match item {
                SinkItem::Event(envelope) => envelope.seq(),
                SinkItem::Gap(lost) => lost.first,
            };
            // A block has no holes: another one begins.
            if !self.open.is_continued_by(first) {
                return;
            }
            let Some(item) = self.items.pop_front() else {
                return;
            };
            let content = match item {
                SinkItem::Event(envelope) => Content::Event(envelope),
                SinkItem::Gap(lost) if self.archive.is_some() => {
                    self.fill = Some(Fill {
                        seqs: lost.first..=lost.last,
                        waits_since: None,
                    });
                    return;
                }
                SinkItem::Gap(lost) => Content::Gap {
                    first: lost.first,
                    last: lost.last,
                },
            };
            self.open.push(Entry {
                content,
                settles: Some(Settled::Exported),
            });
        }
    }

    async fn read_archive(&mut self, archive: &dyn History) {
        let Some(fill) = &mut self.fill else {
            return;
        };
        let query = HistoryQuery {
            epoch: self.epoch,
            seqs: fill.seqs.clone(),
            order: Order::Asc,
            filter: Filter::all(),
            since: None,
            until: None,
            limit: ReadLimit {
                events: MAX_EVENTS,
                bytes: self.open.bytes_left().max(1),
            },
        };
        let read = archive.read(&query).await;
        let (batch, looked_at) = match read {
            Ok(mut batch) => {
                let looked_at = batch.looked_at.take();
                (batch, looked_at.filter(|it| !it.is_empty()))
            }
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(sink = "nats", error, "the archive cannot be read");
                self.progress.report(format_args!(
                    "the archive cannot be read for events that memory has lost: {error}"
                ));
                (HistoryBatch::default(), None)
            }
        };
        let (first, last) = fill.seqs.clone().into_inner();
        let end = match looked_at {
            Some(looked_at) => *looked_at.end(),
            None => {
                let since = *fill.waits_since.get_or_insert_with(Instant::now);
                if since.elapsed() < ARCHIVE_PATIENCE {
                    sleep(ARCHIVE_PAUSE).await;
                    return;
                }
                last
            }
        };
        self.fill = match end < last {
            true => Some(Fill {
                seqs: end + 1..=last,
                waits_since: None,
            }),
            false => None,
        };
        let is_last = self.fill.is_none();
        let mut entries = Vec::with_capacity(batch.envelopes.len() + 1);
        let mut next = first;
        let gap = |first, last| Content::Gap { first, last };
        for envelope in batch.envelopes {
            let seq = envelope.seq();
            if next < seq {
                entries.push(gap(next, seq - 1));
            }
            next = seq + 1;
            entries.push(Content::Archived(envelope));
        }
        if next <= end {
            entries.push(gap(next, end));
        }
        let count = entries.len();
        for (n, content) in entries.into_iter().enumerate() {
            let settles = (is_last && n + 1 == count).then_some(Settled::Exported);
            self.open.push(Entry { content, settles });
        }
    }
}
