//! A real browser, and Playwright as its client.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tapline_access::{AccessConfig, Token, TokenSource};
use tapline_oapi::{Category, CategorySet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::ends::{DEADLINE, Ends, UPGRADE, allow, command, head, redacting, serve_page, soon};

/// What was found. Where nothing was, the test is skipped with a message, or fails where `variable` is 1.
#[track_caller]
fn or_skip(found: Option<PathBuf>, name: &str, variable: &str) -> Option<PathBuf> {
    if found.is_none() {
        let required = env::var(variable).is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not here, and {variable}=1");
        let test = std::thread::current();
        let test = test.name().unwrap_or_default();
        // Where the message cannot be written, the test still passes.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {name} is not here");
    }
    found
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Where `install.sh` installs it.
fn playwright() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let package = target.join("peers/playwright/node_modules/playwright-core");
    Some(package).filter(|path| path.exists())
}

pub(crate) struct Browser {
    process: Child,
    directory: PathBuf,
    pub(crate) address: String,
}

impl Browser {
    /// Starts it, unless the test is skipped.
    pub(crate) fn open(name: &str) -> Option<Self> {
        let found = on_path("chromium").or_else(|| on_path("google-chrome"));
        let chromium = or_skip(found, "chromium", "TAPLINE_REQUIRE_BROWSER")?;
        let directory = format!("tapline-relay-{}-{name}", std::process::id());
        let directory = env::temp_dir().join(directory);
        let process = Command::new(chromium)
            .args(["--headless", "--disable-gpu", "--no-first-run"])
            // Chromium's sandbox does not work as root, and containers often have little shared memory.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // Nothing but loopback.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .args(["--disable-background-networking", "--no-proxy-server"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", directory.display()))
            .arg("about:blank")
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = wait_for(|| {
            let port = fs::read_to_string(directory.join("DevToolsActivePort")).ok()?;
            port.split_once('\n').map(|(port, _)| port.to_owned())
        });
        Some(Self {
            process,
            directory,
            address: format!("127.0.0.1:{port}"),
        })
    }
}

impl Drop for Browser {
    /// Ends the browser and removes its profile. Some of its processes end a little later, and write until
    /// then.
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        if !std::thread::panicking() {
            wait_for(|| {
                fs::remove_dir_all(&self.directory).ok();
                (!self.directory.exists()).then_some(())
            });
        }
    }
}

fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(it) = condition() {
            return it;
        }
        assert!(started.elapsed() < DEADLINE, "this should have happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn ends(browser: &Browser) -> Ends {
    Ends::with(|options| options.upstream.clone_from(&browser.address)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_answers_through_the_relay() {
    let Some(browser) = Browser::open("speaks") else {
        return;
    };
    let ends = ends(&browser).await;
    let mut events = ends.capture(CategorySet::of(&[Category::Control, Category::Connection]));
    let relay = ends.address;

    // Its description has the relay's address, and no other.
    for path in ["/json", "/json/list", "/json/version"] {
        let answer = ends
            .ask(&format!("GET {path} HTTP/1.1\r\nHost: {relay}\r\n\r\n"))
            .await;
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: Value = serde_json::from_str(body).unwrap();
        let it = if body.is_array() { &body[0] } else { &body };
        let url = it["webSocketDebuggerUrl"].as_str().unwrap();
        assert!(
            url.starts_with(&format!("ws://{relay}/devtools/")),
            "{body}"
        );
        assert!(!body.to_string().contains(&browser.address), "{body}");
    }

    // A tab opened through the relay: with PUT, as Chromium requires.
    let request = format!("PUT /json/new?about:blank HTTP/1.1\r\nHost: {relay}\r\n\r\n");
    let answer = ends.ask(&request).await;
    let tab: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let url = tab["webSocketDebuggerUrl"].as_str().unwrap();
    let path = url.strip_prefix(&format!("ws://{relay}")).unwrap();

    // It accepts a WebSocket whose client offers compression, and does not compress.
    let mut client = ends.client().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let request = UPGRADE.strip_suffix("\r\n").unwrap().to_owned() + offer;
    let request = request.replace("/devtools/browser/1", path);
    client.write_all(request.as_bytes()).await.unwrap();
    let upgraded = head(&mut client).await;
    assert!(upgraded.starts_with("HTTP/1.1 101 "), "{upgraded}");
    assert!(!upgraded.to_lowercase().contains("deflate"), "{upgraded}");
    let text =
        r#"{"id":1,"method":"Runtime.evaluate","params":{"expression":"'x'.repeat(100000)"}}"#;
    client.write_all(&command(text)).await.unwrap();
    let mut answer = vec![0; 10 + 100_000];
    soon(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[..2], [0x81, 127]);
    assert!(String::from_utf8_lossy(&answer).contains("xxxxxxxx"));
    drop(client);
    let events = events.up_to("cdp_disconnect").await;
    assert_eq!(events[1]["data"]["method"], "Runtime.evaluate");
    assert_eq!(events[1]["type"], "cdp_command_other");
    assert_eq!(events[1]["data"]["target_id"], tab["id"]);
    assert!(!events[1].to_string().contains("repeat"), "{}", events[1]);
    assert_eq!(events[2]["data"]["message_count"], 2);
    ends.stop().await;
}

/// A page with a button, and with a secret to type.
const PAGE: &str = "<!doctype html><title>Sign in</title><form onsubmit='return false'>\
    <input id=user><input id=password type=password><button id=go onclick='document.title=\
    document.querySelector(\"#password\").value.length'>Go</button></form>";

#[tokio::test(flavor = "multi_thread")]
async fn playwright_works_and_what_it_types_is_in_no_event() {
    let Some(package) = or_skip(
        playwright().filter(|_| on_path("node").is_some()),
        "playwright-core (crates/relay/tests/it/install.sh)",
        "TAPLINE_REQUIRE_PEERS",
    ) else {
        return;
    };
    let Some(browser) = Browser::open("playwright") else {
        return;
    };
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let page = format!(
        "http://user:s3cret-u@{}/?key=s3cret-q",
        site.local_addr().unwrap()
    );
    let serving = tokio::spawn(serve_page(site, PAGE));
    let ends = Ends::with(|options| {
        options.upstream.clone_from(&browser.address);
        options.redact_url = redacting(&["key"]);
        let token = Token::from_variable("TOKEN", "correct-horse-battery").unwrap();
        let config = AccessConfig {
            token: Some(TokenSource::Fixed(token)),
            ..AccessConfig::default()
        };
        allow(options, config);
    })
    .await;
    let mut events = ends.capture(CategorySet::ALL);
    let relay = format!("http://{}", ends.address);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/playwright.mjs");
    let visited = page.clone();
    let running = tokio::task::spawn_blocking(move || {
        Command::new("node")
            .arg(script)
            .arg(package.join("index.mjs"))
            .args([&relay, "correct-horse-battery", &visited])
            .output()
            .unwrap()
    });
    let output = tokio::time::timeout(4 * DEADLINE, running)
        .await
        .unwrap()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // The length of the typed text, as the page has it: the text arrived.
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "8");

    let events = events.up_to("cdp_disconnect").await;
    let all = format!("{events:?}");
    assert_eq!(events.last().unwrap()["data"]["detail"], "client_closed");
    for secret in ["s3cret", "swordfis", "correct-horse"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    let of = |method: &str| {
        let of = |it: &&Value| it["data"]["method"] == method;
        events
            .iter()
            .filter(of)
            .map(|it| &it["data"])
            .collect::<Vec<_>>()
    };
    let [navigate] = of("Page.navigate")[..] else {
        panic!("{all}")
    };
    let url = navigate["url"].as_str().unwrap();
    assert!(page.ends_with("/?key=s3cret-q"));
    let (_, host) = page
        .strip_suffix("/?key=s3cret-q")
        .unwrap()
        .split_once('@')
        .unwrap();
    assert_eq!(url, format!("http://{host}"));
    assert!(navigate["session_id"].is_string() && navigate["target_id"].is_string());
    let pressed = of("Input.dispatchMouseEvent");
    assert!(
        pressed
            .iter()
            .any(|it| it["event_type"] == "mousePressed" && it["x"].is_number())
    );
    let keys = of("Input.dispatchKeyEvent");
    assert!(keys.len() >= 8, "{keys:?}");
    assert!(
        keys.iter().all(|it| it
            .get("key")
            .or(it.get("text"))
            .or(it.get("code"))
            .is_none()),
        "{keys:?}"
    );
    assert_eq!(of("Page.captureScreenshot").len(), 1);
    assert!(!of("Input.insertText").is_empty());
    let counts = ends.counts();
    assert_eq!((counts.commands_missed, counts.unreadable), (0, 0));
    serving.abort();
    ends.stop().await;
}
