//! What pages do is emitted, and secrets are not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{Scene, data, is, text};

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_page_does_is_emitted() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.follows(&mut control, &session).await;
    let url = scene.site.url("/everything");
    control
        .ask(Some(&session), "Page.navigate", json!({"url": url}))
        .await;
    scene.logged("done").await;
    let settled = |it: &_| is(it, "page_navigation_settled") && data(it)["url"] == url;
    scene.until("a settled page", settled).await;
    scene
        .until("a picture", |it| is(it, "monitor_screenshot"))
        .await;

    // The console.
    let lines = scene.all("console_log");
    let line = |text: &str| lines.iter().find(|it| it["text"] == text).cloned();
    let hello = line("hello {a: 1} 7").unwrap();
    assert_eq!(hello["args"], json!(["hello", "{a: 1}", "7"]));
    assert_eq!(hello["level"], "log");
    assert_eq!(
        (&hello["url"], &hello["target_id"]),
        (&json!(url), &json!(tab))
    );
    assert_eq!(line("careful").unwrap()["level"], "warning");
    assert!(line("half a pair: \u{fffd}").is_some());
    assert!(line("echo: through a socket").is_some());
    assert_eq!(line("in a worker").unwrap()["target_type"], "worker");
    assert!(line("in a frame").is_some());
    let errors = scene.all("console_error");
    for message in [
        "bad",
        "Uncaught Error: thrown",
        "Uncaught (in promise) Error: rejected",
    ] {
        let emitted = |it: &Value| it["text"].as_str().unwrap().starts_with(message);
        assert_eq!(
            errors.iter().filter(|it| emitted(it)).count(),
            1,
            "{message}"
        );
    }

    // The network: each request has one end.
    let asked = scene.all("network_request");
    let answered = scene.all("network_response");
    let failed = scene.all("network_loading_failed");
    let count = |of: &[Value], path: &str| {
        let url = format!("{}{path}", scene.site.url(""));
        of.iter().filter(|it| it["url"] == url).count()
    };
    for (path, method, status) in [
        ("/everything", "GET", 200),
        ("/frame", "GET", 200),
        ("/data.json?from=post", "POST", 200),
        ("/data.json?from=worker", "GET", 200),
        ("/missing", "GET", 404),
        ("/login", "GET", 200),
    ] {
        assert_eq!(count(&asked, path), 1, "{path}");
        assert_eq!(count(&answered, path), 1, "{path}");
        assert_eq!(count(&failed, path), 0, "{path}");
        let url = scene.site.url(path);
        let response = answered.iter().find(|it| it["url"] == url).unwrap();
        assert_eq!(response["method"], method, "{path}");
        assert_eq!(response["status"], status, "{path}");
    }
    let posted = asked.iter().find(|it| it["method"] == "POST").unwrap();
    assert_eq!(posted["post_data"], "posted");
    let json = answered
        .iter()
        .find(|it| it["mime_type"] == "application/json");
    assert_eq!(json.unwrap()["body"], r#"{"shop":"open"}"#);
    let redirected: Vec<_> = asked
        .iter()
        .filter(|it| it["is_redirect"] == true)
        .collect();
    assert_eq!(redirected.len(), 1);
    assert_eq!(redirected[0]["redirect_url"], scene.site.url("/redirect"));
    let ends = |url: &str| {
        let of = failed.iter().filter(|it| it["url"] == url);
        of.map(|it| it["error_text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ends(&scene.site.url("/slow")), ["net::ERR_ABORTED"]);
    assert_eq!(ends("http://127.0.0.1:2/refused").len(), 1);

    // The page.
    for event_type in [
        "page_dom_content_loaded",
        "page_load",
        "page_layout_settled",
    ] {
        let emitted = scene.all(event_type);
        let of_this = emitted.iter().filter(|it| it["url"] == url);
        assert_eq!(of_this.count(), 1, "{event_type}");
    }
    let navigated = scene.all("page_navigation");
    let of = |url: &str| navigated.iter().filter(|it| it["url"] == url).count();
    assert_eq!((of(&url), of(&scene.site.url("/frame"))), (1, 1));
    let shifts = scene.all("page_layout_shift");
    let shifted = |it: &Value| 0.0 < it["layout_shift_details"]["value"].as_f64().unwrap();
    assert!(shifts.iter().any(shifted), "{shifts:?}");
    scene
        .until("an idle network", |it| is(it, "network_idle"))
        .await;

    // Nothing went wrong with the source itself.
    for event_type in ["monitor_init_failed", "monitor_disconnected"] {
        assert_eq!(scene.all(event_type), [] as [Value; 0]);
    }
    for secret in ["COOKIE-SECRET", "HEADER-SECRET", "URL-SECRET"] {
        let holds = scene.seen.iter().find(|event| text(event).contains(secret));
        assert!(holds.is_none(), "{secret} in {}", text(holds.unwrap()));
    }

    // And when it dies.
    let params = json!({"url": "chrome://crash"});
    let crash = control.ask(Some(&session), "Page.navigate", params);
    // It is answered when the page is gone, or never.
    let _ = tokio::time::timeout(Duration::from_secs(2), crash).await;
    let crashed = scene.until("a crash", |it| is(it, "page_crashed")).await;
    assert_eq!(data(&crashed)["target_id"], tab);
}

#[tokio::test(flavor = "multi_thread")]
async fn interactions_are_emitted_but_not_what_is_typed_into_a_password() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.follows(&mut control, &session).await;
    let url = scene.site.url("/form");
    control
        .ask(Some(&session), "Page.navigate", json!({"url": url}))
        .await;
    scene.logged("form is there").await;

    click(&mut control, &session, 25).await;
    let clicked = scene
        .until("a click", |it| is(it, "interaction_click"))
        .await;
    let clicked = data(&clicked);
    assert_eq!(
        (&clicked["selector"], &clicked["text"]),
        (&json!("#buy"), &json!("Buy"))
    );
    click(&mut control, &session, 85).await;
    for key in "Zq9".chars() {
        press(&mut control, &session, &key.to_string()).await;
    }
    click(&mut control, &session, 145).await;
    press(&mut control, &session, "x").await;
    control.evaluate(&session, "scrollTo(0, 700)").await;
    scene
        .until("a scroll", |it| is(it, "interaction_scroll_settled"))
        .await;
    let typed = scene.all("interaction_key");
    assert_eq!(typed.len(), 1, "{typed:?}");
    assert_eq!(
        (&typed[0]["key"], &typed[0]["selector"]),
        (&json!("x"), &json!("#name"))
    );
}

async fn click(control: &mut crate::control::Control, session: &str, y: u32) {
    for kind in ["mousePressed", "mouseReleased"] {
        let at = json!({"type": kind, "x": 50, "y": y, "button": "left", "clickCount": 1});
        control
            .ask(Some(session), "Input.dispatchMouseEvent", at)
            .await;
    }
}

async fn press(control: &mut crate::control::Control, session: &str, key: &str) {
    for (kind, text) in [("keyDown", key), ("keyUp", "")] {
        let pressed = json!({"type": kind, "key": key, "text": text});
        control
            .ask(Some(session), "Input.dispatchKeyEvent", pressed)
            .await;
    }
}
