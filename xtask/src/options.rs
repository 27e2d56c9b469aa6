//! The command line: reading it, and explaining it.

use std::fmt::{self, Write as _};

use crate::Command;

/// What may stand behind a command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `--write`: renew the golden file instead of comparing with it.
    Write,
    /// `--keep-going`: run what is left after a failure too.
    KeepGoing,
    /// `--seconds <n>`: for how long.
    Seconds,
    /// `--minutes <n>`: for how long.
    Minutes,
    /// `--target <name>`: only that one.
    Target,
    /// `--minimize`: make the committed corpus as small as it can be, instead of running.
    Minimize,
    /// `-- <arguments>`: handed on as they are.
    Rest,
}

/// The flags that were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) write: bool,
    pub(crate) keep_going: bool,
    pub(crate) seconds: Option<u64>,
    pub(crate) minutes: Option<u64>,
    pub(crate) target: Option<String>,
    pub(crate) minimize: bool,
    /// What stood behind `--`.
    pub(crate) rest: Vec<String>,
}

/// What the caller wants.
pub(crate) enum Request<'a> {
    Overview,
    Help(&'a Command),
    Run(&'a Command, Options),
}

/// The command line was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    UnknownCommand(String),
    UnknownArgument {
        command: &'static str,
        argument: String,
    },
    /// What should follow the flag does not, or is something else.
    Value {
        command: &'static str,
        flag: &'static str,
        expected: &'static str,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(word) => write!(f, "there is no command `{word}`"),
            Self::UnknownArgument { command, argument } => {
                write!(
                    f,
                    "`{command}` takes no `{argument}` (see cargo xtask {command} --help)"
                )
            }
            Self::Value {
                command,
                flag,
                expected,
            } => {
                write!(
                    f,
                    "`{flag}` is followed by {expected} (see cargo xtask {command} --help)"
                )
            }
        }
    }
}

/// Reads the words behind `cargo xtask`.
pub(crate) fn parse<'a>(commands: &'a [Command], words: &[String]) -> Result<Request<'a>, Mistake> {
    let Some((name, arguments)) = words.split_first() else {
        return Ok(Request::Overview);
    };
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        return Ok(Request::Overview);
    }
    let Some(command) = commands.iter().find(|command| command.name == name) else {
        return Err(Mistake::UnknownCommand(name.clone()));
    };

    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let takes = |flag| command.flags.contains(&flag);
        let without = |flag, expected| Mistake::Value {
            command: command.name,
            flag,
            expected,
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(Request::Help(command)),
            "--write" if takes(Flag::Write) => options.write = true,
            "--keep-going" if takes(Flag::KeepGoing) => options.keep_going = true,
            "--seconds" if takes(Flag::Seconds) => {
                let seconds = arguments.next().and_then(|text| text.parse().ok());
                let missing = || without("--seconds", "a whole number");
                options.seconds = Some(seconds.ok_or_else(missing)?);
            }
            "--minutes" if takes(Flag::Minutes) => {
                let minutes = arguments.next().and_then(|text| text.parse().ok());
                let missing = || without("--minutes", "a whole number");
                options.minutes = Some(minutes.ok_or_else(missing)?);
            }
            "--target" if takes(Flag::Target) => {
                let missing = || without("--target", "a name");
                options.target = Some(arguments.next().cloned().ok_or_else(missing)?);
            }
            "--minimize" if takes(Flag::Minimize) => options.minimize = true,
            "--" if takes(Flag::Rest) => options.rest = arguments.by_ref().cloned().collect(),
            _ => {
                return Err(Mistake::UnknownArgument {
                    command: command.name,
                    argument: argument.clone(),
                });
            }
        }
    }
    Ok(Request::Run(command, options))
}

/// How wide the column of commands is; the flags of one that needs more are for its own help.
const OVERVIEW_USAGE: usize = 22;

/// The text of `cargo xtask --help`.
pub(crate) fn overview(commands: &[Command]) -> String {
    let mut text = String::from(
        "What CI runs, and what you run before you push.\n\n\
         Usage: cargo xtask <command> [options]\n\n",
    );
    let (parts, others): (Vec<_>, Vec<_>) = commands.iter().partition(|command| command.part_of_ci);
    for (heading, commands) in [
        ("The parts of CI, in order:", parts),
        ("Beside them:", others),
    ] {
        text.push_str(heading);
        text.push('\n');
        for command in commands {
            let mut usage = usage(command);
            if OVERVIEW_USAGE < usage.chars().count() {
                usage = format!("{} [options]", command.name);
            }
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {usage:<OVERVIEW_USAGE$} {}", command.what);
        }
        text.push('\n');
    }
    text.push_str("More about one of them: cargo xtask <command> --help\n");
    text
}

