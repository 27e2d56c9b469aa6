//! What is to happen at a given time: at most one deadline for each thing that a target waits for.

use std::collections::{BTreeSet, HashMap};

use crate::targets::Key;

/// What a target waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wait {
    /// The network to have been quiet for long enough.
    Idle,
    /// The layout to have been still for long enough.
    Layout,
    /// The next picture to be allowed.
    Screenshot,
}

/// All deadlines, soonest first. No more of them than three for each target.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(u64, Key, Wait)>,
    at: HashMap<(Key, Wait), u64>,
}

impl Timers {
    /// Waits until `at`, and no longer for what was set before.
    pub(crate) fn set(&mut self, key: Key, wait: Wait, at: u64) {
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
        for wait in [Wait::Idle, Wait::Layout, Wait::Screenshot] {
            self.cancel(key, wait);
        }
    }

    pub(crate) fn is_set(&self, key: Key, wait: Wait) -> bool {
        self.at.contains_key(&(key, wait))
    }

    /// The soonest deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Takes the soonest deadline out.
    pub(crate) fn pop(&mut self) -> Option<(Key, Wait)> {
        let (_, key, wait) = self.due.pop_first()?;
        self.at.remove(&(key, wait));
        Some((key, wait))
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}
