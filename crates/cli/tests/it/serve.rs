use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::program::{Running, Server, run, tapline};

#[test]
fn a_signal_stops_it_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start();
        server.running.signal(signal);
        let said = server.running.end();
        assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start();
    // A reader that takes nothing, and far more for it than sockets hold: stopping would wait for it.
    let mut reader = TcpStream::connect(server.address()).unwrap();
    let address = server.address();
    write!(
        reader,
        "GET /telemetry/stream HTTP/1.1\r\nhost: {address}\r\n\r\n"
    )
    .unwrap();
    reader.read_exact(&mut [0; 12]).unwrap();
    let event = format!(
        "{{\"type\":\"x\",\"category\":\"page\",\"data\":\"{}\"}}\n",
        "x".repeat(900_000)
    );
    assert_eq!(server.publish_lines(&event.repeat(30)).code, Some(0));

    server.running.signal(Signal::TERM);
    server.running.err_line_with("stopping");
    server.running.signal(Signal::TERM);
    assert_eq!(server.running.end().code, Some(1));
}

#[test]
fn without_start_everything_is_filtered_until_a_session_begins() {
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0"]);
    let said = run(&["publish", "--url", &server.url, "--type", "page_load"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""));
    assert!(said.err.starts_with("tapline: filtered"), "{said:?}");
}

#[test]
fn a_flag_can_come_from_the_environment() {
    let mut command = tapline(&["serve"]);
    command
        .env("TAPLINE_LISTEN", "127.0.0.1:0")
        .env("TAPLINE_START", "1");
    let mut running = Running::start(command);
    let url = running.line().replace("listening on ", "");
    let mut command = tapline(&["publish", "--type", "page_load"]);
    command.env("TAPLINE_URL", url);
    let said = Running::start(command).end();
    assert!(said.out.starts_with("{\"seq\":1,"), "{said:?}");
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let server = Server::start();
    let address = server.address();
    let said = run(&["serve", "--listen", address]);
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.err,
        format!("tapline: cannot listen on {address}: Address already in use (os error 98)\n")
    );
    assert_eq!(said.out, "");
}

#[test]
fn wrong_values_are_wrong_usage_and_name_the_flag() {
    let check = |flag: &str, value: &str| {
        // Where the value were right, the free port would be taken and the deadline tell.
        let mut args = vec!["serve", flag, value];
        if flag != "--listen" {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        let said = run(&args);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(flag), "{said:?}");
    };
    check("--capacity", "0");
    check("--capacity", "many");
    check("--capacity", "9999999G");
    check("--listen", "10001");
    check("--listen", "0.0.0.0:0");
    check("--log", "x=y=z");
}
