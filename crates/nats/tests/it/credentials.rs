//! Each kind of credentials, with a server that needs it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, SanType};
use serde_json::{Value, json};
use tapline_nats::{Connection, NatsOptions};

use crate::rig::{Rig, ledger, options};
use crate::server::Server;

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("credentials-{name}"));
    fs::write(&path, text).unwrap();
    path
}

/// Connecting is refused with this text, and neither the error nor the log has one of the secrets.
#[track_caller]
fn refused<'a>(
    nats: &'a NatsOptions,
    expected: &'a str,
    secrets: &'a [&str],
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone());
        // Everything here is on one thread.
        let logging = tracing::subscriber::set_default(subscriber.finish());
        let error = Connection::open(nats, "test").await.unwrap_err();
        drop(logging);
        assert!(!error.is_temporary(), "{caller}: {error}");
        assert!(error.to_string().contains(expected), "{caller}: {error}");
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for secret in secrets {
            assert!(!format!("{error:?}").contains(secret), "{caller}");
            assert!(!log.contains(secret), "{caller}: {log}");
        }
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn stores(nats: NatsOptions) {
    let rig = Rig::new(options(nats, "shop"));
    rig.publish_some(5);
    assert_eq!(rig.stop().await.ledger, ledger(5, 0));
}

#[tokio::test]
async fn a_token() {
    let Some(server) = Server::start_with("authorization { token: \"s3cret-token\" }") else {
        return;
    };
    let mut nats = server.options();
    let needed = "it needs credentials; put them into a file, and pass it with --nats-creds";
    refused(&nats, needed, &[]).await;
    nats.credentials_file = Some(file("token-wrong", "token: s3cret-wrong\n"));
    refused(&nats, "credentials-token-wrong; correct them", &["s3cret"]).await;
    nats.credentials_file = Some(file("token", "token: s3cret-token\n"));
    stores(nats).await;
}

#[tokio::test]
async fn an_nkey() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        user.public_key()
    );
    let Some(server) = Server::start_with(&users) else {
        return;
    };
    let seed = |key: &KeyPair| format!("nkey: {}\n", key.seed().unwrap());
    let mut nats = server.options();
    nats.credentials_file = Some(file("nkey-wrong", &seed(&other)));
    let secret = other.seed().unwrap();
    refused(&nats, "it does not accept the credentials", &[&secret]).await;
    let invalid = "is not valid; it has to be the seed of a user, which begins with SU";
    nats.credentials_file = Some(file("nkey-broken", &format!("nkey: {}\n", &secret[1..])));
    refused(&nats, invalid, &[&secret[1..]]).await;
    let public = format!("nkey: {}\n", user.public_key());
    nats.credentials_file = Some(file("nkey-public", &public));
    refused(&nats, invalid, &[]).await;
    nats.credentials_file = Some(file("nkey", &seed(&user)));
    stores(nats).await;
}

/// A JWT of the second version: the server reads what it needs, and checks the signature.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> String {
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name, "sub": subject.public_key(),
        "nats": nats,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let encoded = |it: &[u8]| URL_SAFE_NO_PAD.encode(it);
    let text = format!(
        "{}.{}",
        encoded(header.to_string().as_bytes()),
        encoded(claims.to_string().as_bytes())
    );
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", encoded(&signature))
}

fn creds(jwt: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

/// An operator with an account for the system, and one with streams.
struct Operator {
    account: KeyPair,
    config: String,
}

impl Operator {
    fn new() -> Self {
        let (operator, system, account) = (
            KeyPair::new_operator(),
            KeyPair::new_account(),
            KeyPair::new_account(),
        );
        let of_operator = json!({"type": "operator", "version": 2});
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        });
        let of_system = json!({"type": "account", "version": 2, "limits": unlimited});
        let mut limits = unlimited;
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[limit] = (-1).into();
        }
        let of_account = json!({"type": "account", "version": 2, "limits": limits});
        let config = format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}\n",
            jwt(&operator, &operator, "operator", &of_operator),
            system.public_key(),
            system.public_key(),
            jwt(&operator, &system, "system", &of_system),
            account.public_key(),
            jwt(&operator, &account, "fleet", &of_account),
        );
        Self { account, config }
    }

    fn creds(&self, user: &KeyPair) -> String {
        creds(&user_jwt(&self.account, user), user)
    }
}

fn user_jwt(account: &KeyPair, user: &KeyPair) -> String {
    let nats = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
    jwt(account, user, "shop", &nats)
}

