//! From a position in the stream to bytes for a socket: [`Feed`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};

use tapline_api::ApiService;
use tapline_events::{Filter, Item, LagPolicy, ReaderLedger};
use tapline_oapi::{Beat, Notice, SessionNotice};
use tapline_telemetry::{Reader, SessionState};

use crate::stream::frames::Piece;

/// How many events are looked at under one guard of the ring.
const PIECE_EVENTS: usize = 256;

/// A reader, and what its peer was told so far.
pub(crate) struct Feed {
    api: Arc<ApiService>,
    reader: Reader,
    /// Whether the peer wants to be told about the stream itself, in named events.
    notices: bool,
    /// The state that the peer was told last.
    told: Option<SessionState>,
}

/// What came of writing what there was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    /// How many events were looked at, filtered ones included.
    pub(crate) looked_at: usize,
    /// How many losses were told.
    pub(crate) gaps: u64,
    /// Whether it ended at a bound of its own, so that there may be more.
    pub(crate) is_full: bool,
}

impl Feed {
    pub(crate) fn new(api: Arc<ApiService>, reader: Reader, notices: bool) -> Self {
        Self {
            api,
            reader,
            notices,
            told: None,
        }
    }

    /// One that reads on from where this one is, for it and for others like it. `None` where that is
    /// gone already.
    pub(crate) fn beside(&self) -> Option<Self> {
        let reader = self.api.session().new_reader(self.position());
        (reader.position() == self.position()).then(|| Self {
            api: self.api.clone(),
            reader: reader
                .filtered(self.filter().clone())
                .on_lag(self.lag_policy()),
            notices: self.notices,
            told: self.told.clone(),
        })
    }

    /// Goes on where `leader` is. `since` is what the leader's account was when both were at one place.
    pub(crate) fn follow(&mut self, leader: &Self, since: ReaderLedger) {
        self.reader.follow(&leader.reader, since);
        self.told.clone_from(&leader.told);
    }

    /// Whether the peers of both get the same bytes from here on.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        let same_state = match (&self.told, &other.told) {
            (Some(one), Some(other)) => one.is_same(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.position() == other.position() && same_state
    }

    pub(crate) fn position(&self) -> u64 {
        self.reader.position()
    }

    pub(crate) fn ledger(&self) -> ReaderLedger {
        self.reader.ledger()
    }

    pub(crate) fn filter(&self) -> &Filter {
        self.reader.filter()
    }

    pub(crate) fn lag_policy(&self) -> LagPolicy {
        self.reader.lag_policy()
    }

    pub(crate) fn notices(&self) -> bool {
        self.notices
    }

    pub(crate) fn refilter(&mut self, filter: Filter) {
        self.reader.refilter(filter);
    }

    /// Writes what there is to read now, up to `up_to` and not much more than `bytes`, and what happened to
    /// the session meanwhile.
    pub(crate) fn write(&mut self, out: &mut Piece, up_to: u64, bytes: usize) -> Written {
        let Self {
            api,
            reader,
            notices,
            told,
        } = self;
        let notices = *notices;
        let epoch = notices.then(|| api.session().stream().epoch());
        let left = up_to.saturating_sub(reader.position());
        let limit = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(PIECE_EVENTS);
        let mut gaps = 0;
        let looked_at = reader.read(limit, |item| {
            match item {
                Item::Lost(lost) => {
                    gaps += 1;
                    out.lost(&lost, notices);
                }
                Item::Envelope(envelope) => {
                    if notices {
                        write_session(out, api, told, envelope.stamp());
                    }
                    out.envelope(envelope.seq(), epoch, envelope.json());
                }
            }
            if out.len() < bytes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if notices && looked_at < limit {
            let (state, head) = api.session().snapshot();
            if head == reader.position() {
                write_session(out, api, told, &state);
            }
        }
        let is_full = looked_at == PIECE_EVENTS || out.len() >= bytes;
        Written {
            looked_at,
            gaps,
            is_full,
        }
    }

    /// That the stream is alive, and where it is.
    pub(crate) fn write_beat(&self, out: &mut Piece) {
        self.write_beat_of(out, self.ledger().lost);
    }

    /// The beat of one that stands here and has lost so much.
    pub(crate) fn write_beat_of(&self, out: &mut Piece, lost: u64) {
        let (head, position) = (self.api.session().seq(), self.position());
        out.notice(&Notice::Beat(Beat {
            head,
            position,
            lag: head.saturating_sub(position),
            lost,
        }));
    }

    /// Whether there is anything to tell that is not told yet; wakes `cx` when there may be.
    pub(crate) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            reader,
            notices,
            told,
            ..
        } = self;
        reader.poll_until(cx, |state, _| {
            *notices && !told.as_ref().is_some_and(|told| told.is_same(state))
        })
    }
}

/// Tells that another state holds, unless the peer knows.
fn write_session(
    out: &mut Piece,
    api: &ApiService,
    told: &mut Option<SessionState>,
    state: &SessionState,
) {
    if told.as_ref().is_some_and(|told| told.is_same(state)) {
        return;
    }
    *told = Some(state.clone());
    let head = api.session().seq();
    out.notice(&Notice::Session(SessionNotice {
        state: api.describe(state, head),
        after: state.since(),
    }));
}
