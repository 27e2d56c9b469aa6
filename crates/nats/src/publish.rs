//! From messages to the stream, each once: [`Publisher`].
//!
//! # Each once
//!
//! Each message is published on the condition that a certain message is the last one of its subject. So where an
//! acknowledgement is lost, the same message is published again, and the server either recognises its id, or refuses it
//! because the condition does not hold any more. Then the last message of the subject says what is stored. It is asked of
//! the stream's leader: a direct get may answer with an older one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use tapline_api::{Backoff, History, Progress, ReadLimit, SinkError, StopSignal};
use tapline_events::{Cursor, Epoch};

use crate::batch::{Batch, Encoded, Encoder, Entry};
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

/// A connection, and the stream of this instance.
pub(crate) struct Link {
    connection: Connection,
    stream: Stream<()>,
    stream_name: String,
    subject: String,
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
}

/// Publishes one message after the other.
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
    /// How many attempts have failed since the last one that succeeded.
    failures: usize,
    backoff: Backoff,
    report: Report,
    progress: Progress,
    stop: StopSignal,
}

/// What is to be done about a message that was not accepted.
enum Fault {
    /// Publish it again over this connection.
    Again,
    /// Connect again first.
    Connect,
    /// The last message of the subject is another one.
    Last,
    /// It is too large.
    TooLarge,
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
        self.encoder = Encoder::new(self.options.instance.clone(), epoch);
    }

    async fn publish_archived(&mut self, mut refill: Refill) -> Result<(), SinkError> {
        let mut batch = Batch::default();
        while !refill.is_done() {
            let limit = ReadLimit {
                bytes: batch.bytes_left().max(1),
                ..ReadLimit::default()
            };
            for content in refill.next(limit, &self.progress).await {
                batch.push(Entry {
                    content,
                    settles: None,
                });
            }
            if batch.is_full() || (refill.is_done() && !batch.is_empty()) {
                let message = self.encoder.encode(batch.take(), self.stored).await;
                self.publish(message).await?;
            }
        }
        Ok(())
    }

    /// Stores a message, and settles what it has. Tries again until that succeeds.
    pub(crate) async fn publish(&mut self, message: Encoded) -> Result<(), SinkError> {
        let mut left = VecDeque::from([message]);
        while let Some(message) = left.pop_front() {
            if message.last <= self.stored {
                self.failures = 0;
                message
                    .batch
                    .settle(&self.progress)
                    .map_err(SinkError::new)?;
                continue;
            }
            if message.first <= self.stored {
                let (done, rest) = message.batch.split_after(self.stored);
                done.settle(&self.progress).map_err(SinkError::new)?;
                left.push_front(self.encoder.encode(rest, self.stored).await);
                continue;
            }
            match self.attempt(&message).await {
                Ok(sequence) => {
                    self.expected = sequence;
                    self.stored = message.last;
                    self.failures = 0;
                    self.backoff.reset();
                    self.report.success();
                    message
                        .batch
                        .settle(&self.progress)
                        .map_err(SinkError::new)?;
                }
                Err(Fault::TooLarge) => self.split(message, &mut left).await,
                Err(fault) => {
                    self.recover(fault).await;
                    left.push_front(message);
                }
            }
        }
        Ok(())
    }

    /// Publishes it once, and gives its place in the stream.
    async fn attempt(&mut self, message: &Encoded) -> Result<u64, Fault> {
        let Some(link) = &self.link else {
            return Err(Fault::Connect);
        };
        let mut headers = message.headers.clone();
        headers.insert(
            NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            self.expected.to_string(),
        );
        let publish = PublishMessage::build()
            .headers(headers)
            .payload(message.payload.clone());
        let jetstream = link.connection.jetstream();
        let publishing = async {
            let ack = jetstream
                .send_publish(link.subject.clone(), publish)
                .await?;
            ack.await
        };
        let error = tokio::select! {
            answer = publishing => match answer {
                Ok(ack) => return Ok(ack.sequence),
                Err(error) => error,
            },
            () = link.connection.disconnected() => {
                self.report.text("the connection to the NATS server is broken");
                return Err(Fault::Connect);
            }
        };
        let fault = fault_of(&error);
        if !matches!(fault, Fault::Last | Fault::TooLarge) {
            let mut text = with_sources(&error);
            if let Some(more) = link.connection.server_error() {
                text = format!("{text}; the last error of the server: {more}");
            }
            self.report.text(&text);
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
            Fault::Last | Fault::TooLarge => {}
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

    /// Two messages instead of one that is too large, or a gap instead of an event that is.
    async fn split(&mut self, message: Encoded, left: &mut VecDeque<Encoded>) {
        match message.batch.halves() {
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

fn fault_of(error: &PublishError) -> Fault {
    let source = std::error::Error::source(error);
    let reason = source.and_then(|it| it.downcast_ref::<async_nats::jetstream::Error>());
    if let Some(reason) = reason {
        return match reason.error_code() {
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Fault::Last,
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Fault::TooLarge,
            _ => Fault::Again,
        };
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
}

impl Report {
    fn new(progress: Progress, url: String) -> Self {
        Self {
            progress,
            url,
            last: None,
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

    fn success(&mut self) {
        if self.last.take().is_some() {
            tracing::info!(sink = "nats", url = self.url, "the export works again");
        }
    }
}
