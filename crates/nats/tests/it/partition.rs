//! A long partition: what memory loses is read from the archive, or is a gap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tapline_api::SinkHandle;
use tapline_archive::{ArchiveOptions, ArchiveSink};

use crate::proxy::Proxy;
use crate::rig::{PATIENCE, Rig, contents, ledger, name, options, stream};
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
    let (archiving, task) = SinkHandle::new(rig.session.stream().clone(), archive);
    tokio::spawn(task);
    archiving.on();
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
    contents(&stored, rig.epoch()).expect_all(1..=4010);
    let ledger = status.ledger;
    // What was read from the archive was lost to the sink, and is stored.
    assert!(0 < ledger.lost, "{ledger:?}");
    assert_eq!(ledger.exported + ledger.lost, 4010);
    let _ = std::fs::remove_dir_all(dir);
}
