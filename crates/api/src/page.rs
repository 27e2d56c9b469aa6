//! Pages of what is retained.

mod archive;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{ControlFlow, RangeInclusive};

use tapline_events::{Cursor, Epoch, Filter, Item, Retained};
use tapline_oapi::EnvelopeJson;
use tapline_telemetry::Reader;

use crate::error::ApiError;
use crate::history::{Order, SharedEnvelope};
use crate::page::archive::Archive;
use crate::query::{self, QueryError};
use crate::search::Search;
use crate::service::ApiService;

/// The most envelopes that a page has.
pub const MAX_LIMIT: u64 = 1000;

/// How many envelopes are looked at for one page, so that a filter that nothing matches costs a
/// bounded time: about 2 ms. The page then ends early, and says that there is more. See [`most_looked_at`].
const MAX_SCAN: u64 = 65_536;

/// How many envelopes are looked at with this filter: fewer where each of them costs more.
fn most_looked_at(filter: &Filter) -> u64 {
    /// So many take as long as the rest of what is done with an envelope.
    const SEARCHES: u64 = 8;
    MAX_SCAN / (1 + filter.searches() as u64 / SEARCHES)
}

/// How many bytes of JSON a page has before it ends early, and says that there is more. The last
/// envelope may go beyond, so that every page has one.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How many bytes of JSON are searched for a text before a page ends early: about 1 ms. The last envelope may go beyond.
const MAX_SEARCH_BYTES: usize = 1024 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// At most so many envelopes: `1..=`[`MAX_LIMIT`]. A page may have fewer and still not be the
    /// last: see [`Page::next_offset`].
    pub limit: u64,
    /// Only seqs above this one, in either order, on this page and on those that follow it. A bare 0 asks for
    /// whatever is retained.
    pub after: Option<Cursor>,
    /// Where the page before ended: [`Page::next_offset`].
    pub offset: Option<Cursor>,
    /// Oldest or newest first.
    pub order: Order,
    /// Only events at this time or later, in microseconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only events up to this time, in microseconds since the Unix epoch.
    pub until: Option<u64>,
    /// Only such events.
    pub filter: Filter,
    /// Only events whose JSON has this. A page for it may be empty and have a next one.
    pub search: Search,
}

/// Some of what is retained.
#[derive(Debug)]
pub struct Page<E = SharedEnvelope> {
    /// In the order asked for. All of one epoch.
    pub envelopes: Vec<E>,
    /// The epoch of these events: an earlier one where they are of an earlier run, from the archive.
    pub epoch: Epoch,
    /// The `offset` for the next page, where there may be more. It has an epoch where that is not the present
    /// one.
    pub next_offset: Option<Cursor>,
    /// What was retained in memory when the page was made.
    pub retained: Retained,
    /// How many events should be on this page and were evicted before it was made; where that is not known,
    /// the most that it can be.
    ///
    /// A page should have every event that it asks for after its `after` or `offset`. In descending order
    /// that is reported by the page that comes to the oldest event. Without a cursor, reading begins or ends
    /// at the oldest event that is retained when the first page is made, or at `since`.
    pub lost: u64,
    /// Where these are missing, and how many at most, in the order of the page. Together they are `lost`.
    pub missing: Vec<Missing>,
}

/// Seqs that a page should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Which are gone.
    pub seqs: RangeInclusive<u64>,
    /// How many of them were asked for, or the most that it can be.
    pub at_most: u64,
}

impl Page {
    fn add_missing(&mut self, seqs: RangeInclusive<u64>, at_most: u64) {
        if 0 < at_most {
            self.lost += at_most;
            self.missing.push(Missing { seqs, at_most });
        }
    }

    /// How many bytes of JSON it has.
    fn bytes(&self) -> usize {
        self.envelopes.iter().map(|it| it.json().len()).sum()
    }
}

/// Where a page is being read.
#[derive(Debug, Clone, Copy)]
struct At {
    epoch: Epoch,
    /// Oldest first: only seqs above it. Newest first: only seqs below it.
    bound: Option<u64>,
    /// Only seqs of this epoch above it are asked for, and every one of them. `None`: whatever there is.
    after: Option<u64>,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self {
            limit: 100,
            after: None,
            offset: None,
            order: Order::default(),
            since: None,
            until: None,
            filter: Filter::all(),
            search: Search::default(),
        }
    }
}

