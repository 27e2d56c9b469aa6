//! Sinks: the example and one that is broken for each property, under the conformance check.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tapline_api::conformance::{Arrived, SinkTarget, block_on, check_sink, spawn_thread};
use tapline_api::{
    ApiService, BoxFuture, Progress, ReadLimit, Settled, Sink, SinkError, SinkHandle, SinkItem,
    SinkReader, SinkSwitch, SpanLedger, StopSignal,
};
use tapline_oapi::{ConfigRequest, Cursor, Event, KnownType};
use tapline_telemetry::TelemetryConfig;

use crate::session;

/// The example: a line of NDJSON for each event, and one for each gap.
struct FileSink {
    path: PathBuf,
    failures: Arc<AtomicUsize>,
}

impl FileSink {
    fn append(&self, items: &[SinkItem]) -> std::io::Result<()> {
        let failures = self
            .failures
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
        if failures.is_ok() {
            return Err(std::io::Error::other("the disk is busy"));
        }
        let mut lines = String::new();
        for item in items {
            match item {
                SinkItem::Event(envelope) => lines.push_str(&envelope.json().whole()),
                SinkItem::Gap(lost) => {
                    lines.push_str(&format!("{{\"gap\":[{},{}]}}", lost.first, lost.last));
                }
            }
            lines.push('\n');
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        file.write_all(lines.as_bytes())
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        "file"
    }

    /// The seq of the last line.
    fn resume(&self) -> BoxFuture<'_, Result<Option<Cursor>, SinkError>> {
        Box::pin(async {
            let last = read(&self.path).pop();
            Ok(last.map(|last| Cursor {
                seq: match last {
                    Arrived::Event(seq) => seq,
                    Arrived::Gap { last, .. } => last,
                },
                epoch: None,
            }))
        })
    }

    fn run(&self, mut reader: SinkReader, _: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let progress = reader.progress();
            while let Some(items) = reader.read(ReadLimit::default()).await {
                self.append(&items).map_err(SinkError::new)?;
                progress
                    .settle(Settled::Exported, items.len())
                    .map_err(SinkError::new)?;
            }
            Ok(())
        })
    }
}

/// What is in the file.
fn read(path: &PathBuf) -> Vec<Arrived> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str| {
        let digits = text.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap()
    };
    text.lines()
        .map(|line| match line.strip_prefix("{\"gap\":[") {
            Some(gap) => {
                let (first, last) = gap.split_once(',').unwrap();
                Arrived::Gap {
                    first: number(first),
                    last: number(last),
                }
            }
            None => Arrived::Event(number(line.strip_prefix("{\"seq\":").unwrap())),
        })
        .collect()
}

/// A file that is removed with the test.
struct Target {
    path: PathBuf,
    failures: Arc<AtomicUsize>,
}

impl Target {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, SeqCst);
        let name = format!("tapline-sink-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create(&path).unwrap();
        Self {
            path,
            failures: Arc::default(),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
}

impl SinkTarget for Target {
    type Sink = FileSink;

    fn sink(&self) -> FileSink {
        FileSink {
            path: self.path.clone(),
            failures: self.failures.clone(),
        }
    }

    fn fail_next(&self, attempts: usize) {
        self.failures.store(attempts, SeqCst);
    }

    fn arrived(&self) -> Vec<Arrived> {
        read(&self.path)
    }
}

#[test]
fn a_file_sink_conforms() {
    check_sink(Target::new, spawn_thread).unwrap();
}

/// How a sink is broken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    SwapsTwo,
    DropsWhatFails,
    CountsTwice,
    CountsNothing,
    HidesGaps,
    RepeatsTheLastBatchWhenItRuns,
    KeepsSomeBackWhenItEnds,
    ExportsKeptOnesInTheNextWindow,
    ResumesTooEarly,
}

/// A sink into memory, with a fault.
#[derive(Clone)]
struct Memory(Arc<Inner>);

struct Inner {
    fault: Fault,
    arrived: Mutex<Vec<Arrived>>,
    failures: AtomicUsize,
    last_batch: Mutex<Vec<Arrived>>,
    kept: Mutex<Vec<Arrived>>,
}

impl Memory {
    fn new(fault: Fault) -> Self {
        Self(Arc::new(Inner {
            fault,
            arrived: Mutex::default(),
            failures: AtomicUsize::new(0),
            last_batch: Mutex::default(),
            kept: Mutex::default(),
        }))
    }

    fn has(&self, fault: Fault) -> bool {
        self.0.fault == fault
    }

    fn fails(&self) -> bool {
        let failures = &self.0.failures;
        failures
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
            .is_ok()
    }
}

