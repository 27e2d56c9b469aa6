//! Access control: tokens from files and from the environment, TLS, and the addresses to listen on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::program::{Directory, Running, Server, run, tapline};

const TOKEN: &str = "correct-horse-battery-staple";

/// A directory with the token in `token`, which its owner alone can read.
fn secret(name: &str) -> (Directory, String) {
    let directory = Directory::new(name);
    let file = directory.path("token");
    write_secret(&file, &format!("{TOKEN}\n"));
    (directory, file)
}

fn write_secret(path: &str, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// The status of `GET` of `path`, with these headers.
fn status(server: &Server, path: &str, headers: &str) -> u16 {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_token_in_a_file_is_asked_for_and_shown() {
    let (_directory, file) = secret("file");
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--token-file",
        &file,
    ]);
    assert_eq!(status(&server, "/telemetry", ""), 401);
    assert_eq!(status(&server, "/healthz", ""), 200);
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(status(&server, "/telemetry", &right), 200);

    let publish = ["publish", "--url", &server.url, "--type", "page_load"];
    let said = run(&publish);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("401"), "{said:?}");
    let said = run(&[&publish[..], &["--token-file", &file]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let tail = server.tail(&["--json", "--limit", "1", "--token-file", &file]);
    let said = Running::start(tail).end();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.out.starts_with("{\"seq\":1,"), "{said:?}");
    let said = Running::start(server.tail(&["--json", "--limit", "1"])).end();
    assert_eq!(said.code, Some(1), "{said:?}");
}

/// Neither on the command line, which other processes can see, nor in the log.
#[test]
fn a_token_in_the_environment_is_seen_nowhere_else() {
    let mut command = tapline(&["serve", "--listen", "127.0.0.1:0", "--log", "trace"]);
    command.env("TAPLINE_TOKEN", TOKEN);
    let mut running = Running::start(command);
    let url = running.line().replace("listening on ", "");
    let server = Server { running, url };

    let id = server.running.id();
    let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap();
    let line = String::from_utf8(line).unwrap();
    assert!(line.contains("trace") && !line.contains(TOKEN), "{line}");

    let wrong = format!("authorization: Bearer {TOKEN}r\r\n");
    assert_eq!(status(&server, "/telemetry/events", &wrong), 401);
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(status(&server, "/telemetry/events", &right), 200);
    let said = {
        let mut command = tapline(&["publish", "--url", &server.url, "--type", "page_load"]);
        command.env("TAPLINE_TOKEN", TOKEN);
        Running::start(command).end()
    };
    assert!(said.err.starts_with("tapline: filtered"), "{said:?}");
    // The ticket is a secret, too.
    let mut socket = TcpStream::connect(server.address()).unwrap();
    write!(
        socket,
        "POST /telemetry/tickets HTTP/1.0\r\n{right}content-length: 0\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (_, rest) = answer.split_once("\"ticket\":\"").expect("a ticket");
    let ticket = rest.split('"').next().unwrap();
    assert_eq!(
        status(
            &server,
            &format!("/telemetry/stream?ticket={ticket}&replay=x"),
            ""
        ),
        400
    );

    let said = server.stop();
    assert!(said.err.contains("stopping"), "{}", said.err);
    for secret in [TOKEN, ticket] {
        assert!(!said.err.contains(secret), "{}", said.err);
    }
}

#[test]
fn there_is_one_token() {
    let (directory, file) = secret("twice");
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["tail"],
        &["publish", "--type", "x"],
    ] {
        let mut command = tapline(&[args, &["--token-file", &file]].concat());
        command.env("TAPLINE_TOKEN", TOKEN);
        let said = Running::start(command).end();
        assert_eq!(said.code, Some(2), "{said:?}");
        for name in ["--token-file", "TAPLINE_TOKEN"] {
            assert!(said.err.contains(name), "{said:?}");
        }
        assert!(!said.err.contains(TOKEN), "{said:?}");
    }

    let mut command = tapline(&["serve"]);
    command.env("TAPLINE_TOKEN", "short");
    let said = Running::start(command).end();
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.starts_with("tapline: variable TAPLINE_TOKEN "),
        "{said:?}"
    );
    let said = run(&["serve", "--token-file", &directory.path("nothing")]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("No such file"), "{said:?}");
}

#[test]
fn elsewhere_than_on_loopback_there_has_to_be_a_token() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        for command in ["serve", "demo"] {
            let said = run(&[command, "--listen", address]);
            assert_eq!(said.code, Some(2), "{said:?}");
            for part in ["--listen", address, "--token-file"] {
                assert!(said.err.contains(part), "{said:?}");
            }
        }
    }
}

