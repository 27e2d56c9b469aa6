//! Building with AddressSanitizer: what `fuzz` and `sanitize` share.

use crate::cargo::{Cargo, added_to};
use crate::failure::Failure;

/// The variable by which AddressSanitizer, in a program that was built with it, is told what to do.
pub(crate) const OPTIONS: &str = "ASAN_OPTIONS";

/// The call, for a build with AddressSanitizer and these flags, for the platform `host`. The platform has to be named, or
/// the flags would hold for build scripts and macros, too, which the compiler could not load.
pub(crate) fn built_with(call: Cargo, host: &str, flags: &str) -> Cargo {
    let flags = format!("-Zsanitizer=address {flags}");
    call.and(&["--target".to_owned(), host.to_owned()])
        // The sanitizers are part of the stable toolchain, but for leave to switch them on.
        .with("RUSTC_BOOTSTRAP", "1")
        .with("RUSTFLAGS", added_to("RUSTFLAGS", flags.trim_end()))
}

/// The platform that this runs on, as the compiler calls it.
pub(crate) fn host() -> Result<String, Failure> {
    let cargo = Cargo::new("--version --verbose");
    let answer = cargo.answer()?;
    match answer.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => Err(Failure::Format {
            what: format!("what `{cargo}` printed"),
            source: "it names no host".into(),
        }),
    }
}
