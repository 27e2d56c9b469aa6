//! The stream: one [`Follower`] over as many connections as it takes.
//!
//! # How every loss is reported, and no event comes twice
//!
//! 1. `position` is the seq of the last event received, or a later seq if the server said that all events
//!    up to it were filtered or lost (`hello`, `gap`, `beat`, `bye`). It includes the epoch.
//! 2. A new connection asks for the events after `position`. Its `hello` says where reading begins; if that
//!    is later, the difference becomes a [`Loss`].
//! 3. An event at or before `position`, in the same epoch, was delivered before and is dropped.
//! 4. Without a filter, seqs have no holes. A hole that the server did not report becomes a [`Loss`] as
//!    well. With a filter, holes are filtered events and no loss.
//! 5. If a connection breaks within a frame, the frame is dropped, and the next connection sends it again.
//! 6. If the server was restarted, its epoch is another one. A server with an archive continues in the old epoch
//!    and says where that ends ([`StreamItem::Epoch`]). Otherwise the stream reports a [`Loss`] of unknown size
//!    and begins at the oldest retained event of the new epoch.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tapline_oapi::{Bye, ByeReason, Cursor, Gap, Hello, HelloReason, Notice};
use tokio::time::{Instant, Sleep};

use crate::error::{Error, ProtocolError};
use crate::http::{Http, add_filter};
use crate::item::{Loss, LossCause, Reconnecting, StreamItem, StreamedEvent};
use crate::options::{Start, StreamOptions};
use crate::sse::{Frame, Parser};

/// Follows the events of a server from [`StreamOptions::start`], over as many connections as needed. Made by [`Client::follow`](crate::Client::follow).
///
/// It also implements [`Stream`].
///
/// # Reconnecting
///
/// If the first connection fails, the stream ends with that error: most likely the address is wrong. Later
/// the stream reconnects automatically, with growing pauses ([`Reconnect`](crate::Reconnect)), and reports
/// each attempt ([`StreamItem::Reconnecting`]).
///
/// The stream ends after a 4xx answer (except 408 and 429), after a 204, with which a server asks clients not
/// to reconnect, and after a `bye` ([`StreamItem::Bye`]) with the reason `expired`, `complete` or `overtaken`.
/// After any other `bye` it reconnects.
///
/// # Lagging
///
/// A reader that is slower than the producers lags: the server evicts events before it sends them. The
/// stream reports that as [`StreamItem::Lost`] and continues at the oldest retained event. The client
/// buffers nothing: it reads from the socket only as items are taken from the stream.
pub struct Follower {
    http: Http,
    options: StreamOptions,
    connection: Connection,
    /// Items of the last frame that were not returned yet: two at most.
    pending: VecDeque<Result<StreamItem, Error>>,
    /// The position after everything received, `pending` included.
    position: Option<Cursor>,
    /// The position after everything that was returned to the caller.
    cursor: Option<Cursor>,
    /// Whether this connection has a filter: then holes in the seqs are no loss.
    filtered: bool,
    /// Whether a connection was ever established: only then the stream reconnects.
    was_connected: bool,
    /// Failed attempts in a row.
    failures: u32,
    /// The pause that the server asks for, from `retry:`.
    retry: Option<Duration>,
    /// The pause that a `bye` asks for. It is used once, and exactly.
    bye_retry: Option<Duration>,
}

enum Connection {
    None,
    Opening(Pin<Box<dyn Future<Output = Result<Incoming, Error>> + Send>>),
    Open(Box<Reading>),
    Waiting(Pin<Box<Sleep>>),
    Over,
}

struct Reading {
    body: Incoming,
    parser: Parser,
    silence: Pin<Box<Sleep>>,
}

impl Follower {
    pub(crate) fn new(http: Http, options: StreamOptions) -> Self {
        Self {
            http,
            filtered: options.is_filtered(),
            options,
            connection: Connection::None,
            pending: VecDeque::new(),
            position: None,
            cursor: None,
            was_connected: false,
            failures: 0,
            retry: None,
            bye_retry: None,
        }
    }

