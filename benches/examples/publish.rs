//! Publishes a small shared event as often as the second argument says, for a profiler: into a full session (`session`), into
//! it in batches of 1,000 (`batch`), or into a full bare ring (`ring`). With `drain` a reader of the full session reads so many.
//! With `corpus` the events of a browser session are published in turn, and a reader asks for the JSON of each.
//!
//! `valgrind --tool=callgrind target/release/examples/publish session 100000`, and the same with 200000. The difference is
//! what 100,000 cost. `time` with some millions says what it is in time.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;

use tapline_benches::{BATCH, TS, append, corpus, full_ring, full_session, small};
use tapline_events::Item;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (what, times) = (arguments.next(), arguments.next());
    let times: u64 = times.map_or(1, |it| it.parse().expect("a number"));
    let event = Arc::new(small().with_ts(TS));
    match what.as_deref() {
        Some("session") => {
            let session = full_session();
            for _ in 0..times {
                black_box(session.publish(black_box(&event)).is_ok());
            }
        }
        Some("batch") => {
            let session = full_session();
            for _ in 0..times / 1000 {
                let mut batch = session.batch();
                for _ in 0..1000 {
                    black_box(batch.publish(black_box(&event)).is_ok());
                }
            }
        }
        Some("drain") => {
            let session = full_session();
            let mut read = 0;
            while read < times {
                let mut reader = session.new_reader(0);
                while reader.read(BATCH, |item| {
                    if let Item::Envelope(envelope) = item {
                        black_box((envelope.seq(), envelope.event().ts));
                    }
                    ControlFlow::Continue(())
                }) > 0
                {}
                read += reader.ledger().delivered;
            }
        }
        Some("corpus") => {
            let session = full_session();
            let events = corpus();
            let mut reader = session.new_reader(session.seq());
            for event in events.iter().cycle().take(times as usize) {
                black_box(session.publish(black_box(event)).is_ok());
                reader.read(BATCH, |item| {
                    if let Item::Envelope(envelope) = item {
                        black_box(envelope.json());
                    }
                    ControlFlow::Continue(())
                });
            }
        }
        Some("ring") => {
            let ring = full_ring();
            for _ in 0..times {
                append(&ring, black_box(&event).clone());
            }
        }
        _ => panic!("publish session|batch|ring|drain|corpus [TIMES]"),
    }
}
