//! `tapline replay`: publishes or prints the events of a recording.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use tapline_cdp::{Options, Recording};
use tapline_oapi::Event;
use tokio::runtime::Handle;

use crate::args;
use crate::failure::{Failure, chain, say};
use crate::player::{Player, play};
use crate::serve::{self, Setup};

pub(crate) async fn run(args: args::Recording) -> Result<(), Failure> {
    let (file, pace) = (args.file, args.speed);
    let (options, redaction) = args.redaction.options()?;
    // Fails before the server starts, if the file cannot be read.
    let first = events(&file, options.clone())?;
    if args.print {
        return print(first, pace).await;
    }
    drop(first);
    let what = file.display().to_string();
    let again = move || {
        let opened = events(&file, options.clone());
        opened
            .map_err(|failure| say(&chain(&failure)))
            .into_iter()
            .flatten()
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

/// The events of the recording. Ends at a line that cannot be read, and reports it.
fn events(
    path: &Path,
    options: Options,
) -> Result<impl Iterator<Item = Event> + Send + use<>, Failure> {
    let what = path.display().to_string();
    let file = File::open(path).map_err(|source| Failure::Read {
        what: what.clone(),
        source,
    })?;
    let recording = Recording::new(BufReader::new(file), options);
    Ok(recording.map_while(move |event| {
        event
            .map_err(|error| say(&format!("{what}: {}", chain(&error))))
            .ok()
    }))
}

/// One event a line, as `tapline publish --file -` takes them.
async fn print(
    events: impl Iterator<Item = Event>,
    pace: crate::player::Pace,
) -> Result<(), Failure> {
    let mut out = io::stdout();
    let mut failed = None;
    play(events, pace, |event| {
        if failed.is_none() {
            let line = serde_json::to_string(&event).expect("an event always serializes");
            failed = writeln!(out, "{line}").err();
        }
    })
    .await;
    failed.map_or(Ok(()), |error| Err(Failure::Output(error)))
}