#[tokio::test]
async fn a_creds_file() {
    let operator = Operator::new();
    let Some(server) = Server::start_with(&operator.config) else {
        return;
    };
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let mut nats = server.options();
    refused(&nats, "it needs credentials", &[]).await;
    // Of an account that the server does not know.
    let unknown = creds(&user_jwt(&KeyPair::new_account(), &user), &user);
    nats.credentials_file = Some(file("unknown.creds", &unknown));
    let secret = user.seed().unwrap();
    refused(&nats, "unknown.creds; correct them", &[&secret]).await;
    // The key of another user.
    let other_key = creds(&user_jwt(&operator.account, &user), &other);
    nats.credentials_file = Some(file("other-key.creds", &other_key));
    let secret = other.seed().unwrap();
    refused(&nats, "other-key.creds; correct them", &[&secret]).await;
    let whole = operator.creds(&user);
    let cut = &whole[..whole.find("-----BEGIN USER").unwrap()];
    nats.credentials_file = Some(file("cut.creds", cut));
    refused(&nats, "no complete .creds file", &[]).await;
    nats.credentials_file = Some(file("right.creds", &whole));
    stores(nats).await;
}

#[tokio::test]
async fn a_client_certificate() {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        (cert.pem(), Issuer::new(params, key))
    };
    let (ca, ours) = authority("ours");
    let (_, theirs) = authority("theirs");
    let certificate = |name: &str, san: SanType, issuer: &Issuer<'_, rcgen::KeyPair>| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![san];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, issuer).unwrap();
        (
            file(&format!("{name}.pem"), &cert.pem()),
            file(&format!("{name}-key.pem"), &key.serialize_pem()),
        )
    };
    let email = |it: &str| SanType::Rfc822Name(it.try_into().unwrap());
    let local = SanType::IpAddress("127.0.0.1".parse().unwrap());
    let (cert, key) = certificate("server", local, &ours);
    let ca = file("ca.pem", &ca);
    let shop = certificate("shop", email("shop@fleet.test"), &ours);
    let unmapped = certificate("unmapped", email("unmapped@fleet.test"), &ours);
    let foreign = certificate("foreign", email("shop@fleet.test"), &theirs);
    for (verify, users) in [
        ("verify: true", ""),
        (
            "verify_and_map: true",
            "authorization { users: [ { user: \"shop@fleet.test\" } ] }",
        ),
    ] {
        let tls = format!(
            "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, {verify} }}\n{users}"
        );
        let Some(server) = Server::start_with(&tls) else {
            return;
        };
        let mut nats = NatsOptions::new(&server.url().replace("nats://", "tls://")).unwrap();
        refused(
            &nats,
            "pass the certificate of its authority with --nats-ca-file",
            &[],
        )
        .await;
        nats.ca_file = Some(ca.clone());
        refused(&nats, "pass --nats-cert and --nats-key", &[]).await;
        nats.client_cert = Some(foreign.clone());
        refused(
            &nats,
            "it does not accept the certificate of this client",
            &[],
        )
        .await;
        let files = "correct --nats-ca-file, or --nats-cert and --nats-key";
        for key in [foreign.1.clone(), "/nowhere/key.pem".into(), shop.0.clone()] {
            nats.client_cert = Some((shop.0.clone(), key));
            refused(&nats, files, &[]).await;
        }
        if !users.is_empty() {
            nats.client_cert = Some(unmapped.clone());
            refused(&nats, "add the user at the server", &[]).await;
        }
        nats.client_cert = Some(shop.clone());
        stores(nats).await;
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_used_for_the_next_connection() {
    let (before, after) = (KeyPair::new_user(), KeyPair::new_user());
    let users = |it: &KeyPair| {
        format!(
            "authorization {{ users: [ {{ nkey: {} }} ] }}",
            it.public_key()
        )
    };
    let Some(mut server) = Server::start_with(&users(&before)) else {
        return;
    };
    let text = |it: &KeyPair| format!("nkey: {}\n", it.seed().unwrap());
    let mut nats = server.options();
    nats.credentials_file = Some(file("replaced", &text(&before)));
    let rig = Rig::new(options(nats, "shop"));
    rig.publish_some(5);
    rig.settled(5).await;
    server.kill();
    server.restart_with(&users(&after));
    rig.publish_some(5);
    rig.reported("does not accept the credentials").await;
    file("replaced", &text(&after));
    assert_eq!(rig.stop().await.ledger, ledger(10, 0));
}
