//! Targets as they come and go, and what is enabled in each.

use std::collections::BTreeMap;

use serde_json::json;
use tapline_cdp::{Command, Options};
use tapline_oapi::{Category, CategorySet};

use crate::browser::{Browser, data_of};

fn capturing(categories: &[Category]) -> Options {
    Options {
        captured: CategorySet::of(categories).union(CategorySet::ALWAYS),
        ..Options::default()
    }
}

/// The commands that enable domains in a new target of this kind, in order.
fn check(categories: &[Category], kind: &str, expected: &[&str]) {
    let mut browser = Browser::new(capturing(categories));
    assert_eq!(browser.methods(), ["Target.setDiscoverTargets"]);
    browser.attached(None, "S", "T", kind, true);
    let mut methods = browser.methods();
    assert_eq!(
        methods.pop(),
        Some("Runtime.runIfWaitingForDebugger"),
        "last, so that nothing is missed"
    );
    assert_eq!(methods, expected, "{kind} for {categories:?}");
}

#[test]
fn the_captured_categories_decide_which_domains_are_enabled() {
    const PAGE: [&str; 3] = ["Page.enable", "Page.getFrameTree", "Target.setAutoAttach"];
    check(
        &[Category::Console],
        "page",
        &[
            "Page.enable",
            "Page.getFrameTree",
            "Runtime.enable",
            "Log.enable",
            "Target.setAutoAttach",
        ],
    );
    check(
        &[Category::Network],
        "iframe",
        &[&["Network.enable"], &PAGE[..]].concat(),
    );
    check(&[Category::Screenshot], "page", &PAGE);
    check(
        &[Category::Page],
        "page",
        &[
            "Page.enable",
            "Page.getFrameTree",
            "PerformanceTimeline.enable",
            "Target.setAutoAttach",
        ],
    );
    check(
        &[Category::Interaction],
        "page",
        &[
            "Page.enable",
            "Page.getFrameTree",
            "Runtime.enable",
            "Target.setAutoAttach",
            "Runtime.addBinding",
            "Page.addScriptToEvaluateOnNewDocument",
        ],
    );
    check(
        &[Category::Console],
        "worker",
        &["Runtime.enable", "Log.enable", "Target.setAutoAttach"],
    );
    check(&[Category::Network], "service_worker", &["Network.enable"]);
    check(&[Category::Page], "shared_worker", &[]);
    check(&Category::ALL, "browser_ui", &[]);
    check(&Category::ALL, "a kind of tomorrow", &[]);
}

#[test]
fn without_browser_categories_nothing_is_attached() {
    let control = [Category::Control, Category::Captcha, Category::Connection];
    let mut browser = Browser::new(capturing(&control));
    assert!(browser.methods().is_empty());
    assert!(browser.events().is_empty());
}

/// What is enabled in each session, by the commands that were sent.
#[derive(Debug, Default, PartialEq)]
struct Left(BTreeMap<(Option<Box<str>>, String), i32>);

impl Left {
    fn after(commands: &[Command]) -> Self {
        let mut left = Self::default();
        for command in commands {
            let params: serde_json::Value = serde_json::from_str(command.params.get()).unwrap();
            let (domain, verb) = command.method.split_once('.').unwrap();
            let is_on = match verb {
                "setAutoAttach" => params["autoAttach"] == true,
                "setDiscoverTargets" => params["discover"] == true,
                "enable" if domain == "PerformanceTimeline" => params["eventTypes"] != json!([]),
                "enable" | "addBinding" | "addScriptToEvaluateOnNewDocument" => true,
                "disable" | "removeBinding" | "removeScriptToEvaluateOnNewDocument" => false,
                _ => continue,
            };
            let what = match verb {
                "addBinding" | "removeBinding" => "binding",
                "addScriptToEvaluateOnNewDocument" | "removeScriptToEvaluateOnNewDocument" => {
                    "script"
                }
                "setAutoAttach" | "setDiscoverTargets" => "children",
                _ => domain,
            };
            *left
                .0
                .entry((command.session.clone(), what.to_owned()))
                .or_default() += if is_on { 1 } else { -1 };
        }
        left.0.retain(|_, times| *times != 0);
        left
    }
}

