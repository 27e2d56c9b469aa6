//! Writing what happened around an event to a file of its own: [`FlightRecorder`].
//!
//! It is a sink that reads only the events that trigger it. So it slows no producer, and it is counted and shown as
//! any sink: an event that a dump has is exported, and one that triggered none, because dumps are limited, is excluded.

use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_timer::Delay;
use tapline_api::{
    BoxFuture, History, HistoryQuery, Order, ReadLimit, Settled, SharedEnvelope, Sink, SinkError,
    SinkItem, SinkReader, StopSignal,
};
use tapline_events::{Epoch, Filter, TypePattern};
use tapline_oapi::EventType;

use crate::block::BlockBuilder;
use crate::disk::Disk;
use crate::error::ArchiveError;
use crate::name::{SegmentName, wall_clock};
use crate::store::Listing;
use crate::writer::BLOCK_BYTES;

/// What triggers a dump, and how much a dump has.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// The directory for the dumps. It is made where it is missing. Each dump is a segment of an archive, so the
    /// directory can be read as one.
    pub dir: PathBuf,
    /// The types of events that trigger a dump.
    pub triggers: Vec<TypePattern>,
    /// How much a dump has before the event, by `ts`: a minute by default.
    pub before: Duration,
    /// How much a dump has after the event: 10 seconds by default. It is written when that has passed.
    pub after: Duration,
    /// Between two events that trigger dumps there is at least this time, by their `ts`: a minute by default, and
    /// at least `before + after`, so that no event is in two dumps.
    pub pause: Duration,
    /// There are at most so many dumps, and the oldest is deleted first: 20 by default, at least 1.
    pub max_dumps: usize,
    /// A dump has at most so many bytes of JSON, the newest: 64 MiB by default.
    pub max_dump_bytes: u64,
}

impl RecorderOptions {
    /// With the defaults.
    pub fn new(dir: impl Into<PathBuf>, triggers: Vec<TypePattern>) -> Self {
        Self {
            dir: dir.into(),
            triggers,
            before: Duration::from_secs(60),
            after: Duration::from_secs(10),
            pause: Duration::from_secs(60),
            max_dumps: 20,
            max_dump_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Writes what memory and archive have around events of some types, each time to a file.
pub struct FlightRecorder {
    options: RecorderOptions,
    memory: Arc<dyn History>,
    archive: Option<Arc<dyn History>>,
}

impl FlightRecorder {
    /// Dumps from `memory`, and from `archive` what memory does not have any more.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] or [`ArchiveError::NotWritable`] where the directory cannot be made or written. Blocks for that.
    pub fn new(
        options: RecorderOptions,
        memory: Arc<dyn History>,
        archive: Option<Arc<dyn History>>,
    ) -> Result<Self, ArchiveError> {
        Disk::new(options.dir.clone(), None).create_dir()?;
        Ok(Self {
            options,
            memory,
            archive,
        })
    }

    async fn record(&self, mut reader: SinkReader, stop: StopSignal) -> Result<(), SinkError> {
        const ONE: ReadLimit = ReadLimit {
            events: 1,
            bytes: 0,
        };

        let progress = reader.progress();
        let epoch = reader.epoch();
        // Until when the last dump has events, and from when on there may be another one.
        let (mut covered, mut next) = (0, 0);
        while let Some(items) = reader.read(ONE).await {
            for item in items {
                let settled = match &item {
                    // Which of the events that were lost would have triggered a dump is not known.
                    SinkItem::Gap(_) => Settled::Excluded,
                    SinkItem::Event(trigger) if trigger.ts() <= covered => Settled::Exported,
                    SinkItem::Event(trigger) if trigger.ts() < next => Settled::Excluded,
                    SinkItem::Event(trigger) => {
                        self.wait(&stop).await;
                        self.dump(epoch, trigger.ts()).await?;
                        let (before, after) = (self.options.before, self.options.after);
                        covered = later(trigger.ts(), after);
                        next = later(trigger.ts(), self.options.pause.max(before + after));
                        Settled::Exported
                    }
                };
                // Refused only where this run has ended already.
                let _ = progress.settle(settled, 1);
            }
        }
        Ok(())
    }

    /// Until what follows has happened, or the program ends.
    async fn wait(&self, stop: &StopSignal) {
        let mut delay = pin!(Delay::new(self.options.after));
        let mut stopped = pin!(stop.stopped());
        poll_fn(|cx| match delay.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => stopped.as_mut().poll(cx).map(|_| ()),
        })
        .await;
    }

    async fn dump(&self, epoch: Epoch, ts: u64) -> Result<(), SinkError> {
        let before = u64::try_from(self.options.before.as_micros()).unwrap_or(u64::MAX);
        let mut dump = Dump::new(epoch, self.options.max_dump_bytes);
        let query = |seqs| HistoryQuery {
            epoch,
            seqs,
            order: Order::Asc,
            filter: Filter::all(),
            since: Some(ts.saturating_sub(before)),
            until: Some(later(ts, self.options.after)),
            limit: ReadLimit::default(),
        };
        let bounds = self.memory.bounds().await.map_err(SinkError::new)?;
        let bounds = bounds.iter().find(|it| it.epoch == epoch);
        // An event that memory evicts meanwhile is reported as missing.
        let oldest = bounds.map_or(u64::MAX, |it| it.oldest.max(1));
        if let Some(archive) = &self.archive {
            dump.read(&**archive, query(1..=oldest - 1)).await?;
        }
        dump.read(&*self.memory, query(oldest..=u64::MAX)).await?;
        let options = self.options.clone();
        let written = blocking::unblock(move || dump.write(&options)).await;
        written.map_err(SinkError::new)
    }
}

impl Sink for FlightRecorder {
    fn name(&self) -> &str {
        "dump"
    }

    fn filter(&self) -> Filter {
        Filter::types(self.options.triggers.clone())
    }

    fn run(&self, reader: SinkReader, stop: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.record(reader, stop))
    }
}

fn later(ts: u64, by: Duration) -> u64 {
    ts.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX))
}

