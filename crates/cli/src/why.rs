//! `tapline why`: what went wrong, with causes and consequences.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tapline_insight::{
    Finding, Input, Insight, Moment, Options, Problem, ProblemKind, Request, Tally, Unread,
    one_line,
};
use tapline_oapi::joins::RequestItem;

use crate::args::Remote;
use crate::args::look::Why;
use crate::failure::Failure;
use crate::figures::{Clock, counted};
use crate::inputs::{self, Wanted};
use crate::line::printable;
use crate::output;
use crate::token;

/// The exit code where problems were found.
const FOUND: u8 = 1;
/// The exit code where nothing could be looked at.
const UNKNOWN: u8 = 2;

/// How many problems are shown unless it is said.
pub(crate) const DEFAULT_LIMIT: usize = 10;

/// How many consequences are shown for a problem.
const CONSEQUENCES: usize = 3;

/// How many characters of an answer are shown.
const ANSWER: usize = 200;

pub(crate) async fn run(args: Why) -> Result<ExitCode, Failure> {
    let range = &args.range;
    let file = range.file.as_deref();
    let looked = match look(&range.remote, file, range.wanted(), args.limit).await {
        Ok(looked) => looked,
        Err(failure) => {
            // 1 means that there are problems in the page, not here.
            let _ = failure.report();
            return Ok(ExitCode::from(UNKNOWN));
        }
    };
    let printed = output::write(|out| match args.json {
        true => output::json_lines(out, looked.problems.iter().map(|it| looked.detail(it))),
        false => looked.write(out, args.utc),
    });
    let code = match looked.count {
        _ if !looked.has_events() => ExitCode::from(UNKNOWN),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(FOUND),
    };
    Ok(output::answer(printed, code, UNKNOWN))
}

/// What was found.
#[derive(Default)]
pub(crate) struct Looked {
    /// How many problems there are, without those that were taken back.
    pub(crate) count: usize,
    /// The newest ones, oldest first.
    pub(crate) problems: VecDeque<Problem>,
    /// The requests that failed in some way, by run and seq.
    failed: HashMap<(u64, u64), Request>,
    requests: u64,
    pages: u64,
    tally: Tally,
    /// The times of the first and of the last event.
    times: Option<(u64, u64)>,
    unread: Unread,
    /// What is wrong with the session now, in words, where the events are a server's.
    pub(crate) session: Option<String>,
}

/// A problem, and the request that it is about, as `--json` prints them.
#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<RequestItem>,
}

/// The newest `limit` problems of a server or of a file; 0: all.
pub(crate) async fn look(
    remote: &Remote,
    file: Option<&Path>,
    wanted: Wanted<'_>,
    limit: usize,
) -> Result<Looked, Failure> {
    let keep = match limit {
        0 => usize::MAX,
        limit => limit,
    };
    let mut looked = Looked::default();
    let mut insight = Insight::new(Options::default());
    let feed = &mut |input: Input<'_>| {
        if let Input::Event(envelope) = input {
            let ts = envelope.event.ts;
            let (first, last) = looked.times.unwrap_or((ts, ts));
            looked.times = Some((first.min(ts), last.max(ts)));
        }
        insight.feed(input, &mut |finding| looked.take(finding, keep));
        Ok(())
    };
    let unread = inputs::read(remote, file, wanted, "reading", feed).await?;
    looked.unread = unread;
    looked.tally = insight.finish(&mut |finding| looked.take(finding, keep));
    if file.is_none() {
        let state = token::client(remote)?.state().await?;
        looked.session = state.and_then(|state| state.session_id).is_none().then(|| {
            "no session is running now: nothing more is captured. `tapline start` starts one"
                .to_owned()
        });
    }
    Ok(looked)
}

impl Looked {
    fn take(&mut self, finding: Finding, keep: usize) {
        match finding {
            Finding::Request(request) => {
                self.requests += 1;
                if request.is_problem() {
                    self.failed
                        .insert((request.at.run, request.at.seq), *request);
                }
            }
            Finding::Navigation(navigation) => self.pages += u64::from(navigation.is_page()),
            Finding::Problem(problem) => {
                if problem.withdrawn.is_some() {
                    return;
                }
                self.count += 1;
                self.problems.push_back(*problem);
                if keep < self.problems.len() {
                    self.problems.pop_front();
                }
            }
        }
    }

