//! The relay itself: accepts connections, checks requests, copies bytes.
//!
//! Bytes pass unchanged. The relay forwards a client's upgrade request to the browser, and then copies in
//! both directions. Events come from a [`tap`](crate::tap) *beside* that copy: it reads bytes after they
//! were written, never before, and puts commands into a bounded backlog that the copy does not wait for.
//! Where the backlog is full, commands are missed and counted; where frames cannot be read, the relay stops
//! reading that connection and says so. The copy continues in either case.
//!
//! Invariants:
//!
//! 1. After the upgrade, no byte between the ends is changed. Of the upgrade's head, only what
//!    [`Request::to_browser`] names.
//! 2. The copy awaits nothing that publishes.
//! 3. What is captured decides what is read: where `control` is not captured, only the lengths of frames are
//!    followed (so that recording can begin with any message), and no message of the client is copied or parsed.
//!    Of the browser's, the first 512 bytes are looked at in any case: which session belongs to which target is
//!    said once, possibly before a recording begins.
//! 4. Everything is bounded: connections, heads and the time for them, the backlog, what is kept of a message.
//! 5. Every `cdp_connect` is followed by one `cdp_disconnect`, also where the connection's task panics or is
//!    cancelled: it is published by a destructor.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, header};
use tapline_access::{Access, AccessError, Requirement};
use tapline_api::{Publisher, Trace};
use tapline_oapi::KnownType;
use tapline_oapi::data::{CdpConnect, CdpDisconnect};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use crate::frames::Listener;
use crate::head::{Answer, HeadError, Request, replace_authority};
use crate::tap::{self, EventPublisher, Tap};

/// How much is read at once, in bytes: some hundred messages, or a part of a screenshot.
const BUFFER: usize = 64 * 1024;

/// How long the second direction continues after the first has ended. The closing handshake of a WebSocket
/// takes one round trip.
const LINGER: Duration = Duration::from_secs(2);

/// How many clients beyond the limit get an answer at the same time. Further ones are disconnected at once.
const REFUSED_AT_ONCE: usize = 64;

/// Removes the secrets from a URL of a command, before the URL becomes a part of an event.
///
/// It gets URLs of up to 16 KiB, runs on a task of the relay, and must not block.
pub type RedactUrl = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// How much of a URL is published with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CommandUrls {
    /// Its scheme and host: paths and queries hold secrets that no list of names covers.
    #[default]
    Host,
    /// All of it, as far as [`RelayOptions::redact_url`] leaves it.
    Full,
}

/// How the relay is set up.
#[derive(Clone)]
pub struct RelayOptions {
    /// Where the browser listens: `host:port`, such as `127.0.0.1:9222`.
    pub upstream: String,
    /// Who may connect. Default: every client on loopback.
    ///
    /// Where a token is set, a client sends it in `Authorization: Bearer …`, or in the query as `token=…`.
    pub access: Arc<Access>,
    /// Removes the secrets from URLs. Default: userinfo, query and fragment are removed.
    pub redact_url: RedactUrl,
    /// How much of a URL is published with a command. Default: its scheme and host.
    pub command_urls: CommandUrls,
    /// How many clients there may be at once. Default: 256.
    pub max_connections: usize,
    /// How long a client may take for its request, and the browser for its answer. Default: 10 s.
    pub head_timeout: Duration,
}

impl RelayOptions {
    /// The defaults, for the browser at `upstream`.
    #[must_use]
    pub fn new(upstream: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            access: Arc::default(),
            redact_url: Arc::new(|url| without_userinfo_and_query(url).into_owned()),
            command_urls: CommandUrls::default(),
            max_connections: 256,
            head_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions")
            .field("upstream", &self.upstream)
            .field("access", &self.access)
            .field("command_urls", &self.command_urls)
            .field("max_connections", &self.max_connections)
            .field("head_timeout", &self.head_timeout)
            .finish_non_exhaustive()
    }
}

