//! What the script in the page tells. The script itself is tried by hand, see docs/cdp.md.

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
    browser.tells(Some("S"), "Runtime.bindingCalled", call);
}

fn told(what: &Value, name: &str) -> Value {
    let mut browser = tab();
    does(&mut browser, what);
    let mut told = browser.data(name).remove(0);
    for field in ["session_id", "target_id", "target_type", "nav_seq", "url"] {
        assert!(
            told.as_object_mut().unwrap().remove(field).is_some(),
            "{field}"
        );
    }
    told
}

#[test]
fn each_kind_is_told_with_what_is_promised() {
    assert_eq!(
        told(
            &json!({"kind": "click", "x": 1.5, "y": 2, "selector": "#pay", "tag": "button", "text": "Pay"}),
            "interaction_click",
        ),
        json!({"x": 1.5, "y": 2.0, "selector": "#pay", "tag": "button", "text": "Pay"})
    );
    assert_eq!(
        told(
            &json!({"kind": "click", "x": 1, "y": 2, "selector": "input", "tag": "input"}),
            "interaction_click"
        ),
        json!({"x": 1.0, "y": 2.0, "selector": "input", "tag": "input"})
    );
    assert_eq!(
        told(
            &json!({"kind": "key", "key": "Enter", "selector": "#q", "tag": "input"}),
            "interaction_key"
        ),
        json!({"key": "Enter", "selector": "#q", "tag": "input"})
    );
    assert_eq!(
        told(
            &json!({"kind": "scroll", "from_x": 0, "from_y": 10, "x": 0, "y": 800, "selector": "document"}),
            "interaction_scroll_settled",
        ),
        json!({"from_x": 0.0, "from_y": 10.0, "to_x": 0.0, "to_y": 800.0, "target_selector": "document"})
    );
}

#[test]
fn no_more_is_told_than_a_person_does() {
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
fn what_is_no_word_of_the_script_is_passed_over() {
    let mut browser = tab();
    let call = |browser: &mut Browser, name: &str, payload: &str| {
        let call = json!({"name": name, "payload": payload, "executionContextId": 2});
        browser.tells(Some("S"), "Runtime.bindingCalled", call);
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
fn what_is_long_is_cut() {
    let long = "é".repeat(1000);
    let told = told(
        &json!({"kind": "click", "selector": long, "tag": long, "text": long}),
        "interaction_click",
    );
    for field in ["selector", "tag", "text"] {
        assert_eq!(told[field].as_str().unwrap().len(), 512, "{field}");
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

/// The browser makes a world anew with each document once it was there, and says so once. Where that
/// was while no interactions were captured, the script that ran in it later was not stopped.
#[test]
fn the_script_is_stopped_also_in_a_world_that_was_told_of_before_it_ran() {
    let console = CategorySet::of(&[Category::Console]);
    let mut browser = Browser::new(Options {
        captured: console,
        ..Options::default()
    });
    browser.tab("S", "T");
    let world = json!({"context": {"id": 7, "name": "tapline"}});
    browser.tells(Some("S"), "Runtime.executionContextCreated", world);
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
