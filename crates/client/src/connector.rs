//! What a connection is made with: TCP, and TLS where the address is `https`.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

use crate::error::Error;

/// How long connecting may take, without the handshake of TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(feature = "tls")]
pub(crate) type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

#[cfg(not(feature = "tls"))]
pub(crate) type Connector = HttpConnector;

/// For one server. For `https` it reads the certificates that are trusted, now.
pub(crate) fn new(is_https: bool, ca_file: Option<&Path>) -> Result<Connector, Error> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    over(tcp, is_https, ca_file)
}

#[cfg(not(feature = "tls"))]
fn over(tcp: HttpConnector, _: bool, _: Option<&Path>) -> Result<Connector, Error> {
    Ok(tcp)
}

#[cfg(feature = "tls")]
fn over(
    mut tcp: HttpConnector,
    is_https: bool,
    ca_file: Option<&Path>,
) -> Result<Connector, Error> {
    use std::sync::Arc;

    use hyper_rustls::ConfigBuilderExt as _;
    use rustls::{ClientConfig, RootCertStore};

    // Addresses of both kinds: TLS is put around those that ask for it.
    tcp.enforce_http(false);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the default versions");
    let builder = match (is_https, ca_file) {
        // Nothing is read that is not needed.
        (false, _) => builder.with_root_certificates(RootCertStore::empty()),
        (true, Some(path)) => builder.with_root_certificates(roots_in(path)?),
        (true, None) => builder
            .with_native_roots()
            .map_err(|source| Error::Certificates {
                of: "the system".to_owned(),
                source: source.into(),
            })?,
    };
    let config = builder.with_no_client_auth();
    Ok((tcp, config).into())
}

/// The kind of an error: `InvalidData` where TLS failed, such as for a certificate that is not trusted.
pub(crate) fn kind_of(error: &(dyn StdError + 'static)) -> io::ErrorKind {
    #[cfg(feature = "tls")]
    if error.is::<rustls::Error>() {
        return io::ErrorKind::InvalidData;
    }
    let Some(error) = error.downcast_ref::<io::Error>() else {
        return io::ErrorKind::Other;
    };
    // An error in an error of the system: it has no other source.
    match error.get_ref().map(|inner| kind_of(inner)) {
        None | Some(io::ErrorKind::Other) => error.kind(),
        Some(kind) => kind,
    }
}

/// The certificates in a file, in PEM.
#[cfg(feature = "tls")]
fn roots_in(path: &Path) -> Result<rustls::RootCertStore, Error> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    type Cause = Box<dyn StdError + Send + Sync>;
    let read = || -> Result<rustls::RootCertStore, Cause> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path)? {
            roots.add(certificate?)?;
        }
        match roots.is_empty() {
            true => Err("there is no certificate in it; it has to be in PEM".into()),
            false => Ok(roots),
        }
    };
    read().map_err(|source| Error::Certificates {
        of: path.display().to_string(),
        source,
    })
}
