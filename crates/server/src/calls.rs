//! Request ids, and the server's own calls as `platform_api_call` events.
//!
//! # Request ids
//!
//! Every request has an id: in its answer, in the log, in the body of an error, and in the event of a call.
//! The client's own id is kept; otherwise the server makes one, which costs no system call.
//!
//! # Traces
//!
//! A valid `traceparent` header (W3C Trace Context) is kept: what is published because of the request has its
//! `trace_id` and `span_id` in `source.metadata`. That is the event of a call, and each event that is published.
//!
//! # Calls as events
//!
//! Calls that change something become events ([`Route::is_platform_call`]). Calls that publish or read do
//! not: each published event would add another one, and a reader of `platform` would receive its own reading.
//!
//! The event is published after the call has done its work and before it is answered. So the client finds
//! it in the stream once it has the answer. There is an event where `platform` is captured both when the
//! request arrives and when it is done:
//!
//! - A `PUT` that starts a session leaves no event. That session's events are those of its producers, from
//!   the first one on, and the session itself is reported in another way.
//! - A `PATCH`, `PUT` or `DELETE` that ends the session leaves no event: no session is left to carry it.
//! - A call while no session runs, or while `platform` is not captured, leaves none either. It is not
//!   offered to the session, so the session's ledger does not count it as filtered.
//! - A call that was refused (`401`, `403`) leaves none. Otherwise every client could publish.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tapline_api::{Backend, Trace};
use tapline_oapi::Category;
use tapline_oapi::data::PlatformApiCall;

use crate::route::Route;

/// The header with the id of a request, in the request and in its answer.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// The id of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id, where it sent one id of 1 to 128 visible ASCII characters; otherwise a new one.
    /// An id that cannot be kept is no error: the answer has the one that is used.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        const LENGTH: std::ops::RangeInclusive<usize> = 1..=128;
        let mut given = headers.get_all(REQUEST_ID).iter();
        match (given.next(), given.next()) {
            (Some(id), None)
                if LENGTH.contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic) =>
            {
                Self(id.clone())
            }
            _ => Self::new(),
        }
    }

    /// An id that no other request of this process has: 64 random bits of the process, and a number. Some
    /// 50 ns.
    pub(crate) fn new() -> Self {
        static PROCESS: LazyLock<u64> =
            LazyLock::new(|| getrandom::u64().expect("the system's source of randomness answers"));
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Relaxed) + 1;
        let mut id = [0; 32];
        let (process, request) = id.split_at_mut(16);
        write_hex(*PROCESS, process);
        write_hex(number, request);
        Self(HeaderValue::from_bytes(&id).expect("hexadecimal digits"))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().expect("visible ASCII, as checked above")
    }

    /// The value for the answer's [`REQUEST_ID`].
    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }
}

/// Fills `digits` with the hexadecimal digits of `number`, the lowest last.
fn write_hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
}

/// Whether calls are captured at this moment.
pub(crate) fn are_captured(backend: &impl Backend) -> bool {
    backend.captures(Category::Platform)
}

/// Publishes that `route` was called and answered with `status`, where that is captured.
pub(crate) fn publish(
    backend: &impl Backend,
    route: Route,
    id: &RequestId,
    status: StatusCode,
    took: Duration,
    trace: Option<&Trace>,
) {
    if !route.is_platform_call() || !are_captured(backend) {
        return;
    }
    let call = PlatformApiCall {
        request_id: id.as_str().to_owned(),
        operation_id: route.operation_id().to_owned(),
        status: status.as_u16().into(),
        duration_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        ..PlatformApiCall::default()
    };
    backend.publish_call(&call, trace);
}

