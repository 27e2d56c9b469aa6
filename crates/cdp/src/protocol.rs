//! The messages of the DevTools protocol, as far as they are used, borrowed from the message's text.
//!
//! [`head`] looks at the first bytes of a message, which is all that an unknown method costs. A known
//! message is then read once, into a struct that has only the fields that are used.
//!
//! Ids and words of the protocol are a [`Text`]. Whatever a page or a server can choose is a
//! [`PageText`], because it can have any length: it stays as it is in the message, and only as much of
//! it is decoded as is kept. Arrays that a page can choose are a [`FirstN`] for the same reason.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use crate::find::find;
use crate::json::{self, Raw, unescaped};
use crate::redact::cut;
use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub(crate) use crate::json::read;

/// The most arguments of a console call that are read.
const MAX_ARGS: usize = 1000;

/// The most calls of a stack trace that are read.
const MAX_FRAMES: usize = 64;

/// The most properties or entries of a preview that are read. The browser sends no more, except for
/// `console.table`.
const MAX_PROPERTIES: usize = 100;

/// The most frames within a frame that are read.
const MAX_CHILDREN: usize = 1000;

/// The most headers of a request or response that are read.
const MAX_HEADERS: usize = 1000;

/// The kind of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// An event of this method.
    Event(Cow<'a, str>),
    /// The answer to the command with this id.
    Answer(u64),
}

/// Finds the kind of a message. `None` if it is not a message of the protocol.
///
/// The browser writes `method` and `id` first. If they are elsewhere, the whole message is read.
pub(crate) fn head(message: &str) -> Option<Head<'_>> {
    const METHOD: &str = r#"{"method":""#;
    const ID: &str = r#"{"id":"#;

    if let Some(rest) = message.strip_prefix(METHOD) {
        let end = find(rest.as_bytes(), 0, *b"\"\\")?;
        if rest.as_bytes()[end] == b'"' {
            return Some(Head::Event(Cow::Borrowed(&rest[..end])));
        }
    } else if let Some(rest) = message.strip_prefix(ID) {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        if let (Ok(id), b',' | b'}') = (rest[..end].parse(), rest.as_bytes()[end]) {
            return Some(Head::Answer(id));
        }
    }

    #[derive(Deserialize)]
    struct Slow<'a> {
        id: Option<u64>,
        #[serde(borrow)]
        method: Option<Text<'a>>,
    }
    let slow: Slow<'_> = read(message).ok()?;
    match (slow.id, slow.method) {
        (Some(id), _) => Some(Head::Answer(id)),
        (None, Some(method)) => Some(Head::Event(method.0)),
        (None, None) => None,
    }
}

/// An event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a, P> {
    /// The session of its target; none for the browser itself.
    #[serde(borrow)]
    pub(crate) session_id: Option<Text<'a>>,
    pub(crate) params: P,
}

/// The answer to a command.
#[derive(Deserialize)]
pub(crate) struct Answer<R> {
    // Explicit, because the derive would require `R: Default`.
    #[serde(default = "Option::default")]
    pub(crate) result: Option<R>,
    pub(crate) error: Option<CommandError>,
}

#[derive(Deserialize)]
pub(crate) struct CommandError {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) code: i64,
}

impl CommandError {
    /// The session that the command was for has ended. This is not a failure.
    pub(crate) const NO_SESSION: i64 = -32001;
}

/// A short text: an id, or a word of the protocol.
///
/// A JavaScript string may contain half of a surrogate pair, and the browser sends it as it is. As a
/// `str` the message could not be read, so the half becomes U+FFFD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl<'de> Visitor<'de> for Word {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Word)
    }
}

/// A number exactly as the browser wrote it, and zero for one out of range. `serde_json` reads floats
/// fast, and sometimes with a wrong last digit, which is a microsecond here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Float(pub(crate) f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lenient(deserializer).map(Self)
    }
}

/// What a number of the protocol is read as. `None` for one of another kind or out of range.
trait Number: Default {
    fn of(json: &str) -> Option<Self>;
}

