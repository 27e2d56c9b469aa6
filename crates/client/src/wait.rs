//! Options and result of a wait.

use std::time::Duration;

use tapline_oapi::{CategorySet, Cursor, Envelope, Epoch};

/// What to wait for. The default waits 30 s for any event of the current session.
#[derive(Debug, Clone)]
pub struct WaitOptions {
    /// Only events after this cursor. `None` begins at the start of the current session, or, without a
    /// session, at the next new event.
    pub after: Option<Cursor>,
    /// Only events of these categories. The empty set is no filter.
    pub categories: CategorySet,
    /// Only events of these types; `*` matches any text (`page_*`). An empty list is no filter. With
    /// `categories` as well, an event has to match both.
    pub types: Vec<String>,
    /// For how long to wait, in whole milliseconds. Servers refuse more than 300 s. 0 checks only the
    /// retained events.
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

/// The result of a wait.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The first event that matched; `None` if there was none within the time.
    pub envelope: Option<Envelope>,
    /// How many events that may have matched were evicted before the server could check them.
    pub lost: u64,
    /// The seq up to which events were checked: waiting after it misses nothing.
    pub head: u64,
    /// The epoch of the server.
    pub epoch: Epoch,
}

impl Waited {
    /// The cursor with which to wait for the next event. `None` if no event came: use the same cursor
    /// again.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.envelope.as_ref().map(|envelope| Cursor {
            seq: envelope.seq,
            epoch: Some(self.epoch),
        })
    }
}
