//! HAR files that are read again: ours, and those of other programs.

use serde_json::{Value, json};
use tapline_insight::{
    Finding, Format, HarAbout, HarFile, Input, Lost, Outcome, ProblemKind, Sanitizer, Tally, har,
};
use tapline_oapi::Envelope;

use crate::anything::exported;
use crate::stream::{Found, data, event, found_of, recording, request, response};

fn har_of(inputs: &[Input<'_>]) -> String {
    exported(inputs, Format::Har, Sanitizer::off())
}

fn read(text: &str) -> (HarAbout, Found) {
    let har = HarFile::read(text.as_bytes()).unwrap();
    let mut found = Found::default();
    har.findings.into_iter().for_each(|it| found.take(it));
    found.requests.sort_by_key(|it| it.at);
    (har.about, found)
}

/// The entries of a HAR by their seqs, without messages of WebSockets, of which only the number is read.
fn entries(text: &str) -> Vec<Value> {
    let mut file: Value = serde_json::from_str(text).unwrap();
    let entries = file["log"]["entries"].as_array_mut().unwrap();
    for entry in entries.iter_mut() {
        entry["_webSocketMessages"].take();
        entry["_tapline"]["messages_dropped"].take();
    }
    entries.sort_by_key(|it| it["_tapline"]["seq"].as_u64());
    entries.clone()
}

fn pages(text: &str) -> Value {
    let file: Value = serde_json::from_str(text).unwrap();
    file["log"]["pages"].clone()
}

/// Whatever is in a HAR of ours is read: what was read makes the same HAR.
#[test]
fn a_har_of_ours_is_read_without_a_loss() {
    for name in ["tour.ndjson", "events.ndjson"] {
        let events = recording(name);
        let inputs: Vec<_> = events.iter().map(Input::Event).collect();
        let text = har_of(&inputs);
        let (about, found) = read(&text);
        assert!(about.is_ours && !about.sanitized);
        let mut again = Vec::new();
        har::write(
            &found.requests,
            &found.navigations,
            &Tally::default(),
            &mut again,
            Sanitizer::off(),
        )
        .unwrap();
        let again = String::from_utf8(again).unwrap();
        for (first, second) in entries(&text).iter().zip(&entries(&again)) {
            assert_eq!(first, second, "{name}");
        }
        assert_eq!(entries(&text).len(), entries(&again).len());
        assert_eq!(pages(&text), pages(&again), "{name}");
    }
}

/// The same requests with the same sentences, and the problems that are about requests.
#[test]
fn the_requests_and_their_problems_are_those_of_the_events() {
    let events = recording("tour.ndjson");
    let inputs: Vec<_> = events.iter().map(Input::Event).collect();
    let whole = found_of(&inputs);
    let (_, read) = read(&har_of(&inputs));
    let sentences = |found: &Found| -> Vec<_> {
        let mut requests: Vec<_> = found
            .requests
            .iter()
            .map(|it| (it.at, it.sentence(), it.navigation, it.redirects.len()))
            .collect();
        requests.sort();
        requests
    };
    assert_eq!(sentences(&read), sentences(&whole));
    let problems = |found: &Found| -> Vec<_> {
        let of_requests = [
            ProblemKind::HttpError,
            ProblemKind::RequestFailed,
            ProblemKind::RequestBlocked,
        ];
        let problems = found.problems.iter();
        problems
            .filter(|it| of_requests.contains(&it.kind) && it.withdrawn.is_none())
            .map(|it| (it.at, it.text.clone(), it.request, it.navigation))
            .collect()
    };
    assert!(!problems(&whole).is_empty());
    assert_eq!(problems(&read), problems(&whole));
}

#[test]
fn what_was_missing_is_still_missing() {
    let sent = request(1, 0, "1", "http://h/a");
    let late = request(9, 20, "2", "http://h/b");
    let lost = Input::Lost(Lost::unknown(2, 8));
    let (about, found) = read(&har_of(&[Input::Event(&sent), lost, Input::Event(&late)]));
    assert_eq!(about.lost, 7);
    let [first, second] = &found.requests[..] else {
        panic!("{found:?}")
    };
    assert_eq!((first.outcome, first.lost), (Outcome::Unknown, 7));
    assert!(first.sentence().contains("events are missing"));
    assert_eq!(second.outcome, Outcome::Pending);
    assert!(found.problems.is_empty(), "{found:?}");
}

/// Seqs of two runs cannot be compared, and the entries do not say which run they are of.
#[test]
fn requests_of_several_runs_are_in_the_order_of_time() {
    let first = [
        request(5, 0, "1", "http://h/a"),
        response(6, 5, "1", "http://h/a", 200),
    ];
    let second = [
        request(1, 50, "1", "http://h/b"),
        response(2, 55, "1", "http://h/b", 500),
    ];
    let mut inputs: Vec<_> = first.iter().map(Input::Event).collect();
    inputs.push(Input::Restarted);
    inputs.extend(second.iter().map(Input::Event));
    let (about, found) = read(&har_of(&inputs));
    assert_eq!(about.restarts, 1);
    let urls: Vec<_> = found.requests.iter().map(|it| &*it.url).collect();
    assert_eq!(urls, ["http://h/a", "http://h/b"]);
    assert_eq!(found.problems.len(), 1);
}

#[test]
fn a_crashed_page_is_a_problem() {
    let page = |seq, ms, kind| {
        let more = json!({"url": "http://h/", "frame_id": "tab", "cdp_timestamp": 1.0});
        event(seq, ms, kind, data("tab", more))
    };
    let events: [Envelope; 3] = [
        page(1, 0, "page_navigation"),
        page(2, 10, "page_load"),
        page(3, 90, "page_crashed"),
    ];
    let (_, found) = read(&har_of(&events.each_ref().map(Input::Event)));
    let kinds: Vec<_> = found.problems.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [ProblemKind::PageCrashed]);
    assert_eq!(found.navigations[0].load, Some(events[1].event.ts));
    assert!(found.navigations[0].crashed.is_some());
}

