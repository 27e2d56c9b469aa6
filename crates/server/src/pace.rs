//! How long a task works before others run: [`Pace`].
//!
//! A worker thread runs one task at a time. A task that reads much and waits for nothing holds its thread, and
//! everything else on that thread waits for it. So such a task yields after a slice of time, however little it
//! has found meanwhile.

use std::time::{Duration, Instant};

/// How long a task works before it lets others run.
const SLICE: Duration = Duration::from_micros(500);

/// The time that a task has worked since it last let others run.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Lets other tasks run if this one has worked for its slice.
    pub(crate) async fn rest(&mut self) {
        if SLICE <= self.since.elapsed() {
            tokio::task::yield_now().await;
            self.since = Instant::now();
        }
    }
}