impl Number for f64 {
    fn of(json: &str) -> Option<Self> {
        json.parse().ok().filter(|number: &Self| number.is_finite())
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn of(json: &str) -> Option<Self> {
                // `7.0` and `7e0` are 7, too.
                json.parse().ok().or_else(|| {
                    let number = f64::of(json).filter(|it| it.fract() == 0.0 && it.abs() < 1e15)?;
                    format!("{number}").parse().ok()
                })
            }
        }
    )*};
}

whole_numbers!(u8, u32, u64, i64);

/// Reads a number, and zero for one of another kind or out of range: a strange number must not cost the
/// message.
fn lenient<'de, D: Deserializer<'de>, N: Number>(deserializer: D) -> Result<N, D::Error> {
    let raw = Raw::deserialize(deserializer)?.0;
    if let [b'-' | b'0'..=b'9', ..] = raw.as_bytes() {
        Ok(N::of(raw).unwrap_or_default())
    } else {
        Err(D::Error::custom("not a number"))
    }
}

/// The same where the number may be missing; then it is `None`, as is every strange number.
fn lenient_option<'de, D: Deserializer<'de>, N: Number>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    let raw = Option::<Raw<'_>>::deserialize(deserializer)?;
    Ok(raw.and_then(|raw| N::of(raw.0)))
}

/// The same for timings, which are `None` as a whole.
fn lenient_timing<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ResourceTiming>, D::Error> {
    let raw = Option::<Raw<'_>>::deserialize(deserializer)?;
    Ok(raw.and_then(|raw| read(raw.0).ok()))
}

/// The corners of a box.
fn quad<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 8], D::Error> {
    <[Float; 8]>::deserialize(deserializer).map(|corners| corners.map(|it| it.0))
}

/// A text of any length, which a page or a server chose: what is between the quotes in the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageText<'a>(&'a str);

/// The beginning of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beginning<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Whether the text continues.
    pub(crate) is_cut: bool,
}

impl<'a> Beginning<'a> {
    /// No more than `limit` bytes of a text.
    pub(crate) fn of(text: &'a str, limit: usize) -> Self {
        let beginning = cut(text, limit);
        Self {
            text: Cow::Borrowed(beginning),
            is_cut: beginning.len() < text.len(),
        }
    }
}

impl<'a> PageText<'a> {
    /// The text of a JSON value, if it is a string.
    pub(crate) fn of(json: Raw<'a>) -> Option<Self> {
        let text = json.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(Self(text))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is this text, which needs no escapes.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.0 == text
    }

    /// The length of all of it in bytes, decoded.
    pub(crate) fn decoded_len(&self) -> usize {
        let mut length = self.0.len();
        let mut at = 0;
        while let Some(escape) = find(self.0.as_bytes(), at, [b'\\']) {
            let (decoded, escaped) = unescaped(&self.0[escape..]);
            length = length + decoded.len_utf8() - escaped;
            at = escape + escaped;
        }
        length
    }

    /// How many bytes it stands for, if it is base64.
    pub(crate) fn base64_len(&self) -> usize {
        let padding = ["==", "="].iter().find(|it| self.0.ends_with(*it));
        (self.decoded_len() / 4 * 3).saturating_sub(padding.map_or(0, |it| it.len()))
    }

    /// Whether it begins with this text, which needs no escapes.
    pub(crate) fn starts_with(&self, text: &str) -> bool {
        self.0.starts_with(text)
    }

    /// Decodes no more than `limit` bytes. Copies only if they contain an escape.
    pub(crate) fn beginning(&self, limit: usize) -> Beginning<'a> {
        let (text, is_cut) = json::decoded(self.0, limit);
        Beginning { text, is_cut }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PageText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Raw::deserialize(deserializer)?;
        Self::of(json).ok_or_else(|| D::Error::custom("not a string"))
    }
}

/// The first elements of an array, at most `N`. The others are not kept, only counted.
#[derive(Debug)]
pub(crate) struct FirstN<T, const N: usize> {
    pub(crate) items: Vec<T>,
    pub(crate) skipped: usize,
}

