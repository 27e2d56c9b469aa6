//! From messages to the stream, each once: [`Publisher`].
//!
//! # Each once
//!
//! Each message is published on the condition that a certain message is the last one of its subject. So where an
//! acknowledgement is lost, the same message is published again, and the server either recognises its id, or refuses it
//! because the condition does not hold any more. Then the last message of the subject says what is stored. It is asked of
//! the stream's leader: a direct get may answer with an older one.
//!
//! # Batches
//!
//! The condition of a message is known once the one before it is acknowledged, so a message costs a round trip. Where
//! several wait, they go as one atomic batch: the server stores all of them or none, on a condition that the first one has,
//! and acknowledges the last one. So a batch is like one message, and a batch of one is one.
//!
//! A batch that was not accepted is not sent again: what it has goes message by message, and each has its own error. So
//! nothing depends on batches, neither on a stream that allows them nor on a server that has memory for one more. Nor on
//! their being whole: what is stored of one would be its beginning, and the last message says where that ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use tapline_api::{Backoff, History, Progress, ReadLimit, SinkError, StopSignal};
use tapline_events::{Cursor, Epoch};
use tokio::sync::mpsc::{self, Receiver};

use crate::block::{Block, Encoded, Encoder, Entry};
use crate::connect::Connection;
use crate::error::{NatsError, with_sources};
use crate::message::Head;
use crate::name::stream_name;
use crate::pause::pause;
use crate::refill::Refill;
use crate::sink::SinkOptions;
use crate::streams::{HINT, ensure_streams};

/// How often the same error is logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// The most messages of a batch. While it is on its way, so many wait behind it: of full blocks that is 4 MiB of NDJSON
/// each. With 32 the sink is 1.4 to 1.9 times as fast at 40 ms each way, for twice the memory in every program
/// (`benches/runs/2026-11-27-nats-batches-2core`).
pub(crate) const MAX_BATCH: usize = 16;

/// The most bytes of their payloads: as many as one message may have by default. So a slow connection needs no longer for
/// a batch than for the largest message.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// A connection, and the stream of this instance.
pub(crate) struct Link {
    connection: Connection,
    stream: Stream<()>,
    stream_name: String,
    subject: String,
    /// Until the server says that the stream does not allow them.
    allows_batches: bool,
}

/// The last message of the subject of this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its place in the stream.
    sequence: u64,
    /// What it has: up to that seq of that epoch.
    epoch: Epoch,
    last: u64,
}

impl Stored {
    pub(crate) fn cursor(self) -> Cursor {
        Cursor {
            seq: self.last,
            epoch: Some(self.epoch),
        }
    }
}

impl Link {
    /// Connects, and checks or creates the streams.
    pub(crate) async fn open(options: &SinkOptions) -> Result<Self, NatsError> {
        let name = format!("tapline {}", options.instance);
        let connection = Connection::open_once(&options.nats, &name).await?;
        let instance = &options.instance;
        let partitions = ensure_streams(&connection, &options.streams, instance).await?;
        let stream_name = stream_name(partitions.of(instance));
        let stream = connection
            .jetstream()
            .get_stream_no_info(&stream_name)
            .await;
        let stream = stream.map_err(|error| {
            connection.failed(format!("give the stream {stream_name}"), HINT, error)
        })?;
        Ok(Self {
            stream,
            subject: instance.blocks_subject(partitions),
            stream_name,
            connection,
            allows_batches: true,
        })
    }

    /// The last message of the subject, as the stream's leader has it.
    pub(crate) async fn last(&self) -> Result<Option<Stored>, NatsError> {
        let found = self
            .stream
            .get_last_raw_message_by_subject(&self.subject)
            .await;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(None);
            }
            Err(error) => {
                let operation = format!("give the last message of {}", self.subject);
                return Err(self.connection.failed(operation, HINT, error));
            }
        };
        let head = Head::read(&found.headers).map_err(|source| NatsError::Message {
            stream: self.stream_name.clone(),
            sequence: found.sequence,
            source,
        })?;
        Ok(Some(Stored {
            sequence: found.sequence,
            epoch: head.epoch,
            last: head.last,
        }))
    }

    /// Publishes these messages, all or none, if the last message of the subject is the expected one. Gives the place
    /// of the last one in the stream.
    async fn publish(&self, messages: &[Encoded], expected: u64) -> Result<u64, PublishError> {
        let (client, jetstream) = (self.connection.client(), self.connection.jetstream());
        let count = messages.len();
        // No other batch may have it, of an earlier attempt neither.
        let id = client.new_inbox();
        for (n, message) in (1..).zip(messages) {
            let mut headers = message.headers.clone();
            if n == 1 {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
            }
            if 1 < count {
                headers.insert(NATS_BATCH_ID, id.as_str());
                headers.insert(NATS_BATCH_SEQUENCE, n.to_string());
            }
            let (subject, payload) = (self.subject.clone(), message.payload.clone());
            if n < count {
                let sent = client.publish_with_headers(subject, headers, payload);
                sent.await.map_err(not_sent)?;
                continue;
            }
            if 1 < count {
                headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
            }
            let last = PublishMessage::build().headers(headers).payload(payload);
            let ack = jetstream.send_publish(subject, last).await?.await?;
            return Ok(ack.sequence);
        }
        Ok(expected)
    }
}

