//! `/telemetry`: what is captured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use serde_json::{Value, json};
use tapline_api::{BoxFuture, Prepared, Publisher, Running, Source, SourceError};
use tapline_oapi::{CategorySet, State};

use crate::http::{get, request};
use crate::server::{Server, Setup, running};

async fn state(server: &Server) -> (u16, Value) {
    let answer = server.call(&get("/telemetry")).await;
    (answer.status(), answer.json())
}

/// `GET` right after a call answers with the same state as the call, except for the event of the call itself,
/// if a session captured it.
async fn check_state(server: &Server, answered: &Value, own_events: u64) {
    let (status, mut state) = state(server).await;
    let seq = state["seq"].as_u64().unwrap() - own_events;
    state["seq"] = json!(seq);
    assert_eq!((status, &state), (200, answered));
}

/// The status, and the state.
async fn put(server: &Server, body: &str) -> (u16, Value) {
    let answer = server.call(&request("PUT", "/telemetry").json(body)).await;
    let answered = answer.json();
    if answered.get("session_id").is_some() {
        let captured = answered["config"]["browser"]["platform"]["enabled"] == true;
        let own_events = u64::from(captured && answer.status() == 200);
        check_state(server, &answered, own_events).await;
    }
    (answer.status(), answered)
}

#[tokio::test]
async fn put_starts_replaces_and_clears() {
    let server = Setup::default().idle().await;
    assert_eq!(state(&server).await.0, 404);

    let (status, started) = put(&server, "{}").await;
    assert_eq!(status, 201);
    let typed: State = serde_json::from_value(started.clone()).unwrap();
    assert_eq!(typed.config.browser.enabled(), CategorySet::USER_FACING);
    assert_eq!((typed.seq, typed.session_start_seq), (0, Some(0)));
    assert_eq!(typed.epoch.to_string(), server.epoch());
    assert!(typed.applied_at.is_some());

    let page = r#"{"browser":{"page":{"enabled":true}}}"#;
    let (status, replaced) = put(&server, page).await;
    assert_eq!(
        (status, &replaced["session_id"]),
        (200, &started["session_id"])
    );
    assert_eq!(
        replaced["config"]["browser"]["page"],
        json!({"enabled": true})
    );
    assert_eq!(
        replaced["config"]["browser"]["console"],
        json!({"enabled": false})
    );

    let (status, cleared) = put(&server, r#"{"browser":{"page":{"enabled":false}}}"#).await;
    assert_eq!(status, 200);
    let keys: Vec<_> = cleared.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["config", "epoch", "seq"],
        "no session, and no `applied_at`"
    );
    assert_eq!(state(&server).await.0, 404);
    assert_eq!(put(&server, page).await.0, 201);
}

/// No body, an empty one with any media type, and `{}` in each way of saying that it is JSON.
#[tokio::test]
async fn a_body_may_be_left_out() {
    for request in [
        request("PUT", "/telemetry"),
        request("PUT", "/telemetry").body(""),
        request("PUT", "/telemetry")
            .header("content-type", "text/plain")
            .body(""),
        request("PUT", "/telemetry").body("{}"),
        request("PUT", "/telemetry").json(" {} "),
        request("PUT", "/telemetry")
            .header("content-type", "Application/JSON; charset=utf-8")
            .body(r#"{"browser":null}"#),
    ] {
        let server = Setup::default().idle().await;
        let answer = server.call(&request).await;
        assert_eq!(answer.status(), 201, "{request:?}");
        let state: State = serde_json::from_value(answer.json()).unwrap();
        assert_eq!(state.config.browser.enabled(), CategorySet::USER_FACING);
    }
}

#[tokio::test]
async fn patch_changes_what_is_named() {
    let server = running().await;
    let before = state(&server).await.1;
    let patch = async |body: &str| {
        let answer = server
            .call(&request("PATCH", "/telemetry").json(body))
            .await;
        (answer.status(), answer.json())
    };
    let unchanged = server.call(&request("PATCH", "/telemetry")).await.json();
    assert_eq!(unchanged, before, "nothing is no change");
    let (status, unchanged) = patch("{}").await;
    assert_eq!(
        (status, &unchanged["applied_at"]),
        (200, &before["applied_at"])
    );
    let (status, after) = patch(r#"{"browser":{"page":{"enabled":false}}}"#).await;
    assert_eq!((status, &after["session_id"]), (200, &before["session_id"]));
    assert_eq!(
        after["config"]["browser"]["page"],
        json!({"enabled": false})
    );
    assert_eq!(
        after["config"]["browser"]["network"],
        json!({"enabled": true})
    );
    check_state(&server, &after, 1).await;

    let none: serde_json::Map<_, _> = after["config"]["browser"]
        .as_object()
        .unwrap()
        .keys()
        .map(|category| (category.clone(), json!({"enabled": false})))
        .collect();
    let (status, cleared) = patch(&json!({ "browser": none }).to_string()).await;
    assert_eq!((status, cleared.get("applied_at")), (200, None));
    assert_eq!(patch("{}").await.0, 404);
    assert_eq!(put(&server, "{}").await.0, 201);
}

/// Fails to start, or panics, until `well` is set.
#[derive(Clone)]
struct Faulty {
    well: Arc<AtomicBool>,
    panics: bool,
}

impl Source for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
        Box::pin(async {
            if self.well.load(SeqCst) {
                return Ok(Box::new(self.clone()) as Box<dyn Prepared>);
            }
            assert!(!self.panics, "a defect of the source");
            Err(SourceError::new("no browser at the other end"))
        })
    }
}

