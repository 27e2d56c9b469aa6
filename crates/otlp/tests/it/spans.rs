//! Spans: navigations and their requests, made of the events that are exported.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tapline_api::{SinkStatus, SpanLedger};
use tapline_oapi::{Category, Event};

use crate::mock::{Mock, Reply};
use crate::rig::{PATIENCE, Rig, event, ledger, options};
use crate::trace::Span;

/// What a browser did, as events.
const TOUR: &str = include_str!("../../../cdp/tests/golden/tour.ndjson");

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn with_spans(mock: &Mock) -> Rig {
    let mut options = options(&mock.url());
    options.spans = true;
    Rig::new(options)
}

fn sent(id: &str, headers: &Value) -> Event {
    let data = json!({
        "request_id": id, "url": format!("http://shop/{id}"), "method": "GET", "document_url": "http://shop/",
        "headers": headers, "initiator_type": "script",
    });
    event("network_request", Category::Network, &data.to_string())
}

fn answered(id: &str, status: u32) -> Event {
    let data = json!({
        "request_id": id, "url": format!("http://shop/{id}"), "method": "GET", "status": status,
        "headers": {}, "duration_ms": 12,
    });
    event("network_response", Category::Network, &data.to_string())
}

/// Publishes so many requests with their answers.
fn publish_requests(rig: &Rig, count: usize) {
    for n in 0..count {
        rig.publish(sent(&format!("7.{n}"), &json!({})));
        rig.publish(answered(&format!("7.{n}"), 200));
    }
}

/// The ledger of the spans, which must close.
fn spans_of(status: &SinkStatus) -> SpanLedger {
    let spans = status.spans.unwrap();
    let settled = spans.exported + spans.rejected + spans.failed + spans.pending;
    assert_eq!(spans.made, settled, "{spans:?}");
    spans
}

fn settled(exported: u64, rejected: u64, failed: u64) -> SpanLedger {
    SpanLedger {
        made: exported + rejected + failed,
        exported,
        rejected,
        failed,
        pending: 0,
    }
}

