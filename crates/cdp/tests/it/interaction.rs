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

/// A tab `T`, in it a frame `F` in a process of its own, and in that a frame `G` of the same process. Clicks in `G`.
fn click_in_frames(browser: &mut Browser) {
    browser.attached(Some("S"), "S2", "F", "iframe", true);
    let context =
        json!({"id": 2, "name": "tapline", "uniqueId": "u.2", "auxData": {"frameId": "G"}});
    let created = json!({"context": context});
    browser.reports(Some("S2"), "Runtime.executionContextCreated", created);
    browser.commands();
    let click = json!({"kind": "click", "x": 10, "y": 20, "selector": "#pay", "tag": "button"});
    let call = json!({"name": "__tapline", "payload": click.to_string(), "executionContextId": 2});
    browser.reports(Some("S2"), "Runtime.bindingCalled", call);
}

/// An element whose content begins at this place, with a border of 2 pixels, scaled by this.
fn element(left: f64, top: f64, scale: f64) -> Value {
    let quad = |inset: f64| {
        let (left, top) = (left + inset * scale, top + inset * scale);
        let (right, bottom) = (
            left + (300.0 - 2.0 * inset) * scale,
            top + (200.0 - 2.0 * inset) * scale,
        );
        json!([left, top, right, top, right, bottom, left, bottom])
    };
    json!({"model": {"content": quad(2.0), "border": quad(0.0), "width": 300, "height": 200}})
}

#[test]
fn a_click_in_a_frame_gets_the_coordinates_of_the_tab() {
    // The second one is not scaled: the size of an element is rounded.
    for (scale, shown) in [(0.5, 0.5), (1.0005, 1.0)] {
        let (left, top) = (110.0, 60.0);
        // Out of two frames.
        let out = |at: f64, edge: f64| at * shown + edge + 2.0 * scale;
        let (x, y) = (out(out(10.0, left), left), out(out(20.0, top), top));
        let mut browser = tab();
        let owner = json!({"result": {"backendNodeId": 7, "nodeId": 0}});
        browser.answers("DOM.getFrameOwner", owner);
        let found = json!({"result": element(left, top, scale)});
        browser.answers("DOM.getBoxModel", found);
        click_in_frames(&mut browser);
        let asked: Vec<_> = browser
            .commands()
            .iter()
            .map(|it| {
                format!(
                    "{} {} {}",
                    it.session.as_deref().unwrap(),
                    it.method,
                    it.params
                )
            })
            .collect();
        assert_eq!(
            asked,
            [
                r#"S2 DOM.getFrameOwner {"frameId":"G"}"#,
                r#"S2 DOM.getBoxModel {"backendNodeId":7}"#,
                r#"S DOM.getFrameOwner {"frameId":"F"}"#,
                r#"S DOM.getBoxModel {"backendNodeId":7}"#,
            ]
        );
        let emitted = browser.data("interaction_click").remove(0);
        let at = |name: &str| emitted[name].as_f64().unwrap();
        // In whole pixels.
        assert!(
            (at("x") - x).abs() <= 0.5 && (at("y") - y).abs() <= 0.5,
            "{emitted}, {x},{y}"
        );
        assert_eq!(
            (
                &emitted["frame_id"],
                &emitted["target_id"],
                emitted.get("in_frame")
            ),
            (&json!("G"), &json!("F"), None)
        );
    }
}

#[test]
fn a_click_in_a_frame_that_is_gone_says_that_its_coordinates_are_those_of_the_frame() {
    let check = |browser: &mut Browser| {
        let emitted = browser.data("interaction_click");
        assert_eq!(emitted.len(), 1);
        assert_eq!(
            (&emitted[0]["x"], &emitted[0]["y"], &emitted[0]["in_frame"]),
            (&json!(10), &json!(20), &json!(true))
        );
        assert_eq!(browser.core.held().commands, 0);
    };
    // The click closed the frame.
    let mut browser = tab();
    let gone =
        json!({"error": {"code": -32000, "message": "Frame with the given id was not found."}});
    browser.answers("DOM.getFrameOwner", gone);
    click_in_frames(&mut browser);
    check(&mut browser);

    // The element has no place, or none that can be read.
    for answer in [
        json!({"result": {"model": {"content": [0, 0, 0, 0, 0, 0, 0, 0], "border": [0, 0, 0, 0, 0, 0, 0, 0], "width": 0, "height": 0}}}),
        json!({"result": {"model": {}}}),
    ] {
        let mut browser = tab();
        browser.answers("DOM.getFrameOwner", json!({"result": {"backendNodeId": 7}}));
        browser.answers("DOM.getBoxModel", answer);
        click_in_frames(&mut browser);
        check(&mut browser);
    }

    // The page hangs, its process crashes, or the connection is lost. The time stays that of the click.
    for end in 0..4 {
        let mut browser = tab();
        browser.never_answers("DOM.getFrameOwner");
        browser.at(10);
        click_in_frames(&mut browser);
        browser.at(20);
        match end {
            0 => browser.waits_until(20_000),
            1 => browser.reports(Some("S2"), "Inspector.targetCrashed", json!({})),
            2 => browser.detached("S2"),
            _ => {
                let lost = tapline_oapi::data::DisconnectReason::ConnectionLost;
                browser.core.disconnected(browser.now, lost);
                browser.settle();
            }
        }
        let events = browser.events();
        let click = events
            .iter()
            .find(|it| it.event_type.as_str() == "interaction_click")
            .unwrap();
        assert_eq!(click.ts, crate::browser::START + 10 * crate::browser::MS);
        assert_eq!(crate::browser::data_of(click)["in_frame"], true);
    }
}
