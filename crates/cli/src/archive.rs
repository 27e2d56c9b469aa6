//! `tapline archive`: looks into an archive, and puts it in order.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tapline_api::parse_moment;
use tapline_archive::{Archive, Compacted, Remove, SegmentInfo, check, compact, remove, repair};
use tapline_insight::{ExportWriter, Format, Sanitizer};
use tapline_server::standalone;

use crate::args::archive::{ArchiveCommand, Cat, Check, Export, Grep, Ls, Place, Rm};
use crate::export::format_of;
use crate::failure::{Failure, say};
use crate::figures::{counted, size};
use crate::files;
use crate::output;
use crate::selection::{Part, Selection, each};

/// Blocks: it does nothing else.
pub(crate) fn run(command: ArchiveCommand) -> Result<(), Failure> {
    match command {
        ArchiveCommand::Ls(args) => ls(&args),
        ArchiveCommand::Cat(args) => cat(&args),
        ArchiveCommand::Grep(args) => grep(&args),
        ArchiveCommand::Export(args) => export(&args),
        ArchiveCommand::Check(args) => run_check(&args),
        ArchiveCommand::Compact(place) => run_compact(&place),
        ArchiveCommand::Rm(args) => rm(&args),
    }
}

fn ls(args: &Ls) -> Result<(), Failure> {
    let segments = Archive::open(&args.place.archive)?.segments()?;
    output::write(|out| match args.json {
        true => output::json_lines(out, segments.iter().map(as_json)),
        false => segments
            .iter()
            .try_for_each(|it| writeln!(out, "{}", as_line(it))),
    })?;
    let (events, bytes): (u64, u64) = segments.iter().fold((0, 0), |(events, bytes), it| {
        (events + it.events, bytes + it.bytes)
    });
    say(&format!(
        "{}, {}, {}",
        counted(segments.len() as u64, "segment"),
        counted(events, "event"),
        size(bytes)
    ));
    Ok(())
}

fn as_line(it: &SegmentInfo) -> String {
    let time = it.time.as_ref();
    let from = time.map_or("-".to_owned(), |it| moment(*it.start()));
    let to = time.map_or("-".to_owned(), |it| moment(*it.end()));
    let name = it.path.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "{from:<20} {to:<20} {} {:>10} to {:<10} {:>9} events {:>10}  {name}",
        it.epoch,
        it.seqs.start(),
        it.seqs.end(),
        it.events,
        size(it.bytes),
    )
}

fn as_json(it: &SegmentInfo) -> serde_json::Value {
    serde_json::json!({
        "path": it.path,
        "epoch": it.epoch.to_string(),
        "first": it.seqs.start(),
        "last": it.seqs.end(),
        "events": it.events,
        "oldest_ts": it.time.as_ref().map(|it| *it.start()),
        "newest_ts": it.time.as_ref().map(|it| *it.end()),
        "bytes": it.bytes,
        "raw_bytes": it.raw_bytes,
        "blocks": it.blocks,
    })
}

/// To the second.
fn moment(ts: u64) -> String {
    let micros = i64::try_from(ts).unwrap_or(i64::MAX);
    match Timestamp::from_microsecond(micros) {
        Ok(at) => format!("{at:.0}"),
        Err(_) => ts.to_string(),
    }
}

fn cat(args: &Cat) -> Result<(), Failure> {
    let archive = Archive::open(&args.place.archive)?;
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    each(
        &archive,
        &Selection::of(&args.select)?,
        &ProgressBar::hidden(),
        &mut |part| {
            part.write(&mut out).map_err(Failure::Output)?;
            Ok(true)
        },
    )?;
    out.flush().map_err(Failure::Output)
}

fn grep(args: &Grep) -> Result<(), Failure> {
    let archive = Archive::open(&args.place.archive)?;
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let text = match args.ignore_case {
        true => args.text.to_ascii_lowercase(),
        false => args.text.clone(),
    };
    let finder = memchr::memmem::Finder::new(&text);
    let mut missing = 0;
    let bar = progress_bar("searching");
    each(&archive, &Selection::of(&args.select)?, &bar, &mut |part| {
        let envelope = match &part {
            Part::Envelope(envelope) => envelope,
            Part::Missing(seqs) => {
                missing += seqs.end() - seqs.start() + 1;
                return Ok(true);
            }
            Part::Epoch(_) => return Ok(true),
        };
        let json = envelope.json().whole();
        let is_found = match args.ignore_case {
            true => finder.find(json.to_ascii_lowercase().as_bytes()).is_some(),
            false => finder.find(json.as_bytes()).is_some(),
        };
        if is_found {
            part.write(&mut out).map_err(Failure::Output)?;
        }
        Ok(is_found)
    })?;
    bar.finish_and_clear();
    out.flush().map_err(Failure::Output)?;
    if 0 < missing {
        say(&format!(
            "not in the archive: {} of the range; `archive cat` shows which",
            counted(missing, "event")
        ));
    }
    Ok(())
}

