//! `tapline archive`, on what a server has written.

use std::fs;

use crate::program::{Directory, Said, Server, run};

fn archive(dir: &str, args: &[&str]) -> Said {
    let (command, rest) = args.split_first().unwrap();
    run(&[&["archive", command, "--archive", dir], rest].concat())
}

/// The lines on standard output of a command that succeeds.
fn lines(dir: &str, args: &[&str]) -> Vec<String> {
    let said = archive(dir, args);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn what_a_server_has_stored_is_listed_selected_searched_and_exported() {
    let directory = Directory::new("archive-cat");
    let dir = &directory.path("telemetry");
    let first = Server::archiving(dir);
    first.publish_steps(20);
    first.stop();
    let second = Server::archiving(dir);
    let said = second.publish_lines(concat!(
        "{\"type\":\"console_log\",\"data\":{\"text\":\"Connection reset\"}}\n",
        "{\"type\":\"page_load\",\"data\":{\"url\":\"https://shop.example/\"}}\n",
        "{\"type\":\"checkout_done\",\"category\":\"page\",\"ts\":1000000}\n",
    ));
    assert_eq!(said.code, Some(0), "{said:?}");
    second.stop();

    let listed = lines(dir, &["ls", "--json"]);
    let segments: Vec<serde_json::Value> = listed
        .iter()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(segments.len(), 2);
    assert_eq!(segments[0]["events"], 20);
    assert_eq!(lines(dir, &["ls"]).len(), 2);

    let all = lines(dir, &["cat"]);
    assert_eq!(all.len(), 23);
    assert!(all[0].starts_with("{\"seq\":1,\"event\":{"), "{}", all[0]);
    let epoch = segments[1]["epoch"].as_str().unwrap();
    let after = format!("1-{epoch}");
    for (args, expected) in [
        (&["--type", "step"][..], 20),
        (&["--category", "page"], 2),
        (&["--category", "page", "--type", "checkout*"], 1),
        (&["--limit", "5"], 5),
        (&["--since", "1h"], 22),
        (&["--until", "1970-01-02T00:00:00Z"], 1),
        (&["--epoch", epoch], 3),
        (&["--after", &after], 2),
        (&["--after", "2"], 1),
        (&["--session", "no such session"], 0),
    ] {
        let found = lines(dir, &[&["cat"], args].concat());
        assert_eq!(found.len(), expected, "{args:?}");
    }
    let event: serde_json::Value = serde_json::from_str(&all[22]).unwrap();
    let session = event["event"]["source"]["metadata"]["telemetry_session_id"]
        .as_str()
        .unwrap();
    assert_eq!(lines(dir, &["cat", "--session", session]).len(), 3);

    assert_eq!(lines(dir, &["grep", "Connection reset"]).len(), 1);
    assert_eq!(lines(dir, &["grep", "connection RESET"]).len(), 0);
    assert_eq!(lines(dir, &["grep", "-i", "connection RESET"]).len(), 1);

    let out = &directory.path("events.ndjson");
    assert!(lines(dir, &["export", "--out", out]).is_empty());
    let exported = fs::read_to_string(out).unwrap();
    assert_eq!(exported.lines().collect::<Vec<_>>(), all);
    // An existing file is not overwritten.
    assert_eq!(archive(dir, &["export", "--out", out]).code, Some(1));
}

#[test]
fn an_archive_is_exported_as_a_har_and_as_a_trace_without_secrets_unless_they_are_asked_for() {
    let directory = Directory::new("archive-har");
    let dir = &directory.path("telemetry");
    // Two runs, which the joins keep apart although the browser's ids are the same.
    for run in ["one", "two"] {
        let running = Server::archiving(dir);
        let said = running.publish_lines(&format!(
            concat!(
                r#"{{"type":"network_request","data":{{"request_id":"7.1","url":"http://h/{run}.js","method":"GET","document_url":"http://h/","headers":{{"authorization":"Bearer {run}-secret"}},"initiator_type":"parser"}}}}"#,
                "\n",
                r#"{{"type":"network_response","data":{{"request_id":"7.1","url":"http://h/{run}.js","method":"GET","status":200,"headers":{{}},"duration_ms":12}}}}"#,
                "\n",
            ),
            run = run
        ));
        assert_eq!(said.code, Some(0), "{said:?}");
        running.stop();
    }
    let har = &directory.path("all.har");
    let said = archive(dir, &["export", "--out", har]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("4 events, 0 missing; sanitised"),
        "{said:?}"
    );
    let text = fs::read_to_string(har).unwrap();
    assert!(!text.contains("-secret"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entries = json["log"]["entries"].as_array().unwrap().iter();
    let seen: Vec<_> = entries
        .map(|it| {
            (
                it["request"]["url"].as_str().unwrap(),
                it["response"]["status"].as_i64(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("http://h/one.js", Some(200)),
            ("http://h/two.js", Some(200))
        ]
    );

    let whole = &directory.path("secrets.har");
    let said = archive(dir, &["export", "--out", whole, "--with-secrets"]);
    assert!(said.err.contains("SECRETS INCLUDED"), "{said:?}");
    assert!(
        fs::read_to_string(whole)
            .unwrap()
            .contains("Bearer two-secret")
    );
    let trace = &directory.path("trace.json");
    let said = archive(dir, &["export", "--out", trace, "--format", "trace"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let text = fs::read_to_string(trace).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(json["traceEvents"].is_array());
    let page = &directory.path("all.html");
    assert_eq!(archive(dir, &["export", "--out", page]).code, Some(0));
    let html = fs::read_to_string(page).unwrap();
    assert!(
        html.starts_with("<!doctype html>") && html.ends_with("</html>\n"),
        "{html}"
    );
    assert!(html.contains("one.js") && !html.contains("-secret"));
    assert!(text.contains("one.js"), "{text}");
}

#[test]
fn check_exits_with_0_if_the_archive_is_intact_and_repair_says_what_it_did() {
    let directory = Directory::new("archive-check");
    let dir = &directory.path("telemetry");
    let running = Server::archiving(dir);
    running.publish_steps(20);
    assert_eq!(archive(dir, &["check"]).code, Some(0));
    let refused = archive(dir, &["check", "--repair"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("in use by another process"),
        "{refused:?}"
    );
    running.stop();
    assert_eq!(archive(dir, &["check"]).code, Some(0));

    let segment = lines(dir, &["ls", "--json"]);
    let segment: serde_json::Value = serde_json::from_str(&segment[0]).unwrap();
    let segment = segment["path"].as_str().unwrap();
    let mut bytes = fs::read(segment).unwrap();
    bytes.extend_from_within(..50);
    fs::write(segment, bytes).unwrap();
    let said = archive(dir, &["check"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.out.contains("the last 50 bytes are a part of a block"),
        "{said:?}"
    );
    let said = archive(dir, &["check", "--repair"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("cut off"), "{said:?}");
    assert_eq!(archive(dir, &["check"]).code, Some(0));
    assert_eq!(lines(dir, &["cat"]).len(), 20);

    assert!(lines(dir, &["compact"]).is_empty());
    assert_eq!(lines(dir, &["cat"]).len(), 20);
    assert_eq!(archive(dir, &["rm"]).code, Some(2));
    assert_eq!(lines(dir, &["rm", "--all", "--dry-run"]).len(), 1);
    assert_eq!(lines(dir, &["rm", "--all"]).len(), 1);
    assert!(lines(dir, &["cat"]).is_empty());
    assert_eq!(archive(&directory.path("missing"), &["ls"]).code, Some(1));
}

#[test]
fn an_event_that_triggers_a_dump_is_in_a_file_with_what_was_before_it() {
    let directory = Directory::new("archive-dump");
    let dumps = &directory.path("dumps");
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--dump-on",
        "page_crashed,console_error",
        "--dump-dir",
        dumps,
        "--dump-after",
        "1s",
    ]);
    server.publish_steps(5);
    let said = server.publish_lines("{\"type\":\"page_crashed\"}\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    // The end does not wait for what would follow.
    server.stop();
    assert_eq!(lines(dumps, &["cat"]).len(), 6);
    assert_eq!(archive(dumps, &["check"]).code, Some(0));
}

#[test]
fn commands_that_look_at_events_take_an_archive_as_they_take_a_file() {
    let directory = Directory::new("archive-look");
    let dir = &directory.path("telemetry");
    let server = Server::archiving(dir);
    let said = server.publish_lines(include_str!("../../data/browser-events.ndjson"));
    assert_eq!(said.code, Some(0), "{said:?}");
    server.stop();
    let file = &directory.path("all.ndjson");
    let exported = archive(dir, &["export", "--out", file]);
    assert_eq!(exported.code, Some(0), "{exported:?}");

    for (command, code) in [("why", 1), ("requests", 0)] {
        let of_archive = run(&[command, dir, "--json"]);
        assert_eq!(of_archive.code, Some(code), "{of_archive:?}");
        assert!(5 < of_archive.out.lines().count());
        // But for the run of the server, which a file does not have.
        let of_file = run(&[command, file, "--json"]);
        assert_eq!(without_runs(&of_archive), without_runs(&of_file));
    }

    let requests = |more: &[&str]| {
        let said = run(&[&["requests", dir, "--json", "-n", "1000"], more].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out.lines().count()
    };
    let part = requests(&["--since", "2026-11-22T12:09:30Z"]);
    assert!(0 < part && part < requests(&[]), "{part}");

    let said = run(&["why", &directory.path("")]);
    assert_eq!(said.code, Some(2), "{said:?}");
}

fn without_runs(said: &Said) -> Vec<serde_json::Value> {
    let lines = said.out.lines();
    lines
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            value.as_object_mut().unwrap().remove("run");
            value
        })
        .collect()
}
