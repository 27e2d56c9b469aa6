//! `async-broadcast`, overflowing, moving an `Arc` of the event.
//!
//! As with [`tokio`](super::tokio) there always is a receiver that never reads: without one it keeps
//! nothing.

use std::future::pending;
use std::hint::black_box;
use std::sync::Arc;

use async_broadcast::{Receiver, RecvError, Sender, TryRecvError};
use tapline_oapi::Event;

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, Rival, Wanted};
use crate::{BATCH, RETAINED};

pub(crate) struct AsyncBroadcast;

pub(crate) struct Sending {
    sender: Sender<Arc<Event>>,
    _idle: Arc<Receiver<Arc<Event>>>,
}

pub(crate) struct Receiving(Receiver<Arc<Event>>);

impl Rival for AsyncBroadcast {
    const NAME: &'static str = "async-broadcast";
    type Producer = Sending;
    type Reader = Receiving;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let (mut sender, idle) = async_broadcast::broadcast(RETAINED);
        sender.set_overflow(true);
        for event in wanted.filling() {
            let sent = sender.try_broadcast(event.clone());
            assert!(sent.is_ok(), "there is a receiver, and it may be overrun");
        }
        let idle = Arc::new(idle);
        Ok(Opened {
            readers: (0..wanted.readers)
                .map(|_| Receiving(sender.new_receiver()))
                .collect(),
            producers: (0..wanted.producers)
                .map(|_| Sending {
                    sender: sender.clone(),
                    _idle: idle.clone(),
                })
                .collect(),
        })
    }
}

impl Producer for Sending {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        black_box(self.sender.try_broadcast(event.clone()).is_ok());
    }
}

impl Receiving {
    /// Of a batch that has begun, what is there.
    #[inline]
    fn rest(&mut self, mut passed: Passed) -> Passed {
        while passed.delivered < BATCH as u64 {
            passed += match self.0.try_recv() {
                Ok(event) => {
                    black_box(event.ts);
                    Passed::ONE
                }
                Err(TryRecvError::Overflowed(lost)) => Passed::lost(lost),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
        }
        passed
    }
}

impl Reader for Receiving {
    #[inline]
    fn read(&mut self) -> Passed {
        self.rest(Passed::default())
    }

    async fn next(&mut self) -> Passed {
        let first = match self.0.recv_direct().await {
            Ok(event) => {
                black_box(event.ts);
                Passed::ONE
            }
            Err(RecvError::Overflowed(lost)) => Passed::lost(lost),
            Err(RecvError::Closed) => pending().await,
        };
        self.rest(first)
    }
}
