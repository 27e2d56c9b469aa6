//! One connection: requests in a row, until one of them asks for a stream.
//!
//! hyper speaks HTTP/1.1; a connection of HTTP/2 continues in [`crate::http2`]. This module decides how long a peer may take for each step, answers when it takes
//! too long, and takes over the socket of a stream: hyper and all its buffers are dropped, and a position
//! and a socket are left ([`crate::stream`]).

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tapline_api::Backend;
use tapline_oapi::ErrorCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::answer::{Failure, encode_head};
use crate::app::Site;
use crate::body;
use crate::calls::RequestId;
use crate::host::{ConnectionPermit, Host};
use crate::http2;
use crate::metrics::CloseReason;
use crate::routes::{Answer, Client};
use crate::serve::Limits;
use crate::socket::{Shared, Socket, SocketState, Watched};
use crate::stream::{self, Opening};

/// Serves what comes over the socket until either side closes it.
pub(crate) async fn run<S: Site>(
    site: Arc<S>,
    socket: TcpStream,
    address: SocketAddr,
    mut permit: ConnectionPermit,
) {
    if let Err(error) = socket.set_nodelay(true) {
        // A frame is written whole: waiting for more to send along would only delay it.
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let host = site.host();
    let Some(socket) = secure(host, socket).await else {
        permit.reason = CloseReason::Tls;
        return;
    };
    if socket.is_http2() {
        return http2::run(site, socket, Bytes::new(), address, permit).await;
    }
    let tcp = socket.tcp().cloned();
    let state = Arc::new(SocketState::default());
    let taken = Arc::new(Mutex::new(None));
    let served = Mutex::new(0_u64);
    let service = service_fn(|request: Request<Incoming>| {
        state.received.store(false, Relaxed);
        state.busy.store(true, Relaxed);
        let last = {
            let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
            *served += 1;
            *served >= host.options.limits.requests
        };
        let (site, taken, state, tcp) = (&site, &taken, &*state, tcp.as_deref());
        let client = Client {
            address,
            state,
            tcp,
        };
        async move {
            let version = request.version();
            let answer = site.answer(client, request).await;
            // The bytes since then were its body.
            state.received.store(false, Relaxed);
            state.busy.store(false, Relaxed);
            match answer {
                Answer::Whole(mut response) => {
                    if last {
                        response
                            .headers_mut()
                            .insert(header::CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(response)
                }
                Answer::Stream(head, opening) => {
                    let opening = TakeOver {
                        head,
                        version,
                        opening,
                    };
                    *taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(opening);
                    pending().await
                }
            }
        }
    });
    let watched = Watched {
        socket,
        state: state.clone(),
    };
    let mut connection = http1::Builder::new()
        // A client that has closed its sending side still gets the answers to what it sent. Looking after each
        // request whether it has would also cost a twentieth of an event's publication.
        .half_close(true)
        .max_header_size(host.options.limits.header_bytes)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(watched), service);
    let mut peer_timer = PeerTimer::new(&host.options.limits);
    let mut stopping = pin!(host.stopping.cancelled());
    // The first poll registers a waker; another poll is only useful after a wake-up.
    let (mut looked, mut asked_to_stop) = (false, false);
    let end = poll_fn(|cx| {
        if !asked_to_stop
            && (!looked || host.is_stopping())
            && stopping.as_mut().poll(cx).is_ready()
        {
            asked_to_stop = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        looked = true;
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(End::Closed(ended));
        }
        // What was answered before has to be on its way: it is in a buffer that goes with hyper.
        if !state.blocked.load(Relaxed)
            && let Some(taken) = taken.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Poll::Ready(End::TakenOver(taken));
        }
        peer_timer.poll_out(cx, &state).map(End::TimedOut)
    })
    .await;

    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner().socket;
    // A client that knows that the server speaks HTTP/2: hyper has read its first bytes and changed nothing.
    if matches!(end, End::Closed(Err(_))) && parts.read_buf.starts_with(http2::PREFACE) {
        return http2::run(site.clone(), socket, parts.read_buf, address, permit).await;
    }
    let (closed, failure) = match end {
        End::TakenOver(TakeOver {
            head,
            version,
            opening,
        }) => {
            let chunked = version == Version::HTTP_11;
            let head = encode_head(&head, chunked);
            host.spawn(stream::run(socket, head, chunked, *opening, Some(permit)));
            return;
        }
        End::Closed(ended) => match (state.hyper_error.load(Relaxed), ended) {
            (0, Ok(())) => {
                if served
                    .into_inner()
                    .is_ok_and(|served| host.options.limits.requests <= served)
                {
                    permit.reason = CloseReason::Requests;
                }
                return;
            }
            // hyper answers any other unparsable head itself, but not a part of the preface of HTTP/2.
            (0, Err(error)) if !error.is_parse() => {
                tracing::debug!(%error, %address, "connection lost");
                return;
            }
            (431 | 414, _) => (
                CloseReason::HeaderSize,
                Failure::new(
                    ErrorCode::HeaderTooLarge,
                    format!(
                        "the request's head is over {} bytes, or 100 headers, or its target over 64 KiB",
                        host.options.limits.header_bytes
                    ),
                ),
            ),
            (_, error) => (
                CloseReason::Parse,
                Failure::new(
                    ErrorCode::BadRequest,
                    match error {
                        Err(error) => {
                            format!("this is neither HTTP/1.1 nor HTTP/2: {error}")
                        }
                        Ok(()) => "this is neither HTTP/1.1 nor HTTP/2".to_owned(),
                    },
                ),
            ),
        },
        End::TimedOut(Waiting::Head) => (
            CloseReason::HeaderTimeout,
            Failure::new(
                ErrorCode::Timeout,
                format!(
                    "the request's head was not complete within {:?}",
                    host.options.limits.header_time
                ),
            ),
        ),
        End::TimedOut(Waiting::Body) => (
            CloseReason::BodyTimeout,
            Failure::new(
                ErrorCode::Timeout,
                format!(
                    "nothing of the body came for {:?}",
                    host.options.limits.body_time
                ),
            ),
        ),
        End::TimedOut(Waiting::WholeBody) => (
            CloseReason::BodyTimeout,
            body::late(host.options.limits.body_total_time),
        ),
        End::TimedOut(Waiting::Idle) => {
            permit.reason = CloseReason::Idle;
            return;
        }
        End::TimedOut(Waiting::Taking | Waiting::Nothing) => {
            permit.reason = CloseReason::Stalled;
            return;
        }
    };
    permit.reason = closed;
    answer_and_close(&mut socket, failure).await;
}

/// The socket under TLS, where the server speaks it.
async fn secure(host: &Host, socket: TcpStream) -> Option<Socket> {
    let socket = Shared(Arc::new(socket));
    let Some(acceptor) = host.options.access.tls_acceptor() else {
        return Some(Socket::Plain(socket));
    };
    match timeout(host.options.limits.header_time, acceptor.accept(socket)).await {
        Ok(Ok(socket)) => Some(Socket::Tls(Box::new(socket))),
        refused => {
            if let Ok(Err(error)) = refused {
                tracing::debug!(%error, "no TLS connection came about");
            }
            None
        }
    }
}

/// Answers with the error and closes the connection, for a peer that no request handler answers.
pub(crate) async fn answer_and_close(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    failure: Failure,
) {
    /// A connection that is closed with bytes unread is reset. A client that writes everything before it
    /// reads would not see the answer. So up to this many bytes are read and dropped.
    const BYTES: u64 = 1024 * 1024;
    const TIME: Duration = Duration::from_secs(2);

    let id = RequestId::new();
    let code = failure.body.code;
    tracing::debug!(request_id = id.as_str(), %code, "a connection is closed with an error");
    let bytes = failure.into_bytes(id);
    let exchange = async {
        socket.write_all(&bytes).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(BYTES), &mut tokio::io::sink()).await
    };
    // It makes no difference whether the client read the answer.
    let _ = timeout(TIME, exchange).await;
}

