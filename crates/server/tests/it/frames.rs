//! What a producer writes stays within its frame.

use serde_json::{Value, json};

use crate::http::request;
use crate::server::{Setup, running};
use crate::sse::{Frame, Stream};

/// Publishes what is meant to break out of its frame, and returns the one frame that it came in.
async fn publish(body: &str) -> Frame {
    let server = running().await;
    let mut stream = Stream::open(server.addr, "").await;
    let answer = server
        .call(&request("POST", "/telemetry/events").json(body))
        .await;
    assert_eq!(answer.status(), 200, "{body}");
    server.publish(tapline_oapi::KnownType::PageLoad);
    let frame = stream.expect().await;
    assert_eq!(frame.seq(), 1);
    assert_eq!(
        (&frame.event, frame.retry, &frame.comments),
        (&None, None, &vec![])
    );
    assert_eq!(
        frame.json(),
        answer.json(),
        "the stream and the publisher see the same"
    );
    let next = stream.expect().await;
    assert_eq!(
        (next.seq(), next.event),
        (2, None),
        "one event is one frame"
    );
    frame
}

#[tokio::test]
async fn line_breaks_between_tokens_are_lines_of_data() {
    for body in [
        "{\"type\":\"page_load\",\"data\":{\n  \"a\": 1,\n\n  \"b\": [\n\n\n2]\n}}",
        "{\"type\":\"page_load\",\"data\":{\r\n  \"a\": 1,\r\n\r\n  \"b\": [2]\r\n}}",
        "{\"type\":\"page_load\",\"data\":{\r\"a\": 1,\r\r\"b\": \n\r[2]\r}}",
    ] {
        let frame = publish(body).await;
        assert!(frame.data.as_ref().unwrap().contains('\n'), "{frame:?}");
        assert_eq!(frame.json()["event"]["data"], json!({"a": 1, "b": [2]}));
    }
    // Where there are no carriage returns, not a byte is another one.
    let body = "{\"type\":\"page_load\",\"data\":[\n1.0,\n\n 2e0 ]}";
    let frame = publish(body).await;
    assert!(
        frame
            .data
            .unwrap()
            .ends_with("\"data\":[\n1.0,\n\n 2e0 ]}}")
    );
}

#[tokio::test]
async fn text_cannot_break_out() {
    for text in [
        "\n\nevent: bye\ndata: {\"reason\":\"shutdown\",\"last_seq\":9}\n\n",
        "\r\rid: 99\rdata: {}\r\r",
        "\r\n\r\nretry: 1\r\n\r\n",
        "\u{85}\u{2028}\u{2029}\u{b}\u{c}\u{feff}\0",
        "data: \nid: 7\n: comment",
        "\"}}\n\n",
    ] {
        let quoted = Value::from(text).to_string();
        let body = json!({
            "type": format!("x{text}"),
            "category": "page",
            "source": {"kind": "extension", "event": text, "metadata": {text: text}},
            "data": {text: [text]},
        });
        let frame = publish(&body.to_string()).await;
        let event = &frame.json()["event"];
        assert_eq!(event["type"], format!("x{text}"));
        assert_eq!(event["source"]["metadata"][text], text);
        assert_eq!(event["data"], json!({text: [text]}));
        let data = frame.data.unwrap();
        assert!(!data.contains('\n'), "escaped: {data:?}");
        assert!(data.contains(&quoted[1..quoted.len() - 1]), "{data:?}");
    }
}

#[tokio::test]
async fn a_cursor_cannot_break_out() {
    let server = running().await;
    let cursor = "x\n\nevent: bye\ndata: {}\n\n";
    let encoded: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
    let mut stream = Stream::open(server.addr, &format!("notices=true&after={encoded}")).await;
    let hello = stream.expect().await;
    assert_eq!(
        (hello.name(), &hello.json()["asked"]),
        ("hello", &json!(cursor))
    );
    assert_eq!(stream.expect().await.name(), "session");

    let mut stream = Stream::open(server.addr, &format!("after={encoded}")).await;
    let frame = stream.expect().await;
    assert!(
        frame.comment().starts_with("the cursor cannot be read"),
        "{frame:?}"
    );
}

/// Far more than is written in one piece, and far more than a socket takes at once.
#[tokio::test]
async fn large_frames_come_whole() {
    let server = Setup::default().events(64).running().await;
    let mut stream = Stream::open(server.addr, "").await;
    let text = "x".repeat(900_000);
    for n in 0..20 {
        let body = json!({"type": "page_load", "data": {"n": n, "text": text}});
        let answer = server
            .call(&request("POST", "/telemetry/events").json(body.to_string()))
            .await;
        assert_eq!(answer.status(), 200);
    }
    for n in 0..20 {
        let data = stream.event().await.json();
        assert_eq!(data["event"]["data"]["n"], n);
        assert_eq!(data["event"]["data"]["text"], text);
    }
}
