//! The reference: the design of the Go session that Tapline takes the place of, in Rust.
//!
//! - A session takes a mutex around each publish, and reads its configuration under a lock of its own.
//! - The event is copied and the copy stamped: a new map for the metadata, with the session's id.
//! - The seq is given and the JSON is made at each publish, under that mutex, whether it is read or not.
//! - The envelopes, encoded, are in a ring behind a read-write lock.
//! - Each publish makes a channel, puts it in the place of the last one, and closes that: this
//!   wakes every waiting reader.
//! - A reader takes the read lock for one envelope, copies that out, or waits for the channel that is there.
//!
//! It is a port, not a caricature. What Go shares between an event and its copy (`data`, the type's name), this shares; the
//! copied map has strings of its own, where Go's has buckets. Go encodes in a buffer from a pool and allocates
//! what is retained once, at its size: here the buffer is under the mutex. What is refused is refused before
//! the mutex.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hint::black_box;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;
use tapline_oapi::encode::MAX_ENVELOPE_BYTES;
use tapline_oapi::{Category, CategorySet, Event, EventType, SourceKind};

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, ReadsJson, Rival, Wanted};
use crate::{BATCH, RETAINED, SESSION_ID};

pub(crate) struct GoDesign;

/// The same, with the category of what is published switched off.
pub(crate) struct GoDesignFiltered;

pub(crate) struct Publisher(Arc<Session>);

pub(crate) struct Follower {
    session: Arc<Session>,
    position: u64,
}

impl Rival for GoDesign {
    const NAME: &'static str = "go-design";
    type Producer = Publisher;
    type Reader = Follower;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let session = Session::new(CategorySet::USER_FACING.union(CategorySet::ALWAYS));
        for event in wanted.filling() {
            assert!(session.publish(event), "everything is captured here");
        }
        Ok(opened(session, wanted))
    }
}

impl Rival for GoDesignFiltered {
    const NAME: &'static str = "go-design";
    type Producer = Publisher;
    type Reader = Follower;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        // No workload is a captcha.
        let session = Session::new(CategorySet::of(&[Category::Captcha]));
        Ok(opened(session, wanted))
    }
}

fn opened<R: Rival<Producer = Publisher, Reader = Follower>>(
    session: Session,
    wanted: &Wanted<'_>,
) -> Opened<R> {
    let session = Arc::new(session);
    let position = whole(session.ring.read()).newest;
    let follower = |_| Follower {
        session: session.clone(),
        position,
    };
    Opened {
        readers: (0..wanted.readers).map(follower).collect(),
        producers: (0..wanted.producers)
            .map(|_| Publisher(session.clone()))
            .collect(),
    }
}

struct Session {
    config: RwLock<Config>,
    publishing: Mutex<Publishing>,
    ring: RwLock<Ring>,
}

struct Config {
    id: Arc<str>,
    captured: CategorySet,
}

/// What publishing has to itself.
#[derive(Default)]
struct Publishing {
    seq: u64,
    buffer: Vec<u8>,
}

struct Ring {
    slots: Vec<Encoded>,
    newest: u64,
    /// Closed by the next publish.
    wake: Arc<Channel>,
}

/// An envelope as it is retained. Go would share the bytes by garbage collection.
#[derive(Clone)]
struct Encoded {
    seq: u64,
    json: Arc<[u8]>,
}

impl Session {
    fn new(captured: CategorySet) -> Self {
        let nothing = Encoded {
            seq: 0,
            json: Arc::new([]),
        };
        Self {
            config: RwLock::new(Config {
                id: SESSION_ID.into(),
                captured,
            }),
            publishing: Mutex::default(),
            ring: RwLock::new(Ring {
                slots: vec![nothing; RETAINED],
                newest: 0,
                wake: Arc::default(),
            }),
        }
    }

    /// Whether it was captured.
    fn publish(&self, event: &Event) -> bool {
        let id = {
            let config = whole(self.config.read());
            if !config.captured.contains(event.category) {
                return false;
            }
            config.id.clone()
        };
        let mut publishing = whole(self.publishing.lock());
        let publishing = &mut *publishing;
        publishing.seq += 1;
        let seq = publishing.seq;
        let mut envelope = Envelope::stamped(seq, event, &id);
        let json = loop {
            publishing.buffer.clear();
            serde_json::to_writer(&mut publishing.buffer, &envelope)
                .expect("a Vec takes every write");
            if publishing.buffer.len() <= MAX_ENVELOPE_BYTES || envelope.event.truncated {
                break Arc::from(publishing.buffer.as_slice());
            }
            envelope.event.data = Some(RawValue::NULL);
            envelope.event.truncated = true;
        };
        let (evicted, woken) = {
            let mut ring = whole(self.ring.write());
            let slot = seq as usize % ring.slots.len();
            let evicted = mem::replace(&mut ring.slots[slot], Encoded { seq, json });
            ring.newest = seq;
            (evicted, mem::take(&mut ring.wake))
        };
        woken.close();
        drop(evicted);
        true
    }
}

