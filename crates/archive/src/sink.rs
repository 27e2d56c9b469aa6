//! The archive as a [`Sink`]: [`ArchiveSink`].
//!
//! Each run of the sink has a thread of its own, which compresses, writes and syncs. The run passes batches to it through
//! a bounded channel. Where the disk is slow, the channel is full, and events wait in the ring. Where it fails, the
//! run fails: it is run again after a pause, from the last event that is durable. What was evicted from the ring
//! meanwhile is a gap in the archive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_lock::{Semaphore, SemaphoreGuardArc};
use tapline_api::{
    BoxFuture, Progress, ReadLimit, Settled, Sink, SinkError, SinkItem, SinkReader, StopSignal,
};
use tapline_events::{Cursor, Epoch};

use crate::archive::Archive;
use crate::disk::Lock;
use crate::error::ArchiveError;
use crate::options::ArchiveOptions;
use crate::store::Store;
use crate::writer::Writer;

/// So many batches are between the reader and the disk.
const BATCHES: usize = 4;

/// What a batch has at most.
const BATCH: ReadLimit = ReadLimit {
    events: 1024,
    bytes: 512 * 1024,
};

/// Writes an event stream to an archive. It holds the directory's lock until it is dropped.
pub struct ArchiveSink {
    archive: Archive,
    /// Used by the thread of one run at a time.
    writer: Arc<Mutex<Writer>>,
    #[expect(dead_code, reason = "held until it is dropped")]
    lock: Lock,
}

impl ArchiveSink {
    /// Opens a directory for writing. What a process that was killed has left is put in order: see
    /// [`ArchiveCounts`](crate::ArchiveCounts).
    ///
    /// Blocks while it reads the directory. With the indexes of the segments that takes milliseconds.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] where another process writes to it, the directory cannot be made, read or written, or a bound
    /// is out of range.
    pub fn open(options: ArchiveOptions) -> Result<Self, ArchiveError> {
        let options = options.checked()?;
        let disk = options.disk();
        disk.create_dir()?;
        let lock = Lock::acquire(&disk)?;
        let store = Arc::new(Store::writer(disk)?);
        let writer = Writer::new(store.clone(), options);
        Ok(Self {
            archive: Archive::of(store),
            writer: Arc::new(Mutex::new(writer)),
            lock,
        })
    }

    /// Reads what is durable, while it is written to.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }
}

impl Sink for ArchiveSink {
    fn name(&self) -> &str {
        "archive"
    }

    fn resume(&self) -> BoxFuture<'_, Result<Option<Cursor>, SinkError>> {
        Box::pin(async {
            let store = self.archive.store().clone();
            let epochs = blocking::unblock(move || store.epochs()).await;
            let epochs = epochs.map_err(SinkError::new)?;
            let cursor = epochs.last().map(|(epoch, views)| Cursor {
                seq: views.iter().map(|it| it.summary.last).max().unwrap_or(0),
                epoch: Some(*epoch),
            });
            Ok(cursor)
        })
    }

    fn run(&self, reader: SinkReader, stop: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        let _ = stop;
        Box::pin(self.write(reader))
    }
}

impl ArchiveSink {
    /// Writes what the reader gives until it ends, and all of it is durable then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops what is not durable. The thread ends once the operation of the disk in which it is has ended.
    async fn write(&self, mut reader: SinkReader) -> Result<(), SinkError> {
        let (batches, received) = channel();
        let ended = Ended::default();
        let run = Run {
            writer: self.writer.clone(),
            epoch: reader.epoch(),
            progress: reader.progress(),
            batches: received,
            ended: ended.clone(),
        };
        thread::Builder::new()
            .name("archive".into())
            .spawn(move || run.execute())
            .map_err(SinkError::new)?;
        let free = Arc::new(Semaphore::new(BATCHES));
        let read_all = async {
            while let Some(items) = reader.read(BATCH).await {
                let permit = free.acquire_arc().await;
                if batches.send(Message::Batch(items, permit)).is_err() {
                    return;
                }
            }
            // Where nothing receives this, the thread has ended.
            let _ = batches.send(Message::Flush);
        };
        let mut read_all = std::pin::pin!(read_all);
        let mut ended = std::pin::pin!(ended.wait());
        let mut has_read = false;
        std::future::poll_fn(|cx| {
            if !has_read {
                has_read = read_all.as_mut().poll(cx).is_ready();
            }
            ended.as_mut().poll(cx)
        })
        .await
        .map_err(SinkError::new)
    }
}

enum Message {
    /// The permit is given back once the items are in a block.
    Batch(Vec<SinkItem>, SemaphoreGuardArc),
    /// Everything is to become durable; nothing follows.
    Flush,
}

/// One run's thread.
struct Run {
    writer: Arc<Mutex<Writer>>,
    epoch: Epoch,
    progress: Progress,
    batches: Receiver<Message>,
    ended: Ended,
}

impl Run {
    fn execute(self) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            // The thread of the run before may still be in an operation of the disk.
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let result = self.write(&mut writer);
            writer.abandon();
            result
        }));
        let result =
            result.unwrap_or_else(|_| Err("the thread of the archive has panicked".into()));
        self.ended.set(result);
    }

    fn write(&self, writer: &mut Writer) -> Result<(), Failure> {
        loop {
            let timeout = writer.next_tick().map_or(Duration::MAX, |tick| {
                tick.saturating_duration_since(Instant::now())
            });
            let message = match timeout {
                Duration::MAX => self
                    .batches
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                timeout => self.batches.recv_timeout(timeout),
            };
            match message {
                Ok(Message::Batch(items, _permit)) => {
                    for item in &items {
                        self.settle(writer.add(self.epoch, item)?);
                    }
                    self.settle(writer.tick(self.epoch)?);
                }
                Err(RecvTimeoutError::Timeout) => self.settle(writer.tick(self.epoch)?),
                Ok(Message::Flush) => {
                    self.settle(writer.flush(self.epoch)?);
                    return Ok(());
                }
                // The run was dropped.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn settle(&self, items: usize) {
        // Refused only where the run has ended already, which has its own account of it.
        let _ = self.progress.settle(Settled::Exported, items);
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How the thread has ended, for the run that waits for it.
#[derive(Clone, Default)]
struct Ended(Arc<EndedState>);

#[derive(Default)]
struct EndedState {
    result: Mutex<Option<Result<(), Failure>>>,
    changed: event_listener::Event,
}

impl Ended {
    fn set(&self, result: Result<(), Failure>) {
        *self.0.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.0.changed.notify(usize::MAX);
    }

    async fn wait(self) -> Result<(), Failure> {
        loop {
            let changed = self.0.changed.listen();
            let result = self
                .0
                .result
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match result {
                Some(result) => return result,
                None => changed.await,
            }
        }
    }
}
