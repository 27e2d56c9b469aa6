//! What storing events costs, and reading them back: the archive, and other ways to store the same events.
//!
//! Every candidate gets the recorded corpus as envelopes whose JSON is made already, and makes what it has durable every
//! 100 ms. Processor time is that of the whole process, so it holds also on a machine that others use; wall time holds only
//! on a quiet one.
//!
//! `cargo bench --bench archive -- [DIR [EVENTS [MIB]]]`: files go to DIR, and MIB is the size of the large archive.
//!
//! `-- large DIR NOISE MIB` measures the large archive alone, and leaves it in DIR. `-- publishing DIR EVENTS` measures what
//! a producer pays while sinks read.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde_json::value::RawValue;
use tapline_api::conformance::spawn_thread;
use tapline_api::{Filter, HistoryQuery, Order, ReadLimit, SinkHandle};
use tapline_archive::{Archive, ArchiveOptions, ArchiveSink};
use tapline_benches::corpus;
use tapline_events::{EventStream, Retention};
use tapline_oapi::Event;
use tapline_otlp::{OtlpOptions, OtlpSink};
use tapline_telemetry::{Envelope, TelemetryConfig, TelemetrySession};

type Outcome<T> = Result<T, Box<dyn Error>>;

const DURABLE_EVERY: Duration = Duration::from_millis(100);

const BLOCK_BYTES: usize = 256 * 1024;

fn main() -> Outcome<()> {
    let mut args = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .peekable();
    let mode = args.next_if(|arg| arg == "large" || arg == "publishing");
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let events: usize = args.next().map_or(Ok(300_000), |it| it.parse())?;
    let mib: u64 = args.next().map_or(Ok(2048), |it| it.parse())?;
    match mode.as_deref() {
        Some("large") => return large(&dir, mib, events),
        Some(_) => return publishing(&dir, events),
        None => {}
    }
    let dir = dir.join("tapline-bench-archive");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;

    let session = session(events)?;
    let archive_dir = dir.join("archive");
    let sink = ArchiveSink::open(ArchiveOptions {
        max_bytes: u64::MAX,
        ..ArchiveOptions::new(&archive_dir)
    })?;
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    // The window begins, and the sink does not run yet.
    handle.on();
    let corpus = corpus();
    let mut envelopes = Vec::with_capacity(events);
    for n in 0..events {
        let envelope = session.publish(&corpus[n % corpus.len()])?;
        let _ = envelope.json();
        envelopes.push(envelope);
    }
    let raw: u64 = envelopes.iter().map(|it| it.json().len() as u64 + 1).sum();
    println!("{events} events, {} MB of JSON", raw / 1_000_000);
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>8}",
        "", "events/s", "µs CPU", "size", "ratio"
    );

    let measure = |name: &str, path: &Path, work: &mut dyn FnMut() -> Outcome<()>| -> Outcome<()> {
        let (wall, cpu) = (Instant::now(), cpu_time());
        work()?;
        let (wall, cpu) = (wall.elapsed(), cpu_time() - cpu);
        let size = size_of_files(path);
        println!(
            "{name:<28} {:>10.0} {:>10.3} {:>8} kB {:>8.1}",
            events as f64 / wall.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / events as f64,
            size / 1000,
            raw as f64 / size as f64,
        );
        Ok(())
    };
    let mut task = Some(task);
    measure("archive", &archive_dir, &mut || {
        if let Some(task) = task.take() {
            spawn_thread(Box::pin(task));
        }
        while handle.status().position < events as u64 {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })?;
    let path = dir.join("plain.ndjson");
    measure("write + fdatasync", &path, &mut || plain(&path, &envelopes))?;
    let path = dir.join("redb");
    measure("redb, a row per block", &path, &mut || {
        redb_blocks(&path, &envelopes)
    })?;
    let path = dir.join("sqlite");
    measure("SQLite, a row per event", &path, &mut || {
        sqlite(&path, &envelopes)
    })?;

    zstd_alone(&envelopes)?;
    drop(envelopes);
    read_back(&archive_dir, raw)?;
    large(&dir.join("large"), mib, 2048)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn session(events: usize) -> Outcome<TelemetrySession> {
    let retention = Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    };
    let session = TelemetrySession::new(EventStream::new(retention)?);
    session.start(
        "0197f3a2c4d57e8b9a6c1d2e3f405162",
        TelemetryConfig::default(),
    )?;
    Ok(session)
}