impl Ring {
    /// The envelope after `position`, or the oldest, and how many were lost before it.
    fn after(&self, position: u64) -> Option<(Encoded, u64)> {
        if self.newest <= position {
            return None;
        }
        let oldest = (self.newest + 1).saturating_sub(self.slots.len() as u64);
        let next = oldest.max(position + 1);
        let envelope = self.slots[next as usize % self.slots.len()].clone();
        debug_assert_eq!(envelope.seq, next);
        Some((envelope, next - (position + 1)))
    }
}

/// Go's `chan struct{}`, for one thing only: it is closed once, and wakes all who wait for that.
#[derive(Default)]
struct Channel(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    closed: bool,
    wakers: Vec<Waker>,
}

impl Channel {
    fn close(&self) {
        let woken = {
            let mut waiting = whole(self.0.lock());
            waiting.closed = true;
            mem::take(&mut waiting.wakers)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = whole(self.0.lock());
        if waiting.closed {
            return Poll::Ready(());
        }
        waiting.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

/// The copy that is stamped, as JSON the same as [`tapline_oapi::Envelope`].
#[derive(Serialize)]
struct Envelope<'e> {
    seq: u64,
    event: Copied<'e>,
}

#[derive(Serialize)]
struct Copied<'e> {
    ts: u64,
    #[serde(rename = "type")]
    event_type: &'e EventType,
    category: Category,
    source: CopiedSource<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

#[derive(Serialize)]
struct CopiedSource<'e> {
    kind: SourceKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'e str>,
    metadata: BTreeMap<String, String>,
}

impl<'e> Envelope<'e> {
    fn stamped(seq: u64, event: &'e Event, id: &str) -> Self {
        let mut metadata = event.source.metadata.clone();
        metadata.insert("telemetry_session_id".to_owned(), id.to_owned());
        let named = |name: &&str| !name.is_empty();
        Self {
            seq,
            event: Copied {
                ts: if event.ts == 0 { now() } else { event.ts },
                event_type: &event.event_type,
                category: event.category,
                source: CopiedSource {
                    kind: event.source.kind,
                    event: event.source.event.as_deref().filter(named),
                    metadata,
                },
                data: event.data.as_deref(),
                truncated: event.truncated,
            },
        }
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// What a lock guards: a panic leaves none of it half-changed.
fn whole<G>(locked: Result<G, PoisonError<G>>) -> G {
    locked.unwrap_or_else(PoisonError::into_inner)
}

impl Producer for Publisher {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        black_box(self.0.publish(event));
    }
}

impl Follower {
    /// One envelope, if there is one.
    #[inline]
    fn one(&mut self, look: &mut impl FnMut(&Encoded)) -> Passed {
        let there = whole(self.session.ring.read()).after(self.position);
        let Some((envelope, lost)) = there else {
            return Passed::default();
        };
        self.position = envelope.seq;
        look(&envelope);
        Passed::lost(lost) + Passed::ONE
    }

    #[inline]
    fn batch(&mut self, mut look: impl FnMut(&Encoded)) -> Passed {
        let mut passed = Passed::default();
        while passed.delivered < BATCH as u64 {
            let one = self.one(&mut look);
            if one == Passed::default() {
                break;
            }
            passed += one;
        }
        passed
    }
}

impl Reader for Follower {
    #[inline]
    fn read(&mut self) -> Passed {
        self.batch(|envelope| {
            black_box((envelope.seq, envelope.json.len()));
        })
    }

    async fn next(&mut self) -> Passed {
        loop {
            let wake = {
                let ring = whole(self.session.ring.read());
                (ring.newest <= self.position).then(|| ring.wake.clone())
            };
            let Some(wake) = wake else {
                return self.read();
            };
            poll_fn(|cx| wake.poll_closed(cx)).await;
        }
    }
}

impl ReadsJson for Follower {
    #[inline]
    fn read_json(&mut self) -> Passed {
        self.batch(|envelope| {
            black_box(&*envelope.json);
        })
    }
}

#[cfg(test)]
mod tests {
    use tapline_oapi::encode_envelope;

    use super::*;
    use crate::{TS, corpus, small};

    /// It would be no reference if it did not make the same bytes.
    #[test]
    fn makes_the_json_that_tapline_makes() {
        let session = Session::new(CategorySet::USER_FACING.union(CategorySet::ALWAYS));
        let mut events = corpus();
        events.push(Arc::new(small().with_ts(TS)));
        for (event, seq) in events.iter().zip(1..) {
            assert!(session.publish(event));
            let (made, _) = whole(session.ring.read()).after(seq - 1).unwrap();
            let mut expected = Vec::new();
            let stamp = Some(("telemetry_session_id", SESSION_ID));
            encode_envelope(&mut expected, seq, event.ts, event, stamp);
            assert_eq!(
                String::from_utf8_lossy(&made.json),
                String::from_utf8_lossy(&expected)
            );
        }
    }

    #[test]
    fn data_over_the_limit_is_left_out() {
        let session = Session::new(CategorySet::USER_FACING);
        let mut event = small().with_ts(TS);
        let text = format!("\"{}\"", "x".repeat(MAX_ENVELOPE_BYTES));
        event.data = Some(RawValue::from_string(text).unwrap());
        assert!(session.publish(&event));
        let (made, _) = whole(session.ring.read()).after(0).unwrap();
        let json = String::from_utf8_lossy(&made.json);
        assert!(
            json.ends_with(r#""data":null,"truncated":true}}"#),
            "{json}"
        );
    }
}
