//! To a real server, on loopback.

use std::env;
use std::process::Command;
use std::time::Duration;

use tapline_oapi::Category;
use tapline_tracing::{Guard, Handle, HttpError, HttpOptions, Options, over_http};
use tracing::{Dispatch, dispatcher, info, info_span};
use tracing_subscriber::prelude::*;

use crate::rig::{DEADLINE, Server, Service, capturing, closes, wait_for};

pub(crate) fn connected(http: HttpOptions) -> (Dispatch, Guard) {
    let (layer, guard) = over_http(Options::default(), http).unwrap();
    (
        Dispatch::new(tracing_subscriber::registry().with(layer)),
        guard,
    )
}

pub(crate) fn to(server: &Server) -> HttpOptions {
    let mut options = HttpOptions::new(server.url());
    options.linger = Duration::from_millis(5);
    options
}

#[test]
fn records_and_spans_arrive_in_order_without_a_runtime() {
    let mut service = Service::new(None);
    service.start();
    let server = service.serve();
    let (dispatch, guard) = connected(to(&server));
    dispatcher::with_default(&dispatch, || {
        info_span!("work", id = 7).in_scope(|| info!("inside"));
        for number in 0..5_000 {
            info!(number);
        }
    });
    // The queue's default size is larger than that.
    let counts = guard.shutdown(DEADLINE);
    closes(&counts, 5_002);
    assert_eq!(counts.published, 5_002, "{counts:?}");
    let events = service.rest();
    assert_eq!(events.len(), 5_002);
    assert_eq!(events[0]["data"]["message"], "inside");
    assert_eq!(events[0]["data"]["spans"][0]["fields"]["id"], 7);
    assert_eq!(events[1]["type"], "span_end");
    for (number, event) in (0..5_000).zip(&events[2..]) {
        assert_eq!(event["data"]["fields"]["number"], number);
    }
    let times: Vec<_> = events.iter().map(|it| it["ts"].as_u64().unwrap()).collect();
    assert!(times.is_sorted() && 0 < times[0]);
}

#[test]
fn a_single_record_is_sent_within_a_moment_and_without_a_shutdown() {
    let mut service = Service::new(None);
    service.start();
    let server = service.serve();
    let (dispatch, guard) = connected(to(&server));
    dispatcher::with_default(&dispatch, || info!("one"));
    assert_eq!(service.next()["data"]["message"], "one");
    // And after a pause in which the thread slept.
    dispatcher::with_default(&dispatch, || info!("two"));
    assert_eq!(service.next()["data"]["message"], "two");
    drop(guard);
}

#[test]
fn without_a_session_nothing_is_made_until_one_begins() {
    let mut service = Service::new(None);
    let server = service.serve();
    let (dispatch, guard) = connected(to(&server));
    let handle = guard.handle();
    dispatcher::with_default(&dispatch, || {
        // Until the server has said that nothing captures them, records are sent.
        let offered = log_until(&handle, false);
        wait_for(&handle, |counts| counts.filtered == offered);
        info!("makes no event");
        assert_eq!(handle.counts().offered, offered);

        service.configure(&capturing(&[Category::Platform]));
        log_until(&handle, true);
        assert_eq!(service.next()["data"]["message"], "captured?");

        // Another configuration excludes them again.
        service.configure(&capturing(&[Category::Console]));
        log_until(&handle, false);
    });
    let counts = guard.shutdown(DEADLINE);
    closes(&counts, counts.offered);
    assert_eq!(counts.published + counts.filtered, counts.offered);
    assert_eq!(service.rest().len() as u64 + 1, counts.published);
}

/// Other subscribers of the process change what `tracing` asks, and when. Here the one of the other test's thread is alone.
#[test]
fn a_subscriber_of_one_thread_that_is_alone_learns_that_a_session_began() {
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "over_http::without_a_session_nothing_is_made_until_one_begins",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed; 0 failed"), "{said}");
}

/// Logs until a record makes an event, or makes none; returns how many events there are then.
fn log_until(handle: &Handle, makes_event: bool) -> u64 {
    let began = std::time::Instant::now();
    loop {
        let before = handle.counts().offered;
        info!("captured?");
        let offered = handle.counts().offered;
        if (before < offered) == makes_event {
            return offered;
        }
        assert!(began.elapsed() < DEADLINE, "{handle:?}");
        // So that the queue never fills.
        wait_for(handle, |counts| counts.pending == 0);
        std::thread::yield_now();
    }
}

#[test]
fn what_the_sending_itself_logs_is_not_sent() {
    // The client's library logs at TRACE, in this test: on the thread that sends, and in the server's on others.
    let mut service = Service::new(None);
    service.start();
    let server = service.serve();
    let options = Options {
        level: tracing::level_filters::LevelFilter::TRACE,
        ..Options::default()
    };
    let (layer, guard) = over_http(options, to(&server)).unwrap();
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let of_client = seen.clone();
    let witness = tracing_subscriber::filter::FilterFn::new(move |metadata| {
        if metadata.target().starts_with("hyper_util::client") {
            of_client.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        false
    });
    let subscriber = tracing_subscriber::registry()
        .with(layer)
        .with(tracing_subscriber::layer::Identity::new().with_filter(witness));
    // Of the whole process: the thread that sends has no other.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    info!("mine");
    let event = loop {
        let event = service.next();
        assert_ne!(
            event["data"]["target"], "hyper_util::client::legacy::pool",
            "{event}"
        );
        if event["data"]["message"] == "mine" {
            break event;
        }
    };
    assert_eq!(event["type"], "log_record");
    let counts = guard.shutdown(DEADLINE);
    assert!(
        0 < seen.load(std::sync::atomic::Ordering::Relaxed),
        "{counts:?}"
    );
    let of_client = service.rest();
    let of_client = of_client.iter().filter(|event| {
        event["data"]["target"]
            .as_str()
            .unwrap()
            .starts_with("hyper_util::client")
    });
    assert_eq!(of_client.count(), 0);
}

#[test]
fn a_token_is_sent() {
    let service = Service::new(None);
    service.start();
    let server = service.serve();
    let mut options = to(&server);
    options.token = Some("a token".to_owned());
    assert!(!format!("{options:?}").contains("a token"));
    let (dispatch, guard) = connected(options);
    dispatcher::with_default(&dispatch, || info!("one"));
    assert_eq!(guard.shutdown(DEADLINE).published, 1);
}

#[test]
fn an_address_that_cannot_be_is_an_error() {
    for url in ["", "127.0.0.1:1", "ftp://h", "http://u:p@h"] {
        let made =
            over_http::<tracing_subscriber::Registry>(Options::default(), HttpOptions::new(url));
        assert!(matches!(made, Err(HttpError::Client { .. })), "{url}");
    }
}
