//! The text of a body: whether it is text, and in which encoding.
//!
//! The browser decodes a body for us as it would show it in a page. Where the answer names no charset
//! that is windows-1252, and for an `EventSource` it always is, while the page itself gets UTF-8. So what
//! was decoded as windows-1252 and is valid UTF-8 is taken for UTF-8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use crate::protocol::{Beginning, ResponseBody};
use crate::redact::MARGIN;

/// The beginning of a body.
#[derive(Debug)]
pub(crate) struct BodyText<'a> {
    /// A little more than the limit, for the redaction.
    pub(crate) text: Beginning<'a>,
    /// The length of all of it in bytes.
    pub(crate) bytes: u64,
}

/// The text of a body, of which about `limit` bytes are needed; `None` if it is not text.
///
/// `content_type` is the header of the response, and `received` how many bytes the browser received.
pub(crate) fn text_of<'a>(
    body: &ResponseBody<'a>,
    content_type: Option<&str>,
    is_event_source: bool,
    received: u64,
    limit: usize,
) -> Option<BodyText<'a>> {
    let window = limit.saturating_add(MARGIN);
    let declared = content_type.and_then(charset);
    let (text, bytes) = if body.base64_encoded {
        // Four characters are three bytes.
        let encoded = body.body.beginning((window / 3 + 2) * 4);
        let decoded = STANDARD.decode(encoded.text.as_bytes()).ok()?;
        let text = decode(&decoded, declared, encoded.is_cut)?;
        let text = Beginning {
            text: text.into(),
            is_cut: encoded.is_cut,
        };
        (text, body.body.base64_len())
    } else {
        let text = body.body.beginning(window);
        let is_right = declared == Some(UTF_8) && !is_event_source;
        let text = if is_right { text } else { as_utf8(text) };
        (text, body.body.decoded_len())
    };
    // The browser has no body for us, although there was one.
    if text.text.is_empty() && 0 < received {
        return None;
    }
    let bytes = if 0 < received { received } else { bytes as u64 };
    Some(BodyText { text, bytes })
}

/// The charset that a `Content-Type` names, if it is known.
fn charset(content_type: &str) -> Option<&'static Encoding> {
    let parameters = content_type.split(';').skip(1);
    let charset = parameters
        .filter_map(|it| it.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Encoding::for_label(charset.1.trim().trim_matches('"').as_bytes())
}

/// Bytes as text: in the declared encoding, as UTF-8 where they are, otherwise as windows-1252. `None`
/// if they are no text.
fn decode(bytes: &[u8], declared: Option<&'static Encoding>, is_cut: bool) -> Option<String> {
    if let Some(encoding) = declared.or_else(|| Encoding::for_bom(bytes).map(|(it, _)| it)) {
        return Some(encoding.decode(bytes).0.into_owned());
    }
    if bytes.contains(&0) {
        return None;
    }
    match valid_utf8(bytes, is_cut) {
        Some(text) => Some(text.to_owned()),
        None => Some(WINDOWS_1252.decode(bytes).0.into_owned()),
    }
}

/// UTF-8 that was decoded as windows-1252, decoded once more. Any other text stays as it is.
fn as_utf8(beginning: Beginning<'_>) -> Beginning<'_> {
    if beginning.text.is_ascii() {
        return beginning;
    }
    let (bytes, _, is_other) = WINDOWS_1252.encode(&beginning.text);
    if is_other {
        return beginning;
    }
    match valid_utf8(&bytes, beginning.is_cut) {
        Some(text) => Beginning {
            text: text.to_owned().into(),
            is_cut: beginning.is_cut,
        },
        None => beginning,
    }
}

/// The bytes as UTF-8, if they are; without a character that a cut went through.
fn valid_utf8(bytes: &[u8], is_cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::read;

    #[track_caller]
    fn check(body: &str, base64: bool, content_type: &str, expected: Option<&str>) {
        let json = serde_json::json!({"body": body, "base64Encoded": base64}).to_string();
        let body: ResponseBody<'_> = read(&json).unwrap();
        let text = text_of(&body, Some(content_type), false, 0, 1000);
        let text = text.as_ref().map(|it| &*it.text.text);
        assert_eq!(text, expected, "{content_type}");
    }

    #[test]
    fn a_body_in_utf8_is_read_as_utf8_whatever_the_browser_assumed() {
        let assumed = |text: &str| WINDOWS_1252.decode(text.as_bytes()).0.into_owned();
        for text in ["Grüße", "你好", "plain", "“quoted” €"] {
            check(&assumed(text), false, "text/plain", Some(text));
            check(text, false, "text/plain", Some(text));
            check(text, false, "text/plain; charset=UTF-8", Some(text));
        }
        // It says what it is, and the browser has read it so.
        check("Ã¼", false, "text/plain; charset=\"utf-8\"", Some("Ã¼"));
        check("fünf", false, "text/plain; charset=latin1", Some("fünf"));
    }

    #[test]
    fn a_text_that_the_browser_encodes_is_decoded() {
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
        let json = "application/json";
        check(
            &encoded("{\"ü\":1}".as_bytes()),
            true,
            json,
            Some("{\"ü\":1}"),
        );
        check(&encoded(b"f\xfcnf"), true, json, Some("fünf"));
        check(
            &encoded(b"f\xfcnf"),
            true,
            "text/plain; charset=latin1",
            Some("fünf"),
        );
        check(&encoded(b"\xff\xfea\0"), true, "text/plain", Some("a"));
        check(&encoded(b"\0\x01\x02"), true, json, None);
        check("not base64!", true, json, None);
    }

    #[test]
    fn a_cut_body_has_its_whole_length_and_no_half_of_a_character() {
        let text = "ü".repeat(5000);
        let json = serde_json::json!({"body": text, "base64Encoded": false}).to_string();
        let body: ResponseBody<'_> = read(&json).unwrap();
        let cut = text_of(&body, None, false, 0, 1001).unwrap();
        assert!(cut.text.is_cut && cut.text.text.chars().all(|it| it == 'ü'));
        assert_eq!(cut.bytes, 10_000);

        let encoded = STANDARD.encode(&text);
        let json = serde_json::json!({"body": encoded, "base64Encoded": true}).to_string();
        let body: ResponseBody<'_> = read(&json).unwrap();
        let cut = text_of(&body, None, false, 10_000, 1001).unwrap();
        assert!(cut.text.is_cut && cut.text.text.chars().all(|it| it == 'ü'));
        assert_eq!(cut.bytes, 10_000);
    }

    #[test]
    fn an_empty_body_is_none_where_bytes_were_received() {
        let json = r#"{"body": "", "base64Encoded": false}"#;
        let body: ResponseBody<'_> = read(json).unwrap();
        assert!(text_of(&body, None, false, 10, 1000).is_none());
        assert_eq!(text_of(&body, None, false, 0, 1000).unwrap().text.text, "");
    }
}
