//! `cargo xtask docs`: what the pages name exists, and what exists is named in the pages.
//!
//! Checked in README.md, docs/ and the READMEs of the crates: metrics, headers, environment variables, flags, parts of xtask,
//! crates, paths of files, and names in code spans (reasons, notices, types, functions). Each must occur in the code outside
//! of comments. Links must lead to a file of the repository and to a heading that it has. The changelog and the decisions
//! describe the past: of them only the links are checked.
//!
//! A page with figures in nanoseconds or microseconds links to the run that they are of, or to a list of machines: they hold on
//! one machine.
//!
//! The other way round, every metric of the server and every flag of the program is named in some page.
//!
//! Names are found as text, without parsing Rust: a name that occurs anywhere in the code counts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::COMMANDS;
use crate::cargo::{Metadata, root};
use crate::failure::{Failure, Outcome};
use crate::files::{self, Text};
use crate::options::Options;

/// Names in pages that are not ours: of the kernel, of other programs and of query languages.
const EXTERNAL: &[&str] = &[
    "CAP_SYSLOG",
    "CLOCK_MONOTONIC",
    "HTTPS_PROXY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "SIGHUP",
    "TCP_NOTSENT_LOWAT",
    "beforeunload",
    "fdatasync",
    "fsync",
    "increase",
    "membarrier",
    "memory_policy",
    "setContent",
    "uptime",
    "valgrind",
    "writev",
    "zstdcat",
];

/// Flags of other programs that pages use and our code does not: of curl, cargo, git, criterion, podman and Chromium.
const EXTERNAL_FLAGS: &[&str] = &[
    "--always",
    "--cap-drop",
    "--data-binary",
    "--dirty",
    "--example",
    "--path",
    "--remote-debugging-pipe",
    "--rm",
    "--save-baseline",
    "--user",
    "--userns",
];

/// The golden file with the help of every command of the program.
const HELP: &str = "crates/cli/tests/golden/help.txt";

const ADVICE: &str = "Mend the page, or the code where the page is right. Names of other programs go into EXTERNAL in xtask/src/docs.rs.";

pub(crate) fn run(_: &Options) -> Outcome {
    let code = Code::read()?;
    let pages = files::texts(|path| path.ends_with(".md"))?;
    let mut findings: Vec<String> = pages.iter().flat_map(dead_links).collect();
    let current: Vec<&Text> = pages.iter().filter(|page| is_current(&page.path)).collect();
    findings.extend(current.iter().flat_map(|page| wrong_names(page, &code)));
    findings.extend(undocumented(&current, &code));
    findings.extend(current.iter().filter_map(|page| figure_of_no_machine(page)));
    Failure::unless_empty(findings, ADVICE)
}

fn is_current(page: &str) -> bool {
    page != "docs/changelog.md" && !page.starts_with("docs/decisions/")
}

/// What pages are compared with.
struct Code {
    /// Every source, without comments.
    text: String,
    /// Every identifier in it, and each in snake case, as the wire has the names of variants.
    words: BTreeSet<String>,
    help: String,
    /// Names of metrics, with their prefix.
    metrics: BTreeSet<String>,
    crates: BTreeSet<String>,
    /// Every file, from the workspace's root.
    paths: Vec<String>,
}

impl Code {
    fn read() -> Result<Self, Failure> {
        const ENDINGS: &[&str] = &[
            ".rs", ".js", ".mjs", ".html", ".css", ".toml", ".sh", ".py", ".json", ".txt",
        ];
        let sources = files::texts(|path| ENDINGS.iter().any(|ending| path.ends_with(ending)))?;
        let metrics = sources
            .iter()
            .filter(|source| source.path.starts_with("crates/server/src/"));
        let metrics: BTreeSet<String> = metrics
            .flat_map(|source| declared_metrics(&source.text))
            .collect();
        let text: String = sources.iter().map(without_comments).collect();
        let mut words = BTreeSet::new();
        for word in text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')) {
            words.insert(word.to_owned());
            words.insert(snake_case(word));
        }
        let workspace = Metadata::of_workspace()?;
        Ok(Self {
            text,
            words,
            help: files::read(&root().join(HELP))?,
            metrics,
            crates: workspace
                .packages
                .into_iter()
                .map(|package| package.name)
                .collect(),
            paths: files::paths()?,
        })
    }

    fn has_metric(&self, name: &str) -> bool {
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let mut bases = suffixes
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix));
        // `tapline_events_*` stands for several.
        let is_prefix =
            name.ends_with('_') && self.metrics.iter().any(|metric| metric.starts_with(name));
        is_prefix || bases.any(|base| self.metrics.contains(base))
    }

    fn has_path(&self, path: &str, page: &str) -> bool {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let beside = Path::new(page).parent().unwrap_or(Path::new("")).join(path);
        // A path may begin in the root, beside the page, or within a crate.
        let within = format!("/{path}");
        root().join(path).exists()
            || root().join(beside).exists()
            || self.paths.iter().any(|known| known.ends_with(&within))
    }
}

