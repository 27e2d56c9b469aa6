//! Where something happened, and what the browser repeats. The messages are like those of a Chromium 156.

use serde_json::{Value, json};
use tapline_cdp::Options;
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{Category, CategorySet};

use crate::browser::{Browser, START};

/// The browser's wall clock at that many milliseconds after the start.
fn timestamp(ms: f64) -> f64 {
    START as f64 / 1000.0 + ms
}

fn created(browser: &mut Browser, session: &str, id: i64, unique: &str, frame: &str) {
    let aux = json!({"isDefault": true, "type": "default", "frameId": frame});
    let context =
        json!({"id": id, "origin": "http://h", "name": "", "uniqueId": unique, "auxData": aux});
    let params = json!({"context": context});
    browser.reports(Some(session), "Runtime.executionContextCreated", params);
}

fn cleared(browser: &mut Browser, session: &str) {
    browser.reports(Some(session), "Runtime.executionContextsCleared", json!({}));
}

fn logs(browser: &mut Browser, session: &str, context: i64, ms: f64, text: &str) {
    let args = json!([{"type": "string", "value": text}]);
    let call = json!({"type": "log", "args": args, "executionContextId": context, "timestamp": timestamp(ms)});
    browser.reports(Some(session), "Runtime.consoleAPICalled", call);
}

fn throws(browser: &mut Browser, session: &str, context: i64, ms: f64, text: &str) {
    let exception = json!({"type": "string", "value": text});
    let details = json!({"exceptionId": 1, "text": "Uncaught (in promise)", "exception": exception, "executionContextId": context});
    let thrown = json!({"timestamp": timestamp(ms), "exceptionDetails": details});
    browser.reports(Some(session), "Runtime.exceptionThrown", thrown);
}

fn entry(browser: &mut Browser, session: &str, ms: f64, text: &str) {
    let entry = json!({"source": "network", "level": "error", "text": text, "timestamp": timestamp(ms), "url": "http://u:p@h/none.png", "networkRequestId": "1.2"});
    browser.reports(Some(session), "Log.entryAdded", json!({"entry": entry}));
}

fn navigated(browser: &mut Browser, session: &str, frame: &Value, kind: &str) {
    let to = json!({"frame": frame, "type": kind});
    browser.reports(Some(session), "Page.frameNavigated", to);
}

/// The console's events so far: text, path of the URL, frame, document and number of the navigation.
fn lines(browser: &mut Browser) -> Vec<String> {
    let events = browser.events();
    let lines = events
        .iter()
        .filter(|event| event.category == Category::Console);
    lines
        .map(|event| {
            let data = crate::browser::data_of(event);
            let field = |name: &str| data[name].as_str().unwrap_or("-").to_owned();
            let url = field("url").replace("http://h", "");
            let (text, frame, loader) = (field("text"), field("frame_id"), field("loader_id"));
            format!("{text}: {url} {frame} {loader} {}", data["nav_seq"])
        })
        .collect()
}

fn tab() -> Browser {
    let mut browser = Browser::new(Options::default());
    browser.tab("S", "T");
    browser.events();
    browser
}

fn page(loader: &str, path: &str) -> Value {
    json!({"id": "T", "loaderId": loader, "url": format!("http://h{path}")})
}

/// A page with a frame, which writes lines, an error and a log entry.
fn visits_a(browser: &mut Browser) {
    cleared(browser, "S");
    navigated(browser, "S", &page("LA", "/a"), "Navigation");
    created(browser, "S", 2, "u.2", "T");
    entry(browser, "S", 1.0, "404");
    logs(browser, "S", 2, 2.5, "A once");
    let attached = json!({"frameId": "F", "parentFrameId": "T"});
    browser.reports(Some("S"), "Page.frameAttached", attached);
    let frame = json!({"id": "F", "parentId": "T", "loaderId": "LF", "url": "http://h/in"});
    navigated(browser, "S", &frame, "Navigation");
    created(browser, "S", 3, "u.3", "F");
    throws(browser, "S", 2, 3.0, "A boom");
    logs(browser, "S", 3, 4.0, "in frame");
    let revoked = json!({"reason": "handled", "exceptionId": 1});
    browser.reports(Some("S"), "Runtime.exceptionRevoked", revoked);
}

fn visits_b(browser: &mut Browser) {
    cleared(browser, "S");
    cleared(browser, "S");
    navigated(browser, "S", &page("LB", "/b"), "Navigation");
    created(browser, "S", 4, "u.4", "T");
    logs(browser, "S", 4, 60.0, "B");
}

