//! Servers that are down, slow, broken or small.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tapline_server::Options as ServerOptions;
use tapline_tracing::{HttpOptions, PRODUCER_LOST};
use tokio::net::TcpSocket;
use tracing::{dispatcher, info};

use crate::over_http::{connected, to};
use crate::rig::{DEADLINE, Service, closes, wait_for};

/// An address at which nothing listens, until this test does: no other gets it meanwhile.
struct Reserved {
    address: String,
    _socket: TcpSocket,
}

impl Reserved {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // As the server's own socket has it: both may have the address while only one listens.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            address: socket.local_addr().unwrap().to_string(),
            _socket: socket,
        }
    }

    fn http(&self) -> HttpOptions {
        HttpOptions::new(format!("http://{}", self.address))
    }
}

#[test]
fn what_is_logged_before_the_server_is_up_is_sent_then() {
    let reserved = Reserved::new();
    let address = &reserved.address;
    let (dispatch, guard) = connected(reserved.http());
    let handle = guard.handle();
    dispatcher::with_default(&dispatch, || info!("early"));
    let began = Instant::now();
    while handle.last_error().is_none() {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    let error = handle.last_error().unwrap();
    assert!(
        error.starts_with(&format!("cannot reach http://{address}: ")),
        "{error}"
    );

    let mut service = Service::new(None);
    service.start();
    let server = service.serve_at(address, ServerOptions::default());
    assert_eq!(service.next()["data"]["message"], "early");
    wait_for(&handle, |counts| counts.published == 1);

    // Down, and back.
    server.stop();
    dispatcher::with_default(&dispatch, || info!("while it was down"));
    let server = service.serve_at(address, ServerOptions::default());
    let counts = guard.shutdown(DEADLINE);
    closes(&counts, 2);
    // The connection may break under the request: then it is not known whether it was published.
    let seen = service.rest();
    assert_eq!(counts.published + counts.unconfirmed, 2, "{counts:?}");
    assert!(seen.len() as u64 + 1 >= counts.published);
    drop(server);
}

#[test]
fn a_full_queue_loses_an_exact_number_and_reports_it() {
    const OFFERED: u64 = 1_000;
    let reserved = Reserved::new();
    let mut options = reserved.http();
    options.queue_events = 100;
    options.batch_events = 10;
    options.linger = Duration::ZERO;
    let (dispatch, guard) = connected(options);
    let handle = guard.handle();
    dispatcher::with_default(&dispatch, || {
        for number in 0..OFFERED {
            info!(number);
        }
    });
    let counts = handle.counts();
    closes(&counts, OFFERED);
    // A batch may have left the queue.
    assert!((890..=900).contains(&counts.lost), "{counts:?}");
    assert_eq!(counts.pending, OFFERED - counts.lost);

    let mut service = Service::new(None);
    service.start();
    let _server = service.serve_at(&reserved.address, ServerOptions::default());
    let counts = wait_for(&handle, |counts| counts.pending == 0);
    assert_eq!(counts.published + counts.lost, OFFERED);
    let counts = guard.shutdown(DEADLINE);
    let events = service.rest();
    let (reports, records): (Vec<_>, Vec<_>) = events
        .iter()
        .partition(|event| event["type"] == PRODUCER_LOST);
    assert_eq!(records.len() as u64, counts.published);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0]["category"], "monitor");
    assert_eq!(reports[0]["data"]["lost"], counts.lost);
    assert_eq!(reports[0]["data"]["lost_total"], counts.lost);
    assert_eq!(reports[0]["data"]["unconfirmed"], 0);
}

#[test]
fn the_queue_is_bounded_by_bytes_too() {
    let reserved = Reserved::new();
    let mut options = reserved.http();
    options.queue_bytes = 64 * 1024;
    let (dispatch, guard) = connected(options);
    dispatcher::with_default(&dispatch, || {
        for _ in 0..100 {
            info!("{}", "x".repeat(4096));
        }
    });
    let counts = guard.handle().counts();
    // What was taken for a batch makes space once.
    assert!((1..=30).contains(&counts.pending), "{counts:?}");
    closes(&guard.shutdown(Duration::ZERO), 100);
}

