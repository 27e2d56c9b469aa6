//! The heads of requests and answers: read within bounds, and written anew for the browser.

use std::io;

use form_urlencoded::parse;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head, in bytes. Clients send some hundred bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How many headers a head may have. Clients send about ten.
const MAX_HEADERS: usize = 64;

/// The longest body of the browser's that is rewritten, in bytes: enough for thousands of tabs.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Why a head or a body cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the head has more than {MAX_HEAD} bytes or {MAX_HEADERS} headers")]
    TooLarge,
    #[error("the head is not HTTP/1.1: {0}")]
    NotHttp(httparse::Error),
    #[error("the answer has no `content-length`, or one over {MAX_BODY} bytes")]
    NoLength,
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// A request's head, and the bytes that came with it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Headers,
    /// The first bytes after the head.
    pub(crate) rest: Vec<u8>,
}

/// An answer's head as it was received, and the bytes that came with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With the empty line at its end.
    pub(crate) head: Vec<u8>,
    headers: Headers,
    /// The first bytes after the head.
    pub(crate) rest: Vec<u8>,
}

/// In the order in which they were received.
#[derive(Debug)]
struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    fn of(headers: &[httparse::Header<'_>]) -> Self {
        let own = |it: &httparse::Header<'_>| (it.name.to_owned(), it.value.to_vec());
        Self(headers.iter().map(own).collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |it: &&(String, Vec<u8>)| it.0.eq_ignore_ascii_case(name);
        self.0.iter().filter(named).map(|(_, value)| &**value)
    }
}

impl Request {
    /// Reads a request's head; `None` where the connection ends before its first byte.
    pub(crate) async fn read(
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Self>, HeadError> {
        let Some(mut bytes) = read_head(from).await? else {
            return Ok(None);
        };
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let end = whole(parsed.parse(&bytes))?;
        let mut request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers: Headers::of(parsed.headers),
            rest: Vec::new(),
        };
        request.rest = bytes.split_off(end);
        Ok(Some(request))
    }

    /// All values of a header.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.all(name)
    }

    /// The value of the only `traceparent` header.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        let mut values = self.header("traceparent");
        let value = values.next()?;
        match values.next() {
            None => str::from_utf8(value).ok(),
            Some(_) => None,
        }
    }

    /// The headers that decide on access.
    pub(crate) fn access_headers(&self) -> HeaderMap {
        const DECIDING: [HeaderName; 5] = [
            http::header::HOST,
            http::header::ORIGIN,
            http::header::AUTHORIZATION,
            HeaderName::from_static("sec-fetch-site"),
            HeaderName::from_static("sec-fetch-dest"),
        ];
        let mut headers = HeaderMap::new();
        for name in DECIDING {
            for value in self.header(name.as_str()) {
                // A value with control characters is none that is allowed.
                let value = HeaderValue::from_bytes(value);
                let value = value.unwrap_or(HeaderValue::from_static("?"));
                headers.append(name.clone(), value);
            }
        }
        headers
    }

    pub(crate) fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&*self.target, |(path, _)| path)
    }

    /// Whether it requests a WebSocket.
    pub(crate) fn is_upgrade(&self) -> bool {
        let mut upgrade = self.header("upgrade");
        upgrade.any(|value| value.eq_ignore_ascii_case(b"websocket"))
    }

    /// Whether a body follows, which is no part of a WebSocket.
    pub(crate) fn has_body(&self) -> bool {
        let length = self.header("content-length").any(|value| value != b"0");
        length || self.header("transfer-encoding").next().is_some()
    }

    /// Removes a query parameter, and returns its value decoded, and the parameter as it was written.
    pub(crate) fn take_parameter(&mut self, name: &str) -> Option<(String, String)> {
        let (path, query) = self.target.split_once('?')?;
        let is = |pair: &&str| parse(pair.as_bytes()).any(|(key, _)| key == name);
        let taken = query.split('&').find(is)?;
        let value = parse(taken.as_bytes()).next()?.1.into_owned();
        let taken = taken.to_owned();
        let kept: Vec<_> = query.split('&').filter(|pair| !is(pair)).collect();
        self.target = match kept.join("&") {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        Some((value, taken))
    }

    /// The head that the browser receives.
    ///
    /// `Host` names the browser's own address, which the browser accepts. `Origin` and `Authorization` were
    /// meant for the relay. No extension of WebSocket is offered: all of them change the frames, which could
    /// then not be read in between.
    pub(crate) fn to_browser(&self, host: &str) -> Vec<u8> {
        const REPLACED: [&str; 4] = [
            "host",
            "origin",
            "authorization",
            "sec-websocket-extensions",
        ];
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\n",
            self.method, self.target
        )
        .into_bytes();
        for (name, value) in &self.headers.0 {
            if REPLACED.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                continue;
            }
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

impl Answer {
    /// Reads an answer's head.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, HeadError> {
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let mut bytes = read_head(from).await?.ok_or_else(ended)?;
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let end = whole(parsed.parse(&bytes))?;
        let status = parsed.code.unwrap_or_default();
        let headers = Headers::of(parsed.headers);
        let rest = bytes.split_off(end);
        Ok(Self {
            status,
            head: bytes,
            headers,
            rest,
        })
    }

    /// Reads its body, which must have a length: Chromium sends one.
    pub(crate) async fn body(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Vec<u8>, HeadError> {
        let length = self.headers.all("content-length").next();
        let length = length.and_then(|length| str::from_utf8(length).ok()?.parse().ok());
        let length: usize = length
            .filter(|length| *length <= MAX_BODY)
            .ok_or(HeadError::NoLength)?;
        let mut body = std::mem::take(&mut self.rest);
        let missing = length.saturating_sub(body.len());
        body.truncate(length);
        let read = from.take(missing as u64).read_to_end(&mut body).await?;
        if read < missing {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(body)
    }

    /// The value of its `content-type`.
    pub(crate) fn content_type(&self) -> &[u8] {
        let mut types = self.headers.all("content-type");
        types.next().unwrap_or(b"application/json; charset=UTF-8")
    }
}

fn whole<T>(parsed: Result<httparse::Status<T>, httparse::Error>) -> Result<T, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(it)) => Ok(it),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Err(HeadError::TooLarge)
        }
        Err(error) => Err(HeadError::NotHttp(error)),
    }
}

