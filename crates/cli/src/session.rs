//! `tapline status`, `start`, `stop` and `wait`: the session of a server.

use std::process::ExitCode;

use tapline_client::{Client, WaitOptions};
use tapline_oapi::{
    BrowserConfig, Category, CategorySet, ConfigRequest, ReaderInfo, ReaderKind, SinkInfo, State,
};

use crate::args::session::{Start, Status, Stop, Wait};
use crate::failure::{Failure, say};
use crate::figures::counted;
use crate::line::{one_line_of_json, printable};
use crate::output::print;
use crate::token;

/// The exit code of a wait that ended without an event.
const TIMED_OUT: u8 = 3;

pub(crate) async fn status(args: Status) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    if !args.json {
        return print(&status_text(&client).await?);
    }
    let state = client.state().await?;
    let (readers, sinks) = (client.readers().await?, client.sinks().await?);
    let all = serde_json::json!({
        "url": client.url(),
        "state": state,
        "readers": readers,
        "sinks": sinks,
    });
    print(&format!("{all}\n"))
}

/// The session, the sinks and the readers, in lines.
pub(crate) async fn status_text(client: &Client) -> Result<String, Failure> {
    let state = client.state().await?;
    let (readers, sinks) = (client.readers().await?, client.sinks().await?);
    let mut text = format!("server    {}, epoch {}\n", client.url(), sinks.epoch);
    text.push_str(&format!("session   {}\n", described(state.as_ref())));
    text.push_str(&format!("events    the newest is seq {}\n", sinks.head));
    text.push_str(&listed("sinks", sinks.sinks.iter().map(sink_line)));
    text.push_str(&listed("readers", readers.readers.iter().map(reader_line)));
    Ok(text)
}

pub(crate) async fn start(args: Start) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    let categories = args.category.into_iter().collect();
    print(&start_text(&client, categories).await?)
}

/// Starts a session with these categories, or with all if there are none, and describes it.
pub(crate) async fn start_text(
    client: &Client,
    categories: CategorySet,
) -> Result<String, Failure> {
    let config = ConfigRequest {
        browser: (!categories.is_empty()).then(|| BrowserConfig::of(categories)),
        ..ConfigRequest::default()
    };
    // A category that is always captured alone would end the session.
    if !categories.is_empty() && categories.intersection(CategorySet::USER_FACING).is_empty() {
        return Err(Failure::Usage(
            "--category: system and monitor are captured in every session; name another one as well"
                .to_owned(),
        ));
    }
    let state = client.start(&config).await?;
    Ok(format!("session {}\n", described(Some(&state))))
}

pub(crate) async fn stop(args: Stop) -> Result<(), Failure> {
    let client = token::client(&args.remote)?;
    print(&stop_text(&client).await?)
}

/// Stops the session, and says so.
pub(crate) async fn stop_text(client: &Client) -> Result<String, Failure> {
    let running = client.state().await?.and_then(|state| state.session_id);
    Ok(match (client.stop().await?, running) {
        (Some(state), Some(id)) => format!("session {id} stopped at seq {}\n", state.seq),
        (Some(state), None) => format!("the session stopped at seq {}\n", state.seq),
        (None, _) => "no session was running\n".to_owned(),
    })
}

pub(crate) async fn wait(args: Wait) -> Result<ExitCode, Failure> {
    let client = token::client(&args.remote)?;
    let options = WaitOptions {
        after: args.after,
        categories: args.category.into_iter().collect(),
        types: args.types,
        timeout: args.timeout,
    };
    let waited = waited(&client, options).await?;
    if 0 < waited.lost {
        say(&format!(
            "evicted before they could be checked: {} that may have matched",
            counted(waited.lost, "event")
        ));
    }
    match waited.envelope {
        Some(envelope) => {
            let json = serde_json::to_string(&envelope).expect("an envelope always serializes");
            print(&format!("{}\n", one_line_of_json(&json)))?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            say(&format!(
                "no such event within {:?} (up to seq {})",
                args.timeout, waited.head
            ));
            Ok(ExitCode::from(TIMED_OUT))
        }
    }
}

