//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The longest pause that an endpoint may ask for. A longer one is most likely a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The pause that an endpoint asks for, in seconds or until a date. `None` where the header is absent or is not
/// valid.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // One in the past asks for none.
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_asks_in_seconds_or_with_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_349_358);
        let check = |text: &str, seconds: Option<u64>| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        };
        check("7", Some(7));
        check("0", Some(0));
        check(
            &httpdate::fmt_http_date(now + Duration::from_secs(90)),
            Some(90),
        );
        check(
            &httpdate::fmt_http_date(now - Duration::from_secs(90)),
            Some(0),
        );
        check("99999999999", Some(3600));
        check("-1", None);
        check("soon", None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
