//! Pages of what is retained.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use tapline_events::{Cursor, Filter, Item, Retained};
use tapline_telemetry::{Envelope, Reader};

use crate::error::ApiError;
use crate::history::Order;
use crate::query::{self, QueryError};
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
    pub offset: Option<u64>,
    /// Oldest or newest first.
    pub order: Order,
    /// Only events at this time or later, in microseconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only events up to this time, in microseconds since the Unix epoch.
    pub until: Option<u64>,
    /// Only such events.
    pub filter: Filter,
}

/// Some of what is retained.
#[derive(Debug)]
pub struct Page<E = Envelope> {
    /// In the order asked for.
    pub envelopes: Vec<E>,
    /// The `offset` for the next page, where there may be more.
    pub next_offset: Option<u64>,
    /// What was retained when the page was made.
    pub retained: Retained,
    /// How many events should be on this page and were evicted before it was made; where that is not known,
    /// the most that it can be.
    ///
    /// A page should have every event that it asks for after its `after` or `offset`. In descending order
    /// that is reported by the page that comes to the oldest event. Without a cursor, reading begins or ends
    /// at the oldest event that is retained when the first page is made, or at `since`.
    pub lost: u64,
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
        const KNOWN: [&str; 8] = [
            "limit", "after", "offset", "order", "since", "until", "category", "type",
        ];
        let mut asked = Self::default();
        let (mut limit, mut order) = (None, None);
        for (name, text) in pairs {
            match name {
                "limit" => query::once(&mut limit, name, query::number(name, text)?)?,
                "after" => query::once(&mut asked.after, name, query::cursor(name, text)?)?,
                "offset" => query::once(&mut asked.offset, name, query::number(name, text)?)?,
                "order" => {
                    let choices = [("asc", Order::Asc), ("desc", Order::Desc)];
                    query::once(&mut order, name, query::choice(name, text, &choices)?)?;
                }
                "since" => query::once(&mut asked.since, name, query::moment(name, text)?)?,
                "until" => query::once(&mut asked.until, name, query::moment(name, text)?)?,
                "category" | "type" => query::add_to_filter(&mut asked.filter, name, text)?,
                _ => return Err(QueryError::unknown(name, &KNOWN)),
            }
        }
        asked.limit = limit.unwrap_or(asked.limit);
        asked.order = order.unwrap_or_default();
        if asked.limit == 0 || asked.limit > MAX_LIMIT {
            return Err(QueryError::new(
                "limit",
                format!("{} is not from 1 to {MAX_LIMIT}", asked.limit),
            ));
        }
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
}

impl ApiService {
    /// A page of what is retained.
    ///
    /// # Errors
    ///
    /// [`ApiError::StaleCursor`] where `after` is of another epoch.
    pub fn page(&self, query: &PageQuery) -> Result<Page, ApiError> {
        let stream = self.session().stream();
        let mut page = Page {
            envelopes: Vec::new(),
            next_offset: None,
            retained: stream.retained(),
            lost: 0,
        };
        if let Some(after) = query.after
            && after.epoch.is_some_and(|epoch| epoch != stream.epoch())
        {
            return Err(ApiError::StaleCursor {
                asked: after.to_string(),
                head: page.retained.head,
                epoch: stream.epoch(),
            });
        }
        match query.order {
            Order::Asc => self.read_up(query, &mut page),
            Order::Desc => self.read_down(query, &mut page),
        }
        Ok(page)
    }

    fn read_up(&self, query: &PageQuery, page: &mut Page) {
        /// How many events are looked at before the bounds are.
        const BATCH: usize = 256;
        // 0 asks for whatever there is, so nothing of it can be lost.
        let offset = query.offset.filter(|offset| *offset > 0);
        let from = query.after_seq().max(offset);
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
            page.lost = self.evicted(&mut reader, asked, query);
        }
        // Up to here, or to the first event behind a hole: a page ends behind a hole and not before it, so that
        // the next one does not report it again.
        let mut head = page.retained.head.max(begin + 1).min(stream.head());
        let mut looked_at = 0;
        let mut bytes = 0;
        let mut is_full = false;
        let most = most_looked_at(&query.filter);
        while !is_full && looked_at < most && reader.position() < head {
            let left = (head - reader.position()).min(most - looked_at);
            let limit = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            let read = reader.read(limit, |item| {
                match item {
                    Item::Envelope(envelope) => {
                        if query.is_in_time(envelope.ts()) {
                            bytes += envelope.json().len();
                            page.envelopes.push(envelope.keep());
                        }
                        is_full = page.envelopes.len() as u64 == query.limit || bytes >= MAX_BYTES;
                    }
                    // Evicted before anything was read: the page begins later, as it may.
                    Item::Lost(lost) if from.is_none() && lost.first == begin + 1 => {
                        begin = lost.last;
                        head = head.max(lost.last + 1);
                    }
                    Item::Lost(lost) => {
                        page.lost += lost.at_most();
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
            page.next_offset = Some(reader.position());
        }
    }

    fn read_down(&self, query: &PageQuery, page: &mut Page) {
        let stream = self.session().stream();
        let retained = page.retained;
        let last = match query.offset {
            Some(offset) => retained.head.min(offset.saturating_sub(1)),
            None => retained.head,
        };
        // After which seq the walk asks for everything.
        let after = match (query.after_seq(), query.since, query.offset) {
            (Some(after), _, _) => after,
            (None, Some(_), _) => 0,
            (None, None, None) => retained.oldest.saturating_sub(1),
            (None, None, Some(offset)) => self
                .walks()
                .began_after(offset, &query.filter)
                .unwrap_or(retained.oldest.saturating_sub(1)),
        };
        let mut bytes = 0;
        let mut seq = last;
        let mut looked_at = 0;
        while after < seq {
            let Some(envelope) = stream.envelope(seq) else {
                break;
            };
            if query.is_in_time(envelope.ts()) && query.filter.matches(envelope.event()) {
                bytes += envelope.json().len();
                page.envelopes.push(envelope);
            }
            looked_at += 1;
            let is_full = page.envelopes.len() as u64 == query.limit
                || bytes >= MAX_BYTES
                || looked_at == most_looked_at(&query.filter);
            if is_full && retained.oldest.max(after + 1) < seq {
                page.next_offset = Some(seq);
                if query.after_seq().is_none() && query.since.is_none() {
                    self.walks().remember(seq, &query.filter, after);
                }
                return;
            }
            seq -= 1;
        }
        // The walk ends here: at its bound, or where the oldest events are gone.
        if after < seq {
            let session = self.session();
            let mut reader = session.new_reader(after).filtered(query.filter.clone());
            page.lost = self.evicted(&mut reader, after, query).min(seq - after);
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
