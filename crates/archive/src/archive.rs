//! [`Archive`]: reading.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapline_api::{
    BoxFuture, History, HistoryBatch, HistoryBounds, HistoryCount, HistoryError, HistoryQuery,
};
use tapline_events::{Epoch, Filter};

use crate::disk::Disk;
use crate::error::ArchiveError;
use crate::store::{ArchiveCounts, Store, View};

/// Reads an archive. A cheap clone.
///
/// An archive that another process writes to can be read at the same time. What is read then is what that process
/// has written, durable or not. The archive of an [`ArchiveSink`](crate::ArchiveSink) gives only what is durable.
#[derive(Debug, Clone)]
pub struct Archive(Arc<Store>);

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Which run of the stream its events are of.
    pub epoch: Epoch,
    /// The first and the last seq in it, gaps included.
    pub seqs: RangeInclusive<u64>,
    /// How many events it has.
    pub events: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The size of its NDJSON, in bytes.
    pub raw_bytes: u64,
    /// How many blocks it has.
    pub blocks: u64,
    /// The smallest and the greatest `ts` of its events, in microseconds since the Unix epoch. `None` where it has
    /// only gaps.
    pub time: Option<RangeInclusive<u64>>,
}

impl Archive {
    /// Opens a directory for reading. Needs no lock, and writes nothing.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] where the directory or a segment in it cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ArchiveError> {
        let disk = Disk::new(dir.as_ref().to_owned(), None);
        Ok(Self(Arc::new(Store::reader(disk)?)))
    }

    pub(crate) fn of(store: Arc<Store>) -> Self {
        Self(store)
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.0
    }

    /// What can be read now, one for each epoch, the oldest first.
    ///
    /// Blocks while it reads the directory.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] where the directory cannot be read.
    pub fn bounds_now(&self) -> Result<Vec<HistoryBounds>, ArchiveError> {
        let epochs = self.0.epochs()?;
        let bounds = epochs.into_iter().map(|(epoch, views)| HistoryBounds {
            epoch,
            oldest: views
                .iter()
                .map(|it| it.summary.oldest)
                .find(|it| *it != 0)
                .unwrap_or(0),
            head: views.iter().map(|it| it.summary.last).max().unwrap_or(0),
        });
        Ok(bounds.collect())
    }

    /// Reads events: [`History::read`] on this thread.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] where a file cannot be read. What is damaged or deleted is no error: it is missing.
    pub fn read_now(&self, query: &HistoryQuery) -> Result<HistoryBatch, ArchiveError> {
        self.0.read(query)
    }

    /// Counts events: [`History::count`] on this thread. It reads the metadata of blocks, and of the blocks at the
    /// ends of the range, and where a filter needs it, the events.
    ///
    /// # Errors
    ///
    /// As [`read_now`](Self::read_now).
    pub fn count_now(
        &self,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        filter: &Filter,
    ) -> Result<HistoryCount, ArchiveError> {
        self.0.count(epoch, seqs, filter)
    }

    /// The files, in the order of writing.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`] where the directory cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, ArchiveError> {
        let views = self.0.views()?;
        Ok(views.iter().map(info).collect())
    }

    /// What happened to it since it was opened.
    pub fn counts(&self) -> ArchiveCounts {
        *self.0.lock_counts()
    }
}

pub(crate) fn info(view: &View) -> SegmentInfo {
    let summary = &view.summary;
    SegmentInfo {
        path: view.segment.path.clone(),
        epoch: view.segment.name.epoch,
        seqs: summary.first..=summary.last,
        events: summary.events,
        bytes: summary.len,
        raw_bytes: summary.raw,
        blocks: summary.blocks,
        time: (summary.oldest_ts <= summary.newest_ts)
            .then_some(summary.oldest_ts..=summary.newest_ts),
    }
}

impl History for Archive {
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<HistoryBounds>, HistoryError>> {
        let archive = self.clone();
        Box::pin(async move {
            let bounds = blocking::unblock(move || archive.bounds_now()).await;
            bounds.map_err(HistoryError::new)
        })
    }

    fn read<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<HistoryBatch, HistoryError>> {
        let (archive, query) = (self.clone(), query.clone());
        Box::pin(async move {
            let batch = blocking::unblock(move || archive.read_now(&query)).await;
            batch.map_err(HistoryError::new)
        })
    }

    fn count<'a>(
        &'a self,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        filter: &'a Filter,
    ) -> BoxFuture<'a, Result<HistoryCount, HistoryError>> {
        let (archive, filter) = (self.clone(), filter.clone());
        Box::pin(async move {
            let count = blocking::unblock(move || archive.count_now(epoch, seqs, &filter)).await;
            count.map_err(HistoryError::new)
        })
    }
}
