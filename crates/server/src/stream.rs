//! A live stream: from a reader's position straight to a socket.
//!
//! A stream is a task with a position and a socket. Behind the head it reads for itself: a piece at a time,
//! which is everything new up to a bound, in one write. Once it has caught up it follows with others who want
//! the same ([`fanout`]), and its task only watches for what may happen to it. A peer that does not take its
//! bytes costs the piece at hand, and falls behind in the ring: nothing is queued for it here.

mod frames;
mod feed;
mod fanout;
mod gzip;

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tapline_api::{Enrolled, FilterChange, Place as Account, Subscription};
use tapline_oapi::{Bye, ByeReason, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::metrics::Closed;
use crate::serve::{App, Place};
use crate::socket::Socket;
pub(crate) use fanout::Fanout;
use fanout::Seat;
use feed::Feed;
use frames::Piece;
use gzip::Gzip;

/// What a stream is to be.
pub(crate) struct Opening {
    pub(crate) subscription: Subscription,
    pub(crate) notices: bool,
    /// Whether the stream ends when it is overtaken.
    pub(crate) close_when_overtaken: bool,
    /// The last seq that it may tell.
    pub(crate) until: Option<u64>,
    /// When it has to end.
    pub(crate) expires: Option<Instant>,
    pub(crate) gzip: bool,
    pub(crate) enrolled: Enrolled,
    /// Given back when the stream ends.
    pub(crate) counted: Counted,
}

/// A stream among those that there may be: taken back when it is dropped.
pub(crate) struct Counted(Arc<App>);

impl Counted {
    /// `None` where there is no room for another.
    pub(crate) fn take(app: &Arc<App>) -> Option<Self> {
        let counted = Self(app.clone());
        let before = app.streams.fetch_add(1, Relaxed);
        (before < app.options.limits.streams).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Serves a stream until it ends. `head` is its answer's head, not sent yet.
pub(crate) async fn run(
    app: Arc<App>,
    socket: Socket,
    head: Vec<u8>,
    chunked: bool,
    opening: Opening,
    mut place: Place,
) {
    bound(&socket, app.options.limits.stall);
    let Opening {
        subscription,
        notices,
        ..
    } = opening;
    let Subscription {
        reader,
        mut hello,
        evicted,
    } = subscription;
    let mut feed = Feed::new(app.api.clone(), reader, notices);
    let now = Instant::now();
    let mut stream = Stream {
        socket,
        out: Piece::new(chunked),
        chunked,
        gzip: opening.gzip.then(Gzip::default),
        enrolled: Arc::new(opening.enrolled),
        _counted: opening.counted,
        close_when_overtaken: opening.close_when_overtaken,
        last: opening.until.map(|seq| (seq, ByeReason::Complete)),
        expires: opening.expires,
        stopping: false,
        wrote_at: now,
        beat_at: now + app.options.beat,
        app,
    };
    if notices {
        hello.reader = stream.enrolled.id();
        let retry = stream.retry();
        let hello = Notice::Hello(hello);
        stream.out.notice_with_retry(&hello, retry);
    } else {
        stream.out.hello_comment(&hello, evicted);
    }
    stream.app.metrics.streams.opened();
    let ended = match stream.write_all(&mut feed, head.into()).await {
        Ok(()) => stream.follow(feed).await.unwrap_or_else(|ended| ended),
        Err(ended) => ended,
    };
    stream.app.metrics.streams.ended(ended);
    if ended == Ended::Stalled {
        place.why = Closed::Stalled;
    }
}

/// Keeps the system from taking in much more for a peer than it can send, and from trying for a quarter of an
/// hour to reach one that is gone without a word.
///
/// Without it a socket takes megabytes for a peer that does not read: memory that nobody counts, and
/// events that are told as delivered long before they are.
fn bound(socket: &Socket, stall: Duration) {
    /// Not sent yet: enough to be sent at full speed, since the peer's window counts on top of it.
    const UNSENT: u32 = 256 * 1024;
    let tcp = match socket {
        Socket::Plain(socket) => socket2::SockRef::from(&**socket),
        Socket::Tls(socket) => socket2::SockRef::from(socket.get_ref().0),
    };
    let bounds = tcp
        .set_tcp_notsent_lowat(UNSENT)
        .and_then(|()| tcp.set_tcp_user_timeout(Some(stall)));
    if let Err(error) = bounds {
        tracing::debug!(%error, "cannot bound the socket");
    }
}

/// How a stream came to its end.
pub(crate) use crate::metrics::StreamEnd as Ended;

struct Stream {
    app: Arc<App>,
    socket: Socket,
    /// What is to be sent next.
    out: Piece,
    chunked: bool,
    gzip: Option<Gzip>,
    enrolled: Arc<Enrolled>,
    _counted: Counted,
    close_when_overtaken: bool,
    /// After which seq the stream ends, and why, where that is known.
    last: Option<(u64, ByeReason)>,
    expires: Option<Instant>,
    stopping: bool,
    wrote_at: Instant,
    beat_at: Instant,
}

/// What a stream that has nothing to do may be woken for.
enum Signal {
    News,
    Tick,
    Change(FilterChange),
    Gone,
    Stopping,
    Expired,
}

impl Stream {
    async fn follow(&mut self, mut feed: Feed) -> Result<Ended, Ended> {
        loop {
            tokio::task::coop::consume_budget().await;
            // A stream that always has something to send never waits for a signal: so these are looked for
            // here, too.
            if self.expires.is_some_and(|at| at <= Instant::now()) {
                return self.bye(&mut feed, ByeReason::Expired).await;
            }
            if !self.stopping && self.app.is_stopping.load(Relaxed) {
                self.end_at_the_head();
            }
            let before = feed.ledger();
            let up_to = self.last.map_or(u64::MAX, |(seq, _)| seq);
            let written = feed.write(&mut self.out, up_to, self.app.options.limits.stream_bytes);
            let ledger = feed.ledger();
            self.enrolled.place(Account::Own(ledger));
            let delivered = ledger.delivered - before.delivered;
            self.app.metrics.streams.deliveries.add(delivered);
            if written.gaps > 0 {
                let lost = ledger.lost - before.lost;
                self.app.metrics.streams.gaps(written.gaps, lost);
                if self.close_when_overtaken {
                    return self.bye(&mut feed, ByeReason::Overtaken).await;
                }
            }
            if let Some((seq, reason)) = self.last
                && seq <= feed.position()
            {
                return self.bye(&mut feed, reason).await;
            }
            if feed.notices() && self.beat_at <= Instant::now() {
                self.beat_at = Instant::now() + self.app.options.beat;
                feed.write_beat(&mut self.out);
            }
            if !self.out.is_empty() {
                self.send(&mut feed).await?;
                continue;
            }
            if written.looked_at > 0 {
                continue;
            }
            let signal;
            (feed, signal) = self.rest(feed).await?;
            match signal {
                Signal::News => {}
                // Its beat is written above, when it is due.
                Signal::Tick if feed.notices() => {}
                Signal::Tick => self.out.comment("keep-alive"),
                Signal::Change(change) => self.refilter(&mut feed, change),
                Signal::Gone => return Err(Ended::Client),
                // Seen to above.
                Signal::Stopping | Signal::Expired => {}
            }
        }
    }

    /// The server stops: what is published from here on is not waited for.
    fn end_at_the_head(&mut self) {
        self.stopping = true;
        let head = self.app.api.session().seq();
        if self.last.is_none_or(|(seq, _)| head < seq) {
            self.last = Some((head, ByeReason::Shutdown));
        }
    }

    /// Waits until there is something to do: with others where that can be, otherwise alone.
    async fn rest(&mut self, mut feed: Feed) -> Result<(Feed, Signal), Ended> {
        let Some(socket) = self.shared_socket() else {
            let signal = self.signal(Some(&mut feed)).await;
            return Ok((feed, signal));
        };
        let seat = Seat {
            feed,
            socket,
            enrolled: self.enrolled.clone(),
            wrote_at: self.wrote_at,
            beat_at: self.beat_at,
        };
        let mut membership = Fanout::join(&self.app, seat);
        let (returned, signal) = tokio::select! {
            biased;
            returned = membership.returned() => (Some(returned), Signal::News),
            signal = self.signal(None) => (None, signal),
        };
        let returned = match returned {
            Some(returned) => returned,
            None => membership.leave().await,
        };
        (self.wrote_at, self.beat_at) = (returned.wrote_at, returned.beat_at);
        let mut feed = returned.feed;
        self.write_all(&mut feed, returned.rest).await?;
        Ok((feed, signal))
    }

    /// The socket, if what goes to it is nothing special: the same bytes as others get, for as long as there
    /// are any.
    fn shared_socket(&self) -> Option<Arc<TcpStream>> {
        match &self.socket {
            Socket::Plain(socket)
                if self.chunked
                    && self.gzip.is_none()
                    && self.last.is_none()
                    && !self.close_when_overtaken =>
            {
                Some(socket.clone())
            }
            _ => None,
        }
    }

    /// The next thing that happens to the stream; also news and ticks, where it reads for itself.
    async fn signal(&mut self, feed: Option<&mut Feed>) -> Signal {
        let Self {
            app,
            socket,
            enrolled,
            stopping,
            expires,
            wrote_at,
            beat_at,
            ..
        } = self;
        let alone = feed.is_some();
        let tick = match &feed {
            Some(feed) if feed.notices() => *beat_at,
            _ => *wrote_at + app.options.beat,
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
            change = poll_fn(|cx| enrolled.poll_change(cx)) => Signal::Change(change),
            () = gone(socket) => Signal::Gone,
            () = sleep_until(tick), if alone => Signal::Tick,
            () = news => Signal::News,
        }
    }

    /// Changes what the stream is for, from here on.
    fn refilter(&mut self, feed: &mut Feed, change: FilterChange) {
        feed.refilter(change.filter().clone());
        let notice = change.applied(feed.position());
        if feed.notices() {
            self.out.notice(&Notice::Filter(notice));
        } else {
            let after = notice.after;
            self.out
                .comment(&format!("filter: another one holds after seq {after}"));
        }
    }

    /// Sends what is ready.
    async fn send(&mut self, feed: &mut Feed) -> Result<(), Ended> {
        if let Some(gzip) = &mut self.gzip {
            let compressed = gzip.piece(self.out.payload());
            self.out.replace(&compressed);
        }
        let piece = self.out.take();
        self.write_all(feed, piece).await
    }

    /// Writes all of these, for as long as the peer takes any.
    async fn write_all(&mut self, feed: &mut Feed, mut bytes: Bytes) -> Result<(), Ended> {
        let stall = self.app.options.limits.stall;
        self.app.metrics.streams.wrote(1, bytes.len() as u64);
        while !bytes.is_empty() {
            let Self {
                socket, enrolled, ..
            } = self;
            let step = tokio::select! {
                biased;
                written = timeout(stall, socket.write(&bytes)) => Ok(written),
                // What it changes is what comes after these bytes.
                change = poll_fn(|cx| enrolled.poll_change(cx)) => Err(change),
            };
            match step {
                Ok(Ok(Ok(written))) if written > 0 => bytes.advance(written),
                Ok(Ok(_)) => return Err(Ended::Client),
                Ok(Err(_)) => return Err(Ended::Stalled),
                Err(change) => self.refilter(feed, change),
            }
        }
        // Under TLS, what was taken may still be in a buffer on this side.
        match timeout(stall, self.socket.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Ended::Client),
            Err(_) => return Err(Ended::Stalled),
        }
        self.wrote_at = Instant::now();
        Ok(())
    }

    /// Says why the stream ends, and from where to go on.
    async fn bye(&mut self, feed: &mut Feed, reason: ByeReason) -> Result<Ended, Ended> {
        let last_seq = feed.position();
        if feed.notices() {
            let retry = self.retry();
            let bye = Notice::Bye(Bye { reason, last_seq });
            self.out.notice_with_retry(&bye, retry);
        } else {
            let why = match reason {
                ByeReason::Expired => "the ticket has expired",
                ByeReason::Overtaken => "events were lost",
                ByeReason::Complete => "the ticket's range is complete",
                _ => "the server stops",
            };
            self.out
                .comment(&format!("bye: {why}, the last seq was {last_seq}"));
        }
        self.send(feed).await?;
        if let Some(gzip) = self.gzip.take() {
            self.out.replace(&gzip.last());
            let piece = self.out.take();
            self.write_all(feed, piece).await?;
        }
        self.write_all(feed, self.out.last().into()).await?;
        let _ = self.socket.shutdown().await;
        Ok(reason.into())
    }

    /// After how many milliseconds this peer is to come back, if its stream breaks: each has a moment of its
    /// own within the window, so that they do not all come at once.
    fn retry(&self) -> u64 {
        /// What a restart takes at least.
        const SOONEST: u64 = 1000;
        let window = self.app.options.reconnect_window.unwrap_or_else(|| {
            /// A second's worth of new streams, with room to spare.
            const PER_SECOND: u64 = 1000;
            let App {
                streams, sent_away, ..
            } = &*self.app;
            // Of a crowd that is sent away the last one, too, gets a moment in the window of all.
            let streams = streams.load(Relaxed).max(sent_away.load(Relaxed)) as u64;
            Duration::from_secs((streams / PER_SECOND).max(4))
        });
        // Without randomness they do.
        let random = u64::from(getrandom::u32().unwrap_or(0));
        SOONEST + random % (window.as_millis() as u64).max(1)
    }
}

/// Ready when the peer has closed its side: nobody who reads a stream has anything more to say.
async fn gone(socket: &mut Socket) {
    /// Who goes on talking is not listening.
    const TALK: usize = 64 * 1024;
    let mut heard = 0;
    let mut bytes = [0; 64];
    while let Ok(read @ 1..) = socket.read(&mut bytes).await {
        heard += read;
        if heard > TALK {
            return;
        }
    }
}