impl Sink for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn resume(&self) -> BoxFuture<'_, Result<Option<Cursor>, SinkError>> {
        Box::pin(async {
            let arrived = self.0.arrived.lock().unwrap();
            let last = arrived.iter().rev().find_map(|item| match item {
                Arrived::Event(seq) => Some(*seq),
                Arrived::Gap { .. } => None,
            });
            let early = u64::from(self.has(Fault::ResumesTooEarly));
            Ok(last.map(|seq| Cursor {
                seq: seq - early,
                epoch: None,
            }))
        })
    }

    fn run(&self, mut reader: SinkReader, _: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let progress = reader.progress();
            let arrive = |items: Vec<Arrived>| self.0.arrived.lock().unwrap().extend(items);
            if self.has(Fault::RepeatsTheLastBatchWhenItRuns) {
                arrive(self.0.last_batch.lock().unwrap().clone());
            }
            if self.has(Fault::ExportsKeptOnesInTheNextWindow) {
                arrive(std::mem::take(&mut *self.0.kept.lock().unwrap()));
            }
            let limit = ReadLimit {
                events: 10,
                bytes: usize::MAX,
            };
            while let Some(items) = reader.read(limit).await {
                let count = items.len();
                let mut batch: Vec<_> = items
                    .iter()
                    .filter_map(|item| match item {
                        SinkItem::Event(envelope) => Some(Arrived::Event(envelope.seq())),
                        SinkItem::Gap(_) if self.has(Fault::HidesGaps) => None,
                        SinkItem::Gap(lost) => Some(lost.into()),
                    })
                    .collect();
                if self.has(Fault::SwapsTwo) && batch.len() > 1 {
                    batch.swap(0, 1);
                }
                let fails = self.fails();
                if fails && !self.has(Fault::DropsWhatFails) {
                    return Err(SinkError::new("busy"));
                }
                if self.has(Fault::ExportsKeptOnesInTheNextWindow)
                    || (self.has(Fault::KeepsSomeBackWhenItEnds) && batch.len() < 10)
                {
                    let last = batch.pop();
                    self.0.kept.lock().unwrap().extend(last);
                }
                *self.0.last_batch.lock().unwrap() = batch.clone();
                if !fails {
                    arrive(batch);
                }
                match self.0.fault {
                    Fault::CountsNothing => {}
                    Fault::CountsTwice => {
                        progress.settle(Settled::Exported, count).unwrap();
                        progress
                            .settle(Settled::Exported, count)
                            .map_err(SinkError::new)?;
                    }
                    _ => progress.settle(Settled::Exported, count).unwrap(),
                }
            }
            Ok(())
        })
    }
}

impl SinkTarget for Memory {
    type Sink = Self;

    fn sink(&self) -> Self {
        self.clone()
    }

    fn fail_next(&self, attempts: usize) {
        self.0.failures.store(attempts, SeqCst);
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.0.arrived.lock().unwrap().clone()
    }
}

#[test]
fn a_memory_sink_conforms() {
    check_sink(|| Memory::new(Fault::None), spawn_thread).unwrap();
}

/// A check that cannot fail is a defect.
#[test]
fn the_conformance_check_finds_each_fault() {
    for (fault, property) in [
        (Fault::SwapsTwo, "delivers in order"),
        (Fault::DropsWhatFails, "retries"),
        (Fault::CountsNothing, "counts what it exports"),
        (Fault::HidesGaps, "reports gaps inside the data"),
        (Fault::ExportsKeptOnesInTheNextWindow, "delivers in order"),
        // Which window shows it first depends on how the events fall into batches.
        (Fault::KeepsSomeBackWhenItEnds, ""),
        (Fault::RepeatsTheLastBatchWhenItRuns, "nothing arrives"),
        (Fault::ResumesTooEarly, "resumes after its cursor"),
    ] {
        let found = check_sink(|| Memory::new(fault), spawn_thread).unwrap_err();
        assert!(
            found.property.starts_with(property),
            "{fault:?} is found as: {found}"
        );
    }
}

fn started(sink: Memory) -> (tapline_telemetry::TelemetrySession, SinkHandle) {
    let session = session(1024);
    session.start("s-1", TelemetryConfig::default()).unwrap();
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    spawn_thread(Box::pin(task));
    (session, handle)
}

#[test]
fn a_sink_cannot_settle_more_than_it_has_read() {
    let sink = Memory::new(Fault::CountsTwice);
    let (session, handle) = started(sink);
    handle.on();
    session
        .publish(Event::known(KnownType::PageLoad, None))
        .unwrap();
    block_on(handle.off(Instant::now() + Duration::from_secs(20)));
    let status = handle.status();
    assert_eq!((status.ledger.read, status.ledger.exported), (1, 1));
    let error = status.last_error.unwrap();
    assert!(
        error.contains("1 items were settled, but only 0"),
        "{error}"
    );
    block_on(handle.shutdown(Instant::now()));
}

