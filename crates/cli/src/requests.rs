//! `tapline requests`: the requests as a table.

use std::io::{self, Write};

use tapline_insight::{Finding, Input, Insight, Options, Outcome, Request};

use crate::args::look::{Requests, Sort};
use crate::failure::{Failure, say};
use crate::figures::{self, Clock, counted};
use crate::inputs;
use crate::line::printable;
use crate::output;

pub(crate) async fn run(args: Requests) -> Result<(), Failure> {
    let mut found = Vec::new();
    let (mut seen, mut insight) = (0_u64, Insight::new(Options::default()));
    let range = &args.range;
    let mut take = |finding| {
        if let Finding::Request(request) = finding {
            seen += 1;
            if is_asked_for(&request, &args) {
                found.push(request);
            }
        }
    };
    let feed = &mut |input: Input<'_>| {
        insight.feed(input, &mut take);
        Ok(())
    };
    let file = range.file.as_deref();
    inputs::read(&range.remote, file, range.wanted(), "reading", feed).await?;
    let tally = insight.finish(&mut take);

    found.sort_by(|a, b| order(a, b, args.sort));
    let matching = found.len();
    let shown = match args.limit {
        0 => &found[..],
        limit => &found[matching.saturating_sub(limit)..],
    };
    output::write(|out| match args.json {
        true => output::json_lines(out, shown),
        false => write(out, shown, args.utc),
    })?;
    let mut text = format!("{} of {}", shown.len(), counted(seen, "request"));
    if shown.len() < matching {
        text.push_str(&format!(", {matching} match; -n 0 shows all of these"));
    }
    if 0 < tally.lost {
        text.push_str(&format!(
            "; missing: at most {}",
            counted(tally.lost, "event")
        ));
    }
    say(&text);
    Ok(())
}

fn is_asked_for(request: &Request, args: &Requests) -> bool {
    let grep = args.grep.as_ref();
    (request.is_problem() || !args.failed) && grep.is_none_or(|text| request.url.contains(text))
}

pub(crate) fn order(a: &Request, b: &Request, by: Sort) -> std::cmp::Ordering {
    // What is not known is first: it is shown last only where that is asked for.
    let status = |it: &Request| match it.failure {
        Some(_) => u32::MAX,
        None => it.status().unwrap_or(0),
    };
    let by = match by {
        Sort::Start => a.ts.cmp(&b.ts),
        Sort::Duration => a
            .duration_ms
            .unwrap_or(-1.0)
            .total_cmp(&b.duration_ms.unwrap_or(-1.0)),
        Sort::Size => a.encoded_bytes.cmp(&b.encoded_bytes),
        Sort::Status => status(a).cmp(&status(b)),
    };
    by.then((a.at.run, a.at.seq).cmp(&(b.at.run, b.at.seq)))
}

fn write(out: &mut impl Write, requests: &[Box<Request>], utc: bool) -> io::Result<()> {
    let clock = Clock::new(utc);
    writeln!(
        out,
        "{:<12} {:>6} {:<10} {:<7} {:<11} {:>9} {:>9}  address",
        "time", "seq", "status", "method", "type", "size", "duration"
    )?;
    for request in requests {
        writeln!(
            out,
            "{} {:>6} {:<10} {:<7} {:<11} {:>9} {:>9}  {}",
            clock.of_day(request.ts),
            request.at.seq,
            status(request),
            printable(&request.method),
            printable(request.resource_type.as_deref().unwrap_or("")),
            request.encoded_bytes.map(figures::size).unwrap_or_default(),
            request
                .duration_ms
                .map(figures::duration)
                .unwrap_or_default(),
            printable(&request.url),
        )?;
        if let Some(reason) = reason(request) {
            writeln!(out, "{:>19} {reason}", "")?;
        }
    }
    Ok(())
}

/// Why it failed, if it did.
pub(crate) fn reason(request: &Request) -> Option<String> {
    let failure = request.failure.as_ref()?;
    let reason = failure
        .cors_error
        .as_ref()
        .or(failure.blocked_reason.as_ref());
    let reason = reason.map(|it| format!(" ({it})")).unwrap_or_default();
    Some(printable(&format!("{}{reason}", failure.error_text)))
}

/// In a word or a number.
pub(crate) fn status(request: &Request) -> String {
    let failure = request.failure.as_ref();
    match (request.outcome, request.status()) {
        (_, Some(status)) if failure.is_some() => format!("{status} broken"),
        (_, Some(status)) => status.to_string(),
        (Outcome::Failed, None) => match request.was_given_up() {
            true => "cancelled".to_owned(),
            false
                if failure
                    .is_some_and(|it| it.blocked_reason.is_some() || it.cors_error.is_some()) =>
            {
                "blocked".to_owned()
            }
            false => "failed".to_owned(),
        },
        (Outcome::Pending | Outcome::Open, None) => "pending".to_owned(),
        (Outcome::Answered, None) => "answered".to_owned(),
        (Outcome::Unknown, None) => "unknown".to_owned(),
    }
}
