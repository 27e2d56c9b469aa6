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
                counted.take(&delivery);
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
    fn take(&mut self, delivery: &Delivery<'_>) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;
    use tapline_events::{EventStream, Retention};
    use tapline_oapi::{ConfigRequest, Event, KnownType};
    use tapline_telemetry::TelemetrySession;

    use super::*;

    /// A service that retains so many events, with a session.
    async fn service(events: usize) -> ApiService {
        let retention = Retention {
            events,
            ..Retention::default()
        };
        let session = TelemetrySession::new(EventStream::new(retention).unwrap());
        let api = ApiService::new(session);
        api.put(&ConfigRequest::default()).await.unwrap();
        api
    }

    fn publish(api: &ApiService, known: KnownType, data: &serde_json::Value) {
        let event = Event::known(known, Some(to_raw_value(data).unwrap()));
        api.publisher().publish(event).unwrap();
    }

    /// A request that is answered with this status.
    fn answered(api: &ApiService, id: usize, status: u16) {
        let request = json!({"request_id": format!("{id}"), "url": format!("http://shop/{id}"), "method": "GET",
            "document_url": "http://shop/", "headers": {}, "initiator_type": "parser"});
        publish(api, KnownType::NetworkRequest, &request);
        let answer = json!({"request_id": format!("{id}"), "url": format!("http://shop/{id}"), "method": "GET",
            "status": status, "headers": {}, "duration_ms": 12});
        publish(api, KnownType::NetworkResponse, &answer);
    }

    /// Counts until everything up to the head was read.
    async fn count(counter: &ProblemCounter, api: &ApiService) -> InstanceProblems {
        let head = api.snapshot().1;
        let read = async {
            while counter.lock().insight.position() < head {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = counter.run(api) => {}
            () = read => {}
        }
        counter.report()
    }

    #[tokio::test]
    async fn problems_are_counted_once_also_when_they_are_not_kept() {
        let api = service(65_536).await;
        let counter = ProblemCounter::new();
        assert_eq!(counter.report(), InstanceProblems::default());
        for id in 0..KEPT.problems * 3 {
            answered(&api, id, if id % 2 == 0 { 404 } else { 200 });
        }
        let found = count(&counter, &api).await;
        assert_eq!(
            (found.count, found.not_read),
            (KEPT.problems as u64 * 3 / 2, 0)
        );
        let newest = found.newest.unwrap();
        assert_eq!(newest.kind, "http_error");
        assert_eq!(newest.text, "GET http://shop/766 answered 404 after 12 ms");
        assert!(0 < newest.ts);
        assert_eq!(counter.lock().insight.problems().len(), KEPT.problems);
    }

    #[tokio::test]
    async fn a_problem_that_was_taken_back_does_not_count() {
        let api = service(1024).await;
        let exception = |id: u64| json!({"text": format!("Uncaught {id}"), "exception_id": id});
        publish(&api, KnownType::ConsoleError, &exception(1));
        publish(&api, KnownType::ConsoleError, &exception(2));
        let handled = json!({"level": "log", "text": "handled", "exception_id": 2});
        publish(&api, KnownType::ConsoleLog, &handled);
        let found = count(&ProblemCounter::new(), &api).await;
        assert_eq!(found.count, 1);
        assert_eq!(found.newest.unwrap().text, "Uncaught 1");
    }

    #[tokio::test]
    async fn what_was_evicted_before_it_was_read_is_no_problem_but_is_reported() {
        let api = service(64).await;
        answered(&api, 1, 500);
        let counter = ProblemCounter::new();
        assert_eq!(count(&counter, &api).await.count, 1);
        // The reader resumes where the stream is then, as one that was too slow does.
        let query = StreamQuery {
            after: Some("2".to_owned()),
            overtaken: Some(OnLag::Oldest),
            ..StreamQuery::default()
        };
        let mut late = api.subscribe(&query).await.subscription;
        for id in 2..102 {
            answered(&api, id, 500);
        }
        while !counter.read(&mut late, Instant::now()) {}
        let found = counter.report();
        assert_eq!(found.not_read, 200 - 64);
        assert_eq!(found.count, 1 + 32);
    }

    #[tokio::test]
    async fn the_text_of_a_problem_is_one_line_that_is_cut() {
        let api = service(1024).await;
        let text = format!("first\nsecond {}", "ü".repeat(MAX_TEXT));
        publish(
            &api,
            KnownType::ConsoleError,
            &json!({"level": "error", "text": text}),
        );
        let newest = count(&ProblemCounter::new(), &api).await.newest.unwrap();
        assert!(newest.text.starts_with("first second ü"), "{}", newest.text);
        assert_eq!(newest.text.chars().count(), MAX_TEXT + 1);
        assert!(newest.text.ends_with('…'));
    }

    #[tokio::test(start_paused = true)]
    async fn the_reader_pauses_for_most_of_the_time() {
        let api = service(65_536).await;
        for id in 0..1_000 {
            answered(&api, id, 404);
        }
        let (worked, passed) = (Instant::now(), tokio::time::Instant::now());
        let found = count(&ProblemCounter::new(), &api).await;
        assert_eq!(found.count, 1_000);
        // The clock of the pauses stands still while the reader works.
        let (worked, paused) = (worked.elapsed(), passed.elapsed());
        assert!(worked * (PAUSES / 2) < paused, "{worked:?} {paused:?}");
    }
}
