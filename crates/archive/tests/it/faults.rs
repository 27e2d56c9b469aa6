//! The archive on a disk that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tapline_api::{HistoryQuery, Order, SinkLedger};
use tapline_archive::{Archive, ArchiveOptions, FileOp};

use crate::support::{
    Failing, Recorded, TempDir, all_json, event, open, query, read_all, wait_for,
};

fn failing(dir: &TempDir) -> (ArchiveOptions, Arc<Failing>) {
    let faults = Arc::new(Failing::default());
    let mut options = ArchiveOptions::new(dir.path());
    options.faults = Some(faults.clone());
    (options, faults)
}

/// A failed sync is not retried on the same file: its pages may have been dropped.
#[test]
fn after_a_failed_sync_the_segment_is_abandoned_and_its_events_are_in_another_one() {
    let dir = TempDir::new();
    let (options, faults) = failing(&dir);
    let recorded = Recorded::new(&options);
    let mut published = recorded.publish(20);
    recorded.settled();
    let first = dir.segments();
    faults.next(FileOp::Sync, 2);
    published.extend(recorded.publish(20));
    recorded.settled();
    assert_eq!(faults.failed.load(SeqCst), 2);
    // One was empty but for what was not durable, and is deleted.
    let segments = dir.segments();
    assert_eq!((first.len(), segments.len()), (1, 2));
    assert_eq!(recorded.archive.counts().abandoned, 2);
    assert_eq!(all_json(&recorded.archive), published);
    let expected = SinkLedger {
        read: 40,
        exported: 40,
        ..SinkLedger::default()
    };
    assert_eq!(recorded.status().ledger, expected);
    // What was not durable was cut off, so other tools find each event once, too.
    let lines: usize = segments
        .iter()
        .map(|it| zstd::decode_all(std::fs::File::open(it).unwrap()).unwrap())
        .map(|text| text.iter().filter(|byte| **byte == b'\n').count())
        .sum();
    assert_eq!(lines, 40);
}

#[test]
fn what_is_left_of_an_abandoned_segment_is_read_once() {
    let dir = TempDir::new();
    let (options, faults) = failing(&dir);
    let recorded = Recorded::new(&options);
    let mut published = recorded.publish(20);
    recorded.settled();
    // Neither can the end be cut off.
    faults.next(FileOp::Sync, 1);
    faults.next(FileOp::Truncate, 1);
    published.extend(recorded.publish(20));
    recorded.settled();
    recorded.stop();
    assert_eq!(all_json(&recorded.archive), published);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
    drop(recorded);
    assert_eq!(all_json(&open(&options).archive()), published);
}

#[test]
fn while_the_disk_fails_the_ring_is_the_buffer_and_what_it_evicts_is_a_gap() {
    let dir = TempDir::new();
    let (options, faults) = failing(&dir);
    let recorded = Recorded::with_ring(&options, 64);
    let before = recorded.publish(10);
    recorded.settled();
    faults.next(FileOp::Write, 3);
    recorded.publish(1);
    wait_for(|| 0 < faults.failed.load(SeqCst));
    let after = recorded.publish(200);
    recorded.settled();
    recorded.stop();
    assert!(
        recorded
            .status()
            .last_error
            .unwrap()
            .contains("cannot write to")
    );
    let batch = read_all(&recorded.archive, query(recorded.epoch()));
    let [missing] = &batch.missing[..] else {
        panic!("{:?}", batch.missing);
    };
    assert_eq!(*missing.start(), 11);
    let lost = missing.end() - missing.start() + 1;
    assert!((1..=137 + 10).contains(&lost), "{lost}");
    assert_eq!(recorded.status().ledger.lost, lost);
    let found: Vec<String> = batch
        .envelopes
        .iter()
        .map(|it| it.json().to_string())
        .collect();
    let kept = &after[after.len() - (found.len() - 10)..];
    let expected: Vec<String> = before.iter().chain(kept).cloned().collect();
    assert_eq!(found, expected);
    assert_eq!(found.len() as u64 + lost, 211);
    // The gap is in the data that other tools see, too.
    let text = zstd::decode_all(std::fs::File::open(dir.segments().last().unwrap()).unwrap());
    let text = String::from_utf8(text.unwrap()).unwrap();
    let line = format!("{{\"gap\":{{\"first\":11,\"last\":{}}}}}", missing.end());
    assert_eq!(text.lines().next(), Some(line.as_str()));
}

#[test]
fn what_was_published_while_it_was_off_is_missing_and_no_gap_line() {
    let dir = TempDir::new();
    let recorded = Recorded::new(&ArchiveOptions::new(dir.path()));
    recorded.publish(10);
    recorded.off();
    recorded.publish(5);
    recorded.on();
    recorded.publish(10);
    recorded.settled();
    let batch = read_all(&recorded.archive, query(recorded.epoch()));
    assert_eq!(batch.missing, [11..=15]);
    assert_eq!(batch.envelopes.len(), 20);
}

