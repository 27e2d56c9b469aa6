//! Looking for a text in what an event says: [`Grep`].

use std::borrow::Cow;

use tapline_oapi::Event;

/// A text that events are searched for, without regard to the case of ASCII letters.
pub(super) struct Grep {
    /// As it was asked for, which the server looks for in all of the JSON.
    pub(super) text: String,
    lower: String,
}

impl Grep {
    pub(super) fn new(text: String) -> Self {
        Self {
            lower: text.to_ascii_lowercase(),
            text,
        }
    }

    /// Whether the text is in the type, the category, or a text or number of the source or the data. Names of fields
    /// do not count.
    pub(super) fn is_in(&self, event: &Event) -> bool {
        let source = &event.source;
        let words = [
            event.event_type.as_str(),
            event.category.as_str(),
            source.kind.as_str(),
            source.event.as_deref().unwrap_or(""),
        ];
        let data = event.data.as_ref().map_or("", |data| data.get());
        let has = |text: &str| self.is_in_text(text);
        words.into_iter().any(has)
            || source.metadata.values().any(|value| has(value))
            || Values(data).any(|value| has(&value))
    }

    fn is_in_text(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        memchr::memmem::find(text.as_bytes(), self.lower.as_bytes()).is_some()
    }
}

/// The texts and numbers in JSON, whose names are skipped. What is no JSON gives something, or nothing.
struct Values<'a>(&'a str);

impl<'a> Iterator for Values<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        let is_number = |c: char| matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
        loop {
            let begin = self
                .0
                .find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            let rest = &self.0[begin..];
            if !rest.starts_with('"') {
                let end = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
                self.0 = &rest[end..];
                return Some(Cow::Borrowed(&rest[..end]));
            }
            let end = 1 + end_of_text(&rest[1..])?;
            let (quoted, rest) = rest.split_at(end + 1);
            self.0 = rest;
            if rest.trim_ascii_start().starts_with(':') {
                continue;
            }
            let text = &quoted[1..end];
            return Some(match text.contains('\\') {
                false => Cow::Borrowed(text),
                true => serde_json::from_str(quoted).map_or(Cow::Borrowed(text), Cow::Owned),
            });
        }
    }
}

/// Where the quote is that ends a text.
fn end_of_text(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
        match bytes[at] {
            b'"' => return Some(at),
            // What is escaped is one byte, or letters and digits.
            _ => at += 2,
        }
        if bytes.len() < at {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_skipped_and_values_are_found() {
        let json = r#"{"blocked" : "no", "a\"b":{"n":-1.5e3,"list":["x:y","\\",{"k":"say \"hi\" \u00e9"}],"t":true,"z":null},"e":""}"#;
        let values: Vec<_> = Values(json).collect();
        assert_eq!(
            values,
            ["no", "-1.5e3", "x:y", "\\", "say \"hi\" é", ""],
            "{json}"
        );
        for (whole, expected) in [
            ("404", vec!["404"]),
            (r#""text""#, vec!["text"]),
            ("null", vec![]),
            ("", vec![]),
            (r#"["é\\","#, vec!["é\\"]),
            (r#"{"a":"open"#, vec![]),
            (r#"["\"#, vec![]),
            (r#"["\ud800 half",7]"#, vec![r"\ud800 half", "7"]),
        ] {
            assert_eq!(Values(whole).collect::<Vec<_>>(), expected, "{whole}");
        }
    }

    #[test]
    fn a_text_is_found_in_what_an_event_says() {
        let json = r#"{"ts":1795349358733796,"type":"network_response","category":"network","source":{"kind":"cdp","event":"Network.responseReceived",
            "metadata":{"trace_id":"abc7"}},"data":{"status":404,"blocked_reason":"","timing":{"blocked":1.5},"url":"http://h/Pricing.js","text":"say \"hi\""}}"#;
        let event: Event = serde_json::from_str(json).unwrap();
        let is_found = |text: &str| Grep::new(text.to_owned()).is_in(&event);
        for found in [
            "pricing.JS",
            "404",
            "1.5",
            "network_res",
            "NETWORK",
            "cdp",
            "responseReceived",
            "abc7",
            "say \"HI\"",
        ] {
            assert!(is_found(found), "{found}");
        }
        for other in [
            "blocked",
            "status",
            "metadata",
            "1795349358733796",
            "trace_id",
            "{",
        ] {
            assert!(!is_found(other), "{other}");
        }
    }
}