impl PageQuery {
    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 11] = [
            "limit",
            "after",
            "offset",
            "order",
            "since",
            "until",
            "category",
            "type",
            "contains",
            "target_id",
            "status",
        ];
        let mut asked = Self::default();
        let (mut limit, mut order) = (None, None);
        for (name, text) in pairs {
            match name {
                "limit" => query::once(&mut limit, name, query::limit(name, text, MAX_LIMIT)?)?,
                "after" => query::once(&mut asked.after, name, query::cursor(name, text)?)?,
                "offset" => query::once(&mut asked.offset, name, query::offset(name, text)?)?,
                "order" => {
                    let choices = [("asc", Order::Asc), ("desc", Order::Desc)];
                    query::once(&mut order, name, query::choice(name, text, &choices)?)?;
                }
                "since" => query::once(&mut asked.since, name, query::moment(name, text)?)?,
                "until" => query::once(&mut asked.until, name, query::moment(name, text)?)?,
                "category" | "type" => query::add_to_filter(&mut asked.filter, name, text)?,
                "contains" | "target_id" | "status" => asked.search.read(name, text)?,
                _ => return Err(QueryError::unknown(name, &KNOWN)),
            }
        }
        asked.limit = limit.unwrap_or(asked.limit);
        asked.order = order.unwrap_or_default();
        Ok(asked)
    }

    /// After which seq everything is asked for.
    fn after_seq(&self) -> Option<u64> {
        let after = self.after?;
        (0 < after.seq || after.epoch.is_some()).then_some(after.seq)
    }

    fn is_in_time(&self, ts: u64) -> bool {
        self.since.is_none_or(|since| since <= ts) && self.until.is_none_or(|until| ts <= until)
    }

    /// Whether what is looked for is there. Adds how many bytes were searched.
    fn is_found(&self, json: EnvelopeJson<'_>, searched: &mut usize) -> bool {
        if self.search.is_empty() {
            return true;
        }
        *searched += json.len();
        self.search.is_in(&json.whole())
    }
}

impl ApiService {
    /// A page of what is retained, in memory or in the archive.
    ///
    /// A page is of one epoch. An earlier one than the present is read where `after` or `offset` names it, or
    /// where `since` reaches back to it.
    ///
    /// # Errors
    ///
    /// [`ApiError::StaleCursor`] where `after` or `offset` is of an epoch that is not there,
    /// [`ApiError::History`] where the archive cannot be read.
    pub async fn page(&self, query: &PageQuery) -> Result<Page, ApiError> {
        let stream = self.session().stream();
        let archive = match self.archive() {
            Some(archive) => Archive::look(&**archive, stream.epoch()).await?,
            None => Archive::none(stream.epoch()),
        };
        let mut at = self.begin_page(query, &archive)?;
        let mut page = Page {
            envelopes: Vec::new(),
            epoch: at.epoch,
            next_offset: None,
            retained: stream.retained(),
            lost: 0,
            missing: Vec::new(),
        };
        match query.order {
            Order::Asc => {
                if archive
                    .read_up(stream, query, &mut at, &mut page)
                    .await?
                    .is_continue()
                {
                    self.read_up(query, at.bound, &mut page);
                }
            }
            Order::Desc => {
                if at.epoch == stream.epoch() {
                    match self.read_down(query, &mut at, archive.oldest(), &mut page) {
                        ControlFlow::Break(()) => return Ok(page),
                        ControlFlow::Continue(()) if !archive.is_there() => {
                            self.count_evicted(query, &at, &mut page);
                            return Ok(page);
                        }
                        ControlFlow::Continue(()) => {}
                    }
                }
                archive.read_down(query, at, &mut page).await?;
            }
        }
        Ok(page)
    }

