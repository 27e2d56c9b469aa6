//! Where a live stream begins, and a wait for one event.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tapline_events::{Cursor, Epoch, Filter, Item, LagPolicy, ReaderLedger};
use tapline_oapi::{Hello, HelloReason, OnLag, SessionNotice};
use tapline_telemetry::{Reader, SessionState, TelemetrySession};

use crate::backend::{Delivery, Opened, Subscription};
use crate::error::ApiError;
use crate::history::{History, HistoryBounds};
use crate::past::{Past, evicted_after};
use crate::query::{self, QueryError};
use crate::recount::Recount;
use crate::service::{ApiService, describe};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamQuery {
    /// The cursor to resume after, as it was sent: `{seq}` or `{seq}-{epoch}`. In a query `lastEventId`
    /// wins over `after`: polyfills of `EventSource` add it when they reconnect.
    pub after: Option<String>,
    /// Where to begin without a cursor; `None` = at the current session's start.
    pub replay: Option<Replay>,
    /// Only such events.
    pub filter: Filter,
    /// Whether the stream also sends notices about itself.
    pub notices: bool,
    /// What to do when its reader lags. `None`: continue from the archive where there is one, and otherwise at
    /// the oldest retained event. With [`Close`](OnLag::Close) the reader resumes at the oldest retained
    /// event, and its caller ends the stream at the first loss.
    pub overtaken: Option<OnLag>,
    /// Whether a cursor of an earlier run is answered from the archive. Not a parameter of a query.
    pub earlier_epochs: bool,
}

/// What is waited for: the first event that `start` asks for, in the past or to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitQuery {
    /// After which event, and for which. [`ApiService::subscribe`] gives the reader, and
    /// [`Opened::at_cursor`] refuses a cursor that is no position: an event that was published before is
    /// not missed, and what is lost on the way is reported.
    pub start: StreamQuery,
    /// For how long: 0 to 300 seconds. 0 looks only at what is there.
    pub timeout: Duration,
}

/// Where a stream begins that has no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// At the oldest event retained.
    All,
    /// After the newest.
    Live,
}

impl Default for StreamQuery {
    fn default() -> Self {
        Self {
            after: None,
            replay: None,
            filter: Filter::all(),
            notices: false,
            overtaken: None,
            earlier_epochs: true,
        }
    }
}

impl StreamQuery {
    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range. A cursor
    /// that cannot be read is no error: [`ApiService::subscribe`] answers it.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 7] = [
            "lastEventId",
            "after",
            "replay",
            "category",
            "type",
            "notices",
            "overtaken",
        ];
        let mut asked = Self::default();
        let (mut notices, mut overtaken) = (None, None);
        let mut last_event_id = None;
        for (name, text) in pairs {
            match name {
                // The last one: a polyfill may add its own behind that of the address. Empty is none.
                "lastEventId" => last_event_id = Some(text).filter(|text| !text.is_empty()),
                "after" => query::once(&mut asked.after, name, text.to_owned())?,
                "replay" => {
                    let choices = [("all", Replay::All), ("live", Replay::Live)];
                    query::once(
                        &mut asked.replay,
                        name,
                        query::choice(name, text, &choices)?,
                    )?;
                }
                "category" | "type" => query::add_to_filter(&mut asked.filter, name, text)?,
                "notices" => {
                    let choices = [("true", true), ("false", false)];
                    query::once(&mut notices, name, query::choice(name, text, &choices)?)?;
                }
                "overtaken" => {
                    let choices = [
                        ("archive", OnLag::Archive),
                        ("oldest", OnLag::Oldest),
                        ("head", OnLag::Head),
                        ("close", OnLag::Close),
                    ];
                    query::once(&mut overtaken, name, query::choice(name, text, &choices)?)?;
                }
                _ => return Err(QueryError::unknown(name, &KNOWN)),
            }
        }
        if let Some(id) = last_event_id {
            asked.after = Some(id.to_owned());
        }
        asked.notices = notices.unwrap_or(false);
        asked.overtaken = overtaken;
        Ok(asked)
    }
}

impl WaitQuery {
    /// How long a wait lasts that does not say.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// The longest that a wait lasts.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(300);

