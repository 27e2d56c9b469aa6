//! A connection to a server that has what is needed: [`Connection`].

use std::io;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::rustls::{AlertDescription, Error as TlsError};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::watch;

use crate::error::{ClientError, NatsError};
use crate::options::NatsOptions;

/// The first version that has all that is used: atomic batches; batched direct gets are of 2.11.
pub(crate) const MIN_VERSION: (u32, u32) = (2, 12);

/// How often the server is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A connection to a server of a sufficient version.
///
/// Where it breaks, the client connects again by itself, with the credentials that it has. To read the credentials
/// anew, and to check the version again, [open](Self::open) another one.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
    jetstream: Context,
    is_connected: watch::Receiver<bool>,
    last_error: watch::Receiver<Option<String>>,
    url: String,
    request_timeout: Duration,
}

impl Connection {
    /// Connects under that name, which the server shows to its operators. Makes one attempt at each server.
    ///
    /// # Errors
    ///
    /// [`NatsError`] where no server answers, it refuses, or its version is too old.
    pub async fn open(options: &NatsOptions, name: &str) -> Result<Self, NatsError> {
        Self::connect(options, name, None).await
    }

    /// As [`open`](Self::open), and where it breaks, the client gives it up.
    pub(crate) async fn open_once(options: &NatsOptions, name: &str) -> Result<Self, NatsError> {
        // One attempt at each server is what the first connection takes.
        Self::connect(options, name, Some(options.servers.len())).await
    }

    async fn connect(
        options: &NatsOptions,
        name: &str,
        max_reconnects: Option<usize>,
    ) -> Result<Self, NatsError> {
        let url = options.urls();
        let (connected, is_connected) = watch::channel(true);
        let (errors, last_error) = watch::channel(None);
        let mut with = match &options.credentials_file {
            Some(path) => credentials(path).await?,
            None => ConnectOptions::new(),
        };
        if let Some(path) = &options.ca_file {
            with = with.add_root_certificates(path.clone());
        }
        if let Some((cert, key)) = &options.client_cert {
            with = with.add_client_certificate(cert.clone(), key.clone());
        }
        let with = with
            .name(name)
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout))
            .ping_interval(PING_INTERVAL)
            .max_reconnects(max_reconnects)
            .event_callback(move |event| {
                match event {
                    Event::Connected => _ = connected.send_replace(true),
                    Event::Disconnected | Event::Closed => _ = connected.send_replace(false),
                    Event::ServerError(error) => _ = errors.send_replace(Some(error.to_string())),
                    _ => {}
                }
                async {}
            });
        let client =
            with.connect(options.servers.clone())
                .await
                .map_err(|source| match refusal(&source, options) {
                    Some(hint) => NatsError::Refused {
                        url: url.clone(),
                        hint,
                        source: source.into(),
                    },
                    None => NatsError::Unreachable {
                        url: url.clone(),
                        source: source.into(),
                    },
                })?;
        let found = client.server_info().version;
        if !is_sufficient(&found) {
            return Err(NatsError::Version { url, found });
        }
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(options.request_timeout);
        Ok(Self {
            client,
            jetstream,
            is_connected,
            last_error,
            url,
            request_timeout: options.request_timeout,
        })
    }

    /// The client of the protocol.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The client of JetStream.
    pub fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    /// The servers, joined by commas.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long the server may take for an answer.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// What the server has complained about last, such as a right that these credentials lack. A request that it does
    /// not allow is not answered otherwise.
    pub fn server_error(&self) -> Option<String> {
        self.last_error.borrow().clone()
    }

    /// A request to JetStream has failed. What the server has complained about last says more than the hint.
    pub(crate) fn failed(
        &self,
        operation: String,
        hint: &str,
        source: impl Into<ClientError>,
    ) -> NatsError {
        NatsError::JetStream {
            url: self.url.clone(),
            operation,
            hint: match self.server_error() {
                Some(error) => format!("the last error of the server: {error}"),
                None => hint.to_owned(),
            },
            source: source.into(),
        }
    }

    /// Whether it is not broken now.
    pub fn is_connected(&self) -> bool {
        *self.is_connected.borrow()
    }

    /// What is to be said while it is broken.
    pub(crate) fn unreachable(&self) -> String {
        format!("the NATS server {} cannot be reached", self.url)
    }

    /// Waits until the connection is there.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn connected(&self) {
        let mut is_connected = self.is_connected.clone();
        let _ = is_connected.wait_for(|it| *it).await;
    }

    /// Waits until the connection is broken.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn disconnected(&self) {
        let mut is_connected = self.is_connected.clone();
        let _ = is_connected.wait_for(|it| !it).await;
    }
}

