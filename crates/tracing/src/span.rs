//! What the layer knows of an open span: [`SpanState`].

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::fields::Fields;

/// Kept beside the span for as long as it is open.
pub(crate) struct SpanState {
    /// The layer that keeps it. Others only read it.
    pub(crate) owner: u64,
    pub(crate) ids: SpanIds,
    /// `None` if it begins a trace.
    pub(crate) parent: Option<u64>,
    pub(crate) fields: Fields,
    /// How it is shown in the records within it. Made once, and again when a field is recorded.
    pub(crate) shown: Option<Box<RawValue>>,
    opened: Instant,
    busy: AtomicU64,
}

/// The ids of a span, as the events of Tapline have them: of the W3C's trace context.
#[derive(Clone, Copy)]
pub(crate) struct SpanIds {
    pub(crate) trace: u128,
    pub(crate) span: u64,
}

impl SpanState {
    /// A span that is opened now.
    pub(crate) fn open(owner: u64, ids: SpanIds, parent: Option<u64>, fields: Fields) -> Self {
        Self {
            owner,
            ids,
            parent,
            fields,
            shown: None,
            opened: Instant::now(),
            busy: AtomicU64::new(0),
        }
    }

    /// Makes what records within it show. `name` is that of the span.
    pub(crate) fn show(&mut self, name: &str) {
        #[derive(Serialize)]
        struct Shown<'a> {
            name: &'a str,
            id: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            message: Option<&'a str>,
            #[serde(skip_serializing_if = "Fields::is_empty")]
            fields: &'a Fields,
            #[serde(skip_serializing_if = "is_zero")]
            fields_omitted: u64,
        }
        let shown = Shown {
            name,
            id: self.ids.span_hex(),
            message: self.fields.message(),
            fields: &self.fields,
            fields_omitted: self.fields.omitted(),
        };
        self.shown = to_raw_value(&shown).ok();
    }

    pub(crate) fn entered(&self) {
        // The sum of all ends less that of all beginnings, also if several threads have entered it at once.
        self.busy.fetch_sub(self.elapsed_nanos(), Relaxed);
    }

    pub(crate) fn exited(&self) {
        self.busy.fetch_add(self.elapsed_nanos(), Relaxed);
    }

    /// Since it was opened.
    pub(crate) fn duration(&self) -> Duration {
        self.opened.elapsed()
    }

    /// For how long it was entered.
    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Relaxed))
    }

    fn elapsed_nanos(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl SpanIds {
    pub(crate) fn span_hex(self) -> String {
        hex(self.span)
    }

    pub(crate) fn trace_hex(self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// A span's id as events have it.
pub(crate) fn hex(id: u64) -> String {
    format!("{id:016x}")
}

/// Makes ids: a keyed hash of a number that counts up, with a random key for each layer.
pub(crate) struct IdSource {
    key: RandomState,
    next: AtomicU64,
}

impl IdSource {
    pub(crate) fn new() -> Self {
        Self {
            key: RandomState::new(),
            next: AtomicU64::new(0),
        }
    }

    /// Not 0, which means "none".
    pub(crate) fn span(&self) -> u64 {
        self.key.hash_one(self.next.fetch_add(1, Relaxed)).max(1)
    }

    pub(crate) fn trace(&self) -> u128 {
        u128::from(self.span()) << 64 | u128::from(self.span())
    }
}

pub(crate) fn is_zero(count: &u64) -> bool {
    *count == 0
}
