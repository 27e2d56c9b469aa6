//! What storing events in NATS JetStream costs: from events in the ring to messages that the server has acknowledged, and how
//! much later a consumer has an event than the ring.
//!
//! **Throughput.** The ring is full of events when the sink begins, and the sink is done once the server has
//! acknowledged the last of them. **Measured:** reading, blocks, compression and NATS, and the time on processors of this
//! process and of the server. **Not measured:** publishing.
//!
//! **Latency.** Events are published at a steady rate. **Measured:** from the moment of an event until an ordered consumer of
//! the stream has read it out of its block.
//!
//! **Distance.** The throughput again, with a proxy before the server that delivers each byte some time later, in both
//! directions, without a bound of bytes. **Measured:** what a round trip costs.
//!
//! **Refill.** As after a long partition: the archive has a million events that memory has lost, and the server is 20 ms
//! away. **Measured:** until all of them are stored.
//!
//! With the names of some of these four, as in `-- distance`, only they run.
//!
//! It needs a server: `crates/nats/tests/install.sh` installs it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::OrderedConfig;
use futures_util::StreamExt;
use tapline_api::{Filter, History, SinkHandle};
use tapline_archive::{ArchiveOptions, ArchiveSink};
use tapline_benches::harness::clock::of_process;
use tapline_benches::{RETAINED, SESSION_ID, corpus, small};
use tapline_events::{EventStream, Retention};
use tapline_nats::{Connection, NatsOptions, NatsSink, Partitions, SinkOptions, message};
use tapline_oapi::Event;
use tapline_telemetry::{TelemetryConfig, TelemetrySession};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Medians of so many rounds.
const ROUNDS: usize = 7;

/// How long and how fast events are published where the latency is measured.
const LATENCY: (Duration, u32) = (Duration::from_secs(10), 1000);

/// For these times an event waits for others, in milliseconds. The default is among them.
const LINGERS: [u64; 3] = [5, 20, 100];

/// How much later a byte arrives, each way, in milliseconds, and medians of how many rounds.
const DISTANCES: ([u64; 4], usize) = ([0, 1, 10, 40], 3);

fn main() {
    // Cargo calls it so to see that it runs at all.
    let is_test = env::args().any(|arg| arg == "--test");
    let Some(program) = installed() else {
        println!("nats-server is not here (crates/nats/tests/install.sh)");
        return;
    };
    let server = Server::start(&program);
    let (events, rounds, latency) = match is_test {
        true => (1000, 1, (Duration::from_millis(200), LATENCY.1)),
        false => (RETAINED, ROUNDS, LATENCY),
    };
    let parts = ["throughput", "latency", "distance", "refill"];
    let named: Vec<_> = env::args().filter(|it| parts.contains(&&**it)).collect();
    let runs = |part: &str| named.is_empty() || named.iter().any(|it| it == part);
    let corpus = corpus();
    let small = [Arc::new(small())];
    let workloads = [("corpus", &corpus[..]), ("small", &small[..])];
    if runs("throughput") {
        println!("workload    events/s   ns/event   CPU ns/event   server's CPU   MB/s of JSON");
        for (name, workload) in workloads {
            let it = median(&server, &server.url, name, workload, events, rounds);
            let each = |time: Duration| time.as_nanos() as f64 / events as f64;
            println!(
                "{name:<8} {:>11.0} {:>10.0} {:>14.0} {:>14.0} {:>14.0}",
                1e9 / each(it.wall),
                each(it.wall),
                each(it.cpu),
                each(it.server),
                it.bytes as f64 / it.wall.as_secs_f64() / 1e6,
            );
        }
    }
    if runs("latency") {
        println!(
            "\nworkload   linger ms    events/s    p50 ms    p99 ms    max ms   events a message"
        );
        for (name, workload) in workloads {
            for linger in LINGERS {
                latencies(&server, name, workload, linger, latency);
            }
        }
    }
    if runs("refill") {
        let events = match is_test {
            true => 10_000,
            false => 1_000_000,
        };
        let url = distant(&server.url, Duration::from_millis(20));
        let took = refill(&url, workloads[1].1, events).as_secs_f64();
        println!(
            "\nsmall events from the archive, 20 ms each way: {events} in {took:.2} s, {:.0} events/s",
            events as f64 / took
        );
    }
    if runs("distance") {
        println!("\nworkload   ms each way    events/s   MB/s of JSON");
        for (name, workload) in workloads {
            for delay in DISTANCES.0 {
                let url = distant(&server.url, Duration::from_millis(delay));
                let name = format!("{name}-{delay}");
                let it = median(
                    &server,
                    &url,
                    &name,
                    workload,
                    events,
                    rounds.min(DISTANCES.1),
                );
                println!(
                    "{:<8} {delay:>13} {:>11.0} {:>14.1}",
                    name.split('-').next().unwrap_or_default(),
                    events as f64 / it.wall.as_secs_f64(),
                    it.bytes as f64 / it.wall.as_secs_f64() / 1e6,
                );
            }
        }
    }
}

