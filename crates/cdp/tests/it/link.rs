//! The connection is lost and made again.

use serde_json::{Value, json};
use tapline_cdp::{Core, Options, Time};
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{Category, CategorySet};

use crate::browser::Browser;

fn monitor(browser: &mut Browser) -> Vec<(String, Value)> {
    let events = browser.events();
    let monitor = events
        .iter()
        .filter(|event| event.category == Category::Monitor);
    monitor
        .map(|event| (event.event_type.to_string(), crate::browser::data_of(event)))
        .collect()
}

fn event(name: &str, data: Value) -> (String, Value) {
    (name.to_owned(), data)
}

#[test]
fn a_loss_is_reported_with_one_pair_of_events() {
    let mut browser = Browser::new(Options::default());
    assert!(
        monitor(&mut browser).is_empty(),
        "there was nothing to lose"
    );
    browser.at(1000);
    for _ in 0..3 {
        browser
            .core
            .disconnected(browser.now, DisconnectReason::ChromeRestarted);
    }
    browser.at(3500);
    browser.core.connected(browser.now);
    browser.settle();
    assert_eq!(
        monitor(&mut browser),
        [
            event(
                "monitor_disconnected",
                json!({"reason": "chrome_restarted"})
            ),
            event(
                "monitor_reconnected",
                json!({"reconnect_duration_ms": 2500})
            ),
        ]
    );
}

#[test]
fn giving_up_is_reported_once_and_so_is_a_later_return() {
    let mut browser = Browser::new(Options::default());
    browser
        .core
        .disconnected(browser.now, DisconnectReason::ConnectionLost);
    browser.at(1000);
    browser.core.reconnect_failed(browser.now);
    browser.core.reconnect_failed(browser.now);
    browser.at(9000);
    browser.core.connected(browser.now);
    browser.settle();
    assert_eq!(
        monitor(&mut browser),
        [
            event("monitor_disconnected", json!({"reason": "connection_lost"})),
            event(
                "monitor_reconnect_failed",
                json!({"reason": "reconnect_exhausted"})
            ),
            event(
                "monitor_reconnected",
                json!({"reconnect_duration_ms": 9000})
            ),
        ]
    );
}

#[test]
fn a_connection_over_another_one_is_a_loss() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.request("S", "r", "L");
    browser.core.connected(browser.now);
    browser.settle();
    assert_eq!(browser.core.held().targets, 0);
    let emitted = monitor(&mut browser);
    assert_eq!(emitted.len(), 2, "{emitted:?}");
}

#[test]
fn a_loss_ends_open_requests_and_a_new_connection_lists_all_targets() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.navigated("S", "T", "L", "http://h/");
    browser.request("S", "r", "L");
    browser.loaded("S");
    browser.never_answers("Page.enable");
    browser.tab("S2", "T2");
    browser.events();
    browser.at(100);
    browser
        .core
        .disconnected(browser.now, DisconnectReason::ConnectionLost);
    browser.settle();
    let names: Vec<_> = browser
        .emitted()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["network_loading_failed", "monitor_disconnected"]);
    assert_eq!(browser.core.held(), tapline_cdp::Held::default());
    assert_eq!(browser.core.next_deadline(), None);

    // Messages without a connection are ignored.
    browser.commands();
    browser.logs("S", "from beyond");
    browser.tab("S3", "T3");
    assert!(browser.events().is_empty());
    assert!(browser.commands().is_empty());

    browser.at(5000);
    browser.core.connected(browser.now);
    browser.settle();
    let commands = browser.commands();
    assert_eq!(
        (commands.len(), commands[0].id),
        (1, 1),
        "a new connection counts anew"
    );
    browser.tab("S9", "T");
    browser.logs("S9", "hello");
    let emitted: Vec<_> = browser
        .emitted()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        emitted,
        ["monitor_reconnected", "page_tab_opened", "console_log"]
    );
}

#[test]
fn unsent_commands_are_dropped_with_their_connection() {
    let mut core = Core::new(Options::default());
    let now = Time::default();
    core.connected(now);
    core.disconnected(now, DisconnectReason::ConnectionLost);
    core.connected(now);
    let commands = std::iter::from_fn(|| core.poll())
        .filter(|output| matches!(output, tapline_cdp::Output::Command(_)));
    assert_eq!(commands.count(), 1);
}

#[test]
fn categories_can_change_while_there_is_no_browser() {
    let mut browser = Browser::absent(Options {
        captured: CategorySet::ALWAYS,
        ..Options::default()
    });
    browser.core.reconfigure(browser.now, CategorySet::ALL);
    browser.settle();
    assert!(browser.methods().is_empty());
    browser.core.connected(browser.now);
    browser.settle();
    assert_eq!(browser.methods(), ["Target.setDiscoverTargets"]);
}

#[test]
fn failed_steps_of_the_driver_have_their_names() {
    let mut browser = Browser::absent(Options {
        captured: CategorySet::EMPTY,
        ..Options::default()
    });
    browser
        .core
        .init_failed(browser.now, "find the browser at http://u:p@h:9222");
    browser.settle();
    assert_eq!(
        monitor(&mut browser),
        [event(
            "monitor_init_failed",
            json!({"step": "find the browser at http://*redacted*@h:9222"})
        )]
    );
}

#[test]
fn no_message_stops_the_core() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.events();
    let broken = [
        "",
        "{",
        "null",
        "[]",
        "\u{0}",
        "{\"method\":5}",
        "{\"id\":\"x\"}",
        r#"{"method":"Network.requestWillBeSent","params":{"requestId":7},"sessionId":"S"}"#,
        r#"{"method":"Network.requestWillBeSent","params":null,"sessionId":"S"}"#,
        r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log"#,
        r#"{"method":"Page.loadEventFired","params":{"timestamp":"now"},"sessionId":"S"}"#,
    ];
    for (n, message) in broken.iter().enumerate() {
        browser.sends(message);
        assert_eq!(browser.core.unreadable(), n as u64 + 1, "{message}");
    }
    // Unknown, but not broken.
    for message in [
        r#"{"method":"Network.tomorrow","params":{"requestId":7},"sessionId":"S"}"#,
        r#"{"method":"Page.loadEventFired","params":{"timestamp":1},"sessionId":"unknown"}"#,
        r#"{"method":"Page.loadEventFired","params":{"timestamp":1}}"#,
        r#"{"id":123456,"result":{}}"#,
    ] {
        browser.sends(message);
    }
    assert_eq!(browser.core.unreadable(), broken.len() as u64);
    assert!(browser.events().is_empty());
    browser.logs("S", "still here");
    assert_eq!(browser.data("console_log").len(), 1);
}
