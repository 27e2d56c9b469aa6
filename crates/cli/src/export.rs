//! `tapline export`: a file of events for other tools, from a server or from a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tapline_api::PageQuery;
use tapline_client::PageOptions;
use tapline_insight::{ExportWriter, Format, Input, LineReader, Lost, Sanitizer, Tally};
use tapline_oapi::{CategorySet, Event};

use crate::args::{Export, ExportFormat};
use crate::failure::{Failure, say};
use crate::token;

/// The longest line that is read. An envelope has at most 1,000,000 bytes.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

type Writer = ExportWriter<BufWriter<Box<dyn Write + Send>>>;

pub(crate) async fn run(args: Export) -> Result<(), Failure> {
    let wanted = wanted(&args)?;
    let sanitizer = match args.with_secrets {
        true => Sanitizer::off(),
        false => Sanitizer::default().with_names(&args.redact),
    };
    let output = Output::open(args.out.clone())?;
    let started = output.writer().and_then(|writer| {
        let writer = BufWriter::with_capacity(256 * 1024, writer);
        ExportWriter::new(format(&args), writer, sanitizer)
            .map_err(|error| output.unwritable(error))
    });
    let done = match started {
        Ok(writer) => match &args.file {
            Some(file) => from_file(file, &wanted, writer, &output),
            None => from_server(&args, &wanted, writer, &output).await,
        },
        Err(failure) => Err(failure),
    };
    match done {
        Ok((tally, unread)) => {
            output.keep()?;
            report(&output, &tally, &unread, &args);
            Ok(())
        }
        Err(failure) => {
            output.discard();
            Err(failure)
        }
    }
}

/// The format that was asked for; otherwise that of the file's name, or HAR.
fn format(args: &Export) -> Format {
    match args.format {
        Some(ExportFormat::Har) => Format::Har,
        Some(ExportFormat::Ndjson) => Format::Ndjson,
        Some(ExportFormat::Trace) => Format::Trace,
        None => {
            let name = args
                .out
                .as_deref()
                .unwrap_or(Path::new(""))
                .to_string_lossy()
                .into_owned();
            let mut all = Format::ALL.into_iter();
            let found = all.find(|format| name.ends_with(&format!(".{}", format.extension())));
            found.unwrap_or(Format::Har)
        }
    }
}

/// Which events are exported: understood as the server understands it, once, so that `5m` means the same for
/// each page.
fn wanted(args: &Export) -> Result<PageQuery, Failure> {
    let mut pairs = Vec::new();
    pairs.extend(args.since.as_deref().map(|since| ("since", since)));
    pairs.extend(args.until.as_deref().map(|until| ("until", until)));
    pairs.extend(
        args.category
            .iter()
            .map(|category| ("category", category.as_str())),
    );
    pairs.extend(args.types.iter().map(|pattern| ("type", pattern.as_str())));
    PageQuery::from_pairs(pairs)
        .map_err(|error| Failure::Usage(format!("--{}: {}", error.name, error.message)))
}

fn is_wanted(wanted: &PageQuery, event: &Event) -> bool {
    wanted.since.is_none_or(|since| since <= event.ts)
        && wanted.until.is_none_or(|until| event.ts <= until)
        && wanted.filter.matches(event)
}

/// What could not be read.
#[derive(Debug, Default)]
struct Unread {
    /// Lines that are no events.
    lines: u64,
    /// The number of the first of them.
    first: u64,
    /// Why reading ended before the end of the file.
    cut: Option<io::Error>,
}

/// Exports a file: NDJSON, plain or compressed with zstd.
fn from_file(
    path: &Path,
    wanted: &PageQuery,
    mut export: Writer,
    output: &Output,
) -> Result<(Tally, Unread), Failure> {
    let what = path.display().to_string();
    let unreadable = |source| Failure::Read {
        what: what.clone(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map(|it| it.len()).unwrap_or(0);
    let bar = bar("{bar:30} {bytes} of {total_bytes}, {eta} left", length);
    let mut input = decoded(bar.wrap_read(file)).map_err(unreadable)?;
    let (mut lines, mut line, mut number) = (LineReader::default(), Vec::new(), 0);
    let mut unread = Unread::default();
    let mut events = 0_u64;
    loop {
        line.clear();
        match (&mut input)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => break,
            Ok(_) => {}
            // The rest is not readable: a file that is being written, or one that was cut.
            Err(error) if 0 < events => {
                unread.cut = Some(error);
                break;
            }
            Err(error) => return Err(unreadable(error)),
        }
        number += 1;
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        let Ok(read) = lines.read(&text) else {
            if events == 0 {
                return Err(Failure::Line {
                    path: path.to_owned(),
                    line: number,
                    expected: "an event or an envelope as JSON, such as `tapline tail --json` prints",
                });
            }
            unread.lines += 1;
            if unread.first == 0 {
                unread.first = number as u64;
            }
            continue;
        };
        events += 1;
        let fed = read.before().map_or(Ok(()), |before| export.feed(before));
        fed.and_then(
            |()| match read.event().filter(|it| is_wanted(wanted, &it.event)) {
                Some(envelope) => export.feed(Input::Event(envelope)),
                None => Ok(()),
            },
        )
        .map_err(|error| output.unwritable(error))?;
    }
    bar.finish_and_clear();
    let (_, mut tally) = export.finish().map_err(|error| output.unwritable(error))?;
    tally.repeated += lines.repeated();
    Ok((tally, unread))
}

/// The text of a file, decompressed if it is compressed with zstd, whatever its name.
fn decoded<'a>(file: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut file = BufReader::with_capacity(128 * 1024, file);
    let start = file.fill_buf()?;
    // A frame, or a skippable frame, which an archive's segment begins with.
    let is_frame = start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let is_skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    Ok(match is_frame || is_skippable {
        true => Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)),
        false => Box::new(file),
    })
}