/// The text of `cargo xtask <command> --help`.
pub(crate) fn help(command: &Command) -> String {
    let mut text = format!(
        "{}: {}\n\nUsage: cargo xtask {}\n",
        command.name,
        command.what,
        usage(command)
    );
    for flag in command.flags {
        let (flag, what) = match flag {
            Flag::Write => (
                "--write",
                "renew the golden file instead of comparing with it",
            ),
            Flag::KeepGoing => ("--keep-going", "run what is left after a failure too"),
            Flag::Seconds => ("--seconds <n>", "for how long each of them runs"),
            Flag::Minutes => ("--minutes <n>", "how long the everyday use lasts"),
            Flag::Target => ("--target <name>", "only that one"),
            Flag::Minimize => (
                "--minimize",
                "make the committed corpus as small as it can be, instead of running",
            ),
            Flag::Rest => ("-- <arguments>", "handed on as they are"),
        };
        let _ = write!(text, "\n  {flag:<16} {what}");
    }
    if !command.flags.is_empty() {
        text.push('\n');
    }
    if !command.details.is_empty() {
        let _ = writeln!(text, "\n{}", command.details);
    }
    text
}

fn usage(command: &Command) -> String {
    let mut usage = command.name.to_owned();
    for flag in command.flags {
        usage.push_str(match flag {
            Flag::Write => " [--write]",
            Flag::KeepGoing => " [--keep-going]",
            Flag::Seconds => " [--seconds <n>]",
            Flag::Minutes => " [--minutes <n>]",
            Flag::Target => " [--target <name>]",
            Flag::Minimize => " [--minimize]",
            Flag::Rest => " [-- …]",
        });
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::COMMANDS;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// The name and the options of a line that is to be run.
    fn run(line: &str) -> Result<(&'static str, Options), Mistake> {
        match parse(COMMANDS, &words(line))? {
            Request::Run(command, options) => Ok((command.name, options)),
            Request::Overview | Request::Help(_) => panic!("`{line}` asked for help"),
        }
    }

    #[test]
    fn flags_are_read() {
        assert_eq!(run("graph"), Ok(("graph", Options::default())));
        assert_eq!(
            run("graph --write"),
            Ok((
                "graph",
                Options {
                    write: true,
                    ..Options::default()
                }
            ))
        );
        assert_eq!(
            run("ci --keep-going"),
            Ok((
                "ci",
                Options {
                    keep_going: true,
                    ..Options::default()
                }
            ))
        );
    }

    #[test]
    fn a_flag_takes_the_word_that_follows() {
        assert_eq!(
            run("fuzz --seconds 60 --target publish"),
            Ok((
                "fuzz",
                Options {
                    seconds: Some(60),
                    target: Some("publish".to_owned()),
                    ..Options::default()
                }
            ))
        );
        for (line, flag, expected) in [
            ("fuzz --seconds", "--seconds", "a whole number"),
            ("fuzz --seconds 1m", "--seconds", "a whole number"),
            ("fuzz --target", "--target", "a name"),
            ("soak --minutes", "--minutes", "a whole number"),
        ] {
            let command = &line[..4];
            assert_eq!(
                run(line),
                Err(Mistake::Value {
                    command,
                    flag,
                    expected
                })
            );
        }
    }

    #[test]
    fn what_follows_two_dashes_is_handed_on_unread() {
        let rest = words("--bench ring -- --write --help");
        assert_eq!(
            run("bench -- --bench ring -- --write --help"),
            Ok((
                "bench",
                Options {
                    rest,
                    ..Options::default()
                }
            ))
        );
    }

    #[test]
    fn a_flag_of_another_command_is_a_mistake() {
        let argument = "--write".to_owned();
        assert_eq!(
            run("fmt --write"),
            Err(Mistake::UnknownArgument {
                command: "fmt",
                argument
            })
        );
        assert_eq!(
            run("frobnicate"),
            Err(Mistake::UnknownCommand("frobnicate".to_owned()))
        );
    }

    #[test]
    fn the_overview_names_every_command_and_each_can_be_asked_about() {
        let overview = overview(COMMANDS);
        for command in COMMANDS {
            assert!(
                overview.contains(&format!("\n  {}", command.name)),
                "{} is missing",
                command.name
            );
            let asked = parse(COMMANDS, &words(&format!("{} --help", command.name)));
            assert!(matches!(asked, Ok(Request::Help(found)) if found.name == command.name));
            assert!(help(command).contains(command.what));
        }
    }
}