/// What to do about it; `None` where no server has answered.
fn refusal(error: &ConnectError, options: &NatsOptions) -> Option<String> {
    let of_file = || {
        let path = options.credentials_file.as_ref()?;
        Some(path.display())
    };
    let hint = match error.kind() {
        ConnectErrorKind::AuthorizationViolation => match (of_file(), &options.client_cert) {
            (Some(path), _) => {
                return Some(format!(
                    "it does not accept the credentials in {path}; correct them, or add this user at the server"
                ));
            }
            (None, Some(_)) => {
                "it knows no user with the certificate of this client; add the user at the server, or pass credentials \
                 with --nats-creds"
            }
            (None, None) => {
                "it needs credentials; put them into a file, and pass it with --nats-creds"
            }
        },
        ConnectErrorKind::Authentication => {
            return Some(match of_file() {
                Some(path) => format!(
                    "the key in {path} is not valid; it has to be the seed of a user, which begins with SU"
                ),
                None => "the key of the user is not valid".to_owned(),
            });
        }
        ConnectErrorKind::Tls => {
            "the files for TLS cannot be used; correct --nats-ca-file, or --nats-cert and --nats-key, which have to belong \
             together"
        }
        _ => match tls_error(error)? {
            TlsError::InvalidCertificate(_) => {
                "its certificate is not trusted; pass the certificate of its authority with --nats-ca-file"
            }
            TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
                "it needs a certificate of this client; pass --nats-cert and --nats-key"
            }
            TlsError::AlertReceived(_) => {
                "it does not accept the certificate of this client; correct --nats-cert and --nats-key"
            }
            _ => "TLS with it fails; correct the URL, or the certificate of the server",
        },
    };
    Some(hint.to_owned())
}

/// The client calls it an error of the socket.
fn tls_error(error: &ConnectError) -> Option<&TlsError> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<io::Error>()?
        .get_ref()?
        .downcast_ref()
}

fn is_sufficient(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '-']);
    let mut next = || parts.next()?.parse().ok();
    let found: Option<(u32, u32)> = next().zip(next());
    found.is_some_and(|found| MIN_VERSION <= found)
}

async fn credentials(path: &Path) -> Result<ConnectOptions, NatsError> {
    let read = tokio::fs::read_to_string(path).await;
    let text = read.map_err(|source| NatsError::CredentialsFile {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|reason| NatsError::Credentials {
        path: path.to_owned(),
        reason,
    })
}

/// The reason never repeats the text, which is secret.
fn parse(text: &str) -> Result<ConnectOptions, String> {
    if text.contains("BEGIN NATS USER JWT") {
        return ConnectOptions::with_credentials(text)
            .map_err(|_| "it is no complete .creds file: create it again".to_owned());
    }
    let (mut user, mut password, mut token, mut nkey) = (None, None, None, None);
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let named = line.split_once(':').and_then(|(name, value)| {
            let field = match name.trim() {
                "user" => &mut user,
                "password" => &mut password,
                "token" => &mut token,
                "nkey" => &mut nkey,
                _ => return None,
            };
            field.replace(value.trim().to_owned());
            Some(())
        });
        if named.is_none() {
            let line = n + 1;
            return Err(format!(
                "line {line} is none of `user: …`, `password: …`, `token: …` and `nkey: …`"
            ));
        }
    }
    match (user, password, token, nkey) {
        (Some(user), Some(password), None, None) => {
            Ok(ConnectOptions::with_user_and_password(user, password))
        }
        (None, None, Some(token), None) => Ok(ConnectOptions::with_token(token)),
        (None, None, None, Some(seed)) => Ok(ConnectOptions::with_nkey(seed)),
        _ => Err(
            "it needs either `user: …` and `password: …`, or `token: …`, or `nkey: …`, or to be a .creds file"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for version in ["2.12.0", "2.15.1", "3.0.0", "2.12.0-RC.1", "v2.13.4"] {
            assert!(is_sufficient(version), "{version}");
        }
        for version in ["2.9.10", "2.11.8", "1.99.0", "", "next"] {
            assert!(!is_sufficient(version), "{version}");
        }
    }

    #[test]
    fn a_credentials_file_is_one_kind() {
        let check = |text: &str, expected: Result<(), &str>| match (parse(text), expected) {
            (Ok(_), Ok(())) => {}
            (Err(reason), Err(expected)) => {
                assert!(reason.contains(expected), "{reason}");
                assert!(!reason.contains("secret"), "{reason}");
            }
            (found, _) => panic!("{text}: {:?}", found.map(|_| ())),
        };
        check("user: me\npassword: secret: 7\n", Ok(()));
        check("# of the fleet\n\ntoken: secret", Ok(()));
        check("nkey: secret", Ok(()));
        check("user: me\n", Err("needs either"));
        check(
            "user: me\npassword: x\ntoken: secret\n",
            Err("needs either"),
        );
        check("", Err("needs either"));
        check("token: a\nsecret", Err("line 2 is none of"));
        check(
            "-----BEGIN NATS USER JWT-----\nsecret",
            Err("no complete .creds"),
        );
    }
}
