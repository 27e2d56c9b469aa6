//! How much memory a huge message costs, besides the message itself.
//!
//! In a program of its own, because the counting allocator replaces the usual one. It counts the memory of
//! one thread.
#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, but not in what they share"
)]

use std::fmt::Write as _;

use tapline_cdp::{Core, Options, Output, Redaction, Time};
use tapline_oapi::Event;

const MIB: usize = 1 << 20;

/// The size of the texts of one message each. A single copy of it would exceed the bound.
const LARGE: usize = 2 * MIB;

/// The size of a line and of a body. They are read by the same code as every other text.
const HUGE: usize = 64 * MIB;

/// The bound that `Core::message` promises.
const BOUND: u64 = MIB as u64;

/// A core that follows a tab, with all kinds of redaction rules.
fn core() -> Core {
    let redaction = Redaction::default()
        .with_query_parameters(["token"])
        .with_json_fields(["password"])
        .into();
    let mut core = Core::new(Options {
        redaction,
        ..Options::default()
    });
    core.connected(Time::default());
    let attached = r#"{"method":"Target.attachedToTarget","params":{"sessionId":"S","waitingForDebugger":false,"targetInfo":{"targetId":"T","type":"page","title":"","url":"http://h/"}}}"#;
    core.message(Time::default(), attached);
    while core.poll().is_some() {}
    core
}

/// Sends the message, and returns the events and the most memory that was allocated at a time.
fn send(core: &mut Core, message: &str) -> (Vec<Event>, u64) {
    let mut events = Vec::new();
    let allocated = allocation_counter::measure(|| {
        core.message(Time::default(), message);
        while let Some(output) = core.poll() {
            if let Output::Event(event) = output {
                events.push(event);
            }
        }
    });
    (events, allocated.bytes_max)
}

#[track_caller]
fn check(core: &mut Core, message: &str, event_type: &str) {
    assert!(LARGE < message.len() + 100);
    let unreadable = core.unreadable();
    let (events, bytes) = send(core, message);
    assert_eq!(core.unreadable(), unreadable, "{}", &message[..60]);
    let events: Vec<_> = events.iter().map(|it| it.event_type.as_str()).collect();
    assert!(events.contains(&event_type), "{event_type}: {events:?}");
    assert!(
        bytes <= BOUND,
        "{event_type}: {bytes} bytes, {}",
        &message[..60]
    );
}

