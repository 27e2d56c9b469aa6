//! What a browser may be talked into by a page that it shows: nothing.
//!
//! A browser reaches servers that the page's author does not, one on loopback first of all. Four
//! ways in are closed here:
//!
//! - a page of another origin that reads answers: it may not, unless its origin is on the list (CORS);
//! - a page of another origin that needs no answer, since it publishes or stops a session with a
//!   request that a browser sends unasked: its `Origin` gives it away, and the request is not carried out;
//! - a page of another origin that embeds what is here, and so holds streams open: `Sec-Fetch-Site`;
//! - a page whose host name was pointed at our address (DNS rebinding), for which everything is of one
//!   origin: the name is still in `Host`. Where there is a token, such a page does not have it, so
//!   this is looked at only where there is none.
//!
//! Who is no browser sends no `Origin` and may send any `Host`: this defends browsers, and no secret.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use tapline_oapi::ErrorCode;

use crate::answer::Failure;

/// The code of what is refused here.
const FORBIDDEN: ErrorCode = ErrorCode::Forbidden;

const ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH");
const ALLOW_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, x-request-id");
/// Ten minutes: a change of the list is soon in force, and a page asks little.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "x-has-more, x-next-offset, x-head, x-oldest, x-epoch, x-lost, x-reader-id, x-request-id, \
     retry-after, x-sse-content-type",
);

/// Which pages may talk to the server, and under which names it answers.
#[derive(Debug, Clone)]
pub struct Origins {
    /// Whether every origin is allowed.
    any: bool,
    allowed: Vec<Origin>,
    /// The names beside loopback; `None` = whatever is asked for.
    hosts: Option<Vec<String>>,
}

/// No page but the server's own, under loopback addresses alone.
impl Default for Origins {
    fn default() -> Self {
        Self {
            any: false,
            allowed: Vec::new(),
            hosts: Some(Vec::new()),
        }
    }
}

/// A value of a flag that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {value}: {message}")]
pub struct OriginError {
    flag: &'static str,
    value: String,
    message: &'static str,
}

impl Origins {
    /// Pages of the origins `allowed` may call, beside our own; `*` stands for every page. Without a
    /// token, requests are answered that were sent to loopback or to one of `hosts`.
    ///
    /// # Errors
    ///
    /// [`OriginError`] names the flag where an origin is none (it is `https://host`, with a port where
    /// that is not the usual one, and nothing behind it), where a host is none, and where `*` is to
    /// open what has no token to every page that is visited.
    pub fn new(
        allowed: Vec<String>,
        hosts: Vec<String>,
        token_set: bool,
    ) -> Result<Self, OriginError> {
        let any = allowed.iter().any(|origin| origin == "*");
        let wrong = |flag, value, message| OriginError {
            flag,
            value,
            message,
        };
        if any && !token_set {
            return Err(wrong(
                "--allow-origin",
                "*".to_owned(),
                "every page that a browser here visits could read and publish: name the origins, or set a token",
            ));
        }
        let origin = |text: String| match Origin::parse(&text) {
            Some(origin) => Ok(origin),
            None => Err(wrong(
                "--allow-origin",
                text,
                "expected an origin as a browser sends it, such as https://app.example or http://localhost:3000, without a path",
            )),
        };
        let host = |text: String| match Authority::parse(&text) {
            Some(Authority { host, port: None }) => Ok(host),
            _ => Err(wrong(
                "--host",
                text,
                "expected a name or an address, such as tapline.internal, without a port",
            )),
        };
        let allowed = allowed.into_iter().filter(|origin| origin != "*");
        let hosts: Vec<String> = hosts.into_iter().map(host).collect::<Result<_, _>>()?;
        Ok(Self {
            any,
            allowed: allowed.map(origin).collect::<Result<_, _>>()?,
            hosts: (!token_set).then_some(hosts),
        })
    }

