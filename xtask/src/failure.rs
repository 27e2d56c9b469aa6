//! Why a command of xtask failed, in words for the reader of the log.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// What every command of xtask ends with.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command of xtask failed. `Display` prints this level only; [`with_causes`] prints the chain, once, at the edge.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Cargo ended with a failure; its output is above in the log.
    Cargo { line: String, status: ExitStatus },
    /// Cargo could not be started at all.
    Start { line: String, source: io::Error },
    /// A file could not be read or written.
    File { path: PathBuf, source: io::Error },
    /// A text was not of the form it has to have.
    Format {
        what: String,
        source: Box<dyn Error + Send + Sync>,
    },
    /// A check found something: a line for each, and what to do about them.
    Findings {
        findings: Vec<String>,
        advice: &'static str,
    },
    /// Parts of CI failed; each has printed why.
    Parts(Vec<&'static str>),
}

impl Failure {
    /// Fails where a check found something.
    pub(crate) fn unless_empty(findings: Vec<String>, advice: &'static str) -> Outcome {
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Self::Findings { findings, advice })
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cargo { line, status } => write!(f, "`{line}` failed ({status})"),
            Self::Start { line, .. } => write!(f, "`{line}` could not be started"),
            Self::File { path, .. } => write!(f, "{} could not be read or written", path.display()),
            Self::Format { what, .. } => write!(f, "{what} could not be understood"),
            Self::Findings { findings, advice } => {
                writeln!(f, "findings: {}", findings.len())?;
                for finding in findings {
                    writeln!(f, "  {finding}")?;
                }
                write!(f, "{advice}")
            }
            Self::Parts(parts) => {
                write!(f, "failed")?;
                for part in parts {
                    write!(
                        f,
                        "\n  `{part}` did not pass; to run it alone: cargo xtask {part}"
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::File { source, .. } => Some(source),
            Self::Format { source, .. } => Some(source.as_ref()),
            Self::Cargo { .. } | Self::Findings { .. } | Self::Parts(_) => None,
        }
    }
}

/// A failure and what lies behind it, on one line where the failure itself takes one.
pub(crate) fn with_causes(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