/// The names that a page has and the code does not.
fn wrong_names(page: &Text, code: &Code) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        let mut check = |what: &str, name: &str, exists: bool| {
            if !exists {
                findings.push(format!(
                    "{}:{number}: there is no {what} `{name}`",
                    page.path
                ));
            }
        };
        for name in names(line, "tapline_", |letter| {
            letter.is_ascii_alphanumeric() || letter == '_'
        }) {
            let exists = code.has_metric(name) || code.crates.contains(&name.replace('_', "-"));
            check("metric or crate", name, exists);
        }
        for name in names(line, "tapline-", |letter| {
            letter.is_ascii_alphanumeric() || letter == '-'
        }) {
            check(
                "crate",
                name,
                code.crates.contains(name) || code.text.contains(name),
            );
        }
        for name in names(line, "TAPLINE_", |letter| {
            letter.is_ascii_uppercase() || letter == '_'
        }) {
            check(
                "environment variable",
                name,
                code.text.contains(name) || code.help.contains(name),
            );
        }
        for name in names(line, "X-", |letter| {
            letter.is_ascii_alphabetic() || letter == '-'
        }) {
            let lower = name.to_ascii_lowercase();
            check(
                "header",
                name,
                code.text.to_ascii_lowercase().contains(&lower),
            );
        }
        for name in names(line, "--", |letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
        }) {
            let exists = has_flag(&code.help, name) || has_flag(&code.text, name);
            check(
                "flag",
                name,
                exists || name.len() < 4 || EXTERNAL_FLAGS.contains(&name),
            );
        }
        for (_, rest) in line
            .match_indices("cargo xtask ")
            .map(|(at, found)| line.split_at(at + found.len()))
        {
            let part: String = rest
                .chars()
                .take_while(|it| it.is_ascii_alphanumeric() || *it == '-')
                .collect();
            let part = part.trim_end_matches('-');
            check(
                "part of xtask",
                part,
                part.is_empty() || COMMANDS.iter().any(|command| command.name == part),
            );
        }
        for span in code_spans(line) {
            if let Some(path) = as_path(span) {
                check("file", path, code.has_path(path, &page.path));
            } else {
                for name in identifiers(span) {
                    check(
                        "name in the code",
                        name,
                        code.words.contains(name) || EXTERNAL.contains(&name),
                    );
                }
            }
        }
    }
    findings
}

/// What exists and no page names.
fn undocumented(pages: &[&Text], code: &Code) -> Vec<String> {
    let named = |name: &str| {
        pages
            .iter()
            .any(|page| has_flag(&page.text, name) || page.text.contains(&format!("`{name}")))
    };
    let flags = flags_of(&code.help);
    let mut findings = Vec::new();
    if code.metrics.is_empty() || flags.is_empty() {
        findings.push(
            "no metric or no flag was found in the code: the check has lost its sources".to_owned(),
        );
    }
    let metrics = code
        .metrics
        .iter()
        .filter(|name| !pages.iter().any(|page| page.text.contains(name.as_str())));
    findings.extend(metrics.map(|name| format!("no page names the metric `{name}`")));
    let flags = flags.into_iter().filter(|flag| !named(flag));
    findings.extend(flags.map(|flag| format!("no page names the flag `{flag}`")));
    findings
}

/// The flags that a help text explains, without those that every program has.
fn flags_of(help: &str) -> BTreeSet<&str> {
    let explained = help.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix('-').and(Some(line))
    });
    let flags = explained.flat_map(|line| {
        names(line, "--", |letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
        })
        .into_iter()
        .take(1)
    });
    flags
        .filter(|flag| !matches!(*flag, "--help" | "--version"))
        .collect()
}

/// The metrics that a source of the server declares: `counter("…"`, `gauge("…"`, `histogram("…"`.
fn declared_metrics(source: &str) -> Vec<String> {
    let calls = [".counter(", ".gauge(", ".histogram("];
    let declared = calls.iter().flat_map(|call| {
        source
            .match_indices(call)
            .map(|(at, found)| &source[at + found.len()..])
    });
    let literals =
        declared.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    literals.map(|name| format!("tapline_{name}")).collect()
}

