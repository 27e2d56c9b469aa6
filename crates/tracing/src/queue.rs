//! The queue between log statements and the thread that sends: [`Queue`].

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::time::SystemTime;

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use serde_json::value::RawValue;
use tapline_oapi::Event;
use tokio::sync::Notify;

use crate::counts::Counters;
use crate::output::Output;

/// What an event has beside its data, roughly.
const OVERHEAD: usize = 256;

/// Bounded by a count and by bytes. Pushing never waits; what does not fit is counted as lost.
pub(crate) struct Queue {
    events: ArrayQueue<Event>,
    bytes: AtomicUsize,
    max_bytes: usize,
    /// Whether the thread sleeps until there is an event. So a push makes a system call only for the first one after a pause.
    is_idle: AtomicBool,
    has_events: Notify,
    is_closed: AtomicBool,
    counters: Arc<Counters>,
}

impl Queue {
    pub(crate) fn new(max_events: usize, max_bytes: usize, counters: Arc<Counters>) -> Self {
        Self {
            events: ArrayQueue::new(max_events.max(1)),
            bytes: AtomicUsize::new(0),
            max_bytes,
            is_idle: AtomicBool::new(false),
            has_events: Notify::new(),
            is_closed: AtomicBool::new(false),
            counters,
        }
    }

    /// The next event, and its size in bytes.
    pub(crate) fn pop(&self) -> Option<(Event, usize)> {
        let event = self.events.pop()?;
        let size = size_of(&event);
        self.bytes.fetch_sub(size, Relaxed);
        Some((event, size))
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Ends when there is an event, or may be one.
    ///
    /// Cancel safe.
    pub(crate) async fn not_empty(&self) {
        // Either the event of a push is seen here, or the push sees that the thread is idle: each stores, then loads the other's, with
        // a fence in between.
        self.is_idle.store(true, SeqCst);
        fence(SeqCst);
        if self.events.is_empty() {
            self.has_events.notified().await;
        }
        self.is_idle.store(false, SeqCst);
    }

    /// From now on every event is lost.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    /// What is queued is lost.
    pub(crate) fn lose_all(&self) {
        while self.pop().is_some() {
            self.counters.lost.fetch_add(1, Relaxed);
        }
    }

    fn push(&self, mut event: Event) -> bool {
        if self.is_closed.load(Relaxed) {
            return false;
        }
        let size = size_of(&event);
        if self.max_bytes < self.bytes.fetch_add(size, Relaxed).saturating_add(size) {
            self.bytes.fetch_sub(size, Relaxed);
            return false;
        }
        event.ts = now();
        if self.events.push(event).is_err() {
            self.bytes.fetch_sub(size, Relaxed);
            return false;
        }
        fence(SeqCst);
        if self.is_idle.load(SeqCst) && self.is_idle.swap(false, SeqCst) {
            self.has_events.notify_one();
        }
        true
    }
}

impl Output for Queue {
    fn offer(&self, event: Event) {
        if !self.push(event) {
            self.counters.lost.fetch_add(1, Relaxed);
        }
    }
}

fn size_of(event: &Event) -> usize {
    OVERHEAD
        + event
            .data
            .as_deref()
            .map_or(0, |data| RawValue::get(data).len())
}

/// Microseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(0))
}
