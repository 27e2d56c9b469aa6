//! Which requests are admitted, what is forwarded, and how the browser's description is changed.

use std::time::{Duration, Instant};

use tapline_access::{AccessConfig, Token, TokenSource};
use tapline_api::ApiService;
use tapline_events::{EventStream, Retention};
use tapline_relay::{Relay, RelayError, RelayOptions};
use tapline_telemetry::TelemetrySession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ends::{Ends, UPGRADE, allow, soon};

const TOKEN: &str = "correct-horse+battery";

fn guarded() -> AccessConfig {
    AccessConfig {
        token: Some(TokenSource::Fixed(
            Token::from_variable("TOKEN", TOKEN).unwrap(),
        )),
        ..AccessConfig::default()
    }
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{headers}\r\n")
}

/// The status of the answer.
#[track_caller]
fn status(answer: &str) -> &str {
    let line = answer.lines().next().unwrap();
    &line["HTTP/1.1 ".len()..][..3]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_is_refused() {
    let ends = Ends::with(|options| {
        allow(
            options,
            AccessConfig {
                allow_origins: vec!["http://mine".to_owned()],
                ..AccessConfig::default()
            },
        );
    })
    .await;
    for (target, headers, expected) in [
        ("/json", "Host: evil.example\r\n", "403"),
        ("/json", "Host: localhost\r\nHost: localhost\r\n", "403"),
        ("/json", "", "403"),
        // The same rules as the server's: any address but loopback is refused, and pages that embed.
        ("/json", "Host: 10.0.0.7:9333\r\n", "403"),
        (
            "/json",
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image\r\n",
            "403",
        ),
        (
            "/json",
            "Host: localhost\r\nOrigin: http://evil.example\r\n",
            "403",
        ),
        ("/json", "Host: localhost\r\nOrigin: null\r\n", "403"),
        (
            "/devtools/browser/1",
            "Host: 127.0.0.1\r\nUpgrade: websocket\r\nOrigin: http://evil.example\r\n",
            "403",
        ),
        ("/", "Host: localhost\r\n", "404"),
        ("/jsonx", "Host: localhost\r\n", "404"),
        ("/devtools/inspector.html", "Host: localhost\r\n", "404"),
        (
            "/elsewhere",
            "Host: localhost\r\nUpgrade: websocket\r\n",
            "404",
        ),
        ("/json", "Host: localhost\r\nContent-Length: 5\r\n", "400"),
        (
            "/json",
            "Host: localhost\r\nTransfer-Encoding: chunked\r\n",
            "400",
        ),
    ] {
        let answer = ends.ask(&get(target, headers)).await;
        assert_eq!(status(&answer), expected, "{target} {headers}");
    }
    assert_eq!(
        status(
            &ends
                .ask("POST /json HTTP/1.1\r\nHost: [::1]:1\r\n\r\n")
                .await
        ),
        "405"
    );
    assert_eq!(status(&ends.ask("what\r\n\r\n").await), "400");
    assert_eq!(ends.counts().refused, 16);

    // An allowed origin is admitted, and not forwarded to the browser.
    let request = get("/json", "Host: localhost\r\nOrigin: http://mine\r\n");
    let browser = async {
        let (mut browser, head) = ends.taken().await;
        assert!(!head.to_lowercase().contains("origin"), "{head}");
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
        browser.write_all(answer.as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ends.ask(&request), browser);
    assert!(answer.ends_with("\r\n\r\n[]"), "{answer}");
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_required_and_not_forwarded() {
    let ends = Ends::with(|options| allow(options, guarded())).await;
    for (target, headers) in [
        ("/json", ""),
        ("/json?token=", ""),
        ("/json?token=wrong", ""),
        ("/json?token=correct-horse+battery", ""), // a space, where it is not encoded
        ("/json?token=correct-horse%2Bbatter", ""),
        ("/json", "Authorization: Bearer wrong\r\n"),
        ("/json", "Authorization: Basic correct-horse+battery\r\n"),
        (
            "/json?token=correct-horse%2Bbattery",
            "Authorization: Bearer wrong\r\n",
        ),
    ] {
        let headers = format!("Host: localhost\r\n{headers}");
        let answer = ends.ask(&get(target, &headers)).await;
        assert_eq!(status(&answer), "401", "{target} {headers}");
    }
    for (target, headers, passed, url) in [
        (
            "/json/version",
            "Authorization: bearer correct-horse+battery\r\n",
            "GET /json/version HTTP/1.1",
            "ws://name.example:1/devtools/browser/1",
        ),
        (
            "/json/version?a=1&token=correct-horse%2Bbattery&b",
            "",
            "GET /json/version?a=1&b HTTP/1.1",
            "ws://name.example:1/devtools/browser/1?token=correct-horse%2Bbattery",
        ),
    ] {
        let browser = async {
            let (mut browser, head) = ends.taken().await;
            assert_eq!(head.lines().next().unwrap(), passed);
            assert!(!head.contains("correct"), "{head}");
            let host = ends.browser.local_addr().unwrap();
            assert!(head.contains(&format!("\r\nHost: {host}\r\n")), "{head}");
            let body = format!(r#"{{ "webSocketDebuggerUrl": "ws://{host}/devtools/browser/1" }}"#);
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            browser.write_all(answer.as_bytes()).await.unwrap();
            // It stays open, as for a next request: the length says where the answer ends.
            browser
        };
        let headers = format!("Host: name.example:1\r\n{headers}");
        let request = get(target, &headers);
        let (answer, _browser) = tokio::join!(ends.ask(&request), browser);
        let expected = format!(r#"{{ "webSocketDebuggerUrl": "{url}" }}"#);
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
        assert!(answer.contains(&format!("\r\nContent-Length: {}\r\n", expected.len())));
    }
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_are_not_offered_to_the_browser() {
    let ends = Ends::new().await;
    let mut client = ends.client().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let request = UPGRADE.strip_suffix("\r\n").unwrap().to_owned() + offer;
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut browser, head) = ends.taken().await;
    assert!(!head.to_lowercase().contains("extensions"), "{head}");
    assert!(head.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
    // The browser's refusal is passed on, and no client was connected.
    let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnone\n";
    browser.write_all(refusal.as_bytes()).await.unwrap();
    drop(browser);
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, refusal);
    assert_eq!(ends.counts().connected, 0);
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_resource_is_bounded() {
    let ends = Ends::with(|options| {
        options.max_connections = 1;
        options.head_timeout = Duration::from_millis(200);
    })
    .await;
    // A head without an end, in time and in length.
    assert_eq!(
        status(&ends.ask("GET /json HTTP/1.1\r\nHost:").await),
        "408"
    );
    let long = format!("GET /json HTTP/1.1\r\nHost: {}", "x".repeat(16 * 1024));
    assert_eq!(status(&ends.ask(&long).await), "400");
    // A browser that does not answer.
    let (answer, _browser) = tokio::join!(ends.ask(UPGRADE), ends.taken());
    assert_eq!(status(&answer), "504");
    // A second client.
    let (_client, _browser) = ends.connected().await;
    assert_eq!(status(&ends.ask("").await), "503");
    ends.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_browser_the_answer_says_so() {
    let ends = Ends::with(|options| options.upstream = "127.0.0.1:1".to_owned()).await;
    let answer = ends.ask(UPGRADE).await;
    assert_eq!(status(&answer), "502", "{answer}");
    assert!(answer.ends_with("the browser does not answer"), "{answer}");
    ends.stop().await;
}

#[tokio::test]
async fn other_addresses_than_loopback_need_a_token() {
    let stream = EventStream::new(Retention::default()).unwrap();
    let api = ApiService::new(TelemetrySession::new(stream));
    let bind = |config: AccessConfig| {
        let mut options = RelayOptions::new("127.0.0.1:9222");
        allow(&mut options, config);
        Relay::bind("0.0.0.0:0".parse().unwrap(), options, api.publisher())
    };
    let error = bind(AccessConfig::default()).await.unwrap_err();
    assert!(matches!(error, RelayError::NeedsToken(_)));
    assert_eq!(
        error.to_string(),
        "0.0.0.0:0 is not a loopback address: there, the relay needs a token"
    );
    assert!(bind(guarded()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_refuses_new_connections_at_once_and_drops_the_last_ones_at_the_deadline() {
    let mut ends = Ends::new().await;
    let mut client = ends.client().await;
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    // The browser has the request and does not answer.
    let (_browser, _) = ends.taken().await;
    let deadline = Instant::now() + Duration::from_secs(1);
    ends.begin_to_stop(deadline);
    let refused = async { while TcpStream::connect(ends.address).await.is_ok() {} };
    soon(refused).await;
    assert!(Instant::now() < deadline, "new connections were accepted");
    ends.stopped().await;
    assert!(deadline <= Instant::now());
    assert_eq!(soon(client.read(&mut [0])).await.unwrap_or(0), 0);
}
