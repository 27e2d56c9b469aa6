//! Which of the browser's stored entries are repeats.
//!
//! The browser stores the last thousand console messages and log entries of a page, with their
//! timestamps. It sends them again, in their order, to each client that enables a domain, and to every
//! client when it restores a page from the back/forward cache or attaches to a frame again. Among them
//! may be entries that were never sent: a page that is being stored logs in `pagehide`, and that line
//! comes only when the page is restored.
//!
//! So entries are not compared with the time at which something happened, but with what was emitted:
//! each writer (a script context, or a page for the log) remembers its newest entry. When the browser
//! reports that writer again, its entries up to that one are repeats, and the first newer one ends the
//! repetition. Contexts and documents have ids that are unique in a browser, so this also holds for
//! another session, and after a lost connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::time::Time;

/// How many writers that are not there any more are remembered. A tab keeps up to some six pages in its
/// back/forward cache, and a page has a few contexts for each of its frames.
const MAX_PAST: usize = 4096;

/// The least step of the wall clock that counts as one, in milliseconds. The two clocks of a [`Time`] are
/// read one after the other, so they differ a little also where the clock was not set.
const LEAST_STEP: f64 = 1.0;

/// A moment on the clock that the browser writes into entries, in milliseconds since the Unix epoch, and
/// on ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    timestamp: f64,
    seen: Time,
}

impl Moment {
    pub(crate) fn now(now: Time) -> Self {
        Self {
            timestamp: milliseconds(now.wall),
            seen: now,
        }
    }

    /// The timestamp that an entry of this moment has. If the wall clock was set back meanwhile, new
    /// entries have timestamps from before this moment, so it is as much earlier.
    pub(crate) fn timestamp(&self, now: Time) -> f64 {
        let shown = milliseconds(now.wall_at(self.seen.monotonic));
        let change = shown - milliseconds(self.seen.wall);
        if change < -LEAST_STEP {
            self.timestamp + change
        } else {
            self.timestamp
        }
    }
}

/// What a writer has written so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    newest: Option<Moment>,
    /// Whether the browser may be repeating entries.
    pub(crate) repeats: bool,
}

impl Written {
    /// An entry with this timestamp, in milliseconds since the Unix epoch. Returns whether it is new.
    pub(crate) fn is_new(&mut self, timestamp: f64, now: Time) -> bool {
        let is_repeat = |newest: Moment| timestamp <= newest.timestamp(now);
        if self.repeats && self.newest.is_some_and(is_repeat) {
            return false;
        }
        self.repeats = false;
        self.newest = Some(Moment {
            timestamp,
            seen: now,
        });
        true
    }
}

/// The document of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Empty if it is not known.
    pub(crate) loader: Box<str>,
    /// Without secrets.
    pub(crate) url: String,
}

/// A writer that is not there any more, and may come back.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) written: Written,
    /// The document of a script context.
    pub(crate) document: Option<Arc<Document>>,
}

/// Writers that are not there any more, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Past {
    writers: HashMap<Box<str>, (u64, Writer)>,
    /// The ids in the order in which they were remembered.
    order: BTreeMap<u64, Box<str>>,
    last: u64,
}

impl Past {
    /// Remembers a writer, if there is something to remember. The oldest one beyond the limit is
    /// forgotten.
    pub(crate) fn remember(&mut self, id: &str, writer: Writer) {
        if id.is_empty() || writer.written.newest.is_none() && writer.document.is_none() {
            return;
        }
        self.last += 1;
        self.order.insert(self.last, id.into());
        if let Some((before, _)) = self.writers.insert(id.into(), (self.last, writer)) {
            self.order.remove(&before);
        }
        if MAX_PAST < self.order.len()
            && let Some((_, id)) = self.order.pop_first()
        {
            self.writers.remove(&id);
        }
    }

    /// An entry of this kind in a frame's performance timeline, with its timestamp in milliseconds since the
    /// Unix epoch. Returns whether it is new: the browser repeats a timeline to each session that enables it.
    pub(crate) fn is_new_entry(
        &mut self,
        kind: &str,
        frame: &str,
        timestamp: f64,
        now: Time,
    ) -> bool {
        let id = format!("{kind} {frame}");
        let mut writer = self.take(&id).unwrap_or_default();
        let is_new = writer.written.is_new(timestamp, now);
        self.remember(&id, writer);
        is_new
    }

    /// The writer with this id, which is there again: what it wrote before may be repeated.
    pub(crate) fn take(&mut self, id: &str) -> Option<Writer> {
        let (at, mut writer) = self.writers.remove(id)?;
        self.order.remove(&at);
        writer.written.repeats = true;
        Some(writer)
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "exact for some 280 years from 1970"
)]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// In microseconds, from milliseconds since the Unix epoch; 0 if it is no such time.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of range becomes the nearest that is in it"
)]
pub(crate) fn wall_of(milliseconds: f64) -> u64 {
    (milliseconds * 1000.0) as u64
}
