//! Histories: the one in memory and broken ones, under the conformance check.

use std::ops::RangeInclusive;

use tapline_api::conformance::check_history;
use tapline_api::{
    BoxFuture, Epoch, Filter, History, HistoryBatch, HistoryBounds, HistoryCount, HistoryError,
    HistoryQuery, MemoryHistory, Order, SharedEnvelope,
};
use tapline_oapi::{Category, Event, KnownType};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

use crate::session;

/// Twenty events, of which the last sixteen are retained, and their JSON.
fn filled() -> (TelemetrySession, Vec<String>) {
    let session = session(16);
    session.start("s-1", TelemetryConfig::default()).unwrap();
    let published = (0..20).map(|n| {
        let event = match n % 3 {
            0 => Event::known(KnownType::ConsoleLog, None),
            _ => Event::known(KnownType::PageLoad, None),
        };
        session.publish(event).unwrap().json().to_string()
    });
    let published: Vec<_> = published.collect();
    let retained = published[4..].to_vec();
    (session, retained)
}

#[test]
fn the_history_in_memory_conforms() {
    let (session, retained) = filled();
    let history = MemoryHistory::new(session.stream().clone());
    check_history(&history, session.stream().epoch(), &retained).unwrap();

    let session = crate::session(16);
    let empty = MemoryHistory::new(session.stream().clone());
    check_history(&empty, session.stream().epoch(), &[]).unwrap();
    let other = Epoch::from_bits(1);
    check_history(&empty, other, &[]).unwrap();
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Skips,
    Repeats,
    IgnoresEvents,
    IgnoresBytes,
    IgnoresOrder,
    IgnoresTypes,
    HidesWhatIsMissing,
    ChangesJson,
    Stalls,
    Miscounts,
}

struct Broken(MemoryHistory, Fault);

impl History for Broken {
    fn bounds(&self) -> BoxFuture<'_, Result<Vec<HistoryBounds>, HistoryError>> {
        self.0.bounds()
    }

    fn read<'a>(
        &'a self,
        query: &'a HistoryQuery,
    ) -> BoxFuture<'a, Result<HistoryBatch, HistoryError>> {
        Box::pin(async move {
            let mut query = query.clone();
            match self.1 {
                Fault::IgnoresEvents => query.limit.events = usize::MAX,
                Fault::IgnoresBytes => query.limit.bytes = usize::MAX,
                Fault::IgnoresOrder => query.order = Order::Asc,
                Fault::IgnoresTypes => query.filter = Filter::all(),
                _ => {}
            }
            let mut batch = self.0.read(&query).await?;
            let envelopes = &mut batch.envelopes;
            match self.1 {
                Fault::Skips if envelopes.len() > 2 => drop(envelopes.remove(1)),
                Fault::Repeats if envelopes.len() > 1 => envelopes[1] = envelopes[0].clone(),
                Fault::HidesWhatIsMissing => batch.missing.clear(),
                Fault::ChangesJson => {
                    for envelope in envelopes {
                        let json = format!("{} ", envelope.json());
                        *envelope = in_block(envelope, &json);
                    }
                }
                Fault::Stalls if query.limit.bytes == 0 => batch = HistoryBatch::default(),
                _ => {}
            }
            Ok(batch)
        })
    }

    fn count<'a>(
        &'a self,
        epoch: Epoch,
        seqs: RangeInclusive<u64>,
        filter: &'a Filter,
    ) -> BoxFuture<'a, Result<HistoryCount, HistoryError>> {
        Box::pin(async move {
            let mut count = self.0.count(epoch, seqs, filter).await?;
            if matches!(self.1, Fault::Miscounts) {
                count.matching += 1;
            }
            Ok(count)
        })
    }
}

/// A copy of the envelope whose JSON is in the middle of a block.
fn in_block(envelope: &SharedEnvelope, json: &str) -> SharedEnvelope {
    let block = format!("before{json}after");
    SharedEnvelope::in_block(
        envelope.seq(),
        envelope.ts(),
        envelope.category(),
        envelope.event_type(),
        block.into(),
        6..6 + json.len(),
    )
    .unwrap()
}

#[test]
fn the_conformance_check_finds_each_fault() {
    let (session, retained) = filled();
    for (fault, property) in [
        (Fault::Skips, "reads in order"),
        (Fault::Repeats, "reads in order"),
        (Fault::IgnoresEvents, "keeps to the limit"),
        (Fault::IgnoresBytes, "keeps to the limit"),
        (Fault::IgnoresOrder, "reads in order"),
        (Fault::IgnoresTypes, "reads in order"),
        (Fault::HidesWhatIsMissing, "what is missing is exact"),
        (Fault::ChangesJson, "reads in order"),
        (Fault::Stalls, "makes progress"),
        (Fault::Miscounts, "counts exactly"),
    ] {
        let history = Broken(MemoryHistory::new(session.stream().clone()), fault);
        let found = check_history(&history, session.stream().epoch(), &retained).unwrap_err();
        assert!(found.property.starts_with(property), "{fault:?}: {found}");
    }
}

#[test]
fn an_envelope_in_a_block_is_a_part_of_it() {
    let (session, _) = filled();
    let of_memory = SharedEnvelope::from(session.stream().envelope(20).unwrap());
    let of_block = in_block(&of_memory, &of_memory.json().whole());
    assert_eq!(of_block.json().whole(), of_memory.json().whole());
    assert_eq!(of_block.event_type(), "page_load");
    let block = std::sync::Arc::new("é{}".to_owned());
    for range in [1..3, 2..9] {
        let made = SharedEnvelope::in_block(1, 1, Category::Page, "x", block.clone(), range);
        assert!(made.is_none(), "cuts a character, or is not in the block");
    }
}
