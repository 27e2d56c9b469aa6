//! A connection of HTTP/2: many requests and streams at once over one socket.
//!
//! hyper speaks it. A request is answered as over HTTP/1.1 ([`crate::routes`]). A stream writes to one end of a
//! pipe, and the other end is the body of its answer: where the client takes no bytes, its window fills up, then
//! the pipe, and then the stream lags in the ring as any other does. Such streams are in no group: their bytes
//! go through the pipe, the frames of HTTP/2 and, as a rule, TLS (`docs/streaming.md` has the cost).

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Either;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::interval;

use crate::answer;
use crate::app::Site;
use crate::host::{ConnectionPermit, Host};
use crate::metrics::CloseReason;
use crate::routes::{Answer, Client};
use crate::socket::{Socket, SocketState};
use crate::stream;

/// The first bytes of a connection: what a client sends that knows that the server speaks HTTP/2.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many requests and streams of a connection there may be at once.
const STREAMS: u32 = 250;

/// Serves a connection until either side closes it. `read` was read from the socket already.
pub(crate) async fn run<S: Site>(
    site: Arc<S>,
    socket: Socket,
    read: Bytes,
    address: SocketAddr,
    mut permit: ConnectionPermit,
) {
    /// How often a silent client is asked whether it is there, and how long it may take to answer.
    const PING: Duration = Duration::from_secs(20);
    let tcp = socket.tcp().cloned();
    let active = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request: Request<Incoming>| {
        let (site, tcp) = (site.clone(), tcp.clone());
        let busy = Busy::new(&active);
        async move {
            let state = SocketState::default();
            let client = Client {
                address,
                state: &state,
                tcp: tcp.as_deref(),
            };
            Ok::<_, Infallible>(answer(&site, client, request, busy).await)
        }
    });
    let host = site.host();
    let limits = &host.options.limits;
    let mut builder = http2::Builder::new(Spawner(host.clone()));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(limits.stream_bytes);
    let socket = TokioIo::new(Rewound { read, socket });
    let mut connection = pin!(builder.serve_connection(socket, service));
    let mut idle = interval(limits.idle);
    idle.tick().await;
    let (mut was_idle, mut is_ending) = (false, false);
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = host.stopping.cancelled(), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = idle.tick(), if !is_ending => {
                let is_idle = active.load(Relaxed) == 0;
                if is_idle && was_idle {
                    permit.reason = CloseReason::Idle;
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                was_idle = is_idle;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %address, "connection lost");
    }
}

/// The answer to a request, with its body, or with the pipe of its stream.
async fn answer<S: Site>(
    site: &Arc<S>,
    client: Client<'_>,
    request: Request<Incoming>,
    busy: Busy,
) -> Response<Either<answer::Body, Pipe>> {
    match site.answer(client, request).await {
        Answer::Whole(mut whole) => {
            // It has no meaning here: one request is refused, and the connection stays.
            whole.headers_mut().remove(header::CONNECTION);
            whole.map(Either::Left)
        }
        Answer::Stream(head, opening) => {
            let (ours, theirs) = duplex(site.host().options.limits.stream_bytes);
            let stream = stream::run(Socket::Pipe(ours), Vec::new(), false, *opening, None);
            site.host().spawn(stream);
            let pipe = Pipe {
                pipe: theirs,
                bytes: vec![0; Pipe::FRAME].into(),
                _busy: busy,
            };
            head.map(|()| Either::Right(pipe))
        }
    }
}

/// A request that is being answered.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(active: &Arc<AtomicUsize>) -> Self {
        active.fetch_add(1, Relaxed);
        Self(active.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The body of a stream's answer. Dropping it ends the stream.
struct Pipe {
    pipe: DuplexStream,
    bytes: Box<[u8]>,
    _busy: Busy,
}

impl Pipe {
    /// The largest frame that a client takes unless it says otherwise.
    const FRAME: usize = 16 * 1024;
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let Self { pipe, bytes, .. } = self.get_mut();
        let mut read = ReadBuf::new(bytes);
        ready!(Pin::new(pipe).poll_read(cx, &mut read))?;
        let read = read.filled();
        Poll::Ready((!read.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(read)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A socket of which some bytes were read already.
struct Rewound {
    read: Bytes,
    socket: Socket,
}

impl AsyncRead for Rewound {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        let part = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read.split_to(part));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// Runs hyper's tasks as those of the server, which end with it.
#[derive(Clone)]
struct Spawner(Arc<Host>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
