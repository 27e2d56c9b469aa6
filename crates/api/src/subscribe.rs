//! Where a live stream begins, and a wait for one event.

use std::time::Duration;

use tapline_events::{Cursor, Filter, LagPolicy};
use tapline_oapi::{Hello, HelloReason, OnLag};
use tapline_telemetry::Reader;

use crate::query::{self, QueryError};
use crate::service::ApiService;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamQuery {
    /// The cursor to go on after, as it was sent: `{seq}` or `{seq}-{epoch}`.
    pub after: Option<String>,
    /// Where to begin without a cursor; `None` = at the current session's start.
    pub replay: Option<Replay>,
    /// Only such events.
    pub filter: Filter,
    /// Whether the stream is to tell about itself, too.
    pub notices: bool,
    /// What to do when its reader is overtaken. Where that is [`Close`](OnLag::Close) the
    /// reader goes on at the oldest retained, and who reads ends the stream at the first loss.
    pub overtaken: OnLag,
}

/// What is waited for: the first event that `start` asks for, in the past or to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitQuery {
    /// After which event, and for which. [`ApiService::subscribe`] gives the reader: an event that was
    /// published before is not missed, and what is lost on the way is told.
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

/// A reader, and what it should be told first.
#[derive(Debug)]
pub struct Subscription {
    /// Stands where the stream begins.
    pub reader: Reader,
    /// Says where that is, and why there. Its [`reader`](Hello::reader) is for whoever
    /// [enrolls](ApiService::enroll) it to fill in.
    pub hello: Hello,
    /// How many events were evicted between where it was to begin and where it begins, asked for or
    /// not: the most that can be lost.
    pub evicted: u64,
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
        const KNOWN: [&str; 6] = [
            "after",
            "replay",
            "category",
            "type",
            "notices",
            "overtaken",
        ];
        let mut asked = Self::default();
        let (mut notices, mut overtaken) = (None, None);
        for (name, text) in pairs {
            match name {
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
    /// [`QueryError`] names the parameter that is unknown, given twice or out of range. A cursor
    /// that cannot be read is no error: [`ApiService::subscribe`] answers it.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        const KNOWN: [&str; 4] = ["after", "category", "type", "timeout_ms"];
        let mut start = StreamQuery::default();
        let mut timeout = None;
        for (name, text) in pairs {
            match name {
                "after" => query::once(&mut start.after, name, text.to_owned())?,
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
    /// A reader that begins where `query` says.
    ///
    /// A cursor that is ahead of the head, from another epoch or unreadable is answered from the
    /// oldest retained, and the hello says so: whoever comes with one should get events, not an
    /// error that it would repeat for ever or a wait for a seq that may not come.
    pub fn subscribe(&self, query: &StreamQuery) -> Subscription {
        let session = self.session();
        let stream = session.stream();
        // What to go on after, where that is a place in this stream; otherwise at the oldest.
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
                // A bare 0 asks for whatever there is; with an epoch it is a place like any other.
                Ok(Cursor {
                    seq: 0,
                    epoch: None,
                }) => (None, HelloReason::Resumed),
                Ok(cursor) => (Some(cursor.seq), HelloReason::Resumed),
            },
        };
        let reader = session
            .new_reader(from.unwrap_or(0))
            .filtered(query.filter.clone())
            .on_lag(match query.overtaken {
                OnLag::Oldest | OnLag::Close => LagPolicy::Oldest,
                OnLag::Head => LagPolicy::Head,
            });
        let used = reader.position();
        let evicted = from.map_or(0, |from| used - from);
        let lost = match reason {
            HelloReason::OtherEpoch | HelloReason::Ahead | HelloReason::Invalid => None,
            _ if evicted > 0 && query.filter != Filter::all() => None,
            _ => Some(evicted),
        };
        let retained = stream.retained();
        let hello = Hello {
            asked: query.after.clone(),
            used,
            oldest: retained.oldest,
            head: retained.head,
            epoch: stream.epoch(),
            lost,
            reason: if evicted > 0 {
                HelloReason::Evicted
            } else {
                reason
            },
            reader: String::new(),
        };
        Subscription {
            reader,
            hello,
            evicted,
        }
    }
}
