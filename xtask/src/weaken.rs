//! Whether each of the ring's memory orderings is needed: each is relaxed in turn, and a model has to fail.
//!
//! A model that passes with every ordering as it is shows that they suffice. Only one that fails without an
//! ordering shows that the models would notice if it were missing. The models are those of loom
//! (`crates/ring/tests/loom.rs`) and, for the constants in `order.rs`, the litmus tests
//! (`crates/ring/src/litmus.rs`), which know the memory model that loom only approximates. An ordering that
//! neither can notice is in [`UNSEEN`] with the reason.
//!
//! It works on a copy below the target directory and takes some ten minutes: a build for each ordering.
//! `cargo xtask weaken -- 1/4` does the first quarter.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo::{Cargo, Metadata, root};
use crate::failure::{Failure, Outcome};
use crate::options::Options;

/// Where the constants are that the litmus tests check.
const CONSTANTS: &str = "order.rs";

/// The sources with orderings, in the order in which they are tried.
const SOURCES: [&str; 7] = [
    CONSTANTS,
    "core.rs",
    "record.rs",
    "reclaim.rs",
    "hand_off.rs",
    "stack.rs",
    "per_thread.rs",
];

/// The orderings that are weakened to [`RELAXED`].
const ORDERINGS: [&str; 4] = ["SeqCst", "AcqRel", "Acquire", "Release"];

/// With its path, since not every file imports it.
const RELAXED: &str = "std::sync::atomic::Ordering::Relaxed";

/// Orderings that no model can notice: the line as it is, which ordering on it (from 0), and why.
const UNSEEN: &[(&str, usize, &str)] = &[(
    "self.me.pinned.store(tail + 1, Release);",
    0,
    "a batch is pinned anew: with two preemptions, its next exchange of a slot carries the same to the thread that uses the memory",
)];

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

pub(crate) fn run(options: &Options) -> Outcome {
    let shard = Shard::of(&options.rest)?;
    let target = Metadata::of_workspace()?.target_directory.join("weaken");
    let copy = copy_of_the_ring(&target)?;
    let models = Models::new(&copy, &target);
    if !(models.litmus_passes()? && models.loom_builds()? && models.loom_passes()?) {
        let findings = vec!["the models fail without any change".to_owned()];
        return Err(Failure::Findings {
            findings,
            advice: "First: cargo xtask loom, and cargo test -p tapline-ring --lib litmus",
        });
    }

    let mut findings = Vec::new();
    let mut unseen: Vec<_> = UNSEEN.iter().map(|(line, nth, _)| (*line, *nth)).collect();
    let mut number = 0;
    for source in SOURCES {
        let path = copy.join("crates/ring/src").join(source);
        let text = read(&path)?;
        for site in sites(&text) {
            let line = text.lines().nth(site.line).unwrap_or_default().trim();
            let known = unseen.iter().position(|known| *known == (line, site.nth));
            if let Some(known) = known {
                unseen.swap_remove(known);
            }
            number += 1;
            if !shard.has(number) {
                continue;
            }
            write(&path, &weakened(&text, &site))?;
            let place = format!("{source}:{}: {} in `{line}`", site.line + 1, site.ordering);
            match (models.verdict(source)?, known) {
                (Verdict::DoesNotBuild, _) => findings.push(format!(
                    "this cannot be relaxed by replacing the word: {place}"
                )),
                (Verdict::Noticed(by), None) => println!("noticed by {by:6}  {place}"),
                (Verdict::Missed, Some(_)) => println!("cannot be noticed  {place}"),
                (Verdict::Missed, None) => {
                    println!("MISSED             {place}");
                    findings.push(format!("no model notices that this is relaxed: {place}"));
                }
                (Verdict::Noticed(by), Some(_)) => {
                    println!("noticed by {by:6}  {place}");
                    findings.push(format!(
                        "{by} does notice this, so UNSEEN is wrong: {place}"
                    ));
                }
            }
        }
        write(&path, &text)?;
    }
    findings.extend(
        unseen
            .iter()
            .map(|(line, _)| format!("UNSEEN names a line that does not exist: `{line}`")),
    );
    Failure::unless_empty(
        findings,
        "Write a model that needs the ordering, relax it for good, or say in UNSEEN (xtask/src/weaken.rs) why none can.",
    )
}

