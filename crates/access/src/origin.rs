//! Which pages may call, and under which host names: protection of browsers against pages that they show.
//!
//! A browser reaches addresses that a page's author cannot reach, above all loopback. A page can use it in
//! four ways, and each of them is refused:
//!
//! - A page of another origin reads answers. Browsers permit that for allowed origins only (CORS).
//! - A page of another origin sends a request that browsers send without asking first, and needs no
//!   answer: it publishes, or stops a session. Its `Origin` header shows it, and the request is refused.
//! - A page of another origin embeds a URL, and so holds streams open. `Sec-Fetch-Site` shows it.
//! - A page lets its own host name resolve to our address (DNS rebinding), and is then of the same
//!   origin. The name is still in `Host`. With a token this is not checked, since such a page does not
//!   have the token.
//!
//! Other clients send no `Origin` and can send any `Host`: these rules protect browsers and replace no
//! secret.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, header};

/// A value of an allow-list, and where it is written: for errors.
pub(crate) struct Entry {
    /// A flag such as `--host`, or a line of a file.
    pub(crate) place: String,
    pub(crate) value: String,
}

/// Which pages may call, and under which host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins {
    /// Whether every origin is allowed.
    any: bool,
    allowed: Vec<Origin>,
    /// The host names beside loopback; `None` permits every host.
    hosts: Option<Vec<String>>,
}

/// An entry of an allow-list that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} {value}: {message}")]
pub struct OriginError {
    place: String,
    value: String,
    message: &'static str,
}

impl Origins {
    /// Pages of the origins `allowed` may call, besides pages of our own origin; `*` stands for every
    /// origin. Without a token, requests are answered only if they were sent to loopback or to one of
    /// `hosts`.
    ///
    /// # Errors
    ///
    /// [`OriginError`] names the entry where an origin is malformed (expected: `https://host`, with a
    /// port unless it is the usual one, without a path), where a host is malformed, and where `*` would
    /// open a server without a token to every page.
    pub(crate) fn new(
        allowed: Vec<Entry>,
        hosts: Vec<Entry>,
        token_set: bool,
    ) -> Result<Self, OriginError> {
        let wrong = |Entry { place, value }, message| OriginError {
            place,
            value,
            message,
        };
        let mut origins = Self {
            any: false,
            allowed: Vec::new(),
            hosts: None,
        };
        for entry in allowed {
            if entry.value == "*" {
                if !token_set {
                    return Err(wrong(
                        entry,
                        "every page that a browser here visits could read and publish: name the origins, or set a token",
                    ));
                }
                origins.any = true;
            } else if let Some(origin) = Origin::parse(&entry.value) {
                origins.allowed.push(origin);
            } else {
                return Err(wrong(
                    entry,
                    "expected an origin as a browser sends it, such as https://app.example or http://localhost:3000, without a path",
                ));
            }
        }
        let mut names = Vec::new();
        for entry in hosts {
            match Authority::parse(&entry.value) {
                Some(Authority { host, port: None }) => names.push(host),
                _ => {
                    return Err(wrong(
                        entry,
                        "expected a name or an address, such as tapline.internal, without a port",
                    ));
                }
            }
        }
        origins.hosts = (!token_set).then_some(names);
        Ok(origins)
    }

    /// Whether the request may be carried out.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Forbidden> {
        // One pass over the few headers instead of three look-ups: this runs for every published event.
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
                return Err(Forbidden::Repeated {
                    header: name.as_str().to_owned(),
                });
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
        Err(Forbidden::Origin {
            origin: shown(origin),
        })
    }

    /// The requested host. HTTP/1.0 permits to omit it; no browser does.
    fn check_host(&self, value: &HeaderValue) -> Result<(), Forbidden> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        if is_usual(value.as_bytes()) {
            return Ok(());
        }
        match authority(value) {
            Some(host) if host.is_loopback() || hosts.contains(&host.host) => Ok(()),
            _ => Err(Forbidden::Host { host: shown(value) }),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.any || parse(origin).is_some_and(|origin| self.allowed.contains(&origin))
    }

    /// The value of `access-control-allow-origin` for a page of this origin; `None` where the page may
    /// not read answers.
    pub(crate) fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        self.allows(origin).then(|| match self.any {
            true => HeaderValue::from_static("*"),
            false => origin.clone(),
        })
    }

    /// Whether answers differ by origin, so that a cache must not serve one page's answer to another.
    pub(crate) fn vary(&self) -> bool {
        !self.any && !self.allowed.is_empty()
    }
}

/// Why a request is refused that a page may have caused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// `Host` is neither loopback nor in the allow-list, and there is no token.
    #[error(
        "header `host`: without a token, only requests to `localhost`, loopback addresses and the names \
         of `--host` are answered, not to `{host}`"
    )]
    Host {
        /// The beginning of what was sent.
        host: String,
    },
    /// The page's origin is not in the allow-list.
    #[error(
        "header `origin`: pages of `{origin}` may not send requests here; `--allow-origin` allows an origin"
    )]
    Origin {
        /// The beginning of what was sent.
        origin: String,
    },
    /// A page of another origin embeds the URL.
    #[error("header `sec-fetch-site`: pages of other origins may not embed this")]
    Embedded,
    /// A header on which the decision depends was sent twice.
    #[error("header `{header}`: sent twice")]
    Repeated {
        /// `host` or `origin`.
        header: String,
    },
}

