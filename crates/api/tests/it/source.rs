//! The source of events runs while the session does, and only then.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tapline_api::{ApiService, PutAnswer, Source, SourceError};
use tapline_oapi::{CategorySet, ConfigRequest, Event, KnownType};
use tapline_telemetry::TelemetrySession;

use crate::{request, session, told};

/// Writes down what it is asked, and fails when it is told to.
#[derive(Clone, Default)]
struct Recorded {
    calls: Arc<Mutex<Vec<String>>>,
    fails: Arc<AtomicBool>,
}

impl Recorded {
    fn call(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    /// What it was asked since it was last looked at.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

impl Source for Recorded {
    fn prepare(&self) -> Result<(), SourceError> {
        self.call("prepare");
        if self.fails.load(SeqCst) {
            let refused = std::io::Error::other("connection refused");
            return Err(SourceError::new(refused));
        }
        Ok(())
    }

    fn run(&self, session: &Arc<TelemetrySession>) {
        let envelope = session
            .publish(Event::known(KnownType::PageTabOpened, None))
            .expect("the session is on when the source is to run");
        self.call(format!("run, published {}", envelope.seq()));
    }

    fn reconfigure(&self, captured: CategorySet) {
        self.call(format!("reconfigure {captured:?}"));
    }

    fn stop(&self) {
        self.call("stop");
    }
}

fn service() -> (ApiService, Recorded) {
    let source = Recorded::default();
    (ApiService::new(session(64), source.clone()), source)
}

const PAGE: &str = r#"{"browser":{"page":{"enabled":true}}}"#;
const NOTHING: &str = r#"{"browser":{}}"#;

#[test]
fn the_source_is_called_in_order() {
    let (api, source) = service();
    #[track_caller]
    fn check(source: &Recorded, expected: &[&str]) {
        assert_eq!(source.calls(), expected);
    }

    api.put(&request(NOTHING)).unwrap();
    api.stop();
    check(&source, &[]);
    api.put(&ConfigRequest::default()).unwrap();
    check(&source, &["prepare", "run, published 1"]);
    api.put(&request(PAGE)).unwrap();
    check(&source, &["reconfigure {Page, System, Monitor}"]);
    api.patch(&request("{}")).unwrap();
    check(&source, &[]);
    api.patch(&request(r#"{"browser":{"console":{"enabled":true}}}"#))
        .unwrap();
    check(&source, &["reconfigure {Console, Page, System, Monitor}"]);
    api.patch(&request(
        r#"{"browser":{"console":{"enabled":false},"page":{"enabled":false}}}"#,
    ))
    .unwrap();
    check(&source, &["stop"]);
    assert!(api.patch(&request(PAGE)).is_err());
    check(&source, &[]);
    api.put(&request(PAGE)).unwrap();
    check(&source, &["prepare", "run, published 2"]);
    api.put(&request(NOTHING)).unwrap();
    api.put(&request(NOTHING)).unwrap();
    check(&source, &["stop"]);
    api.put(&request(PAGE)).unwrap();
    api.stop();
    api.stop();
    check(&source, &["prepare", "run, published 3", "stop"]);
}

#[test]
fn a_source_that_cannot_start_leaves_no_session() {
    let (api, source) = service();
    source.fails.store(true, SeqCst);
    let error = api.put(&ConfigRequest::default()).unwrap_err();
    assert_eq!(
        told(&error),
        (
            "source_failed",
            "the source could not start: connection refused".to_owned()
        )
    );
    assert_eq!(source.calls(), ["prepare"], "neither run nor stop");
    assert!(!api.session().active());
    assert_eq!(told(&api.state().unwrap_err()).0, "not_configured");
    assert!(crate::publish(&api, r#"{"type":"page_load"}"#).is_none());

    // Later it may.
    source.fails.store(false, SeqCst);
    assert!(matches!(
        api.put(&ConfigRequest::default()).unwrap(),
        PutAnswer::Started(_)
    ));
    assert_eq!(source.calls(), ["prepare", "run, published 1"]);
}

/// Only a session that begins needs the source to start.
#[test]
fn a_running_session_stands_whatever_the_source_says() {
    let (api, source) = service();
    api.put(&ConfigRequest::default()).unwrap();
    let before = api.state().unwrap();
    source.fails.store(true, SeqCst);
    assert!(matches!(
        api.put(&request(PAGE)).unwrap(),
        PutAnswer::Replaced(_)
    ));
    assert_eq!(api.state().unwrap().session_id, before.session_id);
}

/// It panics once, while the service holds its lock.
struct Panics(AtomicBool);

impl Source for Panics {
    fn prepare(&self) -> Result<(), SourceError> {
        assert!(!self.0.swap(false, SeqCst), "a defect of the source");
        Ok(())
    }

    fn run(&self, _: &Arc<TelemetrySession>) {}

    fn reconfigure(&self, _: CategorySet) {}

    fn stop(&self) {}
}

#[test]
fn a_source_that_panics_locks_nobody_out() {
    let api = ApiService::new(session(64), Panics(AtomicBool::new(true)));
    let put = || api.put(&ConfigRequest::default());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(put)).unwrap_err();
    assert!(!api.session().active());
    assert!(matches!(put().unwrap(), PutAnswer::Started(_)));
}
