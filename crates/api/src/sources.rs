//! The sources of a service, and where each of them is in its life cycle.
//!
//! Everything that takes time is kept here and polled in place, so that a caller that gives up loses
//! nothing: a stop under way is finished by the next caller.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tapline_oapi::CategorySet;

use crate::deadline::before;
use crate::error::ApiError;
use crate::publisher::Publisher;
use crate::source::{BoxFuture, Prepared, Running, Source, SourceError};

/// How long a source may take to be prepared.
const PREPARE_WITHIN: Duration = Duration::from_secs(5);
const NOT_READY: &str = "it was not ready within 5 s";

/// The sources of a service that run, and those that are stopping.
#[derive(Default)]
pub(crate) struct Sources {
    running: Vec<(String, Box<dyn Running>)>,
    stopping: Vec<Stopping>,
}

/// All sources, prepared. Dropping it undoes that.
pub(crate) struct AllPrepared(Vec<(String, Box<dyn Prepared>)>);

/// A source that was asked to stop and holds something still.
struct Stopping {
    name: String,
    /// Taken out while it is polled, so that one that panics is not polled again.
    stopped: Option<BoxFuture<'static, ()>>,
    deadline: Instant,
}

impl Sources {
    /// Prepares all of these sources, or none: where one fails, those before it are dropped.
    ///
    /// What is stopping has to be [finished](Self::finish_stopping) before: a source does not run twice.
    pub(crate) async fn prepare(
        &mut self,
        all: &[Box<dyn Source>],
    ) -> Result<AllPrepared, ApiError> {
        debug_assert!(self.running.is_empty() && self.stopping.is_empty());
        let mut prepared = Vec::with_capacity(all.len());
        for source in all {
            let name = source.name().to_owned();
            let ready = before(Instant::now() + PREPARE_WITHIN, source.prepare()).await;
            match ready.unwrap_or_else(|| Err(SourceError::new(NOT_READY))) {
                Ok(ready) => prepared.push((name, ready)),
                Err(reason) => return Err(ApiError::Source { name, reason }),
            }
        }
        Ok(AllPrepared(prepared))
    }

    /// Runs what was prepared.
    pub(crate) fn run(&mut self, prepared: AllPrepared, publisher: &Publisher) {
        for (name, source) in prepared.0 {
            self.running.push((name, source.run(publisher.clone())));
        }
    }

    pub(crate) fn reconfigure(&mut self, captured: CategorySet) {
        for (_, source) in &mut self.running {
            source.reconfigure(captured);
        }
    }

    /// Asks all running sources to stop. See [`finish_stopping`](Self::finish_stopping).
    pub(crate) fn begin_stop(&mut self, deadline: Instant) {
        while let Some((name, source)) = self.running.pop() {
            self.stopping.push(Stopping {
                name,
                stopped: Some(source.stop(deadline)),
                deadline,
            });
        }
    }

    /// Waits until no source is stopping any more. A source that has not stopped at its deadline, or at
    /// `latest` if that is sooner, is abandoned, with a line in the log.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the sources stay as they are, and the next call waits for them.
    pub(crate) async fn finish_stopping(&mut self, latest: Option<Instant>) {
        let limit = |stopping: &Stopping| match latest {
            Some(latest) => latest.min(stopping.deadline),
            None => stopping.deadline,
        };
        while let Some(next) = self.stopping.iter().map(limit).min() {
            let all_stopped = poll_fn(|cx| match self.poll_stopped(cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            if before(next, all_stopped).await.is_some() {
                return;
            }
            let now = Instant::now();
            self.stopping.retain(|stopping| {
                let is_late = limit(stopping) <= now;
                if is_late {
                    let name = &stopping.name;
                    tracing::warn!(
                        source = name,
                        "the source did not stop in time and is abandoned"
                    );
                }
                !is_late
            });
        }
    }

    /// Whether all sources have stopped.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> bool {
        self.stopping.retain_mut(|stopping| {
            let Some(mut stopped) = stopping.stopped.take() else {
                return false;
            };
            let is_pending = stopped.as_mut().poll(cx).is_pending();
            stopping.stopped = is_pending.then_some(stopped);
            is_pending
        });
        self.stopping.is_empty()
    }
}
