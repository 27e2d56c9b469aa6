//! Writing segments: [`Writer`].
//!
//! # What survives what
//!
//! | step | when | what it survives |
//! |---|---|---|
//! | an event is read from the ring | at once | nothing |
//! | its block is written to the segment | the block has 256 KiB, or is 50 ms old | kill -9 of this process |
//! | the segment is synced (`fdatasync`) | 80 ms after the block's first event was read, or after 4 MiB | power loss |
//! | the event is settled | right after that | it was durable before it was acknowledged |
//!
//! A new segment's name is durable (`fsync` of the directory) before anything in it is settled.
//!
//! # Errors
//!
//! After any error of the disk the segment is abandoned: it is cut to what is durable, and nothing is added to it again.
//! A failed sync is never retried, since the system may have dropped what it could not write. What was not
//! durable was not settled, so it is read from the ring again, and is written to a new segment.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::SinkItem;
use tapline_events::Epoch;

use crate::block::{BlockBuilder, Meta};
use crate::error::ArchiveError;
use crate::name::{SegmentName, wall_clock};
use crate::options::ArchiveOptions;
use crate::store::{Segment, Store, View, report};

/// A block is closed at this size, in bytes of NDJSON.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// A block is closed when its first event has waited for so long.
const BLOCK_AGE: Duration = Duration::from_millis(50);

/// What is written is synced when its first event has waited for so long: the rest of 100 ms is for the disk.
const SYNC_AGE: Duration = Duration::from_millis(80);

/// Or when so much was written, so that one sync does not take long.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;

/// How often the age of segments is looked at.
const RETENTION_PAUSE: Duration = Duration::from_secs(10);

/// Writes events to segments. It is used by one thread at a time.
pub(crate) struct Writer {
    store: Arc<Store>,
    options: ArchiveOptions,
    builder: BlockBuilder,
    /// When the first item of the open block was added.
    block_began: Option<Instant>,
    /// How many items the open block has.
    items: usize,
    active: Option<Active>,
    clock: Clock,
    retention_checked: Option<Instant>,
}

/// The segment that is written to.
struct Active {
    file: File,
    path: PathBuf,
    name: SegmentName,
    began: Instant,
    /// The last seq of this epoch before the next block.
    previous: u64,
    len: u64,
    durable: u64,
    /// In the list of segments once something of it is durable.
    segment: Option<Arc<Segment>>,
    /// Blocks that are not durable, each with its place and length.
    pending: Vec<(Meta, u64, u64)>,
    /// How many items these have, and when the first of them was added.
    pending_items: usize,
    pending_since: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(store: Arc<Store>, options: ArchiveOptions) -> Self {
        Self {
            store,
            options,
            builder: BlockBuilder::new(),
            block_began: None,
            items: 0,
            active: None,
            clock: Clock::new(),
            retention_checked: None,
        }
    }

    /// Adds an item. Gives how many items were made durable by that.
    pub(crate) fn add(&mut self, epoch: Epoch, item: &SinkItem) -> Result<usize, ArchiveError> {
        let first = match item {
            SinkItem::Event(envelope) => envelope.seq(),
            SinkItem::Gap(gap) => gap.first,
        };
        let mut durable = 0;
        // A block has no holes: where events were not captured by the sink, another one begins.
        if !self.builder.is_continued_by(first) || self.is_of_another_epoch(epoch) {
            durable += self.close_block(epoch)?;
        }
        match item {
            SinkItem::Event(envelope) => {
                let event = envelope.event();
                let (seq, ts) = (envelope.seq(), envelope.ts());
                let json = envelope.json();
                self.builder
                    .push(seq, ts, event.category, &event.event_type, json);
            }
            SinkItem::Gap(gap) => self.builder.push_gap(gap.first..=gap.last),
        }
        self.items += 1;
        self.block_began.get_or_insert_with(Instant::now);
        if BLOCK_BYTES <= self.builder.raw_len() {
            durable += self.close_block(epoch)?;
        }
        Ok(durable)
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let block = self.block_began.map(|began| began + BLOCK_AGE);
        let pending = self.active.as_ref().and_then(|it| it.pending_since);
        let sync = pending.map(|since| since + SYNC_AGE);
        [block, sync].into_iter().flatten().min()
    }

