//! Secrets are removed from what is exported: [`Sanitizer`].
//!
//! Events are redacted by their source when they are made, as its flags say. An export is often attached to a bug
//! and read by others, so it removes more: everything whose *name* suggests a secret. What has no such name (a secret in
//! free text, or in the path of a URL) is not recognised.

use std::borrow::Cow;

/// What replaces a secret: the same text as in events.
pub const REDACTED: &str = "*redacted*";

/// Headers whose values are secrets, in lower case.
const HEADERS: [&str; 9] = [
    "authorization",
    "cookie",
    "cookie2",
    "set-cookie",
    "set-cookie2",
    "proxy-authorization",
    "authentication-info",
    "sec-websocket-key",
    "x-amz-security-token",
];

/// Parts of names that suggest a secret. Names are compared in lower case and without `-` and `_`.
const PARTS: [&str; 17] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "credential",
    "sessionid",
    "signature",
    "bearer",
    "cardnumber",
    "securitycode",
    "csrf",
];

/// Names that are secrets as a whole, and harmless as a part of a longer name.
const NAMES: [&str; 16] = [
    "auth",
    "authorization",
    "code",
    "cvc",
    "cvv",
    "jwt",
    "key",
    "otp",
    "pass",
    "pin",
    "pwd",
    "sid",
    "session",
    "sig",
    "ssn",
    "xsrf",
];

/// Removes secrets from headers, URLs and bodies, or nothing.
///
/// ```
/// use tapline_insight::Sanitizer;
///
/// let sanitizer = Sanitizer::default().with_names(["customer"]);
/// assert_eq!(sanitizer.url("https://u:p@h/x?a=1&access_token=t#k"), "https://*redacted*@h/x?a=1&access_token=*redacted*#k");
/// assert_eq!(sanitizer.body(r#"{"user":"ann","password":"x","customer":7}"#), r#"{"user":"ann","password":"*redacted*","customer":"*redacted*"}"#);
/// assert_eq!(sanitizer.text("failed: (http://h/?token=t) after 3 s"), "failed: (http://h/?token=*redacted*) after 3 s");
/// assert_eq!(Sanitizer::off().url("https://h/?token=t"), "https://h/?token=t");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanitizer {
    on: bool,
    names: Vec<String>,
}

impl Default for Sanitizer {
    fn default() -> Self {
        Self {
            on: true,
            names: Vec::new(),
        }
    }
}

