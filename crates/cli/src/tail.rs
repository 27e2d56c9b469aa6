//! `tapline tail`: the events of a server, as they happen.

mod grep;
mod recent;
mod stored;

use std::io::{self, BufWriter, Stdout, Write};
use std::task::Poll;
use std::time::Duration;

use clap::ColorChoice;
use tapline_api::parse_moment;
use tapline_client::{Cursor, Error, Start, StreamItem, StreamOptions, StreamedEvent};
use tapline_insight::summary;
use tapline_oapi::{ByeReason, CategorySet, Envelope, SessionNotice};

use crate::args::{Replay, Tail};
use crate::failure::{Failure, chain};
use crate::figures::{Clock, counted};
use crate::line::{self, Lines, Palette, one_line_of_json};
use crate::session::captured;
use crate::signals;
use crate::template::Template;
use crate::token;
use grep::Grep;
use stored::StoredCursor;

/// How often to check that standard output still has a reader, while there is nothing to write.
const READER_CHECK: Duration = Duration::from_secs(1);

/// Output is flushed, and the cursor stored, at least once in this many events.
const FLUSH_EVENTS: u32 = 256;

pub(crate) async fn run(args: Tail) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    let mut stored = args.resume.clone().map(StoredCursor::open).transpose()?;
    let resume = stored.as_ref().and_then(|stored| stored.cursor);
    let mut view = View::new(&args);
    let selection = Selection {
        categories: args.category.into_iter().collect(),
        types: args.types,
        grep: args.grep.map(Grep::new),
        problems: args.problems,
    };
    let mut recent = None;
    let start = match (resume.or(args.after), args.replay, &args.since) {
        (Some(cursor), ..) => Start::After(cursor),
        (None, Some(Replay::All), _) => Start::Oldest,
        (None, Some(Replay::Live), _) => Start::Live,
        (None, None, since) => {
            let read = match since {
                Some(since) => {
                    // Here it can be said which flag is wrong.
                    parse_moment("--since", since)
                        .map_err(|error| Failure::Usage(error.to_string()))?;
                    recent::since(&client, &selection, since).await?
                }
                None => recent::last(&client, &selection, args.last).await?,
            };
            let end = read.end;
            recent = Some(read);
            Start::After(end)
        }
    };
    let mut options = StreamOptions {
        start,
        categories: selection.categories,
        types: selection.types.clone(),
        ..StreamOptions::default()
    };
    options.reconnect.attempts = args.retries;

    let mut stream = client.follow(options);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let stop = signals::stop_requested().map_err(Failure::Runtime)?;
    let mut stop = std::pin::pin!(stop);

    // Connected before anything is printed: from here on, what follows is not missed, and a server that goes away is
    // waited for.
    let mut first = tokio::select! {
        biased;
        () = &mut stop => return Ok(()),
        item = stream.next() => item,
    };
    if let (Some(recent), Some(Ok(_))) = (recent, &first) {
        view.missing_before(recent.lost)?;
        for (epoch, envelope) in recent.events {
            view.envelope(&envelope)?;
            left -= 1;
            if left == 0 {
                let cursor = Cursor {
                    seq: envelope.seq,
                    epoch: Some(epoch),
                };
                return settle(&mut view, &mut stored, Some(cursor));
            }
        }
    }
    let mut reader_check = tokio::time::interval(READER_CHECK);
    let mut unflushed = 0;

    let ended = loop {
        if left == 0 {
            break Ok(());
        }
        // What is there already is taken without flushing. The cursor must not be stored with an item
        // in hand: that one would be behind it before it is out.
        if FLUSH_EVENTS <= unflushed {
            settle(&mut view, &mut stored, stream.cursor())?;
            unflushed = 0;
        }
        let ready = match first.take() {
            Some(item) => Some(Some(item)),
            None => poll_once(stream.next()).await,
        };
        if ready.is_none() {
            settle(&mut view, &mut stored, stream.cursor())?;
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
                if view.event(&event, &selection)? {
                    left -= 1;
                }
                unflushed += 1;
            }
            Some(Ok(item)) => view.notice(&item)?,
            Some(Err(error)) => break Err(error.into()),
            None => break Ok(()),
        }
    };
    settle(&mut view, &mut stored, stream.cursor())?;
    ended
}

/// Which events are shown.
struct Selection {
    categories: CategorySet,
    types: Vec<String>,
    grep: Option<Grep>,
    problems: bool,
}

impl Selection {
    /// Whether an event that the server has chosen by category and type is one of them.
    fn has(&self, envelope: &Envelope) -> bool {
        (!self.problems || summary(&envelope.event).is_error)
            && self
                .grep
                .as_ref()
                .is_none_or(|grep| grep.is_in(&envelope.event))
    }
}

/// Puts out what was written, and only then stores that it is behind.
fn settle(
    view: &mut View,
    stored: &mut Option<StoredCursor>,
    cursor: Option<Cursor>,
) -> Result<(), Failure> {
    view.flush()?;
    match stored {
        Some(stored) => stored.store(cursor),
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
    template: Option<Template>,
    out: BufWriter<Stdout>,
    lines: Lines,
    err_palette: Palette,
    /// Whether a first connection was made: only later ones are reported.
    was_connected: bool,
}

impl View {
    fn new(args: &Tail) -> Self {
        Self {
            json: args.json,
            template: args.format.clone(),
            lines: Lines::new(
                palette(args.color, &io::stdout()),
                Clock::new(args.utc),
                args.relative,
            ),
            err_palette: palette(args.color, &io::stderr()),
            out: BufWriter::new(io::stdout()),
            was_connected: false,
        }
    }

    /// Shows an event of the stream, if it is selected. What a newer server sends and cannot be understood is shown.
    fn event(&mut self, event: &StreamedEvent, selection: &Selection) -> Result<bool, Failure> {
        let Ok(envelope) = event.envelope() else {
            let written = match self.json {
                true => writeln!(self.out, "{}", one_line_of_json(event.json())),
                false => self.lines.write_raw(&mut self.out, event),
            };
            return written.map(|()| true).map_err(Failure::Output);
        };
        if !selection.has(&envelope) {
            return Ok(false);
        }
        if self.json {
            // As it was received, byte for byte.
            let written = writeln!(self.out, "{}", one_line_of_json(event.json()));
            written.map_err(Failure::Output)?;
        } else {
            self.envelope(&envelope)?;
        }
        Ok(true)
    }

    fn envelope(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        let written = match (&self.template, self.json) {
            (_, true) => {
                let json = serde_json::to_string(envelope).expect("an envelope always serializes");
                writeln!(self.out, "{}", one_line_of_json(&json))
            }
            (Some(template), _) => {
                writeln!(self.out, "{}", template.fill(envelope, self.lines.clock()))
            }
            (None, _) => self.lines.write(&mut self.out, envelope),
        };
        written.map_err(Failure::Output)
    }

    /// Events of the time that was asked for are gone.
    fn missing_before(&mut self, lost: u64) -> Result<(), Failure> {
        match lost {
            0 => Ok(()),
            _ => self.say(
                self.err_palette.warning,
                &format!(
                    "not retained any more: at most {} of this time",
                    counted(lost, "event")
                ),
            ),
        }
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
