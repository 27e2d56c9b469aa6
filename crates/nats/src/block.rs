//! What becomes one message: [`Block`], and the message of it: [`Encoded`].

use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use bytes::Bytes;
use tapline_api::{NotPending, Progress, Settled, SharedEnvelope};
use tapline_archive::block::BlockBuilder;
use tapline_events::Epoch;
use tapline_oapi::EventType;
use tapline_telemetry::{Envelope, SessionState};

use crate::message::{Head, SessionChange};
use crate::name::InstanceName;

/// A block is complete at this size, in bytes of NDJSON: a block of an archive.
const MAX_BYTES: usize = 256 * 1024;

/// Or with so many changes of the session, since they are in a header.
const MAX_CHANGES: usize = 32;

/// Less than so many bytes are compressed at once, and more on a thread for it: 100 µs of work.
const INLINE_BYTES: usize = 32 * 1024;

/// A part of the stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    /// What becomes of an item of the reader once this is stored. `None` where more entries of that item follow.
    pub(crate) settles: Option<Settled>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Event(Envelope),
    /// From an archive.
    Archived(SharedEnvelope),
    /// Events that are lost.
    Gap {
        first: u64,
        last: u64,
    },
}

impl Entry {
    pub(crate) fn first(&self) -> u64 {
        match &self.content {
            Content::Event(envelope) => envelope.seq(),
            Content::Archived(envelope) => envelope.seq(),
            Content::Gap { first, .. } => *first,
        }
    }

    pub(crate) fn last(&self) -> u64 {
        match &self.content {
            Content::Event(envelope) => envelope.seq(),
            Content::Archived(envelope) => envelope.seq(),
            Content::Gap { last, .. } => *last,
        }
    }

    fn bytes(&self) -> usize {
        match &self.content {
            Content::Event(envelope) => envelope.json().len() + 1,
            Content::Archived(envelope) => envelope.json().len() + 1,
            Content::Gap { .. } => 64,
        }
    }

    fn state(&self) -> Option<&SessionState> {
        match &self.content {
            Content::Event(envelope) => Some(envelope.stamp()),
            _ => None,
        }
    }
}

/// Entries whose seqs follow each other.
#[derive(Debug, Default)]
pub(crate) struct Block {
    entries: Vec<Entry>,
    bytes: usize,
    /// The state of the session before the first entry, if it is known.
    before: Option<SessionState>,
    /// The state after the last entry.
    state: Option<SessionState>,
    changes: usize,
}

