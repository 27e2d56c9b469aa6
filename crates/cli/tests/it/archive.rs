//! A server with an archive: what is not in memory any more, what earlier runs left, and no file without one.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::program::{Running, Server, run, tapline};
use crate::wire::{Caller, Follower, Frame, in_time};

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tapline-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server with 16 events in memory, a session, and an archive in that directory.
fn serve(dir: &Dir) -> Server {
    let capacity = ["--capacity", "16"];
    let listen = ["serve", "--listen", "127.0.0.1:0", "--start"];
    let archive = ["--archive", dir.path()];
    Server::with(&[&listen[..], &capacity, &archive].concat())
}

async fn get(server: &Server, what: &str) -> Value {
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let (status, body) = in_time(caller.call(&format!("GET {what}"), ""))
        .await
        .unwrap();
    assert_eq!(status, 200, "{what}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Publishes so many, and waits until they are on the disk.
async fn publish(server: &Server, count: usize) -> u64 {
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let mut last = 0;
    // In parts that the memory holds, so that the archive loses nothing.
    for _ in 0..count.div_ceil(10) {
        let lines = "{\"type\":\"step\",\"category\":\"control\"}\n".repeat(10);
        last = in_time(caller.publish(&lines)).await.unwrap().last;
        in_time(stored(server, last)).await;
    }
    last
}

async fn stored(server: &Server, seq: u64) {
    loop {
        let sinks = get(server, "/telemetry/sinks").await;
        let archive = &sinks["sinks"][0];
        assert_eq!(archive["name"], "archive", "{sinks}");
        assert_eq!(archive["lost"], 0, "{sinks}");
        if archive["position"].as_u64() >= Some(seq) {
            return;
        }
    }
}

/// The next event; what the session does is left out.
async fn event(follower: &mut Follower) -> Frame {
    loop {
        let frame = follower.expect().await;
        if frame.name != "session" {
            return frame;
        }
    }
}

/// What a client without notices gets, up to this text.
async fn plain(address: &str, what: &str, end: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {what} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(end) {
        let read = in_time(socket.read(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

fn seqs(page: &Value) -> Vec<u64> {
    let events = page.as_array().unwrap().iter();
    events.map(|it| it["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn one_cursor_works_for_memory_and_disk_and_over_a_kill() {
    let dir = Dir::new("one-cursor");
    let server = serve(&dir);
    assert_eq!(publish(&server, 100).await, 100);
    let epoch = get(&server, "/telemetry").await["epoch"]
        .as_str()
        .unwrap()
        .to_owned();

    let mut follower = in_time(Follower::open(server.address(), "&after=5", ""))
        .await
        .unwrap();
    let hello = follower.expect().await;
    assert_eq!(
        (hello.name.as_str(), &hello.json()["reason"]),
        ("hello", &"resumed".into())
    );
    for seq in 6..=100 {
        let frame = event(&mut follower).await;
        assert_eq!(frame.seq(), Some(seq), "{}", frame.data);
    }
    let page = get(&server, "/telemetry/events?limit=1000&after=5").await;
    assert_eq!(seqs(&page), (6..=100).collect::<Vec<_>>());
    let found = get(&server, "/telemetry/wait?after=41&timeout_ms=10000").await;
    assert_eq!(found["seq"], 42);
    drop(follower);
    server.running.signal(Signal::KILL);
    drop(server);

    let server = serve(&dir);
    assert_eq!(publish(&server, 40).await, 40);
    let present = get(&server, "/telemetry").await["epoch"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(present, epoch);
    let last = format!("95-{epoch}");
    let opened = Follower::open(server.address(), "", &last);
    let mut follower = in_time(opened).await.unwrap();
    assert_eq!(follower.expect().await.json()["epoch"], epoch.as_str());
    for seq in 96..=100 {
        assert_eq!(follower.expect().await.id, format!("{seq}-{epoch}"));
    }
    let notice = follower.expect().await;
    assert_eq!(notice.name, "epoch");
    assert_eq!(notice.id, format!("0-{present}"));
    let expected = serde_json::json!({
        "from": epoch, "last_seq": 100, "complete": true, "epoch": present,
    });
    assert_eq!(notice.json(), expected);
    for seq in 1..=40 {
        let frame = event(&mut follower).await;
        assert_eq!(frame.id, format!("{seq}-{present}"));
    }
    // A client without notices: its ids have an epoch until the present run begins.
    let what = format!("/telemetry/stream?after={last}");
    let text = plain(server.address(), &what, "id: 40\n").await;
    for seq in 96..=100 {
        assert!(text.contains(&format!("id: {seq}-{epoch}\n")), "{text}");
    }
    let ends = format!(": epoch: {epoch} ends here after seq 100; {present} follows");
    assert!(text.contains(&ends), "{text}");
    for seq in 1..=40 {
        assert!(text.contains(&format!("\nid: {seq}\n")), "{text}");
    }
    // A page of the run before, and where it continues.
    let page = get(
        &server,
        &format!("/telemetry/events?limit=1000&after=90-{epoch}"),
    )
    .await;
    assert_eq!(seqs(&page), (91..=100).collect::<Vec<_>>());
    let page = get(&server, "/telemetry/events?limit=1000&since=1h").await;
    assert_eq!(seqs(&page), (1..=100).collect::<Vec<_>>());
    let page = get(
        &server,
        &format!("/telemetry/events?limit=1000&since=1h&offset=0-{present}"),
    )
    .await;
    assert_eq!(seqs(&page), (1..=40).collect::<Vec<_>>());
    // The client of this project.
    let cursor = dir.0.join("cursor");
    std::fs::write(&cursor, format!("98-{epoch}\n")).unwrap();
    let tail = ["--json", "--resume", cursor.to_str().unwrap()];
    let mut tail = Running::start(server.tail(&tail));
    for seq in [99, 100, 1, 2] {
        let line: Value = serde_json::from_str(&tail.line()).unwrap();
        assert_eq!(line["seq"], seq, "{line}");
    }
}

/// 300 events of 200 KB, far more than sockets hold; every third is a `page_load`. All of them are archived.
async fn publish_large(server: &Server) -> u64 {
    let mut caller = Caller::connect(server.address()).await.unwrap();
    let text = "x".repeat(200_000);
    let mut last = 0;
    for first in (1..=300).step_by(6) {
        let lines = (first..first + 6).map(|n| match n % 3 {
            0 => format!("{{\"type\":\"page_load\",\"data\":\"{text}\"}}\n"),
            _ => format!("{{\"type\":\"page_dom_content_loaded\",\"data\":\"{text}\"}}\n"),
        });
        let lines: String = lines.collect();
        last = in_time(caller.publish(&lines)).await.unwrap().last;
        in_time(stored(server, last)).await;
    }
    last
}

#[tokio::test]
async fn a_loss_under_a_filter_by_type_is_exact_where_the_archive_has_the_events() {
    let dir = Dir::new("exact-loss");
    let server = serve(&dir);
    let begin = get(&server, "/telemetry").await["seq"].as_u64().unwrap();
    let mut slow = Vec::new();
    for overtaken in ["oldest", "head", "close"] {
        let query = format!("&after={begin}&type=page_load&overtaken={overtaken}");
        let follower = Follower::open_narrow(server.address(), &query).await;
        slow.push((overtaken, follower.unwrap()));
    }
    let head = publish_large(&server).await;
    assert_eq!(head, begin + 300);
    let loads = |from: u64, to: u64| (from..=to).filter(|it| (it - begin) % 3 == 0).count() as u64;
    for (overtaken, mut follower) in slow {
        let mut next = begin + 1;
        let (mut delivered, mut lost) = (0, 0);
        while let Some(frame) = in_time(follower.next()).await {
            match frame.name.as_str() {
                "" => {
                    let seq = frame.seq().unwrap();
                    assert_eq!(loads(next, seq), 1, "{overtaken}: none is left out");
                    (next, delivered) = (seq + 1, delivered + 1);
                }
                "gap" => {
                    let [from, to] = ["from", "to"].map(|field| frame.number(field).unwrap());
                    assert_eq!(loads(next, from), u64::from((from - begin) % 3 == 0));
                    assert_eq!(
                        frame.number("matching"),
                        Some(loads(from, to)),
                        "{overtaken}"
                    );
                    (next, lost) = (to + 1, lost + loads(from, to));
                }
                "bye" => {
                    assert_eq!(
                        (overtaken, &frame.json()["reason"]),
                        ("close", &"overtaken".into())
                    );
                }
                _ => {}
            }
            if next == head + 1 {
                break;
            }
        }
        assert!(0 < lost, "{overtaken}: it lagged");
        assert_eq!(delivered + lost, loads(begin + 1, next - 1), "{overtaken}");
        assert_eq!(next == head + 1, overtaken != "close");
    }
    // One that resumes.
    let query = format!("&after={}&type=page_load&overtaken=oldest", begin + 7);
    let mut follower = in_time(Follower::open(server.address(), &query, ""))
        .await
        .unwrap();
    let hello = follower.expect().await;
    let used = hello.number("used").unwrap();
    assert_eq!(hello.json()["reason"], "evicted");
    assert_eq!(hello.number("lost"), Some(loads(begin + 8, used)));
}

#[tokio::test]
async fn the_archive_is_switched_off_and_on_and_loses_nothing_on_a_clean_stop() {
    let dir = Dir::new("switched");
    let server = serve(&dir);
    let mut caller = Caller::connect(server.address()).await.unwrap();
    publish(&server, 10).await;
    let (status, _) = in_time(caller.call("PATCH /telemetry", r#"{"storage":{"enabled":false}}"#))
        .await
        .unwrap();
    assert_eq!(status, 200);
    let lines = "{\"type\":\"hidden\",\"category\":\"control\"}\n".repeat(10);
    in_time(caller.publish(&lines)).await.unwrap();
    assert_eq!(
        get(&server, "/telemetry/sinks").await["sinks"][0]["on"],
        false
    );
    let (status, _) = in_time(caller.call("PATCH /telemetry", r#"{"storage":{"enabled":true}}"#))
        .await
        .unwrap();
    assert_eq!(status, 200);
    // Not waited for: the stop does.
    let lines = "{\"type\":\"last\",\"category\":\"control\"}\n".repeat(10);
    in_time(caller.publish(&lines)).await.unwrap();
    server.running.signal(Signal::TERM);
    let ended = server.running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let server = serve(&dir);
    let page = get(&server, "/telemetry/events?limit=1000&since=1h").await;
    let count = |name: &str| {
        let events = page.as_array().unwrap().iter();
        events.filter(|it| it["event"]["type"] == name).count()
    };
    assert_eq!((count("step"), count("hidden"), count("last")), (10, 0, 10));
}

#[test]
fn two_servers_do_not_share_a_directory_and_a_bad_bound_is_wrong_usage() {
    let dir = Dir::new("shared");
    let server = serve(&dir);
    let said = run(&["serve", "--listen", "127.0.0.1:0", "--archive", dir.path()]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("in use by another process"),
        "{}",
        said.err
    );
    let id = server.running.id().to_string();
    assert!(said.err.contains(&id), "{}", said.err);
    let said = run(&["serve", "--archive", dir.path(), "--archive-bytes", "1k"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("--archive-bytes"), "{}", said.err);
    let file = dir.0.join("file");
    std::fs::write(&file, "x").unwrap();
    let said = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--archive",
        file.to_str().unwrap(),
    ]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("--archive"), "{}", said.err);
}

/// Zero retention: with no archive the program opens no file for writing, from its start to its end.
#[tokio::test]
async fn without_an_archive_nothing_is_written_to_the_disk() {
    let dir = Dir::new("traced");
    std::fs::create_dir_all(&dir.0).unwrap();
    for archive in [false, true] {
        let trace = dir.0.join(format!("trace-{archive}"));
        let calls = "trace=openat,open,creat,openat2,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,truncate";
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-q", "-e", calls, "-o"]).arg(&trace);
        let program = tapline(&[]);
        command.arg(program.get_program());
        command.args(["serve", "--listen", "127.0.0.1:0", "--start"]);
        let store = dir.0.join("archive");
        if archive {
            command.arg("--archive").arg(&store);
        }
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        if !is_installed("strace") {
            return;
        }
        let mut running = Running::start(command);
        let url = running
            .line()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        let server = Server { running, url };
        server.publish_steps(2000);
        let page = get(&server, "/telemetry/events?limit=10").await;
        assert_eq!(seqs(&page).len(), 10);
        // The tracer passes the end on, once the program has ended.
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.running.id()));
        let child: i32 = children.unwrap().trim().parse().unwrap();
        let child = rustix::process::Pid::from_raw(child).unwrap();
        rustix::process::kill_process(child, Signal::TERM).unwrap();
        let said = server.running.end();
        assert_eq!(said.code, Some(0), "{said:?}");
        let written = files_written(&trace);
        if archive {
            assert!(
                written.iter().any(|path| path.contains("ndjson.zst")),
                "{written:?}"
            );
        } else {
            assert_eq!(written, [] as [&str; 0], "nothing touches the disk");
        }
    }
}

/// The paths that were opened for writing, made or renamed. `/dev/null` and the like are no files.
fn files_written(trace: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(trace).unwrap();
    let is_for_writing = |line: &&str| {
        let opens = line.contains(" open");
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"]
            .iter()
            .any(|flag| line.contains(flag));
        line.contains('"') && !line.contains("ENOENT") && (!opens || writes)
    };
    let lines = text.lines().filter(is_for_writing);
    let paths = lines.filter_map(|line| line.split('"').nth(1));
    let is_file = |path: &&str| {
        !["/dev/", "/proc/", "/sys/"]
            .iter()
            .any(|it| path.starts_with(it))
    };
    paths.filter(is_file).map(str::to_owned).collect()
}

/// Whether the system has this program. In CI it must have.
fn is_installed(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{program} is not installed"
    );
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
