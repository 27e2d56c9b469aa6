//! What each tool answers.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use serde_json::Value;
use tapline_client::{PageOptions, PageOrder, WaitOptions};
use tapline_insight::{Finding, Input, Insight, Options, Request, Tally, one_line};
use tapline_oapi::{Category, Cursor, Envelope, EventType, KnownType};
use tokio::sync::Semaphore;

use super::budget::{self, Keep};
use super::tools::{Arguments, Needs, ToolSpec};
use crate::args::Remote;
use crate::args::look::Sort;
use crate::failure::Failure;
use crate::figures::{self, Clock, counted};
use crate::inputs::{self, Wanted};
use crate::line::printable;
use crate::redaction::Redaction;
use crate::why::asked_by;
use crate::{misspelt, requests, session, token, why};

/// How many calls read events at the same time: each may need some 100 MiB.
const READING: usize = 2;

/// How many problems are kept of a range: far more than fit into an answer.
const PROBLEMS: usize = 500;

/// How many lines of a console are kept: far more than fit into an answer.
const LINES: usize = 5_000;

/// How much of an address is shown in a list, in characters.
const ADDRESS: usize = 120;

/// What the answers are about.
pub(super) struct Answers {
    remote: Remote,
    file: Option<PathBuf>,
    read_only: bool,
    redaction: Redaction,
    reading: Semaphore,
}

/// What an agent gets.
pub(super) enum Answer {
    Text(String),
    Picture {
        text: String,
        /// In base64.
        png: String,
    },
}

/// Why there is no answer, in words for the agent.
enum Refusal {
    Failure(Failure),
    Words(String),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<tapline_client::Error> for Refusal {
    fn from(error: tapline_client::Error) -> Self {
        Self::Failure(error.into())
    }
}

impl Answers {
    pub(super) fn new(remote: Remote, file: Option<PathBuf>, read_only: bool) -> Self {
        Self {
            remote,
            file,
            read_only,
            redaction: Redaction::default(),
            reading: Semaphore::new(READING),
        }
    }

    /// Whether a tool makes sense here.
    pub(super) fn offers(&self, tool: &ToolSpec) -> bool {
        match tool.needs {
            Needs::Nothing => true,
            Needs::Server => self.file.is_none(),
            Needs::Changes => self.file.is_none() && !self.read_only,
        }
    }

    /// The answer, of at most `max_bytes` bytes.
    ///
    /// # Errors
    ///
    /// A text for the agent, within the same limit.
    pub(super) async fn answer(
        &self,
        tool: &ToolSpec,
        arguments: &Arguments,
    ) -> Result<Answer, String> {
        // It reads no events, and lasts.
        let _permit = match tool.needs == Needs::Nothing {
            true => self.reading.acquire().await.ok(),
            false => None,
        };
        let answer = match tool.name {
            "why" => self.why(arguments).await,
            "list_requests" => self.list_requests(arguments).await,
            "get_request" => self.get_request(arguments).await,
            "list_console" => self.list_console(arguments).await,
            "get_event" => self.get_event(arguments).await,
            "screenshot" => return self.screenshot(arguments).await.map_err(in_words),
            "wait_for" => self.wait_for(arguments).await,
            "start" => self.start(arguments).await,
            "stop" => self.stop().await,
            _ => self.status(arguments).await,
        };
        let text = answer.map_err(in_words)?;
        Ok(Answer::Text(budget::cut(text, arguments.max_bytes())))
    }

    fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The range that was asked for, without secrets.
    fn wanted<'a>(&'a self, arguments: &'a Arguments) -> Wanted<'a> {
        Wanted {
            since: arguments.text("since"),
            until: arguments.text("until"),
            redaction: Some(&self.redaction),
            ..Wanted::default()
        }
    }

