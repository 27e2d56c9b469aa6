//! One event: `POST /telemetry/events` with a JSON body.
//!
//! The input is the body.

use std::collections::BTreeMap;
use tapline_telemetry::TelemetrySession;

use serde_json::value::RawValue;
use tapline_api::{ApiError, ApiService, Backend as _, PageQuery, Published};
use tapline_events::Item;
use tapline_oapi::encode::MAX_ENVELOPE_BYTES;
use tapline_oapi::{
    ConfigRequest, Envelope, ErrorBody, ErrorCode, Event, JsonError, PublishRequest, SourceKind,
    from_json,
};

/// Any body is published unchanged, or is refused with the right reason.
pub fn publish(body: &[u8]) {
    let request = match from_json::<PublishRequest>(body) {
        Ok(request) => request,
        Err(error) => return check_refusal(body, &error),
    };
    let session = crate::session(4, 4 * 1024 * 1024);
    let api = ApiService::new(session.clone());
    crate::ready(api.put(&ConfigRequest::default())).expect("no source has to start");
    check_data(body, &request);

    let published = api.publish(request.clone()).map(Published::envelope);
    match (expected(&request), published) {
        (Err(code), Err(error)) => {
            let answer = ErrorBody::from(&error);
            assert_eq!(answer.code, code);
            crate::check_answer(&answer);
            assert_eq!(api.retained().head, 0, "a refused event gets no seq");
        }
        (Ok(event), Ok(Some(envelope))) => {
            let Some(expected) = fitting(&session, event, 1, envelope.ts()) else {
                panic!("published, although it does not fit into an envelope");
            };
            check_envelope(&expected, &envelope.json().whole());
            check_readers(&session, &api, &expected);
            check_again(&api, &expected);
        }
        (Ok(event), Err(ApiError::EventTooLarge(_))) => {
            // The time does not matter: every time of the clock has 16 digits. A time of the request may differ.
            let ts = request
                .ts
                .filter(|ts| *ts > 0)
                .unwrap_or(1_800_000_000_000_000);
            assert!(
                fitting(&session, event, 1, ts).is_none(),
                "refused as too large, but it is not"
            );
            assert_eq!(api.retained().head, 0, "a refused event gets no seq");
        }
        (expected, got) => panic!("{got:?} instead of {expected:?}"),
    }
}

/// The reason of a refusal is right.
fn check_refusal(body: &[u8], error: &JsonError) {
    if error.code == ErrorCode::InvalidJson {
        assert!(
            !crate::is_json(body),
            "valid JSON was refused as invalid: {error}"
        );
    }
    let lines = 1 + body.iter().filter(|byte| **byte == b'\n').count();
    assert!(1 <= error.line && error.line <= lines, "{error:?}");
    assert!(error.column <= body.len() + 1, "{error:?}");
    crate::check_answer(&ErrorBody::from(&ApiError::from(error.clone())));
}

/// `data` is the same as in the body, byte for byte.
fn check_data(body: &[u8], request: &PublishRequest) {
    let body = std::str::from_utf8(crate::without_mark(body)).expect("JSON is UTF-8");
    let fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(body).expect("a request is an object");
    let sent = fields.get("data").map(|data| data.get());
    let read = request.data.as_deref().map(RawValue::get);
    assert_eq!(sent, read);
    assert!(read.is_none_or(|data| body.contains(data)));
}

/// The event of a request, without a stamp, or the code with which it is refused.
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

/// The envelope of the event in the running session, without its data if it is too large; `None` if that is still too
/// large. The length is that of serde's JSON.
fn fitting(session: &TelemetrySession, mut event: Event, seq: u64, ts: u64) -> Option<Envelope> {
    let id = session.id().expect("a session is running");
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

/// Checks the JSON of the answer.
fn check_envelope(expected: &Envelope, got: &str) {
    assert!(
        got == json(expected),
        "not the JSON of serde: {:.2000}",
        got
    );
    assert!(got.len() <= MAX_ENVELOPE_BYTES);
    assert!(got.starts_with(&format!(r#"{{"seq":{},"event":{{"#, expected.seq)));
    let read: Envelope = serde_json::from_str(got).expect("an envelope can be read");
    assert!(
        read == *expected,
        "a different event is read than was written"
    );
    // The data of a known type may not match the type: that is an error, and must not panic.
    if let Ok(Some(data)) = read.event.typed_data() {
        serde_json::to_string(&data).expect("what was read can be written");
    }
}

/// Every way of reading the event gives the same bytes.
fn check_readers(session: &TelemetrySession, api: &ApiService, expected: &Envelope) {
    let json = json(expected);
    let Some(Item::Envelope(read)) = session.new_reader(0).try_next() else {
        panic!("the event is retained");
    };
    assert!(read.json().whole() == json);
    let page = crate::ready(api.page(&PageQuery::default())).expect("there is no cursor");
    assert_eq!(page.envelopes.len(), 1);
    assert!(page.envelopes[0].json().whole() == json);
}

/// A published event can be published again and stays the same.
fn check_again(api: &ApiService, published: &Envelope) {
    let event = serde_json::to_vec(&published.event).expect("our own types serialize");
    let request: PublishRequest = from_json(&event).expect("an event is a request");
    let again = api
        .publish(request)
        .expect("an event that fitted once fits again");
    let again = again
        .envelope()
        .expect("a category that was captured is still captured");
    let expected = Envelope {
        seq: 2,
        event: published.event.clone(),
    };
    assert!(
        again.json().whole() == json(&expected),
        "an event changes when it is published again"
    );
}
