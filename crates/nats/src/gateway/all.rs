//! One stream of many instances: [`AllReader`].
//!
//! A task for each partition reads its blocks in their order: first what is stored, then what the gateway's consumer
//! delivers. A position in it is a place in each partition, so a cursor is as long as there are partitions, however many
//! instances there are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use tapline_api::{
    ApiError, BoxFuture, FleetEvent, FleetItem, FleetQuery, FleetReader, QueryError, Replay,
};
use tapline_events::{Epoch, Filter, Lost};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connect::Connection;
use crate::error::with_sources;
use crate::gateway::follow::Follower;
use crate::gateway::history::{Stored, next_message};
use crate::name::{InstanceName, Partitions, stream_name, stream_subject};

/// So many blocks wait between the partitions and the client.
const QUEUE: usize = 8;

/// The pause before the broker is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// The first byte of a cursor.
const VERSION: u8 = 1;

/// A position in all partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// In each partition, the place of the last block that was read whole.
    at: Vec<u64>,
    /// Of one partition also the block behind that, up to this seq.
    within: Option<(u32, u64)>,
}

impl Cursor {
    fn parse(text: &str, partitions: Partitions) -> Result<Self, QueryError> {
        let wrong =
            |reason: &str| QueryError::new("after", format!("no cursor of a fleet: {reason}"));
        let bytes = BASE64
            .decode(text)
            .map_err(|_| wrong("it is no base64url"))?;
        let (version, mut rest) = bytes.split_first().ok_or_else(|| wrong("it is empty"))?;
        if *version != VERSION {
            return Err(wrong("it is of another version"));
        }
        let mut next = || read(&mut rest).ok_or_else(|| wrong("it is cut"));
        let count = next()?;
        if count != u64::from(partitions.count()) {
            return Err(wrong("it is of a fleet with another number of partitions"));
        }
        let at = (0..count).map(|_| next()).collect::<Result<_, _>>()?;
        let within = match next()? {
            0 => None,
            partition => Some((u32::try_from(partition - 1).unwrap_or(u32::MAX), next()?)),
        };
        if within.is_some_and(|(partition, _)| partitions.count() <= partition) {
            return Err(wrong("it is of a partition that is not there"));
        }
        Ok(Self { at, within })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![VERSION];
        write(&mut bytes, self.at.len() as u64);
        for at in &self.at {
            write(&mut bytes, *at);
        }
        match self.within {
            None => write(&mut bytes, 0),
            Some((partition, seq)) => {
                write(&mut bytes, u64::from(partition) + 1);
                write(&mut bytes, seq);
            }
        }
        f.write_str(&BASE64.encode(bytes))
    }
}

