//! Errors of request bodies: the code, the field, and a sentence that names it.

use tapline_oapi::{
    ConfigRequest, ErrorBody, ErrorCode, JsonError, PublishRequest, from_json, from_json_line,
};

fn publish(body: impl AsRef<[u8]>) -> JsonError {
    from_json::<PublishRequest>(body.as_ref()).unwrap_err()
}

fn config(body: impl AsRef<[u8]>) -> JsonError {
    from_json::<ConfigRequest>(body.as_ref()).unwrap_err()
}

#[track_caller]
fn check(error: &JsonError, code: ErrorCode, field: &str, message: &str) {
    assert_eq!(
        (error.code, error.field.as_deref()),
        (code, Some(field)),
        "{error}"
    );
    assert_eq!(error.to_string(), message);
    assert_eq!(ErrorBody::from(error), ErrorBody::new(code, message));
}

/// Some programs write it before UTF-8.
#[test]
fn a_byte_order_mark_is_passed_over() {
    let body = b"\xef\xbb\xbf{\"type\":\"page_load\"}";
    assert!(from_json::<PublishRequest>(body).is_ok());
    assert!(from_json_line::<PublishRequest>(body).is_ok());
}

#[test]
fn invalid_json_is_reported_as_such() {
    for body in [
        &b""[..],
        b"   ",
        b"{",
        b"hello",
        br#"{"type":"page_load"} x"#,
        br#"{"type":"page_load"}{}"#,
        br#"{"type":"page_load",}"#,
        br#"{"type":"page_load","data":[1,]}"#,
        br#"{"type":"page_load","data":NaN}"#,
        b"{\"type\":\"page\xff\"}",
        b"{\"type\":\"page_load\",\"data\":\"\xff\"}",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b"{\"type\":\"page\nload\"}",
    ] {
        let error = publish(body);
        let shown = String::from_utf8_lossy(body);
        assert_eq!(
            (error.code, error.field.as_deref()),
            (ErrorCode::InvalidJson, None),
            "{shown}: {error}"
        );
        assert!(
            error
                .to_string()
                .starts_with("the body is not valid JSON (line "),
            "{shown}: {error}"
        );
    }
}

#[test]
fn a_syntax_error_names_the_line_and_the_column() {
    let error = publish("{\n  \"type\": }");
    assert_eq!((error.line, error.column), (2, 11));
    assert_eq!(
        error.to_string(),
        "the body is not valid JSON (line 2, column 11): this is not a JSON value; a text needs double quotes"
    );
}

