//! The hot path: an event's envelope straight into bytes.
//!
//! A derived serializer wants an owned [`Envelope`](crate::Envelope), which for a stamped event
//! would mean a copy of its metadata for each publish. These functions write the same bytes from a
//! borrowed event: the fixed text by hand, a string that needs no escape (nearly all) in one copy,
//! the rare other one through `serde_json`. A test holds both against each other.

use std::collections::BTreeMap;

use crate::event::{Event, Source};
use crate::event_type::EventType;

/// The most bytes that the JSON of an envelope may have, seq and stamp included.
pub const MAX_ENVELOPE_BYTES: usize = 1_000_000;

/// Appends `{"seq":N,"event":{…}}`.
///
/// `ts` (Unix microseconds) takes the place of the event's own. `stamp`, a key and a value, is put
/// into `source.metadata`, over a value that the producer gave that key. The event is not touched.
///
/// The bytes are those that `serde_json` makes of the [`Envelope`](crate::Envelope) that says the
/// same. They hold no line break other than one that the producer wrote within `data`, which is
/// copied as it is.
///
/// ```
/// use tapline_oapi::encode::encode_envelope;
/// use tapline_oapi::{Event, KnownType};
///
/// let mut line = Vec::new();
/// let event = Event::known(KnownType::NetworkIdle, None);
/// encode_envelope(&mut line, 7, 1_795_349_358_733_796, &event, Some(("telemetry_session_id", "s1")));
/// assert_eq!(
///     String::from_utf8(line)?,
///     concat!(
///         r#"{"seq":7,"event":{"ts":1795349358733796,"type":"network_idle","category":"network","#,
///         r#""source":{"kind":"local_process","metadata":{"telemetry_session_id":"s1"}}}}"#,
///     ),
/// );
/// # Ok::<(), std::string::FromUtf8Error>(())
/// ```
pub fn encode_envelope(
    out: &mut Vec<u8>,
    seq: u64,
    ts: u64,
    event: &Event,
    stamp: Option<(&str, &str)>,
) {
    out.extend_from_slice(b"{\"seq\":");
    integer(out, seq);
    out.extend_from_slice(b",\"event\":");
    encode_event(out, ts, event, stamp);
    out.push(b'}');
}

/// Appends the event alone, `{"ts":…}`: what stands in an envelope after `"event":`, whatever the
/// seq turns out to be. Otherwise as [`encode_envelope`].
pub fn encode_event(out: &mut Vec<u8>, ts: u64, event: &Event, stamp: Option<(&str, &str)>) {
    out.extend_from_slice(b"{\"ts\":");
    integer(out, ts);
    match &event.event_type {
        // Names of our own need no escape.
        EventType::Known(known) => {
            out.extend_from_slice(b",\"type\":\"");
            out.extend_from_slice(known.as_str().as_bytes());
            out.push(b'"');
        }
        EventType::Custom(name) => {
            out.extend_from_slice(b",\"type\":");
            string(out, name);
        }
    }
    out.extend_from_slice(b",\"category\":\"");
    out.extend_from_slice(event.category.as_str().as_bytes());
    out.extend_from_slice(b"\",\"source\":");
    source(out, &event.source, stamp);
    if let Some(data) = &event.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.get().as_bytes());
    }
    if event.truncated {
        out.extend_from_slice(b",\"truncated\":true");
    }
    out.push(b'}');
}

/// No fewer bytes than [`encode_envelope`] appends, for any seq and ts: for reserving, and for
/// knowing cheaply that an event is far below [`MAX_ENVELOPE_BYTES`].
///
/// Not tight: it takes every character of a string for one that is escaped.
#[must_use]
#[inline]
pub fn encoded_len_at_most(event: &Event, stamp: Option<(&str, &str)>) -> usize {
    /// All the fixed text, with every optional field there, the longest names of our own, and both
    /// integers at their 20 digits.
    const FIXED: usize = concat!(
        r#"{"seq":18446744073709551615,"event":{"ts":18446744073709551615,"type":"","#,
        r#""category":"interaction","source":{"kind":"local_process","event":"","metadata":{}},"#,
        r#""data":,"truncated":true}}"#,
    )
    .len();
    /// `"":"",` around a key and its value.
    const ENTRY: usize = 6;
    /// The longest escape, `\u001f`, of a one-byte character.
    const ESCAPE: usize = 6;

    let stamp = stamp.map_or(0, |(key, value)| ENTRY + ESCAPE * (key.len() + value.len()));
    let mut metadata = 0;
    // Most have none, and this stands in every publish: an iterator over nothing is not free.
    if !event.source.metadata.is_empty() {
        for (key, value) in &event.source.metadata {
            metadata += ENTRY + ESCAPE * (key.len() + value.len());
        }
    }
    let texts =
        event.event_type.as_str().len() + event.source.event.as_ref().map_or(0, String::len);
    FIXED
        + stamp
        + metadata
        + ESCAPE * texts
        + event.data.as_ref().map_or(0, |data| data.get().len())
}

fn source(out: &mut Vec<u8>, source: &Source, stamp: Option<(&str, &str)>) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(source.kind.as_str().as_bytes());
    out.push(b'"');
    if let Some(name) = source.event.as_deref().filter(|name| !name.is_empty()) {
        out.extend_from_slice(b",\"event\":");
        string(out, name);
    }
    if stamp.is_some() || !source.metadata.is_empty() {
        out.extend_from_slice(b",\"metadata\":{");
        metadata(out, &source.metadata, stamp);
        out.push(b'}');
    }
    out.push(b'}');
}

/// Writes the entries in the order of their keys, the stamp at the place of its key.
fn metadata(
    out: &mut Vec<u8>,
    metadata: &BTreeMap<String, String>,
    mut stamp: Option<(&str, &str)>,
) {
    let mut first = true;
    for (key, value) in metadata {
        if let Some((stamp_key, stamp_value)) = stamp
            && stamp_key <= key.as_str()
        {
            entry(out, &mut first, stamp_key, stamp_value);
            stamp = None;
            if stamp_key == key {
                continue;
            }
        }
        entry(out, &mut first, key, value);
    }
    if let Some((key, value)) = stamp {
        entry(out, &mut first, key, value);
    }
}

fn entry(out: &mut Vec<u8>, first: &mut bool, key: &str, value: &str) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    string(out, key);
    out.push(b':');
    string(out, value);
}

fn string(out: &mut Vec<u8>, text: &str) {
    if needs_escape(text) {
        serde_json::to_writer(out, text)
            .expect("a Vec takes every write, and a str is always JSON");
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// JSON escapes quotes, backslashes and control characters below 0x20.
fn needs_escape(text: &str) -> bool {
    let escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // No early exit and no branch: the compiler makes vector code of it.
    text.bytes()
        .fold(false, |found, byte| found | escaped(byte))
}

fn integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
