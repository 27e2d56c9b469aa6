//! Records a session with a real browser that visits the pages of the tests: answers of every kind, values on
//! the console, frames in other processes, WebSockets, clicks, the way back, and a tab that is closed while
//! it loads. What is recorded is what `data/tour.ndjson` holds; the golden file `tests/golden/tour.ndjson`
//! is what is emitted of it.
//!
//! `cargo run --release -p tapline-cdp --example tour FILE` wants a Chromium.
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

use std::fs::File;
use std::io::BufWriter;

use control::Control;
use scene::{Scene, data, is};
use serde_json::json;
use tapline_cdp::{SourceOptions, record};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() {
    let path = std::env::args().nth(1).expect("the file to write");
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let endpoint = format!("http://localhost:{}", scene.port).parse().unwrap();
    let options = SourceOptions::new(endpoint);
    let (stop, stopped) = oneshot::channel::<()>();
    let file = BufWriter::new(File::create_new(path).unwrap());
    let recording = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        record(&options, file, stopped, |_| ()).await.unwrap()
    });
    visit(&mut scene, &mut control).await;
    stop.send(()).unwrap();
    let recorded = recording.await.unwrap();
    println!("{} messages, {} bytes", recorded.messages, recorded.bytes);
}

async fn visit(scene: &mut Scene, control: &mut Control) {
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.follows(control, &session).await;
    for (page, last_line) in [
        ("/everything", "done"),
        ("/answers", "answers were read"),
        ("/contents", "contents were read"),
        ("/sockets", "sockets are closed"),
        ("/outer", "inner is there"),
        ("/form", "form is there"),
    ] {
        let url = scene.site.url(page);
        control
            .ask(Some(&session), "Page.navigate", json!({"url": url}))
            .await;
        scene.logged(last_line).await;
        let settled = |it: &_| is(it, "page_navigation_settled") && data(it)["url"] == url;
        scene.until("a settled page", settled).await;
    }
    for kind in ["mousePressed", "mouseReleased"] {
        let mouse = json!({"type": kind, "x": 50, "y": 25, "button": "left", "clickCount": 1});
        control
            .ask(Some(&session), "Input.dispatchMouseEvent", mouse)
            .await;
    }
    scene
        .until("the click", |it| is(it, "interaction_click"))
        .await;

    let values = "console.log('%s has %d things: %o', 'it', 3, [1, {two: 2}], new Map([['k', 'v']])); \
         Promise.reject(new Error('late', { cause: 'the cause' })); \
         fetch('/endless').then((it) => setTimeout(() => it.body.cancel(), 4000)); \
         console.log('values were logged')";
    control.evaluate(&session, values).await;
    scene.logged("values were logged").await;
    scene
        .until("the end of what lasts", |it| is(it, "network_response_end"))
        .await;

    control.evaluate(&session, "history.back()").await;
    let outer = scene.site.url("/outer");
    scene
        .nth("the page before", 2, |it| {
            is(it, "page_navigation") && data(it)["url"] == outer
        })
        .await;

    // A tab that another client opens with an address, and one that is closed while it loads.
    let first = scene.site.url("/first?tour");
    control.open_tab(&first).await;
    scene
        .until("the first resources of a tab", |it| {
            is(it, "network_response")
                && (data(it)["url"].as_str()).is_some_and(|url| url.ends_with("/data.json?tour"))
        })
        .await;
    let slow = scene.site.url("/slow?tour");
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.seen.clear();
    scene.follows(control, &session).await;
    control
        .evaluate(&session, &format!("location.href = '{slow}'"))
        .await;
    scene
        .until("the slow document", |it| {
            is(it, "network_request") && data(it)["url"] == slow
        })
        .await;
    control
        .ask(None, "Target.closeTarget", json!({"targetId": tab}))
        .await;
    scene
        .until("its end", |it| {
            is(it, "network_loading_failed") && data(it)["url"] == slow
        })
        .await;
}
