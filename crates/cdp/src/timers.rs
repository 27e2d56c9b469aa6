//! Deadlines of targets: at most one for each thing that a target waits for.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::key::Key;

/// What a target waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wait {
    /// The network has been idle for long enough.
    Idle,
    /// The layout has been stable for long enough.
    Layout,
    /// The next screenshot is allowed.
    Screenshot,
    /// The bodies of a page that is being loaded have waited long enough.
    Bodies,
    /// It may have been left paused, and is resumed.
    Resume,
}

/// All deadlines, soonest first, on the monotonic clock. At most five for each target.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Duration, Key, Wait)>,
    at: FxHashMap<(Key, Wait), Duration>,
}

impl Timers {
    /// Sets this deadline, or moves it.
    pub(crate) fn set(&mut self, key: Key, wait: Wait, at: Duration) {
        if let Some(before) = self.at.insert((key, wait), at) {
            self.due.remove(&(before, key, wait));
        }
        self.due.insert((at, key, wait));
    }

    pub(crate) fn cancel(&mut self, key: Key, wait: Wait) {
        if let Some(at) = self.at.remove(&(key, wait)) {
            self.due.remove(&(at, key, wait));
        }
    }

    pub(crate) fn cancel_all(&mut self, key: Key) {
        for wait in [
            Wait::Idle,
            Wait::Layout,
            Wait::Screenshot,
            Wait::Resume,
            Wait::Bodies,
        ] {
            self.cancel(key, wait);
        }
    }

    pub(crate) fn is_set(&self, key: Key, wait: Wait) -> bool {
        self.at.contains_key(&(key, wait))
    }

    /// The soonest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Removes the soonest deadline.
    pub(crate) fn pop(&mut self) -> Option<(Key, Wait)> {
        let (_, key, wait) = self.due.pop_first()?;
        self.at.remove(&(key, wait));
        Some((key, wait))
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}
