//! Proxies of others in front of the program, configured as `docs/proxies.md` shows it.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{on_path, or_skip};
use crate::program::{DEADLINE, Directory, Running, Server, dead_url, run};
use crate::wire::{Caller, Follower, in_time};

const DOCS: &str = include_str!("../../../../docs/proxies.md");

/// The path under which the documented configurations have the server.
const PATH: &str = "sandbox";

/// How many events the server retains.
const CAPACITY: u64 = 1000;

/// How long a single event may take. A proxy that buffers holds it back until the next comment, for 15 s.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How long an event takes mostly. A proxy that waits for more data takes 200 ms for each.
const MOSTLY: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_passes_everything_on() {
    check("nginx", "nginx", nginx).await;
}

/// One process, which ends with the test, and no file outside of its directory.
fn nginx(config: &str, directory: &Directory) -> (String, Vec<&'static str>) {
    let config = format!(
        "daemon off; master_process off; error_log stderr; pid {0};\nevents {{}}\nhttp {{\n\
         client_body_temp_path {1}; proxy_temp_path {1}; fastcgi_temp_path {1}; uwsgi_temp_path {1}; \
         scgi_temp_path {1};\n{config}}}\n",
        directory.path("pid"),
        directory.path("temporary"),
    );
    (config, ["-c", "CONFIG", "-e", "stderr"].into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_passes_everything_on() {
    check("haproxy", "haproxy", |config, _| {
        (config.to_owned(), ["-f", "CONFIG"].into())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_passes_everything_on() {
    check("caddy", "caddyfile", |config, _| {
        let config = format!("{{\n    admin off\n}}\n{config}");
        let args = ["run", "--adapter", "caddyfile", "--config", "CONFIG"].into();
        (config, args)
    })
    .await;
}

/// nginx without the lines that the documentation has for streams. Its own defaults speak HTTP/1.0 to the server, and hold
/// everything back until 4 KiB are there; with HTTP/1.1 it passes each piece on even where it buffers.
#[test]
fn doctor_finds_an_nginx_that_buffers() {
    let server = Server::start();
    let config = documented("nginx")
        .replace(
            "proxy_buffering off;",
            "proxy_ignore_headers X-Accel-Buffering;",
        )
        .replace("proxy_http_version 1.1;", "proxy_http_version 1.0;");
    let Some((_proxy, front)) = start("nginx", &config, server.address(), nginx) else {
        return;
    };
    let said = run(&["doctor", "--url", &format!("http://{front}/{PATH}")]);
    let stream = said.out.lines().find(|line| line.contains(" stream "));
    let stream = stream.unwrap_or_else(|| panic!("{said:?}"));
    assert!(stream.starts_with("mend "), "{stream}");
    assert!(stream.contains("holds the stream back"), "{stream}");
    assert!(said.code != Some(0), "{said:?}");
}

/// A single event at once, a gap, `bye`, and the way back.
async fn check(
    program: &str,
    language: &str,
    whole: impl Fn(&str, &Directory) -> (String, Vec<&'static str>),
) {
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        &CAPACITY.to_string(),
    ]);
    let address = server.address().to_owned();
    let Some((_proxy, front)) = start(program, &documented(language), &address, whole) else {
        return;
    };
    let front = format!("{front}/{PATH}");
    let said = tokio::task::spawn_blocking({
        let url = format!("http://{front}");
        move || run(&["doctor", "--url", &url])
    });
    let said = said.await.unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut follower = Follower::open_again(&front, "", "").await;
    assert_eq!(follower.expect().await.name, "hello");
    let mut caller = in_time(Caller::connect(&address)).await.unwrap();
    let line = "{\"type\":\"step\",\"category\":\"control\"}\n";
    let mut took = Vec::new();
    for seq in 1..=50 {
        let started = Instant::now();
        in_time(caller.publish(line)).await.unwrap();
        assert_eq!(next_event(&mut follower).await, seq);
        took.push(started.elapsed());
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    }
    took.sort();
    println!("{program}: an event is there after {:?} (median)", took[25]);
    assert!(took[25] < MOSTLY, "{took:?}");

    let slow = Follower::open_narrow(&front, "&category=console")
        .await
        .unwrap();
    check_gap(slow, &mut caller).await;

    server.running.signal(Signal::TERM);
    let mut last = String::new();
    loop {
        let frame = follower.expect().await;
        if frame.name == "bye" {
            assert!(frame.retry.is_some(), "when to come back");
            break;
        }
        // A notice about the session, which ends just now, has none: as with any client, the one before it holds.
        if !frame.id.is_empty() {
            last = frame.id;
        }
    }
    assert!(in_time(follower.next()).await.is_none());
    let said = tokio::task::spawn_blocking(|| server.running.end())
        .await
        .unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");

    let _server = Server::with(&["serve", "--listen", &address, "--start"]);
    let mut follower = Follower::open_again(&front, "", &last).await;
    let hello = follower.expect().await;
    assert_eq!(
        (&*hello.name, &hello.json()["reason"]),
        ("hello", &"other_epoch".into())
    );
    let mut caller = in_time(Caller::connect(&address)).await.unwrap();
    in_time(caller.publish(line)).await.unwrap();
    assert_eq!(next_event(&mut follower).await, 1);
}

/// Starts a proxy with this configuration in front of the server at `address`. Returns where it listens; `None` where it
/// is not installed.
fn start(
    program: &str,
    config: &str,
    address: &str,
    whole: impl Fn(&str, &Directory) -> (String, Vec<&'static str>),
) -> Option<((Running, Directory), String)> {
    // Where the tools of the system's administrator are.
    let found = on_path(program).or_else(|| {
        let path = std::path::Path::new("/usr/sbin").join(program);
        path.is_file().then_some(path)
    });
    let found = or_skip(
        found,
        &format!("{program}, a package of the system,"),
        "TAPLINE_REQUIRE_PEERS",
    )?;
    let front = dead_url().strip_prefix("http://").unwrap().to_owned();
    let directory = Directory::new(&format!("{program}-{}", front.replace(':', "-")));
    let config = config
        .replace("127.0.0.1:10001", address)
        .replace("127.0.0.1:8080", &front);
    let (config, args) = whole(&config, &directory);
    let file = directory.path("config");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(found);
    for arg in args {
        command.arg(if arg == "CONFIG" { &file } else { arg });
    }
    command
        .env("HOME", directory.path("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let proxy = Running::start(command);
    let began = Instant::now();
    while TcpStream::connect(&front).is_err() {
        assert!(began.elapsed() < DEADLINE, "{program} should listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(((proxy, directory), front))
}

/// The seq of the next event, which nothing but the state of the session comes before.
async fn next_event(follower: &mut Follower) -> u64 {
    loop {
        let frame = follower.expect().await;
        if frame.name != "session" {
            return frame.seq().unwrap_or_else(|| panic!("{frame:?}"));
        }
    }
}

/// A reader that reads nothing until it has lost something receives an exact account.
async fn check_gap(mut slow: Follower, caller: &mut Caller) {
    assert_eq!(slow.expect().await.name, "hello");
    let text = "x".repeat(4000);
    let line = format!("{{\"type\":\"console_log\",\"data\":{{\"text\":\"{text}\"}}}}\n");
    let batch = line.repeat(500);
    // So far behind that events which it has not read are evicted: twice as many as are retained.
    let mut is_overtaken = false;
    for _ in 0..200 {
        in_time(caller.publish(&batch)).await.unwrap();
        let (_, readers) = in_time(caller.call("GET /telemetry/readers", ""))
            .await
            .unwrap();
        let readers: serde_json::Value = serde_json::from_str(&readers).unwrap();
        let readers = readers["readers"].as_array().unwrap();
        let slow = readers
            .iter()
            .find(|it| it["category"] == serde_json::json!(["console"]));
        is_overtaken = 2 * CAPACITY < slow.unwrap()["behind_events"].as_u64().unwrap();
        if is_overtaken {
            break;
        }
    }
    assert!(is_overtaken, "the proxy takes all for the reader");
    // The last seq that is accounted for, and whether the account of a loss is behind us.
    let mut last = None;
    let mut has_lost = false;
    loop {
        let frame = slow.expect().await;
        if let Some(seq) = frame.seq() {
            assert!(
                last.is_none_or(|last: u64| seq == last + 1),
                "{last:?}, {seq}"
            );
            if has_lost {
                return;
            }
            last = Some(seq);
        } else if frame.name == "gap" {
            // More may be evicted between a gap and the event behind it, so one gap may follow another.
            let (from, to) = (frame.number("from").unwrap(), frame.number("to").unwrap());
            assert_eq!(last.map(|last| last + 1), Some(from));
            assert_eq!(frame.number("matching"), Some(to - from + 1));
            last = Some(to);
            has_lost = true;
        }
    }
}

/// The only block of this language in the documentation.
fn documented(language: &str) -> String {
    let start = format!("```{language}\n");
    let mut blocks = DOCS.split(&start).skip(1);
    let block = blocks.next().expect("it is documented");
    assert!(blocks.next().is_none(), "one block of {language}");
    block.split("```").next().unwrap().to_owned()
}
