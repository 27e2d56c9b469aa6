//! Reading events back: the walk over segments, strides and blocks, and what queries make of it.
//!
//! Each level is entered only where it may have something that is asked for, or a hole that is to be reported.

use std::ops::{ControlFlow, RangeInclusive};

use tapline_api::{HistoryBatch, HistoryCount, HistoryQuery, Order, SharedEnvelope};
use tapline_events::{Epoch, Filter};

use crate::block::{Block, Meta, Step, step};
use crate::error::ArchiveError;
use crate::index::Wanted;
use crate::store::{Segment, Store, View};

/// One read looks at so many strides and decompresses so many blocks: some milliseconds of work, and tens where it
/// comes from the disk.
const MAX_STRIDES: usize = 256;
const MAX_BLOCKS: usize = 64;

/// What is still to be looked at.
struct Left {
    low: u64,
    high: u64,
    order: Order,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.high < self.low
    }

    /// The part of `first..=last` that is left. What is left on this side of it is passed over, and given to
    /// `missing`.
    fn enter(
        &mut self,
        first: u64,
        last: u64,
        mut missing: impl FnMut(RangeInclusive<u64>),
    ) -> Option<RangeInclusive<u64>> {
        if last < self.low || self.high < first {
            return None;
        }
        match self.order {
            Order::Asc if self.low < first => {
                missing(self.low..=first - 1);
                self.low = first;
            }
            Order::Desc if last < self.high => {
                missing(last + 1..=self.high);
                self.high = last;
            }
            _ => {}
        }
        Some(self.low.max(first)..=self.high.min(last))
    }

    /// `first..=last` is done.
    fn pass(&mut self, first: u64, last: u64) {
        match self.order {
            Order::Asc => self.low = self.low.max(last.saturating_add(1)),
            Order::Desc => self.high = self.high.min(first - 1),
        }
    }
}

/// A block that the walk has come to.
struct Found<'a> {
    segment: &'a Segment,
    offset: u64,
    meta: &'a Meta,
    compressed: &'a [u8],
    /// The part of it that is left.
    seqs: RangeInclusive<u64>,
}

/// What becomes of a block.
enum Visit {
    /// It is done with, all of it.
    Done,
    /// Up to this seq, in the order of the walk, and the walk ends.
    UpTo(u64),
    /// Nothing of it, and the walk ends.
    Stop,
    /// It cannot be read.
    Damaged,
}

impl Store {
    pub(crate) fn read(&self, query: &HistoryQuery) -> Result<HistoryBatch, ArchiveError> {
        let mut batch = HistoryBatch::default();
        let wanted = Wanted::new(&query.filter, query.since, query.until);
        let mut bytes = 0;
        let mut blocks = 0;
        let limit = query.limit;
        let seqs = query.seqs.clone();
        let mut missing = Vec::new();
        let looked_at = self.walk(
            query.epoch,
            seqs,
            query.order,
            Some(&wanted),
            &mut |gone| missing.push(gone),
            |found| {
                if wanted.excludes_block(found.meta) {
                    return Visit::Done;
                }
                if blocks == MAX_BLOCKS {
                    return Visit::Stop;
                }
                blocks += 1;
                let block = self.block(found.segment, found.offset, found.meta, found.compressed);
                let Some(block) = block else {
                    return Visit::Damaged;
                };
                let mut last = None;
                for line in block.lines_in(&found.seqs, query.order) {
                    let line = &block.lines[line];
                    let line_type = &block.types[line.line_type as usize];
                    let is_asked = query.is_in_time(line.ts)
                        && wanted
                            .filter
                            .matches_type(line_type.category, &line_type.event_type);
                    if is_asked {
                        bytes += line.json().len();
                        let is_first = batch.envelopes.is_empty();
                        let is_full = limit.events.max(1) == batch.envelopes.len();
                        if is_full || !is_first && limit.bytes < bytes {
                            return match last {
                                Some(last) => Visit::UpTo(last),
                                None => Visit::Stop,
                            };
                        }
                        batch.envelopes.extend(SharedEnvelope::in_block(
                            line.seq,
                            line.ts,
                            line_type.category,
                            line_type.name.clone(),
                            block.text.clone(),
                            line.json(),
                        ));
                    }
                    last = Some(line.seq);
                }
                Visit::Done
            },
        )?;
        for gone in missing {
            // Gaps within the part of a block that was not looked at are for the next read.
            let Some(looked_at) = &looked_at else { break };
            let (low, high) = (
                *gone.start().max(looked_at.start()),
                *gone.end().min(looked_at.end()),
            );
            if low <= high {
                batch.add_missing(low..=high);
            }
        }
        batch.looked_at = looked_at;
        Ok(batch)
    }