    /// Whether the request may be carried out: comes before everything else.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        // One walk over the few that there are, in place of a look-up for each of those that may be there:
        // this is done for every event that is published.
        let (mut host, mut origin, mut fetched) = (None, None, false);
        for (name, value) in headers {
            let found = match name {
                &header::HOST => &mut host,
                &header::ORIGIN => &mut origin,
                name => {
                    fetched |= name == "sec-fetch-site";
                    continue;
                }
            };
            if found.replace(value).is_some() {
                return Err(forbidden(format!("header `{name}`: given twice")));
            }
        }
        if let Some(host) = host {
            self.check_host(host)?;
        }
        let Some(origin) = origin else {
            return if fetched {
                check_fetch(headers)
            } else {
                Ok(())
            };
        };
        if self.allows(origin) || host.is_some_and(|host| is_same(origin, host)) {
            return Ok(());
        }
        Err(forbidden(format!(
            "header `origin`: pages of `{}` may not call this server; `--allow-origin` lets them",
            shown(origin)
        )))
    }

    /// The host that was asked for. HTTP/1.0 may leave it out, and no browser does.
    fn check_host(&self, value: &HeaderValue) -> Result<(), Failure> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        if is_usual(value.as_bytes()) {
            return Ok(());
        }
        match authority(value) {
            Some(host) if host.is_loopback() || hosts.contains(&host.host) => Ok(()),
            _ => Err(forbidden(format!(
                "header `host`: without a token this server answers to loopback addresses and \
                 `localhost`, not to `{}`; `--host` adds a name",
                shown(value)
            ))),
        }
    }

    /// Whether it is on the list.
    fn allows(&self, origin: &HeaderValue) -> bool {
        self.any || parse(origin).is_some_and(|origin| self.allowed.contains(&origin))
    }

    /// The answer to a browser that asks, with `OPTIONS`, whether a page's request may be sent. `None`
    /// where that is not what is asked, or not by an origin on the list. Still to be
    /// [decorated](Self::decorate), as every answer is.
    pub(crate) fn preflight(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let origin = headers.get(header::ORIGIN)?;
        headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if !self.allows(origin) {
            return None;
        }
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(answer)
    }

    /// What every answer carries: the bounds for the browser that gets it, and leave for the page
    /// that asked, where `origin`, the request's, is on the list. A policy that is there already
    /// (the [page](crate::page)'s) stays.
    pub(crate) fn decorate(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        headers
            .entry(header::CONTENT_SECURITY_POLICY)
            .or_insert(HeaderValue::from_static(
                "default-src 'none'; frame-ancestors 'none'",
            ));
        let origin = origin.filter(|origin| self.allows(origin));
        headers.insert(
            RESOURCE_POLICY,
            HeaderValue::from_static(match origin {
                Some(_) => "cross-origin",
                None => "same-origin",
            }),
        );
        if let Some(origin) = origin {
            let origin = if self.any {
                HeaderValue::from_static("*")
            } else {
                origin.clone()
            };
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
        }
        // Also where there is no origin: what is cached then must not go to a page that has one.
        if !self.any && !self.allowed.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }
}

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A browser sends no `Origin` with what a page embeds, a picture or a frame: the page could not read
/// it, but could hold streams open. Browsers since 2023 say from where they were told to fetch it, to
/// loopback and over TLS at least.
fn check_fetch(headers: &HeaderMap) -> Result<(), Failure> {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    match (value("sec-fetch-site"), value("sec-fetch-dest")) {
        (None | Some(b"same-origin" | b"none"), _) => Ok(()),
        // A link that is followed.
        (_, Some(b"document")) => Ok(()),
        _ => Err(forbidden(
            "header `sec-fetch-site`: pages of other origins may not embed what is here".to_owned(),
        )),
    }
}

/// Whether the page came from where its request goes. Whatever stands between may have taken the
/// TLS away, so our own scheme says nothing about the browser's.
fn is_same(origin: &HeaderValue, host: &HeaderValue) -> bool {
    let Some(host) = authority(host) else {
        return false;
    };
    parse(origin).is_some_and(|origin| {
        let usual = origin.usual_port();
        usual.is_some()
            && origin.at.host == host.host
            && origin.at.port.or(usual) == host.port.or(usual)
    })
}

