//! `cargo xtask graph`: which crate may see which.
//!
//! Two checks that complete each other. The golden file lists every edge between two crates of the workspace, so that a new
//! one is a visible line in a review. The rules below hold whatever the golden file says: they are the design, and changing
//! one is a decision, not an update.
//!
//! What only tests and benches use (dev-dependencies) may point anywhere, since it reaches no user; the golden file lists
//! it apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::cargo::{self, Kind, Metadata};
use crate::failure::{Failure, Outcome};
use crate::options::Options;

/// Every crate of the workspace with its floor, lowest first.
const ROOMS: &[Room] = &[
    Room::on(0, "tapline-oapi", Sees::Below),
    Room::on(0, "tapline-ring", Sees::Below),
    Room::on(1, "tapline-events", Sees::Below),
    Room::on(2, "tapline-telemetry", Sees::Below),
    Room::on(3, "tapline-api", Sees::Below),
    // A program that only reads events has no need to build a ring.
    Room::on(4, "tapline-client", Sees::Only(&["tapline-oapi"])),
    Room::on(4, "tapline-access", Sees::Below),
    // The rules of who may call are shared by what listens.
    Room::on(4, "tapline-server", Sees::BelowAnd(&["tapline-access"])),
    Room::on(4, "tapline-cdp", Sees::Below),
    Room::on(4, "tapline-sources", Sees::Below),
    Room::on(5, "tapline", Sees::Below),
    Room::on(WORKSHOP, "tapline-benches", Sees::Below),
    // It has to build when the product does not.
    Room::on(WORKSHOP, "xtask", Sees::Only(&[])),
];

/// The floor of what ships nothing. Above all others, so that no product crate can see it.
const WORKSHOP: u8 = 6;

/// Heavy third-party crates, and the only place where each may be used by what ships; the workshop uses what
/// it measures.
const HOMES: &[(&str, Home)] = &[
    ("axum", Home::In("tapline-server")),
    ("clap", Home::In("tapline")),
    ("atomic-waker", Home::In("tapline-ring")),
    ("tokio", Home::FromFloor(4)),
];

const GOLDEN_HEADER: &str = "\
# Which crate of the workspace uses which, lowest floor first: one edge a line.
# `cargo xtask graph` and a test compare it with the manifests; `cargo xtask graph --write` renews it.
";

const GOLDEN_DEV_HEADER: &str = "
# For tests and benches only.
";

struct Room {
    floor: u8,
    name: &'static str,
    sees: Sees,
}

impl Room {
    const fn on(floor: u8, name: &'static str, sees: Sees) -> Self {
        Self { floor, name, sees }
    }
}

enum Sees {
    /// Every crate of a lower floor.
    Below,
    /// These siblings, too.
    BelowAnd(&'static [&'static str]),
    /// Of those, these.
    Only(&'static [&'static str]),
}

enum Home {
    In(&'static str),
    FromFloor(u8),
}

pub(crate) fn run(options: &Options) -> Outcome {
    let graph = Graph::of(&Metadata::of_workspace()?);
    let path = golden_path();
    let mut findings = graph.broken_rules();
    if options.write {
        fs::write(&path, graph.golden()).map_err(|source| Failure::File {
            path: path.clone(),
            source,
        })?;
        println!("wrote {}", path.display());
    } else {
        let golden = fs::read_to_string(&path).map_err(|source| Failure::File { path, source })?;
        findings.extend(difference(&golden, &graph.golden()));
    }
    Failure::unless_empty(
        findings,
        "Where an edge is meant, renew the golden file with `cargo xtask graph --write`; rules are in xtask/src/graph.rs.",
    )
}

fn golden_path() -> PathBuf {
    cargo::root().join("xtask").join("crate-graph.txt")
}

/// What the manifests of the workspace declare.
struct Graph {
    members: BTreeSet<String>,
    uses: BTreeSet<Use>,
}

/// One package declares another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    by: String,
    of: String,
    /// For tests and benches only.
    dev: bool,
}

impl Graph {
    fn of(workspace: &Metadata) -> Self {
        let members = workspace
            .packages
            .iter()
            .map(|package| package.name.clone())
            .collect();
        let uses = workspace.packages.iter().flat_map(|package| {
            package.dependencies.iter().map(|dependency| Use {
                by: package.name.clone(),
                of: dependency.name.clone(),
                dev: dependency.kind == Some(Kind::Dev),
            })
        });
        Self {
            members,
            uses: uses.collect(),
        }
    }

    /// A line for each use that the design does not allow.
    fn broken_rules(&self) -> Vec<String> {
        let strangers = self.members.iter().filter(|member| room(member).is_none());
        let unplaced = strangers
            .map(|stranger| format!("{stranger} stands on no floor: give it one in ROOMS"));
        let shipped = self.uses.iter().filter(|used| !used.dev);
        unplaced.chain(shipped.filter_map(broken_rule)).collect()
    }

