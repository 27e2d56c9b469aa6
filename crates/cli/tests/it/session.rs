//! `status`, `start`, `stop` and `wait`.

use std::time::{Duration, Instant};

use crate::program::{Running, Server, dead_url, run, tapline};

#[test]
fn a_session_is_started_shown_and_stopped() {
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0"]);
    let call = |args: &[&str]| {
        let said = run(&[args, &["--url", &server.url]].concat());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
        said.out
    };
    assert!(
        call(&["status"])
            .contains("session   none; nothing is captured. `tapline start` starts one")
    );
    assert_eq!(call(&["stop"]), "no session was running\n");
    assert!(call(&["start"]).contains("captures all categories"));
    // The same session, with other categories.
    let started = call(&["start", "--category", "console,network"]);
    assert!(started.contains("captures console, network"), "{started}");
    server.publish_steps(1);
    let status = call(&["status"]);
    let id = started.split([' ', ',']).nth(1).unwrap();
    for part in [
        &format!("server    {}, epoch ", server.url),
        &format!("session   {id}, configured at "),
        "; captures console, network\n",
        "sinks     none\n",
        "readers   none\n",
    ] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let json: serde_json::Value = serde_json::from_str(&call(&["status", "--json"])).unwrap();
    assert_eq!(json["state"]["session_id"], id);
    assert_eq!(json["sinks"]["head"], json["state"]["seq"]);
    assert!(call(&["stop"]).starts_with(&format!("session {id} stopped at seq ")));
    assert!(call(&["status"]).contains("session   none"));
}

#[test]
fn readers_are_shown_with_their_filter() {
    let server = Server::start();
    let _tail = Running::start(server.tail(&["--category", "console", "--type", "console_*"]));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = run(&["status", "--url", &server.url]);
        if said.out.contains("; only console, console_*") {
            assert!(
                said.out.contains("0 behind; 0 delivered, 0 lost"),
                "{said:?}"
            );
            return;
        }
        assert!(Instant::now() < deadline, "{said:?}");
    }
}

#[test]
fn a_session_of_always_captured_categories_alone_is_wrong_usage() {
    let said = run(&["start", "--category", "system", "--url", &dead_url()]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("--category"), "{said:?}");
}

#[test]
fn a_wait_ends_with_the_event_or_after_its_time() {
    let server = Server::start();
    let wait = |args: &[&str]| run(&[&["wait", "--url", &server.url], args].concat());
    let said = wait(&["--type", "page_*", "--timeout", "50ms"]);
    assert_eq!((said.code, said.out.as_str()), (Some(3), ""), "{said:?}");
    assert!(said.err.contains("no such event within 50ms"), "{said:?}");

    let waiting = Running::start(tapline(&[
        "wait",
        "--url",
        &server.url,
        "--type",
        "page_load",
    ]));
    assert_eq!(
        run(&["publish", "--url", &server.url, "--type", "console_log"]).code,
        Some(0)
    );
    assert_eq!(
        run(&["publish", "--url", &server.url, "--type", "page_load"]).code,
        Some(0)
    );
    let said = waiting.end();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let envelope: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(envelope["event"]["type"], "page_load");
    // It is there already, and not after itself.
    assert_eq!(wait(&["--category", "page"]).out, said.out);
    let seq = envelope["seq"].to_string();
    assert_eq!(
        wait(&["--category", "page", "--after", &seq, "--timeout", "10ms"]).code,
        Some(3)
    );
    assert_eq!(wait(&["--after", "99"]).code, Some(1));
}