impl Prepared for Faulty {
    fn run(self: Box<Self>, _: Publisher) -> Box<dyn Running> {
        self
    }
}

impl Running for Faulty {
    fn reconfigure(&mut self, _: CategorySet) {}

    fn stop(self: Box<Self>, _: Instant) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

#[tokio::test]
async fn a_source_that_cannot_start_is_named_and_leaves_no_session() {
    for (panics, code, message) in [
        (
            false,
            "source_failed",
            "the source `faulty` could not start",
        ),
        (true, "internal", "the server failed to answer"),
    ] {
        let well = Arc::new(AtomicBool::new(false));
        let source = Faulty {
            well: well.clone(),
            panics,
        };
        let server = Setup::default().with(source).await;
        let answer = server.call(&request("PUT", "/telemetry").json("{}")).await;
        let id = answer.header("x-request-id").unwrap();
        let message = format!("{message}; the log has the cause under request id {id}");
        let expected = json!({"code": code, "message": message});
        assert_eq!((answer.status(), answer.json()), (500, expected));
        assert_eq!(state(&server).await.0, 404);
        assert!(server.api.state().is_err());
        well.store(true, SeqCst);
        assert_eq!(put(&server, "{}").await.0, 201);
    }
}

#[tokio::test]
async fn delete_ends_the_session() {
    let server = running().await;
    server.fill_to(3);
    let delete = request("DELETE", "/telemetry");
    let answer = server.call(&delete).await;
    assert_eq!(answer.status(), 200);
    let typed: State = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(typed.config.browser.enabled(), CategorySet::EMPTY);
    assert_eq!((typed.seq, typed.session_id), (3, None));
    assert!(server.api.state().is_err());

    let again = server.call(&delete).await;
    assert_eq!(
        (again.status(), &again.json()["code"]),
        (404, &json!("not_configured"))
    );
    // Retained events stay, and the next session begins after them.
    let events = server.call(&get("/telemetry/events")).await;
    assert_eq!(events.json().as_array().unwrap().len(), 3);
    assert_eq!(put(&server, "{}").await.1["session_start_seq"], 3);
}

/// Newer SDKs send these. They are kept, and take effect where an archive or an exporter is configured.
#[tokio::test]
async fn storage_and_export_are_kept_and_shown() {
    let server = Setup::default().idle().await;
    let patch = async |body: &str| {
        let answer = server
            .call(&request("PATCH", "/telemetry").json(body))
            .await;
        assert_eq!(answer.status(), 200, "{body}");
        let config = answer.json()["config"].clone();
        (config["storage"].clone(), config["export"].clone())
    };
    let sent = json!({
        "storage": {"enabled": false},
        "export": {"otlp": {"enabled": true, "destination": {"name": "ours"}}},
    });
    let (status, state) = put(&server, &sent.to_string()).await;
    assert_eq!(status, 201);
    let config = &state["config"];
    assert_eq!(
        (&config["storage"], &config["export"]),
        (&sent["storage"], &sent["export"])
    );
    assert_eq!(config["browser"]["page"]["enabled"], true);

    let unchanged = (sent["storage"].clone(), sent["export"].clone());
    assert_eq!(patch("{}").await, unchanged);
    assert_eq!(patch(r#"{"storage":{},"export":{}}"#).await, unchanged);
    let changed = patch(r#"{"storage":{"enabled":true},"export":{"otlp":{"destination":"d-1"}}}"#);
    assert_eq!(
        changed.await,
        (
            json!({"enabled": true}),
            json!({"otlp": {"enabled": true, "destination": "d-1"}})
        )
    );
    // A `PUT` replaces all of the configuration.
    let (status, state) = put(&server, r#"{"export":{"otlp":{"enabled":false}}}"#).await;
    assert_eq!(status, 200);
    assert_eq!(state["config"].get("storage"), None);
    assert_eq!(
        state["config"]["export"],
        json!({"otlp": {"enabled": false}})
    );
    // Without a session there is no configuration.
    let (_, state) = put(&server, r#"{"browser":{},"storage":{"enabled":true}}"#).await;
    assert_eq!(state["config"].get("storage"), None);

    for (body, field) in [
        (r#"{"storage":{"on":true}}"#, "storage.on"),
        (r#"{"storage":true}"#, "storage"),
        (r#"{"export":{"kafka":{}}}"#, "export.kafka"),
        (
            r#"{"export":{"otlp":{"destination":7}}}"#,
            "export.otlp.destination",
        ),
    ] {
        let answer = server.call(&request("PUT", "/telemetry").json(body)).await;
        assert_eq!(answer.status(), 400, "{body}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        let start = format!("field `{field}`: ");
        assert!(message.starts_with(&start), "{message}");
    }
}
