//! What an envelope's JSON costs the reader that asks for it first, and later readers.
//!
//! `small` is per event, `corpus` is one pass over all 313 recorded ones. **Measured:** making the
//! bytes. **Not measured:** publishing, freeing the bytes again, and for the rival the owned
//! envelope that it serializes, but where its name says so.
//!
//! The rival is `serde_json` on the wire types, into a buffer that it finds large enough: what
//! there would be without an encoder of our own.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tapline_benches::{MEASURED, SESSION_ID, TS, WARM_UP, corpus, session, small};
use tapline_oapi::{Envelope, Event, encode_envelope};
use tapline_telemetry::TelemetryConfig;

const STAMP: (&str, &str) = ("telemetry_session_id", SESSION_ID);

/// A seq of some length.
const SEQ: u64 = 1_234_567;

/// Envelopes made at a time before they are encoded: few, so that they are still in a cache.
const AT_A_TIME: u64 = 256;

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED);
    targets = one_small, all_recorded
}
criterion_main!(benches);

fn one_small(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode/small");
    let event = Arc::new(small().with_ts(TS));
    let owned = stamped(&event);
    group.throughput(Throughput::Bytes(serialized(&owned).len() as u64));

    // Evicts early, so that the buffers made are of memory freed a moment ago.
    let session = session(AT_A_TIME as usize, TelemetryConfig::default());
    let publish = || {
        session
            .publish(&event)
            .expect("everything is captured here")
    };
    group.bench_function("json-first", |b| {
        b.iter_batched_ref(
            publish,
            |envelope| {
                black_box(envelope.json());
            },
            BatchSize::NumIterations(AT_A_TIME),
        );
    });
    group.bench_function("json-again", |b| {
        let envelope = publish();
        assert!(envelope.json().len() > 0);
        b.iter(|| black_box(&envelope).json().len());
    });

    let mut line = Vec::with_capacity(4096);
    group.bench_function("encode_envelope", |b| {
        b.iter(|| {
            line.clear();
            encode_envelope(
                &mut line,
                black_box(SEQ),
                TS,
                black_box(&event),
                Some(STAMP),
            );
            black_box(&line);
        });
    });
    assert_eq!(line, serialized(&owned), "both make the same bytes");

    group.bench_function("serde_json", |b| {
        b.iter(|| {
            line.clear();
            serialize(&mut line, black_box(&owned));
            black_box(&line);
        });
    });
    // With the copy that a stamp on an owned envelope takes.
    group.bench_function("serde_json-and-copy", |b| {
        b.iter(|| {
            line.clear();
            serialize(&mut line, &stamped(black_box(&event)));
            black_box(&line);
        });
    });
    group.finish();
}

fn all_recorded(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode/corpus");
    let events = corpus();
    let owned: Vec<Envelope> = events.iter().map(|event| stamped(event)).collect();
    let bytes: usize = owned.iter().map(|owned| serialized(owned).len()).sum();
    group.throughput(Throughput::ElementsAndBytes {
        elements: events.len() as u64,
        bytes: bytes as u64,
    });

    let session = session(events.len(), TelemetryConfig::default());
    group.bench_function("json-first", |b| {
        b.iter_batched_ref(
            || {
                let publish = |event| session.publish(event).expect("all are captured here");
                events.iter().map(publish).collect::<Vec<_>>()
            },
            |envelopes| {
                for envelope in envelopes {
                    black_box(envelope.json());
                }
            },
            BatchSize::PerIteration,
        );
    });

    let mut line = Vec::with_capacity(64 * 1024);
    group.bench_function("encode_envelope", |b| {
        b.iter(|| {
            for event in &events {
                line.clear();
                encode_envelope(
                    &mut line,
                    black_box(SEQ),
                    event.ts,
                    black_box(event),
                    Some(STAMP),
                );
                black_box(&line);
            }
        });
    });
    group.bench_function("serde_json", |b| {
        b.iter(|| {
            for owned in &owned {
                line.clear();
                serialize(&mut line, black_box(owned));
                black_box(&line);
            }
        });
    });
    group.bench_function("serde_json-and-copy", |b| {
        b.iter(|| {
            for event in &events {
                line.clear();
                serialize(&mut line, &stamped(black_box(event)));
                black_box(&line);
            }
        });
    });
    group.finish();
}

/// The wire's own type, with the stamp in it.
fn stamped(event: &Event) -> Envelope {
    let (key, value) = STAMP;
    let mut event = event.clone();
    event
        .source
        .metadata
        .insert(key.to_owned(), value.to_owned());
    Envelope { seq: SEQ, event }
}

fn serialize(line: &mut Vec<u8>, envelope: &Envelope) {
    serde_json::to_writer(line, envelope).expect("a Vec takes every write");
}

fn serialized(envelope: &Envelope) -> Vec<u8> {
    let mut line = Vec::new();
    serialize(&mut line, envelope);
    line
}
