//! Looking for a text in events: [`Text`].

use memchr::{memchr, memchr2};

use crate::query::QueryError;

/// A text that events are searched for, without regard to the case of ASCII letters.
///
/// It is looked for in the JSON of an event as it stands, and in the form that it has within a JSON string: `say
/// "hi"` is found in `{"text":"say \"hi\""}`, and `"status":404` in `{"status":404}`. Letters that a producer wrote
/// as `\u00e9` are not found by `é`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text {
    text: Box<str>,
    /// The same within a JSON string, where that differs.
    escaped: Option<Box<str>>,
}

impl Text {
    /// The longest text, in characters.
    pub const MAX_CHARS: usize = 200;

    /// From the parameter `name` of a query.
    ///
    /// # Errors
    ///
    /// [`QueryError`] where the text is empty or longer than [`MAX_CHARS`](Self::MAX_CHARS).
    pub fn new(name: &str, text: &str) -> Result<Self, QueryError> {
        if text.is_empty() {
            let message = "is empty; leave the parameter out to find every event";
            return Err(QueryError::new(name, message));
        }
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            let most = Self::MAX_CHARS;
            return Err(QueryError::new(
                name,
                format!("has more than {most} characters"),
            ));
        }
        let quoted = serde_json::to_string(text).expect("a text is JSON");
        let escaped = &quoted[1..quoted.len() - 1];
        Ok(Self {
            escaped: (escaped != text).then(|| escaped.into()),
            text: text.into(),
        })
    }

    /// Whether the text is in this JSON. Takes a time that grows with the length of the JSON: some 1 µs for 1,000
    /// bytes.
    pub fn is_in(&self, json: &str) -> bool {
        let haystack = json.as_bytes();
        [Some(&self.text), self.escaped.as_ref()]
            .into_iter()
            .flatten()
            .any(|text| is_in(text.as_bytes(), haystack))
    }
}

/// Looks for the rarest byte of the text, and compares where it is found.
fn is_in(text: &[u8], haystack: &[u8]) -> bool {
    let Some((at, byte)) = rarest(text) else {
        return true;
    };
    let (lower, upper) = (byte.to_ascii_lowercase(), byte.to_ascii_uppercase());
    let mut from = at;
    while let Some(rest) = haystack.get(from..) {
        let found = match lower == upper {
            true => memchr(lower, rest),
            false => memchr2(lower, upper, rest),
        };
        let Some(found) = found else {
            return false;
        };
        let begin = from + found - at;
        match haystack.get(begin..begin + text.len()) {
            Some(there) if there.eq_ignore_ascii_case(text) => return true,
            Some(_) => from += found + 1,
            None => return false,
        }
    }
    false
}

/// The byte of the text that events have least often, and where it is.
fn rarest(text: &[u8]) -> Option<(usize, u8)> {
    /// The bytes that events have most often, the most frequent first. Others count as rare.
    const FREQUENT: &[u8] = b"\"e:t,as_ionrd0c1l/2p-mu.hg5374698f{}b wkv=yxqj";
    let rank = |byte: u8| {
        let byte = byte.to_ascii_lowercase();
        let place = memchr(byte, FREQUENT);
        place.unwrap_or(FREQUENT.len())
    };
    text.iter()
        .copied()
        .enumerate()
        .max_by_key(|(_, byte)| rank(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(text: &str, json: &str) -> bool {
        Text::new("contains", text).unwrap().is_in(json)
    }

    #[test]
    fn ascii_case_does_not_matter_and_other_case_does() {
        let json = r#"{"text":"GET /Vendor/Pricing.js ÄÖ"}"#;
        for found in ["pricing.JS", "get /v", "js Ä", "{", "}", json] {
            assert!(is_found(found, json), "{found}");
        }
        for other in ["pricing_js", "js ä", "}}", &format!("{json} ")] {
            assert!(!is_found(other, json), "{other}");
        }
    }

    #[test]
    fn a_text_is_found_as_json_and_within_a_string() {
        let json = r#"{"text":"say \"hi\"\nC:\\dir","status":404}"#;
        for found in [r#"say "hi""#, "\"\nc:\\DIR", r#""status":404"#, r#"\"hi\""#] {
            assert!(is_found(found, json), "{found}");
        }
    }

    #[test]
    fn the_result_is_that_of_a_plain_search() {
        let json = "aabacabadabacaba-ABRACADABRA-\u{e9}\u{1f600}aab";
        let chars: Vec<char> = json.chars().collect();
        for begin in 0..chars.len() {
            for end in begin + 1..=chars.len() {
                let part: String = chars[begin..end].iter().collect();
                assert!(is_found(&part, json), "{part}");
                assert!(is_found(&part.to_ascii_uppercase(), json), "{part}");
                let other = format!("{part}~");
                assert!(!is_found(&other, json), "{other}");
            }
        }
    }

    #[test]
    fn the_length_is_bounded() {
        assert!(Text::new("contains", &"é".repeat(200)).is_ok());
        let long = Text::new("contains", &"é".repeat(201)).unwrap_err();
        assert_eq!(
            long.to_string(),
            "query parameter `contains`: has more than 200 characters"
        );
        assert!(Text::new("contains", "").is_err());
    }
}
