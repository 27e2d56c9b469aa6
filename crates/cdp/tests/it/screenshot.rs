//! Screenshots: of which pages, and how many.

use serde_json::{Value, json};
use tapline_cdp::Options;
use tapline_oapi::{Category, CategorySet};

use crate::browser::Browser;

fn tab() -> Browser {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.navigated("S", "T", "L1", "http://h/");
    browser.events();
    browser.commands();
    browser
}

fn pictures(browser: &mut Browser) -> Vec<u64> {
    let emitted = browser.emitted();
    let pictures = emitted
        .into_iter()
        .filter(|(name, _)| name == "monitor_screenshot");
    pictures.map(|(_, ms)| ms).collect()
}

#[test]
fn a_screenshot_is_taken_when_a_page_has_loaded() {
    let mut browser = tab();
    browser.at(100).loaded("S");
    let asked = browser.commands();
    assert_eq!(asked[0].method, "Page.captureScreenshot");
    assert_eq!(asked[0].params.get(), r#"{"format":"png"}"#);
    let emitted = browser.data("monitor_screenshot");
    assert_eq!(emitted[0]["png"], "cGljdHVyZQ==");
    assert_eq!(emitted[0]["target_id"], "T");
}

#[test]
fn screenshots_of_a_page_are_at_least_two_seconds_apart() {
    let mut browser = tab();
    for ms in [0, 100, 500, 1900, 2100, 9000] {
        browser.waits_until(ms);
        browser.loaded("S");
    }
    browser.waits_until(20_000);
    // The second at 2000, of what had loaded until then; the third of what loaded at 2100.
    assert_eq!(pictures(&mut browser), [0, 2000, 4000, 9000]);
}

#[test]
fn a_screenshot_that_is_too_large_is_taken_smaller() {
    let view =
        json!({"pageX": 0, "pageY": 800, "clientWidth": 1280, "clientHeight": 720, "scale": 1});
    let metrics = json!({"result": {"cssVisualViewport": view}});
    for (bytes, scales) in [(950_000, vec![]), (950_001, vec![0.5, 0.25])] {
        let mut browser = tab();
        browser.answers("Page.getLayoutMetrics", metrics.clone());
        let data = "A".repeat(bytes);
        browser.answers("Page.captureScreenshot", json!({"result": {"data": data}}));
        browser.loaded("S");
        let asked: Vec<_> = browser
            .commands()
            .iter()
            .filter(|command| command.method == "Page.captureScreenshot")
            .map(|command| serde_json::from_str::<Value>(command.params.get()).unwrap())
            .collect();
        let clips: Vec<_> = asked[1..]
            .iter()
            .map(|params| params["clip"].clone())
            .collect();
        let clip = |scale: &f64| json!({"x": 0.0, "y": 800.0, "width": 1280.0, "height": 720.0, "scale": scale});
        assert_eq!(clips, scales.iter().map(clip).collect::<Vec<_>>());
        assert_eq!(
            pictures(&mut browser),
            [0],
            "one is emitted, as small as it gets"
        );
    }
}

#[test]
fn each_tab_has_its_own_screenshots() {
    let mut browser = tab();
    browser.tab("S2", "T2");
    browser.at(0).loaded("S");
    browser.at(10).loaded("S2");
    assert_eq!(pictures(&mut browser), [0, 10]);
}

#[test]
fn a_frame_has_no_screenshot_of_its_own() {
    let mut browser = tab();
    browser.attached(Some("S"), "S2", "T2", "iframe", false);
    browser.loaded("S2");
    assert_eq!(pictures(&mut browser), Vec::<u64>::new());
}

#[test]
fn without_the_category_there_is_no_screenshot() {
    let mut browser = tab();
    browser.at(0).loaded("S");
    browser.at(100).loaded("S");
    browser
        .core
        .reconfigure(browser.now, CategorySet::ALL.without(Category::Screenshot));
    browser.at(5000).loaded("S");
    browser.at(9000).waits();
    assert_eq!(pictures(&mut browser), [0]);
    assert!(!browser.methods()[1..].contains(&"Page.captureScreenshot"));
}

#[test]
fn a_screenshot_that_crosses_a_navigation_is_dropped() {
    let mut browser = tab();
    browser.never_answers("Page.captureScreenshot");
    browser.loaded("S");
    let id = browser.commands()[0].id;
    browser.navigated("S", "T", "L2", "http://h/2");
    browser.sends(&format!(
        r#"{{"id":{id},"result":{{"data":"AAAA"}},"sessionId":"S"}}"#
    ));
    assert_eq!(pictures(&mut browser), Vec::<u64>::new());
}

#[test]
fn a_pending_screenshot_is_cancelled_by_a_navigation() {
    let mut browser = tab();
    browser.at(0).loaded("S");
    browser.at(100).loaded("S");
    browser.at(1000).navigated("S", "T", "L2", "http://h/2");
    browser.at(3000).waits();
    assert_eq!(
        pictures(&mut browser),
        [0],
        "what waited was of the document before"
    );
    browser.at(3100).loaded("S");
    assert_eq!(pictures(&mut browser), [3100]);
}

#[test]
fn few_screenshots_are_pending_at_a_time() {
    let mut browser = tab();
    browser.never_answers("Page.captureScreenshot");
    let refused = json!({"error": {"code": -32000, "message": "Unable to capture screenshot"}});
    for n in 0..100 {
        browser.tab(&format!("S{n}"), &format!("T{n}"));
        browser.loaded(&format!("S{n}"));
    }
    let asked = browser.commands();
    let ids: Vec<_> = asked
        .iter()
        .filter(|it| it.method == "Page.captureScreenshot")
        .map(|it| it.id)
        .collect();
    assert_eq!(ids.len(), 4);
    // After a refusal another one may be requested. The refusal gives no event.
    let mut answer = refused;
    answer["id"] = json!(ids[0]);
    browser.sends(&answer.to_string());
    browser.at(2000).waits();
    assert_eq!(
        browser
            .methods()
            .iter()
            .filter(|it| **it == "Page.captureScreenshot")
            .count(),
        1
    );
    assert!(browser.data("monitor_init_failed").is_empty());
}
