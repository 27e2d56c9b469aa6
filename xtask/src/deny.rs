//! `cargo xtask deny`: where third-party packages come from, and under which licence.
//!
//! The tool for this is cargo-deny. It is not used here because it takes minutes to build where it is not installed, CI
//! starts from a clean checkout, and two ways to the same answer could give two answers. What it would check of ours,
//! `cargo metadata` knows at once. What is given up is advisories, whose database has to be fetched: run `cargo deny check
//! advisories` where that is possible.
//!
//! Everything in the lock files is looked at: every platform, and what only tests, benches and fuzz targets use.

use std::collections::{BTreeMap, BTreeSet};

use spdx::{Expression, LicenseReq, ParseMode};

use crate::cargo::{Metadata, Package};
use crate::failure::{Failure, Outcome};
use crate::fuzz;
use crate::options::Options;

/// All are permissive: they ask for a notice at most. A licence with conditions on what is linked to it, or on changed files
/// (MPL-2.0), is a decision to be taken when a package needs it.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(crate) fn run(_: &Options) -> Outcome {
    let workspaces = [
        Metadata::of_everything()?,
        Metadata::of_everything_in(fuzz::MANIFEST)?,
    ];
    let third_party = third_party(&workspaces);

    for note in duplicates(&third_party) {
        println!("note: {note}");
    }
    println!(
        "{} third-party packages; advisories are not part of this (`cargo deny check advisories`)",
        third_party.len()
    );

    let mut findings: Vec<String> = third_party
        .iter()
        .flat_map(|package| [bad_source(package), bad_licence(package)])
        .flatten()
        .collect();
    findings.extend(several_registries(&third_party));
    Failure::unless_empty(
        findings,
        "Choose another package, or, where a licence is to be allowed, add it to ALLOWED in xtask/src/deny.rs.",
    )
}

/// All packages that are a member of none of the workspaces, each once.
fn third_party(workspaces: &[Metadata]) -> Vec<&Package> {
    let members: BTreeSet<&str> = workspaces
        .iter()
        .flat_map(|workspace| &workspace.workspace_members)
        .map(String::as_str)
        .collect();
    let packages: BTreeMap<&str, &Package> = workspaces
        .iter()
        .flat_map(|workspace| &workspace.packages)
        .map(|package| (package.id.as_str(), package))
        .filter(|(id, _)| !members.contains(id))
        .collect();
    packages.into_values().collect()
}

/// A package that is neither ours nor the registry's can change or vanish under us, and cannot be published against.
fn bad_source(package: &Package) -> Option<String> {
    let Package { name, version, .. } = package;
    match &package.source {
        Some(source) if is_registry(source) => None,
        Some(source) => Some(format!(
            "{name} {version} is not from the registry but from {source}"
        )),
        None => Some(format!(
            "{name} {version} is a path outside of the workspace"
        )),
    }
}

/// The same name may mean different packages in two registries.
fn several_registries(packages: &[&Package]) -> Option<String> {
    let sources = packages
        .iter()
        .filter_map(|package| package.source.as_deref());
    let registries: BTreeSet<&str> = sources.filter(|source| is_registry(source)).collect();
    (1 < registries.len()).then(|| {
        let registries: Vec<&str> = registries.into_iter().collect();
        format!(
            "packages come from more than one registry: {}",
            registries.join(", ")
        )
    })
}

fn is_registry(source: &str) -> bool {
    source.starts_with("registry+") || source.starts_with("sparse+")
}

fn bad_licence(package: &Package) -> Option<String> {
    let Package { name, version, .. } = package;
    let Some(licence) = &package.license else {
        return Some(format!("{name} {version} states no licence"));
    };
    // Lax: older manifests write a slash for `OR`.
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(is_allowed) => None,
        Ok(_) => Some(format!(
            "{name} {version} is under `{licence}`, which is not allowed"
        )),
        Err(error) => Some(format!(
            "{name} {version} is under `{licence}`, which is not a licence expression: {}",
            error.reason
        )),
    }
}

/// `X WITH Y` is a licence of its own: it is allowed where it is listed as such.
fn is_allowed(licence: &LicenseReq) -> bool {
    ALLOWED.contains(&licence.to_string().as_str())
}

