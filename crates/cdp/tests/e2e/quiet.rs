//! What is not captured is not enabled, and nothing is left behind.

use serde_json::{Value, json};
use tapline_api::Backend as _;

use crate::control::Control;
use crate::scene::{Scene, data, is};

#[tokio::test(flavor = "multi_thread")]
async fn categories_are_followed_and_with_all_off_the_browser_is_as_it_was() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    scene.capture(Some(&["console"])).await;
    let _browser = scene.browser();
    let mut control = Control::open(scene.port).await;
    let url = scene.site.url("/form");
    let tab = control.open_tab(&url).await;
    let session = control.attach(&tab).await;
    scene.logged("form is there").await;
    assert_eq!(worlds(&mut control, &session).await, 0);

    scene.capture(Some(&["network", "interaction"])).await;
    // The script is enabled last.
    while !listening(&mut control, &session).await {}
    control
        .evaluate(&session, "fetch('/data.json?first')")
        .await;
    let first = scene.site.url("/data.json?first");
    scene
        .until("a request", |it| {
            is(it, "network_request") && data(it)["url"] == first
        })
        .await;
    control
        .evaluate(&session, "console.log('not captured')")
        .await;

    scene.capture(Some(&["console"])).await;
    // The script stops before the network is disabled.
    while listening(&mut control, &session).await {}
    let fetch = "fetch('/data.json?second').then(() => console.log('captured'))";
    control.evaluate(&session, fetch).await;
    scene.logged("captured").await;
    let emitted = scene.all("console_log");
    assert!(
        emitted.iter().all(|it| it["text"] != "not captured"),
        "{emitted:?}"
    );
    let second = scene.site.url("/data.json?second");
    assert!(
        scene
            .all("network_request")
            .iter()
            .all(|it| it["url"] != second)
    );
    // No new document gets the script. The browser makes its world anew, and empty.
    control.ask(Some(&session), "Page.reload", json!({})).await;
    scene
        .nth("the form again", 2, |it| {
            is(it, "console_log") && data(it)["text"] == "form is there"
        })
        .await;
    assert!(!listening(&mut control, &session).await);

    // All off, from all on.
    scene.capture(None).await;
    while !listening(&mut control, &session).await {}
    scene.capture(Some(&[])).await;
    let head = scene.api.retained().head;
    assert!(!listening(&mut control, &session).await);
    control.ask(Some(&session), "Page.reload", json!({})).await;
    control
        .evaluate(&session, "new Promise((done) => setTimeout(done, 100))")
        .await;
    assert!(!listening(&mut control, &session).await);
    let params = json!({"sessionId": session});
    control.ask(None, "Target.detachFromTarget", params).await;
    for page in control.pages().await {
        assert_eq!(page["attached"], false, "{page}");
    }
    // No tab waits for us any more.
    let tab = control.open_tab(&scene.site.url("/tab?free")).await;
    let session = control.attach(&tab).await;
    let state = "new Promise((done) => { const look = () => document.readyState === 'complete' ? done('complete') : setTimeout(look, 10); look(); })";
    assert_eq!(control.evaluate(&session, state).await, "complete");
    assert_eq!(scene.api.retained().head, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_follows_the_same_browser() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    for round in 0..3 {
        scene.capture(Some(&[])).await;
        scene.capture(Some(&["console", "interaction"])).await;
        control
            .open_tab(&scene.site.url(&format!("/tab?{round}")))
            .await;
        scene.logged(&format!("tab ?{round}")).await;
    }
    // Stopping twice, and stopping what does not run, changes nothing.
    scene.capture(Some(&[])).await;
    scene.capture(Some(&[])).await;
}

/// The contexts of the tab's main world and all others.
async fn contexts(control: &mut Control, session: &str) -> Vec<Value> {
    control.events.clear();
    control
        .ask(Some(session), "Runtime.disable", json!({}))
        .await;
    control
        .ask(Some(session), "Runtime.enable", json!({}))
        .await;
    let created = control.events.iter().filter(|it| {
        it["method"] == "Runtime.executionContextCreated" && it["sessionId"] == session
    });
    created.map(|it| it["params"]["context"].clone()).collect()
}

/// In how many worlds the script is.
async fn worlds(control: &mut Control, session: &str) -> usize {
    let contexts = contexts(control, session).await;
    contexts.iter().filter(|it| it["name"] == "tapline").count()
}

/// Whether the script listens anywhere.
async fn listening(control: &mut Control, session: &str) -> bool {
    for context in contexts(control, session).await {
        if context["name"] == "tapline" {
            let params = json!({
                "expression": "typeof __taplineStop",
                "contextId": context["id"],
            });
            let answer = control.ask(Some(session), "Runtime.evaluate", params).await;
            if answer["result"]["result"]["value"] == "function" {
                return true;
            }
        }
    }
    false
}
