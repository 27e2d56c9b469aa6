//! What is known of a segment without reading it: its [`Summary`] and its [`Stride`]s.
//!
//! Both follow from the blocks of the segment. A segment that is complete has them in a file beside it, which saves
//! reading the segment when an archive is opened. That file is never trusted over the segment: it has a checksum
//! and the length of its segment, every block that it points to has checksums of its own, and where anything does not
//! fit, the index is made again from the segment.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use tapline_events::Filter;
use tapline_oapi::{CategorySet, EventType, KnownType};

use crate::block::{Fields, Meta, Step, overlaps, step};
use crate::name::SegmentName;

/// A stride grows to so many bytes: what a reader reads at once.
const STRIDE: u64 = 64 * 1024;

const TAG: [u8; 4] = *b"TLX1";

/// Some blocks of a segment that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stride {
    /// Where it is in the segment, in bytes.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    oldest_ts: u64,
    newest_ts: u64,
    count: u64,
    categories: CategorySet,
    /// A bit for each known type that occurs.
    known: u64,
    has_custom: bool,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    /// The length up to the end of the last block, in bytes.
    pub(crate) len: u64,
    pub(crate) blocks: u64,
    pub(crate) events: u64,
    /// Bytes of NDJSON.
    pub(crate) raw: u64,
    /// Seqs, and 0 where there is no block.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The first seq of an event; 0 where there is none.
    pub(crate) oldest: u64,
    pub(crate) oldest_ts: u64,
    pub(crate) newest_ts: u64,
    pub(crate) written_at: u64,
    /// [`Meta::previous`] of the first block.
    pub(crate) previous: u64,
    /// Bytes within that are not blocks.
    pub(crate) damaged: u64,
    /// The version of the format that could not be read, or 0.
    pub(crate) version: u64,
}

/// Both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Index {
    pub(crate) summary: Summary,
    pub(crate) strides: Vec<Stride>,
}

/// What a query asks for, as far as an index can say something of it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    pub(crate) since: Option<u64>,
    pub(crate) until: Option<u64>,
    categories: CategorySet,
    known: u64,
}

impl Wanted {
    pub(crate) fn new(filter: &Filter, since: Option<u64>, until: Option<u64>) -> Self {
        let known = KnownType::ALL
            .iter()
            .filter(|known| filter.matches_type(known.category(), &EventType::Known(**known)));
        Self {
            filter: filter.clone(),
            since,
            until,
            categories: filter.categories.unwrap_or(CategorySet::ALL),
            known: known.map(|known| bit(*known)).sum(),
        }
    }

    /// Whether the block has nothing that is asked for.
    pub(crate) fn excludes_block(&self, meta: &Meta) -> bool {
        !meta.is_in_time(self.since, self.until) || meta.matching(&self.filter) == Some(0)
    }

    /// Whether the stride has nothing that is asked for, and no hole that is to be reported.
    pub(crate) fn excludes_stride(&self, stride: &Stride) -> bool {
        let is_whole = stride.count == stride.last - stride.first + 1;
        let is_in_time = overlaps(stride.oldest_ts, stride.newest_ts, self.since, self.until);
        let common = stride.categories.intersection(self.categories);
        let has_type = stride.known & self.known != 0 || stride.has_custom;
        is_whole && !(is_in_time && !common.is_empty() && has_type)
    }

    /// The same, for all of the segment.
    pub(crate) fn excludes_segment(&self, summary: &Summary) -> bool {
        let is_whole = summary.events == summary.last - summary.first + 1;
        is_whole && !overlaps(summary.oldest_ts, summary.newest_ts, self.since, self.until)
    }
}

fn bit(known: KnownType) -> u64 {
    const { assert!(KnownType::ALL.len() <= 64) };
    1 << known as u32
}

impl Index {
    /// Adds a block that is at this place.
    pub(crate) fn push(&mut self, meta: &Meta, offset: u64, len: u64) {
        let mut block = Stride {
            offset,
            len,
            first: meta.first,
            last: meta.last,
            oldest_ts: meta.oldest_ts,
            newest_ts: meta.newest_ts,
            count: meta.count,
            categories: meta.categories(),
            known: 0,
            has_custom: false,
        };
        for entry in &meta.types {
            match &entry.event_type {
                Some(EventType::Known(known)) => block.known |= bit(*known),
                _ => block.has_custom = true,
            }
        }
        let summary = &mut self.summary;
        if summary.blocks == 0 {
            summary.first = meta.first;
            summary.previous = meta.previous;
            summary.oldest_ts = meta.oldest_ts;
        }
        if summary.oldest == 0 {
            summary.oldest = first_event(meta);
        }
        summary.len = offset + len;
        summary.blocks += 1;
        summary.events += meta.count;
        summary.raw += u64::from(meta.raw_len);
        summary.last = meta.last;
        summary.oldest_ts = summary.oldest_ts.min(meta.oldest_ts);
        summary.newest_ts = summary.newest_ts.max(meta.newest_ts);
        summary.written_at = summary.written_at.max(meta.written_at);
        match self.strides.last_mut() {
            Some(last) if last.len < STRIDE && last.offset + last.len == offset => {
                last.len += len;
                last.last = block.last;
                last.oldest_ts = last.oldest_ts.min(block.oldest_ts);
                last.newest_ts = last.newest_ts.max(block.newest_ts);
                last.count += block.count;
                last.categories = last.categories.union(block.categories);
                last.known |= block.known;
                last.has_custom |= block.has_custom;
            }
            _ => self.strides.push(block),
        }
    }

