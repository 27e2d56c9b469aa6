//! The reports of the script in the page. The e2e tests run the script itself.

use serde_json::{Value, json};
use tapline_cdp::Options;
use tapline_oapi::{Category, CategorySet};

use crate::browser::Browser;

fn tab() -> Browser {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.events();
    browser.commands();
    browser
}

fn does(browser: &mut Browser, what: &Value) {
    let call = json!({"name": "__tapline", "payload": what.to_string(), "executionContextId": 2});
    browser.reports(Some("S"), "Runtime.bindingCalled", call);
}

fn emitted(what: &Value, name: &str) -> Value {
    let mut browser = tab();
    does(&mut browser, what);
    let mut emitted = browser.data(name).remove(0);
    for field in ["session_id", "target_id", "target_type", "nav_seq", "url"] {
        assert!(
            emitted.as_object_mut().unwrap().remove(field).is_some(),
            "{field}"
        );
    }
    emitted
}

#[test]
fn each_kind_has_its_fields() {
    assert_eq!(
        emitted(
            &json!({"kind": "click", "x": 1.5, "y": 2, "selector": "#pay", "tag": "button", "text": "Pay"}),
            "interaction_click",
        ),
        json!({"x": 2, "y": 2, "selector": "#pay", "tag": "button", "text": "Pay"})
    );
    assert_eq!(
        emitted(
            &json!({"kind": "click", "x": 1, "y": 2, "selector": "input", "tag": "input"}),
            "interaction_click"
        ),
        json!({"x": 1, "y": 2, "selector": "input", "tag": "input"})
    );
    assert_eq!(
        emitted(
            &json!({"kind": "key", "key": "Enter", "selector": "#q", "tag": "input"}),
            "interaction_key"
        ),
        json!({"key": "Enter", "selector": "#q", "tag": "input"})
    );
    assert_eq!(
        emitted(
            &json!({"kind": "scroll", "from_x": 0, "from_y": 10, "x": 0, "y": 800, "selector": "document"}),
            "interaction_scroll_settled",
        ),
        json!({"from_x": 0, "from_y": 10, "to_x": 0, "to_y": 800, "target_selector": "document"})
    );
}

#[test]
fn the_rate_of_interactions_is_limited() {
    let mut browser = tab();
    browser.tab("S2", "T2");
    browser.events();
    let click = json!({"kind": "click", "selector": "a", "tag": "a"});
    for _ in 0..1000 {
        does(&mut browser, &click);
    }
    assert_eq!(browser.data("interaction_click").len(), 50);
    // In another second, and in another tab.
    browser.at(1000);
    does(&mut browser, &click);
    assert_eq!(browser.data("interaction_click").len(), 1);
}

#[test]
fn calls_that_are_not_from_the_script_are_ignored() {
    let mut browser = tab();
    let call = |browser: &mut Browser, name: &str, payload: &str| {
        let call = json!({"name": name, "payload": payload, "executionContextId": 2});
        browser.reports(Some("S"), "Runtime.bindingCalled", call);
    };
    call(&mut browser, "puppeteer", r#"{"kind":"click"}"#);
    call(&mut browser, "__tapline", r#"{"kind":"drag"}"#);
    assert_eq!(browser.core.unreadable(), 0);
    call(&mut browser, "__tapline", "no JSON");
    call(&mut browser, "__tapline", r#"{"kind":"click","x":"left"}"#);
    assert_eq!(browser.core.unreadable(), 2);
    assert!(browser.events().is_empty());
}

#[test]
fn long_texts_are_cut() {
    let long = "é".repeat(1000);
    let emitted = emitted(
        &json!({"kind": "click", "selector": long, "tag": long, "text": long}),
        "interaction_click",
    );
    for field in ["selector", "tag", "text"] {
        assert_eq!(emitted[field].as_str().unwrap().len(), 512, "{field}");
    }
}

#[test]
fn the_script_runs_where_the_page_cannot_see_it() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    let commands = browser.commands();
    let params = |method: &str| -> Value {
        let command = commands
            .iter()
            .find(|command| command.method == method)
            .unwrap();
        serde_json::from_str(command.params.get()).unwrap()
    };
    let binding = params("Runtime.addBinding");
    assert_eq!(
        binding,
        json!({"name": "__tapline", "executionContextName": "tapline"})
    );
    let script = params("Page.addScriptToEvaluateOnNewDocument");
    assert_eq!(
        (&script["worldName"], &script["runImmediately"]),
        (&json!("tapline"), &json!(true))
    );
    let source = script["source"].as_str().unwrap();
    assert!(source.contains("event.isTrusted"), "only what a user does");
    let reads_value = source.replace(".values()", "").contains(".value");
    assert!(!reads_value, "never what stands in a field");
}

/// The browser creates our world again with each document, and reports it once. If that happened while no
/// interactions were captured, the script that ran in it later was not stopped.
#[test]
fn the_script_is_also_stopped_in_a_world_that_was_reported_before_it_ran() {
    let console = CategorySet::of(&[Category::Console]);
    let mut browser = Browser::new(Options {
        captured: console,
        ..Options::default()
    });
    browser.tab("S", "T");
    let world = json!({"context": {"id": 7, "name": "tapline"}});
    browser.reports(Some("S"), "Runtime.executionContextCreated", world);
    browser.commands();
    for _ in 0..2 {
        let now = browser.now;
        let interaction = console.with(Category::Interaction);
        browser.core.reconfigure(now, interaction);
        browser.settle();
        browser.commands();
        browser.core.reconfigure(now, console);
        browser.settle();
        let commands = browser.commands();
        let stopped = commands.iter().find(|it| it.method == "Runtime.evaluate");
        let params: Value = serde_json::from_str(stopped.unwrap().params.get()).unwrap();
        assert_eq!(params["contextId"], 7);
    }
}
