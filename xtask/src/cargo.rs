//! Calling cargo, and what `cargo metadata` knows about the workspace.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::failure::{Failure, Outcome};

/// One call of cargo, in the workspace's root unless it says otherwise. The environment is passed on.
#[derive(Clone)]
pub(crate) struct Cargo {
    folder: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Cargo {
    /// The arguments are separated by spaces, as one would type them.
    pub(crate) fn new(arguments: &str) -> Self {
        Self {
            folder: root().to_owned(),
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            variables: Vec::new(),
        }
    }

    /// In another folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.folder = folder.to_owned();
        self
    }

    /// With further arguments.
    pub(crate) fn and(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// Built apart from what has no such flags, within the same target directory. The platform is named, so that cargo uses
    /// the flags for what runs on it and not for build scripts and macros: those are shared with every other build.
    pub(crate) fn built_with(self, flags: &str) -> Result<Self, Failure> {
        let platform = host()?;
        Ok(self
            .and(&["--target".to_owned(), platform])
            .with("RUSTFLAGS", added_to("RUSTFLAGS", flags)))
    }

    /// With an environment variable.
    pub(crate) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    /// Runs it with its output in the log, under the line that repeats it by hand.
    pub(crate) fn run(&self) -> Outcome {
        println!("$ {self}");
        let status = self
            .command()
            .status()
            .map_err(|source| self.did_not_start(source))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::Cargo {
                line: self.to_string(),
                status,
            })
        }
    }

    /// Runs it for what it prints; what it says on the way (standard error) still goes to the log.
    pub(crate) fn answer(&self) -> Result<String, Failure> {
        let Output { status, stdout, .. } = self
            .command()
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| self.did_not_start(source))?;
        if !status.success() {
            return Err(Failure::Cargo {
                line: self.to_string(),
                status,
            });
        }
        String::from_utf8(stdout).map_err(|error| Failure::Format {
            what: format!("what `{self}` printed"),
            source: error.into(),
        })
    }

    /// Runs it for what it says on the way (standard error), which goes to the log only where it fails.
    pub(crate) fn said(&self) -> Result<String, Failure> {
        let Output { status, stderr, .. } = self
            .command()
            .output()
            .map_err(|source| self.did_not_start(source))?;
        let said = String::from_utf8_lossy(&stderr).into_owned();
        if status.success() {
            return Ok(said);
        }
        eprint!("{said}");
        Err(Failure::Cargo {
            line: self.to_string(),
            status,
        })
    }

    /// Whether it ends well, without a word in the log.
    pub(crate) fn passes(&self) -> Result<bool, Failure> {
        let ended = self
            .command()
            .output()
            .map_err(|source| self.did_not_start(source))?;
        Ok(ended.status.success())
    }

    fn command(&self) -> Command {
        // Cargo names itself to what it runs; so a call inside is of the same toolchain as the one outside.
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.folder)
            .args(&self.arguments)
            .envs(
                self.variables
                    .iter()
                    .map(|(variable, value)| (variable, value)),
            )
            .stdin(Stdio::null());
        command
    }

    fn did_not_start(&self, source: std::io::Error) -> Failure {
        Failure::Start {
            line: self.to_string(),
            source,
        }
    }
}

/// As one would type it.
impl fmt::Display for Cargo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (variable, value) in &self.variables {
            if value.contains(' ') {
                write!(f, "{variable}='{value}' ")?;
            } else {
                write!(f, "{variable}={value} ")?;
            }
        }
        write!(f, "cargo")?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// The value of a variable with more flags behind it, so that flags from outside stay in force.
pub(crate) fn added_to(variable: &str, flags: &str) -> String {
    match env::var(variable) {
        Ok(given) if !given.trim().is_empty() => format!("{given} {flags}"),
        _ => flags.to_owned(),
    }
}

/// The platform that this runs on, as the compiler calls it.
pub(crate) fn host() -> Result<String, Failure> {
    let cargo = Cargo::new("--version --verbose");
    let answer = cargo.answer()?;
    match answer.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => Err(Failure::Format {
            what: format!("what `{cargo}` printed"),
            source: "it names no host".into(),
        }),
    }
}

/// The workspace's root, which holds xtask's package.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The part of `cargo metadata` that the checks look at.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Where it was fetched from; none for a package of this repository.
    pub(crate) source: Option<String>,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
    /// The registries that it may be published to; none for any of them.
    pub(crate) publish: Option<Vec<String>>,
}

/// Something that cargo builds of a package.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

impl Package {
    /// The name of its library, as code has it.
    pub(crate) fn library(&self) -> Option<String> {
        let library = self
            .targets
            .iter()
            .find(|target| target.kind.iter().any(|kind| kind == "lib"));
        library.map(|library| library.name.replace('-', "_"))
    }
}

/// A dependency as a manifest declares it.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// The package's own name, whatever the manifest calls it.
    pub(crate) name: String,
    pub(crate) kind: Option<Kind>,
}

/// What a dependency is for, where it is not for the library or the program itself.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Build,
    Dev,
}

impl Metadata {
    /// The workspace's own packages. Needs no network and no lock file.
    pub(crate) fn of_workspace() -> Result<Self, Failure> {
        Self::read("metadata --format-version 1 --no-deps")
    }

    /// Those and all they depend on, for every platform, including what only tests and benches use.
    pub(crate) fn of_everything() -> Result<Self, Failure> {
        Self::read("metadata --format-version 1")
    }

    /// The same of another workspace, by its manifest.
    pub(crate) fn of_everything_in(manifest: &str) -> Result<Self, Failure> {
        Self::read(&format!(
            "metadata --format-version 1 --locked --manifest-path {manifest}"
        ))
    }

    fn read(arguments: &str) -> Result<Self, Failure> {
        let cargo = Cargo::new(arguments);
        serde_json::from_str(&cargo.answer()?).map_err(|error| Failure::Format {
            what: format!("what `{cargo}` printed"),
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_shown_as_one_would_type_it() {
        let call = Cargo::new("test --release")
            .and(&["append".to_owned()])
            .with("RUSTFLAGS", "--cfg loom -O")
            .with("N", "3");
        assert_eq!(
            call.to_string(),
            "RUSTFLAGS='--cfg loom -O' N=3 cargo test --release append"
        );
    }

    #[test]
    fn the_kind_of_a_dependency_is_read() {
        let dependency = |kind: &str| -> Dependency {
            serde_json::from_str(&format!(r#"{{"name":"x","kind":{kind},"optional":false}}"#))
                .unwrap()
        };
        assert_eq!(dependency("null").kind, None);
        assert_eq!(dependency(r#""dev""#).kind, Some(Kind::Dev));
        assert_eq!(dependency(r#""build""#).kind, Some(Kind::Build));
    }
}
