//! `tapline view` and `tapline export --format html`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Directory, Server, run};

const TOUR: &str = include_str!("../../../cdp/tests/golden/tour.ndjson");

/// The events and what they were joined to, as the page has them.
fn bundle(html: &str) -> Value {
    let (_, rest) = html
        .split_once("<script type=\"application/json\" id=\"bundle\">")
        .unwrap();
    let (bundle, rest) = rest.split_once("</script>").unwrap();
    assert!(rest.contains("<script type=\"module\">"));
    assert!(html.trim_end().ends_with("</html>"));
    serde_json::from_str(bundle).unwrap()
}

/// What the server of a file answers.
fn page_of(server: &Server) -> String {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let asked = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    socket.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, html) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    html.to_owned()
}

#[test]
fn a_file_is_shown_on_a_loopback_port_until_it_is_stopped() {
    let directory = Directory::new("view");
    let path = directory.path("tour.ndjson.zst");
    fs::write(&path, zstd::encode_all(TOUR.as_bytes(), 1).unwrap()).unwrap();
    let server = Server::with(&["view", &path]);
    let html = page_of(&server);
    let bundle = bundle(&html);
    assert_eq!(bundle["name"], "tour.ndjson.zst");
    let events = TOUR.lines().count();
    assert_eq!(bundle["events"].as_array().unwrap().len(), events);
    server.running.signal(Signal::INT);
    let said = server.running.end();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains(&format!("{events} events")), "{said:?}");
}

#[test]
fn a_file_is_shown_to_this_machine_alone_and_only_if_it_has_events() {
    let directory = Directory::new("view-wrong");
    let path = directory.path("tour.ndjson");
    fs::write(&path, TOUR).unwrap();
    let said = run(&["view", &path, "--listen", "0.0.0.0:0"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err
            .contains("tapline: --listen 0.0.0.0:0 is not a loopback address, and "),
        "{said:?}"
    );
    fs::write(&path, "hello\n").unwrap();
    let said = run(&["view", &path]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("line 1: expected an event"), "{said:?}");
}

#[test]
fn a_har_is_shown_and_other_commands_say_what_it_is() {
    let directory = Directory::new("view-har");
    let (events, har) = (directory.path("tour.ndjson"), directory.path("tour.har"));
    fs::write(&events, TOUR).unwrap();
    let said = run(&["export", &events, "--out", &har]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let server = Server::with(&["view", &har]);
    let html = page_of(&server);
    let bundle = bundle(&html);
    assert_eq!(bundle["events"].as_array().unwrap().len(), 0);
    assert_eq!(bundle["har"]["is_ours"], true);
    assert!(!bundle["requests"].as_array().unwrap().is_empty());
    server.running.signal(Signal::INT);
    let said = server.running.end();
    assert!(said.err.contains("it has no events"), "{said:?}");

    // 1 means that there are problems.
    let said = run(&["why", &har]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("open it with `tapline view"), "{said:?}");
}

#[test]
fn an_export_as_html_is_one_file_with_everything_and_sanitised() {
    let directory = Directory::new("view-html");
    let path = directory.path("tour.ndjson");
    fs::write(&path, TOUR).unwrap();
    let out = directory.path("tour.html");
    let said = run(&["export", &path, "--out", &out]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("sanitised"), "{said:?}");
    let html = fs::read_to_string(&out).unwrap();
    let bundle = bundle(&html);
    let events = bundle["events"].as_array().unwrap().len();
    assert_eq!(events, TOUR.lines().count());
    for kind in ["requests", "navigations", "problems"] {
        assert!(!bundle[kind].as_array().unwrap().is_empty(), "{kind}");
    }
}