impl<T, const N: usize> Default for FirstN<T, N> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            skipped: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for FirstN<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array<T, const N: usize>(FirstN<T, N>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Array<T, N> {
            type Value = FirstN<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
                while self.0.items.len() < N {
                    match seq.next_element()? {
                        Some(item) => self.0.items.push(item),
                        None => return Ok(self.0),
                    }
                }
                while let Some(IgnoredAny) = seq.next_element()? {
                    self.0.skipped += 1;
                }
                Ok(self.0)
            }
        }

        deserializer.deserialize_seq(Array(FirstN::default()))
    }
}

/// Headers in the browser's order, at most [`MAX_HEADERS`].
#[derive(Debug, Default)]
pub(crate) struct Headers<'a>(pub(crate) Vec<(Text<'a>, PageText<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers<'de>, A::Error> {
                // What a usual request has.
                let mut headers = Vec::with_capacity(16);
                while headers.len() < MAX_HEADERS {
                    match map.next_entry()? {
                        Some(header) => headers.push(header),
                        None => return Ok(Headers(headers)),
                    }
                }
                while let Some((IgnoredAny, IgnoredAny)) = map.next_entry()? {}
                Ok(Headers(headers))
            }
        }

        deserializer.deserialize_map(Map)
    }
}

// Target.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttachedToTarget<'a> {
    #[serde(borrow)]
    pub(crate) session_id: Text<'a>,
    pub(crate) target_info: TargetInfo<'a>,
    #[serde(default)]
    pub(crate) waiting_for_debugger: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetCreated<'a> {
    #[serde(borrow)]
    pub(crate) target_info: TargetInfo<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetInfo<'a> {
    #[serde(borrow)]
    pub(crate) target_id: Text<'a>,
    #[serde(rename = "type")]
    pub(crate) kind: Text<'a>,
    #[serde(default)]
    pub(crate) title: PageText<'a>,
    #[serde(default)]
    pub(crate) url: PageText<'a>,
    pub(crate) opener_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DetachedFromTarget<'a> {
    #[serde(borrow)]
    pub(crate) session_id: Text<'a>,
}

// Runtime.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConsoleApiCalled<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) level: Text<'a>,
    #[serde(default)]
    pub(crate) args: FirstN<RemoteObject<'a>, MAX_ARGS>,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    pub(crate) stack_trace: Option<StackTrace<'a>>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) execution_context_id: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoteObject<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Text<'a>,
    pub(crate) subtype: Option<Text<'a>>,
    pub(crate) value: Option<Raw<'a>>,
    pub(crate) unserializable_value: Option<PageText<'a>>,
    pub(crate) class_name: Option<PageText<'a>>,
    pub(crate) description: Option<PageText<'a>>,
    pub(crate) object_id: Option<IgnoredAny>,
    /// An [`ObjectPreview`], which is read only if there is space for it.
    pub(crate) preview: Option<Raw<'a>>,
}

/// The first properties of an object, or the first entries of a map or a set.
#[derive(Deserialize)]
pub(crate) struct ObjectPreview<'a> {
    #[serde(borrow, rename = "type", default)]
    pub(crate) kind: Text<'a>,
    pub(crate) subtype: Option<Text<'a>>,
    #[serde(default)]
    pub(crate) description: PageText<'a>,
    /// Whether there are more properties or entries.
    #[serde(default)]
    pub(crate) overflow: bool,
    #[serde(default)]
    pub(crate) properties: FirstN<PropertyPreview<'a>, MAX_PROPERTIES>,
    pub(crate) entries: Option<FirstN<EntryPreview<'a>, MAX_PROPERTIES>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PropertyPreview<'a> {
    #[serde(borrow, default)]
    pub(crate) name: PageText<'a>,
    #[serde(rename = "type", default)]
    pub(crate) kind: Text<'a>,
    pub(crate) subtype: Option<Text<'a>>,
    /// As text, abbreviated; of an object, what it is.
    pub(crate) value: Option<PageText<'a>>,
    /// An [`ObjectPreview`]. Only `console.table` sends it.
    pub(crate) value_preview: Option<Raw<'a>>,
}

