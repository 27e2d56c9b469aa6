//! What a producer pays for an event, alone on one thread: to hold one state of our code against another. How it stands
//! beside rivals is measured by `rivals`.
//!
//! **Measured:** the call, the answer being looked at and dropped, and the eviction and freeing of the oldest
//! event, since every ring is full before it begins. **Not measured:** making the event.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tapline_api::ApiService;
use tapline_benches::{
    MEASURED, RETAINED, TS, WARM_UP, append, corpus, full_ring, full_session, idle_session,
    session, small,
};
use tapline_oapi::{BatchResult, Category, CategorySet, Event, from_json};
use tapline_telemetry::TelemetryConfig;

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED);
    targets = kept, refused, lines
}
criterion_main!(benches);

fn kept(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    let small_at = Arc::new(small().with_ts(TS));
    let small = Arc::new(small());
    let corpus = corpus();

    let session = full_session();
    group.bench_function("tapline/small", |b| {
        b.iter(|| session.publish(black_box(&small_at)).is_ok());
    });
    // Asks the clock.
    group.bench_function("tapline/small-no-ts", |b| {
        b.iter(|| session.publish(black_box(&small)).is_ok());
    });
    // One after the other in one batch.
    group.bench_function("tapline/small-in-batch", |b| {
        let mut batch = session.batch();
        b.iter(|| batch.publish(black_box(&small_at)).is_ok());
    });
    group.bench_function("tapline/corpus", |b| {
        let mut next = round_robin(&corpus);
        b.iter(|| session.publish(black_box(next())).is_ok());
    });
    drop(session);

    // How much of it is the ring's.
    let ring = full_ring();
    group.bench_function("ring/small", |b| {
        b.iter(|| append(&ring, black_box(&small_at).clone()));
    });
    group.finish();
}

/// An event that no reader asked for should cost next to nothing.
fn refused(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish-refused");
    group.throughput(Throughput::Elements(1));
    let small = Arc::new(small());

    // The harness's own cost, in all the others, too.
    group.bench_function("empty-loop", |b| b.iter(|| black_box(&small)));

    let network_only = session(
        RETAINED,
        TelemetryConfig {
            categories: CategorySet::of(&[Category::Network]),
        },
    );
    assert!(network_only.publish(&small).is_err());
    group.bench_function("category-off", |b| {
        b.iter(|| network_only.publish(black_box(&small)).is_ok());
    });

    let no_session = idle_session(RETAINED);
    assert!(no_session.publish(&small).is_err());
    group.bench_function("no-session", |b| {
        b.iter(|| no_session.publish(black_box(&small)).is_ok());
    });
    group.finish();
}

/// What comes as JSON: a thousand lines at once, beside as many single requests.
fn lines(c: &mut Criterion) {
    const LINES: u64 = 1000;
    let mut group = c.benchmark_group("publish-json");
    group.throughput(Throughput::Elements(LINES));
    let api = ApiService::new(full_session());
    let line = serde_json::to_string(&small().with_ts(TS)).expect("an event is JSON");
    let body = format!("{line}\n").repeat(LINES as usize);
    group.bench_function("lines", |b| {
        b.iter(|| {
            let mut result = BatchResult::default();
            api.publish_lines(black_box(body.as_bytes()), 1, None, &mut result);
            assert_eq!(result.published, LINES);
        });
    });
    group.bench_function("single", |b| {
        b.iter(|| {
            for line in body.lines() {
                let request = from_json(black_box(line).as_bytes()).expect("it is one");
                api.publish(request).expect("it is captured");
            }
        });
    });
    group.finish();
}

fn round_robin<'e>(events: &'e [Arc<Event>]) -> impl FnMut() -> &'e Arc<Event> {
    let mut next = events.iter().cycle();
    move || next.next().expect("a cycle of some events has no end")
}
