//! A stream with a session, and the sink on it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tapline_api::{Filter, History, SinkHandle, SinkLedger, SinkStatus};
use tapline_events::{Epoch, EventStream, Retention};
use tapline_nats::message::{Head, decode};
use tapline_nats::{InstanceName, NatsOptions, NatsSink, Partitions, SinkOptions};
use tapline_oapi::{Category, Event};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

use crate::server::Stored;

/// More than any of these tests needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Rig {
    pub(crate) session: TelemetrySession,
    pub(crate) handle: SinkHandle,
}

/// For a server on this machine: one partition, and short pauses.
pub(crate) fn options(mut nats: NatsOptions, instance: &str) -> SinkOptions {
    nats.request_timeout = Duration::from_millis(500);
    let mut options = SinkOptions::new(nats, instance.parse().unwrap());
    options.streams.partitions = Partitions::new(1);
    options.streams.max_bytes = Some(64 * 1024 * 1024);
    options.linger = Duration::from_millis(5);
    options.first_pause = Duration::from_millis(10);
    options.last_pause = Duration::from_millis(100);
    options
}

pub(crate) fn stream(events: usize) -> EventStream<tapline_telemetry::SessionState> {
    let retention = Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    };
    EventStream::new(retention).unwrap()
}

impl Rig {
    /// The sink runs and is switched on.
    pub(crate) fn new(options: SinkOptions) -> Self {
        Self::with(options, stream(100_000), None)
    }

    pub(crate) fn with(
        options: SinkOptions,
        stream: EventStream<tapline_telemetry::SessionState>,
        archive: Option<Arc<dyn History>>,
    ) -> Self {
        let session = TelemetrySession::new(stream);
        session.start("shop-7", TelemetryConfig::default()).unwrap();
        let sink = NatsSink::new(options, archive).unwrap();
        let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
        tokio::spawn(task);
        handle.on();
        Self { session, handle }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.session.stream().epoch()
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

    /// Waits until everything up to this seq is settled.
    pub(crate) async fn settled(&self, seq: u64) {
        self.until(|status| seq <= status.position).await;
    }

    pub(crate) async fn until(&self, look: impl Fn(&SinkStatus) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !look(&self.status()) {
            assert!(Instant::now() < deadline, "{:?}", self.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the status has an error with this text.
    pub(crate) async fn reported(&self, text: &str) {
        self.until(|status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|it| it.contains(text))
        })
        .await;
    }

    /// Switches the sink off, and gives what became of everything.
    pub(crate) async fn stop(&self) -> SinkStatus {
        self.handle.shutdown(Instant::now() + PATIENCE).await;
        let status = self.status();
        assert_eq!(status.ledger.pending, 0, "{status:?}");
        status
    }
}

/// What a ledger has, with nothing rejected.
pub(crate) fn ledger(exported: u64, lost: u64) -> SinkLedger {
    SinkLedger {
        read: exported,
        exported,
        lost,
        ..SinkLedger::default()
    }
}

pub(crate) fn event(name: &str, category: Category, data: &str) -> Event {
    let data = RawValue::from_string(data.to_owned()).unwrap();
    Event::custom(name, category, Some(data)).unwrap()
}

/// An event whose data does not compress.
pub(crate) fn noise(bytes: usize, seed: u64) -> Event {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let text = (0..bytes).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + 3 + (state % 89) as u8)
    });
    let text: String = text.filter(|it| *it != '\\').collect();
    event("noise", Category::Control, &format!("\"{text}\""))
}

/// What the messages of one instance hold.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The JSON of each event by seq.
    pub(crate) events: BTreeMap<u64, String>,
    pub(crate) gaps: Vec<RangeInclusive<u64>>,
    pub(crate) heads: Vec<Head>,
    /// Seqs of which neither is said, before a block.
    pub(crate) holes: Vec<RangeInclusive<u64>>,
}

/// Reads the messages of one epoch, and checks that none has what another has.
pub(crate) fn contents(stored: &[Stored], epoch: Epoch) -> Contents {
    let mut contents = Contents::default();
    let mut last = 0;
    for (_, headers, payload) in stored {
        let (head, block) = decode(headers, payload).unwrap();
        if head.epoch != epoch {
            continue;
        }
        let meta = block.meta();
        assert!(last < head.first, "{} again, after {last}", head.first);
        assert_eq!(meta.previous, last);
        if last + 1 < head.first {
            contents.holes.push(last + 1..=head.first - 1);
        }
        last = head.last;
        contents.gaps.extend(meta.gaps.iter().cloned());
        for envelope in block.events(1..=u64::MAX, &Filter::all()) {
            let before = contents
                .events
                .insert(envelope.seq(), envelope.json().to_string());
            assert_eq!(before, None, "{} twice", envelope.seq());
        }
        contents.heads.push(head);
    }
    contents
}

impl Contents {
    #[track_caller]
    pub(crate) fn expect_all(&self, seqs: RangeInclusive<u64>) {
        assert!(self.gaps.is_empty(), "{:?}", self.gaps);
        assert!(self.holes.is_empty(), "{:?}", self.holes);
        let found: Vec<_> = self.events.keys().copied().collect();
        assert_eq!(found, seqs.collect::<Vec<_>>());
    }
}

pub(crate) fn name(name: &str) -> InstanceName {
    name.parse().unwrap()
}
