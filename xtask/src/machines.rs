//! `cargo xtask machines`: the page that shows the kept runs of the bench `rivals` side by side.
//!
//! A run that is kept with its summary (`benches/runs/*/summary.tsv`) has a column. The page is compared with what it would
//! have to be, so that no figure in it is older than the run that it names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::cargo::root;
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::graph::difference;
use crate::options::Options;

const RUNS: &str = "benches/runs";

const SUMMARY: &str = "summary.tsv";

const PAGE: &str = "docs/machines.md";

const HEADER: &str = "\
# Machines side by side

What the bench `rivals` measured on different machines. A figure in nanoseconds says little about another machine; a ratio to a rival, or to what
the machine takes for a primitive, says more. The page is made by `cargo xtask machines --write` of the summaries of kept runs.
[How to add a machine](../benches/README.md#adding-a-machine), and [what each primitive is](../benches/README.md#the-primitives).
";

pub(crate) fn run(options: &Options) -> Outcome {
    let page = page(&kept()?);
    let path = root().join(PAGE);
    if options.write {
        files::write(&path, &page)?;
        println!("wrote {}", path.display());
        return Ok(());
    }
    Failure::unless_empty(
        difference(&files::read(&path)?, &page),
        "docs/machines.md is not what the kept summaries say: renew it with `cargo xtask machines --write`",
    )
}

/// A run that is kept.
struct Run {
    folder: String,
    lines: Vec<Line>,
}

/// What a line of a summary has under each name.
type Line = BTreeMap<String, String>;

/// The runs with a summary, oldest first.
fn kept() -> Result<Vec<Run>, Failure> {
    let path = root().join(RUNS);
    let failed = |source| Failure::File {
        path: path.clone(),
        source,
    };
    let mut folders = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().join(SUMMARY).exists() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    let read = |folder: String| {
        let text = files::read(&path.join(&folder).join(SUMMARY))?;
        Run::read(folder, &text)
    };
    folders.into_iter().map(read).collect()
}

impl Run {
    /// The first line has the names of the places.
    fn read(folder: String, text: &str) -> Result<Self, Failure> {
        let mut lines = text.lines().map(|line| line.split('\t'));
        let names: Vec<&str> = lines.next().into_iter().flatten().collect();
        let read = |(number, line): (usize, Vec<&str>)| {
            if line.len() != names.len() {
                return Err(Failure::Format {
                    what: format!("{RUNS}/{folder}/{SUMMARY}"),
                    source: format!(
                        "line {number} has {} places, not {}",
                        line.len(),
                        names.len()
                    )
                    .into(),
                });
            }
            let places = names.iter().zip(line);
            Ok(places
                .map(|(name, place)| ((*name).to_owned(), place.to_owned()))
                .collect())
        };
        let lines = (2..).zip(lines.map(Iterator::collect)).map(read);
        let lines = lines.collect::<Result<_, _>>()?;
        Ok(Self { folder, lines })
    }

    fn find(&self, kind: &str, name: &str) -> Option<&Line> {
        self.lines
            .iter()
            .find(|line| line["kind"] == kind && line["name"] == name)
    }

    /// The machine, with a link to the run.
    fn heading(&self) -> String {
        let name = self
            .find("machine", "name")
            .map_or("", |line| &line["value"]);
        format!("[{name}](../{RUNS}/{})", self.folder)
    }
}

fn page(runs: &[Run]) -> String {
    let mut page = HEADER.to_owned();
    page.push_str("\n## The machines\n\n");
    table(&mut page, runs, "machine", |table, name| {
        if name != "name" {
            table.row(name, |line| line["value"].clone());
        }
    });
    page.push_str("\n## What their primitives take\n\nMedians, with the lowest and the highest of five rounds.\n\n");
    table(&mut page, runs, "primitive", |table, name| {
        table.row(name, |line| {
            let [median, lowest, highest] =
                ["value", "lowest", "highest"].map(|key| nanos(&line[key]));
            format!("{median} ({lowest} to {highest})")
        });
    });
    page.push_str("\n## The aims\n\nWhat the harness costs is measured in each run and taken off. Under each time stands how many times the rival's it is (or that without readers, or with one producer), and how many of a primitive.\n\n");
    table(&mut page, runs, "aim", |table, name| {
        table.row(&format!("**{name}**"), |line| {
            match line["verdict"].as_str() {
                "" => NOTHING.to_owned(),
                verdict => format!(
                    "{verdict} (at most {})",
                    line["at-most"].replace(" x", " ×")
                ),
            }
        });
        table.row("measured", |line| nanos(&line["value"]));
        table.row(&format!("× {}", table.of_newest("beside")), |line| {
            times(&line["times"])
        });
        table.row(&format!("× {}", table.of_newest("primitive")), |line| {
            times(&line["in-primitives"])
        });
    });
    page
}

/// What stands for something that a run has not measured.
const NOTHING: &str = "–";

/// A part of the page: what a run has of one name, for all runs.
struct Table<'a> {
    page: &'a mut String,
    lines: Vec<Option<&'a Line>>,
}

