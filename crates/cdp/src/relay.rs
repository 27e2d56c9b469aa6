//! A relay for DevTools clients: they connect to it instead of the browser, and what they do is told.
//!
//! Bytes pass as they are. The relay hands a client's upgrade on to the browser and then copies, in
//! both directions, whatever comes. What it tells is heard *beside* that copy ([`tap`]): after bytes
//! were written, never before, and what is heard waits for its turn in a bounded backlog that the
//! copy does not wait for. Where the backlog is full, commands are missed and their number is told;
//! where frames cannot be read, the relay stops listening to that connection and says so; the copy goes
//! on in either case.
//!
//! Invariants:
//!
//! 1. No byte between the ends is changed, once the upgrade is made. Of its head, only what
//!    [`http::Request::to_browser`] says.
//! 2. Nothing that tells is awaited by the copy.
//! 3. What is captured decides what is read: with `control` not captured, only the lengths of frames
//!    are followed (so that listening can begin at any message), and no message is copied or parsed.
//! 4. Everything has a bound: connections, heads and the time for them, what waits, what is kept.

mod command;
mod frames;
mod http;
mod tap;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crypto::hmac;
use tapline_oapi::KnownType;
use tapline_oapi::data::{CdpConnect, CdpDisconnect};
use tapline_telemetry::TelemetrySession;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::frames::Listener;
use self::http::{Answer, HeadError, Request, pointing_at};
use self::tap::{Tap, Teller};
use crate::redact::Redaction;

/// What is read at once, in bytes. Some hundred messages, or a part of a picture.
const BUFFER: usize = 64 * 1024;

/// How long the second direction may go on when the first has ended. The goodbyes of a WebSocket take
/// a round trip.
const LINGER: Duration = Duration::from_secs(2);

/// How long the connections have to end when the relay does.
const DRAIN: Duration = Duration::from_secs(5);

/// Below it, a secret can be found by trying.
const MIN_TOKEN: usize = 16;

/// How the relay is set up. Printing it for debugging does not show the token.
#[derive(Clone)]
pub struct RelayOptions {
    /// Where the browser answers: `host:port`, such as `127.0.0.1:9222`.
    pub upstream: String,
    /// What a client has to know, in `Authorization: Bearer …` or in the query as `token=…`; at least
    /// 16 visible ASCII characters. Default: nothing, which is for loopback only.
    pub token: Option<String>,
    /// The values of `Origin` that may pass. A browser sends one for its pages, which have no business
    /// here; other clients send none. Default: none may.
    pub allowed_origins: Vec<String>,
    /// What is taken out of addresses.
    pub redaction: Redaction,
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
            token: None,
            allowed_origins: Vec::new(),
            redaction: Redaction::default(),
            max_connections: 256,
            head_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions")
            .field("upstream", &self.upstream)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("allowed_origins", &self.allowed_origins)
            .field("redaction", &self.redaction)
            .field("max_connections", &self.max_connections)
            .field("head_timeout", &self.head_timeout)
            .finish()
    }
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// Whoever reaches a browser's DevTools has the browser.
    #[error("{0} is not loopback: the relay needs a token there")]
    NeedsToken(SocketAddr),
    /// It could be guessed, or not be sent.
    #[error("the token of the relay has to be {MIN_TOKEN} or more visible ASCII characters")]
    UnfitToken,
    /// The address cannot be listened on.
    #[error("the relay cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What became of the relay's clients so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayCounts {
    /// Clients that were connected to the browser.
    pub connected: u64,
    /// Requests and connections that were turned away, by the relay.
    pub refused: u64,
    /// Commands that were captured and could not be told in time.
    pub commands_missed: u64,
    /// Connections that were not listened to up to their end, because their frames could not be read.
    pub unreadable: u64,
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
    token: Option<Seal>,
    session: Arc<TelemetrySession>,
    places: Arc<Semaphore>,
    counts: Tally,
}

