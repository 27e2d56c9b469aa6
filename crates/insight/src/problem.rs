//! Problems with their surroundings.

use std::collections::VecDeque;

use tapline_oapi::data::{CaptchaStatus, ChallengeStatus, EventData};
use tapline_oapi::joins::{At, Moment, Outcome, Place, Problem, ProblemKind, Request};
use tapline_oapi::{CategorySet, Envelope};

use crate::input::Lost;
use crate::request::{caused_by, shortened};
use crate::words::{Summary, one_line};

/// What is shown around a problem is at most this far away, in microseconds.
const AROUND: u64 = 2_000_000;

/// How many moments are kept before a problem, and as many after it.
const MOMENTS: usize = 8;

/// How many moments are remembered for the problems to come.
const REMEMBERED: usize = 256;

/// A line of the console and the request that it is about may be this far apart, in microseconds: a response is
/// reported when its body was read.
const CONSOLE_APART: u64 = 15_000_000;

/// How many problems back something is looked for.
const RECENT: usize = 256;

/// The longest text of a problem, and of a moment, in characters.
const MAX_TEXT: usize = 1000;
const MAX_MOMENT: usize = 200;

/// A moment, and where it was.
#[derive(Debug)]
struct Remembered {
    moment: Moment,
    target_id: Option<String>,
}

/// A problem that is kept.
#[derive(Debug)]
struct Entry {
    problem: Problem,
    /// The number of the exception within its target.
    exception_id: Option<u64>,
    /// The address that a line of the console is about.
    source_url: Option<String>,
}

/// A request with a problem, for the lines of the console that are about it.
#[derive(Debug)]
struct FailedRequest {
    url: String,
    seq: u64,
    ts: u64,
    /// Whether a line of the console is about it: there is one for each.
    has_line: bool,
}

/// What is known about the event of a problem.
pub(crate) struct Occurred<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) place: Place,
    pub(crate) navigation: Option<u64>,
}

/// All problems that are kept, by the order in which they were read.
#[derive(Debug)]
pub(crate) struct Problems {
    most: usize,
    run: u64,
    entries: VecDeque<Entry>,
    /// How many of the last entries may not be settled.
    unsettled: usize,
    recent: VecDeque<Remembered>,
    failed: VecDeque<FailedRequest>,
    /// What is captured, if it is known.
    captured: Option<CategorySet>,
    /// When something was lost for the last time, and how much.
    last_loss: Option<(u64, u64)>,
    /// The time of the last event.
    now: u64,
    last_seq: u64,
}

impl Problems {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            run: 0,
            entries: VecDeque::new(),
            unsettled: 0,
            recent: VecDeque::new(),
            failed: VecDeque::new(),
            captured: None,
            last_loss: None,
            now: 0,
            last_seq: 0,
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Problem> + ExactSizeIterator {
        self.entries.iter().map(|entry| &entry.problem)
    }

    /// Every event, before it is looked at.
    pub(crate) fn passed(&mut self, envelope: &Envelope) {
        self.now = envelope.event.ts;
        self.last_seq = envelope.seq;
        let now = self.now;
        for entry in self.entries.iter_mut().rev().take(self.unsettled) {
            let problem = &mut entry.problem;
            let settles = problem.ts.saturating_add(AROUND) < now;
            if settles && !problem.is_settled {
                problem.is_settled = true;
                problem.updated = envelope.seq;
            }
        }
        let settled_last = |entries: &VecDeque<Entry>, unsettled: usize| {
            let index = entries.len() - unsettled;
            entries
                .get(index)
                .is_some_and(|entry| entry.problem.is_settled)
        };
        while 0 < self.unsettled && settled_last(&self.entries, self.unsettled) {
            self.unsettled -= 1;
        }
    }

