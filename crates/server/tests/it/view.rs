//! `POST /telemetry/view`, the export as a page, and the server of one document.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tapline_api::Backend as _;
use tapline_server::{serve_document, standalone};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::http::{Connection, get, request};
use crate::server::running;

fn recording() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cdp/tests/golden/tour.ndjson");
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_file_is_shown_as_the_server_would_show_its_events() {
    let server = running().await;
    let lines = recording();
    let compressed = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    let mut bundles = Vec::new();
    for body in [lines.as_bytes(), &compressed] {
        let view = request("POST", "/telemetry/view?name=tour").body(body);
        let answer = server.call(&view).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.header("x-complete"), Some("true"));
        assert_eq!(answer.header("x-unread"), Some("0"));
        bundles.push(answer.json());
    }
    assert_eq!(bundles[0], bundles[1], "compressed or not");
    let bundle = &bundles[0];
    assert_eq!(bundle["name"], "tour");
    let events = lines.lines().count();
    assert_eq!(bundle["events"].as_array().unwrap().len(), events);
    assert_eq!(bundle["tally"]["events"], events);

    assert_eq!(server.api.retained().head, 0, "nothing is published");
    let publish = request("POST", "/telemetry/events").lines(&lines);
    assert_eq!(server.call(&publish).await.json()["published"], events);
    for kind in ["requests", "navigations", "problems"] {
        let target = format!("/telemetry/{kind}?limit=1000");
        let target = match kind {
            "requests" => format!("{target}&headers=true"),
            _ => target,
        };
        let listed = server.call(&get(&target)).await.json();
        let seqs = |items: &Value| -> Vec<Value> {
            let items = items.as_array().unwrap();
            items.iter().map(|it| it["seq"].clone()).collect()
        };
        assert_eq!(seqs(&bundle[kind]), seqs(&listed), "{kind}");
        assert!(!seqs(&listed).is_empty());
    }
}

#[tokio::test]
async fn a_file_that_was_cut_is_shown_as_far_as_it_goes() {
    let server = running().await;
    let lines = recording().repeat(20);
    let compressed = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    let cut = &compressed[..compressed.len() - 100];
    let answer = server
        .call(&request("POST", "/telemetry/view").body(cut))
        .await;
    assert_eq!(
        (answer.status(), answer.header("x-complete")),
        (200, Some("false"))
    );
    let events = answer.json()["events"].as_array().unwrap().len();
    assert!(0 < events, "{events}");
    let spoiled = format!("{}not an event\n", recording());
    let answer = server
        .call(&request("POST", "/telemetry/view").body(spoiled))
        .await;
    assert_eq!(answer.header("x-unread"), Some("1"));
}

