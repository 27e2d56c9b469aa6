//! Sinks of the built program whose other end fails, or is not all there: a full disk, a directory that cannot be
//! written, a missing segment, an export that is switched off.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::program::{Directory, Running, Said, Server, run, tapline};
use crate::wire::{Caller, Follower, in_time};

/// What the server answers to `GET`.
async fn get(server: &Server, what: &str) -> Value {
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let (status, body) = in_time(caller.call(&format!("GET {what}"), ""))
        .await
        .unwrap();
    assert_eq!(status, 200, "{what}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The first sink, once `is_there`.
async fn sink(server: &Server, is_there: impl Fn(&Value) -> bool) -> Value {
    in_time(async {
        loop {
            let sinks = get(server, "/telemetry/sinks").await;
            let sink = sinks["sinks"][0].clone();
            if is_there(&sink) {
                return sink;
            }
        }
    })
    .await
}

fn number(sink: &Value, field: &str) -> u64 {
    sink[field].as_u64().unwrap()
}

/// Its ledger, which must close.
fn closes(sink: &Value) {
    let of = |fields: &[&str]| fields.iter().map(|it| number(sink, it)).sum::<u64>();
    let settled = of(&["exported", "excluded", "rejected", "failed", "pending"]);
    assert_eq!(of(&["read"]), settled, "{sink}");
}

async fn switch(server: &Server, body: &str) {
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let (status, answer) = in_time(caller.call("PATCH /telemetry", body))
        .await
        .unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// Publishes so many events of that type, with as much text that cannot be compressed.
async fn publish(server: &Server, count: usize, name: &str, noise: usize) -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let mut state = SEED.fetch_add(1 << 32 | 1, Relaxed);
    let words = (0..noise / 16).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    });
    let text: String = words.collect();
    let line = format!("{{\"type\":\"{name}\",\"category\":\"control\",\"data\":\"{text}\"}}\n");
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let published = in_time(caller.publish(&line.repeat(count))).await.unwrap();
    assert_eq!(published.published, count as u64);
    published.last
}

/// A server with 64 events in memory, and an archive in that directory.
fn arguments(dir: &str) -> Vec<String> {
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "64",
    ];
    let archive = ["--archive", dir];
    arguments
        .iter()
        .chain(&archive)
        .map(|it| (*it).to_owned())
        .collect()
}

fn archive(dir: &str, args: &[&str]) -> Said {
    run(&[&["archive"], args, &["--archive", dir]].concat())
}

/// What an archive has: the seqs of its events, and its gaps.
fn content(dir: &str) -> (Vec<u64>, Vec<(u64, u64)>) {
    let mut events = Vec::new();
    let mut gaps = Vec::new();
    for path in std::fs::read_dir(dir).unwrap() {
        let path = path.unwrap().path();
        if path.to_str().unwrap().ends_with(".ndjson.zst") {
            let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
            for line in String::from_utf8(text).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                match line["seq"].as_u64() {
                    Some(seq) => events.push(seq),
                    None => {
                        gaps.push((number(&line["gap"], "first"), number(&line["gap"], "last")));
                    }
                }
            }
        }
    }
    events.sort_unstable();
    gaps.sort_unstable();
    (events, gaps)
}

