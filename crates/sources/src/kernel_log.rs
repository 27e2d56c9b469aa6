//! Follows the kernel's log while a session runs: [`KernelLog`].

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde_json::value::to_raw_value;
use tapline_api::{BoxFuture, Prepared, Publisher, Running, Source, SourceError};
use tapline_oapi::{CategorySet, Event, KnownType};
use tokio::sync::oneshot;

use crate::oom::OomReports;

/// The longest record of `/dev/kmsg`, which fails to read into a smaller buffer
/// (`PRINTK_MESSAGE_MAX` in the kernel, 2 KiB, and 8 KiB before 6.x).
const BUFFER: usize = 8 * 1024;

/// The pause between two reads at the end of the log: how late an event can be.
const PAUSE: Duration = Duration::from_millis(250);

/// Publishes `system_oom_kill` for each process that the kernel killed because memory ran out. Its name is
/// `kernel-log`.
///
/// It reads `/dev/kmsg`, which needs `CAP_SYSLOG` where `kernel.dmesg_restrict` is set, or a file or FIFO
/// into which a program writes the kernel's log, such as `journalctl -kf` does. It reports what is written
/// while the session runs. A file is followed when it is truncated, but not when it is replaced by another
/// one with the same name.
///
/// The log is read by a thread of its own, one for each session. Stopping waits for that thread, so it is
/// over within a moment. Where the thread hangs in a read, such as on a network file system that does not
/// answer, the wait ends at the deadline; the thread ends with that read, and publishes nothing more.
#[derive(Debug)]
pub struct KernelLog {
    path: PathBuf,
}

impl KernelLog {
    /// Follows the log at `path`: `/dev/kmsg`, a file or a FIFO.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Source for KernelLog {
    fn name(&self) -> &str {
        "kernel-log"
    }

    /// Opens the log. That is the work of the thread already: opening a file can hang, too.
    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
        Box::pin(async {
            let (opened, is_open) = oneshot::channel();
            let (publisher, run) = mpsc::channel();
            let (ended, has_ended) = oneshot::channel();
            let path = self.path.clone();
            let spawned = thread::Builder::new()
                .name("kernel-log".into())
                .spawn(move || {
                    // Dropped where the thread ends, however it does.
                    let _ended: oneshot::Sender<()> = ended;
                    match open(&path) {
                        Ok(file) => {
                            let _ = opened.send(Ok(()));
                            follow(file, &run);
                        }
                        Err(error) => drop(opened.send(Err(error))),
                    }
                });
            let cannot_read = |error: io::Error| {
                SourceError::new(format!("cannot read {}: {error}", self.path.display()))
            };
            spawned.map_err(|error| {
                SourceError::new(format!("cannot start a thread to read the log: {error}"))
            })?;
            is_open
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the reading thread has panicked")))
                .map_err(cannot_read)?;
            Ok(Box::new(Follower {
                publisher,
                has_ended,
            }) as Box<dyn Prepared>)
        })
    }
}

/// The thread that follows the log. Dropping it ends the thread.
struct Follower {
    /// Takes one publisher, with which the thread begins to read. Closed, it ends the thread.
    publisher: Sender<Publisher>,
    has_ended: oneshot::Receiver<()>,
}

impl Prepared for Follower {
    fn run(self: Box<Self>, publisher: Publisher) -> Box<dyn Running> {
        // It fails only where the thread has panicked, which `stop` reports.
        let _ = self.publisher.send(publisher);
        self
    }
}

impl Running for Follower {
    /// Its events are of a category that is always captured.
    fn reconfigure(&mut self, _: CategorySet) {}

    fn stop(self: Box<Self>, _: Instant) -> BoxFuture<'static, ()> {
        let Self {
            publisher,
            has_ended,
        } = *self;
        drop(publisher);
        Box::pin(async move {
            // The thread sends nothing: it drops its end.
            let _ = has_ended.await;
        })
    }
}

/// Opens the log and skips what is in it.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        // Reading the kernel's log, or a FIFO, would wait for more, and could not be stopped.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    match file.seek(SeekFrom::End(0)) {
        // A FIFO has nothing to skip.
        Err(error) if error.kind() == ErrorKind::NotSeekable => {}
        sought => drop(sought?),
    }
    Ok(file)
}

/// Reads from the moment a publisher comes until the channel is closed.
fn follow(mut file: File, run: &Receiver<Publisher>) {
    let Ok(publisher) = run.recv() else {
        return;
    };
    let mut lines = Lines::default();
    let mut reports = OomReports::new(rustix::param::page_size() as u64 / 1024);
    let mut buffer = vec![0; BUFFER];
    // Looked at before each read: a log that is written faster than it is read has no end to wait at.
    while !matches!(run.try_recv(), Err(TryRecvError::Disconnected)) {
        match file.read(&mut buffer) {
            Ok(length @ 1..) => lines.read(&buffer[..length], |line| {
                if let Some(kill) = reports.line(line) {
                    let data = to_raw_value(&kill).expect("texts and numbers always serialize");
                    // It is refused where the session has just ended.
                    let _ = publisher.publish(Event::known(KnownType::SystemOomKill, Some(data)));
                }
            }),
            // The kernel overwrote the record before it was read: the next read gives the oldest one.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                tracing::warn!(%error, "the kernel's log cannot be read any more");
                return;
            }
            Ok(0) | Err(_) => {
                if !matches!(run.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
                rewind_if_truncated(&mut file);
            }
        }
    }
}

/// Begins at the start of a file that is shorter than what was read of it.
fn rewind_if_truncated(file: &mut File) {
    let is_truncated = file
        .metadata()
        .and_then(|metadata| Ok(metadata.is_file() && metadata.len() < file.stream_position()?));
    if is_truncated.unwrap_or(false) {
        // If this fails, the next read fails, too.
        let _ = file.seek(SeekFrom::Start(0));
    }
}

/// Makes lines of bytes that come in pieces of any size. Skips a line that is longer than any of the
/// kernel's.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn read(&mut self, bytes: &[u8], mut take: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // One byte more than a line may have shows that it is too long.
            let most = (BUFFER + 1).saturating_sub(self.partial.len());
            self.partial
                .extend_from_slice(&part[..part.len().min(most)]);
            if part.ends_with(b"\n") {
                if self.partial.len() <= BUFFER {
                    take(&String::from_utf8_lossy(&self.partial));
                }
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_a_line_that_is_too_long_is_skipped() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        let long = "x".repeat(3 * BUFFER);
        for piece in ["a", "b\nc\n\nd", "", &long, &long, "\n", "e\nf"] {
            lines.read(piece.as_bytes(), |line| all.push(line.to_owned()));
        }
        assert_eq!(all, ["ab\n", "c\n", "\n", "e\n"]);
    }
}
