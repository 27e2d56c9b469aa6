//! What the broker has stored of one instance, as a [`History`].
//!
//! A block is found by its place in the stream of its partition. Nothing is kept of where blocks are but where each run of
//! the instance begins and ends: the blocks of a run are in the order of their seqs, so a seq is found by halving, and the
//! next block by its subject. Halving takes a request for each step: some twenty for a million messages.
//!
//! # Runs that overlap
//!
//! A run follows another one, as a rule: the place where the next one begins is found by halving, too. But a run may store
//! its last blocks when the next one has begun, and two programs may have one name. So the blocks on both sides of the place
//! that was found are looked at one by one until [`NEAR`] in a row are of one run, and every search for a block of one run
//! passes over those of others. The order of runs is that of their first blocks.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind, Stream};
use tapline_api::{
    BoxFuture, History, HistoryBatch, HistoryBounds, HistoryError, HistoryQuery, Order,
};
use tapline_archive::block::{DecodedBlock, Meta};
use tapline_events::Epoch;

use crate::connect::Connection;
use crate::message::{self, Head, MessageError};
use crate::name::{InstanceName, Partitions, stream_name};

/// One read asks for so many blocks: some milliseconds.
const MAX_BLOCKS: usize = 32;

/// Where so many blocks in a row are of one run, those behind them are taken for blocks of the same.
const NEAR: u64 = 8;

/// One look passes at most so many blocks one by one: with two programs of one name, each block may be of another run.
const MOST_NEAR: u64 = 512;

/// A message with a block of the instance.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its place in the stream of the partition.
    pub(crate) at: u64,
    /// `Err` where it cannot be read.
    pub(crate) head: Result<Head, MessageError>,
    pub(crate) message: Arc<Raw>,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) headers: async_nats::HeaderMap,
    pub(crate) payload: bytes::Bytes,
}

impl Stored {
    pub(crate) fn new(at: u64, headers: async_nats::HeaderMap, payload: bytes::Bytes) -> Self {
        Self {
            at,
            head: Head::read(&headers),
            message: Arc::new(Raw { headers, payload }),
        }
    }

    /// The block.
    pub(crate) fn decode(&self) -> Result<DecodedBlock, MessageError> {
        let Raw { headers, payload } = &*self.message;
        message::decode(headers, payload).map(|(_, block)| block)
    }
}

/// The first message of this subject, in which `*` stands for any token, at that place or behind it.
///
/// Any server that has the stream may answer, and one of them may lack the newest messages. So where there is none, the
/// leader of the stream is asked.
pub(crate) async fn next_message(
    stream: &Stream<()>,
    subject: &str,
    at: u64,
) -> Result<Option<StreamMessage>, HistoryError> {
    let at = at.max(1);
    match stream.direct_get_next_for_subject(subject, Some(at)).await {
        Ok(message) => return Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
        Err(error) => return Err(HistoryError::new(error)),
    }
    let asked = stream
        .raw_message_builder()
        .sequence(at)
        .next_by_subject(subject);
    match asked.send().await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(HistoryError::new(error)),
    }
}

/// The blocks of one instance. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Blocks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: Stream<()>,
    subject: String,
    instance: InstanceName,
    /// The runs, as of the last look.
    spans: Mutex<Vec<Span>>,
    /// The run that is served from memory.
    present: OnceLock<Epoch>,
    /// Behind which place reading ended last, and at which seq: it continues there, mostly.
    hint: Mutex<Option<(Epoch, u64, u64)>>,
}

/// The blocks of one epoch. Those of others may be between them.
#[derive(Debug, Clone, Copy)]
struct Span {
    epoch: Epoch,
    /// The places of its first and its last block.
    first: u64,
    last: u64,
    oldest: u64,
    head: u64,
    /// Whether its first block is the first that the run has stored, so that the run began there.
    is_whole: bool,
}

impl Blocks {
    pub(crate) async fn new(
        connection: &Connection,
        partitions: Partitions,
        instance: &InstanceName,
    ) -> Result<Self, HistoryError> {
        let name = stream_name(partitions.of(instance));
        let stream = connection.jetstream().get_stream_no_info(&name).await;
        Ok(Self(Arc::new(Shared {
            stream: stream.map_err(HistoryError::new)?,
            subject: instance.blocks_subject(partitions),
            instance: instance.clone(),
            spans: Mutex::default(),
            present: OnceLock::new(),
            hint: Mutex::default(),
        })))
    }

    /// This run is served from memory from now on: no other one follows it.
    pub(crate) fn serve(&self, epoch: Epoch) {
        let _ = self.0.present.set(epoch);
    }

