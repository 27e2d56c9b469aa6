//! A cluster of three servers, of which one is killed at a time.

use std::time::Duration;

use tapline_nats::NatsOptions;

use crate::rig::{Rig, contents, ledger, name, options};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_server_at_a_time_has_every_event_once() {
    let Some(mut servers) = Server::start_cluster(3) else {
        return;
    };
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let nats = NatsOptions::new(&urls.join(",")).unwrap();
    let mut options = options(nats, "shop");
    options.streams.replicas = Some(3);
    let rig = Rig::new(options);
    let mut published = 0;
    rig.publish_some(10);
    published += 10;
    rig.settled(published).await;
    for server in &mut servers {
        server.is_replicated().await;
        for _ in 0..10 {
            rig.publish_some(20);
            published += 20;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        server.kill();
        for _ in 0..10 {
            rig.publish_some(20);
            published += 20;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        rig.settled(published).await;
        server.restart();
    }
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(published, 0), "{status:?}");
    let stored = servers[0].stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=published);
}
