//! Changing what is stored, while nothing is written: [`compact`] and [`remove`].

use std::path::Path;
use std::sync::Arc;

use tapline_events::Epoch;

use crate::archive::{SegmentInfo, info};
use crate::block::{BlockBuilder, Step, step};
use crate::disk::{Disk, Lock};
use crate::error::ArchiveError;
use crate::index::{Index, Tail};
use crate::name::SegmentName;
use crate::store::{Listing, Store, View, open};
use crate::writer::{BLOCK_BYTES, delete};

/// What [`compact`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compacted {
    /// Segments and bytes before.
    pub segments_before: u64,
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Segments afterwards.
    pub segments_after: u64,
    /// Bytes of the segments afterwards.
    pub bytes_after: u64,
}

/// Which segments to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remove {
    /// Those whose events are all before this time, in microseconds since the Unix epoch.
    Before(u64),
    /// Those of one run of the stream.
    Epoch(Epoch),
    /// All.
    All,
}

/// The level of compression: slower, and a third smaller.
const LEVEL: i32 = 9;

/// Segments are merged up to this size.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

fn locked(dir: &Path) -> Result<(Lock, Arc<Store>), ArchiveError> {
    let disk = Disk::new(dir.to_owned(), None);
    // Where there is no archive, none is made.
    Listing::of(dir)?;
    let lock = Lock::acquire(&disk)?;
    Ok((lock, Arc::new(Store::writer(disk)?)))
}

/// Deletes segments, and gives what they were. `dry_run`: deletes nothing.
///
/// # Errors
///
/// [`ArchiveError`] where another process writes to the archive, or a file cannot be deleted.
pub fn remove(
    dir: impl AsRef<Path>,
    what: Remove,
    dry_run: bool,
) -> Result<Vec<SegmentInfo>, ArchiveError> {
    let (_lock, store) = locked(dir.as_ref())?;
    let mut removed = Vec::new();
    for view in store.views()? {
        let is_meant = match what {
            Remove::Before(time) => view.summary.newest_ts < time,
            Remove::Epoch(epoch) => view.segment.name.epoch == epoch,
            Remove::All => true,
        };
        if is_meant {
            if !dry_run {
                delete(&store, &view)?;
            }
            removed.push(info(&view));
        }
    }
    Ok(removed)
}

