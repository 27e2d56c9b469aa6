//! The live page's script, run by Node.

use std::process::Command;

use crate::peer;

/// The stack of a browser has an end, and a producer may nest as deep as an event is large.
#[test]
fn the_live_page_reads_events_however_deep_they_are() {
    let node = peer::on_path("node");
    let Some(node) = peer::or_skip(node, "node", "TAPLINE_REQUIRE_PEERS") else {
        return;
    };
    let folder = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(node)
        .arg(format!("{folder}/tests/peers/page.mjs"))
        .arg(format!("{folder}/../server/src/page/text.js"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(output.stdout, b"done\n", "{text}");
}
