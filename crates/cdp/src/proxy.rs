//! Errors that an egress proxy answers with in the place of the site, by the headers that proxies
//! mark them with: `Proxy-Status` (RFC 9209), and `X-Squid-Error`.

use std::collections::BTreeMap;

/// What a proxy says went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// In the words of RFC 9209, section 2.3, where they have one for it.
    pub(crate) code: String,
    /// In the proxy's own.
    pub(crate) raw_code: String,
}

/// The proxy's error, where the response is one.
pub(crate) fn error(status: u16, headers: &BTreeMap<String, String>) -> Option<Told> {
    if status < 400 {
        return None;
    }
    let header = |name: &str| {
        let mut all = headers.iter();
        all.find(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let told = |code: &str, raw_code: &str| {
        Some(Told {
            code: code.to_ascii_lowercase(),
            raw_code: raw_code.to_owned(),
        })
    };
    if let Some(code) = header("proxy-status").and_then(status_error) {
        return told(code, code);
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
    told(code, raw)
}

/// The `error` of the last proxy that tells one: that is the one nearest to the browser.
fn status_error(value: &str) -> Option<&str> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "_-.:%*/".contains(c);
    let of = |parameter: &'_ str| -> Option<usize> {
        let (name, _) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("error")
            .then_some(name.len() + 1)
    };
    // A quoted detail may hold anything, but hardly `;error=`.
    value.split([';', ',']).rev().find_map(|parameter| {
        let error = parameter[of(parameter)?..].trim();
        (!error.is_empty() && error.chars().all(is_token)).then_some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_their_headers() {
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
            let told = error(status, &headers);
            let told = told.as_ref().map(|told| (&*told.code, &*told.raw_code));
            assert_eq!(told, expected, "{name}: {value}");
        }
    }
}
