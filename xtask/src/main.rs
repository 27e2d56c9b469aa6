//! `cargo xtask`: what CI runs, and what you run before you push.
//!
//! [`COMMANDS`] is the whole of it: `cargo xtask ci` runs those marked as a part of CI, in the table's order, and each of
//! them can be run alone. A command lives in the module of its name; those that only call cargo share [`parts`].
//!
//! It is built before the first check of a change can run, so it has to build in seconds. No crate of the product is a
//! dependency, so that it also builds when they do not.

// A test may panic; nothing else here may.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod ci;
mod deny;
mod docs;
mod fuzz;
mod graph;
mod machines;
mod package;
mod parts;
mod unused;
mod weaken;
mod words;

mod asan;
mod cargo;
mod failure;
mod files;
mod options;
mod unstable;

use std::env;
use std::process::ExitCode;

use crate::failure::Outcome;
use crate::options::{Flag, Options, Request};

/// One word after `cargo xtask`.
struct Command {
    name: &'static str,
    /// What holds when it has passed, in a line of the overview.
    what: &'static str,
    /// What `--help` says beyond that.
    details: &'static str,
    /// The options it takes; any other is a mistake of the caller.
    flags: &'static [Flag],
    part_of_ci: bool,
    run: fn(&Options) -> Outcome,
}

impl Command {
    /// A part of [`ci::nightly`].
    const fn nightly(name: &'static str, run: fn(&Options) -> Outcome) -> Self {
        Self {
            name,
            what: "",
            details: "",
            flags: &[],
            part_of_ci: false,
            run,
        }
    }
}

