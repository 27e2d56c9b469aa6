//! The socket of a connection, with or without TLS, and what the connection knows of it.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU16};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tapline_access::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes to and from a client.
pub(crate) enum Socket {
    Plain(Shared),
    Tls(Box<TlsStream<Shared>>),
    /// One stream of a connection of HTTP/2.
    Pipe(DuplexStream),
}

/// A TCP socket that one task reads and writes while another part of the program watches whether the client is
/// still there, or writes to many.
pub(crate) struct Shared(pub(crate) Arc<TcpStream>);

impl Socket {
    /// The TCP socket, under TLS or not. `None` where there is not one of its own.
    pub(crate) fn tcp(&self) -> Option<&Arc<TcpStream>> {
        match self {
            Self::Plain(socket) => Some(&socket.0),
            Self::Tls(socket) => Some(&socket.get_ref().0.0),
            Self::Pipe(_) => None,
        }
    }

    /// Whether client and server have agreed on HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Tls(socket) => socket.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Plain(_) | Self::Pipe(_) => false,
        }
    }

    /// Closes the sending side, and waits for the end of what is under way, within bounds: under TLS a
    /// client that does not read would otherwise keep the closing handshake waiting.
    pub(crate) async fn close(&mut self) {
        const TIME: Duration = Duration::from_secs(2);
        // Whether the client saw it makes no difference.
        let _ = timeout(TIME, self.shutdown()).await;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Pipe(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Pipe(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
            Self::Pipe(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Pipe(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}

/// Ready when the client cannot be reached any more: it has reset the connection, or does not answer probes.
///
/// A client that has closed its side may have closed its sending side only, and wait for its answer. Both look
/// the same here. The system of a client that has closed all of it answers probes for a minute, as systems
/// do after a close, and then resets the connection.
///
/// Without a socket never: the connection notices, and drops what it answers.
pub(crate) async fn unreachable(tcp: Option<&TcpStream>) {
    const PROBE_EVERY: Duration = Duration::from_secs(10);
    let Some(tcp) = tcp else {
        return pending().await;
    };
    let probes = socket2::TcpKeepalive::new()
        .with_time(PROBE_EVERY)
        .with_interval(PROBE_EVERY)
        .with_retries(3);
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "cannot probe the client");
    }
    // An error here is one of the runtime, which ends.
    let _ = tcp.ready(Interest::ERROR).await;
}

/// A socket under hyper, which records what its connection needs to know: whether the client sends
/// something, and whether it takes what it is sent.
pub(crate) struct Watched {
    pub(crate) socket: Socket,
    pub(crate) state: Arc<SocketState>,
}

/// What is known of a connection's socket. Everything about one connection happens in one task: the
/// atomics are there because its parts cannot borrow from each other.
#[derive(Debug, Default)]
pub(crate) struct SocketState {
    /// Bytes were received since the last request began to be answered.
    pub(crate) received: AtomicBool,
    /// A request is being answered.
    pub(crate) busy: AtomicBool,
    /// The client does not take its bytes.
    pub(crate) blocked: AtomicBool,
    /// A request's body is being read.
    pub(crate) reading: AtomicBool,
    /// Bytes were sent or received since this flag was last cleared.
    pub(crate) moved: AtomicBool,
    /// The status with which hyper answered what it could not read; 0: it did not. Its answer has no body,
    /// so it is not sent: the connection answers in its place.
    pub(crate) hyper_error: AtomicU16,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.state.received.store(true, Relaxed);
            this.state.moved.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(status) = bare_status(bytes) {
            this.state.hyper_error.store(status, Relaxed);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.state.blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            this.state.moved.store(true, Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The connection still has an answer to send.
        if this.state.hyper_error.load(Relaxed) != 0 {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// The status of an error without a body: all of our own have one.
fn bare_status(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 4")?;
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    head.contains("content-length: 0\r\n").then_some(())?;
    let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
    Some(400 + digits.parse::<u16>().ok()?)
}
