//! `cargo xtask package`: every crate that is published can be packaged, and lacks nothing that a registry shows.
//!
//! `cargo package` warns about what is missing, and passes. Here a warning is a finding, but for the one about the address of
//! the repository, which is not known here: a packager sets it once, in the root manifest.

use std::path::Path;

use crate::cargo::{Cargo, Metadata};
use crate::failure::{Failure, Outcome};
use crate::options::Options;

/// The beginning of the warning that stands until a packager has set the address.
const NO_ADDRESS: &str = "manifest has no documentation, homepage or repository";

pub(crate) fn run(_: &Options) -> Outcome {
    let workspace = Metadata::of_workspace()?;
    let mut findings = Vec::new();
    let mut call = Cargo::new("package --no-verify --allow-dirty");
    for package in workspace
        .packages
        .iter()
        .filter(|package| package.publish.is_none())
    {
        call = call.and(&["--package".to_owned(), package.name.clone()]);
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        if !folder.join("README.md").is_file() {
            findings.push(format!("{}: there is no README.md", package.name));
        }
    }
    println!("$ {call}");
    let said = call.said()?;
    findings.extend(warnings(&said));
    Failure::unless_empty(
        findings,
        "A crate needs a README.md, a description, a licence, keywords, and no file that does not belong.",
    )
}

/// The warnings in what cargo said, without the one that is expected.
fn warnings(said: &str) -> Vec<String> {
    let warnings = said.lines().filter(|line| line.starts_with("warning: "));
    warnings
        .filter(|line| !line.contains(NO_ADDRESS))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_finding_unless_it_is_about_the_address_alone() {
        let said = "   Packaging a v0.1.0 (/x)\n\
                    warning: manifest has no documentation, homepage or repository\n\
                    warning: manifest has no description, license\n\
                    See https://doc.example/ for more info.\n";
        assert_eq!(
            warnings(said),
            ["warning: manifest has no description, license"]
        );
    }
}
