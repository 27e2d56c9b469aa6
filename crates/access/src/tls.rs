//! TLS: a certificate and a key from files, and the configuration that a server offers.
//!
//! With rustls and ring: nothing of the system's OpenSSL is needed, and there is nothing to configure.
//! TLS 1.2 and 1.3 with rustls' default cipher suites.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::token::warn_if_others_can_read;

/// The paths of the server's certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by the intermediate certificates up to one that clients know.
    pub cert: PathBuf,
    /// The certificate's private key, unencrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// What is offered to TLS clients.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// To see whether another certificate was loaded.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl TlsFiles {
    /// Reads both files, and checks that the key belongs to the certificate.
    pub(crate) fn load(&self) -> Result<Tls, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = self.private_key()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for the default versions")
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key)
            .map_err(|source| match source {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
                    cert: self.cert.clone(),
                    key: self.key.clone(),
                },
                rustls::Error::InvalidCertificate(_) => TlsError::Certificate {
                    path: self.cert.clone(),
                    source,
                },
                _ => TlsError::Key {
                    path: self.key.clone(),
                    source,
                },
            })?;
        // What is spoken inside; a client that insists on another protocol gets an alert.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls {
            config: Arc::new(config),
            chain,
        })
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = read(&self.key, |file| warn_if_others_can_read(&self.key, file))?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            let encrypted = pem.windows(9).any(|bytes| bytes == b"ENCRYPTED");
            match error {
                pem::Error::NoItemsFound if encrypted => TlsError::Missing {
                    path: self.key.clone(),
                    what: "an encrypted key: decrypt it, for example with `openssl pkey`",
                },
                pem::Error::NoItemsFound => TlsError::Missing {
                    path: self.key.clone(),
                    what: "no private key: expected `-----BEGIN PRIVATE KEY-----`",
                },
                error => not_pem(&self.key, &error),
            }
        })
    }
}

/// Why TLS cannot be used. The error contains nothing of the files' content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not PEM: {fault}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A file does not contain what is expected.
    #[error("{} holds {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What is missing, or what is there instead.
        what: &'static str,
    },
    /// The certificate cannot be used.
    #[error("{} holds a certificate that cannot be used", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The private key cannot be used.
    #[error("{} holds a private key that cannot be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} does not belong to the first certificate in {}",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The system has no list of trusted certificates.
    #[error(
        "this system has no list of trusted certificates: install ca-certificates, or name a CA file"
    )]
    NoSystemRoots,
}

/// The certificates in a file: at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path, |_| {})?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::Missing {
            path: path.to_owned(),
            what: "no certificate: expected `-----BEGIN CERTIFICATE-----`",
        });
    }
    Ok(certificates)
}

/// Reads a file of at most 1 MiB: chains of certificates are shorter.
fn read(path: &Path, look: impl FnOnce(&File)) -> Result<Vec<u8>, TlsError> {
    const MAX_BYTES: u64 = 1024 * 1024;
    let cannot_read = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(cannot_read)?;
    look(&file);
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    if MAX_BYTES < read.map_err(cannot_read)? as u64 {
        return Err(cannot_read(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// The error's own text is left out, since it may contain a part of the file.
fn not_pem(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::NotPem {
        path: path.to_owned(),
        fault: match error {
            pem::Error::MissingSectionEnd { .. } => {
                "a `-----BEGIN …-----` has no `-----END …-----`"
            }
            pem::Error::IllegalSectionStart { .. } => {
                "a line that begins with `-----` is malformed"
            }
            pem::Error::Base64Decode(_) => "the text between the lines with dashes is not base64",
            _ => "it cannot be parsed",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::scratch::Scratch;

    struct Files {
        scratch: Scratch,
        files: TlsFiles,
    }

    impl Files {
        fn new(cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
            let scratch = Scratch::new();
            let files = TlsFiles {
                cert: scratch.write("cert.pem", cert),
                key: scratch.write("key.pem", key),
            };
            Self { scratch, files }
        }

        fn acceptor(&self) -> TlsAcceptor {
            self.files.load().unwrap().config.into()
        }
    }

    fn certified() -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    fn client(of: &CertifiedKey<rcgen::KeyPair>, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(of.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }

    /// What both ends agree on, after a byte has gone each way.
    async fn shake_hands(
        acceptor: &TlsAcceptor,
        connector: &TlsConnector,
    ) -> io::Result<Option<Vec<u8>>> {
        let (near, far) = duplex(16 * 1024);
        let server = async {
            let mut tls = acceptor.accept(far).await?;
            tls.write_all(b"!").await?;
            tls.flush().await?;
            Ok::<_, io::Error>(tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
        };
        let client = async {
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = connector.connect(name, near).await?;
            assert_eq!(tls.read_u8().await?, b'!');
            Ok::<_, io::Error>(())
        };
        let (agreed, sent) = tokio::join!(server, client);
        sent.and(agreed)
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_certificate_agrees_on_the_protocol() {
        let certified = certified();
        let files = Files::new(certified.cert.pem(), certified.signing_key.serialize_pem());
        let acceptor = files.acceptor();
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some(b"h2".to_vec())),
            (&["http/1.1"], Some(b"http/1.1".to_vec())),
            (&[], None),
        ] {
            let connector = client(&certified, offered);
            let answer = shake_hands(&acceptor, &connector).await;
            assert_eq!(answer.unwrap(), agreed, "{offered:?}");
        }
    }

    #[tokio::test]
    async fn a_client_with_another_protocol_or_other_roots_is_refused() {
        let certified = certified();
        let files = Files::new(certified.cert.pem(), certified.signing_key.serialize_pem());
        let acceptor = files.acceptor();
        let other = client(&certified, &["spdy/3"]);
        assert!(shake_hands(&acceptor, &other).await.is_err());
        let elsewhere = client(&self::certified(), &["http/1.1"]);
        assert!(shake_hands(&acceptor, &elsewhere).await.is_err());
    }

    #[test]
    fn an_error_names_the_file_and_the_fault() {
        let (ours, other) = (certified(), certified());
        let (cert, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
        let other_key = other.signing_key.serialize_pem();
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let damaged = cert.replacen("MII", "MII*", 1);
        let cut = &cert[..cert.len() / 2];
        let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (cert, key, file, expected) in [
            ("", &*key, "cert", "holds no certificate"),
            (&*key, &*key, "cert", "holds no certificate"),
            (&*cert, "", "key", "holds no private key"),
            (&*cert, &*cert, "key", "holds no private key"),
            (&*cert, &*encrypted, "key", "encrypted"),
            (
                &*cert,
                &*other_key,
                "key",
                "does not belong to the first certificate",
            ),
            (&*damaged, &*key, "cert", "not base64"),
            (cut, &*key, "cert", "has no `-----END"),
            (no_der, &*key, "cert", "certificate that cannot be used"),
            (&*cert, no_key, "key", "private key that cannot be used"),
        ] {
            let made = Files::new(cert, key);
            let error = made.files.load().map(drop).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected), "{message}");
            let path = made.scratch.directory.join(format!("{file}.pem"));
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let large = Files::new(vec![b'\n'; 1024 * 1024 + 1], "");
        let error = large.files.load().map(drop).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        assert!(error.source().is_some());
        let nowhere = TlsFiles {
            cert: large.scratch.directory.join("nowhere.pem"),
            key: large.files.key.clone(),
        };
        let error = nowhere.load().map(drop).unwrap_err();
        assert!(error.to_string().contains("nowhere.pem"), "{error}");
    }
}
