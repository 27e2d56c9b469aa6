//! Reads the body of a request. An error names the field.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor,
};

use crate::error::{ErrorBody, ErrorCode};
use crate::event_type::check_pattern;

/// Reads the JSON object that is the whole of `bytes`.
///
/// Costs what `serde_json` costs if the body is valid. An invalid body is read a second time, to
/// find out which field is wrong.
///
/// ```
/// use tapline_oapi::{ErrorCode, PublishRequest, from_json};
///
/// let error = from_json::<PublishRequest>(br#"{"type": "page_load", "source": {"kind": "x"}}"#).unwrap_err();
/// assert_eq!(error.code, ErrorCode::InvalidField);
/// assert_eq!(error.field.as_deref(), Some("source.kind"));
/// assert!(error.to_string().starts_with("field `source.kind`: unknown value `x`, expected one of"));
/// ```
///
/// # Errors
///
/// [`JsonError`] if `bytes` are not JSON (not UTF-8, empty, or more than one value), not an object, or
/// not what `T` accepts. An array is never accepted as an object, though serde accepts it.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    read(bytes, Whole::Body)
}

/// As [`from_json`], for one line of a body with an object on each line. The message does not contain
/// the line's number; the caller adds it.
///
/// # Errors
///
/// As for [`from_json`].
pub fn from_json_line<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    read(bytes, Whole::Line)
}

fn read<T: DeserializeOwned>(bytes: &[u8], whole: Whole) -> Result<T, JsonError> {
    // RFC 8259, section 8.1: a parser may ignore a byte-order mark, which some programs write before UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Validating the UTF-8 once is cheaper than string by string.
    let read = match str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str::<Object<T>>(text),
        Err(_) => serde_json::from_slice(bytes),
    };
    match read {
        Ok(Object(value)) => Ok(value),
        Err(error) => {
            // Some types report a value of the wrong kind as a syntax error: an enum does so for a number.
            let is_json = error.classify() == serde_json::error::Category::Data
                || str::from_utf8(bytes)
                    .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
            let path = path_of_error::<T>(bytes);
            Err(JsonError::new(&error, is_json, path, whole))
        }
    }
}

/// Why a body could not be read. `Display` is a sentence for people, which names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    /// [`InvalidJson`](ErrorCode::InvalidJson), [`MissingField`](ErrorCode::MissingField),
    /// [`UnknownField`](ErrorCode::UnknownField) or [`InvalidField`](ErrorCode::InvalidField).
    pub code: ErrorCode,
    /// The invalid field, as a path such as `browser.console.enabled`. `None` if it is the body as a
    /// whole.
    pub field: Option<String>,
    /// What is wrong, in a few hundred characters at most, whatever the caller sent.
    pub message: String,
    /// The line of the body at which reading stopped, from 1.
    pub line: usize,
    /// The column of that line, in bytes, from 1; 0 at the very start of a line.
    pub column: usize,
}

