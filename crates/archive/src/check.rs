//! Checking an archive, and putting it in order: [`check`] and [`repair`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use tapline_events::Epoch;

use crate::block::{Block, Meta, Step, step};
use crate::disk::{Disk, Lock};
use crate::error::ArchiveError;
use crate::index::Index;
use crate::name::{SEGMENT, SegmentName};
use crate::store::{Listing, load_index, open};

/// What [`check`] or [`repair`] has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Files that were read.
    pub segments: u64,
    /// Intact blocks.
    pub blocks: u64,
    /// The events in these.
    pub events: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files in the directory that are not of the archive. They are no defect, and are never touched.
    pub foreign: Vec<PathBuf>,
    /// What is wrong; empty where the archive is intact.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub defect: Defect,
    /// What a repair has done. `None` for a mere check, and where nothing can be done.
    pub repair: Option<Repair>,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// A write was interrupted: so many bytes at the end are no block. A segment that is being written looks like that,
    /// too, and is not reported.
    TornEnd(u64),
    /// So many bytes within or at the end are no blocks, from this place on.
    Damaged {
        /// Bytes from the start of the file.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// A later version of the program has written it.
    LaterVersion(u8),
    /// The segment that was before it is not there. Its events are missing.
    MissingBefore {
        /// Of which run of the stream.
        epoch: Epoch,
        /// The seqs that are missing.
        seqs: RangeInclusive<u64>,
    },
    /// Events that another segment has, too. They are read once.
    Repeated(RangeInclusive<u64>),
    /// The index does not fit to the segment.
    WrongIndex,
    /// An index whose segment is not there.
    IndexAlone,
}

/// What a repair has done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The end was cut off.
    Cut,
    /// The segment was written again with its intact blocks. The old one has this name now.
    Rewritten(PathBuf),
    /// The index was made again.
    Indexed,
    /// The file was deleted.
    Deleted,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.defect)?;
        match &self.repair {
            Some(repair) => write!(f, ": {repair}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornEnd(bytes) => {
                write!(
                    f,
                    "the last {bytes} bytes are a part of a block, as after a crash"
                )
            }
            Self::Damaged { offset, bytes } => {
                write!(f, "{bytes} bytes from byte {offset} on are damaged")
            }
            Self::LaterVersion(version) => {
                write!(
                    f,
                    "version {version} of the format; this program reads version 1"
                )
            }
            Self::MissingBefore { epoch, seqs } => {
                let (first, last) = (seqs.start(), seqs.end());
                write!(
                    f,
                    "the segment before it is missing, with seqs {first} to {last} of epoch {epoch}"
                )
            }
            Self::Repeated(seqs) => {
                let (first, last) = (seqs.start(), seqs.end());
                write!(f, "seqs {first} to {last} are in another segment, too")
            }
            Self::WrongIndex => f.write_str("the index does not fit to the segment"),
            Self::IndexAlone => f.write_str("the segment of this index is missing"),
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("cut off"),
            Self::Rewritten(old) => {
                write!(
                    f,
                    "the intact blocks were written again; the old file is {}",
                    old.display()
                )
            }
            Self::Indexed => f.write_str("the index was made again"),
            Self::Deleted => f.write_str("deleted"),
        }
    }
}

/// Reads every byte of an archive and reports what is wrong. It changes nothing, and an archive that is being written
/// can be checked. `progress` gets the bytes that were read and how many there are.
///
/// # Errors
///
/// [`ArchiveError::Io`] where the directory or a file cannot be read.
pub fn check(
    dir: impl AsRef<Path>,
    progress: impl FnMut(u64, u64),
) -> Result<CheckReport, ArchiveError> {
    let disk = Disk::new(dir.as_ref().to_owned(), None);
    // Where the lock is free, no segment is being written.
    let is_written = File::open(disk.dir.join("lock")).is_ok_and(|file| Lock::is_held(&file));
    run(&disk, is_written, false, progress)
}

/// As [`check`], and puts in order what can be. No event that can be read is lost by that.
///
/// # Errors
///
/// [`ArchiveError`] where another process writes to the archive, or a file cannot be read or written.
pub fn repair(
    dir: impl AsRef<Path>,
    progress: impl FnMut(u64, u64),
) -> Result<CheckReport, ArchiveError> {
    let disk = Disk::new(dir.as_ref().to_owned(), None);
    // Where there is no archive, none is made.
    Listing::of(&disk.dir)?;
    let _lock = Lock::acquire(&disk)?;
    run(&disk, false, true, progress)
}

