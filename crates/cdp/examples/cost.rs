//! What the source costs a page: how long it takes to load with the source and without, in pairs, the
//! order within a pair alternating, in one browser and one tab. Beside it, what the browser alone costs: a
//! client that enables the same domains and drops what it receives. How a page is kept up with that logs
//! 100,000 lines as fast as it can. And whether the browser still renders pages ahead of time.
//!
//! `cargo run --release -p tapline-cdp --example cost [PAIRS]` wants a Chromium.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "the tests' own scenery, of which this needs a part"
)]

#[path = "../tests/e2e/browser.rs"]
mod browser;
#[path = "../tests/e2e/control.rs"]
mod control;
#[path = "../tests/e2e/scene.rs"]
mod scene;
#[path = "../tests/e2e/site.rs"]
mod site;

use std::time::{Duration, Instant};

use control::Control;
use scene::{Scene, is};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let pairs = std::env::args().nth(1).map_or(40, |it| it.parse().unwrap());
    for on in [false, true] {
        flood(on).await;
        render_ahead(on).await;
    }
    println!("captured                     without ms   with ms   more, median [quartiles]");
    let text = ["console", "network", "page", "interaction"];
    let all = [&text[..], &["screenshot"]].concat();
    let network = ["Network"];
    let domains = ["Network", "Page", "Runtime", "Log"];
    for (name, path, client) in [
        ("nothing, twice", "/load", Client::Source(&[])),
        ("page", "/load", Client::Source(&["page"])),
        ("console", "/load", Client::Source(&["console"])),
        ("network", "/load", Client::Source(&["network"])),
        ("network, browser alone", "/load", Client::Bare(&network)),
        ("all", "/load", Client::Source(&all)),
        ("all, browser alone", "/load", Client::Bare(&domains)),
        // With 40 ms to the server and back for each request.
        ("all, 40 ms away", "/load?latency", Client::Source(&all)),
        (
            "the same, browser alone",
            "/load?latency",
            Client::Bare(&domains),
        ),
    ] {
        measure(name, path, client, pairs).await;
    }
}

/// What is attached to the tab while it loads.
#[derive(Clone, Copy)]
enum Client<'a> {
    /// The source, which captures these categories.
    Source(&'a [&'a str]),
    /// A client that enables these domains, and drops what they emit.
    Bare(&'a [&'a str]),
}

/// How long the page takes to log all lines, and when the last one is emitted.
async fn flood(on: bool) {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let _browser = scene.browser();
    let mut control = Control::open(scene.port).await;
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    if on {
        scene.capture(Some(&["console"])).await;
        scene.follows(&mut control, &session).await;
    }
    let url = scene.site.url("/flood");
    let started = Instant::now();
    control
        .ask(Some(&session), "Page.navigate", json!({"url": url}))
        .await;
    let logging = "new Promise((done) => { \
         const look = () => globalThis.took === undefined ? setTimeout(look, 1) : done(took); \
         look(); })";
    let took = control.evaluate(&session, logging).await;
    let without = if on { "with" } else { "without" };
    println!("100,000 lines {without} the source: logged in {took} ms");
    if on {
        scene.logged("flood done").await;
        let all = started.elapsed().as_millis();
        let lines = scene.all("console_log");
        let lines = lines
            .iter()
            .filter(|it| it["text"].as_str().unwrap().starts_with("line "));
        let lines = lines.count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let most = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
        let most = most.unwrap_or("unknown").trim();
        println!(
            "  {lines} emitted {all} ms after the command to navigate; at most {most} resident, \
             with all of them retained and read"
        );
    }
}

