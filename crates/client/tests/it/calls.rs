use std::time::Duration;

use tapline_client::{Client, Cursor, Epoch, Error, ProtocolError, WaitOptions};
use tapline_oapi::{
    Category, CategorySet, ConfigRequest, ErrorCode, PublishRequest, ReaderPatch, TicketRequest,
};

use crate::scripted::{Answer, Scripted};

const EPOCH: Epoch = Epoch::from_bits(0xab);
const STATE: &str = r#"{"config":{"browser":{"page":{"enabled":true}}},"seq":3,"session_id":"s1","session_start_seq":1,"epoch":"00000000000000ab"}"#;
const ENVELOPE: &str = r#"{"seq":4,"event":{"ts":1,"type":"page_load","category":"page","source":{"kind":"local_process"}}}"#;

fn page_load() -> PublishRequest {
    PublishRequest {
        event_type: "page_load".to_owned(),
        ..PublishRequest::default()
    }
}

#[tokio::test]
async fn state_start_and_patch_answer_with_the_state() {
    let answers = [
        Answer::json("200 OK", STATE),
        Answer::json("201 Created", STATE),
        Answer::json("200 OK", STATE),
    ];
    let mut server = Scripted::new(answers).await;
    // One client for each connection.
    let client = || Client::new(&server.url).unwrap();
    let (first, second, third) = (client(), client(), client());

    assert_eq!(first.state().await.unwrap().unwrap().seq, 3);
    assert_eq!(
        second.start(&ConfigRequest::default()).await.unwrap().epoch,
        EPOCH
    );
    assert_eq!(
        third
            .patch(&ConfigRequest::default())
            .await
            .unwrap()
            .session_start_seq,
        Some(1)
    );

    assert!(
        server
            .request()
            .await
            .starts_with("get /telemetry http/1.1\r\n")
    );
    assert!(
        server
            .request()
            .await
            .starts_with("put /telemetry http/1.1\r\n")
    );
    assert!(
        server
            .request()
            .await
            .starts_with("patch /telemetry http/1.1\r\n")
    );
}

