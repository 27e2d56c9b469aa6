//! A cursor in a file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use tapline_client::Cursor;

use crate::failure::Failure;

/// The cursor that a file holds. Replaced whole: whenever we are stopped, and however, the file holds
/// one cursor or the other, and never a part. One file is for one tail at a time.
pub(super) struct StoredCursor {
    pub(super) cursor: Option<Cursor>,
    path: PathBuf,
    temporary: PathBuf,
}

impl StoredCursor {
    /// Reads what is stored; a file that is not there holds none yet.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let cursor = match fs::read_to_string(&path) {
            Ok(text) => match text.trim_end().parse() {
                Ok(cursor) => Some(cursor),
                Err(source) => return Err(Failure::StoredCursor { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                let what = path.display().to_string();
                return Err(Failure::Read { what, source });
            }
        };
        // Beside it, because a rename does not leave the file system; always the same, so that one
        // that was left behind is used again.
        let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        // What cannot be stored is found out before anything is printed, not after.
        let writable = fs::write(&temporary, "").and_then(|()| fs::remove_file(&temporary));
        if let Err(source) = writable {
            return Err(Failure::StoreCursor { path, source });
        }
        Ok(Self {
            cursor,
            path,
            temporary,
        })
    }

    /// Stores `cursor`, unless it is there already.
    pub(super) fn store(&mut self, cursor: Option<Cursor>) -> Result<(), Failure> {
        if cursor.is_none() || cursor == self.cursor {
            return Ok(());
        }
        self.cursor = cursor;
        let text = cursor
            .map(|cursor| format!("{cursor}\n"))
            .unwrap_or_default();
        fs::write(&self.temporary, text)
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(|source| Failure::StoreCursor {
                path: self.path.clone(),
                source,
            })
    }
}
