//! Each event is stored once: after a kill, a restart, a lost acknowledgement.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use tapline_api::SinkHandle;
use tapline_events::{EventStream, Retention};
use tapline_nats::NatsSink;

use crate::proxy::Proxy;
use crate::rig::{Rig, contents, ledger, name, options};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_restarted_has_every_event_once() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    let mut published = 0;
    for _ in 0..4 {
        for _ in 0..20 {
            rig.publish_some(50);
            published += 50;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill();
        rig.publish_some(50);
        published += 50;
        server.restart();
    }
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(published, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=published);
}

#[tokio::test]
async fn an_acknowledgement_that_is_lost_repeats_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = Rig::new(options(proxy.options(), "shop"));
    rig.publish_some(5);
    rig.settled(5).await;
    for _ in 0..3 {
        let published = proxy.published();
        proxy.lose_acks();
        rig.publish_some(5);
        while proxy.published() == published {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Further events are behind the message that is published again.
        rig.publish_some(5);
        proxy.mend();
        rig.settled(rig.session.seq()).await;
    }
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(35, 0), "{status:?}");
    assert!(status.last_error.unwrap().contains("timed out"));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=35);
}

/// An instance that has stored five events, through the proxy.
async fn behind(proxy: &Proxy) -> Rig {
    let mut options = options(proxy.options(), "shop");
    options.streams.max_bytes = None;
    let rig = Rig::new(options);
    rig.publish_some(5);
    rig.settled(5).await;
    rig
}

/// The stream forgets the ids of messages after a tenth of a second.
async fn forgets_ids(server: &Server) {
    let metadata = [("tapline.version", "1"), ("tapline.partitions", "1")];
    let metadata = metadata.map(|(key, value)| (key.into(), value.into()));
    let config = Config {
        name: "tapline-0".into(),
        subjects: vec!["tapline.blocks.0.*".into()],
        duplicate_window: Duration::from_millis(100),
        metadata: metadata.into(),
        ..Config::default()
    };
    let jetstream = server.jetstream().await;
    jetstream.create_stream(config).await.unwrap();
}

/// It arrives when the sink, which does not know of it, has published it again.
#[tokio::test]
async fn a_message_that_was_on_its_way_for_long_repeats_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    forgets_ids(&server).await;
    let proxy = Proxy::new(server.port).await;
    let rig = behind(&proxy).await;
    let held = async |blocks: usize| {
        while proxy.held() < blocks {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    proxy.hold(true);
    rig.publish_some(5);
    held(2).await;
    // The first attempt is stored, the sink still waits for the second, and the server does not know the id any more.
    proxy.let_one_through();
    server.has_stored(&name("shop"), 2).await;
    rig.publish_some(5);
    tokio::time::sleep(Duration::from_millis(250)).await;
    proxy.hold(false);
    proxy.let_one_through();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(15, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=15);
}

/// The server has forgotten the message id.
#[tokio::test]
async fn an_acknowledgement_that_was_lost_long_ago_repeats_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    forgets_ids(&server).await;
    let proxy = Proxy::new(server.port).await;
    let rig = behind(&proxy).await;
    proxy.lose_acks();
    rig.publish_some(5);
    server.has_stored(&name("shop"), 2).await;
    // The time-out of the acknowledgement is five times the window.
    rig.publish_some(5);
    rig.reported("timed out").await;
    proxy.mend();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(15, 0), "{status:?}");
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=15);
}

#[tokio::test]
async fn a_program_that_resumes_its_epoch_continues_without_a_repeat() {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::new(server.port).await;
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(20);
    rig.settled(20).await;
    let epoch = rig.epoch();
    drop(rig);
    let resumed = EventStream::resume(Retention::default(), epoch, 21).unwrap();
    // The server is not there at first, so that the sink cannot ask for its cursor.
    proxy.cut();
    let rig = Rig::with(options(proxy.options(), "shop"), resumed, None);
    rig.publish_some(20);
    rig.until(|status| status.last_error.is_some()).await;
    proxy.mend();
    assert_eq!(rig.stop().await.ledger, ledger(20, 0));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, epoch).expect_all(1..=40);

    // Another sink on the same stream begins after what is stored, though it has no state of its own.
    let sink = NatsSink::new(options(server.options(), "shop"), None).unwrap();
    let (handle, task) = SinkHandle::new(rig.session.stream().clone(), sink);
    tokio::spawn(task);
    handle.on();
    rig.publish_some(1);
    handle
        .shutdown(std::time::Instant::now() + crate::rig::PATIENCE)
        .await;
    assert_eq!(handle.status().ledger, ledger(1, 0));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, epoch).expect_all(1..=41);
}

#[tokio::test]
async fn a_restart_with_another_epoch_begins_anew() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let rig = Rig::new(options(server.options(), "shop"));
        rig.publish_some(7);
        let status = rig.stop().await;
        assert_eq!(status.ledger, ledger(7, 0));
        assert_eq!(status.last_error, None);
        epochs.push(rig.epoch());
    }
    let stored = server.stored(&name("shop"), 1).await;
    for epoch in epochs {
        contents(&stored, epoch).expect_all(1..=7);
    }
}