    /// The next item: an event, a loss, a notice, a reconnection. `None` after the end of the stream: after an
    /// error, or if the server ended it for good.
    ///
    /// # Errors
    ///
    /// An error ends the stream. A failure after which the stream reconnects is not an error, but a
    /// [`StreamItem::Reconnecting`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: received bytes stay in the stream, and the next call continues a
    /// connection attempt or a pause.
    pub async fn next(&mut self) -> Option<Result<StreamItem, Error>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The position after all items that [`next`](Self::next) returned. `None` before the first frame. Store
    /// it, and start the next stream [`After`](Start::After) it.
    #[must_use]
    pub const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<StreamItem, Error>>> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                if self.pending.is_empty() {
                    self.cursor = self.position;
                }
                return Poll::Ready(Some(item));
            }
            match &mut self.connection {
                Connection::None => {
                    let (http, options) = (self.http.clone(), self.options.clone());
                    let resume = self.position;
                    self.connection = Connection::Opening(Box::pin(async move {
                        let timeout = options.silence;
                        let open = open(&http, &options, resume);
                        tokio::time::timeout(timeout, open)
                            .await
                            .unwrap_or_else(|_| Err(http.timed_out(timeout)))
                    }));
                }
                Connection::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(body) => {
                        self.was_connected = true;
                        self.connection = Connection::Open(Box::new(Reading {
                            body,
                            parser: Parser::new(),
                            silence: Box::pin(tokio::time::sleep(self.options.silence)),
                        }));
                    }
                    Err(Error::Protocol {
                        source: ProtocolError::Status(204),
                        ..
                    }) => self.connection = Connection::Over,
                    Err(error) => self.failed(error),
                },
                Connection::Open(reading) => match reading.parser.next() {
                    Ok(Some(frame)) => match self.take(frame) {
                        // The frame has no item, but it may have moved the position.
                        Ok(()) if self.pending.is_empty() => self.cursor = self.position,
                        Ok(()) => {}
                        Err(error) => self.finish(error),
                    },
                    Ok(None) => match ready!(reading.poll_chunk(context)) {
                        Chunk::Bytes(bytes) => {
                            reading.parser.push(bytes);
                            reading
                                .silence
                                .as_mut()
                                .reset(Instant::now() + self.options.silence);
                        }
                        Chunk::End(source) => {
                            let error = self.http.disconnected(source.map(Into::into));
                            self.failed(error);
                        }
                        Chunk::Silence => {
                            let error = self.http.timed_out(self.options.silence);
                            self.failed(error);
                        }
                    },
                    Err(error) => {
                        let error = self.http.protocol(error);
                        self.finish(error);
                    }
                },
                Connection::Waiting(pause) => {
                    ready!(pause.as_mut().poll(context));
                    self.connection = Connection::None;
                }
                Connection::Over => return Poll::Ready(None),
            }
        }
    }

    /// Handles one frame.
    fn take(&mut self, frame: Frame) -> Result<(), Error> {
        let is_event = matches!(frame.event.as_deref(), None | Some("message"));
        if let Some(retry) = frame.retry {
            match frame.event.as_deref() {
                Some("bye") => self.bye_retry = Some(retry),
                _ => self.retry = Some(retry),
            }
        }
        if frame.event.as_deref() != Some("hello") {
            // The server works. A `hello` alone does not count: the stream would reconnect again and again
            // after the shortest pause to a server that fails after its `hello`.
            self.failures = 0;
        }
        let id = frame.id.as_deref().and_then(|id| id.parse::<Cursor>().ok());
        match (frame.data, frame.event) {
            // An id alone: everything up to it was received or filtered.
            (None, _) => {
                if let Some(id) = id {
                    self.advance(id);
                }
            }
            (Some(json), _) if is_event => self.take_event(id, json)?,
            (Some(json), name) => {
                let name = name.unwrap_or_default();
                match Notice::parse(&name, &json) {
                    Ok(notice) => self.take_notice(notice),
                    Err(source) => {
                        let error = ProtocolError::Notice { name, source };
                        return Err(self.http.protocol(error));
                    }
                }
            }
        }
        Ok(())
    }

    fn take_event(&mut self, id: Option<Cursor>, json: String) -> Result<(), Error> {
        /// The part of an envelope that names its position.
        #[derive(Deserialize)]
        struct Seq {
            seq: u64,
        }

        let at = match id {
            Some(id) => id,
            None => match serde_json::from_str::<Seq>(&json) {
                Ok(Seq { seq }) => self.cursor_in_this_epoch(seq),
                Err(_) => return Err(self.http.protocol(ProtocolError::NoSeq)),
            },
        };
        if let Some(position) = self.position.filter(|it| same_epoch(*it, at)) {
            if at.seq <= position.seq {
                return Ok(());
            }
            let next = position.seq + 1;
            if !self.filtered && next < at.seq {
                self.pending.push_back(Ok(StreamItem::Lost(Loss {
                    lost: Some(at.seq - next),
                    seqs: Some(next..=at.seq - 1),
                    by_category: Default::default(),
                    cause: LossCause::Skipped,
                })));
            }
        }
        self.position = Some(at);
        let event = StreamedEvent { at, json };
        self.pending.push_back(Ok(StreamItem::Event(event)));
        Ok(())
    }

    fn take_notice(&mut self, notice: Option<Notice>) {
        match notice {
            Some(Notice::Hello(hello)) => self.take_hello(hello),
            Some(Notice::Gap(gap)) => self.take_gap(gap),
            Some(Notice::Session(session)) => {
                self.pending
                    .push_back(Ok(StreamItem::Session(Box::new(session))));
            }
            Some(Notice::Beat(beat)) => {
                self.advance(self.cursor_in_this_epoch(beat.position));
                self.pending.push_back(Ok(StreamItem::Beat(beat)));
            }
            Some(Notice::Bye(bye @ Bye { last_seq, .. })) => {
                self.advance(self.cursor_in_this_epoch(last_seq));
                self.pending.push_back(Ok(StreamItem::Bye(bye)));
                if is_final(bye.reason) {
                    self.connection = Connection::Over;
                }
            }
            Some(Notice::Filter(filter)) => {
                // The previous filter applied up to this seq.
                self.advance(self.cursor_in_this_epoch(filter.after));
                self.filtered = filter.category.is_some() || !filter.r#type.is_empty();
                self.pending.push_back(Ok(StreamItem::Filter(filter)));
            }
            Some(Notice::Epoch(epoch)) => {
                self.advance(Cursor {
                    seq: 0,
                    epoch: Some(epoch.epoch),
                });
                self.pending.push_back(Ok(StreamItem::Epoch(epoch)));
                if !epoch.complete {
                    self.pending.push_back(Ok(StreamItem::Lost(Loss {
                        lost: None,
                        seqs: None,
                        by_category: Default::default(),
                        cause: LossCause::OtherEpoch,
                    })));
                }
            }
            // A notice of a newer server.
            None => {}
        }
    }

    fn take_hello(&mut self, hello: Hello) {
        let used = Cursor {
            seq: hello.used,
            epoch: Some(hello.epoch),
        };
        self.filtered = self.options.is_filtered();
        let loss = self.loss_before(&hello);
        match self.position {
            Some(position) if same_epoch(position, used) => self.advance(used),
            _ => self.position = Some(used),
        }
        self.pending.push_back(Ok(StreamItem::Hello(hello)));
        self.pending
            .extend(loss.map(|loss| Ok(StreamItem::Lost(loss))));
    }

    /// The loss between the cursor that a connection was opened with and its `hello`.
    fn loss_before(&self, hello: &Hello) -> Option<Loss> {
        let cursor = match (self.position, &self.options.start) {
            (Some(position), _) => Some(position),
            (None, Start::After(cursor)) => Some(*cursor),
            // Only the server knows where a session starts.
            (None, _) => None,
        };
        let asked = cursor.map(|cursor| cursor.seq);
        let unknown = |cause| Loss {
            lost: None,
            seqs: None,
            by_category: Default::default(),
            cause,
        };
        // Within an epoch, a start after the cursor is a loss, whatever the reason is called.
        let passed_over = cursor
            .is_some_and(|cursor| cursor.epoch == Some(hello.epoch) && cursor.seq < hello.used);
        match hello.reason {
            HelloReason::Evicted if hello.lost != Some(0) => Some(Loss {
                lost: hello.lost,
                seqs: asked
                    .filter(|asked| *asked < hello.used)
                    .map(|asked| asked + 1..=hello.used),
                ..unknown(LossCause::Evicted)
            }),
            HelloReason::Fresh | HelloReason::Resumed if passed_over => Some(Loss {
                lost: asked
                    .filter(|_| !self.options.is_filtered())
                    .map(|asked| hello.used - asked),
                seqs: asked.map(|asked| asked + 1..=hello.used),
                ..unknown(LossCause::Evicted)
            }),
            HelloReason::Fresh | HelloReason::Resumed | HelloReason::Evicted => None,
            HelloReason::OtherEpoch => Some(unknown(LossCause::OtherEpoch)),
            HelloReason::Ahead => Some(unknown(LossCause::Ahead)),
            HelloReason::Invalid => Some(unknown(LossCause::Invalid)),
        }
    }

    fn take_gap(&mut self, gap: Gap) {
        self.advance(self.cursor_in_this_epoch(gap.to));
        // Events that were evicted but not asked for are not lost.
        if gap.matching == Some(0) {
            return;
        }
        self.pending.push_back(Ok(StreamItem::Lost(Loss {
            lost: gap.matching,
            seqs: Some(gap.from..=gap.to),
            by_category: gap.by_category,
            cause: LossCause::Overtaken,
        })));
    }

    /// Moves the position to `to`; never back within an epoch.
    fn advance(&mut self, to: Cursor) {
        match &mut self.position {
            Some(position) if same_epoch(*position, to) => position.seq = position.seq.max(to.seq),
            position => *position = Some(to),
        }
    }

    fn cursor_in_this_epoch(&self, seq: u64) -> Cursor {
        Cursor {
            seq,
            epoch: self.position.and_then(|it| it.epoch),
        }
    }

    /// The connection was lost or could not be opened: reconnects after a pause, or ends the stream.
    fn failed(&mut self, error: Error) {
        self.failures = self.failures.saturating_add(1);
        let reconnect = &self.options.reconnect;
        let given_up = reconnect.attempts.is_some_and(|most| most < self.failures);
        if !self.was_connected || !error.is_temporary() || given_up {
            return self.finish(error);
        }
        let after = match self.bye_retry.take() {
            Some(pause) => pause,
            None => reconnect.pause(self.retry, self.failures),
        };
        self.connection = Connection::Waiting(Box::pin(tokio::time::sleep(after)));
        self.pending
            .push_back(Ok(StreamItem::Reconnecting(Reconnecting {
                cause: error,
                attempt: self.failures,
                after,
            })));
    }

    fn finish(&mut self, error: Error) {
        self.connection = Connection::Over;
        self.pending.push_back(Err(error));
    }
}