    pub(crate) fn count(
        &self,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        filter: &Filter,
    ) -> Result<HistoryCount, ArchiveError> {
        let wanted = Wanted::new(filter, None, None);
        let mut count = HistoryCount::default();
        let mut gone = Vec::new();
        let mut blocks = 0;
        let looked_at = self.walk(
            epoch,
            seqs,
            Order::Asc,
            Some(&wanted),
            &mut |it| gone.push(it),
            |found| {
                let is_all =
                    *found.seqs.start() <= found.meta.first && found.meta.last <= *found.seqs.end();
                let matching = found.meta.matching(filter);
                if let (true, Some(matching)) | (false, Some(matching @ 0)) = (is_all, matching) {
                    count.matching += matching;
                    return Visit::Done;
                }
                if blocks == MAX_BLOCKS {
                    return Visit::Stop;
                }
                blocks += 1;
                let block = self.block(found.segment, found.offset, found.meta, found.compressed);
                let Some(block) = block else {
                    return Visit::Damaged;
                };
                let lines = block.lines_in(&found.seqs, Order::Asc).filter(|line| {
                    let line_type = &block.types[block.lines[*line].line_type as usize];
                    filter.matches_type(line_type.category, &line_type.event_type)
                });
                count.matching += lines.count() as u64;
                Visit::Done
            },
        )?;
        if let Some(looked_at) = &looked_at {
            let within = gone.iter().map(|gone| {
                let (low, high) = (
                    *gone.start().max(looked_at.start()),
                    *gone.end().min(looked_at.end()),
                );
                (high + 1).saturating_sub(low)
            });
            count.missing = within.sum();
        }
        count.looked_at = looked_at;
        Ok(count)
    }

