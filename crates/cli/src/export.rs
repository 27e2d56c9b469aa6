//! `tapline export`: a file of events for other tools, from a server or from a file.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tapline_insight::{ExportWriter, Format, Input, Sanitizer, Tally, Unread};
use tapline_server::standalone;

use crate::args::{Export, ExportFormat};
use crate::failure::{Failure, say};
use crate::figures::counted;
use crate::inputs::{self, Wanted};

type Writer = ExportWriter<BufWriter<Box<dyn Write + Send>>>;

pub(crate) async fn run(args: Export) -> Result<(), Failure> {
    let sanitizer = match args.with_secrets {
        true => Sanitizer::off(),
        false => Sanitizer::default().with_names(&args.redact),
    };
    let output = Output::open(args.out.clone())?;
    let started = output.writer().and_then(|writer| {
        let mut writer = BufWriter::with_capacity(256 * 1024, writer);
        if format(&args) == Format::Html {
            let page = standalone();
            writer
                .write_all(page.before.as_bytes())
                .map_err(|error| output.unwritable(error))?;
        }
        ExportWriter::new(format(&args), writer, sanitizer)
            .map_err(|error| output.unwritable(error))
    });
    let done = match started {
        Ok(writer) => write(&args, writer, &output).await,
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

async fn write(
    args: &Export,
    mut writer: Writer,
    output: &Output,
) -> Result<(Tally, Unread), Failure> {
    let wanted = Wanted {
        since: args.since.as_deref(),
        until: args.until.as_deref(),
        category: &args.category,
        types: &args.types,
        ..Wanted::default()
    };
    let feed = &mut |input: Input<'_>| writer.feed(input).map_err(|error| output.unwritable(error));
    let file = args.file.as_deref();
    let unread = inputs::read(&args.remote, file, wanted, "exporting", feed).await?;
    let (mut file, mut tally) = writer.finish().map_err(|error| output.unwritable(error))?;
    if format(args) == Format::Html {
        let written = file.write_all(standalone().after.as_bytes());
        written
            .and_then(|()| file.flush())
            .map_err(|error| output.unwritable(error))?;
    }
    tally.repeated += unread.repeated;
    Ok((tally, unread))
}

/// The format that was asked for, or that of the file's name.
pub(crate) fn format_of(asked: Option<ExportFormat>, out: Option<&Path>) -> Option<Format> {
    match asked {
        Some(ExportFormat::Har) => Some(Format::Har),
        Some(ExportFormat::Html) => Some(Format::Html),
        Some(ExportFormat::Ndjson) => Some(Format::Ndjson),
        Some(ExportFormat::Trace) => Some(Format::Trace),
        None => {
            let name = out?.to_string_lossy();
            let mut all = Format::ALL.into_iter();
            all.find(|format| name.ends_with(&format!(".{}", format.extension())))
        }
    }
}

/// Otherwise a HAR.
fn format(args: &Export) -> Format {
    format_of(args.format, args.out.as_deref()).unwrap_or(Format::Har)
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
    let mut text = format!("{what}: {}", counted(tally.events, "event"));
    let mut add = |count: u64, words: String| {
        if 0 < count {
            text.push_str(&format!(", {words}"));
        }
    };
    let lost = match args.file {
        Some(_) => format!(
            "{} skipped (lost, or left out by a filter)",
            counted(tally.lost, "seq")
        ),
        None => format!("{} lost", tally.lost),
    };
    add(tally.lost, lost);
    let unreadable = counted(tally.unreadable, "event");
    add(
        tally.unreadable,
        format!("{unreadable} whose data could not be read"),
    );
    let repeated = counted(tally.repeated, "repeat");
    add(tally.repeated, format!("{repeated} ignored"));
    let restarts = counted(tally.restarts, "restart");
    add(tally.restarts, format!("{restarts} of the server"));
    let lines = counted(unread.lines, "line");
    let first = unread.first;
    add(
        unread.lines,
        format!("{lines} without an event (the first is line {first})"),
    );
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