fn run(
    disk: &Disk,
    is_written: bool,
    must_repair: bool,
    mut progress: impl FnMut(u64, u64),
) -> Result<CheckReport, ArchiveError> {
    let listing = Listing::of(&disk.dir)?;
    let mut report = CheckReport {
        foreign: listing.foreign,
        ..CheckReport::default()
    };
    let sizes = listing.segments.iter().map(|(_, path)| {
        let metadata = std::fs::metadata(path);
        metadata.map_or(0, |it| it.len())
    });
    let total = sizes.sum();
    let newest = listing.segments.last().map(|(name, _)| *name);
    let mut heads = HashMap::new();
    let mut names = HashSet::new();
    for (name, path) in listing.segments {
        names.insert(disk.dir.join(name.index_file()));
        let before = report.bytes;
        let mut checked = Checked::read(name, &path, |bytes| progress(before + bytes, total))?;
        report.segments += 1;
        report.blocks += checked.index.summary.blocks;
        report.events += checked.index.summary.events;
        report.bytes += checked.len;
        if is_written && Some(name) == newest && checked.torn.is_some() {
            checked.torn = None;
        }
        checked.compare(&mut heads);
        let index_path = disk.dir.join(name.index_file());
        checked.index_is_wrong = index_path.exists()
            && load_index(&disk.dir, name, &path).as_ref() != Some(&checked.index);
        report.findings.extend(checked.findings(disk, must_repair)?);
    }
    for path in listing.indexes.into_iter().filter(|it| !names.contains(it)) {
        let repair = match must_repair {
            true => {
                disk.remove(&path)?;
                Some(Repair::Deleted)
            }
            false => None,
        };
        report.findings.push(Finding {
            path,
            defect: Defect::IndexAlone,
            repair,
        });
    }
    if must_repair {
        disk.sync_dir()?;
    }
    Ok(report)
}

/// A segment that was read.
struct Checked {
    name: SegmentName,
    path: PathBuf,
    len: u64,
    index: Index,
    /// Each intact block's place, length, first and last seq.
    blocks: Vec<(u64, u64, u64, u64)>,
    /// The place and the length of what is no block.
    damaged: Vec<(u64, u64)>,
    torn: Option<u64>,
    version: Option<u8>,
    missing: Option<RangeInclusive<u64>>,
    repeated: Option<RangeInclusive<u64>>,
    index_is_wrong: bool,
}

