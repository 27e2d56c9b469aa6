//! Secrets are removed from every text before it becomes part of an event: [`Redaction`].
//!
//! The rules look at text, not at fields, because a URL with a password in it can be in an address,
//! a stack trace, a header or a console line. A text without an `@` has no userinfo, so the search
//! is cheap where there is nothing to find.
//!
//! # Long texts
//!
//! A page can log a line of 64 MiB. Only the beginning of such a text is ever decoded and searched:
//! the bytes that are kept, and [`MARGIN`] more. A secret that this window cuts in two must not be
//! shown by halves, so each rule treats the end of a window as follows:
//!
//! - A query parameter or a JSON field whose value reaches the end is removed up to the end.
//! - A `//` whose authority reaches the end may have a userinfo, whose `@` is beyond the window. All
//!   of it is removed. No host name is as long as the margin, so what is kept of a usual URL
//!   stays as it is.
//! - JSON in a string that reaches the end is searched as far as it goes.
//!
//! A name or a delimiter that the window cuts hides nothing: the value behind it is beyond the window.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::find::find;

/// Replaces each secret that was removed. It is also valid within a URL.
pub const REDACTED: &str = "*redacted*";

/// How many bytes beyond the kept ones the rules see of a long text. Longer than any host name.
pub(crate) const MARGIN: usize = 1024;

/// Headers whose values are secrets, in lower case.
const SECRET_HEADERS: [&str; 5] = [
    "authorization",
    "cookie",
    "set-cookie",
    "proxy-authorization",
    "x-api-key",
];

/// How deep JSON in a string of JSON is searched.
const MAX_DEPTH: usize = 4;

/// Rules that say which secrets are removed from events.
///
/// The default removes the values of the headers `authorization`, `cookie`, `set-cookie`,
/// `proxy-authorization` and `x-api-key`, and the userinfo of URLs in any text. Add names with the
/// `with_…` functions; names are compared without regard to case.
///
/// ```
/// use tapline_cdp::Redaction;
///
/// let redaction = Redaction::default()
///     .with_headers(["x-csrf-token"])
///     .with_query_parameters(["access_token"])
///     .with_json_fields(["password"]);
/// assert_ne!(redaction, Redaction::off());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    /// If not set, the other fields have no effect.
    on: bool,
    headers: Vec<String>,
    parameters: Vec<String>,
    fields: Vec<String>,
}

/// Redaction rules that can be replaced while they are in use. Clones share the same rules.
///
/// A source takes the current rules at the beginning of each browser message, so an event never
/// mixes two sets of rules. A response that waits for its body keeps the headers and URL as the
/// earlier rules left them.
///
/// ```
/// use tapline_cdp::{Options, Redaction, SharedRedaction};
///
/// let shared = SharedRedaction::new(Redaction::default());
/// let options = Options { redaction: shared.clone(), ..Options::default() };
/// // Later, while the source runs with these options:
/// shared.replace(Redaction::default().with_json_fields(["password"]));
/// assert_eq!(options.redaction.current(), shared.current());
/// ```
#[derive(Debug, Clone, Default)]
pub struct SharedRedaction(Arc<ArcSwap<Redaction>>);

impl SharedRedaction {
    /// Shares these rules.
    #[must_use]
    pub fn new(rules: Redaction) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// Replaces the rules for everyone who shares them. Never waits.
    pub fn replace(&self, rules: Redaction) {
        self.0.store(Arc::new(rules));
    }

    /// The rules as they are now.
    #[must_use]
    pub fn current(&self) -> Arc<Redaction> {
        self.0.load_full()
    }

    /// Brings `rules` up to date. Cheaper than [`current`](Self::current) where nothing has changed.
    pub(crate) fn refresh(&self, rules: &mut Arc<Redaction>) {
        let current = self.0.load();
        if !Arc::ptr_eq(&current, rules) {
            *rules = Arc::clone(&current);
        }
    }
}

impl From<Redaction> for SharedRedaction {
    fn from(rules: Redaction) -> Self {
        Self::new(rules)
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            on: true,
            headers: SECRET_HEADERS.map(str::to_owned).to_vec(),
            parameters: Vec::new(),
            fields: Vec::new(),
        }
    }
}

