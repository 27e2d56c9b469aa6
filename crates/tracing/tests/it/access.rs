//! Servers that ask for a token, under TLS.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tapline_access::{AccessConfig, TlsFiles, Token, TokenSource};
use tapline_server::Options as ServerOptions;
use tapline_tracing::HttpOptions;
use tracing::{dispatcher, info};

use crate::over_http::connected;
use crate::rig::{DEADLINE, Server, Service, closes, wait_for};

const TOKEN: &str = "correct-horse-battery";

/// A certificate for loopback, and its key.
struct Certificate {
    directory: PathBuf,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tapline-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let made = Self { directory };
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let TlsFiles { cert: file, key } = made.files();
        fs::write(file, cert.pem()).unwrap();
        fs::write(key, signing_key.serialize_pem()).unwrap();
        made
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            cert: self.directory.join("cert.pem"),
            key: self.directory.join("key.pem"),
        }
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A server that needs [`TOKEN`], and the options for it, all but the token.
fn guarded(service: &Service, certificate: &Certificate) -> (Server, HttpOptions) {
    let access = AccessConfig {
        token: Some(TokenSource::Fixed(
            Token::from_variable("TOKEN", TOKEN).unwrap(),
        )),
        tls: Some(certificate.files()),
        ..AccessConfig::default()
    };
    let options = ServerOptions {
        access: Arc::new(access.load().unwrap()),
        ..ServerOptions::default()
    };
    let server = service.serve_at("127.0.0.1:0", options);
    let mut http = HttpOptions::new(format!("https://{}", server.address));
    http.ca_file = Some(certificate.files().cert);
    http.linger = Duration::from_millis(5);
    (server, http)
}

#[test]
fn a_token_and_a_certificate_reach_a_server_that_needs_both() {
    let mut service = Service::new(None);
    service.start();
    let certificate = Certificate::new("tracing-tls");
    let (_server, mut http) = guarded(&service, &certificate);
    http.token = Some(TOKEN.to_owned());
    assert!(!format!("{http:?}").contains(TOKEN));
    let (dispatch, guard) = connected(http);
    dispatcher::with_default(&dispatch, || info!("inside"));
    let counts = guard.shutdown(DEADLINE);
    closes(&counts, 1);
    assert_eq!(counts.published, 1, "{counts:?}");
    assert_eq!(service.next()["data"]["message"], "inside");
}

/// What is logged meanwhile waits, and the reason is there to read. It does not have the token.
#[test]
fn a_wrong_token_and_an_unknown_certificate_are_named() {
    let mut service = Service::new(None);
    service.start();
    let certificate = Certificate::new("tracing-tls-wrong");
    let other = Certificate::new("tracing-tls-other");
    let (_server, http) = guarded(&service, &certificate);
    let (mut wrong_token, mut unknown) = (http.clone(), http);
    wrong_token.token = Some("not-the-right-token".to_owned());
    unknown.ca_file = Some(other.files().cert);
    for (http, reason) in [(wrong_token, "401"), (unknown, "certificate")] {
        let (dispatch, guard) = connected(http);
        let handle = guard.handle();
        dispatcher::with_default(&dispatch, || info!("outside"));
        wait_for(&handle, |_| handle.last_error().is_some());
        let error = handle.last_error().unwrap();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("not-the-right-token"), "{error}");
        let counts = guard.shutdown(Duration::from_millis(100));
        closes(&counts, 1);
        assert_eq!(counts.lost, 1, "{counts:?}");
    }
    assert!(service.rest().is_empty());
}
