//! Reads JSON of which a small part is used: [`read`].
//!
//! Half of what the browser sends is never looked at: stacks of initiators, cookies, headers as they are on the wire.
//! So this reader skips a value that is not used from quote to quote and from bracket to bracket, and does not check
//! what is between them. A text that any page can choose is taken as it is in the message ([`Raw`]), and decoded by
//! whatever keeps it, as far as it is kept.
//!
//! It is a [`Deserializer`], so that the messages are plain structs. What it accepts, and is no JSON: control characters
//! in strings, brackets of the wrong kind in what is skipped, and whatever begins like a number in what is skipped or
//! read leniently. A browser sends none of them. Half of a surrogate pair, which a browser does send, is read as U+FFFD.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::find::find;
use crate::redact::cut;

/// How deep arrays and objects that are used may be nested; of what is skipped, any depth.
const MAX_DEPTH: u8 = 127;

/// Reads a message, an answer or a part of one. What is read borrows from `json`.
///
/// # Errors
///
/// If it is not JSON of this shape.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Malformed> {
    let mut reader = Reader {
        json,
        at: 0,
        depth: MAX_DEPTH,
    };
    let value = T::deserialize(&mut reader)?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(Malformed),
    }
}

/// It is not JSON, or not of the expected shape.
#[derive(Debug)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not JSON of the expected shape")
    }
}

impl std::error::Error for Malformed {}

impl serde::de::Error for Malformed {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A value as it is in the message. Only [`read`] reads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a>(pub(crate) &'a str);

/// The name by which the reader knows that the value is to be taken as it is.
const RAW: &str = "tapline::Raw";

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;

        impl<'de> Visitor<'de> for Whole {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E>(self, json: &'de str) -> Result<Raw<'de>, E> {
                Ok(Raw(json))
            }
        }

        deserializer.deserialize_newtype_struct(RAW, Whole)
    }
}

/// No more than `limit` bytes of a text, from what is between the quotes of a string, and whether the text
/// continues. Copies only if they contain an escape.
pub(crate) fn decoded(string: &str, limit: usize) -> (Cow<'_, str>, bool) {
    let beginning = cut(string, limit);
    let Some(escape) = find(beginning.as_bytes(), 0, [b'\\']) else {
        return (Cow::Borrowed(beginning), beginning.len() < string.len());
    };
    let mut text = String::with_capacity(limit.min(string.len()));
    let (plain, mut rest) = string.split_at(escape);
    text.push_str(plain);
    while !rest.is_empty() {
        let left = limit - text.len();
        let run = find(rest.as_bytes(), 0, [b'\\']).unwrap_or(rest.len());
        let (length, is_cut) = if 0 < run {
            let kept = cut(&rest[..run], left);
            text.push_str(kept);
            (run, kept.len() < run)
        } else {
            let (decoded, length) = unescaped(rest);
            let is_cut = left < decoded.len_utf8();
            if !is_cut {
                text.push(decoded);
            }
            (length, is_cut)
        };
        if is_cut {
            return (Cow::Owned(text), true);
        }
        rest = rest.get(length..).unwrap_or("");
    }
    (Cow::Owned(text), false)
}

/// The character of the escape at the beginning of the text, and the length of the escape. Half of a
/// surrogate pair is U+FFFD.
pub(crate) fn unescaped(text: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    match text.as_bytes().get(1) {
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'u') => match (unit(0), unit(6)) {
            (Some(high @ 0xD800..=0xDBFF), Some(low @ 0xDC00..=0xDFFF)) => {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                (char::from_u32(code).unwrap_or('\u{FFFD}'), 12)
            }
            (unit, _) => (unit.and_then(char::from_u32).unwrap_or('\u{FFFD}'), 6),
        },
        // A quote, a slash or a backslash stands for itself.
        Some(byte) => (char::from(*byte), 2),
        None => ('\u{FFFD}', 1),
    }
}

struct Reader<'a> {
    json: &'a str,
    at: usize,
    /// How much deeper it may go.
    depth: u8,
}

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.json.as_bytes().get(self.at)? {
                byte if b' ' < byte => return Some(byte),
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Passes this byte.
    fn pass(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Passes a string.
    fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.pass(b'"')?;
        let start = self.at;
        let end = string_end(self.json.as_bytes(), start).ok_or(Malformed)?;
        self.at = end.at + 1;
        let string = &self.json[start..end.at];
        if end.is_plain {
            Ok(Cow::Borrowed(string))
        } else {
            Ok(decoded(string, usize::MAX).0)
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<&'a str, Malformed> {
        let end = find(self.json.as_bytes(), self.at, *b",}]");
        let end = end.unwrap_or(self.json.len());
        let scalar = self.json[self.at..end].trim_ascii_end();
        self.at += scalar.len();
        match scalar.as_bytes() {
            [b'-' | b'0'..=b'9', ..] | b"true" | b"false" | b"null" => Ok(scalar),
            _ => Err(Malformed),
        }
    }

    /// Passes a value of any kind, without a look at what it contains.
    fn skip(&mut self) -> Result<(), Malformed> {
        let first = self.peek().ok_or(Malformed)?;
        let json = self.json.as_bytes();
        self.at = match first {
            b'"' => string_end(json, self.at + 1).ok_or(Malformed)?.at + 1,
            b'{' | b'[' => container_end(json, self.at).ok_or(Malformed)?,
            _ => return self.scalar().map(|_| ()),
        };
        Ok(())
    }

    /// Passes a value of any kind, and returns it as it is in the message.
    fn raw(&mut self) -> Result<&'a str, Malformed> {
        self.peek();
        let start = self.at;
        self.skip()?;
        Ok(&self.json[start..self.at])
    }

    /// Passes what is between two brackets, which `read` reads.
    fn within<T>(
        &mut self,
        [open, close]: [u8; 2],
        read: impl FnOnce(Elements<'_, 'a>) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        self.pass(open)?;
        self.depth = self.depth.checked_sub(1).ok_or(Malformed)?;
        let value = read(Elements {
            reader: self,
            close,
            is_first: true,
        })?;
        self.depth += 1;
        self.pass(close)?;
        Ok(value)
    }
}