impl Redaction {
    /// Rules that remove nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            on: false,
            ..Self::default()
        }
    }

    /// Also removes the values of these headers.
    #[must_use]
    pub fn with_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.headers.extend(lower(names));
        self
    }

    /// Also removes the values of these query parameters: from URLs in any text, and from bodies
    /// and other texts of the form `name=value&name=value`.
    #[must_use]
    pub fn with_query_parameters<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.parameters.extend(lower(names));
        self
    }

    /// Also removes the values of these fields of JSON objects, at any depth: from bodies, and from
    /// any other text that contains JSON, also as a string within JSON.
    #[must_use]
    pub fn with_json_fields<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.fields.extend(lower(names));
        self
    }

    /// Whether the values of this header are secrets.
    pub(crate) fn is_secret_header(&self, name: &str) -> bool {
        let is = |secret: &String| secret.eq_ignore_ascii_case(name);
        self.on && self.headers.iter().any(is)
    }

    /// Whether what a property or an entry of this name contains is a secret: the name is that of a secret
    /// field or of a secret header.
    pub(crate) fn is_secret_name(&self, name: &str) -> bool {
        self.is_secret_header(name) || self.on && is_one_of(name, &self.fields)
    }

    /// A text without its secrets: userinfo in URLs, and the values of the configured query parameters and
    /// JSON fields. Borrowed where there is none.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.search(text, false, 0)
    }

    /// The beginning of a longer text without its secrets, also those that continue beyond it. With
    /// `is_cut` not set it is the whole text.
    pub(crate) fn beginning<'a>(&self, text: &'a str, is_cut: bool) -> Cow<'a, str> {
        self.search(text, is_cut, 0)
    }

    /// A text without its secrets, and no longer than `limit` bytes.
    pub(crate) fn within(&self, text: &str, limit: usize) -> String {
        let window = cut(text, limit.saturating_add(MARGIN));
        let is_cut = window.len() < text.len();
        cut(&self.beginning(window, is_cut), limit).to_owned()
    }

    fn search<'a>(&self, text: &'a str, is_cut: bool, depth: usize) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if !self.on {
            return text;
        }
        if is_cut || may_have_userinfo(&text) {
            edit(&mut text, |text| userinfo(text, is_cut));
        }
        if !self.parameters.is_empty() {
            edit(&mut text, |text| parameters(text, &self.parameters));
        }
        if !self.fields.is_empty() && text.contains('"') {
            edit(&mut text, |text| self.fields(text, is_cut, depth));
        }
        text
    }

    /// Removes the values of secret fields. The text need not be JSON, and may end within a value.
    fn fields(&self, text: &str, is_cut: bool, depth: usize) -> Option<String> {
        let mut edits = Edits::of(text);
        let mut at = 0;
        while let Some(quote) = find(text.as_bytes(), at, *b"\"") {
            let closed = string_end(text, quote);
            let end = closed.unwrap_or(text.len());
            let content = &text[quote + 1..closed.map_or(end, |end| end - 1)];
            at = end;
            let value = skip_spaces(text, end);
            if text.as_bytes().get(value) == Some(&b':') {
                let value = skip_spaces(text, value + 1);
                if self.is_secret_field(content) {
                    let end = value_end(text, value);
                    edits.replace(value, end, &["\"", REDACTED, "\""]);
                    at = end;
                }
            } else if depth < MAX_DEPTH && content.contains("\\\"") {
                // JSON as a string: decoded, searched, and encoded again.
                let is_cut = is_cut && closed.is_none();
                if let Some(inner) = decoded_string(content)
                    && let Cow::Owned(inner) = self.search(&inner, is_cut, depth + 1)
                    && let Ok(quoted) = serde_json::to_string(&inner)
                {
                    let quoted = match closed {
                        Some(_) => &quoted,
                        None => &quoted[..quoted.len() - 1],
                    };
                    edits.replace(quote, end, &[quoted]);
                }
            }
        }
        edits.done()
    }

    fn is_secret_field(&self, name: &str) -> bool {
        let is = |name: &str| self.fields.iter().any(|it| it.eq_ignore_ascii_case(name));
        if name.contains('\\') {
            decoded_string(name).is_some_and(|name| is(&name))
        } else {
            is(name)
        }
    }
}

