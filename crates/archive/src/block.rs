//! The unit of a segment: a block.
//!
//! A block is two frames of zstd, so that a segment is a plain `.ndjson.zst` file:
//!
//! ```text
//! skippable frame                                              | frame
//! magic 0x184D2A54, length | "TLB", version, metadata, CRC-32  | NDJSON, zstd level 1, with its content size
//! ```
//!
//! All integers are little-endian. The CRC of the metadata covers everything before it, from the magic on, and is at the end
//! of the skippable frame in every version of the format. The metadata holds the CRC of the compressed frame. So a block is either intact or known to be damaged.
//!
//! The lines are envelopes, byte for byte as published, and gaps: `{"gap":{"first":1,"last":92}}` stands where the
//! events with these seqs would have been, if they had not been lost before the archive read them. A line
//! break that a producer wrote within `data` is a space in the file, since a line is an event there. The metadata
//! says where these were, and [`DecodedBlock::decode`] puts them back.
//!
//! # Outside of an archive
//!
//! Other crates use the same block: a message of `tapline-nats` is one. [`BlockBuilder`] makes them, and
//! [`DecodedBlock`] reads them; [`Meta::read`] reads what is known of a block without decompressing it.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use memchr::{memchr, memchr_iter};
use serde::Deserialize;
use tapline_api::SharedEnvelope;
use tapline_events::{Epoch, Filter};
use tapline_oapi::{Category, CategorySet, EnvelopeJson, EventType, KnownType};
use zstd::bulk::{Compressor, Decompressor};

/// The magic number of our skippable frames, one of the sixteen that zstd reserves.
pub(crate) const MAGIC: [u8; 4] = 0x184D_2A54_u32.to_le_bytes();

/// Distinguishes our skippable frames from those of other programs.
const TAG: [u8; 3] = *b"TLB";

/// The version of the format. A reader does not touch what a later one has written.
pub(crate) const VERSION: u8 = 1;

/// Magic, length, tag and version.
pub(crate) const PREFIX: usize = 12;

const CRC: usize = 4;

/// More is damage, not a block: a block is closed long before, and one event has a megabyte at most.
const MAX_LEN: u32 = 8 * 1024 * 1024;

/// Of how many types a block lists how often each occurs. The others are counted by category alone.
const MAX_TYPES: usize = 64;

/// The level of compression: three times as fast as the default, for a tenth more bytes.
const LEVEL: i32 = 1;

/// What is known of a block without decompressing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Which run of the stream its seqs belong to.
    pub epoch: Epoch,
    /// The last seq that was stored of this epoch when the block was written; 0 for the first block. Where
    /// the block before has another one, something is missing between the two, such as a segment of an archive.
    pub previous: u64,
    /// The first and the last seq of the events and gaps in it. There are no others in between.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// The smallest and the greatest `ts` of its events. The greatest is below the smallest where it has none.
    pub oldest_ts: u64,
    /// See `oldest_ts`.
    pub newest_ts: u64,
    /// When it was written, by the wall clock, in microseconds since the Unix epoch.
    pub written_at: u64,
    /// How many events it has.
    pub count: u64,
    /// The bytes of its NDJSON.
    pub raw_len: u32,
    /// The bytes of the frame that has them.
    pub compressed_len: u32,
    /// The CRC-32 of that frame.
    pub compressed_crc: u32,
    /// How often each type occurs, the most frequent first.
    pub types: Vec<TypeCount>,
    /// Lost before they were read; in order.
    pub gaps: Vec<RangeInclusive<u64>>,
    /// Where a space of the file is a line break of the event, by offset in the NDJSON; in order.
    pub breaks: Vec<u32>,
}

/// How many events of a type there are in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeCount {
    /// Its category.
    pub category: Category,
    /// `None` for the types of this category that are not listed.
    pub event_type: Option<EventType>,
    /// How many.
    pub count: u32,
}

/// Why bytes are not a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBlock {
    /// It may be whole once more is written.
    #[error("it ends in the middle of a block")]
    Torn,
    /// It is not a block, or something in it was changed.
    #[error("these bytes are not a block")]
    Damaged,
    /// A later version of the program has written it.
    #[error("it has version {0} of the format, and this program reads version {VERSION}")]
    Version(u8),
}

