//! A process that is killed at random moments.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::value::RawValue;
use tapline_archive::{Archive, ArchiveOptions, check};
use tapline_events::Epoch;
use tapline_oapi::{Event, KnownType};

use crate::support::{Recorded, TempDir, open, query, read_all};

/// Everything that was acknowledged as durable is there once, and nothing half-written is read.
#[test]
fn a_process_that_is_killed_a_hundred_times_loses_nothing_that_it_has_acknowledged() {
    let dir = TempDir::new();
    let mut durable: HashMap<String, u64> = HashMap::new();
    let (mut torn, mut epochs) = (0, 0);
    for n in 0..100_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::the_process_that_is_killed",
                "--nocapture",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The harness prints lines of its own.
        let mut lines = lines
            .map_while(Result::ok)
            .filter(|it| it.starts_with("durable "));
        let first = lines.next().unwrap();
        // Moments spread over two syncs, by a generator that is the same in each run.
        thread::sleep(Duration::from_micros(n * 7919 % 160_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in std::iter::once(first).chain(lines) {
            // The last line may be torn.
            if let Some([_, epoch, seq, "."]) = line.split(' ').collect::<Vec<_>>().first_chunk() {
                durable.insert((*epoch).to_owned(), seq.parse().unwrap());
            }
        }
        if n % 10 == 9 {
            verify(&Archive::open(dir.path()).unwrap(), &durable);
            let sink = open(&ArchiveOptions::new(dir.path()));
            torn += sink.archive().counts().torn;
            verify(&sink.archive(), &durable);
            epochs += durable.len();
            durable.clear();
        }
    }
    assert_eq!(epochs, 100);
    let report = check(dir.path(), |_, _| {}).unwrap();
    assert_eq!(report.findings, []);
    println!("{} events, {torn} torn ends", report.events);
}

fn verify(archive: &Archive, durable: &HashMap<String, u64>) {
    for (epoch, seq) in durable {
        let epoch: Epoch = epoch.parse().unwrap();
        let batch = read_all(archive, query(epoch));
        assert!(*seq <= batch.envelopes.len() as u64, "{epoch}: {seq}");
        assert_eq!(batch.missing, []);
        for (n, envelope) in batch.envelopes.iter().enumerate() {
            assert_eq!(envelope.seq(), n as u64 + 1);
            let data = format!("\"data\":{{\"n\":{n},\"text\":");
            assert!(envelope.json().whole().contains(&data), "{envelope:?}");
        }
    }
}

/// Names the directory to the process that is to be killed.
const CHILD: &str = "TAPLINE_ARCHIVE_CHILD";

/// Publishes until it is killed, and prints what is durable.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let mut options = ArchiveOptions::new(dir);
    // Segments that change often.
    options.segment_bytes = 64 * 1024;
    let recorded = Recorded::new(&options);
    let mut reported = 0;
    for n in 0_u64.. {
        let text = "lorem ipsum ".repeat((n % 29) as usize);
        let data = RawValue::from_string(format!("{{\"n\":{n},\"text\":\"{text}\"}}"));
        recorded.publish_one(Event::known(KnownType::PageLoad, data.ok()));
        if n % 16 == 0 {
            thread::sleep(Duration::from_micros(200));
            let durable = recorded.status().position;
            if durable != reported {
                reported = durable;
                println!("durable {} {durable} .", recorded.epoch());
            }
        }
    }
}
