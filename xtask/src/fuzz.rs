//! `cargo xtask fuzz`: whatever of Tapline takes bytes gets any bytes, and what must hold of it does.
//!
//! The targets are the binaries of crates/fuzz, a workspace of its own, because all that they are made of is built with
//! AddressSanitizer and with counters for the engine, libFuzzer, to see where an input gets. That takes compiler flags
//! which are unstable; [`unstable`](crate::unstable) permits them, so neither a nightly toolchain nor
//! cargo-fuzz has to be installed.
//!
//! Each target begins with every input of its committed corpus, whatever time it is given, and continues with inputs of the
//! engine's own until the time is over. What leads somewhere new is kept below the target directory, where the next run
//! begins with it, too; `--minimize` takes of it into the repository what the committed corpus does not reach.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::Deserialize;

use crate::asan;
use crate::cargo::{Cargo, Metadata, host, root};
use crate::failure::{Failure, Outcome};
use crate::options::Options;

/// The package of the targets, from the workspace's root.
pub(crate) const MANIFEST: &str = "crates/fuzz/Cargo.toml";

/// For each target, without `--seconds`: as CI runs it.
const SECONDS: u64 = 5;

/// Where the engine's own inputs begin without `--seconds`, so that CI tries the same ones for the same commit. Who looks
/// for new findings names a time, and gets others at each run.
const SEED: &str = "-seed=1";

/// So many inputs of the engine's are committed for each target: more are a burden to the repository, and the engine finds
/// the rest again within seconds.
const MOST_FOUND: usize = 256;

/// How many lines of a log are shown where it reports a failure.
const SHOWN_LINES: usize = 60;

/// What the engine needs to see of a program: how often every edge was taken, where it lies, and what was compared.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// For every run: no input takes longer than ten seconds, and none is longer than what can be looked at afterwards. Leaks
/// are `cargo xtask sanitize`'s affair: to look for them after every input is ten times as slow.
const LIMITS: [&str; 4] = [
    "-timeout=10",
    "-max_len=4096",
    "-rss_limit_mb=2048",
    "-detect_leaks=0",
];

pub(crate) fn run(options: &Options) -> Outcome {
    if !has_cpp_compiler() && env::var_os("CI").is_none() {
        println!(
            "skipped: no C++ compiler is here (c++), which the engine of the fuzz targets needs"
        );
        return Ok(());
    }
    let names = chosen(targets()?, options)?;
    let built = build()?;
    let targets = names.iter().map(|name| Target::new(name, &built));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    if let [target] = &targets[..]
        && !options.rest.is_empty()
    {
        return target.with_arguments(&options.rest);
    }
    if options.minimize {
        return targets.iter().try_for_each(Target::minimize);
    }
    let (seconds, seed) = match options.seconds {
        None => (SECONDS, Some(SEED)),
        Some(seconds) => (seconds, None),
    };
    let findings = side_by_side(&targets, |target| target.fuzz(seconds, seed))?;
    Failure::unless_empty(
        findings,
        "First a test that fails for it, where it belongs; then mend it; then keep the input in crates/fuzz/corpus.",
    )
}

fn has_cpp_compiler() -> bool {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut call = Command::new(compiler);
    call.arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    call.status().is_ok_and(|status| status.success())
}

/// The part of the package's manifest that lists the targets.
#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Binary>,
}

#[derive(Deserialize)]
struct Binary {
    name: String,
}

fn targets() -> Result<Vec<String>, Failure> {
    let path = root().join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|source| Failure::File { path, source })?;
    let manifest: Manifest = toml::from_str(&text).map_err(|error| Failure::Format {
        what: MANIFEST.to_owned(),
        source: error.into(),
    })?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

/// Those that the options name: one, or all.
fn chosen(targets: Vec<String>, options: &Options) -> Result<Vec<String>, Failure> {
    let known = targets.join(", ");
    let chosen: Vec<String> = match &options.target {
        None => targets,
        Some(name) => targets.into_iter().filter(|it| it == name).collect(),
    };
    let finding = match &options.target {
        None if !options.rest.is_empty() => "arguments are for one target: name it with --target",
        Some(_) if chosen.is_empty() => "there is no such target",
        _ => return Ok(chosen),
    };
    Err(Failure::Findings {
        findings: vec![format!("{finding} (there are {known})")],
        advice: "More: cargo xtask fuzz --help",
    })
}

