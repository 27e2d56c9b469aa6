//! A long partition: what memory loses is read from the archive, or is a gap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::SinkHandle;
use tapline_archive::{ArchiveOptions, ArchiveSink};
use tapline_oapi::Category;

use crate::proxy::Proxy;
use crate::rig::{PATIENCE, Rig, contents, event, ledger, name, options, stream};
use crate::server::Server;

#[tokio::test]
async fn what_memory_has_lost_is_a_gap() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = Rig::with(options(proxy.options(), "shop"), stream(64), None);
    rig.publish_some(10);
    rig.settled(10).await;
    proxy.cut();
    rig.publish_some(10);
    rig.until(|status| status.last_error.is_some()).await;
    rig.publish_some(2000);
    tokio::time::sleep(Duration::from_millis(50)).await;
    rig.publish_some(2000);
    proxy.mend();
    let status = rig.stop().await;
    let stored = server.stored(&name("shop"), 1).await;
    let contents = contents(&stored, rig.epoch());
    let lost: u64 = contents
        .gaps
        .iter()
        .map(|it| it.end() - it.start() + 1)
        .sum();
    assert!(0 < lost && !contents.gaps.is_empty());
    assert_eq!(contents.holes, []);
    assert_eq!(lost + contents.events.len() as u64, 4020);
    assert_eq!(status.ledger, ledger(4020 - lost, lost));
}

#[tokio::test]
async fn what_memory_has_lost_is_read_from_the_archive() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("nats-archive");
    let _ = std::fs::remove_dir_all(&dir);
    let archive = ArchiveSink::open(ArchiveOptions::new(&dir)).unwrap();
    let history = Arc::new(archive.archive());
    let rig = Rig::with(
        options(proxy.options(), "shop"),
        stream(1024),
        Some(history),
    );
    let archiving = archiving(&rig, archive);
    let archived = async |seq: u64| {
        let deadline = Instant::now() + PATIENCE;
        while archiving.status().position < seq {
            assert!(Instant::now() < deadline, "{:?}", archiving.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    rig.publish_some(10);
    rig.settled(10).await;
    proxy.cut();
    // More blocks than may wait for the server, so that what comes then waits in the ring.
    let text = "x".repeat(300_000);
    for _ in 0..20 {
        rig.publish(event("large", Category::Control, &format!("\"{text}\"")));
    }
    archived(rig.session.seq()).await;
    for _ in 0..10 {
        rig.publish_some(400);
        archived(rig.session.seq() - 400).await;
    }
    rig.until(|status| status.last_error.is_some()).await;
    proxy.mend();
    // The newest part is not in the archive yet when the sink asks for it.
    let status = rig.stop().await;
    archiving.shutdown(Instant::now() + PATIENCE).await;
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=4030);
    let ledger = status.ledger;
    assert!(0 < ledger.recovered, "{ledger:?}");
    assert_eq!(ledger.exported + ledger.recovered, 4030);
    assert_eq!(ledger.lost, 0);
    let _ = std::fs::remove_dir_all(dir);
}

/// The archive, and the sink of it on the rig's stream.
fn archiving(rig: &Rig, archive: ArchiveSink) -> SinkHandle {
    let (archiving, task) = SinkHandle::new(rig.session.stream().clone(), archive);
    tokio::spawn(task);
    archiving.on();
    archiving
}

#[tokio::test]
async fn what_earlier_runs_have_archived_is_stored_first() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("nats-earlier-runs");
    let _ = std::fs::remove_dir_all(&dir);
    let mut epochs = Vec::new();
    // The first run stores a part, the second nothing, and both are archived. The third one has a server.
    for (run, events) in [(0, 4000_u64), (1, 50), (2, 20)] {
        let archive = loop {
            // The directory is locked until the run before has ended.
            match ArchiveSink::open(ArchiveOptions::new(&dir)) {
                Ok(archive) => break archive,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        if run == 2 {
            proxy.mend();
        }
        let history = Arc::new(archive.archive());
        let rig = Rig::with(
            options(proxy.options(), "shop"),
            stream(100_000),
            Some(history),
        );
        let archiving = archiving(&rig, archive);
        if run == 0 {
            rig.publish_some(10);
            rig.settled(10).await;
            proxy.cut();
        }
        rig.publish_some(events as usize - usize::try_from(rig.session.seq()).unwrap());
        archiving.shutdown(Instant::now() + PATIENCE).await;
        let patience = match run {
            2 => PATIENCE,
            _ => Duration::from_millis(50),
        };
        rig.handle.shutdown(Instant::now() + patience).await;
        epochs.push((rig.epoch(), events));
    }
    let stored = server.stored(&name("shop"), 1).await;
    for (epoch, events) in &epochs {
        contents(&stored, *epoch).expect_all(1..=*events);
    }
    // In the order of the runs.
    let mut order: Vec<_> = stored
        .iter()
        .map(|(_, headers, _)| headers.get("Tapline-Epoch").unwrap().to_string())
        .collect();
    order.dedup();
    let expected: Vec<_> = epochs.iter().map(|(epoch, _)| epoch.to_string()).collect();
    assert_eq!(order, expected);
    let _ = std::fs::remove_dir_all(dir);
}
