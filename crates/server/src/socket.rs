//! The socket of a connection, in the clear or under TLS, and what the connection knows of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU16};
use std::task::{Context, Poll, ready};

use tapline_access::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes to and from a peer.
pub(crate) enum Socket {
    /// Shared, so that one task can write to it while another watches whether the peer is still there.
    Plain(Arc<TcpStream>),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => loop {
                ready!(socket.poll_read_ready(cx))?;
                match socket.try_read_buf(buf) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return Poll::Ready(done.map(|_| ())),
                }
            },
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
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
            Self::Plain(socket) => loop {
                ready!(socket.poll_write_ready(cx))?;
                match socket.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return Poll::Ready(done),
                }
            },
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => {
                Poll::Ready(socket2::SockRef::from(&**socket).shutdown(std::net::Shutdown::Write))
            }
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// A socket under HTTP, which notes what its connection goes by: whether the peer is saying
/// something, and whether it takes what it is told.
pub(crate) struct Watched {
    pub(crate) socket: Socket,
    pub(crate) signs: Arc<Signs>,
}

/// What was seen of a peer. Everything about one connection happens in one task: the atomics are
/// there because the pieces of it cannot borrow from each other.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    /// Bytes have come since the last request began to be answered.
    pub(crate) heard: AtomicBool,
    /// A request is being answered.
    pub(crate) busy: AtomicBool,
    /// The peer does not take its bytes.
    pub(crate) blocked: AtomicBool,
    /// A request's body is being read.
    pub(crate) reading: AtomicBool,
    /// Bytes went either way since that was last asked.
    pub(crate) moved: AtomicBool,
    /// The status with which the HTTP library answered what it could not read, in place of us; 0 = it
    /// did not. It says no more than that, so it is not sent: the connection says it as our errors are
    /// said.
    pub(crate) bare: AtomicU16,
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
            this.signs.heard.store(true, Relaxed);
            this.signs.moved.store(true, Relaxed);
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
            this.signs.bare.store(status, Relaxed);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.signs.blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            this.signs.moved.store(true, Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // There is still something to be said.
        if this.signs.bare.load(Relaxed) != 0 {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// The status of an error without a body: all of ours have one.
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