/// Connects once. `resume` is the position that an earlier connection reached.
async fn open(
    http: &Http,
    options: &StreamOptions,
    resume: Option<Cursor>,
) -> Result<Incoming, Error> {
    let mut request = http.request(Method::GET, &stream_path(options, resume));
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some(resume) = resume {
        let value = HeaderValue::from_str(&resume.to_string());
        headers.insert("last-event-id", value.expect("digits and a hyphen"));
    }
    let response = http.send(request).await?;
    if response.status() != StatusCode::OK {
        return Err(http.refusal(response).await);
    }
    let media_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !media_type.starts_with("text/event-stream") {
        return Err(http.protocol(ProtocolError::MediaType(media_type.to_owned())));
    }
    Ok(response.into_body())
}

/// The path of the stream and its query.
fn stream_path(options: &StreamOptions, resume: Option<Cursor>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("notices", "true");
    // The header of a resumption wins over all of these; sending both would only confuse a log.
    match options.start {
        _ if resume.is_some() => {}
        Start::Session => {}
        Start::Oldest => {
            query.append_pair("replay", "all");
        }
        Start::Live => {
            query.append_pair("replay", "live");
        }
        Start::After(cursor) => {
            query.append_pair("after", &cursor.to_string());
        }
    }
    add_filter(&mut query, options.categories, &options.types);
    format!("/telemetry/stream?{}", query.finish())
}

