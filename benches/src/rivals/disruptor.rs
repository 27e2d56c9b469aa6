//! The crate `disruptor`: claim a number, fill the slot, and wait for the slowest reader.
//!
//! What it cannot do, and has no figure for:
//!
//! - **No reader at all.** A ring is built for its readers, and without one it has nothing to wait for.
//! - **Readers that sleep and are woken.** Its readers spin, or nap for a fixed time.
//! - **Readers that come, go, or fall behind.** They are fixed when it is built, and a full ring
//!   stops the producers until the slowest has read on: with more readers than cores its figure is their speed.
//!
//! What it is built for it does at its best here: it has the single producer's ring where there is one
//! producer, spins, and hands out events by reference and in batches.

use std::future::{Future, pending};
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::time::{Duration, Instant};

use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, MultiProducer, MultiProducerBarrier,
    Producer as Publishes, SingleProducer, SingleProducerBarrier, build_multi_producer,
    build_single_producer,
};
use tapline_oapi::Event;

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, Rival, Wanted};
use crate::{BATCH, RETAINED};

pub(crate) struct Disruptor;

type Slot = Arc<Event>;

pub(crate) enum Publishing {
    Alone(SingleProducer<Slot, MultiConsumerBarrier>),
    Together(MultiProducer<Slot, MultiConsumerBarrier>),
}

pub(crate) enum Polling {
    Alone(EventPoller<Slot, SingleProducerBarrier>),
    Together(EventPoller<Slot, MultiProducerBarrier>),
}

impl Rival for Disruptor {
    const NAME: &'static str = "disruptor";
    type Producer = Publishing;
    type Reader = Polling;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        if wanted.readers == 0 {
            return Err(CannotDo("it is built for its readers, and needs one"));
        }
        if wanted.asleep {
            return Err(CannotDo("its readers spin: none can sleep and be woken"));
        }
        let mut filling = wanted.filling();
        let fill = || {
            let event = filling.next().expect("there is one for each slot");
            event.clone()
        };
        let mut readers = Vec::new();
        let producers = if wanted.producers == 1 {
            let mut builder = build_single_producer(RETAINED, fill, BusySpin).with_multi_consumer();
            for _ in 0..wanted.readers {
                let (reader, more) = builder.new_event_poller();
                readers.push(Polling::Alone(reader));
                builder = more;
            }
            vec![Publishing::Alone(builder.build())]
        } else {
            let mut builder = build_multi_producer(RETAINED, fill, BusySpin).with_multi_consumer();
            for _ in 0..wanted.readers {
                let (reader, more) = builder.new_event_poller();
                readers.push(Polling::Together(reader));
                builder = more;
            }
            let producer = builder.build();
            (0..wanted.producers)
                .map(|_| Publishing::Together(producer.clone()))
                .collect()
        };
        Ok(Opened { producers, readers })
    }
}

impl Producer for Publishing {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        match self {
            Self::Alone(producer) => publish(producer, event),
            Self::Together(producer) => publish(producer, event),
        }
    }
}

/// As `publish` of the crate, but not for ever.
#[inline]
fn publish(producer: &mut impl Publishes<Slot>, event: &Arc<Event>) {
    let put = |slot: &mut Slot| *slot = event.clone();
    if producer.try_publish(put).is_ok() {
        return;
    }
    /// A thousand readers, one thread, a full ring each: a hundred times that.
    const PATIENCE: Duration = Duration::from_secs(20);
    let begin = Instant::now();
    loop {
        for _ in 0..1024 {
            if producer.try_publish(put).is_ok() {
                return;
            }
            spin_loop();
        }
        let waited = begin.elapsed();
        assert!(waited < PATIENCE, "no reader of the disruptor has moved");
    }
}

impl Reader for Polling {
    #[inline]
    fn read(&mut self) -> Passed {
        match self {
            Self::Alone(reader) => match reader.take(BATCH as u64) {
                Ok(mut events) => look(&mut events),
                Err(_) => Passed::default(),
            },
            Self::Together(reader) => match reader.take(BATCH as u64) {
                Ok(mut events) => look(&mut events),
                Err(_) => Passed::default(),
            },
        }
    }

    /// Never asked for: see [`Rival::open`].
    fn next(&mut self) -> impl Future<Output = Passed> + Send {
        pending()
    }
}

#[inline]
fn look<'e>(events: impl Iterator<Item = &'e Slot>) -> Passed {
    let mut passed = Passed::default();
    for event in events {
        black_box(event.ts);
        passed += Passed::ONE;
    }
    passed
}