    /// Whether there was anything to look at.
    pub(crate) fn has_events(&self) -> bool {
        0 < self.tally.events
    }

    /// The failed request that a problem is about.
    fn request_of(&self, problem: &Problem) -> Option<&Request> {
        let seq = problem.request?;
        self.failed.get(&(problem.at.run, seq))
    }

    fn detail<'a>(&self, problem: &'a Problem) -> Detail<'a> {
        let about = self.request_of(problem).map(|request| {
            let mut item = RequestItem::from(request.clone());
            item.leave_out_contents();
            // Of the contents, only the beginning of the answer: what the text shows.
            if let (Some(kept), Some(response)) = (&request.response, &mut item.request.response) {
                response.body.clone_from(&kept.body);
                response.body_omitted = kept.body_omitted;
            }
            item
        });
        Detail { problem, about }
    }

    pub(crate) fn write(&self, out: &mut impl Write, utc: bool) -> io::Result<()> {
        let clock = Clock::new(utc);
        writeln!(out, "{}", self.headline(&clock))?;
        for group in self.groups() {
            writeln!(out)?;
            self.write_group(out, &group, &clock)?;
        }
        if self.problems.len() < self.count {
            let more = self.count - self.problems.len();
            writeln!(out, "\n{more} earlier ones are not shown: -n 0 shows all")?;
        }
        for note in self.notes() {
            writeln!(out, "\n{note}")?;
        }
        Ok(())
    }

    /// `3 problems among 120 requests on 4 pages, 2026-11-23 12:09:18 to 12:10:00 UTC`.
    pub(crate) fn headline(&self, clock: &Clock) -> String {
        let Some((first, last)) = self.times else {
            return "There are no events in this range: nothing is known about it.".to_owned();
        };
        let problems = match self.count {
            0 => "No problem".to_owned(),
            count => counted(count as u64, "problem"),
        };
        format!(
            "{problems} among {} on {}, {} to {}",
            counted(self.requests, "request"),
            counted(self.pages, "page"),
            clock.day_and_time(first),
            clock.day_and_time(last),
        )
    }

    /// The problems, those together that are about the same request, or the same again.
    pub(crate) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for problem in &self.problems {
            let same = groups.iter_mut().rev().find(|group| {
                let first = group.first;
                first.at.run == problem.at.run
                    && ((first.request.is_some() && first.request == problem.request)
                        || (first.kind == problem.kind && first.text == problem.text))
            });
            match same {
                Some(group) if group.first.kind == problem.kind => group.again.push(problem),
                // A request's own problem says more than what the console says about it.
                Some(group) if group.first.kind == ProblemKind::ConsoleError => {
                    group.also.push(group.first);
                    group.also.append(&mut group.again);
                    group.first = problem;
                }
                Some(group) => group.also.push(problem),
                None => groups.push(Group {
                    first: problem,
                    again: Vec::new(),
                    also: Vec::new(),
                }),
            }
        }
        groups.sort_by_key(Group::last);
        groups
    }

    pub(crate) fn write_group(
        &self,
        out: &mut impl Write,
        group: &Group<'_>,
        clock: &Clock,
    ) -> io::Result<()> {
        let problem = group.first;
        let mut text = printable(&problem.text);
        let times = || {
            [problem]
                .into_iter()
                .chain(group.again.iter().copied())
                .map(|it| it.ts)
        };
        if !group.again.is_empty() {
            let last = times().fold(problem.ts, u64::max);
            text.push_str(&format!(
                " ({} times, last at {})",
                times().count(),
                clock.of_day(last)
            ));
        }
        let first = times().fold(problem.ts, u64::min);
        writeln!(out, "{}  {text}", clock.of_day(first))?;
        let mut detail =
            |name: &str, text: &str| writeln!(out, "    {name:<13} {}", printable(text));
        let request = self.request_of(problem);
        if let Some(request) = request {
            detail("requested by", &asked_by(request))?;
            if let Some(text) = answer_of(request) {
                detail("the answer", &text)?;
            }
        }
        if let Some(seq) = problem.caused_by {
            detail("caused by", &format!("the command at seq {seq}"))?;
        }
        for (text, times) in group.also_said() {
            match times {
                1 => detail("the console", text)?,
                _ => detail("the console", &format!("{text} ({times} times)"))?,
            }
        }
        if request.is_none() {
            for moment in problem.before.iter().rev().take(2).rev() {
                detail("before", &moment_text(moment, clock))?;
            }
        }
        let after = problem.after.iter().filter(|moment| !group.has(moment));
        for moment in after.take(CONSEQUENCES) {
            detail("then", &moment_text(moment, clock))?;
        }
        if 0 < problem.lost {
            detail("missing", &counted(problem.lost, "event"))?;
        }
        if !problem.not_captured.is_empty() {
            let names = crate::session::captured(problem.not_captured);
            detail("not captured", &names)?;
        }
        writeln!(out, "    {:<13} {}", "seq", problem.at.seq)
    }

    /// What keeps the answer from being whole.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if 0 < self.tally.lost {
            notes.push(format!(
                "{} at most are missing: there may have been more problems",
                counted(self.tally.lost, "event")
            ));
        }
        if 0 < self.tally.unreadable {
            let what = counted(self.tally.unreadable, "event");
            notes.push(format!("the data of {what} could not be read"));
        }
        if 0 < self.unread.lines {
            notes.push(format!(
                "{} no events (the first is line {})",
                match self.unread.lines {
                    1 => "1 line is".to_owned(),
                    count => format!("{count} lines are"),
                },
                self.unread.first
            ));
        }
        if let Some(error) = &self.unread.cut {
            notes.push(format!("the rest of the file could not be read: {error}"));
        }
        notes.extend(self.session.clone());
        notes
    }
}

