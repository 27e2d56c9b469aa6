//! Sources run while the session does, and only then.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use tapline_api::{
    ApiService, Backend, BoxFuture, Prepared, PublishError, Publisher, PutAnswer, Running, Source,
    SourceCounts, SourceError,
};
use tapline_oapi::{Category, CategorySet, ConfigRequest, Event, KnownType};

use crate::{block_on, code_and_message, poll_once, ready, request, session};

/// Records its calls, and behaves as the switches say.
#[derive(Clone, Default)]
struct Recorded(Arc<Shared>);

#[derive(Default)]
struct Shared {
    name: &'static str,
    /// Shared by all sources of a test, so that their order shows.
    calls: Arc<Mutex<Vec<String>>>,
    /// `prepare` fails.
    fails: AtomicBool,
    /// `prepare` never ends.
    prepares_for_ever: AtomicBool,
    /// `run` panics.
    run_panics: AtomicBool,
    /// The future of `stop` is not ready while this is set.
    stop_waits: AtomicBool,
    /// How many are running or stopping: more than one would be two scripts in one page.
    active: AtomicUsize,
    /// What it has counted.
    unreadable: AtomicU64,
    /// What `run` was given last.
    publisher: Mutex<Option<Publisher>>,
}

impl Recorded {
    fn named(name: &'static str, calls: &Arc<Mutex<Vec<String>>>) -> Self {
        Self(Arc::new(Shared {
            name,
            calls: calls.clone(),
            ..Shared::default()
        }))
    }

    fn call(&self, call: &str) {
        let mut calls = self.0.calls.lock().unwrap();
        calls.push(format!("{}{call}", self.0.name));
    }

    /// The calls since this was asked last.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.calls.lock().unwrap())
    }

    fn publisher(&self) -> Publisher {
        self.0.publisher.lock().unwrap().clone().unwrap()
    }
}

impl Source for Recorded {
    fn name(&self) -> &str {
        self.0.name
    }

    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
        Box::pin(async {
            self.call("prepare");
            if self.0.prepares_for_ever.load(SeqCst) {
                pending::<()>().await;
            }
            if self.0.fails.load(SeqCst) {
                let refused = std::io::Error::other("connection refused");
                return Err(SourceError::new(refused));
            }
            Ok(Box::new(Ready(Some(self.clone()))) as Box<dyn Prepared>)
        })
    }

    fn counts(&self) -> SourceCounts {
        SourceCounts {
            unreadable: self.0.unreadable.load(SeqCst),
        }
    }
}

/// Still there when it is dropped, unless it ran.
struct Ready(Option<Recorded>);

impl Prepared for Ready {
    fn run(mut self: Box<Self>, publisher: Publisher) -> Box<dyn Running> {
        let source = self.0.take().unwrap();
        assert!(!source.0.run_panics.load(SeqCst), "a defect of the source");
        assert_eq!(
            source.0.active.fetch_add(1, SeqCst),
            0,
            "it runs twice at the same time"
        );
        let envelope = publisher
            .publish(Event::known(KnownType::PageTabOpened, None))
            .expect("the session is on when the source is to run");
        source.call(&format!("run, published {}", envelope.seq()));
        *source.0.publisher.lock().unwrap() = Some(publisher);
        Box::new(source)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(source) = &self.0 {
            source.call("undo");
        }
    }
}

impl Running for Recorded {
    fn reconfigure(&mut self, captured: CategorySet) {
        self.call(&format!("reconfigure {captured:?}"));
    }

    fn stop(self: Box<Self>, _: Instant) -> BoxFuture<'static, ()> {
        self.call("stop");
        Box::pin(async move {
            std::future::poll_fn(|_| match self.0.stop_waits.load(SeqCst) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            })
            .await;
            self.0.active.fetch_sub(1, SeqCst);
            self.call("stopped");
        })
    }
}

fn service() -> (ApiService, Recorded) {
    let source = Recorded::default();
    (
        ApiService::new(session(64)).with_source(source.clone()),
        source,
    )
}

/// A service with the sources `a`, `b` and `c`, which record their calls in one list.
fn three() -> (ApiService, [Recorded; 3]) {
    let calls = Arc::default();
    let sources = ["a ", "b ", "c "].map(|name| Recorded::named(name, &calls));
    let api = sources
        .iter()
        .fold(ApiService::new(session(64)), |api, source| {
            api.with_source(source.clone())
        });
    (api, sources)
}

fn start(api: &ApiService) -> PutAnswer {
    ready(api.put(&ConfigRequest::default())).unwrap()
}

fn page_event() -> Event {
    Event::known(KnownType::PageLoad, None)
}

const PAGE: &str = r#"{"browser":{"page":{"enabled":true}}}"#;
const NOTHING: &str = r#"{"browser":{}}"#;

