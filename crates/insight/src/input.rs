//! What is fed: events in the order of their seqs, and what is known about those that are missing.

use tapline_oapi::{CategorySet, Envelope, Epoch, HelloReason, Notice};

/// One piece of a stream, in the order of the stream.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An event.
    Event(&'a Envelope),
    /// Events that were published and cannot be read any more.
    Lost(Lost),
    /// The epoch of what follows. Another epoch than before means that the server was restarted.
    Epoch(Epoch),
    /// What follows is of another run of the server, whose epoch is not known.
    Restarted,
    /// The categories that the session captures from here on; none without a session.
    Captured(CategorySet),
}

/// Events that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first seq that is missing.
    pub from: u64,
    /// The last seq that is missing.
    pub to: u64,
    /// How many of them would have been read. `None` if that is not known, such as for seqs that a file lacks:
    /// they may have been lost, or left out by a filter.
    pub count: Option<u64>,
    /// The categories that the missing events can have. [`CategorySet::ALL`] if nothing is known.
    pub categories: CategorySet,
}

impl Lost {
    /// These seqs are missing, and nothing more is known.
    #[must_use]
    pub const fn unknown(from: u64, to: u64) -> Self {
        Self {
            from,
            to,
            count: None,
            categories: CategorySet::ALL,
        }
    }

    /// How many events are missing at most.
    #[must_use]
    pub fn at_most(&self) -> u64 {
        self.count
            .unwrap_or_else(|| self.to.saturating_sub(self.from).saturating_add(1))
    }
}

/// What a notice of the live stream says about the events. A `hello` can mean two inputs: another epoch, and
/// events that were lost before it. `asked` is the seq after which the reader asked to continue.
///
/// ```
/// use tapline_insight::inputs_of_notice;
/// use tapline_oapi::Notice;
///
/// let gap = Notice::parse("gap", r#"{"count":3,"matching":2,"from":5,"to":7,"by_category":{"network":2}}"#)?;
/// let inputs: Vec<_> = inputs_of_notice(&gap.unwrap(), None).into_iter().flatten().collect();
/// assert_eq!(inputs.len(), 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn inputs_of_notice(notice: &Notice, asked: Option<u64>) -> [Option<Input<'static>>; 2] {
    match notice {
        Notice::Hello(hello) => {
            let from = match hello.reason {
                // Seqs of another run say nothing about this one.
                HelloReason::OtherEpoch => 1,
                _ => asked.unwrap_or(hello.used).saturating_add(1),
            };
            let lost = (from <= hello.used && hello.lost != Some(0)).then(|| Lost {
                count: hello.lost,
                ..Lost::unknown(from, hello.used)
            });
            [Some(Input::Epoch(hello.epoch)), lost.map(Input::Lost)]
        }
        Notice::Gap(gap) => {
            let categories = match gap.by_category.is_empty() {
                true => CategorySet::ALL,
                false => gap.by_category.keys().copied().collect(),
            };
            let lost = Lost {
                from: gap.from,
                to: gap.to,
                count: gap.matching,
                categories,
            };
            [(gap.matching != Some(0)).then_some(Input::Lost(lost)), None]
        }
        Notice::Session(session) => {
            let captured = match session.state.session_id {
                Some(_) => session
                    .state
                    .config
                    .browser
                    .enabled()
                    .union(CategorySet::ALWAYS),
                None => CategorySet::EMPTY,
            };
            [Some(Input::Captured(captured)), None]
        }
        Notice::Epoch(notice) => [Some(Input::Epoch(notice.epoch)), None],
        Notice::Filter(_) | Notice::Beat(_) | Notice::Bye(_) => [None, None],
    }
}
