use std::fmt::Write as _;
use std::path::Path;

use crate::program::run;

/// Help texts are part of the interface: a change is visible in the golden file.
#[test]
fn help_is_as_in_the_golden_file() {
    let mut help = String::new();
    for command in [
        "", "serve", "demo", "publish", "tail", "export", "record", "replay", "archive",
    ] {
        let args: Vec<_> = [command, "--help"]
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect();
        let said = run(&args);
        assert_eq!(said.code, Some(0), "{said:?}");
        let _ = write!(help, "$ tapline {}\n{}\n", args.join(" "), said.out);
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help.txt");
    if std::env::var_os("TAPLINE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &help).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        help,
        golden,
        "renew {} with TAPLINE_WRITE_GOLDEN=1",
        path.display()
    );
}

#[test]
fn no_command_is_wrong_usage() {
    assert_eq!(run(&[]).code, Some(2));
    assert_eq!(run(&["--bogus"]).code, Some(2));
}

#[test]
fn the_version_is_printed() {
    assert_eq!(
        run(&["--version"]).out,
        concat!("tapline ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
