//! What is published, and how much of it: [`Options`].

use tapline_insight::Sanitizer;
use tapline_oapi::Category;
use tracing::level_filters::LevelFilter;

/// What a layer publishes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most verbose level that is published; `INFO` by default. More filters can be added to the layer with
    /// `with_filter`, as to any other.
    pub level: LevelFilter,
    /// The category of the events; [`Category::Platform`] by default. Whether a session captures it decides whether anything is
    /// published.
    pub category: Category,
    /// The program, as `service_name` in each event; cut at 256 bytes. Absent by default. To be set where several programs publish into
    /// one session.
    pub service_name: Option<String>,
    /// Whether a `span_start` is published when a span is opened; off by default. It has the fields that the span has then.
    pub span_starts: bool,
    /// Whether a `span_end` is published when a span is closed; on by default.
    pub span_ends: bool,
    /// Which values are secrets; by default those whose names suggest one. [`Sanitizer::off`] publishes everything.
    pub redaction: Sanitizer,
    /// How large an event may become.
    pub limits: Limits,
}

/// How large an event may become. Values out of range are brought into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of `data`, as JSON: 1 KiB to 900,000, by default 64 KiB. An event that has more keeps its message, cut, and
    /// loses its fields and spans.
    pub event_bytes: usize,
    /// The most fields of a record, and of a span: 0 to 1,000, by default 64. The message does not count.
    pub fields: usize,
    /// The most bytes of one text, message or field, before it is escaped: 16 bytes to `event_bytes`, by default 8 KiB.
    pub text_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: LevelFilter::INFO,
            category: Category::Platform,
            service_name: None,
            span_starts: false,
            span_ends: true,
            redaction: Sanitizer::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes: 64 * 1024,
            fields: 64,
            text_bytes: 8 * 1024,
        }
    }
}

impl Limits {
    /// Each in its range.
    pub(crate) fn in_range(self) -> Self {
        let event_bytes = self.event_bytes.clamp(1024, 900_000);
        Self {
            event_bytes,
            fields: self.fields.min(1000),
            text_bytes: self.text_bytes.clamp(16, event_bytes),
        }
    }
}
