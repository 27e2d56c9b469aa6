//! `GET /telemetry/counts`: how many events a range has over time, and how many of them match a filter.
//!
//! Events are counted page by page, in memory and in the archive. What is counted is known without their JSON, which
//! is read only where a text is looked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tapline_api::{
    Backend, Cursor, EncodedEnvelope, Filter, MAX_LIMIT, Missing, Order, Page, PageQuery,
    QueryError, Search,
};
use tapline_oapi::{Category, CountBucket, CountGap, EventCounts, EventType};

use crate::answer::{Failure, Whole, json};
use crate::app::App;
use crate::pace::Pace;
use crate::routes::shown;

/// For how long events are counted. A range that takes longer is counted in part.
const TIME: Duration = Duration::from_secs(10);

/// How many types are counted one by one, and how long the names of these may be, in bytes.
const MAX_TYPES: usize = 500;
const MAX_TYPE_BYTES: usize = 256;

/// How many gaps are reported one by one.
const MAX_GAPS: usize = 1000;

/// What is asked for.
#[derive(Debug)]
struct CountQuery {
    buckets: u64,
    since: Option<u64>,
    until: Option<u64>,
    filter: Filter,
    search: Search,
}

impl CountQuery {
    fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, QueryError> {
        const OF_PAGES: [&str; 4] = ["limit", "offset", "order", "after"];
        let (mut buckets, mut rest) = (None, Vec::new());
        for (name, text) in pairs {
            match name {
                "buckets" if buckets.is_some() => {
                    return Err(QueryError::new(name, "is given twice"));
                }
                "buckets" => match text.parse() {
                    Ok(number @ 1..=1000) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                        buckets = Some(number);
                    }
                    _ => {
                        let message = "is not a whole number from 1 to 1000";
                        return Err(QueryError::new(name, message));
                    }
                },
                _ if OF_PAGES.contains(&name) => {
                    let message = "counts have no pages; `since` and `until` bound them";
                    return Err(QueryError::new(name, message));
                }
                _ => rest.push((name, text)),
            }
        }
        let PageQuery {
            since,
            until,
            filter,
            search,
            ..
        } = PageQuery::from_pairs(rest)?;
        Ok(Self {
            buckets: buckets.unwrap_or(100),
            since,
            until,
            filter,
            search,
        })
    }
}

/// Counts events.
///
/// # Errors
///
/// Where the query is wrong, or the archive cannot be read.
pub(crate) async fn count<'a, B: Backend>(
    app: &Arc<App<B>>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    let query = CountQuery::from_pairs(query)?;
    let retained = app.backend.retained();
    let counts = run(app, query).await?;
    let mut answer = json(StatusCode::OK, &counts);
    let headers = answer.headers_mut();
    headers.insert("x-head", retained.head.into());
    headers.insert("x-oldest", retained.oldest.into());
    headers.insert("x-epoch", shown(app.backend.epoch()));
    Ok(answer)
}

async fn run<B: Backend>(app: &App<B>, query: CountQuery) -> Result<EventCounts, Failure> {
    let began = Instant::now();
    let mut pace = Pace::new();
    let (present, head) = (app.backend.epoch(), app.backend.retained().head);
    let mut pages = PageQuery {
        limit: MAX_LIMIT,
        // The oldest event in memory, unless a time is asked for.
        after: match query.since {
            Some(_) => None,
            None => Some(Cursor {
                seq: app.backend.retained().oldest.saturating_sub(1),
                epoch: Some(present),
            }),
        },
        since: query.since,
        until: query.until,
        ..PageQuery::default()
    };
    let until = match query.until {
        Some(until) => until,
        None => newest(app).await?,
    };
    let mut counter = Counter::new(&query);
    loop {
        let page = app.backend.page(&pages).await?;
        let turn = match query.search.is_empty() {
            true => app.host.turns.take(&query.filter).await,
            false => app.host.turns.take_for_search().await,
        };
        counter.begin(&query, &page, until);
        let mut missing = page.missing.iter().peekable();
        for envelope in &page.envelopes {
            while let Some(gap) = missing.next_if(|gap| *gap.seqs.start() < envelope.seq()) {
                counter.gap(gap);
            }
            if page.epoch == present && head < envelope.seq() {
                return Ok(counter.finish(true));
            }
            counter.event(envelope);
            // Without a text it is done before it could rest.
            if !query.search.is_empty() {
                pace.rest().await;
            }
        }
        missing.for_each(|gap| counter.gap(gap));
        drop(turn);
        let Some(next) = page.next_offset else {
            return Ok(counter.finish(true));
        };
        if TIME <= began.elapsed() {
            return Ok(counter.finish(false));
        }
        pages.offset = Some(next);
        pace.rest().await;
    }
}

/// The time of the newest event, 0 where there is none.
async fn newest<B: Backend>(app: &App<B>) -> Result<u64, Failure> {
    let query = PageQuery {
        limit: 1,
        order: Order::Desc,
        ..PageQuery::default()
    };
    let page = app.backend.page(&query).await?;
    Ok(page.envelopes.first().map_or(0, EncodedEnvelope::ts))
}