    /// Reads on in a segment from the end of what the index has, and gives what comes after the last block.
    pub(crate) fn scan(&mut self, file: &File, name: SegmentName) -> io::Result<Tail> {
        /// Enough for some blocks.
        const CHUNK: usize = 1024 * 1024;

        let start = self.summary.len;
        let file_len = file.metadata()?.len();
        let mut bytes = Vec::new();
        // The place in the file of the first of the bytes, and where to look in them.
        let (mut offset, mut at) = (start, 0);
        loop {
            let read = offset + bytes.len() as u64;
            let is_all = file_len <= read;
            match step(&bytes, at, is_all) {
                Step::Block(meta, frame) => {
                    let place = offset + at as u64;
                    let len = (frame.end - at) as u64;
                    // A block of another epoch, or out of order, is not one of this segment.
                    if meta.epoch == name.epoch && self.summary.last < meta.first {
                        self.summary.damaged += place - self.summary.len;
                        self.push(&meta, place, len);
                    }
                    at = frame.end;
                }
                Step::Damage(next) => at = next,
                Step::More => {
                    bytes.drain(..at);
                    offset += at as u64;
                    at = 0;
                    let old = bytes.len();
                    let more = (file_len - read).min(CHUNK as u64) as usize;
                    bytes.resize(old + more, 0);
                    file.read_exact_at(&mut bytes[old..], read)?;
                }
                Step::Version(version) => {
                    self.summary.version = u64::from(version);
                    return Ok(Tail::Foreign(self.summary.len..file_len));
                }
                Step::End => {
                    let range = self.summary.len..file_len;
                    return Ok(match range.is_empty() {
                        true => Tail::None,
                        false if is_torn(file, &range)? => Tail::Torn(range),
                        false => Tail::Foreign(range),
                    });
                }
            }
        }
    }

    /// The content of the file beside the segment.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(TAG);
        out.extend(taxonomy().to_le_bytes());
        for field in self.summary.fields() {
            out.extend(field.to_le_bytes());
        }
        out.extend((self.strides.len() as u32).to_le_bytes());
        for stride in &self.strides {
            for field in stride.fields() {
                out.extend(field.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// `None` where it is damaged, or of another version of this program.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut from = Fields(body);
        if from.bytes(4)? != TAG || from.u32()? != taxonomy() {
            return None;
        }
        let mut fields = [0; Summary::FIELDS];
        for field in &mut fields {
            *field = from.u64()?;
        }
        let mut index = Self {
            summary: Summary::from_fields(fields),
            strides: Vec::new(),
        };
        for _ in 0..from.u32()? {
            let mut fields = [0; Stride::FIELDS];
            for field in &mut fields {
                *field = from.u64()?;
            }
            index.strides.push(Stride::from_fields(fields));
        }
        from.0.is_empty().then_some(index)
    }
}

/// What follows the last block of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    None,
    /// What an interrupted write has left: a part of a block, or zeros.
    Torn(Range<u64>),
    /// Something that this program does not write.
    Foreign(Range<u64>),
}

/// Whether the bytes begin as a block does, or are zeros, as after a power loss.
pub(crate) fn is_torn(file: &File, range: &Range<u64>) -> io::Result<bool> {
    let mut start = vec![0; (range.end - range.start).min(4096) as usize];
    file.read_exact_at(&mut start, range.start)?;
    let prefix = start.len().min(crate::block::MAGIC.len());
    Ok(start[..prefix] == crate::block::MAGIC[..prefix] || start.iter().all(|byte| *byte == 0))
}

/// The first seq of the block that is no gap; 0 where there is none.
fn first_event(meta: &Meta) -> u64 {
    let mut seq = meta.first;
    for gap in &meta.gaps {
        if *gap.start() == seq {
            seq = gap.end() + 1;
        }
    }
    match seq <= meta.last {
        true => seq,
        false => 0,
    }
}

/// The bits of [`Stride::known`] depend on the list of known types.
fn taxonomy() -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for known in KnownType::ALL {
        hasher.update(known.as_str().as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize()
}

impl Stride {
    const FIELDS: usize = 10;

    fn fields(&self) -> [u64; Self::FIELDS] {
        [
            self.offset,
            self.len,
            self.first,
            self.last,
            self.oldest_ts,
            self.newest_ts,
            self.count,
            u64::from(self.categories.bits()),
            self.known,
            u64::from(self.has_custom),
        ]
    }

    fn from_fields(fields: [u64; Self::FIELDS]) -> Self {
        let [
            offset,
            len,
            first,
            last,
            oldest_ts,
            newest_ts,
            count,
            categories,
            known,
            has_custom,
        ] = fields;
        Self {
            offset,
            len,
            first,
            last,
            oldest_ts,
            newest_ts,
            count,
            categories: CategorySet::from_bits(categories as u16),
            known,
            has_custom: has_custom != 0,
        }
    }
}

impl Summary {
    const FIELDS: usize = 13;

    fn fields(&self) -> [u64; Self::FIELDS] {
        [
            self.len,
            self.blocks,
            self.events,
            self.raw,
            self.first,
            self.last,
            self.oldest,
            self.oldest_ts,
            self.newest_ts,
            self.written_at,
            self.previous,
            self.damaged,
            self.version,
        ]
    }

    fn from_fields(fields: [u64; Self::FIELDS]) -> Self {
        let [
            len,
            blocks,
            events,
            raw,
            first,
            last,
            oldest,
            oldest_ts,
            newest_ts,
            written_at,
            previous,
            damaged,
            version,
        ] = fields;
        Self {
            len,
            blocks,
            events,
            raw,
            first,
            last,
            oldest,
            oldest_ts,
            newest_ts,
            written_at,
            previous,
            damaged,
            version,
        }
    }
}
