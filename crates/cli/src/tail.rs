//! `tapline tail`: the events of a server, as they happen.

mod stored;

use std::io::{self, BufWriter, Stdout, Write};
use std::task::Poll;
use std::time::Duration;

use clap::ColorChoice;
use tapline_client::{Error, Follower, Start, StreamItem, StreamOptions, StreamedEvent};
use tapline_oapi::{ByeReason, SessionNotice};

use crate::args::{Replay, Tail};
use crate::failure::{Failure, chain};
use crate::line::{self, Palette, one_line_of_json};
use crate::session::captured;
use crate::signals;
use crate::token;
use stored::StoredCursor;

/// How often to check that standard output still has a reader, while there is nothing to write.
const READER_CHECK: Duration = Duration::from_secs(1);

/// Output is flushed, and the cursor stored, at least once in this many events.
const FLUSH_EVENTS: u32 = 256;

pub(crate) async fn run(args: Tail) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    let mut stored = args.resume.clone().map(StoredCursor::open).transpose()?;
    let resume = stored.as_ref().and_then(|stored| stored.cursor);
    let start = match (resume.or(args.after), args.replay) {
        (Some(cursor), _) => Start::After(cursor),
        (None, Some(Replay::All)) => Start::Oldest,
        (None, Some(Replay::Live)) => Start::Live,
        (None, None) => Start::Session,
    };
    let mut options = StreamOptions {
        start,
        categories: args.category.into_iter().collect(),
        types: args.types,
        ..StreamOptions::default()
    };
    options.reconnect.attempts = args.retries;

    let mut stream = client.follow(options);
    let mut view = View::new(args.json, args.color);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let stop = signals::stop_requested().map_err(Failure::Runtime)?;
    let mut stop = std::pin::pin!(stop);
    let mut reader_check = tokio::time::interval(READER_CHECK);
    let mut unflushed = 0;

    let ended = loop {
        if left == 0 {
            break Ok(());
        }
        // What is there already is taken without flushing. The cursor must not be stored with an item
        // in hand: that one would be behind it before it is out.
        if FLUSH_EVENTS <= unflushed {
            settle(&mut view, &mut stored, &stream)?;
            unflushed = 0;
        }
        let ready = poll_once(stream.next()).await;
        if ready.is_none() {
            settle(&mut view, &mut stored, &stream)?;
            unflushed = 0;
        }
        let item = match ready {
            Some(item) => item,
            None => tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                item = stream.next() => item,
                _ = reader_check.tick() => {
                    view.check_reader()?;
                    continue;
                }
            },
        };
        match item {
            Some(Ok(StreamItem::Event(event))) => {
                view.event(&event)?;
                left -= 1;
                unflushed += 1;
            }
            Some(Ok(item)) => view.notice(&item)?,
            Some(Err(error)) => break Err(error.into()),
            None => break Ok(()),
        }
    };
    settle(&mut view, &mut stored, &stream)?;
    ended
}

/// Puts out what was written, and only then stores that it is behind.
fn settle(
    view: &mut View,
    stored: &mut Option<StoredCursor>,
    stream: &Follower,
) -> Result<(), Failure> {
    view.flush()?;
    match stored {
        Some(stored) => stored.store(stream.cursor()),
        None => Ok(()),
    }
}

/// What a future gives when it is asked once.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

/// Events on standard output, everything else on standard error.
struct View {
    json: bool,
    out: BufWriter<Stdout>,
    out_palette: Palette,
    err_palette: Palette,
    /// Whether a first connection was made: only later ones are reported.
    was_connected: bool,
}

impl View {
    fn new(json: bool, color: ColorChoice) -> Self {
        Self {
            json,
            out_palette: palette(color, &io::stdout()),
            err_palette: palette(color, &io::stderr()),
            out: BufWriter::new(io::stdout()),
            was_connected: false,
        }
    }

    fn event(&mut self, event: &StreamedEvent) -> Result<(), Failure> {
        let written = if self.json {
            writeln!(self.out, "{}", one_line_of_json(event.json()))
        } else {
            line::write(&mut self.out, event, self.out_palette)
        };
        written.map_err(Failure::Output)
    }

    fn notice(&mut self, item: &StreamItem) -> Result<(), Failure> {
        let text = match item {
            StreamItem::Lost(loss) => {
                return self.say(self.err_palette.warning, &loss.to_string());
            }
            StreamItem::Hello(hello) => {
                let again = std::mem::replace(&mut self.was_connected, true);
                if !again {
                    return Ok(());
                }
                format!("reconnected after seq {} of {}", hello.used, hello.head)
            }
            StreamItem::Epoch(epoch) => format!(
                "that run of the server ended after seq {}; the next one follows from seq 1",
                epoch.last_seq
            ),
            StreamItem::Session(notice) if !self.json => session_text(notice),
            StreamItem::Reconnecting(attempt) => {
                let cause = match &attempt.cause {
                    // The address is known, and the attempts would repeat it.
                    Error::Disconnected { .. } => "the connection broke".to_owned(),
                    cause => chain(cause),
                };
                let after = attempt.after.as_secs_f32();
                format!("{cause}; attempt {} in {after:.1} s", attempt.attempt)
            }
            StreamItem::Bye(bye) => match bye.reason {
                ByeReason::Shutdown => "the server is stopping".to_owned(),
                _ => "the server ended the stream".to_owned(),
            },
            _ => return Ok(()),
        };
        self.say(self.err_palette.dim, &text)
    }

    /// Prints a line on standard error, after flushing standard output.
    fn say(&mut self, style: anstyle::Style, text: &str) -> Result<(), Failure> {
        self.flush()?;
        let text = line::printable(text);
        let _ = writeln!(io::stderr(), "{style}{text}{style:#}");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }

    /// Fails if standard output is a pipe whose reader is gone. Writing would fail too, but on a quiet
    /// stream there may be nothing to write for a long time.
    fn check_reader(&self) -> Result<(), Failure> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let out = io::stdout();
        let mut polled = [PollFd::new(&out, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut polled, Some(&now)) {
            Ok(_) if polled[0].revents().contains(PollFlags::ERR) => {
                Err(Failure::Output(io::ErrorKind::BrokenPipe.into()))
            }
            _ => Ok(()),
        }
    }
}

fn palette(color: ColorChoice, stream: &impl anstream::stream::RawStream) -> Palette {
    let colored = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
    };
    if colored {
        Palette::COLORED
    } else {
        Palette::PLAIN
    }
}

fn session_text(notice: &SessionNotice) -> String {
    let (state, first) = (&notice.state, notice.after + 1);
    let Some(id) = &state.session_id else {
        return format!("no session from seq {first} on");
    };
    let captured = captured(state.config.browser.enabled());
    format!("session {id} from seq {first} on captures {captured}")
}