    /// The first block at that place or behind it.
    pub(crate) async fn next(&self, at: u64) -> Result<Option<Stored>, HistoryError> {
        let Shared {
            stream, subject, ..
        } = &*self.0;
        let found = next_message(stream, subject, at).await?;
        Ok(found.map(|it| Stored::new(it.sequence, it.headers, it.payload)))
    }

    /// The newest block, as the leader of the stream has it.
    pub(crate) async fn last(&self) -> Result<Option<Stored>, HistoryError> {
        let got = self
            .0
            .stream
            .get_last_raw_message_by_subject(&self.0.subject)
            .await;
        match got {
            Ok(message) => Ok(Some(Stored::new(
                message.sequence,
                message.headers,
                message.payload,
            ))),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(HistoryError::new(error)),
        }
    }

    /// The newest block of the run that began last. The newest block of all may be of one before.
    pub(crate) async fn newest(&self) -> Result<Option<Stored>, HistoryError> {
        let Some(last) = self.last().await? else {
            return Ok(None);
        };
        let Ok(head) = &last.head else {
            return Ok(Some(last));
        };
        if self.began_last(&last, head).await? {
            return Ok(Some(last));
        }
        let spans = self.spans().await?;
        let later = spans
            .iter()
            .rev()
            .find(|it| began_before(&spans, head.epoch, it));
        let Some(later) = later else {
            return Ok(Some(last));
        };
        let newest = self.next_of(Some(later.epoch), later.last, later.last);
        Ok(Some(newest.await?.map_or(last, |(stored, _)| stored)))
    }

    /// Whether the run of the newest block began last, as far as the blocks near it say so: without looking at every run that
    /// there was.
    async fn began_last(&self, newest: &Stored, head: &Head) -> Result<bool, HistoryError> {
        let (mut begins, mut at) = (begins_run(newest), newest.at);
        for _ in 0..NEAR {
            if begins {
                return Ok(true);
            }
            match self.previous(None, at, 1).await? {
                Some((stored, before)) if before.epoch == head.epoch => {
                    (begins, at) = (begins_run(&stored), stored.at);
                }
                Some(_) => return Ok(false),
                None => return Ok(true),
            }
        }
        Ok(true)
    }

    /// Whether the run of this block is known to have begun before that one, which has stored something before this block.
    /// A look may have missed the block.
    pub(crate) async fn began_before(
        &self,
        stored: &Stored,
        head: &Head,
        of: Epoch,
    ) -> Result<bool, HistoryError> {
        // As a rule: an instance was started anew. It costs no request, since all of a fleet may be at once.
        if begins_run(stored) {
            return Ok(false);
        }
        let mut spans = self.spans().await?;
        add(&mut spans, stored, head);
        self.known().clone_from(&spans);
        let of = spans.iter().find(|it| it.epoch == of);
        Ok(of.is_some_and(|of| began_before(&spans, head.epoch, of)))
    }

    /// A block that was come to within another run.
    pub(crate) fn note(&self, stored: &Stored, head: &Head) {
        let mut spans = self.known();
        // What is behind them is looked at by the next look.
        if spans.iter().any(|it| stored.at < it.last) {
            add(&mut spans, stored, head);
        }
    }

    /// The first block of this epoch with an event behind that seq, up to this place, as far as its run is known.
    pub(crate) async fn first_behind(
        &self,
        epoch: Epoch,
        seq: u64,
        last: u64,
    ) -> Result<Option<Stored>, HistoryError> {
        let known = self.known().iter().find(|it| it.epoch == epoch).copied();
        let (found, _) = match known {
            Some(span) => {
                let is_far = |it: &Head| seq < it.last;
                self.find(Some(epoch), span.first, last, is_far).await?
            }
            // The blocks of all runs before it would be passed one by one. Where another run is between its blocks, this may
            // be a later one.
            None => {
                let is_far = |it: &Head| it.epoch == epoch && seq < it.last;
                self.find(None, 1, last, is_far).await?
            }
        };
        Ok(found.map(|(stored, _)| stored))
    }

    /// As [`next`](Self::next), of those whose headers can be read.
    async fn next_read(&self, mut at: u64) -> Result<Option<(Stored, Head)>, HistoryError> {
        while let Some(found) = self.next(at).await? {
            match &found.head {
                Ok(head) => {
                    let head = head.clone();
                    return Ok(Some((found, head)));
                }
                Err(error) => {
                    let instance = &self.0.instance;
                    tracing::warn!(%instance, at = found.at, %error, "a block cannot be read");
                    at = found.at + 1;
                }
            }
        }
        Ok(None)
    }

