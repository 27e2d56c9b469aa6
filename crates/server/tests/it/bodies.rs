//! Bodies of requests: complete ones whose clients write no more, compressed ones, and ones that some programs mark.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tapline_api::Backend as _;

use crate::http::{Answer, Connection, Request, get, in_time, request};
use crate::server::{Server, Setup, running};

const EVENT: &str = r#"{"type":"x","category":"page","data":1}"#;

fn post() -> Request {
    request("POST", "/telemetry/events")
}

fn gzip(body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn check(answer: &Answer, status: u16, code: &str, message: &str) {
    let body = answer.json();
    assert_eq!((answer.status(), &body["code"]), (status, &code.into()));
    let text = body["message"].as_str().unwrap();
    assert!(text.contains(message), "{text}");
}

// --- Clients that have closed their sending side, or all of it ---

/// The answer to a request whose client closes its sending side once it is sent.
async fn half_closed(server: &Server, request: &Request, method: &str) -> Answer {
    let mut connection = Connection::open(server.addr).await;
    connection.write(&request.bytes()).await;
    connection.end().await;
    let answer = connection.answer(method).await;
    assert_eq!(connection.rest().await, b"");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_sending_side_gets_its_answer() {
    const LINES: usize = 20_000;
    let server = running().await;
    let batch = post().lines(format!("{EVENT}\n").repeat(LINES));
    let answer = half_closed(&server, &batch, "POST").await;
    assert_eq!(answer.json()["published"], LINES);
    assert_eq!(server.api.retained().head, LINES as u64);

    let one = half_closed(&server, &post().json(EVENT), "POST").await;
    assert_eq!(one.json()["seq"], LINES + 1);
    for (method, body, status) in [
        ("PATCH", r#"{"browser":{"console":{"enabled":false}}}"#, 200),
        ("PUT", r#"{"browser":{"page":{"enabled":true}}}"#, 200),
        ("PUT", r#"{"browser":{}}"#, 200),
        ("PUT", "{}", 201),
    ] {
        let request = request(method, "/telemetry").json(body);
        let answer = half_closed(&server, &request, method).await;
        assert_eq!(answer.status(), status, "{method} {body}");
    }
    let page = get(&format!("/telemetry/events?after={LINES}&type=x"));
    let answer = half_closed(&server, &page, "GET").await;
    assert_eq!(answer.json().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_whose_client_closes_its_sending_side_is_answered() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    connection.write(&get("/telemetry/wait").bytes()).await;
    connection.end().await;
    in_time(async {
        while server.readers().await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.call(&post().json(EVENT)).await.status(), 200);
    assert_eq!(connection.answer("GET").await.json()["seq"], 1);

    let nothing = get("/telemetry/wait?after=1&timeout_ms=1");
    let answer = half_closed(&server, &nothing, "GET").await;
    assert_eq!(answer.status(), 204);
}

/// The requests that came before the end are all answered, in order.
#[tokio::test]
async fn pipelined_requests_before_a_half_close_are_all_answered() {
    let server = running().await;
    let mut connection = Connection::open(server.addr).await;
    let bytes = [
        post().json(EVENT).bytes(),
        post().lines(format!("{EVENT}\n{EVENT}\n")).bytes(),
        get("/telemetry/events").bytes(),
    ];
    connection.write(&bytes.concat()).await;
    connection.end().await;
    assert_eq!(connection.answer("POST").await.json()["seq"], 1);
    assert_eq!(connection.answer("POST").await.json()["published"], 2);
    let page = connection.answer("GET").await.json();
    assert_eq!(page.as_array().unwrap().len(), 3);
    assert_eq!(connection.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_arrived_whole_is_published_whole_though_its_client_has_gone() {
    const LINES: u64 = 5_000;
    let server = running().await;
    let batch = post().lines(format!("{EVENT}\n").repeat(LINES as usize));
    for round in 1..=3 {
        let mut connection = Connection::open(server.addr).await;
        connection.write(&batch.bytes()).await;
        drop(connection);
        in_time(async {
            while server.api.retained().head != round * LINES {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

// --- Compressed bodies ---

#[tokio::test]
async fn a_gzip_body_is_decompressed() {
    const LINES: usize = 500;
    let server = running().await;
    let lines = format!("{EVENT}\n").repeat(LINES);
    for name in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        let batch = post().header("content-encoding", name).lines(gzip(&lines));
        let answer = server.call(&batch).await;
        assert_eq!(answer.json()["published"], LINES, "{name}");
    }
    // Two files, one behind the other, are one.
    let both = [gzip(&lines), gzip(EVENT)].concat();
    let batch = post().header("content-encoding", "gzip").lines(both);
    assert_eq!(server.call(&batch).await.json()["published"], LINES + 1);

    let one = post().header("content-encoding", "gzip").json(gzip(EVENT));
    assert_eq!(server.call(&one).await.status(), 200);
    let config = r#"{"browser":{"page":{"enabled":true}}}"#;
    for method in ["PUT", "PATCH"] {
        let request = request(method, "/telemetry").header("content-encoding", "gzip");
        let answer = server.call(&request.json(gzip(config))).await;
        assert_eq!(answer.status(), 200, "{method}");
    }
    for name in ["identity", "Identity", ""] {
        let plain = post().header("content-encoding", name).json(EVENT);
        assert_eq!(server.call(&plain).await.status(), 200, "{name}");
    }
}

#[tokio::test]
async fn another_content_encoding_is_refused_and_the_header_is_named() {
    let server = running().await;
    for name in [
        "deflate",
        "br",
        "zstd",
        "compress",
        "gzip, gzip",
        "gzip, br",
        "aws-chunked",
        "gz",
    ] {
        for request in [post().json(EVENT), post().lines(EVENT)] {
            let request = request.header("content-encoding", name);
            let answer = server.call(&request).await;
            check(
                &answer,
                415,
                "unsupported_media_type",
                "header `content-encoding`",
            );
            assert_eq!(answer.header("accept-encoding"), Some("gzip, identity"));
        }
        let put = request("PUT", "/telemetry").header("content-encoding", name);
        assert_eq!(server.call(&put.json("{}")).await.status(), 415, "{name}");
        let tickets = request("POST", "/telemetry/tickets").header("content-encoding", name);
        assert_eq!(server.call(&tickets.json("{}")).await.status(), 415);
    }
    let published = server.call(&get("/telemetry/events?type=x")).await;
    assert_eq!(published.text(), "[]");
}

#[tokio::test]
async fn a_body_that_is_not_gzip_is_refused_and_nothing_of_it_is_published() {
    let server = running().await;
    let whole = gzip(format!("{EVENT}\n").repeat(100));
    let mut wrong_sum = whole.clone();
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 1;
    for body in [
        EVENT.as_bytes().to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..20].to_vec(),
        wrong_sum,
        [&*whole, b"tail"].concat(),
    ] {
        let batch = post().header("content-encoding", "gzip").lines(body);
        let answer = server.call(&batch).await;
        check(&answer, 400, "bad_request", "header `content-encoding`");
    }
    assert_eq!(server.api.retained().head, 0);
}

#[tokio::test]
async fn a_compressed_body_is_bounded_by_what_it_becomes() {
    const LIMIT: usize = 100_000;
    let setup = Setup::default().limits(|limits| limits.body_bytes = LIMIT);
    let server = setup.running().await;
    let event = |bytes: usize| {
        let (start, end) = (r#"{"type":"x","category":"page","data":""#, r#""}"#);
        format!(
            "{start}{}{end}",
            "z".repeat(bytes - start.len() - end.len())
        )
    };
    for (bytes, status) in [(LIMIT, 200), (LIMIT + 1, 413), (50 * LIMIT, 413)] {
        let body = gzip(event(bytes));
        assert!(body.len() < LIMIT);
        let answer = server
            .call(&post().header("content-encoding", "gzip").json(body))
            .await;
        assert_eq!(answer.status(), status, "{bytes} bytes");
        if status == 413 {
            check(&answer, 413, "body_too_large", "when it is decompressed");
        }
    }
}

// --- Small things that programs differ in ---

#[tokio::test]
async fn a_byte_order_mark_is_passed_over() {
    const MARK: &str = "\u{feff}";
    let server = running().await;
    let one = post().json(format!("{MARK}{EVENT}"));
    assert_eq!(server.call(&one).await.status(), 200);
    let lines = post().lines(format!("{MARK}{EVENT}\n{EVENT}\n"));
    assert_eq!(server.call(&lines).await.json()["published"], 2);
    let put = request("PUT", "/telemetry").json(format!("{MARK}{{}}"));
    assert_eq!(server.call(&put).await.status(), 200);
}

#[tokio::test]
async fn every_name_of_ndjson_is_accepted() {
    let server = running().await;
    for name in [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "Application/JSONL; charset=utf-8",
    ] {
        let lines = post().header("content-type", name);
        let answer = server.call(&lines.body(format!("{EVENT}\n{EVENT}"))).await;
        assert_eq!(answer.json()["published"], 2, "{name}");
    }
    let put = request("PUT", "/telemetry").header("content-type", "application/jsonl");
    let answer = server.call(&put.body("{}")).await;
    check(
        &answer,
        415,
        "unsupported_media_type",
        "`application/jsonl` is not accepted here",
    );
}
