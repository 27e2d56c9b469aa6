//! Tapline's own calls, told as `platform_api_call` events, and the ids by which a request is found
//! again.
//!
//! Which calls are told is [`Route::is_platform_call`]'s to say: those that change something. Those
//! that publish and read are not: each event published would bring another along, and a reader of
//! `platform` would be told of its own reading.
//!
//! # Which session it lands in
//!
//! The event is published when the call has done its work, and before it is answered:
//!
//! A call is told where `platform` is captured both when it comes in and when it is done:
//!
//! - A `PUT` that starts a session leaves no event: that session's events are those of its producers, from
//!   the first one on, and the session itself is told in another way.
//! - A `PATCH` or `PUT` that ends the session leaves no event: there is no session to carry it.
//! - A call while no session runs, or while `platform` is not captured, leaves none either. It is not
//!   offered, and so not in the ledger as filtered: a probe of the state is no loss to anybody.
//! - A call that was not let in (`401`, `403`) leaves none: it would be a way for everybody to publish.
//! - Who has the answer finds the event in the stream.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tapline_api::Backend;
use tapline_oapi::Category;
use tapline_oapi::data::PlatformApiCall;

use crate::route::Route;

/// The header in which a request's id comes and goes.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// By what a request is found again: in its answer, in the log and in its event.
///
/// Calls that publish or read have none. Nothing would be found by it, since they are no events, and a
/// random one costs half a microsecond, most of it a call of the system. What they have is a seq, or a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().expect("visible ASCII, as it was taken for")
    }

    /// The value for the answer's [`REQUEST_ID`].
    pub(crate) fn into_header(self) -> HeaderValue {
        self.0
    }
}

/// The caller's own id where it has a good one, 1 to 128 visible ASCII characters; otherwise 128
/// random bits. One that is not good is not an error: the call is right, and the answer tells the
/// id under which it is known.
pub(crate) fn request_id(headers: &HeaderMap) -> RequestId {
    const LENGTH: std::ops::RangeInclusive<usize> = 1..=128;
    let mut given = headers.get_all(REQUEST_ID).iter();
    RequestId(match (given.next(), given.next()) {
        (Some(id), None)
            if LENGTH.contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic) =>
        {
            id.clone()
        }
        _ => random(),
    })
}

fn random() -> HeaderValue {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system's source of randomness answers");
    let id = format!("{:032x}", u128::from_ne_bytes(random));
    HeaderValue::try_from(id).expect("hexadecimal digits")
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
) {
    if !route.is_platform_call() || !are_captured(backend) {
        return;
    }
    backend.publish_call(&PlatformApiCall {
        request_id: id.as_str().to_owned(),
        operation_id: route.operation_id().to_owned(),
        status: status.as_u16(),
        duration_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
    });
}

#[cfg(test)]
mod tests {
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
    fn the_callers_id_is_kept_if_it_is_good() {
        let longest = [b'x'; 128];
        for good in [&b"7"[..], b"a-b_c/9~!", &longest] {
            let id = request_id(&headers(&[good]));
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
            check_random(&request_id(&headers(&[bad])));
        }
        check_random(&request_id(&headers(&[])));
        // Which of the two would it be?
        check_random(&request_id(&headers(&[b"a", b"b"])));
    }

    fn check_random(id: &RequestId) {
        assert_eq!(id.as_str().len(), 32);
        assert!(id.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(*id, request_id(&HeaderMap::new()));
    }

    fn api(categories: &[Category]) -> ApiService {
        let session = TelemetrySession::new(EventStream::new(Retention::default()).unwrap());
        let categories = CategorySet::of(categories);
        session
            .start("s-1", TelemetryConfig { categories })
            .unwrap();
        ApiService::new(session)
    }

    fn call(api: &ApiService, route: Route) {
        let id = request_id(&headers(&[b"r-1"]));
        let took = Duration::from_micros(12_900);
        publish(api, route, &id, StatusCode::CREATED, took);
    }

    #[test]
    fn a_call_is_published_as_the_taxonomy_has_it() {
        let api = api(&[Category::Platform]);
        call(&api, Route::PutTelemetry);
        let Some(Item::Envelope(envelope)) = api.session().new_reader(0).try_next() else {
            panic!("no event");
        };
        let event = envelope.event();
        assert_eq!(event.source.kind, SourceKind::KernelApi);
        assert_eq!(event.category, Category::Platform);
        let expected = PlatformApiCall {
            request_id: "r-1".to_owned(),
            operation_id: "put_telemetry".to_owned(),
            status: 201,
            duration_ms: 12,
        };
        let data = event.typed_data().unwrap();
        assert_eq!(data, Some(EventData::PlatformApiCall(expected)));
        let stamp = r#""telemetry_session_id":"s-1""#;
        assert!(envelope.json().contains(stamp), "{}", envelope.json());
    }

    #[test]
    fn only_calls_that_change_something_are_published() {
        let api = api(&[Category::Platform]);
        for route in Route::ALL {
            let before = api.retained().head;
            call(&api, route);
            let published = api.retained().head - before;
            assert_eq!(published, u64::from(route.is_platform_call()), "{route:?}");
        }
        assert!(api.retained().head > 0);
    }

    #[test]
    fn where_platform_is_not_captured_nothing_is_offered() {
        let api = api(&[Category::Page]);
        call(&api, Route::PutTelemetry);
        api.session().stop();
        call(&api, Route::PatchTelemetry);
        assert_eq!(api.metrics().ledger.offered().sum(), 0);
    }
}