/// The length of the metadata with everything around it, from the first [`PREFIX`] bytes.
pub(crate) fn meta_len(prefix: &[u8]) -> Result<usize, BadBlock> {
    let Some((prefix, _)) = prefix.split_first_chunk::<PREFIX>() else {
        let is_start = prefix.iter().zip(MAGIC).all(|(a, b)| *a == b);
        return Err(match is_start {
            true => BadBlock::Torn,
            false => BadBlock::Damaged,
        });
    };
    if prefix[..4] != MAGIC || prefix[8..11] != TAG {
        return Err(BadBlock::Damaged);
    }
    let len = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
    match MAX_LEN < len || (len as usize) + 8 < PREFIX + CRC {
        true => Err(BadBlock::Damaged),
        false => Ok(len as usize + 8),
    }
}

impl Meta {
    /// Of the block at the start of these bytes. Checks that they are intact, and decompresses nothing.
    ///
    /// # Errors
    ///
    /// [`BadBlock`] where that is not a block.
    pub fn read(bytes: &[u8]) -> Result<Self, BadBlock> {
        block_at(bytes).map(|(meta, _)| meta)
    }

    /// Of the whole skippable frame, whose length is [`meta_len`].
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, BadBlock> {
        let (body, crc) = frame.split_last_chunk::<CRC>().ok_or(BadBlock::Damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(BadBlock::Damaged);
        }
        if body[11] != VERSION {
            return Err(BadBlock::Version(body[11]));
        }
        Self::fields(&mut Fields(&body[PREFIX..]))
            .filter(|meta| meta.raw_len <= MAX_LEN && meta.compressed_len <= MAX_LEN)
            .filter(|meta| 0 < meta.first && meta.first <= meta.last)
            .ok_or(BadBlock::Damaged)
    }

    fn fields(from: &mut Fields<'_>) -> Option<Self> {
        let mut meta = Self {
            epoch: Epoch::from_bits(from.u64()?),
            previous: from.u64()?,
            first: from.u64()?,
            last: from.u64()?,
            oldest_ts: from.u64()?,
            newest_ts: from.u64()?,
            written_at: from.u64()?,
            count: from.u64()?,
            raw_len: from.u32()?,
            compressed_len: from.u32()?,
            compressed_crc: from.u32()?,
            types: Vec::new(),
            gaps: Vec::new(),
            breaks: Vec::new(),
        };
        let types = from.u32()?;
        let gaps = from.u32()?;
        let breaks = from.u32()?;
        for _ in 0..types {
            let category = *Category::ALL.get(usize::from(from.u8()?))?;
            let count = from.u32()?;
            let len = from.u32()? as usize;
            let name = std::str::from_utf8(from.bytes(len)?).ok()?;
            let event_type = match name {
                "" => None,
                name => Some(EventType::new(name).ok()?),
            };
            meta.types.push(TypeCount {
                category,
                event_type,
                count,
            });
        }
        for _ in 0..gaps {
            meta.gaps.push(from.u64()?..=from.u64()?);
        }
        let mut at = 0_u32;
        for _ in 0..breaks {
            at = at.checked_add(from.varint()?)?;
            meta.breaks.push(at);
        }
        from.0.is_empty().then_some(meta)
    }

