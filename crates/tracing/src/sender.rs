//! The thread that sends: [`Sender`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tapline_client::{Client, Error};
use tapline_oapi::{BatchResult, Category, CategorySet, Event, encode_event};
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};

use crate::counts::Counters;
use crate::http::HttpOptions;
use crate::output::Gate;
use crate::queue::{Queue, now};
use crate::record::{Losses, Style};

/// The first pause after a request that has to be repeated, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// While nothing is captured: how often the server is asked whether something is.
const POLL: Duration = Duration::from_secs(1);

/// Takes events from the queue and posts them, until the program ends.
pub(crate) struct Sender {
    client: Client,
    queue: Arc<Queue>,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    style: Arc<Style>,
    stop: Stop,
    options: HttpOptions,
    /// The losses that were published.
    reported: Losses,
}

/// What became of a request.
enum Sent {
    Answered(BatchResult),
    /// Nothing of it was published; it can be sent again.
    Refused(Error),
    /// The server accepts no request of this size.
    TooLarge,
    /// It may have been published, or not.
    Unknown(Option<Error>),
}

impl Sender {
    pub(crate) fn new(
        client: Client,
        queue: Arc<Queue>,
        gate: Arc<Gate>,
        counters: Arc<Counters>,
        style: Arc<Style>,
        stop: watch::Receiver<Option<Instant>>,
        options: HttpOptions,
    ) -> Self {
        Self {
            client,
            queue,
            gate,
            counters,
            style,
            stop: Stop(stop),
            options,
            reported: Losses::default(),
        }
    }

    /// Ends when it is asked to stop and has sent everything, or at the deadline.
    pub(crate) async fn run(mut self) {
        loop {
            self.wait_for_events().await;
            match self.take_batch() {
                Some(batch) => self.deliver(batch).await,
                // Woken without an event.
                None if self.stop.deadline().is_none() => {}
                None => break,
            }
            self.report_losses().await;
        }
        self.queue.lose_all();
    }

    /// Until a batch has had the time to fill, or until the program ends.
    async fn wait_for_events(&mut self) {
        loop {
            let is_open = self.gate.is_open();
            tokio::select! {
                () = self.queue.not_empty() => break,
                _ = self.stop.wait() => return,
                () = sleep(POLL), if !is_open => self.look_whether_captured().await,
            }
        }
        if self.queue.len() < self.options.batch_events {
            tokio::select! {
                () = sleep(self.options.linger) => {}
                _ = self.stop.wait() => {}
            }
        }
    }

