//! Configurations: the bodies of `PUT /telemetry` and `PATCH /telemetry`, one after the other.
//!
//! Each line of the input is a call: `PUT` or `PATCH`, a space and a body, or `STOP`.

use serde_json::Value;
use tapline_api::{ApiError, ApiService, PutAnswer};
use tapline_oapi::{Category, CategorySet, ConfigRequest, ErrorBody, Event, State, from_json};

/// After every call the session captures what a simple model of the rules says.
pub fn config(input: &[u8]) {
    let api = crate::service(1, u64::MAX);
    // The categories that were named as captured; `None` without a session.
    let mut model: Option<CategorySet> = None;
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let (call, body) = match line.iter().position(|byte| *byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &b"{}"[..]),
        };
        if call == b"STOP" {
            let _ = crate::ready(api.delete());
            model = None;
        }
        let request: ConfigRequest = match from_json(body) {
            Ok(request) => request,
            Err(error) => {
                crate::check_answer(&ErrorBody::from(&ApiError::from(error)));
                continue;
            }
        };
        let named = named(body);
        match call {
            b"PUT" => put(&api, &request, named, &mut model),
            b"PATCH" => patch(&api, &request, named, &mut model),
            _ => {}
        }
        check_state(&api, model);
    }
}

/// What an accepted body says about each category: parsed as plain JSON, and looked up by name.
fn named(body: &[u8]) -> Option<Vec<(Category, bool)>> {
    let body: Value =
        serde_json::from_slice(crate::without_mark(body)).expect("it was accepted as JSON");
    let browser = body.get("browser")?.as_object()?.clone();
    let said = browser.into_iter().filter_map(|(name, said)| {
        let category = name.parse().expect("an unknown field is refused");
        Some((category, said.get("enabled")?.as_bool()?))
    });
    Some(said.collect())
}

fn put(
    api: &ApiService,
    request: &ConfigRequest,
    named: Option<Vec<(Category, bool)>>,
    model: &mut Option<CategorySet>,
) {
    let wanted = named.map_or(CategorySet::USER_FACING, |named| {
        let on = named.into_iter().filter(|(_, enabled)| *enabled);
        on.map(|(category, _)| category).collect()
    });
    let before = *model;
    *model = Some(wanted).filter(|wanted| !wanted.is_empty());
    match (
        crate::ready(api.put(request)).expect("no source has to start"),
        before,
    ) {
        (PutAnswer::Started(_), None) | (PutAnswer::Replaced(_), Some(_)) => {
            assert!(model.is_some());
        }
        (PutAnswer::Cleared(_), _) => assert!(model.is_none()),
        (answer, _) => panic!("{answer:?} where {before:?} was captured"),
    }
}

fn patch(
    api: &ApiService,
    request: &ConfigRequest,
    named: Option<Vec<(Category, bool)>>,
    model: &mut Option<CategorySet>,
) {
    let Some(before) = *model else {
        assert!(matches!(
            crate::ready(api.patch(request)),
            Err(ApiError::NotConfigured)
        ));
        return;
    };
    crate::ready(api.patch(request)).expect("a session is running");
    let after =
        named
            .into_iter()
            .flatten()
            .fold(before, |set, (category, enabled)| match enabled {
                true => set.with(category),
                false => set.without(category),
            });
    *model = Some(after).filter(|after| !after.is_empty());
}

/// The state matches the model, can be read again, and matches what is captured.
fn check_state(api: &ApiService, model: Option<CategorySet>) {
    let Some(wanted) = model else {
        assert!(matches!(api.state(), Err(ApiError::NotConfigured)));
        for category in Category::ALL {
            assert!(!is_captured(api, category));
        }
        return;
    };
    let state = api.state().expect("a session is running");
    let json = serde_json::to_vec(&state).expect("our own types serialize");
    let read: State = serde_json::from_slice(&json).expect("and are read again");
    assert_eq!(read, state);
    let captured = wanted.union(CategorySet::ALWAYS);
    for category in Category::ALL {
        assert_eq!(is_captured(api, category), captured.contains(category));
    }
    assert_eq!(
        state.config.browser.enabled(),
        wanted.intersection(CategorySet::USER_FACING)
    );
    // The configuration of a state, sent as a request, enables the same categories.
    let again: ConfigRequest = serde_json::from_value(serde_json::json!({
        "browser": state.config.browser,
    }))
    .expect("a state's configuration is a request");
    assert_eq!(
        again.browser.expect("it was given").enabled(),
        state.config.browser.enabled()
    );
}

fn is_captured(api: &ApiService, category: Category) -> bool {
    let event = Event::custom("mine", category, None).expect("the name is not empty");
    api.publisher().publish(event).is_ok()
}
