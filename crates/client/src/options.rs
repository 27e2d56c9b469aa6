//! What to read, from where, and how often to come back.

use std::time::Duration;

use tapline_oapi::{CategorySet, Cursor};

/// What to read, and from where. The default reads everything from the start of the current
/// session, for as long as there is a server.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Where to begin.
    pub start: Start,
    /// Only events of these categories; the empty set is no filter.
    pub categories: CategorySet,
    /// Only events of these types, where `*` stands for any text (`page_*`); none is no filter. With
    /// `categories` given as well, an event has to match both.
    pub types: Vec<String>,
    /// When to come back, and when to give up.
    pub reconnect: Reconnect,
    /// How long a connection may say nothing at all before it is taken for dead. Servers send
    /// something every 15 s; the default is three of those.
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

/// Where a stream begins. Once it was connected it goes on where it was, whatever is said here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// With the first event of the current session; without a session, with what comes next.
    #[default]
    Session,
    /// With the oldest event that is retained.
    Oldest,
    /// With what comes next.
    Live,
    /// With what comes after this. Where that is gone already, the stream says what was lost.
    After(Cursor),
}

/// When to come back after a connection was lost.
///
/// The pause doubles with each attempt in a row that brings nothing, from `first` (or what the
/// server asks for with `retry:`) to `most`, and half of it is random, so that a server that comes
/// back is not met by all of its clients at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause, where the server does not ask for another.
    pub first: Duration,
    /// The longest pause, unless the server asks for a longer one.
    pub most: Duration,
    /// How many attempts in a row may bring nothing until the stream gives up; `None` never does.
    /// Zero is a stream that does not come back.
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
    pub(crate) fn pause(&self, wished: Option<Duration>, failures: u32) -> Duration {
        let first = wished.unwrap_or(self.first);
        let doublings = failures.saturating_sub(1).min(31);
        let full = first
            .saturating_mul(1 << doublings)
            .min(self.most.max(first));
        full / 2 + (full / 2).mul_f64(random_fraction())
    }
}

/// A number from 0 to 1; without randomness clients merely come back together.
fn random_fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_honour_the_servers_wish() {
        let reconnect = Reconnect {
            first: Duration::from_millis(100),
            most: Duration::from_millis(1000),
            attempts: None,
        };
        let check = |wished: Option<u64>, failures, full: u64| {
            let pause = reconnect.pause(wished.map(Duration::from_millis), failures);
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
