//! An event with its seq, held in two ways: [`Envelope`] owns it, [`EnvelopeRef`] borrows it for a visit.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arcstr::ArcStr;
use tapline_oapi::Event;
use tapline_oapi::encode::{EnvelopeJson, encode_head};
use tapline_ring::{Kept, Record, RecordRef};

use crate::stamp::Stamp;

/// What the ring holds of an event: 32 bytes. The order in memory: the last field is written to when its JSON is asked for.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) event: Arc<Event>,
    /// Microseconds since the Unix epoch: the event's own, or when it was published.
    pub(crate) ts: u64,
    /// Of the JSON, what is before `data`. A thin pointer: a record is one cache line with it.
    head: OnceLock<ArcStr>,
}

impl Entry {
    pub(crate) fn new(event: Arc<Event>, ts: u64) -> Self {
        Self {
            event,
            ts,
            head: OnceLock::new(),
        }
    }

    /// Its size in memory, in bytes, once its JSON has been asked for.
    pub(crate) fn weight<M>(&self) -> u64 {
        // The record and the event, each with its two reference counts.
        let fixed = size_of::<Record<Self, M>>() + size_of::<Event>() + 32;
        let source = &self.event.source;
        let data = self.event.data.as_ref().map_or(0, |data| data.get().len());
        let mut texts = source.event.as_ref().map_or(0, String::len);
        // Most have none, and this runs in every publish: an iterator over nothing is not free.
        if !source.metadata.is_empty() {
            for (key, value) in &source.metadata {
                texts += key.len() + value.len() + 64;
            }
        }
        // Once as the event has it, and all but `data` once more in its JSON.
        (fixed + data + 2 * texts + JSON_FIXED) as u64
    }
}

/// Space in an envelope's JSON for all but `data`: the fixed parts, the stamp and a few short names.
const JSON_FIXED: usize = 320;

/// An event with its seq. Valid for as long as it is held, retained or not.
pub struct Envelope<M = ()>(Kept<Entry, M>);

/// An [`Envelope`] that is only visited: costs no reference count.
pub struct EnvelopeRef<'a, M = ()>(RecordRef<'a, Entry, M>);

/// What can be asked of an envelope, however it is held.
macro_rules! readable {
    () => {
        /// 1, 2, 3 … over the life of the stream.
        pub fn seq(&self) -> u64 {
            self.0.seq()
        }

        /// Microseconds since the Unix epoch: the event's own, or when it was published.
        pub fn ts(&self) -> u64 {
            self.0.value().ts
        }

        /// The event as its producer made it: the JSON has the `ts` and the stamp, too.
        pub fn event(&self) -> &Event {
            &self.0.value().event
        }

        /// The stamp that was in force.
        pub fn stamp(&self) -> &M {
            self.0.state()
        }

        /// `{"seq":N,"event":{…}}`. What is before `data` is made when it is first asked for, and shared from then on;
        /// `data` is lent by the event.
        pub fn json(&self) -> EnvelopeJson<'_> {
            json(&self.0)
        }
    };
}

/// With a state of one word, as a session's is.
#[cfg(all(test, target_pointer_width = "64"))]
#[test]
fn a_record_is_one_cache_line() {
    assert_eq!(size_of::<Record<Entry, Arc<()>>>(), 64);
}

impl<M: Stamp> Envelope<M> {
    pub(crate) fn new(record: Kept<Entry, M>) -> Self {
        Self(record)
    }

    readable!();
}

impl<'a, M: Stamp> EnvelopeRef<'a, M> {
    pub(crate) fn new(record: RecordRef<'a, Entry, M>) -> Self {
        Self(record)
    }

    readable!();

    /// Keeps it beyond the visit: one reference count.
    pub fn keep(&self) -> Envelope<M> {
        Envelope(self.0.keep())
    }
}

fn json<M: Stamp>(record: &Record<Entry, M>) -> EnvelopeJson<'_> {
    let entry = record.value();
    let head = entry.head.get_or_init(|| {
        let stamp = record.state().metadata();
        with_head(record.seq(), entry.ts, &entry.event, stamp, |head| {
            ArcStr::from(head)
        })
    });
    EnvelopeJson::new(head, &entry.event)
}

/// Shows the head. It is made in a buffer that the thread keeps, so that one to be retained is allocated once, and has not
/// a byte more than it needs.
fn with_head<T>(
    seq: u64,
    ts: u64,
    event: &Event,
    stamp: Option<(&str, &str)>,
    look: impl FnOnce(&str) -> T,
) -> T {
    /// Nearly every head is shorter than a kilobyte. A buffer that had to be larger than this is not kept.
    const MOST_KEPT: usize = 16 * 1024;
    thread_local! {
        static BUFFER: Cell<String> = const { Cell::new(String::new()) };
    }
    // A thread that ends may have none any more.
    let mut head = BUFFER.try_with(Cell::take).unwrap_or_default();
    head.clear();
    encode_head(&mut head, seq, ts, event, stamp);
    let looked = look(&head);
    if head.capacity() <= MOST_KEPT {
        let _ = BUFFER.try_with(|buffer| buffer.set(head));
    }
    looked
}

/// How many bytes its JSON has.
pub(crate) fn json_len(seq: u64, ts: u64, event: &Event, stamp: Option<(&str, &str)>) -> usize {
    with_head(seq, ts, event, stamp, |head| {
        EnvelopeJson::new(head, event).len()
    })
}

impl<M> Clone for Envelope<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Clone for EnvelopeRef<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for EnvelopeRef<'_, M> {}

impl<M: Stamp> fmt::Debug for Envelope<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Envelope").field(&self.json()).finish()
    }
}

impl<M: Stamp> fmt::Debug for EnvelopeRef<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvelopeRef").field(&self.json()).finish()
    }
}