impl Checked {
    fn read(
        name: SegmentName,
        path: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, ArchiveError> {
        const CHUNK: u64 = 1024 * 1024;

        let unreadable = |error| ArchiveError::io("read", path, error);
        let mut file = open(path)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let mut checked = Self {
            name,
            path: path.to_owned(),
            len,
            index: Index::default(),
            blocks: Vec::new(),
            damaged: Vec::new(),
            torn: None,
            version: None,
            missing: None,
            repeated: None,
            index_is_wrong: false,
        };
        let (mut bytes, mut offset, mut at) = (Vec::new(), 0_u64, 0);
        loop {
            let is_all = len <= offset + bytes.len() as u64;
            match step(&bytes, at, is_all) {
                Step::Block(meta, frame) => {
                    let block_len = (frame.end - at) as u64;
                    let is_good = meta.epoch == name.epoch
                        && checked.index.summary.last < meta.first
                        && Block::decode(&meta, &bytes[frame.clone()]).is_ok();
                    let place = offset + at as u64;
                    match is_good {
                        true => checked.block(&meta, place, block_len),
                        false => checked.damage(place, block_len),
                    }
                    at = frame.end;
                }
                Step::Damage(next) => {
                    checked.damage(offset + at as u64, (next - at) as u64);
                    at = next;
                }
                Step::More => {
                    bytes.drain(..at);
                    offset += at as u64;
                    at = 0;
                    let read = (&mut file).take(CHUNK).read_to_end(&mut bytes);
                    // Shorter than it was: as if it had been cut there.
                    if read.map_err(unreadable)? == 0 {
                        checked.end(offset, bytes.len() as u64)?;
                        break;
                    }
                    progress((offset + bytes.len() as u64).min(len));
                }
                Step::End => {
                    checked.end(offset + at as u64, (bytes.len() - at) as u64)?;
                    break;
                }
                Step::Version(version) => {
                    checked.version = Some(version);
                    break;
                }
            }
        }
        progress(len);
        Ok(checked)
    }

    fn block(&mut self, meta: &Meta, place: u64, len: u64) {
        self.index.summary.damaged = self.damaged.iter().map(|(_, bytes)| bytes).sum();
        self.index.push(meta, place, len);
        self.blocks.push((place, len, meta.first, meta.last));
    }

    fn damage(&mut self, place: u64, len: u64) {
        match self.damaged.last_mut() {
            Some((start, bytes)) if *start + *bytes == place => *bytes += len,
            _ => self.damaged.push((place, len)),
        }
    }

    fn end(&mut self, place: u64, len: u64) -> Result<(), ArchiveError> {
        if len == 0 {
            return Ok(());
        }
        // The start of the tail may have been passed over as damage.
        let start = match self.damaged.last() {
            Some((start, bytes)) if start + bytes == place => *start,
            _ => place,
        };
        let tail = start..place + len;
        let is_torn = crate::index::is_torn(&open(&self.path)?, &tail)
            .map_err(|error| ArchiveError::io("read", &self.path, error))?;
        match is_torn {
            true => {
                self.damaged.retain(|(it, _)| *it != start);
                self.torn = Some(start);
            }
            false => self.damage(place, len),
        }
        Ok(())
    }

    /// With the segments before it.
    fn compare(&mut self, heads: &mut HashMap<u64, u64>) {
        let summary = &self.index.summary;
        if summary.blocks == 0 {
            return;
        }
        let epoch = self.name.epoch.bits();
        if let Some(head) = heads.get(&epoch).copied() {
            if head < summary.previous {
                self.missing = Some(head + 1..=summary.previous);
            }
            if summary.first <= head {
                self.repeated = Some(summary.first..=head.min(summary.last));
            }
        }
        let head = heads.entry(epoch).or_default();
        *head = summary.last.max(*head);
    }

    fn findings(&self, disk: &Disk, must_repair: bool) -> Result<Vec<Finding>, ArchiveError> {
        let mut findings = Vec::new();
        let mut add = |defect, repair: &Option<Repair>| {
            findings.push(Finding {
                path: self.path.clone(),
                defect,
                repair: repair.clone(),
            });
        };
        let mut done = Done::default();
        if must_repair {
            done = self.repair(disk)?;
        }
        for (offset, bytes) in &self.damaged {
            let (offset, bytes) = (*offset, *bytes);
            add(Defect::Damaged { offset, bytes }, &done.rewritten);
        }
        if let Some(start) = self.torn {
            let repair = done.rewritten.clone().or(done.cut);
            add(Defect::TornEnd(self.len - start), &repair);
        }
        if let Some(version) = self.version {
            add(Defect::LaterVersion(version), &None);
        }
        if let Some(seqs) = self.missing.clone() {
            let epoch = self.name.epoch;
            add(Defect::MissingBefore { epoch, seqs }, &None);
        }
        if let Some(seqs) = self.repeated.clone() {
            add(Defect::Repeated(seqs), &done.rewritten);
        }
        if self.index_is_wrong {
            add(Defect::WrongIndex, &done.indexed);
        }
        Ok(findings)
    }

    fn repair(&self, disk: &Disk) -> Result<Done, ArchiveError> {
        let mut done = Done::default();
        // What a later version has written is not ours to change.
        if self.version.is_some() {
            return Ok(done);
        }
        let mut index = self.index.clone();
        if !self.damaged.is_empty() || self.repeated.is_some() {
            let (old, rewritten) = self.rewrite(disk)?;
            index = rewritten;
            done.rewritten = Some(Repair::Rewritten(old));
        } else if let Some(start) = self.torn {
            let file = File::options()
                .write(true)
                .open(&self.path)
                .map_err(|error| ArchiveError::io("open", &self.path, error))?;
            disk.truncate(&file, &self.path, start)?;
            disk.sync(&file, &self.path)?;
            done.cut = Some(Repair::Cut);
        }
        if done.rewritten.is_some() || done.cut.is_some() || self.index_is_wrong {
            let path = disk.dir.join(self.name.index_file());
            match index.summary.blocks {
                0 => disk.remove(&path)?,
                _ => disk.replace(&path, &index.encode())?,
            }
            done.indexed = Some(Repair::Indexed);
        }
        Ok(done)
    }

    /// A new file with the intact blocks that no segment before has. The old one is kept under another name.
    fn rewrite(&self, disk: &Disk) -> Result<(PathBuf, Index), ArchiveError> {
        let bytes = std::fs::read(&self.path)
            .map_err(|error| ArchiveError::io("read", &self.path, error))?;
        let known = self.repeated.as_ref().map_or(0, |it| *it.end());
        let mut kept = Vec::new();
        for (place, len, _, last) in &self.blocks {
            if known < *last {
                let (start, end) = (*place as usize, (*place + *len) as usize);
                kept.extend_from_slice(bytes.get(start..end).unwrap_or_default());
            }
        }
        let old = self
            .path
            .with_file_name(format!("{}{SEGMENT}.damaged", self.name));
        let temporary = disk.dir.join(format!("{}.tmp", self.name));
        disk.remove(&temporary)?;
        let file = disk.create(&temporary)?;
        disk.write(&file, &temporary, &kept)?;
        disk.sync(&file, &temporary)?;
        // At every moment one of them has the segment's name, or the old one's other name shows what happened.
        let rename = |from: &Path, to: &Path| {
            std::fs::rename(from, to).map_err(|error| ArchiveError::io("rename", from, error))
        };
        let mut index = Index::default();
        let _ = index
            .scan(&open(&temporary)?, self.name)
            .map_err(|error| ArchiveError::io("read", &temporary, error))?;
        std::fs::hard_link(&self.path, &old)
            .map_err(|error| ArchiveError::io("create", &old, error))?;
        match index.summary.blocks {
            0 => {
                disk.remove(&self.path)?;
                disk.remove(&temporary)?;
            }
            _ => rename(&temporary, &self.path)?,
        }
        disk.sync_dir()?;
        Ok((old, index))
    }
}

#[derive(Debug, Default)]
struct Done {
    rewritten: Option<Repair>,
    cut: Option<Repair>,
    indexed: Option<Repair>,
}
