//! `POST /telemetry/events`: one event, many, and a whole recorded session.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tapline_api::Backend as _;

use crate::http::{Connection, Request, request};
use crate::server::{Server, Setup, running};
use crate::sse::Stream;

/// One browser session's events, one publish request a line.
const CORPUS: &str = include_str!("../../../cli/data/browser-events.ndjson");

fn post() -> Request {
    request("POST", "/telemetry/events")
}

#[tokio::test]
async fn one_event_is_answered_with_its_envelope() {
    let server = running().await;
    for content_type in [
        None,
        Some("application/json"),
        Some("application/json;charset=UTF-8"),
    ] {
        let mut request = post().body(r#"{"type":"page_load","data":{"b":1.50,"a":2}}"#);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = server.call(&request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json()["seq"], server.api.retained().head);
        assert!(
            answer.text().ends_with(r#""data":{"b":1.50,"a":2}}}"#),
            "{}",
            answer.text()
        );
    }
    assert_eq!(server.api.retained().head, 3);
}

#[tokio::test]
async fn what_is_filtered_is_answered_with_nothing() {
    let server = Setup::default().idle().await;
    let answer = server.call(&post().json(r#"{"type":"page_load"}"#)).await;
    assert_eq!(
        (answer.status(), answer.header("content-length")),
        (204, None)
    );
    assert_eq!(answer.header("x-not-captured"), Some("no_session"));
    server
        .call(&request("PUT", "/telemetry").json(r#"{"browser":{"console":{"enabled":true}}}"#))
        .await;
    let answer = server
        .call(&post().json(r#"{"type":"page_load","category":"console"}"#))
        .await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.header("x-not-captured"), Some("category_disabled"));
    assert_eq!(server.api.retained().head, 0);
    let answer = server.call(&post().json(r#"{"type":"console_log"}"#)).await;
    assert_eq!(
        (answer.status(), answer.header("x-not-captured")),
        (200, None)
    );
}

#[tokio::test]
async fn data_over_the_limit_is_cut_and_metadata_over_it_refused() {
    let server = running().await;
    let large = "x".repeat(1_000_000);
    let answer = server
        .call(&post().json(format!(r#"{{"type":"page_load","data":"{large}"}}"#)))
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json()["event"]["truncated"], true);
    assert_eq!(answer.json()["event"]["data"], Value::Null);

    let body =
        format!(r#"{{"type":"page_load","source":{{"kind":"cdp","metadata":{{"k":"{large}"}}}}}}"#);
    let answer = server.call(&post().json(&body)).await;
    assert_eq!(
        (answer.status(), &answer.json()["code"]),
        (413, &json!("event_too_large"))
    );
    let answer = server.call(&post().lines(&body)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json()["errors"][0]["code"], "event_too_large");
    assert_eq!(server.api.retained().head, 1);
}

/// Nothing here reads `data`, so nothing here can be made to overflow its stack by it.
#[tokio::test]
async fn data_is_carried_however_deep_it_is() {
    let server = running().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = server
        .call(&post().json(format!(r#"{{"type":"page_load","data":{deep}}}"#)))
        .await;
    assert_eq!(answer.status(), 200);
    let mut stream = Stream::open(server.addr, "").await;
    let data = stream.expect().await.data.unwrap();
    assert!(data.contains(&deep));
    assert_eq!(data, answer.text());
}

#[tokio::test]
async fn a_bad_line_is_reported_and_loses_no_good_one() {
    let server = running().await;
    let body = concat!(
        r#"{"type":"page_load"}"#,
        "\n",
        "not json\n",
        "\r\n",
        r#"{"type":"mine"}"#,
        "\r\n",
        r#"{"type":"mine","category":"page","data":1}"#,
        "\r\n",
        r#"{"type":"page_load","source":{"kind":"kernel_api"}}"#,
        "\n",
        "[]\n",
        r#"{"type":"console_log"}"#,
    );
    let answer = server
        .call(
            &post()
                .header("content-type", "application/x-ndjson; charset=utf-8")
                .body(body),
        )
        .await;
    assert_eq!(answer.status(), 200);
    let mut result = answer.json();
    let errors: Vec<_> = result["errors"]
        .as_array_mut()
        .unwrap()
        .iter()
        .map(|error| format!("{} {}", error["line"], error["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        errors,
        [
            "2 invalid_json",
            "4 missing_field",
            "6 reserved_source",
            "7 invalid_field"
        ]
    );
    result["errors"] = json!(null);
    assert_eq!(
        result,
        json!({"published": 3, "filtered": 0, "refused": 4, "first_seq": 1, "last_seq": 3, "errors": null})
    );
    assert_eq!(Stream::open(server.addr, "").await.seqs(3).await, [1, 2, 3]);
}

#[tokio::test]
async fn a_batch_of_nothing_is_answered() {
    let server = running().await;
    for body in ["", "\n", "\r\n\r\n"] {
        let answer = server.call(&post().lines(body)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.json(),
            json!({"published": 0, "filtered": 0, "refused": 0, "errors": []})
        );
    }
}

/// It goes in turn by turn, and the turns must neither lose a line nor count one twice.
#[tokio::test]
async fn a_long_batch_is_numbered_through() {
    let server = running().await;
    // Lines of very different lengths, so that turns end anywhere.
    let body: String = (0..3000)
        .map(|n: usize| match n % 10 {
            3 => "bad\n".to_owned(),
            7 => "\n".to_owned(),
            _ => format!(
                "{{\"type\":\"page_load\",\"data\":\"{}\"}}\n",
                "x".repeat(n * n % 977)
            ),
        })
        .collect();
    assert!(3 * 64 * 1024 < body.len(), "several turns");
    let result = server.call(&post().lines(&body)).await.json();
    assert_eq!(
        (&result["published"], &result["refused"]),
        (&json!(2400), &json!(300))
    );
    let lines: Vec<_> = result["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, (0..100).map(|n| 10 * n + 4).collect::<Vec<_>>());
}

/// The text of `data` as it stands in a line, and the line as a value.
fn read(line: &str) -> (String, Value) {
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let data: Data<'_> = serde_json::from_str(line).unwrap();
    (
        data.data.get().to_owned(),
        serde_json::from_str(line).unwrap(),
    )
}

/// Every event of the corpus stands on the stream once, in order, and `data` is as it was recorded.
async fn check_corpus(server: &Server) {
    let session = server.api.state().unwrap().session_id.unwrap();
    let mut stream = Stream::open(server.addr, "").await;
    for (n, line) in CORPUS.lines().enumerate() {
        let frame = stream.expect().await;
        assert_eq!(frame.seq(), n as u64 + 1);
        let (data, mut event) = read(line);
        assert!(
            frame
                .data
                .as_ref()
                .unwrap()
                .contains(&format!(r#","data":{data}}}}}"#)),
            "{frame:?}"
        );
        let source = event["source"].as_object_mut().unwrap();
        let metadata = source.entry("metadata").or_insert(json!({}));
        metadata["telemetry_session_id"] = json!(session);
        assert_eq!(frame.json()["event"], event);
    }
    server.publish(tapline_oapi::KnownType::PageLoad);
    assert_eq!(
        stream.expect().await.seq(),
        CORPUS.lines().count() as u64 + 1,
        "nothing else came"
    );
}

#[tokio::test]
async fn a_recorded_session_comes_back_published_singly() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    for (n, line) in CORPUS.lines().enumerate() {
        let answer = connection.call(&post().json(line)).await;
        assert_eq!(
            (answer.status(), &answer.json()["seq"]),
            (200, &json!(n + 1))
        );
    }
    check_corpus(&server).await;
}

#[tokio::test]
async fn a_recorded_session_comes_back_published_at_once() {
    let server = running().await;
    let result = server.call(&post().lines(CORPUS)).await.json();
    let count = CORPUS.lines().count();
    assert_eq!(count, 313);
    assert_eq!(
        result,
        json!({"published": count, "filtered": 0, "refused": 0, "first_seq": 1, "last_seq": count, "errors": []})
    );
    check_corpus(&server).await;
}
