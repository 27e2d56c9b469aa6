//! TLS, where it is asked for: a certificate, a key, and HTTP/1.1 in it.
//!
//! With rustls and ring: no OpenSSL to be found on a machine, and nothing to configure. TLS 1.2 and
//! 1.3, with the ciphers that rustls holds safe.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::auth::warn_if_others_can_read;

/// Where the server's certificate and its key are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and after it those that lead to one that clients know.
    pub cert: PathBuf,
    /// The certificate's private key, unencrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both, and makes sure that they belong together.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file, and what is wrong with it.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = self.chain()?;
        let key = self.private_key()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
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
        // The one protocol spoken here; a client that would rather have another is told so.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config).into())
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = read(&self.cert, |_| {})?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| not_pem(&self.cert, &error))?;
        if chain.is_empty() {
            return Err(TlsError::Missing {
                path: self.cert.clone(),
                what: "no certificate: expected `-----BEGIN CERTIFICATE-----`",
            });
        }
        Ok(chain)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = read(&self.key, |file| warn_if_others_can_read(&self.key, file))?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            let encrypted = pem.windows(9).any(|bytes| bytes == b"ENCRYPTED");
            match error {
                pem::Error::NoItemsFound if encrypted => TlsError::Missing {
                    path: self.key.clone(),
                    what: "a key that is encrypted: decrypt it, for example with `openssl pkey`",
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

/// Why TLS cannot be offered. Shows nothing of what is in the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is something else than PEM.
    #[error("{} is not PEM: {fault}", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A file does not hold what it should.
    #[error("{} holds {what}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What is missing or there in its place.
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
    /// The key is another certificate's.
    #[error(
        "the key in {} is not that of the first certificate in {}",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
}

/// Reads a file that is not longer than chains of certificates are.
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

/// The error's own text may show what is in the file.
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
            pem::Error::Base64Decode(_) => "between the lines with dashes is no base64",
            _ => "it cannot be understood",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Files of their own for each test, gone with it.
    struct Scratch {
        directory: PathBuf,
        files: TlsFiles,
    }

    impl Scratch {
        fn holding(cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("tapline-tls-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap();
            let files = TlsFiles {
                cert: directory.join("cert.pem"),
                key: directory.join("key.pem"),
            };
            fs::write(&files.cert, cert).unwrap();
            fs::write(&files.key, key).unwrap();
            Self { directory, files }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.directory).unwrap();
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
        let (agreed, said) = tokio::join!(server, client);
        said.and(agreed)
    }

    #[tokio::test]
    async fn a_client_that_knows_the_certificate_speaks_http_1_1() {
        let certified = certified();
        let scratch = Scratch::holding(certified.cert.pem(), certified.signing_key.serialize_pem());
        let acceptor = scratch.files.acceptor().unwrap();
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some(b"http/1.1".to_vec())),
            (&[], None),
        ] {
            let connector = client(&certified, offered);
            let answer = shake_hands(&acceptor, &connector).await;
            assert_eq!(answer.unwrap(), agreed, "{offered:?}");
        }
    }

    #[tokio::test]
    async fn who_speaks_only_another_protocol_or_trusts_another_is_not_served() {
        let certified = certified();
        let scratch = Scratch::holding(certified.cert.pem(), certified.signing_key.serialize_pem());
        let acceptor = scratch.files.acceptor().unwrap();
        let only_h2 = client(&certified, &["h2"]);
        assert!(shake_hands(&acceptor, &only_h2).await.is_err());
        let elsewhere = client(&self::certified(), &["http/1.1"]);
        assert!(shake_hands(&acceptor, &elsewhere).await.is_err());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file() {
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
                "not that of the first certificate",
            ),
            (&*damaged, &*key, "cert", "no base64"),
            (cut, &*key, "cert", "has no `-----END"),
            (no_der, &*key, "cert", "certificate that cannot be used"),
            (&*cert, no_key, "key", "private key that cannot be used"),
        ] {
            let scratch = Scratch::holding(cert, key);
            let error = scratch.files.acceptor().map(drop).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected), "{message}");
            let path = scratch.directory.join(format!("{file}.pem"));
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told() {
        let large = Scratch::holding(vec![b'\n'; 1024 * 1024 + 1], "");
        let error = large.files.acceptor().map(drop).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
        assert!(error.source().is_some());
        let nowhere = TlsFiles {
            cert: large.directory.join("nowhere.pem"),
            key: large.files.key.clone(),
        };
        let error = nowhere.acceptor().map(drop).unwrap_err();
        assert!(error.to_string().contains("nowhere.pem"), "{error}");
    }
}
