//! What one would write first: a ring behind a mutex.
//!
//! A publish takes the lock, puts the event in, takes the oldest out and the list of those who
//! sleep along; it drops and wakes when the lock is free again. A reader takes the lock once for each
//! batch, and looks at the events when it is free again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::hint::black_box;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tapline_oapi::Event;

use crate::BATCH;
use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, Rival, Wanted};

pub(crate) struct MutexRing;

pub(crate) struct Publisher {
    ring: Arc<Mutex<Ring>>,
    /// Where it calls the sleepers from: without an allocation for each publish.
    called: Vec<Waker>,
}

pub(crate) struct Follower {
    ring: Arc<Mutex<Ring>>,
    position: u64,
    /// Its place among the sleepers, and in which list of them that is.
    waits_at: (u64, usize),
    batch: Vec<Arc<Event>>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The seq of the newest.
    head: u64,
    sleepers: Vec<Waker>,
    /// How often the list of sleepers was taken along.
    lists: u64,
}

impl Rival for MutexRing {
    const NAME: &'static str = "mutex-ring";
    type Producer = Publisher;
    type Reader = Follower;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let events: VecDeque<_> = wanted.filling().cloned().collect();
        let head = events.len() as u64;
        let ring = Arc::new(Mutex::new(Ring {
            events,
            head,
            lists: 1,
            ..Ring::default()
        }));
        let follower = |_| Follower {
            ring: ring.clone(),
            position: head,
            waits_at: (0, 0),
            batch: Vec::with_capacity(BATCH),
        };
        let publisher = |_| Publisher {
            ring: ring.clone(),
            called: Vec::new(),
        };
        Ok(Opened {
            readers: (0..wanted.readers).map(follower).collect(),
            producers: (0..wanted.producers).map(publisher).collect(),
        })
    }
}

/// A panic leaves the ring whole.
fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Producer for Publisher {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        let event = event.clone();
        let evicted = {
            let mut ring = lock(&self.ring);
            let evicted = ring.events.pop_front();
            ring.events.push_back(event);
            ring.head += 1;
            if !ring.sleepers.is_empty() {
                mem::swap(&mut ring.sleepers, &mut self.called);
                ring.lists += 1;
            }
            evicted
        };
        drop(evicted);
        self.called.drain(..).for_each(Waker::wake);
    }
}

impl Ring {
    /// Copies a batch out, and returns how many were lost before it.
    fn copy(&self, position: u64, batch: &mut Vec<Arc<Event>>) -> u64 {
        let oldest = self.head - self.events.len() as u64 + 1;
        let next = oldest.max(position + 1);
        let from = (next - oldest) as usize;
        let to = self.events.len().min(from + BATCH);
        batch.extend(self.events.range(from..to).cloned());
        next - (position + 1)
    }
}

impl Follower {
    /// What has been copied out.
    fn pass(&mut self, lost: u64) -> Passed {
        let delivered = self.batch.len() as u64;
        for event in self.batch.drain(..) {
            black_box(event.ts);
        }
        self.position += lost + delivered;
        Passed { delivered, lost }
    }
}

impl Reader for Follower {
    #[inline]
    fn read(&mut self) -> Passed {
        let lost = lock(&self.ring).copy(self.position, &mut self.batch);
        self.pass(lost)
    }

    async fn next(&mut self) -> Passed {
        let lost = poll_fn(|cx| {
            let mut ring = lock(&self.ring);
            if self.position < ring.head {
                return Poll::Ready(ring.copy(self.position, &mut self.batch));
            }
            let (list, place) = self.waits_at;
            if list == ring.lists {
                ring.sleepers[place].clone_from(cx.waker());
            } else {
                self.waits_at = (ring.lists, ring.sleepers.len());
                ring.sleepers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        self.pass(lost)
    }
}
