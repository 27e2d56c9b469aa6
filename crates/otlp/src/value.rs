//! JSON text as a value of OTLP, without a loss.
//!
//! The text is what a producer sent as `data`, which the stream has validated. It is walked once, and no tree of
//! JSON is built: serde_json would turn an integer that needs more than 64 bits into a float.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memchr2;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};

/// How deep arrays and objects are nested in what is exported; what is deeper is a string with its JSON text.
/// Decoders bound the depth of messages. prost, for one, refuses 100 levels, and a level of objects is three: the
/// value, its list, and an entry of that.
pub(crate) const MAX_DEPTH: usize = 24;

/// Up to so many members, duplicate names of an object are searched for one by one.
const FEW_MEMBERS: usize = 48;

/// The value of a JSON text. An integer of 64 bits is an integer, a larger one a string with its digits, a number
/// with a fraction or an exponent is a double. Of two members with the same name, the last one counts, as in
/// browsers: names have to be unique in OTLP.
///
/// A text that is not JSON is a string.
pub(crate) fn from_json(json: &str) -> AnyValue {
    let mut walk = Walk { json, at: 0 };
    walk.value(0).unwrap_or_else(|| string(json))
}

pub(crate) fn string(text: impl Into<String>) -> AnyValue {
    any(Value::StringValue(text.into()))
}

pub(crate) fn integer(number: i64) -> AnyValue {
    any(Value::IntValue(number))
}

pub(crate) fn boolean(value: bool) -> AnyValue {
    any(Value::BoolValue(value))
}

pub(crate) fn entry(key: impl Into<String>, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// A position in a JSON text. The functions give `None` where the text is not JSON after all.
struct Walk<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, depth: usize) -> Option<AnyValue> {
        self.skip_space();
        match self.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => self.nested().map(string),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.text().map(string),
            b't' => self.literal("true", boolean(true)),
            b'f' => self.literal("false", boolean(false)),
            b'n' => self.literal("null", AnyValue { value: None }),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<AnyValue> {
        let mut values = Vec::with_capacity(8);
        self.members(b'}', |walk| {
            let key = walk.text()?.into_owned();
            walk.skip_space();
            walk.expect(b':')?;
            let value = walk.value(depth + 1)?;
            values.push(entry(key, value));
            Some(())
        })?;
        Some(any(Value::KvlistValue(KeyValueList {
            values: last_of_each_name(values),
        })))
    }

    fn array(&mut self, depth: usize) -> Option<AnyValue> {
        let mut values = Vec::new();
        self.members(b']', |walk| {
            values.push(walk.value(depth + 1)?);
            Some(())
        })?;
        Some(any(Value::ArrayValue(ArrayValue { values })))
    }

    /// What is between two brackets, with commas.
    fn members(&mut self, end: u8, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.skip_space();
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            self.skip_space();
            member(self)?;
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.expect(end),
            }
        }
    }

    /// A string. One with an escape is copied. Half of a surrogate pair, which JSON allows and UTF-8 does not,
    /// becomes U+FFFD.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        let mut has_escape = false;
        loop {
            let rest = self.json.as_bytes().get(self.at..)?;
            self.at += memchr2(b'"', b'\\', rest)?;
            if self.peek()? == b'"' {
                break;
            }
            has_escape = true;
            self.at += 2;
        }
        let raw = self.json.get(start..self.at)?;
        self.at += 1;
        match has_escape {
            true => unescape(raw).map(Cow::Owned),
            false => Some(Cow::Borrowed(raw)),
        }
    }

    fn number(&mut self) -> Option<AnyValue> {
        let bytes = &self.json.as_bytes()[self.at..];
        let length = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        let text = self.json.get(self.at..self.at + length)?;
        self.at += length;
        if text.is_empty() {
            return None;
        }
        if !text.contains(['.', 'e', 'E']) {
            return Some(text.parse().map_or_else(|_| string(text), integer));
        }
        let number: f64 = text.parse().ok()?;
        Some(match number.is_finite() {
            true => any(Value::DoubleValue(number)),
            false => string(text),
        })
    }

    /// The text of an array or an object, however deep it is.
    fn nested(&mut self) -> Option<&'a str> {
        let start = self.at;
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.text()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return self.json.get(start..self.at);
            }
        }
    }

    fn literal(&mut self, name: &str, value: AnyValue) -> Option<AnyValue> {
        self.json[self.at..].starts_with(name).then(|| {
            self.at += name.len();
            value
        })
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }
}

fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = hex(rest)?;
                rest = &rest[4..];
                let low = rest.strip_prefix("\\u").and_then(hex);
                match (unit, low) {
                    (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                        rest = &rest[6..];
                        let point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        char::from_u32(point)?
                    }
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => other.into(),
        });
    }
    text.push_str(rest);
    Some(text)
}