/// Why the relay cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A client that reaches a browser's DevTools controls the browser.
    #[error("{0} is not a loopback address: there, the relay needs a token")]
    NeedsToken(SocketAddr),
    /// The address cannot be listened on.
    #[error("the relay cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// What the relay has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayCounts {
    /// Clients that were connected to the browser.
    pub connected: u64,
    /// Requests and connections that the relay refused.
    pub refused: u64,
    /// Commands that were captured, but not published, because the backlog was full.
    pub commands_missed: u64,
    /// Directions of connections that were not read to their end, because their frames could not be parsed.
    pub unreadable: u64,
}

/// Reads a relay's counts, also after the relay has ended.
#[derive(Debug, Clone)]
pub struct Counters(Arc<Shared>);

impl Counters {
    /// The counts as of now.
    pub fn read(&self) -> RelayCounts {
        let counts = &self.0.counts;
        RelayCounts {
            connected: counts.connected.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            commands_missed: counts.commands_missed.load(Relaxed),
            unreadable: counts.unreadable.load(Relaxed),
        }
    }
}

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    options: RelayOptions,
    publisher: Publisher,
    connections: Arc<Semaphore>,
    counts: Counts,
    /// Part of the ids of connections, so that those of another run are different.
    run: String,
}

#[derive(Default)]
struct Counts {
    connected: AtomicU64,
    refused: AtomicU64,
    commands_missed: AtomicU64,
    unreadable: AtomicU64,
}

