//! Lines of NDJSON as a stream: [`LineReader`].

use serde_json::value::RawValue;
use tapline_oapi::{Envelope, Event};

use crate::input::{Input, Lost};

/// Reads the lines of a file of events, in their order. A line is an envelope, as the archive and `tapline tail --json`
/// write it, or an event without a seq, as `tapline publish --file` takes it; such events are numbered. Or it is a gap, such as
/// `{"gap":{"first":2,"last":9}}`, where events were lost.
///
/// Seqs that are skipped without such a line are [`Lost`] without a count: they may have been lost, or left out by a filter. A seq that is not after the one before is a repeat, or, if it happened later than all before it, of
/// another run of the server.
///
/// ```
/// use tapline_insight::{Input, LineReader};
///
/// let mut reader = LineReader::default();
/// reader.read(r#"{"seq":1,"event":{"ts":5,"type":"page_load","category":"page"}}"#)?;
/// let line = reader.read(r#"{"seq":4,"event":{"ts":6,"type":"page_load","category":"page"}}"#)?;
/// let inputs: Vec<_> = line.inputs().collect();
/// assert!(matches!(inputs[..], [Input::Lost(lost), Input::Event(_)] if (lost.from, lost.to) == (2, 3)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct LineReader {
    seq: u64,
    ts: u64,
    repeated: u64,
}

/// What a line says.
#[derive(Debug)]
pub struct Line {
    before: [Option<Input<'static>>; 2],
    envelope: Option<Envelope>,
}

impl Line {
    /// The event and, before it, what is missing. Nothing for a repeated event.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'_>> {
        let before: [Option<Input<'_>>; 2] = self.before;
        before
            .into_iter()
            .flatten()
            .chain(self.event().map(Input::Event))
    }

    /// The event, if it is not a repeat.
    #[must_use]
    pub const fn event(&self) -> Option<&Envelope> {
        self.envelope.as_ref()
    }

    /// The same, taken.
    #[must_use]
    pub fn into_event(self) -> Option<Envelope> {
        self.envelope
    }

    /// What is known about the stream before the event.
    pub fn before(&self) -> impl Iterator<Item = Input<'static>> + use<> {
        self.before.into_iter().flatten()
    }
}

/// The seqs of events that were lost.
#[derive(serde::Deserialize)]
struct Gap {
    first: u64,
    last: u64,
}

/// What is in a line.
enum Content {
    Envelope(Envelope),
    Event(Event),
    Gap(Gap),
}

impl Content {
    fn of(line: &str) -> Result<Self, serde_json::Error> {
        /// The values are not read here, so that an error is about what the line is.
        #[derive(serde::Deserialize)]
        struct Shape<'a> {
            #[serde(borrow, default)]
            event: Option<&'a RawValue>,
            #[serde(borrow, default)]
            gap: Option<&'a RawValue>,
        }
        // As Tapline writes envelopes: those are read without a look at their shape, which takes a third of the time.
        if line.starts_with(r#"{"seq":"#)
            && let Ok(envelope) = serde_json::from_str(line)
        {
            return Ok(Self::Envelope(envelope));
        }
        let shape: Shape<'_> = serde_json::from_str(line)?;
        match (shape.event, shape.gap) {
            (Some(_), _) => serde_json::from_str(line).map(Self::Envelope),
            (None, None) => serde_json::from_str(line).map(Self::Event),
            (None, Some(gap)) => {
                let gap: Gap = serde_json::from_str(gap.get())?;
                match 0 < gap.first && gap.first <= gap.last {
                    true => Ok(Self::Gap(gap)),
                    false => Err(serde::de::Error::custom("a gap ends before it begins")),
                }
            }
        }
    }
}

impl Line {
    const REPEAT: Self = Self {
        before: [None, None],
        envelope: None,
    };
}

impl LineReader {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// If it is no event. The reader can be used further.
    pub fn read(&mut self, line: &str) -> Result<Line, serde_json::Error> {
        let envelope = match Content::of(line)? {
            Content::Envelope(envelope) => envelope,
            Content::Gap(gap) => return Ok(self.gap(&gap)),
            Content::Event(event) => Envelope {
                event,
                seq: self.seq + 1,
            },
        };
        let (seq, ts) = (envelope.seq, envelope.event.ts);
        let before = if self.seq < seq {
            // Whatever is before the first line was not asked for.
            let is_gap = self.seq != 0 && self.seq + 1 < seq;
            is_gap.then(|| Input::Lost(Lost::unknown(self.seq + 1, seq - 1)))
        } else if self.ts < ts {
            Some(Input::Restarted)
        } else {
            self.repeated += 1;
            return Ok(Line::REPEAT);
        };
        // An event may be reported after later ones.
        (self.seq, self.ts) = (seq, self.ts.max(ts));
        Ok(Line {
            before: [before, None],
            envelope: Some(envelope),
        })
    }

