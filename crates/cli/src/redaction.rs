//! Events without their secrets, before anything is made of them.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use tapline_insight::{REDACTED, Sanitizer};
use tapline_oapi::{Envelope, EventType, KnownType};

/// Removes from events what the [`Sanitizer`] takes for a secret: in headers, addresses and bodies, and in fields whose
/// names suggest one, wherever in an event they are. A secret in free text is not recognised.
#[derive(Debug, Default)]
pub(crate) struct Redaction(Sanitizer);

/// Fields of known types that are no secrets, although their names suggest it: the browser's id of a connection, the key
/// that was pressed, and the code of a close or of a proxy.
const HARMLESS: [&str; 3] = ["session_id", "key", "code"];

impl Redaction {
    /// The same envelope without secrets.
    pub(crate) fn envelope(&self, envelope: &Envelope) -> Envelope {
        let mut envelope = envelope.clone();
        let event = &mut envelope.event;
        for (name, value) in &mut event.source.metadata {
            // The ids that Tapline itself adds are no secrets.
            if !["telemetry_session_id", "cdp_session_id"].contains(&name.as_str()) {
                match self.0.is_secret_name(name) {
                    true => REDACTED.clone_into(value),
                    false => *value = self.0.text(value).into_owned(),
                }
            }
        }
        let is_known = matches!(event.event_type, EventType::Known(_));
        // A picture is text without names.
        if event.event_type != EventType::Known(KnownType::MonitorScreenshot)
            && let Some(data) = &event.data
        {
            event.data = Some(self.data(data, is_known));
        }
        envelope
    }

    fn data(&self, data: &RawValue, is_known: bool) -> Box<RawValue> {
        let Ok(mut value) = serde_json::from_str::<Value>(data.get()) else {
            // Nested too deeply to be looked at.
            return redacted();
        };
        match &mut value {
            Value::Object(fields) if is_known => {
                for (name, value) in fields {
                    if HARMLESS.contains(&name.as_str()) {
                        self.value(value);
                    } else {
                        self.field(name, value);
                    }
                }
            }
            value => self.value(value),
        }
        to_raw_value(&value).unwrap_or_else(|_| redacted())
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.0.text(text).into_owned(),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            Value::Object(fields) => {
                let named_pair = is_named_pair(fields);
                for (name, value) in fields.iter_mut() {
                    self.field(name, value);
                }
                // Headers and cookies as a list of pairs.
                if named_pair
                    && let Some(Value::String(name)) = fields.get("name")
                    && (self.0.is_secret_name(name) || self.0.is_secret_header(name))
                {
                    fields.insert("value".to_owned(), REDACTED.into());
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn field(&self, name: &str, value: &mut Value) {
        if self.0.is_secret_name(name) || self.0.is_secret_header(name) {
            *value = REDACTED.into();
            return;
        }
        self.value(value);
    }
}

/// Whether it is `{"name":…,"value":…}`.
fn is_named_pair(fields: &Map<String, Value>) -> bool {
    fields.contains_key("value") && fields.get("name").is_some_and(Value::is_string)
}

fn redacted() -> Box<RawValue> {
    to_raw_value(REDACTED).expect("a text is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(event: &str) -> String {
        let line = format!(r#"{{"seq":1,"event":{event}}}"#);
        let envelope: Envelope = serde_json::from_str(&line).unwrap();
        serde_json::to_string(&Redaction::default().envelope(&envelope)).unwrap()
    }

    #[test]
    fn a_secret_is_removed_wherever_it_is() {
        for event in [
            r#"{"type":"network_request","category":"network","data":{"url":"http://h/?token=hunter2","headers":{"Cookie":"a=hunter2","Referer":"http://u:hunter2@h/"},"post_data":"{\"password\":\"hunter2\"}"}}"#,
            r#"{"type":"console_log","category":"console","data":{"text":"failed: (http://h/?a=1&access_token=hunter2) in x"}}"#,
            r#"{"type":"console_log","category":"console","data":{"text":"x","token":"hunter2"}}"#,
            r#"{"type":"mine","category":"page","data":{"a":[{"session_id":"hunter2"},{"name":"Cookie","value":"hunter2"}]}}"#,
            r#"{"type":"mine","category":"page","data":"http://h/#access_token=hunter2"}"#,
            r#"{"type":"mine","category":"page","source":{"kind":"cdp","metadata":{"api_key":"hunter2","u":"http://h/?key=hunter2"}}}"#,
        ] {
            let redacted = redact(event);
            assert!(!redacted.contains("hunter2"), "{redacted}");
            assert!(redacted.contains(REDACTED), "{redacted}");
        }
    }

    #[test]
    fn a_recording_without_secrets_is_unchanged() {
        for line in include_str!("../data/browser-events.ndjson").lines() {
            let line = format!(r#"{{"seq":1,"event":{line}}}"#);
            let envelope: Envelope = serde_json::from_str(&line).unwrap();
            let redacted = Redaction::default().envelope(&envelope);
            assert!(redacted.event.typed_data().is_ok(), "{line}");
            let value = |envelope: &Envelope| serde_json::to_value(envelope).unwrap();
            let (before, after) = (value(&envelope), value(&redacted));
            if !after.to_string().contains(REDACTED) {
                assert_eq!(before, after);
            }
        }
    }
}
