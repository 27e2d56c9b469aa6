//! The one integration binary of this crate.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

mod causes;
mod config;
mod source;
mod sink;
mod history;
mod archive;
mod publish;
mod lines;
mod page;
mod query;
mod subscribe;
mod wait;

use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tapline_api::conformance::block_on;
use tapline_api::{ApiError, ApiService, Backend as _, Delivery, Lost, PutAnswer, Subscription};
use tapline_events::{EventStream, Retention};
use tapline_oapi::{ConfigRequest, ErrorBody, from_json};
use tapline_telemetry::{Envelope, TelemetrySession};

/// A stream that retains so many events, rounded up to a power of two, and a session over it that is
/// not running.
fn session(events: usize) -> TelemetrySession {
    TelemetrySession::new(
        EventStream::new(Retention {
            events,
            bytes: u64::MAX,
            ..Retention::default()
        })
        .unwrap(),
    )
}

/// What an operation gives that has nothing to wait for.
#[track_caller]
fn ready<T>(operation: impl Future<Output = T>) -> T {
    match poll_once(&mut pin!(operation)) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it should be ready at once"),
    }
}

fn poll_once<F: Future>(operation: &mut Pin<&mut F>) -> Poll<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    operation.as_mut().poll(&mut cx)
}

/// Nothing configured yet.
fn idle() -> ApiService {
    ApiService::new(session(64))
}

/// A session with the default configuration is running, and retains so many events.
fn running(events: usize) -> ApiService {
    let api = ApiService::new(session(events));
    assert!(matches!(
        ready(api.put(&ConfigRequest::default())).unwrap(),
        PutAnswer::Started(_)
    ));
    api
}

fn request(json: &str) -> ConfigRequest {
    from_json(json.as_bytes()).unwrap()
}

/// Publishes what must be good.
fn publish(api: &ApiService, json: &str) -> Option<Envelope> {
    let published = api.publish(from_json(json.as_bytes()).unwrap());
    published.unwrap().envelope()
}

/// Publishes console lines until the head is there.
fn fill_to(api: &ApiService, head: u64) {
    while api.retained().head < head {
        publish(api, r#"{"type":"console_log"}"#).unwrap();
    }
}

/// The code and the message, as they go over the wire.
fn code_and_message(error: &ApiError) -> (&'static str, String) {
    let ErrorBody { code, message, .. } = ErrorBody::from(error);
    (code.as_str(), message)
}

/// What a subscription delivered.
#[derive(Debug)]
enum Next {
    Envelope(u64),
    Lost(Lost),
    Epoch,
}

/// What there is next, if there is anything now.
fn next(subscription: &mut impl Subscription) -> Option<Next> {
    let mut next = None;
    while next.is_none() {
        let looked_at = subscription.read(1, |delivery| {
            next = match delivery {
                Delivery::Envelope { seq, .. } => Some(Next::Envelope(seq)),
                Delivery::Lost(lost) => Some(Next::Lost(lost)),
                Delivery::Epoch(_) => Some(Next::Epoch),
                Delivery::Session(_) => None,
            };
            ControlFlow::Break(())
        });
        if looked_at == 0 {
            break;
        }
    }
    next
}
