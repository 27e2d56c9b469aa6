//! The DevTools protocol, as far as it is used: what comes in, borrowed from the message's text.
//!
//! A message is read once. [`head`] looks at its first bytes alone, which is all that an unknown
//! method costs; a known one is then read into a struct that names only the fields that are used.
//! Text is a [`Text`], which borrows where the browser escaped nothing.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What kind of message it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// The browser tells something.
    Event(Cow<'a, str>),
    /// The browser answers the command of this id.
    Answer(u64),
}

/// Looks at how the message begins. `None` where it is no message of the protocol.
///
/// The browser writes `method` and `id` first. Where they stand elsewhere, the whole message is
/// read for them.
pub(crate) fn head(message: &str) -> Option<Head<'_>> {
    const METHOD: &str = r#"{"method":""#;
    const ID: &str = r#"{"id":"#;

    if let Some(rest) = message.strip_prefix(METHOD) {
        let end = rest.find(['"', '\\'])?;
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
    let slow: Slow<'_> = serde_json::from_str(message).ok()?;
    match (slow.id, slow.method) {
        (Some(id), _) => Some(Head::Answer(id)),
        (None, Some(method)) => Some(Head::Event(method.0)),
        (None, None) => None,
    }
}

/// An event of the browser.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message<'a, P> {
    /// Through which session; none for the browser itself.
    #[serde(borrow)]
    pub(crate) session_id: Option<Text<'a>>,
    pub(crate) params: P,
}

/// The answer to a command.
#[derive(Deserialize)]
pub(crate) struct Answer<R> {
    // By hand, because the derive asks `R` to have a default.
    #[serde(default = "Option::default")]
    pub(crate) result: Option<R>,
    pub(crate) error: Option<CommandError>,
}

#[derive(Deserialize)]
pub(crate) struct CommandError {
    #[serde(default)]
    pub(crate) code: i64,
}

impl CommandError {
    /// The session that the command was for is gone. Nothing went wrong then.
    pub(crate) const NO_SESSION: i64 = -32001;
}

/// A text of the browser.
///
/// JavaScript's strings may hold half of a surrogate pair, and the browser writes it down as it is.
/// Read as a `str` such a message would be refused; here the half becomes U+FFFD.
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
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
                Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => Text(Cow::Borrowed(text)),
                    Err(_) => Text(Cow::Owned(mended(bytes))),
                })
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(mended(bytes))))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// The text, with one U+FFFD for each half of a surrogate pair. Such a half comes as three bytes, the
/// last two of which continue the first.
fn mended(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if chunk.invalid().first().is_some_and(|byte| *byte >= 0xC0) {
            text.push('\u{FFFD}');
        }
    }
    text
}

/// A number exactly as the browser wrote it. `serde_json` reads floats fast, and at times a last digit
/// off; here a digit is a microsecond.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Float(pub(crate) f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        raw.get().parse().map(Self).map_err(D::Error::custom)
    }
}

/// Headers in the order in which the browser tells them.
#[derive(Debug, Default)]
pub(crate) struct Headers<'a>(pub(crate) Vec<(Text<'a>, Text<'a>)>);

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
                while let Some(header) = map.next_entry()? {
                    headers.push(header);
                }
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
pub(crate) struct TargetInfo<'a> {
    #[serde(borrow)]
    pub(crate) target_id: Text<'a>,
    #[serde(rename = "type")]
    pub(crate) kind: Text<'a>,
    #[serde(default)]
    pub(crate) title: Text<'a>,
    #[serde(default)]
    pub(crate) url: Text<'a>,
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
    pub(crate) args: Vec<RemoteObject<'a>>,
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub(crate) timestamp: f64,
    pub(crate) stack_trace: Option<StackTrace<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoteObject<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Text<'a>,
    pub(crate) subtype: Option<Text<'a>>,
    pub(crate) value: Option<&'a RawValue>,
    pub(crate) unserializable_value: Option<Text<'a>>,
    pub(crate) description: Option<Text<'a>>,
    pub(crate) object_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StackTrace<'a> {
    #[serde(borrow)]
    pub(crate) description: Option<Text<'a>>,
    #[serde(default)]
    pub(crate) call_frames: Vec<CallFrame<'a>>,
    pub(crate) parent: Option<Box<StackTrace<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallFrame<'a> {
    #[serde(borrow, default)]
    pub(crate) function_name: Text<'a>,
    #[serde(default)]
    pub(crate) script_id: Text<'a>,
    #[serde(default)]
    pub(crate) url: Text<'a>,
    #[serde(default)]
    pub(crate) line_number: i64,
    #[serde(default)]
    pub(crate) column_number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExceptionThrown<'a> {
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub(crate) timestamp: f64,
    #[serde(borrow)]
    pub(crate) exception_details: ExceptionDetails<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExceptionDetails<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Text<'a>,
    pub(crate) line_number: Option<i64>,
    pub(crate) column_number: Option<i64>,
    pub(crate) url: Option<Text<'a>>,
    pub(crate) stack_trace: Option<StackTrace<'a>>,
    pub(crate) exception: Option<RemoteObject<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct ExecutionContextCreated<'a> {
    #[serde(borrow)]
    pub(crate) context: ExecutionContext<'a>,
}

