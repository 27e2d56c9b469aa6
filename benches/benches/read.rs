//! What a reader pays for an event that is there, alone on one thread: to hold one state of our code against another.
//! How it stands beside rivals is measured by `rivals`.
//!
//! One iteration drains a ring of 65,536 events; the throughput is per event. **Measured:** reading, and giving back
//! what was taken out. **Not measured:** filling, which is done anew before each iteration.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tapline_benches::{BATCH, MEASURED, RETAINED, TS, WARM_UP, full_session, small};
use tapline_events::{Filter, Item};
use tapline_oapi::{Category, CategorySet};
use tapline_telemetry::{Reader, TelemetrySession};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED);
    targets = drain
}
criterion_main!(benches);

fn drain(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(RETAINED as u64));
    let event = Arc::new(small().with_ts(TS));

    let session = full_session();
    let fill = || {
        for _ in 0..RETAINED {
            session
                .publish(&event)
                .expect("everything is captured here");
        }
    };

    // Sees them in passing, under one guard for each batch.
    let mut reader = at_the_head(&session);
    group.bench_function("tapline/read", |b| {
        b.iter_batched(
            fill,
            |()| while read_batch(&mut reader) > 0 {},
            BatchSize::PerIteration,
        );
        assert_eq!(reader.ledger().lost, 0, "the ring holds one filling");
    });

    // As above, and asked for none of it.
    let mut reader = at_the_head(&session).filtered(Filter::categories(CategorySet::of(&[
        Category::Network,
        Category::Page,
    ])));
    group.bench_function("tapline/read-filtered-out", |b| {
        b.iter_batched(
            fill,
            |()| while read_batch(&mut reader) > 0 {},
            BatchSize::PerIteration,
        );
        assert_eq!(reader.ledger().delivered, 0, "there are console lines only");
    });

    // Takes each out for keeps.
    let mut reader = at_the_head(&session);
    group.bench_function("tapline/try_next", |b| {
        b.iter_batched(
            fill,
            |()| {
                while let Some(item) = reader.try_next() {
                    black_box(item);
                }
            },
            BatchSize::PerIteration,
        );
        assert_eq!(reader.ledger().lost, 0, "the ring holds one filling");
    });
    group.finish();
}

fn at_the_head(session: &TelemetrySession) -> Reader {
    session.new_reader(session.seq())
}

fn read_batch(reader: &mut Reader) -> usize {
    reader.read(BATCH, |item| {
        if let Item::Envelope(envelope) = item {
            black_box((envelope.seq(), envelope.event()));
        }
        ControlFlow::Continue(())
    })
}