#[test]
fn a_sink_that_never_succeeds_ends_at_the_deadline_and_its_ledger_closes() {
    let sink = Memory::new(Fault::None);
    sink.fail_next(usize::MAX);
    let (session, handle) = started(sink.clone());
    handle.on();
    for _ in 0..5 {
        session
            .publish(Event::known(KnownType::PageLoad, None))
            .unwrap();
    }
    let began = Instant::now();
    block_on(handle.shutdown(began + Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_secs(5));
    // The task may be a moment behind the deadline.
    while handle.status().ledger.pending > 0 {
        std::thread::yield_now();
    }
    let status = handle.status();
    let ledger = status.ledger;
    assert_eq!(
        ledger.read,
        ledger.exported + ledger.excluded + ledger.rejected + ledger.failed + ledger.pending
    );
    assert_eq!((ledger.exported, status.is_on), (0, false));
    assert_eq!(status.last_error.as_deref(), Some("busy"));
    assert!(sink.arrived().is_empty());
}

/// A sink whose other end is gone is switched off and on while it tries: no call waits for it.
#[test]
fn a_sink_that_does_not_end_delays_no_call() {
    let sink = Memory::new(Fault::None);
    sink.fail_next(usize::MAX);
    let api = ApiService::new(session(1024));
    let (api, task) = api.with_sink(SinkSwitch::Storage, sink);
    spawn_thread(Box::pin(task));
    let enabled = |on: bool| crate::request(&format!(r#"{{"storage":{{"enabled":{on}}}}}"#));
    // Each of them is answered at the first poll.
    crate::ready(api.put(&ConfigRequest::default())).unwrap();
    crate::publish(&api, r#"{"type":"page_load"}"#).unwrap();
    assert!(api.sinks()[0].is_on);
    for on in [false, true, false] {
        crate::ready(api.patch(&enabled(on))).unwrap();
        assert_eq!(api.sinks()[0].is_on, on);
        crate::ready(api.put(&enabled(on))).unwrap();
        assert_eq!(api.sinks()[0].is_on, on);
    }
    // What a configuration does not name is on.
    crate::ready(api.put(&ConfigRequest::default())).unwrap();
    assert!(api.sinks()[0].is_on);
    crate::ready(api.delete()).unwrap();
    let began = Instant::now();
    block_on(api.shutdown_sinks(began + Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Makes two spans in each run, which are never settled.
struct MakesSpans(Arc<Mutex<Vec<Progress>>>);

impl Sink for MakesSpans {
    fn name(&self) -> &str {
        "spans"
    }

    fn run(&self, mut reader: SinkReader, _: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let progress = reader.progress();
            self.0.lock().unwrap().push(progress.clone());
            progress.make_spans(2);
            while let Some(items) = reader.read(ReadLimit::default()).await {
                progress
                    .settle(Settled::Exported, items.len())
                    .map_err(SinkError::new)?;
            }
            Ok(())
        })
    }
}

#[test]
fn spans_that_are_pending_when_a_run_ends_have_failed() {
    let session = session(1024);
    let runs = Arc::default();
    let (handle, task) = SinkHandle::new(session.stream().clone(), MakesSpans(Arc::clone(&runs)));
    spawn_thread(Box::pin(task));
    for round in 1..=2 {
        handle.on();
        while handle.status().spans.is_none_or(|it| it.made < 2 * round) {
            std::thread::yield_now();
        }
        // What the run before still does is in no count: its spans have failed.
        if let [old, _] = &runs.lock().unwrap()[..] {
            old.make_spans(7);
            old.settle_spans(Settled::Exported, 1);
        }
        block_on(handle.off(Instant::now() + Duration::from_secs(20)));
        let expected = SpanLedger {
            made: 2 * round,
            failed: 2 * round,
            ..SpanLedger::default()
        };
        assert_eq!(handle.status().spans, Some(expected));
    }
    block_on(handle.shutdown(Instant::now()));
}

/// Reads half of each gap from elsewhere. The first run fails before it settles one.
struct Recovers(AtomicUsize);

impl Sink for Recovers {
    fn name(&self) -> &str {
        "recovers"
    }

    fn run(&self, mut reader: SinkReader, _: StopSignal) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let progress = reader.progress();
            let run = self.0.fetch_add(1, SeqCst);
            while let Some(items) = reader.read(ReadLimit::default()).await {
                for item in items {
                    if let SinkItem::Gap(gap) = item {
                        progress.recover(gap.count() / 2);
                        if run == 0 {
                            return Err(SinkError::new("busy"));
                        }
                    }
                    progress.settle(Settled::Exported, 1).unwrap();
                    // The next item is an event, or there is none.
                    progress.recover(7);
                }
            }
            Ok(())
        })
    }
}

#[test]
fn what_a_sink_recovers_is_not_lost_and_counts_once() {
    let session = session(16);
    session.start("s-1", TelemetryConfig::default()).unwrap();
    let sink = Recovers(AtomicUsize::new(0));
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    for _ in 0..40 {
        let event = Event::known(KnownType::PageLoad, None);
        session.publish(event).unwrap();
    }
    spawn_thread(Box::pin(task));
    block_on(handle.off(Instant::now() + Duration::from_secs(20)));
    let ledger = handle.status().ledger;
    let evicted = 40 - ledger.read;
    assert!(1 < evicted, "{ledger:?}");
    assert_eq!(
        (ledger.exported, ledger.recovered, ledger.lost),
        (40 - evicted, evicted / 2, evicted - evicted / 2)
    );
    block_on(handle.shutdown(Instant::now()));
}
