//! Building with AddressSanitizer: what `fuzz` and `sanitize` share.

use crate::cargo::Cargo;
use crate::failure::Failure;
use crate::unstable;

/// The variable with the options of AddressSanitizer, for a program that was built with it.
pub(crate) const OPTIONS: &str = "ASAN_OPTIONS";

/// The call, for a build with AddressSanitizer and these flags.
pub(crate) fn built_with(call: Cargo, flags: &str) -> Result<Cargo, Failure> {
    let flags = format!("-Zsanitizer=address {flags}");
    // The sanitizers are part of the stable toolchain, behind an unstable option.
    unstable::permitted_for_rustc(call.built_with(flags.trim_end())?)
}