    /// From the parameters of a query, decoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range, or the cursor that
    /// cannot be read.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 4] = ["after", "category", "type", "timeout_ms"];
        let mut start = StreamQuery::default();
        let mut timeout = None;
        for (name, text) in pairs {
            match name {
                "after" => {
                    query::cursor(name, text)?;
                    query::once(&mut start.after, name, text.to_owned())?;
                }
                "category" | "type" => query::add_to_filter(&mut start.filter, name, text)?,
                "timeout_ms" => {
                    let asked = Duration::from_millis(query::number(name, text)?);
                    if asked > Self::MAX_TIMEOUT {
                        let most = Self::MAX_TIMEOUT.as_millis();
                        let message = format!("{} is not from 0 to {most}", asked.as_millis());
                        return Err(QueryError::new(name, message));
                    }
                    query::once(&mut timeout, name, asked)?;
                }
                _ => return Err(QueryError::unknown(name, &KNOWN)),
            }
        }
        Ok(Self {
            start,
            timeout: timeout.unwrap_or(Self::DEFAULT_TIMEOUT),
        })
    }
}

impl ApiService {
    /// A subscription that begins where `query` says.
    ///
    /// Where it asks for events that are not in memory any more and the service has an archive, it reads them
    /// there, and then continues with the stream: without a hole or a repeat, also over restarts.
    ///
    /// A cursor that is ahead of the head, from an epoch that is not in the archive or unreadable begins at the
    /// oldest in memory, and the hello says so. The client gets events then, rather than an error that it would
    /// repeat for ever or a wait for a seq that may not come.
    pub async fn subscribe(&self, query: &StreamQuery) -> Opened<SessionSubscription> {
        let overtaken = query.overtaken.unwrap_or(match self.archive() {
            Some(_) => OnLag::Archive,
            None => OnLag::Oldest,
        });
        let begin = self.begin_of(query);
        if let Some(archive) = self.archive()
            && overtaken == OnLag::Archive
            && (query.earlier_epochs || !matches!(begin, Begin::OtherEpoch { .. }))
            && let Some((bounds, after)) = self.begin_in(&**archive, begin).await
        {
            let opened = self.subscribe_in(archive.clone(), bounds, after, query);
            return opened;
        }
        let (from, reason) = match begin {
            Begin::Oldest(reason) => (None, reason),
            Begin::After(seq, reason) => (Some(seq), reason),
            Begin::OtherEpoch { .. } => (None, HelloReason::OtherEpoch),
        };
        let session = self.session();
        let stream = session.stream();
        let mut reader = session
            .new_reader(from.unwrap_or(0))
            .filtered(query.filter.clone())
            .on_lag(match overtaken {
                OnLag::Oldest | OnLag::Archive | OnLag::Close => LagPolicy::Oldest,
                OnLag::Head => LagPolicy::Head,
            });
        let used = reader.position();
        let is_evicted = from.is_some_and(|from| from < used);
        // In its ledger, too: what the hello reports is what the reader lost.
        let before = from.map(ReaderLedger::starting_at);
        let mut lost = from.and_then(|from| reader.count_from(from));
        if let (Some(archive), Some(ledger), Some(found)) = (self.archive(), before, lost) {
            let filter = query.filter.clone();
            let mut recount = Recount::new(archive.clone(), stream.epoch(), filter, ledger, found);
            poll_fn(|cx| recount.poll(cx)).await;
            lost = recount.finish(&mut reader);
        }
        let lost = match reason {
            HelloReason::OtherEpoch | HelloReason::Ahead | HelloReason::Invalid => None,
            _ => lost.map_or(Some(0), |lost| lost.matching),
        };
        let retained = stream.retained();
        let hello = Hello {
            asked: query.after.clone(),
            used,
            oldest: retained.oldest,
            head: retained.head,
            epoch: stream.epoch(),
            lost,
            reason: if is_evicted {
                HelloReason::Evicted
            } else {
                reason
            },
            reader: String::new(),
        };
        Opened {
            subscription: SessionSubscription {
                session: session.clone(),
                archive: self.archive().cloned(),
                reading: Reading::Stream(reader),
                recount: None,
                recounted: 0,
                overtaken,
                notices: query.notices,
                reported: None,
            },
            hello,
        }
    }

