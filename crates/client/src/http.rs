//! The connections to one server: a request, its whole answer, and the errors of both.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tapline_oapi::{CategorySet, ErrorBody};

use crate::connector::{self, Connector};
use crate::error::{Error, ProtocolError};

/// The most bytes of an answer. A page has 8 MiB and one event more; a list of ten thousand readers, at about 400
/// bytes each, has half of that.
const MAX_ANSWER_BYTES: usize = 12 * 1024 * 1024;

/// Pooled connections to one server, with its address and the token. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    hyper: HyperClient<Connector, Full<Bytes>>,
    base: Arc<str>,
    token: Option<HeaderValue>,
}

impl Http {
    /// Connects to nothing yet. `ca_file` says which servers are trusted; without it the system does.
    pub(crate) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, Error> {
        let base = base_of(url).map_err(|reason| Error::InvalidUrl {
            url: url.to_owned(),
            reason,
        })?;
        let is_https = base.starts_with("https:");
        Ok(Self {
            hyper: HyperClient::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .build(connector::new(is_https, ca_file)?),
            base,
            token: None,
        })
    }

    pub(crate) fn with_token(mut self, token: &str) -> Result<Self, Error> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::InvalidToken)?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Sends a request and reads the whole answer, within `timeout`. An answer that is not a success
    /// is an error.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        content: Option<Content>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Error> {
        let mut request = self.request(method, path);
        if let Some(Content { media_type, body }) = content {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            *request.body_mut() = Full::new(body);
        }
        let exchange = async {
            let response = self.send(request).await?;
            if !response.status().is_success() {
                return Err(self.refusal(response).await);
            }
            let (parts, body) = response.into_parts();
            Ok(Response::from_parts(parts, self.collect(body).await?))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(self.timed_out(timeout)))
    }

    /// A request without a body, which carries the token.
    pub(crate) fn request(&self, method: Method, path: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.base)
            .parse()
            .expect("the base was parsed before, and what follows is percent-encoded");
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        request
    }

    /// Sends a request; the body of the answer is still to come.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        self.hyper.request(request).await.map_err(|error| {
            if error.is_connect() {
                Error::Unreachable {
                    url: self.base.to_string(),
                    source: system_error(&error),
                }
            } else if is_not_http(&error) {
                self.protocol(ProtocolError::NotHttp(error.into()))
            } else {
                self.disconnected(Some(error.into()))
            }
        })
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Error> {
        Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map(|body| body.to_bytes())
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    self.protocol(ProtocolError::BodyTooLarge(MAX_ANSWER_BYTES))
                } else {
                    self.disconnected(Some(error))
                }
            })
    }

    /// The error for an answer that is not a success.
    pub(crate) async fn refusal(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return self.protocol(ProtocolError::Status(status.as_u16()));
        }
        let body = self.collect(response.into_body()).await.unwrap_or_default();
        Error::Refused {
            status: status.as_u16(),
            body: serde_json::from_slice::<ErrorBody>(&body).ok(),
        }
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| self.protocol(ProtocolError::Body(error)))
    }

    pub(crate) fn header<T: FromStr>(
        &self,
        headers: &HeaderMap,
        name: &'static str,
    ) -> Result<T, Error> {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .ok_or_else(|| self.protocol(ProtocolError::Header(name)))
    }

    pub(crate) fn protocol(&self, source: ProtocolError) -> Error {
        Error::Protocol {
            url: self.base.to_string(),
            source,
        }
    }

    pub(crate) fn disconnected(&self, source: Option<Box<dyn StdError + Send + Sync>>) -> Error {
        Error::Disconnected {
            url: self.base.to_string(),
            source,
        }
    }

    pub(crate) fn timed_out(&self, after: Duration) -> Error {
        Error::TimedOut {
            url: self.base.to_string(),
            after,
        }
    }
}

/// A body to send.
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    pub(crate) body: Bytes,
}

impl Content {
    pub(crate) fn json<T: serde::Serialize>(value: &T) -> Self {
        Self {
            media_type: "application/json",
            body: serde_json::to_vec(value)
                .expect("requests have string keys and no failing Serialize")
                .into(),
        }
    }
}

/// Adds the parameters of a filter to a query.
pub(crate) fn add_filter(
    query: &mut form_urlencoded::Serializer<'_, String>,
    categories: CategorySet,
    types: &[String],
) {
    query.extend_pairs(
        categories
            .iter()
            .map(|category| ("category", category.as_str())),
    );
    query.extend_pairs(types.iter().map(|pattern| ("type", pattern)));
}

/// The address without a slash at its end, or what is wrong with it.
fn base_of(url: &str) -> Result<Arc<str>, &'static str> {
    let uri: Uri = url
        .parse()
        .map_err(|_| "it is not a URL; write one such as http://127.0.0.1:10001")?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") => {
            return Err(
                "this client was built without TLS; enable the feature `tls` of tapline-client",
            );
        }
        _ => return Err("it has to begin with http:// or https://"),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("its user and password would not be sent; remove them and use a token");
    }
    if uri.query().is_some() {
        return Err("it has a query; remove it");
    }
    Ok(url.trim_end_matches('/').into())
}

/// Whether the answer is not HTTP.
fn is_not_http(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let hyper = error.downcast_ref::<hyper::Error>();
        if hyper.is_some_and(hyper::Error::is_parse) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error of the system at the end of the chain: the layers above it only repeat that there was no
/// connection.
fn system_error(error: &(dyn StdError + 'static)) -> io::Error {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let code = last
        .downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error);
    match code {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(connector::kind_of(last), last.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_and_loses_its_trailing_slash() {
        let base = |url: &str| base_of(url).map(|base| base.to_string());
        assert_eq!(base("http://h:1/"), Ok("http://h:1".to_owned()));
        assert_eq!(base("http://[::1]:1/x/"), Ok("http://[::1]:1/x".to_owned()));
        for url in [
            "",
            "h:1",
            "/x",
            "http://u:p@h",
            "http://h/?a=b",
            "http://",
            "ftp://h",
        ] {
            assert!(base(url).is_err(), "{url}");
        }
        assert_eq!(base("https://h").is_ok(), cfg!(feature = "tls"));
    }
}