fn lower<N: Into<String>>(names: impl IntoIterator<Item = N>) -> impl Iterator<Item = String> {
    names.into_iter().map(|name| {
        let mut name = name.into();
        name.make_ascii_lowercase();
        name
    })
}

fn edit(text: &mut Cow<'_, str>, by: impl FnOnce(&str) -> Option<String>) {
    if let Some(edited) = by(text) {
        *text = Cow::Owned(edited);
    }
}

/// A text in which some parts are replaced; a copy only if there are any.
struct Edits<'a> {
    text: &'a str,
    copied: usize,
    out: String,
}

impl<'a> Edits<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            copied: 0,
            out: String::new(),
        }
    }

    fn replace(&mut self, from: usize, to: usize, by: &[&str]) {
        self.out.push_str(&self.text[self.copied..from]);
        for part in by {
            self.out.push_str(part);
        }
        self.copied = to;
    }

    fn done(mut self) -> Option<String> {
        if self.copied == 0 {
            return None;
        }
        self.out.push_str(&self.text[self.copied..]);
        Some(self.out)
    }
}

/// Whether there is an `@`, in any of its notations.
fn may_have_userinfo(text: &str) -> bool {
    let Some(first) = find(text.as_bytes(), 0, *b"@%\\") else {
        return false;
    };
    let rest = &text[first..];
    rest.contains('@') || rest.contains("%40") || rest.contains(r"\u0040")
}

/// Removes the userinfo of every URL: the text between `//` and the `@` of an authority. Both may be
/// escaped as in JSON (`\/\/`, `\u002f`), or percent-encoded as for a URL in the query of another one.
/// With `is_cut`, an authority that reaches the end of the text is removed.
fn userinfo(text: &str, is_cut: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut edits = Edits::of(text);
    let mut at = 0;
    while at < bytes.len() {
        let Some(slash) = slash(bytes, at) else {
            at += 1;
            continue;
        };
        let Some(second) = self::slash(bytes, at + slash) else {
            at += slash;
            continue;
        };
        let encoded = bytes[at] == b'%';
        let mut start = at + slash + second;
        while let Some(more) = self::slash(bytes, start) {
            start += more;
        }
        // The last `@` counts: an earlier one belongs to a password that was not encoded.
        let mut end = start;
        let mut info = None;
        while let Some(byte) = bytes.get(end) {
            let rest = &bytes[end..];
            match byte {
                b'\\' if rest.starts_with(ESCAPED_AT) => info = Some(end),
                b'\\' if is_cut && ESCAPED_AT.starts_with(rest) => {}
                b'/' | b'\\' | b'?' | b'#' | b'"' => break,
                byte if byte.is_ascii_whitespace() => break,
                b'@' => info = Some(end),
                b'%' if encoded => match bytes.get(end + 1..end + 3) {
                    Some(b"40") => info = Some(end),
                    Some(b"2f" | b"2F" | b"3f" | b"3F" | b"23" | b"26") => break,
                    _ => {}
                },
                b'&' if encoded => break,
                _ => {}
            }
            end += 1;
        }
        if is_cut && end == bytes.len() {
            info = Some(end);
        }
        if let Some(info) = info.filter(|info| start < *info) {
            edits.replace(start, info, &[REDACTED]);
        }
        at = end;
    }
    edits.done()
}

/// An `@` as JSON may escape it.
const ESCAPED_AT: &[u8] = br"\u0040";

/// The length of the slash at `at`, in any of its notations.
fn slash(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'/' => Some(1),
        b'\\' if bytes.get(at + 1) == Some(&b'/') => Some(2),
        b'\\' if matches!(bytes.get(at + 1..at + 6), Some(b"u002f" | b"u002F")) => Some(6),
        b'%' if matches!(bytes.get(at + 1..at + 3), Some(b"2f" | b"2F")) => Some(3),
        _ => None,
    }
}