    /// Comes to every block of the epoch with one of these seqs that `wanted` does not exclude, and gives the seqs
    /// that it has looked at.
    fn walk(
        &self,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        order: Order,
        wanted: Option<&Wanted>,
        missing: &mut dyn FnMut(RangeInclusive<u64>),
        mut visit: impl FnMut(Found<'_>) -> Visit,
    ) -> Result<Option<RangeInclusive<u64>>, ArchiveError> {
        let epochs = self.epochs()?;
        let Some((_, mut views)) = epochs.into_iter().find(|(it, _)| *it == epoch) else {
            return Ok(None);
        };
        let head = views
            .iter()
            .map(|view| view.summary.last)
            .max()
            .unwrap_or(0);
        let (first, last) = (*seqs.start().max(&1), head.min(*seqs.end()));
        if last < first {
            return Ok(None);
        }
        let mut left = Left {
            low: first,
            high: last,
            order,
        };
        if order == Order::Desc {
            views.reverse();
        }
        let mut strides = 0;
        let mut is_ended = false;
        for view in &views {
            let flow =
                self.walk_segment(view, &mut left, wanted, missing, &mut strides, &mut visit)?;
            if flow.is_break() || left.is_empty() {
                is_ended = flow.is_break();
                break;
            }
        }
        if !is_ended && !left.is_empty() {
            missing(left.low..=left.high);
            left.pass(left.low, left.high);
        }
        let looked_at = match order {
            Order::Asc => first..=last.min(left.low - 1),
            Order::Desc => first.max(left.high + 1)..=last,
        };
        // Nothing, where the first block that it came to was one too many.
        Ok((!looked_at.is_empty()).then_some(looked_at))
    }

    fn walk_segment(
        &self,
        view: &View,
        left: &mut Left,
        wanted: Option<&Wanted>,
        missing: &mut dyn FnMut(RangeInclusive<u64>),
        strides_read: &mut usize,
        visit: &mut impl FnMut(Found<'_>) -> Visit,
    ) -> Result<ControlFlow<()>, ArchiveError> {
        let View { segment, summary } = view;
        if left
            .enter(summary.first, summary.last, &mut *missing)
            .is_none()
        {
            return Ok(ControlFlow::Continue(()));
        }
        if wanted.is_some_and(|it| it.excludes_segment(summary)) {
            left.pass(summary.first, summary.last);
            return Ok(ControlFlow::Continue(()));
        }
        let strides = match self.strides(segment) {
            Ok(strides) => strides,
            // Deleted meanwhile.
            Err(error) if error.is_not_found() => return Ok(ControlFlow::Continue(())),
            Err(error) => return Err(error),
        };
        let count = strides.len();
        for n in 0..count {
            let stride = &strides[match left.order {
                Order::Asc => n,
                Order::Desc => count - 1 - n,
            }];
            if left
                .enter(stride.first, stride.last, &mut *missing)
                .is_none()
            {
                continue;
            }
            if wanted.is_some_and(|it| it.excludes_stride(stride)) {
                left.pass(stride.first, stride.last);
                continue;
            }
            if *strides_read == MAX_STRIDES {
                return Ok(ControlFlow::Break(()));
            }
            *strides_read += 1;
            let Some(bytes) = segment.read(stride)? else {
                return Ok(ControlFlow::Continue(()));
            };
            let mut blocks = blocks(&bytes, segment);
            if left.order == Order::Desc {
                blocks.reverse();
            }
            for (at, meta, frame) in &blocks {
                let Some(seqs) = left.enter(meta.first, meta.last, &mut *missing) else {
                    continue;
                };
                let found = Found {
                    segment,
                    offset: stride.offset + *at as u64,
                    meta,
                    compressed: &bytes[frame.clone()],
                    seqs,
                };
                let before = (left.low, left.high);
                let visited = visit(found);
                match visited {
                    Visit::Damaged => {
                        missing(before.0.max(meta.first)..=before.1.min(meta.last));
                        left.pass(meta.first, meta.last);
                        continue;
                    }
                    Visit::Stop => return Ok(ControlFlow::Break(())),
                    Visit::Done => left.pass(meta.first, meta.last),
                    Visit::UpTo(seq) => left.pass(seq, seq),
                }
                report_gaps(meta, before, left.order, missing);
                if matches!(visited, Visit::UpTo(_)) {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The gaps of a block within what was left before it, in the order of the walk.
fn report_gaps(
    meta: &Meta,
    (low, high): (u64, u64),
    order: Order,
    missing: &mut dyn FnMut(RangeInclusive<u64>),
) {
    let mut report = |gap: &RangeInclusive<u64>| {
        let (first, last) = (low.max(*gap.start()), high.min(*gap.end()));
        if first <= last {
            missing(first..=last);
        }
    };
    match order {
        Order::Asc => meta.gaps.iter().for_each(&mut report),
        Order::Desc => meta.gaps.iter().rev().for_each(&mut report),
    }
}

/// The blocks of a stride: where each begins, its metadata, and where its compressed frame is.
fn blocks(bytes: &[u8], segment: &Segment) -> Vec<(usize, Meta, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match step(bytes, at, true) {
            Step::Block(meta, frame) => {
                let end = frame.end;
                if meta.epoch == segment.name.epoch {
                    found.push((at, *meta, frame));
                }
                at = end;
            }
            Step::Damage(next) => at = next,
            Step::More | Step::End | Step::Version(_) => return found,
        }
    }
}

impl Block {
    /// The indexes of the lines with these seqs, in this order.
    fn lines_in(
        &self,
        seqs: &RangeInclusive<u64>,
        order: Order,
    ) -> impl Iterator<Item = usize> + use<> {
        let from = self.lines.partition_point(|line| line.seq < *seqs.start());
        let to = self.lines.partition_point(|line| line.seq <= *seqs.end());
        let len = to - from;
        (0..len).map(move |n| match order {
            Order::Asc => from + n,
            Order::Desc => to - 1 - n,
        })
    }
}
