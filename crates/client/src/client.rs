//! The calls.

use std::error::Error as StdError;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tapline_oapi::{
    BatchResult, CategorySet, ConfigRequest, Cursor, Envelope, ErrorBody, PublishRequest,
    ReaderList, ReaderPatch, ReaderPatched, State, Ticket, TicketRequest,
};

use crate::error::{Error, ProtocolError};
use crate::stream::{EventStream, Start, StreamOptions};
use crate::wait::{WaitOptions, Waited};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server may think about a call. Publishing the largest batch takes it well under a
/// second, starting a source (a browser) may take it several.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes of an answer: a list of some ten thousand readers, at about 400 bytes each.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A Tapline server, seen from outside. Cheap to clone; clones share their connections.
///
/// ```no_run
/// use tapline_client::Client;
/// use tapline_oapi::{Event, PublishRequest};
///
/// # async fn publish() -> Result<(), tapline_client::Error> {
/// let client = Client::new("http://127.0.0.1:10001")?;
/// let answer = client
///     .publish(&PublishRequest { event_type: "page_load".to_owned(), ..PublishRequest::default() })
///     .await?;
/// match answer {
///     Some(envelope) => println!("published as {}", envelope.seq),
///     None => println!("that category is not captured"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// A call that is dropped half way may have been acted upon. Only [`EventStream::next`] can be
/// dropped with nothing lost.
#[derive(Clone)]
pub struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    base: Arc<str>,
    token: Option<HeaderValue>,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:10001`; a path that the server is
    /// mounted under may follow. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`] where that is no `http://` address.
    pub fn new(url: &str) -> Result<Self, Error> {
        let base = base_of(url).map_err(|reason| Error::InvalidUrl {
            url: url.to_owned(),
            reason,
        })?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        Ok(Self {
            http: HttpClient::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .build(connector),
            base,
            token: None,
        })
    }

    /// The same client, which shows `token` to the server: `Authorization: Bearer …`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] where a header cannot carry it.
    pub fn with_token(mut self, token: &str) -> Result<Self, Error> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Error::InvalidToken)?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// The server's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Whether the server answers at all (`GET /healthz`).
    ///
    /// # Errors
    ///
    /// Any [`Error`]: it does not, or not as it should.
    pub async fn health(&self) -> Result<(), Error> {
        self.call(Method::GET, "/healthz", None).await.map(drop)
    }

    /// What is captured, and where the stream stands. `None` where no session is configured.
    ///
    /// # Errors
    ///
    /// Any [`Error`] of the way there and back.
    pub async fn state(&self) -> Result<Option<State>, Error> {
        match self.call(Method::GET, "/telemetry", None).await {
            Ok((_, body)) => self.read(&body).map(Some),
            Err(Error::Refused {
                body: Some(refusal),
                ..
            }) if refusal.code == tapline_oapi::ErrorCode::NotConfigured => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts a session, or replaces the configuration of the one that is running
    /// (`PUT /telemetry`). The default request captures all user-facing categories; one that
    /// switches nothing on ends the session.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the request is not in order (400) or the source of events could not
    /// start (500), which leaves everything as it was.
    pub async fn start(&self, config: &ConfigRequest) -> Result<State, Error> {
        let (_, body) = self
            .call(Method::PUT, "/telemetry", Some(Content::json(config)))
            .await?;
        self.read(&body)
    }

    /// Switches single categories of the running session on or off (`PATCH /telemetry`); what is
    /// not named stays.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where no session is configured (404) or the request is not in order.
    pub async fn patch(&self, config: &ConfigRequest) -> Result<State, Error> {
        let (_, body) = self
            .call(Method::PATCH, "/telemetry", Some(Content::json(config)))
            .await?;
        self.read(&body)
    }

    /// Publishes one event. Answers with the envelope that readers get, or with `None` where the
    /// event was filtered: no session runs, or it does not capture that category.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the event is not in order (400) or too large (413). After
    /// [`Error::Disconnected`] or [`Error::TimedOut`] nobody knows whether it was published.
    pub async fn publish(&self, event: &PublishRequest) -> Result<Option<Envelope>, Error> {
        let content = Content::json(event);
        let (status, body) = self
            .call(Method::POST, "/telemetry/events", Some(content))
            .await?;
        match status {
            StatusCode::NO_CONTENT => Ok(None),
            _ => self.read(&body).map(Some),
        }
    }

    /// Publishes many events at once: one JSON object a line, blank lines passed over. A line that
    /// is not in order is refused, counted and told, and loses none of the good ones. Servers take
    /// 8 MiB at a time.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish), where the body as a whole is refused.
    pub async fn publish_ndjson(&self, lines: impl Into<Bytes>) -> Result<BatchResult, Error> {
        let content = Content {
            media_type: "application/x-ndjson",
            body: lines.into(),
        };
        let (_, body) = self
            .call(Method::POST, "/telemetry/events", Some(content))
            .await?;
        self.read(&body)
    }

    /// Waits for the first event that matches, among those that are retained and those that come
    /// (`GET /telemetry/wait`): one that was published before the call is not missed.
    ///
    /// # Errors
    ///
    /// Any [`Error`] of the way there and back. That no event came is none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken from anybody: to wait again after the same finds what this would have found, as
    /// long as it is retained.
    pub async fn wait(&self, options: &WaitOptions) -> Result<Waited, Error> {
        let timeout = CALL_TIMEOUT.saturating_add(options.timeout);
        let (status, headers, body) = self
            .exchange(Method::GET, &wait_path(options), None, timeout)
            .await?;
        Ok(Waited {
            envelope: match status {
                StatusCode::NO_CONTENT => None,
                _ => Some(self.read(&body)?),
            },
            lost: self.header(&headers, "x-lost")?,
            head: self.header(&headers, "x-head")?,
            epoch: self.header(&headers, "x-epoch")?,
        })
    }

    /// Who reads at this moment, where, how far behind, and what they lost.
    ///
    /// # Errors
    ///
    /// Any [`Error`] of the way there and back.
    pub async fn readers(&self) -> Result<ReaderList, Error> {
        let (_, body) = self.call(Method::GET, "/telemetry/readers", None).await?;
        self.read(&body)
    }

    /// Changes what a reader asks for, while it reads. Its id is in [`readers`](Self::readers), and in
    /// the `hello` of its stream.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where there is no such reader (404), the request is not in order (400), or the
    /// reader has not come to it in time (408, 503).
    pub async fn patch_reader(
        &self,
        id: &str,
        patch: &ReaderPatch,
    ) -> Result<ReaderPatched, Error> {
        let mut path = "/telemetry/readers/".to_owned();
        percent_encode(&mut path, id);
        let content = Content::json(patch);
        let (_, body) = self.call(Method::PATCH, &path, Some(content)).await?;
        self.read(&body)
    }

    /// Makes a ticket, with which somebody who does not have the token opens streams.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the request is not in order.
    pub async fn create_ticket(&self, request: &TicketRequest) -> Result<Ticket, Error> {
        let content = Content::json(request);
        let (_, body) = self
            .call(Method::POST, "/telemetry/tickets", Some(content))
            .await?;
        self.read(&body)
    }

    /// Follows the events. Connects with the first [`next`](EventStream::next).
    #[must_use]
    pub fn stream(&self, options: StreamOptions) -> EventStream {
        EventStream::new(self.clone(), options)
    }

    /// Opens the stream once. `resume` is where an earlier connection came to.
    pub(crate) async fn open_stream(
        &self,
        options: &StreamOptions,
        resume: Option<Cursor>,
    ) -> Result<Incoming, Error> {
        let mut request = self.request(Method::GET, &stream_path(options, resume));
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(resume) = resume.and_then(|cursor| cursor.to_string().parse().ok()) {
            request.headers_mut().insert("last-event-id", resume);
        }
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !media_type.starts_with("text/event-stream") {
            return Err(self.protocol(ProtocolError::MediaType(media_type.to_owned())));
        }
        Ok(response.into_body())
    }

    /// Sends, and reads the whole answer; whatever is not a success is an error.
    async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<Content>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let (status, _, body) = self.exchange(method, path, content, CALL_TIMEOUT).await?;
        Ok((status, body))
    }

    /// The same, with the headers of the answer, for a call that may take so long.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content: Option<Content>,
        timeout: Duration,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Error> {
        let mut request = self.request(method, path);
        if let Some(Content { media_type, body }) = content {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            *request.body_mut() = Full::new(body);
        }
        let exchange = async {
            let mut response = self.send(request).await?;
            let status = response.status();
            if !status.is_success() {
                return Err(self.refusal(response).await);
            }
            let headers = std::mem::take(response.headers_mut());
            Ok((status, headers, self.collect(response).await?))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(self.timed_out(timeout)))
    }

    fn header<T: FromStr>(&self, headers: &HeaderMap, name: &'static str) -> Result<T, Error> {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .ok_or_else(|| self.protocol(ProtocolError::Header(name)))
    }

    fn request(&self, method: Method, path: &str) -> Request<Full<Bytes>> {
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

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                Error::Unreachable {
                    url: self.base.to_string(),
                    source: system_error(&error),
                }
            } else {
                self.disconnected(Some(error.into()))
            }
        })
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        Limited::new(response.into_body(), MAX_ANSWER_BYTES)
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

    /// The error that an answer is which is no success.
    async fn refusal(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return self.protocol(ProtocolError::Status(status.as_u16()));
        }
        let body = self.collect(response).await.unwrap_or_default();
        Error::Refused {
            status: status.as_u16(),
            body: serde_json::from_slice::<ErrorBody>(&body).ok(),
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| self.protocol(ProtocolError::Body(error)))
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

