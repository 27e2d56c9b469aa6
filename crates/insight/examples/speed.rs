//! How long a HAR of 10,000 requests takes: `cargo run --release -p tapline-insight --example speed [REQUESTS]`.
//!
//! The events are those of the recorded tour, repeated with ids of their own until there are enough requests.

use std::io;
use std::time::Instant;

use tapline_insight::{ExportWriter, Format, Input, Insight, Options, Sanitizer};
use tapline_oapi::{Envelope, Event};

const TOUR: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../cdp/tests/golden/tour.ndjson"
);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let requests: usize = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 10_000,
    };
    let tour = std::fs::read_to_string(TOUR)?;
    let mut envelopes = Vec::new();
    let (mut sent, mut round) = (0, 0);
    while sent < requests {
        for line in tour.lines() {
            // Ids are unique within a browser.
            let line = line
                .replace("\"request_id\":\"", &format!("\"request_id\":\"{round}."))
                .replace("\"loader_id\":\"", &format!("\"loader_id\":\"{round}."));
            let event: Event = serde_json::from_str(&line)?;
            sent += usize::from(event.event_type.as_str() == "network_request");
            let seq = envelopes.len() as u64 + 1;
            envelopes.push(Envelope { seq, event });
        }
        round += 1;
    }
    let bytes: usize = envelopes
        .iter()
        .map(|it| it.event.data.as_ref().map_or(0, |data| data.get().len()))
        .sum();
    println!(
        "{} events, {sent} requests, {} MB of data",
        envelopes.len(),
        bytes / 1_000_000
    );

    let started = Instant::now();
    let mut insight = Insight::new(Options::default());
    for envelope in &envelopes {
        insight.feed(Input::Event(envelope), &mut |_| {});
    }
    report("joined", started, envelopes.len());

    for format in Format::ALL {
        let started = Instant::now();
        let mut export = ExportWriter::new(format, Counter(0), Sanitizer::default())?;
        for envelope in &envelopes {
            export.feed(Input::Event(envelope))?;
        }
        let (counter, _) = export.finish()?;
        report(
            &format!("{format}, {} MB", counter.0 / 1_000_000),
            started,
            envelopes.len(),
        );
    }
    Ok(())
}

fn report(what: &str, started: Instant, events: usize) {
    let took = started.elapsed();
    let each = took.as_micros() as f64 / events as f64;
    println!("{what}: {} ms, {each:.1} µs an event", took.as_millis());
}

/// Counts what is written.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