impl Sanitizer {
    /// Removes nothing: what is in the events is exported.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            on: false,
            names: Vec::new(),
        }
    }

    /// Also removes the values of headers, query parameters and fields with these names. Case, `-` and `_` make
    /// no difference.
    #[must_use]
    pub fn with_names<N: AsRef<str>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names
            .extend(names.into_iter().map(|name| plain(name.as_ref())));
        self
    }

    /// Whether anything is removed.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.on
    }

    /// Whether the value of this header is a secret.
    #[must_use]
    pub fn is_secret_header(&self, name: &str) -> bool {
        self.on
            && (HEADERS
                .iter()
                .any(|secret| name.eq_ignore_ascii_case(secret))
                || has_part(&plain(name))
                || self.is_added(&plain(name)))
    }

    /// Whether the value of this query parameter or field is a secret.
    #[must_use]
    pub fn is_secret_name(&self, name: &str) -> bool {
        if !self.on {
            return false;
        }
        let plain = plain(name);
        NAMES.contains(&plain.as_str()) || has_part(&plain) || self.is_added(&plain)
    }

    /// A header's value, or [`REDACTED`]. URLs in other headers (`Referer`, `Location`) are sanitised as URLs.
    #[must_use]
    pub fn header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        if self.is_secret_header(name) {
            return Cow::Borrowed(REDACTED);
        }
        match self.on && value.contains("://") {
            true => self.url(value),
            false => Cow::Borrowed(value),
        }
    }

    /// A URL without its user information, and without the values of secret parameters in its query and in its
    /// fragment.
    #[must_use]
    pub fn url<'a>(&self, url: &'a str) -> Cow<'a, str> {
        if !self.on {
            return Cow::Borrowed(url);
        }
        let (mut start, mut out) = (url, String::new());
        if let Some(at) = url.find("://") {
            let authority = &url[at + 3..];
            let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
            if let Some(host) = authority[..end].rfind('@') {
                out.push_str(&url[..at + 3]);
                out.push_str(REDACTED);
                start = &authority[host..];
            }
        }
        let Some(query) = start.find(['?', '#']) else {
            return match out.is_empty() {
                true => Cow::Borrowed(url),
                false => Cow::Owned(out + start),
            };
        };
        let parameters = self.parameters(&start[query..]);
        match (&parameters, out.is_empty()) {
            (Cow::Borrowed(_), true) => Cow::Borrowed(url),
            _ => {
                out.push_str(&start[..query]);
                out.push_str(&parameters);
                Cow::Owned(out)
            }
        }
    }

    /// A body: a form, JSON, or another text, in which fields are found by their names. A text that was cut is
    /// sanitised as far as it goes.
    #[must_use]
    pub fn body<'a>(&self, body: &'a str) -> Cow<'a, str> {
        if !self.on {
            return Cow::Borrowed(body);
        }
        let is_form = body.contains('=') && !body.contains(['\n', ' ', '{', '<', '"']);
        match is_form {
            true => self.parameters(body),
            false => self.json(body, 0),
        }
    }

    /// A free text: a [body](Self::body), or words among which there are URLs.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = self.body(text);
        if !self.on || !text.contains("://") {
            return text;
        }
        let ends =
            |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '(' | ')' | '`');
        let words = text.split_inclusive(ends).map(|word| {
            let (address, end) = match word.char_indices().next_back() {
                Some((at, last)) if ends(last) => word.split_at(at),
                _ => (word, ""),
            };
            match address.contains("://") {
                true => self.url(address).into_owned() + end,
                false => word.to_owned(),
            }
        });
        Cow::Owned(words.collect())
    }

    /// `name=value` pairs between `&`, `;`, `?` and `#`.
    fn parameters<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut out = String::new();
        let mut copied = 0;
        let mut at = 0;
        while at < text.len() {
            let end = text[at..]
                .find(['&', '?', '#', ';'])
                .map_or(text.len(), |it| at + it);
            let pair = &text[at..end];
            if let Some(equals) = pair.find('=')
                && equals + 1 < pair.len()
                && self.is_secret_name(&decoded(&pair[..equals]))
            {
                out.push_str(&text[copied..at + equals + 1]);
                out.push_str(REDACTED);
                copied = end;
            }
            at = end + 1;
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }

    /// Fields of JSON, also within another text, within a string, or if the text was cut.
    fn json<'a>(&self, text: &'a str, depth: usize) -> Cow<'a, str> {
        let bytes = text.as_bytes();
        let mut out = String::new();
        let (mut copied, mut at) = (0, 0);
        while let Some(quote) = text[at..].find('"').map(|it| at + it) {
            let name_end = string_end(bytes, quote);
            let name = text[quote..name_end].trim_matches('"');
            let colon = skip_spaces(bytes, name_end);
            if bytes.get(colon) != Some(&b':') {
                at = name_end;
                if let Some(inner) = self.json_in_string(&text[quote..name_end], depth) {
                    out.push_str(&text[copied..quote]);
                    out.push_str(&inner);
                    copied = name_end;
                }
                continue;
            }
            let value = skip_spaces(bytes, colon + 1);
            at = value;
            if value < bytes.len() && self.is_secret_name(name) {
                let end = value_end(bytes, value);
                if end == value {
                    continue;
                }
                out.push_str(&text[copied..value]);
                out.push('"');
                out.push_str(REDACTED);
                out.push('"');
                (copied, at) = (end, end);
            }
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }

    /// A string that holds JSON, sanitised. `None` if nothing changes.
    fn json_in_string(&self, string: &str, depth: usize) -> Option<String> {
        /// How deep JSON in strings is searched.
        const MAX_DEPTH: usize = 4;
        if depth == MAX_DEPTH || !string.contains("\\\"") {
            return None;
        }
        let text: String = serde_json::from_str(string).ok()?;
        match self.json(&text, depth + 1) {
            Cow::Borrowed(_) => None,
            Cow::Owned(changed) => serde_json::to_string(&changed).ok(),
        }
    }

    fn is_added(&self, plain: &str) -> bool {
        self.names.iter().any(|name| name == plain)
    }
}

