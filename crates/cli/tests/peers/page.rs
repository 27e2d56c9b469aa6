//! Modules of the live page, run by Node.

use std::process::Command;

use crate::peer;

/// The stack of a browser has an end, and a producer may nest as deep as an event is large.
#[test]
fn the_live_page_reads_events_however_deep_they_are() {
    run("page.mjs", "text.js");
}

/// Places in a list of a million rows, of which a few thousand are loaded.
#[test]
fn the_list_of_the_live_page_finds_and_keeps_its_rows() {
    run("rows.mjs", "rows.js");
}

/// Runs a script of this folder with a module of the page as its argument.
fn run(script: &str, module: &str) {
    let node = peer::on_path("node");
    let Some(node) = peer::or_skip(node, "node", "TAPLINE_REQUIRE_PEERS") else {
        return;
    };
    let folder = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(node)
        .arg(format!("{folder}/tests/peers/{script}"))
        .arg(format!("{folder}/../server/src/page/{module}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(output.stdout, b"done\n", "{text}");
}
