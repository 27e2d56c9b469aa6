//! `cargo xtask unused`: every dependency has its version in one place, a reason beside it, and a user.
//!
//! The root manifest is the one place where versions and reasons stand. That stays true only if no crate names a version of
//! its own, every entry says why it is there, and entries and declarations go when their last use goes.
//!
//! Whether a crate uses what it declares is decided by looking for the name in its sources. That is rough, but needs no
//! build, and errs on the side of silence: a name in a comment counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};

use crate::cargo::{self, Metadata};
use crate::failure::{Failure, Outcome};
use crate::options::Options;

pub(crate) fn run(_: &Options) -> Outcome {
    let root = read(&cargo::root().join("Cargo.toml"))?;
    let mut findings = without_reason(&root)?;

    let mut inherited = BTreeSet::new();
    for package in Metadata::of_workspace()?.packages {
        let manifest: Manifest = parse(&package.name, &read(&package.manifest_path)?)?;
        let directory = package
            .manifest_path
            .parent()
            .unwrap_or(&package.manifest_path);
        let mut sources = String::new();
        read_sources(directory, &mut sources)?;

        for (name, declaration) in manifest.dependencies() {
            if *name == package.name {
                // Itself, with features for its tests: without a version, so that `cargo package` leaves it out.
            } else if is_inherited(declaration) {
                inherited.insert(name.clone());
            } else if name != &package.name {
                // A crate may name itself, to switch on a feature for its tests.
                findings.push(format!(
                    "{}: `{name}` is not inherited (`{name}.workspace = true`)",
                    package.name
                ));
            }
            if !has_word(&sources, &name.replace('-', "_")) {
                findings.push(format!(
                    "{}: `{name}` is declared and never named in its code",
                    package.name
                ));
            }
        }
    }

    let root: Root = parse("the root manifest", &root)?;
    let declared = root.workspace.dependencies.keys();
    findings.extend(
        declared
            .filter(|name| !inherited.contains(*name))
            .map(|name| format!("workspace: no crate uses `{name}`")),
    );
    Failure::unless_empty(
        findings,
        "Versions and reasons stand in [workspace.dependencies] of Cargo.toml, and only there.",
    )
}

/// The root manifest.
#[derive(Deserialize)]
struct Root {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    dependencies: BTreeMap<String, Spanned<Value>>,
}

/// The manifest of a crate, or the part of it that holds for some targets only.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    build_dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    target: BTreeMap<String, Manifest>,
}

impl Manifest {
    /// Of every kind and for every target.
    fn dependencies(&self) -> Vec<(&String, &Value)> {
        let here = [
            &self.dependencies,
            &self.dev_dependencies,
            &self.build_dependencies,
        ];
        let there = self.target.values().flat_map(Self::dependencies);
        here.into_iter().flatten().chain(there).collect()
    }
}

/// The entries of the root manifest that do not say why they are there. Our own crates say it in the list of members.
fn without_reason(manifest: &str) -> Result<Vec<String>, Failure> {
    let root: Root = parse("the root manifest", manifest)?;
    let third_party = root
        .workspace
        .dependencies
        .iter()
        .filter(|(_, entry)| entry.get_ref().get("path").is_none());
    let silent =
        third_party.filter(|(_, entry)| !is_followed_by_comment(manifest, entry.span().end));
    Ok(silent
        .map(|(name, _)| format!("workspace: `{name}` has no reason beside it"))
        .collect())
}

/// Whether the rest of the line at `end` is a comment that says something.
fn is_followed_by_comment(text: &str, end: usize) -> bool {
    let rest = text
        .get(end..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    rest.trim_start()
        .strip_prefix('#')
        .is_some_and(|comment| !comment.trim().is_empty())
}

fn is_inherited(declaration: &Value) -> bool {
    declaration.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// Whether `word` stands in `text`, and not as a part of a longer name.
fn has_word(text: &str, word: &str) -> bool {
    let in_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text
            .get(..start)
            .and_then(|before| before.chars().next_back());
        let after = text
            .get(start + word.len()..)
            .and_then(|after| after.chars().next());
        !before.is_some_and(in_name) && !after.is_some_and(in_name)
    })
}

/// All Rust files below a directory, one after the other.
fn read_sources(directory: &Path, sources: &mut String) -> Outcome {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::File { path, source }
    };
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        let path: PathBuf = entry.map_err(at(directory))?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&read(&path)?);
            sources.push('\n');
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

fn parse<T: for<'a> Deserialize<'a>>(what: &str, text: &str) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| Failure::Format {
        what: what.to_owned(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_comment_on_the_line_where_the_entry_ends() {
        let manifest = r##"
            [workspace.dependencies]
            ours = { path = "crates/ours", version = "0.1.0" }
            plain = "1" # a reason
            table = { version = "1", features = ["a#b"] } # a reason
            long = { version = "1", features = [
                "a", # why this feature, which is no reason for the crate
            ] } # a reason
            silent = "1"
            hash = { version = "1", features = ["# no reason"] }
            empty = "1" #
        "##;
        let findings = ["empty", "hash", "silent"]
            .map(|name| format!("workspace: `{name}` has no reason beside it"));
        assert_eq!(without_reason(manifest).unwrap(), findings);
    }

    #[test]
    fn dependencies_of_every_kind_and_target_are_seen() {
        let manifest = r#"
            [dependencies]
            a.workspace = true
            b = "1"
            [dev-dependencies]
            c = { workspace = true, features = ["x"] }
            [build-dependencies]
            d = { path = "../d" }
            [target.'cfg(loom)'.dependencies]
            e = { workspace = false }
        "#;
        let manifest: Manifest = parse("a manifest", manifest).unwrap();
        let seen: Vec<(&str, bool)> = manifest
            .dependencies()
            .into_iter()
            .map(|(name, value)| (name.as_str(), is_inherited(value)))
            .collect();
        assert_eq!(
            seen,
            [
                ("a", true),
                ("b", false),
                ("c", true),
                ("d", false),
                ("e", false)
            ]
        );
    }

    #[test]
    fn a_name_within_a_longer_one_is_no_use() {
        assert!(has_word("use serde::Deserialize;", "serde"));
        assert!(has_word("extern crate serde", "serde"));
        assert!(!has_word("use serde_json::Value;", "serde"));
        assert!(!has_word("use my_serde;", "serde"));
        assert!(has_word("use serde_json; use serde;", "serde"));
    }
}
