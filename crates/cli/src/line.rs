//! An event as a line for people: `12:09:18.721     4 console     console_log   hello`.

use std::fmt::Write as _;
use std::io;

use anstyle::{AnsiColor, Style};
use tapline_client::StreamedEvent;
use tapline_oapi::data::EventData;
use tapline_oapi::{Category, Event};

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
    let mut line = String::with_capacity(text.len().min(MAX_TEXT_CHARS + 3));
    let mut was_space = true;
    let mut chars = 0;
    for c in text.chars() {
        let is_space = c.is_whitespace() || c.is_control() || is_invisible(c);
        if is_space && was_space {
            continue;
        }
        if MAX_TEXT_CHARS == chars {
            line.push('…');
            return line;
        }
        line.push(if is_space { ' ' } else { c });
        was_space = is_space;
        chars += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

/// Characters that turn the direction of what follows, by which a line can be made to look like
/// another one.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[derive(Debug, PartialEq, Eq)]
struct Summary {
    text: String,
    is_error: bool,
}

/// What an event says, in a few words.
fn summary(event: &Event) -> Summary {
    let raw = || event.data.as_deref().map_or("", |data| data.get());
    let (text, is_error) = match event.typed_data() {
        Ok(Some(data)) => known(data),
        Ok(None) if event.truncated => ("(data left out: too large)".to_owned(), false),
        _ => (raw().to_owned(), false),
    };
    Summary { text, is_error }
}

/// The words for a known type, and whether something went wrong.
fn known(data: EventData) -> (String, bool) {
    match data {
        EventData::ConsoleLog(it) => match it.level.as_str() {
            "log" => (it.text, false),
            level => (format!("{level}: {}", it.text), false),
        },
        EventData::ConsoleError(it) => (it.text, true),

        EventData::NetworkRequest(it) => {
            let mut text = format!("{} {}", it.method, it.context.url.unwrap_or_default());
            if let Some(from) = it.redirect_url {
                let _ = write!(text, " (redirected from {from})");
            }
            (text, false)
        }
        EventData::NetworkResponse(it) => {
            let url = it.context.url.unwrap_or_default();
            let mut text = format!("{} {} {url}", it.status, it.method);
            if let Some(mime_type) = it.mime_type {
                let _ = write!(text, " {mime_type}");
            }
            if it.open == Some(true) {
                text.push_str(" (still open)");
            }
            (text, 400 <= it.status)
        }
        EventData::NetworkResponseEnd(it) => {
            // The event has no URL: the request's id finds the events that have.
            let request = it.context.url.unwrap_or(it.request_id);
            let text = format!("{request} after {:.0} ms", it.duration_ms);
            match it.error_text {
                Some(error) => (format!("{error} {text}"), true),
                None => (text, false),
            }
        }
        EventData::NetworkWebsocketMessage(it) => {
            let url = it.context.url.unwrap_or_default();
            let text = it.text.unwrap_or_else(|| format!("{} bytes", it.bytes));
            (format!("{} {url} {text}", it.direction), false)
        }
        EventData::NetworkWebsocketClosed(it) => {
            let url = it.context.url.unwrap_or_default();
            let (received, sent) = (it.messages_received, it.messages_sent);
            let code = it.code.map(|code| format!("{code} ")).unwrap_or_default();
            let text = format!("{code}{url} received {received} messages, sent {sent}");
            match it.error_text {
                Some(error) => (format!("{error} {text}"), true),
                None => (text, false),
            }
        }
        EventData::NetworkLoadingFailed(it) => {
            let url = it.context.url.unwrap_or_default();
            let mut text = format!("{} {url}", it.error_text);
            if let Some(reason) = it.blocked_reason.or(it.cors_error) {
                let _ = write!(text, " ({reason})");
            }
            (text, !it.canceled)
        }
        EventData::NetworkIdle(it) => (it.context.url.unwrap_or_default(), false),
        EventData::ProxyError(it) => (format!("{} {}", it.status, it.code), true),

        EventData::PageNavigation(it) => (it.url, false),
        EventData::PageDomContentLoaded(it) => (it.context.url.unwrap_or_default(), false),
        EventData::PageLoad(it) => (it.context.url.unwrap_or_default(), false),
        EventData::PageTabOpened(it) => match it.title.filter(|title| *title != it.url) {
            Some(title) if !title.is_empty() => (format!("{} “{title}”", it.url), false),
            _ => (it.url, false),
        },
        EventData::PageLayoutShift(it) => {
            let shift = it.layout_shift_details;
            let by_user = if shift.had_recent_input {
                " after input"
            } else {
                ""
            };
            (format!("{:.4}{by_user}", shift.value), false)
        }
        EventData::PageLcp(it) => {
            let paint = it.lcp_details;
            let what = paint.url.or(paint.element_id).unwrap_or_default();
            (format!("{} px² {what}", paint.size), false)
        }
        EventData::PageLayoutSettled(it) => (it.context.url.unwrap_or_default(), false),
        EventData::PageNavigationSettled(it) => (it.context.url.unwrap_or_default(), false),
        EventData::PageCrashed(it) => (it.context.url.unwrap_or_default(), true),

        EventData::InteractionClick(it) => {
            let text = it.text.map(|text| format!(" “{text}”")).unwrap_or_default();
            (
                format!("{}{text} at {}, {}", it.selector, it.x, it.y),
                false,
            )
        }
        EventData::InteractionKey(it) => (format!("{} in {}", it.key, it.selector), false),
        EventData::InteractionScrollSettled(it) => {
            let from = format!("{}, {}", it.from_x, it.from_y);
            (
                format!(
                    "{} from {from} to {}, {}",
                    it.target_selector, it.to_x, it.to_y
                ),
                false,
            )
        }

        EventData::MonitorScreenshot(it) => {
            // Four characters of base64 are three bytes.
            (
                format!("PNG, about {} KiB", it.png.len() / 4 * 3 / 1024),
                false,
            )
        }
        EventData::MonitorDisconnected(it) => (words(it.reason.as_str()), true),
        EventData::MonitorReconnected(it) => {
            (format!("after {} ms", it.reconnect_duration_ms), false)
        }
        EventData::MonitorReconnectFailed(it) => (words(it.reason.as_str()), true),
        EventData::MonitorInitFailed(it) => (format!("at step {}", it.step), true),

        EventData::ApiCall(it) | EventData::PlatformApiCall(it) => {
            let text = format!(
                "{} {} in {} ms",
                it.status,
                it.operation_id,
                ms(it.duration_ms)
            );
            (text, 400 <= it.status)
        }
        EventData::CdpCommand(it) => (it.method, false),
        EventData::CdpConnect(_) => (String::new(), false),
        EventData::CdpDisconnect(it) => {
            let (messages, ms) = (it.message_count, ms(it.duration_ms));
            (
                format!("{}, {messages} messages in {ms} ms", it.reason),
                false,
            )
        }
        EventData::LiveViewConnect(it) => (it.session_id, false),
        EventData::LiveViewDisconnect(it) => (
            format!("{} after {} ms", it.session_id, ms(it.duration_ms)),
            false,
        ),

        EventData::CaptchaSolveStarted(it) => (
            format!(
                "{} on {}",
                it.captcha_type,
                it.website_host.unwrap_or_default()
            ),
            false,
        ),
        EventData::CaptchaChallengeResult(it) => {
            let status = words(it.status.as_str());
            (format!("{status} after {} ms", ms(it.duration_ms)), false)
        }
        EventData::CaptchaSolveResult(it) => {
            let (status, code) = (words(it.status.as_str()), it.error_code.unwrap_or_default());
            let text = format!(
                "{} {status} after {} ms {code}",
                it.captcha_type,
                ms(it.duration_ms)
            );
            (text, status != "success")
        }

        EventData::SystemOomKill(it) => (
            format!("{} ({}) with {} KiB", it.process_name, it.pid, it.rss_kb),
            true,
        ),
        EventData::ServiceCrashed(it) => (
            format!("{}, {}", it.service_name, words(it.phase.as_str())),
            true,
        ),
    }
}

/// The name of a kind, as words.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Milliseconds, with a tenth where there is one.
fn ms(duration: f64) -> f64 {
    (duration * 10.0).round() / 10.0
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