    async fn why(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let wanted = self.wanted(arguments);
        let looked = why::look(&self.remote, self.file(), wanted, PROBLEMS).await?;
        let clock = Clock::new(true);
        let mut head = looked.headline(&clock) + "\n";
        for note in looked.notes() {
            head.push_str(&format!("{note}\n"));
        }
        let groups = looked.groups();
        let texts: Vec<_> = groups
            .iter()
            .map(|group| {
                let mut text = b"\n".to_vec();
                // A vector takes everything.
                let _ = looked.write_group(&mut text, group, &clock);
                String::from_utf8_lossy(&text).into_owned()
            })
            .collect();
        let rest = |shown: Range<usize>| {
            let number: usize = groups[shown.clone()].iter().map(why::Group::len).sum();
            // What is left out is not later than the last of it; without one, it is earlier than all that was looked at.
            let until = match shown.start.checked_sub(1) {
                Some(last) => groups[last].last(),
                None => looked
                    .problems
                    .iter()
                    .map(|it| it.ts)
                    .min()
                    .unwrap_or(0)
                    .saturating_sub(1),
            };
            match looked.count - number {
                0 => String::new(),
                left => format!(
                    "\nleft out: {}; until={} shows them\n",
                    counted(left as u64, "problem"),
                    rfc_3339(until),
                ),
            }
        };
        Ok(budget::list(
            arguments.max_bytes(),
            &head,
            &texts,
            Keep::Last,
            rest,
        ))
    }

    async fn list_requests(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let contains = arguments.text("contains").map(str::to_lowercase);
        let failed = arguments.is_set("failed");
        let mut seen = 0_u64;
        let mut found = Vec::new();
        let mut take = |request: Box<Request>| {
            seen += 1;
            let is_asked_for = (!failed || request.is_problem())
                && contains
                    .as_ref()
                    .is_none_or(|text| request.url.to_lowercase().contains(text));
            if is_asked_for {
                found.push(request);
            }
        };
        let wanted = Wanted {
            category: &[Category::Network],
            ..self.wanted(arguments)
        };
        let tally = self.requests(wanted, false, &mut take).await?;
        let sort = arguments.text("sort").unwrap_or("start");
        let sort = Sort::from_str(sort, true).map_err(Refusal::Words)?;
        found.sort_by(|a, b| requests::order(a, b, sort));
        let matching = found.len();
        let mut statuses = BTreeMap::new();
        for request in &found {
            *statuses.entry(requests::status(request)).or_insert(0_u64) += 1;
        }
        if let Some(before) = arguments.count("before") {
            let at = found.iter().rposition(|it| it.at.seq == before);
            found.truncate(at.ok_or_else(|| not_listed(before))?);
        }

        let clock = Clock::new(true);
        let mut head = format!("{matching} of {} match", counted(seen, "request"));
        if let (Some(first), Some(last)) = (
            found.iter().map(|it| it.ts).min(),
            found.iter().map(|it| it.ts).max(),
        ) {
            let (first, last) = (clock.day_and_time(first), clock.day_and_time(last));
            head.push_str(&format!(", {first} to {last}"));
        }
        head.push_str(&format!("\n{}", missing(&tally)));
        if 0 < matching {
            head.push_str(&format!(
                "by status: {}\ntime seq status method type size duration address\n",
                by_number(&statuses)
            ));
        }
        let rows: Vec<_> = found.iter().map(|it| row(it, &clock)).collect();
        Ok(newest(arguments, &head, &rows, |shown| {
            let first = found.get(shown).filter(|_| 0 < shown)?;
            let left = counted(shown as u64, "request");
            Some((left, first.at.seq, "failed"))
        }))
    }

    /// Hands the requests of a range to `take`, in no order.
    async fn requests(
        &self,
        wanted: Wanted<'_>,
        contents: bool,
        take: &mut dyn FnMut(Box<Request>),
    ) -> Result<Tally, Refusal> {
        let mut insight = Insight::new(Options {
            contents,
            ..Options::default()
        });
        let mut take = |finding| {
            if let Finding::Request(request) = finding {
                take(request);
            }
        };
        let feed = &mut |input: Input<'_>| {
            insight.feed(input, &mut take);
            Ok(())
        };
        inputs::read(&self.remote, self.file(), wanted, "reading", feed).await?;
        Ok(insight.finish(&mut take))
    }

