//! The commands of the pages, run as they are written: in order, in one directory, with the printed answers compared.
//!
//! Only what would collide with other tests is replaced: ports, files outside of the directory, and names of machines that
//! do not exist. Where a page shows an answer below a command, times, ids and large numbers may differ, and `…` stands for
//! anything.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use crate::peer::{on_path, or_skip};
use crate::program::{DEADLINE, Directory, Running, Server};

#[test]
fn the_readme_runs() {
    let chromium = on_path("chromium");
    let found = or_skip(chromium, "chromium", "TAPLINE_REQUIRE_BROWSER");
    if found.is_none() || !tools_are_here() {
        return;
    }
    run_page("readme", include_str!("../../../../README.md"));
}

#[test]
fn the_pages_run() {
    if !tools_are_here() {
        return;
    }
    for (name, page) in [
        ("archive", include_str!("../../../../docs/archive.md")),
        ("mcp", include_str!("../../../../docs/mcp.md")),
        ("otlp", include_str!("../../../../docs/otlp.md")),
        ("proxies", include_str!("../../../../docs/proxies.md")),
        ("relay", include_str!("../../../../docs/relay.md")),
        ("security", include_str!("../../../../docs/security.md")),
    ] {
        run_page(name, page);
    }
}

/// Programs of the system that the pages use.
fn tools_are_here() -> bool {
    ["curl", "jq", "openssl", "zstdcat"]
        .iter()
        .all(|name| or_skip(on_path(name), name, "TAPLINE_REQUIRE_PEERS").is_some())
}

fn run_page(name: &str, page: &str) {
    let snippets = snippets(page);
    assert!(!snippets.is_empty(), "{name}: no commands");
    let mut terminal = Terminal::new(name);
    for snippet in snippets {
        println!("{name}: {}", snippet.command);
        terminal.run(&snippet);
    }
    terminal.close();
}

/// A command of a page, and what the page shows as its output.
struct Snippet {
    command: String,
    shown: String,
}

/// The commands in the blocks of a page that are marked as `sh`. A line that begins with `$` is a command with its output
/// below; without one, each line is a command.
fn snippets(page: &str) -> Vec<Snippet> {
    let mut snippets: Vec<Snippet> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line != "```sh" {
            continue;
        }
        let (mut continues, mut with_output) = (false, false);
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let command = line.strip_prefix("$ ");
            with_output |= command.is_some();
            let last = snippets.last_mut();
            match (command, last) {
                (None, Some(last)) if continues => {
                    last.command.push('\n');
                    last.command.push_str(line);
                }
                (None, Some(last)) if with_output => {
                    last.shown.push_str(line);
                    last.shown.push('\n');
                    continue;
                }
                _ => snippets.push(Snippet {
                    command: command.unwrap_or(line).to_owned(),
                    shown: String::new(),
                }),
            }
            continues = line.ends_with('\\') || line.ends_with('|');
        }
    }
    snippets
}

