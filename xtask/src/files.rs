//! Finding and reading the files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::root;
use crate::failure::{Failure, Outcome};

/// Folders that hold nothing written by hand: builds, test inputs, and recordings.
const SKIPPED: &[&str] = &[
    "target",
    "corpus",
    "artifacts",
    "data",
    "runs",
    "node_modules",
];

/// One text file of the repository.
pub(crate) struct Text {
    /// From the workspace's root, with `/` between folders.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All files that `chosen` accepts by their path, in the order of their paths.
pub(crate) fn texts(chosen: impl Fn(&str) -> bool) -> Result<Vec<Text>, Failure> {
    let chosen = paths()?.into_iter().filter(|path| chosen(path));
    chosen
        .map(|path| {
            Ok(Text {
                text: read(&root().join(&path))?,
                path,
            })
        })
        .collect()
}

/// The paths of all files, from the workspace's root, in order.
pub(crate) fn paths() -> Result<Vec<String>, Failure> {
    let mut paths = Vec::new();
    collect(root(), &mut paths)?;
    let from_root = |path: &PathBuf| {
        let path = path.strip_prefix(root()).unwrap_or(path);
        path.to_string_lossy().replace('\\', "/")
    };
    let mut paths: Vec<String> = paths.iter().map(from_root).collect();
    paths.sort();
    Ok(paths)
}

/// The paths of all files, without hidden ones and without [`SKIPPED`] folders.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Outcome {
    let failed = |source| Failure::File {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || SKIPPED.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}
