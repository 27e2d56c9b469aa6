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
fn a_port_in_use_is_one_line_with_the_flag_the_address_and_the_fix() {
    let server = Server::start();
    let address = server.address();
    let said = run(&["serve", "--listen", address]);
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.err,
        format!(
            "tapline: cannot listen on {address} (--listen): Address already in use (os error 98); \
             pass another port, or --listen 127.0.0.1:0 for a free one\n"
        )
    );
    assert_eq!(said.out, "");
}

#[test]
fn a_port_alone_and_localhost_are_on_loopback() {
    for listen in [":0", "localhost:0"] {
        let server = Server::with(&["serve", "--listen", listen]);
        assert!(
            server.url.starts_with("http://127.0.0.1:"),
            "{}",
            server.url
        );
    }
}

#[test]
fn wrong_values_are_wrong_usage_and_name_the_flag() {
    let check = |flag: &str, value: &str| {
        // If the value were accepted, the server would start on a free port, and the deadline would fail.
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
    check("--category-log", "many");
    check("--category-log", "9999999G");
    check("--listen", "10001");
    check("--listen", "example.org:1");
    check("--log", "x=y=z");
    check("--log", "inof");
    check("--log", "info,tapline_server");
    check("--log", "");
    check("--max-connections", "0");
    check("--max-connections-per-address", "1.5");
    check("--max-streams", "all");
    check("--max-requests-per-connection", "0");
    check("--max-body", "0");
    check("--max-headers", "8TiB");
    check("--stream-buffer", "0");
    check("--header-timeout", "10");
    check("--body-timeout", "0s");
    check("--idle-timeout", "soon");
    check("--stall-timeout", "1.5s");
    check("--reconnect-window", "10");
    check("--shutdown-timeout", "9000h");
}

/// A shell lowers the limits before it becomes the program.
#[test]
fn limits_fit_into_the_files_that_may_be_open() {
    let with = |ulimit: &str, args: &[&str]| {
        let program = tapline(&[]);
        let mut command = std::process::Command::new("sh");
        let program = program.get_program().to_str().unwrap();
        command
            .args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")])
            .arg(program)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut running = Running::start(command);
        let line = running.line();
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        let server = Server { running, url };
        let id = server.running.id();
        let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = files.unwrap().split_whitespace().nth(3).unwrap().to_owned();
        server.running.signal(Signal::TERM);
        (soft, server.running.end().err)
    };
    // The soft limit is raised, and what fits is left as it is.
    let (soft, said) = with("-Sn 200 && ulimit -Hn 400", &["--max-connections", "200"]);
    assert_eq!(soft, "400");
    assert!(!said.contains("--max-connections"), "{said}");

    let (soft, said) = with("-n 400", &[]);
    assert_eq!(soft, "400");
    assert!(
        said.contains("only 400 files may be open")
            && said.contains("--max-connections is 272, --max-streams is 263"),
        "{said}"
    );
}

#[test]
fn the_limits_that_are_set_hold() {
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--max-body",
        "1KiB",
        "--max-streams",
        "1",
        "--header-timeout",
        "100ms",
    ]);
    let lines = "{\"type\":\"page_load\"}\n".repeat(100);
    let said = server.publish_lines(&lines);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("413"), "{said:?}");

    let ask = |request: &[u8]| {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.write_all(request).unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).unwrap();
        (String::from_utf8(status.to_vec()).unwrap(), socket)
    };
    let stream = b"GET /telemetry/stream HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (status, _first) = ask(stream);
    assert_eq!(status, "HTTP/1.1 200");
    assert_eq!(ask(stream).0, "HTTP/1.1 503");
    assert_eq!(ask(b"GET / HTTP/1.1\r\nhost:").0, "HTTP/1.1 408");
}
