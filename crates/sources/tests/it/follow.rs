//! The source with a session, on a file that grows.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tapline_api::ApiService;
use tapline_events::{EventStream, Item, Retention};
use tapline_oapi::{ConfigRequest, Event, data::EventData};
use tapline_sources::KernelLog;
use tapline_telemetry::{Reader, TelemetrySession};

use crate::oom::MEMORY_CGROUP;

/// For what should happen within a look or two at the file.
const DEADLINE: Duration = Duration::from_secs(30);

/// A file that is gone with the test.
struct Log(PathBuf);

impl Log {
    fn new(name: &str) -> Self {
        let name = format!("tapline-kernel-log-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create(&path).unwrap();
        Self(path)
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.0).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn service(source: KernelLog) -> ApiService {
    let stream = EventStream::new(Retention::default()).unwrap();
    ApiService::new(TelemetrySession::new(stream), source)
}

#[track_caller]
fn killed(reader: &mut Reader) -> (u64, u64) {
    let Some(Item::Envelope(envelope)) = reader.next(Some(DEADLINE)) else {
        panic!("a kill should be told")
    };
    let event: &Event = envelope.event();
    let Some(EventData::SystemOomKill(kill)) = event.typed_data().unwrap() else {
        panic!("{event:?}")
    };
    (envelope.seq(), kill.pid)
}

#[test]
fn what_comes_while_a_session_runs_is_told() {
    let log = Log::new("session");
    let again = MEMORY_CGROUP.replace("6051", "7");
    log.append(MEMORY_CGROUP);
    let api = service(KernelLog::new(&log.0));
    let mut reader = api.session().new_reader(0);

    api.put(&ConfigRequest::default()).unwrap();
    let (begin, end) = again.split_at(again.len() / 2);
    log.append(begin);
    log.append(end);
    assert_eq!(killed(&mut reader), (1, 7), "not the one from before");
    api.stop();

    // Between sessions nobody looks.
    log.append(MEMORY_CGROUP);
    api.put(&ConfigRequest::default()).unwrap();
    log.append(&MEMORY_CGROUP.replace("6051", "8"));
    assert_eq!(killed(&mut reader), (2, 8));

    // Emptied, and written to again: less than was read of it.
    File::create(&log.0).unwrap();
    log.append(&MEMORY_CGROUP.replace("6051", "9"));
    assert_eq!(killed(&mut reader), (3, 9));
    api.stop();
    assert!(reader.try_next().is_none());
}

#[test]
fn a_log_that_cannot_be_read_leaves_no_session() {
    let api = service(KernelLog::new("/nowhere/kmsg"));
    let error = api.put(&ConfigRequest::default()).unwrap_err();
    let error = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        error.contains("cannot read /nowhere/kmsg: No such file"),
        "{error}"
    );
    assert!(!api.session().active());
}
