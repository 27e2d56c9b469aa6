//! `tapline doctor`: what is wrong between a server and its user, and what to do about it.

mod metrics;
mod stream;
mod events;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};
use tapline_access::is_loopback;
use tapline_client::{Client, Error as ClientError};
use tapline_insight::one_line;
use tapline_oapi::State;
use tokio::time::Instant;

use crate::args::look::Doctor;
use crate::chromium;
use crate::failure::Failure;
use crate::figures::{self, counted};
use crate::output::{self, print};
use crate::session;
use crate::token;
use metrics::Metrics;

/// The exit code where something should be mended.
const TO_MEND: u8 = 1;
/// The exit code where the server could not be asked.
const UNKNOWN: u8 = 2;

/// An archive's disk with less free space than this, or than this part of it, is almost full.
const MIN_FREE_BYTES: u64 = 500_000_000;
const MIN_FREE_PART: u64 = 20;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    result: Outcome,
    /// What was found, and what to do about it, on one line.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// All is well.
    Ok,
    /// Worth knowing.
    Note,
    /// Something is wrong, or will be.
    Mend,
    /// It could not be looked at.
    Unknown,
}

impl Check {
    fn new(name: &'static str, result: Outcome, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { name, result, text }
    }
}

pub(crate) async fn run(args: Doctor) -> Result<ExitCode, Failure> {
    let mut checks = Vec::new();
    let asked = match token::client(&args.remote) {
        Ok(client) => ask(&client, &args, &mut checks).await,
        Err(failure @ Failure::Usage(_)) => return Err(failure),
        Err(failure) => {
            checks.push(Check::new(
                "access",
                Outcome::Unknown,
                line(&failure.in_words()),
            ));
            false
        }
    };
    if let Some(dir) = &args.archive {
        checks.push(disk(dir));
    }
    checks.push(demo());
    let printed = match args.json {
        true => {
            let all = serde_json::json!({ "url": args.remote.url(), "checks": checks });
            print(&format!("{all}\n"))
        }
        false => write(&checks).map_err(Failure::Output),
    };
    let is_to_mend = checks.iter().any(|it| it.result == Outcome::Mend);
    let code = match (asked, is_to_mend) {
        (false, _) => ExitCode::from(UNKNOWN),
        (true, true) => ExitCode::from(TO_MEND),
        (true, false) => ExitCode::SUCCESS,
    };
    Ok(output::answer(printed, code, UNKNOWN))
}

/// Looks at the server. Whether it could be asked for everything.
async fn ask(client: &Client, args: &Doctor, checks: &mut Vec<Check>) -> bool {
    let is_there = server(client, checks).await;
    if !is_there {
        return false;
    }
    let has_token = token::read(args.remote.token_file.as_deref()).is_ok_and(|it| it.is_some());
    let began = Instant::now();
    let state = client.state().await;
    let took = began.elapsed();
    let (check, state) = access(client, has_token, state);
    checks.push(check);
    let Some(state) = state else {
        return false;
    };
    let metrics = match client.get("/metrics").await {
        Ok(text) => Metrics::read(&text),
        Err(error) => {
            checks.push(unknown("metrics", error));
            return false;
        }
    };
    if let Some(version) = metrics.label("tapline_build_info", "version")
        && let Some(server) = checks.iter_mut().find(|it| it.name == "server")
    {
        let epoch = metrics.label("tapline_stream_info", "epoch");
        let epoch = epoch.map(|it| format!(", epoch {it}")).unwrap_or_default();
        server.text = line(&format!(
            "{} is a Tapline {version}{epoch}; it answers within {}",
            client.url(),
            figures::duration(took.as_secs_f64() * 1e3),
        ));
    }
    // Before the readers are listed: this stream is one of them.
    let own = stream::check(client, took, checks).await;
    events::check(client, state.as_ref(), &metrics, own.as_deref(), checks).await
}

/// Whether a Tapline answers.
async fn server(client: &Client, checks: &mut Vec<Check>) -> bool {
    #[derive(Deserialize)]
    struct Document {
        info: Info,
    }
    #[derive(Deserialize)]
    struct Info {
        title: String,
    }
    // It needs no token.
    let check = match client.get("/openapi.json").await {
        Ok(document) => match serde_json::from_slice::<Document>(&document) {
            Ok(document) if document.info.title == "Tapline" => {
                let text = format!("{} is a Tapline", client.url());
                checks.push(Check::new("server", Outcome::Ok, text));
                return true;
            }
            _ => {
                let text = format!(
                    "{} answers, but it is no Tapline: check the address that --url names, and its path",
                    client.url()
                );
                Check::new("server", Outcome::Mend, text)
            }
        },
        Err(error) => Check::new("server", Outcome::Mend, words(error)),
    };
    checks.push(check);
    false
}

