//! Several servers, a NATS server and gateways: what a client gets at a gateway is what it would get at the server.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

use crate::front::header;
use crate::http::ask;
use crate::live_page;
use crate::nats::{Nats, exported};
use crate::program::{DEADLINE, Directory, Server, run};
use crate::wire::{Caller, Follower, in_time};

fn instance(nats: &Nats, name: &str, more: &[&str]) -> Server {
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--instance",
        name,
    ];
    let streams = [
        "--nats",
        &nats.url,
        "--nats-partitions",
        "2",
        "--nats-bytes",
        "64MiB",
    ];
    Server::with(&[&args, &streams, more].concat())
}

pub(crate) fn gateway(nats: &Nats, listen: &str, more: &[&str]) -> Server {
    let args = ["gateway", "--listen", listen, "--nats", &nats.url];
    Server::with(&[&args, more].concat())
}

/// Waits until the gateway lists so many instances that run.
fn listed(gateway: &Server, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let list = ask(gateway.address(), "GET", "/instances", "");
        let list: Value = serde_json::from_str(&list.body).unwrap();
        let alive = list["instances"].as_array().unwrap().iter();
        let alive: Vec<_> = alive.filter(|it| it["alive"] == true).cloned().collect();
        if alive.len() == count {
            return alive;
        }
        assert!(started.elapsed() < DEADLINE, "{alive:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Follows an instance, at the one gateway or the other, until it has the event with this seq. Each event comes once and in
/// order, and nothing is lost.
async fn follow_all(gateways: [String; 2], name: &'static str, last: u64) -> usize {
    let (mut cursor, mut position, mut opened) = (String::new(), 0, 0);
    while position < last {
        let at = format!("{}/instances/{name}", gateways[opened % 2]);
        opened += 1;
        let opening = Follower::open(&at, "&replay=all", &cursor);
        let Ok(Ok(mut follower)) = tokio::time::timeout(DEADLINE, opening).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        while position < last
            && let Ok(Some(frame)) = tokio::time::timeout(DEADLINE, follower.next()).await
        {
            assert_ne!(frame.name, "gap", "{name}: {}", frame.data);
            if frame.name == "hello" {
                let hello = frame.json();
                assert_eq!(hello["used"], position, "{name}: {hello}");
                assert_eq!(hello["lost"], 0, "{name}: {hello}");
            }
            if let Some(seq) = frame.seq() {
                assert_eq!(seq, position + 1, "{name}");
                position = seq;
                cursor = frame.id;
            }
        }
    }
    opened
}

/// As [`follow_all`], all instances on one connection: so many events in all.
async fn follow_fleet(gateways: [String; 2], events: u64) -> usize {
    let (mut cursor, mut opened, mut seen) = (String::new(), 0, 0);
    let mut positions = HashMap::<String, u64>::new();
    while seen < events {
        let at = &gateways[opened % 2];
        opened += 1;
        let opening = Follower::open_at(
            at,
            "/fleet/stream?notices=true&replay=all&instances=one,t*",
            &cursor,
        );
        let Ok(Ok(mut follower)) = tokio::time::timeout(DEADLINE, opening).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        while seen < events
            && let Ok(Some(frame)) = tokio::time::timeout(DEADLINE, follower.next()).await
        {
            let data = frame.json();
            match &*frame.name {
                "" => {
                    let position = positions
                        .entry(data["instance"].as_str().unwrap().to_owned())
                        .or_default();
                    assert_eq!(data["seq"], *position + 1, "{data}");
                    *position += 1;
                    seen += 1;
                }
                "hello" if cursor.is_empty() => assert_eq!(data["reason"], "fresh"),
                "hello" => assert_eq!(data["reason"], "resumed", "{data}"),
                "gap" | "epoch" => panic!("{} {data}", frame.name),
                _ => {}
            }
            cursor = frame.id;
        }
    }
    assert_eq!(positions.len(), 3);
    opened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_lose_nothing_while_gateways_and_the_broker_are_killed() {
    const BATCHES: u64 = 60;
    const LINES: u64 = 25;
    let Some(mut nats) = Nats::start("fleet-kill") else {
        return;
    };
    let names = ["one", "two", "three"];
    let instances = names.map(|name| instance(&nats, name, &[]));
    let first = gateway(&nats, "127.0.0.1:0", &[]);
    let second = gateway(&nats, "127.0.0.1:0", &[]);
    listed(&first, 3);
    let gateways = [first.address().to_owned(), second.address().to_owned()];
    let last = BATCHES * LINES;
    let following = names.map(|name| tokio::spawn(follow_all(gateways.clone(), name, last)));
    let fleet = tokio::spawn(follow_fleet(gateways.clone(), 3 * last));
    let publishing = instances.each_ref().map(|server| {
        let address = server.address().to_owned();
        tokio::spawn(async move {
            let mut caller = in_time(Caller::connect(&address)).await.unwrap();
            let line = "{\"type\":\"step\",\"category\":\"control\"}\n";
            for _ in 0..BATCHES {
                in_time(caller.publish(&line.repeat(LINES as usize)))
                    .await
                    .unwrap();
                sleep(Duration::from_millis(50)).await;
            }
        })
    });
    sleep(Duration::from_millis(500)).await;
    // kill -9, and another one in its place.
    drop(first);
    sleep(Duration::from_millis(300)).await;
    let first = gateway(&nats, &gateways[0], &[]);
    sleep(Duration::from_millis(300)).await;
    drop(second);
    sleep(Duration::from_millis(300)).await;
    nats.restart();
    let _second = gateway(&nats, &gateways[1], &[]);
    for publishing in publishing {
        in_time(publishing).await.unwrap();
    }
    for following in following {
        let opened = in_time(following).await.unwrap();
        assert!(1 < opened, "no gateway was killed under it");
    }
    assert!(
        1 < in_time(fleet).await.unwrap(),
        "no gateway was killed under it"
    );
    for server in &instances {
        exported(server, last);
    }
    drop(first);
}

/// An event of some 2,000 bytes that hardly compresses.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let text: String = (0..125).map(|_| next()).collect();
    format!("{{\"type\":\"step\",\"category\":\"control\",\"data\":\"{text}\"}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stood_still_loses_nothing_and_stays_small() {
    const BATCHES: u64 = 20;
    const LINES: u64 = 100;
    // The server closes the connection of a client that does not answer for a second.
    let limits = "ping_interval: \"500ms\"\nping_max: 2\n";
    let Some(nats) = Nats::start_with("fleet-slow", limits) else {
        return;
    };
    let names = ["one", "two", "three"];
    let instances = names.map(|name| instance(&nats, name, &[]));
    let gateway = gateway(&nats, "127.0.0.1:0", &[]);
    listed(&gateway, 3);
    let gateways = [gateway.address().to_owned(), gateway.address().to_owned()];
    let last = BATCHES * LINES;
    let following = names.map(|name| tokio::spawn(follow_all(gateways.clone(), name, last)));
    let fleet = tokio::spawn(follow_fleet(gateways.clone(), 3 * last));
    // A client that reads nothing before the end.
    let at = format!("{}/instances/one", gateway.address());
    let mut narrow = in_time(Follower::open_narrow(&at, "&replay=all"))
        .await
        .unwrap();
    sleep(Duration::from_millis(300)).await;
    let before = gateway.running.resident();
    gateway.running.signal(Signal::STOP);
    let publishing = instances.each_ref().map(|server| {
        let address = server.address().to_owned();
        tokio::spawn(async move {
            let mut caller = in_time(Caller::connect(&address)).await.unwrap();
            for batch in 0..BATCHES {
                let lines: String = (0..LINES).map(|n| noise(batch * LINES + n)).collect();
                in_time(caller.publish(&lines)).await.unwrap();
            }
        })
    });
    for publishing in publishing {
        in_time(publishing).await.unwrap();
    }
    for server in &instances {
        exported(server, last);
    }
    sleep(Duration::from_secs(2)).await;
    gateway.running.signal(Signal::CONT);
    for following in following {
        in_time(following).await.unwrap();
    }
    in_time(fleet).await.unwrap();
    let mut position = 0;
    while position < last {
        let frame = narrow.expect().await;
        assert_ne!(frame.name, "gap", "{}", frame.data);
        if let Some(seq) = frame.seq() {
            assert_eq!(seq, position + 1);
            position = seq;
        }
    }
    // Three rings of 16 MiB at most, and what is on its way.
    let more = gateway.running.resident().saturating_sub(before) / 1024 / 1024;
    assert!(more < 160, "{more} MiB more");
}

#[test]
fn an_instance_that_was_killed_is_read_on_and_its_next_run_follows() {
    let Some(nats) = Nats::start("fleet-restart") else {
        return;
    };
    let archive = Directory::new("fleet-restart-archive");
    for (name, more) in [
        ("plain", vec![]),
        (
            "archiving",
            vec!["--archive".to_owned(), archive.path("events")],
        ),
    ] {
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        let server = instance(&nats, name, &more);
        let gateway = gateway(&nats, "127.0.0.1:0", &[]);
        server.publish_steps(40);
        exported(&server, 40);
        let at = |path: &str| format!("/instances/{name}/telemetry{path}");
        let before = ask(gateway.address(), "GET", &at("/events?limit=40"), "");
        assert_eq!(before.status, 200, "{before:?}");
        let epoch = header(&before.head, "x-epoch").unwrap().to_owned();
        // kill -9. What it has stored can be read, its state cannot.
        drop(server);
        let silent = ask(gateway.address(), "GET", &at(""), "");
        assert_eq!(silent.status, 504, "{silent:?}");
        assert!(silent.body.contains("no_answer"), "{silent:?}");
        let again = ask(gateway.address(), "GET", &at("/events?limit=40"), "");
        assert_eq!(again.body, before.body);

        let server = instance(&nats, name, &more);
        server.publish_steps(3);
        exported(&server, 3);
        // A cursor of the run before leads into the next one.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let followed = runtime.block_on(async {
            let place = format!("{}/instances/{name}", gateway.address());
            let mut followed = Vec::new();
            let mut cursor = format!("38-{epoch}");
            while followed.len() < 6 {
                let mut follower = Follower::open_again(&place, "", &cursor).await;
                while followed.len() < 6
                    && let Some(frame) = in_time(follower.next()).await
                {
                    assert_ne!(frame.name, "gap");
                    if frame.name == "epoch" {
                        followed.push(frame.json()["from"].to_string());
                    }
                    if let Some(seq) = frame.seq() {
                        followed.push(seq.to_string());
                        cursor = frame.id;
                    }
                }
            }
            followed
        });
        let from = format!("\"{epoch}\"");
        assert_eq!(followed, ["39", "40", &from, "1", "2", "3"], "{name}");
        server.stop();
    }
}

#[test]
fn the_terminal_reads_an_instance_by_its_name() {
    let Some(nats) = Nats::start("fleet-terminal") else {
        return;
    };
    let server = instance(&nats, "shop-7", &[]);
    let gateway = gateway(&nats, "127.0.0.1:0", &[]);
    server.publish_lines(include_str!("../../data/browser-events.ndjson"));
    let head: Value =
        serde_json::from_str(&ask(server.address(), "GET", "/telemetry", "").body).unwrap();
    exported(&server, head["seq"].as_u64().unwrap());
    listed(&gateway, 1);
    for command in [
        vec!["why", "--utc"],
        vec!["requests", "--utc"],
        vec!["export", "--format", "ndjson"],
        vec!["wait", "--type", "console_*", "--after", "0"],
    ] {
        let here = run(&[&*command, &["--url", &server.url]].concat());
        let there = [&*command, &["--url", &gateway.url, "--instance", "shop-7"]].concat();
        let there = run(&there);
        assert_eq!(
            (there.code, there.out),
            (here.code, here.out),
            "{command:?}: {}",
            there.err
        );
    }
    // What is joined and counted by default is the same, too: the gateway has read back what the instance has in memory.
    for path in [
        "requests?limit=1000",
        "problems",
        "navigations",
        "counts",
        "events?limit=1000",
    ] {
        let here = ask(server.address(), "GET", &format!("/telemetry/{path}"), "");
        let there = format!("/instances/shop-7/telemetry/{path}");
        let there = ask(gateway.address(), "GET", &there, "");
        assert_eq!((there.status, there.body), (200, here.body), "{path}");
    }
    let status = run(&["status", "--url", &gateway.url, "--instance", "shop-7"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.out.contains("/instances/shop-7"), "{}", status.out);
    let unknown = run(&["status", "--url", &gateway.url, "--instance", "shop-8"]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.err.contains("no instance `shop-8` is known"),
        "{}",
        unknown.err
    );
    let refused = run(&[
        "publish",
        "--url",
        &gateway.url,
        "--instance",
        "shop-7",
        "--type",
        "page_load",
    ]);
    assert!(
        refused.err.contains("publish at the instance"),
        "{}",
        refused.err
    );
}

/// The rights that `docs/fleet.md` shows: an instance can publish its own events and nothing else.
#[test]
fn an_instance_with_the_documented_rights_can_be_no_other_one() {
    let docs = include_str!("../../../../docs/fleet.md");
    let config = docs.split("```conf\n").nth(1).expect("it is documented");
    let config = config.split("```").next().unwrap();
    let Some(nats) = Nats::start_with("fleet-rights", config) else {
        return;
    };
    let dir = Directory::new("fleet-rights-files");
    let file = |user: &str| {
        let path = dir.path(user);
        fs::write(&path, format!("user: {user}\npassword: change-me\n")).unwrap();
        path
    };
    let (admin, shop) = (file("gateway"), file("shop-1"));
    // The first one creates the streams.
    let creator = instance(&nats, "first", &["--nats-creds", &file("operator")]);
    creator.publish_steps(1);
    exported(&creator, 1);
    let own = instance(&nats, "shop-1", &["--nats-creds", &shop]);
    own.publish_steps(5);
    exported(&own, 5);
    let gateway = gateway(&nats, "127.0.0.1:0", &["--nats-creds", &admin]);
    listed(&gateway, 2);
    let state = ask(gateway.address(), "GET", "/instances/shop-1/telemetry", "");
    assert_eq!(state.status, 200, "{state:?}");
    let page = ask(
        gateway.address(),
        "GET",
        "/instances/shop-1/telemetry/events",
        "",
    );
    assert_eq!(page.body.matches("\"seq\":").count(), 5);
    let other = instance(&nats, "first", &["--nats-creds", &shop]);
    other.publish_steps(5);
    let started = Instant::now();
    loop {
        let sinks = ask(other.address(), "GET", "/telemetry/sinks", "").body;
        if sinks.to_lowercase().contains("permissions violation") {
            assert!(sinks.contains("\"exported\":0"), "{sinks}");
            break;
        }
        assert!(started.elapsed() < DEADLINE, "{sinks}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What went wrong in a shop, one event a line: a request that failed, one that was answered with an error, an exception that is
/// handled later, and a line of the console.
const WRONG: &str = r#"{"type":"network_request","data":{"request_id":"1","url":"http://shop/a","method":"GET","document_url":"http://shop/","headers":{},"initiator_type":"parser"}}
{"type":"network_loading_failed","data":{"request_id":"1","url":"http://shop/a","error_text":"net::ERR_FAILED","canceled":false}}
{"type":"network_request","data":{"request_id":"2","url":"http://shop/b","method":"GET","document_url":"http://shop/","headers":{},"initiator_type":"parser"}}
{"type":"network_response","data":{"request_id":"2","url":"http://shop/b","method":"GET","status":503,"headers":{},"duration_ms":12}}
{"type":"console_error","data":{"text":"Uncaught (in promise) late","exception_id":1}}
{"type":"console_log","data":{"level":"log","text":"handled","exception_id":1}}
{"type":"console_error","data":{"level":"error","text":"the basket is empty"}}
"#;

#[test]
fn the_list_of_instances_has_as_many_problems_as_the_list_of_the_instance() {
    let Some(nats) = Nats::start("fleet-problems") else {
        return;
    };
    let one = instance(&nats, "shop-7", &[]);
    let gateway = gateway(&nats, "127.0.0.1:0", &[]);
    let events = one.publish_lines(WRONG);
    assert_eq!(events.code, Some(0), "{events:?}");
    let problems = ask(one.address(), "GET", "/telemetry/problems", "");
    let problems: Vec<Value> = serde_json::from_str(&problems.body).unwrap();
    assert_eq!(problems.len(), 4);
    let real: Vec<_> = problems
        .iter()
        .filter(|it| it.get("withdrawn").is_none())
        .collect();
    let started = Instant::now();
    let found = loop {
        let found = listed(&gateway, 1).remove(0);
        if found["problems"]["count"] == real.len() {
            break found;
        }
        assert!(started.elapsed() < DEADLINE, "{found}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let newest = real.last().unwrap();
    for field in ["kind", "ts", "text"] {
        assert_eq!(found["problems"]["newest"][field], newest[field], "{field}");
    }
    assert_eq!(found["problems"]["not_read"], 0);
    assert_eq!(found["last_event"]["seq"], found["head"]);
    assert_eq!(found["last_event"]["type"], "console_error");
}

#[test]
fn the_page_of_a_fleet_lists_thousands_of_instances() {
    let Some(nats) = Nats::start("fleet-page") else {
        return;
    };
    // It creates the streams.
    drop(instance(&nats, "first", &[]));
    let gateway = gateway(&nats, "127.0.0.1:0", &[]);
    listed(&gateway, 0);
    live_page::check_on(
        &gateway,
        "a_fleet_without_instances_says_how_to_start_one",
        &[],
        |_| vec![],
    );

    let shop = instance(&nats, "shop-7", &[]);
    assert_eq!(shop.publish_lines(WRONG).code, Some(0));
    let others: Vec<_> = (0..5000)
        .map(|n| {
            let text = "GET http://shop.example/api/basket?user=17&items=all failed with net::ERR_CONNECTION_REFUSED after 12 ms";
            let problems = match n % 7 {
                0 => format!(r#""problems":{{"count":{n},"not_read":{},"newest":{{"ts":1,"kind":"request_failed","text":"{text}"}}}}"#, n % 2),
                _ => r#""problems":{"count":0,"not_read":0}"#.to_owned(),
            };
            let last = r#""last_event":{"seq":1,"ts":1795349358733796,"type":"network_response","category":"network"}"#;
            (format!("till-{n:04}"), format!(r#""stored":0,{problems},{last}"#))
        })
        .collect();
    let _reports = nats.report(others);
    live_page::check_on(
        &gateway,
        "a_fleet_is_searched_sorted_and_read_in_parts",
        &[],
        |_| vec![],
    );
}
