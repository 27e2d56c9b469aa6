//! What pages of other origins may: nothing, unless they are on the list.

use tapline_access::AccessConfig;
use tapline_api::Backend as _;

use crate::http::{Connection, Request, get, request};
use crate::server::{Server, Setup, token};
use crate::sse::Stream;

const APP: &str = "https://app.example";

/// Without a token: pages of [`APP`] may call, and `tapline.internal` is a name of ours.
async fn server() -> Server {
    let config = AccessConfig {
        allow_origins: vec![APP.to_owned()],
        hosts: vec!["tapline.internal".to_owned()],
        ..AccessConfig::default()
    };
    Setup::default().access(config).running().await
}

fn from(request: Request, origin: &str) -> Request {
    request.header("origin", origin)
}

fn preflight(target: &str, origin: &str) -> Request {
    from(request("OPTIONS", target), origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
}

#[tokio::test]
async fn a_preflight_request_is_answered() {
    // With a token, too: what asks has none.
    let guarded = Setup::default().access(AccessConfig {
        token: Some(token()),
        allow_origins: vec![APP.to_owned()],
        ..AccessConfig::default()
    });
    for server in [server().await, guarded.running().await] {
        for target in [
            "/telemetry/events",
            "/telemetry/readers/r1",
            "/telemetry/tickets",
        ] {
            let answer = server.call(&preflight(target, APP)).await;
            assert_eq!((answer.status(), answer.body.len()), (204, 0));
            assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
            let methods = answer.header("access-control-allow-methods").unwrap();
            assert!(methods.contains("PATCH"), "{methods}");
            let headers = answer.header("access-control-allow-headers").unwrap();
            for name in ["authorization", "content-type", "last-event-id"] {
                assert!(headers.contains(name), "{headers}");
            }
            assert_eq!(answer.header("vary"), Some("origin"));

            let answer = server
                .call(&preflight(target, "https://other.example"))
                .await;
            assert_eq!(answer.status(), 403);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
}

#[tokio::test]
async fn pages_on_the_list_read_what_they_get() {
    let server = server().await;
    let post = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
    for request in [
        post,
        get("/telemetry/events"),
        get("/nothing"),
        get("/healthz"),
    ] {
        let answer = server.call(&from(request, APP)).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("x-next-offset"), "{exposed}");
    }
    // The stream's answer is no answer like others.
    let mut stream = Stream::ask(server.addr, &from(get("/telemetry/stream"), APP)).await;
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("cross-origin-resource-policy", "cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("vary", "origin"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{name}");
    }
    assert_eq!(stream.seqs(1).await, [1]);
    let own = Stream::open(server.addr, "").await;
    assert_eq!(own.head.header("access-control-allow-origin"), None);
}

/// A browser sends such requests unasked, and shows the page nothing: but they would be carried out.
#[tokio::test]
async fn what_others_send_is_not_carried_out() {
    let server = server().await;
    for origin in [
        "https://other.example",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.other.example",
        "null",
        "",
    ] {
        let post = request("POST", "/telemetry/events").json(r#"{"type":"page_load"}"#);
        let stop = request("PUT", "/telemetry").json(r#"{"browser":{}}"#);
        for request in [post, stop, get("/telemetry/stream"), get("/healthz")] {
            let answer = server.call(&from(request, origin)).await;
            assert_eq!(answer.status(), 403, "{origin}");
            assert_eq!(answer.json()["code"], "forbidden");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(server.api.retained().head, 0);
    assert!(server.api.state().is_ok());
    // What a page embeds comes without an origin.
    let embedded = get("/telemetry/stream").header("sec-fetch-site", "cross-site");
    assert_eq!(server.call(&embedded).await.status(), 403);
    assert_eq!(server.readers().await.len(), 0);
}

#[tokio::test]
async fn our_own_pages_are_of_our_origin() {
    let server = server().await;
    let own = format!("http://{}", server.addr);
    let request = get("/telemetry").header("host", server.addr.to_string());
    assert_eq!(server.call(&from(request, &own)).await.status(), 200);
}

#[tokio::test]
async fn names_that_are_not_ours_are_not_answered_to() {
    let server = server().await;
    for (host, expected) in [
        ("localhost", 200),
        ("127.0.0.1:10001", 200),
        ("[::1]:10001", 200),
        ("tapline.internal", 200),
        ("TAPLINE.internal:443", 200),
        ("rebound.example", 403),
        ("localhost.rebound.example", 403),
        ("tapline.internal.rebound.example", 403),
        ("192.0.2.1", 403),
        ("", 403),
    ] {
        let answer = server.call(&get("/telemetry").header("host", host)).await;
        assert_eq!(answer.status(), expected, "{host}");
        if expected == 403 {
            assert!(answer.text().contains("`--host`"), "{}", answer.text());
        }
    }
}

/// The status of an answer to these bytes.
async fn status(server: &Server, bytes: &str) -> u16 {
    let mut connection = Connection::open(server.addr).await;
    connection.write(bytes.as_bytes()).await;
    connection.answer("GET").await.status()
}

#[tokio::test]
async fn a_request_of_http_1_1_without_a_host_is_refused() {
    let server = server().await;
    for target in ["/healthz", "/telemetry/stream", "http://localhost/healthz"] {
        let bytes = format!("GET {target} HTTP/1.1\r\n\r\n");
        assert_eq!(status(&server, &bytes).await, 400, "{target}");
    }
    // It was introduced with HTTP/1.1.
    let old = status(&server, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(old, 200);
}

/// A target with a host of its own is what counts, whatever the header says: RFC 9112, section 3.2.2.
#[tokio::test]
async fn the_host_of_an_absolute_target_is_checked() {
    let server = server().await;
    let request = |host: &str, header: &str| {
        format!("GET http://{host}/healthz HTTP/1.1\r\nhost: {header}\r\n\r\n")
    };
    for (host, header, expected) in [
        ("localhost", "localhost", 200),
        ("tapline.internal:8080", "tapline.internal:8080", 200),
        ("localhost", "evil.example", 200),
        ("evil.example", "localhost", 403),
        ("evil.example", "evil.example", 403),
        ("localhost@evil.example", "localhost", 403),
        ("evil.example@localhost", "localhost", 403),
    ] {
        let found = status(&server, &request(host, header)).await;
        assert_eq!(found, expected, "http://{host} and host: {header}");
    }
    let twice = "GET http://localhost/healthz HTTP/1.1\r\nhost: a\r\nhost: localhost\r\n\r\n";
    assert_eq!(status(&server, twice).await, 403);
}
