//! Unstable options of the compiler and of rustdoc, on a stable toolchain.
//!
//! `RUSTC_BOOTSTRAP=1` permits them. Set for cargo, it would reach the build scripts of dependencies, which then run again
//! and choose other code, and everything would be built anew. So cargo is made to call this program in their place, and
//! it sets the variable for exactly those calls that have an unstable option.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::cargo::Cargo;
use crate::failure::Failure;

/// Set while cargo calls this program in place of a tool.
const STANDS_IN: &str = "TAPLINE_XTASK_STANDS_IN";

/// The call of cargo, with unstable options of the compiler permitted.
pub(crate) fn permitted_for_rustc(call: Cargo) -> Result<Cargo, Failure> {
    // Cargo names the compiler as the first argument.
    Ok(call
        .with("RUSTC_WRAPPER", this_program()?)
        .with(STANDS_IN, "rustc"))
}

/// The call of cargo, with unstable options of rustdoc permitted.
pub(crate) fn permitted_for_rustdoc(call: Cargo) -> Result<Cargo, Failure> {
    Ok(call
        .with("RUSTDOC", this_program()?)
        .with(STANDS_IN, "rustdoc"))
}

fn this_program() -> Result<String, Failure> {
    let program = env::current_exe().map_err(|source| Failure::File {
        path: PathBuf::from("xtask"),
        source,
    })?;
    Ok(program.to_string_lossy().into_owned())
}

/// Runs the tool with the caller's arguments, where cargo called this program in its place.
pub(crate) fn stand_in() -> Option<ExitCode> {
    let tool = env::var_os(STANDS_IN)?;
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let program = if tool == "rustc" && !arguments.is_empty() {
        arguments.remove(0)
    } else {
        tool
    };
    let mut call = Command::new(&program);
    call.args(&arguments).env_remove(STANDS_IN);
    if arguments.iter().any(|argument| is_unstable(argument)) {
        call.env("RUSTC_BOOTSTRAP", "1");
    }
    Some(match call.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| code.try_into().ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            eprintln!("{} could not be started: {error}", program.display());
            ExitCode::FAILURE
        }
    })
}

/// Whether it is `-Z…`, of which `-Zunstable-options` permits others.
fn is_unstable(argument: &OsStr) -> bool {
    argument.to_string_lossy().starts_with("-Z")
}
