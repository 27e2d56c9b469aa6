//! One stream of many instances: [`AllReader`].
//!
//! A task for each partition reads its blocks in their order: first what is stored, then what the gateway's consumer
//! delivers. A position in it is a place in each partition, so a cursor is as long as there are partitions, however many
//! instances there are. Where whole names are asked for, only their partitions are read, and of what is stored in a partition
//! with one of them only its blocks.
//!
//! # What is deleted
//!
//! Places in a stream say nothing about another stream that has its name, and nothing of what was deleted behind them. So a
//! cursor also says when each stream was created. Where blocks are deleted before they are read, or the stream is another
//! one, the reader ends, and one that begins at its cursor says that something is missing. There is no account of it: of
//! which instances the blocks were is not known.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, Stream};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use tapline_api::{
    ApiError, BoxFuture, FleetEvent, FleetItem, FleetQuery, FleetReader, HistoryError, QueryError,
    Replay,
};
use tapline_events::{Epoch, Filter, Lost};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connect::Connection;
use crate::error::with_sources;
use crate::gateway::broker;
use crate::gateway::follow::Follower;
use crate::gateway::history::{Stored, next_message};
use crate::name::{InstanceName, Partitions, stream_name, stream_subject};

/// So many blocks wait between the partitions and the client.
const QUEUE: usize = 8;

/// The pause before the broker is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// The first byte of a cursor.
const VERSION: u8 = 2;

/// A position in all partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    at: Vec<At>,
    /// Of one partition also the block behind that, up to this seq.
    within: Option<(u32, u64)>,
}

