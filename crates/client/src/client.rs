//! The calls.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tapline_oapi::{
    BatchResult, ConfigRequest, Envelope, ErrorCode, PublishRequest, ReaderList, ReaderPatch,
    ReaderPatched, SinkList, State, Ticket, TicketRequest,
};

use crate::error::{Error, ProtocolError};
use crate::follower::Follower;
use crate::http::{Content, Http, add_filter};
use crate::options::StreamOptions;
use crate::page::{self, EventPage, PageOptions, PageOrder};
use crate::probe::Probe;
use crate::wait::{WaitOptions, Waited};

/// How long a call may take. Publishing the largest batch takes the server well under a second;
/// starting a source (a browser) may take several.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What has to be encoded in a segment of a path: everything but the unreserved characters of RFC 3986.
const IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The calls of a Tapline server. Cheap to clone; clones share their connections.
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
/// A call that is dropped before it ends may have taken effect. Only [`Follower::next`] loses nothing
/// when it is dropped.
#[derive(Clone)]
pub struct Client {
    http: Http,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:10001`; a path that the server is
    /// mounted under may follow. Connects to nothing yet.
    ///
    /// `https://` needs the feature `tls`. A server is trusted if its certificate is signed by one that the system
    /// trusts: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the usual places. They are read now.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`] if that is not the address of a server, [`Error::Certificates`] for an `https` address if
    /// the system trusts no certificate.
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            http: Http::new(url, None)?,
        })
    }

    /// As [`new`](Self::new), for a server whose certificate is signed by one of those in this file (PEM), or is one of
    /// them, and by no other.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], and for an `https` address [`Error::Certificates`] if the file cannot be read or holds no
    /// certificate.
    #[cfg(feature = "tls")]
    pub fn with_ca_file(url: &str, ca_file: impl AsRef<std::path::Path>) -> Result<Self, Error> {
        Ok(Self {
            http: Http::new(url, Some(ca_file.as_ref()))?,
        })
    }

    /// The same client, which sends `token` with each request: `Authorization: Bearer …`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidToken`] if an HTTP header cannot carry it.
    pub fn with_token(self, token: &str) -> Result<Self, Error> {
        Ok(Self {
            http: self.http.with_token(token)?,
        })
    }

    /// The server's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        self.http.base()
    }

    /// Checks that the server answers (`GET /healthz`).
    ///
    /// # Errors
    ///
    /// Any [`Error`]: the server does not answer, or not as it should.
    pub async fn health(&self) -> Result<(), Error> {
        self.call(Method::GET, "/healthz", None).await.map(drop)
    }

    /// What is captured, and the head of the stream (`GET /telemetry`). `None` if no session is
    /// configured.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn state(&self) -> Result<Option<State>, Error> {
        self.call(Method::GET, "/telemetry", None)
            .await
            .map(Some)
            .or_else(none_if_not_configured)?
            .map(|answer| self.http.read(answer.body()))
            .transpose()
    }

    /// Starts a session, or replaces the configuration of the running one (`PUT /telemetry`). The
    /// default request captures all user-facing categories; a request that enables no category ends
    /// the session.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the request is invalid (400), or if a source of events could not start
    /// (500): the state is then as it was before.
    pub async fn start(&self, config: &ConfigRequest) -> Result<State, Error> {
        let content = Content::json(config);
        let answer = self.call(Method::PUT, "/telemetry", Some(content)).await?;
        self.http.read(answer.body())
    }

    /// Enables or disables single categories of the running session (`PATCH /telemetry`). Categories
    /// that the request does not name stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if no session is configured (404), or if the request is invalid (400).
    pub async fn patch(&self, config: &ConfigRequest) -> Result<State, Error> {
        let content = Content::json(config);
        let answer = self
            .call(Method::PATCH, "/telemetry", Some(content))
            .await?;
        self.http.read(answer.body())
    }

    /// Stops the session (`DELETE /telemetry`). Its events stay readable. `None` if there was none.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn stop(&self) -> Result<Option<State>, Error> {
        self.call(Method::DELETE, "/telemetry", None)
            .await
            .map(Some)
            .or_else(none_if_not_configured)?
            .map(|answer| self.http.read(answer.body()))
            .transpose()
    }

    /// Publishes one event (`POST /telemetry/events`). Returns the envelope that readers receive, or
    /// `None` if the event was filtered: no session is running, or it does not capture that category.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the event is invalid (400) or too large (413). After
    /// [`Error::Disconnected`] or [`Error::TimedOut`] it is not known whether the event was published.
    pub async fn publish(&self, event: &PublishRequest) -> Result<Option<Envelope>, Error> {
        let content = Content::json(event);
        let answer = self
            .call(Method::POST, "/telemetry/events", Some(content))
            .await?;
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(None),
            _ => self.http.read(answer.body()).map(Some),
        }
    }

    /// Publishes many events at once: one JSON object per line; blank lines are skipped. An invalid line
    /// is refused, counted and reported, and the valid lines are published. A server accepts 8 MiB at a
    /// time unless it is configured otherwise.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish), if the body as a whole is refused.
    pub async fn publish_ndjson(&self, lines: impl Into<Bytes>) -> Result<BatchResult, Error> {
        let content = Content {
            media_type: "application/x-ndjson",
            body: lines.into(),
        };
        let answer = self
            .call(Method::POST, "/telemetry/events", Some(content))
            .await?;
        self.http.read(answer.body())
    }

    /// Waits for the first event that matches, among the retained events and those that are published
    /// from now on (`GET /telemetry/wait`). An event that was published before the call is not missed.
    ///
    /// # Errors
    ///
    /// Any [`Error`]. It is not an error if no event came within the time.
    ///
    /// # Cancel safety
    ///
    /// Waiting takes nothing from other readers. Waiting again after the same cursor finds the same
    /// event, as long as it is retained.
    pub async fn wait(&self, options: &WaitOptions) -> Result<Waited, Error> {
        let timeout = CALL_TIMEOUT.saturating_add(options.timeout);
        let answer = self
            .http
            .exchange(Method::GET, &wait_path(options), None, timeout)
            .await?;
        let headers = answer.headers();
        Ok(Waited {
            envelope: match answer.status() {
                StatusCode::NO_CONTENT => None,
                _ => Some(self.http.read(answer.body())?),
            },
            lost: self.http.header(headers, "x-lost")?,
            head: self.http.header(headers, "x-head")?,
            epoch: self.http.header(headers, "x-epoch")?,
        })
    }

    /// Some of the retained events (`GET /telemetry/events`). Ask again with
    /// [`EventPage::next`] as the offset until that is `None`.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::Refused`] if an option is invalid.
    ///
    /// # Cancel safety
    ///
    /// Reading takes nothing from other readers. Asking again finds the same events, as long as they are
    /// retained.
    pub async fn page(&self, options: &PageOptions) -> Result<EventPage, Error> {
        let answer = self.call(Method::GET, &page_path(options), None).await?;
        let headers = answer.headers();
        Ok(EventPage {
            next: match headers.contains_key("x-next-offset") {
                true => Some(self.http.header(headers, "x-next-offset")?),
                false => None,
            },
            epoch: self.http.header(headers, "x-epoch")?,
            head: self.http.header(headers, "x-head")?,
            lost: self.http.header(headers, "x-lost")?,
            gaps: match headers.get("x-gaps") {
                Some(value) => (value.to_str().ok())
                    .and_then(page::gaps)
                    .ok_or_else(|| self.http.protocol(ProtocolError::Header("x-gaps")))?,
                None => Vec::new(),
            },
            envelopes: self.http.read(answer.body())?,
        })
    }

    /// The open readers: their position, how far behind they are, and what they lost
    /// (`GET /telemetry/readers`).
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn readers(&self) -> Result<ReaderList, Error> {
        let answer = self.call(Method::GET, "/telemetry/readers", None).await?;
        self.http.read(answer.body())
    }

    /// The sinks: whether each is on, its position, its account of what it exported, and its last error
    /// (`GET /telemetry/sinks`).
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn sinks(&self) -> Result<SinkList, Error> {
        let answer = self.call(Method::GET, "/telemetry/sinks", None).await?;
        self.http.read(answer.body())
    }

    /// Changes the filter of an open stream (`PATCH /telemetry/readers/{id}`). The id is in
    /// [`readers`](Self::readers), and in the `hello` of the stream.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no such reader (404), if the request is invalid (400), if the
    /// reader is a `wait` (409), or if the stream did not apply it in time (408, 503).
    pub async fn patch_reader(
        &self,
        id: &str,
        patch: &ReaderPatch,
    ) -> Result<ReaderPatched, Error> {
        let path = format!("/telemetry/readers/{}", utf8_percent_encode(id, IN_SEGMENT));
        let content = Content::json(patch);
        let answer = self.call(Method::PATCH, &path, Some(content)).await?;
        self.http.read(answer.body())
    }

    /// Creates a ticket, which opens streams without the token (`POST /telemetry/tickets`).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the request is invalid.
    pub async fn create_ticket(&self, request: &TicketRequest) -> Result<Ticket, Error> {
        let content = Content::json(request);
        let answer = self
            .call(Method::POST, "/telemetry/tickets", Some(content))
            .await?;
        self.http.read(answer.body())
    }

    /// The body of any other `GET`, such as `/telemetry/counts?since=1m` or `/metrics`. `path` begins with a slash, and
    /// its query is percent-encoded. Where the body is JSON, [`read`](Self::read) reads it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`] if `path` cannot be part of an address; any other [`Error`].
    pub async fn get(&self, path: &str) -> Result<Bytes, Error> {
        let url = format!("{}{path}", self.url());
        if !path.starts_with('/') || url.parse::<hyper::Uri>().is_err() {
            return Err(Error::InvalidUrl {
                url,
                reason: "the path has to begin with a slash, and what is special in it has to be percent-encoded",
            });
        }
        let answer = self.call(Method::GET, path, None).await?;
        Ok(answer.into_body())
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if it is not what is expected.
    pub fn read<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        self.http.read(body)
    }

    /// Opens a stream to see how it gets here, and waits for its first notice, for at most `within`.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but [`Error::TimedOut`]: what did not come in time is `None` in the [`Probe`].
    pub async fn probe(&self, within: Duration) -> Result<Probe, Error> {
        Probe::open(&self.http, within).await
    }

    /// Follows the events live. Connects with the first [`next`](Follower::next).
    #[must_use]
    pub fn follow(&self, options: StreamOptions) -> Follower {
        Follower::new(self.http.clone(), options)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<Content>,
    ) -> Result<Response<Bytes>, Error> {
        self.http
            .exchange(method, path, content, CALL_TIMEOUT)
            .await
    }
}