/// Seven bits a byte, the lowest first.
fn write(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The events of a block, with the seq behind which each leaves a reader.
struct Batch {
    partition: u32,
    at: u64,
    items: Vec<(Arc<str>, Epoch, u64, FleetEvent)>,
}

/// A reader of many instances. Its tasks end when it is dropped.
pub(crate) struct AllReader {
    cursor: Cursor,
    is_evicted: bool,
    batches: mpsc::Receiver<Batch>,
    #[expect(dead_code, reason = "aborted when it is dropped")]
    tasks: JoinSet<()>,
}

impl AllReader {
    pub(crate) async fn open(
        connection: &Connection,
        partitions: Partitions,
        follower: impl Fn(u32) -> Arc<Follower>,
        query: &FleetQuery,
    ) -> Result<Self, ApiError> {
        let asked = query.after.as_deref();
        let asked = asked
            .map(|text| Cursor::parse(text, partitions))
            .transpose()?;
        let broker = |error: async_nats::Error| ApiError::Broker(error);
        let query = Arc::new(query.clone());
        let (sender, batches) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        let mut cursor = Cursor {
            at: Vec::new(),
            within: asked.as_ref().and_then(|it| it.within),
        };
        let mut is_evicted = false;
        for partition in partitions.iter() {
            let follower = follower(partition);
            let live = follower.all().await;
            let stream = connection
                .jetstream()
                .get_stream_no_info(stream_name(partition))
                .await;
            let stream = stream.map_err(|error| broker(error.into()))?;
            let state = stream
                .get_info()
                .await
                .map_err(|error| broker(error.into()))?
                .state;
            let at = match (&asked, query.replay) {
                (Some(cursor), _) => {
                    let at = cursor.at[partition as usize];
                    is_evicted |= at + 1 < state.first_sequence || state.last_sequence < at;
                    // Of a stream that begins anew, everything is new.
                    if state.last_sequence < at { 0 } else { at }
                }
                (None, Some(Replay::All)) => 0,
                (None, Some(Replay::Live) | None) => state.last_sequence,
            };
            cursor.at.push(at);
            let within = cursor.within.filter(|(it, _)| *it == partition);
            let reading = Reading {
                partition,
                stream,
                subject: stream_subject(partition),
                at,
                within: within.map(|(_, seq)| (at + 1, seq)),
                query: query.clone(),
                known: HashMap::new(),
                sender: sender.clone(),
                _follower: follower,
            };
            tasks.spawn(reading.run(live));
        }
        Ok(Self {
            cursor,
            is_evicted,
            batches,
            tasks,
        })
    }
}

impl FleetReader for AllReader {
    fn next(&mut self) -> BoxFuture<'_, Option<Vec<FleetItem>>> {
        Box::pin(async {
            loop {
                let Batch {
                    partition,
                    at,
                    items,
                } = self.batches.recv().await?;
                let mut read = Vec::with_capacity(items.len());
                let last = items.len().saturating_sub(1);
                self.cursor.at[partition as usize] = at - 1;
                for (n, (instance, epoch, seq, what)) in items.into_iter().enumerate() {
                    self.cursor.within = Some((partition, seq));
                    if n == last {
                        self.cursor.at[partition as usize] = at;
                        self.cursor.within = None;
                    }
                    let cursor = self.cursor.to_string();
                    read.push(FleetItem {
                        instance,
                        epoch,
                        what,
                        cursor,
                    });
                }
                self.cursor.at[partition as usize] = at;
                self.cursor.within = None;
                if !read.is_empty() {
                    return Some(read);
                }
            }
        })
    }

    fn cursor(&self) -> String {
        self.cursor.to_string()
    }

    fn is_evicted(&self) -> bool {
        self.is_evicted
    }
}

/// The blocks of one partition.
struct Reading {
    partition: u32,
    stream: Stream<()>,
    subject: String,
    /// The place of the last block that was read.
    at: u64,
    /// Of the block at this place, what comes up to this seq was read before.
    within: Option<(u64, u64)>,
    query: Arc<FleetQuery>,
    /// Up to where each instance was read.
    known: HashMap<InstanceName, (Epoch, u64)>,
    sender: mpsc::Sender<Batch>,
    _follower: Arc<Follower>,
}

