//! `tapline run`: captures what happens while a command runs.

use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use tapline_client::{Client, Cursor};
use tapline_insight::{ExportWriter, Format, Input, Sanitizer};
use tapline_oapi::ConfigRequest;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Run;
use crate::failure::{Failure, say};
use crate::inputs::{self, Wanted};
use crate::{files, token, why};

/// The exit codes where the command could not be started, as a shell has them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

pub(crate) async fn run(args: Run) -> Result<ExitCode, Failure> {
    let client = token::client(&args.remote)?;
    let session = Session::begin(&client).await?;
    let status = status_of(&args).await;
    let ended = session.end(&client).await;
    if let Err(failure @ Failure::Start { source, .. }) = &status {
        let _ = failure.report();
        return Ok(ExitCode::from(match source.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        }));
    }
    let status = status?;
    ended?;
    if status.success() && !args.always {
        return Ok(ExitCode::SUCCESS);
    }
    say(&match status.success() {
        true => "the command has succeeded; what happened meanwhile:".to_owned(),
        false => format!("the command has failed ({status}); what happened meanwhile:"),
    });
    // The exit code is the command's, whatever becomes of this.
    if let Err(failure) = explain(&args, session.begin).await {
        let _ = failure.report();
    }
    Ok(exit_code(status))
}

/// Shows what happened since the command began, and writes it to a file.
async fn explain(args: &Run, begin: Cursor) -> Result<(), Failure> {
    let wanted = Wanted {
        after: Some(begin),
        ..Wanted::default()
    };
    let mut looked = why::look(&args.remote, None, wanted, why::DEFAULT_LIMIT).await?;
    // That of the command was stopped.
    looked.session = None;
    let mut text = Vec::new();
    looked
        .write(&mut text, args.utc)
        .and_then(|()| io::stderr().write_all(&text))
        .map_err(Failure::Output)?;
    if looked.has_events() && !args.no_dump {
        let path = write_dump(args, wanted).await?;
        say(&format!(
            "its events are in {}, without secrets; `tapline why`, `requests` and `export` read them",
            path.display()
        ));
    }
    Ok(())
}

/// The session in which the command runs.
struct Session {
    /// After everything that was before the command.
    begin: Cursor,
    /// Whether it is stopped after the command: it was started for it.
    is_ours: bool,
}

impl Session {
    async fn begin(client: &Client) -> Result<Self, Failure> {
        let is_running = client
            .state()
            .await?
            .is_some_and(|state| state.session_id.is_some());
        let now = client.sinks().await?;
        if !is_running {
            client.start(&ConfigRequest::default()).await?;
        }
        Ok(Self {
            begin: Cursor {
                seq: now.head,
                epoch: Some(now.epoch),
            },
            is_ours: !is_running,
        })
    }

    async fn end(&self, client: &Client) -> Result<(), Failure> {
        if self.is_ours {
            client.stop().await?;
        }
        Ok(())
    }
}

/// Runs the command and waits for it, whatever the signals: Ctrl-C reaches it as well, and SIGTERM is passed on to it.
async fn status_of(args: &Run) -> Result<ExitStatus, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
    let (program, arguments) = args.command.split_first().expect("clap requires one");
    let not_started = |source| Failure::Start {
        program: PathBuf::from(program),
        source,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("TAPLINE_URL", &*args.remote.url())
        .env_remove("TAPLINE_REMOTE_INSTANCE");
    let mut child = command.spawn().map_err(not_started)?;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(not_started),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(id) = id {
                    // It may have ended in between.
                    let _ = kill_process(id, Signal::TERM);
                }
            }
        }
    }
}

/// All events since the command began, sanitised, in a new file.
async fn write_dump(args: &Run, wanted: Wanted<'_>) -> Result<PathBuf, Failure> {
    let dir = args.dump_dir.as_deref().unwrap_or(Path::new("."));
    let name = jiff::Timestamp::now().strftime("tapline-run-%Y%m%d-%H%M%S-%3f.ndjson");
    let path = dir.join(name.to_string());
    let unwritable = |source| Failure::Write {
        what: path.display().to_string(),
        source,
    };
    let file = files::create_private(&path).map_err(unwritable)?;
    let mut writer = ExportWriter::new(
        Format::Ndjson,
        io::BufWriter::new(file),
        Sanitizer::default(),
    )
    .map_err(unwritable)?;
    let feed = &mut |input: Input<'_>| writer.feed(input).map_err(unwritable);
    inputs::read(&args.remote, None, wanted, "writing", feed).await?;
    writer.finish().map_err(unwritable)?;
    Ok(path)
}

/// As a shell has it: 128 and the number of the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
