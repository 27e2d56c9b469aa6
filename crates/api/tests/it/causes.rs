//! Which events follow from a command, and which do not.

use serde_json::{Value, json};
use tapline_api::{Answered, Cause, Causes, Effect, Trace};
use tapline_oapi::{Event, KnownType};

fn event(known: KnownType, data: &Value) -> Event {
    let data = serde_json::value::to_raw_value(data).unwrap();
    Event::known(known, Some(data))
}

/// The seq of the command that such an event follows from.
#[allow(clippy::needless_pass_by_value, reason = "the calls are shorter")]
fn cause(causes: &Causes, known: KnownType, data: Value) -> Option<u64> {
    causes.of(&event(known, &data)).map(|cause| cause.seq)
}

fn expect(causes: &Causes, seq: u64, effect: Effect) {
    causes.expect(Cause { seq, trace: None }, effect);
}

fn navigation(url: Option<&str>) -> Effect {
    Effect::Navigation {
        target: "T".to_owned(),
        frame: None,
        url: url.map(str::to_owned),
    }
}

fn document(url: &str, loader: &str) -> Value {
    json!({"target_id": "T", "frame_id": "T", "loader_id": loader, "request_id": loader,
        "resource_type": "Document", "url": url})
}

fn navigated(url: &str, loader: &str) -> Value {
    json!({"target_id": "T", "frame_id": "T", "loader_id": loader, "url": url})
}

#[test]
fn a_document_follows_from_the_navigation_to_its_url() {
    use KnownType::*;
    let causes = Causes::default();
    expect(&causes, 7, navigation(Some("http://h/")));
    // Another URL, another frame, another target, a resource of the page.
    assert_eq!(
        cause(&causes, NetworkRequest, document("http://h/2", "L0")),
        None
    );
    let other = |key: &str, value: &str| {
        let mut data = document("http://h/", "L0");
        data[key] = value.into();
        data
    };
    assert_eq!(cause(&causes, NetworkRequest, other("frame_id", "F")), None);
    assert_eq!(
        cause(&causes, NetworkRequest, other("target_id", "T2")),
        None
    );
    assert_eq!(
        cause(&causes, NetworkRequest, other("resource_type", "Image")),
        None
    );

    assert_eq!(
        cause(&causes, NetworkRequest, document("http://h/", "L")),
        Some(7)
    );
    assert_eq!(
        cause(&causes, PageNavigation, navigated("http://h/moved", "L")),
        Some(7)
    );
    assert_eq!(
        cause(&causes, NetworkResponse, document("http://h/moved", "L")),
        Some(7)
    );
    assert_eq!(
        cause(&causes, PageLoad, navigated("http://h/moved", "L")),
        Some(7)
    );
    // A resource of the document, and the next document.
    let mut image = document("http://h/a.png", "L");
    image["request_id"] = "1".into();
    assert_eq!(cause(&causes, NetworkRequest, image), None);
    assert_eq!(
        cause(&causes, PageNavigation, navigated("http://h/", "L2")),
        None
    );
    assert_eq!(
        cause(&causes, ConsoleLog, navigated("http://h/", "L")),
        None
    );
}

#[test]
fn an_answer_says_what_follows() {
    use KnownType::*;
    let causes = Causes::default();
    expect(&causes, 1, navigation(Some("http://h/#a")));
    causes.answered(1, Answered::Nothing);
    assert_eq!(
        cause(&causes, PageNavigation, navigated("http://h/#a", "L")),
        None
    );

    // The URL of the event is another one, but it is the document of the answer.
    expect(&causes, 2, navigation(Some("http://h/a b")));
    causes.answered(2, Answered::Loader("L".to_owned()));
    assert_eq!(
        cause(&causes, PageNavigation, navigated("http://h/a%20b", "L")),
        Some(2)
    );

    let tab = |url: &str| Effect::Tab {
        url: url.to_owned(),
    };
    expect(&causes, 3, tab("http://h/"));
    causes.answered(3, Answered::Target("T".to_owned()));
    let opened = |id: &str, url: &str| json!({"target_id": id, "target_type": "page", "url": url});
    assert_eq!(
        cause(&causes, PageTabOpened, opened("T2", "about:blank")),
        None
    );
    assert_eq!(
        cause(&causes, PageTabOpened, opened("T", "about:blank")),
        Some(3)
    );
    assert_eq!(
        cause(&causes, NetworkRequest, document("http://h/", "L3")),
        Some(3)
    );

    // It may be reported before the answer, and is not one that a page has opened.
    expect(&causes, 4, tab("about:blank"));
    let mut popup = opened("T4", "about:blank");
    popup["opener_id"] = "T".into();
    assert_eq!(cause(&causes, PageTabOpened, popup), None);
    assert_eq!(cause(&causes, PageTabOpened, opened("T4", "")), Some(4));
    assert_eq!(cause(&causes, PageTabOpened, opened("T5", "")), None);
}

#[test]
fn an_input_has_one_effect_in_its_target_where_it_was() {
    use KnownType::*;
    let causes = Causes::default();
    let click = |target: &str, x: f64| Effect::Click {
        target: target.to_owned(),
        x,
        y: 20.0,
    };
    let clicked = |x: i64| json!({"target_id": "T", "x": x, "y": 20});
    expect(&causes, 1, click("T", 9.6));
    assert_eq!(cause(&causes, InteractionClick, clicked(12)), None);
    assert_eq!(cause(&causes, InteractionClick, clicked(10)), Some(1));
    assert_eq!(
        cause(&causes, InteractionClick, clicked(10)),
        None,
        "it has had its effect"
    );
    expect(&causes, 2, click("T2", 10.0));
    assert_eq!(cause(&causes, InteractionClick, clicked(10)), None);

    let key = |key: &str| Effect::Key {
        target: "T".to_owned(),
        key: key.to_owned(),
    };
    expect(&causes, 3, key("a"));
    expect(&causes, 4, key("Enter"));
    let pressed = json!({"target_id": "T", "key": "Enter"});
    assert_eq!(cause(&causes, InteractionKey, pressed), Some(4));
}

#[test]
fn an_effect_is_not_expected_for_ever_nor_without_a_bound() {
    use KnownType::InteractionScrollSettled as Scroll;
    let causes = Causes::default();
    let scroll = |target: u64| Effect::Scroll {
        target: target.to_string(),
    };
    for seq in 0..300 {
        expect(&causes, seq, scroll(seq));
    }
    let scrolled = |target: u64| json!({"target_id": target.to_string()});
    assert_eq!(
        cause(&causes, Scroll, scrolled(43)),
        None,
        "the oldest are given up"
    );
    assert_eq!(cause(&causes, Scroll, scrolled(44)), Some(44));
    let started = std::time::Instant::now();
    while cause(&causes, Scroll, scrolled(1)).is_some() || started.elapsed().as_millis() < 2_100 {
        std::thread::yield_now();
    }
    assert_eq!(
        cause(&causes, Scroll, scrolled(299)),
        None,
        "the time is over"
    );
}

#[test]
fn an_event_is_marked_with_its_cause_and_its_trace() {
    let trace = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let causes = Causes::default();
    causes.expect(Cause { seq: 9, trace }, navigation(None));
    let mut marked = event(KnownType::PageNavigation, &navigated("http://h/", "L"));
    causes.mark(&mut marked);
    let metadata = serde_json::to_value(&marked.source.metadata).unwrap();
    let expected = json!({"caused_by": "9", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7"});
    assert_eq!(metadata, expected);
}
