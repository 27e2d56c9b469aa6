//! What a log statement costs with the layer of `tapline-tracing`, beside the layer of `tracing-subscriber` that prints.
//!
//! A program has one subscriber, and `tracing` treats several differently. So each contender has a process of its own, which
//! this one starts in turn, A B C A B C …; a figure is the median of the rounds. **Measured:** the statement, in the thread that logs. In the process
//! the ring is full, so that each event evicts one. Over HTTP a burst fits the queue, and is sent between two bursts: the thread that sends
//! is **not** in the figures. What `fmt` prints goes nowhere.

use std::env;
use std::hint::black_box;
use std::io::sink;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tapline_api::ApiService;
use tapline_benches::{endpoint, idle_session};
use tapline_oapi::ConfigRequest;
use tapline_tracing::{Guard, HttpOptions, Options, in_process, over_http};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, debug, info, info_span};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Medians of so many rounds.
const ROUNDS: usize = 7;

/// How many statements are timed one by one, for percentiles.
const SINGLE: usize = 20_000;

/// How many there are between two looks at the clock otherwise: they fit the queue.
const BURST: usize = 4096;

/// Before anything is measured, the ring is full.
const RETAINED: usize = 16_384;

const CONTENDERS: &[(&str, &str)] = &[
    ("disabled", "none"),
    ("disabled", "fmt"),
    ("disabled", "in-process"),
    ("disabled", "fmt+in-process"),
    ("enabled", "fmt"),
    ("enabled", "in-process"),
    ("enabled", "http"),
    ("enabled", "fmt+in-process-off"),
    ("in a span", "fmt"),
    ("in a span", "in-process"),
    ("in a span", "http"),
    ("span", "fmt"),
    ("span", "in-process"),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, case, contender, bursts] = &arguments[..]
        && flag == "--contender"
    {
        let bursts = bursts.parse().expect("this program made it");
        println!("{}", Measured::of(case, contender, bursts).line());
        return;
    }
    // Cargo calls it so to see that it runs at all.
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let (rounds, bursts) = if is_test { (1, 1) } else { (ROUNDS, 40) };
    let mut all = vec![Vec::new(); CONTENDERS.len()];
    for _ in 0..rounds {
        for ((case, contender), measured) in CONTENDERS.iter().zip(&mut all) {
            measured.push(in_a_process(case, contender, bursts));
        }
    }
    println!(
        "{:<12} {:<20} {:>8} {:>7} {:>7} {:>7}",
        "statement", "layer", "ns", "p50", "p99", "p99.9"
    );
    for ((case, contender), measured) in CONTENDERS.iter().zip(&mut all) {
        let [mean, p50, p99, p999] = [0, 1, 2, 3].map(|column| {
            measured.sort_by(|a: &Measured, b| a.0[column].total_cmp(&b.0[column]));
            measured[measured.len() / 2].0[column]
        });
        println!("{case:<12} {contender:<20} {mean:>8.1} {p50:>7.0} {p99:>7.0} {p999:>7.0}");
    }
}

fn in_a_process(case: &str, contender: &str, bursts: usize) -> Measured {
    let this = env::current_exe().expect("it is running");
    let bursts = bursts.to_string();
    let output = Command::new(this)
        .args(["--contender", case, contender, &bursts])
        .output()
        .expect("it runs once more");
    let line = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = line
        .split(' ')
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    let numbers = numbers.try_into();
    Measured(
        numbers.unwrap_or_else(|_| panic!("{line}{}", String::from_utf8_lossy(&output.stderr))),
    )
}

/// Nanoseconds of a statement: in a burst, and the percentiles 50, 99 and 99.9 of single ones.
#[derive(Clone, Copy)]
struct Measured([f64; 4]);

