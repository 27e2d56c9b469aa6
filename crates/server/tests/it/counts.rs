//! `GET /telemetry/counts`, and pages that look for a text.

use serde_json::{Value, json};

use crate::http::{get, request};
use crate::server::{Server, Setup, running};

const BEGAN: u64 = 1_790_000_000_000_000;

/// `n` events, one a second: every fourth is of the network, and every tenth has a text of its own.
async fn fill(server: &Server, n: u64) {
    let lines: Vec<String> = (0..n)
        .map(|n| {
            let kind = if n % 4 == 0 {
                "network_request"
            } else {
                "console_log"
            };
            let text = if n % 10 == 0 { "Needle" } else { "hay" };
            let ts = BEGAN + n * 1_000_000;
            json!({"type": kind, "ts": ts, "data": {"text": text}}).to_string()
        })
        .collect();
    for lines in lines.chunks(5000) {
        let answer = server
            .call(&request("POST", "/telemetry/events").lines(lines.join("\n")))
            .await;
        assert_eq!(answer.json()["published"], lines.len(), "{answer:?}");
    }
}

async fn counts(server: &Server, query: &str) -> Value {
    let answer = server
        .call(&get(&format!("/telemetry/counts?{query}")))
        .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn events_are_counted_over_time_and_the_filter_says_what_it_hides() {
    let server = running().await;
    fill(&server, 100).await;
    let all = counts(&server, "buckets=10").await;
    assert_eq!(
        (&all["since"], &all["until"]),
        (&json!(BEGAN), &json!(BEGAN + 99_000_000))
    );
    assert_eq!(
        (&all["events"], &all["matching"]),
        (&json!(100), &json!(100))
    );
    assert_eq!(all["by_category"], json!({"network": 25, "console": 75}));
    assert_eq!(
        all["by_type"],
        json!({"network_request": 25, "console_log": 75})
    );
    assert_eq!((&all["lost"], &all["complete"]), (&json!(0), &json!(true)));
    let buckets = all["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 10);
    let first = json!({"ts": BEGAN, "by_category": {"network": 3, "console": 7}, "lost": 0});
    assert_eq!(buckets[0], first);

    let some = counts(&server, "buckets=10&category=network&contains=NEEDLE").await;
    // Every twentieth is both.
    assert_eq!(
        (&some["events"], &some["matching"]),
        (&json!(100), &json!(5))
    );
    assert_eq!(
        some["by_category"], all["by_category"],
        "whatever the filter"
    );
    let matching: u64 = some["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|bucket| bucket["by_category"]["network"].as_u64())
        .sum();
    assert_eq!(matching, 5);
    let none = counts(&server, "type=page_*").await;
    assert_eq!(
        (&none["events"], &none["matching"]),
        (&json!(100), &json!(0))
    );
}

#[tokio::test]
async fn a_range_is_counted_by_its_times() {
    let server = running().await;
    fill(&server, 100).await;
    let at = |seconds: u64| {
        let micros = i64::try_from(BEGAN + seconds * 1_000_000).unwrap();
        jiff::Timestamp::from_microsecond(micros)
            .unwrap()
            .to_string()
    };
    let query = format!("since={}&until={}&buckets=20", at(20), at(39));
    let range = counts(&server, &query).await;
    assert_eq!((&range["events"], &range["lost"]), (&json!(20), &json!(0)));
    assert_eq!(range["buckets"].as_array().unwrap().len(), 20);
    for bucket in range["buckets"].as_array().unwrap() {
        let sum: u64 = bucket["by_category"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(sum, 1, "{bucket}");
    }
}

#[tokio::test]
async fn what_was_evicted_is_counted_where_it_is_asked_for() {
    let server = Setup::default().events(64).running().await;
    fill(&server, 100).await;
    let memory = counts(&server, "").await;
    assert_eq!(
        (&memory["events"], &memory["lost"]),
        (&json!(64), &json!(0))
    );
    let all = counts(&server, "since=2020-01-01T00:00:00Z&buckets=1000").await;
    assert_eq!((&all["events"], &all["lost"]), (&json!(64), &json!(36)));
    let gaps = json!([{"from": 1, "to": 36, "lost": 36, "until": BEGAN + 36_000_000}]);
    assert_eq!(all["gaps"], gaps);
    assert_eq!(all["buckets"][0]["lost"], 36);
}

#[tokio::test]
async fn without_an_event_there_is_nothing_to_divide() {
    let server = running().await;
    let none = counts(&server, "").await;
    assert_eq!((&none["events"], &none["buckets"]), (&json!(0), &json!([])));
    assert_eq!(none["complete"], true);
}

/// A tab and a status are looked for in the data: what they hide is counted, and is not on a page.
#[tokio::test]
async fn events_of_a_tab_and_with_a_status_are_counted_and_listed() {
    let server = running().await;
    let lines: Vec<String> = (0..60)
        .map(|n| {
            let target = if n % 3 == 0 { "A" } else { "B" };
            let status = [200, 404, 500][n % 3];
            let data = json!({"target_id": target, "status": status, "request_id": n.to_string(),
                "method": "GET", "headers": {}, "body": "\"status\":404"});
            json!({"type": "network_response", "ts": BEGAN + n as u64, "data": data}).to_string()
        })
        .collect();
    let publish = request("POST", "/telemetry/events").lines(lines.join("\n"));
    assert_eq!(server.call(&publish).await.json()["published"], 60);
    for (query, matching) in [
        ("target_id=A", 20),
        ("target_id=C", 0),
        ("status=404", 20),
        ("status=4xx,5xx", 40),
        ("status=error&target_id=B", 40),
        ("status=error&target_id=A", 0),
        ("status=4xx&status=200", 40),
    ] {
        let counted = counts(&server, query).await;
        assert_eq!(
            (&counted["events"], &counted["matching"]),
            (&json!(60), &json!(matching)),
            "{query}"
        );
        let page = server
            .call(&get(&format!("/telemetry/events?{query}&limit=100")))
            .await;
        assert_eq!(page.json().as_array().unwrap().len(), matching, "{query}");
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let server = running().await;
    for (query, part) in [
        (
            "buckets=0",
            "`buckets`: is not a whole number from 1 to 1000",
        ),
        ("buckets=1001", "`buckets`: is not"),
        ("buckets=5&buckets=5", "`buckets`: is given twice"),
        ("limit=3", "`limit`: counts have no pages"),
        ("contains=", "`contains`: is empty"),
        ("category=pages", "unknown category `pages`"),
        ("status=pending", "`pending` is not a status"),
        ("target_id=", "`target_id`: is empty"),
        ("x=1", "`x`: unknown"),
    ] {
        let answer = server
            .call(&get(&format!("/telemetry/counts?{query}")))
            .await;
        assert_eq!(answer.status(), 400, "{query}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{query}: {message}");
    }
}

/// The server reads as many pages of the backend as make one.
#[tokio::test]
async fn a_page_for_a_text_is_full_although_the_text_is_rare() {
    let server = Setup::default().events(16_384).running().await;
    fill(&server, 10_000).await;
    let page = server
        .call(&get("/telemetry/events?contains=needle&limit=900"))
        .await;
    let seqs: Vec<u64> = page
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|envelope| envelope["seq"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (0..900).map(|n| n * 10 + 1).collect();
    assert_eq!(seqs, expected);
    assert_eq!(page.header("x-has-more"), Some("true"));
    let rest = server
        .call(&get(
            "/telemetry/events?contains=needle&limit=900&offset=8991",
        ))
        .await;
    assert_eq!(rest.json().as_array().unwrap().len(), 100);
    assert_eq!(rest.header("x-has-more"), Some("false"));
    let none = server
        .call(&get("/telemetry/events?contains=no+such+text&order=desc"))
        .await;
    assert_eq!(
        (none.text(), none.header("x-has-more")),
        ("[]", Some("false"))
    );
}
