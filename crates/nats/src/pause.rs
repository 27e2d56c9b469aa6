//! Waiting before the next attempt.

use std::time::Duration;

use tapline_api::{Backoff, StopSignal};
use tokio::time::{sleep, timeout};

/// The longest pause while the sink is being stopped: until the deadline, there should be attempts.
const PAUSE_WHEN_STOPPING: Duration = Duration::from_millis(200);

/// Waits, but not long once the sink is being stopped.
pub(crate) async fn pause(backoff: &mut Backoff, stop: &StopSignal) {
    let pause = backoff.next();
    if timeout(pause, stop.stopped()).await.is_ok() {
        sleep(pause.min(PAUSE_WHEN_STOPPING)).await;
    }
}
