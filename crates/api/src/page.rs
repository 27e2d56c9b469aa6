//! Pages of what is retained.

use tapline_events::{Filter, Retained};
use tapline_telemetry::Envelope;

use crate::query::{self, QueryError};
use crate::service::ApiService;

/// The most envelopes that a page has.
pub const MAX_LIMIT: u64 = 1000;

/// How many envelopes are looked at for one page, so that a filter that nothing matches costs a
/// bounded time: about 2 ms. The page then ends early, and says that there is more.
const MAX_SCAN: u64 = 65_536;

/// How many bytes of JSON a page has before it ends early, and says that there is more. The last
/// envelope may go beyond, so that every page has one.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// At most so many envelopes: `1..=`[`MAX_LIMIT`]. A page may have fewer and still not be the
    /// last: see [`Page::next_offset`].
    pub limit: u64,
    /// Only seqs above this one, in either order, on this page and on those that follow it.
    pub after: Option<u64>,
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

/// In which order a page comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
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
    /// How many events between `after` (or `offset`) and the oldest retained were evicted, asked
    /// for or not. 0 where the page does not begin from a seq.
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
                "after" => query::once(&mut asked.after, name, query::number(name, text)?)?,
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

    fn wants(&self, envelope: &Envelope) -> bool {
        self.since.is_none_or(|since| since <= envelope.ts())
            && self.until.is_none_or(|until| envelope.ts() <= until)
            && self.filter.matches(envelope.event())
    }
}

impl ApiService {
    /// A page of what is retained.
    pub fn page(&self, query: &PageQuery) -> Page {
        let stream = self.session().stream();
        let retained = stream.retained();
        // `first <= seq && seq <= last`, empty where nothing is retained.
        let mut first = retained.oldest.max(1);
        let mut last = retained.head;
        let mut lost = 0;
        let from = match query.order {
            Order::Asc => query.after.max(query.offset),
            Order::Desc => query.after,
        };
        // 0 asks for whatever there is, so nothing of it can be lost.
        let from = from.filter(|from| *from > 0);
        if let Some(from) = from {
            lost = (first - 1).saturating_sub(from);
            first = first.max(from.saturating_add(1));
        }
        if let (Order::Desc, Some(offset)) = (query.order, query.offset) {
            last = last.min(offset.saturating_sub(1));
        }

        let mut page = Page {
            envelopes: Vec::new(),
            next_offset: None,
            retained,
            lost,
        };
        let span = (last + 1).saturating_sub(first);
        let mut bytes = 0;
        for step in 0..span {
            let seq = match query.order {
                Order::Asc => first + step,
                Order::Desc => last - step,
            };
            // Evicted since we looked: going up, the page has lost it; going down, it has ended.
            match stream.envelope(seq) {
                Some(envelope) if query.wants(&envelope) => {
                    bytes += envelope.json().len();
                    page.envelopes.push(envelope);
                }
                Some(_) => {}
                None => page.lost += u64::from(from.is_some()),
            }
            let full = page.envelopes.len() as u64 == query.limit
                || bytes >= MAX_BYTES
                || step + 1 == MAX_SCAN;
            if full && step + 1 < span {
                page.next_offset = Some(seq);
                break;
            }
        }
        page
    }
}