impl Measured {
    fn of(case: &str, contender: &str, bursts: usize) -> Self {
        let statement: fn(usize) = match case {
            "disabled" if contender == "fmt" => {
                |number| debug!(number, user = "ann", paid = true, "added to the cart")
            }
            "disabled" | "enabled" => {
                |number| info!(number, user = "ann", paid = true, "added to the cart")
            }
            "in a span" => |number| info!(number, "added to the cart"),
            _ => |number| drop(info_span!("request", number, path = "/cart").entered()),
        };
        let program = Program::start(case, contender);
        let measure = || {
            // Warm, and the ring is full.
            for _ in 0..RETAINED / BURST {
                burst(statement, &program);
            }
            let all: Duration = (0..bursts).map(|_| burst(statement, &program)).sum();
            let mean = all.as_nanos() as f64 / (bursts * BURST) as f64;
            let mut single = Vec::with_capacity(SINGLE);
            for number in 0..SINGLE {
                let began = Instant::now();
                statement(black_box(number));
                single.push(began.elapsed().as_nanos() as f64);
                if number % BURST == 0 {
                    program.settle();
                }
            }
            single.sort_by(f64::total_cmp);
            let percentile = |of: f64| single[(SINGLE as f64 * of) as usize];
            Self([mean, percentile(0.5), percentile(0.99), percentile(0.999)])
        };
        match case {
            "in a span" => info_span!("request", method = "GET", path = "/cart").in_scope(measure),
            _ => measure(),
        }
    }

    fn line(self) -> String {
        self.0.map(|number| number.to_string()).join(" ")
    }
}

fn burst(statement: fn(usize), program: &Program) -> Duration {
    let began = Instant::now();
    for number in 0..BURST {
        statement(black_box(number));
    }
    let took = began.elapsed();
    program.settle();
    took
}

/// What a contender needs, for as long as it is measured.
#[derive(Default)]
struct Program {
    _api: Option<ApiService>,
    guard: Option<Guard>,
}

impl Program {
    fn start(case: &str, contender: &str) -> Self {
        let mut program = Self::default();
        let registry = tracing_subscriber::registry();
        match contender {
            "none" => {}
            "fmt" => registry.with(fmt(LevelFilter::INFO)).init(),
            "in-process" => {
                let (layer, source) = in_process(Options::default());
                program._api = Some(service(source, case != "disabled"));
                registry.with(layer).init();
            }
            "fmt+in-process" | "fmt+in-process-off" => {
                let (layer, source) = in_process(Options::default());
                program._api = Some(service(source, false));
                let level = match case {
                    "disabled" => LevelFilter::WARN,
                    _ => LevelFilter::INFO,
                };
                registry.with(fmt(level)).with(layer).init();
            }
            _ => {
                let mut options = HttpOptions::new(format!("http://{}", endpoint(all_published)));
                options.queue_events = 2 * BURST;
                let made = over_http(Options::default(), options);
                let (layer, guard) = made.expect("the address is one");
                program.guard = Some(guard);
                registry.with(layer).init();
            }
        }
        program
    }

    /// Waits until everything is sent.
    fn settle(&self) {
        let Some(guard) = &self.guard else { return };
        let handle = guard.handle();
        while 0 < handle.counts().pending {
            thread::yield_now();
        }
        let counts = handle.counts();
        assert_eq!(counts.published, counts.offered, "{counts:?}");
    }
}

fn fmt<S: Subscriber + for<'a> LookupSpan<'a>>(
    level: LevelFilter,
) -> impl tracing_subscriber::Layer<S> {
    tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(sink)
        .with_filter(level)
}

fn service(source: tapline_tracing::TracingSource, starts: bool) -> ApiService {
    let api = ApiService::new(idle_session(RETAINED)).with_source(source);
    if starts {
        let mut put = Box::pin(async { api.put(&ConfigRequest::default()).await.is_ok() });
        let started = put.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(started, Poll::Ready(true)), "it waits for nothing");
    }
    api
}

/// The answer of a server that publishes everything.
fn all_published(body: &[u8]) -> String {
    let lines = body.iter().filter(|byte| **byte == b'\n').count();
    format!(r#"{{"published":{lines},"filtered":0,"refused":0,"errors":[]}}"#)
}