    /// Appends the whole skippable frame.
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(MAGIC);
        out.extend([0; 4]);
        out.extend(TAG);
        out.push(VERSION);
        for field in [
            self.epoch.bits(),
            self.previous,
            self.first,
            self.last,
            self.oldest_ts,
            self.newest_ts,
            self.written_at,
            self.count,
        ] {
            out.extend(field.to_le_bytes());
        }
        for field in [
            self.raw_len,
            self.compressed_len,
            self.compressed_crc,
            self.types.len() as u32,
            self.gaps.len() as u32,
            self.breaks.len() as u32,
        ] {
            out.extend(field.to_le_bytes());
        }
        for entry in &self.types {
            let name = entry.event_type.as_ref().map_or("", EventType::as_str);
            out.push(entry.category.index() as u8);
            out.extend(entry.count.to_le_bytes());
            out.extend((name.len() as u32).to_le_bytes());
            out.extend(name.as_bytes());
        }
        for gap in &self.gaps {
            out.extend(gap.start().to_le_bytes());
            out.extend(gap.end().to_le_bytes());
        }
        let mut before = 0;
        for at in &self.breaks {
            varint(out, at - before);
            before = *at;
        }
        let len = (out.len() - start - 8 + CRC) as u32;
        out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend(crc.to_le_bytes());
    }

    /// The categories of its events.
    pub fn categories(&self) -> CategorySet {
        self.types.iter().map(|entry| entry.category).collect()
    }

    /// How many of its events the filter asks for; `None` where the metadata does not say.
    pub fn matching(&self, filter: &Filter) -> Option<u64> {
        let mut sum = 0;
        for entry in &self.types {
            let is_asked = match &entry.event_type {
                Some(event_type) => filter.matches_type(entry.category, event_type),
                None if (filter.categories).is_some_and(|it| !it.contains(entry.category)) => false,
                None if filter.type_lists().next().is_none() => true,
                None => return None,
            };
            sum += match is_asked {
                true => u64::from(entry.count),
                false => 0,
            };
        }
        Some(sum)
    }

    /// Whether an event in it may have a time within these bounds.
    pub(crate) fn is_in_time(&self, since: Option<u64>, until: Option<u64>) -> bool {
        overlaps(self.oldest_ts, self.newest_ts, since, until)
    }
}

/// Whether a `ts` from `oldest` to `newest` may be within the bounds of a query.
pub(crate) fn overlaps(oldest: u64, newest: u64, since: Option<u64>, until: Option<u64>) -> bool {
    oldest <= newest
        && since.is_none_or(|since| since <= newest)
        && until.is_none_or(|until| oldest <= until)
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes fields off the front of bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// What is at a place of a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// An intact block: its metadata, and where its compressed frame is.
    Block(Box<Meta>, Range<usize>),
    /// Not a block. The next place to look at.
    Damage(usize),
    /// It cannot be said yet: more bytes are needed.
    More,
    /// The end, or what a write that was interrupted has left.
    End,
    /// A later version has written this. What follows cannot be read.
    Version(u8),
}

/// Looks for a block at `at`. `is_all`: nothing comes after `bytes`.
pub(crate) fn step(bytes: &[u8], at: usize, is_all: bool) -> Step {
    match block_at(&bytes[at..]) {
        Ok((meta, frame)) => {
            return Step::Block(Box::new(meta), at + frame.start..at + frame.end);
        }
        Err(BadBlock::Version(version)) => return Step::Version(version),
        Err(BadBlock::Torn) if !is_all => return Step::More,
        Err(BadBlock::Torn | BadBlock::Damaged) => {}
    }
    let rest = bytes.get(at + 1..).unwrap_or_default();
    match (memchr::memmem::find(rest, &MAGIC), is_all) {
        (Some(found), _) => Step::Damage(at + 1 + found),
        // The magic may begin in the last three bytes.
        (None, false) if rest.len() < MAGIC.len() => Step::More,
        (None, false) => Step::Damage(bytes.len() + 1 - MAGIC.len()),
        (None, true) => Step::End,
    }
}

fn block_at(bytes: &[u8]) -> Result<(Meta, Range<usize>), BadBlock> {
    let len = meta_len(bytes)?;
    let meta = Meta::decode(bytes.get(..len).ok_or(BadBlock::Torn)?)?;
    let frame = len..len + meta.compressed_len as usize;
    let compressed = bytes.get(frame.clone()).ok_or(BadBlock::Torn)?;
    match crc32fast::hash(compressed) == meta.compressed_crc {
        true => Ok((meta, frame)),
        false => Err(BadBlock::Damaged),
    }
}

