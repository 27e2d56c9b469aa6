//! The events of a server or of a file, in their order and with what is missing: what `insight` takes.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal};
use std::mem;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tapline_api::PageQuery;
use tapline_archive::Archive;
use tapline_cdp::{Options as CdpOptions, Recording};
use tapline_client::{Cursor, PageGap, PageOptions};
use tapline_insight::{FileContent, FileError, HarFile, Input, Lost, Unread};
use tapline_oapi::{Category, CategorySet, Epoch, Event};

use crate::args::Remote;
use crate::failure::Failure;
use crate::redaction::Redaction;
use crate::selection::{self, Piece, Selection};
use crate::token;

/// Which events, and from where.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// Of a server: only what comes after this.
    pub(crate) after: Option<Cursor>,
    pub(crate) since: Option<&'a str>,
    pub(crate) until: Option<&'a str>,
    /// Of these categories; empty: of all.
    pub(crate) category: &'a [Category],
    /// Of types that match one of these patterns; empty: of all.
    pub(crate) types: &'a [String],
    /// Removes the secrets of each event. `None`: events are as they were published.
    pub(crate) redaction: Option<&'a Redaction>,
}

/// Hands everything that is wanted to `feed`: from the file, or else from the server. `doing` is shown while it
/// lasts, where standard error is a terminal.
pub(crate) async fn read(
    remote: &Remote,
    file: Option<&Path>,
    wanted: Wanted<'_>,
    doing: &str,
    feed: &mut dyn FnMut(Input<'_>) -> Result<(), Failure>,
) -> Result<Unread, Failure> {
    let query = wanted.query()?;
    let feed: &mut dyn FnMut(Input<'_>) -> Result<(), Failure> = match wanted.redaction {
        Some(redaction) => &mut |input: Input<'_>| match input {
            Input::Event(envelope) => feed(Input::Event(&redaction.envelope(envelope))),
            other => feed(other),
        },
        None => feed,
    };
    match file {
        Some(file) => match from_file(file, &query, doing, feed)? {
            Content::Events(unread) => Ok(unread),
            Content::Har(_) => Err(Failure::Har(file.to_owned())),
        },
        None => from_server(remote, wanted, &query, doing, feed).await,
    }
}

/// What a file held.
pub(crate) enum Content {
    /// Events, which `feed` has.
    Events(Unread),
    /// Requests and pages, of the time that is wanted.
    Har(HarFile),
}

/// Hands every event that is wanted of a file to `feed`, or returns the HAR that it is.
pub(crate) fn read_file(
    file: &Path,
    wanted: Wanted<'_>,
    doing: &str,
    feed: &mut dyn FnMut(Input<'_>) -> Result<(), Failure>,
) -> Result<Content, Failure> {
    let query = wanted.query()?;
    let mut content = from_file(file, &query, doing, feed)?;
    if let Content::Har(har) = &mut content {
        har.retain(query.since, query.until);
    }
    Ok(content)
}

/// Fails as [`read`] does where the file cannot be opened, or does not begin with an event.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        Archive::open(path)?;
        return Ok(());
    }
    let failed = |error| of_file(path, error);
    let file = File::open(path).map_err(|source| failed(FileError::Unreadable(source)))?;
    match FileContent::open(file, u64::MAX).map_err(failed)? {
        FileContent::Events(mut events) => events.next_line().map(drop).map_err(failed),
        FileContent::Har(_) => Err(Failure::Har(path.to_owned())),
    }
}

impl Wanted<'_> {
    /// Understood as the server understands it, once, so that `5m` means the same for each page.
    fn query(&self) -> Result<PageQuery, Failure> {
        let mut pairs = Vec::new();
        pairs.extend(self.since.map(|since| ("since", since)));
        pairs.extend(self.until.map(|until| ("until", until)));
        let categories = self.category.iter();
        pairs.extend(categories.map(|category| ("category", category.as_str())));
        pairs.extend(self.types.iter().map(|pattern| ("type", pattern.as_str())));
        PageQuery::from_pairs(pairs)
            .map_err(|error| Failure::Usage(format!("--{}: {}", error.name, error.message)))
    }
}

fn is_wanted(query: &PageQuery, event: &Event) -> bool {
    query.since.is_none_or(|since| since <= event.ts)
        && query.until.is_none_or(|until| event.ts <= until)
        && query.filter.matches(event)
}

/// Pieces are handed over when there are so many of them, or so many bytes of their data. So many times as much waits at
/// most.
const PIECES: usize = 256;
const BYTES: usize = 1024 * 1024;
const WAITING: usize = 4;