/// Reads up to the empty line that ends a head, and possibly further. `None` where the connection ended
/// without a byte.
async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, HeadError> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        let before = bytes.len();
        if from.read_buf(&mut bytes).await? == 0 {
            return match before {
                0 => Ok(None),
                _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            };
        }
        let end = |window: &[u8]| window.ends_with(b"\n\r\n") || window.ends_with(b"\n\n");
        if bytes[before.saturating_sub(2)..].windows(3).any(end) {
            return Ok(Some(bytes));
        }
        if bytes.len() >= MAX_HEAD {
            return Err(HeadError::TooLarge);
        }
    }
}

/// The browser's JSON with `host` in the URLs of its WebSockets, and `query` appended where there is one.
/// Nothing else is changed.
pub(crate) fn replace_authority(json: &str, host: &str, query: Option<&str>) -> String {
    let mut out = String::with_capacity(json.len() + 256);
    let mut rest = json;
    // A quote within a string is preceded by a backslash, so the key is never found within one.
    while let Some((at, key)) = ["webSocketDebuggerUrl\":", "devtoolsFrontendUrl\":"]
        .into_iter()
        .filter_map(|key| Some((rest.find(key)?, key)))
        .min()
    {
        let value = at + key.len();
        let value = value + rest[value..].len() - rest[value..].trim_start().len();
        let end = rest[value..]
            .strip_prefix('"')
            .and_then(|string| string.find('"'))
            .map_or(value, |end| value + 1 + end);
        out.push_str(&rest[..value]);
        let url = &rest[value..end];
        // `ws://HOST/…`, or `…?ws=HOST/…` for a page that opens the socket itself.
        let authority = ["ws://", "wss://", "?ws=", "&ws=", "?wss=", "&wss="]
            .into_iter()
            .find_map(|before| Some(url.find(before)? + before.len()));
        match authority {
            Some(begin) => {
                let path = url[begin..]
                    .find('/')
                    .map_or(url.len(), |path| begin + path);
                out.push_str(&url[..begin]);
                out.push_str(host);
                out.push_str(&url[path..]);
                if let Some(query) = query.filter(|_| key.starts_with('w')) {
                    out.push('?');
                    out.push_str(query);
                }
            }
            None => out.push_str(url),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        assert!(parsed.parse(head.as_bytes()).unwrap().is_complete());
        Request {
            method: parsed.method.unwrap().to_owned(),
            target: parsed.path.unwrap().to_owned(),
            headers: Headers::of(parsed.headers),
            rest: Vec::new(),
        }
    }

    #[test]
    fn the_browser_receives_everything_but_what_was_meant_for_the_relay() {
        let request = request(concat!(
            "GET /devtools/browser/1 HTTP/1.1\r\nhost: example:9333\r\nConnection: Upgrade\r\n",
            "Origin: http://example\r\nAuthorization: Bearer x\r\nSec-WebSocket-Key: k==\r\n",
            "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: WebSocket\r\n\r\n",
        ));
        assert!(request.is_upgrade());
        assert_eq!(
            String::from_utf8(request.to_browser("127.0.0.1:9222")).unwrap(),
            concat!(
                "GET /devtools/browser/1 HTTP/1.1\r\nHost: 127.0.0.1:9222\r\nConnection: Upgrade\r\n",
                "Sec-WebSocket-Key: k==\r\nUpgrade: WebSocket\r\n\r\n",
            )
        );
    }

    #[test]
    fn a_parameter_is_removed_wherever_it_stands() {
        for (target, left, value) in [
            ("/a?token=x", "/a", Some("x")),
            ("/a?b=1&token=x%26y&c", "/a?b=1&c", Some("x&y")),
            ("/a?t%6Fken=x&token=y", "/a", Some("x")),
            ("/a?tokens=x", "/a?tokens=x", None),
            ("/a", "/a", None),
        ] {
            let mut request = request(&format!("GET {target} HTTP/1.1\r\n\r\n"));
            let taken = request.take_parameter("token").map(|(value, _)| value);
            assert_eq!(taken.as_deref(), value, "{target}");
            assert_eq!(request.target, left);
        }
    }

    #[test]
    fn only_the_authorities_of_websocket_urls_change() {
        let json = r#"[ {
   "devtoolsFrontendUrl": "https://f/inspector.html?ws=127.0.0.1:9222/devtools/page/A",
   "title": "\"webSocketDebuggerUrl\": \"ws://127.0.0.1:9222/x\"",
   "url": "http://127.0.0.1:9222/json",
   "webSocketDebuggerUrl": "ws://127.0.0.1:9222/devtools/page/A"
}, {"webSocketDebuggerUrl":"ws://h/B","devtoolsFrontendUrl":"/d/i.html?ws=h/B"} ]"#;
        let expected = r#"[ {
   "devtoolsFrontendUrl": "https://f/inspector.html?ws=me:1/devtools/page/A",
   "title": "\"webSocketDebuggerUrl\": \"ws://127.0.0.1:9222/x\"",
   "url": "http://127.0.0.1:9222/json",
   "webSocketDebuggerUrl": "ws://me:1/devtools/page/A?token=x"
}, {"webSocketDebuggerUrl":"ws://me:1/B?token=x","devtoolsFrontendUrl":"/d/i.html?ws=me:1/B"} ]"#;
        assert_eq!(replace_authority(json, "me:1", Some("token=x")), expected);
        for odd in [
            "",
            "{}",
            r#"{"webSocketDebuggerUrl":7}"#,
            r#"{"webSocketDebuggerUrl":"#,
        ] {
            assert_eq!(replace_authority(odd, "me:1", None), odd);
        }
        assert_eq!(
            replace_authority(r#"{"webSocketDebuggerUrl":"ws://h"#, "me", None),
            r#"{"webSocketDebuggerUrl":"ws://h"#
        );
    }
}
