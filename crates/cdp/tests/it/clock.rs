//! The wall clock is set while something waits: timestamps change, and no deadline does.

use std::time::Duration;

use serde_json::json;
use tapline_cdp::Options;
use tapline_oapi::Category;
use tapline_oapi::CategorySet;
use tapline_oapi::data::DisconnectReason;

use crate::browser::{Browser, MS, START};

const HOUR: i64 = 3600;

/// The clock is not set, set forward, and set back.
const STEPS: [i64; 3] = [0, HOUR, -HOUR];

/// Begins at 0 ms, has the clock set at 100 ms, and expects this event at exactly that many milliseconds
/// of monotonic time, with the `ts` of the clock as it is then.
#[track_caller]
fn check(begin: impl Fn(&mut Browser), name: &str, at: u64) {
    for step in STEPS {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        begin(&mut browser);
        browser.events();
        browser.at(100).steps_clock(step).waits();
        browser.at(at - 1).waits();
        assert_eq!(browser.data(name).len(), 0, "too early, step {step}");
        browser.at(at).waits();
        let events = browser.events();
        let event = events
            .iter()
            .find(|event| event.event_type.as_str() == name);
        let event = event.unwrap_or_else(|| panic!("too late, step {step}"));
        let expected = (START + at * MS).checked_add_signed(step * 1_000_000);
        assert_eq!(Some(event.ts), expected, "step {step}");
    }
}

#[test]
fn setup_commands_time_out_after_the_same_time() {
    let begin = |browser: &mut Browser| {
        browser.never_answers("Page.enable");
        browser.tab("S2", "T2");
    };
    check(begin, "monitor_init_failed", 15_000);
}

#[test]
fn open_requests_are_given_up_after_the_same_time() {
    let begin = |browser: &mut Browser| browser.request("S", "r", "L");
    check(begin, "network_loading_failed", 600_000);
}

#[test]
fn a_pending_body_is_given_up_after_the_same_time() {
    for step in STEPS {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        browser.never_answers("Network.getResponseBody");
        browser.request("S", "r", "L");
        browser.response("S", "r", "text/plain");
        browser.finished("S", "r");
        browser.at(100).steps_clock(step).waits();
        browser.at(14_999).waits();
        assert_eq!(browser.data("network_response").len(), 0, "step {step}");
        browser.at(15_000).waits();
        let events = browser.events();
        assert_eq!(events[0].event_type.as_str(), "network_response");
        assert_eq!(events[0].ts, START, "it ended before the clock was set");
    }
}

#[test]
fn the_network_is_idle_after_the_same_time() {
    let begin = |browser: &mut Browser| {
        browser.request("S", "r", "L");
        browser.failed("S", "r");
    };
    check(begin, "network_idle", 500);
}

#[test]
fn the_layout_settles_after_the_same_time() {
    check(|browser| browser.loaded("S"), "page_layout_settled", 1000);
}

#[test]
fn screenshots_keep_their_rate() {
    let begin = |browser: &mut Browser| {
        browser.loaded("S");
        browser.loaded("S");
    };
    check(begin, "monitor_screenshot", 2000);
}

#[test]
fn interactions_keep_their_rate() {
    for step in STEPS {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        let clicks = |browser: &mut Browser| {
            let click = json!({"kind": "click", "selector": "a", "tag": "a"}).to_string();
            for _ in 0..60 {
                let call = json!({"name": "__tapline", "payload": click});
                browser.reports(Some("S"), "Runtime.bindingCalled", call);
            }
            browser.data("interaction_click").len()
        };
        assert_eq!(clicks(&mut browser), 50);
        browser.at(100).steps_clock(step);
        assert_eq!(clicks(&mut browser), 0, "step {step}");
        browser.at(1000);
        assert_eq!(clicks(&mut browser), 50, "step {step}");
    }
}

#[test]
fn the_time_without_a_browser_is_the_same() {
    for step in STEPS {
        let mut browser = Browser::new(Options::default());
        let reason = DisconnectReason::ConnectionLost;
        browser.core.disconnected(browser.now, reason);
        browser.at(100).steps_clock(step);
        browser.at(2500);
        browser.core.connected(browser.now);
        browser.settle();
        let data = browser.data("monitor_reconnected");
        assert_eq!(data[0]["reconnect_duration_ms"], 2500, "step {step}");
    }
}