    /// Every event that matters, after it was looked at: it may be what happened around a problem.
    pub(crate) fn happened(
        &mut self,
        envelope: &Envelope,
        target_id: Option<&str>,
        summary: &Summary,
    ) {
        let moment = Moment {
            seq: envelope.seq,
            ts: envelope.event.ts,
            event_type: one_line(envelope.event.event_type.as_str(), MAX_MOMENT),
            text: one_line(&summary.text, MAX_MOMENT),
        };
        for entry in self.entries.iter_mut().rev().take(self.unsettled) {
            let problem = &mut entry.problem;
            let is_around = problem.at.seq < moment.seq
                && problem.at.run == self.run
                && !problem.is_settled
                && problem.ts.abs_diff(moment.ts) <= AROUND;
            if is_around && is_near(problem.place.target_id.as_deref(), target_id) {
                add_moment(problem, moment.clone());
                problem.updated = moment.seq;
                problem.is_settled = MOMENTS <= problem.after.len();
            }
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(Remembered {
            moment,
            target_id: target_id.map(|id| one_line(id, MAX_MOMENT)),
        });
    }

    /// A request has ended, or was answered. It may have been a problem before, and be none any more.
    pub(crate) fn request(&mut self, occurred: Occurred<'_>, request: &Request) {
        let status = request.status().unwrap_or(0);
        let kind = match &request.failure {
            Some(failure) if failure.is_blocked() => Some(ProblemKind::RequestBlocked),
            Some(_) if request.was_given_up() => None,
            Some(_) => Some(ProblemKind::RequestFailed),
            None if 400 <= status && !matches!(request.outcome, Outcome::Pending) => {
                Some(ProblemKind::HttpError)
            }
            None => None,
        };
        let seq = request.at.seq;
        let has = self.entries.iter_mut().rev().take(RECENT).find(|entry| {
            let problem = &entry.problem;
            problem.request == Some(seq)
                && problem.at.run == request.at.run
                && problem.withdrawn.is_none()
                && matches!(
                    problem.kind,
                    ProblemKind::RequestFailed
                        | ProblemKind::RequestBlocked
                        | ProblemKind::HttpError
                )
        });
        if let Some(entry) = has {
            if kind == Some(entry.problem.kind) {
                return;
            }
            entry.problem.withdrawn = Some(occurred.envelope.seq);
            entry.problem.updated = occurred.envelope.seq;
        }
        let Some(kind) = kind else {
            return;
        };
        let now = occurred.envelope.event.ts;
        // The console may have said so before: in one line, the first that is about no other request.
        let mut lines = self.entries.iter_mut().rev().take(RECENT).filter(|entry| {
            entry.problem.request.is_none()
                && entry.problem.at.run == self.run
                && entry.source_url.as_deref() == Some(&request.url)
                && entry.problem.ts.abs_diff(now) <= CONSOLE_APART
        });
        let line = lines.next_back();
        let has_line = line.is_some();
        if let Some(entry) = line {
            entry.problem.request = Some(seq);
            entry.problem.updated = occurred.envelope.seq;
        }
        if self.failed.len() == RECENT {
            self.failed.pop_front();
        }
        self.failed.push_back(FailedRequest {
            url: one_line(&request.url, MAX_TEXT),
            seq,
            ts: now,
            has_line,
        });
        let mut problem = self.problem(occurred, kind, &request.sentence());
        problem.request = Some(seq);
        problem.caused_by = problem.caused_by.or(request.caused_by);
        self.add(problem, None, None);
    }

    /// Every event that is no request. Records the problem that it is, if it is one.
    pub(crate) fn event(
        &mut self,
        occurred: Occurred<'_>,
        data: &EventData,
        request: Option<u64>,
        summary: &Summary,
    ) {
        let (mut exception, mut source_url) = (None, None);
        let kind = match data {
            EventData::ConsoleError(it) => {
                exception = it.exception_id;
                if it.log_source.as_deref() == Some("network") {
                    source_url.clone_from(&it.source_url);
                }
                match it.level {
                    Some(_) => ProblemKind::ConsoleError,
                    None => ProblemKind::Exception,
                }
            }
            EventData::ConsoleLog(it) => {
                if let Some(id) = it.exception_id {
                    self.take_back(occurred.envelope, &occurred.place, id);
                }
                return;
            }
            EventData::ProxyError(_) => ProblemKind::ProxyError,
            EventData::PageCrashed(_) => ProblemKind::PageCrashed,
            EventData::MonitorDisconnected(_) => ProblemKind::BrowserLost,
            EventData::MonitorReconnectFailed(_) | EventData::MonitorInitFailed(_) => {
                ProblemKind::CollectorFailed
            }
            EventData::ServiceCrashed(_) => ProblemKind::ServiceCrashed,
            EventData::SystemOomKill(_) => ProblemKind::OutOfMemory,
            EventData::ApiCall(it) | EventData::PlatformApiCall(it) if 400 <= it.status => {
                ProblemKind::ApiError
            }
            EventData::CaptchaSolveResult(it) if it.status != CaptchaStatus::Success => {
                ProblemKind::CaptchaFailed
            }
            EventData::CaptchaChallengeResult(it)
                if matches!(
                    it.status,
                    ChallengeStatus::Failure | ChallengeStatus::Timeout
                ) =>
            {
                ProblemKind::CaptchaFailed
            }
            _ => return,
        };
        let text = match kind {
            ProblemKind::PageCrashed => with_details("the page crashed", &summary.text),
            ProblemKind::BrowserLost => with_details("the browser was lost", &summary.text),
            ProblemKind::CollectorFailed => with_details("the collector failed", &summary.text),
            _ => summary.text.clone(),
        };
        let now = occurred.envelope.event.ts;
        let mut problem = self.problem(occurred, kind, &text);
        problem.request = request.or_else(|| {
            let url = one_line(source_url.as_deref()?, MAX_TEXT);
            // Oldest first: lines of the console come in the order in which requests fail.
            let found = self
                .failed
                .iter_mut()
                .find(|it| !it.has_line && it.url == url && it.ts.abs_diff(now) <= CONSOLE_APART)?;
            found.has_line = true;
            Some(found.seq)
        });
        self.add(problem, exception, source_url);
    }

    /// A program logged an error.
    pub(crate) fn log_error(&mut self, envelope: &Envelope, summary: &Summary) {
        let occurred = Occurred {
            envelope,
            place: Place::default(),
            navigation: None,
        };
        let problem = self.problem(occurred, ProblemKind::LogError, &summary.text);
        self.add(problem, None, None);
    }

    /// A rejection was handled after it had been reported.
    fn take_back(&mut self, envelope: &Envelope, place: &Place, exception: u64) {
        let found = self.entries.iter_mut().rev().take(RECENT).find(|entry| {
            entry.exception_id == Some(exception)
                && entry.problem.at.run == self.run
                && entry.problem.place.target_id == place.target_id
        });
        if let Some(entry) = found {
            entry.problem.withdrawn = Some(envelope.seq);
            entry.problem.updated = envelope.seq;
        }
    }

    /// Events are missing.
    pub(crate) fn lost(&mut self, lost: Lost) {
        let count = lost.at_most();
        for entry in self.entries.iter_mut().rev().take(self.unsettled) {
            if !entry.problem.is_settled {
                entry.problem.lost = entry.problem.lost.saturating_add(count);
                entry.problem.updated = lost.to;
            }
        }
        let (from, to) = (lost.from, lost.to);
        let text = match lost.count {
            Some(count) => format!("{count} events are missing (seq {from} to {to})"),
            None => format!("up to {count} events are missing (seq {from} to {to})"),
        };
        let mut problem = self.at_boundary(ProblemKind::EventsLost, from, text);
        problem.lost = count;
        problem.updated = to;
        self.add(problem, None, None);
        self.last_loss = Some((self.now, count));
    }

    /// The server was restarted.
    pub(crate) fn restarted(&mut self) {
        let text = "the server was restarted".to_owned();
        let mut problem = self.at_boundary(ProblemKind::Restart, self.last_seq, text);
        problem.is_settled = true;
        self.add(problem, None, None);
        self.run += 1;
        self.recent.clear();
        self.failed.clear();
        for entry in self.entries.iter_mut().rev().take(self.unsettled) {
            entry.problem.is_settled = true;
        }
        self.unsettled = 0;
        self.last_loss = None;
    }

    pub(crate) fn captured(&mut self, captured: CategorySet) {
        self.captured = Some(captured);
    }

    /// Nothing will follow.
    pub(crate) fn settle_all(&mut self) {
        for entry in self.entries.iter_mut().rev().take(self.unsettled) {
            entry.problem.is_settled = true;
        }
        self.unsettled = 0;
    }

    /// Removes the oldest while more are kept than allowed.
    pub(crate) fn over_limit(&mut self) -> Option<Problem> {
        if self.entries.len() <= self.most {
            None
        } else {
            self.pop()
        }
    }

    /// Removes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Problem> {
        let problem = self.entries.pop_front()?.problem;
        self.unsettled = self.unsettled.min(self.entries.len());
        Some(problem)
    }