/// What the browser sends again for the page from the back/forward cache.
fn restores_a(browser: &mut Browser) {
    cleared(browser, "S");
    created(browser, "S", 3, "u.3", "F");
    created(browser, "S", 2, "u.2", "T");
    logs(browser, "S", 2, 2.5, "A once");
    throws(browser, "S", 2, 3.0, "A boom");
    logs(browser, "S", 3, 4.0, "in frame");
    let revoked = json!({"reason": "handled", "exceptionId": 1});
    browser.reports(Some("S"), "Runtime.exceptionRevoked", revoked);
}

#[test]
fn a_restored_page_repeats_nothing_and_loses_nothing() {
    let mut browser = tab();
    visits_a(&mut browser);
    assert_eq!(
        lines(&mut browser),
        [
            "404: /a - - 1",
            "A once: /a T LA 1",
            "Uncaught (in promise) A boom: /a T LA 1",
            "in frame: /in F LF 1",
            "handled: /a - - 1",
        ]
    );
    visits_b(&mut browser);
    assert_eq!(lines(&mut browser), ["B: /b T LB 2"]);

    restores_a(&mut browser);
    // Written while the page left, and not sent then.
    logs(&mut browser, "S", 2, 50.0, "A pagehide");
    entry(&mut browser, "S", 1.0, "404");
    entry(&mut browser, "S", 51.0, "late 404");
    logs(&mut browser, "S", 3, 90.0, "in pageshow");
    assert_eq!(
        lines(&mut browser),
        [
            "A pagehide: /a T LA 3",
            "late 404: /a - - 3",
            "in pageshow: /in F LF 3",
        ],
        "before the navigation is reported"
    );
    navigated(
        &mut browser,
        "S",
        &page("LA", "/a"),
        "BackForwardCacheRestore",
    );
    logs(&mut browser, "S", 3, 95.0, "in frame again");
    // The clock of a distant browser was set back. Nothing is repeated now, so the line is new.
    logs(&mut browser, "S", 2, 40.0, "A again");
    entry(&mut browser, "S", 40.0, "again 404");
    assert_eq!(
        lines(&mut browser),
        [
            "in frame again: /in F LF 3",
            "A again: /a T LA 3",
            "again 404: /a - - 3"
        ]
    );

    // And once more, with what was written meanwhile.
    visits_b(&mut browser);
    lines(&mut browser);
    restores_a(&mut browser);
    logs(&mut browser, "S", 2, 40.0, "A again");
    entry(&mut browser, "S", 40.0, "again 404");
    assert_eq!(lines(&mut browser), [] as [&str; 0]);
}

/// A driver reads one clock after the other. When a thread is interrupted between them, the wall clock seems
/// to be a little back, although it was not set.
#[test]
fn a_repeat_is_recognised_although_the_clocks_were_read_a_little_apart() {
    for apart in [0, 1, 40, 900] {
        let mut browser = tab();
        visits_a(&mut browser);
        visits_b(&mut browser);
        lines(&mut browser);
        browser.now.wall -= apart;
        restores_a(&mut browser);
        entry(&mut browser, "S", 1.0, "404");
        assert_eq!(lines(&mut browser), [] as [&str; 0], "{apart} µs");
    }
}

/// A frame in a process of its own is attached to again, by another session.
#[test]
fn a_restored_frame_in_another_process_repeats_nothing() {
    let mut browser = tab();
    let frame =
        json!({"frame": {"id": "F", "parentId": "T", "loaderId": "LF", "url": "http://h/in"}});
    browser.answers("Page.getFrameTree", json!({"result": {"frameTree": frame}}));
    browser.attached(Some("S"), "S2", "F", "iframe", true);
    created(&mut browser, "S2", 1, "v.1", "F");
    entry(&mut browser, "S2", 1.0, "404");
    logs(&mut browser, "S2", 1, 2.0, "in frame");
    assert_eq!(
        lines(&mut browser),
        ["404: /in - - 1", "in frame: /in F LF 1"]
    );

    browser.detached("S2");
    browser.attached(Some("S"), "S3", "F", "iframe", false);
    created(&mut browser, "S3", 1, "v.1", "F");
    logs(&mut browser, "S3", 1, 2.0, "in frame");
    logs(&mut browser, "S3", 1, 3.0, "in pagehide");
    entry(&mut browser, "S3", 1.0, "404");
    entry(&mut browser, "S3", 3.0, "late 404");
    assert_eq!(
        lines(&mut browser),
        ["in pagehide: /in F LF 0", "late 404: about:blank - - 0"]
    );
}