    /// Where the query asks to begin.
    fn begin_of(&self, query: &StreamQuery) -> Begin {
        let session = self.session();
        let stream = session.stream();
        let Some(text) = &query.after else {
            let after = match query.replay {
                Some(Replay::All) => return Begin::Oldest(HelloReason::Fresh),
                Some(Replay::Live) => stream.head(),
                None => {
                    let (state, head) = session.snapshot();
                    state.session().map_or(head, |session| session.start_seq)
                }
            };
            return Begin::After(after, HelloReason::Fresh);
        };
        match text.parse::<Cursor>() {
            Err(_) => Begin::Oldest(HelloReason::Invalid),
            Ok(Cursor {
                seq,
                epoch: Some(epoch),
            }) if epoch != stream.epoch() => Begin::OtherEpoch { epoch, after: seq },
            Ok(cursor) if cursor.seq > stream.head() => Begin::Oldest(HelloReason::Ahead),
            // A bare 0 asks for everything retained; with an epoch it is a position like any other.
            Ok(Cursor {
                seq: 0,
                epoch: None,
            }) => Begin::Oldest(HelloReason::Resumed),
            Ok(cursor) => Begin::After(cursor.seq, HelloReason::Resumed),
        }
    }

    /// The position in the archive at which reading begins, where it has what the stream has not.
    async fn begin_in(&self, archive: &dyn History, begin: Begin) -> Option<(HistoryBounds, u64)> {
        let stream = self.session().stream();
        let (epoch, after) = match begin {
            Begin::OtherEpoch { epoch, after } => (epoch, Some(after)),
            Begin::After(after, _) => (stream.epoch(), Some(after)),
            Begin::Oldest(HelloReason::Ahead | HelloReason::Invalid) => return None,
            Begin::Oldest(_) => (stream.epoch(), None),
        };
        // In the common case nothing is to be looked up.
        if epoch == stream.epoch() && evicted_after(stream, after.unwrap_or(0)).is_none() {
            return None;
        }
        let bounds = bounds_of(archive, epoch).await?;
        let after = after.unwrap_or(bounds.oldest.saturating_sub(1));
        if epoch == stream.epoch() {
            let evicted = evicted_after(stream, after)?;
            let is_there = *evicted.start() <= bounds.head && bounds.oldest <= *evicted.end();
            return is_there.then_some((bounds, after));
        }
        Some((bounds, after))
    }

    /// A subscription that begins in the archive.
    fn subscribe_in(
        &self,
        archive: Arc<dyn History>,
        bounds: HistoryBounds,
        after: u64,
        query: &StreamQuery,
    ) -> Opened<SessionSubscription> {
        let session = self.session();
        let hello = Hello {
            asked: query.after.clone(),
            used: after,
            oldest: bounds.oldest,
            head: bounds.head,
            epoch: bounds.epoch,
            lost: Some(0),
            reason: match query.after {
                None => HelloReason::Fresh,
                Some(_) => HelloReason::Resumed,
            },
            reader: String::new(),
        };
        let ledger = ReaderLedger::starting_at(after);
        let past = Past::new(
            archive.clone(),
            session.stream().clone(),
            bounds.epoch,
            query.filter.clone(),
            ledger,
            bounds.head,
        );
        Opened {
            subscription: SessionSubscription {
                session: session.clone(),
                archive: Some(archive),
                reading: Reading::Past(past),
                recount: None,
                recounted: 0,
                overtaken: OnLag::Archive,
                notices: query.notices,
                reported: None,
            },
            hello,
        }
    }
}

/// Where reading is to begin.
#[derive(Debug, Clone, Copy)]
enum Begin {
    /// At the oldest event of the present epoch, and why.
    Oldest(HelloReason),
    /// After this seq of the present epoch, and why.
    After(u64, HelloReason),
    /// After a seq of another epoch.
    OtherEpoch { epoch: Epoch, after: u64 },
}

/// What the archive has of that epoch, where it has any. An archive that cannot be read has nothing.
pub(crate) async fn bounds_of(archive: &dyn History, epoch: Epoch) -> Option<HistoryBounds> {
    match archive.bounds().await {
        Ok(epochs) => epochs
            .into_iter()
            .find(|it| it.epoch == epoch && 0 < it.head),
        Err(error) => {
            tracing::warn!(%error, "the archive cannot be read");
            None
        }
    }
}

impl<S> Opened<S> {
    /// The same, where its cursor is a position in this stream. For a caller that an older event would
    /// mislead, such as a `wait`.
    ///
    /// # Errors
    ///
    /// [`ApiError::Query`] where the cursor cannot be read, [`ApiError::StaleCursor`] where it is ahead of the
    /// head or of another epoch.
    pub fn at_cursor(self) -> Result<Self, ApiError> {
        let Hello {
            asked,
            reason,
            head,
            epoch,
            ..
        } = &self.hello;
        let asked = asked.as_deref().unwrap_or_default();
        match reason {
            HelloReason::Fresh | HelloReason::Resumed | HelloReason::Evicted => return Ok(self),
            HelloReason::Invalid => {
                query::cursor("after", asked)?;
            }
            HelloReason::Ahead | HelloReason::OtherEpoch => {}
        }
        Err(ApiError::StaleCursor {
            asked: asked.to_owned(),
            head: *head,
            epoch: *epoch,
        })
    }
}

