//! Reading from an archive up to where the stream in memory continues: [`Past`].

use std::collections::VecDeque;
use std::fmt;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_timer::Delay;
use tapline_events::{Epoch, EventStream, Filter, Lost, ReaderLedger};
use tapline_oapi::EpochNotice;
use tapline_telemetry::SessionState;

use crate::backend::Delivery;
use crate::history::{
    History, HistoryBatch, HistoryError, HistoryQuery, Order, ReadLimit, SharedEnvelope,
    epoch_after,
};
use crate::source::BoxFuture;

/// How often an archive is asked again that fails, or that has not yet what the stream has evicted, and after
/// which pause. Together it is some ten times what an archive may need to write an event.
pub(crate) const ATTEMPTS: u32 = 10;
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// A position in an archive, on its way to the stream. It reads one batch ahead.
pub(crate) struct Past {
    archive: Arc<dyn History>,
    stream: EventStream<SessionState>,
    epoch: Epoch,
    filter: Filter,
    ledger: ReaderLedger,
    /// The newest seq of the epoch, as far as it is known.
    head: u64,
    found: Found,
    reading: Option<BoxFuture<'static, Step>>,
}

/// What was read and is not delivered yet.
#[derive(Debug, Default)]
struct Found {
    envelopes: VecDeque<SharedEnvelope>,
    missing: VecDeque<RangeInclusive<u64>>,
    /// The last seq that it is about.
    end: u64,
    /// What follows it.
    then: Then,
}

/// What comes behind what was found.
#[derive(Debug, Default)]
enum Then {
    /// More of the same epoch.
    #[default]
    More,
    /// Another epoch, from its first event on.
    Epoch(Box<EpochNotice>),
    /// The stream: it has all that follows.
    Stream,
}

/// What a read comes to.
enum Step {
    Batch(HistoryBatch),
    /// There is no more of this epoch. Whether it was read to its end.
    Epoch {
        next: Epoch,
        is_whole: bool,
    },
    Stream,
}

impl Past {
    /// Begins behind the position of that ledger.
    pub(crate) fn new(
        archive: Arc<dyn History>,
        stream: EventStream<SessionState>,
        epoch: Epoch,
        filter: Filter,
        ledger: ReaderLedger,
        head: u64,
    ) -> Self {
        Self {
            archive,
            stream,
            epoch,
            filter,
            found: Found {
                end: ledger.position(),
                ..Found::default()
            },
            ledger,
            head,
            reading: None,
        }
    }

    /// One at the same position, with a ledger of its own.
    pub(crate) fn beside(&self, ledger: ReaderLedger) -> Self {
        Self::new(
            self.archive.clone(),
            self.stream.clone(),
            self.epoch,
            self.filter.clone(),
            ledger,
            self.head,
        )
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn ledger(&self) -> ReaderLedger {
        self.ledger
    }

    /// The newest seq of the epoch that it reads.
    pub(crate) fn head(&self) -> u64 {
        match self.is_of_stream() {
            true => self.stream.head(),
            false => self.head.max(self.found.end),
        }
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(crate) fn refilter(&mut self, filter: Filter) {
        self.filter = filter;
        // What was read ahead is read again, for the new filter.
        self.reading = None;
        self.found = Found {
            end: self.ledger.position(),
            ..Found::default()
        };
    }

    /// Whether the stream has all that follows, so that a reader of it continues here.
    pub(crate) fn is_over(&self) -> bool {
        let is_read = self.found.end == self.ledger.position();
        is_read && matches!(self.found.then, Then::Stream)
    }

    /// As [`Subscription::read`](crate::Subscription::read). It ends where the epoch changes.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        visit: &mut impl FnMut(Delivery<'_>) -> ControlFlow<()>,
    ) -> usize {
        let limit = limit as u64;
        let mut looked_at = 0;
        let mut flow = ControlFlow::Continue(());
        while looked_at < limit && flow.is_continue() {
            let Self {
                found,
                ledger,
                filter,
                ..
            } = self;
            // A cursor of an earlier epoch may be any number.
            let position = ledger.position();
            if found.end <= position {
                break;
            }
            let next = position + 1;
            if let Some(gone) = found.missing.front()
                && *gone.start() <= next
            {
                let (first, last) = (next, *gone.end());
                found.missing.pop_front();
                let count = last - first + 1;
                ledger.lost += count;
                flow = visit(Delivery::Lost(Lost {
                    first,
                    last,
                    matching: (*filter == Filter::all()).then_some(count),
                    by_category: None,
                }));
                looked_at += 1;
                continue;
            }
            let envelope = found.envelopes.front().map(SharedEnvelope::seq);
            if envelope == Some(next)
                && let Some(envelope) = found.envelopes.pop_front()
            {
                ledger.delivered += 1;
                looked_at += 1;
                flow = visit(Delivery::Envelope {
                    seq: next,
                    json: envelope.json(),
                });
                continue;
            }
            // Nothing of what lies before the next one was asked for.
            let missing = found.missing.front().map(|gone| *gone.start());
            let until = [envelope, missing].into_iter().flatten().min();
            let last = until.map_or(found.end, |seq| seq - 1);
            let filtered = (last - next + 1).min(limit - looked_at);
            ledger.filtered += filtered;
            looked_at += filtered;
        }
        if looked_at < limit
            && flow.is_continue()
            && self.found.end == self.ledger.position()
            && matches!(self.found.then, Then::Epoch(_))
            && let Then::Epoch(notice) = std::mem::take(&mut self.found.then)
        {
            self.epoch = notice.epoch;
            self.ledger = ReaderLedger::default();
            self.found = Found::default();
            self.head = 0;
            let _ = visit(Delivery::Epoch(notice));
            looked_at += 1;
        }
        usize::try_from(looked_at).unwrap_or(usize::MAX)
    }

    /// Ready when there is something to read, or when it [is over](Self::is_over).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let position = self.ledger.position();
        while self.found.end == position && matches!(self.found.then, Then::More) {
            let reading = match &mut self.reading {
                Some(reading) => reading,
                None => {
                    let reading = self.step();
                    self.reading.insert(reading)
                }
            };
            let step = std::task::ready!(reading.as_mut().poll(cx));
            self.reading = None;
            match step {
                Step::Batch(batch) => {
                    let looked_at = batch.looked_at.unwrap_or(position..=position);
                    self.found = Found {
                        envelopes: batch.envelopes.into(),
                        missing: batch.missing.into(),
                        end: *looked_at.end(),
                        then: Then::More,
                    };
                }
                Step::Epoch { next, is_whole } => {
                    self.found.then = Then::Epoch(Box::new(EpochNotice {
                        from: self.epoch,
                        last_seq: position,
                        complete: is_whole,
                        epoch: next,
                    }));
                }
                Step::Stream => self.found.then = Then::Stream,
            }
        }
        Poll::Ready(())
    }