/// The trace that a request belongs to: its only `traceparent` header, if that is valid.
pub(crate) fn trace_of(headers: &HeaderMap) -> Option<Trace> {
    let mut given = headers.get_all(TRACE_PARENT).iter();
    let only = given.next().filter(|_| given.next().is_none())?;
    Trace::parse(only.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tapline_api::{ApiService, Retention};
    use tapline_events::{EventStream, Item};
    use tapline_oapi::data::EventData;
    use tapline_oapi::{CategorySet, SourceKind};
    use tapline_telemetry::{TelemetryConfig, TelemetrySession};

    use super::*;

    fn headers(ids: &[&[u8]]) -> HeaderMap {
        ids.iter()
            .map(|id| (REQUEST_ID, HeaderValue::from_bytes(id).unwrap()))
            .collect()
    }

    #[test]
    fn an_id_of_the_client_is_kept_if_it_is_valid() {
        let longest = [b'x'; 128];
        for good in [&b"7"[..], b"a-b_c/9~!", &longest] {
            let id = RequestId::of(&headers(&[good]));
            assert_eq!(id.as_str().as_bytes(), good);
            assert_eq!(id.into_header().as_bytes(), good);
        }
        let too_long = [b'x'; 129];
        for bad in [
            &b""[..],
            b"a b",
            b"a\tb",
            b"\xff",
            b"caf\xc3\xa9",
            &too_long,
        ] {
            check_new(&RequestId::of(&headers(&[bad])));
        }
        check_new(&RequestId::of(&headers(&[])));
        // Which of the two it should be is unknown.
        check_new(&RequestId::of(&headers(&[b"a", b"b"])));
    }

    fn check_new(id: &RequestId) {
        assert_eq!(id.as_str().len(), 32);
        assert!(id.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(*id, RequestId::of(&HeaderMap::new()));
    }

    /// A session that captures these, and the service over it.
    fn running(categories: &[Category]) -> (Arc<TelemetrySession>, ApiService) {
        let stream = EventStream::new(Retention::default()).unwrap();
        let session = Arc::new(TelemetrySession::new(stream));
        let categories = CategorySet::of(categories);
        session
            .start("s-1", TelemetryConfig { categories })
            .unwrap();
        (session.clone(), ApiService::new(session))
    }

    fn call(api: &ApiService, route: Route) {
        let id = RequestId::of(&headers(&[b"r-1"]));
        let took = Duration::from_micros(12_900);
        publish(api, route, &id, StatusCode::CREATED, took, None);
    }

    #[test]
    fn a_call_is_published_as_the_taxonomy_has_it() {
        let (session, api) = running(&[Category::Platform]);
        call(&api, Route::PutTelemetry);
        let Some(Item::Envelope(envelope)) = session.new_reader(0).try_next() else {
            panic!("no event");
        };
        let event = envelope.event();
        assert_eq!(event.source.kind, SourceKind::KernelApi);
        assert_eq!(event.category, Category::Platform);
        let expected = PlatformApiCall {
            request_id: "r-1".to_owned(),
            operation_id: "put_telemetry".to_owned(),
            status: 201,
            duration_ms: 12.9,
            ..PlatformApiCall::default()
        };
        let data = event.typed_data().unwrap();
        assert_eq!(data, Some(EventData::PlatformApiCall(expected)));
        let stamp = r#""telemetry_session_id":"s-1""#;
        assert!(
            envelope.json().whole().contains(stamp),
            "{}",
            envelope.json()
        );
    }

    #[test]
    fn only_calls_that_change_something_are_published() {
        let (_, api) = running(&[Category::Platform]);
        for &route in Route::ALL {
            let before = api.retained().head;
            call(&api, route);
            let published = api.retained().head - before;
            assert_eq!(published, u64::from(route.is_platform_call()), "{route:?}");
        }
        assert!(api.retained().head > 0);
    }

    #[test]
    fn where_platform_is_not_captured_nothing_is_offered() {
        let (session, api) = running(&[Category::Page]);
        call(&api, Route::PutTelemetry);
        session.stop();
        call(&api, Route::PatchTelemetry);
        assert_eq!(api.metrics().ledger.offered().sum(), 0);
    }
}
