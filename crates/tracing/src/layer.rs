//! The layer: [`PublishLayer`].

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::value::RawValue;
use tapline_insight::cut;
use tapline_oapi::Event as Published;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::counts::Counters;
use crate::fields::{Fields, Rules};
use crate::filter::CaptureFilter;
use crate::options::Options;
use crate::output::{Gate, Muted, Output, is_muted};
use crate::record::Style;
use crate::span::{IdSource, SpanIds, SpanState};

/// The layer with its filter, to be added to a `tracing_subscriber::Registry`.
pub type TracingLayer<S> = Filtered<PublishLayer, CaptureFilter, S>;

/// The most bytes of the program's name.
const MAX_SERVICE_NAME: usize = 256;

/// Makes events of log records and spans. `over_http` and `in_process` return one.
///
/// A log statement does all its work in the thread that it is in: formatting, and publishing or queueing. It waits for nothing.
pub struct PublishLayer {
    /// Several layers may be on one registry: each span has its ids from one of them.
    id: u64,
    output: Arc<dyn Output>,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    style: Arc<Style>,
    rules: Rules,
    ids: IdSource,
    span_starts: bool,
    span_ends: bool,
}

thread_local! {
    /// For the fields of the next record. Empty while it is in use: formatting a field may log.
    static SCRATCH: Cell<Fields> = Cell::default();
}

/// What a layer is made with besides its options.
pub(crate) struct Parts {
    pub(crate) output: Arc<dyn Output>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) style: Arc<Style>,
}

impl Options {
    /// What the events of a layer with these options have in common.
    pub(crate) fn style(&self) -> Style {
        let name = self.service_name.as_deref();
        Style {
            category: self.category,
            service_name: name.map(|name| cut(name, MAX_SERVICE_NAME).to_owned()),
            limits: self.limits.in_range(),
        }
    }
}

pub(crate) fn layer<S>(options: Options, parts: Parts) -> TracingLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let filter = CaptureFilter {
        gate: parts.gate.clone(),
        level: options.level,
    };
    let layer = PublishLayer {
        id: NEXT.fetch_add(1, Relaxed),
        output: parts.output,
        gate: parts.gate,
        counters: parts.counters,
        rules: Rules {
            limits: parts.style.limits,
            redaction: options.redaction,
        },
        style: parts.style,
        ids: IdSource::new(),
        span_starts: options.span_starts,
        span_ends: options.span_ends,
    };
    layer.with_filter(filter)
}

impl PublishLayer {
    fn is_off(&self) -> bool {
        is_muted() || !self.gate.is_open()
    }

    fn offer(&self, event: Option<Published>) {
        self.counters.offered.fetch_add(1, Relaxed);
        match event {
            Some(event) => {
                let _muted = Muted::new();
                self.output.offer(event);
            }
            None => drop(self.counters.refused.fetch_add(1, Relaxed)),
        }
    }

    /// Calls `with` with the state of the span, if this layer keeps it.
    fn of_own_span<S>(&self, id: &Id, context: &Context<'_, S>, with: impl FnOnce(&SpanState))
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.span(id) else { return };
        let extensions = span.extensions();
        if let Some(state) = extensions.get::<SpanState>()
            && state.owner == self.id
        {
            with(state);
        }
    }
}

impl<S> Layer<S> for PublishLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.is_off() {
            return;
        }
        // Without this thread's own, which is being torn down, a new one does.
        let mut fields = SCRATCH.try_with(Cell::take).unwrap_or_default();
        fields.clear();
        event.record(&mut fields.recorder(&self.rules));

        let made = match context.event_span(event) {
            None => self.style.log(event.metadata(), &fields, &[], None),
            Some(innermost) => {
                let spans: Vec<_> = innermost.scope().collect();
                let extensions: Vec<_> = spans.iter().rev().map(SpanRef::extensions).collect();
                let states = extensions.iter().filter_map(|it| it.get::<SpanState>());
                let ids = states.clone().next_back().map(|state| state.ids);
                let shown: Vec<&RawValue> =
                    states.filter_map(|state| state.shown.as_deref()).collect();
                self.style.log(event.metadata(), &fields, &shown, ids)
            }
        };
        self.offer(made);
        // It fails only where the thread is being torn down.
        let _ = SCRATCH.try_with(|scratch| scratch.set(fields));
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if self.is_off() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let parent = span.scope().skip(1).find_map(|parent| {
            let extensions = parent.extensions();
            extensions.get::<SpanState>().map(|state| state.ids)
        });
        let ids = SpanIds {
            trace: parent.map_or_else(|| self.ids.trace(), |parent| parent.trace),
            span: self.ids.span(),
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields.recorder(&self.rules));
        let parent = parent.map(|parent| parent.span);
        let mut state = SpanState::open(self.id, ids, parent, fields);
        state.show(span.name());
        let start = match self.span_starts {
            true => Some(self.style.start(span.metadata(), &state)),
            false => None,
        };
        {
            let mut extensions = span.extensions_mut();
            // Another layer may keep this span already.
            if extensions.get_mut::<SpanState>().is_none() {
                extensions.insert(state);
            }
        }
        if let Some(start) = start {
            self.offer(start);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if is_muted() {
            return;
        }
        let Some(span) = context.span(id) else { return };
        // Formatted before the span is locked: a `Debug` implementation may log, and so look at the span.
        let mut fields = Fields::default();
        values.record(&mut fields.recorder(&self.rules));
        let mut extensions = span.extensions_mut();
        if let Some(state) = extensions.get_mut::<SpanState>()
            && state.owner == self.id
        {
            state.fields.merge(&fields, &self.rules);
            state.show(span.name());
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.of_own_span(id, &context, SpanState::entered);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.of_own_span(id, &context, SpanState::exited);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if !self.span_ends || self.is_off() {
            return;
        }
        let Some(span) = context.span(&id) else {
            return;
        };
        let end = {
            let extensions = span.extensions();
            let state = extensions.get::<SpanState>();
            state.map(|state| self.style.end(span.metadata(), state))
        };
        if let Some(end) = end {
            self.offer(end);
        }
    }
}

impl std::fmt::Debug for PublishLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublishLayer")
            .field("category", &self.style.category)
            .field("counts", &self.counters.read())
            .finish_non_exhaustive()
    }
}
