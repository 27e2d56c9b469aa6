//! Whether the ring's memory orderings are needed: each is relaxed in turn, and some model has to fail.
//!
//! A model that passes with every ordering as it is says that they suffice. Only one that fails without an ordering says that
//! the models would notice if it were missing. What none of them can notice stands in [`UNSEEN`] with the reason, and
//! `docs/ring.md` says more.
//!
//! It works on a copy below the target directory, and takes some minutes: a build for each ordering.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::{Cargo, Metadata, root};
use crate::failure::{Failure, Outcome};
use crate::options::Options;

/// Where orderings are, in the order in which they are tried.
const SOURCES: [&str; 6] = [
    "core.rs",
    "record.rs",
    "reclaim.rs",
    "wait.rs",
    "stack.rs",
    "per_thread.rs",
];

/// What is weakened to `Relaxed`.
const ORDERINGS: [&str; 4] = ["SeqCst", "AcqRel", "Acquire", "Release"];

const FENCED: &str = "loom gets a fence in its place, which orders it whatever it is";
const ONE_WORD: &str =
    "all marks are in one word, and waking the keeper orders what it is asked for";

const HANDED_ON: &str =
    "no model has been found that needs it: those fences that only models have may order it, too";

/// Orderings that no model can miss: the line as it stands, which ordering on it (from 0), and why.
const UNSEEN: &[(&str, usize, &str)] = &[
    (
        "if refs.fetch_sub(1, Release) != 1 {",
        0,
        "between the look that found it safe and this stands the fence that models have in `pin`",
    ),
    (
        "fence(SeqCst);",
        0,
        "in models the fence of `notify` stands before it already",
    ),
    ("let marks = self.marks.load(SeqCst);", 0, FENCED),
    ("self.marks.fetch_or(asked, SeqCst);", 0, ONE_WORD),
    ("self.marks.load(SeqCst)", 0, ONE_WORD),
    ("self.marks.fetch_and(!LITTER, SeqCst);", 0, FENCED),
    (
        "let marks = self.marks.fetch_or(AT_REST, SeqCst);",
        0,
        ONE_WORD,
    ),
    ("self.marks.fetch_and(!AT_REST, SeqCst);", 0, ONE_WORD),
    ("self.marks.fetch_or(LITTER, SeqCst);", 0, ONE_WORD),
    ("self.marks.fetch_and(!(ARMED | RUNG), SeqCst);", 0, FENCED),
    (
        "bed.piled.swap(false, SeqCst);",
        0,
        "loom does not see into the cell of the waker",
    ),
    ("self.marks.fetch_or(CLOSED, SeqCst);", 0, ONE_WORD),
    (
        "if !bed.piled.swap(true, SeqCst) {",
        0,
        "loom does not see into the cell of the waker",
    ),
    (
        "if waiters.marks.load(SeqCst) & (ARMED | RUNG) == 0 {",
        0,
        FENCED,
    ),
    (
        "let marks = waiters.marks.fetch_or(ARMED, SeqCst);",
        0,
        FENCED,
    ),
    (
        "match self.top.compare_exchange(below, node, SeqCst, Relaxed) {",
        0,
        "loom does not see into a node, which is plain memory",
    ),
    (
        "TakeAll(self.top.swap(ptr::null_mut(), SeqCst))",
        0,
        "loom does not see into a node, which is plain memory",
    ),
    (
        "fence(SeqCst); // [E3]",
        0,
        "in models the fence of `pin` stands behind it",
    ),
    (
        "if !entry.taken.load(Relaxed) && !entry.taken.swap(true, Acquire) {",
        0,
        HANDED_ON,
    ),
    (
        "match self.newest.compare_exchange(older, entry, AcqRel, Acquire) {",
        1,
        "on failure the address is only linked to, and read by those who acquire it",
    ),
    ("self.taken.store(false, Release);", 0, HANDED_ON),
];

/// One ordering in the source.
struct Site {
    /// From 0.
    line: usize,
    /// Where in the line, in bytes.
    at: usize,
    ordering: &'static str,
    /// Which of the line's orderings it is, from 0.
    nth: usize,
}