#[test]
fn with_all_categories_off_the_browser_is_as_it_was_before() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S1", "T1");
    browser.attached(Some("S1"), "S2", "T2", "worker", true);
    browser.attached(Some("S1"), "S3", "T3", "iframe", true);
    browser.attached(None, "S4", "T4", "service_worker", false);
    for (session, id, name) in [
        ("S1", 1, ""),
        ("S1", 2, "tapline"),
        ("S1", 3, "other"),
        ("S3", 1, "tapline"),
    ] {
        let context = json!({"id": id, "name": name, "origin": "", "uniqueId": ""});
        browser.reports(
            Some(session),
            "Runtime.executionContextCreated",
            json!({"context": context}),
        );
    }
    let mut commands = browser.commands();
    assert_eq!(
        Left::after(&commands).0.len(),
        1 + 8 + 4 + 8 + 3,
        "everything is enabled"
    );

    browser.core.reconfigure(browser.now, CategorySet::ALWAYS);
    browser.settle();
    let switched_off = browser.commands();
    let stopped: Vec<_> = switched_off
        .iter()
        .filter(|command| command.method == "Runtime.evaluate")
        .map(|command| (command.session.as_deref().unwrap(), command.params.get()))
        .collect();
    assert_eq!(
        stopped,
        [
            (
                "S1",
                r#"{"contextId":2,"expression":"globalThis.__taplineStop?.()"}"#
            ),
            (
                "S3",
                r#"{"contextId":1,"expression":"globalThis.__taplineStop?.()"}"#
            ),
        ],
        "the script stops in each of its worlds, and nothing runs in the page's own"
    );
    commands.extend(switched_off);
    assert_eq!(Left::after(&commands), Left::default());

    // Late messages give no events, and late targets are resumed.
    browser.events();
    browser.logs("S1", "late");
    browser.attached(None, "S5", "T5", "page", true);
    assert!(browser.events().is_empty());
    assert_eq!(browser.methods(), ["Runtime.runIfWaitingForDebugger"]);
    for session in ["S1", "S4", "S5"] {
        browser.detached(session);
    }
    assert_eq!(browser.core.held(), tapline_cdp::Held::default());
}

#[test]
fn a_change_of_one_category_touches_nothing_else() {
    let mut browser = Browser::new(capturing(&[Category::Console]));
    browser.tab("S", "T");
    browser.commands();
    let both = CategorySet::of(&[Category::Console, Category::Network]);
    browser.core.reconfigure(browser.now, both);
    browser.settle();
    assert_eq!(browser.methods(), ["Network.enable"]);
    browser.core.reconfigure(browser.now, both);
    browser.settle();
    assert!(browser.methods().is_empty(), "nothing has changed");
    browser
        .core
        .reconfigure(browser.now, CategorySet::of(&[Category::Network]));
    browser.settle();
    assert_eq!(browser.methods(), ["Log.disable", "Runtime.disable"]);
}