impl Relay {
    /// Listens on `address`; port 0 takes a free one. Events go to `publisher`.
    ///
    /// # Errors
    ///
    /// [`RelayError`] where the address is not loopback and no token is set, and where the address cannot
    /// be listened on.
    pub async fn bind(
        address: SocketAddr,
        options: RelayOptions,
        publisher: Publisher,
    ) -> Result<Self, RelayError> {
        if !options.access.has_token() && !address.ip().to_canonical().is_loopback() {
            return Err(RelayError::NeedsToken(address));
        }
        let bind = |source| RelayError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let shared = Shared {
            publisher,
            connections: Arc::new(Semaphore::new(options.max_connections)),
            counts: Counts::default(),
            run: run_id(),
            options,
        };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(shared),
        })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Reads the counts while the relay runs, and afterwards.
    pub fn counters(&self) -> Counters {
        Counters(self.shared.clone())
    }

    /// Relays until `shutdown` completes with a deadline. Then it stops listening, closes the connections of
    /// all clients, publishes that they have ended, and returns: at the deadline at the latest, where
    /// connections that are left are dropped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops listening and drops all connections; their `cdp_disconnect` events are
    /// published, but commands that still wait in a backlog may be missing.
    pub async fn run(self, shutdown: impl Future<Output = Instant>) {
        /// Without free file descriptors, `accept` fails at once, again and again, until a connection ends.
        const PAUSE: Duration = Duration::from_millis(50);
        let Self {
            listener, shared, ..
        } = self;
        let most = shared.options.max_connections + REFUSED_AT_ONCE;
        let (stop, stopped) = watch::channel(());
        let mut clients = JoinSet::new();
        let mut number = 0_u64;
        let mut shutdown = std::pin::pin!(shutdown);
        let deadline = loop {
            tokio::select! {
                deadline = &mut shutdown => break deadline,
                Some(ended) = clients.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection of the relay failed");
                    }
                }
                accepted = listener.accept() => match accepted {
                    // Too many even for a refusal: the connection is closed.
                    Ok(_) if most <= clients.len() => {
                        shared.counts.refused.fetch_add(1, Relaxed);
                    }
                    Ok((socket, _)) => {
                        number += 1;
                        clients.spawn(shared.clone().serve(socket, number, stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the relay cannot accept a connection");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        drop(listener);
        drop(stop);
        let all = async { while clients.join_next().await.is_some() {} };
        if timeout_at(deadline.into(), all).await.is_err() {
            tracing::warn!(
                left = clients.len(),
                "some connections of the relay did not end before the deadline, and were dropped"
            );
            clients.shutdown().await;
        }
    }
}

/// An answer to a client that is refused.
struct Refusal {
    /// The number and its reason.
    status: &'static str,
    text: Cow<'static, str>,
    /// The value of `www-authenticate`.
    challenge: Option<HeaderValue>,
}

impl Refusal {
    const fn new(status: &'static str, text: &'static str) -> Self {
        Self {
            status,
            text: Cow::Borrowed(text),
            challenge: None,
        }
    }

    fn forbidden(text: String) -> Self {
        Self {
            text: text.into(),
            ..Self::new("403 Forbidden", "")
        }
    }

    fn unauthorized(error: &AccessError) -> Self {
        Self {
            text: format!("{error}; or in the query, as `token=…`").into(),
            challenge: Some(error.challenge()),
            ..Self::new("401 Unauthorized", "")
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        let challenge = self.challenge.as_ref().map(HeaderValue::as_bytes);
        answer(
            self.status,
            b"text/plain; charset=UTF-8",
            challenge,
            self.text.as_bytes(),
        )
    }
}

const TOO_SLOW: Refusal = Refusal::new("504 Gateway Timeout", "the browser took too long");
const NO_BROWSER: Refusal = Refusal::new("502 Bad Gateway", "the browser does not answer");

impl Shared {
    /// Serves one connection: one request, or one WebSocket.
    async fn serve(self: Arc<Self>, mut client: TcpStream, number: u64, stop: watch::Receiver<()>) {
        let refusal = match self.connections.clone().try_acquire_owned() {
            Ok(_permit) => self.request(&mut client, number, stop).await,
            Err(_) => Err(Refusal::new(
                "503 Service Unavailable",
                "the relay has reached its limit of connections",
            )),
        };
        if let Err(refusal) = refusal {
            self.counts.refused.fetch_add(1, Relaxed);
            tracing::debug!(status = refusal.status, text = %refusal.text, "the relay refused a request");
            let answer = refusal.into_bytes();
            let written = async {
                client.write_all(&answer).await?;
                client.shutdown().await
            };
            // A client that does not read its answer must not hold the task.
            let _ = timeout(LINGER, written).await;
        }
    }

    async fn request(
        &self,
        client: &mut TcpStream,
        number: u64,
        mut stop: watch::Receiver<()>,
    ) -> Result<(), Refusal> {
        let limit = self.options.head_timeout;
        let read = tokio::select! {
            read = timeout(limit, Request::read(client)) => read,
            _ = stop.changed() => return Ok(()),
        };
        let request = match read {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None) | Err(HeadError::Io(_))) => return Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the request cannot be read");
                return Err(Refusal::new(
                    "400 Bad Request",
                    "this is not a request of HTTP/1.1, or its head is too large",
                ));
            }
            Err(_) => {
                return Err(Refusal::new(
                    "408 Request Timeout",
                    "the request took too long",
                ));
            }
        };
        let (request, token) = self.admit(request)?;
        let json = request.path() == "/json" || request.path().starts_with("/json/");
        if request.has_body() {
            return Err(Refusal::new(
                "400 Bad Request",
                "the relay accepts no request with a body",
            ));
        }
        if request.is_upgrade() && request.path().starts_with("/devtools/") {
            self.relay(client, &request, number, stop).await
        } else if json && matches!(&*request.method, "GET" | "PUT") {
            self.describe(client, &request, token.as_deref()).await
        } else if json {
            Err(Refusal::new(
                "405 Method Not Allowed",
                "use GET, or PUT for /json/new",
            ))
        } else {
            Err(Refusal::new(
                "404 Not Found",
                "the relay serves /json, and WebSockets under /devtools/",
            ))
        }
    }

    /// Admits a request, and returns it without its token. A token from the query is also returned as it was
    /// written there.
    fn admit(&self, mut request: Request) -> Result<(Request, Option<String>), Refusal> {
        let access = &self.options.access;
        let mut headers = request.access_headers();
        access
            .check(&headers)
            .map_err(|error| Refusal::forbidden(error.to_string()))?;
        if !access.has_token() {
            // HTTP/1.1 requires the header, and it is what DNS rebinding is detected by.
            return match headers.contains_key(header::HOST) {
                true => Ok((request, None)),
                false => Err(Refusal::forbidden("header `host`: missing".to_owned())),
            };
        }
        let parameter = request.take_parameter("token");
        if let Some((token, _)) = &parameter
            && !headers.contains_key(header::AUTHORIZATION)
        {
            add_bearer(&mut headers, token);
        }
        match access.admit(&headers, [], Requirement::Token) {
            Ok(_full) => Ok((request, parameter.map(|(_, written)| written))),
            Err(error) => Err(Refusal::unauthorized(&error)),
        }
    }

    fn connection_id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    async fn browser(&self) -> Result<(TcpStream, SocketAddr), Refusal> {
        let connecting = TcpStream::connect(&self.options.upstream);
        let connected = timeout(self.options.head_timeout, connecting).await;
        let browser = connected.map_err(|_| NO_BROWSER)?.map_err(|error| {
            let upstream = &self.options.upstream;
            tracing::debug!(%error, upstream, "the relay cannot connect to the browser");
            NO_BROWSER
        })?;
        let address = browser.peer_addr().map_err(|_| NO_BROWSER)?;
        Ok((browser, address))
    }

    /// Forwards the request, and reads the head of the answer.
    async fn forward(
        &self,
        browser: &mut TcpStream,
        host: SocketAddr,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        // Chromium accepts IP addresses and `localhost` in `Host`, and no other name.
        let head = request.to_browser(&host.to_string());
        let answer = async {
            browser.write_all(&head).await?;
            Answer::read(browser).await
        };
        let answer = timeout(self.options.head_timeout, answer).await;
        answer
            .map_err(|_| TOO_SLOW)?
            .map_err(|error| no_answer(&error))
    }

    /// Answers with the browser's description of itself, with the relay's address in it.
    async fn describe(
        &self,
        client: &mut TcpStream,
        request: &Request,
        token: Option<&str>,
    ) -> Result<(), Refusal> {
        let (mut browser, address) = self.browser().await?;
        let mut answered = self.forward(&mut browser, address, request).await?;
        let body = timeout(self.options.head_timeout, answered.body(&mut browser)).await;
        let body = body.map_err(|_| TOO_SLOW)?;
        let mut body = body.map_err(|error| no_answer(&error))?;
        let host = request.header("host").next();
        if let (Some(Ok(host)), Ok(json)) = (host.map(str::from_utf8), str::from_utf8(&body)) {
            body = replace_authority(json, host, token).into_bytes();
        }
        let status = answered.status.to_string();
        let answer = answer(&status, answered.content_type(), None, &body);
        let written = async {
            client.write_all(&answer).await?;
            client.shutdown().await
        };
        // A client that has disconnected needs no answer.
        let _ = timeout(self.options.head_timeout, written).await;
        Ok(())
    }

    /// Connects the client to the browser, and publishes what the client does.
    async fn relay(
        &self,
        client: &mut TcpStream,
        request: &Request,
        number: u64,
        mut stop: watch::Receiver<()>,
    ) -> Result<(), Refusal> {
        let (mut browser, address) = self.browser().await?;
        for socket in [&*client, &browser] {
            // Messages are written whole: waiting for more bytes would only delay them.
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        }
        let answered = self.forward(&mut browser, address, request).await?;
        if answered.status != 101 {
            pass_on(client, browser, &answered).await;
            return Ok(());
        }
        self.counts.connected.fetch_add(1, Relaxed);
        let publisher = EventPublisher {
            publisher: self.publisher.clone(),
            connection: number,
            connection_id: self.connection_id(number),
            trace: request.traceparent().and_then(Trace::parse),
        };
        let connect = CdpConnect {
            connection_id: Some(publisher.connection_id.clone()),
            ..CdpConnect::default()
        };
        publisher.publish_known(KnownType::CdpConnect, connect);
        let mut disconnect = Disconnect {
            publisher: publisher.clone(),
            started: Instant::now(),
            messages: AtomicU64::new(0),
            end: "failed",
            counts: tap::Counts::default(),
        };
        let target = request.path().strip_prefix("/devtools/page/");
        let (mut up, mut down, commands) = tap::of_connection(
            &publisher,
            target.map(str::to_owned),
            &self.options.redact_url,
            self.options.command_urls,
        );
        let commands = tokio::spawn(commands.run());

        let head = [&answered.head[..], &answered.rest].concat();
        let reason = {
            let (client_reads, client_writes) = client.split();
            let (browser_reads, browser_writes) = browser.split();
            let up = self.copy(
                client_reads,
                browser_writes,
                (&request.rest, &request.rest),
                (&mut up, &disconnect),
            );
            let down = self.copy(
                browser_reads,
                client_writes,
                // The answer's head is no frame.
                (&head, &answered.rest),
                (&mut down, &disconnect),
            );
            tokio::pin!(up, down);
            tokio::select! {
                end = &mut up => {
                    let _ = timeout(LINGER, &mut down).await;
                    end.reason("client_closed", "client_lost", "browser_lost")
                }
                end = &mut down => {
                    let _ = timeout(LINGER, &mut up).await;
                    end.reason("browser_closed", "browser_lost", "client_lost")
                }
                _ = stop.changed() => "shutdown",
            }
        };
        // The side that sent the first close frame ended the WebSocket, whichever closed the socket.
        disconnect.end = match (up.close_sent_at(), down.close_sent_at()) {
            _ if !(up.is_readable() && down.is_readable()) => "unreadable",
            (Some(client), Some(browser)) if browser < client => "browser_closed",
            (Some(_), _) => "client_closed",
            (None, Some(_)) => "browser_closed",
            (None, None) => reason,
        };
        // All commands are published before the disconnect.
        drop((up, down));
        match commands.await {
            Ok(counts) => {
                let missed = counts.missed;
                self.counts.commands_missed.fetch_add(missed, Relaxed);
                disconnect.counts = counts;
            }
            Err(error) => {
                tracing::error!(%error, connection = number, "commands of a connection are not published");
                publisher.publish_failed();
            }
        }
        Ok(())
    }

    /// Copies until one side ends: first the bytes that are there already, `(written, read)`, of which only
    /// `read` are frames.
    async fn copy(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        (written, frames): (&[u8], &[u8]),
        (tap, disconnect): (&mut Tap<impl Listener>, &Disconnect),
    ) -> End {
        if to.write_all(written).await.is_err() {
            return End::Write;
        }
        self.read_frames(frames, tap, disconnect);
        let mut buffer = vec![0; BUFFER];
        loop {
            let bytes = match from.read(&mut buffer).await {
                Ok(0) => {
                    // The other side may have closed, too.
                    let _ = to.shutdown().await;
                    return End::Closed;
                }
                Ok(length) => &buffer[..length],
                Err(_) => return End::Read,
            };
            if to.write_all(bytes).await.is_err() {
                return End::Write;
            }
            self.read_frames(bytes, tap, disconnect);
        }
    }

    fn read_frames(&self, bytes: &[u8], tap: &mut Tap<impl Listener>, disconnect: &Disconnect) {
        let before = tap.messages();
        let read = tap.read(bytes);
        disconnect
            .messages
            .fetch_add(tap.messages() - before, Relaxed);
        if let Err(why) = read {
            let connection = disconnect.publisher.connection;
            tracing::warn!(
                connection,
                why,
                "the relay cannot read the frames of a connection: further commands are not recorded"
            );
            self.counts.unreadable.fetch_add(1, Relaxed);
            disconnect.publisher.publish_unreadable();
        }
    }
}

/// Publishes the end of a connection when it is dropped: also where its task panics or is cancelled.
struct Disconnect {
    publisher: EventPublisher,
    started: Instant,
    /// Messages in both directions.
    messages: AtomicU64,
    /// Which side ended it, and how.
    end: &'static str,
    counts: tap::Counts,
}

impl Disconnect {
    /// The reason in the words of the published SDKs, which know four.
    fn reason(&self) -> &'static str {
        match self.end {
            "client_closed" | "client_lost" => "client_close",
            "browser_closed" | "browser_lost" | "unreadable" => "upstream_error",
            _ => "context_cancelled",
        }
    }
}

