//! An exported HAR, read by a validator from npm, and by the importer of Chrome's developer tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peer;
use crate::program::{Directory, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");

/// What a browser did on a tour of the tests' pages, and on a shop.
const RECORDINGS: [&str; 2] = ["tour.ndjson", "events.ndjson"];

/// Exports both recordings, and compares how many entries `what` finds with how many there are.
#[track_caller]
fn check(name: &str, how: &str, what: &Path) {
    let directory = Directory::new(name);
    for recording in RECORDINGS {
        for secrets in [&[][..], &["--with-secrets"]] {
            let input = format!("{FOLDER}/../../../cdp/tests/golden/{recording}");
            let out = directory.path(&format!("{recording}.{}.har", secrets.len()));
            let said = run(&[&["export", &input, "--out", &out], secrets].concat());
            assert_eq!(said.code, Some(0), "{said:?}");
            let har = std::fs::read(&out).unwrap();
            let har: serde_json::Value = serde_json::from_slice(&har).unwrap();
            let entries = har["log"]["entries"].as_array().unwrap().len();

            let output = Command::new("node")
                .args(["--experimental-websocket", "--no-warnings"])
                .arg(format!("{FOLDER}/har.mjs"))
                .arg(how)
                .args([what, Path::new(&out)])
                .arg(format!("{out}.profile"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{recording}: {text}");
            let found = String::from_utf8_lossy(&output.stdout);
            assert_eq!(found.trim(), entries.to_string(), "{recording}");
        }
    }
}

#[test]
fn a_validator_of_har_finds_nothing_wrong() {
    let module: Option<PathBuf> = peer::installed("node/node_modules/har-validator");
    let found = peer::on_path("node").and(module);
    let Some(module) = peer::or_skip(found, "har-validator", "TAPLINE_REQUIRE_PEERS") else {
        return;
    };
    check("har-validator", "validator", &module);
}

#[test]
fn the_developer_tools_of_a_browser_import_every_entry() {
    let browser = peer::on_path("chromium").or_else(|| peer::on_path("google-chrome"));
    let found = peer::on_path("node").and(browser);
    let Some(browser) = peer::or_skip(found, "chromium", "TAPLINE_REQUIRE_BROWSER") else {
        return;
    };
    check("har-devtools", "browser", &browser);
}
