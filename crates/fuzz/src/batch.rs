//! Many events: `POST /telemetry/events` with NDJSON.
//!
//! The first byte of the input says where the body is cut in two, as a server does with a long body; the rest is the body.

use std::sync::Arc;
use tapline_api::{ApiError, ApiService, Backend as _, Published};
use tapline_events::Item;
use tapline_oapi::{BatchResult, ConfigRequest, ErrorBody, LineError, from_json, from_json_line};
use tapline_telemetry::TelemetrySession;

/// Publishing a batch gives the same result as publishing each of its lines separately.
pub fn batch(input: &[u8]) {
    let (cut, body) = match input.split_first() {
        Some((cut, body)) => (usize::from(*cut), body),
        None => (0, input),
    };
    let (result, whole) = (published(&[body]), one_by_one(body));
    assert_eq!(result, whole);
    assert_eq!(published(&in_two(body, cut)), whole);

    let (result, _) = result;
    assert_eq!(
        result.published + result.filtered + result.refused,
        body.split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .count() as u64,
        "every line that is not blank is counted once"
    );
    let seqs = (result.published > 0).then_some((1, result.published));
    assert_eq!(result.first_seq.zip(result.last_seq), seqs);
    let listed = (result.refused as usize).min(BatchResult::MAX_ERRORS);
    assert_eq!(result.errors.len(), listed);
    assert!(result.errors.is_sorted_by(|a, b| a.line < b.line));
    for LineError { code, message, .. } in &result.errors {
        crate::check_answer(&ErrorBody::new(*code, message));
    }
    let json = serde_json::to_vec(&result).expect("our own types serialize");
    let read: BatchResult = serde_json::from_slice(&json).expect("and are read again");
    assert_eq!(read, result);
}

/// A session that captures everything except `network`, and the service that runs it.
fn service() -> (Arc<TelemetrySession>, ApiService) {
    let session = crate::session(128, u64::MAX);
    let api = ApiService::new(session.clone());
    crate::ready(api.put(&ConfigRequest::default())).expect("no source has to start");
    let without: ConfigRequest =
        from_json(br#"{"browser":{"network":{"enabled":false}}}"#).expect("a good request");
    crate::ready(api.patch(&without)).expect("a session is running");
    (session, api)
}

/// The answer to a body that arrives in these pieces, and the published events: `data` and type.
fn published(pieces: &[&[u8]]) -> (BatchResult, Vec<String>) {
    let (session, api) = service();
    let mut result = BatchResult::default();
    let mut line = 1;
    for piece in pieces {
        line += api.publish_lines(piece, line, None, &mut result);
    }
    assert_eq!(api.retained().head, result.published);
    let events = events(&session);
    (result, events)
}

/// The same with the call for single events.
fn one_by_one(body: &[u8]) -> (BatchResult, Vec<String>) {
    let (session, api) = service();
    let mut result = BatchResult::default();
    for (line, text) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let answer = match from_json_line(text) {
            Ok(request) => api.publish(request).map(Published::envelope),
            Err(error) => Err(ApiError::from(error)),
        };
        match answer {
            Ok(Some(envelope)) => {
                result.published += 1;
                result.first_seq = result.first_seq.or(Some(envelope.seq()));
                result.last_seq = Some(envelope.seq());
            }
            Ok(None) => result.filtered += 1,
            Err(error) => {
                result.refused += 1;
                let ErrorBody { code, message, .. } = ErrorBody::from(&error);
                if result.refused <= 100 {
                    result.errors.push(LineError {
                        line,
                        code,
                        message,
                    });
                }
            }
        }
    }
    let events = events(&session);
    (result, events)
}

/// The parts of the retained events that do not depend on the session's id and the clock.
fn events(session: &TelemetrySession) -> Vec<String> {
    let mut reader = session.new_reader(0);
    let mut events = Vec::new();
    while let Some(item) = reader.try_next() {
        events.push(match item {
            Item::Envelope(envelope) => {
                let event = envelope.event();
                format!("{} {:?} {:?}", envelope.seq(), event.event_type, event.data)
            }
            Item::Lost(lost) => format!("{lost:?}"),
        });
    }
    events
}

/// The body, cut after its line break number `n`, modulo their count.
fn in_two(body: &[u8], n: usize) -> Vec<&[u8]> {
    let breaks: Vec<usize> = body
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    match breaks.len() {
        0 => vec![body],
        len => {
            let (first, second) = body.split_at(breaks[n % len]);
            // Nothing follows the last line break, and an empty rest is not a line.
            if second.is_empty() {
                vec![first]
            } else {
                vec![first, second]
            }
        }
    }
}
