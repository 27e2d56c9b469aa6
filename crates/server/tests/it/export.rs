//! `GET /telemetry/export`: a file. What the formats hold is tested with `tapline-insight`.

use serde_json::{Value, json};

use crate::http::{Connection, get, in_time, request};
use crate::server::{Server, Setup, running};
use tapline_api::Backend as _;
use tapline_oapi::KnownType;

/// A request with its answer, as the browser source reports it.
async fn visit(server: &Server, n: usize) {
    let context =
        json!({"target_id": "T", "target_type": "page", "cdp_session_id": "S", "session_id": "S"});
    let event = |kind: &str, ts: usize, more: Value| {
        let mut data = context.clone();
        data.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"type": kind, "ts": ts, "data": data, "source": {"kind": "cdp"}}).to_string()
    };
    let id = format!("r{n}");
    let url = format!("http://site.example/{n}?token=hush");
    let at = 1_790_000_000_000_000 + n * 1000;
    let lines = [
        event(
            "network_request",
            at,
            json!({"request_id": id, "url": url, "method": "GET",
            "headers": {"cookie": "secret=1"}, "resource_type": "Fetch"}),
        ),
        event(
            "network_response",
            at + 100,
            json!({"request_id": id, "url": url, "status": 404,
            "headers": {}, "mime_type": "text/plain"}),
        ),
    ];
    let body = lines.join("\n");
    let answer = server
        .call(&request("POST", "/telemetry/events").lines(body))
        .await;
    assert_eq!(answer.json()["published"], 2, "{answer:?}");
}

#[tokio::test]
async fn every_format_is_a_file_of_what_is_retained() {
    let server = running().await;
    for n in 0..3 {
        visit(&server, n).await;
    }
    let har = server.call(&get("/telemetry/export?format=har")).await;
    assert_eq!(har.status(), 200);
    assert_eq!(har.header("content-type"), Some("application/json"));
    let named = "attachment; filename=\"tapline.har\"";
    assert_eq!(har.header("content-disposition"), Some(named));
    let entries = har.json()["log"]["entries"].clone();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert_eq!(entries[0]["response"]["status"], 404);
    assert!(!har.text().contains("secret=1"), "secrets are redacted");
    let har = server
        .call(&get("/telemetry/export?format=har&with_secrets=true"))
        .await;
    assert!(har.text().contains("secret=1"));

    let lines = server
        .call(&get(
            "/telemetry/export?format=ndjson&after=2&category=network",
        ))
        .await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let seqs: Vec<u64> = lines
        .text()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(seqs, [3, 4, 5, 6]);
    let trace = server.call(&get("/telemetry/export?format=trace")).await;
    assert!(trace.json()["traceEvents"].as_array().unwrap().len() > 3);
}

#[tokio::test]
async fn a_large_export_is_written_in_parts_while_events_arrive() {
    let server = Setup::default().events(32_768).running().await;
    server.fill_to(20_000);
    let more = async {
        loop {
            server.publish(KnownType::ConsoleLog);
            tokio::task::yield_now().await;
        }
    };
    let export = get("/telemetry/export?format=ndjson");
    let lines = tokio::select! {
        lines = server.call(&export) => lines,
        () = more => unreachable!("it never ends"),
    };
    let lines: Vec<&str> = lines.text().lines().collect();
    // Up to the head of the moment in which it began.
    let head = server.api.retained().head;
    assert!(
        20_000 <= lines.len() && (lines.len() as u64) < head,
        "{}",
        lines.len()
    );
    for (n, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{{\"seq\":{},", n + 1)), "{line}");
    }
}

/// The memory is overrun while it is exported: what is missing is in the file.
#[tokio::test]
async fn what_is_lost_on_the_way_is_in_the_file() {
    let server = Setup::default().events(4096).running().await;
    server.fill_to(10_000);
    let flood = server.flood();
    let har = server
        .call(&get("/telemetry/export?format=har&after=1"))
        .await;
    drop(flood);
    assert_eq!(har.status(), 200);
    let account = har.json()["log"]["_tapline"].clone();
    let (events, lost) = (
        account["events"].as_u64().unwrap(),
        account["lost"].as_u64().unwrap(),
    );
    let restarts = account["restarts"].as_u64();
    assert_eq!(restarts, Some(0), "{account}");
    // All up to the head of the moment in which it began, which was 10,000 at least.
    assert!(0 < lost && 9_999 <= events + lost, "{account}");
    assert_eq!(account["repeated"], 0, "{account}");
}

#[tokio::test]
async fn a_query_that_is_wrong_is_answered_before_the_file_begins() {
    let server = running().await;
    for (query, message) in [
        (
            "",
            "`format`: is missing; it is one of har, html, ndjson and trace",
        ),
        ("format=pdf", "`format`: `pdf` is not a format"),
        ("format=har&format=har", "given twice"),
        ("format=har&limit=5", "`limit`: an export has no pages"),
        ("format=har&with_secrets=1", "`with_secrets`"),
        ("format=har&colour=red", "`colour`"),
        ("format=har&since=x", "`since`"),
    ] {
        let answer = server
            .call(&get(&format!("/telemetry/export?{query}")))
            .await;
        assert_eq!(answer.status(), 400, "{query}");
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(text.contains(message), "{query}: {text}");
    }
    let answer = server
        .call(&get(
            "/telemetry/export?format=har&after=1-0000000000000007",
        ))
        .await;
    assert_eq!(answer.status(), 409);
}

/// A client that does not read its file holds one of the few places, and gets it back when it leaves.
#[tokio::test]
async fn exports_at_once_are_bounded() {
    let server = Setup::default().events(131_072).running().await;
    server.fill_to(120_000);
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open_narrow(server.addr).await;
        connection
            .write(&get("/telemetry/export?format=ndjson").bytes())
            .await;
        stuck.push(connection);
    }
    in_time(async {
        while server
            .call(&get("/telemetry/export?format=har&after=119990"))
            .await
            .status()
            != 503
        {}
    })
    .await;
    let refused = server.call(&get("/telemetry/export?format=har")).await;
    assert_eq!(refused.header("retry-after"), Some("5"));
    drop(stuck);
    in_time(async {
        while server
            .call(&get("/telemetry/export?format=har&after=119990"))
            .await
            .status()
            != 200
        {}
    })
    .await;
}
