//! What to wait for, and what came.

use std::time::Duration;

use tapline_oapi::{CategorySet, Cursor, Envelope, Epoch};

/// What to wait for. The default waits for any event of the current session, for 30 s.
#[derive(Debug, Clone)]
pub struct WaitOptions {
    /// Only events after this one; `None` begins at the start of the current session, or with what
    /// comes next where there is none.
    pub after: Option<Cursor>,
    /// Only events of these categories; the empty set is no filter.
    pub categories: CategorySet,
    /// Only events of these types, where `*` stands for any text (`page_*`); none is no filter. With
    /// `categories` given as well, an event has to match both.
    pub types: Vec<String>,
    /// For how long, to the millisecond. Servers wait for 300 s at most and refuse to wait longer; 0
    /// looks only at what is there.
    pub timeout: Duration,
}

impl Default for WaitOptions {
    fn default() -> Self {
        Self {
            after: None,
            categories: CategorySet::EMPTY,
            types: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// What waiting has brought.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The first event that matched; `None` where none came within the time.
    pub envelope: Option<Envelope>,
    /// How many events that may have matched were evicted before the server could look at them.
    pub lost: u64,
    /// The seq up to which events were looked at: waiting after it misses nothing.
    pub head: u64,
    /// This incarnation of the stream.
    pub epoch: Epoch,
}

impl Waited {
    /// After what to wait for the event that follows; `None` where no event came: then after the same
    /// as before.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.envelope.as_ref().map(|envelope| Cursor {
            seq: envelope.seq,
            epoch: Some(self.epoch),
        })
    }
}