/// Never shows the token, which is a secret.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url())
            .field("has_token", &self.http.has_token())
            .finish_non_exhaustive()
    }
}

/// That no session is configured is an answer, not an error.
fn none_if_not_configured<T>(error: Error) -> Result<Option<T>, Error> {
    match error {
        Error::Refused {
            body: Some(refusal),
            ..
        } if refusal.code == ErrorCode::NotConfigured => Ok(None),
        error => Err(error),
    }
}

/// The path of a wait and its query.
fn wait_path(options: &WaitOptions) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("timeout_ms", &options.timeout.as_millis().to_string());
    if let Some(after) = options.after {
        query.append_pair("after", &after.to_string());
    }
    add_filter(&mut query, options.categories, &options.types);
    format!("/telemetry/wait?{}", query.finish())
}

/// The path of a page and its query.
fn page_path(options: &PageOptions) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &options.limit.to_string());
    if options.order == PageOrder::NewestFirst {
        query.append_pair("order", "desc");
    }
    for (name, cursor) in [("after", options.after), ("offset", options.offset)] {
        if let Some(cursor) = cursor {
            query.append_pair(name, &cursor.to_string());
        }
    }
    for (name, time) in [("since", &options.since), ("until", &options.until)] {
        if let Some(time) = time {
            query.append_pair(name, time);
        }
    }
    add_filter(&mut query, options.categories, &options.types);
    if let Some(text) = &options.contains {
        query.append_pair("contains", text);
    }
    format!("/telemetry/events?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_oapi::{Category, CategorySet, Cursor};

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
    fn the_query_of_a_page_is_encoded() {
        let options = PageOptions {
            offset: Some(Cursor::from(7)),
            since: Some("2026-11-23T08:00:00+01:00".to_owned()),
            ..PageOptions::default()
        };
        assert_eq!(
            page_path(&options),
            "/telemetry/events?limit=1000&offset=7&since=2026-11-23T08%3A00%3A00%2B01%3A00"
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
