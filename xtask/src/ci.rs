//! `cargo xtask ci` and `cargo xtask nightly`: their parts in order, a heading and a time for each, and a table at the end.

use std::fmt;
use std::time::{Duration, Instant};

use crate::failure::{self, Failure, Outcome};
use crate::options::Options;
use crate::{COMMANDS, Command, fuzz, parts, weaken};

pub(crate) fn run(options: &Options) -> Outcome {
    let parts: Vec<&'static Command> = COMMANDS
        .iter()
        .filter(|command| command.part_of_ci)
        .collect();
    run_and_report(&parts, options.keep_going)
}

/// What takes too long for every change: the same checks as in CI, for longer, and those that are no part of it.
static NIGHTLY: &[Command] = &[
    Command {
        what: "some model of the ring fails without each of its memory orderings",
        ..Command::nightly("weaken", |_| weaken::run(&Options::default()))
    },
    Command {
        what: "the models hold with three preemptions",
        ..Command::nightly("loom", |_| parts::loom_with("3", &Options::default()))
    },
    Command {
        what: "the ring holds under 50,000 random schedules of each scenario",
        ..Command::nightly("shuttle", |_| {
            parts::shuttle_with(Some("50000"), &Options::default())
        })
    },
    Command {
        what: "every fuzz target holds for five minutes",
        ..Command::nightly("fuzz", |_| {
            fuzz::run(&Options {
                seconds: Some(300),
                ..Options::default()
            })
        })
    },
    Command {
        what: "the program withstands crowds, floods, kills and stops",
        ..Command::nightly("soak", |_| parts::soak(&Options::default()))
    },
];

pub(crate) fn nightly(options: &Options) -> Outcome {
    let parts: Vec<&'static Command> = NIGHTLY.iter().collect();
    run_and_report(&parts, options.keep_going)
}

fn run_and_report(parts: &[&'static Command], keep_going: bool) -> Outcome {
    let rows = run_parts(parts, keep_going);
    print!("\n{}", Table(&rows));

    let failed: Vec<&'static str> = rows
        .iter()
        .filter(|row| matches!(row.end, End::Failed(_)))
        .map(|row| row.name)
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Parts(failed))
    }
}

/// How a part ended, and after how long.
#[derive(Debug, PartialEq)]
enum End {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

struct Row {
    name: &'static str,
    end: End,
}

/// Runs the parts, up to the first that fails or all of them, and prints the result of each.
fn run_parts(parts: &[&'static Command], keep_going: bool) -> Vec<Row> {
    let mut rows = Vec::with_capacity(parts.len());
    let mut stopped = false;
    for (number, part) in (1..).zip(parts) {
        let end = if stopped {
            End::NotRun
        } else {
            println!(
                "\n==> {}, part {number} of {}: {}",
                part.name,
                parts.len(),
                part.what
            );
            let start = Instant::now();
            let outcome = (part.run)(&Options::default());
            let took = start.elapsed();
            match outcome {
                Ok(()) => {
                    println!("{}: passed in {}", part.name, Seconds(took));
                    End::Passed(took)
                }
                Err(failure) => {
                    eprintln!("xtask {}: {}", part.name, failure::with_causes(&failure));
                    stopped = !keep_going;
                    End::Failed(took)
                }
            }
        };
        rows.push(Row {
            name: part.name,
            end,
        });
    }
    rows
}

struct Table<'a>(&'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:<8} {:>9}", "part", "result", "time")?;
        let mut total = Duration::ZERO;
        let mut all_passed = true;
        for Row { name, end } in self.0 {
            match end {
                End::Passed(took) => {
                    total += *took;
                    writeln!(f, "{name:<10} {:<8} {:>9}", "passed", Seconds(*took))?;
                }
                End::Failed(took) => {
                    total += *took;
                    all_passed = false;
                    writeln!(f, "{name:<10} {:<8} {:>9}", "FAILED", Seconds(*took))?;
                }
                End::NotRun => writeln!(f, "{name:<10} not run")?,
            }
        }
        let verdict = if all_passed { "passed" } else { "FAILED" };
        writeln!(f, "{:<10} {verdict:<8} {:>9}", "all", Seconds(total))
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} s", self.0.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PARTS: &[Command] = &[
        part("first", |_| Ok(())),
        part("second", fail),
        part("third", |_| Ok(())),
    ];

    const fn part(name: &'static str, run: fn(&Options) -> Outcome) -> Command {
        Command {
            name,
            what: "",
            details: "",
            flags: &[],
            part_of_ci: true,
            run,
        }
    }

    fn fail(_: &Options) -> Outcome {
        Err(Failure::Findings {
            findings: Vec::new(),
            advice: "This failure is part of a test.",
        })
    }

    /// One letter a part: passed, failed, not run.
    fn letters(keep_going: bool) -> String {
        let parts: Vec<&'static Command> = PARTS.iter().collect();
        let letter = |row: Row| match row.end {
            End::Passed(_) => 'p',
            End::Failed(_) => 'f',
            End::NotRun => '-',
        };
        run_parts(&parts, keep_going)
            .into_iter()
            .map(letter)
            .collect()
    }

    #[test]
    fn the_first_failure_ends_it() {
        assert_eq!(letters(false), "pf-");
    }

    #[test]
    fn unless_the_caller_asks_to_keep_going() {
        assert_eq!(letters(true), "pfp");
    }

    #[test]
    fn the_table_shows_how_each_part_ended() {
        let rows = [
            Row {
                name: "fmt",
                end: End::Passed(Duration::from_millis(1250)),
            },
            Row {
                name: "clippy",
                end: End::Failed(Duration::from_secs(130)),
            },
            Row {
                name: "test",
                end: End::NotRun,
            },
        ];
        let table = "part       result        time\n\
                     fmt        passed       1.2 s\n\
                     clippy     FAILED     130.0 s\n\
                     test       not run\n\
                     all        FAILED     131.2 s\n";
        assert_eq!(Table(&rows).to_string(), table);
    }
}