    /// The golden file as it would have to be.
    fn golden(&self) -> String {
        let mut text = String::from(GOLDEN_HEADER);
        let mut floor = None;
        for member in lowest_first(self.members.iter()) {
            let stands_on = floor_of(member);
            if floor.replace(stands_on) != Some(stands_on) {
                text.push('\n');
            }
            let used = self.edges(member, false);
            if used.is_empty() {
                text.push_str(&format!("{member} -> nothing\n"));
            }
            text.extend(used.iter().map(|used| format!("{member} -> {used}\n")));
        }

        text.push_str(GOLDEN_DEV_HEADER);
        for member in lowest_first(self.members.iter()) {
            text.extend(
                self.edges(member, true)
                    .iter()
                    .map(|used| format!("{member} -> {used} (dev)\n")),
            );
        }
        text
    }

    /// The members that one member uses, lowest first.
    fn edges(&self, by: &str, dev: bool) -> Vec<&String> {
        let uses = self
            .uses
            .iter()
            .filter(|used| used.by == by && used.dev == dev);
        lowest_first(
            uses.map(|used| &used.of)
                .filter(|of| self.members.contains(*of)),
        )
    }
}

/// Why the design does not allow this use, which is not one of tests or benches alone.
fn broken_rule(used: &Use) -> Option<String> {
    let Use { by, of, .. } = used;
    // A stranger is told once, by name.
    let user = room(by)?;

    if let Some(seen) = room(of) {
        if let Sees::Only(allowed) = user.sees
            && !allowed.contains(&seen.name)
        {
            let allowed = if allowed.is_empty() {
                "none".to_owned()
            } else {
                allowed.join(", ")
            };
            return Some(format!(
                "{by} -> {of}: of this workspace's crates, {by} may use {allowed}"
            ));
        }
        if let Sees::BelowAnd(siblings) = user.sees
            && siblings.contains(&seen.name)
        {
            return None;
        }
        if seen.floor == user.floor {
            return Some(format!(
                "{by} -> {of}: both stand on floor {}, and siblings never see each other",
                seen.floor
            ));
        }
        if seen.floor > user.floor {
            return Some(format!(
                "{by} -> {of}: from floor {} up to floor {}",
                user.floor, seen.floor
            ));
        }
        return None;
    }

    let (_, home) = HOMES.iter().find(|(name, _)| name == of)?;
    match home {
        _ if user.floor == WORKSHOP => None,
        Home::In(home) if home == by => None,
        Home::In(home) => Some(format!("{by} -> {of}: the only home of {of} is {home}")),
        Home::FromFloor(lowest) if *lowest <= user.floor => None,
        Home::FromFloor(lowest) => Some(format!(
            "{by} -> {of}: {of} lives on floor {lowest} and above, {by} stands on {}",
            user.floor
        )),
    }
}

fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// Strangers come last.
fn floor_of(name: &str) -> u8 {
    room(name).map_or(u8::MAX, |room| room.floor)
}

fn lowest_first<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut names: Vec<&String> = names.collect();
    names.sort_by_key(|name| (floor_of(name), *name));
    names
}

