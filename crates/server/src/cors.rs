//! The headers with which a browser knows which pages may read an answer, and what an answer may do.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tapline_access::Access;

use crate::answer::Whole;

const ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const ALLOW_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, x-request-id");
/// Ten minutes: a changed allow-list soon takes effect, and a page asks rarely.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "x-has-more, x-next-offset, x-head, x-oldest, x-epoch, x-lost, x-gaps, x-reader-id, x-request-id, \
     x-not-captured, retry-after, x-sse-content-type",
);
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The answer to a browser that asks, with `OPTIONS`, whether a page's request may be sent. `None` where
/// the request is something else, or the page's origin is not allowed. The answer is still to be
/// [decorated](decorate), as every answer is.
pub(crate) fn preflight(access: &Access, headers: &HeaderMap) -> Option<Whole> {
    let origin = headers.get(header::ORIGIN)?;
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    access.allowed_origin(origin)?;
    let mut answer = Whole::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(answer)
}

/// Adds what every answer carries: restrictions for the browser that receives it, and the permission to
/// read it for a page of an allowed origin. `origin` is the request's. A policy that is there already (the
/// [page](crate::page)'s) stays.
pub(crate) fn decorate(access: &Access, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
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
    let allowed = origin.and_then(|origin| access.allowed_origin(origin));
    headers.insert(
        RESOURCE_POLICY,
        HeaderValue::from_static(match allowed {
            Some(_) => "cross-origin",
            None => "same-origin",
        }),
    );
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
    }
    // Also without an origin: a cached answer must not be served to a page that has one.
    if access.varies_by_origin() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use tapline_access::{AccessConfig, Token, TokenSource};

    use super::*;

    fn allowing(origins: &[&str]) -> Access {
        let token = Token::from_variable("TOKEN", "correct-horse-battery-staple").unwrap();
        let config = AccessConfig {
            token: Some(TokenSource::Fixed(token)),
            allow_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            ..AccessConfig::default()
        };
        config.load().unwrap()
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

    #[test]
    fn a_preflight_of_an_allowed_origin_names_what_may_be_sent() {
        let ours = allowing(&["https://app.example"]);
        let asked = |origin| {
            headers(&[
                ("origin", origin),
                ("access-control-request-method", "PUT"),
                ("access-control-request-headers", "content-type"),
            ])
        };
        let asking = asked("https://app.example");
        let mut answer = preflight(&ours, &asking).unwrap();
        decorate(&ours, asking.get(header::ORIGIN), answer.headers_mut());
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let value_of = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!(
            value_of("access-control-allow-origin"),
            "https://app.example"
        );
        assert_eq!(
            value_of("access-control-allow-methods"),
            "GET, POST, PUT, PATCH, DELETE"
        );
        assert_eq!(
            value_of("access-control-allow-headers"),
            "authorization, content-type, last-event-id, x-request-id"
        );
        assert_eq!(value_of("access-control-max-age"), "600");
        assert_eq!(value_of("vary"), "origin");

        assert!(preflight(&ours, &asked("https://evil.example")).is_none());
        let plain = headers(&[("origin", "https://app.example")]);
        assert!(preflight(&ours, &plain).is_none());
        assert!(preflight(&ours, &HeaderMap::new()).is_none());
    }

    #[test]
    fn only_pages_of_allowed_origins_may_read_answers() {
        let decorated = |access: &Access, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            decorate(
                access,
                origin.map(HeaderValue::from_static).as_ref(),
                &mut headers,
            );
            let value_of = |name: &str| {
                let value = headers.get(name).map(|value| value.to_str().unwrap());
                value.map(str::to_owned)
            };
            [
                "access-control-allow-origin",
                "vary",
                "cross-origin-resource-policy",
            ]
            .map(value_of)
        };
        let some = |texts: [&str; 3]| texts.map(|text| (!text.is_empty()).then(|| text.to_owned()));
        let (ours, none, any) = (
            allowing(&["https://a.example", "https://b.example"]),
            allowing(&[]),
            allowing(&["*"]),
        );
        let b = Some("https://b.example");
        for (access, origin, expected) in [
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
            assert_eq!(decorated(access, origin), some(expected), "{origin:?}");
        }
    }

    #[test]
    fn every_answer_restricts_the_browser_and_the_page_keeps_its_policy() {
        let ours = Access::default();
        let mut json = HeaderMap::new();
        decorate(&ours, None, &mut json);
        assert_eq!(json["x-content-type-options"], "nosniff");
        assert_eq!(json["referrer-policy"], "no-referrer");
        assert_eq!(
            json["content-security-policy"],
            "default-src 'none'; frame-ancestors 'none'"
        );
        let mut page = HeaderMap::new();
        let policy = HeaderValue::from_static(crate::page::CONTENT_SECURITY_POLICY);
        page.insert(header::CONTENT_SECURITY_POLICY, policy);
        decorate(&ours, None, &mut page);
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
