//! `GET /telemetry/requests`, `/telemetry/navigations` and `/telemetry/problems`. How events are joined is tested with
//! `tapline-insight`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, get, request};
use crate::server::{Server, Setup, running};

const KINDS: [&str; 3] = ["requests", "navigations", "problems"];

/// The events that a browser reported once, one JSON a line.
fn recording() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cdp/tests/golden/tour.ndjson");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

async fn publish(server: &Server, lines: &[String]) {
    let answer = server
        .call(&request("POST", "/telemetry/events").lines(lines.join("\n")))
        .await;
    assert_eq!(answer.json()["published"], lines.len(), "{answer:?}");
}

/// Everything is captured, and the recording was published.
async fn recorded() -> Server {
    let server = running().await;
    publish(&server, &recording()).await;
    server
}

async fn ask(server: &Server, target: &str) -> Answer {
    let answer = server.call(&get(&format!("/telemetry/{target}"))).await;
    assert_eq!(answer.status(), 200, "{target}: {answer:?}");
    assert_eq!(answer.header("x-complete"), Some("true"), "{target}");
    answer
}

fn items(answer: &Answer) -> Vec<Value> {
    answer.json().as_array().unwrap().clone()
}

async fn refused(server: &Server, target: &str, part: &str) {
    let answer = server.call(&get(&format!("/telemetry/{target}"))).await;
    assert_eq!(answer.status(), 400, "{target}");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(part), "{target}: {message}");
}

/// What identifies an item, and its place in the list.
fn key(item: &Value) -> (u64, u64, String) {
    let number = |name: &str| item[name].as_u64().unwrap_or(0);
    let kind = item["kind"].as_str().unwrap_or("").to_owned();
    (number("run"), number("seq"), kind)
}

/// All items, over as many pages as it takes, and the cursor that counts.
async fn all(server: &Server, kind: &str, query: &str) -> (Vec<Value>, String) {
    let (mut all, mut cursor, mut offset) = (Vec::new(), None, String::new());
    loop {
        let answer = ask(server, &format!("{kind}?limit=7&{query}{offset}")).await;
        let page = items(&answer);
        // Several problems may be at one place.
        assert!(
            page.len() <= 7 || kind == "problems",
            "{kind}: {}",
            page.len()
        );
        all.extend(page);
        cursor = cursor.or(answer.header("x-cursor").map(str::to_owned));
        match answer.header("x-next-offset") {
            Some(next) => offset = format!("&offset={next}"),
            None => break,
        }
    }
    (all, cursor.unwrap())
}

#[tokio::test]
async fn a_request_says_what_became_of_it_and_who_asks_finds_why() {
    let server = recorded().await;
    let missing = ask(&server, "requests?status=404&contains=NONE.JS").await;
    let [request] = &items(&missing)[..] else {
        panic!("{}", missing.text());
    };
    assert_eq!(request["outcome"], "answered");
    assert_eq!(request["response"]["status"], 404);
    let sentence = request["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("/none.js answered 404 Not Found after 73 ms"),
        "{sentence}"
    );
    assert_eq!(request["timing"]["wait"], 1.879);
    assert!(
        request.get("headers").is_none(),
        "only where they are asked for"
    );

    let seq = &request["seq"];
    let detail = ask_one(&server, &seq.to_string()).await;
    assert_eq!(detail["sentence"], request["sentence"]);
    let headers = detail["headers"].as_object().unwrap();
    assert!(headers.contains_key("User-Agent"), "{headers:?}");
    let problems = detail["problems"].as_array().unwrap();
    assert!(
        problems.iter().any(|it| it["kind"] == "http_error"),
        "{problems:?}"
    );
    assert!(problems.iter().all(|it| it["request"] == *seq));
    let listed = items(&ask(&server, "problems?kind=http_error,console_error").await);
    assert!(problems.iter().all(|it| listed.contains(it)));
}

