//! What a configuration request means for the session.

use std::sync::Arc;
use tapline_api::{ApiService, PutAnswer};
use tapline_oapi::{Category, CategorySet, ConfigRequest, State};

use crate::{code_and_message, idle, publish, request, running, session};

/// One word for what `put` did, and the state that it answered with.
fn put(api: &ApiService, json: &str) -> (&'static str, State) {
    match crate::ready(api.put(&request(json))).unwrap() {
        PutAnswer::Started(state) => ("started", state),
        PutAnswer::Replaced(state) => ("replaced", state),
        PutAnswer::Cleared(state) => ("cleared", state),
    }
}

/// The user-facing categories that a state says are captured.
fn captured(state: &State) -> CategorySet {
    let named: CategorySet = state
        .config
        .browser
        .explicit()
        .map(|(category, _)| category)
        .collect();
    assert_eq!(
        named,
        CategorySet::USER_FACING,
        "a state says something about each of them, and about no other"
    );
    state.config.browser.enabled()
}

const TWO: &str = r#"{"browser":{"console":{"enabled":true},"network":{"enabled":true}}}"#;
const NOTHING: &str = r#"{"browser":{"console":{"enabled":false}}}"#;

/// With nothing configured, and with a session that captures all.
#[test]
fn put_captures_what_is_asked_for() {
    use Category::{Console, Network, Page};

    #[track_caller]
    fn check(json: &str, expected: Option<CategorySet>) {
        for (api, was) in [(idle(), false), (running(64), true)] {
            let (word, state) = put(&api, json);
            match expected {
                None => {
                    assert_eq!(word, "cleared", "{json}");
                    assert!(captured(&state).is_empty(), "{json}");
                    let session = (state.session_id, state.session_start_seq, state.applied_at);
                    assert_eq!(session, (None, None, None), "{json}");
                    assert!(api.state().is_err(), "{json}");
                }
                Some(expected) => {
                    assert_eq!(word, if was { "replaced" } else { "started" }, "{json}");
                    assert_eq!(
                        captured(&state),
                        expected.intersection(CategorySet::USER_FACING),
                        "{json}"
                    );
                    assert_eq!(api.state().unwrap(), state, "{json}");
                    // The session captures what the answer says.
                    assert_eq!(
                        api.publisher().captured(),
                        expected.union(CategorySet::ALWAYS),
                        "{json}"
                    );
                }
            }
        }
    }

    let of = |categories: &[Category]| Some(CategorySet::of(categories));
    check("{}", Some(CategorySet::USER_FACING));
    check(r#"{"browser":null}"#, Some(CategorySet::USER_FACING));
    check(TWO, of(&[Console, Network]));
    check(
        r#"{"browser":{"page":{"enabled":true},"network":{"enabled":false},"console":{}}}"#,
        of(&[Page]),
    );
    // These two may be named, and are always on.
    check(
        r#"{"browser":{"page":{"enabled":true},"system":{"enabled":false},"monitor":{"enabled":false}}}"#,
        of(&[Page]),
    );
    check(
        r#"{"browser":{"system":{"enabled":true}}}"#,
        of(&[Category::System]),
    );
    check(r#"{"browser":{}}"#, None);
    check(
        r#"{"browser":{"page":{},"console":null,"network":{"enabled":null}}}"#,
        None,
    );
    check(NOTHING, None);
    check(r#"{"browser":{"system":{"enabled":false}}}"#, None);
}

#[test]
fn a_put_that_replaces_keeps_the_session() {
    let api = running(64);
    publish(&api, r#"{"type":"console_log"}"#).unwrap();
    let before = api.state().unwrap();
    let (word, after) = put(&api, TWO);
    assert_eq!(word, "replaced");
    assert_eq!(after.session_id, before.session_id);
    assert_eq!(after.session_start_seq, Some(0));
    assert_eq!(after.seq, 1);
    assert!(before.applied_at <= after.applied_at);
    assert!(publish(&api, r#"{"type":"page_load"}"#).is_none());
    assert!(publish(&api, r#"{"type":"system_oom_kill"}"#).is_some());
    assert!(publish(&api, r#"{"type":"monitor_reconnected"}"#).is_some());
}

#[test]
fn a_put_after_clearing_starts_another_session() {
    let api = running(64);
    let first = api.state().unwrap();
    publish(&api, r#"{"type":"console_log"}"#).unwrap();
    let (word, cleared) = put(&api, NOTHING);
    assert_eq!(word, "cleared");
    assert_eq!((cleared.seq, &cleared.epoch), (1, &first.epoch));
    assert_eq!(
        code_and_message(&api.state().unwrap_err()).0,
        "not_configured"
    );
    assert!(publish(&api, r#"{"type":"system_oom_kill"}"#).is_none());

    let (word, second) = put(&api, "{}");
    assert_eq!(word, "started");
    assert_ne!(second.session_id, first.session_id);
    assert_eq!(second.session_start_seq, Some(1), "seqs continue");
    assert_eq!(second.epoch, first.epoch);
}

#[test]
fn clearing_what_is_clear_is_no_error() {
    let api = idle();
    assert_eq!(put(&api, NOTHING).0, "cleared");
    let _ = crate::ready(api.delete());
    assert_eq!(put(&api, "{}").0, "started");
    let _ = crate::ready(api.delete());
    let _ = crate::ready(api.delete());
    assert!(api.state().is_err());
    assert_eq!(put(&api, "{}").0, "started");
}

#[test]
fn session_ids_are_not_empty_and_never_the_same() {
    let api = idle();
    let ids: std::collections::BTreeSet<_> = (0..50)
        .map(|_| {
            let id = put(&api, "{}").1.session_id.unwrap();
            assert_eq!(id.len(), 32, "{id}");
            let _ = crate::ready(api.delete());
            id
        })
        .collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn state_describes_one_moment() {
    let session = Arc::new(session(4));
    let api = ApiService::new(session.clone());
    put(&api, "{}");
    let state = api.state().unwrap();
    assert_eq!(state.session_id, session.id());
    assert_eq!(
        state.applied_at,
        session.applied_at().map(|at| at.try_into().unwrap())
    );
    assert_eq!(state.epoch, session.stream().epoch());
    crate::fill_to(&api, 10);
    assert_eq!(api.state().unwrap().seq, 10);
    assert_eq!(api.state().unwrap().session_start_seq, Some(0));
}

#[test]
fn patch_changes_only_what_is_explicit() {
    use Category::{Console, Network, Page, Platform};

    #[track_caller]
    fn check(before: &str, change: &str, expected: Option<CategorySet>) {
        let api = idle();
        assert_eq!(put(&api, before).0, "started", "{before}");
        let id = api.state().unwrap().session_id;
        let state = crate::ready(api.patch(&request(change))).unwrap();
        match expected {
            None => {
                assert_eq!(
                    (state.session_id, state.applied_at),
                    (None, None),
                    "{change}"
                );
                assert!(api.state().is_err(), "{change}");
                assert_eq!(put(&api, "{}").0, "started", "{change}");
                assert_ne!(api.state().unwrap().session_id, id, "{change}");
            }
            Some(expected) => {
                assert_eq!(state.session_id, id, "{change}");
                assert_eq!(captured(&state), expected, "{change}");
                assert_eq!(
                    api.publisher().captured(),
                    expected.union(CategorySet::ALWAYS),
                    "{change}"
                );
            }
        }
    }

    let all = CategorySet::USER_FACING;
    let two = CategorySet::of(&[Console, Network]);
    check(
        "{}",
        r#"{"browser":{"page":{"enabled":false}}}"#,
        Some(all.without(Page)),
    );
    check(
        TWO,
        r#"{"browser":{"platform":{"enabled":true},"console":{"enabled":false},"page":{}}}"#,
        Some(CategorySet::of(&[Network, Platform])),
    );
    check(TWO, "{}", Some(two));
    check(TWO, r#"{"browser":{}}"#, Some(two));
    check(
        TWO,
        r#"{"browser":{"console":{},"network":null}}"#,
        Some(two),
    );
    check(
        TWO,
        r#"{"browser":{"system":{"enabled":false},"monitor":{"enabled":false}}}"#,
        Some(two),
    );
    check(
        TWO,
        r#"{"browser":{"console":{"enabled":false},"network":{"enabled":false}}}"#,
        None,
    );
    check(
        TWO,
        r#"{"browser":{"console":{"enabled":false},"network":{"enabled":false},"system":{"enabled":false}}}"#,
        None,
    );
}

/// It once ended the session, since of what it had only the user-facing part was looked at.
#[test]
fn a_patch_does_not_forget_that_system_was_asked_for() {
    let api = idle();
    assert_eq!(
        put(&api, r#"{"browser":{"system":{"enabled":true}}}"#).0,
        "started"
    );
    crate::ready(api.patch(&request(r#"{"browser":{"page":{"enabled":false}}}"#))).unwrap();
    assert!(api.state().is_ok());
    assert!(publish(&api, r#"{"type":"system_oom_kill"}"#).is_some());
    assert!(publish(&api, r#"{"type":"page_load"}"#).is_none());

    crate::ready(api.patch(&request(r#"{"browser":{"system":{"enabled":false}}}"#))).unwrap();
    assert!(api.state().is_err(), "nothing is left enabled");
}

#[test]
fn a_patch_that_changes_nothing_is_not_applied() {
    let api = running(64);
    let before = api.state().unwrap();
    for change in ["{}", r#"{"browser":{}}"#, r#"{"browser":{"page":{}}}"#] {
        assert_eq!(
            crate::ready(api.patch(&request(change))).unwrap(),
            before,
            "{change}"
        );
    }
}

#[test]
fn a_patch_without_a_session_changes_nothing() {
    let api = idle();
    for change in ["{}", TWO, NOTHING] {
        let (code, message) =
            code_and_message(&crate::ready(api.patch(&request(change))).unwrap_err());
        assert_eq!(code, "not_configured");
        assert!(message.contains("PUT /telemetry"), "{message}");
        assert!(api.state().is_err());
    }
}

/// Controllers take turns: whatever their order, exactly one of them starts.
#[test]
fn one_of_many_puts_starts() {
    let api = idle();
    let words: Vec<_> = std::thread::scope(|scope| {
        let puts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| crate::block_on(api.put(&ConfigRequest::default())).unwrap()))
            .collect();
        puts.into_iter().map(|put| put.join().unwrap()).collect()
    });
    let started = words
        .iter()
        .filter(|answer| matches!(answer, PutAnswer::Started(_)))
        .count();
    assert_eq!(started, 1);
    let id = api.state().unwrap().session_id;
    for answer in words {
        let (PutAnswer::Started(state) | PutAnswer::Replaced(state) | PutAnswer::Cleared(state)) =
            answer;
        assert_eq!(state.session_id, id);
    }
}
