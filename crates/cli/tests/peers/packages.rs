//! The unit of systemd, held against systemd itself and against what the program does; and the image for containers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::peer::{on_path, or_skip, skipped};
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
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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

/// The engine for containers, with all that it stores in a directory of the test.
struct Buildah<'a>(&'a Directory);

impl Buildah<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command
            .args(["--root", &self.0.path("root")])
            .args(["--runroot", &self.0.path("runroot")])
            .args(["--storage-driver", "vfs"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let said = Running::start(self.command(args)).end();
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
        said.out.trim().to_owned()
    }
}

/// What the first stage of the file would have made, without a network and without a second build: the program, here with the
/// libraries that a static one does without.
fn first_stage(directory: &Directory) -> String {
    let stage = directory.path("stage");
    let image = Path::new(&stage).join("image");
    let put = |from: &str, to: &str| {
        let to = image.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    let program = env!("CARGO_BIN_EXE_tapline");
    put(program, "/tapline");
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for library in libraries
        .split_whitespace()
        .filter(|it| it.starts_with('/'))
    {
        put(library, library);
    }
    fs::create_dir_all(image.join("data")).unwrap();
    stage
}

/// The process that runs `/tapline` below this one.
fn program_below(id: u32) -> Option<u32> {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    if name.trim() == "tapline" {
        return Some(id);
    }
    let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?;
    threads.flatten().find_map(|thread| {
        let children = fs::read_to_string(thread.path().join("children")).ok()?;
        let mut ids = children.split_whitespace().filter_map(|it| it.parse().ok());
        ids.find_map(program_below)
    })
}

/// The image is built of the file itself. The program runs in it as a user without rights, refuses to be reached from outside
/// without a token, serves, and ends with the signal that the image names.
#[test]
fn the_image_has_the_program_and_a_user_without_rights() {
    if or_skip(on_path("buildah"), "buildah", REQUIRED).is_none() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skipped("only root can run a container with nothing but a changed root directory");
        return;
    }
    let directory = Directory::new("image");
    let buildah = Buildah(&directory);
    let stage = first_stage(&directory);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/Containerfile");
    let context = format!("build={stage}");
    let build = ["bud", "--isolation", "chroot", "--build-context", &context];
    buildah.done(&[&build[..], &["-f", file, "-t", "tapline", &stage]].concat());
    let container = buildah.done(&["from", "localhost/tapline"]);
    let image = "{{.OCIv1.Config.User}} {{.OCIv1.Config.StopSignal}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}";
    assert_eq!(
        buildah.done(&["inspect", "--format", image, &container]),
        "65532:65532 SIGTERM [/tapline] [serve]"
    );

    let in_it = |env: &str| {
        let run = ["run", "--isolation", "chroot", "--env", env, &container];
        Running::start(buildah.command(&[&run[..], &["--", "/tapline", "serve"]].concat()))
    };
    let open = in_it("TAPLINE_START=false").end();
    assert_ne!(open.code, Some(0), "{open:?}");
    assert!(open.err.contains("0.0.0.0:10001"), "{open:?}");
    assert!(open.err.contains("token"), "{open:?}");

    let mut server = in_it("TAPLINE_LISTEN=127.0.0.1:0");
    let line = server.line();
    let url = line.strip_prefix("listening on ").unwrap();
    let started = run(&["start", "--url", url]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let id = program_below(server.id()).expect("the program runs");
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    assert!(
        status.contains("\nUid:\t65532\t65532\t65532\t65532\n"),
        "{status}"
    );
    let process = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
    rustix::process::kill_process(process, Signal::TERM).unwrap();
    let said = server.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    buildah.done(&["rm", &container]);
}
