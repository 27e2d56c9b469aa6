//! Checking, repairing, compacting and deleting.

use std::fs;

use tapline_archive::{
    Archive, ArchiveError, ArchiveOptions, Defect, Remove, Repair, check, compact, remove, repair,
};

use crate::support::{Recorded, TempDir, all_json, open};

/// Three runs of the stream, each with several segments.
fn archive() -> (TempDir, Vec<String>) {
    let dir = TempDir::new();
    let mut options = ArchiveOptions::new(dir.path());
    options.segment_bytes = 1;
    let mut published = Vec::new();
    for _ in 0..3 {
        let recorded = Recorded::new(&options);
        for _ in 0..4 {
            published.extend(recorded.publish(25));
            recorded.settled();
        }
        recorded.stop();
    }
    drop(open(&options));
    (dir, published)
}

fn defects(dir: &TempDir) -> Vec<Defect> {
    let report = check(dir.path(), |_, _| {}).unwrap();
    report.findings.into_iter().map(|it| it.defect).collect()
}

fn repairs(dir: &TempDir) -> Vec<Option<Repair>> {
    let report = repair(dir.path(), |_, _| {}).unwrap();
    report.findings.into_iter().map(|it| it.repair).collect()
}

#[test]
fn an_intact_archive_has_no_findings_also_while_it_is_written() {
    let (dir, published) = archive();
    let mut steps = Vec::new();
    let report = check(dir.path(), |done, total| steps.push((done, total))).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(
        (report.segments, report.events),
        (12, published.len() as u64)
    );
    assert_eq!(steps.last(), Some(&(report.bytes, report.bytes)));
    let recorded = Recorded::new(&ArchiveOptions::new(dir.path()));
    for _ in 0..5 {
        recorded.publish(100);
        assert_eq!(defects(&dir), []);
        recorded.settled();
    }
}

#[test]
fn what_is_wrong_is_found_and_repaired_and_no_event_that_can_be_read_is_lost() {
    let (dir, published) = archive();
    let segments = dir.segments();
    // A torn end, a damaged block, bytes of another program, and an index that is not the segment's.
    let torn = fs::read(&segments[3]).unwrap();
    fs::write(&segments[3], [&torn[..], &torn[..40]].concat()).unwrap();
    let mut damaged = fs::read(&segments[5]).unwrap();
    let len = damaged.len();
    damaged[len / 2] ^= 1;
    fs::write(&segments[5], damaged).unwrap();
    let mut longer = fs::read(&segments[6]).unwrap();
    let offset = longer.len() as u64;
    longer.extend_from_slice(b"something");
    fs::write(&segments[6], longer).unwrap();
    fs::write(&dir.indexes()[7], b"no index").unwrap();
    let before = all_json(&Archive::open(dir.path()).unwrap());
    assert_eq!(before.len(), published.len() - 25);
    let found = defects(&dir);
    assert!(found.contains(&Defect::TornEnd(40)), "{found:?}");
    assert!(found.contains(&Defect::TornEnd(len as u64)), "{found:?}");
    let tail = Defect::Damaged { offset, bytes: 9 };
    assert!(found.contains(&tail), "{found:?}");
    assert!(found.contains(&Defect::WrongIndex), "{found:?}");

    let repairs = repairs(&dir);
    assert!(repairs.contains(&Some(Repair::Cut)), "{repairs:?}");
    assert!(repairs.contains(&Some(Repair::Indexed)), "{repairs:?}");
    let is_rewritten = |it: &Option<Repair>| matches!(it, Some(Repair::Rewritten(_)));
    assert!(repairs.iter().any(is_rewritten), "{repairs:?}");
    // What cannot be brought back stays visible: the events of the damaged block are missing.
    assert_eq!(repairs.iter().filter(|it| it.is_none()).count(), 1);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), before);
    let left = defects(&dir);
    let [Defect::MissingBefore { seqs, .. }] = &left[..] else {
        panic!("{left:?}");
    };
    assert_eq!(*seqs, 26..=50);
}

