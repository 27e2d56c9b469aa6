//! A server of NATS, with a data folder of its own.

use std::env;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use tapline_nats::{InstanceName, NatsOptions, Partitions, stream_name};

use crate::rig::PATIENCE;

pub(crate) struct Server {
    program: PathBuf,
    dir: PathBuf,
    process: Child,
    pub(crate) port: u16,
}

/// What is stored: the place in the stream, the headers and the payload.
pub(crate) type Stored = (u64, HeaderMap, Vec<u8>);

impl Server {
    /// Starts one, unless the test is skipped.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With further lines of configuration.
    #[track_caller]
    pub(crate) fn start_with(more: &str) -> Option<Self> {
        let program = or_skip(installed())?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.join(format!("nats-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        configure(&dir, more);
        let process = spawn(&program, &dir, -1);
        let mut server = Self {
            program,
            dir,
            process,
            port: 0,
        };
        server.port = server.wait_until_it_listens();
        Some(server)
    }

    /// Servers of one cluster, once it has a leader.
    #[track_caller]
    pub(crate) fn start_cluster(count: usize) -> Option<Vec<Self>> {
        // Below those that the system gives to sockets without a port, so that none is taken meanwhile.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let first = 20_000 + std::process::id() % 3000 * 3 + NEXT.fetch_add(50, Ordering::Relaxed);
        let first = u16::try_from(first).unwrap();
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let ports: Vec<_> = (first..32_000).filter(is_free).take(count).collect();
        let routes: Vec<_> = ports
            .iter()
            .map(|it| format!("\"nats://127.0.0.1:{it}\""))
            .collect();
        let servers: Vec<_> = (0..count)
            .map(|n| {
                let (port, routes) = (ports[n], routes.join(","));
                Self::start_with(&format!(
                    "server_name: n{n}\n\
                     cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
                ))
            })
            .collect::<Option<_>>()?;
        let deadline = Instant::now() + PATIENCE;
        while !servers
            .iter()
            .any(|it| it.log().contains("JetStream cluster new metadata leader"))
        {
            assert!(Instant::now() < deadline, "{}", servers[0].log());
            thread::sleep(Duration::from_millis(20));
        }
        Some(servers)
    }

    /// Waits until all three servers have what the first stream has: until then the next one cannot be taken away
    /// without an end of the service.
    pub(crate) async fn is_replicated(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let jetstream = self.jetstream().await;
            let cluster = match jetstream.get_stream(stream_name(0)).await {
                Ok(stream) => stream.cached_info().cluster.clone(),
                Err(_) => None,
            };
            let replicas = cluster.as_ref().map_or(&[][..], |it| &it.replicas);
            let current = replicas.iter().filter(|it| it.current && !it.offline);
            if current.count() == 2 {
                return;
            }
            assert!(Instant::now() < deadline, "{cluster:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn options(&self) -> NatsOptions {
        NatsOptions::new(&self.url()).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Again, at the same port and with the same data.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(&self.program, &self.dir, i32::from(self.port));
        self.wait_until_it_listens();
    }

    /// As [`restart`](Self::restart), with other further lines of configuration.
    pub(crate) fn restart_with(&mut self, more: &str) {
        configure(&self.dir, more);
        self.restart();
    }

    fn wait_until_it_listens(&mut self) -> u16 {
        let name = format!("nats-server_{}.ports", self.process.id());
        let path = self.dir.join(name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ports = fs::read_to_string(&path).unwrap_or_default();
            if let Some((_, port)) = ports.split_once("://127.0.0.1:") {
                return port.split('"').next().unwrap().parse().unwrap();
            }
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "the server has ended: {}", self.log());
            assert!(Instant::now() < deadline, "{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    pub(crate) async fn jetstream(&self) -> Context {
        jetstream::new(self.client().await)
    }

    /// Waits until so many messages of an instance are stored in its only stream.
    pub(crate) async fn has_stored(&self, instance: &InstanceName, messages: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.stored(instance, 1).await.len() < messages {
            assert!(Instant::now() < deadline, "{messages} messages");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All messages of an instance, the oldest first.
    pub(crate) async fn stored(&self, instance: &InstanceName, partitions: u32) -> Vec<Stored> {
        let partitions = Partitions::new(partitions).unwrap();
        let name = stream_name(partitions.of(instance));
        let jetstream = self.jetstream().await;
        let mut stream = jetstream.get_stream(&name).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut stored = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else {
                continue;
            };
            if message.subject.as_str() == instance.blocks_subject(partitions) {
                stored.push((sequence, message.headers, message.payload.to_vec()));
            }
        }
        stored
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn configure(dir: &Path, more: &str) {
    let mut config = format!("ports_file_dir: {dir:?}\n{more}\n");
    if !more.contains("jetstream") {
        config += &format!("jetstream {{ store_dir: {dir:?} }}\n");
    }
    let config = config.replace("$DIR", dir.to_str().unwrap());
    fs::write(dir.join("nats.conf"), config).unwrap();
}

fn spawn(program: &Path, dir: &Path, port: i32) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"));
    Command::new(program)
        .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
        .args(["--config".as_ref(), dir.join("nats.conf").as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

/// What `install.sh` installed, under the folder that holds what was built.
fn installed() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join("peers/nats/bin/nats-server")).filter(|path| path.exists())
}

#[track_caller]
fn or_skip(found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let required = env::var("TAPLINE_REQUIRE_NATS").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "nats-server is not here, and TAPLINE_REQUIRE_NATS=1"
        );
        let test = thread::current();
        let test = test.name().unwrap_or_default();
        // Where the message cannot be written, the test still passes.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {test}: nats-server is not here (crates/nats/tests/install.sh)"
        );
    }
    found
}