#[derive(Deserialize)]
pub(crate) struct ExecutionContext<'a> {
    pub(crate) id: i64,
    #[serde(borrow, default)]
    pub(crate) name: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecutionContextDestroyed {
    pub(crate) execution_context_id: i64,
}

#[derive(Deserialize)]
pub(crate) struct BindingCalled<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    pub(crate) payload: Text<'a>,
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
    pub(crate) document_url: Text<'a>,
    pub(crate) request: Request<'a>,
    #[serde(default)]
    pub(crate) initiator: Initiator<'a>,
    pub(crate) redirect_response: Option<RedirectResponse<'a>>,
    #[serde(rename = "type")]
    pub(crate) resource_type: Option<Text<'a>>,
    pub(crate) frame_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) url: Text<'a>,
    pub(crate) method: Text<'a>,
    #[serde(default)]
    pub(crate) headers: Headers<'a>,
    pub(crate) post_data: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub(crate) struct Initiator<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Text<'a>,
}

#[derive(Deserialize)]
pub(crate) struct RedirectResponse<'a> {
    #[serde(borrow, default)]
    pub(crate) url: Text<'a>,
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
    pub(crate) url: Text<'a>,
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) status_text: Text<'a>,
    #[serde(default)]
    pub(crate) headers: Headers<'a>,
    #[serde(default)]
    pub(crate) mime_type: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadingFinished<'a> {
    #[serde(borrow)]
    pub(crate) request_id: Text<'a>,
    /// Bytes as they came over the network.
    #[serde(default)]
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
    pub(crate) error_text: Text<'a>,
    #[serde(default)]
    pub(crate) canceled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseBody<'a> {
    #[serde(borrow)]
    pub(crate) body: Text<'a>,
    #[serde(default)]
    pub(crate) base64_encoded: bool,
}

// Page.

#[derive(Deserialize)]
pub(crate) struct FrameNavigated<'a> {
    #[serde(borrow)]
    pub(crate) frame: Frame<'a>,
}

/// The answer to `Page.getFrameTree`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Frames<'a> {
    #[serde(borrow)]
    pub(crate) frame_tree: FrameNavigated<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Frame<'a> {
    #[serde(borrow)]
    pub(crate) id: Text<'a>,
    pub(crate) parent_id: Option<Text<'a>>,
    pub(crate) loader_id: Text<'a>,
    pub(crate) url: Text<'a>,
    /// What stands behind the `#`, which the browser tells apart.
    pub(crate) url_fragment: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NavigatedWithinDocument<'a> {
    #[serde(borrow)]
    pub(crate) frame_id: Text<'a>,
    pub(crate) url: Text<'a>,
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
    pub(crate) element_id: Option<Text<'a>>,
    pub(crate) url: Option<Text<'a>>,
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

/// What of the page is visible, in CSS pixels.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VisualViewport {
    pub(crate) page_x: f64,
    pub(crate) page_y: f64,
    pub(crate) client_width: f64,
    pub(crate) client_height: f64,
}

#[derive(Deserialize)]
pub(crate) struct ScriptAdded<'a> {
    #[serde(borrow)]
    pub(crate) identifier: Text<'a>,
}

/// Reads a message or an answer; what is no such thing is an error that says where.
pub(crate) fn read<'a, T: Deserialize<'a>>(message: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(message)
}

/// Reads the text of a JSON string.
pub(crate) fn string(raw: &RawValue) -> Result<Text<'_>, serde_json::Error> {
    let raw = raw.get();
    if raw.starts_with('"') {
        serde_json::from_str(raw)
    } else {
        Err(serde_json::Error::custom("not a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_wherever_it_stands() {
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
        let text: Text<'_> = read(r#""a\ud800b\udc00""#).unwrap();
        assert_eq!(&*text, "a\u{FFFD}b\u{FFFD}");
        let whole: Text<'_> = read(r#""\ud83e\udd80""#).unwrap();
        assert_eq!(&*whole, "🦀");
        assert!(matches!(
            read::<Text<'_>>(r#""plain ü""#).unwrap().0,
            Cow::Borrowed("plain ü")
        ));
    }
}