#[tokio::test]
async fn a_missing_configuration_is_no_error_but_another_404_is() {
    let not_configured = r#"{"code":"not_configured","message":"no telemetry configuration"}"#;
    let server = Scripted::new([Answer::json("404 Not Found", not_configured)]).await;
    assert_eq!(
        Client::new(&server.url).unwrap().state().await.unwrap(),
        None
    );

    let server = Scripted::new([Answer::json("404 Not Found", "<html>")]).await;
    let error = Client::new(&server.url).unwrap().state().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Refused {
                status: 404,
                body: None
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn publishing_distinguishes_published_filtered_and_refused() {
    let server = Scripted::new([Answer::json("200 OK", ENVELOPE)]).await;
    let published = Client::new(&server.url)
        .unwrap()
        .publish(&page_load())
        .await
        .unwrap();
    assert_eq!(published.unwrap().seq, 4);

    let server = Scripted::new([Answer::raw("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    assert_eq!(
        Client::new(&server.url)
            .unwrap()
            .publish(&page_load())
            .await
            .unwrap(),
        None
    );

    let too_large = r#"{"code":"event_too_large","message":"the event is too large"}"#;
    let server = Scripted::new([Answer::json("413 Content Too Large", too_large)]).await;
    let error = Client::new(&server.url)
        .unwrap()
        .publish(&page_load())
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(413));
    // Each level describes itself only.
    assert_eq!(error.to_string(), "the server refused with status 413");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the event is too large (event_too_large)");
    let Error::Refused {
        body: Some(body), ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(body.code, ErrorCode::EventTooLarge);
}

#[tokio::test]
async fn many_lines_are_sent_unchanged() {
    let result = r#"{"published":2,"filtered":0,"refused":1,"first_seq":5,"last_seq":6,"errors":[{"line":2,"code":"invalid_json","message":"m"}]}"#;
    let mut server = Scripted::new([Answer::json("200 OK", result)]).await;
    let client = Client::new(&server.url)
        .unwrap()
        .with_token("s3cret")
        .unwrap();
    let result = client
        .publish_ndjson("{\"a\":1}\nx\n{\"b\":2}")
        .await
        .unwrap();
    assert_eq!(
        (result.published, result.refused, result.errors[0].line),
        (2, 1, 2)
    );

    let request = server.request().await;
    assert!(
        request.contains("content-type: application/x-ndjson\r\n"),
        "{request}"
    );
    assert!(
        request.contains("authorization: bearer s3cret\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with("\r\n\r\n{\"a\":1}\nx\n{\"b\":2}"),
        "{request}"
    );
}

#[tokio::test]
async fn health_accepts_any_success() {
    let server = Scripted::new([Answer::json("200 OK", "ok")]).await;
    Client::new(&server.url).unwrap().health().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_the_systems_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let error = Client::new(&url).unwrap().health().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach {url}"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("Connection refused"), "{source}");
    assert!(error.is_temporary());
}

#[tokio::test]
async fn an_answer_of_another_server_is_a_protocol_error() {
    let check = async |answer, matches: fn(&ProtocolError) -> bool| {
        let server = Scripted::new([answer]).await;
        let error = Client::new(&server.url)
            .unwrap()
            .start(&ConfigRequest::default())
            .await
            .unwrap_err();
        let Error::Protocol { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(matches(source), "{error:?}");
        assert!(!error.is_temporary());
    };
    check(Answer::json("200 OK", "<html>"), |it| {
        matches!(it, ProtocolError::Body(_))
    })
    .await;
    check(
        Answer::raw("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"),
        |it| matches!(it, ProtocolError::Status(302)),
    )
    .await;
    check(Answer::json("200 OK", &" ".repeat(13_000_000)), |it| {
        matches!(it, ProtocolError::BodyTooLarge(_))
    })
    .await;
}

fn waited(status: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::raw(format!(
        "HTTP/1.1 {status}\r\nx-lost: 2\r\nx-head: 9\r\nx-epoch: 00000000000000ab\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

#[tokio::test]
async fn a_wait_returns_an_event_or_none() {
    let mut server = Scripted::new([waited("200 OK", ENVELOPE)]).await;
    let options = WaitOptions {
        after: Some("3-00000000000000ab".parse().unwrap()),
        categories: CategorySet::of(&[Category::Page]),
        types: vec!["page_*".to_owned()],
        timeout: Duration::from_millis(1500),
    };
    let waited_for = Client::new(&server.url)
        .unwrap()
        .wait(&options)
        .await
        .unwrap();
    assert_eq!(waited_for.envelope.as_ref().unwrap().seq, 4);
    assert_eq!((waited_for.lost, waited_for.head), (2, 9));
    let next = Cursor {
        seq: 4,
        epoch: Some(EPOCH),
    };
    assert_eq!(waited_for.cursor(), Some(next));
    let request = server.request().await;
    let path = "get /telemetry/wait?timeout_ms=1500&after=3-00000000000000ab&category=page&type=page_* http/1.1\r\n";
    assert!(request.starts_with(path), "{request}");

    let server = Scripted::new([Answer::raw(
        "HTTP/1.1 204 No Content\r\nx-lost: 0\r\nx-head: 9\r\nx-epoch: 00000000000000ab\r\n\r\n",
    )])
    .await;
    let client = Client::new(&server.url).unwrap();
    let none = client.wait(&WaitOptions::default()).await.unwrap();
    assert!(none.envelope.is_none() && none.cursor().is_none());
    assert_eq!((none.lost, none.head, none.epoch), (0, 9, EPOCH));
}

#[tokio::test]
async fn a_wait_without_its_headers_is_a_protocol_error() {
    let server = Scripted::new([Answer::json("200 OK", ENVELOPE)]).await;
    let client = Client::new(&server.url).unwrap();
    let error = client.wait(&WaitOptions::default()).await.unwrap_err();
    let Error::Protocol { source, .. } = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(source, ProtocolError::Header("x-lost")),
        "{source:?}"
    );
}

#[tokio::test]
async fn readers_are_listed_and_changed_by_their_id() {
    let list = r#"{"head":9,"readers":[{"id":"r1","kind":"stream","peer":"127.0.0.1:9","opened_at":"2026-11-22T12:09:18Z","notices":true,"overtaken":"oldest","position":7,"behind_events":2,"behind_bytes":900,"behind_seconds":1.5,"delivered":4,"filtered":2,"lost":1,"new":1}]}"#;
    let server = Scripted::new([Answer::json("200 OK", list)]).await;
    let readers = Client::new(&server.url).unwrap().readers().await.unwrap();
    assert_eq!((readers.head, readers.readers[0].id.as_str()), (9, "r1"));

    let patched = r#"{"id":"r1","category":["page"],"after":7}"#;
    let mut server = Scripted::new([Answer::json("200 OK", patched)]).await;
    let patch = ReaderPatch {
        category: Some(CategorySet::of(&[Category::Page])),
        r#type: None,
    };
    let client = Client::new(&server.url).unwrap();
    let patched = client.patch_reader("r1/?", &patch).await.unwrap();
    assert_eq!((patched.id.as_str(), patched.after), ("r1", 7));
    let request = server.request().await;
    assert!(
        request.starts_with("patch /telemetry/readers/r1%2f%3f http"),
        "{request}"
    );
    assert!(request.ends_with(r#"{"category":["page"]}"#), "{request}");
}

#[tokio::test]
async fn a_ticket_is_created() {
    let ticket = r#"{"ticket":"t1","expires_at":"2026-11-22T12:09:18Z"}"#;
    let mut server = Scripted::new([Answer::json("201 Created", ticket)]).await;
    let request = TicketRequest {
        until: Some(9),
        expires_in: Some(60),
        ..TicketRequest::default()
    };
    let client = Client::new(&server.url).unwrap();
    assert_eq!(client.create_ticket(&request).await.unwrap().ticket, "t1");
    let request = server.request().await;
    assert!(
        request.starts_with("post /telemetry/tickets http"),
        "{request}"
    );
    assert!(
        request.ends_with(r#"{"until":9,"expires_in":60}"#),
        "{request}"
    );
}

#[tokio::test]
async fn any_other_answer_is_read_by_its_path() {
    let mut server = Scripted::new([Answer::json("200 OK", "{}")]).await;
    let client = Client::new(&server.url).unwrap();
    assert_eq!(
        client.get("/telemetry/counts?since=1m").await.unwrap(),
        "{}"
    );
    let request = server.request().await;
    assert!(
        request.starts_with("get /telemetry/counts?since=1m http"),
        "{request}"
    );
    for path in ["metrics", "/a b"] {
        let error = client.get(path).await.unwrap_err();
        assert!(matches!(error, Error::InvalidUrl { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_probe_says_how_a_stream_gets_here() {
    let hello = "event: hello\ndata: {\"used\":3,\"oldest\":1,\"head\":3,\"epoch\":\"00000000000000ab\",\"reason\":\"fresh\",\"reader\":\"r7\"}\n\n";
    let server = Scripted::new([Answer::stream(&format!(":\n{hello}")).and_hold()]).await;
    let client = Client::new(&server.url).unwrap();
    let probe = client.probe(Duration::from_secs(30)).await.unwrap();
    assert!(probe.head_after <= probe.hello_after && probe.hello_after.is_some());
    assert_eq!(probe.reader.as_deref(), Some("r7"));
    assert!(probe.between.is_empty() && !probe.says_unbuffered);

    // The head, and nothing behind it.
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nvia: 1.1 proxy\r\nserver: nginx\r\n\
                x-reader-id: r8\r\nx-accel-buffering: no\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Scripted::new([Answer::raw(head).and_hold()]).await;
    let client = Client::new(&server.url).unwrap();
    let probe = client.probe(Duration::from_secs(1)).await.unwrap();
    assert!(probe.head_after.is_some() && probe.hello_after.is_none());
    assert_eq!(probe.between, ["1.1 proxy", "nginx"]);
    assert_eq!(probe.encoding.as_deref(), Some("br"));
    assert_eq!(
        (probe.reader.as_deref(), probe.says_unbuffered),
        (Some("r8"), true)
    );

    let server = Scripted::new([Answer::raw("").and_hold()]).await;
    let client = Client::new(&server.url).unwrap();
    let probe = client.probe(Duration::from_millis(50)).await.unwrap();
    assert_eq!((probe.head_after, probe.hello), (None, None));
}
