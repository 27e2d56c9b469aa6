//! The unit of systemd, held against systemd itself and against what the program does.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::peer::{on_path, or_skip};
use crate::program::{Directory, Running, run, tapline};

const REQUIRED: &str = "TAPLINE_REQUIRE_PEERS";
const UNIT: &str = include_str!("../../../../packaging/tapline.service");

/// The unit in a directory of its own, with the built program in place of the installed one.
fn unit(directory: &Directory) -> String {
    let installed = "/usr/local/bin/tapline";
    assert!(UNIT.contains(installed));
    let file = directory.path("tapline.service");
    fs::write(
        &file,
        UNIT.replace(installed, env!("CARGO_BIN_EXE_tapline")),
    )
    .unwrap();
    file
}

fn analyze(args: &[&str]) -> (bool, String) {
    let done = Command::new("systemd-analyze").args(args).output().unwrap();
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    (done.status.success(), said)
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_safe() {
    if or_skip(on_path("systemd-analyze"), "systemd-analyze", REQUIRED).is_none() {
        return;
    }
    let directory = Directory::new("unit");
    let file = unit(&directory);
    let (accepted, said) = analyze(&["verify", "--man=no", &file]);
    assert!(accepted && said.is_empty(), "{said}");

    // 10 is a service without any protection, 2.0 what the unit may have at most.
    let (safe, said) = analyze(&["security", "--offline=true", "--threshold=20", &file]);
    assert!(safe, "{said}");
}

/// A server that archives, is written to, read, reloaded and stopped makes no system call that the unit forbids.
#[test]
fn the_unit_allows_every_system_call_of_a_server() {
    let both = on_path("strace").and_then(|_| on_path("systemd-analyze"));
    if or_skip(both, "strace or systemd-analyze", REQUIRED).is_none() {
        return;
    }
    let directory = Directory::new("unit-calls");
    let trace = directory.path("trace");
    let archive = directory.path("archive");
    // The whole of `serve`, under a tracer that follows every thread.
    let served = tapline(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--archive",
        &archive,
    ]);
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-qq", "-I2", "-o", &trace])
        .arg(served.get_program())
        .args(served.get_args())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut server = Running::start(traced);
    let line = server.line();
    let url = line.strip_prefix("listening on ").unwrap();
    let published = run(&[
        "publish",
        "--url",
        url,
        "--type",
        "step",
        "--category",
        "page",
    ]);
    assert_eq!(published.code, Some(0), "{published:?}");
    let read = run(&["tail", "--url", url, "--replay", "all", "--limit", "1"]);
    assert_eq!(read.code, Some(0), "{read:?}");
    let id = traced_process(server.id());
    for signal in [Signal::HUP, Signal::TERM] {
        rustix::process::kill_process(id, signal).unwrap();
    }
    let said = server.end();
    assert_eq!(said.code, Some(0), "{said:?}");

    let allowed = allowed_calls();
    assert!(allowed.contains("accept4") && !allowed.contains("ptrace"));
    let trace = fs::read_to_string(trace).unwrap();
    let made: BTreeSet<&str> = trace.lines().filter_map(call).collect();
    assert!(
        made.contains("fdatasync") && made.contains("accept4"),
        "{made:?}"
    );
    let forbidden: Vec<_> = made
        .iter()
        .filter(|name| !allowed.contains(**name))
        .collect();
    assert!(forbidden.is_empty(), "the unit forbids {forbidden:?}");
}

/// The tracer's child.
fn traced_process(tracer: u32) -> rustix::process::Pid {
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
    let id: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(id).unwrap()
}

/// The name in `1234  openat(AT_FDCWD, …) = 3`.
fn call(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(char::is_whitespace)?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some(name)
}

/// The calls that the unit's `SystemCallFilter` leaves, from systemd's own lists.
fn allowed_calls() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    let filters = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    for filter in filters {
        match filter.strip_prefix('~') {
            None => allowed.extend(filter.split(' ').flat_map(calls_of)),
            Some(filter) => {
                let not: BTreeSet<String> = filter.split(' ').flat_map(calls_of).collect();
                allowed.retain(|name| !not.contains(name));
            }
        }
    }
    // Always permitted, whatever a unit says.
    allowed.extend(calls_of("@default"));
    allowed
}

/// The calls of a group and of the groups in it.
fn calls_of(group: &str) -> Vec<String> {
    let (known, list) = analyze(&["syscall-filter", group]);
    assert!(known, "{list}");
    let names = list.lines().filter(|line| line.starts_with(' '));
    names
        .map(str::trim)
        .filter(|name| !name.starts_with('#'))
        .flat_map(|name| match name.starts_with('@') {
            true => calls_of(name),
            false => vec![name.to_owned()],
        })
        .collect()
}
