//! The types of the published SDK (PyPI `kernel`) and ours, in both directions: its strict models read
//! what we emit, and our typed data reads what its models allow and writes it back without a loss.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;
use tapline_oapi::{Event, EventType, KnownType};

use crate::program::{Directory, Running, Server};
use crate::{http, peer};

/// Types of the taxonomy that this version of the SDK does not have: they say more about a request than one
/// answer can. In its usual mode the SDK passes them on as they are; its strict models know no type beside
/// their own.
const NOT_IN_THE_SDK: [KnownType; 3] = [
    KnownType::NetworkResponseEnd,
    KnownType::NetworkWebsocketMessage,
    KnownType::NetworkWebsocketClosed,
];

// Custom types (`cdp_command_other`, `cdp_commands_missed`) are in no SDK, as any other producer's are not.

/// A value of the taxonomy that the SDK does not have: its producer loses its browser in one way only.
const REASON_NOT_IN_THE_SDK: &str = r#""data":{"reason":"connection_lost"}"#;

/// The script in one of its modes, unless the test is skipped.
fn types(mode: &str) -> Option<Command> {
    let found = peer::installed("python/bin/python");
    let python = peer::or_skip(found, "PyPI kernel", "TAPLINE_REQUIRE_PEERS")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/sdk_types.py");
    let mut command = Command::new(python);
    command.arg(script).arg(mode).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// Checks that the SDK's strict models read these events, of which there is one a line.
#[track_caller]
pub(crate) fn sdk_reads<'a>(events: impl IntoIterator<Item = &'a str>) {
    let is_known = |event: &&str| {
        let read: Event = serde_json::from_str(event).unwrap();
        let is_new = |known| NOT_IN_THE_SDK.contains(&known);
        !matches!(read.event_type, EventType::Known(known) if is_new(known))
            && !event.contains(REASON_NOT_IN_THE_SDK)
    };
    let events: Vec<_> = events.into_iter().filter(is_known).collect();
    assert!(!events.is_empty());
    let Some(mut command) = types("read") else {
        return;
    };
    let name = std::thread::current().name().unwrap().replace("::", "-");
    let folder = Directory::new(&name);
    let file = folder.path("events.ndjson");
    std::fs::write(&file, events.join("\n")).unwrap();
    command.stdin(std::fs::File::open(&file).unwrap());
    let mut reading = Running::start(command);
    for event in events {
        assert_eq!(reading.line(), "ok", "{event}");
    }
    let said = reading.end();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
}

#[test]
fn the_sdk_reads_every_known_type_strictly() {
    sdk_reads(include_str!("../../../oapi/tests/it/known-types.ndjson").lines());
}

#[test]
fn the_sdk_reads_a_recorded_session_strictly() {
    sdk_reads(include_str!("../../../cdp/tests/golden/events.ndjson").lines());
}

/// Commands of all methods that the SDK knows, with all kinds of arguments, and some that it does not know.
const COMMANDS: &str = r#"
Input.dispatchMouseEvent {"type":"mousePressed","x":1.5,"y":2,"button":"left","buttons":1,"clickCount":1,"pointerType":"mouse","deltaX":0,"modifiers":0}
Input.dispatchMouseEvent {"type":"new","button":"new","pointerType":"new","clickCount":1.0}
Input.dispatchKeyEvent {"type":"keyDown","text":"a","key":"a","autoRepeat":false,"location":0,"commands":["selectAll"]}
Input.insertText {"text":"abc"}
Input.imeSetComposition {"text":"abc","selectionStart":1,"selectionEnd":2}
Input.dispatchTouchEvent {"type":"touchStart","touchPoints":[{"x":1,"y":2,"radiusX":1.5,"force":0.5}]}
Input.dispatchDragEvent {"type":"drop","x":1,"y":2,"data":{"items":[{"mimeType":"text/plain","data":"x"}],"dragOperationsMask":1}}
Input.cancelDragging {}
Input.emulateTouchFromMouseEvent {"type":"mouseMoved","x":1,"y":2,"button":"none"}
Input.synthesizePinchGesture {"x":1,"y":2,"scaleFactor":2,"relativeSpeed":800}
Input.synthesizeScrollGesture {"x":1,"y":2,"yDistance":-100.5,"preventFling":true,"gestureSourceType":"mouse"}
Input.synthesizeTapGesture {"x":1,"y":2,"tapCount":1,"duration":50}
DOM.setFileInputFiles {"files":["/a","/b"],"nodeId":4}
DOM.focus {"backendNodeId":4}
DOM.scrollIntoViewIfNeeded {"objectId":"-123.4.5","rect":{"x":1,"y":2,"width":3,"height":4}}
Page.bringToFront {}
Page.captureScreenshot {"format":"png","quality":80,"clip":{"x":0,"y":0,"width":10.5,"height":10,"scale":1}}
Page.captureSnapshot {"format":"mhtml"}
Page.handleJavaScriptDialog {"accept":true,"promptText":"x"}
Page.navigate {"url":"https://u:p@shop.example:8443/a?b#c","transitionType":"typed","referrer":"https://r/","referrerPolicy":"origin"}
Page.navigate {"url":"data:text/html,x","transitionType":"new"}
Page.navigateToHistoryEntry {"entryId":4}
Page.reload {"ignoreCache":true,"scriptToEvaluateOnLoad":"x"}
Page.printToPDF {"landscape":false,"scale":1.5,"headerTemplate":"<b>","pageRanges":"1-2","transferMode":"ReturnAsStream"}
Page.startScreencast {"format":"jpeg","quality":50,"maxWidth":800}
Page.stopScreencast {}
Page.stopLoading {}
Page.close {}
Page.setWebLifecycleState {"state":"frozen"}
Target.activateTarget {"targetId":"T"}
Target.closeTarget {"targetId":"T"}
Target.createTarget {"url":"about:blank","width":800,"windowState":"normal","newWindow":true}
Target.createBrowserContext {"disposeOnDetach":true,"proxyServer":"http://p"}
Target.disposeBrowserContext {"browserContextId":"C"}
Target.openDevTools {"targetId":"T"}
Browser.cancelDownload {"guid":"G-1"}
Browser.close {}
Browser.setWindowBounds {"windowId":1,"bounds":{"left":1,"windowState":"maximized"}}
Browser.setContentsSize {"windowId":1,"width":800,"height":600}
Autofill.trigger {"fieldId":7,"card":{"number":"1"}}
Input.insertText {}
Page.setWebLifecycleState {"state":7}
Runtime.evaluate {"expression":"x"}
Emulation.setCPUThrottlingRate {"rate":4}
"#;