/// Where the built targets lie.
struct Built {
    /// For logs, and for inputs that were found.
    folder: PathBuf,
    binaries: PathBuf,
}

fn build() -> Result<Built, Failure> {
    let target = Metadata::of_workspace()?.target_directory;
    asan::built_with(
        Cargo::new("build --locked --bins --manifest-path").and(&[MANIFEST.to_owned()]),
        COVERAGE,
    )?
    // The workspace's own, where macros and build scripts are built already.
    .with("CARGO_TARGET_DIR", target.to_string_lossy())
    .run()?;
    let binaries = target.join(host()?).join("debug");
    let folder = target.join("fuzz");
    Ok(Built { folder, binaries })
}

/// One binary, and where its things are.
struct Target {
    name: String,
    binary: PathBuf,
    /// What is committed.
    corpus: PathBuf,
    /// What was found since, here.
    found: PathBuf,
    /// Where inputs go that something is wrong with.
    artifacts: PathBuf,
    dictionary: Option<PathBuf>,
    log: PathBuf,
}

impl Target {
    fn new(name: &str, built: &Built) -> Result<Self, Failure> {
        // From the root, where it is run, so that what it prints can be typed as it is.
        let package = Path::new(MANIFEST).parent().unwrap_or(Path::new(""));
        let dictionary = package.join("dict").join(name).with_extension("dict");
        let target = Self {
            name: name.to_owned(),
            binary: built.binaries.join(name),
            corpus: package.join("corpus").join(name),
            found: built.folder.join("corpus").join(name),
            artifacts: package.join("artifacts").join(name),
            dictionary: Some(dictionary).filter(|path| root().join(path).is_file()),
            log: built.folder.join(name).with_extension("log"),
        };
        make_folder(&target.found)?;
        make_folder(&root().join(&target.artifacts))?;
        Ok(target)
    }

    /// Runs it on its corpus and on whatever comes of that for so many seconds; what it finds, if it does.
    fn fuzz(&self, seconds: u64, seed: Option<&str>) -> Result<Option<String>, Failure> {
        let inputs = files(&root().join(&self.corpus))?.len();
        if inputs == 0 {
            let corpus = self.corpus.display();
            return Ok(Some(format!("{}: no inputs in {corpus}", self.name)));
        }
        let mut call = self.call();
        match seconds {
            // The engine would take it for no end.
            0 => call.arg(&self.corpus).arg("-runs=0"),
            // New inputs go to the first folder.
            _ => call
                .args([&self.found, &self.corpus])
                .arg(format!("-max_total_time={seconds}")),
        };
        call.arg("-print_final_stats=1").args(seed);
        if let Some(dictionary) = &self.dictionary {
            call.arg(format!("-dict={}", dictionary.display()));
        }
        let status = self.logged(&mut call)?;
        let log = self.read_log()?;
        if status.success() {
            let runs = statistic(&log, "number_of_executed_units").unwrap_or("?");
            println!(
                "{:<8} {inputs:>4} inputs of the corpus, {runs:>9} runs in all, nothing found",
                self.name
            );
            return Ok(None);
        }
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        println!("{}", shown.join("\n"));
        Ok(Some(self.finding(status, &log)))
    }

    /// What went wrong, and how to see it again.
    fn finding(&self, status: ExitStatus, log: &str) -> String {
        let what = what_happened(log).unwrap_or_else(|| format!("it ended with {status}"));
        let again = match reproducer(log) {
            Some(input) => format!(
                "reproducer: {input}\n    \
                 again: cargo xtask fuzz --target {} -- {input}",
                self.name
            ),
            None => "no input was written".to_owned(),
        };
        format!(
            "{}: {what}\n    {again}\n    log: {}",
            self.name,
            self.log.display()
        )
    }