impl JsonError {
    fn new(error: &serde_json::Error, is_json: bool, path: Option<String>, whole: Whole) -> Self {
        let (line, column) = (error.line(), error.column());
        let position = format!(" at line {line} column {column}");
        let full = error.to_string();
        let detail = full.strip_suffix(&position).unwrap_or(&full);

        let (code, field, message) = match Fault::of(is_json, detail) {
            Fault::NotJson => {
                let reason = shortened(plain(detail));
                let message = match whole {
                    Whole::Body => {
                        format!(
                            "{whole} is not valid JSON (line {line}, column {column}): {reason}"
                        )
                    }
                    Whole::Line => format!("not valid JSON (column {column}): {reason}"),
                };
                (ErrorCode::InvalidJson, None, message)
            }
            Fault::Missing(name) => {
                let field = joined(path.as_deref(), name);
                let message = format!("field `{}`: missing", shortened(&field));
                (ErrorCode::MissingField, Some(field), message)
            }
            Fault::Unknown(name) => {
                // The path ends with the unknown name already.
                let field = path.unwrap_or_else(|| name.to_owned());
                // The known names are at the end; the caller's name before them may contain anything.
                let known = detail
                    .rsplit_once("`, expected ")
                    .map(|(_, known)| format!(", expected {known}"));
                let message = format!(
                    "field `{}`: unknown field{}",
                    shortened(&field),
                    known.unwrap_or_default()
                );
                (ErrorCode::UnknownField, Some(field), message)
            }
            Fault::Duplicate(name) => {
                let field = joined(path.as_deref(), name);
                let message = format!("field `{}`: given twice", shortened(&field));
                (ErrorCode::InvalidField, Some(field), message)
            }
            Fault::Invalid => {
                let place = match &path {
                    Some(field) => format!("field `{}`", shortened(field)),
                    None => whole.to_string(),
                };
                let is_escape = detail.contains("hex escape");
                let detail = in_words(if is_escape { plain(detail) } else { detail });
                (
                    ErrorCode::InvalidField,
                    path,
                    format!("{place}: {}", shortened(&detail)),
                )
            }
        };
        Self {
            code,
            field,
            message,
            line,
            column,
        }
    }
}

impl From<&JsonError> for ErrorBody {
    fn from(error: &JsonError) -> Self {
        Self::new(error.code, error.to_string())
    }
}

/// The text that was to be an object, for messages.
#[derive(Clone, Copy)]
enum Whole {
    Body,
    Line,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "the body",
            Self::Line => "the line",
        })
    }
}

/// The parser's message in words for people who did not write a parser.
fn plain(detail: &str) -> &str {
    const PLAIN: [(&str, &str); 21] = [
        ("EOF while parsing a list", "it ends inside an array"),
        ("EOF while parsing an object", "it ends inside an object"),
        ("EOF while parsing a string", "it ends inside a string"),
        (
            "EOF while parsing a value",
            "it ends where a value is expected",
        ),
        ("expected `:`", "a `:` is missing after the name of a field"),
        ("expected `,` or `]`", "a `,` or `]` is missing"),
        ("expected `,` or `}`", "a `,` or `}` is missing"),
        ("expected `\"`", "a `\"` is missing"),
        (
            "expected ident",
            "this is not a JSON value; a text needs double quotes",
        ),
        (
            "expected value",
            "this is not a JSON value; a text needs double quotes",
        ),
        (
            "invalid escape",
            "a `\\` in a string begins an unknown escape; write `\\\\` for the character itself",
        ),
        (
            "lone leading surrogate",
            "a `\\u` escape in a string is half of a pair; write both halves, or the character itself",
        ),
        (
            "unexpected end of hex escape",
            "a `\\u` escape in a string is half of a pair; write both halves, or the character itself",
        ),
        (
            "invalid number",
            "the number is incomplete or has leading zeros",
        ),
        ("number out of range", "the number is too large"),
        ("invalid unicode code point", "a string is not valid UTF-8"),
        (
            "control character",
            "a control character in a string must be escaped, a line break as `\\n`",
        ),
        (
            "key must be a string",
            "the name of a field must be in double quotes",
        ),
        (
            "trailing comma",
            "remove the comma before the closing bracket",
        ),
        (
            "trailing characters",
            "remove the text after the end of the object",
        ),
        ("recursion limit exceeded", "it is nested too deeply"),
    ];
    let known = PLAIN.iter().find(|(start, _)| detail.starts_with(start));
    known.map_or(detail, |(_, plain)| plain)
}

