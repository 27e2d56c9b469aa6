//! A real browser through the program: `serve --cdp`, `record`, `replay`, and `demo` with a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{DEADLINE, Directory, Running, Server, run, tapline};

/// Where it is, unless the test is skipped.
pub(crate) fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| {
            let mut programs = std::env::split_paths(&path).map(|folder| folder.join(name));
            programs.find(|program| program.is_file())
        });
    if found.is_none() {
        let required = std::env::var("TAPLINE_REQUIRE_BROWSER").is_ok_and(|it| it == "1");
        assert!(
            !required,
            "chromium is not here, and TAPLINE_REQUIRE_BROWSER=1"
        );
        let _ = writeln!(std::io::stderr(), "skipped: chromium is not here");
    }
    found
}

/// Waits for what can only be asked for again and again.
fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < DEADLINE, "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A browser that will listen on a free port, and visits a page there.
pub(crate) fn browser(chromium: &PathBuf, directory: &Directory, page: &str) -> (Running, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = Command::new(chromium);
    command
        .args(["--headless", "--disable-gpu", "--no-first-run"])
        .args([
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
        ])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg("--disable-background-networking")
        .arg(format!("--remote-debugging-port={port}"))
        .arg(format!("--user-data-dir={}", directory.path("profile")))
        .arg(page)
        .env("HOME", directory.path("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    (Running::start(command), port)
}

const PAGE: &str = "<script>
  // Not literally, because the page's own body is in an event.
  const it = 'SEC' + 'RET';
  let n = 0;
  setInterval(() => {
    console.log('http://user:URL-' + it + '@127.0.0.1/ ' + n++);
    const headers = { Authorization: 'HEADER-' + it, 'X-Mine': 'MINE-' + it };
    fetch('/api?key=QUERY-' + it, { headers, method: 'POST', body: '{\"pin\":\"FIELD-' + it + '\"}' })
      .then((answer) => answer.text());
  }, 50);
</script>";

const SECRETS: [&str; 6] = [
    "URL-SECRET",
    "HEADER-SECRET",
    "COOKIE-SECRET",
    "MINE-SECRET",
    "QUERY-SECRET",
    "FIELD-SECRET",
];

const REDACT: [&str; 6] = [
    "--redact-header",
    "x-mine",
    "--redact-query",
    "key",
    "--redact-field",
    "pin",
];

/// A page that has secrets; its address.
pub(crate) fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = BufReader::new(&stream);
                let (mut length, mut line) = (0, String::new());
                while request.read_line(&mut line).is_ok_and(|read| 2 < read) {
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let _ = request.read_exact(&mut vec![0; length]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\
                     set-cookie: session=COOKIE-SECRET\r\nconnection: close\r\n\r\n{PAGE}",
                    PAGE.len()
                );
            });
        }
    });
    url
}

/// The events that a plain client of Server-Sent Events gets, up to one of each of these types.
fn follow(address: &str, types: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET /telemetry/stream?replay=all HTTP/1.1\r\nhost: {address}\r\n\
         accept: text/event-stream\r\n\r\n"
    )
    .unwrap();
    let mut missing = types.to_vec();
    let mut events = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(envelope) = line.strip_prefix("data: ") {
            let parsed: Value = serde_json::from_str(envelope).unwrap();
            missing.retain(|it| *it != parsed["event"]["type"]);
            events.push(envelope.to_owned());
            if missing.is_empty() {
                break;
            }
        }
    }
    events
}

#[track_caller]
fn holds_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_plain_client_receives_a_browser_s_events_without_its_secrets() {
    let Some(chromium) = chromium() else { return };
    let directory = Directory::new("cdp-serve");
    let (browser, port) = browser(&chromium, &directory, &site());
    let cdp = format!("http://127.0.0.1:{port}");
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--log",
        "debug",
        "--cdp",
        &cdp,
    ];
    let server = Server::with(&[&serve[..], &REDACT[..]].concat());
    let events = follow(
        server.address(),
        &[
            "page_tab_opened",
            "console_log",
            "network_request",
            "network_response",
        ],
    );
    holds_no_secret(&events.concat());
    assert!(events.concat().contains("*redacted*"));
    let said = server.stop();
    assert!(said.err.contains("connected to the browser"), "{said:?}");
    holds_no_secret(&said.err);
    drop(browser);
}

