//! Everything that a viewer shows of a range, as one JSON: [`BundleWriter`].
//!
//! `{"name","events":[envelopes],"requests":[…],"navigations":[…],"problems":[…],"tally":{…}}`. The live page shows such a
//! file without a server. What was made of a HAR has no events, and `"har":{…}` with what that file says about itself.

use std::borrow::Cow;
use std::io;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tapline_oapi::joins::{At, RequestItem};
use tapline_oapi::{Envelope, Event};

use crate::har_file::{HarAbout, HarFile};
use crate::input::Input;
use crate::insight::{Finding, Insight, Options, Tally};
use crate::sanitize::{REDACTED, Sanitizer};

/// How many bytes of events a bundle has at most, and of joined items: a browser has to read it at once.
const MAX_EVENT_BYTES: usize = 256 * 1024 * 1024;
const MAX_ITEM_BYTES: usize = 64 * 1024 * 1024;

/// Fields of events and of joined items whose names suggest a secret, and that are none: the collector's ids, and codes of
/// errors.
const HARMLESS: [&str; 3] = ["session_id", "telemetry_session_id", "code"];

/// Writes events and what they are joined to as one JSON.
///
/// Events are written as they come. Joined items are kept until the end, since they change until then.
#[derive(Debug)]
pub struct BundleWriter<W> {
    out: W,
    sanitizer: Sanitizer,
    /// Whether the JSON is to be within a `script` element of HTML.
    in_html: bool,
    insight: Box<Insight>,
    items: Items,
    /// If it is made of a HAR.
    har: Option<HarAbout>,
    /// How many bytes of events were written.
    bytes: usize,
    buffer: Vec<u8>,
}

/// What does not change any more, as JSON.
#[derive(Debug, Default)]
struct Items {
    requests: Vec<(At, Vec<u8>)>,
    navigations: Vec<(At, Vec<u8>)>,
    problems: Vec<(At, Vec<u8>)>,
    bytes: usize,
}

