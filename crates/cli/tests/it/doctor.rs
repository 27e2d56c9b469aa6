//! `tapline doctor`: what it finds, and its exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::program::{Directory, Said, Server, dead_url, run};

const TOKEN: &str = "0123456789abcdef-a-token";

fn doctor(url: &str, args: &[&str]) -> Said {
    run(&[&["doctor", "--url", url], args].concat())
}

/// The line of a check.
#[track_caller]
fn line<'a>(said: &'a Said, name: &str) -> &'a str {
    let mut lines = said.out.lines();
    let found = lines.find(|line| line.split_whitespace().nth(1) == Some(name));
    found.unwrap_or_else(|| panic!("{name}: {said:?}"))
}

#[track_caller]
fn expect(said: &Said, name: &str, result: &str, text: &str) {
    let line = line(said, name);
    assert!(line.starts_with(result) && line.contains(text), "{line}");
}

#[test]
fn all_is_well_with_a_server_that_captures() {
    let server = Server::start();
    let said = doctor(&server.url, &[]);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    expect(
        &said,
        "server",
        "ok ",
        concat!("is a Tapline ", env!("CARGO_PKG_VERSION"), ", epoch "),
    );
    expect(&said, "access", "ok ", "no token is needed");
    expect(&said, "stream", "ok ", "nothing holds it back");
    expect(&said, "clock", "ok ", "differ by");
    expect(&said, "session", "ok ", "captures all categories");
    expect(&said, "browser", "note ", "--cdp URL names a browser");
    expect(&said, "sinks", "note ", "--archive DIR stores all of them");
    expect(&said, "readers", "ok ", "none is open");
    expect(&said, "loss", "ok ", "");
    assert!(said.out.contains("tapline demo"), "{said:?}");
    assert!(
        !said.out.contains('\u{1b}'),
        "no colours into a pipe: {said:?}"
    );

    let said = doctor(&server.url, &["--json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["url"], server.url);
    let checks = json["checks"].as_array().unwrap();
    let stream = checks.iter().find(|it| it["name"] == "stream").unwrap();
    assert_eq!(stream["result"], "ok");
}

#[test]
fn a_session_that_does_not_run_is_to_be_mended() {
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0"]);
    server.publish_steps(3);
    let said = doctor(&server.url, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    expect(&said, "session", "mend ", "(so far, 3 events not captured)");
    expect(&said, "session", "mend ", "`tapline start`");
    assert_eq!(run(&["start", "--url", &server.url]).code, Some(0));
    assert_eq!(doctor(&server.url, &[]).code, Some(0));
}

#[test]
fn a_server_that_cannot_be_asked_has_an_exit_code_of_its_own() {
    let said = doctor(&dead_url(), &[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    expect(
        &said,
        "server",
        "mend ",
        "start a server with `tapline serve`",
    );
    assert!(!said.out.contains("session"), "{said:?}");
    // What is on this machine is looked at nevertheless.
    assert!(said.out.contains("tapline demo"), "{said:?}");
    assert_eq!(doctor("nonsense", &[]).code, Some(2));
}

#[test]
fn another_program_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| 2 < read) {
                line.clear();
            }
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<p>\n");
        }
    });
    let said = doctor(&url, &[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    expect(
        &said,
        "server",
        "mend ",
        "it is no Tapline: check the address that --url names",
    );
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let directory = Directory::new("doctor-token");
    let (right, wrong) = (directory.path("right"), directory.path("wrong"));
    std::fs::write(&right, TOKEN).unwrap();
    std::fs::write(&wrong, "another-token-of-this-length").unwrap();
    let listen = ["serve", "--start", "--listen", "127.0.0.1:0"];
    let server = Server::with(&[&listen[..], &["--token-file", &right]].concat());

    let said = doctor(&server.url, &[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    expect(&said, "access", "mend ", "--token-file");
    let said = doctor(&server.url, &["--token-file", &wrong]);
    assert_eq!(said.code, Some(2), "{said:?}");
    expect(&said, "access", "mend ", "does not accept this token");
    let said = doctor(&server.url, &["--token-file", &directory.path("missing")]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("missing"), "{said:?}");
    let said = doctor(&server.url, &["--token-file", &right]);
    assert_eq!(said.code, Some(0), "{said:?}");
    expect(&said, "access", "ok ", "calls with this token are accepted");
    assert!(!said.out.contains(TOKEN), "{said:?}");
}

#[test]
fn a_browser_that_is_not_there_is_named() {
    let directory = Directory::new("doctor-browser");
    let archive = directory.path("archive");
    let dead = dead_url();
    let serve = ["serve", "--start", "--listen", "127.0.0.1:0"];
    let server = Server::with(&[&serve[..], &["--cdp", &dead, "--archive", &archive]].concat());
    let said = doctor(&server.url, &["--archive", &archive]);
    assert_eq!(said.code, Some(1), "{said:?}");
    expect(&said, "browser", "mend ", "--remote-debugging-port");
    expect(&said, "sinks", "ok ", "archive: ");
    assert!(
        line(&said, "disk").contains("free for the archive in"),
        "{said:?}"
    );
    let said = doctor(&server.url, &["--archive", &directory.path("none")]);
    expect(
        &said,
        "disk",
        "mend ",
        "--archive names a directory on this machine",
    );
}

/// A proxy that holds everything back that is not a whole answer.
#[test]
fn a_proxy_that_holds_the_stream_back_is_found() {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let program = server.address().to_owned();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let program = program.clone();
            std::thread::spawn(move || hand_on(socket, &program));
        }
    });
    let said = doctor(&url, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    expect(
        &said,
        "stream",
        "mend ",
        "its answer did not begin within 5.00 s",
    );
    expect(&said, "stream", "mend ", "nginx: proxy_buffering off");
    expect(&said, "clock", "unknown ", "not compared");
    expect(&said, "session", "ok ", "");
}

/// One request of a connection, whose answer is passed on when it has ended.
fn hand_on(mut client: TcpStream, program: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut server = TcpStream::connect(program)?;
    server.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)
}