    fn take_batch(&self) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        let mut bytes = 0;
        let most = self.options.batch_events.max(1);
        // The first one is sent in any case.
        while events.len() < most && (bytes < self.options.batch_bytes || events.is_empty()) {
            let Some((event, size)) = self.queue.pop() else {
                break;
            };
            bytes += size;
            events.push(event);
        }
        (!events.is_empty()).then_some(events)
    }

    /// Sends a batch until it is settled: each of its events is counted once.
    async fn deliver(&mut self, batch: Vec<Event>) {
        let counters = self.counters.clone();
        let mut unsent = vec![batch];
        let mut pause = PAUSES.0;
        while let Some(mut batch) = unsent.pop() {
            let events = batch.len() as u64;
            match self.send(&batch).await {
                Sent::Answered(result) => {
                    pause = PAUSES.0;
                    counters.published.fetch_add(result.published, Relaxed);
                    counters.filtered.fetch_add(result.filtered, Relaxed);
                    counters.refused.fetch_add(result.refused, Relaxed);
                    let settled = result.published + result.filtered + result.refused;
                    // Not the answer of a server that behaves.
                    let missing = events.saturating_sub(settled);
                    counters.unconfirmed.fetch_add(missing, Relaxed);
                    let reason = result.errors.first().map(|error| error.message.clone());
                    counters.set_last_error(reason);
                    if result.published == 0 && 0 < result.filtered {
                        self.look_whether_captured().await;
                    }
                }
                Sent::TooLarge if batch.len() == 1 => {
                    counters.refused.fetch_add(1, Relaxed);
                }
                Sent::TooLarge => {
                    let second = batch.split_off(batch.len() / 2);
                    unsent.push(second);
                    unsent.push(batch);
                }
                Sent::Unknown(error) => {
                    counters.unconfirmed.fetch_add(events, Relaxed);
                    if let Some(error) = error {
                        counters.set_last_error(Some(with_causes(&error)));
                    }
                }
                Sent::Refused(error) => {
                    counters.set_last_error(Some(with_causes(&error)));
                    if self.stop.pause(pause).await {
                        pause = (pause * 2).min(PAUSES.1);
                        unsent.push(batch);
                    } else {
                        counters.lost.fetch_add(events, Relaxed);
                    }
                }
            }
        }
    }

    async fn send(&mut self, batch: &[Event]) -> Sent {
        if self.stop.is_over() {
            return Sent::Refused(Error::TimedOut {
                url: self.client.url().to_owned(),
                after: Duration::ZERO,
            });
        }
        let mut lines = Vec::new();
        for event in batch {
            encode_event(&mut lines, event.ts, event, None);
            lines.push(b'\n');
        }
        let client = self.client.clone();
        match self.stop.within(client.publish_ndjson(lines)).await {
            Some(Ok(result)) => Sent::Answered(result),
            Some(Err(error)) => became_of(error),
            None => Sent::Unknown(None),
        }
    }

    /// Publishes what was lost since the last report. If that fails, the next report has it.
    async fn report_losses(&mut self) {
        let counts = self.counters.read();
        let losses = Losses {
            lost: counts.lost,
            unconfirmed: counts.unconfirmed,
        };
        if losses == self.reported || self.stop.is_over() {
            return;
        }
        let Some(event) = self.style.lost(losses, self.reported) else {
            return;
        };
        let mut line = Vec::new();
        encode_event(&mut line, now(), &event, None);
        let client = self.client.clone();
        if let Some(Ok(result)) = self.stop.within(client.publish_ndjson(line)).await
            && result.published == 1
        {
            self.reported = losses;
        }
    }

    /// Asks the server whether a session captures the category. Without an answer nothing changes.
    async fn look_whether_captured(&mut self) {
        let client = self.client.clone();
        if let Some(Ok(state)) = self.stop.within(client.state()).await {
            let captured = state.map_or(CategorySet::EMPTY, |state| {
                state.config.browser.enabled().union(CategorySet::ALWAYS)
            });
            self.gate.set(captured.contains(self.category()));
        }
    }

    fn category(&self) -> Category {
        self.style.category
    }
}

/// What an error says about the request.
fn became_of(error: Error) -> Sent {
    match &error {
        Error::Refused { status: 413, .. } => Sent::TooLarge,
        // A time-out while the body was read, or a failure of the server: some of it may have been published.
        Error::Refused { status: 408, .. } => Sent::Unknown(Some(error)),
        Error::Refused { status, .. } if 500 <= *status && *status != 503 => {
            Sent::Unknown(Some(error))
        }
        Error::Refused { .. } | Error::Unreachable { .. } => Sent::Refused(error),
        _ => Sent::Unknown(Some(error)),
    }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// When everything has to be over: known once the program ends.
struct Stop(watch::Receiver<Option<Instant>>);

impl Stop {
    fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    fn is_over(&self) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Ends once there is a deadline.
    async fn wait(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            // The guard is gone without a word, which it never is.
            Err(_) => Instant::now(),
        }
    }

    /// What the future returns; `None` if the deadline comes first.
    async fn within<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        let deadline = tokio::select! {
            biased;
            answer = &mut future => return Some(answer),
            deadline = self.wait() => deadline,
        };
        timeout_at(deadline.into(), future).await.ok()
    }

    /// Waits before the next try. False if there is no time for one.
    async fn pause(&mut self, pause: Duration) -> bool {
        if self.deadline().is_none() {
            tokio::select! {
                () = sleep(pause) => return true,
                _ = self.wait() => {}
            }
        }
        // The last tries follow quickly.
        let next = Instant::now() + PAUSES.0;
        let has_time = self.deadline().is_some_and(|deadline| next < deadline);
        if has_time {
            sleep(PAUSES.0).await;
        }
        has_time
    }
}
