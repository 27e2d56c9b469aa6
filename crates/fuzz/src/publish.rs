//! One event: `POST /telemetry/events` with a JSON body.
//!
//! The input is the body.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tapline_api::{ApiError, ApiService, PageQuery};
use tapline_events::Item;
use tapline_oapi::encode::MAX_ENVELOPE_BYTES;
use tapline_oapi::{
    ConfigRequest, Envelope, ErrorBody, ErrorCode, Event, JsonError, PublishRequest, SourceKind,
    from_json,
};

/// Any body is an event that comes out as it went in, or is refused for a reason that is so.
pub fn publish(body: &[u8]) {
    let request = match from_json::<PublishRequest>(body) {
        Ok(request) => request,
        Err(error) => return check_refusal(body, &error),
    };
    let api = crate::service(4, 4 * 1024 * 1024);
    crate::ready(api.put(&ConfigRequest::default()))
        .expect("nothing has to start");
    check_data(body, &request);

    match (expected(&request), api.publish(request.clone())) {
        (Err(code), Err(error)) => {
            let answer = ErrorBody::from(&error);
            assert_eq!(answer.code, code);
            crate::check_answer(&answer);
            assert_eq!(api.session().seq(), 0, "what is refused gets no seq");
        }
        (Ok(event), Ok(Some(envelope))) => {
            let Some(expected) = fitting(&api, event, 1, envelope.ts()) else {
                panic!("published, though it does not fit into an envelope");
            };
            check_envelope(&expected, envelope.json());
            check_readers(&api, &expected);
            check_again(&api, &expected);
        }
        (Ok(event), Err(ApiError::EventTooLarge)) => {
            // The time does not matter: all there can be have 16 digits, but for what the request says.
            let ts = request
                .ts
                .filter(|ts| *ts > 0)
                .unwrap_or(1_800_000_000_000_000);
            assert!(
                fitting(&api, event, 1, ts).is_none(),
                "refused as too large, and is not"
            );
            assert_eq!(api.session().seq(), 0, "what is refused gets no seq");
        }
        (expected, got) => panic!("{got:?} where {expected:?} is right"),
    }
}

/// What was refused is not taken for something else than it is.
fn check_refusal(body: &[u8], error: &JsonError) {
    if error.code == ErrorCode::InvalidJson {
        assert!(!crate::is_json(body), "JSON, and refused as none: {error}");
    }
    let lines = 1 + body.iter().filter(|byte| **byte == b'\n').count();
    assert!(1 <= error.line && error.line <= lines, "{error:?}");
    assert!(error.column <= body.len() + 1, "{error:?}");
    crate::check_answer(&ErrorBody::from(&ApiError::from(error.clone())));
}

/// `data` is what stands in the body, to the byte.
fn check_data(body: &[u8], request: &PublishRequest) {
    let body = std::str::from_utf8(body).expect("JSON is UTF-8");
    let fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(body).expect("a request is an object");
    let sent = fields.get("data").map(|data| data.get());
    let read = request.data.as_deref().map(RawValue::get);
    assert_eq!(sent, read);
    assert!(read.is_none_or(|data| body.contains(data)));
}

/// The event that such a request makes, not stamped yet, or with which code it is refused.
fn expected(request: &PublishRequest) -> Result<Event, ErrorCode> {
    let source = request.source.clone().unwrap_or_default();
    if source.kind == SourceKind::KernelApi {
        return Err(ErrorCode::ReservedSource);
    }
    let event = match (request.event_type.as_str(), request.category) {
        ("", _) => return Err(ErrorCode::InvalidField),
        (name, category) => match (name.parse(), category) {
            (Ok(known), _) => Event::known(known, request.data.clone()),
            (Err(_), None) => return Err(ErrorCode::MissingField),
            (Err(_), Some(category)) => {
                Event::custom(name, category, request.data.clone()).expect("the name is not empty")
            }
        },
    };
    Ok(Event {
        ts: request.ts.unwrap_or(0),
        source,
        truncated: request.truncated,
        ..event
    })
}

/// The envelope that the running session makes of the event, cut where it has to be; `None` where it is too large even
/// so. Its length is that of the JSON which serde makes of it.
fn fitting(api: &ApiService, mut event: Event, seq: u64, ts: u64) -> Option<Envelope> {
    let id = api.session().id().expect("a session is running");
    let key = "telemetry_session_id".to_owned();
    event.source.metadata.insert(key, id);
    assert!(
        event.ts == 0 || event.ts == ts,
        "a time that was given is kept"
    );
    event.ts = ts;
    let whole = Envelope { seq, event };
    if json(&whole).len() <= MAX_ENVELOPE_BYTES {
        return Some(whole);
    }
    let cut = Envelope {
        seq,
        event: Event {
            data: Some(RawValue::NULL.to_owned()),
            truncated: true,
            ..whole.event
        },
    };
    (json(&cut).len() <= MAX_ENVELOPE_BYTES).then_some(cut)
}

fn json(envelope: &Envelope) -> String {
    serde_json::to_string(envelope).expect("our own types serialize")
}

/// What the answer's JSON is, and what can be read from it.
fn check_envelope(expected: &Envelope, got: &str) {
    assert!(
        got == json(expected),
        "not what serde makes of it: {:.2000}",
        got
    );
    assert!(got.len() <= MAX_ENVELOPE_BYTES);
    assert!(got.starts_with(&format!(r#"{{"seq":{},"event":{{"#, expected.seq)));
    let read: Envelope = serde_json::from_str(got).expect("an envelope can be read");
    assert!(read == *expected, "another event is read than was written");
    // Data of a known type need not be what the type promises: that is an error, and nothing worse.
    if let Ok(Some(data)) = read.event.typed_data() {
        serde_json::to_string(&data).expect("what was read can be written");
    }
}

/// Every way to the event leads to the same bytes.
fn check_readers(api: &ApiService, expected: &Envelope) {
    let json = json(expected);
    let Some(Item::Envelope(read)) = api.session().new_reader(0).try_next() else {
        panic!("the event is there to be read");
    };
    assert!(read.json() == json);
    let page = api.page(&PageQuery::default());
    assert_eq!(page.envelopes.len(), 1);
    assert!(page.envelopes[0].json() == json);
}

/// The event that came out, published again, comes out again.
fn check_again(api: &ApiService, published: &Envelope) {
    let event = serde_json::to_vec(&published.event).expect("our own types serialize");
    let request: PublishRequest = from_json(&event).expect("an event is a request");
    let again = api.publish(request).expect("what fitted fits");
    let again = again.expect("what was captured is captured");
    let expected = Envelope {
        seq: 2,
        event: published.event.clone(),
    };
    assert!(
        again.json() == json(&expected),
        "an event does not survive being published again"
    );
}
