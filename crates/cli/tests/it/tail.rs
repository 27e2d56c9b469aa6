use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use rustix::process::Signal;

use crate::program::{Directory, Running, Server, dead_url, run};

fn seqs(out: &str) -> Vec<u64> {
    let seq = |line: &str| {
        line.strip_prefix("{\"seq\":")?
            .split(',')
            .next()?
            .parse()
            .ok()
    };
    out.lines()
        .map(|line| seq(line).expect("an envelope"))
        .collect()
}

/// What `GET` of `path` answers with, to the byte.
fn get(server: &Server, path: &str) -> String {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn json_is_the_envelope_byte_for_byte() {
    let server = Server::start();
    let data = [
        r#"{"n":1.50e+3, "z":-0.0,"a":[ ],"u":"ü\u00fc\/😀"}"#,
        r#""\u001b[31m""#,
        "18446744073709551616.0000",
        "null",
    ];
    let lines: String = data
        .iter()
        .map(|data| format!("{{\"type\":\"x\",\"category\":\"page\",\"data\":{data}}}\n"))
        .collect();
    assert_eq!(server.publish_lines(&lines).code, Some(0));

    let said = Running::start(server.tail(&["--json", "--limit", "4"])).end();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let envelopes: Vec<_> = said.out.lines().collect();
    for (envelope, data) in envelopes.iter().zip(data) {
        assert!(
            envelope.ends_with(&format!(",\"data\":{data}}}}}")),
            "{envelope}"
        );
    }
    assert_eq!(
        get(&server, "/telemetry/events"),
        format!("[{}]", envelopes.join(","))
    );
}

#[test]
fn for_people_an_event_is_a_line_without_tricks() {
    let server = Server::start();
    let evil = r#"{"type":"console_log","ts":1795349358733796,"data":{"level":"warning","text":"a\u001b[2Jb\nc"}}"#;
    assert_eq!(server.publish_lines(evil).code, Some(0));
    let plain = "12:09:18.733      1 console     console_log             warning: a [2Jb\n                      c\n";

    let from_start = ["--utc", "--limit", "1", "--replay", "all"];
    let mut tail = Running::start(server.tail(&from_start));
    tail.err_line_with("captures all categories");
    assert_eq!(tail.end().out, plain);

    // The same from what is there already.
    let tail = Running::start(server.tail(&["--utc", "--limit", "1"]));
    assert_eq!(tail.end().out, plain);

    let tail = Running::start(server.tail(&["--limit", "1", "--color", "always"]));
    let out = tail.end().out;
    assert!(out.contains("\u{1b}[36mconsole"), "{out:?}");
    assert!(!out.contains("\u{1b}[2J"), "{out:?}");
}

#[test]
fn filters_by_category_and_type() {
    let server = Server::start();
    let lines = [
        "{\"type\":\"page_load\"}",
        "{\"type\":\"network_idle\"}",
        "{\"type\":\"page_lcp\"}",
        "{\"type\":\"console_log\"}",
        "{\"type\":\"page_load\"}",
    ];
    assert_eq!(server.publish_lines(&lines.join("\n")).code, Some(0));
    let check = |args: &[&str], expected: &[u64]| {
        let limit = expected.len().to_string();
        let said =
            Running::start(server.tail(&[args, &["--json", "--limit", &limit]].concat())).end();
        assert_eq!(seqs(&said.out), expected, "{args:?}: {said:?}");
    };
    check(&["--category", "network,console"], &[2, 4]);
    check(
        &["--category", "network", "--category", "page"],
        &[1, 2, 3, 5],
    );
    check(&["--type", "page_l*"], &[1, 3, 5]);
    check(&["--type", "page_lcp,console_*"], &[3, 4]);
    check(&["--category", "page", "--type", "*load"], &[1, 5]);
    check(&["--after", "3"], &[4, 5]);
    check(&["--replay", "all"], &[1, 2, 3, 4, 5]);
}

#[test]
fn it_begins_with_the_last_events_and_continues_with_what_follows() {
    let server = Server::start();
    server.publish_steps(30);
    let mut tail = Running::start(server.tail(&["--json"]));
    assert_eq!(
        (11..=30).map(|_| seqs(&tail.line())[0]).collect::<Vec<_>>(),
        (11..=30).collect::<Vec<_>>()
    );
    server.publish_steps(1);
    assert_eq!(seqs(&tail.line()), [31]);
    tail.signal(Signal::INT);
    assert_eq!(tail.end().code, Some(0));

    let mut tail = Running::start(server.tail(&["-n", "2", "--json"]));
    assert_eq!([seqs(&tail.line()), seqs(&tail.line())], [[30], [31]]);
    server.publish_steps(1);
    assert_eq!(seqs(&tail.line()), [32]);
    tail.signal(Signal::INT);
    assert_eq!(tail.end().code, Some(0));
}

#[test]
fn a_text_a_time_and_problems_choose_among_what_is_there_and_what_follows() {
    let server = Server::start();
    let lines = r#"{"type":"console_log","data":{"level":"log","text":"Checkout begins"},"ts":1795349358000000}
{"type":"console_error","data":{"text":"TypeError: checkout failed"}}
{"type":"console_error","data":{"text":"other"}}
"#;
    assert_eq!(server.publish_lines(lines).code, Some(0));
    let check = |args: &[&str], expected: &[u64]| {
        let limit = (expected.len() + 1).to_string();
        let mut tail =
            Running::start(server.tail(&[&["--json", "--limit", &limit], args].concat()));
        let seen: Vec<_> = expected.iter().map(|_| seqs(&tail.line())[0]).collect();
        assert_eq!(seen, expected, "{args:?}");
        // One that is not chosen, and one that is.
        let more = r#"{"type":"console_log","data":{"level":"log","text":"calm"},"ts":1}
{"type":"console_error","data":{"text":"CHECKOUT again"}}"#;
        assert_eq!(server.publish_lines(more).code, Some(0));
        let said = tail.end();
        assert!(said.out.contains("CHECKOUT again"), "{args:?}: {said:?}");
        assert_eq!(said.code, Some(0));
    };
    check(&["--grep", "checkout"], &[1, 2]);
    check(&["--problems", "-n", "2"], &[3, 5]);
    check(&["--since", "1h", "--problems"], &[2, 3, 5, 7]);
    // The name of a field is not what an event says.
    let name = r#"{"type":"console_log","data":{"level":"log","text":"calm","checkout":true}}"#;
    assert_eq!(server.publish_lines(name).code, Some(0));
    let tail = server.tail(&["--grep", "checkout", "-n", "1", "--limit", "1"]);
    assert!(Running::start(tail).end().out.contains("CHECKOUT again"));
    let mut tail = Running::start(server.tail(&["--grep", "checkout", "-n", "0", "--limit", "1"]));
    tail.err_line_with("session");
    assert_eq!(server.publish_lines(name).code, Some(0));
    assert_eq!(server.publish_lines(lines).code, Some(0));
    assert!(tail.end().out.contains("Checkout begins"));
}

#[test]
fn a_line_is_what_the_template_says() {
    let server = Server::start();
    let said = server.publish_lines(r#"{"type":"network_response","ts":1795349358733796,"data":{"request_id":"1","method":"GET","status":404,"headers":{},"url":"http://h/"}}"#);
    assert_eq!(said.code, Some(0));
    let format = "{time} {data.status}\\t{data.url}";
    let tail = server.tail(&["--utc", "--limit", "1", "--format", format]);
    assert_eq!(
        Running::start(tail).end().out,
        "12:09:18.733 404\thttp://h/\n"
    );
    let said = run(&["tail", "--format", "{url}"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("data.url"), "{said:?}");
}

#[test]
fn replay_live_begins_with_what_comes_next() {
    let server = Server::start();
    server.publish_steps(3);
    let mut tail = Running::start(server.tail(&["--replay", "live", "--limit", "1"]));
    // It is connected once it prints the session.
    tail.err_line_with("session");
    server.publish_steps(1);
    let line = tail.line();
    assert!(line.contains("      4 control     step"), "{line}");
    assert_eq!(tail.end().code, Some(0));
}

#[test]
fn evicted_events_are_reported_as_lost() {
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "4",
    ]);
    server.publish_steps(10);
    let said = Running::start(server.tail(&["--json", "--after", "1", "--limit", "4"])).end();
    assert_eq!(seqs(&said.out), [7, 8, 9, 10]);
    assert_eq!(said.err, "lost 5 events (2..=6)\n");
}

/// `lost 12 events (5..=16): control 12` → 12, 5 and 16.
fn loss(line: &str) -> (u64, u64, u64) {
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    (numbers[0], numbers[1], numbers[2])
}

#[test]
fn a_tail_that_is_overtaken_accounts_for_every_event() {
    const EVENTS: u64 = 5_000;
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "64",
    ]);
    let (tail, _, stdout) = Running::start_with_pipes(server.tail(&["--json"]));
    let mut out = BufReader::new(stdout);
    server.publish_steps(1);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(seqs(&line), [1]);

    // From here on the test does not read, and far more is published than pipes and sockets hold.
    let event = format!(
        "{{\"type\":\"x\",\"category\":\"page\",\"data\":\"{}\"}}\n",
        "x".repeat(10_000)
    );
    let lines = event.repeat(usize::try_from(EVENTS - 1).unwrap());
    assert_eq!(server.publish_lines(&lines).code, Some(0));

    let mut delivered = vec![1];
    while delivered.last() != Some(&EVENTS) {
        line.clear();
        out.read_line(&mut line).unwrap();
        delivered.extend(seqs(&line));
    }
    assert!(
        delivered.is_sorted_by(|a, b| a < b),
        "in order, and none twice"
    );
    tail.signal(Signal::INT);
    let said = tail.end();
    assert_eq!(said.code, Some(0), "{}", said.err);

    let losses: Vec<_> = said.err.lines().map(loss).collect();
    assert!(
        !losses.is_empty(),
        "sockets and pipes should not hold as much"
    );
    let mut lost = 0;
    for (count, from, to) in losses {
        assert_eq!(count, to - from + 1);
        assert!(
            !delivered.iter().any(|seq| (from..=to).contains(seq)),
            "lost, and yet there"
        );
        lost += count;
    }
    assert_eq!(delivered.len() as u64 + lost, EVENTS);
}

