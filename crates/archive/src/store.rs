//! The segments of a directory, and what is held of them in memory.
//!
//! # Memory
//!
//! A summary for each segment (some 200 bytes), the strides of the segments used last, and the blocks decompressed
//! last: [`MAX_INDEXES`] and [`MAX_BLOCK_BYTES`] bound these, whatever the archive's size is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tapline_events::Epoch;

use crate::block::{Block, Meta};
use crate::disk::Disk;
use crate::error::ArchiveError;
use crate::index::{Index, Stride, Summary, Tail};
use crate::name::{INDEX, SEGMENT, SegmentName};

/// Indexes of so many complete segments are held.
const MAX_INDEXES: usize = 16;

/// Decompressed blocks of so many bytes are held, or one that is larger.
const MAX_BLOCK_BYTES: usize = 8 * 1024 * 1024;

/// A directory with segments.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Disk,
    /// Whether this process writes to it, and so knows what is durable. A mere reader looks at the directory.
    is_writer: bool,
    /// In the order of their names.
    segments: Mutex<Vec<Arc<Segment>>>,
    cache: Mutex<Cache>,
    next_id: AtomicU64,
    pub(crate) counts: Mutex<ArchiveCounts>,
}

/// What happened to an archive since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveCounts {
    /// Torn ends of segments that were cut off, as after a crash.
    pub torn: u64,
    /// The bytes of these.
    pub torn_bytes: u64,
    /// Segments that were given up because of an error of the disk. What they had that was durable stays.
    pub abandoned: u64,
    /// Segments deleted because of age or size.
    pub deleted: u64,
    /// The events in these.
    pub deleted_events: u64,
    /// Blocks that could not be read because they are damaged. Each time counts.
    pub damaged_reads: u64,
}

/// A file with blocks.
#[derive(Debug)]
pub(crate) struct Segment {
    id: u64,
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    summary: Summary,
    /// The index of a segment that is written to; that of another one is read when it is needed.
    index: Option<Index>,
}

/// A segment as of one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) segment: Arc<Segment>,
    pub(crate) summary: Summary,
}

/// What is in the directory of an archive.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) segments: Vec<(SegmentName, PathBuf)>,
    /// What is not of an archive.
    pub(crate) foreign: Vec<PathBuf>,
    pub(crate) temporary: Vec<PathBuf>,
    pub(crate) indexes: Vec<PathBuf>,
}

impl Listing {
    pub(crate) fn of(dir: &Path) -> Result<Self, ArchiveError> {
        let mut listing = Self::default();
        let entries = fs::read_dir(dir)
            .map_err(|error| ArchiveError::io("read the directory", dir, error))?;
        for entry in entries {
            let entry =
                entry.map_err(|error| ArchiveError::io("read the directory", dir, error))?;
            let path = entry.path();
            let file_name = entry.file_name();
            let name = file_name.to_str().unwrap_or_default();
            let stem = |end| {
                let stem = name.strip_suffix(end)?;
                SegmentName::parse(&format!("{stem}{SEGMENT}"))
            };
            if let Some(name) = SegmentName::parse(name) {
                listing.segments.push((name, path));
            } else if stem(INDEX).is_some() {
                listing.indexes.push(path);
            } else if stem(".tmp").is_some() {
                listing.temporary.push(path);
            } else if name != "lock" {
                listing.foreign.push(path);
            }
        }
        listing.segments.sort_by_key(|(name, _)| name.created);
        Ok(listing)
    }
}

impl Store {
    /// A reader's view. The directory has to be there.
    pub(crate) fn reader(disk: Disk) -> Result<Self, ArchiveError> {
        let store = Self::new(disk, false);
        store.refresh()?;
        Ok(store)
    }

    /// The writer's, which holds the lock. Torn ends are cut off, and missing indexes are written.
    pub(crate) fn writer(disk: Disk) -> Result<Self, ArchiveError> {
        let store = Self::new(disk, true);
        let listing = Listing::of(&store.disk.dir)?;
        for path in &listing.temporary {
            store.disk.remove(path)?;
        }
        let mut segments = Vec::new();
        for (name, path) in listing.segments {
            segments.extend(store.recover(name, path)?);
        }
        *store.lock_segments() = segments;
        Ok(store)
    }

    fn new(disk: Disk, is_writer: bool) -> Self {
        Self {
            disk,
            is_writer,
            segments: Mutex::default(),
            cache: Mutex::default(),
            next_id: AtomicU64::new(1),
            counts: Mutex::default(),
        }
    }