#[test]
fn after_a_loss_everything_is_emitted_that_was_not() {
    let mut browser = tab();
    visits_a(&mut browser);
    browser.events();
    browser.at(10);
    let now = browser.now;
    browser
        .core
        .disconnected(now, DisconnectReason::ConnectionLost);
    browser.at(20);
    browser.core.connected(browser.now);
    let tree = json!({"frame": page("LA", "/a"), "childFrames": [{"frame": {"id": "F", "parentId": "T", "loaderId": "LF", "url": "http://h/in"}}]});
    browser.answers("Page.getFrameTree", json!({"result": {"frameTree": tree}}));
    browser.tab("S", "T");
    created(&mut browser, "S", 3, "u.3", "F");
    created(&mut browser, "S", 2, "u.2", "T");
    logs(&mut browser, "S", 2, 2.5, "A once");
    // Before the loss, but on its way then.
    logs(&mut browser, "S", 2, 8.0, "sent into the void");
    logs(&mut browser, "S", 2, 15.0, "A meanwhile");
    throws(&mut browser, "S", 3, 16.0, "in frame meanwhile");
    entry(&mut browser, "S", 1.0, "404");
    entry(&mut browser, "S", 9.0, "late 404");
    assert_eq!(
        lines(&mut browser),
        [
            "sent into the void: /a T LA 0",
            "A meanwhile: /a T LA 0",
            "Uncaught (in promise) in frame meanwhile: /in F LF 0",
            "late 404: about:blank - - 0",
        ]
    );
}

#[test]
fn frames_without_a_navigation_have_an_address_too() {
    let mut browser = tab();
    navigated(&mut browser, "S", &page("L", "/p"), "Navigation");
    let attached = json!({"frameId": "F", "parentFrameId": "T"});
    browser.reports(Some("S"), "Page.frameAttached", attached);
    created(&mut browser, "S", 2, "u.2", "F");
    logs(&mut browser, "S", 2, 1.0, "blank");
    let opened = json!({"frame": {"id": "F", "parentId": "T", "loaderId": "LF", "url": "http://u:p@h/p", "urlFragment": "#x"}});
    browser.reports(Some("S"), "Page.documentOpened", opened);
    logs(&mut browser, "S", 2, 2.0, "written");
    let moved = json!({"frameId": "F", "url": "http://h/q"});
    browser.reports(Some("S"), "Page.navigatedWithinDocument", moved);
    logs(&mut browser, "S", 2, 3.0, "moved");
    let detached = json!({"frameId": "F", "reason": "remove"});
    browser.reports(Some("S"), "Page.frameDetached", detached);
    logs(&mut browser, "S", 2, 4.0, "detached");
    logs(&mut browser, "S", 77, 5.0, "unknown");
    assert_eq!(
        lines(&mut browser),
        [
            "blank: about:blank F - 1",
            "written: http://*redacted*@h/p#x F LF 1",
            "moved: /q F LF 1",
            "detached: - F - 1",
            "unknown: /p - - 1",
        ]
    );

    // Instead of a page that cannot be loaded, the browser shows one of its own.
    let failed = json!({"id": "F2", "parentId": "T", "loaderId": "LE", "url": "chrome-error://chromewebdata/", "unreachableUrl": "http://h/refused"});
    navigated(&mut browser, "S", &failed, "Navigation");
    created(&mut browser, "S", 5, "u.5", "F2");
    logs(&mut browser, "S", 5, 5.5, "failed");
    assert_eq!(lines(&mut browser), ["failed: /refused F2 LE 1"]);

    // A popup that is written into has the address of its opener.
    let opened = json!({"frame": {"id": "T", "loaderId": "L", "url": "http://h/opener"}});
    browser.reports(Some("S"), "Page.documentOpened", opened);
    logs(&mut browser, "S", 77, 6.0, "written");
    assert_eq!(lines(&mut browser), ["written: /opener - - 1"]);
}

#[test]
fn interactions_have_their_frame() {
    let mut browser = tab();
    visits_a(&mut browser);
    browser.events();
    let context = json!({"id": 9, "name": "tapline", "uniqueId": "u.9", "auxData": {"isDefault": false, "frameId": "F"}});
    browser.reports(
        Some("S"),
        "Runtime.executionContextCreated",
        json!({"context": context}),
    );
    let payload = json!({"kind": "key", "key": "Enter", "selector": "#q", "tag": "input"});
    let call =
        json!({"name": "__tapline", "payload": payload.to_string(), "executionContextId": 9});
    browser.reports(Some("S"), "Runtime.bindingCalled", call);
    let emitted = browser.data("interaction_key").remove(0);
    assert_eq!(
        (&emitted["frame_id"], &emitted["loader_id"], &emitted["url"]),
        (&json!("F"), &json!("LF"), &json!("http://h/in"))
    );
}