/// A position in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    /// When its stream was created, in milliseconds since the Unix epoch.
    of: u64,
    /// The place of the last block that was read whole.
    place: u64,
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
        let base = next()?;
        let mut at = || {
            Ok(At {
                of: base.saturating_add(next()?),
                place: next()?,
            })
        };
        let at = (0..count).map(|_| at()).collect::<Result<_, _>>()?;
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
        // They were created at about the same time.
        let base = self.at.iter().map(|it| it.of).min().unwrap_or(0);
        write(&mut bytes, base);
        for at in &self.at {
            write(&mut bytes, at.of - base);
            write(&mut bytes, at.place);
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
    /// One for each partition that is read. The first that ends ends the reader.
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
        let names = whole_names(query);
        let query = Arc::new(query.clone());
        let (sender, batches) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        let mut cursor = Cursor {
            at: Vec::new(),
            within: asked.as_ref().and_then(|it| it.within),
        };
        let mut is_evicted = false;
        for partition in partitions.iter() {
            let here = names.as_ref().map(|names| {
                let names = names.iter().filter(|it| partitions.of(it) == partition);
                names.collect::<Vec<_>>()
            });
            let subject = match here.as_deref() {
                Some([name]) => name.blocks_subject(partitions),
                _ => stream_subject(partition),
            };
            let is_read = here.is_none_or(|names| !names.is_empty());
            let follower = follower(partition);
            let live = match is_read {
                true => Some(follower.all().await?),
                false => None,
            };
            let stream = connection
                .jetstream()
                .get_stream_no_info(stream_name(partition))
                .await
                .map_err(|error| broker(HistoryError::new(error)))?;
            let info = info(&stream).await.map_err(broker)?;
            let of = created(&info);
            let oldest = info.state.first_sequence.saturating_sub(1);
            let newest = info.state.last_sequence;
            let Some(live) = live else {
                // Nothing of it is asked for.
                cursor.at.push(At { of, place: newest });
                continue;
            };
            let mut begins_at_oldest = false;
            let place = match (&asked, query.replay) {
                (Some(cursor), _) => {
                    let at = cursor.at[partition as usize];
                    // Of another stream, everything is new.
                    begins_at_oldest = at.of != of || at.place < oldest || newest < at.place;
                    at.place
                }
                (None, Some(Replay::All)) => {
                    begins_at_oldest = true;
                    oldest
                }
                (None, Some(Replay::Live) | None) => newest,
            };
            is_evicted |= asked.is_some() && begins_at_oldest;
            let mut within = cursor.within.filter(|(it, _)| *it == partition);
            let place = match begins_at_oldest {
                true => {
                    within = None;
                    oldest
                }
                false => place,
            };
            cursor.at.push(At { of, place });
            let reading = Reading {
                partition,
                stream,
                of,
                subject,
                at: place,
                begins_at_oldest,
                within: within.map(|(_, seq)| (place + 1, seq)),
                query: query.clone(),
                known: HashMap::new(),
                sender: sender.clone(),
                _follower: follower,
            };
            tasks.spawn(async move {
                let partition = reading.partition;
                let reason = reading.run(live).await;
                tracing::debug!(partition, %reason, "a stream of many instances ends");
            });
        }
        if is_evicted {
            // It is a place in what is not there any more.
            cursor.within = None;
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
                let batch = tokio::select! {
                    batch = self.batches.recv() => batch,
                    _ = self.tasks.join_next() => None,
                };
                let Batch {
                    partition,
                    at,
                    items,
                } = batch?;
                let mut read = Vec::with_capacity(items.len());
                let last = items.len().saturating_sub(1);
                self.cursor.at[partition as usize].place = at - 1;
                for (n, (instance, epoch, seq, what)) in items.into_iter().enumerate() {
                    self.cursor.within = Some((partition, seq));
                    if n == last {
                        self.cursor.at[partition as usize].place = at;
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
                self.cursor.at[partition as usize].place = at;
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

/// The names that are asked for, or those that are permitted, where none is a pattern. Among them are all that match.
fn whole_names(query: &FleetQuery) -> Option<BTreeSet<InstanceName>> {
    std::iter::once(&query.instances)
        .chain(&query.permitted)
        .find_map(|names| {
            let names = names.iter().map(|it| it.as_str().parse().ok());
            let names: BTreeSet<_> = names.collect::<Option<_>>()?;
            (!names.is_empty()).then_some(names)
        })
}

async fn info(stream: &Stream<()>) -> Result<Info, HistoryError> {
    stream.get_info().await.map_err(HistoryError::new)
}

/// In milliseconds since the Unix epoch.
fn created(info: &Info) -> u64 {
    let nanos = info.created.unix_timestamp_nanos();
    u64::try_from(nanos / 1_000_000).unwrap_or(0)
}

/// The blocks of one partition.
struct Reading {
    partition: u32,
    stream: Stream<()>,
    /// When it was created.
    of: u64,
    /// Of what is read, unless it is delivered.
    subject: String,
    /// Up to this place, everything was read.
    at: u64,
    /// Whether nothing was read yet, and it is to begin at the oldest block, whichever that is by then.
    begins_at_oldest: bool,
    /// Of the block at this place, what comes up to this seq was read before.
    within: Option<(u64, u64)>,
    query: Arc<FleetQuery>,
    /// Up to where each run of each instance was read. The run that was read last is the last one.
    known: HashMap<InstanceName, Vec<(Epoch, u64)>>,
    sender: mpsc::Sender<Batch>,
    _follower: Arc<Follower>,
}

/// Why a partition is not read on.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum End {
    #[error("the client has left")]
    Left,
    #[error("blocks were deleted before they were read")]
    Evicted,
    #[error("the stream of the broker begins anew")]
    Stream,
}

impl Reading {
    async fn run(mut self, mut live: broadcast::Receiver<(InstanceName, Stored)>) -> End {
        loop {
            if let Err(end) = self.catch_up(&live).await {
                return end;
            }
            loop {
                match live.recv().await {
                    Ok((_, stored)) if stored.at <= self.at => {}
                    Ok((instance, stored)) if stored.at == self.at + 1 => {
                        if let Err(end) = self.pass(instance, stored).await {
                            return end;
                        }
                    }
                    // What is in between was not delivered.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return End::Stream,
                }
            }
        }
    }

    /// Reads what is stored behind the position, for as long as that takes.
    async fn catch_up(
        &mut self,
        live: &broadcast::Receiver<(InstanceName, Stored)>,
    ) -> Result<(), End> {
        loop {
            let error = match self.read_stored(live).await {
                Ok(()) => return Ok(()),
                Err(Fault::End(end)) => return Err(end),
                Err(Fault::Broker(error)) => error,
            };
            let (partition, error) = (self.partition, with_sources(&error));
            tracing::warn!(
                partition,
                error,
                "stored blocks cannot be read; trying again"
            );
            if self.sender.is_closed() {
                return Err(End::Left);
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads what is stored behind the position.
    async fn read_stored(
        &mut self,
        live: &broadcast::Receiver<(InstanceName, Stored)>,
    ) -> Result<(), Fault> {
        let last = self.check().await?;
        while let Some(message) = self.next_stored(live).await? {
            let stored = Stored::new(message.sequence, message.headers, message.payload);
            match InstanceName::of_subject(&message.subject) {
                Ok(instance) => self.pass(instance, stored).await?,
                Err(_) => self.at = stored.at,
            }
        }
        self.check().await?;
        // The others up to there are of instances that are not asked for.
        self.at = self.at.max(last);
        Ok(())
    }

    async fn next_stored(
        &self,
        live: &broadcast::Receiver<(InstanceName, Stored)>,
    ) -> Result<Option<StreamMessage>, Fault> {
        if live.is_closed() {
            return Err(End::Stream.into());
        }
        let next = next_message(&self.stream, &self.subject, self.at + 1).await?;
        // Those in between were deleted, or are of others. What is deleted of an instance that was read is counted by its
        // next block.
        let is_far = next.as_ref().is_some_and(|it| it.sequence != self.at + 1);
        let reads_all = self.subject == stream_subject(self.partition);
        if is_far && (reads_all || self.known.is_empty()) {
            self.check().await?;
        }
        Ok(next)
    }

    /// Whether the stream is the same, and has all that follows the position. Gives its last place.
    async fn check(&self) -> Result<u64, Fault> {
        let info = info(&self.stream).await?;
        if created(&info) != self.of || info.state.last_sequence < self.at {
            return Err(End::Stream.into());
        }
        let is_evicted = self.at + 1 < info.state.first_sequence;
        match is_evicted && !self.begins_at_oldest {
            true => Err(End::Evicted.into()),
            false => Ok(info.state.last_sequence),
        }
    }

    /// Passes on what the block has for the client.
    async fn pass(&mut self, instance: InstanceName, stored: Stored) -> Result<(), End> {
        self.at = stored.at;
        self.begins_at_oldest = false;
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
        self.sender.send(batch).await.map_err(|_| End::Left)
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
        let runs = self.known.entry(instance).or_default();
        if let Some((from, _)) = runs.last()
            && *from != epoch
        {
            add(0, FleetEvent::Epoch { from: *from });
        }
        // The last seq of this epoch that was read, or that another reader has had before this one began.
        let known = runs.iter().position(|(of, _)| *of == epoch);
        let read = read.min(head.last);
        let mut position = match (known, &block) {
            (Some(at), _) => runs.remove(at).1,
            (None, Ok(block)) => block.meta().previous.min(head.first - 1).max(read),
            (None, Err(_)) => read.max(head.first - 1),
        };
        runs.push((epoch, head.last.max(position)));
        if position < head.first - 1 {
            add(head.first - 1, lost(position + 1, head.first - 1));
            position = head.first - 1;
        }
        if head.last <= position {
            return items;
        }
        let Ok(block) = block else {
            add(head.last, lost(position + 1, head.last));
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

/// Why a block is not read.
enum Fault {
    End(End),
    /// A later attempt may succeed.
    Broker(HistoryError),
}

impl From<End> for Fault {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<HistoryError> for Fault {
    fn from(error: HistoryError) -> Self {
        Self::Broker(error)
    }
}

#[cfg(test)]
mod tests {
    use tapline_events::TypePattern;

    use super::*;

    #[test]
    fn whole_names_of_any_list_are_all_that_is_read() {
        let list = |names: &str| names.split(',').map(TypePattern::new).collect();
        for (asked, permitted, expected) in [
            ("", &[][..], None),
            ("a,b", &[], Some("a b")),
            ("a,b*", &[], None),
            ("a,b*", &["b-1,b-2"], Some("b-1 b-2")),
            ("", &["b*", "c"], Some("c")),
            ("a", &["b"], Some("a")),
        ] {
            let query = FleetQuery {
                instances: if asked.is_empty() {
                    Vec::new()
                } else {
                    list(asked)
                },
                permitted: permitted.iter().map(|names| list(names)).collect(),
                ..FleetQuery::default()
            };
            let names = whole_names(&query).map(|names| {
                let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                names.join(" ")
            });
            assert_eq!(names.as_deref(), expected, "{asked} {permitted:?}");
        }
    }

    #[test]
    fn a_cursor_is_read_back() {
        let partitions = Partitions::new(3).unwrap();
        for within in [None, Some((0, 1)), Some((2, u64::MAX))] {
            let at = [(1 << 40, 0), (1 << 40, 127), (1 << 50, 1 << 60)];
            let cursor = Cursor {
                at: at.map(|(of, place)| At { of, place }).into(),
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
        for wrong in ["5", "12-00000000c0ffee00", "AQ", "_", "AQMAAAA", "AgMAAAA"] {
            assert!(Cursor::parse(wrong, partitions).is_err(), "{wrong}");
        }
    }
}
