//! Stopping, and switching off and on.

use std::time::{Duration, Instant};

use tapline_api::conformance::Arrived;

use crate::mock::{Mock, Reply};
use crate::rig::{PATIENCE, Rig, ledger, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_the_linger_time() {
    let mock = Mock::new();
    let mut options = options(&mock.url());
    options.linger = Duration::from_secs(60);
    let rig = Rig::new(options);
    rig.publish_some(10);
    let before = Instant::now();
    assert_eq!(rig.stop().await.ledger, ledger(10, 0, 0, 0));
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_again_until_the_deadline_also_from_within_a_long_pause() {
    let mock = Mock::new();
    mock.script(vec![Reply::status(503); 3]);
    let mut options = options(&mock.url());
    options.first_pause = Duration::from_secs(3600);
    options.last_pause = Duration::from_secs(3600);
    let rig = Rig::new(options);
    rig.publish_some(10);
    mock.wait_for(1);
    let before = Instant::now();
    assert_eq!(rig.stop().await.ledger, ledger(10, 0, 0, 0));
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_exported_at_the_deadline_has_failed() {
    for reply in [
        Reply::status(503),
        Reply::Stall(Vec::new()),
        Reply::Answer(429, "retry-after: 3000\r\n".to_owned(), Vec::new()),
    ] {
        let mock = Mock::new();
        mock.always(reply);
        let rig = Rig::new(options(&mock.url()));
        rig.publish_some(10);
        mock.wait_for(1);
        let before = Instant::now();
        let status = rig.stop_within(Duration::from_millis(300)).await;
        assert!(
            before.elapsed() < Duration::from_secs(3),
            "{:?}",
            before.elapsed()
        );
        assert_eq!(status.ledger, ledger(0, 0, 0, 10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_and_on_again_sends_nothing_twice_and_nothing_from_between() {
    let mock = Mock::new();
    mock.script([Reply::status(503), Reply::CloseEarly]);
    let rig = Rig::with_retention(options(&mock.url()), 1000);
    let mut expected = Vec::new();
    for round in 0..5_u64 {
        rig.publish_some(3);
        rig.handle.on();
        rig.publish_some(4);
        rig.handle.off(Instant::now() + PATIENCE).await;
        expected.extend((round * 7 + 4..=round * 7 + 7).map(Arrived::Event));
    }
    assert_eq!(mock.arrived(), expected);
    assert_eq!(rig.status().ledger, ledger(20, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_failed_at_a_deadline_is_not_sent_in_the_next_window() {
    let mock = Mock::new();
    mock.always(Reply::status(503));
    let rig = Rig::new(options(&mock.url()));
    rig.publish_some(5);
    mock.wait_for(1);
    rig.stop_within(Duration::from_millis(100)).await;
    mock.always(Reply::Accept);
    rig.handle.on();
    rig.publish_some(5);
    assert_eq!(rig.stop().await.ledger, ledger(5, 0, 0, 5));
    assert_eq!(
        mock.arrived(),
        (6..=10).map(Arrived::Event).collect::<Vec<_>>()
    );
}
