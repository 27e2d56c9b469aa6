use std::fmt::Write as _;
use std::path::Path;

use crate::program::{Directory, run};

/// The names below `Commands:`.
fn commands_in(help: &str) -> impl Iterator<Item = String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
}

/// Help texts are part of the interface: a change is visible in the golden file.
#[test]
fn help_is_as_in_the_golden_file() {
    let mut help = String::new();
    let mut commands = vec![Vec::new()];
    while !commands.is_empty() {
        let command: Vec<String> = commands.remove(0);
        let args: Vec<_> = command
            .iter()
            .map(String::as_str)
            .chain(["--help"])
            .collect();
        let said = run(&args);
        assert_eq!(said.code, Some(0), "{said:?}");
        let _ = write!(help, "$ tapline {}\n{}\n", args.join(" "), said.out);
        let below = commands_in(&said.out).map(|name| [&command[..], &[name]].concat());
        commands.extend(below);
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

#[test]
fn shells_and_man_get_what_they_read() {
    let said = run(&["completions", "bash"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains("complete -F _tapline"), "{said:?}");
    let said = run(&["man"]);
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains(".TH tapline 1"), "{said:?}");
    let directory = Directory::new("man");
    assert_eq!(
        run(&["man", "--dir", &directory.path("man1")]).code,
        Some(0)
    );
    let page = std::fs::read_to_string(directory.path("man1/tapline-why.1")).unwrap();
    assert!(page.contains("\\-\\-since"), "{page}");
}
