//! What the ledger says, entry by entry; `chaos` holds all of it together.

use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::value::RawValue;
use tapline_events::Counts;
use tapline_oapi::encode::{LargestField, MAX_ENVELOPE_BYTES};
use tapline_oapi::{Category, CategorySet, Event, KnownType};
use tapline_telemetry::{PublishError, SessionLedger, TelemetryConfig, TelemetrySession};

use crate::session;

fn event(known: KnownType) -> Event {
    Event::known(known, None)
}

/// Of the category `console`, with so many bytes of data.
fn with_data(bytes: usize) -> Event {
    let data = format!("\"{}\"", "x".repeat(bytes - 2));
    let data = RawValue::from_string(data).unwrap();
    Event::known(KnownType::ConsoleLog, Some(data))
}

fn capture(session: &TelemetrySession, category: Category) {
    let categories = CategorySet::of(&[category]);
    session.start("s", TelemetryConfig { categories }).unwrap();
}

fn counts<const N: usize>(expected: [(Category, u64); N]) -> Counts {
    let mut counts = [0; Category::COUNT];
    for (category, n) in expected {
        counts[category.index()] = n;
    }
    counts.into()
}

#[test]
fn each_answer_is_entered_once_under_its_category() {
    let session = session(2);
    assert_eq!(session.ledger(), SessionLedger::default());
    for known in [
        KnownType::PageLoad,
        KnownType::PageLoad,
        KnownType::ServiceCrashed,
    ] {
        session.publish(event(known)).unwrap_err();
    }
    capture(&session, Category::Console);
    // More than are retained: what was evicted stays published.
    for _ in 0..5 {
        session.publish(event(KnownType::ConsoleLog)).unwrap();
    }
    session.publish(event(KnownType::ServiceCrashed)).unwrap();
    session.publish(event(KnownType::PageLoad)).unwrap_err();
    session.publish(event(KnownType::NetworkIdle)).unwrap_err();
    session.stop();
    session.publish(event(KnownType::ConsoleLog)).unwrap_err();

    let ledger = session.ledger();
    let (console, system) = (Category::Console, Category::System);
    let (page, network) = (Category::Page, Category::Network);
    assert_eq!(ledger.published, counts([(console, 5), (system, 1)]));
    assert_eq!(
        ledger.filtered.inactive,
        counts([(page, 2), (system, 1), (console, 1)])
    );
    assert_eq!(
        ledger.filtered.category_disabled,
        counts([(page, 1), (network, 1)])
    );
    assert_eq!((ledger.truncated.sum(), ledger.refused.sum()), (0, 0));
    assert_eq!(ledger.offered().sum(), 12);
    assert_eq!(
        ledger.offered(),
        counts([(console, 6), (system, 2), (page, 3), (network, 1)])
    );
}

#[test]
fn truncated_is_what_was_cut_here() {
    let session = session(8);
    capture(&session, Category::Console);
    let marked = |event: Event| Event {
        truncated: true,
        ..event
    };
    // Published: as it came, as it came with its producer's own `truncated`, cut, and cut with that flag.
    session.publish(with_data(10)).unwrap();
    session.publish(marked(with_data(10))).unwrap();
    session
        .publish(marked(event(KnownType::ConsoleLog)))
        .unwrap();
    let cut = session.publish(with_data(MAX_ENVELOPE_BYTES)).unwrap();
    assert!(cut.event().truncated);
    session
        .publish(marked(with_data(MAX_ENVELOPE_BYTES)))
        .unwrap();

    let ledger = session.ledger();
    assert_eq!(ledger.truncated, counts([(Category::Console, 2)]));
    assert_eq!(ledger.published, counts([(Category::Console, 5)]));
}

#[test]
fn refused_is_what_is_too_large_even_without_its_data() {
    let session = session(8);
    capture(&session, Category::Console);
    let mut event = with_data(10);
    let metadata = &mut event.source.metadata;
    metadata.insert("k".into(), "v".repeat(MAX_ENVELOPE_BYTES));
    let event = Arc::new(event);
    assert_eq!(
        session.publish(&event).unwrap_err(),
        PublishError::TooLarge(LargestField::SourceMetadata)
    );
    session.stop();
    assert_eq!(
        session.publish(&event).unwrap_err(),
        PublishError::Inactive,
        "its size is looked at only if it is wanted"
    );

    let ledger = session.ledger();
    let one = counts([(Category::Console, 1)]);
    assert_eq!((ledger.refused, ledger.filtered.inactive), (one, one));
    assert_eq!((ledger.published.sum(), ledger.truncated.sum()), (0, 0));
    assert_eq!(ledger.offered(), one + one);
}

/// Far more threads at the same time than there are processors, one generation after the other.
#[test]
fn nothing_that_any_number_of_threads_filtered_is_missed() {
    const THREADS: usize = 1100;
    const GENERATIONS: u64 = 2;
    const EACH: u64 = 20;
    let session = session(2);
    for _ in 0..GENERATIONS {
        let all_there = Barrier::new(THREADS);
        thread::scope(|scope| {
            for n in 0..THREADS {
                let (session, all_there) = (&session, &all_there);
                let event = Arc::new(event(KnownType::ALL[n % KnownType::ALL.len()]));
                let publish = move || {
                    session.publish(&event).unwrap_err();
                    // From here on each of them has a tally, and no two have the same.
                    all_there.wait();
                    for _ in 1..EACH {
                        session.publish(&event).unwrap_err();
                    }
                };
                // They do next to nothing: a small stack is enough.
                let small = thread::Builder::new().stack_size(64 * 1024);
                small.spawn_scoped(scope, publish).unwrap();
            }
        });
    }
    let mut expected = [0; Category::COUNT];
    for n in 0..THREADS {
        let category = KnownType::ALL[n % KnownType::ALL.len()].category();
        expected[category.index()] += GENERATIONS * EACH;
    }
    assert_eq!(session.ledger().filtered.inactive, expected.into());
}

#[test]
fn what_a_thread_publishes_while_it_ends_is_counted() {
    struct Last(Arc<TelemetrySession>);
    impl Drop for Last {
        fn drop(&mut self) {
            let _ = self.0.publish(event(KnownType::PageLoad));
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }

    let session = Arc::new(session(2));
    for _ in 0..3 {
        let session = session.clone();
        let ending = thread::spawn(move || {
            // Made before the thread has a tally, so it goes after that.
            LAST.set(Some(Last(session.clone())));
            session.publish(event(KnownType::PageLoad)).unwrap_err();
        });
        ending.join().unwrap();
    }
    let page = counts([(Category::Page, 6)]);
    assert_eq!(session.ledger().filtered.inactive, page);
}