/// A reader of the session's stream that also reports changes of the session. What the stream does not have any
/// more it reads from the archive, where there is one.
#[derive(Debug)]
pub struct SessionSubscription {
    session: Arc<TelemetrySession>,
    /// Where it continues when it lags, if it wants that, or counts what it has lost.
    archive: Option<Arc<dyn History>>,
    reading: Reading,
    /// What it has lost of the stream and has not reported yet.
    recount: Option<Recount>,
    /// Up to where it has recounted. A loss that follows at once is not recounted: a reader that loses more
    /// while it counts would never come to an event.
    recounted: u64,
    /// What it does when it lags.
    overtaken: OnLag,
    /// Whether changes of the session are delivered.
    notices: bool,
    /// The state that was delivered last.
    reported: Option<SessionState>,
}

/// Where a subscription reads.
#[derive(Debug)]
enum Reading {
    Stream(Reader),
    Past(Past),
}

impl SessionSubscription {
    /// Continues with the stream, once the archive was read to where that has all that follows.
    fn join(&mut self) {
        let Reading::Past(past) = &mut self.reading else {
            return;
        };
        if !past.is_over() {
            return;
        }
        let ledger = past.ledger();
        let reader = self.session.new_reader(ledger.position());
        self.reading = if reader.position() == ledger.position() {
            let filter = past.filter().clone();
            Reading::Stream(reader.continued(ledger).filtered(filter))
        } else {
            // Evicted since: back to the archive.
            Reading::Past(past.beside(ledger))
        };
    }

    /// Continues in the archive, from the position of that ledger.
    fn fall_back(&mut self, ledger: ReaderLedger) {
        self.recount = None;
        if let Some(archive) = &self.archive {
            let stream = self.session.stream().clone();
            let filter = self.filter().clone();
            let (epoch, head) = (stream.epoch(), stream.head());
            let past = Past::new(archive.clone(), stream, epoch, filter, ledger, head);
            self.reading = Reading::Past(past);
        }
    }
}

impl Subscription for SessionSubscription {
    fn ledger(&self) -> ReaderLedger {
        match (&self.reading, &self.recount) {
            (_, Some(recount)) => recount.ledger(),
            (Reading::Stream(reader), None) => reader.ledger(),
            (Reading::Past(past), None) => past.ledger(),
        }
    }

    fn epoch(&self) -> Epoch {
        match &self.reading {
            Reading::Stream(_) => self.session.stream().epoch(),
            Reading::Past(past) => past.epoch(),
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.reading, Reading::Stream(_)) && self.recount.is_none()
    }

    fn head(&self) -> u64 {
        match &self.reading {
            Reading::Stream(_) => self.session.seq(),
            Reading::Past(past) => past.head(),
        }
    }

    fn filter(&self) -> &Filter {
        match &self.reading {
            Reading::Stream(reader) => reader.filter(),
            Reading::Past(past) => past.filter(),
        }
    }

    fn refilter(&mut self, filter: Filter) {
        if let Some(recount) = &mut self.recount {
            recount.refilter(filter.clone());
        }
        match &mut self.reading {
            Reading::Stream(reader) => reader.refilter(filter),
            Reading::Past(past) => past.refilter(filter),
        }
    }

    fn overtaken(&self) -> OnLag {
        self.overtaken
    }

