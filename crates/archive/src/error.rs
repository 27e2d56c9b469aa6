//! [`ArchiveError`].

use std::io;
use std::path::{Path, PathBuf};

/// Why an archive cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Another process writes to it.
    #[error(
        "the archive in {} is in use by another process{}; stop that one, or name another directory", dir.display(),
        pid.map(|pid| format!(" ({pid})")).unwrap_or_default(),
    )]
    InUse {
        /// The directory of the archive.
        dir: PathBuf,
        /// The other process, where it can be read.
        pid: Option<u32>,
    },
    /// This process may not create files in the directory.
    #[error(
        "the directory {} cannot be written; let this user write to it, or name another one", dir.display(),
    )]
    NotWritable {
        /// The directory.
        dir: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The system refused an operation.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was to be done, such as `sync`.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A bound that is out of range.
    #[error("`{field}` is {value}; the smallest is {least}")]
    TooSmall {
        /// The field of the options.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The smallest value that is allowed.
        least: u64,
    },
}

impl ArchiveError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether a file was not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
