//! Each invalid request gets a status, a stable code and a message that names the fault. Nothing is
//! published, and the server continues.
//!
//! `golden/errors.txt` holds all cases, so that a change of an answer shows up there;
//! `TAPLINE_WRITE_GOLDEN=1` renews it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use tapline_api::Backend as _;
use tapline_oapi::from_json;

use crate::http::{Answer, Connection, Request, get, request};
use crate::server::Setup;

const LIMIT: usize = 1000;

fn cases() -> Vec<(&'static str, Request)> {
    let put = |body: &[u8]| request("PUT", "/telemetry").json(body);
    let patch = |body: &[u8]| request("PATCH", "/telemetry").json(body);
    let post = |body: &[u8]| request("POST", "/telemetry/events").json(body);
    let page = |query: &str| get(&format!("/telemetry/events?{query}"));
    let stream = |query: &str| get(&format!("/telemetry/stream?{query}"));
    let wait = |query: &str| get(&format!("/telemetry/wait?{query}"));
    let deep = "[".repeat(LIMIT - 100);

    vec![
        // PUT and PATCH /telemetry
        ("put, broken JSON", put(b"{\"browser\":")),
        ("put, not JSON at all", put(b"browser=on")),
        ("put, two values", put(b"{} {}")),
        ("put, not UTF-8", put(b"{\"browser\":\"\xff\"}")),
        ("put, array", put(b"[]")),
        ("put, null", put(b"null")),
        ("put, string", put(b"\"browser\"")),
        ("put, unknown field", put(b"{\"browsers\":{}}")),
        (
            "put, unknown category",
            put(b"{\"browser\":{\"pages\":{}}}"),
        ),
        (
            "put, unknown field of a category",
            put(b"{\"browser\":{\"page\":{\"enable\":true}}}"),
        ),
        ("put, browser is an array", put(b"{\"browser\":[]}")),
        (
            "put, category is a bool",
            put(b"{\"browser\":{\"page\":true}}"),
        ),
        (
            "put, enabled is a string",
            put(b"{\"browser\":{\"page\":{\"enabled\":\"true\"}}}"),
        ),
        ("put, field twice", put(b"{\"browser\":{},\"browser\":{}}")),
        (
            "put, deep nesting",
            put(format!("{{\"browser\":{deep}").as_bytes()),
        ),
        (
            "put, media type",
            request("PUT", "/telemetry")
                .header("content-type", "text/yaml")
                .body("browser: {}"),
        ),
        (
            "put, media type is no text",
            request("PUT", "/telemetry")
                .header("content-type", b"\xff")
                .body("{}"),
        ),
        ("put, body over the limit", put(&[b' '; LIMIT + 1])),
        ("patch, broken JSON", patch(b"{")),
        ("patch, unknown field", patch(b"{\"config\":{}}")),
        (
            "patch, enabled is a number",
            patch(b"{\"browser\":{\"page\":{\"enabled\":1}}}"),
        ),
        ("patch, array", patch(b"[{}]")),
        (
            "patch, media type",
            request("PATCH", "/telemetry")
                .header("content-type", "application/merge-patch+json")
                .body("{}"),
        ),
        ("patch, body over the limit", patch(&[b' '; LIMIT + 1])),
        // POST /telemetry/events
        ("publish, no body", request("POST", "/telemetry/events")),
        ("publish, empty body", post(b"")),
        ("publish, broken JSON", post(b"{\"type\":\"page_load\"")),
        (
            "publish, trailing comma",
            post(b"{\"type\":\"page_load\",}"),
        ),
        (
            "publish, broken data",
            post(b"{\"type\":\"page_load\",\"data\":{a:1}}"),
        ),
        ("publish, not UTF-8", post(b"{\"type\":\"\xff\xfe\"}")),
        (
            "publish, not UTF-8 in data",
            post(b"{\"type\":\"page_load\",\"data\":\"\xff\"}"),
        ),
        ("publish, NUL", post(b"\0")),
        ("publish, array", post(b"[{\"type\":\"page_load\"}]")),
        ("publish, array of fields", post(b"[null,\"page_load\"]")),
        ("publish, null", post(b"null")),
        (
            "publish, two events",
            post(b"{\"type\":\"page_load\"}\n{\"type\":\"page_load\"}"),
        ),
        ("publish, no type", post(b"{\"category\":\"page\"}")),
        (
            "publish, empty type",
            post(b"{\"type\":\"\",\"category\":\"page\"}"),
        ),
        ("publish, type is null", post(b"{\"type\":null}")),
        ("publish, type is a number", post(b"{\"type\":1}")),
        (
            "publish, unknown type without a category",
            post(b"{\"type\":\"mine\"}"),
        ),
        (
            "publish, unknown type with a null category",
            post(b"{\"type\":\"mine\",\"category\":null}"),
        ),
        (
            "publish, unknown category",
            post(b"{\"type\":\"mine\",\"category\":\"pages\"}"),
        ),
        (
            "publish, category is a number",
            post(b"{\"type\":\"mine\",\"category\":3}"),
        ),
        (
            "publish, unknown field",
            post(b"{\"type\":\"page_load\",\"seq\":1}"),
        ),
        (
            "publish, envelope",
            post(b"{\"seq\":1,\"event\":{\"type\":\"page_load\"}}"),
        ),
        (
            "publish, field twice",
            post(b"{\"type\":\"page_load\",\"type\":\"mine\"}"),
        ),
        (
            "publish, ts is negative",
            post(b"{\"type\":\"page_load\",\"ts\":-1}"),
        ),
        (
            "publish, ts is a fraction",
            post(b"{\"type\":\"page_load\",\"ts\":1.5}"),
        ),
        (
            "publish, ts is a string",
            post(b"{\"type\":\"page_load\",\"ts\":\"now\"}"),
        ),
        (
            "publish, ts is too large",
            post(b"{\"type\":\"page_load\",\"ts\":9223372036854775808}"),
        ),
        (
            "publish, truncated is a string",
            post(b"{\"type\":\"page_load\",\"truncated\":\"no\"}"),
        ),
        (
            "publish, source is a string",
            post(b"{\"type\":\"page_load\",\"source\":\"cdp\"}"),
        ),
        (
            "publish, source without a kind",
            post(b"{\"type\":\"page_load\",\"source\":{}}"),
        ),
        (
            "publish, unknown source kind",
            post(b"{\"type\":\"page_load\",\"source\":{\"kind\":\"me\"}}"),
        ),
        (
            "publish, reserved source kind",
            post(b"{\"type\":\"page_load\",\"source\":{\"kind\":\"kernel_api\"}}"),
        ),
        (
            "publish, unknown field of the source",
            post(b"{\"type\":\"page_load\",\"source\":{\"kind\":\"cdp\",\"id\":1}}"),
        ),
        (
            "publish, metadata is a number",
            post(b"{\"type\":\"page_load\",\"source\":{\"kind\":\"cdp\",\"metadata\":{\"k\":1}}}"),
        ),
        (
            "publish, deep nesting",
            post(format!("{{\"type\":{deep}").as_bytes()),
        ),
        (
            "publish, deep nesting in metadata",
            post(
                format!(
                    "{{\"type\":\"page_load\",\"source\":{{\"kind\":\"cdp\",\"metadata\":{deep}"
                )
                .as_bytes(),
            ),
        ),
        (
            "publish, media type",
            request("POST", "/telemetry/events")
                .header("content-type", "text/plain")
                .body("{\"type\":\"page_load\"}"),
        ),
        (
            "publish, media type of a form",
            request("POST", "/telemetry/events")
                .header("content-type", "application/x-www-form-urlencoded")
                .body("type=page_load"),
        ),
        ("publish, body over the limit", post(&[b' '; LIMIT + 1])),
        (
            "publish, lines over the limit",
            request("POST", "/telemetry/events")
                .lines("{\"type\":\"page_load\"}\n".repeat(LIMIT / 20)),
        ),
        // GET /telemetry/events
        ("page, limit 0", page("limit=0")),
        ("page, limit over the most", page("limit=1001")),
        ("page, limit is a word", page("limit=all")),
        ("page, limit twice", page("limit=1&limit=2")),
        ("page, after is negative", page("after=-1")),
        ("page, after has half an epoch", page("after=1-00000000")),
        ("wait, after is a word", wait("after=now")),
        ("wait, after is negative", wait("after=-1")),
        ("wait, timeout over the most", wait("timeout_ms=300001")),
        (
            "page, offset is too large",
            page("offset=9223372036854775808"),
        ),
        ("page, unknown order", page("order=newest")),
        ("page, since is a word", page("since=yesterday")),
        (
            "page, since with a plus sign that is a space",
            page("since=2026-11-23T08:00:00+01:00"),
        ),
        ("page, until is a number", page("until=1700000000")),
        ("page, unknown category", page("category=page,pages")),
        ("page, empty category", page("category=")),
        ("page, empty type", page("type=")),
        ("page, not UTF-8", page("order=%FF%FE")),
        ("page, unknown parameter", page("catgory=page")),
        // GET /telemetry/stream
        ("stream, unknown replay", stream("replay=some")),
        ("stream, notices is a number", stream("notices=1")),
        ("stream, unknown category", stream("category=pages")),
        ("stream, empty type", stream("type=page_load,")),
        ("stream, after twice", stream("after=1&after=2")),
        ("stream, unknown parameter", stream("limit=1")),
        // Elsewhere
        ("no such path", get("/telemetries")),
        ("no such path, with a slash", get("/telemetry/")),
        ("no such path, the root", get("/nothing")),
        ("no such path, long", get(&format!("/{}", "x".repeat(5000)))),
        ("no such path, not UTF-8", get("/%FF")),
        (
            "no such path, with a body",
            request("POST", "/events").json("{}"),
        ),
        ("no such method, telemetry", request("TRACE", "/telemetry")),
        (
            "no such method, events",
            request("PUT", "/telemetry/events").json("{}"),
        ),
        (
            "no such method, stream",
            request("POST", "/telemetry/stream").json("{}"),
        ),
        ("no such method, health", request("POST", "/healthz")),
        (
            "no such method, document",
            request("OPTIONS", "/openapi.json"),
        ),
        (
            "no such method, of one's own",
            request("BREW", "/telemetry"),
        ),
    ]
}