    /// A segment that an earlier process has left. `None` where there was nothing in it.
    fn recover(
        &self,
        name: SegmentName,
        path: PathBuf,
    ) -> Result<Option<Arc<Segment>>, ArchiveError> {
        if let Some(index) = load_index(&self.disk.dir, name, &path) {
            return Ok(Some(self.segment(name, path, index.summary, None)));
        }
        let file = open(&path)?;
        let mut index = Index::default();
        let tail = index
            .scan(&file, name)
            .map_err(|error| ArchiveError::io("read", &path, error))?;
        if let Tail::Torn(range) = tail {
            let bytes = range.end - range.start;
            tracing::warn!(
                segment = %path.display(), bytes,
                "the segment's end is torn, as after a crash, and is cut off"
            );
            self.cut(&path, range.start)?;
            let mut counts = self.lock_counts();
            counts.torn += 1;
            counts.torn_bytes += bytes;
        }
        if index.summary.blocks == 0 && index.summary.version == 0 {
            let is_empty = fs::metadata(&path).is_ok_and(|it| it.len() == 0);
            if is_empty {
                self.disk.remove(&path)?;
            }
            return Ok(None);
        }
        self.write_index(name, &index);
        Ok(Some(self.segment(name, path, index.summary, None)))
    }

    /// Cuts a segment off at `len`, durably.
    pub(crate) fn cut(&self, path: &Path, len: u64) -> Result<(), ArchiveError> {
        let file = File::options()
            .write(true)
            .open(path)
            .map_err(|error| ArchiveError::io("open", path, error))?;
        self.disk.truncate(&file, path, len)?;
        self.disk.sync(&file, path)
    }

    /// Writes the index beside the segment. Without it all works, only opening takes longer.
    pub(crate) fn write_index(&self, name: SegmentName, index: &Index) {
        let path = self.disk.dir.join(name.index_file());
        if let Err(error) = self.disk.replace(&path, &index.encode()) {
            tracing::warn!(error = %report(&error), "the index of a segment is not written");
        }
    }

    fn segment(
        &self,
        name: SegmentName,
        path: PathBuf,
        summary: Summary,
        index: Option<Index>,
    ) -> Arc<Segment> {
        Arc::new(Segment {
            id: self.next_id.fetch_add(1, Relaxed),
            name,
            path,
            state: Mutex::new(State { summary, index }),
        })
    }

    /// Adds a segment that is being written, once something of it is durable.
    pub(crate) fn add(&self, name: SegmentName, path: PathBuf) -> Arc<Segment> {
        let segment = self.segment(name, path, Summary::default(), Some(Index::default()));
        self.lock_segments().push(segment.clone());
        segment
    }

    /// Takes a segment out of the list.
    pub(crate) fn forget(&self, segment: &Arc<Segment>) {
        self.lock_segments().retain(|it| it.id != segment.id);
    }

    /// The name for a new segment: the time now, or later than the newest segment's.
    pub(crate) fn next_created(&self, now: u64) -> u64 {
        let newest = self.lock_segments().last().map_or(0, |it| it.name.created);
        now.max(newest + 1)
    }

    /// All segments that have something, in the order of writing.
    pub(crate) fn views(&self) -> Result<Vec<View>, ArchiveError> {
        if !self.is_writer {
            self.refresh()?;
        }
        let segments = self.lock_segments();
        let views = segments.iter().map(|segment| View {
            segment: segment.clone(),
            summary: segment.lock().summary.clone(),
        });
        Ok(views.filter(|view| 0 < view.summary.blocks).collect())
    }

    /// Those of each epoch, the oldest epoch first, each in the order of seqs.
    pub(crate) fn epochs(&self) -> Result<Vec<(Epoch, Vec<View>)>, ArchiveError> {
        let mut epochs: Vec<(Epoch, Vec<View>)> = Vec::new();
        let mut places = BTreeMap::new();
        for view in self.views()? {
            let epoch = view.segment.name.epoch;
            let place = *places.entry(epoch.bits()).or_insert(epochs.len());
            if place == epochs.len() {
                epochs.push((epoch, Vec::new()));
            }
            epochs[place].1.push(view);
        }
        for (_, views) in &mut epochs {
            views.sort_by_key(|view| view.summary.first);
        }
        Ok(epochs)
    }

