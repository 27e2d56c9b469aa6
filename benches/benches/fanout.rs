//! What one event costs for all of its readers together, taking turns on one thread: little noise,
//! and no thread to wait for.
//!
//! One iteration publishes a burst of 256 and lets each reader drain it; the throughput is per
//! delivery. **Measured:** publishing and reading. **Not measured:** sleeping and waking, which
//! `threads` measures.
//!
//! The rivals do less (see `publish`), and free an event when the last receiver has it, while we
//! retain 65,536 and evict the oldest.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tapline_benches::{BATCH, MEASURED, RETAINED, TS, WARM_UP, full_session, small};
use tokio::sync::broadcast;

const READERS: [usize; 3] = [1, 8, 64];

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED).sample_size(50);
    targets = taking_turns
}
criterion_main!(benches);

fn taking_turns(c: &mut Criterion) {
    let mut group = c.benchmark_group("fanout");
    let event = Arc::new(small().with_ts(TS));
    for n in READERS {
        group.throughput(Throughput::Elements((BATCH * n) as u64));

        let session = full_session();
        let publish_burst = || {
            for _ in 0..BATCH {
                let _ = black_box(session.publish(black_box(&event)));
            }
        };
        let mut readers: Vec<_> = (0..n).map(|_| session.new_reader(session.seq())).collect();
        group.bench_function(BenchmarkId::new("tapline/read", n), |b| {
            b.iter(|| {
                publish_burst();
                for reader in &mut readers {
                    let read = reader.read(BATCH, |item| {
                        black_box(item);
                        ControlFlow::Continue(())
                    });
                    debug_assert_eq!(read, BATCH);
                }
            });
        });
        // Each event taken out for keeps, as the rivals do.
        group.bench_function(BenchmarkId::new("tapline/try_next", n), |b| {
            b.iter(|| {
                publish_burst();
                for reader in &mut readers {
                    while let Some(item) = reader.try_next() {
                        black_box(item);
                    }
                }
            });
        });
        assert!(readers.iter().all(|reader| reader.ledger().lost == 0));
        drop(readers);
        drop(session);

        let (sender, receiver) = broadcast::channel(RETAINED);
        let mut receivers: Vec<_> = (1..n).map(|_| receiver.resubscribe()).collect();
        receivers.push(receiver);
        group.bench_function(BenchmarkId::new("tokio/try_recv", n), |b| {
            b.iter(|| {
                for _ in 0..BATCH {
                    let _ = black_box(sender.send(black_box(&event).clone()));
                }
                for receiver in &mut receivers {
                    while let Ok(event) = receiver.try_recv() {
                        black_box(event);
                    }
                }
            });
        });
        drop(receivers);

        let (mut sender, receiver) = async_broadcast::broadcast(RETAINED);
        sender.set_overflow(true);
        let mut receivers = vec![receiver; n];
        group.bench_function(BenchmarkId::new("async-broadcast/try_recv", n), |b| {
            b.iter(|| {
                for _ in 0..BATCH {
                    let _ = black_box(sender.try_broadcast(black_box(&event).clone()));
                }
                for receiver in &mut receivers {
                    while let Ok(event) = receiver.try_recv() {
                        black_box(event);
                    }
                }
            });
        });
    }
    group.finish();
}
