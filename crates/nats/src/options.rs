//! Which servers, with which credentials, and what the streams are created with.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;

use crate::error::NatsError;
use crate::name::Partitions;

/// The servers, and how to connect to them. [`new`](Self::new) gives the defaults; the fields may be changed.
///
/// Its `Debug` output contains no secret: credentials are in a file, and URLs have none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NatsOptions {
    pub(crate) servers: Vec<ServerAddr>,
    /// A file with the credentials: a `.creds` file with a JWT and its key, or lines `user: …` and `password: …`,
    /// `token: …`, or `nkey: …` with the seed. It is read for each new connection. None by default.
    pub credentials_file: Option<PathBuf>,
    /// A file with the certificates to trust for TLS, in PEM. By default those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The certificate and the key of this client, in PEM, for a server that asks for one. None by default.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// How long connecting may take. 5 s by default.
    pub connect_timeout: Duration,
    /// How long the server may take to answer a request. 5 s by default.
    pub request_timeout: Duration,
}

impl NatsOptions {
    /// Connects to these servers: `nats://HOST:PORT` or `tls://HOST:PORT`, several of one cluster joined by commas.
    /// The port is 4222 unless the URL has one.
    ///
    /// # Errors
    ///
    /// [`NatsError::Url`] where one is no such URL, or contains a user or a password.
    pub fn new(urls: &str) -> Result<Self, NatsError> {
        let servers = urls.split(',').map(|url| server(url.trim()));
        Ok(Self {
            servers: servers.collect::<Result<_, _>>()?,
            credentials_file: None,
            ca_file: None,
            client_cert: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
        })
    }

    /// The servers, joined by commas.
    pub fn urls(&self) -> String {
        let urls = self.servers.iter().map(|it| {
            let scheme = match it.tls_required() {
                true => "tls",
                false => "nats",
            };
            match it.host().contains(':') {
                true => format!("{scheme}://[{}]:{}", it.host(), it.port()),
                false => format!("{scheme}://{}:{}", it.host(), it.port()),
            }
        });
        urls.collect::<Vec<_>>().join(",")
    }
}

fn server(url: &str) -> Result<ServerAddr, NatsError> {
    let error = |reason: &str, url: &str| NatsError::Url {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    if let Some((before, host)) = url.rsplit_once('@') {
        // What is before it is a secret, or may be one.
        let scheme = before.split_once("://").map_or("nats", |(it, _)| it);
        let hidden = format!("{scheme}://…@{host}");
        return Err(error(
            "it contains a user, a password or a token; put them into a file, and pass that as the credentials file",
            &hidden,
        ));
    }
    if !url.starts_with("nats://") && !url.starts_with("tls://") {
        return Err(error(
            "it has to begin with nats:// or tls://, such as nats://127.0.0.1:4222",
            url,
        ));
    }
    let server: ServerAddr = url
        .parse()
        .map_err(|_| error("it is no URL, such as nats://127.0.0.1:4222", url))?;
    let is_plain = server.clone().into_inner();
    let has_more = !matches!(is_plain.path(), "" | "/")
        || is_plain.query().is_some()
        || is_plain.fragment().is_some();
    match server.host().is_empty() || has_more {
        true => Err(error(
            "it has to be a host and a port, and nothing more",
            url,
        )),
        false => Ok(server),
    }
}

/// What the streams are to be like. Streams that exist are checked against what is given here, and never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// Over how many streams the instances are spread. By default as many as there are, and 16 where there are none.
    pub partitions: Option<Partitions>,
    /// On how many servers each stream is stored. 1 by default.
    pub replicas: Option<usize>,
    /// Delete events that were stored longer ago. 7 days by default; zero is without a limit.
    pub max_age: Option<Duration>,
    /// The most bytes of one stream; the oldest events are deleted first. 1 GiB by default. The server reserves them
    /// for each stream.
    pub max_bytes: Option<u64>,
}

impl StreamOptions {
    /// [`max_age`](Self::max_age) of streams that are created without one.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// [`max_bytes`](Self::max_bytes) of streams that are created without one.
    pub const DEFAULT_MAX_BYTES: u64 = 1024 * 1024 * 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_and_no_secret() {
        let check = |urls: &str, expected: Result<&str, &str>| {
            let found = NatsOptions::new(urls);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.urls(), expected),
                (Err(found), Err(expected)) => {
                    let found = found.to_string();
                    assert!(found.contains(expected), "{found}");
                    assert!(!found.contains("secret"), "{found}");
                }
                (found, _) => panic!("{urls}: {found:?}"),
            }
        };
        check("nats://127.0.0.1", Ok("nats://127.0.0.1:4222"));
        check("tls://nats.example:7422", Ok("tls://nats.example:7422"));
        check("nats://[::1]:4223", Ok("nats://[::1]:4223"));
        check("nats://a:1, nats://b", Ok("nats://a:1,nats://b:4222"));
        check("nats://me:secret@host", Err("nats://…@host"));
        check("tls://secret@host:1", Err("put them into a file"));
        check("secret@host", Err("put them into a file"));
        check("host:4222", Err("has to begin with nats:// or tls://"));
        check("ws://host", Err("has to begin with nats:// or tls://"));
        check("nats://", Err("`nats://`"));
        check("nats://host/path", Err("nothing more"));
        check("", Err("has to begin with"));
    }
}