/// How it came that hyper has no more to do with a connection.
enum End<B: Backend> {
    Closed(hyper::Result<()>),
    TakenOver(TakeOver<B>),
    TimedOut(Waiting),
}

/// A stream that is about to start: the head of its answer, and its options.
struct TakeOver<B: Backend> {
    head: Response<()>,
    version: Version,
    opening: Box<Opening<B>>,
}

/// What a connection waits for, as far as its peer is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The next request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// More of a request's body.
    Body,
    /// The end of a request's body. Only a result: bytes of it come, but too slowly.
    WholeBody,
    /// That its answer is taken.
    Taking,
    /// Nothing: a request is being answered, and its handler has its own time limits.
    Nothing,
}

/// How long a peer may take.
///
/// Activity neither reads the clock nor moves the timer. When the timer fires, and bytes have moved since it
/// was set, it is set again. So a silence ends the connection after the limit at least, and after twice the
/// limit at most. A body also has a limit as a whole.
struct PeerTimer<'a> {
    limits: &'a Limits,
    waiting: Waiting,
    /// Whether bytes have gone either way since `due` was worked out.
    moved: bool,
    due: Instant,
    /// When the body has to be complete that is waited for.
    body_due: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<'a> PeerTimer<'a> {
    fn new(limits: &'a Limits) -> Self {
        let due = Instant::now() + limits.header_time;
        Self {
            limits,
            waiting: Waiting::Head,
            moved: false,
            due,
            body_due: None,
            timer: Box::pin(sleep_until(due)),
        }
    }

    /// Ready when what is waited for has taken too long.
    fn poll_out(&mut self, cx: &mut Context<'_>, state: &SocketState) -> Poll<Waiting> {
        let waiting = if state.blocked.load(Relaxed) {
            Waiting::Taking
        } else if state.reading.load(Relaxed) {
            Waiting::Body
        } else if state.busy.load(Relaxed) {
            Waiting::Nothing
        } else if state.received.load(Relaxed) {
            Waiting::Head
        } else {
            Waiting::Idle
        };
        // A head has to be complete in its time, however many bytes of it come.
        self.moved |= state.moved.swap(false, Relaxed) && waiting != Waiting::Head;
        // A peer that has sent nothing yet has as long as for the rest of a first head.
        if waiting != self.waiting && (self.waiting, waiting) != (Waiting::Head, Waiting::Idle)
            || self.moved && self.waiting == Waiting::Head
        {
            (self.waiting, self.moved) = (waiting, false);
            let now = Instant::now();
            self.due = now + self.limit(waiting);
            self.body_due = (waiting == Waiting::Body).then(|| now + self.limits.body_total_time);
            self.due = self.body_due.map_or(self.due, |body| body.min(self.due));
            if self.due < self.timer.deadline() {
                self.timer.as_mut().reset(self.due);
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.body_due.is_some_and(|due| due <= now) {
                return Poll::Ready(Waiting::WholeBody);
            }
            if self.moved || self.waiting == Waiting::Nothing {
                self.moved = false;
                self.due = now + self.limit(self.waiting);
                self.due = self.body_due.map_or(self.due, |body| body.min(self.due));
            }
            if self.due <= now {
                return Poll::Ready(self.waiting);
            }
            self.timer.as_mut().reset(self.due);
        }
        Poll::Pending
    }

    fn limit(&self, waiting: Waiting) -> Duration {
        match waiting {
            Waiting::Idle => self.limits.idle,
            Waiting::Head => self.limits.header_time,
            Waiting::Body | Waiting::WholeBody => self.limits.body_time,
            Waiting::Taking | Waiting::Nothing => self.limits.stall,
        }
    }
}