/// Browsers send no `Origin` for what a page embeds, such as a picture or a frame: the page could not
/// read it, but could hold streams open. Browsers since 2023 send `Sec-Fetch-Site`, at least to loopback
/// and over TLS.
fn check_fetch(headers: &HeaderMap) -> Result<(), Forbidden> {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    match (value("sec-fetch-site"), value("sec-fetch-dest")) {
        (None | Some(b"same-origin" | b"none"), _) => Ok(()),
        // The user follows a link.
        (_, Some(b"document")) => Ok(()),
        _ => Err(Forbidden::Embedded),
    }
}

/// Whether the page was loaded from the host to which it sends the request. A proxy may end TLS, so our
/// own scheme may differ from the browser's.
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

/// A shortcut for the usual spellings of loopback hosts.
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
        // Browser extensions have origins, too: `chrome-extension://` and the extension's id.
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

/// Whether `host` or `host:port`, as a URL or the header `Host` has it, is this machine: `localhost`, or a loopback address.
/// A name that begins like one, such as `localhost.example`, is not.
#[must_use]
pub fn is_loopback(authority: &str) -> bool {
    Authority::parse(authority).is_some_and(|it| it.is_loopback())
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
            // `parse` alone would accept a plus sign.
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

/// The beginning of what the client sent, at most 100 bytes of it.
fn shown(value: &HeaderValue) -> String {
    const MAX_BYTES: usize = 100;
    let bytes = value.as_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn origins(allowed: &[&str], hosts: &[&str], token_set: bool) -> Result<Origins, OriginError> {
        let entries = |place: &str, values: &[&str]| {
            let entry = |value: &&str| Entry {
                place: place.to_owned(),
                value: (*value).to_owned(),
            };
            values.iter().map(entry).collect()
        };
        let allowed = entries("--allow-origin", allowed);
        Origins::new(allowed, entries("--host", hosts), token_set)
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
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (got, _) => panic!("{pairs:?}: {got:?}"),
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for here in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:10001",
            "127.9.9.9",
            "[::1]:7",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for other in [
            "localhost.example",
            "127.example",
            "127.0.0.1.example:80",
            "10.0.0.1",
            "a@localhost",
            "",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn origins_are_parsed_when_the_lists_are_loaded() {
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
    fn allowing_every_origin_needs_a_token() {
        let error = origins(&["https://a.example", "*"], &[], false).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--allow-origin *: every page")
        );
        assert!(origins(&["*"], &[], true).is_ok());
    }

    #[test]
    fn hosts_are_parsed_when_the_lists_are_loaded() {
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
    fn without_a_token_only_loopback_and_listed_hosts_are_answered() {
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
            check(&ours, &[("host", host)], Err("the names of `--host`"));
        }
        check(&ours, &[], Ok(()));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        check(&ours, &twice, Err("header `host`: sent twice"));
    }

    #[test]
    fn with_a_token_every_host_is_answered() {
        let ours = origins(&[], &[], true).unwrap();
        for host in ["tapline.example", "", "what?"] {
            check(&ours, &[("host", host)], Ok(()));
        }
    }

    #[test]
    fn a_page_of_the_same_origin_may_call() {
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
            check(&ours, &sent, Err("`--allow-origin` allows"));
        }
        check(&ours, &[("origin", "http://x")], Err("header `origin`"));
        let twice = [
            ("host", "a"),
            ("origin", "http://a"),
            ("origin", "http://b"),
        ];
        check(&ours, &twice, Err("header `origin`: sent twice"));
    }

    #[test]
    fn a_page_of_an_allowed_origin_may_call() {
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
        // An allowed origin, but a host name that is not allowed.
        let rebound = [("host", "app.example"), ("origin", "https://app.example")];
        check(&ours, &rebound, Err("the names of `--host`"));
    }

    #[test]
    fn requests_for_embedding_by_another_origin_are_refused() {
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
    fn the_length_of_an_error_is_bounded() {
        let ours = origins(&[], &[], false).unwrap();
        let long = "x".repeat(5000);
        for sent in [
            [("host", &*long), ("origin", "http://x")],
            [("host", "localhost"), ("origin", &long)],
        ] {
            let message = ours.check(&headers(&sent)).unwrap_err().to_string();
            assert!(message.len() < 300, "{message}");
        }
    }

    #[test]
    fn only_pages_of_allowed_origins_may_read_answers() {
        let (ours, none, any) = (
            origins(&["https://a.example", "https://b.example"], &[], true).unwrap(),
            origins(&[], &[], true).unwrap(),
            origins(&["*"], &[], true).unwrap(),
        );
        let (b, c) = ("https://b.example", "https://c.example");
        for (origins, origin, allowed, vary) in [
            (&ours, b, Some(b), true),
            (&ours, c, None, true),
            (&ours, "null", None, true),
            (&none, b, None, false),
            (&any, b, Some("*"), false),
        ] {
            let got = origins.allowed(&HeaderValue::from_static(origin));
            assert_eq!(got, allowed.map(HeaderValue::from_static), "{origin}");
            assert_eq!(origins.vary(), vary);
        }
    }
}