/// Merges small blocks and small segments of each run of the stream, and compresses better. What can be read is the
/// same afterwards, byte for byte. Segments with damage are left as they are.
///
/// It can be interrupted at any time: events may be in two segments then, are read once, and
/// [`repair`](crate::repair) drops the copies. `progress` gets the bytes that are done and how many there are.
///
/// # Errors
///
/// [`ArchiveError`] where another process writes to the archive, or a file cannot be read or written.
pub fn compact(
    dir: impl AsRef<Path>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Compacted, ArchiveError> {
    let (_lock, store) = locked(dir.as_ref())?;
    let epochs = store.epochs()?;
    let views = epochs.iter().flat_map(|(_, views)| views);
    let mut done = Compacted {
        segments_before: views.clone().count() as u64,
        bytes_before: views.map(|view| view.summary.len).sum(),
        ..Compacted::default()
    };
    let mut read = 0;
    for (_, views) in &epochs {
        for group in groups(views) {
            let bytes: u64 = group.iter().map(|view| view.summary.len).sum();
            let after = merge(&store, group)?;
            done.segments_after += match after {
                Some(_) => 1,
                None => group.len() as u64,
            };
            done.bytes_after += after.unwrap_or(bytes);
            read += bytes;
            progress(read, done.bytes_before);
        }
    }
    Ok(done)
}

/// Segments that follow each other and have the size of one together.
fn groups(views: &[View]) -> Vec<&[View]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, view) in views.iter().enumerate() {
        let is_odd = |view: &View| view.summary.damaged != 0 || view.summary.version != 0;
        let is_full = SEGMENT_BYTES < bytes + view.summary.len;
        if start < at && (is_full || is_odd(view) || is_odd(&views[at - 1])) {
            groups.push(&views[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += view.summary.len;
    }
    if start < views.len() {
        groups.push(&views[start..]);
    }
    groups
}

/// Writes the segments of a group as one, and gives its size. `None` where that would not be smaller.
fn merge(store: &Arc<Store>, group: &[View]) -> Result<Option<u64>, ArchiveError> {
    let Some((first, others)) = group.split_first() else {
        return Ok(None);
    };
    let name: SegmentName = first.segment.name;
    let bytes: u64 = group.iter().map(|view| view.summary.len).sum();
    let disk = &store.disk;
    let temporary = disk.dir.join(format!("{name}.tmp"));
    disk.remove(&temporary)?;
    let file = disk.create(&temporary)?;
    let merged = write_merged(group, |bytes| disk.write(&file, &temporary, bytes));
    let is_smaller = match merged {
        Ok(Some(len)) => len < bytes,
        Ok(None) => false,
        Err(error) => {
            disk.remove(&temporary)?;
            return Err(error);
        }
    };
    if !is_smaller {
        disk.remove(&temporary)?;
        return Ok(None);
    }
    disk.sync(&file, &temporary)?;
    let mut index = Index::default();
    let tail = index
        .scan(&open(&temporary)?, name)
        .map_err(|error| ArchiveError::io("read", &temporary, error))?;
    let events: u64 = group.iter().map(|view| view.summary.events).sum();
    if tail != Tail::None || index.summary.events != events {
        disk.remove(&temporary)?;
        return Ok(None);
    }
    // The old index does not fit any more from here on, and is seen to be wrong by the length.
    std::fs::rename(&temporary, &first.segment.path)
        .map_err(|error| ArchiveError::io("rename", &temporary, error))?;
    disk.sync_dir()?;
    store.write_index(name, &index);
    for view in others {
        delete(store, view)?;
    }
    Ok(Some(index.summary.len))
}

/// Gives the length; `None` where a block cannot be read.
fn write_merged(
    group: &[View],
    mut write: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<Option<u64>, ArchiveError> {
    use crate::block::Block;

    let mut builder = BlockBuilder::with_level(LEVEL);
    let mut len = 0;
    // Of the open block: what was before it, and when its last event was written.
    let (mut previous, mut written_at, mut last) = (0, 0, 0);
    let mut out = Vec::new();
    for view in group {
        let path = &view.segment.path;
        let bytes = std::fs::read(path).map_err(|error| ArchiveError::io("read", path, error))?;
        let epoch = view.segment.name.epoch;
        let mut at = 0;
        while let Step::Block(meta, frame) = step(&bytes, at, true) {
            at = frame.end;
            // What an earlier segment has.
            if meta.last <= last {
                continue;
            }
            let Ok(block) = Block::decode(&meta, &bytes[frame]) else {
                return Ok(None);
            };
            let is_next =
                builder.is_continued_by(meta.first) && (last == 0 || meta.previous == last);
            if !is_next || BLOCK_BYTES <= builder.raw_len() {
                builder.finish(epoch, previous, written_at, &mut out);
                write(&out)?;
                len += out.len() as u64;
                out.clear();
            }
            if builder.last() == 0 {
                previous = meta.previous;
            }
            written_at = meta.written_at;
            let mut gaps = meta.gaps.iter().peekable();
            for line in &block.lines {
                while let Some(gap) = gaps.next_if(|gap| *gap.end() < line.seq) {
                    builder.push_gap(gap.clone());
                }
                if last < line.seq {
                    let line_type = &block.types[line.line_type as usize];
                    let json = &block.text[line.json()];
                    builder.push(
                        line.seq,
                        line.ts,
                        line_type.category,
                        &line_type.event_type,
                        json.into(),
                    );
                }
            }
            for gap in gaps {
                builder.push_gap(gap.clone());
            }
            last = meta.last;
        }
    }
    if let Some(view) = group.first() {
        builder.finish(view.segment.name.epoch, previous, written_at, &mut out);
        write(&out)?;
        len += out.len() as u64;
    }
    Ok(Some(len))
}
