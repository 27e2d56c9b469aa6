//! Where the logs are sent to: the URL of a collector.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

/// The paths of logs and of traces, which a base is completed with.
const LOGS_PATH: &str = "/v1/logs";
const TRACES_PATH: &str = "/v1/traces";

/// A URL that logs are sent to. Its text has no query, which may contain a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) is_https: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As in the URL, for the header `host`.
    pub(crate) authority: String,
    pub(crate) path: PathAndQuery,
    /// Where spans are sent to.
    pub(crate) traces_path: PathAndQuery,
}

/// Why a URL is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the OTLP endpoint `{url}` cannot be used: {reason}")]
pub struct EndpointError {
    /// The URL, without what follows `?`, and without a user and a password.
    url: String,
    reason: &'static str,
}

impl Endpoint {
    /// As OpenTelemetry's `OTEL_EXPORTER_OTLP_ENDPOINT`: the URL is a base, to which `/v1/logs` is appended. One
    /// whose path already ends in `/v1/logs`, as in `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`, is used as it is. Spans go to
    /// `/v1/traces` of the same base.
    pub(crate) fn parse(url: &str) -> Result<Self, EndpointError> {
        let error = |reason| EndpointError {
            url: without_secrets(url),
            reason,
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| error("it is not a URL; write one such as http://127.0.0.1:4318"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(error("it has to begin with http:// or https://")),
        };
        let authority = uri.authority().map_or("", |it| it.as_str()).to_owned();
        if authority.contains('@') {
            return Err(error(
                "its user and password would be visible in the list of processes; \
                 put an `authorization` header into the headers file",
            ));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(error("it names no host"));
        }
        let path = uri.path().trim_end_matches('/');
        let base = path.strip_suffix(LOGS_PATH).unwrap_or(path);
        let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
        let completed = |with: &str| {
            let path = format!("{base}{with}{query}").parse();
            path.map_err(|_| error("its path is not valid"))
        };
        Ok(Self {
            is_https,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            path: completed(LOGS_PATH)?,
            traces_path: completed(TRACES_PATH)?,
            authority,
        })
    }
}

impl Endpoint {
    /// Without a query.
    pub(crate) fn traces_url(&self) -> String {
        self.with_path(self.traces_path.path())
    }

    fn with_path(&self, path: &str) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.authority)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_path(self.path.path()))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For an error: also of a text that is not a URL.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match (url.find("//"), url.rfind('@')) {
        (Some(start), Some(end)) if start < end => format!("{}//…{}", &url[..start], &url[end..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_logs_is_appended_to_a_base() {
        for (url, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/logs"),
            ("http://localhost:4318/", "http://localhost:4318/v1/logs"),
            ("https://otlp.example", "https://otlp.example/v1/logs"),
            ("https://gw.example/otlp", "https://gw.example/otlp/v1/logs"),
            (
                "https://gw.example/otlp/",
                "https://gw.example/otlp/v1/logs",
            ),
            ("http://a/v1/logs", "http://a/v1/logs"),
            ("http://a/x/v1/logs/", "http://a/x/v1/logs"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/logs"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), expected);
        }
        let endpoint = Endpoint::parse("http://[::1]:4318/?tenant=a").unwrap();
        assert_eq!(endpoint.host, "::1");
        assert_eq!(endpoint.path.as_str(), "/v1/logs?tenant=a");
        assert_eq!(endpoint.traces_path.as_str(), "/v1/traces?tenant=a");
        let of_logs = Endpoint::parse("http://a/x/v1/logs").unwrap();
        assert_eq!(of_logs.traces_path.as_str(), "/x/v1/traces");
        let ports = ["http://a", "https://a", "https://a:8443"]
            .map(|url| Endpoint::parse(url).unwrap().port);
        assert_eq!(ports, [80, 443, 8443]);
    }

    #[test]
    fn an_error_names_the_url_without_its_secrets() {
        for (url, expected) in [
            ("localhost:4318", "has to begin with http://"),
            ("localhost", "has to begin with http://"),
            ("ftp://a", "has to begin with http://"),
            ("http://", "is not a URL"),
            ("http://a b", "is not a URL"),
            ("", "is not a URL"),
            ("https://me:secret@a/otlp?key=secret", "https://…@a/otlp"),
            ("ftp://a?key=secret", "`ftp://a`"),
            ("http://me:sec ret@a", "`http://…@a`"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let endpoint = Endpoint::parse("https://a?key=secret").unwrap();
        assert_eq!(
            format!("{endpoint} {endpoint:?}"),
            "https://a/v1/logs https://a/v1/logs"
        );
    }
}
