//! The hot path: encodes an envelope without owning the event.
//!
//! A derived serializer needs an owned [`Envelope`](crate::Envelope): with a stamp, each publish would
//! copy the event's metadata. These functions write the same bytes from a borrowed event. They copy a
//! string that needs no escape (nearly all) at once, and write the others through `serde_json`. A test
//! compares both.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::event::{Event, Source};
use crate::event_type::EventType;

/// The most bytes that the JSON of an envelope may have, seq and stamp included.
pub const MAX_ENVELOPE_BYTES: usize = 1_000_000;

/// Appends `{"seq":N,"event":{…}}`.
///
/// `ts` (Unix microseconds) replaces the event's own. `stamp`, a key and a value, is added to
/// `source.metadata` and replaces the producer's value of that key. The event is not changed.
///
/// The bytes are those that `serde_json` writes for the same [`Envelope`](crate::Envelope). They contain
/// no line break, except those that the producer wrote within `data`, which is copied unchanged.
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
    encode_head(out, seq, ts, event, stamp);
    out.extend_from_slice(data(event).as_bytes());
    out.extend_from_slice(tail(event).as_bytes());
}

/// Appends what [`encode_envelope`] puts before `data`: all that is not there already as JSON, or as a constant.
/// [`EnvelopeJson`] is the whole.
pub fn encode_head(
    out: &mut Vec<u8>,
    seq: u64,
    ts: u64,
    event: &Event,
    stamp: Option<(&str, &str)>,
) {
    out.extend_from_slice(b"{\"seq\":");
    integer(out, seq);
    out.extend_from_slice(b",\"event\":");
    event_head(out, ts, event, stamp);
}

/// Appends the event alone, `{"ts":…}`: the value of `"event"` in an envelope. Otherwise as
/// [`encode_envelope`].
pub fn encode_event(out: &mut Vec<u8>, ts: u64, event: &Event, stamp: Option<(&str, &str)>) {
    event_head(out, ts, event, stamp);
    out.extend_from_slice(data(event).as_bytes());
    // The last brace is the envelope's.
    let tail = tail(event);
    out.extend_from_slice(&tail.as_bytes()[..tail.len() - 1]);
}

fn event_head(out: &mut Vec<u8>, ts: u64, event: &Event, stamp: Option<(&str, &str)>) {
    out.extend_from_slice(b"{\"ts\":");
    integer(out, ts);
    match &event.event_type {
        // Our own names need no escape.
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
    if event.data.is_some() {
        out.extend_from_slice(b",\"data\":");
    }
}

fn data(event: &Event) -> &str {
    event.data.as_ref().map_or("", |data| data.get())
}

/// What ends an envelope, behind `data`.
fn tail(event: &Event) -> &'static str {
    if event.truncated {
        r#","truncated":true}}"#
    } else {
        "}}"
    }
}

/// The JSON of an envelope, lent in its parts: what is before `data`, `data` as its producer wrote it, and the end. So `data`,
/// most of the bytes, is copied once: to where it is written.
///
/// One that was stored as a whole is a single part.
#[derive(Clone, Copy)]
pub struct EnvelopeJson<'a> {
    head: &'a str,
    data: &'a str,
    tail: &'static str,
}

impl<'a> EnvelopeJson<'a> {
    /// Of an event, with what [`encode_head`] has made of it.
    #[must_use]
    pub fn new(head: &'a str, event: &'a Event) -> Self {
        Self {
            head,
            data: data(event),
            tail: tail(event),
        }
    }

    /// One after the other they are the JSON. Some may be empty.
    #[must_use]
    pub fn parts(self) -> [&'a str; 3] {
        [self.head, self.data, self.tail]
    }

    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an envelope is never empty")]
    pub fn len(self) -> usize {
        self.head.len() + self.data.len() + self.tail.len()
    }

    /// Appends it.
    pub fn append_to(self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        for part in self.parts() {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// In one piece: copied, unless it is one already.
    #[must_use]
    pub fn whole(self) -> Cow<'a, str> {
        match (self.data, self.tail) {
            ("", "") => Cow::Borrowed(self.head),
            _ => Cow::Owned(self.parts().concat()),
        }
    }
}

/// Stored as a whole.
impl<'a> From<&'a str> for EnvelopeJson<'a> {
    fn from(whole: &'a str) -> Self {
        Self {
            head: whole,
            data: "",
            tail: "",
        }
    }
}

impl fmt::Display for EnvelopeJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts()
            .into_iter()
            .try_for_each(|part| f.write_str(part))
    }
}

impl fmt::Debug for EnvelopeJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.whole(), f)
    }
}

/// An upper bound of the bytes that [`encode_envelope`] appends, for any seq and ts. It is used to reserve
/// memory, and to know cheaply that an event is far below [`MAX_ENVELOPE_BYTES`].
///
/// Not tight: it counts every byte of a string as escaped.
#[must_use]
#[inline]
pub fn encoded_len_at_most(event: &Event, stamp: Option<(&str, &str)>) -> usize {
    /// All fixed text: every optional field, the longest names that we define, and two integers of 20
    /// digits.
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
    // Most events have none, and an iterator over an empty map costs time in every publish.
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

/// The field of an event that takes most of its envelope, besides `data`: what to shorten where the envelope is
/// over [`MAX_ENVELOPE_BYTES`] although its data was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LargestField {
    /// `type`
    Type,
    /// `source.event`
    SourceEvent,
    /// `source.metadata`, all of its entries together.
    SourceMetadata,
}

impl LargestField {
    /// The one of this event. Of equal ones the first in the order above.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let encoded = |text: &str| {
            let mut bytes = Vec::new();
            string(&mut bytes, text);
            bytes.len()
        };
        let metadata = event.source.metadata.iter();
        let sizes = [
            (Self::Type, encoded(event.event_type.as_str())),
            (
                Self::SourceEvent,
                event.source.event.as_deref().map_or(0, encoded),
            ),
            (
                Self::SourceMetadata,
                metadata
                    .map(|(key, value)| encoded(key) + encoded(value))
                    .sum(),
            ),
        ];
        let (mut largest, mut most) = sizes[0];
        for (field, size) in sizes {
            if most < size {
                (largest, most) = (field, size);
            }
        }
        largest
    }
}

/// The path of the field, as a producer writes it.
impl fmt::Display for LargestField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Type => "type",
            Self::SourceEvent => "source.event",
            Self::SourceMetadata => "source.metadata",
        })
    }
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

/// Writes the entries in the order of their keys, the stamp included.
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
    // No early exit and no branch, so that the compiler vectorizes it.
    text.bytes()
        .fold(false, |found, byte| found | escaped(byte))
}

fn integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