    /// The first block in `low..=high` of this epoch, or of any.
    async fn next_of(
        &self,
        epoch: Option<Epoch>,
        low: u64,
        high: u64,
    ) -> Result<Option<(Stored, Head)>, HistoryError> {
        let mut at = low;
        while at <= high
            && let Some((stored, head)) = self.next_read(at).await?
            && stored.at <= high
        {
            if epoch.is_none_or(|epoch| epoch == head.epoch) {
                return Ok(Some((stored, head)));
            }
            at = stored.at + 1;
        }
        Ok(None)
    }

    /// The newest block whose headers can be read.
    async fn last_read(&self) -> Result<Option<(Stored, Head)>, HistoryError> {
        let Some(last) = self.last().await? else {
            return Ok(None);
        };
        match &last.head {
            Ok(head) => {
                let head = head.clone();
                Ok(Some((last, head)))
            }
            Err(_) => self.previous(None, last.at, 1).await,
        }
    }

    /// The last block of this epoch, or of any, before that place, and not before `from`.
    async fn previous(
        &self,
        epoch: Option<Epoch>,
        before: u64,
        from: u64,
    ) -> Result<Option<(Stored, Head)>, HistoryError> {
        let mut step = 1;
        let mut found = loop {
            let at = before.saturating_sub(step).max(from);
            match self.next_of(epoch, at, before - 1).await? {
                Some(found) => break found,
                None if at == from => return Ok(None),
                None => step *= 4,
            }
        };
        while let Some(later) = self.next_of(epoch, found.0.at + 1, before - 1).await? {
            found = later;
        }
        Ok(Some(found))
    }

    /// Of the blocks of this epoch, or of all, the first in `low..=high` for which `is_far` holds, and the last one before
    /// it. It has to hold for all behind the first.
    async fn find(
        &self,
        epoch: Option<Epoch>,
        mut low: u64,
        mut high: u64,
        is_far: impl Fn(&Head) -> bool + Send,
    ) -> Result<(Option<(Stored, Head)>, Option<(Stored, Head)>), HistoryError> {
        let (mut before, mut found) = (None, None);
        while low <= high {
            let middle = low + (high - low) / 2;
            match self.next_of(epoch, middle, high).await? {
                Some((stored, head)) if !is_far(&head) => {
                    low = stored.at + 1;
                    before = Some((stored, head));
                    continue;
                }
                Some(far) => found = Some(far),
                // None at the middle or behind it.
                None => {}
            }
            if middle == 0 {
                break;
            }
            high = middle - 1;
        }
        Ok((found, before))
    }

    /// What is stored of each epoch, in the order in which they began.
    async fn spans(&self) -> Result<Vec<Span>, HistoryError> {
        let (Some(first), Some(newest)) = (self.next_read(1).await?, self.last_read().await?)
        else {
            self.known().clear();
            return Ok(Vec::new());
        };
        let mut spans = Vec::new();
        // Without what was deleted since.
        let known = self.known().clone();
        for mut span in known {
            if span.first < first.0.at {
                let left = self.next_of(Some(span.epoch), first.0.at, span.last);
                let Some((stored, head)) = left.await? else {
                    continue;
                };
                span.first = stored.at;
                span.oldest = head.first;
                span.is_whole = false;
            }
            spans.push(span);
        }
        // And with what was stored since.
        let mut left = MOST_NEAR;
        if spans.is_empty() {
            self.look_ahead(&mut spans, first, newest.0.at, &mut left)
                .await?;
        }
        while let Some(end) = spans.iter().max_by_key(|it| it.last).copied()
            && end.last < newest.0.at
        {
            if end.epoch == newest.1.epoch || left == 0 {
                add(&mut spans, &newest.0, &newest.1);
                break;
            }
            let (low, high) = (end.last + 1, newest.0.at);
            let is_next = |it: &Head| it.epoch != end.epoch;
            let (next, before) = self.find(None, low, high, is_next).await?;
            if let Some((stored, head)) = before {
                add(&mut spans, &stored, &head);
            }
            let Some(begun) = next else {
                break;
            };
            // The run may have begun before the place that was found, and the one before it end behind that.
            let (mut at, mut near) = (begun.0.at, NEAR);
            while 0 < near
                && 0 < left
                && let Some((stored, head)) = self.previous(None, at, low).await?
            {
                at = stored.at;
                near = if head.epoch == end.epoch {
                    near - 1
                } else {
                    NEAR
                };
                left -= 1;
                add(&mut spans, &stored, &head);
            }
            self.look_ahead(&mut spans, begun, high, &mut left).await?;
        }
        // What is deleted comes before all that is left, so a run of which something is deleted began earlier.
        spans.sort_unstable_by_key(|it| (it.is_whole, it.first));
        self.known().clone_from(&spans);
        Ok(spans)
    }