/// Publishes messages in their order.
pub(crate) struct Publisher<'a> {
    options: &'a SinkOptions,
    link: Option<Link>,
    encoder: Encoder,
    epoch: Epoch,
    /// The last message of the subject when it was looked at last.
    found: Option<Stored>,
    /// The sequence of the last message of the subject; 0 where there is none.
    expected: u64,
    /// The last seq of this epoch that is stored.
    stored: u64,
    /// A batch up to this seq of this epoch was not accepted: what it has goes message by message.
    singly_to: u64,
    /// How many attempts have failed since the last one that succeeded.
    failures: usize,
    backoff: Backoff,
    report: Report,
    progress: Progress,
    stop: StopSignal,
}

/// What is to be done about messages that were not accepted.
enum Fault {
    /// Publish it again over this connection.
    Again,
    /// Connect again first.
    Connect,
    /// The last message of the subject is another one.
    Last,
    /// One is too large.
    TooLarge,
    /// The server takes no such batch.
    NoBatch,
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(
        options: &'a SinkOptions,
        link: Option<Link>,
        epoch: Epoch,
        progress: Progress,
        stop: StopSignal,
    ) -> Self {
        Self {
            options,
            link,
            encoder: Encoder::new(options.instance.clone(), epoch),
            epoch,
            found: None,
            expected: 0,
            stored: 0,
            singly_to: 0,
            failures: 0,
            backoff: Backoff::new(options.first_pause, options.last_pause),
            report: Report::new(progress.clone(), options.nats.urls()),
            progress,
            stop,
        }
    }

    /// Connects and looks what is stored, again and again until that succeeds. Gives the last seq of this epoch that
    /// is stored.
    pub(crate) async fn begin(&mut self) -> u64 {
        while let Err(error) = self.look().await {
            self.report.error(&error);
            self.link = None;
            pause(&mut self.backoff, &self.stop).await;
        }
        self.stored
    }

