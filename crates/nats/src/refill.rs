//! What memory has lost, from the archive: [`Refill`].

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tapline_api::{Filter, History, HistoryQuery, Order, Progress, ReadLimit};
use tapline_events::Epoch;
use tokio::time::{Instant, sleep};

use crate::block::Content;
use crate::error::with_sources;

/// How long an archive may lack what the ring has lost, or fail: it stores an event some milliseconds after it was
/// published.
const PATIENCE: Duration = Duration::from_secs(1);

const PAUSE: Duration = Duration::from_millis(50);

/// A part of the stream that is read from an archive. What the archive has not becomes a gap.
pub(crate) struct Refill {
    archive: Arc<dyn History>,
    epoch: Epoch,
    /// What is left to read.
    seqs: RangeInclusive<u64>,
    /// Since when the archive has given nothing.
    waits_since: Option<Instant>,
}

impl Refill {
    pub(crate) fn new(archive: Arc<dyn History>, epoch: Epoch, seqs: RangeInclusive<u64>) -> Self {
        Self {
            archive,
            epoch,
            seqs,
            waits_since: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.seqs.is_empty()
    }

    /// The next part. Empty where the archive has it not yet.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing was read.
    pub(crate) async fn next(&mut self, limit: ReadLimit, progress: &Progress) -> Vec<Content> {
        let query = HistoryQuery {
            epoch: self.epoch,
            seqs: self.seqs.clone(),
            order: Order::Asc,
            filter: Filter::all(),
            since: None,
            until: None,
            limit,
        };
        let (mut next, last) = self.seqs.clone().into_inner();
        let (envelopes, looked_at) = match self.archive.read(&query).await {
            Ok(batch) => (batch.envelopes, batch.looked_at),
            Err(error) => {
                let error = with_sources(&error);
                tracing::warn!(sink = "nats", error, "the archive cannot be read");
                progress.report(format_args!(
                    "the archive cannot be read for events that memory has lost: {error}"
                ));
                (Vec::new(), None)
            }
        };
        let end = match looked_at.filter(|it| !it.is_empty()) {
            Some(looked_at) => *looked_at.end(),
            None => {
                let since = *self.waits_since.get_or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE {
                    sleep(PAUSE).await;
                    return Vec::new();
                }
                last
            }
        };
        self.seqs = end + 1..=last;
        self.waits_since = None;
        let mut contents = Vec::with_capacity(envelopes.len() + 1);
        for envelope in envelopes {
            let seq = envelope.seq();
            if next < seq {
                contents.push(Content::Gap {
                    first: next,
                    last: seq - 1,
                });
            }
            next = seq + 1;
            contents.push(Content::Archived(envelope));
        }
        if next <= end {
            contents.push(Content::Gap {
                first: next,
                last: end,
            });
        }
        contents
    }
}
