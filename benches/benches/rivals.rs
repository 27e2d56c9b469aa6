//! Tapline beside its rivals: publishing, waking and reading with 1 and 2 producers and up to 1,000 readers.
//!
//! What is measured, and how, is described in `src/harness.rs` and at the head of the output; how to run it and
//! to keep a run, in `README.md`.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    tapline_benches::harness::main(env::args().skip(1))
}