/// Takes pieces from the thread that reads.
type HandOver<'a> = &'a mut dyn FnMut(Piece) -> Result<(), Failure>;

/// Lets `read` read in a thread of its own, and feeds meanwhile what it has handed over, in the same order.
fn reading_ahead<T: Send>(
    read: impl FnOnce(HandOver<'_>) -> Result<T, Failure> + Send,
    feed: &mut dyn FnMut(Input<'_>) -> Result<(), Failure>,
) -> Result<T, Failure> {
    thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(WAITING);
        let reading = scope.spawn(move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            let read = read(&mut |piece| {
                bytes += piece.bytes();
                batch.push(piece);
                if batch.len() < PIECES && bytes < BYTES {
                    return Ok(());
                }
                bytes = 0;
                if sender.send(mem::take(&mut batch)).is_err() {
                    // Feeding has failed, and with that it ends; this only ends the reading.
                    let what = "the rest".to_owned();
                    let source = io::ErrorKind::BrokenPipe.into();
                    return Err(Failure::Read { what, source });
                }
                Ok(())
            });
            let _ = sender.send(batch);
            read
        });
        for piece in batches.into_iter().flatten() {
            feed(piece.input())?;
        }
        reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A file: NDJSON or a HAR, plain or compressed with zstd; or the directory of an archive.
fn from_file(
    path: &Path,
    query: &PageQuery,
    doing: &str,
    feed: &mut dyn FnMut(Input<'_>) -> Result<(), Failure>,
) -> Result<Content, Failure> {
    let read = match path.is_dir() {
        true => read_archive,
        false => read_events,
    };
    reading_ahead(|hand_over| read(path, query, doing, hand_over), feed)
}

fn read_events(
    path: &Path,
    query: &PageQuery,
    doing: &str,
    hand_over: HandOver<'_>,
) -> Result<Content, Failure> {
    let unreadable = |source| of_file(path, FileError::Unreadable(source));
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map(|it| it.len()).unwrap_or(0);
    let bar = bar(
        doing,
        "{bar:30} {bytes} of {total_bytes}, {eta} left",
        length,
    );
    let failed = |error| of_file(path, error);
    let content = FileContent::open(bar.wrap_read(file), u64::MAX).map_err(failed)?;
    let mut events = match content {
        FileContent::Events(events) => events,
        FileContent::Har(har) => {
            bar.finish_and_clear();
            return Ok(Content::Har(har));
        }
    };
    while let Some(line) = events.next_line().map_err(failed)? {
        for before in line.before() {
            hand_over(Piece::Other(before))?;
        }
        if let Some(envelope) = line.into_event().filter(|it| is_wanted(query, &it.event)) {
            hand_over(Piece::Event(envelope))?;
        }
    }
    bar.finish_and_clear();
    Ok(Content::Events(events.into_unread()))
}

/// All runs of the server that an archive has.
fn read_archive(
    dir: &Path,
    query: &PageQuery,
    doing: &str,
    hand_over: HandOver<'_>,
) -> Result<Content, Failure> {
    let archive = Archive::open(dir)?;
    let bar = bar(doing, "{bar:30} {pos} of {len} events, {eta} left", 0);
    let selection = Selection::of_page(query);
    let categories = selection.categories();
    selection::each(&archive, &selection, &bar, &mut |part| {
        hand_over(part.into_piece(categories)?)?;
        Ok(true)
    })?;
    bar.finish_and_clear();
    Ok(Content::Events(Unread::default()))
}

fn of_file(path: &Path, error: FileError) -> Failure {
    let what = path.display().to_string();
    match error {
        FileError::Unreadable(source) => Failure::Read { what, source },
        FileError::NoEvent { .. } if has_messages(path) => Failure::Messages(path.to_owned()),
        FileError::NoEvent { line } => Failure::Line {
            path: path.to_owned(),
            line,
            expected: "an event or an envelope as JSON, such as `tapline tail --json` prints",
        },
        error => Failure::Read {
            what,
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        },
    }
}

/// Whether a file is what `tapline record` writes. What is not a file, such as a pipe, cannot be read twice.
fn has_messages(path: &Path) -> bool {
    let opened = path.is_file().then(|| File::open(path));
    let Some(Ok(file)) = opened else {
        return false;
    };
    let mut events = Recording::new(BufReader::new(file), CdpOptions::default());
    !matches!(events.next(), Some(Err(_)))
}

/// What a server has, page by page, up to what it had when the first page was read.
async fn from_server(
    remote: &Remote,
    wanted: Wanted<'_>,
    query: &PageQuery,
    doing: &str,
    feed: &mut dyn FnMut(Input<'_>) -> Result<(), Failure>,
) -> Result<Unread, Failure> {
    let client = token::client(remote)?;
    let time = |micros: Option<u64>| {
        let time = jiff::Timestamp::from_microsecond(i64::try_from(micros?).ok()?).ok()?;
        Some(time.to_string())
    };
    let mut options = PageOptions {
        since: time(query.since),
        until: time(query.until),
        categories: wanted.category.iter().copied().collect(),
        types: wanted.types.to_vec(),
        after: wanted.after,
        ..PageOptions::default()
    };
    let lost_of = match options.categories.is_empty() {
        true => CategorySet::ALL,
        false => options.categories,
    };
    let bar = bar(doing, "{bar:30} seq {pos} of {len}, {eta} left", 0);
    let mut end = None;
    let mut before: Option<(Epoch, u64)> = None;
    loop {
        let page = client.page(&options).await?;
        let end = *end.get_or_insert(page.head);
        bar.set_length(end);
        let position = before
            .filter(|(epoch, _)| *epoch == page.epoch)
            .map_or(0, |(_, seq)| seq);
        let listed: u64 = page.gaps.iter().map(|gap| gap.at_most).sum();
        let mut gaps = page.gaps.iter().peekable();
        // A server lists so many gaps only.
        let mut missing = page.lost.checked_sub(listed).filter(|count| 0 < *count);
        let mut position = position;
        feed(Input::Epoch(page.epoch))?;
        for envelope in &page.envelopes {
            while let Some(gap) = gaps.next_if(|gap| *gap.seqs.start() < envelope.seq) {
                feed(lost_in(gap, lost_of))?;
                position = position.max(*gap.seqs.end());
            }
            // The rest is in the first hole after them; behind a filter there are others.
            if gaps.peek().is_none()
                && position + 1 < envelope.seq
                && let Some(count) = missing.take()
            {
                feed(lost(position + 1, envelope.seq - 1, count, lost_of))?;
            }
            feed(Input::Event(envelope))?;
            position = envelope.seq;
        }
        for gap in gaps {
            feed(lost_in(gap, lost_of))?;
            position = position.max(*gap.seqs.end());
        }
        if let Some(count) = missing {
            let to = page
                .next
                .map_or(position + 1, |next| next.seq.max(position + 1));
            // The next page begins behind it.
            feed(lost(position + 1, to, count, lost_of))?;
        }
        before = Some((page.epoch, position));
        bar.set_position(position.min(end));
        let Some(next) = page.next else {
            break;
        };
        // Of the present run there may always be more.
        if next.epoch.is_none() && end <= next.seq {
            break;
        }
        options.offset = Some(next);
    }
    bar.finish_and_clear();
    Ok(Unread::default())
}

fn lost_in(gap: &PageGap, categories: CategorySet) -> Input<'static> {
    lost(*gap.seqs.start(), *gap.seqs.end(), gap.at_most, categories)
}

fn lost(from: u64, to: u64, count: u64, categories: CategorySet) -> Input<'static> {
    Input::Lost(Lost {
        from,
        to,
        count: Some(count),
        categories,
    })
}

/// Shown where standard error is a terminal.
fn bar(doing: &str, template: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template(&format!("{doing} {template}"));
    bar.set_style(style.expect("the template is well-formed"));
    if io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(250));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(seq: u64) -> Piece {
        Piece::Other(Input::Lost(Lost::unknown(seq, seq)))
    }

    #[test]
    fn what_is_read_ahead_is_fed_in_its_order_up_to_the_error() {
        let mut fed = Vec::new();
        let read = |hand_over: HandOver<'_>| {
            (1..=1000).try_for_each(|seq| hand_over(missing(seq)))?;
            Err::<(), _>(Failure::Refused(7))
        };
        let result = reading_ahead(read, &mut |input| {
            if let Input::Lost(lost) = input {
                fed.push(lost.from);
            }
            Ok(())
        });
        assert!(matches!(result, Err(Failure::Refused(7))));
        assert!(fed.into_iter().eq(1..=1000));
    }

    #[test]
    fn reading_ends_where_feeding_fails() {
        let read = |hand_over: HandOver<'_>| -> Result<(), Failure> {
            loop {
                hand_over(missing(1))?;
            }
        };
        let mut left = 300;
        let result = reading_ahead(read, &mut |_| {
            left -= 1;
            match left {
                0 => Err(Failure::Refused(1)),
                _ => Ok(()),
            }
        });
        assert!(matches!(result, Err(Failure::Refused(1))));
    }
}