    fn add(&mut self, problem: Problem, exception_id: Option<u64>, source_url: Option<String>) {
        self.entries.push_back(Entry {
            problem,
            exception_id,
            source_url: source_url.map(|url| one_line(&url, MAX_TEXT)),
        });
        self.unsettled += 1;
    }

    fn problem(&self, occurred: Occurred<'_>, kind: ProblemKind, text: &str) -> Problem {
        let Occurred {
            envelope,
            place,
            navigation,
        } = occurred;
        let ts = envelope.event.ts;
        let not_captured = self.captured.map_or(CategorySet::EMPTY, |captured| {
            CategorySet::ALL
                .iter()
                .filter(|it| !captured.contains(*it))
                .collect()
        });
        let lost = self
            .last_loss
            .filter(|(when, _)| when.abs_diff(ts) <= AROUND);
        let near = self.recent.iter().filter(|it| {
            it.moment.ts.abs_diff(ts) <= AROUND
                && is_near(place.target_id.as_deref(), it.target_id.as_deref())
        });
        let mut problem = Problem {
            at: At {
                run: self.run,
                seq: envelope.seq,
            },
            ts,
            kind,
            text: one_line(text, MAX_TEXT),
            place: shortened(place.clone()),
            request: None,
            navigation,
            caused_by: caused_by(envelope),
            before: Vec::new(),
            after: Vec::new(),
            is_settled: false,
            lost: lost.map_or(0, |(_, count)| count),
            not_captured,
            withdrawn: None,
            updated: envelope.seq,
        };
        for it in near {
            add_moment(&mut problem, it.moment.clone());
        }
        problem
    }

