//! What is taken out of everything that is told: [`Redaction`].
//!
//! Every text of the browser goes through here on its way into an event, whatever field it ends up
//! in: a URL with a password in it may stand in an address, in a stack trace, in a header or in a
//! line that a page logs. Looking for it is cheap where there is none: a text without an `@` holds
//! no userinfo.

use std::borrow::Cow;

/// What stands in the place of what was taken out. It may stand in a URL, too.
pub const MARK: &str = "*redacted*";

/// Headers whose values are secrets, in lower case.
const SECRET_HEADERS: [&str; 5] = [
    "authorization",
    "cookie",
    "set-cookie",
    "proxy-authorization",
    "x-api-key",
];

/// A JSON text within a JSON text within … is followed this far.
const MAX_DEPTH: usize = 4;

/// What is taken out of everything that is told.
///
/// By default the values of the headers `authorization`, `cookie`, `set-cookie`,
/// `proxy-authorization` and `x-api-key`, and the userinfo of URLs wherever they stand. More is a
/// matter of configuration, and so is nothing at all. Names are compared without regard to case.
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
    /// Off: everything else in here is of no account.
    on: bool,
    headers: Vec<String>,
    parameters: Vec<String>,
    fields: Vec<String>,
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
    /// Takes nothing out.
    #[must_use]
    pub fn off() -> Self {
        Self {
            on: false,
            ..Self::default()
        }
    }

    /// Takes out the values of these headers, too.
    #[must_use]
    pub fn with_headers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.headers.extend(lower(names));
        self
    }

    /// Takes out the values of these query parameters: in URLs, wherever they stand, and in bodies
    /// and other text that is made the same way.
    #[must_use]
    pub fn with_query_parameters<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.parameters.extend(lower(names));
        self
    }

    /// Takes out the values of these fields of JSON objects: in bodies, and in any other text that
    /// holds JSON, also as a string within JSON.
    #[must_use]
    pub fn with_json_fields<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.fields.extend(lower(names));
        self
    }

    /// A header's value without secrets.
    pub(crate) fn header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        let is = |secret: &String| secret.eq_ignore_ascii_case(name);
        if self.on && self.headers.iter().any(is) {
            Cow::Borrowed(MARK)
        } else {
            self.text(value)
        }
    }

    /// Any other text without secrets.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.text_at(text, 0)
    }

    fn text_at<'a>(&self, text: &'a str, depth: usize) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if !self.on {
            return text;
        }
        if text.contains('@') || text.contains("%40") || text.contains(r"\u0040") {
            edit(&mut text, userinfo);
        }
        if !self.parameters.is_empty() {
            edit(&mut text, |text| parameters(text, &self.parameters));
        }
        if !self.fields.is_empty() && text.contains('"') {
            edit(&mut text, |text| self.fields(text, depth));
        }
        text
    }

    /// The values of secret fields. The text need not be JSON, nor end where JSON would end.
    fn fields(&self, text: &str, depth: usize) -> Option<String> {
        let mut edits = Edits::of(text);
        let mut at = 0;
        while let Some(quote) = find(text, at, b"\"") {
            let end = string_end(text, quote);
            let content = text.get(quote + 1..end.saturating_sub(1)).unwrap_or("");
            at = end;
            let value = skip_spaces(text, end);
            if text.as_bytes().get(value) == Some(&b':') {
                let value = skip_spaces(text, value + 1);
                if self.is_secret_field(content) {
                    let end = value_end(text, value);
                    edits.replace(value, end, &["\"", MARK, "\""]);
                    at = end;
                }
            } else if depth < MAX_DEPTH && content.contains("\\\"") {
                // JSON as a string: looked at as what it says, and written as a string again.
                let quoted = &text[quote..end];
                if let Ok(inner) = serde_json::from_str::<String>(quoted)
                    && let Cow::Owned(inner) = self.text_at(&inner, depth + 1)
                    && let Ok(quoted) = serde_json::to_string(&inner)
                {
                    edits.replace(quote, end, &[&quoted]);
                }
            }
        }
        edits.done()
    }

    fn is_secret_field(&self, name: &str) -> bool {
        let is = |name: &str| self.fields.iter().any(|it| it.eq_ignore_ascii_case(name));
        if name.contains('\\') {
            serde_json::from_str::<String>(&format!("\"{name}\"")).is_ok_and(|name| is(&name))
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

/// The userinfo of every URL: what stands between `//` and the `@` of an authority. Either may be
/// written as JSON (`\/\/`, `\u002f`) or percent-encoded, as for a URL in another one's query.
fn userinfo(text: &str) -> Option<String> {
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
        // The last `@` counts: one before it belongs to a password that was not encoded.
        let mut end = start;
        let mut info = None;
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'\\' if bytes[end..].starts_with(br"\u0040") => info = Some(end),
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
        if let Some(info) = info.filter(|info| start < *info) {
            edits.replace(start, info, &[MARK]);
        }
        at = end;
    }
    edits.done()
}

/// The length of the slash that stands at `at`, however it is written.
fn slash(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'/' => Some(1),
        b'\\' if bytes.get(at + 1) == Some(&b'/') => Some(2),
        b'\\' if matches!(bytes.get(at + 1..at + 6), Some(b"u002f" | b"u002F")) => Some(6),
        b'%' if matches!(bytes.get(at + 1..at + 3), Some(b"2f" | b"2F")) => Some(3),
        _ => None,
    }
}