    /// Looks what is stored, and connects where that is needed.
    async fn look(&mut self) -> Result<(), NatsError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::open(self.options).await?,
        };
        let found = link.last().await?;
        self.link = Some(link);
        self.found = found;
        self.expected = found.map_or(0, |it| it.sequence);
        if let Some(found) = found.filter(|it| it.epoch == self.epoch) {
            self.stored = self.stored.max(found.last);
        }
        Ok(())
    }

    /// Stores what the archive has of earlier runs after what is stored: they were killed or stopped before the server
    /// had it. Gives the last seq of this epoch that is stored.
    ///
    /// Where nothing of this instance is stored, or the archive does not know that run, there is nothing to continue.
    pub(crate) async fn finish_earlier_runs(
        &mut self,
        archive: &Arc<dyn History>,
    ) -> Result<u64, SinkError> {
        let present = self.epoch;
        let Some(found) = self.found.filter(|it| it.epoch != present) else {
            return Ok(self.stored);
        };
        let runs = match archive.bounds().await {
            Ok(runs) => runs,
            Err(error) => {
                self.report.error(&error);
                return Ok(self.stored);
            }
        };
        let runs = runs.iter().skip_while(|it| it.epoch != found.epoch);
        for run in runs.take_while(|it| it.epoch != present) {
            let after = match run.epoch == found.epoch {
                true => found.last,
                false => run.oldest.saturating_sub(1),
            };
            self.begin_epoch(run.epoch, after);
            if after < run.head {
                let count = run.head - after;
                tracing::info!(
                    sink = "nats", epoch = %run.epoch, first = after + 1, count,
                    "events of an earlier run are stored from the archive"
                );
                let refill = Refill::new(archive.clone(), run.epoch, after + 1..=run.head);
                self.publish_archived(refill).await?;
            }
        }
        self.begin_epoch(present, 0);
        Ok(self.stored)
    }

    fn begin_epoch(&mut self, epoch: Epoch, stored: u64) {
        self.epoch = epoch;
        self.stored = stored;
        self.singly_to = 0;
        self.encoder = Encoder::new(self.options.instance.clone(), epoch);
    }

    async fn publish_archived(&mut self, mut refill: Refill) -> Result<(), SinkError> {
        let progress = self.progress.clone();
        let mut encoder = Encoder::new(self.options.instance.clone(), self.epoch);
        let mut previous = self.stored;
        let (messages, received) = mpsc::channel(MAX_BATCH);
        let read = async move {
            let mut block = Block::default();
            while !refill.is_done() {
                let limit = ReadLimit {
                    bytes: block.bytes_left().max(1),
                    ..ReadLimit::default()
                };
                for content in refill.next(limit, &progress).await {
                    block.push(Entry {
                        content,
                        settles: None,
                    });
                }
                if block.is_full() || (refill.is_done() && !block.is_empty()) {
                    let message = encoder.encode(block.take(), previous).await;
                    previous = message.last;
                    if messages.send(message).await.is_err() {
                        break;
                    }
                }
            }
            Ok(())
        };
        tokio::try_join!(read, self.publish(received)).map(|((), ())| ())
    }

    /// Stores the messages that come, and settles what they have, until their senders are gone. Tries again until that
    /// succeeds.
    pub(crate) async fn publish(
        &mut self,
        mut messages: Receiver<Encoded>,
    ) -> Result<(), SinkError> {
        let mut received = Vec::new();
        while 0 < messages.recv_many(&mut received, MAX_BATCH).await {
            self.publish_all(received.drain(..).collect()).await?;
        }
        Ok(())
    }

    async fn publish_all(&mut self, mut left: VecDeque<Encoded>) -> Result<(), SinkError> {
        while let Some(message) = left.pop_front() {
            if message.last <= self.stored {
                self.failures = 0;
                message
                    .block
                    .settle(&self.progress)
                    .map_err(SinkError::new)?;
                continue;
            }
            if message.first <= self.stored {
                let (done, rest) = message.block.split_after(self.stored);
                done.settle(&self.progress).map_err(SinkError::new)?;
                left.push_front(self.encoder.encode(rest, self.stored).await);
                continue;
            }
            left.push_front(message);
            let batch = self.batch(left.make_contiguous());
            let (count, last) = (batch.len(), batch.last().map_or(0, |it| it.last));
            let fault = match self.attempt(batch).await {
                Ok(sequence) => {
                    self.expected = sequence;
                    self.stored = last;
                    self.backoff.reset();
                    self.report.success();
                    continue;
                }
                Err(fault) => fault,
            };
            if 1 < count {
                self.singly_to = last;
            }
            match fault {
                Fault::TooLarge | Fault::NoBatch if 1 < count => {}
                Fault::TooLarge => self.split(&mut left).await,
                fault => self.recover(fault).await,
            }
        }
        Ok(())
    }

    /// Which of these messages go at once: the first one, and those behind it that fit into a batch.
    fn batch<'m>(&self, messages: &'m [Encoded]) -> &'m [Encoded] {
        let mut bytes = 0;
        let fit = messages.iter().take(MAX_BATCH).take_while(|message| {
            bytes += message.payload.len();
            bytes <= MAX_BATCH_BYTES
        });
        let may_be_several = self.link.as_ref().is_some_and(|it| it.allows_batches)
            && messages.first().is_some_and(|it| self.singly_to < it.first);
        match may_be_several {
            true => &messages[..fit.count().max(1)],
            false => &messages[..1],
        }
    }

    /// Publishes them once, and gives the place of the last one in the stream.
    async fn attempt(&mut self, messages: &[Encoded]) -> Result<u64, Fault> {
        let Some(link) = &mut self.link else {
            return Err(Fault::Connect);
        };
        let error = tokio::select! {
            answer = link.publish(messages, self.expected) => match answer {
                Ok(sequence) => return Ok(sequence),
                Err(error) => error,
            },
            () = link.connection.disconnected() => {
                self.report.text("the connection to the NATS server is broken");
                return Err(Fault::Connect);
            }
        };
        let fault = fault_of(&error);
        let mut text = with_sources(&error);
        match fault {
            Fault::Last | Fault::TooLarge => {}
            Fault::NoBatch => {
                if code_of(&error) == Some(ErrorCode::ATOMIC_PUBLISH_DISABLED) {
                    link.allows_batches = false;
                }
                self.report.no_batch(&format!(
                    "the NATS stream {} does not accept blocks as a batch, so they are stored one by one, which is slower \
                     over a distance: {text}",
                    link.stream_name
                ));
            }
            Fault::Again | Fault::Connect => {
                if let Some(more) = link.connection.server_error() {
                    text = format!("{text}; the last error of the server: {more}");
                }
                self.report.text(&text);
            }
        }
        Err(fault)
    }

    /// Does what has to come before the next attempt.
    async fn recover(&mut self, fault: Fault) {
        self.failures += 1;
        // The first attempt to cure it is at once.
        if 1 < self.failures {
            pause(&mut self.backoff, &self.stop).await;
        }
        match fault {
            Fault::Again => {
                if self.failures == 1 {
                    pause(&mut self.backoff, &self.stop).await;
                }
                return;
            }
            Fault::Connect => self.link = None,
            Fault::Last | Fault::TooLarge | Fault::NoBatch => {}
        }
        let (expected, stored) = (self.expected, self.stored);
        if let Err(error) = self.look().await {
            self.report.error(&error);
            return;
        }
        if stored == self.stored && expected < self.expected {
            self.report.text(&format!(
                "another program stores events as instance {}: message {} of {} is not of this run; give each program a \
                 name of its own",
                self.options.instance,
                self.expected,
                self.subject(),
            ));
        }
    }

    fn subject(&self) -> &str {
        self.link.as_ref().map_or("", |link| &link.subject)
    }

    /// Two messages instead of the first one, which is too large, or a gap instead of an event that is.
    async fn split(&mut self, left: &mut VecDeque<Encoded>) {
        let Some(message) = left.pop_front() else {
            return;
        };
        match message.block.halves() {
            Ok((first, second)) => {
                let first = self.encoder.encode(first, self.stored).await;
                let second = self.encoder.encode(second, first.last).await;
                left.push_front(second);
                left.push_front(first);
            }
            Err(event) => {
                self.report.text(&format!(
                    "event {} has {} bytes compressed, more than the NATS server accepts in a message; it is rejected, \
                     and a gap is stored instead: raise max_payload",
                    message.first,
                    message.payload.len(),
                ));
                left.push_front(self.encoder.encode(event.rejected(), self.stored).await);
            }
        }
    }
}

