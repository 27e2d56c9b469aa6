//! TLS from the other side: what a client of ours trusts when it connects to a server.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::tls::{TlsError, certificates};

/// What connects with TLS 1.2 or 1.3 and speaks HTTP/1.1 inside: for a sink that sends to `https`.
///
/// With `ca_file`, a server's certificate has to be signed by one of the certificates in that file (PEM), and by
/// no other. Without it, the certificates that the system trusts count: those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`, or the usual places.
///
/// # Errors
///
/// [`TlsError`] where the file cannot be read or holds no usable certificate, and where the system has none.
pub fn client_tls(ca_file: Option<&Path>) -> Result<TlsConnector, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|source| TlsError::Certificate {
                        path: path.to_owned(),
                        source,
                    })?;
            }
        }
        None => add_system_roots(&mut roots, rustls_native_certs::load_native_certs().certs)?,
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// A system's list may contain certificates that rustls cannot use; the others count.
fn add_system_roots(
    roots: &mut RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<(), TlsError> {
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(TlsError::NoSystemRoots),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_ca_file_without_a_certificate_is_an_error_that_names_it() {
        let scratch = Scratch::new();
        let good = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let good = scratch.write("good.pem", good.cert.pem());
        assert!(client_tls(Some(&good)).is_ok());
        for (content, expected) in [
            ("", "holds no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate that cannot be used",
            ),
        ] {
            let path = scratch.write("bad.pem", content);
            let error = client_tls(Some(&path)).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("bad.pem"), "{error}");
        }
        let nowhere = scratch.directory.join("nowhere.pem");
        assert!(client_tls(Some(&nowhere)).is_err());
    }

    #[test]
    fn a_system_without_certificates_is_an_error_that_names_the_fix() {
        let error = add_system_roots(&mut RootCertStore::empty(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("CA file"), "{error}");
    }
}
