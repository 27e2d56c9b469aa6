//! The SDKs of a browser service: PyPI `kernel` and npm `@onkernel/sdk`. If the service
//! describes a browser with a `base_url`, they follow `{base_url}/telemetry/stream`.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::fleet;
use crate::front::{Front, header};
use crate::http;
use crate::nats::{Nats, exported};
use crate::peer;
use crate::program::{Running, Server};
use crate::quick::{QuickServer, is_long_silence};

#[derive(Clone, Copy)]
enum Sdk {
    Python,
    Node,
}

impl Sdk {
    /// With the script that follows, unless the test is skipped.
    fn command(self) -> Option<Command> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");
        match self {
            Self::Python => {
                let found = peer::installed("python/bin/python");
                let python = peer::or_skip(found, "PyPI kernel", "TAPLINE_REQUIRE_PEERS")?;
                let mut command = Command::new(python);
                command.arg(format!("{folder}/follow.py"));
                Some(command)
            }
            Self::Node => {
                let sdk = peer::installed("node/node_modules/@onkernel/sdk");
                let found = peer::on_path("node").and(sdk);
                let sdk = peer::or_skip(found, "npm @onkernel/sdk", "TAPLINE_REQUIRE_PEERS")?;
                let mut command = Command::new("node");
                command.arg(format!("{folder}/follow.mjs")).arg(sdk);
                Some(command)
            }
        }
    }

    fn follow(self, front: &Front, types: &str, after: &str) -> Option<Running> {
        let mut command = self.command()?;
        command
            .args([&front.url, types, after])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Some(Running::start(command))
    }
}

/// The next events that an SDK yields.
#[track_caller]
fn yielded(following: &mut Running, count: usize) -> Vec<Value> {
    (0..count)
        .map(|_| serde_json::from_str(&following.line()).unwrap())
        .map(without_kinds_of_numbers)
        .collect()
}

/// What is captured: not the calls of the interface itself, which would be among what is published
/// here.
const CONFIG: &str = r#"{"browser":{"page":{"enabled":true},"console":{"enabled":true},
    "network":{"enabled":true},"interaction":{"enabled":true},"control":{"enabled":true}}}"#;

/// A server that captures that.
fn serve(args: &[&str]) -> Server {
    let server = Server::with(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
    let answer = http::ask(server.address(), "PUT", "/telemetry", CONFIG);
    assert_eq!(answer.status, 201, "{answer:?}");
    server
}

/// All that the server retains.
fn published(server: &Server) -> Vec<Value> {
    let page = http::ask(server.address(), "GET", "/telemetry/events?limit=1000", "");
    let page: Vec<Value> = serde_json::from_str(&page.body).unwrap();
    page.into_iter().map(without_kinds_of_numbers).collect()
}

/// For one of the SDKs a whole number is a fraction where its model says so: `0` becomes `0.0`.
fn without_kinds_of_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(values) => values.into_iter().map(without_kinds_of_numbers).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, without_kinds_of_numbers(value)))
            .collect(),
        other => other,
    }
}

fn yields_what_is_published(sdk: Sdk) {
    let server = serve(&[]);
    let front = Front::of(server.address());
    let Some(mut following) = sdk.follow(&front, "", "") else {
        return;
    };
    // It connects before anything is published, and receives events live: a browser's session, types
    // that only Tapline knows, and JSON over several lines, which is a frame of several `data` fields.
    front.wait_for_answer(|answer| answer.contains("text/event-stream"));
    let browser = include_str!("../../data/browser-events.ndjson");
    assert_eq!(server.publish_lines(browser).code, Some(0));
    let own =
        "{\"type\":\"order\",\"category\":\"page\",\"data\":{\n\"ü\\n😀\": [1.5,\r\n null]\n}}";
    assert_eq!(
        http::ask(server.address(), "POST", "/telemetry/events", own).status,
        200
    );
    server.publish_steps(3);

    let expected = published(&server);
    assert_eq!(expected.len(), browser.lines().count() + 4);
    // One by one, so that a failure prints one difference only.
    for event in &expected {
        assert_eq!(yielded(&mut following, 1)[0], *event);
    }

    let asked = &front.asked()[0];
    assert!(
        asked.starts_with("GET /telemetry/stream?replay=all&jwt="),
        "{asked}"
    );
    assert_eq!(header(asked, "authorization"), None);

    // When the server stops, the SDK's loop ends without an error.
    server.running.signal(Signal::TERM);
    let said = following.end();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
}

