//! `tapline completions` and `tapline man`: what shells and `man` need to know of the flags.

use std::fs;
use std::io::Write as _;

use clap::CommandFactory as _;

use crate::args::{Args, Completions, Man};
use crate::failure::Failure;
use crate::output;

pub(crate) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "tapline", &mut script);
    output::write(|out| out.write_all(&script))
}

/// The page of the program, or all pages into a directory.
pub(crate) fn man(args: &Man) -> Result<(), Failure> {
    let Some(dir) = &args.dir else {
        let page = clap_mangen::Man::new(Args::command());
        return output::write(|out| page.render(out));
    };
    let unwritable = |source| Failure::Write {
        what: dir.display().to_string(),
        source,
    };
    fs::create_dir_all(dir).map_err(unwritable)?;
    clap_mangen::generate_to(Args::command(), dir).map_err(unwritable)
}
