//! Published clients for Server-Sent Events, each over silence, a gap, a reconnect and a restart. What they deliver
//! are events and nothing else: several of them take a blank line for an event once they have seen an id.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::front::{Front, header};
use crate::peer;
use crate::program::Running;
use crate::quick::{QuickServer, is_long_silence};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// Nothing listens there.
const UNREACHABLE: &str = "127.0.0.1:1";

#[derive(Clone, Copy)]
enum Client {
    /// From npm.
    Node(&'static str),
    /// From PyPI.
    Python(&'static str),
}

impl Client {
    /// Follows that address, unless the test is skipped.
    fn follow(self, url: &str) -> Option<Running> {
        let required = "TAPLINE_REQUIRE_PEERS";
        let mut command = match self {
            Self::Node(name) => {
                let package = peer::installed(&format!("node/node_modules/{name}"));
                peer::or_skip(peer::on_path("node").and(package), name, required)?;
                let modules = peer::installed("node/node_modules")?;
                let mut command = Command::new("node");
                command.arg(format!("{FOLDER}/clients.mjs")).arg(modules);
                command.args([name, url]);
                command
            }
            Self::Python(name) => {
                let python = peer::installed("python/bin/python");
                let python = peer::or_skip(python, name, required)?;
                let mut command = Command::new(python);
                command
                    .arg(format!("{FOLDER}/clients.py"))
                    .args([name, url]);
                command
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Some(Running::start(command))
    }
}

/// The next messages are these events, each with its id.
#[track_caller]
fn delivers(following: &mut Running, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        let message: Value = serde_json::from_str(&following.line()).unwrap();
        assert_eq!(message["id"], seq.to_string(), "{message}");
        let data: Value = serde_json::from_str(message["data"].as_str().unwrap())
            .unwrap_or_else(|error| panic!("{message} is no event: {error}"));
        assert_eq!(data["seq"], seq, "{message}");
    }
}

fn delivers_events_and_nothing_else(client: Client) {
    let first = QuickServer::start(8);
    let front = Front::of(&first.address);
    let url = format!("{}/telemetry/stream?replay=all", front.url);
    let Some(mut following) = client.follow(&url) else {
        return;
    };

    // Silence, before the first id and after it.
    for seq in 1..=2 {
        front.wait_for_answer(is_long_silence);
        first.publish(1);
        delivers(&mut following, [seq]);
    }
    front.wait_for_answer(is_long_silence);

    // The connection breaks within a frame.
    if let Client::Node("@microsoft/fetch-event-source") = client {
        // It takes an id for its own before the frame is complete, so it would miss that event.
        front.cut_behind(": keep-alive");
        front.wait_for_answer(|answer| !answer.contains("\nid: "));
    } else {
        front.cut_behind("\"seq\":3");
    }
    first.publish(1);
    delivers(&mut following, [3]);
    let asked = front.asked().pop().unwrap();
    let in_header = header(&asked, "last-event-id") == Some("2");
    let in_query = asked.lines().next().unwrap().contains("lastEventId=2");
    assert!(in_header || in_query, "{asked}");

    // Most is evicted before the next connection: a gap.
    front.hand_on_to(UNREACHABLE);
    front.cut_behind(": keep-alive");
    front.wait_for_answer(str::is_empty);
    first.publish(20);
    front.hand_on_to(&first.address);
    delivers(&mut following, 16..=23);
    front.wait_for_answer(|answer| {
        answer.contains(": gap: 12 lost before this stream began, seq 4 to 15\n")
    });
    front.wait_for_answer(is_long_silence);

    // Another server in its place: the ids of these clients have no epoch, so it continues behind theirs.
    let second = QuickServer::start(64);
    second.publish(30);
    front.hand_on_to(&second.address);
    first.stop();
    delivers(&mut following, 24..=30);
    front.wait_for_answer(is_long_silence);
    second.publish(1);
    delivers(&mut following, [31]);
}

#[test]
fn npm_eventsource_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Node("eventsource"));
}

#[test]
fn npm_eventsource_parser_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Node("eventsource-parser"));
}

#[test]
fn npm_fetch_event_source_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Node("@microsoft/fetch-event-source"));
}

#[test]
fn npm_launchdarkly_eventsource_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Node("launchdarkly-eventsource"));
}

#[test]
fn npm_event_source_polyfill_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Node("event-source-polyfill"));
}

#[test]
fn npm_reconnecting_eventsource_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Node("reconnecting-eventsource"));
}

#[test]
fn pypi_httpx_sse_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Python("httpx-sse"));
}

#[test]
fn pypi_sseclient_py_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Python("sseclient-py"));
}

#[test]
fn pypi_requests_sse_delivers_events_and_nothing_else() {
    delivers_events_and_nothing_else(Client::Python("requests-sse"));
}
