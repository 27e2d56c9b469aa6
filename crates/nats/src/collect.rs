//! From the reader to blocks: [`Collector`]. It reads an archive for what the ring has lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tapline_api::{History, Progress, ReadLimit, Settled, SinkItem, SinkReader};
use tapline_events::Epoch;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout_at};

use crate::block::{Block, Content, Encoded, Entry};
use crate::refill::Refill;

/// What is read without a break.
const MAX_EVENTS: usize = 1024;

/// How often the ring is looked at while a block is small: reading each event as it comes costs a wake-up each.
const SLICE: Duration = Duration::from_millis(2);

pub(crate) struct Collector {
    reader: SinkReader,
    epoch: Epoch,
    progress: Progress,
    archive: Option<Arc<dyn History>>,
    linger: Duration,
    /// Read, and not in a block yet.
    items: VecDeque<SinkItem>,
    refill: Option<Refill>,
    open: Block,
    /// The last read has given as much as it may: there is more in the ring.
    is_behind: bool,
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
            refill: None,
            open: Block::default(),
            is_behind: false,
        }
    }

    /// The next block: what comes within the linger time, or while a message waits in `next`, but no more than fits.
    /// `None` once the reader has ended.
    pub(crate) async fn next(&mut self, next: &Sender<Encoded>) -> Option<Block> {
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
                // All of it is free: no message waits. Only full ones are put behind others.
                _ = next.reserve_many(next.max_capacity()) => break,
                more = self.more_after_a_slice() => has_ended = !more,
            }
        }
        Some(self.open.take())
    }

    /// The block is full, or what was read does not fit into it.
    fn is_complete(&self) -> bool {
        self.open.is_full() || (self.refill.is_none() && !self.items.is_empty())
    }

    /// As [`more`](Self::more), after a pause in which more may come.
    async fn more_after_a_slice(&mut self) -> bool {
        if self.refill.is_none() && !self.is_behind {
            sleep(SLICE).await;
        }
        self.more().await
    }

    /// Adds to the open block, or to what is to be added next. Says whether there may be more.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was read.
    async fn more(&mut self) -> bool {
        let limit = ReadLimit {
            events: MAX_EVENTS,
            bytes: self.open.bytes_left().max(1),
        };
        if let Some(refill) = &mut self.refill {
            let contents = refill.next(limit, &self.progress).await;
            let is_last = refill.is_done();
            if is_last {
                self.refill = None;
            }
            let count = contents.len();
            for (n, content) in contents.into_iter().enumerate() {
                let settles = (is_last && n + 1 == count).then_some(Settled::Exported);
                self.open.push(Entry { content, settles });
            }
        } else if self.items.is_empty() {
            match self.reader.read(limit).await {
                Some(items) => {
                    self.is_behind = MAX_EVENTS <= items.len();
                    self.items.extend(items);
                }
                None => return false,
            }
        }
        self.add_items();
        true
    }

    fn add_items(&mut self) {
        while self.refill.is_none() && !self.open.is_full() {
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
            let content = match (item, &self.archive) {
                (SinkItem::Event(envelope), _) => Content::Event(envelope),
                (SinkItem::Gap(lost), Some(archive)) => {
                    let seqs = lost.first..=lost.last;
                    self.refill = Some(Refill::new(archive.clone(), self.epoch, seqs));
                    return;
                }
                (SinkItem::Gap(lost), None) => Content::Gap {
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
}
