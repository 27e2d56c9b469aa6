//! Waiting for one event, in the past or to come.

use std::task::{Context, Waker};

use tapline_events::Item;
use tapline_oapi::HelloReason;

use crate::{fill_to, publish, query, running};

#[test]
fn what_was_published_before_is_found() {
    let api = running(64);
    fill_to(&api, 3);
    let page = publish(&api, r#"{"type":"page_load"}"#).unwrap();
    fill_to(&api, 8);
    for asked in [
        "type=page_*",
        "type=page_load&after=2",
        "category=page&after=x",
    ] {
        let wait = query::wait(asked).unwrap();
        let mut subscription = api.subscribe(&wait.start);
        let Some(Item::Envelope(found)) = subscription.reader.try_next() else {
            panic!("{asked}: it is there")
        };
        assert_eq!(found.seq(), page.seq());
    }
    let after = query::wait("type=page_load&after=4").unwrap();
    let mut reader = api.subscribe(&after.start).reader;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reader.poll_next(&mut cx).is_pending(), "and once only");
    publish(&api, r#"{"type":"page_load"}"#).unwrap();
    assert!(reader.poll_next(&mut cx).is_ready(), "what comes is, too");
}

#[test]
fn without_a_cursor_it_begins_at_the_sessions_start() {
    let api = running(64);
    fill_to(&api, 3);
    let _ = crate::ready(api.delete());
    crate::ready(api.put(&Default::default())).unwrap();
    let subscription = api.subscribe(&query::wait("").unwrap().start);
    assert_eq!(subscription.hello.used, 3);
}

#[test]
fn what_is_lost_on_the_way_is_known() {
    let api = running(8);
    fill_to(&api, 20);
    let wait = query::wait("after=2").unwrap();
    let mut subscription = api.subscribe(&wait.start);
    assert_eq!(subscription.hello.reason, HelloReason::Evicted);
    assert_eq!(subscription.evicted, 10);
    fill_to(&api, 40);
    assert!(matches!(
        subscription.reader.try_next(),
        Some(Item::Lost(_))
    ));
    assert_eq!(subscription.reader.ledger().lost, 20);
}
