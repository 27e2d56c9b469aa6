//! The source with a session, on a file that grows, on a FIFO, and on a log without an end.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::ApiService;
use tapline_events::{EventStream, Item, Retention};
use tapline_oapi::{ConfigRequest, Event, data::EventData};
use tapline_sources::KernelLog;
use tapline_telemetry::{Reader, TelemetrySession};

use crate::oom::MEMORY_CGROUP;

/// For what should happen within a look or two at the file.
const DEADLINE: Duration = Duration::from_secs(30);

/// A file that is removed with the test.
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

/// Stops the session and checks that the source did not make it wait.
async fn stop_promptly(api: &ApiService) {
    let began = Instant::now();
    api.delete().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the source should stop by itself, not at the deadline"
    );
}

/// A service with this source, and its session, which a reader can be opened on.
fn service(source: KernelLog) -> (Arc<TelemetrySession>, ApiService) {
    let stream = EventStream::new(Retention::default()).unwrap();
    let session = Arc::new(TelemetrySession::new(stream));
    let api = ApiService::new(session.clone()).with_source(source);
    (session, api)
}

#[track_caller]
fn killed(reader: &mut Reader) -> (u64, u64) {
    let Some(Item::Envelope(envelope)) = reader.next(Some(DEADLINE)) else {
        panic!("a kill should be reported")
    };
    let event: &Event = envelope.event();
    let Some(EventData::SystemOomKill(kill)) = event.typed_data().unwrap() else {
        panic!("{event:?}")
    };
    (envelope.seq(), kill.pid)
}

#[tokio::test]
async fn what_is_written_while_a_session_runs_is_reported() {
    let log = Log::new("session");
    let again = MEMORY_CGROUP.replace("6051", "7");
    log.append(MEMORY_CGROUP);
    let (session, api) = service(KernelLog::new(&log.0));
    let mut reader = session.new_reader(0);

    api.put(&ConfigRequest::default()).await.unwrap();
    let (begin, end) = again.split_at(again.len() / 2);
    log.append(begin);
    log.append(end);
    assert_eq!(killed(&mut reader), (1, 7), "not the one written before");
    api.delete().await.unwrap();

    // Between sessions nothing is read.
    log.append(MEMORY_CGROUP);
    api.put(&ConfigRequest::default()).await.unwrap();
    log.append(&MEMORY_CGROUP.replace("6051", "8"));
    assert_eq!(killed(&mut reader), (2, 8));

    // Truncated, and written to again: less than was read of it.
    File::create(&log.0).unwrap();
    log.append(&MEMORY_CGROUP.replace("6051", "9"));
    assert_eq!(killed(&mut reader), (3, 9));
    api.delete().await.unwrap();
    assert!(reader.try_next().is_none());
}

#[tokio::test]
async fn a_log_that_cannot_be_read_leaves_no_session() {
    let (_, api) = service(KernelLog::new("/nowhere/kmsg"));
    let error = api.put(&ConfigRequest::default()).await.unwrap_err();
    let error = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        error.contains("cannot read /nowhere/kmsg: No such file"),
        "{error}"
    );
    assert!(api.state().is_err());
}

#[tokio::test]
async fn a_fifo_is_followed_and_stopped_while_a_writer_is_silent() {
    let log = Log::new("fifo");
    fs::remove_file(&log.0).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &log.0,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let (session, api) = service(KernelLog::new(&log.0));
    let mut reader = session.new_reader(0);

    // Without a writer.
    api.put(&ConfigRequest::default()).await.unwrap();
    stop_promptly(&api).await;

    // With one that keeps the FIFO open and says nothing more.
    api.put(&ConfigRequest::default()).await.unwrap();
    let mut writer = OpenOptions::new().write(true).open(&log.0).unwrap();
    writer.write_all(MEMORY_CGROUP.as_bytes()).unwrap();
    assert_eq!(killed(&mut reader), (1, 6051));
    stop_promptly(&api).await;
}

/// A log that is written faster than it is read.
#[tokio::test]
async fn a_log_without_an_end_is_stopped() {
    let (_, api) = service(KernelLog::new("/dev/zero"));
    for _ in 0..3 {
        api.put(&ConfigRequest::default()).await.unwrap();
        stop_promptly(&api).await;
    }
}