/// The loopback hosts as nearly everybody writes them.
fn is_usual(host: &[u8]) -> bool {
    let name = match host.iter().rposition(|byte| *byte == b':') {
        Some(at) if host[at + 1..].iter().all(u8::is_ascii_digit) && host.len() <= at + 6 => {
            &host[..at]
        }
        _ => host,
    };
    matches!(name, b"127.0.0.1" | b"localhost" | b"[::1]")
}

fn authority(host: &HeaderValue) -> Option<Authority> {
    Authority::parse(host.to_str().ok()?)
}

fn parse(origin: &HeaderValue) -> Option<Origin> {
    Origin::parse(origin.to_str().ok()?)
}

/// A page's origin, written as browsers write it: lower case, without the scheme's usual port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    at: Authority,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, at) = text.split_once("://")?;
        let mut origin = Self {
            scheme: scheme.to_ascii_lowercase(),
            at: Authority::parse(at)?,
        };
        // Extensions of browsers have origins, too: `chrome-extension://` and the extension's id.
        if origin.usual_port().is_none() && !origin.scheme.ends_with("-extension") {
            return None;
        }
        origin.at.port = origin
            .at
            .port
            .filter(|port| Some(*port) != origin.usual_port());
        Some(origin)
    }

    fn usual_port(&self) -> Option<u16> {
        match &*self.scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        }
    }
}

/// `host` or `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    /// In lower case; an IPv6 address in its brackets.
    host: String,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Option<Self> {
        let name_ends = match text.starts_with('[') {
            true => text.find(']')? + 1,
            false => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(name_ends);
        let is_host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                let fits = |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_');
                !host.is_empty() && host.bytes().all(fits)
            }
        };
        let port = match port.strip_prefix(':') {
            None => None,
            // `parse` alone would take a plus sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        is_host.then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }
}

fn forbidden(message: String) -> Failure {
    Failure::new(FORBIDDEN, message)
}

