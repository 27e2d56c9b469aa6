//! A browser's own `EventSource`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::front::{Front, header};
use crate::http;
use crate::peer;
use crate::program::{Directory, Running, Server};

/// Where it is, unless the test is skipped.
pub(crate) fn chromium() -> Option<PathBuf> {
    let found = peer::on_path("chromium").or_else(|| peer::on_path("google-chrome"));
    peer::or_skip(found, "chromium", "TAPLINE_REQUIRE_BROWSER")
}

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0", "--start"];

/// A browser with one page open.
pub(crate) struct Browser {
    running: Running,
    /// Its profile.
    _directory: Directory,
}

impl Browser {
    pub(crate) fn open(chromium: PathBuf, name: &str, page: &str) -> Self {
        let directory = Directory::new(name);
        let mut command = Command::new(chromium);
        command
            .args(["--headless", "--disable-gpu", "--no-first-run"])
            // Root has no sandbox, and a container often little shared memory.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // Nothing but loopback.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .args(["--disable-background-networking", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", directory.path("profile")))
            .arg(page)
            .env("HOME", directory.path("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            running: Running::start(command),
            _directory: directory,
        }
    }

    /// Ends it. Its profile goes with it.
    pub(crate) fn close(self) {
        self.running.signal(Signal::TERM);
        self.running.end();
    }
}

/// The page's next reports, up to and including one of `event`.
#[track_caller]
fn reports_up_to(front: &Front, event: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let report = front.next_report();
        let done = report["event"] == event;
        all.push(report);
        if done {
            return all;
        }
    }
}

#[test]
fn comes_back_by_itself_and_sees_every_event_once() {
    let Some(chromium) = chromium() else { return };
    let server = Server::start();
    let front = Front::of(server.address());
    // Within a frame, and behind its id: that event was not delivered yet.
    front.cut_behind("id: 7\ndata: {");
    front.cut_behind("id: 12\ndata: {\"seq\":12,\"event\"");
    server.publish_steps(9);
    let page = front.page("/telemetry/stream?replay=all");
    let browser = Browser::open(chromium, "once", &page);

    let mut seqs = Vec::new();
    let mut errors = 0;
    while seqs.last() != Some(&20) {
        let report = front.next_report();
        match report["event"].as_str().unwrap() {
            "message" => {
                let seq = report["data"]["seq"].as_u64().unwrap();
                assert_eq!(report["id"], seq.to_string());
                seqs.push(seq);
            }
            "error" => {
                assert_eq!(report["forGood"], false);
                errors += 1;
            }
            other => assert_eq!(other, "open"),
        }
        // The second half goes to a stream that is open, the last one to one that came back twice.
        match seqs.last() {
            Some(9) => server.publish_steps(10),
            Some(19) => server.publish_steps(1),
            _ => {}
        }
    }
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    assert_eq!(errors, 2);
    let asked = front.asked();
    let ids: Vec<_> = asked
        .iter()
        .map(|head| header(head, "last-event-id"))
        .collect();
    assert_eq!(ids, [None, Some("6"), Some("11")]);
    browser.close();
}

#[test]
fn receives_the_notices_by_their_names() {
    let Some(chromium) = chromium() else { return };
    let args = [SERVE, &["--capacity", "64"]].concat();
    let first = Server::with(&args);
    let front = Front::of(first.address());
    first.publish_steps(100);
    let page = front.page("/telemetry/stream?after=1&notices=true");
    let browser = Browser::open(chromium, "notices", &page);

    // The beginning, and the state that holds.
    let reports = reports_up_to(&front, "session");
    let [open, hello, session] = &reports[..] else {
        panic!("{reports:?}")
    };
    assert_eq!(open["event"], "open");
    assert_eq!(hello["event"], "hello");
    let epoch = hello["data"]["epoch"].as_str().unwrap();
    let oldest = hello["data"]["oldest"].as_u64().unwrap();
    assert_eq!(hello["data"]["reason"], "evicted");
    assert_eq!(hello["data"]["lost"], oldest - 2);
    let id = session["data"]["session_id"].clone();
    for seq in oldest..=100 {
        let report = front.next_report();
        assert_eq!(report["data"]["seq"], seq);
        assert_eq!(report["id"], format!("{seq}-{epoch}"));
    }

    // Another configuration of the same session.
    let less = r#"{"browser":{"console":{"enabled":false},"platform":{"enabled":false}}}"#;
    let answer = http::ask(first.address(), "PATCH", "/telemetry", less);
    assert_eq!(answer.status, 200, "{answer:?}");
    let report = front.next_report();
    assert_eq!(report["event"], "session");
    assert_eq!(report["data"]["session_id"], id);
    assert_eq!(report["data"]["after"], 100);
    assert_eq!(
        report["data"]["config"]["browser"]["console"]["enabled"],
        false
    );

    // The page lags: far more is published at once than is retained. Every event that is not delivered is
    // reported as lost.
    let mut head = 100;
    let mut position = 100;
    let mut gaps = 0;
    while gaps == 0 {
        first.publish_steps(3_000);
        head += 3_000;
        while position < head {
            let report = front.next_report();
            let data = &report["data"];
            if report["event"] == "gap" {
                assert_eq!(data["from"], position + 1);
                position = data["to"].as_u64().unwrap();
                gaps += 1;
            } else {
                assert_eq!(report["event"], "message");
                assert_eq!(data["seq"], position + 1);
                position += 1;
            }
        }
    }

    // A break, and the way back with a cursor that names the epoch.
    front.cut_behind(&format!("id: {}-", head + 1));
    first.publish_steps(1);
    let reports = reports_up_to(&front, "message");
    let hello = &reports
        .iter()
        .find(|report| report["event"] == "hello")
        .unwrap()["data"];
    assert_eq!(hello["reason"], "resumed");
    assert_eq!(hello["asked"], format!("{head}-{epoch}"));
    assert_eq!(reports.last().unwrap()["data"]["seq"], head + 1);

    // The end of this server, and another one in its place.
    let second = Server::with(&args);
    front.hand_on_to(second.address());
    first.running.signal(Signal::TERM);
    let reports = reports_up_to(&front, "bye");
    assert_eq!(reports.last().unwrap()["data"]["last_seq"], head + 1);
    let reports = reports_up_to(&front, "hello");
    let hello = &reports.last().unwrap()["data"];
    assert_eq!(hello["reason"], "other_epoch");
    browser.close();
}

#[test]
fn follows_from_another_origin_only_where_that_is_allowed() {
    let Some(chromium) = chromium() else { return };
    let front = Front::alone();
    let check = |name: &str, args: &[&str], allowed: bool| {
        let server = Server::with(&[SERVE, args].concat());
        server.publish_steps(1);
        // Not through the front, from which the page comes.
        let page = front.page(&format!("{}/telemetry/stream?replay=all", server.url));
        let browser = Browser::open(chromium.clone(), name, &page);
        let report = front.next_report();
        if allowed {
            assert_eq!(report["event"], "open");
            assert_eq!(front.next_report()["data"]["seq"], 1);
        } else {
            assert_eq!(
                (&report["event"], &report["forGood"]),
                (&"error".into(), &true.into())
            );
        }
        browser.close();
    };
    check("no-origin", &[], false);
    let flag = "--allow-origin";
    check("another-origin", &[flag, "http://localhost:1"], false);
    check("this-origin", &[flag, &front.url], true);
}
