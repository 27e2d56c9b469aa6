//! An event as a line for people: `12:09:18.721     4 console     console_log   hello`.

use std::borrow::Cow;
use std::io;

use anstyle::{AnsiColor, Style};
use tapline_client::StreamedEvent;
use tapline_insight::{Summary, one_line, summary};
use tapline_oapi::{Category, Envelope, Event};

use crate::figures::{Clock, counted};

/// The longest text of an event that is shown, in characters: a line of it, most of the time.
const MAX_TEXT_CHARS: usize = 200;

/// How many lines of a text are shown below the first one, and how far they are moved to the right.
const MAX_MORE_LINES: usize = 8;
const INDENT: usize = 22;

/// What things look like; all plain where there is no colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Palette {
    pub(crate) warning: Style,
    pub(crate) dim: Style,
    categories: [Style; Category::COUNT],
    error: Style,
}

impl Palette {
    pub(crate) const PLAIN: Self = Self {
        warning: Style::new(),
        dim: Style::new(),
        categories: [Style::new(); Category::COUNT],
        error: Style::new(),
    };

    pub(crate) const COLORED: Self = Self {
        warning: AnsiColor::Yellow.on_default(),
        dim: Style::new().dimmed(),
        categories: [
            AnsiColor::Cyan.on_default(),          // console
            AnsiColor::Blue.on_default(),          // network
            AnsiColor::Green.on_default(),         // page
            AnsiColor::Magenta.on_default(),       // interaction
            AnsiColor::BrightBlue.on_default(),    // control
            AnsiColor::BrightBlack.on_default(),   // platform
            AnsiColor::BrightCyan.on_default(),    // connection
            AnsiColor::BrightMagenta.on_default(), // screenshot
            AnsiColor::BrightGreen.on_default(),   // captcha
            AnsiColor::BrightRed.on_default(),     // system
            AnsiColor::BrightYellow.on_default(),  // monitor
        ],
        error: AnsiColor::Red.on_default(),
    };
}

/// How events are written.
pub(crate) struct Lines {
    palette: Palette,
    clock: Clock,
    /// The time of the event before, where times are shown as their distance.
    before: Option<Option<u64>>,
}

