//! An event as a line for people: `12:09:18.721     4 console     console_log   hello`.

use std::io;

use anstyle::{AnsiColor, Style};
use tapline_client::StreamedEvent;
use tapline_insight::{Summary, one_line, summary};
use tapline_oapi::Category;

/// The longest text of an event that is shown, in characters: a line of it, most of the time.
const MAX_TEXT_CHARS: usize = 200;

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

/// Writes the line of one event, its line break included.
pub(crate) fn write(
    out: &mut impl io::Write,
    streamed: &StreamedEvent,
    palette: Palette,
) -> io::Result<()> {
    let seq = streamed.seq();
    let Ok(envelope) = streamed.envelope() else {
        // From a newer server, perhaps with a category of its own: better raw than not at all.
        return writeln!(out, "{:12} {seq:>6} {}", "", printable(streamed.json()));
    };
    let event = envelope.event;
    let (time, dim) = (time_of_day(event.ts), palette.dim);
    let category = event.category;
    let colour = palette.categories[category.index()];
    let name = printable(event.event_type.as_str());
    let Summary { text, is_error } = summary(&event);
    let emphasis = if is_error {
        palette.error
    } else {
        Style::new()
    };
    let text = printable(&text);
    writeln!(
        out,
        "{dim}{time} {seq:>6}{dim:#} {colour}{category:<11}{colour:#} {name:<23} {emphasis}{text}{emphasis:#}"
    )
}

/// `12:09:18.721`, UTC.
fn time_of_day(ts: u64) -> String {
    let micros = i64::try_from(ts).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(time) => time.strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => format!("{:12}", "?"),
    }
}

/// `text` on one line, cut where it is long, and with nothing in it that a terminal would obey: what
/// a page writes to its console is the page's choice.
pub(crate) fn printable(text: &str) -> String {
    one_line(text, MAX_TEXT_CHARS)
}

/// A producer may have broken lines between the tokens of its `data`, and only there: a space is as
/// good to JSON, and keeps one envelope a line.
pub(crate) fn one_line_of_json(json: &str) -> std::borrow::Cow<'_, str> {
    if json.contains('\n') {
        json.replace('\n', " ").into()
    } else {
        json.into()
    }
}

#[cfg(test)]
mod tests {
    use tapline_oapi::Event;

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

    #[test]
    fn times_are_utc() {
        assert_eq!(time_of_day(1_795_349_358_733_796), "12:09:18.733");
        assert_eq!(time_of_day(u64::MAX).trim_end(), "?");
    }
}
