//! `GET /telemetry/requests`, `/telemetry/navigations` and `/telemetry/problems`: what events were joined to.
//!
//! The joins are those of `tapline-insight`, over the pages of any backend. A client that follows gives the `X-Cursor`
//! of its last answer as `after`, and receives what has changed since.

mod query;
mod view;

use std::sync::Arc;

use http::StatusCode;
use tapline_api::{ApiError, Backend, Cursor, EncodedEnvelope, Epoch, Order, PageQuery};
use tapline_insight::Insight;
use tapline_oapi::ErrorCode;
use tapline_oapi::joins::{At, Navigation, Problem, Request, RequestDetail, RequestItem};

use crate::answer::{Failure, Whole, json, text};
use crate::app::App;
use crate::body::short;
use crate::joins::query::{JoinQuery, Kind, Range};
use crate::joins::view::{Dropped, View};
use crate::pace::Pace;
use crate::routes::{say_what_follows, shown};

pub(crate) use crate::joins::view::Views;

/// How many bytes of JSON an answer has before it ends early, and says that there is more.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A kind of items, as they are listed.
trait Listed: Kind + 'static {
    fn all(insight: &Insight) -> Box<dyn DoubleEndedIterator<Item = &Self> + Send + '_>;
    fn at(&self) -> At;
    fn updated(&self) -> u64;
    fn dropped(dropped: Dropped) -> u64;
    /// Writes the item as the answer has it.
    fn write(&self, asked: &Self::Asked, json: &mut Vec<u8>) -> serde_json::Result<()>;
}

impl Listed for Request {
    fn all(insight: &Insight) -> Box<dyn DoubleEndedIterator<Item = &Self> + Send + '_> {
        Box::new(insight.requests())
    }

    fn at(&self) -> At {
        self.at
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn dropped(dropped: Dropped) -> u64 {
        dropped.requests
    }

    fn write(&self, asked: &Self::Asked, json: &mut Vec<u8>) -> serde_json::Result<()> {
        let mut item = RequestItem::from(self.clone());
        if !asked.headers {
            item.leave_out_contents();
        }
        serde_json::to_writer(json, &item)
    }
}

impl Listed for Navigation {
    fn all(insight: &Insight) -> Box<dyn DoubleEndedIterator<Item = &Self> + Send + '_> {
        Box::new(insight.navigations())
    }

    fn at(&self) -> At {
        self.at
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn dropped(dropped: Dropped) -> u64 {
        dropped.navigations
    }

    fn write(&self, _: &Self::Asked, json: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(json, self)
    }
}

impl Listed for Problem {
    fn all(insight: &Insight) -> Box<dyn DoubleEndedIterator<Item = &Self> + Send + '_> {
        Box::new(insight.problems())
    }

    fn at(&self) -> At {
        self.at
    }

    fn updated(&self) -> u64 {
        self.updated
    }

    fn dropped(dropped: Dropped) -> u64 {
        dropped.problems
    }

    fn write(&self, _: &Self::Asked, json: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(json, self)
    }
}

/// Lists requests.
///
/// # Errors
///
/// Where the query is wrong, its cursor is of an epoch that was not read, or events cannot be read.
pub(crate) async fn requests<'a, B: Backend>(
    app: &Arc<App<B>>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    list::<Request, B>(app, query).await
}

/// Lists navigations. As [`requests`].
pub(crate) async fn navigations<'a, B: Backend>(
    app: &Arc<App<B>>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    list::<Navigation, B>(app, query).await
}

/// Lists problems. As [`requests`].
pub(crate) async fn problems<'a, B: Backend>(
    app: &Arc<App<B>>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure> {
    list::<Problem, B>(app, query).await
}

async fn list<'a, K: Listed + Sync, B: Backend>(
    app: &Arc<App<B>>,
    query: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Whole, Failure>
where
    K::Asked: Sync + Send,
{
    let query = JoinQuery::from_pairs::<K>(query)?;
    let shared = Views::of(app, query.range);
    let view = shared.read(app).await?;
    let present = app.backend.epoch();
    let position = |cursor: Option<Cursor>| match cursor {
        Some(cursor) => find(app, &view, cursor, present).map(Some),
        None => Ok(None),
    };
    let (after, offset) = (position(query.after)?, position(query.offset)?);

    let mut listed = Listing::<K> {
        query: &query,
        after,
        behind: offset,
        seen: 0,
        count: 0,
        body: vec![b'['],
    };
    let mut pace = Pace::new();
    let has_more = loop {
        match listed.write(&view, &pace)? {
            Written::All => break false,
            Written::Enough => break true,
            Written::Some => pace.rest().await,
        }
    };
    let Listing {
        behind, mut body, ..
    } = listed;
    body.push(b']');

    let mut answer = text(StatusCode::OK, body);
    let headers = answer.headers_mut();
    let last = behind.filter(|_| has_more);
    say_what_follows(headers, last.map(|last| view.offset(last, present)));
    headers.insert("x-cursor", shown(view.cursor(present)));
    headers.insert("x-complete", shown(view.is_complete));
    headers.insert("x-lost", view.insight.tally().lost.into());
    headers.insert("x-left-out", K::dropped(view.dropped).into());
    let retained = app.backend.retained();
    headers.insert("x-head", retained.head.into());
    headers.insert("x-oldest", retained.oldest.into());
    headers.insert("x-epoch", shown(present));
    Ok(answer)
}

