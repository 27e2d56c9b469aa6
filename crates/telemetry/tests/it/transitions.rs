//! Transitions are atomic with publishing: several producers, a controller that toggles, and
//! afterwards every event held against the windows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tapline_oapi::{Category, CategorySet, Event, KnownType};
use tapline_telemetry::{PublishError, TelemetryConfig, TelemetrySession};

use crate::session;

const PRODUCERS: usize = 3;
const ROUNDS: usize = 3000;

fn config(categories: &[Category]) -> TelemetryConfig {
    TelemetryConfig {
        categories: CategorySet::of(categories),
    }
}

/// Runs the producers, each calling `produce` over and over, beside `control`.
fn beside(produce: impl Fn(usize) + Sync, control: impl FnOnce()) {
    /// Ends the producers also where the controller panics, or the scope would wait for them.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let done = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (done, rounds, produce) = (&done, &rounds, &produce);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    produce(producer);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _done = Done(&done);
        // With two cores a controller could be done before the producers have begun.
        let begun = Instant::now();
        while rounds.load(Ordering::Relaxed) < PRODUCERS as u64 {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the producers do not get on"
            );
            thread::yield_now();
        }
        control();
    });
}

fn publish(session: &TelemetrySession, known: KnownType) -> Result<u64, PublishError> {
    session
        .publish(Event::known(known, None).with_ts(1))
        .map(|envelope| envelope.seq())
}

#[test]
fn an_event_carries_a_session_s_id_exactly_within_its_window() {
    let session = session(1 << 22);
    // `(id, the seq it began at, the seq it ended at)`, in order.
    let mut windows: Vec<(String, u64, u64)> = Vec::new();
    beside(
        |producer| {
            let known = [
                KnownType::PageLoad,
                KnownType::ConsoleLog,
                KnownType::ServiceCrashed,
            ];
            let known = known[producer % known.len()];
            if producer % 2 == 0 {
                let _ = publish(&session, known);
                return;
            }
            let mut batch = session.batch();
            for _ in 0..5 {
                let _ = batch.publish(Event::known(known, None).with_ts(1));
            }
        },
        || {
            for round in 0..ROUNDS {
                let id = format!("s{round}");
                let start = session.start(&id, TelemetryConfig::default()).unwrap();
                if let Some(last) = windows.last_mut().filter(|last| last.2 == u64::MAX) {
                    last.2 = start;
                }
                windows.push((id, start, u64::MAX));
                // Sometimes into the next session at once, sometimes by way of none.
                if round % 3 != 0 {
                    thread::yield_now();
                    windows.last_mut().unwrap().2 = session.stop();
                }
            }
            let end = session.stop();
            if let Some(last) = windows.last_mut().filter(|last| last.2 == u64::MAX) {
                last.2 = end;
            }
        },
    );
    let retained = session.stream().retained();
    assert!(retained.head > 0);
    let windows: HashMap<_, _> = windows
        .into_iter()
        .map(|(id, start, end)| (id, (start, end)))
        .collect();
    for seq in retained.oldest..=retained.head {
        let envelope = session.stream().envelope(seq).unwrap();
        let stamped = envelope
            .stamp()
            .session()
            .expect("nothing is published without a session");
        let (start, end) = windows[&*stamped.id];
        assert!(
            start < seq && seq <= end,
            "seq {seq} in ({start}, {end}] of {}",
            stamped.id
        );
        assert_eq!(stamped.start_seq, start);
    }
}

#[test]
fn nothing_of_a_stopped_session_gets_a_seq() {
    let session = session(1 << 10);
    beside(
        |_| {
            let _ = publish(&session, KnownType::PageLoad);
        },
        || {
            for _ in 0..ROUNDS {
                session.start("s", TelemetryConfig::default()).unwrap();
                let end = session.stop();
                assert_eq!(
                    session.seq(),
                    end,
                    "none was under way that still came through"
                );
                thread::yield_now();
                assert_eq!(session.seq(), end);
            }
        },
    );
}

#[test]
fn nothing_of_a_category_that_was_switched_off_gets_a_seq() {
    let session = session(1 << 20);
    session
        .start("s", config(&[Category::Page, Category::Console]))
        .unwrap();
    let mut off = Vec::new();
    beside(
        |_| {
            let _ = publish(&session, KnownType::PageLoad);
            let _ = publish(&session, KnownType::ConsoleLog);
        },
        || {
            for _ in 0..ROUNDS {
                let from = session.update_config(config(&[Category::Page])).unwrap();
                thread::yield_now();
                let to = session
                    .update_config(config(&[Category::Page, Category::Console]))
                    .unwrap();
                off.push((from, to));
            }
        },
    );
    let oldest = session.stream().retained().oldest;
    for (from, to) in off {
        for seq in (from + 1).max(oldest)..=to {
            let envelope = session.stream().envelope(seq).unwrap();
            assert_eq!(
                envelope.event().category,
                Category::Page,
                "seq {seq} in ({from}, {to}]"
            );
        }
    }
}

/// What both sessions capture is never refused while one replaces the other, nor what both
/// configurations do.
#[test]
fn nothing_falls_between_two_sessions() {
    let session = session(1 << 10);
    session.start("s", config(&[Category::Page])).unwrap();
    let published = AtomicU64::new(0);
    beside(
        |_| {
            publish(&session, KnownType::PageLoad).expect("captured at every moment");
            published.fetch_add(1, Ordering::Relaxed);
        },
        || {
            for round in 0..ROUNDS {
                let categories = [Category::Page, Category::ALL[round % 9]];
                match round % 2 {
                    0 => drop(session.start("t", config(&categories)).unwrap()),
                    _ => drop(session.update_config(config(&categories)).unwrap()),
                }
            }
        },
    );
    assert_eq!(
        session.seq(),
        published.into_inner(),
        "each has a seq, and nothing else"
    );
}

/// A session that captures a category does so from the moment that `start` has returned, for the
/// thread that called it and for those that learn of it.
#[test]
fn a_change_holds_once_it_has_returned() {
    let session = session(1 << 10);
    beside(
        |_| {
            let _ = publish(&session, KnownType::ConsoleLog);
        },
        || {
            for _ in 0..ROUNDS {
                session.start("s", config(&[Category::Page])).unwrap();
                publish(&session, KnownType::PageLoad).unwrap();
                session.update_config(config(&[Category::Network])).unwrap();
                let refused = publish(&session, KnownType::PageLoad).unwrap_err();
                assert_eq!(refused, PublishError::CategoryDisabled(Category::Page));
                session.stop();
                assert_eq!(
                    publish(&session, KnownType::NetworkIdle),
                    Err(PublishError::Inactive)
                );
            }
        },
    );
}
