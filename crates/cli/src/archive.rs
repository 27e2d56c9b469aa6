//! `tapline archive`: looks into an archive, and puts it in order.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tapline_api::{
    Epoch, Filter, HistoryQuery, Order, ReadLimit, SharedEnvelope, TypePattern, parse_moment,
};
use tapline_archive::{Archive, Compacted, Remove, SegmentInfo, check, compact, remove, repair};
use tapline_insight::{ExportWriter, Format, Input, Lost, Sanitizer};
use tapline_oapi::CategorySet;
use tapline_server::standalone;

use crate::args::archive::{ArchiveCommand, Cat, Check, Export, Grep, Ls, Place, Rm, Select};
use crate::export::format_of;
use crate::failure::{Failure, say};
use crate::figures::size;
use crate::files;
use crate::output;

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
        "{} segments, {events} events, {}",
        segments.len(),
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
        &args.select,
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
    each(&archive, &args.select, &bar, &mut |part| {
        let envelope = match &part {
            Part::Envelope(envelope) => envelope,
            Part::Missing(seqs) => {
                missing += seqs.end() - seqs.start() + 1;
                return Ok(true);
            }
            Part::Epoch(_) => return Ok(true),
        };
        let json = envelope.json();
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
            "{missing} events of the range are not in the archive; `archive cat` shows which"
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
        "{}: {events} events, {missing} missing{note}",
        args.out.display()
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
    each(archive, &args.select, bar, &mut |part| {
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
    let categories = match args.select.category.is_empty() {
        true => CategorySet::ALL,
        false => args.select.category.iter().copied().collect(),
    };
    let failed = |source| unwritable(args, source);
    let page = (format == Format::Html).then(standalone);
    if let Some(page) = &page {
        out.write_all(page.before.as_bytes()).map_err(failed)?;
    }
    let mut writer = ExportWriter::new(format, out, sanitizer).map_err(failed)?;
    let mut counts = Counts::default();
    each(archive, &args.select, bar, &mut |part| {
        counts.add(&part);
        let fed = match part {
            Part::Epoch(epoch) => writer.feed(Input::Epoch(epoch)),
            Part::Missing(seqs) => writer.feed(Input::Lost(Lost {
                categories,
                ..Lost::unknown(*seqs.start(), *seqs.end())
            })),
            Part::Envelope(envelope) => serde_json::from_str(envelope.json())
                .map_err(io::Error::other)
                .and_then(|envelope| writer.feed(Input::Event(&envelope))),
        };
        fed.map_err(failed)?;
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

/// What a selection has, in order.
enum Part {
    /// What follows is of this epoch.
    Epoch(Epoch),
    Envelope(SharedEnvelope),
    Missing(RangeInclusive<u64>),
}

impl Part {
    /// As one line of JSON. Line breaks within `data` are white space.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Epoch(_) => Ok(()),
            Self::Envelope(envelope) => {
                let json = envelope.json().as_bytes();
                match memchr::memchr(b'\n', json) {
                    None => out.write_all(json)?,
                    Some(_) => out.write_all(envelope.json().replace('\n', " ").as_bytes())?,
                }
                out.write_all(b"\n")
            }
            Self::Missing(seqs) => {
                let (first, last) = (seqs.start(), seqs.end());
                writeln!(out, "{{\"gap\":{{\"first\":{first},\"last\":{last}}}}}")
            }
        }
    }
}

/// Gives every part of the selection to `take`, which says whether it counts for the limit.
fn each(
    archive: &Archive,
    select: &Select,
    bar: &ProgressBar,
    take: &mut dyn FnMut(Part) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let bounds = archive.bounds_now()?;
    let mut ranges: Vec<(Epoch, RangeInclusive<u64>)> =
        bounds.iter().map(|it| (it.epoch, 1..=it.head)).collect();
    if let Some(epoch) = select.epoch {
        ranges.retain(|(it, _)| *it == epoch);
        if ranges.is_empty() {
            return Err(Failure::Usage(format!(
                "--epoch: there is no {epoch} in the archive; `archive ls` shows what there is"
            )));
        }
    }
    if let Some(after) = select.after {
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
    let session = select.session.as_deref().map(session_text);
    let session = session.as_deref().map(memchr::memmem::Finder::new);
    let mut left = select.limit.unwrap_or(u64::MAX);
    for (epoch, seqs) in ranges {
        take(Part::Epoch(epoch))?;
        let mut query = query(select, epoch, seqs)?;
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
                let json = envelope.json().as_bytes();
                let is_asked = session.as_ref().is_none_or(|it| it.find(json).is_some());
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

fn query(
    select: &Select,
    epoch: Epoch,
    seqs: RangeInclusive<u64>,
) -> Result<HistoryQuery, Failure> {
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
    Ok(HistoryQuery {
        epoch,
        seqs,
        order: Order::Asc,
        filter: Filter::new(categories, types),
        since: moment("--since", &select.since)?,
        until: moment("--until", &select.until)?,
        limit: ReadLimit {
            events: 8192,
            bytes: 4 * 1024 * 1024,
        },
    })
}

/// How the stamp of a session stands in the JSON of its events, which the stream's encoder writes.
fn session_text(id: &str) -> String {
    format!("\"telemetry_session_id\":{}", serde_json::Value::from(id))
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
        "{} segments, {} blocks, {} events, {}",
        report.segments,
        report.blocks,
        report.events,
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
        "{segments_before} segments with {}: now {segments_after} with {}",
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
        "{} segments with {events} events {verb}",
        removed.len()
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