    fn is_of_stream(&self) -> bool {
        self.epoch == self.stream.epoch()
    }

    /// Reads what comes next. It does not fail: what cannot be read is missing.
    fn step(&self) -> BoxFuture<'static, Step> {
        let (archive, stream) = (self.archive.clone(), self.stream.clone());
        let is_of_stream = self.is_of_stream();
        let position = self.ledger.position();
        let mut query = HistoryQuery {
            epoch: self.epoch,
            seqs: position.saturating_add(1)..=u64::MAX,
            order: Order::Asc,
            filter: self.filter.clone(),
            since: None,
            until: None,
            limit: ReadLimit::default(),
        };
        Box::pin(async move {
            for attempt in 1..=ATTEMPTS {
                if is_of_stream {
                    match evicted_after(&stream, position) {
                        Some(evicted) => query.seqs = evicted,
                        None => return Step::Stream,
                    }
                }
                let found = next(&*archive, &query, stream.epoch()).await;
                match found {
                    Ok(Some(step)) => return step,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, attempt, "the archive cannot be read");
                    }
                }
                Delay::new(PAUSE).await;
            }
            if is_of_stream {
                return match evicted_after(&stream, position) {
                    None => Step::Stream,
                    Some(missing) => Step::Batch(HistoryBatch {
                        envelopes: Vec::new(),
                        looked_at: Some(missing.clone()),
                        missing: vec![missing],
                    }),
                };
            }
            // What is left of that epoch is not known; the present one is there.
            Step::Epoch {
                next: stream.epoch(),
                is_whole: false,
            }
        })
    }
}

/// The seqs after `position` that the stream does not have any more.
pub(crate) fn evicted_after(
    stream: &EventStream<SessionState>,
    position: u64,
) -> Option<RangeInclusive<u64>> {
    let retained = stream.retained();
    // A stream that continues what others have stored may have nothing in memory.
    let oldest = match retained.oldest {
        0 => retained.head + 1,
        oldest => oldest,
    };
    let evicted = position.saturating_add(1)..=oldest - 1;
    (!evicted.is_empty()).then_some(evicted)
}

/// What an archive has for this query. `None` where it has not yet what `present`, the epoch of the stream, has
/// evicted.
async fn next(
    archive: &dyn History,
    query: &HistoryQuery,
    present: Epoch,
) -> Result<Option<Step>, HistoryError> {
    let batch = archive.read(query).await?;
    if batch.looked_at.is_some() {
        return Ok(Some(Step::Batch(batch)));
    }
    if query.epoch == present {
        return Ok(None);
    }
    let epochs = archive.bounds().await?;
    Ok(Some(Step::Epoch {
        next: epoch_after(&epochs, query.epoch, present),
        is_whole: true,
    }))
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past")
            .field("epoch", &self.epoch)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
