//! `tapline top`: one frame as text, and the screen in a pseudo terminal.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::program::{Running, Server, dead_url, run, tapline};

#[test]
fn one_frame_needs_no_terminal() {
    let server = Server::start();
    let mut tail =
        Running::start(server.tail(&["--category", "control", "--replay", "live", "--limit", "4"]));
    tail.err_line_with("session");
    server.publish_steps(3);
    let said = run(&["top", "--once", "--url", &server.url]);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    for part in [
        &*server.url,
        "captures all categories",
        "control      0.3",
        "requests in flight: none",
        "readers: 1, furthest behind first",
        "sinks: none",
    ] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "{said:?}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let server = Server::start();
    let said = run(&["top", "--url", &server.url]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err.contains("standard output is no terminal: --once"),
        "{said:?}"
    );
    let said = run(&["top", "--once", "--url", &dead_url()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("tapline serve"), "{said:?}");
    assert_eq!(run(&["top", "--interval", "50ms"]).code, Some(2));
}

/// The program in a pseudo terminal of util-linux: what is typed goes in, what is drawn comes out.
fn in_terminal(url: &str) -> Command {
    let program = tapline(&[]);
    let mut command = Command::new("script");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // A pseudo terminal has no size of its own.
    let run = format!(
        "stty rows 24 columns 80; exec '{}' top --interval 200ms --url '{url}'",
        program.get_program().display()
    );
    command
        .env("TERM", "xterm")
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &run,
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

/// Reads what is drawn until this word is there. Where the screen has a space already, none is drawn.
#[track_caller]
fn read_until(out: &mut impl std::io::Read, drawn: &mut String, text: &str) {
    let mut bytes = [0; 4096];
    while !drawn.contains(text) {
        let read = out.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "{text:?} should have come: {drawn:?}");
        drawn.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

#[test]
fn the_terminal_is_restored_after_q_and_after_ctrl_c() {
    let server = Server::start();
    for key in ["q", "\u{3}"] {
        let (running, stdin, mut out) = Running::start_with_pipes(in_terminal(&server.url));
        let mut stdin = stdin.unwrap();
        let mut drawn = String::new();
        read_until(&mut out, &mut drawn, "help");
        assert!(
            drawn.contains(ENTERED) && !drawn.contains(LEFT),
            "{drawn:?}"
        );
        stdin.write_all(b"?").unwrap();
        read_until(&mut out, &mut drawn, "closes");
        // Closes the help.
        stdin.write_all(b"x").unwrap();
        stdin.write_all(key.as_bytes()).unwrap();
        read_until(&mut out, &mut drawn, LEFT);
        assert_eq!(running.end().code, Some(0), "{drawn:?}");
    }
}

#[test]
fn a_server_that_ends_is_shown_and_a_signal_restores_the_terminal() {
    let server = Server::start();
    let (running, stdin, mut out) = Running::start_with_pipes(in_terminal(&server.url));
    let mut drawn = String::new();
    read_until(&mut out, &mut drawn, "help");
    drop(server);
    read_until(&mut out, &mut drawn, "date:");
    // The only child of `script` is the program.
    let children = format!("/proc/{0}/task/{0}/children", running.id());
    let children = std::fs::read_to_string(children).unwrap();
    let id = children.trim().parse().unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    read_until(&mut out, &mut drawn, LEFT);
    assert_eq!(running.end().code, Some(0), "{drawn:?}");
    drop(stdin);
}
