//! `status`, `start`, `stop` and `wait`.

use std::time::{Duration, Instant};

use crate::program::{Directory, Running, Server, dead_url, run, tapline};

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
    let said = wait(&["--type", "page_lod", "--timeout", "50ms"]);
    let note = "tapline: Tapline has no type `page_lod`; did you mean `page_load`?\n";
    assert!(said.err.starts_with(note), "{said:?}");

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

#[test]
fn a_command_that_fails_is_explained_and_its_events_are_kept() {
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0"]);
    let directory = Directory::new("run");
    let program = env!("CARGO_BIN_EXE_tapline");
    let publish = format!(
        r#"'{program}' publish --type console_error --data '{{"text":"ReferenceError: x","level":null}}' > /dev/null"#
    );
    let run_it = |script: &str| {
        let dump = directory.path("dumps");
        std::fs::create_dir_all(&dump).unwrap();
        run(&[
            "run",
            "--url",
            &server.url,
            "--dump-dir",
            &dump,
            "--utc",
            "--",
            "sh",
            "-c",
            script,
        ])
    };
    let said = run_it("echo calm");
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(0), "calm\n", ""),
        "{said:?}"
    );
    let said = run_it(&format!("{publish}; exit 7"));
    assert_eq!(said.code, Some(7), "{said:?}");
    for part in [
        "the command has failed (exit status: 7)",
        "1 problem among 0 requests",
        "ReferenceError: x",
    ] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    // The session was its own.
    assert!(
        run(&["status", "--url", &server.url])
            .out
            .contains("session   none")
    );
    let dump = said.err.split("its events are in ").nth(1).unwrap();
    let dump = dump.split(", without secrets").next().unwrap();
    assert_eq!(run(&["why", dump]).code, Some(1));
    let said = run_it("kill -TERM $$");
    assert_eq!(said.code, Some(128 + 15), "{said:?}");
    let not_executable = directory.path("text");
    std::fs::write(&not_executable, "some text").unwrap();
    for (command, code) in [("/nowhere/program", 127), (&not_executable, 126)] {
        let said = run(&["run", "--url", &server.url, "--", command]);
        assert_eq!(said.code, Some(code), "{said:?}");
        let expected = format!("tapline: cannot start {command}: ");
        assert!(said.err.starts_with(&expected), "{said:?}");
    }
    assert!(
        run(&["status", "--url", &server.url])
            .out
            .contains("session   none")
    );
}

#[test]
fn a_session_that_was_there_continues_after_the_command() {
    let server = Server::start();
    server.publish_steps(1);
    let said = run(&[
        "run",
        "--url",
        &server.url,
        "--always",
        "--no-dump",
        "--",
        "true",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("the command has succeeded"), "{said:?}");
    assert!(
        run(&["status", "--url", &server.url])
            .out
            .contains("captures all categories")
    );
}