fn plain(path: &Path, envelopes: &[Envelope]) -> Outcome<()> {
    let mut file = File::create(path)?;
    let mut synced = Instant::now();
    let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
    for envelope in envelopes {
        envelope.json().append_to(&mut block);
        block.push(b'\n');
        if BLOCK_BYTES <= block.len() {
            file.write_all(&block)?;
            block.clear();
            if DURABLE_EVERY <= synced.elapsed() {
                file.sync_data()?;
                synced = Instant::now();
            }
        }
    }
    file.write_all(&block)?;
    file.sync_data()?;
    Ok(())
}

fn redb_blocks(path: &Path, envelopes: &[Envelope]) -> Outcome<()> {
    const BLOCKS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("blocks");

    let database = redb::Database::create(path)?;
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    let mut transaction = database.begin_write()?;
    let mut synced = Instant::now();
    let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
    for envelope in envelopes {
        envelope.json().append_to(&mut block);
        block.push(b'\n');
        let is_last = envelope.seq() == envelopes.len() as u64;
        if BLOCK_BYTES <= block.len() || is_last {
            let compressed = compressor.compress(&block)?;
            let mut table = transaction.open_table(BLOCKS)?;
            table.insert(envelope.seq(), &compressed[..])?;
            drop(table);
            block.clear();
            if DURABLE_EVERY <= synced.elapsed() || is_last {
                transaction.commit()?;
                transaction = database.begin_write()?;
                synced = Instant::now();
            }
        }
    }
    Ok(())
}

fn sqlite(path: &Path, envelopes: &[Envelope]) -> Outcome<()> {
    let database = rusqlite::Connection::open(path)?;
    database.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table events (seq integer primary key, ts integer, type text, category text, json text);
         begin",
    )?;
    let mut insert = database.prepare("insert into events values (?, ?, ?, ?, ?)")?;
    let mut synced = Instant::now();
    for envelope in envelopes {
        let event = envelope.event();
        insert.execute((
            envelope.seq() as i64,
            envelope.ts() as i64,
            event.event_type.as_str(),
            event.category.as_str(),
            envelope.json().whole(),
        ))?;
        if envelope.seq() % 256 == 0 && DURABLE_EVERY <= synced.elapsed() {
            database.execute_batch("commit; begin")?;
            synced = Instant::now();
        }
    }
    database.execute_batch("commit")?;
    Ok(())
}

/// What compression alone costs, by level, and decompression: the archive cannot cost less.
fn zstd_alone(envelopes: &[Envelope]) -> Outcome<()> {
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>8} {:>12}",
        "zstd alone", "", "µs CPU", "size", "ratio", "back MB/s"
    );
    let mut blocks = Vec::new();
    let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
    let mut copying = Duration::ZERO;
    for some in envelopes.chunk_by(|a, b| a.seq() / 216 == b.seq() / 216) {
        let began = cpu_time();
        block.clear();
        for envelope in some {
            envelope.json().append_to(&mut block);
            block.push(b'\n');
        }
        copying += cpu_time() - began;
        blocks.push(block.clone());
    }
    let raw: usize = blocks.iter().map(Vec::len).sum();
    let a_event = |cpu: Duration| cpu.as_secs_f64() * 1e6 / envelopes.len() as f64;
    println!(
        "{:<28} {:>10} {:>10.3}",
        "copying the lines",
        "",
        a_event(copying)
    );
    for level in [-5, -3, -1, 1, 2, 3] {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        let (mut out, mut frames) = (Vec::with_capacity(BLOCK_BYTES), Vec::new());
        let compressing = cpu_time();
        for block in &blocks {
            out.clear();
            out.reserve(zstd::zstd_safe::compress_bound(block.len()));
            compressor.compress_to_buffer(block, &mut out)?;
            frames.push(out.clone());
        }
        let compressing = cpu_time() - compressing;
        let size: usize = frames.iter().map(Vec::len).sum();
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let mut back = Vec::with_capacity(2 * BLOCK_BYTES);
        let decompressing = cpu_time();
        for frame in &frames {
            back.clear();
            decompressor.decompress_to_buffer(frame, &mut back)?;
        }
        let decompressing = cpu_time() - decompressing;
        println!(
            "{:<28} {:>10} {:>10.3} {:>8} kB {:>8.1} {:>12.0}",
            format!("level {level}"),
            "",
            a_event(compressing),
            size / 1000,
            raw as f64 / size as f64,
            raw as f64 / 1e6 / decompressing.as_secs_f64(),
        );
    }
    Ok(())
}

