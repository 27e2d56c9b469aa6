//! The sink: [`NatsSink`].

use std::sync::Arc;
use std::time::Duration;

use tapline_api::{BoxFuture, History, Sink, SinkError, SinkReader, StopSignal};
use tapline_events::Cursor;
use tokio::sync::{Mutex, mpsc};

use crate::block::Encoder;
use crate::collect::Collector;
use crate::error::{NatsError, with_sources};
use crate::name::InstanceName;
use crate::options::{NatsOptions, StreamOptions};
use crate::publish::{Link, MAX_BATCH, Publisher};

/// The name of the sink.
pub(crate) const NAME: &str = "nats";

/// What a sink is configured with. [`new`](Self::new) gives the defaults; the fields may be changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SinkOptions {
    /// The servers, and how to connect to them. The time for an answer is also that for an acknowledgement.
    pub nats: NatsOptions,
    /// The name of this program. No other program that runs may have it.
    pub instance: InstanceName,
    /// What the streams are to be like.
    pub streams: StreamOptions,
    /// How long an event may wait for others to share a message with, at most [`MAX_LINGER`](Self::MAX_LINGER). 20 ms by
    /// default.
    pub linger: Duration,
    /// The bound of the first pause after a failed attempt. Each bound is twice the one before, and the pause
    /// is a random part of it. 100 ms by default.
    pub first_pause: Duration,
    /// The largest of these bounds. 5 s by default.
    pub last_pause: Duration,
}

impl SinkOptions {
    /// The longest [`linger`](Self::linger).
    pub const MAX_LINGER: Duration = Duration::from_secs(60);

    /// Stores the stream of this instance with these servers.
    pub fn new(nats: NatsOptions, instance: InstanceName) -> Self {
        Self {
            nats,
            instance,
            streams: StreamOptions::default(),
            linger: Duration::from_millis(20),
            first_pause: Duration::from_millis(100),
            last_pause: Duration::from_secs(5),
        }
    }

    fn check(&self) -> Result<(), NatsError> {
        let is_pause = !self.first_pause.is_zero() && self.first_pause <= self.last_pause;
        let limits = [
            (
                is_pause,
                "the first pause has to be above 0, and not above the last one",
            ),
            (
                self.linger <= Self::MAX_LINGER,
                "an event may wait for others for at most 60 s",
            ),
            (
                !self.nats.connect_timeout.is_zero() && !self.nats.request_timeout.is_zero(),
                "the time-outs have to be above 0",
            ),
            (
                self.streams
                    .max_bytes
                    .is_none_or(|it| 0 < it && it <= i64::MAX as u64),
                "the most bytes of a stream have to be above 0",
            ),
            (
                self.streams.replicas.is_none_or(|it| (1..=5).contains(&it)),
                "the number of replicas has to be from 1 to 5",
            ),
        ];
        match limits.into_iter().find(|(holds, _)| !holds) {
            Some((_, reason)) => Err(NatsError::OutOfRange(reason)),
            None => Ok(()),
        }
    }
}

/// Stores the stream in NATS JetStream.
///
/// Needs a tokio runtime with timers and sockets.
///
/// # Lagging
///
/// While the server accepts nothing, what was read is kept and published again, and everything after it waits in the
/// ring. What the ring evicts is read from the archive, where there is one and it has it. The rest is stored as a gap.
/// Producers never wait. What an earlier run of the program has archived and not stored here is stored first.
///
/// # Delivery
///
/// In order, and each event once, also where an acknowledgement was lost, the server was killed or the program
/// was. It needs a name that no other program has.
pub struct NatsSink {
    options: SinkOptions,
    archive: Option<Arc<dyn History>>,
    /// Opened before the first run.
    link: Mutex<Option<Link>>,
}

impl NatsSink {
    /// Connects to nothing yet. `archive`: where to read what the ring has lost.
    ///
    /// # Errors
    ///
    /// [`NatsError::OutOfRange`] where an option is.
    pub fn new(options: SinkOptions, archive: Option<Arc<dyn History>>) -> Result<Self, NatsError> {
        options.check()?;
        Ok(Self {
            options,
            archive,
            link: Mutex::new(None),
        })
    }

    /// Connects, and checks or creates the streams. Without this the first run does it.
    ///
    /// # Errors
    ///
    /// [`NatsError`]. Where it [is temporary](NatsError::is_temporary), the sink may be run nevertheless: it tries again.
    pub async fn prepare(&self) -> Result<(), NatsError> {
        let link = Link::open(&self.options).await?;
        *self.link.lock().await = Some(link);
        Ok(())
    }

    /// With the connection that there is.
    async fn last(&self) -> Result<Option<Cursor>, NatsError> {
        let mut opened = self.link.lock().await;
        let link = match opened.take() {
            Some(link) => link,
            None => Link::open(&self.options).await?,
        };
        let last = link.last().await?;
        *opened = Some(link);
        Ok(last.map(|it| it.cursor()))
    }
}

impl std::fmt::Debug for NatsSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSink")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Sink for NatsSink {
    fn name(&self) -> &str {
        NAME
    }

    fn resume(&self) -> BoxFuture<'_, Result<Option<Cursor>, SinkError>> {
        Box::pin(async {
            let last = self.last().await;
            last.map_err(|error| SinkError::new(with_sources(&error)))
        })
    }

    fn run(&self, reader: SinkReader, stop: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let link = self.link.lock().await.take();
            let (epoch, progress) = (reader.epoch(), reader.progress());
            let options = &self.options;
            let mut publisher = Publisher::new(options, link, epoch, progress, stop);
            let mut previous = publisher.begin().await;
            if let Some(archive) = &self.archive {
                previous = publisher.finish_earlier_runs(archive).await?;
            }
            let mut collector = Collector::new(reader, self.archive.clone(), options.linger);
            let mut encoder = Encoder::new(options.instance.clone(), epoch);
            // While a batch is on its way, another one waits, and a block is collected.
            let (messages, received) = mpsc::channel(MAX_BATCH);
            let collect = async move {
                while let Some(block) = collector.next(&messages).await {
                    let message = encoder.encode(block, previous).await;
                    previous = message.last;
                    if messages.send(message).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            tokio::try_join!(collect, publisher.publish(received)).map(|((), ())| ())
        })
    }
}