    /// Hands it what the caller wrote: inputs to run, or options of the engine.
    fn with_arguments(&self, arguments: &[String]) -> Outcome {
        let mut call = self.call();
        call.args(arguments);
        println!("$ {}", shown(&call));
        let status = call.status().map_err(|source| not_started(&call, source))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Findings {
            findings: vec![format!("{}: it ended with {status}", self.name)],
            advice: "What it says about that stands above.",
        })
    }

    /// Leaves of the committed corpus what was written by hand, and adds the fewest inputs that get wherever the rest and
    /// what was found here do.
    fn minimize(&self) -> Outcome {
        let corpus = root().join(&self.corpus);
        for path in files(&corpus)? {
            if path.file_name().is_some_and(is_hash) {
                self.take_back(&path)?;
            }
        }
        let mut call = self.call();
        // Which edges are taken, not how often: a tenth of the inputs.
        call.args(["-set_cover_merge=1", "-use_counters=0"])
            .args([&self.corpus, &self.found]);
        let status = self.logged(&mut call)?;
        if !status.success() {
            let log = self.read_log()?;
            return Err(Failure::Findings {
                findings: vec![self.finding(status, &log)],
                advice: "The corpus cannot be made smaller while an input of it fails.",
            });
        }
        self.thin_out(&corpus)?;
        let mut bytes = 0;
        let files = files(&corpus)?;
        for path in &files {
            bytes += length(path)?;
        }
        println!(
            "{:<8} {:>4} inputs, {bytes:>7} bytes",
            self.name,
            files.len()
        );
        Ok(())
    }

    /// Of more inputs than should be committed, leaves the longest, which get to most places each. The others stay with
    /// what was found here.
    fn thin_out(&self, corpus: &Path) -> Outcome {
        let mut found = Vec::new();
        for path in files(corpus)? {
            if path.file_name().is_some_and(is_hash) {
                found.push((Reverse(length(&path)?), path));
            }
        }
        found.sort_unstable();
        for (_, path) in found.iter().skip(MOST_FOUND) {
            self.take_back(path)?;
        }
        Ok(())
    }

    /// Moves a committed input to those that were found here.
    fn take_back(&self, path: &Path) -> Outcome {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        // Copied, since the target directory may lie on another file system.
        fs::copy(path, self.found.join(name))
            .and_then(|_| fs::remove_file(path))
            .map_err(|source| Failure::File {
                path: path.to_owned(),
                source,
            })
    }

    /// The binary, in the workspace's root and with its limits.
    fn call(&self) -> Command {
        let mut call = Command::new(&self.binary);
        call.current_dir(root())
            .args(LIMITS)
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .stdin(Stdio::null());
        if env::var_os(asan::OPTIONS).is_none() {
            // Statics that are there twice, once for each crate that has them inlined, are no fault.
            call.env(asan::OPTIONS, "detect_odr_violation=0");
        }
        call
    }

    /// Runs it with its output in the log.
    fn logged(&self, call: &mut Command) -> Result<ExitStatus, Failure> {
        let failed = |source| Failure::File {
            path: self.log.clone(),
            source,
        };
        let log = File::create(&self.log).map_err(failed)?;
        let same = log.try_clone().map_err(failed)?;
        call.stdout(same)
            .stderr(log)
            .status()
            .map_err(|source| not_started(call, source))
    }

    fn read_log(&self) -> Result<String, Failure> {
        // The engine prints inputs, which may be no UTF-8.
        match fs::read(&self.log) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(source) => Err(Failure::File {
                path: self.log.clone(),
                source,
            }),
        }
    }
}

/// As many at a time as there are processors; the findings in the order of the targets.
fn side_by_side(
    targets: &[Target],
    run: impl Fn(&Target) -> Result<Option<String>, Failure> + Sync,
) -> Result<Vec<String>, Failure> {
    let waiting: Mutex<VecDeque<(usize, &Target)>> =
        Mutex::new(targets.iter().enumerate().collect());
    let ended = Mutex::new(BTreeMap::new());
    let at_a_time = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                let next = || lock(&waiting).pop_front();
                while let Some((number, target)) = next() {
                    let outcome = run(target);
                    lock(&ended).insert(number, outcome);
                }
            });
        }
    });
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes: Result<Vec<Option<String>>, Failure> = ended.into_values().collect();
    Ok(outcomes?.into_iter().flatten().collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line that says what was wrong: of a panic with what it says, or of a sanitizer or the engine.
fn what_happened(log: &str) -> Option<String> {
    let mut lines = log.lines();
    while let Some(line) = lines.next() {
        if let Some((_, place)) = line.split_once("panicked at ") {
            let said = lines.next().unwrap_or_default();
            return Some(format!("panicked at {place} {said}"));
        }
        if let Some((_, error)) = line.split_once("ERROR: ") {
            return Some(error.to_owned());
        }
    }
    None
}

/// The file that the engine says it has written the input to.
fn reproducer(log: &str) -> Option<&str> {
    let (_, path) = log.rsplit_once("Test unit written to ")?;
    path.lines().next()
}

/// A number of those that the engine prints at the end.
fn statistic<'a>(log: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = log.split_once(&format!("stat::{name}:"))?;
    value.lines().next().map(str::trim)
}

