//! A live stream: from a reader's position straight into a response body.
//!
//! The connection asks for the next piece when it can write. One piece is everything new, up to a
//! bound. So a peer that does not read stops being asked for, and its reader falls behind in the
//! ring: nothing is queued for it here.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use serde::Serialize;
use tapline_api::{ApiService, StreamQuery, Subscription};
use tapline_events::{Counts, Cursor, Item, Lost};
use tapline_oapi::{Beat, Bye, ByeReason, Gap, Hello, HelloReason, Notice, SessionNotice};
use tapline_telemetry::{Reader, SessionState};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::serve::App;

/// How much goes into one piece: a bound on what a connection holds, and on how long others wait.
const PIECE_BYTES: usize = 64 * 1024;
const PIECE_EVENTS: usize = 256;

/// How many pieces that came to nothing, since all was filtered, are looked through before other
/// tasks have a turn.
const TURNS: usize = 16;

/// The body of one stream.
pub(crate) struct EventBody {
    api: Arc<ApiService>,
    reader: Reader,
    /// What is to be sent next.
    out: String,
    /// Whether the reader wants to be told about the stream itself, in named events.
    notices: bool,
    /// The state that the reader was told last.
    told: Option<SessionState>,
    beat: Duration,
    /// When the next beat is due, or when silence will have lasted that long.
    tick: Pin<Box<Sleep>>,
    wrote_at: Instant,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Where the stream ends, once that is known.
    end_at: Option<u64>,
    ended: bool,
}

impl EventBody {
    pub(crate) fn new(app: &App, query: &StreamQuery) -> Self {
        let Subscription {
            reader,
            hello,
            evicted,
        } = app.api.subscribe(query);
        let now = Instant::now();
        let mut body = Self {
            api: app.api.clone(),
            reader,
            out: String::new(),
            notices: query.notices,
            told: None,
            beat: app.options.beat,
            tick: Box::pin(tokio::time::sleep_until(now + app.options.beat)),
            wrote_at: now,
            stopping: Box::pin(app.stopping.clone().cancelled_owned()),
            end_at: None,
            ended: false,
        };
        body.write_hello(hello, evicted);
        body
    }