impl Lines {
    /// `relative`: times are shown as the distance from the event before.
    pub(crate) fn new(palette: Palette, clock: Clock, relative: bool) -> Self {
        Self {
            palette,
            clock,
            before: relative.then_some(None),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Writes an event: a line, and below it the rest of a text of several lines, such as a stack.
    pub(crate) fn write(
        &mut self,
        out: &mut impl io::Write,
        envelope: &Envelope,
    ) -> io::Result<()> {
        let event = &envelope.event;
        let (time, dim) = (self.time(event.ts), self.palette.dim);
        let category = event.category;
        let colour = self.palette.categories[category.index()];
        let name = printable(event.event_type.as_str());
        let Summary { text, is_error } = summary(event);
        let emphasis = match is_error {
            true => self.palette.error,
            false if is_warning(event) => self.palette.warning,
            false => Style::new(),
        };
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let first = printable(lines.next().unwrap_or_default());
        let seq = envelope.seq;
        writeln!(
            out,
            "{dim}{time:>12} {seq:>6}{dim:#} {colour}{category:<11}{colour:#} {name:<23} {emphasis}{first}{emphasis:#}"
        )?;
        for line in lines.by_ref().take(MAX_MORE_LINES) {
            writeln!(
                out,
                "{dim}{:INDENT$}{}{dim:#}",
                "",
                printable(line.trim_start())
            )?;
        }
        match lines.count() {
            0 => Ok(()),
            more => writeln!(
                out,
                "{dim}{:INDENT$}… {}{dim:#}",
                "",
                counted(more as u64, "more line")
            ),
        }
    }

    /// An event from a newer server, perhaps with a category of its own: better raw than not at all.
    pub(crate) fn write_raw(
        &self,
        out: &mut impl io::Write,
        event: &StreamedEvent,
    ) -> io::Result<()> {
        writeln!(
            out,
            "{:12} {:>6} {}",
            "",
            event.seq(),
            printable(event.json())
        )
    }

    fn time(&mut self, ts: u64) -> String {
        let Some(before) = &mut self.before else {
            return self.clock.of_day(ts);
        };
        match before.replace(ts) {
            None => self.clock.of_day(ts),
            Some(before) => format!("{:+.3}", (ts as f64 - before as f64) / 1e6),
        }
    }
}

/// A line of the console at the level warning.
fn is_warning(event: &Event) -> bool {
    #[derive(serde::Deserialize)]
    struct Level<'a> {
        #[serde(borrow)]
        level: Cow<'a, str>,
    }
    event.event_type.as_str() == "console_log"
        && event.data.as_deref().is_some_and(|data| {
            let level = serde_json::from_str::<Level<'_>>(data.get());
            level.is_ok_and(|it| it.level == "warning")
        })
}

/// `text` on one line, cut where it is long, and with nothing in it that a terminal would obey: what
/// a page writes to its console is the page's choice.
pub(crate) fn printable(text: &str) -> String {
    one_line(text, MAX_TEXT_CHARS)
}

/// A producer may have broken lines between the tokens of its `data`, and only there: a space is as
/// good to JSON, and keeps one envelope a line.
pub(crate) fn one_line_of_json(json: &str) -> Cow<'_, str> {
    if json.contains('\n') {
        json.replace('\n', " ").into()
    } else {
        json.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(event: &str, text: &str, is_error: bool) {
        let event: Event = serde_json::from_str(event).unwrap();
        let expected = Summary {
            text: text.to_owned(),
            is_error,
        };
        assert_eq!(summary(&event), expected);
    }

    #[test]
    fn an_envelope_stays_on_one_line() {
        assert_eq!(one_line_of_json("{\"a\":1}"), "{\"a\":1}");
        assert_eq!(one_line_of_json("{\n  \"a\": 1\n}"), "{   \"a\": 1 }");
    }

    #[test]
    fn known_types_in_a_few_words() {
        check(
            r#"{"type":"console_log","category":"console","data":{"level":"log","text":"hello"}}"#,
            "hello",
            false,
        );
        check(
            r#"{"type":"console_log","category":"console","data":{"level":"warning","text":"old"}}"#,
            "warning: old",
            false,
        );
        check(
            r#"{"type":"network_response","category":"network","data":{"request_id":"1","method":"GET","status":404,"headers":{},"url":"http://h/x","mime_type":"text/html"}}"#,
            "404 GET http://h/x text/html",
            true,
        );
        check(
            r#"{"type":"network_response_end","category":"network","data":{"request_id":"71.2","duration_ms":812.4}}"#,
            "71.2 after 812 ms",
            false,
        );
        check(
            r#"{"type":"network_response_end","category":"network","data":{"request_id":"71.2","duration_ms":3.0,"error_text":"net::ERR_ABORTED"}}"#,
            "net::ERR_ABORTED 71.2 after 3 ms",
            true,
        );
        check(
            r#"{"type":"service_crashed","category":"system","data":{"service_name":"chromium","phase":"gave_up"}}"#,
            "chromium, gave up",
            true,
        );
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        check(
            r#"{"type":"mine","category":"page","data":{"a": [1]}}"#,
            r#"{"a": [1]}"#,
            false,
        );
        check(r#"{"type":"mine","category":"page"}"#, "", false);
        // A known type whose data is not as promised.
        check(
            r#"{"type":"console_log","category":"console","data":7}"#,
            "7",
            false,
        );
        let cut = r#"{"type":"console_log","category":"console","data":null,"truncated":true}"#;
        check(cut, "(data left out: too large)", false);
    }

    #[test]
    fn every_event_of_the_recording_has_words() {
        for line in include_str!("../data/browser-events.ndjson").lines() {
            let event: Event = serde_json::from_str(line).unwrap();
            assert!(event.typed_data().is_ok(), "{line}");
            // A tab without an address yet, and a page of which only the target is known.
            let may_be_empty = [
                "page_tab_opened",
                "page_crashed",
                "page_load",
                "page_dom_content_loaded",
            ];
            if !may_be_empty.contains(&event.event_type.as_str()) {
                assert_ne!(summary(&event).text, "", "{line}");
            }
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(
            printable("a\u{1b}[31mb\r\n\tc\u{7}\u{9b}d\u{202e}e"),
            "a [31mb c d e"
        );
        assert_eq!(printable("  x  "), "x");
        assert_eq!(printable(&"é".repeat(300)).chars().count(), 201);
    }

    fn written(lines: &mut Lines, event: &str) -> String {
        let mut out = Vec::new();
        let envelope = format!(r#"{{"seq":7,"event":{event}}}"#);
        lines
            .write(&mut out, &serde_json::from_str(&envelope).unwrap())
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stack_stands_below_its_line_and_is_cut() {
        let mut lines = Lines::new(Palette::PLAIN, Clock::new(true), false);
        let stack = r#"{"ts":1,"type":"console_error","category":"console","data":{"text":"Error: x\n    at f (a.js:1)\n\n    at g\u001b[2J"}}"#;
        assert_eq!(
            written(&mut lines, stack),
            "00:00:00.000      7 console     console_error           Error: x\n\
             \u{20}                     at f (a.js:1)\n\
             \u{20}                     at g [2J\n"
        );
        let long = format!(
            r#"{{"ts":1,"type":"console_error","category":"console","data":{{"text":"{}"}}}}"#,
            "x\\n".repeat(20)
        );
        let long = written(&mut lines, &long);
        assert_eq!(long.lines().count(), 1 + MAX_MORE_LINES + 1);
        assert!(long.ends_with("… 11 more lines\n"), "{long}");
    }

    #[test]
    fn relative_times_are_the_distance_from_the_event_before() {
        let mut lines = Lines::new(Palette::PLAIN, Clock::new(true), true);
        let mut at = |ts: u64| {
            let event =
                format!(r#"{{"ts":{ts},"type":"page_load","category":"page","data":null}}"#);
            written(&mut lines, &event)[..12].to_owned()
        };
        assert_eq!(
            [at(1_000_000), at(1_012_000), at(900_000)],
            ["00:00:01.000", "      +0.012", "      -0.112"]
        );
    }

    #[test]
    fn warnings_have_a_colour() {
        let mut lines = Lines::new(Palette::COLORED, Clock::new(true), false);
        let warning = r#"{"ts":1,"type":"console_log","category":"console","data":{"level":"warning","text":"old"}}"#;
        let yellow = "\u{1b}[33mwarning: old";
        assert!(written(&mut lines, warning).contains(yellow));
        assert!(
            !written(&mut lines, &warning.replace("\"warning\"", "\"log\"")).contains("\u{1b}[33m")
        );
    }
}