/// Removes the values of these parameters: `name=value` at the beginning, after a delimiter of
/// parameters, or after a delimiter of texts such as a quote. All of it may be percent-encoded.
fn parameters(text: &str, names: &[String]) -> Option<String> {
    let bytes = text.as_bytes();
    let mut edits = Edits::of(text);
    let mut name_start = 0;
    let mut at = 0;
    while at < bytes.len() {
        let (byte, len) = decoded(bytes, at);
        match byte {
            b'=' => {
                let encoded = len == PERCENT;
                let value = at + len;
                if is_one_of(&text[name_start..at], names) {
                    let mut end = value;
                    while end < bytes.len() {
                        let (byte, len) = decoded(bytes, end);
                        let ends = match byte {
                            b'&' | b'#' => encoded || len != PERCENT,
                            b'"' | b'\'' | b'<' | b'>' => len == 1,
                            b'\\' => bytes.get(end + 1) == Some(&b'"'),
                            byte => len == 1 && byte.is_ascii_whitespace(),
                        };
                        if ends {
                            break;
                        }
                        end += len;
                    }
                    edits.replace(value, end, &[REDACTED]);
                    at = end;
                } else {
                    at = value;
                }
                name_start = at;
            }
            b'?' | b'&' | b'#' | b';' => {
                at += len;
                name_start = at;
            }
            _ => {
                at += len;
                // Encoded, such a byte is part of a name.
                if len == 1 && (byte.is_ascii_whitespace() || b"\"'(,".contains(&byte)) {
                    name_start = at;
                }
            }
        }
    }
    edits.done()
}

/// The length of a percent-encoded byte.
const PERCENT: usize = 3;

/// The byte at `at`, decoded if it is percent-encoded or escaped as in JSON, and the length of its
/// notation. Of a character outside ASCII it is one part, which never equals a delimiter.
fn decoded(bytes: &[u8], at: usize) -> (u8, usize) {
    let (digits, len) = match bytes[at] {
        b'%' => (at + 1, PERCENT),
        b'\\' if bytes[at..].starts_with(br"\u00") => (at + 4, 6),
        byte => return (byte, 1),
    };
    let hex = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
    match (hex(digits), hex(digits + 1)) {
        #[allow(clippy::cast_possible_truncation, reason = "two hexadecimal digits")]
        (Some(high), Some(low)) => ((high << 4 | low) as u8, len),
        _ => (bytes[at], 1),
    }
}

fn is_one_of(name: &str, names: &[String]) -> bool {
    if !name.contains(['%', '\\']) {
        return names.iter().any(|it| it.eq_ignore_ascii_case(name));
    }
    let bytes = name.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (byte, len) = decoded(bytes, at);
        plain.push(byte);
        at += len;
    }
    names
        .iter()
        .any(|it| it.as_bytes().eq_ignore_ascii_case(&plain))
}

