//! `cargo xtask graph`: which crate may use which.
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

/// Every crate of the workspace with its layer, lowest first.
const CRATES: &[Crate] = &[
    Crate::on(0, "tapline-oapi", Sees::Below),
    Crate::on(0, "tapline-ring", Sees::Below),
    Crate::on(1, "tapline-events", Sees::Below),
    // Pure functions of events: they need no stream.
    Crate::on(1, "tapline-insight", Sees::Only(&["tapline-oapi"])),
    Crate::on(2, "tapline-telemetry", Sees::Below),
    Crate::on(3, "tapline-api", Sees::Below),
    // The rules of who may call know no session and no event.
    Crate::on(4, "tapline-access", Sees::Only(&["tapline-oapi"])),
    // A program that only reads events does not build a ring.
    Crate::on(4, "tapline-client", Sees::Only(&["tapline-oapi"])),
    // The wire types and the facade. No server and no source needs the session, the stream or the ring.
    Crate::on(
        4,
        "tapline-server",
        Sees::Only(&[
            "tapline-oapi",
            "tapline-insight",
            "tapline-api",
            "tapline-access",
        ]),
    ),
    Crate::on(
        4,
        "tapline-relay",
        Sees::Only(&["tapline-oapi", "tapline-api", "tapline-access"]),
    ),
    Crate::on(
        4,
        "tapline-cdp",
        Sees::Only(&["tapline-oapi", "tapline-api"]),
    ),
    Crate::on(
        4,
        "tapline-sources",
        Sees::Only(&["tapline-oapi", "tapline-api"]),
    ),
    // It is a plug of the facade, and no part of a server.
    Crate::on(
        4,
        "tapline-archive",
        Sees::Only(&["tapline-oapi", "tapline-events", "tapline-api"]),
    ),
    Crate::on(
        4,
        "tapline-otlp",
        Sees::Only(&[
            "tapline-oapi",
            "tapline-insight",
            "tapline-api",
            "tapline-access",
        ]),
    ),
    // A message is a block of the archive, with the state of the session as the stream carries it. An instance reports how
    // many problems it has.
    Crate::on(
        4,
        "tapline-nats",
        Sees::Only(&[
            "tapline-oapi",
            "tapline-events",
            "tapline-insight",
            "tapline-telemetry",
            "tapline-api",
            "tapline-archive",
        ]),
    ),
    // Part of other people's programs: of each way to publish it uses the one that a feature enables.
    Crate::on(
        4,
        "tapline-tracing",
        Sees::Only(&[
            "tapline-oapi",
            "tapline-insight",
            "tapline-api",
            "tapline-client",
        ]),
    ),
    Crate::on(5, "tapline", Sees::Below),
    Crate::on(TOOLS, "tapline-benches", Sees::Below),
    // It has to build when the product does not.
    Crate::on(TOOLS, "xtask", Sees::Only(&[])),
];

/// The layer of what ships nothing. Above all others, so that no product crate can use it.
const TOOLS: u8 = 6;

/// Edges between crates of one layer; all others are refused.
const SIBLINGS: &[(&str, &str)] = &[
    // Both listen for connections, under the same rules of who may call.
    ("tapline-server", "tapline-access"),
    ("tapline-relay", "tapline-access"),
    // It connects with TLS, whose home that is.
    ("tapline-otlp", "tapline-access"),
    // What it sends is what an archive stores.
    ("tapline-nats", "tapline-archive"),
    // It publishes to a server as any other client does.
    ("tapline-tracing", "tapline-client"),
];

