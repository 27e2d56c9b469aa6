//! `tokio::sync::broadcast`, moving an `Arc` of the event.
//!
//! It keeps nothing where there is no receiver. So there always is one that never reads, and a full channel
//! holds as many events as the others.

use std::future::pending;
use std::hint::black_box;
use std::sync::Arc;

use tapline_oapi::Event;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, Rival, Wanted};
use crate::{BATCH, RETAINED};

pub(crate) struct Tokio;

pub(crate) struct Sending {
    sender: Sender<Arc<Event>>,
    _idle: Arc<Receiver<Arc<Event>>>,
}

pub(crate) struct Receiving(Receiver<Arc<Event>>);

impl Rival for Tokio {
    const NAME: &'static str = "tokio";
    type Producer = Sending;
    type Reader = Receiving;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let (sender, idle) = broadcast::channel(RETAINED);
        for event in wanted.filling() {
            assert!(sender.send(event.clone()).is_ok(), "there is a receiver");
        }
        let idle = Arc::new(idle);
        Ok(Opened {
            readers: (0..wanted.readers)
                .map(|_| Receiving(sender.subscribe()))
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
        black_box(self.sender.send(event.clone()).is_ok());
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
                Err(TryRecvError::Lagged(lost)) => Passed::lost(lost),
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
        let first = match self.0.recv().await {
            Ok(event) => {
                black_box(event.ts);
                Passed::ONE
            }
            Err(RecvError::Lagged(lost)) => Passed::lost(lost),
            Err(RecvError::Closed) => pending().await,
        };
        self.rest(first)
    }
}
