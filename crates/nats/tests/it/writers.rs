//! Two programs with one name.

use crate::rig::{Rig, contents, name, options};
use crate::server::Server;

#[tokio::test]
async fn two_programs_with_one_name_are_reported_and_lose_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let first = Rig::new(options(server.options(), "shop"));
    let second = Rig::new(options(server.options(), "shop"));
    for n in 1..=10 {
        first.publish_some(3);
        first.settled(3 * n).await;
        second.publish_some(3);
        second.settled(3 * n).await;
    }
    let expected = "another program stores events as instance shop";
    for rig in [&first, &second] {
        let status = rig.stop().await;
        assert_eq!(status.ledger.exported, 30);
        let error = status.last_error.unwrap();
        assert!(error.contains(expected), "{error}");
        assert!(
            error.contains("give each program a name of its own"),
            "{error}"
        );
    }
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, first.epoch()).expect_all(1..=30);
    contents(&stored, second.epoch()).expect_all(1..=30);
}

#[tokio::test]
async fn programs_with_names_of_their_own_share_a_stream() {
    let Some(server) = Server::start() else {
        return;
    };
    let rigs: Vec<_> = (0..5)
        .map(|n| Rig::new(options(server.options(), &format!("shop-{n}"))))
        .collect();
    for rig in &rigs {
        rig.publish_some(20);
    }
    for (n, rig) in rigs.iter().enumerate() {
        let status = rig.stop().await;
        assert_eq!((status.ledger.exported, status.last_error), (20, None));
        let stored = server.stored(&name(&format!("shop-{n}")), 1).await;
        contents(&stored, rig.epoch()).expect_all(1..=20);
    }
}