impl Reading {
    /// Until the client leaves, or the stream cannot be continued.
    async fn run(mut self, mut live: broadcast::Receiver<(InstanceName, Stored)>) {
        loop {
            if self.catch_up().await.is_err() {
                return;
            }
            loop {
                match live.recv().await {
                    Ok((instance, stored)) if self.at < stored.at => {
                        if self.pass(instance, stored).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        }
    }

    /// Reads what is stored behind the position.
    async fn catch_up(&mut self) -> Result<(), Closed> {
        loop {
            match next_message(&self.stream, &self.subject, self.at + 1).await {
                Ok(Some(message)) => {
                    let stored = Stored::new(message.sequence, message.headers, message.payload);
                    match InstanceName::of_subject(&message.subject) {
                        Ok(instance) => self.pass(instance, stored).await?,
                        Err(_) => self.at = stored.at,
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    let (partition, error) = (self.partition, with_sources(&error));
                    tracing::warn!(
                        partition,
                        error,
                        "stored blocks cannot be read; trying again"
                    );
                    if self.sender.is_closed() {
                        return Err(Closed);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Passes on what the block has for the client.
    async fn pass(&mut self, instance: InstanceName, stored: Stored) -> Result<(), Closed> {
        self.at = stored.at;
        let within = self.within.take().filter(|(at, _)| *at == stored.at);
        let items = match self.query.has(instance.as_str()) {
            true => self.items(instance, &stored, within.map_or(0, |(_, seq)| seq)),
            false => Vec::new(),
        };
        // An empty one, too: it moves the cursor.
        let batch = Batch {
            partition: self.partition,
            at: stored.at,
            items,
        };
        self.sender.send(batch).await.map_err(|_| Closed)
    }

    fn items(
        &mut self,
        instance: InstanceName,
        stored: &Stored,
        read: u64,
    ) -> Vec<(Arc<str>, Epoch, u64, FleetEvent)> {
        let name: Arc<str> = instance.as_str().into();
        let Ok(head) = stored.head.clone().inspect_err(|error| {
            tracing::warn!(%instance, at = stored.at, %error, "a block cannot be read");
        }) else {
            return Vec::new();
        };
        let epoch = head.epoch;
        let mut items = Vec::new();
        let mut add = |seq: u64, what| items.push((name.clone(), epoch, seq, what));
        let is_all = self.query.filter == Filter::all();
        let lost = |first: u64, last: u64| {
            FleetEvent::Lost(Lost {
                first,
                last,
                matching: is_all.then_some(last - first + 1),
                by_category: None,
            })
        };
        let block = stored.decode();
        // The last seq of this epoch that was read, or that another reader has had before this one began.
        let mut position = match self.known.get(&instance) {
            Some((of, last)) if *of == epoch => *last,
            before => {
                if let Some((from, _)) = before {
                    add(0, FleetEvent::Epoch { from: *from });
                }
                match &block {
                    Ok(block) => block.meta().previous.max(read),
                    Err(_) => read.max(head.first - 1),
                }
            }
        };
        self.known
            .insert(instance, (epoch, head.last.max(position)));
        if position + 1 < head.first {
            add(head.first - 1, lost(position + 1, head.first - 1));
            position = head.first - 1;
        }
        let Ok(block) = block else {
            if position < head.last {
                add(head.last, lost(position + 1, head.last));
            }
            return items;
        };
        let mut gaps = block.meta().gaps.iter().peekable();
        let mut pass_gaps = |before: u64, position: u64, add: &mut dyn FnMut(u64, FleetEvent)| {
            while let Some(gap) = gaps.next_if(|gap| *gap.start() < before) {
                let first = (position + 1).max(*gap.start());
                if first <= *gap.end() {
                    add(*gap.end(), lost(first, *gap.end()));
                }
            }
        };
        for envelope in block.events(position + 1..=head.last, &self.query.filter) {
            let seq = envelope.seq();
            pass_gaps(seq, position, &mut add);
            add(seq, FleetEvent::Event(envelope));
        }
        pass_gaps(u64::MAX, position, &mut add);
        items
    }
}

/// The client has left.
struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let partitions = Partitions::new(3).unwrap();
        for within in [None, Some((0, 1)), Some((2, u64::MAX))] {
            let cursor = Cursor {
                at: vec![0, 127, 1 << 60],
                within,
            };
            let text = cursor.to_string();
            assert_eq!(Cursor::parse(&text, partitions), Ok(cursor), "{text}");
            let other = Cursor::parse(&text, Partitions::DEFAULT).unwrap_err();
            assert!(other.to_string().contains("another number"), "{other}");
            for cut in 0..text.len() {
                assert!(
                    Cursor::parse(&text[..cut], partitions).is_err(),
                    "{cut} of {text}"
                );
            }
        }
        for wrong in ["5", "12-00000000c0ffee00", "AQ", "_", "AgMAAAA"] {
            assert!(Cursor::parse(wrong, partitions).is_err(), "{wrong}");
        }
    }
}
