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
        assert_eq!(emitted["text"], format!("first {text}"));
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
                json!({"text": "Uncaught Error: boom\n    at f", "exception_id": 1, "line": 3, "column": 4, "source_url": "http://*redacted*@h/a.js", "stack_trace": expected_trace})
            ),
            with(json!({"text": "Script error.", "exception_id": 2})),
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
    let meanwhile: Vec<u64> = browser
        .events()
        .iter()
        .filter(|event| event.event_type.as_str() == "console_log")
        .map(|event| event.ts)
        .collect();
    assert_eq!(
        meanwhile,
        [START + 15 * MS],
        "logged while there was no connection, with its own time"
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

/// An object as the browser sends it, with its preview.
fn object(kind: &str, preview: &Value) -> Value {
    let mut object = json!({"type": "object", "objectId": "1.1.1", "preview": preview});
    object["className"] = json!(kind);
    object["description"] = preview["description"].clone();
    if let Some(subtype) = preview.get("subtype") {
        object["subtype"] = subtype.clone();
    }
    object
}

/// The properties of a preview: name, type, value, and the subtype where there is one.
fn properties(of: &[(&str, &str, &str, &str)]) -> Value {
    let property = |(name, kind, value, subtype): &(&str, &str, &str, &str)| {
        let mut property = json!({"name": name, "type": kind, "value": value});
        if !subtype.is_empty() {
            property["subtype"] = json!(subtype);
        }
        property
    };
    of.iter().map(property).collect()
}

fn preview(subtype: &str, description: &str, overflow: bool, properties: &Value) -> Value {
    let mut preview = json!({"type": "object", "description": description, "overflow": overflow, "properties": properties});
    if !subtype.is_empty() {
        preview["subtype"] = json!(subtype);
    }
    preview
}

/// The messages are those of a Chromium 156.
#[test]
fn objects_are_shown_by_their_previews() {
    let nested = |value: &str| json!({"type": "object", "description": "Object", "overflow": false, "properties": [{"name": "v", "type": "number", "value": value}]});
    let primitive = |kind: &str, text: &str| json!({"type": kind, "description": text, "overflow": false, "properties": []});
    let elements: Vec<_> = (0..100)
        .map(|n| json!({"name": n.to_string(), "type": "number", "value": "7"}))
        .collect();
    let mut map = preview(
        "map",
        "Map(3)",
        false,
        &properties(&[("size", "number", "3", "")]),
    );
    map["entries"] = json!([
        {"key": primitive("string", "k"), "value": nested("1")},
        {"key": nested("2"), "value": primitive("number", "2")},
        {"key": primitive("string", "Cookie"), "value": primitive("string", "SECRET")},
    ]);
    let mut set = preview("set", "Set(200)", true, &json!([]));
    set["entries"] = json!([{"value": primitive("number", "1")}, {"value": primitive("string", "b")}, {"value": {"type": "function", "description": "() => 1", "overflow": false, "properties": []}}]);
    let table = preview(
        "array",
        "Array(2)",
        false,
        &json!([
            {"name": "0", "type": "object", "value": "Object", "valuePreview": nested("1")},
            {"name": "1", "type": "object", "value": "Object", "valuePreview": nested("2")},
        ]),
    );

    for (class, preview, text) in [
        (
            "Object",
            preview(
                "",
                "Object",
                true,
                &properties(&[
                    ("id", "number", "501731", ""),
                    ("name", "string", "it's\nBo", ""),
                    ("nested", "object", "Object", ""),
                    ("list", "object", "Array(3)", "array"),
                    ("f", "function", "", ""),
                    ("n", "object", "null", "null"),
                    ("u", "undefined", "undefined", ""),
                    ("x", "accessor", "", ""),
                    ("z", "number", "-0", ""),
                    ("e", "object", "Error: in obj\n    at f", "error"),
                    ("a-b", "number", "1", ""),
                    ("", "number", "3", ""),
                    ("Symbol(w)", "bigint", "3n", ""),
                ]),
            ),
            "{id: 501731, name: 'it's\\nBo', nested: {…}, list: Array(3), f: ƒ, n: null, u: undefined, x: (...), z: -0, e: Error: in obj, 'a-b': 1, '': 3, Symbol(w): 3n, …}",
        ),
        (
            "Cart",
            preview(
                "",
                "Cart",
                false,
                &properties(&[("total", "number", "3", "")]),
            ),
            "Cart {total: 3}",
        ),
        ("Object", preview("", "Object", false, &json!([])), "{}"),
        ("Object", preview("", "Object", true, &json!([])), "{…}"),
        (
            "Headers",
            preview("", "Headers", false, &json!([])),
            "Headers {}",
        ),
        (
            "Array",
            preview("array", "Array(0)", false, &json!([])),
            "[]",
        ),
        (
            "Array",
            preview(
                "array",
                "Array(1)",
                false,
                &properties(&[("0", "string", "a", "")]),
            ),
            "['a']",
        ),
        (
            "Array",
            preview(
                "array",
                "Array(4)",
                false,
                &properties(&[("2", "number", "1", "")]),
            ),
            "(4) [empty × 2, 1, empty]",
        ),
        (
            "Array",
            preview(
                "array",
                "Array(2)",
                false,
                &properties(&[("0", "number", "1", ""), ("foo", "string", "x", "")]),
            ),
            "(2) [1, empty, foo: 'x']",
        ),
        (
            "Array",
            preview("array", "Array(200)", true, &json!(elements)),
            &format!("(200) [{}…]", "7, ".repeat(100)),
        ),
        (
            "NodeList",
            preview(
                "array",
                "NodeList(1)",
                false,
                &properties(&[("0", "object", "div#a.x.y", "node")]),
            ),
            "NodeList(1) [div#a.x.y]",
        ),
        (
            "Uint8Array",
            preview(
                "typedarray",
                "Uint8Array(2)",
                false,
                &properties(&[
                    ("0", "number", "1", ""),
                    ("1", "number", "2", ""),
                    ("buffer", "object", "ArrayBuffer(2)", "arraybuffer"),
                    ("length", "number", "2", ""),
                ]),
            ),
            "Uint8Array(2) [1, 2]",
        ),
        ("Array", table, "(2) [{v: 1}, {v: 2}]"),
        (
            "Map",
            map,
            "Map(3) {'k' => {v: 1}, {v: 2} => 2, 'Cookie' => *redacted*}",
        ),
        ("Set", set, "Set(200) {1, 'b', ƒ, …}"),
        (
            "WeakMap",
            preview("weakmap", "WeakMap", false, &json!([])),
            "WeakMap {}",
        ),
        (
            "Date",
            preview(
                "date",
                "Thu Jan 01 1970 00:00:00 GMT+0000",
                false,
                &json!([]),
            ),
            "Thu Jan 01 1970 00:00:00 GMT+0000",
        ),
        (
            "RegExp",
            preview(
                "regexp",
                "/re/gi",
                true,
                &properties(&[("lastIndex", "number", "0", "")]),
            ),
            "/re/gi",
        ),
        (
            "HTMLDivElement",
            preview(
                "node",
                "div#a.x.y",
                true,
                &properties(&[("align", "string", "", "")]),
            ),
            "div#a.x.y",
        ),
        (
            "Object",
            preview(
                "proxy",
                "Proxy(Object)",
                false,
                &properties(&[("a", "number", "1", "")]),
            ),
            "Proxy(Object) {a: 1}",
        ),
        (
            "Promise",
            preview(
                "promise",
                "Promise",
                false,
                &properties(&[
                    ("[[PromiseState]]", "string", "fulfilled", ""),
                    ("[[PromiseResult]]", "number", "4", ""),
                ]),
            ),
            "Promise {<fulfilled>: 4}",
        ),
        (
            "Promise",
            preview(
                "promise",
                "Promise",
                false,
                &properties(&[
                    ("[[PromiseState]]", "string", "pending", ""),
                    ("[[PromiseResult]]", "undefined", "undefined", ""),
                ]),
            ),
            "Promise {<pending>}",
        ),
        (
            "String",
            preview(
                "",
                "String",
                false,
                &properties(&[("[[PrimitiveValue]]", "string", "boxed", "")]),
            ),
            "String {'boxed'}",
        ),
        (
            "Error",
            preview(
                "error",
                "Error: outer\n    at f (a.js:1:2)",
                false,
                &properties(&[
                    ("stack", "string", "Error: outer", ""),
                    ("message", "string", "outer", ""),
                    (
                        "cause",
                        "object",
                        "Error: inner\n    at g (a.js:1:9)",
                        "error",
                    ),
                ]),
            ),
            "Error: outer\n    at f (a.js:1:2)\nCaused by: Error: inner\n    at g (a.js:1:9)",
        ),
        (
            "AppError",
            preview(
                "error",
                "AppError: mine",
                false,
                &properties(&[
                    ("name", "string", "AppError", ""),
                    ("code", "number", "5", ""),
                    ("cause", "string", "why", ""),
                ]),
            ),
            "AppError: mine {code: 5}\nCaused by: why",
        ),
        (
            "DOMException",
            preview(
                "error",
                "AbortError: dd",
                false,
                &properties(&[
                    ("code", "number", "20", ""),
                    ("name", "string", "AbortError", ""),
                    ("message", "string", "dd", ""),
                ]),
            ),
            "AbortError: dd",
        ),
    ] {
        let emitted = logged(&json!([object(class, &preview)]));
        assert_eq!(
            (&emitted["text"], &emitted["args"][0]),
            (&json!(text), &json!(text))
        );
    }
}

#[test]
fn format_specifiers_are_replaced_in_the_text() {
    let string = |text: &str| json!({"type": "string", "value": text});
    let number = |text: &str| json!({"type": "number", "value": 42, "description": text});
    let user = object(
        "Object",
        &preview(
            "",
            "Object",
            false,
            &properties(&[("a", "number", "1", "")]),
        ),
    );
    for (args, text) in [
        (
            json!([
                string("%s is %d, %i, %f %c%% %o %O %x end"),
                string("Bo"),
                number("42"),
                number("42"),
                number("1.5"),
                string("color: red"),
                user,
                user,
                string("extra"),
                number("7")
            ]),
            "Bo is 42, 42, 1.5 % {a: 1} {a: 1} %x end extra 7",
        ),
        (json!([string("100% of %s"), string("é%s")]), "100% of é%s"),
        (json!([string("%s and %s"), string("one")]), "one and %s"),
        (json!([string("%s %")]), "%s %"),
        (json!([string("50%"), string("a")]), "50% a"),
        (json!([number("1"), string("%s"), string("a")]), "1 %s a"),
        (
            json!([string("http://%s/"), string("user:password@h")]),
            "http://*redacted*@h/",
        ),
    ] {
        let emitted = logged(&args);
        assert_eq!(emitted["text"], text);
    }
    let mut browser = tab(Options::default());
    for (args, text) in [
        (json!([string("console.assert")]), "Assertion failed"),
        (
            json!([string("as %s"), string("x")]),
            "Assertion failed: as x",
        ),
    ] {
        let call = json!({"type": "assert", "args": args, "timestamp": 1e15});
        browser.reports(Some("S"), "Runtime.consoleAPICalled", call);
        assert_eq!(browser.data("console_log")[0]["text"], text);
    }
}

#[test]
fn previews_are_bounded_and_without_secrets() {
    let mut browser = tab(Options {
        text_limit: 20,
        ..Options::default()
    });
    let long = "é".repeat(30);
    let logs = |browser: &mut Browser, preview: &Value| {
        let args = json!([object("Object", preview), object("Object", preview)]);
        let call = json!({"type": "log", "args": args, "timestamp": 1e15});
        browser.reports(Some("S"), "Runtime.consoleAPICalled", call);
        browser.data("console_log").remove(0)
    };
    for name in ["a", "ab", "abc", &long] {
        let emitted = logs(
            &mut browser,
            &preview(
                "",
                "Object",
                false,
                &properties(&[(name, "string", &long, "")]),
            ),
        );
        let args: usize = emitted["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap().len())
            .sum();
        assert!((19..=20).contains(&args), "{emitted}");
        assert!(emitted["text"].as_str().unwrap().len() <= 20, "{emitted}");
    }

    let redaction = tapline_cdp::Redaction::default()
        .with_json_fields(["password"])
        .with_query_parameters(["token"]);
    let mut browser = tab(Options {
        redaction: redaction.into(),
        ..Options::default()
    });
    // As the browser abbreviates them: 100 characters.
    let cut_in_userinfo = format!("http://joe:{}…{}", "x".repeat(39), "y".repeat(49));
    let cut_in_query = format!(
        "/?{}token={}…{}",
        "a&".repeat(14),
        "x".repeat(14),
        "y".repeat(49)
    );
    let properties = properties(&[
        ("password", "string", "SECRET", ""),
        ("Authorization", "object", "SECRET", ""),
        ("url", "string", "http://u:SECRET@h/", ""),
        ("one", "string", &cut_in_userinfo, ""),
        ("two", "string", &cut_in_query, ""),
        ("json", "string", r#"{"password":"SECRET"}"#, ""),
    ]);
    let emitted = logs(&mut browser, &preview("", "Object", false, &properties));
    let text = emitted["text"].as_str().unwrap();
    for secret in ["SECRET", "xxx", "yyy"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("password: *redacted*"), "{text}");

    // A preview that is no preview does not cost the line.
    for broken in [
        json!(5),
        json!({}),
        json!({"type": "object", "properties": 7}),
        json!({"type": "object", "subtype": "array", "description": "Array(99999999999999999999)"}),
    ] {
        let emitted = logs(&mut browser, &broken);
        assert_eq!(emitted["args"].as_array().unwrap().len(), 2, "{emitted}");
    }
    assert_eq!(browser.core.unreadable(), 0);
}

#[test]
fn exceptions_say_that_they_were_not_caught_and_rejections_may_be_taken_back() {
    let mut browser = tab(Options::default());
    let throws = |browser: &mut Browser, id: u64, text: &str, exception: Value| {
        let details = json!({"exceptionId": id, "text": text, "lineNumber": 1, "columnNumber": 19, "exception": exception, "executionContextId": 1});
        let thrown = json!({"timestamp": 1e15, "exceptionDetails": details});
        browser.reports(Some("S"), "Runtime.exceptionThrown", thrown);
        let emitted = browser.data("console_error").remove(0);
        assert_eq!(emitted["exception_id"], id);
        emitted["text"].as_str().unwrap().to_owned()
    };
    let code = object(
        "Object",
        &preview(
            "",
            "Object",
            false,
            &properties(&[("code", "number", "421131", "")]),
        ),
    );
    let string = json!({"type": "string", "value": "a string"});
    let error = json!({"type": "object", "subtype": "error", "description": "Error: e\n    at f"});
    for (text, exception, expected) in [
        ("Uncaught", code.clone(), "Uncaught {code: 421131}"),
        (
            "Uncaught (in promise)",
            code,
            "Uncaught (in promise) {code: 421131}",
        ),
        ("Uncaught", string.clone(), "Uncaught a string"),
        (
            "Uncaught",
            json!({"type": "undefined"}),
            "Uncaught undefined",
        ),
        ("Uncaught Error: e", error, "Uncaught Error: e\n    at f"),
        ("", string.clone(), "a string"),
    ] {
        assert_eq!(throws(&mut browser, 1, text, exception), expected);
    }

    let revokes = |browser: &mut Browser, id: u64| {
        let reason = "Handler added to rejected promise";
        let revoked = json!({"reason": reason, "exceptionId": id});
        browser.reports(Some("S"), "Runtime.exceptionRevoked", revoked);
        browser.data("console_log")
    };
    throws(&mut browser, 7, "Uncaught (in promise)", string);
    assert!(revokes(&mut browser, 6).is_empty(), "was not emitted");
    let emitted = revokes(&mut browser, 7).remove(0);
    assert_eq!(
        (
            &emitted["level"],
            &emitted["text"],
            &emitted["exception_id"]
        ),
        (
            &json!("revoked"),
            &json!("Handler added to rejected promise"),
            &json!(7)
        )
    );
    assert!(
        revokes(&mut browser, 7).is_empty(),
        "repeated by the browser"
    );
}