    /// Adds a block, and those behind it until some in a row are of its run.
    async fn look_ahead(
        &self,
        spans: &mut Vec<Span>,
        (stored, head): (Stored, Head),
        last: u64,
        left: &mut u64,
    ) -> Result<(), HistoryError> {
        add(spans, &stored, &head);
        let (epoch, mut at, mut near) = (head.epoch, stored.at, NEAR);
        while 0 < near
            && 0 < *left
            && let Some((stored, head)) = self.next_of(None, at + 1, last).await?
        {
            at = stored.at;
            near = if head.epoch == epoch { near - 1 } else { NEAR };
            *left -= 1;
            add(spans, &stored, &head);
        }
        Ok(())
    }

    async fn read_now(&self, query: &HistoryQuery) -> Result<HistoryBatch, HistoryError> {
        let mut batch = HistoryBatch::default();
        let spans = self.spans().await?;
        let Some(span) = spans.iter().find(|it| it.epoch == query.epoch) else {
            return Ok(batch);
        };
        let (first, last) = (
            *query.seqs.start().max(&1),
            span.head.min(*query.seqs.end()),
        );
        if last < first {
            return Ok(batch);
        }
        let mut walk = Walk {
            query,
            low: first,
            high: last,
            bytes: 0,
            batch: &mut batch,
        };
        match query.order {
            Order::Asc => self.ascend(span, &mut walk).await?,
            Order::Desc => self.descend(span, &mut walk).await?,
        }
        let (low, high) = (walk.low, walk.high);
        batch.looked_at = match query.order {
            Order::Asc => (first < low).then(|| first..=low - 1),
            Order::Desc => (high < last).then(|| high + 1..=last),
        };
        Ok(batch)
    }

    async fn ascend(&self, span: &Span, walk: &mut Walk<'_>) -> Result<(), HistoryError> {
        let (of, low) = (Some(span.epoch), walk.low);
        let hint = self
            .hint()
            .filter(|(epoch, seq, _)| *epoch == span.epoch && *seq == low);
        let mut next = match hint {
            Some((_, _, at)) if span.first <= at => self.next_of(of, at, span.last).await?,
            _ => {
                let found = self.find(of, span.first, span.last, |it| low <= it.last);
                found.await?.0
            }
        };
        for _ in 0..MAX_BLOCKS {
            let Some((stored, head)) = next.take() else {
                break;
            };
            if walk.is_done() {
                break;
            }
            let is_whole = walk.take(&stored, &head);
            self.set_hint(span.epoch, walk.low, stored.at);
            if !is_whole {
                return Ok(());
            }
            next = self.next_of(of, stored.at + 1, span.last).await?;
        }
        // Deleted since, all that is left.
        if next.is_none() && !walk.is_done() && walk.low <= span.head {
            let gone = walk.low..=walk.high;
            walk.pass_missing(gone);
        }
        Ok(())
    }

