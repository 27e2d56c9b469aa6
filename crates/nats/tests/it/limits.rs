//! Messages and storage have limits.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use tapline_oapi::Category;

use crate::rig::{Rig, contents, event, ledger, name, noise, options};
use crate::server::Server;

#[tokio::test]
async fn a_block_that_is_too_large_for_the_server_is_split() {
    let Some(server) = Server::start_with("max_payload: 65536") else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    for seed in 0..60 {
        rig.publish(noise(20_000, seed));
    }
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(60, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=60);
}

#[tokio::test]
async fn an_event_that_is_too_large_for_the_server_is_rejected_and_is_a_gap() {
    let Some(server) = Server::start_with("max_payload: 65536") else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(3);
    rig.publish(noise(200_000, 1));
    rig.publish_some(3);
    let status = rig.stop().await;
    let mut expected = ledger(7, 0);
    (expected.exported, expected.rejected) = (6, 1);
    assert_eq!(status.ledger, expected);
    let error = status.last_error.unwrap();
    assert!(error.contains("event 4 has"), "{error}");
    assert!(error.contains("raise max_payload"), "{error}");
    let stored = server.stored(&name("shop"), 1).await;
    let contents = contents(&stored, rig.epoch());
    assert_eq!(contents.gaps, [4..=4]);
    assert_eq!(contents.events.len(), 6);
}

/// The largest event that there is.
#[tokio::test]
async fn an_event_of_a_megabyte_fits_into_a_message() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    let text = "x".repeat(999_000);
    rig.publish(event("large", Category::Control, &format!("\"{text}\"")));
    rig.publish(noise(999_000, 7));
    rig.publish_some(1);
    assert_eq!(rig.stop().await.ledger, ledger(3, 0));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=3);
}

#[tokio::test]
async fn a_stream_that_is_full_is_tried_again_and_reported() {
    let Some(server) = Server::start() else {
        return;
    };
    let metadata = [("tapline.version", "1"), ("tapline.partitions", "1")];
    let mut config = Config {
        name: "tapline-0".into(),
        subjects: vec!["tapline.blocks.0.*".into()],
        max_bytes: 100_000,
        discard: DiscardPolicy::New,
        metadata: metadata
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        ..Config::default()
    };
    let jetstream = server.jetstream().await;
    jetstream.create_stream(&config).await.unwrap();
    let mut options = options(server.options(), "shop");
    options.streams.max_bytes = None;
    let rig = Rig::new(options);
    for seed in 0..20 {
        rig.publish(noise(20_000, seed));
    }
    rig.reported("maximum bytes exceeded").await;
    assert!(0 < rig.status().ledger.pending);
    config.max_bytes = 10_000_000;
    jetstream.update_stream(&config).await.unwrap();
    assert_eq!(rig.stop().await.ledger, ledger(20, 0));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=20);
}

#[tokio::test]
async fn a_stop_without_a_server_ends_at_its_deadline() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(3);
    rig.settled(3).await;
    server.kill();
    rig.publish_some(3);
    let began = std::time::Instant::now();
    let deadline = began + std::time::Duration::from_millis(600);
    rig.handle.shutdown(deadline).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    let found = rig.status().ledger;
    assert_eq!(
        (found.exported, found.failed + found.pending),
        (3, found.read - 3)
    );
}
