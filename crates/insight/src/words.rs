//! An event in a few words, for a line of a list: [`summary`].

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tapline_oapi::Event;
use tapline_oapi::data::{Context, EventData};

/// The type of a log record of a program, in any language. Its `data`: `level`, and `target`, `message` and `fields` if there are any.
pub const LOG_RECORD: &str = "log_record";

/// What an event says, in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The words. They may be long, have line breaks, and hold what a page chose: cut and clean them for the
    /// place where they are shown.
    pub text: String,
    /// Whether something went wrong.
    pub is_error: bool,
}

/// What an event says, in a few words. What is not known is shown as it is: the JSON of its data.
///
/// ```
/// use tapline_insight::summary;
/// use tapline_oapi::Event;
///
/// let event: Event = serde_json::from_str(
///     r#"{"type":"network_response","category":"network","data":{"request_id":"1","method":"GET","status":404,"headers":{},"url":"http://h/x"}}"#,
/// )?;
/// let summary = summary(&event);
/// assert_eq!((summary.text.as_str(), summary.is_error), ("404 GET http://h/x", true));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn summary(event: &Event) -> Summary {
    let data = event.typed_data();
    let data = data.as_ref().map(Option::as_ref);
    summary_of(event, data.unwrap_or(None))
}

/// The same, where the typed data are at hand. `None` if there are none, or they cannot be read.
pub(crate) fn summary_of(event: &Event, data: Option<&EventData>) -> Summary {
    let (text, is_error) = match data {
        Some(data) => known(data),
        None if event.truncated => ("(data left out: too large)".to_owned(), false),
        None => {
            let raw = event.data.as_deref().map_or("", |data| data.get());
            let record = (event.event_type.as_str() == LOG_RECORD).then(|| log_record(raw));
            let raw = || (raw.to_owned(), false);
            record.flatten().unwrap_or_else(raw)
        }
    };
    Summary { text, is_error }
}

/// The words of a log record, and whether it is an error.
fn log_record(data: &str) -> Option<(String, bool)> {
    #[derive(serde::Deserialize)]
    struct LogRecord {
        level: String,
        target: Option<String>,
        message: Option<String>,
        #[serde(default)]
        fields: Map<String, Value>,
    }
    let record: LogRecord = serde_json::from_str(data).ok()?;
    let is_error = matches!(record.level.as_str(), "error" | "fatal");
    let mut text = record.level;
    if let Some(target) = &record.target {
        let _ = write!(text, " {target}");
    }
    text.push(':');
    if let Some(message) = &record.message {
        let _ = write!(text, " {message}");
    }
    for (name, value) in &record.fields {
        let _ = match value {
            Value::String(value) => write!(text, " {name}={value}"),
            value => write!(text, " {name}={value}"),
        };
    }
    Some((text, is_error))
}

