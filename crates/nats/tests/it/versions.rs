//! A server that is too old is refused, with what is needed and why.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use tapline_nats::{Connection, NatsError, NatsOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::rig::{Rig, options};

/// A server that says it has this version.
async fn says(version: &'static str) -> NatsOptions {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let info = format!(
                    "INFO {{\"server_id\":\"A\",\"version\":\"{version}\",\"max_payload\":1048576,\"headers\":true,\
                     \"jetstream\":true,\"proto\":1,\"host\":\"127.0.0.1\",\"port\":{port}}}\r\n"
                );
                client.write_all(info.as_bytes()).await.unwrap();
                let mut line = String::new();
                while let Ok(1..) = client.read_line(&mut line).await {
                    if line.starts_with("PING") && client.write_all(b"PONG\r\n").await.is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    NatsOptions::new(&format!("nats://127.0.0.1:{port}")).unwrap()
}

#[tokio::test]
async fn an_old_server_is_refused_with_the_version_that_is_needed() {
    let nats = says("2.9.10").await;
    let error = Connection::open(&nats, "test").await.unwrap_err();
    assert!(!error.is_temporary());
    let expected = format!(
        "the NATS server {} has version 2.9.10, and at least 2.12 is needed, for atomic batches and batched direct gets; \
         update the server",
        nats.urls()
    );
    assert_eq!(error.to_string(), expected);
    let rig = Rig::new(options(nats, "old"));
    rig.publish_some(1);
    rig.reported("has version 2.9.10, and at least 2.12").await;

    let error = Connection::open(&says("nightly").await, "test").await;
    assert!(matches!(error, Err(NatsError::Version { .. })), "{error:?}");
    Connection::open(&says("2.12.0").await, "test")
        .await
        .unwrap();
}

/// Where a distribution's own server is installed, and is an old one.
#[tokio::test]
async fn a_distributions_old_server_is_refused() {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .map(|folder| folder.join("nats-server"))
        .find(|program| program.is_file());
    let Some(program) = found else {
        return;
    };
    let version = Command::new(&program).arg("--version").output().unwrap();
    if !String::from_utf8_lossy(&version.stdout).contains("2.9.") {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut server = Command::new(program)
        .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let nats = NatsOptions::new(&format!("nats://127.0.0.1:{port}")).unwrap();
    let error = loop {
        let error = Connection::open(&nats, "test").await.unwrap_err();
        if !error.is_temporary() {
            break error.to_string();
        }
    };
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(error.contains("has version 2.9."), "{error}");
}