fn read_back(dir: &Path, raw: u64) -> Outcome<()> {
    let archive = Archive::open(dir)?;
    let bounds = archive.bounds_now()?[0];
    let mut query = HistoryQuery {
        epoch: bounds.epoch,
        seqs: 1..=bounds.head,
        order: Order::Asc,
        filter: Filter::all(),
        since: None,
        until: None,
        limit: ReadLimit {
            events: 100_000,
            bytes: 16 * 1024 * 1024,
        },
    };
    let (wall, cpu) = (Instant::now(), cpu_time());
    let mut bytes = 0;
    while let Some(looked_at) = {
        let batch = archive.read_now(&query)?;
        bytes += batch
            .envelopes
            .iter()
            .map(|it| it.json().len() as u64 + 1)
            .sum::<u64>();
        batch.looked_at
    } {
        query.seqs = looked_at.end() + 1..=bounds.head;
    }
    let (wall, cpu) = (wall.elapsed(), cpu_time() - cpu);
    assert_eq!(bytes, raw, "everything is read");
    println!(
        "reading back                 {:.0} MB/s of JSON, {:.0} MB for each second of CPU",
        bytes as f64 / 1e6 / wall.as_secs_f64(),
        bytes as f64 / 1e6 / cpu.as_secs_f64(),
    );
    Ok(())
}

/// An archive of at least `mib` MiB on the disk in 160 segments, as many as 10 GiB have with segments of 64 MiB. One that
/// is there already is used, so that it can be made before the machine is quiet.
///
/// An event is one of the recorded corpus with as many bytes as `noise` of text that differs from event to event, and that
/// zstd halves at most. Its time is its number.
fn large(dir: &Path, mib: u64, noise: usize) -> Outcome<()> {
    if !dir.exists() {
        fill(dir, mib, noise)?;
    }
    let before = resident();
    let opened = Instant::now();
    let archive = Archive::open(dir)?;
    let opened = opened.elapsed();
    let bounds = archive.bounds_now()?[0];
    let events = bounds.head;
    let mut query = HistoryQuery {
        epoch: bounds.epoch,
        seqs: 1..=u64::MAX,
        order: Order::Asc,
        filter: Filter::all(),
        since: Some(events / 2),
        until: None,
        limit: ReadLimit::default(),
    };
    let first = Instant::now();
    let batch = archive.read_now(&query)?;
    let first = first.elapsed();
    assert_eq!(batch.envelopes[0].ts(), events / 2);
    // The first event alone, elsewhere, a hundred times.
    query.limit.events = 1;
    let mut times: Vec<Duration> = Vec::new();
    for n in 1..=100 {
        query.since = Some(events / 101 * n);
        let began = Instant::now();
        let batch = archive.read_now(&query)?;
        times.push(began.elapsed());
        assert_eq!(batch.envelopes[0].ts(), events / 101 * n);
    }
    times.sort();
    query.limit = ReadLimit::default();
    // A little of every segment, so that all indexes were read.
    for n in 0..640 {
        query.since = Some(1 + events / 640 * n);
        archive.read_now(&query)?;
    }
    let raw: u64 = archive.segments()?.iter().map(|it| it.raw_bytes).sum();
    println!(
        "{} MiB ({} MiB of JSON) in {} segments, {events} events: opened in {:.1} ms, first page of a `since` in the middle after {:.1} ms",
        size_of_files(dir) / 1024 / 1024,
        raw / 1024 / 1024,
        archive.segments()?.len(),
        opened.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
    );
    println!(
        "first event of a `since`, at 100 places: median {:.2} ms, largest {:.2} ms",
        times[50].as_secs_f64() * 1e3,
        times[99].as_secs_f64() * 1e3,
    );
    println!(
        "resident: {before} KiB before it is opened, {} KiB after 640 reads all over it",
        resident()
    );
    Ok(())
}

