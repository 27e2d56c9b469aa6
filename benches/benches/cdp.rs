//! What a browser's messages cost: from a message's text to finished events.
//!
//! One element is one message. **Measured:** reading, state, redaction, and making the events;
//! dropping them again, too. **Not measured:** the socket, and publishing the events.
//!
//! `all` captures everything, so that nearly a third of the messages become an event. `console` alone
//! is what a message costs that is of no use: most are, then. `unknown` are the messages whose method
//! means nothing to the machine.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde_json::value::RawValue;
use tapline_benches::{MEASURED, WARM_UP};
use tapline_cdp::{Core, Options, Output, Time};
use tapline_oapi::{Category, CategorySet};

/// What a Chromium said in a real session; see docs/cdp.md.
const SESSION: &str = include_str!("../../crates/cdp/data/session.ndjson");

/// The body of every response of text.
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(WARM_UP).measurement_time(MEASURED);
    targets = recorded
}
criterion_main!(benches);

#[derive(Deserialize)]
struct Line {
    t: u64,
    msg: Box<RawValue>,
}

fn recorded(c: &mut Criterion) {
    let mut group = c.benchmark_group("cdp/recorded");
    let lines: Vec<Line> = SESSION
        .lines()
        .map(|line| serde_json::from_str(line).expect("the recording is good JSON"))
        .collect();
    group.throughput(Throughput::Elements(lines.len() as u64));
    for (name, captured, expected) in [
        ("all", CategorySet::ALL, 310),
        ("console", CategorySet::of(&[Category::Console]), 30),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || connected(captured, at(lines[0].t)),
                |core| {
                    let mut events = 0;
                    for line in &lines {
                        core.message(at(line.t), black_box(line.msg.get()));
                        events += drain(core, at(line.t));
                    }
                    assert!(events >= expected, "{events}");
                },
                BatchSize::PerIteration,
            );
        });
    }

    let unknown: Vec<&Line> = lines
        .iter()
        .filter(|line| {
            line.msg
                .get()
                .starts_with(r#"{"method":"Network.policyUpdated""#)
        })
        .collect();
    assert!(
        !unknown.is_empty(),
        "there is what the machine has no use for"
    );
    group.throughput(Throughput::Elements(unknown.len() as u64));
    group.bench_function("unknown", |b| {
        let mut core = connected(CategorySet::ALL, at(lines[0].t));
        b.iter(|| {
            for line in &unknown {
                core.message(at(line.t), black_box(line.msg.get()));
            }
        });
    });
    group.finish();
}

/// The moment of a recorded message. A recording has wall times only.
fn at(t: u64) -> Time {
    Time {
        monotonic: Duration::from_micros(t),
        wall: t,
    }
}

fn connected(captured: CategorySet, now: Time) -> Core {
    let mut core = Core::new(Options {
        captured,
        ..Options::default()
    });
    core.connected(now);
    drain(&mut core, now);
    core
}

/// Takes what there is to say, and answers what is asked for: the recorded collector asked for no bodies.
/// Returns the number of events.
fn drain(core: &mut Core, now: Time) -> usize {
    let mut events = 0;
    while let Some(output) = core.poll() {
        match output {
            Output::Event(event) => {
                events += 1;
                drop(black_box(event));
            }
            Output::Command(command) if command.method == "Network.getResponseBody" => {
                let id = command.id;
                let answer =
                    format!(r#"{{"id":{id},"result":{{"body":"{BODY}","base64Encoded":false}}}}"#);
                core.message(now, &answer);
            }
            Output::Command(command) => drop(black_box(command)),
        }
    }
    events
}