#[test]
fn kernel_yields_what_is_published() {
    yields_what_is_published(Sdk::Python);
}

#[test]
fn onkernel_yields_what_is_published() {
    yields_what_is_published(Sdk::Node);
}

/// Under the path of the service's own control API, with the SDK as it is.
fn follows_an_instance_at_a_gateway(sdk: Sdk, name: &str) {
    let Some(nats) = Nats::start(name) else {
        return;
    };
    let server = serve(&[
        "--nats",
        &nats.url,
        "--instance",
        name,
        "--nats-bytes",
        "16MiB",
    ]);
    let gateway = fleet::gateway(&nats, "127.0.0.1:0", &[]);
    server.publish_lines(include_str!("../../data/browser-events.ndjson"));
    let path = format!("/browsers/{name}");
    let head = published(&server).last().unwrap()["seq"].as_f64().unwrap();
    exported(&server, head as u64);
    let front = Front::alone();
    front.hand_on_to_instance(gateway.address(), &path);
    let Some(mut following) = sdk.follow(&front, "", "") else {
        return;
    };
    front.wait_for_answer(|answer| answer.contains("text/event-stream"));
    // What is stored already, and what follows.
    server.publish_steps(3);
    let expected = published(&server);
    for event in &expected {
        assert_eq!(yielded(&mut following, 1)[0], *event);
    }
    let asked = &front.asked()[0];
    let stream = format!("GET {path}/telemetry/stream?replay=all&jwt=");
    assert!(asked.starts_with(&stream), "{asked}");
}

#[test]
fn kernel_follows_an_instance_at_a_gateway() {
    follows_an_instance_at_a_gateway(Sdk::Python, "kernel-sdk");
}

#[test]
fn onkernel_follows_an_instance_at_a_gateway() {
    follows_an_instance_at_a_gateway(Sdk::Node, "onkernel-sdk");
}

fn resumes_where_it_stopped(sdk: Sdk) {
    let server = serve(&["--capacity", "8"]);
    let front = Front::of(server.address());
    server.publish_lines(
        "{\"type\":\"page_load\"}\n{\"type\":\"page_lcp\"}\n{\"type\":\"console_log\"}",
    );

    let Some(mut following) = sdk.follow(&front, "page_load,console_log", "1") else {
        return;
    };
    assert_eq!(yielded(&mut following, 1), published(&server)[2..]);
    let asked = front.asked().pop().unwrap();
    let path = "/telemetry/stream?replay=all&type=page_load%2Cconsole_log&jwt=";
    assert!(asked.starts_with(&format!("GET {path}")), "{asked}");
    assert_eq!(header(&asked, "last-event-id"), Some("1"));
    drop(following);

    // Between its position and the oldest retained event is a gap, which a comment reports.
    server.publish_steps(20);
    let mut following = sdk.follow(&front, "", "3").expect("it was there before");
    let expected = published(&server);
    assert_eq!(yielded(&mut following, expected.len()), expected);
    front.wait_for_answer(|answer| answer.contains(": gap: "));
    server.publish_steps(1);
    assert_eq!(yielded(&mut following, 1)[0]["seq"], 24.0);
}

#[test]
fn kernel_resumes_where_it_stopped() {
    resumes_where_it_stopped(Sdk::Python);
}

#[test]
fn onkernel_resumes_where_it_stopped() {
    resumes_where_it_stopped(Sdk::Node);
}

/// The program's pace is fixed, so here is its server without it.
fn outlives_silence(sdk: Sdk) {
    let server = QuickServer::start(1024);
    let front = Front::of(&server.address);
    let Some(mut following) = sdk.follow(&front, "", "") else {
        return;
    };
    // Before the first id, and after it.
    for seq in 1..=3 {
        front.wait_for_answer(is_long_silence);
        server.publish(1);
        assert_eq!(yielded(&mut following, 1)[0]["seq"], f64::from(seq));
    }
    server.stop();
    let said = following.end();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
}

#[test]
fn kernel_outlives_silence() {
    outlives_silence(Sdk::Python);
}

#[test]
fn onkernel_outlives_silence() {
    outlives_silence(Sdk::Node);
}
