//! The two clocks of the core: [`Time`].

use std::time::Duration;

/// A moment on two clocks.
///
/// Deadlines and durations come from `monotonic` alone. `wall` becomes the `ts` of events, and is
/// compared with the times that the browser itself writes into console messages and layout shifts. So
/// a wall clock that is set forward or back changes timestamps, and no deadline.
///
/// ```
/// use std::time::Duration;
/// use tapline_cdp::Time;
///
/// // One and a half seconds after the caller's origin, at 13:49:18 UTC.
/// let time = Time { monotonic: Duration::from_millis(1500), wall: 1_795_349_358_708_459 };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Time since any moment that the caller chooses and keeps. It must never go back; a value that
    /// does is taken as the last one before it.
    pub monotonic: Duration,
    /// Microseconds since the Unix epoch. It may be anything.
    pub wall: u64,
}

impl Time {
    /// What the wall clock of this moment shows, or would have shown, at `monotonic`.
    pub(crate) fn wall_at(self, monotonic: Duration) -> u64 {
        if monotonic <= self.monotonic {
            self.wall.saturating_sub(micros(self.monotonic - monotonic))
        } else {
            self.wall.saturating_add(micros(monotonic - self.monotonic))
        }
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
