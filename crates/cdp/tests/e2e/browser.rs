//! A Chromium of the test's own.

use std::env;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::scene::DEADLINE;

/// Where it is, unless the test is skipped.
pub(crate) fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = env::var_os("PATH").unwrap_or_default();
    let found = names.iter().find_map(|name| {
        let mut programs = env::split_paths(&path).map(|folder| folder.join(name));
        programs.find(|program| program.is_file())
    });
    or_skip(found, "chromium", "TAPLINE_REQUIRE_BROWSER")
}

/// What was found; says that a test is skipped where nothing was, and fails where `variable`
/// demands that it is there.
pub(crate) fn or_skip<T>(found: Option<T>, name: &str, variable: &str) -> Option<T> {
    if found.is_none() {
        let required = env::var(variable).is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not here, and {variable}=1");
        let test = std::thread::current();
        let test = test.name().unwrap_or_default().to_owned();
        // Even of a test that passes, whose `eprintln!` is not shown.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {name} is not here");
    }
    found
}

/// A free port, for a browser that is started later.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// Ended with the test, by its id; its profile goes with it.
pub(crate) struct Browser {
    child: Child,
    directory: PathBuf,
}

impl Browser {
    /// It takes a second or so until its DevTools listen on `port`.
    pub(crate) fn start(chromium: &PathBuf, port: u16) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let n = STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("tapline-e2e-{}-{n}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let child = Command::new(chromium)
            .args(["--headless", "--disable-gpu", "--no-first-run"])
            // Root has no sandbox, and a container often little shared memory.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // Nothing but loopback.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
            .args(["--disable-background-networking", "--no-proxy-server"])
            .arg("--disable-popup-blocking")
            .arg(format!("--remote-debugging-port={port}"))
            .arg(format!(
                "--user-data-dir={}",
                directory.join("profile").display()
            ))
            .arg("about:blank")
            .env("HOME", directory.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// At once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Fails only where it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // It leaves processes behind that end a little later, and write until then.
        let started = Instant::now();
        while self.directory.exists() && started.elapsed() < DEADLINE {
            // Fails where they take away a file before us.
            if fs::remove_dir_all(&self.directory).is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
