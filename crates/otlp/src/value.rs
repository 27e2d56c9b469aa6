//! JSON text as a value of OTLP, without a loss.
//!
//! The text is what a producer sent as `data`, which the stream has validated. It is encoded while it is walked, and no
//! tree is built of it: serde_json would turn an integer that needs more than 64 bits into a float, and a tree of
//! messages costs more than all the rest.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use memchr::memchr2;

use crate::encode::{put_fixed64, put_message, put_text, put_varint};

/// How deep arrays and objects are nested in what is exported; what is deeper is a string with its JSON text.
/// Decoders bound the depth of messages. prost, for one, refuses 100 levels, and a level of objects is three: the
/// value, its list, and an entry of that.
pub(crate) const MAX_DEPTH: usize = 24;

/// Up to so many members, duplicate names of an object are searched for one by one.
const FEW_MEMBERS: usize = 48;

/// The numbers of the fields, in `AnyValue` and what is in it.
mod field {
    pub(super) const STRING: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const ARRAY: u32 = 5;
    pub(super) const LIST: u32 = 6;
    /// In an array and in a list.
    pub(super) const VALUES: u32 = 1;
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
}

/// Writes the content of an `AnyValue` with the value of a JSON text. Returns its members where it is an object.
///
/// An integer of 64 bits is an integer, a larger one a string with its digits, a number with a fraction or an exponent
/// is a double. Of two members with the same name, the last one counts, as in browsers: names have to be unique in
/// OTLP.
///
/// A text that is not JSON is a string.
pub(crate) fn put_json<'a>(out: &mut Vec<u8>, json: &'a str) -> Members<'a> {
    let start = out.len();
    let mut walk = Walk::new(json);
    if walk.value(out, 0).is_none() {
        out.truncate(start);
        put_string(out, json);
    }
    walk.top
}

/// Writes the content of an `AnyValue`.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_text(out, field::STRING, text);
}

/// Writes the content of an `AnyValue`.
pub(crate) fn put_integer(out: &mut Vec<u8>, number: i64) {
    put_varint(out, field::INT, number.cast_unsigned());
}

/// Writes the content of an `AnyValue`.
pub(crate) fn put_boolean(out: &mut Vec<u8>, value: bool) {
    put_varint(out, field::BOOL, value.into());
}

/// Writes the content of a `KeyValue`.
pub(crate) fn put_entry<T>(
    out: &mut Vec<u8>,
    key: &str,
    value: impl FnOnce(&mut Vec<u8>) -> T,
) -> T {
    put_text(out, field::KEY, key);
    put_message(out, field::VALUE, value)
}

/// The members of an object: their names, and the JSON texts of their values.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    /// Of a JSON text. None where it is no object.
    pub(crate) fn of(json: &'a str) -> Self {
        let mut walk = Walk::new(json);
        walk.skip_space();
        let mut members = Vec::new();
        if walk.peek() == Some(b'{') {
            let _ = walk.members(b'}', |walk| {
                let name = walk.name()?;
                members.push((name, walk.skip()?));
                Some(())
            });
        }
        Self(members)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().rev().find(|(it, _)| it == name);
        found.map(|(_, json)| *json)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        Walk::new(self.get(name)?).text()
    }

    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// `None` where that is no object.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        let json = self.get(name).filter(|json| json.starts_with('{'))?;
        Some(Self::of(json))
    }

    /// The JSON texts of the elements of an array. `None` where that is no array.
    pub(crate) fn array(&self, name: &str) -> Option<Vec<&'a str>> {
        let json = self.get(name).filter(|json| json.starts_with('['))?;
        let mut elements = Vec::new();
        Walk::new(json).members(b']', |walk| {
            elements.push(walk.skip()?);
            Some(())
        })?;
        Some(elements)
    }
}

/// A position in a JSON text. The functions give `None` where the text is not JSON after all.
struct Walk<'a> {
    json: &'a str,
    at: usize,
    /// The members of the outermost object.
    top: Members<'a>,
    /// The members of the objects that are being walked, with the places where they were written.
    written: Vec<(Cow<'a, str>, Range<usize>)>,
}

