//! Requests and their ends, compared with what the server answered and what the page got.

use serde_json::{Value, json};

use crate::control::Control;
use crate::frames::tab_at;
use crate::scene::{Scene, data, is};

/// The one end of the request to this address: its type and its `data`.
async fn end_of(scene: &mut Scene, url: &str) -> (String, Value) {
    let is_end = |it: &tapline_oapi::Event| {
        (is(it, "network_response") || is(it, "network_loading_failed")) && data(it)["url"] == url
    };
    let end = scene.until(url, is_end).await;
    (end.event_type.to_string(), data(&end))
}

/// The response to the request to this address.
async fn response_of(scene: &mut Scene, url: &str) -> Value {
    let (event_type, data) = end_of(scene, url).await;
    assert_eq!(event_type, "network_response", "{data}");
    data
}

async fn failure_of(scene: &mut Scene, url: &str) -> Value {
    let (event_type, data) = end_of(scene, url).await;
    assert_eq!(event_type, "network_loading_failed", "{data}");
    assert_ne!(data["error_text"], "", "{data}");
    data
}

async fn go(control: &mut Control, session: &str, url: &str) -> Value {
    control
        .ask(Some(session), "Page.navigate", json!({"url": url}))
        .await
}

/// Every request that began has at most one end.
fn check_ends(scene: &mut Scene) {
    let mut ended = Vec::new();
    for name in ["network_response", "network_loading_failed"] {
        for end in scene.all(name) {
            ended.push((end["request_id"].to_string(), end["url"].to_string()));
        }
    }
    let all = ended.len();
    ended.sort();
    ended.dedup();
    assert_eq!(ended.len(), all, "two ends of one request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_reported_with_its_status_whatever_becomes_of_its_body() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/answers").await;
    scene.logged("answers were read").await;
    for (path, status) in [
        ("/answer/204", 204),
        ("/answer/200", 200),
        ("/answer/201", 201),
        ("/answer/400", 400),
        ("/answer/200?head", 200),
        ("/answer/200?unread", 200),
        ("/none.css", 404),
        ("/none.js", 404),
        ("/none.mjs", 404),
        ("/none.png", 404),
    ] {
        let url = scene.site.url(path);
        let response = response_of(&mut scene, &url).await;
        assert_eq!(response["status"], status, "{response}");
        assert!(response["headers"].is_object() && response["duration_ms"].is_number());
    }
    // Documents that the tab does not show.
    for (path, status) in [("/answer/204?document", 204), ("/download", 200)] {
        let url = scene.site.url(path);
        go(&mut control, &session, &url).await;
        let response = response_of(&mut scene, &url).await;
        assert_eq!(response["status"], status, "{response}");
        assert_eq!(response["resource_type"], "Document", "{response}");
    }
    let url = scene.site.url("/answer/401");
    go(&mut control, &session, &url).await;
    assert_eq!(response_of(&mut scene, &url).await["status"], 401);
    check_ends(&mut scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_break_off_are_cancelled_or_last_are_reported_so() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, _session) = tab_at(&mut scene, &mut control, "/bodies").await;
    scene.logged("bodies were read").await;

    let url = scene.site.url("/cut");
    let failure = failure_of(&mut scene, &url).await;
    assert_eq!(
        failure["error_text"], "net::ERR_CONTENT_LENGTH_MISMATCH",
        "{failure}"
    );
    assert_eq!(failure["status"], 200, "{failure}");
    assert_eq!(failure["mime_type"], "text/plain", "{failure}");

    let url = scene.site.url("/endless");
    let response = response_of(&mut scene, &url).await;
    assert_eq!(response["status"], 200);
    assert_eq!(response["canceled"], true, "{response}");

    let url = scene.site.url("/lasting");
    let response = response_of(&mut scene, &url).await;
    assert_eq!(response["status"], 200);
    assert_eq!(response["open"], true, "{response}");
    let id = response["request_id"].clone();
    let end = scene
        .until("the end of the stream", |it| {
            is(it, "network_response_end") && data(it)["request_id"] == id
        })
        .await;
    let end = data(&end);
    assert!(3500.0 <= end["duration_ms"].as_f64().unwrap(), "{end}");
    assert_eq!(end.get("error_text"), None, "{end}");
    check_ends(&mut scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_the_browser_is_reported() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/policy").await;
    let url = scene.site.url("/picture.png");
    let failure = failure_of(&mut scene, &url).await;
    assert_eq!(failure["blocked_reason"], "csp", "{failure}");
    let url = format!("http://localhost:{}/data.json", scene.site.address.port());
    let failure = failure_of(&mut scene, &url).await;
    assert_eq!(
        failure["cors_error"], "MissingAllowOriginHeader",
        "{failure}"
    );

    // Nothing listens there.
    let refused = format!("http://127.0.0.1:{}/shop?q=1", crate::browser::free_port());
    go(&mut control, &session, &refused).await;
    let failure = failure_of(&mut scene, &refused).await;
    assert_eq!(failure["error_text"], "net::ERR_CONNECTION_REFUSED");
    assert_eq!(failure.get("status"), None);
    scene
        .until("the failed navigation", |it| {
            is(it, "page_navigation") && data(it)["url"] == refused
        })
        .await;
    let errors = scene
        .seen
        .iter()
        .filter(|it| crate::scene::text(it).contains("chrome-error:"));
    assert_eq!(errors.count(), 0);
    check_ends(&mut scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_and_received_is_reported_as_the_page_has_it() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, _session) = tab_at(&mut scene, &mut control, "/contents").await;
    scene.logged("contents were read").await;

    let mut requests = Vec::new();
    for (path, length) in [
        ("/data.json?text", 70_000),
        ("/data.json?blob", 7),
        ("/data.json?form", 0),
    ] {
        let url = scene.site.url(path);
        let request = scene
            .until(path, |it| {
                is(it, "network_request") && data(it)["url"] == url
            })
            .await;
        requests.push((data(&request), length));
    }
    let (text, length) = &requests[0];
    // Where the browser takes longer to send the body, or to give it out, than the start waits for it, the omission
    // is marked.
    if text["post_data_omitted"] != true {
        assert_eq!(text["post_data"], "y".repeat(64 * 1024), "{text}");
        assert_eq!(text["post_data_bytes"], *length);
    }
    let blob = &requests[1].0;
    assert!(
        blob["post_data"] == "{\"a\":1}" || blob["post_data_omitted"] == true,
        "{blob}"
    );
    let form = &requests[2].0;
    assert!(
        form["post_data"]
            .as_str()
            .is_some_and(|it| it.contains("hello"))
            || form["post_data_omitted"] == true,
        "{form}"
    );

    for path in ["/utf8", "/utf8?events", "/latin1"] {
        let url = scene.site.url(path);
        let response = response_of(&mut scene, &url).await;
        let expected = match path {
            "/latin1" => "Grüße",
            _ => "data: Grüße 你好\n\n",
        };
        assert_eq!(response["body"], expected, "{response}");
    }

    // The server is asked once.
    let url = scene.site.url("/kept");
    let is_response = |it: &_| is(it, "network_response") && data(it)["url"] == url;
    let first = data(&scene.nth("the first", 1, is_response).await);
    assert_eq!(first.get("from_cache"), None, "{first}");
    assert_eq!(first["remote_ip"], "127.0.0.1");
    assert_eq!(first["protocol"], "http/1.1");
    assert!(first["encoded_bytes"].as_u64().unwrap() > 0);
    let second = data(&scene.nth("the second", 2, is_response).await);
    assert_eq!(second["from_cache"], "disk", "{second}");
    assert_eq!(second["body"], first["body"]);

    let url = scene.site.url("/data.json");
    let redirected = scene
        .until("the redirect", |it| {
            is(it, "network_request") && data(it)["url"] == url && data(it)["is_redirect"] == true
        })
        .await;
    let redirected = data(&redirected);
    assert_eq!(redirected["redirect_status"], 302, "{redirected}");
    assert_eq!(redirected["redirect_url"], scene.site.url("/redirect"));
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_are_reported_from_their_opening_to_their_end() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, _session) = tab_at(&mut scene, &mut control, "/sockets").await;
    scene.logged("sockets are closed").await;
    let closed = scene
        .until("its end", |it| is(it, "network_websocket_closed"))
        .await;
    let closed = data(&closed);
    for (field, expected) in [
        ("messages_sent", 2),
        ("messages_received", 2),
        ("bytes_sent", 7),
        ("bytes_received", 7),
    ] {
        assert_eq!(closed[field], expected, "{field} of {closed}");
    }
    let url = closed["url"].as_str().unwrap().to_owned();
    assert_eq!(response_of(&mut scene, &url).await["status"], 101);

    let url = format!("ws://{}/none", scene.site.address);
    let failure = failure_of(&mut scene, &url).await;
    assert_eq!(failure["status"], 404, "{failure}");
    check_ends(&mut scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_goes_to_its_parents_site_has_one_response() {
    let Some(mut scene) = Scene::set().await else {
        return;
    };
    let (_browser, mut control) = scene.play().await;
    let (_, session) = tab_at(&mut scene, &mut control, "/shop").await;
    scene
        .until("the frame's own target", |it| {
            is(it, "console_log") && data(it)["text"] == "bank is there"
        })
        .await;
    let url = scene.site.url("/frame?done");
    control
        .evaluate(
            &session,
            &format!("document.querySelector('iframe').src = '{url}'"),
        )
        .await;
    scene.logged("in a frame").await;
    assert_eq!(response_of(&mut scene, &url).await["status"], 200);
    check_ends(&mut scene);
}
