//! New tabs: their first document, and whom they wait for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control::Control;
use crate::frames::tab_at;
use crate::scene::{DEADLINE, Scene, data, is};

/// Waits until the document, its script and what the script fetches are reported with their responses.
async fn loaded(scene: &mut Scene, n: &str) {
    for path in [
        format!("/first?{n}"),
        format!("/first.js?{n}"),
        format!("/data.json?{n}"),
    ] {
        let url = scene.site.url(&path);
        let request = scene
            .until(&url, |it| {
                is(it, "network_request") && data(it)["url"] == url
            })
            .await;
        let response = scene
            .until(&url, |it| {
                is(it, "network_response") && data(it)["url"] == url
            })
            .await;
        let (request, response) = (data(&request), data(&response));
        assert_eq!(response["status"], 200, "{response}");
        assert_eq!(request["request_id"], response["request_id"], "{request}");
        assert_eq!(request["nav_seq"], response["nav_seq"], "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_document_of_a_new_tab_is_reported() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    for n in 0..20 {
        let url = scene.site.url(&format!("/first?{n}"));
        let tab = if n % 2 == 0 {
            control.open_tab(&url).await
        } else {
            let tab = crate::site::ask(scene.port, "PUT", &format!("/json/new?{url}")).await;
            let tab: Value = serde_json::from_str(&tab.unwrap()).unwrap();
            tab["id"].as_str().unwrap().to_owned()
        };
        loaded(&mut scene, &n.to_string()).await;
        control
            .ask(None, "Target.closeTarget", json!({"targetId": tab}))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_document_of_a_popup_is_reported() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/blank").await;
    for (n, open) in [
        ("popup", "window.open('/first?popup')"),
        ("noopener", "window.open('/first?noopener', '', 'noopener')"),
        (
            "link",
            "Object.assign(document.createElement('a'), {href: '/first?link', target: '_blank'}).click()",
        ),
    ] {
        control.evaluate(&session, &format!("{open}; 0")).await;
        loaded(&mut scene, n).await;
    }
}

/// The lines of this text so far.
fn lines(scene: &mut Scene, text: &str) -> usize {
    let lines = scene.all("console_log");
    lines.iter().filter(|it| it["text"] == text).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_popup_that_another_client_holds_runs_when_that_client_resumes_it() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/blank").await;
    let mut holder = Control::open(scene.port).await;
    let hold = json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true});
    holder.ask(None, "Target.setAutoAttach", hold).await;

    // The opener's answer waits for the popup in some browsers, so it is not awaited.
    let open =
        json!({"expression": "setTimeout(() => window.open('/tab?held')); 0", "userGesture": true});
    control.ask(Some(&session), "Runtime.evaluate", open).await;
    let popup = attached_to_paused(&mut holder).await;
    let held = Instant::now();
    while held.elapsed() < Duration::from_secs(2) {
        holder.ask(None, "Browser.getVersion", json!({})).await;
        assert_eq!(
            lines(&mut scene, "tab ?held"),
            0,
            "it runs while it is held"
        );
    }
    let resume = "Runtime.runIfWaitingForDebugger";
    holder.ask(Some(&popup), resume, json!({})).await;
    scene.logged("tab ?held").await;
}

/// The session of a target that waits for this client.
async fn attached_to_paused(client: &mut Control) -> String {
    let started = Instant::now();
    loop {
        let paused = client.events.iter().find(|it| {
            it["method"] == "Target.attachedToTarget"
                && it["params"]["waitingForDebugger"] == true
                && it["params"]["targetInfo"]["type"] == "page"
        });
        if let Some(paused) = paused {
            return paused["params"]["sessionId"].as_str().unwrap().to_owned();
        }
        assert!(started.elapsed() < DEADLINE, "no popup came");
        client.ask(None, "Browser.getVersion", json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_popup_that_a_dead_client_left_paused_runs_after_the_source_attaches() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let _browser = scene.browser();
    let mut control = Control::open(scene.port).await;
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    let blank = json!({"url": scene.site.url("/blank")});
    control.ask(Some(&session), "Page.navigate", blank).await;
    let mut holder = Control::open(scene.port).await;
    let hold = json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true});
    holder.ask(None, "Target.setAutoAttach", hold).await;
    let open =
        json!({"expression": "setTimeout(() => window.open('/tab?left')); 0", "userGesture": true});
    control.ask(Some(&session), "Runtime.evaluate", open).await;
    attached_to_paused(&mut holder).await;
    drop(holder);

    scene.capture(None).await;
    scene.until("the tab", |it| is(it, "page_tab_opened")).await;
    let attached = Instant::now();
    scene.logged("tab ?left").await;
    assert!(
        attached.elapsed() < Duration::from_secs(4),
        "{:?}",
        attached.elapsed()
    );
}