/// Whether the engine gave the file its name, rather than a person.
fn is_hash(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::File {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    Ok(files)
}

/// In bytes.
fn length(path: &Path) -> Result<u64, Failure> {
    let metadata = path.metadata().map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.len())
}

fn make_folder(path: &Path) -> Outcome {
    fs::create_dir_all(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

fn not_started(call: &Command, source: io::Error) -> Failure {
    Failure::Start {
        line: shown(call),
        source,
    }
}

fn shown(call: &Command) -> String {
    let words = std::iter::once(call.get_program()).chain(call.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: Seed: 1
thread '<unnamed>' (7) panicked at src/pattern.rs:30:9:
assertion `left == right` failed
==7== ERROR: libFuzzer: deadly signal
artifact_prefix='crates/fuzz/artifacts/pattern/'; Test unit written to crates/fuzz/artifacts/pattern/crash-0123
Base64: bm8=
stat::number_of_executed_units: 1234
stat::average_exec_per_sec:     56
";

    #[test]
    fn a_log_shows_what_happened_and_where_the_input_is() {
        assert_eq!(
            what_happened(LOG).as_deref(),
            Some("panicked at src/pattern.rs:30:9: assertion `left == right` failed")
        );
        assert_eq!(
            what_happened("x\n==7==ERROR: AddressSanitizer: heap-use-after-free on y\n").as_deref(),
            Some("AddressSanitizer: heap-use-after-free on y")
        );
        assert_eq!(what_happened("INFO: all is well\n"), None);
        assert_eq!(
            reproducer(LOG),
            Some("crates/fuzz/artifacts/pattern/crash-0123")
        );
        assert_eq!(reproducer("INFO: all is well\n"), None);
        assert_eq!(statistic(LOG, "number_of_executed_units"), Some("1234"));
    }

    #[test]
    fn what_a_person_named_is_not_taken_for_the_engines() {
        let is = |name: &str| is_hash(OsStr::new(name));
        assert!(is("6d5283e615e96202ffe8e26b54d90a3334146c2d"));
        assert!(!is("6d5283e615e96202ffe8e26b54d90a3334146c2"));
        assert!(!is("a_name_that_is_as_long_as_a_hash_by_luck"));
        assert!(!is("known"));
    }

    #[test]
    fn a_target_is_one_that_the_manifest_has() {
        let all = || vec!["one".to_owned(), "two".to_owned()];
        let asked = |target: Option<&str>, rest: &[&str]| {
            let options = Options {
                target: target.map(str::to_owned),
                rest: rest.iter().map(|word| (*word).to_owned()).collect(),
                ..Options::default()
            };
            chosen(all(), &options).map_err(|failure| failure.to_string())
        };
        assert_eq!(asked(None, &[]), Ok(all()));
        assert_eq!(asked(Some("two"), &["-runs=1"]), Ok(vec!["two".to_owned()]));
        let unknown = asked(Some("three"), &[]).unwrap_err();
        assert!(
            unknown.contains("no such target (there are one, two)"),
            "{unknown}"
        );
        assert!(asked(None, &["-runs=1"]).is_err());
    }

    #[test]
    fn every_target_has_a_corpus_and_a_dictionary() {
        let package = root().join(MANIFEST);
        let package = package.parent().unwrap();
        for target in targets().unwrap() {
            assert!(
                !files(&package.join("corpus").join(&target))
                    .unwrap()
                    .is_empty()
            );
            assert!(
                package
                    .join("dict")
                    .join(target)
                    .with_extension("dict")
                    .is_file()
            );
        }
    }
}