#[test]
fn resumes_over_its_own_restart() {
    let server = Server::start();
    let directory = Directory::new("resume");
    let file = directory.path("cursor");
    let tail = |args: &[&str]| server.tail(&[&["--json", "--resume", &file], args].concat());
    server.publish_steps(4);
    assert_eq!(
        seqs(&Running::start(tail(&["--limit", "2"])).end().out),
        [1, 2]
    );

    // The file wins over where it would begin otherwise. Ended by a signal, it has stored the rest.
    let mut running = Running::start(tail(&["--replay", "all"]));
    assert_eq!(seqs(&running.line()), [3]);
    assert_eq!(seqs(&running.line()), [4]);
    running.signal(Signal::INT);
    assert_eq!(running.end().code, Some(0));
    let stored = std::fs::read_to_string(&file).unwrap();
    assert!(stored.starts_with("4-"), "{stored}");

    server.publish_steps(1);
    let mut running = Running::start(tail(&[]));
    assert_eq!(seqs(&running.line()), [5]);
    // However it ends, what was printed may come again, and nothing is left out.
    running.signal(Signal::KILL);
    running.end();
    server.publish_steps(1);
    let mut running = Running::start(tail(&[]));
    let next = seqs(&running.line());
    assert!(next == [5] || next == [6], "{next:?}");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, Some(0));
    assert_eq!(directory.files(), ["cursor"], "nothing else is left behind");
}