/// A token is a secret: that there is one is all that is shown.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.base)
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

/// A body to send.
struct Content {
    media_type: &'static str,
    body: Bytes,
}

impl Content {
    fn json<T: serde::Serialize>(value: &T) -> Self {
        Self {
            media_type: "application/json",
            body: serde_json::to_vec(value)
                .expect("requests have string keys and no failing Serialize")
                .into(),
        }
    }
}

/// The address without a slash at its end, or what is wrong with it.
fn base_of(url: &str) -> Result<Arc<str>, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL")?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err("this client speaks no TLS, only http://"),
        _ => return Err("it has to begin with http://"),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("a user and password in it would not be sent");
    }
    if uri.query().is_some() {
        return Err("it has a query");
    }
    Ok(url.trim_end_matches('/').into())
}

/// The path of the stream and its query.
fn stream_path(options: &StreamOptions, resume: Option<Cursor>) -> String {
    let mut path = "/telemetry/stream?notices=true".to_owned();
    let mut add = |name: &str, value: &str| add_parameter(&mut path, name, value);
    // The header of a resumption wins over all of these; sending both would only confuse a log.
    match &options.start {
        _ if resume.is_some() => {}
        Start::Session => {}
        Start::Oldest => add("replay", "all"),
        Start::Live => add("replay", "live"),
        Start::After(cursor) => add("after", &cursor.to_string()),
    }
    add_filter(&mut path, options.categories, &options.types);
    path
}