impl<W: io::Write> BundleWriter<W> {
    /// Writes the beginning. `name` is that of the file that the events are of.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn new(out: W, name: &str, sanitizer: Sanitizer) -> io::Result<Self> {
        Self::begin(out, name, sanitizer, false)
    }

    /// The same, for the content of a `<script type="application/json">` in HTML: it has no `<`.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn in_html(out: W, name: &str, sanitizer: Sanitizer) -> io::Result<Self> {
        Self::begin(out, name, sanitizer, true)
    }

    fn begin(out: W, name: &str, sanitizer: Sanitizer, in_html: bool) -> io::Result<Self> {
        let mut bundle = Self {
            out,
            sanitizer,
            in_html,
            insight: Box::new(Insight::new(Options::default())),
            items: Items::default(),
            har: None,
            bytes: 0,
            buffer: Vec::new(),
        };
        bundle.buffer.extend_from_slice(b"{\"name\":");
        serde_json::to_writer(&mut bundle.buffer, name)?;
        bundle.buffer.extend_from_slice(b",\"events\":[");
        bundle.flush()?;
        Ok(bundle)
    }

    /// Takes the next piece of the stream.
    ///
    /// # Errors
    ///
    /// That of the writer, and [`FileTooLarge`](io::ErrorKind::FileTooLarge) for more than 256 MiB of events or 64 MiB of joined items.
    /// The file is not valid then.
    pub fn feed(&mut self, input: Input<'_>) -> io::Result<()> {
        let before = self.insight.tally().events;
        let (items, sanitizer) = (&mut self.items, &self.sanitizer);
        let mut kept = Ok(());
        self.insight.feed(input, &mut |finding| {
            if kept.is_ok() {
                kept = items.keep(&finding, sanitizer);
            }
        });
        kept?;
        match input {
            Input::Event(envelope) if before < self.insight.tally().events => self.event(envelope),
            _ => Ok(()),
        }
    }

    /// Takes what is in a HAR, which has no events.
    ///
    /// # Errors
    ///
    /// As of [`feed`](Self::feed).
    pub fn har(&mut self, har: HarFile) -> io::Result<()> {
        for finding in &har.findings {
            self.items.keep(finding, &self.sanitizer)?;
        }
        self.har = Some(har.about);
        Ok(())
    }

    /// Writes the end. Returns the writer, and what was read.
    ///
    /// # Errors
    ///
    /// As of [`feed`](Self::feed).
    pub fn finish(mut self) -> io::Result<(W, Tally)> {
        let insight = std::mem::replace(
            &mut self.insight,
            Box::new(Insight::new(Options::default())),
        );
        let (items, sanitizer) = (&mut self.items, &self.sanitizer);
        let mut kept = Ok(());
        let tally = insight.finish(&mut |finding| {
            if kept.is_ok() {
                kept = items.keep(&finding, sanitizer);
            }
        });
        kept?;
        let Items {
            requests,
            navigations,
            problems,
            ..
        } = std::mem::take(&mut self.items);
        for (name, mut items) in [
            ("requests", requests),
            ("navigations", navigations),
            ("problems", problems),
        ] {
            // They left in another order where there were many.
            items.sort_by_key(|(at, _)| *at);
            self.buffer
                .extend_from_slice(format!("],\"{name}\":[").as_bytes());
            for (n, (_, json)) in items.iter().enumerate() {
                self.buffer
                    .extend_from_slice(if n == 0 { b"\n" } else { b",\n" });
                self.buffer.extend_from_slice(json);
                self.flush()?;
            }
        }
        self.buffer.extend_from_slice(b"],\"tally\":");
        serde_json::to_writer(&mut self.buffer, &tally)?;
        if let Some(har) = &self.har {
            self.buffer.extend_from_slice(b",\"har\":");
            serde_json::to_writer(&mut self.buffer, har)?;
        }
        self.buffer.extend_from_slice(b"}\n");
        self.flush()?;
        self.out.flush()?;
        Ok((self.out, tally))
    }

    /// The writer.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn event(&mut self, envelope: &Envelope) -> io::Result<()> {
        #[derive(Serialize)]
        struct Written<'a> {
            seq: u64,
            event: &'a Event,
        }
        self.buffer
            .extend_from_slice(if self.bytes == 0 { b"\n" } else { b",\n" });
        let data = envelope.event.data.as_deref().map(RawValue::get);
        let sanitized = match data {
            Some(data) if self.sanitizer.is_on() => sanitized(data, &self.sanitizer)?,
            _ => None,
        };
        let event = match sanitized {
            Some(data) => Cow::Owned(Event {
                data: Some(data),
                ..without_data(&envelope.event)
            }),
            None => Cow::Borrowed(&envelope.event),
        };
        let written = Written {
            seq: envelope.seq,
            event: &event,
        };
        serde_json::to_writer(&mut self.buffer, &written)?;
        self.bytes += self.buffer.len();
        bounded(self.bytes, MAX_EVENT_BYTES, "events")?;
        self.flush()
    }

    /// Writes what is in the buffer.
    fn flush(&mut self) -> io::Result<()> {
        if !self.in_html {
            self.out.write_all(&self.buffer)?;
        } else {
            // In JSON there is a `<` only within a string, and there it may be written so.
            for (n, piece) in self.buffer.split(|byte| *byte == b'<').enumerate() {
                if 0 < n {
                    self.out.write_all(b"\\u003c")?;
                }
                self.out.write_all(piece)?;
            }
        }
        self.buffer.clear();
        Ok(())
    }
}

impl Items {
    fn keep(&mut self, finding: &Finding, sanitizer: &Sanitizer) -> io::Result<()> {
        let (list, at, value) = match finding {
            Finding::Request(it) => {
                let item = RequestItem::from(it.as_ref().clone());
                (&mut self.requests, it.at, serde_json::to_value(item)?)
            }
            Finding::Navigation(it) => (&mut self.navigations, it.at, serde_json::to_value(it)?),
            Finding::Problem(it) => (&mut self.problems, it.at, serde_json::to_value(it)?),
        };
        let mut value = value;
        if sanitizer.is_on() {
            sanitize(&mut value, sanitizer);
        }
        let json = serde_json::to_vec(&value)?;
        self.bytes += json.len();
        list.push((at, json));
        bounded(
            self.bytes,
            MAX_ITEM_BYTES,
            "requests, navigations and problems",
        )
    }
}

