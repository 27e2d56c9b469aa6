//! Pages that exceed the limits.

use serde_json::json;
use tapline_cdp::Options;

use crate::browser::Browser;

#[test]
fn two_hundred_tabs_are_fine() {
    let mut browser = Browser::new(Options::default());
    for n in 0..200 {
        let (session, target) = (format!("S{n}"), format!("T{n}"));
        browser
            .at(n)
            .attached(None, &session, &target, "page", true);
        browser.navigated(&session, &target, "L", "http://h/");
        browser.request(&session, "r", "L");
        browser.parsed(&session);
        browser.loaded(&session);
        browser.response(&session, "r", "text/html");
        browser.finished(&session, "r");
    }
    browser.at(60_000).waits();
    let emitted = browser.emitted();
    for name in [
        "page_tab_opened",
        "network_idle",
        "network_response",
        "page_navigation_settled",
        "monitor_screenshot",
    ] {
        assert_eq!(
            emitted.iter().filter(|(it, _)| it == name).count(),
            200,
            "{name}"
        );
    }
    for n in 0..200 {
        browser.detached(&format!("S{n}"));
    }
    assert_eq!(browser.core.held(), tapline_cdp::Held::default());
}

#[test]
fn targets_beyond_the_limit_are_resumed_and_not_followed() {
    let mut browser = Browser::new(Options::default());
    for n in 0..2001 {
        browser.commands();
        browser.attached(None, &format!("S{n}"), &format!("T{n}"), "page", true);
    }
    assert_eq!(browser.core.held().targets, 2000);
    assert_eq!(
        browser.methods(),
        ["Runtime.runIfWaitingForDebugger", "Target.detachFromTarget"]
    );
}

#[test]
fn a_hundred_thousand_lines_are_fine() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    for n in 0..100_000 {
        browser.logs("S", &format!("line {n}"));
    }
    let held = browser.core.held();
    assert_eq!(
        (held.targets, held.requests, held.commands, held.timers),
        (1, 0, 0, 0)
    );
    assert_eq!(browser.data("console_log").len(), 100_000);
}

#[test]
fn bodies_are_asked_for_a_few_at_a_time() {
    let mut browser = Browser::new(Options::default());
    browser.never_answers("Network.getResponseBody");
    browser.tab("S", "T");
    for n in 0..1000 {
        let id = format!("r{n}");
        browser.request("S", &id, "L");
        browser.response("S", &id, "text/plain");
        browser.finished("S", &id);
    }
    assert_eq!(browser.core.held().commands, 256);
    assert_eq!(
        browser.data("network_response").len(),
        1000 - 256,
        "emitted without"
    );
    browser.at(15_000).waits();
    assert_eq!(
        browser.data("network_response").len(),
        256,
        "in the end, all are emitted"
    );
}

#[test]
fn a_page_of_worlds_is_fine() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    for id in 0..5000 {
        let context = json!({"id": id, "name": "tapline"});
        browser.reports(
            Some("S"),
            "Runtime.executionContextCreated",
            json!({"context": context}),
        );
    }
    browser.commands();
    browser
        .core
        .reconfigure(browser.now, tapline_oapi::CategorySet::ALWAYS);
    browser.settle();
    let stopped = browser
        .methods()
        .into_iter()
        .filter(|it| *it == "Runtime.evaluate")
        .count();
    assert_eq!(stopped, 1000);
}