#[test]
fn a_cursor_of_another_epoch_is_reported() {
    let directory = Directory::new("epoch");
    let file = directory.path("cursor");
    std::fs::write(&file, "77-0000000000000000\n").unwrap();
    let server = Server::start();
    server.publish_steps(1);
    let said = Running::start(server.tail(&["--json", "--resume", &file, "--limit", "1"])).end();
    assert_eq!(seqs(&said.out), [1]);
    let lost = "lost an unknown number of events: the server was restarted\n";
    assert_eq!(said.err, lost);
}

#[test]
fn a_file_that_holds_no_cursor_is_one_clear_line() {
    let directory = Directory::new("nocursor");
    let file = directory.path("cursor");
    std::fs::write(&file, "hello\n").unwrap();
    let said = run(&["tail", "--url", &dead_url(), "--resume", &file]);
    assert_eq!(said.code, Some(1));
    let reason =
        "`hello` is not a cursor; write SEQ or SEQ-EPOCH, such as `41` or `41-00000000c0ffee00`";
    assert_eq!(
        said.err,
        format!("tapline: {file} holds no cursor: {reason}\n")
    );
}

#[test]
fn comes_back_when_the_server_does() {
    let first = Server::start();
    first.publish_steps(2);
    let address = first.address().to_owned();
    let mut tail = Running::start(first.tail(&["--json"]));
    assert_eq!(seqs(&tail.line()), [1]);
    assert_eq!(seqs(&tail.line()), [2]);
    first.running.signal(Signal::KILL);
    drop(first);
    tail.err_line_with("the connection broke; attempt 1 in ");

    let second = Server::with(&["serve", "--listen", &address, "--start"]);
    second.publish_steps(1);
    tail.err_line_with("reconnected after seq");
    tail.err_line_with("the server was restarted");
    assert_eq!(seqs(&tail.line()), [1]);
    tail.signal(Signal::INT);
    assert_eq!(tail.end().code, Some(0));
}