/// The first so many bytes of `text`, or up to three fewer so that no character is cut in two.
///
/// ```
/// use tapline_insight::cut;
///
/// assert_eq!((cut("año", 2), cut("año", 9)), ("a", "año"));
/// ```
#[must_use]
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text` on one line and cut after `most` characters, without characters that a terminal would obey or that
/// make a line look like another one.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    // Most texts are one line of ASCII already.
    let is_plain = |bytes: &[u8]| bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    let has_single_spaces =
        || !text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  ");
    if text.len() <= most && is_plain(text.as_bytes()) && has_single_spaces() {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len().min(most + 3));
    let mut was_space = true;
    let mut chars = 0;
    for c in text.chars() {
        let is_space = c.is_whitespace() || c.is_control() || is_invisible(c);
        if is_space && was_space {
            continue;
        }
        if most == chars {
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

/// Characters that turn the direction of what follows, by which a line can be made to look like another one.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn url(context: &Context) -> &str {
    context.url.as_deref().unwrap_or_default()
}

/// The words for a known type, and whether something went wrong.
fn known(data: &EventData) -> (String, bool) {
    match data {
        EventData::ConsoleLog(it) => match it.level.as_str() {
            "log" => (it.text.clone(), false),
            level => (format!("{level}: {}", it.text), false),
        },
        EventData::ConsoleError(it) => (it.text.clone(), true),

        EventData::NetworkRequest(it) => {
            let mut text = format!("{} {}", it.method, url(&it.context));
            if let Some(from) = &it.redirect_url {
                let _ = write!(text, " (redirected from {from})");
            }
            (text, false)
        }
        EventData::NetworkResponse(it) => {
            let url = url(&it.context);
            let mut text = format!("{} {} {url}", it.status, it.method);
            if let Some(mime_type) = &it.mime_type {
                let _ = write!(text, " {mime_type}");
            }
            if it.open == Some(true) {
                text.push_str(" (still open)");
            }
            (text, 400 <= it.status)
        }
        EventData::NetworkResponseEnd(it) => {
            // The event has no URL: the request's id finds the events that have.
            let request = it.context.url.as_ref().unwrap_or(&it.request_id);
            let text = format!("{request} after {:.0} ms", it.duration_ms);
            match &it.error_text {
                Some(error) => (format!("{error} {text}"), true),
                None => (text, false),
            }
        }
        EventData::NetworkWebsocketMessage(it) => {
            let url = url(&it.context);
            let text = it
                .text
                .clone()
                .unwrap_or_else(|| format!("{} bytes", it.bytes));
            (format!("{} {url} {text}", it.direction), false)
        }
        EventData::NetworkWebsocketClosed(it) => {
            let url = url(&it.context);
            let (received, sent) = (it.messages_received, it.messages_sent);
            let code = it.code.map(|code| format!("{code} ")).unwrap_or_default();
            let text = format!("{code}{url} received {received} messages, sent {sent}");
            match &it.error_text {
                Some(error) => (format!("{error} {text}"), true),
                None => (text, false),
            }
        }
        EventData::NetworkLoadingFailed(it) => {
            let url = url(&it.context);
            let mut text = format!("{} {url}", it.error_text);
            if let Some(reason) = it.blocked_reason.as_ref().or(it.cors_error.as_ref()) {
                let _ = write!(text, " ({reason})");
            }
            (text, !it.canceled)
        }
        EventData::NetworkIdle(it) => (url(&it.context).to_owned(), false),
        EventData::ProxyError(it) => (format!("{} {}", it.status, it.code), true),

        EventData::PageNavigation(it) => (it.url.clone(), false),
        EventData::PageDomContentLoaded(it) => (url(&it.context).to_owned(), false),
        EventData::PageLoad(it) => (url(&it.context).to_owned(), false),
        EventData::PageTabOpened(it) => match it.title.as_ref().filter(|title| **title != it.url) {
            Some(title) if !title.is_empty() => (format!("{} “{title}”", it.url), false),
            _ => (it.url.clone(), false),
        },
        EventData::PageLayoutShift(it) => {
            let shift = &it.layout_shift_details;
            let by_user = if shift.had_recent_input {
                " after input"
            } else {
                ""
            };
            (format!("{:.4}{by_user}", shift.value), false)
        }
        EventData::PageLcp(it) => {
            let paint = &it.lcp_details;
            let what = paint.url.as_ref().or(paint.element_id.as_ref());
            let what = what.map_or("", String::as_str);
            (format!("{} px² {what}", paint.size), false)
        }
        EventData::PageLayoutSettled(it) => (url(&it.context).to_owned(), false),
        EventData::PageNavigationSettled(it) => (url(&it.context).to_owned(), false),
        EventData::PageCrashed(it) => (url(&it.context).to_owned(), true),

        EventData::InteractionClick(it) => {
            let text = it
                .text
                .as_ref()
                .map(|text| format!(" “{text}”"))
                .unwrap_or_default();
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
        EventData::CdpCommand(it) => (it.method.clone(), false),
        EventData::CdpConnect(_) => (String::new(), false),
        EventData::CdpDisconnect(it) => {
            let (messages, ms) = (it.message_count, ms(it.duration_ms));
            (
                format!("{}, {messages} messages in {ms} ms", it.reason),
                false,
            )
        }
        EventData::LiveViewConnect(it) => (it.session_id.clone(), false),
        EventData::LiveViewDisconnect(it) => (
            format!("{} after {} ms", it.session_id, ms(it.duration_ms)),
            false,
        ),

        EventData::CaptchaSolveStarted(it) => (
            format!(
                "{} on {}",
                it.captcha_type,
                it.website_host.as_deref().unwrap_or_default()
            ),
            false,
        ),
        EventData::CaptchaChallengeResult(it) => {
            let status = words(it.status.as_str());
            (format!("{status} after {} ms", ms(it.duration_ms)), false)
        }
        EventData::CaptchaSolveResult(it) => {
            let (status, code) = (
                words(it.status.as_str()),
                it.error_code.as_deref().unwrap_or_default(),
            );
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