    /// A line in the place of events that were lost.
    fn gap(&mut self, gap: &Gap) -> Line {
        let has_restarted = gap.first == 1 && gap.first <= self.seq;
        if has_restarted {
            (self.seq, self.ts) = (0, 0);
        }
        if gap.last <= self.seq {
            self.repeated += 1;
            return Line::REPEAT;
        }
        let skipped = self.seq + 1;
        // What is skipped before it may have been left out by a filter.
        let is_all = self.seq == 0 || gap.first <= skipped;
        let from = match self.seq {
            0 => gap.first,
            _ => skipped,
        };
        self.seq = gap.last;
        let lost = Lost {
            count: is_all.then(|| (gap.last - from).saturating_add(1)),
            ..Lost::unknown(from, gap.last)
        };
        Line {
            before: [
                has_restarted.then_some(Input::Restarted),
                Some(Input::Lost(lost)),
            ],
            envelope: None,
        }
    }

    /// How many lines were repeats.
    #[must_use]
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(lines: &[&str]) -> Vec<String> {
        let mut reader = LineReader::default();
        let mut kinds = Vec::new();
        for line in lines {
            for input in reader.read(line).unwrap().inputs() {
                kinds.push(match input {
                    Input::Event(envelope) => format!("event {}", envelope.seq),
                    Input::Lost(lost) => format!("lost {} to {}", lost.from, lost.to),
                    other => format!("{other:?}"),
                });
            }
        }
        kinds
    }

    fn line(seq: u64, ts: u64) -> String {
        format!(r#"{{"seq":{seq},"event":{{"ts":{ts},"type":"page_load","category":"page"}}}}"#)
    }

    #[test]
    fn gaps_repeats_and_restarts() {
        let lines = [
            line(5, 50),
            line(8, 80),
            // It happened before, and was reported late.
            line(9, 30),
            line(6, 60),
            line(8, 80),
            line(1, 90),
            line(2, 95),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            kinds(&lines),
            [
                "event 5",
                "lost 6 to 7",
                "event 8",
                "event 9",
                "Restarted",
                "event 1",
                "event 2"
            ]
        );
    }

    #[test]
    fn a_gap_line_is_a_loss_in_its_place() {
        let gap = |first, last| format!(r#"{{"gap":{{"first":{first},"last":{last}}}}}"#);
        let lines = [
            gap(3, 4),
            line(5, 50),
            gap(6, 8),
            gap(12, 20),
            gap(12, 20),
            line(21, 60),
            gap(1, 2),
            line(3, 70),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            kinds(&lines),
            [
                "lost 3 to 4",
                "event 5",
                "lost 6 to 8",
                "lost 9 to 20",
                "event 21",
                "Restarted",
                "lost 1 to 2",
                "event 3",
            ]
        );
        let mut reader = LineReader::default();
        let counts = lines[..4].iter().flat_map(|line| {
            let inputs: Vec<_> = reader.read(line).unwrap().before().collect();
            inputs
        });
        let counts: Vec<_> = counts
            .filter_map(|input| match input {
                Input::Lost(lost) => Some(lost.count),
                _ => None,
            })
            .collect();
        assert_eq!(counts, [Some(2), Some(3), None]);
    }

    #[test]
    fn events_without_a_seq_are_numbered() {
        let event = r#"{"ts":1,"type":"page_load","category":"page"}"#;
        assert_eq!(kinds(&[event, event]), ["event 1", "event 2"]);
    }

    #[test]
    fn what_is_no_event_is_an_error_and_the_next_line_is_read() {
        let mut reader = LineReader::default();
        for wrong in [
            "",
            "x",
            "7",
            "[]",
            "{}",
            r#"{"seq":1,"event":{}}"#,
            r#"{"event":null}"#,
            r#"{"gap":null}"#,
            r#"{"gap":{"first":1}}"#,
            r#"{"gap":{"first":0,"last":3}}"#,
            r#"{"gap":{"first":5,"last":4}}"#,
        ] {
            assert!(reader.read(wrong).is_err(), "{wrong}");
        }
        assert!(reader.read(&line(1, 1)).unwrap().event().is_some());
    }
}
