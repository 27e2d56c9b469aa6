//! Pictures: which, and how many.

use serde_json::{Value, json};
use tapline_cdp::Options;
use tapline_oapi::{Category, CategorySet};

use crate::browser::Browser;

fn tab() -> Browser {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.commands();
    browser
}

fn pictures(browser: &mut Browser) -> Vec<u64> {
    let told = browser.told();
    let pictures = told
        .into_iter()
        .filter(|(name, _)| name == "monitor_screenshot");
    pictures.map(|(_, ms)| ms).collect()
}

#[test]
fn a_page_is_pictured_when_it_has_loaded() {
    let mut browser = tab();
    browser.at(100).loaded("S");
    let asked = browser.commands();
    assert_eq!(asked[0].method, "Page.captureScreenshot");
    assert_eq!(asked[0].params.get(), r#"{"format":"png"}"#);
    let told = browser.data("monitor_screenshot");
    assert_eq!(told[0]["png"], "cGljdHVyZQ==");
    assert_eq!(told[0]["target_id"], "T");
}

#[test]
fn a_page_is_pictured_at_most_every_two_seconds() {
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
fn a_picture_that_is_too_large_is_taken_smaller() {
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
            "one is told, as small as it gets"
        );
    }
}

#[test]
fn two_tabs_are_pictured_each() {
    let mut browser = tab();
    browser.tab("S2", "T2");
    browser.at(0).loaded("S");
    browser.at(10).loaded("S2");
    assert_eq!(pictures(&mut browser), [0, 10]);
}

#[test]
fn a_frame_is_part_of_its_pages_picture() {
    let mut browser = tab();
    browser.attached(Some("S"), "S2", "T2", "iframe", false);
    browser.loaded("S2");
    assert_eq!(pictures(&mut browser), Vec::<u64>::new());
}

#[test]
fn nothing_is_pictured_that_is_not_captured() {
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
fn a_picture_of_nobody_knows_which_document_is_not_told() {
    let mut browser = tab();
    browser.never_answers("Page.captureScreenshot");
    browser.loaded("S");
    let id = browser.commands()[0].id;
    browser.navigated("S", "T", "L2", "http://h/2");
    browser.says(&format!(
        r#"{{"id":{id},"result":{{"data":"AAAA"}},"sessionId":"S"}}"#
    ));
    assert_eq!(pictures(&mut browser), Vec::<u64>::new());
}

#[test]
fn a_page_that_went_on_is_pictured_once_it_has_loaded() {
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
fn few_pictures_are_asked_for_at_a_time() {
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
    // A refusal makes room, and is told to nobody.
    let mut answer = refused;
    answer["id"] = json!(ids[0]);
    browser.says(&answer.to_string());
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