/// An answer that is being written.
struct Listing<'a, K: Listed> {
    query: &'a JoinQuery<K::Asked>,
    /// Only what has changed since.
    after: Option<At>,
    /// Only what is behind it: the offset, and then the last item that was written.
    behind: Option<At>,
    /// How many items were looked at in the slices before: each slice begins where the last one ended, so that it
    /// comes further however many there are.
    seen: usize,
    count: usize,
    body: Vec<u8>,
}

/// How much of a list was written.
enum Written {
    /// All of it.
    All,
    /// As much as an answer has.
    Enough,
    /// As much as fits into a slice of time.
    Some,
}

impl<K: Listed> Listing<'_, K> {
    /// Writes items until the slice of time is over.
    fn write(&mut self, view: &View, pace: &Pace) -> Result<Written, Failure> {
        let begin = self.behind;
        let mut last = None;
        let order = self.query.order;
        let all: Box<dyn Iterator<Item = &K> + Send> = match order {
            Order::Asc => K::all(&view.insight),
            Order::Desc => Box::new(K::all(&view.insight).rev()),
        };
        for (index, item) in all.enumerate().skip(self.seen) {
            let at = item.at();
            let is_behind = begin.is_none_or(|begin| match order {
                Order::Asc => begin < at,
                Order::Desc => at < begin,
            });
            let is_news = self
                .after
                .is_none_or(|after| view.insight.has_changed(at, item.updated(), after));
            if !is_behind || !is_news || !self.query.matches(item) {
                continue;
            }
            // Several problems may be at one place.
            if last != Some(at) {
                if self.query.limit <= self.count || MAX_BYTES <= self.body.len() {
                    return Ok(Written::Enough);
                }
                if last.is_some() && pace.is_over() {
                    self.seen = index;
                    return Ok(Written::Some);
                }
            }
            if 0 < self.count {
                self.body.push(b',');
            }
            item.write(&self.query.asked, &mut self.body)
                .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
            self.count += 1;
            last = Some(at);
            self.behind = last;
        }
        Ok(Written::All)
    }
}

/// Where a cursor is in what was read.
fn find<B: Backend>(
    app: &App<B>,
    view: &View,
    cursor: Cursor,
    present: Epoch,
) -> Result<At, Failure> {
    view.find(cursor, present).ok_or_else(|| {
        ApiError::StaleCursor {
            asked: cursor.to_string(),
            head: app.backend.retained().head,
            epoch: present,
        }
        .into()
    })
}

/// One request, with its headers and with the problems that are about it.
///
/// # Errors
///
/// Where the id is no seq, there is no such request, or events cannot be read.
pub(crate) async fn request<B: Backend>(app: &Arc<App<B>>, id: &str) -> Result<Whole, Failure> {
    /// In which time the end of a request is looked for that is not in memory any more.
    const LONGEST: u64 = 60_000_000;
    let none = || {
        Failure::new(
            ErrorCode::NotFound,
            "no request begins with this event; `GET /telemetry/requests` lists the requests with their `seq`",
        )
    };
    let cursor: Cursor = id.parse().map_err(|_| {
        let message = format!(
            "path: `{}` is not the seq of a request, such as `17`",
            short(id)
        );
        Failure::new(ErrorCode::BadRequest, message)
    })?;
    if let Some(answer) = detail(app, Range::default(), cursor).await? {
        return Ok(answer);
    }
    let query = PageQuery {
        limit: 1,
        after: Some(Cursor {
            seq: cursor.seq.saturating_sub(1),
            epoch: Some(cursor.epoch.unwrap_or(app.backend.epoch())),
        }),
        ..PageQuery::default()
    };
    let page = app.backend.page(&query).await.map_err(|_| none())?;
    let first = page.envelopes.first().filter(|it| it.seq() == cursor.seq);
    let ts = first.map(EncodedEnvelope::ts).ok_or_else(none)?;
    let range = Range {
        since: Some(ts),
        until: Some(ts.saturating_add(LONGEST)),
    };
    detail(app, range, cursor).await?.ok_or_else(none)
}

async fn detail<B: Backend>(
    app: &Arc<App<B>>,
    range: Range,
    cursor: Cursor,
) -> Result<Option<Whole>, Failure> {
    let shared = Views::of(app, range);
    let view = shared.read(app).await?;
    let Some(at) = view.find(cursor, app.backend.epoch()) else {
        return Ok(None);
    };
    let mut requests = view.insight.requests();
    Ok(requests.find(|it| it.at == at).map(|request| {
        let problems = view.insight.problems();
        let problems = problems.filter(|it| it.request == Some(at.seq) && it.at.run == at.run);
        let detail = RequestDetail {
            request: RequestItem::from(request.clone()),
            problems: problems.cloned().collect(),
        };
        json(StatusCode::OK, &detail)
    }))
}