    /// Looks at what another process has written and deleted since.
    fn refresh(&self) -> Result<(), ArchiveError> {
        let listing = Listing::of(&self.disk.dir)?;
        let mut segments = self.lock_segments();
        let old = std::mem::take(&mut *segments);
        for (name, path) in listing.segments {
            let known = old.iter().find(|it| it.name == name);
            let segment = match known {
                Some(known) => known.clone(),
                None => self.segment(name, path, Summary::default(), Some(Index::default())),
            };
            match segment.update(&self.disk.dir) {
                Ok(()) => segments.push(segment),
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    *segments = old;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The strides of a segment.
    pub(crate) fn strides(&self, segment: &Segment) -> Result<Arc<Vec<Stride>>, ArchiveError> {
        if let Some(index) = &segment.lock().index {
            return Ok(Arc::new(index.strides.clone()));
        }
        if let Some(found) = self.lock_cache().index(segment.id) {
            return Ok(found);
        }
        let index = match load_index(&self.disk.dir, segment.name, &segment.path) {
            Some(index) => index,
            None => {
                let mut index = Index::default();
                index
                    .scan(&open(&segment.path)?, segment.name)
                    .map_err(|error| ArchiveError::io("read", &segment.path, error))?;
                index
            }
        };
        let strides = Arc::new(index.strides);
        self.lock_cache().keep_index(segment.id, &strides);
        Ok(strides)
    }

    /// A block of a segment, from memory or decompressed. `None` where it is damaged.
    pub(crate) fn block(
        &self,
        segment: &Segment,
        offset: u64,
        meta: &Meta,
        compressed: &[u8],
    ) -> Option<Arc<Block>> {
        let key = (segment.id, offset);
        if let Some(found) = self.lock_cache().block(key) {
            return Some(found);
        }
        match Block::decode(meta, compressed) {
            Ok(block) => {
                let block = Arc::new(block);
                self.lock_cache().keep_block(key, &block);
                Some(block)
            }
            Err(error) => {
                tracing::warn!(segment = %segment.path.display(), offset, %error, "a block cannot be read");
                self.lock_counts().damaged_reads += 1;
                None
            }
        }
    }

    pub(crate) fn lock_counts(&self) -> MutexGuard<'_, ArchiveCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_segments(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segment {
    /// Adds blocks that are durable now.
    pub(crate) fn extend(&self, blocks: impl Iterator<Item = (Meta, u64, u64)>) {
        let mut state = self.lock();
        let State { summary, index } = &mut *state;
        if let Some(index) = index {
            for (meta, offset, len) in blocks {
                index.push(&meta, offset, len);
            }
            *summary = index.summary.clone();
        }
    }

    /// Nothing is added any more. Gives the index, which is held no longer.
    pub(crate) fn seal(&self) -> Option<Index> {
        self.lock().index.take()
    }

    /// Looks at what another process has added.
    fn update(&self, dir: &Path) -> Result<(), ArchiveError> {
        let mut state = self.lock();
        let State { summary, index } = &mut *state;
        let Some(known) = index else {
            return Ok(());
        };
        if let Some(complete) = load_index(dir, self.name, &self.path) {
            *summary = complete.summary;
            *index = None;
            return Ok(());
        }
        known
            .scan(&open(&self.path)?, self.name)
            .map_err(|error| ArchiveError::io("read", &self.path, error))?;
        *summary = known.summary.clone();
        Ok(())
    }

    /// The bytes of a stride, or fewer where the file is shorter now. `None` where the file is gone.
    pub(crate) fn read(&self, stride: &Stride) -> Result<Option<Vec<u8>>, ArchiveError> {
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; stride.len as usize];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], stride.offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As if it were damaged: what can be read is read.
                Err(error) => {
                    tracing::warn!(segment = %self.path.display(), %error, "a part of a segment cannot be read");
                    break;
                }
            }
        }
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index beside a segment, where it is there and fits.
pub(crate) fn load_index(dir: &Path, name: SegmentName, segment: &Path) -> Option<Index> {
    let index = Index::decode(&fs::read(dir.join(name.index_file())).ok()?)?;
    let len = fs::metadata(segment).ok()?.len();
    let summary = &index.summary;
    (summary.len == len && summary.first == name.first && summary.version == 0).then_some(index)
}

pub(crate) fn open(path: &Path) -> Result<File, ArchiveError> {
    File::open(path).map_err(|error| ArchiveError::io("open", path, error))
}

/// An error with its reasons, for the log.
pub(crate) fn report(error: &ArchiveError) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What was used last, in the order of use.
#[derive(Debug, Default)]
struct Cache {
    indexes: Vec<(u64, Arc<Vec<Stride>>)>,
    blocks: Vec<((u64, u64), Arc<Block>)>,
    block_bytes: usize,
}

impl Cache {
    fn index(&mut self, segment: u64) -> Option<Arc<Vec<Stride>>> {
        let at = self.indexes.iter().position(|(id, _)| *id == segment)?;
        let found = self.indexes.remove(at);
        let index = found.1.clone();
        self.indexes.push(found);
        Some(index)
    }

    fn keep_index(&mut self, segment: u64, index: &Arc<Vec<Stride>>) {
        if self.indexes.len() == MAX_INDEXES {
            self.indexes.remove(0);
        }
        self.indexes.push((segment, index.clone()));
    }

    fn block(&mut self, key: (u64, u64)) -> Option<Arc<Block>> {
        let at = self.blocks.iter().position(|(it, _)| *it == key)?;
        let found = self.blocks.remove(at);
        let block = found.1.clone();
        self.blocks.push(found);
        Some(block)
    }

    fn keep_block(&mut self, key: (u64, u64), block: &Arc<Block>) {
        self.block_bytes += block.weight();
        self.blocks.push((key, block.clone()));
        while MAX_BLOCK_BYTES < self.block_bytes && 1 < self.blocks.len() {
            let (_, oldest) = self.blocks.remove(0);
            self.block_bytes -= oldest.weight();
        }
    }
}
