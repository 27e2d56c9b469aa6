//! A Chromium of our own, for `tapline demo`: without a window, with a profile that goes with it.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Its names on the search path.
pub(crate) const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// How long it may take to start on a small machine.
const START_WITHIN: Duration = Duration::from_secs(20);

/// How long its processes may take to end, all of which write to its profile.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The first one on the search path.
pub(crate) fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    NAMES.iter().find_map(|name| {
        let mut programs = env::split_paths(&path).map(|folder| folder.join(name));
        programs.find(|program| program.is_file())
    })
}

/// Ended when it is dropped, by its id.
pub(crate) struct Chromium {
    child: Child,
    profile: PathBuf,
    port: u16,
}

impl Chromium {
    /// Starts it with a page, and waits for its DevTools.
    pub(crate) async fn start(program: &Path, page: &str) -> io::Result<Self> {
        let profile = env::temp_dir().join(format!("tapline-demo-{}", std::process::id()));
        fs::create_dir(&profile)?;
        let mut command = Command::new(program);
        command
            .args(["--headless", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-dev-shm-usage"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.display()))
            // It visits nothing but our own page; and as root it does not start with a sandbox.
            .args(
                rustix::process::geteuid()
                    .is_root()
                    .then_some("--no-sandbox"),
            )
            .arg(page)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = fs::remove_dir(&profile);
                return Err(error);
            }
        };
        let mut chromium = Self {
            child,
            profile,
            port: 0,
        };
        chromium.port = chromium.port_of_devtools().await?;
        Ok(chromium)
    }

    /// Where its DevTools listen.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Chromium writes the port that it took into its profile.
    async fn port_of_devtools(&mut self) -> io::Result<u16> {
        let file = self.profile.join("DevToolsActivePort");
        let started = Instant::now();
        loop {
            let content = fs::read_to_string(&file).unwrap_or_default();
            // The port, and below it the path. Without both the file is not complete yet.
            if let Some((port, path)) = content.split_once('\n')
                && !path.is_empty()
                && let Ok(port) = port.parse()
            {
                return Ok(port);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended at once: {status}")));
            }
            if START_WITHIN <= started.elapsed() {
                return Err(ErrorKind::TimedOut.into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Both fail only where it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its processes end a little later, and write until then.
        let killed = Instant::now();
        while self.profile.exists() && killed.elapsed() < END_WITHIN {
            // Fails where they take away a file before us.
            if fs::remove_dir_all(&self.profile).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
