//! What a stream hands out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use tapline_oapi::{Beat, Bye, Category, Cursor, Envelope, FilterNotice, Hello, SessionNotice};

use crate::error::Error;

/// One thing that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamItem {
    /// An event, in the order of its seq, never one that came before.
    Event(StreamedEvent),
    /// Events that were asked for are gone.
    Lost(Loss),
    /// A connection came about, and begins there. The losses that it tells come as [`StreamItem::Lost`].
    Hello(Hello),
    /// A session started, was reconfigured or ended.
    Session(Box<SessionNotice>),
    /// The server is alive, and tells how far behind this reader is.
    Beat(Beat),
    /// Somebody changed what this connection brings (`PATCH /telemetry/readers/{id}`), from there on. A
    /// connection that follows it asks for what the options say.
    Filter(FilterNotice),
    /// The server ends this connection. The stream comes back, unless the reason says that there is
    /// nothing to come back for: then it is over.
    Bye(Bye),
    /// The connection is lost, and a new one comes after a pause.
    Reconnecting(Reconnecting),
}

/// An event as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamedEvent {
    pub(crate) at: Cursor,
    pub(crate) json: String,
}

impl StreamedEvent {
    /// Its seq.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.at.seq
    }

    /// Where to resume so that this event is the last one behind.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.at
    }

    /// The envelope's JSON, byte for byte as the server sent it. It is not checked to be JSON.
    ///
    /// It may hold line breaks, where a producer wrote some between the tokens of its `data`.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The envelope's JSON, without a copy.
    #[must_use]
    pub fn into_json(self) -> String {
        self.json
    }

    /// The envelope, read anew with each call.
    ///
    /// # Errors
    ///
    /// Where the JSON is no envelope.
    pub fn envelope(&self) -> Result<Envelope, serde_json::Error> {
        serde_json::from_str(&self.json)
    }
}

/// Events that were published, asked for, and are gone. What was filtered is never among them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// How many events; `None` where nobody can know: in a filter by type, and after a restart.
    pub lost: Option<u64>,
    /// The seqs among which they were; others in that range may have been filtered. `None` where
    /// the seqs were another incarnation's.
    pub seqs: Option<RangeInclusive<u64>>,
    /// How many of each category, where the server tells.
    pub by_category: BTreeMap<Category, u64>,
    /// How they were lost.
    pub cause: LossCause,
}

/// How events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossCause {
    /// They came faster than they were read, on a connection that was there.
    Overtaken,
    /// They were evicted before the stream came (back) for them.
    Evicted,
    /// The server is another incarnation of itself: what the one before held unread is gone.
    OtherEpoch,
    /// The server has not come as far as the cursor: most likely another incarnation, too.
    Ahead,
    /// The server could not understand the cursor, and began at the oldest event it retained.
    Invalid,
    /// The server left them out without a word, which it should not do.
    Skipped,
}

/// For people: `lost 12 events (5..=16): console 3, network 9`.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lost {
            Some(1) => f.write_str("lost 1 event")?,
            Some(lost) => write!(f, "lost {lost} events")?,
            None => f.write_str("lost an unknown number of events")?,
        }
        if let Some(seqs) = &self.seqs {
            write!(f, " ({}..={})", seqs.start(), seqs.end())?;
        }
        for (n, (category, lost)) in self.by_category.iter().enumerate() {
            let separator = if n == 0 { ':' } else { ',' };
            write!(f, "{separator} {category} {lost}")?;
        }
        f.write_str(match self.cause {
            LossCause::Overtaken | LossCause::Evicted => "",
            LossCause::OtherEpoch => ": the server was restarted",
            LossCause::Ahead => {
                ": the cursor is ahead of the server, which was restarted most likely"
            }
            LossCause::Invalid => ": the server could not understand the cursor",
            LossCause::Skipped => ": the server left them out without saying why",
        })
    }
}

/// A connection is lost, and a new one comes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reconnecting {
    /// Why the last one ended, or did not come about.
    pub cause: Error,
    /// Which attempt in a row comes next, from 1; it begins anew once something was received.
    pub attempt: u32,
    /// After how long.
    pub after: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_in_one_line() {
        let loss = Loss {
            lost: Some(12),
            seqs: Some(5..=16),
            by_category: BTreeMap::from([(Category::Network, 9), (Category::Console, 3)]),
            cause: LossCause::Overtaken,
        };
        assert_eq!(
            loss.to_string(),
            "lost 12 events (5..=16): console 3, network 9"
        );

        let restart = Loss {
            lost: None,
            seqs: None,
            by_category: BTreeMap::new(),
            cause: LossCause::OtherEpoch,
        };
        assert_eq!(
            restart.to_string(),
            "lost an unknown number of events: the server was restarted"
        );
    }
}
