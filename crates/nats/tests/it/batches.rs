//! Blocks that wait are stored as a batch: all or none, and each once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Config;
use tapline_api::SinkHandle;
use tapline_archive::{ArchiveOptions, ArchiveSink};
use tapline_nats::NatsOptions;
use tapline_oapi::Category;

use crate::proxy::{Proxy, distant};
use crate::rig::{PATIENCE, Rig, contents, event, ledger, name, noise, options, stream};
use crate::server::{Server, Stored};

/// How many messages each batch has.
fn batches(stored: &[Stored]) -> BTreeMap<String, usize> {
    let mut batches = BTreeMap::new();
    for (_, headers, _) in stored {
        if let Some(id) = headers.get("Nats-Batch-Id") {
            *batches.entry(id.to_string()).or_default() += 1;
        }
    }
    batches
}

/// Events of 20,000 bytes, of which a block has 14, that compress well.
fn large(rig: &Rig, events: usize) {
    let text = "x".repeat(20_000);
    for n in 0..events {
        rig.publish(event(
            "large",
            Category::Control,
            &format!("\"{n} {text}\""),
        ));
    }
}

/// An instance with one block on its way, and others behind it, which are the next batch. The first bytes of it are in the
/// proxy.
async fn behind(proxy: &Proxy, publish: impl FnOnce(&Rig)) -> Rig {
    let mut options = options(proxy.options(), "shop");
    options.streams.max_bytes = None;
    // Longer than a block is held.
    options.nats.request_timeout = Duration::from_secs(3);
    let rig = Rig::new(options);
    rig.publish_some(5);
    rig.settled(5).await;
    let held = async |blocks: usize| {
        let deadline = Instant::now() + PATIENCE;
        while proxy.held() < blocks {
            assert!(Instant::now() < deadline, "{blocks} blocks are not held");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    proxy.hold(true);
    rig.publish_some(1);
    held(1).await;
    publish(&rig);
    // All of it is read, and the last block is complete.
    let pending = rig.session.seq() - 5;
    rig.until(|status| status.ledger.pending == pending).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.let_one_through();
    held(2).await;
    rig
}

#[tokio::test]
async fn blocks_that_wait_are_stored_at_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let nats = distant(server.port, Duration::from_millis(20)).await;
    let rig = Rig::new(options(nats, "shop"));
    large(&rig, 14 * 50);
    let status = rig.stop().await;
    assert_eq!(
        (status.ledger, status.last_error),
        (ledger(14 * 50, 0), None)
    );
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=14 * 50);
    let batches = batches(&stored);
    let largest = batches.values().max();
    assert_eq!(largest, Some(&16), "{batches:?}");
    assert!(batches.len() <= 6, "{batches:?}");
}

#[tokio::test]
async fn a_batch_has_at_most_the_bytes_of_one_message() {
    let Some(server) = Server::start() else {
        return;
    };
    let nats = distant(server.port, Duration::from_millis(20)).await;
    let rig = Rig::new(options(nats, "shop"));
    for seed in 0..400 {
        rig.publish(noise(20_000, seed));
    }
    assert_eq!(rig.stop().await.ledger, ledger(400, 0));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=400);
    let mut bytes = BTreeMap::<_, usize>::new();
    for (_, headers, payload) in &stored {
        if let Some(id) = headers.get("Nats-Batch-Id") {
            *bytes.entry(id.to_string()).or_default() += payload.len();
        }
    }
    assert!(3 < bytes.len());
    assert!(bytes.values().all(|it| *it <= 1024 * 1024), "{bytes:?}");
}

#[tokio::test]
async fn a_batch_whose_acknowledgement_is_lost_is_stored_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = behind(&proxy, |rig| large(rig, 14 * 8)).await;
    proxy.lose_acks();
    proxy.hold(false);
    proxy.let_one_through();
    server.has_stored(&name("shop"), 10).await;
    rig.reported("timed out").await;
    proxy.mend();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(6 + 14 * 8, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=6 + 14 * 8);
    let batches = batches(&stored);
    assert_eq!(batches.into_values().collect::<Vec<_>>(), [8]);
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_of_a_batch_has_none_of_it_twice() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = behind(&proxy, |rig| {
        for seed in 0..60 {
            rig.publish(noise(20_000, seed));
        }
    })
    .await;
    // The first message of the batch arrives, and the second one does not.
    let held = proxy.held();
    proxy.let_one_through();
    while proxy.held() == held {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.kill();
    server.restart();
    proxy.hold(false);
    proxy.let_one_through();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(66, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=66);
}

#[tokio::test]
async fn blocks_are_stored_one_by_one_where_too_many_batches_are_open() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = behind(&proxy, |rig| large(rig, 14 * 8)).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    for n in 0..50 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Batch-Id", format!("open-{n}"));
        headers.insert("Nats-Batch-Sequence", "1");
        let subject = "tapline.blocks.0.another";
        let answer = client.request_with_headers(subject, headers, "".into());
        assert_eq!(answer.await.unwrap().payload, "");
    }
    proxy.hold(false);
    proxy.let_one_through();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(6 + 14 * 8, 0), "{status:?}");
    let error = status.last_error.unwrap();
    assert!(
        error.contains("does not accept blocks as a batch"),
        "{error}"
    );
    assert!(error.contains("batch is incomplete"), "{error}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=6 + 14 * 8);
    assert!(batches(&stored).is_empty());
}