#[test]
fn syntax_errors_are_in_plain_words() {
    for (line, message) in [
        (
            r#"{"type":tru}"#,
            "not valid JSON (column 12): this is not a JSON value; a text needs double quotes",
        ),
        (
            r#"{"type":x}"#,
            "not valid JSON (column 9): this is not a JSON value; a text needs double quotes",
        ),
        (
            r#"{"type":"x",}"#,
            "not valid JSON (column 13): remove the comma before the closing bracket",
        ),
        (
            r#"{"type":"x"} y"#,
            "not valid JSON (column 14): remove the text after the end of the object",
        ),
        (
            r#"{type:"x"}"#,
            "not valid JSON (column 2): the name of a field must be in double quotes",
        ),
        (
            r#"{"type":"x"#,
            "not valid JSON (column 10): it ends inside a string",
        ),
        (
            r#"{"type":"\x"}"#,
            "not valid JSON (column 11): a `\\` in a string begins an unknown escape; write `\\\\` for the character itself",
        ),
        (
            "",
            "not valid JSON (column 0): it ends where a value is expected",
        ),
    ] {
        let error = from_json_line::<PublishRequest>(line.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{line}");
    }
}

#[test]
fn a_missing_field_is_named() {
    check(
        &publish("{}"),
        ErrorCode::MissingField,
        "type",
        "field `type`: missing",
    );
    check(
        &publish(r#"{"type":"x","source":{}}"#),
        ErrorCode::MissingField,
        "source.kind",
        "field `source.kind`: missing",
    );
}

#[test]
fn an_unknown_field_is_named() {
    check(
        &publish(r#"{"type":"x","categroy":"page"}"#),
        ErrorCode::UnknownField,
        "categroy",
        "field `categroy`: unknown field, expected one of `ts`, `type`, `category`, `source`, `data`, `truncated`",
    );
    check(
        &publish(r#"{"type":"x","source":{"kind":"cdp","a`, expected b":1}}"#),
        ErrorCode::UnknownField,
        "source.a`, expected b",
        "field `source.a`, expected b`: unknown field, expected one of `kind`, `event`, `metadata`",
    );
    check(
        &config(r#"{"browser":{"console":{"enable":true}}}"#),
        ErrorCode::UnknownField,
        "browser.console.enable",
        "field `browser.console.enable`: unknown field, expected `enabled`",
    );
    assert_eq!(
        config(r#"{"browser":{"consol":{}}}"#).field.as_deref(),
        Some("browser.consol")
    );
    assert_eq!(
        config(r#"{"brwoser":{}}"#).field.as_deref(),
        Some("brwoser")
    );
}

#[test]
fn a_field_with_an_invalid_value_is_named() {
    let invalid = ErrorCode::InvalidField;
    let ts = "expected Unix microseconds from 0 to 9223372036854775807";
    check(
        &publish(r#"{"type":"x","ts":-1}"#),
        invalid,
        "ts",
        &format!("field `ts`: {ts}, found the number `-1`"),
    );
    check(
        &publish(r#"{"type":"x","ts":9223372036854775808}"#),
        invalid,
        "ts",
        &format!("field `ts`: {ts}, found the number `9223372036854775808`"),
    );
    check(
        &publish(r#"{"type":"x","ts":1.5}"#),
        invalid,
        "ts",
        &format!("field `ts`: {ts}, found the number `1.5`"),
    );
    check(
        &publish(r#"{"type":"x","ts":"now"}"#),
        invalid,
        "ts",
        &format!("field `ts`: {ts}, found the text \"now\""),
    );
    check(
        &publish(r#"{"type":"x","source":{"kind":"x"}}"#),
        invalid,
        "source.kind",
        "field `source.kind`: unknown value `x`, expected one of `cdp`, `kernel_api`, `extension`, `local_process`",
    );
    check(
        &publish(r#"{"type":"x","source":{"kind":"cdp","metadata":{"n":1}}}"#),
        invalid,
        "source.metadata.n",
        "field `source.metadata.n`: expected a string, found the number `1`",
    );
    check(
        &config(r#"{"browser":{"page":{"enabled":"yes"}}}"#),
        invalid,
        "browser.page.enabled",
        "field `browser.page.enabled`: expected true or false, found the text \"yes\"",
    );
    for body in [r#"{"type":"\ud800"}"#, r#"{"type":"\ud800x"}"#] {
        check(
            &publish(body),
            invalid,
            "type",
            "field `type`: a `\\u` escape in a string is half of a pair; write both halves, or the character itself",
        );
    }
    check(
        &publish(r#"{"type":"x","type":"y"}"#),
        invalid,
        "type",
        "field `type`: given twice",
    );
    check(
        &publish(r#"{"type":null}"#),
        invalid,
        "type",
        "field `type`: expected a string, found null",
    );
}

/// Serde accepts an array as a struct, so that `[]` would have started a session.
#[test]
fn an_array_is_not_accepted_as_an_object_at_any_depth() {
    for body in ["[]", "[null]", "7", "\"x\"", "null", "true"] {
        let error = config(body);
        assert_eq!(
            (error.code, error.field.as_deref()),
            (ErrorCode::InvalidField, None),
            "{body}"
        );
        assert!(
            error
                .to_string()
                .starts_with("the body: expected an object, found "),
            "{error}"
        );
    }
    for (error, field) in [
        (config(r#"{"browser":[]}"#), "browser"),
        (config(r#"{"browser":{"page":[true]}}"#), "browser.page"),
        (config(r#"{"storage":[true]}"#), "storage"),
        (config(r#"{"export":{"otlp":[true]}}"#), "export.otlp"),
        (
            config(r#"{"export":{"otlp":{"destination":[null,null]}}}"#),
            "export.otlp.destination",
        ),
        (publish(r#"{"type":"x","source":["cdp"]}"#), "source"),
    ] {
        assert_eq!(
            (error.code, error.field.as_deref()),
            (ErrorCode::InvalidField, Some(field)),
            "{error}"
        );
    }
}

#[test]
fn the_path_is_right_after_data_was_read() {
    let error = publish(r#"{"data":{"a":[1,{"b":null}]},"type":"x","source":{"kind":"x"}}"#);
    assert_eq!(error.field.as_deref(), Some("source.kind"));
}

#[test]
fn an_answer_does_not_grow_with_the_request() {
    let long = "ä".repeat(100_000);
    for body in [
        format!(r#"{{"type":"x","category":"{long}"}}"#),
        format!(r#"{{"type":"x","{long}":1}}"#),
        format!(r#"{{"type":"x","ts":"{long}"}}"#),
        format!(r#"{{"type":"x","source":{{"kind":"cdp","metadata":{{"{long}":1}}}}}}"#),
    ] {
        let message = publish(body).to_string();
        assert!(message.len() < 2_000, "{} bytes", message.len());
    }
}

#[test]
fn deep_nesting_overflows_nothing() {
    for depth in [200, 100_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // `data` is only passed through, and that needs no stack.
        let request: PublishRequest =
            from_json(format!(r#"{{"type":"x","data":{deep}}}"#).as_bytes()).unwrap();
        assert_eq!(request.data.unwrap().get(), deep);
        // Elsewhere there is nothing that could be deep.
        assert_eq!(
            publish(format!(r#"{{"type":"x","source":{deep}}}"#))
                .field
                .as_deref(),
            Some("source")
        );
        assert_eq!(config(&deep).field, None);
    }
}