/// Collects events and gaps for a block.
pub struct BlockBuilder {
    raw: Vec<u8>,
    first: u64,
    last: u64,
    oldest_ts: u64,
    newest_ts: u64,
    count: u64,
    /// How many there are of each known type.
    known: [u32; KnownType::ALL.len()],
    /// Of other types, up to [`MAX_TYPES`].
    custom: Vec<TypeCount>,
    /// Of further types.
    unlisted: [u32; Category::COUNT],
    gaps: Vec<RangeInclusive<u64>>,
    breaks: Vec<u32>,
    compressor: Compressor<'static>,
}

impl BlockBuilder {
    /// Empty.
    pub fn new() -> Self {
        Self::with_level(LEVEL)
    }

    pub(crate) fn with_level(level: i32) -> Self {
        Self {
            raw: Vec::new(),
            first: 0,
            last: 0,
            oldest_ts: u64::MAX,
            newest_ts: 0,
            count: 0,
            known: [0; KnownType::ALL.len()],
            custom: Vec::new(),
            unlisted: [0; Category::COUNT],
            gaps: Vec::new(),
            breaks: Vec::new(),
            compressor: Compressor::new(level).expect("the level is one that zstd has"),
        }
    }

    /// How many bytes of NDJSON it has.
    pub fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// The first seq that it has; 0 where it is empty.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last seq that it has; 0 where it is empty.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether an item that begins with this seq continues what it has: a block has no holes.
    pub fn is_continued_by(&self, first: u64) -> bool {
        self.last == 0 || self.last + 1 == first
    }

    /// Adds an event, which has to [continue](Self::is_continued_by) what it has. `json` is its envelope.
    pub fn push(
        &mut self,
        seq: u64,
        ts: u64,
        category: Category,
        event_type: &EventType,
        json: EnvelopeJson<'_>,
    ) {
        self.covers(seq..=seq);
        self.oldest_ts = self.oldest_ts.min(ts);
        self.newest_ts = self.newest_ts.max(ts);
        self.count += 1;
        match event_type {
            EventType::Known(known) => self.known[*known as usize] += 1,
            EventType::Custom(_) => self.count_custom(category, event_type),
        }
        let start = self.raw.len();
        json.append_to(&mut self.raw);
        let mut from = start;
        while let Some(at) = memchr(b'\n', &self.raw[from..]) {
            from += at;
            self.raw[from] = b' ';
            self.breaks.push(from as u32);
        }
        self.raw.push(b'\n');
    }

    /// These events were lost before they were read. They have to [continue](Self::is_continued_by) what it has.
    pub fn push_gap(&mut self, gap: RangeInclusive<u64>) {
        self.covers(gap.clone());
        let (first, last) = (gap.start(), gap.end());
        let line = format!("{{\"gap\":{{\"first\":{first},\"last\":{last}}}}}\n");
        self.raw.extend_from_slice(line.as_bytes());
        self.gaps.push(gap);
    }

    fn covers(&mut self, seqs: RangeInclusive<u64>) {
        if self.last == 0 {
            self.first = *seqs.start();
        }
        self.last = *seqs.end();
    }

    fn count_custom(&mut self, category: Category, event_type: &EventType) {
        let found = (self.custom.iter()).position(|entry| {
            entry.category == category && entry.event_type.as_ref() == Some(event_type)
        });
        match found {
            Some(found) => self.custom[found].count += 1,
            None if self.custom.len() < MAX_TYPES => self.custom.push(TypeCount {
                category,
                event_type: Some(event_type.clone()),
                count: 1,
            }),
            None => self.unlisted[category.index()] += 1,
        }
    }