    /// Writes what there is to read now, up to a piece, and what happened to the session meanwhile.
    fn write_events(&mut self) {
        let Self {
            api,
            reader,
            out,
            notices,
            told,
            ..
        } = self;
        let epoch = notices.then(|| api.session().stream().epoch());
        reader.read(PIECE_EVENTS, |item| {
            match item {
                Item::Lost(lost) => write_lost(out, *notices, &lost),
                Item::Envelope(envelope) => {
                    if *notices {
                        write_session(out, api, told, envelope.mark());
                    }
                    let seq = envelope.seq();
                    write_envelope(out, Cursor { seq, epoch }, envelope.json());
                }
            }
            if out.len() < PIECE_BYTES {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
    }

    /// Where the reader has caught up: tells the state if it changed since the last event.
    fn write_state(&mut self) {
        if !self.notices {
            return;
        }
        let (state, head) = self.api.session().snapshot();
        if head == self.reader.position() {
            write_session(&mut self.out, &self.api, &mut self.told, &state);
        }
    }

    /// Whether there is anything to tell that is not told yet; wakes `cx` when there may be.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            reader,
            notices,
            told,
            ..
        } = self;
        reader.poll_until(cx, |state, _| {
            *notices && !told.as_ref().is_some_and(|told| told.is_same(state))
        })
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.tick.as_mut().poll(cx).is_ready() {
            // A plain reader is told only where nothing else was written for that long.
            let due = if self.notices {
                self.tick.deadline()
            } else {
                self.wrote_at + self.beat
            };
            let now = Instant::now();
            if due <= now {
                self.tick.as_mut().reset(now + self.beat);
                return Poll::Ready(());
            }
            self.tick.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn write_tick(&mut self) {
        if self.notices {
            let (head, position) = (self.api.session().seq(), self.reader.position());
            let beat = Beat {
                head,
                position,
                lag: head.saturating_sub(position),
                lost: self.reader.ledger().lost,
            };
            write_notice(&mut self.out, &Notice::Beat(beat));
        } else {
            self.out.push_str(": keep-alive\n\n");
        }
    }

    fn write_hello(&mut self, hello: Hello, evicted: u64) {
        if self.notices {
            write_notice(&mut self.out, &Notice::Hello(hello));
            return;
        }
        let why = match hello.reason {
            HelloReason::Fresh | HelloReason::Resumed => return,
            HelloReason::Evicted => {
                let at_most = if hello.lost.is_none() { "at most " } else { "" };
                let (first, last) = (hello.used - evicted + 1, hello.used);
                let _ = write!(
                    self.out,
                    ": gap: {at_most}{evicted} lost before this stream began, seq {first} to {last}\n\n"
                );
                return;
            }
            HelloReason::Ahead => "is ahead of the newest event",
            HelloReason::OtherEpoch => "is from before a restart",
            HelloReason::Invalid => "cannot be read",
        };
        let _ = write!(
            self.out,
            ": the cursor {why}: reading goes on at the oldest event retained, seq {}\n\n",
            hello.used + 1
        );
    }

    fn write_bye(&mut self) {
        let last_seq = self.reader.position();
        if self.notices {
            let bye = Notice::Bye(Bye {
                reason: ByeReason::Shutdown,
                last_seq,
            });
            // Each client is sent away for a time of its own, so that they do not all come back at
            // once. Without randomness they do.
            let spread = u64::from(getrandom::u32().unwrap_or(0)) % 4000;
            let _ = writeln!(self.out, "retry: {}", 1000 + spread);
            write_notice(&mut self.out, &bye);
        } else {
            let _ = write!(
                self.out,
                ": bye: the server stops, the last seq was {last_seq}\n\n"
            );
        }
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.end_at.is_none() && this.stopping.as_mut().poll(cx).is_ready() {
            this.end_at = Some(this.api.session().seq());
        }
        for _ in 0..TURNS {
            if this.poll_tick(cx).is_ready() {
                this.write_tick();
            }
            this.write_events();
            this.write_state();
            if this
                .end_at
                .is_some_and(|end_at| end_at <= this.reader.position())
            {
                this.write_bye();
                this.ended = true;
            }
            if !this.out.is_empty() {
                this.wrote_at = Instant::now();
                let piece = std::mem::take(&mut this.out);
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
            // What was read was all filtered, or there is nothing: what wakes us may not be for us.
            if this.poll_news(cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Tells that another state holds, unless the reader knows.
fn write_session(
    out: &mut String,
    api: &ApiService,
    told: &mut Option<SessionState>,
    state: &SessionState,
) {
    if told.as_ref().is_some_and(|told| told.is_same(state)) {
        return;
    }
    *told = Some(state.clone());
    let head = api.session().seq();
    let notice = SessionNotice {
        state: api.describe(state, head),
        after: state.since(),
    };
    write_notice(out, &Notice::Session(notice));
}

fn write_lost(out: &mut String, notices: bool, lost: &Lost) {
    if notices {
        let by_category = lost
            .by_category
            .as_ref()
            .map(Counts::iter)
            .into_iter()
            .flatten()
            .collect();
        let gap = Gap {
            count: lost.count(),
            matching: lost.matching,
            from: lost.first,
            to: lost.last,
            by_category,
        };
        write_notice(out, &Notice::Gap(gap));
        return;
    }
    out.push_str(": gap: ");
    let _ = match lost.matching {
        Some(matching) => write!(out, "{matching} lost"),
        None => write!(
            out,
            "at most {} lost",
            lost.by_category.map_or(lost.count(), |c| c.sum())
        ),
    };
    let _ = write!(out, ", seq {} to {}", lost.first, lost.last);
    for (n, (category, count)) in lost.by_category.iter().flat_map(Counts::iter).enumerate() {
        let _ = write!(out, "{} {category} {count}", if n == 0 { ":" } else { "," });
    }
    out.push_str("\n\n");
}

fn write_notice(out: &mut String, notice: &Notice) {
    let _ = writeln!(out, "event: {}", notice.name());
    write_data(out, &to_json(notice));
}

fn write_envelope(out: &mut String, id: Cursor, json: &str) {
    out.reserve(json.len() + 64);
    let _ = writeln!(out, "id: {id}");
    write_data(out, json);
}

/// The `data` of a frame, and its end.
///
/// JSON may have line breaks between its tokens where the producer wrote them. In a frame a line
/// break starts another field, so each line gets a `data:` of its own; the receiver puts them
/// together again with `\n`.
fn write_data(out: &mut String, json: &str) {
    let mut rest = json;
    while let Some(at) = rest.find(['\n', '\r']) {
        let _ = writeln!(out, "data: {}", &rest[..at]);
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + 1
        };
        rest = &rest[end..];
    }
    let _ = write!(out, "data: {rest}\n\n");
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types serialize")
}
