//! Events that happened once, happening again: the source of `tapline replay`, and of `tapline demo`
//! where there is no browser.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tapline_api::{Source, SourceError};
use tapline_oapi::{CategorySet, Event};
use tapline_telemetry::TelemetrySession;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How fast events happen again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// So many times as fast as they did, and now.
    Times(f64),
    /// As fast as can be, with the times at which they did.
    Max,
}

/// A source that plays while a session is on: from the beginning, with each session.
pub(crate) struct Player<F> {
    /// The events of one round.
    events: F,
    pace: Pace,
    /// The pause after which it begins again; none: it does not.
    again: Option<Duration>,
    runtime: Handle,
    /// The task that publishes, while a session is on.
    task: Mutex<Option<AbortHandle>>,
}

impl<F> Player<F> {
    pub(crate) fn new(events: F, pace: Pace, again: Option<Duration>, runtime: Handle) -> Self {
        Self {
            events,
            pace,
            again,
            runtime,
            task: Mutex::new(None),
        }
    }

    /// Puts another task in the place of the one that runs, which ends.
    fn replace(&self, task: Option<AbortHandle>) {
        let mut current = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *current, task) {
            before.abort();
        }
    }
}

impl<F, I> Source for Player<F>
where
    F: Fn() -> I + Clone + Send + Sync + 'static,
    I: Iterator<Item = Event> + Send,
{
    fn prepare(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn run(&self, session: &Arc<TelemetrySession>) {
        let (events, pace, again) = (self.events.clone(), self.pace, self.again);
        let session = session.clone();
        let task = self.runtime.spawn(async move {
            loop {
                // Whether it is captured is the session's business.
                play(events(), pace, |event| drop(session.publish(event))).await;
                let Some(pause) = again else { return };
                tokio::time::sleep(pause).await;
            }
        });
        self.replace(Some(task.abort_handle()));
    }

    // What is not captured, publishing filters.
    fn reconfigure(&self, _: CategorySet) {}

    fn stop(&self) {
        self.replace(None);
    }
}

/// Hands on each event when it is due: as far from the first as it was.
pub(crate) async fn play(
    events: impl Iterator<Item = Event>,
    pace: Pace,
    mut hand_on: impl FnMut(Event),
) {
    /// Events that are handed on before others have a turn.
    const AT_ONCE: usize = 256;
    let (start, start_ts) = (Instant::now(), now());
    let mut first_ts = None;
    for (n, event) in events.enumerate() {
        match pace {
            Pace::Times(speed) => {
                let first_ts = *first_ts.get_or_insert(event.ts);
                let after = Duration::from_micros(event.ts.saturating_sub(first_ts));
                let after = after.div_f64(speed);
                tokio::time::sleep_until(start + after).await;
                hand_on(event.with_ts(start_ts + micros(after)));
            }
            Pace::Max => {
                if n % AT_ONCE == AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                hand_on(event);
            }
        }
    }
}

/// Microseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    micros(since.unwrap_or_default())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
