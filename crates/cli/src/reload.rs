//! Reads files again: at SIGHUP, and when a file has changed. A file that cannot be used is logged, and the
//! values from before stay in use.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tapline_access::Access;
use tapline_cdp::{Redaction, SharedRedaction};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, chain};

/// How often to check whether a file has changed.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// Reloads for as long as the runtime runs.
///
/// # Errors
///
/// Where the system does not let the program receive signals.
pub(crate) fn spawn(access: Arc<Access>, redaction: Option<RedactionFile>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut redaction = redaction;
        loop {
            let is_asked = tokio::select! {
                received = hangup.recv() => received.is_some(),
                () = tokio::time::sleep(CHECK_EVERY) => false,
            };
            let access = access.clone();
            // A file system can hang, and requests do not wait for it.
            let reloaded = tokio::task::spawn_blocking(move || {
                let reloads = match is_asked {
                    true => access.reload(),
                    false => access.reload_if_changed(),
                };
                for reload in reloads {
                    reload.log();
                }
                if let Some(file) = &mut redaction {
                    file.reload(is_asked);
                }
                redaction
            });
            match reloaded.await {
                Ok(file) => redaction = file,
                // It has panicked, and there is nothing left to reload with.
                Err(error) => {
                    tracing::error!(%error, "files are not reloaded any more");
                    return;
                }
            }
        }
    });
    Ok(())
}

/// A file with names whose values are redacted, and the rules that it is a part of.
#[derive(Debug)]
pub(crate) struct RedactionFile {
    path: PathBuf,
    /// The rules of the flags, to which the file adds.
    flags: Redaction,
    shared: SharedRedaction,
    /// Logged last; once is enough.
    fault: Option<String>,
}

impl RedactionFile {
    /// Reads the file, whose rules are shared from then on.
    ///
    /// # Errors
    ///
    /// [`Failure`] where the file cannot be read or a line cannot be understood.
    pub(crate) fn load(path: PathBuf, flags: Redaction) -> Result<Self, Failure> {
        let mut file = Self {
            path,
            flags,
            shared: SharedRedaction::default(),
            fault: None,
        };
        file.shared = file.rules()?.into();
        Ok(file)
    }

    /// The rules of the flags and the file, which are replaced when the file changes.
    pub(crate) fn shared(&self) -> SharedRedaction {
        self.shared.clone()
    }

    /// Reads the file again. `is_asked`: the log shows also that nothing has changed.
    fn reload(&mut self, is_asked: bool) {
        match self.rules() {
            Ok(rules) => {
                let is_new = rules != *self.shared.current();
                if is_new {
                    self.shared.replace(rules);
                    tracing::info!("reloaded the redaction rules: they have changed");
                } else if is_asked {
                    tracing::info!("reloaded the redaction rules: they are the same");
                }
                self.fault = None;
            }
            Err(failure) => {
                let fault = Some(chain(&failure));
                if is_asked || fault != self.fault {
                    let error = fault.as_deref();
                    tracing::error!(
                        error,
                        "cannot reload the redaction rules: the old ones stay"
                    );
                }
                self.fault = fault;
            }
        }
    }

    fn rules(&self) -> Result<Redaction, Failure> {
        let text = fs::read_to_string(&self.path).map_err(|source| Failure::Read {
            what: self.path.display().to_string(),
            source,
        })?;
        let mut rules = self.flags.clone();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            rules = match line.split_once(' ').map(|(of, name)| (of, name.trim())) {
                Some(("header", name)) => rules.with_headers([name]),
                Some(("query", name)) => rules.with_query_parameters([name]),
                Some(("field", name)) => rules.with_json_fields([name]),
                _ => {
                    return Err(Failure::Line {
                        path: self.path.clone(),
                        line: number as u64 + 1,
                        expected: "`header x-session`, `query code`, `field password`, or a comment that begins with `#`",
                    });
                }
            };
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_adds_to_the_flags_and_a_bad_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("tapline-redact-{}", std::process::id()));
        let write = |text: &str| fs::write(&path, text).unwrap();
        let redacted = |file: &RedactionFile, field: &str| {
            let text = format!("{{\"{field}\":\"hunter2\"}}");
            !file.shared().current().redact(&text).contains("hunter2")
        };
        let flags = || Redaction::default().with_json_fields(["of_flag"]);
        write("# ours\n\nfield first\nheader x-one\nquery two\n");
        let mut file = RedactionFile::load(path.clone(), flags()).unwrap();
        let check = |file: &RedactionFile, expected: [bool; 3]| {
            let names = ["of_flag", "first", "second"];
            assert_eq!(names.map(|name| redacted(file, name)), expected);
        };
        check(&file, [true, true, false]);

        write("field second\n");
        file.reload(false);
        check(&file, [true, false, true]);
        write("field first\nfields second\n");
        file.reload(false);
        check(&file, [true, false, true]);
        assert!(file.fault.as_deref().unwrap().contains("line 2"));
        let error = RedactionFile::load(path.clone(), flags()).unwrap_err();
        assert!(
            chain(&error).contains("line 2: expected `header x-session`"),
            "{error}"
        );

        fs::remove_file(&path).unwrap();
        file.reload(false);
        check(&file, [true, false, true]);
        assert!(RedactionFile::load(path, flags()).is_err());
    }
}
