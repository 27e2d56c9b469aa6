//! How long to wait before the next attempt.

use std::time::Duration;

use tapline_api::StopSignal;
use tokio::time::{sleep, timeout};

/// The longest pause while the sink is being stopped: until the deadline, there should be attempts.
const PAUSE_WHEN_STOPPING: Duration = Duration::from_millis(200);

/// Exponential back-off with full jitter: a random part of a bound that doubles.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    bound: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            bound: first,
        }
    }

    /// Waits, but not long once the sink is being stopped.
    pub(crate) async fn wait(&mut self, stop: &StopSignal) {
        // Without randomness there is no jitter, which is not worth an error.
        let part = getrandom::u32().map_or(1.0, |it| f64::from(it) / f64::from(u32::MAX));
        let pause = self.bound.mul_f64(part);
        self.bound = self.last.min(2 * self.bound);
        if timeout(pause, stop.stopped()).await.is_ok() {
            sleep(pause.min(PAUSE_WHEN_STOPPING)).await;
        }
    }

    pub(crate) fn reset(&mut self) {
        self.bound = self.first;
    }
}
