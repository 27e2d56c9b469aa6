//! `tapline diff`: what is different between two files of events, or two ranges of a server's events.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use tapline_insight::{Finding, Input, Insight, Options, Problem, ProblemKind, Request};

use crate::args::look::Diff;
use crate::failure::Failure;
use crate::figures::{self, counted};
use crate::inputs::{self, Wanted};
use crate::line::printable;
use crate::output;
use crate::requests::status;

/// The exit code where there are differences, and where it could not be compared.
const DIFFERENT: u8 = 1;
const UNKNOWN: u8 = 2;

/// A request that takes this many times as long, and so many milliseconds longer, is slower.
const SLOWER_TIMES: f64 = 1.5;
const SLOWER_MS: f64 = 50.0;

pub(crate) async fn run(args: Diff) -> Result<ExitCode, Failure> {
    let sides = async {
        let before = Side::read(&args, &args.before).await?;
        Ok::<_, Failure>((before, Side::read(&args, &args.after).await?))
    };
    let (before, after) = match sides.await {
        Ok(sides) => sides,
        Err(failure) => {
            // 1 means that there are differences.
            let _ = failure.report();
            return Ok(ExitCode::from(UNKNOWN));
        }
    };
    let differences = differences(&before, &after);
    let printed = output::write(|out| match args.json {
        true => output::json_lines(out, &differences),
        false => write(out, &differences, &before, &after),
    });
    let code = match differences.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIFFERENT),
    };
    Ok(output::answer(printed, code, UNKNOWN))
}

/// What one side has. Requests of the same method and address, without its query, are distinguished by their number.
#[derive(Default)]
struct Side {
    requests: BTreeMap<(String, usize), Request>,
    /// How often each error happened that is not about a request.
    errors: BTreeMap<String, u64>,
    lost: u64,
}

impl Side {
    async fn read(args: &Diff, what: &str) -> Result<Self, Failure> {
        // A range names times, a file is anything else.
        let (file, wanted) = match what.split_once("..") {
            Some((since, until)) if !Path::new(what).exists() => (
                None,
                Wanted {
                    since: Some(since).filter(|it| !it.is_empty()),
                    until: Some(until).filter(|it| !it.is_empty()),
                    ..Wanted::default()
                },
            ),
            _ if matches!(Path::new(what).try_exists(), Ok(false)) => {
                return Err(Failure::NoSide(what.to_owned()));
            }
            _ => (Some(Path::new(what)), Wanted::default()),
        };
        let (mut side, mut insight) = (Self::default(), Insight::new(Options::default()));
        let feed = &mut |input: Input<'_>| {
            insight.feed(input, &mut |finding| side.take(finding));
            Ok(())
        };
        inputs::read(&args.remote, file, wanted, "reading", feed).await?;
        side.lost = insight.finish(&mut |finding| side.take(finding)).lost;
        Ok(side)
    }

    fn take(&mut self, finding: Finding) {
        match finding {
            Finding::Request(request) => {
                let address = request.url.split(['?', '#']).next().unwrap_or_default();
                let name = format!("{} {address}", request.method);
                let same = self
                    .requests
                    .range((name.clone(), 0)..=(name.clone(), usize::MAX));
                let number = same.count();
                self.requests.insert((name, number), *request);
            }
            Finding::Problem(problem) if is_error(&problem) => {
                *self.errors.entry(problem.text).or_default() += 1;
            }
            Finding::Problem(_) | Finding::Navigation(_) => {}
        }
    }
}

/// What is about a request is compared there.
fn is_error(problem: &Problem) -> bool {
    problem.withdrawn.is_none()
        && problem.request.is_none()
        && !matches!(problem.kind, ProblemKind::EventsLost | ProblemKind::Restart)
}

/// One difference. `before` and `after` are empty where that side does not have it.
#[derive(Debug, serde::Serialize)]
struct Difference {
    kind: Kind,
    what: String,
    before: String,
    after: String,
    /// How many requests have it; 1 for an error, whose sides say how often it happened.
    times: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Status,
    Error,
    Request,
    Time,
}

fn differences(before: &Side, after: &Side) -> Vec<Difference> {
    let mut found = BTreeMap::new();
    let mut add = |kind: Kind, what: &str, before: String, after: String| {
        *found
            .entry((kind, what.to_owned(), before, after))
            .or_default() += 1;
    };
    for (key, one) in &before.requests {
        let Some(other) = after.requests.get(key) else {
            add(Kind::Request, &key.0, status(one), String::new());
            continue;
        };
        let (old, new) = (status(one), status(other));
        if old != new {
            add(Kind::Status, &key.0, old, new);
        } else if let (Some(old), Some(new)) = (one.duration_ms, other.duration_ms)
            && is_other_time(old, new)
        {
            add(
                Kind::Time,
                &key.0,
                figures::duration(old),
                figures::duration(new),
            );
        }
    }
    for (key, other) in &after.requests {
        if !before.requests.contains_key(key) {
            add(Kind::Request, &key.0, String::new(), status(other));
        }
    }
    let times = |side: &Side, text: &String| match side.errors.get(text) {
        None => String::new(),
        Some(1) => "once".to_owned(),
        Some(times) => format!("{times} times"),
    };
    for text in before.errors.keys().chain(
        after
            .errors
            .keys()
            .filter(|it| !before.errors.contains_key(*it)),
    ) {
        let (old, new) = (times(before, text), times(after, text));
        if old != new {
            add(Kind::Error, text, old, new);
        }
    }
    let found = found.into_iter();
    found
        .map(|((kind, what, before, after), times)| Difference {
            kind,
            what,
            before,
            after,
            times,
        })
        .collect()
}

fn is_other_time(one: f64, other: f64) -> bool {
    let (less, more) = (one.min(other), one.max(other));
    less * SLOWER_TIMES < more && SLOWER_MS < more - less
}

fn write(
    out: &mut impl Write,
    differences: &[Difference],
    before: &Side,
    after: &Side,
) -> io::Result<()> {
    writeln!(
        out,
        "{} before, {} after; {}",
        counted(before.requests.len() as u64, "request"),
        after.requests.len(),
        match differences.len() {
            0 => "no difference".to_owned(),
            count => counted(count as u64, "difference"),
        }
    )?;
    for it in differences {
        let what = printable(&it.what);
        let (kind, old, new) = match (it.kind, it.before.as_str(), it.after.as_str()) {
            (Kind::Request, "", new) => ("new request", "", new),
            (Kind::Request, old, "") => ("gone request", old, ""),
            (Kind::Error, "", new) => ("new error", "", new),
            (Kind::Error, old, "") => ("gone error", old, ""),
            (Kind::Status, old, new) => ("status", old, new),
            (Kind::Error, old, new) => ("error", old, new),
            (Kind::Time | Kind::Request, old, new) => ("time", old, new),
        };
        let change = match (old, new) {
            ("", new) => new.to_owned(),
            (old, "") => format!("was {old}"),
            (old, new) => format!("{old} -> {new}"),
        };
        write!(out, "{kind:<12} {change:<20} {what}")?;
        match it.times {
            1 => writeln!(out)?,
            times => writeln!(out, " ({times} times)")?,
        }
    }
    for (name, side) in [("before", before), ("after", after)] {
        if 0 < side.lost {
            writeln!(
                out,
                "missing {name}: at most {}",
                counted(side.lost, "event")
            )?;
        }
    }
    Ok(())
}