#[test]
fn a_token_without_tls_is_warned_of_where_others_can_read_it() {
    let (_directory, file) = secret("warned");
    // An address for documentation (RFC 5737), on which no process can listen.
    let said = run(&["serve", "--listen", "192.0.2.1:0", "--token-file", &file]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("without TLS"), "{said:?}");
    assert!(
        said.err.contains("cannot listen on 192.0.2.1:0"),
        "{said:?}"
    );
}

/// A certificate for `localhost` and its key, as files.
fn certificate(name: &str) -> (Directory, CertifiedKey<rcgen::KeyPair>) {
    let directory = Directory::new(name);
    let certified = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path("cert.pem"), certified.cert.pem()).unwrap();
    write_secret(
        &directory.path("key.pem"),
        &certified.signing_key.serialize_pem(),
    );
    (directory, certified)
}

#[test]
fn tls_from_end_to_end() {
    let (directory, certified) = certificate("tls");
    let mut server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--tls-cert",
        &directory.path("cert.pem"),
        "--tls-key",
        &directory.path("key.pem"),
    ]);
    let address = server.url.strip_prefix("https://").unwrap().to_owned();

    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = || {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
        StreamOwned::new(tls, TcpStream::connect(&address).unwrap())
    };
    let event = r#"{"type":"page_load"}"#;
    let mut socket = connect();
    write!(
        socket,
        "POST /telemetry/events HTTP/1.0\r\ncontent-length: {}\r\n\r\n{event}",
        event.len()
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("{\"seq\":1,"), "{answer}");

    // A stream, up to the goodbye.
    let mut socket = connect();
    write!(socket, "GET /telemetry/stream HTTP/1.0\r\n\r\n").unwrap();
    let mut body = String::new();
    while !body.contains("\"seq\":1,") {
        let mut bytes = [0; 1024];
        let read = socket.read(&mut bytes).unwrap();
        assert!(0 < read, "{body}");
        body.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    server.running.signal(Signal::TERM);
    server.running.err_line_with("stopping");
    socket.read_to_string(&mut body).unwrap();
    assert!(
        body.ends_with(": bye: the server is stopping, the last seq was 1\n"),
        "{body}"
    );
    assert_eq!(server.running.end().code, Some(0));
}

#[test]
fn a_certificate_needs_its_key() {
    let (directory, _) = certificate("halves");
    let (_other, _) = certificate("other");
    let (cert, key) = (directory.path("cert.pem"), directory.path("key.pem"));
    for (one, other, file) in [
        ("--tls-cert", "--tls-key", &cert),
        ("--tls-key", "--tls-cert", &key),
    ] {
        let said = run(&["serve", "--listen", "127.0.0.1:0", one, file]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(other), "{said:?}");
    }
    let check = |cert: &str, key: &str| {
        let said = run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--tls-cert",
            cert,
            "--tls-key",
            key,
        ]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(".pem"), "{said:?}");
    };
    check(&cert, &cert);
    check(&key, &key);
    check(&cert, &_other.path("key.pem"));
    check(&cert, &directory.path("nothing.pem"));
}

#[test]
fn clients_speak_tls_to_a_server_that_they_trust() {
    let (directory, _) = certificate("client-tls");
    let cert = directory.path("cert.pem");
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--tls-cert",
        &cert,
        "--tls-key",
        &directory.path("key.pem"),
    ]);
    // The name of the certificate.
    let url = server.url.replace("127.0.0.1", "localhost");
    let publish = ["publish", "--type", "page_load", "--url", &url];
    let said = run(&publish);
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in ["cannot reach", "certificate", "--ca-file"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let said = run(&[&publish[..], &["--ca-file", &cert]].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let tail = ["tail", "--json", "--limit", "1", "--replay", "all"];
    let said = run(&[&tail[..], &["--url", &url, "--ca-file", &cert]].concat());
    assert!(said.out.contains("\"page_load\""), "{said:?}");
    for file in [directory.path("nothing.pem"), directory.path("key.pem")] {
        let said = run(&[&publish[..], &["--ca-file", &file]].concat());
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.err
                .contains(&format!("cannot use the certificates of {file}")),
            "{said:?}"
        );
    }
}

#[test]
fn without_the_token_a_client_says_how_to_pass_it() {
    let (_directory, file) = secret("needs-token");
    let server = Server::with(&["serve", "--listen", "127.0.0.1:0", "--token-file", &file]);
    for command in [&["tail"][..], &["publish", "--type", "x"], &["export"]] {
        let said = run(&[command, &["--url", &server.url]].concat());
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("--token-file"), "{said:?}");
    }
}