#[test]
fn an_event_that_is_late_has_the_time_at_which_it_was_due() {
    for step in STEPS {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        browser.request("S", "r", "L");
        browser.failed("S", "r");
        browser.events();
        browser.steps_clock(step).at(9000).waits();
        let events = browser.events();
        let expected = (START + 500 * MS).checked_add_signed(step * 1_000_000);
        assert_eq!(Some(events[0].ts), expected, "step {step}");
    }
}

/// The browser's own timestamps are wall times. After the clock was set back, they are older than the
/// moment from which on they are wanted, for as long as it was set back.
#[test]
fn console_lines_are_not_lost_after_the_clock_was_set() {
    for step in STEPS {
        let mut browser = Browser::new(Options {
            captured: CategorySet::ALL.without(Category::Console),
            ..Options::default()
        });
        browser.tab("S", "T");
        browser.at(1000);
        browser.core.reconfigure(browser.now, CategorySet::ALL);
        browser.settle();
        browser.at(1100).steps_clock(step);
        let log = |browser: &mut Browser, wall: u64| {
            let call = json!({"type": "log", "args": [], "timestamp": wall as f64 / 1000.0});
            browser.reports(Some("S"), "Runtime.consoleAPICalled", call);
            browser.data("console_log").len()
        };
        let now = browser.now.wall;
        assert_eq!(log(&mut browser, now), 1, "step {step}");
        // Logged after the category was enabled and before the clock was set.
        assert_eq!(log(&mut browser, START + 1050 * MS), 1, "step {step}");
        let before = (START + 900 * MS).min(now - 200 * MS);
        assert_eq!(log(&mut browser, before), 0, "step {step}");
    }
}

/// What the browser has stored from before the connection comes with the time at which it happened. A clock that
/// is set after the connection changes nothing in that, and makes nothing old that is logged after it.
#[test]
fn entries_from_before_the_connection_have_the_time_at_which_they_happened() {
    for step in STEPS {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        browser.events();
        let date = |wall: u64| wall as f64 / 1000.0;
        for is_old in [true, false] {
            let wall = if is_old {
                START - 60_000 * MS
            } else {
                browser.at(1000).steps_clock(step);
                browser.now.wall - 3 * MS
            };
            let call = json!({"type": "log", "args": [], "timestamp": date(wall)});
            browser.reports(Some("S"), "Runtime.consoleAPICalled", call);
            let details =
                json!({"exceptionId": 1, "text": "Uncaught", "lineNumber": 1, "columnNumber": 1});
            let thrown = json!({"timestamp": date(wall), "exceptionDetails": details});
            browser.reports(Some("S"), "Runtime.exceptionThrown", thrown);
            let entry = json!({"source": "network", "level": "error", "text": "it failed", "timestamp": date(wall)});
            browser.reports(Some("S"), "Log.entryAdded", json!({"entry": entry}));
            let shift = json!({"value": 0.1, "hadRecentInput": false, "sources": []});
            let event = json!({"frameId": "F", "type": "layout-shift", "name": "", "time": date(wall) / 1000.0, "layoutShiftDetails": shift});
            let added = json!({"event": event});
            browser.reports(Some("S"), "PerformanceTimeline.timelineEventAdded", added);

            let expected = if is_old { wall } else { browser.now.wall };
            let events = browser.events();
            assert_eq!(events.len(), 4, "step {step}");
            for event in events {
                // The timeline's times are seconds, with a little less than microseconds.
                let is_near = event.ts.abs_diff(expected) <= 1;
                assert!(is_near, "{event:?} is not of {expected}, step {step}");
            }
        }
    }
}

/// A timestamp that cannot be a time is not taken for one.
#[test]
fn an_entry_with_a_strange_timestamp_has_no_time_of_its_own() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.events();
    for timestamp in [-1e300, -1.0, 0.0] {
        let call = json!({"type": "log", "args": [], "timestamp": timestamp});
        browser.reports(Some("S"), "Runtime.consoleAPICalled", call);
        assert_eq!(browser.events()[0].ts, 0, "it is set where it is published");
    }
}

/// The caller breaks the requirement, and deadlines are late rather than lost.
#[test]
fn a_monotonic_clock_that_goes_back_stands_still() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.at(5000).request("S", "a", "L");
    browser.at(1000).response("S", "a", "image/png");
    browser.finished("S", "a");
    browser.at(5499).waits();
    assert!(browser.data("network_idle").is_empty());
    browser.at(5500).waits();
    assert_eq!(browser.emitted(), [("network_idle".to_owned(), 5500)]);
    assert_eq!(browser.now.monotonic, Duration::from_millis(12_500));
}