    /// Where a page begins.
    fn begin_page(&self, query: &PageQuery, archive: &Archive<'_>) -> Result<At, ApiError> {
        let stream = self.session().stream();
        for cursor in [query.after, query.offset].into_iter().flatten() {
            if cursor.epoch.is_some_and(|epoch| !archive.has(epoch)) {
                return Err(ApiError::StaleCursor {
                    asked: cursor.to_string(),
                    head: stream.head(),
                    epoch: stream.epoch(),
                });
            }
        }
        let present = |cursor: Cursor| cursor.epoch.unwrap_or(stream.epoch());
        let epoch = match (query.offset, query.after, query.order) {
            (Some(offset), _, _) => present(offset),
            (None, _, Order::Desc) => stream.epoch(),
            (None, Some(after), Order::Asc) => present(after),
            (None, None, Order::Asc) if query.since.is_some() => archive.first(),
            (None, None, Order::Asc) => stream.epoch(),
        };
        // An `after` of an earlier epoch asks for all of a later one.
        let after = query.after_seq();
        let after = after.filter(|_| query.after.is_some_and(|after| present(after) == epoch));
        let offset = query.offset.map(|offset| offset.seq);
        Ok(match query.order {
            Order::Asc => At {
                epoch,
                // 0 asks for whatever there is, so nothing of it can be lost.
                bound: after.max(offset.filter(|offset| 0 < *offset)),
                after,
            },
            Order::Desc => At {
                epoch,
                bound: offset,
                after,
            },
        })
    }

