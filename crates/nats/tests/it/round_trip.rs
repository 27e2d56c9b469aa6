//! What is stored is what was published, with what a reader needs to know.

use std::process::Command;

use tapline_api::{Filter, Sink};
use tapline_nats::NatsSink;
use tapline_nats::message::decode;
use tapline_oapi::{Category, CategorySet};
use tapline_telemetry::TelemetryConfig;

use crate::rig::{Rig, contents, event, ledger, name, noise, options};
use crate::server::Server;

#[tokio::test]
async fn every_event_is_stored_byte_for_byte() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    let mut published = Vec::new();
    for n in 0..3000 {
        let data = format!("{{ \"n\" : {n},\n \"text\": \"caf\u{e9}\" }}");
        let envelope = rig.session.publish(event("step", Category::Control, &data));
        published.push(envelope.unwrap().json().to_string());
    }
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(3000, 0));
    assert_eq!(status.last_error, None);
    let stored = server.stored(&name("shop"), 1).await;
    let contents = contents(&stored, rig.epoch());
    contents.expect_all(1..=3000);
    let found: Vec<_> = contents.events.into_values().collect();
    assert_eq!(found, published);
    for (_, headers, _) in &stored {
        assert_eq!(headers.get("Tapline-Version").unwrap().as_str(), "1");
        assert_eq!(headers.get("Tapline-Types").unwrap().as_str(), "step");
    }
}

#[tokio::test]
async fn a_block_is_closed_at_256_kib() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    for seed in 0..100 {
        rig.publish(noise(50_000, seed));
    }
    assert_eq!(rig.stop().await.ledger, ledger(100, 0));
    let stored = server.stored(&name("shop"), 1).await;
    contents(&stored, rig.epoch()).expect_all(1..=100);
    for (_, headers, payload) in &stored {
        let (_, block) = decode(headers, payload).unwrap();
        assert!(
            block.meta().raw_len <= 256 * 1024 + 50_200,
            "{}",
            block.meta().raw_len
        );
    }
    assert!(10 < stored.len(), "{}", stored.len());
}

#[tokio::test]
async fn zstdcat_prints_the_events_of_a_message() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(3);
    rig.stop().await;
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("message.zst");
    let mut bytes = Vec::new();
    for (_, _, payload) in server.stored(&name("shop"), 1).await {
        bytes.extend(payload);
    }
    std::fs::write(&path, bytes).unwrap();
    let Ok(printed) = Command::new("zstdcat").arg(&path).output() else {
        return;
    };
    let printed = String::from_utf8(printed.stdout).unwrap();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with(r#"{"seq":1,"event":{"ts":"#),
        "{printed}"
    );
}

#[tokio::test]
async fn a_reader_knows_which_session_holds_after_which_seq() {
    let Some(server) = Server::start() else {
        return;
    };
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(2);
    let config = TelemetryConfig {
        categories: CategorySet::of(&[Category::Control, Category::Page]),
    };
    rig.session.update_config(config).unwrap();
    rig.publish_some(2);
    rig.session.start("another", config).unwrap();
    rig.publish_some(2);
    rig.settled(6).await;
    rig.publish_some(1);
    rig.stop().await;
    let stored = server.stored(&name("shop"), 1).await;
    let heads = contents(&stored, rig.epoch()).heads;
    // Every block says what holds at its start.
    for head in &heads {
        assert!(head.sessions[0].after < head.first, "{head:?}");
    }
    let holds = |seq: u64| {
        let changes = heads.iter().flat_map(|it| &it.sessions);
        let change = changes.rfind_after(seq);
        change.state(rig.epoch(), seq)
    };
    let state = holds(2);
    assert_eq!(state.session_id.as_deref(), Some("shop-7"));
    assert_eq!(state.config.browser.enabled(), CategorySet::USER_FACING);
    assert_eq!(holds(3).config.browser.enabled(), config.categories);
    assert_eq!(holds(4).session_id.as_deref(), Some("shop-7"));
    let state = holds(5);
    assert_eq!(state.session_id.as_deref(), Some("another"));
    assert_eq!(state.session_start_seq, Some(4));
    assert!(state.applied_at.is_some());
    assert_eq!(holds(7), tapline_oapi::State { seq: 7, ..state });
}

trait RfindAfter<'a> {
    fn rfind_after(self, seq: u64) -> &'a tapline_nats::message::SessionChange;
}

impl<'a, I: Iterator<Item = &'a tapline_nats::message::SessionChange>> RfindAfter<'a> for I {
    fn rfind_after(self, seq: u64) -> &'a tapline_nats::message::SessionChange {
        self.filter(|it| it.after < seq).last().unwrap()
    }
}

#[tokio::test]
async fn the_cursor_is_that_of_the_last_message() {
    let Some(server) = Server::start() else {
        return;
    };
    let sink = || NatsSink::new(options(server.options(), "shop"), None).unwrap();
    sink().prepare().await.unwrap();
    assert_eq!(sink().resume().await.unwrap(), None);
    let rig = Rig::new(options(server.options(), "shop"));
    rig.publish_some(5);
    rig.stop().await;
    let cursor = sink().resume().await.unwrap().unwrap();
    assert_eq!((cursor.seq, cursor.epoch), (5, Some(rig.epoch())));
    let page = Filter::categories(CategorySet::of(&[Category::Page]));
    let (_, headers, payload) = &server.stored(&name("shop"), 1).await[0];
    let (_, block) = decode(headers, payload).unwrap();
    assert_eq!(block.events(1..=5, &page).count(), 0);
}
