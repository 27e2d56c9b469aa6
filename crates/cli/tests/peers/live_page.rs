//! The live page in a real Chromium, driven by Playwright, and read by axe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::peer;
use crate::program::{Directory, Server, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// What a browser did in a shop with faults.
const SHOP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../cdp/tests/golden/events.ndjson"
);

/// The modules of the page.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/src/page");

/// Where pictures for the README are.
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images");

/// One browser at a time: a test that measures frames would otherwise measure the others.
static BROWSER: Mutex<()> = Mutex::new(());

/// Runs a case of `live_page.mjs` on a server with `events`, the last of which is `the newest of all`.
#[track_caller]
fn check(case: &str, events: &[&str], arguments: impl Fn(&Server) -> Vec<String>) {
    let server = Server::start();
    check_on(&server, case, events, arguments);
}

#[track_caller]
pub(crate) fn check_on(
    server: &Server,
    case: &str,
    events: &[&str],
    arguments: impl Fn(&Server) -> Vec<String>,
) {
    let _guard = BROWSER.lock().unwrap_or_else(|broken| broken.into_inner());
    let node = peer::on_path("node");
    let browser = peer::on_path("chromium").or_else(|| peer::on_path("google-chrome"));
    let modules = peer::installed("node/node_modules/playwright-core")
        .and(peer::installed("node/node_modules/axe-core"))
        .and(peer::installed("node/node_modules"));
    let found = node.zip(browser).zip(modules);
    let found = peer::or_skip(
        found,
        "Playwright, axe or a browser",
        "TAPLINE_REQUIRE_PEERS",
    );
    let Some(((node, browser), modules)) = found else {
        return;
    };
    for events in events {
        let said = server.publish_lines(events);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let output = Command::new(node)
        .arg(format!("{FOLDER}/live_page.mjs"))
        .arg(case)
        .arg(browser)
        .arg(modules)
        .arg(&server.url)
        .arg(pictures())
        .args(arguments(server))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // Figures, where a case measures some.
    print!("{text}");
    assert!(output.status.success(), "{text}");
    assert_eq!(output.stdout, b"done\n", "{text}");
}

/// The folder for pictures.
fn pictures() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let folder = target.unwrap().join("live-page");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The same events, the last of which happened just now: the page opens with the last minutes.
fn shop() -> String {
    let text = fs::read_to_string(SHOP).unwrap();
    let mut events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let time = |event: &Value| event["ts"].as_u64().unwrap();
    let last = events.iter().map(time).max().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let by = u64::try_from(now.as_micros()).unwrap() - last;
    for event in &mut events {
        event["ts"] = (time(event) + by).into();
    }
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// An event after those of the shop.
const NEWEST: &str = "{\"type\":\"checkout_done\",\"category\":\"control\",\"data\":{\"message\":\"the newest of all\"}}\n";

fn nothing(_: &Server) -> Vec<String> {
    Vec::new()
}

#[test]
fn the_live_page_opens_at_the_newest_event_and_keeps_its_place() {
    check("opens_at_the_newest", &[&shop(), NEWEST], nothing);
}

#[test]
fn axe_finds_nothing_wrong_with_the_live_page_in_both_themes_and_on_a_phone() {
    check("has_no_violations", &[&shop(), NEWEST], nothing);
}

#[test]
fn the_keyboard_and_a_link_choose_on_the_live_page() {
    check("keys_and_links_choose", &[&shop(), NEWEST], nothing);
}

#[test]
fn the_brush_of_the_live_page_filters_every_view() {
    check("brush_filters_every_view", &[&shop()], nothing);
}

#[test]
fn a_navigation_of_the_live_page_filters_every_view() {
    check("a_navigation_filters_every_view", &[&shop()], nothing);
}

#[test]
fn a_failed_request_on_the_live_page_explains_itself() {
    check("a_failed_request_explains_itself", &[&shop()], nothing);
}

#[test]
fn the_live_page_shows_what_the_server_joined() {
    check("shows_what_the_server_joined", &[], |_| vec![SHOP.into()]);
}

#[test]
fn ten_thousand_requests_scroll_on_the_live_page() {
    check("ten_thousand_requests_scroll", &[], nothing);
}

#[test]
fn filters_of_the_live_page_say_what_they_hide() {
    check("filters_say_what_they_hide", &[&shop(), NEWEST], nothing);
}

#[test]
fn a_session_is_started_switched_and_stopped_on_the_live_page() {
    check("a_session_is_started_switched_and_stopped", &[], nothing);
}

#[test]
fn losses_are_kept_on_the_live_page() {
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "1024",
    ]);
    let events = "{\"type\":\"step\",\"category\":\"control\"}\n".repeat(1261);
    check_on(&server, "losses_are_kept", &[&events], |_| {
        vec!["237".into()]
    });
}

