//! Credentials, rights and TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use tapline_nats::{Connection, NatsError, NatsOptions};

use crate::rig::{Rig, ledger, options};
use crate::server::Server;

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn credentials_come_from_a_file() {
    let users = "authorization { user: me, password: \"s3cret: x\" }";
    let Some(server) = Server::start_with(users) else {
        return;
    };
    let mut nats = server.options();
    let refused = Connection::open(&nats, "test").await.unwrap_err();
    assert!(matches!(refused, NatsError::Refused { .. }), "{refused:?}");
    assert!(!refused.is_temporary());
    nats.credentials_file = Some(file("wrong", "user: me\npassword: wrong\n"));
    let refused = Connection::open(&nats, "test").await.unwrap_err();
    assert!(matches!(refused, NatsError::Refused { .. }), "{refused:?}");
    nats.credentials_file = Some(file("right", "user: me\npassword: s3cret: x\n"));
    Connection::open(&nats, "test").await.unwrap();
    assert!(!format!("{nats:?}").contains("s3cret"));
    nats.credentials_file = Some("/nowhere/creds".into());
    let error = Connection::open(&nats, "test").await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/creds"), "{error}");
}

#[tokio::test]
async fn an_instance_may_lack_the_right_to_create_streams() {
    let users = r#"authorization { users: [
        { user: admin, password: a }
        { user: shop, password: s, permissions: {
            publish: ["tapline.blocks.*.shop", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*"]
            subscribe: ["_INBOX.>"]
        } }
    ] }"#;
    let Some(server) = Server::start_with(users) else {
        return;
    };
    let mut limited = options(server.options(), "shop");
    limited.nats.credentials_file = Some(file("shop", "user: shop\npassword: s\n"));
    let rig = Rig::new(limited);
    rig.publish_some(5);
    rig.reported("does not create the stream tapline-0").await;
    rig.reported("STREAM.CREATE.tapline-0").await;
    let mut admin = options(server.options(), "admin");
    admin.nats.credentials_file = Some(file("admin", "user: admin\npassword: a\n"));
    let sink = tapline_nats::NatsSink::new(admin, None).unwrap();
    sink.prepare().await.unwrap();
    let status = rig.stop().await;
    assert_eq!(status.ledger, ledger(5, 0), "{status:?}");
}

#[tokio::test]
async fn tls_trusts_the_certificates_of_the_file() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let ca = file("nats-cert.pem", &cert.pem());
    let key = file("nats-key.pem", &key.serialize_pem());
    let tls = format!("tls {{ cert_file: {ca:?}, key_file: {key:?} }}");
    let Some(server) = Server::start_with(&tls) else {
        return;
    };
    let mut nats = NatsOptions::new(&server.url().replace("nats://", "tls://")).unwrap();
    let error = Connection::open(&nats, "test").await.unwrap_err();
    assert!(!error.to_string().is_empty());
    nats.ca_file = Some(ca);
    let rig = Rig::new(options(nats.clone(), "shop"));
    rig.publish_some(5);
    assert_eq!(rig.stop().await.ledger, ledger(5, 0));
}