#[test]
fn what_was_recorded_is_replayed_without_its_secrets() {
    let Some(chromium) = chromium() else { return };
    let directory = Directory::new("cdp-record");
    let (browser, port) = browser(&chromium, &directory, &site());
    let cdp = format!("http://127.0.0.1:{port}");
    let file = directory.path("session.ndjson");
    let mut recording = Running::start(tapline(&["record", "--cdp", &cdp, "--out", &file]));
    recording.err_line_with("connected to the browser");
    until("three requests are recorded", || {
        let recorded = std::fs::read_to_string(&file).unwrap_or_default();
        recorded.matches("Network.loadingFinished").count() >= 3
    });
    recording.signal(Signal::INT);
    let said = recording.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    drop(browser);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = run(&["record", "--cdp", &cdp, "--out", &file]);
    assert_eq!(
        again.code,
        Some(1),
        "what is there is not written over: {again:?}"
    );

    let replay = ["replay", &file, "--speed", "max", "--print"];
    let printed = run(&[&replay[..], &REDACT[..]].concat());
    assert_eq!(printed.code, Some(0), "{printed:?}");
    holds_no_secret(&printed.out);
    for event_type in [
        "page_tab_opened",
        "console_log",
        "network_request",
        "network_response",
    ] {
        assert!(
            printed.out.contains(event_type),
            "{event_type} in {}",
            printed.out
        );
    }
    assert!(
        !printed.out.contains("monitor_init_failed"),
        "{}",
        printed.out
    );
    // Bodies are answers, which are found by what was asked.
    assert!(
        printed.out.contains(r#""body":"<script>"#),
        "{}",
        printed.out
    );
    let raw = run(&[&replay[..], &["--no-redaction"]].concat());
    assert!(raw.out.contains("HEADER-SECRET"), "{raw:?}");

    // And served.
    let serve = ["replay", &file, "--speed", "max", "--listen", "127.0.0.1:0"];
    let server = Server::with(&[&serve[..], &REDACT[..]].concat());
    let served = follow(server.address(), &["console_log", "monitor_disconnected"]);
    assert_eq!(served.len(), printed.out.lines().count());
    let taken = Server::start();
    let said = taken.publish_lines(&printed.out);
    assert_eq!(
        said.code,
        Some(0),
        "a server takes what is printed: {said:?}"
    );
}

#[test]
fn a_demo_has_a_browser_that_goes_with_it() {
    let Some(chromium) = chromium() else { return };
    let chromium = chromium.to_str().unwrap();
    let directory = Directory::new("cdp-demo");
    let mut command = tapline(&["demo", "--listen", "127.0.0.1:0", "--browser", chromium]);
    command.env("TMPDIR", directory.path(""));
    command.env("HOME", directory.path("home"));
    let mut demo = Running::start(command);
    let line = demo.line();
    let address = line
        .strip_prefix("listening on http://")
        .unwrap()
        .to_owned();
    let what = demo.line();
    assert!(what.starts_with("a browser visits a small shop"), "{what}");
    let types = [
        "console_log",
        "console_error",
        "network_response",
        "page_layout_shift",
    ];
    follow(&address, &types);
    let why = run(&["why", "--url", &format!("http://{address}")]);
    assert!(why.out.contains("/missing?page=1 answered 404"), "{why:?}");
    assert!(!why.out.contains("favicon"), "{why:?}");
    demo.signal(Signal::TERM);
    let said = demo.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    let left = directory.files();
    assert!(
        !left.iter().any(|it| it.starts_with("tapline-demo-")),
        "{left:?}"
    );
}

/// The browser stores what a page logs, and sends it to each session that begins later.
#[test]
fn a_line_from_before_a_session_has_the_time_at_which_it_was_logged() {
    let Some(chromium) = chromium() else { return };
    let directory = Directory::new("cdp-before");
    let page =
        "data:text/html,<script>console.error('old trouble'); document.title = 'done'</script>";
    let (browser, port) = browser(&chromium, &directory, page);
    until("the page has loaded", || {
        targets(port).is_some_and(|targets| targets.contains("\"done\""))
    });
    let cdp = format!("http://127.0.0.1:{port}");
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0", "--cdp", &cdp]);
    let call = |args: &[&str]| run(&[args, &["--url", &server.url]].concat());

    for round in 1..=2 {
        let said = call(&["start"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let said = call(&["wait", "--type", "console_error"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let status = call(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status.out).unwrap();
        let begin = status["state"]["applied_at"].as_str().unwrap();

        let why = call(&["why"]);
        assert_eq!(why.code, Some(1), "{why:?}");
        assert!(why.out.contains("old trouble"), "{why:?}");
        let why = call(&["why", "--since", begin]);
        assert_eq!(why.code, Some(0), "not in the session {round}: {why:?}");
        // So the first one since then is another one.
        let line = r#"{"type":"console_error","data":{"level":"error","text":"new trouble"}}"#;
        let said = server.publish_lines(line);
        assert_eq!(said.code, Some(0), "{said:?}");
        let since = ["--since", begin, "--type", "console_error", "--limit", "1"];
        let tail = Running::start(server.tail(&since)).end();
        assert!(tail.out.contains("new trouble"), "{tail:?}");

        let said = call(&["stop"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    drop(browser);
}

/// What the browser says about its tabs, once it is there.
fn targets(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream
        .write_all(b"GET /json/list HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .ok()?;
    // The browser leaves the connection open.
    let mut answer = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while answer.read_line(&mut line).is_ok_and(|read| 2 < read) {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut text = String::new();
    answer.take(length).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A client connects to the browser through the program, asks for its version and disconnects.
#[test]
fn a_client_of_the_browser_is_forwarded_and_its_commands_are_events() {
    let Some(chromium) = chromium() else { return };
    let directory = Directory::new("cdp-relay");
    let (browser, port) = browser(&chromium, &directory, "about:blank");
    let cdp = format!("http://127.0.0.1:{port}");
    let mut server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--cdp",
        &cdp,
        "--cdp-relay",
        "127.0.0.1:0",
    ]);
    let line = server.running.line();
    let relay = line.strip_prefix("relaying DevTools on http://").unwrap();
    // The browser answers, once it is there.
    server.running.err_line_with("connected to the browser");
    let ask = |request: &str| {
        let mut socket = TcpStream::connect(relay).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        socket
    };
    let mut version = String::new();
    ask("GET /json/version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .read_to_string(&mut version)
        .unwrap();
    let (_, path) = version.split_once("\"ws://localhost").unwrap();
    let (path, _) = path.split_once('"').unwrap();
    let path = &path[path.find('/').unwrap()..];
    let mut socket = ask(&format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ));
    // One text frame, masked with zeros.
    let command = br#"{"id":1,"method":"Browser.getVersion"}"#;
    let mut frame = vec![0x81, 0x80 | command.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(command);
    socket.write_all(&frame).unwrap();
    let mut said = Vec::new();
    let mut bytes = [0; 4096];
    while !said.windows(12).any(|window| window == b"\"userAgent\":") {
        let read = socket.read(&mut bytes).unwrap();
        assert!(0 < read, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&bytes[..read]);
    }
    drop(socket);
    let types = ["cdp_connect", "cdp_command_other", "cdp_disconnect"];
    let events = follow(server.address(), &types).concat();
    assert!(
        events.contains(r#""method":"Browser.getVersion""#),
        "{events}"
    );
    server.stop();
    drop(browser);
}

#[test]
fn what_cannot_be_is_said() {
    let said = run(&["serve", "--cdp-relay", "127.0.0.1:0"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("--cdp <URL>"), "{said:?}");
    let said = run(&["serve", "--cdp", "https://127.0.0.1:9222"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("expected http://HOST:PORT"), "{said:?}");
    let said = run(&["demo", "--browser", "/nowhere/chromium"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("cannot start /nowhere/chromium"),
        "{said:?}"
    );
    let said = run(&["replay", "/nowhere/session.ndjson"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("cannot read /nowhere/session.ndjson"),
        "{said:?}"
    );
    let wrong = concat!(env!("CARGO_MANIFEST_DIR"), "/data/browser-events.ndjson");
    for args in [&["replay", wrong][..], &["replay", wrong, "--print"]] {
        let said = run(args);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(
            said.err
                .contains(&format!("cannot read the recording {wrong}: line 1")),
            "{said:?}"
        );
        assert!(
            said.err.contains("`tapline record` writes recordings"),
            "{said:?}"
        );
    }
    let said = run(&["serve", "--no-redaction", "--redact-query", "token"]);
    assert_eq!(said.code, Some(2), "{said:?}");
}
