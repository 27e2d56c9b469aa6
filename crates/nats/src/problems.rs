//! How many problems an instance has: [`ProblemCounter`].
//!
//! A reader of the stream joins its events as the instance's own list of problems does, and keeps little more than what events
//! to come may be about. It takes a tenth of a processor core at most: after each batch it pauses nine times as long as the
//! batch took. What is evicted meanwhile is counted as not read, so that a count that may be too low says so.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tapline_api::{
    ApiService, Delivery, Filter, Replay, SessionSubscription, StreamQuery, Subscription as _,
};
use tapline_insight::{Finding, Input, Insight, Lost, Options, Problem, ProblemKind, one_line};
use tapline_oapi::{Category, CategorySet, Envelope, InstanceProblems, NewestProblem, OnLag};
use tokio::time::sleep;

/// How long a batch takes, but for the last event in it.
const SLICE: Duration = Duration::from_micros(500);

/// Of ten parts of the time, the reader takes one.
const PAUSES: u32 = 9;

/// The pause once everything was read. The events of this time are read in one batch: a reader that reads each event as it
/// comes costs a wake-up for each.
const COLLECT: Duration = Duration::from_millis(100);

/// How many events a read looks at, those that are left out included.
const MAX_EVENTS: usize = 256;

/// The most characters of a text that is reported.
const MAX_TEXT: usize = 200;

/// What is kept: some megabytes. Problems are changed by later events only while they are among the last 256.
const KEPT: Options = Options {
    requests: 2_000,
    request_bytes: 8 * 1024 * 1024,
    messages: 0,
    navigations: 100,
    problems: 256,
    contents: false,
};

/// Counts the problems of one instance, from the oldest event in its memory on.
pub(crate) struct ProblemCounter(Mutex<Counted>);

struct Counted {
    insight: Insight,
    /// Of those that are not kept any more: how many there were, and the newest.
    left: u64,
    newest_left: Option<NewestProblem>,
    not_read: u64,
}

impl ProblemCounter {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Counted {
            insight: Insight::new(KEPT),
            left: 0,
            newest_left: None,
            not_read: 0,
        }))
    }

    /// What was found so far.
    pub(crate) fn report(&self) -> InstanceProblems {
        let counted = self.lock();
        let kept = || counted.insight.problems().filter(|it| is_counted(it));
        InstanceProblems {
            count: counted.left + kept().count() as u64,
            not_read: counted.not_read,
            newest: match kept().next_back() {
                Some(problem) => Some(describe(problem)),
                None => counted.newest_left.clone(),
            },
        }
    }

    /// Reads for as long as it is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing more is counted. It must not be run again.
    pub(crate) async fn run(&self, api: &ApiService) {
        let query = StreamQuery {
            replay: Some(Replay::All),
            // Pictures are large, and none is a problem.
            filter: Filter::categories(CategorySet::ALL.without(Category::Screenshot)),
            // From memory alone: an archive would be read without end by a reader that is slower than producers.
            overtaken: Some(OnLag::Oldest),
            ..StreamQuery::default()
        };
        let mut subscription = api.subscribe(&query).await.subscription;
        loop {
            let began = Instant::now();
            let is_caught_up = self.read(&mut subscription, began);
            let pause = began.elapsed() * PAUSES;
            match is_caught_up {
                false => sleep(pause).await,
                true => {
                    sleep(pause.max(COLLECT)).await;
                    std::future::poll_fn(|cx| subscription.poll_news(cx)).await;
                }
            }
        }
    }

    /// Reads what there is, for a slice of time. Returns whether that was everything.
    fn read(&self, subscription: &mut SessionSubscription, began: Instant) -> bool {
        let is_over = || SLICE <= began.elapsed();
        let mut counted = self.lock();
        while !is_over() {
            let read = subscription.read(MAX_EVENTS, |delivery| {
                counted.take(delivery);
                match is_over() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if read == 0 {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn take(&mut self, delivery: Delivery<'_>) {
        match delivery {
            Delivery::Envelope { json, .. } => {
                match serde_json::from_str::<Envelope>(&json.whole()) {
                    Ok(envelope) => self.feed(Input::Event(&envelope)),
                    Err(error) => tracing::debug!(%error, "an event is not searched for problems"),
                }
            }
            Delivery::Lost(lost) => {
                self.not_read += lost.at_most();
                self.feed(Input::Lost(Lost {
                    count: Some(lost.at_most()),
                    ..Lost::unknown(lost.first, lost.last)
                }));
            }
            // A run has one epoch, and notices were not asked for.
            Delivery::Session(_) | Delivery::Epoch(_) => {}
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        let (left, newest) = (&mut self.left, &mut self.newest_left);
        self.insight.feed(input, &mut |finding| {
            if let Finding::Problem(problem) = finding
                && is_counted(&problem)
            {
                *left += 1;
                *newest = Some(describe(&problem));
            }
        });
    }
}

/// Not one that was taken back, and not what this reader has lost.
fn is_counted(problem: &Problem) -> bool {
    problem.withdrawn.is_none() && problem.kind != ProblemKind::EventsLost
}

fn describe(problem: &Problem) -> NewestProblem {
    NewestProblem {
        ts: problem.ts,
        kind: problem.kind.as_str().to_owned(),
        text: one_line(&problem.text, MAX_TEXT),
    }
}
