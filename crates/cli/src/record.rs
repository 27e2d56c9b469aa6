//! `tapline record`: writes a browser's DevTools messages to a file.

use std::io::{self, BufWriter};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tapline_cdp::{Recorded, SourceOptions, record};

use crate::args::Record;
use crate::failure::{Failure, say};
use crate::figures::counted;
use crate::{files, serve, signals};

pub(crate) async fn run(args: Record) -> Result<(), Failure> {
    serve::start_log(&args.log)?;
    let what = args.out.display().to_string();
    let unwritable = |source| Failure::Write {
        what: what.clone(),
        source,
    };
    let file = files::create_private(&args.out).map_err(unwritable)?;
    let stop = signals::stop_requested().map_err(Failure::Runtime)?;
    let options = SourceOptions {
        retries: args.retries.cdp_retries,
        ..SourceOptions::new(args.cdp)
    };
    let bar = progress_bar();
    let show_progress = |recorded: Recorded| {
        bar.set_message(describe(recorded));
    };
    let recorded = record(&options, BufWriter::new(file), stop, show_progress).await;
    bar.finish_and_clear();
    let recorded = recorded.map_err(unwritable)?;
    say(&format!("{what}: {}", describe(recorded)));
    Ok(())
}

fn describe(recorded: Recorded) -> String {
    let Recorded { messages, bytes } = recorded;
    format!("{}, {} KiB", counted(messages, "message"), bytes / 1024)
}

/// Shown where standard error is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("recording {elapsed}: {msg}; Ctrl-C ends it")
            .expect("the template is well-formed"),
    );
    if io::IsTerminal::is_terminal(&io::stderr()) {
        bar.enable_steady_tick(Duration::from_millis(250));
    } else {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}