    /// Appends the block to `out`, and begins the next one. `None` where there is nothing in it.
    ///
    /// `previous` and `written_at` are those of [`Meta`].
    pub fn finish(
        &mut self,
        epoch: Epoch,
        previous: u64,
        written_at: u64,
        out: &mut Vec<u8>,
    ) -> Option<Meta> {
        if self.last == 0 {
            return None;
        }
        let compressed = self.compressor.compress(&self.raw);
        let compressed = compressed.expect("zstd compresses whatever is in memory");
        let meta = Meta {
            epoch,
            previous,
            first: self.first,
            last: self.last,
            oldest_ts: self.oldest_ts,
            newest_ts: self.newest_ts,
            written_at,
            count: self.count,
            raw_len: self.raw.len() as u32,
            compressed_len: compressed.len() as u32,
            compressed_crc: crc32fast::hash(&compressed),
            types: self.types(),
            gaps: std::mem::take(&mut self.gaps),
            breaks: std::mem::take(&mut self.breaks),
        };
        meta.encode(out);
        out.extend_from_slice(&compressed);
        self.clear();
        Some(meta)
    }

    /// Drops what it has.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.first = 0;
        self.last = 0;
        self.oldest_ts = u64::MAX;
        self.newest_ts = 0;
        self.count = 0;
        self.known.fill(0);
        self.custom.clear();
        self.unlisted.fill(0);
        self.gaps.clear();
        self.breaks.clear();
    }

    fn types(&mut self) -> Vec<TypeCount> {
        let known = KnownType::ALL.iter().map(|known| TypeCount {
            category: known.category(),
            event_type: Some(EventType::Known(*known)),
            count: self.known[*known as usize],
        });
        let unlisted = Category::ALL.into_iter().map(|category| TypeCount {
            category,
            event_type: None,
            count: self.unlisted[category.index()],
        });
        let mut types: Vec<TypeCount> = known
            .chain(self.custom.drain(..))
            .chain(unlisted)
            .filter(|entry| 0 < entry.count)
            .collect();
        types.sort_by_key(|entry| Reverse(entry.count));
        types
    }
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BlockBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockBuilder")
            .field("seqs", &(self.first..=self.last))
            .field("raw_len", &self.raw.len())
            .finish_non_exhaustive()
    }
}

/// A block that was read: what is known of it, and its events.
#[derive(Debug)]
pub struct DecodedBlock {
    meta: Meta,
    block: Block,
}

impl DecodedBlock {
    /// Of one block and nothing else.
    ///
    /// # Errors
    ///
    /// [`BadBlock`] where that is not an intact block, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBlock> {
        let (meta, frame) = block_at(bytes)?;
        if frame.end != bytes.len() {
            return Err(BadBlock::Damaged);
        }
        let block = Block::decode(&meta, &bytes[frame])?;
        Ok(Self { meta, block })
    }

    /// What is known of it without its events.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its events with these seqs that match the filter, the oldest first. They share the text of the block, which
    /// stays in memory as long as one of them does.
    pub fn events<'a>(
        &'a self,
        seqs: RangeInclusive<u64>,
        filter: &'a Filter,
    ) -> impl DoubleEndedIterator<Item = SharedEnvelope> + 'a {
        let lines = &self.block.lines;
        let first = lines.partition_point(|line| line.seq < *seqs.start());
        let end = lines.partition_point(|line| line.seq <= *seqs.end());
        let lines = lines.get(first..end).unwrap_or_default();
        lines.iter().filter_map(move |line| {
            let line_type = &self.block.types[line.line_type as usize];
            if !filter.matches_type(line_type.category, &line_type.event_type) {
                return None;
            }
            SharedEnvelope::in_block(
                line.seq,
                line.ts,
                line_type.category,
                line_type.name.clone(),
                self.block.text.clone(),
                line.json(),
            )
        })
    }

    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        self.block.weight()
    }
}

/// A block in memory, decompressed.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) text: Arc<String>,
    pub(crate) lines: Vec<Line>,
    pub(crate) types: Vec<LineType>,
}

/// Where an event is in a block.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) ts: u64,
    start: u32,
    end: u32,
    /// Index in [`Block::types`].
    pub(crate) line_type: u32,
}