/// The lines in which the golden file and the manifests differ, as in a patch that would renew the golden file.
fn difference(golden: &str, actual: &str) -> Vec<String> {
    let in_golden: BTreeSet<&str> = golden.lines().collect();
    let in_actual: BTreeSet<&str> = actual.lines().collect();
    let missing = golden
        .lines()
        .filter(|line| !in_actual.contains(line))
        .map(|line| format!("- {line}"));
    let unexpected = actual
        .lines()
        .filter(|line| !in_golden.contains(line))
        .map(|line| format!("+ {line}"));
    let mut lines: Vec<String> = missing.chain(unexpected).collect();
    if lines.is_empty() && golden != actual {
        lines.push("the golden file has the right lines in another order".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One `user -> used` a line; the workspace's crates are those of `ROOMS` that stand there.
    fn graph(lines: &[&str]) -> Graph {
        let mut graph = Graph {
            members: BTreeSet::new(),
            uses: BTreeSet::new(),
        };
        for line in lines {
            let (line, dev) = line
                .strip_suffix(" (dev)")
                .map_or((*line, false), |line| (line, true));
            let (by, of) = line.split_once(" -> ").unwrap();
            graph.members.extend(
                [by, of]
                    .into_iter()
                    .filter(|name| room(name).is_some())
                    .map(str::to_owned),
            );
            graph.uses.insert(Use {
                by: by.to_owned(),
                of: of.to_owned(),
                dev,
            });
        }
        graph
    }

    #[track_caller]
    fn check(line: &str, broken: Option<&str>) {
        assert_eq!(
            graph(&[line]).broken_rules(),
            broken.into_iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_crate_sees_every_floor_below_its_own() {
        check("tapline-events -> tapline-ring", None);
        check("tapline-server -> tapline-oapi", None);
        check("tapline -> tapline-client", None);
        check("tapline-benches -> tapline-ring", None);
    }

    #[test]
    fn nobody_looks_up() {
        check(
            "tapline-ring -> tapline-events",
            Some("tapline-ring -> tapline-events: from floor 0 up to floor 1"),
        );
        check(
            "tapline -> tapline-benches",
            Some("tapline -> tapline-benches: from floor 5 up to floor 6"),
        );
    }

    #[test]
    fn siblings_do_not_see_each_other() {
        check(
            "tapline-ring -> tapline-oapi",
            Some(
                "tapline-ring -> tapline-oapi: both stand on floor 0, and siblings never see each other",
            ),
        );
    }

    #[test]
    fn the_client_sees_the_wire_types_alone() {
        check("tapline-client -> tapline-oapi", None);
        check(
            "tapline-client -> tapline-events",
            Some(
                "tapline-client -> tapline-events: of this workspace's crates, tapline-client may use tapline-oapi",
            ),
        );
    }

    #[test]
    fn xtask_sees_no_crate_of_the_product() {
        check(
            "xtask -> tapline-oapi",
            Some("xtask -> tapline-oapi: of this workspace's crates, xtask may use none"),
        );
    }

    #[test]
    fn a_heavy_dependency_stays_at_home() {
        check("tapline-server -> axum", None);
        check(
            "tapline-api -> axum",
            Some("tapline-api -> axum: the only home of axum is tapline-server"),
        );
        check(
            "tapline-server -> clap",
            Some("tapline-server -> clap: the only home of clap is tapline"),
        );
        check(
            "tapline-events -> atomic-waker",
            Some("tapline-events -> atomic-waker: the only home of atomic-waker is tapline-ring"),
        );
        check("tapline-client -> tokio", None);
        check(
            "tapline-api -> tokio",
            Some("tapline-api -> tokio: tokio lives on floor 4 and above, tapline-api stands on 3"),
        );
    }

    #[test]
    fn the_workshop_uses_what_it_measures() {
        check("tapline-benches -> atomic-waker", None);
        check("tapline-benches -> tokio", None);
    }

    #[test]
    fn tests_and_benches_use_what_they_need() {
        check("tapline-client -> tapline-server (dev)", None);
        check("tapline-ring -> tokio (dev)", None);
    }

    #[test]
    fn a_new_crate_needs_a_floor() {
        let mut graph = graph(&["tapline-events -> tapline-ring"]);
        graph.members.insert("tapline-new".to_owned());
        assert_eq!(
            graph.broken_rules(),
            ["tapline-new stands on no floor: give it one in ROOMS"]
        );
    }

    #[test]
    fn the_golden_file_goes_from_the_lowest_floor_up_with_what_tests_use_apart() {
        let graph = graph(&[
            "tapline-server -> tapline-events",
            "tapline-server -> tapline-oapi",
            "tapline-server -> axum",
            "tapline-events -> tapline-ring",
            "tapline-client -> tapline-oapi",
            "tapline-client -> tapline-server (dev)",
        ]);
        let edges = "\n\
                     tapline-oapi -> nothing\n\
                     tapline-ring -> nothing\n\
                     \n\
                     tapline-events -> tapline-ring\n\
                     \n\
                     tapline-client -> tapline-oapi\n\
                     tapline-server -> tapline-oapi\n\
                     tapline-server -> tapline-events\n";
        let dev_edges = "tapline-client -> tapline-server (dev)\n";
        assert_eq!(
            graph.golden(),
            [GOLDEN_HEADER, edges, GOLDEN_DEV_HEADER, dev_edges].concat()
        );
    }

    #[test]
    fn a_difference_reads_like_the_patch_that_would_end_it() {
        assert_eq!(
            difference("a -> b\na -> c\n", "a -> b\na -> d\n"),
            ["- a -> c", "+ a -> d"]
        );
        assert_eq!(difference("a -> b\n", "a -> b\n"), Vec::<String>::new());
        assert_eq!(
            difference("1\n2\n", "2\n1\n"),
            ["the golden file has the right lines in another order"]
        );
    }

    #[test]
    fn the_workspace_is_as_its_golden_file_says_and_breaks_no_rule() {
        if let Err(failure) = run(&Options::default()) {
            panic!("{failure}");
        }
    }
}