impl Block {
    /// Empty, and the session has this state.
    fn after(state: Option<SessionState>) -> Self {
        Self {
            before: state.clone(),
            state,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        if let Some(state) = entry.state()
            && self.state.as_ref().is_none_or(|it| !it.is_same(state))
        {
            self.state = Some(state.clone());
            self.changes += 1;
        }
        self.entries.push(entry);
    }

    /// Takes what it has, and begins the next one.
    pub(crate) fn take(&mut self) -> Self {
        let next = Self::after(self.state.clone());
        std::mem::replace(self, next)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        MAX_BYTES <= self.bytes || MAX_CHANGES <= self.changes
    }

    pub(crate) fn bytes_left(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// Whether an entry that begins with this seq continues what it has.
    pub(crate) fn is_continued_by(&self, first: u64) -> bool {
        (self.entries.last()).is_none_or(|last| last.last() + 1 == first)
    }

    fn of(before: Option<SessionState>, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut block = Self::after(before);
        for entry in entries {
            block.push(entry);
        }
        block
    }

    /// Its two halves; `None` where it has one entry only.
    pub(crate) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.len() < 2 {
            return Err(self);
        }
        let second = self.entries.split_off(self.len() / 2);
        let first = Self::of(self.before, self.entries);
        let second = Self::of(first.state.clone(), second);
        Ok((first, second))
    }

    /// What is up to this seq, and the rest.
    pub(crate) fn split_after(self, seq: u64) -> (Self, Self) {
        let (mut done, mut rest) = (Vec::new(), Vec::new());
        for mut entry in self.entries {
            if entry.last() <= seq {
                done.push(entry);
                continue;
            }
            if let Content::Gap { first, .. } = &mut entry.content {
                *first = (*first).max(seq + 1);
            }
            rest.push(entry);
        }
        let done = Self::of(self.before, done);
        let rest = Self::of(done.state.clone(), rest);
        (done, rest)
    }

    /// A gap instead of what it has, which can never be stored.
    pub(crate) fn rejected(self) -> Self {
        let entries = self.entries.into_iter().map(|entry| Entry {
            settles: entry.settles.map(|_| Settled::Rejected),
            content: Content::Gap {
                first: entry.first(),
                last: entry.last(),
            },
        });
        Self::of(self.before, entries)
    }

    /// What is from an archive is recovered: it belongs to the gap that comes next, or is settled with it.
    pub(crate) fn settle(&self, progress: &Progress) -> Result<(), NotPending> {
        let is_archived = |it: &Entry| matches!(it.content, Content::Archived(_));
        let is_same = |a: &Entry, b: &Entry| {
            a.settles == b.settles && is_archived(a) == is_archived(b)
                // A gap ends with an entry of the archive.
                && !(is_archived(a) && a.settles.is_some())
        };
        for run in self.entries.chunk_by(is_same) {
            if is_archived(&run[0]) {
                progress.recover(run.len() as u64);
            }
            if let Some(settled) = run[0].settles {
                progress.settle(settled, run.len())?;
            }
        }
        Ok(())
    }

    /// From which seq on which session holds. The first one holds at the start, where that is known.
    fn sessions(&self) -> Vec<SessionChange> {
        let events = self.entries.iter().filter_map(Entry::state);
        let mut changes: Vec<SessionChange> = Vec::new();
        let mut known: Option<&SessionState> = None;
        for state in self.before.iter().chain(events) {
            if known.is_none_or(|known| !known.is_same(state)) {
                changes.push(SessionChange::of(state));
                known = Some(state);
            }
        }
        // What has ended before the first entry says nothing about it.
        let first = self.entries.first().map_or(0, Entry::first);
        while changes.get(1).is_some_and(|next| next.after < first) {
            changes.remove(0);
        }
        changes
    }
}

/// A block and its message.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) block: Block,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Makes messages of blocks.
#[derive(Debug)]
pub(crate) struct Encoder {
    builder: Option<BlockBuilder>,
    instance: InstanceName,
    epoch: Epoch,
}

impl Encoder {
    pub(crate) fn new(instance: InstanceName, epoch: Epoch) -> Self {
        Self {
            builder: None,
            instance,
            epoch,
        }
    }

    /// The message of a block that is not empty. `previous`: the last seq that was stored before.
    pub(crate) async fn encode(&mut self, block: Block, previous: u64) -> Encoded {
        let builder = self.builder.take().unwrap_or_default();
        let epoch = self.epoch;
        let instance = self.instance.clone();
        let is_small = block.bytes < INLINE_BYTES;
        let work = move || encode(builder, block, previous, epoch, &instance);
        let (builder, encoded) = match is_small {
            true => work(),
            false => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime shuts down, and drops this, too.
                    Err(_) => std::future::pending().await,
                },
            },
        };
        self.builder = Some(builder);
        encoded
    }
}

fn encode(
    mut builder: BlockBuilder,
    block: Block,
    previous: u64,
    epoch: Epoch,
    instance: &InstanceName,
) -> (BlockBuilder, Encoded) {
    for entry in &block.entries {
        match &entry.content {
            Content::Event(envelope) => {
                let event = envelope.event();
                builder.push(
                    envelope.seq(),
                    envelope.ts(),
                    event.category,
                    &event.event_type,
                    envelope.json(),
                );
            }
            Content::Archived(envelope) => {
                let event_type = EventType::new(envelope.event_type());
                builder.push(
                    envelope.seq(),
                    envelope.ts(),
                    envelope.category(),
                    &event_type.expect("an event that was stored has a type"),
                    envelope.json(),
                );
            }
            Content::Gap { first, last } => builder.push_gap(*first..=*last),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX));
    let mut payload = Vec::new();
    let meta = builder.finish(epoch, previous, now, &mut payload);
    let meta = meta.expect("a block that is encoded has an entry");
    let headers = Head::headers(&meta, instance, &block.sessions());
    let encoded = Encoded {
        block,
        first: meta.first,
        last: meta.last,
        headers,
        payload: payload.into(),
    };
    (builder, encoded)
}