fn has_part(plain: &str) -> bool {
    // Names are so short that searching for one part after the other takes longer.
    let bytes = plain.as_bytes();
    let begins = |rest: &[u8]| PARTS.iter().any(|part| rest.starts_with(part.as_bytes()));
    (0..bytes.len()).any(|at| begins(&bytes[at..]))
}

/// A name in lower case, without what separates words.
fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for c in name.chars().filter(|c| c.is_alphanumeric()) {
        match c.is_ascii() {
            true => plain.push(c.to_ascii_lowercase()),
            false => plain.extend(c.to_lowercase()),
        }
    }
    plain
}

/// A name of a query, with `%XX` and `+` decoded where they are ASCII.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn skip_spaces(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Behind the string that begins at `at`; the end of the text if it was cut.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// Behind the value that begins at `at`: a string, a number, a word, or all of an object or array.
fn value_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at),
        Some(b'{' | b'[') => {
            let (mut depth, mut end) = (0_usize, at);
            while let Some(byte) = bytes.get(end) {
                match byte {
                    b'"' => {
                        end = string_end(bytes, end);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                end += 1;
                if depth == 0 {
                    return end;
                }
            }
            bytes.len()
        }
        _ => {
            let is_end =
                |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            bytes[at..]
                .iter()
                .position(is_end)
                .map_or(bytes.len(), |it| at + it)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_url(url: &str, expected: &str) {
        assert_eq!(Sanitizer::default().url(url), expected);
    }

    #[track_caller]
    fn check_body(body: &str, expected: &str) {
        assert_eq!(Sanitizer::default().body(body), expected);
    }

    #[test]
    fn urls() {
        check_url("http://h/a?b=c", "http://h/a?b=c");
        check_url("http://h", "http://h");
        check_url("http://u:p@h", "http://*redacted*@h");
        check_url("http://h/?q=u@v", "http://h/?q=u@v");
        check_url(
            "http://h/?x=1&API-Key=2&y=3",
            "http://h/?x=1&API-Key=*redacted*&y=3",
        );
        check_url(
            "http://h/#id_token=a&b=c",
            "http://h/#id_token=*redacted*&b=c",
        );
        check_url("http://h/?pass%77ord=a", "http://h/?pass%77ord=*redacted*");
        check_url(
            "http://h/?code=a&postcode=b",
            "http://h/?code=*redacted*&postcode=b",
        );
        check_url("http://h/?token=", "http://h/?token=");
        check_url(
            "data:text/html,?token=é&x",
            "data:text/html,?token=*redacted*&x",
        );
        check_url("", "");
        check_url("?", "?");
    }

    #[test]
    fn bodies() {
        check_body("user=ann&password=x%20y", "user=ann&password=*redacted*");
        check_body(
            r#"{"a": {"token" : [1, "]", {}], "b": 2}}"#,
            r#"{"a": {"token" : "*redacted*", "b": 2}}"#,
        );
        check_body(
            r#"{"pin":1234,"x":null}"#,
            r#"{"pin":"*redacted*","x":null}"#,
        );
        check_body(
            r#"{"secret":"a\"b","x":1}"#,
            r#"{"secret":"*redacted*","x":1}"#,
        );
        // What was cut is removed up to the end.
        check_body(r#"{"secret":"abc"#, r#"{"secret":"*redacted*""#);
        check_body(r#"{"secret":{"a":1"#, r#"{"secret":"*redacted*""#);
        check_body(
            r#"{"a":"{\"token\":\"x\",\"b\":1}"}"#,
            r#"{"a":"{\"token\":\"*redacted*\",\"b\":1}"}"#,
        );
        check_body(r#"{"secret""#, r#"{"secret""#);
        check_body("plain text, nothing in it", "plain text, nothing in it");
        check_body("ends with a \"", "ends with a \"");
        check_body(r#""\"#, r#""\"#);
    }

    #[test]
    fn headers() {
        let sanitizer = Sanitizer::default();
        for name in [
            "Cookie",
            "set-cookie",
            "Authorization",
            "X-Api-Key",
            "X-CSRF-Token",
        ] {
            assert_eq!(sanitizer.header(name, "v"), REDACTED, "{name}");
        }
        assert_eq!(sanitizer.header("Accept", "*/*"), "*/*");
        assert_eq!(
            sanitizer.header("Referer", "http://h/?token=x"),
            "http://h/?token=*redacted*"
        );
        assert_eq!(Sanitizer::off().header("Cookie", "a=b"), "a=b");
    }
}
