//! Which events a connection causes.

use serde_json::Value;
use tapline_api::PutAnswer;
use tapline_oapi::{Category, CategorySet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ends::{Ends, UPGRADE, UPGRADED, command, frame, head, redacting, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_its_commands_and_its_end_are_published() {
    let ends = Ends::with(|options| {
        options.redact_url = redacting(&["key"]);
    })
    .await;
    let mut events = ends.capture(CategorySet::ALL);
    let (mut client, mut browser) = ends.connected().await;
    for text in [
        r#"{"id":1,"method":"Page.navigate","params":{"url":"http://u:p@h/?key=s3cret"}}"#,
        r#"{"id":2,"method":"Input.insertText","params":{"text":"s3cret"},"sessionId":"A"}"#,
        r#"{"id":3,"method":"Input.dispatchKeyEvent","params":{"type":"keyDown","text":"s3cret"}}"#,
        "no command: s3cret",
    ] {
        client.write_all(&command(text)).await.unwrap();
    }
    browser
        .write_all(&frame(0x81, b"{}", None).repeat(3))
        .await
        .unwrap();
    let mut answers = [0; 12];
    soon(client.read_exact(&mut answers)).await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    soon(browser.read_to_end(&mut rest)).await.unwrap();
    drop(browser);

    let mut events = events.up_to("cdp_disconnect").await;
    assert!(!format!("{events:?}").contains("s3cret"), "{events:?}");
    for event in &mut events {
        assert_eq!(event["source"]["metadata"]["relay_connection"], "1");
    }
    let id = events[0]["data"]["connection_id"].clone();
    assert!(id.as_str().is_some_and(|id| id.ends_with("-1")), "{id}");
    for event in &mut events {
        let data = event["data"].as_object_mut().unwrap();
        assert_eq!(data.remove("connection_id"), Some(id.clone()));
    }
    let [connect, navigate, insert, key, disconnect] = &mut events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(connect["type"], "cdp_connect");
    assert_eq!(connect["category"], "connection");
    assert_eq!(connect["source"]["kind"], "cdp");
    assert_eq!(navigate["category"], "control");
    assert_eq!(navigate["source"]["event"], "Page.navigate");
    assert_eq!(
        navigate["data"].to_string(),
        r#"{"command_id":1,"method":"Page.navigate","url":"http://h","url_scheme":"http"}"#
    );
    assert_eq!(
        insert["data"].to_string(),
        r#"{"command_id":2,"method":"Input.insertText","session_id":"A","text_length":6}"#
    );
    assert_eq!(
        key["data"].to_string(),
        r#"{"command_id":3,"event_type":"keyDown","method":"Input.dispatchKeyEvent","text_length":6}"#
    );
    assert_eq!(disconnect["data"]["reason"], "client_close");
    assert_eq!(disconnect["data"]["detail"], "client_closed");
    assert_eq!(disconnect["data"]["message_count"], 7);
    assert_eq!(disconnect["data"]["telemetry_excluded"], 0);
    assert_eq!(disconnect["data"]["telemetry_dropped"], 0);
    assert!(disconnect["data"]["duration_ms"].is_f64());
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disconnect_names_the_side_that_ended_it() {
    let ends = Ends::new().await;
    let mut events = ends.capture(CategorySet::of(&[Category::Connection]));
    let (_client, browser) = ends.connected().await;
    drop(browser);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["detail"], "browser_closed");

    // The client sends the first close frame, and the browser closes the socket; and the other way round.
    let close = b"\x03\xe8";
    let (mut client, mut browser) = ends.connected().await;
    let bytes = frame(0x88, close, Some([0; 4]));
    client.write_all(&bytes).await.unwrap();
    soon(browser.read_exact(&mut [0; 8])).await.unwrap();
    browser.write_all(&frame(0x88, close, None)).await.unwrap();
    drop(browser);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["detail"], "client_closed");
    assert_eq!(end[1]["data"]["message_count"], 0);

    let (mut client, mut browser) = ends.connected().await;
    browser.write_all(&frame(0x88, close, None)).await.unwrap();
    soon(client.read_exact(&mut [0; 4])).await.unwrap();
    client.write_all(&bytes).await.unwrap();
    drop(client);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["detail"], "browser_closed");

    let (client, _browser) = ends.connected().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["detail"], "client_lost");

    let (_client, _browser) = ends.connected().await;
    ends.stop().await;
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["detail"], "shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_published_from_the_moment_that_control_is_captured() {
    let ends = Ends::new().await;
    let (mut client, mut browser) = ends.connected().await;
    // Copied before a session begins, in the middle of a message.
    let [before, within, after] = ["A.before", "A.within", "A.after"]
        .map(|method| command(&format!(r#"{{"id":1,"method":"{method}"}}"#)));
    let (begin, end) = within.split_at(9);
    let both = [&before[..], begin].concat();
    client.write_all(&both).await.unwrap();
    let mut passed = vec![0; both.len()];
    soon(browser.read_exact(&mut passed)).await.unwrap();
    let mut events = ends.capture(CategorySet::of(&[Category::Control]));
    client.write_all(&[end, &after].concat()).await.unwrap();
    let event = events.next().await;
    assert_eq!(
        event["data"]["method"], "A.after",
        "a message that began before is not published"
    );
    drop(client);
    ends.stop().await;
    assert!(events.rest().is_empty(), "the connection is not captured");
}

#[tokio::test]
async fn published_and_missed_commands_are_all_commands() {
    let ends = Ends::new().await;
    let mut events = ends.capture(CategorySet::of(&[Category::Control, Category::Connection]));
    let (mut client, browser) = ends.connected().await;
    let long = "x".repeat(12_000);
    let text =
        format!(r#"{{"id":1,"method":"Runtime.evaluate","params":{{"expression":"{long}"}}}}"#);
    let all = 2_000;
    let bytes = command(&text).repeat(all);
    let (mut browser_reads, _browser_writes) = browser.into_split();
    let read = tokio::spawn(async move {
        let mut sink = tokio::io::sink();
        tokio::io::copy(&mut browser_reads, &mut sink)
            .await
            .unwrap()
    });
    soon(client.write_all(&bytes)).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(soon(read).await.unwrap(), bytes.len() as u64);
    let events = events.up_to("cdp_disconnect").await;
    let commands = events
        .iter()
        .filter(|it| it["type"] == "cdp_command_other")
        .count();
    let missed: u64 = events
        .iter()
        .filter(|it| it["type"] == "cdp_commands_missed")
        .map(|it| it["data"]["count"].as_u64().unwrap())
        .sum();
    assert_eq!(commands as u64 + missed, all as u64);
    let end = &events.last().unwrap()["data"];
    assert_eq!(end["message_count"], all);
    assert_eq!(end["telemetry_dropped"], missed);
    assert_eq!(ends.counts().commands_missed, missed);
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_commands_are_published_is_reported_and_the_bytes_still_pass() {
    let ends = Ends::with(|options| {
        options.redact_url = std::sync::Arc::new(|_| panic!("a fault in the redaction"));
    })
    .await;
    let mut events = ends.capture(CategorySet::ALL);
    let (mut client, mut browser) = ends.connected().await;
    let navigate = command(r#"{"id":1,"method":"Page.navigate","params":{"url":"http://h/"}}"#);
    for _ in 0..3 {
        client.write_all(&navigate).await.unwrap();
        let mut passed = vec![0; navigate.len()];
        soon(browser.read_exact(&mut passed)).await.unwrap();
        assert_eq!(passed, navigate);
    }
    drop(client);
    drop(browser);
    let events = events.up_to("cdp_disconnect").await;
    let [connect, missed, disconnect] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(connect["type"], "cdp_connect");
    assert_eq!(missed["type"], "cdp_commands_missed");
    assert_eq!(missed["data"].to_string(), r#"{"reason":"failed"}"#);
    assert_eq!(disconnect["data"]["message_count"], 3);
    ends.stop().await;
}

/// A message of the browser's that says that a session belongs to a target.
fn attached(session: &str, target: &str) -> Vec<u8> {
    let url = "u".repeat(2_000);
    let message = format!(
        r#"{{"method":"Target.attachedToTarget","params":{{"sessionId":"{session}","targetInfo":{{"targetId":"{target}","type":"page","title":"","url":"{url}"}},"waitingForDebugger":false}}}}"#
    );
    frame(0x81, message.as_bytes(), None)
}

/// Copies one way until nothing is missing, so that it has been read.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    let mut passed = vec![0; bytes.len()];
    soon(to.read_exact(&mut passed)).await.unwrap();
    assert_eq!(passed, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_names_the_target_of_its_session() {
    let ends = Ends::new().await;
    let (mut client, mut browser) = ends.connected().await;
    // Said before commands are captured.
    pass(&mut browser, &mut client, &attached("S1", "T1")).await;
    let mut events = ends.capture(CategorySet::of(&[Category::Control]));
    pass(&mut browser, &mut client, &attached("S2", "T2")).await;
    let detached =
        r#"{"method":"Target.detachedFromTarget","params":{"sessionId":"S2","targetId":"T2"}}"#;
    for (session, expected) in [("S1", "T1"), ("S2", "T2"), ("S3", "")] {
        let text = format!(r#"{{"id":1,"method":"Page.reload","sessionId":"{session}"}}"#);
        pass(&mut client, &mut browser, &command(&text)).await;
        let event = events.next().await;
        assert_eq!(event["data"]["session_id"], session);
        assert_eq!(
            event["data"]["target_id"].as_str().unwrap_or_default(),
            expected
        );
    }
    pass(
        &mut browser,
        &mut client,
        &frame(0x81, detached.as_bytes(), None),
    )
    .await;
    let text = r#"{"id":1,"method":"Page.reload","sessionId":"S2"}"#;
    pass(&mut client, &mut browser, &command(text)).await;
    assert_eq!(events.next().await["data"]["target_id"], Value::Null);
    drop((client, browser));

    // A connection to a page has its target in its path.
    let mut client = ends.client().await;
    let request = UPGRADE.replace("/devtools/browser/1", "/devtools/page/T4?x=1");
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut browser, _) = ends.taken().await;
    browser.write_all(UPGRADED.as_bytes()).await.unwrap();
    assert_eq!(head(&mut client).await, UPGRADED);
    pass(
        &mut client,
        &mut browser,
        &command(r#"{"id":1,"method":"Page.reload"}"#),
    )
    .await;
    assert_eq!(events.next().await["data"]["target_id"], "T4");
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_the_request_is_in_all_events_of_the_connection() {
    let ends = Ends::new().await;
    let mut events = ends.capture(CategorySet::ALL);
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (headers, is_kept) in [
        (format!("traceparent: {valid}\r\n"), true),
        (
            format!("Traceparent: {}-extra\r\n", valid.replacen("00", "42", 1)),
            true,
        ),
        (format!("traceparent: {valid}-extra\r\n"), false),
        (format!("traceparent: {}\r\n", valid.to_uppercase()), false),
        (
            format!("traceparent: {}\r\n", valid.replacen("00", "ff", 1)),
            false,
        ),
        (
            format!(
                "traceparent: {}\r\n",
                valid.replace("00f067aa0ba902b7", "0000000000000000")
            ),
            false,
        ),
        (
            format!("traceparent: {valid}\r\ntraceparent: {valid}\r\n"),
            false,
        ),
        (String::new(), false),
    ] {
        let mut client = ends.client().await;
        let request = UPGRADE.replace(
            "Upgrade: websocket\r\n",
            &format!("Upgrade: websocket\r\n{headers}"),
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut browser, _) = ends.taken().await;
        browser.write_all(UPGRADED.as_bytes()).await.unwrap();
        head(&mut client).await;
        pass(
            &mut client,
            &mut browser,
            &command(r#"{"id":1,"method":"Page.reload"}"#),
        )
        .await;
        drop((client, browser));
        let events = events.up_to("cdp_disconnect").await;
        assert_eq!(events.len(), 3);
        for event in events {
            let metadata = &event["source"]["metadata"];
            if is_kept {
                assert_eq!(
                    metadata["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736",
                    "{headers}"
                );
                assert_eq!(metadata["span_id"], "00f067aa0ba902b7", "{headers}");
            } else {
                assert_eq!(metadata["trace_id"], Value::Null, "{headers}");
            }
        }
    }
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_method_passes_without_an_event_and_is_counted() {
    let ends = Ends::new().await;
    let config = r#"{"browser":{"control":{"enabled":true,"cdp":{"excluded_methods":["Input.dispatchMouseEvent"]}},"connection":{"enabled":true}}}"#;
    let answer = ends
        .api
        .put(&serde_json::from_str(config).unwrap())
        .await
        .unwrap();
    let PutAnswer::Started(state) = answer else {
        panic!("{answer:?}")
    };
    let methods = state.config.browser.excluded_methods().unwrap();
    assert_eq!(methods, ["Input.dispatchMouseEvent"]);
    let mut events = ends.reader();
    let (mut client, mut browser) = ends.connected().await;
    let moved = command(
        r#"{"id":1,"method":"Input.dispatchMouseEvent","params":{"type":"mouseMoved","x":1,"y":2}}"#,
    );
    pass(&mut client, &mut browser, &moved).await;
    pass(&mut client, &mut browser, &moved).await;
    pass(
        &mut client,
        &mut browser,
        &command(r#"{"id":2,"method":"Page.reload"}"#),
    )
    .await;
    let until_now = events.up_to("cdp_command").await;
    assert_eq!(until_now[1]["data"]["method"], "Page.reload");

    // An empty list excludes none, and a list alone changes nothing else.
    let config = r#"{"browser":{"control":{"cdp":{"excluded_methods":[]}}}}"#;
    let state = ends
        .api
        .patch(&serde_json::from_str(config).unwrap())
        .await
        .unwrap();
    assert_eq!(state.config.browser.excluded_methods(), None);
    pass(&mut client, &mut browser, &moved).await;
    assert_eq!(
        events.next().await["data"]["method"],
        "Input.dispatchMouseEvent"
    );
    drop((client, browser));
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[0]["data"]["telemetry_excluded"], 2);
    ends.stop().await;
}