/// The disk is full after `fill`, and has space again after `free`. Nothing else than the archive suffers, what it has
/// lost meanwhile is known exactly, and it continues.
async fn survives_a_full_disk(server: Server, dir: &str, free: impl FnOnce(&Server)) {
    let before = publish(&server, 10, "before", 0).await;
    sink(&server, |sink| before <= number(sink, "position")).await;
    // More than there is space for.
    for _ in 0..16 {
        publish(&server, 1, "large", 128 * 1024).await;
    }
    let failing = sink(&server, |sink| sink["last_error"].is_string()).await;
    let error = failing["last_error"].as_str().unwrap();
    assert!(error.contains("cannot write to"), "{error}");
    closes(&failing);
    // Producers and readers go their way.
    let head = publish(&server, 500, "meanwhile", 0).await;
    let page = get(&server, "/telemetry/events?order=desc&limit=1").await;
    assert_eq!(page[0]["seq"], head);
    assert!(number(&sink(&server, |_| true).await, "position") < head);

    free(&server);
    let after = publish(&server, 10, "after", 0).await;
    let whole = sink(&server, |sink| after <= number(sink, "position")).await;
    closes(&whole);
    let lost = number(&whole, "lost");
    assert!(0 < lost, "{whole}");
    assert_eq!(number(&whole, "exported") + lost, after);
    // Where it cannot be read, it is missing: that many, and no more.
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let what = "GET /telemetry/events?limit=1000&after=0&since=1h";
    let (status, body) = in_time(caller.call(what, "")).await.unwrap();
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, page.as_array().unwrap().len() as u64),
        (200, after - lost)
    );
    server.stop();

    let (events, gaps) = content(dir);
    let gone: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!(
        (events.len() as u64, gone),
        (after - lost, lost),
        "each event once"
    );
    let mut all: Vec<u64> = gaps
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .collect();
    all.extend(&events);
    all.sort_unstable();
    assert_eq!(all, (1..=after).collect::<Vec<_>>());
    let checked = archive(dir, &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

/// A limit on the size of files fails in the middle of a write, as a full disk does, and everywhere.
#[tokio::test]
async fn a_process_that_may_write_no_more_continues_once_it_may() {
    let directory = Directory::new("file-limit");
    let dir = directory.path("archive");
    let mut command = Command::new("sh");
    // In units of 512 bytes. Without its signal, a write fails.
    let script = "trap '' XFSZ; ulimit -S -f 64; exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(tapline(&[]).get_program());
    command.args(arguments(&dir));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = Server::of(command);
    survives_a_full_disk(server, &dir, |server| {
        let process = Pid::from_raw(server.running.id().cast_signed());
        let all = Rlimit {
            current: None,
            maximum: None,
        };
        prlimit(process, Resource::Fsize, all).unwrap();
    })
    .await;
}

/// A file system of one megabyte. It is gone at the end.
struct SmallDisk(String);

impl SmallDisk {
    /// `None` where the machine does not permit it.
    fn mount(at: String) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", &at]);
        let mounted = mount.stderr(Stdio::null()).status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        is_mounted.then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[tokio::test]
async fn an_archive_on_a_full_disk_continues_once_there_is_space() {
    let directory = Directory::new("full-disk");
    let Some(disk) = SmallDisk::mount(directory.path("disk")) else {
        eprintln!(
            "skipped: this user may not mount a file system; a limit of file sizes is tested in any case"
        );
        return;
    };
    let filler = Path::new(&disk.0).join("filler");
    std::fs::write(&filler, vec![0; 700 * 1024]).unwrap();
    let dir = format!("{}/archive", disk.0);
    let arguments = arguments(&dir);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::with(&arguments);
    survives_a_full_disk(server, &dir, |_| {
        std::fs::remove_file(&filler).unwrap();
    })
    .await;
}

/// Permissions do not stop the superuser, so the program runs as another user then.
fn without_privileges(directory: &Directory, args: &[String]) -> Command {
    /// A user without privileges, in most systems.
    const USER: u32 = 65_534;
    let mut command = tapline(&[]);
    if rustix::process::geteuid().is_root() {
        // The other user may not get to where it was built.
        let copy = directory.path("tapline");
        if !Path::new(&copy).exists() {
            std::fs::copy(command.get_program(), &copy).unwrap();
        }
        let everyone = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(Path::new(&copy).parent().unwrap(), everyone).unwrap();
        let mut other = Command::new(copy);
        other.uid(USER).gid(USER).current_dir("/");
        other.stdin(Stdio::null());
        other.stdout(Stdio::piped()).stderr(Stdio::piped());
        command = other;
    }
    command.args(args);
    command
}

#[tokio::test]
async fn an_archive_in_a_directory_that_becomes_read_only_is_readable_and_continues_later() {
    let directory = Directory::new("read-only");
    let dir = directory.path("archive");
    std::fs::create_dir(&dir).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&dir, Some(65_534), Some(65_534)).unwrap();
    }
    let set_mode = |mode| std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    let start = || Server::of(without_privileges(&directory, &arguments(&dir)));
    let server = start();
    let before = publish(&server, 10, "before", 0).await;
    sink(&server, |sink| before <= number(sink, "position")).await;
    server.stop();
    // The next segment, which the first event begins, cannot be made.
    let server = start();
    set_mode(0o555);
    publish(&server, 10, "meanwhile", 0).await;
    let failing = sink(&server, |sink| sink["last_error"].is_string()).await;
    let error = failing["last_error"].as_str().unwrap();
    assert!(error.contains(&dir), "{error}");
    closes(&failing);
    // What was stored is read.
    let page = get(&server, "/telemetry/events?limit=1000&since=1h").await;
    assert_eq!(page.as_array().unwrap().len(), 10);
    set_mode(0o755);
    let after = publish(&server, 10, "after", 0).await;
    let whole = sink(&server, |sink| after <= number(sink, "position")).await;
    closes(&whole);
    assert_eq!(
        (number(&whole, "exported"), number(&whole, "lost")),
        (20, 0)
    );
    server.stop();
    assert_eq!(content(&dir).0.len(), 30);

    // Reading needs no permission to write; a server does, and names the flag.
    set_mode(0o555);
    for (args, lines) in [("ls", 2), ("cat", 30)] {
        let args: Vec<String> = ["archive", args, "--archive", &dir]
            .map(str::to_owned)
            .into();
        let said = Running::start(without_privileges(&directory, &args)).end();
        assert_eq!(
            (said.code, said.out.lines().count()),
            (Some(0), lines),
            "{said:?}"
        );
    }
    // Whether the file of the lock is there or not.
    for _ in 0..2 {
        let said = Running::start(without_privileges(&directory, &arguments(&dir))).end();
        assert_eq!(said.code, Some(1));
        for part in ["--archive", &dir, "let this user write", "ermission denied"] {
            assert!(said.err.contains(part), "{part}: {}", said.err);
        }
        let _ = std::fs::remove_file(format!("{dir}/lock"));
    }
    set_mode(0o755);
}