    async fn get_request(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let seq = arguments.count("seq").unwrap_or_default();
        let mut found: Option<Box<Request>> = None;
        let mut take = |request: Box<Request>| {
            let is_it = [Some(request.at.seq), Some(request.hop_seq)].contains(&Some(seq))
                || request.end.as_ref().is_some_and(|end| end.seq == seq)
                || request.redirects.iter().any(|it| it.seq == Some(seq));
            // Of several runs of a server, the newest.
            if is_it && found.as_ref().is_none_or(|it| it.at <= request.at) {
                found = Some(request);
            }
        };
        let wanted = Wanted {
            category: &[Category::Network, Category::Page],
            ..self.wanted(arguments)
        };
        self.requests(wanted, true, &mut take).await?;
        let Some(request) = found else {
            return Err(Refusal::Words(format!(
                "seq: {seq} is no request that is retained; list_requests shows their seqs, and get_event shows any other event"
            )));
        };
        let mut head = printable(&request.sentence()) + "\n";
        head.push_str(&format!(
            "requested by {}\n",
            printable(&asked_by(&request))
        ));
        let response = request.response.as_ref();
        if let Some(omitted) = response.and_then(|it| it.body_omitted) {
            head.push_str(&format!("the answer: {}\n", omitted.words()));
        }
        let value = serde_json::to_value(&request).unwrap_or_default();
        document("get_request", seq, head, &value, arguments)
    }

    async fn list_console(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let least = match arguments.text("level") {
            Some("error") => 2,
            Some("warning") => 1,
            _ => 0,
        };
        let contains = arguments.text("contains").map(str::to_lowercase);
        let before = arguments.count("before").unwrap_or(u64::MAX);
        let mut seen = 0_u64;
        let mut dropped = 0_usize;
        let mut lost = 0_u64;
        let mut lines: VecDeque<ConsoleLine> = VecDeque::new();
        let feed = &mut |input: Input<'_>| {
            let envelope = match input {
                Input::Event(envelope) => envelope,
                Input::Lost(missing) => {
                    lost = lost.saturating_add(missing.at_most());
                    return Ok(());
                }
                _ => return Ok(()),
            };
            seen += 1;
            let line = ConsoleLine::of(envelope);
            let is_asked_for = least <= line.severity
                && envelope.seq < before
                && contains
                    .as_ref()
                    .is_none_or(|text| line.text.to_lowercase().contains(text));
            if !is_asked_for {
                return Ok(());
            }
            match lines.back_mut().filter(|it| it.text == line.text) {
                Some(same) => same.times += 1,
                None => lines.push_back(line),
            }
            if LINES < lines.len() {
                lines.pop_front();
                dropped += 1;
            }
            Ok(())
        };
        let types = ["console_log".to_owned(), "console_error".to_owned()];
        let wanted = Wanted {
            types: &types,
            ..self.wanted(arguments)
        };
        inputs::read(&self.remote, self.file(), wanted, "reading", feed).await?;

