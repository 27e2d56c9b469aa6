//! A fleet without browsers: many light instances in one process store their events in NATS JetStream, and viewers follow them
//! at a gateway. It prints what became of every event, and how much later the viewers had it.
//!
//! ```text
//! nats-server -js
//! tapline gateway --nats nats://127.0.0.1:4222 --listen :10010     # once the streams are there
//! cargo xtask fleet-sim -- --nats nats://127.0.0.1:4222 --gateway 127.0.0.1:10010 --instances 1000 --rate 50 --viewers 200
//! ```
//!
//! An instance is a session, its stream and its sink, with a connection of its own, as in a program; what it lacks is a
//! server and a browser. Viewer *n* follows instance *n* modulo the number of instances.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tapline_api::SinkHandle;
use tapline_benches::harness::clock::of_process;
use tapline_benches::{SESSION_ID, small};
use tapline_events::{EventStream, Retention};
use tapline_nats::{NatsOptions, NatsSink, Partitions, SinkOptions};
use tapline_oapi::Event;
use tapline_telemetry::{TelemetryConfig, TelemetrySession};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep};

const HELP: &str = "\
A fleet without browsers: many light instances store their events in NATS, and viewers follow them at a gateway.

  --nats URL         the servers (nats://127.0.0.1:4222)
  --instances COUNT  how many instances (100)
  --rate EVENTS      events a second of each instance (50)
  --seconds TIME     for how long (10)
  --linger MS        how long an event waits for others to share a message with (20)
  --partitions COUNT the streams, if there are none yet (16)
  --gateway ADDR     where a gateway is; without it there are no viewers
  --viewers COUNT    how many viewers (0)

Prints events that were published, stored, failed and lost; for the viewers, what came, what was reported as lost, what is
missing, and how much later than its publication an event came. Exit code 1 if an event is missing without a report.";

struct Options {
    nats: String,
    instances: usize,
    rate: u32,
    seconds: u64,
    linger: Duration,
    partitions: Partitions,
    gateway: Option<String>,
    viewers: usize,
}

fn options() -> Result<Options, String> {
    let mut args = std::env::args().skip(1);
    let mut given = BTreeMap::new();
    while let Some(name) = args.next() {
        if name == "--help" || name == "-h" {
            println!("{HELP}");
            std::process::exit(0);
        }
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        given.insert(name, value);
    }
    let mut take =
        |name: &str, default: &str| given.remove(name).unwrap_or_else(|| default.to_owned());
    let number = |name: &str, text: String| {
        let number: Result<u32, _> = text.parse();
        number.map_err(|_| format!("{name} {text}: it is no number"))
    };
    let options = Options {
        nats: take("--nats", "nats://127.0.0.1:4222"),
        instances: number("--instances", take("--instances", "100"))?.max(1) as usize,
        rate: number("--rate", take("--rate", "50"))?.max(1),
        seconds: number("--seconds", take("--seconds", "10"))?.into(),
        linger: Duration::from_millis(number("--linger", take("--linger", "20"))?.into()),
        partitions: Partitions::new(number("--partitions", take("--partitions", "16"))?)
            .ok_or("--partitions has to be from 1 to 256")?,
        viewers: number("--viewers", take("--viewers", "0"))? as usize,
        gateway: Some(take("--gateway", "")).filter(|it| !it.is_empty()),
    };
    match given.keys().next() {
        Some(name) => Err(format!("{name} is unknown; --help lists the flags")),
        None => Ok(options),
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("fleet_sim: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
    match runtime.block_on(run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fleet_sim: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Instance {
    session: TelemetrySession,
    sink: SinkHandle,
}

async fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let mut instances = Vec::new();
    for n in 0..options.instances {
        let mut sink = SinkOptions::new(NatsOptions::new(&options.nats)?, name(n).parse()?);
        sink.streams.partitions = Some(options.partitions);
        sink.linger = options.linger;
        let sink = NatsSink::new(sink, None)?;
        if n == 0 {
            sink.prepare().await?;
        }
        let stream = EventStream::new(Retention {
            events: 4096,
            bytes: 4 * 1024 * 1024,
            category_log: 8192,
        })?;
        let session = TelemetrySession::new(stream);
        session.start(SESSION_ID, TelemetryConfig::default())?;
        let (sink, task) = SinkHandle::new(session.stream().clone(), sink);
        tokio::spawn(task);
        sink.on();
        // The first one says that the instance is there.
        session.publish(event())?;
        instances.push(Instance { session, sink });
    }
    until(|| {
        instances
            .iter()
            .all(|it| it.sink.status().ledger.exported == 1)
    })
    .await;
    println!(
        "{} instances have stored their first event after {:.1?}",
        options.instances,
        began.elapsed()
    );

    let viewers = Arc::new(Viewers::default());
    let following = FuturesUnordered::new();
    if let Some(gateway) = &options.gateway {
        for n in 0..options.viewers {
            let followed = n % options.instances;
            // Of this run: an instance of that name may have run before.
            let epoch = instances[followed].session.stream().epoch();
            let name = name(followed);
            let target = format!("/instances/{name}/telemetry/stream?after=1-{epoch}");
            following.push(tokio::spawn(follow(
                gateway.clone(),
                target,
                viewers.clone(),
            )));
        }
        until(|| viewers.connected.load(Relaxed) == options.viewers as u64).await;
        println!(
            "{} viewers are connected after {:.1?}",
            options.viewers,
            began.elapsed()
        );
    }

    let (cpu, start) = (of_process(), Instant::now());
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut published = 0_u64;
    // Instances take turns, so that they do not all publish at the same moment.
    while start.elapsed() < Duration::from_secs(options.seconds) {
        ticks.tick().await;
        let due =
            start.elapsed().as_secs_f64() * f64::from(options.rate) * options.instances as f64;
        while (published as f64) < due {
            let instance = &instances[published as usize % options.instances];
            instance.session.publish(event())?;
            published += 1;
        }
    }
    let took = start.elapsed();
    until(|| {
        let settled = |it: &Instance| it.session.seq() <= it.sink.status().position;
        instances.iter().all(settled)
    })
    .await;
    let stored_after = start.elapsed() - took;
    let ledgers: Vec<_> = instances.iter().map(|it| it.sink.status().ledger).collect();
    let sum = |of: fn(&tapline_api::SinkLedger) -> u64| ledgers.iter().map(of).sum::<u64>();
    println!(
        "published {published} in {took:.1?} ({:.0} a second), all settled {stored_after:.1?} later: {} stored, {} failed, {} rejected, {} lost",
        published as f64 / took.as_secs_f64(),
        sum(|it| it.exported) - options.instances as u64,
        sum(|it| it.failed),
        sum(|it| it.rejected),
        sum(|it| it.lost),
    );
    println!(
        "processor time of the instances and viewers: {:.1?}",
        of_process() - cpu
    );

    let mut missing = 0;
    if options.gateway.is_some() {
        let expected: u64 = (0..options.viewers)
            .map(|n| instances[n % options.instances].session.seq() - 1)
            .sum();
        let account = || viewers.events.load(Relaxed) + viewers.lost.load(Relaxed);
        let deadline = Instant::now() + Duration::from_secs(10);
        while account() < expected && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        missing = expected.saturating_sub(account());
        let mut latencies = std::mem::take(&mut *viewers.latencies());
        latencies.sort_unstable();
        let at = |part: f64| {
            latencies
                .get(((latencies.len() as f64 - 1.0) * part) as usize)
                .copied()
                .unwrap_or(0)
        };
        println!(
            "viewers: {expected} expected, {} came, {} reported as lost, {missing} missing; later than published: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            viewers.events.load(Relaxed),
            viewers.lost.load(Relaxed),
            at(0.5) as f64 / 1000.0,
            at(0.99) as f64 / 1000.0,
            at(1.0) as f64 / 1000.0,
        );
    }
    for following in &following {
        following.abort();
    }
    let end = Instant::now() + Duration::from_secs(10);
    let ending: FuturesUnordered<_> = instances.iter().map(|it| it.sink.shutdown(end)).collect();
    ending.collect::<Vec<()>>().await;
    Ok(missing == 0)
}

fn name(n: usize) -> String {
    format!("sim-{n}")
}

fn event() -> Event {
    let mut event = small();
    event.ts = now();
    event
}

/// Microseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| it.as_micros() as u64)
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// What all viewers have received.
#[derive(Default)]
struct Viewers {
    connected: AtomicU64,
    events: AtomicU64,
    lost: AtomicU64,
    /// In microseconds.
    latencies: Mutex<Vec<u32>>,
}

impl Viewers {
    fn latencies(&self) -> MutexGuard<'_, Vec<u32>> {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one stream until it ends; then it is over, and what did not come is missing.
async fn follow(gateway: String, target: String, viewers: Arc<Viewers>) -> std::io::Result<()> {
    let mut socket = loop {
        // Until the gateway knows the instance.
        let mut socket = BufReader::new(TcpStream::connect(&gateway).await?);
        let request = format!("GET {target} HTTP/1.1\r\nhost: {gateway}\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut line = String::new();
        socket.read_line(&mut line).await?;
        if line.contains(" 200 ") {
            break socket;
        }
        sleep(Duration::from_millis(100)).await;
    };
    viewers.connected.fetch_add(1, Relaxed);
    let mut line = String::new();
    while socket.read_line(&mut line).await? != 0 {
        if let Some(data) = line.strip_prefix("data: ") {
            viewers.events.fetch_add(1, Relaxed);
            let ts = data.split("\"ts\":").nth(1);
            let ts = ts.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
            let late = now().saturating_sub(ts.unwrap_or(0)) as u32;
            viewers.latencies().push(late);
        } else if let Some(gap) = line.strip_prefix(": gap: ") {
            let count = gap.split(' ').find_map(|word| word.parse::<u64>().ok());
            viewers.lost.fetch_add(count.unwrap_or(0), Relaxed);
        }
        line.clear();
    }
    Ok(())
}
