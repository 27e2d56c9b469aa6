//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The longest pause that an endpoint may ask for. A longer one is most likely a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Exponential back-off with full jitter: a random part of a bound that doubles.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    last: Duration,
    bound: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            bound: first,
        }
    }

    /// The next pause. Where the endpoint asked for one, it comes on top of that, so that not all clients come
    /// back at the same moment.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.bound.mul_f64(random_fraction());
        self.bound = self.last.min(2 * self.bound);
        pause
    }

    pub(crate) fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    // Without randomness there is no jitter, which is not worth an error.
    getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX))
}

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
    fn the_bound_doubles_up_to_the_last_and_the_pause_is_a_part_of_it() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        let mut longest = Duration::ZERO;
        for bound in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.bound, ms(bound));
            let pause = backoff.next();
            assert!(pause <= ms(bound));
            longest = longest.max(pause);
        }
        assert!(longest > ms(0));
        backoff.reset();
        assert!(backoff.next() <= ms(100));
        let pauses: Vec<_> = (0..8)
            .map(|_| Backoff::new(ms(100), ms(100)).next())
            .collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }

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