#[test]
fn a_source_is_called_in_order() {
    let (api, source) = service();
    #[track_caller]
    fn check(source: &Recorded, expected: &[&str]) {
        assert_eq!(source.calls(), expected);
    }

    ready(api.put(&request(NOTHING))).unwrap();
    assert_eq!(
        code_and_message(&ready(api.delete()).unwrap_err()).0,
        "not_configured"
    );
    check(&source, &[]);
    start(&api);
    check(&source, &["prepare", "run, published 1"]);
    ready(api.put(&request(PAGE))).unwrap();
    check(&source, &["reconfigure {Page, System, Monitor}"]);
    ready(api.patch(&request("{}"))).unwrap();
    check(&source, &[]);
    ready(api.patch(&request(r#"{"browser":{"console":{"enabled":true}}}"#))).unwrap();
    check(&source, &["reconfigure {Console, Page, System, Monitor}"]);
    ready(api.patch(&request(
        r#"{"browser":{"console":{"enabled":false},"page":{"enabled":false}}}"#,
    )))
    .unwrap();
    check(&source, &["stop", "stopped"]);
    assert!(ready(api.patch(&request(PAGE))).is_err());
    check(&source, &[]);
    ready(api.put(&request(PAGE))).unwrap();
    check(&source, &["prepare", "run, published 2"]);
    ready(api.put(&request(NOTHING))).unwrap();
    ready(api.put(&request(NOTHING))).unwrap();
    check(&source, &["stop", "stopped"]);
    ready(api.put(&request(PAGE))).unwrap();
    let state = ready(api.delete()).unwrap();
    assert_eq!((state.session_id, state.seq), (None, 3));
    check(&source, &["prepare", "run, published 3", "stop", "stopped"]);
}

#[test]
fn a_source_that_cannot_start_leaves_no_session() {
    let (api, source) = service();
    source.0.fails.store(true, SeqCst);
    let error = ready(api.put(&ConfigRequest::default())).unwrap_err();
    let (code, message) = code_and_message(&error);
    assert_eq!(code, "source_failed");
    assert!(message.starts_with("the source `` could not start"));
    let reason = std::error::Error::source(&error).unwrap();
    assert_eq!(reason.to_string(), "connection refused");
    assert_eq!(source.calls(), ["prepare"]);
    assert_eq!(
        code_and_message(&api.state().unwrap_err()).0,
        "not_configured"
    );
    assert!(crate::publish(&api, r#"{"type":"page_load"}"#).is_none());

    // Later it may start.
    source.0.fails.store(false, SeqCst);
    assert!(matches!(start(&api), PutAnswer::Started(_)));
    assert_eq!(source.calls(), ["prepare", "run, published 1"]);
}

#[test]
fn where_one_source_cannot_start_the_prepared_ones_are_undone() {
    let (api, sources) = three();
    sources[1].0.fails.store(true, SeqCst);
    let error = ready(api.put(&ConfigRequest::default())).unwrap_err();
    assert!(
        error.to_string().contains("the source `b `"),
        "the error names the source: {error}"
    );
    assert_eq!(sources[0].calls(), ["a prepare", "b prepare", "a undo"]);
    assert!(api.state().is_err());

    sources[1].0.fails.store(false, SeqCst);
    start(&api);
    assert_eq!(
        sources[0].calls(),
        [
            "a prepare",
            "b prepare",
            "c prepare",
            "a run, published 1",
            "b run, published 2",
            "c run, published 3"
        ]
    );
    ready(api.delete()).unwrap();
    assert_eq!(
        sources[0].calls().len(),
        6,
        "all are asked to stop, and all stop"
    );
}

/// Only a session that begins needs the source to start.
#[test]
fn a_running_session_stands_where_a_source_would_fail() {
    let (api, source) = service();
    start(&api);
    let before = api.state().unwrap();
    source.0.fails.store(true, SeqCst);
    assert!(matches!(
        ready(api.put(&request(PAGE))).unwrap(),
        PutAnswer::Replaced(_)
    ));
    assert_eq!(api.state().unwrap().session_id, before.session_id);
}

#[test]
fn a_source_that_panics_in_run_leaves_no_session_and_no_lock() {
    let (api, sources) = three();
    sources[1].0.run_panics.store(true, SeqCst);
    let put = || start(&api);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(put)).unwrap_err();
    assert!(api.state().is_err());
    sources[1].0.run_panics.store(false, SeqCst);
    sources[0].calls();
    assert!(matches!(start(&api), PutAnswer::Started(_)));
    let calls = sources[0].calls();
    assert_eq!(
        calls[..2],
        ["a stopped", "a prepare"],
        "the stop of the source that ran is finished first"
    );
}

#[test]
fn a_publisher_of_a_session_that_has_ended_is_refused_also_in_the_next_session() {
    let (api, source) = service();
    start(&api);
    let (of_source, of_any) = (source.publisher(), api.publisher());
    assert!(of_source.captures(Category::Page) && of_any.captures(Category::Page));
    // A replaced configuration is the same session.
    ready(api.put(&request(PAGE))).unwrap();
    assert_eq!(of_source.publish(page_event()).unwrap().seq(), 2);
    assert_eq!(
        of_source
            .publish(Event::known(KnownType::ConsoleLog, None))
            .unwrap_err(),
        PublishError::CategoryDisabled(Category::Console)
    );

    ready(api.delete()).unwrap();
    assert_eq!(
        of_source.publish(page_event()).unwrap_err(),
        PublishError::Inactive
    );
    assert_eq!(of_any.captured(), CategorySet::EMPTY);

    ready(api.put(&request(PAGE))).unwrap();
    assert_eq!(of_source.captured(), CategorySet::EMPTY);
    for event in [page_event(), Event::known(KnownType::ConsoleLog, None)] {
        assert_eq!(
            of_source.publish(event).unwrap_err(),
            PublishError::Inactive
        );
    }
    assert_eq!(of_any.publish(page_event()).unwrap().seq(), 4);
}

#[test]
fn a_stop_that_was_given_up_is_finished_before_the_sources_start_again() {
    let (api, source) = service();
    start(&api);
    source.calls();
    source.0.stop_waits.store(true, SeqCst);
    {
        let mut delete = pin!(api.delete());
        assert!(poll_once(&mut delete).is_pending());
        // The caller goes away.
    }
    assert!(api.state().is_err(), "the session is off already");
    assert_eq!(source.calls(), ["stop"]);
    {
        let request = ConfigRequest::default();
        let mut put = pin!(api.put(&request));
        assert!(poll_once(&mut put).is_pending());
        assert!(source.calls().is_empty(), "not prepared before");
        // This one goes away, too.
    }
    assert!(api.state().is_err());
    source.0.stop_waits.store(false, SeqCst);
    start(&api);
    assert_eq!(source.calls(), ["stopped", "prepare", "run, published 2"]);
}

#[test]
fn a_start_that_was_given_up_undoes_what_was_prepared() {
    let (api, sources) = three();
    sources[1].0.prepares_for_ever.store(true, SeqCst);
    {
        let request = ConfigRequest::default();
        let mut put = pin!(api.put(&request));
        assert!(poll_once(&mut put).is_pending());
        assert_eq!(sources[0].calls(), ["a prepare", "b prepare"]);
    }
    assert_eq!(sources[0].calls(), ["a undo"]);
    assert!(api.state().is_err());
    sources[1].0.prepares_for_ever.store(false, SeqCst);
    assert!(matches!(start(&api), PutAnswer::Started(_)));
}

#[test]
fn shutdown_gives_up_a_source_that_does_not_stop_at_the_deadline() {
    let (api, sources) = three();
    start(&api);
    sources[0].calls();
    sources[1].0.stop_waits.store(true, SeqCst);
    let began = Instant::now();
    let deadline = began + Duration::from_millis(200);
    block_on(api.shutdown(deadline));
    assert!(deadline <= Instant::now());
    assert!(began.elapsed() < Duration::from_secs(5), "it is bounded");
    let calls = sources[0].calls();
    assert_eq!(
        calls,
        ["c stop", "b stop", "a stop", "c stopped", "a stopped"]
    );
    let error = ready(api.put(&ConfigRequest::default())).unwrap_err();
    assert_eq!(code_and_message(&error).0, "unavailable");
    assert!(api.state().is_err());
}

#[test]
fn shutdown_is_bounded_where_another_operation_is_stuck_in_a_source() {
    let (api, source) = service();
    source.0.prepares_for_ever.store(true, SeqCst);
    let request = ConfigRequest::default();
    let mut put = pin!(api.put(&request));
    assert!(poll_once(&mut put).is_pending());
    block_on(api.shutdown(Instant::now() + Duration::from_millis(100)));
    assert!(api.state().is_err());
}

#[test]
fn every_operation_can_run_on_any_thread() {
    fn check(_: &impl Send) {}
    let api = service().0;
    let request = ConfigRequest::default();
    check(&api.put(&request));
    check(&api.patch(&request));
    check(&api.delete());
    check(&api.shutdown(Instant::now()));
}

#[test]
fn what_sources_have_counted_is_in_the_metrics_while_they_run_and_while_they_do_not() {
    let (api, sources) = three();
    let expect = |counts: [u64; 3]| {
        let named = ["a ", "b ", "c "].map(str::to_owned).into_iter();
        let counts = counts.map(|unreadable| SourceCounts { unreadable });
        let expected: Vec<_> = named.zip(counts).collect();
        assert_eq!(api.metrics().sources, expected);
    };
    expect([0, 0, 0]);
    start(&api);
    sources[1].0.unreadable.store(2, SeqCst);
    expect([0, 2, 0]);
    ready(api.delete()).unwrap();
    expect([0, 2, 0]);
    // Also while an operation waits for a source.
    sources[0].0.prepares_for_ever.store(true, SeqCst);
    let request = ConfigRequest::default();
    let mut put = pin!(api.put(&request));
    assert!(poll_once(&mut put).is_pending());
    sources[2].0.unreadable.store(1, SeqCst);
    expect([0, 2, 1]);
}
