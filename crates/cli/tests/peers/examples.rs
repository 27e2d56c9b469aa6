//! The clients of `docs/clients`, which users copy: run against the program, and held against the page and the document that describe them.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::browser::{Browser, chromium};
use crate::front::{Front, header};
use crate::peer;
use crate::program::{Directory, Running, Server};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/clients");
const PAGE: &str = include_str!("../../../../docs/clients.md");
const FILES: &[&str] = &[
    include_str!("../../../../docs/clients/follow.mjs"),
    include_str!("../../../../docs/clients/follow.py"),
    include_str!("../../../../docs/clients/page.mjs"),
];
const DOCUMENT: &str = include_str!("../../../oapi/openapi.json");

/// Nothing listens there.
const UNREACHABLE: &str = "127.0.0.1:1";

#[derive(Clone, Copy)]
enum Client {
    Node,
    Python,
}

impl Client {
    /// The client with these arguments, unless the test is skipped.
    fn start(self, arguments: &[&str], token: Option<&str>) -> Option<Running> {
        let (program, file) = match self {
            Self::Node => ("node", "follow.mjs"),
            Self::Python => ("python3", "follow.py"),
        };
        let found = peer::or_skip(peer::on_path(program), program, "TAPLINE_REQUIRE_PEERS")?;
        let mut command = Command::new(found);
        command
            .arg(format!("{FOLDER}/{file}"))
            .args(arguments)
            .env_remove("TAPLINE_TOKEN")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(token.map(|token| ("TAPLINE_TOKEN", token)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Some(Running::start(command))
    }
}

fn next(client: &mut Running) -> Value {
    serde_json::from_str(&client.line()).unwrap()
}

/// The next items are these events. Returns the cursor behind the last one.
#[track_caller]
fn delivers(client: &mut Running, seqs: impl IntoIterator<Item = u64>) -> String {
    let mut cursor = String::new();
    for seq in seqs {
        let item = next(client);
        assert_eq!(item["seq"], seq, "{item}");
        assert_eq!(item["event"]["type"], "step", "{item}");
        item["cursor"].as_str().unwrap().clone_into(&mut cursor);
        assert!(cursor.starts_with(&format!("{seq}-")), "{item}");
    }
    cursor
}

fn resumes_and_reports_what_was_lost(client: Client) {
    let args = &[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "64",
    ];
    let first = Server::with(args);
    let front = Front::of(first.address());
    let Some(mut following) = client.start(&[&front.url], None) else {
        return;
    };
    front.wait_for_answer(|answer| answer.contains("event: session"));
    // The connection breaks within a frame.
    front.cut_behind("\"seq\":3,\"event\"");
    first.publish_steps(5);
    delivers(&mut following, 1..=5);
    let asked = front.asked().pop().unwrap();
    let cursor = header(&asked, "last-event-id").unwrap();
    assert!(cursor.starts_with("2-"), "{asked}");

    // Most is evicted while nothing answers.
    front.hand_on_to(UNREACHABLE);
    front.cut_behind("\"seq\":6,\"event\"");
    first.publish_steps(1);
    front.wait_for_answer(str::is_empty);
    first.publish_steps(199);
    front.hand_on_to(first.address());
    let item = next(&mut following);
    assert_eq!(item["reason"], "evicted", "{item}");
    let lost = item["lost"].as_u64().unwrap();
    assert!(0 < lost, "{item}");
    let cursor = delivers(&mut following, 6 + lost..=205);

    // A program that stored the cursor resumes there.
    let mut another = client.start(&[&front.url, &cursor], None).unwrap();
    first.publish_steps(1);
    delivers(&mut another, [206]);
    delivers(&mut following, [206]);

    // Another server in its place: what was lost in between cannot be known.
    let second = Server::with(args);
    second.publish_steps(2);
    front.hand_on_to(second.address());
    first.running.signal(Signal::TERM);
    let item = next(&mut following);
    assert_eq!(item["reason"], "other_epoch", "{item}");
    assert!(item.get("lost").is_none_or(Value::is_null), "{item}");
    delivers(&mut following, 1..=2);
}

fn ends_at_a_refusal(client: Client) {
    let directory = Directory::new("example-token");
    let file = directory.path("token");
    std::fs::create_dir_all(directory.path("")).unwrap();
    std::fs::write(&file, "correct-horse-battery-staple").unwrap();
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--token-file",
        &file,
    ]);
    let Some(refused) = client.start(&[&server.url], Some("wrong")) else {
        return;
    };
    let said = refused.end();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.starts_with("401: "), "{said:?}");
    assert_eq!(said.out, "");

    let token = "correct-horse-battery-staple";
    let mut following = client.start(&[&server.url], Some(token)).unwrap();
    let mut publish = crate::program::tapline(&["publish", "--url", &server.url, "--type", "step"]);
    publish.args(["--category", "control", "--token-file", &file]);
    assert_eq!(Running::start(publish).end().code, Some(0));
    delivers(&mut following, [1]);
}