/// The four hexadecimal digits at the beginning.
fn hex(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn last_of_each_name(values: Vec<KeyValue>) -> Vec<KeyValue> {
    let is_last: Vec<bool> = match values.len() {
        ..=FEW_MEMBERS => {
            let mut later = values.iter().enumerate();
            let is_unique = later.all(|(n, it)| values[n + 1..].iter().all(|to| to.key != it.key));
            if is_unique {
                return values;
            }
            let is_last = |n: usize| values[n + 1..].iter().all(|to| to.key != values[n].key);
            (0..values.len()).map(is_last).collect()
        }
        _ => {
            let places = values.iter().enumerate().map(|(n, it)| (&*it.key, n));
            let last: HashMap<_, _> = places.collect();
            if last.len() == values.len() {
                return values;
            }
            let is_last = |(n, it): (usize, &KeyValue)| last.get(&*it.key) == Some(&n);
            values.iter().enumerate().map(is_last).collect()
        }
    };
    let mut is_last = is_last.into_iter();
    let mut values = values;
    values.retain(|_| is_last.next().unwrap_or(true));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value as text, so that expectations are short.
    fn show(value: &AnyValue) -> String {
        match &value.value {
            None => "null".to_owned(),
            Some(Value::StringValue(text)) => format!("{text:?}"),
            Some(Value::BoolValue(value)) => value.to_string(),
            Some(Value::IntValue(number)) => format!("{number}i"),
            Some(Value::DoubleValue(number)) => format!("{number:?}d"),
            Some(Value::ArrayValue(array)) => {
                let items: Vec<_> = array.values.iter().map(show).collect();
                format!("[{}]", items.join(","))
            }
            Some(Value::KvlistValue(list)) => {
                let items: Vec<_> = list
                    .values
                    .iter()
                    .map(|it| format!("{}={}", it.key, show(it.value.as_ref().unwrap())))
                    .collect();
                format!("{{{}}}", items.join(","))
            }
            other => format!("{other:?}"),
        }
    }

    fn check(json: &str, expected: &str) {
        assert_eq!(show(&from_json(json)), expected, "{json}");
    }

    #[test]
    fn every_kind_of_value_is_kept() {
        check(
            r#" {"a" : [ 1 , true,false ,null,"x" , {} , []] } "#,
            r#"{a=[1i,true,false,null,"x",{},[]]}"#,
        );
        check("null", "null");
        check(r#""""#, r#""""#);
    }

    #[test]
    fn an_integer_stays_an_integer_and_a_larger_one_keeps_its_digits() {
        check("9223372036854775807", "9223372036854775807i");
        check("-9223372036854775808", "-9223372036854775808i");
        check("9223372036854775808", r#""9223372036854775808""#);
        check(
            "123456789012345678901234567890",
            r#""123456789012345678901234567890""#,
        );
        check("9007199254740993", "9007199254740993i");
        check("-0", "0i");
        check("1.0", "1.0d");
        check("1e3", "1000.0d");
        check("-2.5E-3", "-0.0025d");
        check("1e999", r#""1e999""#);
    }

    #[test]
    fn escapes_are_decoded_also_those_that_utf_8_does_not_have() {
        check(
            r#""a\"b\\c\/d\b\f\n\r\t""#,
            r#""a\"b\\c/d\u{8}\u{c}\n\r\t""#,
        );
        check(r#""\u00e9\ud83d\ude00é""#, r#""é😀é""#);
        check(r#""\ud83d \ude00\ud83dx""#, r#""� ��x""#);
        check(r#"{"\u0061":1}"#, "{a=1i}");
    }

    #[test]
    fn of_two_members_with_one_name_the_last_counts() {
        check(r#"{"a":1,"b":2,"a":3}"#, "{b=2i,a=3i}");
        let many: Vec<_> = (0..100).map(|n| format!("\"k{}\":{n}", n % 50)).collect();
        let value = from_json(&format!("{{{}}}", many.join(",")));
        let Some(Value::KvlistValue(list)) = value.value else {
            panic!()
        };
        let numbers: Vec<_> = list
            .values
            .iter()
            .map(|it| it.value.clone().unwrap())
            .collect();
        assert_eq!(numbers, (50..100).map(integer).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_nested_too_deep_is_its_text() {
        let json = format!(
            "{}[\"]\",1]{}",
            "[".repeat(MAX_DEPTH),
            "]".repeat(MAX_DEPTH)
        );
        let expected = format!(
            "{}{:?}{}",
            "[".repeat(MAX_DEPTH),
            r#"["]",1]"#,
            "]".repeat(MAX_DEPTH)
        );
        check(&json, &expected);
        // As deep as an envelope can be: no stack is used for it.
        let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
        assert!(show(&from_json(&deep)).len() > 799_000);
    }

    #[test]
    fn what_is_no_json_is_a_string() {
        for text in [
            "",
            "{",
            "{\"a\"",
            "[1,",
            "\"",
            "\"\\",
            "tru",
            "x",
            "[1 2]",
            "\"\\u12\"",
            "\"\\u+123\"",
        ] {
            check(text, &format!("{text:?}"));
        }
    }
}
