//! A browser that is not there yet, ends, comes back, or is silent.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::proxy::Proxy;
use crate::scene::{Scene, data, is};

#[tokio::test(flavor = "multi_thread")]
async fn the_source_waits_for_a_browser_and_reconnects() {
    let Some(mut scene) = Scene::set_with(|it| it.silence = Duration::from_millis(500)).await
    else {
        return;
    };
    // `play` starts the source before the browser.
    let (mut browser, mut control) = scene.play().await;
    assert_eq!(
        scene
            .seen
            .iter()
            .filter(|it| is(it, "monitor_init_failed"))
            .count(),
        0
    );
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.follows(&mut control, &session).await;
    let fetch = format!("void fetch('{}')", scene.site.url("/slow"));
    control.evaluate(&session, &fetch).await;
    scene
        .until("a request", |it| is(it, "network_request"))
        .await;

    browser.kill();
    let lost = scene
        .until("a loss", |it| is(it, "monitor_disconnected"))
        .await;
    assert_eq!(data(&lost)["reason"], "chrome_restarted");
    let failed = scene.all("network_loading_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["error_text"], "tapline::BROWSER_GONE");
    drop(browser);

    let browser = scene.browser();
    scene
        .until("a return", |it| is(it, "monitor_reconnected"))
        .await;
    let mut control = crate::control::Control::open(scene.port).await;
    control.open_tab(&scene.site.url("/tab?again")).await;
    scene.logged("tab ?again").await;

    // Stopped, its sockets are still there.
    let id = Pid::from_raw(browser.id().cast_signed()).unwrap();
    kill_process(id, Signal::STOP).unwrap();
    let lost = scene
        .nth("silence", 2, |it| is(it, "monitor_disconnected"))
        .await;
    kill_process(id, Signal::CONT).unwrap();
    assert_eq!(data(&lost)["reason"], "connection_lost");
    scene
        .nth("a return", 2, |it| is(it, "monitor_reconnected"))
        .await;
    control.open_tab(&scene.site.url("/tab?at+last")).await;
    scene.logged("tab ?at+last").await;
    assert_eq!(scene.all("monitor_disconnected").len(), 2);
    assert_eq!(scene.all("monitor_reconnected").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_anywhere_costs_one_pair_and_repeats_nothing() {
    let port = crate::browser::free_port();
    let proxy = Proxy::to(port).await;
    let address = proxy.address;
    let Some(mut scene) =
        Scene::set_with(|it| it.endpoint = format!("http://{address}").parse().unwrap()).await
    else {
        return;
    };
    scene.port = port;
    let (_browser, mut control) = scene.play().await;
    control.open_tab(&scene.site.url("/count")).await;
    let is_count = |it: &_| is(it, "console_log") && data(it)["text"] != json!("");
    for cut in 1..=5 {
        let lines = scene.all("console_log").len();
        scene.nth("lines", lines + 1 + 7 * cut, is_count).await;
        proxy.cut();
        let lost = scene
            .nth("a loss", cut, |it| is(it, "monitor_disconnected"))
            .await;
        assert_eq!(data(&lost)["reason"], "connection_lost");
        scene
            .nth("a return", cut, |it| is(it, "monitor_reconnected"))
            .await;
    }
    let lines = scene.all("console_log").len();
    scene.nth("lines after all", lines + 20, is_count).await;
    let lines = scene.all("console_log");
    let lines = lines
        .iter()
        .filter_map(|it| it["text"].as_str()?.strip_prefix("count "));
    let numbers: Vec<u64> = lines.map(|n| n.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert_eq!(scene.all("monitor_disconnected").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_come_back_is_given_up() {
    let Some(mut scene) = Scene::set_with(|it| it.retries = Some(2)).await else {
        return;
    };
    scene.capture(None).await;
    // Not there the first time.
    let never = scene
        .until("given up", |it| is(it, "monitor_init_failed"))
        .await;
    assert_eq!(data(&never)["step"], "connect");
    // Another session tries anew.
    scene.capture(Some(&[])).await;
    let mut browser = scene.browser();
    drop(crate::control::Control::open(scene.port).await);
    scene.capture(None).await;
    scene.until("a tab", |it| is(it, "page_tab_opened")).await;
    browser.kill();
    let gone = scene
        .until("given up", |it| is(it, "monitor_reconnect_failed"))
        .await;
    assert_eq!(data(&gone)["reason"], "reconnect_exhausted");
    assert_eq!(scene.all("monitor_disconnected").len(), 1);
}
