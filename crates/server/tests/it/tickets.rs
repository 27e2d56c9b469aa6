//! Tickets: one stream for who has no token, within bounds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::hmac;
use serde_json::{Value, json};
use tapline_oapi::{KnownType, from_json};

use crate::http::{Connection, get, in_time, request};
use crate::server::{Server, Setup, TOKEN};
use crate::sse::Stream;

/// A server with a token, and a session in which asking for tickets leaves no events.
async fn guarded() -> Server {
    let server = Setup::default().guarded().idle().await;
    let browser = r#"{"browser":{"console":{"enabled":true},"network":{"enabled":true},"page":{"enabled":true}}}"#;
    server
        .api
        .put(&from_json(browser.as_bytes()).unwrap())
        .await
        .unwrap();
    server
}

/// A ticket, as a page's own server asks for one.
async fn issue(server: &Server, asked: Value) -> String {
    let ask = request("POST", "/telemetry/tickets").token(TOKEN);
    let answer = server.call(&ask.json(asked.to_string())).await;
    assert_eq!(answer.status(), 201, "{asked}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answered = answer.json();
    assert!(answered["expires_at"].as_str().unwrap().ends_with('Z'));
    answered["ticket"].as_str().unwrap().to_owned()
}

/// A ticket with these claims, signed with the token as `docs/security.md` describes.
fn sign(token: &str, claims: &Value) -> String {
    let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let key = mac(token.as_bytes(), b"tapline stream ticket 1");
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256"}"#),
        part(&claims.to_string())
    );
    let signature = URL_SAFE_NO_PAD.encode(mac(key.as_ref(), signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The stream's status with this in its query, and what is said about it.
async fn refused(server: &Server, query: &str) -> String {
    let answer = server
        .call(&get(&format!("/telemetry/stream?{query}")))
        .await;
    assert_eq!(answer.status(), 401, "{query}");
    assert!(answer.header("www-authenticate").is_some());
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_opens_the_stream_and_nothing_else() {
    let server = guarded().await;
    server.fill_to(3);
    let ticket = issue(&server, json!({})).await;
    for name in ["ticket", "jwt"] {
        let mut stream = Stream::open(server.addr, &format!("{name}={ticket}")).await;
        assert_eq!(stream.seqs(3).await, [1, 2, 3]);
    }
    let beside = format!("after=1&ticket={ticket}&category=console");
    assert_eq!(
        Stream::open(server.addr, &beside).await.seqs(2).await,
        [2, 3]
    );
    for (method, target) in [
        ("GET", "/telemetry"),
        ("GET", "/telemetry/events"),
        ("GET", "/telemetry/wait"),
        ("GET", "/telemetry/readers"),
        ("GET", "/metrics"),
        ("POST", "/telemetry/tickets"),
        ("PUT", "/telemetry"),
    ] {
        let answer = server
            .call(&request(method, &format!("{target}?ticket={ticket}")))
            .await;
        assert_eq!(answer.status(), 401, "{method} {target}");
        let message = answer.json()["message"].to_string();
        assert!(message.contains("opens streams only"), "{message}");
    }
    // Nor is it the token.
    let answer = server.call(&get("/telemetry").token(&ticket)).await;
    assert_eq!(answer.status(), 401);
    // There may be one, and it has to be good also beside the token.
    refused(&server, &format!("ticket={ticket}&jwt={ticket}")).await;
    let both = get("/telemetry/stream?ticket=x").token(TOKEN);
    assert_eq!(server.call(&both).await.status(), 401);
}

#[tokio::test]
async fn requests_that_make_no_sense_name_their_field() {
    let server = guarded().await;
    let ask = request("POST", "/telemetry/tickets").token(TOKEN);
    for (body, field) in [
        (r#"{"expires_in":0}"#, "expires_in"),
        (r#"{"seconds":5}"#, "seconds"),
        (r#"{"after":5,"until":4}"#, "until"),
        (r#"{"category":["pages"]}"#, "category"),
    ] {
        let answer = server.call(&ask.clone().json(body)).await;
        assert_eq!(answer.status(), 400, "{body}");
        let message = answer.json()["message"].to_string();
        assert!(message.contains(field), "{message}");
    }
}

#[tokio::test]
async fn tickets_that_are_not_good_are_refused_and_it_is_said_why() {
    let server = guarded().await;
    let exp = now() + 60;
    let epoch = server.epoch();
    let good = sign(TOKEN, &json!({"exp": exp, "epoch": epoch, "after": 0}));
    let mut stream = Stream::open(server.addr, &format!("ticket={good}")).await;
    server.publish(KnownType::PageLoad);
    assert_eq!(stream.seqs(1).await, [1]);

    let mut forged = good.clone();
    let at = forged.len() - 10;
    let other = if forged[at..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    forged.replace_range(at..=at, other);
    for (ticket, expected) in [
        (forged, "signature"),
        (
            sign("another-token-altogether", &json!({"exp": exp})),
            "signature",
        ),
        (sign(TOKEN, &json!({"exp": now() - 2})), "expired"),
        (sign(TOKEN, &json!({"exp": now() + 100_000})), "a day"),
        (
            sign(
                TOKEN,
                &json!({"exp": exp, "epoch": "0000000000000001", "until": 5}),
            ),
            "another epoch",
        ),
        (
            sign(TOKEN, &json!({"exp": exp, "epoch": epoch, "after": 9})),
            "begins after seq 9",
        ),
        (sign(TOKEN, &json!({"exp": exp, "scope": "all"})), "scope"),
        ("zzz".to_owned(), "not a ticket"),
        (String::new(), "not a ticket"),
    ] {
        let message = refused(&server, &format!("ticket={ticket}")).await;
        assert!(message.contains(expected), "{message}");
        assert!(ticket.is_empty() || !message.contains(&ticket), "{message}");
    }
}

#[tokio::test]
async fn what_it_is_for_can_be_narrowed_and_not_widened() {
    let server = guarded().await;
    let publish = || {
        server.publish(KnownType::PageLoad);
        server.publish(KnownType::ConsoleLog);
        server.publish(KnownType::NetworkIdle);
        server.publish(KnownType::PageLcp)
    };
    let pages = issue(
        &server,
        json!({"category": ["page", "network"], "type": ["page_*"]}),
    )
    .await;
    publish();
    for (query, expected) in [
        ("", &[1, 4][..]),
        ("&category=page,console", &[1, 4]),
        ("&type=*", &[1, 4]),
        ("&type=page_lcp", &[4]),
        ("&type=page_lcp,console_log", &[4]),
    ] {
        let query = format!("ticket={pages}{query}");
        let mut stream = Stream::open(server.addr, &query).await;
        assert_eq!(stream.seqs(expected.len()).await, expected, "{query}");
    }

    // Nor while it reads, even by who has the token.
    let query = format!("ticket={pages}&replay=live&notices=true");
    let mut stream = Stream::open(server.addr, &query).await;
    let id = stream.head.header("x-reader-id").unwrap().to_owned();
    let patch = request("PATCH", &format!("/telemetry/readers/{id}")).token(TOKEN);
    let check = async |body: &str, category: Value| {
        let answer = server.call(&patch.clone().json(body)).await;
        assert_eq!(answer.status(), 200, "{body}");
        assert_eq!(answer.json()["category"], category, "{body}");
    };
    check(r#"{"category":[],"type":[]}"#, json!(["network", "page"])).await;
    publish();
    assert_eq!(stream.seqs(2).await, [5, 8]);
    check(r#"{"category":["console"]}"#, json!([])).await;
    let head = publish().seq();
    // A filter holds from where the reader is.
    in_time(async {
        while server
            .readers()
            .await
            .iter()
            .any(|reader| reader.position != head)
        {}
    })
    .await;
    check(r#"{"category":["console","page"]}"#, json!(["page"])).await;
    publish();
    assert_eq!(stream.seqs(2).await, [13, 16]);
}

#[tokio::test]
async fn a_range_is_delivered_exactly_and_then_complete() {
    let server = guarded().await;
    server.fill_to(5);
    let ticket = issue(&server, json!({"after": 1, "until": 8})).await;
    let query = format!("ticket={ticket}&notices=true");
    let mut early = Stream::open(server.addr, &query).await;
    assert_eq!(early.seqs(4).await, [2, 3, 4, 5]);
    server.fill_to(20);
    // Whatever is asked for, it is within the range.
    for (stream, expected) in [
        (early, &[6, 7, 8][..]),
        (
            Stream::open(server.addr, &format!("{query}&after=0")).await,
            &[2, 3, 4, 5, 6, 7, 8],
        ),
        (Stream::resume(server.addr, &query, "6").await, &[7, 8]),
        (Stream::resume(server.addr, &query, "8").await, &[]),
        (
            Stream::open(server.addr, &format!("{query}&category=page")).await,
            &[],
        ),
    ] {
        let mut stream = stream;
        let frames = stream.rest().await;
        let events = frames.iter().filter(|frame| frame.is_event());
        let seqs: Vec<_> = events.map(|frame| frame.seq()).collect();
        assert_eq!(seqs, expected);
        let bye = frames.last().unwrap();
        let complete = json!({"reason": "complete", "last_seq": 8});
        assert_eq!((bye.name(), bye.json()), ("bye", complete));
    }
    // The position to resume from may be beyond the range.
    let mut beyond = Stream::open(server.addr, &format!("{query}&replay=live")).await;
    let frames = beyond.rest().await;
    assert!(frames.iter().all(|frame| !frame.is_event()));
    assert_eq!(frames.last().unwrap().json()["reason"], "complete");
    // A plain client gets it as a comment.
    let mut plain = Stream::open(server.addr, &format!("ticket={ticket}")).await;
    let frames = plain.rest().await;
    assert_eq!(frames.len(), 8);
    let bye = "bye: the ticket's range is complete, the last seq was 8";
    assert_eq!(frames[7].comment(), bye);
    let ended = "tapline_streams_ended_total{reason=\"complete\"}";
    server.until_metric(ended, 7).await;
}

/// The stream ends with its ticket, and one with a new ticket resumes there, while events are published all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ticket_resumes_where_the_old_one_ended() {
    const STREAMS: usize = 3;
    let server = guarded().await;
    let mut delivered = Vec::new();
    let mut last = 0;
    let (events, mut stop) = (server.api.publisher(), tokio::sync::oneshot::channel());
    let publisher = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while stop.1.try_recv().is_err() {
            pace.tick().await;
            let event = tapline_oapi::Event::known(KnownType::PageLoad, None);
            events.publish(event).unwrap();
        }
    });
    let mut old = Vec::new();
    for _ in 0..STREAMS {
        let ticket = issue(&server, json!({"expires_in": 1})).await;
        let query = format!("ticket={ticket}&notices=true");
        let mut stream = Stream::resume(server.addr, &query, last.to_string()).await;
        let frames = stream.rest().await;
        let events = frames.iter().filter(|frame| frame.is_event());
        delivered.extend(events.map(|frame| frame.seq()));
        let bye = frames.last().unwrap();
        assert_eq!(
            (bye.name(), &bye.json()["reason"]),
            ("bye", &json!("expired"))
        );
        assert!(bye.retry.is_some());
        last = bye.json()["last_seq"].as_u64().unwrap();
        assert_eq!(delivered.last(), Some(&last));
        old.push(ticket);
    }
    stop.0.send(()).unwrap();
    publisher.await.unwrap();
    assert_eq!(delivered, (1..=last).collect::<Vec<_>>());
    // The last second of a ticket counts as a whole: but the first one's is long over.
    let message = refused(&server, &format!("ticket={}", old[0])).await;
    assert!(message.contains("expired"), "{message}");
    let ended = "tapline_streams_ended_total{reason=\"expired\"}";
    server.until_metric(ended, STREAMS as u64).await;
}

#[tokio::test]
async fn without_a_token_set_a_ticket_binds_all_the_same() {
    let server = Setup::default().running().await;
    server.publish(KnownType::PageLoad);
    server.publish(KnownType::ConsoleLog);
    let answer = server
        .call(&request("POST", "/telemetry/tickets").json(r#"{"category":["console"]}"#))
        .await;
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
    let mut stream = Stream::open(server.addr, &format!("ticket={ticket}")).await;
    assert_eq!(stream.seqs(1).await, [2]);
    drop(stream);
    refused(&server, "ticket=x").await;
}

/// A stream that is opened by a ticket ends when that does, also where nothing happens.
#[tokio::test]
async fn a_quiet_stream_ends_with_its_ticket() {
    let server = guarded().await;
    let ticket = issue(&server, json!({"expires_in": 1})).await;
    let mut connection = Connection::open(server.addr).await;
    let target = format!("/telemetry/stream?ticket={ticket}");
    connection.write(&get(&target).bytes()).await;
    assert_eq!(connection.head().await.status, 200);
    let rest = in_time(connection.rest()).await;
    let rest = String::from_utf8(rest).unwrap();
    assert!(
        rest.contains(": bye: the ticket has expired, the last seq was 0\n\r\n"),
        "{rest}"
    );
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

/// A stream that has something to send at every moment, and reads for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_never_done_ends_with_its_ticket() {
    let server = guarded().await;
    // A stream with a range is not shared with others, however long the range is.
    let asked = json!({"expires_in": 1, "until": i64::MAX});
    let ticket = issue(&server, asked).await;
    let query = format!("ticket={ticket}&notices=true");
    let mut stream = Stream::open(server.addr, &query).await;
    let flood = server.flood();
    let frames = stream.rest().await;
    drop(flood);
    assert_eq!(frames.last().unwrap().json()["reason"], "expired");
}
