//! Which events a connection causes.

use tapline_oapi::{Category, CategorySet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ends::{Ends, command, frame, redacting, soon};

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

    let events = events.up_to("cdp_disconnect").await;
    assert!(!format!("{events:?}").contains("s3cret"), "{events:?}");
    let [connect, navigate, insert, key, disconnect] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(connect["type"], "cdp_connect");
    assert_eq!(connect["category"], "connection");
    assert_eq!(connect["source"]["kind"], "cdp");
    assert_eq!(navigate["category"], "control");
    assert_eq!(navigate["source"]["event"], "Page.navigate");
    assert_eq!(
        navigate["data"].to_string(),
        r#"{"method":"Page.navigate","url":"http://*redacted*@h/?key=*redacted*"}"#
    );
    assert_eq!(
        insert["data"].to_string(),
        r#"{"method":"Input.insertText"}"#
    );
    assert_eq!(
        key["data"].to_string(),
        r#"{"method":"Input.dispatchKeyEvent","type":"keyDown"}"#
    );
    assert_eq!(disconnect["data"]["reason"], "client_closed");
    assert_eq!(disconnect["data"]["message_count"], 7);
    assert!(disconnect["data"]["duration_ms"].is_u64());
    for event in &events {
        assert_eq!(event["source"]["metadata"]["relay_connection"], "1");
    }
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disconnect_names_the_side_that_ended_it() {
    let ends = Ends::new().await;
    let mut events = ends.capture(CategorySet::of(&[Category::Connection]));
    let (_client, browser) = ends.connected().await;
    drop(browser);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "browser_closed");

    // The client sends the first close frame, and the browser closes the socket; and the other way round.
    let close = b"\x03\xe8";
    let (mut client, mut browser) = ends.connected().await;
    let bytes = frame(0x88, close, Some([0; 4]));
    client.write_all(&bytes).await.unwrap();
    soon(browser.read_exact(&mut [0; 8])).await.unwrap();
    browser.write_all(&frame(0x88, close, None)).await.unwrap();
    drop(browser);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "client_closed");
    assert_eq!(end[1]["data"]["message_count"], 0);

    let (mut client, mut browser) = ends.connected().await;
    browser.write_all(&frame(0x88, close, None)).await.unwrap();
    soon(client.read_exact(&mut [0; 4])).await.unwrap();
    client.write_all(&bytes).await.unwrap();
    drop(client);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "browser_closed");

    let (client, _browser) = ends.connected().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "client_lost");

    let (_client, _browser) = ends.connected().await;
    ends.stop().await;
    let end = events.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "shutdown");
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
        .filter(|it| it["type"] == "cdp_command")
        .count();
    let missed: u64 = events
        .iter()
        .filter(|it| it["type"] == "cdp_commands_missed")
        .map(|it| it["data"]["count"].as_u64().unwrap())
        .sum();
    assert_eq!(commands as u64 + missed, all as u64);
    assert_eq!(events.last().unwrap()["data"]["message_count"], all);
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