#[test]
fn many_threads_with_a_server_that_is_stopped_account_for_every_event() {
    const THREADS: u64 = 4;
    const EACH: u64 = 3_000;
    let service = Service::new(None);
    service.start();
    let server = service.serve();
    let mut options = to(&server);
    options.queue_events = 500;
    options.linger = Duration::ZERO;
    let (dispatch, guard) = connected(options);
    let address = server.address.to_string();
    let mut server = Some(server);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let dispatch = dispatch.clone();
            scope.spawn(move || {
                dispatcher::with_default(&dispatch, || (0..EACH).for_each(|number| info!(number)));
            });
        }
        server.take().unwrap().stop();
        server = Some(service.serve_at(&address, ServerOptions::default()));
    });
    let counts = guard.shutdown(DEADLINE);
    closes(&counts, THREADS * EACH);
    assert_eq!(counts.pending, 0);
    let mut service = service;
    let events = service.rest();
    let records = events.iter().filter(|event| event["type"] == "log_record");
    let records = records.count() as u64;
    assert!(
        counts.published <= records && records <= counts.published + counts.unconfirmed,
        "{records} of {counts:?}"
    );
}

#[test]
fn an_event_that_the_server_finds_too_large_is_refused_and_the_others_are_not() {
    let mut service = Service::new(None);
    service.start();
    let mut options = ServerOptions::default();
    options.limits.body_bytes = 2_000;
    let server = service.serve_at("127.0.0.1:0", options);
    let (dispatch, guard) = connected(to(&server));
    dispatcher::with_default(&dispatch, || {
        for number in 0..100 {
            match number {
                50 => info!(number, "{}", "x".repeat(4000)),
                _ => info!(number),
            }
        }
    });
    let counts = guard.shutdown(DEADLINE);
    closes(&counts, 100);
    assert_eq!((counts.published, counts.refused), (99, 1), "{counts:?}");
    let numbers = service.rest();
    let numbers = numbers
        .iter()
        .map(|it| it["data"]["fields"]["number"].as_u64().unwrap());
    assert!(numbers.eq((0..50).chain(51..100)));
}

/// Answers each request with these bytes, or never.
fn scripted(answer: Option<&'static str>) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, is_asked) = mpsc::channel();
    // It ends with the test's process: a blocked `accept` cannot be interrupted.
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut socket in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let _ = socket.read(&mut buffer);
            let _ = asked.send(());
            match answer {
                Some(answer) => drop(socket.write_all(answer.as_bytes())),
                None => open.push(socket),
            }
        }
    });
    (url, is_asked)
}

#[test]
fn a_request_without_an_answer_is_unconfirmed_and_not_repeated() {
    // The connection closes instead.
    let (url, is_asked) = scripted(Some(""));
    let mut options = HttpOptions::new(url);
    options.linger = Duration::ZERO;
    let (dispatch, guard) = connected(options);
    let handle = guard.handle();
    dispatcher::with_default(&dispatch, || info!("one"));
    is_asked.recv_timeout(DEADLINE).unwrap();
    wait_for(&handle, |counts| counts.unconfirmed == 1);
    let counts = guard.shutdown(Duration::from_millis(100));
    closes(&counts, 1);
    assert!(handle.last_error().unwrap().contains("broke"));
}

#[test]
fn a_server_that_refuses_leaves_the_events_in_the_queue() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, is_asked) = scripted(Some(refusal));
    let (dispatch, guard) = connected(HttpOptions::new(url));
    let handle = guard.handle();
    dispatcher::with_default(&dispatch, || info!("one"));
    for _ in 0..2 {
        is_asked.recv_timeout(DEADLINE).unwrap();
    }
    assert_eq!(handle.counts().pending, 1);
    assert!(handle.last_error().unwrap().contains("401"));
    let counts = guard.shutdown(Duration::from_millis(100));
    closes(&counts, 1);
    assert_eq!(counts.lost, 1, "{counts:?}");
}

#[test]
fn a_shutdown_ends_at_its_deadline_with_a_server_that_never_answers() {
    let (url, is_asked) = scripted(None);
    let mut options = HttpOptions::new(url);
    options.batch_events = 1;
    options.linger = Duration::ZERO;
    let (dispatch, guard) = connected(options);
    dispatcher::with_default(&dispatch, || {
        info!("one");
        is_asked.recv_timeout(DEADLINE).unwrap();
        info!("two");
        info!("three");
    });
    let began = Instant::now();
    let counts = guard.shutdown(Duration::from_millis(200));
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "not the time-out of a call"
    );
    closes(&counts, 3);
    assert_eq!((counts.unconfirmed, counts.lost), (1, 2), "{counts:?}");

    // What is logged after the end is lost, and counted.
    dispatcher::with_default(&dispatch, || info!("late"));
}

#[test]
fn what_is_logged_after_the_shutdown_is_counted_as_lost() {
    let service = Service::new(None);
    service.start();
    let server = service.serve();
    let (dispatch, guard) = connected(to(&server));
    let handle = guard.handle();
    drop(guard);
    dispatcher::with_default(&dispatch, || info!("late"));
    closes(&handle.counts(), 1);
    assert_eq!(handle.counts().lost, 1);
}