        let clock = Clock::new(true);
        let lost = Tally {
            lost,
            ..Tally::default()
        };
        let mut head = format!(
            "{} of the console in this range\n{}",
            counted(seen, "event"),
            missing(&lost)
        );
        if let Some(first) = lines.front() {
            let first = clock.day_and_time(first.ts);
            head.push_str(&format!("from {first} on: time seq text\n"));
        }
        let rows: Vec<_> = lines.iter().map(|line| line.row(&clock)).collect();
        Ok(newest(arguments, &head, &rows, |shown| {
            let first = lines.get(shown).filter(|_| 0 < shown + dropped)?;
            let left = counted((shown + dropped) as u64, "line");
            Some((left, first.seq, "level"))
        }))
    }

    async fn get_event(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let seq = arguments.count("seq").unwrap_or_default();
        let envelope = self.event(seq).await?;
        let envelope = self.redaction.envelope(&envelope);
        let event = &envelope.event;
        let head = format!(
            "seq {seq}, {}\n",
            Clock::new(true).day_and_time(envelope.event.ts)
        );
        let value = serde_json::to_value(event).unwrap_or_default();
        document("get_event", seq, head, &value, arguments)
    }

    /// The event of this seq, as it was published; of several runs in a file, that of the last.
    async fn event(&self, seq: u64) -> Result<Envelope, Refusal> {
        let mut found = None;
        if self.file.is_none() {
            let options = PageOptions {
                after: Some(Cursor::from(seq - 1)),
                limit: 1,
                ..PageOptions::default()
            };
            let page = token::client(&self.remote)?.page(&options).await?;
            found = page.envelopes.into_iter().find(|it| it.seq == seq);
        } else {
            let feed = &mut |input: Input<'_>| {
                if let Input::Event(envelope) = input
                    && envelope.seq == seq
                {
                    found = Some(envelope.clone());
                }
                Ok(())
            };
            let wanted = Wanted::default();
            inputs::read(&self.remote, self.file(), wanted, "reading", feed).await?;
        }
        found.ok_or_else(|| {
            Refusal::Words(format!(
                "seq: {seq} is not retained any more, or not published yet; status shows the newest"
            ))
        })
    }

    async fn screenshot(&self, arguments: &Arguments) -> Result<Answer, Refusal> {
        /// The most bytes of an answer where the agent sets no limit.
        const DEFAULT: u64 = 1_000_000;
        /// The most bytes of the text beside the picture.
        const TEXT: usize = 200;
        let types = ["monitor_screenshot".to_owned()];
        let found = match (arguments.count("seq"), self.file()) {
            (Some(seq), _) => Some(self.event(seq).await?),
            (None, None) => {
                let options = PageOptions {
                    order: PageOrder::NewestFirst,
                    limit: 1,
                    types: types.to_vec(),
                    ..PageOptions::default()
                };
                let page = token::client(&self.remote)?.page(&options).await?;
                page.envelopes.into_iter().next()
            }
            (None, file) => {
                let mut newest = None;
                let feed = &mut |input: Input<'_>| {
                    if let Input::Event(envelope) = input {
                        newest = Some(envelope.clone());
                    }
                    Ok(())
                };
                let wanted = Wanted {
                    types: &types,
                    ..Wanted::default()
                };
                inputs::read(&self.remote, file, wanted, "reading", feed).await?;
                newest
            }
        };
        let none = || {
            Refusal::Words(
                "no screenshot is retained; a session that captures `screenshot` makes some as the page changes"
                    .to_owned(),
            )
        };
        let envelope = found.ok_or_else(none)?;
        let seq = envelope.seq;
        let Some(png) = picture(&envelope) else {
            let text = format!("seq: {seq} is no screenshot; without seq it is the newest one");
            return Err(Refusal::Words(text));
        };
        let most = arguments.count("max_bytes").unwrap_or(DEFAULT);
        let needed = png.len() + TEXT;
        if most < needed as u64 {
            return Err(Refusal::Words(format!(
                "the screenshot at seq {seq} needs max_bytes={needed}"
            )));
        }
        let time = Clock::new(true).day_and_time(envelope.event.ts);
        let text = format!("screenshot at seq {seq}, {time}");
        Ok(Answer::Picture { text, png })
    }

    async fn wait_for(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let after = arguments.text("after").map(|text| {
            let cursor = text.parse::<Cursor>();
            cursor.map_err(|error| Refusal::Words(format!("after: {}: {error}", printable(text))))
        });
        let seconds = arguments.count("timeout").unwrap_or(20);
        let types = arguments.texts("type");
        // An agent reads nothing until the answer is there: a name that is likely misspelt is not waited for.
        let notes = misspelt::notes(&types);
        let timeout = match notes.is_empty() {
            true => Duration::from_secs(seconds),
            false => Duration::ZERO,
        };
        let options = WaitOptions {
            after: after.transpose()?,
            categories: arguments.categories(),
            types,
            timeout,
        };
        let waited = session::waited(&token::client(&self.remote)?, options).await?;
        let mut head = match waited.lost {
            0 => String::new(),
            lost => format!(
                "missing: {} that may have matched were evicted before they could be checked\n",
                counted(lost, "event")
            ),
        };
        let Some(cursor) = waited.cursor() else {
            let result = match notes.is_empty() {
                true => format!("no such event within {seconds} s"),
                false => "no such event yet, and not waited for one".to_owned(),
            };
            head.push_str(&format!(
                "{result}; after={}-{} continues\n",
                waited.head, waited.epoch
            ));
            for note in &notes {
                head.push_str(&format!("{note}\n"));
            }
            if !notes.is_empty() {
                head.push_str("If a program publishes it, put * behind it: that is waited for.\n");
            }
            return Ok(head);
        };
        let Some(envelope) = &waited.envelope else {
            return Ok(head);
        };
        let envelope = self.redaction.envelope(envelope);
        let time = Clock::new(true).day_and_time(envelope.event.ts);
        let seq = envelope.seq;
        head.push_str(&format!(
            "seq {seq}, {time}; after={cursor} waits for the next one\n"
        ));
        let value = serde_json::to_value(&envelope.event).unwrap_or_default();
        document("get_event", seq, head, &value, arguments)
    }

    async fn start(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let client = token::client(&self.remote)?;
        Ok(session::start_text(&client, arguments.categories()).await?)
    }

    async fn stop(&self) -> Result<String, Refusal> {
        Ok(session::stop_text(&token::client(&self.remote)?).await?)
    }

    async fn status(&self, arguments: &Arguments) -> Result<String, Refusal> {
        let text = match self.file() {
            Some(file) => self.file_status(file).await?,
            None => session::status_text(&token::client(&self.remote)?).await?,
        };
        let lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        let rest = |shown: Range<usize>| match lines.len() - shown.len() {
            0 => String::new(),
            left => format!(
                "left out: {}; max_bytes shows more\n",
                counted(left as u64, "line")
            ),
        };
        Ok(budget::list(
            arguments.max_bytes(),
            "",
            &lines,
            Keep::First,
            rest,
        ))
    }

    async fn file_status(&self, file: &Path) -> Result<String, Refusal> {
        let mut categories = BTreeMap::new();
        let mut times: Option<(u64, u64)> = None;
        let (mut events, mut lost) = (0, 0_u64);
        let feed = &mut |input: Input<'_>| {
            match input {
                Input::Event(envelope) => {
                    let event = &envelope.event;
                    events += 1;
                    *categories
                        .entry(event.category.to_string())
                        .or_insert(0_u64) += 1;
                    let (first, last) = times.unwrap_or((event.ts, event.ts));
                    times = Some((first.min(event.ts), last.max(event.ts)));
                }
                Input::Lost(missing) => lost = lost.saturating_add(missing.at_most()),
                _ => {}
            }
            Ok(())
        };
        let wanted = Wanted::default();
        inputs::read(&self.remote, Some(file), wanted, "reading", feed).await?;
        let clock = Clock::new(true);
        let mut text = format!(
            "file      {}\nevents    {events}",
            printable(&file.display().to_string())
        );
        if let Some((first, last)) = times {
            let (first, last) = (clock.day_and_time(first), clock.day_and_time(last));
            text.push_str(&format!(", {first} to {last}\n"));
            text.push_str(&format!("category  {}", by_number(&categories)));
        }
        let lost = Tally {
            lost,
            ..Tally::default()
        };
        Ok(format!("{text}\n{}", missing(&lost)))
    }
}

