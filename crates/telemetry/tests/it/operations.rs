use std::sync::Arc;
use std::time::SystemTime;

use tapline_events::Item;
use tapline_oapi::{Category, CategorySet, Event, KnownType};
use tapline_telemetry::{EmptyId, Inactive, PublishError, TelemetryConfig};

use crate::session;

fn event(known: KnownType) -> Event {
    Event::known(known, None)
}

fn only(category: Category) -> TelemetryConfig {
    TelemetryConfig {
        categories: CategorySet::of(&[category]),
    }
}

#[test]
fn none_is_running_at_first() {
    let session = session(8);
    assert!(!session.active());
    assert_eq!(
        (session.id(), session.config(), session.applied_at()),
        (None, None, None)
    );
    assert_eq!((session.seq(), session.session_start_seq()), (0, None));
    assert_eq!(
        session.publish(event(KnownType::PageLoad)).unwrap_err(),
        PublishError::Inactive
    );
    // What is always captured is captured by a session, and there is none.
    assert_eq!(
        session
            .publish(event(KnownType::ServiceCrashed))
            .unwrap_err(),
        PublishError::Inactive
    );
}

#[test]
fn it_begins_at_the_head_and_now() {
    let session = session(8);
    let before = SystemTime::now();
    assert_eq!(session.start("one", TelemetryConfig::default()), Ok(0));
    assert!(session.active());
    assert_eq!(session.id().as_deref(), Some("one"));
    let applied_at = session.applied_at().unwrap();
    assert!(before <= applied_at && applied_at <= SystemTime::now());

    session.publish(event(KnownType::PageLoad)).unwrap();
    session.publish(event(KnownType::PageLoad)).unwrap();
    assert_eq!(session.start("two", TelemetryConfig::default()), Ok(2));
    assert_eq!((session.session_start_seq(), session.seq()), (Some(2), 2));
    let envelope = session.publish(event(KnownType::PageLoad)).unwrap();
    assert_eq!(envelope.seq(), 3, "the seq is never reset by a session");
    assert!(
        envelope
            .json()
            .whole()
            .contains(r#""telemetry_session_id":"two""#)
    );
}

#[test]
fn an_empty_id_is_refused_and_changes_nothing() {
    let session = session(8);
    session.start("one", only(Category::Page)).unwrap();
    assert_eq!(session.start("", TelemetryConfig::default()), Err(EmptyId));
    assert_eq!(session.id().as_deref(), Some("one"));
    assert_eq!(session.config(), Some(only(Category::Page)));
}

#[test]
fn a_configuration_captures_what_it_names_and_what_is_always_captured() {
    let all = CategorySet::USER_FACING;
    for (categories, captured) in [
        (CategorySet::EMPTY, CategorySet::ALL),
        (all, CategorySet::ALL),
        (
            CategorySet::of(&[Category::Page]),
            CategorySet::ALWAYS.with(Category::Page),
        ),
        (CategorySet::of(&[Category::System]), CategorySet::ALWAYS),
    ] {
        let session = session(64);
        session.start("s", TelemetryConfig { categories }).unwrap();
        for known in KnownType::ALL {
            let published = session.publish(event(*known));
            match captured.contains(known.category()) {
                true => assert!(published.is_ok(), "{known} under {categories:?}"),
                false => assert_eq!(
                    published.unwrap_err(),
                    PublishError::CategoryDisabled(known.category()),
                    "{known} under {categories:?}"
                ),
            }
        }
    }
}

#[test]
fn a_configuration_is_replaced_in_a_running_session_only() {
    let session = session(8);
    assert_eq!(session.update_config(only(Category::Page)), Err(Inactive));
    assert!(!session.active());
    session.start("s", only(Category::Console)).unwrap();
    session.publish(event(KnownType::ConsoleLog)).unwrap();
    let applied_at = session.applied_at().unwrap();
    assert_eq!(session.update_config(only(Category::Page)), Ok(1));
    assert!(applied_at <= session.applied_at().unwrap());
    assert_eq!(session.id().as_deref(), Some("s"));
    assert_eq!(
        session.session_start_seq(),
        Some(0),
        "it is the same session"
    );
    let refused = session.publish(event(KnownType::ConsoleLog)).unwrap_err();
    assert_eq!(refused, PublishError::CategoryDisabled(Category::Console));
    session.publish(event(KnownType::PageLoad)).unwrap();
}

#[test]
fn readers_continue_over_the_end_of_a_session_into_the_next() {
    let session = session(8);
    let mut reader = session.new_reader(0);
    session.start("one", TelemetryConfig::default()).unwrap();
    session.publish(event(KnownType::PageLoad)).unwrap();
    assert_eq!(session.stop(), 1);
    assert_eq!((session.id(), session.applied_at()), (None, None));
    assert_eq!(
        session.stop(),
        1,
        "to stop what has stopped changes nothing"
    );
    session.start("two", TelemetryConfig::default()).unwrap();
    session.publish(event(KnownType::PageLoad)).unwrap();
    for (seq, id) in [(1, "one"), (2, "two")] {
        let Some(Item::Envelope(envelope)) = reader.try_next() else {
            panic!("seq {seq}")
        };
        assert_eq!(envelope.seq(), seq);
        assert_eq!(&*envelope.stamp().session().unwrap().id, id);
    }
}

#[test]
fn the_producers_event_is_not_touched() {
    let session = session(8);
    session.start("s", TelemetryConfig::default()).unwrap();
    let mut event = event(KnownType::PageLoad);
    event
        .source
        .metadata
        .insert("telemetry_session_id".into(), "mine".into());
    let event = Arc::new(event);
    let envelope = session.publish(&event).unwrap();
    assert!(
        envelope
            .json()
            .whole()
            .contains(r#""telemetry_session_id":"s""#)
    );
    assert_eq!(
        (event.ts, &*event.source.metadata["telemetry_session_id"]),
        (0, "mine")
    );
}

#[test]
fn a_snapshot_is_of_one_moment() {
    let session = session(8);
    session.start("s", TelemetryConfig::default()).unwrap();
    session.publish(event(KnownType::PageLoad)).unwrap();
    let (state, head) = session.snapshot();
    assert_eq!((state.since(), head), (0, 1));
    let again = session.snapshot().0;
    assert!(state.is_same(&again));
    session.update_config(TelemetryConfig::default()).unwrap();
    let updated = session.snapshot().0;
    assert!(
        !state.is_same(&updated),
        "an equal configuration is another state"
    );
    assert_eq!(updated.since(), 1);
}

/// In a batch each event is decided by itself, under the state at that moment.
#[test]
fn a_batch_publishes_as_single_calls_do() {
    let session = session(1024);
    let mut batch = session.batch();
    let refused = batch.publish(event(KnownType::PageLoad)).unwrap_err();
    assert_eq!(refused, PublishError::Inactive);
    assert_eq!(session.start("one", only(Category::Page)), Ok(0));
    for seq in 1..=200 {
        let envelope = batch.publish(event(KnownType::PageLoad)).unwrap();
        assert_eq!(envelope.seq(), seq);
        assert_eq!(&*envelope.stamp().session().unwrap().id, "one");
        let refused = batch.publish(event(KnownType::ConsoleLog)).unwrap_err();
        assert_eq!(refused, PublishError::CategoryDisabled(Category::Console));
        assert_eq!(session.seq(), seq, "it has its seq before the batch ends");
    }
    // Another producer, and a transition, in the middle of it.
    assert_eq!(
        session.publish(event(KnownType::PageLoad)).unwrap().seq(),
        201
    );
    assert_eq!(session.start("two", only(Category::Console)), Ok(201));
    let envelope = batch.publish(event(KnownType::ConsoleLog)).unwrap();
    assert_eq!(envelope.seq(), 202);
    assert!(
        envelope
            .json()
            .whole()
            .contains(r#""telemetry_session_id":"two""#)
    );
    let kept = envelope.keep();
    session.stop();
    let refused = batch.publish(event(KnownType::ConsoleLog)).unwrap_err();
    assert_eq!(refused, PublishError::Inactive);
    drop(batch);
    assert_eq!(kept.seq(), 202);
    let ledger = session.ledger();
    assert_eq!((ledger.published.sum(), ledger.offered().sum()), (202, 404));
    assert_eq!(ledger.filtered.inactive.sum(), 2);
    assert_eq!(ledger.filtered.category_disabled[Category::Console], 200);
}

#[test]
fn a_batch_for_one_session_ends_with_it() {
    let session = session(8);
    session.start("one", TelemetryConfig::default()).unwrap();
    let (state, _) = session.snapshot();
    let id = state.session().unwrap().id.clone();
    let mut batch = session.batch_in(&id);
    assert_eq!(batch.publish(event(KnownType::PageLoad)).unwrap().seq(), 1);
    // Another session with the same id.
    session.start("one", TelemetryConfig::default()).unwrap();
    let refused = batch.publish(event(KnownType::PageLoad)).unwrap_err();
    assert_eq!(refused, PublishError::Inactive);
    drop(batch);
    assert_eq!(session.seq(), 1);
}

/// Those that sleep are called at the end of a batch, and in a long one before that.
#[test]
fn a_batch_calls_sleeping_readers() {
    let session = session(1024);
    session.start("one", TelemetryConfig::default()).unwrap();
    let (met, meet) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let mut reader = session.new_reader(0);
        scope.spawn(move || {
            for _ in 0..101 {
                let read = reader.next(Some(std::time::Duration::from_secs(20)));
                met.send(matches!(read, Some(Item::Envelope(_)))).unwrap();
            }
        });
        let mut batch = session.batch();
        for _ in 0..100 {
            batch.publish(event(KnownType::PageLoad)).unwrap();
        }
        // It is not over, and 64 of them are read.
        for _ in 0..64 {
            assert!(meet.recv().unwrap());
        }
        batch.publish(event(KnownType::PageLoad)).unwrap();
        drop(batch);
        for _ in 64..101 {
            assert!(meet.recv().unwrap());
        }
    });
}
