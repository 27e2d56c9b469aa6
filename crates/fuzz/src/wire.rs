//! The types that a client reads from a server: envelopes, notices, states, answers.
//!
//! The input is a name, a line break, and JSON. The name is that of a notice, `envelope`, `state`, `batch`, `error`, or a known
//! type, of whose data the JSON is.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tapline_oapi::data::EventData;
use tapline_oapi::{BatchResult, Envelope, ErrorBody, KnownType, Notice, State};

/// A value that can be read can be written, and is then read as the same value.
pub fn wire(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (name, json) = text.split_once('\n').unwrap_or((text, ""));
    match name {
        "envelope" => check::<Envelope>(json),
        "state" => check::<State>(json),
        "batch" => check::<BatchResult>(json),
        "error" => check::<ErrorBody>(json),
        name => match name.parse() {
            Ok(known) => check_data(known, json),
            Err(_) => check_notice(name, json),
        },
    }
}

fn check<T: DeserializeOwned + Serialize + PartialEq>(json: &str) {
    if let Ok(read) = serde_json::from_str::<T>(json) {
        let written = written(&read);
        let again = serde_json::from_str::<T>(&written).expect("what was written can be read");
        assert!(again == read, "{written} is read as a different value");
    }
}

fn check_notice(name: &str, json: &str) {
    match Notice::parse(name, json) {
        Ok(Some(notice)) => {
            assert_eq!(notice.name(), name);
            let again = Notice::parse(name, &written(&notice));
            assert_eq!(again.expect("what was written can be read"), Some(notice));
        }
        Ok(None) => assert!(!["hello", "gap", "session", "beat", "bye"].contains(&name)),
        Err(_) => {}
    }
}

fn check_data(known: KnownType, json: &str) {
    let Ok(data) = EventData::parse(known, json) else {
        return;
    };
    assert_eq!(data.known_type(), known);
    let once = written(&data);
    let again = EventData::parse(known, &once).expect("what was written can be read");
    let twice = written(&again);
    let [one, two] = [&once, &twice].map(|json| serde_json::from_str(json).expect("it is JSON"));
    assert!(is_same(&one, &two), "{once} is read as {twice}");
}

/// Whether both are equal, up to the last digit of a fraction, which `serde_json` may round differently.
fn is_same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| is_same(one, two))
        }
        (Value::Object(one), Value::Object(two)) => {
            one.len() == two.len()
                && one
                    .iter()
                    .all(|(key, one)| two.get(key).is_some_and(|two| is_same(one, two)))
        }
        (Value::Number(one), Value::Number(two)) => {
            one == two
                || one.as_f64().zip(two.as_f64()).is_some_and(|(one, two)| {
                    (one - two).abs() <= f64::EPSILON * one.abs().max(f64::MIN_POSITIVE)
                })
        }
        (one, two) => one == two,
    }
}

fn written(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("our own types serialize");
    assert!(crate::is_json(json.as_bytes()));
    json
}
