//! `cargo xtask api`: the public documentation builds without a warning, and the public API is as its snapshots say.
//!
//! Each library has a snapshot, `public-api.txt` in its folder: one public item a line, with its signature. A change of the API
//! is a visible change of that file in a review.
//!
//! The items come from rustdoc's JSON output, which is an unstable format: [`public_api`] reads that of one range of compilers.
//! With another compiler the documentation is still built, and the comparison is skipped; in CI that is a failure.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;

use public_api::PublicApi;

use crate::cargo::{Cargo, Metadata, added_to};
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::options::Options;
use crate::unstable;

const SNAPSHOT: &str = "public-api.txt";

pub(crate) fn run(options: &Options) -> Outcome {
    let workspace = Metadata::of_workspace()?;
    let call = Cargo::new("doc --workspace --no-deps").with(
        "RUSTDOCFLAGS",
        added_to(
            "RUSTDOCFLAGS",
            "-D warnings -Zunstable-options --output-format json",
        ),
    );
    unstable::permitted_for_rustdoc(call)?.run()?;

    let mut findings = Vec::new();
    for package in &workspace.packages {
        let Some(library) = package.library() else {
            continue;
        };
        let folder = package.manifest_path.parent().unwrap_or(Path::new(""));
        if package.publish.is_some() {
            continue; // Never published: the API is for this workspace alone.
        }
        let json = workspace
            .target_directory
            .join("doc")
            .join(library)
            .with_extension("json");
        let actual = match snapshot(&json) {
            Ok(actual) => actual,
            Err(error) => return unreadable(&error),
        };
        let path = folder.join(SNAPSHOT);
        if options.write {
            files::write(&path, &actual)?;
        } else if path.is_file() {
            let lines = difference(&files::read(&path)?, &actual);
            findings.extend(
                lines
                    .into_iter()
                    .map(|line| format!("{}: {line}", package.name)),
            );
        } else {
            findings.push(format!("{}: there is no {}", package.name, path.display()));
        }
    }
    Failure::unless_empty(
        findings,
        "Where a change of the API is meant, renew the snapshots with `cargo xtask api --write`, and add a line to the changelog.",
    )
}

/// Another compiler's format. The developer's machine may have a newer compiler than CI.
fn unreadable(error: &public_api::Error) -> Outcome {
    let finding = format!(
        "the JSON of this toolchain's rustdoc is not of the format that is read here: {error}"
    );
    if env::var_os("CI").is_none() {
        println!("skipped: {finding}");
        return Ok(());
    }
    Err(Failure::Findings {
        findings: vec![finding],
        advice: "Take the version of `public-api` that fits the toolchain (Cargo.toml), then renew the snapshots.",
    })
}

/// The public items of one library, one a line. What every type has (blanket and automatic implementations) is left out.
fn snapshot(json: &Path) -> Result<String, public_api::Error> {
    let api: PublicApi = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(api.items().map(|item| format!("{item}\n")).collect())
}

/// The lines that differ, as in a patch that would renew the snapshot.
fn difference(golden: &str, actual: &str) -> Vec<String> {
    let in_golden: BTreeSet<&str> = golden.lines().collect();
    let in_actual: BTreeSet<&str> = actual.lines().collect();
    let gone = in_golden
        .difference(&in_actual)
        .map(|line| format!("- {line}"));
    let new = in_actual
        .difference(&in_golden)
        .map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_as_the_patch_that_would_resolve_it() {
        assert_eq!(
            difference("pub fn a()\npub fn b()\n", "pub fn a()\npub fn b(u8)\n"),
            ["- pub fn b()", "+ pub fn b(u8)"]
        );
        assert_eq!(
            difference("pub fn a()\n", "pub fn a()\n"),
            Vec::<String>::new()
        );
    }
}