#[test]
fn a_missing_segment_is_found_but_not_one_that_was_deleted_by_age() {
    let (dir, _) = archive();
    let segments = dir.segments();
    fs::remove_file(&segments[0]).unwrap();
    fs::remove_file(&dir.indexes()[0]).unwrap();
    assert_eq!(defects(&dir), []);
    fs::remove_file(&segments[6]).unwrap();
    let found = defects(&dir);
    let is_missing =
        |it: &Defect| matches!(it, Defect::MissingBefore { seqs, .. } if *seqs == (51..=75));
    assert!(found.iter().any(is_missing), "{found:?}");
    assert!(found.contains(&Defect::IndexAlone));
    assert_eq!(repairs(&dir).iter().filter(|it| it.is_none()).count(), 1);
}

#[test]
fn events_that_two_segments_have_are_found_and_dropped_from_one() {
    let (dir, published) = archive();
    let segments = dir.segments();
    // As a compaction that was interrupted leaves it.
    let both = [
        fs::read(&segments[0]).unwrap(),
        fs::read(&segments[1]).unwrap(),
    ]
    .concat();
    fs::write(&segments[0], both).unwrap();
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
    assert!(defects(&dir).contains(&Defect::Repeated(26..=50)));
    repairs(&dir);
    assert_eq!(defects(&dir), []);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
}

#[test]
fn compacting_merges_segments_and_changes_no_event() {
    let (dir, published) = archive();
    let compacted = compact(dir.path(), |_, _| {}).unwrap();
    assert_eq!(compacted.segments_before, 12);
    assert_eq!(compacted.segments_after, 3);
    assert!(compacted.bytes_after < compacted.bytes_before);
    assert_eq!(dir.segments().len(), 3);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
    assert_eq!(defects(&dir), []);
    let again = compact(dir.path(), |_, _| {}).unwrap();
    assert_eq!(again.bytes_after, compacted.bytes_after);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
}

#[test]
fn segments_are_deleted_by_time_by_epoch_and_all() {
    let (dir, published) = archive();
    let infos = Archive::open(dir.path()).unwrap().segments().unwrap();
    let time = infos[2].time.clone().unwrap();
    let dry = remove(dir.path(), Remove::Before(*time.start()), true).unwrap();
    assert_eq!(dry.len(), 2);
    assert_eq!(all_json(&Archive::open(dir.path()).unwrap()), published);
    let removed = remove(dir.path(), Remove::Before(*time.start()), false).unwrap();
    assert_eq!(removed, dry);
    assert_eq!(
        all_json(&Archive::open(dir.path()).unwrap()),
        published[50..]
    );
    remove(dir.path(), Remove::Epoch(infos[11].epoch), false).unwrap();
    assert_eq!(
        all_json(&Archive::open(dir.path()).unwrap()),
        published[50..200]
    );
    remove(dir.path(), Remove::All, false).unwrap();
    assert!(dir.segments().is_empty() && dir.indexes().is_empty());
}

#[test]
fn an_archive_that_is_written_is_not_changed() {
    let (dir, _) = archive();
    let _sink = open(&ArchiveOptions::new(dir.path()));
    let is_refused =
        |result: Result<(), ArchiveError>| matches!(result, Err(ArchiveError::InUse { .. }));
    assert!(is_refused(repair(dir.path(), |_, _| {}).map(drop)));
    assert!(is_refused(compact(dir.path(), |_, _| {}).map(drop)));
    assert!(is_refused(remove(dir.path(), Remove::All, false).map(drop)));
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let dir = TempDir::new();
    let missing = dir.path().join("missing");
    assert!(Archive::open(&missing).is_err());
    assert!(check(&missing, |_, _| {}).is_err());
    assert!(repair(&missing, |_, _| {}).is_err());
    assert!(remove(&missing, Remove::All, false).is_err());
    assert!(!missing.exists());
}