#[derive(Default)]
struct Tally {
    connected: AtomicU64,
    refused: AtomicU64,
    commands_missed: AtomicU64,
    unreadable: AtomicU64,
}

impl Relay {
    /// Listens on `address`; port 0 takes a free one. What clients do is published into `session`.
    ///
    /// # Errors
    ///
    /// [`RelayError`] where the address is not loopback and there is no token, where the token is
    /// unfit, and where the address is taken.
    pub async fn bind(
        address: SocketAddr,
        options: RelayOptions,
        session: Arc<TelemetrySession>,
    ) -> Result<Self, RelayError> {
        let fit = |token: &String| {
            MIN_TOKEN <= token.len() && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match &options.token {
            Some(token) if !fit(token) => return Err(RelayError::UnfitToken),
            None if !address.ip().is_loopback() => return Err(RelayError::NeedsToken(address)),
            _ => {}
        }
        let bind = |source| RelayError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let shared = Shared {
            token: options.token.as_deref().map(Seal::of),
            session,
            places: Arc::new(Semaphore::new(options.max_connections)),
            counts: Tally::default(),
            options,
        };
        Ok(Self {
            listener,
            address,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What became of its clients so far.
    pub fn counts(&self) -> RelayCounts {
        let counts = &self.shared.counts;
        RelayCounts {
            connected: counts.connected.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            commands_missed: counts.commands_missed.load(Relaxed),
            unreadable: counts.unreadable.load(Relaxed),
        }
    }

    /// Relays until `shutdown` completes; then every client's connection is closed and told, and it
    /// returns, after 5 s at the latest.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all connections; that they have ended is not told then.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        /// Where the system has no more descriptors, the next connection that ends brings one. Without
        /// a pause this would spin until then.
        const PAUSE: Duration = Duration::from_millis(50);
        let (stop, stopped) = watch::channel(());
        let mut clients = JoinSet::new();
        let mut number = 0_u64;
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = clients.join_next(), if !clients.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        number += 1;
                        clients.spawn(self.shared.clone().serve(socket, number, stopped.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the relay cannot take a connection");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
        drop(stop);
        let all = async { while clients.join_next().await.is_some() {} };
        if timeout(DRAIN, all).await.is_err() {
            tracing::warn!(
                left = clients.len(),
                "some clients of the relay did not end in time"
            );
        }
    }
}

/// What a client is told that does not get through: status, reason and text.
type Refusal = (&'static str, &'static str);

impl Shared {
    /// Serves one connection: one request, or one WebSocket.
    async fn serve(self: Arc<Self>, mut client: TcpStream, number: u64, stop: watch::Receiver<()>) {
        let refusal = match self.places.clone().try_acquire_owned() {
            Ok(_place) => self.request(&mut client, number, stop).await,
            Err(_) => Err((
                "503 Service Unavailable",
                "all connections of the relay are taken",
            )),
        };
        if let Err((status, text)) = refusal {
            self.counts.refused.fetch_add(1, Relaxed);
            tracing::debug!(status, text, "the relay has turned a client away");
            let answer = answer(status, b"text/plain; charset=UTF-8", text.as_bytes());
            // Whether the client takes it is its own affair, but it does not hold us up.
            let told = async {
                client.write_all(&answer).await?;
                client.shutdown().await
            };
            let _ = timeout(LINGER, told).await;
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
                tracing::debug!(%error, "no request");
                return Err((
                    "400 Bad Request",
                    "this is no request of HTTP/1.1, or too long a one",
                ));
            }
            Err(_) => return Err(("408 Request Timeout", "the request took too long")),
        };
        let (request, token) = self.admit(request)?;
        let json = request.path() == "/json" || request.path().starts_with("/json/");
        if request.has_body() {
            return Err(("400 Bad Request", "no request here has a body"));
        }
        if request.is_upgrade() && request.path().starts_with("/devtools/") {
            self.relay(client, &request, number, stop).await
        } else if json && matches!(&*request.method, "GET" | "PUT") {
            self.describe(client, &request, token.as_deref()).await
        } else if json {
            Err((
                "405 Method Not Allowed",
                "this takes GET, and /json/new takes PUT",
            ))
        } else {
            Err((
                "404 Not Found",
                "the relay has /json, and WebSockets under /devtools/",
            ))
        }
    }

    /// Lets a request in, without its token. That comes back as it was written in the query, if it was.
    fn admit(&self, mut request: Request) -> Result<(Request, Option<String>), Refusal> {
        let allowed = |origin: &[u8]| {
            let mut allowed = self.options.allowed_origins.iter();
            allowed.any(|it| it.as_bytes().eq_ignore_ascii_case(origin))
        };
        if !request.header("origin").all(allowed) {
            return Err((
                "403 Forbidden",
                "the relay takes no requests of pages: `origin` is not allowed",
            ));
        }
        let Some(token) = &self.token else {
            // A page whose name was made to point here (DNS rebinding) sends that name.
            let mut hosts = request.header("host");
            return match (hosts.next(), hosts.next()) {
                (Some(host), None) if is_address(host) => {
                    drop(hosts);
                    Ok((request, None))
                }
                _ => Err((
                    "403 Forbidden",
                    "`host` has to be an IP address or localhost",
                )),
            };
        };
        let parameter = request.take_parameter("token");
        let (header, several) = {
            let mut headers = request.header("authorization");
            (headers.next().map(<[u8]>::to_vec), headers.next().is_some())
        };
        let sent = match (&header, &parameter) {
            _ if several => None,
            (Some(header), _) => bearer(header),
            (None, Some((token, _))) => Some(token.as_bytes()),
            (None, None) => None,
        };
        match sent {
            Some(sent) if token.fits(sent) => Ok((request, parameter.map(|(_, written)| written))),
            _ => Err((
                "401 Unauthorized",
                "the relay needs its token, as `authorization: Bearer …` or as `?token=…`",
            )),
        }
    }

    async fn browser(&self) -> Result<(TcpStream, SocketAddr), Refusal> {
        const REFUSAL: Refusal = ("502 Bad Gateway", "the browser does not answer");
        let connecting = TcpStream::connect(&self.options.upstream);
        let connected = timeout(self.options.head_timeout, connecting).await;
        let browser = connected.map_err(|_| REFUSAL)?.map_err(|error| {
            tracing::debug!(%error, upstream = self.options.upstream, "the relay finds no browser");
            REFUSAL
        })?;
        let address = browser.peer_addr().map_err(|_| REFUSAL)?;
        Ok((browser, address))
    }

    /// Hands the request on, and reads the head of the answer.
    async fn ask(
        &self,
        browser: &mut TcpStream,
        host: SocketAddr,
        request: &Request,
    ) -> Result<Answer, Refusal> {
        // The browser answers under addresses, and under no name but localhost.
        let head = request.to_browser(&host.to_string());
        let answer = async {
            browser.write_all(&head).await?;
            Answer::read(browser).await
        };
        let answer = timeout(self.options.head_timeout, answer).await;
        let answer = answer.map_err(|_| ("504 Gateway Timeout", "the browser took too long"))?;
        answer.map_err(|error| no_answer(&error))
    }

    /// Answers with what the browser says of itself, pointing here.
    async fn describe(
        &self,
        client: &mut TcpStream,
        request: &Request,
        token: Option<&str>,
    ) -> Result<(), Refusal> {
        let (mut browser, address) = self.browser().await?;
        let mut told = self.ask(&mut browser, address, request).await?;
        let body = timeout(self.options.head_timeout, told.body(&mut browser)).await;
        let body = body.map_err(|_| ("504 Gateway Timeout", "the browser took too long"))?;
        let mut body = body.map_err(|error| no_answer(&error))?;
        let host = request.header("host").next();
        if let (Some(Ok(host)), Ok(json)) = (host.map(str::from_utf8), str::from_utf8(&body)) {
            body = pointing_at(json, host, token).into_bytes();
        }
        let status = told.status.to_string();
        let answer = answer(&status, told.content_type(), &body);
        let written = async {
            client.write_all(&answer).await?;
            client.shutdown().await
        };
        // A client that has gone needs no answer.
        let _ = timeout(self.options.head_timeout, written).await;
        Ok(())
    }

    /// Connects the client to the browser, and tells what it does.
    async fn relay(
        &self,
        client: &mut TcpStream,
        request: &Request,
        number: u64,
        mut stop: watch::Receiver<()>,
    ) -> Result<(), Refusal> {
        let (mut browser, address) = self.browser().await?;
        for socket in [&*client, &browser] {
            // A message is written whole: waiting for more to send along would only delay it.
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        }
        let told = self.ask(&mut browser, address, request).await?;
        if told.status != 101 {
            self.pass_on(client, browser, &told).await;
            return Ok(());
        }
        let started = Instant::now();
        self.counts.connected.fetch_add(1, Relaxed);
        let teller = Teller {
            session: self.session.clone(),
            connection: number,
        };
        teller.tell(KnownType::CdpConnect, Some(CdpConnect {}));
        let (mut up, telling) = tap::of_client(&teller, &self.options.redaction);
        let mut down = tap::of_browser();
        let telling = tokio::spawn(telling.run());

        let reason = {
            let (client_reads, client_writes) = client.split();
            let (browser_reads, browser_writes) = browser.split();
            let up = self.copy(
                client_reads,
                browser_writes,
                &request.rest,
                &mut up,
                &teller,
            );
            let head = [&told.head[..], &told.rest].concat();
            let down = async {
                // Of what the browser has sent, its head is no frame.
                let behind = told.head.len();
                self.copy_behind(
                    browser_reads,
                    client_writes,
                    &head,
                    behind,
                    &mut down,
                    &teller,
                )
                .await
            };
            tokio::pin!(up, down);
            tokio::select! {
                end = &mut up => {
                    let _ = timeout(LINGER, &mut down).await;
                    end.of("client_closed", "client_lost", "browser_lost")
                }
                end = &mut down => {
                    let _ = timeout(LINGER, &mut up).await;
                    end.of("browser_closed", "browser_lost", "client_lost")
                }
                _ = stop.changed() => "shutdown",
            }
        };
        // Who says goodbye first ends it, whoever of the two then closes the connection.
        let reason = match (up.goodbye(), down.goodbye()) {
            (Some(client), Some(browser)) if browser < client => "browser_closed",
            (Some(_), _) => "client_closed",
            (None, Some(_)) => "browser_closed",
            (None, None) => reason,
        };
        let readable = up.is_readable() && down.is_readable();
        let message_count = up.messages() + down.messages();
        // It is told to its end before the end is.
        drop(up);
        let missed = telling.await.unwrap_or(0);
        self.counts.commands_missed.fetch_add(missed, Relaxed);
        let duration = started.elapsed().as_millis();
        let disconnect = CdpDisconnect {
            duration_ms: duration.try_into().unwrap_or(u64::MAX),
            message_count,
            reason: if readable { reason } else { "unreadable" }.to_owned(),
        };
        teller.tell(KnownType::CdpDisconnect, Some(disconnect));
        Ok(())
    }

    /// The browser's answer where it made no WebSocket.
    async fn pass_on(&self, client: &mut TcpStream, mut browser: TcpStream, told: &Answer) {
        let passed = async {
            client.write_all(&told.head).await?;
            client.write_all(&told.rest).await?;
            tokio::io::copy(&mut browser, client).await?;
            client.shutdown().await
        };
        // The browser may keep the connection open for a next request, which does not come.
        let _ = timeout(LINGER, passed).await;
    }

    async fn copy(
        &self,
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
        first: &[u8],
        tap: &mut Tap<impl Listener>,
        teller: &Teller,
    ) -> End {
        self.copy_behind(from, to, first, 0, tap, teller).await
    }

    /// Copies until one side ends: first what is there already, of which the tap hears what stands
    /// behind `unheard` bytes.
    async fn copy_behind(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        first: &[u8],
        unheard: usize,
        tap: &mut Tap<impl Listener>,
        teller: &Teller,
    ) -> End {
        if to.write_all(first).await.is_err() {
            return End::Write;
        }
        self.hear(&first[unheard..], tap, teller);
        let mut buffer = vec![0; BUFFER];
        loop {
            let bytes = match from.read(&mut buffer).await {
                Ok(0) => {
                    // The other side may have gone as well, and then knows already.
                    let _ = to.shutdown().await;
                    return End::Closed;
                }
                Ok(length) => &buffer[..length],
                Err(_) => return End::Read,
            };
            if to.write_all(bytes).await.is_err() {
                return End::Write;
            }
            self.hear(bytes, tap, teller);
        }
    }

    fn hear(&self, bytes: &[u8], tap: &mut Tap<impl Listener>, teller: &Teller) {
        if let Err(why) = tap.hear(bytes) {
            let connection = teller.connection;
            tracing::warn!(
                connection,
                why,
                "the relay cannot read frames, and goes on without"
            );
            self.counts.unreadable.fetch_add(1, Relaxed);
            teller.tell_unreadable();
        }
    }
}

/// Why one direction has ended.
enum End {
    Closed,
    Read,
    Write,
}

impl End {
    fn of(self, closed: &'static str, read: &'static str, write: &'static str) -> &'static str {
        match self {
            Self::Closed => closed,
            Self::Read => read,
            Self::Write => write,
        }
    }
}

fn no_answer(error: &HeadError) -> Refusal {
    tracing::debug!(%error, "no answer of the browser");
    ("502 Bad Gateway", "the browser's answer cannot be read")
}

fn answer(status: &str, content_type: &[u8], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Type: ").into_bytes();
    answer.extend_from_slice(content_type);
    let length = body.len();
    answer.extend_from_slice(
        format!("\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    answer.extend_from_slice(body);
    answer
}

/// Whether a `Host` names an address or this machine, and so no name that somebody else gave it.
fn is_address(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else {
        return false;
    };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let name = name.to_ascii_lowercase();
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let local = name == "localhost" || name.ends_with(".localhost");
    in_brackets.is_some_and(|ip| ip.parse::<IpAddr>().is_ok())
        || (local && port.parse::<u16>().is_ok())
}

/// What follows `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii())
}

/// The token under a key of this process alone. What a client sends is put under it, too, so that
/// comparing takes the same time however much of it is right, and however long it is.
struct Seal {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Seal {
    fn of(token: &str) -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system's source of randomness answers");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let tag = hmac::sign(&key, token.as_bytes());
        Self { key, tag }
    }

    fn fits(&self, sent: &[u8]) -> bool {
        hmac::verify(&self.key, sent, self.tag.as_ref()).is_ok()
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
    fn a_host_is_an_address_or_this_machine() {
        for (host, expected) in [
            ("127.0.0.1:9333", true),
            ("127.0.0.1", true),
            ("10.0.0.7:1", true),
            ("[::1]:9333", true),
            ("[::1]", true),
            ("localhost", true),
            ("LocalHost:9333", true),
            ("a.localhost:1", true),
            ("localhost:x", false),
            ("localhost.example", false),
            ("notlocalhost", false),
            ("127.0.0.1.example:9333", false),
            ("example", false),
            ("", false),
        ] {
            assert_eq!(is_address(host.as_bytes()), expected, "{host}");
        }
        assert!(!is_address(b"\xff"));
    }

    #[test]
    fn debugging_shows_no_token() {
        let mut options = RelayOptions::new("127.0.0.1:1");
        options.token = Some("s3cret-s3cret-s3cret".to_owned());
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
