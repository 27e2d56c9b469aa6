//! What a crash, damage and other programs leave in the directory.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use tapline_api::{HistoryBatch, Sink};
use tapline_archive::{Archive, ArchiveError, ArchiveOptions, ArchiveSink};

use crate::support::{Recorded, TempDir, all_json, block_on, event, open, query, read_all};

/// An archive of one run, closed, without indexes: as it is after a crash.
fn crashed(events: u64) -> (TempDir, Vec<String>) {
    let dir = TempDir::new();
    let recorded = Recorded::new(&ArchiveOptions::new(dir.path()));
    let mut published = Vec::new();
    for _ in 0..3 {
        published.extend(recorded.publish(events / 3));
        recorded.settled();
    }
    recorded.stop();
    drop(recorded);
    drop(open(&ArchiveOptions::new(dir.path())));
    for index in dir.indexes() {
        fs::remove_file(index).unwrap();
    }
    (dir, published)
}

fn read_dir(dir: &Path) -> Vec<String> {
    all_json(&Archive::open(dir).unwrap())
}

#[test]
fn a_segment_that_is_cut_at_any_length_gives_its_whole_blocks() {
    let (dir, published) = crashed(30);
    let segment = &dir.segments()[0];
    let bytes = fs::read(segment).unwrap();
    let mut most = 0;
    for len in 0..=bytes.len() {
        fs::write(segment, &bytes[..len]).unwrap();
        let found = read_dir(dir.path());
        assert_eq!(found, published[..found.len()], "{len}");
        assert!(most <= found.len(), "{len}");
        most = found.len();
    }
    assert_eq!(most, published.len());
    // The writer cuts what is torn, and counts it.
    for len in (1..bytes.len()).step_by(7) {
        fs::write(segment, &bytes[..len]).unwrap();
        let found = read_dir(dir.path());
        let sink = open(&ArchiveOptions::new(dir.path()));
        let counts = sink.archive().counts();
        let left = fs::metadata(segment).map_or(0, |it| it.len());
        assert_eq!(counts.torn_bytes, len as u64 - left, "{len}");
        assert_eq!(all_json(&sink.archive()), found, "{len}");
        drop(sink);
        for index in dir.indexes() {
            fs::remove_file(index).unwrap();
        }
    }
}

#[test]
fn a_changed_byte_anywhere_costs_its_block_at_most_and_what_is_lost_is_missing() {
    let (dir, published) = crashed(60);
    let segment = &dir.segments()[0];
    let bytes = fs::read(segment).unwrap();
    let epoch = Archive::open(dir.path()).unwrap().bounds_now().unwrap()[0].epoch;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        fs::write(segment, &changed).unwrap();
        let archive = Archive::open(dir.path()).unwrap();
        let HistoryBatch {
            envelopes, missing, ..
        } = read_all(&archive, query(epoch));
        let mut seen = 0;
        for envelope in &envelopes {
            assert_eq!(
                envelope.json().whole(),
                published[envelope.seq() as usize - 1]
            );
            seen += 1;
        }
        let missing: u64 = missing.iter().map(|it| it.end() - it.start() + 1).sum();
        let bounds = archive.bounds_now().unwrap();
        let head = bounds.first().map_or(0, |it| it.head);
        assert_eq!(seen + missing, head, "byte {at}");
        assert!(seen < published.len() as u64, "byte {at} does not matter");
        assert!(20 <= seen, "byte {at} costs more than its block");
    }
}

#[test]
fn zeros_after_the_last_block_are_cut_as_a_power_loss_leaves_them() {
    let (dir, published) = crashed(30);
    let segment = &dir.segments()[0];
    let len = fs::metadata(segment).unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(segment)
        .unwrap()
        .set_len(len + 10_000)
        .unwrap();
    assert_eq!(read_dir(dir.path()), published);
    let sink = open(&ArchiveOptions::new(dir.path()));
    assert_eq!(sink.archive().counts().torn_bytes, 10_000);
    assert_eq!(all_json(&sink.archive()), published);
    assert_eq!(fs::metadata(segment).unwrap().len(), len);
}

#[test]
fn foreign_files_are_neither_read_nor_touched() {
    let (dir, published) = crashed(30);
    let foreign = [
        ("notes.txt", &b"mine"[..]),
        ("x.ndjson.zst", b"not zstd"),
        ("00000000000000001-zz-1.ndjson.zst", b""),
        // The name of a segment, but no content of one.
        (
            "00000000000000001-00000000c0ffee00-00000000000000000001.ndjson.zst",
            b"something else",
        ),
    ];
    for (name, content) in foreign {
        fs::write(dir.path().join(name), content).unwrap();
    }
    fs::create_dir(dir.path().join("directory")).unwrap();
    assert_eq!(read_dir(dir.path()), published);
    let sink = open(&ArchiveOptions::new(dir.path()));
    assert_eq!(all_json(&sink.archive()), published);
    drop(sink);
    for (name, content) in foreign {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), content, "{name}");
    }
}

#[test]
fn bytes_of_another_program_behind_the_blocks_are_left_alone() {
    let (dir, published) = crashed(30);
    let segment = &dir.segments()[0];
    let mut file = OpenOptions::new().append(true).open(segment).unwrap();
    let foreign = zstd::encode_all(&b"{\"other\":1}\n"[..], 1).unwrap();
    file.write_all(&foreign).unwrap();
    let len = fs::metadata(segment).unwrap().len();
    let sink = open(&ArchiveOptions::new(dir.path()));
    assert_eq!(all_json(&sink.archive()), published);
    assert_eq!(sink.archive().counts().torn, 0);
    assert_eq!(fs::metadata(segment).unwrap().len(), len);
}

