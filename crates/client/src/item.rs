//! The items of a stream.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use tapline_oapi::{
    Beat, Bye, Category, Cursor, Envelope, EpochNotice, FilterNotice, Hello, SessionNotice,
};

use crate::error::Error;

/// One item of a stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamItem {
    /// An event, in the order of seqs, and never twice.
    Event(StreamedEvent),
    /// Events that were asked for were lost.
    Lost(Loss),
    /// A connection was opened; says where it begins. Losses that it reports follow as [`StreamItem::Lost`].
    Hello(Hello),
    /// A session started, was reconfigured or ended.
    Session(Box<SessionNotice>),
    /// The server is alive; says how far behind this reader is.
    Beat(Beat),
    /// The filter of this connection was changed by `PATCH /telemetry/readers/{id}`. The next connection
    /// asks again for the filter of the options.
    Filter(FilterNotice),
    /// The events of an earlier run of the server, from its archive, end here. What follows is of the next run:
    /// its seqs begin again at 1.
    Epoch(EpochNotice),
    /// The server ends this connection. The stream reconnects, unless the reason is final
    /// (`expired`, `overtaken` or `complete`): then the stream ends.
    Bye(Bye),
    /// The connection was lost; the stream reconnects after a pause.
    Reconnecting(Reconnecting),
}

/// An event as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamedEvent {
    pub(crate) at: Cursor,
    pub(crate) json: String,
}

impl StreamedEvent {
    /// The seq of the event.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.at.seq
    }

    /// The position after this event: resuming there begins with the next one.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.at
    }

    /// The envelope's JSON, byte for byte as the server sent it. It is not validated.
    ///
    /// It may contain line breaks, if a producer wrote some between the tokens of its `data`.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The envelope's JSON, without a copy.
    #[must_use]
    pub fn into_json(self) -> String {
        self.json
    }

    /// Parses the envelope, with each call.
    ///
    /// # Errors
    ///
    /// If the JSON is not an envelope.
    pub fn envelope(&self) -> Result<Envelope, serde_json::Error> {
        serde_json::from_str(&self.json)
    }
}

/// Events that were published and asked for, and that are no longer available. Filtered events are not
/// counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// How many events. `None` if that cannot be known: with a filter by type, and after a restart of the
    /// server, unless it has an archive.
    pub lost: Option<u64>,
    /// The range of their seqs; other events in that range may have been filtered. `None` if the seqs are
    /// of another epoch.
    pub seqs: Option<RangeInclusive<u64>>,
    /// How many of each category, if the server reports it.
    pub by_category: BTreeMap<Category, u64>,
    /// How they were lost.
    pub cause: LossCause,
}

/// How events were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossCause {
    /// The reader lagged on an open connection: it was slower than the producers.
    Overtaken,
    /// They were evicted before the stream connected or reconnected.
    Evicted,
    /// The server has another epoch: it was restarted, and the unread events from before are gone.
    OtherEpoch,
    /// The cursor is ahead of the server's head. Most likely the server was restarted.
    Ahead,
    /// The server could not read the cursor and began at its oldest retained event.
    Invalid,
    /// The server skipped them without a report, which it should not do.
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
                ": the cursor is ahead of the server, which was most likely restarted"
            }
            LossCause::Invalid => ": the server could not read the cursor",
            LossCause::Skipped => ": the server skipped them without a report",
        })
    }
}

/// A connection was lost; the stream reconnects.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reconnecting {
    /// Why the last connection ended, or could not be opened.
    pub cause: Error,
    /// The number of the next attempt, from 1. It starts again at 1 once something was received.
    pub attempt: u32,
    /// The pause before the attempt.
    pub after: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_displayed_in_one_line() {
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
