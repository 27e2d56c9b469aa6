//! Token, certificate and allow-lists are replaced while the server runs; open streams continue.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tapline_access::{Access, AccessConfig, Reloaded, TlsFiles, TokenSource};
use tapline_oapi::KnownType;
use tokio_rustls::TlsConnector;

use crate::http::{Connection, get, in_time, request, tcp};
use crate::server::{Server, Setup};
use crate::sse::Stream;

/// A directory for the files of one test. Dropping it removes them.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("tapline-reload-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(config: AccessConfig) -> (Server, Arc<Access>) {
    let access = Arc::new(config.load().unwrap());
    let setup = Setup::default().options(|options| options.access = access.clone());
    (setup.running().await, access)
}

/// Reloads the only value that has a file.
#[track_caller]
fn reload(access: &Access) -> Result<Reloaded, String> {
    let mut reloads = access.reload();
    assert_eq!(reloads.len(), 1);
    let reload = reloads.remove(0);
    reload.log();
    reload.result.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_new_token_is_required_from_now_on_and_open_streams_continue() {
    const OLD: &str = "the-first-token-there-is";
    const NEW: &str = "the-second-token-there-is";
    let files = Files::new("token");
    let file = files.write("token", OLD);
    let (server, access) = start(AccessConfig {
        token: Some(TokenSource::File(file)),
        ..AccessConfig::default()
    })
    .await;
    let status = async |token: &str| {
        let request = get("/telemetry").token(token);
        server.call(&request).await.status()
    };
    let ask = request("POST", "/telemetry/tickets").token(OLD);
    let issued = server.call(&ask.json("{}")).await.json();
    let ticket = issued["ticket"].as_str().unwrap();
    let with_ticket = format!("replay=live&ticket={ticket}");
    let by_token = get("/telemetry/stream?replay=live").token(OLD);
    let mut streams = [
        Stream::ask(server.addr, &by_token).await,
        Stream::open(server.addr, &with_ticket).await,
    ];

    files.write("token", "too short");
    assert!(reload(&access).unwrap_err().contains("fewer than 16 bytes"));
    assert_eq!((status(OLD).await, status(NEW).await), (200, 401));

    files.write("token", NEW);
    assert_eq!(reload(&access), Ok(Reloaded::Changed));
    assert_eq!((status(OLD).await, status(NEW).await), (401, 200));
    let again = get(&format!("/telemetry/stream?{with_ticket}"));
    assert_eq!(server.call(&again).await.status(), 401);
    let seq = server.publish(KnownType::PageLoad).seq();
    for stream in &mut streams {
        assert_eq!(stream.event().await.seq(), seq);
    }
}

fn certified() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// A client that trusts this certificate only.
fn trusting(certified: &CertifiedKey<KeyPair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections_and_open_ones_continue() {
    let files = Files::new("certificate");
    let (old, new) = (certified(), certified());
    let tls = TlsFiles {
        cert: files.write("cert.pem", &old.cert.pem()),
        key: files.write("key.pem", &old.signing_key.serialize_pem()),
    };
    let (server, access) = start(AccessConfig {
        tls: Some(tls),
        ..AccessConfig::default()
    })
    .await;
    let connect = async |trusted: &CertifiedKey<KeyPair>| {
        let name = ServerName::try_from("localhost").unwrap();
        let connector = trusting(trusted);
        let connected = in_time(connector.connect(name, tcp(server.addr).await)).await;
        connected.ok().map(Connection::over)
    };
    let mut connection = connect(&old).await.unwrap();
    let stream = get("/telemetry/stream?replay=live");
    let mut stream = Stream::over(connect(&old).await.unwrap(), &stream).await;

    // The certificate was written, its key was not yet.
    files.write("cert.pem", &new.cert.pem());
    let error = reload(&access).unwrap_err();
    assert!(error.contains("does not belong to"), "{error}");
    assert!(connect(&old).await.is_some() && connect(&new).await.is_none());

    files.write("key.pem", &new.signing_key.serialize_pem());
    assert_eq!(reload(&access), Ok(Reloaded::Changed));
    assert!(connect(&old).await.is_none());
    let mut fresh = connect(&new).await.unwrap();
    for connection in [&mut connection, &mut fresh] {
        assert_eq!(connection.call(&get("/healthz")).await.status(), 200);
    }
    let seq = server.publish(KnownType::PageLoad).seq();
    assert_eq!(stream.event().await.seq(), seq);
}

#[tokio::test]
async fn new_allow_lists_apply_to_new_requests_and_open_streams_continue() {
    let files = Files::new("allow");
    let list = |name: &str| format!("origin https://{name}.example\nhost {name}.internal\n");
    let (server, access) = start(AccessConfig {
        allow_file: Some(files.write("allow", &list("old"))),
        ..AccessConfig::default()
    })
    .await;
    let from = |target: &str, name: &str| {
        get(target)
            .header("host", format!("{name}.internal"))
            .header("origin", format!("https://{name}.example"))
    };
    let status = async |name: &str| server.call(&from("/telemetry", name)).await.status();
    let ask = from("/telemetry/stream?replay=live", "old");
    let mut stream = Stream::ask(server.addr, &ask).await;

    files.write("allow", "origin new.example\n");
    assert!(reload(&access).unwrap_err().contains("line 1"));
    assert_eq!((status("old").await, status("new").await), (200, 403));

    files.write("allow", &list("new"));
    assert_eq!(reload(&access), Ok(Reloaded::Changed));
    assert_eq!((status("old").await, status("new").await), (403, 200));
    let answer = server.call(&from("/telemetry", "new")).await;
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://new.example"));
    let seq = server.publish(KnownType::PageLoad).seq();
    assert_eq!(stream.event().await.seq(), seq);
}
