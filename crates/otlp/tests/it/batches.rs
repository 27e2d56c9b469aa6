//! How many requests there are, and how large they are.

use std::time::Duration;

use tapline_oapi::Category;

use crate::mock::{Mock, Reply, attribute};
use crate::rig::{Rig, event, ledger, options};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_by_count() {
    let mock = Mock::new();
    let mut options = options(&mock.url());
    options.max_records = 100;
    options.linger = Duration::from_secs(60);
    let rig = Rig::new(options);
    rig.publish_some(1050);
    let received = mock.wait_for(10);
    assert!(received.iter().all(|it| it.records().len() == 100));
    assert_eq!(rig.stop().await.ledger, ledger(1050, 0, 0, 0));
    assert_eq!(
        mock.received().len(),
        11,
        "what remains is sent when the sink is stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_by_bytes() {
    let mock = Mock::new();
    let mut options = options(&mock.url());
    options.max_bytes = 1024 * 1024;
    let rig = Rig::new(options);
    let data = format!("\"{}\"", "x".repeat(300_000));
    for _ in 0..10 {
        rig.publish(event("large", Category::Page, &data));
    }
    assert_eq!(rig.stop().await.ledger, ledger(10, 0, 0, 0));
    let received = mock.received();
    assert!(received.iter().all(|it| it.bytes <= 1024 * 1024));
    assert!(received.iter().filter(|it| it.records().len() == 3).count() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_events_wait_for_the_linger_time_only() {
    let mock = Mock::new();
    let rig = Rig::new(options(&mock.url()));
    rig.publish_some(3);
    assert_eq!(mock.wait_for(1)[0].records().len(), 3);
    drop(rig);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_event_fits_into_a_request() {
    let mock = Mock::new();
    let mut options = options(&mock.url());
    options.max_bytes = tapline_otlp::MAX_REQUEST_BYTES;
    let rig = Rig::new(options);
    // The densest JSON: three bytes become thirteen.
    let data = format!("[{}-1]", "-1,".repeat(333_000));
    assert!(999_000 <= data.len());
    rig.publish(event("dense", Category::Page, &data));
    rig.publish(event(
        "text",
        Category::Page,
        &format!("\"{}\"", "x".repeat(990_000)),
    ));
    assert_eq!(rig.stop().await.ledger, ledger(2, 0, 0, 0));
    let received = mock.received();
    assert!(
        received
            .iter()
            .all(|it| it.bytes <= tapline_otlp::MAX_REQUEST_BYTES)
    );
    let dense = &mock.accepted()[0];
    assert_eq!(
        attribute(dense, "tapline.body_as_text"),
        Some(Value::BoolValue(true))
    );
    assert_eq!(
        dense.body.clone().unwrap().value,
        Some(Value::StringValue(data))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_above_the_limit_of_a_request_is_cut_and_says_so() {
    let mock = Mock::new();
    let mut options = options(&mock.url());
    options.max_bytes = tapline_otlp::MIN_REQUEST_BYTES;
    let rig = Rig::new(options);
    rig.publish(event(
        "text",
        Category::Page,
        &format!("\"{}\"", "x".repeat(990_000)),
    ));
    assert_eq!(rig.stop().await.ledger, ledger(1, 0, 0, 0));
    let record = &mock.accepted()[0];
    assert_eq!(record.body, None);
    assert_eq!(
        attribute(record, "tapline.truncated"),
        Some(Value::BoolValue(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_endpoint_is_halved() {
    let mock = Mock::new();
    mock.script([Reply::status(413), Reply::status(413), Reply::status(413)]);
    let rig = Rig::with_retention(options(&mock.url()), 1000);
    rig.handle.on();
    rig.publish_some(64);
    assert_eq!(rig.stop().await.ledger, ledger(64, 0, 0, 0));
    let received = mock.received();
    let largest = received
        .iter()
        .filter(|it| it.is_accepted)
        .map(|it| it.records().len())
        .max();
    assert!(largest.unwrap() <= 32);
    let seqs: Vec<_> = mock.arrived();
    assert_eq!(seqs.len(), 64, "each arrives once, in order");
    assert!(seqs.is_sorted_by_key(|it| match it {
        tapline_api::conformance::Arrived::Event(seq) => *seq,
        _ => panic!(),
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_alone_is_rejected() {
    let mock = Mock::new();
    mock.always(Reply::status(413));
    let rig = Rig::new(options(&mock.url()));
    rig.publish_some(5);
    assert_eq!(rig.stop().await.ledger, ledger(0, 0, 5, 0));
    assert!(
        mock.received()
            .iter()
            .filter(|it| it.records().len() == 1)
            .count()
            == 5
    );
    assert!(rig.status().last_error.unwrap().contains("413"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_compressed_where_that_is_asked_for() {
    let mock = Mock::new();
    mock.script([Reply::status(503), Reply::status(413)]);
    let mut options = options(&mock.url());
    options.compress = true;
    let rig = Rig::with_retention(options, 10_000);
    rig.handle.on();
    rig.publish_some(2000);
    assert_eq!(rig.stop().await.ledger, ledger(2000, 0, 0, 0));
    let received = mock.received();
    assert!(
        received
            .iter()
            .all(|it| it.header("content-encoding") == Some("gzip"))
    );
    assert_eq!(mock.arrived().len(), 2000);
}
