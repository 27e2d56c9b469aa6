//! Bytes pass unchanged, whatever they are and whatever is captured.

use tapline_oapi::{Category, CategorySet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ends::{Ends, UPGRADE, UPGRADED, frame, head, soon};

/// Pseudo-random bytes, so that a wrong order is noticed.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Sends in pieces of these sizes while the other end reads, and compares.
async fn check(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8], pieces: &[usize]) {
    let mut got = vec![0; bytes.len()];
    let send = async {
        let mut rest = bytes;
        for piece in pieces.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*piece));
            from.write_all(piece).await.unwrap();
            rest = behind;
            if rest.is_empty() {
                return;
            }
        }
    };
    let read = async { to.read_exact(&mut got).await.map(|_| ()).unwrap() };
    soon(async { tokio::join!(send, read) }).await;
    assert!(got == bytes, "some of {} bytes have changed", bytes.len());
}

/// Small, in parts with control frames between, empty, and of 10 MB.
fn messages(mask: Option<[u8; 4]>) -> Vec<u8> {
    [
        frame(0x81, br#"{"id":1,"method":"Page.enable"}"#, mask),
        frame(0x01, br#"{"id":2,"method":"Page.nav"#, mask),
        frame(0x89, b"are you there", mask),
        frame(0x00, b"", mask),
        frame(0x80, br#"igate","params":{"url":"http://h/"}}"#, mask),
        frame(0x82, b"", mask),
        frame(0x81, &noise(70_000, 1), mask),
        frame(0x01, &noise(10_000_000, 2), mask),
        frame(0x80, &noise(100, 3), mask),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_unchanged_in_both_directions() {
    let ends = Ends::new().await;
    for captured in [None, Some(CategorySet::ALL)] {
        if let Some(captured) = captured {
            ends.capture(captured);
        }
        let (mut client, mut browser) = ends.connected().await;
        let up = messages(Some([1, 2, 3, 200]));
        let down = messages(None);
        for pieces in [&[usize::MAX][..], &[70_001, 1, 64 * 1024]] {
            check(&mut client, &mut browser, &up, pieces).await;
            check(&mut browser, &mut client, &down, pieces).await;
        }
        // Both directions at the same time: neither waits for the other.
        let (mut client_reads, mut client_writes) = client.into_split();
        let (mut browser_reads, mut browser_writes) = browser.into_split();
        let mut got_up = vec![0; up.len()];
        let mut got_down = vec![0; down.len()];
        soon(async {
            tokio::try_join!(
                client_writes.write_all(&up),
                browser_writes.write_all(&down),
                async { browser_reads.read_exact(&mut got_up).await.map(|_| ()) },
                async { client_reads.read_exact(&mut got_down).await.map(|_| ()) },
            )
        })
        .await
        .unwrap();
        assert!(got_up == up && got_down == down);
    }
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_with_the_heads_are_not_lost() {
    let ends = Ends::new().await;
    let mut events = ends.capture(CategorySet::ALL);
    let mut client = ends.client().await;
    let first = crate::ends::command(r#"{"id":1,"method":"Browser.getVersion"}"#);
    let eager = [UPGRADE.as_bytes(), &first].concat();
    client.write_all(&eager).await.unwrap();
    let (mut browser, _) = ends.taken().await;
    let answer = frame(0x81, br#"{"id":1,"result":{}}"#, None);
    let both = [UPGRADED.as_bytes(), &answer].concat();
    browser.write_all(&both).await.unwrap();
    assert_eq!(head(&mut client).await, UPGRADED);
    let mut got = vec![0; answer.len()];
    soon(client.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, answer);
    let mut got = vec![0; first.len()];
    soon(browser.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, first);
    drop(client);
    let events = events.up_to("cdp_disconnect").await;
    assert_eq!(events[1]["data"]["method"], "Browser.getVersion");
    assert_eq!(events[2]["data"]["message_count"], 2);
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_frames_pass_unchanged() {
    let ends = Ends::new().await;
    let mut events = ends.capture(CategorySet::of(&[Category::Control, Category::Connection]));
    let (mut client, mut browser) = ends.connected().await;
    let command = crate::ends::command(r#"{"id":1,"method":"Page.enable"}"#);
    let bytes = [&command[..], &noise(300_000, 4), &command].concat();
    check(&mut client, &mut browser, &bytes, &[50_000]).await;
    let noise = noise(300_000, 5);
    check(&mut browser, &mut client, &noise, &[usize::MAX]).await;
    drop(client);
    let events = events.up_to("cdp_disconnect").await;
    let types: Vec<_> = events
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(types[0], "cdp_connect");
    assert!(types.contains(&"cdp_commands_missed"), "{types:?}");
    let missed = events.iter().find(|it| it["type"] == "cdp_commands_missed");
    assert_eq!(missed.unwrap()["data"]["reason"], "unreadable");
    assert_eq!(events.last().unwrap()["data"]["detail"], "unreadable");
    assert!(ends.counts().unreadable > 0);
    ends.stop().await;
}