/// As browsers write it: no ids, times with an offset, -1 and null for what is not known.
#[test]
fn a_har_of_another_program_is_read() {
    let entry = |second: u32, url: &str, status: i64| {
        json!({"startedDateTime": format!("2026-11-24T10:00:{second:02}.500+01:00"), "time": 12.5, "pageref": "page_1",
            "request": {"method": "GET", "url": url, "httpVersion": "HTTP/2", "headers": [{"name": "a", "value": "1"}],
                "cookies": [], "queryString": [], "headersSize": -1, "bodySize": 0},
            "response": {"status": status, "statusText": "", "headers": [], "cookies": [], "redirectURL": "",
                "content": {"size": 3, "mimeType": "text/plain", "text": "abc"}, "headersSize": -1, "bodySize": 3,
                "_error": if status == 0 { json!("net::ERR_FAILED") } else { Value::Null }},
            "timings": {"blocked": -1, "dns": null, "wait": 10, "receive": 2.5}, "cache": {}})
    };
    let file = json!({"log": {"version": "1.2", "creator": {"name": "WebInspector", "version": "537.36"},
        "pages": [{"startedDateTime": "2026-11-24T10:00:00.000+01:00", "id": "page_1", "title": "http://h/",
            "pageTimings": {"onContentLoad": 600.0, "onLoad": null}}],
        "entries": [entry(2, "http://h/b.js", 404), entry(0, "http://h/", 200), entry(3, "http://x/", 0)]}});
    let (about, found) = read(&format!("\u{feff}{file}"));
    assert_eq!((about.is_ours, &*about.creator), (false, "WebInspector"));
    let seen: Vec<_> = found
        .requests
        .iter()
        .map(|it| (it.sentence(), it.navigation))
        .collect();
    assert_eq!(
        seen,
        [
            ("GET http://h/ answered 200 after 12 ms".to_owned(), Some(1)),
            (
                "GET http://h/b.js answered 404 after 12 ms".to_owned(),
                Some(1)
            ),
            (
                "GET http://x/ failed: net::ERR_FAILED after 12 ms".to_owned(),
                Some(1)
            ),
        ]
    );
    let [first, ..] = &found.requests[..] else {
        panic!()
    };
    assert_eq!(first.ts, 1_795_510_800_500_000);
    assert_eq!(first.timing.as_ref().unwrap().wait, Some(10.0));
    assert_eq!(
        first.response.as_ref().unwrap().body.as_deref(),
        Some("abc")
    );
    assert_eq!(found.problems.len(), 2);
    assert_eq!(found.navigations[0].load, None);
    let parsed = found.navigations[0].dom_content_loaded.unwrap();
    assert_eq!(parsed - found.navigations[0].start_ts, 600_000);
}

#[test]
fn what_is_no_har_is_an_error() {
    for (text, begins) in [
        ("", false),
        ("[]", false),
        (r#"{"seq":1}"#, false),
        (r#"{"log":{}}"#, true),
        (r#"{"log":{"entries":[{}]}}"#, true),
        (r#"{"log":{"entries":["#, true),
    ] {
        assert_eq!(HarFile::begins(text.as_bytes()), begins, "{text}");
        assert!(HarFile::read(text.as_bytes()).is_err(), "{text}");
    }
    let empty = HarFile::read(br#"{"log":{"entries":[]}}"#).unwrap();
    assert_eq!(empty.findings, []);
}

#[test]
fn a_part_of_the_time_has_what_was_there() {
    let events = [
        request(1, 0, "1", "http://h/a"),
        response(2, 5, "1", "http://h/a", 404),
        request(3, 1000, "2", "http://h/b"),
        response(4, 1005, "2", "http://h/b", 404),
    ];
    let mut har = HarFile::read(har_of(&events.each_ref().map(Input::Event)).as_bytes()).unwrap();
    har.retain(Some(events[2].event.ts), None);
    let urls: Vec<_> = har
        .findings
        .iter()
        .map(|it| match it {
            Finding::Request(it) => &*it.url,
            Finding::Problem(it) => &*it.text,
            Finding::Navigation(it) => &*it.url,
        })
        .collect();
    assert_eq!(har.requests(), 1);
    assert!(
        urls.iter().all(|it| it.contains("/b")) && urls.len() == 2,
        "{urls:?}"
    );
}