/// A message about a value in the words of JSON, and not of Rust.
fn in_words(detail: &str) -> String {
    const KINDS: [(&str, &str); 8] = [
        ("map", "an object"),
        ("sequence", "an array"),
        ("null", "null"),
        ("string ", "the text "),
        ("integer ", "the number "),
        ("floating point ", "the number "),
        ("boolean ", ""),
        ("number", "a number"),
    ];
    // What a name got that should be one of several, but is no text.
    if detail == "expected value" {
        return "expected a text in double quotes".to_owned();
    }
    let misfit = ["invalid type: ", "invalid value: "];
    // The value before `, expected ` is the caller's, and may contain anything.
    let parts = misfit
        .iter()
        .find_map(|start| detail.strip_prefix(start)?.rsplit_once(", expected "));
    let Some((found, expected)) = parts else {
        return detail.replacen("unknown variant `", "unknown value `", 1);
    };
    let found = match KINDS.iter().find(|(kind, _)| found.starts_with(kind)) {
        Some((kind, words)) => format!("{words}{}", &found[kind.len()..]),
        None => found.to_owned(),
    };
    let expected = match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "a boolean" => "true or false",
        "u64" | "u32" | "usize" => "a whole number from 0",
        "i64" | "i32" => "a whole number",
        "f64" => "a number",
        "any valid JSON value" => "a JSON value",
        "string or map" => "a string",
        expected => expected,
    };
    format!("expected {expected}, found {found}")
}

/// What kind of error it is. Serde says most of that in its message alone.
enum Fault<'a> {
    NotJson,
    Missing(&'a str),
    Unknown(&'a str),
    Duplicate(&'a str),
    Invalid,
}

impl<'a> Fault<'a> {
    fn of(is_json: bool, detail: &'a str) -> Self {
        let named = |start: &str| {
            detail
                .strip_prefix(start)
                .and_then(|rest| rest.split('`').next())
        };
        if !is_json {
            Self::NotJson
        } else if let Some(name) = named("missing field `") {
            Self::Missing(name)
        } else if let Some(name) = named("unknown field `") {
            Self::Unknown(name)
        } else if let Some(name) = named("duplicate field `") {
            Self::Duplicate(name)
        } else {
            Self::Invalid
        }
    }
}

/// Reads again and keeps track of the path; `None` if the error is in the body as a whole.
fn path_of_error<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let error = serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer).err()?;
    let path = error.path();
    (path.iter().len() > 0).then(|| path.to_string())
}

fn joined(parent: Option<&str>, name: &str) -> String {
    match parent {
        Some(parent) => format!("{parent}.{name}"),
        None => name.to_owned(),
    }
}

/// Cuts what a caller sent, so that an answer does not grow with the request.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads `T`, a struct, from an object only. Derived code also accepts an array with the fields in
/// their order: `[]` would then be a request in which every field is absent.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FromMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for FromMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(FromMap(PhantomData)).map(Self)
    }
}

/// For `deserialize_with` on a field that holds a struct: an object, never an array.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// For `deserialize_with` on a field that holds a struct: an object or `null`, never an array.
pub(crate) fn optional_object<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let object = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(object.map(|Object(value)| value))
}

/// For `deserialize_with` on a field with patterns of event types. Their number is bounded, because
/// every pattern is matched against every event.
pub(crate) fn optional_types<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    const MAX_PATTERNS: usize = 100;
    let types = Option::<Vec<String>>::deserialize(deserializer)?;
    match &types {
        Some(types) if types.len() > MAX_PATTERNS => Err(D::Error::custom(format_args!(
            "more than {MAX_PATTERNS} types; send fewer"
        ))),
        _ => {
            for pattern in types.iter().flatten() {
                check_pattern(pattern).map_err(D::Error::custom)?;
            }
            Ok(types)
        }
    }
}

/// For `deserialize_with` on a field with a seq. The bound is the one of the OpenAPI document: a signed
/// 64-bit integer, which every client can represent.
pub(crate) fn optional_seq<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    let seq = Option::<u64>::deserialize(deserializer)?;
    if seq.is_some_and(|seq| i64::try_from(seq).is_err()) {
        return Err(D::Error::custom("a seq must be from 0 to 2^63 - 1"));
    }
    Ok(seq)
}
