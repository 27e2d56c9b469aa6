//! Error pages of an egress proxy, recognised by the headers that proxies set on them:
//! `Proxy-Status` (RFC 9209) and `X-Squid-Error`.

use std::collections::BTreeMap;

/// The error that a proxy reports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProxyFailure {
    /// The code of RFC 9209, section 2.3, if there is one for it.
    pub(crate) code: String,
    /// The proxy's own code.
    pub(crate) raw_code: String,
}

/// The proxy's error, if the response is its error page.
pub(crate) fn error(status: u32, headers: &BTreeMap<String, String>) -> Option<ProxyFailure> {
    if status < 400 {
        return None;
    }
    let header = |name: &str| {
        let mut all = headers.iter();
        all.find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let failure = |code: &str, raw_code: &str| {
        Some(ProxyFailure {
            code: code.to_ascii_lowercase(),
            raw_code: raw_code.to_owned(),
        })
    };
    if let Some(code) = header("proxy-status").and_then(status_error) {
        return failure(code, code);
    }
    let raw = header("x-squid-error")?.split_ascii_whitespace().next()?;
    let code = match raw {
        "ERR_DNS_FAIL" => "dns_error",
        "ERR_CONNECT_FAIL" => "destination_unavailable",
        "ERR_READ_TIMEOUT" => "connection_read_timeout",
        "ERR_WRITE_ERROR" | "ERR_READ_ERROR" | "ERR_ZERO_SIZE_OBJECT" => "connection_terminated",
        "ERR_SECURE_CONNECT_FAIL" => "tls_protocol_error",
        "ERR_ACCESS_DENIED" | "ERR_CACHE_ACCESS_DENIED" => "http_request_denied",
        "ERR_TOO_BIG" => "http_response_body_size",
        other => other.strip_prefix("ERR_").unwrap_or(other),
    };
    failure(code, raw)
}

/// The `error` of the last proxy that has one: the proxy nearest to the browser.
fn status_error(value: &str) -> Option<&str> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "_-.:%*/".contains(c);
    let of = |parameter: &'_ str| -> Option<usize> {
        let (name, _) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("error")
            .then_some(name.len() + 1)
    };
    // A quoted detail may contain anything, but hardly `;error=`.
    value.split([';', ',']).rev().find_map(|parameter| {
        let error = parameter[of(parameter)?..].trim();
        (!error.is_empty() && error.chars().all(is_token)).then_some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_pages_are_recognised_by_their_headers() {
        for (status, name, value, expected) in [
            (
                502,
                "Proxy-Status",
                "egress; error=dns_timeout; rcode=3",
                Some(("dns_timeout", "dns_timeout")),
            ),
            (
                504,
                "proxy-status",
                "a.example; error=http_request_error, egress;error=connection_timeout",
                Some(("connection_timeout", "connection_timeout")),
            ),
            (
                503,
                "X-Squid-Error",
                "ERR_DNS_FAIL 0",
                Some(("dns_error", "ERR_DNS_FAIL")),
            ),
            (
                403,
                "X-Squid-Error",
                "ERR_CUSTOM 1",
                Some(("custom", "ERR_CUSTOM")),
            ),
            (200, "Proxy-Status", "egress; error=dns_timeout", None),
            (502, "Proxy-Status", "egress; received-status=502", None),
            (502, "Proxy-Status", "", None),
            (502, "Server", "error=x", None),
        ] {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let found = error(status, &headers);
            let found = found.as_ref().map(|it| (&*it.code, &*it.raw_code));
            assert_eq!(found, expected, "{name}: {value}");
        }
    }
}
