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
    head(out, seq, ts, event, stamp);
    out.put(data(event));
    out.put(tail(event));
}

/// Appends what [`encode_envelope`] puts before `data`: all that is not there already as JSON, or as a constant.
/// [`EnvelopeJson`] is the whole.
pub fn encode_head(
    out: &mut String,
    seq: u64,
    ts: u64,
    event: &Event,
    stamp: Option<(&str, &str)>,
) {
    head(out, seq, ts, event, stamp);
}

/// Appends the event alone, `{"ts":…}`: the value of `"event"` in an envelope. Otherwise as
/// [`encode_envelope`].
pub fn encode_event(out: &mut Vec<u8>, ts: u64, event: &Event, stamp: Option<(&str, &str)>) {
    event_head(out, ts, event, stamp);
    out.put(data(event));
    // The last brace is the envelope's.
    let tail = tail(event);
    out.put(&tail[..tail.len() - 1]);
}

/// What is encoded into: bytes to send, or a text to keep, which then needs no check that it is UTF-8.
trait Out {
    fn put(&mut self, text: &str);
}

impl Out for Vec<u8> {
    #[inline]
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Out for String {
    #[inline]
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

fn head(out: &mut impl Out, seq: u64, ts: u64, event: &Event, stamp: Option<(&str, &str)>) {
    out.put("{\"seq\":");
    integer(out, seq);
    out.put(",\"event\":");
    event_head(out, ts, event, stamp);
}

fn event_head(out: &mut impl Out, ts: u64, event: &Event, stamp: Option<(&str, &str)>) {
    out.put("{\"ts\":");
    integer(out, ts);
    match &event.event_type {
        // Our own names need no escape.
        EventType::Known(known) => {
            out.put(",\"type\":\"");
            out.put(known.as_str());
            out.put("\"");
        }
        EventType::Custom(name) => {
            out.put(",\"type\":");
            string(out, name);
        }
    }
    out.put(",\"category\":\"");
    out.put(event.category.as_str());
    out.put("\",\"source\":");
    source(out, &event.source, stamp);
    if event.data.is_some() {
        out.put(",\"data\":");
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

fn source(out: &mut impl Out, source: &Source, stamp: Option<(&str, &str)>) {
    out.put("{\"kind\":\"");
    out.put(source.kind.as_str());
    out.put("\"");
    if let Some(name) = source.event.as_deref().filter(|name| !name.is_empty()) {
        out.put(",\"event\":");
        string(out, name);
    }
    if stamp.is_some() || !source.metadata.is_empty() {
        out.put(",\"metadata\":{");
        metadata(out, &source.metadata, stamp);
        out.put("}");
    }
    out.put("}");
}

/// Writes the entries in the order of their keys, the stamp included.
fn metadata(
    out: &mut impl Out,
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

fn entry(out: &mut impl Out, first: &mut bool, key: &str, value: &str) {
    if !std::mem::take(first) {
        out.put(",");
    }
    string(out, key);
    out.put(":");
    string(out, value);
}

fn string(out: &mut impl Out, text: &str) {
    if needs_escape(text) {
        out.put(&serde_json::to_string(text).expect("a str is always JSON"));
        return;
    }
    out.put("\"");
    out.put(text);
    out.put("\"");
}

/// JSON escapes quotes, backslashes and control characters below 0x20.
///
/// Most strings here have some 10 to 40 bytes. So they are looked at in pieces of 16 or 8 bytes, and the last one overlaps
/// with the one before: only what is shorter is looked at byte by byte.
fn needs_escape(text: &str) -> bool {
    /// No early exit and no branch, so that the compiler makes it a few vector instructions where the length is constant.
    #[inline(always)]
    fn is_escaped_in(bytes: &[u8]) -> bool {
        let is_escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        bytes
            .iter()
            .fold(false, |found, byte| found | is_escaped(*byte))
    }
    let bytes = text.as_bytes();
    if let Some(last) = bytes.last_chunk::<16>() {
        let (pieces, _) = bytes.as_chunks::<16>();
        return is_escaped_in(last) || pieces.iter().any(|piece| is_escaped_in(piece));
    }
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => is_escaped_in(first) | is_escaped_in(last),
        _ => is_escaped_in(bytes),
    }
}

fn integer(out: &mut impl Out, value: u64) {
    out.put(itoa::Buffer::new().format(value));
}