/// What the caller sent, not longer than a message should be.
fn shown(value: &HeaderValue) -> String {
    const MAX_BYTES: usize = 100;
    let bytes = value.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(allowed: &[&str], hosts: &[&str], token_set: bool) -> Result<Origins, OriginError> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Origins::new(owned(allowed), owned(hosts), token_set)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    #[track_caller]
    fn check(origins: &Origins, pairs: &[(&'static str, &str)], expected: Result<(), &str>) {
        match (origins.check(&headers(pairs)), expected) {
            (Ok(()), Ok(())) => {}
            (Err(Failure { body: error, .. }), Err(expected)) => {
                assert_eq!(error.code, FORBIDDEN);
                assert!(error.message.contains(expected), "{}", error.message);
            }
            (got, _) => panic!("{pairs:?}: {got:?}"),
        }
    }

    #[test]
    fn origins_are_looked_at_when_the_server_starts() {
        for origin in [
            "https://app.example",
            "HTTPS://App.Example:8443",
            "http://localhost:3000",
            "http://[::1]:3000",
            "http://10.0.0.1",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ] {
            assert!(origins(&[origin], &[], false).is_ok(), "{origin}");
        }
        for origin in [
            "",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/page",
            "https://app.example?q",
            "https://user@app.example",
            "https://app.example:",
            "https://app.example:+80",
            "https://app.example:65536",
            "https://*.example",
            "https://[::1",
            "https://[app.example]",
            "https://a b",
            "https://ümlaut.example",
            "ftp://app.example",
            "file://x",
        ] {
            let error = origins(&[origin], &[], true).unwrap_err().to_string();
            let start = format!("--allow-origin {origin}: expected an origin");
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn every_origin_needs_a_token() {
        let error = origins(&["https://a.example", "*"], &[], false).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--allow-origin *: every page")
        );
        assert!(origins(&["*"], &[], true).is_ok());
    }

    #[test]
    fn hosts_are_looked_at_when_the_server_starts() {
        for host in ["tapline.internal", "TAPLINE", "192.168.1.5", "[fd00::1]"] {
            assert!(origins(&[], &[host], false).is_ok(), "{host}");
        }
        for host in ["", "tapline:10001", "http://tapline", "fd00::1", "*"] {
            let error = origins(&[], &[host], false).unwrap_err().to_string();
            let start = format!("--host {host}: expected a name");
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn without_a_token_only_loopback_and_what_is_named_is_answered_to() {
        let ours = origins(&[], &["Tapline.Internal", "10.0.0.7"], false).unwrap();
        for host in [
            "localhost",
            "LOCALHOST:10001",
            "127.0.0.1:10001",
            "127.8.8.8",
            "[::1]:10001",
            "[::ffff:127.0.0.1]",
            "tapline.internal:80",
            "10.0.0.7:10001",
        ] {
            check(&ours, &[("host", host)], Ok(()));
        }
        for host in [
            "",
            "evil.example",
            "evil.example:10001",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost.",
            "notlocalhost",
            "10.0.0.8",
            "0.0.0.0:10001",
            "[::]",
            "localhost:x",
            "localhost@evil.example",
            "localhost, evil.example",
            "\u{1f4a9}",
        ] {
            check(&ours, &[("host", host)], Err("`--host` adds a name"));
        }
        check(&ours, &[], Ok(()));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        check(&ours, &twice, Err("header `host`: given twice"));
    }

    #[test]
    fn with_a_token_it_answers_to_every_name() {
        let ours = origins(&[], &[], true).unwrap();
        for host in ["tapline.example", "", "what?"] {
            check(&ours, &[("host", host)], Ok(()));
        }
    }

    #[test]
    fn a_page_of_our_own_may_call() {
        let ours = origins(&[], &[], true).unwrap();
        for (host, origin) in [
            ("127.0.0.1:10001", "http://127.0.0.1:10001"),
            ("tapline.example", "https://tapline.example"),
            ("tapline.example", "http://tapline.example"),
            ("tapline.example:443", "https://tapline.example"),
            ("Tapline.Example", "https://tapline.example:443"),
            ("[::1]:10001", "http://[::1]:10001"),
        ] {
            check(&ours, &[("host", host), ("origin", origin)], Ok(()));
        }
        for (host, origin) in [
            ("127.0.0.1:10001", "http://localhost:10001"),
            ("127.0.0.1:10001", "http://127.0.0.1:3000"),
            ("127.0.0.1:10001", "http://127.0.0.1"),
            ("tapline.example", "https://evil.example"),
            ("tapline.example", "https://tapline.example.evil.example"),
            ("tapline.example:80", "https://tapline.example"),
            ("tapline.example", "null"),
            ("tapline.example", ""),
            ("tapline", "chrome-extension://tapline"),
            ("null", "null"),
        ] {
            let sent = [("host", host), ("origin", origin)];
            check(&ours, &sent, Err("`--allow-origin` lets them"));
        }
        check(&ours, &[("origin", "http://x")], Err("header `origin`"));
        let twice = [
            ("host", "a"),
            ("origin", "http://a"),
            ("origin", "http://b"),
        ];
        check(&ours, &twice, Err("header `origin`: given twice"));
    }

    #[test]
    fn a_page_on_the_list_may_call() {
        let list = ["https://App.example:443", "chrome-extension://abc"];
        let ours = origins(&list, &[], false).unwrap();
        let from = |origin| [("host", "localhost:1"), ("origin", origin)];
        check(&ours, &from("https://app.example"), Ok(()));
        check(&ours, &from("chrome-extension://abc"), Ok(()));
        for other in [
            "http://app.example",
            "https://app.example:8443",
            "https://x.app.example",
            "moz-extension://abc",
        ] {
            check(&ours, &from(other), Err("header `origin`: pages of `"));
        }
        // On the list, but under a name that is not ours.
        let rebound = [("host", "app.example"), ("origin", "https://app.example")];
        check(&ours, &rebound, Err("`--host` adds a name"));
    }

    #[test]
    fn what_a_page_of_another_origin_embeds_is_not_answered() {
        let ours = origins(&[], &[], false).unwrap();
        let host = ("host", "127.0.0.1:10001");
        for (site, dest, allowed) in [
            ("cross-site", "image", false),
            ("cross-site", "iframe", false),
            ("cross-site", "empty", false),
            ("same-site", "image", false),
            ("cross-site", "document", true),
            ("same-site", "document", true),
            ("same-origin", "empty", true),
            ("none", "document", true),
        ] {
            let sent = [host, ("sec-fetch-site", site), ("sec-fetch-dest", dest)];
            let expected = if allowed {
                Ok(())
            } else {
                Err("may not embed")
            };
            check(&ours, &sent, expected);
        }
    }

    #[test]
    fn messages_do_not_grow_with_what_was_sent() {
        let ours = origins(&[], &[], false).unwrap();
        let long = "x".repeat(5000);
        for sent in [
            [("host", &*long), ("origin", "http://x")],
            [("host", "localhost"), ("origin", &long)],
        ] {
            let Failure { body: error, .. } = ours.check(&headers(&sent)).unwrap_err();
            assert!(error.message.len() < 300, "{}", error.message);
        }
    }

    #[test]
    fn a_browser_that_asks_beforehand_is_told_what_may_be_sent() {
        let ours = origins(&["https://app.example"], &[], false).unwrap();
        let asked = |origin| {
            headers(&[
                ("origin", origin),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "content-type"),
            ])
        };
        let asking = asked("https://app.example");
        let mut answer = ours.preflight(&asking).unwrap();
        ours.decorate(asking.get(header::ORIGIN), answer.headers_mut());
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let told = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!(told("access-control-allow-origin"), "https://app.example");
        assert_eq!(
            told("access-control-allow-methods"),
            "GET, POST, PUT, PATCH"
        );
        assert_eq!(
            told("access-control-allow-headers"),
            "authorization, content-type, last-event-id, x-request-id"
        );
        assert_eq!(told("access-control-max-age"), "600");
        assert_eq!(told("vary"), "origin");

        assert!(ours.preflight(&asked("https://evil.example")).is_none());
        let plain = headers(&[("origin", "https://app.example")]);
        assert!(ours.preflight(&plain).is_none());
        assert!(ours.preflight(&HeaderMap::new()).is_none());
    }

    #[test]
    fn only_a_page_on_the_list_may_read_answers() {
        let decorated = |origins: &Origins, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            origins.decorate(origin.map(HeaderValue::from_static).as_ref(), &mut headers);
            let told = |name: &str| {
                let value = headers.get(name).map(|value| value.to_str().unwrap());
                value.map(str::to_owned)
            };
            [
                "access-control-allow-origin",
                "vary",
                "cross-origin-resource-policy",
            ]
            .map(told)
        };
        let some = |texts: [&str; 3]| texts.map(|text| (!text.is_empty()).then(|| text.to_owned()));
        let (ours, none, any) = (
            origins(&["https://a.example", "https://b.example"], &[], true).unwrap(),
            origins(&[], &[], true).unwrap(),
            origins(&["*"], &[], true).unwrap(),
        );
        let b = Some("https://b.example");
        for (origins, origin, expected) in [
            (&ours, b, ["https://b.example", "origin", "cross-origin"]),
            (
                &ours,
                Some("https://c.example"),
                ["", "origin", "same-origin"],
            ),
            (&ours, Some("null"), ["", "origin", "same-origin"]),
            (&ours, None, ["", "origin", "same-origin"]),
            (&none, b, ["", "", "same-origin"]),
            (&any, b, ["*", "", "cross-origin"]),
            (&any, None, ["", "", "same-origin"]),
        ] {
            assert_eq!(decorated(origins, origin), some(expected), "{origin:?}");
        }
    }

    #[test]
    fn every_answer_has_its_bounds_and_the_page_its_own() {
        let ours = origins(&[], &[], false).unwrap();
        let mut json = HeaderMap::new();
        ours.decorate(None, &mut json);
        assert_eq!(json["x-content-type-options"], "nosniff");
        assert_eq!(json["referrer-policy"], "no-referrer");
        assert_eq!(
            json["content-security-policy"],
            "default-src 'none'; frame-ancestors 'none'"
        );
        let mut page = HeaderMap::new();
        let policy = HeaderValue::from_static(crate::page::CONTENT_SECURITY_POLICY);
        page.insert(header::CONTENT_SECURITY_POLICY, policy);
        ours.decorate(None, &mut page);
        let policy = page["content-security-policy"].to_str().unwrap();
        for part in [
            "script-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