impl Drop for Disconnect {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let disconnect = CdpDisconnect {
            duration_ms: (duration.as_secs_f64() * 1e6).round() / 1e3,
            message_count: self.messages.load(Relaxed),
            reason: self.reason().to_owned(),
            detail: Some(self.end.to_owned()),
            connection_id: Some(self.publisher.connection_id.clone()),
            telemetry_excluded: Some(self.counts.excluded),
            telemetry_dropped: Some(self.counts.missed),
            ..CdpDisconnect::default()
        };
        self.publisher
            .publish_known(KnownType::CdpDisconnect, disconnect);
    }
}

/// Passes on the browser's answer where it refused the WebSocket.
async fn pass_on(client: &mut TcpStream, mut browser: TcpStream, answer: &Answer) {
    let passed = async {
        client.write_all(&answer.head).await?;
        client.write_all(&answer.rest).await?;
        tokio::io::copy(&mut browser, client).await?;
        client.shutdown().await
    };
    // The browser may keep the connection open for another request, which does not come.
    let _ = timeout(LINGER, passed).await;
}

/// Why one direction has ended.
enum End {
    Closed,
    Read,
    Write,
}

impl End {
    fn reason(self, closed: &'static str, read: &'static str, write: &'static str) -> &'static str {
        match self {
            Self::Closed => closed,
            Self::Read => read,
            Self::Write => write,
        }
    }
}

/// 32 random bits.
fn run_id() -> String {
    let random = getrandom::u32().expect("the system's source of randomness answers");
    format!("{random:08x}")
}

fn no_answer(error: &HeadError) -> Refusal {
    tracing::debug!(%error, "the browser's answer cannot be read");
    Refusal::new("502 Bad Gateway", "the browser's answer cannot be read")
}

fn answer(status: &str, content_type: &[u8], challenge: Option<&[u8]>, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Type: ").into_bytes();
    answer.extend_from_slice(content_type);
    if let Some(challenge) = challenge {
        answer.extend_from_slice(b"\r\nWWW-Authenticate: ");
        answer.extend_from_slice(challenge);
    }
    let length = body.len();
    answer.extend_from_slice(
        format!("\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    answer.extend_from_slice(body);
    answer
}

/// As if the token had come in the header. What cannot be in a header is a wrong token.
fn add_bearer(headers: &mut HeaderMap, token: &str) {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let value = value.unwrap_or(HeaderValue::from_static("Bearer ?"));
    headers.insert(header::AUTHORIZATION, value);
}

/// The default of [`RelayOptions::redact_url`].
fn without_userinfo_and_query(url: &str) -> Cow<'_, str> {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return Cow::Borrowed(url);
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("{scheme}://{host}{path}")),
        None => Cow::Borrowed(url),
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_a_url_loses_userinfo_query_and_fragment() {
        for (url, expected) in [
            ("https://h/a", "https://h/a"),
            ("https://u:s3@h/a?b=s3#s3", "https://h/a"),
            ("https://u:s@3@h?b", "https://h"),
            ("https://h/a@b", "https://h/a@b"),
            ("about:blank#s3", "about:blank"),
            ("", ""),
        ] {
            assert_eq!(without_userinfo_and_query(url), expected);
        }
    }
}
