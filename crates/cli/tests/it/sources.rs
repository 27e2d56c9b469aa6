//! The program with its sources: the kernel's log, also beside a browser, and a source that hangs.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::cdp::{browser, chromium, site};
use crate::program::{Directory, Running, Server};
use crate::wire::{Caller, Follower, in_time};

/// What Linux wrote to `/dev/kmsg` when a process went over the limit of its memory cgroup.
const KILL: &str = include_str!("../../../sources/data/memory-cgroup.kmsg");

fn append(path: &str, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The first events of these types, in this order.
fn events(server: &Server, types: &str, count: &str) -> Vec<Value> {
    let tail = [
        "--json", "--replay", "all", "--type", types, "--limit", count,
    ];
    let ended = Running::start(server.tail(&tail)).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = ended.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_process_that_the_kernel_kills_is_an_event() {
    let directory = Directory::new("kernel-log");
    let log = directory.path("kmsg");
    std::fs::write(&log, KILL).unwrap();
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--kernel-log",
        &log,
    ]);
    // It was written before the session started, so it is not reported.
    let (begin, end) = KILL.split_at(KILL.len() / 2);
    append(&log, begin);
    append(&log, &end.replace("6051", "6052"));
    let kills = events(&server, "system_oom_kill", "1");
    assert_eq!(kills[0]["seq"], 1);
    let event = &kills[0]["event"];
    assert_eq!(event["data"]["pid"], 6052);
    assert_eq!(event["category"], "system");
    assert!(event["source"]["metadata"]["telemetry_session_id"].is_string());
    server.stop();
}

#[test]
fn a_kernel_log_that_cannot_be_read_is_named() {
    let said = crate::program::run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--kernel-log",
        "/nowhere/kmsg",
    ]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains(
            "cannot start a session: the source `kernel-log` could not start: cannot read /nowhere/kmsg"
        ),
        "{said:?}"
    );
}

#[test]
fn a_browser_and_the_kernel_log_run_at_the_same_time() {
    let Some(chromium) = chromium() else { return };
    let directory = Directory::new("two-sources");
    let log = directory.path("kmsg");
    std::fs::write(&log, "").unwrap();
    let (_browser, port) = browser(&chromium, &directory, &site());
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--cdp",
        &format!("http://127.0.0.1:{port}"),
        "--kernel-log",
        &log,
    ]);
    append(&log, KILL);
    assert_eq!(
        events(&server, "system_oom_kill", "1")[0]["event"]["source"]["kind"],
        "local_process"
    );
    let page = &events(&server, "page_*", "1")[0];
    assert_eq!(page["event"]["source"]["kind"], "cdp");
    server.stop();
}

#[test]
fn a_source_without_a_session_says_how_to_start_one() {
    let mut server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--cdp",
        "http://127.0.0.1:1",
    ]);
    let hint = server.running.line();
    assert!(hint.contains("restart with --start, or run"), "{hint}");
    let url = &server.url;
    assert_eq!(
        server.running.line(),
        format!("  tapline start --url {url}")
    );
}

/// A browser that is stopped in the debugger's sense answers nothing, and a stream that does not read takes
/// nothing: both are left behind, and the log names them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_and_a_stream_that_hang_do_not_delay_the_end() {
    const BUDGET: Duration = Duration::from_secs(3);
    let Some(chromium) = chromium() else { return };
    let directory = Directory::new("hang");
    let (browser, port) = browser(&chromium, &directory, &site());
    let mut server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--shutdown-timeout",
        "3s",
        "--cdp",
        &format!("http://127.0.0.1:{port}"),
    ]);
    let address = server.address().to_owned();
    events(&server, "page_*", "1");

    let _stuck = in_time(Follower::open_narrow(&address, "&replay=all"))
        .await
        .unwrap();
    let mut reading = in_time(Follower::open(&address, "", "")).await.unwrap();
    let mut caller = in_time(Caller::connect(&address)).await.unwrap();
    let large = format!(
        "{{\"type\":\"step\",\"category\":\"control\",\"data\":\"{}\"}}\n",
        "x".repeat(500_000)
    );
    for _ in 0..20 {
        in_time(caller.publish(&large)).await.unwrap();
    }
    // What follows needs a source that does not stop by itself.
    browser.signal(Signal::STOP);

    let began = Instant::now();
    server.running.signal(Signal::TERM);
    server.running.err_line_with("stopping");
    assert!(
        TcpStream::connect(&address).is_err(),
        "new connections are refused from the start"
    );
    let goodbye = loop {
        let frame = reading.expect().await;
        if frame.name == "bye" {
            break frame;
        }
    };
    assert_eq!(goodbye.json()["reason"], "shutdown");
    let ended = tokio::task::spawn_blocking(|| server.running.end())
        .await
        .unwrap();
    let took = began.elapsed();
    browser.signal(Signal::CONT);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The deadline, and time for a busy machine to end a process.
    assert!(took < BUDGET + Duration::from_secs(3), "{took:?}");
    assert!(
        ended.err.contains("the source did not stop in time") && ended.err.contains("browser"),
        "{ended:?}"
    );
    assert!(
        ended
            .err
            .contains("some connections did not end before the deadline"),
        "{ended:?}"
    );
}
