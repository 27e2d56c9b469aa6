//! Headers from a file that changes.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tapline_otlp::{OtlpError, OtlpOptions, OtlpSink};

use crate::mock::{Mock, Reply};
use crate::rig::{Rig, ledger, options};

/// A file that is removed with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(content: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "tapline-otlp-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, SeqCst)
        );
        let scratch = Self(std::env::temp_dir().join(name));
        scratch.write(content);
        scratch
    }

    fn write(&self, content: &str) {
        fs::write(&self.0, content).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn with_headers(mock: &Mock, file: &Scratch) -> OtlpOptions {
    let mut options = options(&mock.url());
    options.headers_file = Some(file.0.clone());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_the_headers_that_the_file_has_now() {
    let mock = Mock::new();
    let file = Scratch::new("authorization: Bearer first\nx-tenant: 7\nuser-agent: shop\n");
    let rig = Rig::new(with_headers(&mock, &file));
    rig.publish_some(1);
    let received = mock.wait_for(1);
    assert_eq!(received[0].header("authorization"), Some("Bearer first"));
    assert_eq!(received[0].header("x-tenant"), Some("7"));
    assert_eq!(received[0].header("user-agent"), Some("shop"));
    assert_eq!(
        received[0].header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(received[0].header("host"), Some(&*mock.address.to_string()));
    assert!(received[0].head.starts_with("POST /v1/logs HTTP/1.1\r\n"));
    file.write("authorization: Bearer second\n");
    rig.publish_some(1);
    let received = mock.wait_for(2);
    assert_eq!(received[1].header("authorization"), Some("Bearer second"));
    assert_eq!(received[1].header("x-tenant"), None);
    assert!(
        received[1]
            .header("user-agent")
            .unwrap()
            .starts_with("tapline/")
    );
    assert_eq!(rig.stop().await.ledger, ledger(2, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_changes_between_retries_is_used_at_once() {
    let mock = Mock::new();
    mock.always(Reply::status(503));
    let file = Scratch::new("authorization: Bearer first\n");
    let rig = Rig::new(with_headers(&mock, &file));
    rig.publish_some(3);
    mock.wait_for(2);
    file.write("authorization: Bearer second\n");
    let before = mock.received().len();
    let received = mock.wait_for(before + 2);
    assert_eq!(
        received.last().unwrap().header("authorization"),
        Some("Bearer second")
    );
    mock.always(Reply::Accept);
    assert_eq!(rig.stop().await.ledger, ledger(3, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_any_more_leaves_the_headers_as_they_were() {
    let mock = Mock::new();
    let file = Scratch::new("authorization: Bearer first\n");
    let rig = Rig::new(with_headers(&mock, &file));
    file.write("this is secret-7\n");
    rig.publish_some(1);
    let received = mock.wait_for(1);
    assert_eq!(received[0].header("authorization"), Some("Bearer first"));
    fs::remove_file(&file.0).unwrap();
    rig.publish_some(1);
    let received = mock.wait_for(2);
    assert_eq!(received[1].header("authorization"), Some("Bearer first"));
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(2, 0, 0, 0));
    let error = status.last_error.unwrap();
    assert!(error.contains("cannot read the headers file"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_unauthorized_is_rejected_where_the_token_is_the_same() {
    for status in [401, 403] {
        let mock = Mock::new();
        mock.always(Reply::status(status));
        let file = Scratch::new("authorization: Bearer expired-7\n");
        let rig = Rig::new(with_headers(&mock, &file));
        rig.publish_some(2);
        let status = rig.stop().await;
        assert_eq!(status.ledger, ledger(0, 0, 2, 0));
        assert_eq!(mock.received().len(), 1);
        assert!(!status.last_error.unwrap().contains("expired-7"));
    }
}

#[test]
fn no_output_for_people_contains_a_header_or_a_query() {
    let file = Scratch::new("authorization: Bearer secret-7\n");
    let mut options = OtlpOptions::new("https://otlp.example/?key=secret-7").unwrap();
    options.headers_file = Some(file.0.clone());
    assert!(!format!("{options:?} {}", options.url()).contains("secret-7"));
    // It was read by now.
    let sink = OtlpSink::new(options.clone()).unwrap();
    assert!(!format!("{sink:?}").contains("secret-7"));
    file.write("authorization Bearer secret-7\n");
    let error = OtlpSink::new(options).unwrap_err();
    assert!(matches!(error, OtlpError::Headers(_)));
    assert!(!format!("{error} {error:?}").contains("secret-7"));
}

#[test]
fn an_option_out_of_its_range_is_an_error() {
    let check = |change: fn(&mut OtlpOptions), expected: &str| {
        let mut options = OtlpOptions::new("http://a").unwrap();
        change(&mut options);
        let error = OtlpSink::new(options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|it| it.max_records = 0, "records");
    check(|it| it.max_bytes = 1000, "512 KiB");
    check(|it| it.max_bytes = 5_000_000, "4 MiB");
    check(|it| it.timeout = std::time::Duration::ZERO, "time-out");
    check(|it| it.first_pause = std::time::Duration::ZERO, "pause");
    check(
        |it| it.resource.push((String::new(), String::new())),
        "no name",
    );
    check(
        |it| it.resource.push(("a".to_owned(), "x".repeat(40_000))),
        "32 KiB",
    );
    check(
        |it| it.headers_file = Some("/nowhere/headers".into()),
        "/nowhere/headers",
    );
}
