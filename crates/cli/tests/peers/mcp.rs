//! Published clients of the Model Context Protocol, over standard input and output, and over HTTP.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::peer::{installed, on_path, or_skip};
use crate::program::{Directory, Running, tapline};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/browser-events.ndjson");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The client of PyPI `mcp`.
fn python() -> Option<Command> {
    let package = installed("python/bin/python").filter(|python| {
        let probe = Command::new(python).args(["-c", "import mcp"]).output();
        probe.is_ok_and(|it| it.status.success())
    });
    let mut command = Command::new(or_skip(package, "PyPI mcp", "TAPLINE_REQUIRE_PEERS")?);
    command.arg(format!("{FOLDER}/mcp_client.py"));
    Some(command)
}

/// The client of npm `@modelcontextprotocol/sdk`.
fn node() -> Option<Command> {
    let name = "@modelcontextprotocol/sdk";
    let package: Option<PathBuf> = installed(&format!("node/node_modules/{name}"));
    or_skip(on_path("node").and(package), name, "TAPLINE_REQUIRE_PEERS")?;
    let mut command = Command::new("node");
    command
        .arg(format!("{FOLDER}/mcp_client.mjs"))
        .arg(installed("node/node_modules")?);
    Some(command)
}

/// What the client got is what this program says.
#[track_caller]
fn check(mut client: Command) {
    let output = client.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let got: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got["name"], "tapline", "{got}");
    assert_eq!(got["tools"][0], "why", "{got}");
    assert_eq!(got["wrong"], true, "{got}");
    let why = got["why"].as_str().unwrap();
    assert!(why.len() <= 2_000 && why.contains("left out: "), "{why}");
    let said = crate::program::run(&["why", "--utc", CORPUS]);
    assert_eq!(why.lines().next(), said.out.lines().next());
}

fn check_stdio(client: Option<Command>) {
    let Some(mut client) = client else {
        return;
    };
    client.args(["stdio", env!("CARGO_BIN_EXE_tapline"), "mcp", CORPUS]);
    check(client);
}

fn check_http(name: &str, client: Option<Command>) {
    let Some(mut client) = client else {
        return;
    };
    let directory = Directory::new(name);
    let token = directory.path("token");
    std::fs::write(&token, TOKEN).unwrap();
    let flags = ["--listen", "127.0.0.1:0", "--token-file", &token];
    let mut server = Running::start(tapline(&[&["mcp", CORPUS], &flags[..]].concat()));
    let line = server.line();
    let url = line.strip_prefix("listening on ").unwrap();
    client.args(["http", url, TOKEN]);
    check(client);
}

#[test]
fn pypi_mcp_asks_over_standard_input_and_output() {
    check_stdio(python());
}

#[test]
fn pypi_mcp_asks_over_http() {
    check_http("mcp-pypi", python());
}

#[test]
fn npm_mcp_sdk_asks_over_standard_input_and_output() {
    check_stdio(node());
}

#[test]
fn npm_mcp_sdk_asks_over_http() {
    check_http("mcp-npm", node());
}