#[tokio::test]
async fn a_segment_that_is_missing_in_the_middle_is_a_gap_in_streams_and_pages() {
    let directory = Directory::new("missing-segment");
    let dir = directory.path("archive");
    let mut arguments = arguments(&dir);
    // Segments of 128 KiB.
    arguments.extend(["--archive-bytes", "1MiB"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::with(&arguments);
    let state = get(&server, "/telemetry").await;
    let epoch = state["epoch"].as_str().unwrap();
    let mut last = 0;
    for _ in 0..12 {
        last = publish(&server, 1, "step", 100_000).await;
        sink(&server, |sink| last <= number(sink, "position")).await;
    }
    server.stop();
    let listed = archive(&dir, &["ls", "--json"]);
    let segments: Vec<Value> = listed
        .out
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert!(3 <= segments.len(), "{}", listed.out);
    let gone = &segments[1];
    std::fs::remove_file(gone["path"].as_str().unwrap()).unwrap();
    let (from, to) = (number(gone, "first"), number(gone, "last"));
    let lost = to - from + 1;

    let server = Server::with(&arguments);
    for query in ["", "&order=desc"] {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        let what = format!("/telemetry/events?limit=1000&after=1-{epoch}{query}");
        write!(socket, "GET {what} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.contains(&format!("\r\nx-lost: {lost}\r\n")), "{head}");
        assert!(
            head.contains(&format!("\r\nx-gaps: {from}-{to}\r\n")),
            "{head}"
        );
        let page: Value = serde_json::from_str(body).unwrap();
        assert_eq!(page.as_array().unwrap().len() as u64, last - 1 - lost);
    }
    let said = run(&[
        "export",
        "--url",
        &server.url,
        "--format",
        "ndjson",
        "--since",
        "1h",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut lines = said
        .out
        .lines()
        .filter(|line| !line.contains("platform_api_call"));
    for seq in 1..from {
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with(&format!("{{\"seq\":{seq},"))
        );
    }
    let gap = format!("{{\"gap\":{{\"first\":{from},\"last\":{to}}}}}");
    assert_eq!(lines.next(), Some(&*gap));
    let next = format!("{{\"seq\":{},", to + 1);
    assert!(lines.next().unwrap().starts_with(&next));
    assert!(said.err.contains(&format!("{lost} lost")), "{}", said.err);
    // A file with such a line is read as one in which that is missing.
    let file = directory.path("exported.ndjson");
    std::fs::write(&file, &said.out).unwrap();
    let again = run(&["export", &file, "--format", "ndjson"]);
    assert_eq!(again.out, said.out, "{}", again.err);
    let after = format!("1-{epoch}");
    let opened = Follower::open(server.address(), "", &after);
    let mut follower = in_time(opened).await.unwrap();
    assert_eq!(follower.expect().await.name, "hello");
    for seq in 2..from {
        assert_eq!(follower.expect().await.seq(), Some(seq));
    }
    let gap = follower.expect().await;
    assert_eq!(gap.name, "gap");
    let fields = ["count", "matching", "from", "to"].map(|field| number(&gap.json(), field));
    assert_eq!(fields, [lost, lost, from, to]);
    for seq in to + 1..=last {
        assert_eq!(follower.expect().await.seq(), Some(seq));
    }
}

/// An endpoint that accepts everything, and keeps the bytes. Texts are in the protobuf as they are.
struct Endpoint {
    url: String,
    bodies: Arc<Mutex<Vec<u8>>>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::<Mutex<Vec<u8>>>::default();
        let accepting = bodies.clone();
        // The thread ends with the test's process: a blocked `accept` cannot be interrupted.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let bodies = accepting.clone();
                std::thread::spawn(move || accept_all(&socket, &bodies));
            }
        });
        Self { url, bodies }
    }

    fn count(&self, text: &str) -> usize {
        let bodies = self.bodies.lock().unwrap();
        memchr::memmem::find_iter(&bodies, text).count()
    }
}