#[test]
fn the_client_for_node_resumes_and_reports_what_was_lost() {
    resumes_and_reports_what_was_lost(Client::Node);
}

#[test]
fn the_client_for_python_resumes_and_reports_what_was_lost() {
    resumes_and_reports_what_was_lost(Client::Python);
}

#[test]
fn the_client_for_node_ends_at_a_refusal() {
    ends_at_a_refusal(Client::Node);
}

#[test]
fn the_client_for_python_ends_at_a_refusal() {
    ends_at_a_refusal(Client::Python);
}

#[test]
fn a_page_follows_with_tickets_also_when_they_expire() {
    let Some(chromium) = chromium() else { return };
    let server = Server::start();
    let front = Front::of(server.address());
    server.publish_steps(3);
    let browser = Browser::open(chromium, "ticket", &format!("{}/client", front.url));
    let seqs = |expected: std::ops::RangeInclusive<u64>| {
        for seq in expected {
            let report = front.next_report();
            assert_eq!(report["seq"], seq, "{report}");
        }
    };
    // A stream begins with the session.
    seqs(1..=3);
    // The ticket is valid for a second: the stream ends, and the page opens another one, twice.
    while front.asked().len() < 3 {
        front.wait_for_answer(|answer| answer.contains("\"reason\":\"expired\""));
        front.wait_for_answer(|answer| !answer.contains("\"reason\":\"expired\""));
    }
    server.publish_steps(2);
    seqs(4..=5);
    let asked = front.asked();
    let last = asked.last().unwrap().lines().next().unwrap();
    assert!(
        last.contains("ticket=") && last.contains("lastEventId="),
        "{last}"
    );
    browser.close();
}

#[test]
fn the_page_shows_what_is_in_the_files() {
    let mut blocks = 0;
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if !["```js", "```py"].contains(&line) {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        let is_in_a_file = FILES.iter().any(|file| file.contains(&block));
        assert!(is_in_a_file, "no file in docs/clients has:\n{block}");
        blocks += 1;
    }
    assert!(3 <= blocks, "{blocks}");
}

/// What the clients send and compare with is in the document.
#[test]
fn the_document_has_what_the_clients_use() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let stream = &document["paths"]["/telemetry/stream"]["get"];
    let parameters = stream["parameters"].as_array().unwrap();
    let names: Vec<_> = parameters
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    for name in ["Last-Event-ID", "lastEventId", "notices"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let schemas = &document["components"]["schemas"];
    let has = |schema: &str, name: &str| {
        let names = schemas[schema]["enum"].as_array().unwrap();
        assert!(names.iter().any(|it| it == name), "{schema}: {name}");
    };
    for reason in ["fresh", "resumed", "evicted", "other_epoch"] {
        has("HelloReason", reason);
    }
    for reason in ["complete", "expired"] {
        has("ByeReason", reason);
    }
    for (schema, fields) in [
        ("Hello", &["reason", "lost"][..]),
        ("Gap", &["matching"]),
        ("Bye", &["reason"]),
        ("Envelope", &["seq", "event"]),
        ("ErrorBody", &["message"]),
    ] {
        for field in fields {
            let found = &schemas[schema]["properties"][field];
            assert!(found.is_object(), "{schema}: {field}");
        }
    }
    for status in ["401", "408", "429", "503"] {
        assert!(stream["responses"][status].is_object(), "{status}");
    }
}
