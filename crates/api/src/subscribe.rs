//! Where a live stream begins, and a wait for one event.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tapline_events::{Cursor, Filter, Item, LagPolicy, ReaderLedger};
use tapline_oapi::{Hello, HelloReason, OnLag, SessionNotice};
use tapline_telemetry::{Reader, SessionState, TelemetrySession};

use crate::backend::{Delivery, Opened, Subscription};
use crate::error::ApiError;
use crate::query::{self, QueryError};
use crate::service::{ApiService, describe};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// What to do when its reader lags. With [`Close`](OnLag::Close) the reader resumes at the
    /// oldest retained event, and its caller ends the stream at the first loss.
    pub overtaken: OnLag,
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
        asked.overtaken = overtaken.unwrap_or_default();
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
    /// A cursor that is ahead of the head, from another epoch or unreadable begins at the oldest
    /// retained, and the hello says so. The client gets events then, rather than an error that it would
    /// repeat for ever or a wait for a seq that may not come.
    pub fn subscribe(&self, query: &StreamQuery) -> Opened<SessionSubscription> {
        let session = self.session();
        let stream = session.stream();
        // After which seq, where that is a position in this stream; otherwise at the oldest.
        let (from, reason) = match &query.after {
            None => match query.replay {
                Some(Replay::All) => (None, HelloReason::Fresh),
                Some(Replay::Live) => (Some(stream.head()), HelloReason::Fresh),
                None => {
                    let (state, head) = session.snapshot();
                    let start = state.session().map_or(head, |session| session.start_seq);
                    (Some(start), HelloReason::Fresh)
                }
            },
            Some(text) => match text.parse::<Cursor>() {
                Err(_) => (None, HelloReason::Invalid),
                Ok(cursor) if cursor.epoch.is_some_and(|epoch| epoch != stream.epoch()) => {
                    (None, HelloReason::OtherEpoch)
                }
                Ok(cursor) if cursor.seq > stream.head() => (None, HelloReason::Ahead),
                // A bare 0 asks for everything retained; with an epoch it is a position like any other.
                Ok(Cursor {
                    seq: 0,
                    epoch: None,
                }) => (None, HelloReason::Resumed),
                Ok(cursor) => (Some(cursor.seq), HelloReason::Resumed),
            },
        };
        let mut reader = session
            .new_reader(from.unwrap_or(0))
            .filtered(query.filter.clone())
            .on_lag(match query.overtaken {
                OnLag::Oldest | OnLag::Close => LagPolicy::Oldest,
                OnLag::Head => LagPolicy::Head,
            });
        let used = reader.position();
        let is_evicted = from.is_some_and(|from| from < used);
        // In its ledger, too: what the hello reports is what the reader lost.
        let lost = from.and_then(|from| reader.count_from(from));
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
                reader,
                notices: query.notices,
                reported: None,
            },
            hello,
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

/// A reader of the session's stream that also reports changes of the session.
#[derive(Debug)]
pub struct SessionSubscription {
    session: Arc<TelemetrySession>,
    reader: Reader,
    /// Whether changes of the session are delivered.
    notices: bool,
    /// The state that was delivered last.
    reported: Option<SessionState>,
}

impl Subscription for SessionSubscription {
    fn ledger(&self) -> ReaderLedger {
        self.reader.ledger()
    }

    fn position(&self) -> u64 {
        self.reader.position()
    }

    fn head(&self) -> u64 {
        self.session.seq()
    }

    fn filter(&self) -> &Filter {
        self.reader.filter()
    }

    fn refilter(&mut self, filter: Filter) {
        self.reader.refilter(filter);
    }

    fn lag_policy(&self) -> LagPolicy {
        self.reader.lag_policy()
    }

    fn read(
        &mut self,
        limit: usize,
        mut visit: impl FnMut(Delivery<'_>) -> ControlFlow<()>,
    ) -> usize {
        let Self {
            session,
            reader,
            notices,
            reported,
        } = self;
        let looked_at = reader.read(limit, |item| match item {
            Item::Lost(lost) => visit(Delivery::Lost(lost)),
            Item::Envelope(envelope) => {
                if *notices && let Some(notice) = change(session, reported, envelope.stamp()) {
                    let _ = visit(notice);
                }
                visit(Delivery::Envelope {
                    seq: envelope.seq(),
                    json: envelope.json(),
                })
            }
        });
        // The state in force belongs behind the newest event, not before it.
        if *notices && looked_at < limit {
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
            reader,
            notices,
            reported,
            ..
        } = self;
        reader.poll_until(cx, |state, _| *notices && !is_reported(reported, state))
    }

    fn beside(&self) -> Option<Self> {
        let reader = self.session.new_reader(self.position());
        (reader.position() == self.position()).then(|| Self {
            session: self.session.clone(),
            reader: reader
                .filtered(self.filter().clone())
                .on_lag(self.lag_policy()),
            notices: self.notices,
            reported: self.reported.clone(),
        })
    }

    fn is_beside(&self, other: &Self) -> bool {
        let same_state = match (&self.reported, &other.reported) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.position() == other.position() && same_state
    }

    fn follow(&mut self, leader: &Self, since: ReaderLedger) {
        self.reader.follow(&leader.reader, since);
        self.reported.clone_from(&leader.reported);
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
