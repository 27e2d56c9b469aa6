//! Where a live stream begins.

use tapline_api::{ApiService, Backend as _, Subscription as _};
use tapline_oapi::{ConfigRequest, HelloReason};

use crate::{Next, block_on, fill_to, idle, next, publish, query, running};

/// Why it begins there, after which seq, how many are lost, and the seqs that come.
#[track_caller]
fn check(
    api: &ApiService,
    asked: &str,
    reason: HelloReason,
    used: u64,
    lost: impl Into<Option<u64>>,
    seqs: impl IntoIterator<Item = u64>,
) {
    let mut opened = block_on(api.subscribe(&query::stream(asked).unwrap()));
    let hello = &opened.hello;
    assert_eq!(
        (hello.reason, hello.used, hello.lost),
        (reason, used, lost.into()),
        "{asked}"
    );
    let after = asked
        .split('&')
        .find_map(|pair| pair.strip_prefix("after="));
    assert_eq!(hello.asked.as_deref(), after, "{asked}");
    let retained = api.retained();
    assert_eq!(
        (hello.oldest, hello.head),
        (retained.oldest, retained.head),
        "{asked}"
    );
    assert_eq!(hello.epoch, api.epoch());

    let mut got = Vec::new();
    while let Some(item) = next(&mut opened.subscription) {
        match item {
            Next::Envelope(seq) => got.push(seq),
            other => panic!("{asked}: the hello should have reported {other:?}"),
        }
    }
    assert_eq!(got, seqs.into_iter().collect::<Vec<_>>(), "{asked}");
}

#[test]
fn an_empty_stream_waits_for_its_first_event() {
    let api = idle();
    for asked in ["", "replay=all", "replay=live"] {
        check(&api, asked, HelloReason::Fresh, 0, 0, []);
    }
    check(&api, "after=0", HelloReason::Resumed, 0, 0, []);
    check(&api, "after=1", HelloReason::Ahead, 0, None, []);
}

#[test]
fn without_a_cursor_the_session_or_replay_decides() {
    let api = running(64);
    fill_to(&api, 5);
    check(&api, "", HelloReason::Fresh, 0, 0, 1..=5);
    let _ = crate::ready(api.delete());
    check(&api, "", HelloReason::Fresh, 5, 0, []);
    crate::ready(api.put(&ConfigRequest::default())).unwrap();
    fill_to(&api, 8);
    check(&api, "", HelloReason::Fresh, 5, 0, 6..=8);
    check(&api, "replay=all", HelloReason::Fresh, 0, 0, 1..=8);
    check(&api, "replay=live", HelloReason::Fresh, 8, 0, []);
}

#[test]
fn a_session_whose_start_is_evicted_begins_at_the_oldest() {
    let api = running(8);
    fill_to(&api, 3);
    let _ = crate::ready(api.delete());
    crate::ready(api.put(&ConfigRequest::default())).unwrap();
    fill_to(&api, 20);
    check(&api, "", HelloReason::Evicted, 12, 9, 13..=20);
    check(&api, "replay=all", HelloReason::Fresh, 12, 0, 13..=20);
}

#[test]
fn a_cursor_is_resumed_from() {
    let api = running(8);
    fill_to(&api, 20);
    let epoch = api.epoch();
    check(&api, "after=15", HelloReason::Resumed, 15, 0, 16..=20);
    check(
        &api,
        &format!("after=15-{epoch}"),
        HelloReason::Resumed,
        15,
        0,
        16..=20,
    );
    check(&api, "after=20", HelloReason::Resumed, 20, 0, []);
    check(&api, "after=12", HelloReason::Resumed, 12, 0, 13..=20);
    // 0 asks for what there is: nothing of it can be lost.
    check(&api, "after=0", HelloReason::Resumed, 12, 0, 13..=20);
    // A cursor wins over `replay`.
    check(
        &api,
        "replay=live&after=18",
        HelloReason::Resumed,
        18,
        0,
        19..=20,
    );
    check(
        &api,
        "after=18&replay=all",
        HelloReason::Resumed,
        18,
        0,
        19..=20,
    );
}