/// Whether the calls are accepted, and the state of the session if they are.
fn access(
    client: &Client,
    has_token: bool,
    state: Result<Option<State>, ClientError>,
) -> (Check, Option<Option<State>>) {
    let state = match state {
        Ok(state) => state,
        Err(error) if error.status() == Some(401) && has_token => {
            let text = "the server does not accept this token: check that --token-file (or TAPLINE_TOKEN) has the \
                        one that the server was started with";
            return (Check::new("access", Outcome::Mend, text), None);
        }
        Err(error) => return (Check::new("access", Outcome::Mend, words(error)), None),
    };
    let is_plain = client.url().strip_prefix("http://").is_some_and(|rest| {
        let authority = rest.split('/').next().unwrap_or_default();
        !is_loopback(authority)
    });
    let (result, text) = match (has_token, is_plain) {
        (true, true) => (
            Outcome::Mend,
            "the token is accepted, but http:// sends it readable over the network: use https://, by --tls-cert and \
             --tls-key or a proxy",
        ),
        (true, false) => (Outcome::Ok, "calls with this token are accepted"),
        (false, true) => (
            Outcome::Mend,
            "no token is needed: everyone who reaches this address can read all events; start the server with \
             --token-file",
        ),
        (false, false) => (Outcome::Ok, "no token is needed on this machine"),
    };
    (Check::new("access", result, text), Some(state))
}

/// The space on the disk of an archive that is on this machine.
fn disk(dir: &Path) -> Check {
    let name = "disk";
    let found = match rustix::fs::statvfs(dir) {
        Ok(found) => found,
        Err(error) => {
            let text = format!(
                "the disk of {} cannot be looked at: {error}; --archive names a directory on this machine",
                dir.display()
            );
            return Check::new(name, Outcome::Mend, line(&text));
        }
    };
    let (free, all) = (
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
    );
    let space = format!(
        "{} of {} are free for the archive in {}",
        figures::size(free),
        figures::size(all),
        dir.display()
    );
    if free < MIN_FREE_BYTES || free < all / MIN_FREE_PART {
        let fix = "delete old segments with `tapline archive rm --before`, or start the server with a smaller \
                   --archive-bytes";
        return Check::new(name, Outcome::Mend, line(&format!("only {space}: {fix}")));
    }
    Check::new(name, Outcome::Ok, line(&space))
}

/// Whether there is a browser for the demo.
fn demo() -> Check {
    match chromium::find() {
        Some(path) => Check::new(
            "demo",
            Outcome::Ok,
            format!(
                "`tapline demo` starts {}",
                line(&path.display().to_string())
            ),
        ),
        None => Check::new(
            "demo",
            Outcome::Note,
            format!(
                "none of {} is on the search path: `tapline demo` replays a recording instead; --browser names another",
                chromium::NAMES.join(", ")
            ),
        ),
    }
}

/// A check that the server did not answer.
fn unknown(name: &'static str, error: ClientError) -> Check {
    Check::new(name, Outcome::Unknown, words(error))
}

/// `text` on one line, with nothing in it that a terminal would obey. The fix is at its end: nothing of a usual length is cut.
fn line(text: &str) -> String {
    one_line(text, 10_000)
}

fn words(error: ClientError) -> String {
    line(&Failure::Server(error).in_words())
}

/// Whether a session runs, in the words of `tapline status`.
fn session(state: Option<&State>, metrics: &Metrics) -> Check {
    let is_on = state.is_some_and(|state| state.session_id.is_some());
    if is_on {
        return Check::new("session", Outcome::Ok, session::described(state));
    }
    let ignored = metrics.sum("tapline_events_filtered_total", &[("reason", "inactive")]);
    let ignored = match ignored {
        0 => String::new(),
        count => format!(" (so far, {} not captured)", counted(count, "event")),
    };
    let text = format!(
        "none is running, so nothing is captured{ignored}: start one with `tapline start`, or the server with --start"
    );
    Check::new("session", Outcome::Mend, text)
}

fn write(checks: &[Check]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    for check in checks {
        let (word, style) = match check.result {
            Outcome::Ok => ("ok", AnsiColor::Green.on_default()),
            Outcome::Note => ("note", Style::new()),
            Outcome::Mend => ("mend", AnsiColor::Red.on_default()),
            Outcome::Unknown => ("unknown", AnsiColor::Yellow.on_default()),
        };
        writeln!(
            out,
            "{style}{word:<7}{style:#} {:<8} {}",
            check.name, check.text
        )?;
    }
    out.flush()
}