/// How a command that does not end shows that it works.
enum Shows {
    /// A line on standard output that begins like this.
    Out(&'static str),
    /// A line on standard error with this text.
    Err(&'static str),
    /// What the page shows as its output.
    Page,
    /// Something in this file.
    File(&'static str),
}

/// What does not end by itself, and whether it is a server on the port of the page: a new one takes the place of the last.
fn runs_on(command: &str) -> Option<(Shows, bool)> {
    let begins = |start: &str| command.starts_with(start);
    if begins("tapline serve") || begins("tapline demo") {
        return Some((Shows::Out("listening on http"), true));
    }
    if begins("tapline replay") && !command.contains("--print") {
        return Some((Shows::Out("listening on http"), true));
    }
    if begins("chromium") {
        return Some((Shows::Err("DevTools listening on"), false));
    }
    if begins("tapline mcp") {
        return Some((Shows::Out("listening on http"), false));
    }
    if begins("tapline record") {
        return Some((Shows::File("session.ndjson"), false));
    }
    if begins("tapline tail") {
        return Some((Shows::Err("session"), false));
    }
    begins("curl -N").then_some((Shows::Page, false))
}

/// A directory, a port for the server, one for the browser, and what runs.
struct Terminal {
    directory: Directory,
    replaced: Vec<(&'static str, String)>,
    server: Option<Running>,
    others: Vec<(String, Running)>,
}

impl Terminal {
    fn new(name: &str) -> Self {
        let directory = Directory::new(&format!("page-{name}"));
        let path = |file: &str| directory.path(file);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tapline"), path("tapline")).unwrap();
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(path("cert.pem"), signed.cert.pem()).unwrap();
        fs::write(path("key.pem"), signed.signing_key.serialize_pem()).unwrap();
        fs::write(path("headers"), "authorization: Bearer of-the-test\n").unwrap();
        fs::write(path("token"), "0123456789abcdef\n").unwrap();
        record(&path("archive"));
        let [server, browser, second, relay] = free_ports();
        let replaced = vec![
            ("cargo run --release -- ", "tapline ".to_owned()),
            ("cargo xtask ci", "true".to_owned()),
            ("localhost:10001", server.clone()),
            ("127.0.0.1:10001", server.clone()),
            ("0.0.0.0:10001", server.clone()),
            ("127.0.0.1:10002", second),
            ("127.0.0.1:9222", browser.clone()),
            ("127.0.0.1:9333", relay),
            ("127.0.0.1:8080/sandbox", server),
            (
                "--remote-debugging-port=9222",
                format!(
                    "--remote-debugging-port={}",
                    browser.rsplit(':').next().unwrap()
                ),
            ),
            ("/tmp/tapline-chromium", path("chromium")),
            ("/run/secrets/otlp-headers", path("headers")),
            ("DIR", path("archive")),
        ];
        Self {
            directory,
            replaced,
            server: None,
            others: Vec::new(),
        }
    }

    fn run(&mut self, snippet: &Snippet) {
        let mut text = snippet.command.clone();
        for (from, to) in &self.replaced {
            text = text.replace(from, to);
        }
        // A page starts in the background what the test starts there anyway.
        let text = text.trim_end().trim_end_matches('&').trim_end();
        let Some((shows, is_server)) = runs_on(text) else {
            return self.run_to_the_end(text, snippet);
        };
        if is_server && let Some(server) = self.server.take() {
            // What follows the server is ended before it; the browser stays.
            let (ended, stay) = std::mem::take(&mut self.others)
                .into_iter()
                .partition(|(text, _)| !text.starts_with("chromium"));
            self.others = stay;
            interrupt(ended);
            stop("the server", server);
        }
        let mut running = Running::start(self.command(text));
        match shows {
            Shows::Out(start) => {
                let line = running.line();
                assert!(line.starts_with(start), "{text}: {line}");
            }
            Shows::Err(part) => {
                running.err_line_with(part);
            }
            Shows::Page => {
                let shown = Pattern::of(&snippet.shown);
                let start = Instant::now();
                let mut seen = running.line();
                while !shown.matches(&seen) {
                    assert!(start.elapsed() < DEADLINE, "{text}: {seen}");
                    seen.push('\n');
                    seen.push_str(&running.line());
                }
            }
            Shows::File(name) => {
                let start = Instant::now();
                let file = self.directory.path(name);
                while fs::metadata(&file).map_or(0, |file| file.len()) == 0 {
                    assert!(start.elapsed() < DEADLINE, "{text}: nothing in {name}");
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
        if is_server {
            self.server = Some(running);
        } else {
            self.others.push((text.to_owned(), running));
        }
    }

    fn run_to_the_end(&mut self, text: &str, snippet: &Snippet) {
        // A page that starts no server is about one that runs.
        if self.server.is_none() && text.contains(&self.replaced[2].1) {
            self.start_server();
        }
        let start = Instant::now();
        let mut said = Running::start(self.command(text)).end();
        // `why` reports by its code that there is no event yet, and that it found something.
        let why = text.starts_with("tapline why");
        while why && said.code == Some(2) && start.elapsed() < DEADLINE {
            said = Running::start(self.command(text)).end();
        }
        let found_something = why && said.code == Some(1);
        assert!(said.code == Some(0) || found_something, "{text}: {said:?}");
        // A pipe hides that its first program has failed.
        assert!(
            !text.contains('|') || !said.out.is_empty(),
            "{text}: {said:?}"
        );
        if !snippet.shown.is_empty() {
            let shown = Pattern::of(&snippet.shown);
            assert!(
                shown.matches(&said.out),
                "{text}\nthe page shows\n{}\nand it was\n{}",
                snippet.shown,
                said.out
            );
        }
    }

    fn start_server(&mut self) {
        let mut server = Running::start(self.command("tapline serve --start"));
        assert!(server.line().starts_with("listening on http"));
        self.server = Some(server);
    }

    /// The command in a shell that becomes it, so that signals reach it.
    fn command(&self, text: &str) -> Command {
        let server = &self.replaced[2].1;
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        let exec = if runs_on(text).is_some() { "exec " } else { "" };
        command
            .args(["-c", &format!("{exec}{text}")])
            .current_dir(self.directory.path(""))
            .env("PATH", format!("{}:{path}", self.directory.path("")))
            .env("HOME", self.directory.path(""))
            .env("TAPLINE_LISTEN", server)
            .env("TAPLINE_URL", format!("http://{server}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    /// Interrupts what runs still. Programs of ours end with code 0 then.
    fn close(mut self) {
        interrupt(std::mem::take(&mut self.others));
        if let Some(server) = self.server.take() {
            stop("the server", server);
        }
    }
}

/// An archive with the events of a browser.
fn record(archive: &str) {
    let server = Server::archiving(archive);
    let said = server.publish_lines(include_str!("../../data/browser-events.ndjson"));
    assert_eq!(said.code, Some(0), "{said:?}");
    server.stop();
}

fn interrupt(commands: Vec<(String, Running)>) {
    for (text, running) in commands {
        stop(&text, running);
    }
}

/// Ctrl-C. Where the tests run in the background, programs of others ignore that, since it is ignored from the start.
fn stop(text: &str, running: Running) {
    println!("interrupted: {text}");
    let is_ours = text.starts_with("tapline") || text == "the server";
    running.signal(if is_ours { Signal::INT } else { Signal::TERM });
    let said = running.end();
    if text.starts_with("tapline") {
        assert_eq!(said.code, Some(0), "{text}: {said:?}");
    }
}

fn free_ports() -> [String; 4] {
    let free = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    free.map(|listener| listener.local_addr().unwrap().to_string())
}

/// What a page shows as output: without differences in white space, times, ids and large numbers.
struct Pattern(Vec<String>);

impl Pattern {
    fn of(shown: &str) -> Self {
        Self(shown.split('…').map(plain).collect())
    }

    /// Whether `text` begins as the page shows, with anything in place of each `…`.
    fn matches(&self, text: &str) -> bool {
        let text = plain(text);
        let mut rest = text.as_str();
        for (at, part) in self.0.iter().enumerate() {
            match rest.find(part.as_str()) {
                Some(0) => rest = &rest[part.len()..],
                Some(found) if at > 0 => rest = &rest[found + part.len()..],
                _ => return false,
            }
        }
        true
    }
}

/// The text without white space, with `#` for each number of four digits or more, each id of 16 hexadecimal digits or more and
/// each time.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        // `2026-11-25T…`
        let in_time = word.starts_with("20") && (word.get(4..5).unwrap_or("-") == "-");
        if c.is_ascii_alphanumeric() || (in_time && word.len() >= 4 && "-:.".contains(c)) {
            word.push(c);
            continue;
        }
        let number = word.len() >= 4 && word.bytes().all(|b| b.is_ascii_digit());
        let id = word.len() >= 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let time = word.len() >= 20 && word.starts_with("20") && word.ends_with('Z');
        plain.push_str(if number || id || time { "#" } else { &word });
        word.clear();
        if c != '\0' && !c.is_whitespace() {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn an_answer_is_compared_without_its_times_and_ids() {
    let shown = Pattern::of("{\"seq\":3,\"ts\":1795648740542017,…,\n \"id\":\"20a76ced23bfdbe6\"}");
    assert!(shown.matches(r#"{"seq":3,"ts":1805648740542099,"more":1,"id":"ffffffffffffffff"}"#));
    assert!(!shown.matches(r#"{"seq":4,"ts":1805648740542099,"more":1,"id":"ffffffffffffffff"}"#));
    assert!(
        !shown.matches(r#"{"seq":3,"ts":1805648740542099,"more":1,"name":"ffffffffffffffff"}"#)
    );
    assert_eq!(plain("at: 2026-11-25T23:19:00.496494763Z, 17"), "at:#,17");
}