pub(crate) fn run(_: &Options) -> Outcome {
    let target = Metadata::of_workspace()?.target_directory.join("weaken");
    let copy = copy_of_the_ring(&target)?;
    let base = Cargo::new("test --offline --package tapline-ring --release --test loom")
        .within(&copy)
        .with("RUSTFLAGS", "--cfg loom")
        .with("CARGO_TARGET_DIR", target.join("build").to_string_lossy())
        .with("LOOM_MAX_PREEMPTIONS", "2")
        .with("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .with("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .with("CARGO_PROFILE_RELEASE_LTO", "off")
        .with("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .with("RUST_BACKTRACE", "0");
    let builds = base.clone().and(&["--no-run".to_owned()]);
    // Without the slowest, whose orderings others need, too.
    let models = base.and(&["--", "--skip", "two_sleepers"].map(str::to_owned));
    if !models.passes()? {
        let findings = vec!["the models fail as it is".to_owned()];
        return Err(Failure::Findings {
            findings,
            advice: "First: cargo xtask loom",
        });
    }

    let mut findings = Vec::new();
    let mut unseen: Vec<_> = UNSEEN.iter().map(|(line, nth, _)| (*line, *nth)).collect();
    for source in SOURCES {
        let path = copy.join("crates/ring/src").join(source);
        let text = read(&path)?;
        for site in sites(&text) {
            let line = text.lines().nth(site.line).unwrap_or_default().trim();
            let known = unseen.iter().position(|known| *known == (line, site.nth));
            if let Some(known) = known {
                unseen.swap_remove(known);
            }
            write(&path, &weakened(&text, &site))?;
            let place = format!("{source}:{}: {} in `{line}`", site.line + 1, site.ordering);
            if !builds.passes()? {
                findings.push(format!(
                    "this cannot be relaxed by replacing the word: {place}"
                ));
                continue;
            }
            match (models.passes()?, known) {
                (false, None) => println!("noticed  {place}"),
                (true, Some(_)) => println!("unseen   {place}"),
                (true, None) => {
                    println!("MISSED   {place}");
                    findings.push(format!("no model notices that this is relaxed: {place}"));
                }
                (false, Some(_)) => {
                    println!("noticed  {place}");
                    findings.push(format!("a model does notice this, after all: {place}"));
                }
            }
        }
        write(&path, &text)?;
    }
    findings.extend(
        unseen
            .iter()
            .map(|(line, _)| format!("this line is gone: `{line}`")),
    );
    Failure::unless_empty(
        findings,
        "Write a model that needs the ordering, relax it for good, or say in UNSEEN (xtask/src/weaken.rs) why none can.",
    )
}

/// The ring alone, in a workspace of its own.
fn copy_of_the_ring(target: &Path) -> Result<PathBuf, Failure> {
    let copy = target.join("source");
    let manifest = read(&root().join("Cargo.toml"))?;
    let shared = manifest.find("[workspace.package]").unwrap_or_default();
    let alone = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\"crates/ring\"]\n\n{}",
        &manifest[shared..]
    );
    for folder in [
        "crates/ring/src",
        "crates/ring/tests/it",
        "crates/ring/tests/model",
    ] {
        let to = copy.join(folder);
        fs::create_dir_all(&to).map_err(|source| Failure::File {
            path: to.clone(),
            source,
        })?;
        copy_files(&root().join(folder), &to)?;
    }
    copy_files(
        &root().join("crates/ring/tests"),
        &copy.join("crates/ring/tests"),
    )?;
    write(&copy.join("Cargo.toml"), &alone)?;
    for file in ["Cargo.lock", "crates/ring/Cargo.toml"] {
        write(&copy.join(file), &read(&root().join(file))?)?;
    }
    Ok(copy)
}

/// The files of a folder, without those of the folders in it.
fn copy_files(from: &Path, to: &Path) -> Outcome {
    let failed = |source| Failure::File {
        path: from.to_owned(),
        source,
    };
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            write(&to.join(name), &read(&path)?)?;
        }
    }
    Ok(())
}

/// Every ordering in the code: not in comments, and not where they are imported.
fn sites(text: &str) -> Vec<Site> {
    let mut sites = Vec::new();
    for (line, words) in text.lines().enumerate() {
        let code = words.split("//").next().unwrap_or_default();
        if code.trim_start().starts_with("use ") {
            continue;
        }
        let mut found: Vec<(usize, &'static str)> = ORDERINGS
            .into_iter()
            .flat_map(|ordering| {
                code.match_indices(ordering)
                    .map(move |(at, _)| (at, ordering))
            })
            .collect();
        found.sort_unstable();
        sites.extend(
            found
                .into_iter()
                .enumerate()
                .map(|(nth, (at, ordering))| Site {
                    line,
                    at,
                    ordering,
                    nth,
                }),
        );
    }
    sites
}

fn weakened(text: &str, site: &Site) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[site.line].replace_range(site.at..site.at + site.ordering.len(), "Relaxed");
    // A fence cannot be relaxed, only left out.
    if lines[site.line].trim() == "fence(Relaxed);" {
        lines[site.line].clear();
    }
    lines.join("\n")
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
use std::sync::atomic::Ordering::{Acquire, SeqCst};
// Acquire [P1]: in a comment
let a = x.load(Acquire); // Acquire
let b = x.compare_exchange(1, 2, SeqCst, Acquire);
fence(Acquire);
";

    #[test]
    fn orderings_are_found_in_code_alone() {
        let found: Vec<_> = sites(TEXT)
            .iter()
            .map(|site| (site.line, site.ordering, site.nth))
            .collect();
        let expected = [
            (2, "Acquire", 0),
            (3, "SeqCst", 0),
            (3, "Acquire", 1),
            (4, "Acquire", 0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn one_is_relaxed_and_a_fence_is_left_out() {
        let sites = sites(TEXT);
        assert!(weakened(TEXT, &sites[2]).contains("compare_exchange(1, 2, SeqCst, Relaxed)"));
        assert!(!weakened(TEXT, &sites[3]).contains("fence"));
    }
}
