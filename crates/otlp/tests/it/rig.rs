//! A stream with a session, and the sink on it.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tapline_api::{SinkHandle, SinkLedger, SinkStatus};
use tapline_events::{EventStream, Retention};
use tapline_oapi::{Category, Event};
use tapline_otlp::{OtlpOptions, OtlpSink};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

/// More than any of these tests needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) session: TelemetrySession,
    pub(crate) handle: SinkHandle,
}

/// For an endpoint on this machine: short pauses.
pub(crate) fn options(url: &str) -> OtlpOptions {
    let mut options = OtlpOptions::new(url).unwrap();
    options.linger = Duration::from_millis(20);
    options.first_pause = Duration::from_millis(5);
    options.last_pause = Duration::from_millis(50);
    options
}

impl Rig {
    /// The sink runs and is switched on.
    pub(crate) fn new(options: OtlpOptions) -> Self {
        let rig = Self::with_retention(options, 100_000);
        rig.handle.on();
        rig
    }

    /// The sink runs and is switched off.
    pub(crate) fn with_retention(options: OtlpOptions, events: usize) -> Self {
        let stream = EventStream::new(Retention {
            events,
            bytes: u64::MAX,
            ..Retention::default()
        });
        let session = TelemetrySession::new(stream.unwrap());
        session.start("shop-7", TelemetryConfig::default()).unwrap();
        let sink = OtlpSink::new(options).unwrap();
        let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
        tokio::spawn(task);
        Self { session, handle }
    }

    pub(crate) fn publish(&self, event: Event) -> u64 {
        self.session.publish(event).unwrap().seq()
    }

    /// So many small events.
    pub(crate) fn publish_some(&self, events: usize) {
        for n in 0..events {
            self.publish(event("step", Category::Control, &format!("{{\"n\":{n}}}")));
        }
    }

    pub(crate) fn status(&self) -> SinkStatus {
        let status = self.handle.status();
        let it = status.ledger;
        let sum = it.exported + it.excluded + it.rejected + it.failed + it.pending;
        assert_eq!(it.read, sum, "the ledger does not close: {it:?}");
        status
    }

    /// Switches the sink off, and gives what became of everything.
    pub(crate) async fn stop(&self) -> SinkStatus {
        self.stop_within(PATIENCE).await
    }

    pub(crate) async fn stop_within(&self, within: Duration) -> SinkStatus {
        self.handle.off(Instant::now() + within).await;
        let status = self.status();
        assert_eq!(status.ledger.pending, 0, "{status:?}");
        status
    }
}

/// What a ledger has, with nothing lost.
pub(crate) fn ledger(exported: u64, excluded: u64, rejected: u64, failed: u64) -> SinkLedger {
    SinkLedger {
        read: exported + excluded + rejected + failed,
        exported,
        excluded,
        rejected,
        failed,
        ..SinkLedger::default()
    }
}

pub(crate) fn event(name: &str, category: Category, data: &str) -> Event {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    Event::custom(name, category, Some(data)).unwrap()
}