#[test]
fn a_later_version_of_the_format_is_not_cut_and_what_is_before_it_is_read() {
    let (dir, published) = crashed(30);
    let segment = &dir.segments()[0];
    let mut changed = fs::read(segment).unwrap();
    let tags = memchr::memmem::find_iter(&changed, b"TLB\x01").collect::<Vec<_>>();
    assert!(3 <= tags.len());
    let start = tags[1] - 8;
    changed[tags[1] + 3] = 2;
    let len = u32::from_le_bytes(changed[start + 4..start + 8].try_into().unwrap()) as usize;
    let end = start + 8 + len - 4;
    let crc = crc32fast::hash(&changed[start..end]);
    changed[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(segment, &changed).unwrap();
    let found = read_dir(dir.path());
    assert_eq!(found, published[..10]);
    let sink = open(&ArchiveOptions::new(dir.path()));
    assert_eq!(all_json(&sink.archive()), found);
    drop(sink);
    assert_eq!(fs::read(segment).unwrap(), changed);
}

#[test]
fn a_segment_that_is_gone_from_the_middle_is_missing() {
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    options.segment_bytes = 1;
    let recorded = Recorded::new(&options);
    for _ in 0..3 {
        recorded.publish(10);
        recorded.settled();
    }
    let segments = dir.segments();
    fs::remove_file(&segments[1]).unwrap();
    for archive in [recorded.archive.clone(), Archive::open(dir.path()).unwrap()] {
        let batch = read_all(&archive, query(recorded.epoch()));
        assert_eq!(batch.envelopes.len(), 20);
        assert_eq!(batch.missing, [11..=20]);
    }
}

#[test]
fn an_index_that_is_damaged_stale_or_of_another_segment_is_made_again() {
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    options.segment_bytes = 1;
    let recorded = Recorded::new(&options);
    let mut published = Vec::new();
    for _ in 0..3 {
        published.extend(recorded.publish(10));
        recorded.settled();
    }
    recorded.stop();
    drop(recorded);
    drop(open(&options));
    let indexes = dir.indexes();
    assert_eq!(indexes.len(), 3);
    let good = fs::read(&indexes[0]).unwrap();
    let other = fs::read(&indexes[1]).unwrap();
    let mut contents: Vec<Vec<u8>> = (0..good.len())
        .map(|at| {
            let mut changed = good.clone();
            changed[at] ^= 0x10;
            changed
        })
        .collect();
    contents.extend((0..good.len()).map(|len| good[..len].to_vec()));
    contents.push(other);
    for content in contents {
        fs::write(&indexes[0], &content).unwrap();
        assert_eq!(read_dir(dir.path()), published);
    }
    // The writer replaces it.
    drop(open(&options));
    assert_eq!(fs::read(&indexes[0]).unwrap(), good);
}

#[test]
fn a_second_process_is_refused_and_named() {
    let dir = TempDir::new();
    let options = ArchiveOptions::new(dir.path());
    let first = open(&options);
    let error = ArchiveSink::open(options.clone()).err().unwrap();
    let ArchiveError::InUse { pid, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains("in use by another process"));
    drop(first);
    ArchiveSink::open(options).unwrap();
}

#[test]
fn a_restart_has_an_epoch_of_its_own_and_both_can_be_read() {
    let dir = TempDir::new();
    let options = ArchiveOptions::new(dir.path());
    let mut published = Vec::new();
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let recorded = Recorded::new(&options);
        epochs.push(recorded.epoch());
        published.extend(recorded.publish(20));
        recorded.stop();
    }
    let sink = open(&options);
    assert_eq!(all_json(&sink.archive()), published);
    let bounds = sink.archive().bounds_now().unwrap();
    let found: Vec<_> = bounds
        .iter()
        .map(|it| (it.epoch, it.oldest, it.head))
        .collect();
    let expected: Vec<_> = epochs.iter().map(|it| (*it, 1, 20)).collect();
    assert_eq!(found, expected);
    let cursor = block_on(sink.resume()).unwrap().unwrap();
    assert_eq!((cursor.seq, cursor.epoch), (20, Some(epochs[2])));
}

#[test]
fn line_breaks_within_data_are_spaces_in_the_file_and_come_back() {
    let dir = TempDir::new();
    let recorded = Recorded::new(&ArchiveOptions::new(dir.path()));
    let mut with_breaks = event(0);
    let data = "{\n  \"a\": [1,\r\n2],\n\n\"b\": \"\\n\"}".to_owned();
    with_breaks.data = Some(serde_json::value::RawValue::from_string(data).unwrap());
    let mut published = recorded.publish(3);
    published.push(recorded.publish_one(with_breaks));
    published.extend(recorded.publish(3));
    recorded.settled();
    assert_eq!(all_json(&recorded.archive), published);
    let text = zstd::decode_all(File::open(&dir.segments()[0]).unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), 7);
    for (line, published) in text.lines().zip(&published) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            line,
            serde_json::from_str::<serde_json::Value>(published).unwrap()
        );
    }
}