#[test]
fn origins_and_names_are_let_in() {
    let server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--allow-origin",
        "https://app.example",
        "--allow-origin",
        "http://localhost:3000",
        "--host",
        "tapline.internal",
    ]);
    for (header, expected) in [
        ("origin: https://app.example\r\n", 200),
        ("origin: http://localhost:3000\r\n", 200),
        ("origin: https://other.example\r\n", 403),
        ("host: tapline.internal\r\n", 200),
        ("host: other.internal\r\n", 403),
    ] {
        assert_eq!(status(&server, "/telemetry", header), expected, "{header}");
    }
    for (flag, value) in [
        ("--allow-origin", "*"),
        ("--allow-origin", "https://app.example/path"),
        ("--allow-origin", ""),
        ("--host", "tapline.internal:10001"),
        ("--host", ""),
    ] {
        let said = run(&["serve", "--listen", "127.0.0.1:0", flag, value]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(flag), "{said:?}");
    }
}

/// Reads an open stream until it contains `text`.
#[track_caller]
fn read_until(socket: &mut TcpStream, text: &str) {
    let mut body = String::new();
    while !body.contains(text) {
        let mut bytes = [0; 1024];
        let read = socket.read(&mut bytes).unwrap();
        assert!(0 < read, "the stream has ended: {body}");
        body.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

#[test]
fn a_token_file_is_read_again_and_open_streams_survive() {
    let (_directory, file) = secret("reload");
    let mut server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--start",
        "--token-file",
        &file,
    ]);
    let old = format!("authorization: Bearer {TOKEN}\r\n");
    let new = "authorization: Bearer another-token-of-24-bytes\r\n";
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(
        stream,
        "GET /telemetry/stream HTTP/1.1\r\nhost: localhost\r\n{old}\r\n"
    )
    .unwrap();
    read_until(&mut stream, "\r\n\r\n");

    // A file that cannot be used changes nothing.
    write_secret(&file, "short\n");
    server.running.signal(Signal::HUP);
    server.running.err_line_with("cannot reload the token");
    assert_eq!(status(&server, "/telemetry", &old), 200);

    write_secret(&file, "another-token-of-24-bytes\n");
    server.running.signal(Signal::HUP);
    server
        .running
        .err_line_with("reloaded the token: it has changed");
    assert_eq!(status(&server, "/telemetry", &old), 401);
    assert_eq!(status(&server, "/telemetry", new), 200);

    // Also without the signal.
    write_secret(&file, TOKEN);
    server
        .running
        .err_line_with("reloaded the token: it has changed");
    assert_eq!(status(&server, "/telemetry", &old), 200);

    let publish = ["publish", "--url", &server.url, "--type", "page_load"];
    let published = run(&[&publish[..], &["--token-file", &file]].concat());
    assert_eq!(published.code, Some(0), "{published:?}");
    read_until(&mut stream, "\"seq\":1,");
}

#[test]
fn a_bad_certificate_keeps_the_old_one_and_a_good_one_replaces_it() {
    let (directory, first) = certificate("reload-tls");
    let (cert, key) = (directory.path("cert.pem"), directory.path("key.pem"));
    let mut server = Server::with(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ]);
    let address = server.url.strip_prefix("https://").unwrap().to_owned();
    // The certificate that the server shows, where the client trusts this one alone.
    let trusts = |certified: &CertifiedKey<rcgen::KeyPair>| {
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = StreamOwned::new(tls, TcpStream::connect(&address).unwrap());
        write!(socket, "GET /healthz HTTP/1.0\r\n\r\n").is_ok()
            && socket.read(&mut [0; 12]).is_ok_and(|read| read > 0)
    };
    assert!(trusts(&first));

    std::fs::write(&cert, "this is no certificate").unwrap();
    server.running.signal(Signal::HUP);
    server
        .running
        .err_line_with("cannot reload the TLS certificate");
    assert!(trusts(&first));

    let second = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write_secret(&key, &second.signing_key.serialize_pem());
    std::fs::write(&cert, second.cert.pem()).unwrap();
    server.running.signal(Signal::HUP);
    server
        .running
        .err_line_with("reloaded the TLS certificate: it has changed");
    assert!(trusts(&second));
    assert!(!trusts(&first));
}

#[test]
fn an_allow_file_is_read_again() {
    let directory = Directory::new("reload-allow");
    let file = directory.path("allow");
    std::fs::write(&file, "# nothing yet\n").unwrap();
    let mut server = Server::with(&["serve", "--listen", "127.0.0.1:0", "--allow-file", &file]);
    let origin = "host: localhost\r\norigin: https://app.example\r\n";
    assert_eq!(status(&server, "/telemetry", origin), 403);
    std::fs::write(&file, "origin https://app.example\n").unwrap();
    server.running.signal(Signal::HUP);
    server
        .running
        .err_line_with("reloaded the allow-list: it has changed");
    assert_eq!(
        status(&server, "/telemetry", origin),
        404,
        "no session, but allowed"
    );
}

#[test]
fn https_to_a_server_without_tls_says_so() {
    let server = Server::start();
    let url = server.url.replace("http://", "https://");
    let said = run(&["status", "--url", &url]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("write http:// in --url"), "{said:?}");
}
