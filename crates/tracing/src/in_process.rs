//! Publishes into a session of the same process: [`in_process`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tapline_api::{BoxFuture, Prepared, PublishError, Publisher, Running, Source, SourceError};
use tapline_oapi::{Category, CategorySet, Event};
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;

use crate::counts::{Counters, Handle};
use crate::layer::{Parts, TracingLayer, layer};
use crate::options::Options;
use crate::output::{Gate, Output};

/// A layer that publishes into a session of this process, and the source that connects it with that session.
///
/// Give the source to `ApiService::with_source`. While a session runs and captures the layer's category, log statements
/// publish their events themselves, with the publisher that the source got for that session; at other times they make none.
///
/// ```
/// use tapline_api::ApiService;
/// use tapline_events::{EventStream, Retention};
/// use tapline_telemetry::TelemetrySession;
/// use tapline_tracing::{Options, in_process};
/// use tracing_subscriber::prelude::*;
///
/// let (layer, source) = in_process(Options::default());
/// let session = TelemetrySession::new(EventStream::new(Retention::default())?);
/// let api = ApiService::new(session).with_source(source);
/// tracing_subscriber::registry().with(layer).init();
/// # drop(api);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn in_process<S>(options: Options) -> (TracingLayer<S>, TracingSource)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let counters = Arc::new(Counters::default());
    let link = Arc::new(Link {
        publisher: ArcSwapOption::empty(),
        gate: Arc::new(Gate::new(false)),
        category: options.category,
        counters: counters.clone(),
    });
    let parts = Parts {
        output: link.clone(),
        gate: link.gate.clone(),
        counters,
        style: Arc::new(options.style()),
    };
    (layer(options, parts), TracingSource(link))
}

/// Connects a layer with the sessions of an `ApiService`. Its name is `tracing`.
///
/// It prepares nothing, so that it never keeps a session from starting, and stops at once.
pub struct TracingSource(Arc<Link>);

impl TracingSource {
    /// What became of each event, now and later.
    pub fn handle(&self) -> Handle {
        Handle(self.0.counters.clone())
    }
}

impl fmt::Debug for TracingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TracingSource")
            .field(&self.0.counters.read())
            .finish()
    }
}

/// Between the layer and the session that is running.
struct Link {
    publisher: ArcSwapOption<Publisher>,
    gate: Arc<Gate>,
    category: Category,
    counters: Arc<Counters>,
}

impl Link {
    fn connect(&self, publisher: Option<Publisher>) {
        let captured = publisher
            .as_ref()
            .map_or(CategorySet::EMPTY, Publisher::captured);
        self.publisher.store(publisher.map(Arc::new));
        self.gate.set(captured.contains(self.category));
    }
}

impl Output for Link {
    fn offer(&self, event: Event) {
        let publisher = self.publisher.load();
        let published = publisher.as_ref().map(|it| it.publish(event));
        let count = match published {
            Some(Ok(_)) => &self.counters.published,
            Some(Err(PublishError::TooLarge(_))) => &self.counters.refused,
            // The session ended, or its categories changed, after the layer had looked.
            Some(Err(_)) | None => &self.counters.filtered,
        };
        count.fetch_add(1, Relaxed);
    }
}

impl Source for TracingSource {
    fn name(&self) -> &str {
        "tracing"
    }

    fn prepare(&self) -> BoxFuture<'_, Result<Box<dyn Prepared>, SourceError>> {
        let connection = Connection(self.0.clone());
        Box::pin(async { Ok(Box::new(connection) as Box<dyn Prepared>) })
    }
}

/// With one session. Dropping it ends the publishing.
struct Connection(Arc<Link>);

impl Prepared for Connection {
    fn run(self: Box<Self>, publisher: Publisher) -> Box<dyn Running> {
        self.0.connect(Some(publisher));
        self
    }
}

impl Running for Connection {
    fn reconfigure(&mut self, captured: CategorySet) {
        self.0.gate.set(captured.contains(self.0.category));
    }

    fn stop(self: Box<Self>, _: Instant) -> BoxFuture<'static, ()> {
        drop(self);
        Box::pin(async {})
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connect(None);
    }
}
