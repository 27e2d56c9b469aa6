//! `tapline top`: what a server does, in a terminal that is redrawn.

mod numbers;
mod screen;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tapline_client::{Client, Error as ClientError};
use tokio::sync::mpsc::{self, Receiver};

use crate::args::look::Top;
use crate::failure::Failure;
use crate::output::print;
use crate::signals;
use crate::token;
use numbers::Numbers;
use screen::Screen;

/// The size of a frame that is printed, where `COLUMNS` does not say otherwise. It is as high as its content.
const COLUMNS: u16 = 100;

pub(crate) async fn run(args: Top) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    if !args.once && !io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "standard output is no terminal: --once prints one frame, and `tapline status --json` what programs need"
                .to_owned(),
        ));
    }
    // Before the screen changes: an error stays readable.
    let first = Numbers::read(&client).await?;
    let mut screen = Screen::new(client.url());
    screen.take(Ok(first));
    if args.once {
        let columns = std::env::var("COLUMNS").ok().and_then(|it| it.parse().ok());
        return print(&screen.text(columns.unwrap_or(COLUMNS)));
    }
    let stop = signals::stop_requested().map_err(Failure::Terminal)?;
    // It also restores the terminal if the program panics.
    let mut terminal = ratatui::try_init().map_err(Failure::Terminal)?;
    let done = tokio::select! {
        done = follow(&mut terminal, &mut screen, &client, args.interval) => done,
        () = stop => Ok(()),
    };
    ratatui::try_restore().and(done).map_err(Failure::Terminal)
}

/// Redraws with new numbers and after keys, until the user leaves.
async fn follow(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    client: &Client,
    interval: Duration,
) -> io::Result<()> {
    let (mut numbers, mut events) = (polled(client.clone(), interval), typed());
    loop {
        terminal.draw(|frame| screen.draw(frame.area(), frame.buffer_mut()))?;
        tokio::select! {
            Some(numbers) = numbers.recv() => screen.take(numbers),
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                    let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('c') if is_interrupt => return Ok(()),
                        KeyCode::Char('q') => return Ok(()),
                        KeyCode::Char(key) => screen.press(key),
                        KeyCode::Esc => screen.press('\u{1b}'),
                        _ => {}
                    }
                }
                // Its size changed, at most.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

/// The numbers, again and again. They are not asked for faster than they are taken.
fn polled(client: Client, interval: Duration) -> Receiver<Result<Numbers, ClientError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let numbers = Numbers::read(&client).await;
            if sender.send(numbers).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// What is typed. It is read on a thread, which ends with the process: a blocked read cannot be interrupted.
fn typed() -> Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let is_end = event.is_err();
            if sender.blocking_send(event).is_err() || is_end {
                return;
            }
        }
    });
    receiver
}