/// An entry of a map, or of a set, whose entries have no key. Both are an [`ObjectPreview`].
#[derive(Deserialize)]
pub(crate) struct EntryPreview<'a> {
    #[serde(borrow)]
    pub(crate) key: Option<Raw<'a>>,
    pub(crate) value: Raw<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StackTrace<'a> {
    #[serde(borrow)]
    pub(crate) description: Option<PageText<'a>>,
    #[serde(default)]
    pub(crate) call_frames: FirstN<CallFrame<'a>, MAX_FRAMES>,
    pub(crate) parent: Option<Box<StackTrace<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallFrame<'a> {
    #[serde(borrow, default)]
    pub(crate) function_name: PageText<'a>,
    #[serde(default)]
    pub(crate) script_id: Text<'a>,
    #[serde(default)]
    pub(crate) url: PageText<'a>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) line_number: i64,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) column_number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExceptionThrown<'a> {
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    #[serde(borrow)]
    pub(crate) exception_details: ExceptionDetails<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExceptionDetails<'a> {
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) exception_id: Option<u64>,
    #[serde(borrow, default)]
    pub(crate) text: PageText<'a>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) line_number: Option<i64>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) column_number: Option<i64>,
    pub(crate) url: Option<PageText<'a>>,
    pub(crate) stack_trace: Option<StackTrace<'a>>,
    pub(crate) exception: Option<RemoteObject<'a>>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) execution_context_id: Option<i64>,
}

/// A rejection was handled after it was reported as an exception.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExceptionRevoked<'a> {
    #[serde(borrow, default)]
    pub(crate) reason: PageText<'a>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) exception_id: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct ExecutionContextCreated<'a> {
    #[serde(borrow)]
    pub(crate) context: ExecutionContext<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecutionContext<'a> {
    /// Unique in the process of its target.
    #[serde(deserialize_with = "lenient")]
    pub(crate) id: i64,
    #[serde(borrow, default)]
    pub(crate) name: PageText<'a>,
    /// Unique in the browser.
    #[serde(default)]
    pub(crate) unique_id: Text<'a>,
    #[serde(default)]
    pub(crate) aux_data: AuxData<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuxData<'a> {
    /// None in a worker.
    #[serde(borrow)]
    pub(crate) frame_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecutionContextDestroyed {
    #[serde(deserialize_with = "lenient")]
    pub(crate) execution_context_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BindingCalled<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    pub(crate) payload: PageText<'a>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) execution_context_id: Option<i64>,
}

// Log.

#[derive(Deserialize)]
pub(crate) struct LogEntryAdded<'a> {
    #[serde(borrow)]
    pub(crate) entry: LogEntry<'a>,
}

/// A line that the browser itself writes to the console.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogEntry<'a> {
    #[serde(borrow)]
    pub(crate) source: Text<'a>,
    pub(crate) level: Text<'a>,
    #[serde(default)]
    pub(crate) text: PageText<'a>,
    /// Milliseconds since the Unix epoch.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    pub(crate) url: Option<PageText<'a>>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) line_number: Option<i64>,
    pub(crate) stack_trace: Option<StackTrace<'a>>,
    #[serde(default)]
    pub(crate) args: FirstN<RemoteObject<'a>, MAX_ARGS>,
}

// Network.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestWillBeSent<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    #[serde(default)]
    pub(crate) loader_id: Text<'a>,
    #[serde(default, rename = "documentURL")]
    pub(crate) document_url: PageText<'a>,
    pub(crate) request: Request<'a>,
    #[serde(default)]
    pub(crate) initiator: Initiator<'a>,
    pub(crate) redirect_response: Option<RedirectResponse<'a>>,
    /// Seconds of the browser's monotonic clock.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    #[serde(rename = "type")]
    pub(crate) resource_type: Option<Text<'a>>,
    pub(crate) frame_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) url: PageText<'a>,
    pub(crate) method: PageText<'a>,
    #[serde(default)]
    pub(crate) headers: Headers<'a>,
    pub(crate) post_data: Option<PageText<'a>>,
    /// Also if `post_data` is too long to be reported, or is no text.
    #[serde(default)]
    pub(crate) has_post_data: bool,
}

