//! Counting in an archive how many of the events that the stream has evicted were asked for: [`Recount`].
//!
//! The stream knows how many events of each category it has evicted, and not of which types. With a filter by type
//! its count of a loss is a bound. Where an archive has all of these events, the count is exact.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_timer::Delay;
use tapline_events::{Epoch, Filter, Lost, ReaderLedger};
use tapline_telemetry::Reader;

use crate::history::History;
use crate::past::{ATTEMPTS, PAUSE};
use crate::source::BoxFuture;

/// A loss of which it is being counted how many events a reader had asked for. It is reported afterwards.
pub(crate) struct Recount {
    archive: Arc<dyn History>,
    epoch: Epoch,
    filter: Filter,
    /// The reader's, before the loss.
    ledger: ReaderLedger,
    lost: Lost,
    step: Step,
}

enum Step {
    Counting(BoxFuture<'static, Option<u64>>),
    /// The number, where the archive has all of the events.
    Done(Option<u64>),
}

impl Recount {
    /// `ledger` is that of the reader before the loss.
    pub(crate) fn new(
        archive: Arc<dyn History>,
        epoch: Epoch,
        filter: Filter,
        ledger: ReaderLedger,
        lost: Lost,
    ) -> Self {
        let step = match lost.matching {
            Some(all) => Step::Done(Some(all)),
            None => {
                let (archive, filter) = (archive.clone(), filter.clone());
                let seqs = lost.first..=lost.last;
                Step::Counting(Box::pin(async move {
                    count(&*archive, epoch, seqs, &filter).await
                }))
            }
        };
        Self {
            archive,
            epoch,
            filter,
            ledger,
            lost,
            step,
        }
    }

    /// The same loss of another reader, which had this ledger before it.
    pub(crate) fn beside(&self, ledger: ReaderLedger) -> Self {
        let archive = self.archive.clone();
        Self::new(archive, self.epoch, self.filter.clone(), ledger, self.lost)
    }

    /// The reader's ledger before the loss.
    pub(crate) fn ledger(&self) -> ReaderLedger {
        self.ledger
    }

    /// Counts for another filter. How many events there were of each category that it asks for is not known.
    pub(crate) fn refilter(&mut self, filter: Filter) {
        let lost = Lost {
            matching: (filter == Filter::all()).then_some(self.lost.count()),
            by_category: None,
            ..self.lost
        };
        *self = Self::new(self.archive.clone(), self.epoch, filter, self.ledger, lost);
    }

    /// Ready when it is counted, or known that it cannot be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Step::Counting(counting) = &mut self.step {
            let counted = std::task::ready!(counting.as_mut().poll(cx));
            self.step = Step::Done(counted);
        }
        Poll::Ready(())
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done(_))
    }

    /// Corrects the ledger of the reader, which is behind the loss. Returns the loss, unless nothing of it was
    /// asked for.
    pub(crate) fn finish(mut self, reader: &mut Reader) -> Option<Lost> {
        if let Step::Done(Some(counted)) = self.step {
            self.lost.matching = Some(counted);
        }
        let at_most = self.lost.at_most();
        reader.amend(self.ledger.behind(&self.lost, at_most));
        (0 < at_most).then_some(self.lost)
    }
}

/// How many of these events match, where the archive has all of them. It is asked for as long as an archive may
/// need to write an event, and some more.
pub(crate) async fn count(
    archive: &dyn History,
    epoch: Epoch,
    mut seqs: RangeInclusive<u64>,
    filter: &Filter,
) -> Option<u64> {
    let began = Instant::now();
    let mut matching = 0;
    while began.elapsed() < PAUSE * ATTEMPTS {
        match archive.count(epoch, seqs.clone(), filter).await {
            Ok(count) if 0 < count.missing => return None,
            Ok(count) => {
                matching += count.matching;
                if let Some(looked_at) = count.looked_at {
                    seqs = looked_at.end() + 1..=*seqs.end();
                    if seqs.is_empty() {
                        return Some(matching);
                    }
                    continue;
                }
            }
            Err(error) => tracing::warn!(%error, "the archive cannot be read"),
        }
        Delay::new(PAUSE).await;
    }
    None
}

impl fmt::Debug for Recount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recount")
            .field("lost", &self.lost)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