/// In CI's order: what answers in a second first, then what compiles, and the tests last, where their result lines are
/// found at the end of the log.
static COMMANDS: &[Command] = &[
    Command {
        name: "fmt",
        what: "every file is formatted as rustfmt does it",
        details: "To format them: cargo fmt --all",
        flags: &[],
        part_of_ci: true,
        run: parts::fmt,
    },
    Command {
        name: "unused",
        what: "every dependency has a version in one place, a reason and a user",
        details: "Versions and reasons stand in [workspace.dependencies] of the root manifest: the reason is the comment on\n\
                  the entry's line. A crate takes from there (`name.workspace = true`) and names what it takes in its code.",
        flags: &[],
        part_of_ci: true,
        run: unused::run,
    },
    Command {
        name: "graph",
        what: "the crates use each other as the golden graph says, and only lower layers",
        details: "The golden file is xtask/crate-graph.txt; a new edge is a visible one-line change of it. The rules that no\n\
                  golden file can lift (layers, siblings, the homes of heavy dependencies) are tables in xtask/src/graph.rs.",
        flags: &[Flag::Write],
        part_of_ci: true,
        run: graph::run,
    },
    Command {
        name: "deny",
        what: "every third-party package comes from the registry, under an allowed licence",
        details: "The list of licences is in xtask/src/deny.rs. Security advisories are not looked at: their database is\n\
                  fetched over the network. Where cargo-deny is installed, `cargo deny check advisories` does that.",
        flags: &[],
        part_of_ci: true,
        run: deny::run,
    },
    Command {
        name: "words",
        what: "docs, comments, names and messages use standard terms",
        details: "The list of coined words, each with the term to write instead, is in xtask/src/words.rs. Arguments after `--` are\n\
                  paths to look at instead of all: cargo xtask words -- crates/ring",
        flags: &[Flag::Rest],
        part_of_ci: true,
        run: words::run,
    },
    Command {
        name: "docs",
        what: "what the pages name exists, and every metric and flag is in a page",
        details: "Checks README.md, docs/ and the READMEs of the crates: metrics, headers, environment variables, flags, parts of\n\
                  xtask, crates, files, names in code spans, and links with their anchors.",
        flags: &[],
        part_of_ci: true,
        run: docs::run,
    },
    Command {
        name: "machines",
        what: "docs/machines.md has the figures of the runs that are kept",
        details: "The page shows each run in benches/runs that has a summary.tsv, one machine beside the other. How to measure and\n\
                  keep one: benches/README.md",
        flags: &[Flag::Write],
        part_of_ci: true,
        run: machines::run,
    },
    Command {
        name: "package",
        what: "every crate that is published can be packaged, with nothing missing",
        details: "Nothing is built. The address of the repository is not known here; a packager sets `repository` in\n\
                  [workspace.package] of the root manifest, from where every crate takes it.",
        flags: &[],
        part_of_ci: true,
        run: package::run,
    },
    Command {
        name: "clippy",
        what: "rustc and clippy warn about nothing in any target",
        details: "",
        flags: &[],
        part_of_ci: true,
        run: parts::clippy,
    },
    Command {
        name: "api",
        what: "the documentation builds without a warning, and each public API is as its snapshot says",
        details: "The snapshots are crates/*/public-api.txt: one public item a line. To read the documentation:\n\
                  cargo doc --workspace --no-deps --open",
        flags: &[Flag::Write],
        part_of_ci: true,
        run: api::run,
    },
    Command {
        name: "loom",
        what: "the ring and the session hold under every interleaving of their models",
        details: "Arguments after `--` go to `cargo test`, for instance the name of one model: cargo xtask loom -- append\n\
                  LOOM_MAX_PREEMPTIONS is 2 unless it is set: more finds rarer schedules and takes far longer.",
        flags: &[Flag::Rest],
        part_of_ci: true,
        run: parts::loom,
    },
    Command {
        name: "shuttle",
        what: "the ring holds under random schedules of larger scenarios",
        details: "Arguments after `--` go to `cargo test`. A failure prints its schedule; to run that one again:\n\
                  TAPLINE_SCHEDULE=91010... cargo xtask shuttle -- name_of_the_test\n\
                  TAPLINE_SCHEDULES is 2000 unless it is set: so many are drawn for each test.",
        flags: &[Flag::Rest],
        part_of_ci: true,
        run: parts::shuttle,
    },
    Command {
        name: "openapi",
        what: "crates/oapi/openapi.json agrees with the types",
        details: "",
        flags: &[Flag::Write],
        part_of_ci: true,
        run: parts::openapi,
    },
    Command {
        name: "fuzz",
        what: "whatever takes bytes holds what it promises on all of its corpus and on bytes of any kind",
        details: "The targets are the binaries of crates/fuzz; 5 seconds each without --seconds. Every input of the committed\n\
                  corpus is run in any case. What is found goes to crates/fuzz/artifacts, and the line that runs it again is\n\
                  printed with it. What leads somewhere new is kept in target/fuzz/corpus; --minimize takes the least of it\n\
                  into crates/fuzz/corpus. Arguments after `--` go to the one target: inputs to run, or options of libFuzzer\n\
                  (cargo xtask fuzz --target publish -- -help=1). It needs a C++ compiler. More: docs/testing.md",
        flags: &[Flag::Seconds, Flag::Target, Flag::Minimize, Flag::Rest],
        part_of_ci: true,
        run: fuzz::run,
    },
    Command {
        name: "sanitize",
        what: "the tests of ring, events and telemetry pass under AddressSanitizer, and leak nothing",
        details: "Arguments after `--` go to `cargo test`. ASAN_OPTIONS is detect_leaks=1 unless it is set.\n\
                  Not ThreadSanitizer: the standard library of a stable toolchain is not built for it, so the compiler refuses;\n\
                  made to do it, it reports as races what is ordered within Arc, JoinHandle and the test harness itself. Not Miri:\n\
                  it is a component of nightly toolchains. Both take the standard library's sources besides. For orderings there\n\
                  is `cargo xtask loom`.",
        flags: &[Flag::Rest],
        part_of_ci: true,
        run: parts::sanitize,
    },
    Command {
        name: "doctest",
        what: "every example in the documentation runs",
        details: "",
        flags: &[],
        part_of_ci: true,
        run: parts::doctest,
    },
    Command {
        name: "test",
        what: "every unit and integration test passes, every example builds",
        details: "Benches are not run: `cargo xtask bench` does. Documentation examples are `cargo xtask doctest`.",
        flags: &[],
        part_of_ci: true,
        run: parts::test,
    },
    Command {
        name: "ci",
        what: "all of the above, in this order, up to the first that fails",
        details: "",
        flags: &[Flag::KeepGoing],
        part_of_ci: false,
        run: ci::run,
    },
    Command {
        name: "nightly",
        what: "the checks that take too long for every change: weaken, soak, and longer runs",
        details: "weaken; loom with 3 preemptions; shuttle with 50,000 schedules; fuzz for 5 minutes each; soak. Some hours.",
        flags: &[Flag::KeepGoing],
        part_of_ci: false,
        run: ci::nightly,
    },
    Command {
        name: "weaken",
        what: "some model of the ring fails without each of its memory orderings",
        details: "Relaxes one ordering at a time in a copy of the ring and runs the models: some ten minutes. After `--`, a\n\
                  shard: cargo xtask weaken -- 1/4. Orderings that no model can notice are listed with the reason in\n\
                  xtask/src/weaken.rs.",
        flags: &[Flag::Rest],
        part_of_ci: false,
        run: weaken::run,
    },
    Command {
        name: "soak",
        what: "the program withstands crowds, floods, kills and stops, and its memory does not grow",
        details: "Five minutes of everyday use without --minutes, and some five more for the rest. Arguments after `--` go to\n\
                  the test binary, for instance the name of one of its tests: cargo xtask soak -- c_a_crowd\n\
                  It takes both processors of a small machine and 10,000 open files on each side. More: docs/testing.md",
        flags: &[Flag::Minutes, Flag::Rest],
        part_of_ci: false,
        run: parts::soak,
    },
    Command {
        name: "bench",
        what: "measures (cargo bench -p tapline-benches)",
        details: "`rivals` prints the machine, what it takes for primitives (a compare-exchange, a cache line from core to core, an\n\
                  allocation, a system call, …), Tapline beside others, and the aims as ratios to both. The rest is Tapline alone.\n\n\
                  Arguments after `--` go to `cargo bench`:\n\
                  cargo xtask bench -- --bench rivals                        # five minutes\n\
                  cargo xtask bench -- --bench rivals -- --quick             # below a minute, and rougher\n\
                  cargo xtask bench -- --bench rivals -- --help              # all options of `rivals`\n\
                  cargo xtask bench -- --bench rivals -- --summary $PWD/FILE # writes the machine, the primitives and the aims\n\n\
                  A summary that is kept in benches/runs is a column of docs/machines.md: cargo xtask machines --write\n\
                  What is measured, and how to keep a run: benches/README.md",
        flags: &[Flag::Rest],
        part_of_ci: false,
        run: parts::bench,
    },
    Command {
        name: "fleet-sim",
        what: "simulates a fleet against a NATS server and a gateway (benches/examples/fleet_sim.rs)",
        details: "Many light instances in one process, and viewers at a gateway. It prints what became of every event. Arguments\n\
                  after `--` go to the simulation:\n\
                  cargo xtask fleet-sim -- --help\n\
                  cargo xtask fleet-sim -- --nats nats://127.0.0.1:4222 --instances 1000 --rate 50\n\n\
                  docs/fleet.md has what came of it here, and what follows for larger fleets.",
        flags: &[Flag::Rest],
        part_of_ci: false,
        run: parts::fleet_sim,
    },
];

/// Leaves with 0 where all is well, 1 where a check failed, and 2 where the command line was not understood.
fn main() -> ExitCode {
    if let Some(ended) = unstable::stand_in() {
        return ended;
    }
    let words: Vec<String> = env::args().skip(1).collect();
    match options::parse(COMMANDS, &words) {
        Ok(Request::Overview) => {
            print!("{}", options::overview(COMMANDS));
            ExitCode::SUCCESS
        }
        Ok(Request::Help(command)) => {
            print!("{}", options::help(command));
            ExitCode::SUCCESS
        }
        Ok(Request::Run(command, options)) => match (command.run)(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("xtask {}: {}", command.name, failure::with_causes(&failure));
                ExitCode::FAILURE
            }
        },
        Err(mistake) => {
            eprintln!("xtask: {mistake}");
            eprintln!("The commands: cargo xtask --help");
            ExitCode::from(2)
        }
    }
}