/// What the network stack has sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestExtraInfo<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    #[serde(default)]
    pub(crate) headers: SentHeaders,
}

/// Whether a [`RequestExtraInfo`] may have the header that is used. Most have not, and are not read.
pub(crate) fn has_content_length(message: &str) -> bool {
    memmem::find(message.as_bytes(), br#""Content-Length""#).is_some()
}

/// Of the headers on the wire, the one that is used.
#[derive(Default, Deserialize)]
pub(crate) struct SentHeaders {
    #[serde(
        default,
        rename = "Content-Length",
        alias = "content-length",
        deserialize_with = "quoted_number"
    )]
    pub(crate) content_length: Option<u64>,
}

/// Reads a number that is written as a string, such as a header.
fn quoted_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let raw = Raw::deserialize(deserializer)?.0;
    Ok(raw.trim_matches('"').parse().ok())
}

/// The answer to `Network.getRequestPostData`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PostData<'a> {
    #[serde(borrow)]
    pub(crate) post_data: PageText<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Initiator<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Text<'a>,
    /// Of a parser: the document.
    pub(crate) url: Option<PageText<'a>>,
    /// From 0.
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) line_number: Option<f64>,
    /// Of a script.
    pub(crate) stack: Option<InitiatorStack<'a>>,
}

/// Of the stack of an initiator, what is used: the function that asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InitiatorStack<'a> {
    #[serde(borrow, default)]
    call_frames: FirstN<InitiatorFrame<'a>, 1>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitiatorFrame<'a> {
    #[serde(borrow, default)]
    url: PageText<'a>,
    #[serde(default, deserialize_with = "lenient_option")]
    line_number: Option<f64>,
}

impl<'a> Initiator<'a> {
    /// The file that caused the request, and the line in it, from 1.
    pub(crate) fn place(&self) -> Option<(&PageText<'a>, Option<u64>)> {
        let frame = self
            .stack
            .as_ref()
            .and_then(|it| it.call_frames.items.first());
        let (url, line) = match (frame, &self.url) {
            (Some(frame), _) => (&frame.url, frame.line_number),
            (None, Some(url)) => (url, self.line_number),
            (None, None) => return None,
        };
        let is_named = 0 < url.decoded_len();
        // A float that does not fit saturates.
        is_named.then(|| {
            (
                url,
                line.filter(|line| 0.0 <= *line)
                    .map(|line| (line as u64).saturating_add(1)),
            )
        })
    }
}

#[derive(Deserialize)]
pub(crate) struct RedirectResponse<'a> {
    #[serde(borrow, default)]
    pub(crate) url: PageText<'a>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) status: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseReceived<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    #[serde(default)]
    pub(crate) loader_id: Text<'a>,
    #[serde(rename = "type")]
    pub(crate) resource_type: Option<Text<'a>>,
    pub(crate) response: Response<'a>,
    pub(crate) frame_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response<'a> {
    #[serde(borrow)]
    pub(crate) url: PageText<'a>,
    /// Zero if it does not fit.
    #[serde(deserialize_with = "lenient")]
    pub(crate) status: u32,
    #[serde(default)]
    pub(crate) status_text: PageText<'a>,
    #[serde(default)]
    pub(crate) headers: Headers<'a>,
    #[serde(default)]
    pub(crate) mime_type: PageText<'a>,
    pub(crate) protocol: Option<Text<'a>>,
    #[serde(rename = "remoteIPAddress")]
    pub(crate) remote_ip_address: Option<Text<'a>>,
    #[serde(default)]
    pub(crate) from_disk_cache: bool,
    #[serde(default)]
    pub(crate) from_service_worker: bool,
    #[serde(default)]
    pub(crate) from_prefetch_cache: bool,
    /// Bytes on the network so far: those of the headers.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) encoded_data_length: f64,
    #[serde(default, deserialize_with = "lenient_timing")]
    pub(crate) timing: Option<ResourceTiming>,
}

