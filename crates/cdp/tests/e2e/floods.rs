//! Pages that log and open more than a person can look at.

use serde_json::json;

use crate::scene::{Scene, data, is};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_lines_are_emitted_in_order() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    scene.capture(Some(&["console"])).await;
    let _browser = scene.browser();
    let mut control = crate::control::Control::open(scene.port).await;
    // The first document of a tab may begin before the source is there, and of what was logged before that
    // Chromium keeps a thousand lines: so the source follows the tab before it floods.
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.follows(&mut control, &session).await;
    let url = scene.site.url("/flood");
    control
        .ask(Some(&session), "Page.navigate", json!({"url": url}))
        .await;
    scene.logged("flood done").await;
    let lines = scene.all("console_log");
    let lines = lines
        .iter()
        .filter_map(|it| it["text"].as_str()?.strip_prefix("line "));
    let numbers: Vec<usize> = lines.map(|n| n.parse().unwrap()).collect();
    assert_eq!(scene.missed, 0);
    assert!(numbers.iter().copied().eq(0..100_000), "{}", numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_tabs_that_a_page_opens_are_all_followed() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    scene.capture(Some(&["console", "page"])).await;
    let _browser = scene.browser();
    let mut control = crate::control::Control::open(scene.port).await;
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.until("the tab", |it| is(it, "page_tab_opened")).await;
    let url = scene.site.url("/tabs");
    control
        .ask(Some(&session), "Page.navigate", json!({"url": url}))
        .await;
    let is_tab = |it: &_| {
        let logged = |it| {
            data(it)["text"]
                .as_str()
                .is_some_and(|it| it.starts_with("tab ?"))
        };
        is(it, "console_log") && logged(it)
    };
    scene.nth("a line of each", 200, is_tab).await;
    let opened = scene.all("page_tab_opened");
    let by_this = opened.iter().filter(|it| it["opener_id"] == json!(tab));
    assert_eq!(by_this.count(), 200);
    let lines = scene.all("console_log");
    let mut tabs: Vec<_> = lines.iter().map(|it| it["target_id"].as_str()).collect();
    tabs.sort_unstable();
    tabs.dedup();
    assert_eq!(tabs.len(), 200, "each line is of another tab");
}
