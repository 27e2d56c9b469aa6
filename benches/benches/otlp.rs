//! What the export to OpenTelemetry costs: from events in the ring to records that an endpoint has accepted.
//!
//! The ring is full of events when the sink begins, and the sink is done once the endpoint has answered for the last
//! of them. **Measured:** reading, mapping, encoding, HTTP, and the time of that thread on a processor. **Not measured:**
//! publishing, and the endpoint, which runs on a thread of its own: it reads each request and answers, without decoding.

use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tapline_api::SinkHandle;
use tapline_benches::{RETAINED, SESSION_ID, corpus, endpoint, small};
use tapline_events::{EventStream, Retention};
use tapline_oapi::Event;
use tapline_otlp::{OtlpOptions, OtlpSink};
use tapline_telemetry::{TelemetryConfig, TelemetrySession};

/// Medians of so many rounds.
const ROUNDS: usize = 7;

fn main() {
    // Cargo calls it so to see that it runs at all.
    let is_test = env::args().any(|arg| arg == "--test");
    let (events, rounds) = if is_test {
        (1000, 1)
    } else {
        (RETAINED, ROUNDS)
    };
    let endpoint = endpoint(|_| String::new());
    let corpus = corpus();
    let small = [Arc::new(small())];
    println!("workload          events/s   ns/event   CPU ns/event   MB/s of JSON");
    for (name, workload, compress) in [
        ("corpus", &corpus[..], false),
        ("corpus, gzip", &corpus[..], true),
        ("small", &small[..], false),
    ] {
        let mut measured: Vec<_> = (0..rounds)
            .map(|_| round(endpoint, workload, events, compress))
            .collect();
        measured.sort_by_key(|it| it.wall);
        let it = measured[measured.len() / 2];
        let each = |time: Duration| time.as_nanos() as f64 / events as f64;
        println!(
            "{name:<14} {:>11.0} {:>10.0} {:>14.0} {:>14.0}",
            1e9 / each(it.wall),
            each(it.wall),
            each(it.cpu),
            it.bytes as f64 / it.wall.as_secs_f64() / 1e6,
        );
    }
}

#[derive(Clone, Copy)]
struct Measured {
    wall: Duration,
    /// Of the thread that the sink runs on. Compression has a thread of its own.
    cpu: Duration,
    bytes: usize,
}

fn round(endpoint: SocketAddr, workload: &[Arc<Event>], events: usize, compress: bool) -> Measured {
    let retention = Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    };
    let stream = EventStream::new(retention).expect("the retention is in range");
    let session = TelemetrySession::new(stream);
    let started = session.start(SESSION_ID, TelemetryConfig::default());
    started.expect("the id is not empty");
    let mut options =
        OtlpOptions::new(&format!("http://{endpoint}")).expect("the endpoint is a URL");
    options.compress = compress;
    let sink = OtlpSink::new(options).expect("the options are in range");
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    let mut bytes = 0;
    for event in workload.iter().cycle().take(events) {
        let published = session.publish(event.clone());
        bytes += published.expect("everything is captured").json().len();
    }
    let until = Instant::now() + Duration::from_secs(60);
    let ended = handle.shutdown(until);
    // The window is closed before the sink begins, so that it does not wait for more.
    let ended = {
        let mut ended = Box::pin(ended);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(ended.as_mut().poll(&mut cx).is_pending());
        ended
    };
    let runs = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("there is memory for a runtime");
        let (wall, cpu) = (Instant::now(), of_thread());
        runtime.block_on(task);
        (wall.elapsed(), of_thread() - cpu)
    });
    let (wall, cpu) = runs.join().expect("the sink does not panic");
    drop(ended);
    let ledger = handle.status().ledger;
    assert_eq!(ledger.exported, events as u64, "{ledger:?}");
    Measured { wall, cpu, bytes }
}

fn of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("the clock does not run backwards")
}