/// Milliseconds after `request_time`; -1 for what did not take place.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceTiming {
    /// Seconds of the browser's monotonic clock.
    #[serde(default)]
    pub(crate) request_time: f64,
    #[serde(default = "never")]
    pub(crate) dns_start: f64,
    #[serde(default = "never")]
    pub(crate) dns_end: f64,
    #[serde(default = "never")]
    pub(crate) connect_start: f64,
    #[serde(default = "never")]
    pub(crate) connect_end: f64,
    #[serde(default = "never")]
    pub(crate) ssl_start: f64,
    #[serde(default = "never")]
    pub(crate) ssl_end: f64,
    #[serde(default = "never")]
    pub(crate) send_start: f64,
    #[serde(default = "never")]
    pub(crate) send_end: f64,
    #[serde(default = "never")]
    pub(crate) receive_headers_start: f64,
    #[serde(default = "never")]
    pub(crate) receive_headers_end: f64,
}

fn never() -> f64 {
    -1.0
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServedFromCache<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
}

/// What the network stack has received.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseExtraInfo<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) status_code: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DataReceived<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    /// Bytes of the body, decoded.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) data_length: u64,
    /// Bytes on the network.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) encoded_data_length: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadingFinished<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    /// Seconds of the browser's monotonic clock.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    /// Bytes on the network.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) encoded_data_length: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadingFailed<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    #[serde(rename = "type")]
    pub(crate) resource_type: Option<Text<'a>>,
    #[serde(default)]
    pub(crate) error_text: PageText<'a>,
    #[serde(default)]
    pub(crate) canceled: bool,
    /// Seconds of the browser's monotonic clock.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    pub(crate) blocked_reason: Option<Text<'a>>,
    pub(crate) cors_error_status: Option<CorsErrorStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CorsErrorStatus<'a> {
    #[serde(borrow, default)]
    pub(crate) cors_error: Text<'a>,
}

// WebSockets.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebSocketCreated<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    pub(crate) url: PageText<'a>,
    #[serde(default)]
    pub(crate) initiator: Initiator<'a>,
}

/// The request or the response of the handshake.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebSocketHandshake<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    /// Seconds of the browser's monotonic clock.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    #[serde(default)]
    pub(crate) request: HandshakeRequest<'a>,
    pub(crate) response: Option<HandshakeResponse<'a>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct HandshakeRequest<'a> {
    #[serde(borrow, default)]
    pub(crate) headers: Headers<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HandshakeResponse<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) status: u32,
    #[serde(borrow, default)]
    pub(crate) status_text: PageText<'a>,
    #[serde(default)]
    pub(crate) headers: Headers<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebSocketFrame<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    pub(crate) response: Frame64<'a>,
}

/// A message: text, or base64 if it is binary.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Frame64<'a> {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) opcode: u8,
    #[serde(borrow, default)]
    pub(crate) payload_data: PageText<'a>,
}

/// The connection broke, or was closed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebSocketEnded<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    /// Seconds of the browser's monotonic clock.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) timestamp: f64,
    pub(crate) error_message: Option<PageText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseBody<'a> {
    #[serde(borrow)]
    pub(crate) body: PageText<'a>,
    #[serde(default)]
    pub(crate) base64_encoded: bool,
}

// Page.

#[derive(Deserialize)]
pub(crate) struct FrameNavigated<'a> {
    #[serde(borrow)]
    pub(crate) frame: Frame<'a>,
    #[serde(rename = "type", default)]
    pub(crate) kind: Text<'a>,
}

impl FrameNavigated<'_> {
    /// Whether the page comes from the back/forward cache.
    pub(crate) fn is_restored(&self) -> bool {
        &*self.kind == "BackForwardCacheRestore"
    }
}

/// A frame was inserted into its page or removed from it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FrameChanged<'a> {
    #[serde(borrow)]
    pub(crate) frame_id: Text<'a>,
    /// `remove`, or `swap` if it only goes to another process.
    pub(crate) reason: Option<Text<'a>>,
}

