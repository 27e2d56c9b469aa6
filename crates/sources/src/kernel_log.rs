//! Follows the kernel's log while a session runs: [`KernelLog`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use serde_json::value::to_raw_value;
use tapline_api::{Source, SourceError};
use tapline_oapi::{CategorySet, Event, KnownType};
use tapline_telemetry::TelemetrySession;

use crate::oom::OomReports;

/// The longest record of `/dev/kmsg`, which gives none to a buffer that is smaller
/// (`PRINTK_MESSAGE_MAX` in the kernel, 2 KiB, and 8 KiB before 6.x).
const BUFFER: usize = 8 * 1024;

/// How often to look for more. A process that was killed is not missed sooner.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells of processes that the kernel killed because memory ran out.
///
/// It reads `/dev/kmsg`, which takes the right to (`CAP_SYSLOG`, where `kernel.dmesg_restrict` is
/// set), or a file into which somebody writes what the kernel says, such as `journalctl -kf` does. Of either, what
/// comes while the session runs. A file is followed when it is emptied, and not when another one takes its name.
#[derive(Debug)]
pub struct KernelLog {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Opened, and what was in it passed over.
    Ready(File),
    /// Dropping the sender ends the thread.
    Running(Sender<()>, JoinHandle<()>),
}

impl KernelLog {
    /// Follows the log at `path`: `/dev/kmsg`, or a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            state: Mutex::new(State::Idle),
        }
    }

    fn open(&self) -> io::Result<File> {
        let mut file = OpenOptions::new()
            .read(true)
            // The kernel's log would wait for the next record, and could not be told to stop.
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is replaced whole, so it is right even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for KernelLog {
    fn prepare(&self) -> Result<(), SourceError> {
        let file = self.open().map_err(|error| {
            SourceError::new(format!("cannot read {}: {error}", self.path.display()))
        })?;
        *self.state() = State::Ready(file);
        Ok(())
    }

    fn run(&self, session: &Arc<TelemetrySession>) {
        let mut state = self.state();
        if let State::Ready(file) = std::mem::replace(&mut *state, State::Idle) {
            let (stop, stopped) = mpsc::channel();
            let session = session.clone();
            let follow = move || follow(file, &session, &stopped);
            match thread::Builder::new()
                .name("kernel-log".into())
                .spawn(follow)
            {
                Ok(thread) => *state = State::Running(stop, thread),
                Err(error) => tracing::warn!(%error, "no thread to follow the kernel's log"),
            }
        }
    }

    /// What this tells is always captured.
    fn reconfigure(&self, _: CategorySet) {}

    fn stop(&self) {
        let state = std::mem::replace(&mut *self.state(), State::Idle);
        if let State::Running(stop, thread) = state {
            drop(stop);
            // It waits for nothing but this.
            if thread.join().is_err() {
                tracing::error!("the thread that follows the kernel's log has panicked");
            }
        }
    }
}

fn follow(mut file: File, session: &TelemetrySession, stopped: &Receiver<()>) {
    let mut lines = Lines::default();
    let mut reports = OomReports::new(rustix::param::page_size() as u64 / 1024);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(length @ 1..) => lines.read(&buffer[..length], |line| {
                if let Some(kill) = reports.line(line) {
                    let data = to_raw_value(&kill).expect("texts and numbers always serialize");
                    // A session that has just ended wants no more.
                    let _ = session.publish(Event::known(KnownType::SystemOomKill, Some(data)));
                }
            }),
            // Overwritten before it was read: the next one is the oldest there is.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                tracing::warn!(%error, "the kernel's log cannot be read any more");
                return;
            }
            Ok(0) | Err(_) => {
                if stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                begin_again_where_emptied(&mut file);
            }
        }
    }
}

/// A file that is shorter than what was read of it was emptied.
fn begin_again_where_emptied(file: &mut File) {
    let emptied = file
        .metadata()
        .and_then(|metadata| Ok(metadata.is_file() && metadata.len() < file.stream_position()?));
    if emptied.unwrap_or(false) {
        // Where this fails, so does the next read.
        let _ = file.seek(SeekFrom::Start(0));
    }
}

/// Lines out of bytes, in whatever pieces these come. A line that is longer than any of the kernel's
/// is passed over.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn read(&mut self, bytes: &[u8], mut take: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // One byte more than a line may have shows that it is too long.
            let room = (BUFFER + 1).saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                if self.begun.len() <= BUFFER {
                    take(&String::from_utf8_lossy(&self.begun));
                }
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_or_not_at_all() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        let long = "x".repeat(3 * BUFFER);
        for piece in ["a", "b\nc\n\nd", "", &long, &long, "\n", "e\nf"] {
            lines.read(piece.as_bytes(), |line| all.push(line.to_owned()));
        }
        assert_eq!(all, ["ab\n", "c\n", "\n", "e\n"]);
    }
}
