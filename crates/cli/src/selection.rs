//! What is selected of an archive, in its order: [`each`].

use std::io::{self, Write};
use std::ops::RangeInclusive;

use indicatif::ProgressBar;
use tapline_api::{
    Cursor, Epoch, Filter, HistoryQuery, Order, PageQuery, ReadLimit, SharedEnvelope, TypePattern,
    parse_moment,
};
use tapline_archive::Archive;
use tapline_insight::{Input, Lost};
use tapline_oapi::{CategorySet, Envelope};

use crate::args::archive::Select;
use crate::failure::Failure;

/// How much is read at once.
const BATCH: ReadLimit = ReadLimit {
    events: 8192,
    bytes: 4 * 1024 * 1024,
};

/// Which events of an archive.
#[derive(Default)]
pub(crate) struct Selection {
    pub(crate) filter: Filter,
    /// Microseconds since the Unix epoch.
    since: Option<u64>,
    until: Option<u64>,
    session: Option<String>,
    epoch: Option<Epoch>,
    after: Option<Cursor>,
    limit: Option<u64>,
}

impl Selection {
    /// What flags ask for.
    pub(crate) fn of(select: &Select) -> Result<Self, Failure> {
        let moment = |flag: &str, text: &Option<String>| {
            let moment = text.as_deref().map(|text| parse_moment(flag, text));
            let moment = moment.transpose();
            moment.map_err(|error| Failure::Usage(error.to_string()))
        };
        let categories = match select.category.is_empty() {
            true => None,
            false => Some(select.category.iter().copied().collect()),
        };
        let types = select.types.iter().map(|it| TypePattern::new(it)).collect();
        Ok(Self {
            filter: Filter::new(categories, types),
            since: moment("--since", &select.since)?,
            until: moment("--until", &select.until)?,
            session: select.session.clone(),
            epoch: select.epoch,
            after: select.after,
            limit: select.limit,
        })
    }

    /// What a page would have.
    pub(crate) fn of_page(query: &PageQuery) -> Self {
        Self {
            filter: query.filter.clone(),
            since: query.since,
            until: query.until,
            ..Self::default()
        }
    }

    /// The categories that something missing may be of.
    pub(crate) fn categories(&self) -> CategorySet {
        self.filter.categories.unwrap_or(CategorySet::ALL)
    }
}

/// What `insight` is fed, and what it lives in.
pub(crate) enum Piece {
    Event(Envelope),
    Other(Input<'static>),
}

impl Piece {
    pub(crate) const fn input(&self) -> Input<'_> {
        match self {
            Self::Event(envelope) => Input::Event(envelope),
            Self::Other(input) => *input,
        }
    }

    /// How many bytes its data has; the rest of it is small.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Event(envelope) => envelope.event.data.as_ref().map_or(0, |it| it.get().len()),
            Self::Other(_) => 0,
        }
    }
}

/// What a selection has, in order.
pub(crate) enum Part {
    /// What follows is of this epoch.
    Epoch(Epoch),
    Envelope(SharedEnvelope),
    Missing(RangeInclusive<u64>),
}

impl Part {
    /// As one line of JSON. Line breaks within `data` are white space.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Epoch(_) => Ok(()),
            Self::Envelope(envelope) => {
                let json = envelope.json().whole();
                match memchr::memchr(b'\n', json.as_bytes()) {
                    None => out.write_all(json.as_bytes())?,
                    Some(_) => out.write_all(json.replace('\n', " ").as_bytes())?,
                }
                out.write_all(b"\n")
            }
            Self::Missing(seqs) => {
                let (first, last) = (seqs.start(), seqs.end());
                writeln!(out, "{{\"gap\":{{\"first\":{first},\"last\":{last}}}}}")
            }
        }
    }

    /// As `insight` takes it. What is missing may be of these categories.
    pub(crate) fn into_piece(self, categories: CategorySet) -> Result<Piece, Failure> {
        match self {
            Self::Epoch(epoch) => Ok(Piece::Other(Input::Epoch(epoch))),
            Self::Missing(seqs) => Ok(Piece::Other(Input::Lost(Lost {
                categories,
                ..Lost::unknown(*seqs.start(), *seqs.end())
            }))),
            Self::Envelope(envelope) => {
                let parsed = serde_json::from_str(&envelope.json().whole());
                parsed.map(Piece::Event).map_err(|error| Failure::Read {
                    what: format!("event {} of the archive", envelope.seq()),
                    source: error.into(),
                })
            }
        }
    }
}

/// Gives every part of the selection to `take`, which says whether it counts for the limit.
pub(crate) fn each(
    archive: &Archive,
    selection: &Selection,
    bar: &ProgressBar,
    take: &mut dyn FnMut(Part) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let bounds = archive.bounds_now()?;
    let mut ranges: Vec<(Epoch, RangeInclusive<u64>)> =
        bounds.iter().map(|it| (it.epoch, 1..=it.head)).collect();
    if let Some(epoch) = selection.epoch {
        ranges.retain(|(it, _)| *it == epoch);
        if ranges.is_empty() {
            return Err(Failure::Usage(format!(
                "--epoch: there is no {epoch} in the archive; `archive ls` shows what there is"
            )));
        }
    }
    if let Some(after) = selection.after {
        let epoch = after.epoch.or(bounds.last().map(|it| it.epoch));
        let Some(at) = ranges.iter().position(|(it, _)| Some(*it) == epoch) else {
            return Err(Failure::Usage(format!(
                "--after: the epoch of {after} is not in the archive; `archive ls` shows what there is"
            )));
        };
        ranges.drain(..at);
        ranges[0].1 = after.seq.saturating_add(1)..=*ranges[0].1.end();
    }
    bar.set_length(
        ranges
            .iter()
            .map(|(_, seqs)| seqs.clone().count() as u64)
            .sum(),
    );
    let session = selection.session.as_deref().map(session_text);
    let session = session.as_deref().map(memchr::memmem::Finder::new);
    let mut left = selection.limit.unwrap_or(u64::MAX);
    for (epoch, seqs) in ranges {
        take(Part::Epoch(epoch))?;
        let mut query = HistoryQuery {
            epoch,
            seqs,
            order: Order::Asc,
            filter: selection.filter.clone(),
            since: selection.since,
            until: selection.until,
            limit: BATCH,
        };
        while !query.seqs.is_empty() {
            let batch = archive.read_now(&query)?;
            let Some(looked_at) = batch.looked_at else {
                break;
            };
            let mut missing = batch.missing.into_iter().peekable();
            for envelope in batch.envelopes {
                while let Some(gone) = missing.next_if(|it| *it.end() < envelope.seq()) {
                    take(Part::Missing(gone))?;
                }
                let has = |id: &memchr::memmem::Finder<'_>| {
                    id.find(envelope.json().whole().as_bytes()).is_some()
                };
                let is_asked = session.as_ref().is_none_or(has);
                if is_asked && take(Part::Envelope(envelope))? {
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
            for gone in missing {
                take(Part::Missing(gone))?;
            }
            bar.inc(looked_at.end() - looked_at.start() + 1);
            query.seqs = looked_at.end() + 1..=*query.seqs.end();
        }
    }
    Ok(())
}

/// How the stamp of a session stands in the JSON of its events, which the stream's encoder writes.
fn session_text(id: &str) -> String {
    format!("\"telemetry_session_id\":{}", serde_json::Value::from(id))
}