/// Problems that belong together.
pub(crate) struct Group<'a> {
    first: &'a Problem,
    /// The same again.
    again: Vec<&'a Problem>,
    /// What else was reported about the same request.
    also: Vec<&'a Problem>,
}

impl Group<'_> {
    /// When the last of them happened, in microseconds since the Unix epoch.
    pub(crate) fn last(&self) -> u64 {
        let all = self.again.iter().chain(&self.also);
        all.fold(self.first.ts, |time, problem| time.max(problem.ts))
    }

    /// What else was reported, each text once and with how often.
    fn also_said(&self) -> Vec<(&str, usize)> {
        let mut said: Vec<(&str, usize)> = Vec::new();
        for problem in &self.also {
            match said.iter_mut().find(|(text, _)| *text == problem.text) {
                Some((_, times)) => *times += 1,
                None => said.push((&problem.text, 1)),
            }
        }
        said
    }

    /// How many problems it has.
    pub(crate) fn len(&self) -> usize {
        1 + self.again.len() + self.also.len()
    }

    fn has(&self, moment: &Moment) -> bool {
        let all = self.again.iter().chain(&self.also);
        all.chain([&self.first])
            .any(|problem| problem.at.seq == moment.seq)
    }
}

fn moment_text(moment: &Moment, clock: &Clock) -> String {
    format!(
        "{} {} {}",
        clock.of_day(moment.ts),
        moment.event_type,
        moment.text
    )
}

/// What an answer says that is an error, or why that is not known. The pages that servers make for people say what the status says.
fn answer_of(request: &Request) -> Option<String> {
    let response = (request.response.as_ref())
        .filter(|it| 400 <= it.status && it.mime_type.as_deref() != Some("text/html"))?;
    if let Some(omitted) = response.body_omitted {
        return Some(omitted.words().to_owned());
    }
    let text = one_line(response.body.as_deref()?, ANSWER);
    (!text.is_empty()).then_some(text)
}

/// Who asked for it.
pub(crate) fn asked_by(request: &Request) -> String {
    let what = match request.initiator_type.as_str() {
        "" => "unknown",
        kind => kind,
    };
    match (
        &request.initiator_url,
        request.initiator_line,
        &*request.document_url,
    ) {
        (Some(file), Some(line), _) => format!("line {line} of {file} ({what})"),
        (Some(file), None, _) => format!("{file} ({what})"),
        (None, _, "") => what.to_owned(),
        (None, _, document) => format!("{document} ({what})"),
    }
}