#[test]
fn a_cursor_that_is_no_good_begins_at_the_oldest() {
    let api = running(8);
    fill_to(&api, 20);
    let epoch = api.epoch();
    let other = "0000000000000000";
    check(&api, "after=11", HelloReason::Evicted, 12, 1, 13..=20);
    check(
        &api,
        &format!("after=1-{epoch}"),
        HelloReason::Evicted,
        12,
        11,
        13..=20,
    );
    for (asked, reason) in [
        ("21".to_owned(), HelloReason::Ahead),
        (format!("21-{epoch}"), HelloReason::Ahead),
        (u64::MAX.to_string(), HelloReason::Ahead),
        (format!("{}-{epoch}", u64::MAX), HelloReason::Ahead),
        (format!("15-{other}"), HelloReason::OtherEpoch),
        (format!("99-{other}"), HelloReason::OtherEpoch),
        (format!("0-{other}"), HelloReason::OtherEpoch),
        (String::new(), HelloReason::Invalid),
        ("x".to_owned(), HelloReason::Invalid),
        ("-1".to_owned(), HelloReason::Invalid),
        ("+15".to_owned(), HelloReason::Invalid),
        (" 15".to_owned(), HelloReason::Invalid),
        ("15-".to_owned(), HelloReason::Invalid),
        ("15-c0ffee".to_owned(), HelloReason::Invalid),
        (format!("15-{epoch}0"), HelloReason::Invalid),
        ("18446744073709551616".to_owned(), HelloReason::Invalid),
        ("١٥".to_owned(), HelloReason::Invalid),
    ] {
        check(&api, &format!("after={asked}"), reason, 12, None, 13..=20);
    }
}