/// Heavy third-party crates, and where each may be used by what ships; tools use what they measure. A crate that has no
/// line here may be used anywhere.
const HOMES: &[(&str, Home)] = &[
    // Frameworks that we do not use: a server of one's own is on hyper.
    ("axum", Home::In(&[])),
    ("reqwest", Home::In(&[])),
    ("regex", Home::In(&[])),
    // HTTP: those that listen (the program does for agents), the client, the sink that posts, and the first call to a browser, which asks for its WebSocket's address.
    (
        "hyper",
        Home::In(&[
            "tapline-server",
            "tapline-client",
            "tapline-relay",
            "tapline-cdp",
            "tapline-otlp",
            "tapline",
        ]),
    ),
    (
        "hyper-util",
        Home::In(&[
            "tapline-server",
            "tapline-client",
            "tapline-relay",
            "tapline-cdp",
            "tapline-otlp",
            "tapline",
        ]),
    ),
    // TLS: set up by the rules of who may call, and by the client, which follows a server over it.
    ("rustls", Home::In(&["tapline-access", "tapline-client"])),
    (
        "tokio-rustls",
        Home::In(&["tapline-access", "tapline-client"]),
    ),
    ("tokio-tungstenite", Home::In(&["tapline-cdp"])),
    ("utoipa", Home::In(&["tapline-oapi"])),
    ("flate2", Home::In(&["tapline-server", "tapline-otlp"])),
    ("loom", Home::In(&["tapline-ring", "tapline-telemetry"])),
    ("shuttle", Home::In(&["tapline-ring"])),
    // Terminals, flags, the log's lines and the allocator are the program's.
    ("clap", Home::In(&["tapline"])),
    ("indicatif", Home::In(&["tapline"])),
    ("mimalloc", Home::In(&["tapline"])),
    (
        "tracing-subscriber",
        Home::In(&["tapline-tracing", "tapline"]),
    ),
    ("prost", Home::In(&["tapline-otlp"])),
    ("opentelemetry-proto", Home::In(&["tapline-otlp"])),
    // Agents talk to the program.
    ("rmcp", Home::In(&["tapline"])),
    // Insight reads segments of an archive as files.
    ("zstd", Home::In(&["tapline-archive", "tapline-insight"])),
    ("async-nats", Home::In(&["tapline-nats"])),
    ("tokio", Home::FromLayer(4)),
];

const GOLDEN_HEADER: &str = "\
# Which crate of the workspace uses which, lowest layer first: one edge a line.
# `cargo xtask graph` and a test compare it with the manifests; `cargo xtask graph --write` renews it.
";

const GOLDEN_DEV_HEADER: &str = "
# For tests and benches only.
";

struct Crate {
    layer: u8,
    name: &'static str,
    sees: Sees,
}

impl Crate {
    const fn on(layer: u8, name: &'static str, sees: Sees) -> Self {
        Self { layer, name, sees }
    }
}

enum Sees {
    /// Every crate of a lower layer.
    Below,
    /// Only these.
    Only(&'static [&'static str]),
}

