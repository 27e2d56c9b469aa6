//! What an archive holds, opened with the tools of others: closed, and while it is written.

use std::process::{Command, Output};

use crate::peer::{installed, on_path, or_skip};
use crate::program::{Directory, Server, run};

const REQUIRED: &str = "TAPLINE_REQUIRE_PEERS";

fn shell(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).output().unwrap()
}

/// Runs `check` on an archive with 400 steps that is being written, and once the server was killed.
fn with_archive(name: &str, check: impl Fn(&str)) {
    let directory = Directory::new(name);
    let dir = directory.path("telemetry");
    let server = Server::archiving(&dir);
    for _ in 0..4 {
        server.publish_steps(100);
    }
    // Everything is written.
    let start = std::time::Instant::now();
    while run(&["archive", "cat", "--archive", &dir])
        .out
        .lines()
        .count()
        < 400
    {
        assert!(start.elapsed() < crate::program::DEADLINE);
    }
    check(&dir);
    server.running.signal(rustix::process::Signal::KILL);
    server.running.end();
    check(&dir);
}

#[test]
fn zstdcat_and_jq_read_the_segments_as_they_are() {
    let both = on_path("zstdcat").and_then(|_| on_path("jq"));
    if or_skip(both, "zstdcat or jq", REQUIRED).is_none() {
        return;
    }
    with_archive("peers-zstdcat", |dir| {
        let read = shell(&format!(
            "zstdcat {dir}/*.ndjson.zst | jq -r .event.type | sort | uniq -c"
        ));
        assert!(read.status.success(), "{read:?}");
        assert!(read.stderr.is_empty(), "{read:?}");
        let counted = String::from_utf8(read.stdout).unwrap();
        let counted: Vec<&str> = counted.split_whitespace().collect();
        assert_eq!(counted, ["400", "step"]);
    });
}

#[test]
fn duckdb_reads_the_segments_as_they_are() {
    let Some(python) = or_skip(
        installed("python/bin/python"),
        "Python with duckdb",
        REQUIRED,
    ) else {
        return;
    };
    with_archive("peers-duckdb", |dir| {
        let script = format!(
            "import duckdb\n\
             rows = duckdb.sql(\"select count(*), min(seq), max(seq), any_value(event.type) from \
             read_json('{dir}/*.ndjson.zst', format = 'newline_delimited')\").fetchall()\n\
             print(rows)\n"
        );
        let read = Command::new(&python)
            .args(["-c", &script])
            .output()
            .unwrap();
        let found = String::from_utf8_lossy(&read.stdout);
        assert_eq!(found.trim(), "[(400, 1, 400, 'step')]", "{read:?}");
    });
}