/// The answer to `Page.getFrameTree`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Frames<'a> {
    #[serde(borrow)]
    pub(crate) frame_tree: FrameTree<'a>,
}

/// A frame, and the frames in it that the same target has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FrameTree<'a> {
    #[serde(borrow)]
    pub(crate) frame: Frame<'a>,
    #[serde(default = "FirstN::default")]
    pub(crate) child_frames: FirstN<FrameTree<'a>, MAX_CHILDREN>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Frame<'a> {
    #[serde(borrow)]
    pub(crate) id: Text<'a>,
    pub(crate) parent_id: Option<Text<'a>>,
    pub(crate) loader_id: Text<'a>,
    pub(crate) url: PageText<'a>,
    /// Of the browser's own page about a failure: the address that failed.
    pub(crate) unreachable_url: Option<PageText<'a>>,
    /// The `#` and what follows, which the browser reports apart.
    pub(crate) url_fragment: Option<PageText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NavigatedWithinDocument<'a> {
    #[serde(borrow)]
    pub(crate) frame_id: Text<'a>,
    pub(crate) url: PageText<'a>,
}

#[derive(Deserialize)]
pub(crate) struct Fired {
    /// Seconds of the browser's monotonic clock.
    pub(crate) timestamp: Float,
}

#[derive(Deserialize)]
pub(crate) struct TimelineEventAdded<'a> {
    #[serde(borrow)]
    pub(crate) event: TimelineEvent<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TimelineEvent<'a> {
    #[serde(borrow)]
    pub(crate) frame_id: Text<'a>,
    #[serde(default)]
    pub(crate) time: Float,
    pub(crate) duration: Option<Float>,
    pub(crate) lcp_details: Option<LcpDetails<'a>>,
    pub(crate) layout_shift_details: Option<LayoutShiftDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LcpDetails<'a> {
    #[serde(default)]
    pub(crate) render_time: Float,
    #[serde(default)]
    pub(crate) load_time: Float,
    #[serde(default)]
    pub(crate) size: Float,
    #[serde(borrow)]
    pub(crate) element_id: Option<PageText<'a>>,
    pub(crate) url: Option<PageText<'a>>,
    #[serde(default, deserialize_with = "lenient_option")]
    pub(crate) node_id: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayoutShiftDetails {
    pub(crate) value: Float,
    #[serde(default)]
    pub(crate) had_recent_input: bool,
}

#[derive(Deserialize)]
pub(crate) struct Screenshot<'a> {
    #[serde(borrow)]
    pub(crate) data: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayoutMetrics {
    pub(crate) css_visual_viewport: VisualViewport,
}

/// The visible part of the page, in CSS pixels.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VisualViewport {
    #[serde(deserialize_with = "lenient")]
    pub(crate) page_x: f64,
    #[serde(deserialize_with = "lenient")]
    pub(crate) page_y: f64,
    #[serde(deserialize_with = "lenient")]
    pub(crate) client_width: f64,
    #[serde(deserialize_with = "lenient")]
    pub(crate) client_height: f64,
}

/// The answer to `DOM.getFrameOwner`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FrameOwner {
    #[serde(deserialize_with = "lenient")]
    pub(crate) backend_node_id: i64,
}

/// The answer to `DOM.getBoxModel`.
#[derive(Deserialize)]
pub(crate) struct NodeBox {
    pub(crate) model: BoxModel,
}

#[derive(Deserialize)]
pub(crate) struct BoxModel {
    /// The corners of the content in the viewport of the target, in CSS pixels: x and y each, clockwise
    /// from the top left.
    #[serde(deserialize_with = "quad")]
    content: [f64; 8],
    /// The corners of all of the element.
    #[serde(deserialize_with = "quad")]
    border: [f64; 8],
    /// The size of all of the element without transforms.
    #[serde(deserialize_with = "lenient")]
    width: f64,
    #[serde(deserialize_with = "lenient")]
    height: f64,
}

