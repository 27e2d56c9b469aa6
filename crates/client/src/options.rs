//! Options of a stream: filter, start, and reconnection.

use std::time::Duration;

use tapline_oapi::{CategorySet, Cursor};

/// The filter and the start of a stream. The default reads all events from the start of the current
/// session, and reconnects without limit.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Where to begin.
    pub start: Start,
    /// Only events of these categories. The empty set is no filter.
    pub categories: CategorySet,
    /// Only events of these types; `*` matches any text (`page_*`). An empty list is no filter. With
    /// `categories` as well, an event has to match both.
    pub types: Vec<String>,
    /// When to reconnect, and when to give up.
    pub reconnect: Reconnect,
    /// After how long without any byte a connection counts as dead. Servers send something every 15 s; the
    /// default is three times that.
    pub silence: Duration,
}

impl StreamOptions {
    pub(crate) fn is_filtered(&self) -> bool {
        !self.categories.is_empty() || !self.types.is_empty()
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            start: Start::default(),
            categories: CategorySet::EMPTY,
            types: Vec::new(),
            reconnect: Reconnect::default(),
            silence: Duration::from_secs(45),
        }
    }
}

/// Where a stream begins. After a reconnection it always continues at its position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first event of the current session; without a session, at the next new event.
    #[default]
    Session,
    /// At the oldest retained event.
    Oldest,
    /// At the next new event.
    Live,
    /// After this cursor. If the events there were evicted, the stream reports the loss and begins at the
    /// oldest retained event. It also begins there if the cursor is of another epoch, because the server was
    /// restarted, or ahead of the head.
    After(Cursor),
}

/// When to reconnect after a connection was lost.
///
/// The pause doubles with each failed attempt in a row, from `first` (or the server's `retry:`) to `most`.
/// Half of it is random, so that the clients of a restarted server do not all connect at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause, unless the server asks for another with `retry:`.
    pub first: Duration,
    /// The longest pause, unless the server asks for a longer one.
    pub most: Duration,
    /// After how many failed attempts in a row the stream gives up. `None`: never. Zero: it never
    /// reconnects.
    pub attempts: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            most: Duration::from_secs(30),
            attempts: None,
        }
    }
}

impl Reconnect {
    /// The pause after this many failures in a row, from 1.
    pub(crate) fn pause(&self, asked: Option<Duration>, failures: u32) -> Duration {
        let first = asked.unwrap_or(self.first);
        let doublings = failures.saturating_sub(1).min(31);
        let full = first
            .saturating_mul(1 << doublings)
            .min(self.most.max(first));
        full / 2 + (full / 2).mul_f64(random_fraction())
    }
}

/// A number from 0 to 1. Without randomness, clients merely reconnect at the same time.
fn random_fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_respect_the_servers_retry() {
        let reconnect = Reconnect {
            first: Duration::from_millis(100),
            most: Duration::from_millis(1000),
            attempts: None,
        };
        let check = |asked: Option<u64>, failures, full: u64| {
            let pause = reconnect.pause(asked.map(Duration::from_millis), failures);
            let full = Duration::from_millis(full);
            assert!(full / 2 <= pause && pause <= full, "{pause:?} of {full:?}");
        };
        check(None, 1, 100);
        check(None, 2, 200);
        check(None, 5, 1000);
        check(None, u32::MAX, 1000);
        check(Some(300), 1, 300);
        check(Some(5000), 3, 5000);
        check(Some(u64::MAX), 9, u64::MAX);
    }
}