/// Packages of several versions: no fault, since it is seldom ours to mend, but time and size that one should know of.
fn duplicates(packages: &[&Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions
            .entry(&package.name)
            .or_default()
            .push(&package.version);
    }
    let several = versions.iter().filter(|(_, versions)| 1 < versions.len());
    several
        .map(|(name, versions)| {
            format!(
                "{name} is there in {} versions: {}",
                versions.len(),
                versions.join(", ")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: Option<&str> = Some("registry+https://registry.example/index");

    fn package(name: &str, version: &str, source: Option<&str>, licence: Option<&str>) -> Package {
        Package {
            id: format!("{name}@{version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            source: source.map(str::to_owned),
            license: licence.map(str::to_owned),
            manifest_path: "Cargo.toml".into(),
            dependencies: Vec::new(),
            targets: Vec::new(),
            publish: None,
        }
    }

    #[test]
    fn a_package_comes_from_the_registry() {
        let from = |source| bad_source(&package("a", "1.0.0", source, None));
        assert_eq!(from(REGISTRY), None);
        assert_eq!(from(Some("sparse+https://registry.example/")), None);
        assert_eq!(
            from(Some("git+https://forge.example/a#0123")).as_deref(),
            Some("a 1.0.0 is not from the registry but from git+https://forge.example/a#0123")
        );
        assert_eq!(
            from(None).as_deref(),
            Some("a 1.0.0 is a path outside of the workspace")
        );
    }

    #[test]
    fn what_several_workspaces_use_is_looked_at_once_and_a_member_of_one_never() {
        let workspace = |members: &[&str], packages: &[&str]| Metadata {
            packages: packages
                .iter()
                .map(|name| package(name, "1.0.0", REGISTRY, None))
                .collect(),
            workspace_members: members.iter().map(|name| format!("{name}@1.0.0")).collect(),
            target_directory: "target".into(),
        };
        let workspaces = [
            workspace(&["ours"], &["ours", "b", "a"]),
            workspace(&["fuzz"], &["fuzz", "ours", "c", "a"]),
        ];
        let names = third_party(&workspaces)
            .into_iter()
            .map(|package| package.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn there_is_one_registry() {
        let from = |source| package("a", "1.0.0", source, None);
        let (one, same) = (from(REGISTRY), from(REGISTRY));
        let other = from(Some("sparse+https://other.example/"));
        assert_eq!(several_registries(&[&one, &same]), None);
        assert_eq!(
            several_registries(&[&one, &other]).as_deref(),
            Some(
                "packages come from more than one registry: \
                 registry+https://registry.example/index, sparse+https://other.example/"
            )
        );
    }

    #[test]
    fn a_package_has_an_allowed_licence() {
        let under = |licence| bad_licence(&package("a", "1.0.0", REGISTRY, licence));
        assert_eq!(under(Some("MIT OR Apache-2.0")), None);
        assert_eq!(under(Some("(MIT OR Apache-2.0) AND Unicode-3.0")), None);
        assert_eq!(
            under(Some("GPL-3.0-only")).as_deref(),
            Some("a 1.0.0 is under `GPL-3.0-only`, which is not allowed")
        );
        assert_eq!(under(Some("Apache-2.0/MIT")), None);
        assert_eq!(
            under(Some("GPL-3.0-only OR Apache-2.0 WITH LLVM-exception")),
            None
        );
        assert!(under(Some("MIT WITH LLVM-exception")).is_some());
        assert!(under(Some("MIT AND GPL-3.0-only")).is_some());
        let malformed = under(Some("see the file")).unwrap();
        assert!(
            malformed.contains("not a licence expression: unknown"),
            "{malformed}"
        );
        assert_eq!(under(None).as_deref(), Some("a 1.0.0 states no licence"));
    }

    #[test]
    fn a_package_of_several_versions_is_noted() {
        let packages = [("a", "1.0.0"), ("b", "1.0.0"), ("a", "2.1.0")]
            .map(|(name, version)| package(name, version, REGISTRY, Some("MIT")));
        let packages: Vec<&Package> = packages.iter().collect();
        assert_eq!(
            duplicates(&packages),
            ["a is there in 2 versions: 1.0.0, 2.1.0"]
        );
    }
}