#[tokio::test]
async fn blocks_are_stored_one_by_one_in_a_stream_without_batches() {
    let Some(server) = Server::start() else {
        return;
    };
    let metadata = [("tapline.version", "1"), ("tapline.partitions", "1")];
    let metadata = metadata.map(|(key, value)| (key.into(), value.into()));
    let mut config = Config {
        name: "tapline-0".into(),
        subjects: vec!["tapline.blocks.0.*".into()],
        metadata: metadata.into(),
        ..Config::default()
    };
    let jetstream = server.jetstream().await;
    jetstream.create_stream(&config).await.unwrap();
    let nats = distant(server.port, Duration::from_millis(5)).await;
    let mut options = options(nats, "shop");
    options.streams.max_bytes = None;
    let rig = Rig::new(options);
    large(&rig, 14 * 50);
    rig.settled(14 * 50).await;
    let error = rig.status().last_error.unwrap();
    assert!(error.contains("the NATS stream tapline-0"), "{error}");
    assert!(error.contains("atomic publish is disabled"), "{error}");
    // This connection does not try again.
    config.allow_atomic_publish = true;
    jetstream.update_stream(&config).await.unwrap();
    large(&rig, 14 * 50);
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(14 * 100, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=14 * 100);
    assert!(batches(&stored).is_empty());
}

#[tokio::test]
async fn a_block_that_is_too_large_among_others_is_split() {
    let Some(server) = Server::start_with("max_payload: 65536") else {
        return;
    };
    let nats = distant(server.port, Duration::from_millis(5)).await;
    let rig = Rig::new(options(nats, "shop"));
    large(&rig, 14 * 10);
    for seed in 0..20 {
        rig.publish(noise(20_000, seed));
    }
    large(&rig, 14 * 30);
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(14 * 40 + 20, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=14 * 40 + 20);
    assert!(!batches(&stored).is_empty());
}

/// A long partition, and a distant server afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_has_lost_is_read_from_the_archive_and_stored_in_batches() {
    const EVENTS: u64 = 100_000;
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let nats = distant(proxy.port, Duration::from_millis(20)).await;
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("nats-batches");
    let _ = std::fs::remove_dir_all(&dir);
    let archive = ArchiveSink::open(ArchiveOptions::new(&dir)).unwrap();
    let history = Arc::new(archive.archive());
    let rig = Rig::with(options(nats, "shop"), stream(2048), Some(history));
    let (archiving, task) = SinkHandle::new(rig.session.stream().clone(), archive);
    tokio::spawn(task);
    archiving.on();
    rig.publish_some(10);
    rig.settled(10).await;
    proxy.cut();
    while rig.session.seq() < EVENTS {
        rig.publish_some(
            usize::try_from(EVENTS - rig.session.seq())
                .unwrap()
                .min(500),
        );
        let deadline = Instant::now() + PATIENCE;
        while archiving.status().position + 1000 < rig.session.seq() {
            assert!(Instant::now() < deadline, "{:?}", archiving.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    proxy.mend();
    let status = rig.stop().await;
    archiving.shutdown(Instant::now() + PATIENCE).await;
    let ledger = status.ledger;
    assert!(0 < ledger.recovered, "{ledger:?}");
    assert_eq!(ledger.exported + ledger.recovered, EVENTS);
    assert_eq!(ledger.lost, 0);
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=EVENTS);
    assert!(!batches(&stored).is_empty());
    let _ = std::fs::remove_dir_all(dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_leader_is_killed_while_it_takes_batches_has_every_event_once() {
    let Some(mut servers) = Server::start_cluster(3) else {
        return;
    };
    let mut urls = Vec::new();
    for server in &servers {
        let delay = Duration::from_millis(5);
        urls.push(distant(server.port, delay).await.urls());
    }
    let mut options = options(NatsOptions::new(&urls.join(",")).unwrap(), "shop");
    options.streams.replicas = Some(3);
    let rig = Rig::new(options);
    rig.publish_some(10);
    rig.settled(10).await;
    servers[0].is_replicated().await;
    for _ in 0..3 {
        let last = rig.session.seq() + 14 * 60;
        large(&rig, 14 * 60);
        // Some batches are stored, and others are not.
        rig.settled(last - 14 * 45).await;
        let leader = leader(&servers).await;
        servers[leader].kill();
        large(&rig, 14 * 20);
        rig.settled(last + 14 * 20).await;
        servers[leader].restart();
        servers[leader].is_replicated().await;
    }
    let published = rig.session.seq();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(published, 0), "{status:?}");
    let stored = servers[0].stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=published);
    assert!(3 < batches(&stored).len());
}

/// Which of these servers leads the stream.
async fn leader(servers: &[Server]) -> usize {
    let jetstream = servers[0].jetstream().await;
    let stream = jetstream.get_stream("tapline-0").await.unwrap();
    let cluster = stream.cached_info().cluster.as_ref().unwrap();
    let leader = cluster.leader.as_ref().unwrap();
    leader.trim_start_matches('n').parse().unwrap()
}
