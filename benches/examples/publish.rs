//! Publishes a small shared event as often as the second argument says, for a profiler: into a full session (`session`), into
//! it in batches of 1,000 (`batch`), or into a full bare ring (`ring`).
//!
//! `valgrind --tool=callgrind target/release/examples/publish session 100000`, and the same with 200000. The difference is
//! what 100,000 cost. `time` with some millions says what it is in time.

use std::hint::black_box;
use std::sync::Arc;

use tapline_benches::{TS, append, full_ring, full_session, small};

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
        Some("ring") => {
            let ring = full_ring();
            for _ in 0..times {
                append(&ring, black_box(&event).clone());
            }
        }
        _ => panic!("publish session|batch|ring [TIMES]"),
    }
}