    fn read(
        &mut self,
        limit: usize,
        mut visit: impl FnMut(Delivery<'_>) -> ControlFlow<()>,
    ) -> usize {
        self.join();
        let reader = match &mut self.reading {
            Reading::Past(past) => return past.read(limit, &mut visit),
            Reading::Stream(reader) => reader,
        };
        if let Some(recount) = self.recount.take_if(|recount| recount.is_done()) {
            let lost = recount.finish(reader);
            self.recounted = reader.position();
            if let Some(lost) = lost {
                let _ = visit(Delivery::Lost(lost));
            }
            return 1;
        }
        if self.recount.is_some() {
            return 0;
        }
        let continues = self.overtaken == OnLag::Archive;
        let recounted = self.recounted;
        let (session, notices, reported) = (&self.session, self.notices, &mut self.reported);
        let archive = self.archive.as_ref();
        let before = reader.ledger();
        let mut delivered = 0;
        let mut behind = None;
        let looked_at = reader.read(limit, |item| match item {
            // All that is evicted is read in the archive from here on, or counted there.
            Item::Lost(lost)
                if archive.is_some()
                    && (continues || lost.matching.is_none() && recounted + 1 < lost.first) =>
            {
                let position = lost.first - 1;
                let so_far = position - before.start - before.lost;
                let ledger = ReaderLedger {
                    start: before.start,
                    delivered: before.delivered + delivered,
                    filtered: so_far - before.delivered - delivered,
                    lost: before.lost,
                };
                behind = Some((ledger, lost));
                ControlFlow::Break(())
            }
            Item::Lost(lost) => visit(Delivery::Lost(lost)),
            Item::Envelope(envelope) => {
                delivered += 1;
                if notices && let Some(notice) = change(session, reported, envelope.stamp()) {
                    let _ = visit(notice);
                }
                visit(Delivery::Envelope {
                    seq: envelope.seq(),
                    json: envelope.json(),
                })
            }
        });
        if let (Some((ledger, lost)), Some(archive)) = (behind, archive) {
            if continues {
                self.fall_back(ledger);
            } else {
                let (epoch, filter) = (session.stream().epoch(), reader.filter().clone());
                let recount = Recount::new(archive.clone(), epoch, filter, ledger, lost);
                self.recount = Some(recount);
            }
            return looked_at;
        }
        // The state in force belongs behind the newest event, not before it.
        if notices && looked_at < limit {
            let (state, head) = session.snapshot();
            if head == reader.position()
                && let Some(notice) = change(session, reported, &state)
            {
                let _ = visit(notice);
            }
        }
        looked_at
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            reading,
            recount,
            notices,
            reported,
            ..
        } = self;
        if let Some(recount) = recount {
            return recount.poll(cx);
        }
        match reading {
            Reading::Past(past) => past.poll(cx),
            Reading::Stream(reader) => {
                reader.poll_until(cx, |state, _| *notices && !is_reported(reported, state))
            }
        }
    }

    fn beside(&self) -> Option<Self> {
        let Reading::Stream(reader) = &self.reading else {
            return None;
        };
        if !self.is_live() {
            return None;
        }
        let beside = self.session.new_reader(reader.position());
        (beside.position() == reader.position()).then(|| Self {
            session: self.session.clone(),
            archive: self.archive.clone(),
            reading: Reading::Stream(
                beside
                    .filtered(reader.filter().clone())
                    .on_lag(reader.lag_policy()),
            ),
            recount: None,
            recounted: self.recounted,
            overtaken: self.overtaken,
            notices: self.notices,
            reported: self.reported.clone(),
        })
    }

    fn is_beside(&self, other: &Self) -> bool {
        let same_state = match (&self.reported, &other.reported) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.is_live() && other.is_live() && self.position() == other.position() && same_state
    }

    fn follow(&mut self, leader: &Self, since: ReaderLedger) {
        self.reported.clone_from(&leader.reported);
        let ledger = self.ledger().advanced_by(since, leader.ledger());
        if let (Reading::Stream(reader), Reading::Stream(leader_reader)) =
            (&mut self.reading, &leader.reading)
        {
            reader.follow(leader_reader, since);
            self.recount = leader.recount.as_ref().map(|it| it.beside(ledger));
            self.recounted = leader.recounted;
            return;
        }
        assert_eq!(
            since.position(),
            self.position(),
            "both stood at the same position"
        );
        // The leader has fallen back to the archive: so does this one.
        self.fall_back(ledger);
    }
}

/// The notice that `state` holds, unless that was the last one.
fn change(
    session: &TelemetrySession,
    reported: &mut Option<SessionState>,
    state: &SessionState,
) -> Option<Delivery<'static>> {
    if is_reported(reported, state) {
        return None;
    }
    *reported = Some(state.clone());
    Some(Delivery::Session(Box::new(SessionNotice {
        state: describe(state, session.seq(), session.stream().epoch()),
        after: state.since(),
    })))
}

fn is_reported(reported: &Option<SessionState>, state: &SessionState) -> bool {
    reported
        .as_ref()
        .is_some_and(|reported| reported.is_same(state))
}
