//! Frames, pages that are left and come back, and documents that are written.

use std::time::Instant;

use serde_json::{Value, json};

use crate::control::Control;
use crate::scene::{DEADLINE, Scene, data, is};

/// A tab with this page, which the source follows.
pub(crate) async fn tab_at(
    scene: &mut Scene,
    control: &mut Control,
    path: &str,
) -> (String, String) {
    let tab = control.open_tab("about:blank").await;
    let session = control.attach(&tab).await;
    scene.follows(control, &session).await;
    let params = json!({"url": scene.site.url(path)});
    control.ask(Some(&session), "Page.navigate", params).await;
    (tab, session)
}

async fn click(control: &mut Control, session: &str, x: u32, y: u32) {
    for kind in ["mousePressed", "mouseReleased"] {
        let at = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
        control
            .ask(Some(session), "Input.dispatchMouseEvent", at)
            .await;
    }
}

/// Clicks until a click on the element with this id is emitted: a frame that has just been rendered gets no
/// input yet.
async fn clicked(
    scene: &mut Scene,
    control: &mut Control,
    session: &str,
    (x, y): (u32, u32),
    id: &str,
) -> Value {
    let selector = format!("#{id}");
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < DEADLINE, "no click on {id}");
        click(control, session, x, y).await;
        let is_it = |it: &Value| it["selector"] == selector;
        for _ in 0..20 {
            if let Some(clicked) = scene.all("interaction_click").into_iter().find(is_it) {
                return clicked;
            }
            control
                .evaluate(session, "new Promise((done) => setTimeout(done, 25))")
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_in_a_frame_has_the_coordinates_of_the_tab() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/outer").await;
    scene.logged("inner is there").await;
    control.evaluate(&session, "scrollTo(0, 100)").await;

    // The three documents are of two sites, and the frame of the innermost is scaled.
    for (at, id, path) in [
        ((79, 124), "inner", "/inner"),
        ((179, 124), "written", "about:srcdoc"),
    ] {
        let clicked = clicked(&mut scene, &mut control, &session, at, id).await;
        let (x, y) = (
            clicked["x"].as_f64().unwrap(),
            clicked["y"].as_f64().unwrap(),
        );
        assert!(
            (x - f64::from(at.0)).abs() < 1.0 && (y - f64::from(at.1)).abs() < 1.0,
            "at {x},{y} instead of {at:?}"
        );
        assert_eq!(clicked.get("in_frame"), None);
        assert!(
            clicked["url"].as_str().unwrap().ends_with(path),
            "{clicked}"
        );
        assert!(clicked["frame_id"].is_string(), "{clicked}");
    }
    assert_eq!(scene.all("monitor_init_failed"), [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn interactions_are_emitted_in_documents_that_are_written() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (tab, session) = tab_at(&mut scene, &mut control, "/form").await;
    scene.logged("form is there").await;

    let button = |id: &str| {
        format!("<body style=margin:0><button id={id} style=width:200px;height:100px>{id}</button>")
    };
    let write = |document: &str, html: &str| {
        format!("{document}.open(); {document}.write(`{html}`); {document}.close()")
    };
    // As Playwright and Puppeteer do it.
    control
        .evaluate(&session, &write("document", &button("first")))
        .await;
    clicked(&mut scene, &mut control, &session, (50, 50), "first").await;
    for kind in ["keyDown", "keyUp"] {
        let pressed =
            json!({"type": kind, "key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27});
        control
            .ask(Some(&session), "Input.dispatchKeyEvent", pressed)
            .await;
    }
    scene.until("a key", |it| is(it, "interaction_key")).await;
    control
        .evaluate(&session, &write("document", &button("second")))
        .await;
    control
        .evaluate(
            &session,
            "document.body.style.height = '5000px'; scrollTo(0, 10)",
        )
        .await;
    clicked(&mut scene, &mut control, &session, (50, 50), "second").await;
    scene
        .until("a scroll", |it| is(it, "interaction_scroll_settled"))
        .await;

    // Frames that never navigate.
    let frame = "document.body.innerHTML = '<iframe style=\"border:0;width:300px;height:200px\"></iframe>'; const inner = document.querySelector('iframe').contentDocument";
    let filled = format!(
        "(() => {{ scrollTo(0, 0); {frame}; inner.body.innerHTML = `{}` }})()",
        button("filled")
    );
    control.evaluate(&session, &filled).await;
    clicked(&mut scene, &mut control, &session, (50, 50), "filled").await;
    let written = format!(
        "(() => {{ {frame}; {} }})()",
        write("inner", &button("framed"))
    );
    control.evaluate(&session, &written).await;
    clicked(&mut scene, &mut control, &session, (50, 50), "framed").await;

    // A popup that is written by its opener.
    let popup = format!(
        "(() => {{ const popup = window.open(''); {} }})()",
        write("popup.document", &button("popup"))
    );
    control.evaluate(&session, &popup).await;
    let popup = loop {
        let pages = control.pages().await;
        let opened = |it: &&Value| it["openerId"] == tab;
        if let Some(page) = pages.iter().find(opened) {
            break page["targetId"].as_str().unwrap().to_owned();
        }
    };
    let popup = control.attach(&popup).await;
    let clicked = clicked(&mut scene, &mut control, &popup, (50, 50), "popup").await;
    assert_eq!(
        clicked["url"],
        scene.site.url("/form"),
        "it has the address of its opener"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_the_back_forward_cache_repeats_nothing() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/visited").await;
    scene
        .nth("both frames", 2, |it| {
            is(it, "console_log") && data(it)["text"] == "in a frame"
        })
        .await;
    for n in 1..=2 {
        let params = json!({"url": scene.site.url("/blank")});
        control.ask(Some(&session), "Page.navigate", params).await;
        let url = scene.site.url("/blank");
        scene
            .nth("the other page", n, |it| {
                is(it, "page_load") && data(it)["url"] == url
            })
            .await;
        control.evaluate(&session, "history.back()").await;
        scene
            .nth("the page again", n, |it| {
                is(it, "console_log") && data(it)["text"] == "visited again"
            })
            .await;
        let url = scene.site.url("/visited");
        scene
            .nth("its navigation", n + 1, |it| {
                is(it, "page_navigation") && data(it)["url"] == url
            })
            .await;
        // The frame with a process of its own is attached to last.
        control
            .evaluate(&session, &format!("console.log('turn {n}')"))
            .await;
        scene.logged(&format!("turn {n}")).await;
    }
    let lines = scene.all("console_log");
    let errors = scene.all("console_error");
    let of = |events: &[Value], text: &str| {
        let of = events.iter().filter(|it| it["text"] == text);
        of.map(|it| (it["url"].clone(), it["nav_seq"].clone()))
            .collect::<Vec<_>>()
    };
    let url = json!(scene.site.url("/visited"));
    assert_eq!(of(&lines, "visited once").len(), 1);
    assert_eq!(of(&lines, "in a frame").len(), 2);
    assert_eq!(of(&errors, "Uncaught (in promise) {code: 733131}").len(), 1);
    let again = of(&lines, "visited again");
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|(it, _)| *it == url), "{again:?}");
    // Written when the page is left, and sent when it is there again.
    let hides = of(&lines, "visited hides");
    assert_eq!(hides.len(), 2);
    assert!(hides.iter().all(|(it, _)| *it == url), "{hides:?}");
    let missing = errors
        .iter()
        .filter(|it| it["source_url"] == scene.site.url("/missing.png"));
    assert_eq!(missing.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reasons_that_the_browser_writes_to_the_console_are_emitted_once() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/policy").await;
    for (source, words) in [
        (
            "security",
            "violates the following Content Security Policy directive",
        ),
        ("javascript", "has been blocked by CORS policy"),
        ("network", "404 (Not Found)"),
    ] {
        scene
            .until(words, |it| {
                is(it, "console_error") && {
                    let data = data(it);
                    data["log_source"] == source && data["text"].as_str().unwrap().contains(words)
                }
            })
            .await;
    }
    scene.logged("in a worker").await;
    control.evaluate(&session, "console.error(new Error('outer', { cause: new Error('inner', { cause: 'why' }) })); console.log('%s is %d years%c', 'Bo', 42, '', new Map([['k', { v: 1 }]])); console.log('end')").await;
    scene.logged("end").await;
    let lines = scene.all("console_log");
    let count = |text: &str| lines.iter().filter(|it| it["text"] == text).count();
    assert_eq!(
        count("in a worker"),
        1,
        "by the worker, and not by its page"
    );
    assert_eq!(count("Bo is 42 years Map(1) {'k' => {v: 1}}"), 1);
    let errors = scene.all("console_error");
    let caused = errors
        .iter()
        .find(|it| it["text"].as_str().unwrap().starts_with("Error: outer"));
    let caused = caused.unwrap()["text"].as_str().unwrap();
    assert!(caused.contains("\nCaused by: Error: inner"), "{caused}");
    assert_eq!(scene.all("monitor_init_failed"), [] as [Value; 0]);
}
