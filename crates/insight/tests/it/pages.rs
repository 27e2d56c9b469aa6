//! Navigations and their milestones.

use serde_json::{Value, json};
use tapline_insight::{Input, Lost};
use tapline_oapi::Envelope;

use crate::stream::{data, event, found, found_of};

fn navigation(seq: u64, ms: u64, frame: &str, loader: &str, parent: Option<&str>) -> Envelope {
    let mut more = json!({"url": format!("http://h/{loader}"), "frame_id": frame, "loader_id": loader,
        "target_id": "tab", "session_id": "s", "target_type": "page"});
    if let Some(parent) = parent {
        more["parent_frame_id"] = parent.into();
    }
    event(seq, ms, "page_navigation", more)
}

fn of_page(seq: u64, ms: u64, name: &str, nav_seq: u64, more: Value) -> Envelope {
    let mut all = data("tab", more);
    all["nav_seq"] = nav_seq.into();
    all.as_object_mut().unwrap().remove("loader_id");
    event(seq, ms, name, all)
}

fn sent(seq: u64, ms: u64, id: &str, loader: &str, frame: &str, nav_seq: u64) -> Envelope {
    let more = json!({"request_id": id, "url": format!("http://h/{id}"), "method": "GET",
        "loader_id": loader, "frame_id": frame, "nav_seq": nav_seq});
    event(seq, ms, "network_request", data("tab", more))
}

fn shift(seq: u64, seconds: f64, value: f64, by_input: bool) -> Envelope {
    let more = json!({"source_frame_id": "tab", "time": seconds, "duration": 0.0,
        "layout_shift_details": {"value": value, "had_recent_input": by_input}});
    of_page(seq, 100 + seq, "page_layout_shift", 1, more)
}

#[test]
fn requests_belong_to_the_page_that_made_them() {
    let found = found(&[
        sent(1, 0, "A", "A", "tab", 0),
        navigation(2, 10, "tab", "A", None),
        // A frame's document, before anything else named the number of the page.
        sent(3, 20, "F", "F", "frame", 1),
        sent(4, 21, "a.js", "A", "tab", 1),
        navigation(5, 25, "frame", "F", Some("tab")),
        sent(6, 26, "in-frame.js", "F", "frame", 1),
        // The next page's document is asked for by this one.
        sent(7, 30, "B", "B", "tab", 1),
        sent(8, 31, "late.js", "A", "tab", 1),
        navigation(9, 40, "tab", "B", None),
        sent(10, 41, "b.js", "B", "tab", 2),
        // A request of the frame of the page before, reported late.
        sent(11, 42, "beacon", "F", "frame", 1),
    ]);
    let pages: Vec<_> = found
        .requests
        .iter()
        .map(|it| (it.request_id.as_str(), it.navigation))
        .collect();
    assert_eq!(
        pages,
        [
            ("A", Some(2)),
            ("F", Some(2)),
            ("a.js", Some(2)),
            ("in-frame.js", Some(2)),
            ("B", Some(9)),
            ("late.js", Some(2)),
            ("b.js", Some(9)),
            ("beacon", Some(2)),
        ]
    );
    let [a, frame, b] = &found.navigations[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (a.request, frame.request, b.request),
        (Some(1), Some(3), Some(7))
    );
    assert!(a.is_page() && !frame.is_page());
    assert_eq!((a.place.nav_seq, b.place.nav_seq), (Some(1), Some(2)));
    assert_eq!(a.replaced, Some(b.ts));
    assert_eq!(b.ts - b.start_ts, 10_000);
}

#[test]
fn a_document_that_no_tab_went_to_belongs_to_no_page() {
    // A download, or an answer without content.
    let found = found(&[
        navigation(1, 0, "tab", "A", None),
        sent(2, 5, "D", "D", "tab", 1),
    ]);
    assert_eq!(found.requests[0].navigation, None);
}

#[test]
fn milestones_are_of_the_page_that_their_number_says() {
    let found = found(&[
        navigation(1, 0, "tab", "A", None),
        of_page(
            2,
            10,
            "page_dom_content_loaded",
            1,
            json!({"cdp_timestamp": 1.0}),
        ),
        of_page(3, 20, "page_load", 1, json!({"cdp_timestamp": 1.0})),
        navigation(4, 30, "tab", "B", None),
        of_page(5, 40, "page_load", 2, json!({"cdp_timestamp": 2.0})),
        // Late, and of the page before.
        of_page(6, 45, "network_idle", 1, json!({})),
        of_page(7, 50, "page_navigation_settled", 2, json!({})),
        of_page(8, 60, "page_crashed", 2, json!({})),
    ]);
    let [a, b] = &found.navigations[..] else {
        panic!("{found:?}")
    };
    let since =
        |page: &tapline_insight::Navigation, ts: Option<u64>| ts.map(|ts| (ts - page.ts) / 1000);
    assert_eq!(since(a, a.dom_content_loaded), Some(10));
    assert_eq!(
        (since(a, a.load), since(a, a.network_idle)),
        (Some(20), Some(45))
    );
    assert_eq!(
        (since(b, b.load), since(b, b.settled)),
        (Some(10), Some(20))
    );
    assert_eq!(
        (b.dom_content_loaded, since(b, b.crashed)),
        (None, Some(30))
    );
}

#[test]
fn layout_shift_is_the_largest_window() {
    let found = found(&[
        navigation(1, 0, "tab", "A", None),
        shift(2, 10.0, 0.1, false),
        shift(3, 10.5, 0.2, false),
        shift(4, 10.6, 0.9, true),
        // A second without a shift ends the window.
        shift(5, 12.0, 0.25, false),
    ]);
    let page = &found.navigations[0];
    assert!((page.cls - 0.3).abs() < 1e-12, "{}", page.cls);
    assert_eq!(page.layout_shifts, 4);
}

#[test]
fn a_gap_is_known_to_the_page_that_was_there() {
    let (first, second) = (
        navigation(1, 0, "tab", "A", None),
        navigation(9, 9, "tab", "B", None),
    );
    let found = found_of(&[
        Input::Event(&first),
        Input::Lost(Lost {
            count: Some(3),
            ..Lost::unknown(2, 8)
        }),
        Input::Event(&second),
    ]);
    assert_eq!(
        (found.navigations[0].lost, found.navigations[1].lost),
        (3, 0)
    );
}
