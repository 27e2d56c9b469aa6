//! Streams are created once, checked, and never changed.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use tapline_nats::{
    Connection, NatsError, Partitions, StreamOptions, ensure_streams, find_partitions,
};

use crate::rig::{Rig, name, options};
use crate::server::Server;

fn asked(partitions: u32) -> StreamOptions {
    let mut options = StreamOptions::default();
    options.partitions = Partitions::new(partitions);
    options.max_bytes = Some(1024 * 1024);
    options
}

#[tokio::test]
async fn streams_are_created_with_limits_and_then_found() {
    let Some(server) = Server::start() else {
        return;
    };
    let connection = Connection::open(&server.options(), "test").await.unwrap();
    assert_eq!(find_partitions(&connection).await.unwrap(), None);
    let found = ensure_streams(&connection, &asked(4), &name("a")).await;
    assert_eq!(found.unwrap().count(), 4);
    for partition in 0..4 {
        let stream = connection
            .jetstream()
            .get_stream(format!("tapline-{partition}"))
            .await;
        let config = stream.unwrap().cached_info().config.clone();
        assert_eq!(config.subjects, [format!("tapline.blocks.{partition}.*")]);
        assert_eq!(config.max_age, Duration::from_secs(7 * 24 * 60 * 60));
        assert_eq!(config.max_bytes, 1024 * 1024);
        assert_eq!(config.storage, StorageType::File);
        assert_eq!(config.discard, DiscardPolicy::Old);
        assert!(config.allow_direct && config.allow_atomic_publish);
        assert_eq!(config.metadata["tapline.partitions"], "4");
        assert_eq!(config.metadata["tapline.version"], "1");
    }
    // Without a wish it takes what there is.
    let found = ensure_streams(&connection, &StreamOptions::default(), &name("a")).await;
    assert_eq!(found.unwrap().count(), 4);
    let found = find_partitions(&connection).await.unwrap();
    assert_eq!(found, Partitions::new(4));
}

#[tokio::test]
async fn what_differs_from_what_was_asked_for_is_an_error_and_is_not_changed() {
    let Some(server) = Server::start() else {
        return;
    };
    let connection = Connection::open(&server.options(), "test").await.unwrap();
    ensure_streams(&connection, &asked(2), &name("a"))
        .await
        .unwrap();
    let check = async |change: &dyn Fn(&mut StreamOptions), expected: &str| {
        let mut options = StreamOptions::default();
        change(&mut options);
        let error = ensure_streams(&connection, &options, &name("a"))
            .await
            .unwrap_err();
        assert!(!error.is_temporary());
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(
        &|it| it.partitions = Partitions::new(3),
        "the NATS stream tapline-0 has the number of partitions 2, and 3 was asked for; streams are never changed here: ask \
         for 2, or change the stream by hand",
    )
    .await;
    check(
        &|it| it.max_bytes = Some(7),
        "the most bytes 1048576 bytes, and 7 bytes was asked for",
    )
    .await;
    check(
        &|it| it.max_age = Some(Duration::from_secs(60)),
        "the most age 604800s, and 60s was asked for",
    )
    .await;
    check(
        &|it| it.replicas = Some(3),
        "the number of replicas 1, and 3",
    )
    .await;
    let mut stream = connection
        .jetstream()
        .get_stream("tapline-0")
        .await
        .unwrap();
    let config = &stream.info().await.unwrap().config;
    assert_eq!((config.max_bytes, config.num_replicas), (1024 * 1024, 1));
}

#[tokio::test]
async fn a_stream_of_another_program_or_version_is_left_alone() {
    let Some(server) = Server::start() else {
        return;
    };
    let connection = Connection::open(&server.options(), "test").await.unwrap();
    let mut config = Config {
        name: "tapline-0".into(),
        subjects: vec!["tapline.blocks.0.*".into()],
        ..Config::default()
    };
    connection.jetstream().create_stream(&config).await.unwrap();
    let error = find_partitions(&connection).await.unwrap_err();
    assert!(matches!(error, NatsError::NotOurs { .. }), "{error}");
    assert!(
        error.to_string().contains("another program has created it"),
        "{error}"
    );
    config.metadata.insert("tapline.version".into(), "2".into());
    config
        .metadata
        .insert("tapline.partitions".into(), "1".into());
    connection.jetstream().update_stream(&config).await.unwrap();
    let error = ensure_streams(&connection, &asked(1), &name("a"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("version 2 of the layout"),
        "{error}"
    );
}

#[tokio::test]
async fn more_than_the_server_has_is_refused_with_what_to_do() {
    let limited = "jetstream { store_dir: \"$DIR\", max_file_store: 10MB }";
    let Some(server) = Server::start_with(limited) else {
        return;
    };
    let connection = Connection::open(&server.options(), "test").await.unwrap();
    let error = ensure_streams(&connection, &StreamOptions::default(), &name("a")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("does not create the stream tapline-15"),
        "{error}"
    );
    assert!(
        error.contains("ask for fewer bytes or partitions"),
        "{error}"
    );
}

#[tokio::test]
async fn two_instances_create_the_streams_at_the_same_time() {
    let Some(server) = Server::start() else {
        return;
    };
    let first = Connection::open(&server.options(), "first").await.unwrap();
    let second = Connection::open(&server.options(), "second").await.unwrap();
    let options = asked(8);
    let (a, b) = (name("a"), name("b"));
    let (a, b) = tokio::join!(
        ensure_streams(&first, &options, &a),
        ensure_streams(&second, &options, &b),
    );
    assert_eq!((a.unwrap().count(), b.unwrap().count()), (8, 8));
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_created_again_and_the_hole_is_known() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut options = options(server.options(), "shop");
    options.streams.partitions = Partitions::new(2);
    let rig = Rig::new(options);
    rig.publish_some(10);
    rig.settled(10).await;
    let jetstream = server.jetstream().await;
    let partition = Partitions::new(2).unwrap().of(&name("shop"));
    let stream = format!("tapline-{partition}");
    jetstream.delete_stream(&stream).await.unwrap();
    rig.publish_some(10);
    rig.settled(20).await;
    let stored = server.stored(&name("shop"), 2).await;
    let (_, block) = tapline_nats::message::decode(&stored[0].1, &stored[0].2).unwrap();
    assert_eq!((block.meta().previous, block.meta().first), (10, 11));
    // All of them.
    for partition in 0..2 {
        jetstream
            .delete_stream(format!("tapline-{partition}"))
            .await
            .unwrap();
    }
    rig.publish_some(10);
    assert_eq!(rig.stop().await.ledger.exported, 30);
    let stored = server.stored(&name("shop"), 2).await;
    let (head, _) = tapline_nats::message::decode(&stored[0].1, &stored[0].2).unwrap();
    assert_eq!(head.first, 21);
}

#[tokio::test]
async fn messages_that_expire_do_not_stop_the_sink() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut options = options(server.options(), "shop");
    options.streams.max_age = Some(Duration::from_millis(300));
    let rig = Rig::new(options);
    rig.publish_some(10);
    rig.settled(10).await;
    while !server.stored(&name("shop"), 1).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.publish_some(10);
    rig.settled(20).await;
    let stored = server.stored(&name("shop"), 1).await;
    assert_eq!(stored.len(), 1);
    let (head, block) = tapline_nats::message::decode(&stored[0].1, &stored[0].2).unwrap();
    assert_eq!((head.first, block.meta().previous), (11, 10));
}
