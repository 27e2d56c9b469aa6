//! Every answer that is not the usual one, and none.

use std::time::{Duration, Instant, SystemTime};

use tapline_oapi::Category;

use crate::mock::{Mock, Reply};
use crate::rig::{Rig, event, ledger, options};

/// Sends ten events to an endpoint with this script. Gives the number of requests, and the last error.
async fn check(
    script: impl IntoIterator<Item = Reply>,
    expected: tapline_api::SinkLedger,
) -> (usize, String) {
    let mock = Mock::new();
    mock.script(script);
    let mut options = options(&mock.url());
    options.timeout = Duration::from_millis(300);
    let rig = Rig::with_retention(options, 1000);
    rig.publish_some(10);
    rig.handle.on();
    rig.publish_some(10);
    let status = rig.stop().await;
    assert_eq!(status.ledger, expected, "{status:?}");
    let arrived = mock.arrived().len();
    if expected.rejected == 0 {
        assert_eq!(arrived, 10, "each event arrives once");
    }
    (mock.received().len(), status.last_error.unwrap_or_default())
}

fn raw(text: &str) -> Reply {
    Reply::Raw(text.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_endpoint_asks_to_send_again_is_sent_again() {
    for status in [429, 502, 503, 504] {
        let replies = [Reply::status(status), Reply::status(status)];
        let (requests, error) = check(replies, ledger(10, 0, 0, 0)).await;
        assert_eq!(requests, 3, "{status}");
        assert!(error.contains(&status.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_refuses_otherwise_is_rejected_and_not_sent_again() {
    for status in [
        400, 401, 403, 404, 405, 408, 411, 415, 422, 431, 500, 501, 505, 507, 599,
    ] {
        let (requests, error) = check([Reply::status(status)], ledger(0, 0, 10, 0)).await;
        assert_eq!(requests, 1, "{status}");
        assert!(error.contains(&status.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_2xx_is_a_success() {
    for status in [200, 201, 202, 204, 299] {
        let (requests, error) = check([Reply::status(status)], ledger(10, 0, 0, 0)).await;
        assert_eq!((requests, &*error), (1, ""), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_the_error_names_it() {
    for status in [301, 302, 303, 307, 308] {
        let location = "location: http://elsewhere.example/v1/logs?key=secret\r\n".to_owned();
        let reply = Reply::Answer(status, location, Vec::new());
        let (requests, error) = check([reply], ledger(0, 0, 10, 0)).await;
        assert_eq!(requests, 1);
        assert!(
            error.contains("redirect to http://elsewhere.example/v1/logs;"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
    let (_, error) = check([Reply::status(304)], ledger(0, 0, 10, 0)).await;
    assert!(error.contains("redirect to nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_an_error_is_shown_in_one_line() {
    // google.rpc.Status: code 3, and a message.
    let mut status = vec![0x08, 3, 0x12, 15];
    status.extend_from_slice(b"no such\n tenant");
    let protobuf = "content-type: application/x-protobuf\r\n".to_owned();
    let reply = Reply::Answer(400, protobuf.clone(), status);
    let (_, error) = check([reply], ledger(0, 0, 10, 0)).await;
    assert_eq!(
        error,
        "the endpoint answered 400 Bad Request: no such  tenant"
    );

    let text = format!("<h1>\x1b[31mno{}</h1>", "!".repeat(5000));
    let (_, error) = check(
        [Reply::Answer(404, String::new(), text.into_bytes())],
        ledger(0, 0, 10, 0),
    )
    .await;
    assert!(
        error.starts_with("the endpoint answered 404 Not Found: <h1> [31mno!!!"),
        "{error}"
    );
    assert!(error.len() < 400, "{error}");

    let garbage = Reply::Answer(400, protobuf, vec![0xff; 40]);
    let (_, error) = check([garbage], ledger(0, 0, 10, 0)).await;
    assert_eq!(error, "the endpoint answered 400 Bad Request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_success_counts_as_rejected_and_is_not_sent_again() {
    let (requests, error) = check([Reply::partial(3, "too old")], ledger(7, 0, 3, 0)).await;
    assert_eq!(requests, 1);
    assert_eq!(error, "the endpoint rejected 3 of 10 records: too old");
    // Only a warning.
    let (requests, error) = check([Reply::partial(0, "deprecated")], ledger(10, 0, 0, 0)).await;
    assert_eq!(
        (requests, &*error),
        (1, "the endpoint accepted the records and warns: deprecated")
    );
    // Numbers that mean nothing.
    check([Reply::partial(11, "?")], ledger(0, 0, 10, 0)).await;
    check([Reply::partial(i64::MAX, "?")], ledger(0, 0, 10, 0)).await;
    check([Reply::partial(-1, "?")], ledger(10, 0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_whose_body_is_wrong_is_a_success_with_a_warning() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for (reply, expected) in [
        (
            Reply::Answer(200, String::new(), vec![0xff; 9]),
            "not of OTLP",
        ),
        (
            Reply::Answer(200, String::new(), b"<html>".to_vec()),
            "not of OTLP",
        ),
        (
            Reply::Endless(format!("{ok}transfer-encoding: chunked\r\n\r\n4000\r\n").into()),
            "body",
        ),
        (
            Reply::Endless(format!("{ok}content-length: 99999999999\r\n\r\n").into()),
            "longer than 65536 bytes",
        ),
        (
            Reply::Endless(format!("{ok}\r\n").into()),
            "longer than 65536 bytes",
        ),
        (
            raw(&format!("{ok}content-length: 100\r\n\r\nhalf")),
            "broke off",
        ),
        (
            Reply::Stall(format!("{ok}content-length: 100\r\n\r\nhalf").into()),
            "did not end in time",
        ),
    ] {
        let (requests, error) = check([reply.clone()], ledger(10, 0, 0, 0)).await;
        assert_eq!(requests, 1, "{reply:?}");
        assert!(error.contains(expected), "{reply:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_answer_the_request_is_sent_again() {
    for (reply, expected) in [
        (Reply::CloseEarly, "broke"),
        (raw(""), "broke before there was an answer"),
        (raw("HTTP/1.1 200"), "broke before there was an answer"),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-le"),
            "broke before there was an answer",
        ),
        (
            raw("SSH-2.0-OpenSSH_9.2\r\n"),
            "broke before there was an answer",
        ),
        (
            raw("HTTP/1.1 9 X\r\n\r\n"),
            "broke before there was an answer",
        ),
        (
            raw("HTTP/1.1 503 X\r\ncontent-length: x\r\n\r\n"),
            "broke before there was an answer",
        ),
        (
            Reply::Endless("HTTP/1.1 200 OK\r\nx: ".into()),
            "broke before there was an answer",
        ),
        (
            Reply::Endless("HTTP/1.1 200 ".into()),
            "broke before there was an answer",
        ),
        (Reply::Stall(Vec::new()), "did not answer within 300ms"),
        (
            Reply::Stall("HTTP/1.1 100 Continue\r\n\r\n".into()),
            "did not answer within 300ms",
        ),
        (
            Reply::Stall("HTTP/1.1 200 OK\r\n".into()),
            "did not answer within 300ms",
        ),
    ] {
        let (_, error) = check([reply.clone(), reply.clone()], ledger(10, 0, 0, 0)).await;
        assert!(error.contains(expected), "{reply:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_meanwhile_is_no_error() {
    let mock = Mock::new();
    mock.script([Reply::AcceptAndClose, Reply::Accept, Reply::AcceptAndClose]);
    let rig = Rig::new(options(&mock.url()));
    for n in 1..=5 {
        rig.publish_some(1);
        mock.wait_for(n);
    }
    let status = rig.stop().await;
    assert_eq!(
        (status.ledger, status.last_error),
        (ledger(5, 0, 0, 0), None)
    );
    let connections: Vec<_> = mock.received().iter().map(|it| it.connection).collect();
    assert_eq!(
        connections,
        [1, 2, 2, 3, 3],
        "a connection is kept where it can be"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_down_gets_the_events_once_it_is_up() {
    let mock = Mock::new();
    let address = mock.address;
    drop(mock);
    let rig = Rig::new(options(&format!("http://{address}")));
    rig.publish_some(10);
    // There is an error to see in the meantime.
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.status().last_error.is_none() {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let error = rig.status().last_error.unwrap();
    assert!(
        error.contains("cannot connect to http://127.0.0.1:"),
        "{error}"
    );
    assert!(error.contains("/v1/logs: "), "the reason follows: {error}");
    assert_eq!(rig.status().ledger.exported, 0);
    let mock = Mock::listening(address, None);
    rig.publish_some(10);
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(20, 0, 0, 0));
    assert_eq!(mock.arrived().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_as_long_as_the_endpoint_asks() {
    // Whole seconds: two at least are left of these three. It is made when it is sent, since the pauses before it count.
    let date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    let values: [(&dyn Fn() -> String, u64); 3] = [
        (&|| "1".to_owned(), 1000),
        (&date, 1000),
        (&|| "0".to_owned(), 0),
    ];
    for (value, at_least) in values {
        let value = value();
        let mock = Mock::new();
        mock.script([Reply::Answer(
            429,
            format!("retry-after: {value}\r\n"),
            Vec::new(),
        )]);
        let rig = Rig::new(options(&mock.url()));
        rig.publish_some(1);
        let received = mock.wait_for(2);
        let pause = received[1].at - received[0].at;
        assert!(
            Duration::from_millis(at_least) <= pause,
            "{value}: {pause:?}"
        );
        assert!(pause < Duration::from_secs(5), "{value}: {pause:?}");
        assert_eq!(rig.stop().await.ledger, ledger(1, 0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_endpoint_slows_no_producer_and_the_gap_is_exported() {
    let mock = Mock::new();
    mock.script([Reply::Stall(Vec::new())]);
    let mut options = options(&mock.url());
    options.timeout = Duration::from_millis(500);
    let rig = Rig::with_retention(options, 64);
    rig.handle.on();
    rig.publish_some(1);
    mock.wait_for(1);
    // While the request is waiting for its answer.
    let before = Instant::now();
    for _ in 0..50 {
        rig.publish_some(64);
    }
    assert!(
        before.elapsed() < Duration::from_millis(400),
        "{:?}",
        before.elapsed()
    );
    let status = rig.stop().await;
    let it = status.ledger;
    assert_eq!(it.read + it.lost, 3201, "{it:?}");
    assert_eq!(it.exported, it.read, "{it:?}");
    assert!(0 < it.lost);
    let mut expected = 1;
    for arrived in mock.arrived() {
        use tapline_api::conformance::Arrived;
        let (first, last) = match arrived {
            Arrived::Event(seq) => (seq, seq),
            Arrived::Gap { first, last } => (first, last),
        };
        assert_eq!(first, expected, "without holes");
        expected = last + 1;
    }
    assert_eq!(expected, 3202);
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_events_are_counted_whatever_becomes_of_the_others() {
    for (replies, expected) in [
        (vec![], ledger(2, 3, 0, 0)),
        (vec![Reply::status(503)], ledger(2, 3, 0, 0)),
        (vec![Reply::status(400)], ledger(0, 3, 2, 0)),
        (vec![Reply::partial(1, "")], ledger(1, 3, 1, 0)),
    ] {
        let mock = Mock::new();
        mock.script(replies);
        let rig = Rig::with_retention(options(&mock.url()), 100);
        rig.handle.on();
        for category in [
            Category::Screenshot,
            Category::Page,
            Category::Monitor,
            Category::System,
            Category::Screenshot,
        ] {
            rig.publish(event("custom", category, "{}"));
        }
        assert_eq!(rig.stop().await.ledger, expected);
    }
    // Alone, they need no endpoint.
    let rig = Rig::new(options("http://127.0.0.1:1"));
    rig.publish(event("custom", Category::Screenshot, "{}"));
    assert_eq!(rig.stop().await.ledger, ledger(0, 1, 0, 0));
}