fn median(
    server: &Server,
    url: &str,
    name: &str,
    workload: &[Arc<Event>],
    events: usize,
    rounds: usize,
) -> Measured {
    let mut measured: Vec<_> = (0..rounds)
        .map(|n| throughput(server, url, &format!("{name}-{n}"), workload, events))
        .collect();
    measured.sort_by_key(|it| it.wall);
    measured[measured.len() / 2]
}

#[derive(Clone, Copy)]
struct Measured {
    wall: Duration,
    /// Of this process.
    cpu: Duration,
    server: Duration,
    bytes: usize,
}

fn session(events: usize) -> TelemetrySession {
    let retention = Retention {
        events,
        bytes: u64::MAX,
        ..Retention::default()
    };
    let stream = EventStream::new(retention).expect("the retention is in range");
    let session = TelemetrySession::new(stream);
    let started = session.start(SESSION_ID, TelemetryConfig::default());
    started.expect("the id is not empty");
    session
}

fn sink(
    url: &str,
    instance: &str,
    archive: Option<Arc<dyn History>>,
    change: impl FnOnce(&mut SinkOptions),
) -> NatsSink {
    let instance = instance.parse().expect("it is a name");
    let nats = NatsOptions::new(url).expect("it is a URL");
    let mut options = SinkOptions::new(nats, instance);
    options.streams.partitions = Partitions::new(1);
    change(&mut options);
    NatsSink::new(options, archive).expect("the options are in range")
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("there is memory for a runtime")
}

fn throughput(
    server: &Server,
    url: &str,
    instance: &str,
    workload: &[Arc<Event>],
    events: usize,
) -> Measured {
    let session = session(events);
    let sink = sink(url, instance, None, |_| {});
    let runtime = runtime();
    let prepared = runtime.block_on(sink.prepare());
    prepared.expect("the server answers");
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    let mut bytes = 0;
    for event in workload.iter().cycle().take(events) {
        let published = session.publish(event.clone());
        bytes += published.expect("everything is captured").json().len();
    }
    let ended = handle.shutdown(Instant::now() + Duration::from_secs(60));
    let (wall, cpu, of_server) = (Instant::now(), of_process(), server.cpu());
    runtime.block_on(async {
        let task = tokio::spawn(task);
        ended.await;
        task.await.expect("the sink does not panic");
    });
    let measured = Measured {
        wall: wall.elapsed(),
        cpu: of_process() - cpu,
        server: server.cpu() - of_server,
        bytes,
    };
    let ledger = handle.status().ledger;
    assert_eq!(ledger.exported, events as u64, "{ledger:?}");
    measured
}