/// The values of these parameters: `name=value` at the beginning, behind what separates parameters
/// or behind what may stand before a text within a text. Again it may all be percent-encoded.
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
                    edits.replace(value, end, &[MARK]);
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

/// How long a percent-encoded byte is.
const PERCENT: usize = 3;

/// The byte that stands at `at`, decoded where it is percent-encoded or escaped as in JSON, and how
/// long it is as it stands there. Of a character outside ASCII this is no more than a part, which is
/// none that means anything.
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

fn find(text: &str, from: usize, needle: &[u8; 1]) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.find(needle[0] as char).map(|at| from + at)
}

/// Behind the quote that ends the string which begins at `quote`, or behind the text.
fn string_end(text: &str, quote: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn skip_spaces(text: &str, from: usize) -> usize {
    let spaces = text.as_bytes().iter().skip(from);
    from + spaces.take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Behind the JSON value that begins at `from`, or behind the text where it ends before.
fn value_end(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = string_end(text, at);
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

/// The first `limit` bytes, or a little fewer so as not to cut a character in two.
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
            assert_eq!(redaction.text(text), *expected, "{text}");
        }
    }

    #[test]
    fn userinfo_goes_wherever_a_url_stands() {
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
                // No userinfo: nothing is taken.
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
    fn parameters_go_wherever_a_query_stands() {
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
    fn fields_go_wherever_json_stands() {
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
    fn headers_go_by_name_and_others_are_texts() {
        let redaction = Redaction::default().with_headers(["X-CSRF-Token"]);
        for name in [
            "Authorization",
            "cookie",
            "Set-Cookie",
            "X-Api-Key",
            "x-csrf-token",
        ] {
            assert_eq!(redaction.header(name, "s3"), MARK, "{name}");
        }
        assert_eq!(
            redaction.header("Referer", "http://u:p@h/"),
            "http://*redacted*@h/"
        );
        assert_eq!(redaction.header("Accept", "*/*"), "*/*");
        assert_eq!(Redaction::off().header("Cookie", "s3"), "s3");
        assert_eq!(Redaction::off().text("http://u:p@h/"), "http://u:p@h/");
    }

    #[test]
    fn a_cut_spares_characters() {
        assert_eq!(cut("aéb", 4), "aéb");
        assert_eq!(cut("aéb", 3), "aé");
        assert_eq!(cut("aéb", 2), "a");
        assert_eq!(cut("é", 0), "");
    }
}