/// Links that lead to no file of the repository, or to no heading of it.
fn dead_links(page: &Text) -> Vec<String> {
    let mut findings = Vec::new();
    let mut in_block = false;
    for (number, line) in (1..).zip(page.text.lines()) {
        in_block ^= line.trim_start().starts_with("```");
        let links = line
            .match_indices("](")
            .map(|(at, found)| &line[at + found.len()..]);
        for link in links.filter_map(|rest| rest.split(')').next()) {
            if in_block || link.contains("://") || link.starts_with("mailto:") || link.contains(' ')
            {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(&page.path),
                _ => root().join(&page.path).with_file_name(path),
            };
            if !target.exists() {
                findings.push(format!("{}:{number}: `{link}` leads to no file", page.path));
            } else if !anchor.is_empty()
                && !files::read(&target).is_ok_and(|text| anchors(&text).contains(anchor))
            {
                findings.push(format!(
                    "{}:{number}: `{link}` leads to no heading",
                    page.path
                ));
            }
        }
    }
    findings
}

/// The first figure of speed in a page that names neither a run nor a machine of ours.
fn figure_of_no_machine(page: &Text) -> Option<String> {
    const NAMES: [&str; 3] = ["machines.md", "README.md#machines", "benches/runs/"];
    if NAMES.iter().any(|name| page.text.contains(name)) {
        return None;
    }
    let is_figure = |line: &str| {
        let units = [" ns", " µs"]
            .into_iter()
            .flat_map(|unit| line.match_indices(unit));
        units.into_iter().any(|(at, unit)| {
            let after = line[at + unit.len()..].chars().next();
            line[..at].ends_with(|letter: char| letter.is_ascii_digit())
                && !after.is_some_and(char::is_alphanumeric)
        })
    };
    let (number, _) = (1..)
        .zip(page.text.lines())
        .find(|(_, line)| is_figure(line))?;
    Some(format!(
        "{}:{number}: this figure is of no machine: link to its run in benches/runs, to docs/machines.md, or to benches/README.md#machines",
        page.path
    ))
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// Every name in a line that begins with `prefix`. Nothing of a name stands before it, and it has more than the prefix.
fn names<'a>(line: &'a str, prefix: &str, in_name: impl Fn(char) -> bool) -> Vec<&'a str> {
    let starts = line.match_indices(prefix).map(|(at, _)| at);
    let found = starts.filter_map(|at| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || "-_/.".contains(letter)) {
            return None;
        }
        let rest = &line[at + prefix.len()..];
        let length = rest.find(|letter| !in_name(letter)).unwrap_or(rest.len());
        let name = line[at..at + prefix.len() + length].trim_end_matches('-');
        (prefix.len() < name.len()).then_some(name)
    });
    found.collect()
}

/// Whether a text has the flag, and not as a part of a longer one.
fn has_flag(text: &str, flag: &str) -> bool {
    text.match_indices(flag).any(|(at, _)| {
        let after = text[at + flag.len()..].chars().next();
        !after.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    })
}

/// What stands between single backticks in a line.
fn code_spans(line: &str) -> Vec<&str> {
    if line.trim_start().starts_with("```") {
        return Vec::new();
    }
    line.split('`').skip(1).step_by(2).collect()
}

/// A span that is the path of a file of ours: in one of our folders, or with the ending of a source.
fn as_path(span: &str) -> Option<&str> {
    const FOLDERS: &[&str] = &["crates/", "docs/", "benches/", "xtask/", ".ci/"];
    const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".sh", ".ndjson"];
    let is_path = span
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter));
    let is_ours = FOLDERS.iter().any(|folder| span.starts_with(folder))
        || ENDINGS
            .iter()
            .any(|ending| span.ends_with(ending) && span.len() != ending.len());
    (is_path && is_ours && !span.starts_with('/')).then_some(span)
}

/// The identifiers of a span that is a name: `lost`, `Ring::append`, `other_epoch`. None of any other span.
fn identifiers(span: &str) -> Vec<&str> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let is_path = span
        .chars()
        .all(|letter| is_name(letter) || ":()".contains(letter));
    let begins = span
        .chars()
        .next()
        .is_some_and(|letter| letter.is_ascii_alphabetic());
    if !is_path || !begins || span.contains(":") && !span.contains("::") {
        return Vec::new();
    }
    let words = span.split(|letter| !is_name(letter));
    // Metrics and crates have a check of their own.
    words
        .filter(|word| 2 < word.len() && !word.starts_with("tapline_"))
        .collect()
}