async fn ask_one(server: &Server, id: &str) -> Value {
    let answer = server
        .call(&get(&format!("/telemetry/requests/{id}")))
        .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn filters_select_what_they_say() {
    let server = recorded().await;
    let (all, _) = all(&server, "requests", "").await;
    assert!(30 < all.len());
    let status = |it: &Value| it["response"]["status"].as_u64().unwrap_or(0);
    type Fits<'a> = &'a dyn Fn(&Value) -> bool;
    let page = all[0]["navigation"].clone();
    let target = all[0]["target_id"].clone();
    let cases: [(String, Fits<'_>); 9] = [
        ("status=4xx".into(), &|it| status(it) / 100 == 4),
        ("status=404,200".into(), &|it| {
            [404, 200].contains(&status(it))
        }),
        ("status=404&status=failed".into(), &|it| {
            status(it) == 404 || it["outcome"] == "failed"
        }),
        ("status=blocked".into(), &|it| {
            let failure = &it["failure"];
            failure.get("blocked_reason").is_some() || failure.get("cors_error").is_some()
        }),
        ("status=pending".into(), &|it| it["outcome"] == "pending"),
        ("resource_type=script,stylesheet".into(), &|it| {
            it["resource_type"] == "Script" || it["resource_type"] == "Stylesheet"
        }),
        (format!("navigation={page}"), &|it| it["navigation"] == page),
        (format!("target_id={}", target.as_str().unwrap()), &|it| {
            it["target_id"] == target
        }),
        ("contains=data.json".into(), &|it| {
            let hops = it["redirects"].as_array().into_iter().flatten();
            hops.chain([it])
                .any(|hop| hop["url"].as_str().unwrap().contains("data.json"))
        }),
    ];
    for (query, fits) in cases {
        let found = items(&ask(&server, &format!("requests?limit=1000&{query}")).await);
        let expected: Vec<_> = all.iter().filter(|it| fits(it)).cloned().collect();
        assert_eq!(found, expected, "{query}");
    }
}

/// Who follows step by step, who asks once, who asks for a range, and who asks another server have the same.
#[tokio::test]
async fn what_changed_adds_up_to_the_whole_and_both_ways_of_reading_agree() {
    let server = running().await;
    let mut known: BTreeMap<&str, BTreeMap<_, Value>> = BTreeMap::new();
    let mut cursors: BTreeMap<&str, String> = BTreeMap::new();
    let recording = recording();
    for lines in recording.chunks(9) {
        publish(&server, lines).await;
        for kind in KINDS {
            let after = cursors.get(kind).map(|cursor| format!("after={cursor}"));
            let (changed, cursor) = all(&server, kind, &after.unwrap_or_default()).await;
            cursors.insert(kind, cursor);
            let known = known.entry(kind).or_default();
            known.extend(changed.into_iter().map(|it| (key(&it), it)));
        }
    }
    let other = recorded().await;
    for kind in KINDS {
        let followed: Vec<_> = known[kind].values().cloned().collect();
        assert!(!followed.is_empty());
        let (whole, _) = all(&server, kind, "").await;
        assert_eq!(followed, whole, "{kind}");
        let (at_once, _) = all(&other, kind, "").await;
        assert_eq!(at_once, whole, "{kind} of another server");
        // A range that begins before everything is read anew.
        let (range, _) = all(&server, kind, "since=2020-01-01T00:00:00Z").await;
        assert_eq!(range, whole, "{kind} of a range");
        let cursor = &cursors[kind];
        let (news, again) = all(&server, kind, &format!("after={cursor}")).await;
        assert_eq!(
            (news, &again),
            (Vec::new(), cursor),
            "{kind}: nothing has changed"
        );
    }
}

#[tokio::test]
async fn a_range_has_what_was_there_in_its_time() {
    let server = recorded().await;
    let (all, _) = all(&server, "requests", "").await;
    let ts = |it: &Value| it["ts"].as_u64().unwrap();
    let middle = ts(&all[all.len() / 2]);
    let since = moment(middle);
    let until = moment(middle + 2_000_000);
    let found = items(
        &ask(
            &server,
            &format!("requests?limit=1000&since={since}&until={until}"),
        )
        .await,
    );
    let expected: Vec<_> = all
        .iter()
        .filter(|it| {
            let ended = it["duration_ms"]
                .as_f64()
                .map(|ms| ts(it) + (ms * 1000.0).round() as u64);
            let is_open = ["pending", "open"].contains(&it["outcome"].as_str().unwrap());
            ts(it) <= middle + 2_000_000 && (is_open || middle <= ended.unwrap_or_else(|| ts(it)))
        })
        .cloned()
        .collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(found, expected);
}

fn moment(micros: u64) -> String {
    let micros = i64::try_from(micros).unwrap();
    jiff::Timestamp::from_microsecond(micros)
        .unwrap()
        .to_string()
}

/// What was evicted between two calls is missing in both: its count, what it may have ended, and as a problem.
#[tokio::test]
async fn what_is_evicted_between_two_calls_is_a_problem_and_ends_nothing() {
    let server = Setup::default().events(64).running().await;
    let sent = json!({"type": "network_request", "data": {"request_id": "1", "url": "http://site.example/",
        "method": "GET", "document_url": "", "headers": {}, "initiator_type": "other"}});
    publish(&server, &[sent.to_string()]).await;
    let first = ask(&server, "requests").await;
    assert_eq!(items(&first)[0]["outcome"], "pending");
    assert_eq!(first.header("x-lost"), Some("0"));
    let cursor = first.header("x-cursor").unwrap().to_owned();

    server.fill_to(200);
    let then = ask(&server, &format!("requests?after={cursor}")).await;
    assert_eq!(then.header("x-lost"), Some("135"));
    let [request] = &items(&then)[..] else {
        panic!("{}", then.text());
    };
    assert_eq!(
        (&request["outcome"], &request["unknown"]),
        (&json!("unknown"), &json!("events_lost"))
    );
    let problems = items(&ask(&server, "problems?kind=events_lost").await);
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (&problems[0]["seq"], &problems[0]["lost"]),
        (&json!(2), &json!(135))
    );
}

/// What was evicted meanwhile is only in what is kept.
#[tokio::test]
async fn what_was_joined_is_dropped_a_minute_after_the_last_call() {
    let server = Setup::default().events(64).running().await;
    let sent = json!({"type": "network_request", "data": {"request_id": "1", "url": "http://site.example/",
        "method": "GET", "document_url": "", "headers": {}, "initiator_type": "other"}});
    publish(&server, &[sent.to_string()]).await;
    assert_eq!(items(&ask(&server, "requests").await).len(), 1);
    server.fill_to(200);
    for (seconds, there) in [(59, 1), (59, 1), (61, 0)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        let requests = ask(&server, "requests").await;
        assert_eq!(items(&requests).len(), there, "after {seconds} s");
    }
}

#[tokio::test]
async fn the_newest_items_come_first_where_that_is_asked_for() {
    let server = recorded().await;
    for kind in KINDS {
        let (oldest_first, cursor) = all(&server, kind, "").await;
        let (mut newest_first, same) = all(&server, kind, "order=desc").await;
        newest_first.sort_by_key(key);
        assert_eq!(newest_first.len(), oldest_first.len(), "{kind}");
        let mut sorted = oldest_first.clone();
        sorted.sort_by_key(key);
        assert_eq!((&newest_first, same), (&sorted, cursor), "{kind}");
        let first = items(&ask(&server, &format!("{kind}?limit=1&order=desc")).await);
        let last = oldest_first.last().unwrap();
        assert_eq!(first[0]["seq"], last["seq"], "{kind}");
    }
    refused(&server, "requests?order=newest", "`order`").await;
    refused(&server, "requests?order=asc&order=asc", "given twice").await;
}

#[tokio::test]
async fn a_wrong_query_is_named_and_a_cursor_of_another_run_is_a_conflict() {
    let server = recorded().await;
    refused(
        &server,
        "requests?status=4x",
        "`status`: `4x` is not a status such as `404`",
    )
    .await;
    refused(&server, "requests?headers=1", "`headers`: is neither").await;
    refused(
        &server,
        "requests?navigation=x",
        "`navigation`: is not the seq",
    )
    .await;
    refused(
        &server,
        "requests?limit=1001",
        "`limit`: is not a whole number from 1 to 1000",
    )
    .await;
    refused(&server, "requests?after=x", "`after`").await;
    refused(
        &server,
        "requests?since=x",
        "`since`: `x` is neither RFC 3339",
    )
    .await;
    refused(
        &server,
        "navigations?status=404",
        "`status`: unknown; known are `since`",
    )
    .await;
    refused(
        &server,
        "problems?kind=bad",
        "`kind`: `bad` is not one of `request_failed`",
    )
    .await;
    refused(&server, "problems?limit=1&limit=1", "`limit`: given twice").await;
    refused(&server, "requests/4?headers=true", "`headers`: unknown").await;
    let stale = server
        .call(&get("/telemetry/requests?after=1-0123456789abcdef"))
        .await;
    assert_eq!(stale.status(), 409);
    assert_eq!(stale.header("x-epoch"), Some(&*server.epoch()));
    let wrong = server.call(&get("/telemetry/requests/x")).await;
    let expected = "path: `x` is not the seq of a request, such as `17`";
    assert_eq!(
        (wrong.status(), &wrong.json()["message"]),
        (400, &json!(expected))
    );
    for id in ["3", "999999", "1-0123456789abcdef"] {
        let none = server
            .call(&get(&format!("/telemetry/requests/{id}")))
            .await;
        assert_eq!(none.status(), 404, "{id}");
    }
}

#[tokio::test]
async fn without_events_the_lists_are_empty() {
    let server = running().await;
    for kind in KINDS {
        let none = ask(&server, kind).await;
        assert_eq!(none.text(), "[]");
        assert_eq!(none.header("x-has-more"), Some("false"));
        let cursor = none.header("x-cursor").unwrap().to_owned();
        assert_eq!(cursor, format!("0-{}", server.epoch()));
        let news = ask(&server, &format!("{kind}?after={cursor}")).await;
        assert_eq!(news.text(), "[]");
    }
}