impl<'a> Walk<'a> {
    fn new(json: &'a str) -> Self {
        Self {
            json,
            at: 0,
            top: Members::default(),
            written: Vec::new(),
        }
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.skip_space();
        match self.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => put_string(out, self.nested()?),
            b'{' => put_message(out, field::LIST, |out| self.object(out, depth))?,
            b'[' => put_message(out, field::ARRAY, |out| self.array(out, depth))?,
            b'"' => put_string(out, &self.text()?),
            b't' => {
                self.literal("true")?;
                put_boolean(out, true);
            }
            b'f' => {
                self.literal("false")?;
                put_boolean(out, false);
            }
            // A value without anything is null.
            b'n' => self.literal("null")?,
            _ => self.number(out)?,
        }
        Some(())
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        let first = self.written.len();
        self.members(b'}', |walk| {
            let name = walk.name()?;
            let (start, value_at) = (out.len(), walk.at);
            put_message(out, field::VALUES, |out| {
                put_entry(out, &name, |out| walk.value(out, depth + 1))
            })?;
            if depth == 0 {
                let json = walk.json.get(value_at..walk.at)?;
                walk.top.0.push((name.clone(), json));
            }
            walk.written.push((name, start..out.len()));
            Some(())
        })?;
        let members = &self.written[first..];
        if !are_unique(members) {
            for place in replaced(members).into_iter().rev() {
                out.drain(place);
            }
        }
        self.written.truncate(first);
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.members(b']', |walk| {
            put_message(out, field::VALUES, |out| walk.value(out, depth + 1))
        })
    }

    /// The name of a member. What follows is its value, without space before it.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let name = self.text()?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Some(name)
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

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let text = self.digits()?;
        if !text.contains(['.', 'e', 'E']) {
            match text.parse() {
                Ok(number) => put_integer(out, number),
                Err(_) => put_string(out, text),
            }
            return Some(());
        }
        let number: f64 = text.parse().ok()?;
        match number.is_finite() {
            true => put_fixed64(out, field::DOUBLE, number.to_bits()),
            false => put_string(out, text),
        }
        Some(())
    }

    fn digits(&mut self) -> Option<&'a str> {
        let bytes = &self.json.as_bytes()[self.at..];
        let length = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        let text = self.json.get(self.at..self.at + length)?;
        self.at += length;
        (!text.is_empty()).then_some(text)
    }

    /// Passes over a value. Returns its JSON text.
    fn skip(&mut self) -> Option<&'a str> {
        self.skip_space();
        let start = self.at;
        match self.peek()? {
            b'{' | b'[' => drop(self.nested()?),
            b'"' => drop(self.text()?),
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            _ => drop(self.digits()?),
        }
        self.json.get(start..self.at)
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

    fn literal(&mut self, name: &str) -> Option<()> {
        self.json[self.at..]
            .starts_with(name)
            .then(|| self.at += name.len())
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

type Member<'a> = (Cow<'a, str>, Range<usize>);

fn are_unique(members: &[Member<'_>]) -> bool {
    match members.len() {
        ..=FEW_MEMBERS => {
            let mut each = members.iter().enumerate();
            each.all(|(n, (name, _))| members[n + 1..].iter().all(|(later, _)| later != name))
        }
        count => {
            let names: HashMap<_, _> = members.iter().map(|(name, _)| (name, ())).collect();
            names.len() == count
        }
    }
}

/// Where the members are that a later one with the same name replaces.
fn replaced(members: &[Member<'_>]) -> Vec<Range<usize>> {
    let places = members.iter().enumerate().map(|(n, (name, _))| (name, n));
    let last: HashMap<_, _> = places.collect();
    let members = members.iter().enumerate();
    let replaced = members.filter(|(n, (name, _))| last.get(name) != Some(n));
    replaced.map(|(_, (_, place))| place.clone()).collect()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message as _;

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

    fn decoded(json: &str) -> AnyValue {
        let mut out = Vec::new();
        put_json(&mut out, json);
        AnyValue::decode(&*out).unwrap()
    }

    fn check(json: &str, expected: &str) {
        assert_eq!(show(&decoded(json)), expected, "{json}");
    }

    #[test]
    fn the_members_of_an_object_can_be_looked_up() {
        let json = r#" {"a" : "\u0041b", "n": -7 ,"f":1.5,"t":true,"o":{"x": {"y":[1,"]"]}},"a2":[ 1,{"b":2} ],"n":8}"#;
        let mut out = Vec::new();
        for members in [put_json(&mut out, json), Members::of(json)] {
            assert_eq!(members.text("a").as_deref(), Some("Ab"));
            assert_eq!((members.text("n"), members.integer("n")), (None, Some(8)));
            assert_eq!((members.integer("f"), members.integer("a")), (None, None));
            assert!(members.is_true("t") && !members.is_true("a"));
            let inner = members.object("o").unwrap();
            assert!(inner.has("x") && !inner.has("y"));
            assert_eq!(members.array("a2").unwrap(), ["1", r#"{"b":2}"#]);
            assert!(members.object("a2").is_none() && members.array("o").is_none());
        }
        assert!(!put_json(&mut out, "[1]").has("a"));
        assert!(!Members::of("\"a\"").has("a"));
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
        let value = decoded(&format!("{{{}}}", many.join(",")));
        let Some(Value::KvlistValue(list)) = value.value else {
            panic!()
        };
        let numbers: Vec<_> = list
            .values
            .iter()
            .map(|it| it.value.clone().unwrap())
            .collect();
        let expected = (50..100).map(|number| AnyValue {
            value: Some(Value::IntValue(number)),
        });
        assert_eq!(numbers, expected.collect::<Vec<_>>());
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
        assert!(show(&decoded(&deep)).len() > 799_000);
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
