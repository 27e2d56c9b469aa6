//! Waiting for one event, in the past or to come.

use std::task::{Context, Waker};

use tapline_api::{Backend as _, Subscription};
use tapline_oapi::HelloReason;

use crate::{Next, block_on, code_and_message, fill_to, next, publish, query, running};

#[test]
fn what_was_published_before_is_found() {
    let api = running(64);
    fill_to(&api, 3);
    let page = publish(&api, r#"{"type":"page_load"}"#).unwrap();
    fill_to(&api, 8);
    for asked in [
        "type=page_*",
        "type=page_load&after=2",
        "category=page&after=0",
    ] {
        let wait = query::wait(asked).unwrap();
        let mut opened = block_on(api.subscribe(&wait.start));
        let Some(Next::Envelope(found)) = next(&mut opened.subscription) else {
            panic!("{asked}: it is there")
        };
        assert_eq!(found, page.seq());
    }
    let after = query::wait("type=page_load&after=4").unwrap();
    let mut wait = block_on(api.subscribe(&after.start)).subscription;
    let mut cx = Context::from_waker(Waker::noop());
    assert!(next(&mut wait).is_none(), "and once only");
    assert!(wait.poll_news(&mut cx).is_pending());
    publish(&api, r#"{"type":"page_load"}"#).unwrap();
    assert!(wait.poll_news(&mut cx).is_ready(), "a later event is, too");
    assert!(next(&mut wait).is_some());
}

/// What a waiter acts on is never older than its cursor.
#[test]
fn a_cursor_that_is_no_position_is_an_error() {
    let api = running(64);
    fill_to(&api, 2);
    let epoch = api.epoch();
    let refused = |asked: &str| {
        let wait = query::wait(asked).unwrap();
        code_and_message(
            &block_on(api.subscribe(&wait.start))
                .at_cursor()
                .unwrap_err(),
        )
    };
    for cursor in [
        "99".to_owned(),
        "1-ffffffffffffffff".to_owned(),
        format!("3-{epoch}"),
    ] {
        let (code, message) = refused(&format!("after={cursor}"));
        assert_eq!(code, "conflict", "{cursor}");
        let there = format!("`after=2-{epoch}`");
        assert!(
            message.contains(&cursor) && message.contains(&there),
            "{message}"
        );
    }
    for cursor in ["abc", "", "-1", "1-", "1-x"] {
        let error = query::wait(&format!("after={cursor}")).unwrap_err();
        assert_eq!(error.name, "after", "{cursor}");
    }
    for asked in ["", "after=0", "after=2", &format!("after=1-{epoch}")] {
        let wait = query::wait(asked).unwrap();
        assert!(
            block_on(api.subscribe(&wait.start)).at_cursor().is_ok(),
            "{asked}"
        );
    }
}

#[test]
fn without_a_cursor_it_begins_at_the_sessions_start() {
    let api = running(64);
    fill_to(&api, 3);
    let _ = crate::ready(api.delete());
    crate::ready(api.put(&Default::default())).unwrap();
    let opened = block_on(api.subscribe(&query::wait("").unwrap().start));
    assert_eq!(opened.hello.used, 3);
}

#[test]
fn what_is_lost_on_the_way_is_known() {
    let api = running(8);
    fill_to(&api, 20);
    let wait = query::wait("after=2").unwrap();
    let mut opened = block_on(api.subscribe(&wait.start));
    assert_eq!(opened.hello.reason, HelloReason::Evicted);
    assert_eq!(opened.subscription.ledger().lost, 10);
    fill_to(&api, 40);
    assert!(matches!(
        next(&mut opened.subscription),
        Some(Next::Lost(_))
    ));
    assert_eq!(opened.subscription.ledger().lost, 30);
}
