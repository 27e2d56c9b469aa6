//! `tapline publish`: one event from flags, or many from a file.

mod batches;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use tapline_client::Client;
use tapline_oapi::{BatchResult, PublishRequest, Source};
use tokio::io::AsyncRead;

use crate::args::Publish;
use crate::failure::{Failure, say};
use crate::line::printable;
use crate::output::print;
use crate::session::captured;
use crate::token;
use batches::{Batch, Batches};

pub(crate) async fn run(args: Publish) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    match &args.file {
        Some(path) => publish_file(&client, path, &args).await,
        None => publish_one(&client, args).await,
    }
}

async fn publish_one(client: &Client, args: Publish) -> Result<(), Failure> {
    let data = args.data.map(parse_data).transpose()?;
    let request = PublishRequest {
        ts: args.ts,
        event_type: args.event_type.unwrap_or_default(),
        category: args.category,
        source: Some(Source {
            kind: args.source_kind.into(),
            event: args.source_event,
            metadata: args.meta.into_iter().collect(),
        }),
        data,
        truncated: false,
    };
    match client.publish(&request).await? {
        Some(envelope) => {
            let json = serde_json::to_string(&envelope).expect("it was read from JSON");
            print(&format!("{json}\n"))
        }
        None => {
            say(&format!("filtered: {}", why_filtered(client).await?));
            Ok(())
        }
    }
}

/// Why the server does not capture something now.
async fn why_filtered(client: &Client) -> Result<String, Failure> {
    let state = client.state().await?;
    Ok(match state.filter(|state| state.session_id.is_some()) {
        None => "no session is running, so nothing is captured; start one with `tapline start`"
            .to_owned(),
        Some(state) => format!(
            "the session captures {} now; `tapline start` changes that",
            captured(state.config.browser.enabled())
        ),
    })
}

/// Checks that the value of `--data` is JSON. An error names the place and shows an example.
fn parse_data(data: String) -> Result<Box<RawValue>, Failure> {
    /// How much of the data an error repeats, in characters.
    const SHOWN: usize = 20;
    let Err(error) = serde_json::from_str::<&RawValue>(&data) else {
        return Ok(RawValue::from_string(data).expect("it is JSON"));
    };
    let column = error.column();
    let line = data.split('\n').nth(error.line().saturating_sub(1));
    let rest = line.and_then(|line| line.get(column.checked_sub(1)?..));
    let what = match rest {
        _ if error.is_eof() => "it ends too early".to_owned(),
        Some(rest) if !rest.is_empty() => {
            let shown: String = rest.chars().take(SHOWN).collect();
            format!("unexpected `{}`", printable(&shown))
        }
        _ => "unexpected character".to_owned(),
    };
    let place = match error.line() {
        0 | 1 => format!("column {column}"),
        line => format!("line {line}, column {column}"),
    };
    Err(Failure::Usage(format!(
        "--data is not valid JSON: {what} at {place}; write for example \
         --data '{{\"total\":12.5}}', or --data '\"text\"' for a string"
    )))
}

async fn publish_file(client: &Client, path: &Path, args: &Publish) -> Result<(), Failure> {
    let (input, what, length): (Box<dyn AsyncRead + Unpin>, _, _) = if path == Path::new("-") {
        (
            Box::new(tokio::io::stdin()),
            "standard input".to_owned(),
            None,
        )
    } else {
        let what = path.display().to_string();
        let unreadable = |source| Failure::Read {
            what: what.clone(),
            source,
        };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let length = file.metadata().await.map_err(unreadable)?.len();
        (Box::new(file), what, Some(length))
    };

    let mut batches = Batches::new(input, args.batch_lines, args.batch_bytes);
    let mut progress = Progress::new(length);
    let mut totals = Totals::default();
    let sent = loop {
        match batches.next().await {
            Ok(Some(Batch::Lines {
                first,
                count,
                bytes,
            })) => {
                let size = bytes.len();
                match client.publish_ndjson(bytes).await {
                    Ok(result) => {
                        progress.suspended(|| report_refused(&result, first, count));
                        totals.add(&result);
                    }
                    Err(source) => {
                        let to = first + count - 1;
                        break Err(Failure::Batch {
                            from: first,
                            to,
                            source,
                        });
                    }
                }
                progress.advance(size, &totals);
            }
            Ok(Some(Batch::TooLong { line, limit })) => {
                progress.suspended(|| say(&format!("line {line}: longer than {limit} bytes")));
                totals.refused += 1;
            }
            Ok(None) => break Ok(()),
            Err(source) => {
                break Err(Failure::Read {
                    what: what.clone(),
                    source,
                });
            }
        }
    };
    progress.clear();
    // The totals are printed also after a failure.
    if sent.is_ok() || 0 < totals.published {
        print(&format!("{totals}\n"))?;
    }
    sent?;
    if 0 < totals.filtered {
        say(&format!(
            "{} filtered: {}",
            totals.filtered,
            why_filtered(client).await?
        ));
    }
    match totals.refused {
        0 => Ok(()),
        refused => Err(Failure::Refused(refused)),
    }
}

/// Reports which lines of the input were refused. The server counts from the start of the batch.
fn report_refused(result: &BatchResult, first: u64, count: u64) {
    for error in &result.errors {
        let line = first + error.line.saturating_sub(1);
        say(&format!("line {line}: {} ({})", error.message, error.code));
    }
    let more = result.refused.saturating_sub(result.errors.len() as u64);
    if 0 < more {
        let last = first + count - 1;
        say(&format!(
            "{more} more of lines {first} to {last} were refused"
        ));
    }
}

#[derive(Debug, Default)]
struct Totals {
    published: u64,
    filtered: u64,
    refused: u64,
    seqs: Option<(u64, u64)>,
}

impl Totals {
    fn add(&mut self, result: &BatchResult) {
        self.published += result.published;
        self.filtered += result.filtered;
        self.refused += result.refused;
        if let (Some(first), Some(last)) = (result.first_seq, result.last_seq) {
            self.seqs = Some((self.seqs.map_or(first, |(first, _)| first), last));
        }
    }
}

/// `published 313 (seq 1 to 313), filtered 0, refused 0`
impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "published {}", self.published)?;
        if let Some((first, last)) = self.seqs {
            write!(f, " (seq {first} to {last})")?;
        }
        write!(f, ", filtered {}, refused {}", self.filtered, self.refused)
    }
}

/// A progress bar on a terminal, shown once publishing has taken a while.
struct Progress {
    started: Instant,
    length: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    const A_WHILE: Duration = Duration::from_millis(500);

    fn new(length: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            length,
            done: 0,
            bar: None,
        }
    }

    fn advance(&mut self, bytes: usize, totals: &Totals) {
        self.done += bytes as u64;
        if self.bar.is_none()
            && Self::A_WHILE < self.started.elapsed()
            && io::stderr().is_terminal()
        {
            self.bar = Some(bar(self.length));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(totals.to_string());
        }
    }

    /// Says something on standard error without the bar in its way.
    fn suspended(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:30} {bytes}/{total_bytes} ({eta})  {msg}",
        ),
        None => (ProgressBar::no_length(), "{spinner} {bytes}  {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a constant that was tried"))
}
