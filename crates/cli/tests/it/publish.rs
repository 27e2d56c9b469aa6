use crate::program::{Directory, Running, Server, dead_url, run, tapline};

#[test]
fn one_event_comes_back_in_its_envelope() {
    let server = Server::start();
    let said = run(&[
        "publish",
        "--url",
        &server.url,
        "--type",
        "checkout_done",
        "--category",
        "page",
        "--ts",
        "1795349358733796",
        "--data",
        "{\"n\": 1.50e+3}",
        "--source-kind",
        "extension",
        "--source-event",
        "basket.paid",
        "--meta",
        "order=17",
        "--meta",
        "note=a=b, c",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let (start, rest) = said.out.split_once("\"telemetry_session_id\":\"").unwrap();
    assert_eq!(
        start,
        concat!(
            r#"{"seq":1,"event":{"ts":1795349358733796,"type":"checkout_done","category":"page","#,
            r#""source":{"kind":"extension","event":"basket.paid","#,
            r#""metadata":{"note":"a=b, c","order":"17","#,
        )
    );
    assert!(
        rest.ends_with("\"}},\"data\":{\"n\": 1.50e+3}}}\n"),
        "{rest}"
    );
}

#[test]
fn what_the_server_refuses_is_one_clear_line() {
    let server = Server::start();
    let said = run(&["publish", "--url", &server.url, "--type", "mine"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .starts_with("tapline: the server refused with status 400: field `category`")
    );
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}

#[test]
fn wrong_usage_is_reported_before_anything_is_sent() {
    for args in [
        &["publish"][..],
        &["publish", "--type", "x", "--file", "-"],
        &["publish", "--file", "-", "--data", "1"],
        &["publish", "--type", "x", "--category", "bogus"],
        &["publish", "--type", "x", "--data", "{x"],
        &["publish", "--type", "x", "--meta", "x"],
        &["publish", "--file", "-", "--batch-bytes", "9MiB"],
        &["publish", "--type", "x", "--url", "localhost:1"],
    ] {
        let said = run(args);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
    }
}

#[test]
fn data_that_is_no_json_is_reported_with_its_place_and_an_example() {
    let check = |data: &str, what: &str| {
        let said = run(&["publish", "--type", "mine", "--data", data]);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
        let example =
            r#"write for example --data '{"total":12.5}', or --data '"text"' for a string"#;
        assert_eq!(
            said.err.lines().next().unwrap(),
            format!("tapline: --data is not valid JSON: {what}; {example}")
        );
    };
    check("hello", "unexpected `hello` at column 1");
    check("{total: 1}", "unexpected `total: 1}` at column 2");
    check("{\"a\": 1} x", "unexpected `x` at column 10");
    check("{\"a\": [1", "it ends too early at column 8");
    check("", "it ends too early at column 0");
    check("{\n'a': 1}", "unexpected `'a': 1}` at line 2, column 1");
    check("{ü: 1}", "unexpected `ü: 1}` at column 2");
}

#[test]
fn refused_lines_are_reported_by_their_number_in_the_whole_input() {
    let server = Server::start();
    let directory = Directory::new("refused");
    let path = directory.path("events.ndjson");
    let good = "{\"type\":\"page_load\"}";
    let lines = [good, "nope", "", good, good, "{\"type\":\"mine\"}", good];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let said = run(&[
        "publish",
        "--url",
        &server.url,
        "--file",
        &path,
        "--batch-lines",
        "2",
    ]);

    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.out,
        "published 4 (seq 1 to 4), filtered 0, refused 2\n"
    );
    let err: Vec<_> = said.err.lines().collect();
    assert_eq!(err.len(), 3, "{err:?}");
    assert!(
        err[0].starts_with("tapline: line 2: ") && err[0].ends_with("(invalid_json)"),
        "{err:?}"
    );
    assert!(
        err[1].starts_with("tapline: line 6: ") && err[1].ends_with("(missing_field)"),
        "{err:?}"
    );
    assert_eq!(err[2], "tapline: 2 of the lines were refused");
}

#[test]
fn a_batch_reports_a_hundred_lines_and_counts_the_rest() {
    let server = Server::start();
    let said = server.publish_lines(&"nope\n".repeat(130));
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(1), "published 0, filtered 0, refused 130\n")
    );
    let err: Vec<_> = said.err.lines().collect();
    assert!(err[99].starts_with("tapline: line 100: "), "{err:?}");
    assert_eq!(err[100], "tapline: 30 more of lines 1 to 130 were refused");
}

#[test]
fn what_is_filtered_is_no_failure_and_the_reason_is_said() {
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0"]);
    let said = server.publish_lines("{\"type\":\"page_load\"}\n");
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "published 0, filtered 1, refused 0\n")
    );
    let reason = "no session is running, so nothing is captured; start one with `tapline start`\n";
    assert_eq!(said.err, format!("tapline: 1 filtered: {reason}"));
    let publish = || run(&["publish", "--url", &server.url, "--type", "page_load"]);
    let said = publish();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(said.err, format!("tapline: filtered: {reason}"));

    let started = run(&["start", "--url", &server.url, "--category", "console"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let said = publish();
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    let reason = "the session captures console now; `tapline start` changes that\n";
    assert_eq!(said.err, format!("tapline: filtered: {reason}"));
}

#[test]
fn much_input_goes_through_whole() {
    let server = Server::start();
    let said = server.publish_lines(&"{\"type\":\"page_load\"}\n".repeat(20_000));
    assert_eq!(
        said.out, "published 20000 (seq 1 to 20000), filtered 0, refused 0\n",
        "{said:?}"
    );
}

#[test]
fn what_trickles_in_is_published_before_the_input_ends() {
    use std::io::Write as _;
    use std::process::Stdio;

    let server = Server::start();
    let mut command = tapline(&["publish", "--url", &server.url, "--file", "-"]);
    command.stdin(Stdio::piped());
    let (publisher, stdin, _stdout) = Running::start_with_pipes(command);
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"{\"type\":\"page_load\"}\n").unwrap();
    let mut tail = Running::start(server.tail(&["--json"]));
    assert!(tail.line().starts_with("{\"seq\":1,"));
    drop(stdin);
    assert_eq!(publisher.end().code, Some(0));
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let server = Server::start();
    let directory = Directory::new("unreadable");
    let missing = directory.path("missing");
    let said = run(&["publish", "--url", &server.url, "--file", &missing]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let reason = "No such file or directory (os error 2)";
    assert_eq!(
        said.err,
        format!("tapline: cannot read {missing}: {reason}\n")
    );

    let said = run(&[
        "publish",
        "--url",
        &server.url,
        "--file",
        &directory.path("."),
    ]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("Is a directory"), "{said:?}");
}

#[test]
fn without_a_server_one_line_says_how_to_start_or_name_one() {
    let url = dead_url();
    let said = run(&["publish", "--url", &url, "--type", "page_load"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let reason = "Connection refused (os error 111); start a server with `tapline serve`, or pass the \
                  address of a running one with --url";
    assert_eq!(said.err, format!("tapline: cannot reach {url}: {reason}\n"));

    let directory = Directory::new("dead");
    let path = directory.path("events.ndjson");
    std::fs::write(&path, "{}\n{}\n").unwrap();
    let said = run(&["publish", "--url", &url, "--file", &path]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    let what = "tapline: lines 1 to 2 were not taken";
    assert_eq!(said.err, format!("{what}: cannot reach {url}: {reason}\n"));
}