/// Waits for a condition of the endpoint.
async fn until(is_there: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_option_there_are_no_spans() {
    let mock = Mock::new();
    let rig = Rig::new(options(&mock.url()));
    publish_requests(&rig, 3);
    let status = rig.stop().await;
    assert_eq!((status.ledger, status.spans), (ledger(6, 0, 0, 0), None));
    assert_eq!(mock.requests_with_spans(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_navigation_is_the_root_and_its_requests_are_children() {
    let mock = Mock::new();
    let rig = with_spans(&mock);
    let events = TOUR.lines().map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Event> = events.collect();
    let count = events.len() as u64;
    for event in events {
        rig.publish(event);
    }
    let status = rig.stop().await;
    // The events have the account that they have without spans.
    assert_eq!((status.ledger.read, status.ledger.failed), (count, 0));
    let spans = mock.spans();
    assert_eq!(spans_of(&status), settled(spans.len() as u64, 0, 0));
    let ids: HashSet<_> = spans.iter().map(|it| &it.span_id).collect();
    assert_eq!(ids.len(), spans.len(), "each span once");
    let (roots, children): (Vec<&Span>, Vec<&Span>) =
        spans.iter().partition(|it| it.parent_span_id.is_empty());
    let by_id: HashMap<_, _> = spans.iter().map(|it| (&it.span_id, it)).collect();
    assert!(10 < children.len(), "{} children", children.len());
    for child in &children {
        let parent = by_id[&child.parent_span_id];
        assert_eq!(parent.name, "navigation");
        assert_eq!((parent.kind, child.kind), (1, 3));
        assert_eq!(parent.trace_id, child.trace_id);
        assert_eq!((child.trace_id.len(), child.span_id.len()), (16, 8));
    }
    assert!(roots.iter().any(|it| it.name == "navigation"));
    // A redirect is a part of its request.
    let hops = TOUR.matches(r#""type":"network_request""#).count();
    let redirects = TOUR.matches(r#""is_redirect":true"#).count();
    let requests = spans.iter().filter(|it| it.kind == 3).count();
    assert_eq!(requests, hops - redirects);
    for span in &spans {
        assert!(
            span.start_time_unix_nano <= span.end_time_unix_nano,
            "{span:?}"
        );
        assert!(0 < span.start_time_unix_nano);
        assert!(span.integer("tapline.seq").is_some());
        assert!(span.text("url.full").is_some(), "{span:?}");
        assert_eq!(span.text("session.id"), Some("shop-7"));
        let is_error = span.status.as_ref().is_some_and(|it| it.code == 2);
        let status = span.integer("http.response.status_code").unwrap_or(0);
        assert!(status < 400 || is_error, "{span:?}");
    }
    let names = |span: &Span| {
        span.events
            .iter()
            .map(|it| it.name.clone())
            .collect::<Vec<_>>()
    };
    let loaded = roots
        .iter()
        .find(|it| names(it).contains(&"load".to_owned()));
    let loaded = loaded.unwrap();
    let load = loaded.events.iter().find(|it| it.name == "load").unwrap();
    assert!(load.time_unix_nano <= loaded.end_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_is_exported_soon_after_its_end_and_once() {
    let mock = Mock::new();
    let rig = with_spans(&mock);
    publish_requests(&rig, 1);
    // Without a further event, and without a stop.
    until(|| !mock.spans().is_empty()).await;
    let status = rig.stop().await;
    assert_eq!(spans_of(&status), settled(1, 0, 0));
    let [span] = &mock.spans()[..] else { panic!() };
    assert_eq!(
        (span.name.as_str(), span.text("tapline.outcome")),
        ("GET", Some("answered"))
    );
    assert_eq!(span.integer("http.response.status_code"), Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_that_was_sent_is_a_link() {
    let mock = Mock::new();
    let rig = with_spans(&mock);
    rig.publish(sent("7.1", &json!({"Traceparent": TRACEPARENT})));
    rig.publish(answered("7.1", 503));
    let mut traced = sent("7.2", &json!({"traceparent": "nonsense"}));
    for (key, value) in [
        ("trace_id", &TRACEPARENT[3..35]),
        ("span_id", &TRACEPARENT[36..52]),
    ] {
        traced.source.metadata.insert(key.into(), value.into());
    }
    rig.publish(traced);
    rig.publish(answered("7.2", 200));
    rig.stop().await;
    let spans = mock.spans();
    assert_eq!(spans.len(), 2);
    for span in &spans {
        let [link] = &span.links[..] else {
            panic!("{span:?}")
        };
        assert_eq!((link.trace_id[0], link.span_id[7]), (0x4b, 0xb7));
        // Ids that a page chose are not the ids of a trace of ours.
        assert_ne!(span.trace_id, link.trace_id);
    }
    let failed = spans.iter().find(|it| it.status.is_some()).unwrap();
    assert_eq!(failed.text("error.type"), Some("503"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_ends_is_exported_at_the_stop_and_says_so() {
    let mock = Mock::new();
    let rig = with_spans(&mock);
    rig.publish(sent("7.1", &json!({})));
    let status = rig.stop().await;
    assert_eq!(spans_of(&status), settled(1, 0, 0));
    assert_eq!(mock.spans()[0].text("tapline.outcome"), Some("pending"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_is_in_a_gap_is_unknown() {
    let mock = Mock::new();
    let wait = Reply::Answer(429, "retry-after: 1\r\n".to_owned(), Vec::new());
    mock.script([wait]);
    let mut options = options(&mock.url());
    options.spans = true;
    let rig = Rig::with_retention(options, 16);
    rig.handle.on();
    rig.publish(sent("7.1", &json!({})));
    mock.wait_for(1);
    rig.publish(answered("7.1", 200));
    rig.publish_some(200);
    let status = rig.stop().await;
    assert!(0 < status.ledger.lost, "{status:?}");
    assert_eq!(spans_of(&status), settled(1, 0, 0));
    let [span] = &mock.spans()[..] else { panic!() };
    assert_eq!(span.text("tapline.outcome"), Some("unknown"));
    assert_eq!(span.text("tapline.unknown"), Some("events_lost"));
    assert!(span.integer("tapline.lost").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_sent_again_as_logs_are_and_arrive_once() {
    let mock = Mock::new();
    mock.script_of_traces([
        Reply::status(503),
        Reply::CloseEarly,
        Reply::CloseEarly,
        Reply::Raw(b"garbage".to_vec()),
        Reply::Answer(429, "retry-after: 0\r\n".to_owned(), Vec::new()),
    ]);
    let rig = with_spans(&mock);
    publish_requests(&rig, 5);
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(10, 0, 0, 0));
    assert_eq!(spans_of(&status), settled(5, 0, 0));
    assert_eq!(mock.spans().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_endpoint_does_not_take_is_rejected_and_the_logs_are_not() {
    for (reply, rejected) in [
        (Reply::status(404), 4),
        (Reply::status(401), 4),
        (Reply::partial(3, "no"), 3),
        (Reply::partial(99, "no"), 4),
        (Reply::status(413), 4),
    ] {
        let mock = Mock::new();
        mock.always_to_traces(reply.clone());
        let rig = with_spans(&mock);
        publish_requests(&rig, 4);
        let status = rig.stop().await;
        assert_eq!(status.ledger, ledger(8, 0, 0, 0), "{reply:?}");
        assert_eq!(
            spans_of(&status),
            settled(4 - rejected, rejected, 0),
            "{reply:?}"
        );
        assert!(status.last_error.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_do_not_wait_for_spans_and_what_is_left_at_the_deadline_has_failed() {
    for reply in [Reply::status(503), Reply::Stall(Vec::new())] {
        let mock = Mock::new();
        mock.always_to_traces(reply);
        let rig = with_spans(&mock);
        publish_requests(&rig, 4);
        until(|| 0 < mock.requests_with_spans()).await;
        rig.publish_some(100);
        until(|| rig.status().ledger.exported == 108).await;
        let before = Instant::now();
        let status = rig.stop_within(Duration::from_millis(800)).await;
        assert!(before.elapsed() < Duration::from_secs(5));
        assert_eq!(status.ledger, ledger(108, 0, 0, 0));
        assert_eq!(spans_of(&status), settled(0, 0, 4));
    }
}