#[test]
fn it_stays_within_its_bytes_and_what_was_deleted_is_missing() {
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    options.max_bytes = ArchiveOptions::LEAST_BYTES;
    let recorded = Recorded::new(&options);
    let mut total = 0;
    // Random text, which does not become smaller.
    while recorded.archive.counts().deleted < 3 {
        for n in 0..200_u64 {
            let noise: String = (0..64)
                .map(|k| format!("{:x}", hash(total + n, k)))
                .collect();
            let data =
                Some(serde_json::value::RawValue::from_string(format!("\"{noise}\"")).unwrap());
            recorded.publish_one(tapline_oapi::Event::known(
                tapline_oapi::KnownType::PageLoad,
                data,
            ));
        }
        total += 200;
        recorded.settled();
        let bytes: u64 = recorded
            .archive
            .segments()
            .unwrap()
            .iter()
            .map(|it| it.bytes)
            .sum();
        assert!(bytes <= options.max_bytes, "{bytes}");
    }
    let bounds = recorded.archive.bounds_now().unwrap()[0];
    assert_eq!(bounds.head, total);
    let deleted = recorded.archive.counts().deleted_events;
    assert_eq!(bounds.oldest, deleted + 1);
    let batch = read_all(&recorded.archive, query(recorded.epoch()));
    assert_eq!(batch.missing, [1..=deleted]);
    assert_eq!(batch.envelopes.len() as u64, total - deleted);
    let all = tapline_events::Filter::all();
    let count = recorded
        .archive
        .count_now(recorded.epoch(), 1..=u64::MAX, &all)
        .unwrap();
    assert_eq!((count.matching, count.missing), (total - deleted, deleted));
    assert_eq!(count.looked_at, Some(1..=total));
}

fn hash(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 32
}

#[test]
fn segments_that_are_too_old_are_deleted() {
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    let recorded = Recorded::new(&options);
    recorded.publish(10);
    recorded.stop();
    drop(recorded);
    std::thread::sleep(Duration::from_millis(5));
    options.max_age = Some(Duration::from_millis(1));
    let recorded = Recorded::new(&options);
    let published = recorded.publish(10);
    recorded.settled();
    wait_for(|| recorded.archive.counts().deleted == 1);
    assert_eq!(all_json(&recorded.archive), published);
}

/// Events whose times jump, within blocks and between them: since and until are about each event's own time.
#[test]
fn clocks_that_jump_forwards_and_backwards_hide_no_event() {
    const YEAR: u64 = 365 * 24 * 60 * 60 * 1_000_000;
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    // Many segments, each with several blocks.
    options.segment_bytes = 1500;
    let recorded = Recorded::new(&options);
    let now = 1_795_000_000_000_000;
    let mut times = Vec::new();
    for round in 0..12_u64 {
        for n in 0..20 {
            let ts = match (round % 6, n % 10) {
                // All of a block in the future, in the past, or at one moment.
                (1, _) => now + YEAR + n,
                (2, _) => 1 + n,
                (3, _) => now,
                // One event that stands out.
                (4, 3) => now - YEAR,
                (5, 7) => now + 50 * YEAR,
                _ => now + round * 1000 + n,
            };
            times.push(ts);
            recorded.publish_one(event(n).with_ts(ts));
        }
        recorded.settled();
    }
    assert!(3 < dir.segments().len());
    let mut moments: Vec<u64> = times.iter().flat_map(|ts| [ts - 1, *ts, ts + 1]).collect();
    moments.sort_unstable();
    moments.dedup();
    let complete = Archive::open(dir.path()).unwrap();
    let mut checked = 0;
    for (n, since) in moments.iter().enumerate() {
        for until in moments[n..].iter().step_by(23) {
            let expected = (1_u64..)
                .zip(&times)
                .filter(|(_, ts)| (since..=until).contains(ts));
            let mut expected: Vec<u64> = expected.map(|(seq, _)| seq).collect();
            for (order, archive) in [(Order::Asc, &recorded.archive), (Order::Desc, &complete)] {
                let asked = HistoryQuery {
                    since: Some(*since),
                    until: Some(*until),
                    order,
                    ..query(recorded.epoch())
                };
                let found = read_all(archive, asked);
                let found: Vec<u64> = found.envelopes.iter().map(|it| it.seq()).collect();
                assert_eq!(found, expected, "{since} to {until}, {order:?}");
                expected.reverse();
                checked += found.len();
            }
        }
    }
    assert!(5_000 < checked, "{checked}");
}

/// The names of segments have the time of their making: the order of writing does not depend on it.
#[test]
fn a_clock_that_was_set_back_since_the_last_run_changes_no_order() {
    let dir = TempDir::new();
    let options = ArchiveOptions::new(dir.path());
    let recorded = Recorded::new(&options);
    let mut published = recorded.publish(10);
    recorded.stop();
    drop(recorded);
    // As if it had been written in the year 2286.
    for path in dir.segments().into_iter().chain(dir.indexes()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (_, rest) = name.split_once('-').unwrap();
        std::fs::rename(&path, dir.path().join(format!("09999999999999999-{rest}"))).unwrap();
    }
    let recorded = Recorded::new(&options);
    published.extend(recorded.publish(10));
    recorded.settled();
    assert_eq!(all_json(&recorded.archive), published);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
    assert_eq!(dir.segments().len(), 2);
    assert!(recorded.archive.bounds_now().unwrap()[1].epoch == recorded.epoch());
}
