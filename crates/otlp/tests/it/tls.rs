//! `https`, with a certificate of our own.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use tapline_access::TlsAcceptor;

use crate::mock::Mock;
use crate::rig::{Rig, ledger, options};
use std::time::Duration;

fn acceptor(certified: &CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let key = certified.signing_key.serialize_der().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    Arc::new(config).into()
}

struct CaFile(PathBuf);

impl CaFile {
    fn new(name: &str, certified: &CertifiedKey<rcgen::KeyPair>) -> Self {
        let path =
            std::env::temp_dir().join(format!("tapline-otlp-ca-{}-{name}", std::process::id()));
        std::fs::write(&path, certified.cert.pem()).unwrap();
        Self(path)
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn certified(name: &str) -> CertifiedKey<rcgen::KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn https_with_a_ca_file_is_exported_to() {
    for name in ["localhost", "127.0.0.1"] {
        let certified = certified(name);
        let mock = Mock::with_tls(acceptor(&certified));
        let ca = CaFile::new(name, &certified);
        let mut options = options(&format!("https://{name}:{}", mock.address.port()));
        options.ca_file = Some(ca.0.clone());
        let rig = Rig::new(options);
        rig.publish_some(10);
        assert_eq!(rig.stop().await.ledger, ledger(10, 0, 0, 0));
        assert_eq!(mock.arrived().len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_trusted_gets_nothing() {
    let ours = certified("localhost");
    let mock = Mock::with_tls(acceptor(&ours));
    let port = mock.address.port();
    let ours = CaFile::new("ours", &ours);
    let other = CaFile::new("other", &certified("localhost"));
    // Another certificate, another name, and TLS to what does not speak it.
    let plain = Mock::new();
    for (ca, url) in [
        (&other, format!("https://localhost:{port}")),
        (&ours, format!("https://127.0.0.1:{port}")),
        (&ours, format!("https://localhost:{}", plain.address.port())),
    ] {
        let mut options = options(&url);
        options.ca_file = Some(ca.0.clone());
        options.timeout = Duration::from_millis(200);
        let rig = Rig::new(options);
        rig.publish_some(1);
        let status = rig.stop_within(Duration::from_millis(500)).await;
        assert_eq!(status.ledger, ledger(0, 0, 0, 1), "{url}");
        let error = status.last_error.unwrap();
        assert!(
            error.contains("https://") || error.contains("did not end in time"),
            "{error}"
        );
    }
    assert!(mock.received().is_empty() && plain.received().is_empty());
}
