//! What all that is measured side by side has in common: producers, and readers with a position each.

use std::future::Future;
use std::ops::{Add, AddAssign};
use std::sync::Arc;

use tapline_oapi::Event;

use crate::RETAINED;

/// Something that carries events from producers to readers.
pub(crate) trait Rival: 'static {
    /// As it is called in tables and on the command line.
    const NAME: &'static str;
    type Producer: Producer;
    type Reader: Reader;

    /// A new one as asked for, with its readers at the head.
    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo>;
}

/// What is asked of a rival.
pub(crate) struct Wanted<'a> {
    pub(crate) producers: usize,
    pub(crate) readers: usize,
    /// Whether readers are to sleep, and be woken.
    pub(crate) asleep: bool,
    /// What it is full of before it is measured: these, over and over.
    pub(crate) filling: &'a [Arc<Event>],
}

impl<'a> Wanted<'a> {
    /// So many events that everything that is published from then on has to evict one, as it will
    /// for most of a program's life.
    pub(crate) fn filling(&self) -> impl Iterator<Item = &'a Arc<Event>> {
        self.filling.iter().cycle().take(RETAINED)
    }
}

/// What a rival has been opened with.
pub(crate) struct Opened<R: Rival + ?Sized> {
    pub(crate) producers: Vec<R::Producer>,
    pub(crate) readers: Vec<R::Reader>,
}

/// Why a rival has no figure here, in a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CannotDo(pub(crate) &'static str);

pub(crate) trait Producer: Send + 'static {
    /// Hands the event over. The caller keeps its own reference, so a rival that keeps the event
    /// takes one more. Always inlined: what the compiler makes of a call is not to depend on how many rivals there are.
    fn publish(&mut self, event: &Arc<Event>);

    /// Hands over several that are at hand.
    #[inline(always)]
    fn publish_all<'e>(&mut self, events: impl Iterator<Item = &'e Arc<Event>>) {
        for event in events {
            self.publish(event);
        }
    }
}

/// A reader looks at each event for a moment (its seq, where there is one, and one field), and keeps none.
pub(crate) trait Reader: Send + 'static {
    /// Passes what there is, up to [`BATCH`](crate::BATCH) events, and does not wait.
    fn read(&mut self) -> Passed;

    /// The same, having slept until there was something.
    fn next(&mut self) -> impl Future<Output = Passed> + Send;
}

/// A reader that is after the JSON of each event, as it goes over the wire.
pub(crate) trait ReadsJson: Reader {
    /// As [`Reader::read`].
    fn read_json(&mut self) -> Passed;
}

/// How far a reader has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Passed {
    pub(crate) delivered: u64,
    /// Overtaken: evicted before it was read.
    pub(crate) lost: u64,
}

impl Passed {
    pub(crate) const ONE: Self = Self {
        delivered: 1,
        lost: 0,
    };

    pub(crate) fn lost(lost: u64) -> Self {
        Self { delivered: 0, lost }
    }

    pub(crate) fn all(self) -> u64 {
        self.delivered + self.lost
    }
}

impl Add for Passed {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            delivered: self.delivered + more.delivered,
            lost: self.lost + more.lost,
        }
    }
}

impl AddAssign for Passed {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}
