//! What the harness itself costs: measured as if it were a rival, and taken off the others.

use std::future::{Future, pending};
use std::hint::black_box;
use std::sync::Arc;

use tapline_oapi::Event;

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, Rival, Wanted};

/// A loop over the events that looks at each.
pub(crate) struct EmptyLoop;

/// The same, and one more reference to each event, taken and dropped: what all who keep an event do,
/// if not at the same moment.
pub(crate) struct HandOver;

pub(crate) struct Looks;

pub(crate) struct TakesAndDrops;

/// There is none.
pub(crate) enum NoReader {}

impl Rival for EmptyLoop {
    const NAME: &'static str = "empty-loop";
    type Producer = Looks;
    type Reader = NoReader;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        Ok(Opened {
            producers: (0..wanted.producers).map(|_| Looks).collect(),
            readers: none(wanted)?,
        })
    }
}

impl Rival for HandOver {
    const NAME: &'static str = "hand-over";
    type Producer = TakesAndDrops;
    type Reader = NoReader;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        Ok(Opened {
            producers: (0..wanted.producers).map(|_| TakesAndDrops).collect(),
            readers: none(wanted)?,
        })
    }
}

fn none(wanted: &Wanted<'_>) -> Result<Vec<NoReader>, CannotDo> {
    match wanted.readers {
        0 => Ok(Vec::new()),
        _ => Err(CannotDo("no reader could read it")),
    }
}

impl Producer for Looks {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        black_box(event);
    }
}

impl Producer for TakesAndDrops {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        black_box(event.clone());
    }
}

impl Reader for NoReader {
    fn read(&mut self) -> Passed {
        match *self {}
    }

    fn next(&mut self) -> impl Future<Output = Passed> + Send {
        pending()
    }
}
