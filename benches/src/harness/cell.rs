//! What is measured, and of whom.

use std::sync::Arc;

use tapline_oapi::Event;

use super::fixture::{self, Ready};
use super::options::Options;
use crate::rival::{ReadsJson, Rival};
use crate::rivals::{
    AsyncBroadcast, BareRing, Disruptor, EmptyLoop, GoDesign, GoDesignFiltered, HandOver,
    MutexRing, Tapline, TaplineBatch, TaplineFiltered, Tokio,
};
use crate::{TS, corpus, small};

/// One square of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) mode: Mode,
    pub(super) producers: usize,
    pub(super) readers: usize,
}

/// What the readers do, or what else is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Harness,
    Filtered,
    Unread,
    Drain,
    Corpus,
    Busy,
    Stretch,
    OneByOne,
    Armed,
    Left,
}

impl Mode {
    /// In the order in which they are measured.
    pub(super) const ALL: [Self; 10] = [
        Self::Harness,
        Self::Filtered,
        Self::Unread,
        Self::Drain,
        Self::Corpus,
        Self::Busy,
        Self::Stretch,
        Self::OneByOne,
        Self::Armed,
        Self::Left,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Harness => "harness",
            Self::Filtered => "filtered",
            Self::Unread => "unread",
            Self::Drain => "drain",
            Self::Corpus => "corpus",
            Self::Busy => "busy",
            Self::Stretch => "stretch",
            Self::OneByOne => "one-by-one",
            Self::Armed => "armed",
            Self::Left => "left",
        }
    }

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Harness => "what the harness itself costs",
            Self::Filtered => "the category is off: every event is refused",
            Self::Unread => "no readers",
            Self::Drain => "a full ring is drained in batches; publishing is not measured",
            Self::Corpus => {
                "the recorded session is published, and every reader asks for each envelope's JSON; all on one thread, \
                 per event of all that"
            }
            Self::Busy => "readers take turns on threads that never sleep",
            Self::Stretch => {
                "readers are tasks that sleep, on one thread, while events come without a pause"
            }
            Self::OneByOne => "every publish finds all readers asleep and their thread parked",
            Self::Armed => {
                "every publish finds all readers asleep; their wakers only count, and no thread is woken"
            }
            Self::Left => "readers fell asleep once, were called and have not come back",
        }
    }

    pub(super) fn rivals(self) -> Vec<Entry> {
        match self {
            Self::Harness => vec![Entry::of::<EmptyLoop>(), Entry::of::<HandOver>()],
            Self::Filtered => vec![
                Entry::of::<EmptyLoop>(),
                Entry::of::<TaplineFiltered>(),
                Entry::of::<GoDesignFiltered>(),
            ],
            Self::Corpus => vec![
                Entry::with_json::<Tapline>(),
                Entry::with_json::<GoDesign>(),
            ],
            _ => {
                let mut all = vec![
                    Entry::of::<Tapline>(),
                    Entry::of::<BareRing>(),
                    Entry::of::<Tokio>(),
                    Entry::of::<AsyncBroadcast>(),
                    Entry::of::<Disruptor>(),
                    Entry::of::<MutexRing>(),
                    Entry::of::<GoDesign>(),
                ];
                if self.asleep() {
                    all.push(Entry::unread());
                }
                if self == Self::Unread {
                    // Right behind Tapline: where the cores of a virtual machine are may change.
                    all.insert(1, Entry::ping_pong());
                    all.insert(2, Entry::of::<TaplineBatch>());
                }
                all
            }
        }
    }

    /// Whether readers keep at least one thread of their own busy.
    pub(super) const fn has_reading_threads(self) -> bool {
        matches!(self, Self::Busy | Self::Stretch)
    }

    /// Whether readers are to be woken.
    pub(super) const fn asleep(self) -> bool {
        matches!(
            self,
            Self::Stretch | Self::OneByOne | Self::Armed | Self::Left
        )
    }
}

/// Tapline without readers, beside those that have readers asleep: how much more do they cost?
pub(super) const UNREAD: &str = "tapline-unread";

/// A cache line that two threads hand to each other, beside two producers.
pub(super) const PING_PONG: &str = "ping-pong";

/// A rival in a cell.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) open: fn(&Cell, Events) -> Ready,
}

impl Entry {
    fn of<R: Rival>() -> Self {
        Self {
            name: R::NAME,
            open: fixture::open::<R>,
        }
    }

    fn unread() -> Self {
        Self {
            name: UNREAD,
            open: fixture::open_unread::<Tapline>,
        }
    }

    fn ping_pong() -> Self {
        Self {
            name: PING_PONG,
            open: fixture::open_ping_pong,
        }
    }

    fn with_json<R: Rival<Reader: ReadsJson>>() -> Self {
        Self {
            name: R::NAME,
            open: fixture::open_for_json::<R>,
        }
    }
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    Small,
    Corpus,
}

impl Events {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Corpus => "corpus",
        }
    }

    /// Made anew for each producer, so that two do not meet at one event's reference count.
    pub(super) fn make(self) -> Vec<Arc<Event>> {
        /// So many that an event's count has left the first cache before its turn comes again.
        const SMALL: usize = 1024;
        match self {
            Self::Small => (0..SMALL).map(|_| Arc::new(small().with_ts(TS))).collect(),
            Self::Corpus => corpus(),
        }
    }
}

/// The cells that are asked for, and what the harness costs in any case.
pub(super) fn plan(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |mode, producers: &[usize], readers| {
        for &producers in producers {
            cells.push(Cell {
                mode,
                producers,
                readers,
            });
        }
    };
    let wanted = |mode| options.modes.contains(&mode);
    let producers = &options.producers[..];

    add(Mode::Harness, producers, 0);
    if wanted(Mode::Filtered) {
        add(Mode::Filtered, producers, 0);
    }
    if wanted(Mode::Unread) && options.readers.contains(&0) {
        add(Mode::Unread, producers, 0);
    }
    if wanted(Mode::Drain) {
        add(Mode::Drain, &[1], 1);
    }
    if wanted(Mode::Corpus) {
        add(Mode::Corpus, &[1], 8);
    }
    for &readers in options.readers.iter().filter(|readers| **readers > 0) {
        for mode in [Mode::Busy, Mode::Stretch, Mode::Left] {
            if wanted(mode) {
                add(mode, producers, readers);
            }
        }
        // With one producer only: what they find is made up anew before each publish.
        for mode in [Mode::OneByOne, Mode::Armed] {
            if wanted(mode) {
                add(mode, &[1], readers);
            }
        }
    }
    cells
}