enum Home {
    In(&'static [&'static str]),
    FromLayer(u8),
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
            // A crate's tests may switch its own features on, which is no edge.
            let others = package.dependencies.iter();
            let others = others.filter(|dependency| dependency.name != package.name);
            others.map(|dependency| Use {
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
        let unknown = self
            .members
            .iter()
            .filter(|member| layered(member).is_none());
        let unknown = unknown
            .map(|member| format!("{member} has no layer: add it to CRATES in xtask/src/graph.rs"));
        let shipped = self.uses.iter().filter(|used| !used.dev);
        unknown.chain(shipped.filter_map(broken_rule)).collect()
    }

    /// The golden file as it would have to be.
    fn golden(&self) -> String {
        let mut text = String::from(GOLDEN_HEADER);
        let mut layer = None;
        for member in lowest_first(self.members.iter()) {
            let of_member = layer_of(member);
            if layer.replace(of_member) != Some(of_member) {
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
    // An unknown crate is a finding of its own.
    let user = layered(by)?;

    if let Some(used) = layered(of) {
        if let Sees::Only(allowed) = user.sees
            && !allowed.contains(&used.name)
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
        if used.layer == user.layer && !SIBLINGS.contains(&(by.as_str(), of.as_str())) {
            return Some(format!(
                "{by} -> {of}: both are on layer {}, and crates of one layer do not use each other",
                used.layer
            ));
        }
        if user.layer < used.layer {
            return Some(format!(
                "{by} -> {of}: from layer {} up to layer {}",
                user.layer, used.layer
            ));
        }
        return None;
    }

    let (_, home) = HOMES.iter().find(|(name, _)| name == of)?;
    match home {
        _ if user.layer == TOOLS => None,
        Home::In(homes) if homes.contains(&by.as_str()) => None,
        Home::In([]) => Some(format!("{by} -> {of}: no crate may use {of}")),
        Home::In(homes) => Some(format!(
            "{by} -> {of}: only {} may use {of}",
            homes.join(", ")
        )),
        Home::FromLayer(lowest) if *lowest <= user.layer => None,
        Home::FromLayer(lowest) => Some(format!(
            "{by} -> {of}: {of} may be used from layer {lowest} on, and {by} is on layer {}",
            user.layer
        )),
    }
}

fn layered(name: &str) -> Option<&'static Crate> {
    CRATES.iter().find(|it| it.name == name)
}

/// Unknown crates come last.
fn layer_of(name: &str) -> u8 {
    layered(name).map_or(u8::MAX, |it| it.layer)
}

fn lowest_first<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut names: Vec<&String> = names.collect();
    names.sort_by_key(|name| (layer_of(name), *name));
    names
}

/// The lines in which the golden file and the manifests differ, as in a patch that would renew the golden file.
pub(crate) fn difference(golden: &str, actual: &str) -> Vec<String> {
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

    /// One `user -> used` a line; the workspace's crates are those of `CRATES` that stand there.
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
                    .filter(|name| layered(name).is_some())
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
    fn a_crate_may_use_every_layer_below_its_own() {
        check("tapline-events -> tapline-ring", None);
        check("tapline-server -> tapline-oapi", None);
        check("tapline -> tapline-client", None);
        check("tapline-benches -> tapline-ring", None);
    }

    #[test]
    fn no_crate_uses_a_higher_layer() {
        check(
            "tapline-ring -> tapline-events",
            Some("tapline-ring -> tapline-events: from layer 0 up to layer 1"),
        );
        check(
            "tapline -> tapline-benches",
            Some("tapline -> tapline-benches: from layer 5 up to layer 6"),
        );
    }

    #[test]
    fn crates_of_one_layer_do_not_use_each_other() {
        check(
            "tapline-ring -> tapline-oapi",
            Some(
                "tapline-ring -> tapline-oapi: both are on layer 0, and crates of one layer do not use each other",
            ),
        );
    }

    #[test]
    fn the_client_uses_the_wire_types_alone() {
        check("tapline-client -> tapline-oapi", None);
        check(
            "tapline-client -> tapline-events",
            Some(
                "tapline-client -> tapline-events: of this workspace's crates, tapline-client may use tapline-oapi",
            ),
        );
    }

    #[test]
    fn xtask_uses_no_crate_of_the_product() {
        check(
            "xtask -> tapline-oapi",
            Some("xtask -> tapline-oapi: of this workspace's crates, xtask may use none"),
        );
    }

    #[test]
    fn crates_of_one_layer_that_share_rules_are_named() {
        check("tapline-relay -> tapline-access", None);
        check(
            "tapline-client -> tapline-access",
            Some(
                "tapline-client -> tapline-access: of this workspace's crates, tapline-client may use tapline-oapi",
            ),
        );
    }

    #[test]
    fn a_heavy_dependency_has_a_home() {
        check("tapline -> clap", None);
        check(
            "tapline-server -> clap",
            Some("tapline-server -> clap: only tapline may use clap"),
        );
        check("tapline-client -> rustls", None);
        check(
            "tapline-server -> rustls",
            Some("tapline-server -> rustls: only tapline-access, tapline-client may use rustls"),
        );
        check(
            "tapline-server -> axum",
            Some("tapline-server -> axum: no crate may use axum"),
        );
        check("tapline-client -> tokio", None);
        check(
            "tapline-api -> tokio",
            Some(
                "tapline-api -> tokio: tokio may be used from layer 4 on, and tapline-api is on layer 3",
            ),
        );
    }

    #[test]
    fn tools_use_what_they_measure() {
        check("tapline-benches -> tokio", None);
    }

    #[test]
    fn tests_and_benches_use_what_they_need() {
        check("tapline-client -> tapline-server (dev)", None);
        check("tapline-ring -> tokio (dev)", None);
    }

    #[test]
    fn a_new_crate_needs_a_layer() {
        let mut graph = graph(&["tapline-events -> tapline-ring"]);
        graph.members.insert("tapline-new".to_owned());
        assert_eq!(
            graph.broken_rules(),
            ["tapline-new has no layer: add it to CRATES in xtask/src/graph.rs"]
        );
    }

    #[test]
    fn the_golden_file_begins_with_the_lowest_layer_with_what_tests_use_apart() {
        let graph = graph(&[
            "tapline-server -> tapline-api",
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
                     tapline-api -> nothing\n\
                     \n\
                     tapline-client -> tapline-oapi\n\
                     tapline-server -> tapline-oapi\n\
                     tapline-server -> tapline-api\n";
        let dev_edges = "tapline-client -> tapline-server (dev)\n";
        assert_eq!(
            graph.golden(),
            [GOLDEN_HEADER, edges, GOLDEN_DEV_HEADER, dev_edges].concat()
        );
    }

    #[test]
    fn a_difference_is_shown_as_the_patch_that_would_resolve_it() {
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
