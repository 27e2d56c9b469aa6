//! Notices, each written and read again.

use std::collections::BTreeMap;

use tapline_oapi::{
    Beat, Bye, ByeReason, Category, CategorySet, Epoch, FilterNotice, Gap, Hello, HelloReason,
    Notice, SessionNotice, State, StateConfig,
};

#[track_caller]
fn check(notice: &Notice, name: &str, json: &str) {
    assert_eq!(notice.name(), name);
    assert_eq!(serde_json::to_string(notice).unwrap(), json);
    assert_eq!(Notice::parse(name, json).unwrap().as_ref(), Some(notice));
}

#[test]
fn each_notice_is_read_as_it_was_written() {
    let hello = Hello {
        asked: None,
        used: 4,
        oldest: 5,
        head: 9,
        epoch: Epoch::from_bits(14),
        lost: Some(0),
        reason: HelloReason::Fresh,
        reader: String::new(),
    };
    check(
        &Notice::Hello(hello.clone()),
        "hello",
        r#"{"used":4,"oldest":5,"head":9,"epoch":"000000000000000e","lost":0,"reason":"fresh"}"#,
    );
    check(
        &Notice::Hello(Hello {
            asked: Some("1-d".to_owned()),
            reason: HelloReason::OtherEpoch,
            reader: "r2".to_owned(),
            ..hello
        }),
        "hello",
        r#"{"asked":"1-d","used":4,"oldest":5,"head":9,"epoch":"000000000000000e","lost":0,"reason":"other_epoch","reader":"r2"}"#,
    );
    check(
        &Notice::Gap(Gap {
            count: 10,
            matching: Some(3),
            from: 1,
            to: 10,
            by_category: BTreeMap::from([(Category::Page, 2), (Category::Console, 1)]),
        }),
        "gap",
        r#"{"count":10,"matching":3,"from":1,"to":10,"by_category":{"console":1,"page":2}}"#,
    );
    check(
        &Notice::Session(SessionNotice {
            state: State {
                config: StateConfig::default(),
                seq: 9,
                applied_at: None,
                session_id: None,
                session_start_seq: None,
                epoch: Epoch::from_bits(14),
            },
            after: 8,
        }),
        "session",
        r#"{"config":{"browser":{}},"seq":9,"epoch":"000000000000000e","after":8}"#,
    );
    check(
        &Notice::Beat(Beat {
            head: 9,
            position: 7,
            lag: 2,
            lost: 1,
        }),
        "beat",
        r#"{"head":9,"position":7,"lag":2,"lost":1}"#,
    );
    check(
        &Notice::Filter(FilterNotice {
            category: Some(CategorySet::of(&[Category::Page])),
            r#type: vec!["page_*".to_owned()],
            after: 9,
        }),
        "filter",
        r#"{"category":["page"],"type":["page_*"],"after":9}"#,
    );
    check(
        &Notice::Filter(FilterNotice {
            category: None,
            r#type: vec![],
            after: 0,
        }),
        "filter",
        r#"{"after":0}"#,
    );
    for (reason, name) in [
        (ByeReason::Shutdown, "shutdown"),
        (ByeReason::Failed, "failed"),
        (ByeReason::Expired, "expired"),
        (ByeReason::Overtaken, "overtaken"),
        (ByeReason::Complete, "complete"),
        (ByeReason::Stalled, "stalled"),
    ] {
        check(
            &Notice::Bye(Bye {
                reason,
                last_seq: 7,
            }),
            "bye",
            &format!(r#"{{"reason":"{name}","last_seq":7}}"#),
        );
    }
}

#[test]
fn unknown_notices_and_fields_of_a_newer_server_are_no_error() {
    assert_eq!(Notice::parse("weather", "not even JSON").unwrap(), None);
    assert_eq!(
        Notice::parse("bye", r#"{"reason":"moved","last_seq":7,"to":"elsewhere"}"#).unwrap(),
        Some(Notice::Bye(Bye {
            reason: ByeReason::Other,
            last_seq: 7
        })),
    );
    assert!(Notice::parse("bye", "{}").is_err());
}
