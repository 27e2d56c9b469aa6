//! The archive as a sink and as a history, under the facade's checks.

use std::fs;
use std::sync::Arc;

use tapline_api::conformance::{Arrived, SinkTarget, check_history, check_sink, spawn_thread};
use tapline_archive::{Archive, ArchiveOptions, ArchiveSink, FileOp};

use crate::support::{Failing, Recorded, TempDir, open};

struct Target {
    dir: TempDir,
    options: ArchiveOptions,
    faults: Arc<Failing>,
    failing: FileOp,
}

impl Target {
    fn new(failing: FileOp) -> Self {
        let dir = TempDir::new();
        let faults = Arc::new(Failing::default());
        let mut options = ArchiveOptions::new(dir.path());
        options.faults = Some(faults.clone());
        Self {
            dir,
            options,
            faults,
            failing,
        }
    }
}

impl SinkTarget for Target {
    type Sink = ArchiveSink;

    fn sink(&self) -> ArchiveSink {
        open(&self.options)
    }

    fn fail_next(&self, attempts: usize) {
        self.faults.next(self.failing, attempts);
    }

    /// As another tool reads it: the lines of the segments.
    fn arrived(&self) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        for segment in self.dir.segments() {
            let text = zstd::decode_all(fs::File::open(segment).unwrap()).unwrap();
            for line in String::from_utf8(text).unwrap().lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                arrived.push(match line["seq"].as_u64() {
                    Some(seq) => Arrived::Event(seq),
                    None => Arrived::Gap {
                        first: line["gap"]["first"].as_u64().unwrap(),
                        last: line["gap"]["last"].as_u64().unwrap(),
                    },
                });
            }
        }
        arrived
    }
}

#[test]
fn it_conforms_as_a_sink_whichever_operation_fails() {
    for failing in [FileOp::Create, FileOp::Write, FileOp::Sync, FileOp::SyncDir] {
        check_sink(|| Target::new(failing), spawn_thread).unwrap();
    }
}

#[test]
fn it_conforms_as_a_history_while_it_is_written_and_afterwards() {
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    // Many segments, each with several blocks.
    options.segment_bytes = 1000;
    let recorded = Recorded::new(&options);
    let mut published = Vec::new();
    for _ in 0..5 {
        published.extend(recorded.publish(60));
        recorded.settled();
    }
    let epoch = recorded.epoch();
    check_history(&recorded.archive, epoch, &published).unwrap();
    let other_process = Archive::open(dir.path()).unwrap();
    check_history(&other_process, epoch, &published).unwrap();
    recorded.stop();
    check_history(&recorded.archive, epoch, &published).unwrap();
    check_history(&other_process, epoch, &published).unwrap();
    check_history(&Archive::open(dir.path()).unwrap(), epoch, &published).unwrap();
    assert!(5 <= dir.segments().len(), "{:?}", dir.segments());
}