/// Whether a `bye` with this reason ends the stream for good.
fn is_final(reason: ByeReason) -> bool {
    match reason {
        ByeReason::Expired | ByeReason::Overtaken | ByeReason::Complete => true,
        ByeReason::Shutdown
        | ByeReason::Restarted
        | ByeReason::Failed
        | ByeReason::Stalled
        | ByeReason::Other => false,
    }
}

impl Stream for Follower {
    type Item = Result<StreamItem, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("url", &self.http.base())
            .field("options", &self.options)
            .field("cursor", &self.cursor)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

enum Chunk {
    Bytes(Bytes),
    End(Option<hyper::Error>),
    Silence,
}

impl Reading {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Chunk> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => return Poll::Ready(Chunk::Bytes(bytes)),
                    // Trailers are ignored.
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Chunk::End(Some(error))),
                Poll::Ready(None) => return Poll::Ready(Chunk::End(None)),
                Poll::Pending => {
                    return self.silence.as_mut().poll(context).map(|()| Chunk::Silence);
                }
            }
        }
    }
}

/// Whether both cursors are known to be of one epoch. A cursor without an epoch never is.
fn same_epoch(a: Cursor, b: Cursor) -> bool {
    a.epoch.is_some() && a.epoch == b.epoch
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapline_oapi::{Category, CategorySet};

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
}