fn accept_all(socket: &TcpStream, bodies: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        bodies.lock().unwrap().extend(body);
        let mut socket = socket;
        socket.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
}

#[tokio::test]
async fn an_export_that_is_switched_off_sends_nothing_and_later_nothing_from_between() {
    let endpoint = Endpoint::start();
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--otlp-endpoint",
        &endpoint.url,
    ]);
    let exported = async |least: u64| sink(&server, |sink| least <= number(sink, "exported")).await;
    publish(&server, 10, "first_part", 0).await;
    closes(&exported(10).await);
    switch(&server, r#"{"export":{"otlp":{"enabled":false}}}"#).await;
    let off = sink(&server, |sink| number(sink, "pending") == 0).await;
    assert_eq!(off["on"], false);
    let state = get(&server, "/telemetry").await;
    assert_eq!(
        state["config"]["export"]["otlp"]["enabled"], false,
        "{state}"
    );
    publish(&server, 20, "hidden_part", 0).await;
    switch(&server, r#"{"export":{"otlp":{"enabled":true}}}"#).await;
    publish(&server, 30, "last_part", 0).await;
    // The call that has switched it on is an event, too, and so is the one before, which is not exported.
    let on = exported(41).await;
    closes(&on);
    assert_eq!(
        (number(&on, "exported"), number(&on, "lost")),
        (41, 0),
        "{on}"
    );
    assert_eq!(on["on"], true);
    let calls = get(&server, "/telemetry/events?type=platform_api_call").await;
    assert_eq!(calls.as_array().unwrap().len(), 2);
    server.stop();
    // How often a record has the name of its type.
    let each = endpoint.count("first_part") / 10;
    assert_ne!(each, 0);
    assert_eq!(endpoint.count("first_part"), 10 * each);
    assert_eq!(endpoint.count("hidden_part"), 0);
    assert_eq!(endpoint.count("last_part"), 30 * each);
    assert_ne!(endpoint.count("platform_api_call"), 0);
}