    /// A problem of the stream itself.
    fn at_boundary(&self, kind: ProblemKind, seq: u64, text: String) -> Problem {
        Problem {
            at: At { run: self.run, seq },
            ts: self.now,
            kind,
            text,
            place: Place::default(),
            request: None,
            navigation: None,
            caused_by: None,
            before: Vec::new(),
            after: Vec::new(),
            is_settled: false,
            lost: 0,
            not_captured: CategorySet::EMPTY,
            withdrawn: None,
            updated: seq,
        }
    }
}

/// Enters what happened before or after a problem, by its time: an event may be read after one that happened later, as a
/// response is reported when its body was read.
fn add_moment(problem: &mut Problem, moment: Moment) {
    let time = |it: &Moment| (it.ts, it.seq);
    let is_before = time(&moment) < (problem.ts, problem.at.seq);
    let moments = match is_before {
        true => &mut problem.before,
        false => &mut problem.after,
    };
    let place = moments.partition_point(|it| time(it) < time(&moment));
    moments.insert(place, moment);
    // The nearest are kept.
    if MOMENTS < moments.len() {
        match is_before {
            true => drop(moments.remove(0)),
            false => drop(moments.pop()),
        }
    }
}

/// `what`, and behind it the details, if there are any.
fn with_details(what: &str, details: &str) -> String {
    match details {
        "" => what.to_owned(),
        _ => format!("{what}: {details}"),
    }
}

/// Whether both are of one target, or one is of the machine or the stream.
fn is_near(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

/// Whether an event says something about what happened around a problem: not each request that went well. Every
/// event that is a problem matters.
pub(crate) fn matters(data: &EventData) -> bool {
    match data {
        EventData::NetworkResponse(it) => 400 <= it.status,
        EventData::NetworkResponseEnd(it) => it.error_text.is_some(),
        EventData::NetworkWebsocketClosed(it) => it.error_text.is_some(),
        EventData::NetworkRequest(_)
        | EventData::NetworkIdle(_)
        | EventData::NetworkWebsocketMessage(_)
        | EventData::PageLayoutShift(_)
        | EventData::PageLcp(_) => false,
        _ => true,
    }
}
