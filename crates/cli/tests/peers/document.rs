//! What the OpenAPI document says, and what the program does.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::{Answer, ask};
use crate::peer;
use crate::program::{Directory, Running, Server};

/// It takes ten seconds on a quick machine and 131 s on one with a third of its speed. This only ends a run that hangs.
const LONGEST: Duration = Duration::from_secs(900);

#[test]
fn schemathesis_finds_nothing() {
    let found = peer::installed("python/bin/schemathesis");
    let Some(schemathesis) = peer::or_skip(found, "schemathesis", "TAPLINE_REQUIRE_PEERS") else {
        return;
    };
    // Little is retained, so that there is something to evict, and no answer that takes long to look at.
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "256",
    ];
    let server = Server::with(&args);
    // A reader, whose filter can be changed.
    let mut reader = TcpStream::connect(server.address()).unwrap();
    reader
        .write_all(b"GET /telemetry/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    // It leaves folders where it runs.
    let directory = Directory::new("schemathesis");
    let mut command = Command::new(schemathesis);
    command
        .arg("run")
        .arg(format!("{}/openapi.json", server.url))
        .args(["--max-examples", "200", "--generation-deterministic"])
        .args([
            "--request-timeout",
            "10",
            "--continue-on-failure",
            "--no-color",
        ])
        // The stream never ends, so its answer cannot be checked here. Refused requests are tested below.
        .args(["--exclude-path", "/telemetry/stream"])
        // The document describes the format of a time only in prose: its schema allows any text.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .env(
            "PYTHONPATH",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("TAPLINE_URL", &server.url)
        .current_dir(directory.path("."))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let said = Running::start(command).end_within(LONGEST);
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    assert!(said.out.contains("No issues found"), "{}", said.out);
}

#[test]
fn a_stream_that_is_refused_is_refused_as_documented() {
    let server = Server::start();
    let document = ask(server.address(), "GET", "/openapi.json", "").body;
    let document: Value = serde_json::from_str(&document).unwrap();
    let documented = &document["paths"]["/telemetry/stream"]["get"]["responses"];
    let check = |method: &str, query: &str, status: u16, parameter: &str| {
        let Answer {
            status: got,
            head,
            body,
        } = ask(
            server.address(),
            method,
            &format!("/telemetry/stream{query}"),
            "",
        );
        assert_eq!(got, status, "{query}: {body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let error: Value = serde_json::from_str(&body).unwrap();
        assert!(error["code"].is_string(), "{body}");
        assert!(
            error["message"].as_str().unwrap().contains(parameter),
            "{body}"
        );
        if method == "GET" {
            let media = &documented[status.to_string()]["content"];
            assert!(
                media["application/json"].is_object(),
                "{status}: {documented}"
            );
        }
    };
    check("GET", "?replay=some", 400, "`replay`");
    check("GET", "?replay=all&replay=all", 400, "`replay`");
    check("GET", "?category=none", 400, "`category`");
    check("GET", "?category=page,", 400, "`category`");
    check("GET", "?type=", 400, "`type`");
    check("GET", "?type=a,,b", 400, "`type`");
    check("GET", "?notices=1", 400, "`notices`");
    check("GET", "?after=1&after=2", 400, "`after`");
    check("GET", "?limit=1", 400, "`limit`");
    check("POST", "", 405, "`/telemetry/stream`");
}