/// A table with a column for each run; `rows` writes what there is to each name of that kind. The order is the newest run's.
fn table(page: &mut String, runs: &[Run], kind: &str, rows: impl Fn(&mut Table<'_>, &str)) {
    let headings: Vec<String> = runs.iter().map(Run::heading).collect();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        page,
        "| | {} |\n|---{}|",
        headings.join(" | "),
        "|---".repeat(runs.len())
    );
    let mut names: Vec<&str> = Vec::new();
    for line in runs.iter().rev().flat_map(|run| &run.lines) {
        if line["kind"] == kind && !names.contains(&line["name"].as_str()) {
            names.push(&line["name"]);
        }
    }
    for name in names {
        let lines = runs.iter().map(|run| run.find(kind, name)).collect();
        rows(&mut Table { page, lines }, name);
    }
}

impl Table<'_> {
    fn row(&mut self, name: &str, cell: impl Fn(&Line) -> String) {
        let cells: Vec<String> = self
            .lines
            .iter()
            .map(|line| line.map_or(NOTHING.to_owned(), &cell))
            .collect();
        let _ = writeln!(self.page, "| {name} | {} |", cells.join(" | "));
    }

    fn of_newest(&self, key: &str) -> String {
        let newest = self.lines.iter().rev().flatten().next();
        newest.map_or(String::new(), |line| line[key].clone())
    }
}

/// Nanoseconds as one reads them.
fn nanos(figure: &str) -> String {
    match figure.parse::<f64>() {
        Ok(nanos) if nanos < 10_000.0 => format!("{} ns", short(nanos)),
        Ok(nanos) => format!("{} µs", short(nanos / 1e3)),
        Err(_) => NOTHING.to_owned(),
    }
}

fn times(figure: &str) -> String {
    figure.parse().map_or(NOTHING.to_owned(), short)
}

/// Three digits, or all that stand before the point.
fn short(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "kind\tname\tvalue\tlowest\thighest\tbeside\ttimes\tat-most\tprimitive\tin-primitives\tverdict\n";

    fn run_of(folder: &str, lines: &[&str]) -> Run {
        let places = |line: &&str| {
            let given = line.split('|').count();
            let empty = "\t".repeat(NAMES.split('\t').count() - given);
            line.replace('|', "\t") + &empty + "\n"
        };
        let lines: String = lines.iter().map(places).collect();
        Run::read(folder.to_owned(), &(NAMES.to_owned() + &lines)).unwrap()
    }

    #[test]
    fn a_run_has_a_column_and_a_dash_for_what_it_has_not_measured() {
        let old = run_of(
            "2026-01-01-a",
            &[
                "machine|name|Zen 5",
                "aim|drain|5.97|||tokio|0.3|0.50 x|clock||reached",
            ],
        );
        let new = run_of(
            "2026-02-02-b",
            &[
                "machine|name|Zen 4",
                "machine|cores|2",
                "primitive|clock|21.504|21|12345.6",
                "aim|drain|18|||tokio|1.25|0.50 x|clock|0.837|missed",
            ],
        );
        let page = page(&[old, new]);
        for line in [
            "| | [Zen 5](../benches/runs/2026-01-01-a) | [Zen 4](../benches/runs/2026-02-02-b) |",
            "| cores | – | 2 |",
            "| clock | – | 21.5 ns (21.0 ns to 12.3 µs) |",
            "| **drain** | reached (at most 0.50 ×) | missed (at most 0.50 ×) |",
            "| measured | 5.97 ns | 18.0 ns |",
            "| × tokio | 0.30 | 1.25 |",
            "| × clock | – | 0.84 |",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_line_with_too_few_places_is_named() {
        let read = Run::read("a".to_owned(), "kind\tname\nmachine\tname\nmachine\n");
        let error = crate::failure::with_causes(&read.err().unwrap());
        assert!(error.contains("benches/runs/a/summary.tsv"), "{error}");
        assert!(error.contains("line 3 has 1 places, not 2"), "{error}");
    }
    #[test]
    fn the_page_has_what_the_kept_runs_measured() {
        if let Err(failure) = run(&Options::default()) {
            panic!("{failure}");
        }
    }
}
