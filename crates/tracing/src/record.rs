//! The events: [`log_record`], [`span_end`], [`span_start`] and, over HTTP, `producer_lost`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tapline_insight::cut;
use tapline_oapi::{Category, Event, Source};
use tracing::{Level, Metadata};

use crate::fields::Fields;
use crate::options::Limits;
use crate::span::{SpanIds, SpanState, hex, is_zero};

/// The type of a log record: an event of `tracing`, or a record of the crate `log` that `tracing-log` passes on.
#[doc(inline)]
pub use tapline_insight::LOG_RECORD;

/// The type of a span that was closed.
pub const SPAN_END: &str = "span_end";

/// The type of a span that was opened; see [`Options::span_starts`](crate::Options::span_starts).
pub const SPAN_START: &str = "span_start";

/// The type of the report of what a layer lost before it could be published. Its category is `monitor`, which is always captured.
///
/// `data`: `service_name`, `lost` and `unconfirmed` (how many since the last report, as in [`Counts`](crate::Counts)), and `lost_total` and
/// `unconfirmed_total` since the layer was made.
#[cfg(feature = "http")]
pub const PRODUCER_LOST: &str = "producer_lost";

/// What all events of a layer have in common.
pub(crate) struct Style {
    pub(crate) category: Category,
    pub(crate) service_name: Option<String>,
    pub(crate) limits: Limits,
}

#[derive(Serialize)]
struct LogData<'a> {
    level: &'static str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<&'a Fields>,
    #[serde(skip_serializing_if = "is_zero")]
    fields_omitted: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    spans: &'a [&'a RawValue],
    #[serde(skip_serializing_if = "is_zero")]
    spans_omitted: u64,
}

#[derive(Serialize)]
struct SpanData<'a> {
    level: &'static str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    busy_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<&'a Fields>,
    #[serde(skip_serializing_if = "is_zero")]
    fields_omitted: u64,
}

impl Style {
    /// A log record. `spans` are those that it is in, outermost first; `ids` those of the innermost.
    pub(crate) fn log(
        &self,
        metadata: &Metadata<'_>,
        fields: &Fields,
        spans: &[&RawValue],
        ids: Option<SpanIds>,
    ) -> Option<Event> {
        let mut data = LogData {
            level: name_of(metadata.level()),
            target: fields.log_target().unwrap_or(metadata.target()),
            service_name: self.service_name.as_deref(),
            message: fields.message(),
            fields: (!fields.is_empty()).then_some(fields),
            fields_omitted: fields.omitted(),
            spans,
            spans_omitted: 0,
        };
        let mut json = to_raw_value(&data).ok()?;
        let is_too_large = self.limits.event_bytes < json.get().len();
        if is_too_large {
            data.spans_omitted = spans.len() as u64;
            data.fields_omitted += fields.len();
            (data.fields, data.spans) = (None, &[]);
            // A byte has up to six in JSON.
            data.target = cut(data.target, self.limits.event_bytes / 32);
            data.message = data.message.map(|it| cut(it, self.limits.event_bytes / 16));
            json = to_raw_value(&data).ok()?;
        }
        self.event(LOG_RECORD, json, ids, is_too_large || fields.is_cut())
    }

    /// A span that has just been opened.
    pub(crate) fn start(&self, metadata: &Metadata<'_>, span: &SpanState) -> Option<Event> {
        self.span(SPAN_START, metadata, span, None)
    }

    /// A span that is being closed.
    pub(crate) fn end(&self, metadata: &Metadata<'_>, span: &SpanState) -> Option<Event> {
        let times = (span.duration(), span.busy());
        self.span(SPAN_END, metadata, span, Some(times))
    }

    fn span(
        &self,
        event_type: &str,
        metadata: &Metadata<'_>,
        span: &SpanState,
        times: Option<(Duration, Duration)>,
    ) -> Option<Event> {
        let fields = &span.fields;
        let mut data = SpanData {
            level: name_of(metadata.level()),
            target: metadata.target(),
            service_name: self.service_name.as_deref(),
            name: metadata.name(),
            duration_ms: times.map(|(duration, _)| millis(duration)),
            busy_ms: times.map(|(_, busy)| millis(busy)),
            parent_span_id: span.parent.map(hex),
            message: fields.message(),
            fields: (!fields.is_empty()).then_some(fields),
            fields_omitted: fields.omitted(),
        };
        let mut json = to_raw_value(&data).ok()?;
        let is_too_large = self.limits.event_bytes < json.get().len();
        if is_too_large {
            data.fields_omitted += fields.len();
            data.fields = None;
            data.target = cut(data.target, self.limits.event_bytes / 32);
            data.name = cut(data.name, self.limits.event_bytes / 32);
            data.message = data.message.map(|it| cut(it, self.limits.event_bytes / 32));
            json = to_raw_value(&data).ok()?;
        }
        let is_cut = is_too_large || fields.is_cut();
        self.event(event_type, json, Some(span.ids), is_cut)
    }

    fn event(
        &self,
        event_type: &str,
        data: Box<RawValue>,
        ids: Option<SpanIds>,
        truncated: bool,
    ) -> Option<Event> {
        let mut event = Event::custom(event_type, self.category, Some(data)).ok()?;
        event.truncated = truncated;
        if let Some(ids) = ids {
            event.source = Source {
                metadata: BTreeMap::from([
                    ("span_id".to_owned(), ids.span_hex()),
                    ("trace_id".to_owned(), ids.trace_hex()),
                ]),
                ..Source::default()
            };
        }
        Some(event)
    }

    /// The report of a loss.
    #[cfg(feature = "http")]
    pub(crate) fn lost(&self, losses: Losses, reported: Losses) -> Option<Event> {
        #[derive(Serialize)]
        struct LostData<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            service_name: Option<&'a str>,
            lost: u64,
            unconfirmed: u64,
            lost_total: u64,
            unconfirmed_total: u64,
        }
        let data = LostData {
            service_name: self.service_name.as_deref(),
            lost: losses.lost - reported.lost,
            unconfirmed: losses.unconfirmed - reported.unconfirmed,
            lost_total: losses.lost,
            unconfirmed_total: losses.unconfirmed,
        };
        let data = to_raw_value(&data).ok()?;
        Event::custom(PRODUCER_LOST, Category::Monitor, Some(data)).ok()
    }
}

/// What is missing of what a layer made.
#[cfg(feature = "http")]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Losses {
    pub(crate) lost: u64,
    pub(crate) unconfirmed: u64,
}

fn name_of(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// With microseconds as a fraction.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
