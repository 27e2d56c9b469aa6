//! Directories, streams and faults for the tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
pub(crate) use tapline_api::conformance::block_on;
use tapline_api::conformance::spawn_thread;
use tapline_api::{HistoryBatch, HistoryQuery, Order, ReadLimit, SinkHandle, SinkStatus};
use tapline_archive::{Archive, ArchiveError, ArchiveOptions, ArchiveSink, Faults, FileOp};
use tapline_events::{Epoch, EventStream, Filter, Retention};
use tapline_oapi::{Category, Event, KnownType};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

/// How long something may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of its own, deleted at the end.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "tapline-archive-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, SeqCst)
        );
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The segments in it, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        files(&self.0, ".ndjson.zst")
    }

    pub(crate) fn indexes(&self) -> Vec<PathBuf> {
        files(&self.0, ".idx")
    }
}

pub(crate) fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .collect();
    paths.sort();
    paths
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes operations fail: of each kind, the next so many.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    ops: Mutex<Vec<(FileOp, usize)>>,
    pub(crate) failed: AtomicUsize,
}

impl Failing {
    pub(crate) fn next(&self, op: FileOp, times: usize) {
        self.ops.lock().unwrap().push((op, times));
    }
}

impl Faults for Failing {
    fn before(&self, op: FileOp, _: &Path) -> io::Result<()> {
        for (failing, times) in &mut *self.ops.lock().unwrap() {
            if *failing == op && 0 < *times {
                *times -= 1;
                self.failed.fetch_add(1, SeqCst);
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        Ok(())
    }
}

/// Opens an archive for writing, once the one before is closed.
pub(crate) fn open(options: &ArchiveOptions) -> ArchiveSink {
    let end = Instant::now() + PATIENCE;
    loop {
        match ArchiveSink::open(options.clone()) {
            Ok(sink) => return sink,
            Err(ArchiveError::InUse { .. }) if Instant::now() < end => thread::yield_now(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A session whose events go to an archive.
pub(crate) struct Recorded {
    pub(crate) session: TelemetrySession,
    pub(crate) archive: Archive,
    handle: SinkHandle,
}

impl Recorded {
    pub(crate) fn new(options: &ArchiveOptions) -> Self {
        Self::with_ring(options, 65_536)
    }

    pub(crate) fn with_ring(options: &ArchiveOptions, events: usize) -> Self {
        let retention = Retention {
            events,
            bytes: u64::MAX,
            ..Retention::default()
        };
        let session = TelemetrySession::new(EventStream::new(retention).unwrap());
        session.start("s1", TelemetryConfig::default()).unwrap();
        let sink = open(options);
        let archive = sink.archive();
        let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
        handle.on();
        spawn_thread(Box::pin(task));
        Self {
            session,
            archive,
            handle,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.session.stream().epoch()
    }

    /// Publishes events of several types and sizes. Gives their JSON.
    pub(crate) fn publish(&self, count: u64) -> Vec<String> {
        (0..count).map(|n| self.publish_one(event(n))).collect()
    }

    pub(crate) fn publish_one(&self, event: Event) -> String {
        self.session.publish(event).unwrap().json().to_string()
    }

    pub(crate) fn status(&self) -> SinkStatus {
        self.handle.status()
    }

    /// Waits until everything that was published is durable.
    pub(crate) fn settled(&self) {
        let end = Instant::now() + PATIENCE;
        while self.status().position < self.session.stream().head() {
            assert!(Instant::now() < end, "{:?}", self.status());
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn off(&self) {
        block_on(self.handle.off(Instant::now() + PATIENCE));
    }

    pub(crate) fn on(&self) {
        self.handle.on();
    }

    pub(crate) fn stop(&self) {
        block_on(self.handle.shutdown(Instant::now() + PATIENCE));
    }
}

/// The nth of a series of events that differ.
pub(crate) fn event(n: u64) -> Event {
    let data = format!(
        "{{\"n\":{n},\"text\":\"{}\"}}",
        "lorem ipsum ".repeat((n % 17) as usize)
    );
    let data = Some(RawValue::from_string(data).unwrap());
    match n % 5 {
        0 => Event::known(KnownType::PageLoad, data),
        1 => Event::known(KnownType::NetworkRequest, data),
        2 => Event::known(KnownType::ConsoleLog, data),
        3 => Event::known(KnownType::NetworkResponse, data),
        _ => Event::custom("checkout_done", Category::Page, data).unwrap(),
    }
}

pub(crate) fn query(epoch: Epoch) -> HistoryQuery {
    HistoryQuery {
        epoch,
        seqs: 1..=u64::MAX,
        order: Order::Asc,
        filter: Filter::all(),
        since: None,
        until: None,
        limit: ReadLimit::default(),
    }
}

/// Reads to the end: everything that was found, and everything that is missing.
pub(crate) fn read_all(archive: &Archive, mut query: HistoryQuery) -> HistoryBatch {
    let mut all = HistoryBatch::default();
    while !query.seqs.is_empty() {
        let batch = archive.read_now(&query).unwrap();
        let Some(looked_at) = batch.looked_at else {
            break;
        };
        assert!(!looked_at.is_empty(), "no progress");
        all.envelopes.extend(batch.envelopes);
        for gone in batch.missing {
            all.add_missing(gone);
        }
        query.seqs = match query.order {
            Order::Asc => looked_at.end() + 1..=*query.seqs.end(),
            Order::Desc => *query.seqs.start()..=looked_at.start() - 1,
        };
    }
    all
}

/// The JSON of everything in an archive, the oldest epoch first.
pub(crate) fn all_json(archive: &Archive) -> Vec<String> {
    let epochs = archive.bounds_now().unwrap();
    let batches = epochs.iter().map(|it| read_all(archive, query(it.epoch)));
    batches
        .flat_map(|batch| batch.envelopes)
        .map(|envelope| envelope.json().to_string())
        .collect()
}

pub(crate) fn wait_for(condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "it did not happen in time");
        thread::sleep(Duration::from_millis(1));
    }
}