/// As the client of JetStream says it.
fn not_sent(error: async_nats::PublishError) -> PublishError {
    let kind = match error.kind() {
        async_nats::client::PublishErrorKind::MaxPayloadExceeded => {
            PublishErrorKind::MaxPayloadExceeded
        }
        _ => PublishErrorKind::Other,
    };
    PublishError::with_source(kind, error)
}

fn code_of(error: &PublishError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?;
    let reason = source.downcast_ref::<async_nats::jetstream::Error>()?;
    Some(reason.error_code())
}

fn fault_of(error: &PublishError) -> Fault {
    match code_of(error) {
        // A batch with a message that is stored is refused as a whole, before its condition is looked at.
        Some(
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
            | ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE,
        ) => return Fault::Last,
        Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => return Fault::TooLarge,
        // Incomplete: the server has refused a message of it before, for too many open batches or for its size, or it is
        // another server now.
        Some(
            ErrorCode::ATOMIC_PUBLISH_DISABLED
            | ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH
            | ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT
            | ErrorCode::ATOMIC_PUBLISH_TOO_LARGE_BATCH,
        ) => return Fault::NoBatch,
        Some(_) => return Fault::Again,
        None => {}
    }
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Fault::Last,
        PublishErrorKind::MaxPayloadExceeded => Fault::TooLarge,
        // No answer in time, none at all, or no stream has the subject: the streams are looked at again.
        _ => Fault::Connect,
    }
}

/// Shows errors to people: each in the status of the sink, and in the log where it is another one than before.
struct Report {
    progress: Progress,
    url: String,
    last: Option<(String, Instant)>,
    /// That a batch was refused is logged.
    has_no_batch: bool,
}

impl Report {
    fn new(progress: Progress, url: String) -> Self {
        Self {
            progress,
            url,
            last: None,
            has_no_batch: false,
        }
    }

    fn error(&mut self, error: &dyn std::error::Error) {
        self.text(&with_sources(error));
    }

    fn text(&mut self, error: &str) {
        self.progress.report(error);
        let now = Instant::now();
        let is_known = |(last, at): &(String, Instant)| last == error && now < *at + LOG_AGAIN;
        if self.last.as_ref().is_some_and(is_known) {
            tracing::debug!(sink = "nats", url = self.url, error);
        } else {
            tracing::warn!(sink = "nats", url = self.url, error, "the export failed");
            self.last = Some((error.to_owned(), now));
        }
    }

    /// Nothing is lost by it, so it is logged once.
    fn no_batch(&mut self, error: &str) {
        self.progress.report(error);
        match std::mem::replace(&mut self.has_no_batch, true) {
            true => tracing::debug!(sink = "nats", url = self.url, error),
            false => tracing::warn!(sink = "nats", url = self.url, error),
        }
    }

    fn success(&mut self) {
        if self.last.take().is_some() {
            tracing::info!(sink = "nats", url = self.url, "the export works again");
        }
    }
}