/// From the archive to the acknowledgement of the last event.
fn refill(url: &str, workload: &[Arc<Event>], events: usize) -> Duration {
    let session = session(4096);
    let runtime = runtime();
    let dir = env::temp_dir().join(format!("tapline-bench-refill-{}", std::process::id()));
    let archive = ArchiveSink::open(ArchiveOptions::new(&dir)).expect("the folder is new");
    let history = Arc::new(archive.archive());
    let sink = sink(url, "refill", Some(history), |_| {});
    let prepared = runtime.block_on(sink.prepare());
    prepared.expect("the server answers");
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    let (archiving, archive_task) = SinkHandle::new(session.stream().clone(), archive);
    runtime.spawn(archive_task);
    archiving.on();
    for (n, event) in (0..events).zip(workload.iter().cycle()) {
        let published = session.publish(event.clone());
        published.expect("everything is captured");
        // No more than the ring holds is before the archive.
        while n % 1024 == 0 && archiving.status().position + 2048 < n as u64 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let deadline = Instant::now() + Duration::from_secs(100);
    runtime.block_on(archiving.shutdown(deadline));
    assert_eq!(archiving.status().ledger.lost, 0);
    let ended = handle.shutdown(deadline);
    let began = Instant::now();
    runtime.block_on(async {
        let task = tokio::spawn(task);
        ended.await;
        task.await.expect("the sink does not panic");
    });
    let took = began.elapsed();
    let status = handle.status();
    assert_eq!(status.position, events as u64, "{status:?}");
    let _ = fs::remove_dir_all(dir);
    took
}

fn latencies(
    server: &Server,
    name: &str,
    workload: &[Arc<Event>],
    linger: u64,
    (time, rate): (Duration, u32),
) {
    let session = session(RETAINED);
    let runtime = runtime();
    let instance = format!("latency-{name}-{linger}");
    let sink = sink(&server.url, &instance, None, |it| {
        it.linger = Duration::from_millis(linger);
    });
    let prepared = runtime.block_on(sink.prepare());
    prepared.expect("the server answers");
    let (handle, task) = SinkHandle::new(session.stream().clone(), sink);
    handle.on();
    runtime.spawn(task);
    let events = (time.as_secs_f64() * f64::from(rate)) as usize;
    let subject = format!("tapline.blocks.0.{instance}");
    let options = NatsOptions::new(&server.url).expect("it is a URL");
    let reading = runtime.spawn(async move {
        let connection = Connection::open(&options, "reader").await;
        let connection = connection.expect("the server answers");
        let stream = connection.jetstream().get_stream("tapline-0").await;
        let config = OrderedConfig {
            deliver_subject: connection.client().new_inbox(),
            deliver_policy: DeliverPolicy::New,
            filter_subject: subject,
            ..OrderedConfig::default()
        };
        let stream = stream.expect("the stream is there");
        let consumer = stream.create_consumer(config).await;
        let messages = consumer.expect("the consumer is created").messages().await;
        let mut messages = messages.expect("the consumer delivers");
        let (mut took, mut count) = (Vec::new(), 0);
        let all = Filter::all();
        while took.len() < events {
            let message = messages.next().await.expect("there is more");
            let message = message.expect("the consumer delivers");
            let headers = message.headers.as_ref().expect("it has headers");
            let decoded = message::decode(headers, &message.payload);
            let (_, block) = decoded.expect("it is a block");
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.expect("it is after 1970").as_micros() as u64;
            took.extend(block.events(1..=u64::MAX, &all).map(|it| now - it.ts()));
            count += 1;
        }
        (took, count)
    });
    // The consumer is there before the first event.
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    for (n, event) in (0_u32..).zip(workload.iter().cycle().take(events)) {
        let due = began + Duration::from_secs(1) * n / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut event = (**event).clone();
        event.ts = 0;
        session.publish(event).expect("everything is captured");
    }
    let (mut took, count) = runtime
        .block_on(reading)
        .expect("the reader does not panic");
    runtime.block_on(handle.shutdown(Instant::now() + Duration::from_secs(10)));
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    println!(
        "{name:<8} {linger:>11} {rate:>11} {:>9.1} {:>9.1} {:>9.1} {:>18.1}",
        at(0.5),
        at(0.99),
        at(1.0),
        events as f64 / f64::from(count),
    );
}

/// The URL of a proxy in front of this server, from and to which each byte takes that long. Its thread runs until the end of
/// the process.
fn distant(url: &str, delay: Duration) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it listens");
    let server = url.trim_start_matches("nats://").to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("there is memory for a runtime")
            .block_on(async {
                let nonblocking = listener.set_nonblocking(true);
                nonblocking.expect("a socket can be nonblocking");
                let listener = TcpListener::from_std(listener).expect("there is a runtime");
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(&server).await;
                    let server = server.expect("the server listens");
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    later(from_client, to_server, delay);
                    later(from_server, to_client, delay);
                }
            });
    });
    format!("nats://{address}")
}

fn later(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (arrived, mut due) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            let _ = arrived.send((Instant::now() + delay, buffer[..len].to_vec()));
        }
    });
    tokio::spawn(async move {
        while let Some((due, bytes)) = due.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}

struct Server {
    process: Child,
    dir: PathBuf,
    url: String,
}

impl Server {
    fn start(program: &Path) -> Self {
        let dir = env::temp_dir().join(format!("tapline-bench-nats-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("the temporary folder can be written to");
        let process = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream"])
            .args(["--store_dir".as_ref(), dir.as_os_str()])
            .args(["--ports_file_dir".as_ref(), dir.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let ports = dir.join(format!("nats-server_{}.ports", process.id()));
        let until = Instant::now() + Duration::from_secs(20);
        let port = loop {
            let text = fs::read_to_string(&ports).unwrap_or_default();
            if let Some((_, port)) = text.split_once("nats://127.0.0.1:") {
                break port.split('"').next().unwrap_or_default().to_owned();
            }
            assert!(Instant::now() < until, "the server does not listen");
            thread::sleep(Duration::from_millis(10));
        };
        Self {
            process,
            dir,
            url: format!("nats://127.0.0.1:{port}"),
        }
    }

    /// The time of the server on processors, in ticks of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let stat = stat.expect("the server runs");
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|it| it.parse::<u64>().ok()).sum();
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Under the folder that holds what was built.
fn installed() -> Option<PathBuf> {
    let path = "peers/nats/bin/nats-server";
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join(path)).filter(|path| path.exists())
}
