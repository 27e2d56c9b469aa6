//! The part of a page that is read from the archive.

use std::ops::{ControlFlow, RangeInclusive};
use std::time::{Duration, Instant};

use tapline_events::{Cursor, Epoch, EventStream, Filter};
use tapline_telemetry::SessionState;

use crate::history::{
    History, HistoryBounds, HistoryError, HistoryQuery, Order, ReadLimit, epoch_after,
};
use crate::page::{At, MAX_BYTES, MAX_SEARCH_BYTES, Page, PageQuery};
use crate::past::evicted_after;

/// For how long a page is read in the archive before it ends early, and says that there is more.
const TIME: Duration = Duration::from_millis(200);

/// An archive as of one moment.
pub(super) struct Archive<'a> {
    history: Option<&'a dyn History>,
    /// The epoch of the stream.
    present: Epoch,
    /// What the archive has, the oldest epoch first.
    epochs: Vec<HistoryBounds>,
    began: Instant,
}

impl<'a> Archive<'a> {
    /// No archive.
    pub(super) fn none(present: Epoch) -> Self {
        Self {
            history: None,
            present,
            epochs: Vec::new(),
            began: Instant::now(),
        }
    }

    pub(super) async fn look(
        history: &'a dyn History,
        present: Epoch,
    ) -> Result<Self, HistoryError> {
        let mut epochs = history.bounds().await?;
        epochs.retain(|it| 0 < it.head);
        Ok(Self {
            history: Some(history),
            epochs,
            ..Self::none(present)
        })
    }

    pub(super) fn is_there(&self) -> bool {
        self.history.is_some()
    }

    /// Whether the epoch is the present one, or one that it has events of.
    pub(super) fn has(&self, epoch: Epoch) -> bool {
        epoch == self.present || self.bounds(epoch).is_some()
    }

    /// The oldest epoch that there is.
    pub(super) fn first(&self) -> Epoch {
        self.epochs.first().map_or(self.present, |it| it.epoch)
    }