#[test]
fn five_thousand_events_a_second_are_shown_on_the_live_page() {
    check("five_thousand_events_a_second", &[NEWEST], nothing);
}

#[test]
fn hostile_content_stays_text_on_the_live_page() {
    check("hostile_content_stays_text", &[], nothing);
}

#[test]
fn a_dropped_file_opens_on_the_live_page() {
    check("opens_a_dropped_file", &[NEWEST], |_| vec![SHOP.into()]);
}

#[test]
fn a_har_opens_on_the_live_page_and_says_what_it_does_not_have() {
    let directory = Directory::new("live-page-har");
    check("opens_a_har", &[NEWEST], |_| {
        let out = directory.path("shop.har");
        let said = run(&["export", SHOP, "--out", &out]);
        assert_eq!(said.code, Some(0), "{said:?}");
        vec![out]
    });
}

#[test]
fn a_gap_is_drawn_in_every_view_of_the_live_page() {
    check("a_gap_is_drawn_in_every_view", &[NEWEST], |_| {
        vec![SHOP.into()]
    });
}

#[test]
fn a_file_answers_the_live_page_as_the_server_does() {
    let directory = Directory::new("live-page-file");
    check("a_file_answers_as_the_server_does", &[&shop()], |server| {
        let out = directory.path("shop.ndjson");
        let format = ["--format", "ndjson", "--out", &out];
        let said = run(&[&["export", "--url", &server.url][..], &format].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        vec![out.clone(), MODULES.into()]
    });
}

#[test]
fn a_standalone_page_opens_from_the_disk_without_a_network() {
    let directory = Directory::new("live-page-standalone");
    check("a_standalone_file_needs_no_network", &[&shop()], |server| {
        let out = directory.path("shop.html");
        let format = ["--format", "html", "--out", &out];
        let said = run(&[&["export", "--url", &server.url][..], &format].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        vec![out.clone()]
    });
}

/// Three sites with faults of their own: the page alone says which request failed, what the server said, and what the page
/// did then.
#[test]
fn the_live_page_explains_a_missing_script() {
    check_on_site("explains_a_missing_script");
}

#[test]
fn the_live_page_explains_a_login_redirect_that_breaks_cors() {
    check_on_site("explains_a_login_redirect_that_breaks_cors");
}

#[test]
fn the_live_page_explains_a_slow_third_party_that_moves_the_page() {
    check_on_site("explains_a_slow_third_party_that_moves_the_page");
}

/// A case that starts the program, and a browser for it to observe.
#[track_caller]
fn check_on_site(case: &str) {
    let directory = Directory::new(case);
    check(case, &[], |_| {
        vec![
            env!("CARGO_BIN_EXE_tapline").into(),
            directory.path("profile"),
        ]
    });
}

/// Pictures of every view, with what a real browser did in the shop of the demo. With `TAPLINE_WRITE_IMAGES` those that the
/// documentation has are renewed.
#[test]
fn pictures_of_the_live_page_are_taken_in_both_themes() {
    let server = Server::with(&["demo", "--listen", "127.0.0.1:0"]);
    check_on(&server, "pictures", &[], nothing);
    // Killed, it would leave its browser behind.
    server.running.signal(Signal::TERM);
    assert_eq!(server.running.end().code, Some(0));
    if std::env::var_os("TAPLINE_WRITE_IMAGES").is_some() {
        for image in fs::read_dir(IMAGES).unwrap() {
            let image = image.unwrap();
            fs::copy(pictures().join(image.file_name()), image.path()).unwrap();
        }
    }
}