/// Texts of this size as they are in a message: plain, with an escape in every third byte, with a userinfo
/// without an end, and with JSON in a string.
fn texts(size: usize) -> Vec<String> {
    let repeat = |part: &str| part.repeat(size / part.len());
    vec![
        repeat("abcdefgh"),
        repeat(r"a\n\u00e9"),
        format!("http://joe:{}", repeat("x")),
        repeat(r#"{\"password\":\"x\",\"y\":\"http:\/\/u:p@h\/?token=1\"}"#),
        format!(r#"{{\"a\":\"{}"#, repeat(r#"{\\\"password\\\":\\\"x\\\"}"#)),
    ]
}

/// Each text of a page or a server in turn.
#[test]
fn a_large_text_costs_less_than_a_mebibyte() {
    for text in texts(LARGE) {
        let mut core = core();
        for (event_type, before, after) in [
            (
                "console_log",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log","args":[{"type":"string","value":""#,
                r#""}],"timestamp":1e15},"sessionId":"S"}"#,
            ),
            (
                "console_log",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log","args":[{"type":"object","value":{"a":""#,
                r#""}}],"timestamp":1e15},"sessionId":"S"}"#,
            ),
            (
                "console_log",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log","args":[],"timestamp":1e15,"stackTrace":{"description":"d","callFrames":[{"functionName":""#,
                r#"","scriptId":"1","url":"u","lineNumber":1,"columnNumber":1}]}},"sessionId":"S"}"#,
            ),
            (
                "console_error",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"error","args":[{"type":"object","objectId":"{\"id\":1}","description":""#,
                r#""}],"timestamp":1e15},"sessionId":"S"}"#,
            ),
            (
                "console_log",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log","args":[{"type":"object","preview":{"type":"object","description":"Object","properties":[{"type":"string","value":"v","name":""#,
                r#""}]}}],"timestamp":1e15},"sessionId":"S"}"#,
            ),
            (
                "console_log",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log","args":[{"type":"object","preview":{"type":"object","description":"Object","properties":[{"name":"n","type":"string","value":""#,
                r#""}]}}],"timestamp":1e15},"sessionId":"S"}"#,
            ),
            (
                "console_log",
                r#"{"method":"Runtime.consoleAPICalled","params":{"type":"log","args":[{"type":"string","value":"%s"},{"type":"string","value":""#,
                r#""}],"timestamp":1e15},"sessionId":"S"}"#,
            ),
            (
                "console_error",
                r#"{"method":"Runtime.exceptionThrown","params":{"timestamp":1e15,"exceptionDetails":{"text":"Uncaught","exception":{"type":"object","description":""#,
                r#""}}},"sessionId":"S"}"#,
            ),
            (
                "console_error",
                r#"{"method":"Runtime.exceptionThrown","params":{"timestamp":1e15,"exceptionDetails":{"url":"u","text":""#,
                r#""}},"sessionId":"S"}"#,
            ),
            (
                "network_request",
                r#"{"method":"Network.requestWillBeSent","params":{"requestId":"r","request":{"method":"POST","url":"http://h/","headers":{},"postData":""#,
                r#""}},"sessionId":"S"}"#,
            ),
            (
                "network_request",
                r#"{"method":"Network.requestWillBeSent","params":{"requestId":"r","request":{"method":"GET","headers":{},"url":""#,
                r#""}},"sessionId":"S"}"#,
            ),
            (
                "network_request",
                r#"{"method":"Network.requestWillBeSent","params":{"requestId":"r","request":{"url":"http://h/","headers":{},"method":""#,
                r#""}},"sessionId":"S"}"#,
            ),
            (
                "network_request",
                r#"{"method":"Network.requestWillBeSent","params":{"requestId":"r","request":{"url":"http://h/","method":"GET","headers":{"a":""#,
                r#""}}},"sessionId":"S"}"#,
            ),
            (
                "network_loading_failed",
                r#"{"method":"Network.loadingFailed","params":{"requestId":"r","type":"Fetch","errorText":""#,
                r#""},"sessionId":"S"}"#,
            ),
            (
                "page_tab_opened",
                r#"{"method":"Target.attachedToTarget","params":{"sessionId":"S2","targetInfo":{"targetId":"T2","type":"page","url":"http://h/","title":""#,
                r#""}}}"#,
            ),
            (
                "page_navigation",
                r#"{"method":"Page.frameNavigated","params":{"frame":{"id":"T","loaderId":"L","url":"http://h/","urlFragment":""#,
                r#""}},"sessionId":"S"}"#,
            ),
            (
                "page_lcp",
                r#"{"method":"PerformanceTimeline.timelineEventAdded","params":{"event":{"frameId":"T","time":1e12,"lcpDetails":{"elementId":""#,
                r#""}}},"sessionId":"S"}"#,
            ),
        ] {
            let mut message = String::with_capacity(before.len() + text.len() + after.len());
            message.push_str(before);
            message.push_str(&text);
            message.push_str(after);
            check(&mut core, &message, event_type);
        }
    }
}

/// With an escape in each third byte, so that it has to be decoded.
#[test]
fn a_huge_line_and_a_huge_body_cost_less_than_a_mebibyte() {
    for text in texts(HUGE).drain(1..2) {
        let mut core = core();
        for message in [
            r#"{"method":"Network.requestWillBeSent","params":{"requestId":"r","request":{"method":"GET","url":"http://h/","headers":{}}},"sessionId":"S"}"#,
            r#"{"method":"Network.responseReceived","params":{"requestId":"r","response":{"status":200,"url":"http://h/","headers":{},"mimeType":"text/plain"}},"sessionId":"S"}"#,
            r#"{"method":"Network.loadingFinished","params":{"requestId":"r","encodedDataLength":1},"sessionId":"S"}"#,
        ] {
            core.message(Time::default(), message);
        }
        let outputs = std::iter::from_fn(|| core.poll());
        let id = outputs.filter_map(|output| match output {
            Output::Command(command) if command.method == "Network.getResponseBody" => {
                Some(command.id)
            }
            _ => None,
        });
        let id = id.last().unwrap();
        let message =
            format!(r#"{{"id":{id},"result":{{"base64Encoded":false,"body":"{text}"}}}}"#);
        check(&mut core, &message, "network_response");

        let message = format!(
            r#"{{"method":"Runtime.consoleAPICalled","params":{{"type":"log","args":[{{"type":"string","value":"{text}"}}],"timestamp":1e15}},"sessionId":"S"}}"#
        );
        check(&mut core, &message, "console_log");
    }
}

/// Many small parts: arguments, headers and stack frames cost many times their text if they are all read.
#[test]
fn many_parts_cost_less_than_a_mebibyte() {
    let mut core = core();
    let list = |part: &str| {
        let mut list = part.repeat(LARGE / part.len());
        list.pop();
        list
    };
    let args = list(r#"{"type":"undefined"},"#);
    let message = format!(
        r#"{{"method":"Runtime.consoleAPICalled","params":{{"type":"log","args":[{args}],"timestamp":1e15}},"sessionId":"S"}}"#
    );
    check(&mut core, &message, "console_log");

    // Objects of many properties, many of which are objects.
    let properties = r#"{"name":"n","type":"object","value":"Object","valuePreview":{"type":"object","properties":[{},{},{}]}},"#;
    for count in [1, 20] {
        let whole = LARGE / properties.len() / count + 1;
        let preview = properties.repeat(whole);
        let preview = preview.trim_end_matches(',');
        let arg = format!(
            r#"{{"type":"object","preview":{{"type":"object","description":"Object","properties":[{preview}]}}}},"#
        );
        let mut args = arg.repeat(count);
        args.pop();
        let message = format!(
            r#"{{"method":"Runtime.consoleAPICalled","params":{{"type":"log","args":[{args}],"timestamp":1e15}},"sessionId":"S"}}"#
        );
        check(&mut core, &message, "console_log");
    }

    let frames = list("{},");
    let message = format!(
        r#"{{"method":"Runtime.consoleAPICalled","params":{{"type":"log","args":[],"timestamp":1e15,"stackTrace":{{"callFrames":[{frames}]}}}},"sessionId":"S"}}"#
    );
    check(&mut core, &message, "console_log");

    let mut headers = String::new();
    for n in 0..LARGE / 6 {
        let _ = write!(headers, r#""x{n}":"","#);
    }
    headers.pop();
    let message = format!(
        r#"{{"method":"Network.requestWillBeSent","params":{{"requestId":"r","request":{{"url":"http://h/","method":"GET","headers":{{{headers}}}}}}},"sessionId":"S"}}"#
    );
    check(&mut core, &message, "network_request");
}

/// What is emitted is taken at once, as the source does.
#[test]
fn a_hundred_thousand_lines_cost_less_than_a_mebibyte() {
    let mut core = core();
    let mut emitted = 0;
    let line = "x".repeat(100);
    let allocated = allocation_counter::measure(|| {
        for n in 0..100_000 {
            let message = format!(
                r#"{{"method":"Runtime.consoleAPICalled","params":{{"type":"log","args":[{{"type":"object","objectId":"{n}","description":"{line}"}}],"timestamp":1e15}},"sessionId":"S"}}"#
            );
            core.message(Time::default(), &message);
            while let Some(output) = core.poll() {
                emitted += usize::from(matches!(output, Output::Event(_)));
            }
        }
    });
    assert_eq!(emitted, 100_000);
    assert!(allocated.bytes_max <= BOUND, "{}", allocated.bytes_max);
}