/// The last of the `rows` that fit. `left_out` says of the first one that is shown how much is before it, the seq from
/// which the page before ends, and an argument of this tool that narrows; `None` where nothing is.
fn newest(
    arguments: &Arguments,
    head: &str,
    rows: &[String],
    left_out: impl Fn(usize) -> Option<(String, u64, &'static str)>,
) -> String {
    let rest = |shown: Range<usize>| match left_out(shown.start) {
        Some((left, seq, narrower)) => format!(
            "left out: {left} before these; before={seq} shows them; {narrower}, contains, since and until narrow\n"
        ),
        None => String::new(),
    };
    budget::list(arguments.max_bytes(), head, rows, Keep::Last, rest)
}

/// A line of a console.
struct ConsoleLine {
    ts: u64,
    seq: u64,
    /// 0, 1 for a warning, 2 for an error.
    severity: u8,
    text: String,
    /// How many times in a row.
    times: u64,
}

impl ConsoleLine {
    fn of(envelope: &Envelope) -> Self {
        let event = &envelope.event;
        let summary = tapline_insight::summary(event);
        let severity = match summary.is_error {
            true => 2,
            // As the summary of a line shows its level.
            false => u8::from(summary.text.starts_with("warning: ")),
        };
        Self {
            ts: event.ts,
            seq: envelope.seq,
            severity,
            text: printable(&summary.text),
            times: 1,
        }
    }

    fn row(&self, clock: &Clock) -> String {
        let error = if self.severity == 2 { "error: " } else { "" };
        let again = match self.times {
            1 => String::new(),
            times => format!(" ({times} times)"),
        };
        let (time, seq, text) = (clock.of_day(self.ts), self.seq, &self.text);
        format!("{time} {seq} {error}{text}{again}\n")
    }
}

/// `12:09:18.010 2 404 GET Script 1.2kB 12ms http://shop/pricing.js`: the address is last, since a page chose it.
fn row(request: &Request, clock: &Clock) -> String {
    let cell = |text: Option<String>| {
        let text = text.unwrap_or_default().replace(' ', "");
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    let mut status = requests::status(request);
    if let Some(reason) = requests::reason(request) {
        status.push_str(&format!("({reason})"));
    }
    format!(
        "{} {} {} {} {} {} {} {}\n",
        clock.of_day(request.ts),
        request.at.seq,
        cell(Some(status)),
        cell(Some(printable(&request.method))),
        cell(request.resource_type.as_deref().map(printable)),
        cell(request.encoded_bytes.map(figures::size)),
        cell(request.duration_ms.map(figures::duration)),
        one_line(&request.url, ADDRESS),
    )
}

/// `head`, and the value as JSON, or only the part of it that was asked for.
fn document(
    tool: &str,
    seq: u64,
    head: String,
    value: &Value,
    arguments: &Arguments,
) -> Result<String, Refusal> {
    let most = arguments.max_bytes();
    // Only get_event and get_request have these.
    let path = arguments.text("path").unwrap_or_default();
    let more = |path: &str, offset: Option<usize>| {
        let path = budget::plain_json(&path.into());
        match offset {
            Some(offset) => format!("{tool} seq={seq} path={path} offset={offset} shows more"),
            None => format!("{tool} seq={seq} path={path} shows more"),
        }
    };
    let Some(value) = value.pointer(path) else {
        return Err(Refusal::Words(format!(
            "path: {} is not in it; {tool} without path shows its fields",
            printable(path)
        )));
    };
    if let (Some(text), false) = (value.as_str(), path.is_empty()) {
        let offset = arguments.count("offset").unwrap_or_default();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let more = |offset| more(path, Some(offset));
        return Ok(budget::part(most, text, offset, more));
    }
    let head = if path.is_empty() { head } else { String::new() };
    let space = most.saturating_sub(head.len());
    Ok(head + &budget::json(space, value, path, more))
}

/// The picture of a screenshot, in base64.
fn picture(envelope: &Envelope) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Screenshot {
        png: String,
    }
    let event = &envelope.event;
    if event.event_type != EventType::Known(KnownType::MonitorScreenshot) {
        return None;
    }
    let screenshot: Screenshot = serde_json::from_str(event.data.as_ref()?.get()).ok()?;
    // Any producer can publish one. This is how base64 of a PNG begins.
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    (screenshot.png.starts_with("iVBORw0KGgo") && screenshot.png.bytes().all(is_base64))
        .then_some(screenshot.png)
}

/// What keeps a list from being whole.
fn missing(tally: &Tally) -> String {
    match tally.lost {
        0 => String::new(),
        lost => format!(
            "{} at most are missing: there may have been more\n",
            counted(lost, "event")
        ),
    }
}

/// `200 ×12, 404 ×3`, the most frequent first.
fn by_number(numbers: &BTreeMap<String, u64>) -> String {
    /// How many are named.
    const NAMED: usize = 12;
    let mut numbers: Vec<_> = numbers.iter().collect();
    numbers.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let named = numbers.iter().take(NAMED);
    let mut texts: Vec<_> = named
        .map(|(name, number)| format!("{name} ×{number}"))
        .collect();
    if NAMED < numbers.len() {
        let others: u64 = numbers[NAMED..].iter().map(|(_, number)| **number).sum();
        texts.push(format!("others ×{others}"));
    }
    texts.join(", ")
}

fn not_listed(before: u64) -> Refusal {
    Refusal::Words(format!(
        "before: {before} is not in this list; pass the seq of its first row, and the same filters"
    ))
}

fn rfc_3339(ts: u64) -> String {
    let micros = i64::try_from(ts).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_microsecond(micros);
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// On one line, since a server wrote a part of it.
fn in_words(refusal: Refusal) -> String {
    /// The longest, in characters.
    const MOST: usize = 240;
    let text = match refusal {
        Refusal::Failure(failure) => failure.in_words(),
        Refusal::Words(text) => text,
    };
    // A parameter has the name of the program's flag.
    one_line(text.strip_prefix("--").unwrap_or(&text), MOST)
}