/// Which of the orderings this run tries: every `of`th, from the `number`th on.
struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// `1/4`; all of them where nothing is given.
    fn of(words: &[String]) -> Result<Self, Failure> {
        let Some(word) = words.first() else {
            return Ok(Self { number: 1, of: 1 });
        };
        let parts = word.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Self { number, of })
        });
        parts.ok_or_else(|| Failure::Findings {
            findings: vec![format!("`{word}` is not a shard")],
            advice: "A shard is a number and how many there are: cargo xtask weaken -- 1/4",
        })
    }

    fn has(&self, number: usize) -> bool {
        number % self.of == self.number % self.of
    }
}

enum Verdict {
    DoesNotBuild,
    /// With the name of what failed.
    Noticed(&'static str),
    Missed,
}

/// The calls that run the models on the copy.
struct Models {
    litmus: Cargo,
    loom_build: Cargo,
    loom: Cargo,
}

impl Models {
    fn new(copy: &Path, target: &Path) -> Self {
        let litmus = Cargo::new("test --offline --package tapline-ring --lib litmus")
            .within(copy)
            .with("CARGO_TARGET_DIR", target.join("litmus").to_string_lossy())
            .with("RUST_BACKTRACE", "0");
        let loom = Cargo::new("test --offline --package tapline-ring --release --test loom")
            .within(copy)
            .with("RUSTFLAGS", "--cfg loom")
            .with("CARGO_TARGET_DIR", target.join("build").to_string_lossy())
            .with("LOOM_MAX_PREEMPTIONS", "2")
            .with("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
            .with("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
            .with("CARGO_PROFILE_RELEASE_LTO", "off")
            .with("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .with("RUST_BACKTRACE", "0");
        Self {
            litmus,
            loom_build: loom.clone().and(&["--no-run".to_owned()]),
            // Without the slowest, whose orderings others need, too.
            loom: loom.and(&["--", "--skip", "two_sleepers"].map(str::to_owned)),
        }
    }

    fn litmus_passes(&self) -> Result<bool, Failure> {
        self.litmus.passes()
    }

    fn loom_builds(&self) -> Result<bool, Failure> {
        self.loom_build.passes()
    }

    fn loom_passes(&self) -> Result<bool, Failure> {
        self.loom.passes()
    }

    /// Of the copy as it is now, with one ordering in `source` weakened. The constants are for litmus:
    /// loom cannot run a fence that is relaxed, and takes minutes where litmus takes seconds.
    fn verdict(&self, source: &str) -> Result<Verdict, Failure> {
        if source == CONSTANTS {
            let passes = self.litmus_passes()?;
            return Ok(if passes {
                Verdict::Missed
            } else {
                Verdict::Noticed("litmus")
            });
        }
        if !self.loom_builds()? {
            return Ok(Verdict::DoesNotBuild);
        }
        let passes = self.loom_passes()?;
        Ok(if passes {
            Verdict::Missed
        } else {
            Verdict::Noticed("loom")
        })
    }
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
    lines[site.line].replace_range(site.at..site.at + site.ordering.len(), RELAXED);
    // A fence cannot be relaxed, only left out.
    if lines[site.line].trim() == format!("fence({RELAXED});") {
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
        assert!(
            weakened(TEXT, &sites[2])
                .contains(&format!("compare_exchange(1, 2, SeqCst, {RELAXED})"))
        );
        assert!(!weakened(TEXT, &sites[3]).contains("fence"));
    }
}