    /// The oldest seq of the present epoch that it has.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.bounds(self.present).map(|it| it.oldest)
    }

    fn bounds(&self, epoch: Epoch) -> Option<&HistoryBounds> {
        self.epochs.iter().find(|it| it.epoch == epoch)
    }

    fn before(&self, epoch: Epoch) -> Option<&HistoryBounds> {
        let earlier = self.epochs.iter().take_while(|it| it.epoch != epoch);
        earlier.last()
    }

    /// Reads up to where the stream has all that follows. Breaks where the page is complete; otherwise the rest
    /// is read from the stream, from `at` on.
    pub(super) async fn read_up(
        &self,
        stream: &EventStream<SessionState>,
        query: &PageQuery,
        at: &mut At,
        page: &mut Page,
    ) -> Result<ControlFlow<()>, HistoryError> {
        loop {
            page.epoch = at.epoch;
            let Some(bounds) = self.bounds(at.epoch) else {
                return Ok(ControlFlow::Continue(()));
            };
            let after = match at.bound {
                Some(after) => after,
                None => {
                    let deleted = self.deleted(query, bounds).await?;
                    page.add_missing(1..=bounds.oldest - 1, deleted);
                    bounds.oldest - 1
                }
            };
            let is_present = at.epoch == self.present;
            let seqs = match is_present {
                false => after.saturating_add(1)..=u64::MAX,
                true => match evicted_after(stream, after) {
                    Some(evicted) if bounds.oldest <= *evicted.end() => evicted,
                    _ => return Ok(ControlFlow::Continue(())),
                },
            };
            let looked_at = self.read(query, at.epoch, seqs, page).await?;
            match looked_at {
                Some(looked_at) => at.bound = Some(*looked_at.end()),
                // What it does not have yet, the stream says that it is gone.
                None if is_present => return Ok(ControlFlow::Continue(())),
                None => {
                    let next = epoch_after(&self.epochs, at.epoch, self.present);
                    if !page.is_empty() {
                        page.next_offset = Some(Cursor {
                            seq: 0,
                            epoch: Some(next),
                        });
                        return Ok(ControlFlow::Break(()));
                    }
                    *at = At {
                        epoch: next,
                        bound: Some(0),
                        after: Some(0),
                    };
                    continue;
                }
            }
            if self.is_complete(query, page) {
                page.next_offset = at.bound.map(|seq| self.cursor(at.epoch, seq));
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Reads down from `at`.
    pub(super) async fn read_down(
        &self,
        query: &PageQuery,
        mut at: At,
        page: &mut Page,
    ) -> Result<(), HistoryError> {
        loop {
            page.epoch = at.epoch;
            if let Some(bounds) = self.bounds(at.epoch) {
                // Without a bound of its own, a walk asks for what is there.
                let is_bounded = query.after_seq().is_some() && at.after.is_some();
                let first = match at.after {
                    Some(after) if is_bounded => after.saturating_add(1),
                    _ => bounds.oldest.max(at.after.unwrap_or(0).saturating_add(1)),
                };
                let below = at.bound.unwrap_or(u64::MAX);
                let seqs = first..=below.saturating_sub(1);
                if !seqs.is_empty()
                    && let Some(looked_at) = self.read(query, at.epoch, seqs, page).await?
                {
                    let reached = *looked_at.start();
                    at.bound = Some(reached);
                    if first < reached {
                        if self.is_complete(query, page) {
                            page.next_offset = Some(self.cursor(at.epoch, reached));
                            return Ok(());
                        }
                        continue;
                    }
                }
                if !is_bounded {
                    let deleted = self.deleted(query, bounds).await?;
                    page.add_missing(1..=bounds.oldest - 1, deleted);
                }
            }
            // The epoch is read. An earlier one is asked for by time, or by a cursor.
            let earlier = self.before(at.epoch).filter(|_| {
                let asked = query.after.and_then(|after| after.epoch);
                query.since.is_some() || asked.is_some_and(|epoch| epoch != at.epoch)
            });
            let Some(earlier) = earlier else {
                return Ok(());
            };
            let asked = query
                .after
                .filter(|after| after.epoch == Some(earlier.epoch));
            at = At {
                epoch: earlier.epoch,
                bound: Some(earlier.head.saturating_add(1)),
                after: asked.map(|after| after.seq),
            };
            if !page.is_empty() {
                page.next_offset = at.bound.map(|seq| self.cursor(at.epoch, seq));
                return Ok(());
            }
        }
    }

    fn is_complete(&self, query: &PageQuery, page: &Page) -> bool {
        page.envelopes.len() as u64 == query.limit
            || page.bytes() >= MAX_BYTES
            // What was read was searched as well.
            || !query.search.is_empty()
            || TIME <= self.began.elapsed()
    }

    /// A cursor that names its epoch where that is not the present one.
    fn cursor(&self, epoch: Epoch, seq: u64) -> Cursor {
        Cursor {
            seq,
            epoch: Some(epoch).filter(|epoch| *epoch != self.present),
        }
    }

    /// Adds what there is of these seqs. Returns which were looked at.
    async fn read(
        &self,
        query: &PageQuery,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        page: &mut Page,
    ) -> Result<Option<RangeInclusive<u64>>, HistoryError> {
        let Some(history) = self.history else {
            return Ok(None);
        };
        let left = query.limit - page.envelopes.len() as u64;
        let most = match query.search.is_empty() {
            true => MAX_BYTES,
            false => MAX_SEARCH_BYTES,
        };
        let batch = history
            .read(&HistoryQuery {
                epoch,
                seqs,
                order: query.order,
                filter: query.filter.clone(),
                since: query.since,
                until: query.until,
                limit: ReadLimit {
                    events: usize::try_from(left).unwrap_or(usize::MAX),
                    bytes: most.saturating_sub(page.bytes()),
                },
            })
            .await?;
        for seqs in batch.missing {
            let count = seqs.end() - seqs.start() + 1;
            page.add_missing(seqs, count);
        }
        let mut found = batch.envelopes;
        if !query.search.is_empty() {
            found.retain(|envelope| query.search.is_in(&envelope.json().whole()));
        }
        page.envelopes.extend(found);
        Ok(batch.looked_at)
    }

    /// How many events are gone that came before the oldest one, where the query asks by time and reaches back to
    /// before that.
    async fn deleted(
        &self,
        query: &PageQuery,
        bounds: &HistoryBounds,
    ) -> Result<u64, HistoryError> {
        let (Some(history), Some(since)) = (self.history, query.since) else {
            return Ok(0);
        };
        if bounds.oldest <= 1 {
            return Ok(0);
        }
        let oldest = history
            .read(&HistoryQuery {
                epoch: bounds.epoch,
                seqs: bounds.oldest..=bounds.oldest,
                order: Order::Asc,
                filter: Filter::all(),
                since: None,
                until: None,
                limit: ReadLimit {
                    events: 1,
                    bytes: 0,
                },
            })
            .await?;
        let is_older = oldest.envelopes.first().is_some_and(|it| it.ts() < since);
        Ok(if is_older { 0 } else { bounds.oldest - 1 })
    }
}

impl Page {
    fn is_empty(&self) -> bool {
        self.envelopes.is_empty() && self.lost == 0
    }
}
