//! How long to wait before the next attempt: [`Backoff`].

use std::time::Duration;

/// Exponential back-off with full jitter: each pause is a random part of a bound that doubles.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    bound: Duration,
}

impl Backoff {
    /// With the first bound, and the largest.
    pub fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            bound: first,
        }
    }

    /// The next pause, from 0 to the bound.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is no iterator: it never ends, and it can begin anew"
    )]
    pub fn next(&mut self) -> Duration {
        // Without randomness there is no jitter, which is not worth an error.
        let part = getrandom::u32().map_or(1.0, |it| f64::from(it) / f64::from(u32::MAX));
        let pause = self.bound.mul_f64(part);
        self.bound = self.last.min(2 * self.bound);
        pause
    }

    /// After an attempt that has succeeded: the first bound again.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
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
}