/// A part of the stream in memory, as compressed blocks.
struct Dump {
    epoch: Epoch,
    builder: BlockBuilder,
    /// Each with the size of its JSON. The oldest goes first where there is too much.
    blocks: std::collections::VecDeque<(u64, Vec<u8>)>,
    first: Vec<u64>,
    bytes: u64,
    max_bytes: u64,
    /// The last seq that was added; 0 before the first one.
    last: u64,
}

impl Dump {
    fn new(epoch: Epoch, max_bytes: u64) -> Self {
        Self {
            epoch,
            builder: BlockBuilder::new(),
            blocks: std::collections::VecDeque::new(),
            first: Vec::new(),
            bytes: 0,
            max_bytes,
            last: 0,
        }
    }

    async fn read(
        &mut self,
        history: &dyn History,
        mut query: HistoryQuery,
    ) -> Result<(), SinkError> {
        while !query.seqs.is_empty() {
            let batch = history.read(&query).await.map_err(SinkError::new)?;
            let Some(looked_at) = batch.looked_at else {
                break;
            };
            let mut missing = batch.missing.into_iter().peekable();
            for envelope in &batch.envelopes {
                while let Some(gone) = missing.next_if(|it| *it.end() < envelope.seq()) {
                    self.gap(gone);
                }
                self.event(envelope);
            }
            missing.for_each(|gone| self.gap(gone));
            query.seqs = match looked_at.end().checked_add(1) {
                Some(next) => next..=*query.seqs.end(),
                None => break,
            };
        }
        Ok(())
    }

    fn event(&mut self, envelope: &SharedEnvelope) {
        let Ok(event_type) = EventType::new(envelope.event_type()) else {
            return;
        };
        let (seq, ts) = (envelope.seq(), envelope.ts());
        // Events of other times are left out.
        if !self.builder.is_continued_by(seq) || BLOCK_BYTES <= self.builder.raw_len() {
            self.close_block();
        }
        let category = envelope.category();
        self.builder
            .push(seq, ts, category, &event_type, envelope.json());
        self.last = seq;
    }

    /// What is missing before the first event is not known to be of this time.
    fn gap(&mut self, gone: RangeInclusive<u64>) {
        if self.last == 0 {
            return;
        }
        if !self.builder.is_continued_by(*gone.start()) {
            self.close_block();
        }
        self.last = *gone.end();
        self.builder.push_gap(gone);
    }

    fn close_block(&mut self) {
        let (first, raw) = (self.builder.first(), self.builder.raw_len() as u64);
        let mut block = Vec::new();
        let meta = self.builder.finish(self.epoch, 0, wall_clock(), &mut block);
        if meta.is_none() {
            return;
        }
        self.blocks.push_back((raw, block));
        self.first.push(first);
        self.bytes += raw;
        while self.max_bytes < self.bytes && 1 < self.blocks.len() {
            if let Some((raw, _)) = self.blocks.pop_front() {
                self.bytes -= raw;
                self.first.remove(0);
            }
        }
    }

    fn write(mut self, options: &RecorderOptions) -> Result<(), ArchiveError> {
        self.close_block();
        let Some(first) = self.first.first() else {
            return Ok(());
        };
        let disk = Disk::new(options.dir.clone(), None);
        let mut listing = Listing::of(&disk.dir)?;
        let most = options.max_dumps.max(1) - 1;
        let too_many = listing.segments.len().saturating_sub(most);
        for (_, path) in listing.segments.drain(..too_many) {
            disk.remove(&path)?;
        }
        let newest = listing.segments.last().map_or(0, |(name, _)| name.created);
        let name = SegmentName {
            created: wall_clock().max(newest + 1),
            epoch: self.epoch,
            first: *first,
        };
        let temporary = disk.dir.join(format!("{name}.tmp"));
        disk.remove(&temporary)?;
        let file = disk.create(&temporary)?;
        for (_, block) in &self.blocks {
            disk.write(&file, &temporary, block)?;
        }
        disk.sync(&file, &temporary)?;
        let path = disk.dir.join(name.file());
        std::fs::rename(&temporary, &path)
            .map_err(|error| ArchiveError::io("rename", &temporary, error))?;
        disk.sync_dir()?;
        tracing::info!(dump = %path.display(), "a dump is written");
        Ok(())
    }
}
