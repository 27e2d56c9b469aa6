//! `why` and `requests`.

use serde_json::json;

use crate::program::{Directory, Server, dead_url, run};

/// A page with a script that is missing, and what it leads to; then, without a network, nothing more.
const BROKEN: &str = r#"
{"seq":1,"event":{"ts":1795349358000000,"type":"page_navigation","category":"page","data":{"url":"http://shop/","frame_id":"F","loader_id":"L","target_id":"T","nav_seq":1}}}
{"seq":2,"event":{"ts":1795349358010000,"type":"network_request","category":"network","data":{"request_id":"7.1","url":"http://shop/pricing.js","method":"GET","document_url":"http://shop/","headers":{},"initiator_type":"parser","initiator_url":"http://shop/","initiator_line":5,"resource_type":"Script","target_id":"T","frame_id":"F","loader_id":"L","nav_seq":1}}}
{"seq":3,"event":{"ts":1795349358022000,"type":"network_response","category":"network","data":{"request_id":"7.1","url":"http://shop/pricing.js","method":"GET","status":404,"status_text":"Not Found","headers":{},"mime_type":"application/json","body":"{\"error\":\n\"no such file\"}","duration_ms":12,"encoded_bytes":1234,"target_id":"T","frame_id":"F","loader_id":"L","nav_seq":1}}}
{"seq":4,"event":{"ts":1795349358030000,"type":"console_error","category":"console","data":{"level":"error","text":"Failed to load resource: the server responded with a status of 404","log_source":"network","source_url":"http://shop/pricing.js","target_id":"T"}}}
{"seq":5,"event":{"ts":1795349358040000,"type":"console_error","category":"console","data":{"text":"ReferenceError: pricing is not defined\u001b[2J","target_id":"T"}}}
{"seq":6,"event":{"ts":1795349358050000,"type":"network_request","category":"network","data":{"request_id":"7.2","url":"http://shop/ok.png","method":"GET","document_url":"http://shop/","headers":{},"initiator_type":"parser","resource_type":"Image","target_id":"T"}}}
{"seq":7,"event":{"ts":1795349358950000,"type":"network_response","category":"network","data":{"request_id":"7.2","url":"http://shop/ok.png","method":"GET","status":200,"headers":{},"duration_ms":900,"encoded_bytes":10,"target_id":"T"}}}
"#;

fn file(name: &str, text: &str) -> (Directory, String) {
    let directory = Directory::new(name);
    let path = directory.path("events.ndjson");
    std::fs::write(&path, text.trim_start()).unwrap();
    (directory, path)
}

#[test]
fn a_failed_request_is_shown_with_who_asked_for_it_and_what_followed() {
    let (_directory, path) = file("why", BROKEN);
    let said = run(&["why", "--utc", &path]);
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""), "{said:?}");
    let expected = "\
3 problems among 2 requests on 1 page, 2026-11-22 12:09:18 UTC to 2026-11-22 12:09:18 UTC