impl Line {
    pub(crate) fn json(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A type that occurs in a block.
#[derive(Debug)]
pub(crate) struct LineType {
    pub(crate) category: Category,
    pub(crate) event_type: EventType,
    pub(crate) name: Arc<str>,
}

impl Block {
    /// Of the frame that follows the metadata, whose CRC [`step`] has checked.
    pub(crate) fn decode(meta: &Meta, compressed: &[u8]) -> Result<Self, BadBlock> {
        let raw = Decompressor::new()
            .and_then(|mut it| it.decompress(compressed, meta.raw_len as usize))
            .map_err(|_| BadBlock::Damaged)?;
        Self::of_lines(meta, raw).ok_or(BadBlock::Damaged)
    }

    fn of_lines(meta: &Meta, mut raw: Vec<u8>) -> Option<Self> {
        if raw.len() != meta.raw_len as usize {
            return None;
        }
        let mut types: Vec<LineType> = meta
            .types
            .iter()
            .filter_map(|entry| {
                let event_type = entry.event_type.clone()?;
                Some(LineType::new(entry.category, event_type))
            })
            .collect();
        let mut lines = Vec::with_capacity(usize::try_from(meta.count).ok()?.min(raw.len()));
        let mut before = meta.first - 1;
        let mut start = 0;
        for end in memchr_iter(b'\n', &raw) {
            let line = &raw[start..end];
            if !line.starts_with(b"{\"gap\":") {
                let head = Head::of(line)?;
                if head.seq <= before || meta.last < head.seq {
                    return None;
                }
                before = head.seq;
                let known = types.iter().position(|it| {
                    *it.name == *head.event_type && it.category.as_str() == head.category
                });
                let line_type = match known {
                    Some(found) => found,
                    None => {
                        let category = head.category.parse().ok()?;
                        let event_type = EventType::new(&head.event_type).ok()?;
                        types.push(LineType::new(category, event_type));
                        types.len() - 1
                    }
                };
                lines.push(Line {
                    seq: head.seq,
                    ts: head.ts,
                    start: start as u32,
                    end: end as u32,
                    line_type: line_type as u32,
                });
            }
            start = end + 1;
        }
        if start != raw.len() || lines.len() as u64 != meta.count {
            return None;
        }
        for at in &meta.breaks {
            *raw.get_mut(*at as usize)? = b'\n';
        }
        Some(Self {
            text: Arc::new(String::from_utf8(raw).ok()?),
            lines,
            types,
        })
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Line>() + self.types.len() * 96
    }
}

impl LineType {
    fn new(category: Category, event_type: EventType) -> Self {
        Self {
            category,
            name: event_type.as_str().into(),
            event_type,
        }
    }
}

/// The fields at the start of every envelope that the stream's encoder writes.
struct Head<'a> {
    seq: u64,
    ts: u64,
    event_type: Cow<'a, str>,
    category: &'a str,
}

impl<'a> Head<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"seq\":")?;
        let (seq, rest) = number(rest)?;
        let rest = rest.strip_prefix(b",\"event\":{\"ts\":")?;
        let (ts, rest) = number(rest)?;
        let rest = rest.strip_prefix(b",\"type\":\"")?;
        let end = memchr(b'"', rest)?;
        if memchr(b'\\', &rest[..end]).is_some() {
            return Self::of_escaped(line);
        }
        let event_type = std::str::from_utf8(&rest[..end]).ok()?;
        let rest = rest[end..].strip_prefix(b"\",\"category\":\"")?;
        let category = std::str::from_utf8(&rest[..memchr(b'"', rest)?]).ok()?;
        Some(Self {
            seq,
            ts,
            event_type: Cow::Borrowed(event_type),
            category,
        })
    }

    /// With an escape in the type's name.
    fn of_escaped(line: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            seq: u64,
            event: Event,
        }

        #[derive(Deserialize)]
        struct Event {
            ts: u64,
            r#type: String,
            category: Category,
        }

        let Envelope { seq, event } = serde_json::from_slice(line).ok()?;
        Some(Self {
            seq,
            ts: event.ts,
            event_type: Cow::Owned(event.r#type),
            category: event.category.as_str(),
        })
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut digits = 0;
    for byte in text {
        let digit = match byte {
            b'0'..=b'9' => u64::from(byte - b'0'),
            _ => break,
        };
        value = value.checked_mul(10)?.checked_add(digit)?;
        digits += 1;
    }
    (0 < digits).then_some((value, &text[digits..]))
}
