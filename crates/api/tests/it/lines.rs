//! Many events at once: NDJSON.

use tapline_api::Backend as _;
use tapline_oapi::BatchResult;

use crate::{idle, request, running};

const GOOD: &str = r#"{"type":"page_load"}"#;

/// `published/filtered/refused`, how many lines there were, and each error as `line code`.
#[track_caller]
fn check(body: impl AsRef<[u8]>, counts: (u64, u64, u64), lines: u64, errors: &[&str]) {
    let api = running(1024);
    crate::ready(api.put(&request(
        r#"{"browser":{"page":{"enabled":true},"console":{"enabled":false}}}"#,
    )))
    .unwrap();
    let mut result = BatchResult::default();
    assert_eq!(
        api.publish_lines(body.as_ref(), 1, None, &mut result),
        lines
    );
    assert_eq!(
        (result.published, result.filtered, result.refused),
        counts,
        "{result:?}"
    );
    let listed: Vec<_> = result
        .errors
        .iter()
        .map(|error| format!("{} {}", error.line, error.code))
        .collect();
    assert_eq!(listed, errors);
    let seqs = (counts.0 > 0).then_some((1, counts.0));
    assert_eq!(result.first_seq.zip(result.last_seq), seqs);
    assert_eq!(api.retained().head, counts.0);
}

#[test]
fn a_line_ends_with_a_line_break_or_the_body() {
    check(GOOD, (1, 0, 0), 1, &[]);
    check(format!("{GOOD}\n"), (1, 0, 0), 1, &[]);
    check(format!("{GOOD}\n{GOOD}"), (2, 0, 0), 2, &[]);
    check(format!("{GOOD}\r\n{GOOD}\r\n"), (2, 0, 0), 2, &[]);
    // A bare carriage return ends no line, and two values are not one.
    check(format!("{GOOD}\r{GOOD}"), (0, 0, 1), 1, &["1 invalid_json"]);
}

#[test]
fn a_blank_line_has_a_number_and_counts_for_nothing() {
    check("", (0, 0, 0), 1, &[]);
    check("\n", (0, 0, 0), 1, &[]);
    check("\n\r\n \t\n", (0, 0, 0), 3, &[]);
    check(
        format!("\n{GOOD}\n\r\n  \nbad\n"),
        (1, 0, 1),
        5,
        &["5 invalid_json"],
    );
}

#[test]
fn a_bad_line_loses_no_good_one() {
    check(
        format!("bad\n{GOOD}\n{{\"type\":\n{GOOD}\n[]\n{GOOD}"),
        (3, 0, 3),
        6,
        &["1 invalid_json", "3 invalid_json", "5 invalid_field"],
    );
    check(
        [
            GOOD.as_bytes(),
            b"\n\"\xff\"\n{\"type\":\"\xff\"}\n",
            GOOD.as_bytes(),
        ]
        .concat(),
        (2, 0, 2),
        4,
        &["2 invalid_json", "3 invalid_json"],
    );
    check(
        format!(
            concat!(
                "{{\"type\":\"\"}}\n{{\"type\":\"mine\"}}\n{{\"typ\":\"x\"}}\n",
                "{{\"type\":\"page_load\",\"source\":{{\"kind\":\"kernel_api\"}}}}\n",
                "{{\"type\":\"console_log\"}}\n{}\n"
            ),
            GOOD
        ),
        (1, 1, 4),
        6,
        &[
            "1 invalid_field",
            "2 missing_field",
            "3 unknown_field",
            "4 reserved_source",
        ],
    );
}

#[test]
fn a_hundred_errors_are_listed_and_more_are_counted() {
    let body = format!("bad\n{GOOD}\n").repeat(150);
    let api = running(1024);
    let mut result = BatchResult::default();
    assert_eq!(
        api.publish_lines(body.as_bytes(), 1, None, &mut result),
        300
    );
    assert_eq!((result.published, result.refused), (150, 150));
    let lines: Vec<_> = result.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, (0..100).map(|n| 2 * n + 1).collect::<Vec<_>>());
}

/// A long body goes in piece by piece, and says the same as in one piece.
#[test]
fn pieces_add_up() {
    let pieces = [
        format!("{GOOD}\nbad\n"),
        "\n".to_owned(),
        format!("{GOOD}\r\n\n"),
        format!("bad\n{GOOD}"),
    ];
    let (whole, pieced) = (running(64), running(64));
    let (mut expected, mut result) = (BatchResult::default(), BatchResult::default());
    let lines = whole.publish_lines(pieces.concat().as_bytes(), 1, None, &mut expected);
    let mut line = 1;
    for piece in &pieces {
        line += pieced.publish_lines(piece.as_bytes(), line, None, &mut result);
    }
    assert_eq!(result, expected);
    assert_eq!((line - 1, lines), (7, 7));
    let errors: Vec<_> = result.errors.iter().map(|error| error.line).collect();
    assert_eq!(errors, [2, 6]);
    assert_eq!((result.first_seq, result.last_seq), (Some(1), Some(3)));
}

#[test]
fn without_a_session_all_good_lines_are_filtered() {
    let api = idle();
    let mut result = BatchResult::default();
    let body = format!("{GOOD}\nbad\n{GOOD}\n");
    api.publish_lines(body.as_bytes(), 1, None, &mut result);
    assert_eq!(
        (result.published, result.filtered, result.refused),
        (0, 2, 1)
    );
    assert_eq!((result.first_seq, result.last_seq), (None, None));
}

#[test]
fn a_message_speaks_of_the_line_and_not_of_the_body() {
    let mut result = BatchResult::default();
    running(8).publish_lines(b"{\"type\":\"page_load\"}\nnope\n", 1, None, &mut result);
    let error = &result.errors[0];
    assert_eq!(error.line, 2);
    assert_eq!(
        error.message,
        "not valid JSON (column 2): this is not a JSON value; a text needs double quotes"
    );
}
