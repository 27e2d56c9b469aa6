//! The bare ring of Tapline: the same order, eviction and waking, and no session in front.

use std::future::poll_fn;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use tapline_oapi::Event;
use tapline_ring::{ReadItem, Reader as RingReader, Ring};

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, Rival, Wanted};
use crate::{BATCH, RETAINED, append};

pub(crate) struct BareRing;

pub(crate) struct Appending(Arc<Ring<Arc<Event>>>);

pub(crate) struct Following(RingReader<Arc<Event>>);

impl Rival for BareRing {
    const NAME: &'static str = "ring";
    type Producer = Appending;
    type Reader = Following;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let ring = Arc::new(Ring::new(RETAINED, ()).expect("there is memory for so few slots"));
        for event in wanted.filling() {
            append(&ring, event.clone());
        }
        let head = ring.head();
        Ok(Opened {
            readers: (0..wanted.readers)
                .map(|_| Following(ring.reader(head)))
                .collect(),
            producers: (0..wanted.producers)
                .map(|_| Appending(ring.clone()))
                .collect(),
        })
    }
}

impl Producer for Appending {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        append(&self.0, event.clone());
    }
}

impl Reader for Following {
    #[inline]
    fn read(&mut self) -> Passed {
        let mut passed = Passed::default();
        self.0.read(BATCH, |item| {
            match item {
                ReadItem::Record(record) => {
                    black_box((record.seq(), record.value().ts));
                    passed += Passed::ONE;
                }
                ReadItem::Lost(lost) => passed += Passed::lost(lost.count()),
            }
            ControlFlow::Continue(())
        });
        passed
    }

    async fn next(&mut self) -> Passed {
        poll_fn(|cx| {
            self.0
                .poll_until(cx, |reader| reader.is_ready().then_some(()))
        })
        .await;
        self.read()
    }
}