/// Code and message of an answer that is an error, and nothing but an error.
fn read(name: &str, answer: &Answer) -> (String, String) {
    let Value::Object(mut body) = answer.json() else {
        panic!("{name}: no object: {answer:?}");
    };
    let mut take = |field: &str| match body.remove(field) {
        Some(Value::String(text)) => text,
        other => panic!("{name}: `{field}` is {other:?}"),
    };
    let read = (take("code"), take("message"));
    assert!(body.is_empty(), "{name}: {body:?}");
    read
}

#[tokio::test]
async fn every_error_is_answered_as_in_the_table() {
    let server = Setup::default()
        .options(|options| options.limits.body_bytes = LIMIT)
        .idle()
        .await;
    // Calls that are refused are published as events, too, where their category is captured.
    let console = from_json(br#"{"browser":{"console":{"enabled":true}}}"#).unwrap();
    server.api.put(&console).await.unwrap();
    server.fill_to(3);
    let before = server.api.state().unwrap();

    let mut table = String::new();
    let mut names = BTreeSet::new();
    for (name, request) in cases() {
        assert!(names.insert(name), "`{name}` is there twice");
        let answer = server.call(&request).await;
        let (code, message) = read(name, &answer);
        assert!(message.len() < 1000, "{name}: {message}");
        let _ = write!(
            table,
            "{name}\n    {} {code}\n    {message}\n",
            answer.status()
        );
        if answer.status() == 405 {
            let allow = answer
                .header("allow")
                .unwrap_or_else(|| panic!("{name}: no `allow`"));
            let _ = writeln!(table, "    allow: {allow}");
        } else {
            assert_eq!(answer.header("allow"), None, "{name}");
        }
        assert_eq!(
            server.api.state().unwrap(),
            before,
            "{name}: something has changed"
        );
        assert_eq!(
            server.call(&get("/healthz")).await.status(),
            200,
            "after {name}"
        );
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors.txt");
    if std::env::var_os("TAPLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (answered, expected) in table.lines().zip(golden.lines()) {
        assert_eq!(
            answered, expected,
            "TAPLINE_WRITE_GOLDEN=1 renews the table, where that is meant"
        );
    }
    assert_eq!(table.lines().count(), golden.lines().count());
}

/// Invalid requests get the same answers with and without a session.
#[tokio::test]
async fn invalid_requests_get_the_same_errors_without_a_session() {
    let server = Setup::default().idle().await;
    for (request, status, code) in [
        (get("/telemetry"), 404, "not_configured"),
        (request("PATCH", "/telemetry"), 404, "not_configured"),
        (
            request("PATCH", "/telemetry").json("{"),
            400,
            "invalid_json",
        ),
        (
            request("POST", "/telemetry/events").json("{}"),
            400,
            "missing_field",
        ),
        (
            request("POST", "/telemetry/events")
                .json(r#"{"type":"page_load","source":{"kind":"kernel_api"}}"#),
            400,
            "reserved_source",
        ),
    ] {
        let answer = server.call(&request).await;
        assert_eq!(
            (answer.status(), &*read("idle", &answer).0),
            (status, code),
            "{request:?}"
        );
    }
}

/// A body that is too long is refused as such, whether it says its length or not, and also to a
/// client that writes all of it before it reads.
#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_sent() {
    let server = Setup::default()
        .options(|options| options.limits.body_bytes = LIMIT)
        .running()
        .await;
    let fits = format!("{:1$}", r#"{"type":"page_load"}"#, LIMIT);
    let answer = server
        .call(&request("POST", "/telemetry/events").json(&fits))
        .await;
    assert_eq!(answer.status(), 200, "exactly the limit");

    let chunk = format!("100\r\n{:256}\r\n", "");
    let mut connection = Connection::open(server.addr).await;
    connection
        .write(
            b"POST /telemetry/events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    connection.write(chunk.repeat(4).as_bytes()).await;
    let answer = connection.answer("POST").await;
    assert_eq!(
        (answer.status(), &*read("chunked", &answer).0),
        (413, "body_too_large")
    );

    for length in [LIMIT + 1, 100_000, 5_000_000] {
        let answer = server
            .call(&request("POST", "/telemetry/events").json(vec![b' '; length]))
            .await;
        assert_eq!(
            (answer.status(), &*read("long", &answer).0),
            (413, "body_too_large")
        );
    }
    assert_eq!(server.api.retained().head, 1);
}

#[tokio::test]
async fn half_a_body_publishes_nothing() {
    let server = Setup::default().running().await;
    for head in [
        "content-type: application/json",
        "content-type: application/x-ndjson",
    ] {
        let mut connection = Connection::open(server.addr).await;
        let request = format!(
            "POST /telemetry/events HTTP/1.1\r\nhost: localhost\r\n{head}\r\ncontent-length: 100\r\n\r\n{{\"type\":\"page_load\"}}\n"
        );
        connection.write(request.as_bytes()).await;
        connection.end().await;
        let rest = String::from_utf8(connection.rest().await).unwrap();
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
            "{rest}"
        );
        assert_eq!(server.api.retained().head, 0);
    }
}

/// The field that is to be shortened, and not another one.
#[tokio::test]
async fn the_field_that_makes_an_event_too_large_is_named() {
    const MANY: usize = 1_000_000;
    let server = Setup::default().running().await;
    let (text, less) = ("x".repeat(MANY), "y".repeat(MANY / 10));
    for (event, field) in [
        (
            format!(r#"{{"type":"{text}","category":"page"}}"#),
            "field `type`: too large",
        ),
        (
            format!(
                r#"{{"type":"{less}","category":"page","source":{{"kind":"cdp","event":"{text}"}}}}"#
            ),
            "field `source.event`: too large",
        ),
        (
            format!(
                r#"{{"type":"{less}","category":"page","source":{{"kind":"cdp","metadata":{{"{less}":"{text}"}}}}}}"#
            ),
            "field `source.metadata`: too large",
        ),
        // Each control character takes six bytes of the envelope, and a few of the request.
        (
            format!(
                r#"{{"type":"{}","category":"page","source":{{"kind":"cdp","event":"{}"}}}}"#,
                "\\n".repeat(MANY / 3),
                "\\u0001".repeat(MANY / 6),
            ),
            "field `source.event`: too large",
        ),
    ] {
        let answer = server
            .call(&request("POST", "/telemetry/events").json(event))
            .await;
        let (code, message) = read("too large", &answer);
        assert_eq!((answer.status(), &*code), (413, "event_too_large"));
        assert!(message.starts_with(field), "{message}");
    }
    assert_eq!(server.api.retained().head, 0);
}