/// What was counted so far.
struct Counter<'a> {
    filter: &'a Filter,
    /// What is looked for in JSON, if anything is.
    search: Option<&'a Search>,
    counts: EventCounts,
    /// By category, in the order of [`Category::index`].
    by_category: [u64; Category::COUNT],
    /// The matching events of each bucket.
    buckets: Vec<Bucket>,
    types: HashMap<Box<str>, TypeCount>,
    /// The time of the last event.
    last: Option<u64>,
    /// How many of the last gaps end where the next event is.
    open_gaps: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    by_category: [u64; Category::COUNT],
    lost: u64,
}

#[derive(Debug, Clone, Copy)]
struct TypeCount {
    events: u64,
    /// Of which category these events were, and whether the filter asks for such.
    matches: (Category, bool),
}

impl<'a> Counter<'a> {
    fn new(query: &'a CountQuery) -> Self {
        Self {
            filter: &query.filter,
            search: Some(&query.search).filter(|it| !it.is_empty()),
            counts: EventCounts::default(),
            by_category: [0; Category::COUNT],
            buckets: Vec::new(),
            types: HashMap::new(),
            last: None,
            open_gaps: 0,
        }
    }

    /// Divides the time, once it is known where it begins.
    fn begin<E: EncodedEnvelope>(&mut self, query: &CountQuery, page: &Page<E>, until: u64) {
        if !self.buckets.is_empty() {
            return;
        }
        let first = page.envelopes.first().map(EncodedEnvelope::ts);
        let Some(since) = query.since.or(first) else {
            return;
        };
        let until = until.max(since);
        let length = (until - since + 1).div_ceil(query.buckets).max(1);
        // Of a short time there are fewer parts than were asked for.
        let most = (until - since) / length + 1;
        self.buckets = vec![Bucket::default(); usize::try_from(most).unwrap_or(1)];
        self.counts.since = since;
        self.counts.until = until;
        self.counts.bucket_us = length;
    }

    /// The bucket of a time. Events are not quite in the order of their times, so the first and the last one also have
    /// what is beside them.
    fn bucket(&mut self, ts: u64) -> Option<&mut Bucket> {
        let at = ts.saturating_sub(self.counts.since) / self.counts.bucket_us.max(1);
        let last = self.buckets.len().checked_sub(1)?;
        self.buckets
            .get_mut(usize::try_from(at).unwrap_or(last).min(last))
    }

    fn event(&mut self, envelope: &impl EncodedEnvelope) {
        let (ts, category) = (envelope.ts(), envelope.category());
        self.counts.events += 1;
        self.by_category[category.index()] += 1;
        for gap in self.counts.gaps.iter_mut().rev().take(self.open_gaps) {
            gap.until = Some(ts);
        }
        self.open_gaps = 0;
        self.last = Some(ts);
        let is_asked = self.count_type(category, envelope.event_type());
        if is_asked
            && self
                .search
                .is_none_or(|search| search.is_in(&envelope.json().whole()))
        {
            self.counts.matching += 1;
            if let Some(bucket) = self.bucket(ts) {
                bucket.by_category[category.index()] += 1;
            }
        }
    }

    /// Counts the type, and returns whether the filter asks for it.
    fn count_type(&mut self, category: Category, name: &str) -> bool {
        let filter = self.filter;
        let matches = || {
            EventType::new(name).is_ok_and(|event_type| filter.matches_type(category, &event_type))
        };
        if let Some(known) = self.types.get_mut(name) {
            known.events += 1;
            // Events of a type that is not known may have any category.
            if known.matches.0 != category {
                known.matches = (category, matches());
            }
            return known.matches.1;
        }
        let matches = matches();
        if self.types.len() < MAX_TYPES && name.len() <= MAX_TYPE_BYTES {
            let count = TypeCount {
                events: 1,
                matches: (category, matches),
            };
            self.types.insert(name.into(), count);
        } else {
            self.counts.other_types += 1;
        }
        matches
    }

    fn gap(&mut self, missing: &Missing) {
        self.counts.lost += missing.at_most;
        let ts = self.last.unwrap_or(self.counts.since);
        if let Some(bucket) = self.bucket(ts) {
            bucket.lost += missing.at_most;
        }
        if self.counts.gaps.len() < MAX_GAPS {
            self.open_gaps += 1;
            self.counts.gaps.push(CountGap {
                from: *missing.seqs.start(),
                to: *missing.seqs.end(),
                lost: missing.at_most,
                since: self.last,
                until: None,
            });
        }
    }

    fn finish(self, complete: bool) -> EventCounts {
        let mut counts = self.counts;
        counts.complete = complete;
        counts.by_category = named(&self.by_category);
        counts.by_type = self
            .types
            .into_iter()
            .map(|(name, count)| (name.into(), count.events))
            .collect();
        let (since, length) = (counts.since, counts.bucket_us);
        counts.buckets = (0..)
            .zip(&self.buckets)
            .map(|(n, bucket)| CountBucket {
                ts: since + n * length,
                by_category: named(&bucket.by_category),
                lost: bucket.lost,
            })
            .collect();
        counts
    }
}

/// Those that are not 0.
fn named(counts: &[u64; Category::COUNT]) -> BTreeMap<Category, u64> {
    Category::ALL
        .iter()
        .zip(counts)
        .filter(|(_, count)| 0 < **count)
        .map(|(category, count)| (*category, *count))
        .collect()
}
