//! `tapline export`, from a server and from files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::program::{Directory, Said, Server, dead_url, run};

/// What a browser did, as events without seqs.
const TOUR: &str = include_str!("../../../cdp/tests/golden/tour.ndjson");

fn json(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

fn file(directory: &Directory, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.path(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_server_is_exported_in_each_format_over_several_pages() {
    let server = Server::start();
    let said = server.publish_lines(TOUR);
    assert_eq!(said.code, Some(0), "{said:?}");
    // More than a page has.
    server.publish_steps(2_500);

    let har = json(&run(&["export", "--url", &server.url]));
    let entries = har["log"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 49);
    assert_eq!(har["log"]["_tapline"]["lost"], 0);
    assert_eq!(har["log"]["_tapline"]["sanitized"], true);

    let trace = json(&run(&["export", "--url", &server.url, "--format", "trace"]));
    assert!(trace["traceEvents"].as_array().unwrap().len() > 2_500);

    let lines = run(&["export", "--url", &server.url, "--format", "ndjson"]);
    let events = TOUR.lines().count() + 2_500;
    assert_eq!(lines.out.lines().count(), events);
    assert!(
        lines.err.contains(&format!("exported: {events} events")),
        "{lines:?}"
    );

    let only = [
        "export",
        "--url",
        &server.url,
        "--format",
        "ndjson",
        "--type",
        "network_*",
    ];
    let said = run(&only);
    assert_eq!(
        said.out.lines().count(),
        TOUR.matches(r#""type":"network_"#).count()
    );
}

#[test]
fn what_a_server_lost_is_in_the_file_and_in_the_report() {
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--capacity",
        "64",
    ]);
    let said = server.publish_lines(TOUR);
    assert_eq!(said.code, Some(0), "{said:?}");
    // The cursor asks for everything, so what is gone is a loss.
    let said = run(&["export", "--url", &server.url, "--since", "9000d"]);
    let har = json(&said);
    let lost = har["log"]["_tapline"]["lost"].as_u64().unwrap();
    assert_eq!(
        lost + har["log"]["_tapline"]["events"].as_u64().unwrap(),
        203
    );
    assert!(said.err.contains(&format!("{lost} lost")), "{said:?}");
}

#[test]
fn a_file_is_exported_plain_and_compressed_and_the_result_is_the_same() {
    let directory = Directory::new("export-same");
    let plain = file(&directory, "tour.ndjson", TOUR);
    let compressed = zstd::encode_all(TOUR.as_bytes(), 1).unwrap();
    // As in an archive: a skippable frame, and the file in two frames. The name does not matter.
    let mut segment = vec![0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];
    segment.extend(&compressed);
    let segment = file(&directory, "segment", segment);
    let one = json(&run(&["export", &plain]));
    assert_eq!(one["log"]["entries"].as_array().unwrap().len(), 49);
    assert_eq!(json(&run(&["export", &segment])), one);
}

#[test]
fn a_file_that_was_cut_is_exported_as_far_as_it_goes_and_this_is_said() {
    let directory = Directory::new("export-cut");
    let compressed = zstd::encode_all(TOUR.as_bytes(), 1).unwrap();
    let cut = file(
        &directory,
        "cut.ndjson.zst",
        &compressed[..compressed.len() - 100],
    );
    let said = run(&["export", &cut]);
    assert!(!json(&said)["log"]["entries"].as_array().unwrap().is_empty());
    assert!(
        said.err.contains("the rest of the file could not be read"),
        "{said:?}"
    );

    let mut lines: Vec<_> = TOUR.lines().collect();
    lines.insert(5, "{not an event");
    let wrong = file(&directory, "wrong.ndjson", lines.join("\n"));
    let said = run(&["export", &wrong]);
    assert_eq!(json(&said)["log"]["entries"].as_array().unwrap().len(), 49);
    assert!(
        said.err
            .contains("1 line without an event (the first is line 6)"),
        "{said:?}"
    );
}

#[test]
fn the_name_of_the_output_says_the_format_and_nothing_is_replaced() {
    let directory = Directory::new("export-name");
    let tour = file(&directory, "tour.ndjson", TOUR);
    let out = directory.path("tour.trace.json");
    let said = run(&["export", &tour, "--out", &out]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    let written = fs::read_to_string(&out).unwrap();
    assert!(written.contains("traceEvents"));
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let said = run(&["export", &tour, "--out", &out]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("tour.trace.json (--out): "), "{said:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), written);
}

#[test]
fn a_failed_export_leaves_no_file() {
    let directory = Directory::new("export-failed");
    let out = directory.path("x.har");
    let said = run(&["export", "--url", &dead_url(), "--out", &out]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("cannot reach"), "{said:?}");
    assert_eq!(directory.files(), Vec::<String>::new());
}

#[test]
fn secrets_are_removed_unless_they_are_asked_for() {
    let directory = Directory::new("export-secrets");
    let event = r#"{"ts":1,"type":"network_request","category":"network","data":{"request_id":"1","url":"http://h/?token=s3cret&customer=ann","method":"GET","headers":{"Cookie":"a=s3cret"},"document_url":"","initiator_type":""}}"#;
    let path = file(&directory, "one.ndjson", event);
    let said = run(&["export", &path]);
    assert!(
        !said.out.contains("s3cret") && said.out.contains("customer=ann"),
        "{said:?}"
    );
    assert!(said.err.contains("sanitised"), "{said:?}");
    let said = run(&["export", &path, "--redact", "customer"]);
    assert!(!said.out.contains("customer=ann"), "{said:?}");
    let said = run(&["export", &path, "--with-secrets"]);
    assert!(
        said.out.contains("token=s3cret") && said.out.contains("a=s3cret"),
        "{said:?}"
    );
    assert!(said.err.contains("SECRETS INCLUDED"), "{said:?}");
}

#[test]
fn wrong_usage_and_wrong_files_name_the_fix() {
    let directory = Directory::new("export-wrong");
    let said = run(&["export", "--since", "yesterday"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err
            .contains("--since: `yesterday` is neither RFC 3339"),
        "{said:?}"
    );
    let picture = file(&directory, "picture.png", [0x89, b'P', b'N', b'G', 0, 1, 2]);
    let said = run(&["export", &picture]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err
            .contains("line 1: expected an event or an envelope"),
        "{said:?}"
    );
    let said = run(&["export", "/does/not/exist"]);
    assert!(said.err.contains("cannot read /does/not/exist"), "{said:?}");
}