#[test]
fn lines_of_the_browser_itself_are_console_events() {
    let mut browser = tab();
    navigated(&mut browser, "S", &page("L", "/p"), "Navigation");
    browser.events();
    let policy = "Loading the image 'http://u:p@x/' violates the following Content Security Policy directive";
    for entry in [
        json!({"source": "security", "level": "error", "text": policy, "timestamp": timestamp(1.0), "url": "http://u:p@h/p", "lineNumber": 3}),
        json!({"source": "recommendation", "level": "verbose", "text": "[DOM] Not contained in a form: %o", "timestamp": timestamp(2.0), "url": "http://h/p", "args": [{"type": "object", "subtype": "node", "className": "HTMLInputElement", "description": "input", "objectId": "1.1.1"}]}),
        // What a worker logs. Its own session reports it.
        json!({"source": "worker", "level": "info", "text": "w", "timestamp": timestamp(3.0), "url": "http://h/w.js", "lineNumber": 0, "workerId": "W"}),
        json!({"source": "javascript", "level": "error", "text": "blocked by CORS policy", "category": "cors", "timestamp": timestamp(4.0), "stackTrace": {"callFrames": []}}),
    ] {
        browser.reports(Some("S"), "Log.entryAdded", json!({"entry": entry}));
    }
    let events = browser.events();
    let emitted: Vec<_> = events
        .iter()
        .map(|event| (event.event_type.to_string(), crate::browser::data_of(event)))
        .collect();
    let expected = |name: &str, own: Value| {
        let mut data = json!({"session_id": "S", "target_id": "T", "target_type": "page", "nav_seq": 1, "url": "http://h/p"});
        data.as_object_mut()
            .unwrap()
            .extend(own.as_object().unwrap().clone());
        (name.to_owned(), data)
    };
    assert_eq!(
        emitted,
        [
            expected(
                "console_error",
                json!({"level": "error", "text": policy.replace("u:p", "*redacted*"), "log_source": "security", "source_url": "http://*redacted*@h/p", "line": 3})
            ),
            expected(
                "console_log",
                json!({"level": "verbose", "text": "[DOM] Not contained in a form: input", "log_source": "recommendation", "source_url": "http://h/p"})
            ),
            expected(
                "console_error",
                json!({"level": "error", "text": "blocked by CORS policy", "log_source": "javascript", "stack_trace": {"callFrames": []}})
            ),
        ]
    );

    // What is written while it is not captured is not captured later.
    browser.at(10);
    let now = browser.now;
    browser
        .core
        .reconfigure(now, CategorySet::ALL.without(Category::Console));
    entry(&mut browser, "S", 9.0, "unseen");
    browser.core.reconfigure(now, CategorySet::ALL);
    for (ms, text) in [(9.0, "unseen"), (11.0, "seen")] {
        entry(&mut browser, "S", ms, text);
    }
    assert_eq!(lines(&mut browser), ["seen: /p - - 1"]);
}

#[test]
fn what_is_remembered_of_frames_and_contexts_is_bounded() {
    let mut browser = tab();
    for n in 0..3000 {
        let frame = format!("F{n}");
        let attached = json!({"frameId": frame, "parentFrameId": "T"});
        browser.reports(Some("S"), "Page.frameAttached", attached);
        created(&mut browser, "S", n, &format!("u.{n}"), &frame);
    }
    logs(&mut browser, "S", 1, 1.0, "known");
    logs(&mut browser, "S", 2999, 2.0, "not known");
    assert_eq!(
        lines(&mut browser),
        ["known: about:blank F1 - 0", "not known: about:blank - - 0"]
    );
    // Pages that come and go. Those from long ago would be reported again.
    for n in 0..6000 {
        let unique = format!("v.{n}");
        created(&mut browser, "S", 1, &unique, "T");
        logs(&mut browser, "S", 1, f64::from(n), &unique);
        cleared(&mut browser, "S");
    }
    lines(&mut browser);
    for n in [0, 5999] {
        let unique = format!("v.{n}");
        created(&mut browser, "S", 1, &unique, "T");
        logs(&mut browser, "S", 1, f64::from(n), &unique);
    }
    assert_eq!(lines(&mut browser), ["v.0: about:blank T L0 0"]);
}

/// The page keeps the objects of a repeated line alive, too.
#[test]
fn the_objects_of_repeated_lines_are_released() {
    let mut browser = tab();
    created(&mut browser, "S", 1, "u.1", "T");
    logs(&mut browser, "S", 1, 1.0, "once");
    browser.commands();
    for _ in 0..1000 {
        created(&mut browser, "S", 1, "u.1", "T");
        logs(&mut browser, "S", 1, 1.0, "once");
        cleared(&mut browser, "S");
    }
    assert_eq!(lines(&mut browser).len(), 1);
    assert_eq!(browser.methods(), ["Runtime.releaseObjectGroup"]);
}
