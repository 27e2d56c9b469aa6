//! Where the clients of others are, and what becomes of a test whose client is not here.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `install.sh` installed, under the folder that holds what was built.
pub(crate) fn installed(path: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join("peers").join(path)).filter(|path| path.exists())
}

/// A program of the system.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// What was found; says that a test is skipped where nothing was, and fails where `variable`
/// demands that it is there.
#[track_caller]
pub(crate) fn or_skip<T>(found: Option<T>, name: &str, variable: &str) -> Option<T> {
    if found.is_none() {
        let required = env::var(variable).is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not here, and {variable}=1");
        skipped(&format!(
            "{name} is not here (crates/cli/tests/peers/install.sh)"
        ));
    }
    found
}

/// Prints the reason directly to standard error, because the output of a test that passes is hidden.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or_default();
    // A closed standard error does not fail the test.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}
