//! A browser's own `EventSource`.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::front::{Front, header};
use crate::http;
use crate::peer;
use crate::program::{DEADLINE, Directory, Running, Server};

/// Where it is, unless the test is skipped.
fn chromium() -> Option<PathBuf> {
    let found = peer::on_path("chromium").or_else(|| peer::on_path("google-chrome"));
    peer::or_skip(found, "chromium", "TAPLINE_REQUIRE_BROWSER")
}

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0", "--start"];

/// A browser with one page open.
struct Browser {
    running: Running,
    /// Its profile.
    directory: Directory,
}

impl Browser {
    fn open(chromium: PathBuf, name: &str, page: &str) -> Self {
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
            directory,
        }
    }

    /// Ends it, and then its profile goes.
    fn close(self) {
        self.running.signal(Signal::TERM);
        self.running.end();
        // It leaves processes behind that end a little later, and write until then.
        let started = Instant::now();
        while fs::remove_dir_all(self.directory.path(""))
            .is_err_and(|error| error.kind() != NotFound)
        {
            assert!(started.elapsed() < DEADLINE, "the profile should be free");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What the page tells next, up to and with `event`.
#[track_caller]
fn told_to(front: &Front, event: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let told = front.told();
        let done = told["event"] == event;
        all.push(told);
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
        let told = front.told();
        match told["event"].as_str().unwrap() {
            "message" => {
                let seq = told["data"]["seq"].as_u64().unwrap();
                assert_eq!(told["id"], seq.to_string());
                seqs.push(seq);
            }
            "error" => {
                assert_eq!(told["forGood"], false);
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
fn hears_the_notices_by_their_names() {
    let Some(chromium) = chromium() else { return };
    let args = [SERVE, &["--capacity", "64"]].concat();
    let first = Server::with(&args);
    let front = Front::of(first.address());
    first.publish_steps(100);
    let page = front.page("/telemetry/stream?after=1&notices=true");
    let browser = Browser::open(chromium, "notices", &page);

    // The beginning, and the state that holds.
    let told = told_to(&front, "session");
    let [open, hello, session] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(open["event"], "open");
    assert_eq!(hello["event"], "hello");
    let epoch = hello["data"]["epoch"].as_str().unwrap();
    let oldest = hello["data"]["oldest"].as_u64().unwrap();
    assert_eq!(hello["data"]["reason"], "evicted");
    assert_eq!(hello["data"]["lost"], oldest - 2);
    let id = session["data"]["session_id"].clone();
    for seq in oldest..=100 {
        let told = front.told();
        assert_eq!(told["data"]["seq"], seq);
        assert_eq!(told["id"], format!("{seq}-{epoch}"));
    }

    // Another configuration of the same session.
    let less = r#"{"browser":{"console":{"enabled":false},"platform":{"enabled":false}}}"#;
    let answer = http::ask(first.address(), "PATCH", "/telemetry", less);
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = front.told();
    assert_eq!(told["event"], "session");
    assert_eq!(told["data"]["session_id"], id);
    assert_eq!(told["data"]["after"], 100);
    assert_eq!(
        told["data"]["config"]["browser"]["console"]["enabled"],
        false
    );

    // Overtaken: far more at once than is retained. Whatever is not delivered is told.
    let mut head = 100;
    let mut position = 100;
    let mut gaps = 0;
    while gaps == 0 {
        first.publish_steps(3_000);
        head += 3_000;
        while position < head {
            let told = front.told();
            let data = &told["data"];
            if told["event"] == "gap" {
                assert_eq!(data["from"], position + 1);
                position = data["to"].as_u64().unwrap();
                gaps += 1;
            } else {
                assert_eq!(told["event"], "message");
                assert_eq!(data["seq"], position + 1);
                position += 1;
            }
        }
    }

    // A break, and the way back with a cursor that names the epoch.
    front.cut_behind(&format!("id: {}-", head + 1));
    first.publish_steps(1);
    let told = told_to(&front, "message");
    let hello = &told.iter().find(|told| told["event"] == "hello").unwrap()["data"];
    assert_eq!(hello["reason"], "resumed");
    assert_eq!(hello["asked"], format!("{head}-{epoch}"));
    assert_eq!(told.last().unwrap()["data"]["seq"], head + 1);

    // The end of this server, and another one in its place.
    let second = Server::with(&args);
    front.hand_on_to(second.address());
    first.running.signal(Signal::TERM);
    let told = told_to(&front, "bye");
    assert_eq!(told.last().unwrap()["data"]["last_seq"], head + 1);
    let told = told_to(&front, "hello");
    let hello = &told.last().unwrap()["data"];
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
        let told = front.told();
        if allowed {
            assert_eq!(told["event"], "open");
            assert_eq!(front.told()["data"]["seq"], 1);
        } else {
            assert_eq!(
                (&told["event"], &told["forGood"]),
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