/// The browser is one that accepts a WebSocket and answers nothing.
#[test]
fn the_sdk_reads_the_events_of_the_relay_strictly() {
    let browser = TcpListener::bind("127.0.0.1:0").unwrap();
    let cdp = format!("http://{}", browser.local_addr().unwrap());
    let mut server = Server::with(&[
        "serve",
        "--start",
        "--listen",
        "127.0.0.1:0",
        "--cdp",
        &cdp,
        "--cdp-relay",
        "127.0.0.1:0",
    ]);
    let line = server.running.line();
    let relay = line.strip_prefix("relaying DevTools on http://").unwrap();
    let accepting = std::thread::spawn(move || {
        // The source of the program asks as well, and its request is not answered.
        loop {
            let (mut socket, _) = browser.accept().unwrap();
            if head(&mut socket).contains("/devtools/page/T ") {
                socket
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                    .unwrap();
                return socket;
            }
        }
    });
    let mut client = TcpStream::connect(relay).unwrap();
    client
        .write_all(b"GET /devtools/page/T HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 101 "));
    let browser = accepting.join().unwrap();
    let commands: Vec<_> = COMMANDS.trim().lines().collect();
    for (id, command) in commands.iter().enumerate() {
        let (method, params) = command.split_once(' ').unwrap();
        let text = format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#);
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        client
            .write_all(&[0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0])
            .unwrap();
        client.write_all(text.as_bytes()).unwrap();
    }
    drop(client);

    let events = loop {
        let path = "/telemetry/events?limit=1000&type=cdp_*";
        let page = http::ask(server.address(), "GET", path, "").body;
        if page.contains("cdp_disconnect") {
            break serde_json::from_str::<Vec<Value>>(&page).unwrap();
        }
        std::thread::yield_now();
    };
    drop(browser);
    let is_other = |event: &&Value| event["event"]["type"] == "cdp_command_other";
    assert_eq!(events.iter().filter(is_other).count(), 4);
    let events: Vec<_> = events.iter().filter(|event| !is_other(event)).collect();
    assert_eq!(events.len(), commands.len() - 4 + 2);
    let lines: Vec<_> = events
        .iter()
        .map(|event| event["event"].to_string())
        .collect();
    for secret in ["u:p@", "/a?b", "text/html", "abc", "/b\""] {
        assert!(!lines.concat().contains(secret), "{secret}: {lines:#?}");
    }
    sdk_reads(lines.iter().map(String::as_str));
}

fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
        head.extend_from_slice(&byte);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn what_the_sdk_allows_is_read_and_written_back_without_a_loss() {
    let Some(command) = types("write") else {
        return;
    };
    let output = command_output(command);
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for line in output.lines() {
        let event: Event = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let EventType::Known(known) = event.event_type else {
            panic!("an event of an unknown type: {line}")
        };
        seen.insert(known.as_str());
        count += 1;
        let data = event.typed_data();
        let data = data.unwrap_or_else(|error| panic!("{error}: {line}"));
        let Some(before) = event.data.as_deref() else {
            continue;
        };
        let before: Value = serde_json::from_str(before.get()).unwrap();
        // `null` stands for an event without data.
        if !before.is_null() {
            let after = serde_json::to_value(data).unwrap();
            assert_eq!(after, before, "{known}");
        }
    }
    let all = KnownType::ALL
        .iter()
        .filter(|known| !NOT_IN_THE_SDK.contains(known));
    assert_eq!(seen, all.map(|known| known.as_str()).collect());
    assert!(count > 1_000, "{count} events");
}

#[track_caller]
fn command_output(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}