fn fill(dir: &Path, mib: u64, noise: usize) -> Outcome<()> {
    const RETAINED: usize = 8192;
    let session = session(RETAINED)?;
    let sink = ArchiveSink::open(ArchiveOptions {
        max_bytes: u64::MAX,
        segment_bytes: mib * 1024 * 1024 / 160,
        ..ArchiveOptions::new(dir)
    })?;
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    spawn_thread(Box::pin(task));
    let corpus = corpus();
    let mut state = 1_u64;
    let mut events = 0_u64;
    while size_of_files(dir) < mib * 1024 * 1024 {
        for _ in 0..RETAINED / 4 {
            let event = &corpus[events as usize % corpus.len()];
            events += 1;
            let data = event.data.as_deref().map_or("null", RawValue::get);
            let mut text = String::with_capacity(noise + data.len() + 32);
            text.push_str("{\"noise\":\"");
            while text.len() < noise {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let bits = state ^ state >> 31;
                text.extend(
                    (0..16)
                        .map(|n| char::from(b"0123456789abcdef"[(bits >> (4 * n)) as usize % 16])),
                );
            }
            text.push_str("\",\"of\":");
            text.push_str(data);
            text.push('}');
            let event = Event {
                data: Some(RawValue::from_string(text)?),
                ts: events,
                ..Event::clone(event)
            };
            session.publish(event)?;
        }
        while handle.status().position + RETAINED as u64 / 4 < events {
            thread::sleep(Duration::from_micros(200));
        }
    }
    while handle.status().position < events {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(handle.status().ledger.lost, 0);
    println!("made; resident: {} KiB", resident());
    Ok(())
}

/// What a producer pays for each event, without sinks, and while an archive and an export to OpenTelemetry read all of it.
fn publishing(dir: &Path, events: usize) -> Outcome<()> {
    let corpus = corpus();
    let endpoint = accepting()?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..10 {
        let with_sinks = round % 2 == 1;
        let session = session(65_536)?;
        let mut handles = Vec::new();
        if with_sinks {
            let _ = fs::remove_dir_all(dir);
            let archive = ArchiveSink::open(ArchiveOptions::new(dir))?;
            let (handle, task) = SinkHandle::new(session.stream().clone(), archive);
            handle.on();
            spawn_thread(Box::pin(task));
            handles.push(handle);
            let otlp = OtlpSink::new(OtlpOptions::new(&format!("http://{endpoint}"))?)?;
            let (handle, task) = SinkHandle::new(session.stream().clone(), otlp);
            handle.on();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            thread::spawn(move || runtime.block_on(task));
            handles.push(handle);
        }
        // The thread has a name, so that its instructions can be counted apart (`perf record -e instructions:u`).
        let name = if with_sinks {
            "pub-with-sinks"
        } else {
            "pub-alone"
        };
        let corpus = corpus.clone();
        let publisher = thread::Builder::new().name(name.into()).spawn(move || {
            let mut cpu = Duration::ZERO;
            for n in 0..events / 2048 {
                let began = clock_gettime(ClockId::ThreadCPUTime);
                for m in 0..2048 {
                    let event = &corpus[(n * 2048 + m) % corpus.len()];
                    let published = session.publish(event);
                    assert!(published.is_ok());
                }
                let ended = clock_gettime(ClockId::ThreadCPUTime);
                cpu += since(began, ended);
                // About 100,000 events a second.
                thread::sleep(Duration::from_millis(20));
            }
            cpu / u32::try_from(events / 2048 * 2048).unwrap_or(u32::MAX)
        })?;
        let each = publisher.join().map_err(|_| "the publisher has panicked")?;
        times[usize::from(with_sinks)].push(each);
        for handle in handles {
            let status = handle.status();
            assert!(0 < status.ledger.read, "{status:?}");
            let until = Instant::now() + Duration::from_secs(2);
            spawn_thread(Box::pin(async move { handle.shutdown(until).await }));
        }
        thread::sleep(Duration::from_millis(300));
    }
    let [alone, with_sinks] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_nanos()
    });
    println!(
        "publishing, CPU of the producer's thread: {alone} ns an event alone, {with_sinks} ns with archive and OTLP: {:.2} x",
        with_sinks as f64 / alone as f64
    );
    Ok(())
}

/// An endpoint that accepts everything.
fn accepting() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || accept(&socket));
        }
    });
    Ok(address)
}

fn accept(socket: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        let mut socket = socket;
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}

fn since(began: Timespec, ended: Timespec) -> Duration {
    let time = |it: Timespec| Duration::new(it.tv_sec as u64, it.tv_nsec as u32);
    time(ended).saturating_sub(time(began))
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn size_of_files(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|it| it.len())
            .sum(),
        Err(_) => fs::metadata(path).map_or(0, |it| it.len()),
    }
}

/// The resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
