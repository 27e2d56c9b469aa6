//! From a position in the stream to bytes for a socket: [`Feed`].

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use tapline_api::{Cursor, Delivery, Epoch, Filter, ReaderLedger, Subscription};
use tapline_oapi::{Beat, Notice, OnLag};

use crate::pace::is_costly;
use crate::stream::frames::FrameBuffer;

/// How many events one read looks at, at the most.
const BATCH_EVENTS: usize = 256;

/// The same where each of them is costly: some hundred microseconds.
const COSTLY_EVENTS: usize = 32;

/// A subscription, and how its events are written.
pub(crate) struct Feed<S> {
    subscription: S,
    /// Whether the client asked for notices: named events about the stream itself. With them, ids carry
    /// the epoch.
    notices: bool,
    /// The epoch of the stream.
    present: Epoch,
}

/// What one [`Feed::write`] did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    /// How many events were looked at, filtered ones included.
    pub(crate) looked_at: usize,
    /// How many events were written.
    pub(crate) delivered: u64,
    /// How many gaps were reported.
    pub(crate) gaps: u64,
    /// How many events were lost with them, at most.
    pub(crate) lost: u64,
    /// Whether it stopped at a bound of its own, so that there may be more.
    pub(crate) is_full: bool,
}

impl<S: Subscription> Feed<S> {
    /// `present` is the epoch of the stream.
    pub(crate) fn new(subscription: S, notices: bool, present: Epoch) -> Self {
        Self {
            subscription,
            notices,
            present,
        }
    }

    /// One that reads from the same position on, for this one and for others like it. `None` where that
    /// position is no longer retained.
    pub(crate) fn beside(&self) -> Option<Self> {
        Some(Self {
            subscription: self.subscription.beside()?,
            notices: self.notices,
            present: self.present,
        })
    }

    /// Moves to where `leader` is. `since` is the leader's ledger of the moment when both were at one
    /// position.
    pub(crate) fn follow(&mut self, leader: &Self, since: ReaderLedger) {
        self.subscription.follow(&leader.subscription, since);
    }

    /// Whether both write the same bytes from here on.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.subscription.is_beside(&other.subscription)
    }

    pub(crate) fn position(&self) -> u64 {
        self.subscription.position()
    }

    /// The epoch of its position, where that is not the present one: it reads an earlier run in an archive.
    pub(crate) fn earlier_epoch(&self) -> Option<Epoch> {
        let epoch = self.subscription.epoch();
        (epoch != self.present).then_some(epoch)
    }

    /// Whether it reads the stream itself, so that another one may read for it.
    pub(crate) fn is_live(&self) -> bool {
        self.subscription.is_live()
    }

    /// The epoch that its ids carry: with notices, and where they would mean something else without.
    fn id_epoch(&self) -> Option<Epoch> {
        match self.notices {
            true => Some(self.subscription.epoch()),
            false => self.earlier_epoch(),
        }
    }

    /// Where a client resumes that has received all up to here.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            seq: self.position(),
            epoch: self.id_epoch(),
        }
    }

    pub(crate) fn ledger(&self) -> ReaderLedger {
        self.subscription.ledger()
    }

    pub(crate) fn filter(&self) -> &Filter {
        self.subscription.filter()
    }

    pub(crate) fn overtaken(&self) -> OnLag {
        self.subscription.overtaken()
    }

    /// Whether the stream ends at its first loss.
    pub(crate) fn closes_on_lag(&self) -> bool {
        self.overtaken() == OnLag::Close
    }

    pub(crate) fn notices(&self) -> bool {
        self.notices
    }

    pub(crate) fn refilter(&mut self, filter: Filter) {
        self.subscription.refilter(filter);
    }

    fn batch_events(&self) -> usize {
        if is_costly(self.filter()) {
            COSTLY_EVENTS
        } else {
            BATCH_EVENTS
        }
    }

    /// Writes what there is to read now, up to the seq `up_to` and up to about `bytes` bytes; nothing behind a gap
    /// after which the stream [closes](Self::closes_on_lag).
    pub(crate) fn write(&mut self, out: &mut FrameBuffer, up_to: u64, bytes: usize) -> Written {
        let epoch = self.id_epoch();
        let (notices, closes_on_lag) = (self.notices, self.closes_on_lag());
        let left = up_to.saturating_sub(self.position());
        let limit = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.batch_events());
        let (mut delivered, mut gaps, mut all_lost) = (0, 0, 0);
        let looked_at = self.subscription.read(limit, |delivery| {
            match delivery {
                Delivery::Envelope { seq, json } => {
                    delivered += 1;
                    out.envelope(seq, epoch, json);
                }
                Delivery::Lost(lost) => {
                    gaps += 1;
                    all_lost += lost.at_most();
                    out.lost(&lost, notices, epoch);
                    if closes_on_lag {
                        return ControlFlow::Break(());
                    }
                }
                Delivery::Session(notice) => out.notice(&Notice::Session(*notice), None),
                Delivery::Epoch(notice) => out.epoch(&notice, notices),
            }
            if out.len() < bytes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        let is_full = looked_at == self.batch_events() || out.len() >= bytes;
        Written {
            looked_at,
            delivered,
            gaps,
            lost: all_lost,
            is_full,
        }
    }

    /// Writes a beat: the stream is alive, and where it is. With its id the resume point moves on also where
    /// all events are filtered.
    pub(crate) fn write_beat(&self, out: &mut FrameBuffer) {
        self.write_beat_of(out, self.ledger().lost);
    }

    /// The beat of a stream at this position that has lost so many events.
    pub(crate) fn write_beat_of(&self, out: &mut FrameBuffer, lost: u64) {
        let (head, position) = (self.subscription.head(), self.position());
        let beat = Notice::Beat(Beat {
            head,
            position,
            lag: head.saturating_sub(position),
            lost,
        });
        out.notice(&beat, Some(self.cursor()));
    }

    /// Ready when there may be something to write; otherwise wakes `cx` when there may be.
    pub(crate) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.subscription.poll_news(cx)
    }
}
