//! What is told of a connection.

use tapline_oapi::{Category, CategorySet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ends::{Ends, command, frame, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_its_commands_and_its_end_are_told() {
    let ends = Ends::with(|options| {
        options.redaction = options.redaction.clone().with_query_parameters(["key"]);
    })
    .await;
    let mut told = ends.capture(CategorySet::ALL);
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

    let told = told.up_to("cdp_disconnect").await;
    assert!(!format!("{told:?}").contains("s3cret"), "{told:?}");
    let [connect, navigate, insert, key, disconnect] = &told[..] else {
        panic!("{told:?}")
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
    for event in &told {
        assert_eq!(event["source"]["metadata"]["relay_connection"], "1");
    }
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ended_it_is_told() {
    let ends = Ends::new().await;
    let mut told = ends.capture(CategorySet::of(&[Category::Connection]));
    let (_client, browser) = ends.connected().await;
    drop(browser);
    let end = told.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "browser_closed");

    // The client says goodbye, and the browser closes the connection; and the other way round.
    let goodbye = b"\x03\xe8";
    let (mut client, mut browser) = ends.connected().await;
    let bytes = frame(0x88, goodbye, Some([0; 4]));
    client.write_all(&bytes).await.unwrap();
    soon(browser.read_exact(&mut [0; 8])).await.unwrap();
    browser
        .write_all(&frame(0x88, goodbye, None))
        .await
        .unwrap();
    drop(browser);
    let end = told.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "client_closed");
    assert_eq!(end[1]["data"]["message_count"], 0);

    let (mut client, mut browser) = ends.connected().await;
    browser
        .write_all(&frame(0x88, goodbye, None))
        .await
        .unwrap();
    soon(client.read_exact(&mut [0; 4])).await.unwrap();
    client.write_all(&bytes).await.unwrap();
    drop(client);
    let end = told.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "browser_closed");

    let (client, _browser) = ends.connected().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let end = told.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "client_lost");

    let (_client, _browser) = ends.connected().await;
    ends.stop().await;
    let end = told.up_to("cdp_disconnect").await;
    assert_eq!(end[1]["data"]["reason"], "shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_captured_is_told_from_whenever_it_is() {
    let ends = Ends::new().await;
    let (mut client, mut browser) = ends.connected().await;
    // Said, and passed, before a session begins, in the middle of a message.
    let [before, within, after] = ["A.before", "A.within", "A.after"]
        .map(|method| command(&format!(r#"{{"id":1,"method":"{method}"}}"#)));
    let (begin, end) = within.split_at(9);
    let both = [&before[..], begin].concat();
    client.write_all(&both).await.unwrap();
    let mut passed = vec![0; both.len()];
    soon(browser.read_exact(&mut passed)).await.unwrap();
    let mut told = ends.capture(CategorySet::of(&[Category::Control]));
    client.write_all(&[end, &after].concat()).await.unwrap();
    let event = told.next().await;
    assert_eq!(event["data"]["method"], "A.after", "half of one is none");
    drop(client);
    ends.stop().await;
    assert!(told.rest().is_empty(), "the connection is not captured");
}

/// However much is said at once, what is told and what is missed make up all of it.
#[tokio::test]
async fn what_is_missed_is_counted() {
    let ends = Ends::new().await;
    let mut told = ends.capture(CategorySet::of(&[Category::Control, Category::Connection]));
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
    let told = told.up_to("cdp_disconnect").await;
    let commands = told.iter().filter(|it| it["type"] == "cdp_command").count();
    let missed: u64 = told
        .iter()
        .filter(|it| it["type"] == "cdp_commands_missed")
        .map(|it| it["data"]["count"].as_u64().unwrap())
        .sum();
    assert_eq!(commands as u64 + missed, all as u64);
    assert_eq!(told.last().unwrap()["data"]["message_count"], all);
    assert_eq!(ends.relay.counts().commands_missed, missed);
    ends.stop().await;
}