/// Whether a page was rendered before it was visited. No client is attached to the tab until then, except
/// the source.
async fn render_ahead(on: bool) {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let _browser = scene.browser();
    let mut control = Control::open(scene.port).await;
    if on {
        scene.capture(None).await;
        scene
            .until("the first tab", |it| is(it, "page_tab_opened"))
            .await;
    }
    let open = format!("/json/new?{}", scene.site.url("/ahead"));
    site::ask(scene.port, "PUT", &open).await.unwrap();
    let blank = scene.site.url("/blank");
    let visited = loop {
        let pages = control.pages().await;
        // One that is rendered ahead has a target of its own, which is no page to be visited.
        let visited = (pages.iter()).find(|it| it["url"] == blank && it["subtype"].is_null());
        if let Some(page) = visited {
            break page["targetId"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let session = control.attach(&visited).await;
    let ahead = "performance.getEntriesByType('navigation')[0].activationStart > 0";
    let ahead = control.evaluate(&session, ahead).await;
    let without = if on { "with" } else { "without" };
    println!("a page is rendered ahead of time {without} the source: {ahead}");
}

async fn measure(name: &str, path: &str, client: Client<'_>, pairs: usize) {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let _browser = scene.browser();
    let mut control = Control::open(scene.port).await;
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    let url = scene.site.url(path);
    // Caches and code warm up.
    for _ in 0..10 {
        load(&url, &mut control, &session).await;
    }
    let (mut without, mut with, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        let mut times = [0.0; 2];
        for turn in 0..2 {
            let on = (pair + turn) % 2 == 1;
            let mut attached = None;
            match client {
                Client::Source(categories) if on => {
                    switch_on(&mut scene, &url, &mut control, &session, categories).await;
                }
                Client::Bare(domains) if on => {
                    attached = Some(attach(scene.port, &tab, domains).await);
                }
                Client::Source(_) | Client::Bare(_) => scene.capture(Some(&[])).await,
            }
            // The first one after switching is not the one that counts.
            load(&url, &mut control, &session).await;
            times[usize::from(on)] = load(&url, &mut control, &session).await;
            drop(attached);
        }
        without.push(times[0]);
        with.push(times[1]);
        more.push(100.0 * (times[1] / times[0] - 1.0));
    }
    println!(
        "{name:<27} {:>11.1} {:>9.1}   {:+.1} % [{:+.1}, {:+.1}]",
        quantile(&mut without, 0.5),
        quantile(&mut with, 0.5),
        quantile(&mut more, 0.5),
        quantile(&mut more, 0.25),
        quantile(&mut more, 0.75),
    );
}

/// With everything enabled in the tab.
async fn switch_on(
    scene: &mut Scene,
    url: &str,
    control: &mut Control,
    session: &str,
    categories: &[&str],
) {
    scene.capture(Some(categories)).await;
    for (category, event_type) in [
        ("console", "console_log"),
        ("network", "network_request"),
        ("page", "page_load"),
    ] {
        if categories.contains(&category) {
            let before = scene.all(event_type).len();
            while scene.all(event_type).len() == before {
                load(url, control, session).await;
            }
        }
    }
    scene.seen.clear();
}

/// A client of the tab, until the set is dropped.
async fn attach(port: u16, tab: &str, domains: &[&str]) -> JoinSet<()> {
    let mut control = Control::open(port).await;
    let session = control.attach(tab).await;
    for domain in domains {
        let method = format!("{domain}.enable");
        control.ask(Some(&session), &method, json!({})).await;
    }
    let mut dropping = JoinSet::new();
    dropping.spawn(control.drop_events());
    dropping
}

/// In milliseconds: from the command to navigate until the page has all that it asked for.
async fn load(url: &str, control: &mut Control, session: &str) -> f64 {
    control.events.clear();
    let started = Instant::now();
    control
        .ask(Some(session), "Page.navigate", json!({"url": url}))
        .await;
    let ready = "new Promise((done) => { \
         const all = () => document.ready.then(done); \
         document.readyState === 'complete' ? all() : addEventListener('load', all); })";
    control.evaluate(session, ready).await;
    started.elapsed().as_secs_f64() * 1000.0
}

fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "some dozens of values"
    )]
    let index = ((values.len() - 1) as f64 * at).round() as usize;
    values[index]
}