#[tokio::test]
async fn what_is_no_file_of_events_is_refused() {
    let server = running().await;
    for (body, part) in [
        (&b"hello"[..], "line 1 is no event"),
        (b"", "there is no event in it"),
        (b"\n\n", "there is no event in it"),
        (b"\n{}\n", "line 2 is no event"),
        (b"\x28\xb5\x2f\xfdxxxxxxxxxxx", "cannot be decompressed"),
    ] {
        let answer = server
            .call(&request("POST", "/telemetry/view").body(body))
            .await;
        assert_eq!(answer.status(), 400, "{answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(part), "{message}");
    }
    // Some kilobytes that become more than is read.
    let event = r#"{"seq":1,"event":{"ts":5,"type":"page_load","category":"page"}}"#;
    let line = format!("{}\n", "x".repeat(1 << 20));
    let bomb = format!("{event}\n{}", line.repeat(130));
    let bomb = zstd::encode_all(bomb.as_bytes(), 1).unwrap();
    let answer = server
        .call(&request("POST", "/telemetry/view").body(bomb))
        .await;
    assert_eq!(answer.status(), 413, "{answer:?}");
    let wrong = server
        .call(&request("POST", "/telemetry/view?x=1").body("{}"))
        .await;
    assert_eq!(wrong.status(), 400);
}

/// The page with its events inside, without secrets.
#[tokio::test]
async fn an_export_as_html_is_the_page_with_its_events() {
    let server = running().await;
    let event = json!({"type": "network_request", "data": {"request_id": "1", "url": "http://site.example/?token=hush",
        "method": "GET", "document_url": "", "headers": {"cookie": "secret=1"}, "initiator_type": "other",
        "post_data": "</script><script>alert(1)</script>"}});
    server
        .call(&request("POST", "/telemetry/events").json(event.to_string()))
        .await;
    let file = server.call(&get("/telemetry/export?format=html")).await;
    assert_eq!(
        file.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let named = "attachment; filename=\"tapline.html\"";
    assert_eq!(file.header("content-disposition"), Some(named));
    let page = standalone();
    let bundle = file.text().strip_prefix(&*page.before).unwrap();
    let bundle = bundle.strip_suffix(&*page.after).unwrap();
    assert!(!bundle.contains('<'), "nothing in it ends its element");
    let bundle: Value = serde_json::from_str(bundle).unwrap();
    let data = &bundle["events"][0]["event"]["data"];
    assert_eq!(data["headers"]["cookie"], "*redacted*");
    assert_eq!(data["url"], "http://site.example/?token=*redacted*");
    assert_eq!(bundle["requests"][0]["url"], data["url"]);
    let whole = server
        .call(&get("/telemetry/export?format=html&with_secrets=true"))
        .await;
    assert!(whole.text().contains("secret=1"));
}

#[tokio::test]
async fn one_document_is_served_to_this_machine_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve_document(listener, "<p>hello", async {
        let _ = stopped.await;
    }));
    let mut connection = Connection::open(address).await;
    let page = connection.call(&get("/")).await;
    assert_eq!((page.status(), page.text()), (200, "<p>hello"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(connection.call(&get("/x")).await.status(), 404);
    assert_eq!(
        connection
            .call(&request("POST", "/").body(""))
            .await
            .status(),
        405
    );
    let rebound = get("/").header("host", "evil.example");
    assert_eq!(connection.call(&rebound).await.status(), 403);
    let other = get("/").header("origin", "http://evil.example");
    assert_eq!(connection.call(&other).await.status(), 403);
    stop.send(()).unwrap();
    server.await.unwrap();
}

/// A HAR has requests and pages; nothing else is made up.
#[tokio::test]
async fn a_har_is_shown_with_its_requests_pages_and_problems() {
    let server = running().await;
    let publish = request("POST", "/telemetry/events").lines(recording());
    server.call(&publish).await;
    let har = server.call(&get("/telemetry/export?format=har")).await;
    let answer = server
        .call(&request("POST", "/telemetry/view?name=x.har").body(har.text()))
        .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let bundle = answer.json();
    assert_eq!(bundle["events"], json!([]));
    assert_eq!(bundle["har"]["creator"], "Tapline");
    assert_eq!(bundle["har"]["sanitized"], true);
    let listed = server
        .call(&get("/telemetry/requests?limit=1000"))
        .await
        .json();
    let statuses = |items: &Value| -> Vec<_> {
        let items = items.as_array().unwrap();
        let seen = items.iter().map(|it| {
            let end = &it["sentence"].as_str().unwrap().rsplit_once(" after ");
            let status = end
                .unwrap_or_default()
                .0
                .rsplit(' ')
                .next()
                .map(str::to_owned);
            (it["seq"].clone(), it["outcome"].clone(), status)
        });
        seen.collect()
    };
    assert_eq!(statuses(&bundle["requests"]), statuses(&listed));
    assert!(!bundle["problems"].as_array().unwrap().is_empty());
    assert!(!bundle["navigations"].as_array().unwrap().is_empty());

    let broken = server
        .call(&request("POST", "/telemetry/view").body(r#"{"log":{"version":"1.2"}}"#))
        .await;
    assert_eq!(broken.status(), 400);
    let message = broken.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("begins as a HAR"), "{message}");
}