    /// Does what is due. Gives how many items were made durable.
    pub(crate) fn tick(&mut self, epoch: Epoch) -> Result<usize, ArchiveError> {
        let now = Instant::now();
        let mut durable = 0;
        if self.block_began.is_some_and(|it| it + BLOCK_AGE <= now) {
            durable += self.close_block(epoch)?;
        }
        let pending = self.active.as_ref().and_then(|it| it.pending_since);
        if pending.is_some_and(|since| since + SYNC_AGE <= now) {
            durable += self.sync()?;
        }
        Ok(durable)
    }

    /// Makes everything durable. Gives how many items that were.
    pub(crate) fn flush(&mut self, epoch: Epoch) -> Result<usize, ArchiveError> {
        Ok(self.close_block(epoch)? + self.sync()?)
    }

    /// Drops what is not durable, after an error or where it is no longer wanted.
    pub(crate) fn abandon(&mut self) {
        self.builder.clear();
        self.block_began = None;
        self.items = 0;
        let Some(active) = self.active.take() else {
            return;
        };
        if active.len == active.durable && active.segment.is_some() {
            // Nothing of it is in doubt.
            self.active = Some(active);
            return;
        }
        self.store.lock_counts().abandoned += 1;
        let disk = &self.store.disk;
        let cut = match active.durable {
            0 => disk.remove(&active.path),
            durable => disk.truncate(&active.file, &active.path, durable),
        };
        if let Err(error) = cut {
            // The next process that opens the archive finds what is torn. What is whole is there twice, in two
            // segments, and is read once.
            tracing::warn!(error = %report(&error), "the end of an abandoned segment is not cut off");
        }
        self.seal(active);
    }

    /// Ends the segment. What is not durable in it is abandoned.
    pub(crate) fn close(&mut self) {
        self.abandon();
        if let Some(active) = self.active.take() {
            self.seal(active);
        }
    }

    fn is_of_another_epoch(&self, epoch: Epoch) -> bool {
        (self.active.as_ref()).is_some_and(|active| active.name.epoch != epoch)
    }

    fn close_block(&mut self, epoch: Epoch) -> Result<usize, ArchiveError> {
        let began = self.block_began.take();
        if self.builder.last() == 0 {
            return Ok(0);
        }
        let mut durable = 0;
        let must_roll = self.active.as_ref().is_some_and(|active| {
            active.name.epoch != epoch
                || self.options.segment_bytes <= active.len
                || self.options.segment_age() <= active.began.elapsed()
        });
        if must_roll {
            durable += self.sync()?;
            if let Some(active) = self.active.take() {
                self.seal(active);
            }
        }
        let active = match &mut self.active {
            Some(active) => active,
            None => {
                let active = self.begin_segment(epoch)?;
                self.active.insert(active)
            }
        };
        let mut bytes = Vec::new();
        let meta = self
            .builder
            .finish(epoch, active.previous, wall_clock(), &mut bytes);
        let items = std::mem::take(&mut self.items);
        let Some(meta) = meta else {
            return Ok(durable);
        };
        let offset = active.len;
        // Even where only a part is written, that is behind the durable part now.
        active.len += bytes.len() as u64;
        self.store.disk.write(&active.file, &active.path, &bytes)?;
        active.previous = meta.last;
        active.pending.push((meta, offset, bytes.len() as u64));
        active.pending_items += items;
        active.pending_since = active.pending_since.or(began);
        if SYNC_BYTES <= active.len - active.durable {
            durable += self.sync()?;
        }
        Ok(durable)
    }

