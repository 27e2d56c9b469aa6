//! What a browser's messages cost: from a message's text to finished events.
//!
//! One element is one message. **Measured:** reading, state, redaction, and making the events;
//! dropping them again, too. **Not measured:** the socket, and publishing the events.
//!
//! `all` captures everything, so that nearly a third of the messages become an event. `console` alone
//! is what a message costs that is of no use: most are, then. `unknown` are the messages whose method
//! means nothing to the machine.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tapline_benches::recorded::{Message, connected, replay, session};
use tapline_benches::{MEASURED, WARM_UP};
use tapline_oapi::{Category, CategorySet};

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED);
    targets = recorded
}
criterion_main!(benches);

fn recorded(c: &mut Criterion) {
    let mut group = c.benchmark_group("cdp/recorded");
    let messages = session();
    let begin = messages[0].at;
    group.throughput(Throughput::Elements(messages.len() as u64));
    for (name, captured, expected) in [
        ("all", CategorySet::ALL, 310),
        ("console", CategorySet::of(&[Category::Console]), 30),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || connected(captured, begin),
                |core| {
                    let events = replay(core, &messages);
                    assert!(events >= expected, "{events}");
                },
                BatchSize::PerIteration,
            );
        });
    }

    let is_unknown = |it: &&Message| it.text.starts_with(r#"{"method":"Network.policyUpdated""#);
    let unknown: Vec<&Message> = messages.iter().filter(is_unknown).collect();
    assert!(
        !unknown.is_empty(),
        "there is what the machine has no use for"
    );
    group.throughput(Throughput::Elements(unknown.len() as u64));
    group.bench_function("unknown", |b| {
        let mut core = connected(CategorySet::ALL, begin);
        b.iter(|| {
            for message in &unknown {
                core.message(message.at, black_box(&message.text));
            }
        });
    });
    group.finish();
}
