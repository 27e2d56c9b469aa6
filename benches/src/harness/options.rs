//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::cell::{Events, Mode, PING_PONG, UNREAD};
use crate::rival::Rival;
use crate::rivals::{EmptyLoop, HandOver, Tapline, TaplineBatch};

pub(super) const HELP: &str = "\
Measures Tapline beside its rivals. Prints the machine with what its primitives cost, a table for each cell, and at the
end the aims: beside a rival, and in primitives.

Usage: cargo bench -p tapline-benches --bench rivals -- [options]

  --rivals NAME,...     of tapline, ring, tokio, async-broadcast, disruptor, mutex-ring, go-design
  --producers N,...     [1,2]
  --readers N,...       [0,1,8,64,1000]
  --modes NAME,...      of filtered, unread, drain, corpus, busy, stretch, one-by-one, armed, left
  --events small|corpus what is published, but in the mode `corpus` [small]
  --seconds S           for each rival in each cell [0.8]
  --rounds N            in so many turns [5]
  --quick               less of it: 0.12 s in 3 rounds
  --test                each once, only to see that it works; the figures say nothing
  --lines FILE          writes each round as a line of tab-separated values, too
  --summary FILE        writes the machine, the primitives and the aims so; `cargo xtask machines` compares kept ones
";

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Options {
    /// All, where none is named.
    rivals: Vec<String>,
    pub(super) producers: Vec<usize>,
    pub(super) readers: Vec<usize>,
    pub(super) modes: Vec<Mode>,
    pub(super) events: Events,
    pub(super) time: Duration,
    pub(super) rounds: u32,
    pub(super) lines: Option<PathBuf>,
    pub(super) summary: Option<PathBuf>,
}

pub(super) enum Request {
    Help,
    Run(Options),
}

#[derive(Debug, PartialEq)]
pub(super) enum Mistake {
    Unknown(String),
    NoValue(String),
    BadValue(String, String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "there is no option `{word}`"),
            Self::NoValue(option) => write!(f, "`{option}` takes a value"),
            Self::BadValue(option, value) => write!(f, "`{option}` does not take `{value}`"),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rivals: Vec::new(),
            producers: vec![1, 2],
            readers: vec![0, 1, 8, 64, 1000],
            modes: Mode::ALL.to_vec(),
            events: Events::Small,
            time: Duration::from_millis(800),
            rounds: 5,
            lines: None,
            summary: None,
        }
    }
}

impl Options {
    /// What the harness costs is wanted in any case, and what the machine can do.
    pub(super) fn wants(&self, rival: &str) -> bool {
        let harness = [EmptyLoop::NAME, HandOver::NAME, PING_PONG];
        let rival = if rival == UNREAD || rival == TaplineBatch::NAME {
            Tapline::NAME
        } else {
            rival
        };
        self.rivals.is_empty()
            || harness.contains(&rival)
            || self.rivals.iter().any(|wanted| wanted == rival)
    }
}

pub(super) fn parse(mut words: impl Iterator<Item = String>) -> Result<Request, Mistake> {
    let mut options = Options::default();
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| Mistake::NoValue(option.clone()));
        match option.as_str() {
            // Cargo says that to every bench.
            "--bench" => {}
            "--help" | "-h" => return Ok(Request::Help),
            "--quick" => {
                options.time = Duration::from_millis(120);
                options.rounds = 3;
            }
            "--test" => {
                options.time = Duration::from_millis(2);
                options.rounds = 1;
                options.readers = vec![0, 1, 8];
            }
            "--rivals" => {
                options.rivals = each(&option, &value()?, |name| {
                    let mut known = Mode::ALL.iter().flat_map(|mode| mode.rivals());
                    known
                        .any(|rival| rival.name == name)
                        .then(|| name.to_owned())
                })?;
            }
            "--producers" => {
                options.producers = each(&option, &value()?, |number| {
                    number
                        .parse()
                        .ok()
                        .filter(|number| (1..=64).contains(number))
                })?;
            }
            "--readers" => {
                options.readers = each(&option, &value()?, |number| number.parse().ok())?;
            }
            "--modes" => {
                options.modes = each(&option, &value()?, |name| {
                    Mode::ALL.into_iter().find(|mode| mode.name() == name)
                })?;
            }
            "--events" => {
                let known = [Events::Small, Events::Corpus];
                options.events = one(&option, &value()?, |name| {
                    known.into_iter().find(|events| events.name() == name)
                })?;
            }
            "--seconds" => {
                options.time = one(&option, &value()?, |seconds| {
                    let seconds = seconds.parse().ok().filter(|seconds| *seconds > 0.0)?;
                    Duration::try_from_secs_f64(seconds).ok()
                })?;
            }
            "--rounds" => {
                options.rounds = one(&option, &value()?, |number| {
                    number.parse().ok().filter(|number| *number > 0)
                })?;
            }
            "--lines" => options.lines = Some(value()?.into()),
            "--summary" => options.summary = Some(value()?.into()),
            _ => return Err(Mistake::Unknown(option)),
        }
    }
    Ok(Request::Run(options))
}

fn one<T>(option: &str, text: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Mistake> {
    read(text).ok_or_else(|| Mistake::BadValue(option.to_owned(), text.to_owned()))
}

fn each<T>(option: &str, text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Mistake> {
    text.split(',')
        .map(|text| one(option, text, &read))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, Mistake> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Request::Run(options) => Ok(options),
            Request::Help => panic!("`{line}` asked for help"),
        }
    }

    #[test]
    fn everything_by_default() {
        assert_eq!(parsed("--bench"), Ok(Options::default()));
        assert!(parsed("").unwrap().wants("tokio"));
    }

    #[test]
    fn lists_choose_cells_and_rivals() {
        let options =
            parsed("--rivals tapline,tokio --readers 0,64 --producers 2 --modes busy,left")
                .unwrap();
        assert_eq!(
            (options.wants("tokio"), options.wants("ring")),
            (true, false)
        );
        assert_eq!(
            (&options.readers[..], &options.producers[..]),
            (&[0, 64][..], &[2][..])
        );
        assert_eq!(options.modes, [Mode::Busy, Mode::Left]);
    }

    #[test]
    fn what_comes_later_counts() {
        let options =
            parsed("--quick --seconds 0.5 --rounds 7 --events corpus --lines a --summary b")
                .unwrap();
        assert_eq!(options.time, Duration::from_millis(500));
        assert_eq!((options.rounds, options.events), (7, Events::Corpus));
        assert_eq!(options.lines, Some(PathBuf::from("a")));
        assert_eq!(options.summary, Some(PathBuf::from("b")));
    }

    #[test]
    fn a_mistake_names_what_was_wrong() {
        let bad = |option: &str, value: &str| Err(Mistake::BadValue(option.into(), value.into()));
        assert_eq!(parsed("--fast"), Err(Mistake::Unknown("--fast".into())));
        assert_eq!(parsed("--rounds"), Err(Mistake::NoValue("--rounds".into())));
        assert_eq!(parsed("--rounds 0"), bad("--rounds", "0"));
        assert_eq!(parsed("--seconds -1"), bad("--seconds", "-1"));
        assert_eq!(parsed("--producers 1,0"), bad("--producers", "0"));
        assert_eq!(parsed("--rivals tokio,kafka"), bad("--rivals", "kafka"));
        assert_eq!(parsed("--modes nap"), bad("--modes", "nap"));
    }
}
