//! What storing events costs, and reading them back: the archive, and other ways to store the same events.
//!
//! Every candidate gets the recorded corpus as envelopes whose JSON is made already, and makes what it has durable every
//! 100 ms. Processor time is that of the whole process, so it holds also on a machine that others use; wall time holds only
//! on a quiet one.
//!
//! `cargo bench --bench archive -- [DIR [EVENTS [MIB]]]`: files go to DIR, and MIB is the size of the large archive.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;
use tapline_api::conformance::spawn_thread;
use tapline_api::{Filter, HistoryQuery, Order, ReadLimit, SinkHandle};
use tapline_archive::{Archive, ArchiveOptions, ArchiveSink};
use tapline_benches::corpus;
use tapline_events::{EventStream, Retention};
use tapline_oapi::{Event, KnownType};
use tapline_telemetry::{Envelope, TelemetryConfig, TelemetrySession};

type Outcome<T> = Result<T, Box<dyn Error>>;

const DURABLE_EVERY: Duration = Duration::from_millis(100);

const BLOCK_BYTES: usize = 256 * 1024;

fn main() -> Outcome<()> {
    let mut args = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"));
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let events: usize = args.next().map_or(Ok(300_000), |it| it.parse())?;
    let mib: u64 = args.next().map_or(Ok(2048), |it| it.parse())?;
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

    drop(envelopes);
    read_back(&archive_dir, raw)?;
    large(&dir.join("large"), mib)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn session(events: usize) -> Outcome<TelemetrySession> {
    let retention = Retention {
        events,
        bytes: u64::MAX,
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
        block.extend_from_slice(envelope.json().as_bytes());
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
        block.extend_from_slice(envelope.json().as_bytes());
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
            envelope.json(),
        ))?;
        if envelope.seq() % 256 == 0 && DURABLE_EVERY <= synced.elapsed() {
            database.execute_batch("commit; begin")?;
            synced = Instant::now();
        }
    }
    database.execute_batch("commit")?;
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

/// An archive of `mib` MiB in 160 segments: as many as 10 GiB have with segments of 64 MiB.
fn large(dir: &Path, mib: u64) -> Outcome<()> {
    let session = session(16_384)?;
    let sink = ArchiveSink::open(ArchiveOptions {
        max_bytes: u64::MAX,
        segment_bytes: mib * 1024 * 1024 / 160,
        ..ArchiveOptions::new(dir)
    })?;
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    spawn_thread(Box::pin(task));
    // Text that zstd halves at most, so that the size on the disk is reached soon. Its time is its number.
    let mut state = 1_u64;
    let mut events = 0_u64;
    while size_of_files(dir) < mib * 1024 * 1024 {
        for _ in 0..4096 {
            events += 1;
            let mut noise = String::with_capacity(2048);
            for _ in 0..128 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                noise.push_str(&format!("{:016x}", state ^ state >> 31));
            }
            let data = RawValue::from_string(format!("\"{noise}\""))?;
            session.publish(Event::known(KnownType::PageLoad, Some(data)).with_ts(events))?;
        }
        while handle.status().position + 4096 < events {
            thread::sleep(Duration::from_micros(200));
        }
    }
    while handle.status().position < events {
        thread::sleep(Duration::from_millis(1));
    }
    let rss_written = resident();
    drop(handle);

    let before = resident();
    let opened = Instant::now();
    let archive = Archive::open(dir)?;
    let opened = opened.elapsed();
    let epoch = archive.bounds_now()?[0].epoch;
    let mut query = HistoryQuery {
        epoch,
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
    // A little of every segment, so that all indexes were read.
    for n in 0..640 {
        query.since = Some(1 + events / 640 * n);
        archive.read_now(&query)?;
    }
    println!(
        "{} MiB in {} segments, {events} events: opened in {:.1} ms, first event of `since` in the middle after {:.1} ms",
        size_of_files(dir) / 1024 / 1024,
        archive.segments()?.len(),
        opened.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
    );
    println!(
        "resident: {before} KiB before it is opened, {} KiB after 640 reads all over it; {rss_written} KiB at the end of writing",
        resident()
    );
    Ok(())
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