    fn begin_segment(&self, epoch: Epoch) -> Result<Active, ArchiveError> {
        let name = SegmentName {
            created: self.store.next_created(wall_clock()),
            epoch,
            first: self.builder.first(),
        };
        let path = self.store.disk.dir.join(name.file());
        let known = self.store.epochs()?;
        let known = known.into_iter().find(|(it, _)| *it == epoch);
        let previous = known.and_then(|(_, views)| views.iter().map(|it| it.summary.last).max());
        Ok(Active {
            file: self.store.disk.create(&path)?,
            path,
            name,
            began: Instant::now(),
            previous: previous.unwrap_or(0),
            len: 0,
            durable: 0,
            segment: None,
            pending: Vec::new(),
            pending_items: 0,
            pending_since: None,
        })
    }

    fn sync(&mut self) -> Result<usize, ArchiveError> {
        let Some(active) = &mut self.active else {
            return Ok(0);
        };
        if active.pending.is_empty() {
            return Ok(0);
        }
        self.store.disk.sync(&active.file, &active.path)?;
        let segment = match &active.segment {
            Some(segment) => segment,
            None => {
                self.store.disk.sync_dir()?;
                let added = self.store.add(active.name, active.path.clone());
                active.segment.insert(added)
            }
        };
        active.durable = active.len;
        segment.extend(active.pending.drain(..));
        active.pending_since = None;
        let durable = std::mem::take(&mut active.pending_items);
        self.keep_to_bounds();
        Ok(durable)
    }

    /// The segment is complete: its index is written beside it.
    fn seal(&self, active: Active) {
        let Active { segment, name, .. } = active;
        if let Some(index) = segment.and_then(|it| it.seal()) {
            self.store.write_index(name, &index);
        }
    }

    /// Deletes the oldest segments where there is too much, or what is too old. The segment that is written to
    /// stays.
    fn keep_to_bounds(&mut self) {
        let is_due = (self.retention_checked).is_none_or(|it| RETENTION_PAUSE <= it.elapsed());
        let Ok(views) = self.store.views() else {
            return;
        };
        let mut bytes: u64 = views.iter().map(|view| view.summary.len).sum();
        if bytes <= self.options.max_bytes && !is_due {
            return;
        }
        self.retention_checked = Some(Instant::now());
        let now = self.clock.now();
        let active = self.active.as_ref().map(|it| it.name);
        for view in views {
            let is_active = Some(view.segment.name) == active;
            let is_too_old = self.options.max_age.is_some_and(|max| {
                let age = now.saturating_sub(view.summary.written_at);
                max.as_micros() < u128::from(age)
            });
            if is_active || !(self.options.max_bytes < bytes || is_too_old) {
                return;
            }
            if let Err(error) = delete(&self.store, &view) {
                tracing::warn!(error = %report(&error), "a segment that is to go is not deleted");
                return;
            }
            bytes -= view.summary.len;
            let mut counts = self.store.lock_counts();
            counts.deleted += 1;
            counts.deleted_events += view.summary.events;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Deletes a segment and its index, durably.
pub(crate) fn delete(store: &Store, view: &View) -> Result<(), ArchiveError> {
    let name = view.segment.name;
    store.disk.remove(&view.segment.path)?;
    store.forget(&view.segment);
    store.disk.remove(&store.disk.dir.join(name.index_file()))?;
    tracing::info!(
        first = view.summary.first, last = view.summary.last, epoch = %name.epoch,
        "a segment of the archive is deleted"
    );
    store.disk.sync_dir()
}

/// The time by which segments are too old.
///
/// Where the wall clock was set forward, it is behind that clock: nothing is deleted because of a jump. Where
/// it was set back, it follows.
struct Clock {
    began: Instant,
    wall: u64,
}

impl Clock {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            wall: wall_clock(),
        }
    }

    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        wall_clock().min(self.wall.saturating_add(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_do_not_age_by_a_clock_that_is_set() {
        const YEAR: u64 = 365 * 24 * 60 * 60 * 1_000_000;
        const MINUTE: u64 = 60 * 1_000_000;
        let set = |wall| Clock {
            began: Instant::now(),
            wall,
        };
        let now = wall_clock();
        // Set forward by a year since it began.
        assert!(set(now - YEAR).now() < now - YEAR + MINUTE);
        // Set back.
        let later = set(now + YEAR).now();
        assert!((now..now + MINUTE).contains(&later), "{later}");
    }
}