/// The position after the closing quote of the string that begins at `quote`, if it is closed.
fn string_end(text: &str, quote: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// What the inside of a JSON string says. An escape that is cut at its end is left out.
fn decoded_string(content: &str) -> Option<String> {
    let bytes = content.as_bytes();
    let mut end = 0;
    while end < bytes.len() {
        let len = match &bytes[end..] {
            // The first half of a surrogate pair: the second one belongs to it.
            [
                b'\\',
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a' | b'A' | b'b' | b'B',
                ..,
            ] => 12,
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            _ => 1,
        };
        if bytes.len() < end + len {
            break;
        }
        end += len;
    }
    serde_json::from_str(&format!("\"{}\"", content.get(..end)?)).ok()
}

fn skip_spaces(text: &str, from: usize) -> usize {
    let spaces = text.as_bytes().iter().skip(from);
    from + spaces.take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The position after the JSON value that begins at `from`, or the end of the text.
fn value_end(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = string_end(text, at).unwrap_or(text.len());
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' if depth == 1 => return at + 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The first `limit` bytes, or up to three fewer so that no character is cut in two.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(redaction: &Redaction, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(redaction.redact(text), *expected, "{text}");
        }
    }

    #[test]
    fn userinfo_is_removed_from_urls_in_any_text() {
        check(
            &Redaction::default(),
            &[
                ("http://u:p@h/a", "http://*redacted*@h/a"),
                ("ws://u@h", "ws://*redacted*@h"),
                ("http://u:p@ss@h/a", "http://*redacted*@h/a"),
                ("http://u:p'a{s}<s@h/", "http://*redacted*@h/"),
                (
                    "see http://u:p@h, then //v:q@i.",
                    "see http://*redacted*@h, then //*redacted*@i.",
                ),
                ("blob:http://u:p@h/1", "blob:http://*redacted*@h/1"),
                (
                    r#"{"a":"http:\/\/u:p@h\/"}"#,
                    r#"{"a":"http:\/\/*redacted*@h\/"}"#,
                ),
                (
                    "/go?to=http%3A%2F%2Fu%3Ap%40h%2Fa",
                    "/go?to=http%3A%2F%2F*redacted*%40h%2Fa",
                ),
                (
                    "/go?to=http%3a%2f%2fu%3ap%40h&x=y@z",
                    "/go?to=http%3a%2f%2f*redacted*%40h&x=y@z",
                ),
                ("http:////u:p@h/", "http:////*redacted*@h/"),
                (
                    r#"{"a":"http:\u002F\u002fu:p@h\u002f"}"#,
                    r#"{"a":"http:\u002F\u002f*redacted*@h\u002f"}"#,
                ),
                (r"http:\/\/u:p\u0040h", r"http:\/\/*redacted*\u0040h"),
                // No userinfo: nothing is removed.
                ("https://cdn/react@18/x.js", "https://cdn/react@18/x.js"),
                ("http://h/?mail=a@b", "http://h/?mail=a@b"),
                ("http://@h/", "http://@h/"),
                ("mail me: a@b.example", "mail me: a@b.example"),
                ("// @license", "// @license"),
                ("ü@//é@h", "ü@//*redacted*@h"),
            ],
        );
    }

    #[test]
    fn parameters_are_removed_from_queries_in_any_text() {
        check(
            &Redaction::default().with_query_parameters(["Token", "a b"]),
            &[
                ("http://h/?token=s3&x=1", "http://h/?token=*redacted*&x=1"),
                (
                    "http://h/?x=1&TOKEN=s3#f",
                    "http://h/?x=1&TOKEN=*redacted*#f",
                ),
                ("http://h/#token=s3", "http://h/#token=*redacted*"),
                ("token=s3&x=1", "token=*redacted*&x=1"),
                ("x=1&tok%65n=s%26t&y=2", "x=1&tok%65n=*redacted*&y=2"),
                (
                    "/go?to=%2Fcb%3Ftoken%3Ds3%26x%3D1",
                    "/go?to=%2Fcb%3Ftoken%3D*redacted*%26x%3D1",
                ),
                ("a%20b=s3", "a%20b=*redacted*"),
                (
                    "GET '/cb?token=s3' failed",
                    "GET '/cb?token=*redacted*' failed",
                ),
                (
                    "http://h/?mytoken=1&tokens=2",
                    "http://h/?mytoken=1&tokens=2",
                ),
                ("/?tokén=1&token=é", "/?tokén=1&token=*redacted*"),
                (
                    r#"{"next":"/cb?x=1\u0026token=s3\u0026y=2"}"#,
                    r#"{"next":"/cb?x=1\u0026token=*redacted*\u0026y=2"}"#,
                ),
                (
                    r#""{\"next\":\"/?token=s3\"}""#,
                    r#""{\"next\":\"/?token=*redacted*\"}""#,
                ),
                (r"/?token=s\3&x=1", "/?token=*redacted*&x=1"),
                ("token", "token"),
                ("%", "%"),
            ],
        );
    }

    #[test]
    fn fields_are_removed_from_json_in_any_text() {
        check(
            &Redaction::default().with_json_fields(["password", "card"]),
            &[
                (
                    r#"{"password":"s3","x":1}"#,
                    r#"{"password":"*redacted*","x":1}"#,
                ),
                (
                    r#"{"x":{"Card" : [1,{"a":"]"}], "y":2}}"#,
                    r#"{"x":{"Card" : "*redacted*", "y":2}}"#,
                ),
                (r#"{"card":4111}"#, r#"{"card":"*redacted*"}"#),
                (
                    r#"{"p\u0061ssword":"s3"}"#,
                    r#"{"p\u0061ssword":"*redacted*"}"#,
                ),
                (
                    r#"{"password":"s\"3","x":"}"}"#,
                    r#"{"password":"*redacted*","x":"}"}"#,
                ),
                (r#"{"password":"cut o"#, r#"{"password":"*redacted*""#),
                (r#"{"password":{"a":"cut"#, r#"{"password":"*redacted*""#),
                (
                    r#"log: {"password":"s3"} sent"#,
                    r#"log: {"password":"*redacted*"} sent"#,
                ),
                (
                    r#"{"body":"{\"password\":\"s3\"}"}"#,
                    r#"{"body":"{\"password\":\"*redacted*\"}"}"#,
                ),
                (r#"{"x":"password"}"#, r#"{"x":"password"}"#),
                (r#"say "password" "#, r#"say "password" "#),
                (r#""\"#, r#""\"#),
                (r#""é\"#, r#""é\"#),
            ],
        );
    }

    #[test]
    fn secret_headers_are_known_by_name_in_any_case() {
        let redaction = Redaction::default().with_headers(["X-CSRF-Token"]);
        for name in [
            "Authorization",
            "cookie",
            "Set-Cookie",
            "X-Api-Key",
            "x-csrf-token",
        ] {
            assert!(redaction.is_secret_header(name), "{name}");
            assert!(!Redaction::off().is_secret_header(name), "{name}");
        }
        assert!(!redaction.is_secret_header("Referer"));
        assert_eq!(Redaction::off().redact("http://u:p@h/"), "http://u:p@h/");
    }

    /// Whatever part of a text the rules see, they show no part of a secret that the whole text hides.
    #[test]
    fn a_secret_that_is_cut_is_not_shown() {
        const SECRET: &str = "xyzzy7f3a";
        let redaction = Redaction::default()
            .with_query_parameters(["token"])
            .with_json_fields(["password"]);
        let nested = |text: &str| serde_json::to_string(text).unwrap();
        let object = format!(r#"{{"a":[1,"é"],"password":"{SECRET}","b":2}}"#);
        let deep = format!(r#"{{"password":{{"a":[{{"b":"{SECRET}"}}]}}}}"#);
        let link = format!(r#"{{"a":"http:\/\/joe:{SECRET}@h\/","password":"{SECRET}"}}"#);
        let texts = [
            format!("see http://joe:{SECRET}@h/a, and then"),
            format!("http://joe@{SECRET}@h/a"),
            format!("/go?to=http%3A%2F%2Fjoe%3A{SECRET}%40h%2Fa"),
            format!(r#"{{"a":"http:\/\/joe:{SECRET}\u0040h\/"}}"#),
            format!("/cb?x=1&token={SECRET}&y=2"),
            format!("/cb?x=1&tok%65n={SECRET}&y=2"),
            format!("/go?to=%2Fcb%3Ftoken%3D{SECRET}%26x%3D1"),
            object.clone(),
            deep.clone(),
            format!("log: {object} sent"),
            format!(r#"{{"body":{},"c":3}}"#, nested(&object)),
            format!(r#"{{"body":{}}}"#, nested(&format!("🦀é{deep}"))),
            nested(&nested(&nested(&object))),
            format!(r#"{{"body":{}}}"#, nested(&link)),
        ];
        for text in texts {
            let whole = redaction.redact(&text);
            assert!(!whole.contains(SECRET), "{whole}");
            for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                let shown = redaction.beginning(&text[..end], end < text.len());
                assert!(!shown.contains("xyz"), "{text} cut at {end}: {shown}");
            }
        }
    }

    #[test]
    fn a_long_text_is_searched_a_little_beyond_what_is_kept() {
        let redaction = Redaction::default();
        let long = format!("see http://a-host.example/{}", "a".repeat(10_000));
        for limit in 0..60 {
            assert_eq!(redaction.within(&long, limit), &long[..limit]);
        }
        // An authority longer than any host name: its `@` may be beyond the window.
        let long = format!("see http://joe:{}@h/", "a".repeat(10_000));
        assert_eq!(redaction.within(&long, 100), "see http://*redacted*");
        assert_eq!(redaction.within(&long, 20_000), "see http://*redacted*@h/");
    }

    #[test]
    fn shared_rules_are_replaced_for_all() {
        let shared = SharedRedaction::new(Redaction::default());
        let mut rules = shared.current();
        shared.clone().replace(Redaction::off());
        shared.refresh(&mut rules);
        assert_eq!(*rules, Redaction::off());
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aéb", 4), "aéb");
        assert_eq!(cut("aéb", 3), "aé");
        assert_eq!(cut("aéb", 2), "a");
        assert_eq!(cut("é", 0), "");
    }
}
