//! Publishes recorded events again: the source of `tapline replay`, and of `tapline demo` without a browser.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tapline_api::{BoxFuture, Prepared, Publisher, Running, Source, SourceError};
use tapline_oapi::{CategorySet, Event};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How fast recorded events are published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// So many times as fast as they happened, with the current time.
    Times(f64),
    /// As fast as possible, with the times at which they happened.
    Max,
}

/// A source that plays a recording while a session is on: from the beginning, with each session.
#[derive(Clone)]
pub(crate) struct Player<F> {
    /// Gives the events of one round.
    events: F,
    pace: Pace,
    /// The pause after which the next round begins; `None`: there is one round.
    again: Option<Duration>,
    runtime: Handle,
}

impl<F> Player<F> {
    pub(crate) fn new(events: F, pace: Pace, again: Option<Duration>, runtime: Handle) -> Self {
        Self {
            events,
            pace,
            again,
            runtime,
        }
    }
}

impl<F, I> Source for Player<F>
where
    F: Fn() -> I + Clone + Send + Sync + 'static,
    I: Iterator<Item = Event> + Send,
{
    fn name(&self) -> &str {
        "recording"
    }

    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Prepared>) })
    }
}

impl<F, I> Prepared for Player<F>
where
    F: Fn() -> I + Clone + Send + Sync + 'static,
    I: Iterator<Item = Event> + Send,
{
    fn run(self: Box<Self>, publisher: Publisher) -> Box<dyn Running> {
        let Self {
            events,
            pace,
            again,
            runtime,
        } = *self;
        let task = runtime.spawn(async move {
            loop {
                play(events(), pace, |due| {
                    let mut batch = publisher.batch();
                    for event in due {
                        // One that is not captured is counted by the session.
                        let _ = batch.publish(event);
                    }
                })
                .await;
                let Some(pause) = again else { return };
                tokio::time::sleep(pause).await;
            }
        });
        Box::new(Playing(task))
    }
}

/// The task that publishes. It ends when this is dropped.
struct Playing(JoinHandle<()>);

impl Running for Playing {
    fn reconfigure(&mut self, _: CategorySet) {}

    fn stop(mut self: Box<Self>, _: std::time::Instant) -> BoxFuture<'static, ()> {
        self.0.abort();
        Box::pin(async move {
            // An error says that it was aborted.
            let _ = (&mut self.0).await;
        })
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls `publish` with each event when it is due: as long after the first one as it happened. At the greatest pace, with
/// some hundred events at once.
pub(crate) async fn play(
    mut events: impl Iterator<Item = Event>,
    pace: Pace,
    mut publish: impl FnMut(Vec<Event>),
) {
    /// The number of events after which other tasks of the runtime get a chance to run.
    const AT_ONCE: usize = 256;
    let (start, start_ts) = (Instant::now(), now());
    match pace {
        Pace::Times(speed) => {
            let mut first_ts = None;
            for event in events {
                let first_ts = *first_ts.get_or_insert(event.ts);
                let after = Duration::from_micros(event.ts.saturating_sub(first_ts));
                let after = after.div_f64(speed);
                tokio::time::sleep_until(start + after).await;
                publish(vec![event.with_ts(start_ts + micros(after))]);
            }
        }
        Pace::Max => loop {
            // Read first: a file may make it wait.
            let due: Vec<_> = events.by_ref().take(AT_ONCE).collect();
            if due.is_empty() {
                return;
            }
            publish(due);
            tokio::task::yield_now().await;
        },
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
