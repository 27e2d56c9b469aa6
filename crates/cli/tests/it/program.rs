//! Running the program: with a clean environment, a deadline, and an end whatever happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The program with these arguments, and none of the caller's `TAPLINE_*` variables.
pub(crate) fn tapline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TAPLINE_") {
            command.env_remove(name);
        }
    }
    command
        .env("COLUMNS", "100")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE");
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a program that has ended said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs to the end.
pub(crate) fn run(args: &[&str]) -> Said {
    Running::start(tapline(args)).end()
}

/// Runs to the end, with this on standard input.
pub(crate) fn run_with_input(args: &[&str], input: &str) -> Said {
    let mut command = tapline(args);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut stdin = running.child.stdin.take().unwrap();
    let input = input.to_owned();
    // On a thread, because the program may want to be read from before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let said = running.end();
    writer.join().unwrap().unwrap();
    said
}

/// A program that runs; killed by its id when the test is over.
pub(crate) struct Running {
    child: Child,
    out: Option<Lines>,
    err: Option<Lines>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().map(Lines::of::<ChildStdout>);
        let err = child.stderr.take().map(Lines::of::<ChildStderr>);
        Self { child, out, err }
    }

    /// With standard output in the test's own hands, and input where the command has a pipe for it.
    pub(crate) fn start_with_pipes(
        mut command: Command,
    ) -> (Self, Option<ChildStdin>, ChildStdout) {
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let err = child.stderr.take().map(Lines::of::<ChildStderr>);
        let running = Self {
            child,
            out: None,
            err,
        };
        (running, stdin, stdout)
    }

    /// The next line on standard output.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.out.as_mut().expect("standard output is open").next()
    }

    /// The lines on standard error up to one that holds `text`, which is the answer.
    #[track_caller]
    pub(crate) fn err_line_with(&mut self, text: &str) -> String {
        let err = self.err.as_mut().expect("standard error is open");
        loop {
            let line = err.next();
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// How many descriptors it has open.
    pub(crate) fn files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        files.unwrap().count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Said {
        self.end_within(DEADLINE)
    }

    /// Waits for the end of something that may take longer.
    #[track_caller]
    pub(crate) fn end_within(mut self, deadline: Duration) -> Said {
        let code = self.wait(deadline).code();
        let rest = |lines: &mut Option<Lines>| lines.take().map(Lines::rest).unwrap_or_default();
        Said {
            code,
            out: rest(&mut self.out),
            err: rest(&mut self.err),
        }
    }

    #[track_caller]
    fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                started.elapsed() < deadline,
                "the program should have ended"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read on a thread so that the program never waits for us.
struct Lines {
    lines: mpsc::Receiver<String>,
}

impl Lines {
    fn of<R: Read + Send + 'static>(pipe: R) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = String::new();
            while pipe.read_line(&mut line).is_ok_and(|read| 0 < read) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Self { lines }
    }

    #[track_caller]
    fn next(&mut self) -> String {
        let line = self
            .lines
            .recv_timeout(DEADLINE)
            .expect("a line should have come");
        line.trim_end_matches('\n').to_owned()
    }

    fn rest(self) -> String {
        let mut rest = String::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            rest.push_str(&line);
        }
        rest
    }
}

/// A server, on a port of its own.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) url: String,
}

impl Server {
    /// With a session on.
    pub(crate) fn start() -> Self {
        Self::with(&["serve", "--listen", "127.0.0.1:0", "--start"])
    }

    #[track_caller]
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::of(tapline(args))
    }

    /// What this command runs.
    #[track_caller]
    pub(crate) fn of(command: Command) -> Self {
        let mut running = Running::start(command);
        let line = running.line();
        let url = line
            .strip_prefix("listening on ")
            .expect("the address comes first")
            .to_owned();
        Self { running, url }
    }

    /// With a session on, and an archive in this directory.
    #[track_caller]
    pub(crate) fn archiving(dir: &str) -> Self {
        Self::with(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--start",
            "--archive",
            dir,
        ])
    }

    /// Ends it regularly, by a SIGTERM.
    #[track_caller]
    pub(crate) fn stop(self) -> Said {
        self.running.signal(Signal::TERM);
        let said = self.running.end();
        assert_eq!(said.code, Some(0), "{said:?}");
        said
    }

    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// `tapline publish` to this server, with input.
    pub(crate) fn publish_lines(&self, lines: &str) -> Said {
        run_with_input(&["publish", "--url", &self.url, "--file", "-"], lines)
    }

    /// Publishes `count` events of type `step`, category `control`.
    pub(crate) fn publish_steps(&self, count: usize) {
        let line = "{\"type\":\"step\",\"category\":\"control\"}\n";
        let said = self.publish_lines(&line.repeat(count));
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// `tapline tail` of this server, still to be started.
    pub(crate) fn tail(&self, args: &[&str]) -> Command {
        let mut command = tapline(&["tail", "--url", &self.url]);
        command.args(args);
        command
    }
}

/// An address on which no process listens.
pub(crate) fn dead_url() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

/// A directory of the test's own, which is removed at its end.
pub(crate) struct Directory(std::path::PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let unique = format!("tapline-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A browser's processes end a little later than the browser, and write until then.
        let start = Instant::now();
        while std::fs::remove_dir_all(&self.0).is_err()
            && self.0.exists()
            && start.elapsed() < DEADLINE
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
