//! Standard output: what is printed there, and what its end means.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::failure::Failure;

/// Prints `text`, at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(|out| out.write_all(text.as_bytes()))
}

/// Prints what `write` writes, at once.
pub(crate) fn write(
    write: impl FnOnce(&mut BufWriter<StdoutLock<'_>>) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}

/// Writes each value as JSON on a line of its own.
pub(crate) fn json_lines<T: Serialize>(
    out: &mut impl Write,
    values: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    for value in values {
        serde_json::to_writer(&mut *out, &value)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// For commands whose exit code is an answer: `code` if all was printed, or if the reader of a pipe has enough, and
/// otherwise `unknown`, with the reason on standard error.
pub(crate) fn answer(printed: Result<(), Failure>, code: ExitCode, unknown: u8) -> ExitCode {
    match printed {
        Ok(()) => code,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => code,
        Err(failure) => {
            // Its own exit code would be another answer.
            let _ = failure.report();
            ExitCode::from(unknown)
        }
    }
}
