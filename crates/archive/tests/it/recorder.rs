//! The flight recorder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::conformance::spawn_thread;
use tapline_api::{History, MemoryHistory, SinkHandle, SinkStatus};
use tapline_archive::{Archive, ArchiveOptions, FlightRecorder, RecorderOptions, check};
use tapline_events::TypePattern;
use tapline_oapi::{Event, KnownType};

use crate::support::{PATIENCE, Recorded, TempDir, all_json, block_on, event, wait_for};

struct Dumped {
    dumps: TempDir,
    recorded: Recorded,
    handle: SinkHandle,
    _archive_dir: TempDir,
}

const SECOND: u64 = 1_000_000;

/// With a ring of 16 events, and an archive behind it.
fn recorder(change: impl FnOnce(&mut RecorderOptions)) -> Dumped {
    let (dumps, archive_dir) = (TempDir::new(), TempDir::new());
    let recorded = Recorded::with_ring(&ArchiveOptions::new(archive_dir.path()), 16);
    let triggers = vec![TypePattern::new("page_crashed")];
    let mut options = RecorderOptions::new(dumps.path(), triggers);
    options.before = Duration::from_secs(50);
    options.after = Duration::from_millis(20);
    change(&mut options);
    let stream = recorded.session.stream().clone();
    let memory: Arc<dyn History> = Arc::new(MemoryHistory::new(stream.clone()));
    let archive: Arc<dyn History> = Arc::new(recorded.archive.clone());
    let recorder = FlightRecorder::new(options, memory, Some(archive)).unwrap();
    let (handle, task) = SinkHandle::new(stream, recorder);
    handle.on();
    spawn_thread(Box::pin(task));
    Dumped {
        dumps,
        recorded,
        handle,
        _archive_dir: archive_dir,
    }
}

impl Dumped {
    /// An event a second, from this second on. Gives their JSON.
    fn seconds(&self, from: u64, count: u64) -> Vec<String> {
        let events = (from..from + count).map(|n| {
            let json = self.recorded.publish_one(event(n).with_ts(n * SECOND));
            // The ring is small.
            self.recorded.settled();
            json
        });
        events.collect()
    }

    fn crash(&self, second: u64) -> String {
        let crash = Event::known(KnownType::PageCrashed, None).with_ts(second * SECOND);
        self.recorded.publish_one(crash)
    }

    fn done(&self) -> SinkStatus {
        let head = self.recorded.session.stream().head();
        wait_for(|| head <= self.handle.status().position);
        self.handle.status()
    }
}

#[test]
fn a_dump_has_what_memory_and_archive_have_around_the_event() {
    let dumped = recorder(|_| {});
    let published = dumped.seconds(1000, 100);
    let crash = dumped.crash(1100);
    let status = dumped.done();
    assert_eq!(status.ledger.exported, 1, "{status:?}");
    let archive = Archive::open(dumped.dumps.path()).unwrap();
    let expected: Vec<&String> = published[50..].iter().chain([&crash]).collect();
    assert_eq!(all_json(&archive).iter().collect::<Vec<_>>(), expected);
    let report = check(dumped.dumps.path(), |_, _| {}).unwrap();
    assert_eq!(report.findings, []);
}

#[test]
fn dumps_are_limited_in_time_and_number_and_what_is_left_out_is_counted() {
    let dumped = recorder(|options| {
        options.pause = Duration::from_secs(100);
        options.max_dumps = 2;
    });
    for n in 1..=4 {
        dumped.seconds(1000 * n, 3);
        dumped.crash(1000 * n + 3);
        // Too soon for another one.
        dumped.crash(1000 * n + 60);
        dumped.done();
    }
    let status = dumped.done();
    assert_eq!((status.ledger.exported, status.ledger.excluded), (4, 4));
    assert_eq!(dumped.dumps.segments().len(), 2);
    let found = all_json(&Archive::open(dumped.dumps.path()).unwrap());
    assert_eq!(found.len(), 8, "{found:?}");
}

#[test]
fn a_dump_that_would_be_too_large_has_the_newest_events() {
    let dumped = recorder(|options| options.max_dump_bytes = 1);
    let crash = {
        dumped.seconds(1000, 10);
        dumped.crash(1010)
    };
    dumped.done();
    let found = all_json(&Archive::open(dumped.dumps.path()).unwrap());
    assert_eq!(found.last(), Some(&crash));
}

#[test]
fn the_end_of_the_program_does_not_wait_for_what_follows() {
    let dumped = recorder(|options| options.after = Duration::from_secs(3600));
    dumped.crash(1000);
    let began = Instant::now();
    block_on(dumped.handle.shutdown(Instant::now() + PATIENCE));
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(dumped.handle.status().ledger.exported, 1);
    assert_eq!(dumped.dumps.segments().len(), 1);
}