/// The path of a wait and its query.
fn wait_path(options: &WaitOptions) -> String {
    let mut path = format!("/telemetry/wait?timeout_ms={}", options.timeout.as_millis());
    if let Some(after) = &options.after {
        add_parameter(&mut path, "after", &after.to_string());
    }
    add_filter(&mut path, options.categories, &options.types);
    path
}

fn add_filter(path: &mut String, categories: CategorySet, types: &[String]) {
    for category in categories.iter() {
        add_parameter(path, "category", category.as_str());
    }
    for pattern in types {
        add_parameter(path, "type", pattern);
    }
}

fn add_parameter(path: &mut String, name: &str, value: &str) {
    path.push('&');
    path.push_str(name);
    path.push('=');
    percent_encode(path, value);
}

/// Appends `text` with everything encoded that means something in a path or a query.
fn percent_encode(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// What the system said, from the bottom of the chain: the layers above it only repeat that there
/// was no connection.
fn system_error(error: &(dyn StdError + 'static)) -> io::Error {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match last.downcast_ref::<io::Error>() {
        Some(error) => match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        },
        None => io::Error::other(last.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_oapi::{Category, CategorySet};

    #[test]
    fn an_address_is_checked_and_its_slash_dropped() {
        let base = |url: &str| base_of(url).map(|base| base.to_string());
        assert_eq!(base("http://h:1/"), Ok("http://h:1".to_owned()));
        assert_eq!(base("http://[::1]:1/x/"), Ok("http://[::1]:1/x".to_owned()));
        for url in [
            "",
            "h:1",
            "/x",
            "https://h",
            "http://u:p@h",
            "http://h/?a=b",
            "http://",
            "ftp://h",
        ] {
            assert!(base(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_query_of_a_stream_is_encoded() {
        let options = StreamOptions {
            start: Start::After(Cursor::from(5)),
            categories: CategorySet::of(&[Category::Console, Category::Page]),
            types: vec!["page_*".to_owned(), "a&b=ü".to_owned()],
            ..StreamOptions::default()
        };
        let filter = "&category=console&category=page&type=page_*&type=a%26b%3D%C3%BC";
        assert_eq!(
            stream_path(&options, None),
            format!("/telemetry/stream?notices=true&after=5{filter}")
        );
        assert_eq!(
            stream_path(&options, Some(Cursor::from(9))),
            format!("/telemetry/stream?notices=true{filter}")
        );
    }

    #[test]
    fn the_query_of_a_wait_is_encoded() {
        let options = WaitOptions {
            after: Some(Cursor::from(5)),
            categories: CategorySet::of(&[Category::Page]),
            types: vec!["a&b".to_owned()],
            timeout: Duration::from_micros(1500),
        };
        assert_eq!(
            wait_path(&options),
            "/telemetry/wait?timeout_ms=1&after=5&category=page&type=a%26b"
        );
        assert_eq!(
            wait_path(&WaitOptions::default()),
            "/telemetry/wait?timeout_ms=30000"
        );
    }

    #[test]
    fn a_token_is_never_shown() {
        let client = Client::new("http://h").and_then(|client| client.with_token("s3cret"));
        let shown = format!("{:?}", client.unwrap());
        assert!(
            !shown.contains("s3cret") && shown.contains("has_token: true"),
            "{shown}"
        );
        let refused = Client::new("http://h")
            .unwrap()
            .with_token("a\nb")
            .unwrap_err();
        assert!(matches!(refused, Error::InvalidToken));
    }
}
