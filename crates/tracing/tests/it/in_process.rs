//! Into a session of the same process.

use std::fmt;
use std::sync::Arc;

use tapline_oapi::{Category, ConfigRequest};
use tapline_tracing::{Counts, Options, in_process};
use tracing::subscriber::with_default;
use tracing::{Dispatch, debug, dispatcher, info, info_span, warn};
use tracing_subscriber::prelude::*;

use crate::rig::{Service, capturing, closes};

fn connected(options: Options) -> (Dispatch, Service, tapline_tracing::Handle) {
    let (layer, source) = in_process(options);
    let handle = source.handle();
    let subscriber = tracing_subscriber::registry().with(layer);
    (
        Dispatch::new(subscriber),
        Service::new(Some(source)),
        handle,
    )
}

#[test]
fn records_are_published_while_a_session_captures_their_category_and_not_otherwise() {
    let (dispatch, mut service, handle) = connected(Options::default());
    dispatcher::with_default(&dispatch, || {
        info!("before");
        service.start();
        info!("first");
        // The same statement before and after a change, which `tracing` remembers its interest of.
        for round in 0..3 {
            if round == 1 {
                service.configure(&capturing(&[Category::Console]));
            }
            if round == 2 {
                service.configure(&capturing(&[Category::Platform]));
            }
            info!(round);
        }
        service.stop();
        info!("after");
        service.start();
        info!("again");
    });
    let seen: Vec<_> = service.rest();
    let seen: Vec<_> = seen
        .iter()
        .map(|event| (&event["data"]["message"], &event["data"]["fields"]["round"]))
        .collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert_eq!(seen[0].0, "first");
    assert_eq!((seen[1].1, seen[2].1), (&0.into(), &2.into()));
    assert_eq!(seen[3].0, "again");
    let counts = handle.counts();
    closes(&counts, 4);
    assert_eq!(counts.published, 4);
}

#[test]
fn another_layer_sees_everything_whatever_is_captured() {
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let (layer, source) = in_process(Options::default());
    let fmt = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    let service = Service::new(Some(source));
    with_default(tracing_subscriber::registry().with(layer).with(fmt), || {
        info!("one");
        service.start();
        debug!("two");
        warn!("three");
        service.stop();
        info!("four");
    });
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for text in ["one", "two", "three", "four"] {
        assert!(lines.contains(text), "{lines}");
    }
}

#[test]
fn what_is_too_verbose_or_of_tapline_itself_makes_no_event() {
    let (dispatch, service, handle) = connected(Options::default());
    service.start();
    dispatcher::with_default(&dispatch, || {
        debug!("too verbose");
        info!(target: "tapline_server::serve", "its own");
        info!(target: "tapline", "its own");
        info!(target: "taplines", "another program's");
    });
    closes(&handle.counts(), 1);
}

#[test]
fn many_threads_publish_at_once_and_each_in_its_order() {
    const THREADS: u64 = 8;
    const EACH: u64 = 2_000;
    let (dispatch, mut service, handle) = connected(Options::default());
    service.start();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                dispatcher::with_default(&dispatch, || {
                    for number in 0..EACH {
                        info!(thread, number, "work");
                    }
                });
            });
        }
    });
    let counts = handle.counts();
    closes(&counts, THREADS * EACH);
    assert_eq!(counts.published, THREADS * EACH);
    let mut next = [0; THREADS as usize];
    for event in service.rest() {
        let field = |name: &str| event["data"]["fields"][name].as_u64().unwrap();
        let expected = &mut next[usize::try_from(field("thread")).unwrap()];
        assert_eq!(field("number"), *expected);
        *expected += 1;
    }
    assert_eq!(next, [EACH; THREADS as usize]);
}

/// A value that logs while it is formatted, also about the span that it is recorded in.
struct Chatty;

impl fmt::Debug for Chatty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        info!("inner");
        f.write_str("chatty")
    }
}

#[test]
fn a_value_may_log_while_it_is_formatted() {
    let (dispatch, mut service, handle) = connected(Options::default());
    service.start();
    dispatcher::with_default(&dispatch, || {
        let span = info_span!("work", value = tracing::field::Empty);
        let _entered = span.enter();
        span.record("value", tracing::field::debug(Chatty));
        info!(value = ?Chatty, "outer");
    });
    drop(dispatch);
    let events = service.rest();
    let of = |event: &serde_json::Value| {
        event["data"]["message"]
            .as_str()
            .unwrap_or("end")
            .to_owned()
    };
    let seen: Vec<_> = events.iter().map(of).collect();
    // `tracing` itself drops what is logged within a record, unless the subscriber is that of the whole process.
    assert_eq!(seen, ["inner", "outer", "end"]);
    assert_eq!(events[1]["data"]["fields"]["value"], "chatty");
    assert_eq!(events[2]["data"]["fields"]["value"], "chatty");
    closes(&handle.counts(), 3);
}

#[test]
fn a_value_that_panics_breaks_nothing_for_the_next_record() {
    struct Broken;
    impl fmt::Debug for Broken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("broken on purpose")
        }
    }
    let (dispatch, mut service, _) = connected(Options::default());
    service.start();
    dispatcher::with_default(&dispatch, || {
        let broken = std::panic::catch_unwind(|| info!(value = ?Broken, "lost with the panic"));
        assert!(broken.is_err());
        info!("next");
    });
    let events = service.rest();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["data"]["message"], "next");
}

#[test]
fn two_layers_publish_into_two_sessions() {
    let (first, first_source) = in_process(Options::default());
    let (second, second_source) = in_process(Options {
        category: Category::System,
        ..Options::default()
    });
    let mut services = [
        Service::new(Some(first_source)),
        Service::new(Some(second_source)),
    ];
    services.iter().for_each(Service::start);
    let subscriber = tracing_subscriber::registry().with(first).with(second);
    with_default(subscriber, || info_span!("work").in_scope(|| info!("both")));
    let [first, second] = services.each_mut().map(Service::rest);
    assert_eq!((first.len(), second.len()), (2, 2));
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(
            (&a["category"], &b["category"]),
            (&"platform".into(), &"system".into())
        );
        let ids = |event: &serde_json::Value| event["source"]["metadata"]["span_id"].clone();
        assert_eq!(ids(a), ids(b));
        assert_eq!(a["type"], b["type"]);
    }
}

#[test]
fn what_is_published_after_its_session_ended_is_counted_as_filtered() {
    // The span is opened in one session and closed in none.
    let (dispatch, mut service, handle) = connected(Options::default());
    service.start();
    let span = dispatcher::with_default(&dispatch, || info_span!("long"));
    service.configure(&ConfigRequest::default());
    service.stop();
    drop(span);
    assert!(service.rest().is_empty());
    let counts = handle.counts();
    assert_eq!(
        counts,
        Counts::default(),
        "the filter excluded it before it was made"
    );
}