fn bounded(bytes: usize, most: usize, of_what: &str) -> io::Result<()> {
    if bytes <= most {
        return Ok(());
    }
    let most = most / 1024 / 1024;
    let message = format!("more than {most} MiB of {of_what}; choose a shorter range of time");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
}

/// The event without its data, which may be long.
fn without_data(event: &Event) -> Event {
    Event {
        ts: event.ts,
        event_type: event.event_type.clone(),
        category: event.category,
        source: event.source.clone(),
        data: None,
        truncated: event.truncated,
    }
}

/// The data without secrets. `None` where it stays as it is.
fn sanitized(data: &str, sanitizer: &Sanitizer) -> io::Result<Option<Box<RawValue>>> {
    let Ok(mut value) = serde_json::from_str::<Value>(data) else {
        // Nested too deep to be read as a value.
        let text = sanitizer.body(data).into_owned();
        return Ok(Some(RawValue::from_string(text)?));
    };
    match sanitize(&mut value, sanitizer) {
        true => Ok(Some(serde_json::value::to_raw_value(&value)?)),
        false => Ok(None),
    }
}

/// Removes secrets from the data of an event, or from a joined item. Returns whether there were any.
fn sanitize(value: &mut Value, sanitizer: &Sanitizer) -> bool {
    let mut changed = false;
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                changed |= sanitize_field(name, value, sanitizer);
            }
        }
        Value::Array(values) => {
            for value in values {
                changed |= sanitize(value, sanitizer);
            }
        }
        Value::String(text) => {
            let clean = sanitizer.body(&sanitizer.url(text)).into_owned();
            changed = clean != *text;
            *text = clean;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    changed
}

fn sanitize_field(name: &str, value: &mut Value, sanitizer: &Sanitizer) -> bool {
    match (name, &mut *value) {
        ("headers", Value::Object(headers)) => sanitize_headers(headers, sanitizer),
        // A picture is long, and has no names.
        ("png", _) => false,
        _ if HARMLESS.contains(&name) || !sanitizer.is_secret_name(name) => {
            sanitize(value, sanitizer)
        }
        (_, Value::Null | Value::Bool(_)) => false,
        _ => {
            *value = REDACTED.into();
            true
        }
    }
}

fn sanitize_headers(headers: &mut Map<String, Value>, sanitizer: &Sanitizer) -> bool {
    let mut changed = false;
    for (name, value) in headers {
        let Value::String(text) = value else {
            continue;
        };
        let clean = sanitizer.header(name, text).into_owned();
        changed |= clean != *text;
        *text = clean;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(data: &str) -> String {
        let data = sanitized(data, &Sanitizer::default()).unwrap();
        data.map_or("unchanged".to_owned(), |it| it.get().to_owned())
    }

    #[test]
    fn secrets_are_removed_by_their_names_and_the_rest_stays() {
        let harmless =
            r#"{"session_id":"S","target_id":"T","code":1006,"url":"http://h/?a=1","text":"fine"}"#;
        assert_eq!(clean(harmless), "unchanged");
        assert_eq!(
            clean(
                r#"{"headers":{"Cookie":"a=b","Referer":"http://h/?token=x"},"url":"http://u:p@h/?sid=1"}"#
            ),
            r#"{"headers":{"Cookie":"*redacted*","Referer":"http://h/?token=*redacted*"},"url":"http://*redacted*@h/?sid=*redacted*"}"#
        );
        assert_eq!(
            clean(r#"{"body":"{\"password\":\"x\"}","nested":[{"token":7}],"key":"s"}"#),
            r#"{"body":"{\"password\":\"*redacted*\"}","key":"*redacted*","nested":[{"token":"*redacted*"}]}"#
        );
    }

    #[test]
    fn what_is_nested_deep_is_sanitised_as_text() {
        let (open, close) = ("[".repeat(200), "]".repeat(200));
        let deep = format!(r#"{open}{{"token":"x"}}{close}"#);
        assert_eq!(clean(&deep), deep.replace("\"x\"", "\"*redacted*\""));
    }
}