impl BoxModel {
    /// Where in the target's viewport a point of the content is. `None` if the element has no size.
    pub(crate) fn outside(&self, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        // A step of one pixel along a side, which may be scaled and rotated.
        let along = |size: f64, corner: usize| {
            let of = |quad: &[f64; 8]| [quad[corner] - quad[0], quad[corner + 1] - quad[1]];
            let [dx, dy] = of(&self.border);
            let length = dx.hypot(dy);
            if length <= 0.0 || size <= 0.0 {
                return None;
            }
            // The size is rounded.
            let scale = if (length - size).abs() < 1.0 {
                1.0
            } else {
                length / size
            };
            Some([dx / length * scale, dy / length * scale])
        };
        let ([across_x, across_y], [down_x, down_y]) =
            (along(self.width, 2)?, along(self.height, 6)?);
        Some([
            self.content[0] + x * across_x + y * down_x,
            self.content[1] + x * across_y + y * down_y,
        ])
    }
}

#[derive(Deserialize)]
pub(crate) struct ScriptAdded<'a> {
    #[serde(borrow)]
    pub(crate) identifier: Text<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_and_id_are_found_at_any_position() {
        let event = |name| Some(Head::Event(Cow::Borrowed(name)));
        for (message, expected) in [
            (r#"{"method":"A.b","params":{}}"#, event("A.b")),
            (r#"{"params":{},"method":"A.b"}"#, event("A.b")),
            (r#"{ "method": "A.b" }"#, event("A.b")),
            (r#"{"method":"\u0041.b"}"#, event("A.b")),
            (r#"{"id":7,"result":{}}"#, Some(Head::Answer(7))),
            (r#"{"id":7}"#, Some(Head::Answer(7))),
            (r#"{"result":{},"id":7}"#, Some(Head::Answer(7))),
            (r#"{"id":-7,"result":{}}"#, None),
            (r#"{"id":7.5,"result":{}}"#, None),
            (r#"{"id":99999999999999999999,"result":{}}"#, None),
            (r#"{"method":"A.b"#, None),
            (r#"{"id":7"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(head(message), expected, "{message}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_loses_no_message() {
        let json = r#""a\ud800b\udc00""#;
        let text: Text<'_> = read(json).unwrap();
        assert_eq!(&*text, "a\u{FFFD}b\u{FFFD}");
        let text: PageText<'_> = read(json).unwrap();
        assert_eq!(text.beginning(99).text, "a\u{FFFD}b\u{FFFD}");
        assert!(matches!(
            read::<Text<'_>>(r#""plain ü""#).unwrap().0,
            Cow::Borrowed("plain ü")
        ));
    }

    #[test]
    fn the_beginning_of_a_text_is_decoded_up_to_the_limit() {
        for json in [
            r#""plain ü""#,
            r#""""#,
            r#""\"\\\/\b\f\n\r\t\u00e9\uD83E\udD80 end""#,
            r#""é\n\u00e9\ud83e\udd80é""#,
            r#""\\u0041\\\\""#,
        ] {
            let whole: String = serde_json::from_str(json).unwrap();
            let text: PageText<'_> = read(json).unwrap();
            for limit in 0..=whole.len() + 3 {
                let beginning = text.beginning(limit);
                assert_eq!(beginning.text, cut(&whole, limit), "{json} at {limit}");
                let is_cut = beginning.text.len() < whole.len();
                assert_eq!(beginning.is_cut, is_cut, "{json} at {limit}");
            }
        }
        for json in ["5", "null", "{}", r#"["a"]"#, r#""\x""#, r#""\u12""#] {
            assert!(read::<PageText<'_>>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_array_is_read_up_to_its_limit() {
        let read = |json| {
            let first: FirstN<u8, 2> = read(json).unwrap();
            (first.items, first.skipped)
        };
        assert_eq!(read("[]"), (vec![], 0));
        assert_eq!(read("[1,2]"), (vec![1, 2], 0));
        assert_eq!(read(r#"[1,2,"x",{"y":[]}]"#), (vec![1, 2], 2));
    }
}