#[test]
fn a_filter_holds_from_the_first_event_on() {
    let api = running(64);
    for n in 1..=6 {
        let name = if n % 2 == 0 {
            "page_load"
        } else {
            "console_log"
        };
        publish(&api, &format!(r#"{{"type":"{name}"}}"#)).unwrap();
    }
    check(&api, "category=page", HelloReason::Fresh, 0, 0, [2, 4, 6]);
    check(
        &api,
        "type=console_*&after=2",
        HelloReason::Resumed,
        2,
        0,
        [3, 5],
    );
    check(
        &api,
        "type=console_*&category=page",
        HelloReason::Fresh,
        0,
        0,
        [],
    );
}

#[test]
fn a_session_that_began_at_0_and_a_cursor_at_0_have_a_beginning_that_can_be_lost() {
    let api = running(8);
    let epoch = api.epoch();
    fill_to(&api, 20);
    check(&api, "", HelloReason::Evicted, 12, 12, 13..=20);
    let cursor = format!("after=0-{epoch}");
    check(&api, &cursor, HelloReason::Evicted, 12, 12, 13..=20);
    // Without an epoch it asks for whatever there is.
    check(&api, "after=0", HelloReason::Resumed, 12, 0, 13..=20);
}

#[test]
fn under_a_filter_what_is_gone_is_not_claimed_to_be_lost() {
    let api = running(8);
    fill_to(&api, 20);
    for (filter, lost, most) in [
        ("", Some(7), 7),
        ("category=console", Some(7), 7),
        // Of the seven up to twelve may have matched, so all may have.
        ("type=console_*", None, 7),
        // There never was one.
        ("category=network", Some(0), 0),
        ("type=network_idle", Some(0), 0),
    ] {
        let asked = format!("after=5&{filter}");
        let opened = block_on(api.subscribe(&query::stream(&asked).unwrap()));
        let hello = opened.hello;
        assert_eq!(
            (hello.reason, hello.lost),
            (HelloReason::Evicted, lost),
            "{filter}"
        );
        // The reader's account has it, too, and closes.
        let ledger = opened.subscription.ledger();
        assert_eq!((ledger.start, ledger.lost), (5, most), "{filter}");
        assert_eq!((ledger.position(), hello.used), (12, 12), "{filter}");
        // Nothing is gone: that is known, whatever is asked for.
        let asked = format!("after=15&{filter}");
        let hello = block_on(api.subscribe(&query::stream(&asked).unwrap())).hello;
        assert_eq!((hello.reason, hello.lost), (HelloReason::Resumed, Some(0)));
    }
}

/// The category log has what the ring does not any more.
#[test]
fn under_a_filter_by_category_a_loss_is_exact() {
    let api = running(8);
    for n in 0..20 {
        let name = ["page_load", "console_log"][n % 2];
        publish(&api, &format!(r#"{{"type":"{name}"}}"#)).unwrap();
    }
    let epoch = api.epoch();
    for (asked, lost, most) in [
        (format!("category=page&after=0-{epoch}"), Some(6), 6),
        ("category=page".to_owned(), Some(6), 6),
        (format!("type=page_load&after=0-{epoch}"), None, 6),
        ("category=page&after=3".to_owned(), Some(4), 4),
        ("category=page&after=9".to_owned(), Some(1), 1),
    ] {
        let opened = block_on(api.subscribe(&query::stream(&asked).unwrap()));
        assert_eq!(opened.hello.lost, lost, "{asked}");
        assert_eq!(opened.subscription.ledger().lost, most, "{asked}");
    }
}

/// Polyfills of `EventSource` add `lastEventId` to the address when they reconnect.
#[test]
fn last_event_id_in_the_query_wins_over_the_rest_of_it() {
    let api = running(8);
    fill_to(&api, 20);
    let asked = |text: &str| block_on(api.subscribe(&query::stream(text).unwrap())).hello;
    for text in [
        "lastEventId=15",
        "replay=live&lastEventId=15",
        "replay=all&lastEventId=15",
        "after=13&lastEventId=15",
        "lastEventId=15&after=13",
        // One that has added it before adds another one.
        "lastEventId=13&lastEventId=15",
    ] {
        let hello = asked(text);
        assert_eq!(
            (hello.used, hello.reason, hello.asked.as_deref()),
            (15, HelloReason::Resumed, Some("15")),
            "{text}"
        );
    }
    // Without an id so far, it may be empty.
    for (text, used) in [
        ("replay=live&lastEventId=", 20),
        ("after=15&lastEventId=", 15),
    ] {
        assert_eq!(asked(text).used, used, "{text}");
    }
    let hello = asked("replay=live&lastEventId=what");
    assert_eq!(hello.reason, HelloReason::Invalid);
}

/// The reader reports what is evicted after the hello, and the two add up.
#[test]
fn hello_and_reader_report_each_loss_once() {
    let api = running(8);
    fill_to(&api, 20);
    let mut opened = block_on(api.subscribe(&query::stream("after=5").unwrap()));
    assert_eq!((opened.hello.lost.unwrap(), opened.hello.used), (7, 12));
    fill_to(&api, 30);
    let Some(Next::Lost(lost)) = next(&mut opened.subscription) else {
        panic!("a loss comes first");
    };
    assert_eq!((lost.first, lost.last, lost.matching), (13, 22, Some(10)));
}

#[test]
fn a_lagging_stream_resumes_where_its_query_says() {
    for (asked, last) in [
        ("", 12),
        ("overtaken=oldest", 12),
        ("overtaken=close", 12),
        ("overtaken=head", 20),
    ] {
        let api = running(8);
        let mut subscription = block_on(api.subscribe(&query::stream(asked).unwrap())).subscription;
        fill_to(&api, 20);
        let Some(Next::Lost(lost)) = next(&mut subscription) else {
            panic!("the reader lagged")
        };
        assert_eq!((lost.first, lost.last), (1, last), "{asked}");
    }
}