/// Exports what a server has, page by page, up to what it had when the first page was read.
async fn from_server(
    args: &Export,
    wanted: &PageQuery,
    mut export: Writer,
    output: &Output,
) -> Result<(Tally, Unread), Failure> {
    let client = token::client(&args.remote)?;
    let time = |micros: Option<u64>| {
        let time = jiff::Timestamp::from_microsecond(i64::try_from(micros?).ok()?).ok()?;
        Some(time.to_string())
    };
    let mut options = PageOptions {
        since: time(wanted.since),
        until: time(wanted.until),
        categories: args.category.iter().copied().collect(),
        types: args.types.clone(),
        ..PageOptions::default()
    };
    let lost_of = match options.categories.is_empty() {
        true => CategorySet::ALL,
        false => options.categories,
    };
    let bar = bar("{bar:30} seq {pos} of {len}, {eta} left", 0);
    let mut end = None;
    let mut before: Option<(tapline_oapi::Epoch, u64)> = None;
    loop {
        let page = client.page(&options).await?;
        let end = *end.get_or_insert(page.head);
        bar.set_length(end);
        let position = before
            .filter(|(epoch, _)| *epoch == page.epoch)
            .map_or(0, |(_, seq)| seq);
        let mut missing = (0 < page.lost).then_some(page.lost);
        let mut position = position;
        let mut fed = export.feed(Input::Epoch(page.epoch));
        for envelope in &page.envelopes {
            // What is missing is in the first hole; behind a filter there are others.
            if position + 1 < envelope.seq
                && let Some(count) = missing.take()
            {
                let lost = lost(position + 1, envelope.seq - 1, count, lost_of);
                fed = fed.and_then(|()| export.feed(lost));
            }
            fed = fed.and_then(|()| export.feed(Input::Event(envelope)));
            position = envelope.seq;
        }
        if let Some(count) = missing {
            let to = page
                .next
                .map_or(position + 1, |next| next.seq.max(position + 1));
            // The next page begins behind it.
            fed = fed.and_then(|()| export.feed(lost(position + 1, to, count, lost_of)));
        }
        fed.map_err(|error| output.unwritable(error))?;
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
    let (_, tally) = export.finish().map_err(|error| output.unwritable(error))?;
    Ok((tally, Unread::default()))
}

fn lost(from: u64, to: u64, count: u64, categories: CategorySet) -> Input<'static> {
    Input::Lost(Lost {
        from,
        to,
        count: Some(count),
        categories,
    })
}

/// Where the export goes.
struct Output {
    /// The file; `None` for standard output.
    path: Option<PathBuf>,
}

impl Output {
    /// Fails if the file exists: an export replaces nothing.
    fn open(path: Option<PathBuf>) -> Result<Self, Failure> {
        let output = Self {
            path: path.filter(|path| path.as_os_str() != "-"),
        };
        match &output.path {
            Some(path) if path.exists() => {
                Err(output.unwritable(io::ErrorKind::AlreadyExists.into()))
            }
            _ => Ok(output),
        }
    }

    /// A file is written under another name until it is complete. Only its owner can read it: it may hold
    /// secrets.
    fn writer(&self) -> Result<Box<dyn Write + Send>, Failure> {
        let Some(part) = self.part() else {
            return Ok(Box::new(io::stdout()));
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(part).map_err(|error| self.unwritable(error))?;
        Ok(Box::new(file))
    }

    fn keep(&self) -> Result<(), Failure> {
        match (self.part(), &self.path) {
            (Some(part), Some(path)) => {
                fs::rename(part, path).map_err(|error| self.unwritable(error))
            }
            _ => Ok(()),
        }
    }

    fn discard(&self) {
        if let Some(part) = self.part() {
            // If it cannot be removed, its name says that it is a part.
            let _ = fs::remove_file(part);
        }
    }

    fn part(&self) -> Option<PathBuf> {
        let mut name = self.path.clone()?.into_os_string();
        name.push(".part");
        Some(name.into())
    }

    fn unwritable(&self, source: io::Error) -> Failure {
        match &self.path {
            Some(path) => Failure::Write {
                what: format!("{} (--out)", path.display()),
                source,
            },
            None => Failure::Output(source),
        }
    }
}

/// Says what was exported, and what is missing.
fn report(output: &Output, tally: &Tally, unread: &Unread, args: &Export) {
    let what = output
        .path
        .as_ref()
        .map_or("exported".to_owned(), |path| path.display().to_string());
    let mut text = format!("{what}: {} events", tally.events);
    let mut add = |count: u64, what: &str| {
        if 0 < count {
            text.push_str(&format!(", {count} {what}"));
        }
    };
    match args.file {
        Some(_) => add(tally.lost, "seqs skipped (lost, or left out by a filter)"),
        None => add(tally.lost, "lost"),
    }
    add(tally.unreadable, "whose data could not be read");
    add(tally.repeated, "repeats ignored");
    add(tally.restarts, "restarts of the server");
    if 0 < unread.lines {
        add(
            unread.lines,
            &format!(
                "lines that are no events (the first is line {})",
                unread.first
            ),
        );
    }
    if let Some(error) = &unread.cut {
        text.push_str(&format!(
            "; the rest of the file could not be read: {error}"
        ));
    }
    if format(args) != Format::Ndjson {
        text.push_str(match args.with_secrets {
            true => "; SECRETS INCLUDED",
            false => "; sanitised",
        });
    }
    say(&text);
}

/// Shown where standard error is a terminal.
fn bar(template: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template(&format!("exporting {template}"));
    bar.set_style(style.expect("the template is well-formed"));
    if io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(250));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