12:09:18.022  GET http://shop/pricing.js answered 404 Not Found after 12 ms
    requested by  line 5 of http://shop/ (parser)
    the answer    {\"error\": \"no such file\"}
    the console   Failed to load resource: the server responded with a status of 404
    then          12:09:18.040 console_error ReferenceError: pricing is not defined [2J
    seq           3

12:09:18.040  ReferenceError: pricing is not defined [2J
    before        12:09:18.022 network_response 404 GET http://shop/pricing.js application/json
    before        12:09:18.030 console_error Failed to load resource: the server responded with a status of 404
    seq           5
";
    assert_eq!(said.out, expected);

    let json = run(&["why", "--json", &path]).out;
    let problems: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = problems
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["http_error", "console_error", "exception"]);
    let expected = json!({
        "seq": 2, "start_seen": true, "request_id": "7.1", "ts": 1_795_349_358_010_000_u64,
        "hop_seq": 2, "hop_ts": 1_795_349_358_010_000_u64, "method": "GET",
        "url": "http://shop/pricing.js", "document_url": "http://shop/",
        "resource_type": "Script", "initiator_type": "parser", "initiator_url": "http://shop/",
        "initiator_line": 5, "target_id": "T", "frame_id": "F", "loader_id": "L", "nav_seq": 1,
        "navigation": 1, "outcome": "answered",
        "response": {
            "status": 404, "status_text": "Not Found", "mime_type": "application/json",
            "body": "{\"error\":\n\"no such file\"}",
        },
        "end": {"seq": 3, "ts": 1_795_349_358_022_000_u64}, "duration_ms": 12.0,
        "encoded_bytes": 1234, "updated": 3,
        "sentence": "GET http://shop/pricing.js answered 404 Not Found after 12 ms",
    });
    assert_eq!(problems[0]["about"], expected);
    assert_eq!(problems[0]["request"], 2);
    assert_eq!(
        problems[1]["about"], expected,
        "the line of the console is about it"
    );
    assert_eq!(problems[2].get("about"), None);
    let newest = run(&["why", "-n", "1", &path]);
    assert!(
        newest.out.contains("2 earlier ones are not shown"),
        "{newest:?}"
    );
}

#[test]
fn an_answer_that_was_not_captured_is_said_so_with_the_reason() {
    let answered =
        r#""source":{"kind":"cdp","event":"Network.loadingFinished"},"data":{"request_id":"7.1""#;
    let body = r#""body":"{\"error\":\n\"no such file\"}","#;
    let unread = answered.replace("loadingFinished", "loadingFailed");
    for (change, said) in [
        (vec![(body, "")], "not captured"),
        (
            vec![(body, ""), (answered, &*unread)],
            "not captured (the page did not read it to its end)",
        ),
        (
            vec![(body, ""), ("application/json", "image/png")],
            "not captured (it is no text)",
        ),
        (
            vec![(body, ""), ("1234", "5000000")],
            "not captured (it is longer than 4 MiB)",
        ),
    ] {
        let text = BROKEN.replace(
            r#""type":"network_response","category":"network","data":{"request_id":"7.1""#,
            &format!(r#""type":"network_response","category":"network",{answered}"#),
        );
        let text = change.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        let (_directory, path) = file("why-no-body", &text);
        let why = run(&["why", &path]).out;
        let line = format!("\n    the answer    {said}\n");
        assert!(why.contains(&line), "{line} is not in {why}");
    }
}

/// The console says it again and again, before the answer is reported and out of order: it is one request.
#[test]
fn what_the_console_repeats_is_no_request() {
    let console = BROKEN.lines().nth(4).unwrap();
    let again = |seq: u32, ms: u32| {
        let at = format!(r#""ts":17953493580{ms}000"#);
        let console = console.replace(r#""seq":4"#, &format!(r#""seq":{seq}"#));
        console.replace(r#""ts":1795349358030000"#, &at)
    };
    let mut lines: Vec<_> = BROKEN.lines().take(3).map(str::to_owned).collect();
    lines.extend([again(3, 35), again(4, 31), again(5, 33)]);
    lines.push(
        BROKEN
            .lines()
            .nth(3)
            .unwrap()
            .replace(r#""seq":3"#, r#""seq":6"#),
    );
    let (_directory, path) = file("why-repeats", &lines.join("\n"));
    let said = run(&["why", "--utc", &path]).out;
    let expected = "\
4 problems among 1 request on 1 page, 2026-11-22 12:09:18 UTC to 2026-11-22 12:09:18 UTC

12:09:18.022  GET http://shop/pricing.js answered 404 Not Found after 12 ms
    requested by  line 5 of http://shop/ (parser)
    the answer    {\"error\": \"no such file\"}
    the console   Failed to load resource: the server responded with a status of 404 (3 times)
    seq           6
";
    assert_eq!(said, expected);
}

#[test]
fn no_problem_is_not_the_same_as_nothing_known() {
    let (_directory, path) = file("why-none", BROKEN.lines().nth(1).unwrap());
    let said = run(&["why", &path]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out
            .starts_with("No problem among 0 requests on 1 page"),
        "{said:?}"
    );

    // A range without events, a hole, and no session.
    let said = run(&["why", "--since", "1m", &path]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("nothing is known"), "{said:?}");
    let hole = BROKEN.trim().lines().collect::<Vec<_>>();
    let (_directory, path) = file("why-hole", &[hole[0], hole[6]].join("\n"));
    let said = run(&["why", &path]);
    assert!(
        said.out.contains("5 events at most are missing"),
        "{said:?}"
    );
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0"]);
    let said = run(&["why", "--url", &server.url]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("no session is running now"), "{said:?}");
    assert_eq!(run(&["why", "--url", &dead_url()]).code, Some(2));
}

#[test]
fn a_server_and_a_file_give_the_same_answer() {
    let server = Server::start();
    let events: Vec<serde_json::Value> = BROKEN
        .trim()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].take())
        .collect();
    let lines: Vec<_> = events.iter().map(ToString::to_string).collect();
    let said = server.publish_lines(&lines.join("\n"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let (_directory, path) = file("why-same", BROKEN);
    for command in ["why", "requests"] {
        let of_server = run(&[command, "--utc", "--url", &server.url]);
        let of_file = run(&[command, "--utc", &path]);
        assert_eq!(of_server.out, of_file.out);
        assert_eq!(of_server.code, of_file.code);
    }
}

#[test]
fn a_recording_of_messages_is_refused_with_the_command_that_makes_events_of_it() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/../cdp/data/tour.ndjson");
    let advice = format!("`tapline replay {recording} --speed max --print > events.ndjson`");
    for args in [
        &["why"][..],
        &["requests"],
        &["diff", recording],
        &["view"],
        &["export"],
    ] {
        let said = run(&[args, &[recording]].concat());
        assert_ne!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains(&advice), "{args:?}: {said:?}");
    }
    let events = run(&["replay", recording, "--speed", "max", "--print"]).out;
    let (_directory, path) = file("why-replayed", &events);
    let said = run(&["why", &path]);
    assert_ne!(said.code, Some(2), "{said:?}");

    let (_directory, path) = file("why-text", "some text");
    let said = run(&["why", &path]);
    assert!(said.err.contains("line 1: expected an event"), "{said:?}");
}

#[test]
fn requests_are_a_table_that_can_be_sorted_and_filtered() {
    let (_directory, path) = file("requests", BROKEN);
    let requests = |args: &[&str]| run(&[&["requests", "--utc", &path], args].concat());
    let said = requests(&[]);
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(0), "tapline: 2 of 2 requests\n"),
        "{said:?}"
    );
    let expected = "\
time            seq status     method  type             size  duration  address
12:09:18.010      2 404        GET     Script         1.2 kB     12 ms  http://shop/pricing.js
12:09:18.050      6 200        GET     Image            10 B    900 ms  http://shop/ok.png
";
    assert_eq!(said.out, expected);
    let addresses = |args: &[&str]| -> Vec<String> {
        let said = requests(args);
        let rows = said.out.lines().skip(1);
        rows.map(|line| line.rsplit('/').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(addresses(&["--sort", "duration"]), ["pricing.js", "ok.png"]);
    assert_eq!(addresses(&["--sort", "size"]), ["ok.png", "pricing.js"]);
    assert_eq!(addresses(&["--sort", "status", "-n", "1"]), ["pricing.js"]);
    assert_eq!(addresses(&["--failed"]), ["pricing.js"]);
    assert_eq!(addresses(&["--grep", "ok."]), ["ok.png"]);
    let json = requests(&["--json", "--failed"]).out;
    let request: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (
            request["seq"].as_u64(),
            request["response"]["status"].as_u64()
        ),
        (Some(2), Some(404))
    );
}

#[test]
fn a_diff_names_what_has_changed() {
    let (_before, before) = file("diff-before", BROKEN);
    let fixed = BROKEN
        .replace(
            "\"status\":404,\"status_text\":\"Not Found\"",
            "\"status\":200",
        )
        .replace("\"duration_ms\":900", "\"duration_ms\":300")
        .replace("pricing is not defined\\u001b[2J", "other");
    let (_after, after) = file("diff-after", &fixed);
    let said = run(&["diff", &before, &after]);
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""), "{said:?}");
    let expected = "\
2 requests before, 2 after; 5 differences
status       404 -> 200           GET http://shop/pricing.js
new error    once                 Failed to load resource: the server responded with a status of 404
new error    once                 ReferenceError: other
gone error   was once             ReferenceError: pricing is not defined [2J
time         900 ms -> 300 ms     GET http://shop/ok.png
";
    assert_eq!(said.out, expected);
    let json = run(&["diff", "--json", &before, &after]).out;
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(first["kind"], "status");
    let said = run(&["diff", &before, &before]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "2 requests before, 2 after; no difference\n")
    );
    let said = run(&["diff", &before, "5m"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    let expected = "tapline: there is no file 5m; a range of time is written with two dots, such as 5m.. or 5m..1m\n";
    assert_eq!(said.err, expected);
    // The same request three times, and then once.
    let request = BROKEN.lines().nth(6).unwrap();
    let response = BROKEN.lines().nth(7).unwrap();
    let again = |times: usize| {
        let pair = |n: usize| {
            let number = |line: &str, seq| {
                let line = line.replace("7.2", &format!("8.{n}"));
                format!("{{\"seq\":{seq},{}", line.split_once(',').unwrap().1)
            };
            [number(request, 2 * n + 1), number(response, 2 * n + 2)].join("\n")
        };
        let pairs: Vec<_> = (0..times).map(pair).collect();
        pairs.join("\n")
    };
    let (_thrice, thrice) = file("diff-thrice", &again(3));
    let (_once, once) = file("diff-once", &again(1));
    let said = run(&["diff", &thrice, &once]);
    let expected = "\
3 requests before, 1 after; 1 difference
gone request was 200              GET http://shop/ok.png (2 times)
";
    assert_eq!((said.code, said.out.as_str()), (Some(1), expected));
    let said = run(&["diff", &once, &thrice]);
    let expected = "\
1 request before, 3 after; 1 difference
new request  200                  GET http://shop/ok.png (2 times)
";
    assert_eq!((said.code, said.out.as_str()), (Some(1), expected));
    let json = run(&["diff", "--json", &once, &thrice]).out;
    let first: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (first["kind"].as_str(), first["times"].as_u64()),
        (Some("request"), Some(2))
    );
    let server = Server::start();
    let said = run(&["diff", "--url", &server.url, "2h..1h", "1h.."]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "0 requests before, 0 after; no difference\n")
    );
}
