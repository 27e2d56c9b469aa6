//! What the archive does with files, one function for each, so that tests can make each of them fail.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, FlockOperation, accessat, flock};

use crate::error::ArchiveError;

/// A change of a file or of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileOp {
    /// A segment or an index is created.
    Create,
    /// Bytes are appended.
    Write,
    /// The content of a segment is made durable.
    Sync,
    /// The names in the directory are made durable.
    SyncDir,
    /// The end of a segment is cut off.
    Truncate,
    /// A file is deleted.
    Remove,
}

/// Makes operations on files fail. For tests: see [`ArchiveOptions::faults`](crate::ArchiveOptions::faults).
pub trait Faults: Send + Sync {
    /// Is asked before each operation. An error is returned in place of the operation.
    ///
    /// # Errors
    ///
    /// The error that the operation is to have.
    fn before(&self, op: FileOp, path: &Path) -> io::Result<()>;
}

/// A directory that an archive is written to.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) dir: PathBuf,
    faults: Option<Arc<dyn Faults>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.dir).finish()
    }
}

impl Disk {
    pub(crate) fn new(dir: PathBuf, faults: Option<Arc<dyn Faults>>) -> Self {
        Self { dir, faults }
    }

    /// Makes the directory, for its owner alone: events hold what people type. Fails where this process may not write
    /// to it.
    pub(crate) fn create_dir(&self) -> Result<(), ArchiveError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&self.dir)
            .map_err(|error| ArchiveError::io("create the directory", &self.dir, error))?;
        self.check_writable()
    }

    /// Whether files may be created in the directory. On a full disk they may: there will be space again.
    fn check_writable(&self) -> Result<(), ArchiveError> {
        let access = Access::WRITE_OK | Access::EXEC_OK;
        accessat(CWD, &self.dir, access, AtFlags::EACCESS).map_err(|error| {
            ArchiveError::NotWritable {
                dir: self.dir.clone(),
                source: error.into(),
            }
        })
    }

    /// A new file, for its owner alone.
    pub(crate) fn create(&self, path: &Path) -> Result<File, ArchiveError> {
        let mut options = OpenOptions::new();
        options.create_new(true).write(true).read(true).mode(0o600);
        self.before(FileOp::Create, path)
            .and_then(|()| options.open(path))
            .map_err(|error| ArchiveError::io("create", path, error))
    }

    pub(crate) fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.before(FileOp::Write, path)
            .and_then(|()| (&*file).write_all(bytes))
            .map_err(|error| ArchiveError::io("write to", path, error))
    }

    /// The content and the length, not the times.
    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<(), ArchiveError> {
        self.before(FileOp::Sync, path)
            .and_then(|()| file.sync_data())
            .map_err(|error| ArchiveError::io("sync", path, error))
    }

    pub(crate) fn sync_dir(&self) -> Result<(), ArchiveError> {
        self.before(FileOp::SyncDir, &self.dir)
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(|error| ArchiveError::io("sync the directory", &self.dir, error))
    }

    pub(crate) fn truncate(&self, file: &File, path: &Path, len: u64) -> Result<(), ArchiveError> {
        self.before(FileOp::Truncate, path)
            .and_then(|()| file.set_len(len))
            .map_err(|error| ArchiveError::io("cut the end of", path, error))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), ArchiveError> {
        let removed = self
            .before(FileOp::Remove, path)
            .and_then(|()| fs::remove_file(path));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ArchiveError::io("delete", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file that can be made again at any time: it is whole or not there, and not synced.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), ArchiveError> {
        let temporary = path.with_extension("tmp");
        self.remove(&temporary)?;
        let file = self.create(&temporary)?;
        self.write(&file, &temporary, bytes)?;
        fs::rename(&temporary, path).map_err(|error| ArchiveError::io("rename", &temporary, error))
    }

    fn before(&self, op: FileOp, path: &Path) -> io::Result<()> {
        match &self.faults {
            Some(faults) => faults.before(op, path),
            None => Ok(()),
        }
    }
}

/// The right to write to a directory. The system gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Whether a process holds the lock of which this is the file.
    pub(crate) fn is_held(file: &File) -> bool {
        // It is released with the file.
        flock(file, FlockOperation::NonBlockingLockShared).is_err()
    }

    pub(crate) fn acquire(disk: &Disk) -> Result<Self, ArchiveError> {
        let path = disk.dir.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).read(true);
        let mut file = options
            .mode(0o600)
            .open(&path)
            .map_err(|error| ArchiveError::io("open", &path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only for the message.
                let _ = (&file).take(20).read_to_string(&mut pid);
                return Err(ArchiveError::InUse {
                    dir: disk.dir.clone(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(error) => return Err(ArchiveError::io("lock", &path, error.into())),
        }
        // The lock holds without it: on a full disk, only the message of another process is poorer.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// Closing the file is not enough: a process that is being started has a copy of it for a moment.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