    async fn descend(&self, span: &Span, walk: &mut Walk<'_>) -> Result<(), HistoryError> {
        let (of, high) = (Some(span.epoch), walk.high);
        let found = self
            .find(of, span.first, span.last, |it| high <= it.last)
            .await?;
        let mut next = found.0;
        for _ in 0..MAX_BLOCKS {
            let Some((stored, head)) = next.take() else {
                break;
            };
            if walk.is_done() || !walk.take(&stored, &head) {
                return Ok(());
            }
            if stored.at == span.first {
                break;
            }
            next = self.previous(of, stored.at, span.first).await?;
        }
        if next.is_none() && !walk.is_done() {
            let gone = walk.low..=walk.high;
            walk.pass_missing(gone);
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Span>> {
        self.0.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) -> Option<(Epoch, u64, u64)> {
        *self.0.hint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_hint(&self, epoch: Epoch, seq: u64, at: u64) {
        *self.0.hint.lock().unwrap_or_else(PoisonError::into_inner) = Some((epoch, seq, at));
    }
}

/// Adds a block to what is known of its run.
fn add(spans: &mut Vec<Span>, stored: &Stored, head: &Head) {
    let known = spans.iter().position(|it| it.epoch == head.epoch);
    let at = known.unwrap_or(spans.len());
    if known.is_none() {
        spans.push(Span {
            epoch: head.epoch,
            first: u64::MAX,
            last: 0,
            oldest: 0,
            head: 0,
            is_whole: false,
        });
    }
    let span = &mut spans[at];
    if stored.at < span.first {
        span.first = stored.at;
        span.oldest = head.first;
        span.is_whole = begins_run(stored);
    }
    span.last = span.last.max(stored.at);
    span.head = span.head.max(head.last);
}

/// Whether nothing of its run was stored before this block.
fn begins_run(stored: &Stored) -> bool {
    Meta::read(&stored.message.payload).is_ok_and(|it| it.previous == 0)
}

/// Whether the run `earlier` had stored something when the run `of` began.
fn began_before(spans: &[Span], earlier: Epoch, of: &Span) -> bool {
    let earlier = spans.iter().find(|it| it.epoch == earlier);
    of.is_whole && earlier.is_some_and(|it| it.first < of.first)
}

/// A read on its way through blocks: what is left is `low..=high`.
struct Walk<'a> {
    query: &'a HistoryQuery,
    low: u64,
    high: u64,
    bytes: usize,
    batch: &'a mut HistoryBatch,
}

impl Walk<'_> {
    fn is_done(&self) -> bool {
        self.high < self.low
    }

    /// These seqs, which are what is left on this side, are missing.
    fn pass_missing(&mut self, gone: RangeInclusive<u64>) {
        match self.query.order {
            Order::Asc => self.low = gone.end() + 1,
            Order::Desc => self.high = gone.start() - 1,
        }
        self.batch.add_missing(gone);
    }

    /// Takes what the block has of what is left. Whether it was done with all of it.
    fn take(&mut self, stored: &Stored, head: &Head) -> bool {
        // What lies between this block and the one before was never stored, or is deleted.
        match self.query.order {
            Order::Asc if self.low < head.first => {
                let end = self.high.min(head.first - 1);
                self.pass_missing(self.low..=end);
            }
            Order::Desc if head.last < self.high => {
                let start = self.low.max(head.last + 1);
                self.pass_missing(start..=self.high);
            }
            _ => {}
        }
        let (first, last) = (self.low.max(head.first), self.high.min(head.last));
        if last < first {
            return true;
        }
        let block = match stored.decode() {
            Ok(block) => block,
            Err(error) => {
                tracing::warn!(at = stored.at, %error, "a block cannot be read");
                self.pass_missing(first..=last);
                return true;
            }
        };
        let mut gaps = block.meta().gaps.clone();
        if self.query.order == Order::Desc {
            gaps.reverse();
        }
        let mut gaps = gaps.into_iter().peekable();
        let events = block.events(first..=last, &self.query.filter);
        let events: Box<dyn Iterator<Item = _>> = match self.query.order {
            Order::Asc => Box::new(events),
            Order::Desc => Box::new(events.rev()),
        };
        for envelope in events {
            let seq = envelope.seq();
            while let Some(gap) = gaps.next_if(|gap| match self.query.order {
                Order::Asc => *gap.end() < seq,
                Order::Desc => seq < *gap.start(),
            }) {
                self.pass_gap(gap);
            }
            if self.query.is_in_time(envelope.ts()) {
                let limit = self.query.limit;
                self.bytes += envelope.json().len();
                let has = self.batch.envelopes.len();
                if has == limit.events.max(1) || 0 < has && limit.bytes < self.bytes {
                    return false;
                }
                self.batch.envelopes.push(envelope);
            }
            match self.query.order {
                Order::Asc => self.low = seq + 1,
                Order::Desc => self.high = seq - 1,
            }
        }
        for gap in gaps {
            self.pass_gap(gap);
        }
        match self.query.order {
            Order::Asc => self.low = last + 1,
            Order::Desc => self.high = first - 1,
        }
        true
    }

    /// A gap of the block, as far as it is within what is left.
    fn pass_gap(&mut self, gap: RangeInclusive<u64>) {
        let (first, last) = (self.low.max(*gap.start()), self.high.min(*gap.end()));
        if first <= last {
            self.pass_missing(first..=last);
        }
    }
}

impl History for Blocks {
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<HistoryBounds>, HistoryError>> {
        Box::pin(async {
            let mut spans = self.spans().await?;
            spans.sort_by_key(|it| self.0.present.get() == Some(&it.epoch));
            Ok(spans
                .iter()
                .map(|span| HistoryBounds {
                    epoch: span.epoch,
                    oldest: span.oldest,
                    head: span.head,
                })
                .collect())
        })
    }

    fn read<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<HistoryBatch, HistoryError>> {
        Box::pin(self.read_now(query))
    }
}
