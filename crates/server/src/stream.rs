//! A live stream: from a position in the stream of events straight to a socket.
//!
//! A stream is a task with a position and a socket. Behind the head it reads for itself, a batch at a time:
//! everything new up to a bound, in one write. Once it has caught up it joins a group of streams that want
//! the same ([`fanout`]), and its task only waits for what may happen to it. A client that does not take its
//! bytes costs the batch at hand, and falls behind: nothing is queued for it here.

mod frames;
mod feed;
mod fanout;
mod gzip;

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tapline_api::{Backend, Cursor, Opened, Subscription};
use tapline_oapi::{Bye, ByeReason, ErrorCode, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::Failure;
use crate::app::App;
use crate::host::{ConnectionPermit, Host};
use crate::metrics::{CloseReason, RefusalReason, StreamEnd};
use crate::pace::Pace;
use crate::readers::{FilterChange, ReaderAccount, RegisteredReader};
use crate::socket::Socket;
pub(crate) use fanout::Fanout;
use fanout::{GroupFailed, Joining};
use feed::Feed;
use frames::FrameBuffer;
pub(crate) use frames::write_data;
use gzip::Gzip;

/// A stream that is about to begin.
pub(crate) struct Opening<B: Backend> {
    pub(crate) app: Arc<App<B>>,
    pub(crate) opened: Opened<B::Subscription>,
    pub(crate) notices: bool,
    /// The last seq that it may send.
    pub(crate) until: Option<u64>,
    /// When it has to end.
    pub(crate) expires: Option<Instant>,
    pub(crate) gzip: bool,
    pub(crate) reader: RegisteredReader,
    pub(crate) permit: StreamPermit,
}

/// One of the streams that there may be at once. Given back when it is dropped, which also counts the end of
/// a stream that has begun.
pub(crate) struct StreamPermit {
    host: Arc<Host>,
    begun: bool,
    end: Option<StreamEnd>,
}

impl StreamPermit {
    /// Fails where there are as many streams as there may be.
    pub(crate) fn acquire(host: &Arc<Host>) -> Result<Self, Failure> {
        let permit = Self {
            host: host.clone(),
            begun: false,
            end: None,
        };
        let most = host.options.limits.streams;
        if host.streams.fetch_add(1, Relaxed) < most {
            return Ok(permit);
        }
        host.metrics.connections.refused(RefusalReason::Streams);
        let failure = format!("this server has {most} streams open, its limit");
        Err(Failure::new(ErrorCode::Unavailable, failure).retry_after(2))
    }

    pub(crate) fn begin(&mut self) {
        self.begun = true;
        self.host.metrics.streams.opened();
    }

    /// Gives it back after a stream that has ended so.
    pub(crate) fn end(mut self, end: StreamEnd) {
        self.end = Some(end);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.host.streams.fetch_sub(1, Relaxed);
        if self.begun {
            let end = self.end.unwrap_or(if std::thread::panicking() {
                StreamEnd::Failed
            } else {
                // Its task was cancelled, which only the end of the server does.
                StreamEnd::Shutdown
            });
            self.host.metrics.streams.ended(end);
        }
    }
}

/// Serves a stream until it ends. `head` is the head of its answer, not sent yet; with HTTP/2 it
/// is empty, and the permit stays with the connection.
pub(crate) async fn run<B: Backend>(
    socket: Socket,
    head: Vec<u8>,
    chunked: bool,
    opening: Opening<B>,
    permit: Option<ConnectionPermit>,
) {
    limit_buffers(&socket, opening.app.host.options.limits.stall);
    let Opening {
        app,
        opened,
        notices,
        ..
    } = opening;
    let Opened {
        subscription,
        mut hello,
    } = opened;
    let ledger = subscription.ledger();
    let mut feed = Feed::new(subscription, notices, app.backend.epoch());
    let now = Instant::now();
    let mut stream = Stream {
        socket,
        out: FrameBuffer::new(chunked),
        chunked,
        gzip: opening.gzip.then(Gzip::default),
        reader: Arc::new(opening.reader),
        notices,
        permit: opening.permit,
        last: opening.until.map(|seq| (seq, ByeReason::Complete)),
        expires: opening.expires,
        stopping: false,
        wrote_at: now,
        beat_at: now + app.host.options.beat,
        app,
    };
    if notices {
        hello.reader = stream.reader.id();
        let retry = stream.retry();
        let hello = Notice::Hello(hello);
        stream.out.notice_with_retry(&hello, feed.cursor(), retry);
    } else {
        stream.out.hello_comment(&hello, ledger);
    }
    stream.permit.begin();
    stream.app.host.metrics.streams.lost(ledger.lost);
    let end = match stream.write_all(Some(&mut feed), head.into()).await {
        Ok(()) => stream.follow(feed).await.unwrap_or_else(|end| end),
        Err(end) => end,
    };
    stream.permit.end = Some(end);
    if let Some(mut permit) = permit {
        permit.reason = match end {
            StreamEnd::Stalled => CloseReason::Stalled,
            StreamEnd::Failed => CloseReason::Failed,
            _ => CloseReason::Done,
        };
    }
}

/// Keeps the system from buffering much more for a client than it can send, and from trying for a quarter of
/// an hour to reach one that vanished.
///
/// Without it a socket takes megabytes for a client that does not read: memory that nothing counts, and
/// events that are counted as delivered long before they are.
fn limit_buffers(socket: &Socket, stall: Duration) {
    /// Not sent yet: enough for full speed, since the client's receive window comes on top of it.
    const UNSENT: u32 = 256 * 1024;
    let Some(tcp) = socket.tcp() else {
        return;
    };
    let tcp = socket2::SockRef::from(&**tcp);
    let bounds = tcp
        .set_tcp_notsent_lowat(UNSENT)
        .and_then(|()| tcp.set_tcp_user_timeout(Some(stall)));
    if let Err(error) = bounds {
        tracing::debug!(%error, "cannot limit the buffers of the socket");
    }
}

struct Stream<B: Backend> {
    app: Arc<App<B>>,
    socket: Socket,
    /// What is to be sent next.
    out: FrameBuffer,
    chunked: bool,
    gzip: Option<Gzip>,
    reader: Arc<RegisteredReader>,
    notices: bool,
    permit: StreamPermit,
    /// After which seq the stream ends, and why, where that is known.
    last: Option<(u64, ByeReason)>,
    expires: Option<Instant>,
    stopping: bool,
    wrote_at: Instant,
    beat_at: Instant,
}

/// What wakes a stream that has nothing to do.
enum Signal {
    News,
    Tick,
    Change(FilterChange),
    Gone,
    Stopping,
    Expired,
}

impl<B: Backend> Stream<B> {
    async fn follow(&mut self, mut feed: Feed<B::Subscription>) -> Result<StreamEnd, StreamEnd> {
        let mut pace = Pace::new();
        loop {
            tokio::task::coop::consume_budget().await;
            pace.rest().await;
            // A stream that always has something to send never waits for a signal, so it checks these here,
            // too.
            if self.expires.is_some_and(|at| at <= Instant::now()) {
                return self.bye(&mut feed, ByeReason::Expired).await;
            }
            if !self.stopping && self.app.is_stopping() {
                if feed.earlier_epoch().is_some() {
                    return self.bye(&mut feed, self.app.end_reason()).await;
                }
                self.end_at_the_head();
            }
            let up_to = self.last.map_or(u64::MAX, |(seq, _)| seq);
            let bytes = self.app.host.options.limits.stream_bytes;
            let turn = self.app.host.turns.take(feed.filter()).await;
            let written = feed.write(&mut self.out, up_to, bytes);
            drop(turn);
            let ledger = feed.ledger();
            self.reader.store(match feed.earlier_epoch() {
                None => ReaderAccount::Own(ledger),
                Some(epoch) => ReaderAccount::Earlier { ledger, epoch },
            });
            self.app
                .host
                .metrics
                .streams
                .deliveries
                .add(written.delivered);
            if written.gaps > 0 {
                self.app
                    .host
                    .metrics
                    .streams
                    .gaps(written.gaps, written.lost);
                if feed.closes_on_lag() {
                    return self.bye(&mut feed, ByeReason::Overtaken).await;
                }
            }
            if let Some((seq, reason)) = self.last
                && seq <= feed.position()
            {
                return self.bye(&mut feed, reason).await;
            }
            if feed.notices() && self.beat_at <= Instant::now() {
                self.beat_at = Instant::now() + self.app.host.options.beat;
                feed.write_beat(&mut self.out);
            }
            if !self.out.is_empty() {
                self.send(Some(&mut feed)).await?;
                continue;
            }
            if written.looked_at > 0 {
                continue;
            }
            let signal;
            (feed, signal) = match self.rest(feed).await? {
                Ok(rested) => rested,
                Err(failed) => return self.fail(failed).await,
            };
            match signal {
                Signal::News => {}
                // Its beat is written above, when it is due.
                Signal::Tick if feed.notices() => {}
                Signal::Tick => self.out.comment("keep-alive"),
                Signal::Change(change) => self.refilter(&mut feed, change),
                Signal::Gone => return Err(StreamEnd::Client),
                // Handled above.
                Signal::Stopping | Signal::Expired => {}
            }
        }
    }

    /// The server stops: the stream ends at the head of this moment.
    fn end_at_the_head(&mut self) {
        self.stopping = true;
        let head = self.app.backend.retained().head;
        if self.last.is_none_or(|(seq, _)| head < seq) {
            self.last = Some((head, self.app.end_reason()));
        }
    }

    /// Waits until there is something to do: in a group where that is possible, otherwise alone.
    async fn rest(
        &mut self,
        mut feed: Feed<B::Subscription>,
    ) -> Result<Result<(Feed<B::Subscription>, Signal), GroupFailed>, StreamEnd> {
        let Some(socket) = self.shared_socket(&feed) else {
            let signal = self.signal(Some(&mut feed)).await;
            return Ok(Ok((feed, signal)));
        };
        let joining = Joining {
            feed,
            socket,
            reader: self.reader.clone(),
            wrote_at: self.wrote_at,
            beat_at: self.beat_at,
        };
        let mut membership = Fanout::join(&self.app, joining);
        let (returned, signal) = tokio::select! {
            biased;
            returned = membership.returned() => (Some(returned), Signal::News),
            signal = self.signal(None) => (None, signal),
        };
        let returned = match returned {
            Some(returned) => returned,
            None => membership.leave().await,
        };
        let returned = match returned {
            Ok(returned) => returned,
            Err(failed) => return Ok(Err(failed)),
        };
        (self.wrote_at, self.beat_at) = (returned.wrote_at, returned.beat_at);
        let mut feed = returned.feed;
        self.write_all(Some(&mut feed), returned.rest).await?;
        Ok(Ok((feed, signal)))
    }

    /// Ends the stream because its group's task has ended.
    async fn fail(&mut self, failed: GroupFailed) -> Result<StreamEnd, StreamEnd> {
        // Without a last seq the client may have received a part of a frame: all that is safe is to close.
        if let Some(last_seq) = failed.last_seq {
            self.write_bye(ByeReason::Failed, last_seq.into());
            self.finish(None).await?;
        }
        Ok(StreamEnd::Failed)
    }

    /// The socket, if the stream can be in a group: if its bytes are the same as those of others, and it
    /// has no end of its own.
    fn shared_socket(&self, feed: &Feed<B::Subscription>) -> Option<Arc<TcpStream>> {
        match &self.socket {
            Socket::Plain(socket)
                if self.chunked
                    && self.gzip.is_none()
                    && self.last.is_none()
                    && !feed.closes_on_lag()
                    && feed.is_live() =>
            {
                Some(socket.0.clone())
            }
            _ => None,
        }
    }

    /// The next thing that happens to the stream; also news and ticks, where it reads for itself.
    async fn signal(&mut self, feed: Option<&mut Feed<B::Subscription>>) -> Signal {
        let Self {
            app,
            socket,
            reader,
            stopping,
            expires,
            wrote_at,
            beat_at,
            ..
        } = self;
        let alone = feed.is_some();
        let tick = match &feed {
            Some(feed) if feed.notices() => *beat_at,
            _ => *wrote_at + app.host.options.beat,
        };
        let news = async {
            match feed {
                Some(feed) => poll_fn(|cx| feed.poll_news(cx)).await,
                None => pending().await,
            }
        };
        let expired = async {
            match expires {
                Some(at) => sleep_until(*at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = app.stopping.cancelled(), if !*stopping => Signal::Stopping,
            () = expired => Signal::Expired,
            change = poll_fn(|cx| reader.poll_change(cx)) => Signal::Change(change),
            () = gone(socket) => Signal::Gone,
            () = sleep_until(tick), if alone => Signal::Tick,
            () = news => Signal::News,
        }
    }

    /// Changes what the stream is for, from here on.
    fn refilter(&mut self, feed: &mut Feed<B::Subscription>, change: FilterChange) {
        feed.refilter(change.filter().clone());
        let notice = change.applied(feed.position());
        if feed.notices() {
            let cursor = feed.cursor();
            self.out.notice(&Notice::Filter(notice), Some(cursor));
        } else {
            let after = notice.after;
            self.out
                .comment(&format!("filter: another one holds after seq {after}"));
        }
    }

    /// Sends what is ready.
    async fn send(&mut self, feed: Option<&mut Feed<B::Subscription>>) -> Result<(), StreamEnd> {
        if let Some(gzip) = &mut self.gzip {
            let compressed = gzip.compress(self.out.payload());
            self.out.replace(&compressed);
        }
        let batch = self.out.take();
        self.write_all(feed, batch).await
    }

    /// Writes all of these bytes, for as long as the client takes any. Makes changes of the filter
    /// meanwhile, where there is a feed.
    async fn write_all(
        &mut self,
        mut feed: Option<&mut Feed<B::Subscription>>,
        mut bytes: Bytes,
    ) -> Result<(), StreamEnd> {
        let stall = self.app.host.options.limits.stall;
        self.app.host.metrics.streams.wrote(1, bytes.len() as u64);
        while !bytes.is_empty() {
            let Self { socket, reader, .. } = self;
            let step = tokio::select! {
                biased;
                written = timeout(stall, socket.write(&bytes)) => Ok(written),
                // It holds from the position on, which is behind these bytes.
                change = poll_fn(|cx| reader.poll_change(cx)), if feed.is_some() => Err(change),
            };
            match step {
                Ok(Ok(Ok(written))) if written > 0 => bytes.advance(written),
                Ok(Ok(_)) => return Err(StreamEnd::Client),
                Ok(Err(_)) => return Err(StreamEnd::Stalled),
                Err(change) => {
                    if let Some(feed) = &mut feed {
                        self.refilter(feed, change);
                    }
                }
            }
        }
        // Under TLS, what was taken may still be in a buffer on this side.
        match timeout(stall, self.socket.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(StreamEnd::Client),
            Err(_) => return Err(StreamEnd::Stalled),
        }
        self.wrote_at = Instant::now();
        Ok(())
    }

    /// Ends the stream, and sends why, and the last seq.
    async fn bye(
        &mut self,
        feed: &mut Feed<B::Subscription>,
        reason: ByeReason,
    ) -> Result<StreamEnd, StreamEnd> {
        let at = Cursor {
            seq: feed.position(),
            epoch: feed.earlier_epoch(),
        };
        self.write_bye(reason, at);
        self.finish(Some(feed)).await?;
        Ok(reason.into())
    }

    /// Says why the stream ends, and where: in the present epoch, unless `at` has one.
    fn write_bye(&mut self, reason: ByeReason, at: Cursor) {
        let last_seq = at.seq;
        if self.notices {
            let retry = match reason {
                ByeReason::Restarted => self.retry() / 8,
                _ => self.retry(),
            };
            let bye = Notice::Bye(Bye { reason, last_seq });
            let cursor = Cursor {
                seq: last_seq,
                epoch: at.epoch.or(Some(self.app.backend.epoch())),
            };
            self.out.notice_with_retry(&bye, cursor, retry);
        } else {
            let why = match reason {
                ByeReason::Expired => "the ticket has expired",
                ByeReason::Overtaken => "events were lost",
                ByeReason::Complete => "the ticket's range is complete",
                ByeReason::Shutdown => "the server is stopping",
                ByeReason::Restarted => {
                    "the instance was started anew, or events of it are missing"
                }
                _ => "the server failed to continue this stream; its log has the cause",
            };
            self.out
                .comment(&format!("bye: {why}, the last seq was {last_seq}"));
        }
    }

    /// Sends what is ready, and the end of the body.
    async fn finish(
        &mut self,
        mut feed: Option<&mut Feed<B::Subscription>>,
    ) -> Result<(), StreamEnd> {
        self.send(feed.as_deref_mut()).await?;
        if let Some(gzip) = self.gzip.take() {
            self.out.replace(&gzip.last());
            let batch = self.out.take();
            self.write_all(feed.as_deref_mut(), batch).await?;
        }
        self.write_all(feed, self.out.last().into()).await?;
        self.socket.close().await;
        Ok(())
    }

    /// After how many milliseconds the client should reconnect, if its stream breaks. Each client gets a
    /// moment of its own within the window, so that they do not all reconnect at once.
    fn retry(&self) -> u64 {
        /// A restart takes at least this long.
        const SOONEST: u64 = 1000;
        let window = self.app.host.options.reconnect_window.unwrap_or_else(|| {
            /// New streams that a server can take in a second, with a margin.
            const PER_SECOND: u64 = 1000;
            let Host {
                streams,
                streams_at_stop,
                ..
            } = &*self.app.host;
            // While the server stops, the last stream gets a moment in the window of all, too.
            let streams = streams.load(Relaxed).max(streams_at_stop.load(Relaxed)) as u64;
            Duration::from_secs((streams / PER_SECOND).max(4))
        });
        // Without randomness all get the same moment.
        let random = u64::from(getrandom::u32().unwrap_or(0));
        SOONEST + random % (window.as_millis() as u64).max(1)
    }
}

/// Ready when the client has closed its side. What it sends on the way is ignored, within bounds: a client
/// that reads a stream has nothing more to send.
async fn gone(socket: &mut Socket) {
    const IGNORED_BYTES: usize = 64 * 1024;
    let mut received = 0;
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = socket.read(&mut bytes).await {
        received += read;
        if received > IGNORED_BYTES {
            return;
        }
    }
}
