//! What pages log and throw.

use serde_json::{Value, json};
use tapline_cdp::Options;
use tapline_oapi::data::DisconnectReason;
use tapline_oapi::{Category, CategorySet};

use crate::browser::{Browser, MS, START};

fn tab(options: Options) -> Browser {
    let mut browser = Browser::new(options);
    browser.tab("S", "T");
    browser.events();
    browser
}

fn logged(args: &Value) -> Value {
    let mut browser = tab(Options::default());
    let call = json!({"type": "log", "args": args, "timestamp": 1e15});
    browser.reports(Some("S"), "Runtime.consoleAPICalled", call);
    browser.data("console_log").remove(0)
}

#[test]
fn arguments_are_formatted_as_in_one_line_of_a_console() {
    for (arg, text) in [
        (json!({"type": "string", "value": "a \"b\""}), "a \"b\""),
        (
            json!({"type": "number", "value": 1.5, "description": "1.5"}),
            "1.5",
        ),
        (
            json!({"type": "number", "unserializableValue": "NaN", "description": "NaN"}),
            "NaN",
        ),
        (
            json!({"type": "bigint", "unserializableValue": "10n"}),
            "10n",
        ),
        (json!({"type": "boolean", "value": true}), "true"),
        (json!({"type": "undefined"}), "undefined"),
        (
            json!({"type": "object", "subtype": "null", "value": null}),
            "null",
        ),
        (
            json!({"type": "object", "description": "Array(3)", "objectId": "1"}),
            "Array(3)",
        ),
        (json!({"type": "object", "value": {"a": 1}}), r#"{"a":1}"#),
    ] {
        let emitted = logged(&json!([{"type": "string", "value": "first"}, arg]));
        assert_eq!(emitted["text"], "first");
        assert_eq!(emitted["args"], json!(["first", text]));
    }
    let emitted = logged(&json!([]));
    assert_eq!((&emitted["text"], emitted.get("args")), (&json!(""), None));
}

#[test]
fn all_arguments_together_have_one_limit() {
    let mut browser = tab(Options {
        text_limit: 10,
        ..Options::default()
    });
    let arg = |text| json!({"type": "string", "value": text});
    let args = json!([arg("123456"), arg("abécd"), arg("more")]);
    browser.reports(
        Some("S"),
        "Runtime.consoleAPICalled",
        json!({"type": "log", "args": args, "timestamp": 1e15}),
    );
    assert_eq!(
        browser.data("console_log")[0]["args"],
        json!(["123456", "abé"])
    );
}

#[test]
fn errors_and_exceptions_are_console_errors() {
    let mut browser = tab(Options::default());
    let frame = json!({"functionName": "f", "scriptId": "1", "url": "http://u:p@h/a.js", "lineNumber": 3, "columnNumber": 4});
    let trace =
        json!({"callFrames": [frame], "parent": {"description": "setTimeout", "callFrames": []}});
    let expected_trace = json!({
        "callFrames": [{"functionName": "f", "scriptId": "1", "url": "http://*redacted*@h/a.js", "lineNumber": 3, "columnNumber": 4}],
        "parent": {"description": "setTimeout", "callFrames": []},
    });
    let args = json!([{"type": "string", "value": "broken"}]);
    browser.reports(
        Some("S"),
        "Runtime.consoleAPICalled",
        json!({"type": "error", "args": args, "timestamp": 1e15, "stackTrace": trace}),
    );
    let exception =
        json!({"type": "object", "description": "Error: boom\n    at f", "objectId": "1"});
    let details = json!({"exceptionId": 1, "text": "Uncaught", "lineNumber": 3, "columnNumber": 4, "url": "http://u:p@h/a.js", "exception": exception, "stackTrace": trace});
    browser.reports(
        Some("S"),
        "Runtime.exceptionThrown",
        json!({"timestamp": 1e15, "exceptionDetails": details}),
    );
    let bare = json!({"exceptionId": 2, "text": "Script error."});
    browser.reports(
        Some("S"),
        "Runtime.exceptionThrown",
        json!({"timestamp": 1e15, "exceptionDetails": bare}),
    );

    let context = json!({"session_id": "S", "target_id": "T", "target_type": "page", "nav_seq": 0, "url": "about:blank"});
    let with = |mut own: Value| {
        own.as_object_mut()
            .unwrap()
            .extend(context.as_object().unwrap().clone());
        own
    };
    assert_eq!(
        browser.data("console_error"),
        [
            with(
                json!({"level": "error", "text": "broken", "args": ["broken"], "stack_trace": expected_trace})
            ),
            with(
                json!({"text": "Error: boom\n    at f", "line": 3, "column": 4, "source_url": "http://*redacted*@h/a.js", "stack_trace": expected_trace})
            ),
            with(json!({"text": "Script error."})),
        ]
    );
}

/// The browser keeps the last lines, and repeats them to each client that enables the runtime.
#[test]
fn stored_lines_that_the_browser_repeats_are_not_emitted_again() {
    let mut browser = tab(Options::default());
    let log = |browser: &mut Browser, ms: u64| {
        let date = (START + ms * MS) as f64 / 1000.0;
        let args = json!([{"type": "string", "value": format!("{ms}")}]);
        browser.reports(
            Some("S"),
            "Runtime.consoleAPICalled",
            json!({"type": "log", "args": args, "timestamp": date}),
        );
    };
    let texts = |browser: &mut Browser| {
        let emitted = browser.data("console_log");
        emitted
            .iter()
            .map(|data| data["text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    log(&mut browser, 0);
    assert_eq!(texts(&mut browser), ["0"]);

    browser.at(10);
    browser
        .core
        .disconnected(browser.now, DisconnectReason::ConnectionLost);
    browser.at(20);
    browser.core.connected(browser.now);
    browser.tab("S", "T");
    log(&mut browser, 0);
    log(&mut browser, 15);
    assert_eq!(
        texts(&mut browser),
        ["15"],
        "logged while there was no connection, and emitted now"
    );

    // What is logged while it is not captured is not captured later.
    browser.at(30);
    browser
        .core
        .reconfigure(browser.now, CategorySet::ALL.without(Category::Console));
    browser.at(40);
    browser.core.reconfigure(browser.now, CategorySet::ALL);
    for ms in [0, 15, 35, 45] {
        log(&mut browser, ms);
    }
    assert_eq!(texts(&mut browser), ["45"]);
}

#[test]
fn objects_that_lines_keep_alive_are_released() {
    let mut browser = tab(Options::default());
    browser.commands();
    for _ in 0..2500 {
        let args = json!([{"type": "object", "description": "Object", "objectId": "1"}]);
        browser.reports(
            Some("S"),
            "Runtime.consoleAPICalled",
            json!({"type": "log", "args": args, "timestamp": 1e15}),
        );
    }
    assert_eq!(browser.methods(), ["Runtime.releaseObjectGroup"; 2]);

    // Also of lines that are not captured.
    let interaction = CategorySet::of(&[Category::Interaction]);
    browser.core.reconfigure(browser.now, interaction);
    browser.settle();
    browser.commands();
    for _ in 0..1000 {
        browser.logs("S", "unseen");
    }
    assert_eq!(browser.methods(), ["Runtime.releaseObjectGroup"]);
    assert!(browser.data("console_log").len() == 2500);
}

#[test]
fn a_strange_line_number_does_not_cost_the_exception() {
    let mut browser = tab(Options::default());
    let frame = json!({"functionName": "f", "scriptId": "1", "url": "u", "lineNumber": 1e300, "columnNumber": 4});
    let details = json!({"text": "Uncaught", "lineNumber": 1.5, "columnNumber": 4, "stackTrace": {"callFrames": [frame]}});
    browser.reports(
        Some("S"),
        "Runtime.exceptionThrown",
        json!({"timestamp": 1e15, "exceptionDetails": details}),
    );
    assert_eq!(browser.core.unreadable(), 0);
    let data = browser.data("console_error").remove(0);
    assert_eq!((data.get("line"), &data["column"]), (None, &json!(4)));
    let frame = &data["stack_trace"]["callFrames"][0];
    assert_eq!(
        (&frame["lineNumber"], &frame["columnNumber"]),
        (&json!(0), &json!(4))
    );
}
