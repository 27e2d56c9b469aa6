//! The command line: reading it, and explaining it.

use std::ffi::OsString;
use std::fmt::Write as _;

use lexopt::prelude::*;

use crate::Command;

/// What may follow a command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `--write`: renew the golden file instead of comparing with it.
    Write,
    /// `--keep-going`: run the remaining parts after a failure, too.
    KeepGoing,
    /// `--seconds <n>`: for how long.
    Seconds,
    /// `--minutes <n>`: for how long.
    Minutes,
    /// `--target <name>`: only that one.
    Target,
    /// `--minimize`: make the committed corpus as small as it can be, instead of running.
    Minimize,
    /// `-- <arguments>`: passed on as they are.
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
    /// What followed `--`.
    pub(crate) rest: Vec<String>,
}

/// What the caller wants.
pub(crate) enum Request<'a> {
    Overview,
    Help(&'a Command),
    Run(&'a Command, Options),
}

/// Reads the words behind `cargo xtask`. An error says which word was not understood.
pub(crate) fn parse<'a>(
    commands: &'a [Command],
    words: &[String],
) -> Result<Request<'a>, lexopt::Error> {
    let mut words = lexopt::Parser::from_args(words);
    let name = match words.next()? {
        None | Some(Long("help") | Short('h')) => return Ok(Request::Overview),
        Some(Value(name)) if name == "help" => return Ok(Request::Overview),
        Some(Value(name)) => name,
        Some(other) => return Err(other.unexpected()),
    };
    let Some(command) = commands.iter().find(|command| name == command.name) else {
        return Err(format!("there is no command `{}`", name.display()).into());
    };

    let takes = |flag| command.flags.contains(&flag);
    let mut options = Options::default();
    loop {
        // What follows `--` is for another program: taken before it could be read as ours.
        if takes(Flag::Rest)
            && let Some(rest) = words.try_raw_args()
            && rest.peek().is_some_and(|word| word == "--")
        {
            let rest = rest.skip(1).map(OsString::into_string);
            options.rest = rest.collect::<Result<_, _>>()?;
            return Ok(Request::Run(command, options));
        }
        let Some(argument) = words.next()? else {
            return Ok(Request::Run(command, options));
        };
        match argument {
            Long("help") | Short('h') => return Ok(Request::Help(command)),
            Long("write") if takes(Flag::Write) => options.write = true,
            Long("keep-going") if takes(Flag::KeepGoing) => options.keep_going = true,
            Long("minimize") if takes(Flag::Minimize) => options.minimize = true,
            Long("seconds") if takes(Flag::Seconds) => {
                options.seconds = Some(words.value()?.parse()?);
            }
            Long("minutes") if takes(Flag::Minutes) => {
                options.minutes = Some(words.value()?.parse()?);
            }
            Long("target") if takes(Flag::Target) => {
                options.target = Some(words.value()?.string()?);
            }
            other => return Err(other.unexpected()),
        }
    }
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
            Flag::KeepGoing => (
                "--keep-going",
                "run the remaining parts after a failure, too",
            ),
            Flag::Seconds => ("--seconds <n>", "for how long each of them runs"),
            Flag::Minutes => ("--minutes <n>", "how long the everyday use lasts"),
            Flag::Target => ("--target <name>", "only that one"),
            Flag::Minimize => (
                "--minimize",
                "make the committed corpus as small as it can be, instead of running",
            ),
            Flag::Rest => ("-- <arguments>", "passed on as they are"),
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
    fn run(line: &str) -> Result<(&'static str, Options), String> {
        match parse(COMMANDS, &words(line)).map_err(|error| error.to_string())? {
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
        for line in [
            "fuzz --seconds",
            "fuzz --seconds 1m",
            "fuzz --target",
            "soak --minutes",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_follows_two_dashes_is_passed_on_unread() {
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
        assert_eq!(
            run("fmt --write"),
            Err("invalid option '--write'".to_owned())
        );
        assert_eq!(
            run("fmt ring"),
            Err("unexpected argument \"ring\"".to_owned())
        );
        assert_eq!(
            run("frobnicate"),
            Err("there is no command `frobnicate`".to_owned())
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
