//! `tapline demo`: a server with a recorded browser session that happens again and again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tapline_api::{Source, SourceError};
use tapline_oapi::{CategorySet, Event, PublishRequest, from_json};
use tapline_telemetry::TelemetrySession;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::args::Demo;
use crate::failure::Failure;
use crate::serve;

/// One publish request a line, in the order of their `ts`. Recorded with Chromium: a small shop with
/// errors, a redirect, a worker, a popup and a crash, then a large web application.
const RECORDING: &str = include_str!("../data/browser-events.ndjson");

/// From the last event to the first one of the next round.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Demo) -> Result<(), Failure> {
    let replay = Replay::new(args.speed, Handle::current());
    serve::serve(args.server, replay, true, |url| {
        format!(
            "replaying {events} events of a browser, again every {seconds:.0} s; try:\n  \
             tapline tail --url {url}\n  \
             curl -N {url}/telemetry/stream\n  \
             curl -N '{url}/telemetry/stream?replay=all&category=console&notices=true'\n  \
             curl '{url}/telemetry/events?type=page_*&limit=3'\n",
            events = RECORDING.lines().count(),
            seconds = (recording_length() + PAUSE).as_secs_f64() / args.speed,
        )
    })
    .await
}

/// The recording as a source of events: while a session is on, its events happen at their own pace.
struct Replay {
    speed: f64,
    runtime: Handle,
    /// The task that publishes, while a session is on.
    task: Mutex<Option<AbortHandle>>,
}

impl Replay {
    fn new(speed: f64, runtime: Handle) -> Self {
        Self {
            speed,
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

impl Source for Replay {
    fn prepare(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn run(&self, session: &Arc<TelemetrySession>) {
        let task = self.runtime.spawn(replay(session.clone(), self.speed));
        self.replace(Some(task.abort_handle()));
    }

    // What is not captured, publishing filters.
    fn reconfigure(&self, _: CategorySet) {}

    fn stop(&self) {
        self.replace(None);
    }
}

/// Publishes the recording over and over, each event as far from the first as it was, and now.
async fn replay(session: Arc<TelemetrySession>, speed: f64) {
    let events = recording();
    loop {
        let (start, start_ts) = (Instant::now(), now());
        for (after, event) in &events {
            let after = after.div_f64(speed);
            tokio::time::sleep_until(start + after).await;
            let ts = start_ts + micros(after);
            // Whether it is captured is the session's business.
            let _ = session.publish(event.clone().with_ts(ts));
        }
        tokio::time::sleep(PAUSE.div_f64(speed)).await;
    }
}

/// The events, each with its distance from the first.
fn recording() -> Vec<(Duration, Event)> {
    let mut first_ts = None;
    let event = |line: &str| {
        let request: PublishRequest = from_json(line.as_bytes()).ok()?;
        let event = Event::try_from(request).ok()?;
        let first_ts = *first_ts.get_or_insert(event.ts);
        Some((
            Duration::from_micros(event.ts.saturating_sub(first_ts)),
            event,
        ))
    };
    // A test reads every line, so none is left out.
    RECORDING.lines().filter_map(event).collect()
}

fn recording_length() -> Duration {
    recording()
        .last()
        .map_or(Duration::ZERO, |(after, _)| *after)
}

/// Microseconds since the Unix epoch.
fn now() -> u64 {
    micros(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tapline_events::{EventStream, Retention};
    use tapline_telemetry::TelemetryConfig;

    use super::*;

    #[test]
    fn every_line_of_the_recording_is_an_event_in_order() {
        let events = recording();
        assert_eq!(events.len(), RECORDING.lines().count());
        assert!(events.is_sorted_by_key(|(after, _)| *after));
        assert_eq!(recording_length().as_secs(), 42);
    }

    #[tokio::test(start_paused = true)]
    async fn replays_while_a_session_is_on() {
        let session = TelemetrySession::new(EventStream::new(Retention::default()).unwrap());
        session.start("s-1", TelemetryConfig::default()).unwrap();
        let session = Arc::new(session);
        let replay = Replay::new(2.0, Handle::current());
        let events = recording().len() as u64;

        replay.prepare().unwrap();
        replay.run(&session);
        tokio::time::sleep(Duration::from_millis(21_400)).await;
        assert_eq!(
            session.seq(),
            events,
            "one round takes 21.2 s at twice the pace"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(events < session.seq(), "the next one follows");

        replay.stop();
        tokio::task::yield_now().await;
        let after_stop = session.seq();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(session.seq(), after_stop);
    }
}
