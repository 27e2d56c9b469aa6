//! `tapline replay`: publishes or prints the events of a recording.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use tapline_cdp::{Options, Recording};
use tapline_oapi::Event;
use tokio::runtime::Handle;

use crate::args;
use crate::failure::{Failure, chain, say};
use crate::player::{Pace, Player, play};
use crate::serve::{self, Setup};

pub(crate) async fn run(args: args::Recording) -> Result<(), Failure> {
    let (file, pace) = (args.file, args.speed);
    let (options, redaction) = args.redaction.options()?;
    let mut first = events(&file, options.clone())?;
    if args.print {
        return print(first, pace).await;
    }
    // A file that is no recording ends the program here, and does not start a server without events.
    first.next().transpose()?;
    drop(first);
    let what = file.display().to_string();
    let again = move || {
        let opened = events(&file, options.clone());
        let opened = opened.inspect_err(report).into_iter().flatten();
        opened.map_while(|event| event.inspect_err(report).ok())
    };
    let player = Player::new(again, pace, None, Handle::current());
    let setup = Setup {
        redaction,
        ..Setup::started(player)
    };
    serve::serve(args.server, setup, |_| {
        format!("replaying {what} once; serving until stopped\n")
    })
    .await
}

fn report(failure: &Failure) {
    say(&chain(failure));
}

/// The events of the recording, up to a line that cannot be read.
fn events(
    path: &Path,
    options: Options,
) -> Result<impl Iterator<Item = Result<Event, Failure>> + Send + use<>, Failure> {
    let what = path.display().to_string();
    let file = File::open(path).map_err(|source| Failure::Read {
        what: what.clone(),
        source,
    })?;
    let recording = Recording::new(BufReader::new(file), options);
    Ok(recording.map(move |event| {
        event.map_err(|source| Failure::Recording {
            what: what.clone(),
            source,
        })
    }))
}

/// One event a line, as `tapline publish --file -` takes them.
async fn print(
    events: impl Iterator<Item = Result<Event, Failure>>,
    pace: Pace,
) -> Result<(), Failure> {
    let mut out = io::stdout();
    let (mut unwritten, mut unread) = (None, None);
    let readable = events.map_while(|event| event.map_err(|failure| unread = Some(failure)).ok());
    play(readable, pace, |due| {
        for event in due {
            if unwritten.is_none() {
                let line = serde_json::to_string(&event).expect("an event always serializes");
                unwritten = writeln!(out, "{line}").err();
            }
        }
    })
    .await;
    match (unwritten, unread) {
        (Some(error), _) => Err(Failure::Output(error)),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(()),
    }
}
