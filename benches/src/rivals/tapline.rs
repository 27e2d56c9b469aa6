//! Tapline's session.

use std::future::poll_fn;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use tapline_events::{EnvelopeRef, Item};
use tapline_oapi::{Category, CategorySet, Event};
use tapline_telemetry::{Reader as SessionReader, SessionState, TelemetryConfig, TelemetrySession};

use crate::rival::{CannotDo, Opened, Passed, Producer, Reader, ReadsJson, Rival, Wanted};
use crate::{BATCH, RETAINED, session};

/// A session that captures everything.
pub(crate) struct Tapline;

/// A session that captures nothing of what is published.
pub(crate) struct TaplineFiltered;

/// The same, and what is at hand is published in batches.
pub(crate) struct TaplineBatch;

pub(crate) struct BatchPublisher(Arc<TelemetrySession>);

pub(crate) struct Publisher(Arc<TelemetrySession>);

pub(crate) struct Following(SessionReader);

impl Rival for Tapline {
    const NAME: &'static str = "tapline";
    type Producer = Publisher;
    type Reader = Following;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let session = session(RETAINED, TelemetryConfig::default());
        for event in wanted.filling() {
            session.publish(event).expect("everything is captured here");
        }
        Ok(opened(session, wanted))
    }
}

impl Rival for TaplineBatch {
    const NAME: &'static str = "tapline-batch";
    type Producer = BatchPublisher;
    type Reader = Following;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        let Opened { producers, readers } = Tapline::open(wanted)?;
        Ok(Opened {
            producers: producers
                .into_iter()
                .map(|it| BatchPublisher(it.0))
                .collect(),
            readers,
        })
    }
}

impl Rival for TaplineFiltered {
    const NAME: &'static str = "tapline";
    type Producer = Publisher;
    type Reader = Following;

    fn open(wanted: &Wanted<'_>) -> Result<Opened<Self>, CannotDo> {
        // No workload is a captcha.
        let config = TelemetryConfig {
            categories: CategorySet::of(&[Category::Captcha]),
        };
        Ok(opened(session(RETAINED, config), wanted))
    }
}

fn opened<R: Rival<Producer = Publisher, Reader = Following>>(
    session: TelemetrySession,
    wanted: &Wanted<'_>,
) -> Opened<R> {
    let session = Arc::new(session);
    let head = session.seq();
    let follow = |_| Following(session.new_reader(head));
    Opened {
        readers: (0..wanted.readers).map(follow).collect(),
        producers: (0..wanted.producers)
            .map(|_| Publisher(session.clone()))
            .collect(),
    }
}

impl Producer for Publisher {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        black_box(self.0.publish(event).is_ok());
    }
}

impl Producer for BatchPublisher {
    #[inline(always)]
    fn publish(&mut self, event: &Arc<Event>) {
        black_box(self.0.batch().publish(event).is_ok());
    }

    #[inline(always)]
    fn publish_all<'e>(&mut self, events: impl Iterator<Item = &'e Arc<Event>>) {
        /// As many as a body of NDJSON may have.
        const BATCH: usize = 1000;
        let mut events = events.peekable();
        while events.peek().is_some() {
            let mut batch = self.0.batch();
            for event in events.by_ref().take(BATCH) {
                black_box(batch.publish(event).is_ok());
            }
        }
    }
}

impl Following {
    /// Reads a batch and shows each envelope to `look`.
    #[inline]
    fn batch(&mut self, mut look: impl FnMut(EnvelopeRef<'_, SessionState>)) -> Passed {
        let before = self.0.ledger();
        self.0.read(BATCH, |item| {
            if let Item::Envelope(envelope) = item {
                look(envelope);
            }
            ControlFlow::Continue(())
        });
        let after = self.0.ledger();
        Passed {
            delivered: after.delivered - before.delivered,
            lost: after.lost - before.lost,
        }
    }
}

impl Reader for Following {
    #[inline]
    fn read(&mut self) -> Passed {
        self.batch(|envelope| {
            black_box((envelope.seq(), envelope.event().ts));
        })
    }

    async fn next(&mut self) -> Passed {
        loop {
            poll_fn(|cx| self.0.poll_until(cx, |_, _| false)).await;
            let passed = self.read();
            if passed.all() > 0 {
                return passed;
            }
        }
    }
}

impl ReadsJson for Following {
    #[inline]
    fn read_json(&mut self) -> Passed {
        self.batch(|envelope| {
            black_box(envelope.json());
        })
    }
}