/// One wait, or several where the time is longer than a server waits.
pub(crate) async fn waited(
    client: &Client,
    mut options: WaitOptions,
) -> Result<tapline_client::Waited, Failure> {
    /// A server refuses more than 300 s.
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(300);
    let mut left = options.timeout;
    let mut lost = 0;
    loop {
        options.timeout = left.min(LONGEST);
        left -= options.timeout;
        let mut waited = client.wait(&options).await?;
        lost += waited.lost;
        if waited.envelope.is_some() || left.is_zero() {
            waited.lost = lost;
            return Ok(waited);
        }
        options.after = Some(tapline_client::Cursor {
            seq: waited.head,
            epoch: Some(waited.epoch),
        });
    }
}

/// `k3j2 since 12:01:02, after seq 3; captures all categories`.
pub(crate) fn described(state: Option<&State>) -> String {
    let Some(state) = state else {
        return "none; nothing is captured. `tapline start` starts one".to_owned();
    };
    let Some(id) = &state.session_id else {
        return "none; nothing is captured. `tapline start` starts one".to_owned();
    };
    let mut text = id.clone();
    if let Some(at) = state.applied_at {
        text.push_str(&format!(", configured at {at:.0}"));
    }
    if let Some(seq) = state.session_start_seq {
        text.push_str(&format!(", after seq {seq}"));
    }
    text.push_str(&format!(
        "; captures {}",
        captured(state.config.browser.enabled())
    ));
    printable(&text)
}

/// Categories in words.
pub(crate) fn captured(categories: CategorySet) -> String {
    if categories == CategorySet::USER_FACING {
        return "all categories".to_owned();
    }
    let names: Vec<_> = categories.iter().map(Category::as_str).collect();
    names.join(", ")
}

fn sink_line(sink: &SinkInfo) -> String {
    let mut text = format!(
        "{:<8} {:<3} at seq {}, {} behind; {} exported",
        sink.name,
        if sink.on { "on" } else { "off" },
        sink.position,
        sink.lag,
        sink.exported,
    );
    for (count, what) in [
        (sink.excluded, "excluded"),
        (sink.rejected, "rejected"),
        (sink.failed, "failed"),
        (sink.pending, "pending"),
        (sink.recovered, "recovered from the archive"),
        (sink.lost, "lost"),
    ] {
        if 0 < count {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(spans) = &sink.spans {
        text.push_str(&format!(
            "; {} of {} spans exported",
            spans.exported, spans.made
        ));
    }
    if let Some(error) = &sink.last_error {
        text.push_str(&format!("; last error: {error}"));
    }
    text
}

fn reader_line(reader: &ReaderInfo) -> String {
    let kind = match reader.kind {
        ReaderKind::Stream => "stream",
        ReaderKind::Wait => "wait",
    };
    let mut text = format!(
        "{:<5} {kind:<6} {:<21} at seq {}, {} behind; {} delivered, {} lost",
        reader.id,
        reader.peer,
        reader.position,
        reader.behind_events,
        reader.delivered,
        reader.lost,
    );
    if let Some(filter) = filter(reader) {
        text.push_str(&format!("; only {filter}"));
    }
    text
}

/// What a reader asks for; `None`: everything.
pub(crate) fn filter(reader: &ReaderInfo) -> Option<String> {
    let mut filters: Vec<String> = Vec::new();
    filters.extend(reader.category.map(captured));
    filters.extend(reader.r#type.iter().cloned());
    (!filters.is_empty()).then(|| printable(&filters.join(", ")))
}

/// The lines of a list below each other, with its name before the first one.
fn listed(name: &str, lines: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (n, line) in lines.enumerate() {
        let name = if n == 0 { name } else { "" };
        text.push_str(&format!("{name:<9} {}\n", printable(&line)));
    }
    match text.is_empty() {
        true => format!("{name:<9} none\n"),
        false => text,
    }
}