/// A source without its comments, roughly: a line of Rust or JavaScript up to `//`, of others up to `# `.
fn without_comments(source: &Text) -> String {
    let sign = match source.path.rsplit('.').next() {
        Some("rs" | "js" | "mjs") => "//",
        Some("toml" | "sh" | "py") => "# ",
        _ => return source.text.clone() + "\n",
    };
    let mut text = String::new();
    for line in source.text.lines() {
        let comment = line
            .match_indices(sign)
            .find(|(at, _)| !line[..*at].ends_with(':'));
        text.push_str(comment.map_or(line, |(at, _)| &line[..at]));
        text.push('\n');
    }
    text
}

/// `OtherEpoch` as `other_epoch`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        let source = Text {
            path: "crates/server/src/a.rs".to_owned(),
            text: "fn close() { text.counter(\"events_total\", ..); Bye::OtherEpoch; \"x-lost\" } // not_this --nor-this\n\
                   env(\"TAPLINE_TOKEN\")"
                .to_owned(),
        };
        let text = without_comments(&source);
        let words = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        Code {
            words: words
                .flat_map(|word| [word.to_owned(), snake_case(word)])
                .collect(),
            metrics: declared_metrics(&source.text).into_iter().collect(),
            text,
            help: "      --listen <ADDR>  Listen\n  -h, --help  Print help\n".to_owned(),
            crates: BTreeSet::from(["tapline-ring".to_owned()]),
            paths: vec!["crates/server/src/a.rs".to_owned()],
        }
    }

    fn page(text: &str) -> Text {
        Text {
            path: "docs/page.md".to_owned(),
            text: text.to_owned(),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = wrong_names(&page(text), &code());
        let expected = expected
            .iter()
            .map(|name| format!("docs/page.md:1: there is no {name}"));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_name_that_the_code_has_passes() {
        check(
            "`tapline_events_total`, `other_epoch`, `close()`, `X-Lost`, `src/a.rs`",
            &[],
        );
        check(
            "`tapline serve --listen`, TAPLINE_TOKEN, tapline-ring, tapline_ring, `cargo xtask ci`",
            &[],
        );
    }

    #[test]
    fn a_name_that_the_code_does_not_have_is_found() {
        check(
            "tapline_frobs_total",
            &["metric or crate `tapline_frobs_total`"],
        );
        check("tapline-frob", &["crate `tapline-frob`"]);
        check("TAPLINE_FROB", &["environment variable `TAPLINE_FROB`"]);
        check("the header X-Frob", &["header `X-Frob`"]);
        check("pass --frob", &["flag `--frob`"]);
        check("pass --nor-this", &["flag `--nor-this`"]);
        check("cargo xtask frob", &["part of xtask `frob`"]);
        check("`src/frob.rs`", &["file `src/frob.rs`"]);
        check("the reason `not_this`", &["name in the code `not_this`"]);
        check("`Bye::Frob`", &["name in the code `Frob`"]);
    }

    #[test]
    fn a_metric_and_a_flag_without_a_page_are_found() {
        let silent = page("nothing");
        assert_eq!(
            undocumented(&[&silent], &code()),
            [
                "no page names the metric `tapline_events_total`",
                "no page names the flag `--listen`"
            ]
        );
        let full = page("tapline_events_total and --listen");
        assert_eq!(undocumented(&[&full], &code()), Vec::<String>::new());
    }

    #[test]
    fn a_figure_of_speed_is_of_a_run() {
        let found = |text| figure_of_no_machine(&page(text));
        let finding = found("fast\na publish takes 37.5 ns.\n").unwrap();
        assert!(finding.starts_with("docs/page.md:2: "), "{finding}");
        assert_eq!(found("37.5 ns on [Zen 5](machines.md)"), None);
        assert_eq!(
            found("waits 250 ms; a namespace has no 3 nsomethings"),
            None
        );
    }

    #[test]
    fn a_link_leads_to_a_file_and_to_a_heading() {
        let found = dead_links(&page(
            "[a](architecture.md) [b](frob.md) [c](#there-it-is) [d](https://x.example/)\n",
        ));
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("`frob.md` leads to no file"));
        let anchors = anchors("# Title\n\n## There, it *is*\n");
        assert!(anchors.contains("there-it-is"), "{anchors:?}");
    }
}