    /// Reads what is in memory after the seq `from`.
    fn read_up(&self, query: &PageQuery, from: Option<u64>, page: &mut Page) {
        /// How many events are looked at before the bounds are.
        const BATCH: usize = 256;
        if from.is_some_and(|from| page.retained.head <= from) {
            return;
        }
        let session = self.session();
        let stream = session.stream();
        let mut reader = session
            .new_reader(from.unwrap_or(0))
            .filtered(query.filter.clone());
        let mut begin = reader.position();
        if let Some(asked) = from.or(query.since.map(|_| 0)) {
            let evicted = self.evicted(&mut reader, asked, query);
            page.add_missing(asked + 1..=reader.position(), evicted);
        }
        // Up to here, or to the first event behind a hole: a page ends behind a hole and not before it, so that
        // the next one does not report it again.
        let mut head = page.retained.head.max(begin + 1).min(stream.head());
        let mut looked_at = 0;
        let mut bytes = page.bytes();
        let mut searched = 0;
        let mut is_full = false;
        let most = most_looked_at(&query.filter);
        while !is_full && looked_at < most && reader.position() < head {
            let left = (head - reader.position()).min(most - looked_at);
            let limit = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            let read = reader.read(limit, |item| {
                match item {
                    Item::Envelope(envelope) => {
                        if query.is_in_time(envelope.ts())
                            && query.is_found(envelope.json(), &mut searched)
                        {
                            bytes += envelope.json().len();
                            page.envelopes.push(envelope.keep().into());
                        }
                        is_full = page.envelopes.len() as u64 == query.limit
                            || bytes >= MAX_BYTES
                            || searched >= MAX_SEARCH_BYTES;
                    }
                    // Evicted before anything was read: the page begins later, as it may.
                    Item::Lost(lost) if from.is_none() && lost.first == begin + 1 => {
                        begin = lost.last;
                        head = head.max(lost.last + 1);
                    }
                    Item::Lost(lost) => {
                        page.add_missing(lost.first..=lost.last, lost.at_most());
                        head = head.max(lost.last + 1);
                    }
                }
                if is_full {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            if read == 0 {
                break;
            }
            looked_at += read as u64;
        }
        page.retained.head = head;
        if reader.position() < head {
            page.next_offset = Some(reader.position().into());
        }
    }

    /// Reads down what is in memory. Breaks where the page is complete; otherwise `at` is where the memory
    /// ends. `archived` is the oldest seq in the archive.
    fn read_down(
        &self,
        query: &PageQuery,
        at: &mut At,
        archived: Option<u64>,
        page: &mut Page,
    ) -> ControlFlow<()> {
        let stream = self.session().stream();
        let retained = page.retained;
        let oldest = archived.unwrap_or(u64::MAX).min(retained.oldest);
        let last = match at.bound {
            Some(offset) => retained.head.min(offset.saturating_sub(1)),
            None => retained.head,
        };
        // After which seq the walk asks for everything.
        let after = match (at.after, query.since, at.bound) {
            (Some(after), _, _) => after,
            (None, Some(_), _) => 0,
            (None, None, None) => oldest.saturating_sub(1),
            (None, None, Some(offset)) => self
                .walks()
                .began_after(offset, &query.filter)
                .unwrap_or(oldest.saturating_sub(1)),
        };
        let mut bytes = 0;
        let mut searched = 0;
        let mut seq = last;
        let mut looked_at = 0;
        while after < seq {
            let Some(envelope) = stream.envelope(seq) else {
                break;
            };
            if query.is_in_time(envelope.ts())
                && query.filter.matches(envelope.event())
                && query.is_found(envelope.json(), &mut searched)
            {
                bytes += envelope.json().len();
                page.envelopes.push(envelope.into());
            }
            looked_at += 1;
            let is_full = page.envelopes.len() as u64 == query.limit
                || bytes >= MAX_BYTES
                || searched >= MAX_SEARCH_BYTES
                || looked_at == most_looked_at(&query.filter);
            if is_full && oldest.max(after + 1) < seq {
                page.next_offset = Some(seq.into());
                if at.after.is_none() && query.since.is_none() {
                    self.walks().remember(seq, &query.filter, after);
                }
                return ControlFlow::Break(());
            }
            seq -= 1;
        }
        at.after = Some(after);
        at.bound = Some(seq + 1);
        ControlFlow::Continue(())
    }

    /// The walk ends here: at its bound, or where the oldest events are gone.
    fn count_evicted(&self, query: &PageQuery, at: &At, page: &mut Page) {
        let (after, below) = (at.after.unwrap_or(0), at.bound.unwrap_or(0));
        if after + 1 < below {
            let session = self.session();
            let mut reader = session.new_reader(after).filtered(query.filter.clone());
            let evicted = self.evicted(&mut reader, after, query);
            page.add_missing(after + 1..=below - 1, evicted.min(below - 1 - after));
        }
    }

    /// How many events between `after` and the reader's position are gone that `query` asks for, at most.
    ///
    /// Events that are gone are taken to be older than the oldest one that is there.
    fn evicted(&self, reader: &mut Reader, after: u64, query: &PageQuery) -> u64 {
        if reader.count_from(after).is_none() {
            return 0;
        }
        let stream = self.session().stream();
        let oldest = stream.envelope(reader.position() + 1);
        match (query.since, oldest) {
            (Some(since), Some(oldest)) if oldest.ts() < since => 0,
            _ => reader.ledger().lost,
        }
    }
}

/// Where walks through pages in descending order began to ask: after which seq. With their offsets alone, a
/// page could not report that what was there when the walk began is gone.
#[derive(Debug, Default)]
pub(crate) struct Walks(VecDeque<Walk>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walk {
    offset: u64,
    /// A hash of what else the walk asks for.
    filter: u64,
    after: u64,
    /// Its next page has been asked for.
    is_used: bool,
}

impl Walks {
    /// How many are remembered, 32 bytes each. The oldest are forgotten: their last page reports no loss.
    const MAX: usize = 4096;

    fn remember(&mut self, offset: u64, filter: &Filter, after: u64) {
        let walk = Walk {
            offset,
            filter: hash(filter),
            after,
            is_used: false,
        };
        // A walk that has come further gives way to a later one with the same offset.
        self.0
            .retain(|other| !(other.is_used && other.is_beside(&walk)));
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(walk);
    }

    /// Of several walks with the same offset, the one that asks for most.
    fn began_after(&mut self, offset: u64, filter: &Filter) -> Option<u64> {
        let filter = hash(filter);
        let walks = self.0.iter_mut();
        let same = walks.filter(|walk| walk.offset == offset && walk.filter == filter);
        same.map(|walk| {
            walk.is_used = true;
            walk.after
        })
        .min()
    }
}

impl Walk {
    fn is_beside(&self, other: &Self) -> bool {
        self.offset == other.offset && self.filter == other.filter
    }
}

fn hash(filter: &Filter) -> u64 {
    let mut hasher = DefaultHasher::new();
    filter.hash(&mut hasher);
    hasher.finish()
}