#[test]
fn a_script_that_is_disabled_before_its_identifier_is_known_is_removed_later() {
    let mut browser = Browser::new(capturing(&[Category::Interaction]));
    browser.never_answers("Page.addScriptToEvaluateOnNewDocument");
    browser.tab("S", "T");
    let commands = browser.commands();
    let added = commands
        .iter()
        .find(|it| it.method == "Page.addScriptToEvaluateOnNewDocument");
    let id = added.unwrap().id;
    browser.core.reconfigure(browser.now, CategorySet::ALWAYS);
    browser.settle();
    assert!(
        !browser
            .methods()
            .contains(&"Page.removeScriptToEvaluateOnNewDocument")
    );
    browser.sends(&format!(
        r#"{{"id":{id},"result":{{"identifier":"7"}},"sessionId":"S"}}"#
    ));
    let removed = browser.commands();
    assert_eq!(removed.len(), 1);
    assert_eq!(
        removed[0].method,
        "Page.removeScriptToEvaluateOnNewDocument"
    );
    assert_eq!(removed[0].params.get(), r#"{"identifier":"7"}"#);
}

#[test]
fn a_target_that_is_reported_twice_is_followed_once() {
    let mut browser = Browser::new(Options::default());
    browser.attached(None, "S1", "T", "service_worker", false);
    browser.tab("S2", "P");
    browser.commands();
    browser.attached(Some("S2"), "S3", "T", "service_worker", true);
    let commands = browser.commands();
    let sent: Vec<_> = commands
        .iter()
        .map(|it| (it.session.as_deref(), it.method))
        .collect();
    assert_eq!(
        sent,
        [
            (Some("S3"), "Runtime.runIfWaitingForDebugger"),
            (Some("S2"), "Target.detachFromTarget"),
        ]
    );
    assert_eq!(browser.core.held().targets, 2);
}

#[test]
fn a_tab_event_has_all_that_is_known_of_the_tab() {
    let mut browser = Browser::new(Options::default());
    browser.reports(
        None,
        "Target.attachedToTarget",
        json!({
            "sessionId": "S",
            "targetInfo": {"targetId": "T", "type": "page", "title": "Shop", "url": "http://u:p@h/", "openerId": "O"},
            "waitingForDebugger": false,
        }),
    );
    browser.attached(Some("S"), "S2", "T2", "iframe", false);
    let emitted = browser.events();
    assert_eq!(emitted.len(), 1);
    assert_eq!(
        data_of(&emitted[0]),
        json!({"target_id": "T", "target_type": "page", "url": "http://*redacted*@h/", "title": "Shop", "opener_id": "O"})
    );
    assert_eq!(
        emitted[0].source.event.as_deref(),
        Some("Target.attachedToTarget")
    );
}

#[test]
fn tabs_are_emitted_once_when_pages_are_captured() {
    let mut browser = Browser::new(capturing(&[Category::Console]));
    browser.tab("S", "T");
    assert!(browser.events().is_empty());
    for captured in [Category::Page, Category::Network, Category::Page] {
        browser
            .core
            .reconfigure(browser.now, CategorySet::of(&[captured]));
        browser.settle();
    }
    assert_eq!(browser.emitted(), [("page_tab_opened".to_owned(), 0)]);
}

#[test]
fn a_failed_step_is_reported_once_with_its_name() {
    let mut browser = Browser::new(Options::default());
    let refused = json!({"error": {"code": -32601, "message": "'Network.enable' wasn't found"}});
    browser.answers("Network.enable", refused);
    for n in 0..200 {
        browser.tab(&format!("S{n}"), &format!("T{n}"));
    }
    assert_eq!(
        browser.data("monitor_init_failed"),
        [json!({"step": "Network.enable"})]
    );
    // Everything else continues.
    browser.logs("S0", "hello");
    assert_eq!(browser.data("console_log").len(), 1);
}

#[test]
fn a_step_without_an_answer_has_failed() {
    let mut browser = Browser::new(Options::default());
    browser.never_answers("Page.enable");
    browser.tab("S", "T");
    browser.at(14_999).waits();
    assert!(browser.data("monitor_init_failed").is_empty());
    browser.at(15_000).waits();
    assert_eq!(
        browser.data("monitor_init_failed"),
        [json!({"step": "Page.enable"})]
    );
    assert_eq!(browser.core.held().commands, 0);
}

#[test]
fn a_target_that_is_closed_during_setup_is_no_failure() {
    let mut browser = Browser::new(Options::default());
    let gone = json!({"error": {"code": -32001, "message": "Session with given id not found."}});
    browser.answers("Network.enable", gone);
    browser.tab("S", "T");
    assert!(browser.data("monitor_init_failed").is_empty());
    browser.never_answers("Page.enable");
    browser.tab("S2", "T2");
    browser.detached("S2");
    browser.at(60_000).waits();
    assert!(browser.data("monitor_init_failed").is_empty());
}

#[test]
fn targets_within_a_closed_target_are_removed_with_it() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S1", "T1");
    browser.attached(Some("S1"), "S2", "T2", "iframe", true);
    browser.attached(Some("S2"), "S3", "T3", "worker", true);
    browser.tab("S4", "T4");
    browser.request("S3", "r", "L");
    browser.detached("S1");
    assert_eq!(browser.core.held().targets, 1);
    assert_eq!(browser.core.held().requests, 0);
    assert_eq!(
        browser.data("network_loading_failed")[0]["error_text"],
        "tapline::TARGET_GONE"
    );
}

#[test]
fn the_first_document_of_a_new_tab_counts_as_a_navigation() {
    let mut browser = Browser::new(Options::default());
    let tree = json!({"frameTree": {"frame": {"id": "T1", "loaderId": "L", "url": "http://h/"}}});
    browser.answers("Page.getFrameTree", json!({"result": tree}));
    browser.attached(None, "S1", "T1", "page", false);
    let emitted = browser.data("page_navigation");
    assert_eq!(emitted.len(), 1);
    assert_eq!(
        (&emitted[0]["url"], &emitted[0]["loader_id"]),
        (&json!("http://h/"), &json!("L"))
    );
    browser.loaded("S1");
    let load = browser.data("page_load").remove(0);
    assert_eq!(
        (&load["nav_seq"], &load["loader_id"]),
        (&json!(1), &json!("L"))
    );

    // In a tab that the browser lists when it is connected, it is the document that was there before.
    let mut browser = Browser::absent(Options::default());
    browser.answers("Page.getFrameTree", json!({"result": tree}));
    browser.never_answers("Target.setDiscoverTargets");
    browser.core.connected(browser.now);
    browser.attached(None, "S2", "T2", "page", false);
    browser.loaded("S2");
    let emitted = browser.events();
    assert!(
        emitted
            .iter()
            .all(|event| event.event_type.as_str() != "page_navigation")
    );
    let load = data_of(emitted.last().unwrap());
    assert_eq!(
        (&load["nav_seq"], &load["loader_id"]),
        (&json!(0), &json!("L"))
    );
}
