//! What is computed, and when.

use tapline_cdp::Options;
use tapline_oapi::{Category, CategorySet};

use crate::browser::Browser;

/// One thing that happens in a page.
#[derive(Clone, Copy)]
enum Step {
    Navigated(&'static str),
    Parsed,
    Loaded,
    Shifted,
    Request(&'static str),
    Redirected(&'static str),
    Finished(&'static str),
    Failed(&'static str),
    Crashed,
    Off(Category),
    Nothing,
}
use Step::*;

const COMPUTED: [&str; 3] = [
    "network_idle",
    "page_layout_settled",
    "page_navigation_settled",
];

fn play(browser: &mut Browser, session: &str, target: &str, loader: &mut &'static str, step: Step) {
    match step {
        Navigated(to) => {
            *loader = to;
            browser.navigated(session, target, to, "http://h/");
        }
        Parsed => browser.parsed(session),
        Loaded => browser.loaded(session),
        Shifted => browser.shifted(session),
        Request(id) => browser.request(session, id, loader),
        Redirected(id) => browser.redirected(session, id, loader, "http://h/old"),
        Finished(id) => {
            browser.response(session, id, "image/png");
            browser.finished(session, id);
        }
        Failed(id) => browser.failed(session, id),
        Crashed => browser.reports(
            Some(session),
            "Inspector.targetCrashed",
            serde_json::json!({}),
        ),
        Off(category) => {
            browser
                .core
                .reconfigure(browser.now, CategorySet::ALL.without(category));
            browser.settle();
        }
        Nothing => browser.waits(),
    }
}

/// The computed events of these steps, with the milliseconds since the start.
#[track_caller]
fn check(steps: &[(u64, Step)], expected: &[(&str, u64)]) {
    // It makes no difference whether the driver calls at each deadline or only when something happens.
    for punctual in [true, false] {
        let mut browser = Browser::new(Options::default());
        browser.tab("S", "T");
        let mut loader = "L0";
        for (ms, step) in steps.iter().copied().chain([(60_000, Nothing)]) {
            if punctual {
                browser.waits_until(ms);
            }
            browser.at(ms);
            play(&mut browser, "S", "T", &mut loader, step);
        }
        let emitted = browser.emitted();
        let computed: Vec<_> = emitted
            .iter()
            .map(|(name, ms)| (name.as_str(), *ms))
            .filter(|(name, _)| COMPUTED.contains(name))
            .collect();
        assert_eq!(computed, expected, "punctual: {punctual}");
    }
}

#[test]
fn the_network_is_idle_after_half_a_second_without_a_request() {
    check(
        &[(0, Request("a")), (100, Finished("a"))],
        &[("network_idle", 600)],
    );
    // Another request within the half second restarts the wait.
    check(
        &[
            (0, Request("a")),
            (100, Finished("a")),
            (599, Request("b")),
            (700, Failed("b")),
        ],
        &[("network_idle", 1200)],
    );
    // At the half second it is over.
    check(
        &[
            (0, Request("a")),
            (100, Finished("a")),
            (600, Request("b")),
            (700, Failed("b")),
        ],
        &[("network_idle", 600), ("network_idle", 1200)],
    );
    // All have to end.
    check(
        &[
            (0, Request("a")),
            (0, Request("b")),
            (100, Finished("a")),
            (900, Finished("b")),
        ],
        &[("network_idle", 1400)],
    );
    check(&[(0, Request("a"))], &[]);
}

#[test]
fn a_redirect_is_the_same_request() {
    check(
        &[
            (0, Request("a")),
            (10, Redirected("a")),
            (20, Redirected("a")),
            (100, Finished("a")),
        ],
        &[("network_idle", 600)],
    );
    // Also where its beginning was not seen.
    check(
        &[
            (10, Redirected("a")),
            (100, Finished("a")),
            (110, Failed("a")),
        ],
        &[("network_idle", 600)],
    );
}

#[test]
fn the_layout_settles_a_second_after_load_or_the_last_shift() {
    check(&[(100, Loaded)], &[("page_layout_settled", 1100)]);
    check(
        &[(100, Loaded), (1000, Shifted), (1999, Shifted)],
        &[("page_layout_settled", 2999)],
    );
    // A shift before load delays nothing, and one after it was emitted changes nothing.
    check(
        &[
            (50, Shifted),
            (100, Loaded),
            (1100, Shifted),
            (1500, Shifted),
        ],
        &[("page_layout_settled", 1100)],
    );
    check(&[(50, Shifted)], &[]);
}

#[test]
fn a_navigation_settles_with_both_of_its_parts() {
    check(
        &[(0, Navigated("L1")), (50, Parsed), (100, Loaded)],
        &[
            ("network_idle", 500),
            ("page_layout_settled", 1100),
            ("page_navigation_settled", 1100),
        ],
    );
    // In whatever order they come.
    check(
        &[(0, Navigated("L1")), (100, Loaded), (1500, Parsed)],
        &[
            ("network_idle", 500),
            ("page_layout_settled", 1100),
            ("page_navigation_settled", 1500),
        ],
    );
    check(
        &[(0, Navigated("L1")), (50, Parsed)],
        &[("network_idle", 500)],
    );
}

#[test]
fn a_request_that_hangs_does_not_hold_up_a_navigation() {
    check(
        &[
            (0, Navigated("L1")),
            (10, Request("hangs")),
            (50, Parsed),
            (100, Loaded),
        ],
        &[
            ("page_layout_settled", 1100),
            ("page_navigation_settled", 1100),
        ],
    );
    // Nor the network of the next one, of which it is none.
    check(
        &[
            (0, Navigated("L1")),
            (10, Request("hangs")),
            (20, Navigated("L2")),
            (30, Request("a")),
            (40, Finished("a")),
            (50, Failed("hangs")),
        ],
        &[("network_idle", 540)],
    );
    check(
        &[
            (0, Navigated("L1")),
            (10, Request("hangs")),
            (20, Navigated("L2")),
            (30, Redirected("hangs")),
        ],
        &[("network_idle", 520)],
    );
}

#[test]
fn a_navigation_cancels_what_the_one_before_waited_for() {
    check(
        &[
            (0, Navigated("L1")),
            (10, Request("a")),
            (20, Finished("a")),
            (50, Parsed),
            (100, Loaded),
            (400, Navigated("L2")),
        ],
        &[("network_idle", 900)],
    );
    // What was emitted of the one before does not count for the next.
    check(
        &[
            (0, Navigated("L1")),
            (50, Parsed),
            (300, Navigated("L2")),
            (400, Loaded),
        ],
        &[("network_idle", 800), ("page_layout_settled", 1400)],
    );
}

#[test]
fn the_request_for_the_document_itself_belongs_to_its_navigation() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    // The browser names a document and the request for it alike.
    browser.at(0).request("S", "L1", "L1");
    browser.at(100).navigated("S", "T", "L1", "http://h/");
    browser.at(700).response("S", "L1", "image/png");
    browser.at(800).finished("S", "L1");
    browser.at(5000).waits();
    let emitted = browser.emitted();
    assert!(
        emitted.contains(&("network_idle".to_owned(), 1300)),
        "{emitted:?}"
    );
    assert_eq!(
        emitted
            .iter()
            .filter(|(name, _)| name == "network_idle")
            .count(),
        1
    );
}

#[test]
fn a_crash_ends_all_waiting() {
    check(
        &[
            (0, Navigated("L1")),
            (10, Request("a")),
            (50, Parsed),
            (100, Loaded),
            (200, Crashed),
        ],
        &[],
    );
}

#[test]
fn a_category_that_is_off_is_not_waited_for() {
    check(
        &[
            (0, Navigated("L1")),
            (50, Parsed),
            (100, Loaded),
            (200, Off(Category::Page)),
        ],
        &[("network_idle", 500)],
    );
    check(
        &[
            (0, Navigated("L1")),
            (50, Parsed),
            (100, Loaded),
            (200, Off(Category::Network)),
        ],
        &[
            ("page_layout_settled", 1100),
            ("page_navigation_settled", 1100),
        ],
    );
}

#[test]
fn two_tabs_do_not_disturb_each_other() {
    let mut browser = Browser::new(Options::default());
    browser.tab("S1", "T1");
    browser.tab("S2", "T2");
    let mut loaders = ["L", "L"];
    // The same loaders in both: each tab's are its own. Ids of requests are unique in a browser.
    for (ms, tab, step) in [
        (0, 0, Navigated("L1")),
        (0, 1, Navigated("L1")),
        (10, 0, Request("a")),
        (10, 1, Request("b")),
        (20, 0, Parsed),
        (30, 1, Parsed),
        (100, 0, Finished("a")),
        (200, 0, Loaded),
        (300, 1, Loaded),
        (900, 1, Shifted),
        (1000, 1, Finished("b")),
        (1500, 0, Navigated("L2")),
        (60_000, 0, Nothing),
    ] {
        browser.at(ms);
        let (session, target) = [("S1", "T1"), ("S2", "T2")][tab];
        play(&mut browser, session, target, &mut loaders[tab], step);
    }
    let emitted: Vec<_> = browser
        .events()
        .iter()
        .filter(|event| COMPUTED.contains(&event.event_type.as_str()))
        .map(|event| {
            let data = crate::browser::data_of(event);
            let ms = (event.ts - crate::browser::START) / 1000;
            format!(
                "{} {} {ms}",
                event.event_type,
                data["target_id"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        emitted,
        [
            "network_idle T1 600",
            "page_layout_settled T1 1200",
            "page_navigation_settled T1 1200",
            "network_idle T2 1500",
            "page_layout_settled T2 1900",
            "page_navigation_settled T2 1900",
            "network_idle T1 2000",
        ]
    );
}