/// Where a string ends.
struct StringEnd {
    /// The position of its closing quote.
    at: usize,
    /// Whether no escapes are in it.
    is_plain: bool,
}

/// The end of the string whose content begins at `at`.
#[inline]
fn string_end(json: &[u8], at: usize) -> Option<StringEnd> {
    let at = find(json, at, *b"\"\\")?;
    if json[at] == b'"' {
        let is_plain = true;
        return Some(StringEnd { at, is_plain });
    }
    let at = end_after_escapes(json, at)?;
    let is_plain = false;
    Some(StringEnd { at, is_plain })
}

/// The end of the string in which an escape begins at `at`.
#[cold]
fn end_after_escapes(json: &[u8], mut at: usize) -> Option<usize> {
    while json[at] == b'\\' {
        let length = match json.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' if json.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        at = find(json, at + length, *b"\"\\")?;
    }
    Some(at)
}

/// The position after the array or object that begins at `at`.
fn container_end(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match json.get(at)? {
            b'"' => at = string_end(json, at + 1)?.at,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Malformed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.peek().ok_or(Malformed)? {
            b'"' => self.deserialize_str(visitor),
            b'{' => self.deserialize_map(visitor),
            b'[' => self.deserialize_seq(visitor),
            _ => match self.scalar()? {
                "null" => visitor.visit_unit(),
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                number => {
                    if let Ok(number) = number.parse() {
                        visitor.visit_u64(number)
                    } else if let Ok(number) = number.parse() {
                        visitor.visit_i64(number)
                    } else {
                        visitor.visit_f64(number.parse().map_err(Malformed::custom)?)
                    }
                }
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        if self.peek() == Some(b'n') {
            self.scalar()?;
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.string()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.within(*b"{}", |entries| visitor.visit_map(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.within(*b"[]", |elements| visitor.visit_seq(elements))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        if name == RAW {
            visitor.visit_borrowed_str(self.raw()?)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char string bytes byte_buf unit unit_struct
        tuple tuple_struct enum
    }
}

/// The elements of an array, or the entries of an object.
struct Elements<'r, 'a> {
    reader: &'r mut Reader<'a>,
    close: u8,
    is_first: bool,
}

impl Elements<'_, '_> {
    /// Whether there is another one. Passes the comma before it.
    fn is_next(&mut self) -> Result<bool, Malformed> {
        if self.reader.peek() == Some(self.close) {
            return Ok(false);
        }
        if !std::mem::take(&mut self.is_first) {
            self.reader.pass(b',')?;
        }
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Malformed;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Malformed> {
        if !self.is_next()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Malformed;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Malformed> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Malformed> {
        self.reader.pass(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = || "[a-z\"\\\\/\n\u{0}é🦀,:{}\\[\\]]{0,40}";
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1000..1000).prop_map(|it| Value::from(f64::from(it) / 8.0)),
            text().prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..6)
                    .prop_map(|it| Value::Object(it.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is JSON is read as `serde_json` reads it, skipped to its end, and taken as it is; with white
        /// space and without.
        #[test]
        fn json_is_read_as_it_is_written(value in value()) {
            for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(&read::<Value>(&json).unwrap(), &value);
                prop_assert!(read::<IgnoredAny>(&json).is_ok());
                let padded = format!(" \t{json}\r\n");
                prop_assert_eq!(read::<Raw<'_>>(&padded).unwrap().0, &json);
            }
        }

        /// No beginning of a message is taken for a whole one.
        #[test]
        fn json_that_is_cut_is_malformed(value in value()) {
            let json = Value::from(vec![value]).to_string();
            for end in (0..json.len()).filter(|end| json.is_char_boundary(*end)) {
                prop_assert!(read::<Value>(&json[..end]).is_err(), "{}", &json[..end]);
                prop_assert!(read::<IgnoredAny>(&json[..end]).is_err(), "{}", &json[..end]);
            }
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for json in [
            "",
            " ",
            "nul",
            "nulls",
            "tru",
            "x",
            "-",
            "1 2",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":1,}",
            "{\"a\":}",
            "{,}",
            "[}",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\",
            "1]",
            "\"a\"b",
        ] {
            assert!(read::<Value>(json).is_err(), "{json}");
        }
        for json in ["[\"\\x\"]", "[\"\\u12\"]", "[\"a]", "[nul]x", "[[]", "[{]"] {
            assert!(read::<IgnoredAny>(json).is_err(), "{json}");
        }
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read::<Value>(&deep(127)).is_ok() && read::<Value>(&deep(128)).is_err());
        assert!(read::<IgnoredAny>(&deep(100_000)).is_ok());
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (json, expected) in [
            (r#""\ud83e\udd80""#, "🦀"),
            (r#""\ud83ea""#, "\u{FFFD}a"),
            (r#""\udd80\ud83e\ud83e\udd80""#, "\u{FFFD}\u{FFFD}🦀"),
        ] {
            assert_eq!(read::<String>(json).unwrap(), expected, "{json}");
        }
    }
}