#[test]
fn a_server_that_stops_says_goodbye_and_retries_are_bounded() {
    let server = Server::start();
    server.publish_steps(1);
    let mut tail = Running::start(server.tail(&["--json", "--retries", "1"]));
    assert_eq!(seqs(&tail.line()), [1]);
    server.stop();
    let said = tail.end();
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("attempt 1 in "), "{said:?}");
    assert!(
        said.err
            .lines()
            .last()
            .unwrap()
            .starts_with("tapline: cannot reach "),
        "{said:?}"
    );
}

#[test]
fn ends_quietly_when_its_reader_is_gone() {
    let server = Server::start();
    server.publish_steps(1);
    let (tail, _, stdout) = Running::start_with_pipes(server.tail(&["--json"]));
    let mut out = BufReader::new(stdout);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(seqs(&line), [1]);
    // As `head -1` does. Nothing more is published: there is no write that could fail.
    drop(out);
    let said = tail.end();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn without_a_server_one_line_says_how_to_start_or_name_one() {
    let url = dead_url();
    let said = run(&["tail", "--url", &url]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let reason = "Connection refused (os error 111); start a server with `tapline serve`, or pass the \
                  address of a running one with --url";
    assert_eq!(said.err, format!("tapline: cannot reach {url}: {reason}\n"));
}

/// What answers each connection with these bytes.
fn other_server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(answer);
        }
    });
    url
}

#[test]
fn what_is_no_tapline_server_is_called_so() {
    for answer in [
        &b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found"[..],
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
    ] {
        let url = other_server(answer);
        let said = run(&["tail", "--url", &url]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        let expected = "does not answer like a Tapline server";
        assert!(said.err.contains(expected), "{said:?}");
    }
}

#[test]
fn a_cursor_that_cannot_be_stored_ends_it_at_once() {
    let server = Server::start();
    let said = run(&["tail", "--url", &server.url, "--resume", "/nowhere/cursor"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    assert!(said.err.contains("/nowhere/cursor"), "{said:?}");
}

#[test]
fn wrong_usage_is_reported() {
    for args in [
        &["tail", "--after", "x"][..],
        &["tail", "--after", "1", "--replay", "all"],
        &["tail", "--category", "bogus"],
        &["tail", "--limit", "0"],
        &["tail", "--url", "ftp://127.0.0.1"],
    ] {
        assert_eq!(run(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn a_time_that_is_none_names_its_flag() {
    let said = run(&["tail", "--since", "yesterday", "--url", &dead_url()]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("--since"), "{said:?}");
    assert!(said.err.contains("`yesterday` is neither"), "{said:?}");
}