fn export(args: &Export) -> Result<(), Failure> {
    let archive = Archive::open(&args.place.archive)?;
    let unwritable = |source| unwritable(args, source);
    let file = files::create_private(&args.out).map_err(unwritable)?;
    let out = BufWriter::with_capacity(256 * 1024, file);
    let bar = progress_bar("exporting");
    let (out, counts, note) = match format_of(args.format, Some(&args.out)) {
        None | Some(Format::Ndjson) => {
            let (out, counts) = export_lines(&archive, args, &bar, out)?;
            (out, counts, "")
        }
        Some(format) => {
            let (out, counts) = export_joined(&archive, args, &bar, format, out)?;
            let note = match args.with_secrets {
                true => "; SECRETS INCLUDED",
                false => "; sanitised",
            };
            (out, counts, note)
        }
    };
    let file: File = out
        .into_inner()
        .map_err(|error| unwritable(error.into_error()))?;
    file.sync_all().map_err(unwritable)?;
    bar.finish_and_clear();
    let Counts { events, missing } = counts;
    say(&format!(
        "{}: {}, {missing} missing{note}",
        args.out.display(),
        counted(events, "event")
    ));
    Ok(())
}

/// What was exported.
#[derive(Default)]
struct Counts {
    events: u64,
    missing: u64,
}

impl Counts {
    fn add(&mut self, part: &Part) {
        match part {
            Part::Envelope(_) => self.events += 1,
            Part::Missing(seqs) => self.missing += seqs.end() - seqs.start() + 1,
            Part::Epoch(_) => {}
        }
    }
}

/// As it is stored.
fn export_lines(
    archive: &Archive,
    args: &Export,
    bar: &ProgressBar,
    mut out: BufWriter<File>,
) -> Result<(BufWriter<File>, Counts), Failure> {
    let mut counts = Counts::default();
    each(archive, &Selection::of(&args.select)?, bar, &mut |part| {
        counts.add(&part);
        part.write(&mut out)
            .map_err(|source| unwritable(args, source))?;
        Ok(true)
    })?;
    Ok((out, counts))
}

/// As a HAR, a trace or a page: events are joined to requests and pages.
fn export_joined(
    archive: &Archive,
    args: &Export,
    bar: &ProgressBar,
    format: Format,
    mut out: BufWriter<File>,
) -> Result<(BufWriter<File>, Counts), Failure> {
    let sanitizer = match args.with_secrets {
        true => Sanitizer::off(),
        false => Sanitizer::default(),
    };
    let failed = |source| unwritable(args, source);
    let page = (format == Format::Html).then(standalone);
    if let Some(page) = &page {
        out.write_all(page.before.as_bytes()).map_err(failed)?;
    }
    let mut writer = ExportWriter::new(format, out, sanitizer).map_err(failed)?;
    let mut counts = Counts::default();
    let selection = Selection::of(&args.select)?;
    let categories = selection.categories();
    each(archive, &selection, bar, &mut |part| {
        counts.add(&part);
        let piece = part.into_piece(categories)?;
        writer.feed(piece.input()).map_err(failed)?;
        Ok(true)
    })?;
    let (mut out, _) = writer.finish().map_err(failed)?;
    if let Some(page) = &page {
        out.write_all(page.after.as_bytes()).map_err(failed)?;
    }
    Ok((out, counts))
}

fn unwritable(args: &Export, source: io::Error) -> Failure {
    Failure::Write {
        what: args.out.display().to_string(),
        source,
    }
}

fn run_check(args: &Check) -> Result<(), Failure> {
    let bar = progress_bar("checking");
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let dir = &args.place.archive;
    let report = match args.repair {
        true => repair(dir, progress)?,
        false => check(dir, progress)?,
    };
    bar.finish_and_clear();
    output::write(|out| {
        let mut findings = report.findings.iter();
        findings.try_for_each(|it| writeln!(out, "{it}"))
    })?;
    for path in &report.foreign {
        say(&format!(
            "{}: not of the archive; left alone",
            path.display()
        ));
    }
    say(&format!(
        "{}, {}, {}, {}",
        counted(report.segments, "segment"),
        counted(report.blocks, "block"),
        counted(report.events, "event"),
        size(report.bytes)
    ));
    let left = report
        .findings
        .iter()
        .filter(|it| it.repair.is_none())
        .count();
    match left {
        0 => Ok(()),
        left => Err(Failure::Defects(left)),
    }
}

fn run_compact(place: &Place) -> Result<(), Failure> {
    let bar = progress_bar("compacting");
    let compacted = compact(&place.archive, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let Compacted {
        segments_before,
        bytes_before,
        segments_after,
        bytes_after,
        ..
    } = compacted;
    say(&format!(
        "{} with {}: now {segments_after} with {}",
        counted(segments_before, "segment"),
        size(bytes_before),
        size(bytes_after)
    ));
    Ok(())
}

fn rm(args: &Rm) -> Result<(), Failure> {
    let dir: &Path = &args.place.archive;
    let what = match (&args.before, args.epoch) {
        (Some(before), _) => {
            let before = parse_moment("--before", before);
            Remove::Before(before.map_err(|error| Failure::Usage(error.to_string()))?)
        }
        (None, Some(epoch)) => Remove::Epoch(epoch),
        (None, None) => Remove::All,
    };
    let removed = remove(dir, what, args.dry_run)?;
    output::write(|out| {
        let mut removed = removed.iter();
        removed.try_for_each(|it| writeln!(out, "{}", as_line(it)))
    })?;
    let events: u64 = removed.iter().map(|it| it.events).sum();
    let verb = match args.dry_run {
        true => "would be deleted",
        false => "deleted",
    };
    say(&format!(
        "{} with {} {verb}",
        counted(removed.len() as u64, "segment"),
        counted(events, "event")
    ));
    Ok(())
}

/// Shown where standard error is a terminal.
fn progress_bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    bar.set_style(
        ProgressStyle::with_template("{prefix} {bar:40} {percent}% ({eta} left)")
            .expect("the template is well-formed"),
    );
    bar.set_prefix(what);
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
